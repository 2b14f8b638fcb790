//! Conversion deadlocks: conversions of one resource that wait for each other. Each holds its old
//! mode while it waits, so neither can ever be granted. Found when the last of them arrives. What
//! the mode of one stops whose owner has promised to let go (NODLCKWT, NODLCKBLK) is not part of
//! any, for that owner is told. Its place in the queue is, for of that nobody is told.
//!
//! And who is in the way of whom, for a search across resources.

use crate::{
    Flags, LockView, Resource, Ticket,
    queue::{Ask, Converting, Waiting},
};
use core::fmt::Debug;
use mainstay_base::{LockMode, Mutant, Order};

/// A lock that must go, or must have been granted and gone, before a waiting one is granted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Blocker<K> {
    /// The lock in the way.
    pub key: K,
    /// It is in the way by the mode it holds; otherwise by what it waits for, ahead in the queue.
    pub held: bool,
    /// Token of the held mode, or place in the queue: another one is another obstacle.
    pub stamp: i64,
    /// It is in the way of this lock, behind which the waiting one stands; with its place in the
    /// queue. Absent if it is in the way of the waiting one itself.
    pub via: Option<(K, i64)>,
}

/// What must be granted before or with the one that is asked about.
struct Wanted<K> {
    ask: Ask,
    via: Option<(K, i64)>,
    /// It is let in with all readers, whoever else stands before it.
    by_turns: bool,
}

impl<K> Wanted<K> {
    fn noorder(&self) -> bool {
        noorder(self.ask)
    }
}

fn noorder(ask: Ask) -> bool {
    ask.flags.contains(Flags::NOORDER)
}

/// Whether no mode that will do for one can be granted beside one that will do for the other.
fn exclude(a: Ask, b: Ask) -> bool {
    b.modes().all(|mode| a.conflicts(mode))
}

/// A conversion in the order of the convert queue.
#[derive(Clone, Copy)]
struct Node {
    from: LockMode,
    ask: Ask,
}

/// Whether `a`, ahead of `b` or not, cannot be granted before `b` is out of the way, and nobody has
/// promised that it will be.
fn waits_for(a: Node, b: Node, b_is_ahead: bool) -> bool {
    let stays = !b.ask.flags.promises_to_let_go();
    (stays && a.ask.conflicts(b.from)) || (b_is_ahead && !noorder(a.ask))
}

/// Whether a lock that is in the way of a wait converts to a mode that is not. Then it is ahead of
/// that wait, or both would wait for each other, and what stops it stops the wait: it is an obstacle
/// only until it is granted. Nothing is said of locks that keep no order, or do not count as waiting.
fn yields_by_itself<K>(holder: &LockView<K>, asked: Ask) -> bool {
    let flags = holder.flags;
    let ordered =
        !noorder(asked) && !flags.contains(Flags::NOORDER) && !flags.contains(Flags::NODLCKWT);
    let to = holder.requested.filter(|_| ordered);
    to.is_some_and(|to| !asked.conflicts(to))
}

impl<K: Copy + Ord + Debug> Resource<K> {
    /// Whether a conversion that cannot be granted now would, once queued, wait for one that waits
    /// for it, directly or by way of others.
    pub(crate) fn would_deadlock(&self, from: LockMode, ask: Ask) -> bool {
        let Some(pending) = self.pending.as_ref().filter(|p| !p.converting.is_empty()) else {
            return false;
        };
        let queue = &pending.converting;
        // One that stands behind requests for now counts as any other: it may be in front again soon.
        let place = pending.place_converting(ask, self.rules().order).index;
        let new = Node { from, ask };
        if place == queue.len() && !noorder(ask) {
            // It waits for all that are ahead: enough that one of them waits for it.
            let stays = !ask.flags.promises_to_let_go();
            return stays && queue.iter().any(|c| c.ask.conflicts(from));
        }
        let nodes: Vec<Node> = queue
            .iter()
            .map(|c| Node {
                from: c.held.mode,
                ask: c.ask,
            })
            .collect();
        let ahead = |i: usize| i < place;
        let new_waits = |i: usize| waits_for(new, nodes[i], ahead(i));
        let mut reached: Vec<bool> = (0..nodes.len()).map(new_waits).collect();
        let mut todo: Vec<usize> = (0..nodes.len()).filter(|&i| reached[i]).collect();
        while let Some(i) = todo.pop() {
            if waits_for(nodes[i], new, !ahead(i)) {
                return true;
            }
            for j in 0..nodes.len() {
                if j != i && !reached[j] && waits_for(nodes[i], nodes[j], j < i) {
                    reached[j] = true;
                    todo.push(j);
                }
            }
        }
        false
    }

    /// The locks that a waiting request or conversion waits for directly: holders in its way, and
    /// the one just ahead of it, which by itself waits for those further ahead. Empty for a lock
    /// that waits for nothing. These are the edges for a search across resources, and the answer
    /// to "why does this wait?".
    #[must_use]
    pub fn waits_for(&self, key: K) -> Vec<K> {
        let Some(view) = self.get(key) else {
            return Vec::new();
        };
        let Some(ask) = view.ask() else {
            return Vec::new();
        };
        let mut found: Vec<K> = self
            .granted()
            .chain(self.converting())
            .filter(|l| l.key != key)
            .filter(|l| l.granted.is_some_and(|(held, _)| ask.conflicts(held)))
            .map(|l| l.key)
            .collect();
        let nearest = self.ahead_of(key).next().map(|ahead| ahead.key);
        found.extend(nearest.filter(|k| !found.contains(k)));
        found
    }

