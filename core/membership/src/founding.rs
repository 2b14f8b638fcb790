//! The record that a cluster begins with.

use mainstay_base::{
    ClusterId, DiskId, FencePolicy, NODES_MAX, NodeId, NodeSpec, Timings, VOTES_MAX,
};
use mainstay_wire::codec::{self, DecodeError};
use serde::{Deserialize, Serialize};

/// Longest encoded founding, in bytes.
const FOUNDING_LEN_MAX: usize = 64 << 10;

/// One node of a founding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FoundingNode {
    /// Its configuration.
    pub spec: NodeSpec,
    /// Its disk. Every node with votes has one; a node without votes need not have been there.
    pub disk: Option<DiskId>,
}

/// What the cluster was founded with. Made once, by the founder; every node keeps it on disk and
/// starts its replicated log with the voters that stand here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Founding {
    /// The cluster's name.
    pub cluster: String,
    /// The cluster's number, drawn at random.
    pub id: ClusterId,
    /// All configured nodes, by number.
    pub nodes: Vec<FoundingNode>,
    /// Periods, in force for the whole life of the cluster.
    pub timings: Timings,
    /// Fencing policy.
    pub fencing: FencePolicy,
}

impl Founding {
    /// The disk under which a node was founded.
    #[must_use]
    pub fn disk(&self, node: NodeId) -> Option<DiskId> {
        self.nodes
            .iter()
            .find(|n| n.spec.id == node)
            .and_then(|n| n.disk)
    }

    /// The disks of the nodes with votes: the first voters of the replicated log.
    #[must_use]
    pub fn voters(&self) -> Vec<(NodeId, DiskId)> {
        self.nodes
            .iter()
            .filter(|n| n.spec.votes > 0)
            .filter_map(|n| n.disk.map(|disk| (n.spec.id, disk)))
            .collect()
    }

    /// Whether a cluster can have been founded so: not too many nodes, each once and in order, none
    /// with too many votes.
    pub(crate) fn is_sound(&self) -> bool {
        self.nodes.len() <= NODES_MAX
            && self.nodes.is_sorted_by(|a, b| a.spec.id < b.spec.id)
            && self.nodes.iter().all(|n| n.spec.votes <= VOTES_MAX)
    }

    /// For the journal.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        codec::to_vec(self)
    }

    /// From the journal.
    ///
    /// # Errors
    /// If the bytes are no founding.
    pub fn decode(bytes: &[u8]) -> Result<Founding, DecodeError> {
        codec::decode("founding", FOUNDING_LEN_MAX, bytes)
    }
}

impl Founding {
    /// What a node's configuration says otherwise than the founding, for people; `None` if they agree.
    #[must_use]
    pub fn difference(&self, config: &crate::MembershipConfig) -> Option<String> {
        if self.cluster != config.cluster {
            return Some(format!(
                "the cluster was founded as `{}`; this node's configuration calls it `{}`",
                self.cluster, config.cluster
            ));
        }
        let mut nodes: Vec<&NodeSpec> = config.nodes.iter().collect();
        nodes.sort_by_key(|n| n.id);
        if !self.nodes.iter().map(|n| &n.spec).eq(nodes) {
            return Some(
                "the cluster was founded with other nodes, names, votes or numbers of addresses \
                 than stand in this node's configuration"
                    .to_owned(),
            );
        }
        if self.timings != config.timings {
            return Some(format!(
                "the cluster was founded with timings {:?}; this node's configuration says {:?}",
                self.timings, config.timings
            ));
        }
        if self.fencing != config.fencing {
            return Some(format!(
                "the cluster was founded with fencing {:?}; this node's configuration says {:?}",
                self.fencing, config.fencing
            ));
        }
        None
    }
}
