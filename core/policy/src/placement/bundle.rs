//! Placing the copies of a bundle.

use super::{clone::distribute, note_scores, place_one, rank};
use crate::{
    constraints::colocate,
    model::{Colocation, NodeKind, Nx, Replica, Sx, World},
    states::has_reached_threshold,
};
use mainstay_cib::value::Score;

pub(super) fn place(world: &mut World<'_>, bundle: Sx, prefer: Option<Nx>) -> Option<Nx> {
    note_scores(world, "bundle", bundle);
    if !world.services[bundle].provisional || world.services[bundle].allocating {
        return None;
    }
    world.services[bundle].allocating = true;
    let replicas = world.services[bundle].replicas.clone();
    let mut containers: Vec<Sx> = replicas.iter().map(|r| r.container).collect();
    rank::instances(world, bundle, &mut containers);
    let (max, node_max) = (world.services[bundle].max, world.services[bundle].node_max);
    distribute(world, bundle, &containers, max, node_max);
    for replica in &replicas {
        if let Some(ip) = replica.ip {
            place_one(world, ip, prefer);
        }
        if let Some(remote) = replica.remote {
            nested(world, replica, remote);
            place_one(world, remote, prefer);
        }
        if let (Some(child), Some(node)) = (replica.child, replica.node) {
            place_child(world, child, node);
        }
    }
    for child in world.services[bundle].children.clone() {
        if world.is_clone(child) {
            // Its instances run in the containers and nowhere else.
            for (n, allowed) in world.services[child].allowed.iter_mut() {
                let inside = replicas.iter().any(|r| r.node == Some(n));
                allowed.score = if inside { Score::ZERO } else { Score::NEVER };
            }
            place_one(world, child, prefer);
        }
    }
    world.services[bundle].allocating = false;
    world.services[bundle].provisional = false;
    None
}

/// A container on a remote node is reached from where that node is reached.
fn nested(world: &mut World<'_>, replica: &Replica, remote: Sx) {
    let Some(host) = world.services[replica.container].home else {
        return;
    };
    if world.nodes[host].kind != NodeKind::Remote {
        return;
    }
    let Some(primary) = world.nodes[host].connection else {
        return;
    };
    let with_host = Colocation {
        id: "child-remote-with-docker-remote".into(),
        dependent: remote,
        primary,
        dependent_role: None,
        primary_role: None,
        attribute: "#uname".into(),
        score: Score::INFINITY,
        influence: true,
    };
    colocate(world, with_host);
}

/// What runs inside runs in its own container and nowhere else.
fn place_child(world: &mut World<'_>, child: Sx, node: Nx) {
    let too_often = has_reached_threshold(world, child, node).is_some();
    for (n, allowed) in world.services[child].allowed.iter_mut() {
        if n != node {
            allowed.score = Score::NEVER;
        } else if !too_often {
            allowed.score = Score::INFINITY;
        }
    }
    let Some(clone) = world.services[child].parent else {
        return;
    };
    world.services[clone].allocating = true;
    place_one(world, child, Some(node));
    world.services[clone].allocating = false;
}
