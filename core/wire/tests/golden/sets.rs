//! Messages about several locks at once.

use super::granted;
use mainstay_base::{LockMode, LockspaceId, ResourceName, ValueBlock, ValueVersion};
use mainstay_wire::{
    client::{Answer, Ask, Handle, ToClient},
    lock::{Flags, Refusal},
    sets::{ConvertOne, MemberRefusal, OneDone, SetMember, UnlockOne},
};

pub(crate) fn asks() -> Vec<(&'static str, Ask)> {
    let member = |handle, name: &str, mode, flags| SetMember {
        handle: Handle(handle),
        name: ResourceName::new(name).unwrap(),
        mode,
        flags,
        blocking: true,
    };
    let set = Ask::LockSet {
        lockspace: LockspaceId(3),
        members: vec![
            member(11, "b", LockMode::Ex, Flags::NONE),
            member(12, "a", LockMode::Pr, Flags::VALBLK),
        ],
        flags: Flags::NOQUEUE,
        timeout_ms: Some(500),
    };
    let value = Some(ValueBlock::new(b"new").unwrap());
    let convert = Ask::ConvertMany {
        locks: vec![ConvertOne {
            handle: Handle(11),
            mode: LockMode::Cr,
            flags: Flags::VALBLK,
            blocking: false,
            value: value.clone(),
        }],
        timeout_ms: None,
    };
    let unlock = Ask::UnlockMany {
        locks: vec![UnlockOne {
            handle: Handle(12),
            flags: Flags::VALBLK,
            value,
        }],
    };
    vec![
        ("lock-set", set),
        ("convert-many", convert),
        ("unlock-many", unlock),
    ]
}

pub(crate) fn answers() -> Vec<(&'static str, ToClient)> {
    let done = |result| ToClient::Done { request: 4, result };
    let members = vec![granted()];
    let refusal = MemberRefusal {
        place: 1,
        name: ResourceName::new("a").unwrap(),
        why: Refusal::TimedOut,
    };
    let results = vec![
        Ok(OneDone::Granted {
            granted: granted(),
            altmode: false,
            demoted: true,
        }),
        Ok(OneDone::Unlocked {
            version: Some(ValueVersion(300)),
        }),
        Err(Refusal::Busy),
    ];
    vec![
        ("set-granted", done(Ok(Answer::SetGranted { members }))),
        ("of-set", done(Err(Refusal::OfSet(Box::new(refusal))))),
        ("many", done(Ok(Answer::Many { results }))),
    ]
}
