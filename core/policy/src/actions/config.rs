//! What follows from changes of the configuration: restarts, reloads, operations that begin anew or
//! end, histories that are forgotten.

use super::{create::cancel, unfence};
use crate::{
    actions,
    constraints::{order, order_by},
    digest::{Change, compare, needs_place},
    model::{End, Kind, Nx, Sx, Task, World, flow},
    states::{Count, active_range, clear_fail_count, fail_count, sorted},
};
use mainstay_cib::{
    status::{LrmOp, LrmResource},
    text::Str,
    value::Score,
};

/// Compares the configuration with what was done.
pub(crate) fn check(world: &mut World<'_>) {
    for node in 0..world.nodes.len() {
        // Where nothing can be done, nothing need be compared; in maintenance, monitors end.
        if !world.nodes[node].maintenance && !world.is_available(node) {
            continue;
        }
        let Some(state) = world.node_state(node) else {
            continue;
        };
        for history in state.history() {
            if history.ops.is_empty() {
                continue;
            }
            for service in matching(world, &history.id) {
                of_history(world, service, node, history);
            }
        }
    }
}

/// All primitives that a history can be about.
fn matching(world: &World<'_>, id: &Str) -> Vec<Sx> {
    let named = |s: &crate::model::Service| s.id == *id || s.history_name.as_ref() == Some(id);
    (0..world.services.len())
        .filter(|&s| {
            let s = &world.services[s];
            s.kind == Kind::Primitive && named(s)
        })
        .collect()
}

fn of_history(world: &mut World<'_>, service: Sx, node: Nx, history: &LrmResource) {
    if world.services[service].orphan {
        if !world.is_anonymous_clone(world.top(service)) {
            clean_up(world, service, node, false);
        }
        return;
    }
    let active = world.services[service].running_on.contains(&node);
    if has_other_agent(world, service, node, history, active) {
        clean_up(world, service, node, false);
    }
    if !active {
        return;
    }
    let ops = sorted(&history.ops);
    let (start, stop) = active_range(&ops);
    if start < stop {
        return;
    }
    let maintenance = world.services[service].maintenance || world.nodes[node].maintenance;
    for (at, op) in (0_i64..).zip(&ops) {
        if at < start {
            continue;
        }
        let interval = op.interval.or(0);
        if interval > 0 && maintenance {
            end(world, service, node, op);
        } else if interval > 0
            || matches!(
                &*op.operation,
                "monitor" | "start" | "promote" | "migrate_from"
            )
        {
            if needs_place(world, service) {
                world.deferred_ops.push((service, node, op.id.clone()));
            } else {
                check_op(world, service, node, op);
            }
        }
    }
}

/// What has failed with other parameters may be tried again.
fn check_op(world: &mut World<'_>, service: Sx, node: Nx, op: &LrmOp) {
    if changed(world, service, node, op)
        && fail_count(world, service, node, Count::Recent).0 > Score::ZERO
    {
        clear_fail_count(world, service, node, "action definition changed");
    }
}

/// Compares what could not be compared before services were placed.
pub(crate) fn check_deferred(world: &mut World<'_>) {
    for (service, node, id) in std::mem::take(&mut world.deferred_ops) {
        if let Some(op) = find_op(world, service, node, &id) {
            check_op(world, service, node, op);
        }
    }
    for (service, node, id) in std::mem::take(&mut world.deferred_checks) {
        if let Some(op) = find_op(world, service, node, &id)
            && !matches!(
                compare(world, service, node, op),
                Change::Unknown | Change::None
            )
        {
            clear_fail_count(world, service, node, "resource parameters have changed");
        }
    }
}

fn find_op<'a>(world: &World<'a>, service: Sx, node: Nx, id: &Str) -> Option<&'a LrmOp> {
    let name = &world.services[service].id;
    let history = world.node_history(node).find(|h| h.id == *name)?;
    history.ops.iter().find(|o| o.id == *id)
}

fn end(world: &mut World<'_>, service: Sx, node: Nx, op: &LrmOp) {
    let at = cancel(world, service, &op.operation, op.interval.or(0), node);
    let stop = End::Task(service, Task::Stop, 0);
    order(world, stop, End::Action(at), flow::OPTIONAL);
}

