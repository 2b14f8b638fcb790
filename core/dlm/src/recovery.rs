//! Views, and what is rebuilt when a member is gone.
//!
//! The order, each step for the resources concerned alone:
//!
//! 1. **members** ([`Dlm::install`]): the new view is in force; what a vanished incarnation
//!    mastered is lost for now, calls on it wait at their owners.
//! 2. **directory**: masters register what now has another directory node, then say that they have.
//! 3. **proof** ([`Dlm::recover`]): only a [`Fenced`] opens the rest.
//! 4. **masters, locks, values**: every survivor restates its locks on lost resources to their
//!    directory node under the view in force at the proof, which becomes their master; then says
//!    that it has. Masters drop the locks that the incarnation held elsewhere.
//! 5. **grant**: when all have said so, or are proved harmless themselves, queues are put in order
//!    and move again.
//!
//! Since views and proofs come from one log, all nodes agree on who rebuilds what and who must have
//! restated. A failure on the way is another loss: what the failed node was rebuilding is restated
//! again, to the next one.

use crate::{
    Dlm, Life, Out,
    directory::Entry,
    life::PackedLife,
    master::{Key, Master},
    moving::heat::Heat,
    names::Place,
    table::{NOT_IDLE, Owned, Pending, State},
    work::Work,
};
use mainstay_base::{Compat, Instant, LockId, LockMode, Mutant, NodeId, Token};
use mainstay_fencing::{Fenced, Proof};
use mainstay_lock::{Resource as Engine, Restated, Ticket};
use mainstay_membership::{View, directory_node};
use mainstay_recorder::{Op, Phase};
use mainstay_wire::{
    dlm::{Body, ResourceId, RestatedLock},
    event::Reason,
    lock::{Flags, Refusal},
};
use std::collections::{BTreeMap, BTreeSet};

/// An incarnation that was a member and is not any more.
#[derive(Debug)]
pub(crate) struct Departure {
    /// The members of the last view that contained it, if this node was one of them and the
    /// incarnation had registered with it all that it mastered.
    pub(crate) members: Option<Vec<NodeId>>,
    /// What it mastered, as far as this node has an interest in it.
    pub(crate) lost: Vec<Place>,
    /// Where it has something on resources mastered here, if they have been looked through for it and
    /// its proof has not come.
    pub(crate) held: Option<Vec<Place>>,
    /// What is under way since its proof.
    pub(crate) rebuild: Option<Rebuild>,
}

/// Rebuilding what an incarnation mastered.
#[derive(Debug)]
pub(crate) struct Rebuild {
    pub(crate) since: Instant,
    /// It left cleanly: nothing is in doubt but what it said itself.
    pub(crate) clean: bool,
    /// Its locks whose owners died while writing, as it said in calls that still have to wait here.
    pub(crate) doubted: BTreeSet<LockId>,
    /// Lives that may still have locks to restate to this node.
    awaited: BTreeSet<Life>,
    /// Somebody vanished before it could restate: what it held is not known.
    pub(crate) unheard: bool,
    /// Restating own locks has begun.
    pub(crate) restating: bool,
    /// Resources of which a writer died when the master was leaving.
    pub(crate) suspects: BTreeSet<ResourceId>,
    /// Restated so far to this node.
    pub(crate) places: Vec<Place>,
    keys: Vec<(Place, Key)>,
    /// Restated locks that were another node's, and as which, by place.
    ceded: BTreeMap<Place, Vec<(Key, Key)>>,
    /// All awaited have restated; granting waits until this node may act.
    complete: bool,
    /// Resources granted again here, once they are.
    pub(crate) rebuilt: Option<u64>,
    /// Locks dropped here because the incarnation held them.
    pub(crate) dropped: u64,
    pub(crate) purged: bool,
    /// The incarnation rested: its own locks on what it mastered were handed over.
    pub(crate) rested: bool,
    /// They are nobody's any more.
    pub(crate) rest_over: bool,
}

impl Rebuild {
    /// A lock has been restated to this node.
    pub(crate) fn restated(&mut self, place: Place, key: Key) {
        self.keys.push((place, key));
    }

    /// The locks of one life are those of another now.
    pub(crate) fn rename(&mut self, from: Life, to: Life) {
        for (_, key) in &mut self.keys {
            if key.life() == from {
                *key = Key::of(to, key.lock);
            }
        }
    }

