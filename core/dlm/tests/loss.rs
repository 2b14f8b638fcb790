//! One lock manager whose peers are played by the test, when the node that it takes for a master
//! vanishes.

#![allow(missing_docs, clippy::unwrap_used)]

mod played;

use mainstay_base::{
    Epoch, LockId, LockMode, NodeId, ResourceName, Token, Value, ValueBlock, ValueVersion,
};
use mainstay_dlm::{ConvertCall, LockCall, Out, UnlockCall};
use mainstay_fencing::Proof;
use mainstay_membership::directory_node;
use mainstay_wire::{
    client::{Answer, Handle},
    dlm::{Body, ResourceId, RestatedLock},
    lock::{Flags, Granted, Refusal},
};
use played::*;
use std::collections::BTreeSet;

/// Protects exclusion: that a directory once named a node does not show that the node mastered the
/// name. If the members changed first, it was given to another, who may still master it; restating
/// the call to the directory would make a second master.
#[test]
fn a_call_without_any_answer_asks_the_directory_again() {
    let (mut node, _) = asking();
    let said = lose_master(&mut node);
    assert!(
        !said.iter().any(|b| matches!(b, Body::Restate { .. })),
        "{said:?}"
    );
    assert!(
        said.iter().any(|b| matches!(b, Body::Lookup { .. })),
        "{said:?}"
    );
}

/// Protects held locks: what the lost master has granted or queued is restated.
#[test]
fn what_the_master_answered_is_restated() {
    for queued in [true, false] {
        let (mut node, lock) = asking();
        let answer = if queued {
            Body::Queued { lock, ticket: 1 }
        } else {
            Body::Granted {
                lock,
                granted: Granted {
                    mode: LockMode::Ex,
                    token: Token::floor(Epoch(1)).next(),
                    value: None,
                },
            }
        };
        node.heard(MASTER, answer);
        let said = lose_master(&mut node);
        assert!(
            said.iter()
                .any(|b| matches!(b, Body::Restate { locks, .. } if locks.len() == 1)),
            "{said:?}"
        );
    }
}

/// Protects calls to other nodes from waiting behind all that these are told: nothing more is restated while
/// it is held back, nor does the node turn idly; then, or before the next view, all of it.
#[test]
fn what_is_held_back_is_restated_later() {
    for next_view in [false, true] {
        let (mut node, lock) = asking();
        node.heard(MASTER, Body::Queued { lock, ticket: 1 });
        node.dlm.hold_back(NOW, true);
        let told = |said: Vec<Body>| {
            let restated = said.iter().any(|b| matches!(b, Body::Restate { .. }));
            let done = said.iter().any(|b| matches!(b, Body::RestateDone { .. }));
            assert_eq!(restated, done, "{said:?}");
            restated
        };
        assert!(!told(lose_master(&mut node)));
        node.dlm.tick(NOW);
        assert!(!told(node.said(OTHER)) && !node.dlm.has_restated());
        assert!(node.dlm.deadline().is_none_or(|due| due > NOW));
        if next_view {
            node.dlm.work_off(NOW);
        } else {
            node.dlm.hold_back(NOW, false);
            assert!(node.dlm.deadline().is_some_and(|due| due <= NOW));
            while !node.dlm.has_restated() {
                node.dlm.tick(NOW);
            }
        }
        assert!(told(node.said(OTHER)) && node.dlm.has_restated());
    }
}

/// Protects a release by force: what the master had said of the call that it ended is not taken for
/// its answer to the release; the publication's own answer is, from the master or from the next one.
#[test]
fn an_answer_to_a_call_that_was_ended_by_force_is_not_the_releases() {
    let version = ValueVersion(7);
    for vanishes in [false, true] {
        let (mut node, lock) = asking();
        let granted = |mode, count| Body::Granted {
            lock,
            granted: Granted {
                mode,
                token: Token(Token::floor(Epoch(1)).0 + count),
                value: Some(Value {
                    block: ValueBlock::new([1; 32]).unwrap(),
                    version: ValueVersion(5),
                    maybe_stale: false,
                }),
            },
        };
        node.heard(MASTER, granted(LockMode::Pw, 1));
        let convert = ConvertCall {
            handle: Handle(1),
            mode: LockMode::Ex,
            flags: Flags::VALBLK,
            blocking: false,
            value: None,
            deadline: None,
        };
        node.dlm.convert(NOW, CLIENT, 2, convert);
        let unlock = UnlockCall {
            handle: Handle(1),
            flags: Flags::VALBLK | Flags::FORCEUNLOCK,
            value: Some(ValueBlock::new([2; 32]).unwrap()),
        };
        node.dlm.unlock(NOW, CLIENT, 3, unlock);
        let ended = |node: &mut Node| {
            let mut out = Vec::new();
            node.dlm.take_outputs(&mut out);
            let ended = out.into_iter().filter_map(|out| match out {
                Out::Done {
                    request, result, ..
                } => Some((request, result)),
                _ => None,
            });
            ended.collect::<Vec<_>>()
        };
        let done = ended(&mut node);
        assert!(done.contains(&(2, Err(Refusal::Released))), "{done:?}");
        node.heard(MASTER, granted(LockMode::Ex, 2));
        assert_eq!(ended(&mut node), [], "the release is not answered yet");
        if vanishes {
            let said = lose_master(&mut node);
            let restated = said.iter().find_map(|body| match body {
                Body::Restate { locks, .. } => locks.first(),
                _ => None,
            });
            let restated = restated.expect("it is held until the master says otherwise");
            assert_eq!(restated.granted.unwrap().0, LockMode::Ex);
            assert_eq!(restated.pending, Some((LockMode::Nl, Flags::VALBLK)));
            let down = Body::Granted {
                lock,
                granted: Granted {
                    mode: LockMode::Nl,
                    token: Token(Token::floor(Epoch(1)).0 + 2),
                    value: Some(Value {
                        block: ValueBlock::new([2; 32]).unwrap(),
                        version,
                        maybe_stale: false,
                    }),
                },
            };
            node.heard(OTHER, down);
        } else {
            node.heard(MASTER, Body::Unlocked { lock, version });
        }
        let version = Some(version);
        assert_eq!(ended(&mut node), [(3, Ok(Answer::Unlocked { version }))]);
    }
}

