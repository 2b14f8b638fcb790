//! What one recorded operation means for its service.

use super::{
    fate::ban_everywhere,
    history::{self, Record, Verdict, key, rc, status},
    migration, running,
};
use crate::{
    actions::failure_policy,
    model::{Fail, Sx, Task, World},
    report::Why,
};
use mainstay_cib::value::{Role, Score};

/// Finds out whether the operation did what it should, whatever the executor thought of it.
pub(super) fn understand(
    world: &mut World<'_>,
    record: &mut Record<'_>,
    verdict: &mut Verdict<'_>,
    expired: bool,
) {
    if record.task == Task::Monitor {
        record.rc = match record.rc {
            rc::DEGRADED => rc::OK,
            rc::DEGRADED_PROMOTED => rc::PROMOTED,
            other => other,
        };
    }
    if record.is_masked(world) && (record.status != status::DONE || record.rc != rc::NOT_RUNNING) {
        record.status = status::DONE;
        record.rc = rc::NOT_RUNNING;
    }
    match record.status {
        status::DONE | status::ERROR => {}
        status::NO_FENCE_DEVICE | status::NO_SECRETS => {
            record.status = status::ERROR_HARD;
            return;
        }
        _ => return,
    }
    let as_expected = record.rc == record.expected;
    let probe = record.is_probe();
    let service = record.service;
    record.status = if as_expected {
        status::DONE
    } else {
        status::ERROR
    };
    match record.rc {
        rc::OK => {
            if probe && record.expected == rc::NOT_RUNNING {
                record.status = status::DONE;
            }
        }
        rc::NOT_RUNNING => {
            if probe || as_expected || !world.services[service].managed {
                record.status = status::DONE;
                world.services[service].role = Some(Role::Stopped);
                verdict.on_fail = Fail::Ignore;
                world.set_next_role(service, None, "not running");
            }
        }
        rc::PROMOTED | rc::DEGRADED_PROMOTED => {
            if probe && !as_expected {
                record.status = status::DONE;
            }
            if !expired || as_expected {
                world.services[service].role = Some(Role::Promoted);
            }
        }
        rc::FAILED_PROMOTED => {
            world.services[service].role = Some(Role::Promoted);
            record.status = status::ERROR;
        }
        rc::NOT_CONFIGURED => record.status = status::ERROR_FATAL,
        rc::UNIMPLEMENTED if record.interval > 0 => record.status = status::NOT_SUPPORTED,
        rc::UNIMPLEMENTED | rc::NOT_INSTALLED | rc::INVALID_PARAM | rc::INSUFFICIENT_PRIV => {
            if !expired {
                block_if_stuck(world, record);
            }
            record.status = status::ERROR_HARD;
        }
        _ => {
            if record.status == status::DONE {
                record.status = status::ERROR;
            }
        }
    }
}

/// A stop that failed for good, on a node that cannot be fenced, leaves nothing to be done.
fn block_if_stuck(world: &mut World<'_>, record: &Record<'_>) {
    if record.task == Task::Stop && !world.can_fence(record.node) {
        running::block(world, record.service);
    }
}

/// A question that made no sense: the service is not there, and cannot be.
pub(super) fn masked(world: &mut World<'_>, record: &Record<'_>, verdict: &mut Verdict<'_>) {
    let banned = world.banned_with(record.service);
    succeeded(world, record, record.expected, verdict);
    let why = Why::Fixed("it is not installed there");
    world.add_score(banned, Some(record.node), Score::NEVER, &why);
}

impl World<'_> {
    /// What must stay away from a node if a service must: instances that are like it too.
    pub(super) fn banned_with(&self, service: Sx) -> Sx {
        if self.services[service].unique {
            service
        } else {
            self.top(service)
        }
    }
}

/// The state of a service after an operation that ended with this result.
pub(super) fn succeeded(
    world: &mut World<'_>,
    record: &Record<'_>,
    code: i32,
    verdict: &mut Verdict<'_>,
) {
    let service = record.service;
    let mut clears = false;
    if code == rc::NOT_INSTALLED || record.is_masked(world) {
        world.services[service].role = Some(Role::Stopped);
    } else if code == rc::NOT_RUNNING {
        clears = true;
    } else {
        let mut role = |role| world.services[service].role = Some(role);
        match record.task {
            Task::Monitor => {
                clears = verdict
                    .last_failure
                    .is_some_and(|f| key(f) == key(record.op));
                activate_if_down(world, service);
            }
            Task::Start | Task::MigrateFrom => {
                role(Role::Started);
                clears = true;
            }
            Task::Stop => {
                role(Role::Stopped);
                clears = true;
            }
            Task::Promote => {
                role(Role::Promoted);
                clears = true;
            }
            Task::Demote => {
                role(Role::Unpromoted);
                clears = verdict.on_fail == Fail::Demote;
            }
            Task::MigrateTo => history::migrated(world, record),
            _ => activate_if_down(world, service),
        }
    }
    if clears {
        clear(world, service, verdict);
    }
}

