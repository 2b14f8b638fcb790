//! What became of nodes and services.

use super::{
    NOW, Node,
    dice::Dice,
    maybe, pairs,
    resources::{Leaf, Resources, Shape},
};
use crate::xml::{Tag, tag};

/// The state of a cluster.
pub(super) fn some(dice: &mut Dice, made: &Resources, nodes: &[Node]) -> Tag {
    let mut status = tag("status");
    if dice.percent(30) {
        let mut tickets = tag("tickets");
        for name in ["east", "west"] {
            if dice.percent(70) {
                let granted = dice.one(super::BOTH);
                let mut ticket = tag("ticket_state")
                    .with("id", name)
                    .with("granted", granted);
                if dice.percent(15) {
                    ticket.set("standby", "true");
                }
                tickets.push(ticket);
            }
        }
        status.push(tickets);
    }
    // Where each service is supposed to be, so that most clusters make sense.
    let homes: Vec<u64> = made
        .leaves
        .iter()
        .map(|_| dice.between(0, nodes.len() as u64))
        .collect();
    let together = dice
        .percent(50)
        .then(|| dice.between(0, nodes.len() as u64));
    for (number, node) in (1..).zip(nodes) {
        if dice.percent(5) {
            continue;
        }
        let mut state = membership(dice, node);
        let mut resources = tag("lrm_resources");
        for (leaf, home) in made.leaves.iter().zip(&homes) {
            let home = together.unwrap_or(*home);
            let place = Place {
                node: &node.name,
                nodes,
            };
            if let Some(history) = history(dice, leaf, home == number, &place) {
                resources.push(history);
            }
        }
        if dice.percent(4) {
            resources.push(orphan(dice));
        }
        state.push(attributes(dice, made, &node.id));
        state.push(tag("lrm").with("id", &node.id).holding(resources));
        status.push(state);
    }
    for (name, _) in &made.remote {
        if dice.percent(60) {
            let mut state = tag("node_state")
                .with("id", name)
                .with("uname", name)
                .with("remote_node", "true");
            let mut resources = tag("lrm_resources");
            for leaf in &made.leaves {
                let fits =
                    leaf.class == "ocf" && leaf.guest.is_none() && !leaf.id.starts_with("vm");
                if fits && leaf.shape != Shape::Bundle && dice.percent(40) {
                    let here = dice.percent(20);
                    if let Some(history) = history(dice, leaf, here, &Place { node: name, nodes }) {
                        resources.push(history);
                    }
                }
            }
            state.push(tag("lrm").with("id", name).holding(resources));
            status.push(state);
        }
    }
    status
}

fn membership(dice: &mut Dice, node: &Node) -> Tag {
    let (in_ccm, crmd, join, expected) = match dice.between(1, 100) {
        1..=80 => ("true", "online", "member", "member"),
        81..=86 => ("false", "offline", "down", "down"),
        87..=91 => ("false", "offline", "member", "member"),
        92..=94 => ("true", "online", "pending", "member"),
        95..=97 => ("true", "offline", "member", "member"),
        _ => ("true", "online", "down", "down"),
    };
    tag("node_state")
        .with("id", &node.id)
        .with("uname", &node.name)
        .with("in_ccm", in_ccm)
        .with("crmd", crmd)
        .with("join", join)
        .with("expected", expected)
}

