//! Restating ranges to the next master, and rebuilding them there.

use super::to_engine;
use crate::{
    Dlm, Life,
    master::{Key, Master},
    table::Pending,
};
use mainstay_base::{Instant, LockId, LockMode, Mutant};
use mainstay_lock::{
    Effect, Ticket,
    ranges::{RestatedRanges as Restated, Stretch},
};
use mainstay_wire::{
    dlm::{Body, ResourceId, RestatedRanges},
    lock::Refusal,
};
use std::collections::BTreeSet;

/// Most ranges in one restatement: at most some 30 KiB.
const RANGES_PER_MESSAGE: usize = 1024;

impl Dlm {
    /// A lock on ranges as its owner tells the next master, in parts; nothing of one that is not on
    /// ranges.
    pub(crate) fn restated_ranges(&self, lock: LockId) -> Vec<RestatedRanges> {
        let Some(owned) = self.locks.get(&lock).filter(|_| self.is_on_ranges(lock)) else {
            return Vec::new();
        };
        let ask = match owned.pending {
            Pending::Range(ask) => Some(ask).filter(|_| !Mutant::WaiterForgotten.active()),
            _ => None,
        };
        let set = self.ranges.get(&lock);
        let held = set.map(|set| set.stretches()).unwrap_or_default();
        let mut parts: Vec<&[Stretch]> = held.chunks(RANGES_PER_MESSAGE).collect();
        if parts.is_empty() && ask.is_some() {
            parts.push(&[]);
        }
        let part = |part: &[Stretch]| RestatedRanges {
            held: part.iter().map(|s| (s.range, s.mode, s.token)).collect(),
            ask,
            ticket: owned.ticket.filter(|_| ask.is_some()),
            blocking: owned.blocking,
        };
        parts.into_iter().map(part).collect()
    }

    /// Tells the node that rebuilds a resource of the ranges of own locks.
    pub(crate) fn restate_ranges(
        &mut self,
        now: Instant,
        rebuilder: mainstay_base::NodeId,
        dead: Life,
        resource: &ResourceId,
        locks: Vec<(LockId, RestatedRanges)>,
    ) {
        let me = self.my_life();
        for (lock, ranges) in locks {
            if rebuilder == self.me {
                self.on_restate_ranges(now, me, dead, resource, lock, ranges);
                continue;
            }
            let (node, incarnation) = dead;
            let body = Body::RestateRanges {
                node,
                incarnation,
                resource: resource.clone(),
                lock,
                ranges,
            };
            self.send(rebuilder, body);
        }
    }

    /// A survivor restates ranges to this node.
    pub(crate) fn on_restate_ranges(
        &mut self,
        now: Instant,
        from: Life,
        dead: Life,
        resource: &ResourceId,
        lock: LockId,
        ranges: RestatedRanges,
    ) {
        let key = Key::of(from, lock);
        let Some(place) = self.rebuilding_place(now, from, dead, resource) else {
            return;
        };
        if let Some(rebuild) = self.rebuild_of(dead) {
            rebuild.restated(place, key);
        }
        if let Some(master) = self.resources.get_mut(place).master() {
            let held = ranges.held.into_iter();
            let held = held.map(|(range, mode, token)| Stretch { range, mode, token });
            let restated = Restated {
                held: held.collect(),
                ask: ranges.ask.map(to_engine),
                ticket: ranges.ticket.map(Ticket),
                wants_bast: ranges.blocking,
            };
            master.engine.open_ranges().restate(key, restated);
        }
    }
}

/// How a rebuilt resource is used.
pub(crate) struct Use {
    ranged: bool,
    /// Calls of the other kind, which cannot have been granted.
    pub(crate) refused: Vec<(Key, Refusal)>,
}

impl Master {
    /// Decides how a rebuilt resource is used. What is held decides: in ranges if any was restated, as a
    /// whole if a lock was. Otherwise places in the queues do; only they may be of a call that has
    /// ended since without its owner's knowing.
    ///
    /// Of whole locks on a resource that is held in ranges, requests are taken out. Others are being
    /// released: the old master had done so, or there were no ranges, and their owners wait to hear it.
    ///
    /// # Errors
    /// The lock that excludes the ranges.
    pub(crate) fn settle_use(&mut self) -> Result<Use, Key> {
        let ranges = self.engine.ranges();
        let held = ranges.is_some_and(|ranges| ranges.restated_held());
        let queued = ranges.is_some_and(|ranges| ranges.restated_queued());
        let whole = self
            .engine
            .restated()
            .any(|(_, lock)| lock.granted.is_some());
        let ranged = held || queued && !whole;
        let mut refused = Vec::new();
        if ranged {
            let mut asked = BTreeSet::new();
            for (key, lock) in self.engine.restated() {
                match (lock.granted, lock.pending) {
                    (None, _) => {
                        asked.insert(key);
                    }
                    (Some(_), Some((LockMode::Nl, _))) => {}
                    (Some(_), _) => return Err(key),
                }
            }
            for key in asked {
                self.engine.force_unlock(key, false, &mut Vec::new());
                refused.push((key, Refusal::Ranged));
            }
        }
        Ok(Use { ranged, refused })
    }

    /// Makes the ranges live again, after the whole locks; or, if there are such, takes them out, for
    /// they are only asked for.
    pub(crate) fn finish_ranges(&mut self, settled: &mut Use, effects: &mut Vec<Effect<Key>>) {
        if settled.ranged {
            // They have been told that they are down to NL, and what they published.
            let released: Vec<Key> = self.engine.granted().map(|view| view.key).collect();
            for key in released {
                self.engine.force_unlock(key, false, &mut Vec::new());
            }
        }
        let whole = !self.engine.is_empty();
        let Some(ranges) = self.engine.ranges_mut() else {
            return;
        };
        if whole {
            let asked: Vec<Key> = ranges.restated_keys().collect();
            for key in asked {
                ranges.release(key, effects);
                settled.refused.push((key, Refusal::Whole));
            }
        }
        ranges.finish_rebuild(effects);
        self.engine.close_ranges();
    }
}
