//! Orphans where other nodes wait for them, and where users and nodes come and go.

#![allow(missing_docs, clippy::unwrap_used)]

#[allow(dead_code, reason = "other tests use the rest")]
mod world;

use mainstay_base::{
    AccessChange, AccessRule, FencePolicy, LockMode, LockspaceId, LockspaceName, ModeSet, NodeId,
    ResourceName, SessionId, Whom,
};
use mainstay_node::Input;
use mainstay_recorder::{Op, Record};
use mainstay_wire::{
    client::{Answer, Ask, Handle},
    event::{OrphanFate, Reason, What},
    lock::{Flags, Refusal},
    orphan::{OrphanWish, OrphansReport, PurgeReport},
    report::OwnerReport,
};
use std::time::Duration;
use world::World;

const N1: NodeId = NodeId(1);
const N2: NodeId = NodeId(2);
const N3: NodeId = NodeId(3);

fn cluster(nodes: u16) -> (World, LockspaceId) {
    let mut w = World::new(nodes, FencePolicy::Lease);
    w.settle();
    for node in 1..=nodes {
        w.open(NodeId(node), u64::from(node));
    }
    let space = w.space(N1, 1);
    for node in 2..=nodes {
        w.space(NodeId(node), u64::from(node));
    }
    (w, space)
}

/// A session of a user that is neither root nor the daemon's.
fn user(w: &mut World, node: NodeId, session: u64, uid: u32) {
    let opened = Input::SessionOpened {
        session: SessionId(session),
        owner: OwnerReport {
            pid: session as u32,
            uid,
            command: "user".to_owned(),
            orphan_ms: None,
            owner: mainstay_base::Owner::Session,
            broken: None,
        },
        group: uid,
        privileged: false,
    };
    w.input(node, opened);
}

fn close(w: &mut World, node: NodeId, session: u64) {
    let session = SessionId(session);
    w.input(node, Input::SessionClosed { session });
}

fn lock(w: &mut World, node: NodeId, session: u64, space: LockspaceId, name: &str) -> u64 {
    let ask = World::lock_ask(1, space, name, LockMode::Ex, Flags::PERSISTENT);
    w.ask(node, session, ask)
}

fn leave_behind(w: &mut World, node: NodeId, session: u64, space: LockspaceId, name: &str) {
    let request = lock(w, node, session, space, name);
    w.granted(node, request);
    close(w, node, session);
}

fn adopt(
    w: &mut World,
    node: NodeId,
    session: u64,
    space: LockspaceId,
    name: &str,
) -> Result<Answer, Refusal> {
    let ask = Ask::Adopt {
        handle: Handle(9),
        lockspace: space,
        name: ResourceName::new(name).unwrap(),
        mode: LockMode::Ex,
        flags: Flags::PERSISTENT,
        blocking: true,
    };
    let request = w.ask(node, session, ask);
    w.wait(node, request)
}

fn anywhere_ask(space: LockspaceId, mode: LockMode) -> Ask {
    Ask::AdoptAnywhere {
        handle: Handle(9),
        lockspace: space,
        name: ResourceName::new("vm").unwrap(),
        mode,
        flags: Flags::PERSISTENT,
        blocking: true,
    }
}

fn anywhere(
    w: &mut World,
    node: NodeId,
    session: u64,
    space: LockspaceId,
    mode: LockMode,
) -> Result<Answer, Refusal> {
    let request = w.ask(node, session, anywhere_ask(space, mode));
    w.wait(node, request)
}

fn list(w: &mut World, node: NodeId, session: u64) -> OrphansReport {
    let (wish, limit, after) = (OrphanWish::default(), 100, None);
    let request = w.ask(node, session, Ask::Orphans { wish, limit, after });
    match w.wait(node, request) {
        Ok(Answer::Orphans(report)) => *report,
        other => panic!("{other:?}"),
    }
}

fn names(report: &OrphansReport) -> Vec<String> {
    report.orphans.iter().map(|o| o.name.to_string()).collect()
}

fn purge(w: &mut World, node: NodeId, session: u64) -> PurgeReport {
    let wish = OrphanWish::default();
    let request = w.ask(node, session, Ask::PurgeOrphans { wish });
    match w.wait(node, request) {
        Ok(Answer::OrphansPurged(report)) => report,
        other => panic!("{other:?}"),
    }
}

