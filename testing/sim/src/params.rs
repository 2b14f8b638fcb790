//! Everything that is drawn before a run starts; printed with every failure.

use crate::{
    dice::{Dice, MS, SEC},
    faults::FaultKind,
    network::NetParams,
    workloads::Kind,
};
use mainstay_base::{
    Compat, DeadlockConfig, Entropy, Fairness, FencePolicy, MastersConfig, NodeId, NodeName,
    NodeSpec, Order, Timings, VictimPolicy,
};
use std::time::Duration;

/// Which faults a run is rich in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, clap::ValueEnum)]
pub enum Profile {
    /// None: what fails here fails always.
    Quiet,
    /// The network.
    Lossy,
    /// Processes and hosts.
    Crashy,
    /// Disks.
    Disky,
    /// Pauses and clocks.
    Pausy,
    /// Failures on the heels of others: two at once, or just after a join.
    Joint,
    /// All of it.
    Mixed,
}

impl Profile {
    /// All profiles.
    pub const ALL: [Profile; 7] = [
        Profile::Quiet,
        Profile::Lossy,
        Profile::Crashy,
        Profile::Disky,
        Profile::Pausy,
        Profile::Joint,
        Profile::Mixed,
    ];

    /// The profile's name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Profile::Quiet => "quiet",
            Profile::Lossy => "lossy",
            Profile::Crashy => "crashy",
            Profile::Disky => "disky",
            Profile::Pausy => "pausy",
            Profile::Joint => "joint",
            Profile::Mixed => "mixed",
        }
    }
}

/// What the caller fixes; the rest follows from the seed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wishes {
    /// The profile; drawn if absent.
    pub profile: Option<Profile>,
    /// The number of nodes; drawn if absent.
    pub nodes: Option<usize>,
}

/// A run's parameters.
#[derive(Clone, Debug)]
pub struct Params {
    /// The seed that all this was drawn from.
    pub seed: u64,
    /// The profile.
    pub profile: Profile,
    /// Nodes: number, name, votes, links.
    pub nodes: Vec<NodeSpec>,
    /// Links between every two nodes.
    pub links: usize,
    /// Protocol periods.
    pub timings: Timings,
    /// Fencing policy.
    pub fencing: FencePolicy,
    /// The search for deadlocks.
    pub deadlock: DeadlockConfig,
    /// Who masters resources, and when they move.
    pub masters: MastersConfig,
    /// How much of a recovery a node does at once.
    pub slice: u32,
    /// Bytes that a node is told in a recovery before it has taken the last of it.
    pub window: usize,
    /// The network.
    pub net: NetParams,
    /// Typical fsync, in nanoseconds.
    pub fsync: u64,
    /// One workload per client of each host.
    pub clients: Vec<Kind>,
    /// Hot, cold, counter and conversion resources, and those for circles, bargains, tallies,
    /// ranges, persistent locks, sets, crowds, trees, transactions and locks that survive their nodes.
    pub resources: [u32; 14],
    /// How the lockspaces share out their resources.
    pub fairness: Fairness,
    /// Whose rules another lockspace follows, if there is one.
    pub compat: Compat,
    /// How long orphans are kept.
    pub orphan_expiry: Option<Duration>,
    /// How long faults last, in nanoseconds.
    pub fire: u64,
    /// Mean time between faults, in nanoseconds; 0 for none.
    pub gap: u64,
    /// Faults and how likely each is.
    pub faults: Vec<(FaultKind, u64)>,
    /// Mean time between deaths of a client, in nanoseconds; 0 for none.
    pub client_life: u64,
    /// Mean time between breaks of a client's connection, in nanoseconds; 0 for none, and then no client
    /// has its session kept.
    pub client_breaks: u64,
    /// Mean time between requests that a daemon stop so that kept sessions go on in the next, in
    /// nanoseconds; 0 for none.
    pub rests: u64,
}

