use super::world::World;
use crate::{Command, Output};
use mainstay_base::{Instant, LinkId, NodeId};
use mainstay_fencing::Proof;
use mainstay_wire::event::Reason;

fn removals(world: &World) -> Vec<(u16, Reason, String)> {
    let removal = |(_, command): &(u64, Command)| match command {
        Command::Remove {
            node,
            reason,
            detail,
            ..
        } => Some((node.0, *reason, detail.clone())),
        _ => None,
    };
    world.committed.iter().filter_map(removal).collect()
}

fn not_pending(world: &World) -> bool {
    world.truth.view().pending.is_empty()
}

/// Protects the first start: fresh nodes become one cluster by themselves, founded once.
#[test]
fn fresh_nodes_found_one_cluster() {
    for votes in [&[1][..], &[1, 1], &[1, 1, 1], &[0, 1, 1, 1, 1]] {
        let world = World::running(votes, 1);
        let id = world.truth.id();
        assert!(id.is_some());
        for host in world.hosts.values() {
            assert_eq!(host.founding.as_ref().map(|f| f.id), id);
        }
        assert_eq!(removals(&world), [], "nobody had to be removed");
        assert_eq!(world.complaints, [""; 0]);
    }
}

/// Protects against half a founding: with a voter missing nobody founds, and the founder says why.
#[test]
fn the_founder_waits_for_every_voter() {
    let mut world = World::new(&[1, 1, 1], 1, 2);
    world.boot(1);
    world.boot(2);
    world.run(5000);
    assert_eq!(world.truth.id(), None);
    let why = world.agent(1).why_not_member(world.clock(1));
    let why = why.expect("it is no member");
    assert!(why.contains("n3"), "{why}");
    world.boot(3);
    world.run_until("the missing voter came", 5000, World::all_well);
}

/// Protects the record of the founding: a node that lost its disk is taken in again under its new
/// one, be it the founder, and no second cluster comes about.
#[test]
fn a_node_that_lost_its_disk_is_taken_in_again() {
    for node in [1, 3] {
        let mut world = World::running(&[1, 1, 1], 3);
        let id = world.truth.id();
        world.kill(node);
        world.lose_disk(node);
        world.boot(node);
        world.run_until("all are members again", 10_000, World::all_well);
        assert_eq!(world.truth.id(), id);
        assert_eq!(world.truth.disk(NodeId(node)), Some(world.host(node).disk));
    }
}

/// Protects recovery time: with default timings a killed node is out after 1.0 s of silence and
/// proved harmless after 1.57 s, plus what heartbeats and clocks add.
#[test]
fn a_killed_node_is_removed_and_then_proved_harmless() {
    for seed in 0..6 {
        let mut world = World::running(&[1, 1, 1], seed);
        world.set_leader(1);
        world.run(500);
        world.kill(3);
        let out = world.run_until("n3 is out", 1200, |w| w.members() == [1, 2]);
        assert!((880..=1120).contains(&out), "removed after {out} ms");
        assert!(!not_pending(&world), "nothing is proved yet");
        let why = world.agent(1).why_pending(world.clock(1));
        assert!(
            why[0].waits_for.starts_with("lease: "),
            "{}",
            why[0].waits_for
        );
        let proved = out + world.run_until("n3 is proved harmless", 900, not_pending);
        assert!((1440..=1720).contains(&proved), "proved after {proved} ms");
        let [(3, Reason::HeartbeatsMissed, detail)] = &removals(&world)[..] else {
            panic!("{:?}", removals(&world));
        };
        assert!(detail.starts_with("nothing heard for 1."), "{detail}");
        assert!(detail.ends_with("on links 0"), "{detail}");
        assert!(world.has_lease(1) && world.has_lease(2));
    }
}

