//! Locks on ranges across nodes: with the master near and far, and through its death.

#![allow(missing_docs)]

mod world;

use mainstay_base::{
    ByteRange, LockMode, LockspaceId, LockspaceName, NodeId, ResourceName, SessionId, Token,
};
use mainstay_wire::{
    client::{Answer, Ask, Handle, ToClient},
    lock::{Flags, Refusal},
    report::WhyReport,
};
use std::time::Duration;
use world::World;

const N1: NodeId = NodeId(1);
const N2: NodeId = NodeId(2);
const N3: NodeId = NodeId(3);
const SHORT: Duration = Duration::from_millis(50);

/// Three nodes with a session each; node 1 masters `disk` and holds nothing.
fn cluster() -> (World, LockspaceId) {
    let (mut w, space) = World::three();
    for mode in [LockMode::Ex, LockMode::Nl] {
        let asked = range(&mut w, N1, space, "0-", mode, Flags::NONE);
        set(&mut w, N1, asked);
    }
    (w, space)
}

fn bytes(text: &str) -> ByteRange {
    text.parse().expect("a range")
}

fn range_on(
    w: &mut World,
    node: NodeId,
    handle: u64,
    space: LockspaceId,
    name: &str,
    range: &str,
    mode: LockMode,
    flags: Flags,
) -> u64 {
    let ask = World::range_ask(handle, space, name, range, mode, flags);
    w.ask(node, u64::from(node.0), ask)
}

fn range(
    w: &mut World,
    node: NodeId,
    space: LockspaceId,
    range: &str,
    mode: LockMode,
    flags: Flags,
) -> u64 {
    range_on(w, node, 1, space, "disk", range, mode, flags)
}

/// Token, and whether anything is held, of a call that is granted.
fn set(w: &mut World, node: NodeId, request: u64) -> (Token, bool) {
    match w.wait(node, request) {
        Ok(Answer::RangeSet { token, holds }) => (token, holds),
        other => panic!("not set: {other:?}"),
    }
}

fn held(w: &mut World, node: NodeId, space: LockspaceId, text: &str, mode: LockMode) -> Token {
    let request = range(w, node, space, text, mode, Flags::NONE);
    set(w, node, request).0
}

fn unlock(w: &mut World, node: NodeId) -> u64 {
    w.ask(node, u64::from(node.0), World::unlock_ask(1, Flags::NONE))
}

fn why(w: &mut World) -> WhyReport {
    let ask = Ask::Why {
        lockspace: LockspaceName::new("default").expect("valid"),
        name: ResourceName::new("disk").expect("valid"),
    };
    let request = w.ask(N2, 2, ask);
    match w.wait(N2, request) {
        Ok(Answer::Why(report)) => *report,
        other => panic!("{other:?}"),
    }
}

/// Protects the rules across nodes: what does not meet is granted, what meets waits for those bytes
/// alone and keeps what it had, and the holder is told of the range that somebody waits for.
#[test]
fn ranges_wait_for_the_bytes_that_they_share() {
    for (left, right) in [(N1, N2), (N2, N1), (N2, N3)] {
        let (mut w, space) = cluster();
        let first = held(&mut w, left, space, "0-99", LockMode::Ex);
        held(&mut w, right, space, "200-", LockMode::Pr);
        let asked = range(&mut w, right, space, "50-250", LockMode::Ex, Flags::NONE);
        w.run(SHORT);
        assert!(w.result(right, asked).is_none(), "{left} has 50-99");
        let told = ToClient::RangeBlocking {
            handle: Handle(1),
            range: bytes("50-250"),
            mode: LockMode::Ex,
        };
        let to = SessionId(u64::from(left.0));
        assert!(w.hosts[&left].heard.contains(&(to, told)));
        // It has what it had: others wait for that.
        let reader = range(&mut w, left, space, "300-300", LockMode::Ex, Flags::NOQUEUE);
        assert_eq!(w.wait(left, reader), Err(Refusal::NotQueued));
        let given = range(&mut w, left, space, "40-99", LockMode::Nl, Flags::NONE);
        assert!(set(&mut w, left, given).1, "0-39 is left");
        assert!(set(&mut w, right, asked).0 > first);
        let again = range(&mut w, left, space, "39-40", LockMode::Pr, Flags::NONE);
        set(&mut w, left, again);
        let over = range(&mut w, left, space, "40-50", LockMode::Pr, Flags::NOQUEUE);
        assert_eq!(w.wait(left, over), Err(Refusal::NotQueued));
        let gone = unlock(&mut w, right);
        w.wait(right, gone).expect("held");
        held(&mut w, left, space, "0-", LockMode::Ex);
    }
}

