//! Long value blocks on three nodes: published and read in place, swapped, counted, watched, through the
//! death of their master.

#![allow(missing_docs)]

#[allow(dead_code, reason = "other tests use the rest")]
mod world;

use mainstay_base::{
    FencePolicy, LockMode, LockspaceId, LockspaceName, NodeId, Updated, Value, ValueBlock,
    ValueUpdate,
};
use mainstay_wire::{
    client::{Answer, Ask, Handle, ToClient},
    lock::{Flags, Refusal},
};
use world::World;

const N1: NodeId = NodeId(1);
const N2: NodeId = NodeId(2);
const N3: NodeId = NodeId(3);
const LEN: u16 = 4096;

fn open(w: &mut World, node: NodeId, value_len: Option<u16>) -> Result<Answer, Refusal> {
    let name = LockspaceName::new("long").expect("valid");
    let ask = Ask::OpenLockspace { name, value_len };
    let request = w.ask(node, u64::from(node.0), ask);
    w.wait(node, request)
}

/// Three nodes with a session each, that hold NL with the value on `v`, which node 1 masters.
fn cluster() -> (World, LockspaceId) {
    let mut w = World::new(3, FencePolicy::Lease);
    w.settle();
    let mut space = None;
    for node in [N1, N2, N3] {
        w.open(node, u64::from(node.0));
        match open(&mut w, node, Some(LEN)) {
            Ok(Answer::Lockspace { id, value_len: LEN }) => space = Some(id),
            other => panic!("{other:?}"),
        }
        let space = space.expect("just opened");
        let ask = World::lock_ask(1, space, "v", LockMode::Nl, Flags::VALBLK);
        let request = w.ask(node, u64::from(node.0), ask);
        w.granted(node, request);
    }
    (w, space.expect("three nodes opened it"))
}

fn call(w: &mut World, node: NodeId, ask: Ask) -> Result<Answer, Refusal> {
    let request = w.ask(node, u64::from(node.0), ask);
    w.wait(node, request)
}

fn update(w: &mut World, node: NodeId, update: ValueUpdate) -> Result<Updated, Refusal> {
    let handle = Handle(1);
    match call(w, node, Ask::UpdateValue { handle, update })? {
        Answer::Updated(updated) => Ok(updated),
        other => panic!("{other:?}"),
    }
}

fn convert(w: &mut World, node: NodeId, mode: LockMode, value: Option<u8>) -> Option<Value> {
    let ask = Ask::Convert {
        handle: Handle(1),
        mode,
        flags: Flags::VALBLK,
        blocking: false,
        value: value.map(block),
        timeout_ms: None,
    };
    let request = w.ask(node, u64::from(node.0), ask);
    w.granted(node, request).value
}

fn block(byte: u8) -> ValueBlock {
    ValueBlock::new([byte; LEN as usize]).expect("as long as they may be")
}

/// The values that a node's client was told of, as counts.
fn seen(w: &World, node: NodeId) -> Vec<i64> {
    let all = w.hosts[&node].heard.iter();
    let seen = all.filter_map(|(_, message)| match message {
        ToClient::ValueChanged { value, .. } => Some(value.count()),
        _ => None,
    });
    seen.collect()
}

/// Protects long values, and publishing and refreshing without another mode, from a node that is not
/// the master.
#[test]
fn long_values_are_published_and_refreshed_in_place() {
    let (mut w, _) = cluster();
    for mode in [LockMode::Pw, LockMode::Ex] {
        convert(&mut w, N2, mode, None);
        for byte in [1, 2] {
            let told = convert(&mut w, N2, mode, Some(byte)).expect("it publishes");
            assert_eq!(told.block, block(byte));
        }
    }
    convert(&mut w, N2, LockMode::Cr, Some(3));
    for (mode, byte) in [(LockMode::Cr, 3), (LockMode::Cr, 4)] {
        if byte == 4 {
            convert(&mut w, N2, LockMode::Pw, None);
            convert(&mut w, N2, LockMode::Cr, Some(4));
        }
        let read = convert(&mut w, N3, mode, None).expect("it reads");
        assert_eq!((read.block, read.maybe_stale), (block(byte), false));
    }
    convert(&mut w, N3, LockMode::Pr, None);
    let read = convert(&mut w, N3, LockMode::Pr, None).expect("it reads again");
    assert_eq!(read.block, block(4));
}

/// Protects lockspaces from being used with another length than they have, and than is possible.
#[test]
fn lengths_must_agree() {
    let (mut w, _) = cluster();
    for (wanted, fine) in [
        (None, true),
        (Some(LEN), true),
        (Some(32), false),
        (Some(0), false),
        (Some(LEN + 1), false),
    ] {
        assert_eq!(open(&mut w, N2, wanted).is_ok(), fine, "{wanted:?}");
    }
}

/// Protects swaps, counts and those who watch, with the master near and far.
#[test]
fn updates_are_done_at_the_master_and_told_to_those_who_watch() {
    let (mut w, _) = cluster();
    let handle = Handle(1);
    for node in [N1, N3] {
        let watching = call(&mut w, node, Ask::WatchValue { handle, on: true });
        assert_eq!(watching, Ok(Answer::Watching));
    }
    for (node, sum) in [(N1, 1), (N2, 2), (N3, 3)] {
        let updated = update(&mut w, node, ValueUpdate::Add { delta: 1 }).expect("nobody holds it");
        assert_eq!((updated.done, updated.value.count()), (true, sum));
    }
    let read = update(&mut w, N2, ValueUpdate::Add { delta: 0 }).expect("as before");
    let swap = |count| ValueUpdate::Swap {
        expect: read.value.version,
        expect_stale: false,
        block: ValueBlock::default().with_count(count),
    };
    assert!(update(&mut w, N3, swap(40)).expect("as before").done);
    let late = update(&mut w, N2, swap(50)).expect("as before");
    assert_eq!((late.done, late.value.count()), (false, 40));
    w.until("all has been told", |w| seen(w, N1).last() == Some(&40));
    // What it did itself is not told to it.
    assert_eq!(seen(&w, N3), [1, 2, 3]);
    convert(&mut w, N2, LockMode::Pr, None);
    let refused = update(&mut w, N3, ValueUpdate::Add { delta: 1 });
    assert_eq!(refused, Err(Refusal::ValueHeld));
    assert!(update(&mut w, N2, ValueUpdate::Add { delta: 1 }).is_ok());
}

/// Protects those who count and watch from their master's death: the count goes on, marked, for nobody
/// can say that he knows the last one; and who watches learns of the mark and of what follows.
#[test]
fn counts_and_watches_outlive_their_master() {
    let (mut w, _) = cluster();
    let handle = Handle(1);
    call(&mut w, N3, Ask::WatchValue { handle, on: true }).expect("granted");
    update(&mut w, N2, ValueUpdate::Add { delta: 7 }).expect("nobody holds it");
    w.until("it is told", |w| seen(w, N3) == [7]);
    w.kill(N1);
    // One that is sent before the death is noticed is not repeated, for it may have been done.
    let lost = update(&mut w, N2, ValueUpdate::Add { delta: 1 });
    assert_eq!(lost.map_err(|why| why.code()), Err("unavailable"));
    let updated = update(&mut w, N2, ValueUpdate::Add { delta: 1 }).expect("the next one does it");
    assert_eq!(
        (updated.value.count(), updated.value.maybe_stale),
        (8, true)
    );
    w.until("it is told", |w| seen(w, N3).last() == Some(&8));
    assert!([vec![7, 7, 8], vec![7, 8]].contains(&seen(&w, N3)));
}
