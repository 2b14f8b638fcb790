//! For whom clients ask for locks, where it is not their session itself. What that means for the
//! search for deadlocks: `docs/protocol/deadlocks.md`; nothing else looks at it.
//!
//! Only what differs from the rule is kept: a lock that belongs to its session has no entry.

use crate::Dlm;
use mainstay_base::{FixedMap, LockId, Mutant, NodeId, Owner, SessionId};
use mainstay_wire::deadlock::OwnerId;
use std::collections::BTreeMap;

/// What sessions have named, and whose their locks are.
#[derive(Debug, Default)]
pub(crate) struct Owners {
    /// For whom a session asks, if not for itself.
    chosen: BTreeMap<SessionId, OwnerId>,
    /// Locks that do not belong to their session, with the session that has them.
    locks: FixedMap<LockId, (SessionId, OwnerId)>,
    /// How many of those an owner has.
    by_owner: BTreeMap<OwnerId, u64>,
    /// How many of those a session has.
    by_session: BTreeMap<SessionId, u64>,
}

impl Owners {
    /// For whom a session asks for locks now, if not for itself.
    pub(crate) fn chosen(&self, session: SessionId) -> Option<OwnerId> {
        self.chosen.get(&session).copied()
    }

    /// A session asks for another from now on, if one is given.
    pub(crate) fn choose(&mut self, session: SessionId, owner: Option<OwnerId>) {
        match owner {
            Some(owner) => self.chosen.insert(session, owner),
            None => self.chosen.remove(&session),
        };
    }

    /// Whose a lock is, if not its session's.
    pub(crate) fn named(&self, lock: LockId) -> Option<OwnerId> {
        self.locks.get(&lock).map(|(_, owner)| *owner)
    }

    /// A lock of a session belongs to another owner, if one is given.
    pub(crate) fn add(&mut self, lock: LockId, session: SessionId, owner: Option<OwnerId>) {
        self.remove(lock);
        if let Some(owner) = owner {
            self.locks.insert(lock, (session, owner));
            *self.by_owner.entry(owner).or_default() += 1;
            *self.by_session.entry(session).or_default() += 1;
        }
    }

    /// A lock is gone, or belongs to nobody.
    pub(crate) fn remove(&mut self, lock: LockId) {
        if let Some((session, owner)) = self.locks.remove(&lock) {
            one_less(&mut self.by_owner, owner);
            one_less(&mut self.by_session, session);
        }
    }

    pub(crate) fn forget_session(&mut self, session: SessionId) {
        self.chosen.remove(&session);
    }
}

fn one_less<K: Ord>(counts: &mut BTreeMap<K, u64>, key: K) {
    if let Some(count) = counts.get_mut(&key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(&key);
        }
    }
}

impl Dlm {
    /// Sets for whom a client asks for locks from now on. Those that it has stay whose they are.
    pub fn set_owner(&mut self, session: SessionId, owner: Owner) {
        if !self.sessions.contains_key(&session) {
            return;
        }
        let process = self.deadlocks.process(session);
        let (node, uid, pid): (NodeId, u32, u32) = (self.me, process.uid, process.pid);
        let id = match owner {
            Owner::Session => None,
            Owner::Process => Some(OwnerId::Process { node, uid, pid }),
            Owner::Group(number) => Some(OwnerId::Group { node, uid, number }),
            Owner::Transaction(xid) => {
                let uid = match Mutant::TransactionOfAnybody.active() {
                    false => uid,
                    true => 0,
                };
                Some(OwnerId::Transaction { uid, xid })
            }
        };
        self.owners.choose(session, id);
    }

    /// Whose a lock of an own client is.
    pub(crate) fn owner_of(&self, lock: LockId, session: SessionId) -> OwnerId {
        let named = self.owners.locks.get(&lock);
        named.map_or_else(|| self.session_owner(session), |(_, owner)| *owner)
    }

    /// A session as an owner.
    pub(crate) fn session_owner(&self, session: SessionId) -> OwnerId {
        let node = self.me;
        OwnerId::Session { node, session }
    }

    /// What was named as the owner of a lock.
    #[must_use]
    pub fn owner_named(&self, lock: LockId) -> Owner {
        let named = self.owners.locks.get(&lock);
        named.map_or(Owner::Session, |(_, owner)| owner.named())
    }

    /// Checks that what is kept of owners is about locks that there are, and counted right.
    ///
    /// # Panics
    /// If not.
    pub(crate) fn check_owners(&self) {
        let (mut by_owner, mut by_session) = (BTreeMap::new(), BTreeMap::new());
        for (lock, &(session, owner)) in self.owners.locks.sorted() {
            let found = self.locks.get(lock).map(|owned| owned.session);
            assert_eq!(
                found,
                Some(session),
                "{owner:?} has lock {lock} of another session"
            );
            *by_owner.entry(owner).or_default() += 1;
            *by_session.entry(session).or_default() += 1;
        }
        let counted = (&self.owners.by_owner, &self.owners.by_session);
        assert_eq!(counted, (&by_owner, &by_session), "counted otherwise");
    }

    /// How many locks an owner has on this node, asked-for ones included.
    pub(crate) fn locks_of(&self, owner: OwnerId) -> u64 {
        match owner {
            OwnerId::Session { session, .. } => {
                let all = self.sessions.get(&session).map_or(0, |locks| locks.len()) as u64;
                let others = self.owners.by_session.get(&session);
                all.saturating_sub(others.copied().unwrap_or_default())
            }
            _ => self
                .owners
                .by_owner
                .get(&owner)
                .copied()
                .unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects from tables that grow: what is counted for an owner and a session goes with its locks.
    #[test]
    fn nothing_is_left_of_locks_that_are_gone() {
        let mut owners = Owners::default();
        let owner = Some(OwnerId::Transaction { uid: 1, xid: 7 });
        let counted = |owners: &Owners| (owners.by_owner.len(), owners.by_session.len());
        for lock in 1..=3 {
            owners.add(LockId(lock), SessionId(1), owner);
        }
        owners.add(LockId(4), SessionId(1), None);
        for lock in [4, 1, 2] {
            owners.remove(LockId(lock));
            assert_eq!(counted(&owners), (1, 1), "after lock {lock} has gone");
        }
        owners.remove(LockId(3));
        assert_eq!(counted(&owners), (0, 0));
        assert!(owners.locks.is_empty());
    }
}
