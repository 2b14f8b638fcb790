//! What an ordering makes of its two actions: what must be done with another one, and what cannot be
//! done without.

use super::{
    Queue, block,
    flags::{self, Flags},
    interleave,
};
use crate::{
    actions::find,
    constraints::order_actions_of,
    model::{Ax, Kind, Nx, Sx, Task, World, flow},
};
use mainstay_cib::value::Role;

/// Which of the two actions of an ordering changed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Changed {
    pub first: bool,
    pub then: bool,
}

impl Changed {
    pub(super) fn add(&mut self, other: Changed) {
        self.first |= other.first;
        self.then |= other.then;
    }
}

/// One aspect of an ordering, as it is handed to what the actions belong to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Aspect {
    pub kind: u32,
    /// What holds for the first action, as far as the aspect asks for it.
    pub flags: Flags,
    /// Whether it is about what must be done.
    pub need: bool,
    /// Whether it is about what can be done.
    pub can: bool,
}

/// Applies all orderings in which an action is the second.
pub(super) fn one(world: &mut World<'_>, then: Ax, queue: &mut Queue) {
    let before = state(world, then);
    if world.actions[then].needs_any {
        let action = &mut world.actions[then];
        action.any_found = 0;
        action.any_needed = action.any_needed.max(1);
        action.runnable = false;
    }
    let mut changed = Changed::default();
    for link in (0..world.actions[then].before.len()).rev() {
        changed.first = false;
        let first = apply(world, then, link, &mut changed, queue);
        if changed.first {
            queue.push_after(world, first);
            queue.push(first);
        }
    }
    if world.actions[then].needs_any {
        changed.then = state(world, then) != before;
    }
    if changed.then {
        if before.1 && !world.actions[then].runnable {
            block::dependents(world, then, queue);
        }
        queue.push(then);
        queue.push_after(world, then);
    }
}

fn state(world: &World<'_>, at: Ax) -> (bool, bool, bool, bool) {
    let a = &world.actions[at];
    (a.optional, a.runnable, a.migrates, a.pseudo)
}

/// Applies one ordering; returns the action that was first in it.
fn apply(
    world: &mut World<'_>,
    then: Ax,
    link: usize,
    changed: &mut Changed,
    queue: &mut Queue,
) -> Ax {
    let other = world.actions[then].before[link];
    let listed = other.action;
    let (first_node, then_node) = (place(world, listed), place(world, then));
    if other.flags & flow::SAME_NODE != 0
        && first_node.is_some()
        && then_node.is_some()
        && first_node != then_node
    {
        world.actions[then].before[link].flags = 0;
        return listed;
    }
    let services = (world.actions[listed].service, world.actions[then].service);
    if services.0.is_some()
        && other.flags & flow::THEN_CANCELS_FIRST != 0
        && !world.actions[then].optional
    {
        world.actions[listed].optional = true;
        if world.actions[listed].task == Task::Reload
            && let Some(s) = services.0
        {
            world.services[s].reload = false;
        }
    }
    let mut first = listed;
    if let (Some(a), Some(b)) = services
        && a != b
        && !world.is_inside(b, a)
    {
        first = stands_for(world, listed, a);
    }
    let first_flags = flags::for_ordering(world, first, then_node);
    let then_flags = flags::for_ordering(world, then, first_node);
    changed.add(aspects(
        world,
        (first, then, link),
        first_flags,
        then_flags,
        queue,
    ));
    let flags = world.actions[then].before[link].flags;
    if first != listed && order_actions_of(world, first, then, flags) {
        // The end of the collective is what counts from now on.
        world.actions[then].before[link].flags = 0;
        changed.then = true;
    }
    first
}

/// Where an action is done; a group's start is done where the group will be.
fn place(world: &World<'_>, at: Ax) -> Option<Nx> {
    let action = &world.actions[at];
    match action.service {
        Some(s) if world.services[s].kind == Kind::Group && action.task == Task::Start => {
            world.location(s, false)
        }
        _ => action.node,
    }
}

/// What must be waited for when an action of a collective is waited for: its end, and that all have
/// been told of it.
fn stands_for(world: &World<'_>, at: Ax, service: Sx) -> Ax {
    let s = &world.services[service];
    let action = &world.actions[at];
    if s.kind == Kind::Primitive || action.task.is_notification() || action.interval > 0 {
        return at;
    }
    let done = action.task.done();
    let outermost = s
        .parent
        .is_none_or(|p| s.kind == Kind::Clone && world.services[p].kind == Kind::Bundle);
    let about = match done {
        Task::Started => Some(crate::model::About::Start),
        Task::Stopped => Some(crate::model::About::Stop),
        Task::Promoted => Some(crate::model::About::Promote),
        Task::Demoted => Some(crate::model::About::Demote),
        _ => None,
    };
    let wanted = match about {
        Some(about) if s.notify && outermost => Task::Notified(true, about),
        Some(_) => done,
        None => return at,
    };
    find(world, service, wanted, None).unwrap_or(at)
}

