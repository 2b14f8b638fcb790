//! Constraints on the order of actions.

use super::{Group, Named, named, sets};
use crate::{
    actions,
    model::{Ax, End, Kind, Order, Sx, Task, World, flow},
};
use mainstay_base::PlanMutant;
use mainstay_cib::{
    constraints::Order as Written,
    text::Str,
    value::{Action, OrderKind},
};

/// Which of the two orders that follow from a constraint is meant.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Symmetry {
    /// There is only one.
    None,
    /// The one that is written.
    Forward,
    /// The reverse of it.
    Backward,
}

/// Takes in an ordering between what is done to services.
pub(crate) fn order_by(world: &mut World<'_>, first: (Sx, Task), then: (Sx, Task), flags: u32) {
    let first = End::Task(first.0, first.1, 0);
    order(world, first, End::Task(then.0, then.1, 0), flags);
}

/// Takes in an ordering, and those that follow for migrations.
pub(crate) fn order(world: &mut World<'_>, first: End, then: End, flags: u32) {
    world.orders.push(Order { first, then, flags });
    for_migrations(world, first, then);
}

fn end_of(world: &World<'_>, end: End) -> Option<(Sx, Task)> {
    match end {
        End::Task(service, task, _) => Some((service, task)),
        End::Action(at) => {
            let action = &world.actions[at];
            Some((action.service?, action.task))
        }
    }
}

/// Where a service may migrate, the orders of its starts and stops hold for the halves of migrations.
fn for_migrations(world: &mut World<'_>, first: End, then: End) {
    let (Some((a, what)), Some((b, then))) = (end_of(world, first), end_of(world, then)) else {
        return;
    };
    let (first_can, then_can) = (
        world.services[a].allow_migrate,
        world.services[b].allow_migrate,
    );
    if a == b || !(first_can || then_can) || world.is_inside(a, b) || world.is_inside(b, a) {
        return;
    }
    let unless = if first_can {
        flow::UNLESS_FIRST_MIGRATES
    } else {
        0
    };
    let partial = world.services[b].migration.is_some();
    let mut add = |first: Task, then: Task, flags: u32| {
        world.orders.push(Order {
            first: End::Task(a, first, 0),
            then: End::Task(b, then, 0),
            flags: flow::OPTIONAL | flags,
        });
    };
    match (what, then) {
        (Task::Start, Task::Start) => {
            if first_can && then_can {
                add(Task::MigrateFrom, Task::MigrateTo, 0);
            }
            if then_can {
                add(Task::Start, Task::MigrateTo, unless);
            }
        }
        (Task::Stop, Task::Stop) if then_can => {
            add(Task::Stop, Task::MigrateTo, unless);
            if partial {
                add(Task::Stop, Task::MigrateFrom, unless);
            }
        }
        (Task::Promote, Task::Start) if then_can => add(Task::Promote, Task::MigrateTo, 0),
        (Task::Demote, Task::Stop) if then_can => {
            add(Task::Demote, Task::MigrateTo, 0);
            if partial {
                add(Task::Demote, Task::MigrateFrom, 0);
            }
        }
        _ => {}
    }
}

/// Puts one action before another one; whether that was new.
pub(crate) fn order_actions_of(world: &mut World<'_>, first: Ax, then: Ax, flags: u32) -> bool {
    use crate::model::Link;
    if first == then || flags == 0 {
        return false;
    }
    let known = world.actions[first]
        .after
        .iter()
        .any(|l| l.action == then && l.flags & flags != 0);
    if known {
        return false;
    }
    let link = |action| Link { action, flags };
    world.actions[first].after.push(link(then));
    world.actions[then].before.push(link(first));
    true
}

fn task(action: Option<Action>) -> Task {
    match action {
        None | Some(Action::Start) => Task::Start,
        Some(Action::Stop) => Task::Stop,
        Some(Action::Promote) => Task::Promote,
        Some(Action::Demote) => Task::Demote,
    }
}

