//! Whether a failed node can be made harmless.

use super::Checker;
use crate::{
    fencing::FencingLevel, nodes::Node, problem::Level, resources::Primitive, sets::lookup,
    value::NodeType,
};
use std::borrow::Cow;

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
    unfenced_nodes(checker, &primitives);
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

/// Nodes that no device is for, if every device says for which nodes it is.
fn unfenced_nodes(checker: &mut Checker<'_>, primitives: &[Cow<'_, Primitive>]) {
    let mut covered: Vec<String> = Vec::new();
    for device in primitives.iter().filter(|p| p.is_fencing()) {
        let value = |name| lookup(&device.parameters, name);
        let asks = !matches!(value("pcmk_host_check"), None | Some("static-list"));
        let lists = [value("pcmk_host_list"), value("pcmk_host_map")];
        if asks || lists.iter().all(Option::is_none) {
            return; // Only the device knows.
        }
        let names = lists.into_iter().flatten();
        let names = names.flat_map(|l| l.split([',', ';', ' ', '\t', '\n']));
        covered.extend(names.map(|n| n.split(':').next().unwrap_or(n).to_lowercase()));
    }
    if covered.is_empty() {
        return;
    }
    let levels = checker.cib.fencing_levels();
    let member = |n: &&Node| n.kind.or(NodeType::Member) == NodeType::Member;
    for node in checker.cib.nodes().iter().filter(member) {
        let name = node.name();
        let by_level = |l: &FencingLevel| {
            l.target
                .as_ref()
                .is_none_or(|t| t.eq_ignore_ascii_case(name))
        };
        if !covered.contains(&name.to_lowercase()) && !levels.iter().any(by_level) {
            checker.add(
                Level::Warning,
                "not-fenced",
                (node.at, "node", Some(&node.id)),
                "no fencing device is for this node, so nothing recovers when it fails",
                "name it in pcmk_host_list or pcmk_host_map of a device",
            );
        }
    }
}
