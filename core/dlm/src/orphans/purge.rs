//! Orphans that are released because somebody asked for it, or because nobody adopted them in time.
//! As when a process dies, what a writer may have been about to publish makes the value block possibly
//! stale.

use super::admits;
use crate::{Dlm, Out, work::CHANGE};
use mainstay_base::{Instant, LockId, Mutant, NodeId};
use mainstay_recorder::Op;
use mainstay_wire::{event::OrphanFate, orphan::OrphanFilter};
use std::{collections::BTreeSet, ops::Bound};

/// Most orphans that expire at once, so that others have their turn.
const EXPIRED_AT_ONCE: usize = 256;

/// A purge, and what came of it so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Purge {
    /// Which orphans.
    pub filter: OrphanFilter,
    /// The member that asked.
    pub asker: NodeId,
    /// Its number for the answer.
    pub query: u64,
    /// How many were released.
    pub purged: u64,
    /// How many were left alone because of their user.
    pub denied: u64,
}

/// A purge that is under way.
#[derive(Debug)]
pub(crate) struct Purging {
    purge: Purge,
    /// Those up to this one have been looked at.
    after: Option<LockId>,
    looked_at_all: bool,
    /// What survives its node goes when the log says so.
    awaited: BTreeSet<LockId>,
}

impl Purging {
    /// Whether there are orphans that it has yet to look at.
    pub(super) fn has_work(&self) -> bool {
        !self.looked_at_all
    }
}

impl Dlm {
    /// Releases orphans, in slices; [`Out::Purged`] tells when all have been looked at.
    pub fn purge_orphans(&mut self, now: Instant, filter: OrphanFilter, asker: NodeId, query: u64) {
        let purge = Purge {
            filter,
            asker,
            query,
            purged: 0,
            denied: 0,
        };
        self.works.at = now;
        let after = None;
        let purging = Purging {
            purge,
            after,
            looked_at_all: false,
            awaited: BTreeSet::new(),
        };
        self.orphans.purges.push_back(purging);
    }

    /// Goes on with the purges, for so much work; what is left of that is returned.
    pub(crate) fn purge_on(&mut self, now: Instant, mut left: u32) -> u32 {
        while left > 0
            && let Some(at) = self.orphans.purges.iter().position(|p| !p.looked_at_all)
            && let Some(mut purging) = self.orphans.purges.remove(at)
        {
            let mut ended = false;
            while left > 0 && !ended {
                left = match self.purge_next(now, &mut purging) {
                    Some(cost) => left.saturating_sub(cost),
                    None => {
                        ended = true;
                        left
                    }
                };
            }
            purging.looked_at_all = ended;
            match ended && purging.awaited.is_empty() {
                true => self.out.push(Out::Purged(purging.purge)),
                false => self.orphans.purges.push_front(purging),
            }
        }
        left
    }

    /// Looks at the next orphan. Returns what it cost.
    fn purge_next(&mut self, now: Instant, purging: &mut Purging) -> Option<u32> {
        let from = purging.after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut next = self.orphans.by_lock.range((from, Bound::Unbounded));
        let (&lock, orphan) = next.next()?;
        purging.after = Some(lock);
        let purge = &mut purging.purge;
        if self.is_going(lock) || self.ceding.is_given(lock) {
            return Some(1);
        }
        let view = self.orphan_of(lock);
        if !view.is_some_and(|view| admits(&purge.filter, &view, orphan)) {
            return Some(1);
        }
        let space = view.map(|view| view.resource.space);
        let owned = space.is_some_and(|space| purge.filter.owned.contains(&space));
        let uid = purge.filter.uid.filter(|_| !owned);
        if uid.is_some_and(|uid| uid != orphan.process.uid) {
            purge.denied += 1;
            return Some(1);
        }
        purge.purged += 1;
        if self.purge_orphan(now, lock, false) {
            purging.awaited.insert(lock);
        }
        Some(CHANGE)
    }

    /// Releases orphans that nobody has adopted in time.
    pub(crate) fn expire_orphans(&mut self, now: Instant) {
        for _ in 0..EXPIRED_AT_ONCE {
            match self.orphans.due.first() {
                Some(&(at, lock)) if at <= now => {
                    self.orphans.due.remove(&(at, lock));
                    if self.ceding.is_given(lock) {
                        continue;
                    }
                    self.purge_orphan(now, lock, true);
                }
                _ => return,
            }
        }
    }

    /// A lock that was purged, and survived its node, is gone.
    pub(super) fn purged_by_log(&mut self, lock: LockId) {
        for purging in &mut self.orphans.purges {
            purging.awaited.remove(&lock);
        }
        let out = &mut self.out;
        self.orphans.purges.retain(|purging| {
            let over = purging.looked_at_all && purging.awaited.is_empty();
            if over {
                out.push(Out::Purged(purging.purge.clone()));
            }
            !over
        });
    }

    /// Releases an orphan. Whether that waits for the log.
    fn purge_orphan(&mut self, now: Instant, lock: LockId, expired: bool) -> bool {
        if self.purge_by_log(now, lock, expired) {
            return true;
        }
        self.tell_fate(lock, OrphanFate::Purged, expired);
        self.orphans.forget(lock);
        self.drop_as(now, lock, !Mutant::PurgeUnmarked.active(), Op::OrphanPurged);
        false
    }
}
