//! Words of the lock protocol that clients and nodes share.

use crate::{deadlock::DeadlockReport, nested::boxed_leaf, sets::MemberRefusal};
pub use mainstay_base::{Flags, Updated, ValueUpdate};
use mainstay_base::{LockMode, Token, Value};
use serde::{Deserialize, Serialize};

/// A request or conversion that was granted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Granted {
    /// The mode now held: the asked one, or the alternate that the call allowed.
    pub mode: LockMode,
    /// Larger than that of every earlier conflicting grant of the resource.
    pub token: Token,
    /// The value block, where the call asked for it and the mode change moves it to the caller, or
    /// the caller's own publication with its version. A publication that was answered only after
    /// its master had vanished, and may have been overwritten since, comes without.
    pub value: Option<Value>,
}

/// Why a lock call was not granted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum Refusal {
    /// NOQUEUE was asked and the lock is not free. A conversion keeps its old mode.
    #[error("the lock is held in a conflicting mode, and the call asked not to wait")]
    NotQueued,
    /// Two conversions on this resource wait for each other; this one is the victim and keeps its
    /// old mode. With CONVDEADLK it would have been demoted instead.
    #[error("conversion deadlock: another conversion waits for the mode this lock holds")]
    Deadlock,
    /// The caller cancelled. A conversion keeps its old mode.
    #[error("cancelled by the caller")]
    Cancelled,
    /// The call's time ran out. A conversion keeps its old mode.
    #[error("not granted within the time the call allowed")]
    TimedOut,
    /// NOQUEUE was asked while this node may not act.
    #[error("this node has no quorum, and the call asked not to wait")]
    NoQuorum,
    /// The lock has an unfinished request, conversion or unlock.
    #[error("another call on this lock is not finished")]
    Busy,
    /// No such lock in this session.
    #[error("this session has no lock of that handle")]
    NoSuchLock,
    /// The handle names a lock that exists already.
    #[error("this session already has a lock of that handle")]
    HandleInUse,
    /// No such lockspace.
    #[error("there is no such lockspace; open it first")]
    NoSuchLockspace,
    /// The call's flags or arguments do not fit together.
    #[error("{0}")]
    Invalid(String),
    /// A bound of this node was reached.
    #[error("{0}")]
    Limit(String),
    /// The cancel came too late: nothing was pending, or it was granted meanwhile.
    #[error("too late to cancel: the call had already finished")]
    TooLate,
    /// The daemon is leaving the cluster.
    #[error("this node is leaving the cluster")]
    Leaving,
    /// The cluster could not carry the request out now.
    #[error("{0}")]
    Unavailable(String),
    /// The caller may not do this.
    #[error("{0}")]
    Denied(String),
    /// The call waited in a circle of owners over several resources, and was chosen to be refused.
    /// A conversion keeps its old mode.
    #[error("{0}")]
    DeadlockCycle(Box<DeadlockReport>),
    /// The conversion ended as told, but its lock was demoted meanwhile (CONVDEADLK): it is left in
    /// NL, not in its old mode.
    #[error("{0}; the lock was demoted while it waited, and is left in nl")]
    AfterDemotion(#[serde(deserialize_with = "boxed_leaf")] Box<Refusal>),
    /// The lock was released by force (FORCEUNLOCK) while this call waited. Whether it had been
    /// granted by then is not told.
    #[error("the lock was released by force while this call waited")]
    Released,
    /// An update of a value block, on which another lock relies.
    #[error(
        "another lock is held in cw, pr, pw or ex, and its owner relies on the value block as it is; \
         try again when it is gone, or convert to pw to wait for that"
    )]
    ValueHeld,
    /// The resource has locks on ranges of bytes, so it cannot be locked as a whole.
    #[error(
        "the resource is locked in ranges of bytes at present, and so cannot be locked as a whole"
    )]
    Ranged,
    /// The resource has locks on all of it, so it cannot be locked in ranges.
    #[error(
        "the resource is locked as a whole at present, and so cannot be locked in ranges of bytes"
    )]
    Whole,
    /// There is no orphan on that resource, on this node.
    #[error("this node has no orphan on that resource")]
    NoSuchOrphan,
    /// There is an orphan on that resource, on this node, but in another mode.
    #[error("the orphan on that resource is held in {0}; adopt it in that mode")]
    OrphanInMode(LockMode),
    /// A set was refused for one of its locks: none of them is granted.
    #[error("{0}")]
    OfSet(Box<MemberRefusal>),
    /// A lock was asked for under one that is not granted.
    #[error("the lock above is not granted: nothing can be locked under one that waits")]
    ParentNotGranted,
    /// So many locks are right beneath the one that was to be released.
    #[error(
        "the lock has locks beneath it ({0} right beneath): release those first, or all together"
    )]
    HasSubLocks(u32),
    /// In a lockspace with the rules of the SA Forum: the session holds that resource in EX already.
    #[error("this session holds the resource in ex already, and would wait for itself")]
    Duplicate,
    /// The session that was to be continued has ended, or is another's.
    #[error("there is no such session to be continued: it has ended, or the key is not its own")]
    NoSuchSession,
}

impl Refusal {
    /// Why the call itself ended, whatever became of its lock meanwhile, and whichever of a set it was.
    #[must_use]
    pub fn cause(&self) -> &Refusal {
        match self {
            Refusal::AfterDemotion(why) => why.cause(),
            Refusal::OfSet(member) => member.why.cause(),
            why => why,
        }
    }

    /// A short stable name, that of the cause.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Refusal::AfterDemotion(why) => why.code(),
            Refusal::OfSet(member) => member.why.code(),
            Refusal::NotQueued => "not-queued",
            Refusal::Deadlock | Refusal::DeadlockCycle(_) => "deadlock",
            Refusal::Cancelled => "cancelled",
            Refusal::TimedOut => "timed-out",
            Refusal::NoQuorum => "no-quorum",
            Refusal::Busy => "busy",
            Refusal::NoSuchLock => "no-such-lock",
            Refusal::HandleInUse => "handle-in-use",
            Refusal::NoSuchLockspace => "no-such-lockspace",
            Refusal::Invalid(_) => "invalid",
            Refusal::Limit(_) => "limit",
            Refusal::TooLate => "too-late",
            Refusal::Leaving => "leaving",
            Refusal::Unavailable(_) => "unavailable",
            Refusal::Denied(_) => "denied",
            Refusal::Released => "released",
            Refusal::ValueHeld => "value-held",
            Refusal::Ranged => "ranged",
            Refusal::Whole => "whole",
            Refusal::NoSuchOrphan => "no-such-orphan",
            Refusal::OrphanInMode(_) => "orphan-in-mode",
            Refusal::ParentNotGranted => "parent-not-granted",
            Refusal::HasSubLocks(_) => "has-sub-locks",
            Refusal::Duplicate => "duplicate",
            Refusal::NoSuchSession => "no-such-session",
        }
    }
}
