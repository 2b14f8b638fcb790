//! Changes of value blocks in one step, and locks that watch them.
//!
//! An update is given to the master once. Should the master vanish before it answers, nobody knows
//! whether the change was made and seen by others, so it is not repeated: the client is told that the
//! outcome is not known, and the owner's copy of the block vouches for nothing until a newer one comes.
//!
//! A master tells those who watch what the value is, not what happened to it: several changes that are
//! made before it next speaks are one. Owners keep what they were told, for the next master, so a value
//! that was told is never followed by an older one.

use crate::{
    Dlm, Life, Out, UnlockCall,
    master::Key,
    names::Place,
    owner::invalid,
    table::{Pending, State},
};
use mainstay_base::{Instant, LockId, Mutant, SessionId, Value, ValueVersion};
use mainstay_lock::{Invalid, UpdateError};
use mainstay_wire::{
    client::{Answer, Handle},
    dlm::Body,
    lock::{Flags, Refusal, Updated, ValueUpdate},
};

/// What tells one value of a resource from a newer one.
fn stamp(value: &Value) -> (ValueVersion, bool) {
    (value.version, value.maybe_stale)
}

/// What a lock on ranges is told that asks about the value block.
fn no_value() -> Refusal {
    let text = "a resource that is locked in ranges has no value block; lock all of it to use one";
    Refusal::Invalid(text.to_owned())
}

/// A release of a lock on ranges says nothing of the value block.
pub(crate) fn says_no_value(call: &UnlockCall) -> Result<(), Refusal> {
    let flags = [Flags::VALBLK, Flags::IVVALBLK];
    match call.value.is_some() || flags.iter().any(|flag| call.flags.contains(*flag)) {
        true => Err(no_value()),
        false => Ok(()),
    }
}

impl Dlm {
    /// A client asks to change the value block under a lock.
    pub fn update_value(
        &mut self,
        now: Instant,
        session: SessionId,
        request: u64,
        handle: Handle,
        update: ValueUpdate,
    ) {
        let lock = match self.idle_lock(session, handle) {
            Ok(lock) => lock,
            Err(why) => return self.done(session, request, Err(why)),
        };
        if self.is_on_ranges(lock) {
            return self.done(session, request, Err(no_value()));
        }
        let may = self.check_has_value(lock);
        let may = may.and_then(|()| self.no_survivor(lock, "change the value block under"));
        if let Err(why) = may.and_then(|()| self.may_update(lock, &update).map_err(invalid)) {
            return self.done(session, request, Err(why));
        }
        let owned = self.locks.get_mut(&lock).expect("found above");
        owned.pending = Pending::Update { update };
        owned.request = request;
        owned.sent = false;
        self.submit(now, lock);
    }

    /// Checks what follows from the length of value blocks, as the master would.
    fn may_update(&self, lock: LockId, update: &ValueUpdate) -> Result<(), Invalid> {
        let owned = self.locks.get(&lock).expect("the caller found it");
        let rules = self.rules(&self.resources.peek(owned.place).id);
        let max = usize::from(rules.value_len);
        match update {
            ValueUpdate::Swap { block, .. } => rules.check_value(block),
            ValueUpdate::Add { .. } if max < size_of::<i64>() => {
                Err(Invalid::NoRoomToCount { len: max })
            }
            ValueUpdate::Add { .. } => Ok(()),
        }
    }

    /// A client wants to be told of changes of the value block, or not any more.
    pub fn watch_value(
        &mut self,
        now: Instant,
        session: SessionId,
        request: u64,
        handle: Handle,
        on: bool,
    ) {
        let set = self.watch(now, session, handle, on);
        self.done(session, request, set.map(|()| Answer::Watching));
    }

    fn watch(
        &mut self,
        now: Instant,
        session: SessionId,
        handle: Handle,
        on: bool,
    ) -> Result<(), Refusal> {
        self.is_told(session, handle)?;
        let lock = self.find(session, handle).ok_or(Refusal::NoSuchLock)?;
        if self.is_on_ranges(lock) {
            return Err(no_value());
        }
        self.check_has_value(lock)?;
        self.no_survivor(lock, "watch the value block by")?;
        let owned = self.locks.get_mut(&lock).expect("handles name locks");
        if owned.granted.is_none() || matches!(owned.pending, Pending::Unlock { .. }) {
            return Err(Refusal::Busy);
        }
        owned.watches = on;
        self.tell_watch(now, lock);
        Ok(())
    }

    /// The client of a lock is gone: nobody wants to be told of changes any more.
    pub(crate) fn stop_watching(&mut self, now: Instant, lock: LockId) {
        if let Some(owned) = self.locks.get_mut(&lock)
            && std::mem::take(&mut owned.watches)
        {
            self.tell_watch(now, lock);
        }
    }

