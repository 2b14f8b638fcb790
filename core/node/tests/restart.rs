//! Sessions that outlive their daemon (docs/protocol/restart.md).

#![allow(missing_docs, clippy::unwrap_used)]

#[allow(dead_code, reason = "other tests use the rest")]
mod world;

use mainstay_base::{FencePolicy, LockMode, LockspaceId, NodeId, SessionId};
use mainstay_node::Input;
use mainstay_wire::{
    carry::Carried,
    client::{Answer, Ask, Handle, ToClient},
    event::{Reason, What},
    keep::SessionKey,
    lock::{Flags, Refusal},
};
use std::time::Duration;
use world::World;

const N1: NodeId = NodeId(1);
const N2: NodeId = NodeId(2);
const KEY: SessionKey = SessionKey([9; 16]);
/// The session that asks the node to rest.
const OPERATOR: u64 = 8;

fn ex(space: LockspaceId, handle: u64, name: &str) -> Ask {
    World::lock_ask(handle, space, name, LockMode::Ex, Flags::NONE)
}

/// Three nodes; session 1 of the first is kept, has a lock on `mine` and waits for `theirs`, which node 2
/// holds. What it waits for, and what node 2 waits for: `mine`.
fn waiting() -> (World, LockspaceId, u64, u64) {
    let (mut w, space) = World::three();
    let held = w.ask(N2, 2, ex(space, 1, "theirs"));
    w.granted(N2, held);
    w.requests = 1000;
    let keep = Input::Keep {
        session: SessionId(1),
        request: 1000,
        grace_ms: 30_000,
        key: KEY,
    };
    w.input(N1, keep);
    let mine = w.ask(N1, 1, ex(space, 1, "mine"));
    w.granted(N1, mine);
    let waits = w.ask(N1, 1, ex(space, 2, "theirs"));
    w.run(Duration::from_millis(20));
    // By a session that holds nothing, so that it is no deadlock.
    w.open(N2, 5);
    w.space(N2, 5);
    let wanted = w.ask(N2, 5, ex(space, 1, "mine"));
    w.run(Duration::from_millis(20));
    (w, space, waits, wanted)
}

fn rest(w: &mut World, for_ms: u32) {
    w.open(N1, OPERATOR);
    let asked = w.ask(N1, OPERATOR, Ask::Rest { for_ms });
    w.until("it has stopped", |w| w.hosts[&N1].stopped.is_some());
    assert_eq!(w.result(N1, asked), Some(Ok(Answer::Left)));
}

fn reattach(w: &mut World, connection: u64) {
    let node = w.hosts[&N1].node.as_ref().unwrap();
    assert!(!node.expects(SessionId(1)), "it can say what became of it");
    let reattach = Input::Reattach {
        connection: SessionId(connection),
        session: SessionId(1),
        key: KEY,
        heard: 0,
        uid: 0,
    };
    w.input(N1, reattach);
}

fn release(w: &mut World, id: NodeId, session: u64, handle: u64) {
    let unlock = w.ask(id, session, World::unlock_ask(handle, Flags::NONE));
    w.wait(id, unlock).unwrap();
}