/// Applies all aspects of one ordering.
fn aspects(
    world: &mut World<'_>,
    (first, then, link): (Ax, Ax, usize),
    first_flags: Flags,
    then_flags: Flags,
    queue: &mut Queue,
) -> Changed {
    let mut changed = Changed::default();
    let mut node = world.actions[then].node;
    let then_service = world.actions[then].service;
    let first_service = world.actions[first].service;
    if world.actions[then].before[link].flags & flow::IMPLIES_THEN_ON_NODE != 0 {
        let flags = &mut world.actions[then].before[link].flags;
        *flags &= !flow::IMPLIES_THEN_ON_NODE;
        *flags |= flow::IMPLIES_THEN;
        node = world.actions[first].node;
    }
    let kinds = world.actions[then].before[link].flags;
    let has = |kind: u32| kinds & kind != 0;
    let aspect = |kind, need, can| Aspect {
        kind,
        flags: first_flags,
        need,
        can,
    };
    if has(flow::IMPLIES_THEN) {
        if let Some(s) = then_service {
            let a = aspect(flow::IMPLIES_THEN, true, false);
            changed.add(update(world, s, (first, then), node, a, queue));
        } else if !first_flags.optional && world.actions[then].optional {
            world.actions[then].optional = false;
            changed.then = true;
        }
    }
    if has(flow::RESTART)
        && let Some(s) = then_service
    {
        let a = aspect(flow::RESTART, true, true);
        changed.add(update(world, s, (first, then), node, a, queue));
    }
    if has(flow::IMPLIES_FIRST) {
        if let Some(s) = first_service {
            let a = aspect(flow::IMPLIES_FIRST, true, false);
            changed.add(update(world, s, (first, then), node, a, queue));
        } else if !first_flags.optional && world.actions[first].runnable {
            world.actions[first].runnable = false;
            changed.first = true;
        }
    }
    if has(flow::PROMOTED_IMPLIES_FIRST)
        && let Some(s) = then_service
    {
        let a = aspect(flow::PROMOTED_IMPLIES_FIRST, true, false);
        changed.add(update(world, s, (first, then), node, a, queue));
    }
    if has(flow::ONE_OR_MORE) {
        if let Some(s) = then_service {
            let a = aspect(flow::ONE_OR_MORE, false, true);
            changed.add(update(world, s, (first, then), node, a, queue));
        } else if first_flags.runnable {
            let action = &mut world.actions[then];
            action.any_found += 1;
            if action.any_found >= action.any_needed && !action.runnable {
                action.runnable = true;
                changed.then = true;
            }
        }
    }
    if has(flow::PROBE)
        && let Some(s) = then_service
    {
        let running = first_service.is_some_and(|f| !world.services[f].running_on.is_empty());
        if !first_flags.runnable && running {
            world.actions[then].before[link].flags = 0;
            return changed;
        }
        let a = aspect(flow::NEEDS_FIRST, false, true);
        changed.add(update(world, s, (first, then), node, a, queue));
    }
    if has(flow::NEEDS_FIRST) {
        if let Some(s) = then_service {
            let a = aspect(flow::NEEDS_FIRST, false, true);
            changed.add(update(world, s, (first, then), node, a, queue));
        } else if !first_flags.runnable && world.actions[then].runnable {
            world.actions[then].runnable = false;
            changed.then = true;
        }
    }
    for (kind, need) in [
        (flow::FIRST_NEEDS_MIGRATION, true),
        (flow::PSEUDO_IF_FIRST, true),
        (flow::OPTIONAL, false),
        (flow::ASYMMETRICAL, false),
    ] {
        if has(kind)
            && let Some(s) = then_service
        {
            let a = aspect(kind, need, !need);
            changed.add(update(world, s, (first, then), node, a, queue));
        }
    }
    if world.actions[first].runnable && has(flow::SHOWS_THEN) && !first_flags.optional {
        world.actions[then].show = true;
    }
    if has(flow::SHOWS_FIRST) && !then_flags.optional {
        world.actions[first].show = true;
    }
    let binding = flow::IMPLIES_THEN | flow::IMPLIES_FIRST | flow::RESTART;
    let stuck = first_service.is_some_and(|f| {
        let s = &world.services[f];
        !s.managed && s.blocked
    });
    let f = &world.actions[first];
    if has(binding) && stuck && !f.runnable && f.task == Task::Stop && world.actions[then].runnable
    {
        world.actions[then].runnable = false;
        changed.then = true;
    }
    changed
}

