//! The protocol between a client and the daemon of its host, over a UNIX stream socket.
//!
//! Each message is a little-endian `u32` length followed by that many bytes of codec. On accept the
//! daemon first sends one byte with the file descriptor of its lease page attached, then speaks as
//! here. Requests may be pipelined; every request gets exactly one [`ToClient::Done`] with its
//! number, except that what is pending when the connection closes gets none. Locks are named by
//! handles that the client chooses, so that an unlock or cancel can follow a lock call before that
//! has been answered.

use crate::{
    contention::ContentionReport,
    event::Event,
    keep::SessionKey,
    lock::{Flags, Granted, Refusal, Updated, ValueUpdate},
    orphan::{OrphanWish, OrphansReport, PurgeReport},
    report::{GraphReport, LocksReport, LockspaceAccess, MastersReport, StatusReport, WhyReport},
    sets::{ConvertOne, OneDone, SetMember, UnlockOne},
};
use mainstay_base::{
    AccessChange, ByteRange, CLIENT_MESSAGE_LEN_MAX, ClusterId, Compat, Fairness, Incarnation,
    Instant, LockId, LockMode, LockspaceId, LockspaceName, NodeId, NodeName, Owner, ResourceName,
    SessionId, Token, Value, ValueBlock, ValueVersion,
};
use serde::{Deserialize, Serialize};

/// The version of this protocol that this build speaks best.
pub const PROTOCOL: u16 = 1;
/// The oldest version that this build still speaks.
pub const PROTOCOL_MIN: u16 = 1;
/// Bytes before each message: its length, little-endian.
pub const HEADER_LEN: usize = 4;
/// Longest message, in bytes, without its header.
pub const MESSAGE_LEN_MAX: usize = CLIENT_MESSAGE_LEN_MAX;

/// A lock, as the client names it; unique among the session's living locks.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Handle(pub u64);

/// From client to daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FromClient {
    /// Chosen by the client; comes back in the answer.
    pub request: u64,
    /// What is asked.
    pub ask: Ask,
}