/// Protects the quick return: a restarted node is a member again at once, its past pending.
#[test]
fn a_restarted_node_joins_before_its_past_is_proved() {
    let mut world = World::running(&[1, 1, 1], 4);
    world.kill(2);
    world.boot(2);
    let back = world.run_until("n2 is back", 900, |w| {
        w.truth.view().has_boot(NodeId(2), w.host(2).boot)
    });
    assert!(back < 600, "{back} ms");
    assert!(world.truth.view().pending[0].reason == Reason::Restarted);
    world.run_until("its past is proved", 2500, World::all_well);
    assert_eq!(removals(&world), []);
}

/// Protects S1 and S5: a paused node's lease runs out before the proof, it finds itself removed and
/// begins a new life. (The world checks every proof against the holder's own clock.)
#[test]
fn a_paused_node_begins_a_new_life() {
    for seed in 0..6 {
        let mut world = World::running(&[1, 1, 1], seed);
        let boot = world.host(2).boot;
        world.pause(2, 4000);
        world.run_until("n2 is proved harmless", 3000, |w| {
            w.members() == [1, 3] && not_pending(w)
        });
        assert!(!world.has_lease(2));
        world.run_until("n2 is a member again", 5000, World::all_well);
        assert_ne!(world.host(2).boot, boot);
        assert_eq!(world.host(2).lives_lost.len(), 1);
        assert_eq!(removals(&world).len(), 1);
    }
}

/// Protects against false alarms: whoever was paused itself does not hold the others for dead, though
/// it has heard nothing of them for longer than the dead time.
#[test]
fn nodes_that_were_all_paused_remove_nobody() {
    for seed in 0..8 {
        let mut world = World::running(&[1, 1, 1], seed);
        for node in 1..=3 {
            world.pause(node, 2000 + u64::from(node) * 150);
        }
        world.run(4000);
        assert_eq!(removals(&world), [], "seed {seed}");
        assert!(world.all_well());
    }
}

/// Protects against pauses shorter than the dead time.
#[test]
fn a_short_pause_costs_nothing() {
    let mut world = World::running(&[1, 1, 1], 6);
    world.set_leader(1);
    world.pause(2, 800);
    world.run(3000);
    assert_eq!(removals(&world), []);
    assert!(world.all_well());
}

/// Protects S5: a minority loses its lease and stays suspended; it is taken in when it is heard again.
#[test]
fn a_cut_off_node_loses_its_lease() {
    let mut world = World::running(&[1, 1, 1, 1, 1], 7);
    world.isolate(4);
    world.run_until("n4 is proved harmless", 4000, |w| {
        w.members() == [1, 2, 3, 5] && not_pending(w)
    });
    assert!(!world.has_lease(4));
    world.run(3000);
    assert!(!world.has_lease(4));
    world.heal();
    world.run_until("n4 is back", 4000, World::all_well);
}

/// Protects a cluster in which everybody is cut off: nobody is removed for a loss of quorum, all
/// suspend, and all go on as they were.
#[test]
fn without_a_majority_nobody_is_removed() {
    let mut world = World::running(&[1, 1, 1], 8);
    let epoch = world.truth.view().epoch;
    for node in 1..=3 {
        world.isolate(node);
    }
    world.run(5000);
    assert!((1..=3).all(|n| !world.has_lease(n)));
    world.heal();
    world.run_until("leases are back", 3000, World::all_well);
    assert_eq!(world.truth.view().epoch, epoch);
}

/// Protects lock traffic between members: of two that do not hear each other one must go, though the
/// leader hears both, and it is not let in again before they do.
#[test]
fn of_two_that_do_not_hear_each_other_one_goes() {
    for (from, to, both) in [(2, 3, true), (2, 3, false), (3, 2, false)] {
        let mut world = World::running(&[1, 1, 1], 9);
        world.set_leader(1);
        if both {
            world.cut_pair(from, to);
        } else {
            world.cut_way(from, to);
        }
        world.run_until("n3 is out", 4000, |w| w.members() == [1, 2]);
        world.run(3000);
        assert_eq!(world.members(), [1, 2], "no flapping");
        let list = removals(&world);
        assert_eq!(list.len(), 1);
        assert_eq!((list[0].0, list[0].1), (3, Reason::MembersDisconnected));
        let why = world.agent(3).why_not_member(world.clock(3));
        assert!(why.is_some_and(|why| why.contains("n2")));
        world.heal();
        world.run_until("n3 is back", 4000, World::all_well);
    }
}

