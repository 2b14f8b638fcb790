//! What clients are told, and when: faults that the reference of the client protocol showed.

#![allow(missing_docs)]

#[allow(dead_code, reason = "other tests use the rest")]
mod world;

use mainstay_base::{FencePolicy, LockMode, LockspaceId, NodeId, ResourceName, SessionId};
use mainstay_node::Input;
use mainstay_wire::{
    client::{Answer, Ask, Handle, ToClient},
    lock::{Flags, Refusal},
};
use world::World;

const N1: NodeId = NodeId(1);

/// A lone node with two sessions.
fn lone() -> (World, LockspaceId) {
    let mut w = World::new(1, FencePolicy::Lease);
    w.settle();
    w.open(N1, 1);
    w.open(N1, 2);
    let space = w.space(N1, 1);
    (w, space)
}

fn close(w: &mut World, session: u64) {
    let session = SessionId(session);
    w.input(N1, Input::SessionClosed { session });
}

fn lock(w: &mut World, session: u64, space: LockspaceId, handle: u64, mode: LockMode, how: Flags) {
    let ask = World::lock_ask(handle, space, "a", mode, how);
    w.ask(N1, session, ask);
}

/// Whether a lock reads a value that may be stale.
fn reads_stale(w: &mut World, session: u64, handle: u64) -> bool {
    let request = w.ask(N1, session, World::convert_ask(handle, LockMode::Pr, None));
    let value = w.granted(N1, request).value;
    value.expect("it asked for the value").maybe_stale
}

/// Protects who counts versions: a release that publishes nothing tells of none, though it carries a
/// block.
#[test]
fn a_release_tells_a_version_only_if_it_published() {
    let (mut w, space) = lone();
    for (handle, how, flags) in [
        (1, Flags::NONE, Flags::NONE),
        (2, Flags::VALBLK, Flags::IVVALBLK),
    ] {
        lock(&mut w, 1, space, handle, LockMode::Ex, how);
        let Ask::Convert { value, .. } = World::convert_ask(0, LockMode::Nl, Some(b"x")) else {
            panic!("that is what it makes");
        };
        let handle = Handle(handle);
        let ask = Ask::Unlock {
            handle,
            flags,
            value,
        };
        let request = w.ask(N1, 1, ask);
        let told = w.wait(N1, request);
        assert_eq!(told, Ok(Answer::Unlocked { version: None }), "{flags}");
    }
}

/// Protects clients from a notice for a lock that they have not heard of (sessions, rule 4.1): the answer
/// to an adoption comes first.
#[test]
fn a_notice_follows_the_answer_to_an_adoption() {
    let (mut w, space) = lone();
    let flags = Flags::PERSISTENT | Flags::VALBLK;
    lock(&mut w, 1, space, 1, LockMode::Ex, flags);
    close(&mut w, 1);
    lock(&mut w, 2, space, 1, LockMode::Pr, Flags::NONE);
    w.open(N1, 3);
    let ask = Ask::Adopt {
        handle: Handle(9),
        lockspace: space,
        name: ResourceName::new("a").expect("valid"),
        mode: LockMode::Ex,
        flags: Flags::VALBLK,
        blocking: true,
    };
    let request = w.ask(N1, 3, ask);
    let value = w
        .granted(N1, request)
        .value
        .expect("it asked for the value");
    // Never published, it is as long as others, and zeros.
    assert_eq!(value.block.as_bytes(), [0; 32]);
    let heard = w.hosts[&N1].heard.iter();
    let heard: Vec<&ToClient> = heard
        .filter(|(session, _)| *session == SessionId(3))
        .map(|(_, message)| message)
        .collect();
    assert!(
        matches!(
            heard[..],
            [ToClient::Done { .. }, ToClient::Blocking { .. }]
        ),
        "{heard:?}"
    );
}

/// Protects a lock from calls that are wrong in themselves: what one of them said of persistence does not
/// count.
#[test]
fn a_wrong_conversion_leaves_nothing_behind() {
    let (mut w, space) = lone();
    lock(&mut w, 1, space, 1, LockMode::Ex, Flags::PERSISTENT);
    let request = w.ask(N1, 1, World::convert_ask(1, LockMode::Nl, None));
    let refused = w.wait(N1, request);
    assert!(matches!(refused, Err(Refusal::Invalid(_))), "{refused:?}");
    close(&mut w, 1);
    let node = w.hosts[&N1].node.as_ref().expect("it runs");
    assert_eq!(node.lock_manager().orphan_count(), 1);
}

/// Protects the mark (locking, rule 13): a client that is gone has not written under what it is granted
/// in passing, while its other locks go.
#[test]
fn what_is_granted_after_its_client_went_marks_nothing() {
    let (mut w, space) = lone();
    lock(&mut w, 1, space, 1, LockMode::Nl, Flags::NONE);
    lock(&mut w, 2, space, 1, LockMode::Pr, Flags::NONE);
    lock(&mut w, 2, space, 2, LockMode::Ex, Flags::VALBLK);
    close(&mut w, 2);
    assert!(!reads_stale(&mut w, 1, 1));
}

/// Protects the mark: a client that was writing leaves it, also if the conversion for which its lock waited
/// is granted in passing.
#[test]
fn who_was_writing_leaves_a_mark_whatever_is_granted_later() {
    let (mut w, space) = lone();
    lock(&mut w, 1, space, 1, LockMode::Nl, Flags::NONE);
    lock(&mut w, 2, space, 1, LockMode::Cr, Flags::NONE);
    lock(&mut w, 2, space, 2, LockMode::Pw, Flags::VALBLK);
    let ask = Ask::Convert {
        handle: Handle(2),
        mode: LockMode::Ex,
        flags: Flags::NONE,
        blocking: true,
        value: None,
        timeout_ms: None,
    };
    w.ask(N1, 2, ask);
    close(&mut w, 2);
    assert!(reads_stale(&mut w, 1, 1));
}

/// Protects the driver from messages to sessions that are over.
#[test]
fn nothing_is_told_to_who_is_gone() {
    let (mut w, space) = lone();
    lock(&mut w, 2, space, 1, LockMode::Ex, Flags::NONE);
    lock(&mut w, 2, space, 2, LockMode::Pr, Flags::NONE);
    lock(&mut w, 1, space, 1, LockMode::Ex, Flags::NONE);
    let before = w.hosts[&N1].heard.len();
    close(&mut w, 2);
    let after = &w.hosts[&N1].heard[before..];
    assert!(
        after.iter().all(|(session, _)| *session == SessionId(1)),
        "{after:?}"
    );
}
