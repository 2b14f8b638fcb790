//! What the agent is told at its birth, and what it wants done.

use crate::{Command, Founding};
use mainstay_base::{
    BootId, DiskId, Entropy, FencePolicy, Instant, LinkId, NodeId, NodeSpec, Timings,
};
use mainstay_wire::event::Reason;

/// What a node's membership agent must know from the start.
#[derive(Clone, Debug)]
pub struct MembershipConfig {
    /// The cluster's name.
    pub cluster: String,
    /// This node.
    pub me: NodeId,
    /// All nodes, this one included.
    pub nodes: Vec<NodeSpec>,
    /// Periods; those of the founding overrule them.
    pub timings: Timings,
    /// Fencing policy for a founding.
    pub fencing: FencePolicy,
    /// This life of the node.
    pub boot: BootId,
    /// The disk of the node.
    pub disk: DiskId,
    /// The founding found on disk; `None` for a fresh node.
    pub founding: Option<Founding>,
    /// For the number of a cluster to be founded.
    pub entropy: Entropy,
}

/// What the agent wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Send a message; best effort. Not before anything that was to be made durable earlier.
    Send {
        /// To whom.
        to: NodeId,
        /// On which link.
        link: LinkId,
        /// An encoded [`crate::Message`].
        bytes: Vec<u8>,
    },
    /// Propose a command to the replicated log; only while this node leads it. Lost proposals are
    /// repeated.
    Propose(Command),
    /// Until when this node may act, on its own clock; [`Instant::ZERO`] revokes.
    Lease(Instant),
    /// A link went up or down, as heartbeats show.
    Link {
        /// To whom.
        peer: NodeId,
        /// Which.
        link: LinkId,
        /// Up or down.
        up: bool,
        /// Why.
        reason: Reason,
        /// More, for people.
        detail: String,
    },
    /// A peer hears this node and is heard, or no longer so on any link.
    Peer {
        /// Which.
        peer: NodeId,
        /// Its present boot.
        boot: BootId,
        /// Whether both hear each other.
        reachable: bool,
    },
    /// This life of the node was a member and is none any more: drop all state, start anew.
    Removed {
        /// Why, for people.
        detail: String,
    },
    /// This life of the node left cleanly, as asked.
    Left,
    /// Make the founding durable, then start the replicated log with its voters and call
    /// [`crate::Membership::founding_durable`]. Comes once, to fresh nodes only.
    Founded {
        /// The founding.
        founding: Founding,
        /// This node is among its first voters with its present disk. If not, the node starts its log
        /// as a newcomer that waits to be taken in.
        voter: bool,
    },
    /// A configured node lost its disk, or has its first: take its new disk into the replicated log
    /// in place of the old one (as a voter if it has votes, else as a learner); once that is
    /// committed, propose [`Command::ReplaceDisk`]. Only while this node leads. Repeated until the
    /// state shows the new disk.
    ReplaceVoter {
        /// The node.
        node: NodeId,
        /// The disk the log knows it by.
        old: Option<DiskId>,
        /// Its present disk.
        new: DiskId,
        /// Whether it has votes.
        voter: bool,
    },
    /// This node leads the log and wants to leave: hand leadership to another.
    HandOver {
        /// A reachable voter.
        to: NodeId,
    },
    /// A peer's message was refused, or its configuration contradicts ours. At most once per peer and
    /// boot and text.
    Complaint {
        /// The peer.
        peer: NodeId,
        /// What is wrong and what would be right.
        detail: String,
    },
}
