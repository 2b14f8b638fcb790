//! A group of members with an unreliable network and slow disks, all driven by one seed, and the
//! checks that must hold at every moment.

// Every test binary uses its own part of this.
#![allow(
    dead_code,
    unreachable_pub,
    missing_debug_implementations,
    clippy::unwrap_used
)]

use mainstay_base::{DiskId, Entropy, Instant, fixed_hash};
use mainstay_consensus::{Consensus, ConsensusConfig, Durable, Output, PersistSeq};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Milliseconds per step of the world.
pub const STEP: u64 = 10;

/// The replicated application: a running hash, so that two histories differ if their states do.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct App {
    pub index: u64,
    pub hash: u64,
    pub count: u64,
}

impl App {
    fn apply(&mut self, index: u64, data: &[u8]) {
        assert!(index > self.index, "entry {index} after {}", self.index);
        self.index = index;
        self.hash = fixed_hash(data, self.hash);
        self.count += 1;
    }

    fn save(&self) -> Vec<u8> {
        [self.index, self.hash, self.count]
            .iter()
            .flat_map(|n| n.to_le_bytes())
            .collect()
    }

    fn load(bytes: &[u8]) -> App {
        let n = |i: usize| u64::from_le_bytes(bytes[i * 8..i * 8 + 8].try_into().unwrap());
        App {
            index: n(0),
            hash: n(1),
            count: n(2),
        }
    }
}

enum Write {
    Append(Vec<u8>),
    Replace(Vec<Vec<u8>>),
}

/// A host: a disk that survives and a member that may not.
pub struct Host {
    pub member: Option<Consensus>,
    pub disk: Vec<Vec<u8>>,
    writes: VecDeque<(u64, PersistSeq, Write)>,
    held: Vec<(PersistSeq, DiskId, Vec<u8>)>,
    durable: u64,
    pub app: App,
    pub voters: Vec<DiskId>,
    pub learners: Vec<DiskId>,
    pub leads: bool,
    pub leader_changes: u64,
}

/// How bad things are. Chances are of 1000.
#[derive(Clone, Copy)]
pub struct Weather {
    pub loss: u64,
    pub duplication: u64,
    /// Longest delay of a message, in milliseconds; the shortest is one step.
    pub delay: u64,
    /// Longest time that a write takes, in milliseconds.
    pub disk: u64,
}

pub const FAIR: Weather = Weather {
    loss: 0,
    duplication: 0,
    delay: 10,
    disk: 10,
};

pub const FOUL: Weather = Weather {
    loss: 100,
    duplication: 50,
    delay: 120,
    disk: 80,
};

/// When a given write of the whole world is handed out, its member crashes.
#[derive(Clone, Copy)]
pub struct CrashAt {
    pub write: u64,
    /// Whether the record still reaches the disk.
    pub written: bool,
}

pub struct World {
    pub now: u64,
    pub seed: u64,
    pub entropy: Entropy,
    pub hosts: BTreeMap<u64, Host>,
    pub weather: Weather,
    /// Directed pairs that cannot talk.
    pub cut: BTreeSet<(u64, u64)>,
    pub crash_at: Option<CrashAt>,
    pub writes: u64,
    pub trace: u64,
    snapshot_after: u64,
    pub restores: u64,
    pub replaces: u64,
    pub proposed: u64,
    packets: BTreeMap<(u64, u64), (u64, u64, Vec<u8>)>,
    packet: u64,
    lives: u64,
    /// The state of the application after each entry, as first seen anywhere.
    pub agreed: BTreeMap<u64, u64>,
    leaders: BTreeMap<u64, u64>,
    /// Copies of sent messages, if wanted.
    pub tap: Option<Vec<Vec<u8>>>,
}

pub fn instant(ms: u64) -> Instant {
    Instant::from_millis(ms)
}

impl World {
    /// A new group whose members want a snapshot after 16 entries.
    pub fn new(seed: u64, members: u64, weather: Weather) -> World {
        World::with_snapshots(seed, members, weather, 16)
    }

    pub fn with_snapshots(seed: u64, members: u64, weather: Weather, after: u64) -> World {
        let mut world = World {
            now: 0,
            seed,
            entropy: Entropy::new(seed),
            hosts: BTreeMap::new(),
            weather,
            cut: BTreeSet::new(),
            crash_at: None,
            writes: 0,
            trace: 0,
            snapshot_after: after,
            restores: 0,
            replaces: 0,
            proposed: 0,
            packets: BTreeMap::new(),
            packet: 0,
            lives: 0,
            agreed: BTreeMap::new(),
            leaders: BTreeMap::new(),
            tap: None,
        };
        let voters: Vec<DiskId> = (1..=members).map(DiskId).collect();
        for id in 1..=members {
            let member = world.found(id, &voters);
            world.add(id, member);
        }
        world
    }

    pub fn config(&self, id: u64) -> ConsensusConfig {
        ConsensusConfig {
            snapshot_after: self.snapshot_after,
            ..ConsensusConfig::new(DiskId(id))
        }
    }

    fn life(&mut self, id: u64) -> Entropy {
        self.lives += 1;
        Entropy::new(fixed_hash(&self.lives.to_le_bytes(), self.seed ^ id))
    }

