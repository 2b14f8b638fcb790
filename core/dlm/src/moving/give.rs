//! The master's side of a move.

use super::{
    Dropped, MESSAGE_BYTES, Move,
    heat::Stage,
    trees::{Load, Loading},
};
use crate::{
    Dlm, Out,
    names::Place,
    table::{Resource, State},
};
use core::time::Duration;
use mainstay_base::{Instant, LockId, Mutant, NodeId};
use mainstay_lock::MovedLock as EngineLock;
use mainstay_wire::dlm::{Body, MovedLock, MovedResource, ResourceId};
use std::collections::{BTreeMap, BTreeSet};

/// Most resources in one batch.
pub(super) const BATCH_MAX: usize = 4096;
/// Most locks in one batch, but for one resource alone.
pub(super) const BATCH_LOCKS_MAX: usize = 1 << 16;
/// Most locks of a resource in one message.
const LOCKS_PER_MESSAGE: usize = 1024;
/// Bytes of a lock in a message at most, and of a resource beside its name, its value and its locks.
const LOCK_BYTES: usize = 64;
/// Most resources that are remembered as better off elsewhere.
const HOT_MAX: usize = 1 << 16;
/// How long the others may take to agree and to hear. Calls on what moves wait meanwhile.
const PATIENCE: Duration = Duration::from_millis(100);
/// For how long a node that did not take anything is not asked again, and how long this one waits
/// after calling a batch off.
const SULK: Duration = Duration::from_secs(2);

/// A batch that this node gives away.
#[derive(Debug)]
pub(super) struct Giving {
    batch: Move,
    names: Vec<ResourceId>,
    /// Members that have not answered yet.
    awaited: BTreeSet<NodeId>,
    phase: Phase,
    dropped: Vec<Dropped>,
    /// How often anything about surviving locks had changed when the next master was sent what there is.
    survivors: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Asking {
        until: Instant,
    },
    Handing {
        until: Instant,
    },
    /// The log decides.
    Proposed,
}

impl Giving {
    /// Whether a resource goes to another node, if nothing comes between.
    pub(crate) fn takes_away(&self, resource: &ResourceId) -> bool {
        self.names.contains(resource)
    }

    /// Whether a resource goes to a node.
    pub(super) fn gives(&self, resource: &ResourceId, to: NodeId) -> bool {
        self.batch.to.0 == to && self.names.contains(resource)
    }

    /// When it is called off.
    pub(super) fn give_up_at(&self) -> Option<Instant> {
        match self.phase {
            Phase::Asking { until } | Phase::Handing { until } => Some(until),
            Phase::Proposed => None,
        }
    }
}

impl Dlm {
    /// Counts a call on a resource mastered here.
    pub(crate) fn count_call(&mut self, place: Place, by: NodeId) {
        let moves = &self.moves;
        if !moves.config.moves || self.ids.len() < 2 {
            return;
        }
        let Some(place) = self.counted_at(place) else {
            return;
        };
        let moves = &mut self.moves;
        let Some(master) = self.resources.get_mut(place).master() else {
            return;
        };
        if master.heat.count(&moves.config, self.me, by) && moves.hot.len() < HOT_MAX {
            master.heat.listed = true;
            moves.hot.push(place);
        }
    }

    /// Begins a batch, or calls one off that takes too long.
    pub(crate) fn pursue_moves(&mut self, now: Instant) {
        let moves = &mut self.moves;
        if let Some(giving) = &moves.giving {
            if giving.give_up_at().is_some_and(|at| at <= now) {
                self.call_off(now);
            }
        } else if moves.has_wishes() && moves.next_at <= now {
            moves.next_at = now + moves.config.rest;
            let ready = self.active && !self.leaving && self.settled && !self.catching_up();
            if ready && self.all_registered() && self.all_is_settled() {
                self.begin_move(now);
            }
        }
    }

