//! A small world for tests: nodes with drifting clocks, a network that can be cut, and a log that
//! commits for a leader connected with a majority. One tick is a millisecond of real time.

use super::Membership;
use crate::{ClusterState, Command, Founding, MembershipConfig, Output};
use mainstay_base::{
    BootId, DiskId, Entropy, FencePolicy, Instant, LinkId, NodeId, NodeName, NodeSpec, Timings,
};
use mainstay_fencing::Proof;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

pub(super) struct Host {
    /// Rate error in parts per million.
    ppm: i64,
    pub(super) agent: Option<Membership>,
    pub(super) state: ClusterState,
    pub(super) disk: DiskId,
    pub(super) founding: Option<Founding>,
    pub(super) boot: BootId,
    paused_until: u64,
    inbox: VecDeque<(NodeId, LinkId, Vec<u8>)>,
    /// The lease of every life, as its clients see it.
    leases: BTreeMap<BootId, Instant>,
    pub(super) reachable: BTreeMap<NodeId, BootId>,
    pub(super) links_up: BTreeSet<(NodeId, LinkId)>,
    pub(super) lives_lost: Vec<String>,
    pub(super) left: bool,
    leads: bool,
}

impl Host {
    /// This host's clock. It began long before the test.
    fn clock(&self, real_ms: u64) -> Instant {
        let rate = u128::try_from(1_000_000 + self.ppm).expect("a positive rate");
        let nanos = u128::from(real_ms + 50_000) * rate;
        Instant(u64::try_from(nanos).expect("a short test"))
    }
}

pub(super) struct World {
    pub(super) now: u64,
    pub(super) hosts: BTreeMap<NodeId, Host>,
    specs: Vec<NodeSpec>,
    timings: Timings,
    fencing: FencePolicy,
    log: Vec<Command>,
    pub(super) truth: ClusterState,
    pub(super) leader: Option<NodeId>,
    leaderless_since: u64,
    messages: Vec<(u64, NodeId, NodeId, LinkId, Vec<u8>)>,
    /// What does not arrive: from, to, link.
    pub(super) cut: BTreeSet<(NodeId, NodeId, LinkId)>,
    pub(super) entropy: Entropy,
    pub(super) delay_ms: u64,
    /// What goes to this node takes so much longer.
    pub(super) slow_to: Option<(NodeId, u64)>,
    /// In a thousand.
    pub(super) loss: u64,
    next_id: u64,
    pub(super) committed: Vec<(u64, Command)>,
    pub(super) complaints: Vec<String>,
}

impl World {
    pub(super) fn new(votes: &[u32], links: u8, seed: u64) -> World {
        let specs = (1u16..).zip(votes).map(|(id, votes)| NodeSpec {
            id: NodeId(id),
            name: NodeName::new(format!("n{id}")).expect("a valid name"),
            votes: *votes,
            links,
        });
        let mut world = World {
            now: 0,
            hosts: BTreeMap::new(),
            specs: specs.collect(),
            timings: Timings::default(),
            fencing: FencePolicy::Lease,
            log: Vec::new(),
            truth: ClusterState::new(),
            leader: None,
            leaderless_since: 0,
            messages: Vec::new(),
            cut: BTreeSet::new(),
            entropy: Entropy::new(seed),
            delay_ms: 1,
            slow_to: None,
            loss: 0,
            next_id: 1,
            committed: Vec::new(),
            complaints: Vec::new(),
        };
        for id in (1..=votes.len() as u16).map(NodeId) {
            // Clocks as wrong as the bound allows, in all combinations over the seeds.
            let ppm = [-10_000, 0, 10_000][world.entropy.below(3) as usize];
            let disk = DiskId(world.fresh_id());
            let host = Host {
                ppm,
                agent: None,
                state: ClusterState::new(),
                disk,
                founding: None,
                boot: BootId(0),
                paused_until: 0,
                inbox: VecDeque::new(),
                leases: BTreeMap::new(),
                reachable: BTreeMap::new(),
                links_up: BTreeSet::new(),
                lives_lost: Vec::new(),
                left: false,
                leads: false,
            };
            world.hosts.insert(id, host);
        }
        world
    }

    pub(super) fn manual(mut self) -> World {
        self.fencing = FencePolicy::Manual;
        self
    }

    /// A world whose nodes all run and are members.
    pub(super) fn running(votes: &[u32], seed: u64) -> World {
        let mut world = World::new(votes, 1, seed);
        world.boot_all();
        world.run_until("all are members", 5000, World::all_well);
        world
    }

