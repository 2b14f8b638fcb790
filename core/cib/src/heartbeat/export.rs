//! To Heartbeat's notation, as 2.1 understands it.

use super::{
    DEFAULTS, HYPHENATED, OPTIONS,
    import::{Notes, pair},
};
use crate::{
    cib::Cib,
    problem::{self, Level, Problem},
    value::{FromText as _, OrderKind, Role},
    xml::{Element, parse_moved},
};

/// Writes Heartbeat's XML. Everything that it cannot say is an error among the problems, and left
/// out of the text: who uses the text in spite of errors, uses another configuration.
#[must_use]
pub fn export(cib: &Cib) -> (String, Vec<Problem>) {
    let (text, places) = cib.to_xml_with_places();
    let copied = parse_moved(&text, Some(&places), |root, reader| {
        Element::from_node(root, reader)
    });
    let (mut tree, _) = match copied {
        Ok(tree) => tree,
        Err(problem) => return (String::new(), vec![problem]),
    };
    let mut notes = Notes::default();
    root(&mut tree, &mut notes);
    for section in &mut tree.children {
        match &*section.name {
            "configuration" => configuration(section, &mut notes),
            "status" => status(section, &mut notes),
            _ => {}
        }
    }
    wrap_attributes(&mut tree);
    tree.each(&mut |element| {
        for new in HYPHENATED {
            element.rename(&new.replace('_', "-"), new);
        }
    });
    let (text, _) = tree.write();
    let mut problems = notes.0;
    problem::sort(&mut problems);
    let head = "<?xml version=\"1.0\"?>\n<!DOCTYPE cib SYSTEM \"crm-1.0.dtd\">\n";
    (format!("{head}{text}"), problems)
}

fn refuse(element: &Element, what: &str, notes: &mut Notes) {
    let mend = "take it out, or stay with Pacemaker's notation";
    let what = format!("Heartbeat knows no {what}");
    notes.add(Level::Error, "not-in-heartbeat", element, what, mend);
}

/// Takes out attributes that Heartbeat does not know, and says so.
fn refuse_attributes(element: &mut Element, names: &[&str], notes: &mut Notes) {
    for name in names {
        if element.get(name).is_some() {
            refuse(element, &format!("attribute {name} here"), notes);
            element.take(name);
        }
    }
}

/// Takes out elements that Heartbeat does not know, and says so.
fn refuse_children(element: &mut Element, names: &[&str], notes: &mut Notes) {
    for name in names {
        for taken in element.take_children(name) {
            if !taken.children.is_empty() || !taken.attributes.is_empty() {
                refuse(&taken, &format!("<{name}>"), notes);
            }
        }
    }
}

fn root(cib: &mut Element, notes: &mut Notes) {
    cib.take("validate-with");
    cib.rename("remote-tls-port", "remote_access_port");
    for new in [
        "update-origin",
        "update-client",
        "update-user",
        "execution-date",
        "no-quorum-panic",
        "remote-clear-port",
    ] {
        if cib.take(new).is_some() {
            notes.dropped(cib, format!("{new} has no meaning in Heartbeat"));
        }
    }
}

fn configuration(configuration: &mut Element, notes: &mut Notes) {
    refuse_children(
        configuration,
        &["fencing-topology", "acls", "tags", "alerts"],
        notes,
    );
    let resources = configuration.take_children("rsc_defaults");
    let operations = configuration.take_children("op_defaults");
    let defaults = [(resources, "rsc_defaults"), (operations, "op_defaults")];
    let options = configuration.child_mut("crm_config");
    if options.children.is_empty() {
        let set = Element::new("cluster_property_set").with("id", "cib-bootstrap-options");
        options.children.push(set);
    }
    for (sections, kind) in defaults {
        for set in sections.iter().flat_map(|s| &s.children) {
            if set.child("rule").is_some() {
                refuse(set, "defaults under a rule", notes);
                continue;
            }
            for value in &set.children {
                default(value, kind, &mut options.children[0], notes);
            }
        }
    }
    cluster_options(options);
    for section in &mut configuration.children {
        match &*section.name {
            "nodes" => nodes(section, notes),
            "resources" => resources_section(section, notes),
            "constraints" => constraints(section, notes),
            _ => {}
        }
    }
}

fn default(value: &Element, kind: &str, set: &mut Element, notes: &mut Notes) {
    let name = value.get("name").unwrap_or_default();
    let old = match kind {
        "op_defaults" if name == "timeout" => Some("default-action-timeout"),
        "op_defaults" => None,
        _ => DEFAULTS
            .iter()
            .find(|(_, new)| *new == name)
            .map(|(old, _)| *old),
    };
    let id = set.get("id").unwrap_or("options").to_owned();
    match old {
        Some(old) => set
            .children
            .push(pair(&id, old, value.get("value").unwrap_or_default())),
        None => refuse(value, &format!("default for {name}"), notes),
    }
}

