//! What runs in a cluster.

use super::{BOTH, dice::Dice, maybe, pairs};
use crate::xml::{Tag, tag};

/// What a resource is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Primitive,
    Group,
    Clone,
    Promotable,
    Bundle,
}

/// A recurring operation.
#[derive(Clone, Debug)]
pub(super) struct Recurring {
    pub(super) interval: u64,
    /// Whether it is for promoted instances.
    pub(super) promoted: bool,
}

/// A service that nodes know by its own name.
#[derive(Clone, Debug)]
pub(super) struct Leaf {
    pub(super) id: String,
    pub(super) class: &'static str,
    pub(super) agent: &'static str,
    /// How many instances of it there may be, if it is told apart by numbers.
    pub(super) numbered: Option<u64>,
    pub(super) shape: Shape,
    pub(super) recurring: Vec<Recurring>,
    /// The node that it brings about.
    pub(super) guest: Option<String>,
}

/// The resources of a cluster.
#[derive(Debug, Default)]
pub(super) struct Resources {
    templates: Vec<Tag>,
    tags: Vec<Tag>,
    /// What constraints can name, with what it is.
    pub(super) names: Vec<(String, Shape)>,
    pub(super) leaves: Vec<Leaf>,
    /// Nodes that services bring about; true for remote ones.
    pub(super) remote: Vec<(String, bool)>,
}

impl Resources {
    pub(super) fn tag(&self) -> Tag {
        let all = self.templates.iter().chain(&self.tags);
        all.cloned().fold(tag("resources"), Tag::holding)
    }
}

/// Some resources, fencing devices first.
pub(super) fn some(dice: &mut Dice) -> Resources {
    let mut made = Resources::default();
    if dice.percent(25) {
        let mut template = tag("template")
            .with("id", "template")
            .with("class", "ocf")
            .with("provider", "pacemaker")
            .with("type", "Dummy");
        template.push(meta(dice));
        made.templates.push(template);
    }
    if dice.percent(70) {
        let leaf = Leaf {
            id: "fencing".to_owned(),
            class: "stonith",
            agent: "fence_xvm",
            numbered: None,
            shape: Shape::Primitive,
            recurring: Vec::new(),
            guest: None,
        };
        let mut device = primitive(dice, &leaf, &[]);
        if dice.percent(10) {
            let values = [("provides", "unfencing".to_owned())];
            device.push(pairs(dice, "meta_attributes", &values));
        }
        made.tags.push(device);
        made.names.push((leaf.id.clone(), Shape::Primitive));
        made.leaves.push(leaf);
    }
    for number in 1..=dice.between(1, 6) {
        one(dice, &mut made, number);
    }
    made
}

fn one(dice: &mut Dice, made: &mut Resources, number: u64) {
    match dice.between(1, 100) {
        1..=35 => lone(dice, made, number),
        36..=58 => {
            let (group, leaves) = group(dice, made, number, Shape::Group, None);
            made.names.push((format!("group{number}"), Shape::Group));
            made.tags.push(group);
            made.leaves.extend(leaves);
        }
        59..=88 => clone(dice, made, number),
        89..=93 => remote(dice, made, number),
        94..=96 => guest(dice, made, number),
        _ => bundle(dice, made, number),
    }
}

fn leaf(dice: &mut Dice, id: String, shape: Shape, numbered: Option<u64>) -> Leaf {
    let mut recurring = Vec::new();
    if dice.percent(60) {
        recurring.push(Recurring {
            interval: 10_000,
            promoted: false,
        });
    }
    if shape == Shape::Promotable && dice.percent(60) {
        recurring.push(Recurring {
            interval: 11_000,
            promoted: true,
        });
    }
    let (class, agent) = match shape {
        Shape::Promotable => ("ocf", "Stateful"),
        _ if numbered.is_none() && dice.percent(8) => ("systemd", "web"),
        _ => ("ocf", "Dummy"),
    };
    Leaf {
        id,
        class,
        agent,
        numbered,
        shape,
        recurring,
        guest: None,
    }
}

fn primitive(dice: &mut Dice, leaf: &Leaf, inside: &[Tag]) -> Tag {
    let mut tag = tag("primitive")
        .with("id", &leaf.id)
        .with("class", leaf.class);
    if leaf.class == "ocf" {
        tag.set("provider", "pacemaker");
    }
    tag.set("type", leaf.agent);
    fill(dice, &mut tag, leaf);
    for child in inside {
        tag.push(child.clone());
    }
    tag
}

fn fill(dice: &mut Dice, tag: &mut Tag, leaf: &Leaf) {
    if leaf.class != "stonith" && dice.percent(15) {
        let values = [("memory", (*dice.one(&["2", "4", "6"])).to_owned())];
        tag.push(pairs(dice, "utilization", &values));
    }
    let ops = operations(dice, leaf);
    if !ops.is_empty() {
        tag.push(ops);
    }
}