/// `OTHER` says that its client died while writing under this lock, and leaves cleanly, while calls
/// have to wait here. Whether a reader is then told that the value may be stale.
fn mark_after_leave(mut node: Node, lock: LockId) -> bool {
    node.dlm.set_active(NOW, false);
    let died = Body::Drop {
        resource: own_resource(),
        lock,
        invalidate: true,
    };
    node.heard(OTHER, died);
    let left = node.epoch + 1;
    node.install(left, &[ME], &[]);
    node.dlm
        .recover(NOW, proof(OTHER, left, Proof::LeftCleanly));
    node.dlm.set_active(NOW, true);
    while node.dlm.deadline().is_some_and(|due| due <= NOW) {
        node.dlm.tick(NOW);
    }
    let call = LockCall {
        handle: Handle(2),
        space: SPACE,
        name: own_resource().name,
        mode: LockMode::Pr,
        flags: Flags::VALBLK,
        blocking: false,
        deadline: None,
    };
    node.dlm.lock(NOW, CLIENT, 2, call);
    let mut out = Vec::new();
    node.dlm.take_outputs(&mut out);
    let read = out.into_iter().find_map(|out| match out {
        Out::Done {
            request: 2,
            result: Ok(Answer::Granted(granted)),
            ..
        } => granted.value,
        _ => None,
    });
    read.expect("the lock is free").maybe_stale
}

/// Protects readers of value blocks: that a writer died is not forgotten with the node that said so
/// while its master was not to act.
#[test]
fn a_writers_death_is_heard_of_by_a_master_that_was_suspended() {
    let mut node = member(own_resource().name, LockMode::Nl);
    let lock = LockId(7);
    let request = Body::Request {
        resource: own_resource(),
        lock,
        mode: LockMode::Ex,
        flags: Flags::VALBLK,
        blocking: false,
    };
    node.heard(OTHER, request);
    let said = node.said(OTHER);
    assert!(
        said.iter().any(|b| matches!(b, Body::Granted { .. })),
        "{said:?}"
    );
    assert!(mark_after_leave(node, lock));
}

/// Protects readers of value blocks: as above, while the resource was being rebuilt.
#[test]
fn a_writers_death_is_heard_of_by_a_master_that_was_rebuilding() {
    let mut node = member(resource().name, LockMode::Nl);
    let value = Value {
        block: ValueBlock::new([1; 32]).unwrap(),
        version: ValueVersion(5),
        maybe_stale: false,
    };
    let handed = Body::HandOver {
        resource: own_resource(),
        value: value.clone(),
    };
    node.heard(MASTER, handed);
    node.install(2, &[ME, OTHER], &[]);
    node.dlm.set_active(NOW, false);
    node.dlm.recover(NOW, proof(MASTER, 2, Proof::LeftCleanly));
    let lock = LockId(7);
    let held = RestatedLock {
        value: Some(value),
        ..restated_lock(lock, (LockMode::Ex, Token::floor(Epoch(1)).next()))
    };
    let restate = Body::Restate {
        node: MASTER,
        incarnation: LIFE,
        resource: own_resource(),
        locks: vec![held],
    };
    node.heard(OTHER, restate);
    assert!(mark_after_leave(node, lock));
}

