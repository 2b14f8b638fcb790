//! Changes of value blocks in one step, and watching them, where the master is another node: what is
//! said, what is said again when the master vanishes, and what is not.

#![allow(missing_docs, clippy::unwrap_used)]

mod played;

use mainstay_base::{
    Epoch, LockId, LockMode, Token, Updated, Value, ValueBlock, ValueUpdate, ValueVersion,
};
use mainstay_dlm::{Out, UnlockCall};
use mainstay_fencing::Proof;
use mainstay_wire::{
    client::{Answer, Handle},
    dlm::{Body, RestatedLock},
    lock::{Flags, Granted, Refusal},
};
use played::*;

fn value(byte: u8, version: u64) -> Value {
    Value {
        block: ValueBlock::new([byte; 32]).unwrap(),
        version: ValueVersion(version),
        maybe_stale: false,
    }
}

fn add(delta: i64) -> ValueUpdate {
    ValueUpdate::Add { delta }
}

/// The end of a call, by its number.
type Ended = (u64, Result<Answer, Refusal>);

impl Node {
    /// What its clients are told: ends of calls by number, and values that were watched.
    fn told(&mut self) -> (Vec<Ended>, Vec<Value>) {
        let mut out = Vec::new();
        self.dlm.take_outputs(&mut out);
        let (mut done, mut values) = (Vec::new(), Vec::new());
        for out in out {
            match out {
                Out::Done {
                    request, result, ..
                } => done.push((request, result)),
                Out::ValueChanged { value, .. } => values.push(value),
                Out::Fatal(why) => panic!("{why}"),
                _ => {}
            }
        }
        (done, values)
    }
}

/// A member whose client holds a lock at `MASTER` in this mode, with a copy of the value.
fn holding(mode: LockMode) -> (Node, LockId) {
    let (mut node, lock) = asking();
    let granted = Granted {
        mode,
        token: Token::floor(Epoch(1)).next(),
        value: Some(value(1, 5)),
    };
    node.heard(MASTER, Body::Granted { lock, granted });
    node.told();
    (node, lock)
}

fn restated(said: &[Body]) -> RestatedLock {
    let found = said.iter().find_map(|body| match body {
        Body::Restate { locks, .. } => locks.first().cloned(),
        _ => None,
    });
    found.expect("it is held, so it is restated")
}

fn updates(said: &[Body]) -> usize {
    let updates = said.iter().filter(|b| matches!(b, Body::Update { .. }));
    updates.count()
}

/// Protects the one round trip of an update, and the owner's copy for the next master.
#[test]
fn an_update_is_one_question_and_one_answer() {
    let (mut node, lock) = holding(LockMode::Nl);
    node.dlm.update_value(NOW, CLIENT, 2, Handle(1), add(1));
    let said = node.said(MASTER);
    assert!(
        matches!(said.as_slice(), [Body::Update { lock: l, .. }] if *l == lock),
        "{said:?}"
    );
    let updated = Updated {
        done: true,
        value: value(2, 6),
    };
    let result = Ok(updated.clone());
    node.heard(MASTER, Body::Updated { lock, result });
    assert_eq!(node.told().0, [(2, Ok(Answer::Updated(updated)))]);
    let restated = restated(&lose_master(&mut node));
    assert_eq!(
        (restated.value, restated.unsure),
        (Some(value(2, 6)), false)
    );
}

/// Protects counts from being made twice: an update that the vanished master may have carried out is
/// not given to the next one, the client is told so, and the copy is restated as doubtful.
#[test]
fn an_update_without_an_answer_is_not_repeated() {
    let (mut node, _) = holding(LockMode::Pr);
    node.dlm.update_value(NOW, CLIENT, 2, Handle(1), add(1));
    assert_eq!(updates(&node.said(MASTER)), 1);
    node.install(2, &[ME, OTHER], &[MASTER]);
    assert_eq!(node.told().0, [], "until the proof nothing is certain");
    prove_master_lost(&mut node);
    let mut out = Vec::new();
    node.dlm.take_outputs(&mut out);
    let lost = out.iter().any(|out| {
        matches!(out, Out::Done { request: 2, result: Err(why), .. } if why.code() == "unavailable")
    });
    assert!(lost, "{out:?}");
    let said: Vec<Body> = out
        .into_iter()
        .filter_map(|out| match out {
            Out::Send { body, .. } => Some(body),
            _ => None,
        })
        .collect();
    assert_eq!(updates(&said), 0, "{said:?}");
    let restated = restated(&said);
    assert!(
        restated.unsure && restated.pending.is_none(),
        "{restated:?}"
    );
}

