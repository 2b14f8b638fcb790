//! Wishes that nothing can fulfil.

use super::{
    Checker,
    forbidden::{Forbidden, wish},
    is_must_not,
};
use crate::{
    constraints::{Constraint, Location},
    problem::Level,
    resources::Resource,
    rules::{Condition, Expression, Rule},
    text::Str,
    value::{BooleanOp, Comparison, Role, Score},
};

pub(super) fn check(checker: &mut Checker<'_>) {
    let locations: Vec<&Location> = checker
        .cib
        .constraints()
        .iter()
        .filter_map(|c| match c {
            Constraint::Location(c) => Some(c),
            _ => None,
        })
        .collect();
    for location in &locations {
        nodes(checker, location);
        if location.node.is_none() && location.rules.is_empty() {
            let spot = (location.at, "rsc_location", Some(&location.id));
            let what = "it names neither a node nor a rule, so it has no effect";
            let mend = "add node=\"…\" score=\"…\", or a <rule>";
            checker.add(Level::Warning, "no-effect", spot, what, mend);
        }
    }
    let forbidden = Forbidden::new(checker);
    for location in &locations {
        preference(checker, location, &forbidden);
    }
    let elsewhere = has_other_nodes(checker);
    for resource in checker.cib.resources() {
        if checker.option_is("symmetric-cluster") == Some(false) {
            not_allowed(checker, resource, &locations);
        } else if !elsewhere && forbidden.everywhere(checker, resource.id()) {
            let spot = (resource.at(), resource.tag(), Some(resource.id()));
            let what =
                "every node is forbidden to it, or to what it must be with, so it never runs";
            let mend = "take one of its -INFINITY constraints out";
            checker.add(Level::Warning, "nowhere", spot, what, mend);
        }
    }
}

/// Nodes that resources bring about, beside those that are configured.
fn has_other_nodes(checker: &Checker<'_>) -> bool {
    let bundles = checker.cib.resources().iter();
    bundles.clone().any(|r| matches!(r, Resource::Bundle(_)))
        || checker.primitives().iter().any(|p| {
            p.agent_name() == "ocf:pacemaker:remote"
                || crate::sets::lookup(&p.meta, "remote-node").is_some()
        })
}

/// A node that is wanted, and forbidden by something else.
fn preference<'a>(checker: &mut Checker<'a>, location: &Location, forbidden: &Forbidden<'a>) {
    let (Some(rsc), Some((node, score))) = (&location.rsc, wish(location)) else {
        return;
    };
    if score <= Score::ZERO {
        return;
    }
    let Some(by) = forbidden.why(checker, rsc, node) else {
        return;
    };
    // Said as a contradiction.
    if score.is_infinite() && by.rsc.as_ref() == Some(rsc) && by.node.is_some() {
        return;
    }
    let what = format!(
        "{rsc} never runs on {node} because of {} at {}, so the preference has no effect",
        by.id, by.at
    );
    let mend = "take one of the two out";
    let spot = (location.at, "rsc_location", Some(&location.id));
    checker.add(Level::Warning, "unreachable", spot, what, mend);
}

/// Names of nodes that there could be: configured ones, and those that resources bring about.
fn is_node(checker: &Checker<'_>, name: &str) -> bool {
    let configured = checker.cib.nodes().iter();
    let known = checker.cib.node_states().iter();
    configured
        .map(|n| n.name())
        .any(|n| n.eq_ignore_ascii_case(name))
        || known
            .filter_map(|n| n.uname.as_ref())
            .any(|n| n.eq_ignore_ascii_case(name))
        || checker.index.find_resource(name).is_some()
        || checker.primitives().iter().any(|p| {
            crate::sets::lookup(&p.meta, "remote-node")
                .is_some_and(|n| n.eq_ignore_ascii_case(name))
        })
        || checker.cib.resources().iter().any(|r| {
            // The nodes of a bundle are called after it.
            matches!(r, Resource::Bundle(_)) && name.starts_with(&**r.id())
        })
}

fn nodes(checker: &mut Checker<'_>, location: &Location) {
    // A file may hold the configuration only.
    if checker.cib.nodes().is_empty() {
        return;
    }
    let spot = (location.at, "rsc_location", Some(&location.id));
    if let Some(node) = &location.node
        && !is_node(checker, node)
    {
        let what = format!("node names {node:?}, which is no node");
        let mend = "check the name, or take the constraint out";
        checker.add(Level::Warning, "unknown-node", spot, what, mend);
    }
    for rule in &location.rules {
        conditions(checker, rule);
    }
}

fn conditions(checker: &mut Checker<'_>, rule: &Rule) {
    let mut named: Option<&Str> = None;
    for condition in &rule.conditions {
        match condition {
            Condition::Rule(inner) => conditions(checker, inner),
            Condition::Attribute(expression) => {
                let Some(value) = uname(expression) else {
                    continue;
                };
                if !is_node(checker, value) {
                    let spot = (expression.at, "expression", expression.id.as_ref());
                    let what = format!("it names {value:?}, which is no node");
                    let mend = "check the name, or take the condition out";
                    checker.add(Level::Warning, "unknown-node", spot, what, mend);
                }
                let both = named.is_some_and(|n| !n.eq_ignore_ascii_case(value));
                if both && rule.boolean_op.or(BooleanOp::And) == BooleanOp::And {
                    let spot = (rule.at, "rule", rule.id.as_ref());
                    let what = "no node has two names, so it never holds";
                    let mend = "write boolean-op=\"or\"";
                    checker.add(Level::Warning, "never-true", spot, what, mend);
                }
                named = Some(value);
            }
            _ => {}
        }
    }
}

/// The name that a node must have.
pub(super) fn uname(expression: &Expression) -> Option<&Str> {
    let is = &*expression.attribute == "#uname"
        && expression.operation.get() == Some(Comparison::Eq)
        && !expression.value_source.is_set();
    is.then_some(expression.value.as_ref()).flatten()
}

/// Whether no node is allowed, where nodes must be. Only constraints that name a node are looked at, so
/// that nothing is said of what rules may change.
fn not_allowed(checker: &mut Checker<'_>, resource: &Resource, locations: &[&Location]) {
    let nodes = checker.cib.nodes();
    let member = |id: &Str| {
        let place = checker.index.find_resource(id);
        place.is_none_or(|p| p.outermost.id() == resource.id())
    };
    let concerns = |l: &&&Location| {
        l.rsc_pattern.is_some() || !l.sets.is_empty() || l.rsc.as_ref().is_some_and(member)
    };
    let mut concerned = locations.iter().filter(concerns);
    let allows = |l: &&Location| {
        let simple = l.rsc.as_ref() == Some(resource.id()) && l.rules.is_empty();
        !simple || l.role.get() != Some(Role::Promoted) && !is_must_not(l.score.get())
    };
    if !nodes.is_empty() && !concerned.any(allows) {
        checker.add(
            Level::Warning,
            "nowhere",
            (resource.at(), resource.tag(), Some(resource.id())),
            "nodes must be allowed (symmetric-cluster=false), and none is, so it never runs",
            "add an rsc_location with a node and a score",
        );
    }
}
