//! Orphans that a process of another node adopts while their own node lives, over three nodes: who has the
//! lock at each moment, whoever dies. The rules are in `docs/protocol/ceding.md`.

#![allow(missing_docs, clippy::unwrap_used)]

mod three;

use core::time::Duration;
use mainstay_base::{
    Caller, LockMode, MastersConfig, NodeId, ResourceName, SessionId, Token, UserLimits, ValueBlock,
};
use mainstay_dlm::{AdoptCall, UnlockCall};
use mainstay_fencing::Proof;
use mainstay_wire::{
    ceding::Ceding,
    client::{Answer, Handle},
    dlm::Body,
    lock::{Flags, Refusal},
    orphan::OrphanFilter,
    report::OwnerReport,
};
use three::{SPACE, World, name_at};

use LockMode::{Ex, Nl, Pr, Pw};

const KEPT: Flags = Flags(Flags::PERSISTENT.0 | Flags::VALBLK.0);
/// The session that adopts; the other one is its node's first.
const HEIR: SessionId = SessionId(2);
/// More messages than any adoption needs.
const LONG: usize = 24;

fn call(handle: u64, name: &str, mode: LockMode, flags: Flags) -> AdoptCall {
    AdoptCall {
        handle: Handle(handle),
        space: SPACE,
        name: ResourceName::new(name).unwrap(),
        mode,
        flags,
        blocking: true,
        uid: None,
    }
}

/// Asks for it; nothing is carried yet.
fn seek(w: &mut World, node: u16, call: AdoptCall) -> u64 {
    w.requests += 1;
    let (request, now) = (w.requests, w.now);
    let dlm = w.nodes.get_mut(&node).unwrap();
    let why = Refusal::NoSuchOrphan;
    if let Err(why) = dlm.seek(now, HEIR, request, call, why) {
        w.answers.insert((node, request), Err(why));
    }
    request
}

fn sought(w: &mut World, node: u16, call: AdoptCall) -> u64 {
    let request = seek(w, node, call);
    w.settle();
    request
}

/// A name that `master` masters, on which a client of node 2 has left an orphan.
fn orphan(w: &mut World, master: u16, mode: LockMode, flags: Flags) -> String {
    let name = name_at(1);
    w.lock(master, 90, &name, Nl, Flags::NONE);
    w.lock(2, 1, &name, mode, flags);
    leave(w, 2, SessionId(1));
    name
}

fn leave(w: &mut World, node: u16, session: SessionId) {
    let now = w.now;
    let dlm = w.nodes.get_mut(&node).unwrap();
    dlm.close_session(now, session);
    w.settle();
}

fn orphans(w: &World) -> Vec<(u16, usize)> {
    let counts = w
        .nodes
        .iter()
        .map(|(node, dlm)| (*node, dlm.orphan_count()));
    counts.filter(|(_, count)| *count > 0).collect()
}

/// The heir's unlock; publishes what is given.
fn unlock(w: &mut World, node: u16, handle: u64, value: Option<&[u8]>) -> u64 {
    w.requests += 1;
    let (request, now) = (w.requests, w.now);
    let call = UnlockCall {
        handle: Handle(handle),
        flags: Flags::NONE,
        value: value.map(|bytes| ValueBlock::new(bytes).unwrap()),
    };
    let dlm = w.nodes.get_mut(&node).unwrap();
    dlm.unlock(now, HEIR, request, call);
    w.settle();
    request
}

/// Whether nobody holds anything that is in the way of a lock in PW.
fn is_free(w: &mut World, node: u16, name: &str) -> bool {
    let flags = Flags::NOQUEUE;
    w.wait(1);
    // Node 2's is gone.
    w.nodes.get_mut(&node).unwrap().open_session(SessionId(1));
    let request = w.lock(node, 70, name, Pw, flags);
    let free = w.granted(node, request).is_some();
    if free {
        w.unlock(node, 70);
    } else {
        assert_eq!(w.answer(node, request), Some(&Err(Refusal::NotQueued)));
    }
    free
}

