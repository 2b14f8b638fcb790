//! Locks that survive their nodes, over three nodes and what the log says: who is told when, what stays when
//! nodes go, and who gets it. The rules are in `docs/protocol/surviving.md`.

#![allow(missing_docs, clippy::unwrap_used)]

mod three;

use core::time::Duration;
use mainstay_base::{LockMode, MastersConfig, NodeId, ResourceName, SessionId, Token};
use mainstay_dlm::AdoptCall;
use mainstay_membership::SurvivorKey;
use mainstay_wire::{
    client::{Answer, Handle},
    lock::{Flags, Refusal},
    orphan::OrphanFilter,
};
use three::{SPACE, World, name_at};

use LockMode::{Ex, Pr};

const SURVIVE: Flags = Flags::SURVIVE;

fn world() -> World {
    World::new(&MastersConfig::default())
}

fn adopt(world: &mut World, node: u16, handle: u64, name: &str, key: SurvivorKey) -> u64 {
    world.requests += 1;
    let request = world.requests;
    let call = AdoptCall {
        handle: Handle(handle),
        space: SPACE,
        name: ResourceName::new(name).unwrap(),
        mode: Ex,
        flags: Flags::NONE,
        blocking: true,
        uid: None,
    };
    let dlm = world.nodes.get_mut(&node).unwrap();
    dlm.adopt_left_behind(SessionId(1), request, &call, key)
        .unwrap();
    world.settle();
    request
}

fn key(world: &World) -> SurvivorKey {
    *world.survivors.keys().next().unwrap()
}

fn released(world: &World, node: u16, request: u64) -> bool {
    let gone = Answer::Unlocked { version: None };
    world.answer(node, request) == Some(&Ok(gone))
}

/// Protects those who rely on it: a client is told of the lock when the log has it, not before, and then
/// also what the lock was in the way of meanwhile.
#[test]
fn a_client_is_told_when_the_log_has_it() {
    let mut w = world();
    w.log_waits = true;
    let name = name_at(1);
    let mine = w.lock(2, 1, &name, Ex, SURVIVE);
    let other = w.lock(3, 1, &name, Pr, Flags::NONE);
    assert_eq!(w.answer(2, mine), None);
    assert!(w.notices.is_empty(), "of a lock that it does not know");
    w.log_waits = false;
    w.settle();
    assert_eq!(w.granted(2, mine).unwrap().mode, Ex);
    assert_eq!(w.notices, [(2, Handle(1), Pr)]);
    assert_eq!(w.answer(3, other), None);
}

/// Protects the log from more than it has room for: who is refused holds nothing.
#[test]
fn what_the_log_has_no_room_for_is_not_held() {
    let mut w = world();
    w.log_full = true;
    let name = name_at(1);
    let mine = w.lock(2, 1, &name, Ex, SURVIVE);
    assert!(matches!(w.answer(2, mine), Some(Err(Refusal::Limit(_)))));
    let other = w.lock(3, 1, &name, Ex, Flags::NONE);
    assert!(w.granted(3, other).is_some());
}

/// Protects the next holder from a record that outlives the lock: it is released when the log says so, not
/// before.
#[test]
fn it_is_released_when_the_log_says_so() {
    let mut w = world();
    let name = name_at(1);
    w.lock(2, 1, &name, Ex, SURVIVE);
    let other = w.lock(3, 1, &name, Ex, Flags::NONE);
    w.log_waits = true;
    let unlock = w.unlock(2, 1);
    assert_eq!(w.answer(2, unlock), None);
    assert_eq!(w.answer(3, other), None);
    let again = w.unlock(2, 1);
    assert_eq!(w.answer(2, again), Some(&Err(Refusal::Busy)));
    w.log_waits = false;
    w.settle();
    assert!(released(&w, 2, unlock));
    assert!(w.granted(3, other).is_some());
    assert!(w.survivors.is_empty());
}

