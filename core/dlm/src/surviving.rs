//! Locks that survive their nodes: the replicated log has a record of each, and whoever comes to master
//! its resource knows it from there.
//!
//! The rules are in `docs/protocol/surviving.md`. To its owner's node such a lock is one like others, but
//! that the client is told of it only when the log has it, and that it goes only when the log says so. Its
//! node never restates it and says nothing of its end to the master: both is in the log. When its node is
//! gone, masters keep it under the key of the life that had it, until the log says that it is another's, or
//! released.

use crate::{
    AdoptCall, Dlm, Life, Out, UnlockCall,
    master::Key,
    names::Place,
    owner::invalid,
    table::{Owned, Pending, State},
};
use mainstay_base::{Flags, Instant, LockId, LockMode, Mutant, SessionId};
use mainstay_lock::{Effect, Restated, admit_adopt};
use mainstay_membership::{Survivor, SurvivorDone, SurvivorKey, SurvivorOwner, SurvivorStep};
use mainstay_recorder::Op;
use mainstay_wire::{
    client::{Answer, Handle},
    dlm::ResourceId,
    event::OrphanFate,
    lock::{Granted, Refusal},
    report::OwnerReport,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// What this node knows of surviving locks.
#[derive(Debug, Default)]
pub(crate) struct Surviving {
    /// All of the cluster.
    records: BTreeMap<Key, Survivor>,
    by_resource: BTreeMap<ResourceId, BTreeSet<Key>>,
    /// How often anything has changed.
    changes: u64,
    /// Keys that went while something was being rebuilt: their owners may have restated them before.
    ghosts: BTreeSet<Key>,
    /// Released by the log, and to be released here as soon as this node may decide.
    pub(crate) releases: Vec<(ResourceId, Key)>,
    /// Own locks of which the log has yet to say that they survive.
    recording: BTreeSet<LockId>,
    /// What they are in the way of meanwhile.
    notices: BTreeMap<LockId, LockMode>,
    /// Own locks that the log has yet to release.
    going: BTreeMap<LockId, Going>,
    /// Locks that the log has yet to give to clients of this node.
    adopting: BTreeMap<LockId, Adopting>,
}

/// Why a lock is taken out of the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Going {
    /// Its client asked for it.
    Unlocked,
    /// Nobody waits for an answer.
    Dropped,
    /// It is an orphan that was purged, or expired.
    Purged { expired: bool },
}

/// A client that adopts what a node has left behind.
#[derive(Clone, Copy, Debug)]
struct Adopting {
    session: SessionId,
    request: u64,
    handle: Handle,
    blocking: bool,
}

impl Surviving {
    pub(crate) fn changes(&self) -> u64 {
        self.changes
    }

    /// Whether a lock survives its node, and so is not dropped with it.
    pub(crate) fn is_recorded(&self, key: Key) -> bool {
        self.records.contains_key(&key) && !Mutant::SurvivorDroppedAtProof.active()
    }

    /// Whether there is a record of a lock, which another member tells of.
    pub(crate) fn has_record(&self, (node, incarnation): Life, lock: LockId) -> bool {
        let numbered = (1..1 << 48).contains(&incarnation.0);
        numbered
            && self
                .records
                .contains_key(&Key::of((node, incarnation), lock))
    }

    /// Whether a lock that an owner restates is known to be gone.
    pub(crate) fn is_ghost(&self, key: Key) -> bool {
        self.ghosts.contains(&key)
    }

    /// A lock that its client has not been told of is in the way.
    pub(crate) fn keep_notice(&mut self, lock: LockId, mode: LockMode) {
        self.notices.insert(lock, mode);
    }

    /// The same for one that it is about to adopt: the master may apply that sooner.
    pub(crate) fn keep_early_notice(&mut self, lock: LockId, mode: LockMode, sought: bool) {
        if sought || self.adopting.contains_key(&lock) {
            self.notices.insert(lock, mode);
        }
    }

    /// A lock that was to be adopted does not come.
    pub(crate) fn drop_notice(&mut self, lock: LockId) {
        self.notices.remove(&lock);
    }

