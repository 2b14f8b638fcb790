//! Who waits for whom: calls of one resource that would wait for each other, and the edges for a
//! search across resources.

use super::{Call, RangeAsk, Ranges};
use crate::{Blocker, Ticket};
use core::fmt::Debug;
use std::collections::BTreeSet;

/// Most waits that are looked at when a call begins to wait. A circle further on is left to the
/// search across resources.
const LOOKED_AT: usize = 256;

/// Calls of owners that hold nothing, whose obstacles are known: they are those of every earlier call
/// for some of the same bytes in no stronger mode, too. So a long queue is looked through once, and
/// not once for each that stands in it.
#[derive(Default)]
struct Followed(Vec<(Ticket, RangeAsk)>);

impl Followed {
    fn covers(&self, ticket: Ticket, ask: RangeAsk) -> bool {
        self.0.iter().any(|(later, other)| {
            let wider = other.range.contains(ask.range) && other.mode.covers(ask.mode);
            *later > ticket && wider
        })
    }
}

/// A call that waits, with the one that it stands directly before, and that one's place.
type Standing<'a, K> = (Ticket, &'a Call<K>, Option<(K, i64)>);

impl<K: Copy + Ord + Debug> Ranges<K> {
    /// Whether a call that cannot be granted now would wait for one that waits for it.
    pub(super) fn would_deadlock(&self, key: K, ask: RangeAsk) -> bool {
        if self.holds_nothing(key) {
            return false; // Nobody waits for one that has nothing, and stands behind all.
        }
        let mut seen = BTreeSet::new();
        let mut followed = Followed::default();
        let mut todo = vec![(key, ask, self.next_ticket)];
        while let Some((waiter, ask, ticket)) = todo.pop() {
            if followed.covers(ticket, ask) {
                continue;
            }
            if self.holds_nothing(waiter) {
                followed.0.push((ticket, ask));
            }
            let holders = self.in_the_way(waiter, ask);
            if waiter != key && holders.contains(&key) {
                return true;
            }
            let behind = self.directly_before(waiter, ask, ticket);
            let waiting = holders
                .iter()
                .filter_map(|holder| self.owners.get(holder)?.call);
            for next in waiting.chain(behind) {
                if seen.len() < LOOKED_AT
                    && seen.insert(next)
                    && let Some(call) = self.calls.get(&next)
                {
                    todo.push((call.key, call.ask, next));
                }
            }
        }
        false
    }

    fn holds_nothing(&self, key: K) -> bool {
        let owner = self.owners.get(&key);
        owner.is_none_or(|owner| owner.set.is_empty())
    }

    /// The calls that stand before one.
    fn directly_before(&self, key: K, ask: RangeAsk, ticket: Ticket) -> BTreeSet<Ticket> {
        let own = self.owners.get(&key).map(|owner| &owner.set);
        let mut found = self.wanted.all_before(ticket, ask.range, ask.mode);
        found.retain(|ahead| self.stands_before(*ahead, own));
        found
    }

    /// A waiting call, and all that stand before it, directly or by way of others: each with the
    /// one that it stands directly before, nearest first.
    fn queue_of(&self, key: K) -> Vec<Standing<'_, K>> {
        let Some((ticket, call)) = self.waiting_call(key) else {
            return Vec::new();
        };
        let mut seen = BTreeSet::from([ticket]);
        let mut queue = vec![(ticket, call, None)];
        let mut followed = Followed::default();
        let mut next = 0;
        while let Some(&(ticket, call, _)) = queue.get(next) {
            if followed.covers(ticket, call.ask) {
                next += 1;
                continue;
            }
            if self.holds_nothing(call.key) {
                followed.0.push((ticket, call.ask));
            }
            let via = (next > 0).then_some((call.key, ticket.0));
            let ahead = self.directly_before(call.key, call.ask, ticket);
            for ticket in ahead.into_iter().rev() {
                if seen.insert(ticket)
                    && let Some(call) = self.calls.get(&ticket)
                {
                    queue.push((ticket, call, via));
                }
            }
            next += 1;
        }
        queue
    }

    /// All that is in the way of an owner's waiting call: other owners' ranges, calls that stand
    /// before it, and what is in their way. Nothing if none waits.
    #[must_use]
    pub fn blockers(&self, key: K) -> Vec<Blocker<K>> {
        let mut found: Vec<Blocker<K>> = Vec::new();
        let mut holders = BTreeSet::new();
        let mut followed = Followed::default();
        for (place, (ticket, call, via)) in self.queue_of(key).into_iter().enumerate() {
            if place > 0 {
                found.push(Blocker {
                    key: call.key,
                    held: false,
                    stamp: ticket.0,
                    via,
                });
            }
            if followed.covers(ticket, call.ask) {
                continue;
            }
            if self.holds_nothing(call.key) {
                followed.0.push((ticket, call.ask));
            }
            let by_way = (place > 0).then_some((call.key, ticket.0));
            for holder in self.in_the_way(call.key, call.ask) {
                let owner = self.owners.get(&holder);
                let conflict = owner.and_then(|o| o.set.conflict(call.ask.range, call.ask.mode));
                if let Some(stretch) = conflict.filter(|_| holders.insert(holder)) {
                    found.push(Blocker {
                        key: holder,
                        held: true,
                        stamp: stretch.token.0.cast_signed(),
                        via: by_way,
                    });
                }
            }
        }
        found
    }

    /// The other owners that hold something in the way of an owner's waiting call.
    #[must_use]
    pub fn holders_in_the_way(&self, key: K) -> BTreeSet<K> {
        let call = self.waiting_call(key);
        call.map(|(_, call)| self.in_the_way(key, call.ask))
            .unwrap_or_default()
    }

    /// Whether an owner still waits, and another is still in its way as [`Ranges::blockers`] told:
    /// by a stretch with that token, or before it with that ticket.
    #[must_use]
    pub fn still_blocks(&self, key: K, blocker: K, stamp: i64) -> bool {
        let (Some((_, call)), Some(owner)) = (self.waiting_call(key), self.owners.get(&blocker))
        else {
            return false;
        };
        let conflict = owner.set.conflict(call.ask.range, call.ask.mode);
        let holds = conflict.is_some_and(|stretch| stretch.token.0.cast_signed() == stamp);
        let stands = owner.call == Some(Ticket(stamp));
        holds
            || stands
                && self
                    .queue_of(key)
                    .iter()
                    .any(|(ticket, ..)| *ticket == Ticket(stamp))
    }
}
