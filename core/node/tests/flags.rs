//! What the flags of lock calls do across nodes: with the master near and far, and through the death
//! of the master.

#![allow(missing_docs)]

mod world;

use mainstay_base::{LockMode, LockspaceId, NodeId, SessionId, ValueBlock};
use mainstay_wire::{
    client::{Answer, Ask, Handle, ToClient},
    event::What,
    lock::{Flags, Granted, Refusal},
};
use std::time::Duration;
use world::World;

const N1: NodeId = NodeId(1);
const N2: NodeId = NodeId(2);
const N3: NodeId = NodeId(3);

/// Three nodes with a session each; node 1 masters `disk` and holds nothing.
fn cluster() -> (World, LockspaceId) {
    let (mut w, space) = World::three();
    let first = lock(&mut w, space, N1, LockMode::Nl, Flags::NONE);
    w.granted(N1, first);
    let gone = unlock(&mut w, N1, Flags::NONE);
    w.wait(N1, gone).expect("held");
    (w, space)
}

fn lock(w: &mut World, space: LockspaceId, node: NodeId, mode: LockMode, flags: Flags) -> u64 {
    let ask = World::lock_ask(1, space, "disk", mode, flags);
    w.ask(node, u64::from(node.0), ask)
}

fn held(w: &mut World, space: LockspaceId, node: NodeId, mode: LockMode) {
    let request = lock(w, space, node, mode, Flags::NONE);
    w.granted(node, request);
}

fn convert(w: &mut World, node: NodeId, mode: LockMode, flags: Flags) -> u64 {
    let ask = Ask::Convert {
        handle: Handle(1),
        mode,
        flags,
        blocking: true,
        value: None,
        timeout_ms: None,
    };
    w.ask(node, u64::from(node.0), ask)
}

fn unlock(w: &mut World, node: NodeId, flags: Flags) -> u64 {
    w.ask(node, u64::from(node.0), World::unlock_ask(1, flags))
}

fn heard(w: &World, node: NodeId, message: &ToClient) -> usize {
    let to = SessionId(u64::from(node.0));
    let all = w.hosts[&node].heard.iter();
    all.filter(|(session, said)| *session == to && said == message)
        .count()
}

fn demotions(w: &World, node: NodeId) -> usize {
    let handle = Handle(1);
    heard(w, node, &ToClient::Demoted { handle })
}

/// The grant of a call that was not granted as asked: whether in the alternate mode, and whether
/// after a demotion.
fn otherwise(w: &mut World, node: NodeId, request: u64) -> (Granted, bool, bool) {
    match w.wait(node, request) {
        Ok(Answer::GrantedOtherwise {
            granted,
            altmode,
            demoted,
        }) => (granted, altmode, demoted),
        other => panic!("not granted otherwise: {other:?}"),
    }
}

const SHORT: Duration = Duration::from_millis(50);

/// Protects alternates: an asked mode that cannot be granted gives way to the alternate, and the
/// grant says so, with the master near and far.
#[test]
fn an_alternate_is_granted_and_told() {
    for node in [N1, N2] {
        let (mut w, space) = cluster();
        held(&mut w, space, N3, LockMode::Pr);
        let asked = lock(&mut w, space, node, LockMode::Ex, Flags::ALTPR);
        let (granted, altmode, demoted) = otherwise(&mut w, node, asked);
        assert_eq!(
            (granted.mode, altmode, demoted),
            (LockMode::Pr, true, false)
        );
        let again = convert(&mut w, node, LockMode::Pw, Flags::ALTPR);
        let (granted, altmode, _) = otherwise(&mut w, node, again);
        assert_eq!((granted.mode, altmode), (LockMode::Pr, true));
        let gone = unlock(&mut w, N3, Flags::NONE);
        w.wait(N3, gone).expect("held");
        w.run(SHORT);
        let again = convert(&mut w, node, LockMode::Pw, Flags::ALTPR);
        assert_eq!(w.granted(node, again).mode, LockMode::Pw);
    }
}

/// Protects alternates in a recovery: a request that waits with one is tried again in both modes by
/// the next master.
#[test]
fn an_alternate_outlives_the_master() {
    let (mut w, space) = cluster();
    held(&mut w, space, N3, LockMode::Cw);
    let asked = lock(&mut w, space, N2, LockMode::Ex, Flags::ALTPR);
    w.run(SHORT);
    assert!(w.result(N2, asked).is_none(), "CW excludes both");
    w.kill(N1);
    w.run(Duration::from_secs(4));
    assert!(w.result(N2, asked).is_none(), "CW excludes both");
    let down = convert(&mut w, N3, LockMode::Cr, Flags::NONE);
    w.granted(N3, down);
    let (granted, altmode, _) = otherwise(&mut w, N2, asked);
    assert_eq!((granted.mode, altmode), (LockMode::Pr, true));
}

