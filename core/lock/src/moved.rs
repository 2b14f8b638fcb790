//! A live resource on its way to another master, whole: nobody has vanished, so nothing is in doubt.

use crate::{
    Flags, Resource, Rules, Ticket,
    mode_tables::ModeCounts,
    queue::{Ask, Converting, Held, Pending, Waiting},
};
use core::fmt::Debug;
use mainstay_base::{LockMode, Token, Value};
use std::collections::BTreeSet;

/// All that a master has of a resource.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Moved<K> {
    /// The largest token issued so far, or the floor.
    pub last_token: Token,
    /// The value block as a reader would get it.
    pub value: Value,
    /// Never handed out yet.
    pub next_ticket: Ticket,
    /// See [`Rules::overtake`](crate::Rules::overtake): how many have passed the foremost waiter.
    pub passed: u8,
    /// The last request that was granted in turn was no reader's.
    pub wrote: bool,
    /// Every lock, once.
    pub locks: Vec<MovedLock<K>>,
}

/// All that a master has of a lock. One of `granted` and `pending` is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MovedLock<K> {
    /// Whose it is.
    pub key: K,
    /// The mode in force and its token.
    pub granted: Option<(LockMode, Token)>,
    /// What it waits for, and its place in the convert or wait queue.
    pub pending: Option<(LockMode, Flags, Ticket)>,
    /// It converts, and stands behind the requests that came before it.
    pub patient: bool,
    /// Its owner wants blocking notices for the mode in force, or, if there is none, will want them.
    pub wants_bast: bool,
    /// Its owner will want them for the mode it waits for.
    pub wants_bast_next: bool,
    /// See [`Restated::valblk`](crate::Restated::valblk).
    pub valblk: bool,
    /// The most urgent mode that it was told it is in the way of.
    pub told: Option<LockMode>,
    /// Its owner is to be told when the value block changes, and what it is after the move.
    pub watches: bool,
}

impl<K: Copy> MovedLock<K> {
    fn held(&self) -> Option<Held<K>> {
        self.granted.map(|(mode, token)| Held {
            key: self.key,
            token,
            mode,
            told: self.told,
            wants_bast: self.wants_bast,
            valblk: self.valblk,
            watches: self.watches,
        })
    }

    fn ask(&self) -> Option<(Ask, Ticket)> {
        self.pending.map(|(mode, flags, ticket)| {
            let wants_bast = match self.granted {
                Some(_) => self.wants_bast_next,
                None => self.wants_bast,
            };
            let ask = Ask {
                mode,
                wants_bast,
                flags,
            };
            (ask, ticket)
        })
    }
}

/// The first of what is wrong with a resource that was moved.
type Wrong = &'static str;

impl<K: Copy + Ord + Debug> Resource<K> {
    /// All that another master needs to carry on, or `None` while the resource is being rebuilt.
    #[must_use]
    pub fn moved(&self) -> Option<Moved<K>> {
        if self.is_rebuilding() {
            return None;
        }
        let held = |held: &Held<K>| MovedLock {
            key: held.key,
            granted: Some((held.mode, held.token)),
            pending: None,
            patient: false,
            wants_bast: held.wants_bast,
            wants_bast_next: false,
            valblk: held.valblk,
            told: held.told,
            watches: held.watches,
        };
        let mut locks: Vec<MovedLock<K>> = self.granted.iter().map(held).collect();
        if let Some(pending) = &self.pending {
            locks.extend(pending.converting.iter().map(|c| MovedLock {
                pending: Some((c.ask.mode, c.ask.flags, c.ticket)),
                patient: c.patient,
                wants_bast_next: c.ask.wants_bast,
                ..held(&c.held)
            }));
            locks.extend(pending.waiting.iter().map(|w| MovedLock {
                key: w.key,
                granted: None,
                pending: Some((w.ask.mode, w.ask.flags, w.ticket)),
                patient: false,
                wants_bast: w.ask.wants_bast,
                wants_bast_next: false,
                valblk: false,
                told: None,
                watches: false,
            }));
        }
        Some(Moved {
            last_token: self.last_token,
            value: self.value(),
            next_ticket: self.pending.as_ref().map_or(Ticket(1), |p| p.next_ticket),
            passed: self.pending.as_ref().map_or(0, |p| p.passed),
            wrote: self.pending.as_ref().is_some_and(|p| p.wrote),
            locks,
        })
    }

    /// The resource as [`Resource::moved`] told of it, under the rules of its lockspace.
    ///
    /// # Errors
    /// If no resource can have been so.
    pub fn from_moved(rules: impl Into<Rules>, moved: Moved<K>) -> Result<Self, Wrong> {
        let mut resource = Resource::new(moved.last_token, rules);
        resource.value.restore(&moved.value);
        let mut keys = BTreeSet::new();
        let mut tokens = BTreeSet::new();
        let mut converting = Vec::new();
        let mut waiting = Vec::new();
        let mut pending = Pending::default();
        let mut counts = ModeCounts::default();
        for lock in &moved.locks {
            if !keys.insert(lock.key) {
                return Err("a lock occurs twice");
            }
            if let Some((mode, token)) = lock.granted {
                if token > moved.last_token {
                    return Err("a token is larger than the last one");
                }
                if mode != LockMode::Nl && !tokens.insert(token) {
                    return Err("a token occurs twice");
                }
                counts.add(mode);
            }
            if let Some((ask, ticket)) = lock.ask() {
                if ask.flags.unknown() != 0 {
                    return Err("a lock waits with unknown flags");
                }
                pending.next_ticket = pending.next_ticket.max(ticket.after());
            }
            let waits = lock.ask().map(|(ask, ticket)| Waiting {
                key: lock.key,
                ask,
                ticket,
            });
            match (lock.held(), waits) {
                (Some(held), None) => resource.insert_granted(held),
                (Some(held), Some(Waiting { ask, ticket, .. })) => {
                    let entry = Converting {
                        held,
                        ask,
                        ticket,
                        patient: lock.patient,
                    };
                    pending.count_converting(&entry);
                    converting.push(entry);
                }
                (None, Some(entry)) => {
                    pending.count_waiting(entry.ask);
                    waiting.push(entry);
                }
                (None, None) => return Err("a lock neither holds nor waits"),
            }
        }
        if counts.conflict_within() {
            return Err("locks that are held exclude each other");
        }
        resource.held = counts;
        if moved.locks.iter().any(|lock| lock.watches) {
            resource.value.watch();
            resource.value.tell_anew();
        }
        converting.sort_by_key(|c| c.ticket);
        waiting.sort_by_key(|w| w.ticket);
        if !converting.is_sorted_by(|a, b| a.ticket < b.ticket)
            || !waiting.is_sorted_by(|a, b| a.ticket < b.ticket)
        {
            return Err("two locks stand at one place of a queue");
        }
        if !converting.is_empty() || !waiting.is_empty() {
            let in_the_way = converting.iter().any(|c| {
                let mut wanted = pending.wanted;
                wanted.remove(c.ask.mode);
                c.patient && wanted.conflict(c.held.mode, None)
            });
            if in_the_way {
                return Err("a lock is patient although somebody waits for what it holds");
            }
            pending.converting = converting.into();
            pending.waiting = waiting.into();
            pending.next_ticket = pending.next_ticket.max(moved.next_ticket);
            pending.passed = moved.passed;
            pending.wrote = moved.wrote;
            let first = pending.next_request(counts, resource.rules().order, false);
            resource.pending = Some(Box::new(pending));
            if first.is_some() || resource.next_conversion().is_some() {
                return Err("the first of a queue waits for nobody");
            }
        }
        Ok(resource)
    }
}
