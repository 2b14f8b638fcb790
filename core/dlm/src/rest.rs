//! Locks that stay while their node is started anew (`docs/protocol/restart.md`).
//!
//! To the others a life that rests is one that has vanished and is not proved harmless yet, but for what it
//! mastered: that it has handed over, with its own locks on it, so they rebuild it at once.

use crate::{
    Dlm, Life, Out,
    master::Key,
    names::Place,
    recovery::restate_lock,
    table::{Owned, Pending, State},
};
use core::time::Duration;
use mainstay_base::{Instant, LockId, Mutant, NodeId, SessionId, Token};
use mainstay_membership::directory_node;
use mainstay_recorder::Op;
use mainstay_wire::{
    carry::{Carried, CarriedLock, CarriedSession},
    client::Handle,
    deadlock::OwnerId,
    dlm::{Body, ResourceId, RestatedLock, RestatedRanges},
    event::Reason,
};
use std::collections::BTreeMap;

/// What is kept for lives that rest, or did.
#[derive(Debug, Default)]
pub(crate) struct Rests {
    /// Own locks of lives that are about to rest, on what they master and this node will rebuild.
    carried: BTreeMap<(Life, ResourceId), Handed>,
    /// Lives whose locks are another's now.
    resumed: BTreeMap<Life, Life>,
    /// For the view that is installed next.
    next: Option<(Life, Life)>,
}

/// What a life that is about to rest has on one resource.
#[derive(Debug, Default)]
struct Handed {
    locks: Vec<RestatedLock>,
    /// Parts of locks on ranges.
    ranges: Vec<(LockId, RestatedRanges)>,
}

impl Dlm {
    /// This node is about to rest: as [`Dlm::begin_leave`], but the locks of those clients that still have a
    /// session stay.
    pub fn begin_rest(&mut self, now: Instant) {
        self.rests_here = true;
        self.begin_leave(now);
    }

    /// Takes a call back that waits, unless its client or its time limit has done so. Whether it will end as
    /// cancelled, or as granted if that came first; the cancelling ends as `request`.
    pub fn take_back(
        &mut self,
        now: Instant,
        session: SessionId,
        request: u64,
        handle: Handle,
    ) -> bool {
        let owned = self.find(session, handle);
        let owned = owned.and_then(|lock| self.locks.get(&lock));
        let waits = owned.is_some_and(|owned| {
            let called = matches!(
                owned.pending,
                Pending::Request { .. } | Pending::Convert { .. } | Pending::Range(_)
            );
            called && owned.cancel.is_none() && !owned.timed_out
        });
        if waits {
            self.cancel(now, session, request, handle);
        }
        waits
    }

    /// Whether a session has nothing under way, and all that it has can be left to the next life.
    #[must_use]
    pub fn is_calm(&self, session: SessionId) -> bool {
        let handles = self.sessions.get(&session);
        let mut locks = handles.into_iter().flat_map(|handles| handles.sorted());
        let calm = |(_, lock): (&Handle, &LockId)| {
            let owned = self.locks.get(lock);
            owned.is_some_and(|owned| {
                owned.pending == Pending::None
                    && owned.granted.is_some()
                    && !owned.watch_unsaid
                    && !owned.adoption_unsaid
                    && !self.trees.is_ending(*lock)
                    && !self.sets.has_handle(session, owned.handle)
            })
        };
        locks.all(calm) && self.sets.handles_of(session).is_empty()
    }

    /// What a session leaves to the next life: those of its locks that can be left, its deadlock priority and
    /// for whom it asks. For sessions that are [calm](Dlm::is_calm).
    #[must_use]
    pub fn carry(&self, session: SessionId) -> (Vec<CarriedLock>, u8, Option<OwnerId>) {
        let handles = self.sessions.get(&session);
        let locks = handles.into_iter().flat_map(|handles| handles.sorted());
        let locks = locks.filter_map(|(_, lock)| self.carry_lock(*lock));
        let mut locks: Vec<CarriedLock> = locks.collect();
        locks.sort_by_key(|lock| lock.lock);
        let priority = self.deadlocks.priority(session);
        (locks, priority, self.owners.chosen(session))
    }

