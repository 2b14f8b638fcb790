//! Node states and histories.

use super::{
    import::say,
    resources::{Agents, Names, PromotedMonitors, script_class},
};
use crate::{
    value::{FromText as _, TransitionKey, TransitionMagic},
    xml::Element,
};

/// Who made a transition, where Heartbeat did not say.
const NOBODY: &str = "00000000-0000-0000-0000-000000000000";

pub(super) fn convert(
    status: &mut Element,
    names: &Names,
    agents: &Agents,
    promoted: &PromotedMonitors,
) {
    for state in status
        .children
        .iter_mut()
        .filter(|c| c.name == "node_state")
    {
        shutdown(state);
        let id = state.get("id").unwrap_or_default().to_owned();
        for lrm in state.children.iter_mut().filter(|c| c.name == "lrm") {
            if lrm.get("id").is_none() {
                lrm.set("id", &id);
            }
            let resources = lrm.children.iter_mut().flat_map(|r| &mut r.children);
            for resource in resources {
                history(resource, names, agents, promoted);
            }
        }
    }
}

/// A request to shut down is a transient attribute today.
fn shutdown(state: &mut Element) {
    let Some(time) = state.get("shutdown").filter(|t| *t != "0") else {
        return;
    };
    let time = time.to_owned();
    let id = state.get("id").unwrap_or_default().to_owned();
    if state.child("transient_attributes").is_none() {
        let empty = Element::new("transient_attributes").with("id", &id);
        state.children.insert(0, empty);
    }
    let transient = state.child_mut("transient_attributes");
    say(transient, "instance_attributes", "shutdown", &time);
}

/// The id of an instance without the containers before it: `group:child:0` is `child:0`.
fn instance<'a>(mut id: &'a str, names: &Names) -> &'a str {
    while let Some((outer, inner)) = id.split_once(':') {
        let child = inner.split(':').next().unwrap_or_default();
        let contains = names.get(outer).is_some_and(|c| c.contains(child));
        if !contains {
            break;
        }
        id = inner;
    }
    id
}

fn history(resource: &mut Element, names: &Names, agents: &Agents, promoted: &PromotedMonitors) {
    for old in ["last_op", "op-status", "rc-code", "op_state"] {
        resource.take(old);
    }
    script_class(resource);
    let old = resource.get("id").unwrap_or_default().to_owned();
    let new = instance(&old, names).to_owned();
    resource.set("id", &new);
    let primitive = new.split(':').next().unwrap_or_default().to_owned();
    // The oldest ones did not say which agent it was. Where nothing was done either, nothing is
    // known at all, and reading will say so.
    if let Some(agent) = agents.get(&primitive)
        && !resource.children.is_empty()
    {
        for (name, value) in agent {
            if resource.get(name).is_none() {
                resource.set(name, value);
            }
        }
    }
    for op in &mut resource.children {
        if op.name == "lrm_rsc_op" {
            if let Some(rest) = op.get("id").and_then(|id| id.strip_prefix(&*old)) {
                let id = format!("{new}{rest}");
                op.set("id", &id);
            }
            operation(op, &new, &primitive, promoted);
        }
    }
}

fn operation(op: &mut Element, instance: &str, primitive: &str, promoted: &PromotedMonitors) {
    op.rename("migrate_from", "migrate_source");
    let name = op.get("operation").unwrap_or_default().to_owned();
    let interval: u64 = op.get("interval").and_then(|i| i.parse().ok()).unwrap_or(0);
    if op.get("operation_key").is_none() {
        op.set("operation_key", &format!("{instance}_{name}_{interval}"));
    }
    let target_rc = if name == "monitor" && interval == 0 {
        7
    } else if name == "monitor" && promoted.contains(&(primitive.to_owned(), interval)) {
        8
    } else {
        0
    };
    let old = op.get("transition-key").unwrap_or_default();
    let key = TransitionKey::from_text(old).unwrap_or_else(|| {
        let (transition, uuid) = old.split_once(':').unwrap_or(("-1", NOBODY));
        let uuid = if uuid.is_empty() { NOBODY } else { uuid };
        TransitionKey {
            action: 0,
            transition: transition.parse().unwrap_or(-1),
            target_rc,
            uuid: uuid.to_owned(),
        }
    });
    let number = |op: &Element, name: &str, default| {
        op.get(name).and_then(|n| n.parse().ok()).unwrap_or(default)
    };
    let old_magic = op.get("transition-magic").unwrap_or_default();
    let magic = TransitionMagic::from_text(old_magic).unwrap_or_else(|| TransitionMagic {
        op_status: number(op, "op-status", 0),
        rc: number(op, "rc-code", 0),
        key: key.clone(),
    });
    op.set("transition-key", &key.to_text());
    op.set("transition-magic", &magic.to_text());
}