/// Protects calls that came while there was no master: the next one gets them, behind the locks.
#[test]
fn an_update_that_was_not_sent_goes_to_the_next_master() {
    let (mut node, lock) = holding(LockMode::Nl);
    node.install(2, &[ME, OTHER], &[MASTER]);
    node.dlm.update_value(NOW, CLIENT, 2, Handle(1), add(1));
    assert_eq!(updates(&node.said(OTHER)), 0);
    prove_master_lost(&mut node);
    let said = node.said(OTHER);
    let place = |found: fn(&Body) -> bool| said.iter().position(found);
    let restate = place(|b| matches!(b, Body::Restate { .. })).unwrap();
    let update = place(|b| matches!(b, Body::Update { .. })).unwrap();
    assert!(restate < update && updates(&said) == 1, "{said:?}");
    assert!(!restated(&said).unsure);
    let result = Err(Refusal::ValueHeld);
    node.heard(OTHER, Body::Updated { lock, result });
    assert_eq!(node.told().0, [(2, Err(Refusal::ValueHeld))]);
}

/// Protects a release by force from an update's late answer, and versions from standing for two
/// values: what the update may have done is not passed over when the publication is restated.
#[test]
fn an_update_that_was_ended_by_force_is_not_forgotten() {
    for answered in [false, true] {
        let (mut node, lock) = holding(LockMode::Pw);
        node.dlm.update_value(NOW, CLIENT, 2, Handle(1), add(1));
        let unlock = UnlockCall {
            handle: Handle(1),
            flags: Flags::VALBLK | Flags::FORCEUNLOCK,
            value: Some(ValueBlock::new([3; 32]).unwrap()),
        };
        node.dlm.unlock(NOW, CLIENT, 3, unlock);
        assert_eq!(node.told().0, [(2, Err(Refusal::Released))]);
        if answered {
            let result = Ok(Updated {
                done: true,
                value: value(2, 6),
            });
            node.heard(MASTER, Body::Updated { lock, result });
            assert_eq!(node.told().0, [], "the release is not answered yet");
        }
        let restated = restated(&lose_master(&mut node));
        assert_eq!(restated.unsure, !answered);
        let version = restated.value.map(|v| v.version.0);
        assert_eq!(version, Some(if answered { 6 } else { 5 }));
    }
}

/// Protects those who watch: they are told what is newer than what they know, once, never what is
/// older; the flag and the value go to the next master.
#[test]
fn watching_tells_what_is_newer() {
    let (mut node, lock) = holding(LockMode::Nl);
    node.dlm.watch_value(NOW, CLIENT, 2, Handle(1), true);
    let mut out = Vec::new();
    node.dlm.take_outputs(&mut out);
    let asked = out.iter().any(|out| {
        matches!(out, Out::Send { to: MASTER, body: Body::Watch { on: true, lock: l, .. } } if *l == lock)
    });
    let answered = out.iter().any(|out| {
        matches!(
            out,
            Out::Done {
                request: 2,
                result: Ok(Answer::Watching),
                ..
            }
        )
    });
    assert!(asked && answered, "{out:?}");
    let tell = |node: &mut Node, from, value| {
        node.heard(from, Body::ValueChanged { lock, value });
        node.told().1
    };
    assert_eq!(
        tell(&mut node, MASTER, value(1, 5)),
        [],
        "it came with the grant"
    );
    assert_eq!(tell(&mut node, MASTER, value(2, 7)), [value(2, 7)]);
    assert_eq!(tell(&mut node, MASTER, value(2, 7)), []);
    let restated = restated(&lose_master(&mut node));
    assert!(restated.watches);
    assert_eq!(restated.value, Some(value(2, 7)));
    assert_eq!(tell(&mut node, OTHER, value(2, 6)), [], "it is older");
    let marked = Value {
        maybe_stale: true,
        ..value(2, 7)
    };
    assert_eq!(tell(&mut node, OTHER, marked.clone()), [marked]);
    node.dlm.watch_value(NOW, CLIENT, 3, Handle(1), false);
    assert_eq!(
        tell(&mut node, OTHER, value(3, 8)),
        [],
        "it watches no more"
    );
}

