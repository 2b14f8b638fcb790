//! Placing a group: its members one after the other, each with the one before.

use super::{note_scores, place_one};
use crate::{
    constraints::{add_this_with, add_with_this},
    model::{Nx, Sx, World},
};

pub(super) fn place(world: &mut World<'_>, group: Sx, prefer: Option<Nx>) -> Option<Nx> {
    let s = &world.services[group];
    if !s.provisional {
        return s.home;
    }
    if s.allocating {
        return None;
    }
    let members = s.children.clone();
    let Some(&first) = members.first() else {
        world.services[group].provisional = false;
        return None;
    };
    world.services[group].allocating = true;
    world.services[group].role = world.services[first].role;
    hand_down(world, group, &members);
    note_scores(world, "group", group);
    let mut place = None;
    for &member in &members {
        let node = place_one(world, member, prefer);
        place = place.or(node);
    }
    let role = world.services[first].next_role;
    world.set_next_role(group, role, "first group member");
    let s = &mut world.services[group];
    s.allocating = false;
    s.provisional = false;
    if s.colocated { place } else { None }
}

/// What the group follows, its first member follows; what follows the group, follows the last one.
fn hand_down(world: &mut World<'_>, group: Sx, members: &[Sx]) {
    let this_with = std::mem::take(&mut world.services[group].this_with);
    let with_this = std::mem::take(&mut world.services[group].with_this);
    let (first, last) = (members[0], members[members.len() - 1]);
    for &at in &this_with {
        add_this_with(world, first, at);
    }
    // Where a member cannot move, the chain of members does not keep the later ones with the first.
    let mut any_unmanaged = !world.services[first].managed;
    for &member in &members[1..] {
        if any_unmanaged {
            for &at in &this_with {
                if world.colocations[at].score.is_infinite() {
                    add_this_with(world, member, at);
                }
            }
        } else if !world.services[member].managed {
            any_unmanaged = true;
        }
    }
    for &at in &with_this {
        add_with_this(world, last, at);
    }
}
