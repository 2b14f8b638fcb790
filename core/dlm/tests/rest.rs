//! One lock manager whose peers are played by the test, while one of them rests.

#![allow(missing_docs, clippy::unwrap_used)]

mod played;

use mainstay_base::{Epoch, Incarnation, LockId, LockMode, NodeId, Token};
use mainstay_dlm::{LockCall, Out};
use mainstay_fencing::Proof;
use mainstay_membership::{Member, View};
use mainstay_wire::{
    client::{Answer, Handle},
    dlm::Body,
    event::Reason,
    lock::Flags,
};
use played::*;

/// `OTHER` is granted a lock on what this node masters.
fn lent() -> (Node, LockId) {
    let mut node = joined(512);
    let lock = LockId(7);
    let own = LockCall {
        handle: Handle(9),
        space: SPACE,
        name: own_resource().name,
        mode: LockMode::Nl,
        flags: Flags::NONE,
        blocking: false,
        deadline: None,
    };
    // So that it is mastered here.
    node.dlm.lock(NOW, CLIENT, 9, own);
    node.heard(
        OTHER,
        Body::Request {
            resource: own_resource(),
            lock,
            mode: LockMode::Ex,
            flags: Flags::VALBLK,
            blocking: true,
        },
    );
    let said = node.said(OTHER);
    assert!(
        said.iter().any(|b| matches!(b, Body::Granted { .. })),
        "{said:?}"
    );
    (node, lock)
}

fn resting(epoch: u64, members: &[NodeId]) -> View {
    let mut view = view(epoch, members, &[OTHER]);
    view.pending[0].reason = Reason::Rests;
    view
}

fn rest(node: &mut Node) {
    node.epoch = 2;
    node.dlm.install(NOW, resting(2, &[ME, MASTER]));
    node.dlm.recover(NOW, proof(OTHER, 2, Proof::Rests));
    node.dlm.view_settled(NOW);
    node.heard(MASTER, Body::Registered { members: Epoch(2) });
}

fn ask(node: &mut Node) {
    let call = LockCall {
        handle: Handle(2),
        space: SPACE,
        name: own_resource().name,
        mode: LockMode::Ex,
        flags: Flags::VALBLK,
        blocking: false,
        deadline: None,
    };
    node.dlm.lock(NOW, CLIENT, 2, call);
}

/// The answer to what the client has asked for, if there is one: whether its value is marked.
fn marked(node: &mut Node) -> Option<bool> {
    while node.dlm.deadline().is_some_and(|due| due <= NOW) {
        node.dlm.tick(NOW);
    }
    let mut out = Vec::new();
    node.dlm.take_outputs(&mut out);
    out.into_iter().find_map(|out| match out {
        Out::Done {
            request: 2,
            result: Ok(Answer::Granted(granted)),
            ..
        } => Some(granted.value.unwrap().maybe_stale),
        Out::Fatal(why) => panic!("{why}"),
        _ => None,
    })
}

/// Protects the sessions of a node that rests: its locks stay until another proof says that they are to
/// go, and then end as with any death.
#[test]
fn locks_of_one_that_rests_stay_until_it_is_over() {
    let (mut node, _) = lent();
    rest(&mut node);
    ask(&mut node);
    assert_eq!(marked(&mut node), None, "it is held");
    node.install(3, &[ME, MASTER], &[]);
    node.dlm.recover(NOW, proof(OTHER, 2, Proof::RestOver));
    assert_eq!(marked(&mut node), Some(true), "it may have been writing");
}