/// What a client can ask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ask {
    /// Must be first. Answered by [`Answer::Welcome`].
    Hello {
        /// Oldest protocol version the client speaks.
        min: u16,
        /// Newest protocol version the client speaks.
        max: u16,
        /// The client's command line or name, for people; at most 256 bytes are kept.
        command: String,
    },
    /// Open a lockspace, creating it if need be. Answered by [`Answer::Lockspace`].
    OpenLockspace {
        /// Its name.
        name: LockspaceName,
        /// Value block length for creation, 1 to 4096; `None` takes 32 or whatever exists.
        value_len: Option<u16>,
    },
    /// Request a new lock. Answered by [`Answer::Granted`] or [`Answer::GrantedOtherwise`] once
    /// granted.
    Lock {
        /// The handle it shall have.
        handle: Handle,
        /// Where.
        lockspace: LockspaceId,
        /// On what.
        name: ResourceName,
        /// In which mode.
        mode: LockMode,
        /// How.
        flags: Flags,
        /// Whether to be told when the lock blocks others.
        blocking: bool,
        /// Give up after so many milliseconds of waiting.
        timeout_ms: Option<u32>,
    },
    /// Convert a granted lock. Answered by [`Answer::Granted`] or [`Answer::GrantedOtherwise`] once
    /// granted.
    Convert {
        /// Which.
        handle: Handle,
        /// To which mode.
        mode: LockMode,
        /// How.
        flags: Flags,
        /// Whether to be told when the lock blocks others.
        blocking: bool,
        /// The value block to publish, where the mode change publishes and VALBLK is set.
        value: Option<ValueBlock>,
        /// Give up after so many milliseconds of waiting.
        timeout_ms: Option<u32>,
    },
    /// Release a lock. Answered by [`Answer::Unlocked`].
    Unlock {
        /// Which.
        handle: Handle,
        /// VALBLK publishes `value` when leaving PW or EX; IVVALBLK marks it possibly stale;
        /// FORCEUNLOCK ends a pending request or conversion with [`Refusal::Released`] first.
        flags: Flags,
        /// The value block to publish.
        value: Option<ValueBlock>,
    },
    /// Cancel the pending request or conversion of a lock. Answered by [`Answer::Cancelled`], or
    /// refused as too late; the cancelled call itself is refused as cancelled.
    Cancel {
        /// Which.
        handle: Handle,
    },
    /// Answered by [`Answer::Status`].
    Status,
    /// Resources mastered anywhere. Answered by [`Answer::Locks`].
    Locks {
        /// Only in this lockspace.
        lockspace: Option<LockspaceName>,
        /// Only names that match this pattern; `*` and `?` as in the shell.
        pattern: Option<String>,
        /// At most so many resources, 1 to 10 000.
        limit: u32,
        /// Only resources after this one, by lockspace and name, to go on where an answer ended.
        after: Option<(LockspaceName, ResourceName)>,
    },
    /// Who waits for whom on one resource. Answered by [`Answer::Why`].
    Why {
        /// Where.
        lockspace: LockspaceName,
        /// On what.
        name: ResourceName,
    },
    /// From now on send [`ToClient::Event`]s, after the last `backlog` that are still remembered.
    Events {
        /// How many past events to send first, at most 1000.
        backlog: u32,
    },
    /// Leave the cluster cleanly and stop the daemon. Root or the daemon's user only.
    Leave,
    /// Vouch that an incarnation of a node can do no more harm. Root or the daemon's user only.
    Vouch {
        /// The node by name.
        node: NodeName,
    },
    /// Answered by [`Answer::Pong`] from the daemon's socket loop.
    Ping,
    /// Who waits for whom, everywhere. Answered by [`Answer::Graph`].
    Graph {
        /// Only resources of this lockspace.
        lockspace: Option<LockspaceName>,
        /// Only names that match this pattern; `*` and `?` as in the shell.
        pattern: Option<String>,
        /// At most so many resources on which somebody waits, 1 to 10 000.
        limit: u32,
    },
    /// Sets this session's deadlock priority, 0 until then: where the cluster chooses victims by
    /// priority, the lowest of a circle is refused. Answered by [`Answer::PrioritySet`].
    SetDeadlockPriority {
        /// The priority.
        priority: u8,
    },
    /// Promises to heed each blocking notice that a lock will get from now on: to convert to a mode
    /// that suits, or to unlock. Answered by [`Answer::ResponseTimeSet`].
    SetResponseTime {
        /// Which lock; it must have been asked for with notices.
        handle: Handle,
        /// Within so many milliseconds of the notice, at least 1; `None` takes the promise back.
        within_ms: Option<u32>,
        /// When the time is over, the lock may be taken. Who asks so must have what the lock
        /// protects fenced by its token: the lock ends although its owner may not have read so.
        release: bool,
    },
    /// How long locks are waited for and held, and where. Answered by [`Answer::Contention`].
    Contention {
        /// Only in this lockspace.
        lockspace: Option<LockspaceName>,
        /// Lockspaces after this one, to go on where an answer ended.
        after: Option<LockspaceName>,
        /// At most so many of each: waits, resources, lockspaces; 1 to 1000.
        limit: u32,
    },
    /// Who masters how much, and what has moved lately. Answered by [`Answer::Masters`].
    Masters,
    /// Change the value block in one step. Answered by [`Answer::Updated`]; refused as
    /// [`Refusal::ValueHeld`] where others rely on the block, and as [`Refusal::Unavailable`] if the
    /// master vanished before it answered: then the change may have been made, or lost again.
    UpdateValue {
        /// A lock on the resource, granted in any mode.
        handle: Handle,
        /// The change.
        update: ValueUpdate,
    },
    /// Tell of changes of the value block from now on, or not any more. Answered by
    /// [`Answer::Watching`]; what the value is then is told if it is not what came last with a grant,
    /// an update or a notice of this lock.
    WatchValue {
        /// A lock on the resource, granted in any mode.
        handle: Handle,
        /// From now on, or not any more.
        on: bool,
    },
    /// Sets a range of a lock on ranges to a mode: what the lock held of it is replaced, what it
    /// holds at either side stays. The first range opens the handle, and giving up the last closes
    /// it; an unlock gives up all. Answered by [`Answer::RangeSet`] once granted; until then the
    /// lock keeps what it had.
    Range {
        /// The handle that the lock has, or shall have.
        handle: Handle,
        /// Where.
        lockspace: LockspaceId,
        /// On what.
        name: ResourceName,
        /// Which bytes.
        range: ByteRange,
        /// In which mode; NL to give the range up.
        mode: LockMode,
        /// NOQUEUE or none.
        flags: Flags,
        /// Whether to be told when what the lock holds blocks others.
        blocking: bool,
        /// Give up after so many milliseconds of waiting.
        timeout_ms: Option<u32>,
    },
    /// Write what the flight recorder remembers to a file. Root or the daemon's user only. Answered
    /// by [`Answer::Dumped`].
    DumpRecorder,
    /// Create a lockspace that does not exist yet. Answered by [`Answer::LockspaceSet`].
    CreateLockspace {
        /// Its name.
        name: LockspaceName,
        /// Value block length; `None` takes the default.
        value_len: Option<u16>,
        /// What differs from: owned by the caller and its group, mode 666, no rules. Only root and the
        /// daemon's user may name another owner, or a group other than their own.
        access: AccessChange,
        /// How it shares out its resources.
        fairness: Fairness,
        /// Whose rules it follows where systems differ.
        compat: Compat,
    },
    /// Change who may lock what in a lockspace. Its owner, root and the daemon's user only. Answered by
    /// [`Answer::LockspaceSet`].
    SetLockspace {
        /// Its name.
        name: LockspaceName,
        /// What is to be changed. Only root and the daemon's user may change the owner, or to a group
        /// other than their own.
        access: AccessChange,
    },
    /// Lockspaces, and who may lock what in them. Answered by [`Answer::Lockspaces`].
    Lockspaces {
        /// Only lockspaces after this one, by name, to go on where an answer ended.
        after: Option<LockspaceName>,
        /// At most so many, 1 to 1000.
        limit: u32,
    },
    /// Orphans of any node. Answered by [`Answer::Orphans`].
    Orphans {
        /// Which.
        wish: OrphanWish,
        /// At most so many, 1 to 1000.
        limit: u32,
        /// Only those after this one, by node and number, to go on where an answer ended.
        after: Option<(NodeName, LockId)>,
    },
    /// Take over an orphan of this node, of exactly this mode; of several the oldest. Answered by
    /// [`Answer::Granted`], with the value block if VALBLK is set and the mode keeps writers out.
    /// Refused as [`Refusal::NoSuchOrphan`], as [`Refusal::OrphanInMode`] if there are only some in
    /// other modes, and as [`Refusal::Busy`] while the last call of its old session is being ended.
    Adopt {
        /// The handle it shall have.
        handle: Handle,
        /// Where.
        lockspace: LockspaceId,
        /// On what.
        name: ResourceName,
        /// In which mode it is held.
        mode: LockMode,
        /// PERSISTENT, VALBLK, NODLCKBLK or none.
        flags: Flags,
        /// Whether to be told when the lock blocks others.
        blocking: bool,
    },
    /// Release orphans of any node. Answered by [`Answer::OrphansPurged`].
    PurgeOrphans {
        /// Which.
        wish: OrphanWish,
    },
    /// Request several new locks of one lockspace, all or none. Answered by [`Answer::SetGranted`] once
    /// all are granted; refused as [`Refusal::OfSet`] where one of them is the reason, and then none
    /// is left. While it waits, a cancel of any of its handles cancels all of it.
    LockSet {
        /// Where.
        lockspace: LockspaceId,
        /// The locks, 1 to [`SET_LOCKS_MAX`](mainstay_base::SET_LOCKS_MAX), on different resources.
        members: Vec<SetMember>,
        /// NOQUEUE, to refuse rather than wait, with or without NOQUEUEBAST; or none.
        flags: Flags,
        /// Give up after so many milliseconds of waiting, for all of them together.
        timeout_ms: Option<u32>,
    },
    /// Convert several granted locks, each as [`Ask::Convert`] would, in this order. Answered by
    /// [`Answer::Many`] once all have ended.
    ConvertMany {
        /// Which, 1 to [`SET_LOCKS_MAX`](mainstay_base::SET_LOCKS_MAX).
        locks: Vec<ConvertOne>,
        /// Give each up after so many milliseconds of waiting.
        timeout_ms: Option<u32>,
    },
    /// Release several locks, each as [`Ask::Unlock`] would, in this order. Answered by
    /// [`Answer::Many`] once all have ended.
    UnlockMany {
        /// Which, 1 to [`SET_LOCKS_MAX`](mainstay_base::SET_LOCKS_MAX).
        locks: Vec<UnlockOne>,
    },
    /// Request a new lock on a sub-resource, under a granted lock on the resource above. Answered as
    /// [`Ask::Lock`]; refused as [`Refusal::ParentNotGranted`] while the lock above waits. The lock
    /// above cannot be released before this one is gone ([`Refusal::HasSubLocks`]).
    LockUnder {
        /// The lock above.
        parent: Handle,
        /// The handle it shall have.
        handle: Handle,
        /// The sub-resource's own name, beneath the resource of the lock above.
        name: ResourceName,
        /// In which mode.
        mode: LockMode,
        /// How; not PERSISTENT.
        flags: Flags,
        /// Whether to be told when the lock blocks others.
        blocking: bool,
        /// Give up after so many milliseconds of waiting.
        timeout_ms: Option<u32>,
    },
    /// Release all locks beneath one, of all depths, whatever state they are in; what of them waits is
    /// refused as [`Refusal::Released`]. Nothing is published. Answered by [`Answer::TreeUnlocked`]
    /// once they are gone.
    UnlockTree {
        /// Beneath which lock; `None` releases all locks of the session.
        handle: Option<Handle>,
        /// That lock itself, too.
        itself: bool,
    },
    /// Locks that this session asks for from now on belong to this owner, in the search for deadlocks
    /// and for people; those that it has stay whose they are. Its own until then. Answered by
    /// [`Answer::OwnerSet`].
    SetOwner {
        /// For whom.
        owner: Owner,
    },
    /// Keep this session for a while when its connection breaks, so that it can be continued on
    /// another. Answered by [`Answer::Kept`]. From that answer on, messages to the client are counted.
    KeepSession {
        /// For so many milliseconds, [`GRACE_MS_MIN`](crate::keep::GRACE_MS_MIN) to what the daemon
        /// allows.
        grace_ms: u32,
    },
    /// Continue a kept session on this connection, in place of [`Ask::Hello`]. Must be request 0.
    /// Answered by [`Answer::Reattached`], or refused as [`Refusal::NoSuchSession`]; then what the
    /// client has not heard is told again.
    Reattach {
        /// Which.
        session: SessionId,
        /// That of [`Answer::Kept`].
        key: SessionKey,
        /// How many counted messages the client has heard.
        heard: u64,
    },
    /// So many counted messages were heard; the daemon need not keep them any longer. Answered by
    /// [`Answer::Heard`], which proves that the daemon still has the session.
    Heard {
        /// How many.
        upto: u64,
    },
    /// The client ends its session: nothing is kept. Not answered but by the end of the connection.
    Goodbye,
    /// As [`Ask::Adopt`]; where this node has no such orphan, a lock that survived its node and that
    /// nobody has any more, of whichever node, or an orphan of another node that lives. Refused as [`Refusal::NoSuchOrphan`] also if somebody else
    /// comes first.
    AdoptAnywhere {
        /// The handle it shall have.
        handle: Handle,
        /// Where.
        lockspace: LockspaceId,
        /// On what.
        name: ResourceName,
        /// In which mode it is held.
        mode: LockMode,
        /// PERSISTENT, VALBLK, NODLCKBLK or none.
        flags: Flags,
        /// Whether to be told when the lock blocks others.
        blocking: bool,
    },
    /// Stop the daemon so that its node's next life goes on with kept sessions. Root or the daemon's user
    /// only. Answered by [`Answer::Left`].
    Rest {
        /// How long the locks of kept sessions stay at most, in milliseconds.
        for_ms: u32,
    },
}