    fn begin_move(&mut self, now: Instant) {
        self.moves.unwilling.retain(|_, until| *until > now);
        let mut by_target: BTreeMap<NodeId, Vec<Place>> = BTreeMap::new();
        let mut later = Vec::new();
        for place in std::mem::take(&mut self.moves.hot) {
            // The place may be another resource's by now, or of another master.
            let Some(master) = self.resources.find_mut(place).and_then(Resource::master) else {
                continue;
            };
            let Some(to) = master.heat.better(&self.moves.config) else {
                master.heat.listed = false;
                continue;
            };
            let ranged = master.is_ranged(); // Such resources stay.
            if !self.ids.contains(&to) || to == self.me || ranged {
                master.heat.cool();
            } else if master.heat.rests(&self.moves.config, now)
                || self.moves.unwilling.contains_key(&to)
            {
                later.push(place);
            } else {
                by_target.entry(to).or_default().push(place);
            }
        }
        self.list_astray(now, &mut by_target);
        let most = by_target.iter().max_by_key(|(_, places)| places.len());
        let most = most.map(|(to, _)| *to);
        let mut chosen = Vec::new();
        for (to, places) in by_target {
            match Some(to) == most {
                true => chosen = places,
                false => later.extend(places),
            }
        }
        let mut load = Load::default();
        for place in chosen {
            match self.load_tree(place, &mut load) {
                Loading::Done => {}
                Loading::Later => later.push(place),
                Loading::Stays => {
                    if let Some(master) = self.resources.get_mut(place).master() {
                        master.heat.cool();
                    }
                }
            }
        }
        let names = load.names;
        self.keep_wishes(later);
        let life = most.and_then(|to| self.view.member(to));
        let Some(to) = life.map(|member| (member.node, member.incarnation)) else {
            return;
        };
        if names.is_empty() {
            return;
        }
        self.moves.last_serial += 1;
        let batch = Move {
            from: self.my_life(),
            to,
            serial: self.moves.last_serial,
            members: self.members_epoch,
            count: u32::try_from(names.len()).unwrap_or(u32::MAX),
        };
        let others = self.others();
        for node in &others {
            self.send(
                *node,
                Body::MoveAsk {
                    serial: batch.serial,
                    members: batch.members,
                    to: to.0,
                    names: names.clone(),
                },
            );
        }
        self.moves.giving = Some(Giving {
            batch,
            names,
            awaited: others.into_iter().collect(),
            phase: Phase::Asking {
                until: now + PATIENCE,
            },
            dropped: Vec::new(),
            survivors: 0,
        });
    }

    /// A member says no more about what moves.
    pub(crate) fn on_move_agreed(&mut self, now: Instant, from: NodeId, serial: u64) {
        let Some(giving) = &mut self.moves.giving else {
            return;
        };
        if giving.batch.serial != serial || !matches!(giving.phase, Phase::Asking { .. }) {
            return;
        }
        giving.awaited.remove(&from);
        if giving.awaited.is_empty() || Mutant::MoveUnasked.active() {
            self.hand_on(now);
        }
    }

    /// All are silent: nothing is decided here any more, and the next master gets all there is.
    fn hand_on(&mut self, now: Instant) {
        if !self.active || self.leaving {
            return self.call_off(now);
        }
        self.release_survivors(now);
        let Some(mut giving) = self.moves.giving.take() else {
            return;
        };
        giving.survivors = self.surviving.changes();
        let (serial, to) = (giving.batch.serial, giving.batch.to.0);
        let mut parts: Vec<Vec<MovedResource>> = vec![Vec::new()];
        let mut bytes = 0;
        for name in &giving.names {
            let Some(resource) = self.freeze(name) else {
                continue;
            };
            let mut rest = resource.locks;
            loop {
                let after = rest.split_off(rest.len().min(LOCKS_PER_MESSAGE));
                let own = name.name.encoded_len() + resource.value.block.as_bytes().len();
                let more = own + LOCK_BYTES * (rest.len() + 1);
                bytes += more;
                if bytes > MESSAGE_BYTES {
                    bytes = more;
                    parts.push(Vec::new());
                }
                let part = MovedResource {
                    resource: resource.resource.clone(),
                    last: resource.last,
                    value: resource.value.clone(),
                    next_ticket: resource.next_ticket,
                    passed: resource.passed,
                    wrote: resource.wrote,
                    locks: rest,
                };
                parts.last_mut().expect("there is always one").push(part);
                rest = after;
                if rest.is_empty() {
                    break;
                }
            }
        }
        let last_part = parts.len() - 1;
        for (at, resources) in parts.into_iter().enumerate() {
            let last = at == last_part;
            self.send(
                to,
                Body::MoveState {
                    serial,
                    resources,
                    last,
                },
            );
        }
        let others = self.others();
        for node in others.iter().filter(|node| **node != to) {
            self.send(*node, Body::MoveHear { serial });
        }
        let until = now + PATIENCE;
        giving.awaited = others.into_iter().collect();
        giving.phase = Phase::Handing { until };
        if Mutant::MoveUnheard.active() {
            giving.awaited.retain(|node| *node == to);
        }
        self.moves.giving = Some(giving);
    }

