//! One lock manager whose peers are played by the test: locks on ranges where owner and master could
//! come to differ.

#![allow(missing_docs, clippy::unwrap_used)]

mod played;

use mainstay_base::{BootId, ByteRange, Epoch, LockId, LockMode, NodeName, Token};
use mainstay_dlm::{Out, RangeCall};
use mainstay_recorder::{Dump, Head, Op, Record, Recorder};
use mainstay_wire::{
    client::{Answer, Handle},
    dlm::{Body, RangeAsk, RestatedLock},
    lock::{Flags, Granted, Refusal},
};
use played::*;

/// What became of calls, by number, and what is said to `OTHER`.
#[derive(Debug, Default)]
struct Told {
    ends: Vec<(u64, Result<Answer, Refusal>)>,
    other: Vec<Body>,
    master: Vec<Body>,
}

impl Told {
    fn set(&self, request: u64) -> bool {
        let mut ends = self.ends.iter();
        ends.any(|(r, end)| *r == request && matches!(end, Ok(Answer::RangeSet { .. })))
    }

    fn refused(&self, request: u64, why: &Refusal) -> bool {
        let mut ends = self.ends.iter();
        ends.any(|(r, end)| *r == request && end.as_ref() == Err(why))
    }
}

impl Node {
    fn range(&mut self, request: u64, start: u64, end: u64, mode: LockMode) {
        let call = RangeCall {
            handle: Handle(1),
            space: SPACE,
            name: own_resource().name,
            range: ByteRange::new(start, end).unwrap(),
            mode,
            flags: Flags::NONE,
            blocking: false,
            deadline: None,
        };
        self.dlm.range(NOW, CLIENT, request, call);
    }

    /// # Panics
    /// If the node would stop, or its books as owner and as master differ.
    fn told(&mut self) -> Told {
        let mut out = Vec::new();
        self.dlm.take_outputs(&mut out);
        let mut told = Told::default();
        for out in out {
            match out {
                Out::Done {
                    request, result, ..
                } => told.ends.push((request, result)),
                Out::Send { to, body } if to == OTHER => told.other.push(body),
                Out::Send { body, .. } => told.master.push(body),
                Out::Fatal(why) => panic!("{why}"),
                _ => {}
            }
        }
        self.dlm.check_at_rest();
        told
    }

    /// `OTHER` masters nothing and has told what it has on the resource that `MASTER` mastered, which
    /// this node rebuilds now.
    fn rebuild(&mut self, locks: Vec<RestatedLock>) -> Told {
        self.install(2, &[ME, OTHER], &[MASTER]);
        prove_master_lost(self);
        let members = Epoch(2);
        self.heard(OTHER, Body::Registered { members });
        let (node, incarnation, resource) = (MASTER, LIFE, own_resource());
        self.heard(
            OTHER,
            Body::Restate {
                node,
                incarnation,
                resource,
                locks,
            },
        );
        self.heard(OTHER, Body::RestateDone { node, incarnation });
        self.dlm.work_off(NOW);
        self.told()
    }
}

fn call_of(said: &[Body]) -> LockId {
    let call = said.iter().find_map(|body| match body {
        Body::RangeCall { lock, .. } => Some(*lock),
        _ => None,
    });
    call.expect("the call goes to the master")
}

/// A member whose client has asked `MASTER` for a range.
fn asking() -> (Node, LockId) {
    let mut node = joined(512);
    let (resource, members) = (own_resource(), Epoch(1));
    node.heard(MASTER, Body::Lookup { resource, members });
    node.range(1, 0, 9, LockMode::Ex);
    let lock = call_of(&node.told().master);
    (node, lock)
}

fn token(count: u64) -> Token {
    Token(Token::floor(Epoch(1)).0 + count)
}

fn whole(pending: Option<(LockMode, Flags)>) -> RestatedLock {
    RestatedLock {
        pending,
        ..restated_lock(LockId(7), (LockMode::Ex, token(1)))
    }
}

/// Protects the one set of ranges that owner and master have: a call that was taken back while the
/// node could not act does not give its place to the next one, before what was given up in between.
#[test]
fn what_was_given_up_meanwhile_comes_before_the_next_call() {
    let mut node = joined(512);
    node.range(1, 0, 99, LockMode::Ex);
    assert!(node.told().set(1));
    node.dlm.set_active(NOW, false);
    node.range(2, 50, 149, LockMode::Ex);
    node.dlm.cancel(NOW, CLIENT, 3, Handle(1));
    node.range(4, 0, 49, LockMode::Nl);
    node.range(5, 0, 49, LockMode::Pr);
    let told = node.told();
    assert!(told.set(4), "{told:?}");
    assert!(!told.set(5), "it gains something: {told:?}");
    node.dlm.set_active(NOW, true);
    let told = node.told();
    assert!(told.set(5), "{told:?}");
    node.range(6, 0, 49, LockMode::Nl);
    assert!(node.told().set(6));
}

