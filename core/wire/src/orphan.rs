//! Orphans: persistent locks whose session has ended, and which their node keeps.

use crate::{dlm::ResourceId, report::OwnerReport};
use mainstay_base::{LockId, LockMode, LockspaceId, LockspaceName, NodeName, ResourceName, Token};
use serde::{Deserialize, Serialize};

/// Which orphans a client means: those that fit all of what is given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrphanWish {
    /// In this lockspace.
    pub lockspace: Option<LockspaceName>,
    /// On resources whose names match this pattern; `*` and `?` as in the shell.
    pub pattern: Option<String>,
    /// Of this node.
    pub node: Option<NodeName>,
    /// Left behind by this process. Needs `node`: each node numbers its processes by itself.
    pub pid: Option<u32>,
}

/// The same between nodes: what a node is to look for among its own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrphanFilter {
    /// In this lockspace.
    pub lockspace: Option<LockspaceId>,
    /// On resources whose names match this pattern.
    pub pattern: Option<String>,
    /// Left behind by this process.
    pub pid: Option<u32>,
    /// Left behind by a process of this user; the others are counted, and left alone.
    pub uid: Option<u32>,
    /// Lockspaces in which those of all users are meant: who asks owns them.
    pub owned: Vec<LockspaceId>,
}

/// An orphan as its node tells another of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnedOrphan {
    /// The lock.
    pub lock: LockId,
    /// On what.
    pub resource: ResourceId,
    /// The mode held.
    pub mode: LockMode,
    /// Its token.
    pub token: Token,
    /// Who left it behind, and when.
    pub owner: OwnerReport,
    /// Milliseconds until it is purged, if it is to be.
    pub expires_ms: Option<u64>,
}

/// An orphan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrphanReport {
    /// Whose it is.
    pub node: NodeName,
    /// The lock's number on that node.
    pub id: LockId,
    /// Its lockspace.
    pub lockspace: LockspaceName,
    /// On what.
    pub name: ResourceName,
    /// The mode held.
    pub mode: LockMode,
    /// Its token.
    pub token: Token,
    /// Who left it behind, and when.
    pub owner: OwnerReport,
    /// Milliseconds until its node purges it; absent if it does not.
    pub expires_ms: Option<u64>,
}

/// Orphans, gathered from the members.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrphansReport {
    /// By node and number.
    pub orphans: Vec<OrphanReport>,
    /// There may be more: ask for those after this one. A page may be empty all the same.
    pub next: Option<(NodeName, LockId)>,
    /// Members that did not answer in time, by name; theirs are missing.
    pub silent: Vec<NodeName>,
}

/// What became of a purge.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PurgeReport {
    /// Orphans that were released.
    pub purged: u64,
    /// Orphans that were left alone, since they belong to other users.
    pub denied: u64,
    /// Members that did not answer in time, by name; theirs may be released or not.
    pub silent: Vec<NodeName>,
}
