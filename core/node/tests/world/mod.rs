//! A world of a few nodes with one clock, a network that loses nothing and disks that never fail:
//! for tests that read like sentences. Everything that can go wrong is the simulator's business.

#![allow(clippy::print_stderr)]

use mainstay_base::{
    BootId, DiskId, FencePolicy, Instant, LinkId, LockMode, LockspaceId, LockspaceName, NodeId,
    NodeName, NodeSpec, ResourceName, SessionId, Timings, Token, ValueBlock,
};
use mainstay_node::{BootInfo, Effect, Input, Node, NodeConfig, Outbox, PersistSeq};
use mainstay_recorder::{Dump, Recorder};
use mainstay_wire::{
    client::{Answer, Ask, Handle, ToClient},
    event::Event,
    lock::{Flags, Granted, Refusal},
    report::{LocksReport, OwnerReport},
};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

pub(crate) struct Host {
    pub(crate) node: Option<Node>,
    pub(crate) records: Vec<(u8, Vec<u8>)>,
    /// What the last life has left to the next.
    pub(crate) carried: Option<Vec<u8>>,
    /// It never hears that this is written.
    pub(crate) slow_carry: bool,
    pub(crate) lease: Instant,
    pub(crate) heard: Vec<(SessionId, ToClient)>,
    pub(crate) events: Vec<Event>,
    pub(crate) closed: Vec<SessionId>,
    pub(crate) reattached: Vec<(SessionId, SessionId, u64)>,
    pub(crate) turned_away: Vec<(SessionId, Refusal)>,
    pub(crate) stopped: Option<String>,
    /// Reasons of the flight recorder's dumps, with how many records they have.
    pub(crate) dumps: Vec<(String, usize)>,
}

pub(crate) struct World {
    pub(crate) now: Instant,
    pub(crate) hosts: BTreeMap<NodeId, Host>,
    frames: Vec<(NodeId, NodeId, LinkId, Vec<u8>)>,
    pub(crate) cut: BTreeSet<(NodeId, NodeId)>,
    config: NodeConfig,
    boots: u64,
    pub(crate) requests: u64,
}

impl World {
    pub(crate) fn new(count: u16, fencing: FencePolicy) -> World {
        World::configured(count, fencing, |_| ())
    }

    /// A world of nodes that are configured in another way than usual.
    pub(crate) fn configured(
        count: u16,
        fencing: FencePolicy,
        change: impl FnOnce(&mut NodeConfig),
    ) -> World {
        let nodes = (1..=count)
            .map(|id| NodeSpec {
                id: NodeId(id),
                name: NodeName::new(format!("n{id}")).expect("valid"),
                votes: 1,
                links: 1,
            })
            .collect();
        let mut config = NodeConfig {
            cluster: "test".to_owned(),
            me: NodeId(1),
            nodes,
            timings: Timings::default(),
            fencing,
            deadlock: mainstay_base::DeadlockConfig::default(),
            orphan_expiry: None,
            max_grace: Duration::from_secs(60),
            max_rest: std::time::Duration::from_secs(60),
            masters: mainstay_base::MastersConfig::default(),
            slice: mainstay_node::SLICE,
            window: mainstay_node::WINDOW,
        };
        change(&mut config);
        let mut world = World {
            now: Instant::from_millis(1000),
            hosts: BTreeMap::new(),
            frames: Vec::new(),
            cut: BTreeSet::new(),
            config,
            boots: 0,
            requests: 0,
        };
        for id in 1..=count {
            world.hosts.insert(
                NodeId(id),
                Host {
                    node: None,
                    records: Vec::new(),
                    carried: None,
                    slow_carry: false,
                    lease: Instant::ZERO,
                    heard: Vec::new(),
                    events: Vec::new(),
                    closed: Vec::new(),
                    reattached: Vec::new(),
                    turned_away: Vec::new(),
                    stopped: None,
                    dumps: Vec::new(),
                },
            );
            world.start(NodeId(id));
        }
        world
    }

    pub(crate) fn start(&mut self, id: NodeId) {
        self.boots += 1;
        let mut config = self.config.clone();
        config.me = id;
        let host = self.hosts.get_mut(&id).expect("configured");
        let info = BootInfo {
            carried: host.carried.take(),
            boot: BootId(self.boots),
            disk: DiskId(u64::from(id.0)),
            records: host.records.clone(),
            entropy: self.boots,
        };
        let mut node = Node::boot(self.now, config, info).expect("boots");
        node.record_to(self.now, Recorder::new(1 << 20, BootId(self.boots)));
        host.node = Some(node);
        self.input(id, Input::Wake);
    }

