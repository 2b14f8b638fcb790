//! Conversion deadlocks: conversions of one resource that wait for each other. Each holds its old
//! mode while it waits, so neither can ever be granted. Found when the last of them arrives.

use crate::{Flags, Resource, queue::Ask};
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
}
