//! The other members' side of a move: they keep silent, and one of them becomes the master.

use super::{Asked, Dropped, heat::Heat};
use crate::{
    Dlm, Life,
    directory::Entry,
    master::{Key, Master},
    names::Place,
    table::State,
};
use mainstay_base::{Epoch, Instant, Mutant, NodeId};
use mainstay_lock::{Moved, MovedLock as EngineLock, Resource as Engine, Ticket};
use mainstay_wire::dlm::{Body, MovedLock, MovedResource, ResourceId};
use std::collections::BTreeMap;

/// Most resources in one batch that a member is ready to keep in mind.
const BATCH_MAX: usize = 1 << 16;

/// Most batches of one master at a time. It gives away one, but may hear of commits sooner.
const BATCHES_MAX: usize = 64;

/// What comes to this node.
#[derive(Debug, Default)]
pub(super) struct Coming {
    parts: BTreeMap<ResourceId, Moved<Key>>,
    engines: Vec<(ResourceId, Engine<Key>)>,
}

impl Dlm {
    /// A master is giving resources away.
    pub(crate) fn on_move_ask(
        &mut self,
        now: Instant,
        from: Life,
        serial: u64,
        members: Epoch,
        to: NodeId,
        names: Vec<ResourceId>,
    ) {
        if members != self.members_epoch {
            return; // It will hear of the change, too.
        }
        if names.len() > BATCH_MAX || !self.ids.contains(&to) || to == from.0 {
            return self.violation(from.0, "a move that no member can mean");
        }
        let of_master = (from, 0)..=(from, u64::MAX);
        if self.moves.asked.range(of_master).count() >= BATCHES_MAX
            || self.moves.asked.contains_key(&(from, serial))
        {
            return self.violation(from.0, "more moves at a time than any master makes");
        }
        let me = to == self.me;
        // What follows its tree is taken in any case.
        let more = if me { self.new_trees(&names) } else { 0 };
        let weightless = self.moves.config.weight(self.me) == 0;
        // Whose rules hold there it has to know.
        let unknown = me && names.iter().any(|name| !self.spaces.has(name.space));
        let unfit = me && (!self.active || unknown || more > 0 && weightless);
        // What a node that leaves has yet to say must not be kept back.
        if self.leaving || unfit || more > 0 && self.has_its_share(now, more) {
            return self.send(from.0, Body::MoveRefused { serial });
        }
        for name in &names {
            let place = match (me, self.resources.place(name)) {
                (_, Some(place)) => place,
                // Others may learn of the move sooner, and ask this node at once.
                (true, None) => {
                    let (place, _) = self.resources.place_or_new(name);
                    self.resources.set_state(place, State::At(from.0));
                    place
                }
                (false, None) => continue,
            };
            let entry = self.resources.get_mut(place);
            let silent = match entry.state {
                State::At(master) => me || master == from.0,
                // The next master may remember a master of long ago, or be asking who it is. From the
                // commit on others speak to it, and what they say must be kept until it applies that.
                State::LookingUp => me,
                State::Forgetting | State::Moving(_) | State::Mine(_) | State::Lost(_) => false,
            };
            if silent {
                self.resources.set_state(place, State::Moving(from.0));
            }
        }
        let asked = Asked {
            to,
            names: names.into_iter().collect(),
            dropped: Vec::new(),
            coming: Coming::default(),
        };
        self.moves.asked.insert((from, serial), asked);
        self.send(from.0, Body::MoveAgreed { serial });
    }

    /// The master has said all that it has to say.
    pub(crate) fn on_move_hear(&mut self, from: Life, serial: u64) {
        if self.moves.asked.contains_key(&(from, serial)) {
            self.send(from.0, Body::MoveReady { serial });
        }
    }

    /// A part of what comes to this node.
    pub(crate) fn on_move_state(
        &mut self,
        from: Life,
        serial: u64,
        resources: Vec<MovedResource>,
        last: bool,
    ) {
        let me = self.me;
        let members = &self.view;
        let asked = self.moves.asked.get_mut(&(from, serial));
        let Some(asked) = asked.filter(|asked| asked.to == me) else {
            return;
        };
        let mut sound = Ok(());
        for part in resources {
            let surviving = &self.surviving;
            let of_members = |lock: &MovedLock| {
                let life = (lock.node, lock.incarnation);
                members.has_incarnation(lock.node, lock.incarnation)
                    || surviving.has_record(life, lock.lock)
            };
            // One that survives its node may be released, or another's, here and not at the giver yet.
            if !part.locks.iter().all(of_members) {
                return self.send(from.0, Body::MoveRefused { serial });
            }
            if !asked.names.contains(&part.resource) {
                sound = Err("a resource that was not named");
                break;
            }
            let moved = asked.coming.parts.entry(part.resource);
            let moved = moved.or_insert_with(|| Moved {
                last_token: part.last,
                value: part.value,
                next_ticket: Ticket(part.next_ticket),
                passed: part.passed,
                wrote: part.wrote,
                locks: Vec::new(),
            });
            moved.locks.extend(part.locks.iter().map(in_the_engine));
        }
        if last && sound.is_ok() {
            sound = self.build_coming(from, serial);
        }
        match sound {
            Ok(()) if last => self.send(from.0, Body::MoveReady { serial }),
            Ok(()) => {}
            Err(what) => {
                self.violation(from.0, &format!("a resource that cannot be: {what}"));
                self.send(from.0, Body::MoveRefused { serial });
            }
        }
    }

