//! Making actions and finding them again.

use crate::model::{Action, Ax, FenceOp, Kind, Needed, NoQuorum, Nx, Sx, Task, World};
use mainstay_cib::{text::Str, value::Role};

/// The newest action of a service for a task, wherever it is or on one node.
pub(crate) fn find(world: &World<'_>, service: Sx, task: Task, node: Option<Nx>) -> Option<Ax> {
    let fits = |a: &&Ax| {
        let action = &world.actions[**a];
        action.task == task && (node.is_none() || action.node == node)
    };
    world.services[service]
        .actions
        .iter()
        .rev()
        .find(fits)
        .copied()
}

/// The newest action of a service for a task with this interval, wherever it is or on one node.
pub(crate) fn find_exact(
    world: &World<'_>,
    service: Sx,
    task: Task,
    interval: u64,
    node: Option<Nx>,
) -> Option<Ax> {
    let fits = |a: &&Ax| {
        let action = &world.actions[**a];
        action.interval == interval
            && known_as(action) == task
            && (node.is_none() || action.node == node)
    };
    world.services[service]
        .actions
        .iter()
        .rev()
        .find(fits)
        .copied()
}

/// What an action is looked up by: the end of a recurring operation has the place of the operation.
fn known_as(action: &Action) -> Task {
    match (action.task, action.cancels) {
        (Task::Cancel, Some(task)) => task,
        (task, _) => task,
    }
}

/// All actions of a service for a task that does not recur, the newest last.
pub(crate) fn find_all(world: &World<'_>, service: Sx, task: Task, node: Option<Nx>) -> Vec<Ax> {
    let fits = |a: &&Ax| {
        let action = &world.actions[**a];
        action.task == task && action.interval == 0 && (node.is_none() || action.node == node)
    };
    world.services[service]
        .actions
        .iter()
        .filter(fits)
        .copied()
        .collect()
}

/// An action without anything known of it.
fn blank(service: Option<Sx>, task: Task, interval: u64, node: Option<Nx>) -> Action {
    Action {
        service,
        node,
        task,
        interval,
        pseudo: false,
        runnable: true,
        optional: true,
        show: false,
        migrates: false,
        needs_any: false,
        any_needed: 0,
        any_found: 0,
        dangling: false,
        begins_anew: false,
        by_dc: false,
        needs: Needed::Nothing,
        target_rc: None,
        cancels: None,
        migration: None,
        reason: None,
        cause: None,
        before: Vec::new(),
        after: Vec::new(),
        tidied: false,
        drawn: false,
        tracking: false,
    }
}

/// Puts an action on the list.
pub(crate) fn push(world: &mut World<'_>, action: Action) -> Ax {
    let at = world.actions.len();
    if let Some(service) = action.service {
        world.services[service].actions.push(at);
    }
    world.actions.push(action);
    at
}

/// The action for a task of a service, made if it is not there. `optional`: it need not be done; once
/// it must be done, that stays.
pub(crate) fn make(
    world: &mut World<'_>,
    service: Sx,
    task: Task,
    interval: u64,
    node: Option<Nx>,
    optional: bool,
) -> Ax {
    let at = existing(world, service, task, interval, node).unwrap_or_else(|| {
        let mut action = blank(Some(service), task, interval, node);
        action.by_dc = task == Task::Forget;
        action.needs = match task {
            Task::Start | Task::Promote => world.services[service].requires.min(Needed::Fencing),
            _ => Needed::Nothing,
        };
        push(world, action)
    });
    let managed = world.services[service].managed;
    let action = &mut world.actions[at];
    if action.node.is_some() && !action.pseudo && !managed && interval == 0 {
        action.optional = true;
    } else if !optional {
        action.optional = false;
    }
    check_runnable(world, at);
    at
}

/// An action that is there already. One without a node yet is taken to the node that is asked for.
fn existing(
    world: &mut World<'_>,
    service: Sx,
    task: Task,
    interval: u64,
    node: Option<Nx>,
) -> Option<Ax> {
    let same = |a: &&Ax| {
        let action = &world.actions[**a];
        action.interval == interval
            && known_as(action) == task
            && (node.is_none() || action.node.is_none() || action.node == node)
    };
    let found = world.services[service].actions.iter().find(same).copied()?;
    let action = &mut world.actions[found];
    action.node = action.node.or(node);
    Some(found)
}

