//! The second stage: in which state the nodes are, what runs on them, what has failed, and who must
//! be fenced for that.

mod age;
mod failcount;
mod fate;
mod find;
mod history;
mod membership;
mod migration;
mod order;
mod outcome;
mod recurring;
mod running;

pub(crate) use age::clear_fail_count;
pub(crate) use failcount::{Count, counts_by_operation, fail_count, has_reached_threshold};
pub(crate) use history::rc;
pub(crate) use membership::must_fence;
pub(crate) use order::sorted;
pub(crate) use recurring::active_range;

use crate::{
    actions,
    model::{NodeKind, Nx, Sx, Task, World},
};
use mainstay_cib::{status::NodeState, value::Role};

/// Reads the status.
pub(crate) fn read(world: &mut World<'_>) {
    let cib = world.cib;
    let mut seen = Vec::new();
    for state in cib.node_states() {
        if let Some(node) = node_of(world, state) {
            seen.push((node, state));
            membership::state(world, node, state);
        }
    }
    let mut containers = Vec::new();
    // What is on a guest counts once it is known that the guest is there.
    while let Some(&(node, state)) = seen.iter().find(|(n, _)| is_next(world, *n)) {
        unpack(world, node, state, &mut containers);
    }
    // Without fencing, what a lost node may be doing is taken for over.
    if world.options.fencing {
        while let Some(&(node, state)) = seen.iter().find(|(n, _)| !world.nodes[*n].unpacked) {
            unpack(world, node, state, &mut containers);
        }
    }
    stop_containers(world, &containers);
    for node in 0..world.nodes.len() {
        if world.nodes[node].kind != NodeKind::Remote {
            continue;
        }
        if world.nodes[node].shutdown
            && let Some(connection) = world.nodes[node].connection
        {
            world.set_next_role(connection, Some(Role::Stopped), "remote shutdown");
        }
        if !world.nodes[node].unpacked {
            membership::remote(world, node);
        }
    }
}

fn node_of(world: &World<'_>, state: &NodeState) -> Option<Nx> {
    let by_id = world.nodes.iter().position(|n| n.id == state.id);
    by_id.or_else(|| world.node_by_name.get(state.uname.as_ref()?).copied())
}

/// Whether a node's history can be read now: members first, guests and remote nodes once their
/// connection is known to be up; without fencing, nodes that are up before those that are not.
fn is_next(world: &World<'_>, node: Nx) -> bool {
    let n = &world.nodes[node];
    if n.unpacked {
        return false;
    }
    let up = |s: Sx| world.services[s].role == Some(Role::Started);
    let options = &world.options;
    match (n.kind, n.connection) {
        (NodeKind::Remote, None) => false,
        (NodeKind::Remote, Some(c)) => match world.services[c].container {
            Some(container) => up(c) && up(container),
            None => options.shutdown_lock || up(c),
        },
        _ => options.fencing || options.shutdown_lock || n.online,
    }
}

fn unpack(world: &mut World<'_>, node: Nx, state: &NodeState, containers: &mut Vec<Sx>) {
    if world.nodes[node].kind == NodeKind::Remote {
        membership::remote(world, node);
        membership::remote_attributes(world, node, state);
    }
    world.nodes[node].unpacked = true;
    history::unpack(world, node, state, containers);
}

/// Containers whose connection failed are stopped wherever they are.
fn stop_containers(world: &mut World<'_>, containers: &[Sx]) {
    for &container in containers {
        if let Some(node) = world.active_node(container) {
            actions::make(world, container, Task::Stop, 0, Some(node), false);
        }
    }
}
