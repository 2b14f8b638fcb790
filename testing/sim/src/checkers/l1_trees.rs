//! L1: at rest, what is locked of a tree is mastered in one place.
//!
//! Nothing else depends on it, so that it is asked only in audits, which are repeated: a tree may be
//! parted for a while by a move or a failure.

use super::{Checker, Fact, books::Books};
use std::collections::BTreeMap;

/// Watches trees.
#[derive(Debug)]
pub struct Trees {
    /// Masters move, or nothing goes wrong: otherwise a tree that was parted stays so.
    together: bool,
}

impl Trees {
    /// Whether a tree has to come together again: masters move, or nothing goes wrong.
    #[must_use]
    pub fn new(together: bool) -> Trees {
        Trees { together }
    }
}

impl Checker for Trees {
    fn promise(&self) -> &'static str {
        "L1 trees"
    }

    fn observe(&mut self, _: u64, fact: &Fact<'_>, _: &Books) -> Result<(), String> {
        let Fact::Audit { resources, .. } = fact else {
            return Ok(());
        };
        if !self.together {
            return Ok(());
        }
        let mut masters = BTreeMap::new();
        for (_, report) in *resources {
            let locks = [&report.holders, &report.converters, &report.waiters];
            if locks.iter().all(|locks| locks.is_empty()) {
                continue;
            }
            let tree = (&report.lockspace, report.name.root());
            let (name, master) = masters
                .entry(tree)
                .or_insert((&report.name, &report.master));
            if **master != report.master {
                return Err(format!(
                    "{} is mastered by {master}, and {} of the same tree by {}",
                    name, report.name, report.master
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::Surviving;
    use crate::checkers::testing::two_nodes;
    use mainstay_base::{LockId, LockMode, LockspaceName, NodeId, NodeName, Token};
    use mainstay_wire::report::{LockReport, OwnerReport, ResourceReport};

    fn report(name: &str, master: &str, locked: bool) -> ResourceReport {
        let lock = LockReport {
            node: NodeName::new("n1").unwrap(),
            id: LockId(1),
            granted: Some(LockMode::Pr),
            requested: None,
            token: Token(1),
            owner: OwnerReport::default(),
            age_ms: 1,
            range: None,
        };
        ResourceReport {
            lockspace: LockspaceName::new("sim").unwrap(),
            name: name.parse().unwrap(),
            master: NodeName::new(master).unwrap(),
            recovering: false,
            token: Token(1),
            value: None,
            holders: if locked { vec![lock] } else { Vec::new() },
            converters: Vec::new(),
            waiters: Vec::new(),
        }
    }

    fn audit(reports: &[ResourceReport]) -> Result<(), String> {
        let resources: Vec<_> = reports.iter().map(|report| (0, report)).collect();
        let fact = Fact::Audit {
            node: NodeId(1),
            resources: &resources,
            surviving: Surviving::default(),
        };
        Trees::new(true).observe(1, &fact, &two_nodes())
    }

    /// Protects the net: a tree that two nodes master is seen, two trees are none, and what nobody locks
    /// does not count.
    #[test]
    fn a_scattered_tree_is_seen() {
        let [a, deep, far, idle, other] = [
            report("a", "n1", true),
            report("a//b//c", "n1", true),
            report("a//d", "n2", true),
            report("a//d", "n2", false),
            report("ab", "n2", true),
        ];
        assert_eq!(audit(&[a.clone(), deep.clone(), idle, other]), Ok(()));
        assert!(audit(&[a, deep, far]).is_err());
    }
}
