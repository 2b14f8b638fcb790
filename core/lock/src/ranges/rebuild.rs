//! Rebuilding ranges on a new master from what their owners restate.
//!
//! As for whole locks (see [`Resource::finish_rebuild`](crate::Resource::finish_rebuild)): a call
//! with a ticket was queued by the old master and keeps its place; one without is treated as arriving
//! now, in the order of the keys. An owner that gave something up did so before it told anybody; so
//! what it restates is out of date only where a call in flight was granted that strengthened one part
//! of its range and weakened another. That shows where a range is restated that somebody else holds
//! by a later token: then the call is settled as granted.

use super::{RangeAsk, RangeSet, Ranges, Stretch};
use crate::{Effect, Grant, Ticket};
use core::fmt::Debug;
use mainstay_base::{Flags, Mutant, Token};
use std::collections::{BTreeMap, BTreeSet};

/// What an owner knows of its ranges.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RestatedRanges {
    /// What it holds; more may follow in further parts.
    pub held: Vec<Stretch>,
    /// What it has asked for and not heard of since.
    pub ask: Option<RangeAsk>,
    /// Its place, if the owner has heard that the call was queued.
    pub ticket: Option<Ticket>,
    /// Whether it wants blocking notices for what it holds.
    pub wants_bast: bool,
}

/// What has been restated so far.
#[derive(Debug)]
pub(super) struct Rebuild<K> {
    members: BTreeMap<K, Member>,
}

#[derive(Debug, Default)]
struct Member {
    set: RangeSet,
    ask: Option<RangeAsk>,
    ticket: Option<Ticket>,
    wants_bast: bool,
}

impl<K: Copy + Ord> Rebuild<K> {
    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub(super) fn knows(&self, key: K) -> bool {
        self.members.contains_key(&key)
    }

    pub(super) fn release(&mut self, key: K) -> bool {
        self.members.remove(&key).is_some()
    }

    pub(super) fn rename(&mut self, renamed: &impl Fn(K) -> Option<K>) -> bool {
        let before = self
            .members
            .keys()
            .copied()
            .find(|key| renamed(*key).is_some());
        let members = std::mem::take(&mut self.members).into_iter();
        self.members = members
            .map(|(key, member)| (renamed(key).unwrap_or(key), member))
            .collect();
        before.is_some()
    }

    pub(super) fn cancel(&mut self, key: K) -> bool {
        let Some(member) = self.members.get_mut(&key) else {
            return false;
        };
        let known = member.ask.take().is_some();
        member.ticket = None;
        if member.set.is_empty() {
            self.members.remove(&key);
        }
        known
    }
}

impl<K: Copy + Ord + Debug> Ranges<K> {
    /// Adds what an owner knows, or a further part of what it holds. Nothing is granted, told or
    /// refused until [`Ranges::finish_rebuild`].
    ///
    /// # Panics
    /// If the resource has live owners.
    pub fn restate(&mut self, key: K, restated: RestatedRanges) {
        assert!(self.owners.is_empty(), "owners restate to a new master");
        let rebuild = self.rebuild.get_or_insert_with(|| {
            let members = BTreeMap::new();
            Box::new(Rebuild { members })
        });
        let member = rebuild.members.entry(key).or_default();
        for stretch in restated.held {
            let Stretch { range, mode, token } = stretch;
            member.set.set(range, mode, token);
        }
        if restated.ask.is_some() {
            member.ask = restated.ask;
            member.ticket = restated.ticket;
        }
        member.wants_bast = restated.wants_bast;
    }

    /// The owners that have restated something and are not live yet.
    pub fn restated_keys(&self) -> impl Iterator<Item = K> {
        let rebuild = self.rebuild.iter();
        rebuild.flat_map(|rebuild| rebuild.members.keys().copied())
    }

    /// All that is held and waits, as it would be restated: for a master that hands it over to
    /// another.
    pub fn export(&self) -> impl Iterator<Item = (K, RestatedRanges)> {
        self.owners.iter().map(|(key, owner)| {
            let waiting = owner.call.and_then(|ticket| self.calls.get(&ticket));
            let restated = RestatedRanges {
                held: owner.set.stretches(),
                ask: waiting.map(|call| call.ask),
                ticket: owner.call,
                wants_bast: owner.wants_bast,
            };
            (*key, restated)
        })
    }

    /// Whether anybody restated a range.
    #[must_use]
    pub fn restated_held(&self) -> bool {
        let rebuild = self.rebuild.as_ref();
        rebuild.is_some_and(|rebuild| rebuild.members.values().any(|m| !m.set.is_empty()))
    }

    /// Whether anybody restated a place in the queue.
    #[must_use]
    pub fn restated_queued(&self) -> bool {
        let rebuild = self.rebuild.as_ref();
        rebuild.is_some_and(|rebuild| rebuild.members.values().any(|m| m.ticket.is_some()))
    }

