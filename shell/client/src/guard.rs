//! What guards of locks of every kind have in common.

use crate::{LeaseLost, machine::LockState, session::Owned, spec::LockCall};
use mainstay_base::{Instant, LockMode, ResourceName, Token};
use mainstay_wire::client::Handle;
use std::sync::Arc;

/// What a lock of either kind knows without waiting: [`Held`](crate::Held) and
/// [`HeldRanges`](crate::HeldRanges) dereference to it.
#[derive(Debug)]
pub struct Guard {
    pub(crate) session: Arc<Owned>,
    pub(crate) handle: Handle,
    pub(crate) name: ResourceName,
}

impl Guard {
    /// A call that changes this lock.
    pub(crate) fn call(&self, mode: LockMode) -> LockCall {
        LockCall::new(self.name.clone(), mode)
    }

    pub(crate) fn watched<T: Default>(&self, read: impl FnOnce(&LockState) -> T) -> T {
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

    /// The token of the last grant; [`Token::NONE`] if nothing is held. Storage that remembers the
    /// highest token it has seen, of a lock on ranges for each place, can refuse a holder that does not
    /// know it lost its lock.
    #[must_use]
    pub fn token(&self) -> Token {
        self.watched(|lock| lock.token)
    }

    /// Whether the lock may be relied on now: it holds something, its session lives and its node's
    /// lease runs. Reads the clock and what the client knows, asks nobody and needs no living daemon.
    /// What is true now may be false a moment later; see [`Guard::valid_until`].
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.check().is_ok()
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
    /// Why it may not; [`LeaseLost::NotHeld`] if it holds nothing.
    pub fn check(&self) -> Result<Token, LeaseLost> {
        match self.session.lease_lost() {
            None => self
                .watched(|lock| lock.holds().then_some(lock.token))
                .ok_or(LeaseLost::NotHeld),
            Some(lost) => Err(lost),
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.session.release(self.handle);
    }
}
