//! The steps of a plan.

use crate::{
    actions::router,
    model::{Ax, FenceOp, Task, World},
    report::reason,
};
use serde::Serialize;
use std::collections::BTreeMap;

/// What kind of step it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// An operation on a service, by an agent on a node.
    Operation,
    /// A change of the cluster's own state: a count of failures is cleared, a history forgotten, a
    /// node asked to shut down.
    Cluster,
    /// A node is fenced, or taken back.
    Fencing,
    /// Nothing is done; other steps wait for it.
    Event,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// What kind of step it is.
    pub kind: Kind,
    /// What is done: start, stop, monitor, probe, promote, demote, notify, migrate_to, migrate_from,
    /// cancel, reload-agent, delete, clear_failcount, do_shutdown, reboot, off, on … For an event,
    /// what begins or has ended.
    pub task: String,
    /// The service. Equal instances of a clone have one name.
    pub service: Option<String>,
    /// The instance of the service, if it is one.
    pub instance: Option<String>,
    /// The node.
    pub node: Option<String>,
    /// The member through which a remote node is reached.
    pub via: Option<String>,
    /// How often it recurs, in milliseconds; 0 for once.
    pub interval: u64,
    /// The result that means success, if that is not 0.
    pub target: Option<i32>,
    /// Nothing has to be done for it: fencing brings it about, or a migration.
    pub implied: bool,
    /// Why it is needed, if something else than the service itself asks for it.
    pub reason: Option<String>,
    /// The steps that it waits for, by their place in the list.
    pub waits_for: Vec<usize>,
    /// The step in one line.
    pub label: String,
}

/// The steps of a plan, with what each of them waits for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Graph {
    /// The steps.
    pub steps: Vec<Step>,
}

impl Graph {
    pub(crate) fn of(world: &World<'_>) -> Graph {
        let drawn: Vec<Ax> = world.drawn().collect();
        let places: BTreeMap<Ax, usize> = drawn.iter().copied().zip(0..).collect();
        let steps = drawn.iter().map(|&at| {
            let mut step = step(world, at);
            step.waits_for = world.inputs(at).map(|input| places[&input]).collect();
            step.waits_for.sort_unstable();
            step
        });
        Graph {
            steps: steps.collect(),
        }
    }

    /// The steps that are really done.
    pub fn done(&self) -> impl Iterator<Item = &Step> {
        let real = |s: &&Step| s.kind != Kind::Event && !s.implied;
        self.steps.iter().filter(real)
    }

    /// Whether one step waits for another one, at once or through others.
    #[must_use]
    pub fn waits(&self, step: usize, for_step: usize) -> bool {
        // Most often it does so at once.
        if self.steps[step].waits_for.contains(&for_step) {
            return true;
        }
        let mut seen = vec![false; self.steps.len()];
        let mut stack = self.steps[step].waits_for.clone();
        while let Some(at) = stack.pop() {
            if at == for_step {
                return true;
            }
            if !std::mem::replace(&mut seen[at], true) {
                stack.extend(&self.steps[at].waits_for);
            }
        }
        false
    }
}

pub(crate) fn kind(world: &World<'_>, at: Ax) -> Kind {
    let action = &world.actions[at];
    match action.task {
        Task::Fence(_) => Kind::Fencing,
        _ if action.pseudo => Kind::Event,
        Task::ProbeAgain => Kind::Operation,
        Task::ClearFailCount | Task::Forget | Task::Shutdown => Kind::Cluster,
        _ if action.service.is_none() => Kind::Cluster,
        _ => Kind::Operation,
    }
}

fn step(world: &World<'_>, at: Ax) -> Step {
    let action = &world.actions[at];
    let node = |n: usize| world.nodes[n].name.to_string();
    let task = match action.task {
        Task::Fence(op) => FenceOp::as_str(op),
        Task::Monitor if action.interval == 0 => "probe",
        task => world.task_name(task),
    };
    Step {
        kind: kind(world, at),
        task: task.to_owned(),
        service: action.service.map(|s| world.shown_name(s)),
        instance: action
            .service
            .filter(|s| world.services[*s].config.id != world.services[*s].id)
            .map(|s| world.services[s].id.to_string()),
        node: action.node.map(node),
        via: router(world, at).map(node),
        interval: action.interval,
        target: action.target_rc,
        implied: action.pseudo && action.node.is_some(),
        reason: reason(world, at),
        waits_for: Vec::new(),
        label: world.label(at),
    }
}