/// Protects handles: giving up the last range ends the lock, so that its handle is free; to give up
/// what is not held is no error.
#[test]
fn a_lock_ends_with_its_last_range() {
    for node in [N1, N2] {
        let (mut w, space) = cluster();
        let nothing = range(&mut w, node, space, "0-", LockMode::Nl, Flags::NONE);
        assert_eq!(set(&mut w, node, nothing), (Token::NONE, false));
        held(&mut w, node, space, "10-19", LockMode::Ex);
        let part = range(&mut w, node, space, "0-14", LockMode::Nl, Flags::NONE);
        assert!(set(&mut w, node, part).1);
        let rest = range(&mut w, node, space, "0-", LockMode::Nl, Flags::NONE);
        assert!(!set(&mut w, node, rest).1);
        let gone = unlock(&mut w, node);
        assert_eq!(w.wait(node, gone), Err(Refusal::NoSuchLock));
        let ask = World::lock_ask(1, space, "disk", LockMode::Ex, Flags::NONE);
        let whole = w.ask(node, u64::from(node.0), ask);
        w.token(node, whole);
        let convert = World::convert_ask(1, LockMode::Pr, Some(b"v"));
        let converted = w.ask(node, u64::from(node.0), convert.clone());
        w.granted(node, converted);
        let gone = unlock(&mut w, node);
        w.wait(node, gone).expect("held");
        w.run(SHORT);
        held(&mut w, node, space, "10-19", LockMode::Ex);
        let converted = w.ask(node, u64::from(node.0), convert);
        let why = w.wait(node, converted).expect_err("it is on ranges");
        assert_eq!(why.code(), "invalid", "{why}");
    }
}

/// Protects the two ways to lock a resource from each other: while there are locks of one kind, the
/// other is refused with a reason, near and far.
#[test]
fn a_resource_is_used_one_way_at_a_time() {
    for node in [N1, N2] {
        let (mut w, space) = cluster();
        held(&mut w, N3, space, "0-9", LockMode::Cr);
        let ask = World::lock_ask(7, space, "disk", LockMode::Nl, Flags::NONE);
        let whole = w.ask(node, u64::from(node.0), ask.clone());
        assert_eq!(w.wait(node, whole), Err(Refusal::Ranged));
        let gone = unlock(&mut w, N3);
        w.wait(N3, gone).expect("held");
        w.run(SHORT);
        let whole = w.ask(node, u64::from(node.0), ask);
        w.granted(node, whole);
        for asker in [N1, N2, N3] {
            let asked = range(&mut w, asker, space, "0-9", LockMode::Cr, Flags::NONE);
            assert_eq!(w.wait(asker, asked), Err(Refusal::Whole));
        }
        let on_whole = range_on(
            &mut w,
            node,
            7,
            space,
            "disk",
            "0-9",
            LockMode::Cr,
            Flags::NONE,
        );
        assert_eq!(w.wait(node, on_whole), Err(Refusal::HandleInUse));
    }
}

/// Protects waits: two readers of one range that both want to write would wait for each other, and
/// the second is refused at once and keeps what it has.
#[test]
fn two_that_upgrade_are_found_at_once() {
    for (left, right) in [(N1, N2), (N2, N1), (N2, N3)] {
        let (mut w, space) = cluster();
        held(&mut w, left, space, "0-9", LockMode::Pr);
        held(&mut w, right, space, "5-14", LockMode::Pr);
        let first = range(&mut w, left, space, "0-9", LockMode::Ex, Flags::NONE);
        w.run(SHORT);
        assert!(w.result(left, first).is_none());
        let second = range(&mut w, right, space, "5-14", LockMode::Ex, Flags::NONE);
        assert_eq!(w.wait(right, second), Err(Refusal::Deadlock));
        assert!(w.result(left, first).is_none(), "{right} still reads 5-9");
        let gone = unlock(&mut w, right);
        w.wait(right, gone).expect("held");
        set(&mut w, left, first);
    }
}

