//! Persistent locks whose session has ended: orphans of this node, which keeps them like any lock of its
//! own until a process adopts them ([`adopt`]), or they are purged ([`purge`]).
//!
//! The rules are in `docs/protocol/orphans.md`. A lock becomes an orphan when its session ends, or, if a
//! conversion was under way then, when that has been taken back or granted. Owners other than this
//! node see no difference: an orphan is restated, moved and dropped like any other lock.

mod adopt;
mod purge;

use crate::{
    Dlm, Out,
    table::{Owned, Pending},
};
use core::time::Duration;
use mainstay_base::{Instant, LockId, LockMode, Mutant, SessionId, Token};
use mainstay_recorder::Op;
use mainstay_wire::{
    dlm::ResourceId,
    event::OrphanFate,
    orphan::OrphanFilter,
    report::{LockspaceFilter, OwnerReport},
};
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    ops::Bound,
    sync::Arc,
};

pub use adopt::AdoptCall;
pub(crate) use adopt::others_orphan;
pub use purge::Purge;
use purge::Purging;

/// Most orphans that are looked at for one page of a list.
const LOOKED_AT: usize = 20_000;

/// All orphans of this node.
#[derive(Debug, Default)]
pub(crate) struct Orphans {
    expiry: Option<Duration>,
    by_lock: BTreeMap<LockId, Orphan>,
    /// Left behind while a call was under way; a conversion is being taken back.
    ending: BTreeMap<LockId, Arc<OwnerReport>>,
    /// When they are purged, if they are to be.
    due: BTreeSet<(Instant, LockId)>,
    purges: VecDeque<Purging>,
    /// This node leaves: no lock outlives its session any more.
    pub(crate) closed: bool,
}

#[derive(Debug)]
struct Orphan {
    process: Arc<OwnerReport>,
    since: Instant,
    expires: Option<Instant>,
}

impl Orphans {
    /// When the next orphan expires.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.due.first().map(|due| due.0)
    }

    /// Whether the session of a lock is gone, and its last call is not over.
    pub(crate) fn is_ending(&self, lock: LockId) -> bool {
        self.ending.contains_key(&lock)
    }

    /// Whether there are purges under way.
    pub(crate) fn has_work(&self) -> bool {
        self.purges.iter().any(Purging::has_work)
    }

    /// An orphan that was not to expire for a while may do so again.
    pub(crate) fn expire_again(&mut self, lock: LockId) {
        let orphan = self.by_lock.get(&lock);
        if let Some(at) = orphan.and_then(|orphan| orphan.expires) {
            self.due.insert((at, lock));
        }
    }

    /// The lock is no orphan, any more.
    pub(crate) fn forget(&mut self, lock: LockId) {
        if let Some(orphan) = self.by_lock.remove(&lock)
            && let Some(at) = orphan.expires
        {
            self.due.remove(&(at, lock));
        }
        self.ending.remove(&lock);
    }
}

/// An orphan, as this node knows it.
#[derive(Clone, Copy, Debug)]
pub struct OrphanView<'a> {
    /// The lock.
    pub lock: LockId,
    /// On what.
    pub resource: &'a ResourceId,
    /// The mode held.
    pub mode: LockMode,
    /// Its token.
    pub token: Token,
    /// Who left it behind.
    pub process: &'a OwnerReport,
    /// When.
    pub since: Instant,
    /// When it is purged, if it is to be.
    pub expires: Option<Instant>,
}

/// Whether a lock outlives its session: it is held, and its last call wanted so. One that is being
/// released goes.
fn outlives(owned: &Owned) -> bool {
    let released = matches!(owned.pending, Pending::Unlock { .. });
    owned.persistent && owned.granted.is_some() && !released
}

impl Dlm {
    /// How long orphans are kept; without a limit unless told. To be told before anything else.
    pub fn configure_orphans(&mut self, expiry: Option<Duration>) {
        self.orphans.expiry = expiry;
    }

    /// Of the locks of a client that is gone, keeps those that outlive it. Returns the others.
    pub(crate) fn leave_orphans(
        &mut self,
        now: Instant,
        session: SessionId,
        mut locks: Vec<LockId>,
    ) -> Vec<LockId> {
        if self.orphans.closed || Mutant::OrphansDropped.active() {
            return locks;
        }
        let mut left = Vec::new();
        locks.retain(|lock| {
            let outlives =
                self.locks.get(lock).is_some_and(outlives) && !self.trees.is_ending(*lock);
            if outlives {
                left.push(*lock);
            }
            !outlives
        });
        if left.is_empty() {
            return locks;
        }
        let process = Arc::new(self.deadlocks.process(session));
        for &lock in &left {
            self.promises.forget(lock);
            self.owners.remove(lock);
            self.trees.part(lock);
            self.stop_watching(now, lock);
            let owned = self.locks.get_mut(&lock).expect("listed above");
            owned.blocking = false;
            if owned.pending != Pending::None {
                self.orphans.ending.insert(lock, Arc::clone(&process));
            }
        }
        for lock in left {
            let owned = self.locks.get_mut(&lock).expect("listed above");
            if self.orphans.by_lock.contains_key(&lock) {
                continue; // What took back another's call has ended this one's.
            }
            if owned.pending == Pending::None {
                self.orphan(now, lock, Arc::clone(&process));
                continue;
            }
            if !matches!(owned.pending, Pending::Convert { .. }) {
                continue; // It cannot be taken back, and ends soon.
            }
            let asked = owned.cancel.is_some() || owned.timed_out;
            // Also whoever comes to master the resource is told so.
            owned.cancel.get_or_insert(0);
            if !asked {
                self.cancel_pending(now, lock);
            }
        }
        locks
    }

