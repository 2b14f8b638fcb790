//! Three lock managers, whose messages and whose log the test carries by hand: locks beneath others.

#![allow(missing_docs, clippy::unwrap_used)]

mod three;

use mainstay_base::{
    Fairness, LockMode, LockspaceId, MastersConfig, NodeId, ResourceName, SessionId, ValueBlock,
};
use mainstay_dlm::{ChildCall, LockCall, SpaceCounts, UnlockCall};
use mainstay_wire::{
    client::{Answer, Handle},
    lock::{Flags, Refusal},
};
use three::{World, is_at, name_at};

const PR: LockMode = LockMode::Pr;
const PW: LockMode = LockMode::Pw;
const EX: LockMode = LockMode::Ex;
const LONG: LockspaceId = LockspaceId(9);

fn gone(released: u64) -> Result<Answer, Refusal> {
    Ok(Answer::TreeUnlocked { released })
}

/// Protects what a sub-resource is: the same under every parent lock on the same resource, another
/// under another resource, and none of the roots.
#[test]
fn sub_resources_meet_beneath_their_parents() {
    let mut world = World::eager();
    for node in 1..=3 {
        world.lock(node, 1, "db", PR, Flags::NONE);
    }
    world.lock(3, 2, "other", PR, Flags::NONE);
    let first = world.under(1, 1, 10, "row", EX);
    assert!(world.granted(1, first).is_some());
    let second = world.under(2, 1, 10, "row", EX);
    assert_eq!(world.answer(2, second), None, "it meets the first");
    let elsewhere = world.under(3, 2, 10, "row", EX);
    let root = world.lock(3, 11, "row", EX, Flags::NONE);
    let flat = world.lock(3, 12, "db//row", EX, Flags::NONE);
    for request in [elsewhere, root, flat] {
        assert!(world.granted(3, request).is_some(), "it is another");
    }
    let deeper = world.under(1, 10, 11, "row", EX);
    assert!(
        world.granted(1, deeper).is_some(),
        "and so is one beneath it"
    );
    world.unlock(1, 11);
    world.unlock(1, 10);
    assert!(world.granted(2, second).is_some());
}

/// Protects parents: only what is granted can be one, in whatever mode, and each refusal says what is
/// wrong.
#[test]
fn a_parent_is_a_granted_lock() {
    let mut world = World::eager();
    world.lock(1, 1, "db", EX, Flags::NONE);
    world.lock(2, 1, "db", LockMode::Nl, Flags::NONE);
    let waits = world.lock(2, 2, "db", EX, Flags::NONE);
    assert_eq!(world.answer(2, waits), None);
    let refused = world.under(2, 2, 10, "row", EX);
    assert_eq!(
        world.answer(2, refused),
        Some(&Err(Refusal::ParentNotGranted))
    );
    let refused = world.under(2, 77, 10, "row", EX);
    assert_eq!(world.answer(2, refused), Some(&Err(Refusal::NoSuchLock)));
    let under_nl = world.under(2, 1, 10, "row", EX);
    assert!(world.granted(2, under_nl).is_some(), "modes are unrelated");
    // One that converts is granted, too.
    world.convert(2, 1, PR, None);
    let converting = world.under(2, 1, 11, "column", EX);
    assert!(world.granted(2, converting).is_some());
    world.range(3, 3, "file", (0, 9), EX, false);
    for (parent, name) in [(3, "row"), (4, "row")] {
        let request = world.under(3, parent, 12, name, EX);
        assert!(matches!(
            world.answer(3, request),
            Some(Err(Refusal::Invalid(_) | Refusal::NoSuchLock))
        ));
    }
    // Nobody gets there but under a parent.
    let name = ResourceName::new("db").unwrap().child("row").unwrap();
    let call = LockCall {
        name,
        ..world.lock_call(20, "x", PR, Flags::NONE)
    };
    let now = world.now;
    let dlm = world.nodes.get_mut(&3).unwrap();
    dlm.lock(now, SessionId(1), 9000, call);
    world.settle();
    assert!(matches!(
        world.answer(3, 9000),
        Some(Err(Refusal::Invalid(_)))
    ));
}

