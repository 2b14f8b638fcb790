//! Parts of the lock manager where they meet: what one of them leaves behind must not mislead another.

#![allow(clippy::unwrap_used, missing_docs)]

mod three;

use mainstay_base::{
    Compat, Fairness, LockMode, LockspaceId, MastersConfig, NodeId, ResourceName, SessionId,
};
use mainstay_dlm::{AdoptCall, ConvertCall, UnlockCall};
use mainstay_wire::{
    client::{Answer, Handle},
    dlm::Body,
    lock::Flags,
};
use three::{AFTER, SPACE, World};

use LockMode::{Cr, Ex, Nl, Pr};

const NEW: LockspaceId = LockspaceId(9);
const HEIR: SessionId = SessionId(2);

fn conversion(handle: u64, mode: LockMode) -> ConvertCall {
    ConvertCall {
        handle: Handle(handle),
        mode,
        flags: Flags::PERSISTENT,
        blocking: true,
        value: None,
        deadline: None,
    }
}

/// A second session of the node takes over what the first left on a resource.
fn adopt(world: &mut World, node: u16, handle: u64, name: &str, mode: LockMode) {
    world.requests += 1;
    let call = AdoptCall {
        handle: Handle(handle),
        space: SPACE,
        name: ResourceName::new(name).unwrap(),
        mode,
        flags: Flags::PERSISTENT,
        blocking: true,
        uid: None,
    };
    let (request, now) = (world.requests, world.now);
    let dlm = world.nodes.get_mut(&node).unwrap();
    dlm.adopt(now, HEIR, request, &call);
    world.settle();
    let answer = world.answer(node, request).expect("answered");
    assert!(answer.is_ok(), "{answer:?}");
}

fn close(world: &mut World, node: u16) {
    let now = world.now;
    let dlm = world.nodes.get_mut(&node).unwrap();
    dlm.close_session(now, SessionId(1));
}

/// Protects who adopts a lock from silence: its last owner died in a call for several locks, to which the
/// adopter's calls do not belong.
#[test]
fn the_calls_of_an_adopter_are_answered() {
    let mut world = World::eager();
    world.lock(1, 1, "a", Pr, Flags::NONE);
    world.lock(2, 1, "a", Cr, Flags::PERSISTENT);
    let (now, many, convert) = (world.now, 5000, 5001);
    let dlm = world.nodes.get_mut(&2).unwrap();
    dlm.convert_many(now, SessionId(1), many, vec![(conversion(1, Ex), None)]);
    world.settle();
    close(&mut world, 2);
    world.settle();
    adopt(&mut world, 2, 7, "a", Cr);
    let dlm = world.nodes.get_mut(&2).unwrap();
    dlm.convert(now, HEIR, convert, conversion(7, Pr));
    world.settle();
    assert!(world.granted(2, convert).is_some(), "it is answered");
}

/// Protects an adopted lock from children that it never had: those of the dead session go by themselves,
/// and the adopter's unlock need not wait for them.
#[test]
fn a_dead_sessions_children_do_not_hold_its_heir() {
    let mut world = World::eager();
    world.lock(2, 1, "a", Cr, Flags::PERSISTENT);
    for child in 0..300 {
        world.under(2, 1, 10 + child, &format!("c{child}"), Cr);
    }
    close(&mut world, 2);
    // The children go in slices; some are still there.
    world.requests += 1;
    let (request, now) = (world.requests, world.now);
    let call = AdoptCall {
        handle: Handle(7),
        space: SPACE,
        name: ResourceName::new("a").unwrap(),
        mode: Cr,
        flags: Flags::NONE,
        blocking: true,
        uid: None,
    };
    let dlm = world.nodes.get_mut(&2).unwrap();
    dlm.adopt(now, HEIR, request, &call);
    let unlock = UnlockCall {
        handle: Handle(7),
        flags: Flags::NONE,
        value: None,
    };
    dlm.unlock(now, HEIR, request + 1, unlock);
    world.settle();
    assert!(world.answer(2, request).unwrap().is_ok());
    let unlocked = world.answer(2, request + 1).unwrap();
    assert!(
        matches!(unlocked, Ok(Answer::Unlocked { .. })),
        "{unlocked:?}"
    );
}

