//! Migrations that have begun: from which node to which, and how far they got.

use super::{
    history::{Record, rc, status},
    membership::fail,
    order, running,
};
use crate::model::{Nx, Sx, World};
use mainstay_cib::{status::LrmOp, text::Str, value::Role};
use std::cmp::Ordering;

/// Source and target by name; nothing if one is not recorded.
fn ends(op: &LrmOp) -> Option<(Str, Str)> {
    Some((op.migrate_source.clone()?, op.migrate_target.clone()?))
}

struct Ends {
    source: Option<Nx>,
    target: Option<Nx>,
    source_name: Str,
    target_name: Str,
}

fn nodes(world: &World<'_>, op: &LrmOp) -> Option<Ends> {
    let (source_name, target_name) = ends(op)?;
    let named = |name: &Str| world.node_by_name.get(name).copied();
    Some(Ends {
        source: named(&source_name),
        target: named(&target_name),
        source_name,
        target_name,
    })
}

fn history<'a>(world: &World<'a>, service: Sx, node: Option<Nx>) -> &'a [LrmOp] {
    node.map_or(&[], |n| world.ops_on(service, n))
}

/// Whether anything but a question was done after an operation.
fn acted_after(ops: &[LrmOp], op: &LrmOp, same_node: bool) -> bool {
    ops.iter().any(|o| {
        matches!(
            &*o.operation,
            "start" | "stop" | "migrate_to" | "migrate_from"
        ) && order::compare(o, op, same_node) == Ordering::Greater
    })
}

/// Whether it was found after an operation that the service is not there.
fn found_gone_after(ops: &[LrmOp], op: &LrmOp, same_node: bool) -> bool {
    let gone = |o: &&LrmOp| {
        &*o.operation == "monitor"
            && o.rc_code.get() == Some(rc::NOT_RUNNING)
            && o.op_status.get() == Some(status::DONE)
    };
    let found = ops.iter().find(gone);
    found.is_some_and(|o| order::compare(o, op, same_node) == Ordering::Greater)
}

/// Whether a node's history says something of the service that is newer than its migration.
fn newer_state(
    world: &World<'_>,
    service: Sx,
    node: Option<Nx>,
    name: &Str,
    to: Option<&LrmOp>,
    from: Option<&LrmOp>,
) -> bool {
    let Some(known) = from.or(to) else {
        return false;
    };
    let Some((source, target)) = ends(known) else {
        return false;
    };
    // Numbers of calls are more reliable than times: compare with the end on the node itself.
    let (op, same_node) = if *name == target {
        from.map_or((to, false), |f| (Some(f), true))
    } else if *name == source {
        to.map_or((from, false), |t| (Some(t), true))
    } else {
        (Some(known), false)
    };
    let ops = history(world, service, node);
    op.is_some_and(|op| acted_after(ops, op, same_node) || found_gone_after(ops, op, same_node))
}

/// Whether nothing is known of the service on a node.
fn is_unknown(ops: &[LrmOp]) -> bool {
    !ops.iter()
        .any(|o| o.rc_code.is_set() && o.rc_code.get() != Some(rc::UNKNOWN))
}

fn is_up(world: &World<'_>, node: Option<Nx>) -> Option<Nx> {
    node.filter(|n| world.nodes[*n].online)
}

fn give_up(world: &mut World<'_>, service: Sx) {
    fail(world, service);
    world.services[service].allow_migrate = false;
}

/// The first half, on the source, succeeded.
pub(super) fn succeeded(world: &mut World<'_>, record: &Record<'_>) {
    let service = record.service;
    let Some(e) = nodes(world, record.op) else {
        return;
    };
    let acted_on_source = acted_after(history(world, service, e.source), record.op, true);
    let second = history(world, service, e.target).iter().find(|o| {
        &*o.operation == "migrate_from" && o.migrate_source.as_ref() == Some(&e.source_name)
    });
    if second.is_some() && acted_on_source {
        return;
    }
    let (from_rc, from_status) = second.map_or((rc::UNKNOWN, status::PENDING), |o| {
        (o.rc_code.or(rc::UNKNOWN), o.op_status.or(status::PENDING))
    });
    let newer_on_target = newer_state(
        world,
        service,
        e.target,
        &e.target_name,
        Some(record.op),
        second,
    );
    if acted_on_source && newer_on_target {
        return;
    }
    if from_rc == rc::OK && from_status == status::DONE {
        // Only the stop on the source is missing.
        dangling(world, service, record.node);
        return;
    }
    world.services[service].role = Some(Role::Started);
    let active = is_up(world, e.target).filter(|_| !newer_on_target);
    if from_status != status::PENDING {
        match active {
            Some(target) => running::add(world, service, target),
            None => give_up(world, service),
        }
        return;
    }
    if is_up(world, e.target).is_some() && is_unknown(history(world, service, e.target)) {
        // It will be asked.
        return;
    }
    if let Some(target) = active {
        running::add(world, service, target);
        if let Some(source) = is_up(world, e.source) {
            // It can go on, if the target is still wanted.
            world.services[service].migration = Some((source, target));
        }
    } else if !acted_on_source {
        give_up(world, service);
    }
}

fn dangling(world: &mut World<'_>, service: Sx, node: Nx) {
    world.services[service].role = Some(Role::Stopped);
    world.services[service].dangling.push(node);
}

fn went_well(op: &LrmOp) -> bool {
    op.rc_code.get() == Some(rc::OK) && op.op_status.get() == Some(status::DONE)
}

/// The first half failed: the service may be active on both nodes.
pub(super) fn to_failed(world: &mut World<'_>, record: &Record<'_>) {
    let service = record.service;
    let Some(e) = nodes(world, record.op) else {
        return;
    };
    world.services[service].role = Some(Role::Started);
    let on_target = history(world, service, e.target);
    let second = on_target.iter().find(|o| {
        &*o.operation == "migrate_from"
            && o.migrate_source.as_ref() == Some(&e.source_name)
            && went_well(o)
    });
    let newer = newer_state(
        world,
        service,
        e.target,
        &e.target_name,
        Some(record.op),
        second,
    );
    if !is_unknown(on_target) && !newer {
        if let Some(target) = is_up(world, e.target) {
            running::add(world, service, target);
        }
    } else if !acted_after(history(world, service, e.source), record.op, true) {
        dangling(world, service, record.node);
    }
}

/// The second half failed: the service may be active on both nodes.
pub(super) fn from_failed(world: &mut World<'_>, record: &Record<'_>) {
    let service = record.service;
    let Some(e) = nodes(world, record.op) else {
        return;
    };
    world.services[service].role = Some(Role::Started);
    let on_source = history(world, service, e.source);
    let first = on_source.iter().find(|o| {
        &*o.operation == "migrate_to"
            && o.migrate_target.as_ref() == Some(&e.target_name)
            && went_well(o)
    });
    let newer = newer_state(
        world,
        service,
        e.source,
        &e.source_name,
        first,
        Some(record.op),
    );
    if !is_unknown(on_source)
        && !newer
        && let Some(source) = is_up(world, e.source)
    {
        running::add(world, service, source);
    }
}
