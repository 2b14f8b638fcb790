//! What always holds of ranges, asserted.

use super::{Obstacle, Ranges};
use core::fmt::Debug;

impl<K: Copy + Ord + Debug> Ranges<K> {
    /// Asserts everything that holds between operations, at a cost of O(n log n).
    ///
    /// # Panics
    /// If the engine has a bug, or ranges were restated that cannot have been held at once.
    pub fn check(&self) {
        let mut held = 0;
        for (key, owner) in &self.owners {
            let stretches = owner.set.stretches();
            held += stretches.len();
            assert!(
                owner.call.is_some() || !owner.set.is_empty(),
                "{key:?} neither holds nor waits"
            );
            for pair in stretches.windows(2) {
                let (a, b) = (pair[0], pair[1]);
                let apart = a.range.end() < b.range.start();
                let meet = apart && a.range.end() + 1 == b.range.start();
                assert!(
                    apart && !(meet && a.mode == b.mode),
                    "{key:?} holds {a:?} and {b:?}"
                );
            }
            for stretch in stretches {
                let other = self.held.first_in_way(stretch.range, stretch.mode, *key);
                assert!(
                    other.is_none(),
                    "conflicting ranges are held on one resource: {key:?} holds {stretch:?}, and \
                     {other:?} is in its way"
                );
                assert!(
                    stretch.token <= self.last_token,
                    "{stretch:?} has a token larger than the last one issued, {:?}",
                    self.last_token
                );
            }
            if let Some(ticket) = owner.call {
                let call = self.calls.get(&ticket);
                assert_eq!(call.map(|call| call.key), Some(*key), "{ticket}");
            }
        }
        assert_eq!(held, self.held.len(), "stretches and their index differ");
        assert_eq!(self.calls.len(), self.wanted.len(), "calls and their index");
        self.check_queue();
        assert!(
            self.rebuild.is_none() || self.owners.is_empty(),
            "a resource that is being rebuilt has live ranges"
        );
    }

    fn check_queue(&self) {
        for (ticket, call) in &self.calls {
            let waits = self.owners.get(&call.key).and_then(|owner| owner.call);
            assert_eq!(waits, Some(*ticket), "a call without an owner: {call:?}");
            assert!(*ticket < self.next_ticket, "{ticket} was not issued yet");
            assert!(
                self.obstacle(call.key, call.ask, *ticket).is_some(),
                "a call waits for nobody: {call:?}"
            );
            let parked = match call.parked {
                Some(Obstacle::Holder(holder, at)) => {
                    let owner = self.owners.get(&holder);
                    let there = mainstay_base::ByteRange::new(at, at).expect("one byte");
                    let holds = |o: &super::Owner| o.set.conflict(there, call.ask.mode).is_some();
                    self.parked_at.contains(&(holder, at, *ticket)) && owner.is_some_and(holds)
                }
                Some(Obstacle::Ahead(ahead)) => {
                    self.parked_behind.contains(&(ahead, *ticket))
                        && ahead < *ticket
                        && self.calls.contains_key(&ahead)
                }
                None => false,
            };
            assert!(parked, "a call is not parked at an obstacle: {call:?}");
        }
        assert_eq!(
            self.parked_at.len() + self.parked_behind.len(),
            self.calls.len(),
            "each call is parked once"
        );
        for (key, owner) in self.owners.iter().filter(|(_, o)| o.wants_bast) {
            for call in self.calls.values().filter(|call| call.key != *key) {
                assert!(
                    owner.untold(call.ask.range, call.ask.mode).is_empty(),
                    "{key:?} was not told that it is in the way of {call:?}"
                );
            }
        }
    }
}
