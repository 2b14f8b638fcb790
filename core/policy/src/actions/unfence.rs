//! Taking nodes back before services run on them.

use super::fence_action;
use crate::{
    constraints::order_actions_of,
    model::{Ax, FenceOp, Needed, Nx, Sx, World},
};

/// Puts the unfencing of a node before an action, if the service needs that.
pub(crate) fn order(world: &mut World<'_>, service: Sx, node: Nx, at: Ax, flags: u32) {
    let s = &world.services[service];
    let needed = if s.config.is_fencing() {
        world.has_unfencing
    } else {
        s.requires == Needed::Unfencing
    };
    if !needed {
        return;
    }
    // That a service is new does not mean that its node must be taken back again.
    let unfence = fence_action(world, node, Some(FenceOp::On), false, None);
    order_actions_of(world, unfence, at, flags);
    let done = world.nodes[node]
        .attribute("#node-unfenced")
        .is_some_and(|v| v != "0");
    if !done {
        let why = format!("required by {}", world.services[service].id);
        trigger_on(world, node, &why);
    }
}

fn trigger_on(world: &mut World<'_>, node: Nx, why: &str) {
    let n = &world.nodes[node];
    if world.has_unfencing && n.online && !n.unclean && !n.shutdown {
        fence_action(world, node, Some(FenceOp::On), true, Some(why));
    }
}

/// A fencing device changed: what it took back must be taken back again.
pub(crate) fn trigger(world: &mut World<'_>, service: Sx, node: Nx, why: &str) {
    if !world.services[service].config.is_fencing() {
        return;
    }
    let n = &world.nodes[node];
    if n.online && !n.unclean && !n.shutdown {
        trigger_on(world, node, why);
        return;
    }
    let nodes: Vec<Nx> = world.services[service]
        .allowed
        .iter()
        .map(|(n, _)| n)
        .collect();
    for node in nodes {
        trigger_on(world, node, why);
    }
}