/// What a success makes up for.
fn clear(world: &mut World<'_>, service: Sx, verdict: &mut Verdict<'_>) {
    match verdict.on_fail {
        Fail::Stop | Fail::Fence | Fail::Migrate | Fail::Standby => return,
        Fail::ResetRemote if world.services[service].reconnect > 0 => return,
        _ => {}
    }
    verdict.on_fail = Fail::Ignore;
    world.set_next_role(service, None, "clear past failures");
}

fn activate_if_down(world: &mut World<'_>, service: Sx) {
    if world.services[service].role < Some(Role::Started) {
        activate(world, service);
    }
}

/// Takes a service for active, in the lowest role that it can be in then.
pub(super) fn activate(world: &mut World<'_>, service: Sx) {
    let promotable = world.services[world.top(service)].promotable;
    let role = if promotable {
        Role::Unpromoted
    } else {
        Role::Started
    };
    world.services[service].role = Some(role);
}

/// The operation did not do what it should.
pub(super) fn failed<'o>(world: &mut World<'_>, record: &Record<'o>, verdict: &mut Verdict<'o>) {
    let service = record.service;
    let (policy, _) = failure_policy(world, service, record.task, record.interval);
    let banned = world.banned_with(service);
    if record.status == status::NOT_INSTALLED {
        if policy == Fail::Ignore {
            verdict.on_fail = Fail::Migrate;
        }
        let why = Why::Fixed("its agent is not installed there");
        world.add_score(banned, Some(record.node), Score::NEVER, &why);
        take_in(world, record, verdict);
        return;
    }
    if record.status == status::NOT_CONNECTED
        && let Some(connection) = world.nodes[record.node].connection
        && world.services[connection].managed
    {
        super::membership::fail(world, connection);
    }
    let ignored =
        policy == Fail::Ignore || policy == Fail::RestartContainer && record.task == Task::Stop;
    if ignored {
        succeeded(world, record, record.expected, verdict);
        world.services[service].failure_ignored = true;
        if policy == Fail::RestartContainer && verdict.on_fail <= Fail::Recover {
            verdict.on_fail = policy;
        }
        return;
    }
    take_in(world, record, verdict);
    if record.status == status::ERROR_HARD {
        let why = Why::Fixed("it failed there in a way that would come again");
        world.add_score(banned, Some(record.node), Score::NEVER, &why);
    } else if record.status == status::ERROR_FATAL {
        let why = Why::Fixed("it failed in a way that would come again anywhere");
        world.add_score(banned, None, Score::NEVER, &why);
    }
}

/// The state of a service after a failure, and what follows.
fn take_in<'o>(world: &mut World<'_>, record: &Record<'o>, verdict: &mut Verdict<'o>) {
    let service = record.service;
    verdict.last_failure = Some(record.op);
    let (policy, role_after) = failure_policy(world, service, record.task, record.interval);
    verdict.on_fail = verdict.on_fail.max(policy);
    match record.task {
        Task::Stop => {
            let why = Why::Fixed("it could not be stopped there");
            world.add_score(service, Some(record.node), Score::NEVER, &why);
        }
        Task::MigrateTo => migration::to_failed(world, record),
        Task::MigrateFrom => migration::from_failed(world, record),
        Task::Promote => world.services[service].role = Some(Role::Promoted),
        Task::Demote if policy == Fail::Block => {
            world.services[service].role = Some(Role::Promoted);
            world.set_next_role(service, Some(Role::Stopped), "demote with on-fail=block");
        }
        // To take it for promoted still would mean to demote it for ever.
        Task::Demote if record.rc == rc::NOT_RUNNING => {
            world.services[service].role = Some(Role::Stopped);
        }
        Task::Demote => world.services[service].role = Some(Role::Unpromoted),
        _ => {}
    }
    if record.is_probe() && record.rc == rc::NOT_INSTALLED {
        world.services[service].role = Some(Role::Stopped);
    } else {
        activate_if_down(world, service);
    }
    if role_after != Role::Started && world.services[service].next_role < Some(role_after) {
        world.set_next_role(service, Some(role_after), "failure");
    }
    if role_after == Role::Stopped {
        ban_everywhere(world, service);
    }
}