/// Protects trees from growing without bound.
#[test]
fn trees_have_so_many_levels() {
    let mut world = World::eager();
    world.lock(1, 1, "db", PR, Flags::NONE);
    for level in 2..=8 {
        let request = world.under(1, level - 1, level, "x", PR);
        assert!(world.granted(1, request).is_some(), "level {level}");
    }
    let request = world.under(1, 8, 9, "x", PR);
    assert!(matches!(
        world.answer(1, request),
        Some(Err(Refusal::Invalid(_)))
    ));
}

/// Protects those beneath: a parent goes neither by a plain unlock nor by force nor in bulk while one
/// is held or waits, and does when they are gone. A sub-lock is not persistent.
#[test]
fn a_parent_goes_last() {
    let mut world = World::eager();
    world.lock(1, 1, "db", PR, Flags::NONE);
    world.lock(2, 1, "db", PR, Flags::NONE);
    world.under(1, 1, 10, "row", EX);
    world.under(1, 1, 11, "column", EX);
    let waits = world.under(2, 1, 10, "row", EX);
    assert_eq!(world.answer(2, waits), None);
    for (node, beneath) in [(1, 2), (2, 1)] {
        let refused = world.unlock(node, 1);
        let expected = Err(Refusal::HasSubLocks(beneath));
        assert_eq!(world.answer(node, refused), Some(&expected));
        let now = world.now;
        let call = UnlockCall {
            handle: Handle(1),
            flags: Flags::FORCEUNLOCK,
            value: None,
        };
        let dlm = world.nodes.get_mut(&node).unwrap();
        dlm.unlock(now, SessionId(1), 9001, call.clone());
        dlm.unlock_many(now, SessionId(1), 9002, vec![call]);
        world.settle();
        assert_eq!(world.answer(node, 9001), Some(&expected));
        let held = world.nodes[&node].held(SessionId(1), Handle(1));
        assert!(held.is_some());
    }
    let now = world.now;
    let call = ChildCall {
        parent: Handle(1),
        handle: Handle(12),
        name: ResourceName::new("z").unwrap(),
        mode: PR,
        flags: Flags::PERSISTENT,
        blocking: false,
        deadline: None,
    };
    let dlm = world.nodes.get_mut(&1).unwrap();
    dlm.lock_under(now, SessionId(1), 9003, call);
    world.settle();
    assert!(matches!(
        world.answer(1, 9003),
        Some(Err(Refusal::Invalid(_)))
    ));
    world.unlock(1, 11);
    world.unlock(1, 10);
    let last = world.unlock(1, 1);
    assert!(matches!(
        world.answer(1, last),
        Some(Ok(Answer::Unlocked { .. }))
    ));
    assert!(world.granted(2, waits).is_some());
}

/// Protects dequeue-all: everything beneath goes, whatever it waits for, each call is answered once,
/// the lock itself stays unless it is named, and others get what was held.
#[test]
fn a_tree_goes_at_once() {
    let mut world = World::eager();
    world.lock(1, 1, "db", PR, Flags::NONE);
    world.lock(2, 1, "db", PR, Flags::NONE);
    world.under(2, 1, 10, "taken", EX);
    world.under(1, 1, 10, "table", PR);
    world.under(1, 10, 11, "row", EX);
    let waits = world.under(1, 1, 12, "taken", EX);
    let other = world.lock(1, 2, "other", EX, Flags::NONE);
    assert!(world.granted(1, other).is_some());
    world.under(2, 1, 11, "table", PR);
    let behind = world.under(2, 11, 12, "row", EX);
    assert_eq!(world.answer(2, behind), None);
    let all = world.unlock_tree(1, Some(1), false);
    assert_eq!(world.answer(1, all), Some(&gone(3)));
    assert_eq!(world.answer(1, waits), Some(&Err(Refusal::Released)));
    assert!(world.granted(2, behind).is_some());
    let held = |world: &World, handle| {
        let held = world.nodes[&1].held(SessionId(1), Handle(handle));
        held.map(|(_, mode)| mode)
    };
    assert_eq!((held(&world, 1), held(&world, 2)), (Some(PR), Some(EX)));
    let none = world.unlock_tree(1, Some(1), false);
    assert_eq!(world.answer(1, none), Some(&gone(0)));
    world.under(1, 1, 10, "table", PR);
    let with = world.unlock_tree(1, Some(1), true);
    assert_eq!(world.answer(1, with), Some(&gone(2)));
    world.lock(1, 1, "db", PR, Flags::NONE);
    world.under(1, 1, 10, "table", PR);
    let all = world.unlock_tree(1, None, false);
    assert_eq!(world.answer(1, all), Some(&gone(3)));
    assert_eq!((held(&world, 1), held(&world, 2)), (None, None));
    let unknown = world.unlock_tree(1, Some(1), true);
    assert_eq!(world.answer(1, unknown), Some(&Err(Refusal::NoSuchLock)));
}

