//! What holds for an action of a collective follows from the actions of what is in it.

use crate::{
    actions::find,
    model::{Ax, Kind, Nx, Sx, Task, World},
};

/// What holds for an action as others see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Flags {
    pub optional: bool,
    pub runnable: bool,
    pub migrates: bool,
}

/// What holds for an action now; with a node, on that node. The action itself is brought up to date.
pub(super) fn of(world: &mut World<'_>, at: Ax, node: Option<Nx>) -> Flags {
    let Some(service) = world.actions[at].service else {
        return own(world, at);
    };
    match world.services[service].kind {
        Kind::Primitive => own(world, at),
        Kind::Group => of_group(world, service, at, node),
        Kind::Clone => {
            let instances = world.services[service].children.clone();
            of_instances(world, &instances, at, node)
        }
        Kind::Bundle => of_bundle(world, service, at, node),
    }
}

/// The same for orderings: whether an action of a clone can be done is a question for all nodes.
pub(super) fn for_ordering(world: &mut World<'_>, at: Ax, node: Option<Nx>) -> Flags {
    let flags = of(world, at, None);
    let is_clone = world.actions[at].service.is_some_and(|s| world.is_clone(s));
    if node.is_none() || !is_clone {
        return flags;
    }
    let on_node = of(world, at, node);
    Flags {
        runnable: flags.runnable || on_node.runnable,
        ..on_node
    }
}

/// Brings an action of a collective up to date.
pub(crate) fn refresh(world: &mut World<'_>, at: Ax) {
    of(world, at, None);
}

fn own(world: &World<'_>, at: Ax) -> Flags {
    let action = &world.actions[at];
    Flags {
        optional: action.optional,
        runnable: action.runnable,
        migrates: action.migrates,
    }
}

/// What a part does for a task of the whole: a primitive has no event at its end.
pub(super) fn of_part(world: &World<'_>, part: Sx, task: Task) -> Task {
    if world.services[part].kind == Kind::Primitive {
        task.begun()
    } else {
        task
    }
}

const ALL: Flags = Flags {
    optional: true,
    runnable: true,
    migrates: false,
};

fn of_group(world: &mut World<'_>, group: Sx, at: Ax, node: Option<Nx>) -> Flags {
    let mut flags = ALL;
    let task = world.actions[at].task;
    for member in world.services[group].children.clone() {
        let its = of_part(world, member, task);
        match find(world, member, its, node) {
            Some(action) => {
                let one = of(world, action, node);
                if !one.optional {
                    flags.optional = false;
                    world.actions[at].optional = false;
                }
                if its != task && !one.runnable {
                    flags.runnable = false;
                    world.actions[at].runnable = false;
                }
            }
            None if matches!(its, Task::Stop | Task::Demote) => {}
            None => flags.runnable = false,
        }
    }
    flags
}

/// What the instances' actions come to. A notification is about what the instances do.
fn of_instances(world: &mut World<'_>, instances: &[Sx], at: Ax, node: Option<Nx>) -> Flags {
    let mut flags = ALL;
    let mut any = false;
    let about = world.actions[at].task.about();
    for &instance in instances {
        let task = of_part(world, instance, about);
        let there = if world.services[instance].children.is_empty() {
            node
        } else {
            None
        };
        if let Some(action) = find(world, instance, task, there) {
            let one = of(world, action, node);
            if !one.optional {
                flags.optional = false;
                world.actions[at].optional = false;
            }
            any |= one.runnable;
        }
    }
    if !any {
        flags.runnable = false;
        if node.is_none() {
            world.actions[at].runnable = false;
        }
    }
    flags
}

fn of_bundle(world: &mut World<'_>, bundle: Sx, at: Ax, node: Option<Nx>) -> Flags {
    let task = world.actions[at].task;
    let inside = task.is_notification()
        || matches!(
            task,
            Task::Promote | Task::Promoted | Task::Demote | Task::Demoted
        );
    let children = &world.services[bundle].children;
    let child = children.iter().copied().find(|c| world.is_clone(*c));
    let instances = match child {
        Some(child) if inside => world.services[child].children.clone(),
        _ => world.instances(bundle),
    };
    of_instances(world, &instances, at, node)
}
