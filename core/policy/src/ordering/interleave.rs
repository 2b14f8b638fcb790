//! Orderings in which clones come second: between whole clones, or instance by instance.

use super::{
    Queue,
    flags::{self, of_part},
    update::{self, Aspect, Changed, plain},
};
use crate::{
    actions::find,
    constraints::order_actions_of,
    model::{Ax, Kind, Nx, Sx, Task, World, flow},
    placement::{assign, compatible},
};

/// Applies one aspect of an ordering to a clone or bundle.
pub(super) fn update(
    world: &mut World<'_>,
    (first, then): (Ax, Ax),
    node: Option<Nx>,
    aspect: Aspect,
    queue: &mut Queue,
) -> Changed {
    if let Some((a, b)) = pairs(world, first, then) {
        return one_by_one(world, (first, then), (a, b), node, aspect, queue);
    }
    let Some(service) = world.actions[then].service else {
        return Changed::default();
    };
    let mut changed = plain(world, (first, then), aspect, queue);
    let task = world.actions[then].task;
    for instance in world.instances(service) {
        let Some(its) = find(world, instance, task, node) else {
            continue;
        };
        if !flags::of(world, its, node).runnable {
            continue;
        }
        let one = update::update(world, instance, (first, its), node, aspect, queue);
        if one.then {
            queue.push_after(world, its);
        }
        changed.add(one);
    }
    changed
}

/// The two clones, if their instances go in pairs.
fn pairs(world: &World<'_>, first: Ax, then: Ax) -> Option<(Sx, Sx)> {
    let (a, b) = (world.actions[first].service?, world.actions[then].service?);
    let collective = |s: Sx| world.services[s].kind >= Kind::Clone;
    if a == b || !collective(a) || !collective(b) {
        return None;
    }
    // What goes down is asked in the order in which it came up.
    let asked = match world.actions[then].task {
        Task::Stop | Task::Demote => a,
        _ => b,
    };
    let interleave = world.services[asked].config.truth("interleave") == Some(true);
    interleave.then_some((a, b))
}

fn one_by_one(
    world: &mut World<'_>,
    (first, then): (Ax, Ax),
    (a, b): (Sx, Sx),
    node: Option<Nx>,
    aspect: Aspect,
    queue: &mut Queue,
) -> Changed {
    let mut changed = Changed::default();
    let current = matches!(world.actions[first].task, Task::Stopped | Task::Demoted);
    let binding = aspect.kind & (flow::NEEDS_FIRST | flow::IMPLIES_THEN) != 0;
    for instance in world.instances(b) {
        let Some(partner) = compatible(world, instance, a, None, current) else {
            // Where there is no partner and will be none, there can be no instance.
            if !current && binding && assign(world, instance, None) {
                changed.then = true;
            }
            continue;
        };
        let first_task = of_part(world, partner, world.actions[first].task.about());
        let then_task = world.actions[then].task;
        let firsts = find(world, partner, first_task, node);
        let thens = find(world, instance, then_task, node);
        let (Some(its_first), Some(its_then)) = (firsts, thens) else {
            continue;
        };
        if order_actions_of(world, its_first, its_then, aspect.kind) {
            changed.first = true;
            changed.then = true;
            queue.push(its_then);
        }
        let own = Aspect {
            flags: flags::of(world, its_first, node),
            ..aspect
        };
        changed.add(update::update(
            world,
            instance,
            (its_first, its_then),
            node,
            own,
            queue,
        ));
    }
    changed
}
