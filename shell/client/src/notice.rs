//! What clients are told without having asked just then.

use crate::mailbox::Mail;
use mainstay_base::{ByteRange, LockMode, SessionId, Value};
use mainstay_wire::{client::Handle, event::Event};

/// Something happened to a client's session or to one of its locks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// The node's lease ran out: until [`Notice::Resumed`] no lock may be relied on.
    Suspended {
        /// Why, for people.
        reason: String,
    },
    /// The lease is back and every lock of the session is still held.
    Resumed,
    /// The session and all its locks are gone.
    SessionLost {
        /// Which.
        session: SessionId,
        /// Why, for people.
        reason: String,
    },
    /// A new session took the place of the lost one. It has no locks.
    Reconnected {
        /// The new one.
        session: SessionId,
    },
    /// The connection broke, and the session is kept: the client is trying to continue it
    /// ([`ClientBuilder::keep`](crate::ClientBuilder::keep)). Locks stay valid until
    /// [`Guard::valid_until`](crate::Guard::valid_until), and are valid again after
    /// [`Notice::Continued`]; calls wait for that.
    Disconnected {
        /// Why, for people.
        reason: String,
    },
    /// The session goes on, on another connection, with all its locks and calls.
    Continued,
    /// A lock blocks others.
    Blocking {
        /// Which lock.
        handle: Handle,
        /// The mode that is blocked; a conversion to one compatible with it is enough.
        mode: LockMode,
    },
    /// A lock on ranges blocks others.
    RangeBlocking {
        /// Which lock.
        handle: Handle,
        /// The range that somebody waits for; giving up what the lock holds of it is enough.
        range: ByteRange,
        /// The mode that is blocked.
        mode: LockMode,
    },
    /// A conversion with CONVDEADLK would have waited for others that wait for it: its lock holds no
    /// more than NL from now on, and the conversion waits on.
    Demoted {
        /// Which lock.
        handle: Handle,
    },
    /// A lock was in the way of others for longer than was promised for it
    /// (`set_response_time`).
    Overdue {
        /// Which lock.
        handle: Handle,
        /// The mode that it is in the way of.
        mode: LockMode,
        /// The lock has been taken, as the promise allowed.
        released: bool,
    },
    /// The value block that a lock watches is another, or is marked now (`watch_value`).
    ValueChanged {
        /// Which lock.
        handle: Handle,
        /// What the value is now.
        value: Value,
    },
    /// So many notices were dropped because this listener reads too slowly.
    Missed(u64),
}

impl Notice {
    pub(crate) fn from_mail(mail: Mail<Notice>) -> Option<Notice> {
        match mail {
            Mail::Item(notice) => Some(notice),
            Mail::Missed(count) => Some(Notice::Missed(count)),
            Mail::Closed => None,
        }
    }
}

/// What the stream of the cluster's events brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ClusterEvent {
    /// Something happened.
    Happened(Event),
    /// So many events were dropped because this listener reads too slowly.
    Missed(u64),
}

impl ClusterEvent {
    /// `None` for an event that this listener had already: another listener of the session asked
    /// for past events again. The inner `None` ends the stream.
    pub(crate) fn from_mail(
        mail: Mail<ClusterEvent>,
        last: &mut Option<u64>,
    ) -> Option<Option<ClusterEvent>> {
        Some(match mail {
            Mail::Item(ClusterEvent::Happened(event))
                if last.is_some_and(|l| event.number <= l) =>
            {
                return None;
            }
            Mail::Item(ClusterEvent::Happened(event)) => {
                *last = Some(event.number);
                Some(ClusterEvent::Happened(event))
            }
            Mail::Item(missed) => Some(missed),
            Mail::Missed(count) => Some(ClusterEvent::Missed(count)),
            Mail::Closed => None,
        })
    }
}
