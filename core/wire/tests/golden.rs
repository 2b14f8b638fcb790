//! Golden bytes: every message keeps the format that was once released. A changed line here is a
//! changed protocol; for a new message the failing test prints the line to add.

#![allow(missing_docs, clippy::unwrap_used)]

use mainstay_base::{
    Access, AccessChange, AccessRule, Epoch, Incarnation, Instant, LockId, LockMode, LockspaceId,
    LockspaceName, ModeSet, NodeId, NodeName, ResourceName, SessionId, Token, Value, ValueBlock,
    ValueVersion, VictimPolicy, Whom,
};
use mainstay_wire::{
    client::{Answer, Ask, FromClient, Handle, ToClient, Welcome},
    codec,
    deadlock::{CycleWait, DeadlockReport},
    dlm::{Body, MasteredLock, MasteredResource, Message, OwnedLock, ResourceId, RestatedLock},
    event::{Event, Reason, What},
    lock::{Flags, Granted, Refusal, Updated, ValueUpdate},
    report::{LockspaceAccess, LockspaceFilter, OwnerReport},
};
use serde::{Serialize, de::DeserializeOwned};
use std::fmt::Debug;

#[path = "golden/check.rs"]
mod check;
#[path = "golden/circle.rs"]
mod circle;
#[path = "golden/deadlocks.rs"]
mod deadlocks;
#[path = "golden/keeping.rs"]
mod keeping;
#[path = "golden/moving.rs"]
mod moving;
#[path = "golden/orphans.rs"]
mod orphans;
#[path = "golden/ranges.rs"]
mod ranges;
#[path = "golden/reports.rs"]
mod reports;
#[path = "golden/sets.rs"]
mod sets;

#[path = "golden/trees.rs"]
mod trees;

fn resource() -> ResourceId {
    ResourceId {
        space: LockspaceId(3),
        name: ResourceName::new(b"disk\0\xff").unwrap(),
    }
}

fn value() -> Value {
    Value {
        block: ValueBlock::new(b"block").unwrap(),
        version: ValueVersion(300),
        maybe_stale: true,
    }
}

fn granted() -> Granted {
    Granted {
        mode: LockMode::Pw,
        token: Token(1 << 40 | 7),
        value: Some(value()),
    }
}

fn swap() -> ValueUpdate {
    ValueUpdate::Swap {
        expect: ValueVersion(299),
        expect_stale: true,
        block: ValueBlock::new(b"new").unwrap(),
    }
}

fn updated() -> Updated {
    Updated {
        done: true,
        value: value(),
    }
}

