//! Many resources on many nodes: directory, mastering, remote operations, recovery.
//!
//! [`Dlm`] is the lock manager of one node in one incarnation. It is told what clients ask
//! ([`owner`]), what other nodes' lock managers say ([`Dlm::receive`]), which views are installed
//! and which incarnations are proved harmless ([`recovery`]), and leaves what it wants done in
//! [`Dlm::take_outputs`]. A rebirth makes a new `Dlm`: it never unlearns.
//!
//! Three roles meet here, and a node plays all of them at once for different resources:
//!
//! - the **owner** side knows the locks of this node's clients and can restate every one of them;
//! - the **master** side has the queues of the resources that this node masters ([`master`]);
//! - the **directory** side knows who masters the names that hash to this node ([`directory`]).
//!
//! What this crate must not know: clocks, links, the replicated log, how a fence is proved.

#![forbid(unsafe_code)]

mod astray;
mod catch_up;
mod ceding;
mod compat;
mod contention;
mod deadlock;
mod deferred;
mod demotion;
mod directory;
mod fairness;
mod flight;
mod force;
mod held_by;
mod life;
mod master;
mod moving;
mod names;
mod orphans;
mod overdue;
mod owner;
mod owners;
mod plausible;
mod quota;
mod ranges;
mod recovery;
mod release;
mod report;
mod rest;
mod scan;
mod sets;
mod surviving;
mod table;
mod tally;
mod tree;
mod values;
mod work;

