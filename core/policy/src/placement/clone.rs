//! Placing the instances of a clone.

use super::{
    choose,
    colocate::{add_dependents_of_clone, has_influence},
    note_scores, place_one, promote, rank,
};
use crate::{
    constraints::{add_this_with, add_with_this},
    model::{Nx, Scores, Sx, World},
    report::Why,
};
use mainstay_cib::value::Score;

pub(super) fn place(world: &mut World<'_>, clone: Sx, prefer: Option<Nx>) -> Option<Nx> {
    let s = &world.services[clone];
    if !s.provisional || s.allocating {
        return None;
    }
    if s.promotable {
        promote::add_scores(world, clone);
    }
    world.services[clone].allocating = true;
    for at in world.services[clone].this_with.clone() {
        let primary = world.colocations[at].primary;
        place_one(world, primary, prefer);
    }
    for at in world.services[clone].with_this.clone() {
        if has_influence(world, at, None) {
            add_dependents_of_clone(world, clone, at, false);
        }
    }
    note_scores(world, "clone", clone);
    let mut instances = world.services[clone].children.clone();
    rank::instances(world, clone, &mut instances);
    world.services[clone].children.clone_from(&instances);
    let (max, node_max) = (world.services[clone].max, world.services[clone].node_max);
    distribute(world, clone, &instances, max, node_max);
    if world.services[clone].promotable {
        promote::roles(world, clone);
    }
    world.services[clone].provisional = false;
    world.services[clone].allocating = false;
    None
}

/// Places instances: first each where it is, as long as the load stays even, then the rest.
pub(super) fn distribute(
    world: &mut World<'_>,
    parent: Sx,
    instances: &[Sx],
    max: u32,
    node_max: u32,
) {
    let mut available = 0;
    let nodes = world.nodes.iter().map(crate::model::Node::is_available);
    let nodes: Vec<bool> = nodes.collect();
    for (node, allowed) in world.services[parent].allowed.iter_mut() {
        allowed.count = 0;
        available += u32::from(nodes[node]);
    }
    let all = max < available;
    let even = max.checked_div(available).unwrap_or(0).max(1);
    let mut placed = 0;
    for &instance in instances {
        if placed >= max {
            break;
        }
        let s = &world.services[instance];
        if s.running_on.is_empty() || !s.provisional || s.failed {
            continue;
        }
        let Some(current) = world.active_node(instance) else {
            continue;
        };
        let can_run = world.is_available(current) && world.nodes[current].score >= Score::ZERO;
        let count = world.services[parent].allowed.get(current).map(|a| a.count);
        if !can_run || count.is_some_and(|c| c >= even) {
            continue;
        }
        if place_instance(world, parent, instance, Some(current), all, node_max).is_some() {
            placed += 1;
        }
    }
    for &instance in instances {
        if !world.services[instance].provisional {
            continue;
        }
        if placed >= max {
            let why = Why::Fixed("there are as many instances as there may be");
            world.add_score(instance, None, Score::NEVER, &why);
        } else if place_instance(world, parent, instance, None, all, node_max).is_some() {
            placed += 1;
        }
    }
}

fn place_instance(
    world: &mut World<'_>,
    parent: Sx,
    instance: Sx,
    prefer: Option<Nx>,
    all: bool,
    node_max: u32,
) -> Option<Nx> {
    if !world.services[instance].provisional {
        return world.location(instance, false);
    }
    if world.services[instance].allocating {
        return None;
    }
    hand_down(world, parent, instance, all);
    if let Some(prefer) = prefer
        && world.services[instance].allowed.score(prefer) < Score::ZERO
    {
        return None;
    }
    ban_full(world, parent, instance, node_max);
    let before: Scores = world.services[instance].allowed.clone();
    let chosen = place_one(world, instance, prefer)?;
    if prefer.is_some_and(|p| p != chosen) {
        world.services[instance].allowed = before;
        choose::unassign(world, instance);
        return None;
    }
    if let Some(allowed) = world.services[parent].allowed.get_mut(chosen) {
        allowed.count += 1;
    }
    Some(chosen)
}

/// What the clone follows, its instances follow. Wishes count only if not every node gets an instance
/// anyway.
fn hand_down(world: &mut World<'_>, clone: Sx, instance: Sx, all: bool) {
    for at in world.services[clone].this_with.clone() {
        let score = world.colocations[at].score;
        if all || score < Score::ZERO || score.is_infinite() {
            add_this_with(world, instance, at);
        }
    }
    for at in world.services[clone].with_this.clone() {
        let score = world.colocations[at].score;
        if has_influence(world, at, Some(instance)) && (all || score < Score::ZERO) {
            add_with_this(world, instance, at);
        }
    }
}

/// Bans an instance from nodes that are closed to the clone, or have as many instances as they may.
fn ban_full(world: &mut World<'_>, parent: Sx, instance: Sx, node_max: u32) {
    let nodes: Vec<Nx> = world.services[instance]
        .allowed
        .iter()
        .map(|(n, _)| n)
        .collect();
    for node in nodes {
        let room = world.services[parent]
            .allowed
            .get(node)
            .is_some_and(|a| a.score >= Score::ZERO && a.count < node_max);
        let can_run = world.is_available(node) && !world.services[instance].orphan && room;
        if !can_run {
            ban(world, instance, node);
        }
    }
}

fn ban(world: &mut World<'_>, service: Sx, node: Nx) {
    if let Some(allowed) = world.services[service].allowed.get_mut(node) {
        allowed.score = Score::NEVER;
    }
    for child in world.services[service].children.clone() {
        ban(world, child, node);
    }
}