/// Protects what the lock protects when its node dies, its master with it, or all that knew of it: whoever
/// comes to master the resource keeps others waiting. And it goes on elsewhere as it was.
#[test]
fn it_survives_its_node_and_is_adopted_elsewhere() {
    for dead in [&[2][..], &[1, 2], &[2, 1]] {
        let mut w = world();
        let name = name_at(1);
        let mine = w.lock(2, 1, &name, Ex, SURVIVE);
        let token = w.granted(2, mine).unwrap().token;
        for node in dead {
            w.die(*node);
        }
        let other = w.lock(3, 1, &name, Ex, Flags::NONE);
        assert_eq!(w.answer(3, other), None, "{dead:?} died");
        let key = key(&w);
        let adopted = adopt(&mut w, 3, 2, &name, key);
        let granted = w.granted(3, adopted).unwrap();
        assert_eq!((granted.mode, granted.token), (Ex, token));
        assert_eq!(w.notices, [(3, Handle(2), Ex)], "the new owner is told");
        let unlock = w.unlock(3, 2);
        assert!(released(&w, 3, unlock));
        assert!(w.granted(3, other).unwrap().token > token);
        // The node that was there first has it no more.
        let late = adopt(&mut w, 3, 3, &name, key);
        assert_eq!(w.answer(3, late), Some(&Err(Refusal::NoSuchOrphan)));
    }
}

/// Protects what was adopted: it survives the next node, too, and who waits for it waits on when the
/// master dies.
#[test]
fn what_was_adopted_survives_again() {
    let mut w = world();
    let name = name_at(1);
    w.lock(2, 1, &name, Ex, SURVIVE);
    w.die(2);
    let key_of_dead = key(&w);
    let adopted = adopt(&mut w, 3, 1, &name, key_of_dead);
    assert!(w.granted(3, adopted).is_some());
    let other = w.lock(1, 1, &name, Pr, Flags::NONE);
    w.die(3);
    assert_eq!(w.answer(1, other), None);
    assert_eq!(key(&w).node, NodeId(3));
    let now = w.now;
    let dlm = w.nodes.get_mut(&1).unwrap();
    dlm.close_session(now, SessionId(2));
    let key_of_dead = key(&w);
    w.steps.push_back((
        1,
        mainstay_membership::SurvivorStep::Release { key: key_of_dead },
    ));
    w.settle();
    assert!(w.granted(1, other).is_some(), "it was purged");
}

/// Protects a rebuilt resource from what a late restatement says: the owner restated the lock before it
/// heard that it is recorded and released.
#[test]
fn a_restatement_does_not_bring_it_back() {
    let mut w = world();
    let name = name_at(1);
    w.log_waits = true;
    w.lock(2, 1, &name, Ex, SURVIVE);
    let pr = w.lock(2, 2, "other", Pr, Flags::NONE);
    assert!(w.granted(2, pr).is_some());
    // What node 2 restates to node 3 is on its way for long.
    w.parted = Some((2, 3));
    w.die(1);
    w.log_waits = false;
    w.settle();
    let unlock = w.unlock(2, 1);
    assert!(released(&w, 2, unlock));
    w.parted = None;
    w.settle();
    w.wait(10);
    let other = w.lock(3, 1, &name, Ex, Flags::NONE);
    assert!(w.granted(3, other).is_some());
}

/// Protects orphans that survive: they become one as others do, are adopted on their node, and go by a purge
/// when the log says so.
#[test]
fn its_orphan_is_adopted_here_and_purged() {
    let mut w = world();
    let name = name_at(1);
    w.lock(2, 1, &name, Ex, SURVIVE);
    let now = w.now;
    w.nodes
        .get_mut(&2)
        .unwrap()
        .close_session(now, SessionId(1));
    w.settle();
    assert_eq!(w.nodes[&2].orphan_count(), 1);
    let other = w.lock(3, 1, &name, Ex, Flags::NONE);
    w.log_waits = true;
    let dlm = w.nodes.get_mut(&2).unwrap();
    dlm.purge_orphans(now, OrphanFilter::default(), NodeId(2), 7);
    dlm.work_off(now);
    let call = AdoptCall {
        handle: Handle(5),
        space: SPACE,
        name: ResourceName::new(&name).unwrap(),
        mode: Ex,
        flags: Flags::NONE,
        blocking: true,
        uid: None,
    };
    let adopted = dlm.adopt_here(now, SessionId(2), 90, &call);
    assert_eq!(adopted, Err(Refusal::Busy), "it is on its way out");
    w.settle();
    assert_eq!(w.answer(3, other), None);
    w.log_waits = false;
    w.settle();
    assert!(w.granted(3, other).is_some());
    assert_eq!(w.nodes[&2].orphan_count(), 0);
}

