//! S5: all members install the same sequence of views.
//!
//! Views of one epoch are alike wherever they are installed; each life sees epochs grow; an
//! incarnation belongs to one life only; a node acts only as a member of a quorate view, and grants
//! only while its lease lasts.

use super::{
    Checker, Fact,
    books::{Books, LifeNo},
};
use mainstay_base::{Epoch, Incarnation, Instant, NodeId};
use std::collections::BTreeMap;

type Members = (Vec<(NodeId, Incarnation)>, bool);

/// Watches S5.
#[derive(Debug, Default)]
pub struct Agreement {
    views: BTreeMap<Epoch, Members>,
    latest: BTreeMap<LifeNo, Epoch>,
    owners: BTreeMap<(NodeId, Incarnation), LifeNo>,
}

impl Checker for Agreement {
    fn promise(&self) -> &'static str {
        "S5 agreement"
    }

    fn observe(&mut self, _: u64, fact: &Fact<'_>, books: &Books) -> Result<(), String> {
        match *fact {
            Fact::View {
                life,
                epoch,
                members,
                quorate,
            } => {
                let node = books.lives[life as usize].node;
                let view = (members.to_vec(), quorate);
                let known = self.views.entry(epoch).or_insert_with(|| view.clone());
                if *known != view {
                    return Err(format!(
                        "node {node} installed view {epoch} as {view:?}; elsewhere it was {known:?}"
                    ));
                }
                match self.latest.insert(life, epoch) {
                    Some(before) if before >= epoch => Err(format!(
                        "node {node} installed view {epoch} after view {before}"
                    )),
                    _ => Ok(()),
                }
            }
            Fact::Adopted { life, incarnation } => {
                let node = books.lives[life as usize].node;
                match self.owners.insert((node, incarnation), life) {
                    Some(other) if other != life => Err(format!(
                        "node {node} acts as incarnation {incarnation} in two lives, {other} and {life}"
                    )),
                    _ => Ok(()),
                }
            }
            Fact::Acting { life, active: true } => {
                let node = books.lives[life as usize].node;
                match self
                    .latest
                    .get(&life)
                    .and_then(|epoch| self.views.get(epoch))
                {
                    Some((members, true)) if members.iter().any(|(n, _)| *n == node) => Ok(()),
                    _ => Err(format!(
                        "node {node} acts without being a member of a quorate view"
                    )),
                }
            }
            Fact::Granting { life, at, lease } if at >= lease => {
                let node = books.lives[life as usize].node;
                let late = at.since(lease).as_secs_f64() * 1000.0;
                Err(if lease == Instant::ZERO {
                    format!("node {node} grants without a lease")
                } else {
                    format!("node {node} grants {late:.1} ms after the end of its lease")
                })
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::testing::two_nodes;

    fn view(life: u32, epoch: u64, members: &[(NodeId, Incarnation)]) -> Fact<'_> {
        Fact::View {
            life,
            epoch: Epoch(epoch),
            members,
            quorate: true,
        }
    }

    const ONE: [(NodeId, Incarnation); 1] = [(NodeId(1), Incarnation(1))];
    const TWO: [(NodeId, Incarnation); 1] = [(NodeId(2), Incarnation(1))];

    /// Protects the net: two views of one epoch are seen.
    #[test]
    fn different_views_of_one_epoch_are_seen() {
        let (mut checker, books) = (Agreement::default(), two_nodes());
        assert!(checker.observe(1, &view(0, 3, &ONE), &books).is_ok());
        assert!(checker.observe(1, &view(1, 3, &ONE), &books).is_ok());
        assert!(checker.observe(1, &view(0, 4, &ONE), &books).is_ok());
        assert!(checker.observe(1, &view(1, 4, &TWO), &books).is_err());
    }

    /// Protects the net: an epoch that goes back within a life is seen.
    #[test]
    fn epochs_grow() {
        let (mut checker, books) = (Agreement::default(), two_nodes());
        assert!(checker.observe(1, &view(0, 3, &ONE), &books).is_ok());
        assert!(checker.observe(1, &view(0, 3, &ONE), &books).is_err());
    }

    /// Protects the net: a grant at or after the end of the lease is seen, one before it passes.
    #[test]
    fn grants_after_the_lease_are_seen() {
        let (mut checker, books) = (Agreement::default(), two_nodes());
        let mut grant = |at, lease| {
            let fact = Fact::Granting {
                life: 1,
                at: Instant(at),
                lease: Instant(lease),
            };
            checker.observe(1, &fact, &books)
        };
        assert!(grant(99, 100).is_ok());
        assert!(grant(100, 100).is_err());
        assert!(grant(5, 0).is_err());
    }

    /// Protects the net: acting outside the view, and sharing an incarnation, are seen.
    #[test]
    fn only_members_act_and_incarnations_are_not_shared() {
        let (mut checker, books) = (Agreement::default(), two_nodes());
        let acting = Fact::Acting {
            life: 1,
            active: true,
        };
        assert!(checker.observe(1, &acting, &books).is_err());
        checker
            .observe(1, &view(1, 3, &ONE), &books)
            .expect("alike");
        assert!(checker.observe(1, &acting, &books).is_err());
        checker.observe(1, &view(1, 4, &TWO), &books).expect("grew");
        assert!(checker.observe(1, &acting, &books).is_ok());
        let adopted = |life| Fact::Adopted {
            life,
            incarnation: Incarnation(7),
        };
        assert!(checker.observe(1, &adopted(0), &books).is_ok());
        let mut shared = books;
        shared.lives[1].node = NodeId(1);
        assert!(checker.observe(1, &adopted(1), &shared).is_err());
    }
}
