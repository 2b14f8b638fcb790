//! Persistent locks whose session has ended, where the master is another node: what stays, what is said,
//! and who gets it.

#![allow(missing_docs, clippy::unwrap_used)]

mod played;

use core::time::Duration;
use mainstay_base::{
    Caller, Epoch, Fairness, LockId, LockMode, NodeId, ResourceName, SessionId, Token, UserLimits,
    Value, ValueBlock, ValueVersion,
};
use mainstay_dlm::{AdoptCall, ConvertCall, Dlm, LockCall, Out};
use mainstay_wire::{
    client::{Answer, Handle},
    dlm::Body,
    event::OrphanFate,
    lock::{Flags, Granted, Refusal},
    orphan::OrphanFilter,
    report::OwnerReport,
};
use played::*;

const HEIR: SessionId = SessionId(2);
const KEPT: Flags = Flags(Flags::PERSISTENT.0 | Flags::VALBLK.0);

fn process(pid: u32, uid: u32) -> OwnerReport {
    OwnerReport {
        pid,
        uid,
        command: format!("job {pid}"),
        orphan_ms: None,
        owner: mainstay_base::Owner::Session,
        broken: None,
    }
}

fn token() -> Token {
    Token::floor(Epoch(1)).next()
}

fn granted(mode: LockMode) -> Granted {
    Granted {
        mode,
        token: token(),
        value: Some(Value {
            block: ValueBlock::new([7; 32]).unwrap(),
            version: ValueVersion(5),
            maybe_stale: false,
        }),
    }
}

/// A member whose client, process 71 of user 5, holds a lock at `MASTER`; the last call was a
/// conversion with these flags, and is not answered.
fn converting(from: LockMode, to: LockMode, flags: Flags) -> (Node, LockId) {
    let (mut node, lock) = asking();
    node.dlm.introduce(CLIENT, process(71, 5));
    node.dlm.open_session(HEIR);
    node.dlm.introduce(HEIR, process(72, 5));
    let granted = granted(from);
    node.heard(MASTER, Body::Granted { lock, granted });
    let call = ConvertCall {
        handle: Handle(1),
        mode: to,
        flags,
        blocking: true,
        value: None,
        deadline: None,
    };
    node.dlm.convert(NOW, CLIENT, 2, call);
    node.said(MASTER);
    (node, lock)
}

/// As [`converting`], with an answer.
fn holding(mode: LockMode, flags: Flags) -> (Node, LockId) {
    let (mut node, lock) = converting(LockMode::Cr, mode, flags);
    let granted = granted(mode);
    node.heard(MASTER, Body::Granted { lock, granted });
    node.said(MASTER);
    (node, lock)
}

fn adopt(node: &mut Node, mode: LockMode, uid: Option<u32>) -> Result<Answer, Refusal> {
    let call = AdoptCall {
        handle: Handle(9),
        space: SPACE,
        name: resource().name,
        mode,
        flags: KEPT,
        blocking: true,
        uid,
    };
    node.dlm.adopt(NOW, HEIR, 3, &call);
    let mut out = Vec::new();
    node.dlm.take_outputs(&mut out);
    let result = out.iter().find_map(|out| match out {
        Out::Done {
            session: HEIR,
            request: 3,
            result,
        } => Some(result.clone()),
        _ => None,
    });
    let told: Vec<&Out> = out
        .iter()
        .filter(|out| matches!(out, Out::Send { .. }))
        .collect();
    if result.as_ref().is_some_and(|result| result.is_ok()) {
        assert!(
            matches!(
                told.as_slice(),
                [Out::Send {
                    to: MASTER,
                    body: Body::Adopted { blocking: true, .. }
                }]
            ),
            "the new owner is told what the lock is in the way of: {told:?}"
        );
    }
    result.expect("it is answered at once")
}

/// Protects persistent locks from the end of their process, and their new owner's knowledge of them:
/// mode, token and the value that nobody else can have changed.
#[test]
fn a_persistent_lock_is_adopted_as_it_is() {
    let (mut node, _) = holding(LockMode::Ex, KEPT);
    node.dlm.close_session(NOW, CLIENT);
    assert_eq!(node.said(MASTER), [], "the master need not know");
    assert_eq!(node.dlm.orphan_count(), 1);
    let (views, next) = node.dlm.orphans(&OrphanFilter::default(), None, 10);
    assert_eq!(views[0].process, &process(71, 5));
    assert_eq!((views.len(), next), (1, None));
    assert_eq!(
        adopt(&mut node, LockMode::Pr, None),
        Err(Refusal::OrphanInMode(LockMode::Ex))
    );
    let refused = adopt(&mut node, LockMode::Ex, Some(6));
    assert!(matches!(refused, Err(Refusal::Denied(_))), "{refused:?}");
    assert_eq!(
        adopt(&mut node, LockMode::Ex, Some(5)),
        Ok(Answer::Granted(granted(LockMode::Ex)))
    );
    assert_eq!(node.dlm.orphan_count(), 0);
    // It is the heir's now, and as persistent as that asked for it.
    node.dlm.close_session(NOW, HEIR);
    assert_eq!(node.dlm.orphan_count(), 1);
}

