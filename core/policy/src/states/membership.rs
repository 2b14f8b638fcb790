//! Whether nodes are up, and who must be fenced.

use crate::{
    actions,
    model::{NoQuorum, NodeKind, Nx, World},
    unpack::add_attributes,
};
use mainstay_cib::{
    status::NodeState,
    value::{Membership, Role, Score, truth},
};

/// Takes in what is known of a member; of other nodes, only whether they were fenced.
pub(super) fn state(world: &mut World<'_>, node: Nx, state: &NodeState) {
    if world.nodes[node].kind == NodeKind::Remote {
        let fenced = state.node_fenced.as_deref().unwrap_or("0");
        world.nodes[node].was_fenced = fenced != "0" && !fenced.is_empty();
        return;
    }
    let mut n = std::mem::take(&mut world.nodes[node]);
    n.unclean = false;
    n.unseen = false;
    for sets in &state.transient {
        add_attributes(world, &mut n, &sets.sets, true);
    }
    n.standby = n.has("standby");
    n.maintenance = n.has("maintenance");
    n.shutdown = asks_for_shutdown(n.attribute("shutdown"));
    n.expected_up = !n.shutdown && state.expected.as_deref() == Some("member");
    world.nodes[node] = n;
    let online = if world.nodes[node].kind == NodeKind::Ping {
        false
    } else if world.options.fencing {
        with_fencing(world, node, state)
    } else {
        without_fencing(world, node, state)
    };
    let n = &mut world.nodes[node];
    n.online = online;
    if !online || n.shutdown {
        n.score = Score::NEVER;
    }
    if !world.quorate && online && world.options.no_quorum == NoQuorum::Suicide {
        must_fence(world, node, "cluster does not have quorum", false);
    }
}

fn asks_for_shutdown(attribute: Option<&str>) -> bool {
    attribute.is_some_and(|v| v != "0")
}

fn is_up(state: &NodeState) -> (Option<bool>, bool) {
    let yes = |m: Option<Membership>| m.map(Membership::is_yes);
    (yes(state.in_ccm.get()), yes(state.crmd.get()) == Some(true))
}

/// Without fencing, a node that should be there and is not is a problem only if it is a member still.
fn without_fencing(world: &mut World<'_>, node: Nx, state: &NodeState) -> bool {
    let (member, controller) = is_up(state);
    if member != Some(true) {
        return false;
    }
    if controller {
        return state.join.as_deref() == Some("member");
    }
    if world.nodes[node].expected_up {
        must_fence(world, node, "peer is unexpectedly down", false);
    }
    false
}

/// With fencing, every node that is not fully there or fully gone must be fenced.
fn with_fencing(world: &mut World<'_>, node: Nx, state: &NodeState) -> bool {
    let (member, controller) = is_up(state);
    let online = member == Some(true);
    let join = state.join.as_deref().unwrap_or("").to_lowercase();
    let expected = state.expected.as_deref().unwrap_or("down");
    let terminate = world.nodes[node].attribute("terminate").is_some_and(|v| {
        let as_time = v.starts_with(|c: char| c.is_ascii_digit() && c != '0');
        truth(v) == Some(true) || as_time
    });
    if world.nodes[node].shutdown {
        return controller;
    }
    let mut fence = |why, delay| must_fence(world, node, why, delay);
    if member.is_none() {
        fence("peer has not been seen by the cluster", false);
    } else if join == "nack" || join == "banned" {
        fence("peer failed Pacemaker membership criteria", false);
    } else if !terminate && expected.eq_ignore_ascii_case("down") {
        if online || controller {
            waits(world, node);
        }
    } else if terminate && join == "down" && !online && !controller {
        return false;
    } else if !online {
        fence("peer is no longer part of the cluster", true);
    } else if !controller {
        fence("peer process is no longer available", false);
    } else if terminate {
        fence("termination was requested", false);
    } else if join == "pending" || join == "down" {
        waits(world, node);
    } else if join != "member" {
        fence("peer was in an unknown state", false);
    }
    online
}

