//! What is recorded.

use mainstay_base::{
    BootId, Incarnation, Instant, LockId, LockMode, LockspaceId, NodeId, ResourceName, SessionId,
    Token,
};
use mainstay_wire::event::Event;
use serde::{Deserialize, Serialize};

/// Something that happened on a node. `N` is a name or a reference to one: both are written alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Record<N = ResourceName> {
    /// A life of the node begins: it holds nothing and masters nothing.
    Life {
        /// Which.
        boot: BootId,
    },
    /// The lease as shown to clients.
    Lease {
        /// Until when the node's clients may rely on their locks; [`Instant::ZERO`] revokes.
        until: Instant,
    },
    /// Something that is also told as an event: views, proofs, recoveries, and more.
    Event(Box<Event>),
    /// A step of rebuilding what a vanished incarnation mastered.
    Recovery {
        /// The vanished incarnation's node.
        node: NodeId,
        /// The vanished incarnation.
        incarnation: Incarnation,
        /// How far.
        phase: Phase,
    },
    /// A lock of this node's clients.
    Own(OwnRecord<N>),
    /// Another node's lock on a resource mastered here.
    Mastered(MasterRecord<N>),
    /// This node masters a resource from now on, or does not any more.
    Master {
        /// Where.
        space: LockspaceId,
        /// On what.
        name: N,
        /// Whether it does.
        here: bool,
    },
}

/// Steps of rebuilding what a vanished incarnation mastered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// The proof is here that it can do no more harm.
    Proved,
    /// This node has restated its own locks.
    Restated,
    /// All have restated; queues are put in order.
    Granting,
    /// This node has nothing left to do for it.
    Done,
}

/// What happened to a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Op {
    /// A new lock was asked for and did not end at once.
    Asked,
    /// A conversion was asked for and did not end at once.
    Converting,
    /// The master has queued it.
    Queued,
    /// Granted or converted, in the mode and with the token that stand beside.
    Granted,
    /// The pending call ended without a grant; the mode beside is still held.
    Refused,
    /// The client has asked for the release, which waits for the master.
    Unlocking,
    /// Released by its client.
    Unlocked,
    /// Gone with its client, or for another reason without its client's word.
    Dropped,
    /// Gone with its node, which has vanished.
    Purged,
    /// Demoted to NL while its conversion waits.
    Demoted,
    /// Its client was told that it blocks the mode beside.
    Blocking,
    /// Its owner has told a new master of it: the mode and token beside are held.
    Restated,
    /// A range of it was granted, in the mode and with the token that stand beside; which bytes, is
    /// not told.
    Ranged,
    /// Its session has ended, and its node keeps it: the mode beside is still held.
    Orphaned,
    /// Another session has taken it over, as it is.
    Adopted,
    /// Gone because an orphan was purged, or adopted by nobody in time.
    OrphanPurged,
}

/// What happened to a lock of this node's clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnRecord<N = ResourceName> {
    /// What.
    pub op: Op,
    /// Where.
    pub space: LockspaceId,
    /// On what.
    pub name: N,
    /// Whose.
    pub session: SessionId,
    /// Which.
    pub lock: LockId,
    /// The mode that this is about.
    pub mode: Option<LockMode>,
    /// The token of the mode held, if any is.
    pub token: Token,
    /// Who masters the resource, as far as this node knows; 0 if it does not. This node itself: what
    /// the master did is told with it.
    pub master: NodeId,
}

/// What happened to another node's lock on a resource mastered here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MasterRecord<N = ResourceName> {
    /// What.
    pub op: Op,
    /// Where.
    pub space: LockspaceId,
    /// On what.
    pub name: N,
    /// The owner's node.
    pub node: NodeId,
    /// The owner's incarnation.
    pub incarnation: Incarnation,
    /// Which lock, as its owner numbers it.
    pub lock: LockId,
    /// The mode that this is about.
    pub mode: Option<LockMode>,
    /// The token of the mode held, if any is.
    pub token: Token,
}