/// Protects exclusion: what is adopted once is nobody else's.
#[test]
fn an_orphan_is_adopted_once() {
    let (mut node, _) = holding(LockMode::Pr, KEPT);
    node.dlm.close_session(NOW, CLIENT);
    assert!(adopt(&mut node, LockMode::Pr, None).is_ok());
    let third = SessionId(3);
    node.dlm.open_session(third);
    let call = AdoptCall {
        handle: Handle(1),
        space: SPACE,
        name: resource().name,
        mode: LockMode::Pr,
        flags: Flags::NONE,
        blocking: false,
        uid: None,
    };
    node.dlm.adopt(NOW, third, 4, &call);
    let mut out = Vec::new();
    node.dlm.take_outputs(&mut out);
    let refused = out.iter().any(|out| {
        matches!(out, Out::Done { session, result: Err(Refusal::NoSuchOrphan), .. } if *session == third)
    });
    assert!(refused, "{out:?}");
}

/// Protects who asked last: without PERSISTENT the lock goes, and a writer's value block is in doubt.
#[test]
fn the_last_call_decides() {
    let (mut node, lock) = holding(LockMode::Ex, Flags::VALBLK);
    node.dlm.close_session(NOW, CLIENT);
    let dropped = Body::Drop {
        resource: resource(),
        lock,
        invalidate: true,
    };
    assert_eq!(node.said(MASTER), [dropped]);
    assert_eq!(node.dlm.orphan_count(), 0);
}

/// Protects a lock whose owner dies in the middle of a conversion: the conversion is taken back, and
/// until its end nobody adopts a lock whose mode nobody knows.
#[test]
fn a_conversion_is_taken_back_first() {
    for late in [false, true] {
        let (mut node, lock) = converting(LockMode::Pr, LockMode::Ex, KEPT);
        node.dlm.close_session(NOW, CLIENT);
        let cancel = Body::Cancel {
            resource: resource(),
            lock,
        };
        assert_eq!(node.said(MASTER), [cancel]);
        assert_eq!(node.dlm.orphan_count(), 0);
        assert_eq!(adopt(&mut node, LockMode::Pr, None), Err(Refusal::Busy));
        let mode = match late {
            true => LockMode::Ex,
            false => LockMode::Pr,
        };
        let end = match late {
            true => Body::Granted {
                lock,
                granted: granted(mode),
            },
            false => Body::Refused {
                lock,
                why: Refusal::Cancelled,
            },
        };
        node.heard(MASTER, end);
        assert_eq!(node.dlm.orphan_count(), 1);
        assert!(adopt(&mut node, mode, None).is_ok());
    }
}

/// Protects orphans in a recovery: they are restated to the next master like any lock.
#[test]
fn orphans_are_restated() {
    let (mut node, lock) = holding(LockMode::Ex, KEPT);
    node.dlm.close_session(NOW, CLIENT);
    let said = lose_master(&mut node);
    let restated = said.iter().find_map(|body| match body {
        Body::Restate { locks, .. } => locks.first(),
        _ => None,
    });
    let restated = restated.expect("it is restated");
    assert_eq!(restated.lock, lock);
    assert_eq!(restated.granted, Some((LockMode::Ex, token())));
}

/// Protects other users' orphans from a purge, and readers from a value that a purged writer may have
/// been about to change.
#[test]
fn a_purge_marks_the_value_and_spares_others() {
    let (mut node, lock) = holding(LockMode::Pw, KEPT);
    node.dlm.close_session(NOW, CLIENT);
    let purged = |node: &mut Node, uid| {
        let filter = OrphanFilter {
            uid,
            ..OrphanFilter::default()
        };
        node.dlm.purge_orphans(NOW, filter, NodeId(1), 7);
        node.dlm.work_off(NOW);
        let mut out = Vec::new();
        node.dlm.take_outputs(&mut out);
        out
    };
    let out = purged(&mut node, Some(6));
    assert!(
        matches!(out.as_slice(), [.., Out::Purged(p)] if p.purged == 0 && p.denied == 1),
        "{out:?}"
    );
    let out = purged(&mut node, Some(5));
    let dropped = Body::Drop {
        resource: resource(),
        lock,
        invalidate: true,
    };
    let fate = |out: &Out| {
        matches!(
            out,
            Out::Orphan {
                fate: OrphanFate::Purged,
                expired: false,
                ..
            }
        )
    };
    let at = out.iter().position(fate).expect("it is told");
    assert!(
        matches!(&out[at + 1..], [Out::Send { to: MASTER, body }, .., Out::Purged(p)]
            if *body == dropped && p.purged == 1),
        "{out:?}"
    );
    assert_eq!(node.dlm.orphan_count(), 0);
}

