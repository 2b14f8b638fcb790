//! Bounds that hold everywhere, so that no peer or client can make a node grow without limit.

/// Longest resource name, in bytes (as in the Linux DLM).
pub const RESOURCE_NAME_MAX: usize = 64;
/// Most levels of a tree of resources, the root included.
pub const RESOURCE_LEVELS_MAX: usize = 8;
/// Longest names of a resource and of all above it in its tree, in bytes, together.
pub const RESOURCE_PATH_MAX: usize = 240;
/// Longest lockspace name, in bytes (as in the Linux DLM).
pub const LOCKSPACE_NAME_MAX: usize = 64;
/// Longest node name, in bytes.
pub const NODE_NAME_MAX: usize = 64;
/// Most nodes a cluster may have.
pub const NODES_MAX: usize = 64;
/// Largest value block a lockspace may ask for, in bytes.
pub const VALUE_LEN_MAX: usize = 4096;
/// Value block size of a lockspace that asks for none, in bytes (as in libdlm).
pub const VALUE_LEN_DEFAULT: usize = 32;
/// Most votes of one node.
pub const VOTES_MAX: u32 = 8;
/// Largest weight of a node as a master.
pub const MASTER_WEIGHT_MAX: u8 = 10;
/// Most links between a pair of nodes.
pub const LINKS_MAX: usize = 4;
/// Largest frame between nodes, in bytes, after decryption.
pub const FRAME_LEN_MAX: usize = 1 << 20;
/// Largest message between a client and its daemon, in bytes.
pub const CLIENT_MESSAGE_LEN_MAX: usize = 1 << 20;
/// Most lockspaces a cluster may have.
pub const LOCKSPACES_MAX: usize = 4096;
/// Most locks in one call for several: a set, or conversions or unlocks in bulk.
pub const SET_LOCKS_MAX: usize = 200;
/// Most locks of a cluster that survive their nodes. They take less than half of the room that they share
/// with lockspaces in a snapshot.
pub const SURVIVORS_MAX: usize = 1024;
/// Most of them that one user has; root's are not counted.
pub const SURVIVORS_PER_USER_MAX: usize = 256;