    /// A lock of this node is gone.
    pub(crate) fn forget(&mut self, lock: LockId) {
        self.recording.remove(&lock);
        self.notices.remove(&lock);
        self.going.remove(&lock);
    }

    /// Whether a client has asked to adopt, under that handle, what a node has left behind.
    pub(crate) fn is_adopting(&self, session: SessionId, handle: Handle) -> bool {
        let mut adopting = self.adopting.values();
        adopting.any(|a| a.session == session && a.handle == handle)
    }

    /// Whether the log has yet to decide about locks of this node, which may be in others' way or not.
    pub(crate) fn is_recording(&self) -> bool {
        !self.recording.is_empty()
    }

    fn enter(&mut self, survivor: Survivor) {
        let (id, key) = (resource_of(&survivor), key_of(survivor.key));
        self.by_resource.entry(id).or_default().insert(key);
        self.records.insert(key, survivor);
    }

    fn strike(&mut self, key: Key) -> Option<ResourceId> {
        let id = resource_of(&self.records.remove(&key)?);
        if let Some(keys) = self.by_resource.get_mut(&id) {
            keys.remove(&key);
            if keys.is_empty() {
                self.by_resource.remove(&id);
            }
        }
        Some(id)
    }

    /// All on a resource, by key.
    fn on(&self, id: &ResourceId) -> Vec<(Key, Survivor)> {
        let keys = self.by_resource.get(id).into_iter().flatten();
        let all = keys.filter_map(|key| Some((*key, self.records.get(key)?.clone())));
        all.filter(|_| !Mutant::SurvivorNotInstalled.active())
            .collect()
    }
}

fn key_of(key: SurvivorKey) -> Key {
    Key::of((key.node, key.incarnation), key.lock)
}

fn resource_of(survivor: &Survivor) -> ResourceId {
    ResourceId {
        space: survivor.space,
        name: survivor.name.clone(),
    }
}

fn process_of(owner: SurvivorOwner) -> OwnerReport {
    OwnerReport {
        pid: owner.pid,
        uid: owner.uid,
        ..OwnerReport::default()
    }
}

impl Dlm {
    fn survivor_key(&self, lock: LockId) -> SurvivorKey {
        let (node, incarnation) = self.my_life();
        SurvivorKey {
            node,
            incarnation,
            lock,
        }
    }

    fn survivor_owner(&self, owned: &Owned) -> SurvivorOwner {
        let process = self.deadlocks.process(owned.session);
        SurvivorOwner {
            uid: process.uid,
            pid: process.pid,
            blocking: owned.blocking,
        }
    }

    /// A request was granted: if the lock is to survive its node, the log is to say so before the client
    /// is told. Whether that is so.
    pub(crate) fn begin_recording(&mut self, lock: LockId) -> bool {
        let Some(owned) = self.locks.get(&lock) else {
            return false;
        };
        let Pending::Request { mode, flags } = owned.pending else {
            return false;
        };
        let (Some(held), true) = (owned.granted, flags.contains(Flags::SURVIVE)) else {
            return false;
        };
        let id = self.resources.peek(owned.place).id.clone();
        let step = SurvivorStep::Keep {
            lock,
            space: id.space,
            name: id.name,
            mode: held,
            token: owned.token,
            owner: self.survivor_owner(owned),
        };
        self.out.push(Out::Survive(step));
        if Mutant::ToldBeforeRecorded.active() {
            return false;
        }
        let owned = self.locks.get_mut(&lock).expect("found above");
        owned.pending = Pending::Recording { mode, flags };
        owned.ticket = None;
        owned.timed_out = false;
        if let Some(at) = owned.deadline.take() {
            self.timers.remove(&(at, lock));
        }
        self.deadlocks.wait_ends(lock);
        self.surviving.recording.insert(lock);
        true
    }

