//! Who may lock what, and how much: rules that all nodes have, limits of one node.

#![allow(missing_docs, clippy::unwrap_used)]

#[expect(dead_code, reason = "other tests need more of it")]
mod world;

use core::time::Duration;
use mainstay_base::{
    AccessChange, AccessRule, ByteRange, FencePolicy, LockMode, LockspaceId, LockspaceName,
    ModeSet, NodeId, ResourceName, SessionId, UserLimits, Whom,
};
use mainstay_node::Input;
use mainstay_wire::{
    client::{Answer, Ask, Handle},
    lock::{Flags, Refusal, ValueUpdate},
    report::{LockspaceAccess, OwnerReport},
    sets::{ConvertOne, OneDone, SetMember},
};
use world::World;

const N1: NodeId = NodeId(1);
const N2: NodeId = NodeId(2);

/// A session of a user that is neither root nor the daemon's.
fn user(w: &mut World, node: NodeId, session: u64, uid: u32, group: u32) {
    let owner = OwnerReport {
        pid: 1,
        uid,
        command: "user".to_owned(),
        orphan_ms: None,
        owner: mainstay_base::Owner::Session,
        broken: None,
    };
    let session = SessionId(session);
    let opened = Input::SessionOpened {
        session,
        owner,
        group,
        privileged: false,
    };
    w.input(node, opened);
}

fn name() -> LockspaceName {
    LockspaceName::new("vms").unwrap()
}

/// Root on node 1 (session 1), user 1000 on node 1 (10), users 1001 and 1002 on node 2 (11, 12), of whom
/// 1001 connects with group 100.
fn cluster() -> World {
    let mut w = World::new(2, FencePolicy::Lease);
    w.settle();
    w.open(N1, 1);
    user(&mut w, N1, 10, 1000, 1000);
    user(&mut w, N2, 11, 1001, 100);
    user(&mut w, N2, 12, 1002, 1002);
    w
}

fn ask(w: &mut World, node: NodeId, session: u64, ask: Ask) -> Result<Answer, Refusal> {
    let request = w.ask(node, session, ask);
    w.wait(node, request)
}

fn create(w: &mut World, access: AccessChange) -> LockspaceAccess {
    let make = Ask::CreateLockspace {
        name: name(),
        value_len: Some(48),
        access,
        fairness: mainstay_base::Fairness::default(),
        compat: mainstay_base::Compat::Strict,
    };
    match ask(w, N1, 10, make) {
        Ok(Answer::LockspaceSet(made)) => *made,
        other => panic!("{other:?}"),
    }
}

fn set(w: &mut World, node: NodeId, session: u64, access: AccessChange) -> Result<Answer, Refusal> {
    let name = name();
    ask(w, node, session, Ask::SetLockspace { name, access })
}

fn mode(mode: u16) -> AccessChange {
    AccessChange {
        mode: Some(mode),
        ..AccessChange::default()
    }
}

fn rules(rules: &[(&str, Whom, ModeSet)]) -> AccessChange {
    let rules = rules.iter().map(|(prefix, whom, modes)| AccessRule {
        prefix: prefix.as_bytes().to_vec(),
        whom: *whom,
        modes: *modes,
    });
    AccessChange {
        rules: Some(rules.collect()),
        ..AccessChange::default()
    }
}

fn open(w: &mut World, node: NodeId, session: u64) -> Result<Answer, Refusal> {
    let open = Ask::OpenLockspace {
        name: name(),
        value_len: None,
    };
    ask(w, node, session, open)
}

fn lock(
    w: &mut World,
    (node, session): (NodeId, u64),
    space: LockspaceId,
    (handle, name): (u64, &str),
    mode: LockMode,
) -> Result<Answer, Refusal> {
    ask(
        w,
        node,
        session,
        World::lock_ask(handle, space, name, mode, Flags::NONE),
    )
}

fn convert(handle: u64, mode: LockMode) -> Ask {
    Ask::Convert {
        handle: Handle(handle),
        mode,
        flags: Flags::NONE,
        blocking: true,
        value: None,
        timeout_ms: None,
    }
}

fn denied(result: Result<Answer, Refusal>, said: &str) {
    match result {
        Err(Refusal::Denied(text)) => assert!(text.contains(said), "{text}"),
        other => panic!("not denied: {other:?}"),
    }
}

