//! How often a service failed on a node.

use crate::{
    digest::older_than,
    model::{Nx, Sx, World},
    rules::score,
};
use mainstay_base::PlanMutant;
use mainstay_cib::{Cib, status::LrmOp, value::Score};

/// Which failures count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Count {
    /// All that are written down.
    All,
    /// Those that are not too old.
    Recent,
    /// The same, with those of what runs in the service.
    WithInside,
}

/// The failures of a service on a node, and when the last one was (seconds since 1970).
pub(crate) fn fail_count(world: &World<'_>, service: Sx, node: Nx, which: Count) -> (Score, i64) {
    let (mut count, last) = written(world, service, node);
    let timeout = timeout(world, service, node, count);
    if which != Count::All
        && !PlanMutant::FailuresNeverExpire.active()
        && count > Score::ZERO
        && last > 0
        && timeout > 0
        && world.now > last + timeout
    {
        count = Score::ZERO;
    }
    let mut newest = last;
    if which == Count::WithInside {
        for &inside in &world.services[service].fillers {
            let (more, when) = fail_count(world, inside, node, which);
            count += more;
            newest = newest.max(when);
        }
    }
    (count, newest)
}

/// How long failures count; for ever if one of them blocks the service.
fn timeout(world: &World<'_>, service: Sx, node: Nx, count: Score) -> i64 {
    let timeout = world.services[service].failure_timeout;
    if timeout == 0 || count == Score::ZERO {
        return timeout;
    }
    if blocks(world, service, node) {
        0
    } else {
        timeout
    }
}

/// Whether an operation that failed on the node has block as its policy.
fn blocks(world: &World<'_>, service: Sx, node: Nx) -> bool {
    let config = &world.services[service].config;
    config.ops.iter().any(|op| {
        op.meta.get("on-fail").map(|v| &**v) == Some("block")
            && has_failed(world, service, node, &op.name, op.interval)
    })
}

fn has_failed(world: &World<'_>, service: Sx, node: Nx, name: &str, interval: u64) -> bool {
    let id = &world.services[service].id;
    let plain = world.plain_name(service);
    let failed = |op: &LrmOp| {
        let target = op.transition_key.value().map_or(0, |k| k.target_rc);
        *op.operation == *name && op.interval.or(0) == interval && op.rc_code.or(0) != target
    };
    world
        .node_history(node)
        .filter(|r| r.id == *id || r.id == plain)
        .any(|r| r.ops.iter().any(failed))
}

/// Whether it is an operation and its interval, as in `monitor_10000`.
fn is_key(text: &str) -> bool {
    let interval = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
    text.rsplit_once('_')
        .is_some_and(|(name, number)| !name.is_empty() && interval(number))
}

/// Whether failures are counted for each operation, as software with these features does; older one
/// counts them for all together.
pub(crate) fn counts_by_operation(cib: &Cib) -> bool {
    !older_than(cib.feature_set.as_deref(), (3, 0, 13))
}

/// What the node's attributes say, for the service or for any instance that is like it.
fn written(world: &World<'_>, service: Sx, node: Nx) -> (Score, i64) {
    let s = &world.services[service];
    let name = match (&s.history_name, s.unique) {
        (Some(name), true) => name.clone(),
        _ => world.plain_name(service),
    };
    let by_operation = counts_by_operation(world.cib);
    let is_ours = |rest: &str| -> bool {
        let rest = match rest.rsplit_once('#') {
            Some((rest, operation)) if by_operation && is_key(operation) => rest,
            None if !by_operation => rest,
            _ => return false,
        };
        let Some(tail) = rest.strip_prefix(&*name) else {
            return false;
        };
        let number = |t: &str| !t.is_empty() && t.bytes().all(|b| b.is_ascii_digit());
        tail.is_empty() || !s.unique && tail.strip_prefix(':').is_some_and(number)
    };
    let (mut count, mut last) = (Score::ZERO, 0);
    let attributes = &world.nodes[node].attributes;
    let from = |prefix: &'static str| {
        let start = std::ops::Bound::Included(prefix);
        attributes
            .range::<str, _>((start, std::ops::Bound::Unbounded))
            .map_while(move |(k, v)| Some((k.strip_prefix(prefix)?, v)))
    };
    for (rest, value) in from("fail-count-") {
        if is_ours(rest) {
            count += score(value);
        }
    }
    for (rest, value) in from("last-failure-") {
        if is_ours(rest) {
            last = last.max(value.parse().unwrap_or(0));
        }
    }
    (count, last)
}

/// Whether a service failed so often on a node that it must go away from there: then what must go.
pub(crate) fn has_reached_threshold(world: &World<'_>, service: Sx, node: Nx) -> Option<Sx> {
    let s = &world.services[service];
    if s.threshold == Score::ZERO || s.failure_ignored || PlanMutant::ThresholdIgnored.active() {
        return None;
    }
    let (count, _) = fail_count(world, service, node, Count::WithInside);
    (count > Score::ZERO && count >= s.threshold).then(|| {
        if s.unique {
            service
        } else {
            world.top(service)
        }
    })
}
