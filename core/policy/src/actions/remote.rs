//! What is done on remote nodes and guests depends on the connection to them.

use crate::{
    constraints::order,
    model::{Ax, End, NodeKind, Nx, Sx, Task, World, flow},
    states::must_fence,
};
use mainstay_cib::value::Role;

/// The state of the connection to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Connection {
    Alive,
    /// It will come up elsewhere.
    Resting,
    /// It broke, and nobody knows the state of the node.
    Failed,
    Stopped,
    Unknown,
}

fn connection(world: &World<'_>, node: Nx) -> Option<Connection> {
    let c = world.nodes[node].connection?;
    let current = world.active_node(c);
    let s = &world.services[c];
    let n = &world.nodes[node];
    if s.next_role == Some(Role::Stopped) || s.home.is_none() {
        if current.is_some_and(|c| world.nodes[c].unclean) {
            return Some(Connection::Failed);
        }
        if !s.failed {
            return Some(Connection::Stopped);
        }
        let asked = n.attribute("shutdown").is_some_and(|v| v != "0");
        let waits = s.next_role == Some(Role::Stopped) && s.reconnect > 0 && n.was_fenced && !asked;
        return Some(if waits {
            Connection::Unknown
        } else {
            Connection::Failed
        });
    }
    let Some(current) = current else {
        return Some(Connection::Unknown);
    };
    let host = &world.nodes[current];
    let moving = s.running_on.len() > 1 && s.migration.is_some();
    Some(if host.unclean || !host.online || moving {
        Connection::Resting
    } else {
        Connection::Alive
    })
}

/// Whether the connection to a remote node broke for good.
pub(crate) fn has_failed(world: &World<'_>, node: Nx) -> bool {
    world.is_remote(node) && connection(world, node) == Some(Connection::Failed)
}

/// Orders what is done on such nodes relative to their connections.
pub(crate) fn order_all(world: &mut World<'_>) {
    if !world.has_remote_nodes {
        return;
    }
    // What is added on the way is an event, or on no such node.
    for at in (0..world.actions.len()).rev() {
        one(world, at);
    }
}

fn one(world: &mut World<'_>, at: Ax) {
    let action = &world.actions[at];
    let Some(service) = action.service else {
        return;
    };
    let (task, pseudo) = (action.task, action.pseudo);
    if world.services[service].is_remote && task == Task::ClearFailCount {
        let start = End::Task(service, Task::Start, 0);
        order(world, End::Action(at), start, flow::OPTIONAL);
        return;
    }
    let Some(node) = action.node else { return };
    if world.nodes[node].kind != NodeKind::Remote || pseudo {
        return;
    }
    let Some(remote) = world.nodes[node].connection else {
        return;
    };
    if task == Task::Start {
        // If the connection does not come up, the service stays where it was.
        for other in world.services[service].actions.clone() {
            let o = &world.actions[other];
            if o.task == Task::Stop && o.node.is_some() && o.node != Some(node) {
                let start = End::Task(remote, Task::Start, 0);
                order(world, start, End::Action(other), flow::OPTIONAL);
            }
        }
    }
    match world.services[remote].container {
        Some(container) => in_guest(world, at, node, remote, container),
        None => on_remote(world, at, node, remote),
    }
}

fn after_start(world: &mut World<'_>, of: Sx, at: Ax, flags: u32) {
    let flags = flow::PRESERVE | flow::NEEDS_FIRST | flags;
    order(world, End::Task(of, Task::Start, 0), End::Action(at), flags);
}

fn before_stop(world: &mut World<'_>, of: Sx, at: Ax, flags: u32) {
    let stop = End::Task(of, Task::Stop, 0);
    order(world, End::Action(at), stop, flow::PRESERVE | flags);
}

/// What a migration does counts like a stop.
fn kind(task: Task) -> Task {
    match task {
        Task::MigrateTo | Task::MigrateFrom => Task::Stop,
        other => other,
    }
}

fn on_remote(world: &mut World<'_>, at: Ax, node: Nx, remote: Sx) {
    let state = connection(world, node).unwrap_or(Connection::Unknown);
    let action = &world.actions[at];
    let recurs = action.interval > 0;
    match kind(action.task) {
        Task::Start | Task::Promote => {
            let more = if state == Connection::Failed {
                flow::IMPLIES_THEN
            } else {
                0
            };
            after_start(world, remote, at, more);
        }
        Task::Stop => {
            if state == Connection::Alive {
                before_stop(world, remote, at, flow::IMPLIES_FIRST);
            } else if state == Connection::Failed {
                let why = "resources are active but connection is unrecoverable";
                must_fence(world, node, why, false);
            } else if world.services[remote].next_role == Some(Role::Stopped) {
                before_stop(world, remote, at, flow::IMPLIES_FIRST);
            } else {
                after_start(world, remote, at, 0);
            }
        }
        Task::Demote => {
            if matches!(state, Connection::Resting | Connection::Unknown) {
                after_start(world, remote, at, 0);
            }
        }
        _ if recurs => after_start(world, remote, at, flow::IMPLIES_THEN),
        task => {
            if task == Task::Monitor && state == Connection::Failed {
                let why = "resources are in unknown state and connection is unrecoverable";
                must_fence(world, node, why, false);
            }
            if world.active_node(remote).is_some() && state == Connection::Stopped {
                before_stop(world, remote, at, flow::NEEDS_FIRST);
            } else {
                after_start(world, remote, at, 0);
            }
        }
    }
}

fn in_guest(world: &mut World<'_>, at: Ax, node: Nx, remote: Sx, container: Sx) {
    let failed = world.services[container].failed;
    if failed {
        must_fence(world, node, "container failed", false);
    }
    let action = &world.actions[at];
    let (task, recurs) = (action.task, action.interval > 0);
    match kind(task) {
        Task::Start | Task::Promote => {
            after_start(world, container, at, flow::IMPLIES_THEN);
            after_start(world, remote, at, 0);
        }
        Task::Stop | Task::Demote => {
            if !failed {
                before_stop(world, remote, at, 0);
            }
        }
        Task::Monitor if recurs => after_start(world, remote, at, flow::IMPLIES_THEN),
        _ if recurs => {}
        _ => after_start(world, remote, at, 0),
    }
}

/// The member through which an action on a remote node or guest goes.
pub(crate) fn router(world: &World<'_>, at: Ax) -> Option<Nx> {
    let action = &world.actions[at];
    let node = action.node?;
    if world.nodes[node].kind != NodeKind::Remote || matches!(action.task, Task::Fence(_)) {
        return None;
    }
    let c = world.nodes[node].connection?;
    let s = &world.services[c];
    let (from, to) = match (world.active_node(c), s.home) {
        (None, to) => return to,
        (from, None) => return from,
        (Some(from), Some(to)) => (from, to),
    };
    let partial = s.container.is_none() && s.migration.is_some();
    let before = matches!(
        action.task.about(),
        Task::Cancel | Task::Stop | Task::Demote | Task::MigrateFrom | Task::MigrateTo
    );
    Some(if before && !partial { from } else { to })
}
