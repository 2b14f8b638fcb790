//! Conversion deadlocks: conversions of one resource that wait for each other. Each holds its old
//! mode while it waits, so neither can ever be granted. Found when the last of them arrives.

use crate::{Flags, LockView, Resource, queue::Ask};
use core::fmt::Debug;
use mainstay_base::LockMode;

/// A conversion in the order of the convert queue.
#[derive(Clone, Copy)]
struct Node {
    from: LockMode,
    to: LockMode,
    noorder: bool,
}

/// Whether `a`, ahead of `b` or not, cannot be granted before `b` is out of the way.
fn waits_for(a: Node, b: Node, b_is_ahead: bool) -> bool {
    !a.to.compatible(b.from) || (b_is_ahead && !a.noorder)
}

impl<K: Copy + Ord + Debug> Resource<K> {
    /// Whether a conversion that cannot be granted now would, once queued, wait for one that waits
    /// for it, directly or by way of others.
    pub(crate) fn would_deadlock(&self, from: LockMode, ask: Ask) -> bool {
        let Some(pending) = self.pending.as_ref().filter(|p| !p.converting.is_empty()) else {
            return false;
        };
        let queue = &pending.converting;
        let at_head = ask.flags.contains(Flags::HEADQUE);
        let new = Node {
            from,
            to: ask.mode,
            noorder: ask.flags.contains(Flags::NOORDER),
        };
        if !at_head && !new.noorder {
            // It waits for all that are ahead: enough that one of them waits for it.
            return queue.iter().any(|c| !c.ask.mode.compatible(from));
        }
        let nodes: Vec<Node> = queue
            .iter()
            .map(|c| Node {
                from: c.held.mode,
                to: c.ask.mode,
                noorder: c.ask.flags.contains(Flags::NOORDER),
            })
            .collect();
        let mut reached: Vec<bool> = nodes.iter().map(|&n| waits_for(new, n, !at_head)).collect();
        let mut todo: Vec<usize> = (0..nodes.len()).filter(|&i| reached[i]).collect();
        while let Some(i) = todo.pop() {
            if waits_for(nodes[i], new, at_head) {
                return true;
            }
            for j in 0..nodes.len() {
                if j != i && !reached[j] && waits_for(nodes[i], nodes[j], j < i) {
                    reached[j] = true;
                    todo.push(j);
                }
            }
        }
        false
    }

    /// The locks that a waiting request or conversion waits for directly: holders in its way, and
    /// the one just ahead of it, which by itself waits for those further ahead. Empty for a lock
    /// that waits for nothing. These are the edges for a search across resources, and the answer
    /// to "why does this wait?".
    #[must_use]
    pub fn waits_for(&self, key: K) -> Vec<K> {
        let Some(LockView {
            granted,
            requested: Some(mode),
            flags,
            ticket,
            ..
        }) = self.get(key)
        else {
            return Vec::new();
        };
        let mut found: Vec<K> = self
            .granted()
            .chain(self.converting())
            .filter(|l| l.key != key)
            .filter(|l| l.granted.is_some_and(|(held, _)| !held.compatible(mode)))
            .map(|l| l.key)
            .collect();
        if !flags.contains(Flags::NOORDER) {
            let ahead = if granted.is_some() {
                self.converting().take_while(|l| l.ticket < ticket).last()
            } else {
                let in_own_queue = self.waiting().take_while(|l| l.ticket < ticket).last();
                in_own_queue.or_else(|| self.converting().last())
            };
            found.extend(ahead.map(|l| l.key).filter(|k| !found.contains(k)));
        }
        found
    }
}