fn bodies() -> Vec<(&'static str, Body)> {
    let (node, incarnation, lock) = (NodeId(2), Incarnation(5), LockId(900));
    let (members, mode, flags) = (Epoch(12), LockMode::Ex, Flags::NOQUEUE | Flags::VALBLK);
    let floor = Token(9 << 40);
    let block = Some(ValueBlock::new(b"new").unwrap());
    let owner = OwnerReport {
        pid: 77,
        uid: 1000,
        command: "job".to_owned(),
        orphan_ms: None,
        owner: mainstay_base::Owner::Session,
        broken: None,
    };
    let mastered = MasteredLock {
        node,
        incarnation,
        lock,
        granted: Some(LockMode::Pr),
        requested: Some(mode),
        token: floor,
        range: Some(ranges::range()),
    };
    vec![
        (
            "lookup",
            Body::Lookup {
                resource: resource(),
                members,
            },
        ),
        (
            "master-is",
            Body::MasterIs {
                resource: resource(),
                members,
                master: node,
            },
        ),
        (
            "you-master",
            Body::YouMaster {
                resource: resource(),
                members,
                floor,
            },
        ),
        (
            "register",
            Body::Register {
                space: LockspaceId(3),
                names: vec![resource().name],
            },
        ),
        ("registered", Body::Registered { members }),
        (
            "forget",
            Body::Forget {
                resource: resource(),
                last: floor,
            },
        ),
        (
            "forgotten",
            Body::Forgotten {
                resource: resource(),
            },
        ),
        (
            "request",
            Body::Request {
                resource: resource(),
                lock,
                mode,
                flags,
                blocking: true,
            },
        ),
        (
            "convert",
            Body::Convert {
                resource: resource(),
                lock,
                mode,
                flags,
                blocking: false,
                value: block.clone(),
            },
        ),
        (
            "unlock",
            Body::Unlock {
                resource: resource(),
                lock,
                flags,
                value: block.clone(),
            },
        ),
        (
            "drop",
            Body::Drop {
                resource: resource(),
                lock,
                invalidate: true,
            },
        ),
        (
            "cancel",
            Body::Cancel {
                resource: resource(),
                lock,
            },
        ),
        (
            "granted",
            Body::Granted {
                lock,
                granted: granted(),
            },
        ),
        ("queued", Body::Queued { lock, ticket: -4 }),
        (
            "refused",
            Body::Refused {
                lock,
                why: Refusal::Deadlock,
            },
        ),
        (
            "unlocked",
            Body::Unlocked {
                lock,
                version: ValueVersion(8),
            },
        ),
        ("blocking", Body::Blocking { lock, mode }),
        (
            "not-master",
            Body::NotMaster {
                resource: resource(),
                lock,
            },
        ),
        (
            "restate",
            Body::Restate {
                node,
                incarnation,
                resource: resource(),
                locks: vec![RestatedLock {
                    lock,
                    granted: Some((LockMode::Ex, floor)),
                    pending: Some((LockMode::Nl, Flags::VALBLK)),
                    ticket: Some(3),
                    publish: block,
                    blocking: true,
                    valblk: true,
                    value: Some(value()),
                    unsure: true,
                    watches: true,
                }],
            },
        ),
        ("restate-done", Body::RestateDone { node, incarnation }),
        (
            "hand-over",
            Body::HandOver {
                resource: resource(),
                value: value(),
            },
        ),
        (
            "suspect",
            Body::Suspect {
                node,
                incarnation,
                resource: resource(),
            },
        ),
        (
            "query",
            Body::Query {
                query: 6,
                filter: LockspaceFilter {
                    lockspace: Some(LockspaceId(3)),
                    pattern: Some("vm-*".to_owned()),
                    limit: 100,
                    after: Some((LockspaceId(3), resource().name)),
                    only: vec![(LockspaceId(4), resource().name)],
                },
            },
        ),
        (
            "query-part",
            Body::QueryPart {
                query: 6,
                resources: vec![MasteredResource {
                    resource: resource(),
                    recovering: false,
                    token: floor,
                    value: Some(value()),
                    granted: vec![mastered],
                    converting: vec![],
                    waiting: vec![mastered],
                }],
                owners: vec![OwnedLock {
                    lock,
                    owner,
                    age_ms: 1500,
                }],
                truncated: false,
                last: true,
            },
        ),
    ]
    .into_iter()
    .chain(deadlocks::bodies())
    .chain(reports::bodies())
    .chain(moving::bodies())
    .chain(orphans::bodies())
    .chain(orphans::ceding())
    .collect()
}

