//! One lock manager whose peers are played by the test, when the node that it takes for a master
//! vanishes.

#![allow(missing_docs, clippy::unwrap_used)]

use mainstay_base::{
    BootId, Epoch, Incarnation, Instant, LockId, LockMode, LockspaceId, NodeId, ResourceName,
    SessionId, Token,
};
use mainstay_dlm::{Dlm, LockCall, Out};
use mainstay_fencing::{Fenced, FencedRecord, Ledger, Proof, Vanished};
use mainstay_membership::{Member, Pending, View, directory_node};
use mainstay_wire::{
    client::Handle,
    dlm::{Body, Message, ResourceId},
    event::Reason,
    lock::{Flags, Granted},
};

const ME: NodeId = NodeId(1);
const MASTER: NodeId = NodeId(2);
const OTHER: NodeId = NodeId(3);
const LIFE: Incarnation = Incarnation(1);
const CLIENT: SessionId = SessionId(1);
const SPACE: LockspaceId = LockspaceId(1);
const NOW: Instant = Instant::ZERO;

fn boot(node: NodeId) -> BootId {
    BootId(u64::from(node.0) + 100)
}

fn view(epoch: u64, members: &[NodeId], gone: &[NodeId]) -> View {
    View {
        epoch: Epoch(epoch),
        members: members
            .iter()
            .map(|&node| Member {
                node,
                incarnation: LIFE,
                boot: boot(node),
                joined: Epoch(1),
            })
            .collect(),
        members_since: Epoch(epoch),
        quorate: true,
        pending: gone
            .iter()
            .map(|&node| Pending {
                node,
                incarnation: LIFE,
                boot: boot(node),
                left_epoch: Epoch(epoch),
                reason: Reason::HeartbeatsMissed,
                directory: vec![ME, MASTER, OTHER],
            })
            .collect(),
    }
}

fn proof(node: NodeId, left: u64) -> Fenced {
    let mut ledger = Ledger::new();
    ledger.enter(Vanished {
        node,
        incarnation: LIFE,
        boot: boot(node),
        left_epoch: Epoch(left),
    });
    let record = FencedRecord {
        node,
        incarnation: LIFE,
        proof: Proof::LeaseExpired,
        epoch: Epoch(left + 1),
        index: left + 1,
    };
    ledger.confirm(record).unwrap()
}

/// A name whose directory is `OTHER`, with all three members and without `MASTER`.
fn resource() -> ResourceId {
    let name = (0..)
        .map(|i| ResourceName::new(format!("r{i}")).unwrap())
        .find(|name| {
            [vec![ME, MASTER, OTHER], vec![ME, OTHER]]
                .iter()
                .all(|members| directory_node(members, SPACE, name) == Some(OTHER))
        })
        .unwrap();
    ResourceId { space: SPACE, name }
}

struct Node {
    dlm: Dlm,
    epoch: u64,
}

impl Node {
    fn heard(&mut self, from: NodeId, body: Body) {
        let message = Message {
            epoch: Epoch(self.epoch),
            body,
        };
        self.dlm.receive(NOW, from, boot(from), message);
    }

    /// What it says to `to`.
    fn said(&mut self, to: NodeId) -> Vec<Body> {
        let mut out = Vec::new();
        self.dlm.take_outputs(&mut out);
        out.into_iter()
            .filter_map(|out| match out {
                Out::Send { to: node, body } if node == to => Some(body),
                Out::Fatal(why) => panic!("{why}"),
                _ => None,
            })
            .collect()
    }

    fn install(&mut self, epoch: u64, members: &[NodeId], gone: &[NodeId]) {
        self.epoch = epoch;
        self.dlm.install(NOW, view(epoch, members, gone));
        self.dlm.view_settled(NOW);
    }
}

/// A member with one client that has asked for a lock, and sent the request to `MASTER`, which the
/// directory has named.
fn asking() -> (Node, LockId) {
    let mut node = Node {
        dlm: Dlm::new(ME),
        epoch: 0,
    };
    node.dlm.add_space(SPACE, 32);
    node.install(1, &[ME, MASTER, OTHER], &[]);
    node.dlm.set_active(NOW, true);
    for peer in [MASTER, OTHER] {
        node.heard(peer, Body::Registered { members: Epoch(1) });
    }
    node.dlm.open_session(CLIENT);
    let call = LockCall {
        handle: Handle(1),
        space: SPACE,
        name: resource().name,
        mode: LockMode::Ex,
        flags: Flags::NONE,
        blocking: false,
        deadline: None,
    };
    node.dlm.lock(NOW, CLIENT, 1, call);
    node.heard(
        OTHER,
        Body::MasterIs {
            resource: resource(),
            members: Epoch(1),
            master: MASTER,
        },
    );
    let said = node.said(MASTER);
    let lock = said.iter().find_map(|body| match body {
        Body::Request { lock, .. } => Some(*lock),
        _ => None,
    });
    (node, lock.expect("the request goes to the master"))
}

fn lose_master(node: &mut Node) -> Vec<Body> {
    node.install(2, &[ME, OTHER], &[MASTER]);
    node.epoch = 3;
    let mut settled = view(3, &[ME, OTHER], &[]);
    settled.members_since = Epoch(2);
    node.dlm.install(NOW, settled);
    node.dlm.recover(NOW, proof(MASTER, 2));
    node.dlm.view_settled(NOW);
    node.said(OTHER)
}

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