/// Protects what the whole is for: the next life has the session with its lock, nobody else gets that
/// meanwhile, the call that waited is made again, and all that was told is told once.
#[test]
fn the_next_life_goes_on_where_it_was() {
    let (mut w, _, waits, wanted) = waiting();
    rest(&mut w, 20_000);
    let host = w.hosts.get_mut(&N1).unwrap();
    assert!(
        host.closed.contains(&SessionId(1)),
        "its connection is closed"
    );
    let told = |message: &ToClient| matches!(message, ToClient::SessionLost { .. });
    let own = |heard: &[(SessionId, ToClient)]| -> Vec<ToClient> {
        let own = heard.iter().filter(|(session, _)| session.0 == 1);
        own.map(|(_, message)| message.clone()).collect()
    };
    assert!(
        !own(&host.heard).iter().any(told),
        "its session is not lost"
    );
    host.heard.clear();
    w.run(Duration::from_millis(5000));
    assert_eq!(w.result(N2, wanted), None, "the lock is kept");
    w.start(N1);
    let node = w.hosts[&N1].node.as_ref().unwrap();
    assert!(node.expects(SessionId(1)) && node.next_session() == 2);
    w.until("the session is back", |w| {
        let node = w.hosts[&N1].node.as_ref();
        node.is_some_and(|node| node.is_kept(SessionId(1)))
    });
    w.settle();
    reattach(&mut w, 77);
    let heard = own(&w.hosts[&N1].heard);
    let answers: Vec<u64> = heard
        .iter()
        .filter_map(|message| match message {
            ToClient::Done { request, .. } => Some(*request),
            _ => None,
        })
        .collect();
    let first = ToClient::Done {
        request: 0,
        result: Ok(Answer::Reattached {
            asked: waits,
            told: heard.len() as u64 - 1,
        }),
    };
    assert_eq!(
        (&heard[0], &answers[..]),
        (&first, &[0, waits - 1][..]),
        "{heard:?}"
    );
    w.run(Duration::from_millis(500));
    assert_eq!(w.result(N2, wanted), None, "the lock is still held");
    release(&mut w, N2, 2, 1);
    w.granted(N1, waits);
    release(&mut w, N1, 1, 1);
    w.granted(N2, wanted);
}

/// Protects everybody else from a node that does not come back, and its clients from locks that are
/// another's: when the time is over, the lock is given away, and the session is not continued.
#[test]
fn the_rest_ends_when_its_time_is_over() {
    let (mut w, _, _, wanted) = waiting();
    rest(&mut w, 2000);
    let rested = w.now;
    w.granted(N2, wanted);
    let lasted = w.now.since(rested);
    let about = Duration::from_millis(1900)..Duration::from_millis(2300);
    assert!(about.contains(&lasted), "{lasted:?}");
    w.start(N1);
    w.settle();
    reattach(&mut w, 77);
    let away = &w.hosts[&N1].turned_away;
    assert_eq!(away[..], [(SessionId(77), Refusal::NoSuchSession)]);
}

/// Protects the locks of others from what was lost on the way: a life that finds nothing of the one before, or
/// something damaged, says so, and ends the rest at once.
#[test]
fn what_is_lost_ends_the_rest_at_once() {
    for damaged in [false, true] {
        let (mut w, _, _, wanted) = waiting();
        rest(&mut w, 60_000);
        let left = &mut w.hosts.get_mut(&N1).unwrap().carried;
        match damaged {
            true => left.as_mut().unwrap()[9] ^= 1,
            false => *left = None,
        }
        w.start(N1);
        w.granted(N2, wanted);
        let mut events = w.hosts[&N1].events.iter();
        let proved = events.any(|event| {
            matches!(event.what, What::Fenced { node: N1, .. }) && event.reason == Reason::RestOver
        });
        assert!(proved);
        w.settle();
        reattach(&mut w, 77);
        assert_eq!(w.hosts[&N1].turned_away.len(), 1);
    }
}

/// Protects a session from a master that dies while its node rests: if the node is back before the proof, it
/// restates its locks as any member does.
#[test]
fn who_is_back_before_a_proof_restates_as_any_member() {
    let (mut w, _, _, wanted) = waiting();
    rest(&mut w, 60_000);
    w.kill(NodeId(3));
    w.start(N1);
    w.until("the session is back", |w| {
        let node = w.hosts[&N1].node.as_ref();
        node.is_some_and(|node| node.is_kept(SessionId(1)))
    });
    w.run(Duration::from_millis(4000));
    assert_eq!(
        w.result(N2, wanted),
        None,
        "the lock is held by the next life"
    );
    reattach(&mut w, 77);
    release(&mut w, N1, 1, 1);
    w.granted(N2, wanted);
}

