//! How many locks and waiting calls the clients of one user may have on this node.
//!
//! Where nothing is limited, and for who is privileged, nothing is counted. An orphan counts for the user
//! whose process left it behind, until it is adopted or purged.

use crate::{Dlm, table::Owned};
use mainstay_base::{Caller, FixedMap, SessionId, UserLimits};
use mainstay_wire::{
    client::Handle,
    dlm::ResourceId,
    lock::{Flags, Refusal},
};
use std::collections::BTreeMap;

/// What one user has.
#[derive(Debug, Default)]
struct Used {
    locks: u64,
    /// Those included that may come to wait, and are under way.
    waiting: u64,
    /// Sessions whose locks are counted here.
    sessions: u64,
}

/// A session whose locks are counted, until the last of them is gone.
#[derive(Debug)]
struct Account {
    uid: u32,
    locks: u64,
    open: bool,
}

/// What is counted.
#[derive(Debug, Default)]
pub(crate) struct Quotas {
    limits: UserLimits,
    users: FixedMap<u32, Used>,
    sessions: FixedMap<SessionId, Account>,
}

impl Quotas {
    /// Whether a session's user may have so many locks more, and another call that waits.
    pub(crate) fn check(&self, session: SessionId, new: u64, flags: Flags) -> Result<(), Refusal> {
        let Some(account) = self.sessions.get(&session) else {
            return Ok(());
        };
        let (uid, used) = (account.uid, self.users.get(&account.uid));
        let (locks, waiting) = used.map_or((0, 0), |used| (used.locks, used.waiting));
        if let Some(limit) = self.limits.locks
            && new > 0
            && locks.saturating_add(new) > limit
        {
            let more = match new {
                1 => String::new(),
                _ => format!(", asks for {new} more at once"),
            };
            return Err(Refusal::Limit(format!(
                "user {uid} has {locks} locks on this node{more}, and may have {limit} (`locks-per-user` \
                 in `[limits]`): release some, or have the limit raised"
            )));
        }
        match self.limits.waiting {
            Some(limit) if waiting >= limit && !flags.contains(Flags::NOQUEUE) => {
                Err(Refusal::Limit(format!(
                    "{waiting} calls of user {uid} wait on this node, or are under way, and {limit} may (`waiting-per-user` in \
                     `[limits]`): ask not to wait (NOQUEUE), cancel some, or have the limit raised"
                )))
            }
            _ => Ok(()),
        }
    }

    fn user(&mut self, session: SessionId) -> Option<&mut Used> {
        let account = self.sessions.get(&session)?;
        self.users.get_mut(&account.uid)
    }

    pub(crate) fn locks_come(&mut self, session: SessionId, count: u64) {
        if let Some(account) = self.sessions.get_mut(&session) {
            account.locks += count;
            if let Some(used) = self.users.get_mut(&account.uid) {
                used.locks += count;
            }
        }
    }

    pub(crate) fn locks_go(&mut self, session: SessionId, count: u64) {
        if let Some(account) = self.sessions.get_mut(&session) {
            account.locks -= count;
            if let Some(used) = self.users.get_mut(&account.uid) {
                used.locks -= count;
            }
            self.close_if_empty(session);
        }
    }

    /// Whether the user of a session may take over a lock from another: its own it has already.
    pub(crate) fn check_adoption(&self, from: SessionId, by: SessionId) -> Result<(), Refusal> {
        let uid = |session| self.sessions.get(&session).map(|account| account.uid);
        match uid(from) == uid(by) {
            true => Ok(()),
            false => self.check(by, 1, Flags::NOQUEUE),
        }
    }

    /// A lock has another owner, and counts for its user from now on.
    pub(crate) fn lock_passes(&mut self, from: SessionId, to: SessionId) {
        self.locks_come(to, 1);
        self.locks_go(from, 1);
    }

    pub(crate) fn wait_begins(&mut self, session: SessionId) {
        if let Some(used) = self.user(session) {
            used.waiting += 1;
        }
    }