/// Protects locks on all of a resource from a place in a queue: the call for a range may have been
/// taken back before the lock was granted, and its owner not have heard it.
#[test]
fn a_lock_that_is_held_outweighs_a_call_that_waited() {
    let (mut node, lock) = asking();
    node.heard(MASTER, Body::Queued { lock, ticket: 1 });
    let told = node.rebuild(vec![whole(None)]);
    assert!(told.refused(1, &Refusal::Whole), "{told:?}");
    let refused = |body: &Body| matches!(body, Body::Refused { .. });
    assert!(!told.other.iter().any(refused), "{told:?}");
    node.range(2, 0, 9, LockMode::Ex);
    assert!(node.told().refused(2, &Refusal::Whole), "it is still held");
}

/// Protects a release whose answer was lost with the master, who had given ranges to others since: it
/// is answered, and what it published is the value.
#[test]
fn a_release_that_was_not_answered_gives_way_to_ranges() {
    let (mut node, lock) = asking();
    let granted = Granted {
        mode: LockMode::Ex,
        token: token(2),
        value: None,
    };
    node.heard(MASTER, Body::Granted { lock, granted });
    assert!(node.told().set(1));
    let told = node.rebuild(vec![whole(Some((LockMode::Nl, Flags::VALBLK)))]);
    let released = |body: &Body| match body {
        Body::Granted { lock, granted } => *lock == LockId(7) && granted.mode == LockMode::Nl,
        _ => false,
    };
    assert!(told.other.iter().any(released), "{told:?}");
    let resource = own_resource();
    let (lock, invalidate) = (LockId(7), false);
    node.heard(
        OTHER,
        Body::Drop {
            resource,
            lock,
            invalidate,
        },
    );
    node.range(2, 0, 19, LockMode::Ex);
    assert!(node.told().set(2), "there are only ranges");
}

/// What the flight recorder has of locks: what, whose, and of which.
fn recorded(node: &mut Node) -> Vec<(Op, &'static str, LockId)> {
    let head = Head {
        build: String::new(),
        cluster: String::new(),
        node: ME,
        name: NodeName::new("n1").unwrap(),
        recorder: BootId(1),
        clock: [0; 16],
        at: NOW,
        unix_ms: 0,
        reason: String::new(),
        nodes: Vec::new(),
        spaces: Vec::new(),
    };
    let dump = Dump::of(node.dlm.recorder(), head).encode();
    let (_, entries) = Dump::decode(&dump).unwrap();
    let of_lock = entries.into_iter().filter_map(|entry| match entry.record {
        Record::Own(own) => Some((own.op, "own", own.lock)),
        Record::Mastered(theirs) => Some((theirs.op, "theirs", theirs.lock)),
        _ => None,
    });
    of_lock.collect()
}

/// Protects the flight recorder's tale: of each lock on ranges it tells the end, whoever owns it and
/// however it ends, before what that allows to others.
#[test]
fn the_end_of_ranges_is_recorded() {
    let mut node = joined(512);
    *node.dlm.recorder() = Recorder::new(1 << 16, BootId(1));
    node.range(1, 0, 9, LockMode::Ex);
    let theirs = |lock: u64| Body::RangeCall {
        resource: own_resource(),
        lock: LockId(lock),
        ask: RangeAsk {
            range: ByteRange::new(lock * 10, lock * 10 + 9).unwrap(),
            mode: LockMode::Ex,
            flags: Flags::NONE,
            blocking: false,
        },
    };
    for lock in 1..=3 {
        node.heard(MASTER, theirs(lock));
    }
    let weaken = |end: u64| Body::RangeWeaken {
        resource: own_resource(),
        lock: LockId(1),
        range: ByteRange::new(10, end).unwrap(),
        mode: LockMode::Nl,
    };
    node.heard(MASTER, weaken(12));
    node.range(2, 13, 29, LockMode::Pr);
    node.heard(MASTER, weaken(19));
    let (resource, lock, invalidate) = (own_resource(), LockId(2), false);
    node.heard(
        MASTER,
        Body::Drop {
            resource,
            lock,
            invalidate,
        },
    );
    assert!(node.told().set(2));
    node.heard(MASTER, theirs(1));
    node.range(3, 0, 29, LockMode::Nl);
    node.install(2, &[ME, OTHER], &[MASTER]);
    prove_master_lost(&mut node);
    node.dlm.work_off(NOW);

    let told = recorded(&mut node);
    let own = told.iter().find(|(_, whose, _)| *whose == "own").unwrap().2;
    let [one, two, three] = [1, 2, 3].map(LockId);
    let expected = [
        (Op::Ranged, "own", own),
        (Op::Ranged, "theirs", one),
        (Op::Ranged, "theirs", two),
        (Op::Ranged, "theirs", three),
        (Op::Queued, "own", own),
        (Op::Unlocked, "theirs", one),
        (Op::Dropped, "theirs", two),
        (Op::Ranged, "own", own),
        (Op::Queued, "theirs", one),
        (Op::Unlocked, "own", own),
        (Op::Ranged, "theirs", one),
        (Op::Purged, "theirs", one),
        (Op::Purged, "theirs", three),
    ];
    assert_eq!(told, expected);
}
