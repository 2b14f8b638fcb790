//! What a lock call asks for, in the words that both clients share.

use mainstay_base::{Flags, LockMode, LockspaceId, ResourceName};
use mainstay_wire::client::{Ask, Handle};
use std::time::{Duration, Instant};

/// How long a call with a time limit waits for the daemon to say that the time is up, before it
/// gives up by itself.
pub const GRACE: Duration = Duration::from_secs(1);

/// A request for a new lock on the handle level, as the protocol has it: nothing is added, and
/// nothing is released unless it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockCall {
    /// On what. Not looked at by conversions.
    pub name: ResourceName,
    /// In which mode.
    pub mode: LockMode,
    /// How.
    pub flags: Flags,
    /// Whether to be told when the lock blocks others.
    pub blocking: bool,
    /// Give up after waiting so long, in whole milliseconds, at most 49 days.
    pub timeout: Option<Duration>,
}

impl LockCall {
    /// A request that waits as long as it takes.
    #[must_use]
    pub fn new(name: ResourceName, mode: LockMode) -> LockCall {
        LockCall {
            name,
            mode,
            flags: Flags::NONE,
            blocking: false,
            timeout: None,
        }
    }

    pub(crate) fn timeout_ms(&self) -> Option<u32> {
        timeout_ms(self.timeout)
    }

    /// When the caller stops waiting for an answer.
    pub(crate) fn patience(&self) -> Option<Duration> {
        self.timeout.map(|t| t.saturating_add(GRACE))
    }

    /// Shortens the time limit so that it ends by `deadline`.
    pub(crate) fn end_by(&mut self, deadline: Instant) {
        let left = deadline.saturating_duration_since(Instant::now());
        self.timeout = Some(self.timeout.map_or(left, |t| t.min(left)));
    }

    /// As a request to adopt an orphan of this node, or what any node has left behind, too.
    pub(crate) fn adopt(self, handle: Handle, lockspace: LockspaceId, anywhere: bool) -> Ask {
        let LockCall {
            name,
            mode,
            flags,
            blocking,
            ..
        } = self;
        match anywhere {
            false => Ask::Adopt {
                handle,
                lockspace,
                name,
                mode,
                flags,
                blocking,
            },
            true => Ask::AdoptAnywhere {
                handle,
                lockspace,
                name,
                mode,
                flags,
                blocking,
            },
        }
    }

    /// As a request for a lock beneath another. The name is the last part of the resource's.
    pub(crate) fn under(self, handle: Handle, parent: Handle) -> Ask {
        let timeout_ms = self.timeout_ms();
        Ask::LockUnder {
            parent,
            handle,
            name: self.name,
            mode: self.mode,
            flags: self.flags,
            blocking: self.blocking,
            timeout_ms,
        }
    }

    pub(crate) fn ask(self, handle: Handle, lockspace: LockspaceId) -> Ask {
        let timeout_ms = self.timeout_ms();
        Ask::Lock {
            handle,
            lockspace,
            name: self.name,
            mode: self.mode,
            flags: self.flags,
            blocking: self.blocking,
            timeout_ms,
        }
    }
}

/// In whole milliseconds, rounded up: not to give up before the time.
pub(crate) fn timeout_ms(timeout: Option<Duration>) -> Option<u32> {
    timeout.map(|t| u32::try_from(t.as_nanos().div_ceil(1_000_000)).unwrap_or(u32::MAX))
}

/// Whether going from `from` to `to` publishes the caller's value block, rather than reading.
pub(crate) fn publishes(from: LockMode, to: LockMode) -> bool {
    from.writes_value() && !(from == LockMode::Pw && to == LockMode::Ex)
}

/// Builder methods that requests and conversions of both clients have in common. The type must have
/// a field `call: LockCall`.
macro_rules! call_options {
    () => {
        /// Adds flags of the lock protocol.
        pub fn flags(mut self, flags: $crate::Flags) -> Self {
            self.call.flags |= flags;
            self
        }

        /// Refuses with [`Refusal::NotQueued`](crate::Refusal::NotQueued) rather than wait.
        pub fn try_lock(self) -> Self {
            self.flags($crate::Flags::NOQUEUE)
        }

        /// Gives up after waiting so long, with [`Refusal::TimedOut`](crate::Refusal::TimedOut). The
        /// daemon keeps the time; if it does not answer either, the call ends with
        /// [`LockError::NoAnswer`](crate::LockError::NoAnswer) one second later.
        pub fn timeout(mut self, timeout: std::time::Duration) -> Self {
            self.call.timeout = Some(timeout);
            self
        }

        /// Like a timeout that ends at `deadline`; the shorter of both counts.
        pub fn deadline(mut self, deadline: std::time::Instant) -> Self {
            self.deadline = Some(deadline);
            self
        }

        /// The call's priority, 0 to 7, in a lockspace that grants by priorities; elsewhere another one
        /// than 0 is refused.
        pub fn priority(mut self, priority: u8) -> Self {
            self.call.flags = self.call.flags.with_priority(priority);
            self
        }

        /// Be told when the lock blocks others, from now on for as long as it is held: a later call
        /// without this takes nothing back.
        pub fn on_blocking(mut self) -> Self {
            self.call.blocking = true;
            self
        }
    };
}
pub(crate) use call_options;