/// Protects owners: a lockspace belongs to who makes it, is made once, and only the owner and root say
/// who may lock what, on whichever node; who is not let in cannot open it, and is told whom to ask.
#[test]
fn a_lockspace_belongs_to_its_maker() {
    let mut w = cluster();
    let made = create(&mut w, mode(0o600));
    assert_eq!(
        (made.access.owner, made.access.group, made.access.mode),
        (1000, 1000, 0o600)
    );
    assert_eq!(made.value_len, 48);
    let again = Ask::CreateLockspace {
        name: name(),
        value_len: None,
        access: AccessChange::default(),
        fairness: mainstay_base::Fairness::default(),
        compat: mainstay_base::Compat::Strict,
    };
    let refused = ask(&mut w, N1, 1, again).unwrap_err();
    assert!(refused.to_string().contains("exists already"), "{refused}");
    w.until("node 2 knows", |w| {
        let node = w.hosts[&N2].node.as_ref().unwrap();
        node.cluster_state().lockspace(&name()).is_some()
    });
    denied(
        open(&mut w, N2, 11),
        "user 1001 may lock nothing in lockspace vms, which belongs to user 1000",
    );
    denied(set(&mut w, N2, 11, mode(0o666)), "belongs to user 1000");
    let given = AccessChange {
        owner: Some(1001),
        ..AccessChange::default()
    };
    denied(set(&mut w, N1, 10, given.clone()), "only root");
    let odd = set(&mut w, N1, 10, mode(0o777)).unwrap_err();
    assert_eq!(odd.code(), "invalid");
    assert!(set(&mut w, N1, 1, given).is_ok());
    denied(set(&mut w, N1, 10, mode(0o666)), "belongs to user 1001");
    assert!(open(&mut w, N1, 1).is_ok(), "root is let in");
    let list = Ask::Lockspaces {
        after: None,
        limit: 10,
    };
    let Ok(Answer::Lockspaces {
        lockspaces,
        truncated,
    }) = ask(&mut w, N1, 10, list)
    else {
        panic!("no list");
    };
    assert_eq!(
        (lockspaces.len(), lockspaces[0].access.owner, truncated),
        (1, 1001, false)
    );
}

/// Protects the usual: a lockspace that is made by opening it is open to all, as it always was.
#[test]
fn what_is_opened_first_is_open_to_all() {
    let mut w = cluster();
    let Ok(Answer::Lockspace { id, .. }) = open(&mut w, N2, 11) else {
        panic!("not opened");
    };
    assert!(open(&mut w, N1, 10).is_ok());
    assert!(lock(&mut w, (N1, 10), id, (1, "x"), LockMode::Ex).is_ok());
    denied(set(&mut w, N1, 10, mode(0o600)), "belongs to user 1001");
    assert!(set(&mut w, N2, 11, mode(0o600)).is_ok());
    w.until("node 1 knows", |w| {
        let node = w.hosts[&N1].node.as_ref().unwrap();
        node.cluster_state().lockspace(&name()).unwrap().access.mode == 0o600
    });
    denied(
        lock(&mut w, (N1, 10), id, (2, "y"), LockMode::Nl),
        "in no mode",
    );
    let unlock = Ask::Unlock {
        handle: Handle(1),
        flags: Flags::NONE,
        value: None,
    };
    assert!(
        ask(&mut w, N1, 10, unlock).is_ok(),
        "what is held may always go"
    );
}