    fn found(&mut self, id: u64, voters: &[DiskId]) -> Consensus {
        let entropy = self.life(id);
        Consensus::found(self.config(id), voters, instant(self.now), entropy).unwrap()
    }

    fn add(&mut self, id: u64, member: Consensus) {
        let host = Host {
            member: Some(member),
            disk: Vec::new(),
            writes: VecDeque::new(),
            held: Vec::new(),
            durable: 0,
            app: App::default(),
            voters: Vec::new(),
            learners: Vec::new(),
            leads: false,
            leader_changes: 0,
        };
        self.hosts.insert(id, host);
        self.work(id);
    }

    /// A new, empty disk that is told to join.
    pub fn join(&mut self, id: u64) {
        let entropy = self.life(id);
        let member = Consensus::join(self.config(id), instant(self.now), entropy).unwrap();
        self.add(id, member);
    }

    pub fn member(&mut self, id: u64) -> Option<&mut Consensus> {
        self.hosts.get_mut(&id)?.member.as_mut()
    }

    /// Ends a member; the first `survive` of its pending writes reach the disk.
    pub fn crash(&mut self, id: u64, survive: usize) {
        let host = self.hosts.get_mut(&id).unwrap();
        host.member = None;
        let pending = std::mem::take(&mut host.writes);
        for (_, _, write) in pending.into_iter().take(survive) {
            commit(&mut host.disk, write);
        }
        host.held.clear();
        host.leads = false;
    }

    pub fn pending_writes(&self, id: u64) -> usize {
        self.hosts[&id].writes.len()
    }

    /// Starts a crashed member from its disk.
    pub fn recover(&mut self, id: u64, voters: &[DiskId]) {
        let entropy = self.life(id);
        let config = self.config(id);
        let now = instant(self.now);
        let host = self.hosts.get_mut(&id).unwrap();
        assert!(host.member.is_none());
        let mut durable = Durable::new();
        for record in &host.disk {
            durable.apply(record).unwrap();
        }
        host.app = App::default();
        host.durable = 0;
        host.voters.clear();
        host.learners.clear();
        host.member = Some(if !durable.is_empty() {
            Consensus::recover(config, durable, now, entropy).unwrap()
        } else if voters.contains(&DiskId(id)) {
            Consensus::found(config, voters, now, entropy).unwrap()
        } else {
            Consensus::join(config, now, entropy).unwrap()
        });
        self.work(id);
    }

    /// Carries out all outputs of a member.
    pub fn work(&mut self, id: u64) {
        let mut outputs = Vec::new();
        loop {
            let Some(member) = self.member(id) else {
                return;
            };
            member.take_outputs(&mut outputs);
            if outputs.is_empty() {
                return;
            }
            for output in outputs.drain(..) {
                self.trace = fixed_hash(format!("{id} {output:?}").as_bytes(), self.trace);
                if self.carry_out(id, output) {
                    return;
                }
            }
            let host = self.hosts.get_mut(&id).unwrap();
            let member = host.member.as_mut().unwrap();
            if member.wants_snapshot() {
                member.compact(host.app.index, host.app.save()).unwrap();
            }
        }
    }

    /// Returns true if the member crashed over it.
    fn carry_out(&mut self, id: u64, output: Output) -> bool {
        let host = self.hosts.get_mut(&id).unwrap();
        match output {
            Output::Persist { seq, record } => return self.write(id, seq, Write::Append(record)),
            Output::Replace { seq, records } => {
                self.replaces += 1;
                return self.write(id, seq, Write::Replace(records));
            }
            Output::Send { to, message, after } => match after {
                Some(seq) if seq.0 > host.durable => host.held.push((seq, to, message)),
                _ => self.transmit(id, to, message),
            },
            Output::Committed { index, data } => {
                assert!(!data.is_empty());
                host.app.apply(index, &data);
                let hash = host.app.hash;
                let known = *self.agreed.entry(index).or_insert(hash);
                assert_eq!(known, hash, "host {id} disagrees on entry {index}");
            }
            Output::Restore { index, snapshot } => {
                let app = App::load(&snapshot);
                assert!(app.index <= index && app.index >= host.app.index);
                assert_eq!(self.agreed.get(&app.index).copied().unwrap_or(0), app.hash);
                host.app = app;
                self.restores += 1;
            }
            Output::Leader { term, leader, me } => {
                assert_eq!(me, leader == Some(DiskId(id)));
                host.leads = me;
                host.leader_changes += 1;
                if let Some(leader) = leader {
                    let known = *self.leaders.entry(term).or_insert(leader.0);
                    assert_eq!(known, leader.0, "two leaders in term {term}");
                }
            }
            Output::Voters { voters, learners } => {
                host.voters = voters;
                host.learners = learners;
            }
        }
        false
    }

