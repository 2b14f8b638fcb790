//! The local agent.

mod connected;
mod detector;
mod founding;
mod leader;
mod lease;
mod status;
#[cfg(test)]
mod world;
#[cfg(test)]
mod world_tests;

pub use status::{LinkStatus, PeerStatus, PendingStatus};

use crate::{
    ClusterState, Founding, MembershipConfig, Output, Rest, View,
    message::{Heartbeat, HeartbeatAck, Message, Wish},
};
use detector::{Detector, Finding};
use leader::Leader;
use lease::{Holder, Promises};
use mainstay_base::{
    BootId, DiskId, Epoch, Incarnation, Instant, LinkId, NodeId, NodeSpec, Timings, fixed_hash,
};
use mainstay_fencing::{Proof, lease::LeaseWatch};
use mainstay_wire::{codec, event::Reason};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

/// A step that comes so many heartbeat periods late shows that this node was paused.
const PAUSE: u32 = 3;

/// The membership agent of one node, for one life.
#[derive(Debug)]
pub struct Membership {
    config: MembershipConfig,
    /// Digest of the configuration as given.
    digest: u64,
    /// The configuration in force: the founding's, once there is one.
    nodes: Vec<NodeSpec>,
    timings: Timings,
    founding: Option<Founding>,
    /// The founding is on disk.
    founded: bool,
    leaving: bool,
    /// It leaves to rest: the members that it has handed over to, and for how long.
    rest: Option<(Epoch, u32)>,
    /// The end of this life as a member has been told.
    ended: bool,
    detector: Detector,
    holder: Holder,
    promises: Promises,
    /// The newest round that this node promised itself.
    own_round: Option<Instant>,
    next_round: Instant,
    facts: Facts,
    /// Since when this node has known each member.
    known_since: BTreeMap<(NodeId, BootId), Instant>,
    watches: BTreeMap<(NodeId, Incarnation), LeaseWatch>,
    leader: Option<Leader>,
    complaints: BTreeSet<(NodeId, String)>,
    seen: Instant,
}

/// What the agent needs of the replicated state.
#[derive(Debug, Default)]
struct Facts {
    founded: bool,
    view: Arc<View>,
    disks: BTreeMap<NodeId, DiskId>,
    incarnations: BTreeMap<NodeId, Incarnation>,
    retired: BTreeSet<(NodeId, BootId)>,
    rest: Option<Rest>,
}

impl Membership {
    /// The agent of a life that begins `now`.
    #[must_use]
    pub fn new(now: Instant, config: MembershipConfig) -> Membership {
        let digest = digest(&config);
        let founding = config.founding.clone();
        let (nodes, timings) = match &founding {
            Some(f) => (f.nodes.iter().map(|n| n.spec.clone()).collect(), f.timings),
            None => (config.nodes.clone(), config.timings),
        };
        Membership {
            detector: Detector::new(config.me, &nodes, &timings),
            founded: founding.is_some(),
            founding,
            digest,
            nodes,
            timings,
            leaving: false,
            rest: None,
            ended: false,
            holder: Holder::default(),
            promises: Promises::new(now),
            own_round: None,
            next_round: now,
            facts: Facts::default(),
            known_since: BTreeMap::new(),
            watches: BTreeMap::new(),
            leader: None,
            complaints: BTreeSet::new(),
            seen: now,
            config,
        }
    }

    /// A message from a peer arrived on a link. `now` must have been read after the message was, or
    /// a promise could seem older than it is.
    pub fn receive(
        &mut self,
        now: Instant,
        from: NodeId,
        link: LinkId,
        bytes: &[u8],
        out: &mut Vec<Output>,
    ) {
        self.begin(now);
        let message = match Message::decode(bytes) {
            Ok(message) => message,
            Err(error) => return self.complain(from, error.to_string(), out),
        };
        let mut found = Vec::new();
        if !self.detector.heard_on(now, from, link, &mut found) {
            let detail = format!("a message on link {link}, which the configuration lacks");
            return self.complain(from, detail, out);
        }
        match message {
            Message::Heartbeat(heartbeat) => self.on_heartbeat(now, from, link, heartbeat, out),
            Message::Ack(ack) => self.on_ack(now, from, link, &ack, out),
            Message::Offer(offer) => self.on_offer(now, from, offer, out),
        }
        self.detector.check(now, &mut found);
        self.tell(found, out);
        self.try_found(now, out);
        self.lead(now, false, out);
    }

