//! A recovery that waits for a node to take what it is told, where that node takes nothing.

#![allow(missing_docs)]

#[allow(dead_code, reason = "other tests use the rest")]
mod world;

use mainstay_base::{FencePolicy, LockMode, LockspaceId, NodeId};
use mainstay_wire::{
    event::What,
    lock::{Flags, Granted},
};
use std::time::Duration;
use world::World;

const N1: NodeId = NodeId(1);
const N2: NodeId = NodeId(2);
const N3: NodeId = NodeId(3);
/// Far more than are said in one window or slice.
const NAMES: u64 = 64;

fn lock(w: &mut World, node: NodeId, space: LockspaceId, n: u64, mode: LockMode) -> Granted {
    let handle = u64::from(mode == LockMode::Ex) * NAMES + n;
    let ask = World::lock_ask(handle, space, &format!("r{n}"), mode, Flags::NONE);
    let request = w.ask(node, u64::from(node.0), ask);
    w.granted(node, request)
}

fn restated(w: &World, node: NodeId) -> bool {
    let node = w.hosts[&node].node.as_ref().expect("it runs");
    node.lock_manager().has_restated()
}

/// Node 2 restates to node 3 what node 1 mastered, and waits for it to take the first of that.
fn restating() -> (World, LockspaceId) {
    let mut w = World::configured(3, FencePolicy::Lease, |config| {
        config.window = 1;
        // All are restated within five milliseconds where nothing is held back.
        config.slice = 128;
    });
    w.settle();
    let mut space = None;
    for node in [N1, N2, N3] {
        w.open(node, u64::from(node.0));
        space = Some(w.space(node, u64::from(node.0)));
    }
    let space = space.expect("three nodes opened it");
    for node in [N1, N2] {
        for n in 0..NAMES {
            lock(&mut w, node, space, n, LockMode::Nl);
        }
    }
    w.kill(N1);
    w.until("node 2 restates", |w| {
        let mut events = w.hosts[&N2].events.iter();
        let proved = events.any(|event| matches!(event.what, What::Fenced { node: N1, .. }));
        proved && !restated(w, N2)
    });
    (w, space)
}

/// Protects the others: whoever is not heard any more is waited for no longer than until that shows, which is
/// long before it is removed.
#[test]
fn a_silent_node_is_not_waited_for() {
    let (mut w, _) = restating();
    w.cut.insert((N3, N2));
    w.run(Duration::from_millis(20));
    assert!(!restated(&w, N2), "nothing was held back");
    let began = w.now;
    w.until("node 2 has restated", |w| restated(w, N2));
    let waited = w.now.since(began);
    // That it is gone the members find after a second.
    assert!(waited < Duration::from_millis(700), "{waited:?}");
}

/// Protects what was lost: what was on its way to a life that ends, and what was held back behind it, is
/// restated again and can be locked.
#[test]
fn a_new_life_is_told_all() {
    let (mut w, space) = restating();
    w.kill(N3);
    w.run(Duration::from_millis(20));
    assert!(!restated(&w, N2), "nothing was held back");
    w.start(N3);
    for n in 0..NAMES {
        lock(&mut w, N2, space, n, LockMode::Ex);
    }
    assert!(restated(&w, N2));
}