    /// All that is in the way of a waiting request or conversion: by a held mode that conflicts with
    /// what it, or one ahead of it, asks for; or by standing ahead and asking for a mode that
    /// conflicts. Where there are alternates, only what is in the way of all modes that will do.
    /// Waiters ahead whose modes suit each other and the one behind are no obstacle by themselves:
    /// they will be granted with it. Nothing for a lock that does not wait. Locks with NODLCKBLK
    /// that wait count for nothing, and through those with NODLCKWT nothing is seen.
    #[must_use]
    pub fn blockers(&self, key: K) -> Vec<Blocker<K>> {
        let Some(view) = self.get(key) else {
            return Vec::new();
        };
        let Some(ask) = view.ask() else {
            return Vec::new();
        };
        let first = self.first_by_turns();
        let by_turns = self.comes_by_turns(&view);
        let mut wanted = vec![Wanted {
            ask,
            via: None,
            by_turns,
        }];
        let mut found = Vec::new();
        for ahead in self.ahead_of(key) {
            let (Some(asked), Some(ticket)) = (ahead.ask(), ahead.ticket) else {
                continue;
            };
            if ahead.flags.contains(Flags::NODLCKBLK) {
                continue;
            }
            let passed = ahead.granted.is_none() && first != Some(ticket);
            let conflict =
                |w: &&Wanted<K>| !w.noorder() && exclude(w.ask, asked) && !(w.by_turns && passed);
            if let Some(w) = wanted.iter().find(conflict) {
                found.push(Blocker {
                    key: ahead.key,
                    held: false,
                    stamp: ticket.0,
                    via: w.via,
                });
            }
            let known =
                |w: &Wanted<K>| w.ask.modes().eq(asked.modes()) && w.noorder() == noorder(asked);
            if !ahead.flags.contains(Flags::NODLCKWT) && !wanted.iter().any(known) {
                wanted.push(Wanted {
                    ask: asked,
                    via: Some((ahead.key, ticket.0)),
                    by_turns: self.comes_by_turns(&ahead),
                });
            }
        }
        for holder in self.granted().chain(self.converting()) {
            let Some((held, token)) = holder.granted.filter(|_| holder.key != key) else {
                continue;
            };
            let in_way = wanted.iter().find(|w| {
                let own = w.via.is_some_and(|(via, _)| via == holder.key);
                !own && w.ask.conflicts(held) && !yields_by_itself(&holder, w.ask)
            });
            if let Some(w) = in_way {
                found.push(Blocker {
                    key: holder.key,
                    held: true,
                    stamp: token.0.cast_signed(),
                    via: w.via,
                });
            }
        }
        found
    }

    /// Whether a lock still waits, and another is still in its way as [`Resource::blockers`] told:
    /// by the mode held since that token, or ahead of it at that place of the queue.
    #[must_use]
    pub fn still_blocks(&self, key: K, blocker: K, stamp: i64) -> bool {
        let (Some(waiting), Some(other)) = (self.get(key), self.get(blocker)) else {
            return false;
        };
        let Some(asked) = waiting.ask() else {
            return false;
        };
        let holds = other.granted.is_some_and(|(held, token)| {
            token.0.cast_signed() == stamp
                && asked.conflicts(held)
                && !yields_by_itself(&other, asked)
        });
        holds
            || self
                .ahead_of(key)
                .any(|ahead| ahead.key == blocker && ahead.ticket.is_some_and(|t| t.0 == stamp))
    }

    /// Whether a lock that waits is let in with all readers, when it is their turn.
    fn comes_by_turns(&self, view: &LockView<K>) -> bool {
        let by_turns = self.rules().order == Order::PhaseFair && view.granted.is_none();
        by_turns && view.ask().is_some_and(Ask::reads)
    }

    /// The place of the only request that readers stand behind: of the first, for after it they are
    /// all let in. There is none when it is their turn.
    fn first_by_turns(&self) -> Option<Ticket> {
        let pending = self.pending.as_ref().filter(|p| !p.wrote)?;
        pending.waiting.front().map(|w| w.ticket)
    }

    /// Those that must be granted, or go, before a waiting lock: nearest first, so that each stands
    /// behind those that follow.
    fn ahead_of(&self, key: K) -> impl Iterator<Item = LockView<K>> + '_ {
        let view = self.get(key).filter(|view| view.requested.is_some());
        let ordered = view.filter(|view| {
            !view.flags.contains(Flags::NOORDER) && !Mutant::DeadlockQueueUnseen.active()
        });
        let pending = self.pending.as_ref().filter(|_| ordered.is_some());
        let own = pending.and_then(|p| p.find_converting(key).map(|at| &p.converting[at]));
        let ticket = ordered.and_then(|view| view.ticket).unwrap_or_default();
        let by_turns = ordered.is_some_and(|view| self.comes_by_turns(&view));
        let mut behind: Vec<LockView<K>> = Vec::new();
        let in_front = own.is_some_and(|own| pending.is_some_and(|p| !p.held_back(own)));
        if let Some(p) = pending.filter(|_| !in_front) {
            let first = self.first_by_turns();
            let before =
                |w: &&Waiting<K>| w.ticket < ticket && (!by_turns || first == Some(w.ticket));
            behind.extend(p.waiting.iter().rev().filter(before).map(Waiting::view));
            if p.patient > 0 {
                let patient = p.converting.iter().filter(|c| p.held_back(c));
                behind.extend(patient.filter(|c| c.ticket < ticket).map(Converting::view));
                behind.sort_by_key(|ahead| core::cmp::Reverse(ahead.ticket));
            }
        }
        let converting = pending.into_iter().flat_map(move |p| {
            let before = move |c: &&Converting<K>| {
                let is_ahead = !in_front || c.ticket < ticket;
                is_ahead && !p.held_back(c)
            };
            p.converting
                .iter()
                .rev()
                .filter(before)
                .map(Converting::view)
        });
        behind.into_iter().chain(converting)
    }
}
