//! One lock manager whose client adopts an orphan of another node, while the test plays its peers. The rules are
//! in `docs/protocol/ceding.md`.

#![allow(missing_docs, clippy::unwrap_used)]

mod played;

use mainstay_base::{Epoch, Incarnation, LockId, LockMode, NodeId, Token};
use mainstay_dlm::{AdoptCall, LockCall, Out, UnlockCall};
use mainstay_fencing::Proof;
use mainstay_membership::{Member, View};
use mainstay_wire::{
    ceding::{CededLock, Ceding, Found},
    client::{Answer, Handle},
    dlm::Body,
    event::Reason,
    lock::{Flags, Granted, Refusal},
};
use played::*;

use LockMode::{Ex, Nl};

/// The orphan's number on its node, [`OTHER`].
const ORPHAN: LockId = LockId(7);

/// A client asks for an orphan on [`own_resource`] that its node and dead ones do not have.
fn seek(node: &mut Node) {
    let call = AdoptCall {
        handle: Handle(5),
        space: SPACE,
        name: own_resource().name,
        mode: Ex,
        flags: Flags::VALBLK,
        blocking: true,
        uid: None,
    };
    let sought = node.dlm.seek(NOW, CLIENT, 5, call, Refusal::NoSuchOrphan);
    sought.unwrap();
}

/// Under which number it asks a member.
fn asked(node: &mut Node, whom: NodeId) -> LockId {
    let said = node.said(whom);
    let sought = said.iter().find_map(|body| match body {
        Body::Ceding(Ceding::Seek { lock, .. }) => Some(*lock),
        _ => None,
    });
    sought.expect("it asks")
}

fn nothing(node: &mut Node, from: NodeId) {
    let lock = asked(node, from);
    let found = Found::Nothing;
    node.heard(from, Body::Ceding(Ceding::Answer { lock, found }));
}

/// [`OTHER`] cedes its orphan; under which number it is known here.
fn cede(node: &mut Node, token: Token) -> LockId {
    nothing(node, MASTER);
    let lock = asked(node, OTHER);
    let ceded = CededLock {
        lock: ORPHAN,
        token,
        valblk: true,
        value: None,
        unsure: false,
        left_by: (0, 9),
    };
    let found = Found::Ceded(Box::new(ceded));
    node.heard(OTHER, Body::Ceding(Ceding::Answer { lock, found }));
    lock
}

fn answer(node: &mut Node) -> Option<Result<Answer, Refusal>> {
    let mut out = Vec::new();
    node.dlm.take_outputs(&mut out);
    out.into_iter().find_map(|out| match out {
        Out::Done {
            request: 5, result, ..
        } => Some(result),
        Out::Fatal(why) => panic!("{why}"),
        _ => None,
    })
}

/// A lock of this node's client on [`own_resource`].
fn own(handle: u64, mode: LockMode, flags: Flags) -> LockCall {
    LockCall {
        handle: Handle(handle),
        space: SPACE,
        name: own_resource().name,
        mode,
        flags,
        blocking: false,
        deadline: None,
    }
}

/// A lock in EX that [`OTHER`] has on what this node masters, or has restated to it.
fn lent(node: &mut Node) -> Token {
    let call = own(9, Nl, Flags::NONE);
    node.dlm.lock(NOW, CLIENT, 9, call);
    let request = Body::Request {
        resource: own_resource(),
        lock: ORPHAN,
        mode: Ex,
        flags: Flags::VALBLK,
        blocking: true,
    };
    node.heard(OTHER, request);
    let said = node.said(OTHER);
    let token = said.iter().find_map(|body| match body {
        Body::Granted { granted, .. } => Some(granted.token),
        _ => None,
    });
    token.expect("it is granted")
}