use mainstay_base::{
    BootId, ByteRange, Compat, Epoch, Fairness, FixedMap, Incarnation, Instant, LockId, LockMode,
    LockspaceId, NodeId, ResourceName, SessionId, Token, VALUE_LEN_MAX, Value, VictimPolicy,
};
use mainstay_lock::Rules;
use mainstay_membership::{SurvivorStep, View};
use mainstay_recorder::Recorder;
use mainstay_wire::{
    client::{Answer, Handle},
    deadlock::Waiter,
    dlm::{Body, Message, ResourceId},
    event::{OrphanFate, Reason, What},
    lock::Refusal,
    report::OwnerReport,
    sets::OneDone,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use contention::Contention;
pub use contention::WaitView;
use deadlock::Deadlocks;
use deferred::{Call, Deferred};
use directory::Asker;
use life::{Life, PackedLife};
use master::Key;
pub use moving::Move;
use moving::Moves;
use names::Place;
pub use orphans::{AdoptCall, OrphanView, Purge};
pub use owner::{ConvertCall, LockCall, UnlockCall};
pub use ranges::RangeCall;
use recovery::Departure;
pub use report::{OwnedView, SpaceCounts};
pub use scan::{LOCKS_PER_QUEUE, Scan, Wanted};
use sets::Sets;
pub use sets::{Fault, SetCall};
use surviving::Surviving;
use table::{Owned, ResourceTable};
pub use tree::ChildCall;
use work::Works;

/// How long a resource without locks is remembered, so that coming back to it costs no lookup.
pub const IDLE: core::time::Duration = core::time::Duration::from_secs(10);

/// Most resources that are forgotten before other work has its turn.
const FORGOTTEN_AT_ONCE: usize = 256;

/// Most messages of one peer that may wait for a view this node has not installed yet.
const EARLY_MAX: usize = 1 << 20;

/// What the lock manager wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Out {
    /// Tell another member's lock manager.
    Send {
        /// Whom.
        to: NodeId,
        /// What.
        body: Body,
    },
    /// A client's call is finished.
    Done {
        /// The client.
        session: SessionId,
        /// The call's number.
        request: u64,
        /// How it ended.
        result: Result<Answer, Refusal>,
    },
    /// A client's lock blocks another.
    Blocking {
        /// The client.
        session: SessionId,
        /// The lock.
        handle: Handle,
        /// The mode that is blocked.
        mode: LockMode,
    },
    /// A client's lock on ranges blocks another.
    RangeBlocking {
        /// The client.
        session: SessionId,
        /// The lock.
        handle: Handle,
        /// The range that somebody waits for.
        range: ByteRange,
        /// The mode that is blocked.
        mode: LockMode,
    },
    /// A client's lock gave its mode up for NL, as its conversion allowed.
    Demoted {
        /// The client.
        session: SessionId,
        /// The lock.
        handle: Handle,
    },
    /// A client did not heed in time that its lock is in the way, as it had promised.
    Overdue {
        /// The client.
        session: SessionId,
        /// The lock.
        handle: Handle,
        /// On what.
        resource: ResourceId,
        /// In which mode it is held.
        held: LockMode,
        /// What it is in the way of.
        mode: LockMode,
        /// Since it was told.
        waited: core::time::Duration,
        /// The lock is gone, as the promise allowed.
        released: bool,
    },
    /// The value block of a resource that a client's lock watches is another, or is marked now.
    ValueChanged {
        /// The client.
        session: SessionId,
        /// The lock.
        handle: Handle,
        /// What it is now.
        value: Value,
    },
    /// Something happened that people may want to know.
    Event {
        /// What.
        what: What,
        /// Why.
        reason: Reason,
        /// More.
        detail: String,
    },
    /// A client's call is refused, because it waited in a circle.
    Victim {
        /// The client.
        session: SessionId,
        /// The call's number.
        request: u64,
        /// By what policy it was chosen.
        policy: VictimPolicy,
        /// The circle, beginning with the refused wait.
        circle: Vec<Waiter>,
        /// The lock had given up its mode for NL before.
        demoted: bool,
        /// Of a set, the member that waited: its place in the call, and its name.
        member: Option<(u32, ResourceName)>,
    },
    /// A client's call on several locks is finished.
    Many {
        /// The client.
        session: SessionId,
        /// The call's number.
        request: u64,
        /// How each of them ended.
        results: Vec<Result<OneDone, Fault>>,
    },
    /// Mastered resources that were asked for by [`Dlm::scan`].
    Scanned(Scan),
    /// Something became of an orphan of this node.
    Orphan {
        /// On what.
        resource: ResourceId,
        /// The mode held.
        mode: LockMode,
        /// The process that left it behind.
        process: OwnerReport,
        /// What.
        fate: OrphanFate,
        /// It was released because nobody adopted it in time.
        expired: bool,
    },
    /// A purge that was asked for by [`Dlm::purge_orphans`] is done.
    Purged(Purge),
    /// The replicated log is to commit this move, which all members agreed upon, if so much about
    /// surviving locks has changed and no more.
    Move(Move, u64),
    /// The replicated log is to say this of a surviving lock.
    Survive(SurvivorStep),
    /// What must hold does not: the node must stop rather than grant a lock wrongly.
    Fatal(String),
}

/// The lock manager of one node in one incarnation.
#[derive(Debug)]
pub struct Dlm {
    me: NodeId,
    /// Assigned with the first view that names this node.
    life: Option<Incarnation>,
    view: View,
    /// Node numbers of the view's members, for choosing directories.
    ids: Vec<NodeId>,
    /// The epoch in which the set of members last changed.
    members_epoch: Epoch,
    /// Members that have registered what they master, for `members_epoch`.
    registered: BTreeSet<NodeId>,
    /// This node has not yet said so itself, because it is still rebuilding.
    owes_registered: bool,
    /// All that came with the view has been given.
    settled: bool,
    /// Whether this node may grant.
    active: bool,
    /// It hands over its resources and decides nothing any more.
    leaving: bool,
    /// It leaves to rest: own locks stay.
    rests_here: bool,

    spaces: fairness::Spaces,
    /// Notices that holders shall not hear yet.
    kept: fairness::Kept,
    /// Who holds what in EX in lockspaces where nobody takes that twice.
    exclusive: BTreeSet<(SessionId, names::Place)>,
    resources: ResourceTable,
    locks: FixedMap<LockId, Owned>,
    ranges: ranges::RangeSets,
    next_lock: u64,
    sessions: BTreeMap<SessionId, FixedMap<Handle, LockId>>,
    timers: BTreeSet<(Instant, LockId)>,
    idle: VecDeque<(Instant, Place)>,

