//! The search for deadlocks, and what was added to the protocol after it.

use super::{resource, swap, updated, value};
use mainstay_base::{Flags, LockId, LockMode, NodeId, SessionId, VictimPolicy};
use mainstay_wire::{
    deadlock::{Charge, Found, Hop, OwnerId, ProbeId, WaitId, Waiter},
    dlm::Body,
    lock::Refusal,
    report::{LockspaceFilter, OwnerReport},
};

pub(crate) fn bodies() -> Vec<(&'static str, Body)> {
    let (node, session, lock) = (NodeId(2), SessionId(9), LockId(900));
    let owner = OwnerId { node, session };
    let probe = ProbeId { owner, round: 70 };
    let wait = WaitId {
        node,
        lock,
        wait: 31,
    };
    let (blocker, stamp) = (LockId(7), -3);
    let path = vec![Hop {
        wait,
        blocker,
        stamp,
    }];
    let charge = Charge {
        judge: NodeId(1),
        trial: 8,
        place: 1,
        wait,
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
                path: path.clone(),
            },
        ),
        (
            "chase",
            Body::Chase {
                probe,
                wait,
                path: path.clone(),
                found: vec![Found {
                    lock,
                    held: true,
                    stamp: 5,
                    via: Some((wait, 4)),
                }],
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
