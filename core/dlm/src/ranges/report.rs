//! What a master tells of ranges.

use crate::{
    Dlm,
    master::{Key, Master},
    scan::LOCKS_PER_QUEUE,
    table::Resource,
};
use mainstay_base::{ByteRange, LockMode, Token};
use mainstay_lock::ranges::{RangeSet, Stretch};
use mainstay_wire::dlm::MasteredLock;
use std::collections::{BTreeMap, BTreeSet};

/// Most ranges and calls of one resource that are told of.
const TOLD_MAX: usize = LOCKS_PER_QUEUE;

impl Master {
    /// What is held in ranges, and the calls that wait, first come first. If that is much, what is in
    /// the way of the calls is told before the rest.
    pub(crate) fn told_ranges(&self) -> (Vec<MasteredLock>, Vec<MasteredLock>) {
        let Some(ranges) = self.engine.ranges() else {
            return (Vec::new(), Vec::new());
        };
        let calls = ranges.waiting().take(TOLD_MAX);
        let waiting = calls.map(|call| MasteredLock {
            requested: Some(call.ask.mode),
            ..entry_of(call.key, call.ask.range)
        });
        let waiting = waiting.collect();
        let sets: BTreeMap<Key, _> = ranges.owners().collect();
        let mut held: BTreeSet<(ByteRange, Key, Token, u8)> = BTreeSet::new();
        let entry = |key: Key, s: Stretch| (s.range, key, s.token, s.mode as u8);
        let mut looked_at = 0;
        for call in ranges.waiting() {
            if looked_at > 10 * TOLD_MAX {
                break;
            }
            for holder in ranges.holders_in_the_way(call.key) {
                looked_at += 1;
                let set = sets.get(&holder);
                let stretch = set.and_then(|set| set.conflict(call.ask.range, call.ask.mode));
                held.extend(stretch.map(|stretch| entry(holder, stretch)));
            }
        }
        for (key, set) in sets {
            let room = TOLD_MAX.saturating_sub(held.len());
            if room > 0 {
                let more = set.stretches().into_iter().take(room);
                held.extend(more.map(|stretch| entry(key, stretch)));
            }
        }
        let held = held.into_iter().map(|(range, key, token, mode)| {
            let granted = Some(LockMode::ALL[usize::from(mode)]);
            MasteredLock {
                granted,
                token,
                ..entry_of(key, range)
            }
        });
        (held.collect(), waiting)
    }
}

impl Dlm {
    /// Checks what this node knows of ranges as their master against what it knows as their owner.
    ///
    /// # Panics
    /// If they differ, or the ranges are not sound in themselves.
    pub(crate) fn check_ranges(&self, resource: &Resource, master: &Master) {
        let Some(ranges) = master.engine.ranges() else {
            return;
        };
        ranges.check();
        assert!(
            !ranges.is_empty() && master.engine.is_empty(),
            "{} is locked in ranges and as a whole, or in no ranges",
            resource.id.name
        );
        if !self.deferred.is_empty() {
            return; // What was given up is still on its way.
        }
        for (key, set) in ranges
            .owners()
            .filter(|(key, _)| key.life() == self.my_life())
        {
            let owned = self.ranges.get(&key.lock).map(RangeSet::stretches);
            assert_eq!(
                owned.unwrap_or_default(),
                set.stretches(),
                "{key:?} on {}: its master and its owner, one node, disagree",
                resource.id.name
            );
        }
    }
}

fn entry_of(key: Key, range: ByteRange) -> MasteredLock {
    let (node, incarnation) = key.life();
    MasteredLock {
        node,
        incarnation,
        lock: key.lock,
        granted: None,
        requested: None,
        token: Token::NONE,
        range: Some(range),
    }
}
