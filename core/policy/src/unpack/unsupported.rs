//! What stands in a configuration and is not taken into account: it is said, not passed over.

use crate::model::World;
use mainstay_cib::{
    constraints::Constraint,
    resources::Resource,
    rules::{Condition, Rule},
    sets::AttributeSet,
};

/// Writes down everything of the kind.
pub(super) fn note(world: &mut World<'_>) {
    let mut found = Vec::new();
    options(world, &mut found);
    for constraint in world.cib.constraints() {
        of_constraint(constraint, &mut found);
    }
    for resource in world.cib.resources() {
        of_resource(world, resource, &mut found);
    }
    let cib = world.cib;
    for sets in [cib.options(), cib.rsc_defaults(), cib.op_defaults()] {
        in_sets(sets, &mut found);
    }
    found.sort();
    found.dedup();
    world.notes.unsupported = found;
}

fn options(world: &World<'_>, found: &mut Vec<String>) {
    for name in [
        "default-resource-failure-stickiness",
        "default_resource_failure_stickiness",
    ] {
        if world.options.all.contains_key(name) {
            found.push(format!(
                "{name}: failures count by migration-threshold and failure-timeout only"
            ));
        }
    }
    if world.options.all.contains_key("priority-fencing-delay") {
        found.push("priority-fencing-delay: the plan has no delays in it".to_owned());
    }
}

fn of_constraint(constraint: &Constraint, found: &mut Vec<String>) {
    let id = constraint.id();
    match constraint {
        Constraint::Colocation(c) => {
            if c.score_attribute.is_some() || c.score_attribute_mangle.is_some() {
                found.push(format!("{id}: score-attribute of a colocation"));
            }
            if c.rsc_instance.is_set() || c.with_rsc_instance.is_set() {
                found.push(format!("{id}: numbers of instances in a colocation"));
            }
        }
        Constraint::Order(o) => {
            if o.first_instance.is_set() || o.then_instance.is_set() {
                found.push(format!("{id}: numbers of instances in an order"));
            }
        }
        Constraint::Location(l) => {
            if l.rsc_pattern
                .as_deref()
                .is_some_and(|p| regex::Regex::new(p.strip_prefix('!').unwrap_or(p)).is_err())
            {
                found.push(format!("{id}: a pattern that is no regular expression"));
            }
            for rule in &l.rules {
                in_rule(rule, found);
            }
        }
        Constraint::Ticket(_) => {}
    }
}

fn of_resource(world: &World<'_>, resource: &Resource, found: &mut Vec<String>) {
    let id = resource.id();
    in_sets(resource.meta(), found);
    for primitive in resource.primitives() {
        for sets in [
            &primitive.meta,
            &primitive.parameters,
            &primitive.utilization,
        ] {
            in_sets(sets, found);
        }
        if let Some(template) = &primitive.template
            && world.index.find_template(template).is_none()
        {
            let id = &primitive.id;
            found.push(format!(
                "{id}: left out, as there is no template {template}"
            ));
        }
    }
    let stickiness = "resource-failure-stickiness";
    if mainstay_cib::sets::lookup(resource.meta(), stickiness).is_some() {
        found.push(format!(
            "{id}: {stickiness}: failures count by migration-threshold and failure-timeout only"
        ));
    }
    if let Resource::Bundle(bundle) = resource {
        let reachable = bundle
            .network
            .as_ref()
            .is_some_and(|n| n.ip_range_start.is_some() || n.control_port.is_set());
        if bundle.container.is_none() {
            found.push(format!("{id}: left out, as it has no container"));
        } else if bundle.primitive.is_some() && !reachable {
            found.push(format!(
                "{id}: left out, as what is inside has neither an address nor a port"
            ));
        }
    }
}

fn in_sets(sets: &[AttributeSet], found: &mut Vec<String>) {
    for rule in sets.iter().flat_map(|s| &s.rules) {
        in_rule(rule, found);
    }
}

fn in_rule(rule: &Rule, found: &mut Vec<String>) {
    let id = rule.id.as_deref().unwrap_or("a rule");
    for condition in &rule.conditions {
        match condition {
            Condition::Attribute(e) if matches!(&*e.attribute, "#role" | "#ra-version") => {
                found.push(format!("{id}: {} in a condition holds never", e.attribute));
            }
            Condition::Date(e) if e.spec.as_ref().is_some_and(|s| s.moon.is_set()) => {
                found.push(format!("{id}: phases of the moon"));
            }
            Condition::Rule(inner) => in_rule(inner, found),
            _ => {}
        }
    }
}