    /// What there is of a resource, of which nothing is decided here from now on.
    fn freeze(&mut self, name: &ResourceId) -> Option<MovedResource> {
        let place = self.resources.place(name)?;
        let master = self.resources.get_mut(place).master()?;
        let moved = master.engine.moved()?;
        master.heat.stage = Stage::Frozen;
        let locks = moved.locks.iter().map(on_the_wire);
        Some(MovedResource {
            resource: name.clone(),
            last: moved.last_token,
            locks: locks.collect(),
            value: moved.value,
            next_ticket: moved.next_ticket.0,
            passed: moved.passed,
            wrote: moved.wrote,
        })
    }

    /// A member has heard all, or has all.
    pub(crate) fn on_move_ready(&mut self, from: NodeId, serial: u64) {
        let Some(giving) = &mut self.moves.giving else {
            return;
        };
        if giving.batch.serial != serial || !matches!(giving.phase, Phase::Handing { .. }) {
            return;
        }
        giving.awaited.remove(&from);
        if giving.awaited.is_empty() {
            giving.phase = Phase::Proposed;
            let batch = giving.batch;
            let survivors = giving.survivors;
            self.out.push(Out::Move(batch, survivors));
        }
    }

    /// A member does not agree: the next master does not want to be that, or somebody leaves.
    pub(crate) fn on_move_refused(&mut self, now: Instant, from: NodeId, serial: u64) {
        let giving = self.moves.giving.as_ref();
        let Some(giving) = giving.filter(|giving| giving.batch.serial == serial) else {
            return;
        };
        if giving.batch.to.0 == from {
            self.moves.unwilling.insert(from, now + SULK);
        }
        self.call_off(now);
    }

    /// Nothing comes of the batch, unless the log is deciding already.
    pub(crate) fn call_off(&mut self, now: Instant) {
        let giving = self.moves.giving.as_ref();
        if giving.is_none_or(|giving| giving.phase == Phase::Proposed) {
            return;
        }
        let serial = giving.map_or(0, |giving| giving.batch.serial);
        for node in self.others() {
            self.send(node, Body::MoveOff { serial });
        }
        self.moves.next_at = now + SULK;
        self.end_giving(now);
    }

    /// What was to be given stays.
    pub(super) fn end_giving(&mut self, now: Instant) {
        let Some(giving) = self.moves.giving.take() else {
            return;
        };
        for name in &giving.names {
            let Some(place) = self.resources.place(name) else {
                continue;
            };
            let Some(master) = self.resources.get_mut(place).master() else {
                continue;
            };
            master.heat.stage = Stage::Stays;
            self.mastered(now, place);
            self.cancel_again(now, place);
        }
        for dropped in giving.dropped {
            self.drop_again(now, dropped);
        }
        if self.leaving {
            // What stays after all the next master needs to know of.
            self.hand_over_locks();
        }
    }

