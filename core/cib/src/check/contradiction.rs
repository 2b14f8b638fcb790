//! Constraints that cannot all hold.

use super::{Checker, is_must, is_must_not};
use crate::{
    constraints::{Colocation, Constraint, Location, Order, ResourceSet},
    problem::{Level, Problem},
    resources::{Member, Resource},
    text::Str,
    value::{Action, OrderKind, Role},
    xml::Attr,
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

/// What must be started before what, and the order that says so; none for members of a group.
type Edges<'a> = BTreeMap<&'a Str, Vec<(&'a Str, Option<&'a Order>)>>;

/// Each resource's mandatory starts must have an end.
fn circles<'a>(checker: &mut Checker<'a>, orders: &[&'a Order]) {
    let after = starts(checker, orders);
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
                Some((to, _)) => match state.get(to) {
                    None => {
                        state.insert(to, 1);
                        way.push((to, 0));
                    }
                    Some(1) => {
                        let from = way.iter().position(|(id, _)| *id == to).unwrap_or(0);
                        circle(checker, &after, &way[from..], to);
                    }
                    Some(_) => {}
                },
            }
        }
    }
}

fn circle(checker: &mut Checker<'_>, after: &Edges<'_>, way: &[(&Str, usize)], to: &Str) {
    let names: Vec<&str> = way.iter().map(|(id, _)| &***id).collect();
    let taken = way.iter().rev().filter_map(|(id, next)| {
        let edges = after.get(id)?;
        edges.get(next.checked_sub(1)?)?.1
    });
    let Some(order) = taken.into_iter().next() else {
        return; // Only a group that names a member twice, which is said elsewhere.
    };
    // Several circles may be closed by one order.
    let said = |p: &Problem| p.rule == "order-circle" && p.id.as_ref() == Some(&order.id);
    if checker.problems.iter().any(said) {
        return;
    }
    let what = format!(
        "each of these waits for the one before it, in a circle: {} → {to}",
        names.join(" → ")
    );
    let mend = "take one of their orders out, or make it Optional";
    let spot = (order.at, "rsc_order", Some(&order.id));
    checker.add(Level::Error, "order-circle", spot, what, mend);
}

fn starts<'a>(checker: &Checker<'a>, orders: &[&'a Order]) -> Edges<'a> {
    let mut after = Edges::new();
    let mut add = |first: &'a Str, then: &'a Str, order: Option<&'a Order>| {
        after.entry(first).or_default().push((then, order));
    };
    let group = |id: &'a Str| match checker.index.find_resource(id).map(|p| p.resource) {
        Some(Member::Resource(Resource::Group(group))) => &*group.members,
        _ => &[],
    };
    // What a group begins and ends with.
    let first_of = |id| group(id).first().map_or(id, |p| &p.id);
    let last_of = |id| group(id).last().map_or(id, |p| &p.id);
    for resource in checker.cib.resources() {
        for member in
            core::iter::once(resource.id()).chain(resource.members().iter().map(|m| m.id()))
        {
            for pair in group(member).windows(2) {
                add(&pair[0].id, &pair[1].id, None);
            }
        }
    }
    let start = |action: &Attr<Action>| action.or(Action::Start) == Action::Start;
    for order in orders {
        if order.strength() != OrderKind::Mandatory {
            continue;
        }
        let then_action = order.then_action.or(order.first_action.or(Action::Start));
        if let (Some(first), Some(then)) = (&order.first, &order.then)
            && start(&order.first_action)
            && then_action == Action::Start
        {
            add(last_of(first), first_of(then), Some(order));
        }
        let sets = order
            .sets
            .iter()
            .filter_map(|s| checker.index.resource_set(s));
        let mut before: Option<&ResourceSet> = None;
        for set in sets {
            if set.sequential.or(true) && start(&set.action) {
                for pair in set.refs.windows(2) {
                    add(last_of(&pair[0].id), first_of(&pair[1].id), Some(order));
                }
            }
            if let Some(before) = before.filter(|b| b.require_all.or(true))
                && start(&before.action)
                && start(&set.action)
                && before.refs.len() * set.refs.len() <= 4096
            {
                for first in &before.refs {
                    for then in &set.refs {
                        add(last_of(&first.id), first_of(&then.id), Some(order));
                    }
                }
            }
            before = Some(set);
        }
    }
    after
}
