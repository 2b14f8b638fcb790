//! The first stage: options, nodes and services as they are configured.

mod bundle;
mod collective;
mod nodes;
mod remote;
mod service;
mod unsupported;

pub(crate) use collective::another_instance;
pub(crate) use nodes::add_attributes;
pub(crate) use service::{orphan, parameter, target_role};

use crate::{
    Ask,
    model::{Options, Ticket, Values, World},
    report::Notes,
    rules::{Asked, collect},
};
use mainstay_base::FixedMap;
use mainstay_cib::{Cib, index::Index, resources::Resource, sets::AttributeSet, value::truth};
use std::collections::BTreeMap;

/// Reads the configuration; nothing is known of any state yet.
pub(crate) fn unpack<'a>(cib: &'a Cib, index: &'a Index<'a>, ask: Ask) -> World<'a> {
    let now = ask.now;
    let mut all = Values::new();
    let asked = Asked {
        now,
        ..Asked::default()
    };
    let first = Some("cib-bootstrap-options");
    collect(index, cib.options(), asked, first, &mut all);
    // Nodes that a watchdog can reset need no device.
    let has_watchdog = all
        .get("have-watchdog")
        .is_some_and(|v| truth(v) == Some(true));
    let may_panic = cib.no_quorum_panic.or(false);
    let mut world = World {
        cib,
        index,
        now,
        dialect: ask.dialect,
        options: Options::new(all, may_panic),
        quorate: cib.have_quorum.or(false),
        nodes: Vec::new(),
        node_by_name: FixedMap::new(),
        services: Vec::new(),
        roots: Vec::new(),
        by_id: FixedMap::new(),
        tickets: BTreeMap::new(),
        has_fencing_device: has_watchdog,
        has_unfencing: knows_unfencing(cib),
        has_remote_nodes: false,
        locations: Vec::new(),
        colocations: Vec::new(),
        orders: Vec::new(),
        actions: Vec::new(),
        names: Vec::new(),
        stale_ops: Vec::new(),
        deferred_checks: Vec::new(),
        deferred_ops: Vec::new(),
        after_remote_fencing: Vec::new(),
        notes: Notes::default(),
    };
    unsupported::note(&mut world);
    nodes::configured(&mut world);
    let guests = remote::guests(&mut world);
    service::configured(&mut world, &guests);
    tickets(&mut world);
    world
}

/// Whether a fencing device says that it takes nodes back, or a service asks for that.
fn knows_unfencing(cib: &Cib) -> bool {
    let says = |set: &AttributeSet| {
        ["provides", "requires"]
            .iter()
            .any(|name| set.get(name) == Some("unfencing"))
    };
    let in_resource = |resource: &Resource| {
        let group = match resource {
            Resource::Clone(c) | Resource::Master(c) => c.content.as_deref(),
            _ => None,
        };
        let collectives = resource
            .meta()
            .iter()
            .chain(group.map_or(&[][..], Resource::meta));
        let mut primitives = resource.primitives().into_iter().flat_map(|p| &p.meta);
        collectives.into_iter().any(says) || primitives.any(says)
    };
    let mut templates = cib.templates().iter().flat_map(|t| &t.meta);
    cib.resources().iter().any(in_resource)
        || templates.any(says)
        || cib.rsc_defaults().iter().any(says)
}

fn tickets(world: &mut World<'_>) {
    let Some(tickets) = world.cib.status.as_ref().and_then(|s| s.tickets.as_ref()) else {
        return;
    };
    for state in &tickets.items {
        let ticket = Ticket {
            granted: state.granted.or(false),
            standby: state.standby.or(false),
        };
        world.tickets.insert(state.id.clone(), ticket);
    }
    // The oldest notation: granted-ticket-NAME.
    for set in &tickets.sets {
        for pair in &set.pairs {
            let Some((name, Some(value))) = world.index.pair(pair) else {
                continue;
            };
            if let Some(ticket) = name.strip_prefix("granted-ticket-") {
                let granted = truth(value).unwrap_or(false);
                let ticket = world.tickets.entry(ticket.into()).or_default();
                ticket.granted = granted;
            }
        }
    }
}
