//! Locks whose owner goes on under another key.

use crate::Resource;
use core::fmt::Debug;

impl<K: Copy + Ord + Debug> Resource<K> {
    /// Gives locks other keys, where `renamed` knows one. What their owners were told before does not count any
    /// more. Whether there were any.
    pub fn rename(&mut self, renamed: impl Fn(K) -> Option<K>) -> bool {
        let mut any = false;
        for held in &mut self.granted {
            if let Some(key) = renamed(held.key) {
                (held.key, held.told) = (key, None);
                any = true;
            }
        }
        if let Some(pending) = &mut self.pending {
            pending.converting.rekey(|converting| {
                if let Some(key) = renamed(converting.held.key) {
                    (converting.held.key, converting.held.told) = (key, None);
                    any = true;
                }
            });
            pending.waiting.rekey(|waiting| {
                if let Some(key) = renamed(waiting.key) {
                    waiting.key = key;
                    any = true;
                }
            });
        }
        if let Some(rebuild) = &mut self.rebuild {
            any |= rebuild.rename(&renamed);
        }
        if let Some(ranges) = self.ranges_mut() {
            any |= ranges.rename(&renamed);
        }
        if any {
            self.granted.sort_by_key(|held| held.key);
        }
        any
    }

    /// Tells those whose locks have got other keys what they are in the way of, and lets those that
    /// watch the value block be told what it is.
    pub fn greet_renamed(&mut self, out: &mut Vec<crate::Effect<K>>) {
        self.tell_blockers(out);
        if let Some(ranges) = self.ranges_mut() {
            ranges.greet_renamed(out);
        }
        if self.granted.iter().any(|held| held.watches) {
            self.value.watch();
            self.value.tell_anew();
        }
    }
}