/// Protects who waits for it, and who goes on with it: the lock is the same, with its value, wherever the
/// resource is mastered, and its first node has it no more.
#[test]
fn an_orphan_is_adopted_from_a_node_that_lives() {
    for master in 1..=3 {
        let mut w = World::new(&MastersConfig::default());
        let name = name_at(1);
        w.lock(master, 90, &name, Nl, Flags::NONE);
        let mine = w.lock(2, 1, &name, Ex, KEPT);
        w.convert(2, 1, Pw, Some(b"first"));
        let token = w.granted(2, mine).unwrap().token;
        w.convert(2, 1, Ex, None);
        leave(&mut w, 2, SessionId(1));
        assert_eq!(orphans(&w), [], "a conversion without the flag");
        let mine = w.lock(2, 1, &name, Ex, KEPT);
        assert_eq!(w.answer(2, mine), None, "its session is gone");

        let mut w = World::new(&MastersConfig::default());
        let name = name_at(1);
        w.lock(master, 90, &name, Nl, Flags::NONE);
        let writer = w.lock(1, 2, &name, Ex, Flags::VALBLK);
        assert!(w.granted(1, writer).unwrap().token <= token);
        w.convert(1, 2, Nl, Some(b"kept"));
        w.unlock(1, 2);
        let mine = w.lock(2, 1, &name, Ex, KEPT);
        let token = w.granted(2, mine).unwrap().token;
        let waits = w.lock(1, 3, &name, Pr, Flags::NONE);
        leave(&mut w, 2, SessionId(1));
        w.notices.clear();
        let adopted = sought(&mut w, 3, call(5, &name, Ex, Flags::VALBLK));
        let granted = w.granted(3, adopted).unwrap().clone();
        assert_eq!((granted.mode, granted.token), (Ex, token));
        let value = granted.value.unwrap();
        assert!(value.block.as_bytes().starts_with(b"kept") && !value.maybe_stale);
        assert_eq!(w.notices, [(3, Handle(5), Pr)], "the new owner is told");
        assert_eq!(orphans(&w), []);
        assert_eq!(w.answer(1, waits), None);
        unlock(&mut w, 3, 5, Some(b"after"));
        assert!(w.granted(1, waits).unwrap().token > token);
        let read = w.lock(1, 4, &name, Pr, Flags::VALBLK);
        let read = w.granted(1, read).unwrap().value.clone().unwrap();
        assert!(read.block.as_bytes().starts_with(b"after"));
    }
}

/// Protects the lock from its master's death at any moment, also where its first node has heard nothing of
/// the end when it restates it: it is one lock, and the client's, who gives it away but once.
#[test]
fn the_master_may_die_at_any_moment() {
    for (parted, carried) in (0..LONG).flat_map(|k| [(None, k), (Some((3, 2)), k)]) {
        let mut w = World::new(&MastersConfig::default());
        let name = orphan(&mut w, 1, Ex, KEPT);
        let waits = w.lock(3, 3, &name, Pr, Flags::NONE);
        let adopted = seek(&mut w, 3, call(5, &name, Ex, KEPT));
        w.carry(carried);
        w.parted = parted;
        w.die(1);
        w.parted = None;
        w.settle();
        w.wait(1);
        assert!(w.granted(3, adopted).is_some(), "after {carried} messages");
        assert_eq!(w.answer(3, waits), None);
        assert_eq!(orphans(&w), []);
        unlock(&mut w, 3, 5, None);
        assert!(w.granted(3, waits).is_some(), "after {carried} messages");
    }
}

/// Protects the lock from being given away while its first node might restate it: the client is told when that one
/// has forgotten it.
#[test]
fn the_client_is_told_when_the_old_node_has_forgotten() {
    let mut w = World::new(&MastersConfig::default());
    let name = orphan(&mut w, 1, Ex, KEPT);
    let adopted = seek(&mut w, 3, call(5, &name, Ex, KEPT));
    let ends = |w: &World| {
        let mut said = w.mail.iter().map(|(_, _, message)| &message.body);
        said.any(|body| matches!(body, Body::Ceding(Ceding::Ends { taken: true, .. })))
    };
    for _ in 0..LONG {
        if !ends(&w) {
            w.carry(1);
        }
    }
    assert!(ends(&w), "the master knows it as node 3's");
    w.parted = Some((3, 2));
    w.settle();
    assert_eq!((w.answer(3, adopted), orphans(&w)), (None, vec![(2, 1)]));
    assert!(!is_free(&mut w, 1, &name));
    w.parted = None;
    w.settle();
    assert!(w.granted(3, adopted).is_some());
    assert_eq!(orphans(&w), []);
}

