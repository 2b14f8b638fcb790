//! What waits until this node may act: calls on resources that it masters, in the order in which they
//! came.

use crate::Life;
use mainstay_base::{FixedMap, LockId};
use mainstay_wire::dlm::Body;
use std::collections::VecDeque;

/// A call on a resource mastered here.
#[derive(Debug)]
pub(crate) enum Call {
    /// The pending call of an own client's lock.
    Own(LockId),
    /// What a member said, or this node as an owner.
    Said(Life, Body),
}

/// Calls that wait.
///
/// Of a lock's pending call only the lock is kept, since it may be taken back meanwhile. The next one
/// of that lock must not take the place that it had: what the lock gave up in between comes first.
#[derive(Debug, Default)]
pub(crate) struct Deferred {
    calls: VecDeque<(u64, Call)>,
    /// Where the last call of each lock stands.
    last: FixedMap<LockId, u64>,
    next: u64,
}

impl Deferred {
    pub(crate) fn push(&mut self, call: Call) {
        if let Call::Own(lock) = call {
            self.last.insert(lock, self.next);
        }
        self.calls.push_back((self.next, call));
        self.next += 1;
    }

    /// The next call, but for those that were taken back and followed by another.
    pub(crate) fn pop_front(&mut self) -> Option<Call> {
        loop {
            let (at, call) = self.calls.pop_front()?;
            let Call::Own(lock) = call else {
                return Some(call);
            };
            if self.last.get(&lock) == Some(&at) {
                self.last.remove(&lock);
                return Some(call);
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.calls.is_empty()
    }

    /// What one life has said is another's from now on.
    pub(crate) fn rename(&mut self, from: Life, to: Life) {
        for (_, call) in &mut self.calls {
            if let Call::Said(life, _) = call
                && *life == from
            {
                *life = to;
            }
        }
    }

    /// Whether a life has said that a lock is gone.
    pub(crate) fn drops(&self, life: Life, lock: LockId) -> bool {
        let mut said = self.said();
        said.any(|(from, body)| {
            *from == life && matches!(body, Body::Drop { lock: l, .. } if *l == lock)
        })
    }

    /// What was said, by whom.
    pub(crate) fn said(&self) -> impl Iterator<Item = (&Life, &Body)> {
        self.calls.iter().filter_map(|(_, call)| match call {
            Call::Said(from, body) => Some((from, body)),
            Call::Own(_) => None,
        })
    }
}
