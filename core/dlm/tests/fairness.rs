//! What a lockspace says of fairness, on the owner's side and over nodes.

#![allow(clippy::unwrap_used, missing_docs)]

mod three;

use mainstay_base::{Fairness, LockMode, LockspaceId, Order};
use mainstay_wire::{
    client::Handle,
    lock::{Flags, Refusal},
};
use three::World;

const FAIR: LockspaceId = LockspaceId(7);

fn world(fairness: Fairness) -> World {
    let mut world = World::eager();
    for dlm in world.nodes.values_mut() {
        dlm.add_space(FAIR, 8, fairness);
    }
    world.space = FAIR;
    world
}

/// Protects holders from ping-pong: a notice comes when the lock has been held for its time, once, also
/// from another node; not at all if it is gone by then; and again after the next grant.
#[test]
fn a_holder_is_left_in_peace_for_a_while() {
    let mut world = world(Fairness {
        min_hold_ms: 50,
        ..Fairness::default()
    });
    world.lock(1, 1, "a", LockMode::Ex, Flags::NONE);
    world.wait(20);
    let second = world.lock(2, 2, "a", LockMode::Ex, Flags::NONE);
    assert!(world.notices.is_empty(), "it has had the lock for 20 ms");
    world.wait(29);
    assert!(world.notices.is_empty(), "for 49 ms");
    world.wait(1);
    assert_eq!(world.notices, [(1, Handle(1), LockMode::Ex)]);
    world.wait(200);
    assert_eq!(world.notices.len(), 1, "it is told once");
    world.convert(1, 1, LockMode::Nl, Some(&[]));
    assert!(world.answers[&(2, second)].is_ok());
    world.convert(1, 1, LockMode::Ex, Some(&[]));
    assert_eq!(world.notices.len(), 1, "the other one has its time, too");
    world.convert(2, 2, LockMode::Nl, Some(&[]));
    world.wait(200);
    assert_eq!(world.notices.len(), 1, "it let go before it was told");
    world.lock(3, 3, "a", LockMode::Ex, Flags::NONE);
    assert_eq!(
        world.notices.len(),
        2,
        "who has had it for long is told at once"
    );
}

/// Protects those who wait from a holder that publishes again and again: only a grant that gains something
/// gives it peace anew. And protects a holder from notices of those who are served long since.
#[test]
fn peace_is_for_what_was_gained() {
    let mut world = world(Fairness {
        min_hold_ms: 50,
        ..Fairness::default()
    });
    world.lock(1, 1, "a", LockMode::Ex, Flags::NONE);
    world.lock(2, 2, "a", LockMode::Pr, Flags::NONE);
    for _ in 0..4 {
        world.wait(20);
        world.convert(1, 1, LockMode::Ex, Some(b"again"));
    }
    assert!(!world.notices.is_empty(), "80 ms are more than 50");
    world.notices.clear();
    world.convert(1, 1, LockMode::Nl, Some(&[]));
    world.convert(2, 2, LockMode::Nl, Some(&[]));
    world.convert(1, 1, LockMode::Ex, Some(&[]));
    let waiting = world.convert(2, 2, LockMode::Pr, Some(&[]));
    world.wait(10);
    world.convert(1, 1, LockMode::Nl, Some(&[]));
    assert!(world.answers[&(2, waiting)].is_ok());
    world.unlock(2, 2);
    world.convert(1, 1, LockMode::Ex, Some(&[]));
    world.wait(200);
    assert!(world.notices.is_empty(), "nobody waits any more");
}

/// Protects callers from a priority that would mean nothing: it is refused where the lockspace grants in
/// another order, for requests and conversions alike, and counts where it does.
#[test]
fn a_priority_needs_a_lockspace_that_goes_by_it() {
    let mut plain = world(Fairness::default());
    let high = Flags::NONE.with_priority(3);
    let refused = plain.lock(1, 1, "a", LockMode::Ex, high);
    let why = plain.answers[&(1, refused)].clone().unwrap_err();
    let Refusal::Invalid(text) = why else {
        panic!("{why:?}");
    };
    assert!(text.contains("in the order fifo"), "{text}");
    let mut world = world(Fairness {
        order: Order::Priority,
        ..Fairness::default()
    });
    world.lock(1, 1, "a", LockMode::Ex, Flags::NONE);
    let low = world.lock(2, 2, "a", LockMode::Ex, Flags::NONE);
    let high = world.lock(3, 3, "a", LockMode::Ex, high);
    world.convert(1, 1, LockMode::Nl, Some(&[]));
    assert!(world.answers[&(3, high)].is_ok());
    assert!(!world.answers.contains_key(&(2, low)));
}
