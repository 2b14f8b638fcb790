//! What must be where, together, and when.

use super::{
    BOTH, Node,
    dice::Dice,
    resources::{Resources, Shape},
};
use crate::xml::{Tag, tag};

const SCORES: &[&str] = &[
    "INFINITY",
    "-INFINITY",
    "INFINITY",
    "-INFINITY",
    "1",
    "10",
    "100",
    "-10",
    "-100",
    "5000",
    "0",
];

/// Some constraints.
pub(super) fn some(dice: &mut Dice, made: &Resources, nodes: &[Node]) -> Tag {
    let mut constraints = tag("constraints");
    for _ in 0..dice.between(0, 6) {
        let one = match dice.between(1, 100) {
            1..=35 => Some(location(dice, made, nodes)),
            36..=60 => colocation(dice, made),
            61..=85 => order(dice, made),
            86..=90 => set(dice, made, "rsc_colocation"),
            91..=96 => set(dice, made, "rsc_order"),
            _ => Some(ticket(dice, made)),
        };
        if let Some(one) = one {
            constraints.push(one);
        }
    }
    constraints
}

fn role_of(dice: &mut Dice, shape: Shape, percent: u64) -> Option<&'static str> {
    (shape == Shape::Promotable && dice.percent(percent))
        .then(|| *dice.one(&["Promoted", "Promoted", "Unpromoted", "Started"]))
}

fn location(dice: &mut Dice, made: &Resources, nodes: &[Node]) -> Tag {
    let (name, shape) = dice.one(&made.names);
    let id = dice.id("loc");
    let mut location = tag("rsc_location").with("id", &id).with("rsc", name);
    if dice.percent(8) {
        location.set(
            "resource-discovery",
            dice.one(&["never", "exclusive", "always"]),
        );
    }
    // A virtual machine does not run inside of itself.
    let inside = |_: &&String| !name.starts_with("vm");
    let guests = made.remote.iter().map(|(name, _)| name).filter(inside);
    let names: Vec<&String> = nodes.iter().map(|n| &n.name).chain(guests).collect();
    if dice.percent(65) {
        if let Some(role) = role_of(dice, *shape, 30) {
            location.set("role", role);
        }
        return location
            .with("node", dice.one(&names))
            .with("score", dice.one(SCORES));
    }
    let mut rule = tag("rule").with("id", format!("{id}-rule"));
    if dice.percent(25) {
        rule.set("score-attribute", "weight");
    } else {
        rule.set("score", dice.one(SCORES));
    }
    if let Some(role) = role_of(dice, *shape, 40) {
        rule.set("role", role);
    }
    if dice.percent(30) {
        rule.set("boolean-op", dice.one(&["and", "or"]));
    }
    for number in 0..dice.between(1, 2) {
        rule.push(expression(dice, &names, &format!("{id}-expr{number}")));
    }
    location.holding(rule)
}

fn expression(dice: &mut Dice, names: &[&String], id: &str) -> Tag {
    let expression = tag("expression").with("id", id);
    match dice.between(0, 3) {
        0 => expression
            .with("attribute", "#uname")
            .with("operation", dice.one(&["eq", "ne"]))
            .with("value", dice.one(names)),
        1 => expression
            .with("attribute", "site")
            .with("operation", dice.one(&["eq", "ne"]))
            .with("value", dice.one(&["a", "b"])),
        2 => expression
            .with("attribute", dice.one(&["site", "weight", "#health-disk"]))
            .with("operation", dice.one(&["defined", "not_defined"])),
        _ => expression
            .with("attribute", "weight")
            .with("operation", dice.one(&["lt", "gt", "lte", "gte"]))
            .with("type", "number")
            .with("value", dice.one(&["0", "10", "100"])),
    }
}

fn colocation(dice: &mut Dice, made: &Resources) -> Option<Tag> {
    let ((name, shape), (with, with_shape)) = dice.two(&made.names)?;
    let (shape, with_shape) = (*shape, *with_shape);
    let mut colocation = tag("rsc_colocation")
        .with("id", dice.id("col"))
        .with("rsc", name)
        .with("with-rsc", with)
        .with("score", dice.one(SCORES));
    if let Some(role) = role_of(dice, shape, 30) {
        colocation.set("rsc-role", role);
    }
    if let Some(role) = role_of(dice, with_shape, 50) {
        colocation.set("with-rsc-role", role);
    }
    if dice.percent(10) {
        colocation.set("node-attribute", "site");
    }
    if dice.percent(10) {
        colocation.set("influence", dice.one(BOTH));
    }
    Some(colocation)
}

fn order(dice: &mut Dice, made: &Resources) -> Option<Tag> {
    let ((first, first_shape), (then, then_shape)) = dice.two(&made.names)?;
    let (first_shape, then_shape) = (*first_shape, *then_shape);
    let mut order = tag("rsc_order")
        .with("id", dice.id("ord"))
        .with("first", first)
        .with("then", then);
    if dice.percent(40) {
        order.set("kind", dice.one(&["Optional", "Mandatory", "Serialize"]));
    }
    if dice.percent(15) {
        order.set("symmetrical", dice.one(BOTH));
    }
    for (name, shape) in [("first-action", first_shape), ("then-action", then_shape)] {
        if shape == Shape::Promotable && dice.percent(40) {
            order.set(
                name,
                dice.one(&["promote", "promote", "start", "demote", "stop"]),
            );
        } else if dice.percent(6) {
            order.set(name, dice.one(&["start", "stop"]));
        }
    }
    Some(order)
}

fn set(dice: &mut Dice, made: &Resources, kind: &'static str) -> Option<Tag> {
    let id = dice.id("sets");
    let mut constraint = tag(kind).with("id", &id);
    match kind {
        "rsc_order" => constraint.set("kind", dice.one(&["Optional", "Mandatory", "Serialize"])),
        _ => constraint.set("score", dice.one(&["INFINITY", "100", "-INFINITY"])),
    }
    let mut names: Vec<&(String, Shape)> = made.names.iter().collect();
    for number in 0..dice.between(1, 2) {
        let mut set = tag("resource_set").with("id", format!("{id}-{number}"));
        if dice.percent(30) {
            set.set("sequential", dice.one(BOTH));
        }
        if kind == "rsc_order" && dice.percent(15) {
            set.set("require-all", dice.one(BOTH));
        }
        for _ in 0..dice.between(1, 3) {
            if names.is_empty() {
                break;
            }
            let at = dice.between(0, names.len() as u64 - 1);
            let (name, _) = names.remove(usize::try_from(at).unwrap_or(0));
            set.push(tag("resource_ref").with("id", name));
        }
        if !set.is_empty() {
            constraint.push(set);
        }
    }
    (!constraint.is_empty()).then_some(constraint)
}

fn ticket(dice: &mut Dice, made: &Resources) -> Tag {
    let (name, shape) = dice.one(&made.names);
    let mut ticket = tag("rsc_ticket")
        .with("id", dice.id("tick"))
        .with("rsc", name)
        .with("ticket", dice.one(&["east", "west"]))
        .with(
            "loss-policy",
            dice.one(&["stop", "demote", "fence", "freeze"]),
        );
    if let Some(role) = role_of(dice, *shape, 50) {
        ticket.set("rsc-role", role);
    }
    ticket
}