    fn carry_lock(&self, lock: LockId) -> Option<CarriedLock> {
        let owned = self.locks.get(&lock)?;
        let resource = self.resources.look(owned.place)?;
        let master = match &resource.state {
            // Whoever masters that knows it from the log.
            _ if owned.recorded => None,
            State::At(master) | State::Moving(master) => Some(*master),
            State::Mine(_) => Some(self.heir(&resource.id)?),
            // There is nobody who could say whether it is held.
            State::LookingUp | State::Forgetting | State::Lost(_) => return None,
        };
        Some(CarriedLock {
            lock,
            handle: owned.handle,
            resource: resource.id.clone(),
            master,
            mode: owned.granted?,
            ranges: self.held_ranges(lock),
            token: owned.token,
            blocking: owned.blocking,
            valblk: owned.valblk,
            yields: owned.yields,
            persistent: owned.persistent,
            value: owned.value.as_deref().cloned(),
            unsure: owned.unsure,
            watches: owned.watches,
            parent: self.trees.parent(lock),
            owner: self.owners.named(lock),
            response: self.promises.of(lock),
        })
    }

    /// Who rebuilds what this node masters, when it is gone.
    fn heir(&self, resource: &ResourceId) -> Option<NodeId> {
        directory_node(&self.others(), resource.space, &resource.name)
    }

    /// How many locks its clients have.
    #[must_use]
    pub fn lock_count(&self) -> usize {
        self.locks.len()
    }

    /// The next number of a lock.
    #[must_use]
    pub fn next_lock(&self) -> u64 {
        self.next_lock
    }

    /// The other members, and since when they are the members.
    #[must_use]
    pub fn other_members(&self) -> (mainstay_base::Epoch, Vec<Life>) {
        let members = self.view.members.iter();
        let lives = members.map(|m| (m.node, m.incarnation));
        let others = lives.filter(|life| life.0 != self.me).collect();
        (self.members_epoch, others)
    }

    /// Locks of this life get no number below this one: an earlier life has locks with those.
    pub fn number_locks_from(&mut self, next: u64) {
        self.next_lock = self.next_lock.max(next);
    }

    /// Hands own locks on what this node masters to the nodes that will rebuild it.
    pub(crate) fn hand_over_locks(&mut self) {
        if !self.rests_here || Mutant::RestNotHandedOver.active() {
            return;
        }
        let (node, incarnation) = self.my_life();
        let mut handed = Vec::new();
        for entry in self.resources.iter() {
            let (State::Mine(_), Some(heir)) = (&entry.state, self.heir(&entry.id)) else {
                continue;
            };
            if self.moves.may_give(&entry.id) {
                continue; // The log decides who masters that.
            }
            // What goes on waits for nothing; the end of others would not be heard of.
            let own = entry.locks.iter();
            let own = own.filter_map(|lock| Some((*lock, self.locks.get(lock)?)));
            let own = own.filter(|(_, owned)| owned.pending == Pending::None);
            let mut whole = Vec::new();
            for (lock, owned) in own {
                let parts = self.restated_ranges(lock);
                if parts.is_empty() {
                    whole.extend(restate_lock(lock, owned));
                }
                handed.extend(parts.into_iter().map(|ranges| {
                    let body = Body::RestateRanges {
                        node,
                        incarnation,
                        resource: entry.id.clone(),
                        lock,
                        ranges,
                    };
                    (heir, body)
                }));
            }
            for locks in crate::recovery::in_messages(whole) {
                let body = Body::Restate {
                    node,
                    incarnation,
                    resource: entry.id.clone(),
                    locks,
                };
                handed.push((heir, body));
            }
        }
        for (heir, body) in handed {
            self.send(heir, body);
        }
    }

    /// A life that is about to rest says what it has on something that it masters itself.
    pub(crate) fn on_carried(
        &mut self,
        from: Life,
        resource: ResourceId,
        mut locks: Vec<RestatedLock>,
    ) {
        let known = self.rests.carried.entry((from, resource)).or_default();
        known.locks.append(&mut locks);
    }

    /// The same of a lock on ranges.
    pub(crate) fn on_carried_ranges(
        &mut self,
        from: Life,
        resource: ResourceId,
        lock: LockId,
        ranges: RestatedRanges,
    ) {
        // What goes on waits for nothing.
        let ranges = RestatedRanges {
            ask: None,
            ticket: None,
            ..ranges
        };
        let known = self.rests.carried.entry((from, resource)).or_default();
        known.ranges.push((lock, ranges));
    }

