//! Sets of locks, and conversions and unlocks in bulk.

use super::{
    Lock, Lockspace,
    call::{self, Call},
};
use crate::{
    Held, LockError,
    sets::{self, SetSpec, set_options},
    spec::GRACE,
};
use mainstay_base::{LockMode, Token};
use std::time::Duration;

/// A request for several locks of one lockspace, all or none, to be completed by
/// [`SetRequest::acquire`]. However others name the same locks, sets never wait for each other in a
/// circle.
#[derive(Debug)]
#[must_use = "a request does nothing until `acquire`"]
pub struct SetRequest<'a> {
    lockspace: &'a Lockspace,
    spec: SetSpec,
}

impl<'a> SetRequest<'a> {
    pub(super) fn new(lockspace: &'a Lockspace) -> SetRequest<'a> {
        let spec = SetSpec::new();
        SetRequest { lockspace, spec }
    }

    set_options!();

    /// Waits for all of the locks, and returns them in the order in which they were named. When it
    /// fails none is held, and the refusal ([`Refusal::OfSet`](crate::Refusal::OfSet)) names the one
    /// that was the reason.
    ///
    /// # Errors
    /// If the daemon refuses, the session is lost, the time passes, or a name is no name.
    pub fn acquire(self) -> Result<Vec<Lock>, LockError> {
        let session = self.lockspace.space.core.session();
        let (id, value_len) = self.lockspace.id_in(&session)?;
        let (calls, flags, timeout) = self.spec.calls()?;
        let (held, request) =
            Held::request_set(session.clone(), id, value_len, calls, flags, timeout)?;
        // On every way out but the last, the guards let go of what the request may still bring.
        let locks = held.into_iter().map(Lock::new).collect();
        let patience = timeout.map(|t| t.saturating_add(GRACE));
        Call::queued(session, Ok(request), sets::set_granted).within(patience)?;
        Ok(locks)
    }
}

impl Lock {
    /// Converts several locks of one session with one call, and tells how each conversion ended: its
    /// token, or why it was refused; then the lock keeps its mode. The conversions are not tied to
    /// each other. `timeout` is for each of them.
    ///
    /// # Errors
    /// If the call as a whole is refused, or the session is lost.
    pub fn convert_many(
        locks: &mut [(&mut Lock, LockMode)],
        timeout: Option<Duration>,
    ) -> Result<Vec<Result<Token, LockError>>, LockError> {
        for (lock, _) in locks.iter() {
            call::idle(lock);
        }
        let held: Vec<(&Held, LockMode)> =
            locks.iter().map(|(lock, mode)| (&***lock, *mode)).collect();
        let (session, request) = sets::convert_many(&held, timeout)?;
        let patience = timeout.map(|t| t.saturating_add(GRACE));
        let result = Call::queued(session.clone(), Ok(request), sets::converted).within(patience);
        if let Err(LockError::NoAnswer { .. }) = result {
            for (lock, _) in held {
                session.cancel(lock.handle());
            }
        }
        result.map(sets::tokens)
    }

    /// Releases several locks of one session with one call, and waits until the daemon has said how
    /// it went with each.
    ///
    /// # Errors
    /// If the call as a whole is refused, or the session is lost, and the locks with it.
    pub fn unlock_many(locks: Vec<Lock>) -> Result<Vec<Result<(), LockError>>, LockError> {
        for lock in &locks {
            call::idle(lock);
        }
        let (session, request) = sets::unlock_many(locks.iter().map(|lock| &**lock))?;
        let results = Call::queued(session, Ok(request), sets::all_unlocked).wait()?;
        Ok(sets::ends(results))
    }
}
