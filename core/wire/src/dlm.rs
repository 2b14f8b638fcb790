//! What the lock managers of two nodes say to each other. Delivered in order and exactly once
//! between two lives of nodes; each message carries the epoch its sender had installed.

use crate::{
    ceding::Ceding,
    contention::{HotResource, OpenWait, SpaceTimes},
    deadlock::{Charge, Found, Hop, Met, OwnerId, ProbeId, WaitId, Waiter},
    lock::{Flags, Granted, Refusal, Updated, ValueUpdate},
    orphan::{OrphanFilter, OwnedOrphan},
    report::{LockspaceFilter, OwnerReport},
};
use mainstay_base::{
    ByteRange, Epoch, Incarnation, LockId, LockMode, LockspaceId, NodeId, ResourceName, SessionId,
    Token, Value, ValueBlock, ValueVersion, VictimPolicy,
};
use serde::{Deserialize, Serialize};

/// A resource by lockspace and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ResourceId {
    /// Its lockspace.
    pub space: LockspaceId,
    /// Its name.
    pub name: ResourceName,
}

impl ResourceId {
    /// The resource at the root of its tree: itself, if it is no sub-resource.
    #[must_use]
    pub fn root(&self) -> ResourceId {
        ResourceId {
            space: self.space,
            name: self.name.root(),
        }
    }
}

/// One message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// The epoch the sender had installed.
    pub epoch: Epoch,
    /// What it says.
    pub body: Body,
}