/// Protects who unlocks and locks again without waiting, while the resource moves: its own lock that is gone
/// is not in the way.
#[test]
fn what_is_gone_is_not_in_the_way_after_a_move() {
    for done in [true, false] {
        let mut world = World::eager();
        world.lock(1, 1, "r", Nl, Flags::NONE);
        world.lock(3, 1, "r", Ex, Flags::NONE);
        world.use_much(2, "r");
        world.wait(500);
        assert_eq!(world.proposed.len(), 1);
        world.unlock(3, 1);
        let again = world.lock(3, 2, "r", Ex, Flags::NOQUEUE);
        world.commit(done);
        assert!(world.granted(3, again).is_some(), "moved: {done}");
    }
}

/// Protects resources in a new lockspace from being mastered by others' rules: who is appointed may learn of
/// the lockspace later than whoever uses it.
#[test]
fn nobody_masters_what_it_does_not_know_the_rules_of() {
    let mut config = MastersConfig {
        after: AFTER,
        ..MastersConfig::default()
    };
    config.weights.insert(NodeId(1), 0);
    for late in [2, 3] {
        let mut world = World::new(&config);
        let add = |world: &mut World, node: u16| {
            let now = world.now;
            let dlm = world.nodes.get_mut(&node).unwrap();
            dlm.add_compat_space(NEW, 64, Fairness::default(), Compat::Vms);
            dlm.accept_appointments(now);
            world.settle();
        };
        for node in (1..=3).filter(|node| *node != late) {
            add(&mut world, node);
        }
        world.space = NEW;
        let names: Vec<String> = (0..20).map(|n| format!("r{n}")).collect();
        let mut asked = Vec::new();
        for (handle, name) in (0..).zip(&names) {
            asked.push(world.lock(1, handle, name, Ex, Flags::VALBLK));
        }
        add(&mut world, late);
        for request in asked {
            let granted = world.granted(1, request).expect("sooner or later");
            let value = granted.value.as_ref().unwrap();
            assert_eq!(value.block.as_bytes().len(), 64);
        }
    }
}

/// Protects values with Linux' rules from marks that nobody earned: what is granted to a client that is gone
/// was not written under.
#[test]
fn with_linux_rules_a_grant_to_the_dead_marks_nothing() {
    for handles in [[1, 2], [2, 1]] {
        let mut world = World::eager();
        for dlm in world.nodes.values_mut() {
            dlm.add_compat_space(NEW, 32, Compat::Linux.fairness(), Compat::Linux);
        }
        world.space = NEW;
        world.lock(1, handles[0], "a", Pr, Flags::NONE);
        world.lock(2, 1, "a", Nl, Flags::NONE);
        assert_eq!(world.masters(), [1]);
        world.lock(1, handles[1], "a", Ex, Flags::NONE);
        close(&mut world, 1);
        world.settle();
        let read = world.lock(3, 1, "a", Pr, Flags::VALBLK);
        let value = world.granted(3, read).unwrap().value.clone().unwrap();
        assert!(!value.maybe_stale);
    }
}

/// Protects readers with Linux' rules: a master that leaves while it may not act hands over a value that a
/// dead writer of its own may have changed, whether or not that had spoken of it.
#[test]
fn with_linux_rules_a_leaver_marks_what_its_writers_had() {
    for (compat, marked) in [(Compat::Linux, true), (Compat::Strict, false)] {
        let mut world = World::eager();
        for dlm in world.nodes.values_mut() {
            dlm.add_compat_space(NEW, 32, compat.fairness(), compat);
        }
        world.space = NEW;
        world.lock(1, 1, "a", Ex, Flags::NONE);
        let now = world.now;
        let dlm = world.nodes.get_mut(&1).unwrap();
        dlm.set_active(now, false);
        dlm.close_session(now, SessionId(1));
        dlm.begin_leave(now);
        let mut told = Vec::new();
        dlm.take_outputs(&mut told);
        let handed = told.iter().find_map(|out| match out {
            mainstay_dlm::Out::Send {
                body: Body::HandOver { value, .. },
                ..
            } => Some(value.maybe_stale),
            _ => None,
        });
        assert_eq!(handed, Some(marked), "{compat}");
    }
}
