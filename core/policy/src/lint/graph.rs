//! Rules on steps and what they wait for.

use super::view::View;
use crate::{Kind, Step};
use std::collections::BTreeMap;

/// Steps must not wait for each other in a circle.
pub(super) fn circle(view: &View<'_>) -> Vec<String> {
    let steps = &view.graph().steps;
    let mut waits: Vec<usize> = steps.iter().map(|s| s.waits_for.len()).collect();
    let mut after = vec![Vec::new(); steps.len()];
    for (at, step) in steps.iter().enumerate() {
        for &first in &step.waits_for {
            after[first].push(at);
        }
    }
    let mut ready: Vec<usize> = (0..steps.len()).filter(|&at| waits[at] == 0).collect();
    let mut done = 0;
    while let Some(at) = ready.pop() {
        done += 1;
        for &next in &after[at] {
            waits[next] -= 1;
            if waits[next] == 0 {
                ready.push(next);
            }
        }
    }
    if done == steps.len() {
        return Vec::new();
    }
    let stuck = steps.iter().zip(&waits).filter(|(_, w)| **w > 0);
    let labels: Vec<&str> = stuck.take(6).map(|(s, _)| s.label.as_str()).collect();
    vec![format!("these wait for each other: {}", labels.join(", "))]
}

/// Nothing is done twice.
pub(super) fn twice(view: &View<'_>) -> Vec<String> {
    let mut seen: BTreeMap<(&str, &str, &str, u64), usize> = BTreeMap::new();
    for (_, step) in view.operations() {
        if let (Some(service), Some(node)) = (&step.service, &step.node)
            && view.single.contains(service.as_str())
            && step.task != "notify"
        {
            *seen
                .entry((service, &step.task, node, step.interval))
                .or_default() += 1;
        }
    }
    let many = seen.into_iter().filter(|(_, n)| *n > 1);
    many.map(|((service, task, node, _), n)| format!("{task} {service} {node} {n} times"))
        .collect()
}

/// A service that there is one of is started only where all its stops have been waited for.
pub(super) fn stop_before_start(view: &View<'_>) -> Vec<String> {
    let mut wrong = Vec::new();
    for (start, step) in view.of_task("start") {
        let Some(service) = step.service.as_deref().filter(|s| view.single.contains(s)) else {
            continue;
        };
        if step.implied || step.kind != Kind::Operation {
            continue;
        }
        for (stop, other) in view.of("stop", service) {
            if !view.graph().waits(start, stop) {
                wrong.push(format!("{} does not wait for {}", step.label, other.label));
            }
        }
    }
    wrong
}

/// Pairs of one service on one node of which the first must be waited for by the second.
fn in_order(view: &View<'_>, first: &'static str, then: &'static str) -> Vec<String> {
    let same = |a: &Step, b: &Step| a.instance == b.instance && a.node == b.node;
    let mut wrong = Vec::new();
    for (later, step) in view.of_task(then).filter(|(_, s)| !s.implied) {
        let service = step.service.as_deref().unwrap_or_default();
        for (earlier, other) in view.of(first, service).filter(|(_, s)| !s.implied) {
            if same(step, other) && !view.graph().waits(later, earlier) {
                wrong.push(format!("{} does not wait for {}", step.label, other.label));
            }
        }
    }
    wrong
}

/// What is promoted is demoted before it is stopped.
pub(super) fn demote_before_stop(view: &View<'_>) -> Vec<String> {
    in_order(view, "demote", "stop")
}

/// What is started is started before it is promoted.
pub(super) fn start_before_promote(view: &View<'_>) -> Vec<String> {
    in_order(view, "start", "promote")
}

/// Monitors of what is started begin after the start.
pub(super) fn monitor_after_start(view: &View<'_>) -> Vec<String> {
    let active = |s: &Step| s.target != Some(7);
    let mut wrong = Vec::new();
    for (monitor, step) in view.of_task("monitor").filter(|(_, s)| active(s)) {
        let service = step.service.as_deref().unwrap_or_default();
        for (start, other) in view.of("start", service) {
            let same = step.instance == other.instance && step.node == other.node;
            if same && !view.graph().waits(monitor, start) {
                wrong.push(format!("{} does not wait for {}", step.label, other.label));
            }
        }
    }
    wrong
}