    fn build_coming(&mut self, from: Life, serial: u64) -> Result<(), &'static str> {
        let Some(asked) = self.moves.asked.get_mut(&(from, serial)) else {
            return Ok(());
        };
        let parts = std::mem::take(&mut asked.coming.parts);
        let mut engines = Vec::with_capacity(parts.len());
        for (resource, moved) in parts {
            let rules = self.rules(&resource);
            engines.push((resource, Engine::from_moved(rules, moved)?));
        }
        if let Some(asked) = self.moves.asked.get_mut(&(from, serial)) {
            asked.coming.engines = engines;
        }
        Ok(())
    }

    /// What has come is this node's from now on.
    pub(super) fn taken(&mut self, now: Instant, mut asked: Asked) {
        let mut places = Vec::new();
        for (resource, engine) in std::mem::take(&mut asked.coming.engines) {
            let (place, _) = self.resources.place_or_new(&resource);
            asked.names.remove(&resource);
            let entry = self.resources.get_mut(place);
            assert!(
                !matches!(entry.state, State::Mine(_)),
                "what comes to this node was another's: {resource:?}"
            );
            let master = Master {
                engine,
                rebuilding: None,
                heat: Heat::fresh(now),
            };
            self.resources
                .set_state(place, State::Mine(Box::new(master)));
            places.push(place);
            self.enter_move(now, &resource, self.me);
        }
        assert!(
            asked.names.is_empty(),
            "all that was named has come, but for {:?}",
            asked.names
        );
        for &place in &places {
            self.note_moved(now, place);
        }
        // What is gone must not be in the way of what was asked for after it.
        for dropped in asked.dropped {
            self.drop_again(now, dropped);
        }
        for place in places {
            self.mastered(now, place);
            self.cancel_again(now, place);
        }
        if self.leaving {
            self.hand_over();
        }
    }

    /// What a master gave away is another's from now on, neither being this node.
    pub(super) fn flip(&mut self, now: Instant, asked: Asked, to: NodeId) {
        let mut turned = Vec::new();
        for resource in &asked.names {
            if let Some(place) = self.resources.place(resource)
                && matches!(self.resources.get(place).state, State::Moving(_))
            {
                let state = self.at(place, to);
                self.resources.set_state(place, state);
                turned.push(place);
            }
            self.enter_move(now, resource, to);
        }
        self.turned(now, asked.dropped, turned, to);
    }

    /// Resources have another master, which is told of what is gone before it is asked for anything.
    fn turned(&mut self, now: Instant, dropped: Vec<Dropped>, places: Vec<Place>, to: NodeId) {
        for dropped in dropped {
            self.drop_again(now, dropped);
        }
        for place in places {
            self.change_master(now, place, to);
        }
    }

    /// The directory's entry of what has moved.
    pub(super) fn enter_move(&mut self, now: Instant, resource: &ResourceId, to: NodeId) {
        if self.directory_of(resource) == Some(self.me) && !Mutant::MoveUnentered.active() {
            self.resources.set_entry(resource, Entry::At(to));
            self.answer_askers(now, resource);
        }
    }

    /// The master calls a batch off.
    pub(crate) fn on_move_off(&mut self, now: Instant, from: Life, serial: u64) {
        if let Some(asked) = self.moves.asked.remove(&(from, serial)) {
            self.resume(now, from.0, asked);
        }
    }

    /// Nothing came of a batch: what was kept back goes to the master, if it is there.
    pub(super) fn resume(&mut self, now: Instant, master: NodeId, asked: Asked) {
        let mut turned = Vec::new();
        for resource in &asked.names {
            let Some(place) = self.resources.place(resource) else {
                continue;
            };
            match self.resources.get(place).state {
                State::Moving(at) | State::At(at) if at == master => {}
                _ => continue,
            }
            let state = self.at(place, master);
            self.resources.set_state(place, state);
            turned.push(place);
        }
        self.turned(now, asked.dropped, turned, master);
    }
}

fn in_the_engine(lock: &MovedLock) -> EngineLock<Key> {
    EngineLock {
        key: Key::of((lock.node, lock.incarnation), lock.lock),
        granted: lock.granted,
        pending: lock
            .pending
            .map(|(mode, flags, ticket)| (mode, flags, Ticket(ticket))),
        patient: lock.patient,
        wants_bast: lock.blocking,
        wants_bast_next: lock.blocking_next,
        valblk: lock.valblk,
        told: lock.told,
        watches: lock.watches,
    }
}
