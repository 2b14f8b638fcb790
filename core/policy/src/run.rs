//! Playing a plan to its end, as if everything succeeded: the state of the cluster afterwards.

use crate::{
    model::{Ax, FenceOp, Nx, Sx, Task, World},
    states::rc,
};
use mainstay_cib::{
    Attr, Cib,
    status::{Lrm, LrmOp, LrmResource, LrmResources, NodeState},
    text::Str,
    value::{Membership, TransitionKey, TransitionMagic},
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

/// The configuration and the status that it has when the plan has been carried out.
pub(crate) fn play(world: &World<'_>, player: Player) -> Cib {
    let mut cib = world.cib.clone();
    for at in in_order(world) {
        let action = &world.actions[at];
        if action.pseudo {
            continue;
        }
        match (action.task, action.service, action.node) {
            (Task::Fence(op), None, Some(node)) if op != FenceOp::On => {
                fence(&mut cib, world, node);
            }
            (Task::Cancel, ..) if player == Player::Node => {}
            (Task::Notify(..) | Task::ClearFailCount, ..) => {}
            (Task::Delete | Task::Forget, Some(service), Some(node)) => {
                forget(&mut cib, world, service, node);
            }
            (_, Some(service), Some(node)) => operate(&mut cib, world, (at, service, node)),
            _ => {}
        }
    }
    cib
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

fn histories<'c>(cib: &'c mut Cib, world: &World<'_>, node: Nx) -> &'c mut Vec<LrmResource> {
    let state = state(cib, world, node);
    let lrm = state.lrm.get_or_insert_with(Lrm::default);
    &mut lrm
        .resources
        .get_or_insert_with(LrmResources::default)
        .items
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
    let list = histories(cib, world, node);
    let name = name_on(world, service, list);
    list.retain(|h| h.id != name);
}

fn operate(cib: &mut Cib, world: &World<'_>, (at, service, node): (Ax, Sx, Nx)) {
    let action = &world.actions[at];
    let config = &world.services[service].config;
    let list = histories(cib, world, node);
    let name = name_on(world, service, list);
    let place = list.iter().position(|h| h.id == name).unwrap_or_else(|| {
        list.push(LrmResource {
            id: name.clone(),
            agent: config.agent.clone(),
            class: config.class.clone(),
            provider: Some(config.provider.clone()).filter(|p| !p.is_empty()),
            ..LrmResource::default()
        });
        list.len() - 1
    });
    let history = &mut list[place];
    // A service that took new parameters over is as if it had been started with them.
    let task = match action.task {
        Task::Reload => Task::Start,
        other => other,
    };
    let task_name = world.task_name(task);
    let key = format!("{name}_{task_name}_{}", action.interval);
    let id = match task {
        Task::MigrateTo | Task::MigrateFrom => key.clone(),
        _ if action.interval > 0 => key.clone(),
        _ => format!("{name}_last_0"),
    };
    let call = history
        .ops
        .iter()
        .map(|o| o.call_id.or(0))
        .max()
        .unwrap_or(0)
        .max(0)
        + 1;
    let result = action.target_rc.unwrap_or(rc::OK);
    let by = TransitionKey {
        action: 0,
        transition: -1,
        target_rc: result,
        uuid: "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx".to_owned(),
    };
    let end = |n: Nx| Some(world.nodes[n].name.clone());
    let op = LrmOp {
        id: id.as_str().into(),
        operation_key: Some(key.as_str().into()),
        operation: task_name.into(),
        transition_magic: Attr::of(TransitionMagic {
            op_status: 0,
            rc: result,
            key: by.clone(),
        }),
        transition_key: Attr::of(by),
        call_id: Attr::of(call),
        rc_code: Attr::of(result),
        op_status: Attr::of(0),
        interval: Attr::of(action.interval),
        last_rc_change: Attr::of(world.now),
        migrate_source: action.migration.and_then(|(source, _)| end(source)),
        migrate_target: action.migration.and_then(|(_, target)| end(target)),
        ..LrmOp::default()
    };
    match history.ops.iter_mut().find(|o| *o.id == *id) {
        Some(former) => *former = op,
        None => history.ops.push(op),
    }
}
