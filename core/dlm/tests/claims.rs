//! Three lock managers, whose messages the test carries by hand: what one client may lay claim to, and
//! what it asks to be told of, where its locks are mastered elsewhere.

#![allow(missing_docs, clippy::unwrap_used)]

mod three;

use mainstay_base::{ByteRange, Caller, LockMode, MastersConfig, SessionId, UserLimits};
use mainstay_dlm::UnlockCall;
use mainstay_lock::ranges::STRETCHES_MAX;
use mainstay_wire::{
    client::{Answer, Handle},
    lock::{Flags, Refusal},
};
use three::{World, name_at, range_call};

fn still() -> World {
    World::new(&MastersConfig {
        moves: false,
        ..MastersConfig::default()
    })
}

/// Protects the limit of waiting calls from those made in one go, before their master has said that
/// the first of them waits; and the calls after those that were answered.
#[test]
fn calls_under_way_count_as_waiting() {
    let (mut world, name) = (still(), name_at(3));
    let held = world.lock(3, 1, &name, LockMode::Ex, Flags::NONE);
    assert!(world.granted(3, held).is_some());
    let session = SessionId(7);
    let user = Caller {
        uid: 1000,
        gid: 1000,
        privileged: false,
    };
    let node = world.nodes.get_mut(&1).unwrap();
    node.limit_users(UserLimits {
        waiting: Some(2),
        ..UserLimits::default()
    });
    node.open_session(session);
    node.charge_session(session, user);
    let calls: Vec<_> = (1..=4)
        .map(|handle| world.lock_call(handle, &name, LockMode::Ex, Flags::NONE))
        .collect();
    let now = world.now;
    let node = world.nodes.get_mut(&1).unwrap();
    for (request, call) in (9001..).zip(calls) {
        node.lock(now, session, request, call);
    }
    world.settle();
    for request in [9003, 9004] {
        let answer = world.answers.get(&(1, request));
        assert!(matches!(answer, Some(Err(Refusal::Limit(_)))), "{answer:?}");
    }
    world.unlock(3, 1);
    assert!(world.granted(1, 9001).is_some());
    let node = world.nodes.get_mut(&1).unwrap();
    let release = UnlockCall {
        handle: Handle(1),
        flags: Flags::NONE,
        value: None,
    };
    node.unlock(now, session, 9005, release);
    world.settle();
    assert!(world.granted(1, 9002).is_some());
    let more = world.lock_call(5, "another", LockMode::Ex, Flags::NONE);
    let node = world.nodes.get_mut(&1).unwrap();
    node.lock(now, session, 9006, more);
    world.settle();
    assert!(world.granted(1, 9006).is_some(), "nothing waits any more");
}

/// Protects notices of ranges that are held from the next call for a range: it need not ask for them
/// again, and one that gains nothing else may ask for them first.
#[test]
fn notices_of_ranges_stay_wanted() {
    for first in [true, false] {
        let (mut world, name) = (still(), name_at(3));
        world.range(3, 1, &name, (500, 500), LockMode::Ex, false);
        world.range(1, 1, &name, (0, 99), LockMode::Ex, first);
        match first {
            true => world.range(1, 1, &name, (200, 299), LockMode::Ex, false),
            false => world.range(1, 1, &name, (10, 19), LockMode::Ex, true),
        };
        world.range(2, 1, &name, (50, 50), LockMode::Ex, false);
        let asked = ByteRange::new(50, 50).unwrap();
        assert_eq!(world.range_notices, [(1, Handle(1), asked)]);
    }
    // Who gives up its last range has nothing to be told of.
    let (mut world, name) = (still(), name_at(3));
    world.range(1, 1, &name, (0, 9), LockMode::Ex, false);
    let gone = world.range(1, 1, &name, (0, 9), LockMode::Nl, true);
    let answer = world.answers.get(&(1, gone));
    assert!(
        matches!(answer, Some(Ok(Answer::RangeSet { holds: false, .. }))),
        "{answer:?}"
    );
}

/// Protects tokens: a call that gains nothing is not answered with the one of another's grant.
#[test]
fn what_gains_nothing_keeps_its_token() {
    let (mut world, name) = (still(), name_at(3));
    let token = |world: &World, request| match world.answers.get(&(1, request)) {
        Some(Ok(Answer::RangeSet { token, .. })) => *token,
        other => panic!("{other:?}"),
    };
    let first = world.range(1, 1, &name, (0, 9), LockMode::Ex, false);
    world.range(2, 1, &name, (10, 19), LockMode::Ex, false);
    let again = world.range(1, 1, &name, (0, 9), LockMode::Ex, true);
    assert_eq!(token(&world, again), token(&world, first));
    let last = world.range(1, 1, &name, (20, 29), LockMode::Ex, false);
    let less = world.range(1, 1, &name, (5, 9), LockMode::Pr, false);
    assert_eq!(token(&world, less), token(&world, first));
    let given_up = world.range(1, 1, &name, (5, 9), LockMode::Nl, false);
    assert_eq!(token(&world, given_up), token(&world, last));
}

/// Protects memory, here and at the master, from one lock with ranges without end: what would make more
/// of them is refused, be it taken or given up, and the rest is not.
#[test]
fn the_ranges_of_a_lock_are_limited() {
    let (mut world, name) = (still(), name_at(1));
    let most = STRETCHES_MAX as u64;
    let refused = |world: &World, request| {
        matches!(
            world.answers.get(&(1, request)),
            Some(Err(Refusal::Limit(_)))
        )
    };
    world.range(1, 1, &name, (0, 2), LockMode::Ex, false);
    // Without looking each time at whether all of it fits together.
    for i in 1..most {
        let (now, call) = (
            world.now,
            range_call(1, &name, (i * 10, i * 10 + 2), LockMode::Ex),
        );
        let node = world.nodes.get_mut(&1).unwrap();
        node.range(now, SessionId(1), 9000 + i, call);
    }
    world.settle();
    assert!(
        refused(&world, 9000 + most - 1),
        "two more might come of it"
    );
    assert!(!refused(&world, 9000 + most - 2));
    let inside = world.range(1, 1, &name, (1, 1), LockMode::Nl, false);
    assert!(!refused(&world, inside), "one more");
    let inside = world.range(1, 1, &name, (11, 11), LockMode::Nl, false);
    assert!(refused(&world, inside));
    let end = world.range(1, 1, &name, (12, 15), LockMode::Nl, false);
    assert!(!refused(&world, end), "no more than before");
    let all = world.range(1, 1, &name, (0, most * 10), LockMode::Nl, false);
    assert!(!refused(&world, all));
}

/// Protects what a release says from being ignored: a lock on ranges has no value block to publish.
#[test]
fn a_release_of_ranges_publishes_nothing() {
    let (mut world, name) = (still(), name_at(3));
    world.range(1, 1, &name, (0, 9), LockMode::Ex, false);
    let now = world.now;
    let node = world.nodes.get_mut(&1).unwrap();
    let release = |flags| UnlockCall {
        handle: Handle(1),
        flags,
        value: None,
    };
    node.unlock(now, SessionId(1), 9001, release(Flags::IVVALBLK));
    node.unlock(now, SessionId(1), 9002, release(Flags::NONE));
    world.settle();
    let answer = &world.answers[&(1, 9001)];
    assert!(matches!(answer, Err(Refusal::Invalid(why)) if why.contains("no value block")));
    assert!(world.answers[&(1, 9002)].is_ok());
}
