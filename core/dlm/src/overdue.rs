//! How soon an owner has promised to make way when it is told that its lock is in the way, and what
//! becomes of it when it does not.

use crate::{
    Dlm, Out,
    table::{Owned, Pending},
};
use core::time::Duration;
use mainstay_base::{FixedMap, Instant, LockId, LockMode, SessionId};
use mainstay_wire::{
    client::{Answer, Handle},
    lock::Refusal,
};
use std::collections::BTreeSet;

/// What an owner has promised for one lock.
#[derive(Clone, Copy, Debug)]
struct Promise {
    within: Duration,
    /// The lock may be taken when the time is over.
    release: bool,
    /// A notice that is not heeded yet.
    notice: Option<Notice>,
}

#[derive(Clone, Copy, Debug)]
struct Notice {
    told: Instant,
    /// What the lock is in the way of, as told last.
    mode: LockMode,
    due: Instant,
}

/// All promises of this node's clients. Few locks have one.
#[derive(Debug, Default)]
pub(crate) struct Promises {
    by_lock: FixedMap<LockId, Promise>,
    due: BTreeSet<(Instant, LockId)>,
}

impl Promises {
    /// When somebody's time is over.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.due.first().map(|due| due.0)
    }

    /// What was promised for a lock: a time in milliseconds, and whether it goes otherwise.
    pub(crate) fn of(&self, lock: LockId) -> Option<(u32, bool)> {
        let promise = self.by_lock.get(&lock)?;
        let within = u32::try_from(promise.within.as_millis()).unwrap_or(u32::MAX);
        Some((within, promise.release))
    }

    /// Something is promised for a lock.
    pub(crate) fn add(&mut self, lock: LockId, within: Duration, release: bool) {
        let promise = Promise {
            within,
            release,
            notice: None,
        };
        self.by_lock.insert(lock, promise);
    }

    /// The lock is gone.
    pub(crate) fn forget(&mut self, lock: LockId) {
        self.heeded(lock);
        self.by_lock.remove(&lock);
    }

    /// The lock got another mode: what it is in the way of now will be told anew.
    pub(crate) fn heeded(&mut self, lock: LockId) {
        if let Some(promise) = self.by_lock.get_mut(&lock)
            && let Some(notice) = promise.notice.take()
        {
            self.due.remove(&(notice.due, lock));
        }
    }

    /// The owner is told that its lock is in the way.
    pub(crate) fn told(&mut self, now: Instant, lock: LockId, mode: LockMode) {
        let Some(promise) = self.by_lock.get_mut(&lock) else {
            return;
        };
        let due = now + promise.within;
        let notice = promise.notice.get_or_insert_with(|| {
            self.due.insert((due, lock));
            let told = now;
            Notice { told, mode, due }
        });
        notice.mode = mode;
    }
}

/// Whether a lock still is in the way of a mode, and its owner does nothing about it.
fn ignored(owned: &Owned, mode: LockMode) -> bool {
    let goes = match &owned.pending {
        Pending::Unlock { .. } => true,
        Pending::Convert { mode: to, .. } => to.compatible(mode),
        Pending::Request { .. }
        | Pending::Update { .. }
        | Pending::Range(_)
        | Pending::Recording { .. }
        | Pending::Taking { .. }
        | Pending::None => false,
    };
    owned.granted.is_some_and(|held| !held.compatible(mode)) && !goes
}

impl Dlm {
    /// A client promises to heed the notices that a lock of it will get, each within a time; or takes
    /// its promise back.
    pub fn set_response_time(
        &mut self,
        session: SessionId,
        request: u64,
        handle: Handle,
        within: Option<Duration>,
        release: bool,
    ) {
        let set = self.promise(session, handle, within, release);
        self.done(session, request, set.map(|()| Answer::ResponseTimeSet));
    }

    fn promise(
        &mut self,
        session: SessionId,
        handle: Handle,
        within: Option<Duration>,
        release: bool,
    ) -> Result<(), Refusal> {
        self.is_told(session, handle)?;
        let lock = self.find(session, handle).ok_or(Refusal::NoSuchLock)?;
        let invalid = |text: &str| Err(Refusal::Invalid(text.to_owned()));
        match within {
            None if release => {
                return invalid("a lock that may be taken needs a response time; give one");
            }
            Some(_) if self.is_on_ranges(lock) => {
                return invalid(
                    "a lock on ranges has no response time; give the ranges up when told",
                );
            }
            Some(_) if release => self.no_survivor(lock, "have taken away")?,
            None | Some(_) => {}
        }
        match within {
            Some(Duration::ZERO) => return invalid("a response time is at least 1 ms"),
            Some(_) if !self.locks.get(&lock).is_some_and(|owned| owned.blocking) => {
                return invalid(
                    "the lock was asked for without blocking notices, so there is nothing to \
                     respond to; ask for them with the request or a conversion",
                );
            }
            None | Some(_) => {}
        }
        self.promises.forget(lock);
        if let Some(within) = within {
            self.promises.add(lock, within, release);
        }
        Ok(())
    }

    /// Deals with owners whose time is over.
    pub(crate) fn promises_due(&mut self, now: Instant) {
        while let Some(&(due, lock)) = self.promises.due.first() {
            if due > now {
                return;
            }
            self.promises.due.pop_first();
            let Some(promise) = self.promises.by_lock.get_mut(&lock) else {
                continue;
            };
            let (release, within) = (promise.release, promise.within);
            let Some(mut notice) = promise.notice.take() else {
                continue;
            };
            let Some(owned) = self.locks.get(&lock).filter(|o| ignored(o, notice.mode)) else {
                continue;
            };
            // What is locked beneath it was not promised, and must go first.
            let stays = release && self.trees.is_parent(lock);
            if !self.active || stays {
                // While this node may not act, nobody is kept waiting by its clients alone.
                notice.due = now + within;
                promise.notice = Some(notice);
                self.promises.due.insert((notice.due, lock));
                continue;
            }
            self.out.push(Out::Overdue {
                session: owned.session,
                handle: owned.handle,
                resource: self.resources.peek(owned.place).id.clone(),
                held: owned.granted.unwrap_or(LockMode::Nl),
                mode: notice.mode,
                waited: now.since(notice.told),
                released: release,
            });
            if release {
                self.end_waiting(now, lock);
                // As if its client had died: it may have been about to publish.
                self.drop_lock(now, lock, true);
            }
        }
    }
}
