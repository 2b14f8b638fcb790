//! The replicated state: what the consensus log says about the cluster. Every node applies the same
//! commands in the same order and so arrives at the same views.

mod apply;
mod command;
mod snapshot;
mod surviving;
#[cfg(test)]
mod surviving_tests;
#[cfg(test)]
mod tests;

pub use command::{
    AccessRefused, Cause, Change, Command, FencedNode, MoveRecord, RequestOrigin, Rest,
};
pub use snapshot::StateError;
pub use surviving::{
    Survivor, SurvivorBatch, SurvivorDone, SurvivorKey, SurvivorOwner, SurvivorStep,
};

use crate::{Founding, View};
use mainstay_base::{
    Access, BootId, ClusterId, Compat, DiskId, Epoch, Fairness, FencePolicy, Incarnation,
    LockspaceId, LockspaceName, NodeId, NodeSpec, Timings,
};
use mainstay_fencing::Proof;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
};

/// Ended boots remembered per node. An older boot cannot join again because its proposal names an
/// incarnation that has passed.
const RETIRED_BOOTS_KEPT: usize = 32;
/// Fencing records remembered, for `why` and for nodes that catch up by snapshot. A member that
/// lags behind by more than this has been removed itself.
const FENCED_KEPT: usize = 256;

/// Most bytes that all lockspaces, and the locks that survive their nodes, take in a snapshot: with all
/// else that stands in one, it must fit one message of the log.
pub const LOCKSPACES_LEN_MAX: usize = 384 << 10;

/// A lockspace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lockspace {
    /// Its number, from 1.
    pub id: LockspaceId,
    /// Its name.
    pub name: LockspaceName,
    /// Length of its value blocks, in bytes.
    pub value_len: u16,
    /// Who may lock what in it. In a snapshot it stands apart, as formats before had nothing of it.
    #[serde(skip)]
    pub access: Access,
    /// How it shares out its resources. In a snapshot it stands apart, too.
    #[serde(skip)]
    pub fairness: Fairness,
    /// Whose rules it follows where systems differ. In a snapshot it stands apart, too.
    #[serde(skip)]
    pub compat: Compat,
}

impl Lockspace {
    /// Bytes that it takes in a snapshot at most: its name stands there four times, or five if it follows
    /// others' rules, and no number takes more than ten.
    fn len_max(&self) -> usize {
        let rules = self.access.rules.iter();
        let rules: usize = rules.map(|rule| rule.prefix.len() + 10).sum();
        let names = 4 + usize::from(self.compat != Compat::Strict);
        names * (self.name.as_str().len() + 1) + 48 + rules
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct NodeRecord {
    spec: NodeSpec,
    disk: Option<DiskId>,
    /// The last incarnation given; 0 if the node never joined.
    incarnation: Incarnation,
    /// Boots that were members and no longer are, oldest first.
    retired: VecDeque<BootId>,
}

/// The replicated state of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterState {
    applied: u64,
    cluster: String,
    id: Option<ClusterId>,
    timings: Timings,
    fencing: Option<FencePolicy>,
    nodes: BTreeMap<NodeId, NodeRecord>,
    lockspaces: BTreeMap<LockspaceName, Lockspace>,
    fenced: VecDeque<FencedNode>,
    cause: Cause,
    #[serde(with = "snapshot::arc_view")]
    view: Arc<View>,
    /// The last batch of each node about which was decided.
    moves: BTreeMap<NodeId, (Incarnation, u64)>,
    /// Batches that have moved so far.
    moved: u64,
    /// Who may lock what in those lockspaces that are not root's and open to all.
    access: BTreeMap<LockspaceName, Access>,
    /// How they share out their resources, where it is not as usual.
    fairness: BTreeMap<LockspaceName, Fairness>,
    /// Whose rules they follow, where not their own.
    compat: BTreeMap<LockspaceName, Compat>,
    /// Locks that survive their nodes.
    surviving: surviving::Surviving,
    /// The incarnation that rests, if one does.
    rest: Option<Rest>,
}

impl ClusterState {
    /// The state before the first command.
    #[must_use]
    pub fn new() -> ClusterState {
        ClusterState::default()
    }

    /// Index of the last command applied.
    #[must_use]
    pub fn applied(&self) -> u64 {
        self.applied
    }

    /// The cluster's name; empty before the founding.
    #[must_use]
    pub fn cluster(&self) -> &str {
        &self.cluster
    }

    /// The cluster's number, once founded.
    #[must_use]
    pub fn id(&self) -> Option<ClusterId> {
        self.id
    }

    /// The periods in force.
    #[must_use]
    pub fn timings(&self) -> &Timings {
        &self.timings
    }

    /// The fencing policy in force, once founded.
    #[must_use]
    pub fn fencing(&self) -> Option<FencePolicy> {
        self.fencing
    }

    /// The view in force.
    #[must_use]
    pub fn view(&self) -> &Arc<View> {
        &self.view
    }

    /// The configured nodes, by number.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeSpec> {
        self.nodes.values().map(|n| &n.spec)
    }