/// Protects others from two holders when the node dies that was about to have an orphan: that stays where it was
/// if it was not kept for the dead one yet, and is gone altogether otherwise.
#[test]
fn the_adopter_may_die_at_any_moment() {
    let mut ends = [0, 0];
    for (both, carried) in (0..LONG).flat_map(|k| [(false, k), (true, k)]) {
        let mut w = World::new(&MastersConfig::default());
        let name = orphan(&mut w, 1, Ex, KEPT);
        seek(&mut w, 3, call(5, &name, Ex, KEPT));
        w.carry(carried);
        if both {
            w.die(1);
            w.wait(1);
        }
        w.die(3);
        let left = orphans(&w);
        let heir = if both { 2 } else { 1 };
        assert_eq!(is_free(&mut w, heir, &name), left.is_empty());
        ends[left.len()] += 1;
        if !left.is_empty() && !both {
            let adopted = sought(&mut w, 1, call(6, &name, Ex, KEPT));
            assert!(w.granted(1, adopted).is_some(), "after {carried} messages");
        }
    }
    assert!(ends.iter().all(|count| *count > 0), "{ends:?}");
}

/// Protects the client from waiting for a node that has died, and others from a lock that nobody has.
#[test]
fn the_orphans_node_may_die_at_any_moment() {
    let mut ends = [0, 0];
    for (both, carried) in (0..LONG).flat_map(|k| [(false, k), (true, k)]) {
        let mut w = World::new(&MastersConfig::default());
        let name = orphan(&mut w, 1, Ex, KEPT);
        let adopted = seek(&mut w, 3, call(5, &name, Ex, KEPT));
        w.carry(carried);
        if both {
            w.die(1);
            w.wait(1);
        }
        w.die(2);
        let has = w.granted(3, adopted).is_some();
        assert!(w.answer(3, adopted).is_some(), "after {carried} messages");
        assert_eq!(is_free(&mut w, 3, &name), !has);
        ends[usize::from(has)] += 1;
    }
    assert!(ends.iter().all(|count| *count > 0), "{ends:?}");
}

/// Protects what the client that asked would have left behind, and others from what it would not.
#[test]
fn the_client_may_end_before_it_hears() {
    for (flags, carried) in (0..LONG).flat_map(|k| [(KEPT, k), (Flags::VALBLK, k)]) {
        let mut w = World::new(&MastersConfig::default());
        let name = orphan(&mut w, 1, Ex, KEPT);
        seek(&mut w, 3, call(5, &name, Ex, flags));
        w.carry(carried);
        leave(&mut w, 3, HEIR);
        let left = orphans(&w);
        assert_eq!(is_free(&mut w, 1, &name), left.is_empty());
        match left.as_slice() {
            [(2, 1)] => assert!(carried < 4, "it was given back"),
            [(3, 1)] => assert_eq!(flags, KEPT),
            [] => {
                assert_eq!(flags, Flags::VALBLK);
                let read = w.lock(1, 4, &name, Pr, Flags::VALBLK);
                let value = w.granted(1, read).unwrap().value.clone().unwrap();
                assert!(value.maybe_stale, "who left it may have been writing");
            }
            _ => panic!("{left:?}"),
        }
    }
}

