//! What a lock on ranges of either client knows and does without waiting.

use crate::{Guard, LockError, machine::LockState, session::Owned, spec::LockCall};
use mainstay_base::{ByteRange, Flags, LockspaceId, ResourceName, Token};
use mainstay_wire::client::{Answer, Ask, Handle};
use std::{ops::Deref, sync::Arc};

/// A range that was set, on the handle level.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RangeSet {
    /// Larger than that of every earlier conflicting grant of the range. If the call gained nothing,
    /// the largest of what was held there; if it gave up, the largest that the lock was granted so
    /// far, or none if it holds nothing any more.
    pub token: Token,
    /// Whether the lock still holds any range; if not, its handle is free.
    pub holds: bool,
}

pub(crate) fn range_set(answer: Answer) -> Option<RangeSet> {
    match answer {
        Answer::RangeSet { token, holds } => Some(RangeSet { token, holds }),
        _ => None,
    }
}

/// A call for a range in the words of the protocol.
pub(crate) fn ask(handle: Handle, lockspace: LockspaceId, range: ByteRange, call: LockCall) -> Ask {
    let timeout_ms = call.timeout_ms();
    Ask::Range {
        handle,
        lockspace,
        name: call.name,
        range,
        mode: call.mode,
        flags: call.flags,
        blocking: call.blocking,
        timeout_ms,
    }
}

/// A lock on ranges of a resource, as both clients' guards dereference to it. Dropping the guard
/// gives up all of them. What locks of either kind know is in methods of [`Guard`], to which it
/// dereferences.
#[derive(Debug)]
pub struct HeldRanges {
    guard: Guard,
    lockspace: LockspaceId,
}

impl Deref for HeldRanges {
    type Target = Guard;

    fn deref(&self) -> &Guard {
        &self.guard
    }
}

impl HeldRanges {
    /// A lock that holds nothing yet.
    pub(crate) fn open(
        session: Arc<Owned>,
        lockspace: LockspaceId,
        name: ResourceName,
    ) -> HeldRanges {
        let handle = session.lock().machine.open_ranges();
        HeldRanges {
            guard: Guard {
                session,
                handle,
                name,
            },
            lockspace,
        }
    }

    /// Queues a call for a range.
    pub(crate) fn set(&self, range: ByteRange, call: LockCall) -> Result<u64, LockError> {
        let (handle, lockspace) = (self.handle, self.lockspace);
        self.session
            .submit_on(handle, move |_| ask(handle, lockspace, range, call))
    }

    /// Queues the release of all; none if there is nothing to release.
    pub(crate) fn unlock(&self) -> Option<Result<u64, LockError>> {
        let handle = self.handle;
        let unlock = move |_: &LockState| Ask::Unlock {
            handle,
            flags: Flags::NONE,
            value: None,
        };
        self.holds_any()
            .then(|| self.session.submit_on(handle, unlock))
    }

    /// Whether any range is held, as of the last answer.
    #[must_use]
    pub fn holds_any(&self) -> bool {
        self.watched(|lock| lock.holds_ranges())
    }
}