    /// Tells the master that a lock watches, or does no more, or keeps that back until it may be told.
    fn tell_watch(&mut self, now: Instant, lock: LockId) {
        let owned = self.locks.get_mut(&lock).expect("the caller found it");
        let on = owned.watches;
        owned.watch_unsaid = false;
        let resource = self.resources.get(owned.place);
        let body = Body::Watch {
            resource: resource.id.clone(),
            lock,
            on,
        };
        match &resource.state {
            State::At(master) => {
                let to = *master;
                self.send(to, body);
            }
            // It is on its way to another master.
            State::Moving(_) => owned.watch_unsaid = true,
            State::Mine(master) if master.is_frozen() => owned.watch_unsaid = true,
            State::Mine(_) => self.master_call(now, self.my_life(), body),
            // It is restated to the next master.
            State::Lost(_) | State::LookingUp | State::Forgetting => {}
        }
    }

    /// Tells the master what it could not be told while the resource was on its way.
    pub(crate) fn watch_again(&mut self, now: Instant, lock: LockId) {
        if self
            .locks
            .get(&lock)
            .is_some_and(|owned| owned.watch_unsaid)
        {
            self.tell_watch(now, lock);
        }
    }

    /// Changes the value block of a resource mastered here, for a lock of any node.
    pub(crate) fn update_here(
        &mut self,
        now: Instant,
        place: Place,
        from: Life,
        lock: LockId,
        update: &ValueUpdate,
    ) {
        let Some(master) = self.resources.get_mut(place).master() else {
            return;
        };
        let result = master.engine.update(Key::of(from, lock), update);
        self.count_call(place, from.0);
        let result = result.map_err(|why| match why {
            UpdateError::Invalid(why) => invalid(why),
            UpdateError::Held => Refusal::ValueHeld,
        });
        if self.is_me(from) {
            self.on_updated(now, lock, result);
        } else {
            self.send(from.0, Body::Updated { lock, result });
        }
        self.note_news(place);
    }

    /// A lock of any node watches the value block of a resource mastered here, or not any more.
    pub(crate) fn watch_here(&mut self, place: Place, from: Life, lock: LockId, on: bool) {
        let Some(master) = self.resources.get_mut(place).master() else {
            return;
        };
        let known = master.engine.watch(Key::of(from, lock), on);
        if known && on {
            let value = master.engine.value();
            self.tell_value(from, lock, value);
        }
    }

    /// The master has answered an update.
    pub(crate) fn on_updated(
        &mut self,
        now: Instant,
        lock: LockId,
        result: Result<Updated, Refusal>,
    ) {
        let Some(owned) = self.locks.get_mut(&lock) else {
            return;
        };
        if let Ok(updated) = &result {
            owned.keep(&updated.value);
        }
        // What was ended by force has been told its end.
        let ended = std::mem::take(&mut owned.forced);
        if !ended && matches!(owned.pending, Pending::Update { .. }) {
            self.finish(now, lock, result.map(Answer::Updated), false);
        }
    }

    /// The master of these updates has vanished, and their locks have been restated: what it may have
    /// done is not known; what it never got goes to the next one.
    pub(crate) fn update_anew(&mut self, now: Instant, updates: &[LockId]) {
        for &lock in updates {
            let Some(owned) = self.locks.get_mut(&lock) else {
                continue;
            };
            if owned.sent && !Mutant::UpdateRepeated.active() {
                let text = "the resource's master vanished before it answered: whether the value \
                            block was changed is not known; read it";
                let why = Refusal::Unavailable(text.to_owned());
                self.finish(now, lock, Err(why), false);
            } else {
                owned.sent = false;
                self.submit(now, lock);
            }
        }
    }

    /// The value block of a resource may have changed: those who watch it are told once this node has
    /// dealt with what it is dealing with.
    pub(crate) fn note_news(&mut self, place: Place) {
        let resource = self.resources.find_mut(place);
        let master = resource.and_then(|resource| resource.master());
        if master.is_some_and(|master| master.engine.has_news()) && self.news.last() != Some(&place)
        {
            self.news.push(place);
        }
    }

    pub(crate) fn tell_news(&mut self) {
        for place in std::mem::take(&mut self.news) {
            let resource = self.resources.find_mut(place);
            let Some(master) = resource.and_then(|resource| resource.master()) else {
                continue;
            };
            if !master.decides() {
                continue; // It will be noticed when this is over, here or at the next master.
            }
            let engine = &mut master.engine;
            if !engine.has_news() {
                continue;
            }
            let (keys, value) = (engine.take_watching(), engine.value());
            for key in keys {
                self.tell_value(key.life(), key.lock, value.clone());
            }
        }
    }

    fn tell_value(&mut self, to: Life, lock: LockId, value: Value) {
        if self.is_me(to) {
            self.on_value_changed(lock, value);
        } else if self.is_member(to) {
            self.send(to.0, Body::ValueChanged { lock, value });
        }
    }

    /// The master says what the value block is now.
    pub(crate) fn on_value_changed(&mut self, lock: LockId, value: Value) {
        let Some(owned) = self.locks.get_mut(&lock).filter(|owned| owned.watches) else {
            return;
        };
        let known = owned.value.as_deref().map(stamp);
        if known.is_some_and(|known| known >= stamp(&value)) {
            return; // As the client was told already, by the answer to its own call.
        }
        owned.keep(&value);
        let (session, handle) = (owned.session, owned.handle);
        if self.sessions.contains_key(&session) {
            self.out.push(Out::ValueChanged {
                session,
                handle,
                value,
            });
        }
    }
}