/// Protects names by rules: each call for a lock or a stronger mode is judged by them at the caller's
/// node, alternates included, and says what would be allowed; a weaker mode is never refused.
#[test]
fn rules_are_kept_where_locks_are_asked_for() {
    let mut w = cluster();
    let all = ModeSet::ALL;
    let made = create(
        &mut w,
        rules(&[
            ("vm-", Whom::All, ModeSet::READ),
            ("vm-", Whom::Group(100), all),
        ]),
    );
    let space = made.id;
    w.until("node 2 knows", |w| {
        let node = w.hosts[&N2].node.as_ref().unwrap();
        node.cluster_state().lockspace(&name()).is_some()
    });
    assert!(lock(&mut w, (N2, 12), space, (1, "vm-1"), LockMode::Pr).is_ok());
    denied(
        lock(&mut w, (N2, 12), space, (2, "vm-1"), LockMode::Ex),
        "user 1002 may lock vms/vm-1 only in nl, cr, pr, not in ex",
    );
    assert!(lock(&mut w, (N2, 12), space, (2, "db"), LockMode::Ex).is_ok());
    assert!(lock(&mut w, (N2, 11), space, (1, "vm-2"), LockMode::Ex).is_ok());
    let alternate = World::lock_ask(
        3,
        space,
        "vm-1",
        LockMode::Pr,
        Flags::ALTCW | Flags::NOQUEUE,
    );
    denied(ask(&mut w, N2, 12, alternate), "not in cw");
    denied(
        ask(&mut w, N2, 12, World::convert_ask(1, LockMode::Pw, None)),
        "not in pw",
    );
    assert!(set(&mut w, N1, 10, rules(&[("", Whom::All, ModeSet::NONE)])).is_ok());
    w.until("node 2 knows", |w| {
        let node = w.hosts[&N2].node.as_ref().unwrap();
        node.cluster_state()
            .lockspace(&name())
            .unwrap()
            .access
            .rules
            .len()
            == 1
    });
    assert!(ask(&mut w, N2, 12, World::convert_ask(1, LockMode::Cr, None)).is_ok());
    denied(
        ask(&mut w, N2, 12, World::convert_ask(1, LockMode::Pr, None)),
        "in no mode",
    );
}

/// Protects the same names by other doors: ranges, and updates of values, which need no mode.
#[test]
fn rules_hold_for_ranges_and_updates() {
    let mut w = cluster();
    let made = create(&mut w, rules(&[("vm-", Whom::All, ModeSet::READ)]));
    let space = made.id;
    w.until("node 2 knows", |w| {
        let node = w.hosts[&N2].node.as_ref().unwrap();
        node.cluster_state().lockspace(&name()).is_some()
    });
    let range = |handle, name: &str, mode| Ask::Range {
        handle: Handle(handle),
        lockspace: space,
        name: ResourceName::new(name).unwrap(),
        range: ByteRange::new(0, 9).unwrap(),
        mode,
        flags: Flags::NONE,
        blocking: false,
        timeout_ms: None,
    };
    assert!(ask(&mut w, N2, 12, range(1, "vm-1", LockMode::Pr)).is_ok());
    denied(
        ask(&mut w, N2, 12, range(1, "vm-1", LockMode::Ex)),
        "not in ex",
    );
    let add = |handle| Ask::UpdateValue {
        handle: Handle(handle),
        update: ValueUpdate::Add { delta: 1 },
    };
    for (handle, name) in [(2, "vm-2"), (3, "db")] {
        assert!(lock(&mut w, (N2, 12), space, (handle, name), LockMode::Cr).is_ok());
    }
    denied(ask(&mut w, N2, 12, add(2)), "not in pw");
    assert!(ask(&mut w, N2, 12, add(3)).is_ok());
    assert!(set(&mut w, N1, 10, rules(&[("", Whom::All, ModeSet::NONE)])).is_ok());
    w.until("node 2 knows", |w| {
        let node = w.hosts[&N2].node.as_ref().unwrap();
        let lockspace = node.cluster_state().lockspace(&name());
        lockspace.unwrap().access.rules[0].prefix.is_empty()
    });
    let given_up = ask(&mut w, N2, 12, range(1, "vm-1", LockMode::Nl));
    assert!(given_up.is_ok(), "what is held may always go");
}

