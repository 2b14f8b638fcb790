//! What the stages work on: nodes, services, constraints and actions, each in a list of its own and
//! named by its place there, so that every walk has an order.

mod action;
mod constraint;
mod node;
mod options;
mod scores;
mod service;

pub(crate) use action::{About, Action, FenceOp, Link, Needed, Task};
pub(crate) use constraint::{Colocation, End, Location, Needing, Order, flow};
pub(crate) use node::{Node, NodeKind};
pub(crate) use options::{NoQuorum, Options, Strategy};
pub(crate) use scores::{Discover, Scores};
pub(crate) use service::{Config, Fail, Kind, OnMultiple, OpDef, Replica, Service, Values};

use crate::Dialect;
use crate::report::{Notes, Why};
use mainstay_base::FixedMap;
use mainstay_cib::{
    Cib,
    index::Index,
    text::Str,
    value::{Role, Score},
};
use std::collections::BTreeMap;

/// The place of a node.
pub(crate) type Nx = usize;
/// The place of a service.
pub(crate) type Sx = usize;
/// The place of an action.
pub(crate) type Ax = usize;

/// What is known of a ticket.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ticket {
    pub granted: bool,
    pub standby: bool,
}

/// Everything that a plan is made from and consists of.
pub(crate) struct World<'a> {
    pub cib: &'a Cib,
    pub index: &'a Index<'a>,
    /// Seconds since 1970.
    pub now: i64,
    pub dialect: Dialect,
    pub options: Options,
    pub quorate: bool,
    pub nodes: Vec<Node>,
    pub node_by_name: FixedMap<Str, Nx>,
    pub services: Vec<Service>,
    /// The outermost services, in the order in which they are dealt with.
    pub roots: Vec<Sx>,
    pub by_id: FixedMap<Str, Sx>,
    pub tickets: BTreeMap<Str, Ticket>,
    /// Whether any fencing device is configured.
    pub has_fencing_device: bool,
    /// Whether any service needs its node unfenced.
    pub has_unfencing: bool,
    /// Whether there are nodes that a service brings about.
    pub has_remote_nodes: bool,
    pub locations: Vec<Location>,
    pub colocations: Vec<Colocation>,
    pub orders: Vec<Order>,
    pub actions: Vec<Action>,
    /// Names of actions that no kind is for.
    pub names: Vec<Str>,
    /// Recurring operations whose failure is so old that they must begin anew.
    pub stale_ops: Vec<(Sx, Nx, Str)>,
    /// Last failures whose parameters can be compared only when services are placed.
    pub deferred_checks: Vec<(Sx, Nx, Str)>,
    /// The same for operations since the last start.
    pub deferred_ops: Vec<(Sx, Nx, Str)>,
    /// What is cleared only after the node of a connection was fenced.
    pub after_remote_fencing: Vec<(Ax, Sx)>,
    pub notes: Notes,
}

