//! S2: a lock that its holder has not released, on a node that is still a member, stays granted.
//!
//! It may end only by release, with its session, or with proof against its node's incarnation (S4).
//! Judged when a conflicting grant arrives, when the cluster claims not to know the lock, and at
//! the end of the run against what the masters tell.

use super::{
    Checker, Fact, Surviving,
    books::{Books, ClientNo, Res, Who},
    conflict, tell,
};
use mainstay_base::{Incarnation, NodeId};
use mainstay_wire::report::ResourceReport;
use std::collections::{BTreeMap, BTreeSet};

/// Watches S2.
#[derive(Debug, Default)]
pub struct NoLostGrant {
    gone: BTreeSet<(NodeId, Incarnation)>,
    /// Sets that are being gathered, and what they are of: their nodes may hold some of it already.
    /// Conversions that are answered together, too: some may have been granted already.
    untold: BTreeMap<(ClientNo, u64), BTreeSet<Res>>,
}

impl NoLostGrant {
    fn member(&self, who: Who, books: &Books) -> bool {
        books.claim(who).is_some_and(|claim| {
            let life = &books.lives[claim.life as usize];
            life.incarnation
                .is_some_and(|incarnation| !self.gone.contains(&(life.node, incarnation)))
        })
    }
}

/// Compares the masters' tale with the books, both ways.
fn audit(
    told: &[(Res, &ResourceReport)],
    books: &Books,
    gone: &BTreeSet<(NodeId, Incarnation)>,
    untold: &BTreeMap<(ClientNo, u64), BTreeSet<Res>>,
    records: &Surviving<'_>,
) -> Result<(), String> {
    let mastered: BTreeSet<Res> = told.iter().map(|(res, _)| *res).collect();
    let told: BTreeSet<(Res, u32, u8)> = told
        .iter()
        .flat_map(|(res, report)| {
            report
                .holders
                .iter()
                .chain(&report.converters)
                // Ranges are looked at on their own.
                .filter(|lock| lock.range.is_none())
                .filter_map(|lock| {
                    let client = records.heir(*res, lock.owner.pid);
                    Some((*res, client, lock.granted? as u8))
                })
        })
        .collect();
    let known: BTreeSet<(Res, u32, u8)> = books
        .all()
        .filter(|(_, claim)| {
            let life = &books.lives[claim.life as usize];
            let vanished = life
                .incarnation
                .is_some_and(|i| gone.contains(&(life.node, i)));
            claim.standing && !vanished
        })
        .map(|(who, claim)| {
            let mode = claim.restore.unwrap_or(claim.mode);
            (claim.res, who.client, mode as u8)
        })
        .collect();
    let survives = |(res, ..): &&(Res, ClientNo, u8)| records.on.contains(res);
    let recorded: BTreeSet<(Res, ClientNo, u8)> = records
        .locks
        .iter()
        .map(|(res, client, mode)| (*res, *client, *mode as u8))
        .collect();
    let nameless = told.difference(&recorded).find(survives);
    if let Some((res, client, mode)) = nameless {
        return Err(format!(
            "resource {res}: a master keeps client {client}'s lock in mode number {mode}, which the log does \
             not have"
        ));
    }
    // What nobody masters, whoever comes to master it has to find in the log.
    let mut lost = recorded.difference(&told);
    if let Some((res, client, mode)) = lost.find(|(res, ..)| mastered.contains(res)) {
        return Err(format!(
            "resource {res}: its master does not know client {client}'s lock in mode number {mode}, which \
             survives its node"
        ));
    }
    if let Some((res, client, mode)) = known.difference(&recorded).find(survives) {
        return Err(format!(
            "resource {res}: client {client} holds a lock in mode number {mode} that does not survive its node"
        ));
    }
    let settled = |(res, client, _): &&(Res, ClientNo, u8)| {
        if records.on.contains(res) || records.perhaps.contains(&(*res, *client)) {
            return false;
        }
        let mut own = untold.iter().filter(|((c, _), _)| c == client);
        !own.any(|(_, set)| set.contains(res))
    };
    if let Some((res, client, mode)) = known.difference(&told).find(settled) {
        return Err(format!(
            "resource {res}: no master knows the lock that client {client} holds in mode number {mode}"
        ));
    }
    if let Some((res, client, mode)) = told.difference(&known).find(settled) {
        return Err(format!(
            "resource {res}: a master keeps a lock in mode number {mode} that client {client} does not hold"
        ));
    }
    Ok(())
}

