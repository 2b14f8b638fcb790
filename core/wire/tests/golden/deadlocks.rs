//! The search for deadlocks, and what was added to the protocol after it.

use super::{resource, swap, updated, value};
use mainstay_base::{Flags, LockId, LockMode, NodeId, Owner, SessionId, VictimPolicy};
use mainstay_wire::{
    deadlock::{Charge, Found, Hop, Met, OwnerId, ProbeId, WaitId, Waiter},
    dlm::Body,
    lock::Refusal,
    report::{LockspaceFilter, OwnerReport},
};

pub(crate) fn bodies() -> Vec<(&'static str, Body)> {
    let (node, session, lock) = (NodeId(2), SessionId(9), LockId(900));
    let owner = OwnerId::Session { node, session };
    let probe = ProbeId {
        node,
        owner,
        round: 70,
    };
    let transaction = OwnerId::Transaction { uid: 1000, xid: 7 };
    let wait = WaitId {
        node,
        lock,
        wait: 31,
    };
    let (blocker, stamp) = (LockId(7), -3);
    let path = vec![Hop {
        wait,
        blocker_node: NodeId(3),
        blocker,
        stamp,
    }];
    let charge = Charge {
        judge: NodeId(1),
        trial: 8,
        place: 1,
        wait,
        holds_node: NodeId(4),
        holds: LockId(6),
        blocker_node: NodeId(3),
        blocker,
        stamp,
    };
    let waiter = Waiter {
        wait,
        owner,
        process: OwnerReport {
            pid: 77,
            uid: 1000,
            command: "job".to_owned(),
            orphan_ms: None,
            owner: Owner::Transaction(7),
            broken: None,
        },
        resource: resource(),
        granted: Some(LockMode::Pr),
        requested: LockMode::Ex,
        waited_us: 51_000,
        locks: 4,
        priority: 2,
        range: None,
    };
    let filter = LockspaceFilter {
        limit: 100,
        ..LockspaceFilter::default()
    };
    vec![
        (
            "probe",
            Body::Probe {
                probe,
                resource: resource(),
                wait,
                owner,
                path: path.clone(),
            },
        ),
        (
            "chase",
            Body::Chase {
                probe,
                wait,
                owner: OwnerId::Process {
                    node,
                    uid: 1000,
                    pid: 77,
                },
                path: path.clone(),
                found: vec![Found {
                    lock,
                    held: true,
                    stamp: 5,
                    via: Some((wait, 4)),
                }],
            },
        ),
        (
            "pursue",
            Body::Pursue {
                probe: ProbeId {
                    owner: OwnerId::Group {
                        node,
                        uid: 1000,
                        number: 3,
                    },
                    ..probe
                },
                owner: transaction,
                met: Met {
                    node,
                    lock,
                    held: true,
                    resource: resource(),
                    mode: Some(LockMode::Pw),
                },
                path: path.clone(),
            },
        ),
        ("awaits", Body::Awaits { owner: transaction }),
        ("stir", Body::Stir { owner: transaction }),
        (
            "attest",
            Body::Attest {
                trial: 8,
                place: 1,
                lock,
            },
        ),
        (
            "attested",
            Body::Attested {
                trial: 8,
                place: 1,
                owner: Some((transaction, 4)),
            },
        ),
        ("accuse", Body::Accuse { circle: path }),
        ("examine", Body::Examine { charge }),
        (
            "check",
            Body::Check {
                resource: resource(),
                charge,
            },
        ),
        (
            "checked",
            Body::Checked {
                charge,
                standing: true,
            },
        ),
        (
            "testimony",
            Body::Testimony {
                trial: 8,
                place: 1,
                waiter: Some(Box::new(waiter.clone())),
            },
        ),
        (
            "condemn",
            Body::Condemn {
                wait,
                policy: VictimPolicy::FewestLocks,
                circle: vec![waiter],
            },
        ),
        ("query-waits", Body::QueryWaits { query: 6, filter }),
        (
            "query-owners",
            Body::QueryOwners {
                query: 6,
                locks: vec![lock],
            },
        ),
        (
            "query-sessions",
            Body::QuerySessions {
                query: 6,
                sessions: vec![(lock, session)],
            },
        ),
        (
            "convert-demoted",
            Body::ConvertDemoted {
                resource: resource(),
                lock,
                mode: LockMode::Ex,
                flags: Flags::CONVDEADLK,
                blocking: true,
            },
        ),
        (
            "update",
            Body::Update {
                resource: resource(),
                lock,
                update: swap(),
            },
        ),
        (
            "updated",
            Body::Updated {
                lock,
                result: Ok(updated()),
            },
        ),
        (
            "update-refused",
            Body::Updated {
                lock,
                result: Err(Refusal::ValueHeld),
            },
        ),
        (
            "watch",
            Body::Watch {
                resource: resource(),
                lock,
                on: true,
            },
        ),
        (
            "value-changed",
            Body::ValueChanged {
                lock,
                value: value(),
            },
        ),
    ]
}
