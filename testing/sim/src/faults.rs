//! What goes wrong, and how it is mended again.

use crate::{
    dice::{Dice, MS, SEC},
    params::Profile,
    world::{Ev, World},
};
use mainstay_base::DiskId;

/// The kinds of fault.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FaultKind {
    /// The daemon is stopped, its clients are not.
    PauseNode,
    /// The clients of a host are stopped, the daemon is not.
    PauseClients,
    /// A host stands still.
    PauseHost,
    /// One client is stopped.
    StallClient,
    /// The daemon is killed; clients and operating system live.
    Kill,
    /// The daemon is stopped in the middle of carrying out what a step decided.
    PauseInStep,
    /// The daemon is killed there.
    KillInStep,
    /// A host loses power.
    PowerFail,
    /// All hosts lose power at once.
    Blackout,
    /// A host loses power and its disk.
    Wipe,
    /// A bit of a stopped host's journal flips.
    Corrupt,
    /// A disk becomes slow.
    SlowDisk,
    /// A disk becomes full.
    FullDisk,
    /// Hosts fall into two camps, on all links.
    Partition,
    /// One host is cut off, on all links.
    Isolate,
    /// Nothing passes in one direction between two hosts, on all links.
    OneWay,
    /// One link between two hosts is cut.
    CutLink,
    /// A connection breaks again and again.
    Flap,
    /// The network becomes slow.
    SlowNet,
    /// A clock changes its rate, within the bound.
    Drift,
    /// A daemon is asked to leave, and started again.
    Leave,
    /// Two daemons are killed at once.
    KillPair,
    /// A daemon is killed within 50 ms of the next time that a node joins.
    KillAtJoin,
}

impl FaultKind {
    /// All kinds.
    pub const ALL: [FaultKind; 23] = [
        FaultKind::PauseNode,
        FaultKind::PauseClients,
        FaultKind::PauseHost,
        FaultKind::StallClient,
        FaultKind::Kill,
        FaultKind::PauseInStep,
        FaultKind::KillInStep,
        FaultKind::PowerFail,
        FaultKind::Blackout,
        FaultKind::Wipe,
        FaultKind::Corrupt,
        FaultKind::SlowDisk,
        FaultKind::FullDisk,
        FaultKind::Partition,
        FaultKind::Isolate,
        FaultKind::OneWay,
        FaultKind::CutLink,
        FaultKind::Flap,
        FaultKind::SlowNet,
        FaultKind::Drift,
        FaultKind::Leave,
        FaultKind::KillPair,
        FaultKind::KillAtJoin,
    ];

    /// How likely it is in a profile.
    #[must_use]
    pub fn weight(self, profile: Profile) -> u64 {
        use FaultKind as K;
        let kin = match self {
            K::PauseNode
            | K::PauseClients
            | K::PauseHost
            | K::StallClient
            | K::PauseInStep
            | K::Drift => Profile::Pausy,
            K::Kill | K::KillInStep | K::PowerFail | K::Blackout | K::Wipe | K::Leave => {
                Profile::Crashy
            }
            K::Corrupt | K::SlowDisk | K::FullDisk => Profile::Disky,
            K::KillPair | K::KillAtJoin => Profile::Joint,
            _ => Profile::Lossy,
        };
        let rare = matches!(self, K::Blackout | K::Wipe | K::Corrupt);
        match profile {
            Profile::Quiet => 0,
            // The others keep their chances, and so their seeds their meaning.
            _ if kin == Profile::Joint && profile != Profile::Joint => 0,
            Profile::Joint if matches!(self, K::Kill | K::KillInStep | K::Leave | K::OneWay) => 2,
            Profile::Mixed => {
                if rare {
                    1
                } else {
                    4
                }
            }
            Profile::Disky if matches!(self, K::PowerFail | K::Blackout | K::Kill) => 4,
            _ if kin == profile => {
                if rare {
                    2
                } else {
                    5
                }
            }
            _ => 0,
        }
    }
}

