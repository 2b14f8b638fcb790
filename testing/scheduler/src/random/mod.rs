//! Clusters at random: what is configured, and what became of it.

mod constraints;
mod dice;
mod resources;
mod status;

use crate::xml::{Tag, tag};
use dice::Dice;

/// The moment that the clusters are in, in seconds since 1970.
pub(crate) const NOW: i64 = 1_700_000_000;

/// A node.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) id: String,
    pub(crate) name: String,
}

/// The configuration and the status of a cluster, in XML, all of it following from the seed.
#[must_use]
pub fn cluster(seed: u64) -> String {
    let mut dice = Dice::new(seed);
    let dice = &mut dice;
    let nodes: Vec<Node> = (1..=dice.between(1, 4))
        .map(|n| Node {
            id: n.to_string(),
            name: format!("node{n}"),
        })
        .collect();
    let resources = resources::some(dice);
    let mut configuration = tag("configuration");
    configuration.push(options(dice));
    let mut listed = tag("nodes");
    for node in &nodes {
        listed.push(configured(dice, node));
    }
    configuration.push(listed);
    configuration.push(resources.tag());
    configuration.push(constraints::some(dice, &resources, &nodes));
    configuration.push(defaults(dice));
    let status = status::some(dice, &resources, &nodes);
    tag("cib")
        .with(
            "crm_feature_set",
            *dice.one(&["3.16.1", "3.16.1", "3.0.14", "3.0.5"]),
        )
        .with("validate-with", "pacemaker-3.7")
        .with("epoch", 1)
        .with("num_updates", 0)
        .with("admin_epoch", 0)
        .with("have-quorum", u8::from(!dice.percent(12)))
        .with("dc-uuid", "1")
        .with("execution-date", NOW)
        .holding(configuration)
        .holding(status)
        .text()
}

/// Named values under one id.
fn pairs(dice: &mut Dice, set: &'static str, values: &[(&str, String)]) -> Tag {
    let id = dice.id("set");
    let mut tag = tag(set).with("id", &id);
    for (name, value) in values {
        tag.push(pair(&id, name, value));
    }
    tag
}

fn pair(set: &str, name: &str, value: &str) -> Tag {
    let id = format!("{set}-{}", name.replace('#', "n"));
    tag("nvpair")
        .with("id", id)
        .with("name", name)
        .with("value", value)
}

/// Adds a value in so many of a hundred cases.
fn maybe<'a>(
    dice: &mut Dice,
    values: &mut Vec<(&'a str, String)>,
    percent: u64,
    name: &'a str,
    of: &[&str],
) {
    if dice.percent(percent) {
        values.push((name, (*dice.one(of)).to_owned()));
    }
}

const BOTH: &[&str] = &["true", "false"];

fn options(dice: &mut Dice) -> Tag {
    let mut values = Vec::new();
    maybe(
        dice,
        &mut values,
        60,
        "stonith-enabled",
        &["true", "false", "false"],
    );
    let policies = ["stop", "freeze", "ignore", "suicide", "demote"];
    maybe(dice, &mut values, 25, "no-quorum-policy", &policies);
    maybe(dice, &mut values, 12, "symmetric-cluster", BOTH);
    maybe(dice, &mut values, 3, "maintenance-mode", &["true"]);
    maybe(dice, &mut values, 2, "stop-all-resources", &["true"]);
    maybe(dice, &mut values, 6, "stop-orphan-resources", BOTH);
    maybe(dice, &mut values, 6, "stop-orphan-actions", BOTH);
    maybe(dice, &mut values, 8, "start-failure-is-fatal", BOTH);
    maybe(dice, &mut values, 6, "enable-startup-probes", BOTH);
    maybe(dice, &mut values, 10, "concurrent-fencing", BOTH);
    maybe(dice, &mut values, 8, "startup-fencing", BOTH);
    maybe(dice, &mut values, 10, "stonith-action", &["reboot", "off"]);
    maybe(dice, &mut values, 6, "have-watchdog", BOTH);
    maybe(dice, &mut values, 8, "priority-fencing-delay", &["15s"]);
    maybe(dice, &mut values, 6, "shutdown-lock", BOTH);
    maybe(dice, &mut values, 4, "remove-after-stop", BOTH);
    let strategies = ["default", "utilization", "minimal", "balanced"];
    maybe(dice, &mut values, 15, "placement-strategy", &strategies);
    let strategies = ["migrate-on-red", "only-green", "progressive", "custom"];
    maybe(dice, &mut values, 10, "node-health-strategy", &strategies);
    maybe(
        dice,
        &mut values,
        5,
        "node-health-yellow",
        &["-5", "-INFINITY"],
    );
    maybe(dice, &mut values, 5, "node-health-base", &["10", "-3"]);
    let sets = match values.is_empty() {
        true => Vec::new(),
        false => vec![pairs(dice, "cluster_property_set", &values)],
    };
    sets.into_iter().fold(tag("crm_config"), Tag::holding)
}

fn configured(dice: &mut Dice, node: &Node) -> Tag {
    let mut tag = tag("node").with("id", &node.id).with("uname", &node.name);
    let mut values = Vec::new();
    maybe(dice, &mut values, 8, "standby", &["on", "true", "off"]);
    maybe(dice, &mut values, 4, "maintenance", &["true"]);
    maybe(dice, &mut values, 40, "site", &["a", "b"]);
    maybe(
        dice,
        &mut values,
        30,
        "weight",
        &["10", "200", "-50", "INFINITY"],
    );
    if !values.is_empty() {
        tag.push(pairs(dice, "instance_attributes", &values));
    }
    let mut values = Vec::new();
    maybe(dice, &mut values, 50, "memory", &["4", "8", "16"]);
    maybe(dice, &mut values, 30, "cpu", &["2", "4"]);
    if !values.is_empty() {
        tag.push(pairs(dice, "utilization", &values));
    }
    tag
}

fn defaults(dice: &mut Dice) -> Tag {
    let mut values = Vec::new();
    maybe(
        dice,
        &mut values,
        30,
        "resource-stickiness",
        &["1", "100", "INFINITY", "0"],
    );
    maybe(dice, &mut values, 10, "migration-threshold", &["1", "3"]);
    maybe(dice, &mut values, 8, "failure-timeout", &["60s", "10h"]);
    let tag = tag("rsc_defaults");
    match values.is_empty() {
        true => tag,
        false => tag.holding(pairs(dice, "meta_attributes", &values)),
    }
}
