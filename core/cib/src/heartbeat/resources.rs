//! Resources and their operations.

use super::{
    AS_ATTRIBUTES, AS_PARAMETERS,
    import::{Notes, hyphens, say},
};
use crate::{
    value::{FromText as _, Interval},
    xml::Element,
};
use std::collections::{BTreeMap, BTreeSet};

/// What each container contains directly: histories name instances by both.
pub(super) type Names = BTreeMap<String, BTreeSet<String>>;

/// Class, provider and type of each primitive, in present words.
pub(super) type Agents = BTreeMap<String, Vec<(&'static str, String)>>;

/// Monitors of the promoted role: resource and interval in milliseconds.
pub(super) type PromotedMonitors = BTreeSet<(String, u64)>;

pub(super) fn names(cib: &Element) -> Names {
    let mut names = Names::new();
    let resources = cib
        .child("configuration")
        .and_then(|c| c.child("resources"));
    for resource in resources.into_iter().flat_map(|r| &r.children) {
        contained(resource, &mut names);
    }
    names
}

pub(super) fn agents(configuration: &Element) -> Agents {
    fn add(resource: &Element, agents: &mut Agents) {
        if let (true, Some(id)) = (resource.name == "primitive", resource.get("id")) {
            let names = ["class", "provider", "type"];
            let said = names
                .iter()
                .filter_map(|name| Some((*name, resource.get(name)?.to_owned())));
            agents.insert(id.to_owned(), said.collect());
        }
        for child in resource.children.iter().filter(|c| is_resource(c)) {
            add(child, agents);
        }
    }
    let mut agents = Agents::new();
    for resource in configuration
        .child("resources")
        .into_iter()
        .flat_map(|r| &r.children)
    {
        add(resource, &mut agents);
    }
    agents
}

fn is_resource(element: &Element) -> bool {
    ["primitive", "group", "clone", "master_slave"].contains(&&*element.name)
}

fn contained(resource: &Element, names: &mut Names) {
    let id = resource.get("id").unwrap_or_default().to_owned();
    for child in resource.children.iter().filter(|c| is_resource(c)) {
        let inner = child.get("id").unwrap_or_default().to_owned();
        names.entry(id.clone()).or_default().insert(inner);
        contained(child, names);
    }
}

pub(super) fn convert(configuration: &mut Element, notes: &mut Notes) -> PromotedMonitors {
    let mut promoted = PromotedMonitors::new();
    for resource in &mut configuration.child_mut("resources").children {
        if is_resource(resource) {
            one(resource, &mut promoted, notes);
        }
    }
    promoted
}

fn one(resource: &mut Element, promoted: &mut PromotedMonitors, notes: &mut Notes) {
    let mut meta = Vec::new();
    for name in AS_ATTRIBUTES {
        if let Some(value) = resource.take(&name.replace('-', "_")) {
            meta.push(((*name).to_owned(), value));
        }
    }
    for set in &mut resource.children {
        if set.name == "meta_attributes" {
            for pair in &mut set.children {
                if let Some(name) = pair.get("name").map(hyphens) {
                    pair.set("name", &name);
                }
            }
        } else if set.name == "instance_attributes" {
            set.children.retain(|pair| {
                let name = hyphens(pair.get("name").unwrap_or_default());
                let is_meta = AS_ATTRIBUTES.contains(&&*name) || AS_PARAMETERS.contains(&&*name);
                if is_meta {
                    meta.push((name, pair.get("value").unwrap_or_default().to_owned()));
                }
                !is_meta
            });
        }
    }
    resource
        .children
        .retain(|c| c.name != "instance_attributes" || !c.children.is_empty());
    for (name, value) in meta {
        say(resource, "meta_attributes", &name, &value);
    }
    if resource.name == "primitive" {
        primitive(resource, promoted, notes);
        return;
    }
    if resource.name != "group" {
        clone(resource);
    }
    for child in resource.children.iter_mut().filter(|c| is_resource(c)) {
        one(child, promoted, notes);
    }
    if resource.name == "clone" {
        pass_parameters_down(resource);
    }
}

fn clone(resource: &mut Element) {
    // The default was the opposite of today's.
    say(resource, "meta_attributes", "globally-unique", "true");
    if resource.name == "master_slave" {
        resource.name = "clone".to_owned();
        say(resource, "meta_attributes", "promotable", "true");
        for set in &mut resource.children {
            for pair in set.children.iter_mut().filter(|p| p.name == "nvpair") {
                match pair.get("name") {
                    Some("master-max") => pair.set("name", "promoted-max"),
                    Some("master-node-max") => pair.set("name", "promoted-node-max"),
                    _ => {}
                }
            }
        }
    }
}

/// Instances got the parameters of their clone.
fn pass_parameters_down(resource: &mut Element) {
    let sets = resource.take_children("instance_attributes");
    let Some(content) = resource.children.iter_mut().find(|c| is_resource(c)) else {
        resource.children.extend(sets);
        return;
    };
    for set in sets {
        for pair in set.children {
            let name = pair.get("name").unwrap_or_default().to_owned();
            let value = pair.get("value").unwrap_or_default().to_owned();
            say(content, "instance_attributes", &name, &value);
        }
    }
}

fn primitive(primitive: &mut Element, promoted: &mut PromotedMonitors, notes: &mut Notes) {
    script_class(primitive);
    let id = primitive.get("id").unwrap_or_default().to_owned();
    let mut requires = None;
    for op in primitive
        .children
        .iter_mut()
        .filter(|c| c.name == "operations")
        .flat_map(|o| &mut o.children)
        .filter(|o| o.name == "op")
    {
        operation(op, &mut requires, notes);
        let is_promoted = op.get("role") == Some("Promoted") && op.get("name") == Some("monitor");
        if let Some(interval) = op.get("interval").and_then(Interval::from_text)
            && is_promoted
        {
            promoted.insert((id.clone(), interval.millis()));
        }
    }
    if let Some(requires) = requires {
        say(primitive, "meta_attributes", "requires", &requires);
    }
}

/// Scripts of Heartbeat 1 are agents of a provider of that name today.
pub(super) fn script_class(element: &mut Element) {
    if element.get("class") == Some("heartbeat") {
        element.set("class", "ocf");
        element.set("provider", "heartbeat");
    }
}

fn operation(op: &mut Element, requires: &mut Option<String>, notes: &mut Notes) {
    op.rename("on_fail", "on-fail");
    op.rename("start_delay", "start-delay");
    op.rename("interval_origin", "interval-origin");
    if op.get("on-fail") == Some("nothing") {
        op.set("on-fail", "ignore");
    }
    if op.get("interval").is_none() {
        op.set("interval", "0");
    }
    if op.take("disabled").as_deref() == Some("true") {
        op.set("enabled", "false");
    }
    if let Some(role) = op.get("role").map(role) {
        op.set("role", &role);
    }
    if let Some(prereq) = op.take("prereq") {
        if op.get("name") == Some("start") {
            *requires = Some(prereq);
        } else {
            notes.dropped(op, format!("prereq={prereq:?} counted for starts only"));
        }
    }
}

/// A role in its present word.
pub(super) fn role(old: &str) -> String {
    use crate::value::Role;
    Role::from_text(old).map_or_else(|| old.to_owned(), |r| r.to_string())
}