/// The end of a fault.
#[derive(Clone, Copy, Debug)]
pub enum Mend {
    /// Resume a daemon, if this is still the pause that counts.
    Node(usize, u64),
    /// Resume a host's clients.
    Clients(usize, u64),
    /// Resume one client.
    Client(usize),
    /// Make a disk quick again.
    QuickDisk(usize),
    /// Give a disk space again.
    FreeDisk(usize),
    /// Mend a path.
    Path(usize, usize, usize),
    /// Break a connection again, so many times more.
    Flap(usize, usize, usize, u64),
    /// Make the network quick again.
    QuickNet,
}

impl World {
    /// Something goes wrong; schedules the next.
    pub(crate) fn nemesis(&mut self) {
        if self.calm || self.params.gap == 0 {
            return;
        }
        let total: u64 = self.params.faults.iter().map(|(_, weight)| weight).sum();
        if total > 0 {
            let mut at = self.dice.fault.below(total);
            let mut chosen = self.params.faults[0].0;
            for (kind, weight) in &self.params.faults {
                if at < *weight {
                    chosen = *kind;
                    break;
                }
                at -= weight;
            }
            self.strike(chosen);
        }
        let wait = self.dice.fault.spread(self.params.gap);
        self.at(wait, Ev::Nemesis);
    }

    /// How long a fault lasts: from a blink to several leases.
    fn lasting(&mut self) -> u64 {
        let lease = self.params.lease();
        match self.dice.fault.below(10) {
            0..=2 => self.dice.fault.between(MS, lease / 4),
            3..=5 => self.dice.fault.between(lease / 4, lease),
            _ => self.dice.fault.between(lease, lease * 4),
        }
    }

    fn strike(&mut self, kind: FaultKind) {
        let hosts = self.hosts.len() as u64;
        let host = self.dice.fault.below(hosts) as usize;
        let other = (host + 1 + self.dice.fault.below(hosts.max(2) - 1) as usize) % hosts as usize;
        let lasts = self.lasting();
        self.trace.note(
            self.now,
            "fault",
            &[kind as u64, host as u64, other as u64, lasts],
            || {
                format!(
                    "{kind:?} host {} peer {} for {} ms",
                    host + 1,
                    other + 1,
                    lasts / MS
                )
            },
        );
        self.stats.count(fault_name(kind));
        match kind {
            FaultKind::PauseNode => self.pause_node(host, lasts),
            FaultKind::PauseClients => self.pause_clients(host, lasts),
            FaultKind::PauseHost => {
                self.pause_node(host, lasts);
                self.pause_clients(host, lasts);
            }
            FaultKind::StallClient => {
                let slot = self.dice.fault.below(self.clients.len() as u64) as usize;
                self.clients[slot].stalled = true;
                self.at(lasts, Ev::Mend(Mend::Client(slot)));
            }
            FaultKind::Kill => self.kill_node(host, lasts),
            FaultKind::PauseInStep | FaultKind::KillInStep => {
                let skip = self.dice.fault.below(6);
                let pause = (kind == FaultKind::PauseInStep).then_some(lasts);
                self.hosts[host].trap = Some(crate::world::Trap { skip, pause, lasts });
            }
            FaultKind::KillPair => {
                self.kill_node(host, lasts);
                let later = self.lasting();
                self.kill_node(other, later);
            }
            FaultKind::KillAtJoin => self.ambush = Some((host, lasts)),
            FaultKind::PowerFail => self.power_fail(host, lasts),
            FaultKind::Blackout => {
                for each in 0..self.hosts.len() {
                    let back = lasts / 4 + self.dice.fault.below(SEC);
                    self.power_fail(each, back);
                }
            }
            FaultKind::Wipe if self.spend_wipe(host) => {
                self.power_fail(host, lasts);
                self.wipe(host);
            }
            FaultKind::Corrupt if self.hosts[host].disk.len() > 512 && self.spend_wipe(host) => {
                self.power_fail(host, lasts);
                let mut dice = self.dice.fault.split();
                self.hosts[host].damaged = self.hosts[host].disk.corrupt(&mut dice);
            }
            FaultKind::Wipe | FaultKind::Corrupt => {}
            FaultKind::SlowDisk => {
                self.hosts[host].disk.latency =
                    self.params.fsync * self.dice.fault.between(10, 200);
                self.at(lasts, Ev::Mend(Mend::QuickDisk(host)));
            }
            FaultKind::FullDisk => {
                self.hosts[host].disk.full = true;
                self.at(lasts, Ev::Mend(Mend::FreeDisk(host)));
            }
            FaultKind::Partition => {
                let camp = self.dice.fault.next_u64();
                for a in 0..self.hosts.len() {
                    for b in 0..self.hosts.len() {
                        if a != b && (camp >> a) & 1 != (camp >> b) & 1 {
                            self.cut(a, b, lasts);
                        }
                    }
                }
            }
            FaultKind::Isolate => {
                for b in 0..self.hosts.len() {
                    if b != host {
                        self.cut(host, b, lasts);
                        self.cut(b, host, lasts);
                    }
                }
            }
            FaultKind::OneWay => self.cut(host, other, lasts),
            FaultKind::CutLink => {
                let link = self.dice.fault.below(self.params.links as u64) as usize;
                for (a, b) in [(host, other), (other, host)] {
                    self.net.set_cut((a, b, link), true);
                    self.at(lasts, Ev::Mend(Mend::Path(a, b, link)));
                }
            }
            FaultKind::Flap => {
                let link = self.dice.fault.below(self.params.links as u64) as usize;
                let times = self.dice.fault.between(1, 8);
                self.flap(host, other, link, times);
            }
            FaultKind::SlowNet => {
                self.net.slow = self.dice.fault.between(5 * MS, 200 * MS);
                self.at(lasts, Ev::Mend(Mend::QuickNet));
            }
            FaultKind::Drift => {
                let bound = i64::from(self.params.timings.drift_ppm);
                let rate = match self.dice.fault.below(3) {
                    0 => bound,
                    1 => -bound,
                    _ => self.dice.fault.between(0, 2 * bound as u64) as i64 - bound,
                };
                self.set_rate(host, rate);
            }
            FaultKind::Leave => self.ask_to_leave(host),
        }
    }