/// Protects people from promises that cannot be kept.
#[test]
fn a_node_refuses_to_rest_in_vain() {
    let refused = |w: &mut World, for_ms: u32| {
        let asked = w.ask(N1, OPERATOR, Ask::Rest { for_ms });
        match w.wait(N1, asked) {
            Err(Refusal::Invalid(why) | Refusal::Unavailable(why)) => why,
            other => panic!("{other:?}"),
        }
    };
    let mut w = World::new(1, FencePolicy::Lease);
    w.settle();
    w.open(N1, OPERATOR);
    let why = refused(&mut w, 5000);
    assert!(why.contains("only member"), "{why}");
    let (mut w, _) = World::three();
    w.open(N1, OPERATOR);
    for for_ms in [0, 999, 60_001, u32::MAX] {
        let why = refused(&mut w, for_ms);
        assert!(why.contains("1000 to 60000 ms"), "{why}");
    }
    w.kill(NodeId(3));
    w.until("it is removed", |w| {
        let node = w.hosts[&N1].node.as_ref().unwrap();
        !node.cluster_state().view().pending.is_empty()
    });
    let why = refused(&mut w, 5000);
    assert!(why.contains("not proved harmless"), "{why}");
}

/// Asks node 1 to rest, and does not wait for it.
fn begin_rest(w: &mut World) -> u64 {
    w.open(N1, OPERATOR);
    w.ask(N1, OPERATOR, Ask::Rest { for_ms: 30_000 })
}

fn back(w: &mut World) {
    w.start(N1);
    w.until("the session is back", |w| {
        let node = w.hosts[&N1].node.as_ref();
        node.is_some_and(|node| node.is_kept(SessionId(1)))
    });
    w.run(Duration::from_millis(500));
}

fn keep(w: &mut World, session: u64) -> u64 {
    w.requests += 1;
    let keep = Input::Keep {
        session: SessionId(session),
        request: w.requests,
        grace_ms: 30_000,
        key: KEY,
    };
    let request = w.requests;
    w.input(N1, keep);
    request
}

/// Protects databases and file systems: locks on ranges go along, whoever masters the resource; what waits for them is
/// told anew, and waits on; what they wait for is asked for again.
#[test]
fn ranges_go_on_too() {
    let (mut w, space) = World::three();
    let masters = [N1, N2, NodeId(3), N1];
    keep(&mut w, 1);
    let ask = |handle, name: &str, range: &str, mode| {
        World::range_ask(handle, space, name, range, mode, Flags::NONE)
    };
    let mut wanted = Vec::new();
    for (handle, master) in (1..).zip(masters) {
        let name = format!("r{handle}");
        // Who is first masters it.
        let first = w.ask(
            master,
            u64::from(master.0),
            ask(50 + handle, &name, "900-901", LockMode::Pr),
        );
        w.wait(master, first).unwrap();
        for (range, mode) in [("0-9", LockMode::Ex), ("20-29", LockMode::Pr)] {
            let held = w.ask(N1, 1, ask(handle, &name, range, mode));
            w.wait(N1, held).unwrap();
        }
        wanted.push(w.ask(N2, 2, ask(handle, &name, "5-24", LockMode::Ex)));
    }
    let (n3, other) = (NodeId(3), 3);
    let theirs = w.ask(n3, other, ask(9, "theirs", "0-9", LockMode::Ex));
    w.wait(n3, theirs).unwrap();
    let waits = w.ask(N1, 1, ask(9, "theirs", "5-14", LockMode::Pr));
    let mut limited = ask(10, "theirs", "8-8", LockMode::Pr);
    if let Ask::Range { timeout_ms, .. } = &mut limited {
        *timeout_ms = Some(15_000);
    }
    let (begun, limited) = (w.now, w.ask(N1, 1, limited));
    w.run(Duration::from_millis(100));
    begin_rest(&mut w);
    w.until("it has stopped", |w| w.hosts[&N1].stopped.is_some());
    assert!(w.hosts[&N1].carried.is_some(), "it rests");
    w.hosts.get_mut(&N1).unwrap().heard.clear();
    w.run(Duration::from_millis(2000));
    back(&mut w);
    w.run(Duration::from_millis(1000));
    reattach(&mut w, 77);
    let mut told: Vec<u64> = w.hosts[&N1]
        .heard
        .iter()
        .filter_map(|(_, message)| match message {
            ToClient::RangeBlocking { handle, .. } => Some(handle.0),
            _ => None,
        })
        .collect();
    told.sort_unstable();
    assert_eq!(told, [1, 1, 2, 2, 3, 3, 4, 4], "once by each life");
    assert_eq!(w.result(N1, waits), None);
    assert_eq!(w.result(N1, limited), None);
    w.run(Duration::from_millis(15_100) - w.now.since(begun));
    assert_eq!(w.result(N1, limited), Some(Err(Refusal::TimedOut)));
    let gone = w.ask(n3, other, ask(9, "theirs", "0-9", LockMode::Nl));
    w.wait(n3, gone).unwrap();
    w.wait(N1, waits).unwrap();
    for (handle, request) in (1..).zip(wanted) {
        assert_eq!(w.result(N2, request), None, "it is held by the next life");
        let name = format!("r{handle}");
        // It knows what it holds, and its masters do.
        for (range, mode) in [("0-9", LockMode::Pr), ("0-24", LockMode::Nl)] {
            let less = w.ask(N1, 1, ask(handle, &name, range, mode));
            let holds = w.wait(N1, less).unwrap();
            assert!(matches!(holds, Answer::RangeSet { holds: true, .. }));
        }
        w.wait(N2, request).unwrap();
        release(&mut w, N1, 1, handle);
    }
}

