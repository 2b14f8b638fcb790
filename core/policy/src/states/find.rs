//! Which service a part of a node's history is about.

use crate::{
    model::{Kind, Needed, Nx, Sx, World},
    unpack::{another_instance, orphan},
};
use mainstay_cib::{status::LrmResource, text::Str};

/// The name without the number of an instance.
fn base(id: &str) -> &str {
    match id.rsplit_once(':') {
        Some((base, number))
            if !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()) =>
        {
            base
        }
        _ => id,
    }
}

/// The service of a history; one that is no longer configured is made up.
pub(super) fn service_of(world: &mut World<'_>, node: Nx, history: &LrmResource) -> Sx {
    if let Some(found) = configured(world, node, &history.id) {
        if world.services[found].id != history.id {
            world.services[found].history_name = Some(history.id.clone());
        }
        return found;
    }
    let agent = (&history.class, history.provider.as_ref(), &history.agent);
    orphan(world, &history.id, agent, history.container.is_some())
}

fn configured(world: &mut World<'_>, node: Nx, id: &Str) -> Option<Sx> {
    let exact = world.by_id.get(id).copied();
    let (found, parent) = match exact {
        Some(s) if world.services[s].kind != Kind::Primitive => return None,
        Some(s) => (Some(s), world.top(s)),
        None => {
            // Even a clone of no instances has one to recognise it by.
            let first: Str = format!("{}:0", base(id)).into();
            let first = *world.by_id.get(&first)?;
            if world.services[first].unique {
                return None;
            }
            (Some(first), world.top(first))
        }
    };
    if !world.is_anonymous_clone(parent) {
        return found;
    }
    let outer = world.services[parent].parent;
    if let Some(bundle) = outer.filter(|o| world.services[*o].kind == Kind::Bundle) {
        let replicas = &world.services[bundle].replicas;
        return replicas
            .iter()
            .find(|r| r.node == Some(node))
            .and_then(|r| r.child);
    }
    Some(anonymous(world, node, parent, base(id)))
}

/// The member of an instance that is called like this, without its number.
fn part_of(world: &World<'_>, instance: Sx, name: &str) -> Option<Sx> {
    let leaves = world.leaves(instance);
    leaves
        .into_iter()
        .find(|&l| *world.services[l].config.id == *name)
}

/// The instance of an anonymous clone that a node's history is about: the one that is known to be on
/// the node, else one that is nowhere, else one more than there should be.
fn anonymous(world: &mut World<'_>, node: Nx, clone: Sx, name: &str) -> Sx {
    let mut found = None;
    let mut free = None;
    let mut skip_free = false;
    for &instance in &world.services[clone].children {
        if found.is_some() {
            break;
        }
        let mut places = Vec::new();
        world.locations_of(instance, true, &mut places);
        for leaf in world.leaves(instance) {
            if let Some((_, pending)) = world.services[leaf].pending
                && !places.contains(&pending)
            {
                places.push(pending);
            }
        }
        if let Some(&place) = places.first() {
            if place == node {
                found = part_of(world, instance, name);
                if found.is_some_and(|f| !world.services[f].running_on.is_empty()) {
                    // A second history on one node is one instance too many.
                    skip_free = true;
                    found = None;
                }
            }
        } else if !skip_free && free.is_none() && !world.services[instance].blocked {
            let part = part_of(world, instance, name);
            let taken = |p: Sx| {
                let pending = world.services[p].pending.as_ref();
                pending.is_some_and(|(_, n)| *n != node)
            };
            free = part.filter(|&p| !taken(p));
        }
    }
    if found.is_none() && !skip_free {
        found = free;
    }
    // An instance that may start elsewhere before its node is fenced must not keep its number.
    let n = &world.nodes[node];
    let everywhere = world.services[clone].max as usize == world.nodes.len();
    if let Some(f) = found
        && world.services[f].requires < Needed::Fencing
        && (!n.online || n.unclean)
        && !world.is_guest(node)
        && !everywhere
    {
        found = None;
    }
    found.unwrap_or_else(|| {
        let instance = another_instance(world, clone);
        part_of(world, instance, name).unwrap_or(instance)
    })
}
