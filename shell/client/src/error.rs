//! What can go wrong, and what to do about it.

use mainstay_base::{Instant, NameError, ValueError};
use mainstay_lease::{PageError, PassError};
use mainstay_wire::{deadlock::DeadlockReport, lock::Refusal};
use std::{io, path::PathBuf, time::Duration};

/// Why a call to the daemon failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LockError {
    /// The daemon refused. The session goes on.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The session ended before the answer came, and all its locks with it.
    #[error("the session with the daemon is lost, and all its locks with it: {reason}")]
    SessionLost {
        /// Why, for people.
        reason: String,
    },
    /// The time that the call allowed passed, and the daemon did not even say so. What the call may
    /// still achieve is undone as soon as the daemon answers.
    #[error("the daemon did not answer within {waited:?}; it may be stopped or overloaded")]
    NoAnswer {
        /// How long the call waited.
        waited: Duration,
    },
    /// The name cannot name what it was to name. Nothing was sent.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The value does not fit the lockspace. Nothing was sent.
    #[error(transparent)]
    Value(#[from] ValueError),
}

impl LockError {
    /// The daemon's refusal, if it was one.
    #[must_use]
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            LockError::Refused(refusal) => Some(refusal),
            _ => None,
        }
    }

    /// The circle of waiters, if the call was refused to break it.
    #[must_use]
    pub fn deadlock(&self) -> Option<&DeadlockReport> {
        match self.refusal().map(Refusal::cause) {
            Some(Refusal::DeadlockCycle(report)) => Some(report),
            _ => None,
        }
    }
}

/// Why locks may not be relied on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LeaseLost {
    /// The lease ended and was not renewed, as far as the page shows. It may come back.
    #[error("the node's lease ended at {until} and was not renewed")]
    Expired {
        /// When it ended; [`Instant::ZERO`] if it was revoked or never given.
        until: Instant,
    },
    /// The daemon has not answered for as long as it keeps the session: it may have ended it, and given
    /// the locks to others. If it has not, they are valid again once it answers.
    #[error("the daemon has not answered for as long as it keeps the session, until {until}")]
    Silent {
        /// Until then it kept the session for certain.
        until: Instant,
    },
    /// The node dropped all state and began anew. The locks are gone.
    #[error("the node was removed from the cluster or restarted, and began anew")]
    Reborn,
    /// The session ended. The locks are gone.
    #[error("the session with the daemon is lost: {reason}")]
    SessionLost {
        /// Why, for people.
        reason: String,
    },
    /// The lock holds nothing: no range has been granted yet, or all were given up; or the whole lock
    /// was taken, as its promise to respond allowed.
    #[error("the lock holds nothing: what it held was given up or taken")]
    NotHeld,
}

/// Why there is no connection to the daemon.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// There is no socket at this path.
    #[error(
        "there is no socket {path}: is the daemon running? Start it with `mainstay node --config FILE`, or try out a cluster with `mainstay dev`"
    )]
    NoSocket {
        /// Where a socket was looked for.
        path: PathBuf,
    },
    /// The socket is there, but nobody listens.
    #[error(
        "nobody listens on {path}: the daemon that made it has ended; start it again with `mainstay node --config FILE`"
    )]
    NobodyListens {
        /// The socket.
        path: PathBuf,
    },
    /// The socket may not be used by this user.
    #[error("this user may not connect to {path}: {mend}")]
    Denied {
        /// The socket.
        path: PathBuf,
        /// What to do.
        mend: String,
    },
    /// The path cannot name a socket.
    #[error("{path} is too long for a socket: the system allows 107 bytes; use a shorter path")]
    PathTooLong {
        /// The path.
        path: PathBuf,
    },
    /// The daemon accepted but did not answer.
    #[error(
        "the daemon on {path} did not answer within {waited:?}: it may be stopped or overloaded; see its log"
    )]
    NoAnswer {
        /// The socket.
        path: PathBuf,
        /// How long was waited.
        waited: Duration,
    },
    /// Both sides speak, but no common version.
    #[error(
        "the daemon on {path} does not speak this client's protocol: {why}; update the older of the two"
    )]
    Version {
        /// The socket.
        path: PathBuf,
        /// What does not fit.
        why: String,
    },
    /// The daemon refused the session.
    #[error("the daemon on {path} refused the session: {refusal}")]
    Refused {
        /// The socket.
        path: PathBuf,
        /// Why.
        refusal: Refusal,
    },
    /// What arrived does not follow the protocol.
    #[error("what listens on {path} does not speak as a Mainstay daemon: {why}")]
    Protocol {
        /// The socket.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// The system refused something else.
    #[error("cannot {what} {path}: {source}")]
    Os {
        /// What was tried.
        what: &'static str,
        /// The socket.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
}

impl ConnectError {
    /// Whether trying again later, with nothing changed by hand, can help.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            ConnectError::NoSocket { .. }
                | ConnectError::NobodyListens { .. }
                | ConnectError::NoAnswer { .. }
                | ConnectError::Refused { .. }
                | ConnectError::Os { .. }
                | ConnectError::Protocol { .. }
        )
    }
}

pub(crate) fn page_error(path: PathBuf, error: &PageError) -> ConnectError {
    ConnectError::Protocol {
        path,
        why: error.to_string(),
    }
}

pub(crate) fn pass_error(path: PathBuf, error: PassError) -> ConnectError {
    match error {
        PassError::Os(source) => ConnectError::Os {
            what: "receive the lease page from",
            path,
            source,
        },
        other => ConnectError::Protocol {
            path,
            why: other.to_string(),
        },
    }
}
