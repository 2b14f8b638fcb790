//! The master side: the queues of the resources that this node masters.

use crate::{
    Call, Dlm, Life, PackedLife,
    moving::heat::{Heat, Stage},
    names::Place,
    table::{NOT_IDLE, Owned, Pending, State},
};
use mainstay_base::{Instant, LockId, LockMode, NodeId, Token};
use mainstay_lock::{Effect, Invalid, Resource as Engine};
use mainstay_recorder::Op;
use mainstay_wire::{
    dlm::{Body, ResourceId},
    lock::{Granted, Refusal},
};

/// A lock, as its master tells it from all others.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub(crate) struct Key {
    life: PackedLife,
    pub(crate) lock: LockId,
}

impl Key {
    pub(crate) fn of(life: Life, lock: LockId) -> Key {
        Key {
            life: PackedLife::of(life),
            lock,
        }
    }

    /// Whether its owner is that life.
    pub(crate) fn is_of(self, life: PackedLife) -> bool {
        self.life == life
    }

    pub(crate) fn life(self) -> Life {
        self.life.life()
    }
}

/// What a master has of a resource.
#[derive(Debug)]
pub(crate) struct Master {
    pub(crate) engine: Engine<Key>,
    /// The vanished incarnation whose resource this was, until all survivors have restated it.
    pub(crate) rebuilding: Option<PackedLife>,
    pub(crate) heat: Heat,
}

impl Master {
    /// Whether calls are carried out, rather than kept back.
    pub(crate) fn decides(&self) -> bool {
        self.rebuilding.is_none() && self.heat.stage != Stage::Frozen
    }

    /// Whether it is on its way to another master, and nothing is decided here.
    pub(crate) fn is_frozen(&self) -> bool {
        self.heat.stage == Stage::Frozen
    }

    /// Whether nothing is under way that needs the resource to be kept.
    pub(crate) fn stays(&self) -> bool {
        self.rebuilding.is_none() && self.heat.stage == Stage::Stays
    }
}

impl Dlm {
    /// This node masters a resource from now on.
    pub(crate) fn become_master(&mut self, now: Instant, resource: &ResourceId, floor: Token) {
        // The directory may have applied a move sooner: what comes here is not empty.
        if self.moves.comes_to(resource, self.me) {
            return;
        }
        // It need not have asked: another may have had rather not.
        let (place, _) = self.resources.place_or_new(resource);
        let rules = self.rules(resource);
        let entry = self.resources.get_mut(place);
        let locks = &self.locks;
        let held = |lock| locks.get(lock).is_some_and(Owned::shows_master);
        match entry.state {
            State::LookingUp => {}
            // It remembers one who has forgotten the resource.
            State::At(_) if !entry.locks.iter().any(held) => {}
            // Or one who had forgotten it before it vanished.
            State::Lost(_) if entry.locks.is_empty() => {}
            _ => return,
        }
        let master = Master {
            engine: Engine::new(floor, rules),
            rebuilding: None,
            heat: Heat::default(),
        };
        self.resources
            .set_state(place, State::Mine(Box::new(master)));
        self.note_master(now, place, true);
        self.install_survivors(now, place);
        self.mastered(now, place);
    }

    /// Carries on with what waited for this node to be master.
    pub(crate) fn mastered(&mut self, now: Instant, place: Place) {
        let held = std::mem::take(&mut self.resources.get_mut(place).held);
        for (from, body) in held {
            self.master_call(now, from, body);
        }
        self.submit_all(now, place);
        self.note_astray(place);
        self.note_news(place);
        self.note_idle(now, place);
    }

    /// Another member masters a resource.
    pub(crate) fn learn_master(&mut self, now: Instant, resource: &ResourceId, master: NodeId) {
        let Some(place) = self.resources.place(resource) else {
            return;
        };
        if !matches!(self.resources.get(place).state, State::LookingUp) {
            return;
        }
        self.change_master(now, place, master);
    }

