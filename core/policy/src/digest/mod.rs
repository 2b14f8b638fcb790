//! Whether the parameters of an operation have changed since it was done: histories hold digests.

mod md5;

use crate::{
    actions::op_def,
    model::{Nx, Sx, Task, Values, World},
    rules::{Asked, collect},
};
use mainstay_cib::{
    status::LrmOp,
    text::Str,
    value::{FromText as _, Interval},
};
use md5::md5;
use std::collections::BTreeMap;

/// How the present parameters compare with those that an operation was done with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// The history does not say.
    Unknown,
    None,
    /// Something changed.
    Some,
    /// Something changed that a running service cannot take up.
    NeedsRestart,
    /// Only secrets changed, which the configuration at hand may have been cleaned of.
    OnlySecrets,
}

/// The parameters as a digest is made of them.
type Fields = BTreeMap<Str, Str>;

/// Whether a last failure was one with other parameters. Where the parameters are not known before
/// services are placed, it is not.
pub(crate) fn differs(world: &mut World<'_>, service: Sx, node: Nx, op: &LrmOp) -> bool {
    if !matches!(&*op.operation, "start" | "monitor") {
        return false;
    }
    if needs_place(world, service) {
        world.deferred_checks.push((service, node, op.id.clone()));
        return false;
    }
    !matches!(
        compare(world, service, node, op),
        Change::Unknown | Change::None
    )
}

/// Whether a parameter of a connection follows from where its container is.
pub(crate) fn needs_place(world: &World<'_>, service: Sx) -> bool {
    let s = &world.services[service];
    s.is_remote
        && s.nests
        && crate::unpack::parameter(world, &s.config, "addr").as_deref() == Some("#uname")
}

/// Compares the present parameters with those in a history.
pub(crate) fn compare(world: &mut World<'_>, service: Sx, node: Nx, op: &LrmOp) -> Change {
    let interval = op.interval.or(0);
    let task = world.task(&op.operation);
    let (own, mut fields) = parameters(world, service, node);
    let extra = of_operation(world, service, task, interval, node, &mut fields);
    if interval > 0 {
        let timeout = timeout(world, service, task, interval);
        fields.insert("CRM_meta_timeout".into(), timeout.to_string().into());
    }
    filter(&mut fields);
    if let Some(recorded) = op.op_restart_digest.as_deref() {
        let mut kept = fields.clone();
        if let Some(names) = op.op_force_restart.as_deref() {
            kept.retain(|name, _| names.split_whitespace().any(|n| *n == **name));
        }
        if digest(&kept) != recorded {
            return unless_secret(world, service, op, own, Change::NeedsRestart);
        }
    }
    match op.op_digest.as_deref() {
        None => Change::Unknown,
        Some(recorded) if digest(&fields) == recorded => Change::None,
        Some(_) if interval == 0 && extra => {
            unless_secret(world, service, op, own, Change::NeedsRestart)
        }
        Some(_) => unless_secret(world, service, op, own, Change::Some),
    }
}

/// The digest that the history of an operation gets if it is done now.
pub(crate) fn of(world: &World<'_>, service: Sx, node: Nx, task: Task, interval: u64) -> String {
    let (_, mut fields) = parameters(world, service, node);
    of_operation(world, service, task, interval, node, &mut fields);
    if interval > 0 {
        let timeout = timeout(world, service, task, interval);
        fields.insert("CRM_meta_timeout".into(), timeout.to_string().into());
    }
    filter(&mut fields);
    digest(&fields)
}

/// The parameters of the agent on a node, and a copy to add to.
fn parameters(world: &World<'_>, service: Sx, node: Nx) -> (Fields, Fields) {
    let s = &world.services[service];
    let config = &s.config;
    let asked = Asked {
        now: world.now,
        node: Some(&world.nodes[node]),
        ..Asked::default()
    };
    let mut values = Values::new();
    if needs_place(world, service)
        && let Some(container) = s.container
        && let Some(place) = world.services[container]
            .home
            .or_else(|| world.active_node(container))
    {
        values.insert("addr".into(), world.nodes[place].name.clone());
    }
    if let Some(primitive) = &config.primitive {
        collect(world.index, &primitive.parameters, asked, None, &mut values);
    }
    for (name, value) in &config.inherited {
        values.entry(name.clone()).or_insert_with(|| value.clone());
    }
    (values.clone(), values)
}

