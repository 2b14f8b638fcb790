//! What recurs on a node since a service was last started there.

use crate::{
    actions,
    model::{Nx, Sx, World},
};
use mainstay_cib::status::LrmOp;

/// Where in a history the service was last started and stopped; -1 for never.
pub(crate) fn active_range(ops: &[&LrmOp]) -> (i64, i64) {
    let (mut start, mut stop, mut monitor, mut role) = (-1_i64, -1_i64, -1_i64, -1_i64);
    for (at, op) in (0_i64..).zip(ops) {
        match &*op.operation {
            "stop" if op.op_status.get() == Some(0) => stop = at,
            "start" | "migrate_from" => start = at,
            "monitor" if monitor <= stop => {
                if matches!(op.rc_code.get(), Some(0 | 8)) {
                    monitor = at;
                }
            }
            "promote" | "demote" => role = at,
            _ => {}
        }
    }
    if start == -1 {
        start = if role == -1 { monitor } else { role };
    }
    (start, stop)
}

/// Takes in recurring operations as actions that need not be done, so that those that go on are
/// known from those that begin.
pub(super) fn unpack(world: &mut World<'_>, service: Sx, node: Nx, ops: &[&LrmOp]) {
    if !world.nodes[node].online {
        return;
    }
    let (start, stop) = active_range(ops);
    for (at, op) in (0_i64..).zip(ops) {
        let interval = op.interval.or(0);
        if (start < stop && at <= stop)
            || at < start
            || interval == 0
            || op.op_status.get() == Some(-1)
        {
            continue;
        }
        let task = world.task(&op.operation);
        actions::make(world, service, task, interval, Some(node), true);
    }
}