/// Applies one aspect, in the way of the kind of service that it is about.
pub(super) fn update(
    world: &mut World<'_>,
    owner: Sx,
    (first, then): (Ax, Ax),
    node: Option<Nx>,
    aspect: Aspect,
    queue: &mut Queue,
) -> Changed {
    match world.services[owner].kind {
        Kind::Primitive => plain(world, (first, then), aspect, queue),
        Kind::Group => {
            let mut changed = plain(world, (first, then), aspect, queue);
            let task = world.actions[then].task;
            let Some(group) = world.actions[then].service else {
                return changed;
            };
            for member in world.services[group].children.clone() {
                if let Some(its) = find(world, member, task, node) {
                    changed.add(update(world, member, (first, its), node, aspect, queue));
                }
            }
            changed
        }
        Kind::Clone | Kind::Bundle => interleave::update(world, (first, then), node, aspect, queue),
    }
}

/// Applies one aspect to the two actions themselves.
pub(super) fn plain(
    world: &mut World<'_>,
    (first, then): (Ax, Ax),
    aspect: Aspect,
    queue: &mut Queue,
) -> Changed {
    let (was_first, was_then) = (state(world, first), state(world, then));
    match aspect.kind {
        flow::ASYMMETRICAL => asymmetrical(world, first, then),
        flow::IMPLIES_FIRST if !world.actions[then].optional => {
            if aspect.need && !aspect.flags.optional && world.actions[first].optional {
                require(world, first, then);
            }
            if aspect.flags.migrates && !world.actions[then].migrates {
                world.actions[first].migrates = false;
            }
        }
        flow::PROMOTED_IMPLIES_FIRST => {
            let promoted = world.actions[then]
                .service
                .is_some_and(|s| world.services[s].role == Some(Role::Promoted));
            if promoted && !world.actions[then].optional {
                require(world, first, then);
                if world.actions[first].migrates && !world.actions[then].migrates {
                    world.actions[first].migrates = false;
                }
            }
        }
        flow::FIRST_NEEDS_MIGRATION => {
            let t = &world.actions[then];
            let (possible, needed) = (t.migrates && t.runnable, !t.optional);
            if !possible {
                prevent(world, first, then);
            }
            if needed {
                require(world, first, then);
            }
        }
        flow::PSEUDO_IF_FIRST if !world.actions[first].runnable => {
            world.actions[then].migrates = false;
            world.actions[then].pseudo = false;
        }
        flow::NEEDS_FIRST if world.actions[then].runnable && !aspect.flags.runnable => {
            prevent(world, then, first);
            world.actions[then].migrates = false;
        }
        flow::IMPLIES_THEN
            if world.actions[then].optional
                && !aspect.flags.optional
                && !world.actions[first].migrates =>
        {
            require(world, then, first);
        }
        flow::RESTART => restart(world, first, then, aspect),
        _ => {}
    }
    let mut changed = Changed::default();
    if state(world, then) != was_then {
        changed.then = true;
        let inside = world.actions[then]
            .service
            .is_some_and(|s| world.services[s].parent.is_some());
        if inside {
            queue.push(then);
        }
        queue.push_after(world, then);
    }
    if state(world, first) != was_first {
        changed.first = true;
    }
    changed
}

/// An action must be done because of another one.
fn require(world: &mut World<'_>, at: Ax, because: Ax) {
    if world.actions[at].optional {
        world.actions[at].optional = false;
        explain(world, at, because);
    }
}

/// An action cannot be done because of another one.
fn prevent(world: &mut World<'_>, at: Ax, because: Ax) {
    if world.actions[at].runnable {
        world.actions[at].runnable = false;
        explain(world, at, because);
    }
}

fn explain(world: &mut World<'_>, at: Ax, because: Ax) {
    if world.actions[at].reason.is_none() {
        world.actions[at].cause = Some(because);
    }
}

/// Without the first there is no second, unless that has happened already.
fn asymmetrical(world: &mut World<'_>, first: Ax, then: Ax) {
    let Some(service) = world.actions[then].service else {
        return;
    };
    if world.actions[first].runnable {
        return;
    }
    let t = &world.actions[then];
    if t.optional {
        let role = world.role(service, true);
        let s = &world.services[service];
        let here = s.running_on.len() == 1 && t.node == s.running_on.first().copied();
        if t.task == Task::Stop && role == Some(Role::Stopped)
            || t.task == Task::Start && role >= Some(Role::Started) && here
        {
            return;
        }
    }
    require(world, then, first);
    prevent(world, then, first);
}

/// The two halves of a restart go together.
fn restart(world: &mut World<'_>, first: Ax, then: Ax, aspect: Aspect) {
    let (f, t) = (&world.actions[first], &world.actions[then]);
    let needed = aspect.need && !t.optional;
    let same = f.service == t.service;
    let managed = t.service.is_some_and(|s| world.services[s].managed);
    let stops = aspect.can && !t.runnable && managed && same;
    if !needed && !stops {
        return;
    }
    if f.runnable || !t.optional {
        require(world, first, then);
    }
    if !world.actions[then].migrates {
        world.actions[first].migrates = false;
    }
    if !world.actions[first].optional && !world.actions[first].runnable {
        prevent(world, then, first);
    }
}