impl World<'_> {
    /// The outermost service around one. For what is in a bundle, that is what is directly in it.
    pub(crate) fn top(&self, service: Sx) -> Sx {
        let mut at = service;
        while let Some(parent) = self.services[at].parent {
            if self.services[parent].kind == Kind::Bundle {
                break;
            }
            at = parent;
        }
        at
    }

    /// The very outermost service around one, bundles included.
    pub(crate) fn outermost(&self, service: Sx) -> Sx {
        let mut at = service;
        while let Some(parent) = self.services[at].parent {
            at = parent;
        }
        at
    }

    /// Whether a service is inside another one, at any depth.
    pub(crate) fn is_inside(&self, service: Sx, around: Sx) -> bool {
        let mut at = self.services[service].parent;
        while let Some(parent) = at {
            if parent == around {
                return true;
            }
            at = self.services[parent].parent;
        }
        false
    }

    /// The primitives in a service, itself if it is one.
    pub(crate) fn leaves(&self, service: Sx) -> Vec<Sx> {
        let mut leaves = Vec::new();
        self.collect_leaves(service, &mut leaves);
        leaves
    }

    fn collect_leaves(&self, service: Sx, into: &mut Vec<Sx>) {
        let s = &self.services[service];
        if s.kind == Kind::Primitive {
            into.push(service);
        }
        for &child in &s.children {
            self.collect_leaves(child, into);
        }
    }

    /// Whether a service is a clone, or an instance in one (not deeper).
    pub(crate) fn is_clone(&self, service: Sx) -> bool {
        self.services[service].kind == Kind::Clone
    }

    /// Whether the service is directly in a clone whose instances are told apart by their numbers.
    pub(crate) fn in_unique_clone(&self, service: Sx) -> bool {
        let parent = self.services[service].parent;
        parent.is_some_and(|p| self.is_clone(p) && self.services[p].unique)
    }

    /// Whether a service is a clone whose instances are all alike.
    pub(crate) fn is_anonymous_clone(&self, service: Sx) -> bool {
        self.is_clone(service) && !self.services[service].unique
    }

    /// Whether a service is in a bundle.
    pub(crate) fn is_bundled(&self, service: Sx) -> bool {
        self.services[service].kind != Kind::Bundle
            && self.services[self.outermost(service)].kind == Kind::Bundle
    }

    /// The base of a name for a service: its id without the number of an anonymous instance.
    pub(crate) fn plain_name(&self, service: Sx) -> Str {
        let s = &self.services[service];
        if s.unique {
            s.id.clone()
        } else {
            s.config.id.clone()
        }
    }

    /// Takes a service's next role down or up, with the reason in the report.
    pub(crate) fn set_next_role(&mut self, service: Sx, role: Option<Role>, why: &'static str) {
        let s = &mut self.services[service];
        if s.next_role != role {
            s.next_role = role;
            s.role_reason = why;
        }
    }

    /// The role that the service will be in; a collective's is the highest of its children.
    pub(crate) fn role(&self, service: Sx, current: bool) -> Option<Role> {
        let s = &self.services[service];
        match s.kind {
            Kind::Primitive => {
                if current {
                    s.role
                } else {
                    s.next_role
                }
            }
            Kind::Bundle => s
                .replicas
                .iter()
                .map(|r| self.role(r.container, current))
                .max()
                .flatten(),
            _ => s
                .children
                .iter()
                .map(|&c| self.role(c, current))
                .max()
                .flatten(),
        }
    }

    /// The one node where a service is (`current`) or will be; nothing if it is on several.
    pub(crate) fn location(&self, service: Sx, current: bool) -> Option<Nx> {
        let mut nodes = Vec::new();
        self.locations_of(service, current, &mut nodes);
        match nodes[..] {
            [one] => Some(one),
            _ => None,
        }
    }

    /// All nodes where a service is (`current`) or will be, each once.
    pub(crate) fn locations_of(&self, service: Sx, current: bool, into: &mut Vec<Nx>) {
        let s = &self.services[service];
        if s.kind == Kind::Primitive {
            let mut add = |n: Nx| {
                if !into.contains(&n) {
                    into.push(n);
                }
            };
            if current {
                s.running_on.iter().copied().for_each(&mut add);
            } else if let Some(n) = s.home {
                add(n);
            }
            return;
        }
        for &child in &s.children {
            self.locations_of(child, current, into);
        }
    }

    /// The node on which a service is active, if any: of several, the one that counts for stopping
    /// and moving. A clean online one comes before others; the source of a migration before all.
    pub(crate) fn active_node(&self, service: Sx) -> Option<Nx> {
        self.active_nodes(service).0
    }

    /// The active node, and on how many nodes the service is: all of them, and those that are online
    /// and clean.
    pub(crate) fn active_nodes(&self, service: Sx) -> (Option<Nx>, usize, usize) {
        let s = &self.services[service];
        let running: Vec<Nx> = if s.kind == Kind::Bundle {
            s.replicas
                .iter()
                .flat_map(|r| self.services[r.container].running_on.iter().copied())
                .collect()
        } else {
            s.running_on.clone()
        };
        let clean = |n: &&Nx| self.nodes[**n].online && !self.nodes[**n].unclean;
        let first = running.first().copied();
        let active = match s.migration {
            Some((source, _)) if running.contains(&source) => Some(source),
            Some(_) => first,
            // What needs fencing counts as active even where it is not known to be.
            None if s.requires >= Needed::Fencing => first,
            None => running.iter().find(clean).copied().or(first),
        };
        (active, running.len(), running.iter().filter(clean).count())
    }

    /// Whether the node can take services, whatever their scores.
    pub(crate) fn is_available(&self, node: Nx) -> bool {
        self.nodes[node].is_available()
    }

    /// Whether there is a node that can take the service with these scores.
    pub(crate) fn any_available(&self, scores: &Scores) -> bool {
        scores
            .iter()
            .any(|(n, a)| a.score >= Score::ZERO && self.is_available(n))
    }

    /// Adds to the score of a service on a node (or on all), and of all in it.
    pub(crate) fn add_score(&mut self, service: Sx, node: Option<Nx>, score: Score, why: &Why) {
        for child in self.services[service].children.clone() {
            self.add_score(child, node, score, why);
        }
        let nodes = match node {
            Some(n) => n..n + 1,
            None => 0..self.nodes.len(),
        };
        for n in nodes {
            let (base, discover) = (self.nodes[n].score, self.nodes[n].discover);
            let allowed = self.services[service].allowed.entry(n, base, discover);
            allowed.score += score;
            self.notes.contribution(service, n, score, why);
        }
    }

    /// The id of the service that a node stands for as a guest or remote node.
    pub(crate) fn connection(&self, node: Nx) -> Option<Sx> {
        self.nodes[node].connection
    }

    /// Whether the node is one that a service on another node brings about.
    pub(crate) fn is_guest(&self, node: Nx) -> bool {
        self.nodes[node].kind == NodeKind::Remote
            && self
                .connection(node)
                .is_some_and(|c| self.services[c].container.is_some())
    }

    /// Whether the node is reached through a connection, and is no guest.
    pub(crate) fn is_remote(&self, node: Nx) -> bool {
        self.nodes[node].kind == NodeKind::Remote && !self.is_guest(node)
    }

    /// The service that brings a guest node about.
    pub(crate) fn container_of_guest(&self, node: Nx) -> Option<Sx> {
        if self.nodes[node].kind != NodeKind::Remote {
            return None;
        }
        self.services[self.connection(node)?].container
    }

    /// Whether fencing a node is something that can be done now.
    pub(crate) fn can_fence(&self, node: Nx) -> bool {
        self.can_fence_within(node, 0)
    }

    /// The same for a node inside of so many others. A guest cannot be inside of itself, whatever a
    /// history says.
    fn can_fence_within(&self, node: Nx, depth: usize) -> bool {
        if let Some(container) = self.container_of_guest(node) {
            return depth <= self.nodes.len()
                && self.services[container]
                    .running_on
                    .iter()
                    .all(|&n| self.nodes[n].online || self.can_fence_within(n, depth + 1));
        }
        self.options.fencing
            && self.has_fencing_device
            && (self.quorate
                || self.options.no_quorum == NoQuorum::Ignore
                || self.nodes[node].online)
    }
}
