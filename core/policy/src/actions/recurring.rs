//! What is done again and again: monitors of the role that a service is in.

use super::create::{cancel, find_exact};
use crate::{
    actions,
    constraints::{order, order_actions_of},
    model::{Ax, End, Nx, Sx, Task, World, flow},
    states::rc,
};
use mainstay_cib::{text::Str, value::Role};

/// A recurring operation as it is configured.
struct Recurring {
    name: Str,
    task: Task,
    interval: u64,
    role: Option<Role>,
}

/// Makes the recurring operations of a service.
pub(super) fn create(world: &mut World<'_>, service: Sx) {
    let s = &world.services[service];
    if s.blocked || s.maintenance {
        return;
    }
    let (home, managed) = (s.home, s.managed);
    let active = home.filter(|&n| {
        !world.nodes[n].maintenance && (s.next_role != Some(Role::Stopped) || !managed)
    });
    let start = active.map(|n| actions::make(world, service, Task::Start, 0, Some(n), true));
    for op in configured(world, service) {
        if let Some(start) = start {
            while_active(world, service, start, home, &op);
        }
        if op.role == Some(Role::Stopped) {
            while_stopped(world, service, home, &op);
        }
    }
}

/// The enabled recurring operations, without those whose name and interval are given twice: which of
/// them is meant, nobody knows.
fn configured(world: &mut World<'_>, service: Sx) -> Vec<Recurring> {
    let config = world.services[service].config.clone();
    let mut list: Vec<Recurring> = Vec::new();
    for op in &config.ops {
        let once = matches!(
            &*op.name,
            "start"
                | "stop"
                | "promote"
                | "demote"
                | "migrate_to"
                | "migrate_from"
                | "reload-agent"
        );
        let same = |o: &&crate::model::OpDef| o.name == op.name && o.interval == op.interval;
        let unclear = config.ops.iter().filter(same).count() > 1;
        if op.interval == 0 || once || unclear || !op.enabled {
            continue;
        }
        list.push(Recurring {
            name: op.name.clone(),
            task: world.task(&op.name),
            interval: op.interval,
            role: op.role,
        });
    }
    list
}

/// Whether it goes on where it is: then it need not be begun.
fn goes_on(world: &World<'_>, service: Sx, start: Ax, node: Nx, op: &Recurring) -> bool {
    if !world.actions[start].optional {
        return false;
    }
    find_exact(world, service, op.task, op.interval, Some(node))
        .is_some_and(|a| !world.actions[a].begins_anew)
}

fn while_active(world: &mut World<'_>, service: Sx, start: Ax, node: Option<Nx>, op: &Recurring) {
    if op.role == Some(Role::Stopped) {
        return;
    }
    let Some(node) = node else { return };
    let optional = goes_on(world, service, start, node, op);
    let next = world.services[service].next_role;
    let fits = match op.role {
        Some(role) => next == Some(role),
        None => next != Some(Role::Promoted),
    };
    if !fits {
        if optional {
            end_with_role(world, service, node, op);
        }
        return;
    }
    let at = actions::make(world, service, op.task, op.interval, Some(node), optional);
    let n = &world.nodes[node];
    if !world.actions[start].runnable || !n.online || n.unclean {
        world.actions[at].runnable = false;
    }
    if next == Some(Role::Promoted) {
        world.actions[at].target_rc = Some(rc::PROMOTED);
    }
    if !world.services[service].managed {
        return;
    }
    let implied = flow::IMPLIES_THEN | flow::NEEDS_FIRST;
    let after = flow::OPTIONAL | flow::NEEDS_FIRST;
    let mut follow = |first, flags| {
        order(world, End::Task(service, first, 0), End::Action(at), flags);
    };
    follow(Task::Start, implied);
    follow(Task::Reload, implied);
    if next == Some(Role::Promoted) {
        follow(Task::Promote, after);
    } else if world.services[service].role == Some(Role::Promoted) {
        order(
            world,
            End::Task(service, Task::Demote, 0),
            End::Action(at),
            after,
        );
    }
}

/// It is for the role that the service has now and will not have: it ends before the change.
fn end_with_role(world: &mut World<'_>, service: Sx, node: Nx, op: &Recurring) {
    let at = cancel(world, service, &op.name, op.interval, node);
    let s = &world.services[service];
    let then = match (s.role, s.next_role) {
        (Some(Role::Unpromoted | Role::Started), Some(Role::Promoted)) => Task::Promote,
        (Some(Role::Unpromoted | Role::Started), Some(Role::Stopped)) => Task::Stop,
        (Some(Role::Promoted), _) => Task::Demote,
        _ => return,
    };
    order(
        world,
        End::Action(at),
        End::Task(service, then, 0),
        flow::NEEDS_FIRST,
    );
}

/// A monitor that nothing runs, on all nodes where nothing should.
fn while_stopped(world: &mut World<'_>, service: Sx, home: Option<Nx>, op: &Recurring) {
    if !world.services[service].unique {
        return;
    }
    for node in 0..world.nodes.len() {
        let known = find_exact(world, service, op.task, op.interval, Some(node));
        if home == Some(node) {
            if known.is_some() {
                let at = cancel(world, service, &op.name, op.interval, node);
                let starts = matches!(
                    world.services[service].next_role,
                    Some(Role::Started | Role::Unpromoted)
                );
                if starts {
                    let start = End::Task(service, Task::Start, 0);
                    order(world, End::Action(at), start, flow::NEEDS_FIRST);
                }
            }
            continue;
        }
        let optional = known.is_some();
        let at = actions::make(world, service, op.task, op.interval, Some(node), optional);
        world.actions[at].target_rc = Some(rc::NOT_RUNNING);
        if world.services[service].managed {
            for probe in actions::find_all(world, service, Task::Monitor, Some(node)) {
                order_actions_of(world, probe, at, flow::NEEDS_FIRST);
            }
        }
        after_stops(world, service, node, at);
        let n = &world.nodes[node];
        if !n.online || n.unclean {
            world.actions[at].runnable = false;
        }
    }
}

fn after_stops(world: &mut World<'_>, service: Sx, node: Nx, at: Ax) {
    let managed = world.services[service].managed;
    for stop in actions::find_all(world, service, Task::Stop, Some(node)) {
        if !managed && !world.actions[stop].optional {
            world.actions[at].optional = true;
        }
        if !world.actions[stop].runnable {
            world.actions[at].runnable = false;
        }
        if managed {
            let flags = flow::IMPLIES_THEN | flow::NEEDS_FIRST;
            order(world, End::Action(stop), End::Action(at), flags);
        }
    }
}
