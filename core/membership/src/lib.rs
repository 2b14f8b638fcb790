//! Failure detector, quorum, leases, views, join and leave.
//!
//! Two halves. [`ClusterState`] is the replicated state machine: commands of the consensus log go in,
//! [`View`]s and proofs come out, alike on every node. [`Membership`] is the local agent that every
//! node runs: it exchanges heartbeats, measures links, holds the node's quorum lease, promises leases
//! to others and, on the node that leads the log, decides what to propose.
//!
//! The rules are written down in `docs/protocol/membership.md`.

#![forbid(unsafe_code)]

mod agent;
mod directory;
mod founding;
pub mod message;
mod output;
mod state;
mod view;

pub use agent::{LinkStatus, Membership, PeerStatus, PendingStatus};
pub use directory::directory_node;
pub use founding::{Founding, FoundingNode};
pub use message::Message;
pub use output::{MembershipConfig, Output};
pub use state::{
    AccessRefused, Cause, Change, ClusterState, Command, FencedNode, LOCKSPACES_LEN_MAX, Lockspace,
    MoveRecord, RequestOrigin, Rest, StateError, Survivor, SurvivorBatch, SurvivorDone,
    SurvivorKey, SurvivorOwner, SurvivorStep,
};
pub use view::{Member, Pending, View};