/// Protects exclusion: a master dies while a node is about to rest, which comes to rebuild some of what that
/// mastered after it has handed over the rest.
#[test]
fn what_it_comes_to_rebuild_last_is_handed_over_too() {
    let (mut w, space) = World::three();
    let names: Vec<String> = (0..12).map(|n| format!("r{n}")).collect();
    keep(&mut w, 1);
    let mut wanted = Vec::new();
    for (handle, name) in (1..).zip(&names) {
        let ask = World::lock_ask(handle, space, name, LockMode::Nl, Flags::NONE);
        let first = w.ask(NodeId(3), 3, ask);
        w.granted(NodeId(3), first); // It masters that.
        let held = w.ask(N1, 1, ex(space, handle, name));
        w.granted(N1, held);
        wanted.push(w.ask(N2, 2, ex(space, handle, name)));
    }
    begin_rest(&mut w);
    w.run(Duration::from_millis(100));
    w.kill(NodeId(3));
    w.until("it has stopped", |w| w.hosts[&N1].stopped.is_some());
    assert!(w.hosts[&N1].carried.is_some(), "it rests");
    w.run(Duration::from_millis(2000));
    back(&mut w);
    w.run(Duration::from_millis(1000));
    for request in &wanted {
        assert_eq!(
            w.result(N2, *request),
            None,
            "all are held by the next life"
        );
    }
    reattach(&mut w, 77);
    for (handle, request) in (1..).zip(wanted) {
        release(&mut w, N1, 1, handle);
        w.granted(N2, request);
    }
}

/// Protects each call's one end: what its client has cancelled is not made again.
#[test]
fn a_cancelled_call_is_not_made_again() {
    let (mut w, _, waits, _) = waiting();
    let cancel = w.ask(N1, 1, Ask::Cancel { handle: Handle(2) });
    begin_rest(&mut w);
    w.until("it has stopped", |w| w.hosts[&N1].stopped.is_some());
    back(&mut w);
    reattach(&mut w, 77);
    release(&mut w, N2, 2, 1);
    w.run(Duration::from_millis(500));
    let ends = w.hosts[&N1]
        .heard
        .iter()
        .filter_map(|(session, message)| match message {
            ToClient::Done { request, result } if session.0 == 1 => {
                Some((*request, result.clone()))
            }
            _ => None,
        });
    // Of what was told twice, since it was not heard.
    let mut ends: Vec<_> = ends.collect();
    ends.dedup();
    let of = |request: u64| -> Vec<_> { ends.iter().filter(|end| end.0 == request).collect() };
    assert!(
        of(waits).iter().all(|end| end.1 == Err(Refusal::Cancelled)),
        "{ends:?}"
    );
    assert!(!of(waits).is_empty() && !of(cancel).is_empty(), "{ends:?}");
}

/// Protects locks from a session that nobody would leave to the next life.
#[test]
fn no_session_is_kept_by_a_node_that_is_about_to_rest() {
    let (mut w, _, _, _) = waiting();
    w.open(N1, 6);
    begin_rest(&mut w);
    let request = keep(&mut w, 6);
    assert_eq!(w.result(N1, request), Some(Err(Refusal::Leaving)));
}

