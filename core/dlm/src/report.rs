//! What the lock manager tells of itself.

use crate::{Dlm, catch_up::is_rebuilt, master::Key, table::State};
use mainstay_base::{Incarnation, Instant, LockId, LockspaceId, NodeId, SessionId, Token};
use mainstay_lock::LockView;
use mainstay_wire::dlm::{MasteredLock, ResourceId};
use std::collections::BTreeMap;

/// Counts of one lockspace on this node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpaceCounts {
    /// Resources mastered here.
    pub mastered: u64,
    /// Resources known here.
    pub resources: u64,
    /// Locks of own clients.
    pub locks: u64,
    /// Directory entries.
    pub directory: u64,
}

/// A lock of an own client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnedView {
    /// The lock.
    pub lock: LockId,
    /// Its client.
    pub session: SessionId,
    /// When it was granted, or, if it waits or converts, asked for.
    pub since: Instant,
}

impl Dlm {
    /// Own clients' locks on one resource, by number.
    #[must_use]
    pub fn owned_locks(&self, resource: &ResourceId) -> Vec<OwnedView> {
        let place = self.resources.place(resource);
        let locks = place.map(|place| self.resources.peek(place).locks.as_slice());
        self.owners_of(locks.unwrap_or_default())
    }

    /// These of own clients' locks, as far as they exist.
    #[must_use]
    pub fn owners_of(&self, locks: &[LockId]) -> Vec<OwnedView> {
        let owned = locks.iter().filter_map(|lock| {
            let owned = self.locks.get(lock)?;
            Some(OwnedView {
                lock: *lock,
                session: owned.session,
                since: match owned.requested() {
                    Some(_) => owned.asked,
                    None => owned.since,
                },
            })
        });
        owned.collect()
    }

    /// Counts of the lockspaces of which anything is known here.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<LockspaceId, SpaceCounts> {
        let counts = self.resources.counts().map(|(space, counts)| {
            // What nobody restated is free.
            let lost = counts.lost.iter();
            let lost = lost.filter(|(life, _)| !is_rebuilt(&self.departed, life.life()));
            let counts = SpaceCounts {
                mastered: counts.mastered,
                resources: counts.resources,
                locks: counts.locks,
                directory: counts.entries + lost.map(|(_, lost)| lost).sum::<u64>(),
            };
            (space, counts)
        });
        counts.collect()
    }

    /// Checks what must always hold on this node alone; for tests and the simulator.
    ///
    /// # Panics
    /// If it does not.
    pub fn check(&self) {
        self.check_quotas();
        self.check_trees();
        self.resources.check_counts();
        self.check_held();
        for resource in self.resources.iter() {
            if let State::Mine(master) = &resource.state
                && master.rebuilding.is_none()
            {
                master.engine.check();
                self.check_ranges(resource, master);
            }
            for lock in &resource.locks {
                assert!(
                    self.locks.contains(lock),
                    "{} lists an unknown lock",
                    resource.id.name
                );
            }
        }
    }

    /// As [`Dlm::check`], where nothing is under way: then this node as a master and as an owner of
    /// locks agrees with itself. Otherwise the master may have yet to be told that a lock is gone.
    ///
    /// # Panics
    /// If something does not fit.
    pub fn check_at_rest(&self) {
        self.check();
        self.check_owners();
        for resource in self.resources.iter() {
            let State::Mine(master) = &resource.state else {
                continue;
            };
            if master.rebuilding.is_some() {
                continue;
            }
            // One that survives its node is the log's, and stays when the node leaves.
            let own = |view: &LockView<Key>| {
                view.key.life() == self.my_life()
                    && !self.surviving.is_recorded(view.key)
                    && !self.deferred.drops(view.key.life(), view.key.lock)
            };
            for view in master.engine.granted().filter(own) {
                let owned = self.locks.get(&view.key.lock);
                assert!(
                    owned.is_some_and(|o| o.granted == view.granted.map(|g| g.0)),
                    "{:?} on {}: its master and its owner, one node, disagree",
                    view.key,
                    resource.id.name
                );
            }
        }
    }
}

pub(crate) fn lock_view(view: LockView<Key>) -> MasteredLock {
    let (node, incarnation): (NodeId, Incarnation) = view.key.life();
    MasteredLock {
        node,
        incarnation,
        lock: view.key.lock,
        granted: view.granted.map(|g| g.0),
        requested: view.requested,
        token: view.granted.map_or(Token::NONE, |g| g.1),
        range: None,
    }
}
