//! Composes the core: `step(now, input) -> outbox`; the only crate the shells drive.
//!
//! ```text
//! let mut node = Node::boot(now, config, boot_info)?;
//! loop {
//!     for input in inputs { node.step(now, input, &mut outbox); }
//!     if node.deadline() <= now { node.step(now, Input::Wake, &mut outbox); } // what takes long, by the slice
//!     node.flush(now, &mut outbox);          // packs what was said to peers into frames
//!     carry_out(outbox.effects.drain(..));
//!     wait_for_inputs_until(node.deadline());
//! }
//! ```
//!
//! What this crate must not know: sockets, files, threads, the wall clock. What the others must not
//! know is known here: how membership, the replicated log, fencing, channels and the lock manager
//! depend on each other.

#![forbid(unsafe_code)]

pub mod api;

mod access;
mod boot;
mod circle;
mod clients;
mod contention;
mod flight;
mod flow;
mod graph;
mod keep;
mod leave;
mod log;
mod masters;
mod orphans;
mod peers;
mod query;
mod ranges;
mod rest;
mod sets;
mod status;
mod surviving;
mod why;
mod wish;

pub use api::{BootError, BootInfo, Effect, Input, NodeConfig, Outbox, PersistSeq, SLICE, WINDOW};

use keep::{Broken, Kept};
use leave::Leaving;
use mainstay_base::{
    Access, BootId, Caller, DiskId, Epoch, Instant, LockspaceId, Mutant, NodeId, NodeName,
    SessionId, UserLimits,
};
use mainstay_consensus::Consensus;
use mainstay_dlm::Dlm;
use mainstay_fencing::Ledger;
use mainstay_membership::{ClusterState, Founding, Membership, MoveRecord, View};
use mainstay_wire::{
    carry::Carried,
    client::{Answer, Ask, ToClient},
    event::{Event, Reason, What},
    lock::Refusal,
    report::OwnerReport,
};
use masters::Shares;
use orphans::Gathering;
use peers::Peer;
use query::Query;
use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};
use surviving::Survivors;
use wish::Wish;

/// One life of one node.
#[derive(Debug)]
pub struct Node {
    config: NodeConfig,
    boot: BootId,
    disk: DiskId,
    entropy: mainstay_base::Entropy,

    founding: Option<Founding>,
    consensus: Option<Consensus>,
    state: ClusterState,
    ledger: Ledger,
    membership: Membership,
    dlm: Dlm,
    peers: BTreeMap<NodeId, Peer>,
    disks: BTreeMap<DiskId, NodeId>,

    sessions: BTreeMap<SessionId, Session>,
    kept: BTreeMap<SessionId, Kept>,
    broken: Broken,
    wishes: Vec<Wish>,
    queries: BTreeMap<u64, Query>,
    shares: BTreeMap<u64, Shares>,
    gatherings: BTreeMap<u64, Gathering>,
    survivors: Survivors,
    /// Masters that moved lately.
    moves: VecDeque<(Instant, MoveRecord)>,
    next_query: u64,
    /// Lockspaces in which not everybody may everything.
    guarded: BTreeMap<LockspaceId, Access>,
    limits: UserLimits,
    /// Who waits for a lockspace and wants to have made it.
    makers: BTreeSet<(SessionId, u64)>,

    writes: VecDeque<(PersistSeq, Write)>,
    last_write: PersistSeq,
    leader_disk: Option<DiskId>,
    term: u64,
    /// The view that was acted upon last.
    installed: Option<Arc<View>>,
    /// This life has been a member.
    joined: bool,
    /// On this node's clock; [`Instant::ZERO`] without a lease.
    lease: Instant,
    active: bool,
    leaving: Option<Leaving>,
    /// What the life before has left, until it is decided whether this one goes on with it.
    carried: Option<Carried>,
    /// With the view that is installed next this life goes on with it.
    resuming: bool,
    /// Until then, lock traffic concerns the lock manager only: nothing else is due before.
    quiet_until: Instant,
    /// Of the present step, for the flight recorder.
    now: Instant,
    /// Reborn or stopped: nothing more may be done.
    over: bool,
    events: u64,
    out: Vec<Effect>,
}

/// A client.
#[derive(Debug)]
struct Session {
    owner: OwnerReport,
    caller: Caller,
}

/// What a durable write is for.
#[derive(Debug)]
enum Write {
    Founding,
    Log(mainstay_consensus::PersistSeq),
}

