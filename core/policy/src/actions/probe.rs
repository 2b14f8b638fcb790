//! Asking nodes what runs on them, where that is not known.

use super::unfence;
use crate::{
    actions,
    constraints::{by_number, order, order_by},
    model::{Discover, End, Kind, NodeKind, Nx, Replica, Sx, Task, World, flow},
    states::{must_fence, rc},
};
use mainstay_base::PlanMutant;
use mainstay_cib::value::{Role, truth};

/// Asks every node about every service whose state there is not known.
pub(crate) fn all(world: &mut World<'_>) {
    if !world.options.probes || PlanMutant::ProbesForgotten.active() {
        return;
    }
    for node in 0..world.nodes.len() {
        let n = &world.nodes[node];
        if !n.online {
            if super::remote::has_failed(world, node) {
                must_fence(world, node, "the connection is unrecoverable", false);
            }
            continue;
        }
        if n.unclean || !n.discovery {
            continue;
        }
        // Clusters of long ago wrote down whether they had asked.
        if n.attribute("probe_complete")
            .is_some_and(|v| truth(v) != Some(true))
        {
            actions::free(world, Task::ProbeAgain, Some(node), false);
            continue;
        }
        for root in world.roots.clone() {
            probe(world, root, node);
        }
    }
}

/// Asks about one service and all in it; whether anything is asked.
fn probe(world: &mut World<'_>, service: Sx, node: Nx) -> bool {
    match world.services[service].kind {
        Kind::Primitive => primitive(world, service, node),
        Kind::Group => {
            if !may_ask(world, service, node) {
                return false;
            }
            let mut any = false;
            for member in world.services[service].children.clone() {
                any |= probe(world, member, node);
            }
            any
        }
        Kind::Clone => clone(world, service, node),
        Kind::Bundle => bundle(world, service, node),
    }
}

/// Whether a node can run such a service at all.
fn may_ask(world: &World<'_>, service: Sx, node: Nx) -> bool {
    if world.nodes[node].kind != NodeKind::Remote {
        return true;
    }
    let s = &world.services[service];
    let makes_guest = s.fillers.iter().any(|&f| world.services[f].is_remote);
    !(s.config.is_fencing() || s.is_remote || world.is_guest(node) && makes_guest)
}

fn primitive(world: &mut World<'_>, service: Sx, node: Nx) -> bool {
    if !may_ask(world, service, node) {
        return false;
    }
    let s = &world.services[service];
    if s.container.is_some() && !s.is_remote || s.orphan || s.known_on.contains(&node) {
        return false;
    }
    let top = world.top(service);
    let allowed = s.allowed.get(node).map(|a| a.discover);
    if (s.exclusive || world.services[top].exclusive) && allowed != Some(Discover::Exclusive) {
        return false;
    }
    if allowed.unwrap_or(world.nodes[node].discover) == Discover::Never {
        return false;
    }
    if let Some(guest) = world.container_of_guest(node)
        && guest_is_down(world, guest, node, top)
    {
        return false;
    }
    let at = actions::make(world, service, Task::Monitor, 0, Some(node), false);
    world.actions[at].optional = false;
    unfence::order(world, service, node, at, flow::OPTIONAL);
    let s = &world.services[service];
    world.actions[at].target_rc = if !s.running_on.contains(&node) {
        Some(rc::NOT_RUNNING)
    } else if s.role == Some(Role::Promoted) {
        Some(rc::PROMOTED)
    } else {
        None
    };
    // An instance starts only if it is known of all instances where they are.
    let then = if world.is_clone(top) { top } else { service };
    let stuck = !world.actions[at].runnable && world.services[service].running_on.is_empty();
    let needs = if stuck { flow::NEEDS_FIRST } else { 0 };
    let after = |task| End::Task(then, task, 0);
    order(
        world,
        End::Action(at),
        after(Task::Start),
        flow::OPTIONAL | needs,
    );
    order(world, End::Action(at), after(Task::Reload), flow::OPTIONAL);
    true
}

/// Whether nothing can run on a guest now, or soon; then what comes there waits for that.
fn guest_is_down(world: &mut World<'_>, guest: Sx, node: Nx, top: Sx) -> bool {
    let g = &world.services[guest];
    if g.role == Some(Role::Stopped) {
        if g.home.is_some_and(|n| !g.known_on.contains(&n)) {
            order_by(
                world,
                (guest, Task::Monitor),
                (top, Task::Start),
                flow::OPTIONAL,
            );
        }
        return true;
    }
    let n = &world.nodes[node];
    let moves = g.is_active() && g.home.is_some_and(|n| !g.running_on.contains(&n));
    if n.needs_reset || n.unclean || g.failed || g.next_role == Some(Role::Stopped) || moves {
        order_by(
            world,
            (guest, Task::Stop),
            (top, Task::Start),
            flow::OPTIONAL,
        );
        return true;
    }
    false
}

fn clone(world: &mut World<'_>, clone: Sx, node: Nx) -> bool {
    if !may_ask(world, clone, node) {
        return false;
    }
    let s = &world.services[clone];
    if s.exclusive
        && s.allowed
            .get(node)
            .is_some_and(|a| a.discover != Discover::Exclusive)
    {
        return false;
    }
    by_number(world, clone);
    let instances = world.services[clone].children.clone();
    if world.services[clone].unique {
        let mut any = false;
        for instance in instances {
            any |= probe(world, instance, node);
        }
        return any;
    }
    // One instance stands for all: the one that is known there, or will be there, or any.
    let known = |i: &Sx| {
        world
            .leaves(*i)
            .iter()
            .any(|&l| world.services[l].known_on.contains(&node))
    };
    let comes = |i: &Sx| world.location(*i, false) == Some(node);
    let one = instances
        .iter()
        .find(|i| known(i))
        .or_else(|| instances.iter().find(|i| comes(i)))
        .or(instances.first());
    one.is_some_and(|&i| probe(world, i, node))
}

fn bundle(world: &mut World<'_>, bundle: Sx, node: Nx) -> bool {
    let mut any = false;
    let replicas = world.services[bundle].replicas.clone();
    for replica in &replicas {
        if let Some(ip) = replica.ip {
            any |= probe(world, ip, node);
        }
        if let Some(child) = replica.child
            && replica.node == Some(node)
        {
            any |= probe(world, child, node);
        }
        if probe(world, replica.container, node) {
            any = true;
            if world.services[bundle].node_max == 1 {
                after_others(world, replica, &replicas);
            }
        }
        if let Some(remote) = replica.remote
            && probe(world, remote, node)
            && let Some(at) = actions::find(world, remote, Task::Monitor, Some(node))
        {
            // Where the connection must be looked for depends on where the container is.
            any = true;
            let start = End::Task(replica.container, Task::Start, 0);
            order(world, start, End::Action(at), flow::PROBE);
        }
    }
    any
}

/// With one container per node, none starts before it is known that no other is there.
fn after_others(world: &mut World<'_>, replica: &Replica, all: &[Replica]) {
    for other in all {
        if other.container != replica.container {
            let flags = flow::OPTIONAL | flow::SAME_NODE;
            let (first, then) = (replica.container, other.container);
            order_by(world, (first, Task::Monitor), (then, Task::Start), flags);
        }
    }
}