fn attributes(dice: &mut Dice, made: &Resources, node: &str) -> Tag {
    let mut values = Vec::new();
    maybe(dice, &mut values, 4, "shutdown", &["1699999000"]);
    maybe(dice, &mut values, 2, "terminate", &["true"]);
    maybe(
        dice,
        &mut values,
        10,
        "#health-disk",
        &["red", "yellow", "green", "-20"],
    );
    let mut values: Vec<(String, String)> =
        values.into_iter().map(|(n, v)| (n.to_owned(), v)).collect();
    for leaf in &made.leaves {
        if leaf.shape == Shape::Promotable && dice.percent(50) {
            let score = dice.one(&["5", "10", "100", "INFINITY", "-INFINITY", "1"]);
            values.push((format!("master-{}", leaf.id), (*score).to_owned()));
        }
        if dice.percent(6) {
            let count = dice.one(&["1", "2", "INFINITY"]);
            let operation = dice.one(&["#monitor_10000", "#start_0", ""]);
            values.push((
                format!("fail-count-{}{operation}", leaf.id),
                (*count).to_owned(),
            ));
            let when = NOW - i64::try_from(dice.between(5, 200)).unwrap_or(5);
            values.push((
                format!("last-failure-{}{operation}", leaf.id),
                when.to_string(),
            ));
        }
    }
    let borrowed: Vec<(&str, String)> = values
        .iter()
        .map(|(n, v)| (n.as_str(), v.clone()))
        .collect();
    let mut attributes = tag("transient_attributes").with("id", node);
    attributes.push(pairs(dice, "instance_attributes", &borrowed));
    attributes
}

/// Where something was done.
struct Place<'a> {
    node: &'a str,
    nodes: &'a [Node],
}

/// An operation that was done.
struct Done {
    name: &'static str,
    interval: u64,
    expected: i32,
    rc: i32,
    migration: Option<(String, String)>,
}

fn done(name: &'static str, interval: u64, expected: i32, rc: i32) -> Done {
    Done {
        name,
        interval,
        expected,
        rc,
        migration: None,
    }
}

/// What a node has done to a service; nothing if it does not know it.
fn history(dice: &mut Dice, leaf: &Leaf, at_home: bool, place: &Place<'_>) -> Option<Tag> {
    if dice.percent(12) {
        return None;
    }
    let everywhere = matches!(leaf.shape, Shape::Clone | Shape::Promotable);
    let active = match (everywhere, at_home) {
        (true, _) => dice.percent(70),
        (false, true) => dice.percent(92),
        (false, false) => dice.percent(3),
    };
    let mut ops = Vec::new();
    if dice.percent(85) {
        let found = active && dice.percent(10);
        ops.push(done("monitor", 0, 7, if found { 0 } else { 7 }));
    }
    if active {
        go_up(dice, leaf, place, &mut ops);
    } else if dice.percent(20) {
        ops.push(done("start", 0, 0, 0));
        ops.push(done("stop", 0, 0, if dice.percent(12) { 1 } else { 0 }));
    }
    if ops.is_empty() {
        return None;
    }
    let id = match leaf.numbered {
        Some(max) => format!("{}:{}", leaf.id, dice.between(0, max)),
        None => leaf.id.clone(),
    };
    let mut resource = tag("lrm_resource")
        .with("id", &id)
        .with("class", leaf.class)
        .with("type", leaf.agent);
    if leaf.class == "ocf" {
        let provider = if leaf.agent == "docker" {
            "heartbeat"
        } else {
            "pacemaker"
        };
        resource.set("provider", provider);
    }
    if leaf.guest.as_ref().is_some_and(|g| g.starts_with("guest")) {
        resource.set("container", leaf.id.replace("guest", "vm"));
    }
    let pending = dice.percent(3);
    let last = ops.len();
    // Of what was done once only the last is kept, and the last failure.
    let mut kept: Vec<(String, Tag)> = Vec::new();
    for (call, op) in (1..).zip(&ops) {
        let failed = op.rc != op.expected && !(op.name == "monitor" && op.interval == 0);
        let name = match (op.interval, failed) {
            (0, true) => format!("{id}_last_failure_0"),
            (0, false) if op.migration.is_some() => format!("{id}_{}_0", op.name),
            (0, false) => format!("{id}_last_0"),
            (interval, _) => format!("{id}_{}_{interval}", op.name),
        };
        let done = recorded(dice, &id, &name, op, call, pending && call == last);
        kept.retain(|(other, _)| *other != name);
        kept.push((name, done));
    }
    for (_, done) in kept {
        resource.push(done);
    }
    Some(resource)
}