fn operations(dice: &mut Dice, leaf: &Leaf) -> Tag {
    const FATES: [&str; 8] = [
        "ignore", "block", "stop", "restart", "fence", "standby", "demote", "restart",
    ];
    let mut ops = tag("operations");
    let named = |name: &str, interval: u64| {
        tag("op")
            .with("id", format!("{}-{name}-{interval}", leaf.id))
            .with("name", name)
            .with("interval", format!("{interval}ms"))
    };
    for recurring in &leaf.recurring {
        let mut op = named("monitor", recurring.interval);
        if recurring.promoted {
            op.set("role", "Promoted");
        }
        if dice.percent(20) {
            let fate = dice.one(&FATES);
            // Only what is promoted can be demoted.
            if *fate != "demote" || recurring.promoted {
                op.set("on-fail", fate);
            }
        }
        if dice.percent(4) {
            op.set("enabled", "false");
        }
        ops.push(op);
    }
    if dice.percent(6) && leaf.class != "stonith" {
        ops.push(named("monitor", 20_000).with("role", "Stopped"));
    }
    for name in ["start", "stop", "promote", "demote"] {
        let promotion = name == "promote" || name == "demote";
        if promotion && leaf.shape != Shape::Promotable || !dice.percent(10) {
            continue;
        }
        let fates: &[&str] = match name {
            "stop" => &["block", "ignore", "fence"],
            "promote" => &["restart", "demote", "block", "stop"],
            _ => &["restart", "block", "stop", "standby", "ignore"],
        };
        ops.push(named(name, 0).with("on-fail", *dice.one(fates)));
    }
    ops
}

fn meta(dice: &mut Dice) -> Tag {
    let mut values = Vec::new();
    maybe(dice, &mut values, 12, "priority", &["0", "5", "10", "-1"]);
    maybe(
        dice,
        &mut values,
        20,
        "resource-stickiness",
        &["0", "1", "50", "INFINITY", "-5"],
    );
    maybe(
        dice,
        &mut values,
        12,
        "migration-threshold",
        &["1", "2", "5"],
    );
    maybe(dice, &mut values, 10, "failure-timeout", &["60s", "10h"]);
    maybe(dice, &mut values, 8, "target-role", &["Stopped", "Started"]);
    maybe(dice, &mut values, 7, "is-managed", BOTH);
    maybe(dice, &mut values, 3, "maintenance", &["true"]);
    let policies = ["stop_start", "stop_only", "block", "stop_unexpected"];
    maybe(dice, &mut values, 15, "multiple-active", &policies);
    maybe(
        dice,
        &mut values,
        10,
        "requires",
        &["nothing", "quorum", "fencing"],
    );
    maybe(dice, &mut values, 15, "allow-migrate", BOTH);
    maybe(dice, &mut values, 8, "critical", BOTH);
    maybe(dice, &mut values, 5, "allow-unhealthy-nodes", BOTH);
    pairs(dice, "meta_attributes", &values)
}

fn maybe_meta(dice: &mut Dice, percent: u64) -> Vec<Tag> {
    match dice.percent(percent) {
        true => vec![meta(dice)],
        false => Vec::new(),
    }
}

fn lone(dice: &mut Dice, made: &mut Resources, number: u64) {
    let leaf = leaf(dice, format!("prim{number}"), Shape::Primitive, None);
    let inside = maybe_meta(dice, 60);
    let tag = if !made.templates.is_empty() && leaf.class == "ocf" && dice.percent(40) {
        let mut tag = tag("primitive")
            .with("id", &leaf.id)
            .with("template", "template");
        fill(dice, &mut tag, &leaf);
        inside.into_iter().fold(tag, Tag::holding)
    } else {
        primitive(dice, &leaf, &inside)
    };
    made.tags.push(tag);
    made.names.push((leaf.id.clone(), Shape::Primitive));
    made.leaves.push(leaf);
}

fn group(
    dice: &mut Dice,
    made: &mut Resources,
    number: u64,
    shape: Shape,
    numbered: Option<u64>,
) -> (Tag, Vec<Leaf>) {
    let mut group = tag("group").with("id", format!("group{number}"));
    if shape == Shape::Group {
        for meta in maybe_meta(dice, 40) {
            group.push(meta);
        }
    }
    let mut leaves = Vec::new();
    for member in 1..=dice.between(1, 4) {
        let leaf = leaf(dice, format!("member{number}{member}"), shape, numbered);
        let inside = maybe_meta(dice, 20);
        group.push(primitive(dice, &leaf, &inside));
        if shape == Shape::Group {
            made.names.push((leaf.id.clone(), Shape::Primitive));
        }
        leaves.push(leaf);
    }
    (group, leaves)
}