/// What lock managers say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Body {
    /// Requester to directory: who masters this? `members` is the epoch of the member set the
    /// sender chose the directory by; answers count only if it is unchanged.
    Lookup {
        /// The resource.
        resource: ResourceId,
        /// Epoch of the member set.
        members: Epoch,
    },
    /// Directory to requester: that node does.
    MasterIs {
        /// The resource.
        resource: ResourceId,
        /// Epoch of the member set.
        members: Epoch,
        /// The master.
        master: NodeId,
    },
    /// Directory to requester: nobody did; from now on you do.
    YouMaster {
        /// The resource.
        resource: ResourceId,
        /// Epoch of the member set.
        members: Epoch,
        /// Issue only larger tokens.
        floor: Token,
    },
    /// Master to the directory of a new member set: these are mine.
    Register {
        /// Where.
        space: LockspaceId,
        /// What.
        names: Vec<ResourceName>,
    },
    /// The sender has registered with you all that it masters, for the member set of that epoch.
    Registered {
        /// Epoch of the member set.
        members: Epoch,
    },
    /// Master to directory: I have no locks on this and want to forget it.
    Forget {
        /// The resource.
        resource: ResourceId,
        /// The highest token I issued.
        last: Token,
    },
    /// Directory to master: the entry is gone.
    Forgotten {
        /// The resource.
        resource: ResourceId,
    },

    /// Owner to master: a new lock.
    Request {
        /// The resource.
        resource: ResourceId,
        /// The lock, as its owner numbers it.
        lock: LockId,
        /// Asked mode.
        mode: LockMode,
        /// How.
        flags: Flags,
        /// The owner wants blocking notices.
        blocking: bool,
    },
    /// Owner to master: convert a granted lock.
    Convert {
        /// The resource.
        resource: ResourceId,
        /// The lock.
        lock: LockId,
        /// Asked mode.
        mode: LockMode,
        /// How.
        flags: Flags,
        /// The owner wants blocking notices.
        blocking: bool,
        /// The value block to publish.
        value: Option<ValueBlock>,
    },
    /// Owner to master: release a granted lock and answer with [`Body::Unlocked`].
    Unlock {
        /// The resource.
        resource: ResourceId,
        /// The lock.
        lock: LockId,
        /// How.
        flags: Flags,
        /// The value block to publish.
        value: Option<ValueBlock>,
    },
    /// Owner to master: the lock is gone on my side, whatever its state here. No answer.
    Drop {
        /// The resource.
        resource: ResourceId,
        /// The lock.
        lock: LockId,
        /// Its process died: a value block it may have been writing is suspect.
        invalidate: bool,
    },
    /// Owner to master: cancel what is pending on the lock. Answered by the pending call's refusal;
    /// not at all if it came too late, because then the call has been answered already.
    Cancel {
        /// The resource.
        resource: ResourceId,
        /// The lock.
        lock: LockId,
    },

    /// Master to owner: granted.
    Granted {
        /// The lock.
        lock: LockId,
        /// How.
        granted: Granted,
    },
    /// Master to owner: the call waits.
    Queued {
        /// The lock.
        lock: LockId,
        /// Its place, to be restated if I vanish.
        ticket: i64,
    },
    /// Master to owner: the pending call failed.
    Refused {
        /// The lock.
        lock: LockId,
        /// Why.
        why: Refusal,
    },
    /// Master to owner: released.
    Unlocked {
        /// The lock.
        lock: LockId,
        /// Version of the value block afterwards.
        version: ValueVersion,
    },
    /// Master to owner: the lock blocks another.
    Blocking {
        /// The lock.
        lock: LockId,
        /// The mode that is blocked.
        mode: LockMode,
    },
    /// To an owner who took me for the master of this resource.
    NotMaster {
        /// The resource.
        resource: ResourceId,
        /// The lock whose request came to the wrong node.
        lock: LockId,
    },

    /// Owner to new master: my locks on a resource whose master vanished.
    Restate {
        /// The vanished master.
        node: NodeId,
        /// Its incarnation.
        incarnation: Incarnation,
        /// The resource.
        resource: ResourceId,
        /// The sender's locks on it.
        locks: Vec<RestatedLock>,
    },
    /// The sender has restated to you all that it had with the vanished master.
    RestateDone {
        /// The vanished master.
        node: NodeId,
        /// Its incarnation.
        incarnation: Incarnation,
    },
    /// A leaving master to the node that will rebuild: the value block of a resource.
    HandOver {
        /// The resource.
        resource: ResourceId,
        /// Its value.
        value: Value,
    },

    /// Owner to new master: a writer of mine died lately, and the master that left may not have heard
    /// of it any more.
    Suspect {
        /// The master that left.
        node: NodeId,
        /// Its incarnation.
        incarnation: Incarnation,
        /// The resource.
        resource: ResourceId,
    },

    /// Tell me of resources you master and of the owners of your locks.
    Query {
        /// Comes back with the answer.
        query: u64,
        /// Which resources.
        filter: LockspaceFilter,
    },
    /// Part of the answer to [`Body::Query`].
    QueryPart {
        /// The query.
        query: u64,
        /// Resources mastered by the sender.
        resources: Vec<MasteredResource>,
        /// Locks owned by the sender's clients.
        owners: Vec<OwnedLock>,
        /// More matched than fitted.
        truncated: bool,
        /// This was the last part.
        last: bool,
    },

    /// Owner to master: who is in the way of this wait?
    Probe {
        /// The search.
        probe: ProbeId,
        /// The resource.
        resource: ResourceId,
        /// The wait.
        wait: WaitId,
        /// Whose wait.
        owner: OwnerId,
        /// How the search came here.
        path: Vec<Hop>,
    },
    /// Master to an owner's node: these locks of yours are in the way of that wait.
    Chase {
        /// The search.
        probe: ProbeId,
        /// The wait.
        wait: WaitId,
        /// Whose wait.
        owner: OwnerId,
        /// How the search came there.
        path: Vec<Hop>,
        /// The locks.
        found: Vec<Found>,
    },
    /// To the judge: these seem to wait in a circle, each for the next.
    Accuse {
        /// The circle.
        circle: Vec<Hop>,
    },
    /// Judge to owner: does this wait still stand?
    Examine {
        /// Which, and what is in its way.
        charge: Charge,
    },
    /// Owner to master: is that lock still in the way of this wait?
    Check {
        /// The resource.
        resource: ResourceId,
        /// Which.
        charge: Charge,
    },
    /// Master to owner: so it is, or is not.
    Checked {
        /// Which.
        charge: Charge,
        /// Whether it is.
        standing: bool,
    },
    /// Owner to judge: the wait stands, or not.
    Testimony {
        /// The judge's number.
        trial: u64,
        /// The wait's place in the circle.
        place: u16,
        /// The wait, if it stands.
        waiter: Option<Box<Waiter>>,
    },
    /// Judge to owner: refuse this wait, for it is in this circle.
    Condemn {
        /// The wait.
        wait: WaitId,
        /// By what policy it was chosen.
        policy: VictimPolicy,
        /// The circle, beginning with the wait.
        circle: Vec<Waiter>,
    },
    /// As [`Body::Query`], but only for resources on which somebody waits, and without owners.
    QueryWaits {
        /// Comes back with the answer.
        query: u64,
        /// Which resources.
        filter: LockspaceFilter,
    },
    /// Tell me of the owners of these locks of yours. Answered by [`Body::QuerySessions`], then
    /// [`Body::QueryPart`].
    QueryOwners {
        /// Comes back with the answer.
        query: u64,
        /// The locks.
        locks: Vec<LockId>,
    },
    /// Which sessions own which of the sender's clients' locks.
    QuerySessions {
        /// The query.
        query: u64,
        /// Lock and session.
        sessions: Vec<(LockId, SessionId)>,
    },
    /// Owner to master, after a refusal for a conversion deadlock: I have given the lock's mode up
    /// for NL; convert it from there.
    ConvertDemoted {
        /// The resource.
        resource: ResourceId,
        /// The lock.
        lock: LockId,
        /// Asked mode.
        mode: LockMode,
        /// How.
        flags: Flags,
        /// The owner wants blocking notices.
        blocking: bool,
    },
    /// As [`Body::Query`], but without owners.
    QueryResources {
        /// Comes back with the answer.
        query: u64,
        /// Which resources.
        filter: LockspaceFilter,
    },
    /// How long do your clients wait for locks and hold them? Answered by [`Body::ContentionPart`].
    QueryContention {
        /// Comes back with the answer.
        query: u64,
        /// Only in this lockspace.
        space: Option<LockspaceId>,
        /// Lockspaces after this one.
        after: Option<LockspaceId>,
        /// At most so many of each.
        limit: u32,
    },
    /// Part of the answer to [`Body::QueryContention`].
    ContentionPart {
        /// The query.
        query: u64,
        /// By number.
        spaces: Vec<SpaceTimes>,
        /// There are lockspaces after those.
        truncated: bool,
        /// Most contended first.
        hot: Vec<HotResource>,
        /// How far back `hot` reaches, in milliseconds.
        hot_ms: u64,
        /// Longest first.
        waits: Vec<OpenWait>,
        /// This was the last part.
        last: bool,
    },
    /// Master to all: I am giving these resources to another. Say nothing more about them to me, and
    /// tell me when you have said all.
    MoveAsk {
        /// Counted up by the master.
        serial: u64,
        /// Epoch of the member set; under another one, nothing comes of it.
        members: Epoch,
        /// The next master.
        to: NodeId,
        /// The resources.
        names: Vec<ResourceId>,
    },
    /// To the master: I say nothing more.
    MoveAgreed {
        /// The master's number.
        serial: u64,
    },
    /// Master to all but the next: you have heard all that I say about them.
    MoveHear {
        /// The master's number.
        serial: u64,
    },
    /// Master to the next: what I have.
    MoveState {
        /// The master's number.
        serial: u64,
        /// Part of it. A resource with very many locks comes in several parts.
        resources: Vec<MovedResource>,
        /// This was the last part.
        last: bool,
    },
    /// To the master: I have heard all; or, from the next, I have all.
    MoveReady {
        /// The master's number.
        serial: u64,
    },
    /// To the master: I do not take them; or, from another than the next, I am about to leave.
    MoveRefused {
        /// The master's number.
        serial: u64,
    },
    /// Master to all: nothing comes of it, they stay mine.
    MoveOff {
        /// The master's number.
        serial: u64,
    },
    /// As [`Body::Lookup`], but if nobody masters it, the sender had rather not do so itself.
    LookupUnwilling {
        /// The resource.
        resource: ResourceId,
        /// Epoch of the member set.
        members: Epoch,
    },
    /// As [`Body::YouMaster`] to one that has not asked. It registers the resource if it takes it.
    Appoint {
        /// The resource.
        resource: ResourceId,
        /// Epoch of the member set.
        members: Epoch,
        /// Issue only larger tokens.
        floor: Token,
    },
    /// How much do you master? Answered by [`Body::QueryMastered`].
    QueryMasters {
        /// Comes back with the answer.
        query: u64,
    },
    /// So many resources, by lockspace.
    QueryMastered {
        /// The query.
        query: u64,
        /// Lockspaces of which the sender masters any.
        mastered: Vec<(LockspaceId, u64)>,
        /// Grants and conversions as a master since it started.
        grants: u64,
    },
    /// Owner to master: change the value block for a granted lock. Answered by [`Body::Updated`].
    Update {
        /// The resource.
        resource: ResourceId,
        /// The lock.
        lock: LockId,
        /// The change.
        update: ValueUpdate,
    },
    /// Master to owner: what came of the change.
    Updated {
        /// The lock.
        lock: LockId,
        /// The value afterwards, or why it was refused.
        result: Result<Updated, Refusal>,
    },
    /// Owner to master: tell a granted lock of changes of the value block, and what it is now; or do
    /// so no more.
    Watch {
        /// The resource.
        resource: ResourceId,
        /// The lock.
        lock: LockId,
        /// From now on, or not any more.
        on: bool,
    },
    /// Master to the owner of a lock that watches: so the value block is now.
    ValueChanged {
        /// The lock.
        lock: LockId,
        /// The value.
        value: Value,
    },
    /// Owner to master: set a range of a lock on ranges to a mode that gains something.
    RangeCall {
        /// The resource.
        resource: ResourceId,
        /// The lock, as its owner numbers it.
        lock: LockId,
        /// What is asked for.
        ask: RangeAsk,
    },
    /// Owner to master: I have set a range to a mode that all of it was held in modes that cover.
    /// No answer.
    RangeWeaken {
        /// The resource.
        resource: ResourceId,
        /// The lock.
        lock: LockId,
        /// Where.
        range: ByteRange,
        /// To which mode; NL for none.
        mode: LockMode,
    },
    /// Master to owner: the lock on ranges blocks another.
    RangeBlocking {
        /// The lock.
        lock: LockId,
        /// The range that somebody waits for.
        range: ByteRange,
        /// The mode that is blocked.
        mode: LockMode,
    },
    /// Owner to new master: what a lock on ranges holds of a resource whose master vanished, or a
    /// part of it.
    RestateRanges {
        /// The vanished master.
        node: NodeId,
        /// Its incarnation.
        incarnation: Incarnation,
        /// The resource.
        resource: ResourceId,
        /// The lock.
        lock: LockId,
        /// The ranges.
        ranges: RestatedRanges,
    },
    /// Owner to master: the lock has been adopted. What it is in the way of is told anew.
    Adopted {
        /// The resource.
        resource: ResourceId,
        /// The lock.
        lock: LockId,
        /// Whether its owner wants blocking notices.
        blocking: bool,
    },
    /// Which orphans do you have? Answered by [`Body::OrphansPart`]s.
    QueryOrphans {
        /// Comes back with the answers.
        query: u64,
        /// Which are looked for.
        filter: OrphanFilter,
        /// At most so many.
        limit: u32,
        /// Only those after this one.
        after: Option<LockId>,
    },
    /// A part of the orphans that were asked for, by number.
    OrphansPart {
        /// The query.
        query: u64,
        /// Orphans of the sender.
        orphans: Vec<OwnedOrphan>,
        /// There may be more after this one; in the last part only.
        next: Option<LockId>,
        /// This was the last part.
        last: bool,
    },
    /// Release these of your orphans. Answered by [`Body::OrphansPurged`].
    PurgeOrphans {
        /// Comes back with the answer.
        query: u64,
        /// Which.
        filter: OrphanFilter,
    },
    /// So many orphans were released.
    OrphansPurged {
        /// The query.
        query: u64,
        /// How many.
        purged: u64,
        /// How many were left alone, since they are others'.
        denied: u64,
    },
    /// Node of a lock to others: a search has come to this transaction by it. Go on with its waits
    /// on your node.
    Pursue {
        /// The search.
        probe: ProbeId,
        /// The transaction.
        owner: OwnerId,
        /// Its lock.
        met: Met,
        /// How the search came to it.
        path: Vec<Hop>,
    },
    /// To all: this transaction waits on my node. Counts for some seconds.
    Awaits {
        /// The transaction.
        owner: OwnerId,
    },
    /// To a node on which this transaction waits: it has had an answer on mine.
    Stir {
        /// The transaction.
        owner: OwnerId,
    },
    /// Judge to the node of a lock that belongs to the owner of a wait on another node: is it in the
    /// way of others, and whose is it?
    Attest {
        /// The judge's number.
        trial: u64,
        /// The wait's place in the circle.
        place: u16,
        /// The lock.
        lock: LockId,
    },
    /// To the judge: it is, or is not.
    Attested {
        /// The judge's number.
        trial: u64,
        /// The wait's place in the circle.
        place: u16,
        /// Whose it is, if it is in the way, and how many locks that owner has on this node.
        owner: Option<(OwnerId, u64)>,
    },
    /// About an orphan that a process of another node is to have.
    Ceding(Ceding),
    /// Owner to master: a lock that was ceded to it is its own. Answered as a request.
    TakeCeded {
        /// The resource.
        resource: ResourceId,
        /// The lock.
        lock: LockId,
        /// The node under whose key the master has it.
        node: NodeId,
        /// Which of its incarnations.
        incarnation: Incarnation,
        /// Its number there.
        known_as: LockId,
        /// Its token.
        token: Token,
        /// The owner wants blocking notices.
        blocking: bool,
    },
    /// Owner to the node that rebuilds a resource: a lock that was restated to it may have been
    /// restated by the node that ceded it, too.
    RestateCeded {
        /// The vanished master.
        dead: (NodeId, Incarnation),
        /// The resource.
        resource: ResourceId,
        /// The lock.
        lock: LockId,
        /// The life that ceded it.
        from: (NodeId, Incarnation),
        /// Its number there.
        known_as: LockId,
    },
}

