//! Sessions that outlive their connection (docs/protocol/keeping.md).

#![allow(missing_docs, clippy::unwrap_used)]

#[allow(dead_code, reason = "other tests use the rest")]
mod world;

use mainstay_base::{FencePolicy, LockMode, LockspaceId, NodeId, SessionId};
use mainstay_node::Input;
use mainstay_wire::{
    client::{Answer, Ask, Handle, ToClient},
    event::{Reason, SessionFate, What},
    keep::{BrokenReport, SessionKey},
    lock::{Flags, Refusal},
};
use std::time::Duration;
use world::World;

const N1: NodeId = NodeId(1);
const KEY: SessionKey = SessionKey([9; 16]);
const GRACE: Duration = Duration::from_millis(2000);

/// One node, with a session 1 that is kept and a session 2 that is not.
fn kept() -> (World, LockspaceId) {
    let mut w = World::new(1, FencePolicy::Lease);
    w.settle();
    w.open(N1, 1);
    w.open(N1, 2);
    let space = w.space(N1, 1);
    w.space(N1, 2);
    w.input(
        N1,
        Input::Keep {
            session: SessionId(1),
            request: 1000,
            grace_ms: 2000,
            key: KEY,
        },
    );
    assert_eq!(w.result(N1, 1000), Some(Ok(Answer::Kept { key: KEY })));
    said(&mut w);
    (w, space)
}

/// What session 1 asks for. Its numbers grow from that of its wish to be kept.
fn ask(w: &mut World, request: u64, ask: Ask) {
    w.input(
        N1,
        Input::Request {
            session: SessionId(1),
            request,
            ask,
        },
    );
}

fn close(w: &mut World) {
    let session = SessionId(1);
    w.input(N1, Input::SessionClosed { session });
}

fn reattach_as(w: &mut World, connection: u64, key: SessionKey, heard: u64, uid: u32) {
    w.input(
        N1,
        Input::Reattach {
            connection: SessionId(connection),
            session: SessionId(1),
            key,
            heard,
            uid,
        },
    );
}

fn reattach(w: &mut World, connection: u64, heard: u64) {
    reattach_as(w, connection, KEY, heard, 0);
}

/// What was said to session 1 since the last call.
fn said(w: &mut World) -> Vec<ToClient> {
    let heard = std::mem::take(&mut w.hosts.get_mut(&N1).unwrap().heard);
    let (own, others): (Vec<_>, Vec<_>) = heard.into_iter().partition(|(s, _)| s.0 == 1);
    w.hosts.get_mut(&N1).unwrap().heard = others;
    own.into_iter().map(|(_, message)| message).collect()
}

fn fates(w: &World) -> Vec<(SessionFate, Reason)> {
    let events = w.hosts[&N1].events.iter();
    let fates = events.filter_map(|event| match &event.what {
        What::Session { fate, .. } => Some((*fate, event.reason)),
        _ => None,
    });
    fates.collect()
}

const BROKEN: SessionFate = SessionFate::Broken { kept_ms: 2000 };