/// Protects others from waiting for ever, where the configuration says so.
#[test]
fn orphans_expire() {
    let (mut node, _) = holding(LockMode::Pr, KEPT);
    let kept = Duration::from_secs(5);
    node.dlm.configure_orphans(Some(kept));
    node.dlm.close_session(NOW, CLIENT);
    assert_eq!(node.dlm.deadline().map(|at| at >= NOW + kept), Some(true));
    node.dlm.tick(NOW + Duration::from_millis(4999));
    assert_eq!(node.dlm.orphan_count(), 1);
    node.dlm.tick(NOW + kept);
    assert_eq!(node.dlm.orphan_count(), 0);
    assert!(matches!(
        node.said(MASTER).as_slice(),
        [Body::Drop {
            invalidate: false,
            ..
        }]
    ));
}

/// Protects a clean leave: a node that leaves takes its orphans with it.
#[test]
fn a_leaving_node_keeps_none() {
    let (mut node, _) = holding(LockMode::Pr, KEPT);
    node.dlm.close_session(NOW, CLIENT);
    node.dlm.end_orphans(NOW);
    assert_eq!(node.dlm.orphan_count(), 0);
    assert!(matches!(node.said(MASTER).as_slice(), [Body::Drop { .. }]));
}

/// Protects an adoption that races with the expiry: whoever comes first has the lock, and one that was
/// adopted does not expire any more.
#[test]
fn an_adoption_races_with_the_expiry() {
    let kept = Duration::from_secs(5);
    let left = || {
        let (mut node, lock) = holding(LockMode::Pr, KEPT);
        node.dlm.configure_orphans(Some(kept));
        node.dlm.close_session(NOW, CLIENT);
        (node, lock)
    };
    let (mut node, _) = left();
    assert!(adopt(&mut node, LockMode::Pr, None).is_ok());
    node.dlm.tick(NOW + kept);
    assert_eq!(node.said(MASTER), [], "it is the heir's");
    // Left behind again, it has its whole time again.
    let later = NOW + kept;
    node.dlm.close_session(later, HEIR);
    node.dlm.tick(later + Duration::from_millis(4999));
    assert_eq!(node.dlm.orphan_count(), 1);
    node.dlm.tick(later + kept);
    assert_eq!(node.dlm.orphan_count(), 0);

    let (mut node, _) = left();
    node.dlm.tick(NOW + kept);
    let late = adopt(&mut node, LockMode::Pr, None);
    assert_eq!(late, Err(Refusal::NoSuchOrphan));
}

/// Protects an adoption that races with a purge: the purge looks at each orphan when its turn comes, and
/// one that has an owner again then is nobody's to purge.
#[test]
fn an_adoption_races_with_a_purge() {
    for adopted_first in [true, false] {
        let (mut node, _) = holding(LockMode::Pr, KEPT);
        node.dlm.close_session(NOW, CLIENT);
        let filter = OrphanFilter::default();
        node.dlm.purge_orphans(NOW, filter, NodeId(1), 7);
        if !adopted_first {
            node.dlm.work_off(NOW);
        }
        let result = match adopted_first {
            true => adopt(&mut node, LockMode::Pr, None).map(|_| ()),
            false => {
                let said = node.said(MASTER);
                assert!(matches!(said.as_slice(), [Body::Drop { .. }]), "{said:?}");
                adopt(&mut node, LockMode::Pr, None).map(|_| ())
            }
        };
        let expected = match adopted_first {
            true => Ok(()),
            false => Err(Refusal::NoSuchOrphan),
        };
        assert_eq!(result, expected);
        node.dlm.work_off(NOW);
        assert_eq!(node.said(MASTER), [], "nothing is left to be purged");
    }
}

