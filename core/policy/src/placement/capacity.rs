//! Room on nodes, and what services take of it.

use super::colocate::{Affects, affects};
use crate::{
    model::{Kind, Nx, Strategy, Sx, World},
    report::Why,
};
use mainstay_cib::{text::Str, value::Score};
use std::{cmp::Ordering, collections::BTreeMap};

type Amounts = BTreeMap<Str, i64>;

/// Whether what a service takes counts at all.
pub(crate) fn has_utilization(world: &World<'_>, service: Sx) -> bool {
    world.options.strategy != Strategy::Default
        && !world.services[service].config.utilization.is_empty()
}

/// Which of two nodes has more room: the one that has more of more kinds.
pub(super) fn compare(world: &World<'_>, a: Nx, b: Nx) -> Ordering {
    let (x, y) = (&world.nodes[a].utilization, &world.nodes[b].utilization);
    let kinds = x.keys().chain(y.keys().filter(|k| !x.contains_key(*k)));
    let of = |amounts: &Amounts, kind: &Str| amounts.get(kind).copied().unwrap_or(0);
    let mut more = 0;
    for kind in kinds {
        more += match of(x, kind).cmp(&of(y, kind)) {
            Ordering::Greater => -1,
            Ordering::Less => 1,
            Ordering::Equal => 0,
        };
    }
    more.cmp(&0)
}

fn has_room(world: &World<'_>, node: Nx, needed: &Amounts) -> bool {
    let free = &world.nodes[node].utilization;
    needed
        .iter()
        .all(|(kind, amount)| free.get(kind).copied().unwrap_or(0) >= *amount)
}

/// Takes (or gives back) what a service needs.
pub(super) fn take(world: &mut World<'_>, node: Nx, service: Sx, back: bool) {
    let config = world.services[service].config.clone();
    for (kind, amount) in &config.utilization {
        if let Some(free) = world.nodes[node].utilization.get_mut(kind) {
            *free += if back { *amount } else { -amount };
        }
    }
}

/// Bans a service from nodes without room for it and all that must be with it; if there is no such
/// node, from those without room for it alone. Returns the node with the most room then.
pub(super) fn ban_full(world: &mut World<'_>, service: Sx) -> Option<Nx> {
    if world.options.strategy == Strategy::Default {
        return None;
    }
    let mut together = Vec::new();
    colocated(world, service, service, &mut together);
    let mut needed = Amounts::new();
    for &one in &together {
        if world.services[one].provisional {
            add_needs(world, one, &together, &mut needed);
        }
    }
    let usable: Vec<Nx> = world.services[service]
        .allowed
        .iter()
        .filter(|(n, a)| a.score >= Score::ZERO && world.is_available(*n))
        .map(|(n, _)| n)
        .collect();
    let mut roomiest: Option<Nx> = None;
    for &n in &usable {
        if roomiest.is_none_or(|r| compare(world, n, r) == Ordering::Less) {
            roomiest = Some(n);
        }
    }
    let any = usable.iter().any(|&n| has_room(world, n, &needed));
    let alone = world.services[service].config.clone();
    let needed = if any { &needed } else { &alone.utilization };
    for n in usable {
        if !has_room(world, n, needed) {
            let why = Why::Fixed("there is not enough room");
            world.add_score(service, Some(n), Score::NEVER, &why);
        }
    }
    if any { None } else { roomiest }
}

/// What must be on one node with a service, the service included.
fn colocated(world: &World<'_>, service: Sx, origin: Sx, found: &mut Vec<Sx>) {
    if found.contains(&service) {
        return;
    }
    let s = &world.services[service];
    if s.kind == Kind::Group && (s.colocated || s.parent.is_some()) {
        for &member in &s.children {
            colocated(world, member, origin, found);
        }
    }
    if found.contains(&service) {
        return;
    }
    found.push(service);
    for &at in &s.this_with {
        let c = &world.colocations[at];
        let counts = c.score.is_infinite()
            && affects(world, service, c.primary, at, true) == Affects::Location;
        if c.primary != origin && counts {
            colocated(world, c.primary, origin, found);
        }
    }
    for &at in &s.with_this {
        let c = &world.colocations[at];
        // Which instance another service will be with, nobody knows yet.
        if c.dependent == origin || world.is_clone(service) && !world.is_clone(c.dependent) {
            continue;
        }
        let counts = c.score.is_infinite()
            && affects(world, c.dependent, service, at, true) == Affects::Location;
        if counts {
            colocated(world, c.dependent, origin, found);
        }
    }
}

/// Adds what a service will take, as far as that is not among what all the others take.
fn add_needs(world: &World<'_>, service: Sx, all: &[Sx], needed: &mut Amounts) {
    let s = &world.services[service];
    if !s.provisional {
        return;
    }
    match s.kind {
        Kind::Primitive => {
            for (kind, amount) in &s.config.utilization {
                *needed.entry(kind.clone()).or_default() += amount;
            }
        }
        Kind::Group => {
            let count = if s.colocated || s.parent.is_some() {
                s.children.len()
            } else {
                1
            };
            for &member in s.children.iter().take(count) {
                if !all.contains(&member) {
                    add_needs(world, member, all, needed);
                }
            }
        }
        Kind::Clone => {
            let mut any = false;
            for &instance in &s.children {
                if all.contains(&instance) {
                    any = true;
                } else if world.services[instance]
                    .children
                    .iter()
                    .any(|m| all.contains(m))
                {
                    add_needs(world, instance, all, needed);
                    any = true;
                }
            }
            if !any && let Some(&first) = s.children.first() {
                add_needs(world, first, all, needed);
            }
        }
        Kind::Bundle => {
            if let Some(replica) = s.replicas.first()
                && !all.contains(&replica.container)
            {
                add_needs(world, replica.container, all, needed);
            }
        }
    }
}
