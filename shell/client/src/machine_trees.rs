//! Watched locks beneath others: what of them goes with what.

use super::{Machine, Pending};
use mainstay_wire::{
    client::{Answer, Ask, Handle},
    lock::Refusal,
};

/// The lock that a new one is to be beneath.
pub(super) fn above(ask: &Ask) -> Option<Handle> {
    match ask {
        Ask::LockUnder { parent, .. } => Some(*parent),
        _ => None,
    }
}

impl Machine {
    /// A watched lock is gone. If the owner has let go of the one above it, which waited for this, that
    /// goes now.
    pub(super) fn remove(&mut self, handle: Handle) {
        let Some(lock) = self.locks.remove(&handle) else {
            return;
        };
        let Some(parent) = lock.parent else { return };
        let Some(above) = self.locks.get_mut(&parent) else {
            return;
        };
        above.beneath -= 1;
        if above.beneath == 0 && above.release && above.idle() {
            self.unlock_now(parent);
        }
    }

    /// Whether a watched lock is beneath another.
    fn is_beneath(&self, handle: Handle, root: Handle) -> bool {
        let parent_of = |handle: Handle| self.locks.get(&handle).and_then(|lock| lock.parent);
        let mut above = parent_of(handle);
        while let Some(parent) = above {
            if parent == root {
                return true;
            }
            above = parent_of(parent);
        }
        false
    }

    /// Releases all beneath a watched lock, and that, too, if `itself`.
    ///
    /// # Errors
    /// If it is gone, or is to go itself and has an unfinished call.
    pub(crate) fn unlock_tree(&mut self, root: Handle, itself: bool) -> Result<u64, Refusal> {
        match self.locks.get(&root) {
            None => return Err(Refusal::NoSuchLock),
            Some(lock) if itself && !lock.idle() => return Err(Refusal::Busy),
            Some(_) => {}
        }
        let handle = Some(root);
        let request = self.call(Ask::UnlockTree { handle, itself })?;
        for handle in self.trees.get(&request).into_iter().flatten() {
            if let Some(lock) = self.locks.get_mut(handle)
                && lock.idle()
            {
                lock.pending = Some(Pending {
                    unlock: true,
                    cancelled: false,
                });
            }
        }
        Ok(request)
    }

    /// The watched locks that a call releases as a tree, or as all that the session has.
    pub(super) fn tree_of(&self, ask: &Ask) -> Option<Vec<Handle>> {
        let &Ask::UnlockTree { handle, itself } = ask else {
            return None;
        };
        let mut handles = self.locks.sorted_keys();
        if let Some(root) = handle {
            handles.retain(|&handle| itself && handle == root || self.is_beneath(handle, root));
        }
        Some(handles)
    }

    /// Brings the states of locks up to date with the end of a call that releases a tree.
    pub(super) fn settle_tree(
        &mut self,
        request: u64,
        result: &Result<Answer, Refusal>,
    ) -> Vec<Handle> {
        let Some(mut handles) = self.trees.remove(&request) else {
            return Vec::new();
        };
        // Those beneath come before those above.
        handles.reverse();
        for &handle in &handles {
            if result.is_ok() {
                self.told.remove(&handle);
                self.remove(handle);
            } else if let Some(lock) = self.locks.get_mut(&handle)
                && lock.pending.as_ref().is_some_and(|pending| pending.unlock)
            {
                lock.pending = None;
                if lock.release && lock.beneath == 0 {
                    self.unlock_now(handle);
                }
            }
        }
        handles
    }
}
