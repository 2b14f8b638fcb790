//! Sessions that outlive their connection (docs/protocol/keeping.md).

#![allow(missing_docs, clippy::unwrap_used)]

#[allow(dead_code, reason = "other tests use the rest")]
mod world;

use mainstay_base::{FencePolicy, LockMode, LockspaceId, NodeId, SessionId, ValueUpdate};
use mainstay_node::Input;
use mainstay_wire::{
    client::{Answer, Ask, Handle, ToClient},
    codec,
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

/// Protects the daemon from turning in circles: of several values that changed while much was unheard,
/// each is told once, as it is last, when there is room for it again.
#[test]
fn values_held_back_are_told_each_once() {
    let (mut w, space) = kept();
    let null = |handle, name| World::lock_ask(handle, space, name, LockMode::Nl, Flags::VALBLK);
    for (handle, name) in [(1, "a"), (2, "b")] {
        ask(&mut w, 1000 + handle, null(handle, name));
        let own = w.ask(N1, 2, null(handle, name));
        w.granted(N1, own);
    }
    for handle in [1, 2] {
        let watch = Ask::WatchValue {
            handle: Handle(handle),
            on: true,
        };
        ask(&mut w, 1002 + handle, watch);
    }
    w.run(Duration::from_millis(10));
    let (mut asked, mut bytes, mut told) = (1004, 0, said(&mut w).len());
    while bytes < 1 << 20 {
        asked += 1;
        ask(&mut w, asked, Ask::Status);
        let said = said(&mut w);
        told += said.len();
        bytes += said.iter().map(|m| codec::to_vec(m).len()).sum::<usize>();
    }
    for count in 1..=3 {
        for handle in [1, 2] {
            let update = Ask::UpdateValue {
                handle: Handle(handle),
                update: ValueUpdate::Add { delta: count },
            };
            let update = w.ask(N1, 2, update);
            assert!(matches!(w.wait(N1, update), Ok(Answer::Updated(_))));
        }
    }
    assert_eq!(said(&mut w), [], "held back");
    let upto = told as u64;
    ask(&mut w, asked + 1, Ask::Heard { upto });
    let said = said(&mut w);
    let values = said.iter().filter_map(|m| match m {
        ToClient::ValueChanged { handle, value } => Some((handle.0, value.count())),
        _ => None,
    });
    let values: Vec<(u64, i64)> = values.collect();
    assert_eq!(values, [(1, 6), (2, 6)]);
    assert_eq!(said.len(), 3, "{said:?}");
    // They count as any other message.
    let upto = upto + 3;
    ask(&mut w, asked + 2, Ask::Heard { upto });
    let heard = w.result(N1, asked + 2);
    assert_eq!(heard, Some(Ok(Answer::Heard)));
}

/// Protects the node's memory from short messages, and people from riddles: what is too much to be kept
/// tears a session also while it has no connection, and an event says so at once.
#[test]
fn too_much_unheard_while_disconnected_is_told() {
    let (mut w, space) = kept();
    let lock = |handle| World::lock_ask(handle, space, "a", LockMode::Ex, Flags::NONE);
    ask(&mut w, 1001, lock(1));
    w.run(Duration::from_millis(10));
    ask(&mut w, 1002, Ask::Heard { upto: 1 });
    close(&mut w);
    let session = SessionId(1);
    for request in 1.. {
        let result = Ok(Answer::Pong);
        let input = Input::Answered {
            session,
            request,
            result,
        };
        w.input(N1, input);
        if fates(&w).len() > 1 {
            // The answer to `Heard` is unheard as well.
            assert_eq!(request, 1 << 16);
            break;
        }
        assert!(request < 1 << 17, "never torn");
    }
    let torn = (BROKEN, Reason::NotHeard);
    assert_eq!(fates(&w), [(BROKEN, Reason::ClientGone), torn]);
    reattach(&mut w, 77, 2);
    assert_eq!(w.hosts[&N1].turned_away.len(), 1);
    w.run(GRACE + Duration::from_millis(1));
    let ended = (SessionFate::Ended, Reason::GraceOver);
    assert_eq!(fates(&w)[2..], [ended]);
}

/// Protects the event log from a client that goes from one connection to the next.
#[test]
fn a_takeover_is_no_event() {
    let (mut w, _) = kept();
    for connection in 70..80 {
        reattach(&mut w, connection, 0);
    }
    assert_eq!(w.hosts[&N1].reattached.len(), 10);
    assert_eq!(fates(&w), []);
}

/// Protects the node from one who leaves sessions behind without end; and those that were left are
/// kept for as long as was said.
#[test]
fn no_more_is_kept_for_who_left_many_behind() {
    let mut w = World::new(1, FencePolicy::Lease);
    w.settle();
    let keep = |w: &mut World, session: u64| {
        w.open(N1, session);
        let input = Input::Keep {
            session: SessionId(session),
            request: session,
            grace_ms: 2000,
            key: KEY,
        };
        w.input(N1, input);
        w.result(N1, session).unwrap()
    };
    for session in 1..=1024 {
        assert_eq!(keep(&mut w, session), Ok(Answer::Kept { key: KEY }));
        let session = SessionId(session);
        w.input(N1, Input::SessionClosed { session });
    }
    assert!(matches!(keep(&mut w, 2001), Err(Refusal::Limit(_))));
    reattach(&mut w, 5000, 0);
    assert_eq!(keep(&mut w, 2002), Ok(Answer::Kept { key: KEY }));
    close(&mut w);
    assert!(matches!(keep(&mut w, 2003), Err(Refusal::Limit(_))));
    let over = |w: &World| {
        let fates = fates(w);
        let over = |(fate, _): &&(SessionFate, Reason)| *fate == SessionFate::Ended;
        fates.iter().filter(over).count()
    };
    w.run(GRACE - Duration::from_millis(2));
    assert_eq!(over(&w), 0);
    w.run(Duration::from_millis(50));
    assert_eq!(over(&w), 1024);
    assert_eq!(keep(&mut w, 2004), Ok(Answer::Kept { key: KEY }));
}