/// Protects what the whole is for: locks, queue places and open calls of a session outlive its
/// connection, and what its client could not hear is told on the next, once and in order.
#[test]
fn a_session_goes_on_where_it_was() {
    let (mut w, space) = kept();
    let ex = |handle, name| World::lock_ask(handle, space, name, LockMode::Ex, Flags::NONE);
    let theirs = w.ask(N1, 2, ex(1, "theirs"));
    w.granted(N1, theirs);
    ask(&mut w, 1001, ex(1, "mine"));
    ask(&mut w, 1002, ex(2, "theirs"));
    w.run(Duration::from_millis(50));
    assert_eq!(said(&mut w).len(), 1, "the first is granted");
    close(&mut w);
    let wanted = w.ask(N1, 2, ex(2, "mine"));
    w.ask(N1, 2, World::unlock_ask(1, Flags::NONE));
    w.run(Duration::from_millis(1000));
    assert_eq!(said(&mut w), [], "nobody listens");
    assert_eq!(w.result(N1, wanted), None, "the lock is held");
    let locks = w.ask(
        N1,
        2,
        Ask::Locks {
            lockspace: None,
            pattern: Some("mine".to_owned()),
            limit: 10,
            after: None,
        },
    );
    let Ok(Answer::Locks(report)) = w.wait(N1, locks) else {
        panic!("no report");
    };
    let broken = report.resources[0].holders[0].owner.broken;
    assert_eq!(
        broken,
        Some(BrokenReport {
            broken_ms: 1000,
            left_ms: 1000
        })
    );

    reattach(&mut w, 77, 1);
    let host = &w.hosts[&N1];
    assert_eq!(host.reattached, [(SessionId(1), SessionId(77), 1)]);
    let told = said(&mut w);
    let answer = Answer::Reattached {
        asked: 1002,
        told: 3,
    };
    assert!(matches!(&told[0], ToClient::Done { request: 0, result: Ok(a) } if *a == answer));
    let blocking = |m: &ToClient| {
        matches!(
            m,
            ToClient::Blocking {
                handle: Handle(1),
                ..
            }
        )
    };
    let granted = |m: &ToClient| {
        matches!(
            m,
            ToClient::Done {
                request: 1002,
                result: Ok(_)
            }
        )
    };
    let rest = &told[1..];
    assert_eq!(rest.len(), 2, "{rest:?}");
    assert!(
        rest.iter().any(blocking) && rest.iter().any(granted),
        "{rest:?}"
    );
    // The connection breaks again before that was heard, and once more after.
    close(&mut w);
    reattach(&mut w, 78, 1);
    assert_eq!(said(&mut w)[1..], *rest);
    close(&mut w);
    reattach(&mut w, 79, 3);
    assert_eq!(said(&mut w).len(), 1, "all was heard");
    ask(&mut w, 1003, World::unlock_ask(1, Flags::NONE));
    w.granted(N1, wanted);
    let ups = [
        (BROKEN, Reason::ClientGone),
        (SessionFate::Continued, Reason::ClientAsked),
    ];
    assert_eq!(fates(&w), [ups, ups, ups].concat());
}

/// Protects others from waiting for ever, and the client from losing its locks too early: the session
/// ends when the grace is over, not before, and then cannot be continued.
#[test]
fn a_session_ends_with_its_grace() {
    let (mut w, space) = kept();
    let ex = |handle| World::lock_ask(handle, space, "a", LockMode::Ex, Flags::NONE);
    ask(&mut w, 1001, ex(1));
    w.run(Duration::from_millis(10));
    close(&mut w);
    let wanted = w.ask(N1, 2, ex(1));
    w.run(GRACE - Duration::from_millis(2));
    assert_eq!(w.result(N1, wanted), None);
    w.run(Duration::from_millis(3));
    w.granted(N1, wanted);
    reattach(&mut w, 77, 0);
    let refused = (SessionId(77), Refusal::NoSuchSession);
    assert_eq!(w.hosts[&N1].turned_away, [refused]);
    let ended = (SessionFate::Ended, Reason::GraceOver);
    assert_eq!(fates(&w), [(BROKEN, Reason::ClientGone), ended]);
}

/// Protects a client that ends on purpose from delaying others.
#[test]
fn goodbye_ends_at_once() {
    let (mut w, space) = kept();
    let ex = |handle| World::lock_ask(handle, space, "a", LockMode::Ex, Flags::NONE);
    ask(&mut w, 1001, ex(1));
    let wanted = w.ask(N1, 2, ex(1));
    ask(&mut w, 1002, Ask::Goodbye);
    w.run(Duration::from_millis(5));
    w.granted(N1, wanted);
    assert_eq!(w.hosts[&N1].closed, [SessionId(1)]);
    assert_eq!(fates(&w), []);
}

/// Protects exactly-once: a call that a client repeats, since it cannot know that it arrived, is
/// neither carried out nor answered again.
#[test]
fn repeated_calls_are_not_carried_out_again() {
    let (mut w, space) = kept();
    let lock = World::lock_ask(1, space, "a", LockMode::Nl, Flags::NONE);
    ask(&mut w, 1001, lock.clone());
    ask(&mut w, 1002, World::unlock_ask(1, Flags::NONE));
    w.run(Duration::from_millis(10));
    close(&mut w);
    said(&mut w);
    reattach(&mut w, 77, 2);
    ask(&mut w, 1001, lock);
    ask(&mut w, 1002, World::unlock_ask(1, Flags::NONE));
    ask(&mut w, 1003, Ask::Ping);
    w.run(Duration::from_millis(10));
    let told = said(&mut w);
    let pong = ToClient::Done {
        request: 1003,
        result: Ok(Answer::Pong),
    };
    assert_eq!(told[told.len() - 1], pong);
    assert_eq!(told.len(), 2, "{told:?}");
}