/// Protects a publication that is under way: what is above it goes after it, and nothing else may be
/// done with that meanwhile.
#[test]
fn a_tree_waits_for_a_publication() {
    let mut world = World::eager();
    let name = name_at(3);
    world.lock(3, 1, &name, PR, Flags::NONE);
    world.lock(1, 1, &name, PR, Flags::NONE);
    let writer = world.under(1, 1, 10, "row", EX);
    assert!(world.granted(1, writer).is_some());
    world.silent = Some(3);
    world.requests += 1;
    let (now, unlock) = (world.now, world.requests);
    let call = UnlockCall {
        handle: Handle(10),
        flags: Flags::VALBLK,
        value: Some(ValueBlock::new(b"new").unwrap()),
    };
    let dlm = world.nodes.get_mut(&1).unwrap();
    dlm.unlock(now, SessionId(1), unlock, call);
    world.settle();
    assert_eq!(world.answer(1, unlock), None, "its master is silent");
    let refused = world.unlock(1, 1);
    assert_eq!(
        world.answer(1, refused),
        Some(&Err(Refusal::HasSubLocks(1)))
    );
    let all = world.unlock_tree(1, Some(1), true);
    assert_eq!(world.answer(1, all), None);
    let late = world.under(1, 1, 11, "column", EX);
    let twice = world.unlock(1, 1);
    let converted = world.convert(1, 1, EX, None);
    assert_eq!(world.answer(1, late), Some(&Err(Refusal::Busy)));
    assert_eq!(world.answer(1, twice), Some(&Err(Refusal::HasSubLocks(1))));
    assert_eq!(world.answer(1, converted), Some(&Err(Refusal::Busy)));
    world.silent = None;
    world.settle();
    world.wait(1);
    assert!(matches!(
        world.answer(1, unlock),
        Some(Ok(Answer::Unlocked { .. }))
    ));
    assert_eq!(world.answer(1, all), Some(&gone(2)));
}

/// Protects togetherness: whoever asks first for what is beneath a resource, its master gets it.
#[test]
fn a_tree_is_mastered_together() {
    for directory in 1..=3 {
        for unwilling in [false, true] {
            let mut config = MastersConfig::default();
            if unwilling {
                config.weights.insert(NodeId(2), 0);
            }
            let mut world = World::new(&config);
            let name = name_at(directory);
            world.lock(1, 1, &name, PR, Flags::NONE);
            let before = world.mastered(1);
            assert_eq!(before, 1);
            for node in 2..=3 {
                world.lock(node, 1, &name, PR, Flags::NONE);
                let own = format!("of {node}");
                world.under(node, 1, 10, &own, EX);
                let deep = world.under(node, 10, 11, "deep", EX);
                assert!(world.granted(node, deep).is_some());
            }
            assert_eq!(world.masters(), [1]);
            assert_eq!(world.mastered(1), 5);
        }
    }
}

/// Protects trees that move: calls beneath a resource count for it, and all of it goes at once.
#[test]
fn a_tree_moves_as_one() {
    let mut world = World::eager();
    for node in 1..=2 {
        world.lock(node, 1, "db", PR, Flags::NONE);
        world.under(node, 1, 10, "table", PR);
        world.under(node, 10, 11, &format!("row {node}"), EX);
    }
    world.wait(500);
    assert_eq!(world.masters(), [1]);
    for at in 0..10 {
        world.under(2, 11, 50, &format!("field {at}"), EX);
        world.unlock(2, 50);
    }
    world.wait(500);
    assert_eq!(world.proposed.len(), 1);
    world.commit(true);
    assert_eq!((world.masters(), world.proposed.len()), (vec![2], 0));
    let before = world.said;
    world.under(2, 11, 51, "new", EX);
    world.under(2, 11, 52, "field 0", EX);
    assert_eq!(world.said - before, if is_at("db", 2) { 0 } else { 2 });
}

