//! What the replicated log may say, and what follows from it.

use super::{Lockspace, Survivor, SurvivorBatch, SurvivorDone};
use crate::{Founding, Pending, View};
use mainstay_base::{
    Access, AccessChange, BootId, Compat, DiskId, Epoch, Fairness, Incarnation, LockspaceName,
    NodeId,
};
use mainstay_fencing::{FencedRecord, Proof};
use mainstay_wire::{
    codec::{self, DecodeError},
    event::Reason,
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Longest encoded command, in bytes.
const COMMAND_LEN_MAX: usize = 64 << 10;

/// Which request of which boot of a node a command answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RequestOrigin {
    /// The asking node.
    pub node: NodeId,
    /// Its boot; a later boot did not ask.
    pub boot: BootId,
    /// Chosen by the asking node.
    pub request: u64,
}

/// An entry of the replicated log. A command that no longer applies is ignored, on every node alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// The first command of all. A second one is ignored.
    Found(Founding),
    /// A boot becomes a member. If an older boot of the node still is one, that one vanishes in the
    /// same view. Ignored if the boot is or was a member.
    Join {
        /// The node.
        node: NodeId,
        /// The boot that joins.
        boot: BootId,
        /// The node's last incarnation as the proposer knew it; ignored if there is a later one.
        after: Incarnation,
    },
    /// An incarnation ceases to be a member without its consent; it is pending from then on.
    Remove {
        /// The node.
        node: NodeId,
        /// Which of its incarnations.
        incarnation: Incarnation,
        /// Why.
        reason: Reason,
        /// More, for people.
        detail: String,
    },
    /// An incarnation that has given up its locks and its lease ceases to be a member; it is at once
    /// proved harmless.
    Leave {
        /// The node.
        node: NodeId,
        /// Which of its incarnations.
        incarnation: Incarnation,
    },
    /// A pending incarnation is proved harmless.
    Fenced {
        /// The node.
        node: NodeId,
        /// Which of its incarnations.
        incarnation: Incarnation,
        /// By what.
        proof: Proof,
    },
    /// A lockspace shall exist. One of that name that exists already stays as it is.
    CreateLockspace {
        /// Its name.
        name: LockspaceName,
        /// Length of its value blocks, 1 to 4096.
        value_len: u16,
        /// Who wants to know.
        origin: RequestOrigin,
        /// Who may lock what in it.
        access: Access,
        /// How it shares out its resources.
        fairness: Fairness,
        /// Whose rules it follows where systems differ.
        compat: Compat,
    },
    /// A node lost its disk and is known by another from now on.
    ReplaceDisk {
        /// The node.
        node: NodeId,
        /// The disk it was known by; ignored if that is no longer so.
        old: Option<DiskId>,
        /// The disk it is known by from now on.
        new: DiskId,
    },
    /// Masterships move from one member to another, as all members have agreed. Refused if they are
    /// not the members any more; ignored if it was decided upon before.
    MoveMasters(MoveRecord),
    /// Others may lock what in a lockspace from now on. Refused if it does not exist, or who asks is
    /// not its owner.
    SetAccess {
        /// Its name.
        name: LockspaceName,
        /// What is to be changed.
        change: AccessChange,
        /// The user who asks; `None` for one who may do everything.
        by: Option<u32>,
        /// Who wants to know.
        origin: RequestOrigin,
    },
    /// Locks survive their nodes, or do so no longer. Ignored if it was decided upon before, or if who
    /// asks is no member any more.
    Survivors(SurvivorBatch),
    /// As `MoveMasters`, once there have been surviving locks.
    MoveMastersWithSurvivors {
        /// The batch.
        record: MoveRecord,
        /// How often anything about surviving locks had changed when the master sent what it had.
        /// Refused if more has: what was sent may say otherwise than the log.
        changes: u64,
    },
    /// An incarnation that has given up its lease and handed over what it mastered ceases to be a member
    /// and rests: its locks stay for its node's next life. Ignored if the members are others than it knew,
    /// somebody is pending, or another rests.
    Rest {
        /// The node.
        node: NodeId,
        /// Which of its incarnations.
        incarnation: Incarnation,
        /// Epoch of the set of members to which it has handed over.
        members: Epoch,
        /// How long its locks stay at most.
        for_ms: u32,
    },
    /// The locks of an incarnation that rests are those of its node's present one from now on.
    Resume {
        /// The node.
        node: NodeId,
        /// The incarnation that rests.
        from: Incarnation,
        /// The incarnation that goes on.
        to: Incarnation,
    },
}

