//! Replacement of disks, and other changes of the configuration.

#![allow(clippy::unwrap_used)]

mod world;

use mainstay_base::DiskId;
use mainstay_consensus::{ChangeError, Role};
use world::{FAIR, FOUL, World};

fn disks(ids: &[u64]) -> Vec<DiskId> {
    ids.iter().copied().map(DiskId).collect()
}

/// A quiet group of three whose leader is disk 1.
fn led_by_the_first() -> World {
    for seed in 0.. {
        let mut world = World::new(seed, 3, FAIR);
        world.run_until(5_000, "a leader", |world| world.leader().is_some());
        world.run(500);
        if world.leader() == Some(1) {
            return world;
        }
    }
    unreachable!("each of the three leads in one seed of three");
}

/// Asks whoever leads for a replacement, again and again, until the new disk has its vote.
fn replace(world: &mut World, old: u64, new: u64) {
    for _ in 0..600 {
        if let Some(leader) = world.leader() {
            let status = world.hosts[&leader].member.as_ref().unwrap().status();
            if status.voters.contains(&DiskId(new)) && status.outgoing.is_empty() {
                return;
            }
            let member = world.member(leader).unwrap();
            let _ = member.replace_voter(DiskId(old), DiskId(new));
            world.work(leader);
            world.propose();
        }
        world.run(200);
    }
    panic!("seed {}: disk {new} never got its vote", world.seed);
}

/// Protects a group from the loss of disks: one after the other every disk is lost for good and
/// replaced, over a foul network and with crashes, and nothing that was agreed on is lost.
#[test]
fn every_disk_is_replaced_in_turn() {
    for seed in 0..60 {
        let size = if seed % 2 == 0 { 3 } else { 5 };
        let mut world = World::new(seed, size, FOUL);
        world.run(3_000);
        let mut members: Vec<u64> = (1..=size).collect();
        for round in 0..size {
            for _ in 0..20 {
                world.propose();
                world.run(50);
            }
            let old = members.remove(0);
            let new = 100 + round;
            let survive = world.pending_writes(old);
            world.crash(old, survive);
            world.join(new);
            members.push(new);
            let mut crashed = None;
            if world.entropy.chance(1, 2) && size == 5 {
                let id = members[world.entropy.below(3) as usize];
                world.crash(id, 0);
                crashed = Some(id);
            }
            replace(&mut world, old, new);
            if let Some(id) = crashed {
                world.recover(id, &[]);
            }
            // The new disk must count before the next one may fail.
            world.run(3_000);
        }
        let before = world.agreed.len();
        assert!(before > 20, "seed {seed}: only {before} entries");
        world.converge();
        let leader = world.leader().unwrap();
        assert_eq!(world.hosts[&leader].voters, disks(&members));
        assert!(world.hosts[&leader].learners.is_empty());
    }
}

/// Protects the first replacement in a group that has never agreed on anything: the newcomer needs
/// a snapshot of a configuration that names it, though the application has nothing to save yet.
#[test]
fn a_newcomer_joins_an_idle_group() {
    let mut world = led_by_the_first();
    let survive = world.pending_writes(3);
    world.crash(3, survive);
    world.join(4);
    let member = world.member(1).unwrap();
    member.replace_voter(DiskId(3), DiskId(4)).unwrap();
    world.work(1);
    world.run_until(5_000, "the newcomer votes", |world| {
        world.hosts[&4].voters == disks(&[1, 2, 4])
    });
    assert_eq!(world.restores, 1);
    // Asked again, after the fact, it does no harm.
    let member = world.member(1).unwrap();
    assert_eq!(member.replace_voter(DiskId(3), DiskId(4)), Ok(()));
    assert_eq!(member.status().voters, disks(&[1, 2, 4]));
}

