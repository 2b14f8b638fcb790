//! A circle of waiters, as messages carry it.

use super::*;

pub(crate) fn job() -> OwnerReport {
    OwnerReport {
        pid: 77,
        uid: 1000,
        command: "job".to_owned(),
        orphan_ms: None,
        owner: mainstay_base::Owner::Session,
        broken: None,
    }
}

pub(crate) fn circle() -> DeadlockReport {
    DeadlockReport {
        policy: VictimPolicy::Youngest,
        waits: vec![CycleWait {
            node: NodeName::new("n1").unwrap(),
            owner: job(),
            lockspace: LockspaceName::new("default").unwrap(),
            name: resource().name,
            granted: None,
            requested: LockMode::Ex,
            waited_ms: 51,
            lock: LockId(900),
            wait: 31,
            range: Some(ranges::range()),
        }],
    }
}
