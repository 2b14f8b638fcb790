//! The stage that decides where services run: scores for each on each node, then a place for each, in
//! the order of their priorities.

mod bundle;
mod capacity;
mod choose;
mod clone;
mod colocate;
mod group;
mod partner;
mod primitive;
mod promote;
mod rank;
mod sort;

pub(crate) use capacity::has_utilization;
pub(crate) use choose::assign;
pub(crate) use partner::compatible;

use crate::{
    Dialect,
    constraints::Scale,
    model::{Discover, Kind, Nx, Strategy, Sx, Task, World},
    report::{ScoreLine, Why},
    states::has_reached_threshold,
};
use mainstay_base::PlanMutant;
use mainstay_cib::value::Score;

/// Applies what is known of nodes and services before any place is decided on: constraints, failures,
/// where services are now.
pub(crate) fn criteria(world: &mut World<'_>) {
    for at in 0..world.locations.len() {
        let service = world.locations[at].service;
        world.apply_location(service, at, Scale::Full);
    }
    if world.options.shutdown_lock {
        for root in world.roots.clone() {
            lock(world, root);
        }
    }
    for node in 0..world.nodes.len() {
        for root in world.roots.clone() {
            threshold(world, root, node);
        }
        for root in world.roots.clone() {
            discovery(world, root, node);
        }
    }
    for root in world.roots.clone() {
        stickiness(world, root);
    }
}

fn threshold(world: &mut World<'_>, service: Sx, node: Nx) {
    if !world.services[service].children.is_empty() {
        for child in world.services[service].children.clone() {
            threshold(world, child, node);
        }
        return;
    }
    let clears = crate::actions::find(world, service, Task::ClearFailCount, Some(node));
    if clears.is_some_and(|a| !world.actions[a].optional) {
        return;
    }
    if let Some(banned) = has_reached_threshold(world, service, node) {
        let why = Why::Fixed("it failed there too often");
        world.add_score(banned, Some(node), Score::NEVER, &why);
    }
}

/// What is to be looked for on some nodes only runs on these only.
fn discovery(world: &mut World<'_>, service: Sx, node: Nx) {
    let top = world.top(service);
    if !world.services[service].exclusive && !world.services[top].exclusive {
        return;
    }
    for child in world.services[service].children.clone() {
        discovery(world, child, node);
    }
    if let Some(allowed) = world.services[service].allowed.get_mut(node)
        && allowed.discover != Discover::Exclusive
    {
        allowed.score = Score::NEVER;
        let why = Why::Fixed("it is looked for on other nodes only");
        world.notes.contribution(service, node, Score::NEVER, &why);
    }
}

fn stickiness(world: &mut World<'_>, service: Sx) {
    let s = &world.services[service];
    if !s.children.is_empty() {
        for child in s.children.clone() {
            stickiness(world, child);
        }
        return;
    }
    let [node] = s.running_on[..] else {
        return;
    };
    let allowed = world.options.symmetric || s.allowed.get(node).is_some();
    if PlanMutant::StickinessIgnored.active() {
        return;
    }
    if s.managed && s.stickiness > Score::ZERO && allowed {
        let score = s.stickiness;
        let group = s.parent.filter(|p| world.services[*p].kind == Kind::Group);
        // With Heartbeat, every active member makes all of its group stay.
        let stays = match (world.dialect, group) {
            (Dialect::Heartbeat, Some(group)) => group,
            _ => service,
        };
        world.add_score(
            stays,
            Some(node),
            score,
            &Why::Fixed("it is there (stickiness)"),
        );
    }
}

/// What was active on a node that is shut down waits for it, if that is wanted.
fn lock(world: &mut World<'_>, service: Sx) {
    match world.services[service].kind {
        Kind::Primitive => {}
        Kind::Group => {
            for member in world.services[service].children.clone() {
                lock(world, member);
            }
            return;
        }
        _ => return,
    }
    let s = &world.services[service];
    if s.config.is_fencing() || s.is_remote {
        return;
    }
    let locked = match (s.lock, &s.running_on[..]) {
        (Some(_), [_, ..]) => None,
        (Some(node), []) => Some(node),
        (None, &[node]) => {
            let n = &world.nodes[node];
            (n.shutdown && !n.unclean).then_some(node)
        }
        (None, _) => None,
    };
    world.services[service].lock = locked;
    let Some(locked) = locked else { return };
    for node in 0..world.nodes.len() {
        if node != locked {
            let why = Why::Fixed("it waits for the node that was shut down");
            world.add_score(service, Some(node), Score::NEVER, &why);
        }
    }
}

/// Decides on a place for every service. Connections to nodes come first.
pub(crate) fn place(world: &mut World<'_>) {
    if world.options.strategy != Strategy::Default {
        sort::services(world);
    }
    let (remote, others): (Vec<Sx>, Vec<Sx>) = world
        .roots
        .iter()
        .partition(|r| world.services[**r].is_remote);
    for root in remote {
        let target = world.services[root].migration.map(|(_, target)| target);
        place_one(world, root, target);
    }
    for root in others {
        place_one(world, root, None);
    }
}

/// Decides on a place for a service, if that has not been done; returns it.
pub(crate) fn place_one(world: &mut World<'_>, service: Sx, prefer: Option<Nx>) -> Option<Nx> {
    match world.services[service].kind {
        Kind::Primitive => primitive::place(world, service, prefer),
        Kind::Group => group::place(world, service, prefer),
        Kind::Clone => clone::place(world, service, prefer),
        Kind::Bundle => bundle::place(world, service, prefer),
    }
}

/// The last member of a group.
fn group_last(world: &World<'_>, group: Sx) -> Option<Sx> {
    world.services[group].children.last().copied()
}

/// Writes down the scores of a service as they are when its place is decided on.
fn note_scores(world: &mut World<'_>, stage: &'static str, service: Sx) {
    if world.services[service].orphan {
        return;
    }
    let lines: Vec<ScoreLine> = world.services[service]
        .allowed
        .iter()
        .map(|(node, allowed)| ScoreLine {
            stage,
            service,
            node: Some(node),
            score: allowed.score,
        })
        .collect();
    world.notes.scores.extend(lines);
    for child in world.services[service].children.clone() {
        note_scores(world, stage, child);
    }
}
