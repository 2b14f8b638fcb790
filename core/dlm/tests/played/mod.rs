//! One lock manager whose peers are played by the test.

#![allow(dead_code, reason = "each test file uses a part of it")]

use mainstay_base::{
    BootId, Epoch, Fairness, Incarnation, Instant, LockId, LockMode, LockspaceId, NodeId,
    ResourceName, SessionId, Token,
};
use mainstay_dlm::{Dlm, LockCall, Out};
use mainstay_fencing::{Fenced, FencedRecord, Ledger, Proof, Vanished};
use mainstay_membership::{Member, Pending, View, directory_node};
use mainstay_wire::{
    client::Handle,
    dlm::{Body, Message, ResourceId, RestatedLock},
    event::Reason,
    lock::Flags,
};

pub(crate) const ME: NodeId = NodeId(1);
pub(crate) const MASTER: NodeId = NodeId(2);
pub(crate) const OTHER: NodeId = NodeId(3);
pub(crate) const LIFE: Incarnation = Incarnation(1);
pub(crate) const CLIENT: SessionId = SessionId(1);
pub(crate) const SPACE: LockspaceId = LockspaceId(1);
pub(crate) const NOW: Instant = Instant::ZERO;

pub(crate) fn boot(node: NodeId) -> BootId {
    BootId(u64::from(node.0) + 100)
}

pub(crate) fn view(epoch: u64, members: &[NodeId], gone: &[NodeId]) -> View {
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

pub(crate) fn proof(node: NodeId, left: u64, proof: Proof) -> Fenced {
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
        proof,
        epoch: Epoch(left + 1),
        index: left + 1,
    };
    ledger.confirm(record).unwrap()
}

/// A name that has the same directory with any of these sets of members.
pub(crate) fn name_at(directory: NodeId, views: &[&[NodeId]]) -> ResourceName {
    let is_at = |name: &ResourceName| {
        let directories = views.iter().map(|v| directory_node(v, SPACE, name));
        directories.into_iter().all(|node| node == Some(directory))
    };
    (0..)
        .map(|i| ResourceName::new(format!("r{i}")).unwrap())
        .find(is_at)
        .unwrap()
}

/// A name whose directory is `OTHER`, with all three members and without `MASTER`.
pub(crate) fn resource() -> ResourceId {
    ResourceId {
        space: SPACE,
        name: name_at(OTHER, &[&[ME, MASTER, OTHER], &[ME, OTHER]]),
    }
}

pub(crate) struct Node {
    pub(crate) dlm: Dlm,
    pub(crate) epoch: u64,
}

impl Node {
    pub(crate) fn heard(&mut self, from: NodeId, body: Body) {
        let message = Message {
            epoch: Epoch(self.epoch),
            body,
        };
        self.dlm.receive(NOW, from, boot(from), message);
    }

    /// What it says to `to`.
    pub(crate) fn said(&mut self, to: NodeId) -> Vec<Body> {
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

    pub(crate) fn install(&mut self, epoch: u64, members: &[NodeId], gone: &[NodeId]) {
        self.epoch = epoch;
        self.dlm.install(NOW, view(epoch, members, gone));
        self.dlm.view_settled(NOW);
    }
}

/// A member with one client; it does so many things in one slice.
pub(crate) fn joined(slice: u32) -> Node {
    let mut node = Node {
        dlm: Dlm::new(ME, slice),
        epoch: 0,
    };
    node.dlm.add_space(SPACE, 32, Fairness::default());
    node.install(1, &[ME, MASTER, OTHER], &[]);
    node.dlm.set_active(NOW, true);
    for peer in [MASTER, OTHER] {
        node.heard(peer, Body::Registered { members: Epoch(1) });
    }
    node.dlm.open_session(CLIENT);
    node
}

/// A member with one client that has asked for a lock.
pub(crate) fn member(name: ResourceName, mode: LockMode) -> Node {
    let mut node = joined(512);
    let call = LockCall {
        handle: Handle(1),
        space: SPACE,
        name,
        mode,
        flags: Flags::NONE,
        blocking: false,
        deadline: None,
    };
    node.dlm.lock(NOW, CLIENT, 1, call);
    node
}

/// A member whose client has asked for a lock, and that has sent the request to `MASTER`, which the
/// directory has named.
pub(crate) fn asking() -> (Node, LockId) {
    let mut node = member(resource().name, LockMode::Ex);
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

pub(crate) fn lose_master(node: &mut Node) -> Vec<Body> {
    node.install(2, &[ME, OTHER], &[MASTER]);
    prove_master_lost(node);
    node.said(OTHER)
}

pub(crate) fn prove_master_lost(node: &mut Node) {
    node.epoch = 3;
    let mut settled = view(3, &[ME, OTHER], &[]);
    settled.members_since = Epoch(2);
    node.dlm.install(NOW, settled);
    node.dlm.recover(NOW, proof(MASTER, 2, Proof::LeaseExpired));
    node.dlm.view_settled(NOW);
}

/// A resource of which this node is the directory, whoever else is there.
pub(crate) fn own_resource() -> ResourceId {
    ResourceId {
        space: SPACE,
        name: name_at(ME, &[&[ME, MASTER, OTHER], &[ME, OTHER], &[ME]]),
    }
}

/// A lock with a value block as its owner restates it.
pub(crate) fn restated_lock(lock: LockId, granted: (LockMode, Token)) -> RestatedLock {
    RestatedLock {
        lock,
        granted: Some(granted),
        pending: None,
        ticket: None,
        publish: None,
        blocking: false,
        valblk: true,
        value: None,
        unsure: false,
        watches: false,
    }
}
