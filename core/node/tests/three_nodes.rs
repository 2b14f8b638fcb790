//! The main stories, on a world in which nothing goes wrong but what the story says.

#![allow(missing_docs)]

mod world;

use mainstay_base::{FencePolicy, LockMode, NodeId, SessionId};
use mainstay_node::Input;
use mainstay_wire::{
    client::{Answer, Ask, Handle, ToClient},
    event::{Event, Reason, What},
    lock::{Flags, Refusal},
};
use std::time::Duration;
use world::World;

const N1: NodeId = NodeId(1);
const N2: NodeId = NodeId(2);
const N3: NodeId = NodeId(3);

fn cluster() -> World {
    let mut world = World::new(3, FencePolicy::Lease);
    world.settle();
    world
}

/// Protects the main job: a lock goes from a node to the next, with a larger token.
#[test]
fn a_lock_moves_between_nodes() {
    let mut w = cluster();
    w.open(N1, 1);
    w.open(N2, 2);
    let space = w.space(N1, 1);
    let first = w.ask(
        N1,
        1,
        World::lock_ask(1, space, "disk", LockMode::Ex, Flags::NONE),
    );
    let first = w.token(N1, first);
    let second = w.ask(
        N2,
        2,
        World::lock_ask(1, space, "disk", LockMode::Ex, Flags::NONE),
    );
    w.run(Duration::from_millis(50));
    assert!(w.result(N2, second).is_none(), "n1 holds it");
    let blocked = ToClient::Blocking {
        handle: Handle(1),
        mode: LockMode::Ex,
    };
    assert!(
        w.hosts[&N1].heard.contains(&(SessionId(1), blocked)),
        "n1 is told"
    );
    w.ask(
        N1,
        1,
        Ask::Unlock {
            handle: Handle(1),
            flags: Flags::NONE,
            value: None,
        },
    );
    assert!(w.token(N2, second) > first);
}

/// Protects failover: kill -9 of the holder's node, whoever masters, gives the lock to the waiter
/// only after proof.
#[test]
fn a_dead_holders_lock_goes_to_the_waiter_after_proof() {
    for victim in [N1, N2, N3] {
        let mut w = cluster();
        for (node, session) in [(N1, 1), (N2, 2), (N3, 3)] {
            w.open(node, session);
            w.space(node, session);
        }
        let space = w.space(victim, u64::from(victim.0));
        let ask = |name: &str| World::lock_ask(1, space, name, LockMode::Ex, Flags::NONE);
        let held = w.ask(victim, u64::from(victim.0), ask("disk"));
        let held = w.token(victim, held);
        let waiter = if victim == N1 { N2 } else { N1 };
        let waiting = w.ask(waiter, u64::from(waiter.0), ask("disk"));
        w.run(Duration::from_millis(100));
        let lease_end = w.hosts[&victim].lease;
        w.kill(victim);
        let token = w.token(waiter, waiting);
        assert!(token > held, "{token:?} after {held:?}");
        assert!(
            w.now >= lease_end,
            "granted before the dead node's lease was over"
        );
        let fenced = w.hosts[&waiter]
            .events
            .iter()
            .any(|e| matches!(e.what, What::Fenced { node, .. } if node == victim));
        assert!(fenced, "no proof was seen");
        w.start(victim);
        w.settle();
    }
}

/// Protects S2 and queue order: the master dies, holders keep, waiters keep their places.
#[test]
fn a_dead_masters_queue_is_rebuilt_in_order() {
    let mut w = World::new(5, FencePolicy::Lease);
    w.settle();
    for node in 1..=5 {
        w.open(NodeId(node), u64::from(node));
    }
    let space = w.space(N1, 1);
    let ask = |handle| World::lock_ask(handle, space, "disk", LockMode::Ex, Flags::NONE);
    // n1 becomes the master, being the first user, then holds nothing.
    let first = w.ask(N1, 1, ask(1));
    w.granted(N1, first);
    let holder = w.ask(N2, 2, ask(1));
    w.ask(
        N1,
        1,
        Ask::Unlock {
            handle: Handle(1),
            flags: Flags::NONE,
            value: None,
        },
    );
    let held = w.token(N2, holder);
    let mut waiting = Vec::new();
    for node in [5, 3, 4] {
        waiting.push((NodeId(node), w.ask(NodeId(node), u64::from(node), ask(1))));
        w.run(Duration::from_millis(10));
    }
    w.kill(N1);
    w.run(Duration::from_secs(4));
    for (node, request) in &waiting {
        assert!(w.result(*node, *request).is_none(), "n2 still holds");
    }
    let mut last = held;
    let mut holder = N2;
    for (node, request) in waiting {
        w.ask(
            holder,
            u64::from(holder.0),
            Ask::Unlock {
                handle: Handle(1),
                flags: Flags::NONE,
                value: None,
            },
        );
        let token = w.token(node, request);
        assert!(token > last);
        (last, holder) = (token, node);
    }
}

