//! Whether a failed node can be made harmless.

use super::Checker;
use crate::problem::Level;

pub(super) fn check(checker: &mut Checker<'_>) {
    let spot = checker.options_spot();
    if checker.option_is("stonith-enabled") == Some(false) {
        checker.add(
            Level::Warning,
            "fencing-off",
            spot,
            "fencing is off: when nodes lose sight of each other, both may run the same services",
            "configure fencing devices and set stonith-enabled=true",
        );
        return;
    }
    let primitives = checker.primitives();
    let watchdog = checker.option_is("have-watchdog") == Some(true)
        && checker
            .cib
            .option("stonith-watchdog-timeout")
            .is_some_and(|t| t != "0");
    let any = primitives.iter().any(|p| p.is_fencing());
    if !any && !watchdog && !checker.cib.resources().is_empty() {
        checker.add(
            Level::Error,
            "no-fencing-device",
            spot,
            "fencing is on, but there is no device: no resource will be started",
            "add a primitive of class stonith, or, if no data is at stake, set \
             stonith-enabled=false",
        );
    }
    for level in checker.cib.fencing_levels() {
        let place = (level.at, "fencing-level", level.id.as_ref());
        if !level.index.get().is_some_and(|i| (1..=9).contains(&i)) {
            let mend = "write index=\"1\" to \"9\"";
            checker.add(
                Level::Error,
                "fencing-index",
                place,
                "the level has no valid index, and is not used",
                mend,
            );
        }
        if level.devices().next().is_none() {
            let mend = "name devices, separated by commas";
            checker.add(
                Level::Error,
                "fencing-devices",
                place,
                "the level names no device",
                mend,
            );
        }
        let nodes = checker.cib.nodes();
        if let Some(target) = &level.target
            && !nodes.iter().any(|n| n.name().eq_ignore_ascii_case(target))
        {
            let what = format!("target names {target:?}, which is no configured node");
            let mend = "name a node; a remote or guest node may be right though";
            checker.add(Level::Note, "unknown-node", place, what, mend);
        }
    }
}