fn clone(dice: &mut Dice, made: &mut Resources, number: u64) {
    let promotable = dice.percent(45);
    let shape = if promotable {
        Shape::Promotable
    } else {
        Shape::Clone
    };
    let unique = dice.percent(20);
    let max = dice.between(0, 5);
    let mut values = Vec::new();
    if promotable {
        values.push(("promotable", "true".to_owned()));
        maybe(dice, &mut values, 20, "promoted-max", &["1", "2", "0"]);
        maybe(dice, &mut values, 8, "promoted-node-max", &["1", "2"]);
    }
    if unique || dice.percent(30) {
        values.push(("clone-max", max.to_string()));
    }
    if unique {
        values.push(("globally-unique", "true".to_owned()));
        maybe(dice, &mut values, 60, "clone-node-max", &["1", "2", "3"]);
    }
    maybe(dice, &mut values, 40, "interleave", BOTH);
    maybe(dice, &mut values, 20, "ordered", BOTH);
    maybe(dice, &mut values, 30, "notify", BOTH);
    maybe(dice, &mut values, 8, "clone-min", &["1", "2"]);
    maybe(
        dice,
        &mut values,
        8,
        "target-role",
        &["Stopped", "Started", "Unpromoted"],
    );
    maybe(
        dice,
        &mut values,
        10,
        "resource-stickiness",
        &["0", "10", "INFINITY"],
    );
    maybe(dice, &mut values, 6, "is-managed", BOTH);
    maybe(dice, &mut values, 8, "priority", &["5", "10"]);
    if !promotable {
        values.retain(|(_, value)| value != "Unpromoted");
    }
    let id = format!("clone{number}");
    let mut clone = tag("clone")
        .with("id", &id)
        .holding(pairs(dice, "meta_attributes", &values));
    let numbered = unique.then_some(max);
    if dice.percent(30) {
        let (group, leaves) = group(dice, made, number, shape, numbered);
        clone.push(group);
        made.leaves.extend(leaves);
    } else {
        let leaf = leaf(dice, format!("inst{number}"), shape, numbered);
        let inside = maybe_meta(dice, 15);
        clone.push(primitive(dice, &leaf, &inside));
        made.leaves.push(leaf);
    }
    made.names.push((id, shape));
    made.tags.push(clone);
}

/// The connection to a remote node.
fn remote(dice: &mut Dice, made: &mut Resources, number: u64) {
    let mut leaf = leaf(dice, format!("remote{number}"), Shape::Primitive, None);
    (leaf.class, leaf.agent) = ("ocf", "remote");
    leaf.guest = Some(leaf.id.clone());
    let mut values = Vec::new();
    maybe(dice, &mut values, 20, "reconnect_interval", &["60s"]);
    let inside = match values.is_empty() {
        true => Vec::new(),
        false => vec![pairs(dice, "instance_attributes", &values)],
    };
    made.tags.push(primitive(dice, &leaf, &inside));
    made.remote.push((leaf.id.clone(), true));
    made.names.push((leaf.id.clone(), Shape::Primitive));
    made.leaves.push(leaf);
}

/// A service that is a node itself.
fn guest(dice: &mut Dice, made: &mut Resources, number: u64) {
    let leaf = leaf(dice, format!("vm{number}"), Shape::Primitive, None);
    let node = format!("guest{number}");
    let values = [("remote-node", node.clone())];
    let meta = pairs(dice, "meta_attributes", &values);
    made.tags.push(primitive(dice, &leaf, &[meta]));
    made.remote.push((node.clone(), false));
    made.names.push((leaf.id.clone(), Shape::Primitive));
    let connection = Leaf {
        id: node.clone(),
        class: "ocf",
        agent: "remote",
        recurring: Vec::new(),
        guest: Some(node),
        ..leaf.clone()
    };
    made.leaves.push(leaf);
    made.leaves.push(connection);
}

fn bundle(dice: &mut Dice, made: &mut Resources, number: u64) {
    let id = format!("bundle{number}");
    let replicas = dice.between(1, 3);
    let mut container = tag("docker")
        .with("image", "web:latest")
        .with("replicas", replicas);
    let promoted = dice.percent(40);
    if promoted {
        container.set("promoted-max", 1);
    }
    let mut bundle = tag("bundle").with("id", &id).holding(container);
    let own = dice.percent(70);
    let mut network = tag("network");
    if own {
        network.set("control-port", 3121);
    }
    if dice.percent(60) || own {
        network.set(
            "ip-range-start",
            format!("192.168.122.{}", 100 + 10 * number),
        );
    }
    bundle.push(network);
    if own {
        let shape = if promoted {
            Shape::Promotable
        } else {
            Shape::Clone
        };
        let leaf = leaf(dice, format!("inside{number}"), shape, None);
        bundle.push(primitive(dice, &leaf, &[]));
    }
    for replica in 0..replicas {
        let container = Leaf {
            id: format!("{id}-docker-{replica}"),
            class: "ocf",
            agent: "docker",
            numbered: None,
            shape: Shape::Bundle,
            recurring: Vec::new(),
            guest: None,
        };
        made.leaves.push(container);
    }
    made.names.push((id, Shape::Bundle));
    made.tags.push(bundle);
}
