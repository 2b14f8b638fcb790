//! Writing down where services run.

use crate::{
    model::{Kind, Nx, OnMultiple, Sx, World},
    report::Why,
};
use mainstay_cib::value::Score;

/// Writes down that a service is active on a node, and so what it is in.
pub(super) fn add(world: &mut World<'_>, service: Sx, node: Nx) {
    if world.services[service].running_on.contains(&node) {
        return;
    }
    world.services[service].running_on.push(node);
    world.nodes[node].running.push(service);
    let is_primitive = world.services[service].kind == Kind::Primitive;
    if is_primitive {
        let priority = i64::from(world.services[service].priority.get());
        world.nodes[node].priority += priority;
    }
    if is_primitive && world.nodes[node].maintenance {
        world.services[service].managed = false;
    }
    if !world.services[service].managed {
        let why = Why::Fixed("it is not managed");
        world.add_score(service, Some(node), Score::INFINITY, &why);
        let mut parent = world.services[service].parent;
        while let Some(p) = parent.filter(|_| world.nodes[node].online) {
            world.services[p].running_on.push(node);
            parent = world.services[p].parent;
        }
        return;
    }
    if is_primitive && world.services[service].running_on.len() > 1 {
        active_twice(world, service);
    }
    if let Some(parent) = world.services[service].parent {
        add(world, parent, node);
    }
}

fn active_twice(world: &mut World<'_>, service: Sx) {
    match world.services[service].on_multiple {
        OnMultiple::StopOnly => {
            for n in 0..world.nodes.len() {
                let node = &world.nodes[n];
                let (score, discover) = (node.score, node.discover);
                world.services[service]
                    .allowed
                    .entry(n, score, discover)
                    .score = Score::NEVER;
            }
        }
        OnMultiple::Block => {
            block(world, service);
            let parent = world.services[service].parent.filter(|&p| {
                let p = &world.services[p];
                matches!(p.kind, Kind::Group | Kind::Bundle) && p.on_multiple == OnMultiple::Block
            });
            if let Some(parent) = parent {
                for child in world.services[parent].children.clone() {
                    block(world, child);
                }
            }
        }
        OnMultiple::StopStart | OnMultiple::StopUnexpected => {}
    }
}

/// Leaves a service alone until somebody comes.
pub(super) fn block(world: &mut World<'_>, service: Sx) {
    world.services[service].managed = false;
    world.services[service].blocked = true;
}