fn cluster_options(options: &mut Element) {
    let mut fencing_said = false;
    for pair in options.children.iter_mut().flat_map(|s| &mut s.children) {
        let Some(new) = pair.get("name").map(str::to_owned) else {
            continue;
        };
        fencing_said |= new == "stonith-enabled";
        if new == "stonith-action" && pair.get("value") == Some("off") {
            pair.set("value", "poweroff");
        }
        let old = OPTIONS.iter().find(|(_, n)| *n == new);
        let old = old.map_or(&*new, |(old, _)| *old);
        pair.set("name", &old.replace('-', "_"));
    }
    if !fencing_said {
        // The default is the opposite of today's.
        let id = options.children[0]
            .get("id")
            .unwrap_or("options")
            .to_owned();
        options.children[0]
            .children
            .push(pair(&id, "stonith_enabled", "true"));
    }
}

fn nodes(nodes: &mut Element, notes: &mut Notes) {
    nodes.children.retain_mut(|node| {
        refuse_attributes(node, &["score"], notes);
        refuse_children(node, &["utilization"], notes);
        match node.get("type") {
            Some("remote") => {
                refuse(node, "remote nodes", notes);
                false
            }
            _ => {
                if node.name == "node" {
                    node.set("type", "normal");
                }
                true
            }
        }
    });
}

fn resources_section(resources: &mut Element, notes: &mut Notes) {
    refuse_children(resources, &["template", "bundle"], notes);
    for resource in &mut resources.children {
        one(resource, notes);
    }
}

fn one(resource: &mut Element, notes: &mut Notes) {
    refuse_children(resource, &["utilization"], notes);
    refuse_attributes(resource, &["template"], notes);
    let mut promotable = resource.name == "master";
    let mut unique = false;
    let mut requires = None;
    resource.children.retain_mut(|set| {
        if set.name != "meta_attributes" {
            return true;
        }
        let before = set.children.len();
        set.children.retain_mut(|pair| {
            let value = pair.get("value").unwrap_or_default().to_owned();
            match pair.get("name") {
                Some("promotable") => {
                    promotable |= bool::from_text(&value) == Some(true);
                    return false;
                }
                Some("requires") => {
                    requires = Some(value);
                    return false;
                }
                Some("globally-unique") => unique = true,
                Some("promoted-max") => pair.set("name", "master-max"),
                Some("promoted-node-max") => pair.set("name", "master-node-max"),
                Some(name @ ("migration-threshold" | "failure-timeout")) => {
                    let what = format!("Heartbeat knows no meta attribute {name}");
                    let mend = "use resource-failure-stickiness there";
                    notes.add(Level::Warning, "not-in-heartbeat", pair, what, mend);
                }
                _ => {}
            }
            if let Some(name) = pair.get("name").map(|n| n.replace('-', "_")) {
                pair.set("name", &name);
            }
            true
        });
        before == 0 || !set.children.is_empty()
    });
    if ["clone", "master"].contains(&&*resource.name) {
        if promotable {
            resource.name = "master_slave".to_owned();
        }
        if !unique {
            // The default is the opposite of today's.
            resource.set("globally_unique", "false");
        }
    }
    for child in &mut resource.children {
        match &*child.name {
            "primitive" | "group" => one(child, notes),
            "operations" => {
                refuse_attributes(child, &["id-ref"], notes);
                for op in child.children.iter_mut().filter(|o| o.name == "op") {
                    operation(op, notes);
                }
            }
            _ => {}
        }
    }
    if let Some(requires) = requires {
        prerequisite(resource, &requires);
    }
}

fn prerequisite(resource: &mut Element, requires: &str) {
    let id = resource.get("id").unwrap_or_default().to_owned();
    let operations = resource.child_mut("operations");
    let start = operations
        .children
        .iter()
        .position(|o| o.get("name") == Some("start"));
    let index = start.unwrap_or_else(|| {
        let op = Element::new("op")
            .with("id", &format!("{id}-start-0"))
            .with("name", "start")
            .with("interval", "0");
        operations.children.push(op);
        operations.children.len() - 1
    });
    operations.children[index].set("prereq", requires);
}

