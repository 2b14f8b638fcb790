//! What two members say to each other when a process of one is to have an orphan of the other.

use crate::dlm::ResourceId;
use mainstay_base::{LockId, LockMode, Token, Value};
use serde::{Deserialize, Serialize};

/// Between the node of an orphan and the node of who wants it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ceding {
    /// A process of the sender wants an orphan. Answered by [`Ceding::Answer`].
    Seek {
        /// On what.
        resource: ResourceId,
        /// In which mode it is held.
        mode: LockMode,
        /// Only one that a process of this user left behind.
        uid: Option<u32>,
        /// Its number at the sender, if it becomes its lock.
        lock: LockId,
    },
    /// What the sender has.
    Answer {
        /// The number that the asking node gave.
        lock: LockId,
        /// What there is.
        found: Found,
    },
    /// What was ceded is the sender's with the master's knowledge, or goes back: the sender has not
    /// asked the master for it, and will not.
    Ends {
        /// The lock's number at the receiver.
        lock: LockId,
        /// Its number at the sender.
        to: LockId,
        /// It is the sender's.
        taken: bool,
    },
    /// The sender has forgotten what was ceded.
    Over {
        /// The lock's number at the receiver.
        lock: LockId,
    },
}

/// What a member has of an orphan that another wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Found {
    /// None on that resource.
    Nothing,
    /// One that cannot be had just now.
    Busy,
    /// One in another mode.
    InMode(LockMode),
    /// One of another user.
    Others,
    /// This one, which the sender keeps for the receiver.
    Ceded(Box<CededLock>),
    /// One that survives its node: the replicated log says whether the receiver has it.
    InLog,
}

/// A lock that its node cedes to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CededLock {
    /// Its number there.
    pub lock: LockId,
    /// Its token.
    pub token: Token,
    /// It uses the value block.
    pub valblk: bool,
    /// Its node's copy of the value block.
    pub value: Option<Value>,
    /// A master that vanished may have changed the value block after that copy.
    pub unsure: bool,
    /// The user and the process that left it behind.
    pub left_by: (u32, u32),
}