impl Params {
    /// Draws a run's parameters.
    #[must_use]
    pub fn draw(seed: u64, wishes: Wishes) -> Params {
        let mut dice = Entropy::new(seed ^ 0x7061_7261_6d73);
        // What came later is drawn apart, so that older seeds stay what they were.
        let mut apart = Entropy::new(seed ^ 0x6369_7263_6c65);
        let mut lately = Entropy::new(seed ^ 0x6261_7267_6169);
        let mut tallied = Entropy::new(seed ^ 0x7461_6c6c_6965);
        let mut ranged = Entropy::new(seed ^ 0x7261_6e67_6573);
        let mut orphaned = Entropy::new(seed ^ 0x6f72_7068_616e);
        let mut gathered = Entropy::new(seed ^ 0x7365_7473);
        let mut shared = Entropy::new(seed ^ 0x6372_6f77_6473);
        let mut grown = Entropy::new(seed ^ 0x0074_7265_6573);
        let mut foreign = Entropy::new(seed ^ 0x666f_7265_6967);
        let mut named = Entropy::new(seed ^ 0x006f_776e_6572);
        let mut surviving = Entropy::new(seed ^ 0x7375_7276_6976);
        let mut kept = Entropy::new(seed ^ 0x6b65_6570_696e);
        let profile = match dice.below(10) {
            0 => Profile::Quiet,
            1 => Profile::Lossy,
            2 => Profile::Crashy,
            3 => Profile::Disky,
            4 => Profile::Pausy,
            5 => Profile::Joint,
            _ => Profile::Mixed,
        };
        let profile = wishes.profile.unwrap_or(profile);
        let count = *dice.pick(&[3_usize, 3, 3, 3, 3, 5, 5, 2, 4]);
        let count = wishes.nodes.unwrap_or(count);
        let links = *dice.pick(&[1_usize, 1, 2]);
        let uneven = dice.percent(10) && count > 2;
        let nodes: Vec<NodeSpec> = (1..=count)
            .map(|i| NodeSpec {
                id: NodeId(i as u16),
                name: NodeName::new(format!("n{i}")).expect("letters and digits"),
                votes: if uneven && i == 1 { 2 } else { 1 },
                links: links as u8,
            })
            .collect();
        let scale = *dice.pick(&[100_u32, 100, 100, 60, 200]);
        let default = Timings::default();
        let timings = Timings {
            heartbeat: default.heartbeat * scale / 100,
            dead: default.dead * scale / 100,
            lease: default.lease * scale / 100,
            ..default
        };
        let fencing = if dice.percent(12) {
            FencePolicy::Manual
        } else {
            FencePolicy::Lease
        };
        let rough = matches!(profile, Profile::Lossy | Profile::Mixed);
        let stream = dice.percent(50);
        let net = NetParams {
            stream,
            delay: dice.between(MS / 10, if rough { 20 * MS } else { 3 * MS }),
            loss: if rough {
                dice.below(100)
            } else {
                dice.below(5)
            },
            repeat: if rough {
                dice.below(100)
            } else {
                dice.below(5)
            },
        };
        let fsync = match profile {
            Profile::Quiet => MS,
            Profile::Disky => dice.between(MS, 60 * MS),
            _ => dice.between(MS / 2, 10 * MS),
        };
        let clients = (0..dice.between(3, 6))
            .map(|_| {
                *dice.pick(&[
                    Kind::Locks,
                    Kind::Locks,
                    Kind::Counters,
                    Kind::Counters,
                    Kind::Conversions,
                    Kind::Cancels,
                    Kind::Several,
                    Kind::Spectator,
                ])
            })
            .collect::<Vec<_>>();
        let mut clients = complete(clients, fencing);
        let resources = [
            dice.between(1, 4) as u32,
            dice.between(10, 60) as u32,
            dice.between(1, 3) as u32,
            dice.between(1, 2) as u32,
            apart.between(2, 5) as u32,
            lately.between(1, 2) as u32,
            tallied.between(1, 2) as u32,
            ranged.between(1, 2) as u32,
            orphaned.between(1, 2) as u32,
            gathered.between(4, 12) as u32,
            shared.between(1, 2) as u32,
            grown.between(1, 3) as u32,
            named.between(2, 4) as u32,
            surviving.between(1, 2) as u32,
        ];
        let deadlock = DeadlockConfig {
            victim: *apart.pick(&[
                VictimPolicy::Youngest,
                VictimPolicy::Youngest,
                VictimPolicy::Priority,
                VictimPolicy::FewestLocks,
            ]),
            ..DeadlockConfig::default()
        };
        let mut moving = Entropy::new(seed ^ 0x6d61_7374_6572);
        let masters = masters(&nodes, &mut moving);
        // A lone node is a model without a search for deadlocks.
        let circles = apart.below(3) * u64::from(count > 1);
        clients.extend((0..circles).map(|_| Kind::Circles));
        // Its deadlocks are settled at the master, which the model has not either.
        let bargains = u64::from(lately.percent(40) && count > 1);
        clients.extend((0..bargains).map(|_| Kind::Bargains));
        let tallies = *tallied.pick(&[0, 0, 1, 1, 2]) * u64::from(count > 1);
        clients.extend((0..tallies).map(|_| Kind::Tallies));
        // Nor has it ranges.
        let ranges = ranged.below(4) * u64::from(count > 1);
        clients.extend((0..ranges).map(|_| Kind::Ranges));
        // Nor orphans.
        let orphans = *orphaned.pick(&[0, 0, 1, 2, 2]) * u64::from(count > 1);
        clients.extend((0..orphans).map(|_| Kind::Orphans));
        let expires = orphaned.percent(40);
        let orphan_expiry = expires.then(|| Duration::from_millis(orphaned.between(200, 4000)));
        // Nor sets.
        let sets = *gathered.pick(&[0, 0, 1, 2, 3]) * u64::from(count > 1);
        clients.extend((0..sets).map(|_| Kind::Sets));
        // A model is fair in one way only, and waits are short.
        let crowds = *shared.pick(&[0, 0, 0, 1, 2]) * u64::from(count > 1);
        clients.extend((0..crowds).map(|_| Kind::Crowds));
        let fairness = fairness(&mut shared, count);
        // Nor trees.
        let trees = *grown.pick(&[0, 0, 1, 2]) * u64::from(count > 1);
        clients.extend((0..trees).map(|_| Kind::Trees));
        // Nor others' rules.
        let compat = match count {
            1 => Compat::Strict,
            _ => *foreign.pick(&[
                Compat::Strict,
                Compat::Strict,
                Compat::Linux,
                Compat::Vms,
                Compat::Saf,
            ]),
        };
        let foreigners = u64::from(compat != Compat::Strict) * foreign.between(1, 2);
        clients.extend((0..foreigners).map(|_| Kind::Foreign));
        // Nor other owners than sessions. Four of them dance.
        let transactions = *named.pick(&[0, 0, 4, 5]) * u64::from(count > 1);
        clients.extend((0..transactions).map(|_| Kind::Transactions));
        // Nor a log.
        let survivors = *surviving.pick(&[0, 0, 1, 2, 3]) * u64::from(count > 1);
        clients.extend((0..survivors).map(|_| Kind::Survivors));
        let lease = timings.lease.as_nanos() as u64;
        let fire = dice.between(5, 14) * lease;
        let gap = match profile {
            Profile::Quiet => 0,
            _ => dice.between(lease / 4, lease * 2),
        };
        let client_life = match profile {
            Profile::Quiet => 0,
            _ => dice.between(lease, lease * 6),
        };
        // The model has no sessions that are kept.
        let client_breaks = match count > 1 && kept.percent(40) {
            true => kept.between(50 * MS, 400 * MS),
            false => 0,
        };
        let mut resting = Entropy::new(seed ^ 0x7265_7374_6564);
        let rests = match client_breaks > 0 && resting.percent(50) {
            true => resting.between(SEC, 6 * SEC),
            false => 0,
        };
        let faults = weights(profile, &mut dice);
        let slice = *dice.pick(&[1, 4, 16, 64, 512]);
        let window = *Entropy::new(seed ^ 0x7769_6e64_6f77).pick(&[1, 300, 64 << 10]);
        Params {
            seed,
            profile,
            nodes,
            links,
            timings,
            fencing,
            deadlock,
            masters,
            slice,
            window,
            net,
            fsync,
            clients,
            resources,
            fairness,
            compat,
            orphan_expiry,
            fire,
            gap,
            faults,
            client_life,
            client_breaks,
            rests,
        }
    }