impl Node {
    /// Takes one input. Inputs must come in the order in which they happened, with `now` never
    /// going back.
    pub fn step(&mut self, now: Instant, input: Input, outbox: &mut Outbox) {
        if self.over {
            return;
        }
        self.now = now;
        // A lease that ran out while nobody looked must count before anything else is decided.
        if !Mutant::LeaseCheckedAfterGrant.active() {
            self.settle_activity(now);
        }
        let locks_only =
            now < self.quiet_until && self.leaving.is_none() && is_lock_traffic(&input);
        // Not with every message: what they ask for would wait for as many slices.
        let slice = matches!(input, Input::Wake);
        match input {
            Input::Wake => {}
            Input::Frame { peer, link, bytes } => self.on_frame(now, peer, link, &bytes),
            Input::LinkUp { peer, link } => self.on_link_up(now, peer, link),
            Input::LinkDown { peer, link, detail } => self.on_link_down(now, peer, link, &detail),
            Input::Persisted(seq) => self.on_persisted(now, seq),
            Input::PersistFailed { detail } => {
                self.stop(Reason::DiskFailed, false, detail);
            }
            Input::SessionOpened {
                session,
                owner,
                group,
                privileged,
            } => {
                let caller = Caller {
                    uid: owner.uid,
                    gid: group,
                    privileged,
                };
                self.dlm.open_session(session);
                self.dlm.charge_session(session, caller);
                self.dlm.introduce(session, owner.clone());
                self.sessions.insert(session, Session { owner, caller });
                if !self.active {
                    let reason = self.why_inactive(now);
                    self.tell(session, ToClient::Suspended { reason });
                }
            }
            Input::Request {
                session,
                request,
                ask,
            } => self.on_request(now, session, request, ask),
            Input::SessionClosed { session } => self.on_closed(now, session),
            Input::Keep {
                session,
                request,
                grace_ms,
                key,
            } => self.keep_session(session, request, grace_ms, key),
            Input::Reattach {
                connection,
                session,
                key,
                heard,
                uid,
            } => self.reattach(connection, session, key, heard, uid),
            Input::Answered {
                session,
                request,
                result,
            } => self.tell_result(session, request, result),
            Input::Notice {
                what,
                reason,
                detail,
            } => self.event(what, reason, detail),
            Input::Stop => self.begin_leave(now, None),
            Input::Carried { result } => self.on_carried(now, result),
        }
        if slice {
            self.dlm.work(now);
        }
        if locks_only {
            self.dlm.expire(now);
            self.pump_locks(now);
        } else {
            self.run_timers(now);
            self.settle(now);
            self.quiet_until = self.next_affair();
        }
        self.regulate(now);
        outbox.effects.append(&mut self.out);
    }

    /// Packs what the inputs since the last call gave to say to other nodes. To be called once all
    /// inputs that have arrived are taken.
    pub fn flush(&mut self, now: Instant, outbox: &mut Outbox) {
        if !self.over {
            self.pack_frames(now);
            self.regulate(now);
        }
        outbox.effects.append(&mut self.out);
    }

