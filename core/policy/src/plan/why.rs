//! Why a service is where it is, and why not elsewhere.

use super::{Contribution, Plan, Step};
use crate::report::Change;
use serde::Serialize;

/// What there is to say of a service, perhaps on one node only.
#[derive(Clone, Debug, Serialize)]
pub struct Why {
    /// The service.
    pub service: String,
    /// Where it is now, and in which role and state.
    pub now: Vec<String>,
    /// Where it shall be: node and role.
    pub next: Vec<String>,
    /// By node, the last score that was known when its place was chosen, and what it consists of.
    pub scores: Vec<NodeScore>,
    /// What changes for it.
    pub changes: Vec<Change>,
    /// What is done to it, and what that waits for.
    pub steps: Vec<StepWhy>,
}

/// The score of a service on one node.
#[derive(Clone, Debug, Serialize)]
pub struct NodeScore {
    /// The node.
    pub node: String,
    /// The state of the node.
    pub state: String,
    /// The score; nothing if the service may not be there at all.
    pub score: Option<String>,
    /// What it consists of.
    pub parts: Vec<Contribution>,
    /// Whether the service will be here.
    pub chosen: bool,
}

/// A step, with what it waits for.
#[derive(Clone, Debug, Serialize)]
pub struct StepWhy {
    /// The step in one line.
    pub step: String,
    /// Why it is needed.
    pub reason: Option<String>,
    /// What it waits for, events in between left out.
    pub waits_for: Vec<String>,
}

impl Plan {
    /// The services that a name stands for: the service itself, or what is in a group, a clone or a
    /// bundle. None if there is nothing of that name.
    #[must_use]
    pub fn services_of(&self, name: &str) -> Vec<&str> {
        if let Some((name, _)) = self.report.places.get_key_value(name) {
            return vec![name];
        }
        let members = self.report.members.get(name);
        members.into_iter().flatten().map(String::as_str).collect()
    }

    /// What there is to say of a service, and of one node only if one is given. Nothing if there is no
    /// such service.
    #[must_use]
    pub fn why(&self, service: &str, node: Option<&str>) -> Option<Why> {
        let report = &self.report;
        let now = report.status.services.get(service).cloned();
        let now = now.unwrap_or_default();
        let next = report.places.get(service)?;
        let wanted = |n: &str| node.is_none_or(|wanted| wanted == n);
        let scores = report
            .status
            .nodes
            .iter()
            .filter(|(n, _)| wanted(n))
            .map(|(n, state)| NodeScore {
                node: n.clone(),
                state: state.clone(),
                score: self.score(service, n),
                parts: self.parts(service, n),
                chosen: next.iter().any(|p| p.node == *n),
            });
        let about = |c: &&Change| c.service.as_deref() == Some(service);
        Some(Why {
            service: service.to_owned(),
            now,
            next: next
                .iter()
                .map(|p| format!("{} {}", p.node, p.role))
                .collect(),
            scores: scores.collect(),
            changes: report.changes.iter().filter(about).cloned().collect(),
            steps: self.steps_of(service, node),
        })
    }

    /// The best score that any instance had on the node when its place was chosen.
    fn score(&self, service: &str, node: &str) -> Option<String> {
        let rows = self.report.scores.iter().filter(|s| {
            s.stage == "primitive" && s.service == service && s.node.as_deref() == Some(node)
        });
        rows.max_by_key(|s| number(&s.score))
            .map(|s| s.score.clone())
    }

    /// What was added for the service, and for what it is in.
    fn parts(&self, service: &str, node: &str) -> Vec<Contribution> {
        let is_in = |whole: &str| {
            let members = self.report.members.get(whole);
            members.is_some_and(|m| m.iter().any(|m| m == service))
        };
        let mut parts: Vec<Contribution> = Vec::new();
        for c in self.report.contributions.iter().filter(|c| c.node == node) {
            if (c.service == service || is_in(&c.service)) && !parts.contains(c) {
                parts.push(c.clone());
            }
        }
        parts
    }

    fn steps_of(&self, service: &str, node: Option<&str>) -> Vec<StepWhy> {
        let steps = &self.graph.steps;
        let ours = |s: &&Step| {
            s.service.as_deref() == Some(service)
                && s.node.is_some()
                && node.is_none_or(|n| s.node.as_deref() == Some(n))
        };
        steps
            .iter()
            .filter(ours)
            .map(|s| StepWhy {
                step: s.label.clone(),
                reason: s.reason.clone(),
                waits_for: self.real_inputs(s),
            })
            .collect()
    }

    /// What a step waits for, seen through events.
    fn real_inputs(&self, step: &Step) -> Vec<String> {
        let steps = &self.graph.steps;
        let mut seen = vec![false; steps.len()];
        let mut stack = step.waits_for.clone();
        let mut labels = Vec::new();
        while let Some(at) = stack.pop() {
            if std::mem::replace(&mut seen[at], true) {
                continue;
            }
            if steps[at].node.is_some() {
                labels.push(steps[at].label.clone());
            } else {
                stack.extend(&steps[at].waits_for);
            }
        }
        labels.sort();
        labels.dedup();
        labels
    }
}

fn number(score: &str) -> i64 {
    match score {
        "INFINITY" => 1_000_000,
        "-INFINITY" => -1_000_000,
        other => other.parse().unwrap_or(0),
    }
}