    /// Refuses to do with a surviving lock what the log would have to know of.
    pub(crate) fn no_survivor(&self, lock: LockId, what: &str) -> Result<(), Refusal> {
        let survives = |owned: &Owned| match owned.pending {
            Pending::Request { flags, .. } => flags.contains(Flags::SURVIVE),
            Pending::Recording { .. } => true,
            _ => owned.recorded,
        };
        match self.locks.get(&lock).is_some_and(survives) {
            true => Err(Refusal::Invalid(format!(
                "the lock survives its node, and nobody can {what} such a lock; take another beside it"
            ))),
            false => Ok(()),
        }
    }

    /// A client releases a lock: if it survives its node, the log has to say so first. Whether that is so.
    pub(crate) fn begin_taking_out(
        &mut self,
        now: Instant,
        lock: LockId,
        request: u64,
        call: &UnlockCall,
    ) -> Result<bool, Refusal> {
        let owned = self.locks.get_mut(&lock).expect("the caller found it");
        if !owned.recorded {
            return Ok(false);
        }
        let speaks = call.value.is_some()
            || call.flags.contains(Flags::VALBLK)
            || call.flags.contains(Flags::IVVALBLK);
        if speaks {
            let why = "a lock that survives its node says nothing of the value block".to_owned();
            return Err(Refusal::Invalid(why));
        }
        owned.request = request;
        if Mutant::ReleasedBeforeLog.active() {
            owned.recorded = false;
            let place = owned.place;
            let key = self.survivor_key(lock);
            self.out.push(Out::Survive(SurvivorStep::Release { key }));
            self.tell_master_dropped(now, place, lock, false);
        }
        self.take_out(now, lock, Going::Unlocked);
        if Mutant::ReleasedBeforeLog.active() {
            self.out.pop();
            self.taken_out(now, lock);
        }
        Ok(true)
    }

    fn take_out(&mut self, now: Instant, lock: LockId, how: Going) {
        let key = self.survivor_key(lock);
        let owned = self.locks.get_mut(&lock).expect("the caller found it");
        owned.pending = Pending::Unlock {
            flags: Flags::NONE,
            value: None,
        };
        owned.sent = true;
        self.surviving.going.insert(lock, how);
        // A master may release it, and grant it to others, before this node hears of it.
        let held = owned.granted;
        self.note(now, Op::Unlocking, lock, held);
        self.out.push(Out::Survive(SurvivorStep::Release { key }));
    }

    /// Whether the log has yet to release a lock of this node.
    pub(crate) fn is_going(&self, lock: LockId) -> bool {
        self.surviving.going.contains_key(&lock)
    }

    /// A lock is to go without a word from its client: if it survives its node, when the log says so. If
    /// the node leaves, the lock stays behind. Whether one of that is so.
    pub(crate) fn goes_by_log(&mut self, now: Instant, lock: LockId, op: Op) -> bool {
        let Some(owned) = self.locks.get(&lock) else {
            return false;
        };
        if matches!(owned.pending, Pending::Recording { .. }) {
            return true; // What becomes of it follows from what the log says.
        }
        if !owned.recorded {
            return false;
        }
        let held = owned.granted;
        if self.orphans.closed {
            self.note(now, op, lock, held);
            self.erase(now, lock);
        } else if !self.is_going(lock) {
            self.take_out(now, lock, Going::Dropped);
        }
        true
    }

    /// An orphan is to be released: if it survives its node, when the log says so. Whether that is so.
    pub(crate) fn purge_by_log(&mut self, now: Instant, lock: LockId, expired: bool) -> bool {
        let owned = self.locks.get(&lock);
        if !owned.is_some_and(|owned| owned.recorded) {
            return false;
        }
        if !self.is_going(lock) {
            self.take_out(now, lock, Going::Purged { expired });
        }
        true
    }

    /// A surviving orphan has another owner on this node.
    pub(crate) fn record_owner(&mut self, lock: LockId) {
        let owned = self.locks.get(&lock).filter(|owned| owned.recorded);
        let owner = owned.map(|owned| self.survivor_owner(owned));
        if let Some(owner) = owner {
            let step = SurvivorStep::Own { lock, owner };
            self.out.push(Out::Survive(step));
        }
    }