/// Protects everybody from a disk that hangs: what cannot be written in time is not waited for, and the node
/// leaves as any does.
#[test]
fn a_node_that_cannot_write_leaves_after_all() {
    let (mut w, _, _, wanted) = waiting();
    w.hosts.get_mut(&N1).unwrap().slow_carry = true;
    let asked = begin_rest(&mut w);
    w.until("it has stopped", |w| w.hosts[&N1].stopped.is_some());
    assert_eq!(w.result(N1, asked), Some(Ok(Answer::Left)));
    w.granted(N2, wanted);
    assert!(w.hosts[&N1].carried.is_none());
    let view = w.hosts[&N2].node.as_ref().unwrap();
    assert!(
        view.cluster_state().view().pending.is_empty(),
        "it left cleanly"
    );
}

/// Protects a client from what it was not told: a session of which more was unheard than is kept is not
/// continued by the next life either.
#[test]
fn a_session_with_a_gap_is_not_continued() {
    let (mut w, _, _, _) = waiting();
    rest(&mut w, 30_000);
    let host = w.hosts.get_mut(&N1).unwrap();
    let mut left = Carried::decode(host.carried.as_ref().unwrap()).unwrap();
    left.sessions[0].told += 1;
    host.carried = Some(left.encode());
    back(&mut w);
    reattach(&mut w, 77);
    assert_eq!(w.hosts[&N1].turned_away.len(), 1);
}

/// Protects locks that survive their nodes: a kept session goes on with them, and those of others on the node
/// that was started anew are orphans of it.
#[test]
fn surviving_locks_go_on_too() {
    let (mut w, space) = World::three();
    keep(&mut w, 1);
    w.open(N1, 4);
    w.space(N1, 4);
    let survive = |handle, name| World::lock_ask(handle, space, name, LockMode::Ex, Flags::SURVIVE);
    let kept = w.ask(N1, 1, survive(1, "kept"));
    w.granted(N1, kept);
    let left = w.ask(N1, 4, survive(1, "left"));
    w.granted(N1, left);
    let wanted = [(21, "kept"), (22, "left")];
    let wanted = wanted.map(|(handle, name)| w.ask(N2, 2, ex(space, handle, name)));
    w.run(Duration::from_millis(100));
    rest(&mut w, 30_000);
    back(&mut w);
    reattach(&mut w, 77);
    w.run(Duration::from_millis(500));
    assert_eq!(wanted.map(|request| w.result(N2, request)), [None, None]);
    w.open(N1, 5);
    w.space(N1, 5);
    let adopt = Ask::Adopt {
        handle: Handle(3),
        lockspace: space,
        name: mainstay_base::ResourceName::new("left").unwrap(),
        mode: LockMode::Ex,
        flags: Flags::PERSISTENT,
        blocking: false,
    };
    let adopted = w.ask(N1, 5, adopt);
    w.granted(N1, adopted);
    release(&mut w, N1, 5, 3);
    release(&mut w, N1, 1, 1);
    for request in wanted {
        w.until("it is granted", |w| w.result(N2, request).is_some());
    }
}

/// Protects a value block from a daemon that is stopped again before it has gone on: what its sessions may have been
/// writing is in doubt, whether the log makes their locks this life's or not.
#[test]
fn a_daemon_that_is_stopped_at_once_leaves_doubt() {
    let (mut w, space) = World::three();
    keep(&mut w, 1);
    let value = |handle, flags| World::lock_ask(handle, space, "doubted", LockMode::Ex, flags);
    let held = w.ask(N1, 1, value(1, Flags::VALBLK));
    w.granted(N1, held);
    let wanted = w.ask(N2, 2, value(1, Flags::VALBLK));
    w.run(Duration::from_millis(20));
    rest(&mut w, 30_000);
    w.start(N1);
    w.until("it is a member", |w| {
        let view = |w: &World| {
            w.hosts[&N1]
                .node
                .as_ref()
                .map(|n| n.cluster_state().view().clone())
        };
        view(w).is_some_and(|view| view.member(N1).is_some_and(|m| m.incarnation.0 == 2))
    });
    w.input(N1, Input::Stop);
    let granted = w.granted(N2, wanted);
    assert!(granted.value.unwrap().maybe_stale);
}