fn asks() -> Vec<(&'static str, Ask)> {
    let (handle, mode, flags) = (Handle(11), LockMode::Cw, Flags::QUECVT);
    let name = LockspaceName::new("default").unwrap();
    vec![
        (
            "hello",
            Ask::Hello {
                min: 1,
                max: 2,
                command: "cmd".to_owned(),
            },
        ),
        (
            "open-lockspace",
            Ask::OpenLockspace {
                name: name.clone(),
                value_len: Some(64),
            },
        ),
        (
            "lock",
            Ask::Lock {
                handle,
                lockspace: LockspaceId(3),
                name: resource().name,
                mode,
                flags,
                blocking: true,
                timeout_ms: Some(1000),
            },
        ),
        (
            "convert",
            Ask::Convert {
                handle,
                mode,
                flags,
                blocking: true,
                value: Some(value().block),
                timeout_ms: None,
            },
        ),
        (
            "unlock",
            Ask::Unlock {
                handle,
                flags,
                value: None,
            },
        ),
        ("cancel", Ask::Cancel { handle }),
        ("status", Ask::Status),
        (
            "locks",
            Ask::Locks {
                lockspace: Some(name.clone()),
                pattern: None,
                limit: 5,
                after: Some((name.clone(), resource().name)),
            },
        ),
        (
            "why",
            Ask::Why {
                lockspace: name.clone(),
                name: resource().name,
            },
        ),
        ("events", Ask::Events { backlog: 10 }),
        ("leave", Ask::Leave),
        (
            "vouch",
            Ask::Vouch {
                node: NodeName::new("n2").unwrap(),
            },
        ),
        ("ping", Ask::Ping),
        (
            "graph",
            Ask::Graph {
                lockspace: Some(name),
                pattern: Some("vm-*".to_owned()),
                limit: 5,
            },
        ),
        (
            "set-deadlock-priority",
            Ask::SetDeadlockPriority { priority: 3 },
        ),
        (
            "set-owner",
            Ask::SetOwner {
                owner: mainstay_base::Owner::Transaction(7),
            },
        ),
        (
            "set-response-time",
            Ask::SetResponseTime {
                handle,
                within_ms: Some(500),
                release: true,
            },
        ),
        (
            "contention",
            Ask::Contention {
                lockspace: None,
                after: Some(LockspaceName::new("default").unwrap()),
                limit: 5,
            },
        ),
        ("masters", Ask::Masters),
        (
            "open-lockspace-of-long-values",
            Ask::OpenLockspace {
                name: LockspaceName::new("long").unwrap(),
                value_len: Some(4096),
            },
        ),
        (
            "swap-value",
            Ask::UpdateValue {
                handle,
                update: swap(),
            },
        ),
        (
            "add-to-value",
            Ask::UpdateValue {
                handle,
                update: ValueUpdate::Add { delta: -2 },
            },
        ),
        ("watch-value", Ask::WatchValue { handle, on: true }),
        ("dump-recorder", Ask::DumpRecorder),
        (
            "create-lockspace",
            Ask::CreateLockspace {
                name: LockspaceName::new("vms").unwrap(),
                value_len: Some(300),
                access: AccessChange {
                    mode: Some(0o640),
                    ..AccessChange::default()
                },
                fairness: mainstay_base::Fairness {
                    order: mainstay_base::Order::PhaseFair,
                    overtake: 7,
                    min_hold_ms: 300,
                },
                compat: mainstay_base::Compat::Vms,
            },
        ),
        (
            "set-lockspace",
            Ask::SetLockspace {
                name: LockspaceName::new("vms").unwrap(),
                access: AccessChange {
                    owner: Some(1000),
                    group: Some(100),
                    rules: Some(access().access.rules),
                    ..AccessChange::default()
                },
            },
        ),
        (
            "lockspaces",
            Ask::Lockspaces {
                after: Some(LockspaceName::new("vms").unwrap()),
                limit: 5,
            },
        ),
    ]
}

fn access() -> LockspaceAccess {
    LockspaceAccess {
        id: LockspaceId(3),
        name: LockspaceName::new("vms").unwrap(),
        value_len: 300,
        access: Access {
            rules: vec![AccessRule {
                prefix: b"vm-".to_vec(),
                whom: Whom::Group(100),
                modes: ModeSet::READ,
            }],
            ..Access::open_to_all(1000, 100)
        },
        fairness: mainstay_base::Fairness::default(),
        compat: mainstay_base::Compat::Linux,
    }
}