/// Protects what comes beneath a resource while that is on the move: it follows.
#[test]
fn what_is_left_behind_follows() {
    let mut world = World::eager();
    let name = name_at(3);
    world.lock(1, 1, &name, PR, Flags::NONE);
    world.lock(2, 1, &name, PR, Flags::NONE);
    world.lock(3, 1, &name, PR, Flags::NONE);
    world.wait(500);
    world.use_much(2, &name);
    world.wait(500);
    assert_eq!(world.proposed.len(), 1);
    // The directory has not heard of the commit, and the old master has not decided it is over.
    let late = world.under(3, 1, 10, "late", EX);
    world.commit(true);
    assert!(world.granted(3, late).is_some());
    assert_eq!((world.mastered(1), world.mastered(2)), (1, 1));
    world.wait(500);
    assert_eq!(world.commit(true), 1);
    assert_eq!((world.mastered(1), world.mastered(2)), (0, 2));
}

/// Protects nodes from messages that no link carries: a tree whose names do not fit one stays where it is,
/// and one with long value blocks goes in several.
#[test]
fn a_tree_goes_in_messages_that_links_carry() {
    for (rows, name_len, moves) in [(500, 60, true), (500, 230, false)] {
        let mut world = World::eager();
        for dlm in world.nodes.values_mut() {
            dlm.add_space(LONG, 4096, Fairness::default());
        }
        world.space = LONG;
        world.lock(1, 1, "db", PR, Flags::NONE);
        world.lock(2, 1, "db", PR, Flags::NONE);
        let mut above = 1;
        for level in 0..if moves { 0 } else { 3 } {
            above = 2 + level;
            world.under(1, 1 + level, above, &"x".repeat(57), PR);
        }
        for row in 0..rows {
            let own = name_len - if moves { 0 } else { 180 };
            world.begin_under(1, above, 10 + row, &format!("{row:0>own$}"), PW);
        }
        world.settle();
        for row in 0..40 {
            world.convert(1, 10 + row, LockMode::Nl, Some(&[7; 4096]));
        }
        world.wait(500);
        world.use_much(2, "db");
        world.wait(500);
        assert_eq!(world.commit(true) > 0, moves, "names of {name_len} bytes");
        assert_eq!(world.masters(), [if moves { 2 } else { 1 }]);
    }
}

/// Protects the order in which the locks of a client that is gone go, whatever it had begun: what is above
/// a publication that is under way does not go before it.
#[test]
fn the_end_of_a_session_takes_its_calls_along() {
    let mut world = World::eager();
    let name = name_at(3);
    world.lock(3, 1, &name, PR, Flags::NONE);
    world.lock(1, 1, &name, PR, Flags::NONE);
    world.under(1, 1, 10, "row", EX);
    world.silent = Some(3);
    world.requests += 1;
    let call = UnlockCall {
        handle: Handle(10),
        flags: Flags::VALBLK,
        value: Some(ValueBlock::new(b"new").unwrap()),
    };
    let (now, unlock) = (world.now, world.requests);
    let dlm = world.nodes.get_mut(&1).unwrap();
    dlm.unlock(now, SessionId(1), unlock, call);
    let all = world.unlock_tree(1, Some(1), true);
    assert_eq!(world.answer(1, all), None);
    world
        .nodes
        .get_mut(&1)
        .unwrap()
        .close_session(now, SessionId(1));
    world.wait(1);
    let owned = |counts: &SpaceCounts| counts.locks;
    let left: u64 = world.nodes[&1].counts().values().map(owned).sum();
    assert_eq!(left, 0, "nothing is waited for");
    assert_eq!(world.answer(1, all), None);
    world.silent = None;
    world.settle();
}