    /// Who waits for a directory answer that cannot be given yet.
    askers: BTreeMap<ResourceId, Vec<Asker>>,
    /// Names given to members that had not asked, and have not registered them yet.
    unconfirmed: BTreeSet<ResourceId>,
    /// What this node was appointed to master in lockspaces that it does not know yet.
    appointed: Vec<(ResourceId, Token)>,
    /// Above all tokens of resources that were forgotten here.
    floor: Token,

    departed: BTreeMap<Life, Departure>,
    rests: rest::Rests,
    /// Values handed over by leaving masters.
    handed: BTreeMap<(Life, ResourceId), Value>,
    /// Writers of this node that died lately, by the master that was told.
    suspects: VecDeque<(Instant, Life, ResourceId)>,
    early: BTreeMap<NodeId, VecDeque<(BootId, Message)>>,
    deadlocks: Deadlocks,
    contention: Contention,
    deferred: Deferred,
    quotas: quota::Quotas,
    recorder: Recorder,
    /// What is done in slices.
    works: Works,

    effects: Vec<mainstay_lock::Effect<Key>>,
    /// How many rounds of effects are being carried out, one within another.
    delivering: u32,
    /// Locks that were demoted, whose conversions go to their masters after those rounds.
    demoted: VecDeque<LockId>,
    promises: overdue::Promises,
    orphans: orphans::Orphans,
    surviving: Surviving,
    ceding: ceding::Ceding,
    owners: owners::Owners,
    sets: Sets,
    trees: tree::Trees,
    moves: Moves,
    /// Resources mastered here whose value block has changed, for those who watch it.
    news: Vec<Place>,
    out: Vec<Out>,
    grants: u64,
}

impl Dlm {
    /// A lock manager that belongs to no view yet. `slice`: how much of a recovery is done before
    /// other work has its turn, in resources that are looked at; those that are changed cost more.
    #[must_use]
    pub fn new(me: NodeId, slice: u32) -> Dlm {
        Dlm {
            me,
            life: None,
            view: View::default(),
            ids: Vec::new(),
            members_epoch: Epoch(0),
            registered: BTreeSet::new(),
            owes_registered: false,
            settled: true,
            active: false,
            leaving: false,
            rests_here: false,
            spaces: fairness::Spaces::default(),
            kept: fairness::Kept::default(),
            exclusive: BTreeSet::new(),
            resources: ResourceTable::default(),
            locks: FixedMap::new(),
            ranges: FixedMap::new(),
            next_lock: 1,
            sessions: BTreeMap::new(),
            timers: BTreeSet::new(),
            idle: VecDeque::new(),
            askers: BTreeMap::new(),
            unconfirmed: BTreeSet::new(),
            appointed: Vec::new(),
            floor: Token::NONE,
            departed: BTreeMap::new(),
            rests: rest::Rests::default(),
            handed: BTreeMap::new(),
            suspects: VecDeque::new(),
            early: BTreeMap::new(),
            deadlocks: Deadlocks::default(),
            contention: Contention::default(),
            deferred: Deferred::default(),
            quotas: quota::Quotas::default(),
            recorder: Recorder::new(0, BootId(0)),
            works: Works::new(slice),
            effects: Vec::new(),
            delivering: 0,
            demoted: VecDeque::new(),
            promises: overdue::Promises::default(),
            orphans: orphans::Orphans::default(),
            surviving: Surviving::default(),
            ceding: ceding::Ceding::default(),
            owners: owners::Owners::default(),
            sets: Sets::default(),
            trees: tree::Trees::default(),
            moves: Moves::default(),
            news: Vec::new(),
            out: Vec::new(),
            grants: 0,
        }
    }

    /// How often this node has granted a lock or a conversion as a master, to its own clients and
    /// to others'.
    #[must_use]
    pub fn grants(&self) -> u64 {
        self.grants
    }