/// A member that does next to nothing in one slice, whose client holds EX with a value on resources
/// that `MASTER` masters and `OTHER` is the directory of.
fn busy_member(count: usize) -> (Node, Vec<ResourceName>) {
    let mut node = joined(1);
    let views: [&[NodeId]; 2] = [&[ME, MASTER, OTHER], &[ME, OTHER]];
    let all = (0..).map(|i| ResourceName::new(format!("r{i}")).unwrap());
    let other = |name: &ResourceName| {
        let mut directories = views.iter().map(|v| directory_node(v, SPACE, name));
        directories.all(|node| node == Some(OTHER))
    };
    let names: Vec<ResourceName> = all.filter(other).take(count).collect();
    for (name, request) in names.iter().zip(1..) {
        let resource = ResourceId {
            space: SPACE,
            name: name.clone(),
        };
        let call = LockCall {
            handle: Handle(request),
            space: SPACE,
            name: name.clone(),
            mode: LockMode::Ex,
            flags: Flags::VALBLK,
            blocking: false,
            deadline: None,
        };
        node.dlm.lock(NOW, CLIENT, request, call);
        let named = Body::MasterIs {
            resource,
            members: Epoch(1),
            master: MASTER,
        };
        node.heard(OTHER, named);
        let granted = Granted {
            mode: LockMode::Ex,
            token: Token::floor(Epoch(1)).next(),
            value: Some(Value {
                block: ValueBlock::new([1; 32]).unwrap(),
                version: ValueVersion(5),
                maybe_stale: false,
            }),
        };
        let lock = LockId(request);
        node.heard(MASTER, Body::Granted { lock, granted });
    }
    node.said(MASTER);
    (node, names)
}

impl Node {
    /// Does all that is due, and tells what it says to `to`, and in how many slices.
    fn work_off(&mut self, to: NodeId) -> (Vec<Body>, usize) {
        let (mut said, mut slices) = (self.said(to), 0);
        while self.dlm.deadline().is_some_and(|due| due <= NOW) {
            self.dlm.tick(NOW);
            said.extend(self.said(to));
            slices += 1;
        }
        (said, slices)
    }
}

/// Protects readers of value blocks: a client that dies while writing, after its master has left
/// cleanly and before its lock has been restated, leaves its value in doubt.
#[test]
fn a_writers_death_is_told_to_the_heir_of_its_master() {
    let (mut node, _) = busy_member(100);
    node.epoch = 2;
    node.dlm.install(NOW, view(2, &[ME, OTHER], &[]));
    node.dlm.recover(NOW, proof(MASTER, 2, Proof::LeftCleanly));
    node.dlm.view_settled(NOW);
    node.dlm.close_session(NOW, CLIENT);
    let (said, _) = node.work_off(OTHER);
    let doubted = said.iter().filter_map(|body| match body {
        Body::Suspect { resource, .. } => Some(resource.clone()),
        // Restated, and then dropped: the heir hears of both.
        Body::Drop {
            resource,
            invalidate: true,
            ..
        } => Some(resource.clone()),
        _ => None,
    });
    let told: BTreeSet<ResourceId> = doubted.collect();
    assert_eq!(told.len(), 100, "{said:?}");
    let restated = said
        .iter()
        .position(|b| matches!(b, Body::RestateDone { .. }));
    let suspect = said.iter().rposition(|b| matches!(b, Body::Suspect { .. }));
    assert!(suspect < restated, "before the heir lets others read");
}

/// Protects the turns of others: what follows from a change of the members is done in slices; what
/// is used before its turn is as the change made it; and only when all is done does the node say so.
#[test]
fn a_change_of_the_members_is_caught_up_with_in_slices() {
    let (mut node, names) = busy_member(100);
    node.install(2, &[ME, OTHER], &[MASTER]);
    let registered = |said: &[Body]| said.iter().any(|b| matches!(b, Body::Registered { .. }));
    assert!(!registered(&node.said(OTHER)));
    // The last of all has not had its turn: its release finds no master, so nothing is said of it.
    let last = UnlockCall {
        handle: Handle(names.len() as u64),
        flags: Flags::NONE,
        value: None,
    };
    node.dlm.unlock(NOW, CLIENT, 200, last);
    assert!(node.said(OTHER).is_empty());
    let (said, slices) = node.work_off(OTHER);
    assert!(registered(&said), "{said:?}");
    assert!(slices >= 100, "{slices} slices");
    // Those that are left are restated after the proof, before the next entry of the log.
    node.dlm.work_off(NOW);
    prove_master_lost(&mut node);
    let (said, _) = node.work_off(OTHER);
    let restated = said.iter().filter(|b| matches!(b, Body::Restate { .. }));
    assert_eq!(restated.count(), 99);
}

/// Protects exclusion: a node does not say that it has registered all it masters between a change of
/// the members and a proof that comes with it, nor before it has rebuilt what follows from that.
#[test]
fn what_a_proof_brings_is_registered_first() {
    let mut node = member(own_resource().name, LockMode::Nl);
    let registered = |said: &[Body]| said.iter().any(|b| matches!(b, Body::Registered { .. }));
    node.said(OTHER);
    node.epoch = 2;
    node.dlm.install(NOW, view(2, &[ME, OTHER], &[]));
    assert!(!registered(&node.said(OTHER)), "the proof may follow");
    node.dlm.recover(NOW, proof(MASTER, 2, Proof::LeftCleanly));
    node.dlm.view_settled(NOW);
    let (said, _) = node.work_off(OTHER);
    assert!(!registered(&said), "{said:?}");
    let done = Body::RestateDone {
        node: MASTER,
        incarnation: LIFE,
    };
    node.heard(OTHER, done);
    let (said, _) = node.work_off(OTHER);
    assert!(registered(&said), "{said:?}");
}
