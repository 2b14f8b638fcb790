//! Releases of locks, by their clients or without a word of theirs.

use crate::{
    Dlm, UnlockCall,
    names::Place,
    sets::Entry,
    table::{Pending, State},
    values::says_no_value,
};
use mainstay_base::{Instant, LockId, LockMode, SessionId};
use mainstay_recorder::Op;
use mainstay_wire::{
    client::Answer,
    dlm::Body,
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
        if self.begin_taking_out(now, lock, request, &call)? {
            self.is_entry(lock, entry);
            return Ok(None);
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

    /// Removes a lock whose client died, whatever its state.
    pub(crate) fn drop_lock(&mut self, now: Instant, lock: LockId, invalidate: bool) {
        self.drop_as(now, lock, invalidate, Op::Dropped);
    }

    /// The same, noted in another way.
    pub(crate) fn drop_as(&mut self, now: Instant, lock: LockId, invalidate: bool, op: Op) {
        let writer = self.dies_writing(lock);
        // Who was not told of it yet did not write under it.
        let told = !self.sets.gathers(lock);
        self.let_go(now, lock, invalidate && writer && told, op);
    }

    /// Removes a lock whatever its state, without a word to its client. `invalidate`: the value
    /// block is to be marked. `op`: how it is noted.
    pub(crate) fn let_go(&mut self, now: Instant, lock: LockId, invalidate: bool, op: Op) {
        let Some(owned) = self.locks.get(&lock) else {
            return;
        };
        let held = owned.granted;
        if self.goes_by_log(now, lock, op) {
            return;
        }
        self.note(now, op, lock, held);
        let Some(owned) = self.locks.get(&lock) else {
            return;
        };
        if owned.sent || owned.granted.is_some() {
            self.tell_dropped(now, lock, invalidate);
        }
        self.erase(now, lock);
    }

    pub(crate) fn tell_dropped(&mut self, now: Instant, lock: LockId, invalidate: bool) {
        let owned = self.locks.get(&lock).expect("the caller found it");
        self.tell_master_dropped(now, owned.place, lock, invalidate);
    }

    /// Tells the master of a resource that a lock is gone, or keeps it back until it may be told.
    pub(crate) fn tell_master_dropped(
        &mut self,
        now: Instant,
        place: Place,
        lock: LockId,
        invalidate: bool,
    ) {
        if self.keep_back_drop(place, lock, invalidate) {
            return;
        }
        let resource = self.resources.get(place);
        let body = Body::Drop {
            resource: resource.id.clone(),
            lock,
            invalidate,
        };
        match &resource.state {
            State::At(master) => {
                let to = *master;
                let resource = resource.id.clone();
                self.send(to, body);
                if invalidate && let Some(member) = self.view.member(to) {
                    self.suspect(now, (to, member.incarnation), resource);
                }
            }
            State::Mine(_) => self.master_call(now, self.my_life(), body),
            // The next master will not be told of the lock.
            State::Lost(dead) => {
                if invalidate {
                    let (dead, resource) = (dead.life(), resource.id.clone());
                    self.suspect(now, dead, resource);
                }
            }
            State::LookingUp | State::Forgetting | State::Moving(_) => {}
        }
    }
}
