//! The part of the configuration that the protocol depends on.

use crate::{NodeId, NodeName};
use core::time::Duration;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// One configured node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeSpec {
    /// Its number, unique.
    pub id: NodeId,
    /// Its name, unique.
    pub name: NodeName,
    /// Its votes, 1 to 8: a node starts with no other number.
    pub votes: u32,
    /// How many addresses it has, 1 to 4; link `i` joins the `i`-th addresses of two nodes.
    pub links: u8,
}

/// By what proof a vanished incarnation counts as harmless.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FencePolicy {
    /// Its lease has certainly run out.
    Lease,
    /// An operator vouched for it by name.
    Manual,
}

/// Periods of the protocol. All nodes of a cluster must agree on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timings {
    /// Between two heartbeats to one peer on one link.
    pub heartbeat: Duration,
    /// Silence after which a member counts as dead.
    pub dead: Duration,
    /// Length of a quorum lease, on the holder's clock.
    pub lease: Duration,
    /// Bound on the rate error of any node's clock, in parts per million.
    pub drift_ppm: u32,
}

impl Default for Timings {
    fn default() -> Timings {
        Timings {
            heartbeat: Duration::from_millis(100),
            dead: Duration::from_millis(1000),
            lease: Duration::from_millis(1500),
            drift_ppm: 10_000,
        }
    }
}

/// Who of those that wait in a circle is refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VictimPolicy {
    /// Who began to wait last.
    #[default]
    Youngest,
    /// Who has the lowest deadlock priority; of several, who began to wait last.
    Priority,
    /// Who has the fewest locks; of several, who began to wait last.
    FewestLocks,
}

/// The search for deadlocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeadlockConfig {
    /// Whether this node searches and takes part in others' searches.
    pub enabled: bool,
    /// How long a call waits before a search begins with it.
    pub delay: Duration,
    /// Who is refused.
    pub victim: VictimPolicy,
}

impl Default for DeadlockConfig {
    fn default() -> DeadlockConfig {
        DeadlockConfig {
            enabled: true,
            delay: Duration::from_millis(50),
            victim: VictimPolicy::Youngest,
        }
    }
}

/// Who masters resources, and when they move to another master.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MastersConfig {
    /// Whether this node gives resources to the node that does most of the work on them.
    pub moves: bool,
    /// After how many calls of that node more than of others, these counted twice; 1 to 1000.
    pub after: u16,
    /// Shortest time between two moves by one node, and how long it keeps what it was given.
    pub rest: Duration,
    /// Largest share of all resources that this node masters of its own will, in percent, 1 to 100.
    pub cap: u8,
    /// How much a node's work counts, 0 to 10, where it is not 1. A node of weight 0 masters
    /// nothing while there are members of other weights.
    pub weights: BTreeMap<NodeId, u8>,
}

impl Default for MastersConfig {
    fn default() -> MastersConfig {
        MastersConfig {
            moves: true,
            after: 64,
            rest: Duration::from_millis(500),
            cap: 100,
            weights: BTreeMap::new(),
        }
    }
}

impl MastersConfig {
    /// A node's weight.
    #[must_use]
    pub fn weight(&self, node: NodeId) -> u8 {
        self.weights.get(&node).copied().unwrap_or(1)
    }
}
