//! What can happen to a node, and what it wants done.
//!
//! A driver (the daemon or the simulator) obeys one rule: carry the effects out in the order in
//! which they stand, and hold back a [`Effect::Send`] that names a [`PersistSeq`] until that record
//! is durable. Everything else is here.

use core::time::Duration;
use mainstay_base::{
    BootId, DeadlockConfig, DiskId, FencePolicy, Instant, LinkId, MastersConfig, NodeId, NodeSpec,
    SessionId, Timings,
};
use mainstay_recorder::Dump;
use mainstay_wire::{
    client::{Answer, Ask, ToClient},
    event::{Event, Reason, What},
    keep::SessionKey,
    lock::Refusal,
    report::OwnerReport,
};

/// Number of a durable write; counted up from 1 per boot.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PersistSeq(pub u64);

/// What a node must know before it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeConfig {
    /// The cluster's name.
    pub cluster: String,
    /// This node's number.
    pub me: NodeId,
    /// All nodes, this one included, by number.
    pub nodes: Vec<NodeSpec>,
    /// Periods.
    pub timings: Timings,
    /// Fencing policy.
    pub fencing: FencePolicy,
    /// The search for deadlocks.
    pub deadlock: DeadlockConfig,
    /// Who masters resources, and when they move. The weights must be the same on all nodes.
    pub masters: MastersConfig,
    /// How long this node keeps orphans before it purges them; without a limit if absent.
    pub orphan_expiry: Option<Duration>,
    /// The longest time for which a session can ask to be kept while it has no connection; none can if
    /// zero.
    pub max_grace: Duration,
    /// The longest time for which this node can be asked to keep sessions while it is started anew; none
    /// are kept if zero.
    pub max_rest: Duration,
    /// How much of a recovery is done before other work has its turn, in resources looked at; from
    /// 1. More makes recoveries shorter, less the pauses of those that have nothing to do with them.
    pub slice: u32,
    /// How many bytes of what others are told in a recovery may be on their way to a node before it is told
    /// more; from 1. More makes recoveries shorter, less the pauses of calls to that node, which are
    /// delivered after all that.
    pub window: usize,
}

/// A [`NodeConfig::slice`] that takes about a millisecond.
pub const SLICE: u32 = 2048;

/// A [`NodeConfig::window`] that a node takes in some milliseconds.
pub const WINDOW: usize = 64 << 10;

/// What the driver found on disk and drew at random.
#[derive(Clone, Debug)]
pub struct BootInfo {
    /// Drawn anew for each boot and each rebirth; never zero.
    pub boot: BootId,
    /// Of the state directory.
    pub disk: DiskId,
    /// Every record of the journal, in order: kind and payload.
    pub records: Vec<(u8, Vec<u8>)>,
    /// Seed for everything random.
    pub entropy: u64,
    /// What the life before left by [`Effect::Carry`], if anything. It must be gone from the disk.
    pub carried: Option<Vec<u8>>,
}

/// What can happen to a node.
#[derive(Clone, Debug)]
pub enum Input {
    /// A deadline passed. Due also after other inputs, if [`Node::deadline`](crate::Node::deadline) says so
    /// then: what takes long is done with these only, a slice each.
    Wake,
    /// An authenticated frame arrived.
    Frame {
        /// From whom.
        peer: NodeId,
        /// On which link.
        link: LinkId,
        /// The frame.
        bytes: Vec<u8>,
    },
    /// A link was connected and authenticated.
    LinkUp {
        /// To whom.
        peer: NodeId,
        /// Which.
        link: LinkId,
    },
    /// A link broke.
    LinkDown {
        /// To whom.
        peer: NodeId,
        /// Which.
        link: LinkId,
        /// Why, for people.
        detail: String,
    },
    /// A write, and all before it, is durable.
    Persisted(PersistSeq),
    /// The disk failed; nothing may be trusted to be durable any more.
    PersistFailed {
        /// Why, for people.
        detail: String,
    },
    /// A client said hello.
    SessionOpened {
        /// Its session.
        session: SessionId,
        /// Who it is.
        owner: OwnerReport,
        /// The group with which it connected.
        group: u32,
        /// Whether it may administer the node.
        privileged: bool,
    },
    /// A client asked for something other than [`Ask::Hello`], [`Ask::Events`] or [`Ask::Ping`], which
    /// the driver answers; or a client whose session is kept asked for anything.
    Request {
        /// Its session.
        session: SessionId,
        /// The request's number.
        request: u64,
        /// What it asks.
        ask: Ask,
    },
    /// The connection of a client is gone. If its session is kept, that waits for another connection;
    /// otherwise its locks are released, but for those that are persistent.
    SessionClosed {
        /// Its session.
        session: SessionId,
    },
    /// A client asked for [`Ask::KeepSession`].
    Keep {
        /// Its session.
        session: SessionId,
        /// The request's number.
        request: u64,
        /// How long it wants its session kept.
        grace_ms: u32,
        /// A key that the driver has drawn.
        key: SessionKey,
    },
    /// Somebody asked for [`Ask::Reattach`] on a connection that has no session. To be answered by
    /// [`Effect::Reattached`] or [`Effect::TurnedAway`].
    Reattach {
        /// What the driver calls the connection.
        connection: SessionId,
        /// The session that is to be continued.
        session: SessionId,
        /// The proof that it may.
        key: SessionKey,
        /// How much the client has heard.
        heard: u64,
        /// Who connected.
        uid: u32,
    },
    /// The driver's own answer to a request of a kept session.
    Answered {
        /// The session.
        session: SessionId,
        /// The request's number.
        request: u64,
        /// The answer.
        result: Result<Answer, Refusal>,
    },
    /// The driver has something to tell in the node's stream of events.
    Notice {
        /// What happened.
        what: What,
        /// Why.
        reason: Reason,
        /// More, for people.
        detail: String,
    },
    /// Leave the cluster cleanly, then [`Effect::Stop`].
    Stop,
    /// What [`Effect::Carry`] asked for is durable, or cannot be.
    Carried {
        /// Why not, for people.
        result: Result<(), String>,
    },
}