/// Protects from circles over two resources, one of them locked in ranges: one of the waits is
/// refused and told the circle with the bytes that it is about.
#[test]
fn a_circle_by_way_of_a_range_is_found() {
    let (mut w, space) = cluster();
    held(&mut w, N2, space, "0-9", LockMode::Ex);
    let ask = |handle| World::lock_ask(handle, space, "tape", LockMode::Ex, Flags::NONE);
    let tape = w.ask(N3, 3, ask(2));
    w.granted(N3, tape);
    let first = w.ask(N2, 2, ask(2));
    w.run(SHORT);
    let second = range(&mut w, N3, space, "9-12", LockMode::Pr, Flags::NONE);
    w.run(Duration::from_secs(1));
    let (node, request) = match w.result(N2, first) {
        Some(_) => (N2, first),
        None => (N3, second),
    };
    let Err(Refusal::DeadlockCycle(report)) = w.wait(node, request) else {
        panic!("a circle, and nobody is refused for it");
    };
    let ranges: Vec<_> = report.waits.iter().filter_map(|wait| wait.range).collect();
    assert_eq!(ranges, [bytes("9-12")]);
    assert!(report.to_string().contains("disk bytes 9-12"), "{report}");
}

/// Protects owners from the loss of their master: ranges stay as they are, those given up meanwhile
/// stay given up, the queue goes on in its order, and tokens grow.
#[test]
fn ranges_outlive_their_master() {
    let (mut w, space) = cluster();
    let old = held(&mut w, N2, space, "0-99", LockMode::Ex);
    held(&mut w, N2, space, "40-59", LockMode::Pr);
    let writer = range(&mut w, N3, space, "30-69", LockMode::Ex, Flags::NONE);
    w.run(SHORT);
    w.kill(N1);
    let given = range(&mut w, N2, space, "30-39", LockMode::Nl, Flags::NONE);
    set(&mut w, N2, given);
    w.run(Duration::from_secs(4));
    assert!(w.result(N3, writer).is_none(), "n2 has 40-69");
    let stretches = |w: &mut World| -> Vec<(String, Option<LockMode>)> {
        let report = w.locks(10, None);
        let disk = report
            .resources
            .iter()
            .find(|r| r.name.root_bytes() == b"disk");
        let holders = disk.expect("in use").holders.iter();
        let told = holders.map(|lock| (lock.range.expect("a range").to_string(), lock.granted));
        told.collect()
    };
    let (ex, pr) = (Some(LockMode::Ex), Some(LockMode::Pr));
    let expected = [
        ("0-29".to_owned(), ex),
        ("40-59".to_owned(), pr),
        ("60-99".to_owned(), ex),
    ];
    assert_eq!(stretches(&mut w), expected);
    let given = range(&mut w, N2, space, "40-", LockMode::Nl, Flags::NONE);
    set(&mut w, N2, given);
    assert!(set(&mut w, N3, writer).0 > old);
    let expected = [("0-29".to_owned(), ex), ("30-69".to_owned(), ex)];
    assert_eq!(stretches(&mut w), expected);
}

/// Protects from ranges without an owner: those of a node that died are dropped, and who waited for
/// them goes on.
#[test]
fn ranges_of_a_dead_node_are_dropped() {
    let (mut w, space) = cluster();
    held(&mut w, N3, space, "0-99", LockMode::Ex);
    held(&mut w, N2, space, "200-", LockMode::Ex);
    let asked = range(&mut w, N2, space, "50-149", LockMode::Pr, Flags::NONE);
    w.run(SHORT);
    assert!(w.result(N2, asked).is_none());
    w.kill(N3);
    w.run(Duration::from_secs(4));
    set(&mut w, N2, asked);
    held(&mut w, N1, space, "0-49", LockMode::Ex);
}

/// Protects a lock on very many ranges in a recovery: it travels in parts, and all of it arrives.
#[test]
fn many_ranges_outlive_their_master() {
    let (mut w, space) = cluster();
    for n in 0..2_500 {
        let text = format!("{}-{}", 10 * n, 10 * n + 4);
        held(&mut w, N2, space, &text, LockMode::Ex);
    }
    w.kill(N1);
    w.run(Duration::from_secs(4));
    for n in [0, 1_023, 1_024, 2_048, 2_499] {
        let inside = format!("{}-{}", 10 * n + 4, 10 * n + 9);
        let asked = range(&mut w, N3, space, &inside, LockMode::Cr, Flags::NOQUEUE);
        assert_eq!(w.wait(N3, asked), Err(Refusal::NotQueued), "{inside}");
        let beside = format!("{}-{}", 10 * n + 5, 10 * n + 9);
        let asked = range(&mut w, N3, space, &beside, LockMode::Ex, Flags::NOQUEUE);
        set(&mut w, N3, asked);
    }
}