    /// A lockspace exists, with value blocks of `value_len` bytes, which shares out its resources so. Known
    /// ones stay as they are.
    ///
    /// # Panics
    /// If value blocks are to be longer than 4096 bytes.
    pub fn add_space(&mut self, space: LockspaceId, value_len: u16, fairness: Fairness) {
        self.add_compat_space(space, value_len, fairness, Compat::Strict);
    }

    /// The same for a lockspace that follows others' rules.
    ///
    /// # Panics
    /// If value blocks are to be longer than 4096 bytes.
    pub fn add_compat_space(
        &mut self,
        space: LockspaceId,
        value_len: u16,
        fairness: Fairness,
        compat: Compat,
    ) {
        assert!(
            usize::from(value_len) <= VALUE_LEN_MAX,
            "blocks of {value_len} bytes"
        );
        let rules = Rules::new(value_len, fairness, compat);
        self.spaces.add(space, rules, fairness);
    }

    /// This node may, or may not, grant from now on. While it may not, calls wait.
    pub fn set_active(&mut self, now: Instant, active: bool) {
        if self.active == active {
            return;
        }
        self.active = active;
        self.deadlocks.start_over(now);
        self.works.at = now;
        self.release_survivors(now);
        while self.active {
            match self.deferred.pop_front() {
                Some(Call::Own(lock)) => self.submit(now, lock),
                Some(Call::Said(from, body)) => self.master_call(now, from, body),
                None => break,
            }
        }
    }

    /// Another member's lock manager, in the life that drew `boot`, says something. Messages of one
    /// life must be given in the order in which they were sent, each exactly once.
    pub fn receive(&mut self, now: Instant, from: NodeId, boot: BootId, message: Message) {
        let early = self.early.entry(from).or_default();
        if message.epoch > self.view.epoch || !early.is_empty() {
            // The sender knows a view that this node has yet to install; what it says may only
            // make sense there, and order must be kept.
            early.push_back((boot, message));
            if early.len() > EARLY_MAX {
                self.out.push(Out::Fatal(format!(
                    "node {from} sent {EARLY_MAX} messages of a view that never arrived here"
                )));
            }
            return;
        }
        self.hear(now, from, boot, message);
    }