/// Protects the client from words that say less than is known; and an orphan from being given to two.
#[test]
fn a_refusal_says_what_was_found() {
    let mut w = World::new(&MastersConfig::default());
    let none = sought(&mut w, 3, call(5, &name_at(1), Ex, KEPT));
    assert_eq!(w.answer(3, none), Some(&Err(Refusal::NoSuchOrphan)));
    let name = orphan(&mut w, 1, Ex, KEPT);
    let other = sought(&mut w, 3, call(5, &name, Pr, KEPT));
    assert_eq!(w.answer(3, other), Some(&Err(Refusal::OrphanInMode(Ex))));
    let mut of_other = call(5, &name, Ex, KEPT);
    of_other.uid = Some(77);
    let denied = sought(&mut w, 3, of_other);
    assert!(matches!(w.answer(3, denied), Some(Err(Refusal::Denied(_)))));
    // It is on its way to node 3 when node 1 asks, and node 2's own client.
    let first = seek(&mut w, 3, call(5, &name, Ex, KEPT));
    w.parted = Some((2, 3));
    w.carry(3);
    let second = sought(&mut w, 1, call(5, &name, Ex, KEPT));
    assert_eq!(w.answer(1, second), Some(&Err(Refusal::Busy)));
    let now = w.now;
    let dlm = w.nodes.get_mut(&2).unwrap();
    dlm.adopt(now, HEIR, 999, &call(5, &name, Ex, KEPT));
    dlm.purge_orphans(now, OrphanFilter::default(), NodeId(2), 1);
    w.wait(10);
    assert_eq!(w.answer(2, 999), Some(&Err(Refusal::Busy)));
    assert_eq!(orphans(&w), [(2, 1)], "nor is it purged");
    w.parted = None;
    w.settle();
    assert!(w.granted(3, first).is_some());
    // Its handle is taken from the call on.
    let again = sought(&mut w, 3, call(5, &name, Ex, KEPT));
    assert_eq!(w.answer(3, again), Some(&Err(Refusal::HandleInUse)));
}

/// Protects an orphan from an answer that comes too late: it stays where it is, and expires as before.
#[test]
fn what_comes_too_late_goes_back() {
    let mut w = World::new(&MastersConfig::default());
    let expiry = Some(Duration::from_secs(5));
    w.nodes.get_mut(&2).unwrap().configure_orphans(expiry);
    let name = orphan(&mut w, 1, Ex, KEPT);
    w.parted = Some((2, 3));
    let sought = sought(&mut w, 3, call(5, &name, Ex, KEPT));
    assert_eq!(w.answer(3, sought), None);
    w.wait(1000);
    assert!(matches!(
        w.answer(3, sought),
        Some(Err(Refusal::Unavailable(_)))
    ));
    w.wait(5000);
    assert_eq!(orphans(&w), [(2, 1)], "it may be node 3's");
    w.parted = None;
    w.settle();
    w.wait(1);
    assert_eq!(orphans(&w), []);
    assert!(is_free(&mut w, 1, &name));
}

/// Protects a node from clients that search without end.
#[test]
fn a_client_has_so_many_searches() {
    let mut w = World::new(&MastersConfig::default());
    for at in 0..64 {
        let request = seek(&mut w, 3, call(100 + at, &format!("n{at}"), Ex, KEPT));
        assert_eq!(w.answer(3, request), None);
    }
    let more = seek(&mut w, 3, call(99, "more", Ex, KEPT));
    assert!(matches!(w.answer(3, more), Some(Err(Refusal::Limit(_)))));
    w.settle();
    let again = sought(&mut w, 3, call(99, "more", Ex, KEPT));
    assert_eq!(w.answer(3, again), Some(&Err(Refusal::NoSuchOrphan)));
}

