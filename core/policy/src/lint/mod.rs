//! What no plan may do, however it was made: one small rule per property.
//!
//! The rules know a configuration, a plan and the words of both, and nothing of the engine. Where a rule
//! would have to know the engine's reasons (a group that is only partly colocated, say), it keeps
//! silent: what it finds is wrong.

mod graph;
mod nodes;
mod places;
mod together;
mod view;

use crate::Plan;
use core::fmt;
use mainstay_cib::Cib;
use view::View;

/// Something that a plan must not do.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// The rule, in small letters and hyphens.
    pub rule: &'static str,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.what)
    }
}

/// A rule: its name, and what it finds.
type Rule = (&'static str, fn(&View<'_>) -> Vec<String>);

/// All rules.
const RULES: &[Rule] = &[
    ("circle", graph::circle),
    ("twice", graph::twice),
    ("stop-before-start", graph::stop_before_start),
    ("demote-before-stop", graph::demote_before_stop),
    ("start-before-promote", graph::start_before_promote),
    ("monitor-after-start", graph::monitor_after_start),
    ("offline-node", nodes::offline),
    ("unclean-node", nodes::unclean),
    ("standby-node", nodes::standby),
    ("stop-before-shutdown", nodes::stop_before_shutdown),
    ("fence-before-start", nodes::fence_before_start),
    ("unmanaged", nodes::unmanaged),
    ("one-place", places::one_place),
    ("instances", places::instances),
    ("promoted", places::promoted),
    ("banned-node", places::banned),
    ("stopped", places::stopped),
    ("apart", together::apart),
    ("together", together::together),
    ("order", together::order),
];

/// The names of all rules.
pub fn rules() -> impl Iterator<Item = &'static str> {
    RULES.iter().map(|(name, _)| *name)
}

/// Applies all rules to a plan for a configuration.
#[must_use]
pub fn lint(cib: &Cib, plan: &Plan) -> Vec<Finding> {
    let view = View::new(cib, plan);
    let mut findings = Vec::new();
    for (rule, find) in RULES {
        findings.extend(find(&view).into_iter().map(|what| Finding { rule, what }));
    }
    findings
}

#[cfg(test)]
mod tests;