/// A resource on its way from one master to another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MovedResource {
    /// The resource.
    pub resource: ResourceId,
    /// The highest token issued.
    pub last: Token,
    /// The value block.
    pub value: Value,
    /// The next place in its queues.
    pub next_ticket: i64,
    /// How many conversions have passed the foremost waiter.
    pub passed: u8,
    /// The last request that was granted in turn was no reader's.
    pub wrote: bool,
    /// Locks: those that convert or wait in the order of their queues, nothing else is ordered.
    pub locks: Vec<MovedLock>,
}

/// A lock on its way from one master to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MovedLock {
    /// The owner's node.
    pub node: NodeId,
    /// The owner's incarnation.
    pub incarnation: Incarnation,
    /// The lock.
    pub lock: LockId,
    /// Held mode and its token.
    pub granted: Option<(LockMode, Token)>,
    /// Asked mode, flags and place in the queue.
    pub pending: Option<(LockMode, Flags, i64)>,
    /// It converts, and stands behind the requests that came before it.
    pub patient: bool,
    /// The owner wants blocking notices.
    pub blocking: bool,
    /// The owner will want blocking notices for the asked mode.
    pub blocking_next: bool,
    /// The lock uses the value block.
    pub valblk: bool,
    /// The most demanding mode that the owner was told it is in the way of.
    pub told: Option<LockMode>,
    /// The owner watches the value block.
    pub watches: bool,
}

