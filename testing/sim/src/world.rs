//! Hosts, clients, network and clocks, driven by one queue of events in virtual time.

use crate::{
    checkers::{
        Fact, Judge,
        books::{Books, Claim, ClientNo, PageNo, Res, Who},
    },
    client::{Client, Mail},
    clock::Clock,
    dice::{Dice, MS, SEC},
    disk::Disk,
    faults::Mend,
    machine::Maker,
    network::Network,
    orphans::Adopting,
    params::{Params, Profile},
    process::Process,
    stats::Stats,
    surviving::Records,
    trace::Trace,
    workloads::Terrain,
};
use mainstay_base::{
    DiskId, Entropy, Incarnation, Instant, NodeId, NodeName, SessionId, ValueBlock,
};
use mainstay_wire::{client::Ask, keep::SessionKey};
use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
    sync::Arc,
};

/// Something that will happen.
#[derive(Debug)]
pub(crate) enum Ev {
    /// A frame reaches a host.
    Frame {
        from: usize,
        to: usize,
        link: usize,
        conn: u64,
        bytes: Vec<u8>,
    },
    /// One end of a connection notices that it broke.
    EndDown {
        at: usize,
        peer: usize,
        link: usize,
        conn: u64,
    },
    /// Two hosts try to connect.
    Dial { a: usize, b: usize, link: usize },
    /// A disk write ends.
    DiskDone { host: usize, epoch: u64 },
    /// A daemon takes what has arrived.
    Run { host: usize, run: u64 },
    /// A daemon's timer.
    Wake { host: usize, run: u64, timer: u64 },
    /// A daemon is killed.
    Kill { host: usize, back_in: u64 },
    /// A daemon starts.
    Boot { host: usize, token: u64 },
    /// Something reaches a daemon from a client.
    Up {
        host: usize,
        run: u64,
        conn: u64,
        what: Up,
    },
    /// Something reaches a client from its daemon.
    Down {
        slot: usize,
        no: ClientNo,
        conn: u64,
        mail: Mail,
    },
    /// A client tries to connect.
    Hello { slot: usize, no: ClientNo },
    /// A client's alarm.
    Alarm {
        slot: usize,
        no: ClientNo,
        alarm: u64,
    },
    /// A client tries again to open a lockspace.
    Reopen {
        slot: usize,
        no: ClientNo,
        conn: u64,
        space: usize,
    },
    /// A dead client is followed by a new one.
    Follow { slot: usize },
    /// A client tries to continue its session.
    Redial { slot: usize, no: ClientNo },
    /// A client says what it has heard.
    KeepAlive { slot: usize, no: ClientNo },
    /// The connection of some client breaks.
    Breaker,
    /// A daemon is asked to stop so that its sessions go on.
    Rester,
    /// Some client dies.
    Reaper,
    /// Something goes wrong.
    Nemesis,
    /// A fault ends.
    Mend(Mend),
    /// Time passes for the checkers.
    Tick,
}

/// From client to daemon.
#[derive(Clone, Debug)]
pub(crate) enum Up {
    /// A new connection.
    Open { slot: usize, no: ClientNo },
    /// A new connection, to continue a session.
    Reattach {
        slot: usize,
        no: ClientNo,
        session: SessionId,
        key: SessionKey,
        heard: u64,
    },
    /// A request.
    Ask { request: u64, ask: Ask },
    /// The connection closed.
    Close,
}

/// Strikes in the middle of the effects of one step.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Trap {
    /// Effects to carry out first.
    pub(crate) skip: u64,
    /// Pause for so long; die if absent.
    pub(crate) pause: Option<u64>,
    /// How long it lasts.
    pub(crate) lasts: u64,
}