/// Whether an operation is no longer what it was; then what is needed is done for it.
fn changed(world: &mut World<'_>, service: Sx, node: Nx, op: &LrmOp) -> bool {
    let interval = op.interval.or(0);
    if interval > 0 {
        let config = &world.services[service].config;
        let configured = config
            .ops
            .iter()
            .any(|o| o.name == op.operation && o.interval == interval && o.enabled);
        if !configured {
            if world.options.stop_orphan_actions {
                end(world, service, node, op);
            }
            return true;
        }
    }
    let is_stale = world
        .stale_ops
        .iter()
        .any(|(s, n, id)| *s == service && *n == node && *id == op.id);
    let change = if is_stale {
        Change::Some
    } else {
        compare(world, service, node, op)
    };
    match change {
        Change::None | Change::OnlySecrets => false,
        Change::NeedsRestart => {
            restart(world, service, node, op);
            true
        }
        // What was done with unknown parameters is done anew.
        Change::Some | Change::Unknown => {
            if interval > 0 {
                let task = world.task(&op.operation);
                let at = actions::make(world, service, task, interval, Some(node), true);
                world.actions[at].begins_anew = true;
            } else if op.op_restart_digest.is_some() {
                unfence::trigger(world, service, node, "device parameters changed (reload)");
                reload(world, service, node);
            } else {
                restart(world, service, node, op);
            }
            true
        }
    }
}

fn restart(world: &mut World<'_>, service: Sx, node: Nx, op: &LrmOp) {
    let interval = op.interval.or(0);
    // Questions, promotions and migrations are done with what the service was started with.
    let task = match &*op.operation {
        "monitor" | "migrate_from" | "promote" if interval == 0 => Task::Start,
        other => world.task(other),
    };
    let at = actions::make(world, service, task, interval, None, false);
    world.actions[at].reason = Some("resource definition change".to_owned());
    unfence::trigger(world, service, node, "device parameters changed");
}

fn reload(world: &mut World<'_>, service: Sx, node: Nx) {
    let s = &world.services[service];
    if !s.managed || s.failed {
        return;
    }
    if s.start_pending {
        actions::make(world, service, Task::Stop, 0, Some(node), false);
        return;
    }
    world.services[service].reload = true;
    let at = actions::make(world, service, Task::Reload, 0, Some(node), false);
    world.actions[at].reason = Some("resource definition change".to_owned());
    // Whatever takes the service down makes it needless.
    let flags = flow::OPTIONAL | flow::THEN_CANCELS_FIRST;
    for task in [Task::Stop, Task::Demote] {
        order(world, End::Action(at), End::Task(service, task, 0), flags);
    }
}

/// Whether the service had another agent; if it is active with that, it is restarted.
fn has_other_agent(
    world: &mut World<'_>,
    service: Sx,
    node: Nx,
    history: &LrmResource,
    active: bool,
) -> bool {
    let config = &world.services[service].config;
    let provider = history.provider.as_deref().unwrap_or("");
    let same = config.agent == history.agent
        && config.class == history.class
        && *config.provider == *provider;
    if same {
        return false;
    }
    unfence::trigger(world, service, node, "device definition changed");
    if active {
        actions::make(world, service, Task::Stop, 0, Some(node), false);
        world.services[service].start_pending = true;
    }
    true
}

/// Makes a node forget what was done to a service.
pub(crate) fn clean_up(world: &mut World<'_>, service: Sx, node: Nx, optional: bool) {
    let n = &world.nodes[node];
    if world.services[service].failed || n.unclean || !n.online {
        return;
    }
    actions::make(world, service, Task::Delete, 0, Some(node), optional);
    let flags = if optional {
        flow::IMPLIES_THEN
    } else {
        flow::OPTIONAL
    };
    order_by(world, (service, Task::Stop), (service, Task::Delete), flags);
    order_by(
        world,
        (service, Task::Delete),
        (service, Task::Start),
        flags,
    );
}

/// What is no longer configured needs no count of its failures.
pub(crate) fn clear_orphans(world: &mut World<'_>) {
    for service in world.roots.clone() {
        if !world.services[service].orphan || !world.options.stop_orphans {
            continue;
        }
        for node in 0..world.nodes.len() {
            if !world.nodes[node].online
                || fail_count(world, service, node, Count::Recent).0 == Score::ZERO
            {
                continue;
            }
            let at = clear_fail_count(world, service, node, "it is orphaned");
            order(
                world,
                End::Action(at),
                End::Task(service, Task::Stop, 0),
                flow::OPTIONAL,
            );
        }
    }
}