    fn hear(&mut self, now: Instant, from: NodeId, boot: BootId, message: Message) {
        // So that a search never meets a set that waits with what it is about to give back.
        self.pursue_sets(now);
        let Some(member) = self
            .view
            .members
            .iter()
            .find(|m| m.node == from && m.boot == boot)
        else {
            return; // A life that is no longer, or never became, a member has no say.
        };
        let life = (from, member.incarnation);
        let current = message.epoch == self.view.epoch;
        if let Err(what) = plausible::check(&message.body, self.view.epoch) {
            // To ignore it could mean to forget a lock.
            let text = format!("node {from} sent {what}");
            return self.out.push(Out::Fatal(text));
        }
        match message.body {
            Body::Lookup { resource, members } => {
                let asker = Asker::willing(from);
                self.directory_ask(now, asker, resource, members);
            }
            Body::LookupUnwilling { resource, members } => {
                let asker = Asker::unwilling(from);
                self.directory_ask(now, asker, resource, members);
            }
            Body::MasterIs {
                resource,
                members,
                master,
            } => {
                if members != self.members_epoch {
                    return;
                }
                if master == self.me || !self.ids.contains(&master) {
                    self.violation(from, "a directory answer that names no other member");
                } else {
                    self.learn_master(now, &resource, master);
                }
            }
            Body::YouMaster {
                resource,
                members,
                floor,
            } => {
                if members == self.members_epoch {
                    self.become_master(now, &resource, floor);
                }
            }
            Body::Appoint {
                resource,
                members,
                floor,
            } => {
                if members == self.members_epoch {
                    self.appointed(now, resource, floor);
                }
            }
            Body::Register { space, names } => self.directory_register(now, from, space, names),
            Body::Registered { members } => self.directory_registered(now, from, members),
            Body::Forget { resource, last } => self.directory_forget(from, resource, last),
            Body::Forgotten { resource } => self.forgotten(now, &resource),

            body @ (Body::Request { .. }
            | Body::Convert { .. }
            | Body::ConvertDemoted { .. }
            | Body::Unlock { .. }
            | Body::Update { .. }
            | Body::Watch { .. }
            | Body::Adopted { .. }
            | Body::Drop { .. }
            | Body::RangeCall { .. }
            | Body::RangeWeaken { .. }
            | Body::TakeCeded { .. }
            | Body::Cancel { .. }) => self.master_call(now, life, body),

            Body::Granted { lock, .. }
            | Body::Queued { lock, .. }
            | Body::Refused { lock, .. }
            | Body::Unlocked { lock, .. }
            | Body::Blocking { lock, .. }
            | Body::Updated { lock, .. }
            | Body::ValueChanged { lock, .. }
            | Body::RangeBlocking { lock, .. }
                if !self.may_decide(from, lock) =>
            {
                self.violation(from, "an answer about a lock that it does not master");
            }
            Body::Granted { lock, granted } => self.on_granted(now, lock, granted),
            Body::Queued { lock, ticket } => self.on_queued(now, lock, ticket),
            Body::Refused { lock, why } => {
                self.on_refused(now, lock, why);
                self.submit_demoted(now);
            }
            Body::Unlocked { lock, version } => self.on_unlocked(now, lock, Some(version)),
            Body::Blocking { lock, mode } => self.on_blocking(now, lock, mode),
            Body::Updated { lock, result } => self.on_updated(now, lock, result),
            Body::ValueChanged { lock, value } => self.on_value_changed(lock, value),
            Body::RangeBlocking { lock, range, mode } => {
                self.on_range_blocking(lock, range, mode);
            }
            Body::NotMaster { resource, lock } => self.on_not_master(now, from, &resource, lock),

            Body::Restate {
                node,
                incarnation,
                resource,
                locks,
            } if (node, incarnation) == life => {
                // To those who are the members now it says all of that anew.
                if message.epoch >= self.members_epoch {
                    self.on_carried(life, resource, locks);
                }
            }
            Body::Restate {
                node,
                incarnation,
                resource,
                locks,
            } => {
                self.on_restate(now, life, (node, incarnation), resource, locks);
            }
            Body::RestateRanges {
                node,
                incarnation,
                resource,
                lock,
                ranges,
            } if (node, incarnation) == life => {
                if message.epoch >= self.members_epoch {
                    self.on_carried_ranges(life, resource, lock, ranges);
                }
            }
            Body::RestateRanges {
                node,
                incarnation,
                resource,
                lock,
                ranges,
            } => {
                let dead = (node, incarnation);
                self.on_restate_ranges(now, life, dead, &resource, lock, ranges);
            }
            Body::RestateDone { node, incarnation } => {
                self.on_restate_done(now, life, (node, incarnation));
            }
            Body::RestateCeded {
                dead,
                resource,
                lock,
                from,
                known_as,
            } => self.on_restate_ceded(life, dead, &resource, lock, Key::of(from, known_as)),
            Body::Ceding(message) => self.on_ceding(now, life, message),
            Body::Suspect {
                node,
                incarnation,
                resource,
            } => self.on_suspect((node, incarnation), resource),
            Body::HandOver { resource, value } => {
                self.handed.insert((life, resource), value);
            }
            search @ (Body::Probe { .. }
            | Body::Chase { .. }
            | Body::Accuse { .. }
            | Body::Examine { .. }
            | Body::Check { .. }
            | Body::Checked { .. }
            | Body::Testimony { .. }
            | Body::Condemn { .. }
            | Body::Pursue { .. }
            | Body::Awaits { .. }
            | Body::Stir { .. }
            | Body::Attest { .. }
            | Body::Attested { .. }) => {
                // What is found in one view says nothing in another; whoever waits searches again.
                if current {
                    self.on_search(now, from, search);
                }
            }
            Body::MoveAsk {
                serial,
                members,
                to,
                names,
            } => self.on_move_ask(now, life, serial, members, to, names),
            Body::MoveAgreed { serial } => self.on_move_agreed(now, from, serial),
            Body::MoveHear { serial } => self.on_move_hear(life, serial),
            Body::MoveState {
                serial,
                resources,
                last,
            } => self.on_move_state(life, serial, resources, last),
            Body::MoveReady { serial } => self.on_move_ready(from, serial),
            Body::MoveRefused { serial } => self.on_move_refused(now, from, serial),
            Body::MoveOff { serial } => self.on_move_off(now, life, serial),
            Body::Query { .. }
            | Body::QueryPart { .. }
            | Body::QueryWaits { .. }
            | Body::QueryResources { .. }
            | Body::QueryOwners { .. }
            | Body::QuerySessions { .. }
            | Body::QueryContention { .. }
            | Body::ContentionPart { .. }
            | Body::QueryMasters { .. }
            | Body::QueryMastered { .. }
            | Body::QueryOrphans { .. }
            | Body::OrphansPart { .. }
            | Body::PurgeOrphans { .. }
            | Body::OrphansPurged { .. } => {
                self.violation(from, "a query reached the lock manager");
            }
        }
    }

