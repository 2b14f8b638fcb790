//! Messages about masters that move.

use super::{resource, value};
use mainstay_base::{
    Epoch, Incarnation, LockId, LockMode, LockspaceId, LockspaceName, NodeId, NodeName, Token,
};
use mainstay_wire::{
    dlm::{Body, MovedLock, MovedResource},
    event::Reason,
    lock::Flags,
    report::{MasterReport, MastersReport, MoveReport},
};

pub(crate) fn bodies() -> Vec<(&'static str, Body)> {
    let (serial, members, floor) = (8, Epoch(11), Token::floor(Epoch(11)));
    let moved = MovedLock {
        node: NodeId(2),
        incarnation: Incarnation(5),
        lock: LockId(900),
        granted: Some((LockMode::Pw, floor)),
        pending: Some((LockMode::Ex, Flags::VALBLK, -3)),
        patient: true,
        blocking: true,
        blocking_next: false,
        valblk: true,
        told: Some(LockMode::Pr),
        watches: true,
    };
    vec![
        (
            "move-ask",
            Body::MoveAsk {
                serial,
                members,
                to: NodeId(3),
                names: vec![resource()],
            },
        ),
        ("move-agreed", Body::MoveAgreed { serial }),
        ("move-hear", Body::MoveHear { serial }),
        (
            "move-state",
            Body::MoveState {
                serial,
                resources: vec![MovedResource {
                    resource: resource(),
                    last: floor,
                    value: value(),
                    next_ticket: 1000,
                    passed: 3,
                    wrote: true,
                    locks: vec![moved],
                }],
                last: true,
            },
        ),
        ("move-ready", Body::MoveReady { serial }),
        ("move-refused", Body::MoveRefused { serial }),
        ("move-off", Body::MoveOff { serial }),
        (
            "lookup-unwilling",
            Body::LookupUnwilling {
                resource: resource(),
                members,
            },
        ),
        (
            "appoint",
            Body::Appoint {
                resource: resource(),
                members,
                floor,
            },
        ),
        ("query-masters", Body::QueryMasters { query: 6 }),
        (
            "query-mastered",
            Body::QueryMastered {
                query: 6,
                mastered: vec![(LockspaceId(3), 40)],
                grants: 700,
            },
        ),
    ]
}

pub(crate) fn masters() -> MastersReport {
    let node = NodeName::new("a").unwrap();
    MastersReport {
        nodes: vec![MasterReport {
            node: node.clone(),
            weight: 1,
            mastered: 40,
            lockspaces: vec![(LockspaceName::new("default").unwrap(), 40)],
            grants: 700,
        }],
        moves: vec![MoveReport {
            from: node.clone(),
            to: NodeName::new("b").unwrap(),
            resources: 3,
            reason: Reason::BusierElsewhere,
            ago_ms: 1500,
        }],
        moving: true,
        cap: 100,
        silent: vec![node],
    }
}
