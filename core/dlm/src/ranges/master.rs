//! The master side of locks on ranges.

use super::to_engine;
use crate::{
    Dlm, Life, Out,
    master::{Key, Master},
    moving::heat::Stage,
    names::Place,
};
use mainstay_base::{Instant, LockId, Token};
use mainstay_lock::Blocker;
use mainstay_recorder::Op;
use mainstay_wire::{dlm::Body, lock::Refusal};

impl Master {
    /// Whether nobody has a lock, or waits for one.
    pub(crate) fn is_empty(&self) -> bool {
        self.engine.is_empty() && !self.is_ranged()
    }

    /// Whether the resource is locked in ranges.
    pub(crate) fn is_ranged(&self) -> bool {
        self.engine.ranges().is_some()
    }

    /// What is in the way of a waiting lock.
    pub(crate) fn blockers(&self, key: Key) -> Vec<Blocker<Key>> {
        match self.engine.ranges() {
            None => self.engine.blockers(key),
            Some(ranges) => ranges.blockers(key),
        }
    }

    /// Whether a lock is still in the way of another as [`Master::blockers`] told.
    pub(crate) fn still_blocks(&self, key: Key, blocker: Key, stamp: i64) -> bool {
        match self.engine.ranges() {
            None => self.engine.still_blocks(key, blocker, stamp),
            Some(ranges) => ranges.still_blocks(key, blocker, stamp),
        }
    }
}

impl Dlm {
    /// Carries out a call on a resource mastered here, if it is about ranges. Whether it was.
    pub(crate) fn execute_ranges(
        &mut self,
        now: Instant,
        place: Place,
        from: Life,
        body: &Body,
    ) -> bool {
        if matches!(body, Body::RangeCall { .. }) {
            self.keep_for_ranges(now, place);
        }
        let Some(master) = self.resources.get_mut(place).master() else {
            return false;
        };
        let ranges = master.engine.ranges();
        let knows = |lock: LockId| ranges.is_some_and(|ranges| ranges.knows(Key::of(from, lock)));
        let mut effects = std::mem::take(&mut self.effects);
        let (mut refused, mut ended) = (None, None);
        match *body {
            Body::RangeCall { lock, .. } if !master.engine.is_empty() => {
                refused = Some((lock, Refusal::Whole));
            }
            Body::RangeCall { lock, ask, .. } => {
                let key = Key::of(from, lock);
                let called = master
                    .engine
                    .open_ranges()
                    .call(key, to_engine(ask), &mut effects);
                if let Err(why) = called {
                    refused = Some((lock, Refusal::Invalid(why.to_string())));
                }
            }
            Body::RangeWeaken {
                lock, range, mode, ..
            } if knows(lock) => {
                let key = Key::of(from, lock);
                let ranges = master.engine.open_ranges();
                match ranges.weaken(key, range, mode, &mut effects) {
                    Ok(()) => ended = Some((Op::Unlocked, key)).filter(|_| !ranges.knows(key)),
                    // Its master and its owner disagree: a range may have been lost.
                    Err(why) => {
                        let node = from.0;
                        let text = format!("node {node} gives up a range that it has not: {why}");
                        self.out.push(Out::Fatal(text));
                    }
                }
            }
            Body::Drop { lock, .. } if knows(lock) => {
                let key = Key::of(from, lock);
                master.engine.open_ranges().release(key, &mut effects);
                ended = Some((Op::Dropped, key));
            }
            Body::Cancel { lock, .. } if knows(lock) => {
                let key = Key::of(from, lock);
                master.engine.open_ranges().cancel(key, &mut effects);
            }
            Body::Request { lock, .. } if master.is_ranged() => {
                refused = Some((lock, Refusal::Ranged));
            }
            Body::RangeWeaken { .. } => {}
            _ => {
                self.effects = effects;
                return false;
            }
        }
        if let Some(master) = self.resources.get_mut(place).master() {
            master.engine.close_ranges();
        }
        if let Some((op, key)) = ended {
            self.note_at_master(now, op, place, key, None, Token::NONE);
        }
        self.deliver(now, place, effects);
        if let Some((lock, why)) = refused {
            self.tell_refused(now, from, lock, why);
        }
        self.note_idle(now, place);
        true
    }

    /// A resource is about to be locked in ranges. Such resources do not move: if this one is on its
    /// way, its batch is called off.
    fn keep_for_ranges(&mut self, now: Instant, place: Place) {
        let master = self.resources.get_mut(place).master();
        let leaves = |master: &mut Master| master.heat.stage == Stage::Asked;
        // While there are whole locks, the call is refused anyhow.
        if master.is_some_and(|master| leaves(master) && master.engine.is_empty()) {
            self.call_off(now);
        }
    }

    /// Drops the ranges that an incarnation held on a resource mastered here. How many locks there
    /// were.
    pub(crate) fn purge_ranges(&mut self, now: Instant, place: Place, dead: Life) -> u64 {
        let entry = self.resources.find_mut(place);
        let master = entry.and_then(|entry| entry.master());
        let Some(master) = master.filter(|master| master.is_ranged()) else {
            return 0;
        };
        let owners = master.engine.open_ranges().owners();
        let of_dead = owners.map(|(key, _)| key).filter(|key| key.life() == dead);
        let keys: Vec<Key> = of_dead.collect();
        let mut effects = std::mem::take(&mut self.effects);
        for key in &keys {
            master.engine.open_ranges().release(*key, &mut effects);
        }
        // On the way some of them were granted what others of them had.
        effects.retain(|effect| effect.key().life() != dead);
        master.engine.close_ranges();
        for key in &keys {
            self.note_at_master(now, Op::Purged, place, *key, None, Token::NONE);
        }
        self.deliver(now, place, effects);
        self.note_idle(now, place);
        keys.len() as u64
    }
}