    fn fresh_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    pub(super) fn host(&self, node: u16) -> &Host {
        &self.hosts[&NodeId(node)]
    }

    pub(super) fn host_mut(&mut self, node: u16) -> &mut Host {
        self.hosts.get_mut(&NodeId(node)).expect("a known node")
    }

    pub(super) fn agent(&self, node: u16) -> &Membership {
        self.host(node).agent.as_ref().expect("a running node")
    }

    pub(super) fn clock(&self, node: u16) -> Instant {
        self.host(node).clock(self.now)
    }

    pub(super) fn boot_all(&mut self) {
        for node in 1..=self.specs.len() as u16 {
            self.boot(node);
        }
    }

    pub(super) fn boot(&mut self, node: u16) {
        if self.host(node).agent.is_none() {
            self.begin_life(NodeId(node));
        }
    }

    fn begin_life(&mut self, node: NodeId) {
        let boot = BootId(self.fresh_id());
        let seed = self.entropy.next_u64();
        let (specs, timings, fencing) = (self.specs.clone(), self.timings, self.fencing);
        let now = self.now;
        let host = self.hosts.get_mut(&node).expect("a known node");
        let clock = host.clock(now);
        let config = MembershipConfig {
            cluster: "world".to_owned(),
            me: node,
            nodes: specs,
            timings,
            fencing,
            boot,
            disk: host.disk,
            founding: host.founding.clone(),
            entropy: Entropy::new(seed),
        };
        let mut agent = Membership::new(clock, config);
        let mut out = Vec::new();
        agent.install(clock, &host.state, &mut out);
        host.boot = boot;
        host.agent = Some(agent);
        host.leads = false;
        host.reachable.clear();
        host.links_up.clear();
        self.carry_out(node, boot, out);
    }

    /// The process is gone at once; its clients still see its last lease.
    pub(super) fn kill(&mut self, node: u16) {
        let host = self.host_mut(node);
        host.agent = None;
        host.inbox.clear();
        host.paused_until = 0;
    }

    pub(super) fn lose_disk(&mut self, node: u16) {
        let disk = DiskId(self.fresh_id());
        let host = self.host_mut(node);
        assert!(host.agent.is_none(), "only a stopped node loses its disk");
        host.disk = disk;
        host.founding = None;
        host.state = ClusterState::new();
    }

    pub(super) fn pause(&mut self, node: u16, ms: u64) {
        self.host_mut(node).paused_until = self.now + ms;
    }

    pub(super) fn leave(&mut self, node: u16) {
        let clock = self.clock(node);
        let id = NodeId(node);
        self.call(id, |agent, out| agent.set_leaving(clock, out));
    }

    /// Cuts one direction on all links.
    pub(super) fn cut_way(&mut self, from: u16, to: u16) {
        for link in 0..4 {
            self.cut.insert((NodeId(from), NodeId(to), LinkId(link)));
        }
    }

    pub(super) fn cut_pair(&mut self, a: u16, b: u16) {
        self.cut_way(a, b);
        self.cut_way(b, a);
    }

    pub(super) fn isolate(&mut self, node: u16) {
        for other in 1..=self.specs.len() as u16 {
            if other != node {
                self.cut_pair(node, other);
            }
        }
    }

    pub(super) fn heal(&mut self) {
        self.cut.clear();
    }

    pub(super) fn members(&self) -> Vec<u16> {
        self.truth.view().nodes().iter().map(|n| n.0).collect()
    }

    pub(super) fn has_lease(&self, node: u16) -> bool {
        let host = self.host(node);
        let lease = host.leases.get(&host.boot);
        lease.is_some_and(|until| *until > host.clock(self.now))
    }

    /// All nodes run, are members, have installed the last view and hold a lease; nothing is pending.
    pub(super) fn all_well(&self) -> bool {
        let view = self.truth.view();
        view.pending.is_empty()
            && self.hosts.iter().all(|(node, host)| {
                host.agent.is_some()
                    && view.has_boot(*node, host.boot)
                    && host.state.view().epoch == view.epoch
                    && self.has_lease(node.0)
            })
    }

    pub(super) fn run(&mut self, ms: u64) {
        for _ in 0..ms {
            self.tick();
        }
    }

    /// Milliseconds until `done`.
    pub(super) fn run_until(
        &mut self,
        what: &str,
        limit_ms: u64,
        done: impl Fn(&World) -> bool,
    ) -> u64 {
        let start = self.now;
        while !done(self) {
            let waits: Vec<String> = self.explain();
            assert!(
                self.now - start < limit_ms,
                "{what}: not within {limit_ms} ms; view {:?}, leader {:?}, {waits:?}",
                self.truth.view(),
                self.leader,
            );
            self.tick();
        }
        self.now - start
    }

