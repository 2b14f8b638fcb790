//! How long this node's clients wait for locks and hold them: counted where a wait or a hold ends.
//!
//! What never queues pays for two increments; what queues also for its place among those that wait
//! ([`Contention::waits`]) and, when it ends, among the most contended resources ([`hot`]).

mod histogram;
mod hot;

use crate::{Dlm, table::Owned};
use core::time::Duration;
use mainstay_base::{FixedMap, Instant, LockId, LockMode, LockspaceId, SessionId};
use mainstay_wire::{
    contention::{HotResource, SpaceTimes},
    dlm::ResourceId,
    lock::Refusal,
};
use std::collections::BTreeSet;

use histogram::Histogram;
use hot::Hot;

/// What is counted of a lockspace, some 700 bytes.
#[derive(Debug, Default)]
struct Space {
    waits: Histogram,
    given_up: u64,
    holds: Histogram,
}

/// What is counted of this node's clients.
#[derive(Debug, Default)]
pub(crate) struct Contention {
    /// Lockspaces in which anything happened.
    spaces: FixedMap<LockspaceId, Box<Space>>,
    hot: Hot,
    /// Calls that wait, by when they were made.
    waits: BTreeSet<(Instant, LockId)>,
}

impl Contention {
    fn space(&mut self, space: LockspaceId) -> &mut Space {
        self.spaces.get_or_insert_with(space, Box::default)
    }

    /// Calls that wait, by when they were made and their locks.
    pub(crate) fn waiting(&self) -> impl Iterator<Item = &(Instant, LockId)> {
        self.waits.iter()
    }

    /// A call waits: it stands in its master's queue, or has no master to go to. Whether it did not
    /// before.
    pub(crate) fn waits(&mut self, asked: Instant, lock: LockId) {
        self.waits.insert((asked, lock));
    }

    pub(crate) fn is_waiting(&self, asked: Instant, lock: LockId) -> bool {
        !self.waits.is_empty() && self.waits.contains(&(asked, lock))
    }

    /// A call ended.
    pub(crate) fn call_ends(
        &mut self,
        now: Instant,
        lock: LockId,
        resource: &ResourceId,
        asked: Instant,
        granted: bool,
    ) {
        let queued = !self.waits.is_empty() && self.waits.remove(&(asked, lock));
        let waited = now.since(asked);
        if queued {
            self.hot.add(now, resource, waited);
        }
        let space = self.space(resource.space);
        if granted {
            space.waits.count(waited);
        } else if queued || waited > Duration::ZERO {
            space.waits.count(waited);
            space.given_up += 1;
        }
    }

    /// A lock is gone, whatever its state.
    pub(crate) fn lock_goes(
        &mut self,
        now: Instant,
        lock: LockId,
        resource: &ResourceId,
        owned: &Owned,
    ) {
        if owned.requested().is_some() {
            self.call_ends(now, lock, resource, owned.asked, false);
        }
        if let Some(held) = owned.granted {
            self.hold_ends(now, resource.space, held, owned.since);
        }
    }

    /// A mode is held no longer.
    pub(crate) fn hold_ends(
        &mut self,
        now: Instant,
        space: LockspaceId,
        held: LockMode,
        since: Instant,
    ) {
        if held != LockMode::Nl {
            self.space(space).holds.count(now.since(since));
        }
    }
}

/// Whether a call that was not granted may have waited: not, if it was refused for what it was.
pub(crate) fn may_have_waited(why: &Refusal) -> bool {
    matches!(
        why.cause(),
        Refusal::Cancelled
            | Refusal::TimedOut
            | Refusal::Deadlock
            | Refusal::DeadlockCycle(_)
            | Refusal::Released
    )
}

/// A call of an own client that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitView {
    /// The lock.
    pub lock: LockId,
    /// Its client.
    pub session: SessionId,
    /// The resource.
    pub resource: ResourceId,
    /// The mode held, if it converts.
    pub granted: Option<LockMode>,
    /// The mode asked for.
    pub requested: LockMode,
    /// When the call was made.
    pub asked: Instant,
}

impl Dlm {
    /// Times of lockspaces in which own clients asked for locks, by number, after one; at most
    /// `limit`, and whether there are more.
    #[must_use]
    pub fn space_times(
        &self,
        only: Option<LockspaceId>,
        after: Option<LockspaceId>,
        limit: usize,
    ) -> (Vec<SpaceTimes>, bool) {
        let wanted = |space: &LockspaceId| {
            only.is_none_or(|only| only == *space) && after.is_none_or(|after| *space > after)
        };
        let spaces = &self.contention.spaces;
        let mut found = spaces.sorted_keys_where(|space, _| wanted(space));
        let truncated = found.len() > limit;
        found.truncate(limit);
        let times = found.into_iter().filter_map(|space| {
            let counted = spaces.get(&space)?;
            Some(SpaceTimes {
                space,
                waits: counted.waits.times(),
                given_up: counted.given_up,
                holds: counted.holds.times(),
            })
        });
        (times.collect(), truncated)
    }

    /// The resources for which own clients queued longest lately, most first; and how far back that
    /// reaches.
    pub fn most_contended(
        &mut self,
        now: Instant,
        only: Option<LockspaceId>,
        limit: usize,
    ) -> (Vec<HotResource>, Duration) {
        let admits = |resource: &ResourceId| only.is_none_or(|only| only == resource.space);
        self.contention.hot.most(now, limit, admits)
    }

    /// Calls of own clients that wait, the longest first.
    #[must_use]
    pub fn longest_waits(&self, only: Option<LockspaceId>, limit: usize) -> Vec<WaitView> {
        let waits = self.contention.waits.iter();
        let views = waits.filter_map(|(asked, lock)| {
            let owned = self.locks.get(lock)?;
            let resource = &self.resources.peek(owned.place).id;
            let wanted = only.is_none_or(|only| only == resource.space);
            let requested = owned.requested().filter(|_| wanted)?;
            Some(WaitView {
                lock: *lock,
                session: owned.session,
                resource: resource.clone(),
                granted: owned
                    .granted
                    .filter(|_| !matches!(owned.pending, crate::table::Pending::Range(_))),
                requested,
                asked: *asked,
            })
        });
        views.take(limit).collect()
    }
}