    /// kill -9.
    pub(crate) fn kill(&mut self, id: NodeId) {
        let host = self.hosts.get_mut(&id).expect("configured");
        host.node = None;
        host.lease = Instant::ZERO;
        self.frames.retain(|f| f.0 != id && f.1 != id);
    }

    pub(crate) fn input(&mut self, id: NodeId, input: Input) {
        // As a daemon does after each round of what clients ask; frames make a round in `run`.
        let mut wake = matches!(input, Input::Request { .. } | Input::SessionClosed { .. });
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            let host = self.hosts.get_mut(&id).expect("configured");
            let Some(node) = &mut host.node else { return };
            let mut outbox = Outbox::default();
            node.step(self.now, input, &mut outbox);
            node.flush(self.now, &mut outbox);
            node.lock_manager().check_at_rest();
            let mut durable: Option<PersistSeq> = None;
            let mut reborn = false;
            for effect in outbox.effects {
                match effect {
                    // Disks are instant here: what must be durable first already is.
                    Effect::Send {
                        to, link, frame, ..
                    } => {
                        self.frames.push((id, to, link, frame));
                    }
                    Effect::Persist {
                        seq,
                        records,
                        replace,
                    } => {
                        if replace {
                            host.records.clear();
                        }
                        host.records.extend(records);
                        durable = Some(seq);
                    }
                    Effect::Client { session, message } => host.heard.push((session, message)),
                    Effect::CloseSession { session } => host.closed.push(session),
                    Effect::Reattached {
                        session,
                        connection,
                        unanswered,
                    } => host.reattached.push((session, connection, unanswered)),
                    Effect::TurnedAway { connection, why } => {
                        host.turned_away.push((connection, why));
                    }
                    Effect::Carry { bytes } => {
                        if bytes.is_some() && !host.slow_carry {
                            inputs.push(Input::Carried { result: Ok(()) });
                        }
                        host.carried = bytes;
                    }
                    Effect::Lease { until } => host.lease = until,
                    Effect::Event(event) => host.events.push(event),
                    Effect::Dump { dump, .. } => {
                        let (dump, entries) = Dump::decode(&dump.encode()).expect("readable");
                        host.dumps.push((dump.head.reason, entries.len()));
                    }
                    Effect::Reborn { .. } => reborn = true,
                    Effect::Stop { detail, .. } => {
                        host.stopped = Some(detail);
                        host.node = None;
                    }
                }
            }
            if reborn {
                self.start(id);
                return;
            }
            if let Some(seq) = durable {
                inputs.push(Input::Persisted(seq));
            }
            let due = host.node.as_ref().and_then(Node::deadline);
            if inputs.is_empty() && due.is_some_and(|at| at <= self.now) && wake {
                wake = false;
                inputs.push(Input::Wake);
            }
        }
    }

    /// Lets time pass: a millisecond at a time, every frame taking one.
    pub(crate) fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.now < end {
            self.now = self.now + Duration::from_millis(1);
            for (from, to, link, bytes) in std::mem::take(&mut self.frames) {
                if !self.cut.contains(&(from, to)) {
                    self.input(
                        to,
                        Input::Frame {
                            peer: from,
                            link,
                            bytes,
                        },
                    );
                }
            }
            let due: Vec<NodeId> = self
                .hosts
                .iter()
                .filter(|(_, h)| {
                    h.node
                        .as_ref()
                        .and_then(Node::deadline)
                        .is_some_and(|at| at <= self.now)
                })
                .map(|(id, _)| *id)
                .collect();
            for id in due {
                self.input(id, Input::Wake);
            }
        }
    }

    /// Runs until something holds.
    pub(crate) fn until(&mut self, what: &str, mut holds: impl FnMut(&World) -> bool) {
        for _ in 0..20_000 {
            if holds(self) {
                return;
            }
            self.run(Duration::from_millis(1));
        }
        for (id, host) in &self.hosts {
            eprintln!("--- node {id} stopped: {:?}", host.stopped);
            for event in host.events.iter().rev().take(12).rev() {
                eprintln!("    {event}");
            }
        }
        panic!("20 s passed without: {what}");
    }

    pub(crate) fn settle(&mut self) {
        let all = self.hosts.len();
        self.until("all members active", |w| {
            w.hosts.values().all(|h| {
                h.node
                    .as_ref()
                    .is_some_and(|n| n.cluster_state().view().members.len() == all)
                    && h.lease > w.now
            })
        });
    }

    pub(crate) fn open(&mut self, id: NodeId, session: u64) {
        let session = SessionId(session);
        let owner = OwnerReport {
            pid: 1,
            uid: 0,
            command: "test".to_owned(),
            orphan_ms: None,
            owner: mainstay_base::Owner::Session,
            broken: None,
        };
        self.input(
            id,
            Input::SessionOpened {
                session,
                owner,
                group: 0,
                privileged: true,
            },
        );
    }

    /// Asks, without waiting; the request's number.
    pub(crate) fn ask(&mut self, id: NodeId, session: u64, ask: Ask) -> u64 {
        self.requests += 1;
        let request = self.requests;
        self.input(
            id,
            Input::Request {
                session: SessionId(session),
                request,
                ask,
            },
        );
        request
    }

    pub(crate) fn result(&self, id: NodeId, request: u64) -> Option<Result<Answer, Refusal>> {
        self.hosts[&id]
            .heard
            .iter()
            .find_map(|(_, message)| match message {
                ToClient::Done { request: r, result } if *r == request => Some(result.clone()),
                _ => None,
            })
    }

    pub(crate) fn wait(&mut self, id: NodeId, request: u64) -> Result<Answer, Refusal> {
        self.until("an answer", |w| w.result(id, request).is_some());
        self.result(id, request).expect("just seen")
    }

    pub(crate) fn space(&mut self, id: NodeId, session: u64) -> LockspaceId {
        let name = LockspaceName::new("default").expect("valid");
        let request = self.ask(
            id,
            session,
            Ask::OpenLockspace {
                name,
                value_len: None,
            },
        );
        match self.wait(id, request) {
            Ok(Answer::Lockspace { id, .. }) => id,
            other => panic!("{other:?}"),
        }
    }

    /// Three nodes, each with a session that has its number and has opened the lockspace.
    #[allow(dead_code, reason = "each test file uses a part of it")]
    pub(crate) fn three() -> (World, LockspaceId) {
        let mut world = World::new(3, FencePolicy::Lease);
        world.settle();
        for node in 1..=3 {
            world.open(NodeId(node), u64::from(node));
        }
        let spaces = [1, 2, 3].map(|node| world.space(NodeId(node), u64::from(node)));
        (world, spaces[0])
    }

    /// A page of what is locked, as node 2 tells it.
    #[allow(dead_code, reason = "each test file uses a part of it")]
    pub(crate) fn locks(
        &mut self,
        limit: u32,
        after: Option<(LockspaceName, ResourceName)>,
    ) -> LocksReport {
        let ask = Ask::Locks {
            lockspace: None,
            pattern: None,
            limit,
            after,
        };
        let request = self.ask(NodeId(2), 2, ask);
        match self.wait(NodeId(2), request) {
            Ok(Answer::Locks(report)) => *report,
            other => panic!("{other:?}"),
        }
    }

    #[allow(dead_code, reason = "each test file uses a part of it")]
    pub(crate) fn unlock_ask(handle: u64, flags: Flags) -> Ask {
        Ask::Unlock {
            handle: Handle(handle),
            flags,
            value: None,
        }
    }

    pub(crate) fn lock_ask(
        handle: u64,
        space: LockspaceId,
        name: &str,
        mode: LockMode,
        flags: Flags,
    ) -> Ask {
        Ask::Lock {
            handle: Handle(handle),
            lockspace: space,
            name: ResourceName::new(name).expect("valid"),
            mode,
            flags,
            blocking: true,
            timeout_ms: None,
        }
    }

    #[allow(dead_code, reason = "not all tests have locks on ranges")]
    pub(crate) fn range_ask(
        handle: u64,
        space: LockspaceId,
        name: &str,
        range: &str,
        mode: LockMode,
        flags: Flags,
    ) -> Ask {
        Ask::Range {
            handle: Handle(handle),
            lockspace: space,
            name: ResourceName::new(name).expect("valid"),
            range: range.parse().expect("valid"),
            mode,
            flags,
            blocking: true,
            timeout_ms: None,
        }
    }

    #[allow(dead_code, reason = "each test file uses a part of it")]
    pub(crate) fn convert_ask(handle: u64, mode: LockMode, value: Option<&[u8]>) -> Ask {
        Ask::Convert {
            handle: Handle(handle),
            mode,
            flags: Flags::VALBLK,
            blocking: true,
            value: value.map(|v| ValueBlock::new(v).expect("short")),
            timeout_ms: None,
        }
    }

    pub(crate) fn granted(&mut self, id: NodeId, request: u64) -> Granted {
        match self.wait(id, request) {
            Ok(Answer::Granted(granted)) => granted,
            other => panic!("not granted: {other:?}"),
        }
    }

    #[allow(dead_code, reason = "each test file uses a part of it")]
    pub(crate) fn token(&mut self, id: NodeId, request: u64) -> Token {
        self.granted(id, request).token
    }
}