fn inverse(task: Task) -> Task {
    match task {
        Task::Start => Task::Stop,
        Task::Stop => Task::Start,
        Task::Promote => Task::Demote,
        Task::Demote => Task::Promote,
        other => other,
    }
}

fn flags_for(kind: OrderKind, first: Task, symmetry: Symmetry) -> u32 {
    let more = match (kind, symmetry) {
        (OrderKind::Optional, _) => 0,
        _ if PlanMutant::OrderForgotten.active() => 0,
        (OrderKind::Serialize, _) => flow::SERIALIZE,
        (OrderKind::Mandatory, Symmetry::None) => flow::ASYMMETRICAL,
        (OrderKind::Mandatory, Symmetry::Backward) => flow::IMPLIES_FIRST,
        (OrderKind::Mandatory, Symmetry::Forward) => {
            let begins = matches!(first, Task::Start | Task::Promote);
            flow::IMPLIES_THEN | if begins { flow::NEEDS_FIRST } else { 0 }
        }
    };
    flow::OPTIONAL | more
}

/// Reads one constraint.
pub(super) fn unpack(world: &mut World<'_>, written: &Written) {
    if written.sets.is_empty() {
        simple(world, written);
        return;
    }
    let groups = sets(world, &written.sets);
    of_sets(world, written, &groups);
}

fn of_sets(world: &mut World<'_>, written: &Written, groups: &[Group<'_>]) {
    let kind = written.strength();
    let symmetrical = written.is_symmetrical() && kind != OrderKind::Serialize;
    for (at, group) in groups.iter().enumerate() {
        within(world, written, group, kind);
        if at > 0 {
            let before = &groups[at - 1];
            let forward = if symmetrical {
                Symmetry::Forward
            } else {
                Symmetry::None
            };
            between(world, before, group, kind, forward);
            if symmetrical {
                between(world, group, before, kind, Symmetry::Backward);
            }
        }
    }
}

fn simple(world: &mut World<'_>, written: &Written) {
    let (Some(first), Some(then)) = (&written.first, &written.then) else {
        return;
    };
    let (first, then) = (named(world, first), named(world, then));
    if let (Named::One(first), Named::One(then)) = (&first, &then) {
        between_two(world, written, *first, *then);
        return;
    }
    // What a tag stands for is a set without an order of its own.
    let group = |named: Named| match named {
        Named::One(one) => Some(vec![one]),
        Named::Several(several) => Some(several),
        Named::Nothing => None,
    };
    let (Some(first), Some(then)) = (group(first), group(then)) else {
        return;
    };
    for &a in &first {
        for &b in &then {
            between_two(world, written, a, b);
        }
    }
}

fn between_two(world: &mut World<'_>, written: &Written, first: Sx, then: Sx) {
    let kind = written.strength();
    let first_task = task(written.first_action.get());
    let then_task = task(written.then_action.get().or(written.first_action.get()));
    let symmetrical = written.is_symmetrical() && kind != OrderKind::Serialize;
    let symmetry = if symmetrical {
        Symmetry::Forward
    } else {
        Symmetry::None
    };
    let mut flags = flags_for(kind, first_task, symmetry);
    let restarts = kind == OrderKind::Optional && world.services[then].restart_with_order;
    if restarts {
        flags |= flow::IMPLIES_THEN;
    }
    let needed = instances_needed(world, first, written);
    if needed > 0 {
        let name = format!("clone-one-or-more:{}", written.id);
        let met = any_event(world, &name, needed);
        for child in world.services[first].children.clone() {
            let end = End::Task(child, first_task, 0);
            order(
                world,
                end,
                End::Action(met),
                flow::ONE_OR_MORE | flow::SHOWS_THEN,
            );
        }
        let end = End::Task(then, then_task, 0);
        order(world, End::Action(met), end, flags | flow::NEEDS_FIRST);
    } else {
        order_by(world, (first, first_task), (then, then_task), flags);
    }
    if symmetrical {
        let (first_task, then_task) = (inverse(first_task), inverse(then_task));
        let mut flags = flags_for(kind, first_task, Symmetry::Backward);
        if restarts {
            flags |= flow::IMPLIES_FIRST;
        }
        order_by(world, (then, then_task), (first, first_task), flags);
    }
}

