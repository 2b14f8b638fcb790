//! S4: locks of a vanished incarnation are touched only with proof that it can do no more harm.
//!
//! No grant may conflict with a lock of a vanished incarnation before the proof was told; and the
//! proof must be true: at that moment, and ever after, no lease page of that incarnation lets its
//! clients go on.

use super::{
    Checker, Fact,
    books::{Books, LifeNo},
    conflict, tell,
};
use mainstay_base::{Incarnation, NodeId};
use std::collections::BTreeSet;

/// Watches S4.
#[derive(Debug, Default)]
pub struct Proof {
    gone: BTreeSet<(NodeId, Incarnation)>,
    proved: BTreeSet<(NodeId, Incarnation)>,
}

impl Proof {
    fn harmless(
        &self,
        now: u64,
        node: NodeId,
        incarnation: Incarnation,
        books: &Books,
    ) -> Result<(), String> {
        for (number, life) in books.lives.iter().enumerate() {
            if life.node == node
                && life.incarnation == Some(incarnation)
                && books.life_valid(number as LifeNo, now)
            {
                return Err(format!(
                    "node {node} incarnation {incarnation} counts as harmless, yet its clients' lease runs for {} ns more",
                    books.pages[life.page as usize].over_at - now
                ));
            }
        }
        Ok(())
    }
}

impl Checker for Proof {
    fn promise(&self) -> &'static str {
        "S4 no recovery before proof"
    }

    fn observe(&mut self, now: u64, fact: &Fact<'_>, books: &Books) -> Result<(), String> {
        match *fact {
            Fact::Left {
                node, incarnation, ..
            } => {
                self.gone.insert((node, incarnation));
                Ok(())
            }
            Fact::Proved {
                node, incarnation, ..
            } => {
                self.proved.insert((node, incarnation));
                self.harmless(now, node, incarnation, books)
            }
            Fact::LeaseShown { life } => {
                let shown = &books.lives[life as usize];
                match shown.incarnation {
                    Some(incarnation) if self.proved.contains(&(shown.node, incarnation)) => {
                        self.harmless(now, shown.node, incarnation, books)
                    }
                    _ => Ok(()),
                }
            }
            Fact::Granted { who, .. } => {
                let Some(claim) = books.claim(who) else {
                    return Ok(());
                };
                let life = &books.lives[claim.life as usize];
                let Some(own) = life.incarnation else {
                    return Err(format!(
                        "resource {} was granted to {} by a node that never was a member",
                        claim.res,
                        tell(who, claim, books)
                    ));
                };
                // A grant of the vanished itself, late in arriving, touches nobody.
                if self.gone.contains(&(life.node, own)) {
                    return Ok(());
                }
                for (other, theirs) in books.on(claim.res) {
                    let their_life = &books.lives[theirs.life as usize];
                    if *other != who
                        && theirs.standing
                        && conflict(claim.mode, theirs.mode)
                        && their_life
                            .incarnation
                            .is_some_and(|i| self.gone.contains(&(their_life.node, i)))
                    {
                        return Err(format!(
                            "resource {} was given to {} without proof against {}",
                            claim.res,
                            tell(who, claim, books),
                            tell(*other, theirs, books)
                        ));
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::testing::{grant, two_nodes, who};
    use mainstay_base::LockMode::Ex;
    use mainstay_wire::event::Reason;

    const ONE: NodeId = NodeId(1);
    const FIRST: Incarnation = Incarnation(1);

    fn left() -> Fact<'static> {
        Fact::Left {
            node: ONE,
            incarnation: FIRST,
            reason: Reason::HeartbeatsMissed,
        }
    }

    fn proved() -> Fact<'static> {
        Fact::Proved {
            node: ONE,
            incarnation: FIRST,
            reason: Reason::LeaseExpired,
        }
    }

    /// Protects the net: a grant over a vanished holder before any proof is seen, after it is not.
    #[test]
    fn a_grant_before_proof_is_seen() {
        let granted = Fact::Granted {
            who: who(2),
            read: None,
        };
        let (mut checker, mut books) = (Proof::default(), two_nodes());
        grant(&mut books, 1, 0, Ex, 5);
        grant(&mut books, 2, 1, Ex, 6);
        checker.observe(1, &left(), &books).expect("nothing given");
        assert!(checker.observe(2000, &granted, &books).is_err());
        checker.observe(2000, &proved(), &books).expect("lapsed");
        books.end_standing(|w, _| w == who(1));
        assert!(checker.observe(2000, &granted, &books).is_ok());
    }

    /// Protects the net: a proof while the lease still runs, or a lease shown after proof, is seen.
    #[test]
    fn a_false_proof_is_seen() {
        let (mut checker, mut books) = (Proof::default(), two_nodes());
        assert!(checker.observe(999, &proved(), &books).is_err());
        assert!(checker.observe(1000, &proved(), &books).is_ok());
        books.pages[0].over_at = 2000;
        let shown = Fact::LeaseShown { life: 0 };
        assert!(checker.observe(1001, &shown, &books).is_err());
    }
}
