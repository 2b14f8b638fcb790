//! Updates of value blocks, and locks that watch them.

use super::{Daemon, invalid, stamp};
use mainstay_base::{LockMode, SessionId, Updated, ValueUpdate};
use mainstay_wire::{
    client::{Handle, ToClient},
    lock::{Flags, Refusal},
};

impl Daemon {
    pub(super) fn update(
        &mut self,
        session: SessionId,
        handle: Handle,
        update: &ValueUpdate,
    ) -> Result<Updated, Vec<Refusal>> {
        let key = self.idle(session, handle).map_err(|why| vec![why])?;
        let id = self.locks[&key].resource.clone();
        let mut reasons = Vec::new();
        let may = |mode| self.may_lock(session, id.space, &id.name, mode, Flags::NONE);
        if !may(LockMode::Ex) && !may(LockMode::Pw) {
            reasons.push(Refusal::Denied(String::new()));
        }
        let no_room = self.spaces[&id.space].rules.value_len < 8;
        let wrong = match update {
            ValueUpdate::Swap { block, .. } => self.too_long(id.space, Some(block)),
            ValueUpdate::Add { .. } => no_room,
        };
        if wrong || self.locks[&key].on_ranges {
            reasons.push(invalid());
        }
        if !reasons.is_empty() {
            return Err(reasons);
        }
        match self.engine(&id, |engine, _| engine.update(key, update)) {
            None => Err(vec![invalid()]),
            Some(None) => Err(vec![Refusal::ValueHeld]),
            Some(Some(updated)) => {
                let value = &updated.value;
                self.lock(key).known = Some((value.version, value.maybe_stale));
                Ok(updated)
            }
        }
    }

    pub(super) fn watch(
        &mut self,
        session: SessionId,
        handle: Handle,
        on: bool,
    ) -> Result<(), Vec<Refusal>> {
        if self.set_of(session, handle).is_some() {
            return Err(vec![Refusal::Busy]);
        }
        let key = self.find(session, handle);
        let key = key.ok_or_else(|| vec![Refusal::NoSuchLock])?;
        let lock = self.lock(key);
        if lock.on_ranges {
            return Err(vec![invalid()]);
        }
        if lock.held.is_none() {
            return Err(vec![Refusal::Busy]);
        }
        lock.watches = on;
        let id = lock.resource.clone();
        self.engine(&id, |engine, _| engine.watch(key, on));
        self.tell_value(key);
        Ok(())
    }

    /// Tells a lock that watches what the value is, if its client does not know.
    fn tell_value(&mut self, key: u64) {
        let id = self.locks[&key].resource.clone();
        let engine = self.reference(&id);
        let (now, value) = (stamp(engine), engine.value.clone());
        let lock = self.lock(key);
        if lock.watches && lock.known.is_none_or(|known| known < now) {
            lock.known = Some(now);
            let (session, handle) = (lock.session, lock.handle);
            self.tell(session, ToClient::ValueChanged { handle, value });
        }
    }

    pub(super) fn tell_news(&mut self) {
        for id in std::mem::take(&mut self.news) {
            let watching = self.resources.get(&id).map(|r| r.engine.watching());
            for key in watching.into_iter().flatten() {
                self.tell_value(key);
            }
        }
    }
}
