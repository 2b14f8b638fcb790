//! Safety and progress under faults, and reproducibility.

#![allow(clippy::unwrap_used)]

mod world;

use mainstay_base::DiskId;
use world::{FAIR, FOUL, World};

/// How many runs; each takes some milliseconds.
const SEEDS: u64 = 300;

/// A while of trouble: loss, duplication, reordering, partitions, slow disks, crashes and
/// recoveries. Checks of agreement run all the while in the world.
fn trouble(world: &mut World, members: u64, ms: u64) {
    let voters: Vec<DiskId> = (1..=members).map(DiskId).collect();
    let end = world.now + ms;
    while world.now < end {
        world.step();
        if world.entropy.chance(1, 8) {
            world.propose();
        }
        let id = 1 + world.entropy.below(members);
        if world.entropy.chance(1, 150) {
            if world.hosts[&id].member.is_some() {
                let pending = world.pending_writes(id) as u64;
                let survive = world.entropy.below(pending + 1);
                world.crash(id, survive as usize);
            } else {
                world.recover(id, &voters);
            }
        }
        if world.entropy.chance(1, 200) {
            let other = 1 + world.entropy.below(members);
            if !world.cut.remove(&(id, other)) {
                world.cut.insert((id, other));
            }
        }
        if world.entropy.chance(1, 400)
            && let Some(leader) = world.leader()
        {
            let to = DiskId(id);
            let _ = world.member(leader).unwrap().transfer_leader(to);
            world.work(leader);
        }
    }
}

fn mend(world: &mut World, members: u64) {
    let voters: Vec<DiskId> = (1..=members).map(DiskId).collect();
    for id in 1..=members {
        if world.hosts[&id].member.is_none() {
            world.recover(id, &voters);
        }
    }
    world.converge();
}

/// Protects the agreement itself: whatever happens to three or five members, no two of them are
/// ever told different things, nothing that was told is lost, and once the trouble ends all go on.
#[test]
fn members_agree_through_any_trouble() {
    let (mut entries, mut restores, mut replaces) = (0, 0, 0);
    for seed in 0..SEEDS {
        let members = if seed % 2 == 0 { 3 } else { 5 };
        let mut world = World::new(seed, members, FOUL);
        trouble(&mut world, members, 12_000);
        mend(&mut world, members);
        entries += world.agreed.len();
        restores += world.restores;
        replaces += world.replaces;
    }
    // The runs are worth something only if they got somewhere.
    assert!(
        entries > SEEDS as usize * 20,
        "only {entries} entries agreed on"
    );
    assert!(restores > SEEDS, "only {restores} snapshots restored");
    assert!(replaces > SEEDS, "only {replaces} logs compacted");
}

/// Protects reproducibility: the library's own random election timeouts must never show.
#[test]
fn the_same_seed_gives_the_same_run() {
    let mut distinct = std::collections::BTreeSet::new();
    for seed in 0..300 {
        let run = || {
            let mut world = World::new(seed, 3, FOUL);
            trouble(&mut world, 3, 3_000);
            (world.trace, world.writes, world.agreed.len())
        };
        let first = run();
        assert_eq!(first, run(), "seed {seed} gave two different runs");
        distinct.insert(first.0);
    }
    assert_eq!(distinct.len(), 300, "the seed must matter");
}

/// Protects a leader from its own disk: with writes that take seconds it keeps leading and its
/// followers keep hearing from it, because no heartbeat waits for a write.
#[test]
fn a_slow_disk_does_not_depose_a_leader() {
    let mut world = World::new(7, 3, FAIR);
    world.run_until(5_000, "a leader", |world| world.leader().is_some());
    world.run(500);
    let leader = world.leader().unwrap();
    let changes = world.hosts[&leader].leader_changes;
    world.weather.disk = 4_000;
    for _ in 0..30 {
        world.propose();
        world.run(200);
        assert_eq!(world.leader(), Some(leader));
    }
    assert_eq!(world.hosts[&leader].leader_changes, changes);
    world.converge();
    world.run_until(10_000, "all entries agreed on", |world| {
        world.agreed.len() >= 30
    });
}

/// Protects the log of a member that alone can decide: one that was founded alone leads at once,
/// but says so, and counts entries as agreed on, only when they are durable.
#[test]
fn a_lone_voter_waits_for_its_disk() {
    let mut world = World::new(3, 1, FAIR);
    world.weather.disk = 3_000;
    for _ in 0..1_000 {
        world.step();
        world.propose();
        let pending = world.pending_writes(1);
        world.crash(1, pending / 2);
        world.recover(1, &[DiskId(1)]);
        world.run(100);
    }
    world.converge();
    assert!(world.hosts[&1].leads);
}
