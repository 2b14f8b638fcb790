//! Playing a plan to its end: the state of the cluster afterwards.

use crate::{
    model::{Ax, FenceOp, Nx, Sx, Task, World},
    record::{self, Counting, Done, histories},
    states::{counts_by_operation, rc},
    whatif::OpResult,
};
use mainstay_cib::{
    Attr, Cib,
    status::{LrmResource, NodeState},
    text::Str,
    value::{Membership, truth},
};
use std::collections::{BTreeMap, BTreeSet};

/// How a plan is played.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Player {
    /// As nodes would do it.
    Node,
    /// As the reference implementation's player does it, for comparisons: it writes a cancellation
    /// down like any other operation, and that counts as a sign of life even behind a stop.
    Reference,
}

/// What became of a plan.
#[derive(Clone, Debug)]
pub(crate) struct Played {
    /// The configuration, and the status afterwards.
    pub cib: Cib,
    /// What was done, in that order.
    pub done: Vec<String>,
    /// What failed. Nothing was begun after it.
    pub failed: Option<String>,
}

/// Plays a plan to its end, or to the first step of which a failure is given.
pub(crate) fn play(world: &World<'_>, player: Player, failing: &[OpResult]) -> Played {
    let mut played = Played {
        cib: world.cib.clone(),
        done: Vec::new(),
        failed: None,
    };
    for at in in_order(world) {
        let action = &world.actions[at];
        if action.pseudo {
            continue;
        }
        let cib = &mut played.cib;
        match (action.task, action.service, action.node) {
            (Task::Fence(op), None, Some(node)) if op != FenceOp::On => fence(cib, world, node),
            (Task::Cancel | Task::ClearFailCount | Task::Shutdown | Task::Fence(_), ..)
                if player == Player::Node =>
            {
                settle(cib, world, at);
            }
            (Task::ClearFailCount, ..) => {}
            (Task::Delete | Task::Forget, Some(service), Some(node)) => {
                forget(cib, world, service, node);
            }
            (task, Some(service), Some(node)) => {
                let meant = action.target_rc.unwrap_or(rc::OK);
                let result = failing.iter().find(|f| is_meant(world, at, f));
                let rc = result.map_or(meant, |f| f.rc);
                if rc == meant {
                    if !matches!(task, Task::Notify(..)) {
                        operate(cib, world, (at, service, node), rc, player);
                    }
                } else {
                    operate(cib, world, (at, service, node), rc, player);
                    played.failed = Some(world.label(at));
                    return played;
                }
            }
            _ => {}
        }
        played.done.push(world.label(at));
    }
    played
}

/// Whether a result is one of this action.
fn is_meant(world: &World<'_>, at: Ax, result: &OpResult) -> bool {
    let action = &world.actions[at];
    let (Some(service), Some(node)) = (action.service, action.node) else {
        return false;
    };
    let s = &world.services[service];
    let names = [&*s.id, &*s.config.id];
    names.contains(&result.service.as_str())
        && *world.nodes[node].name == *result.node
        && world.task_name(action.task) == result.task
        && action.interval == result.interval
}

/// The actions of the graph, each behind those that it waits for.
fn in_order(world: &World<'_>) -> Vec<Ax> {
    let mut waits: BTreeMap<Ax, usize> = BTreeMap::new();
    let mut after: BTreeMap<Ax, Vec<Ax>> = BTreeMap::new();
    for at in world.drawn() {
        let inputs: Vec<Ax> = world.inputs(at).collect();
        waits.insert(at, inputs.len());
        for input in inputs {
            after.entry(input).or_default().push(at);
        }
    }
    // Whoever plays goes through the list again and again, and does what can be done.
    let free = waits.iter().filter(|(_, n)| **n == 0);
    let mut pass: BTreeSet<Ax> = free.map(|(at, _)| *at).collect();
    let mut next_pass = BTreeSet::new();
    let mut order = Vec::new();
    while !pass.is_empty() {
        while let Some(at) = pass.pop_first() {
            order.push(at);
            for &next in after.get(&at).into_iter().flatten() {
                if let Some(n) = waits.get_mut(&next) {
                    *n -= 1;
                    if *n == 0 {
                        let when = if next > at { &mut pass } else { &mut next_pass };
                        when.insert(next);
                    }
                }
            }
        }
        pass = std::mem::take(&mut next_pass);
    }
    order
}

fn state<'c>(cib: &'c mut Cib, world: &World<'_>, node: Nx) -> &'c mut NodeState {
    let n = &world.nodes[node];
    let nodes = &mut cib.status_mut().nodes;
    let same = |s: &NodeState| s.id == n.id || s.uname.as_ref() == Some(&n.name);
    let at = nodes.iter().position(same).unwrap_or_else(|| {
        nodes.push(NodeState {
            id: n.id.clone(),
            uname: Some(n.name.clone()),
            ..NodeState::default()
        });
        nodes.len() - 1
    });
    &mut nodes[at]
}