    /// A client asks to adopt what a node has left behind; the log decides.
    ///
    /// # Errors
    /// If it may not have such a lock at all, whoever left it behind.
    pub fn adopt_left_behind(
        &mut self,
        session: SessionId,
        request: u64,
        call: &AdoptCall,
        key: SurvivorKey,
    ) -> Result<(), Refusal> {
        self.may_come(session, call.space)?;
        let compat = self.spaces.compat(call.space);
        let flags = call.flags.without(Flags::SURVIVE);
        admit_adopt(compat, call.mode, flags).map_err(invalid)?;
        if self.is_handle_used(session, call.handle) {
            return Err(Refusal::HandleInUse);
        }
        let adopting = self.surviving.adopting.values();
        let under_way = adopting.filter(|a| a.session == session).count() as u64;
        self.quotas.check(session, 1 + under_way, Flags::NOQUEUE)?;
        let lock = LockId(self.next_lock);
        self.next_lock += 1;
        let process = self.deadlocks.process(session);
        let owner = SurvivorOwner {
            uid: process.uid,
            pid: process.pid,
            blocking: call.blocking,
        };
        let adopting = Adopting {
            session,
            request,
            handle: call.handle,
            blocking: call.blocking,
        };
        self.surviving.adopting.insert(lock, adopting);
        let step = SurvivorStep::Adopt { key, lock, owner };
        self.out.push(Out::Survive(step));
        Ok(())
    }

    /// All surviving locks of the cluster, as a snapshot has them; before this node's first view.
    pub fn know_survivors(&mut self, all: impl IntoIterator<Item = Survivor>, changes: u64) {
        self.surviving.records.clear();
        self.surviving.by_resource.clear();
        self.surviving.changes = changes;
        for survivor in all {
            self.surviving.enter(survivor);
        }
    }

    /// The log has decided about a step, which this node asked for if `mine` says what it was.
    pub fn survivor_decided(
        &mut self,
        now: Instant,
        mine: Option<&SurvivorStep>,
        done: &SurvivorDone,
    ) {
        match done {
            SurvivorDone::Kept(survivor) => {
                self.surviving.enter(survivor.clone());
                self.surviving.changes += 1;
                if mine.is_some() {
                    self.recorded(now, survivor.key.lock);
                }
            }
            SurvivorDone::Released(survivor) => {
                let key = key_of(survivor.key);
                self.surviving.changes += 1;
                if let Some(id) = self.surviving.strike(key) {
                    self.surviving.releases.push((id, key));
                }
                self.note_ghost(key);
                if self.is_me(key.life()) {
                    self.taken_out(now, key.lock);
                }
                self.release_survivors(now);
            }
            SurvivorDone::Adopted {
                from,
                left_by,
                now: survivor,
            } => {
                let old = key_of(*from);
                self.is_known_as(old, survivor);
                if mine.is_some() {
                    self.take_adopted(now, survivor, *left_by);
                }
                if !Mutant::AdoptedUnderOldKey.active() {
                    self.rekey(now, survivor, old);
                }
            }
            SurvivorDone::Ceded {
                from,
                now: survivor,
            } => {
                let old = key_of(*from);
                self.is_known_as(old, survivor);
                if self.is_me(old.life()) {
                    self.ceded_by_log(now, old.lock);
                }
                if self.is_me(key_of(survivor.key).life()) {
                    self.take_ceded(now, survivor);
                }
                self.rekey(now, survivor, old);
            }
            SurvivorDone::Owned(survivor) => {
                self.surviving.changes += 1;
                self.surviving.enter(survivor.clone());
                let key = key_of(survivor.key);
                self.rekey(now, survivor, key);
            }
            SurvivorDone::NoRoom | SurvivorDone::NotThere => match mine {
                Some(SurvivorStep::Keep { lock, .. }) => self.not_recorded(now, *lock),
                Some(SurvivorStep::Cede { lock, .. }) => self.not_ceded_by_log(now, *lock),
                Some(SurvivorStep::Adopt { lock, .. }) => {
                    self.surviving.notices.remove(lock);
                    if let Some(adopting) = self.surviving.adopting.remove(lock) {
                        let (session, request) = (adopting.session, adopting.request);
                        self.done(session, request, Err(Refusal::NoSuchOrphan));
                    }
                }
                _ => {}
            },
        }
    }

