//! Releases of locks by their clients.

use crate::{
    Dlm, UnlockCall,
    sets::Entry,
    table::{Pending, State},
    values::says_no_value,
};
use mainstay_base::{Instant, LockMode, SessionId};
use mainstay_recorder::Op;
use mainstay_wire::{
    client::Answer,
    lock::{Flags, Refusal},
};

impl Dlm {
    /// A client asks to release a lock.
    pub fn unlock(&mut self, now: Instant, session: SessionId, request: u64, call: UnlockCall) {
        match self.begin_unlock(now, session, request, call, None) {
            Ok(None) => {}
            Ok(Some(answer)) => self.done(session, request, Ok(answer)),
            Err(why) => self.done(session, request, Err(why)),
        }
    }

    /// Releases a lock if that needs nobody else, or gives its release to the master, alone or as
    /// part of a bulk call; then the answer comes later.
    pub(crate) fn begin_unlock(
        &mut self,
        now: Instant,
        session: SessionId,
        request: u64,
        call: UnlockCall,
        entry: Option<Entry>,
    ) -> Result<Option<Answer>, Refusal> {
        let gone = Answer::Unlocked { version: None };
        if call.flags.contains(Flags::FORCEUNLOCK) {
            self.check_unlock(session, &call)?;
            if self.end_set_of(now, session, call.handle, &Refusal::Released) {
                return Ok(Some(gone));
            }
        }
        self.may_go_alone(session, call.handle)?;
        if let Some(lock) = self.to_be_forced(session, &call) {
            return self.unlock_by_force(now, lock, request, call, entry);
        }
        let lock = self.idle_lock(session, call.handle)?;
        self.check_unlock(session, &call)?;
        if self.is_on_ranges(lock) {
            says_no_value(&call)?;
            self.let_go(now, lock, false, Op::Unlocked);
            return Ok(Some(gone));
        }
        let owned = self.locks.get_mut(&lock).expect("found above");
        let writer = owned.granted.is_some_and(LockMode::writes_value);
        let publishes = writer && call.value.is_some();
        owned.pending = Pending::Unlock {
            // Nothing waits, so there is nothing to force.
            flags: call.flags.without(Flags::FORCEUNLOCK),
            value: call.value,
        };
        owned.request = request;
        owned.sent = false;
        if publishes || matches!(self.resources.get(owned.place).state, State::Mine(_)) {
            // A publication is only done when the master has it.
            self.is_entry(lock, entry);
            self.submit(now, lock);
            return Ok(None);
        }
        let invalidate = writer && call.flags.contains(Flags::IVVALBLK);
        self.let_go(now, lock, invalidate, Op::Unlocked);
        Ok(Some(gone))
    }
}