    /// Makes the resource live again: settles calls in flight, orders the queue by tickets, grants
    /// what can be granted and tells those in the way of the rest. Emits `Queued` for calls that get
    /// another ticket than they restated.
    ///
    /// # Panics
    /// If the restated ranges cannot have been held at once: exclusion is broken already, and
    /// nothing may be built on it.
    pub fn finish_rebuild(&mut self, out: &mut Vec<Effect<K>>) {
        let Some(rebuild) = self.rebuild.take() else {
            return;
        };
        let mut members = rebuild.members;
        for member in members.values() {
            let last = member.set.stretches().into_iter().map(|s| s.token).max();
            self.raise_floor(last.unwrap_or(Token::NONE));
        }
        for (key, member) in &members {
            self.adopt(*key, member);
        }
        while let Some(key) = self.overtaken(&members) {
            self.settle(key, &mut members, out);
        }
        for (key, member) in &members {
            self.assert_alone(*key, &member.set);
        }
        let mut queue = Vec::new();
        let mut arriving = Vec::new();
        for (key, member) in &members {
            match (member.ask, member.ticket) {
                (Some(ask), Some(ticket)) => queue.push((ticket, *key, ask)),
                (Some(ask), None) => arriving.push((*key, ask)),
                (None, _) => {}
            }
        }
        queue.sort_by_key(|(ticket, key, _)| (*ticket, *key));
        for (ticket, key, ask) in queue {
            let last = self.calls.last_key_value().map(|(last, _)| *last);
            let ours = last.map_or(ticket, |last| ticket.max(last.after()));
            self.enqueue(key, ask, ours);
            self.next_ticket = self.next_ticket.max(ours.after());
            if ours != ticket {
                out.push(Effect::Queued { key, ticket: ours });
            }
        }
        let waiting: Vec<(Ticket, K, RangeAsk)> = self
            .calls
            .iter()
            .map(|(ticket, call)| (*ticket, call.key, call.ask))
            .collect();
        self.wake(waiting.iter().map(|(ticket, ..)| *ticket).collect(), out);
        for (ticket, key, ask) in waiting {
            if self.calls.contains_key(&ticket) {
                self.tell_those_in_the_way(key, ask, out);
            }
        }
        for (key, ask) in arriving {
            self.arrive(key, ask, out);
            self.forget_idle(key);
        }
    }

    fn adopt(&mut self, key: K, member: &Member) {
        let owner = self.owner_mut(key);
        owner.set = member.set.clone();
        owner.wants_bast = member.wants_bast;
        let change = super::set::Change {
            removed: Vec::new(),
            added: member.set.stretches(),
        };
        self.held.apply(key, &change);
        self.forget_idle(key);
    }

    /// An owner with a call in flight that weakens a stretch which somebody else holds by a later
    /// token, in a mode that conflicts.
    fn overtaken(&self, members: &BTreeMap<K, Member>) -> Option<K> {
        let by_later = |key: K, stretch: &Stretch| {
            let ask = RangeAsk {
                range: stretch.range,
                mode: stretch.mode,
                flags: Flags::NONE,
                wants_bast: false,
            };
            self.in_the_way(key, ask).into_iter().any(|other| {
                let other = self.owners.get(&other).map(|owner| &owner.set);
                other.is_some_and(|other| {
                    let mut met = other.conflicts(stretch.range, stretch.mode);
                    met.any(|found| found.token > stretch.token)
                })
            })
        };
        let found = members.iter().find(|(key, member)| {
            let Some(ask) = member.ask else {
                return false;
            };
            let stretches = super::set::MODES
                .into_iter()
                .filter(|held| !ask.mode.covers(*held))
                .flat_map(|held| member.set.in_mode(held, ask.range));
            let mut within = stretches.filter_map(|stretch| {
                let range = stretch.range.common(ask.range)?;
                Some(Stretch { range, ..stretch })
            });
            within.any(|stretch| by_later(**key, &stretch))
        });
        found.map(|(key, _)| *key)
    }

    /// Grants a call in flight, which the old master must have granted already.
    fn settle(&mut self, key: K, members: &mut BTreeMap<K, Member>, out: &mut Vec<Effect<K>>) {
        let Some(member) = members.get_mut(&key) else {
            return;
        };
        let Some(ask) = member.ask.take() else {
            return;
        };
        member.ticket = None;
        member.wants_bast = ask.wants_bast;
        self.last_token = self.last_token.next();
        let token = self.last_token;
        let mut nobody = BTreeSet::new();
        self.owner_mut(key).wants_bast = ask.wants_bast;
        self.change(key, ask.range, ask.mode, token, &mut nobody);
        if let Some(owner) = self.owners.get(&key) {
            member.set = owner.set.clone();
        }
        let grant = Grant {
            mode: ask.mode,
            token,
            value: None,
        };
        out.push(Effect::Granted { key, grant });
        self.forget_idle(key);
    }

    fn assert_alone(&self, key: K, set: &RangeSet) {
        for Stretch { range, mode, .. } in set.stretches() {
            let other = self.held.first_in_way(range, mode, key);
            assert!(
                other.is_none() || Mutant::RangeOverlapByStart.active(),
                "ranges were restated that cannot have been held at once: {key:?} holds {mode} on \
                 {range}, {other:?} holds what conflicts"
            );
        }
    }
}
