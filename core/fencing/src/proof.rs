//! The proof type and the committed record it is made from.

use core::fmt;
use mainstay_base::{BootId, Epoch, Incarnation, NodeId};
use mainstay_wire::event::Reason;
use serde::{Deserialize, Serialize};

/// How it is known that a vanished incarnation can do no more harm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Proof {
    /// A majority of votes has promised it nothing for longer than any lease can last.
    LeaseExpired,
    /// An operator takes responsibility.
    OperatorVouched {
        /// By name, as the operator's daemon recorded it.
        operator: String,
    },
    /// It gave up its locks and its lease before it left.
    LeftCleanly,
    /// It gave up its lease and handed over what it mastered before it left. Its locks stay for its node's
    /// next life, until another proof says that they are to go.
    Rests,
    /// Its node's next life has not gone on with its locks in time.
    RestOver,
}

impl Proof {
    /// The reason code of this proof.
    #[must_use]
    pub fn reason(&self) -> Reason {
        match self {
            Proof::LeaseExpired => Reason::LeaseExpired,
            Proof::OperatorVouched { .. } => Reason::OperatorVouched,
            Proof::LeftCleanly => Reason::LeftCleanly,
            Proof::Rests => Reason::Rests,
            Proof::RestOver => Reason::RestOver,
        }
    }
}

impl fmt::Display for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Proof::LeaseExpired => f.write_str("its lease has certainly run out"),
            Proof::OperatorVouched { operator } => write!(f, "{operator} vouched for it"),
            Proof::LeftCleanly => f.write_str("it left cleanly"),
            Proof::Rests => f.write_str("it rests until its node runs again"),
            Proof::RestOver => f.write_str("nobody has gone on with its locks in time"),
        }
    }
}

/// An incarnation that is no longer a member and of which nothing is proved yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vanished {
    /// The node.
    pub node: NodeId,
    /// Which of its incarnations.
    pub incarnation: Incarnation,
    /// The boot that carried the incarnation.
    pub boot: BootId,
    /// The first epoch whose view lacks it.
    pub left_epoch: Epoch,
}

/// What the replicated log committed about the end of one incarnation. The cluster state makes it
/// while it applies the log; nobody else has a reason to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FencedRecord {
    /// The node.
    pub node: NodeId,
    /// Which of its incarnations.
    pub incarnation: Incarnation,
    /// By what proof.
    pub proof: Proof,
    /// The epoch that the record began.
    pub epoch: Epoch,
    /// Its index in the replicated log.
    pub index: u64,
}

/// Proof that one incarnation of one node can do no more harm.
///
/// Made only by [`crate::Ledger::confirm`], cannot be copied or decoded from bytes, and is used up
/// by the recovery that it permits.
///
/// ```compile_fail
/// // The fields are private: nobody else can make one.
/// let _ = mainstay_fencing::Fenced { record: unimplemented!() };
/// ```
/// ```compile_fail
/// fn twice(proof: mainstay_fencing::Fenced) -> (mainstay_fencing::Fenced, mainstay_fencing::Fenced) {
///     (proof.clone(), proof)
/// }
/// ```
#[derive(Debug, PartialEq, Eq)]
pub struct Fenced {
    record: FencedRecord,
}

impl Fenced {
    pub(crate) fn new(record: FencedRecord) -> Fenced {
        Fenced { record }
    }

    /// The node.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.record.node
    }

    /// Which of its incarnations.
    #[must_use]
    pub fn incarnation(&self) -> Incarnation {
        self.record.incarnation
    }

    /// How it is known.
    #[must_use]
    pub fn proof(&self) -> &Proof {
        &self.record.proof
    }

    /// The committed record.
    #[must_use]
    pub fn record(&self) -> &FencedRecord {
        &self.record
    }
}