    /// A lock that has been restated to this node was another's.
    pub(crate) fn was_anothers(&mut self, place: Place, key: Key, former: Key) {
        if !self.complete {
            self.ceded.entry(place).or_default().push((key, former));
        }
    }

    /// Restated locks on a resource that were others', and as which, by the keys that they had then.
    pub(crate) fn others_at(&self, place: Place) -> Vec<(Key, Key)> {
        self.ceded.get(&place).cloned().unwrap_or_default()
    }
}

impl Dlm {
    /// A new view is in force. Views must be given in order, none left out since this node's first;
    /// before each, [`Dlm::work_off`], and what that says must have been sent.
    /// The proofs that belong to it follow by [`Dlm::recover`], then [`Dlm::view_settled`].
    pub fn install(&mut self, now: Instant, view: View) {
        assert!(view.epoch > self.view.epoch, "views are installed in order");
        assert!(
            self.has_restated(),
            "who rebuilds what follows from the view of the proof"
        );
        let Some(me) = view.member(self.me) else {
            return;
        };
        let first = self.life.is_none();
        self.settled = false;
        self.life = Some(me.incarnation);
        let old = std::mem::replace(&mut self.view, view);
        let old_ids = std::mem::replace(&mut self.ids, self.view.nodes());

        if first {
            // What one that rests mastered is registered, or will be before those who rebuild it say so.
            let vanished = self.view.pending.iter();
            for pending in vanished.filter(|p| p.reason != Reason::Rests) {
                let life = (pending.node, pending.incarnation);
                self.departed.insert(
                    life,
                    Departure {
                        members: None,
                        lost: Vec::new(),
                        held: None,
                        rebuild: None,
                    },
                );
            }
        }
        let gone: Vec<Life> = old
            .members
            .iter()
            .map(|m| (m.node, m.incarnation))
            .filter(|life| !self.is_member(*life))
            .collect();
        for life in &gone {
            // Only what it had registered is known; a member that died before it had done so for
            // these members may have mastered anything.
            let members = self.registered.contains(&life.0).then(|| old_ids.clone());
            self.departed.insert(
                *life,
                Departure {
                    members,
                    lost: Vec::new(),
                    held: None,
                    rebuild: None,
                },
            );
        }
        self.deadlocks.new_view(now);
        let resumed = self.begin_resuming();
        if first || old.members_since != self.view.members_since {
            self.members_epoch = self.view.members_since;
            self.registered.clear();
            self.owes_registered = true;
            self.askers.clear();
            self.appointed.clear();
            let members = self.ids.clone();
            (self.resources).members_changed(self.me, members, &gone, resumed);
            self.forget_carried();
            // Those that did not know these members yet, or not any more, have not taken them. Others
            // have registered them by the time that it matters whether a name is free.
            for resource in std::mem::take(&mut self.unconfirmed) {
                self.resources.clear_entry(&resource);
            }
            self.end_moves(now);
            self.begin_catch_up(now, old_ids, gone);
            if self.leaving {
                self.hand_over();
            }
        }
    }

    /// The view, and every proof that came with it, has been given: what was said too early may be
    /// heard now.
    pub fn view_settled(&mut self, now: Instant) {
        self.settled = true;
        self.ceding_in_view(now);
        self.say_registered(now);
        let peers: Vec<NodeId> = self.early.keys().copied().collect();
        for from in peers {
            while let Some(queue) = self.early.get_mut(&from) {
                match queue.front() {
                    Some((_, message)) if message.epoch <= self.view.epoch => {}
                    Some(_) => break,
                    None => {
                        self.early.remove(&from);
                        break;
                    }
                }
                if let Some((boot, message)) = queue.pop_front() {
                    self.hear(now, from, boot, message);
                }
            }
        }
    }

