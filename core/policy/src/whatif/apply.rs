//! What an event does to the state of a cluster.

use super::{Event, OpResult, Ticket, Unknown};
use crate::{
    record::{self, Counting, Done, histories},
    states::counts_by_operation,
};
use mainstay_cib::{
    Attr, Cib,
    constraints::Constraint,
    index::Index,
    resources::Primitive,
    status::{LrmResource, NodeState, TicketState, Tickets},
    text::Str,
    value::Membership,
};
use std::collections::BTreeSet;

impl Event {
    /// Changes the state as if this had happened at a moment (seconds since 1970).
    ///
    /// # Errors
    /// If a node, a service or a ticket is named that is not there. Then nothing is changed.
    pub fn apply(&self, cib: &mut Cib, now: i64) -> Result<(), Unknown> {
        match self {
            Event::Option { name, value } => cib.configuration_mut().set_option(name, value),
            Event::Quorum(quorum) => cib.have_quorum = Attr::of(*quorum),
            Event::NodeUp(name) => come(state(cib, name)?),
            Event::NodeDown(name) => {
                let state = state(cib, name)?;
                state.in_ccm = Attr::of(Membership::No);
                state.crmd = Attr::spelled("offline");
                state.join = Some("down".into());
                state.expected = Some("down".into());
                state.lrm = None;
                state.transient.clear();
            }
            Event::NodeFails(name) => {
                let state = state(cib, name)?;
                come(state);
                state.in_ccm = Attr::of(Membership::No);
            }
            Event::Ticket(name, change) => ticket(cib, name, *change)?,
            Event::Result(result) => end(cib, result, now)?,
        }
        Ok(())
    }
}

fn come(state: &mut NodeState) {
    state.in_ccm = Attr::of(Membership::Yes);
    state.crmd = Attr::spelled("online");
    state.join = Some("member".into());
    state.expected = Some("member".into());
}

/// The state of a node, which is made if there is none yet.
fn state<'c>(cib: &'c mut Cib, name: &str) -> Result<&'c mut NodeState, Unknown> {
    let configured = cib.nodes().iter().find(|n| &**n.name() == name);
    let id = configured.map(|n| n.id.clone());
    let states = cib.node_states();
    let same = |s: &NodeState| match &id {
        Some(id) => s.id == *id,
        None => s.uname.as_deref().unwrap_or(&s.id) == name,
    };
    let found = states.iter().position(same);
    let at = match (found, id) {
        (Some(at), _) => at,
        (None, Some(id)) => {
            let states = &mut cib.status_mut().nodes;
            states.push(NodeState {
                id,
                uname: Some(name.into()),
                ..NodeState::default()
            });
            states.len() - 1
        }
        (None, None) => {
            let configured = cib.nodes().iter().map(|n| n.name().to_string());
            let seen = states.iter().filter_map(|s| s.uname.as_deref());
            let known: BTreeSet<String> = configured.chain(seen.map(str::to_owned)).collect();
            return Err(Unknown {
                what: "node",
                name: name.to_owned(),
                known: known.into_iter().collect(),
            });
        }
    };
    Ok(&mut cib.status_mut().nodes[at])
}

fn ticket(cib: &mut Cib, name: &str, change: Ticket) -> Result<(), Unknown> {
    let wanted = cib.constraints().iter().filter_map(|c| match c {
        Constraint::Ticket(c) => Some(c.ticket.to_string()),
        _ => None,
    });
    let mut known: BTreeSet<String> = wanted.collect();
    let tickets = cib
        .status_mut()
        .tickets
        .get_or_insert_with(Tickets::default);
    known.extend(tickets.items.iter().map(|t| t.id.to_string()));
    if !known.contains(name) {
        return Err(Unknown {
            what: "ticket",
            name: name.to_owned(),
            known: known.into_iter().collect(),
        });
    }
    let found = tickets.items.iter().position(|t| &*t.id == name);
    let at = found.unwrap_or_else(|| {
        tickets.items.push(TicketState {
            id: name.into(),
            ..TicketState::default()
        });
        tickets.items.len() - 1
    });
    let ticket = &mut tickets.items[at];
    match change {
        Ticket::Granted => ticket.granted = Attr::of(true),
        Ticket::Revoked => ticket.granted = Attr::of(false),
        Ticket::Standby => ticket.standby = Attr::of(true),
        Ticket::Active => ticket.standby = Attr::of(false),
    }
    Ok(())
}

/// The name of a service without the number of an instance.
fn base(name: &str) -> &str {
    match name.rsplit_once(':') {
        Some((base, number)) if number.bytes().all(|b| b.is_ascii_digit()) => base,
        _ => name,
    }
}

/// What is configured for a service: its agent.
fn configured(cib: &Cib, service: &str) -> Result<Primitive, Unknown> {
    let index = Index::new(cib);
    let found = index
        .find_primitive(service)
        .or_else(|| index.find_primitive(base(service)));
    let whole = found.and_then(|p| index.whole(p));
    whole.map(|p| p.into_owned()).ok_or_else(|| {
        let all = cib.resources().iter().flat_map(|r| r.primitives());
        Unknown {
            what: "service",
            name: service.to_owned(),
            known: all.map(|p| p.id.to_string()).collect(),
        }
    })
}

fn end(cib: &mut Cib, result: &OpResult, now: i64) -> Result<(), Unknown> {
    let config = configured(cib, &result.service)?;
    let counting = Counting {
        by_operation: counts_by_operation(cib),
        fatal: false,
    };
    let state = state(cib, &result.node)?;
    let done = Done {
        task: &result.task,
        interval: result.interval,
        rc: result.rc,
        target: 0,
        at: now,
        migration: None,
        digest: None,
    };
    let is_probe = result.rc == 7 && result.interval == 0;
    if result.rc != 0 && !is_probe {
        record::count_failure(state, base(&result.service), &done, counting);
    }
    let list = histories(state);
    let name = known_as(list, &result.service);
    let at = list.iter().position(|h| h.id == name).unwrap_or_else(|| {
        list.push(LrmResource {
            id: name,
            agent: config.agent.clone().unwrap_or_default(),
            class: config.class.clone().unwrap_or_default(),
            provider: config.provider.clone(),
            ..LrmResource::default()
        });
        list.len() - 1
    });
    record::write(&mut list[at], &done);
    Ok(())
}

/// The name under which a node knows a service: it may have given an instance another number.
fn known_as(list: &[LrmResource], service: &str) -> Str {
    let exact = list.iter().find(|h| &*h.id == service);
    let similar = || list.iter().find(|h| base(&h.id) == base(service));
    let found = exact.or_else(similar);
    found.map_or_else(|| service.into(), |h| h.id.clone())
}
