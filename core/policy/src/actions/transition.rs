//! From the role that a primitive is in to the role that it shall be in, action by action.

use super::{create::find_all, migrate, recurring};
use crate::{
    actions,
    constraints::order_actions_of,
    model::{FenceOp, Needed, Nx, OnMultiple, Sx, Task, World, flow},
};
use mainstay_cib::value::Role;

/// Makes the actions of a primitive.
pub(super) fn create(world: &mut World<'_>, service: Sx) {
    default_role(world, service);
    let (current, all, clean) = world.active_nodes(service);
    for node in world.services[service].dangling.clone() {
        abort_dangling(world, service, node);
    }
    let home = world.services[service].home;
    let mut plan = Plan::default();
    let moves = current.is_some()
        && home.is_some()
        && current != home
        && world.services[service].next_role >= Some(Role::Started);
    if moves {
        plan.can_migrate = migrate::can(world, service, current);
        plan.stop = true;
    }
    let twice = check_migration(world, service, (current, all, clean), &mut plan);
    if twice {
        match world.services[service].on_multiple {
            OnMultiple::StopStart => plan.stop = true,
            OnMultiple::StopUnexpected => {
                plan.stop = true;
                world.services[service].stop_unexpected = true;
            }
            OnMultiple::StopOnly | OnMultiple::Block => {}
        }
    } else {
        world.services[service].stop_unexpected = false;
    }
    if world.services[service].start_pending {
        let at = actions::make(world, service, Task::Start, 0, home, true);
        world.actions[at].show = true;
    }
    if !moves {
        stays(world, service, (current, home), &mut plan);
    }
    restart(world, service, current, &plan);
    change_role(world, service);
    recurring::create(world, service);
    if plan.can_migrate
        && let Some(current) = current
    {
        migrate::create(world, service, current);
    }
}

/// What a service must go through.
#[derive(Default)]
struct Plan {
    stop: bool,
    promote: bool,
    can_migrate: bool,
}

fn default_role(world: &mut World<'_>, service: Sx) {
    if world.services[service].next_role.is_none() {
        let placed = world.services[service].home.is_some();
        let role = if placed { Role::Started } else { Role::Stopped };
        world.set_next_role(service, Some(role), "assignment");
    }
}

fn abort_dangling(world: &mut World<'_>, service: Sx, node: Nx) {
    let at = actions::make(world, service, Task::Stop, 0, Some(node), false);
    world.actions[at].dangling = true;
    if world.options.remove_after_stop {
        super::config::clean_up(world, service, node, false);
    }
}

/// Whether a migration that has begun can go on; if not, or if there is none, whether the service is
/// on more nodes than it may be.
fn check_migration(
    world: &mut World<'_>,
    service: Sx,
    (current, all, clean): (Option<Nx>, usize, usize),
    plan: &mut Plan,
) -> bool {
    let s = &world.services[service];
    if let Some((source, target)) = s.migration {
        let goes_on =
            plan.can_migrate && all == 2 && current == Some(source) && s.home == Some(target);
        if !goes_on {
            plan.stop = true;
            plan.can_migrate = false;
            world.services[service].migration = None;
        }
        return false;
    }
    // What may start before its node is fenced is taken for stopped there.
    if s.requires >= Needed::Fencing {
        all > 1
    } else {
        clean > 1
    }
}

fn stays(
    world: &mut World<'_>,
    service: Sx,
    (current, home): (Option<Nx>, Option<Nx>),
    plan: &mut Plan,
) {
    let s = &world.services[service];
    if s.failed {
        if s.must_stop {
            plan.stop = true;
        } else if s.next_role == Some(Role::Promoted) {
            plan.promote = true;
        }
    } else if s.blocked {
        plan.stop = true;
    } else if s.role > Some(Role::Started) && current.is_some() && home.is_some() {
        let start = actions::make(world, service, Task::Start, 0, home, true);
        if !world.actions[start].optional {
            plan.stop = true;
        }
    }
}

/// The role that comes next on the way to another one.
fn step(from: Role, to: Role) -> Role {
    match (from, to) {
        (Role::Stopped, Role::Stopped) => Role::Stopped,
        (Role::Stopped, Role::Started) => Role::Started,
        (Role::Stopped, _) => Role::Unpromoted,
        (Role::Started, Role::Unpromoted | Role::Promoted | Role::Started) => to,
        (Role::Unpromoted, Role::Unpromoted | Role::Promoted) => to,
        (Role::Promoted, Role::Promoted) => Role::Promoted,
        (Role::Promoted, _) => Role::Unpromoted,
        (Role::Started | Role::Unpromoted, _) => Role::Stopped,
    }
}

