//! Constraints that cannot all hold.

use super::{Checker, is_must, is_must_not};
use crate::{
    constraints::{Colocation, Constraint, Location, Order},
    problem::Level,
    resources::Resource,
    text::Str,
    value::{Action, OrderKind, Role},
};
use std::collections::BTreeMap;

pub(super) fn check(checker: &mut Checker<'_>) {
    let (mut locations, mut colocations, mut orders) = (Vec::new(), Vec::new(), Vec::new());
    for constraint in checker.cib.constraints() {
        match constraint {
            Constraint::Location(c) => locations.push(c),
            Constraint::Colocation(c) => colocations.push(c),
            Constraint::Order(c) => orders.push(c),
            Constraint::Ticket(_) => {}
        }
    }
    must_and_must_not(checker, &locations);
    together_and_apart(checker, &colocations);
    torn_groups(checker, &colocations);
    circles(checker, &orders);
}

fn must_and_must_not(checker: &mut Checker<'_>, locations: &[&Location]) {
    for (index, one) in locations.iter().enumerate() {
        let (Some(rsc), Some(node)) = (&one.rsc, &one.node) else {
            continue;
        };
        let opposite = |other: &&&Location| {
            let same = other.rsc.as_ref() == Some(rsc)
                && other.node.as_ref() == Some(node)
                && other.role.get() == one.role.get();
            let (a, b) = (one.score.get(), other.score.get());
            same && (is_must(a) && is_must_not(b) || is_must_not(a) && is_must(b))
        };
        if let Some(other) = locations[..index].iter().find(opposite) {
            let what = format!(
                "{rsc} must and must not run on {node}: {} at {} says the opposite",
                other.id, other.at
            );
            let mend = "take one of them out; as it is, must not wins";
            let spot = (one.at, "rsc_location", Some(&one.id));
            checker.add(Level::Warning, "contradiction", spot, what, mend);
        }
    }
}

fn pair(c: &Colocation) -> Option<(&Str, &Str)> {
    Some((c.rsc.as_ref()?, c.with_rsc.as_ref()?))
}

fn everyday(c: &Colocation) -> bool {
    let any = |role: Option<Role>| matches!(role, None | Some(Role::Started));
    any(c.rsc_role.get()) && any(c.with_rsc_role.get()) && c.node_attribute.is_none()
}

fn together_and_apart(checker: &mut Checker<'_>, colocations: &[&Colocation]) {
    for (index, one) in colocations.iter().enumerate() {
        let Some((a, b)) = pair(one) else { continue };
        let spot = (one.at, "rsc_colocation", Some(&one.id));
        if a == b {
            let what = format!("{a} is colocated with itself");
            let mend = "name two resources";
            checker.add(Level::Warning, "with-itself", spot, what, mend);
            continue;
        }
        let opposite = |other: &&&Colocation| {
            let same = pair(other) == Some((a, b)) || pair(other) == Some((b, a));
            let (x, y) = (one.score.get(), other.score.get());
            let opposed = is_must(x) && is_must_not(y) || is_must_not(x) && is_must(y);
            same && opposed && everyday(one) && everyday(other)
        };
        if let Some(other) = colocations[..index].iter().find(opposite) {
            let what = format!(
                "{a} and {b} must and must not run together: {} at {} says the opposite",
                other.id, other.at
            );
            let mend = "take one of them out; as it is, one of the two never runs";
            checker.add(Level::Error, "contradiction", spot, what, mend);
        }
    }
}

/// Members of a group are together anyway.
fn torn_groups(checker: &mut Checker<'_>, colocations: &[&Colocation]) {
    for one in colocations {
        let Some((a, b)) = pair(one) else { continue };
        let group = |id: &Str| {
            let parent = checker.index.find_resource(id)?.parent?;
            matches!(parent, Resource::Group(_)).then(|| parent.id().clone())
        };
        let (Some(first), Some(second)) = (group(a), group(b)) else {
            continue;
        };
        if first == second && is_must_not(one.score.get()) && everyday(one) {
            let what = format!("{a} and {b} must not run together, but are in the group {first}");
            let mend = "take the constraint out, or one of them out of the group";
            let spot = (one.at, "rsc_colocation", Some(&one.id));
            checker.add(Level::Error, "contradiction", spot, what, mend);
        }
    }
}

/// Each resource's mandatory starts must have an end.
fn circles(checker: &mut Checker<'_>, orders: &[&Order]) {
    let mut after: BTreeMap<&Str, Vec<(&Str, &Order)>> = BTreeMap::new();
    for order in orders {
        let starts = order.first_action.or(Action::Start) == Action::Start
            && order.then_action.or(order.first_action.or(Action::Start)) == Action::Start;
        if let (Some(first), Some(then)) = (&order.first, &order.then)
            && starts
            && order.strength() == OrderKind::Mandatory
        {
            after.entry(first).or_default().push((then, order));
        }
    }
    // Depth first without recursion: 1 is on the way, 2 is done.
    let mut state: BTreeMap<&Str, u8> = BTreeMap::new();
    let begins: Vec<&Str> = after.keys().copied().collect();
    for begin in begins {
        let mut way: Vec<(&Str, usize)> = vec![(begin, 0)];
        if state.contains_key(begin) {
            continue;
        }
        state.insert(begin, 1);
        while let Some((at, next)) = way.last_mut() {
            let edge = after.get(*at).and_then(|edges| edges.get(*next)).copied();
            *next += 1;
            match edge {
                None => {
                    state.insert(at, 2);
                    way.pop();
                }
                Some((to, order)) => match state.get(to) {
                    None => {
                        state.insert(to, 1);
                        way.push((to, 0));
                    }
                    Some(1) => {
                        let from = way.iter().position(|(id, _)| *id == to).unwrap_or(0);
                        let names: Vec<&str> = way[from..].iter().map(|(id, _)| &***id).collect();
                        let what = format!(
                            "each of these waits for the one before it, in a circle: {} → {to}",
                            names.join(" → ")
                        );
                        let mend = "take one of their orders out, or make it Optional";
                        let spot = (order.at, "rsc_order", Some(&order.id));
                        checker.add(Level::Error, "order-circle", spot, what, mend);
                    }
                    Some(_) => {}
                },
            }
        }
    }
}
