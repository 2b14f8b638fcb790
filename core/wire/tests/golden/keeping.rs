//! Messages about sessions that are kept.

use super::circle::job;
use mainstay_base::{Epoch, NodeName, SessionId};
use mainstay_wire::{
    client::{Answer, Ask, ToClient},
    event::{Event, Reason, SessionFate, What},
    keep::{BrokenReport, SessionKey},
    lock::Refusal,
    report::{GraphOwner, GraphReport, OwnerReport},
};

fn key() -> SessionKey {
    SessionKey([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 255])
}

pub(crate) fn asks() -> Vec<(&'static str, Ask)> {
    let reattach = Ask::Reattach {
        session: SessionId(8),
        key: key(),
        heard: 300,
    };
    vec![
        ("keep-session", Ask::KeepSession { grace_ms: 5000 }),
        ("reattach", reattach),
        ("heard", Ask::Heard { upto: 300 }),
        ("goodbye", Ask::Goodbye),
        ("rest", Ask::Rest { for_ms: 60_000 }),
    ]
}

pub(crate) fn answers() -> Vec<(&'static str, ToClient)> {
    let done = |result| ToClient::Done { request: 4, result };
    let event = |fate, reason| {
        ToClient::Event(Event {
            number: 8,
            unix_ms: 0,
            epoch: Epoch(11),
            what: What::Session {
                session: SessionId(8),
                pid: 77,
                fate,
            },
            reason,
            detail: "job".to_owned(),
        })
    };
    let broken = BrokenReport {
        broken_ms: 3000,
        left_ms: 7000,
    };
    let owner = GraphOwner {
        node: NodeName::new("n1").unwrap(),
        session: Some(SessionId(8)),
        owner: OwnerReport {
            broken: Some(broken),
            ..job()
        },
    };
    let graph = GraphReport {
        owners: vec![owner],
        ..GraphReport::default()
    };
    let reattached = Answer::Reattached {
        asked: 17,
        told: 301,
    };
    let gone = SessionFate::Broken { kept_ms: 5000 };
    vec![
        ("kept", done(Ok(Answer::Kept { key: key() }))),
        ("reattached", done(Ok(reattached))),
        ("heard", done(Ok(Answer::Heard))),
        ("no-such-session", done(Err(Refusal::NoSuchSession))),
        ("graph-of-broken", done(Ok(Answer::Graph(Box::new(graph))))),
        ("session-broken", event(gone, Reason::ClientGone)),
        ("session-not-heard", event(gone, Reason::NotHeard)),
        (
            "session-continued",
            event(SessionFate::Continued, Reason::ClientAsked),
        ),
        (
            "session-ended",
            event(SessionFate::Ended, Reason::GraceOver),
        ),
    ]
}