/// Protects the others from one user: locks and waiting calls beyond its limits are refused with what is
/// used and what would help, and what goes, by whatever way, makes room again.
#[test]
fn users_are_limited() {
    let mut w = World::new(1, FencePolicy::Lease);
    w.settle();
    let limits = UserLimits {
        locks: Some(3),
        sessions: Some(2),
        waiting: Some(1),
        lockspaces: None,
    };
    w.hosts
        .get_mut(&N1)
        .unwrap()
        .node
        .as_mut()
        .unwrap()
        .limit_users(limits);
    w.open(N1, 1);
    for session in [10, 11] {
        user(&mut w, N1, session, 1000, 1000);
    }
    user(&mut w, N1, 12, 1001, 1001);
    let connect = |w: &World, uid, privileged| {
        let node = w.hosts[&N1].node.as_ref().unwrap();
        node.may_connect(uid, privileged)
    };
    let refused = connect(&w, 1000, false).unwrap_err().to_string();
    assert!(
        refused.contains("user 1000 has 2 sessions on this node, and may have 2"),
        "{refused}"
    );
    assert!(connect(&w, 1001, false).is_ok() && connect(&w, 1000, true).is_ok());

    let space = w.space(N1, 10);
    for (session, handle) in [(10, 1), (10, 2), (11, 3)] {
        assert!(
            lock(
                &mut w,
                (N1, session),
                space,
                (handle, &format!("r{handle}")),
                LockMode::Ex
            )
            .is_ok()
        );
    }
    let refused = lock(&mut w, (N1, 11), space, (4, "r4"), LockMode::Ex).unwrap_err();
    assert_eq!(refused.code(), "limit");
    let said = "user 1000 has 3 locks on this node, and may have 3 (`locks-per-user`";
    assert!(refused.to_string().contains(said), "{refused}");
    assert!(lock(&mut w, (N1, 12), space, (1, "other"), LockMode::Ex).is_ok());
    let unlock = Ask::Unlock {
        handle: Handle(2),
        flags: Flags::NONE,
        value: None,
    };
    assert!(ask(&mut w, N1, 10, unlock).is_ok());

    // Two lockers of other users' locks: the first waits, the second may not.
    let waits = World::lock_ask(5, space, "other", LockMode::Ex, Flags::NONE);
    let waiting = w.ask(N1, 11, waits);
    let refused = ask(&mut w, N1, 10, convert(1, LockMode::Nl));
    assert!(refused.is_ok(), "a weaker mode does not wait");
    let refused = ask(&mut w, N1, 10, convert(1, LockMode::Pr)).unwrap_err();
    assert!(
        refused
            .to_string()
            .contains("1 calls of user 1000 wait on this node, or are under way, and 1 may"),
        "{refused}"
    );
    let cancel = Ask::Cancel { handle: Handle(5) };
    assert!(ask(&mut w, N1, 11, cancel).is_ok());
    assert_eq!(w.wait(N1, waiting), Err(Refusal::Cancelled));
    assert!(ask(&mut w, N1, 10, convert(1, LockMode::Pr)).is_ok());

    // A session that waits ends: its locks and its wait are gone.
    let waits = World::lock_ask(6, space, "other", LockMode::Ex, Flags::NONE);
    w.ask(N1, 11, waits);
    w.input(
        N1,
        Input::SessionClosed {
            session: SessionId(11),
        },
    );
    for handle in [7, 8] {
        assert!(
            lock(
                &mut w,
                (N1, 10),
                space,
                (handle, &format!("r{handle}")),
                LockMode::Ex
            )
            .is_ok()
        );
    }
    assert_eq!(
        lock(&mut w, (N1, 10), space, (9, "r9"), LockMode::Ex)
            .unwrap_err()
            .code(),
        "limit"
    );
}

/// Protects what is held from rules that came later, in ranges as well: it may be kept in a weaker mode,
/// and more of it may not be had.
#[test]
fn held_ranges_may_be_weakened() {
    let mut w = cluster();
    let space = create(&mut w, AccessChange::default()).id;
    let range = |mode, end| Ask::Range {
        handle: Handle(1),
        lockspace: space,
        name: ResourceName::new("disk").unwrap(),
        range: ByteRange::new(0, end).unwrap(),
        mode,
        flags: Flags::NONE,
        blocking: false,
        timeout_ms: None,
    };
    assert!(ask(&mut w, N2, 12, range(LockMode::Ex, 9)).is_ok());
    set(&mut w, N1, 10, mode(0o600)).unwrap();
    w.run(Duration::from_millis(1000));
    denied(ask(&mut w, N2, 12, range(LockMode::Pr, 10)), "in no mode");
    assert!(ask(&mut w, N2, 12, range(LockMode::Pr, 9)).is_ok());
    denied(ask(&mut w, N2, 12, range(LockMode::Ex, 9)), "in no mode");
    assert!(ask(&mut w, N2, 12, range(LockMode::Nl, 9)).is_ok());
}

