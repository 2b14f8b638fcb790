//! Taking an answer apart. The machine has seen to it that each call gets its own kind of answer.

use crate::{LockError, core::SpaceId};
use mainstay_base::{Incarnation, LockMode, NodeId, Token, Updated, Value, ValueVersion};
use mainstay_wire::{
    client::Answer,
    contention::ContentionReport,
    lock::Refusal,
    orphan::{OrphansReport, PurgeReport},
    report::{GraphReport, LocksReport, LockspaceAccess, MastersReport, StatusReport, WhyReport},
};

/// Takes one kind of answer apart.
pub(crate) type Read<T> = fn(Answer) -> Option<T>;

/// An answer, taken apart.
pub(crate) fn take<T>(answer: Answer, read: Read<T>) -> Result<T, LockError> {
    let mismatch = || Refusal::Unavailable("the answer was of another kind".to_owned());
    read(answer).ok_or_else(|| mismatch().into())
}

/// The node that was vouched for, and the incarnations that were waiting for it.
pub type Vouched = (NodeId, Vec<Incarnation>);

/// A request or conversion that was granted, on the handle level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Granted {
    /// The mode now held: the asked one, or the alternate that the call allowed.
    pub mode: LockMode,
    /// Larger than that of every earlier conflicting grant of the resource.
    pub token: Token,
    /// The value block, where the call asked for it and the mode change moves it to the caller, or
    /// the caller's own publication with its version.
    pub value: Option<Value>,
    /// The alternate of ALTPR or ALTCW was granted, not the asked mode.
    pub altmode: bool,
    /// The lock was demoted to NL before, as CONVDEADLK allows: others may have been granted what
    /// its old mode excluded.
    pub demoted: bool,
}

pub(crate) fn granted(answer: Answer) -> Option<Granted> {
    let (granted, altmode, demoted) = match answer {
        Answer::Granted(granted) => (granted, false, false),
        Answer::GrantedOtherwise {
            granted,
            altmode,
            demoted,
        } => (granted, altmode, demoted),
        _ => return None,
    };
    Some(Granted {
        mode: granted.mode,
        token: granted.token,
        value: granted.value,
        altmode,
        demoted,
    })
}

pub(crate) fn unlocked(answer: Answer) -> Option<Option<ValueVersion>> {
    match answer {
        Answer::Unlocked { version } => Some(version),
        _ => None,
    }
}

pub(crate) fn tree_unlocked(answer: Answer) -> Option<u64> {
    match answer {
        Answer::TreeUnlocked { released } => Some(released),
        _ => None,
    }
}

pub(crate) fn updated(answer: Answer) -> Option<Updated> {
    match answer {
        Answer::Updated(updated) => Some(updated),
        _ => None,
    }
}

pub(crate) fn lockspace(answer: Answer) -> Option<SpaceId> {
    match answer {
        Answer::Lockspace { id, value_len } => Some((id, value_len)),
        _ => None,
    }
}

pub(crate) fn status(answer: Answer) -> Option<StatusReport> {
    match answer {
        Answer::Status(report) => Some(*report),
        _ => None,
    }
}

pub(crate) fn locks(answer: Answer) -> Option<LocksReport> {
    match answer {
        Answer::Locks(report) => Some(*report),
        _ => None,
    }
}

pub(crate) fn why(answer: Answer) -> Option<WhyReport> {
    match answer {
        Answer::Why(report) => Some(*report),
        _ => None,
    }
}

pub(crate) fn graph(answer: Answer) -> Option<GraphReport> {
    match answer {
        Answer::Graph(report) => Some(*report),
        _ => None,
    }
}

pub(crate) fn contention(answer: Answer) -> Option<ContentionReport> {
    match answer {
        Answer::Contention(report) => Some(*report),
        _ => None,
    }
}

pub(crate) fn masters(answer: Answer) -> Option<MastersReport> {
    match answer {
        Answer::Masters(report) => Some(*report),
        _ => None,
    }
}

pub(crate) fn lockspace_set(answer: Answer) -> Option<LockspaceAccess> {
    match answer {
        Answer::LockspaceSet(lockspace) => Some(*lockspace),
        _ => None,
    }
}

pub(crate) fn orphans(answer: Answer) -> Option<OrphansReport> {
    match answer {
        Answer::Orphans(report) => Some(*report),
        _ => None,
    }
}

/// Lockspaces, and whether there are more after them.
pub type Lockspaces = (Vec<LockspaceAccess>, bool);

pub(crate) fn lockspaces(answer: Answer) -> Option<Lockspaces> {
    match answer {
        Answer::Lockspaces {
            lockspaces,
            truncated,
        } => Some((lockspaces, truncated)),
        _ => None,
    }
}

/// Where a dump of the flight recorder is on the daemon's host, and its length in bytes.
pub type Dumped = (std::path::PathBuf, u64);

pub(crate) fn dumped(answer: Answer) -> Option<Dumped> {
    match answer {
        Answer::Dumped { path, bytes } => Some((path.into(), bytes)),
        _ => None,
    }
}

pub(crate) fn purged(answer: Answer) -> Option<PurgeReport> {
    match answer {
        Answer::OrphansPurged(report) => Some(report),
        _ => None,
    }
}

pub(crate) fn vouched(answer: Answer) -> Option<Vouched> {
    match answer {
        Answer::Vouched { node, incarnations } => Some((node, incarnations)),
        _ => None,
    }
}

/// For calls whose answer says nothing beyond its kind.
pub(crate) fn done(answer: Answer) -> Option<()> {
    matches!(
        answer,
        Answer::Cancelled
            | Answer::Subscribed
            | Answer::Left
            | Answer::Pong
            | Answer::PrioritySet
            | Answer::OwnerSet
            | Answer::ResponseTimeSet
            | Answer::Watching
    )
    .then_some(())
}