    pub(crate) fn wait_ends(&mut self, session: SessionId) {
        if let Some(used) = self.user(session) {
            used.waiting -= 1;
        }
    }

    fn open(&mut self, session: SessionId, uid: u32) {
        self.users.get_or_insert_with(uid, Used::default).sessions += 1;
        let account = Account {
            uid,
            locks: 0,
            open: true,
        };
        self.sessions.insert(session, account);
    }

    /// A session is closed; its locks go one by one.
    pub(crate) fn close(&mut self, session: SessionId) {
        if let Some(account) = self.sessions.get_mut(&session) {
            account.open = false;
            self.close_if_empty(session);
        }
    }

    fn close_if_empty(&mut self, session: SessionId) {
        let over = |account: &Account| !account.open && account.locks == 0;
        if !self.sessions.get(&session).is_some_and(over) {
            return;
        }
        let Some(account) = self.sessions.remove(&session) else {
            return;
        };
        if let Some(used) = self.users.get_mut(&account.uid) {
            used.sessions -= 1;
            if used.sessions == 0 {
                self.users.remove(&account.uid);
            }
        }
    }
}

impl Dlm {
    /// What users may have at most. To be told before anything else.
    pub fn limit_users(&mut self, limits: UserLimits) {
        self.quotas.limits = limits;
    }

    /// Says whose a session is that was just opened, where that makes a difference.
    pub fn charge_session(&mut self, session: SessionId, caller: Caller) {
        let limits = &self.quotas.limits;
        let limited = limits.locks.is_some() || limits.waiting.is_some();
        if limited && !caller.privileged {
            self.quotas.open(session, caller.uid);
        }
    }

    /// What is counted is what there is. Of a set that is not granted yet, all locks count.
    pub(crate) fn check_quotas(&self) {
        let quotas = &self.quotas;
        let mut counted = BTreeMap::<u32, (u64, u64)>::new();
        for resource in self.resources.iter() {
            for owned in resource
                .locks
                .iter()
                .filter_map(|lock| self.locks.get(lock))
            {
                let counts = !self.sets.has_handle(owned.session, owned.handle);
                if counts && let Some(account) = quotas.sessions.get(&owned.session) {
                    let counted = counted.entry(account.uid).or_default();
                    counted.0 += 1;
                    counted.1 += u64::from(owned.pending.may_wait());
                }
            }
        }
        for (session, promised, waits) in self.sets.promised() {
            if let Some(account) = quotas.sessions.get(&session) {
                let counted = counted.entry(account.uid).or_default();
                counted.0 += promised;
                counted.1 += u64::from(waits);
            }
        }
        for session in self.ceding.searchers() {
            if let Some(account) = quotas.sessions.get(&session) {
                counted.entry(account.uid).or_default().0 += 1;
            }
        }
        for (asked, lock) in self.contention.waiting() {
            let owned = self.locks.get(lock);
            let waits = |owned: &Owned| owned.asked == *asked && owned.requested().is_some();
            assert!(owned.is_some_and(waits), "{lock:?} waits for nothing");
        }
        let uids = quotas.users.sorted_keys_where(|_, _| true);
        for uid in uids {
            let used = quotas
                .users
                .get(&uid)
                .map(|used| (used.locks, used.waiting));
            let there = counted.remove(&uid).unwrap_or_default();
            assert_eq!(used, Some(there), "locks and waiting calls of user {uid}");
        }
        assert!(counted.is_empty(), "nobody counts for users {counted:?}");
    }

    /// The resource of a client's lock, and the mode held.
    #[must_use]
    pub fn held(
        &self,
        session: SessionId,
        handle: Handle,
    ) -> Option<(&ResourceId, mainstay_base::LockMode)> {
        let owned = self.locks.get(&self.find(session, handle)?)?;
        Some((&self.resources.peek(owned.place).id, owned.granted?))
    }
}