    /// Does what is due. To be called at [`Membership::deadline`]; earlier does no harm.
    pub fn step(&mut self, now: Instant, out: &mut Vec<Output>) {
        self.begin(now);
        if now >= self.next_round {
            self.round(now, out);
        }
        let mut found = Vec::new();
        self.detector.check(now, &mut found);
        self.tell(found, out);
        self.try_found(now, out);
        self.lead(now, true, out);
    }

    /// When [`Membership::step`] is due next.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        let due = self.leader.as_ref().and_then(|_| self.next_decision());
        due.map_or(self.next_round, |at| at.min(self.next_round))
    }

    /// The replicated state changed, or was read from disk at the start.
    pub fn install(&mut self, now: Instant, state: &ClusterState, out: &mut Vec<Output>) {
        self.begin(now);
        let me = (self.config.me, self.config.boot);
        let news = state.view().epoch > self.facts.view.epoch;
        self.facts = Facts {
            founded: state.id().is_some(),
            view: Arc::clone(state.view()),
            disks: state
                .nodes()
                .filter_map(|n| Some((n.id, state.disk(n.id)?)))
                .collect(),
            incarnations: state
                .nodes()
                .map(|n| (n.id, state.incarnation(n.id)))
                .collect(),
            retired: state.retired().collect(),
            rest: state.rest(),
        };
        let view = Arc::clone(&self.facts.view);
        let mut known = std::mem::take(&mut self.known_since);
        known.retain(|(node, boot), _| view.has_boot(*node, *boot));
        for member in &view.members {
            known.entry((member.node, member.boot)).or_insert(now);
        }
        self.known_since = known;
        self.promises.prune(&view);
        self.watches
            .retain(|(node, incarnation), _| view.is_pending(*node, *incarnation));
        for p in &view.pending {
            self.watches
                .entry((p.node, p.incarnation))
                .or_insert_with(|| LeaseWatch::new(p.node, p.incarnation));
        }
        if !view.has_boot(me.0, me.1) {
            self.revoke(out);
            if state.is_retired(me.0, me.1) && !self.ended {
                self.ended = true;
                out.push(self.farewell(state));
            }
        }
        if news {
            // Leases, proofs and joins wait for everybody's epoch: do not let them wait for the next
            // period too.
            self.round(now, out);
        }
        self.lead(now, false, out);
    }

    /// Whether this node leads the replicated log.
    pub fn set_leader(&mut self, now: Instant, leader: bool, out: &mut Vec<Output>) {
        self.begin(now);
        if leader != self.leader.is_some() {
            self.leader = leader.then(Leader::default);
        }
        self.lead(now, true, out);
    }

    /// The node has given up its locks and wants to leave: its lease ends at once, and it asks the
    /// leader to let it go until [`Output::Left`]. A node that is no member has left already.
    pub fn set_leaving(&mut self, now: Instant, out: &mut Vec<Output>) {
        self.begin(now);
        let rested = self.rest.take().is_some();
        self.leave(now, rested, out);
    }

    /// `news`: what it asks for is another thing than before.
    fn leave(&mut self, now: Instant, news: bool, out: &mut Vec<Output>) {
        if self.leaving {
            if news {
                self.round(now, out);
                self.lead(now, false, out);
            }
            return;
        }
        self.leaving = true;
        self.revoke(out);
        if self.incarnation().is_none() && !self.ended {
            self.ended = true;
            out.push(Output::Left);
        }
        self.round(now, out);
        self.lead(now, false, out);
    }

    /// The same for a node that is to rest, and has handed over to the members of an epoch.
    pub fn set_resting(
        &mut self,
        now: Instant,
        members: Epoch,
        for_ms: u32,
        out: &mut Vec<Output>,
    ) {
        self.begin(now);
        let news = self.rest.replace((members, for_ms)) != Some((members, for_ms));
        self.leave(now, news, out);
    }

    /// What this node asks of the leader.
    fn wish(&self) -> Wish {
        match (self.incarnation(), self.rest) {
            (Some(_), Some((members, for_ms))) if self.leaving => Wish::Rest { members, for_ms },
            (Some(_), None) if self.leaving => Wish::Leave,
            (None, _) if !self.leaving && !self.ended => Wish::Join,
            _ => Wish::None,
        }
    }

    /// The founding of [`Output::Founded`] is on disk.
    pub fn founding_durable(&mut self, now: Instant, out: &mut Vec<Output>) {
        self.begin(now);
        if self.founding.is_some() {
            self.founded = true;
            self.round(now, out);
        }
        self.lead(now, false, out);
    }

    /// The transport connected a link: a heartbeat goes out on it at once.
    pub fn link_connected(
        &mut self,
        now: Instant,
        peer: NodeId,
        link: LinkId,
        out: &mut Vec<Output>,
    ) {
        self.begin(now);
        if self.detector.targets().any(|t| t == (peer, link)) {
            // A round of its own, to one target: every number has one send time.
            let bytes = self.heartbeat(now);
            out.push(Output::Send {
                to: peer,
                link,
                bytes,
            });
        }
    }

    /// The transport lost a link: it is down until heartbeats arrive on it again.
    pub fn link_broken(
        &mut self,
        now: Instant,
        peer: NodeId,
        link: LinkId,
        detail: &str,
        out: &mut Vec<Output>,
    ) {
        self.begin(now);
        if self.detector.broken(peer, link) {
            out.push(Output::Link {
                peer,
                link,
                up: false,
                reason: Reason::Disconnected,
                detail: detail.to_owned(),
            });
        }
    }

    fn begin(&mut self, now: Instant) {
        self.seen = self.seen.max(now);
        if now > self.next_round + self.timings.heartbeat * PAUSE {
            self.detector.refresh(now);
            for known in self.known_since.values_mut() {
                *known = now;
            }
            if let Some(leader) = &mut self.leader {
                leader.forget_separations();
            }
        }
    }

    /// This life's incarnation, if the installed view counts it as a member.
    fn incarnation(&self) -> Option<Incarnation> {
        let member = self.facts.view.member(self.config.me)?;
        (member.boot == self.config.boot).then_some(member.incarnation)
    }

    fn votes(&self, node: NodeId) -> u32 {
        self.nodes
            .iter()
            .find(|n| n.id == node)
            .map_or(0, |n| n.votes)
    }

    fn votes_total(&self) -> u32 {
        self.nodes.iter().map(|n| n.votes).sum()
    }

    fn round(&mut self, now: Instant, out: &mut Vec<Output>) {
        self.next_round = now + self.timings.heartbeat;
        let bytes = self.heartbeat(now);
        for (to, link) in self.detector.targets() {
            out.push(Output::Send {
                to,
                link,
                bytes: bytes.clone(),
            });
        }
        self.renew(out);
        self.report_own(now);
    }

    /// Enters what this node itself can say about pending incarnations: they are pending in the view
    /// that this very node has installed.
    fn report_own(&mut self, now: Instant) {
        let me = self.config.me;
        for ((node, incarnation), watch) in &mut self.watches {
            watch.report(now, me, self.promises.age(now, *node, *incarnation));
        }
    }

    /// The next heartbeat, numbered and remembered.
    fn heartbeat(&mut self, now: Instant) -> Vec<u8> {
        let incarnation = self.incarnation();
        let seq = self.holder.round(now);
        let me = (self.config.me, self.config.boot);
        let view = Arc::clone(&self.facts.view);
        if view.quorate
            && !self.leaving
            && self
                .promises
                .decide(now, &view, me, (me.0, me.1, incarnation))
        {
            self.own_round = Some(now);
        }
        let wish = match self.founded {
            true => self.wish(),
            false => Wish::None,
        };
        let heartbeat = Heartbeat {
            boot: self.config.boot,
            disk: self.config.disk,
            seq,
            config: self.digest,
            cluster: self.founding.as_ref().map(|f| f.id),
            incarnation,
            epoch: view.epoch,
            hears: self.detector.hears(now),
            wish,
            quiet: self.promises.quiet(now, &view),
        };
        Message::Heartbeat(heartbeat).encode()
    }

    fn on_heartbeat(
        &mut self,
        now: Instant,
        from: NodeId,
        link: LinkId,
        heartbeat: Heartbeat,
        out: &mut Vec<Output>,
    ) {
        let me = (self.config.me, self.config.boot);
        let promise = self.promises.decide(
            now,
            &self.facts.view,
            me,
            (from, heartbeat.boot, heartbeat.incarnation),
        );
        let ack = HeartbeatAck {
            to_boot: heartbeat.boot,
            seq: heartbeat.seq,
            boot: me.1,
            promise,
            epoch: self.facts.view.epoch,
        };
        out.push(Output::Send {
            to: from,
            link,
            bytes: Message::Ack(ack).encode(),
        });
        if !self.detector.heartbeat(now, from, &heartbeat) {
            return;
        }
        for quiet in &heartbeat.quiet {
            let pending = self.facts.view.pending.iter();
            let known = pending
                .filter(|p| (p.node, p.incarnation) == (quiet.node, quiet.incarnation))
                .any(|p| heartbeat.epoch >= p.left_epoch);
            if let Some(watch) = self.watches.get_mut(&(quiet.node, quiet.incarnation))
                && known
            {
                watch.report(now, from, Duration::from_millis(quiet.age_ms.into()));
            }
        }
        self.meet(from, link, &heartbeat, out);
    }

    fn on_ack(
        &mut self,
        now: Instant,
        from: NodeId,
        link: LinkId,
        ack: &HeartbeatAck,
        out: &mut Vec<Output>,
    ) {
        if ack.to_boot != self.config.boot {
            return;
        }
        // A round too old to be remembered extends no lease and measures nothing.
        let Some(sent) = self.holder.sent(ack.seq) else {
            return;
        };
        self.detector.ack(now, from, link, ack, sent);
        if ack.promise && self.incarnation().is_some() && !self.leaving {
            self.holder.promised(from, sent);
            self.renew(out);
        }
    }

    fn renew(&mut self, out: &mut Vec<Output>) {
        if self.incarnation().is_none() || self.leaving {
            return;
        }
        let own = self.own_round.map(|at| (self.config.me, at));
        let (nodes, total) = (&self.nodes, self.votes_total());
        let votes = |id| nodes.iter().find(|n| n.id == id).map_or(0, |n| n.votes);
        if self.holder.renew(own, self.timings.lease, total, votes) {
            out.push(Output::Lease(self.holder.until()));
        }
    }

    fn revoke(&mut self, out: &mut Vec<Output>) {
        self.own_round = None;
        if self.holder.revoke() {
            out.push(Output::Lease(Instant::ZERO));
        }
    }

    fn farewell(&self, state: &ClusterState) -> Output {
        let boot = self.config.boot;
        let mine = |node: NodeId, b: BootId| node == self.config.me && b == boot;
        let mut fenced = state.fenced();
        if let Some(end) = fenced.find(|f| mine(f.vanished.node, f.vanished.boot)) {
            if matches!(end.record.proof, Proof::LeftCleanly | Proof::Rests) {
                return Output::Left;
            }
            let detail = format!("{}; {}", end.vanished.reason, end.record.proof);
            return Output::Removed { detail };
        }
        let mut pending = state.view().pending.iter();
        let detail = match pending.find(|p| mine(p.node, p.boot)) {
            Some(p) => format!("removed in view {}: {}", p.left_epoch, p.reason),
            None => format!("removed before view {}", state.view().epoch),
        };
        Output::Removed { detail }
    }

    fn tell(&mut self, found: Vec<Finding>, out: &mut Vec<Output>) {
        for finding in found {
            out.push(match finding {
                Finding::LinkUp(peer, link) => Output::Link {
                    peer,
                    link,
                    up: true,
                    reason: Reason::Connected,
                    detail: String::new(),
                },
                Finding::LinkDown(peer, link, quiet) => Output::Link {
                    peer,
                    link,
                    up: false,
                    reason: Reason::LinkSilent,
                    detail: format!("nothing heard for {:.2} s", quiet.as_secs_f64()),
                },
                Finding::Reachable(peer, boot) => Output::Peer {
                    peer,
                    boot,
                    reachable: true,
                },
                Finding::Unreachable(peer, boot) => Output::Peer {
                    peer,
                    boot,
                    reachable: false,
                },
            });
        }
    }

    fn complain(&mut self, peer: NodeId, detail: String, out: &mut Vec<Output>) {
        // A peer cannot make this grow: its texts are few, and beyond that it is not worth listening.
        if self.complaints.len() < 1024 && self.complaints.insert((peer, detail.clone())) {
            out.push(Output::Complaint { peer, detail });
        }
    }
}

/// A number by which two nodes see whether their configurations agree.
fn digest(config: &MembershipConfig) -> u64 {
    let mut nodes = config.nodes.clone();
    nodes.sort_by_key(|n| n.id);
    let bytes = codec::to_vec(&(&config.cluster, nodes, config.timings, config.fencing));
    fixed_hash(&bytes, 1)
}
