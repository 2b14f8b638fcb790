//! What a lock on ranges of either client knows and does without waiting.

use crate::{LeaseLost, LockError, machine::LockState, session::Owned, spec::LockCall};
use mainstay_base::{ByteRange, Flags, Instant, LockMode, LockspaceId, ResourceName, Token};
use mainstay_wire::client::{Answer, Ask, Handle};
use std::sync::Arc;

/// A range that was set, on the handle level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RangeSet {
    /// Larger than that of every earlier conflicting grant of the range. Of a range that was only
    /// given up or weakened, the token of the lock's last grant, or none.
    pub token: Token,
    /// Whether the lock still holds any range; if not, its handle is free.
    pub holds: bool,
}

pub(crate) fn range_set(answer: Answer) -> Option<RangeSet> {
    match answer {
        Answer::RangeSet { token, holds } => Some(RangeSet { token, holds }),
        _ => None,
    }
}

/// A call for a range in the words of the protocol.
pub(crate) fn ask(handle: Handle, lockspace: LockspaceId, range: ByteRange, call: LockCall) -> Ask {
    let timeout_ms = call.timeout_ms();
    Ask::Range {
        handle,
        lockspace,
        name: call.name,
        range,
        mode: call.mode,
        flags: call.flags,
        blocking: call.blocking,
        timeout_ms,
    }
}

/// A lock on ranges of a resource, as both clients' guards dereference to it. Dropping the guard
/// gives up all of them.
#[derive(Debug)]
pub struct HeldRanges {
    pub(crate) session: Arc<Owned>,
    pub(crate) handle: Handle,
    lockspace: LockspaceId,
    name: ResourceName,
}

impl HeldRanges {
    /// A lock that holds nothing yet.
    pub(crate) fn open(
        session: Arc<Owned>,
        lockspace: LockspaceId,
        name: ResourceName,
    ) -> HeldRanges {
        let handle = session.lock().machine.open_ranges();
        HeldRanges {
            session,
            handle,
            lockspace,
            name,
        }
    }

    /// A call to set a range of this lock.
    pub(crate) fn call(&self, mode: LockMode) -> LockCall {
        LockCall::new(self.name.clone(), mode)
    }

    /// Queues a call for a range.
    pub(crate) fn set(&self, range: ByteRange, call: LockCall) -> Result<u64, LockError> {
        let (handle, lockspace) = (self.handle, self.lockspace);
        self.session
            .submit_on(handle, move |_| ask(handle, lockspace, range, call))
    }

    /// Queues the release of all; none if there is nothing to release.
    pub(crate) fn unlock(&self) -> Option<Result<u64, LockError>> {
        let handle = self.handle;
        let unlock = move |_: &LockState| Ask::Unlock {
            handle,
            flags: Flags::NONE,
            value: None,
        };
        self.holds_any()
            .then(|| self.session.submit_on(handle, unlock))
    }

    fn watched<T: Default>(&self, read: impl FnOnce(&LockState) -> T) -> T {
        let mut state = self.session.lock();
        let lock = state.machine.watched(self.handle);
        lock.map(|lock| read(lock)).unwrap_or_default()
    }

    /// The resource's name.
    #[must_use]
    pub fn name(&self) -> &ResourceName {
        &self.name
    }

    /// The lock's number within its session, as client-wide notices tell it.
    #[must_use]
    pub fn handle(&self) -> Handle {
        self.handle
    }

    /// Whether any range is held, as of the last answer.
    #[must_use]
    pub fn holds_any(&self) -> bool {
        self.watched(|lock| lock.holds_ranges())
    }

    /// The token of the last grant. Storage that remembers the highest token it has seen for each
    /// place can refuse a holder that does not know it lost its lock.
    #[must_use]
    pub fn token(&self) -> Token {
        self.watched(|lock| lock.token)
    }

    /// Whether the lock may be relied on now; see [`Held::is_valid`](crate::Held::is_valid).
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.session.lease_lost().is_none()
    }

    /// Until when the lock may be relied on if the lease is not renewed, on the clock of
    /// [`now`](crate::now); [`Instant::ZERO`] if its session is over.
    #[must_use]
    pub fn valid_until(&self) -> Instant {
        self.session.valid_until()
    }

    /// The lock's token, if the lock may be relied on now.
    ///
    /// # Errors
    /// Why it may not.
    pub fn check(&self) -> Result<Token, LeaseLost> {
        match self.session.lease_lost() {
            None => Ok(self.token()),
            Some(lost) => Err(lost),
        }
    }
}

impl Drop for HeldRanges {
    fn drop(&mut self) {
        self.session.release(self.handle);
    }
}