/// Protects a clean leave: nothing is pending, and a leader leaves after handing over.
#[test]
fn a_node_leaves_cleanly_even_as_leader() {
    for leader in [1, 2] {
        let mut world = World::running(&[1, 1, 1], 10);
        world.set_leader(leader);
        world.run(100);
        world.leave(2);
        assert!(!world.has_lease(2), "the lease ends before the leave");
        world.run_until("n2 left", 1500, |w| w.host(2).left);
        assert_eq!(world.members(), [1, 3]);
        assert!(not_pending(&world));
        assert_ne!(world.leader, Some(NodeId(2)));
        world.run(2000);
        assert_eq!(removals(&world), []);
    }
}

/// Protects a cluster of one, which has nobody to hand over to.
#[test]
fn a_lone_node_lives_and_leaves() {
    let mut world = World::running(&[1], 11);
    world.run(3000);
    assert!(world.has_lease(1));
    world.leave(1);
    world.run_until("n1 left", 1500, |w| w.host(1).left);
}

/// Protects the manual policy: time proves nothing, an operator does, by name.
#[test]
fn under_the_manual_policy_an_operator_must_vouch() {
    let mut world = World::new(&[1, 1, 1], 1, 12).manual();
    world.boot_all();
    world.run_until("all are members", 5000, World::all_well);
    world.kill(2);
    world.run(20_000);
    assert_eq!(world.truth.view().pending.len(), 1);
    let why = world.agent(1).why_pending(world.clock(1));
    assert!(why[0].waits_for.contains("mainstay vouch n2"));
    world.vouch(2, "ada");
    assert!(not_pending(&world));
    let last = world.truth.fenced().last().expect("a record");
    let operator = "ada".to_owned();
    assert_eq!(last.record.proof, Proof::OperatorVouched { operator });
}

/// Protects redundant links: the loss of one costs nothing but an event.
#[test]
fn the_loss_of_one_link_of_two_removes_nobody() {
    let mut world = World::new(&[1, 1, 1], 2, 13);
    world.boot_all();
    world.run_until("all are members", 5000, World::all_well);
    for node in [2, 3] {
        world.cut.insert((NodeId(1), NodeId(node), LinkId(0)));
        world.cut.insert((NodeId(node), NodeId(1), LinkId(0)));
    }
    let down = (NodeId(2), LinkId(0));
    world.run_until("the link is down", 1000, |w| {
        !w.host(1).links_up.contains(&down)
    });
    assert_eq!(world.agent(1).links_up(NodeId(2)).next(), Some(LinkId(1)));
    world.run(3000);
    assert!(world.all_well());
    assert_eq!(removals(&world), []);
    world.heal();
    world.run_until("the link is up", 1000, |w| {
        w.host(1).links_up.contains(&down)
    });
    assert_eq!(world.agent(1).links_up(NodeId(2)).next(), Some(LinkId(0)));
}

/// Protects D1: after a power failure of all nodes the cluster comes back by itself, also if one
/// node never returns.
#[test]
fn all_nodes_restart_at_once() {
    let mut world = World::running(&[1, 1, 1], 14);
    for node in 1..=3 {
        world.kill(node);
    }
    world.run(500);
    world.boot(1);
    world.boot(2);
    world.run_until("two are quorate", 8000, |w| {
        w.members() == [1, 2] && not_pending(w) && w.has_lease(1) && w.has_lease(2)
    });
    world.boot(3);
    world.run_until("the third is back", 4000, World::all_well);
}

