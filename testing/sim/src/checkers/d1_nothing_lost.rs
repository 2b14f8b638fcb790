//! D1: configuration, fencing records and cluster state survive power loss of all nodes at once.
//!
//! The cluster is founded once; a lockspace keeps its number and length for ever; a proof stays what
//! it was; after all nodes were down at once every node acts only in an epoch beyond all those that
//! were acted in before; nothing starts on a damaged journal.

use super::{
    Checker, Fact,
    books::{Books, LifeNo},
};
use mainstay_base::{ClusterId, Epoch, LockspaceId, LockspaceName, NodeId};
use mainstay_wire::event::Reason;
use std::collections::BTreeMap;

/// Watches D1.
#[derive(Debug, Default)]
pub struct NothingLost {
    cluster: Option<ClusterId>,
    lockspaces: BTreeMap<LockspaceName, (LockspaceId, u16)>,
    names: BTreeMap<LockspaceId, LockspaceName>,
    proofs: BTreeMap<(NodeId, u64), Reason>,
    acted_in: Epoch,
    /// What `acted_in` was when last no node lived.
    floor: Epoch,
    /// The epoch of each present life.
    latest: BTreeMap<LifeNo, Epoch>,
}

impl Checker for NothingLost {
    fn promise(&self) -> &'static str {
        "D1 nothing lost"
    }

    fn observe(&mut self, _: u64, fact: &Fact<'_>, books: &Books) -> Result<(), String> {
        match *fact {
            Fact::Cluster { id } => match self.cluster.replace(id) {
                Some(before) if before != id => Err(format!(
                    "the cluster was founded twice, as {before} and as {id}"
                )),
                _ => Ok(()),
            },
            Fact::Lockspace {
                name,
                id,
                value_len,
            } => {
                let told = (id, value_len);
                let known = *self.lockspaces.entry(name.clone()).or_insert(told);
                if known != told {
                    return Err(format!(
                        "lockspace {name} was number {} with {} bytes, and is now number {id} with {value_len}",
                        known.0, known.1
                    ));
                }
                let first = self.names.entry(id).or_insert_with(|| name.clone());
                if first == name {
                    Ok(())
                } else {
                    Err(format!("lockspaces {first} and {name} share number {id}"))
                }
            }
            Fact::Proved {
                node,
                incarnation,
                reason,
            } => {
                let known = *self.proofs.entry((node, incarnation.0)).or_insert(reason);
                if known == reason {
                    Ok(())
                } else {
                    Err(format!(
                        "the end of node {node} incarnation {incarnation} was proved by {known} and by {reason}"
                    ))
                }
            }
            Fact::Booted {
                life,
                damaged: true,
            } => Err(format!(
                "node {} started on a damaged journal",
                books.lives[life as usize].node
            )),
            Fact::Booted { life, .. } => {
                self.latest.insert(life, Epoch::default());
                Ok(())
            }
            Fact::View { life, epoch, .. } => {
                self.latest.insert(life, epoch);
                Ok(())
            }
            Fact::LifeEnded { life } => {
                self.latest.remove(&life);
                if self.latest.is_empty() {
                    self.floor = self.acted_in;
                }
                Ok(())
            }
            Fact::Acting { life, active: true } => {
                let epoch = self.latest.get(&life).copied().unwrap_or_default();
                self.acted_in = self.acted_in.max(epoch);
                if epoch > self.floor || self.floor == Epoch::default() {
                    return Ok(());
                }
                Err(format!(
                    "node {} acts in view {epoch}; before all nodes went down they acted in view {}",
                    books.lives[life as usize].node, self.floor
                ))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::testing::two_nodes;
    use mainstay_base::Incarnation;

    /// Protects the net: a second founding is seen.
    #[test]
    fn a_second_founding_is_seen() {
        let (mut checker, books) = (NothingLost::default(), two_nodes());
        let fact = |id| Fact::Cluster { id: ClusterId(id) };
        assert!(checker.observe(1, &fact(4), &books).is_ok());
        assert!(checker.observe(2, &fact(4), &books).is_ok());
        assert!(checker.observe(3, &fact(5), &books).is_err());
    }

    /// Protects the net: a lockspace that changes, or two of one number, are seen.
    #[test]
    fn a_forgotten_lockspace_is_seen() {
        let books = two_nodes();
        let names = ["a", "b"].map(|n| LockspaceName::new(n).expect("valid"));
        let fact = |name, id| Fact::Lockspace {
            name,
            id: LockspaceId(id),
            value_len: 32,
        };
        let mut checker = NothingLost::default();
        assert!(checker.observe(1, &fact(&names[0], 1), &books).is_ok());
        assert!(checker.observe(1, &fact(&names[0], 2), &books).is_err());
        assert!(checker.observe(1, &fact(&names[1], 1), &books).is_err());
    }

    /// Protects the net: a fencing record that changes, and a start on damage, are seen.
    #[test]
    fn changed_proofs_and_damage_are_seen() {
        let (mut checker, books) = (NothingLost::default(), two_nodes());
        let proved = |reason| Fact::Proved {
            node: NodeId(1),
            incarnation: Incarnation(1),
            reason,
        };
        assert!(
            checker
                .observe(1, &proved(Reason::LeaseExpired), &books)
                .is_ok()
        );
        assert!(
            checker
                .observe(1, &proved(Reason::OperatorVouched), &books)
                .is_err()
        );
        let booted = |damaged| Fact::Booted { life: 0, damaged };
        assert!(checker.observe(1, &booted(false), &books).is_ok());
        assert!(checker.observe(1, &booted(true), &books).is_err());
    }

    /// Protects the net: an epoch used again after all nodes were down is seen.
    #[test]
    fn an_epoch_used_again_is_seen() {
        let (mut checker, books) = (NothingLost::default(), two_nodes());
        let mut see = |fact: Fact<'_>| checker.observe(1, &fact, &books).is_ok();
        let booted = |life| Fact::Booted {
            life,
            damaged: false,
        };
        let view = |life, epoch| Fact::View {
            life,
            epoch: Epoch(epoch),
            members: &[],
            quorate: true,
        };
        let acting = |life| Fact::Acting { life, active: true };
        assert!(see(booted(0)) && see(view(0, 4)) && see(acting(0)));
        assert!(see(booted(1)) && see(view(1, 3)) && see(acting(1)));
        assert!(see(Fact::LifeEnded { life: 0 }) && see(Fact::LifeEnded { life: 1 }));
        assert!(see(booted(0)) && see(view(0, 5)) && see(acting(0)));
        assert!(see(booted(1)) && see(view(1, 4)) && !see(acting(1)));
    }
}
