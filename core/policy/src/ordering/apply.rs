//! From orderings between services to orderings between their actions.

use crate::{
    actions,
    constraints::order_actions_of,
    model::{Ax, End, Order, Sx, Task, World, flow},
};
use mainstay_cib::value::Role;

/// Applies all orderings, in the order in which they were made: an ordering can make the action that
/// a later one needs.
pub(super) fn all(world: &mut World<'_>) {
    for at in 0..world.orders.len() {
        let order = world.orders[at];
        one(world, &order);
    }
}

fn one(world: &mut World<'_>, order: &Order) {
    let firsts = match order.first {
        End::Action(at) => vec![at],
        End::Task(service, task, interval) => {
            let found = of_task(world, service, task, interval);
            if found.is_empty() {
                make_first(world, service, task, interval, order)
            } else {
                found
            }
        }
    };
    for first in firsts {
        after(world, first, order);
    }
}

/// All actions of a service for a task.
pub(super) fn of_task(world: &World<'_>, service: Sx, task: Task, interval: u64) -> Vec<Ax> {
    let fits = |a: &&Ax| {
        let action = &world.actions[**a];
        action.task == task && action.interval == interval
    };
    world.services[service]
        .actions
        .iter()
        .filter(fits)
        .copied()
        .collect()
}

/// A first action that does not exist need not be done, but the second may wait for it in vain. What
/// is over already is not waited for.
fn make_first(
    world: &mut World<'_>,
    service: Sx,
    task: Task,
    interval: u64,
    order: &Order,
) -> Vec<Ax> {
    let then = match order.then {
        End::Task(then, ..) => Some(then),
        End::Action(at) => world.actions[at].service,
    };
    let role = world.role(service, true);
    let over = task == Task::Stop && role == Some(Role::Stopped)
        || task == Task::Demote && role == Some(Role::Unpromoted);
    if then == Some(service) || over {
        return Vec::new();
    }
    vec![actions::make(world, service, task, interval, None, true)]
}

fn after(world: &mut World<'_>, first: Ax, order: &Order) {
    let (thens, service) = match order.then {
        End::Action(at) => (vec![at], world.actions[at].service),
        End::Task(service, task, interval) => {
            (of_task(world, service, task, interval), Some(service))
        }
    };
    let mut flags = order.flags;
    let action = &world.actions[first];
    if action.dangling && action.service == service && service.is_some() {
        // The end of a migration is no reason for a restart.
        flags &= !flow::IMPLIES_THEN;
    }
    for then in thens {
        order_actions_of(world, first, then, flags);
    }
}
