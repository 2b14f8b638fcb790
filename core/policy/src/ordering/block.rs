//! Where something cannot start, what must be with it cannot start either.

use super::Queue;
use crate::{
    actions::find,
    model::{Ax, Sx, Task, World},
};
use mainstay_cib::value::Role;

/// Blocks what must be with the service of an action that cannot be done.
pub(super) fn dependents(world: &mut World<'_>, at: Ax, queue: &mut Queue) {
    let action = &world.actions[at];
    let task = action.task;
    if action.runnable || !matches!(task, Task::Start | Task::Promote) {
        return;
    }
    let Some(service) = action.service else {
        return;
    };
    let service = world.outermost(service);
    // As long as any part of a collective can, what depends on it can.
    for &child in &world.services[service].children {
        let its = find(world, child, task, None);
        if its.is_none_or(|a| world.actions[a].runnable) {
            return;
        }
    }
    for at in world.services[service].with_this.clone() {
        let c = world.colocations[at].clone();
        if !c.score.is_infinite() || task == Task::Promote && c.primary_role != Some(Role::Promoted)
        {
            continue;
        }
        let blocked = match c.dependent_role {
            Some(Role::Promoted) => Task::Promote,
            _ => Task::Start,
        };
        mark(world, c.dependent, blocked, service, queue);
    }
}

fn mark(world: &mut World<'_>, service: Sx, task: Task, primary: Sx, queue: &mut Queue) {
    for at in world.services[service].actions.clone() {
        if world.actions[at].runnable && world.actions[at].task == task {
            let why = format!("colocation with {}", world.services[primary].id);
            world.actions[at].runnable = false;
            world.actions[at].reason = Some(why);
            dependents(world, at, queue);
            queue.push(at);
            queue.push_after(world, at);
        }
    }
    for child in world.services[service].children.clone() {
        mark(world, child, task, primary, queue);
    }
}