fn answers() -> Vec<(&'static str, ToClient)> {
    let done = |answer| ToClient::Done {
        request: 4,
        result: Ok(answer),
    };
    let event = Event {
        number: 1,
        unix_ms: 2,
        epoch: Epoch(3),
        what: What::Fenced {
            node: NodeId(2),
            incarnation: Incarnation(5),
        },
        reason: Reason::LeaseExpired,
        detail: "text".to_owned(),
    };
    let welcome = Welcome {
        protocol: 1,
        session: SessionId(9),
        node: NodeId(1),
        node_name: NodeName::new("n1").unwrap(),
        cluster: "dev".to_owned(),
        cluster_id: None,
        generation: 2,
        lease_until: Instant(5),
    };
    vec![
        ("welcome", done(Answer::Welcome(welcome))),
        (
            "lockspace",
            done(Answer::Lockspace {
                id: LockspaceId(3),
                value_len: 32,
            }),
        ),
        ("granted", done(Answer::Granted(granted()))),
        (
            "unlocked",
            done(Answer::Unlocked {
                version: Some(ValueVersion(2)),
            }),
        ),
        ("cancelled", done(Answer::Cancelled)),
        (
            "vouched",
            done(Answer::Vouched {
                node: NodeId(2),
                incarnations: vec![Incarnation(5)],
            }),
        ),
        (
            "refused",
            ToClient::Done {
                request: 4,
                result: Err(Refusal::Invalid("why".to_owned())),
            },
        ),
        (
            "denied",
            ToClient::Done {
                request: 4,
                result: Err(Refusal::Denied("why".to_owned())),
            },
        ),
        (
            "blocking",
            ToClient::Blocking {
                handle: Handle(11),
                mode: LockMode::Cr,
            },
        ),
        (
            "suspended",
            ToClient::Suspended {
                reason: "r".to_owned(),
            },
        ),
        ("resumed", ToClient::Resumed),
        (
            "session-lost",
            ToClient::SessionLost {
                reason: "r".to_owned(),
            },
        ),
        ("event", ToClient::Event(event)),
        ("events-missed", ToClient::EventsMissed(3)),
        ("graph", done(Answer::Graph(Box::new(reports::graph())))),
        ("priority-set", done(Answer::PrioritySet)),
        ("owner-set", done(Answer::OwnerSet)),
        (
            "deadlock-cycle",
            ToClient::Done {
                request: 4,
                result: Err(Refusal::DeadlockCycle(Box::new(circle::circle()))),
            },
        ),
        (
            "granted-otherwise",
            done(Answer::GrantedOtherwise {
                granted: granted(),
                altmode: true,
                demoted: false,
            }),
        ),
        ("demoted", ToClient::Demoted { handle: Handle(11) }),
        (
            "duplicate",
            ToClient::Done {
                request: 4,
                result: Err(Refusal::Duplicate),
            },
        ),
        (
            "refused-after-demotion",
            ToClient::Done {
                request: 4,
                result: Err(Refusal::AfterDemotion(Box::new(Refusal::Cancelled))),
            },
        ),
        (
            "released",
            ToClient::Done {
                request: 4,
                result: Err(Refusal::Released),
            },
        ),
        ("response-time-set", done(Answer::ResponseTimeSet)),
        (
            "contention",
            done(Answer::Contention(Box::new(reports::contention()))),
        ),
        (
            "lockspace-set",
            done(Answer::LockspaceSet(Box::new(access()))),
        ),
        (
            "lockspaces",
            done(Answer::Lockspaces {
                lockspaces: vec![access()],
                truncated: true,
            }),
        ),
        (
            "dumped",
            done(Answer::Dumped {
                path: "/var/lib/mainstay/recorder/x".to_owned(),
                bytes: 7000,
            }),
        ),
        (
            "overdue",
            ToClient::Overdue {
                handle: Handle(11),
                mode: LockMode::Ex,
                released: true,
            },
        ),
        ("updated", done(Answer::Updated(updated()))),
        ("watching", done(Answer::Watching)),
        (
            "value-changed",
            ToClient::ValueChanged {
                handle: Handle(11),
                value: value(),
            },
        ),
        (
            "event-notice-unheeded",
            ToClient::Event(Event {
                number: 1,
                unix_ms: 2,
                epoch: Epoch(3),
                what: What::NoticeUnheeded {
                    lockspace: LockspaceName::new("default").unwrap(),
                    name: ResourceName::new("disk").unwrap(),
                    waited_ms: 501,
                    released: false,
                },
                reason: Reason::NoticeUnheeded,
                detail: String::new(),
            }),
        ),
        (
            "event-deadlock-broken",
            ToClient::Event(Event {
                number: 1,
                unix_ms: 2,
                epoch: Epoch(3),
                what: What::DeadlockBroken { owners: 3 },
                reason: Reason::Deadlock,
                detail: String::new(),
            }),
        ),
        (
            "event-masters-moved",
            ToClient::Event(Event {
                number: 3,
                unix_ms: 0,
                epoch: Epoch(12),
                what: What::MastersMoved {
                    from: NodeId(1),
                    to: NodeId(2),
                    resources: 3,
                },
                reason: Reason::BusierElsewhere,
                detail: String::new(),
            }),
        ),
        (
            "masters",
            ToClient::Done {
                request: 4,
                result: Ok(Answer::Masters(Box::new(moving::masters()))),
            },
        ),
    ]
}