/// Does what leads from one role to the next; whether there is anything that does.
fn go(
    world: &mut World<'_>,
    service: Sx,
    (from, to): (Role, Role),
    node: Option<Nx>,
    optional: bool,
) -> bool {
    match (from, to) {
        (Role::Stopped, Role::Started | Role::Unpromoted) => start(world, service, node, optional),
        (Role::Started | Role::Unpromoted, Role::Stopped) => stop(world, service, optional),
        (Role::Started | Role::Unpromoted, Role::Promoted) => {
            promote(world, service, node, optional);
        }
        (Role::Promoted, Role::Stopped | Role::Started | Role::Unpromoted) => {
            demote(world, service, optional);
        }
        (Role::Started, Role::Unpromoted) => {}
        _ => return false,
    }
    true
}

/// Down to stopped and up again to where it was: needed only if something says so.
fn restart(world: &mut World<'_>, service: Sx, current: Option<Nx>, plan: &Plan) {
    world.services[service].restarting = true;
    let was = world.services[service].role.unwrap_or(Role::Stopped);
    let mut role = was;
    while role != Role::Stopped {
        let next = step(role, Role::Stopped);
        if !go(world, service, (role, next), current, !plan.stop) {
            break;
        }
        role = next;
    }
    while world.services[service].role <= world.services[service].next_role
        && role != was
        && !world.services[service].blocked
    {
        let next = step(role, was);
        let required = plan.stop || next == Role::Promoted && plan.promote;
        let home = world.services[service].home;
        if !go(world, service, (role, next), home, !required) {
            break;
        }
        role = next;
    }
    world.services[service].restarting = false;
}

fn change_role(world: &mut World<'_>, service: Sx) {
    let mut role = world.services[service].role.unwrap_or(Role::Stopped);
    // A role may still be taken back on the way, for lack of a quorum.
    while Some(role) != world.services[service].next_role {
        let Some(wanted) = world.services[service].next_role else {
            break;
        };
        let next = step(role, wanted);
        let home = world.services[service].home;
        if next == role || !go(world, service, (role, next), home, false) {
            break;
        }
        role = next;
    }
}

/// Whether this is where a service shall be that is active on several nodes and is not stopped on the
/// right one.
fn is_expected(world: &World<'_>, service: Sx, node: Option<Nx>) -> bool {
    let s = &world.services[service];
    s.stop_unexpected
        && s.restarting
        && s.next_role > Some(Role::Stopped)
        && node.is_some()
        && s.home == node
}

fn stop(world: &mut World<'_>, service: Sx, optional: bool) {
    let mut optional = optional;
    for node in world.services[service].running_on.clone() {
        if is_expected(world, service, Some(node)) {
            continue;
        }
        let s = &world.services[service];
        if let Some((_, target)) = s.migration {
            if target == node && s.home == Some(node) {
                continue;
            }
            optional = false;
        }
        let at = actions::make(world, service, Task::Stop, 0, Some(node), optional);
        let s = &world.services[service];
        if s.home.is_none() {
            world.actions[at].reason = Some("node availability".to_owned());
        } else if s.restarting && s.stop_unexpected {
            world.actions[at].reason = Some("being multiply active".to_owned());
        }
        let s = &world.services[service];
        let unfences = s.requires == Needed::Unfencing && world.has_unfencing;
        if !s.managed {
            world.actions[at].runnable = false;
        }
        if world.options.remove_after_stop {
            super::config::clean_up(world, service, node, optional);
        }
        if unfences {
            let unfence = actions::fence_action(world, node, Some(FenceOp::On), false, None);
            order_actions_of(world, at, unfence, flow::IMPLIES_FIRST);
        }
    }
}

fn start(world: &mut World<'_>, service: Sx, node: Option<Nx>, optional: bool) {
    let at = actions::make(world, service, Task::Start, 0, node, true);
    if let Some(node) = node {
        super::unfence::order(world, service, node, at, flow::IMPLIES_THEN);
    }
    if world.actions[at].runnable && !optional {
        world.actions[at].optional = false;
    }
    if is_expected(world, service, node) {
        world.actions[at].pseudo = true;
    }
}

fn promote(world: &mut World<'_>, service: Sx, node: Option<Nx>, optional: bool) {
    let starts = find_all(world, service, Task::Start, node);
    if starts.iter().all(|&a| world.actions[a].runnable) {
        let at = actions::make(world, service, Task::Promote, 0, node, optional);
        if is_expected(world, service, node) {
            world.actions[at].pseudo = true;
        }
    } else {
        for at in find_all(world, service, Task::Promote, node) {
            world.actions[at].runnable = false;
        }
    }
}

fn demote(world: &mut World<'_>, service: Sx, optional: bool) {
    for node in world.services[service].running_on.clone() {
        if !is_expected(world, service, Some(node)) {
            actions::make(world, service, Task::Demote, 0, Some(node), optional);
        }
    }
}
