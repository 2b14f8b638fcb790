//! Constraints as the stages use them.

use super::{Ax, Discover, Nx, Sx, Task};
use mainstay_cib::{
    text::Str,
    value::{LossPolicy, Role, Score},
};

/// How much a service is wanted on some nodes.
#[derive(Clone, Debug)]
pub(crate) struct Location {
    pub id: Str,
    pub service: Sx,
    /// Counts only if this is the service's next role.
    pub role: Option<Role>,
    pub nodes: Vec<(Nx, Score)>,
    pub discover: Discover,
}

/// A ticket that a service needs.
#[derive(Clone, Debug)]
pub(crate) struct Needing {
    pub ticket: Str,
    /// In which role it needs the ticket; in any if absent.
    pub role: Option<Role>,
    pub policy: LossPolicy,
}

/// How much a service is wanted where another one is.
#[derive(Clone, Debug)]
pub(crate) struct Colocation {
    pub id: Str,
    pub dependent: Sx,
    pub primary: Sx,
    pub dependent_role: Option<Role>,
    pub primary_role: Option<Role>,
    /// The node attribute that must be equal.
    pub attribute: Str,
    pub score: Score,
    /// Whether the dependent's wishes move the primary.
    pub influence: bool,
}

/// What an ordering means, as bits that can be combined.
pub(crate) mod flow {
    /// Only an order, if both happen.
    pub(crate) const OPTIONAL: u32 = 1;
    /// Does not count if the first is part of a migration.
    pub(crate) const UNLESS_FIRST_MIGRATES: u32 = 1 << 1;
    /// If the second must happen, so must the first.
    pub(crate) const IMPLIES_FIRST: u32 = 1 << 2;
    /// If the first must happen, so must the second.
    pub(crate) const IMPLIES_THEN: u32 = 1 << 3;
    /// If the second must happen and its service is promoted, so must the first.
    pub(crate) const PROMOTED_IMPLIES_FIRST: u32 = 1 << 4;
    /// The first can happen only if the second can, as part of a migration.
    pub(crate) const FIRST_NEEDS_MIGRATION: u32 = 1 << 5;
    /// The second can happen only if the first can.
    pub(crate) const NEEDS_FIRST: u32 = 1 << 6;
    /// The second is for show only if the first can happen.
    pub(crate) const PSEUDO_IF_FIRST: u32 = 1 << 7;
    /// Like [`IMPLIES_THEN`] for the instances on the node of the first.
    pub(crate) const IMPLIES_THEN_ON_NODE: u32 = 1 << 8;
    /// Like [`NEEDS_FIRST`] unless the first's service is about to stop.
    pub(crate) const PROBE: u32 = 1 << 9;
    /// First and second are the two halves of a restart.
    pub(crate) const RESTART: u32 = 1 << 10;
    /// Never both at a time.
    pub(crate) const SERIALIZE: u32 = 1 << 11;
    /// Counts only if both are on one node.
    pub(crate) const SAME_NODE: u32 = 1 << 12;
    /// If the second happens, the first is shown.
    pub(crate) const SHOWS_FIRST: u32 = 1 << 13;
    /// If the first happens, the second is shown.
    pub(crate) const SHOWS_THEN: u32 = 1 << 14;
    /// The second needs the first to be possible; there is no reverse.
    pub(crate) const ASYMMETRICAL: u32 = 1 << 15;
    /// Makes room on a node.
    pub(crate) const LOAD: u32 = 1 << 16;
    /// The second needs one or more of its firsts to be possible.
    pub(crate) const ONE_OR_MORE: u32 = 1 << 17;
    /// Makes way for what must not be there at the same time.
    pub(crate) const ANTI_COLOCATION: u32 = 1 << 18;
    /// Holds also between a container and what is in its guest.
    pub(crate) const PRESERVE: u32 = 1 << 19;
    /// If the second must happen, the first need not.
    pub(crate) const THEN_CANCELS_FIRST: u32 = 1 << 20;
}

/// One end of an ordering.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// What is done to a service (all actions of this kind, wherever).
    Task(Sx, Task, u64),
    /// One action.
    Action(Ax),
}

/// An ordering: the first end before the second.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Order {
    pub first: End,
    pub then: End,
    pub flags: u32,
}