    /// An incarnation is proved harmless: what it mastered is rebuilt, what it held is dropped.
    /// Must follow the installation of the view that goes with the proof.
    pub fn recover(&mut self, now: Instant, proof: Fenced) {
        let dead: Life = (proof.node(), proof.incarnation());
        if self.life.is_none() {
            return;
        }
        let mut awaited: BTreeSet<Life> = self
            .view
            .members
            .iter()
            .map(|m| (m.node, m.incarnation))
            .collect();
        if !Mutant::UnprovedNotAwaited.active() {
            awaited.extend(self.view.pending.iter().map(|p| (p.node, p.incarnation)));
        }
        if Mutant::RebuildTooEarly.active() {
            awaited.retain(|life| *life == self.my_life());
        }
        awaited.remove(&dead);
        let rests = *proof.proof() == Proof::Rests && !Mutant::RestDropped.active();
        let clean = matches!(proof.proof(), Proof::LeftCleanly | Proof::Rests);
        self.note_recovery(now, dead, Phase::Proved);
        let doubted = self.unheard_doubts(dead);
        if !self.departed.contains_key(&dead) {
            // It has rested, and all that it mastered is rebuilt: nobody restates anything.
            awaited = BTreeSet::from([self.my_life()]);
        }
        let departure = self.departed.entry(dead).or_insert(Departure {
            members: None,
            lost: Vec::new(),
            held: None,
            rebuild: None,
        });
        if let Some(rebuild) = departure.rebuild.as_mut() {
            // What it mastered when it rested is not rebuilt yet, and now its locks go.
            rebuild.clean &= clean;
            rebuild.doubted.extend(doubted.iter().copied());
            rebuild.purged = false;
            rebuild.rest_over = true;
        } else {
            departure.rebuild = Some(Rebuild {
                since: now,
                clean,
                doubted: doubted.clone(),
                awaited,
                unheard: false,
                restating: false,
                suspects: BTreeSet::new(),
                places: Vec::new(),
                keys: Vec::new(),
                ceded: BTreeMap::new(),
                complete: false,
                rebuilt: None,
                dropped: 0,
                purged: rests,
                rested: rests,
                rest_over: false,
            });
        }

        if !self.catching_up() {
            self.begin_restating(now, dead);
        }
        // Also one that rests has given back what was on its way to it.
        self.give_up_given(now, dead, clean);
        if rests {
            self.directory_retry(now);
            return self.work(now);
        }
        let purge = self.purge_of(dead);
        self.begin_work(now, purge);
        // It will not restate anything to other rebuilds any more.
        let others: Vec<Life> = self.departed.keys().copied().collect();
        for other in others {
            // Its own are there only if it rested, and had locks on what it mastered.
            self.drop_restated(now, other, dead, clean, &doubted);
            self.on_restate_done(now, dead, other);
        }
        self.directory_retry(now);
        self.work(now);
    }

    /// All that this node had with a vanished master has been restated.
    pub(crate) fn say_restated(&mut self, now: Instant, dead: Life) {
        self.tell_suspects(dead);
        self.note_recovery(now, dead, Phase::Restated);
        let (node, incarnation) = dead;
        for to in self.others() {
            self.send(to, Body::RestateDone { node, incarnation });
        }
        let me = self.my_life();
        self.on_restate_done(now, me, dead);
        if self.leaving {
            // What this node has just come to rebuild the next one will.
            self.hand_over_locks();
        }
        self.directory_retry(now);
    }

    /// The locks of a life whose owners died while writing, as it said in calls that were to wait:
    /// for the end of a rebuild, or until this node may act.
    fn unheard_doubts(&self, dead: Life) -> BTreeSet<LockId> {
        let noted = self.departed.get(&dead).and_then(|d| d.held.clone());
        let everywhere = noted.is_none().then(|| self.resources.places());
        let places = noted
            .into_iter()
            .flatten()
            .chain(everywhere.into_iter().flatten());
        let resources = places.filter_map(|place| self.resources.look(place));
        let held = resources.flat_map(|resource| &resource.held);
        self.deferred
            .said()
            .chain(held.map(|(from, body)| (from, body)))
            .filter(|(from, _)| **from == dead)
            .filter_map(|(_, body)| match body {
                Body::Drop {
                    lock,
                    invalidate: true,
                    ..
                } => Some(*lock),
                _ => None,
            })
            .collect()
    }