    /// An owner's call on a resource that it takes to be mastered here.
    pub(crate) fn master_call(&mut self, now: Instant, from: Life, body: Body) {
        if self.leaving && !self.is_me(from) {
            return; // The owner will restate it to the next master.
        }
        // What one that rests had said before may have had to wait.
        if !self.is_member(from) && !self.is_resting(from) {
            return;
        }
        let Some(resource) = call_resource(&body) else {
            return;
        };
        let Some(place) = self.resources.place(resource) else {
            let resource = resource.clone();
            return self.not_here(from, &resource, &body);
        };
        let own = self.is_me(from);
        let entry = self.resources.get_mut(place);
        match &entry.state {
            State::Mine(master) if !master.decides() => entry.held.push((from, body)),
            State::Mine(_) if self.active => self.execute(now, place, from, body),
            State::Mine(_) => self.deferred.push(Call::Said(from, body)),
            // The directory may name this node before its own answer has arrived here.
            State::LookingUp | State::Forgetting | State::Moving(_) if !own => {
                entry.held.push((from, body));
            }
            State::LookingUp | State::Forgetting | State::Moving(_) => {}
            State::At(_) | State::Lost(_) => {
                let resource = entry.id.clone();
                self.not_here(from, &resource, &body);
            }
        }
    }

    fn execute(&mut self, now: Instant, place: Place, from: Life, body: Body) {
        self.greet_early(now, place);
        if let Body::TakeCeded {
            lock,
            node,
            incarnation,
            known_as,
            token,
            blocking,
            ..
        } = body
        {
            let known = (Key::of((node, incarnation), known_as), token);
            return self.take_here(now, place, Key::of(from, lock), known, blocking);
        }
        let Some(mut master) = self.resources.get_mut(place).master() else {
            return;
        };
        let for_range = matches!(body, Body::RangeCall { .. } | Body::RangeWeaken { .. });
        if for_range || master.is_ranged() {
            if self.execute_ranges(now, place, from, &body) {
                return;
            }
            let Some(still) = self.resources.get_mut(place).master() else {
                return;
            };
            master = still;
        }
        let body = match body {
            Body::Update { lock, update, .. } => {
                return self.update_here(now, place, from, lock, &update);
            }
            Body::Watch { lock, on, .. } => return self.watch_here(place, from, lock, on),
            body => body,
        };
        let engine = &mut master.engine;
        let mut effects = std::mem::take(&mut self.effects);
        let (lock, result) = match &body {
            Body::Request {
                lock,
                mode,
                flags,
                blocking,
                ..
            } => (
                *lock,
                engine.request(Key::of(from, *lock), *mode, *flags, *blocking, &mut effects),
            ),
            Body::Convert {
                lock,
                mode,
                flags,
                blocking,
                value,
                ..
            } => (
                *lock,
                engine.convert(
                    Key::of(from, *lock),
                    *mode,
                    *flags,
                    *blocking,
                    value.as_ref(),
                    &mut effects,
                ),
            ),
            Body::ConvertDemoted {
                lock,
                mode,
                flags,
                blocking,
                ..
            } => {
                let key = Key::of(from, *lock);
                let result = engine.convert_demoted(key, *mode, *flags, *blocking, &mut effects);
                (*lock, result)
            }
            Body::Unlock {
                lock, flags, value, ..
            } => (
                *lock,
                engine.unlock(Key::of(from, *lock), *flags, value.as_ref(), &mut effects),
            ),
            Body::Drop {
                lock, invalidate, ..
            } => {
                let key = Key::of(from, *lock);
                engine.force_unlock(key, *invalidate, &mut effects);
                // The owner has erased the lock and expects no answer.
                effects.retain(|e| !matches!(e, Effect::Unlocked { key: k, .. } if *k == key));
                (*lock, Ok(()))
            }
            Body::Cancel { lock, .. } => {
                engine.cancel(Key::of(from, *lock), &mut effects);
                (*lock, Ok(()))
            }
            Body::Adopted { lock, blocking, .. } => {
                engine.adopted(Key::of(from, *lock), *blocking, &mut effects);
                (*lock, Ok(()))
            }
            _ => return,
        };
        self.count_call(place, from.0);
        let key = Key::of(from, lock);
        match &body {
            Body::Drop { .. } => {
                self.note_at_master(now, Op::Dropped, place, key, None, Token::NONE);
            }
            Body::ConvertDemoted { .. } => {
                let held = Some(LockMode::Nl);
                self.note_at_master(now, Op::Demoted, place, key, held, Token::NONE);
            }
            _ => {}
        }
        self.deliver(now, place, effects);
        if let Err(invalid) = result {
            self.tell_refused(now, from, lock, Refusal::Invalid(invalid.to_string()));
        }
        self.note_news(place);
        self.note_idle(now, place);
    }

