//! Constraints on tickets, and what follows where one is missing.

use super::{Named, members, named};
use crate::{
    model::{Needing, Sx, World},
    report::Why,
    states::must_fence,
};
use mainstay_base::PlanMutant;
use mainstay_cib::{
    constraints::TicketConstraint as Written,
    text::Str,
    value::{LossPolicy, Role, Score},
};

/// Reads one constraint.
pub(super) fn unpack(world: &mut World<'_>, written: &Written) {
    world.tickets.entry(written.ticket.clone()).or_default();
    if written.sets.is_empty() {
        let all = match written.rsc.as_ref().map(|r| named(world, r)) {
            Some(Named::One(one)) => vec![one],
            Some(Named::Several(several)) => several,
            _ => Vec::new(),
        };
        for one in all {
            needs(world, written, one, written.rsc_role.get());
        }
        return;
    }
    for set in &written.sets {
        let Some(set) = world.index.resource_set(set) else {
            continue;
        };
        for one in members(world, set) {
            needs(world, written, one, set.role.get());
        }
    }
}

fn needs(world: &mut World<'_>, written: &Written, service: Sx, role: Option<Role>) {
    let role = role.filter(|r| *r != Role::Started);
    let usual = match role {
        Some(Role::Promoted) => LossPolicy::Demote,
        _ => LossPolicy::Stop,
    };
    let policy = match written.loss_policy.get() {
        Some(LossPolicy::Fence) if !world.options.fencing => LossPolicy::Stop,
        Some(policy) => policy,
        None => usual,
    };
    let need = Needing {
        ticket: written.ticket.clone(),
        role,
        policy,
    };
    if !has_ticket(world, &need.ticket) {
        without(world, service, &need, &written.id);
    }
    world.services[service].tickets.push(need);
}

/// Whether a ticket is there and counts.
pub(crate) fn has_ticket(world: &World<'_>, ticket: &Str) -> bool {
    world
        .tickets
        .get(ticket)
        .is_some_and(|t| t.granted && !t.standby)
        || PlanMutant::TicketIgnored.active()
}

/// What a service must do without its ticket.
fn without(world: &mut World<'_>, service: Sx, need: &Needing, id: &Str) {
    let children = world.services[service].children.clone();
    if !children.is_empty() {
        for child in children {
            without(world, child, need, id);
        }
        return;
    }
    let ban = |world: &mut World<'_>| {
        let why = Why::Constraint(id.clone());
        world.add_score(service, None, Score::NEVER, &why);
    };
    let granted = world.tickets.get(&need.ticket).is_some_and(|t| t.granted);
    let s = &world.services[service];
    let only_promoted = need.role == Some(Role::Promoted);
    if granted || s.running_on.is_empty() {
        if !only_promoted || need.policy == LossPolicy::Stop {
            ban(world);
        }
        return;
    }
    let concerned = need.role.is_none() || s.role == need.role;
    match need.policy {
        LossPolicy::Stop => ban(world),
        // A promoted one is kept from promotion later.
        LossPolicy::Demote => {
            if !only_promoted {
                ban(world);
            }
        }
        LossPolicy::Fence if concerned => {
            ban(world);
            for node in world.services[service].running_on.clone() {
                must_fence(world, node, "deadman ticket was lost", false);
            }
        }
        LossPolicy::Freeze if concerned => {
            world.services[service].managed = false;
            world.services[service].blocked = true;
        }
        LossPolicy::Fence | LossPolicy::Freeze => {}
    }
}