    /// A slice of what takes long, and what is due by the time.
    pub fn tick(&mut self, now: Instant) {
        self.work(now);
        self.expire(now);
    }

    /// What is due by the time alone: a [`Dlm::tick`] without a slice of what takes long.
    pub fn expire(&mut self, now: Instant) {
        self.release_survivors(now);
        while let Some(&(at, lock)) = self.timers.first() {
            if at > now {
                break;
            }
            self.timers.pop_first();
            self.time_out(now, lock);
        }
        self.tell_kept(now);
        self.promises_due(now);
        self.expire_orphans(now);
        self.pursue_searches(now);
        self.pursue_moves(now);
        for _ in 0..FORGOTTEN_AT_ONCE {
            let Some(&(_, place)) = self.idle.front().filter(|(at, _)| *at <= now) else {
                break;
            };
            self.idle.pop_front();
            self.idle_long_enough(now, place);
        }
        if self.idle.capacity() > 4 * self.idle.len().max(FORGOTTEN_AT_ONCE) {
            self.idle.shrink_to(2 * self.idle.len());
        }
        self.pursue_sets(now);
        self.search_deadlocks(now);
    }

    /// When [`Dlm::work`] or [`Dlm::expire`] has something to do.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let timer = self.timers.first().map(|t| t.0);
        let idle = self.idle.front().map(|i| i.0);
        let search = self.deadlocks.deadline();
        let promise = self.promises.deadline();
        let moves = self.moves.deadline();
        let orphan = self.orphans.deadline();
        let sets = self.sets.deadline();
        let work = self.work_due();
        let kept = self.kept.deadline();
        let ceding = self.ceding.deadline();
        let due = [
            timer, idle, search, promise, moves, orphan, sets, work, kept, ceding,
        ];
        due.into_iter().flatten().min()
    }

    /// Whether this node may grant.
    pub(crate) fn is_active(&self) -> bool {
        self.active
    }

    /// Moves what is to be done into `out`, in order.
    pub fn take_outputs(&mut self, out: &mut Vec<Out>) {
        self.tell_news();
        out.append(&mut self.out);
    }

    pub(crate) fn send(&mut self, to: NodeId, body: Body) {
        debug_assert_ne!(to, self.me, "own messages take a shorter way");
        if self.ids.contains(&to) {
            self.out.push(Out::Send { to, body });
        }
    }

    pub(crate) fn others(&self) -> Vec<NodeId> {
        self.ids.iter().copied().filter(|&n| n != self.me).collect()
    }

    pub(crate) fn my_life(&self) -> Life {
        (self.me, self.life.unwrap_or_default())
    }

    pub(crate) fn is_member(&self, life: Life) -> bool {
        self.view
            .members
            .iter()
            .any(|m| (m.node, m.incarnation) == life)
    }

    pub(crate) fn violation(&mut self, from: NodeId, what: &str) {
        self.out.push(Out::Event {
            what: What::Refused {
                peer: Some(from),
                link: mainstay_base::LinkId(0),
            },
            reason: Reason::ProtocolViolation,
            detail: what.to_owned(),
        });
    }
}
