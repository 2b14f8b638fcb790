//! Rules on where services shall be.

use super::view::View;
use mainstay_cib::{
    constraints::Constraint,
    resources::Resource,
    value::{Role, Score, truth},
};
use std::collections::BTreeMap;

/// A service that there is one of has one place at most.
pub(super) fn one_place(view: &View<'_>) -> Vec<String> {
    let many = view.single.iter().filter(|s| view.next(s).len() > 1);
    many.map(|s| format!("{s} shall be on {} nodes", view.next(s).len()))
        .collect()
}

fn clones<'a>(view: &View<'a>) -> impl Iterator<Item = &'a Resource> {
    let resources = view.cib.resources().iter();
    resources.filter(|r| matches!(r, Resource::Clone(_) | Resource::Master(_)))
}

/// A number that is written without a rule that could change it.
fn number(resource: &Resource, names: &[&str]) -> Option<usize> {
    let text = names.iter().find_map(|n| View::meta(resource, n))?;
    text.trim().parse().ok()
}

/// What is placed of one part of a clone, by node. Equal instances have one name.
fn counts(view: &View<'_>, resource: &Resource) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    let Some(first) = resource.primitives().first().map(|p| p.id.to_string()) else {
        return counts;
    };
    for (name, places) in &view.plan.report.places {
        let base = name.split(':').next().unwrap_or(name);
        if base == first {
            for place in places {
                *counts.entry(place.node.clone()).or_default() += 1;
            }
        }
    }
    counts
}

/// A clone has no more instances than it may, in all and on one node.
pub(super) fn instances(view: &View<'_>) -> Vec<String> {
    let mut wrong = Vec::new();
    for resource in clones(view) {
        let unmanaged = resource
            .primitives()
            .iter()
            .any(|p| view.is_unmanaged(&p.id));
        if unmanaged || !view.cib.rsc_defaults().is_empty() {
            continue;
        }
        let counts = counts(view, resource);
        let id = resource.id();
        let total: usize = counts.values().sum();
        if let Some(max) = number(resource, &["clone-max"])
            && total > max
        {
            wrong.push(format!("{id} has {total} instances, of {max} at most"));
        }
        let unique = View::meta(resource, "globally-unique");
        let unique = unique.and_then(|v| truth(&v)) == Some(true);
        let per_node = if unique {
            number(resource, &["clone-node-max"]).unwrap_or(1)
        } else {
            1
        };
        for (node, count) in counts.into_iter().filter(|(_, c)| *c > per_node) {
            wrong.push(format!(
                "{id} has {count} instances on {node}, of {per_node} at most"
            ));
        }
    }
    wrong
}

/// No more instances are promoted than may be.
pub(super) fn promoted(view: &View<'_>) -> Vec<String> {
    let mut wrong = Vec::new();
    for resource in clones(view).filter(|r| r.is_promotable()) {
        let max = number(resource, &["promoted-max", "master-max"]).unwrap_or(1);
        let Some(first) = resource.primitives().first().copied() else {
            continue;
        };
        if view.is_unmanaged(&first.id) || !view.cib.rsc_defaults().is_empty() {
            continue;
        }
        let places = view.next(&first.id).iter();
        let count = places.filter(|p| p.role == Role::Promoted.as_str()).count();
        if count > max {
            let id = resource.id();
            wrong.push(format!(
                "{id} has {count} promoted instances, of {max} at most"
            ));
        }
    }
    wrong
}

/// Nothing comes to a node that it is banned from by name.
pub(super) fn banned(view: &View<'_>) -> Vec<String> {
    let mut wrong = Vec::new();
    for constraint in view.constraints() {
        let Constraint::Location(c) = constraint else {
            continue;
        };
        let (Some(service), Some(node)) = (&c.rsc, &c.node) else {
            continue;
        };
        let never = c.score.get() == Some(Score::NEVER) && c.role.get().is_none();
        if !never || view.is_unmanaged(service) {
            continue;
        }
        let there = view.next(service).iter().any(|p| *p.node == **node);
        if there && !view.may_stay(service, node) {
            wrong.push(format!(
                "{service} shall be on {node}, from which {} bans it",
                c.id
            ));
        }
    }
    wrong
}

/// What shall be stopped is not started.
pub(super) fn stopped(view: &View<'_>) -> Vec<String> {
    let mut wrong = Vec::new();
    let all = view.option("stop-all-resources") == Some(true);
    for resource in view.cib.resources() {
        let Resource::Primitive(p) = resource else {
            continue;
        };
        let target = View::meta(resource, "target-role");
        let down = all || target.is_some_and(|t| t.eq_ignore_ascii_case("stopped"));
        let conditional = p
            .meta
            .iter()
            .any(|m| !m.rules.is_empty() || m.id_ref.is_some());
        if !down || conditional || view.is_unmanaged(&p.id) {
            continue;
        }
        for (_, step) in view.of("start", &p.id) {
            if !step.implied {
                wrong.push(format!("{} though it shall be stopped", step.label));
            }
        }
    }
    wrong
}