/// A call for a range.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RangeAsk {
    /// Where.
    pub range: ByteRange,
    /// In which mode.
    pub mode: LockMode,
    /// How.
    pub flags: Flags,
    /// The owner wants blocking notices.
    pub blocking: bool,
}

/// What a lock on ranges holds, as its owner restates it to a new master: all, or a part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestatedRanges {
    /// Ranges, their modes and tokens; in no other part.
    pub held: Vec<(ByteRange, LockMode, Token)>,
    /// A call that is not answered; the same in every part.
    pub ask: Option<RangeAsk>,
    /// Its place in the queue, if the vanished master told.
    pub ticket: Option<i64>,
    /// The owner wants blocking notices for what it holds.
    pub blocking: bool,
}

/// A lock as its owner restates it to a new master.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestatedLock {
    /// The lock.
    pub lock: LockId,
    /// Held mode and its token.
    pub granted: Option<(LockMode, Token)>,
    /// A request or conversion that is not answered. A release that publishes a value block is
    /// restated as a conversion to NL.
    pub pending: Option<(LockMode, Flags)>,
    /// Its place in the queue, if the vanished master told.
    pub ticket: Option<i64>,
    /// What it publishes.
    pub publish: Option<ValueBlock>,
    /// The owner wants blocking notices.
    pub blocking: bool,
    /// The lock uses the value block.
    pub valblk: bool,
    /// The owner's copy of the value block.
    pub value: Option<Value>,
    /// The vanished master may have changed the value block for the owner without its knowing.
    pub unsure: bool,
    /// The owner watches the value block.
    pub watches: bool,
}