    fn explain(&self) -> Vec<String> {
        let explain = |(node, host): (&NodeId, &Host)| {
            let now = host.clock(self.now);
            let why = host.agent.as_ref()?.why_not_member(now)?;
            Some(format!("n{node}: {why}"))
        };
        self.hosts.iter().filter_map(explain).collect()
    }

    fn awake(&self, node: NodeId) -> bool {
        let host = &self.hosts[&node];
        host.agent.is_some() && host.paused_until <= self.now
    }

    fn connected(&self, a: NodeId, b: NodeId) -> bool {
        let open = |x, y| {
            let links = self.specs[0].links;
            (0..links).any(|link| !self.cut.contains(&(x, y, LinkId(link))))
        };
        a == b || (open(a, b) && open(b, a))
    }

    /// Whether the log could commit for this node.
    fn could_lead(&self, node: NodeId) -> bool {
        let able = |n: NodeId| {
            let host = &self.hosts[&n];
            let known = self.truth.id().is_none() || self.truth.disk(n) == Some(host.disk);
            self.awake(n) && host.founding.is_some() && known
        };
        let votes: u32 = self
            .specs
            .iter()
            .filter(|s| able(s.id) && self.connected(node, s.id))
            .map(|s| s.votes)
            .sum();
        let total: u32 = self.specs.iter().map(|s| s.votes).sum();
        let own = self.specs.iter().find(|s| s.id == node);
        able(node) && own.is_some_and(|s| s.votes > 0) && votes * 2 > total
    }

    pub(super) fn set_leader(&mut self, node: u16) {
        self.leader = Some(NodeId(node));
    }

    fn elect(&mut self) {
        if self.leader.is_some_and(|node| self.could_lead(node)) {
            self.leaderless_since = self.now;
            return;
        }
        if self.now - self.leaderless_since < 150 {
            return;
        }
        let nodes: Vec<NodeId> = self.hosts.keys().copied().collect();
        let able: Vec<NodeId> = nodes.into_iter().filter(|n| self.could_lead(*n)).collect();
        if !able.is_empty() {
            let pick = self.entropy.below(able.len() as u64);
            self.leader = Some(able[pick as usize]);
        }
    }

    fn tick(&mut self) {
        self.now += 1;
        self.elect();
        let mut arrived = Vec::new();
        let now = self.now;
        self.messages.retain(|(at, from, to, link, bytes)| {
            if *at <= now {
                arrived.push((*from, *to, *link, bytes.clone()));
            }
            *at > now
        });
        for (from, to, link, bytes) in arrived {
            if self.hosts[&to].agent.is_some() {
                let host = self.hosts.get_mut(&to).expect("a known node");
                host.inbox.push_back((from, link, bytes));
            }
        }
        let nodes: Vec<NodeId> = self.hosts.keys().copied().collect();
        for node in nodes {
            if self.awake(node) {
                self.tick_host(node);
            }
        }
    }

    fn tick_host(&mut self, node: NodeId) {
        let clock = self.hosts[&node].clock(self.now);
        // A node that was paused finds both its deadline and its mail; either may come first.
        let mail_first = self.entropy.chance(1, 2);
        if !mail_first {
            self.step_if_due(node, clock);
        }
        while let Some((from, link, bytes)) = self.host_mut(node.0).inbox.pop_front() {
            self.call(node, |agent, out| {
                agent.receive(clock, from, link, &bytes, out)
            });
        }
        self.step_if_due(node, clock);
        let leads = self.leader == Some(node);
        if leads != self.hosts[&node].leads {
            self.host_mut(node.0).leads = leads;
            self.call(node, |agent, out| agent.set_leader(clock, leads, out));
        }
        let known = self.truth.disk(node) == Some(self.hosts[&node].disk);
        let fed = self
            .leader
            .is_some_and(|leader| self.connected(node, leader))
            && known;
        if fed && (leads || self.entropy.chance(1, 2)) {
            self.catch_up(node, clock);
        }
    }

    fn step_if_due(&mut self, node: NodeId, clock: Instant) {
        let agent = self.hosts[&node].agent.as_ref();
        if agent.is_some_and(|agent| agent.deadline() <= clock) {
            self.call(node, |agent, out| agent.step(clock, out));
        }
    }