    /// The pending call of an own lock on a resource mastered here.
    pub(crate) fn master_local(&mut self, now: Instant, lock: LockId) {
        let from = self.my_life();
        let Some(place) = self.locks.get(&lock).map(|owned| owned.place) else {
            return;
        };
        self.greet_early(now, place);
        let Some(owned) = self.locks.get(&lock) else {
            return;
        };
        if let Pending::Update { update } = &owned.pending {
            let update = update.clone();
            return self.update_here(now, place, from, lock, &update);
        }
        if let Pending::Taking {
            from: (life, known_as),
            ..
        } = owned.pending
        {
            let known = (Key::of(life, known_as), owned.token);
            let blocking = owned.blocking;
            return self.take_here(now, place, Key::of(from, lock), known, blocking);
        }
        let Some(master) = self.resources.get_mut(place).master() else {
            return;
        };
        if master.is_ranged() || matches!(owned.pending, Pending::Range(_)) {
            let resource = self.resources.get(place).id.clone();
            let body = crate::table::call_body(resource, lock, owned);
            return self.execute(now, place, from, body);
        }
        let mut effects = std::mem::take(&mut self.effects);
        let result = apply_pending(&mut master.engine, Key::of(from, lock), owned, &mut effects);
        self.count_call(place, from.0);
        self.deliver(now, place, effects);
        if let Err(invalid) = result {
            self.on_refused(now, lock, Refusal::Invalid(invalid.to_string()));
        }
        self.note_news(place);
    }

    /// Carries out what the engine decided: for own locks at once, for others by message.
    pub(crate) fn deliver(&mut self, now: Instant, place: Place, mut effects: Vec<Effect<Key>>) {
        let me = self.my_life();
        self.delivering += 1;
        for effect in effects.drain(..) {
            let key = *effect.key();
            let lock = key.lock;
            self.grants += u64::from(matches!(effect, Effect::Granted { .. }));
            if key.life() == me {
                match effect {
                    Effect::Granted { grant, .. } => self.on_granted(now, lock, granted(grant)),
                    Effect::Queued { ticket, .. } => self.on_queued(now, lock, ticket.0),
                    Effect::Refused { why, .. } => self.on_refused(now, lock, refusal(why)),
                    Effect::Unlocked { version, .. } => self.on_unlocked(now, lock, Some(version)),
                    Effect::Blocking { mode, .. } => self.on_blocking(now, lock, mode),
                    Effect::BlockingRange { range, mode, .. } => {
                        self.on_range_blocking(lock, range, mode);
                    }
                }
                continue;
            }
            match &effect {
                Effect::Granted { grant, .. } => {
                    let (mode, token) = (Some(grant.mode), grant.token);
                    let op = self.granting(place);
                    self.note_at_master(now, op, place, key, mode, token);
                }
                Effect::Unlocked { .. } => {
                    self.note_at_master(now, Op::Unlocked, place, key, None, Token::NONE);
                }
                Effect::Queued { .. } => {
                    self.note_at_master(now, Op::Queued, place, key, None, Token::NONE);
                }
                Effect::Refused { .. } | Effect::Blocking { .. } | Effect::BlockingRange { .. } => {
                }
            }
            if self.is_member(key.life()) {
                let body = match effect {
                    Effect::Granted { grant, .. } => Body::Granted {
                        lock,
                        granted: granted(grant),
                    },
                    Effect::Queued { ticket, .. } => Body::Queued {
                        lock,
                        ticket: ticket.0,
                    },
                    Effect::Refused { why, .. } => Body::Refused {
                        lock,
                        why: refusal(why),
                    },
                    Effect::Unlocked { version, .. } => Body::Unlocked { lock, version },
                    Effect::Blocking { mode, .. } => Body::Blocking { lock, mode },
                    Effect::BlockingRange { range, mode, .. } => {
                        Body::RangeBlocking { lock, range, mode }
                    }
                };
                self.send(key.life().0, body);
            }
        }
        if self.effects.capacity() == 0 {
            self.effects = effects;
        }
        self.delivering -= 1;
        self.submit_demoted(now);
    }

    pub(crate) fn tell_refused(&mut self, now: Instant, to: Life, lock: LockId, why: Refusal) {
        if self.is_me(to) {
            self.on_refused(now, lock, why);
        } else {
            self.send(to.0, Body::Refused { lock, why });
        }
    }