/// An incarnation that rests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rest {
    /// The node.
    pub node: NodeId,
    /// Which of its incarnations.
    pub incarnation: Incarnation,
    /// How long its locks stay at most, from the moment at which the leader knows of it.
    pub for_ms: u32,
}

/// A batch of masterships that move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoveRecord {
    /// The master.
    pub from: NodeId,
    /// Which of its incarnations.
    pub from_incarnation: Incarnation,
    /// The next master.
    pub to: NodeId,
    /// Which of its incarnations.
    pub to_incarnation: Incarnation,
    /// Counted up by the master's incarnation.
    pub serial: u64,
    /// Epoch of the set of members that agreed.
    pub members: Epoch,
    /// How many resources.
    pub count: u32,
}

impl Command {
    /// For the log.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        codec::to_vec(self)
    }

    /// From the log.
    ///
    /// # Errors
    /// If the bytes are no command.
    pub fn decode(bytes: &[u8]) -> Result<Command, DecodeError> {
        codec::decode("cluster command", COMMAND_LEN_MAX, bytes)
    }
}

/// Why a view came about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// Named.
    pub reason: Reason,
    /// Whom it concerns.
    pub about: Option<(NodeId, Incarnation)>,
    /// More, for people; may be empty.
    pub detail: String,
}

impl Default for Cause {
    fn default() -> Cause {
        Cause {
            reason: Reason::Founded,
            about: None,
            detail: String::new(),
        }
    }
}

/// An incarnation and the committed record of its end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FencedNode {
    /// The incarnation as it was pending. For a clean leave: as it would have been.
    pub vanished: Pending,
    /// The record that makes the proof.
    pub record: FencedRecord,
}

/// Why who may lock what in a lockspace stays as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessRefused {
    /// There is no such lockspace.
    NoSuchLockspace,
    /// Who asked is not its owner.
    NotOwner,
    /// The mode or the rules cannot be.
    Invalid,
    /// Somebody else has changed it since who asked read it.
    Changed,
    /// The rules of all lockspaces would not fit a snapshot any more.
    NoRoom,
}

/// What a command changed, in the order in which it is to be acted upon.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The cluster was founded.
    Founded,
    /// A new view is in force.
    View {
        /// The view.
        view: Arc<View>,
        /// Why.
        cause: Cause,
    },
    /// A vanished incarnation is proved harmless. Follows the view without it.
    Fenced(FencedNode),
    /// The locks of an incarnation that rested are another's of that node. Precedes the view in which it
    /// is not pending any more.
    Resumed {
        /// The node.
        node: NodeId,
        /// The incarnation that rested.
        from: Incarnation,
        /// The incarnation that goes on.
        to: Incarnation,
    },
    /// A lockspace exists.
    Lockspace {
        /// The lockspace.
        lockspace: Lockspace,
        /// It did not exist before.
        created: bool,
        /// Who asked; `None` if the change was found in a snapshot.
        origin: Option<RequestOrigin>,
    },
    /// A lockspace cannot be created: there are too many already, or no room for what it says of who
    /// may lock what, or its value length is out of range.
    LockspaceRefused {
        /// Who asked.
        origin: RequestOrigin,
    },
    /// A batch of masterships has moved, or stays where it was.
    Moved {
        /// Which.
        record: MoveRecord,
        /// It has moved.
        done: bool,
    },
    /// Others may lock what in a lockspace.
    Access {
        /// The lockspace as it is now.
        lockspace: Lockspace,
        /// Who asked; `None` if the change was found in a snapshot.
        origin: Option<RequestOrigin>,
    },
    /// Who may lock what stays as it is.
    AccessRefused {
        /// Who asked.
        origin: RequestOrigin,
        /// Why.
        why: AccessRefused,
    },
    /// What was decided about surviving locks.
    Survivors {
        /// Who asked.
        by: NodeId,
        /// Which of its incarnations.
        incarnation: Incarnation,
        /// Its number for the batch.
        serial: u64,
        /// What each step did.
        done: Vec<SurvivorDone>,
    },
    /// All surviving locks as they are now, found in a snapshot.
    AllSurvivors {
        /// They.
        all: Vec<Survivor>,
    },
    /// A node is known by another disk.
    DiskReplaced {
        /// The node.
        node: NodeId,
        /// The disk it was known by.
        old: Option<DiskId>,
        /// The disk it is known by.
        new: DiskId,
    },
}
