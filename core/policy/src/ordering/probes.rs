//! What waits until it is known where things run.

use crate::{
    actions::find_all,
    constraints::order_actions_of,
    model::{Ax, End, Kind, Sx, Task, World, flow},
    ordering::apply::of_task,
    placement::compatible,
};

/// Adds what follows for questions from other orderings.
pub(super) fn order(world: &mut World<'_>) {
    for root in world.roots.clone() {
        before_restarts(world, root);
    }
    for at in (0..world.orders.len()).rev() {
        instead_of_stops(world, at);
    }
}

/// All questions about a service, wherever.
fn questions(world: &World<'_>, service: Sx) -> Vec<Ax> {
    let mut list = find_all(world, service, Task::Monitor, None);
    list.reverse();
    list
}

/// What waits for a stop waits for the answer whether there is anything to stop.
fn instead_of_stops(world: &mut World<'_>, at: usize) {
    let order = world.orders[at];
    let first = match order.first {
        End::Task(service, Task::Stop, _) => service,
        // A stop that is known by itself is on a node where nothing need be asked.
        _ => return,
    };
    let (then, task) = match order.then {
        End::Task(service, task, _) => (Some(service), Some(task)),
        End::Action(a) => (world.actions[a].service, Some(world.actions[a].task)),
    };
    if order.flags == 0 || then == Some(first) {
        return;
    }
    // What is inside a container that stops is asked for only when that has started again.
    if then.is_some() && world.services[first].container == then && task == Some(Task::Stop) {
        return;
    }
    let mut flags = flow::OPTIONAL | order.flags & (flow::UNLESS_FIRST_MIGRATES | flow::SAME_NODE);
    if order.flags == flow::ANTI_COLOCATION || order.flags == flow::LOAD {
        flags = order.flags;
    }
    let probes = questions(world, first);
    if probes.is_empty() {
        return;
    }
    let thens = match order.then {
        End::Action(a) => vec![a],
        End::Task(service, task, interval) => of_task(world, service, task, interval),
    };
    for probe in probes {
        for &then in &thens {
            // What the question itself waits for cannot wait for the question.
            if !world.actions[then].after.iter().any(|l| l.action == probe) {
                order_actions_of(world, probe, then, flags);
            }
        }
    }
}

fn before_restarts(world: &mut World<'_>, service: Sx) {
    if world.services[service].kind != Kind::Primitive {
        for child in world.services[service].children.clone() {
            before_restarts(world, child);
        }
        return;
    }
    for probe in questions(world, service) {
        for link in (0..world.actions[probe].after.len()).rev() {
            let link = world.actions[probe].after[link];
            let mut seen = Vec::new();
            before_restart(world, probe, link.action, &mut seen);
            for at in seen {
                world.actions[at].tracking = false;
            }
        }
    }
}

/// What is restarted because another service starts stops only when it is known whether that service
/// must start at all.
fn before_restart(world: &mut World<'_>, probe: Ax, after: Ax, seen: &mut Vec<Ax>) {
    let Some(asked) = world.actions[probe].service else {
        return;
    };
    if world.actions[after].tracking {
        return;
    }
    world.actions[after].tracking = true;
    seen.push(after);
    let service = world.actions[after].service;
    let kind = service.map(|s| world.services[s].kind);
    if let Some(s) = service
        && kind == Some(Kind::Primitive)
        && s != asked
    {
        let down = match world.actions[after].task {
            Task::Start => Some(Task::Stop),
            Task::Promote => Some(Task::Demote),
            _ => None,
        };
        for then in down
            .map(|d| find_all(world, s, d, None))
            .unwrap_or_default()
        {
            if !world.actions[then].pseudo {
                order_actions_of(world, probe, then, flow::OPTIONAL);
            }
        }
    }
    let interleave = service.is_some_and(|s| {
        world.services[s].kind > Kind::Group
            && world.services[s].config.truth("interleave") == Some(true)
    });
    let partner = service
        .filter(|_| interleave)
        .and_then(|s| compatible(world, asked, s, None, false));
    for link in world.actions[after].after.clone().into_iter().rev() {
        if link.flags & flow::IMPLIES_THEN == 0 {
            let inner = world.actions[link.action].service;
            let (Some(s), Some(inner)) = (service, inner) else {
                continue;
            };
            let child = world.services[s].kind >= Kind::Group
                && world.services[asked].parent != Some(s)
                && world.services[inner].kind <= Kind::Group
                && world.services[inner].parent == Some(s);
            if !child || interleave && partner != Some(inner) {
                continue;
            }
        }
        before_restart(world, probe, link.action, seen);
    }
}
