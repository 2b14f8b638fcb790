//! Locks beneath others.

use super::{Lock, call::Call};
use crate::{
    LockError, answer,
    spec::{LockCall, call_options},
};
use mainstay_base::{LockMode, NameError, ResourceName};
use std::time::Instant;

/// A request for a lock on a sub-resource, under a lock on the resource above, to be completed by
/// [`ChildRequest::acquire`].
#[derive(Debug)]
#[must_use = "a request does nothing until `acquire`"]
pub struct ChildRequest<'a> {
    parent: &'a Lock,
    call: LockCall,
    wrong_name: Option<NameError>,
    deadline: Option<Instant>,
}

impl<'a> ChildRequest<'a> {
    fn new(parent: &'a Lock, name: &[u8]) -> ChildRequest<'a> {
        let (name, wrong_name) = match ResourceName::new(name) {
            Ok(name) => (Ok(name), None),
            Err(error) => (ResourceName::new("-"), Some(error)),
        };
        ChildRequest {
            parent,
            call: LockCall::new(name.expect("`-` is a name"), LockMode::Ex),
            wrong_name,
            deadline: None,
        }
    }

    /// The mode; EX unless said otherwise. It has nothing to do with that of the lock above.
    pub fn mode(mut self, mode: LockMode) -> Self {
        self.call.mode = mode;
        self
    }

    /// Read the sub-resource's value block with the grant, and with later conversions that read it.
    pub fn with_value_block(self) -> Self {
        self.flags(mainstay_base::Flags::VALBLK)
    }

    call_options!();

    /// Waits for the lock. Dropping the future cancels the request, and releases the
    /// lock if it was granted meanwhile.
    ///
    /// # Errors
    /// If the daemon refuses, the session is lost, the time passes, or the name is no name.
    pub async fn acquire(mut self) -> Result<Lock, LockError> {
        if let Some(error) = self.wrong_name {
            return Err(error.into());
        }
        if let Some(deadline) = self.deadline {
            self.call.end_by(deadline);
        }
        let patience = self.call.patience();
        let (held, request) = self.parent.request_under(self.call)?;
        let session = held.session.clone();
        // On every way out but the last, the guard lets go of what the request may still bring.
        let lock = Lock::new(held);
        Call::queued(session, Ok(request), answer::granted)
            .within(patience)
            .await?;
        Ok(lock)
    }
}

impl Lock {
    /// A request for a lock beneath this one: on the sub-resource of that name, 1 to 64 bytes, of this
    /// lock's resource. All who hold a lock on the resource, in whatever mode, mean the same
    /// sub-resource by it. Up to eight levels are possible.
    ///
    /// This lock cannot be released before those beneath it: [`Lock::unlock`] is refused
    /// ([`Refusal::HasSubLocks`](crate::Refusal::HasSubLocks)). It is released as soon as the last of
    /// them is gone, then and also if its guard is dropped.
    pub fn child(&self, name: impl AsRef<[u8]>) -> ChildRequest<'_> {
        ChildRequest::new(self, name.as_ref())
    }

    /// Releases this lock and all beneath it, of all depths, whatever they wait for, and waits until
    /// the daemon has said so. Returns how many locks that were. Nothing is published.
    ///
    /// # Errors
    /// If the session is lost, and the locks with it, or as for any call.
    pub async fn unlock_tree(self) -> Result<u64, LockError> {
        let request = self.held().unlock_tree(true);
        Call::queued(self.held().session.clone(), request, answer::tree_unlocked).await
    }

    /// As [`Lock::unlock_tree`], but keeps this lock.
    ///
    /// # Errors
    /// As for [`Lock::unlock_tree`].
    pub async fn unlock_beneath(&self) -> Result<u64, LockError> {
        let request = self.held().unlock_tree(false);
        Call::queued(self.held().session.clone(), request, answer::tree_unlocked).await
    }

    fn held(&self) -> &crate::Held {
        self
    }
}