/// Protects the cluster's lockspaces from one user: it may own so many, those included that it has just
/// asked for, and use those of others.
#[test]
fn users_own_few_lockspaces() {
    let mut w = cluster();
    let limits = UserLimits {
        lockspaces: Some(2),
        ..UserLimits::default()
    };
    let node = w.hosts.get_mut(&N1).unwrap().node.as_mut().unwrap();
    node.limit_users(limits);
    let open = |name: &str| Ask::OpenLockspace {
        name: LockspaceName::new(name).unwrap(),
        value_len: None,
    };
    let asked = ["a", "b", "c"].map(|name| w.ask(N1, 10, open(name)));
    let answers = asked.map(|request| w.wait(N1, request));
    assert!(answers[0].is_ok() && answers[1].is_ok());
    let refused = answers[2].as_ref().unwrap_err();
    assert_eq!(refused.code(), "limit");
    let said = "user 1000 owns 2 lockspaces, and may own 2 (`lockspaces-per-user`";
    assert!(refused.to_string().contains(said), "{refused}");
    assert!(ask(&mut w, N1, 1, open("c")).is_ok(), "root may");
    assert!(ask(&mut w, N1, 10, open("c")).is_ok(), "it exists now");
}

/// Protects memory from clients that wish for lockspaces and go, again and again, while nobody can make
/// any; and the wish of one that stays.
#[test]
fn wishes_go_with_their_clients() {
    let mut w = cluster();
    w.cut.extend([(N1, N2), (N2, N1)]);
    w.run(Duration::from_millis(3000));
    for session in 100..150 {
        user(&mut w, N1, session, 1000, 1000);
        let names = [format!("of-{session}"), "shared".to_owned()];
        for name in names {
            let open = Ask::OpenLockspace {
                name: LockspaceName::new(name).unwrap(),
                value_len: None,
            };
            w.ask(N1, session, open);
        }
        if session > 100 {
            let session = SessionId(session);
            w.input(N1, Input::SessionClosed { session });
        }
    }
    w.cut.clear();
    w.run(Duration::from_millis(5000));
    let node = w.hosts[&N1].node.as_ref().unwrap();
    let there = node.cluster_state().lockspaces();
    let names: Vec<&str> = there.map(|l| l.name.as_str()).collect();
    assert_eq!(names, ["of-100", "shared"]);
}

/// Protects who has read the rules and changes them: what others have changed meanwhile is not undone.
#[test]
fn changes_of_access_do_not_undo_each_other() {
    let mut w = cluster();
    let made = create(&mut w, AccessChange::default());
    let since = |change: AccessChange| AccessChange {
        revision: Some(made.access.revision),
        ..change
    };
    assert!(set(&mut w, N1, 10, since(mode(0o640))).is_ok());
    let late = set(&mut w, N1, 1, since(mode(0o600))).unwrap_err();
    assert!(
        late.to_string().contains("changed the lockspace meanwhile"),
        "{late}"
    );
    assert!(set(&mut w, N1, 1, mode(0o600)).is_ok());
}

/// Protects nodes from a state that no snapshot can hold: all lockspaces with all their rules fit one, with
/// room for the rest.
#[test]
fn all_lockspaces_fit_a_snapshot() {
    let most = mainstay_membership::LOCKSPACES_LEN_MAX;
    assert!(most + (96 << 10) <= mainstay_consensus::SNAPSHOT_LEN_MAX);
}

fn set_of(space: LockspaceId, members: &[(u64, &str, LockMode, Flags)], flags: Flags) -> Ask {
    let members = members.iter().map(|(handle, name, mode, flags)| SetMember {
        handle: Handle(*handle),
        name: ResourceName::new(*name).unwrap(),
        mode: *mode,
        flags: *flags,
        blocking: false,
    });
    Ask::LockSet {
        lockspace: space,
        members: members.collect(),
        flags,
        timeout_ms: None,
    }
}