/// Protects S3: a published value survives its writer's unlock and its master's death, as long as
/// somebody keeps the resource.
#[test]
fn a_value_block_survives_the_master() {
    let mut w = cluster();
    for (node, session) in [(N1, 1), (N2, 2), (N3, 3)] {
        w.open(node, session);
    }
    let space = w.space(N1, 1);
    let ask = |mode| World::lock_ask(1, space, "counter", mode, Flags::VALBLK);
    for (node, session) in [(N1, 1), (N2, 2), (N3, 3)] {
        let request = w.ask(node, session, ask(LockMode::Nl));
        w.granted(node, request);
    }
    for (round, (node, session)) in [(N2, 2), (N3, 3), (N2, 2)].into_iter().enumerate() {
        let up = w.ask(node, session, World::convert_ask(1, LockMode::Ex, None));
        let value = w.granted(node, up).value.expect("read under EX");
        assert_eq!(value.version.0, round as u64);
        let bytes = (round as u64 + 1).to_le_bytes();
        let down = w.ask(
            node,
            session,
            World::convert_ask(1, LockMode::Pr, Some(&bytes)),
        );
        w.granted(node, down);
        if round < 2 {
            let down = w.ask(node, session, World::convert_ask(1, LockMode::Nl, None));
            w.granted(node, down);
        }
    }
    w.kill(N1);
    let read = w.ask(N3, 3, World::convert_ask(1, LockMode::Pr, None));
    let value = w.granted(N3, read).value.expect("read under PR");
    assert_eq!(
        (value.version.0, value.maybe_stale),
        (3, false),
        "n2 holds PR and vouches for it"
    );
    assert_eq!(value.block.as_bytes()[0], 3);
}

/// Protects S5: a minority grants nothing, and its clients know when their locks ended.
#[test]
fn a_minority_suspends_and_comes_back() {
    let mut w = cluster();
    w.open(N1, 1);
    w.open(N2, 2);
    let space = w.space(N1, 1);
    let held = w.ask(
        N1,
        1,
        World::lock_ask(1, space, "disk", LockMode::Ex, Flags::NONE),
    );
    w.granted(N1, held);
    let waiting = w.ask(
        N2,
        2,
        World::lock_ask(1, space, "disk", LockMode::Ex, Flags::NONE),
    );
    for other in [N2, N3] {
        w.cut.insert((N1, other));
        w.cut.insert((other, N1));
    }
    w.until("n1 lost its lease", |w| w.hosts[&N1].lease <= w.now);
    assert!(
        w.result(N2, waiting).is_none(),
        "n2 was granted while n1 may still have written"
    );
    w.granted(N2, waiting);
    let try_lock = World::lock_ask(2, space, "other", LockMode::Ex, Flags::NOQUEUE);
    let refused = w.ask(N1, 1, try_lock);
    assert_eq!(w.wait(N1, refused), Err(Refusal::NoQuorum));
    w.cut.clear();
    w.settle();
    let reborn = w.hosts[&N1].events.iter().any(|e| e.what == What::Reborn);
    assert!(reborn, "it was removed, so it must have started anew");
}