fn check<T: Serialize + DeserializeOwned + PartialEq + Debug>(
    file: &str,
    text: &str,
    version: &str,
    messages: Vec<(&str, T)>,
) {
    let encoded = |(name, message): &(&str, T)| ((*name).to_owned(), codec::to_vec(message));
    let now: Vec<_> = messages.iter().map(encoded).collect();
    let golden = check::golden(file, text, version, &now);
    for ((name, message), old) in messages.iter().zip(golden) {
        let read: T = codec::decode("message", 1 << 20, &old).unwrap();
        assert_eq!(read, *message, "{file}: `{name}` reads as something else");
    }
}

/// What is raised when messages between nodes change.
const NODES: &str = "the transport's VERSION_MAX in shell/transport/src/wire.rs";
/// What is raised when messages between clients and daemons change.
const CLIENTS: &str = "PROTOCOL in core/wire/src/client.rs";

/// Protects rolling upgrades: what lock managers of different builds say to each other.
#[test]
fn messages_between_lock_managers_keep_their_bytes() {
    let all = bodies().into_iter().chain(ranges::bodies());
    let messages = all.map(|(n, body)| {
        (
            n,
            Message {
                epoch: Epoch(12),
                body,
            },
        )
    });
    check(
        "dlm.txt",
        include_str!("golden/dlm.txt"),
        NODES,
        messages.collect(),
    );
}

/// Protects clients of other builds: what they ask.
#[test]
fn questions_of_clients_keep_their_bytes() {
    check(
        "ask.txt",
        include_str!("golden/ask.txt"),
        CLIENTS,
        asks()
            .into_iter()
            .chain(ranges::asks())
            .chain(orphans::asks())
            .chain(sets::asks())
            .chain(trees::asks())
            .chain(keeping::asks())
            .map(|(n, ask)| (n, FromClient { request: 4, ask }))
            .collect(),
    );
}

/// Protects clients of other builds: what they are told.
#[test]
fn messages_to_clients_keep_their_bytes() {
    check(
        "to_client.txt",
        include_str!("golden/to_client.txt"),
        CLIENTS,
        answers()
            .into_iter()
            .chain(ranges::answers())
            .chain(orphans::answers())
            .chain(sets::answers())
            .chain(trees::answers())
            .chain(keeping::answers())
            .collect(),
    );
}

/// Protects nodes from hostile bytes: no prefix, extension or corruption of a message panics or is
/// taken for more than it holds.
#[test]
fn damaged_messages_are_errors_or_other_messages() {
    let mut entropy = mainstay_base::Entropy::new(1);
    for (_, body) in bodies().into_iter().chain(ranges::bodies()) {
        let bytes = codec::to_vec(&Message {
            epoch: Epoch(12),
            body,
        });
        for cut in 0..bytes.len() {
            let cut = codec::decode::<Message>("message", 1 << 20, &bytes[..cut]);
            assert!(cut.is_err(), "a prefix was taken for a message");
        }
        for _ in 0..2000 {
            let mut damaged = bytes.clone();
            for _ in 0..=entropy.below(3) {
                let at = entropy.below(damaged.len() as u64) as usize;
                damaged[at] = entropy.next_u64() as u8;
            }
            if let Ok(message) = codec::decode::<Message>("message", 1 << 20, &damaged) {
                // A varint may be written in more than one way; what was read is what is written.
                let again = codec::to_vec(&message);
                assert_eq!(
                    codec::decode::<Message>("message", 1 << 20, &again),
                    Ok(message)
                );
            }
        }
        let mut longer = bytes;
        longer.push(0);
        assert!(codec::decode::<Message>("message", 1 << 20, &longer).is_err());
    }
}