/// Protects both sides of a restart: the next life is told what its locks are in the way of, and is the one
/// that can release them; what the old one says late counts for nothing.
#[test]
fn the_next_life_has_the_locks() {
    let (mut node, lock) = lent();
    rest(&mut node);
    ask(&mut node);
    let next = (OTHER, Incarnation(2));
    let mut back = resting(3, &[ME, MASTER]);
    back.members.push(Member {
        node: OTHER,
        incarnation: next.1,
        boot: boot(OTHER),
        joined: Epoch(3),
    });
    node.epoch = 3;
    node.dlm.install(NOW, back.clone());
    node.dlm.view_settled(NOW);
    assert!(
        node.said(OTHER)
            .iter()
            .all(|b| !matches!(b, Body::Blocking { .. }))
    );
    back.epoch = Epoch(4);
    back.members_since = Epoch(4);
    back.pending.clear();
    node.epoch = 4;
    node.dlm.resumes((OTHER, LIFE), next);
    node.dlm.install(NOW, back);
    node.dlm.view_settled(NOW);
    let said = node.said(OTHER);
    let told =
        |b: &&Body| matches!(b, Body::Blocking { lock: l, mode: LockMode::Ex } if *l == lock);
    assert_eq!(said.iter().filter(told).count(), 1, "{said:?}");
    assert_eq!(marked(&mut node), None, "it is held");
    let resource = own_resource();
    let invalidate = false;
    node.heard(
        OTHER,
        Body::Drop {
            resource,
            lock,
            invalidate,
        },
    );
    assert_eq!(marked(&mut node), Some(false));
}

/// Protects what a node mastered that rests: its own locks come with it, but only from the life itself, only if
/// it rests, and only what it said to these members.
#[test]
fn own_locks_are_handed_over_with_what_was_mastered() {
    let token = Token::floor(Epoch(1)).next();
    let handed = |node: &mut Node| {
        let mut lock = restated_lock(LockId(7), (LockMode::Ex, token));
        lock.valblk = true;
        node.heard(
            OTHER,
            Body::Restate {
                node: OTHER,
                incarnation: LIFE,
                resource: own_resource(),
                locks: vec![lock],
            },
        );
    };
    let done = Body::RestateDone {
        node: OTHER,
        incarnation: LIFE,
    };
    let cases = [
        (false, false, true),
        (true, false, true),
        (true, true, true),
        (false, false, false),
    ];
    for (changed, late, rests) in cases {
        let mut node = joined(512);
        if !late {
            handed(&mut node);
        }
        let epoch = if changed { 3 } else { 2 };
        if changed {
            node.install(2, &[ME, MASTER, OTHER], &[]);
        }
        if late {
            // It was on its way when the members changed.
            node.epoch = 1;
            handed(&mut node);
        }
        node.epoch = epoch;
        match rests {
            true => node.dlm.install(NOW, resting(epoch, &[ME, MASTER])),
            false => node.dlm.install(NOW, view(epoch, &[ME, MASTER], &[])),
        }
        let by = if rests {
            Proof::Rests
        } else {
            Proof::LeftCleanly
        };
        node.dlm.recover(NOW, proof(OTHER, epoch, by));
        node.dlm.view_settled(NOW);
        node.heard(MASTER, done.clone());
        let members = Epoch(epoch);
        node.heard(MASTER, Body::Registered { members });
        ask(&mut node);
        let held = marked(&mut node).is_none();
        let case = format!("changed {changed}, late {late}, rests {rests}");
        assert_eq!(held, rests && !changed, "{case}");
    }
}

/// Protects everybody from waiting for what has nothing to do with them: when a rest is over whose node mastered
/// nothing any more, no member has anything to say of that, and nobody waits for one that has vanished.
#[test]
fn the_end_of_a_rest_waits_for_nobody() {
    let (mut node, _) = lent();
    rest(&mut node);
    let done = Body::RestateDone {
        node: OTHER,
        incarnation: LIFE,
    };
    node.heard(MASTER, done);
    node.install(3, &[ME], &[MASTER]);
    node.dlm.recover(NOW, proof(OTHER, 2, Proof::RestOver));
    node.dlm.view_settled(NOW);
    // A name that nobody has used.
    let call = LockCall {
        handle: Handle(2),
        space: SPACE,
        name: name_at(ME, &[&[ME, MASTER, OTHER], &[ME, MASTER], &[ME]]),
        mode: LockMode::Ex,
        flags: Flags::VALBLK,
        blocking: false,
        deadline: None,
    };
    node.dlm.lock(NOW, CLIENT, 2, call);
    assert!(marked(&mut node).is_some(), "it is free");
}
