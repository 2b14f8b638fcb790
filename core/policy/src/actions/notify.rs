//! Telling the instances of a clone before and after something is done to some of them.

use super::create::{find, make};
use crate::{
    constraints::order_actions_of,
    model::{About, Ax, Kind, Nx, Sx, Task, World, flow},
};
use mainstay_cib::value::Role;

/// The events around one thing that is done to a clone: telling begins and has ended, before it and
/// after it.
#[derive(Clone, Debug)]
pub(crate) struct Boundaries {
    pub about: About,
    pub pre: Ax,
    pub pre_done: Ax,
    pub post: Ax,
    pub post_done: Ax,
}

/// The events of a clone for all that can be done to it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Notices {
    pub start: Option<Boundaries>,
    pub stop: Option<Boundaries>,
    pub promote: Option<Boundaries>,
    pub demote: Option<Boundaries>,
}

/// An event of telling, as needful as what it is about.
fn event(world: &mut World<'_>, service: Sx, task: Task, about: Ax) -> Ax {
    let optional = world.actions[about].optional;
    let at = make(world, service, task, 0, None, optional);
    world.actions[at].pseudo = true;
    at
}

/// Makes the events around what is done to a clone; nothing if its instances need not be told.
pub(super) fn boundaries(
    world: &mut World<'_>,
    service: Sx,
    about: About,
    (begin, end): (Ax, Ax),
) -> Option<Boundaries> {
    if !world.services[service].notify {
        return None;
    }
    let pre = event(world, service, Task::Notify(false, about), begin);
    let pre_done = event(world, service, Task::Notified(false, about), begin);
    world.actions[pre].runnable = true;
    world.actions[pre_done].runnable = true;
    order_actions_of(world, pre, pre_done, flow::OPTIONAL);
    order_actions_of(world, pre_done, begin, flow::OPTIONAL);
    let post = event(world, service, Task::Notify(true, about), end);
    let post_done = event(world, service, Task::Notified(true, about), end);
    after(world, (end, post, post_done));
    order_actions_of(world, pre_done, post, flow::OPTIONAL);
    Some(Boundaries {
        about,
        pre,
        pre_done,
        post,
        post_done,
    })
}

fn after(world: &mut World<'_>, (end, post, post_done): (Ax, Ax, Ax)) {
    let runnable = world.actions[end].runnable;
    world.actions[post].runnable = runnable;
    world.actions[post_done].runnable = runnable;
    order_actions_of(world, end, post, flow::IMPLIES_THEN);
    order_actions_of(world, post, post_done, flow::IMPLIES_THEN);
}

/// Whether anything of a kind is done to an instance.
fn any(world: &World<'_>, clone: Sx, about: About) -> bool {
    world.leaves(clone).iter().any(|&leaf| {
        world.services[leaf].actions.iter().any(|&at| {
            let action = &world.actions[at];
            let Some(node) = action.node else {
                return false;
            };
            let lost = about == About::Stop && world.nodes[node].unclean;
            action.task == about.task() && !action.optional && (action.runnable || lost)
        })
    })
}

/// Makes the notifications of a clone, now that it is known what is done.
pub(crate) fn create(world: &mut World<'_>, clone: Sx) {
    let notices = world.services[clone].notices.clone();
    for one in [notices.start, notices.stop, notices.promote, notices.demote] {
        let Some(one) = one else { continue };
        let needed = any(world, clone, one.about);
        if needed {
            for at in [one.pre, one.pre_done, one.post, one.post_done] {
                world.actions[at].optional = false;
            }
        }
        if !needed && one.about != About::Stop {
            continue;
        }
        let tell = Tell {
            about: one.about,
            pre: Some((one.pre, one.pre_done)),
            post: (one.post, one.post_done),
        };
        for leaf in world.leaves(clone) {
            tell_instance(world, leaf, &tell);
        }
    }
}

/// Whom to tell what, between which events.
struct Tell {
    about: About,
    pre: Option<(Ax, Ax)>,
    post: (Ax, Ax),
}

fn tell_instance(world: &mut World<'_>, instance: Sx, tell: &Tell) {
    let s = &world.services[instance];
    let (role, next) = (s.role, s.next_role);
    let down = matches!(tell.about, About::Stop | About::Demote);
    if down && role != Some(Role::Stopped) {
        let stop = find(world, instance, Task::Stop, None);
        for node in world.services[instance].running_on.clone() {
            let n = &world.nodes[node];
            let gone = n.unclean || n.needs_reset;
            if gone && stop.is_some_and(|a| world.actions[a].pseudo) {
                continue;
            }
            before(world, instance, node, tell);
            let stays = stop.is_none_or(|a| world.actions[a].optional);
            if tell.about == About::Demote || stays {
                after_done(world, instance, node, tell);
            }
        }
    }
    if !down && next != Some(Role::Stopped) {
        let start = find(world, instance, Task::Start, None);
        let Some(home) = world.services[instance].home else {
            return;
        };
        let stays = start.is_none_or(|a| world.actions[a].optional);
        if tell.about != About::Start || stays {
            before(world, instance, home, tell);
        }
        after_done(world, instance, home, tell);
    }
}

fn before(world: &mut World<'_>, instance: Sx, node: Nx, tell: &Tell) {
    if let Some((pre, done)) = tell.pre {
        one(
            world,
            instance,
            node,
            Task::Notify(false, tell.about),
            (pre, done),
        );
    }
}

fn after_done(world: &mut World<'_>, instance: Sx, node: Nx, tell: &Tell) {
    one(
        world,
        instance,
        node,
        Task::Notify(true, tell.about),
        tell.post,
    );
    // Monitors begin when all have been told.
    for at in world.services[instance].actions.clone() {
        let action = &world.actions[at];
        if action.interval > 0 && action.task != Task::Cancel {
            order_actions_of(world, tell.post.1, at, flow::OPTIONAL);
        }
    }
}

fn one(world: &mut World<'_>, instance: Sx, node: Nx, task: Task, (event, done): (Ax, Ax)) {
    if !world.nodes[node].online || !world.actions[event].runnable {
        return;
    }
    let optional = world.actions[event].optional;
    let at = make(world, instance, task, 0, Some(node), optional);
    order_actions_of(world, event, at, flow::OPTIONAL);
    order_actions_of(world, at, done, flow::OPTIONAL);
}

/// Tells of a stop that fencing implies, after the fencing.
pub(crate) fn after_fencing(world: &mut World<'_>, instance: Sx, fencing: Ax) {
    if !world.services[instance].notify {
        return;
    }
    let post_task = world.task("post_notify_stonith");
    let done_task = world.task("confirmed-post_notify_stonith");
    let post = event(world, instance, post_task, fencing);
    let post_done = event(world, instance, done_task, fencing);
    after(world, (fencing, post, post_done));
    let tell = Tell {
        about: About::Stop,
        pre: None,
        post: (post, post_done),
    };
    let clone = world.top(instance);
    for leaf in world.leaves(clone) {
        tell_instance(world, leaf, &tell);
    }
}

/// Makes the notifications of all clones.
pub(crate) fn create_all(world: &mut World<'_>) {
    for service in 0..world.services.len() {
        if world.services[service].kind == Kind::Clone {
            create(world, service);
        }
    }
}