/// One computer of the cluster.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) id: NodeId,
    pub(crate) name: NodeName,
    pub(crate) clock: Clock,
    pub(crate) disk: Disk,
    /// Counts process ends and hastened writes, so that an earlier end is not taken for a later one.
    pub(crate) disk_epoch: u64,
    pub(crate) power: bool,
    pub(crate) process: Option<Process>,
    /// The pause of the daemon that counts.
    pub(crate) node_pause: Option<u64>,
    /// The pause of the clients that counts.
    pub(crate) clients_pause: Option<u64>,
    /// The start that counts.
    pub(crate) boot: u64,
    /// A bit of its journal was flipped.
    pub(crate) damaged: bool,
    pub(crate) trap: Option<Trap>,
    /// Deadlines on its lease pages, on its own clock.
    pub(crate) leases: BTreeMap<PageNo, Instant>,
    /// What its last daemon left to the next.
    pub(crate) left: crate::rests::LeftBehind,
}

/// Dice for each part of the world, so that draws in one do not shift the others.
#[derive(Debug)]
pub(crate) struct DiceBox {
    pub(crate) net: Entropy,
    pub(crate) disk: Entropy,
    pub(crate) fault: Entropy,
    pub(crate) host: Entropy,
    pub(crate) client: Entropy,
    pub(crate) keep: Entropy,
    pub(crate) rest: Entropy,
}

/// The whole simulated world.
pub struct World {
    pub(crate) params: Params,
    pub(crate) now: u64,
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    waiting: BTreeMap<u64, Ev>,
    next_event: u64,
    unique: u64,
    pub(crate) maker: Arc<Maker>,
    pub(crate) dice: DiceBox,
    pub(crate) hosts: Vec<Host>,
    pub(crate) clients: Vec<Client>,
    pub(crate) next_client: ClientNo,
    pub(crate) net: Network,
    pub(crate) terrain: Terrain,
    pub(crate) books: Books,
    pub(crate) judge: Judge,
    pub(crate) trace: Trace,
    pub(crate) stats: Stats,
    /// Faults are over.
    pub(crate) calm: bool,
    /// Who is killed when next a node joins, and for how long.
    pub(crate) ambush: Option<(usize, u64)>,
    /// Workloads are told nothing and ask nothing.
    pub(crate) frozen: bool,
    /// Workloads make no new calls.
    pub(crate) draining: bool,
    pub(crate) wiped_votes: u32,
    /// Nodes whose disk was wiped.
    pub(crate) wiped_nodes: usize,
    /// Vanished incarnations without proof.
    pub(crate) unproved: BTreeSet<(NodeId, Incarnation)>,
    /// Incarnations under which some life acted.
    pub(crate) owned: BTreeSet<(NodeId, Incarnation)>,
    /// Incarnations with proof.
    pub(crate) proved: BTreeSet<(NodeId, Incarnation)>,
    /// Resources that each client ever asked for through its present session.
    pub(crate) touched: BTreeMap<ClientNo, BTreeSet<Res>>,
    /// What each client asked last to adopt.
    pub(crate) adopting: BTreeMap<ClientNo, Adopting>,
    /// Orphans that have ended with a node, unless they were on their way to another.
    pub(crate) perhaps: BTreeMap<(Res, ClientNo), (Who, Claim)>,
    /// What the log says of locks that survive their nodes.
    pub(crate) records: Records,
    /// Connections whose sessions their nodes have closed.
    pub(crate) ended: BTreeSet<u64>,
    /// What locks with VMS' rules have read last.
    pub(crate) read_by: BTreeMap<Who, ValueBlock>,
    /// What the conversion under way of each lock publishes.
    pub(crate) wrote: BTreeMap<Who, ValueBlock>,
    /// Connections on which nothing arrives any more.
    pub(crate) lost: BTreeSet<u64>,
    /// A lockspace was made with rules.
    pub(crate) has_rules: bool,
    /// Answers to audits, not yet looked at.
    pub(crate) audits: Vec<Result<mainstay_wire::report::LocksReport, String>>,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World")
            .field("now", &self.now)
            .field("params", &self.params)
            .finish_non_exhaustive()
    }
}

