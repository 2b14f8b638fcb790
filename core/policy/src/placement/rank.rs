//! In which order the instances of a clone are placed.

use super::{colocate::partners_of_instance, sort};
use crate::model::{Nx, Scores, Sx, World};
use mainstay_cib::value::Score;
use std::cmp::Ordering;

/// Sorts instances: those that are active where they may be first, those on nodes with few others
/// before those on full ones, failed ones later, those that are nowhere last.
pub(super) fn instances(world: &mut World<'_>, clone: Sx, list: &mut Vec<Sx>) {
    // A merge sort by hand, since the comparison may place others in passing.
    let mut sorted: Vec<Sx> = Vec::with_capacity(list.len());
    for &instance in list.iter() {
        let (mut low, mut high) = (0, sorted.len());
        while low < high {
            let middle = usize::midpoint(low, high);
            if compare(world, clone, sorted[middle], instance) == Ordering::Greater {
                high = middle;
            } else {
                low = middle + 1;
            }
        }
        sorted.insert(low, instance);
    }
    *list = sorted;
}

/// The count of instances on a node, and its score, as the clone sees it.
fn of_clone(world: &World<'_>, clone: Sx, node: Nx) -> Option<(u32, Score)> {
    world.services[clone]
        .allowed
        .get(node)
        .map(|a| (a.count, a.score))
}

fn has_failed(world: &World<'_>, service: Sx) -> bool {
    let s = &world.services[service];
    s.failed || s.children.iter().any(|&c| has_failed(world, c))
}

/// Which of two instances comes first.
pub(super) fn compare(world: &mut World<'_>, clone: Sx, a: Sx, b: Sx) -> Ordering {
    let on = |world: &World<'_>, s: Sx| world.services[s].running_on.len();
    let (x, y) = (on(world, a), on(world, b));
    if x > 0 && y > 0 && x != y {
        return x.cmp(&y);
    }
    let (here, there) = (world.active_node(a), world.active_node(b));
    let unfit = |world: &World<'_>, s: Sx, n: Option<Nx>| {
        n.is_some_and(|n| world.services[s].allowed.score(n) < Score::ZERO)
    };
    let (no_a, no_b) = (unfit(world, a, here), unfit(world, b, there));
    if no_a != no_b {
        return no_a.cmp(&no_b);
    }
    let by_priority = world.services[b]
        .promotion
        .cmp(&world.services[a].promotion);
    if by_priority.is_ne() {
        return by_priority;
    }
    let (p, q) = (here.filter(|_| !no_a), there.filter(|_| !no_b));
    let (Some(p), Some(q)) = (p, q) else {
        return q.is_some().cmp(&p.is_some());
    };
    let by_availability = world.is_available(q).cmp(&world.is_available(p));
    if by_availability.is_ne() {
        return by_availability;
    }
    let (i, j) = (of_clone(world, clone, p), of_clone(world, clone, q));
    let (Some((i, _)), Some((j, _))) = (i, j) else {
        return j.is_some().cmp(&i.is_some());
    };
    if i != j {
        return i.cmp(&j);
    }
    let by_failure = has_failed(world, a).cmp(&has_failed(world, b));
    if by_failure.is_ne() {
        return by_failure;
    }
    by_partners(world, clone, (a, p), (b, q))
        .then_with(|| world.services[a].id.cmp(&world.services[b].id))
}

/// By what the partners of the clone think of where the two are.
fn by_partners(world: &mut World<'_>, clone: Sx, a: (Sx, Nx), b: (Sx, Nx)) -> Ordering {
    let s = &world.services[clone];
    if s.this_with.is_empty() && s.with_this.is_empty() && a.1 == b.1 {
        return Ordering::Equal;
    }
    let start = |world: &World<'_>| {
        let mut scores = Scores::default();
        for n in [a.1, b.1] {
            let node = &world.nodes[n];
            scores.entry(n, node.score, node.discover);
        }
        scores
    };
    let start = start(world);
    let x = partners_of_instance(world, clone, a.0, start.clone());
    let y = partners_of_instance(world, clone, b.0, start);
    let here = y.score(b.1).cmp(&x.score(a.1));
    if here.is_ne() {
        return here;
    }
    let (p, q) = (
        sort::nodes(world, &x, Some(a.1)),
        sort::nodes(world, &y, Some(b.1)),
    );
    let pairs = p.iter().zip(&q).map(|(i, j)| j.1.cmp(&i.1));
    pairs
        .into_iter()
        .find(|o| o.is_ne())
        .unwrap_or(Ordering::Equal)
}