/// Adds the parameters that are for this operation only; whether there are any.
fn of_operation(
    world: &World<'_>,
    service: Sx,
    task: Task,
    interval: u64,
    node: Nx,
    fields: &mut Fields,
) -> bool {
    let Some(id) = op_def(world, service, task, interval).map(|op| op.id.clone()) else {
        return false;
    };
    let Some(primitive) = &world.services[service].config.primitive else {
        return false;
    };
    let Some(op) = primitive.ops().iter().find(|o| o.id.as_ref() == Some(&id)) else {
        return false;
    };
    let asked = Asked {
        now: world.now,
        node: Some(&world.nodes[node]),
        ..Asked::default()
    };
    let mut values = Values::new();
    collect(world.index, &op.parameters, asked, None, &mut values);
    let any = !values.is_empty();
    fields.extend(values);
    any
}

/// How long an operation may take, in milliseconds.
fn timeout(world: &World<'_>, service: Sx, task: Task, interval: u64) -> u64 {
    let config = &world.services[service].config;
    let fence_monitor = (config.is_fencing() && task == Task::Monitor)
        .then(|| crate::unpack::parameter(world, config, "pcmk_monitor_timeout"))
        .flatten();
    let configured = match op_def(world, service, task, interval) {
        Some(op) => op.meta.get("timeout").cloned(),
        None => world.op_default(service, task, interval, "timeout"),
    };
    fence_monitor
        .or(configured)
        .and_then(|t| Interval::from_text(&t))
        .map_or(20_000, Interval::millis)
}

fn filter(fields: &mut Fields) {
    for name in [
        "id",
        "crm_feature_set",
        "op-digest",
        "on_node",
        "on_node_uuid",
        "pcmk_external_ip",
    ] {
        fields.remove(name);
    }
}

/// The change, unless it is one of secrets only.
fn unless_secret(
    world: &World<'_>,
    service: Sx,
    op: &LrmOp,
    mut fields: Fields,
    change: Change,
) -> Change {
    let Some(recorded) = op.op_secure_digest.as_deref() else {
        return change;
    };
    let names = op
        .op_secure_params
        .as_deref()
        .unwrap_or(" passwd password user ");
    fields.retain(|name, _| !names.split_whitespace().any(|n| *n == **name));
    let old = older_than(op.feature_set.as_deref(), (3, 16, 0));
    if old && world.services[service].config.is_fencing() {
        fields.retain(|name, _| !name.starts_with("pcmk_"));
    }
    filter(&mut fields);
    if digest(&fields) == recorded {
        Change::OnlySecrets
    } else {
        change
    }
}

/// Whether a set of features is older than another one; one that is not known is.
pub(crate) fn older_than(version: Option<&str>, than: (u32, u32, u32)) -> bool {
    let mut parts = version
        .unwrap_or("")
        .split('.')
        .map(|p| p.parse().unwrap_or(0));
    let mut next = || parts.next().unwrap_or(0);
    (next(), next(), next()) < than
}

fn digest(fields: &Fields) -> String {
    let mut text = String::from(" <parameters");
    for (name, value) in fields {
        text.push(' ');
        text.push_str(name);
        text.push_str("=\"");
        escape(value, &mut text);
        text.push('"');
    }
    text.push_str("/>\n");
    md5(&text)
}

fn escape(value: &str, into: &mut String) {
    for c in value.chars() {
        match c {
            '<' => into.push_str("&lt;"),
            '>' => into.push_str("&gt;"),
            '&' => into.push_str("&amp;"),
            '"' => into.push_str("&quot;"),
            '\'' => into.push_str("&apos;"),
            '\n' => into.push_str("\\n"),
            '\r' => into.push_str("\\r"),
            '\t' => into.push_str("\\t"),
            _ => into.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects the comparison with recorded digests: the empty set has a well-known one.
    #[test]
    fn the_digest_of_no_parameters_is_the_known_one() {
        assert_eq!(digest(&Fields::new()), "f2317cad3d54cec5d7d7aa7d0bf35cf8");
    }
}