    /// The members have changed: those that are about to rest hand over anew.
    pub(crate) fn forget_carried(&mut self) {
        let view = &self.view;
        let is_member = |life: Life| view.has_incarnation(life.0, life.1);
        self.rests.carried.retain(|(life, _), _| !is_member(*life));
    }

    /// What a life that rests has on what it mastered is as if it had been restated; that of one that is
    /// gone for another reason does not count.
    pub(crate) fn take_carried(&mut self, now: Instant, life: Life, rested: bool) {
        let carried = std::mem::take(&mut self.rests.carried);
        for ((from, resource), handed) in carried {
            if from != life {
                self.rests.carried.insert((from, resource), handed);
            } else if rested {
                for (lock, ranges) in handed.ranges {
                    self.on_restate_ranges(now, life, life, &resource, lock, ranges);
                }
                if !handed.locks.is_empty() {
                    self.on_restate(now, life, life, resource, handed.locks);
                }
            }
        }
    }

    /// Whether a life rests.
    pub(crate) fn is_resting(&self, life: Life) -> bool {
        let mut pending = self.view.pending.iter();
        pending.any(|p| (p.node, p.incarnation) == life && p.reason == Reason::Rests)
    }

    /// As which a lock is known now that was known by that key before a life rested, or is still.
    pub(crate) fn as_known_now(&self, key: Key) -> Key {
        match self.rests.resumed.get(&key.life()) {
            Some(life) => Key::of(*life, key.lock),
            None => key,
        }
    }

    /// With the view that is installed next, the locks of `from` are those of `to`.
    pub fn resumes(&mut self, from: Life, to: Life) {
        match self.life {
            Some(_) => self.rests.next = Some((from, to)),
            // It has nothing else of anybody's, and the next view may be none of its.
            None => self.rename_survivors(from, to),
        }
    }

    /// As [`Dlm::resumes`] said, at the moment at which the view is in force.
    pub(crate) fn begin_resuming(&mut self) -> Option<(Life, Life)> {
        let view = &self.view;
        let lives = view.members.iter().map(|m| (m.node, m.incarnation));
        let lives = lives.chain(view.pending.iter().map(|p| (p.node, p.incarnation)));
        let next = self.rests.next.take();
        let lives: Vec<Life> = lives.chain(next.map(|(from, _)| from)).collect();
        self.rests.resumed.retain(|_, to| lives.contains(to));
        let (from, to) = next?;
        for known in self.rests.resumed.values_mut() {
            if *known == from {
                *known = to;
            }
        }
        self.rests.resumed.insert(from, to);
        self.deferred.rename(from, to);
        self.rename_survivors(from, to);
        for departure in self.departed.values_mut() {
            if let Some(rebuild) = &mut departure.rebuild {
                rebuild.rename(from, to);
            }
        }
        // What it mastered may still be rebuilt here; otherwise nothing is left of it.
        if self
            .departed
            .get(&from)
            .is_some_and(|d| d.rebuild.is_none())
        {
            self.departed.remove(&from);
        }
        Some((from, to))
    }

    /// The members have changed since locks got other owners: those are told what they may have missed.
    pub(crate) fn greet_resumed(&mut self, now: Instant, place: Place, from: Life, life: Life) {
        let Some(master) = self.resources.find_mut(place).and_then(|r| r.master()) else {
            return;
        };
        let engine = &mut master.engine;
        let held = engine.granted().chain(engine.converting());
        let held = held.map(|view| (view.key, view.granted));
        let restated = engine.restated().map(|(key, lock)| (key, lock.granted));
        let held = held.chain(restated).filter(|(key, _)| key.life() == life);
        let held: Vec<_> = held.collect();
        let ranges = engine.ranges();
        let ranged = ranges.is_some_and(|r| r.owners().any(|(key, _)| key.life() == life));
        if held.is_empty() && !ranged {
            return;
        }
        let mut effects = Vec::new();
        if master.rebuilding.is_none() {
            master.engine.greet_renamed(&mut effects);
        }
        for (key, granted) in held {
            if let Some((mode, token)) = granted {
                let before = Key::of(from, key.lock);
                self.note_at_master(now, Op::Purged, place, before, None, Token::NONE);
                self.note_at_master(now, Op::Restated, place, key, Some(mode), token);
            }
        }
        self.deliver(now, place, effects);
        self.note_news(place);
    }