/// Protects the length of messages: locks with long value blocks are restated in portions, all of them
/// and in order, each short enough to be sent.
#[test]
fn long_value_blocks_are_restated_in_portions() {
    let mut node = member(resource().name, LockMode::Nl);
    let named = Body::MasterIs {
        resource: resource(),
        members: Epoch(1),
        master: MASTER,
    };
    node.heard(OTHER, named);
    for handle in 2..=200 {
        let call = mainstay_dlm::LockCall {
            handle: Handle(handle),
            space: SPACE,
            name: resource().name,
            mode: LockMode::Nl,
            flags: Flags::VALBLK,
            blocking: false,
            deadline: None,
        };
        node.dlm.lock(NOW, CLIENT, handle, call);
    }
    let locks: Vec<LockId> = node
        .said(MASTER)
        .iter()
        .filter_map(|body| match body {
            Body::Request { lock, .. } => Some(*lock),
            _ => None,
        })
        .collect();
    assert_eq!(locks.len(), 200);
    let long = Value {
        block: ValueBlock::new([7; 4096]).unwrap(),
        version: ValueVersion(5),
        maybe_stale: false,
    };
    for &lock in &locks {
        let granted = Granted {
            mode: LockMode::Nl,
            token: Token::floor(Epoch(1)),
            value: Some(long.clone()),
        };
        node.heard(MASTER, Body::Granted { lock, granted });
    }
    let said = lose_master(&mut node);
    let mut restated = Vec::new();
    for body in &said {
        if let Body::Restate { locks, .. } = body {
            let len = mainstay_wire::codec::to_vec(body).len();
            assert!(len < 100 << 10, "a message of {len} bytes");
            restated.extend(locks.iter().map(|l| l.lock));
        }
    }
    assert_eq!(restated, locks);
}

/// Protects those who watch at a master that is rebuilt here: they learn what the value is now, local
/// and remote ones, and of each change from then on, of several changes at once the last.
#[test]
fn a_new_master_tells_those_who_watch() {
    let name = own_resource().name;
    let mut node = member(name, LockMode::Nl);
    let other = LockId(7);
    let request = Body::Request {
        resource: own_resource(),
        lock: other,
        mode: LockMode::Nl,
        flags: Flags::NONE,
        blocking: false,
    };
    node.heard(OTHER, request);
    let watch = Body::Watch {
        resource: own_resource(),
        lock: other,
        on: true,
    };
    node.heard(OTHER, watch);
    let first = node.said(OTHER);
    assert!(
        matches!(first.last(), Some(Body::ValueChanged { value, .. }) if value.version.0 == 0),
        "{first:?}"
    );
    node.dlm.update_value(NOW, CLIENT, 2, Handle(1), add(1));
    node.dlm.update_value(NOW, CLIENT, 3, Handle(1), add(1));
    let said = node.said(OTHER);
    let told: Vec<u64> = said
        .iter()
        .filter_map(|body| match body {
            Body::ValueChanged { value, .. } => Some(value.version.0),
            _ => None,
        })
        .collect();
    assert_eq!(told, [2]);
}

/// Protects updates that a leaving master may not have heard: they are not repeated either.
#[test]
fn an_update_to_a_master_that_left_is_not_repeated() {
    let (mut node, _) = holding(LockMode::Nl);
    node.dlm.update_value(NOW, CLIENT, 2, Handle(1), add(1));
    node.said(MASTER);
    node.epoch = 2;
    node.dlm.install(NOW, view(2, &[ME, OTHER], &[]));
    node.dlm.recover(NOW, proof(MASTER, 2, Proof::LeftCleanly));
    node.dlm.view_settled(NOW);
    let (done, _) = node.told();
    let code = done
        .first()
        .map(|(_, result)| result.as_ref().unwrap_err().code());
    assert_eq!(code, Some("unavailable"), "{done:?}");
}
