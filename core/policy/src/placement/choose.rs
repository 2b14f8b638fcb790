//! Settling on a node for a primitive.

use super::{capacity, sort};
use crate::model::{Nx, Sx, Task, World};
use crate::states::rc;
use mainstay_cib::value::{Role, Score};

/// Chooses the best node for a primitive by its scores; whether there was one.
pub(super) fn best(world: &mut World<'_>, service: Sx, prefer: Option<Nx>) -> bool {
    let roomiest = capacity::ban_full(world, service);
    let prefer = prefer.or(roomiest);
    if !world.services[service].provisional {
        return world.services[service].home.is_some();
    }
    let current = world.active_node(service);
    let list = sort::nodes(world, &world.services[service].allowed, current);
    let Some(&(first, top)) = list.first() else {
        return assign_scored(world, service, None);
    };
    let scores = &world.services[service].allowed;
    let preferred = prefer.filter(|&n| {
        let score = scores.score(n);
        scores.get(n).is_some() && score >= top && score >= Score::ZERO && world.is_available(n)
    });
    let mut chosen = preferred.unwrap_or(first);
    // What is somewhere stays there if no other place is better. Instances that are told apart were
    // given their places before.
    if preferred.is_none()
        && !world.in_unique_clone(service)
        && top > Score::ZERO
        && world.is_available(first)
        && let Some(running) = current
        && world.nodes[running].score >= Score::ZERO
        && world.is_available(running)
        && list[1..]
            .iter()
            .take_while(|(_, s)| *s == top)
            .any(|(n, _)| *n == running)
    {
        chosen = running;
    }
    assign_scored(world, service, Some(chosen))
}

/// Gives a primitive a place if the place can take it.
fn assign_scored(world: &mut World<'_>, service: Sx, node: Option<Nx>) -> bool {
    let fits = node.filter(|&n| {
        let score = world.services[service].allowed.score(n);
        score >= Score::ZERO && (world.is_available(n) || world.is_guest(n))
    });
    if node.is_some() && fits.is_none() {
        world.set_next_role(service, Some(Role::Stopped), "node availability");
    }
    settle(world, service, fits)
}

/// Gives a service and all in it a place, or none, whatever the scores; whether anything changed.
pub(crate) fn assign(world: &mut World<'_>, service: Sx, node: Option<Nx>) -> bool {
    let children = world.services[service].children.clone();
    if children.is_empty() {
        let had = world.services[service].home.is_some();
        settle(world, service, node);
        return had;
    }
    let mut changed = false;
    for child in children {
        changed |= assign(world, child, node);
    }
    changed
}

fn settle(world: &mut World<'_>, service: Sx, node: Option<Nx>) -> bool {
    unassign(world, service);
    world.services[service].provisional = false;
    let Some(node) = node else {
        world.set_next_role(service, Some(Role::Stopped), "unable to allocate");
        for at in world.services[service].actions.clone() {
            let action = &mut world.actions[at];
            match action.task {
                Task::Stop => action.optional = false,
                Task::Start => action.runnable = false,
                // What recurs ends, unless it watches that nothing runs.
                _ if action.interval > 0 && action.target_rc != Some(rc::NOT_RUNNING) => {
                    action.runnable = false;
                }
                _ => {}
            }
        }
        return false;
    };
    let s = &mut world.services[service];
    s.home = Some(node);
    s.home_score = if s.managed {
        s.allowed.score(node)
    } else {
        world.nodes[node].score
    };
    world.nodes[node].placed += 1;
    if let Some(allowed) = world.services[service].allowed.get_mut(node) {
        allowed.count += 1;
    }
    capacity::take(world, node, service, false);
    true
}

/// Takes a service's place away.
pub(super) fn unassign(world: &mut World<'_>, service: Sx) {
    for child in world.services[service].children.clone() {
        unassign(world, child);
    }
    if let Some(node) = world.services[service].home.take() {
        world.services[service].provisional = true;
        world.nodes[node].placed -= 1;
        capacity::take(world, node, service, true);
    }
}
