//! What dumps prove: that grants excluded each other, and that tokens grew; or that they did not.

use crate::{
    claims,
    dump::{Entry, Head, Timeline},
    masters,
};
use core::time::Duration;
use mainstay_base::{Instant, LockspaceId, NodeId, NodeName, ResourceName};
use serde::{Deserialize, Serialize};

/// What the dumps of one recorder cover.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coverage {
    /// The node.
    pub node: NodeName,
    /// Milliseconds since 1970 at the first record.
    pub from_unix_ms: u64,
    /// Milliseconds since 1970 when the last dump was made.
    pub to_unix_ms: u64,
    /// Records that were read.
    pub records: u64,
    /// Records that were made and that no dump has: forgotten before it was made.
    pub lost: u64,
}

/// Something that must not happen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// When, on the clock of the node that recorded it.
    pub at: Instant,
    /// The node that recorded it.
    pub node: NodeName,
    /// Lockspace and resource.
    pub resource: String,
    /// What.
    pub what: String,
}

/// What dumps prove.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// What was looked at.
    pub covered: Vec<Coverage>,
    /// All dumps are of one clock; otherwise their hosts' clocks were trusted, within the tolerance.
    pub one_clock: bool,
    /// Grants that masters made, judged in the masters' own order.
    pub grants: u64,
    /// Times in which owners held something, compared between nodes.
    pub claims: u64,
    /// What is wrong, by node and time.
    pub findings: Vec<Finding>,
}

/// Checks the dumps of one cluster. `skew`: how long owners on different nodes may seem to hold what
/// excludes each other; their clocks may differ by so much, and a daemon notes the time at which it
/// began to look at what had arrived.
#[must_use]
pub fn check(dumps: Vec<(Head, Vec<Entry>)>, skew: Duration) -> Verdict {
    let timelines = Timeline::join(dumps);
    let one_clock = Timeline::share_clock(&timelines);
    let mut findings = Vec::new();
    let mut grants = 0;
    for timeline in &timelines {
        grants += masters::replay(timeline, &mut findings);
    }
    let skew = i128::try_from(skew.as_nanos()).unwrap_or(i128::MAX);
    let claims = claims::compare(&timelines, one_clock, skew, &mut findings);
    findings.sort_by(|a, b| (&a.node, a.at).cmp(&(&b.node, b.at)));
    Verdict {
        covered: timelines.iter().map(coverage).collect(),
        one_clock,
        grants,
        claims,
        findings,
    }
}

fn coverage(timeline: &Timeline) -> Coverage {
    let head = &timeline.head;
    let first = timeline.entries.first().map_or(head.at, |e| e.at);
    let before = u64::try_from(head.at.since(first).as_millis()).unwrap_or(u64::MAX);
    Coverage {
        node: head.name.clone(),
        from_unix_ms: head.unix_ms.saturating_sub(before),
        to_unix_ms: head.unix_ms,
        records: timeline.entries.len() as u64,
        lost: timeline.lost,
    }
}

/// Names for people.
pub(crate) struct Shown;

impl Shown {
    pub(crate) fn node(timeline: &Timeline, node: NodeId) -> String {
        let mut nodes = timeline.head.nodes.iter();
        let found = nodes.find(|(id, _)| *id == node);
        found.map_or_else(|| format!("node {node}"), |(_, name)| name.to_string())
    }

    pub(crate) fn resource(timeline: &Timeline, space: LockspaceId, name: &ResourceName) -> String {
        let mut spaces = timeline.head.spaces.iter();
        match spaces.find(|(id, _)| *id == space) {
            Some((_, space)) => format!("{space}/{name}"),
            None => format!("lockspace {space}/{name}"),
        }
    }
}

#[cfg(test)]
#[path = "check_tests.rs"]
mod tests;
