//! References to what does not exist.

use super::{Checker, Spot};
use crate::{
    constraints::Constraint,
    problem::Level,
    resources::{Member, Resource},
    rules::{Condition, Rule},
    sets::AttributeSet,
    text::Str,
};

pub(super) fn check(checker: &mut Checker<'_>) {
    let cib = checker.cib;
    for all in [cib.options(), cib.rsc_defaults(), cib.op_defaults()] {
        sets(checker, all);
    }
    for node in cib.nodes() {
        sets(checker, &node.attributes);
        sets(checker, &node.utilization);
    }
    for resource in cib.resources() {
        of_resource(checker, resource);
    }
    for constraint in cib.constraints() {
        for set in constraint.sets() {
            if let (Some(to), None) = (&set.id_ref, checker.index.resource_set(set)) {
                missing(checker, (set.at, "resource_set", set.id.as_ref()), to);
            }
        }
        if let Constraint::Location(location) = constraint {
            location.rules.iter().for_each(|r| rule(checker, r));
        }
    }
}

fn of_resource<'a>(checker: &mut Checker<'a>, resource: &'a Resource) {
    sets(checker, resource.meta());
    match resource {
        Resource::Group(group) => sets(checker, &group.parameters),
        Resource::Clone(clone) | Resource::Master(clone) => sets(checker, &clone.parameters),
        Resource::Primitive(_) | Resource::Bundle(_) => {}
    }
    for member in resource.members() {
        if let Member::Resource(Resource::Group(group)) = member {
            sets(checker, &group.meta);
            sets(checker, &group.parameters);
        }
    }
    for primitive in resource.primitives() {
        if !matches!(resource, Resource::Primitive(_)) {
            sets(checker, &primitive.meta);
        }
        sets(checker, &primitive.parameters);
        sets(checker, &primitive.utilization);
        for op in primitive.ops() {
            sets(checker, &op.meta);
            sets(checker, &op.parameters);
        }
    }
}

fn sets<'a>(checker: &mut Checker<'a>, sets: &'a [AttributeSet]) {
    for set in sets {
        if let (Some(to), None) = (&set.id_ref, checker.index.set(set)) {
            missing(checker, (set.at, "set of values", set.id.as_ref()), to);
        }
        for pair in &set.pairs {
            if let (Some(to), None) = (&pair.id_ref, checker.index.pair(pair)) {
                missing(checker, (pair.at, "nvpair", pair.id.as_ref()), to);
            }
        }
        set.rules.iter().for_each(|r| rule(checker, r));
    }
}

fn rule<'a>(checker: &mut Checker<'a>, this: &'a Rule) {
    if let (Some(to), None) = (&this.id_ref, checker.index.rule_of(this)) {
        missing(checker, (this.at, "rule", this.id.as_ref()), to);
    }
    for condition in &this.conditions {
        if let Condition::Rule(inner) = condition {
            rule(checker, inner);
        }
    }
}

fn missing(checker: &mut Checker<'_>, spot: Spot<'_>, to: &Str) {
    let what = format!("it refers to {to:?}, which does not exist");
    let mend = "correct id-ref, or write here what is meant";
    checker.add(Level::Warning, "missing-reference", spot, what, mend);
}
