//! What a partition without quorum does.

use super::Checker;
use crate::{problem::Level, value::NodeType};

pub(super) fn check(checker: &mut Checker<'_>) {
    let spot = checker.options_spot();
    let members = checker
        .cib
        .nodes()
        .iter()
        .filter(|n| n.kind.or(NodeType::Member) == NodeType::Member)
        .count();
    let fencing = checker.option_is("stonith-enabled") != Some(false);
    match checker.cib.option("no-quorum-policy") {
        Some("ignore") if members > 2 => checker.add(
            Level::Warning,
            "quorum-ignored",
            spot,
            format!("{members} nodes ignore quorum: a partition of any size goes on alone"),
            "set no-quorum-policy=stop or freeze",
        ),
        Some("ignore") if members == 2 && !fencing => checker.add(
            Level::Warning,
            "quorum-ignored",
            spot,
            "two nodes ignore quorum and do not fence: each goes on alone after a cut",
            "configure fencing, or a third vote and no-quorum-policy=stop",
        ),
        Some("suicide" | "fence") if !fencing => checker.add(
            Level::Warning,
            "quorum-needs-fencing",
            spot,
            "without quorum nodes are to fence themselves, but fencing is off",
            "set stonith-enabled=true",
        ),
        _ => {}
    }
}
