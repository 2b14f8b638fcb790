//! Owners whose sessions may be on several nodes: transactions. Each node knows only its own part of
//! them. So a search that meets one is passed on to the other nodes, and those that wait say so, for
//! the nodes where they get locks meanwhile.

use crate::Dlm;
use core::time::Duration;
use mainstay_base::{Instant, Mutant, NodeId};
use mainstay_wire::{
    deadlock::{Hop, Met, OwnerId, ProbeId},
    dlm::Body,
};
use std::collections::{BTreeMap, VecDeque};

/// How long it counts that a transaction waits elsewhere, beside twice the longest pause between two
/// searches: with each it is said again.
const SLACK: Duration = Duration::from_secs(1);
/// Most of what is remembered.
const REMEMBERED_MAX: usize = 1 << 16;

/// Transactions that wait on other nodes.
#[derive(Debug, Default)]
pub(super) struct Elsewhere {
    /// Until when it counts.
    waits: BTreeMap<(OwnerId, NodeId), Instant>,
    /// The same in the order in which it was said, with what has been said again since.
    order: VecDeque<(Instant, OwnerId, NodeId)>,
}

impl Elsewhere {
    pub(super) fn clear(&mut self) {
        self.waits.clear();
        self.order.clear();
    }

    fn add(&mut self, now: Instant, until: Instant, owner: OwnerId, node: NodeId) {
        while let Some(&(at, old, on)) = self.order.front() {
            if at > now && self.order.len() < REMEMBERED_MAX {
                break;
            }
            self.order.pop_front();
            if self.waits.get(&(old, on)) == Some(&at) {
                self.waits.remove(&(old, on));
            }
        }
        self.waits.insert((owner, node), until);
        self.order.push_back((until, owner, node));
    }

    /// Where a transaction waits.
    fn nodes(&self, now: Instant, owner: OwnerId) -> Vec<NodeId> {
        let all = (owner, NodeId(u16::MIN))..=(owner, NodeId(u16::MAX));
        let counts = self.waits.range(all).filter(|(_, until)| **until > now);
        counts.map(|((_, node), _)| *node).collect()
    }
}

impl Dlm {
    /// Tells the others that a transaction waits here.
    pub(super) fn say_awaits(&mut self, owner: OwnerId) {
        for node in self.others() {
            self.send(node, Body::Awaits { owner });
        }
    }

    pub(super) fn on_awaits(&mut self, now: Instant, from: NodeId, owner: OwnerId) {
        let pause = super::REPEAT_MAX.max(self.deadlocks.config.delay);
        let until = now + pause.saturating_mul(2) + SLACK;
        self.deadlocks.elsewhere.add(now, until, owner, from);
    }

    /// A transaction has had an answer here: a search begins with it wherever it waits.
    pub(super) fn stir_elsewhere(&mut self, now: Instant, owner: OwnerId) {
        for node in self.deadlocks.elsewhere.nodes(now, owner) {
            self.send(node, Body::Stir { owner });
        }
    }

    /// A search has met a transaction by a lock of this node: it goes on with the waits on others.
    /// Where it began with that transaction, the one node matters that it began on.
    pub(super) fn pursue(&mut self, probe: ProbeId, owner: OwnerId, met: &Met, path: &[Hop]) {
        if Mutant::TransactionChasedHereOnly.active() {
            return;
        }
        let mut to = self.others();
        if probe.owner == owner {
            to.retain(|node| *node == probe.node);
        }
        for node in to {
            let (met, path) = (met.clone(), path.to_vec());
            self.send(
                node,
                Body::Pursue {
                    probe,
                    owner,
                    met,
                    path,
                },
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects from a table that grows by itself, and from forgetting who still waits: what was said
    /// counts for its time, from when it was said last.
    #[test]
    fn what_is_not_said_again_is_forgotten() {
        let mut elsewhere = Elsewhere::default();
        let owner = |xid| OwnerId::Transaction { uid: 1, xid };
        let at = Instant::from_millis;
        let node = NodeId(2);
        elsewhere.add(at(0), at(100), owner(1), node);
        elsewhere.add(at(0), at(100), owner(2), node);
        elsewhere.add(at(90), at(190), owner(1), node);
        assert_eq!(elsewhere.nodes(at(99), owner(2)), [node]);
        assert_eq!(elsewhere.nodes(at(101), owner(1)), [node]);
        assert_eq!(elsewhere.nodes(at(101), owner(2)), []);
        elsewhere.add(at(101), at(200), owner(3), node);
        assert_eq!(elsewhere.waits.len(), 2);
        assert_eq!(elsewhere.order.len(), 2);
        for xid in 0..2 * REMEMBERED_MAX as u64 {
            elsewhere.add(at(102), at(201), owner(xid), node);
        }
        assert!(elsewhere.order.len() <= REMEMBERED_MAX);
        assert!(elsewhere.waits.len() <= REMEMBERED_MAX);
    }
}