/// Protects rules from being got round by sets and by calls in bulk: each lock is checked, a set with one
/// that is forbidden leaves nothing, and what one conversion gives up the next does not get back.
#[test]
fn sets_and_bulk_calls_keep_to_the_rules() {
    let mut w = cluster();
    let read = |prefix| (prefix, Whom::All, ModeSet::READ);
    create(&mut w, rules(&[read("log-")]));
    w.until("node 2 knows", |w| {
        let node = w.hosts[&N2].node.as_ref().unwrap();
        node.cluster_state().lockspace(&name()).is_some()
    });
    let Ok(Answer::Lockspace { id: space, .. }) = open(&mut w, N2, 11) else {
        panic!("not opened");
    };
    for (mode, flags) in [(LockMode::Ex, Flags::NONE), (LockMode::Pr, Flags::ALTCW)] {
        let members = [
            (1, "vm", LockMode::Ex, Flags::NONE),
            (2, "log-1", mode, flags),
            (3, "db", LockMode::Ex, Flags::NONE),
        ];
        match ask(&mut w, N2, 11, set_of(space, &members, Flags::NONE)) {
            Err(Refusal::OfSet(member)) => {
                assert_eq!(
                    (member.place, member.name.to_string()),
                    (1, "log-1".to_owned())
                );
                assert_eq!(member.why.code(), "denied", "{}", member.why);
            }
            other => panic!("{other:?}"),
        }
    }
    for name in ["vm", "db"] {
        let free = World::lock_ask(9, space, name, LockMode::Ex, Flags::NOQUEUE);
        assert!(ask(&mut w, N1, 10, free).is_ok(), "{name} is left");
        let unlock = Ask::Unlock {
            handle: Handle(9),
            flags: Flags::NONE,
            value: None,
        };
        assert!(ask(&mut w, N1, 10, unlock).is_ok());
    }
    let members = [
        (1, "vm", LockMode::Ex, Flags::NONE),
        (2, "log-1", LockMode::Pr, Flags::NONE),
    ];
    let taken = ask(&mut w, N2, 11, set_of(space, &members, Flags::NONE));
    assert!(taken.is_ok(), "{taken:?}");

    // From now on nobody may have `vm` in a mode that writes; who has it keeps it.
    assert!(set(&mut w, N1, 10, rules(&[read("log-"), read("vm")])).is_ok());
    w.until("node 2 knows", |w| {
        let node = w.hosts[&N2].node.as_ref().unwrap();
        let lockspace = node.cluster_state().lockspace(&name());
        lockspace.unwrap().access.rules.len() == 2
    });
    let one = |handle, mode| ConvertOne {
        handle: Handle(handle),
        mode,
        flags: Flags::NONE,
        blocking: false,
        value: None,
    };
    let locks = vec![
        one(1, LockMode::Ex),
        one(2, LockMode::Ex),
        one(2, LockMode::Nl),
        one(2, LockMode::Pr),
        one(1, LockMode::Nl),
        one(1, LockMode::Ex),
    ];
    let timeout_ms = None;
    // One at a time, so that each meets what those before it left.
    let mut results = Vec::new();
    for one in locks {
        let locks = vec![one];
        match ask(&mut w, N2, 11, Ask::ConvertMany { locks, timeout_ms }) {
            Ok(Answer::Many { results: more }) => results.extend(more),
            other => panic!("{other:?}"),
        }
    }
    let denied = |at: usize| matches!(&results[at], Err(Refusal::Denied(_)));
    let denials: Vec<usize> = (0..6).filter(|at| denied(*at)).collect();
    assert_eq!(denials, [1, 5], "{results:?}");
    assert!(results.iter().filter(|r| r.is_ok()).count() == 4);
}

/// Protects rules where a bulk call names a lock twice, on the node that masters it, so that the first
/// conversion is done when the second begins: what was given up is not covered by what was held.
#[test]
fn a_bulk_call_does_not_get_back_what_it_gave_up() {
    let mut w = cluster();
    create(&mut w, AccessChange::default());
    let Ok(Answer::Lockspace { id: space, .. }) = open(&mut w, N1, 10) else {
        panic!("not opened");
    };
    assert!(lock(&mut w, (N1, 10), space, (1, "vm"), LockMode::Ex).is_ok());
    let reads = rules(&[("vm", Whom::All, ModeSet::READ)]);
    assert!(set(&mut w, N1, 10, reads).is_ok());
    let one = |mode| ConvertOne {
        handle: Handle(1),
        mode,
        flags: Flags::NONE,
        blocking: false,
        value: None,
    };
    let ask_many = Ask::ConvertMany {
        locks: vec![one(LockMode::Nl), one(LockMode::Ex), one(LockMode::Pr)],
        timeout_ms: None,
    };
    let Ok(Answer::Many { results }) = ask(&mut w, N1, 10, ask_many) else {
        panic!("no answer for each");
    };
    assert!(
        matches!(results[0], Ok(OneDone::Granted { .. })),
        "{results:?}"
    );
    assert!(matches!(results[1], Err(Refusal::Denied(_))), "{results:?}");
    assert!(
        matches!(results[2], Ok(OneDone::Granted { .. })),
        "{results:?}"
    );
}

