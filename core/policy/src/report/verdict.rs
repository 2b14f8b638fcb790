//! The plan in the normalised form in which plans of different engines can be compared.

use super::Status;
use crate::{
    model::{Ax, World},
    plan::{Kind, kind},
};
use std::collections::{BTreeMap, BTreeSet};

/// A plan, and the states before and after it. All lists are sorted; equal instances of a clone have
/// one name, so that lists are multisets.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Verdict {
    /// The states of nodes now.
    pub nodes_before: BTreeMap<String, String>,
    /// The states of nodes when the plan has been carried out.
    pub nodes_after: BTreeMap<String, String>,
    /// Where services are now.
    pub before: BTreeMap<String, Vec<String>>,
    /// Where services are when the plan has been carried out.
    pub placements: BTreeMap<String, Vec<String>>,
    /// What changes, as users see it.
    pub summary: Vec<String>,
    /// The operations on services.
    pub actions: Vec<String>,
    /// What is done to the cluster's own state.
    pub cluster_actions: Vec<String>,
    /// The nodes that are fenced.
    pub fencing: Vec<String>,
    /// The events in between.
    pub pseudo: Vec<String>,
    /// Which of all these comes before which, without what follows from the others.
    pub order: Vec<String>,
    /// The scores: stage, service, node, score.
    pub scores: Vec<[String; 4]>,
}

impl Verdict {
    pub(crate) fn of(world: &World<'_>, before: Status) -> Verdict {
        let mut verdict = Verdict {
            nodes_before: before.nodes,
            before: before.services,
            ..Verdict::default()
        };
        for at in world.drawn() {
            let list = match kind(world, at) {
                Kind::Operation => &mut verdict.actions,
                Kind::Cluster => &mut verdict.cluster_actions,
                Kind::Fencing => &mut verdict.fencing,
                Kind::Event => &mut verdict.pseudo,
            };
            list.push(world.label(at));
        }
        verdict.order = order(world);
        // Shutdowns are among what is done to the cluster's own state.
        let changes = super::changes(world);
        let shown = changes.iter().filter(|c| c.what != "shutdown");
        verdict.summary = shown.map(super::Change::line).collect();
        let name =
            |n: Option<usize>| n.map_or("none".to_owned(), |n| world.nodes[n].name.to_string());
        verdict.scores = world
            .notes
            .scores
            .iter()
            .map(|l| {
                let service = world.shown_name(l.service);
                [
                    l.stage.to_owned(),
                    service,
                    name(l.node),
                    l.score.to_string(),
                ]
            })
            .collect();
        verdict.scores.sort();
        for list in [
            &mut verdict.actions,
            &mut verdict.cluster_actions,
            &mut verdict.fencing,
            &mut verdict.pseudo,
            &mut verdict.summary,
            &mut verdict.order,
        ] {
            list.sort();
        }
        verdict
    }
}

/// The order between what is really done: events in between are left out, and so is what follows.
fn order(world: &World<'_>) -> Vec<String> {
    let mut after: Vec<Vec<Ax>> = vec![Vec::new(); world.actions.len()];
    let drawn: Vec<Ax> = world.drawn().collect();
    for &at in &drawn {
        for input in world.inputs(at) {
            after[input].push(at);
        }
    }
    let real = |a: Ax| kind(world, a) != Kind::Event;
    let mut next: BTreeMap<Ax, BTreeSet<Ax>> = BTreeMap::new();
    for &at in drawn.iter().filter(|a| real(**a)) {
        let mut seen = BTreeSet::new();
        let mut hit = BTreeSet::new();
        let mut stack = after[at].clone();
        while let Some(one) = stack.pop() {
            if !seen.insert(one) {
                continue;
            }
            if real(one) && one != at {
                hit.insert(one);
            }
            stack.extend(&after[one]);
        }
        next.insert(at, hit);
    }
    let mut lines = Vec::new();
    for (at, all) in &next {
        for then in all {
            let through = |m: &Ax| m != then && !next[m].contains(at) && next[m].contains(then);
            if !all.iter().any(through) {
                lines.push(format!("{} < {}", world.label(*at), world.label(*then)));
            }
        }
    }
    lines
}