    /// When this node must be woken at the latest.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        if self.over {
            return None;
        }
        let channels = self.peers.values().filter_map(|p| p.channel.deadline());
        let locks = channels.chain(self.dlm.deadline());
        Some(locks.fold(self.quiet_until, Instant::min))
    }

    /// When something other than the lock manager and the channels has to be looked at.
    fn next_affair(&self) -> Instant {
        let others = [
            self.consensus.as_ref().map(Consensus::deadline),
            self.active.then_some(self.lease),
            self.wishes.iter().map(|w| w.retry_at).min(),
            self.queries.values().map(|q| q.give_up_at).min(),
            self.shares.values().map(|s| s.give_up_at).min(),
            self.gatherings.values().map(|g| g.give_up_at).min(),
            self.leaving.as_ref().map(|l| l.next_at),
            self.broken.next().filter(|_| !self.has_carried()),
        ];
        let others = others.into_iter().flatten();
        others.fold(self.membership.deadline(), Instant::min)
    }

    /// Whether so much waits to be delivered to other nodes that clients should be made to wait.
    #[must_use]
    pub fn congested(&self) -> bool {
        self.peers.values().any(Peer::congested)
    }

    /// The lock manager, for checks by tests and the simulator.
    #[must_use]
    pub fn lock_manager(&self) -> &Dlm {
        &self.dlm
    }

    /// The replicated state, for checks by tests and the simulator.
    #[must_use]
    pub fn cluster_state(&self) -> &ClusterState {
        &self.state
    }

    fn run_timers(&mut self, now: Instant) {
        let mut out = Vec::new();
        self.membership.step(now, &mut out);
        self.on_membership(now, out);
        if let Some(consensus) = &mut self.consensus {
            consensus.tick_to(now);
        }
        self.dlm.expire(now);
        self.pursue_wishes(now);
        self.expire_queries(now);
        self.expire_shares(now);
        self.expire_gatherings(now);
        self.expire_kept(now);
    }

    /// Lets the parts react to each other until nothing is left to be said.
    fn settle(&mut self, now: Instant) {
        loop {
            let before = self.out.len();
            let mut busy = self.pump_log(now);
            self.settle_activity(now);
            busy |= self.pump_locks(now);
            self.pursue_leaving(now);
            if self.over || !(busy || self.out.len() > before) {
                break;
            }
        }
        self.compact_log();
    }

    /// Finds out whether this node may act, and tells everybody concerned when that changes.
    fn settle_activity(&mut self, now: Instant) {
        let view = self.state.view();
        let member = view.has_boot(self.config.me, self.boot);
        let active = member && view.quorate && now < self.lease;
        if active == self.active {
            return;
        }
        self.active = active;
        if active {
            self.event(What::Active, Reason::LeaseRenewed, String::new());
            self.tell_all(&ToClient::Resumed);
        } else {
            let reason = if view.quorate {
                Reason::LeaseLapsed
            } else {
                Reason::QuorumLost
            };
            let why = self.why_inactive(now);
            self.event(What::Suspended, reason, why.clone());
            self.tell_all(&ToClient::Suspended { reason: why });
        }
        self.dlm.set_active(now, active);
    }

    fn why_inactive(&self, now: Instant) -> String {
        let view = self.state.view();
        if self.leaving.is_some() {
            "this node is leaving the cluster".to_owned()
        } else if !view.has_boot(self.config.me, self.boot) {
            let waits = self.membership.why_not_member(now);
            waits.unwrap_or_else(|| "this node is not a member yet".to_owned())
        } else if !view.quorate {
            let (votes, total) = (self.state.votes_of_members(), self.state.votes_total());
            format!("the members have {votes} of {total} votes, which is no majority")
        } else {
            "no majority of votes has renewed this node's lease".to_owned()
        }
    }

    fn event(&mut self, what: What, reason: Reason, detail: String) {
        let epoch = self.installed.as_ref().map(|v| v.epoch).unwrap_or_default();
        self.event_in(epoch, what, reason, detail);
    }

    fn event_in(&mut self, epoch: Epoch, what: What, reason: Reason, detail: String) {
        self.events += 1;
        let number = self.events;
        let event = Event {
            number,
            unix_ms: 0,
            epoch,
            what,
            reason,
            detail,
        };
        self.note_event(&event);
        self.out.push(Effect::Event(event));
    }

    fn tell(&mut self, session: SessionId, message: ToClient) {
        if self.kept.contains_key(&session) && !self.note_told(session, &message) {
            return;
        }
        self.out.push(Effect::Client { session, message });
    }

    /// A client's session is over.
    fn end_session(&mut self, now: Instant, session: SessionId) {
        self.forget_kept(session);
        self.sessions.remove(&session);
        self.makers.retain(|(maker, _)| *maker != session);
        self.drop_wishes(session);
        self.dlm.close_session(now, session);
    }

    fn tell_result(&mut self, session: SessionId, request: u64, result: Result<Answer, Refusal>) {
        self.tell(session, ToClient::Done { request, result });
    }

    fn tell_all(&mut self, message: &ToClient) {
        let sessions: Vec<SessionId> = self.sessions.keys().copied().collect();
        for session in sessions {
            self.tell(session, message.clone());
        }
    }

    /// The lease as shown to clients.
    fn show_lease(&mut self, until: Instant) {
        self.lease = until;
        self.note_lease(until);
        self.out.push(Effect::Lease { until });
    }

    /// This life is over; the next one begins with nothing but the journal.
    fn be_reborn(&mut self, reason: Reason, detail: String) {
        if self.over {
            return;
        }
        self.event(What::Reborn, reason, detail.clone());
        self.show_lease(Instant::ZERO);
        self.over = true;
        if self.rests() {
            self.out.push(Effect::Carry { bytes: None });
        }
        self.out.push(Effect::Reborn { detail });
    }

    fn stop(&mut self, reason: Reason, clean: bool, detail: String) {
        if self.over {
            return;
        }
        self.event(What::Stopped, reason, detail.clone());
        self.show_lease(Instant::ZERO);
        self.over = true;
        if !clean {
            self.dump(&detail, None);
        }
        self.out.push(Effect::Stop { clean, detail });
    }

    /// A node's name, or its number if it is not configured.
    fn name(&self, node: NodeId) -> NodeName {
        let spec = self.config.nodes.iter().find(|n| n.id == node);
        match spec {
            Some(spec) => spec.name.clone(),
            None => NodeName::new(format!("node-{node}")).expect("digits make a name"),
        }
    }
}

/// Whether an input concerns the lock manager and nothing else.
fn is_lock_traffic(input: &Input) -> bool {
    match input {
        Input::Request { ask, .. } => matches!(
            ask,
            Ask::Lock { .. }
                | Ask::Convert { .. }
                | Ask::Unlock { .. }
                | Ask::Cancel { .. }
                | Ask::Heard { .. }
                | Ask::LockSet { .. }
                | Ask::ConvertMany { .. }
                | Ask::UnlockMany { .. }
                | Ask::LockUnder { .. }
                | Ask::UnlockTree { .. }
        ),
        Input::Frame { bytes, .. } => peers::is_channel_frame(bytes),
        _ => false,
    }
}