/// It is on its way up, and not ready for services yet.
fn waits(world: &mut World<'_>, node: Nx) {
    world.nodes[node].standby = true;
    world.nodes[node].pending = true;
}

/// Marks a node as one that must be fenced. A guest is "fenced" by restarting what it is in.
pub(crate) fn must_fence(world: &mut World<'_>, node: Nx, why: &str, _delay: bool) {
    if let Some(container) = world.container_of_guest(node) {
        let c = &world.services[container];
        if !c.failed && c.managed {
            world.nodes[node].needs_reset = true;
            fail(world, container);
        }
        return;
    }
    if world.nodes[node].kind == NodeKind::Remote
        && let Some(connection) = world.nodes[node].connection
        && world.services[connection].orphan_filler
    {
        world.nodes[node].needs_reset = true;
        fail(world, connection);
        return;
    }
    let is_remote = world.is_remote(node);
    if is_remote {
        if world.nodes[node]
            .connection
            .is_none_or(|c| world.services[c].managed)
        {
            world.nodes[node].needs_reset = true;
        }
    } else if world.nodes[node].unclean {
        return;
    }
    world.nodes[node].unclean = true;
    world.nodes[node]
        .fence_reason
        .get_or_insert_with(|| why.to_owned());
    actions::fence_action(world, node, None, false, Some(why));
}

/// Marks a service as failed so that it must be stopped.
pub(super) fn fail(world: &mut World<'_>, service: crate::model::Sx) {
    world.services[service].failed = true;
    world.services[service].must_stop = true;
}

/// Whether a node that a service brings about is up.
pub(super) fn remote(world: &mut World<'_>, node: Nx) {
    let Some(connection) = world.nodes[node].connection else {
        world.nodes[node].online = false;
        return;
    };
    let s = &world.services[connection];
    let container = s.container.map(|c| &world.services[c]);
    let host = match (&container, s.running_on.as_slice()) {
        (Some(_), [one]) => Some(&world.nodes[*one]),
        _ => None,
    };
    let started = s.role == Some(Role::Started);
    let stopped = |r: Option<Role>| r == Some(Role::Stopped);
    let stopping = started && stopped(s.next_role);
    let (mut online, mut reset) = (started, None);
    if container.is_some_and(|c| c.failed) {
        (online, reset) = (false, Some(true));
    } else if s.failed {
        online = false;
    } else if stopped(s.role) || container.is_some_and(|c| stopped(c.role)) {
        (online, reset) = (false, Some(false));
    } else if host.is_some_and(|h| !h.online && h.unclean) {
        (online, reset) = (false, Some(true));
    }
    let n = &mut world.nodes[node];
    n.online = online;
    n.shutdown |= stopping;
    n.needs_reset = reset.unwrap_or(n.needs_reset);
}

/// Takes in the attributes of a node that a service brings about.
pub(super) fn remote_attributes(world: &mut World<'_>, node: Nx, state: &NodeState) {
    let mut n = std::mem::take(&mut world.nodes[node]);
    let in_maintenance = state.node_in_maintenance.as_deref().unwrap_or("0");
    n.remote_maintenance = in_maintenance != "0" && !in_maintenance.is_empty();
    if !n.needs_reset {
        n.unclean = false;
        n.unseen = false;
    }
    for sets in &state.transient {
        add_attributes(world, &mut n, &sets.sets, true);
    }
    let unmanaged = n.connection.is_some_and(|c| !world.services[c].managed);
    n.shutdown |= asks_for_shutdown(n.attribute("shutdown"));
    n.standby |= n.has("standby");
    n.maintenance |= n.has("maintenance") || unmanaged;
    let unasked = n
        .attribute("resource-discovery-enabled")
        .is_some_and(|v| truth(v) != Some(true));
    world.nodes[node] = n;
    if unasked && (world.options.fencing || world.is_guest(node)) {
        world.nodes[node].discovery = false;
    }
}
