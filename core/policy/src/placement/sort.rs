//! Orders of nodes and services.

use super::{
    capacity,
    colocate::{Select, merge},
};
use crate::model::{Nx, Scores, Strategy, Sx, World};
use mainstay_cib::value::Score;
use std::cmp::Ordering;

/// Which of two nodes is better for a service with these scores, that is on `active` now.
fn compare(world: &World<'_>, a: (Nx, Score), b: (Nx, Score), active: Option<Nx>) -> Ordering {
    let score = |(n, score): (Nx, Score)| {
        if world.is_available(n) {
            score
        } else {
            Score::NEVER
        }
    };
    let by_name = || world.nodes[a.0].name.cmp(&world.nodes[b.0].name);
    let by_score = score(b).cmp(&score(a));
    if by_score.is_ne() {
        return by_score;
    }
    if world.options.strategy == Strategy::Minimal {
        return by_name();
    }
    if world.options.strategy == Strategy::Balanced {
        let free = capacity::compare(world, a.0, b.0);
        if free.is_ne() {
            return free;
        }
    }
    let by_number = world.nodes[a.0].placed.cmp(&world.nodes[b.0].placed);
    if by_number.is_ne() {
        return by_number;
    }
    if active == Some(a.0) {
        return Ordering::Less;
    }
    if active == Some(b.0) {
        return Ordering::Greater;
    }
    by_name()
}

/// The nodes with their scores, the best first.
pub(super) fn nodes(world: &World<'_>, scores: &Scores, active: Option<Nx>) -> Vec<(Nx, Score)> {
    let mut list: Vec<(Nx, Score)> = scores.iter().map(|(n, a)| (n, a.score)).collect();
    list.sort_by(|a, b| compare(world, *a, *b, active));
    list
}

/// Puts services in the order in which they are placed where room is short.
pub(super) fn services(world: &mut World<'_>) {
    let mut base = Scores::default();
    for (n, node) in world.nodes.iter().enumerate() {
        base.entry(n, node.score, node.discover);
    }
    let all: Vec<Nx> = nodes(world, &base, None)
        .into_iter()
        .map(|(n, _)| n)
        .collect();
    let scored: Vec<(Sx, Scores)> = world
        .roots
        .clone()
        .into_iter()
        .map(|root| (root, merge(world, root, None, "", 1.0, Select::THIS_WITH)))
        .collect();
    let mut order: Vec<usize> = (0..scored.len()).collect();
    order.sort_by(|&a, &b| earlier(world, &scored[a], &scored[b], &all));
    world.roots = order.into_iter().map(|at| scored[at].0).collect();
}

fn earlier(world: &World<'_>, a: &(Sx, Scores), b: &(Sx, Scores), all: &[Nx]) -> Ordering {
    let priority = |s: &(Sx, Scores)| world.services[s.0].priority;
    let here = |s: &(Sx, Scores)| {
        world
            .active_node(s.0)
            .map_or(Score::NEVER, |n| s.1.score(n))
    };
    priority(b)
        .cmp(&priority(a))
        .then_with(|| here(b).cmp(&here(a)))
        .then_with(|| {
            let on = |s: &(Sx, Scores), n: &Nx| s.1.score(*n);
            let differs = all.iter().map(|n| on(b, n).cmp(&on(a, n)));
            differs
                .into_iter()
                .find(|o| o.is_ne())
                .unwrap_or(Ordering::Equal)
        })
}
