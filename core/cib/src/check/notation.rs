//! Old notations, which work but have successors.

use super::{Checker, Spot};
use crate::{constraints::Constraint, problem::Level, resources::Resource};

pub(super) fn check(checker: &mut Checker<'_>) {
    for resource in checker.cib.resources() {
        let spot = (resource.at(), resource.tag(), Some(resource.id()));
        if let Resource::Master(_) = resource {
            old(checker, spot, "<master>", "<clone> with promotable=true");
        }
        for primitive in resource.primitives() {
            if let Some("upstart" | "nagios" | "heartbeat") = primitive.class.as_deref() {
                let class = primitive.class.as_deref().unwrap_or_default();
                let what = format!("agents of class {class} no longer exist");
                let mend = "use an agent of class ocf or systemd";
                let spot = super::spot(primitive);
                checker.add(Level::Warning, "old-notation", spot, what, mend);
            }
            for op in primitive.ops() {
                let spot = (op.at, "op", op.id.as_ref());
                if op.requires.is_set() {
                    old(checker, spot, "requires", "the meta attribute requires");
                }
                role(checker, spot, op.role.text());
            }
        }
    }
    for constraint in checker.cib.constraints() {
        let spot = (constraint.at(), constraint.tag(), Some(constraint.id()));
        match constraint {
            Constraint::Location(c) => {
                role(checker, spot, c.role.text());
                for rule in &c.rules {
                    let spot = (rule.at, "rule", rule.id.as_ref());
                    role(checker, spot, rule.role.text());
                }
            }
            Constraint::Colocation(c) => {
                role(checker, spot, c.rsc_role.text());
                role(checker, spot, c.with_rsc_role.text());
            }
            Constraint::Order(c) => {
                if c.score.is_set() && !c.kind.is_set() {
                    old(checker, spot, "score", "kind=\"Optional\" or \"Mandatory\"");
                }
            }
            Constraint::Ticket(c) => role(checker, spot, c.rsc_role.text()),
        }
    }
}

fn role(checker: &mut Checker<'_>, spot: Spot<'_>, text: Option<&str>) {
    match text {
        Some(old_word @ ("Master" | "master")) => old(checker, spot, old_word, "Promoted"),
        Some(old_word @ ("Slave" | "slave")) => old(checker, spot, old_word, "Unpromoted"),
        _ => {}
    }
}

fn old(checker: &mut Checker<'_>, spot: Spot<'_>, old: &str, new: &str) {
    let what = format!("{old} is an old notation");
    let mend = format!("write {new}");
    checker.add(Level::Note, "old-notation", spot, what, mend);
}
