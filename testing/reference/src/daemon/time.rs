//! Time that passes: limits of calls, notices that are kept back, promises to respond, and resources
//! that are forgotten.

use super::{Daemon, invalid};
use crate::resource::{Key, compatible};
use mainstay_base::{Instant, LockMode, SessionId};
use mainstay_wire::{
    client::{Handle, ToClient},
    lock::Refusal,
};
use std::time::Duration;

/// How long a resource without locks is remembered.
pub(super) const IDLE: Duration = Duration::from_secs(10);

/// What an owner has promised for a lock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Promise {
    within: Duration,
    release: bool,
    /// What the lock is in the way of, as told last, and when the first notice runs out.
    pub(super) notice: Option<(LockMode, Instant)>,
}

impl Promise {
    /// The owner was told that the lock is in the way of a mode.
    pub(super) fn told(&mut self, now: Instant, mode: LockMode) {
        let due = self.notice.map_or(now + self.within, |(_, due)| due);
        self.notice = Some((mode, due));
    }
}

/// A notice that is kept from a holder for a while.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Kept {
    pub(super) peace: Option<Instant>,
    pub(super) notice: Option<LockMode>,
}

impl Daemon {
    /// Time passes.
    pub fn pass(&mut self, duration: Duration) {
        let end = self.now + duration;
        while let Some(next) = self.next_due().filter(|next| *next <= end) {
            self.now = next.max(self.now);
            self.end_step();
        }
        self.now = end;
        self.end_step();
    }

    /// The end of this moment.
    #[must_use]
    pub fn now(&self) -> Instant {
        self.now
    }

    fn next_due(&self) -> Option<Instant> {
        let locks = self.locks.values();
        let calls = locks
            .clone()
            .filter_map(|lock| lock.call.as_ref()?.deadline);
        let kept = locks.clone().filter_map(|lock| {
            let until = lock.kept.peace;
            until.filter(|_| lock.kept.notice.is_some())
        });
        let promises = locks.filter_map(|lock| Some(lock.promise?.notice?.1));
        let idle = self.idle.front().map(|(at, _)| *at);
        let sets = self.sets.values().filter_map(|set| set.deadline);
        let graces = self.clients.values();
        let graces = graces.filter_map(|client| client.kept.as_ref()?.ends());
        let all = calls.chain(kept).chain(promises).chain(idle).chain(sets);
        let all = all.chain(graces);
        all.min()
    }

    /// The first lock for which something is due, by its time and then by its number.
    fn due_lock(&self, due: impl Fn(&super::Lock) -> Option<Instant>) -> Option<Key> {
        let locks = self.locks.iter();
        let due = locks.filter_map(|(key, lock)| Some((due(lock)?, *key)));
        let first = due.min().filter(|(at, _)| *at <= self.now);
        first.map(|(_, key)| key)
    }

    /// Deals with all that is due.
    pub(super) fn due(&mut self) {
        while let Some(key) = self.due_lock(|lock| lock.call.as_ref()?.deadline) {
            self.time_out(key);
        }
        let kept = |lock: &super::Lock| lock.kept.peace.filter(|_| lock.kept.notice.is_some());
        while let Some(key) = self.due_lock(kept) {
            if let Some(mode) = self.lock(key).kept.notice.take() {
                self.blocks(key, mode);
            }
        }
        while let Some(key) = self.due_lock(|lock| Some(lock.promise?.notice?.1)) {
            self.promise_due(key);
        }
        self.forget_idle();
        self.pursue_sets();
        self.sets_due();
        self.end_kept();
    }

    /// Forgets resources that nobody has had a lock on for long enough. One that was used again since it
    /// was to be looked at is looked at behind those that stand there by then.
    fn forget_idle(&mut self) {
        let now = self.now;
        while let Some((_, id)) = self.idle.pop_front_if(|(at, _)| *at <= now) {
            let since = self.resources.get(&id).and_then(|resource| resource.idle);
            match since.map(|since| since + IDLE) {
                None => {}
                Some(at) if at > now => self.idle.push_back((at, id)),
                Some(_) => {
                    if let Some(gone) = self.resources.remove(&id) {
                        self.floor = self.floor.max(gone.engine.last_token);
                    }
                }
            }
        }
    }

    fn time_out(&mut self, key: Key) {
        let held = self.holds_anything(key);
        let lock = self.lock(key);
        let session = lock.session;
        let Some(call) = &mut lock.call else { return };
        call.deadline = None;
        if held {
            return self.take_back(key, Refusal::TimedOut, None);
        }
        if let Some(call) = lock.call.take() {
            self.call_refused(session, &call, Refusal::TimedOut);
        }
        self.take_away(key, false);
    }

    /// A grant that gains something begins a time in which its holder is left in peace.
    pub(super) fn begin_peace(&mut self, key: Key) {
        let now = self.now;
        let space = self.locks[&key].resource.space;
        let min_hold = self.spaces[&space].min_hold;
        self.lock(key).kept.peace = (!min_hold.is_zero()).then(|| now + min_hold);
    }

    pub(super) fn promise(
        &mut self,
        session: SessionId,
        handle: Handle,
        within_ms: Option<u32>,
        release: bool,
    ) -> Result<(), Vec<Refusal>> {
        if self.set_of(session, handle).is_some() {
            return Err(vec![Refusal::Busy]);
        }
        let key = self.find(session, handle);
        let key = key.ok_or_else(|| vec![Refusal::NoSuchLock])?;
        let lock = self.lock(key);
        let wrong = match within_ms {
            None => release,
            Some(0) => true,
            Some(_) => !lock.blocking || lock.on_ranges,
        };
        if wrong {
            return Err(vec![invalid()]);
        }
        lock.promise = within_ms.map(|ms| Promise {
            within: Duration::from_millis(ms.into()),
            release,
            notice: None,
        });
        Ok(())
    }

    fn promise_due(&mut self, key: Key) {
        let now = self.now;
        let beneath = !self.beneath(key).is_empty();
        let lock = self.lock(key);
        let Some(promise) = &mut lock.promise else {
            return;
        };
        let Some((mode, _)) = promise.notice.take() else {
            return;
        };
        let makes_way = lock
            .call
            .as_ref()
            .is_some_and(|call| compatible(call.mode, mode));
        let in_the_way = lock.held.is_some_and(|held| !compatible(held, mode));
        if makes_way || !in_the_way {
            return;
        }
        if promise.release && beneath {
            promise.notice = Some((mode, now + promise.within));
            return;
        }
        let (released, session, handle) = (promise.release, lock.session, lock.handle);
        let told = ToClient::Overdue {
            handle,
            mode,
            released,
        };
        self.tell(session, told);
        if released {
            self.end_waiting(key);
            self.dies(key);
        }
    }
}