/// Protects who waits for an orphan whose master dies, or whose node does: with the master gone it still
/// waits, and the orphan is adopted as before; with the orphan's node gone it is granted after the
/// proof, and the node that comes back has none.
#[test]
fn orphans_outlive_their_master_and_not_their_node() {
    let (mut w, space) = cluster(3);
    // The first user's node is the master.
    let ask = World::lock_ask(1, space, "disk", LockMode::Nl, Flags::NONE);
    let first = w.ask(N3, 3, ask);
    w.granted(N3, first);
    leave_behind(&mut w, N1, 1, space, "disk");
    let waiting = lock(&mut w, N2, 2, space, "disk");
    w.run(Duration::from_millis(50));
    w.kill(N3);
    w.until("the rest goes on without the master", |w| {
        let view = w.hosts[&N1].node.as_ref().unwrap().cluster_state().view();
        view.members.len() == 2 && view.pending.is_empty()
    });
    w.run(Duration::from_secs(1));
    assert_eq!(w.result(N2, waiting), None, "the orphan is still held");
    w.open(N1, 10);
    assert!(adopt(&mut w, N1, 10, space, "disk").is_ok());
    assert_eq!(w.result(N2, waiting), None, "the heir holds it");
    close(&mut w, N1, 10);
    assert_eq!(names(&list(&mut w, N2, 2)), ["disk"]);

    w.start(N3);
    w.settle();
    let lease_end = w.hosts[&N1].lease;
    w.kill(N1);
    w.granted(N2, waiting);
    assert!(
        w.now >= lease_end,
        "granted before its node's lease was over"
    );
    w.start(N1);
    w.settle();
    assert_eq!(names(&list(&mut w, N2, 2)), [""; 0]);
    w.open(N1, 11);
    let gone = adopt(&mut w, N1, 11, space, "disk");
    assert_eq!(gone, Err(Refusal::NoSuchOrphan));
}

/// Protects orphans of one user from others: they adopt and purge their own; the lockspace's owner and
/// root those of all; nobody adopts in a mode that the rules do not give it. All may look.
#[test]
fn orphans_are_their_users() {
    let mut w = World::new(1, FencePolicy::Lease);
    w.settle();
    w.open(N1, 1);
    for (session, uid) in [(10, 1000), (11, 1001), (12, 1002), (13, 1001), (14, 1001)] {
        user(&mut w, N1, session, uid);
    }
    let set = |w: &mut World, mode, rules: Vec<AccessRule>| {
        let access = AccessChange {
            rules: Some(rules),
            mode: Some(mode),
            ..AccessChange::default()
        };
        let name = LockspaceName::new("vms").unwrap();
        let request = w.ask(N1, 10, Ask::SetLockspace { name, access });
        w.wait(N1, request).unwrap();
    };
    let make = Ask::CreateLockspace {
        name: LockspaceName::new("vms").unwrap(),
        value_len: None,
        access: AccessChange::default(),
        fairness: mainstay_base::Fairness::default(),
        compat: mainstay_base::Compat::Strict,
    };
    let request = w.ask(N1, 10, make);
    let space = match w.wait(N1, request) {
        Ok(Answer::LockspaceSet(made)) => made.id,
        other => panic!("{other:?}"),
    };
    leave_behind(&mut w, N1, 11, space, "vm-1");
    leave_behind(&mut w, N1, 13, space, "vm-2");

    let refused = adopt(&mut w, N1, 12, space, "vm-1");
    assert!(matches!(refused, Err(Refusal::Denied(_))), "{refused:?}");
    assert_eq!(names(&list(&mut w, N1, 12)), ["vm-1", "vm-2"]);
    let report = purge(&mut w, N1, 12);
    assert_eq!((report.purged, report.denied), (0, 2));

    let reads = AccessRule {
        prefix: Vec::new(),
        whom: Whom::User(1001),
        modes: ModeSet::READ,
    };
    set(&mut w, 0o600, vec![reads]);
    let refused = adopt(&mut w, N1, 14, space, "vm-1").unwrap_err();
    assert!(refused.to_string().contains("not in ex"), "{refused}");
    assert_eq!(names(&list(&mut w, N1, 14)), ["vm-1", "vm-2"]);

    // The owner, also of others' orphans; and what its own user left behind needs no leave to be purged.
    set(&mut w, 0o666, Vec::new());
    assert!(adopt(&mut w, N1, 10, space, "vm-1").is_ok());
    let report = purge(&mut w, N1, 14);
    assert_eq!((report.purged, report.denied), (1, 0));
    close(&mut w, N1, 10);
    let report = purge(&mut w, N1, 14);
    assert_eq!((report.purged, report.denied), (0, 1));
    let report = purge(&mut w, N1, 1);
    assert_eq!((report.purged, report.denied), (1, 0));
}