    /// The log has a lock of this node: its client may know.
    fn recorded(&mut self, now: Instant, lock: LockId) {
        self.surviving.recording.remove(&lock);
        let Some(owned) = self.locks.get_mut(&lock) else {
            let key = self.survivor_key(lock);
            return self.out.push(Out::Survive(SurvivorStep::Release { key }));
        };
        owned.recorded = true;
        let Pending::Recording { mode, flags } = owned.pending else {
            return;
        };
        owned.pending = Pending::Request { mode, flags };
        let (held, token) = (owned.granted.unwrap_or(mode), owned.token);
        if !self.sessions.contains_key(&owned.session) && !self.orphans.is_ending(lock) {
            if self.orphans.closed {
                return self.erase(now, lock); // It stays behind, as all others.
            }
            if owned.pending.may_wait() {
                self.quotas.wait_ends(owned.session);
            }
            return self.take_out(now, lock, Going::Dropped);
        }
        let granted = Granted {
            mode: held,
            token,
            value: None,
        };
        self.finish(now, lock, Ok(Answer::Granted(granted)), false);
        if let Some(mode) = self.surviving.notices.remove(&lock) {
            self.on_blocking(now, lock, mode);
        }
        self.tree_settles(now, lock);
    }

    /// The log has no room for a lock of this node.
    fn not_recorded(&mut self, now: Instant, lock: LockId) {
        let Some(owned) = self.locks.get_mut(&lock) else {
            return;
        };
        let Pending::Recording { mode, flags } = owned.pending else {
            return;
        };
        owned.pending = Pending::Request { mode, flags };
        owned.sent = true;
        self.ending_is_nothing(lock);
        let text = "the cluster, or this user, has as many locks that survive their nodes as may be, or \
                    lockspaces and such locks leave no room for another; `mainstay orphans purge` releases \
                    those that nodes have left behind";
        let why = Refusal::Limit(text.to_owned());
        self.finish(now, lock, Err(why), true);
    }

    /// The log has released a lock of this node.
    fn taken_out(&mut self, now: Instant, lock: LockId) {
        let Some(owned) = self.locks.get_mut(&lock) else {
            return;
        };
        owned.recorded = false;
        let held = owned.granted;
        match self.surviving.going.remove(&lock) {
            Some(Going::Unlocked) => {
                let answer = Answer::Unlocked { version: None };
                return self.finish(now, lock, Ok(answer), false);
            }
            Some(Going::Purged { expired }) => self.orphan_taken_out(now, lock, expired),
            Some(Going::Dropped) | None => self.note(now, Op::Dropped, lock, held),
        }
        self.erase(now, lock);
    }

    /// A record has another key from now on.
    fn is_known_as(&mut self, old: Key, survivor: &Survivor) {
        self.surviving.changes += 1;
        self.surviving.strike(old);
        self.surviving.enter(survivor.clone());
        self.note_ghost(old);
    }

    /// A client of this node has what another node left behind.
    fn take_adopted(&mut self, now: Instant, survivor: &Survivor, left_by: SurvivorOwner) {
        if let Some(adopting) = self.surviving.adopting.remove(&survivor.key.lock) {
            self.take_over(now, survivor, adopting, (left_by, survivor.owner.pid));
        }
    }

    /// Another member has ceded a lock to this node. If nobody waits for it, it is as it was there.
    fn take_ceded(&mut self, now: Instant, survivor: &Survivor) {
        let lock = survivor.key.lock;
        let Some((session, request, call, process)) = self.searched(lock) else {
            self.surviving.notices.remove(&lock);
            if self.locks.contains(&lock) {
                return; // Nobody was asked for that. It stays behind when this life ends.
            }
            self.put_survivor(now, survivor, SessionId(0), Handle(0));
            return match self.orphans.closed {
                true => self.erase(now, lock), // It stays behind, as all others.
                false => self.orphan(now, lock, Arc::new(process_of(survivor.owner))),
            };
        };
        let adopting = Adopting {
            session,
            request,
            handle: call.handle,
            blocking: call.blocking,
        };
        self.take_over(now, survivor, adopting, (survivor.owner, process.pid));
        self.record_owner(lock);
    }

