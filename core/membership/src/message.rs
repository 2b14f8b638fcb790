//! Messages between membership agents. None is repeated or acknowledged by the layer below: each may
//! be lost, duplicated or late, and the agent relies on none of them arriving.

use crate::Founding;
use mainstay_base::{BootId, ClusterId, DiskId, Epoch, Incarnation, NodeId};
use mainstay_wire::codec::{self, DecodeError};
use serde::{Deserialize, Serialize};

/// Longest encoded message, in bytes.
pub const MESSAGE_LEN_MAX: usize = 64 << 10;

/// What agents say to each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// Every heartbeat period, to every peer on every link.
    Heartbeat(Heartbeat),
    /// At once, on the link the heartbeat came on.
    Ack(HeartbeatAck),
    /// To a fresh node, in answer to its heartbeat.
    Offer(FoundingOffer),
}

/// A sign of life, and what its sender knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// The sender's life.
    pub boot: BootId,
    /// The sender's disk.
    pub disk: DiskId,
    /// Number of the round, ascending within a boot; the same on all links.
    pub seq: u64,
    /// Digest of the sender's configuration.
    pub config: u64,
    /// The cluster the sender belongs to; `None`: it is fresh.
    pub cluster: Option<ClusterId>,
    /// The sender's incarnation, if the view it has installed counts its boot as a member.
    pub incarnation: Option<Incarnation>,
    /// The epoch it has installed.
    pub epoch: Epoch,
    /// Peers that it hears and that hear it.
    pub hears: Vec<Heard>,
    /// What it asks of the leader.
    pub wish: Wish,
    /// For every pending incarnation of its view: how long it has promised it nothing.
    pub quiet: Vec<Quiet>,
}

/// A peer, two ways connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Heard {
    /// The peer.
    pub node: NodeId,
    /// Its boot.
    pub boot: BootId,
}

/// What a node asks of the leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Wish {
    /// Nothing.
    None,
    /// To become a member.
    Join,
    /// To leave; it has given up its locks and its lease.
    Leave,
    /// To rest; it has given up its lease and handed over to these members.
    Rest {
        /// Epoch since which they are the members.
        members: Epoch,
        /// How long its locks are to stay at most.
        for_ms: u32,
    },
}

/// For how long a node has promised a pending incarnation nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quiet {
    /// The node.
    pub node: NodeId,
    /// Which of its incarnations.
    pub incarnation: Incarnation,
    /// Milliseconds, rounded down, since the last promise in the sender's present boot, or since that
    /// boot began.
    pub age_ms: u32,
}

/// The answer to a heartbeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeartbeatAck {
    /// The life that is answered.
    pub to_boot: BootId,
    /// The round that is answered.
    pub seq: u64,
    /// The answering life.
    pub boot: BootId,
    /// "I am a member, I count your boot and incarnation as a member, and until a lease time from now
    /// I shall not hold your lease to have run out."
    pub promise: bool,
    /// The epoch that the answering node has installed.
    pub epoch: Epoch,
}

/// The founding, for a node that has none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundingOffer {
    /// The offering life. An offer of a life that is not known to be the present one is refused, so
    /// that a founder that lost its disk cannot be overtaken by its own past.
    pub boot: BootId,
    /// The founding.
    pub founding: Founding,
}

impl Message {
    /// As bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        codec::to_vec(self)
    }

    /// From bytes.
    ///
    /// # Errors
    /// If the bytes are no message.
    pub fn decode(bytes: &[u8]) -> Result<Message, DecodeError> {
        codec::decode("membership message", MESSAGE_LEN_MAX, bytes)
    }
}
