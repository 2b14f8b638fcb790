//! Messages about locks beneath others.

use mainstay_base::{LockMode, ResourceName};
use mainstay_wire::{
    client::{Answer, Ask, Handle, ToClient},
    lock::{Flags, Refusal},
};

pub(crate) fn asks() -> Vec<(&'static str, Ask)> {
    let under = Ask::LockUnder {
        parent: Handle(11),
        handle: Handle(12),
        name: ResourceName::new("row").unwrap(),
        mode: LockMode::Pr,
        flags: Flags::VALBLK,
        blocking: true,
        timeout_ms: Some(500),
    };
    let tree = Ask::UnlockTree {
        handle: Some(Handle(11)),
        itself: true,
    };
    // The name of a sub-resource, as reports and questions carry it.
    let why = Ask::Why {
        lockspace: mainstay_base::LockspaceName::new("vms").unwrap(),
        name: "db//table//row".parse().unwrap(),
    };
    vec![
        ("lock-under", under),
        ("unlock-tree", tree),
        ("why-in-a-tree", why),
    ]
}

pub(crate) fn answers() -> Vec<(&'static str, ToClient)> {
    let done = |result| ToClient::Done { request: 4, result };
    vec![
        (
            "tree-unlocked",
            done(Ok(Answer::TreeUnlocked { released: 300 })),
        ),
        ("parent-not-granted", done(Err(Refusal::ParentNotGranted))),
        ("has-sub-locks", done(Err(Refusal::HasSubLocks(2)))),
    ]
}