    /// This node has a lock of which the log tells.
    fn put_survivor(
        &mut self,
        now: Instant,
        survivor: &Survivor,
        session: SessionId,
        handle: Handle,
    ) {
        let lock = survivor.key.lock;
        let id = resource_of(survivor);
        let (place, new) = self.resources.place_or_new(&id);
        self.resources.add_lock(place, lock);
        let held = (survivor.mode, survivor.token);
        let owned = Owned::adopted(session, handle, place, held, now);
        self.locks.insert(lock, owned);
        // Whatever becomes of it here, it counts until it goes.
        self.quotas.locks_come(session, 1);
        if new {
            self.look_up(now, &id);
        }
    }

    /// A client of this node has what a process left behind: who that was, and who has it.
    fn take_over(
        &mut self,
        now: Instant,
        survivor: &Survivor,
        adopting: Adopting,
        (left_by, by): (SurvivorOwner, u32),
    ) {
        let lock = survivor.key.lock;
        let Adopting {
            session,
            request,
            handle,
            blocking,
        } = adopting;
        self.out.push(Out::Orphan {
            resource: resource_of(survivor),
            mode: survivor.mode,
            process: process_of(left_by),
            fate: OrphanFate::Adopted { by },
            expired: false,
        });
        self.put_survivor(now, survivor, session, handle);
        let free = !self.sets.has_handle(session, handle);
        let handles = self.sessions.get_mut(&session).filter(|_| free);
        let Some(handles) = handles.filter(|handles| !handles.contains(&handle)) else {
            // It came too late for who asked.
            self.surviving.notices.remove(&lock);
            self.done(session, request, Err(Refusal::HandleInUse));
            if self.orphans.closed {
                return self.erase(now, lock); // It stays behind, as all others.
            }
            return self.orphan(now, lock, Arc::new(process_of(survivor.owner)));
        };
        handles.insert(handle, lock);
        if let Some(owned) = self.locks.get_mut(&lock) {
            owned.blocking = blocking;
        }
        self.owners.add(lock, session, self.owners.chosen(session));
        self.note(now, Op::Adopted, lock, Some(survivor.mode));
        let granted = Granted {
            mode: survivor.mode,
            token: survivor.token,
            value: None,
        };
        self.done(session, request, Ok(Answer::Granted(granted)));
        if let Some(mode) = self.surviving.notices.remove(&lock) {
            self.on_blocking(now, lock, mode);
        }
        self.owner_stirs(now, self.owner_of(lock, session));
    }

    /// If a lock is mastered here, it has another owner from now on.
    fn rekey(&mut self, now: Instant, survivor: &Survivor, from: Key) {
        let (id, to) = (resource_of(survivor), key_of(survivor.key));
        let Some(place) = self.resources.place(&id) else {
            return;
        };
        let Some(master) = self.resources.get_mut(place).master() else {
            return;
        };
        let mut effects = std::mem::take(&mut self.effects);
        let engine = &mut master.engine;
        let known = engine.rekey(from, to, survivor.owner.blocking, &mut effects);
        if known && from != to {
            let (mode, token) = (Some(survivor.mode), survivor.token);
            self.note_at_master(now, Op::Purged, place, from, None, token);
            self.note_at_master(now, Op::Restated, place, to, mode, token);
        }
        self.deliver(now, place, effects);
    }

    /// The locks of one life are another's, by the log.
    pub(crate) fn rename_survivors(&mut self, from: Life, to: Life) {
        let surviving = &mut self.surviving;
        let renamed = |key: Key| match key.life() == from {
            true => Key::of(to, key.lock),
            false => key,
        };
        let keys: Vec<Key> = surviving.records.keys().copied().collect();
        for key in keys.into_iter().filter(|key| key.life() == from) {
            if let Some(mut survivor) = surviving.records.get(&key).cloned() {
                surviving.strike(key);
                survivor.key.incarnation = to.1;
                surviving.enter(survivor);
            }
        }
        for (_, key) in &mut surviving.releases {
            *key = renamed(*key);
        }
        surviving.ghosts = surviving.ghosts.iter().map(|key| renamed(*key)).collect();
    }