/// A resource as its master reports it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MasteredResource {
    /// The resource.
    pub resource: ResourceId,
    /// It is being rebuilt.
    pub recovering: bool,
    /// The highest token issued.
    pub token: Token,
    /// Its value block, if ever published.
    pub value: Option<Value>,
    /// Granted locks.
    pub granted: Vec<MasteredLock>,
    /// Granted locks that convert, in queue order.
    pub converting: Vec<MasteredLock>,
    /// Waiting requests, in queue order.
    pub waiting: Vec<MasteredLock>,
}

/// A lock as its master reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MasteredLock {
    /// The owner's node.
    pub node: NodeId,
    /// The owner's incarnation.
    pub incarnation: Incarnation,
    /// The lock.
    pub lock: LockId,
    /// Held mode.
    pub granted: Option<LockMode>,
    /// Asked mode.
    pub requested: Option<LockMode>,
    /// Token of the held mode.
    pub token: Token,
    /// Where, if the resource is locked in ranges: a lock has an entry for each range that it holds.
    pub range: Option<ByteRange>,
}

/// A lock as its owner's node reports it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnedLock {
    /// The lock.
    pub lock: LockId,
    /// Its client.
    pub owner: OwnerReport,
    /// Milliseconds since it was granted, or since its pending call was made.
    pub age_ms: u64,
}