    /// Length of a lease in nanoseconds.
    #[must_use]
    pub fn lease(&self) -> u64 {
        nanos(self.timings.lease)
    }

    /// The one command that runs this again.
    #[must_use]
    pub fn command(&self) -> String {
        format!(
            "cargo xtask sim --seed {} --profile {} --nodes {} --trace",
            self.seed,
            self.profile.name(),
            self.nodes.len()
        )
    }
}

/// Two of five runs leave masters where they are. The others move them far too eagerly.
fn masters(nodes: &[NodeSpec], dice: &mut Entropy) -> MastersConfig {
    let mut masters = MastersConfig {
        moves: dice.percent(60),
        after: dice.between(1, 8) as u16,
        rest: Duration::from_millis(dice.between(20, 300)),
        ..MastersConfig::default()
    };
    if dice.percent(15) {
        masters.cap = dice.between(20, 60) as u8;
    }
    for node in nodes {
        if dice.percent(10) {
            masters.weights.insert(node.id, dice.below(4) as u8);
        }
    }
    masters
}

fn fairness(dice: &mut Entropy, nodes: usize) -> Fairness {
    if nodes == 1 || dice.percent(25) {
        return Fairness::default();
    }
    Fairness {
        order: *dice.pick(&Order::ALL),
        overtake: *dice.pick(&[1, 2, 8, 64]),
        min_hold_ms: *dice.pick(&[0, 0, 5, 40]),
    }
}