    /// This life goes on with another's locks. Those that the log has, and that were left to no session, are
    /// orphans.
    pub(crate) fn inherit_survivors(&mut self, now: Instant) {
        let own = self.surviving.records.values();
        let own = own.filter(|s| self.is_me((s.key.node, s.key.incarnation)));
        let left = own.filter(|s| !self.locks.contains(&s.key.lock));
        for survivor in left.cloned().collect::<Vec<_>>() {
            let lock = survivor.key.lock;
            self.put_survivor(now, &survivor, SessionId(0), Handle(0));
            // This node may have known it as the former life's, with that token.
            for op in [Op::Adopted, Op::Restated] {
                self.note(now, op, lock, Some(survivor.mode));
            }
            let process = process_of(survivor.owner);
            self.orphan(now, lock, Arc::new(process));
        }
    }

    fn note_ghost(&mut self, key: Key) {
        if self.rebuilds_unfinished() {
            self.surviving.ghosts.insert(key);
        }
    }

    /// When all is rebuilt, nobody restates what is gone any more.
    pub(crate) fn lay_ghosts(&mut self) {
        if !self.rebuilds_unfinished() {
            self.surviving.ghosts.clear();
        }
    }

    /// This node has just come to master a resource that nobody mastered: some locks on it may have
    /// survived their nodes, and their masters.
    pub(crate) fn install_survivors(&mut self, now: Instant, place: Place) {
        let id = &self.resources.peek(place).id;
        if !self.surviving.by_resource.contains_key(id) {
            return;
        }
        for (key, survivor) in self.surviving.on(id) {
            let (mode, token) = (survivor.mode, survivor.token);
            if let Some(master) = self.resources.get_mut(place).master() {
                master
                    .engine
                    .install(key, mode, token, survivor.owner.blocking);
            }
            self.note_at_master(now, Op::Restated, place, key, Some(mode), token);
        }
    }

    /// This node has rebuilt a resource from what owners know: it adds what the log knows.
    pub(crate) fn restate_survivors(&mut self, now: Instant, place: Place) {
        let id = &self.resources.peek(place).id;
        if !self.surviving.by_resource.contains_key(id) {
            return;
        }
        for (key, survivor) in self.surviving.on(id) {
            let (mode, token) = (survivor.mode, survivor.token);
            let Some(master) = self.resources.get_mut(place).master() else {
                return;
            };
            if master.engine.restated().any(|(known, _)| known == key) {
                continue;
            }
            let lock = Restated {
                granted: Some((mode, token)),
                wants_bast: survivor.owner.blocking,
                ..Restated::default()
            };
            master.engine.restate(key, lock);
            self.note_at_master(now, Op::Restated, place, key, Some(mode), token);
        }
    }

    /// Releases what the log has released, where this node masters it and may decide.
    pub(crate) fn release_survivors(&mut self, now: Instant) {
        for (id, key) in std::mem::take(&mut self.surviving.releases) {
            let Some(place) = self.resources.place(&id) else {
                continue;
            };
            let active = self.active;
            let State::Mine(master) = &mut self.resources.get_mut(place).state else {
                continue;
            };
            if !master.decides() || !active {
                self.surviving.releases.push((id, key));
                continue;
            }
            let mut effects = std::mem::take(&mut self.effects);
            let known = master.engine.force_unlock(key, false, &mut effects);
            // Its owner, if there is one, hears it from the log.
            effects.retain(|e| !matches!(e, Effect::Unlocked { key: k, .. } if *k == key));
            if known {
                self.note_at_master(
                    now,
                    Op::Dropped,
                    place,
                    key,
                    None,
                    mainstay_base::Token::NONE,
                );
            }
            self.deliver(now, place, effects);
            self.note_news(place);
            self.note_idle(now, place);
        }
    }
}