    fn write(&mut self, id: u64, seq: PersistSeq, write: Write) -> bool {
        self.writes += 1;
        let delay = 1 + self.entropy.below(self.weather.disk.max(1));
        let host = self.hosts.get_mut(&id).unwrap();
        let earliest = host.writes.back().map_or(0, |(at, _, _)| *at);
        host.writes
            .push_back((earliest.max(self.now + delay), seq, write));
        match self.crash_at {
            Some(at) if at.write == self.writes => {
                let pending = host.writes.len();
                self.crash(id, if at.written { pending } else { pending - 1 });
                true
            }
            _ => false,
        }
    }

    fn transmit(&mut self, from: u64, to: DiskId, message: Vec<u8>) {
        if let Some(tap) = &mut self.tap {
            tap.push(message.clone());
        }
        let copies = 1 + u64::from(self.entropy.chance(self.weather.duplication, 1000));
        for _ in 0..copies {
            if self.entropy.chance(self.weather.loss, 1000) {
                continue;
            }
            let delay = STEP + self.entropy.below(self.weather.delay.max(1));
            self.packet += 1;
            self.packets.insert(
                (self.now + delay, self.packet),
                (from, to.0, message.clone()),
            );
        }
    }

    /// One step: messages arrive, writes end, clocks go on.
    pub fn step(&mut self) {
        self.now += STEP;
        while let Some(entry) = self.packets.first_entry() {
            if entry.key().0 > self.now {
                break;
            }
            let (from, to, message) = entry.remove();
            if self.cut.contains(&(from, to)) {
                continue;
            }
            if let Some(member) = self.member(to) {
                assert_eq!(Consensus::sender(&message).unwrap(), DiskId(from));
                member.receive(&message).unwrap();
                self.work(to);
            }
        }
        let ids: Vec<u64> = self.hosts.keys().copied().collect();
        for id in ids {
            self.finish_writes(id);
            let now = instant(self.now);
            if let Some(member) = self.member(id)
                && member.deadline() <= now
            {
                member.tick_to(now);
                assert!(member.deadline() > now);
                self.work(id);
            }
        }
    }

    fn finish_writes(&mut self, id: u64) {
        loop {
            let now = self.now;
            let host = self.hosts.get_mut(&id).unwrap();
            let Some((_, seq, write)) = host.writes.pop_front_if(|(at, _, _)| *at <= now) else {
                return;
            };
            commit(&mut host.disk, write);
            host.durable = seq.0;
            let free = host.held.extract_if(.., |(after, _, _)| *after <= seq);
            let free: Vec<_> = free.collect();
            for (_, to, message) in free {
                self.transmit(id, to, message);
            }
            if let Some(member) = self.member(id) {
                member.persisted(seq);
                self.work(id);
            }
        }
    }

    pub fn run(&mut self, ms: u64) {
        for _ in 0..ms / STEP {
            self.step();
        }
    }

    pub fn leader(&self) -> Option<u64> {
        let leads = |(id, host): (&u64, &Host)| {
            let status = host.member.as_ref()?.status();
            (host.member.as_ref()?.is_leader()).then_some((status.term, *id))
        };
        self.hosts.iter().filter_map(leads).max().map(|(_, id)| id)
    }

    /// Proposes a unique entry at whoever leads. Returns whether somebody took it.
    pub fn propose(&mut self) -> bool {
        let Some(id) = self.leader() else {
            return false;
        };
        self.proposed += 1;
        let data = format!("entry {} of {}", self.proposed, self.seed).into_bytes();
        let taken = self.member(id).unwrap().propose(data).is_ok();
        self.work(id);
        taken
    }

    /// Steps until something holds, for at most so many milliseconds.
    pub fn run_until(&mut self, ms: u64, what: &str, mut done: impl FnMut(&World) -> bool) {
        for _ in 0..ms / STEP {
            if done(self) {
                return;
            }
            self.step();
        }
        let states: Vec<_> = self
            .hosts
            .values()
            .map(|host| host.member.as_ref().map(Consensus::status))
            .collect();
        panic!("seed {}: not in {ms} ms: {what}: {states:#?}", self.seed);
    }

    /// After everything has been mended: there is progress, and all members agree on everything
    /// that anyone was ever told.
    pub fn converge(&mut self) {
        self.weather = FAIR;
        self.cut.clear();
        self.run_until(10_000, "a leader", |world| world.leader().is_some());
        let before = self.agreed.len();
        let mut asked = 0;
        while self.agreed.len() <= before {
            assert!(asked < 200, "seed {}: no progress", self.seed);
            asked += 1;
            self.propose();
            self.run(100);
        }
        let last = *self.agreed.last_key_value().unwrap().0;
        self.run_until(20_000, "everybody up to date", |world| {
            world.current().iter().all(|id| {
                let host = &world.hosts[id];
                host.member.is_none() || host.app.index >= last
            })
        });
    }

    /// The members of the leader's configuration.
    pub fn current(&self) -> Vec<u64> {
        let Some(leader) = self.leader() else {
            return Vec::new();
        };
        let status = self.hosts[&leader].member.as_ref().unwrap().status();
        let all = status.voters.iter().chain(&status.learners);
        all.map(|id| id.0).collect()
    }
}

fn commit(disk: &mut Vec<Vec<u8>>, write: Write) {
    match write {
        Write::Append(record) => disk.push(record),
        Write::Replace(records) => *disk = records,
    }
}
