//! Orphans that are released because somebody asked for it, or because nobody adopted them in time.
//! As when a process dies, what a writer may have been about to publish makes the value block possibly
//! stale.

use super::admits;
use crate::{Dlm, Out, work::CHANGE};
use mainstay_base::{Instant, LockId, Mutant, NodeId};
use mainstay_recorder::Op;
use mainstay_wire::{event::OrphanFate, orphan::OrphanFilter};
use std::ops::Bound;

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
        self.orphans.purges.push_back(Purging { purge, after });
    }

    /// Goes on with the purges, for so much work; what is left of that is returned.
    pub(crate) fn purge_on(&mut self, now: Instant, mut left: u32) -> u32 {
        while left > 0
            && let Some(mut purging) = self.orphans.purges.pop_front()
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
            match ended {
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
        self.purge_orphan(now, lock, false);
        Some(CHANGE)
    }

    /// Releases orphans that nobody has adopted in time.
    pub(crate) fn expire_orphans(&mut self, now: Instant) {
        for _ in 0..EXPIRED_AT_ONCE {
            match self.orphans.due.first() {
                Some(&(at, lock)) if at <= now => self.purge_orphan(now, lock, true),
                _ => return,
            }
        }
    }

    fn purge_orphan(&mut self, now: Instant, lock: LockId, expired: bool) {
        self.tell_fate(lock, OrphanFate::Purged, expired);
        self.orphans.forget(lock);
        self.drop_as(now, lock, !Mutant::PurgeUnmarked.active(), Op::OrphanPurged);
    }
}
