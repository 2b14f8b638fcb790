//! What was done to services on a node, and what state that left them in.

use super::{age, fate, find, migration, order, outcome, recurring};
use crate::{
    model::{Fail, Nx, Sx, Task, World},
    unpack::target_role,
};
use mainstay_cib::{
    status::{LrmOp, LrmResource, NodeState},
    value::Role,
};

/// How an execution ended, by the number in histories.
pub(super) mod status {
    pub(crate) const PENDING: i32 = -1;
    pub(crate) const DONE: i32 = 0;
    pub(crate) const CANCELLED: i32 = 1;
    pub(crate) const NOT_SUPPORTED: i32 = 3;
    pub(crate) const ERROR: i32 = 4;
    /// The service cannot run on this node.
    pub(crate) const ERROR_HARD: i32 = 5;
    /// The service can run nowhere.
    pub(crate) const ERROR_FATAL: i32 = 6;
    pub(crate) const NOT_INSTALLED: i32 = 7;
    pub(crate) const NOT_CONNECTED: i32 = 8;
    pub(crate) const NO_FENCE_DEVICE: i32 = 10;
    pub(crate) const NO_SECRETS: i32 = 11;
}

/// What agents return.
pub(crate) mod rc {
    pub(crate) const OK: i32 = 0;
    pub(crate) const INVALID_PARAM: i32 = 2;
    pub(crate) const UNIMPLEMENTED: i32 = 3;
    pub(crate) const INSUFFICIENT_PRIV: i32 = 4;
    pub(crate) const NOT_INSTALLED: i32 = 5;
    pub(crate) const NOT_CONFIGURED: i32 = 6;
    pub(crate) const NOT_RUNNING: i32 = 7;
    pub(crate) const PROMOTED: i32 = 8;
    pub(crate) const FAILED_PROMOTED: i32 = 9;
    pub(crate) const DEGRADED: i32 = 190;
    pub(crate) const DEGRADED_PROMOTED: i32 = 191;
    pub(crate) const UNKNOWN: i32 = 193;
}

/// One recorded operation, as it is understood so far.
pub(super) struct Record<'o> {
    pub op: &'o LrmOp,
    pub service: Sx,
    pub node: Nx,
    pub task: Task,
    pub interval: u64,
    /// What the agent returned.
    pub rc: i32,
    /// How the execution ended.
    pub status: i32,
    /// What the agent should have returned; -1 if that is not known.
    pub expected: i32,
}

impl Record<'_> {
    /// Whether it only asked if the service is active.
    pub(super) fn is_probe(&self) -> bool {
        self.task == Task::Monitor && self.interval == 0
    }

    /// Whether it is a question that makes no sense on its node, so that the answer must be no.
    pub(super) fn is_masked(&self, world: &World<'_>) -> bool {
        let rc_code = self.op.rc_code.or(0);
        self.is_probe()
            && (matches!(rc_code, rc::NOT_INSTALLED | rc::INVALID_PARAM)
                || self.op.op_status.get() == Some(status::NOT_INSTALLED))
            && !world.is_bundled(self.service)
    }
}

/// The last failure, and what follows from all failures so far.
pub(super) struct Verdict<'o> {
    pub last_failure: Option<&'o LrmOp>,
    pub on_fail: Fail,
}

/// Reads the history of one node. Containers that must be stopped wherever they are are added to
/// `containers`.
pub(super) fn unpack(world: &mut World<'_>, node: Nx, state: &NodeState, containers: &mut Vec<Sx>) {
    let mut fillers = Vec::new();
    for history in state.history() {
        if let Some(service) = of_service(world, node, history, containers)
            && world.services[service].orphan_filler
        {
            fillers.push((service, history));
        }
    }
    for (filler, history) in fillers {
        adopt(world, filler, history);
    }
}

/// What no longer is configured to run in a container may still run there.
fn adopt(world: &mut World<'_>, filler: Sx, history: &LrmResource) {
    let Some(container) = history.container.as_ref() else {
        return;
    };
    if let Some(&container) = world.by_id.get(container)
        && world.services[filler].container.is_none()
        && world.services[filler].is_active()
    {
        world.services[filler].container = Some(container);
        world.services[container].fillers.push(filler);
    }
}