impl Checker for NoLostGrant {
    fn promise(&self) -> &'static str {
        "S2 no lost grant"
    }

    fn observe(&mut self, _: u64, fact: &Fact<'_>, books: &Books) -> Result<(), String> {
        match *fact {
            Fact::Left {
                node, incarnation, ..
            } => {
                self.gone.insert((node, incarnation));
                Ok(())
            }
            Fact::Granted { who, .. } => {
                // One that was under way when its session ended gives nothing away.
                let Some(claim) = books.claim(who).filter(|claim| claim.standing) else {
                    return Ok(());
                };
                for (other, theirs) in books.on(claim.res) {
                    if *other != who
                        && theirs.standing
                        && conflict(claim.mode, theirs.mode)
                        && self.member(*other, books)
                        && self.member(who, books)
                    {
                        return Err(format!(
                            "resource {} was given to {} while {} has not released it and its node is a member",
                            claim.res,
                            tell(who, claim, books),
                            tell(*other, theirs, books)
                        ));
                    }
                }
                Ok(())
            }
            Fact::LockUnknown { who } => Err(format!(
                "the node of client {} does not know its lock {}",
                who.client, who.handle.0
            )),
            Fact::SetAsked {
                client, request, ..
            }
            | Fact::ManyAsked { client, request } => {
                self.untold.insert((client, request), BTreeSet::new());
                Ok(())
            }
            Fact::LockAsked {
                who, request, res, ..
            } => {
                if let Some(set) = self.untold.get_mut(&(who.client, request)) {
                    set.insert(res);
                }
                Ok(())
            }
            Fact::Answered { client, request } => {
                self.untold.remove(&(client, request));
                Ok(())
            }
            Fact::SessionOver { client } => {
                self.untold.retain(|(c, _), _| *c != client);
                Ok(())
            }
            Fact::Audit {
                resources,
                ref surviving,
                ..
            } => audit(resources, books, &self.gone, &self.untold, surviving),
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

    fn granted(client: u32) -> Fact<'static> {
        Fact::Granted {
            who: who(client),
            read: None,
        }
    }

    /// Protects the net: a grant over a lock that its holder still has is seen, lease or no lease.
    #[test]
    fn a_grant_given_away_is_seen() {
        let (mut checker, mut books) = (NoLostGrant::default(), two_nodes());
        grant(&mut books, 1, 0, Ex, 5);
        grant(&mut books, 2, 1, Ex, 6);
        assert!(checker.observe(5000, &granted(2), &books).is_err());
    }

    /// Protects honest clusters: S2 speaks of members only, and of locks that stand.
    #[test]
    fn vanished_and_ended_holders_do_not_count() {
        let (mut checker, mut books) = (NoLostGrant::default(), two_nodes());
        grant(&mut books, 1, 0, Ex, 5);
        grant(&mut books, 2, 1, Ex, 6);
        let left = Fact::Left {
            node: NodeId(1),
            incarnation: Incarnation(1),
            reason: Reason::HeartbeatsMissed,
        };
        checker.observe(1, &left, &books).expect("no grant");
        assert!(checker.observe(2, &granted(2), &books).is_ok());
        let mut other = NoLostGrant::default();
        books.end_standing(|w, _| w == who(1));
        assert!(other.observe(2, &granted(2), &books).is_ok());
        // The earlier grant is heard of late, after its session has ended.
        assert!(other.observe(3, &granted(1), &books).is_ok());
    }

    /// Protects the net: at the end a lock that no master knows, and one that nobody holds, are seen.
    #[test]
    fn the_audit_looks_both_ways() {
        let (mut checker, mut books) = (NoLostGrant::default(), two_nodes());
        let none = Fact::Audit {
            node: NodeId(1),
            resources: &[],
            surviving: Surviving::default(),
        };
        assert!(checker.observe(1, &none, &books).is_ok());
        grant(&mut books, 1, 0, Ex, 5);
        assert!(checker.observe(1, &none, &books).is_err());
        let unknown = Fact::LockUnknown { who: who(1) };
        assert!(checker.observe(1, &unknown, &books).is_err());
    }
}