/// Protects the record, which says all that there is to know of the lock: what would make it say less is
/// refused.
#[test]
fn what_the_log_would_have_to_know_is_refused() {
    let mut w = world();
    let name = name_at(1);
    let with_value = w.lock(2, 1, &name, Ex, SURVIVE | Flags::VALBLK);
    assert!(matches!(
        w.answer(2, with_value),
        Some(Err(Refusal::Invalid(_)))
    ));
    w.lock(2, 1, &name, Ex, SURVIVE);
    let convert = w.convert(2, 1, Pr, None);
    let beneath = w.under(2, 1, 2, "x", Pr);
    let count = w.count(2, 1);
    w.requests += 1;
    let set = w.requests;
    let dlm = w.nodes.get_mut(&2).unwrap();
    let within = Some(Duration::from_secs(1));
    dlm.set_response_time(SessionId(1), set, Handle(1), within, true);
    w.settle();
    for request in [convert, beneath, count, set] {
        let answer = w.answer(2, request);
        assert!(
            matches!(answer, Some(Err(Refusal::Invalid(_)))),
            "{answer:?}"
        );
    }
}

/// Protects who leaves cleanly: a lock that survives its node stays behind, and one that the log has yet to
/// hear of keeps the node until it has.
#[test]
fn a_leaving_node_leaves_it_behind() {
    let mut w = world();
    let name = name_at(1);
    w.lock(2, 1, &name, Ex, SURVIVE);
    w.log_waits = true;
    w.lock(2, 2, "late", Ex, SURVIVE);
    let now = w.now;
    let dlm = w.nodes.get_mut(&2).unwrap();
    dlm.end_orphans(now);
    dlm.close_session(now, SessionId(1));
    dlm.begin_leave(now);
    assert!(!dlm.may_go());
    w.log_waits = false;
    w.settle();
    assert!(w.nodes[&2].may_go());
    w.die(2);
    for (handle, name) in [(1, name.as_str()), (2, "late")] {
        let other = w.lock(3, handle, name, Ex, Flags::NONE);
        assert_eq!(w.answer(3, other), None, "{name}");
    }
    assert!(w.survivors.values().all(|s| s.token > Token::NONE));
}

/// Protects those who wait from a new owner who does not know: the master may apply an adoption, and tell what
/// the lock is in the way of, before the adopter's node has applied it.
#[test]
fn a_new_owner_that_is_behind_is_told_all_the_same() {
    let mut w = world();
    let name = name_at(1);
    w.lock(2, 1, &name, Ex, SURVIVE);
    w.die(2);
    let other = w.lock(1, 1, &name, Pr, Flags::NONE);
    w.behind = Some(3);
    let key = key(&w);
    let adopted = adopt(&mut w, 3, 2, &name, key);
    assert!(w.granted(3, adopted).is_some());
    assert_eq!(w.notices, [(3, Handle(2), Pr)]);
    w.unlock(3, 2);
    assert!(w.granted(1, other).is_some());
}

/// Protects a node from counting locks below none: while the log has yet to give a lock to a client, no other
/// lock takes its handle.
#[test]
fn the_handle_of_an_adoption_is_taken() {
    let mut w = world();
    let name = name_at(1);
    w.lock(2, 1, &name, Ex, SURVIVE);
    w.die(2);
    w.log_waits = true;
    let key = key(&w);
    let adopted = adopt(&mut w, 3, 2, &name, key);
    let other = w.lock(3, 2, "other", Ex, Flags::NONE);
    assert_eq!(w.answer(3, other), Some(&Err(Refusal::HandleInUse)));
    w.log_waits = false;
    w.settle();
    assert!(w.granted(3, adopted).is_some());
}

/// Protects readers from a value that goes back to nothing: of others' locks nobody restated anything, so
/// whoever masters the resource next does not know what they published.
#[test]
fn what_others_published_is_not_forgotten_silently() {
    let mut w = world();
    let name = name_at(1);
    w.lock(1, 1, &name, LockMode::Nl, Flags::NONE);
    w.lock(2, 1, &name, LockMode::Cr, SURVIVE);
    w.lock(1, 2, &name, Ex, Flags::VALBLK);
    w.convert(1, 2, LockMode::Nl, Some(b"new"));
    w.unlock(1, 2);
    w.unlock(1, 1);
    w.die(1);
    let read = w.lock(3, 1, &name, Pr, Flags::VALBLK);
    let value = w.granted(3, read).unwrap().value.clone().unwrap();
    assert!(value.maybe_stale, "{value:?}");
}