    /// The session of a lock is gone whose last call is not over; that call came to nothing.
    pub(crate) fn ending_is_nothing(&mut self, lock: LockId) {
        self.orphans.ending.remove(&lock);
    }

    /// The last call on a lock has ended, whose session was gone before.
    pub(crate) fn orphan_settles(&mut self, now: Instant, lock: LockId) {
        if let Some(process) = self.orphans.ending.remove(&lock) {
            self.orphan(now, lock, process);
        }
    }

    pub(crate) fn orphan(&mut self, now: Instant, lock: LockId, process: Arc<OwnerReport>) {
        let expiry = self.orphans.expiry.filter(|_| self.may_expire(lock));
        let expires = expiry.map(|expiry| now + expiry);
        if let Some(at) = expires {
            self.orphans.due.insert((at, lock));
        }
        let orphan = Orphan {
            process,
            since: now,
            expires,
        };
        self.orphans.by_lock.insert(lock, orphan);
        let held = self.locks.get(&lock).and_then(|owned| owned.granted);
        self.note(now, Op::Orphaned, lock, held);
        self.tell_fate(lock, OrphanFate::Left, false);
    }

    /// An orphan that survives its node is released, as the log says.
    pub(crate) fn orphan_taken_out(&mut self, now: Instant, lock: LockId, expired: bool) {
        let held = self.locks.get(&lock).and_then(|owned| owned.granted);
        self.tell_fate(lock, OrphanFate::Purged, expired);
        self.note(now, Op::OrphanPurged, lock, held);
        self.orphans.forget(lock);
        self.purged_by_log(lock);
    }

    /// Tells what becomes of an orphan.
    pub(crate) fn tell_fate(&mut self, lock: LockId, fate: OrphanFate, expired: bool) {
        let Some(view) = self.orphan_of(lock) else {
            return;
        };
        let told = Out::Orphan {
            resource: view.resource.clone(),
            mode: view.mode,
            process: view.process.clone(),
            fate,
            expired,
        };
        self.out.push(told);
    }

    /// A lock of this node, if it is an orphan.
    #[must_use]
    pub fn orphan_of(&self, lock: LockId) -> Option<OrphanView<'_>> {
        let orphan = self.orphans.by_lock.get(&lock)?;
        let owned = self.locks.get(&lock)?;
        Some(OrphanView {
            lock,
            resource: &self.resources.peek(owned.place).id,
            mode: owned.granted?,
            token: owned.token,
            process: &orphan.process,
            since: orphan.since,
            expires: orphan.expires,
        })
    }

    /// How many orphans this node has.
    #[must_use]
    pub fn orphan_count(&self) -> usize {
        self.orphans.by_lock.len()
    }

    /// A page of this node's orphans, by number: at most `limit` that pass the filter, after `after`.
    /// Where there may be more, also the one to go on after.
    #[must_use]
    pub fn orphans(
        &self,
        filter: &OrphanFilter,
        after: Option<LockId>,
        limit: usize,
    ) -> (Vec<OrphanView<'_>>, Option<LockId>) {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut found = Vec::new();
        let mut looked_at = 0;
        for (&lock, orphan) in self.orphans.by_lock.range((from, Bound::Unbounded)) {
            looked_at += 1;
            if let Some(view) = self
                .orphan_of(lock)
                .filter(|view| admits(filter, view, orphan))
            {
                found.push(view);
            }
            if found.len() == limit || looked_at == LOOKED_AT {
                return (found, Some(lock));
            }
        }
        (found, None)
    }

    /// No lock outlives its session from now on, and what did so far goes: this node leaves.
    pub fn end_orphans(&mut self, now: Instant) {
        self.orphans.closed = true;
        let left = self.orphans.by_lock.keys();
        let left: Vec<LockId> = left.chain(self.orphans.ending.keys()).copied().collect();
        for lock in left {
            self.drop_lock(now, lock, true);
        }
        self.drop_taken(now);
    }
}

fn admits(filter: &OrphanFilter, view: &OrphanView<'_>, orphan: &Orphan) -> bool {
    let resource = LockspaceFilter {
        lockspace: filter.lockspace,
        pattern: filter.pattern.clone(),
        ..LockspaceFilter::default()
    };
    filter.pid.is_none_or(|pid| pid == orphan.process.pid)
        && resource.admits(view.resource.space, &view.resource.name)
}
