//! What a plan consists of, for those who read it or carry it out.

mod dot;
mod steps;
mod why;

pub(crate) use steps::kind;
pub use steps::{Graph, Kind, Step};
pub use why::{NodeScore, StepWhy, Why};

use crate::{
    model::{Kind as ServiceKind, World},
    report::{self, Change, Status},
};
use serde::Serialize;
use std::collections::BTreeMap;

/// A plan: the steps, and all that is to be said of them.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    /// The steps, and what each waits for.
    pub graph: Graph,
    /// Why they are what they are.
    pub report: Report,
}

/// A place that was decided on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Place {
    /// The node.
    pub node: String,
    /// The role there: Started, Unpromoted or Promoted.
    pub role: String,
}

/// The score of a service on a node at one stage of placing it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Score {
    /// What was placed: primitive, group, clone or bundle; promotion for the order in which
    /// instances are promoted.
    pub stage: &'static str,
    /// The service. Equal instances of a clone have one name.
    pub service: String,
    /// The node; nothing for an instance without a place.
    pub node: Option<String>,
    /// The score: a number, INFINITY or -INFINITY.
    pub score: String,
}

/// What added to a score.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Contribution {
    /// The service.
    pub service: String,
    /// The node.
    pub node: String,
    /// How much: a number, INFINITY or -INFINITY.
    pub score: String,
    /// Why: the id of a constraint, or a reason in words.
    pub why: String,
}

/// What a plan has to say for itself.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The state that the plan was made for.
    pub status: Status,
    /// What changes, as users see it.
    pub changes: Vec<Change>,
    /// Where every service shall be.
    pub places: BTreeMap<String, Vec<Place>>,
    /// What is in each group, clone and bundle: the services, by the names that they have in `places`.
    pub members: BTreeMap<String, Vec<String>>,
    /// The scores by which places were chosen, in the order in which that was done.
    pub scores: Vec<Score>,
    /// What the scores consist of, in the order in which it was added.
    pub contributions: Vec<Contribution>,
    /// What stands in the configuration and was not taken into account.
    pub unsupported: Vec<String>,
}

impl Plan {
    pub(crate) fn of(world: &World<'_>, status: Status) -> Plan {
        Plan {
            graph: Graph::of(world),
            report: Report::of(world, status),
        }
    }
}

impl Report {
    fn of(world: &World<'_>, status: Status) -> Report {
        let node = |n: usize| world.nodes[n].name.to_string();
        let scores = world.notes.scores.iter().map(|l| Score {
            stage: l.stage,
            service: world.shown_name(l.service),
            node: l.node.map(node),
            score: l.score.to_string(),
        });
        let contributions = world.notes.contributions.iter().map(|c| Contribution {
            service: world.shown_name(c.service),
            node: node(c.node),
            score: c.score.to_string(),
            why: c.why.to_string(),
        });
        Report {
            changes: report::changes(world),
            places: places(world),
            members: members(world),
            scores: scores.collect(),
            contributions: contributions.collect(),
            unsupported: world.notes.unsupported.clone(),
            status,
        }
    }
}

fn members(world: &World<'_>) -> BTreeMap<String, Vec<String>> {
    let mut members: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (at, service) in world.services.iter().enumerate() {
        if service.kind != ServiceKind::Primitive {
            continue;
        }
        let mut parent = service.parent;
        while let Some(above) = parent {
            let list = members.entry(world.shown_name(above)).or_default();
            let name = world.shown_name(at);
            if !list.contains(&name) {
                list.push(name);
            }
            parent = world.services[above].parent;
        }
    }
    members
}

fn places(world: &World<'_>) -> BTreeMap<String, Vec<Place>> {
    let mut places: BTreeMap<String, Vec<Place>> = BTreeMap::new();
    for (at, service) in world.services.iter().enumerate() {
        if service.kind != ServiceKind::Primitive {
            continue;
        }
        let list = places.entry(world.shown_name(at)).or_default();
        if let (Some(home), Some(role)) = (service.home, service.next_role) {
            list.push(Place {
                node: world.nodes[home].name.to_string(),
                role: role.to_string(),
            });
        }
    }
    for list in places.values_mut() {
        list.sort_by(|a, b| a.node.cmp(&b.node));
    }
    places
}