    /// A life that is proved harmless has no say in the rebuilding after another any more, nor any
    /// locks there. Unless it left cleanly, what it has not said is not known, and what it may have
    /// been writing is in doubt.
    pub(crate) fn drop_restated(
        &mut self,
        now: Instant,
        other: Life,
        dead: Life,
        clean: bool,
        doubted: &BTreeSet<LockId>,
    ) {
        let departure = self.departed.get_mut(&other);
        let Some(rebuild) = departure.and_then(|d| d.rebuild.as_mut()) else {
            return;
        };
        rebuild.unheard |= !clean && rebuild.awaited.contains(&dead);
        let (gone, kept): (Vec<_>, _) = std::mem::take(&mut rebuild.keys)
            .into_iter()
            .partition(|(_, key)| key.life() == dead && !self.surviving.is_recorded(*key));
        rebuild.keys = kept;
        for (place, key) in gone {
            // One that is rebuilt already is purged as any other.
            let master = self.resources.get_mut(place).master();
            if let Some(master) = master.filter(|m| m.rebuilding.is_some()) {
                let doubt = !clean || doubted.contains(&key.lock);
                master.engine.force_unlock(key, doubt, &mut Vec::new());
                if let Some(ranges) = master.engine.ranges_mut() {
                    ranges.release(key, &mut Vec::new());
                }
                self.note_at_master(now, Op::Purged, place, key, None, Token::NONE);
            }
        }
    }

    /// A writer of this node died; its master may leave without having heard of it.
    pub(crate) fn suspect(&mut self, now: Instant, life: Life, resource: ResourceId) {
        let old = |at: Instant| now.since(at) > crate::IDLE;
        while self.suspects.front().is_some_and(|(at, _, _)| old(*at)) {
            self.suspects.pop_front();
        }
        self.suspects.push_back((now, life, resource));
    }

    fn tell_suspects(&mut self, dead: Life) {
        let (node, incarnation) = dead;
        let mut told = BTreeSet::new();
        for (at, life, resource) in std::mem::take(&mut self.suspects) {
            if life != dead {
                self.suspects.push_back((at, life, resource));
            } else if told.insert(resource.clone()) {
                match self.directory_of(&resource) {
                    Some(rebuilder) if rebuilder == self.me => self.on_suspect(dead, resource),
                    Some(rebuilder) => self.send(
                        rebuilder,
                        Body::Suspect {
                            node,
                            incarnation,
                            resource,
                        },
                    ),
                    None => {}
                }
            }
        }
    }

    pub(crate) fn on_suspect(&mut self, dead: Life, resource: ResourceId) {
        if let Some(departure) = self.departed.get_mut(&dead)
            && let Some(rebuild) = &mut departure.rebuild
        {
            rebuild.suspects.insert(resource);
        }
    }

    /// Restates this node's locks on a lost resource to the node that rebuilds it.
    pub(crate) fn restate(&mut self, now: Instant, place: Place, dead: Life) {
        if !self.knows_master(place) {
            return self.ask_anew(now, place);
        }
        let entry = self.resources.get(place);
        let (resource, locks) = (entry.id.clone(), entry.locks.clone());
        let Some(rebuilder) = self.directory_of(&resource) else {
            return;
        };
        let mut restated = Vec::new();
        let mut ranged = Vec::new();
        let (mut cancels, mut updates) = (Vec::new(), Vec::new());
        let mut taken = Vec::new();
        for lock in locks {
            let ranges = self.restated_ranges(lock);
            let Some(owned) = self.locks.get_mut(&lock) else {
                continue;
            };
            if matches!(owned.pending, Pending::Update { .. }) {
                updates.push(lock);
                owned.unsure |= owned.sent;
            }
            owned.watch_unsaid = false;
            owned.adoption_unsaid = false;
            if !ranges.is_empty() {
                ranged.extend(ranges.into_iter().map(|part| (lock, part)));
            } else if let Some(lock) = restate_lock(lock, owned) {
                restated.push(lock);
            }
            if matches!(owned.pending, Pending::Update { .. }) {
                continue;
            }
            if matches!(owned.pending, Pending::Taking { known: false, .. }) {
                taken.push(lock);
                continue;
            }
            owned.sent = owned.pending != Pending::None;
            owned.forced = false;
            let ends = owned.cancel.is_some() || owned.timed_out;
            if owned.sent && (ends || self.deadlocks.is_condemned(lock)) {
                cancels.push(lock);
            }
        }
        let (node, incarnation) = dead;
        let former = self.ceding.former_of(restated.iter().map(|lock| lock.lock));
        if rebuilder == self.me {
            let me = self.my_life();
            self.resources.set_state(place, State::LookingUp);
            let any = !ranged.is_empty();
            self.restate_ranges(now, me.0, dead, &resource, ranged);
            if !restated.is_empty() {
                if self.may_rebuild(now, me, dead, &resource, place) {
                    self.take_restated(now, me, dead, place, restated);
                }
            } else if any {
                // Restated above.
            } else if self.resources.get(place).held.is_empty() {
                self.resources.remove(place);
            }
            for lock in cancels {
                self.master_call(
                    now,
                    me,
                    Body::Cancel {
                        resource: resource.clone(),
                        lock,
                    },
                );
            }
        } else {
            if restated.is_empty() && ranged.is_empty() {
                self.resources.remove(place);
                return;
            }
            let entry = self.resources.set_state(place, State::At(rebuilder));
            entry.turned_away = false;
            self.restate_ranges(now, rebuilder, dead, &resource, ranged);
            for locks in in_messages(restated) {
                let resource = resource.clone();
                self.send(
                    rebuilder,
                    Body::Restate {
                        node,
                        incarnation,
                        resource,
                        locks,
                    },
                );
            }
            for lock in cancels {
                self.send(
                    rebuilder,
                    Body::Cancel {
                        resource: resource.clone(),
                        lock,
                    },
                );
            }
        }
        self.restate_former(rebuilder, dead, &resource, former);
        self.update_anew(now, &updates);
        self.take_anew(now, &taken);
    }