/// Two holders of PR; the one of `other` converts to EX and waits for that of `node`.
fn deadlock_to_be(node: NodeId, other: NodeId) -> (World, u64) {
    let (mut w, space) = cluster();
    held(&mut w, space, other, LockMode::Pr);
    held(&mut w, space, node, LockMode::Pr);
    let first = convert(&mut w, other, LockMode::Ex, Flags::NONE);
    w.run(SHORT);
    assert!(w.result(other, first).is_none(), "it waits for {node}");
    (w, first)
}

/// Protects CONVDEADLK: who agrees to it is demoted instead of refused, is told before the other is
/// granted, and waits behind it.
#[test]
fn a_conversion_may_be_demoted_rather_than_refused() {
    for (node, other) in [(N1, N2), (N2, N1), (N2, N3)] {
        let (mut w, first) = deadlock_to_be(node, other);
        let second = convert(&mut w, node, LockMode::Ex, Flags::CONVDEADLK);
        let at_once = w.token(other, first);
        assert_eq!(demotions(&w, node), 1, "told by the time of the grant");
        assert!(w.result(node, second).is_none(), "{other} has EX");
        let gone = unlock(&mut w, other, Flags::NONE);
        w.wait(other, gone).expect("held");
        let (granted, altmode, demoted) = otherwise(&mut w, node, second);
        assert_eq!(
            (granted.mode, altmode, demoted),
            (LockMode::Ex, false, true)
        );
        assert!(granted.token > at_once);
        let ask = World::convert_ask(1, LockMode::Pr, Some(b"v"));
        let next = w.ask(node, u64::from(node.0), ask);
        let down = w.granted(node, next);
        assert_eq!(down.mode, LockMode::Pr, "no demotion is left");
        assert_eq!(down.value.expect("published").version.0, 1);
    }
}

/// Protects owners from being refused twice, and from taking the old mode for held: without
/// CONVDEADLK the deadlock refuses and the old mode stays; with it, a call that is cancelled leaves
/// NL, and says so.
#[test]
fn a_refusal_tells_the_mode_that_is_left() {
    for (node, other) in [(N1, N2), (N2, N1)] {
        let (mut w, first) = deadlock_to_be(node, other);
        let refused = convert(&mut w, node, LockMode::Ex, Flags::NONE);
        assert_eq!(w.wait(node, refused), Err(Refusal::Deadlock));
        assert_eq!(demotions(&w, node), 0);
        let second = convert(&mut w, node, LockMode::Ex, Flags::CONVDEADLK);
        w.granted(other, first);
        let handle = Handle(1);
        let cancel = w.ask(node, u64::from(node.0), Ask::Cancel { handle });
        let cancelled = Refusal::AfterDemotion(Box::new(Refusal::Cancelled));
        assert_eq!(w.wait(node, second), Err(cancelled));
        assert_eq!(w.wait(node, cancel), Ok(Answer::Cancelled));
        let again = convert(&mut w, node, LockMode::Ex, Flags::NOQUEUE);
        assert_eq!(
            w.wait(node, again),
            Err(Refusal::NotQueued),
            "{other} has EX"
        );
        let gone = unlock(&mut w, node, Flags::NONE);
        w.wait(node, gone).expect("in nl");
    }
}

/// Protects a demoted lock in a recovery: it is restated as it is, in NL and waiting, so that what
/// was granted on the strength of its demotion stays granted alone.
#[test]
fn a_demotion_outlives_the_master() {
    let (mut w, first) = deadlock_to_be(N2, N3);
    let second = convert(&mut w, N2, LockMode::Ex, Flags::CONVDEADLK);
    w.granted(N3, first);
    w.kill(N1);
    w.run(Duration::from_secs(4));
    assert!(w.result(N2, second).is_none(), "n3 still has EX");
    let gone = unlock(&mut w, N3, Flags::NONE);
    w.wait(N3, gone).expect("held");
    let (granted, _, demoted) = otherwise(&mut w, N2, second);
    assert_eq!((granted.mode, demoted), (LockMode::Ex, true));
    assert_eq!(demotions(&w, N2), 1);
}

