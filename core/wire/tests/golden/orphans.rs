//! Messages about orphans.

use super::{circle::job, resource};
use mainstay_base::{
    Epoch, Incarnation, LockId, LockMode, LockspaceId, LockspaceName, NodeId, NodeName, Token,
    Value, ValueBlock, ValueVersion,
};
use mainstay_wire::{
    ceding::{CededLock, Ceding, Found},
    client::{Answer, Ask, Handle, ToClient},
    dlm::Body,
    event::{Event, OrphanFate, Reason, What},
    lock::{Flags, Refusal},
    orphan::{OrphanFilter, OrphanReport, OrphanWish, OrphansReport, OwnedOrphan, PurgeReport},
    report::OwnerReport,
};

fn gone() -> OwnerReport {
    OwnerReport {
        orphan_ms: Some(2500),
        ..job()
    }
}

fn filter() -> OrphanFilter {
    OrphanFilter {
        lockspace: Some(LockspaceId(3)),
        pattern: Some("vm-*".to_owned()),
        pid: Some(77),
        uid: Some(1000),
        owned: vec![mainstay_base::LockspaceId(3)],
    }
}

pub(crate) fn bodies() -> Vec<(&'static str, Body)> {
    let (query, lock) = (6, LockId(900));
    vec![
        (
            "adopted",
            Body::Adopted {
                resource: resource(),
                lock,
                blocking: true,
            },
        ),
        (
            "query-orphans",
            Body::QueryOrphans {
                query,
                filter: filter(),
                limit: 100,
                after: Some(lock),
            },
        ),
        (
            "orphans-part",
            Body::OrphansPart {
                query,
                orphans: vec![OwnedOrphan {
                    lock,
                    resource: resource(),
                    mode: LockMode::Ex,
                    token: Token(9 << 40),
                    owner: gone(),
                    expires_ms: Some(7500),
                }],
                next: Some(lock),
                last: true,
            },
        ),
        (
            "purge-orphans",
            Body::PurgeOrphans {
                query,
                filter: filter(),
            },
        ),
        (
            "orphans-purged",
            Body::OrphansPurged {
                query,
                purged: 40,
                denied: 2,
            },
        ),
    ]
}

/// What two nodes say of an orphan that goes from one to the other, and tell its master.
pub(crate) fn ceding() -> Vec<(&'static str, Body)> {
    let (lock, to) = (LockId(900), LockId(31));
    let (node, incarnation) = (NodeId(2), Incarnation(7));
    let answer = |found| Body::Ceding(Ceding::Answer { lock: to, found });
    let seek = Ceding::Seek {
        resource: resource(),
        mode: LockMode::Ex,
        uid: Some(1000),
        lock: to,
    };
    let ceded = CededLock {
        lock,
        token: Token(9 << 40),
        valblk: true,
        value: Some(Value {
            block: ValueBlock::new([7; 8]).unwrap(),
            version: ValueVersion(5),
            maybe_stale: false,
        }),
        unsure: false,
        left_by: (1000, 76),
    };
    vec![
        ("ceding-seek", Body::Ceding(seek)),
        ("ceding-nothing", answer(Found::Nothing)),
        ("ceding-busy", answer(Found::Busy)),
        ("ceding-in-mode", answer(Found::InMode(LockMode::Pr))),
        ("ceding-others", answer(Found::Others)),
        ("ceding-ceded", answer(Found::Ceded(Box::new(ceded)))),
        ("ceding-in-log", answer(Found::InLog)),
        (
            "ceding-ends",
            Body::Ceding(Ceding::Ends {
                lock,
                to,
                taken: true,
            }),
        ),
        ("ceding-over", Body::Ceding(Ceding::Over { lock: to })),
        (
            "take-ceded",
            Body::TakeCeded {
                resource: resource(),
                lock: to,
                node,
                incarnation,
                known_as: lock,
                token: Token(9 << 40),
                blocking: true,
            },
        ),
        (
            "restate-ceded",
            Body::RestateCeded {
                dead: (NodeId(3), Incarnation(4)),
                resource: resource(),
                lock: to,
                from: (node, incarnation),
                known_as: lock,
            },
        ),
    ]
}

fn wish() -> OrphanWish {
    OrphanWish {
        lockspace: Some(LockspaceName::new("default").unwrap()),
        pattern: Some("vm-*".to_owned()),
        node: Some(NodeName::new("n1").unwrap()),
        pid: Some(77),
    }
}

pub(crate) fn asks() -> Vec<(&'static str, Ask)> {
    vec![
        (
            "orphans",
            Ask::Orphans {
                wish: wish(),
                limit: 100,
                after: Some((NodeName::new("n1").unwrap(), LockId(900))),
            },
        ),
        (
            "adopt",
            Ask::Adopt {
                handle: Handle(11),
                lockspace: LockspaceId(3),
                name: resource().name,
                mode: LockMode::Pw,
                flags: Flags::PERSISTENT | Flags::VALBLK,
                blocking: true,
            },
        ),
        ("purge-orphans", Ask::PurgeOrphans { wish: wish() }),
        (
            "adopt-anywhere",
            Ask::AdoptAnywhere {
                handle: Handle(11),
                lockspace: LockspaceId(3),
                name: resource().name,
                mode: LockMode::Pw,
                flags: Flags::PERSISTENT,
                blocking: true,
            },
        ),
    ]
}

pub(crate) fn answers() -> Vec<(&'static str, ToClient)> {
    let node = NodeName::new("n1").unwrap();
    let lockspace = LockspaceName::new("default").unwrap();
    let report = OrphansReport {
        orphans: vec![OrphanReport {
            node: node.clone(),
            id: LockId(900),
            lockspace: lockspace.clone(),
            name: resource().name,
            mode: LockMode::Ex,
            token: Token(9 << 40),
            owner: gone(),
            expires_ms: Some(7500),
        }],
        next: Some((node.clone(), LockId(900))),
        silent: vec![node.clone()],
    };
    let purged = PurgeReport {
        purged: 40,
        denied: 2,
        silent: vec![node],
    };
    let done = |result| ToClient::Done { request: 4, result };
    let event = |fate, reason| {
        ToClient::Event(Event {
            number: 8,
            unix_ms: 0,
            epoch: Epoch(11),
            what: What::Orphan {
                lockspace: lockspace.clone(),
                name: resource().name,
                mode: LockMode::Ex,
                pid: 77,
                fate,
            },
            reason,
            detail: String::new(),
        })
    };
    vec![
        ("orphans", done(Ok(Answer::Orphans(Box::new(report))))),
        ("orphans-purged", done(Ok(Answer::OrphansPurged(purged)))),
        ("no-such-orphan", done(Err(Refusal::NoSuchOrphan))),
        (
            "orphan-in-mode",
            done(Err(Refusal::OrphanInMode(LockMode::Pr))),
        ),
        ("orphan-left", event(OrphanFate::Left, Reason::ClientGone)),
        (
            "orphan-adopted",
            event(OrphanFate::Adopted { by: 78 }, Reason::ClientAsked),
        ),
        (
            "orphan-expired",
            event(OrphanFate::Purged, Reason::OrphanExpired),
        ),
        (
            "orphan-ceded",
            event(OrphanFate::Ceded, Reason::ClientAsked),
        ),
    ]
}