/// What a node wants done.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Send a frame. Best effort: it may be lost, repeated or reordered.
    Send {
        /// To whom.
        to: NodeId,
        /// On which link.
        link: LinkId,
        /// The frame.
        frame: Vec<u8>,
        /// Only after this write is durable.
        after: Option<PersistSeq>,
    },
    /// Make records durable, then answer with [`Input::Persisted`]. Writes become durable in order.
    Persist {
        /// The write's number.
        seq: PersistSeq,
        /// The records: kind and payload; all or none.
        records: Vec<(u8, Vec<u8>)>,
        /// These records take the place of the whole journal, rather than being appended.
        replace: bool,
    },
    /// Send a message to a client.
    Client {
        /// Its session.
        session: SessionId,
        /// The message.
        message: ToClient,
    },
    /// From now on a connection is that of a session: what is said to the session goes there, and what
    /// another connection of the session says is not listened to; that is told why and closed.
    Reattached {
        /// The session.
        session: SessionId,
        /// What the driver calls the connection.
        connection: SessionId,
        /// How many answers are still to come, beside that to the connection's first request.
        unanswered: u64,
    },
    /// Refuse the first request of a connection, and close it.
    TurnedAway {
        /// What the driver calls the connection.
        connection: SessionId,
        /// Why.
        why: Refusal,
    },
    /// Close a client's connection, after what has been sent to it.
    CloseSession {
        /// Its session.
        session: SessionId,
    },
    /// Show the clients until when the node may act; [`Instant::ZERO`] revokes.
    Lease {
        /// On this node's clock.
        until: Instant,
    },
    /// Tell what happened.
    Event(Event),
    /// Write what the flight recorder remembers to a file, and answer the client that asked for it, if
    /// one did, with [`Answer::Dumped`]. Clock, time and build in
    /// its head are the driver's to fill in.
    Dump {
        /// What to write.
        dump: Box<Dump>,
        /// Who asked: a session, and its request's number.
        asker: Option<(SessionId, u64)>,
    },
    /// Make this durable for the next life, in place of all that was before, then answer with
    /// [`Input::Carried`]. Nothing at all: there is to be nothing any more.
    Carry {
        /// What to write.
        bytes: Option<Vec<u8>>,
    },
    /// Wait for outstanding writes, forget this node, tell its clients that their sessions are
    /// lost, and boot anew from the journal with a fresh [`BootInfo`].
    Reborn {
        /// Why, for people.
        detail: String,
    },
    /// Stop for good. The last effect of a node.
    Stop {
        /// Whether the node left as asked; otherwise something failed.
        clean: bool,
        /// Why, for people.
        detail: String,
    },
}

/// Effects in the order in which they are to be carried out.
#[derive(Clone, Debug, Default)]
pub struct Outbox {
    /// The effects.
    pub effects: Vec<Effect>,
}

/// Why a node cannot start from what it found on disk.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BootError {
    /// The configuration does not hold together.
    #[error("configuration: {0}")]
    Config(String),
    /// A record of the journal cannot be understood.
    #[error("journal record {index}: {why}")]
    Record {
        /// Which, counted from 0.
        index: usize,
        /// What is wrong.
        why: String,
    },
    /// The state directory belongs to another cluster or node.
    #[error("{0}")]
    Foreign(String),
}