/// Protects a conversion that meets its deadlock only at the next master: the call to the dead one
/// was never answered, and the demotion happens then.
#[test]
fn a_demotion_may_come_from_the_next_master() {
    let (mut w, first) = deadlock_to_be(N2, N3);
    w.kill(N1);
    let second = convert(&mut w, N2, LockMode::Ex, Flags::CONVDEADLK);
    assert_eq!(demotions(&w, N2), 0, "nobody is there to decide");
    w.granted(N3, first);
    assert_eq!(demotions(&w, N2), 1);
    let gone = unlock(&mut w, N3, Flags::NONE);
    w.wait(N3, gone).expect("held");
    assert!(otherwise(&mut w, N2, second).2);
}

/// Protects NODLCKWT: such a conversion waits where others would be refused, and its holder is told
/// whom it blocks, so that it can keep its promise to let go.
#[test]
fn a_promise_to_let_go_waits_and_is_told() {
    for (node, other) in [(N1, N2), (N2, N1), (N2, N3)] {
        let (mut w, first) = deadlock_to_be(node, other);
        let second = convert(&mut w, node, LockMode::Pw, Flags::NODLCKWT);
        w.run(SHORT);
        assert!(w.result(node, second).is_none(), "it waits");
        let told = ToClient::Blocking {
            handle: Handle(1),
            mode: LockMode::Ex,
        };
        assert_eq!(heard(&w, node, &told), 1);
        let handle = Handle(1);
        w.ask(node, u64::from(node.0), Ask::Cancel { handle });
        assert_eq!(w.wait(node, second), Err(Refusal::Cancelled));
        unlock(&mut w, node, Flags::NONE);
        w.granted(other, first);
    }
}

/// Protects callers from flags that cannot mean anything: they are refused at once, where they are
/// asked for, and change nothing.
#[test]
fn contradictions_are_refused() {
    let (mut w, space) = cluster();
    let both = Flags::ALTPR | Flags::ALTCW;
    for (mode, flags) in [
        (LockMode::Ex, both),
        (LockMode::Cr, Flags::ALTPR),
        (LockMode::Ex, Flags::CONVDEADLK),
    ] {
        let asked = lock(&mut w, space, N2, mode, flags);
        let why = w.wait(N2, asked).expect_err("contradictory");
        assert_eq!(why.code(), "invalid", "{why}");
    }
    held(&mut w, space, N2, LockMode::Pr);
    for flags in [
        Flags::ALTCW,
        Flags::CONVDEADLK | Flags::NOQUEUE,
        Flags::CONVDEADLK | Flags::NODLCKWT,
    ] {
        let asked = convert(&mut w, N2, LockMode::Ex, flags);
        let why = w.wait(N2, asked).expect_err("contradictory");
        assert_eq!(why.code(), "invalid", "{why}");
    }
    let up = convert(&mut w, N2, LockMode::Ex, Flags::NONE);
    assert_eq!(w.granted(N2, up).mode, LockMode::Ex);
}

/// Unlocks by force; publishes, if there is something.
fn force(w: &mut World, node: NodeId, value: Option<&[u8]>) -> u64 {
    let mut flags = Flags::FORCEUNLOCK;
    if value.is_some() {
        flags |= Flags::VALBLK;
    }
    let value = value.map(|v| ValueBlock::new(v).expect("short"));
    let handle = Handle(1);
    let ask = Ask::Unlock {
        handle,
        flags,
        value,
    };
    w.ask(node, u64::from(node.0), ask)
}

/// Protects FORCEUNLOCK: what waits ends, a cancel of it comes too late, the lock goes, and others go
/// on; with the master near and far.
#[test]
fn a_waiting_lock_is_released_by_force() {
    for (node, other) in [(N1, N2), (N2, N1), (N2, N3)] {
        let (mut w, space) = cluster();
        held(&mut w, space, other, LockMode::Pr);
        let waits = lock(&mut w, space, node, LockMode::Ex, Flags::NONE);
        w.run(SHORT);
        let plain = unlock(&mut w, node, Flags::NONE);
        assert_eq!(w.wait(node, plain), Err(Refusal::Busy));
        let forced = force(&mut w, node, None);
        assert_eq!(w.wait(node, waits), Err(Refusal::Released));
        let released = Ok(Answer::Unlocked { version: None });
        assert_eq!(w.wait(node, forced), released);
        let again = unlock(&mut w, node, Flags::FORCEUNLOCK);
        assert_eq!(w.wait(node, again), Err(Refusal::NoSuchLock));

        held(&mut w, space, node, LockMode::Pr);
        let upgrade = convert(&mut w, other, LockMode::Ex, Flags::NONE);
        w.run(SHORT);
        let waits = convert(&mut w, node, LockMode::Ex, Flags::NODLCKWT);
        w.run(SHORT);
        assert!(w.result(node, waits).is_none() && w.result(other, upgrade).is_none());
        let forced = force(&mut w, node, None);
        assert_eq!(w.wait(node, waits), Err(Refusal::Released));
        assert_eq!(w.wait(node, forced), released);
        w.granted(other, upgrade);
        let forced = force(&mut w, other, None);
        assert_eq!(w.wait(other, forced), released, "nothing waited");
    }
}

