//! Reports, and what nodes say to each other for them.

use super::{circle::job, resource};
use mainstay_base::{LockId, LockMode, LockspaceId, LockspaceName, NodeName, SessionId};
use mainstay_wire::{
    contention::{
        Bucket, ContentionReport, HotReport, HotResource, LockspaceTimes, LongWait, OpenWait,
        SpaceTimes, Times, WaitBlocker,
    },
    dlm::Body,
    report::{GraphBlocker, GraphOwner, GraphReport, GraphWait, LockspaceFilter},
};

fn times() -> Times {
    Times {
        count: 700,
        total_us: 9000,
        max_us: 900,
        p50_us: 1,
        p90_us: 4,
        p99_us: 900,
        buckets: vec![Bucket {
            below_us: 1,
            count: 699,
        }],
    }
}

pub(crate) fn bodies() -> Vec<(&'static str, Body)> {
    let filter = LockspaceFilter {
        limit: 100,
        ..LockspaceFilter::default()
    };
    vec![
        ("query-resources", Body::QueryResources { query: 6, filter }),
        (
            "query-contention",
            Body::QueryContention {
                query: 6,
                space: Some(LockspaceId(3)),
                after: Some(LockspaceId(2)),
                limit: 100,
            },
        ),
        (
            "contention-part",
            Body::ContentionPart {
                query: 6,
                spaces: vec![SpaceTimes {
                    space: LockspaceId(3),
                    waits: times(),
                    given_up: 2,
                    holds: times(),
                }],
                truncated: true,
                hot: vec![HotResource {
                    resource: resource(),
                    waits: 5,
                    waited_us: 8000,
                    longest_us: 900,
                    over_us: 70,
                }],
                hot_ms: 1000,
                waits: vec![OpenWait {
                    lock: LockId(900),
                    resource: resource(),
                    granted: Some(LockMode::Pr),
                    requested: LockMode::Ex,
                    waited_us: 5000,
                    session: SessionId(9),
                    owner: job(),
                }],
                last: true,
            },
        ),
    ]
}

pub(crate) fn contention() -> ContentionReport {
    let lockspace = LockspaceName::new("default").unwrap();
    let owner = GraphOwner {
        node: NodeName::new("n1").unwrap(),
        session: Some(SessionId(9)),
        owner: job(),
    };
    ContentionReport {
        waits: vec![LongWait {
            waiter: owner.clone(),
            lockspace: lockspace.clone(),
            name: resource().name,
            lock: LockId(900),
            granted: None,
            requested: LockMode::Ex,
            waited_ms: 1500,
            blockers: vec![WaitBlocker {
                owner,
                held: Some(LockMode::Pr),
            }],
        }],
        hot: vec![HotReport {
            lockspace: lockspace.clone(),
            name: resource().name,
            waits: 5,
            waited_us: 8000,
            longest_us: 900,
            over_us: 70,
        }],
        hot_ms: 1000,
        lockspaces: vec![LockspaceTimes {
            lockspace,
            waits: times(),
            given_up: 2,
            holds: times(),
        }],
        truncated: true,
        silent: vec![NodeName::new("n2").unwrap()],
    }
}

pub(crate) fn graph() -> GraphReport {
    GraphReport {
        owners: vec![GraphOwner {
            node: NodeName::new("n1").unwrap(),
            session: Some(SessionId(9)),
            owner: job(),
        }],
        waits: vec![GraphWait {
            waiter: 0,
            lockspace: LockspaceName::new("default").unwrap(),
            name: resource().name,
            lock: LockId(900),
            granted: Some(LockMode::Cr),
            requested: LockMode::Ex,
            age_ms: 1500,
            blockers: vec![GraphBlocker {
                owner: 0,
                held: Some(LockMode::Pr),
                range: None,
            }],
            range: Some(crate::ranges::range()),
        }],
        circles: vec![vec![0, 1]],
        truncated: true,
        silent: vec![NodeName::new("n2").unwrap()],
    }
}
