//! What becomes of a service after all that was done to it on a node.

use super::{
    membership::{fail, must_fence},
    running,
};
use crate::{
    actions,
    model::{Fail, Nx, Sx, Task, World},
    report::Why,
};
use mainstay_cib::value::{Role, Score};

/// Settles where and in which role a service is, and what must be done for its failures.
pub(super) fn settle(
    world: &mut World<'_>,
    service: Sx,
    node: Nx,
    on_fail: Fail,
    containers: &mut Vec<Sx>,
) {
    remember(world, service, node);
    lost_with_node(world, service, node);
    // A node that is fenced takes its failures with it.
    let on_fail = if world.nodes[node].unclean {
        Fail::Ignore
    } else {
        on_fail
    };
    react(world, service, node, on_fail, containers);
    let s = &world.services[service];
    if s.failed
        && s.is_remote
        && let Some(&own) = world.node_by_name.get(&s.id)
        && world.nodes[own].unclean
    {
        // A broken connection to an unclean node is reason enough to fence it.
        world.nodes[own].unseen = false;
    }
    if world.services[service].is_active() {
        running::add(world, service, node);
        match on_fail {
            Fail::Ignore => {}
            Fail::Demote | Fail::Block => world.services[service].failed = true,
            _ => fail(world, service),
        }
    } else if world.services[service]
        .history_name
        .as_ref()
        .is_some_and(|n| n.contains(':'))
    {
        world.services[service].history_name = None;
    } else {
        for stop in actions::find_all(world, service, Task::Stop, Some(node)) {
            world.actions[stop].optional = true;
        }
    }
    // A stop at the source does not undo what the migration did at the target.
    let s = &mut world.services[service];
    if s.role == Some(Role::Stopped)
        && s.migration.is_some_and(|(source, _)| source == node)
        && !s.running_on.is_empty()
    {
        s.role = Some(Role::Started);
    }
}

/// The state on this node is known, whatever it is; for equal instances, of all of them.
fn remember(world: &mut World<'_>, service: Sx, node: Nx) {
    if world.services[service].role.is_none() {
        return;
    }
    let mut at = Some(service);
    while let Some(s) = at {
        let one = &mut world.services[s];
        if !one.known_on.contains(&node) {
            one.known_on.push(node);
        }
        at = if one.unique { None } else { one.parent };
    }
}

/// A node that is down and may still run a service must be fenced.
fn lost_with_node(world: &mut World<'_>, service: Sx, node: Nx) {
    let (s, n) = (&world.services[service], &world.nodes[node]);
    if !s.is_active() || n.online || n.maintenance || !s.managed {
        return;
    }
    let id = s.id.clone();
    let mut why = format!("{id} is thought to be active there");
    if world.is_guest(node) {
        fail(world, service);
    } else if !world.options.fencing {
        return;
    } else if world.is_remote(node)
        && let Some(connection) = world.nodes[node].connection
        && !world.services[connection].failed
    {
        // The connection may come up elsewhere; then there is no need.
        world.nodes[node].unseen = true;
        why = format!(
            "{id} is active there (fencing will be revoked if remote connection can be \
             re-established elsewhere)"
        );
    }
    must_fence(world, node, &why, false);
}

fn react(world: &mut World<'_>, service: Sx, node: Nx, on_fail: Fail, containers: &mut Vec<Sx>) {
    let active = world.services[service].is_active();
    let stop = |world: &mut World<'_>, what: Sx| {
        actions::make(world, what, Task::Stop, 0, Some(node), false);
    };
    match on_fail {
        Fail::Ignore => {}
        Fail::Demote => {
            world.services[service].failed = true;
            actions::make(world, service, Task::Demote, 0, Some(node), false);
        }
        Fail::Fence => {
            let why = format!("{} failed there", world.services[service].id);
            must_fence(world, node, &why, false);
        }
        Fail::Standby => {
            world.nodes[node].standby = true;
            world.nodes[node].standby_onfail = true;
        }
        Fail::Block => running::block(world, service),
        Fail::Migrate => {
            let why = Why::Fixed("it failed there");
            world.add_score(service, Some(node), Score::NEVER, &why);
        }
        Fail::Stop => world.set_next_role(service, Some(Role::Stopped), "on-fail=stop"),
        Fail::Recover => {
            if active {
                fail(world, service);
                stop(world, service);
            }
        }
        Fail::RestartContainer => {
            fail(world, service);
            match world.services[service].container {
                Some(container) if world.is_bundled(service) => containers.push(container),
                Some(container) => stop(world, container),
                None if active => stop(world, service),
                None => {}
            }
        }
        Fail::ResetRemote => {
            fail(world, service);
            reset(world, service);
            if active {
                stop(world, service);
            }
            if world.services[service].reconnect > 0 {
                world.set_next_role(service, Some(Role::Stopped), "remote reset");
            }
        }
    }
}

/// A connection that broke for good means that its node must be fenced.
fn reset(world: &mut World<'_>, service: Sx) {
    let s = &world.services[service];
    if !world.options.fencing || !s.is_remote {
        return;
    }
    if let Some(&node) = world.node_by_name.get(&s.id)
        && world.is_remote(node)
        && !world.nodes[node].was_fenced
    {
        must_fence(world, node, "remote connection is unrecoverable", false);
    }
}

/// Bans a service, and with it all instances that are like it, from every node.
pub(super) fn ban_everywhere(world: &mut World<'_>, service: Sx) {
    let top = world.top(service);
    let banned = if world.is_anonymous_clone(top) {
        top
    } else {
        service
    };
    for n in 0..world.nodes.len() {
        let node = &world.nodes[n];
        let (score, discover) = (node.score, node.discover);
        world.services[banned]
            .allowed
            .entry(n, score, discover)
            .score = Score::NEVER;
    }
}