/// Protects X1: who waits, for which bytes, and who holds which of them; not who is elsewhere.
#[test]
fn reports_name_the_bytes() {
    let (mut w, space) = cluster();
    held(&mut w, N2, space, "0-99", LockMode::Ex);
    held(&mut w, N3, space, "200-299", LockMode::Pr);
    let first = range(&mut w, N3, space, "90-109", LockMode::Ex, Flags::NONE);
    w.run(SHORT);
    let sentences = why(&mut w).sentences;
    assert_eq!(sentences.len(), 1, "{sentences:?}");
    let parts = [
        "for ex on disk bytes 90-109",
        "has held ex on bytes 0-99 for",
    ];
    for part in parts {
        assert!(sentences[0].contains(part), "{sentences:?}");
    }
    assert!(!sentences[0].contains("200-299"), "{sentences:?}");
    let second = range_on(
        &mut w,
        N3,
        2,
        space,
        "disk",
        "105-105",
        LockMode::Cr,
        Flags::NONE,
    );
    w.run(SHORT);
    let sentences = why(&mut w).sentences;
    let behind = sentences
        .iter()
        .any(|s| s.contains("bytes 105-105, behind"));
    assert!(behind, "{sentences:?}");
    let ask = Ask::Graph {
        lockspace: None,
        pattern: None,
        limit: 10,
    };
    let request = w.ask(N2, 2, ask);
    let Ok(Answer::Graph(graph)) = w.wait(N2, request) else {
        panic!("no graph");
    };
    let waits: Vec<_> = graph.waits.iter().map(|wait| wait.range).collect();
    assert_eq!(waits, [Some(bytes("90-109")), Some(bytes("105-105"))]);
    let blocker = &graph.waits[0].blockers[0];
    assert_eq!(blocker.held, Some(LockMode::Ex));
    assert_eq!(blocker.range, Some(bytes("0-99")));
    assert_eq!(graph.circles.len(), 0);
    unlock(&mut w, N2);
    set(&mut w, N3, first);
    assert!(
        w.result(N3, second).is_none(),
        "the same session's other lock has 105"
    );
}

/// Protects callers in a hurry: what waits can be taken back, runs out of time, and ends with an
/// unlock by force; the lock then has what it had.
#[test]
fn a_waiting_call_can_be_ended() {
    for node in [N1, N2] {
        let (mut w, space) = cluster();
        held(&mut w, N3, space, "0-9", LockMode::Ex);
        held(&mut w, node, space, "20-29", LockMode::Ex);
        let to = u64::from(node.0);
        let handle = Handle(1);
        let asked = range(&mut w, node, space, "5-24", LockMode::Pr, Flags::NONE);
        w.run(SHORT);
        let busy = range(&mut w, node, space, "50-59", LockMode::Pr, Flags::NONE);
        assert_eq!(w.wait(node, busy), Err(Refusal::Busy));
        let cancel = w.ask(node, to, Ask::Cancel { handle });
        assert_eq!(w.wait(node, asked), Err(Refusal::Cancelled));
        assert_eq!(w.wait(node, cancel), Ok(Answer::Cancelled));
        let timed = Ask::Range {
            handle,
            lockspace: space,
            name: ResourceName::new("disk").expect("valid"),
            range: bytes("5-24"),
            mode: LockMode::Pr,
            flags: Flags::NONE,
            blocking: true,
            timeout_ms: Some(50),
        };
        let asked = w.ask(node, to, timed);
        assert_eq!(w.wait(node, asked), Err(Refusal::TimedOut));
        let other = range(&mut w, N3, space, "29-29", LockMode::Cr, Flags::NOQUEUE);
        assert_eq!(w.wait(N3, other), Err(Refusal::NotQueued));
        let asked = range(&mut w, node, space, "5-24", LockMode::Pr, Flags::NONE);
        w.run(SHORT);
        let ask = Ask::Unlock {
            handle,
            flags: Flags::FORCEUNLOCK,
            value: None,
        };
        let gone = w.ask(node, to, ask);
        assert_eq!(w.wait(node, asked), Err(Refusal::Released));
        w.wait(node, gone).expect("it existed");
        held(&mut w, N3, space, "0-", LockMode::Ex);
    }
}