    fn pause_node(&mut self, host: usize, lasts: u64) {
        let pause = self.unique();
        self.hosts[host].node_pause = Some(pause);
        self.at(lasts, Ev::Mend(Mend::Node(host, pause)));
    }

    fn pause_clients(&mut self, host: usize, lasts: u64) {
        let pause = self.unique();
        self.hosts[host].clients_pause = Some(pause);
        self.at(lasts, Ev::Mend(Mend::Clients(host, pause)));
    }

    /// Pauses a daemon between two effects of one step.
    pub(crate) fn pause_in_step(&mut self, host: usize, lasts: u64) {
        self.stats.count("paused mid-step");
        self.pause_node(host, lasts);
    }

    /// Whether another disk may be lost: what is lost in the whole run stays a minority, of votes
    /// and of nodes, since the replicated log counts nodes.
    fn spend_wipe(&mut self, host: usize) -> bool {
        let total: u32 = self.params.nodes.iter().map(|node| node.votes).sum();
        let votes = self.params.nodes[host].votes;
        let nodes = self.params.nodes.len();
        if 2 * (self.wiped_votes + votes) >= total || 2 * (self.wiped_nodes + 1) >= nodes {
            return false;
        }
        self.wiped_votes += votes;
        self.wiped_nodes += 1;
        true
    }

    pub(crate) fn wipe(&mut self, host: usize) {
        let id = DiskId(self.dice.fault.next_u64() | 1);
        self.hosts[host].disk.wipe(id);
        self.hosts[host].damaged = false;
        self.stats.count("disks wiped");
    }

