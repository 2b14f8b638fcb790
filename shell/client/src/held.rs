//! What a lock guard of either client knows and does without waiting.

use crate::{
    Guard, LockError, machine,
    session::Owned,
    spec::{LockCall, publishes},
};
use mainstay_base::{Flags, LockMode, LockspaceId, ResourceName, Value, ValueBlock, ValueUpdate};
use mainstay_wire::{
    client::{Ask, Handle},
    lock::Refusal,
};
use std::{ops::Deref, sync::Arc, time::Duration};

/// A granted lock, as both clients' guards dereference to it. Dropping the guard unlocks. What locks of
/// either kind know is in methods of [`Guard`], to which it dereferences.
#[derive(Debug)]
pub struct Held {
    guard: Guard,
    /// The lock was asked for with its value block.
    reads_value: bool,
    /// It was asked for so that it outlives its session.
    persistent: bool,
    blocking: bool,
    value_len: u16,
}

impl Deref for Held {
    type Target = Guard;

    fn deref(&self) -> &Guard {
        &self.guard
    }
}

impl Held {
    /// Queues the request. The guard exists from now on, so that whatever happens to the caller,
    /// the lock is released when the guard goes.
    pub(crate) fn request(
        session: Arc<Owned>,
        lockspace: LockspaceId,
        value_len: u16,
        call: LockCall,
    ) -> Result<(Held, u64), LockError> {
        let ask = |call: LockCall, handle| call.ask(handle, lockspace);
        let name = call.name.clone();
        Held::begin(session, value_len, name, call, ask)
    }

    /// As [`Held::request`], for a lock beneath this one. The call's name is the last part of the
    /// resource's.
    pub(crate) fn request_under(&self, call: LockCall) -> Result<(Held, u64), LockError> {
        let parent = self.handle;
        let name = self.name.child(call.name.own_bytes())?;
        let ask = |call: LockCall, handle| call.under(handle, parent);
        Held::begin(self.session.clone(), self.value_len, name, call, ask)
    }

    /// As [`Held::request`], for a lock that another process left behind.
    pub(crate) fn adopt(
        session: Arc<Owned>,
        lockspace: LockspaceId,
        value_len: u16,
        call: LockCall,
        anywhere: bool,
    ) -> Result<(Held, u64), LockError> {
        let ask = |call: LockCall, handle| call.adopt(handle, lockspace, anywhere);
        let name = call.name.clone();
        Held::begin(session, value_len, name, call, ask)
    }

    fn begin(
        session: Arc<Owned>,
        value_len: u16,
        name: ResourceName,
        call: LockCall,
        ask: impl FnOnce(LockCall, Handle) -> Ask,
    ) -> Result<(Held, u64), LockError> {
        let reads_value = call.flags.contains(Flags::VALBLK);
        let persistent = call.flags.contains(Flags::PERSISTENT);
        let blocking = call.blocking;
        let (handle, request) = session.submit_lock(|handle| ask(call, handle))?;
        let held = Held {
            guard: Guard {
                session,
                handle,
                name,
            },
            reads_value,
            persistent,
            blocking,
            value_len,
        };
        Ok((held, request))
    }

    /// Queues the request for a set. As for [`Held::request`], the guards exist from now on.
    pub(crate) fn request_set(
        session: Arc<Owned>,
        lockspace: LockspaceId,
        value_len: u16,
        calls: Vec<LockCall>,
        flags: Flags,
        timeout: Option<Duration>,
    ) -> Result<(Vec<Held>, u64), LockError> {
        let told: Vec<_> = calls
            .iter()
            .map(|call| (call.name.clone(), call.flags, call.blocking))
            .collect();
        let (handles, request) = session.submit_set(lockspace, calls, flags, timeout)?;
        let held = handles.into_iter().zip(told);
        let held = held.map(|(handle, (name, flags, blocking))| Held {
            guard: Guard {
                session: session.clone(),
                handle,
                name,
            },
            reads_value: flags.contains(Flags::VALBLK),
            // No lock of a set is asked for with it.
            persistent: false,
            blocking,
            value_len,
        });
        Ok((held.collect(), request))
    }