fn go_up(dice: &mut Dice, leaf: &Leaf, place: &Place<'_>, ops: &mut Vec<Done>) {
    let failure = |dice: &mut Dice| *dice.one(&[1, 1, 1, 5, 2, 6, 7, 8, 9]);
    let own = place.node.to_owned();
    let other = dice.one(place.nodes).name.clone();
    if dice.percent(5) {
        let mut op = done("migrate_to", 0, 0, if dice.percent(40) { 1 } else { 0 });
        op.migration = Some((own, other));
        ops.push(op);
        return;
    }
    if dice.percent(3) {
        let mut op = done("migrate_from", 0, 0, if dice.percent(40) { 1 } else { 0 });
        op.migration = Some((other, own));
        ops.push(op);
        return;
    }
    let rc = if dice.percent(5) { failure(dice) } else { 0 };
    ops.push(done("start", 0, 0, rc));
    let promoted = leaf.shape == Shape::Promotable && dice.percent(35);
    if promoted {
        let rc = if dice.percent(8) { failure(dice) } else { 0 };
        ops.push(done("promote", 0, 0, rc));
    }
    for recurring in leaf.recurring.iter().filter(|r| r.promoted == promoted) {
        let expected = if promoted { 8 } else { 0 };
        let rc = if dice.percent(10) {
            failure(dice)
        } else {
            expected
        };
        if dice.percent(85) {
            ops.push(done("monitor", recurring.interval, expected, rc));
        }
    }
    if promoted && dice.percent(6) {
        let rc = if dice.percent(30) { failure(dice) } else { 0 };
        ops.push(done("demote", 0, 0, rc));
    }
}

fn recorded(dice: &mut Dice, id: &str, name: &str, op: &Done, call: usize, pending: bool) -> Tag {
    let status = match (pending, op.rc == op.expected) {
        (true, _) => -1,
        (false, true) => 0,
        (false, false) if op.name == "monitor" && op.interval == 0 => 0,
        (false, false) if dice.percent(15) => 2,
        (false, false) => 4,
    };
    let (rc, call) = if pending {
        (193, -1)
    } else {
        (op.rc, i64::try_from(call).unwrap_or(0))
    };
    let key = format!(
        "{call}:1:{}:c3bd5e57-6b1d-4d7e-9c1e-0123456789ab",
        op.expected
    );
    let age = i64::try_from(dice.between(3, 300)).unwrap_or(3);
    let mut tag = tag("lrm_rsc_op")
        .with("id", name)
        .with("operation_key", format!("{id}_{}_{}", op.name, op.interval))
        .with("operation", op.name)
        .with("crm_feature_set", "3.16.1")
        .with("transition-magic", format!("{status}:{rc};{key}"))
        .with("transition-key", key)
        .with("call-id", call)
        .with("rc-code", rc)
        .with("op-status", status)
        .with("interval", op.interval)
        .with("last-rc-change", NOW - age);
    if let Some((source, target)) = &op.migration {
        tag.set("migrate_source", source);
        tag.set("migrate_target", target);
    }
    // What no parameters come to, and the same with the usual timeout; sometimes something else.
    match dice.between(1, 100) {
        1..=2 => tag.set("op-digest", "0123456789abcdef0123456789abcdef"),
        3..=5 => {}
        _ if op.interval == 0 => tag.set("op-digest", "f2317cad3d54cec5d7d7aa7d0bf35cf8"),
        _ => tag.set("op-digest", "4811cef7f7f94e3a35a70be7916cb2fd"),
    }
    tag
}

/// The history of something that is not configured any more.
fn orphan(dice: &mut Dice) -> Tag {
    let started = done("start", 0, 0, 0);
    tag("lrm_resource")
        .with("id", "former")
        .with("class", "ocf")
        .with("provider", "pacemaker")
        .with("type", "Dummy")
        .holding(recorded(
            dice,
            "former",
            "former_start_0",
            &started,
            1,
            false,
        ))
}