/// Protects an eager reader of the lease: it is in the future while all is well, and never further
/// than its length.
#[test]
fn a_lease_is_never_longer_than_its_length() {
    let mut world = World::running(&[1, 1, 1], 15);
    for _ in 0..2000 {
        world.run(1);
        for node in 1..=3 {
            let (until, now) = (world.agent(node).lease_until(), world.clock(node));
            let left = until.since(now).as_millis();
            assert!((1..=1500).contains(&left), "{left} ms left");
        }
    }
    assert_ne!(world.agent(1).lease_until(), Instant::ZERO);
}

/// Protects the start of a lease: it counts from the sending of the heartbeat, so promises that are
/// long on the way make it no longer. (The world checks the proof against the lease.)
#[test]
fn a_late_promise_makes_no_longer_lease() {
    for seed in 0..6 {
        let mut world = World::running(&[1, 1, 1], seed);
        world.set_leader(1);
        world.slow_to = Some((NodeId(3), 400));
        world.run(3000);
        assert!(world.has_lease(3));
        world.cut_way(3, 1);
        world.cut_way(3, 2);
        world.run_until("n3 is proved harmless", 4000, |w| {
            w.members() == [1, 2] && not_pending(w)
        });
    }
}

/// Protects against hostile or damaged bytes: they make a complaint, one per text, and change nothing.
#[test]
fn garbage_makes_one_complaint_and_nothing_else() {
    let mut world = World::running(&[1, 1, 1], 16);
    let clock = world.clock(1);
    let agent = world.host_mut(1).agent.as_mut().expect("a running node");
    let mut out = Vec::new();
    for _ in 0..3 {
        agent.receive(clock, NodeId(2), LinkId(0), &[0xff; 40], &mut out);
        agent.receive(clock, NodeId(9), LinkId(0), &[1, 1, 1, 1, 0, 1], &mut out);
    }
    let complaints = out.iter().filter(|o| matches!(o, Output::Complaint { .. }));
    assert_eq!((complaints.count(), out.len()), (2, 2));
}

/// Protects S4 and L1 under arbitrary faults: no lease is valid when it is said to have run out (the
/// world checks each such proposal), and once the faults stop everybody is a member again.
#[test]
fn no_lease_outlives_its_proof_under_any_faults() {
    let mut proofs = 0;
    for seed in 0..60 {
        let votes: &[u32] = match seed % 4 {
            0 => &[1, 1, 1],
            1 => &[1, 1, 1, 1, 1],
            2 => &[2, 1, 1, 1],
            _ => &[1, 1],
        };
        let nodes = votes.len() as u64;
        let mut world = World::running(votes, 1000 + seed);
        for _ in 0..40 {
            let node = 1 + world.entropy.below(nodes) as u16;
            let other = 1 + world.entropy.below(nodes) as u16;
            match world.entropy.below(12) {
                0 | 1 => world.kill(node),
                2..=4 => world.boot(node),
                5 => {
                    let ms = 50 + world.entropy.below(4000);
                    world.pause(node, ms);
                }
                6 => world.isolate(node),
                7 if other != node => world.cut_way(node, other),
                8 => world.heal(),
                9 => world.delay_ms = 1 + world.entropy.below(300),
                10 => world.loss = world.entropy.below(400),
                _ => world.set_leader(node),
            }
            let ms = world.entropy.below(1200);
            world.run(ms);
        }
        world.heal();
        (world.delay_ms, world.loss) = (2, 0);
        world.run(4000);
        world.boot_all();
        world.run_until(&format!("seed {seed} recovers"), 12_000, World::all_well);
        let fenced = world.truth.fenced();
        proofs += fenced
            .filter(|f| f.record.proof == Proof::LeaseExpired)
            .count();
    }
    assert!(proofs > 200, "only {proofs} proofs were put to the test");
}
