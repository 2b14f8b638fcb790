//! Three lock managers, whose messages and whose log the test carries by hand: calls that go astray.

#![allow(missing_docs, clippy::unwrap_used)]

mod three;

use mainstay_base::{LockMode, SessionId};
use mainstay_dlm::IDLE;
use mainstay_wire::{
    client::{Answer, Handle},
    lock::{Flags, Refusal},
};
use three::{World, name_at};

/// Node 1 takes node 2 for the master of the name, as it once was. It has sent back one call, with
/// handle 2, and has another, with handle 3, which it keeps because it is about to become the master
/// again. Node 1 has heard of neither, and of the master that there is: node 3,
/// which holds the lock.
fn astray() -> (World, String, u64) {
    let (mut world, name) = (World::eager(), name_at(3));
    world.lock(2, 1, &name, LockMode::Nl, Flags::NONE);
    world.lock(1, 1, &name, LockMode::Nl, Flags::NONE);
    world.unlock(1, 1);
    world.unlock(2, 1);
    world.now = world.now + IDLE * 2;
    for _ in 0..2 {
        let now = world.now;
        world.nodes.get_mut(&2).unwrap().tick(now);
        world.settle();
    }
    assert_eq!(world.masters(), [0; 0], "node 2 has forgotten it");
    world.lock(3, 1, &name, LockMode::Ex, Flags::NONE);
    assert_eq!(world.masters(), [3]);
    world.use_much(2, &name);
    world.parted = Some((2, 1));
    world.lock(1, 2, &name, LockMode::Ex, Flags::NONE);
    world.now = world.now + core::time::Duration::from_millis(500);
    let now = world.now;
    world.nodes.get_mut(&3).unwrap().tick(now);
    world.settle();
    assert_eq!(world.proposed.len(), 1, "it is to move to node 2");
    let kept = world.lock(1, 3, &name, LockMode::Ex, Flags::NONE);
    (world, name, kept)
}

/// The word that the first call came back arrives, and node 3's not yet.
fn sent_back(world: &mut World) {
    (world.silent, world.parted) = (Some(3), None);
    world.settle();
}

/// The move takes place, and node 3 is heard again.
fn moved(world: &mut World) {
    world.silent = None;
    assert_eq!(world.commit(true), 1);
    assert_eq!(world.masters(), [2]);
}

/// Another may have the lock once these of node 1 are unlocked, after that of node 3.
fn is_free(world: &mut World, name: &str, granted: &[u64]) {
    world.unlock(3, 1);
    for handle in granted {
        let asked = world.unlock(1, *handle);
        let answer = &world.answers[&(1, asked)];
        assert!(answer.is_ok(), "handle {handle}: {answer:?}");
    }
    let free = world.lock(2, 5, name, LockMode::Ex, Flags::NONE);
    assert!(world.granted(2, free).is_some(), "nobody holds it");
}

/// Protects against a lock that nobody holds: a call is cancelled, which the node has that it was
/// sent to and that is about to be the master, after that node has sent another call back.
#[test]
fn a_cancel_follows_its_call() {
    let (mut world, name, kept) = astray();
    sent_back(&mut world);
    let (now, cancel) = (world.now, 5000);
    let owner = world.nodes.get_mut(&1).unwrap();
    owner.cancel(now, SessionId(1), cancel, Handle(3));
    world.settle();
    moved(&mut world);
    let answer = world.answers.get(&(1, kept));
    assert_eq!(answer, Some(&Err(Refusal::Cancelled)));
    let answer = world.answers.get(&(1, cancel));
    assert_eq!(answer, Some(&Ok(Answer::Cancelled)));
    is_free(&mut world, &name, &[2]);
}

/// Protects against the same where the client is gone.
#[test]
fn the_end_of_a_client_follows_its_calls() {
    let (mut world, name, _) = astray();
    sent_back(&mut world);
    let now = world.now;
    let owner = world.nodes.get_mut(&1).unwrap();
    owner.close_session(now, SessionId(1));
    world.settle();
    moved(&mut world);
    is_free(&mut world, &name, &[]);
}

/// Protects calls from being lost or granted twice: one that came back waits for the fate of the
/// other, which the next master keeps, or sends back too where it does not become the master.
#[test]
fn what_came_back_is_asked_for_again() {
    for (done, order) in [(true, [3, 2]), (false, [2, 3])] {
        let (mut world, name, _) = astray();
        sent_back(&mut world);
        world.silent = None;
        assert_eq!(world.commit(done), 1);
        is_free(&mut world, &name, &order);
    }
}