    /// A resource without locks has been remembered for its time: forget it, unless it has been
    /// used again.
    pub(crate) fn idle_long_enough(&mut self, now: Instant, place: Place) {
        // Meanwhile the place may be another resource's, which has its own time.
        let queued = self.resources.find_mut(place).filter(|r| r.in_idle_queue);
        let Some(entry) = queued else {
            return;
        };
        entry.in_idle_queue = false;
        let since = entry.idle_since;
        if since == NOT_IDLE || !entry.is_idle() {
            return;
        }
        // While this node may not act, calls on the resource may be among those put off, and what is
        // said of them later (a cancel, a drop) must still find it.
        let again = if self.active { since } else { now };
        if now.since(again) < crate::IDLE {
            entry.in_idle_queue = true;
            self.idle.push_back((again + crate::IDLE, place));
            return;
        }
        let last = match &entry.state {
            State::Mine(master) => master.engine.last_token(),
            State::At(_) | State::Lost(_) => return self.resources.remove(place),
            State::Moving(_) => return,
            // An answer is on its way; forget after it has come.
            State::LookingUp => return,
            State::Forgetting => return,
        };
        if self.leaving {
            return;
        }
        let resource = entry.id.clone();
        let Some(directory) = self.directory_of(&resource) else {
            return;
        };
        if directory == self.me {
            self.resources.clear_entry(&resource);
            self.floor = self.floor.max(last);
            self.note_master(now, place, false);
            self.resources.remove(place);
        } else {
            self.resources.set_state(place, State::Forgetting);
            self.send(directory, Body::Forget { resource, last });
        }
    }

    /// The directory has dropped the entry: this node is no longer the master.
    pub(crate) fn forgotten(&mut self, now: Instant, resource: &ResourceId) {
        let Some(place) = self.resources.place(resource) else {
            return;
        };
        if !matches!(self.resources.get(place).state, State::Forgetting) {
            return;
        }
        self.unmaster(now, place);
    }

    /// Gives up a resource without locks: calls that came meanwhile go back to their owners, and
    /// own ones look for the new master.
    pub(crate) fn unmaster(&mut self, now: Instant, place: Place) {
        let entry = self.resources.set_state(place, State::LookingUp);
        let resource = entry.id.clone();
        let held = std::mem::take(&mut entry.held);
        let wanted = !entry.locks.is_empty();
        self.note_master(now, place, false);
        self.bounce(&resource, held);
        if wanted {
            self.look_up(now, &resource);
        } else {
            self.resources.remove(place);
        }
    }
}

fn apply_pending(
    engine: &mut Engine<Key>,
    key: Key,
    owned: &Owned,
    effects: &mut Vec<Effect<Key>>,
) -> Result<(), Invalid> {
    match &owned.pending {
        Pending::Request { mode, flags } => {
            engine.request(key, *mode, *flags, owned.blocking, effects)
        }
        Pending::Convert { mode, flags, .. } if owned.demoted => {
            engine.convert_demoted(key, *mode, *flags, owned.blocking, effects)
        }
        Pending::Convert { mode, flags, value } => {
            engine.convert(key, *mode, *flags, owned.blocking, value.as_ref(), effects)
        }
        Pending::Unlock { flags, value } => engine.unlock(key, *flags, value.as_ref(), effects),
        // Ranges are not the engine's.
        Pending::Update { .. }
        | Pending::Range(_)
        | Pending::Recording { .. }
        | Pending::Taking { .. }
        | Pending::None => Ok(()),
    }
}

fn granted(grant: mainstay_lock::Grant) -> Granted {
    Granted {
        mode: grant.mode,
        token: grant.token,
        value: grant.value,
    }
}

fn refusal(why: mainstay_lock::Refusal) -> Refusal {
    match why {
        mainstay_lock::Refusal::NotQueued => Refusal::NotQueued,
        mainstay_lock::Refusal::Deadlock => Refusal::Deadlock,
        mainstay_lock::Refusal::Cancelled => Refusal::Cancelled,
    }
}

/// The resource that a call to a master is about.
fn call_resource(body: &Body) -> Option<&ResourceId> {
    match body {
        Body::Request { resource, .. }
        | Body::Convert { resource, .. }
        | Body::ConvertDemoted { resource, .. }
        | Body::Unlock { resource, .. }
        | Body::Drop { resource, .. }
        | Body::Update { resource, .. }
        | Body::Watch { resource, .. }
        | Body::Adopted { resource, .. }
        | Body::RangeCall { resource, .. }
        | Body::RangeWeaken { resource, .. }
        | Body::TakeCeded { resource, .. }
        | Body::Cancel { resource, .. } => Some(resource),
        _ => None,
    }
}