fn operation(op: &mut Element, notes: &mut Notes) {
    op.rename("on-fail", "on_fail");
    op.rename("start-delay", "start_delay");
    op.rename("interval-origin", "interval_origin");
    op.rename("requires", "prereq");
    refuse_attributes(op, &["record-pending"], notes);
    refuse_children(op, &["meta_attributes"], notes);
    if let Some("demote" | "restart-container") = op.get("on_fail") {
        refuse_attributes(op, &["on_fail"], notes);
    }
    if let Some(enabled) = op.take("enabled") {
        let disabled = bool::from_text(&enabled) == Some(false);
        op.set("disabled", if disabled { "true" } else { "false" });
    }
    old_role(op, "role");
}

fn old_role(element: &mut Element, name: &str) {
    let old = match element.get(name).and_then(Role::from_text) {
        Some(Role::Promoted) => "Master",
        Some(Role::Unpromoted) => "Slave",
        _ => return,
    };
    element.set(name, old);
}

fn constraints(constraints: &mut Element, notes: &mut Notes) {
    refuse_children(constraints, &["rsc_ticket"], notes);
    constraints.children.retain_mut(|constraint| {
        if constraint.child("resource_set").is_some() {
            refuse(constraint, "<resource_set>", notes);
            return false;
        }
        match &*constraint.name {
            "rsc_location" => location(constraint, notes),
            "rsc_colocation" => colocation(constraint, notes),
            "rsc_order" => order(constraint, notes),
            _ => true,
        }
    });
}

fn location(constraint: &mut Element, notes: &mut Notes) -> bool {
    if constraint.get("rsc-pattern").is_some() {
        refuse(constraint, "attribute rsc-pattern here", notes);
        return false;
    }
    refuse_attributes(constraint, &["resource-discovery"], notes);
    let role = constraint.take("role");
    if let Some(node) = constraint.take("node") {
        let id = constraint.get("id").unwrap_or_default().to_owned();
        let score = constraint.take("score").unwrap_or_else(|| "0".to_owned());
        let expression = Element::new("expression")
            .with("id", &format!("{id}-expression"))
            .with("attribute", "#uname")
            .with("operation", "eq")
            .with("value", &node);
        let mut rule = Element::new("rule")
            .with("id", &format!("{id}-rule"))
            .with("score", &score);
        rule.children.push(expression);
        constraint.children.push(rule);
    }
    for rule in constraint.children.iter_mut().filter(|c| c.name == "rule") {
        if let (Some(role), None) = (&role, rule.get("role")) {
            rule.set("role", role);
        }
        old_role(rule, "role");
        rule.each(&mut |condition| {
            if condition
                .get("value-source")
                .is_some_and(|s| s != "literal")
            {
                refuse_attributes(condition, &["value-source"], notes);
            }
        });
    }
    true
}

fn colocation(constraint: &mut Element, notes: &mut Notes) -> bool {
    refuse_attributes(constraint, &["node-attribute", "influence"], notes);
    for (new, old) in [
        ("rsc", "from"),
        ("with-rsc", "to"),
        ("rsc-role", "from_role"),
        ("with-rsc-role", "to_role"),
    ] {
        constraint.rename(new, old);
    }
    old_role(constraint, "from_role");
    old_role(constraint, "to_role");
    true
}

fn order(constraint: &mut Element, notes: &mut Notes) -> bool {
    refuse_attributes(constraint, &["require-all"], notes);
    for (new, old) in [
        ("first", "from"),
        ("then", "to"),
        ("first-action", "action"),
        ("then-action", "to_action"),
    ] {
        constraint.rename(new, old);
    }
    constraint.set("type", "before");
    match constraint.take("kind").as_deref().map(OrderKind::from_text) {
        Some(Some(OrderKind::Serialize)) => {
            refuse(constraint, "kind Serialize", notes);
            return false;
        }
        Some(Some(OrderKind::Optional)) => constraint.set("score", "0"),
        Some(_) => constraint.set("score", "INFINITY"),
        None => {}
    }
    true
}

fn status(status: &mut Element, notes: &mut Notes) {
    refuse_children(status, &["tickets"], notes);
    for state in &mut status.children {
        for (name, yes) in [("in_ccm", "true"), ("crmd", "online")] {
            // Newer clusters write since when.
            if state
                .get(name)
                .is_some_and(|v| v.parse::<u64>().is_ok_and(|t| t > 1))
            {
                state.set(name, yes);
            }
        }
    }
}

/// Puts named values into their wrapper.
fn wrap_attributes(cib: &mut Element) {
    cib.each(&mut |element| {
        let bare = element.children.iter().any(|c| c.name == "nvpair");
        if bare && element.name != "attributes" {
            let pairs = element.take_children("nvpair");
            let mut wrapper = Element::new("attributes");
            wrapper.children = pairs;
            element.children.push(wrapper);
        }
    });
}
