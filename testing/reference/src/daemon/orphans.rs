//! Sessions that end, and what they leave behind.

use super::{Daemon, Said, invalid};
use crate::resource::{Key, excludes_writers, has, writes};
use mainstay_base::SessionId;
use mainstay_wire::{
    client::{Answer, Ask},
    dlm::ResourceId,
    lock::{Flags, Granted, Refusal},
    orphan::{OrphanWish, PurgeReport},
};

impl Daemon {
    /// A client is gone.
    pub fn close(&mut self, session: SessionId) {
        let Some(client) = self.clients.remove(&session) else {
            return;
        };
        self.reports.retain(|(s, ..)| *s != session);
        self.bulks.retain(|_, bulk| bulk.session != session);
        // Who was not told of a lock has not written under it.
        let untold = self.untold(session);
        self.sets.retain(|_, set| set.session != session);
        let stays = |key: &Key| {
            let lock = &self.locks[key];
            lock.persistent && lock.held.is_some()
        };
        let mut keys: Vec<Key> = client.handles.into_values().collect();
        keys.sort_unstable();
        let (left, mut gone): (Vec<Key>, Vec<Key>) = keys.into_iter().partition(stays);
        // What follows when others of its locks go, its client does not hear.
        let marks: Vec<Key> = gone
            .iter()
            .copied()
            .filter(|key| self.may_write(*key))
            .collect();
        let marks: Vec<Key> = marks
            .into_iter()
            .filter(|key| !untold.contains(key))
            .collect();
        for key in left {
            let lock = self.lock(key);
            (lock.promise, lock.blocking) = (None, false);
            lock.watches = false;
            let (id, waits) = (lock.resource.clone(), lock.call.is_some());
            self.engine(&id, |engine, _| engine.watch(key, false));
            if waits {
                self.take_back(key, Refusal::Cancelled, None);
            }
            self.lock(key).orphan = Some(client.caller.uid);
        }
        if self.locks.values().any(|lock| lock.parent.is_some()) {
            gone.sort_unstable_by(|a, b| b.cmp(a));
        }
        for key in gone {
            self.take_away(key, marks.contains(&key));
        }
        self.end_step();
    }

    /// Whether the owner of a lock may be about to publish.
    fn may_write(&self, key: Key) -> bool {
        let lock = &self.locks[&key];
        let engine = &self.resources[&lock.resource].engine;
        lock.held.is_some_and(writes) && engine.is_fresh(key)
    }

    /// A lock goes because its owner has gone, who may have been writing.
    pub(super) fn dies(&mut self, key: Key) {
        let marks = self.may_write(key);
        self.take_away(key, marks);
    }

    /// Takes a lock away without a word to its owner.
    pub(super) fn take_away(&mut self, key: Key, marks: bool) {
        let lock = &self.locks[&key];
        let id = lock.resource.clone();
        match lock.on_ranges {
            true => self.ranges(key, |ranges, last, out| ranges.release(key, last, out)),
            false => {
                self.engine(&id, |engine, out| engine.force_unlock(key, marks, out));
            }
        }
        self.erase(key);
    }

    /// Whether a client may do with orphans of a user what it likes.
    fn may_have(&self, session: SessionId, id: &ResourceId, uid: u32) -> bool {
        let caller = self.caller(session);
        let owner = self.spaces[&id.space].access.owner == caller.uid;
        caller.privileged || owner || caller.uid == uid
    }

    pub(super) fn adopt(&mut self, session: SessionId, request: u64, ask: Ask) {
        let Ask::Adopt {
            handle,
            lockspace: space,
            name,
            mode,
            flags,
            blocking,
        } = ask
        else {
            return;
        };
        let mut reasons = Vec::new();
        let known = Flags::PERSISTENT | Flags::VALBLK | Flags::NODLCKBLK;
        if !flags.without(known).is_empty() || !name.is_root() {
            reasons.push(invalid());
        }
        if !self.spaces.contains_key(&space) {
            reasons.push(Refusal::NoSuchLockspace);
        } else if !self.may_lock(session, space, &name, mode, Flags::NONE) {
            reasons.push(Refusal::Denied(String::new()));
        }
        if self.handles_in_use(session).contains(&handle) {
            reasons.push(Refusal::HandleInUse);
        }
        if !reasons.is_empty() {
            return self.answer(session, request, Err(reasons));
        }
        let id = ResourceId { space, name };
        let mut found = None;
        for (key, lock) in &self.locks {
            let Some(uid) = lock.orphan.filter(|_| lock.resource == id) else {
                continue;
            };
            let held = lock.held.unwrap();
            if held != mode {
                reasons.push(Refusal::OrphanInMode(held));
            } else if !self.may_have(session, &id, uid) {
                reasons.push(Refusal::Denied(String::new()));
            } else if found.is_none() {
                found = Some(*key);
            }
        }
        let Some(key) = found else {
            if reasons.is_empty() {
                reasons.push(Refusal::NoSuchOrphan);
            }
            return self.answer(session, request, Err(reasons));
        };
        let engine = self.reference(&id);
        let exact = excludes_writers(mode) && engine.is_fresh(key) && has(flags, Flags::VALBLK);
        let value = exact.then(|| engine.value.clone());
        if let Some(client) = self.clients.get_mut(&session) {
            client.handles.insert(handle, key);
        }
        let lock = self.lock(key);
        (lock.session, lock.handle, lock.orphan) = (session, handle, None);
        lock.blocking = blocking;
        lock.persistent = has(flags, Flags::PERSISTENT);
        let token = lock.token;
        let granted = Granted { mode, token, value };
        self.say(session, Said::done(request, Answer::Granted(granted)));
        self.engine(&id, |engine, out| engine.adopted(key, blocking, out));
    }

    pub(super) fn purge(&mut self, session: SessionId, request: u64, wish: &OrphanWish) {
        let space = match &wish.lockspace {
            None => None,
            Some(name) => match self.space_called(name) {
                Some(id) => Some(id),
                None => {
                    return self.answer(session, request, Err(vec![Refusal::NoSuchLockspace]));
                }
            },
        };
        let (mut purged, mut denied) = (0, 0);
        let orphans = self.locks.iter();
        let orphans = orphans.filter_map(|(key, lock)| Some((*key, lock.orphan?)));
        let orphans: Vec<(Key, u32)> = orphans.collect();
        for (key, uid) in orphans {
            let id = self.locks[&key].resource.clone();
            if space.is_some_and(|space| space != id.space) {
                continue;
            }
            match self.may_have(session, &id, uid) {
                true => {
                    purged += 1;
                    self.dies(key);
                }
                false => denied += 1,
            }
        }
        let report = PurgeReport {
            purged,
            denied,
            silent: Vec::new(),
        };
        self.say(session, Said::done(request, Answer::OrphansPurged(report)));
    }
}