    /// The disk by which the replicated log knows a node.
    #[must_use]
    pub fn disk(&self, node: NodeId) -> Option<DiskId> {
        self.nodes.get(&node).and_then(|n| n.disk)
    }

    /// The last incarnation that a node was given; 0 if it never joined.
    #[must_use]
    pub fn incarnation(&self, node: NodeId) -> Incarnation {
        self.nodes
            .get(&node)
            .map_or(Incarnation(0), |n| n.incarnation)
    }

    /// Whether a boot was a member once and is none any more.
    #[must_use]
    pub fn is_retired(&self, node: NodeId, boot: BootId) -> bool {
        self.nodes
            .get(&node)
            .is_some_and(|n| n.retired.contains(&boot))
    }

    /// All boots that were members once and are none any more, as far as they are remembered.
    pub(crate) fn retired(&self) -> impl Iterator<Item = (NodeId, BootId)> {
        let nodes = self.nodes.iter();
        nodes.flat_map(|(node, record)| record.retired.iter().map(|boot| (*node, *boot)))
    }

    /// A node's votes; 0 if it is not configured.
    #[must_use]
    pub fn votes(&self, node: NodeId) -> u32 {
        self.nodes.get(&node).map_or(0, |n| n.spec.votes)
    }

    /// Votes of all configured nodes.
    #[must_use]
    pub fn votes_total(&self) -> u32 {
        self.nodes.values().map(|n| n.spec.votes).sum()
    }

    /// Votes of the members.
    #[must_use]
    pub fn votes_of_members(&self) -> u32 {
        self.view.members.iter().map(|m| self.votes(m.node)).sum()
    }

    /// A lockspace by name.
    #[must_use]
    pub fn lockspace(&self, name: &LockspaceName) -> Option<&Lockspace> {
        self.lockspaces.get(name)
    }

    /// All lockspaces, by name.
    pub fn lockspaces(&self) -> impl Iterator<Item = &Lockspace> {
        self.lockspaces.values()
    }

    /// How many batches of masterships have moved so far.
    #[must_use]
    pub fn moved(&self) -> u64 {
        self.moved
    }

    /// The incarnation that rests, if one does.
    #[must_use]
    pub fn rest(&self) -> Option<Rest> {
        self.rest
    }

    /// Why the present view came about.
    #[must_use]
    pub fn cause(&self) -> &Cause {
        &self.cause
    }

    /// The last fencing records, oldest first.
    pub fn fenced(&self) -> impl Iterator<Item = &FencedNode> {
        self.fenced.iter()
    }

    /// The commands by which `operator` vouches for every vanished incarnation of `node`; empty if
    /// there is none. To be proposed by the leader of the replicated log.
    #[must_use]
    pub fn vouch(&self, node: NodeId, operator: &str) -> Vec<Command> {
        let pending = self.view.pending.iter().filter(|p| p.node == node);
        pending
            .map(|p| Command::Fenced {
                node,
                incarnation: p.incarnation,
                proof: Proof::OperatorVouched {
                    operator: operator.to_owned(),
                },
            })
            .collect()
    }

    /// What changed since `old`, which the same log had brought about earlier: for a node that caught
    /// up by snapshot. One view stands for all between, then come the fencing records one by one.
    #[must_use]
    pub fn changes_since(&self, old: &ClusterState) -> Vec<Change> {
        let mut changes = Vec::new();
        if self.surviving != old.surviving {
            // Before anything that is done about them.
            let all = self.survivors().cloned().collect();
            changes.push(Change::AllSurvivors { all });
        }
        if self.view.epoch > old.view.epoch {
            changes.push(Change::View {
                view: Arc::clone(&self.view),
                cause: self.cause.clone(),
            });
        }
        let fenced = self.fenced.iter();
        changes.extend(
            fenced
                .filter(|f| f.record.epoch > old.view.epoch)
                .map(|f| Change::Fenced(f.clone())),
        );
        for lockspace in self.lockspaces.values() {
            match old.lockspaces.get(&lockspace.name) {
                None => changes.push(Change::Lockspace {
                    lockspace: lockspace.clone(),
                    created: true,
                    origin: None,
                }),
                Some(before) if before.access != lockspace.access => changes.push(Change::Access {
                    lockspace: lockspace.clone(),
                    origin: None,
                }),
                Some(_) => {}
            }
        }
        for (node, record) in &self.nodes {
            if let (Some(new), before) = (record.disk, old.disk(*node))
                && before != Some(new)
                && old.id.is_some()
            {
                changes.push(Change::DiskReplaced {
                    node: *node,
                    old: before,
                    new,
                });
            }
        }
        changes
    }

    fn found(&mut self, founding: &Founding) {
        self.cluster.clone_from(&founding.cluster);
        self.id = Some(founding.id);
        self.timings = founding.timings;
        self.fencing = Some(founding.fencing);
        for node in &founding.nodes {
            self.nodes.insert(
                node.spec.id,
                NodeRecord {
                    spec: node.spec.clone(),
                    disk: node.disk,
                    incarnation: Incarnation(0),
                    retired: VecDeque::new(),
                },
            );
        }
    }

    fn epoch(&self) -> Epoch {
        self.view.epoch
    }
}