/// Protects a lock whose owner and whose master die together: the conversion that was being taken back is
/// taken back at the next master, and the lock is an orphan in the mode that it says.
#[test]
fn a_master_dies_while_a_conversion_is_taken_back() {
    let (mut node, lock) = converting(LockMode::Pr, LockMode::Ex, KEPT);
    node.dlm.close_session(NOW, CLIENT);
    let mut said = node.said(MASTER);
    assert!(matches!(said.as_slice(), [Body::Cancel { .. }]), "{said:?}");
    said = lose_master(&mut node);
    let restated = said.iter().find_map(|body| match body {
        Body::Restate { locks, .. } => locks.first(),
        _ => None,
    });
    assert_eq!(
        restated.map(|lock| lock.granted),
        Some(Some((LockMode::Pr, token()))),
        "{said:?}"
    );
    assert_eq!(node.dlm.orphan_count(), 0, "its last call is not over");
    assert_eq!(adopt(&mut node, LockMode::Pr, None), Err(Refusal::Busy));
    let why = Refusal::Cancelled;
    node.heard(OTHER, Body::Refused { lock, why });
    assert_eq!(node.dlm.orphan_count(), 1);
    let (views, _) = node.dlm.orphans(&OrphanFilter::default(), None, 10);
    assert_eq!(views[0].mode, LockMode::Pr);
}

/// Protects the user's quota: an orphan counts until it is purged, its heir of the same user is charged
/// nothing anew, and who takes it over from another user is.
#[test]
fn an_orphan_counts_for_its_user() {
    let caller = |uid| Caller {
        uid,
        gid: 0,
        privileged: false,
    };
    let other = SessionId(3);
    let lock = |node: &mut Node, session, handle| {
        let call = LockCall {
            handle: Handle(handle),
            space: SPACE,
            name: ResourceName::new(format!("other-{handle}")).unwrap(),
            mode: LockMode::Nl,
            flags: Flags::NONE,
            blocking: false,
            deadline: None,
        };
        node.dlm.lock(NOW, session, 50, call);
        let mut out = Vec::new();
        node.dlm.take_outputs(&mut out);
        let limited = |out: &Out| {
            matches!(
                out,
                Out::Done {
                    request: 50,
                    result: Err(Refusal::Limit(_)),
                    ..
                }
            )
        };
        !out.iter().any(limited)
    };
    let mut node = Node {
        dlm: Dlm::new(ME, 512),
        epoch: 0,
    };
    node.dlm.limit_users(UserLimits {
        locks: Some(1),
        ..Default::default()
    });
    node.dlm.add_space(SPACE, 32, Fairness::default());
    node.install(1, &[ME], &[]);
    node.dlm.set_active(NOW, true);
    for (session, pid, uid) in [(CLIENT, 71, 5), (HEIR, 72, 5), (other, 73, 6)] {
        node.dlm.open_session(session);
        node.dlm.charge_session(session, caller(uid));
        node.dlm.introduce(session, process(pid, uid));
    }
    let call = LockCall {
        handle: Handle(1),
        space: SPACE,
        name: resource().name,
        mode: LockMode::Ex,
        flags: KEPT,
        blocking: false,
        deadline: None,
    };
    node.dlm.lock(NOW, CLIENT, 1, call);
    node.dlm.close_session(NOW, CLIENT);
    assert_eq!(node.dlm.orphan_count(), 1);
    node.dlm.check_at_rest();
    assert!(!lock(&mut node, HEIR, 2), "the orphan is all it may have");
    let adopting = |session| AdoptCall {
        handle: Handle(9),
        space: SPACE,
        name: resource().name,
        mode: LockMode::Ex,
        flags: KEPT,
        blocking: false,
        uid: if session == HEIR { Some(5) } else { None },
    };
    assert!(lock(&mut node, other, 3), "another user's limit is its own");
    let taken = |node: &mut Node, session| {
        node.dlm.adopt(NOW, session, 60, &adopting(session));
        let mut out = Vec::new();
        node.dlm.take_outputs(&mut out);
        node.dlm.check_at_rest();
        out.into_iter().find_map(|out| match out {
            Out::Done {
                request: 60,
                result,
                ..
            } => Some(result.map(|_| ())),
            _ => None,
        })
    };
    let refused = taken(&mut node, other);
    assert!(
        matches!(refused, Some(Err(Refusal::Limit(_)))),
        "{refused:?}"
    );
    assert_eq!(taken(&mut node, HEIR), Some(Ok(())));
    assert!(!lock(&mut node, HEIR, 4), "it is its own now");
    node.dlm.close_session(NOW, HEIR);
    let filter = OrphanFilter::default();
    node.dlm.purge_orphans(NOW, filter, NodeId(1), 7);
    node.dlm.work_off(NOW);
    node.dlm.check_at_rest();
    let third = SessionId(4);
    node.dlm.open_session(third);
    node.dlm.charge_session(third, caller(5));
    assert!(lock(&mut node, third, 5), "what is purged counts no more");
}