    /// A conversion to another mode that publishes nothing.
    pub(crate) fn as_converted(&self, mode: LockMode) -> LockCall {
        let mut call = self.call(mode);
        call.blocking = self.blocking;
        if self.persistent {
            call.flags |= Flags::PERSISTENT;
        }
        if self.reads_value && !publishes(self.mode(), mode) {
            call.flags |= Flags::VALBLK;
        }
        call
    }

    /// Queues a conversion.
    pub(crate) fn convert(
        &mut self,
        mut call: LockCall,
        value: Option<ValueBlock>,
    ) -> Result<u64, LockError> {
        self.check_value(value.as_ref())?;
        self.blocking |= call.blocking;
        call.blocking = self.blocking;
        let held = self.mode();
        let publishing = publishes(held, call.mode);
        if value.is_some() && !publishing {
            return Err(Refusal::Invalid(format!(
                "a conversion from {held} to {} reads the value block and cannot publish one; publishing needs pw or ex",
                call.mode
            ))
            .into());
        }
        if value.is_some() || (self.reads_value && !publishing) {
            call.flags |= Flags::VALBLK;
        }
        if self.persistent {
            call.flags |= Flags::PERSISTENT;
        }
        let handle = self.handle;
        self.session
            .submit_on(handle, move |_| machine::convert(handle, call, value))
    }

    /// Queues the unlock.
    pub(crate) fn unlock(&self, value: Option<ValueBlock>) -> Result<u64, LockError> {
        self.check_value(value.as_ref())?;
        if value.is_some() && !self.mode().writes_value() {
            let mode = self.mode();
            return Err(Refusal::Invalid(format!(
                "a lock in mode {mode} cannot publish a value block; that needs pw or ex"
            ))
            .into());
        }
        let flags = if value.is_some() {
            Flags::VALBLK
        } else {
            Flags::NONE
        };
        let handle = self.handle;
        self.session.submit_on(handle, move |_| Ask::Unlock {
            handle,
            flags,
            value,
        })
    }

    /// Queues the release of all beneath this lock, and of itself, if `itself`.
    pub(crate) fn unlock_tree(&self, itself: bool) -> Result<u64, LockError> {
        self.session.submit_tree(self.handle, itself)
    }

    /// Queues a change of the value block in one step.
    pub(crate) fn update(&self, update: ValueUpdate) -> Result<u64, LockError> {
        if let ValueUpdate::Swap { block, .. } = &update {
            self.check_value(Some(block))?;
        }
        let handle = self.handle;
        self.session
            .submit_on(handle, move |_| Ask::UpdateValue { handle, update })
    }

    /// Queues the wish to be told of changes of the value block, or its end.
    pub(crate) fn watch(&self, on: bool) -> Result<u64, LockError> {
        let handle = self.handle;
        self.session.submit(Ask::WatchValue { handle, on })
    }

    fn check_value(&self, value: Option<&ValueBlock>) -> Result<(), LockError> {
        match value {
            Some(block) => Ok(block.clone().padded(self.value_len.into()).map(drop)?),
            None => Ok(()),
        }
    }

    /// The mode held, as of the last answer; NL if the daemon no longer knows the lock.
    #[must_use]
    pub fn mode(&self) -> LockMode {
        self.watched(|lock| lock.mode).unwrap_or(LockMode::Nl)
    }

    /// Whether the last grant was of the alternate that the call allowed (ALTPR, ALTCW), not of the
    /// mode asked for.
    #[must_use]
    pub fn is_alternate(&self) -> bool {
        self.watched(|lock| lock.altmode)
    }

    /// Whether the last conversion (CONVDEADLK) demoted the lock to NL, whatever became of the
    /// conversion then: others may have been granted what its old mode excluded.
    #[must_use]
    pub fn was_demoted(&self) -> bool {
        self.watched(|lock| lock.demoted)
    }

    /// The value block as it came last: with a grant, if the lock was asked for with it, an update,
    /// or a notice of a change.
    #[must_use]
    pub fn value(&self) -> Option<Value> {
        self.watched(|lock| lock.value.clone())
    }
}
