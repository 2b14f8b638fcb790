//! What a lockspace says of how its resources are shared out, and how long a holder may keep a lock
//! before it is told that others wait.

use crate::{Dlm, owner::check_known};
use core::time::Duration;
use mainstay_base::{
    Compat, Fairness, FixedMap, Flags, Instant, LockId, LockMode, LockspaceId, Order,
    VALUE_LEN_DEFAULT,
};
use mainstay_lock::Rules;
use mainstay_wire::{dlm::ResourceId, lock::Refusal};
use std::collections::{BTreeMap, BTreeSet};

/// The lockspaces that exist.
#[derive(Debug, Default)]
pub(crate) struct Spaces {
    by_id: BTreeMap<LockspaceId, Space>,
    /// Some follow the SA Forum's rules.
    some_saf: bool,
}

#[derive(Clone, Copy, Debug)]
struct Space {
    rules: Rules,
    min_hold: Duration,
}

impl Spaces {
    pub(crate) fn add(&mut self, space: LockspaceId, rules: Rules, fairness: Fairness) {
        let min_hold = Duration::from_millis(fairness.min_hold_ms.into());
        self.some_saf |= rules.compat == Compat::Saf;
        self.by_id.entry(space).or_insert(Space { rules, min_hold });
    }

    /// Whether any follows the SA Forum's rules.
    pub(crate) fn some_saf(&self) -> bool {
        self.some_saf
    }

    pub(crate) fn has(&self, space: LockspaceId) -> bool {
        self.by_id.contains_key(&space)
    }

    /// What it says of its resources.
    pub(crate) fn rules(&self, space: LockspaceId) -> Rules {
        let known = self.by_id.get(&space).map(|space| space.rules);
        known.unwrap_or_else(|| Rules::from(VALUE_LEN_DEFAULT))
    }

    fn min_hold(&self, space: LockspaceId) -> Duration {
        self.by_id
            .get(&space)
            .map(|space| space.min_hold)
            .unwrap_or_default()
    }

    /// Refuses flags without a meaning: at all, or in that lockspace.
    pub(crate) fn check_flags(&self, space: LockspaceId, flags: Flags) -> Result<(), Refusal> {
        check_known(flags)?;
        let order = self.rules(space).order;
        if flags.priority() > 0 && order != Order::Priority {
            return Err(Refusal::Invalid(format!(
                "a call has a priority of {}, but its lockspace grants in the order {order}; leave the \
                 priority out, or use a lockspace that was made with `--order priority`",
                flags.priority()
            )));
        }
        Ok(())
    }
}

/// Notices that are kept from holders who have not had their time yet. Of each lock the last, which is
/// the most urgent.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    /// Until when its holder is left in peace, of each lock in a lockspace that does so.
    peace: FixedMap<LockId, Instant>,
    by_lock: FixedMap<LockId, (Instant, LockMode)>,
    due: BTreeSet<(Instant, LockId)>,
}

impl Kept {
    /// When somebody has had its time.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.due.first().map(|due| due.0)
    }

    /// The lock is gone.
    pub(crate) fn forget(&mut self, lock: LockId) {
        self.peace.remove(&lock);
        self.heeded(lock);
    }

    /// The lock got another mode: what it is in the way of now will be told anew.
    pub(crate) fn heeded(&mut self, lock: LockId) {
        if let Some((due, _)) = self.by_lock.remove(&lock) {
            self.due.remove(&(due, lock));
        }
    }

    fn keep(&mut self, lock: LockId, until: Instant, mode: LockMode) {
        self.heeded(lock);
        self.by_lock.insert(lock, (until, mode));
        self.due.insert((until, lock));
    }
}

impl Dlm {
    pub(crate) fn rules(&self, resource: &ResourceId) -> Rules {
        self.spaces.rules(resource.space)
    }

    /// Keeps a notice from a holder that has not had the lock for long enough. Returns whether it does.
    pub(crate) fn keep_from_holder(&mut self, now: Instant, lock: LockId, mode: LockMode) -> bool {
        let until = self.kept.peace.get(&lock).copied();
        let Some(until) = until.filter(|until| *until > now) else {
            self.kept.heeded(lock);
            return false;
        };
        self.kept.keep(lock, until, mode);
        true
    }

    /// A lock is granted a mode. `gains`: more than it had, so that its holder is left in peace anew.
    pub(crate) fn begin_peace(&mut self, now: Instant, lock: LockId, gains: bool) {
        self.kept.heeded(lock);
        let Some(owned) = self.locks.get(&lock).filter(|_| gains) else {
            return;
        };
        let space = self.resources.peek(owned.place).id.space;
        let min_hold = self.spaces.min_hold(space);
        if !min_hold.is_zero() {
            self.kept.peace.insert(lock, now + min_hold);
        }
    }

    /// Passes on what holders may hear now.
    pub(crate) fn tell_kept(&mut self, now: Instant) {
        while let Some(&(due, lock)) = self.kept.due.first()
            && due <= now
        {
            self.kept.due.pop_first();
            if let Some((_, mode)) = self.kept.by_lock.remove(&lock) {
                self.on_blocking(now, lock, mode);
            }
        }
    }
}
