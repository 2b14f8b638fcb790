//! Where resources never run, for certain.

use super::{Checker, is_must, is_must_not};
use crate::{
    constraints::{Constraint, Location},
    resources::Resource,
    rules::Condition,
    text::Str,
    value::{Role, Score},
};
use std::collections::BTreeMap;

/// For each outermost resource and each configured node, the constraint that forbids it.
#[derive(Debug)]
pub(super) struct Forbidden<'a> {
    nodes: Vec<&'a Str>,
    rows: BTreeMap<&'a str, Vec<Option<&'a Location>>>,
}

impl<'a> Forbidden<'a> {
    pub(super) fn new(checker: &Checker<'a>) -> Forbidden<'a> {
        let mut this = Forbidden {
            nodes: checker.cib.nodes().iter().map(|n| n.name()).collect(),
            rows: BTreeMap::new(),
        };
        let mut followers: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        let mut changed: Vec<&str> = Vec::new();
        for constraint in checker.cib.constraints() {
            match constraint {
                Constraint::Location(location) => {
                    let Some((node, score)) = wish(location) else {
                        continue;
                    };
                    let everyday = matches!(location.role.get(), None | Some(Role::Started));
                    let Some(column) = this.column(node) else {
                        continue;
                    };
                    for key in resources(location).filter_map(|id| key(checker, id)) {
                        if everyday && is_must_not(Some(score)) {
                            this.row(key)[column].get_or_insert(location);
                            changed.push(key);
                        }
                    }
                }
                Constraint::Colocation(c) => {
                    let follows = is_must(c.score.get())
                        && matches!(c.rsc_role.get(), None | Some(Role::Started))
                        && c.node_attribute.is_none()
                        && c.lifetime.is_none();
                    if let (Some(rsc), Some(with), true) = (&c.rsc, &c.with_rsc, follows)
                        && let (Some(rsc), Some(with)) = (key(checker, rsc), key(checker, with))
                    {
                        followers.entry(with).or_default().push(rsc);
                    }
                }
                Constraint::Order(_) | Constraint::Ticket(_) => {}
            }
        }
        // Where the leader never runs, neither do those that must be with it.
        while let Some(leader) = changed.pop() {
            let row = this.row(leader).clone();
            for follower in followers.get(leader).into_iter().flatten() {
                let own = this.row(follower);
                let mut more = false;
                for (own, leaders) in own.iter_mut().zip(&row) {
                    if own.is_none() && leaders.is_some() {
                        *own = *leaders;
                        more = true;
                    }
                }
                if more {
                    changed.push(follower);
                }
            }
        }
        this
    }

    fn row(&mut self, key: &'a str) -> &mut Vec<Option<&'a Location>> {
        let nodes = self.nodes.len();
        self.rows.entry(key).or_insert_with(|| vec![None; nodes])
    }

    fn column(&self, node: &str) -> Option<usize> {
        self.nodes.iter().position(|n| n.eq_ignore_ascii_case(node))
    }

    /// What forbids a node to a resource.
    pub(super) fn why(&self, checker: &Checker<'a>, id: &str, node: &str) -> Option<&'a Location> {
        let row = self.rows.get(key(checker, id)?)?;
        *row.get(self.column(node)?)?
    }

    /// Whether every node is forbidden to an outermost resource, one of them by a constraint on itself.
    pub(super) fn everywhere(&self, checker: &Checker<'a>, id: &str) -> bool {
        self.rows.get(id).is_some_and(|row| {
            let own = |l: &&Location| resources(l).any(|r| key(checker, r) == Some(id));
            row.iter().all(Option::is_some) && row.iter().flatten().any(own)
        })
    }
}

/// The resources that a location names.
fn resources(location: &Location) -> impl Iterator<Item = &Str> {
    let listed = location.sets.iter().filter(|s| !s.role.is_set());
    let listed = listed.flat_map(|s| s.refs.iter().map(|r| &r.id));
    location.rsc.iter().chain(listed)
}

/// The outermost resource that something is in: all in it run on the same nodes. What runs inside
/// containers is elsewhere.
fn key<'a>(checker: &Checker<'a>, id: &str) -> Option<&'a str> {
    let place = checker.index.find_resource(id)?;
    let outermost = place.outermost;
    let inside = matches!(outermost, Resource::Bundle(_)) && **outermost.id() != *id;
    (!inside).then(|| &**outermost.id())
}

/// The one node that a location is about, and its score there, whatever the moment.
pub(super) fn wish(location: &Location) -> Option<(&Str, Score)> {
    if location.lifetime.is_some() {
        return None;
    }
    if let Some(node) = &location.node {
        return Some((node, location.score.get()?));
    }
    let [rule] = &*location.rules else {
        return None;
    };
    let [Condition::Attribute(expression)] = &*rule.conditions else {
        return None;
    };
    if rule.role.is_set() {
        return None;
    }
    Some((super::reach::uname(expression)?, rule.score.get()?))
}
