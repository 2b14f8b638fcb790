//! The stage that fences nodes and shuts them down, and orders what depends on that.

use mainstay_base::PlanMutant;

use crate::{
    actions::{self, notify},
    constraints::{order, order_actions_of},
    model::{Ax, End, FenceOp, Kind, Needed, NodeKind, Nx, Sx, Task, World, flow},
};

/// Fences nodes that must be, and shuts down those that ask for it.
pub(crate) fn schedule(world: &mut World<'_>) {
    let any_managed = world.roots.iter().any(|r| world.services[*r].managed);
    let mut dc = None;
    let mut fencing: Vec<Ax> = Vec::new();
    let mut shutdowns: Vec<Ax> = Vec::new();
    for node in 0..world.nodes.len() {
        if world.is_guest(node) {
            if world.nodes[node].needs_reset && any_managed && world.can_fence(node) {
                guest(world, node);
            }
            continue;
        }
        let n = &world.nodes[node];
        let (unclean, is_dc) = (n.unclean, n.is_dc);
        let leaves = n.online && n.shutdown && n.kind != NodeKind::Remote;
        if any_managed && unclean && world.can_fence(node) {
            let why = Some("node is unclean");
            let at = actions::fence_action(world, node, None, true, why);
            order_all(world, at);
            if is_dc {
                dc = Some(at);
            } else {
                if !world.options.concurrent_fencing
                    && let Some(&last) = fencing.last()
                {
                    order_actions_of(world, last, at, flow::OPTIONAL);
                }
                fencing.push(at);
            }
        } else if leaves {
            let at = shutdown(world, node);
            if is_dc {
                dc = Some(at);
            } else {
                shutdowns.push(at);
            }
        }
    }
    if let Some(dc) = dc {
        dc_last(world, dc, &fencing, &shutdowns);
    }
}

/// Who coordinates goes last, so that nobody else must take over for nothing.
fn dc_last(world: &mut World<'_>, dc: Ax, fencing: &[Ax], shutdowns: &[Ax]) {
    if world.actions[dc].task == Task::Shutdown {
        for &at in shutdowns {
            order_actions_of(world, at, dc, flow::OPTIONAL);
        }
    }
    if world.options.concurrent_fencing {
        for &at in fencing {
            order_actions_of(world, at, dc, flow::OPTIONAL);
        }
    } else if let Some(&last) = fencing.last() {
        order_actions_of(world, last, dc, flow::OPTIONAL);
    }
}

fn shutdown(world: &mut World<'_>, node: Nx) -> Ax {
    let at = actions::free(world, Task::Shutdown, Some(node), false);
    for stop in (0..world.actions.len()).rev() {
        let action = &world.actions[stop];
        let Some(service) = action.service else {
            continue;
        };
        let s = &world.services[service];
        let untouched = s.maintenance || world.nodes[node].maintenance || !s.managed && !s.blocked;
        if action.task != Task::Stop || action.node != Some(node) || untouched {
            continue;
        }
        world.actions[stop].optional = false;
        let flags = flow::OPTIONAL | flow::NEEDS_FIRST;
        order(world, End::Action(stop), End::Action(at), flags);
    }
    at
}

/// A guest is "fenced" by what happens to its container; an event tells of it.
fn guest(world: &mut World<'_>, node: Nx) {
    let container = world.container_of_guest(node);
    let stop = container.and_then(|c| actions::find(world, c, Task::Stop, None));
    let starts = container.is_some_and(|c| actions::find(world, c, Task::Start, None).is_some());
    let op = if starts {
        FenceOp::Reboot
    } else {
        FenceOp::Off
    };
    let at = actions::fence_action(world, node, Some(op), true, Some("guest is unclean"));
    world.actions[at].pseudo = true;
    world.actions[at].runnable = true;
    let implied = flow::NEEDS_FIRST | flow::IMPLIES_THEN;
    if let Some(stop) = stop {
        let host = world.actions[stop].node;
        if let Some(host) = host.filter(|_| world.actions[stop].pseudo) {
            let parent = actions::fence_action(world, host, None, true, None);
            order_actions_of(world, parent, at, implied);
        } else {
            order_actions_of(world, stop, at, implied);
        }
    } else if let Some(connection) = world.nodes[node].connection
        && let Some(stop) = actions::find(world, connection, Task::Stop, None)
    {
        order_actions_of(world, stop, at, flow::OPTIONAL);
    }
    order_all(world, at);
}

/// Orders what is done to all services relative to the fencing of a node.
fn order_all(world: &mut World<'_>, fencing: Ax) {
    for root in world.roots.clone() {
        order_one(world, root, fencing);
    }
}

fn order_one(world: &mut World<'_>, service: Sx, fencing: Ax) {
    let children = world.services[service].children.clone();
    if children.is_empty() {
        if world.services[service].managed && world.services[service].kind == Kind::Primitive {
            starts(world, service, fencing);
            stops(world, service, fencing);
        }
        return;
    }
    for child in children {
        order_one(world, child, fencing);
    }
}

/// Whether the state of a service on a node is known, of an instance that is like others too.
fn is_known(world: &World<'_>, service: Sx, node: Nx) -> bool {
    let s = &world.services[service];
    s.known_on.contains(&node)
        || s.parent.is_some_and(|p| {
            world.is_anonymous_clone(p) && world.services[p].known_on.contains(&node)
        })
}

fn starts(world: &mut World<'_>, service: Sx, fencing: Ax) {
    let Some(target) = world.actions[fencing].node else {
        return;
    };
    if PlanMutant::StartBeforeFencing.active() {
        return;
    }
    for at in world.services[service].actions.clone() {
        let action = &world.actions[at];
        match action.needs {
            Needed::Nothing => {}
            Needed::Fencing | Needed::Unfencing => {
                order_actions_of(world, fencing, at, flow::OPTIONAL);
            }
            Needed::Quorum => {
                // Where it is not known what runs, it must be known to be over.
                let allowed = world.services[service].allowed.get(target).is_some();
                if action.task == Task::Start && allowed && !is_known(world, service, target) {
                    let flags = flow::OPTIONAL | flow::NEEDS_FIRST;
                    order_actions_of(world, fencing, at, flags);
                }
            }
        }
    }
}

/// What the fencing of a node stops is stopped then.
fn stops(world: &mut World<'_>, service: Sx, fencing: Ax) {
    let Some(target) = world.actions[fencing].node else {
        return;
    };
    let top = world.top(service);
    let implied = world.services[service].requires >= Needed::Fencing || world.is_guest(target);
    let list = actions::find_all(world, service, Task::Stop, Some(target));
    let parent = if list.is_empty() || !implied {
        None
    } else {
        actions::find(world, top, Task::Stop, None)
    };
    let bundled = world.is_bundled(service);
    for at in list {
        world.actions[at].pseudo = true;
        world.actions[at].runnable = true;
        if implied {
            if !bundled {
                order_actions_of(world, fencing, at, flow::PRESERVE);
            }
            if let Some(parent) = parent {
                order_actions_of(world, fencing, parent, flow::PRESERVE);
            }
        }
        notify::after_fencing(world, service, fencing);
    }
    let failed = world.services[service].failed;
    for at in actions::find_all(world, service, Task::Demote, Some(target)) {
        let n = &world.nodes[target];
        if n.online && !n.unclean && !failed {
            continue;
        }
        world.actions[at].pseudo = true;
        world.actions[at].runnable = true;
        if !bundled && implied {
            order_actions_of(world, fencing, at, flow::PRESERVE | flow::OPTIONAL);
        }
    }
}
