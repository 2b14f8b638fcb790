//! Orderings that cannot be kept.

use crate::model::{Ax, Task, World, flow};

/// Takes back orderings that would hold up each other.
pub(super) fn disable_invalid(world: &mut World<'_>) {
    for at in (0..world.actions.len()).rev() {
        for link in (0..world.actions[at].before.len()).rev() {
            if is_invalid(world, at, link) {
                world.actions[at].before[link].flags = 0;
            }
        }
    }
}

fn is_invalid(world: &mut World<'_>, at: Ax, link: usize) -> bool {
    let input = world.actions[at].before[link];
    let first = &world.actions[input.action];
    let service = world.actions[at].service;
    // What runs in a guest cannot be ordered with what makes the guest, except by the engine.
    if input.flags & flow::PRESERVE == 0
        && first.service.is_some()
        && let (Some(service), Some(node)) = (service, first.node)
        && world.container_of_guest(node) == Some(service)
    {
        return true;
    }
    input.flags == flow::LOAD
        && service.is_some()
        && world.actions[at].task == Task::MigrateTo
        && has_loop(world, at, input.action)
}

/// Whether what comes before `input` leads back to `start`, as far as it will be in the graph.
fn has_loop(world: &mut World<'_>, start: Ax, input: Ax) -> bool {
    if world.actions[input].tracking {
        return false;
    }
    if input == start {
        return true;
    }
    world.actions[input].tracking = true;
    let links = world.actions[input].before.clone();
    let mut found = false;
    for link in links {
        if crate::graph::counts(world, input, &link) && has_loop(world, start, link.action) {
            found = true;
            break;
        }
    }
    world.actions[input].tracking = false;
    found
}