/// Protects the others from one user's sets: all locks of a set count from the moment it is asked for,
/// granted or not, and none when it has ended.
#[test]
fn sets_count_for_their_user() {
    let mut w = World::new(1, FencePolicy::Lease);
    w.settle();
    let limits = UserLimits {
        locks: Some(4),
        waiting: Some(1),
        ..UserLimits::default()
    };
    let node = w.hosts.get_mut(&N1).unwrap().node.as_mut().unwrap();
    node.limit_users(limits);
    for session in [10, 11, 12] {
        user(&mut w, N1, session, 1000, 1000);
    }
    user(&mut w, N1, 20, 1001, 1001);
    let space = w.space(N1, 10);
    assert!(lock(&mut w, (N1, 20), space, (1, "b"), LockMode::Ex).is_ok());
    let of = |names: &[&'static str]| -> Vec<(u64, &str, LockMode, Flags)> {
        let named = (1..).zip(names);
        named
            .map(|(h, name)| (h, *name, LockMode::Ex, Flags::NONE))
            .collect()
    };
    let (three, five) = (of(&["a", "b", "c"]), of(&["p", "q", "r", "s", "t"]));
    let refused = ask(&mut w, N1, 10, set_of(space, &five, Flags::NONE)).unwrap_err();
    assert_eq!(refused.code(), "limit");
    let said = "user 1000 has 0 locks on this node, asks for 5 more at once, and may have 4";
    assert!(refused.to_string().contains(said), "{refused}");
    let full = |w: &mut World| {
        let one = lock(w, (N1, 11), space, (1, "x"), LockMode::Nl);
        let two = lock(w, (N1, 11), space, (2, "y"), LockMode::Nl);
        for handle in [1, 2] {
            let unlock = Ask::Unlock {
                handle: Handle(handle),
                flags: Flags::NONE,
                value: None,
            };
            let _ = ask(w, N1, 11, unlock);
        }
        (one.is_err(), two.is_err())
    };

    // It waits for `b`, with `a` in hand and `c` not even asked for. Three of four count.
    let waits = w.ask(N1, 10, set_of(space, &three, Flags::NONE));
    let nowait = |name| World::lock_ask(9, space, name, LockMode::Ex, Flags::NOQUEUE);
    assert!(ask(&mut w, N1, 11, nowait("x")).is_ok());
    let refused = ask(&mut w, N1, 12, nowait("y")).unwrap_err();
    assert!(refused.to_string().contains("has 4 locks"), "{refused}");
    let free = Ask::Unlock {
        handle: Handle(9),
        flags: Flags::NONE,
        value: None,
    };
    assert!(ask(&mut w, N1, 11, free).is_ok());
    // It is a call that waits, so another may not.
    let one = of(&["z"]);
    let refused = ask(&mut w, N1, 11, set_of(space, &one, Flags::NONE)).unwrap_err();
    assert!(
        refused.to_string().contains("1 calls of user 1000 wait"),
        "{refused}"
    );
    let tried = ask(&mut w, N1, 11, set_of(space, &one, Flags::NOQUEUE));
    assert!(tried.is_ok(), "{tried:?}");
    let session = SessionId(11);
    w.input(N1, Input::SessionClosed { session });
    user(&mut w, N1, 11, 1000, 1000);

    let cancel = Ask::Cancel { handle: Handle(3) };
    assert!(ask(&mut w, N1, 10, cancel).is_ok());
    assert!(w.wait(N1, waits).is_err());
    assert_eq!(full(&mut w), (false, false), "nothing counts any more");

    // A client that goes with its set, before and after it is granted.
    for granted in [false, true] {
        if granted {
            let unlock = Ask::Unlock {
                handle: Handle(1),
                flags: Flags::NONE,
                value: None,
            };
            assert!(ask(&mut w, N1, 20, unlock).is_ok());
        }
        let request = w.ask(N1, 12, set_of(space, &three, Flags::NONE));
        w.run(std::time::Duration::from_millis(50));
        assert_eq!(w.result(N1, request).is_some_and(|r| r.is_ok()), granted);
        if granted {
            assert_eq!(full(&mut w), (false, true), "three of four are had");
        }
        let session = SessionId(12);
        w.input(N1, Input::SessionClosed { session });
        user(&mut w, N1, 12, 1000, 1000);
        assert_eq!(full(&mut w), (false, false), "nothing counts any more");
    }
}