/// Whether an action can be done, as far as its node and the quorum go.
fn check_runnable(world: &mut World<'_>, at: Ax) {
    let action = &world.actions[at];
    let (Some(service), node) = (action.service, action.node) else {
        return;
    };
    if action.pseudo {
        return;
    }
    let (task, needs, by_dc) = (action.task, action.needs, action.by_dc);
    let Some(node) = node else {
        world.actions[at].runnable = false;
        return;
    };
    let guest = world.is_guest(node);
    let n = &world.nodes[node];
    let gone = !n.online && (!guest || n.needs_reset);
    let (clean, pending) = (!n.unclean, n.pending);
    if !by_dc && gone {
        block(world, at, "node is offline");
        if task == Task::Stop && world.services[service].managed && clean {
            crate::states::must_fence(world, node, "resource actions are unrunnable", false);
        }
    } else if !by_dc && pending {
        block(world, at, "node is pending");
    } else if needs == Needed::Nothing {
        if guest && !world.can_fence(node) {
            block(world, at, "guest node host cannot be fenced");
        } else {
            world.actions[at].runnable = true;
            world.actions[at].reason = None;
        }
    } else {
        match without_quorum(world, service) {
            NoQuorum::Stop => block(world, at, "no quorum"),
            NoQuorum::Freeze => {
                let s = &world.services[service];
                if !is_active(world, service) || s.next_role > s.role {
                    block(world, at, "quorum freeze");
                }
            }
            _ => {
                world.actions[at].runnable = true;
                world.actions[at].reason = None;
            }
        }
    }
}

fn block(world: &mut World<'_>, at: Ax, why: &str) {
    let action = &mut world.actions[at];
    action.runnable = false;
    action.reason = Some(why.to_owned());
}

/// Whether all of a service is active on nodes that are up.
fn is_active(world: &World<'_>, service: Sx) -> bool {
    let s = &world.services[service];
    match s.kind {
        Kind::Primitive => s.running_on.iter().any(|&n| {
            let node = &world.nodes[n];
            node.unclean && (!s.managed || s.requires >= Needed::Fencing) || node.online
        }),
        _ => s.children.iter().all(|&c| is_active(world, c)),
    }
}

/// What holds for a service where there is no quorum; ignore where there is one.
fn without_quorum(world: &mut World<'_>, service: Sx) -> NoQuorum {
    if world.quorate {
        return NoQuorum::Ignore;
    }
    if world.options.no_quorum != NoQuorum::Demote {
        return world.options.no_quorum;
    }
    let s = &world.services[service];
    if s.role >= Some(Role::Unpromoted) {
        if s.next_role > Some(Role::Unpromoted) {
            world.set_next_role(service, Some(Role::Unpromoted), "no-quorum-policy=demote");
        }
        return NoQuorum::Ignore;
    }
    NoQuorum::Stop
}

/// An event of a collective: nothing is done, but other actions are ordered by it.
pub(crate) fn event(
    world: &mut World<'_>,
    service: Sx,
    task: Task,
    optional: bool,
    runnable: bool,
) -> Ax {
    let at = make(world, service, task, 0, None, optional);
    let action = &mut world.actions[at];
    action.pseudo = true;
    if runnable {
        action.runnable = true;
    }
    at
}

/// Ends a recurring operation on a node: what was the operation becomes its end.
pub(crate) fn cancel(
    world: &mut World<'_>,
    service: Sx,
    name: &Str,
    interval: u64,
    node: Nx,
) -> Ax {
    let task = world.task(name);
    let at = make(world, service, task, interval, Some(node), false);
    let action = &mut world.actions[at];
    action.task = Task::Cancel;
    action.cancels = Some(task);
    at
}

/// An action that belongs to no service: an event, or one of a node as a whole.
pub(crate) fn free(world: &mut World<'_>, task: Task, node: Option<Nx>, optional: bool) -> Ax {
    let same = |a: &Ax| {
        let action = &world.actions[*a];
        action.service.is_none() && action.task == task && action.node == node
    };
    if let Some(at) = (0..world.actions.len()).find(same) {
        if !optional {
            world.actions[at].optional = false;
        }
        return at;
    }
    let mut action = blank(None, task, 0, node);
    action.optional = optional;
    push(world, action)
}

/// An event that belongs to no service.
pub(crate) fn free_event(world: &mut World<'_>, task: Task) -> Ax {
    let at = free(world, task, None, true);
    world.actions[at].pseudo = true;
    at
}

/// The fencing of a node; `required` makes it happen, if it can be done at all.
pub(crate) fn fence_action(
    world: &mut World<'_>,
    node: Nx,
    op: Option<FenceOp>,
    required: bool,
    why: Option<&str>,
) -> Ax {
    let op = op.unwrap_or(world.options.fence_action);
    let at = free(world, Task::Fence(op), Some(node), true);
    if required && world.can_fence(node) {
        world.actions[at].optional = false;
        if let Some(why) = why {
            world.actions[at].reason = Some(why.to_owned());
        }
    } else if let Some(why) = why
        && world.actions[at].reason.is_none()
    {
        world.actions[at].reason = Some(why.to_owned());
    }
    at
}
