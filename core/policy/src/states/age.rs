//! Failures and locks that are too old to count.

use super::{
    failcount::{Count, fail_count},
    history::{Record, rc, status},
};
use crate::{
    actions,
    model::{Nx, Sx, Task, World},
};
use mainstay_cib::{status::LrmResource, value::Score};

/// Whether an operation is older than failures count. If it is the last failure, and none counts any
/// more, the count is cleared.
pub(super) fn is_expired(world: &mut World<'_>, record: &Record<'_>) -> bool {
    if record.status == status::NOT_INSTALLED {
        return false;
    }
    let (service, node) = (record.service, record.node);
    let is_last = record.op.id.ends_with("_last_failure_0");
    let timeout = world.services[service].failure_timeout;
    let mut expired = false;
    let mut recent = Score::ZERO;
    if timeout > 0
        && let Some(when) = record.op.last_rc_change.get()
    {
        expired = world.now >= when + timeout && !must_wait(world, record);
        recent = fail_count(world, service, node, Count::Recent).0;
    }
    let mut clear = None;
    if expired {
        let (all, _) = fail_count(world, service, node, Count::All);
        if all > Score::ZERO {
            if recent == Score::ZERO {
                clear = Some("it expired");
            } else {
                expired = false;
            }
        } else if is_last && world.services[service].reconnect > 0 {
            clear = Some("reconnect interval is set");
        }
    }
    if !expired && is_last && crate::digest::differs(world, service, node, record.op) {
        clear = Some("resource parameters have changed");
    }
    if let Some(why) = clear {
        let at = clear_fail_count(world, service, node, why);
        if world.options.fencing && world.services[service].reconnect > 0 {
            world.after_remote_fencing.push((at, service));
        }
    }
    // What a question found out does not grow old.
    let found = matches!(
        record.rc,
        rc::OK | rc::NOT_RUNNING | rc::PROMOTED | rc::DEGRADED | rc::DEGRADED_PROMOTED
    );
    expired && !(record.is_probe() && found)
}

/// A connection that broke is tried again only after its node was fenced.
fn must_wait(world: &World<'_>, record: &Record<'_>) -> bool {
    let s = &world.services[record.service];
    s.reconnect > 0
        && world.options.fencing
        && record.interval > 0
        && record.task == Task::Monitor
        && world
            .node_by_name
            .get(&s.id)
            .is_some_and(|&n| !world.nodes[n].was_fenced)
}

/// Makes the cluster forget a service's failures on a node.
pub(crate) fn clear_fail_count(
    world: &mut World<'_>,
    service: Sx,
    node: Nx,
    why: &str,
) -> crate::model::Ax {
    let at = actions::make(world, service, Task::ClearFailCount, 0, Some(node), false);
    world.actions[at].reason = Some(why.to_owned());
    at
}

/// A service whose node was shut down may have to wait for it.
pub(super) fn shutdown_lock(world: &mut World<'_>, service: Sx, node: Nx, history: &LrmResource) {
    let Some(since) = history.shutdown_lock.get().filter(|t| *t != 0) else {
        return;
    };
    let limit = world.options.shutdown_lock_limit;
    if limit > 0 && world.now > since + limit {
        actions::make(world, service, Task::Forget, 0, Some(node), false);
    } else {
        world.services[service].lock = Some(node);
    }
}