    fn cut(&mut self, from: usize, to: usize, lasts: u64) {
        for link in 0..self.params.links {
            self.net.set_cut((from, to, link), true);
            self.at(lasts, Ev::Mend(Mend::Path(from, to, link)));
        }
        // A path that stays dead breaks the connection at last.
        let patience = self.dice.fault.between(SEC, 20 * SEC);
        if lasts > patience {
            for link in 0..self.params.links {
                self.at(patience, Ev::Mend(Mend::Flap(from, to, link, 1)));
            }
        }
    }

    fn flap(&mut self, a: usize, b: usize, link: usize, times: u64) {
        self.break_conn(a, b, link, [50 * MS; 2]);
        if times > 1 {
            let wait = self.dice.fault.between(10 * MS, SEC);
            self.at(wait, Ev::Mend(Mend::Flap(a, b, link, times - 1)));
        }
    }

    /// A fault ends.
    pub(crate) fn mend(&mut self, mend: Mend) {
        match mend {
            Mend::Node(host, pause) => {
                if self.hosts[host].node_pause == Some(pause) {
                    self.hosts[host].node_pause = None;
                    self.resume_node(host);
                }
            }
            Mend::Clients(host, pause) => {
                if self.hosts[host].clients_pause == Some(pause) {
                    self.hosts[host].clients_pause = None;
                    self.resume_clients(host);
                }
            }
            Mend::Client(slot) => {
                self.clients[slot].stalled = false;
                self.resume_client(slot);
            }
            Mend::QuickDisk(host) => self.quicken_disk(host, self.params.fsync),
            Mend::FreeDisk(host) => self.hosts[host].disk.full = false,
            Mend::Path(a, b, link) => self.mend_path(a, b, link),
            Mend::Flap(a, b, link, times) => {
                if !self.calm {
                    self.flap(a, b, link, times);
                }
            }
            Mend::QuickNet => self.net.slow = 0,
        }
    }

    /// All faults end at once, and none follows.
    pub(crate) fn mend_all(&mut self) {
        self.calm = true;
        self.ambush = None;
        self.net.calm = true;
        self.net.slow = 0;
        for host in 0..self.hosts.len() {
            self.hosts[host].trap = None;
            self.hosts[host].disk.full = false;
            self.quicken_disk(host, self.params.fsync.min(10 * MS));
            if self.hosts[host].node_pause.take().is_some() {
                self.resume_node(host);
            }
            if self.hosts[host].clients_pause.take().is_some() {
                self.resume_clients(host);
            }
            self.power_on(host);
        }
        for slot in 0..self.clients.len() {
            if std::mem::take(&mut self.clients[slot].stalled) {
                self.resume_client(slot);
            }
        }
        for a in 0..self.hosts.len() {
            for b in 0..self.hosts.len() {
                for link in 0..self.params.links {
                    if a != b && self.net.is_cut((a, b, link)) {
                        self.mend_path(a, b, link);
                    }
                }
            }
        }
    }
}

fn fault_name(kind: FaultKind) -> &'static str {
    match kind {
        FaultKind::PauseNode => "nodes paused",
        FaultKind::PauseClients => "clients paused",
        FaultKind::PauseHost => "hosts paused",
        FaultKind::StallClient => "client stalled",
        FaultKind::Kill => "nodes killed",
        FaultKind::PauseInStep => "pause traps",
        FaultKind::KillInStep => "kill traps",
        FaultKind::PowerFail => "power failures",
        FaultKind::Blackout => "blackouts",
        FaultKind::Wipe => "wipes tried",
        FaultKind::Corrupt => "corruptions tried",
        FaultKind::SlowDisk => "slow disks",
        FaultKind::FullDisk => "full disks",
        FaultKind::Partition => "partitions",
        FaultKind::Isolate => "isolations",
        FaultKind::OneWay => "one-way cuts",
        FaultKind::CutLink => "link cuts",
        FaultKind::Flap => "flaps",
        FaultKind::SlowNet => "slow networks",
        FaultKind::Drift => "drift changes",
        FaultKind::Leave => "leaves asked",
        FaultKind::KillPair => "pairs killed",
        FaultKind::KillAtJoin => "ambushes laid",
    }
}