impl World {
    /// A world at time zero: power on, daemons about to start, faults to come.
    #[must_use]
    pub fn new(params: Params, maker: Arc<Maker>, trace: Trace) -> World {
        let mut root = Entropy::new(params.seed);
        let mut dice = DiceBox {
            net: root.split(),
            disk: root.split(),
            fault: root.split(),
            host: root.split(),
            client: root.split(),
            keep: root.split(),
            rest: root.split(),
        };
        let bound = u64::from(params.timings.drift_ppm);
        let hosts: Vec<Host> = params
            .nodes
            .iter()
            .map(|node| Host {
                id: node.id,
                name: node.name.clone(),
                clock: Clock::new(
                    dice.host.between(SEC, 1_000_000 * SEC),
                    dice.host.between(0, 2 * bound) as i64 - bound as i64,
                ),
                disk: Disk::new(DiskId(dice.host.next_u64() | 1), params.fsync),
                disk_epoch: 0,
                power: true,
                process: None,
                node_pause: None,
                clients_pause: None,
                boot: 0,
                damaged: false,
                trap: None,
                leases: BTreeMap::new(),
                left: crate::rests::LeftBehind::default(),
            })
            .collect();
        let terrain = Terrain {
            fairness: params.fairness,
            ..Terrain::new(params.resources).with_compat(params.compat)
        };
        let net = Network::new(hosts.len(), params.links, params.net.clone());
        let mut world = World {
            judge: Judge::new(
                hosts.len(),
                params.profile == Profile::Quiet,
                params.masters.moves,
                params.fairness,
            ),
            now: 0,
            queue: BinaryHeap::new(),
            waiting: BTreeMap::new(),
            next_event: 0,
            unique: 0,
            maker,
            dice,
            hosts,
            clients: Vec::new(),
            next_client: 1,
            net,
            terrain,
            books: Books::default(),
            trace,
            stats: Stats::default(),
            calm: false,
            ambush: None,
            frozen: false,
            draining: false,
            wiped_votes: 0,
            wiped_nodes: 0,
            unproved: BTreeSet::new(),
            owned: BTreeSet::new(),
            proved: BTreeSet::new(),
            touched: BTreeMap::new(),
            adopting: BTreeMap::new(),
            perhaps: BTreeMap::new(),
            records: Records::default(),
            ended: BTreeSet::new(),
            read_by: BTreeMap::new(),
            wrote: BTreeMap::new(),
            lost: BTreeSet::new(),
            has_rules: false,
            audits: Vec::new(),
            params,
        };
        world.set_out();
        world
    }

    fn set_out(&mut self) {
        for host in 0..self.hosts.len() {
            let wait = self.dice.host.below(200 * MS);
            self.boot_in(host, wait);
            for peer in host + 1..self.hosts.len() {
                for link in 0..self.params.links {
                    self.at(
                        MS,
                        Ev::Dial {
                            a: host,
                            b: peer,
                            link,
                        },
                    );
                }
            }
            for kind in self.params.clients.clone() {
                let slot = self.clients.len();
                let client = self.new_client(host, kind);
                let no = client.no;
                self.clients.push(client);
                let wait = self.dice.client.below(SEC);
                self.at(wait, Ev::Hello { slot, no });
            }
        }
        self.at(self.params.gap + SEC, Ev::Nemesis);
        if self.params.client_life > 0 {
            self.at(self.params.client_life, Ev::Reaper);
        }
        if self.params.client_breaks > 0 {
            self.at(SEC, Ev::Breaker);
        }
        if self.params.rests > 0 {
            self.at(3 * SEC, Ev::Rester);
        }
        self.at(100 * MS, Ev::Tick);
    }

    /// A number that nothing else in this run has.
    pub(crate) fn unique(&mut self) -> u64 {
        self.unique += 1;
        self.unique
    }

    /// Has an event happen so many nanoseconds from now.
    pub(crate) fn at(&mut self, wait: u64, event: Ev) {
        self.next_event += 1;
        self.queue.push(Reverse((self.now + wait, self.next_event)));
        self.waiting.insert(self.next_event, event);
    }

