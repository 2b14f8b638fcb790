//! Constraints.

use super::{import::Notes, resources::role};
use crate::{
    problem::Level,
    value::{Action, FromText as _, Score},
    xml::Element,
};

pub(super) fn convert(configuration: &mut Element, notes: &mut Notes) {
    for constraint in &mut configuration.child_mut("constraints").children {
        match &*constraint.name {
            "rsc_location" => location(constraint, notes),
            "rsc_colocation" => colocation(constraint, notes),
            "rsc_order" => order(constraint, notes),
            _ => {}
        }
    }
}

fn location(constraint: &mut Element, notes: &mut Notes) {
    let lifetimes = constraint.take_children("lifetime");
    for rule in constraint.children.iter_mut().filter(|c| c.name == "rule") {
        if rule.get("score").is_none() && rule.get("score-attribute").is_none() {
            rule.set("score", "0");
        }
        if let Some(score) = rule.get("score").map(str::to_owned) {
            whole_score(rule, &score);
        }
        if let Some(role) = rule.get("role").map(role) {
            rule.set("role", &role);
        }
        conditions(rule, notes);
        // A lifetime limits the constraint: all its rules hold under that condition only.
        for lifetime in &lifetimes {
            limit(rule, lifetime);
        }
    }
}

fn limit(rule: &mut Element, lifetime: &Element) {
    let id = rule.get("id").unwrap_or("rule").to_owned();
    if rule.get("boolean-op") == Some("or") {
        let mut inner = Element::new("rule")
            .with("id", &format!("{id}-conditions"))
            .with("boolean-op", "or")
            .with("score", "0");
        inner.children = core::mem::take(&mut rule.children);
        rule.set("boolean-op", "and");
        rule.children.push(inner);
    }
    for condition in lifetime.children.iter().filter(|c| c.name == "rule") {
        let mut condition = condition.clone();
        if condition.get("score").is_none() {
            condition.set("score", "0");
        }
        rule.children.push(condition);
    }
}

/// Fractions were allowed and cut off.
fn whole_score(element: &mut Element, score: &str) {
    if let Some((whole, fraction)) = score.split_once('.')
        && fraction.bytes().all(|b| b.is_ascii_digit())
    {
        element.set("score", whole);
    }
}

fn conditions(rule: &mut Element, notes: &mut Notes) {
    for condition in &mut rule.children {
        if condition.name == "rule" {
            conditions(condition, notes);
        }
        if let Some(operation @ ("colocated" | "not_colocated")) = condition
            .get("operation")
            .map(|o| o.trim_start_matches('#'))
        {
            let what = format!("the operation #{operation} exists in Heartbeat only");
            let mend = "write an <rsc_colocation> in place of the rule";
            notes.add(Level::Error, "heartbeat-only", condition, what, mend);
        }
    }
}

fn colocation(constraint: &mut Element, notes: &mut Notes) {
    constraint.rename("from", "rsc");
    constraint.rename("to", "with-rsc");
    for (old, new) in [("from_role", "rsc-role"), ("to_role", "with-rsc-role")] {
        constraint.rename(old, new);
        if let Some(role) = constraint.get(new).map(role) {
            constraint.set(new, &role);
        }
    }
    if let Some(score) = constraint.get("score").map(str::to_owned) {
        whole_score(constraint, &score);
    }
    if constraint.take("symmetrical").as_deref() == Some("true") {
        let what = "symmetrical has no meaning today: the first follows the second".to_owned();
        let mend = "write another <rsc_colocation> for the other direction if it is meant";
        notes.add(Level::Warning, "heartbeat-dropped", constraint, what, mend);
    }
}

fn order(constraint: &mut Element, notes: &mut Notes) {
    let from = constraint.take("from").unwrap_or_default();
    let to = constraint.take("to").unwrap_or_default();
    let mut action = constraint.take("action");
    let mut to_action = constraint.take("to_action");
    if to_action.is_some() && action.is_none() {
        action = Some("start".to_owned()); // Today it would be the other one's.
    } else if to_action.is_none() {
        to_action.clone_from(&action);
    }
    for value in [&mut action, &mut to_action].into_iter().flatten() {
        // Steps around a notification cannot be ordered on their own any more.
        for step in ["confirmed-", "pre_notify_", "post_notify_"] {
            if let Some(whole) = value.strip_prefix(step) {
                let what = format!("the action {value:?} is {whole:?} now");
                let mend = "check that the whole action may be ordered";
                notes.add(Level::Warning, "heartbeat-step", constraint, what, mend);
                *value = whole.to_owned();
            }
        }
        if Action::from_text(value).is_none() {
            let what = format!("the action {value:?} cannot be ordered today");
            let mend = "write start, stop, promote or demote";
            notes.add(Level::Error, "heartbeat-only", constraint, what, mend);
        }
    }
    let kind = constraint.take("type");
    let (first, then) = match kind.as_deref() {
        Some("before") => ((from, action), (to, to_action)),
        _ => ((to, to_action), (from, action)),
    };
    constraint.set("first", &first.0);
    constraint.set("then", &then.0);
    if let Some(action) = first.1 {
        constraint.set("first-action", &action);
    }
    if let Some(action) = then.1 {
        constraint.set("then-action", &action);
    }
    if let Some(score) = constraint.take("score") {
        let optional = Score::from_text(&score).is_some_and(|s| s <= Score::ZERO);
        let kind = if optional { "Optional" } else { "Mandatory" };
        constraint.set("kind", kind);
    }
}