/// How many instances of a clone are enough; 0 if it must be all that can.
fn instances_needed(world: &World<'_>, first: Sx, written: &Written) -> u32 {
    let s = &world.services[first];
    if s.kind != Kind::Clone {
        return 0;
    }
    if s.min > 0 {
        return s.min;
    }
    u32::from(written.require_all.get() == Some(false))
}

/// An event that needs only some of what comes before it.
fn any_event(world: &mut World<'_>, name: &str, needed: u32) -> Ax {
    let task = world.task(name);
    let at = actions::free_event(world, task);
    world.actions[at].needs_any = true;
    world.actions[at].any_needed = needed;
    at
}

/// The members of one set among each other.
fn within(world: &mut World<'_>, written: &Written, group: &Group<'_>, parent: OrderKind) {
    let Some(set) = group.set else { return };
    let kind = set.kind.get().unwrap_or(parent);
    let first_task = task(set.action.get());
    let symmetrical = match written.symmetrical.get() {
        Some(yes) => yes,
        None => kind != OrderKind::Serialize,
    };
    let symmetry = if symmetrical {
        Symmetry::Forward
    } else {
        Symmetry::None
    };
    let flags = flags_for(kind, first_task, symmetry);
    let members = &group.members;
    if members.len() < 2 {
        return;
    }
    let sequential = group.sequential != Some(false);
    for (at, &one) in members.iter().enumerate() {
        if kind == OrderKind::Serialize {
            for &later in &members[at + 1..] {
                order_by(world, (one, first_task), (later, first_task), flags);
            }
        } else if sequential && at > 0 {
            order_by(
                world,
                (members[at - 1], first_task),
                (one, first_task),
                flags,
            );
        }
    }
    if !symmetrical || !sequential {
        return;
    }
    let last_task = inverse(first_task);
    let flags = flags_for(kind, last_task, Symmetry::Backward);
    for pair in members.windows(2) {
        order_by(world, (pair[1], last_task), (pair[0], last_task), flags);
    }
}

/// One set before the next.
fn between(
    world: &mut World<'_>,
    first: &Group<'_>,
    then: &Group<'_>,
    kind: OrderKind,
    symmetry: Symmetry,
) {
    let action = |g: &Group<'_>| task(g.set.and_then(|s| s.action.get()));
    let (mut first_task, mut then_task) = (action(first), action(then));
    if symmetry == Symmetry::Backward {
        (first_task, then_task) = (inverse(first_task), inverse(then_task));
    }
    let flags = flags_for(kind, first_task, symmetry);
    let all = first.set.is_none_or(|s| s.require_all.or(true));
    // One is enough to begin, but all must end.
    if !all && !matches!(first_task, Task::Stop | Task::Demote) {
        let id: Str = first.set.and_then(|s| s.id.clone()).unwrap_or_default();
        let event = any_event(world, &format!("one-or-more:{id}"), 0);
        for &one in &first.members {
            let end = End::Task(one, first_task, 0);
            order(
                world,
                end,
                End::Action(event),
                flow::ONE_OR_MORE | flow::SHOWS_THEN,
            );
        }
        for &one in &then.members {
            let end = End::Task(one, then_task, 0);
            order(world, End::Action(event), end, flags | flow::NEEDS_FIRST);
        }
        return;
    }
    // Where members stand in a chain, the end of it that is next stands for all.
    let backward = symmetry == Symmetry::Backward;
    let firsts = end_members(first, !backward);
    let thens = end_members(then, backward);
    for &one in firsts {
        for &other in thens {
            order_by(world, (one, first_task), (other, then_task), flags);
        }
    }
}

fn end_members<'g>(group: &'g Group<'_>, last: bool) -> &'g [Sx] {
    let members = &group.members;
    match (group.sequential, last) {
        (Some(true), true) => &members[members.len().saturating_sub(1)..],
        (Some(true), false) => &members[..members.len().min(1)],
        _ => members,
    }
}