    /// The log has decided about the batch.
    pub(super) fn given(&mut self, now: Instant, batch: &Move, done: bool) {
        let giving = self.moves.giving.as_ref();
        if giving.is_none_or(|giving| giving.batch.serial != batch.serial) {
            if done {
                let text = "the log moved resources that this node had not given away".to_owned();
                self.out.push(Out::Fatal(text));
            }
            return;
        }
        if !done {
            return self.end_giving(now);
        }
        let Some(giving) = self.moves.giving.take() else {
            return;
        };
        for name in &giving.names {
            let Some(place) = self.resources.place(name) else {
                continue;
            };
            self.change_master(now, place, batch.to.0);
            self.enter_move(now, name, batch.to.0);
        }
        for name in &giving.names {
            self.note_left_behind(name);
        }
        for dropped in giving.dropped {
            self.drop_again(now, dropped);
        }
    }

    /// Keeps back that a lock is gone, if the master of its resource is not to be told now. Whether
    /// it was kept back.
    pub(crate) fn keep_back_drop(&mut self, place: Place, lock: LockId, invalidate: bool) -> bool {
        let entry = self.resources.get(place);
        let dropped = |resource: &ResourceId| Dropped {
            resource: resource.clone(),
            lock,
            invalidate,
        };
        match &entry.state {
            State::Mine(master) if master.heat.stage == Stage::Frozen => {
                let dropped = dropped(&entry.id);
                let giving = self.moves.giving.as_mut();
                giving.expect("frozen by it").dropped.push(dropped);
                true
            }
            State::Moving(master) => {
                let (master, dropped) = (*master, dropped(&entry.id));
                let mut asked = self.moves.asked.iter_mut();
                let asked = asked.find(|((life, _), asked)| {
                    life.0 == master && asked.names.contains(&dropped.resource)
                });
                let (_, asked) = asked.expect("a resource is on the move only within a batch");
                asked.dropped.push(dropped);
                true
            }
            _ => false,
        }
    }

    /// Another node masters a resource from now on, in the state in which this one left it.
    pub(crate) fn change_master(&mut self, now: Instant, place: Place, to: NodeId) {
        let state = self.at(place, to);
        let entry = self.resources.set_state(place, state);
        let resource = entry.id.clone();
        entry.turned_away = false;
        // What others say to this node because they know of a later move is for when it is the master.
        if !self.moves.comes_to(&resource, self.me) {
            let held = std::mem::take(&mut self.resources.get_mut(place).held);
            self.bounce(&resource, held);
        }
        self.submit_all(now, place);
        self.cancel_again(now, place);
        self.note_idle(now, place);
    }

    /// That another node masters a resource; or that it does, and is about to give it away.
    pub(crate) fn at(&self, place: Place, master: NodeId) -> State {
        let id = &self.resources.peek(place).id;
        match self.moves.is_asked(id, master) {
            true => State::Moving(master),
            false => State::At(master),
        }
    }

    /// Tells the master of calls that were to be cancelled, and of who watches the value block, while it
    /// could not be told.
    pub(super) fn cancel_again(&mut self, now: Instant, place: Place) {
        for lock in self.resources.get(place).locks.clone() {
            self.watch_again(now, lock);
            self.adopted_again(now, lock);
            let Some(owned) = self.locks.get(&lock) else {
                continue;
            };
            let ends = owned.cancel.is_some() || owned.timed_out;
            if ends || self.deadlocks.is_condemned(lock) {
                self.cancel_pending(now, lock);
            }
        }
    }

    /// Tells the master of a lock that went while it could not be told.
    pub(super) fn drop_again(&mut self, now: Instant, dropped: Dropped) {
        let Dropped {
            resource,
            lock,
            invalidate,
        } = dropped;
        if let Some(place) = self.resources.place(&resource) {
            self.tell_master_dropped(now, place, lock, invalidate);
            self.note_idle(now, place);
        }
    }
}

fn on_the_wire(lock: &EngineLock<crate::master::Key>) -> MovedLock {
    let (node, incarnation) = lock.key.life();
    MovedLock {
        node,
        incarnation,
        lock: lock.key.lock,
        granted: lock.granted,
        pending: lock
            .pending
            .map(|(mode, flags, ticket)| (mode, flags, ticket.0)),
        patient: lock.patient,
        blocking: lock.wants_bast,
        blocking_next: lock.wants_bast_next,
        valblk: lock.valblk,
        told: lock.told,
        watches: lock.watches,
    }
}