    /// Whether a lock of this node shows that the master it was told of really was the master: one
    /// that it granted or queued. To be named by a directory is not enough, since a set of members
    /// may have come between, and another master with it.
    fn knows_master(&self, place: Place) -> bool {
        let locks = &self.resources.peek(place).locks;
        let owned = locks.iter().filter_map(|lock| self.locks.get(lock));
        let mut shown = owned.map(|owned| owned.shows_master() || owned.ticket.is_some());
        shown.any(|shown| shown) || locks.is_empty()
    }

    /// Looks for the master of a resource again: the one that was named for it is gone, and has
    /// answered nothing.
    fn ask_anew(&mut self, now: Instant, place: Place) {
        let entry = self.resources.set_state(place, State::LookingUp);
        let resource = entry.id.clone();
        entry.turned_away = false;
        for lock in entry.locks.clone() {
            let Some(owned) = self.locks.get_mut(&lock) else {
                continue;
            };
            owned.sent = false;
            if owned.cancel.is_some() || self.deadlocks.is_condemned(lock) {
                self.on_refused(now, lock, Refusal::Cancelled);
            }
        }
        self.drop_taken(now);
        if let Some(place) = self.resources.place(&resource) {
            if self.resources.get(place).locks.is_empty() {
                self.resources.remove(place);
            } else {
                self.look_up(now, &resource);
            }
        }
    }

    /// A survivor restates locks to this node.
    pub(crate) fn on_restate(
        &mut self,
        now: Instant,
        from: Life,
        dead: Life,
        resource: ResourceId,
        locks: Vec<RestatedLock>,
    ) {
        if let Some(place) = self.rebuilding_place(now, from, dead, &resource) {
            self.take_restated(now, from, dead, place, locks);
        }
    }

    fn take_restated(
        &mut self,
        now: Instant,
        from: Life,
        dead: Life,
        place: Place,
        locks: Vec<RestatedLock>,
    ) {
        for lock in locks {
            let key = Key::of(from, lock.lock);
            if self.surviving.is_ghost(key) {
                continue;
            }
            let granted = lock.granted;
            let lock = match to_engine(lock) {
                Ok(lock) => lock,
                Err(bits) => {
                    let name = &self.resources.peek(place).id.name;
                    self.out.push(Out::Fatal(format!(
                        "node {} restates a lock on {name} with unknown flag bits {bits:#x}",
                        from.0
                    )));
                    continue;
                }
            };
            if let Some(rebuild) = self.rebuild_of(dead) {
                rebuild.restated(place, key);
            }
            if let Some(master) = self.resources.get_mut(place).master() {
                master.engine.restate(key, lock);
            }
            if let Some((mode, token)) = granted {
                self.note_at_master(now, Op::Restated, place, key, Some(mode), token);
            }
        }
    }

    /// The resource on which a survivor restates something, made ready for that if it is to be
    /// rebuilt here.
    pub(crate) fn rebuilding_place(
        &mut self,
        now: Instant,
        from: Life,
        dead: Life,
        resource: &ResourceId,
    ) -> Option<Place> {
        let (mut place, new) = self.resources.place_or_new(resource);
        if !new && self.resources.get(place).is_lost_with(dead) {
            self.restate(now, place, dead); // Its turn had not come yet.
            (place, _) = self.resources.place_or_new(resource);
        }
        let ready = self.may_rebuild(now, from, dead, resource, place);
        ready.then_some(place)
    }

