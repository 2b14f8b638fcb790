//! What is configured for an operation: its entry, and what follows when it fails.

use crate::model::{Fail, OpDef, Sx, Task, World};
use mainstay_cib::{text::Str, value::Role};

/// The entry for an operation; disabled ones too. Migrations have a common entry by their former
/// name, if they have none of their own.
pub(crate) fn op_def<'w>(
    world: &'w World<'_>,
    service: Sx,
    task: Task,
    interval: u64,
) -> Option<&'w OpDef> {
    let ops = &world.services[service].config.ops;
    let name = world.task_name(task);
    let named = |name: &str| {
        ops.iter()
            .find(|op| *op.name == *name && op.interval == interval)
    };
    named(name).or_else(|| match task {
        Task::MigrateTo | Task::MigrateFrom => named("migrate"),
        _ => None,
    })
}

/// What follows when an operation fails, and the role that the service may have then at most
/// (`Started` for any).
pub(crate) fn failure_policy(
    world: &World<'_>,
    service: Sx,
    task: Task,
    interval: u64,
) -> (Fail, Role) {
    let s = &world.services[service];
    let fencing = world.options.fencing;
    let usual = if task == Task::Promote {
        Role::Unpromoted
    } else {
        Role::Started
    };
    let asked = asked_for(world, service, task, interval);
    let contained = s.container.is_some();
    let found = match asked.as_deref() {
        Some("block") => Some((Fail::Block, usual)),
        Some("fence") if fencing => Some((Fail::Fence, usual)),
        Some("fence" | "stop") => Some((Fail::Stop, Role::Stopped)),
        Some("standby") => Some((Fail::Standby, usual)),
        Some("ignore" | "nothing") => Some((Fail::Ignore, usual)),
        Some("migrate") => Some((Fail::Migrate, usual)),
        Some("restart") => Some((Fail::Recover, usual)),
        Some("restart-container") if contained => Some((Fail::RestartContainer, usual)),
        Some("demote") => Some((Fail::Demote, usual)),
        _ => None,
    };
    if found.is_none() && contained {
        return (Fail::RestartContainer, usual);
    }
    // A connection that breaks leaves a node whose state nobody knows; one that could not be made,
    // or was only asked for, does not.
    let breaks = !(task == Task::Monitor && interval == 0) && task != Task::Start;
    if s.is_remote && breaks && (found.is_none() || !s.managed) {
        return match (s.managed, s.reconnect) {
            (false, _) => (Fail::Stop, Role::Stopped),
            (true, 0) => (Fail::ResetRemote, usual),
            (true, _) => (Fail::ResetRemote, Role::Stopped),
        };
    }
    found.unwrap_or(match task {
        Task::Stop if fencing => (Fail::Fence, usual),
        Task::Stop => (Fail::Block, usual),
        _ => (Fail::Recover, usual),
    })
}

/// What people ask for, as far as it can be had for this operation.
fn asked_for(world: &World<'_>, service: Sx, task: Task, interval: u64) -> Option<String> {
    if task == Task::Forget {
        return Some("ignore".to_owned());
    }
    let entry = op_def(world, service, task, interval);
    let defaults = || world.op_default(service, task, interval, "on-fail");
    let asked = match entry {
        Some(op) => op.meta.get("on-fail").cloned(),
        None => defaults(),
    };
    let asked = asked.map(|v| v.to_lowercase());
    match (task, asked.as_deref()) {
        (Task::Stop, Some("standby")) => None,
        (Task::Demote, None) => after_demotion(&world.services[service].config.ops),
        (_, Some("demote")) => {
            let promoted = entry.is_some_and(|op| op.role == Some(Role::Promoted));
            let watches = task == Task::Monitor && interval > 0 && promoted;
            (task == Task::Promote || watches).then(|| "demote".to_owned())
        }
        _ => asked,
    }
}

/// A failed demotion is dealt with like a failed monitor of the promoted role.
fn after_demotion(ops: &[OpDef]) -> Option<String> {
    let watches = |op: &&OpDef| {
        op.meta.contains_key("on-fail")
            && op.enabled
            && &*op.name == "monitor"
            && op.role == Some(Role::Promoted)
            && op.interval > 0
            && op.meta.get("on-fail").map(|v| &**v) != Some("demote")
    };
    let op = ops.iter().rfind(watches)?;
    op.meta.get("on-fail").map(|v| v.to_lowercase())
}

impl World<'_> {
    /// A default for operations, for one that has no entry.
    pub(crate) fn op_default(
        &self,
        service: Sx,
        task: Task,
        interval: u64,
        name: &str,
    ) -> Option<Str> {
        let config = &self.services[service].config;
        let asked = crate::rules::Asked {
            now: self.now,
            agent: Some((&config.class, &config.provider, &config.agent)),
            op: Some((self.task_name(task), interval)),
            ..crate::rules::Asked::default()
        };
        let mut values = crate::model::Values::new();
        crate::rules::collect(self.index, self.cib.op_defaults(), asked, None, &mut values);
        values.remove(name)
    }

    /// The name of a task as agents and histories know it.
    pub(crate) fn task_name(&self, task: Task) -> &str {
        match task {
            Task::Start => "start",
            Task::Started => "running",
            Task::Stop => "stop",
            Task::Stopped => "stopped",
            Task::Promote => "promote",
            Task::Promoted => "promoted",
            Task::Demote => "demote",
            Task::Demoted => "demoted",
            Task::Monitor => "monitor",
            Task::MigrateTo => "migrate_to",
            Task::MigrateFrom => "migrate_from",
            Task::Notify(..) => "notify",
            Task::Notified(..) => "notified",
            Task::Cancel => "cancel",
            Task::ClearFailCount => "clear_failcount",
            Task::Delete => "delete",
            Task::Forget => "lrm_delete",
            Task::Reload => "reload-agent",
            Task::Fence(_) => "stonith",
            Task::Shutdown => "do_shutdown",
            Task::ProbeAgain => "probe_again",
            Task::Named(name) => &self.names[name as usize],
        }
    }

    /// The task of this name.
    pub(crate) fn task(&mut self, name: &str) -> Task {
        match name {
            "start" => Task::Start,
            "stop" => Task::Stop,
            "promote" => Task::Promote,
            "demote" => Task::Demote,
            "monitor" => Task::Monitor,
            "migrate_to" => Task::MigrateTo,
            "migrate_from" => Task::MigrateFrom,
            "delete" => Task::Delete,
            "lrm_delete" => Task::Forget,
            "reload-agent" | "reload" => Task::Reload,
            _ => {
                let known = self.names.iter().position(|n| **n == *name);
                let at = known.unwrap_or_else(|| {
                    self.names.push(name.into());
                    self.names.len() - 1
                });
                Task::Named(u32::try_from(at).unwrap_or(u32::MAX))
            }
        }
    }
}
