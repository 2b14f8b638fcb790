//! A crash at every single write.

#![allow(clippy::unwrap_used)]

mod world;

use mainstay_base::DiskId;
use world::{CrashAt, FAIR, World};

/// A short life of three members, with compaction, a change of leader, a follower that needs a
/// snapshot, and the replacement of a lost disk. Whoever crashes is started again soon.
fn life(crash_at: Option<CrashAt>) -> World {
    let voters = [DiskId(1), DiskId(2), DiskId(3)];
    let mut world = World::with_snapshots(11, 3, FAIR, 6);
    world.crash_at = crash_at;
    let mut retired = false;
    for round in 0..70 {
        for step in 0..10 {
            world.step();
            if step % 5 == 0 {
                world.propose();
            }
        }
        let ids: Vec<u64> = world.hosts.keys().copied().collect();
        for id in ids {
            if world.hosts[&id].member.is_none() && !(retired && id == 3) {
                world.recover(id, &voters);
            }
        }
        match round {
            20 => {
                if let Some(leader) = world.leader() {
                    let to = DiskId(1 + leader % 3);
                    let _ = world.member(leader).unwrap().transfer_leader(to);
                    world.work(leader);
                }
            }
            25 => world.cut.extend([(1, 2), (2, 1), (2, 3), (3, 2)]),
            32 => world.cut.clear(),
            40 => {
                // The disk of the third is lost; its node comes back with another.
                let pending = world.pending_writes(3);
                world.crash(3, pending);
                retired = true;
                world.join(4);
            }
            _ => {}
        }
        if (41..60).contains(&round)
            && let Some(leader) = world.leader()
        {
            let member = world.member(leader).unwrap();
            let _ = member.replace_voter(DiskId(3), DiskId(4));
            world.work(leader);
        }
    }
    world.converge();
    world.run_until(5_000, "the new disk votes", |world| {
        let voters = [DiskId(1), DiskId(2), DiskId(4)];
        [1, 2, 4].iter().all(|id| world.hosts[id].voters == voters)
    });
    world
}

/// Protects the promise that one record is one atomic step: a member that crashes at any write,
/// with or without that record on its disk, starts again and the group goes on.
#[test]
fn a_crash_at_any_write_is_survived() {
    let quiet = life(None);
    assert!(quiet.writes > 300, "only {} writes", quiet.writes);
    assert!(quiet.replaces > 10 && quiet.restores > 0);
    for write in 1..=quiet.writes {
        for written in [false, true] {
            life(Some(CrashAt { write, written }));
        }
    }
}