    /// Makes a resource ready for what is restated on it, unless it cannot be rebuilt here.
    fn may_rebuild(
        &mut self,
        now: Instant,
        from: Life,
        dead: Life,
        resource: &ResourceId,
        place: Place,
    ) -> bool {
        let me = self.my_life();
        let rules = self.rules(resource);
        let floor = match Mutant::TokenNotCarried.active() {
            false => Token::floor(self.view.epoch),
            true => Token::NONE,
        };
        let known = self.resources.get(place).directory;
        let known = known.filter(|entry| self.is_taken(*entry));
        let rebuild = self
            .departed
            .get_mut(&dead)
            .and_then(|d| d.rebuild.as_mut());
        let Some(rebuild) = rebuild.filter(|r| !r.complete) else {
            self.out.push(Out::Fatal(format!(
                "node {} restates locks on {} for a recovery that is not under way here",
                from.0, resource.name
            )));
            return false;
        };
        if let Some(Entry::At(master)) = known
            && master != me.0
        {
            self.out.push(Out::Fatal(format!(
                "node {} restates locks on {}, which node {master} masters",
                from.0, resource.name
            )));
            return false;
        }
        let mut mastered = false;
        let entry = self.resources.get(place);
        if !matches!(entry.state, State::Mine(_)) {
            let locks = &self.locks;
            let held = |lock| locks.get(lock).is_some_and(Owned::shows_master);
            if from != me && entry.locks.iter().any(held) {
                self.out.push(Out::Fatal(format!(
                    "node {} restates locks on {}, on which this node has locks with another master",
                    from.0, resource.name
                )));
                return false;
            }
            let master = Master {
                engine: Engine::new(floor, rules),
                rebuilding: Some(PackedLife::of(dead)),
                heat: Heat::default(),
            };
            let state = State::Mine(Box::new(master));
            self.resources.set_state(place, state).idle_since = NOT_IDLE;
            rebuild.places.push(place);
            mastered = true;
        }
        let Some(master) = self.resources.get_mut(place).master() else {
            return false;
        };
        if master.rebuilding.map(PackedLife::life) != Some(dead) {
            self.out.push(Out::Fatal(format!(
                "node {} restates locks on {}, which is mastered here already",
                from.0, resource.name
            )));
            return false;
        }
        if mastered {
            self.note_master(now, place, true);
        }
        true
    }

    /// A life has restated to this node all that it had with a vanished master, or never will.
    pub(crate) fn on_restate_done(&mut self, now: Instant, from: Life, dead: Life) {
        let Some(departure) = self.departed.get_mut(&dead) else {
            return;
        };
        let Some(rebuild) = &mut departure.rebuild else {
            return;
        };
        rebuild.awaited.remove(&from);
        if rebuild.awaited.is_empty() && !rebuild.complete {
            rebuild.complete = true;
            let places = rebuild.places.clone();
            self.note_recovery(now, dead, Phase::Granting);
            self.begin_work(now, Work::finish(dead, places));
        }
    }

    /// Whether this node may still come to master something by an earlier proof.
    pub(crate) fn rebuilds_unfinished(&self) -> bool {
        self.departed
            .values()
            .any(|d| d.rebuild.as_ref().is_some_and(|r| r.rebuilt.is_none()))
    }

    /// This node is about to leave: it decides nothing any more, and hands the values of what it
    /// masters to the nodes that will rebuild. Own clients must be gone.
    pub fn begin_leave(&mut self, now: Instant) {
        self.work_off(now);
        self.call_off(now);
        self.leaving = true;
        self.hand_over();
    }