/// Protects sessions from strangers, and clients from gaps: another key, another user, a count that
/// cannot be, or one whose messages are gone, continues nothing.
#[test]
fn only_the_client_itself_continues() {
    let (mut w, space) = kept();
    ask(
        &mut w,
        1001,
        World::lock_ask(1, space, "a", LockMode::Nl, Flags::NONE),
    );
    w.run(Duration::from_millis(10));
    ask(&mut w, 1002, Ask::Heard { upto: 1 });
    ask(&mut w, 1003, Ask::Heard { upto: 99 });
    close(&mut w);
    let mut other = KEY;
    other.0[15] ^= 1;
    reattach_as(&mut w, 71, other, 1, 0);
    reattach_as(&mut w, 72, KEY, 1, 1000);
    reattach(&mut w, 73, 0);
    reattach(&mut w, 74, 4);
    assert_eq!(w.hosts[&N1].turned_away.len(), 4);
    assert_eq!(w.hosts[&N1].reattached, []);
    reattach(&mut w, 75, 3);
    // The newer of two connections has the session, also while the older lives.
    reattach(&mut w, 76, 3);
    let own = |c| (SessionId(1), SessionId(c), 0);
    assert_eq!(w.hosts[&N1].reattached, [own(75), own(76)]);
    assert!(matches!(w.result(N1, 1003), Some(Err(Refusal::Invalid(_)))));
}

/// Protects the node's memory: a client that says nothing of what it has heard loses its connection and
/// cannot continue. Its locks stay until the grace is over: it may be stopped, and believe in them.
#[test]
fn who_does_not_say_what_it_heard_is_cut_off() {
    let (mut w, space) = kept();
    let ex = |handle| World::lock_ask(handle, space, "a", LockMode::Ex, Flags::NONE);
    ask(&mut w, 1001, ex(1));
    let wanted = w.ask(N1, 2, ex(1));
    let mut asked = 1001;
    while w.hosts[&N1].closed.is_empty() {
        asked += 1;
        ask(&mut w, asked, Ask::Status);
        assert!(asked < 100_000, "never cut off");
    }
    assert_eq!(w.hosts[&N1].closed, [SessionId(1)]);
    let told = said(&mut w);
    assert!(matches!(told.last(), Some(ToClient::SessionLost { .. })));
    reattach(&mut w, 77, 0);
    assert_eq!(w.hosts[&N1].turned_away.len(), 1);
    w.run(GRACE - Duration::from_millis(2));
    assert_eq!(w.result(N1, wanted), None);
    w.run(Duration::from_millis(3));
    w.granted(N1, wanted);
    let ended = (SessionFate::Ended, Reason::GraceOver);
    assert_eq!(fates(&w), [(BROKEN, Reason::NotHeard), ended]);
}

/// Protects clients from believing that they are kept longer than they are, and from a second key.
#[test]
fn what_cannot_be_kept_is_refused() {
    let (mut w, _) = kept();
    let mut keep = |session, request, grace_ms| {
        let session = SessionId(session);
        w.input(
            N1,
            Input::Keep {
                session,
                request,
                grace_ms,
                key: KEY,
            },
        );
        let Some(Err(Refusal::Invalid(why))) = w.result(N1, request) else {
            panic!("not refused");
        };
        why
    };
    assert!(keep(1, 1001, 2000).contains("already"));
    assert!(keep(2, 2001, 499).contains("500 to 60000"));
    assert!(keep(2, 2002, 60_001).contains("500 to 60000"));
    ask(&mut w, 1002, Ask::Events { backlog: 0 });
    let events = w.result(N1, 1002);
    assert!(matches!(events, Some(Err(Refusal::Invalid(_)))));
}