/// Protects publications under FORCEUNLOCK: they are made from the mode that is held, by the master
/// or by the next one; and what cannot be published is refused before anything has ended.
#[test]
fn a_release_by_force_publishes() {
    for (node, other, dies) in [(N1, N2, false), (N2, N1, false), (N2, N3, true)] {
        let (mut w, space) = cluster();
        let writer = lock(&mut w, space, node, LockMode::Pw, Flags::VALBLK);
        w.granted(node, writer);
        let reader = lock(&mut w, space, other, LockMode::Cr, Flags::VALBLK);
        w.granted(other, reader);
        let waits = convert(&mut w, node, LockMode::Ex, Flags::VALBLK);
        w.run(SHORT);
        let long = force(&mut w, node, Some(&[7; 33]));
        assert_eq!(w.wait(node, long).expect_err("too long").code(), "invalid");
        assert!(w.result(node, waits).is_none(), "nothing has ended");
        if dies {
            w.kill(N1);
        }
        let forced = force(&mut w, node, Some(b"new"));
        assert_eq!(w.wait(node, waits), Err(Refusal::Released));
        match w.wait(node, forced) {
            Ok(Answer::Unlocked { version: Some(_) }) => {}
            other => panic!("not published: {other:?}"),
        }
        let up = convert(&mut w, other, LockMode::Pr, Flags::VALBLK);
        let read = w.granted(other, up).value.expect("asked for");
        assert_eq!(&read.block.as_bytes()[..3], b"new");
        // A dead master may have shown another's later value to somebody.
        assert_eq!(read.maybe_stale, dies);
    }
}

/// Protects the mark that IVVALBLK sets: also where the lock itself never read the value, and its
/// master is elsewhere.
#[test]
fn a_release_may_mark_the_value_wherever_its_master_is() {
    for node in [N1, N2] {
        let (mut w, space) = cluster();
        let reader = lock(&mut w, space, N3, LockMode::Nl, Flags::VALBLK);
        w.granted(N3, reader);
        held(&mut w, space, node, LockMode::Pw);
        let gone = unlock(&mut w, node, Flags::IVVALBLK);
        w.wait(node, gone).expect("held");
        w.run(SHORT);
        let up = convert(&mut w, N3, LockMode::Pr, Flags::VALBLK);
        assert!(w.granted(N3, up).value.expect("asked for").maybe_stale);
    }
}

fn promise(w: &mut World, node: NodeId, within_ms: Option<u32>, release: bool) {
    let ask = Ask::SetResponseTime {
        handle: Handle(1),
        within_ms,
        release,
    };
    let set = w.ask(node, u64::from(node.0), ask);
    assert_eq!(w.wait(node, set), Ok(Answer::ResponseTimeSet));
}

fn overdue(w: &World, node: NodeId, released: bool) -> usize {
    let told = ToClient::Overdue {
        handle: Handle(1),
        mode: LockMode::Ex,
        released,
    };
    let all = w.hosts[&node].events.iter();
    let events = all.filter(
        |e| matches!(e.what, What::NoticeUnheeded { released: r, waited_ms: 200.., .. } if r == released),
    );
    assert_eq!(events.count(), heard(w, node, &told), "told and in the log");
    heard(w, node, &told)
}