/// From daemon to client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToClient {
    /// The answer to the request of that number.
    Done {
        /// The request's number.
        request: u64,
        /// How it ended.
        result: Result<Answer, Refusal>,
    },
    /// A lock of this session blocks another in `mode`.
    Blocking {
        /// Which lock.
        handle: Handle,
        /// The mode that is blocked; converting to one compatible with it is enough.
        mode: LockMode,
    },
    /// This node's lease ran out: until [`ToClient::Resumed`] no lock of the session may be relied on.
    Suspended {
        /// Why, for people.
        reason: String,
    },
    /// The lease is back and every lock of the session is still held.
    Resumed,
    /// The session and all its locks are gone. The daemon closes the connection after this.
    SessionLost {
        /// Why, for people.
        reason: String,
    },
    /// Something happened; only after [`Ask::Events`].
    Event(Event),
    /// So many events were dropped because this client reads too slowly.
    EventsMissed(u64),
    /// The conversion of a lock would have waited for others that wait for it, and had CONVDEADLK:
    /// the lock holds no more than NL from now on, and the conversion waits on.
    Demoted {
        /// Which lock.
        handle: Handle,
    },
    /// A lock was in the way of others for longer than [`Ask::SetResponseTime`] had promised.
    Overdue {
        /// Which lock.
        handle: Handle,
        /// The mode that it is in the way of.
        mode: LockMode,
        /// The lock has been taken, as promised; its handle is free.
        released: bool,
    },
    /// The value block of a resource is another, or is marked now; after [`Ask::WatchValue`]. Of
    /// several changes at once only the last is told; never one that is older than what was told.
    ValueChanged {
        /// The lock that watches.
        handle: Handle,
        /// What the value is now.
        value: Value,
    },
    /// A lock on ranges blocks another.
    RangeBlocking {
        /// Which lock.
        handle: Handle,
        /// The range that somebody waits for; giving up what the lock holds of it is enough.
        range: ByteRange,
        /// The mode that is blocked.
        mode: LockMode,
    },
}

