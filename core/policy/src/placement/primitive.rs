//! Placing a primitive.

use super::{
    choose,
    colocate::{add_dependents, apply_this_with},
    note_scores, place_one,
};
use crate::{
    model::{NoQuorum, Nx, Sx, World},
    report::Why,
};
use mainstay_cib::value::{Role, Score};

/// Decides on a place for a primitive; what it must be with is placed before it.
pub(super) fn place(world: &mut World<'_>, service: Sx, prefer: Option<Nx>) -> Option<Nx> {
    if let Some(parent) = world.services[service].parent
        && !world.services[parent].allocating
    {
        place_one(world, parent, prefer);
    }
    if !world.services[service].provisional {
        return world.services[service].home;
    }
    if world.services[service].allocating {
        return None;
    }
    world.services[service].allocating = true;
    for at in world.services[service].this_with.clone() {
        apply_this_with(world, service, at);
    }
    for at in world.services[service].with_this.clone() {
        add_dependents(world, service, at);
    }
    quorum(world, service);
    note_scores(world, "primitive", service);
    settle(world, service, prefer);
    world.services[service].allocating = false;
    if world.services[service].is_remote {
        connection_placed(world, service);
    }
    world.services[service].home
}

fn quorum(world: &mut World<'_>, service: Sx) {
    let s = &world.services[service];
    if s.next_role == Some(Role::Stopped) {
        let why = Why::Fixed("it shall be stopped");
        world.add_score(service, None, Score::NEVER, &why);
    } else if s.next_role > s.role && !world.quorate && world.options.no_quorum == NoQuorum::Freeze
    {
        let role = s.role;
        world.set_next_role(service, role, "no-quorum-policy=freeze");
    }
}

fn settle(world: &mut World<'_>, service: Sx, prefer: Option<Nx>) {
    // Fencing without devices could never be done: better to leave everything as it is.
    if world.options.fencing && !world.has_fencing_device {
        world.services[service].managed = false;
    }
    if !world.services[service].managed {
        let role = world.services[service].role;
        world.set_next_role(service, role, "unmanaged");
        let current = world.active_node(service);
        choose::assign(world, service, current);
    } else if world.options.stop_all {
        choose::assign(world, service, None);
    } else {
        choose::best(world, service, prefer);
    }
}

/// A connection that has no place takes its node with it; one that has will bring it up.
fn connection_placed(world: &mut World<'_>, service: Sx) {
    let name = world.services[service].id.clone();
    let Some(&node) = world.node_by_name.get(&name) else {
        return;
    };
    let s = &world.services[service];
    if s.home.is_some() && s.next_role != Some(Role::Stopped) {
        world.nodes[node].online = true;
        if world.nodes[node].unseen {
            // Nothing was known of it but that it might run something: that is known soon.
            world.nodes[node].unclean = false;
        }
    } else {
        world.nodes[node].shutdown = true;
    }
}
