//! The list of vanished incarnations, and the turning of committed records into proofs.

use crate::{Fenced, FencedRecord, Proof, Vanished};
use mainstay_base::{Incarnation, NodeId};
use std::collections::{BTreeMap, BTreeSet};

/// Settled incarnations remembered per node. Records come in the order of the log, so one that is
/// this far behind cannot come again.
const SETTLED_KEPT: usize = 256;

/// Why a record makes no proof.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfirmError {
    /// The incarnation never vanished, as far as this ledger knows.
    #[error(
        "node {node} incarnation {incarnation} is not among the vanished; a record can prove the end only of an incarnation that a view left out"
    )]
    NotVanished {
        /// The record's node.
        node: NodeId,
        /// The record's incarnation.
        incarnation: Incarnation,
    },
    /// The proof has been handed out before.
    #[error("node {node} incarnation {incarnation} was proved before; a proof is made only once")]
    Settled {
        /// The record's node.
        node: NodeId,
        /// The record's incarnation.
        incarnation: Incarnation,
    },
}

/// What one node knows of vanished incarnations. Filled from the views that the replicated log
/// commits; hands out each proof exactly once.
#[derive(Debug, Default)]
pub struct Ledger {
    open: BTreeMap<(NodeId, Incarnation), Vanished>,
    settled: BTreeMap<NodeId, BTreeSet<Incarnation>>,
}

impl Ledger {
    /// An empty ledger.
    #[must_use]
    pub fn new() -> Ledger {
        Ledger::default()
    }

    /// Enters an incarnation that a committed view left out. Entering it again, or after it was
    /// proved, changes nothing.
    pub fn enter(&mut self, vanished: Vanished) {
        if !self.is_settled(vanished.node, vanished.incarnation) {
            self.open
                .entry((vanished.node, vanished.incarnation))
                .or_insert(vanished);
        }
    }

    /// Turns a committed record into the proof, once.
    ///
    /// # Errors
    /// If the incarnation is not in the ledger (unless it left cleanly, which needs no waiting), or
    /// if its proof was made before.
    pub fn confirm(&mut self, record: FencedRecord) -> Result<Fenced, ConfirmError> {
        let (node, incarnation) = (record.node, record.incarnation);
        if self.is_settled(node, incarnation) {
            return Err(ConfirmError::Settled { node, incarnation });
        }
        if record.proof == Proof::Rests {
            // What it held is another matter; the record of that comes later.
            return match self.open.contains_key(&(node, incarnation)) {
                true => Ok(Fenced::new(record)),
                false => Err(ConfirmError::NotVanished { node, incarnation }),
            };
        }
        let entered = self.open.remove(&(node, incarnation)).is_some();
        if !entered && record.proof != Proof::LeftCleanly {
            return Err(ConfirmError::NotVanished { node, incarnation });
        }
        self.settle(node, incarnation);
        Ok(Fenced::new(record))
    }

    /// Another incarnation goes on with what one that rested held: nothing of that is to be proved any
    /// more.
    pub fn resumed(&mut self, node: NodeId, incarnation: Incarnation) {
        if self.open.remove(&(node, incarnation)).is_some() {
            self.settle(node, incarnation);
        }
    }

    fn settle(&mut self, node: NodeId, incarnation: Incarnation) {
        let settled = self.settled.entry(node).or_default();
        settled.insert(incarnation);
        while settled.len() > SETTLED_KEPT {
            settled.pop_first();
        }
    }

    /// The vanished incarnations without proof, by node and incarnation.
    pub fn open(&self) -> impl Iterator<Item = &Vanished> {
        self.open.values()
    }

    /// Whether an incarnation is vanished and unproved.
    #[must_use]
    pub fn is_open(&self, node: NodeId, incarnation: Incarnation) -> bool {
        self.open.contains_key(&(node, incarnation))
    }

    /// Whether the end of an incarnation has been proved.
    #[must_use]
    pub fn is_settled(&self, node: NodeId, incarnation: Incarnation) -> bool {
        self.settled
            .get(&node)
            .is_some_and(|set| set.contains(&incarnation))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_base::{BootId, Epoch};

    fn vanished() -> Vanished {
        Vanished {
            node: NodeId(2),
            incarnation: Incarnation(3),
            boot: BootId(9),
            left_epoch: Epoch(7),
        }
    }

    fn record(proof: Proof) -> FencedRecord {
        FencedRecord {
            node: NodeId(2),
            incarnation: Incarnation(3),
            proof,
            epoch: Epoch(8),
            index: 40,
        }
    }

    /// Protects S4: a record about an incarnation that never vanished proves nothing.
    #[test]
    fn a_living_incarnation_cannot_be_proved_dead() {
        let mut ledger = Ledger::new();
        let error = ledger
            .confirm(record(Proof::LeaseExpired))
            .expect_err("not vanished");
        assert!(matches!(error, ConfirmError::NotVanished { .. }));
    }

    /// Protects recovery from running twice on one death.
    #[test]
    fn a_proof_is_handed_out_once() {
        let mut ledger = Ledger::new();
        ledger.enter(vanished());
        let proof = ledger
            .confirm(record(Proof::LeaseExpired))
            .expect("vanished and not proved yet");
        assert_eq!(
            (proof.node(), proof.incarnation()),
            (NodeId(2), Incarnation(3))
        );
        ledger.enter(vanished());
        assert!(!ledger.is_open(NodeId(2), Incarnation(3)));
        assert!(matches!(
            ledger.confirm(record(Proof::LeaseExpired)),
            Err(ConfirmError::Settled { .. })
        ));
    }

    /// Protects the clean leave: it is proved without ever having been pending.
    #[test]
    fn a_clean_leave_needs_no_waiting() {
        let mut ledger = Ledger::new();
        let proof = ledger
            .confirm(record(Proof::LeftCleanly))
            .expect("a clean leave is its own proof");
        assert_eq!(proof.proof(), &Proof::LeftCleanly);
    }
}