/// Protects waiters from owners who forget them: who promised to heed notices and does not is told,
/// and named by an event, once per notice; the lock stays. Heeding in time, or taking the promise
/// back, is no reason to complain.
#[test]
fn a_broken_promise_is_told() {
    for (node, other) in [(N1, N2), (N2, N1)] {
        let (mut w, space) = cluster();
        held(&mut w, space, node, LockMode::Pr);
        promise(&mut w, node, Some(200), false);
        let waits = lock(&mut w, space, other, LockMode::Ex, Flags::NONE);
        w.run(Duration::from_millis(150));
        assert_eq!(overdue(&w, node, false), 0, "there is time left");
        w.run(Duration::from_millis(600));
        assert_eq!(overdue(&w, node, false), 1, "once");
        assert!(w.result(other, waits).is_none(), "the lock was not taken");
        let down = convert(&mut w, node, LockMode::Nl, Flags::NONE);
        w.granted(node, down);
        w.granted(other, waits);

        let up = convert(&mut w, node, LockMode::Pr, Flags::NONE);
        let gone = unlock(&mut w, other, Flags::NONE);
        w.wait(other, gone).expect("held");
        w.granted(node, up);
        let waits = lock(&mut w, space, other, LockMode::Ex, Flags::NONE);
        w.run(Duration::from_millis(150));
        let down = convert(&mut w, node, LockMode::Nl, Flags::NONE);
        w.granted(node, down);
        w.granted(other, waits);
        w.run(Duration::from_millis(600));
        assert_eq!(overdue(&w, node, false), 1, "heeded in time");

        let up = convert(&mut w, node, LockMode::Pr, Flags::NONE);
        let gone = unlock(&mut w, other, Flags::NONE);
        w.wait(other, gone).expect("held");
        w.granted(node, up);
        promise(&mut w, node, None, false);
        lock(&mut w, space, other, LockMode::Ex, Flags::NONE);
        w.run(Duration::from_millis(600));
        assert_eq!(overdue(&w, node, false), 1, "taken back");
    }
}

/// Protects waiters where the owner has allowed that its lock is taken: it is, with what it waits
/// for, whatever it was writing is marked, and its handle is free.
#[test]
fn a_lock_is_taken_where_its_owner_allows_it() {
    for (node, reader, other) in [(N1, N2, N3), (N2, N1, N3), (N2, N3, N1)] {
        let (mut w, space) = cluster();
        let writer = lock(&mut w, space, node, LockMode::Pw, Flags::VALBLK);
        w.granted(node, writer);
        held(&mut w, space, reader, LockMode::Cr);
        promise(&mut w, node, Some(200), true);
        let waits = convert(&mut w, node, LockMode::Ex, Flags::NODLCKWT);
        w.run(SHORT);
        let asked = lock(&mut w, space, other, LockMode::Ex, Flags::VALBLK);
        w.until("its time is over", |w| w.result(node, waits).is_some());
        assert_eq!(overdue(&w, node, true), 1);
        assert_eq!(w.wait(node, waits), Err(Refusal::Released));
        assert!(
            w.result(other, asked).is_none(),
            "{reader} has promised nothing"
        );
        let gone = unlock(&mut w, reader, Flags::NONE);
        w.wait(reader, gone).expect("held");
        let granted = w.granted(other, asked);
        assert!(granted.value.expect("asked for").maybe_stale);
        let gone = unlock(&mut w, node, Flags::NONE);
        assert_eq!(w.wait(node, gone), Err(Refusal::NoSuchLock));
        lock(&mut w, space, node, LockMode::Nl, Flags::EXPEDITE);
    }
}

/// Protects callers from promises that cannot mean anything.
#[test]
fn an_empty_promise_is_refused() {
    let (mut w, space) = cluster();
    held(&mut w, space, N2, LockMode::Pr);
    let quiet = Ask::Convert {
        handle: Handle(1),
        mode: LockMode::Pr,
        flags: Flags::NONE,
        blocking: false,
        value: None,
        timeout_ms: None,
    };
    let mut ask = |handle, within_ms, release| {
        let ask = Ask::SetResponseTime {
            handle: Handle(handle),
            within_ms,
            release,
        };
        let set = w.ask(N2, 2, ask);
        w.wait(N2, set).map_err(|why| why.code())
    };
    assert_eq!(ask(1, Some(0), false), Err("invalid"));
    assert_eq!(ask(1, None, true), Err("invalid"));
    assert_eq!(ask(9, Some(5), false), Err("no-such-lock"));
    assert_eq!(ask(1, None, false), Ok(Answer::ResponseTimeSet));
    let set = w.ask(N2, 2, quiet);
    w.granted(N2, set);
    let ask = Ask::SetResponseTime {
        handle: Handle(1),
        within_ms: Some(5),
        release: false,
    };
    let set = w.ask(N2, 2, ask);
    assert_eq!(w.wait(N2, set).map_err(|why| why.code()), Err("invalid"));
}