    /// Hands over every value, even one that was never published: what an heir gets no value for,
    /// because the members changed again on the way, it has to mark.
    pub(crate) fn hand_over(&mut self) {
        let heirs: Vec<NodeId> = self.others();
        let mut handed = Vec::new();
        for entry in self.resources.iter() {
            let State::Mine(master) = &entry.state else {
                continue;
            };
            if master.rebuilding.is_some() {
                continue;
            }
            let mut value = master.engine.value();
            let linux = self.rules(&entry.id).compat == Compat::Linux;
            // A writer that vanished, or an own one that is gone, is dropped, and the value marked,
            // only where this node acts. By now it may not.
            value.maybe_stale |= master
                .engine
                .granted()
                .chain(master.engine.converting())
                .filter(|view| {
                    let life = view.key.life();
                    // One that rests keeps what its clients still have. What is under way is not handed over.
                    let owned = self.locks.get(&view.key.lock);
                    let settled = owned.is_some_and(|owned| owned.pending == Pending::None);
                    let kept = self.rests_here && settled;
                    let own = self.is_me(life) && !kept;
                    let foreign = !self.is_me(life) && !self.is_member(life);
                    view.valblk && (own || foreign) || linux && own
                })
                .any(|view| view.granted.is_some_and(|(mode, _)| mode.writes_value()));
            let resource = entry.id.clone();
            if let Some(heir) = directory_node(&heirs, resource.space, &resource.name) {
                handed.push((heir, Body::HandOver { resource, value }));
            }
        }
        for (heir, body) in handed {
            self.send(heir, body);
        }
        self.hand_over_locks();
    }
}

/// Most locks in one restatement.
const RESTATED_PER_MESSAGE: usize = 256;
/// A restatement with so many bytes of value blocks takes no more locks. With one lock more, which
/// may have two blocks, it is still shorter than what one message may be.
const RESTATED_BYTES: usize = 64 << 10;

/// Locks in portions that each fit one message.
pub(crate) fn in_messages(locks: Vec<RestatedLock>) -> Vec<Vec<RestatedLock>> {
    let mut messages: Vec<Vec<RestatedLock>> = Vec::new();
    let mut bytes = 0;
    for lock in locks {
        let blocks = lock.value.as_ref().map(|value| &value.block);
        let blocks = blocks.into_iter().chain(&lock.publish);
        let len: usize = blocks.map(|block| block.as_bytes().len()).sum();
        match messages.last_mut() {
            Some(last) if last.len() < RESTATED_PER_MESSAGE && bytes < RESTATED_BYTES => {
                last.push(lock);
                bytes += len;
            }
            _ => {
                messages.push(vec![lock]);
                bytes = len;
            }
        }
    }
    messages
}

/// A lock as its owner tells the next master, if there is anything to tell.
pub(crate) fn restate_lock(lock: LockId, owned: &Owned) -> Option<RestatedLock> {
    if owned.recorded {
        return None; // Whoever rebuilds knows it from the log.
    }
    let granted = owned.granted.map(|mode| (mode, owned.token));
    let (pending, publish) = match &owned.pending {
        Pending::None
        | Pending::Update { .. }
        | Pending::Recording { .. }
        | Pending::Taking { .. } => (None, None),
        Pending::Request { mode, flags } => (Some((*mode, *flags)), None),
        Pending::Convert { mode, flags, value } => (Some((*mode, *flags)), value.clone()),
        // A release has done its work once the lock is down to NL, with what it says of the value.
        Pending::Unlock { flags, .. } if flags.contains(Flags::IVVALBLK) => {
            (Some((LockMode::Nl, Flags::VALBLK | Flags::IVVALBLK)), None)
        }
        Pending::Unlock { flags, value } if owned.valblk || flags.contains(Flags::VALBLK) => {
            (Some((LockMode::Nl, Flags::VALBLK)), value.clone())
        }
        Pending::Unlock { .. } => (Some((LockMode::Nl, Flags::NONE)), None),
        // Restated with what it holds.
        Pending::Range(_) => return None,
    };
    if granted.is_none() && (pending.is_none() || Mutant::WaiterForgotten.active()) {
        return None;
    }
    Some(RestatedLock {
        lock,
        granted,
        pending,
        ticket: owned.ticket,
        publish,
        blocking: owned.blocking,
        valblk: owned.valblk,
        value: owned
            .value
            .as_deref()
            .cloned()
            .filter(|_| !Mutant::ValueNotRestated.active()),
        unsure: owned.unsure,
        watches: owned.watches && !Mutant::WatchNotRestated.active(),
    })
}

fn to_engine(lock: RestatedLock) -> Result<Restated, u32> {
    let pending = match lock.pending {
        Some((mode, flags)) => {
            if flags.unknown() != 0 {
                return Err(flags.unknown());
            }
            Some((mode, flags))
        }
        None => None,
    };
    Ok(Restated {
        granted: lock.granted,
        pending,
        ticket: lock.ticket.map(Ticket),
        wants_bast: lock.blocking,
        valblk: lock.valblk,
        value: lock.value,
        publish: lock.publish,
        unsure: lock.unsure,
        watches: lock.watches,
    })
}