    /// Real time in nanoseconds since the start.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.now
    }

    /// What was drawn.
    #[must_use]
    pub fn params(&self) -> &Params {
        &self.params
    }

    /// The trace so far.
    #[must_use]
    pub fn trace(&self) -> &Trace {
        &self.trace
    }

    /// The counts so far.
    #[must_use]
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// What the observer knows.
    #[must_use]
    pub fn books(&self) -> &Books {
        &self.books
    }

    /// The judge.
    #[must_use]
    pub fn judge(&self) -> &Judge {
        &self.judge
    }

    /// What a host's clock shows now.
    pub(crate) fn local(&self, host: usize) -> Instant {
        self.hosts[host].clock.local(self.now)
    }

    /// Shows the checkers a fact.
    pub(crate) fn fact(&mut self, fact: &Fact<'_>) {
        self.judge.observe(self.now, fact, &self.books);
    }

    /// Lets the next event happen. False if a promise was broken or nothing is left to happen.
    pub fn step(&mut self) -> bool {
        if self.judge.violation().is_some() {
            return false;
        }
        let Some(Reverse((at, number))) = self.queue.pop() else {
            return false;
        };
        self.now = at;
        if let Some(event) = self.waiting.remove(&number) {
            self.happen(event);
        }
        self.judge.violation().is_none()
    }

    fn happen(&mut self, event: Ev) {
        match event {
            Ev::Frame {
                from,
                to,
                link,
                conn,
                bytes,
            } => self.frame_arrives(from, to, link, conn, bytes),
            Ev::EndDown {
                at,
                peer,
                link,
                conn,
            } => self.end_down(at, peer, link, conn),
            Ev::Dial { a, b, link } => self.dial(a, b, link),
            Ev::DiskDone { host, epoch } => self.disk_done(host, epoch),
            Ev::Run { host, run } => self.run_process(host, run),
            Ev::Wake { host, run, timer } => self.timer(host, run, timer),
            // What has been mended meanwhile stays so.
            Ev::Kill { .. } if self.calm => {}
            Ev::Kill { host, back_in } => self.kill_node(host, back_in),
            Ev::Boot { host, token } => self.boot(host, token),
            Ev::Up {
                host,
                run,
                conn,
                what,
            } => self.take_from_client(host, run, conn, what),
            Ev::Down {
                slot,
                no,
                conn,
                mail,
            } => self.mail_arrives(slot, no, conn, mail),
            Ev::Hello { slot, no } => self.hello(slot, no),
            Ev::Alarm { slot, no, alarm } => self.alarm(slot, no, alarm),
            Ev::Reopen {
                slot,
                no,
                conn,
                space,
            } => self.reopen(slot, no, conn, space),
            Ev::Follow { slot } => self.follow(slot),
            Ev::Redial { slot, no } => self.redial(slot, no),
            Ev::KeepAlive { slot, no } => self.keep_alive(slot, no),
            Ev::Breaker => self.break_some(),
            Ev::Rester => self.rest_some(),
            Ev::Reaper => self.reap(),
            Ev::Nemesis => self.nemesis(),
            Ev::Mend(mend) => self.mend(mend),
            Ev::Tick => {
                self.tell_stopped();
                self.watch_kept();
                self.fact(&Fact::Tick);
                self.at(200 * MS, Ev::Tick);
            }
        }
    }

    /// Changes the rate of a host's clock, and with it when its leases are over.
    pub(crate) fn set_rate(&mut self, host: usize, rate_ppm: i64) {
        self.hosts[host].clock.set_rate(self.now, rate_ppm);
        for (page, until) in &self.hosts[host].leases {
            self.books.pages[*page as usize].over_at = if *until == Instant::ZERO {
                0
            } else {
                self.hosts[host].clock.real(*until)
            };
        }
        self.clocks_changed(host);
        // The timer was set by the old rate.
        self.set_timer(host);
    }
}
