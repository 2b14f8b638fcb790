//! Changes of the value block in one step, without a mode for it; and who watches the block.
//!
//! An update is what a conversion to PW, a publication and the way back would be, all at one moment:
//! it is refused if any other lock that is held conflicts with PW. So whoever holds CW, PR, PW or EX
//! can rely on its copy of the block whatever others do, and vouch for it in a recovery.

use crate::{Invalid, Resource};
use core::fmt::Debug;
use mainstay_base::{LockMode, Mutant, Updated, ValueUpdate};

/// Why an update was not carried out. The resource is as before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpdateError {
    /// It is wrong in itself.
    Invalid(Invalid),
    /// Another lock is held in CW, PR, PW or EX.
    Held,
}

impl From<Invalid> for UpdateError {
    fn from(invalid: Invalid) -> UpdateError {
        UpdateError::Invalid(invalid)
    }
}

impl<K: Copy + Ord + Debug> Resource<K> {
    /// Changes the value block for a lock that is granted, in any mode, and waits for nothing.
    ///
    /// # Errors
    /// For an unknown or pending lock; a block that is too long; blocks too short for a count, or a
    /// count that would leave its range; and where others rely on the block.
    pub fn update(&mut self, key: K, update: &ValueUpdate) -> Result<Updated, UpdateError> {
        self.refuse_while_rebuilding()?;
        let own = self.granted[self.idle(key)?].mode;
        let now = self.value.read();
        match update {
            ValueUpdate::Swap { block, .. } => self.rules().check_value(block)?,
            ValueUpdate::Add { .. } if self.value.len() < size_of::<i64>() => {
                let len = self.value.len();
                return Err(Invalid::NoRoomToCount { len }.into());
            }
            ValueUpdate::Add { .. } => {}
        }
        if self.held.conflict(LockMode::Pw, Some(own)) && !Mutant::UpdateIgnoresHolders.active() {
            return Err(UpdateError::Held);
        }
        match update {
            ValueUpdate::Swap {
                expect,
                expect_stale,
                block,
            } => {
                let same = (now.version, now.maybe_stale) == (*expect, *expect_stale);
                if !same && !Mutant::SwapUnconditional.active() {
                    let (done, value) = (false, now);
                    return Ok(Updated { done, value });
                }
                self.publish(block);
            }
            ValueUpdate::Add { delta } => {
                let (count, delta) = (now.count(), *delta);
                let sum = count.checked_add(delta);
                let sum = sum.ok_or(Invalid::CountOverflow { count, delta })?;
                let block = now.block.with_count(sum);
                self.value.publish_successor(&block, self.last_token);
            }
        }
        let (done, value) = (true, self.value.read());
        Ok(Updated { done, value })
    }

    /// Has a granted lock watch the value block, or not any more. Returns whether the lock is known
    /// and granted, be it that it converts.
    pub fn watch(&mut self, key: K, on: bool) -> bool {
        let held = match self.find_granted(key) {
            Ok(index) => &mut self.granted[index],
            Err(_) => {
                let pending = self.pending.as_mut();
                let index = pending.as_ref().and_then(|p| p.find_converting(key));
                let (Some(pending), Some(index)) = (pending, index) else {
                    return false;
                };
                let Some(entry) = pending.converting.iter_mut().nth(index) else {
                    return false;
                };
                &mut entry.held
            }
        };
        held.watches = on;
        if on {
            self.value.watch();
        }
        true
    }

    /// Whether the value block, or its mark, has changed since [`Resource::take_watching`], and
    /// somebody may watch.
    #[must_use]
    pub fn has_news(&self) -> bool {
        self.rebuild.is_none() && self.value.changed()
    }

    /// The locks that watch the value block, which are told what it is now. Linear in the number of
    /// holders.
    pub fn take_watching(&mut self) -> Vec<K> {
        if self.rebuild.is_some() {
            return Vec::new();
        }
        let all = self.granted().chain(self.converting());
        let keys: Vec<K> = all.filter(|l| l.watches).map(|l| l.key).collect();
        self.value.told(!keys.is_empty());
        keys
    }
}
