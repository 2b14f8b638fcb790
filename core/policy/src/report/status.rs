//! Where everything is: the states of nodes, and the places of services.

use crate::model::{Kind, Sx, World};
use mainstay_cib::value::Role;
use std::collections::BTreeMap;

/// The state of a cluster in short words.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Status {
    /// By name: online, offline, unclean, unclean-online or pending; behind commas standby,
    /// standby_onfail, maintenance and shutdown as they hold.
    pub nodes: BTreeMap<String, String>,
    /// By name, where a service is active: node and role, with failed, blocked, unmanaged and
    /// orphaned in brackets as they hold. Equal instances of a clone have one name.
    pub services: BTreeMap<String, Vec<String>>,
}

impl Status {
    /// The state; `pending` if roles are shown that are still on their way.
    pub(crate) fn of(world: &World<'_>, pending: bool) -> Status {
        let mut status = Status::default();
        for (n, node) in world.nodes.iter().enumerate() {
            status.nodes.insert(node.name.to_string(), state(world, n));
        }
        for service in 0..world.services.len() {
            if world.services[service].kind == Kind::Primitive {
                let name = world.shown_name(service);
                let places = status.services.entry(name).or_default();
                places.extend(places_of(world, service, pending));
                places.sort();
            }
        }
        status
    }
}

fn state(world: &World<'_>, node: usize) -> String {
    let n = &world.nodes[node];
    let mut state = match (n.unclean, n.pending, n.online) {
        (true, _, true) => "unclean-online",
        (true, _, false) => "unclean",
        (false, true, _) => "pending",
        (false, false, true) => "online",
        (false, false, false) => "offline",
    }
    .to_owned();
    for (holds, word) in [
        (n.standby, ",standby"),
        (n.standby_onfail, ",standby_onfail"),
        (n.maintenance, ",maintenance"),
        (n.shutdown, ",shutdown"),
    ] {
        if holds {
            state.push_str(word);
        }
    }
    state
}

fn places_of(world: &World<'_>, service: Sx, pending: bool) -> Vec<String> {
    let s = &world.services[service];
    let flags: Vec<&str> = [
        (s.failed, "failed"),
        (s.blocked, "blocked"),
        (!s.managed, "unmanaged"),
        (s.orphan, "orphaned"),
    ]
    .iter()
    .filter(|(holds, _)| *holds)
    .map(|(_, word)| *word)
    .collect();
    let flags = if flags.is_empty() {
        String::new()
    } else {
        format!(" ({})", flags.join(","))
    };
    let role = shown_role(world, service, pending);
    s.running_on
        .iter()
        .filter(|n| world.nodes[**n].online)
        .map(|&n| format!("{} {role}{flags}", world.nodes[n].name))
        .collect()
}

/// The role as people see it: what is on its way, else the lowest role that a promotable service has.
fn shown_role(world: &World<'_>, service: Sx, pending: bool) -> &'static str {
    let s = &world.services[service];
    match s
        .pending
        .as_ref()
        .filter(|_| pending)
        .map(|(task, _)| &**task)
    {
        Some("start") => return "Starting",
        Some("stop") => return "Stopping",
        Some("migrate_to" | "migrate_from") => return "Migrating",
        Some("promote") => return "Promoting",
        Some("demote") => return "Demoting",
        _ => {}
    }
    let promotable = world.services[world.top(service)].promotable;
    match s.role {
        Some(Role::Started) if promotable => Role::Unpromoted.as_str(),
        Some(role) => role.as_str(),
        None => "Unknown",
    }
}

impl World<'_> {
    /// The name of a service for people: without a number, unless the number tells instances apart.
    pub(crate) fn shown_name(&self, service: Sx) -> String {
        let id = &self.services[service].id;
        let numbered = self.outermost_unique(service);
        match id.rsplit_once(':') {
            Some((base, number))
                if !numbered
                    && !number.is_empty()
                    && number.bytes().all(|b| b.is_ascii_digit()) =>
            {
                base.to_owned()
            }
            _ => id.to_string(),
        }
    }

    fn outermost_unique(&self, service: Sx) -> bool {
        let mut at = self.services[service].parent;
        while let Some(parent) = at {
            let p = &self.services[parent];
            if matches!(p.kind, Kind::Clone | Kind::Bundle) && p.unique {
                return true;
            }
            at = p.parent;
        }
        false
    }
}