/// Protects the clean leave: nobody waits for a lease, and values are not in doubt.
#[test]
fn a_clean_leave_hands_over() {
    let mut w = cluster();
    w.open(N1, 1);
    w.open(N2, 2);
    let space = w.space(N1, 1);
    let ask = |mode| World::lock_ask(1, space, "counter", mode, Flags::VALBLK);
    let first = w.ask(N1, 1, ask(LockMode::Ex));
    w.granted(N1, first);
    let nl = w.ask(
        N2,
        2,
        World::lock_ask(
            7,
            space,
            "counter",
            LockMode::Nl,
            Flags::EXPEDITE | Flags::VALBLK,
        ),
    );
    w.granted(N2, nl);
    let down = w.ask(
        N1,
        1,
        World::convert_ask(1, LockMode::Nl, Some(b"precious")),
    );
    w.granted(N1, down);
    w.input(
        N1,
        Input::SessionClosed {
            session: SessionId(1),
        },
    );
    w.input(N1, Input::Stop);
    w.until("n1 stopped", |w| w.hosts[&N1].stopped.is_some());
    let up = w.ask(N2, 2, World::convert_ask(7, LockMode::Pr, None));
    let value = w.granted(N2, up).value.expect("read");
    assert_eq!(&value.block.as_bytes()[..8], b"precious");
    assert!(!value.maybe_stale);
    let waited = w.hosts[&N2]
        .events
        .iter()
        .any(|e| matches!(e.what, What::Fenced { .. }));
    assert!(waited, "a clean leave is a proof too");
}

/// Protects a node that leaves from being taken for dead: it drops its clients' locks, however many, in
/// slices, and is let go all the same.
#[test]
fn a_leaving_node_drops_locks_in_slices() {
    let (mut w, space) = World::three();
    let asks: Vec<u64> = (0..1500)
        .map(|n| {
            let name = format!("r{n}");
            let ask = World::lock_ask(n, space, &name, LockMode::Ex, Flags::NONE);
            w.ask(N1, 1, ask)
        })
        .collect();
    for request in asks {
        w.granted(N1, request);
    }
    w.input(N1, Input::Stop);
    let mut held = Vec::new();
    w.until("n1 stopped", |w| {
        if let Some(node) = &w.hosts[&N1].node {
            let counts = node.lock_manager().counts();
            held.push(counts.values().map(|space| space.locks).sum::<u64>());
        }
        w.hosts[&N1].stopped.is_some()
    });
    assert_eq!((held.first(), held.last()), (Some(&1500), Some(&0)));
    let largest = held.windows(2).map(|pair| pair[0] - pair[1]).max();
    assert!(largest <= Some(600), "{held:?}");
    let left = |event: &Event| {
        matches!(&event.what, What::MemberLeft { .. }) && event.reason == Reason::LeftCleanly
    };
    assert!(w.hosts[&N2].events.iter().any(left), "it was removed");
}

/// Protects the manual policy: nothing is granted until an operator vouches by name.
#[test]
fn manual_fencing_waits_for_the_operator() {
    let mut w = World::new(3, FencePolicy::Manual);
    w.settle();
    w.open(N1, 1);
    w.open(N2, 2);
    let space = w.space(N1, 1);
    let held = w.ask(
        N1,
        1,
        World::lock_ask(1, space, "disk", LockMode::Ex, Flags::NONE),
    );
    w.granted(N1, held);
    let waiting = w.ask(
        N2,
        2,
        World::lock_ask(1, space, "disk", LockMode::Ex, Flags::NONE),
    );
    w.run(Duration::from_millis(50));
    w.kill(N1);
    w.run(Duration::from_secs(10));
    assert!(w.result(N2, waiting).is_none(), "granted without proof");
    let node = mainstay_base::NodeName::new("n1").expect("valid");
    let vouch = w.ask(N2, 2, Ask::Vouch { node });
    assert!(matches!(w.wait(N2, vouch), Ok(Answer::Vouched { .. })));
    w.granted(N2, waiting);
}

/// Protects D1: all nodes lose power at once; the cluster comes back as what it was.
#[test]
fn the_cluster_survives_the_death_of_all() {
    let mut w = cluster();
    w.open(N1, 1);
    let space = w.space(N1, 1);
    let epoch = w.hosts[&N2]
        .node
        .as_ref()
        .expect("runs")
        .cluster_state()
        .view()
        .epoch;
    for node in [N1, N2, N3] {
        w.kill(node);
    }
    for node in [N1, N2, N3] {
        w.start(node);
    }
    w.settle();
    let state = w.hosts[&N2].node.as_ref().expect("runs").cluster_state();
    assert!(state.view().epoch > epoch);
    assert_eq!(state.lockspaces().count(), 1);
    w.open(N2, 5);
    let request = w.ask(
        N2,
        5,
        World::lock_ask(1, space, "disk", LockMode::Ex, Flags::NONE),
    );
    w.granted(N2, request);
}
