//! Nodes and cluster options.

use super::{
    DEFAULTS, OPTIONS,
    import::{Notes, hyphens, say},
};
use crate::{problem::Level, xml::Element};

pub(super) fn nodes(configuration: &mut Element, notes: &mut Notes) {
    let nodes = configuration.child_mut("nodes");
    nodes.children.retain_mut(|node| {
        if node.get("type") == Some("ping") {
            notes.dropped(
                node,
                "hosts that are only pinged are no nodes today".to_owned(),
            );
            return false;
        }
        if node.get("type") == Some("normal") {
            node.set("type", "member");
        }
        true
    });
}

pub(super) fn options(configuration: &mut Element, notes: &mut Notes) {
    let mut defaults = Vec::new();
    let mut fencing_said = false;
    let options = configuration.child_mut("crm_config");
    for set in &mut options.children {
        set.children.retain_mut(|pair| {
            let Some(old) = pair.get("name").map(hyphens) else {
                return true;
            };
            let value = pair.get("value").unwrap_or_default().to_owned();
            if let Some((_, new)) = DEFAULTS.iter().find(|(name, _)| *name == old) {
                if *new == "resource-failure-stickiness" && value != "0" {
                    let what = format!("{old} has no meaning today");
                    let mend = "set the meta attributes migration-threshold and failure-timeout; \
                                it is kept as the meta attribute resource-failure-stickiness";
                    notes.add(Level::Warning, "failure-stickiness", pair, what, mend);
                }
                defaults.push(("rsc_defaults", *new, value));
                return false;
            }
            if old == "default-action-timeout" {
                defaults.push(("op_defaults", "timeout", value));
                return false;
            }
            let renamed = OPTIONS.iter().find(|(name, _)| *name == old);
            let new = renamed.map_or(&*old, |(_, new)| *new);
            if new == "symetric-cluster" {
                let what = "symetric-cluster is misspelled and never had an effect".to_owned();
                let mend = "write symmetric-cluster if it shall have one";
                notes.add(Level::Warning, "misspelled-option", pair, what, mend);
            }
            if new == "stonith-action" && value == "poweroff" {
                pair.set("value", "off");
            }
            fencing_said |= new == "stonith-enabled";
            pair.set("name", new);
            true
        });
    }
    options.children.retain(|set| !set.children.is_empty());
    if !fencing_said {
        // The default was the opposite of today's.
        if options.children.is_empty() {
            let set = Element::new("cluster_property_set").with("id", "cib-bootstrap-options");
            options.children.push(set);
        }
        let set = &mut options.children[0];
        let id = set.get("id").unwrap_or("cib-bootstrap-options").to_owned();
        set.children
            .push(super::import::pair(&id, "stonith-enabled", "false"));
        let what = "fencing was off by default, and is said to be off now".to_owned();
        let mend = "set stonith-enabled=true, with fencing devices, before shared data is at stake";
        notes.add(Level::Warning, "fencing-off", options, what, mend);
    }
    for (section, name, value) in defaults {
        let section_id = if section == "rsc_defaults" {
            "rsc"
        } else {
            "op"
        };
        let section = configuration.child_mut(section);
        section.set("id", section_id);
        say(section, "meta_attributes", name, &value);
        section.take("id");
    }
}
