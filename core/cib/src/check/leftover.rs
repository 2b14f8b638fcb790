//! What somebody did for a while and may have forgotten.

use super::Checker;
use crate::{constraints::Constraint, problem::Level, sets::lookup, value::truth};

pub(super) fn check(checker: &mut Checker<'_>) {
    for constraint in checker.cib.constraints() {
        let Constraint::Location(location) = constraint else {
            continue;
        };
        let commanded = ["cli-ban-", "cli-prefer-", "cli-standby-"];
        if commanded.iter().any(|c| location.id.starts_with(c)) {
            let temporary = location.rules.iter().any(|r| {
                let dated = |c: &_| matches!(c, crate::rules::Condition::Date(_));
                r.conditions.iter().any(dated)
            });
            if !temporary {
                checker.add(
                    Level::Warning,
                    "left-by-command",
                    (location.at, "rsc_location", Some(&location.id)),
                    "a command to move or ban a resource left it, and it stays for ever",
                    "take it out if it has served its purpose",
                );
            }
        }
    }
    for (name, what) in [
        (
            "maintenance-mode",
            "the whole cluster is in maintenance: nothing is managed",
        ),
        ("stop-all-resources", "all resources are kept stopped"),
    ] {
        if checker.option_is(name) == Some(true) {
            let spot = checker.options_spot();
            let mend = format!("set {name}=false when the work is done");
            checker.add(Level::Note, "set-aside", spot, what, mend);
        }
    }
    for node in checker.cib.nodes() {
        for name in ["standby", "maintenance"] {
            if lookup(&node.attributes, name).and_then(truth) == Some(true) {
                let what = format!("the node is set to {name}");
                let mend = format!("set {name}=false when the work is done");
                let spot = (node.at, "node", Some(&node.id));
                checker.add(Level::Note, "set-aside", spot, what, mend);
            }
        }
    }
    for resource in checker.cib.resources() {
        let managed = checker.meta(resource, "is-managed").and_then(truth);
        if managed == Some(false) {
            checker.add(
                Level::Note,
                "set-aside",
                (resource.at(), resource.tag(), Some(resource.id())),
                "the resource is not managed",
                "set is-managed=true when the work is done",
            );
        }
    }
}
