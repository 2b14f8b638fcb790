//! Messages about locks on ranges.

use super::resource;
use mainstay_base::{
    ByteRange, Incarnation, LockId, LockMode, LockspaceId, NodeId, ResourceName, Token,
};
use mainstay_wire::{
    client::{Answer, Ask, Handle, ToClient},
    dlm::{Body, RangeAsk, RestatedRanges},
    lock::{Flags, Refusal},
};

pub(crate) fn range() -> ByteRange {
    ByteRange::new(4096, u64::MAX).unwrap()
}

pub(crate) fn bodies() -> Vec<(&'static str, Body)> {
    let (lock, mode) = (LockId(900), LockMode::Pw);
    let ask = RangeAsk {
        range: range(),
        mode,
        flags: Flags::NOQUEUE,
        blocking: true,
    };
    vec![
        (
            "range-call",
            Body::RangeCall {
                resource: resource(),
                lock,
                ask,
            },
        ),
        (
            "range-weaken",
            Body::RangeWeaken {
                resource: resource(),
                lock,
                range: range(),
                mode: LockMode::Nl,
            },
        ),
        (
            "range-blocking",
            Body::RangeBlocking {
                lock,
                range: range(),
                mode,
            },
        ),
        (
            "restate-ranges",
            Body::RestateRanges {
                node: NodeId(2),
                incarnation: Incarnation(5),
                resource: resource(),
                lock,
                ranges: RestatedRanges {
                    held: vec![(ByteRange::new(0, 9).unwrap(), mode, Token(9 << 40))],
                    ask: Some(ask),
                    ticket: Some(-3),
                    blocking: true,
                },
            },
        ),
    ]
}

pub(crate) fn asks() -> Vec<(&'static str, Ask)> {
    let ask = Ask::Range {
        handle: Handle(11),
        lockspace: LockspaceId(3),
        name: ResourceName::new("disk").unwrap(),
        range: range(),
        mode: LockMode::Ex,
        flags: Flags::NOQUEUE,
        blocking: true,
        timeout_ms: Some(500),
    };
    vec![("range", ask)]
}

pub(crate) fn answers() -> Vec<(&'static str, ToClient)> {
    let done = |result| ToClient::Done { request: 4, result };
    let set = Answer::RangeSet {
        token: Token(1 << 40 | 7),
        holds: true,
    };
    vec![
        ("range-set", done(Ok(set))),
        ("ranged", done(Err(Refusal::Ranged))),
        ("whole", done(Err(Refusal::Whole))),
        (
            "range-blocking",
            ToClient::RangeBlocking {
                handle: Handle(11),
                range: range(),
                mode: LockMode::Cr,
            },
        ),
    ]
}
