//! Which instance of one clone goes with an instance of another.

use super::sort;
use crate::model::{Kind, Nx, Sx, World};
use mainstay_cib::value::Role;

/// How many instances there may be on one node.
pub(super) fn copies_per_node(world: &World<'_>, service: Sx) -> u32 {
    let s = &world.services[service];
    match s.kind {
        Kind::Clone | Kind::Bundle => s.node_max,
        _ => 0,
    }
}

/// Whether a service, or any part of it, is blocked.
pub(super) fn is_blocked(world: &World<'_>, service: Sx) -> bool {
    let s = &world.services[service];
    s.blocked || s.children.iter().any(|&c| is_blocked(world, c))
}

/// The instance that is (`current`) or will be where another service is, in a role if one is asked for.
/// Without a place, the other service's nodes are tried, the best first.
pub(crate) fn compatible(
    world: &World<'_>,
    service: Sx,
    clone: Sx,
    role: Option<Role>,
    current: bool,
) -> Option<Sx> {
    if let Some(node) = world.location(service, current) {
        return compatible_on(world, clone, node, role, current);
    }
    let nodes = sort::nodes(world, &world.services[service].allowed, None);
    nodes
        .into_iter()
        .find_map(|(node, _)| compatible_on(world, clone, node, role, current))
}

/// The instance on a node.
pub(crate) fn compatible_on(
    world: &World<'_>,
    clone: Sx,
    node: Nx,
    role: Option<Role>,
    current: bool,
) -> Option<Sx> {
    let fits = |instance: &Sx| {
        !is_blocked(world, *instance)
            && role.is_none_or(|r| world.role(*instance, current) == Some(r))
            && world.location(*instance, current) == Some(node)
    };
    world.instances(clone).into_iter().find(fits)
}

impl World<'_> {
    /// The instances of a clone; the containers of a bundle.
    pub(crate) fn instances(&self, service: Sx) -> Vec<Sx> {
        let s = &self.services[service];
        match s.kind {
            Kind::Bundle => s.replicas.iter().map(|r| r.container).collect(),
            _ => s.children.clone(),
        }
    }
}
