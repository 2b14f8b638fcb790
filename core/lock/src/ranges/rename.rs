//! Ranges whose owner goes on under another key.

use super::{Obstacle, RangeAsk, RangeSet, Ranges, set::Change};
use crate::{Effect, Ticket};
use core::fmt::Debug;

impl<K: Copy + Ord + Debug> Ranges<K> {
    /// Gives owners other keys, where `renamed` knows one. They are to be [greeted](Ranges::greet_renamed).
    /// Whether there were any.
    pub fn rename(&mut self, renamed: &impl Fn(K) -> Option<K>) -> bool {
        let restated = self.rebuild.as_mut().is_some_and(|r| r.rename(renamed));
        let keys = self.owners.keys();
        let keys: Vec<(K, K)> = keys.filter_map(|&key| Some((key, renamed(key)?))).collect();
        for &(from, to) in &keys {
            let Some(mut owner) = self.owners.remove(&from) else {
                continue;
            };
            let stretches = owner.set.stretches();
            let (removed, added) = (stretches.clone(), stretches);
            let none = Vec::new;
            self.held.apply(
                from,
                &Change {
                    removed,
                    added: none(),
                },
            );
            self.held.apply(
                to,
                &Change {
                    removed: none(),
                    added,
                },
            );
            self.rename_parked(from, to);
            if let Some(call) = owner.call.and_then(|ticket| self.calls.get_mut(&ticket)) {
                call.key = to;
            }
            owner.renamed = true;
            self.owners.insert(to, owner);
        }
        restated || !keys.is_empty()
    }

    /// Calls that are parked at what an owner holds are parked there under its other key.
    fn rename_parked(&mut self, from: K, to: K) {
        let (first, last) = (Ticket(i64::MIN), Ticket(i64::MAX));
        let parked = self
            .parked_at
            .range((from, 0, first)..=(from, u64::MAX, last));
        let parked: Vec<(u64, Ticket)> = parked.map(|&(_, at, ticket)| (at, ticket)).collect();
        for (at, ticket) in parked {
            self.unpark(ticket);
            self.park(ticket, Obstacle::Holder(to, at));
        }
    }

    /// Tells those whose keys are others now, once, what they are in the way of, whatever they were told before.
    pub fn greet_renamed(&mut self, out: &mut Vec<Effect<K>>) {
        let mut any = false;
        for owner in self.owners.values_mut().filter(|owner| owner.renamed) {
            (owner.renamed, owner.told) = (false, RangeSet::default());
            any = true;
        }
        let calls = self.calls.values().filter(|_| any);
        let waiting: Vec<(K, RangeAsk)> = calls.map(|call| (call.key, call.ask)).collect();
        for (key, ask) in waiting {
            self.tell_those_in_the_way(key, ask, out);
        }
    }

    /// Tells an owner anew what it is in the way of. Whether there is such an owner.
    pub fn adopted(&mut self, key: K, out: &mut Vec<Effect<K>>) -> bool {
        let owner = self.owners.get_mut(&key);
        let known = owner.map(|owner| owner.renamed = true).is_some();
        self.greet_renamed(out);
        known
    }
}