/// Does what the reference's player only tells of.
fn settle(cib: &mut Cib, world: &World<'_>, at: Ax) {
    let action = &world.actions[at];
    match (action.task, action.service, action.node) {
        (Task::Cancel, Some(service), Some(node)) => cancel(cib, world, (at, service, node)),
        (Task::ClearFailCount, Some(service), Some(node)) => {
            clear_failures(cib, world, service, node);
        }
        (Task::Shutdown, None, Some(node)) => fence(cib, world, node),
        (Task::Fence(FenceOp::On), None, Some(node)) => unfence(cib, world, node),
        _ => {}
    }
}

/// What recurred does so no more.
fn cancel(cib: &mut Cib, world: &World<'_>, (at, service, node): (Ax, Sx, Nx)) {
    let action = &world.actions[at];
    let Some(task) = action.cancels.map(|task| world.task_name(task)) else {
        return;
    };
    let list = histories(state(cib, world, node));
    let name = name_on(world, service, list);
    for history in list.iter_mut().filter(|h| h.id == name) {
        history
            .ops
            .retain(|o| *o.operation != *task || o.interval.or(0) != action.interval);
    }
}

/// The failures of a service on a node count no more.
fn clear_failures(cib: &mut Cib, world: &World<'_>, service: Sx, node: Nx) {
    let plain = world.plain_name(service);
    let own = &world.services[service].id;
    let is_ours = |name: &str| {
        let rest = name
            .strip_prefix("fail-count-")
            .or_else(|| name.strip_prefix("last-failure-"));
        let rest = rest.map(|r| r.rsplit_once('#').map_or(r, |(r, _)| r));
        rest.is_some_and(|r| *r == *plain || *r == **own)
    };
    let transient = &mut state(cib, world, node).transient;
    for set in transient.iter_mut().flat_map(|t| &mut t.sets) {
        set.pairs
            .retain(|p| !p.name.as_deref().is_some_and(is_ours));
    }
}

/// A node that was taken back says since when.
fn unfence(cib: &mut Cib, world: &World<'_>, node: Nx) {
    let state = state(cib, world, node);
    record::set_attribute(state, "#node-unfenced", &world.now.to_string());
}

/// A node that was fenced is down, and what was done on it is over.
fn fence(cib: &mut Cib, world: &World<'_>, node: Nx) {
    let state = state(cib, world, node);
    state.in_ccm = Attr::of(Membership::No);
    state.crmd = Attr::spelled("offline");
    state.join = Some("down".into());
    state.expected = Some("down".into());
    state.lrm = None;
    state.transient.clear();
}

/// The name under which a node knows a service: without a number if numbers mean nothing.
fn name_on(world: &World<'_>, service: Sx, list: &[LrmResource]) -> Str {
    let s = &world.services[service];
    if s.unique || s.orphan {
        return s.history_name.clone().unwrap_or_else(|| s.id.clone());
    }
    let known = |name: &Str| list.iter().any(|h| h.id == *name);
    let plain = &s.config.id;
    let former = s.history_name.as_ref().unwrap_or(&s.id);
    if !known(plain) && known(former) {
        former.clone()
    } else {
        plain.clone()
    }
}

fn forget(cib: &mut Cib, world: &World<'_>, service: Sx, node: Nx) {
    let list = histories(state(cib, world, node));
    let name = name_on(world, service, list);
    list.retain(|h| h.id != name);
}

/// Writes down that an operation ended with a result.
fn operate(
    cib: &mut Cib,
    world: &World<'_>,
    (at, service, node): (Ax, Sx, Nx),
    rc: i32,
    player: Player,
) {
    let action = &world.actions[at];
    let config = &world.services[service].config;
    // A service that took new parameters over is as if it had been started with them.
    let task = match action.task {
        Task::Reload => Task::Start,
        other => other,
    };
    let end = |n: Nx| world.nodes[n].name.clone();
    let done = Done {
        task: world.task_name(task),
        interval: action.interval,
        rc,
        target: action.target_rc.unwrap_or(rc::OK),
        at: world.now,
        migration: action
            .migration
            .map(|(source, target)| (end(source), end(target))),
        digest: Some(crate::digest::of(
            world,
            service,
            node,
            task,
            action.interval,
        )),
    };
    // What could not be stopped is not tried again, nor is what could not be started, unless the
    // cluster is told to.
    let fatal = player == Player::Node
        && match task {
            Task::Start => {
                world.cib.option("start-failure-is-fatal").and_then(truth) != Some(false)
            }
            Task::Stop => true,
            _ => false,
        };
    let counting = Counting {
        by_operation: counts_by_operation(cib),
        fatal,
    };
    let state = state(cib, world, node);
    if rc != done.target {
        record::count_failure(state, &config.id, &done, counting);
    }
    let list = histories(state);
    let name = name_on(world, service, list);
    let place = list.iter().position(|h| h.id == name).unwrap_or_else(|| {
        list.push(LrmResource {
            id: name,
            agent: config.agent.clone(),
            class: config.class.clone(),
            provider: Some(config.provider.clone()).filter(|p| !p.is_empty()),
            ..LrmResource::default()
        });
        list.len() - 1
    });
    record::write(&mut list[place], &done);
}