/// Protects locks that survive their node: the log says whose they are, and when the adopter is gone before it
/// does, they stay.
#[test]
fn a_surviving_orphan_goes_by_the_log() {
    for behind in [None, Some(1), Some(2), Some(3)] {
        let mut w = World::new(&MastersConfig::default());
        let name = orphan(&mut w, 1, Ex, Flags::SURVIVE);
        w.behind = behind;
        let waits = w.lock(1, 3, &name, Pr, Flags::NONE);
        let adopted = sought(&mut w, 3, call(5, &name, Ex, Flags::NONE));
        assert!(w.granted(3, adopted).is_some(), "{behind:?}");
        assert_eq!(w.notices.last(), Some(&(3, Handle(5), Pr)));
        assert_eq!(orphans(&w), []);
        assert_eq!(w.survivors.keys().next().unwrap().node, NodeId(3));
        let gone = unlock(&mut w, 3, 5, None);
        assert!(matches!(
            w.answer(3, gone),
            Some(Ok(Answer::Unlocked { .. }))
        ));
        assert!(w.granted(1, waits).is_some());
    }
    let mut w = World::new(&MastersConfig::default());
    let name = orphan(&mut w, 1, Ex, Flags::SURVIVE);
    w.log_waits = true;
    sought(&mut w, 3, call(5, &name, Ex, Flags::NONE));
    w.die(3);
    w.log_waits = false;
    w.settle();
    assert_eq!(orphans(&w), [(2, 1)]);
    let adopted = sought(&mut w, 1, call(5, &name, Ex, Flags::NONE));
    assert!(w.granted(1, adopted).is_some());
}

/// Says which process of which user a session is.
fn introduce(w: &mut World, node: u16, session: SessionId, pid: u32) {
    let process = OwnerReport {
        pid,
        uid: pid + 1000,
        ..OwnerReport::default()
    };
    let dlm = w.nodes.get_mut(&node).unwrap();
    dlm.introduce(session, process);
}

/// Protects a surviving lock that comes when nobody waits for it any more: it is an orphan of the node that
/// asked, and not lost between the two. It is still that of who left it behind.
#[test]
fn a_surviving_orphan_that_comes_too_late_is_one_again() {
    for late in [false, true] {
        let mut w = World::new(&MastersConfig::default());
        introduce(&mut w, 2, SessionId(1), 7);
        introduce(&mut w, 3, HEIR, 8);
        let name = orphan(&mut w, 1, Ex, Flags::SURVIVE);
        w.log_waits = true;
        let adopted = sought(&mut w, 3, call(5, &name, Ex, Flags::NONE));
        if late {
            leave(&mut w, 3, HEIR);
        }
        w.log_waits = false;
        w.settle();
        assert_eq!(w.granted(3, adopted).is_some(), !late);
        let left = if late { vec![(3, 1)] } else { vec![] };
        assert_eq!(orphans(&w), left);
        let owner = w.survivors.values().next().unwrap().owner;
        let pid = if late { 7 } else { 8 };
        assert_eq!((owner.pid, owner.uid), (pid, pid + 1000));
        if late {
            let mut others = call(5, &name, Ex, Flags::NONE);
            others.uid = Some(1008);
            let denied = sought(&mut w, 1, others.clone());
            assert!(matches!(w.answer(1, denied), Some(Err(Refusal::Denied(_)))));
            others.uid = Some(1007);
            let adopted = sought(&mut w, 1, others);
            assert!(w.granted(1, adopted).is_some());
        }
    }
}

/// Protects a lock from who asks for it as something else: it stays, and so does the orphan.
#[test]
fn a_master_gives_what_it_knows_only() {
    let mut w = World::new(&MastersConfig::default());
    let name = orphan(&mut w, 1, Ex, KEPT);
    let adopted = seek(&mut w, 3, call(5, &name, Ex, KEPT));
    for _ in 0..LONG {
        for (_, _, message) in &mut w.mail {
            if let Body::TakeCeded { token, .. } = &mut message.body {
                *token = Token(token.0 - 1);
            }
        }
        w.carry(1);
    }
    assert!(matches!(
        w.answer(3, adopted),
        Some(Err(Refusal::Unavailable(_)))
    ));
    assert_eq!(orphans(&w), [(2, 1)]);
    assert!(!is_free(&mut w, 1, &name));
    let again = sought(&mut w, 3, call(5, &name, Ex, KEPT));
    assert!(w.granted(3, again).is_some(), "it was given back");
}