/// A duration in nanoseconds.
#[must_use]
pub fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Manual fencing needs somebody who vouches, and every run somebody who locks.
fn complete(mut clients: Vec<Kind>, fencing: FencePolicy) -> Vec<Kind> {
    if clients.iter().all(|kind| *kind == Kind::Spectator) {
        clients.push(Kind::Locks);
    }
    if fencing == FencePolicy::Manual && !clients.contains(&Kind::Spectator) {
        clients.push(Kind::Spectator);
    }
    clients
}

fn weights(profile: Profile, dice: &mut Entropy) -> Vec<(FaultKind, u64)> {
    FaultKind::ALL
        .into_iter()
        .map(|kind| {
            let base = kind.weight(profile);
            // Some runs know only some faults, so that rare combinations get room.
            let weight = if profile == Profile::Mixed && dice.percent(30) {
                0
            } else {
                base * dice.between(1, 4)
            };
            (kind, weight)
        })
        .filter(|(_, weight)| *weight > 0)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects replay: parameters follow from the seed, and wishes do not shift other draws.
    #[test]
    fn parameters_follow_from_the_seed() {
        let plain = Params::draw(5, Wishes::default());
        let again = Params::draw(
            5,
            Wishes {
                profile: Some(plain.profile),
                nodes: Some(plain.nodes.len()),
            },
        );
        assert_eq!(format!("{plain:?}"), format!("{again:?}"));
        assert!(plain.command().contains("--seed 5"));
    }

    /// Protects the demand for grants: a run of onlookers alone could not meet it.
    #[test]
    fn somebody_locks_in_every_run() {
        let complete_of = |kinds: &[Kind]| complete(kinds.to_vec(), FencePolicy::Manual);
        assert_eq!(
            complete_of(&[Kind::Spectator, Kind::Spectator]),
            [Kind::Spectator, Kind::Spectator, Kind::Locks]
        );
        assert_eq!(
            complete_of(&[Kind::Cancels]),
            [Kind::Cancels, Kind::Spectator]
        );
    }
}