/// Protects users from each other wherever they adopt, and the words by which a refusal says what was found; and
/// the process that adopts from a call that never ends because a node does not answer.
#[test]
fn orphans_are_adopted_from_other_nodes() {
    let (mut w, space) = cluster(3);
    user(&mut w, N3, 20, 1000);
    user(&mut w, N3, 21, 1001);
    user(&mut w, N1, 22, 1000);
    user(&mut w, N1, 23, 1001);
    leave_behind(&mut w, N3, 20, space, "vm");
    let asked = [(23, LockMode::Ex), (22, LockMode::Pr)];
    let refused = asked.map(|(session, mode)| anywhere(&mut w, N1, session, space, mode));
    assert!(matches!(refused[0], Err(Refusal::Denied(_))));
    assert_eq!(refused[1], Err(Refusal::OrphanInMode(LockMode::Ex)));
    let granted = anywhere(&mut w, N1, 22, space, LockMode::Ex);
    assert!(matches!(granted, Ok(Answer::Granted(_))), "{granted:?}");
    assert_eq!(names(&list(&mut w, N2, 2)).len(), 0);
    close(&mut w, N1, 22);
    let left = list(&mut w, N2, 2);
    assert_eq!(
        (left.orphans[0].node.as_str(), left.orphans[0].owner.pid),
        ("n1", 22)
    );
    // From its old node it comes back.
    user(&mut w, N3, 24, 1000);
    let granted = anywhere(&mut w, N3, 24, space, LockMode::Ex);
    assert!(matches!(granted, Ok(Answer::Granted(_))), "{granted:?}");
    let waiting = lock(&mut w, N2, 2, space, "vm");
    let unlock = World::unlock_ask(9, Flags::NONE);
    let request = w.ask(N3, 24, unlock);
    assert!(w.wait(N3, request).is_ok());
    w.granted(N2, waiting);

    let dumps = [N1, N2, N3].map(|node| {
        let node = w.hosts.get_mut(&node).unwrap().node.as_mut().unwrap();
        let dump = node.recorded("asked for");
        let (dump, entries) = mainstay_recorder::Dump::decode(&dump.encode()).unwrap();
        (dump.head, entries)
    });
    let verdict = mainstay_recorder::check(dumps.into(), Duration::from_millis(500));
    assert_eq!(verdict.findings, []);
    let fates = |node| {
        let events = w.hosts[&node].events.iter();
        let fates = events.filter_map(|event| match &event.what {
            What::Orphan { fate, .. } => Some(*fate),
            _ => None,
        });
        fates.collect::<Vec<_>>()
    };
    let (left, ceded) = (OrphanFate::Left, OrphanFate::Ceded);
    assert_eq!(fates(N1), [OrphanFate::Adopted { by: 22 }, left, ceded]);
    assert_eq!(fates(N3), [left, ceded, OrphanFate::Adopted { by: 24 }]);

    // Nobody has one, and node 3 does not say so.
    w.cut.insert((N3, N1));
    let ask = anywhere_ask(space, LockMode::Ex);
    let request = w.ask(N1, 23, ask);
    w.run(Duration::from_millis(1200));
    let silent = matches!(w.result(N1, request), Some(Err(Refusal::Unavailable(_))));
    let removed = w.result(N1, request) == Some(Err(Refusal::NoSuchOrphan));
    assert!(silent || removed, "{:?}", w.result(N1, request));
}

/// Protects what is known after an accident: the events and the flight recorder tell of what was left
/// behind, adopted and purged, and the dump, played again, shows nothing wrong.
#[test]
fn what_becomes_of_orphans_is_recorded() {
    let (mut w, space) = cluster(2);
    leave_behind(&mut w, N1, 1, space, "disk");
    w.open(N1, 10);
    assert!(adopt(&mut w, N1, 10, space, "disk").is_ok());
    close(&mut w, N1, 10);
    let waiting = lock(&mut w, N2, 2, space, "disk");
    w.run(Duration::from_millis(50));
    assert_eq!(w.result(N2, waiting), None, "the orphan is held");
    assert_eq!(purge(&mut w, N2, 2).purged, 1);
    w.granted(N2, waiting);
    let fates: Vec<_> = w.hosts[&N1]
        .events
        .iter()
        .filter_map(|event| match &event.what {
            What::Orphan { fate, .. } => Some((*fate, event.reason)),
            _ => None,
        })
        .collect();
    assert_eq!(
        fates,
        [
            (OrphanFate::Left, Reason::ClientGone),
            (OrphanFate::Adopted { by: 1 }, Reason::ClientAsked),
            (OrphanFate::Left, Reason::ClientGone),
            (OrphanFate::Purged, Reason::ClientAsked),
        ]
    );
    let dumps = [N1, N2].map(|node| {
        let node = w.hosts.get_mut(&node).unwrap().node.as_mut().unwrap();
        let dump = node.recorded("asked for");
        let (dump, entries) = mainstay_recorder::Dump::decode(&dump.encode()).unwrap();
        (dump.head, entries)
    });
    let ops: Vec<Op> = dumps[0]
        .1
        .iter()
        .filter_map(|entry| match &entry.record {
            Record::Own(own) => Some(own.op),
            _ => None,
        })
        .collect();
    assert_eq!(
        ops,
        [
            Op::Asked,
            Op::Granted,
            Op::Orphaned,
            Op::Adopted,
            Op::Orphaned,
            Op::OrphanPurged
        ]
    );
    let verdict = mainstay_recorder::check(dumps.into(), Duration::from_millis(500));
    assert_eq!(verdict.findings, []);
    assert!(verdict.claims >= 2, "{verdict:?}");
}