/// Protects a user's limit from searches through many sessions: each counts as the lock that may come.
#[test]
fn searches_count_as_locks() {
    let mut w = World::new(&MastersConfig::default());
    let dlm = w.nodes.get_mut(&3).unwrap();
    dlm.limit_users(UserLimits {
        locks: Some(2),
        ..UserLimits::default()
    });
    let caller = Caller {
        uid: 1000,
        gid: 1000,
        privileged: false,
    };
    for session in 11..=13 {
        dlm.open_session(SessionId(session));
        dlm.charge_session(SessionId(session), caller);
        let sought = dlm.seek(
            w.now,
            SessionId(session),
            session,
            call(1, "a", Ex, KEPT),
            Refusal::NoSuchOrphan,
        );
        let limited = matches!(sought, Err(Refusal::Limit(_)));
        assert_eq!(limited, session == 13, "{sought:?}");
    }
    dlm.close_session(w.now, SessionId(11));
    w.settle();
    assert_eq!(w.answer(3, 12), Some(&Err(Refusal::NoSuchOrphan)));
}

/// Protects others from two holders when the asking node leaves in the middle: it goes only when nobody restates any
/// more what it releases.
#[test]
fn a_node_that_leaves_waits_for_what_is_coming() {
    let mut ends = [0, 0];
    for carried in 0..LONG {
        let mut w = World::new(&MastersConfig::default());
        let name = orphan(&mut w, 1, Ex, KEPT);
        seek(&mut w, 3, call(5, &name, Ex, KEPT));
        w.carry(carried);
        let now = w.now;
        let dlm = w.nodes.get_mut(&3).unwrap();
        dlm.end_orphans(now);
        dlm.close_session(now, HEIR);
        dlm.begin_leave(now);
        let waits = !dlm.may_go();
        w.settle();
        assert!(w.nodes[&3].may_go(), "after {carried} messages");
        let left = orphans(&w);
        w.depart(3, Proof::LeftCleanly);
        assert_eq!(orphans(&w), left);
        assert_eq!(
            is_free(&mut w, 1, &name),
            left.is_empty(),
            "after {carried} messages"
        );
        ends[usize::from(waits)] += 1;
    }
    assert!(ends.iter().all(|count| *count > 0), "{ends:?}");
}

/// Protects an orphan from a node that leaves before it hears that it may have it: it has asked no master, and so it
/// is where it was.
#[test]
fn what_a_node_leaves_without_asking_for_stays() {
    for proof in [Proof::LeftCleanly, Proof::Rests, Proof::LeaseExpired] {
        let mut w = World::new(&MastersConfig::default());
        let name = orphan(&mut w, 1, Ex, KEPT);
        w.parted = Some((2, 3));
        sought(&mut w, 3, call(5, &name, Ex, KEPT));
        let now = w.now;
        let dlm = w.nodes.get_mut(&3).unwrap();
        dlm.end_orphans(now);
        dlm.close_session(now, HEIR);
        dlm.begin_leave(now);
        assert!(dlm.may_go());
        w.settle();
        let knows = proof != Proof::LeaseExpired;
        w.depart(3, proof);
        assert_eq!(orphans(&w).len(), usize::from(knows));
        assert_eq!(is_free(&mut w, 1, &name), !knows);
        if knows {
            let adopted = sought(&mut w, 1, call(6, &name, Ex, KEPT));
            assert!(w.granted(1, adopted).is_some());
        }
    }
}

/// Protects a client that thinks better of it: a search that nobody has given anything to yet ends.
#[test]
fn a_search_can_be_cancelled() {
    let mut w = World::new(&MastersConfig::default());
    let name = orphan(&mut w, 1, Ex, KEPT);
    let adopted = seek(&mut w, 3, call(5, &name, Ex, KEPT));
    let cancel = w.requests + 1;
    w.requests = cancel;
    let now = w.now;
    let dlm = w.nodes.get_mut(&3).unwrap();
    dlm.cancel(now, HEIR, cancel, Handle(5));
    w.settle();
    assert_eq!(w.answer(3, adopted), Some(&Err(Refusal::Cancelled)));
    assert_eq!(w.answer(3, cancel), Some(&Ok(Answer::Cancelled)));
    assert_eq!(orphans(&w).len(), 1, "it is where it was");
    let again = sought(&mut w, 3, call(5, &name, Ex, KEPT));
    assert!(w.granted(3, again).is_some());
}