    fn catch_up(&mut self, node: NodeId, clock: Instant) {
        let done = self.hosts[&node].state.applied() as usize;
        if done >= self.log.len() {
            return;
        }
        let commands = self.log[done..].to_vec();
        for (index, command) in (done as u64 + 1..).zip(commands) {
            let host = self.host_mut(node.0);
            host.state.apply(index, &command);
        }
        let state = self.hosts[&node].state.clone();
        self.call(node, |agent, out| agent.install(clock, &state, out));
    }

    fn call(&mut self, node: NodeId, f: impl FnOnce(&mut Membership, &mut Vec<Output>)) {
        let mut out = Vec::new();
        let host = self.host_mut(node.0);
        let boot = host.boot;
        if let Some(agent) = &mut host.agent {
            f(agent, &mut out);
            self.carry_out(node, boot, out);
        }
    }

    fn carry_out(&mut self, node: NodeId, boot: BootId, out: Vec<Output>) {
        for output in out {
            match output {
                Output::Send { to, link, bytes } => self.send(node, to, link, bytes),
                Output::Propose(command) => self.propose(node, command),
                Output::Lease(until) => {
                    self.host_mut(node.0).leases.insert(boot, until);
                }
                Output::Link { peer, link, up, .. } => {
                    let links = &mut self.host_mut(node.0).links_up;
                    if up {
                        links.insert((peer, link));
                    } else {
                        links.remove(&(peer, link));
                    }
                }
                Output::Peer {
                    peer,
                    boot,
                    reachable,
                } => {
                    let peers = &mut self.host_mut(node.0).reachable;
                    if reachable {
                        peers.insert(peer, boot);
                    } else {
                        peers.remove(&peer);
                    }
                }
                Output::Removed { detail } => {
                    self.host_mut(node.0).lives_lost.push(detail);
                    self.begin_life(node);
                    return;
                }
                Output::Left => {
                    self.host_mut(node.0).left = true;
                    self.kill(node.0);
                    return;
                }
                Output::Founded { founding, .. } => {
                    self.host_mut(node.0).founding = Some(founding);
                    let clock = self.hosts[&node].clock(self.now);
                    self.call(node, |agent, out| agent.founding_durable(clock, out));
                }
                Output::ReplaceVoter { node, old, new, .. } => {
                    self.propose(
                        self.leader.unwrap_or_default(),
                        Command::ReplaceDisk { node, old, new },
                    );
                }
                Output::HandOver { to } => self.leader = Some(to),
                Output::Complaint { peer, detail } => {
                    self.complaints
                        .push(format!("n{node} of n{peer}: {detail}"));
                }
            }
        }
    }

    fn send(&mut self, from: NodeId, to: NodeId, link: LinkId, bytes: Vec<u8>) {
        if self.cut.contains(&(from, to, link)) || self.entropy.chance(self.loss, 1000) {
            return;
        }
        let copies = 1 + u64::from(self.entropy.chance(self.loss, 2000));
        for _ in 0..copies {
            let extra = self.slow_to.filter(|(node, _)| *node == to);
            let extra = extra.map_or(0, |(_, ms)| ms);
            let at = self.now + 1 + self.entropy.below(self.delay_ms) + extra;
            self.messages.push((at, from, to, link, bytes.clone()));
        }
    }

    fn propose(&mut self, by: NodeId, command: Command) {
        if self.leader != Some(by) || !self.could_lead(by) {
            return;
        }
        if let Command::Fenced {
            node,
            incarnation,
            proof: Proof::LeaseExpired,
        } = &command
        {
            self.check_expired(*node, *incarnation);
        }
        let index = self.log.len() as u64 + 1;
        if !self.truth.apply(index, &command).is_empty() {
            self.committed.push((self.now, command.clone()));
        }
        self.log.push(command);
    }

    /// S4: whoever is said to have lost its lease has lost it, on its own clock, in real time.
    fn check_expired(&self, node: NodeId, incarnation: mainstay_base::Incarnation) {
        let pending = &self.truth.view().pending;
        let found = pending
            .iter()
            .find(|p| (p.node, p.incarnation) == (node, incarnation));
        if let Some(p) = found {
            let host = &self.hosts[&node];
            let until = host.leases.get(&p.boot).copied().unwrap_or_default();
            let clock = host.clock(self.now);
            assert!(
                until <= clock,
                "at {} ms the lease of n{node} incarnation {incarnation} is said to have run out, \
                 but on its clock it is {clock} and the lease runs until {until}",
                self.now
            );
        }
    }

    /// Vouches as a client of any node would.
    pub(super) fn vouch(&mut self, node: u16, operator: &str) {
        let leader = self.leader.expect("a leader");
        for command in self.truth.vouch(NodeId(node), operator) {
            self.propose(leader, command);
        }
    }
}
