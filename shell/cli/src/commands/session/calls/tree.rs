//! Locks beneath others.

use super::{Asked, Calls, Result_, call_of};
use crate::commands::{
    locks::resource_name,
    session::{grammar::How, show::Shown},
};
use mainstay_base::LockMode;
use mainstay_wire::client::Handle;

impl Calls {
    /// Asks for a lock beneath the one of that label.
    pub(super) fn lock_under(
        &mut self,
        label: String,
        parent: &str,
        own: &str,
        mode: LockMode,
        how: How,
    ) -> Result<(), String> {
        self.is_new(&label, mode)?;
        let Ok(above) = self.find(parent) else {
            return Err(format!(
                "there is no lock {parent} to have one beneath it; `lock {parent}` asks for one (a slash \
                 that is part of a name can be given as \\x2f)"
            ));
        };
        let own = resource_name(own).map_err(|failure| failure.message)?;
        let resource = above.resource.child(own.own_bytes());
        let resource = resource.map_err(|error| error.to_string())?;
        let (parent, space, value_len) = (above.handle, above.space, above.value_len);
        let handle = self.add(label.clone(), resource);
        if let Some(lock) = self.locks.get_mut(&label) {
            (lock.space, lock.value_len) = (space, value_len);
            lock.parent = Some(parent);
        }
        let call = self
            .raw
            .raw_lock_under(handle, parent, call_of(own, mode, how));
        self.begin(label, Asked::Lock, Some(mode), async {
            Result_::Granted(call.await)
        });
        Ok(())
    }

    /// Releases all beneath a lock, and that, too, if `itself`; or all there are.
    pub(super) fn unlock_tree(&mut self, root: Option<String>, itself: bool) -> Result<(), String> {
        let root = match &root {
            Some(label) => Some(self.find(label)?.handle),
            None => None,
        };
        let locks = self.locks.iter().filter(|(_, lock)| match root {
            Some(root) => itself && lock.handle == root || self.is_beneath(lock.parent, root),
            None => true,
        });
        let locks: Vec<_> = locks
            .map(|(label, lock)| (label.clone(), lock.handle))
            .collect();
        let label = root
            .and_then(|root| self.label_of(root))
            .unwrap_or_default();
        let call = self.raw.raw_unlock_tree(root, itself);
        self.begin(label, Asked::Dequeue, None, async {
            Result_::Tree(locks, call.await)
        });
        Ok(())
    }

    fn is_beneath(&self, mut above: Option<Handle>, root: Handle) -> bool {
        while let Some(parent) = above {
            if parent == root {
                return true;
            }
            let lock = self.locks.values().find(|lock| lock.handle == parent);
            above = lock.and_then(|lock| lock.parent);
        }
        false
    }

    /// Locks that were released together are gone.
    pub(super) fn tree_gone(
        &mut self,
        locks: Vec<(String, Handle)>,
        released: u64,
    ) -> Shown<'static> {
        let mut gone = Vec::new();
        for (label, handle) in locks {
            if self
                .locks
                .get(&label)
                .is_some_and(|lock| lock.handle == handle)
            {
                self.locks.remove(&label);
                gone.push(label);
            }
        }
        Shown::Dequeued {
            released,
            locks: gone,
        }
    }
}