/// Answers to what was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// To [`Ask::Hello`].
    Welcome(Welcome),
    /// To [`Ask::OpenLockspace`].
    Lockspace {
        /// Its number.
        id: LockspaceId,
        /// Length of its value blocks, in bytes.
        value_len: u16,
    },
    /// To [`Ask::Lock`] and [`Ask::Convert`].
    Granted(Granted),
    /// To [`Ask::Unlock`]. Carries the version of the published value, if one was.
    Unlocked {
        /// Version of the value block after the publication.
        version: Option<ValueVersion>,
    },
    /// To [`Ask::Cancel`].
    Cancelled,
    /// To [`Ask::Status`].
    Status(Box<StatusReport>),
    /// To [`Ask::Locks`].
    Locks(Box<LocksReport>),
    /// To [`Ask::Why`].
    Why(Box<WhyReport>),
    /// To [`Ask::Events`].
    Subscribed,
    /// To [`Ask::Leave`]: the node left; the daemon stops.
    Left,
    /// To [`Ask::Vouch`].
    Vouched {
        /// The node.
        node: NodeId,
        /// The incarnations that were waiting for it.
        incarnations: Vec<Incarnation>,
    },
    /// To [`Ask::Ping`].
    Pong,
    /// To [`Ask::Graph`].
    Graph(Box<GraphReport>),
    /// To [`Ask::SetDeadlockPriority`].
    PrioritySet,
    /// To [`Ask::Lock`] and [`Ask::Convert`]: granted, but not just as it was asked for.
    GrantedOtherwise {
        /// What was granted.
        granted: Granted,
        /// In the alternate mode that the call allowed (ALTPR, ALTCW).
        altmode: bool,
        /// The lock was demoted to NL before, as [`ToClient::Demoted`] told.
        demoted: bool,
    },
    /// To [`Ask::SetResponseTime`].
    ResponseTimeSet,
    /// To [`Ask::Contention`].
    Contention(Box<ContentionReport>),
    /// To [`Ask::Masters`].
    Masters(Box<MastersReport>),
    /// To [`Ask::UpdateValue`].
    Updated(Updated),
    /// To [`Ask::WatchValue`].
    Watching,
    /// To [`Ask::Range`].
    RangeSet {
        /// Larger than that of every earlier conflicting grant of the range. If the call gained
        /// nothing, the largest of what was held there; if it gave up, the largest that the lock was
        /// granted so far, or none if it holds nothing any more.
        token: Token,
        /// Whether the lock still holds any range; if not, its handle is free.
        holds: bool,
    },
    /// To [`Ask::DumpRecorder`].
    Dumped {
        /// The file, on the daemon's host.
        path: String,
        /// How long it is, in bytes.
        bytes: u64,
    },
    /// To [`Ask::CreateLockspace`] and [`Ask::SetLockspace`]: as it is now.
    LockspaceSet(Box<LockspaceAccess>),
    /// To [`Ask::Lockspaces`].
    Lockspaces {
        /// By name.
        lockspaces: Vec<LockspaceAccess>,
        /// There are more after these.
        truncated: bool,
    },
    /// To [`Ask::Orphans`].
    Orphans(Box<OrphansReport>),
    /// To [`Ask::PurgeOrphans`].
    OrphansPurged(PurgeReport),
    /// To [`Ask::LockSet`]: what was granted, in the order of the call's members.
    SetGranted {
        /// One of each.
        members: Vec<Granted>,
    },
    /// To [`Ask::ConvertMany`] and [`Ask::UnlockMany`]: how each ended, in the order of the call.
    Many {
        /// One of each.
        results: Vec<Result<OneDone, Refusal>>,
    },
    /// To [`Ask::UnlockTree`].
    TreeUnlocked {
        /// How many locks are gone.
        released: u64,
    },
    /// To [`Ask::SetOwner`].
    OwnerSet,
    /// To [`Ask::KeepSession`].
    Kept {
        /// What proves to the daemon that a connection may continue the session.
        key: SessionKey,
    },
    /// To [`Ask::Reattach`]. It does not count as a message.
    Reattached {
        /// Requests up to this number have arrived; the client repeats those after it.
        asked: u64,
        /// How many counted messages there were so far: the guards of the client's locks are not to be
        /// relied on before it has heard them all.
        told: u64,
    },
    /// To [`Ask::Heard`].
    Heard,
}

/// Whom the client is talking to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The protocol version that both will speak.
    pub protocol: u16,
    /// This session.
    pub session: SessionId,
    /// The daemon's node.
    pub node: NodeId,
    /// The daemon's node, by name.
    pub node_name: NodeName,
    /// The cluster's name.
    pub cluster: String,
    /// The cluster's number, once it has been founded.
    pub cluster_id: Option<ClusterId>,
    /// What the lease page must show as its generation for this session to be alive.
    pub generation: u64,
    /// The lease at the moment of the answer, on `CLOCK_BOOTTIME`; the page is newer.
    pub lease_until: Instant,
}
