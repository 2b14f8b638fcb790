//! The part of the configuration that the protocol depends on.

use crate::{NodeId, NodeName};
use core::time::Duration;
use serde::{Deserialize, Serialize};

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
