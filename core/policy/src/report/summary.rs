//! What changes, as users see it: one line per service that does not stay as it is.

use crate::{
    actions::{find, find_all},
    model::{Ax, Kind, Nx, Sx, Task, World},
};
use mainstay_cib::value::Role;
use serde::Serialize;

/// A change of one service, or of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// What is done: start, stop, move, migrate, restart, recover, reload, promote, re-promote,
    /// demote; for nodes fence and shutdown.
    pub what: String,
    /// The service; nothing if it is about a node.
    pub service: Option<String>,
    /// Where it is.
    pub from: Option<String>,
    /// Where it will be.
    pub to: Option<String>,
    /// In which role it is and will be, if that changes.
    pub roles: Option<(&'static str, &'static str)>,
    /// It cannot be done.
    pub blocked: bool,
    /// Why.
    pub reason: Option<String>,
}

impl Change {
    /// The change in one line, without the reason.
    #[must_use]
    pub fn line(&self) -> String {
        let mut line = self.what.clone();
        if let Some(service) = &self.service {
            line.push(' ');
            line.push_str(service);
        }
        match (&self.from, &self.to) {
            (Some(from), Some(to)) if from != to => line.push_str(&format!(" {from} -> {to}")),
            (Some(node), _) | (None, Some(node)) => line.push_str(&format!(" {node}")),
            (None, None) => {}
        }
        if let Some((from, to)) = self.roles
            && from != to
        {
            line.push_str(&format!(" [{from} -> {to}]"));
        }
        if self.blocked {
            line.push_str(" (blocked)");
        }
        line
    }
}

/// All changes: of nodes first, then of services.
pub(crate) fn changes(world: &World<'_>) -> Vec<Change> {
    let mut list = Vec::new();
    for at in (0..world.actions.len()).rev() {
        let action = &world.actions[at];
        if action.service.is_some() || action.optional {
            continue;
        }
        let what = match action.task {
            Task::Shutdown => "shutdown".to_owned(),
            Task::Fence(op) => format!("fence ({})", op.as_str()),
            _ => continue,
        };
        let Some(node) = action.node else { continue };
        let mut name = world.nodes[node].name.to_string();
        if let Some(container) = world.container_of_guest(node) {
            name = format!("{name} (resource: {})", world.services[container].id);
        }
        list.push(Change {
            what,
            service: None,
            from: Some(name),
            to: None,
            roles: None,
            blocked: false,
            reason: reason(world, at),
        });
    }
    for &root in &world.roots {
        of_service(world, root, &mut list);
    }
    list
}

/// Why an action is done, or cannot be.
pub(crate) fn reason(world: &World<'_>, at: Ax) -> Option<String> {
    let action = &world.actions[at];
    if action.reason.is_some() {
        return action.reason.clone();
    }
    let cause = action.cause?;
    let how = if action.runnable {
        "required"
    } else {
        "unrunnable"
    };
    let c = &world.actions[cause];
    let task = world.task_name(c.task);
    match c.service {
        Some(service) => Some(format!("{how} {} {task}", world.services[service].id)),
        None => Some(format!("{how} {task}")),
    }
}

fn of_service(world: &World<'_>, service: Sx, list: &mut Vec<Change>) {
    let s = &world.services[service];
    if s.kind == Kind::Bundle {
        for replica in &s.replicas {
            let parts = [
                replica.ip,
                Some(replica.container),
                replica.remote,
                replica.child,
            ];
            for part in parts.into_iter().flatten() {
                of_service(world, part, list);
            }
        }
        return;
    }
    if s.kind != Kind::Primitive {
        for &child in &s.children {
            of_service(world, child, list);
        }
        return;
    }
    let current = world.active_node(service);
    if current.is_some() || !s.orphan {
        of_primitive(world, service, current, list);
    }
}

/// The newest action for a task, on a node or on none yet.
fn newest(world: &World<'_>, service: Sx, task: Task, node: Option<Nx>) -> Option<Ax> {
    let there = |a: &Ax| {
        let on = world.actions[*a].node;
        node.is_none() || on.is_none() || on == node
    };
    find_all(world, service, task, None)
        .into_iter()
        .rfind(there)
}

/// The actions that a change is read from.
struct Found {
    start: Option<Ax>,
    stop: Option<Ax>,
    promote: Option<Ax>,
    demote: Option<Ax>,
}

