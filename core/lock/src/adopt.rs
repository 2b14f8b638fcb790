//! A granted lock gets another owner.

use crate::{Effect, Resource};
use core::fmt::Debug;

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
}