    /// A resource is used before its turn to be looked through has come.
    pub(crate) fn greet_early(&mut self, now: Instant, place: Place) {
        if self.catching_up()
            && let Some((from, life)) = self.resources.resumed()
        {
            self.greet_resumed(now, place, from, life);
        }
    }

    /// This life goes on with the sessions of one that rested. Must follow the view in which it does.
    pub fn take_up(&mut self, now: Instant, carried: &Carried) {
        self.work_off(now);
        for session in &carried.sessions {
            self.take_session(now, carried, session);
        }
        self.inherit_survivors(now);
        for session in &carried.sessions {
            for lock in &session.locks {
                self.greet_own(now, lock);
            }
        }
    }

    /// Where this node masters what a lock of the life before is on, it may have told of waiters too soon.
    fn greet_own(&mut self, now: Instant, lock: &CarriedLock) {
        let key = Key::of(self.my_life(), lock.lock);
        let Some(place) = self.locks.get(&lock.lock).map(|owned| owned.place) else {
            return;
        };
        let master = self.resources.get_mut(place).master();
        let Some(master) = master.filter(|master| master.rebuilding.is_none()) else {
            return;
        };
        let mut effects = Vec::new();
        master.engine.adopted(key, lock.blocking, &mut effects);
        self.deliver(now, place, effects);
    }

    fn take_session(&mut self, now: Instant, carried: &Carried, session: &CarriedSession) {
        let number = session.session;
        self.set_deadlock_priority(number, session.priority);
        self.owners.choose(number, session.chosen);
        for lock in &session.locks {
            let masters = carried.members.iter();
            let master = lock
                .master
                .map(|node| masters.copied().find(|life| life.0 == node));
            match master {
                Some(None) => return self.out.push(unknown_master(lock)),
                master => self.take_lock(now, number, lock, master.flatten()),
            }
        }
    }

    fn take_lock(
        &mut self,
        now: Instant,
        session: SessionId,
        lock: &CarriedLock,
        master: Option<Life>,
    ) {
        let number = lock.lock;
        self.quotas.locks_come(session, 1);
        let (place, new) = self.resources.place_or_new(&lock.resource);
        self.resources.add_lock(place, number);
        if let Some(handles) = self.sessions.get_mut(&session) {
            handles.insert(lock.handle, number);
        }
        self.locks.insert(
            number,
            Owned {
                blocking: lock.blocking,
                valblk: lock.valblk,
                yields: lock.yields,
                persistent: lock.persistent,
                recorded: master.is_none(),
                value: lock.value.clone().map(Box::new),
                unsure: lock.unsure,
                watches: lock.watches,
                ..Owned::held(session, lock.handle, place, (lock.mode, lock.token), now)
            },
        );
        self.is_beneath(number, lock.parent);
        self.owners.add(number, session, lock.owner);
        if let Some((within_ms, release)) = lock.response {
            let within = Duration::from_millis(within_ms.into());
            self.promises.add(number, within, release);
        }
        self.note_exclusive(number);
        for &(range, mode, token) in &lock.ranges {
            let set = self.ranges.get_or_insert_with(number, Default::default);
            set.set(range, mode, token);
        }
        let op = match lock.ranges.is_empty() {
            true => Op::Granted,
            false => Op::Ranged,
        };
        self.note(now, op, number, Some(lock.mode));
        let Some(master) = master else {
            if new {
                self.look_up(now, &lock.resource);
            }
            return;
        };
        let unknown = matches!(self.resources.get(place).state, State::LookingUp);
        if !unknown {
            return; // This life has locks there, too, and knows as much.
        }
        if self.is_member(master) && master.0 != self.me {
            match new {
                true => {
                    self.resources.set_state(place, State::At(master.0));
                }
                false => self.change_master(now, place, master.0),
            }
        } else if let Some(departure) = self.departed.get_mut(&master)
            && departure.rebuild.is_none()
        {
            departure.lost.push(place);
            let dead = crate::PackedLife::of(master);
            self.resources.set_state(place, State::Lost(dead));
        } else {
            self.out.push(unknown_master(lock));
        }
    }
}

/// The log ends a rest before it lets anybody be rebuilt, so this cannot be.
fn unknown_master(lock: &CarriedLock) -> Out {
    Out::Fatal(format!(
        "a lock on {} is to go on whose master is gone",
        lock.resource.name
    ))
}