/// Protects the operator's view of a replacement: a learner that cannot be reached shows up with
/// its lag, has no vote, and gets one as soon as it has caught up.
#[test]
fn progress_of_a_learner_is_shown() {
    let mut world = led_by_the_first();
    let survive = world.pending_writes(3);
    world.crash(3, survive);
    let member = world.member(1).unwrap();
    member.replace_voter(DiskId(3), DiskId(4)).unwrap();
    world.work(1);
    world.run(1_000);
    for _ in 0..100 {
        world.propose();
        world.run(20);
    }
    let status = world.member(1).unwrap().status();
    assert_eq!(status.voters, disks(&[1, 2]));
    assert_eq!(status.learners, disks(&[4]));
    let peer = status
        .peers
        .iter()
        .find(|peer| peer.disk == DiskId(4))
        .unwrap();
    assert!(
        !peer.active && peer.matched == 0 && peer.lag > 100,
        "{peer:?}"
    );
    let member = world.member(1).unwrap();
    assert_eq!(
        member.transfer_leader(DiskId(4)),
        Err(ChangeError::NotAVoter(DiskId(4)))
    );
    world.join(4);
    world.run_until(20_000, "the newcomer votes", |world| {
        world.hosts[&1].voters == disks(&[1, 2, 4])
    });
}

/// Protects against changes that would leave nobody to decide, or that nobody meant.
#[test]
fn senseless_changes_are_refused() {
    let mut world = led_by_the_first();
    let follower = world.member(2).unwrap();
    let refusal = ChangeError::NotLeader {
        leader: Some(DiskId(1)),
    };
    assert_eq!(
        follower.replace_voter(DiskId(3), DiskId(4)),
        Err(refusal.clone())
    );
    assert_eq!(follower.transfer_leader(DiskId(3)), Err(refusal));
    let leader = world.member(1).unwrap();
    assert_eq!(
        leader.remove_voter(DiskId(1)),
        Err(ChangeError::Leader(DiskId(1)))
    );
    assert_eq!(
        leader.replace_voter(DiskId(9), DiskId(4)),
        Err(ChangeError::NotAMember(DiskId(9)))
    );
    assert_eq!(
        leader.replace_voter(DiskId(3), DiskId(3)),
        Err(ChangeError::BadNumber(DiskId(3)))
    );
    assert_eq!(
        leader.add_voter(DiskId(0)),
        Err(ChangeError::BadNumber(DiskId(0)))
    );
    assert_eq!(leader.add_voter(DiskId(2)), Ok(()));
    leader.remove_voter(DiskId(3)).unwrap();
    assert_eq!(leader.add_voter(DiskId(4)), Err(ChangeError::InProgress));
    world.work(1);
    world.run(500);
    assert_eq!(world.hosts[&1].voters, disks(&[1, 2]));
}

/// Protects leadership transfer: the chosen voter leads, without waiting for an election timeout.
#[test]
fn leadership_is_handed_over() {
    let mut world = led_by_the_first();
    world.member(1).unwrap().transfer_leader(DiskId(2)).unwrap();
    world.work(1);
    world.run_until(300, "the new leader", |world| world.hosts[&2].leads);
    assert_eq!(world.member(1).unwrap().status().role, Role::Follower);
}

/// Protects a group from a leader that is removed by a change it did not propose itself: the change
/// was in its log when it was elected. It must step down, for the library lets it lead on.
#[test]
fn a_removed_leader_steps_down() {
    let mut world = led_by_the_first();
    // The removal of the second reaches nobody but the second, and nobody hears of that.
    world.cut.extend([(1, 3), (2, 1)]);
    world.member(1).unwrap().remove_voter(DiskId(2)).unwrap();
    world.work(1);
    world.run(60);
    let survive = world.pending_writes(1);
    world.crash(1, survive);
    world.cut.clear();
    // Its log is now the longest, so it is elected, and removed by the first thing it agrees on.
    world.run_until(5_000, "the second leads", |world| world.hosts[&2].leads);
    world.run_until(500, "the second is removed", |world| {
        world.hosts[&2].voters == disks(&[1, 3]) && !world.hosts[&2].leads
    });
    assert_eq!(world.member(2).unwrap().status().role, Role::Follower);
    world.recover(1, &[]);
    world.converge();
    let leader = world.leader().unwrap();
    assert_ne!(leader, 2);
    assert_eq!(world.hosts[&leader].voters, disks(&[1, 3]));
}