fn of_primitive(world: &World<'_>, service: Sx, current: Option<Nx>, list: &mut Vec<Change>) {
    let s = &world.services[service];
    let next = s.home;
    if !s.managed || current.is_none() && next.is_none() {
        return;
    }
    let newest = |task, node| newest(world, service, task, node);
    let start = newest(Task::Start, next);
    let runnable = |a: Option<Ax>| a.is_some_and(|a| world.actions[a].runnable);
    let stop_node = if runnable(start) { current } else { None };
    let mut stop = newest(Task::Stop, stop_node);
    if stop.is_none() && s.stop_unexpected {
        stop = newest(Task::Stop, None);
    }
    let found = Found {
        start,
        stop,
        promote: newest(Task::Promote, next),
        demote: newest(Task::Demote, next),
    };
    let role = match s.role {
        Some(Role::Stopped) | None if current.is_some() => Some(Role::Started),
        other => other,
    };
    if role == s.next_role {
        same_role(world, service, (current, next), &found, list);
    } else {
        other_role(world, service, role, (current, next), &found, list);
    }
}

fn is_needed(world: &World<'_>, action: Option<Ax>) -> bool {
    action.is_some_and(|a| !world.actions[a].optional)
}

fn same_role(
    world: &World<'_>,
    service: Sx,
    (current, next): (Option<Nx>, Option<Nx>),
    found: &Found,
    list: &mut Vec<Change>,
) {
    let s = &world.services[service];
    let moving = current.is_some() && next.is_some() && current != next;
    let migrate = find(world, service, Task::MigrateFrom, next);
    let mut add = |what, from, to, action: Option<Ax>, source: Option<Ax>| {
        list.extend(change(world, service, what, (from, to), action, source));
    };
    if current.is_some() && migrate.is_some_and(|a| world.actions[a].runnable) {
        add("migrate", current, next, found.start, None);
    } else if s.reload {
        add("reload", current, next, found.start, None);
    } else if !is_needed(world, found.start) {
        if is_needed(world, found.demote) && is_needed(world, found.promote) {
            add("re-promote", current, next, found.promote, found.demote);
        }
    } else if found.start.is_some_and(|a| !world.actions[a].runnable) {
        let told = found.stop.filter(|&a| reason(world, a).is_some());
        add("stop", current, None, found.stop, told.or(found.start));
    } else if moving {
        let what = if s.failed { "recover" } else { "move" };
        add(what, current, next, found.stop, None);
    } else if s.failed {
        add("recover", current, None, found.stop, None);
    } else {
        add("restart", current, next, found.start, None);
    }
}

fn other_role(
    world: &World<'_>,
    service: Sx,
    role: Option<Role>,
    (current, next): (Option<Nx>, Option<Nx>),
    found: &Found,
    list: &mut Vec<Change>,
) {
    let s = &world.services[service];
    let moving = current.is_some() && next.is_some() && current != next;
    let no_start = found.start.is_some_and(|a| !world.actions[a].runnable);
    let mut add = |what, from, to, action: Option<Ax>, source: Option<Ax>| {
        list.extend(change(world, service, what, (from, to), action, source));
    };
    if found.stop.is_some() && (s.next_role == Some(Role::Stopped) || no_start) {
        for &node in &s.running_on {
            let stop = newest(world, service, Task::Stop, Some(node));
            let told = stop.filter(|&a| reason(world, a).is_some());
            add("stop", Some(node), None, stop, told.or(found.start));
        }
    } else if found.stop.is_some() && s.failed && s.must_stop {
        add("recover", current, next, found.stop, found.start);
    } else if moving {
        add("move", current, next, found.stop, None);
    } else if s.reload {
        add("reload", current, next, found.start, None);
    } else if is_needed(world, found.stop) {
        add("restart", current, next, found.start, None);
    } else if role == Some(Role::Promoted) {
        add("demote", current, next, found.demote, None);
    } else if s.next_role == Some(Role::Promoted) {
        add("promote", current, next, found.promote, None);
    } else if role <= Some(Role::Stopped) && s.next_role > Some(Role::Stopped) {
        add("start", current, next, found.start, None);
    }
}

fn change(
    world: &World<'_>,
    service: Sx,
    what: &str,
    (from, to): (Option<Nx>, Option<Nx>),
    action: Option<Ax>,
    source: Option<Ax>,
) -> Option<Change> {
    let action = action?;
    let s = &world.services[service];
    let role = match s.role {
        Some(Role::Stopped) | None if !s.running_on.is_empty() => Some(Role::Started),
        other => other,
    };
    let shown = role > Some(Role::Started) || s.next_role > Some(Role::Unpromoted);
    let name = |r: Option<Role>| r.map_or("Unknown", Role::as_str);
    let both = (name(role), name(s.next_role));
    let roles = match (from, to) {
        (None, Some(_)) if shown => Some(both),
        (Some(_), Some(_)) if role != s.next_role => Some(both),
        _ => None,
    };
    let node = |n: Option<Nx>| n.map(|n| world.nodes[n].name.to_string());
    Some(Change {
        what: what.to_owned(),
        service: Some(world.shown_name(service)),
        from: node(from),
        to: node(to),
        roles,
        blocked: !world.actions[action].runnable,
        reason: reason(world, source.unwrap_or(action)),
    })
}