/// Protects readers from what a writer may have left half done: what is still on its way to a node that rests
/// ends as that of a process that died, so the value goes to its heir marked.
#[test]
fn what_is_under_way_when_its_node_rests_leaves_doubt() {
    for told in [false, true] {
        let mut node = joined(512);
        let token = lent(&mut node);
        seek(&mut node);
        let lock = cede(&mut node, token);
        if told {
            node.heard(OTHER, Body::Ceding(Ceding::Over { lock }));
            assert!(matches!(answer(&mut node), Some(Ok(Answer::Granted(_)))));
        }
        node.dlm.end_orphans(NOW);
        if !told {
            node.dlm.close_session(NOW, CLIENT);
        }
        node.dlm.begin_rest(NOW);
        let mut out = Vec::new();
        node.dlm.take_outputs(&mut out);
        let marks = out.iter().filter_map(|out| match out {
            Out::Send {
                body: Body::HandOver { resource, value },
                ..
            } => {
                assert_eq!(*resource, own_resource());
                Some(value.maybe_stale)
            }
            _ => None,
        });
        assert_eq!(marks.collect::<Vec<_>>(), [!told], "told {told}");
    }
}

/// Protects a client from taking a name for free whose orphan may be on a node that is not asked.
#[test]
fn a_search_says_that_somebody_was_not_asked() {
    let mut node = joined(512);
    node.install(2, &[ME, MASTER], &[OTHER]);
    seek(&mut node);
    nothing(&mut node, MASTER);
    let told = answer(&mut node);
    assert!(
        matches!(told, Some(Err(Refusal::Unavailable(_)))),
        "{told:?}"
    );
}

fn resting(epoch: u64) -> View {
    let mut view = view(epoch, &[ME], &[OTHER]);
    view.pending[0].reason = Reason::Rests;
    view
}

/// Protects a rebuilder: a lock is known to be one also where its first node restated it, and rested, before all was
/// told.
#[test]
fn a_rest_hides_nothing_from_who_rebuilds() {
    let mut node = joined(512);
    let token = Token::floor(Epoch(1)).next();
    let resource = own_resource();
    node.heard(
        MASTER,
        Body::Lookup {
            resource,
            members: Epoch(1),
        },
    );
    seek(&mut node);
    let lock = cede(&mut node, token);
    let granted = Granted {
        mode: Ex,
        token,
        value: None,
    };
    node.heard(MASTER, Body::Granted { lock, granted });
    node.dlm.set_active(NOW, false);
    lose_master(&mut node);
    let (by, incarnation) = (MASTER, LIFE);
    let locks = vec![restated_lock(ORPHAN, (Ex, token))];
    let resource = own_resource();
    let restate = Body::Restate {
        node: by,
        incarnation,
        resource,
        locks,
    };
    node.heard(OTHER, restate);
    let done = Body::RestateDone {
        node: by,
        incarnation,
    };
    node.heard(OTHER, done);
    node.epoch = 4;
    node.dlm.install(NOW, resting(4));
    node.dlm.recover(NOW, proof(OTHER, 4, Proof::Rests));
    node.dlm.view_settled(NOW);
    let next = (OTHER, Incarnation(2));
    let mut back = view(5, &[ME], &[]);
    back.members.push(Member {
        node: OTHER,
        incarnation: next.1,
        boot: boot(OTHER),
        joined: Epoch(5),
    });
    node.epoch = 5;
    node.dlm.resumes((OTHER, LIFE), next);
    node.dlm.install(NOW, back);
    node.dlm.view_settled(NOW);
    node.heard(OTHER, Body::Registered { members: Epoch(5) });
    node.dlm.set_active(NOW, true);
    while node.dlm.deadline().is_some_and(|due| due <= NOW) {
        node.dlm.tick(NOW);
    }
    assert!(matches!(answer(&mut node), Some(Ok(Answer::Granted(_)))),);
    node.dlm.check_at_rest();
    // It is one, and goes as one.
    let gone = UnlockCall {
        handle: Handle(5),
        flags: Flags::NONE,
        value: None,
    };
    node.dlm.unlock(NOW, CLIENT, 6, gone);
    let call = own(6, Ex, Flags::NOQUEUE);
    node.dlm.lock(NOW, CLIENT, 5, call);
    let told = answer(&mut node);
    assert!(matches!(told, Some(Ok(Answer::Granted(_)))), "{told:?}");
}
