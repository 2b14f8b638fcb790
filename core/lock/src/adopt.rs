//! A granted lock gets another owner.

use crate::{Effect, Resource, queue::Held};
use core::fmt::Debug;
use mainstay_base::{LockMode, Token};

impl<K: Copy + Ord + Debug> Resource<K> {
    /// The lock has another owner, who knows nothing of what the last one was told: if it wants
    /// blocking notices, it is told anew what the lock is in the way of. Returns whether the lock was
    /// known; one that converts is, and will be told when that has ended.
    pub fn adopted(&mut self, key: K, wants_bast: bool, out: &mut Vec<Effect<K>>) -> bool {
        if let Ok(index) = self.find_granted(key) {
            let held = &mut self.granted[index];
            held.wants_bast = wants_bast;
            held.told = None;
            self.tell_blockers(out);
            return true;
        }
        if let Some(ranges) = self.ranges_mut() {
            return ranges.adopted(key, out);
        }
        let pending = self.pending.as_mut();
        let Some(pending) = pending.filter(|p| p.find_converting(key).is_some()) else {
            return false;
        };
        let converting = pending.converting.iter_mut();
        for entry in converting.filter(|c| c.held.key == key) {
            entry.held.wants_bast = wants_bast;
            entry.held.told = None;
        }
        self.tell_converting_blockers(out);
        true
    }

    /// A granted lock is known by another key from now on, and has another owner with it, as
    /// [`Resource::adopted`] has it. Returns whether it was known; while the resource is being rebuilt,
    /// nobody is told anything.
    pub fn rekey(&mut self, from: K, to: K, wants_bast: bool, out: &mut Vec<Effect<K>>) -> bool {
        if let Some(rebuild) = &mut self.rebuild {
            return rebuild.rekey(from, to, wants_bast);
        }
        let Ok(index) = self.find_granted(from) else {
            return false;
        };
        let held = Held {
            key: to,
            ..self.granted.remove(index)
        };
        self.insert_granted(held);
        self.adopted(to, wants_bast, out)
    }

    /// Adds a granted lock that is known from elsewhere than its owner to a resource without locks that
    /// has just come to be mastered here, or to one where it is granted already.
    ///
    /// # Panics
    /// If the lock cannot be held beside those that are: exclusion is broken already.
    pub fn install(&mut self, key: K, mode: LockMode, token: Token, wants_bast: bool) {
        self.raise_floor(token);
        if self.find_granted(key).is_ok() {
            return;
        }
        // Others' locks are not known, and so neither is what they published.
        self.value.mark();
        self.held.add(mode);
        self.insert_granted(Held {
            key,
            token,
            mode,
            told: None,
            wants_bast,
            valblk: false,
            watches: false,
        });
        self.check_cheaply();
    }
}