fn of_service(
    world: &mut World<'_>,
    node: Nx,
    history: &LrmResource,
    containers: &mut Vec<Sx>,
) -> Option<Sx> {
    if history.ops.is_empty() && !world.options.shutdown_lock {
        return None;
    }
    if history.ops.is_empty() && !world.by_id.contains(&history.id) {
        return None;
    }
    let service = find::service_of(world, node, history);
    if world.options.shutdown_lock {
        age::shutdown_lock(world, service, node, history);
    }
    let saved = world.services[service].role.take();
    let ops = order::sorted(&history.ops);
    let mut verdict = Verdict {
        last_failure: None,
        on_fail: Fail::Ignore,
    };
    for op in &ops {
        operation(world, service, node, op, &mut verdict);
    }
    recurring::unpack(world, service, node, &ops);
    fate::settle(world, service, node, verdict.on_fail, containers);
    let promotable = world.services[world.top(service)].promotable;
    if let Some(wanted) = target_role(&world.services[service].config, promotable)
        && world.services[service].next_role.is_none_or(|r| wanted < r)
    {
        world.set_next_role(service, Some(wanted), "target-role");
    }
    let role = world.services[service].role;
    world.services[service].role = role.max(saved);
    Some(service)
}

fn operation<'o>(
    world: &mut World<'_>,
    service: Sx,
    node: Nx,
    op: &'o LrmOp,
    verdict: &mut Verdict<'o>,
) {
    let status = op.op_status.or(-2);
    if !(status::PENDING..=status::NO_SECRETS).contains(&status)
        || status == status::CANCELLED
        || matches!(&*op.operation, "notify" | "meta-data")
    {
        return;
    }
    let task = world.task(&op.operation);
    let mut record = Record {
        op,
        service,
        node,
        task,
        interval: op.interval.or(0),
        rc: op.rc_code.or(rc::UNKNOWN),
        status,
        expected: op.transition_key.value().map_or(-1, |k| k.target_rc),
    };
    let raw = record.rc;
    let expired = age::is_expired(world, &record);
    outcome::understand(world, &mut record, verdict, expired);
    if expired && raw != record.expected {
        let n = &world.nodes[node];
        if record.interval == 0 {
            return;
        }
        if n.online && !n.unclean {
            // The operation goes on and may have failed again unnoticed: it must begin anew.
            world.stale_ops.push((service, node, op.id.clone()));
            return;
        }
    }
    if record.is_masked(world) {
        outcome::masked(world, &record, verdict);
        return;
    }
    match record.status {
        status::PENDING => pending(world, &record, verdict),
        status::DONE => outcome::succeeded(world, &record, record.rc, verdict),
        _ => outcome::failed(world, &record, verdict),
    }
}

fn pending(world: &mut World<'_>, record: &Record<'_>, verdict: &Verdict<'_>) {
    // A failure under the same key that is newer means that the operation has ended.
    if let Some(failure) = verdict.last_failure
        && key(failure) == key(record.op)
        && failure.last_rc_change.or(-1) >= record.op.last_rc_change.or(-1)
    {
        return;
    }
    let service = record.service;
    match record.task {
        Task::Start => {
            world.services[service].start_pending = true;
            outcome::activate(world, service);
        }
        Task::Promote => world.services[service].role = Some(Role::Promoted),
        Task::MigrateTo if world.nodes[record.node].unclean => {
            // The source may have begun: the target must be stopped.
            let target = record.op.migrate_target.as_ref();
            if let Some(&target) = target.and_then(|t| world.node_by_name.get(t)) {
                crate::actions::make(world, service, Task::Stop, 0, Some(target), false);
            }
        }
        _ => {}
    }
    if world.services[service].pending.is_none() && !record.is_probe() {
        let what = record.op.operation.clone();
        world.services[service].pending = Some((what, record.node));
    }
}

/// The key that an operation is known by.
pub(super) fn key(op: &LrmOp) -> &str {
    op.operation_key.as_deref().unwrap_or(&op.id)
}

impl<'a> World<'a> {
    /// The recorded state of a node.
    pub(crate) fn node_state(&self, node: Nx) -> Option<&'a NodeState> {
        let n = &self.nodes[node];
        self.cib
            .node_states()
            .iter()
            .find(|s| s.id == n.id || s.uname.as_ref() == Some(&n.name))
    }

    /// What was done on a node, by service.
    pub(crate) fn node_history(&self, node: Nx) -> impl Iterator<Item = &'a LrmResource> + use<'a> {
        self.node_state(node).into_iter().flat_map(|s| s.history())
    }

    /// What was done to a service on a node.
    pub(super) fn ops_on(&self, service: Sx, node: Nx) -> &'a [LrmOp] {
        let id = &self.services[service].id;
        let mut histories = self.node_history(node);
        histories.find(|h| h.id == *id).map_or(&[], |h| &h.ops)
    }
}

/// Whether a migration's other end matters: see the module of that name.
pub(super) fn migrated(world: &mut World<'_>, record: &Record<'_>) {
    migration::succeeded(world, record);
}
