use super::*;
use crate::{FoundingNode, Member};
use mainstay_base::{Access, AccessChange, AccessRule, ModeSet, NodeName, Whom};
use mainstay_wire::event::Reason;

fn founding(votes: &[u32]) -> Founding {
    let nodes = (1u16..).zip(votes).map(|(id, votes)| FoundingNode {
        spec: NodeSpec {
            id: NodeId(id),
            name: NodeName::new(format!("n{id}")).expect("a valid name"),
            votes: *votes,
            links: 1,
        },
        disk: Some(DiskId(u64::from(id) + 100)),
    });
    Founding {
        cluster: "test".to_owned(),
        id: ClusterId(77),
        nodes: nodes.collect(),
        timings: Timings::default(),
        fencing: FencePolicy::Lease,
    }
}

pub(super) struct Log {
    pub(super) state: ClusterState,
    index: u64,
}

impl Log {
    pub(super) fn founded(votes: &[u32]) -> Log {
        let mut log = Log {
            state: ClusterState::new(),
            index: 0,
        };
        log.add(Command::Found(founding(votes)));
        log
    }

    pub(super) fn add(&mut self, command: Command) -> Vec<Change> {
        self.index += 1;
        let bytes = command.encode();
        let command = Command::decode(&bytes).expect("what was encoded decodes");
        self.state.apply(self.index, &command)
    }

    pub(super) fn join(&mut self, node: u16, boot: u64) -> Vec<Change> {
        let after = self.state.incarnation(NodeId(node));
        self.add(Command::Join {
            node: NodeId(node),
            boot: BootId(boot),
            after,
        })
    }

    pub(super) fn remove(&mut self, node: u16, incarnation: u64) -> Vec<Change> {
        self.add(Command::Remove {
            node: NodeId(node),
            incarnation: Incarnation(incarnation),
            reason: Reason::HeartbeatsMissed,
            detail: "test".to_owned(),
        })
    }

    pub(super) fn fence(&mut self, node: u16, incarnation: u64) -> Vec<Change> {
        self.add(Command::Fenced {
            node: NodeId(node),
            incarnation: Incarnation(incarnation),
            proof: Proof::LeaseExpired,
        })
    }

    fn members(&self) -> Vec<(u16, u64, u64)> {
        let of = |m: &Member| (m.node.0, m.incarnation.0, m.boot.0);
        self.state.view().members.iter().map(of).collect()
    }
}

fn view(changes: &[Change]) -> &View {
    match changes.first() {
        Some(Change::View { view, .. }) => view,
        other => panic!("expected a view first, got {other:?}"),
    }
}

/// Protects S5: half of the votes are no quorum, and every change is a new epoch.
#[test]
fn a_view_is_quorate_with_more_than_half_of_all_votes() {
    let mut log = Log::founded(&[1, 1, 1, 1]);
    assert_eq!(log.state.view().epoch, Epoch(1));
    for (node, quorate) in [(1, false), (2, false), (3, true), (4, true)] {
        let changes = log.join(node, 10 + u64::from(node));
        assert_eq!(view(&changes).quorate, quorate, "after node {node}");
    }
    assert_eq!(log.state.view().epoch, Epoch(5));
}

/// Protects the incarnation as the owner of locks: a restart ends the old one and begins the next.
#[test]
fn a_restarted_node_replaces_its_own_past_in_one_view() {
    let mut log = Log::founded(&[1, 1, 1]);
    log.join(1, 11);
    log.join(2, 12);
    let changes = log.join(2, 22);
    assert_eq!(changes.len(), 1);
    let view = view(&changes);
    assert_eq!(log.members(), [(1, 1, 11), (2, 2, 22)]);
    assert_eq!(view.pending.len(), 1);
    let old = &view.pending[0];
    assert_eq!((old.node, old.incarnation), (NodeId(2), Incarnation(1)));
    assert_eq!(
        (old.left_epoch, old.reason),
        (view.epoch, Reason::Restarted)
    );
    assert_eq!(old.directory, [NodeId(1), NodeId(2)]);
}

/// Protects a removed life from coming back, by whatever proposal that was under way.
#[test]
fn a_boot_joins_at_most_once() {
    let mut log = Log::founded(&[1, 1, 1]);
    log.join(1, 11);
    assert!(log.join(1, 11).is_empty(), "it is a member already");
    log.remove(1, 1);
    assert!(log.join(1, 11).is_empty(), "it was removed");
    assert!(log.state.is_retired(NodeId(1), BootId(11)));
    let late = Command::Join {
        node: NodeId(1),
        boot: BootId(99),
        after: Incarnation(0),
    };
    assert!(
        log.add(late).is_empty(),
        "it was proposed before incarnation 1"
    );
    assert_eq!(log.join(1, 12).len(), 1);
    assert_eq!(log.members(), [(1, 2, 12)]);
}

/// Protects S4: proof comes for pending incarnations only, once, and as a view of its own.
#[test]
fn a_proof_takes_an_incarnation_out_of_pending_once() {
    let mut log = Log::founded(&[1, 1, 1]);
    log.join(1, 11);
    log.join(2, 12);
    assert!(log.fence(2, 1).is_empty(), "a member cannot be fenced");
    log.remove(2, 1);
    assert!(log.remove(2, 1).is_empty(), "it is no member any more");
    let epoch = log.state.view().epoch;
    let changes = log.fence(2, 1);
    assert_eq!(view(&changes).epoch, epoch.next());
    assert!(view(&changes).pending.is_empty());
    let Some(Change::Fenced(fenced)) = changes.get(1) else {
        panic!("no proof in {changes:?}");
    };
    assert_eq!(fenced.vanished.directory, [NodeId(1), NodeId(2)]);
    assert_eq!(fenced.record.epoch, epoch.next());
    assert!(log.fence(2, 1).is_empty(), "it is settled");
}

/// Protects L2: a clean leave is never pending, so nobody waits for it.
#[test]
fn a_clean_leave_is_proved_at_once() {
    let mut log = Log::founded(&[1, 1, 1]);
    log.join(1, 11);
    log.join(2, 12);
    let changes = log.add(Command::Leave {
        node: NodeId(2),
        incarnation: Incarnation(1),
    });
    assert!(view(&changes).pending.is_empty());
    assert!(matches!(
        &changes[1],
        Change::Fenced(f) if f.record.proof == Proof::LeftCleanly
    ));
}

/// Protects clients that race for a lockspace: both get the same one.
#[test]
fn a_lockspace_is_created_once_per_name() {
    let mut log = Log::founded(&[1]);
    let create = |name: &str, value_len| Command::CreateLockspace {
        fairness: mainstay_base::Fairness::default(),
        compat: mainstay_base::Compat::Strict,
        access: mainstay_base::Access::open_to_all(0, 0),
        name: LockspaceName::new(name).expect("a valid name"),
        value_len,
        origin: RequestOrigin {
            node: NodeId(1),
            boot: BootId(11),
            request: 5,
        },
    };
    let created = |changes: Vec<Change>| match changes.as_slice() {
        [
            Change::Lockspace {
                lockspace, created, ..
            },
        ] => (lockspace.id.0, lockspace.value_len, *created),
        other => panic!("expected a lockspace, got {other:?}"),
    };
    assert_eq!(created(log.add(create("default", 32))), (1, 32, true));
    assert_eq!(created(log.add(create("default", 64))), (1, 32, false));
    assert_eq!(created(log.add(create("other", 4096))), (2, 4096, true));
    let refused = log.add(create("huge", 4097));
    assert!(matches!(
        refused.as_slice(),
        [Change::LockspaceRefused { .. }]
    ));
    let follow = |name, value_len, compat| match create(name, value_len) {
        Command::CreateLockspace {
            name,
            value_len,
            origin,
            access,
            fairness,
            ..
        } => Command::CreateLockspace {
            name,
            value_len,
            origin,
            access,
            fairness,
            compat,
        },
        other => other,
    };
    let vms = mainstay_base::Compat::Vms;
    assert_eq!(created(log.add(follow("vms", 16, vms))), (3, 16, true));
    for len in [15, 32] {
        let refused = log.add(follow("vms-2", len, vms));
        assert!(
            matches!(refused.as_slice(), [Change::LockspaceRefused { .. }]),
            "{len}"
        );
    }
    let kept = ClusterState::decode(&log.state.encode()).expect("just encoded");
    let name = LockspaceName::new("vms").expect("a valid name");
    assert_eq!(kept.lockspace(&name).map(|l| l.compat), Some(vms));
    assert_eq!(kept, log.state);
}

/// Protects the log's replay after a restart: what is applied again changes nothing.
#[test]
fn commands_apply_once_and_in_order() {
    let mut log = Log::founded(&[1, 1, 1]);
    log.join(1, 11);
    let before = log.state.clone();
    let join = Command::Join {
        node: NodeId(2),
        boot: BootId(12),
        after: Incarnation(0),
    };
    assert!(log.state.apply(2, &join).is_empty(), "index 2 was applied");
    assert_eq!(log.state, before);
    assert!(
        log.add(Command::Found(founding(&[5]))).is_empty(),
        "founded once only"
    );
}

/// Protects D1: a snapshot carries everything, and damage is an error, never a panic.
#[test]
fn a_snapshot_carries_the_whole_state() {
    let mut log = Log::founded(&[1, 1, 1]);
    log.join(1, 11);
    log.join(2, 12);
    log.remove(2, 1);
    let bytes = log.state.encode();
    assert_eq!(ClusterState::decode(&bytes).as_ref(), Ok(&log.state));
    assert_eq!(ClusterState::decode(&[]), Err(StateError::Empty));
    assert_eq!(
        ClusterState::decode(&[9]),
        Err(StateError::Version { found: 9 })
    );
    for len in 1..bytes.len() {
        assert!(ClusterState::decode(&bytes[..len]).is_err(), "{len} bytes");
    }
}

/// Protects a member that catches up by snapshot: it misses no proof.
#[test]
fn a_snapshot_tells_every_proof_that_was_missed() {
    let mut log = Log::founded(&[1, 1, 1]);
    log.join(1, 11);
    log.join(2, 12);
    log.join(3, 13);
    let old = log.state.clone();
    log.remove(3, 1);
    log.fence(3, 1);
    log.add(Command::ReplaceDisk {
        node: NodeId(3),
        old: Some(DiskId(103)),
        new: DiskId(203),
    });
    let changes = log.state.changes_since(&old);
    assert_eq!(view(&changes).epoch, log.state.view().epoch);
    assert!(matches!(&changes[1], Change::Fenced(f) if f.record.node == NodeId(3)));
    assert!(matches!(&changes[2], Change::DiskReplaced { new, .. } if *new == DiskId(203)));
    assert_eq!(changes.len(), 3);
    assert!(log.state.changes_since(&log.state).is_empty());
}

/// Protects vouching from touching any but the named node's vanished incarnations.
#[test]
fn vouching_concerns_all_vanished_incarnations_of_one_node() {
    let mut log = Log::founded(&[1, 1, 1]);
    log.join(1, 11);
    log.join(2, 12);
    log.join(3, 13);
    log.remove(3, 1);
    log.join(2, 22);
    log.join(2, 32);
    let commands = log.state.vouch(NodeId(2), "ada");
    assert_eq!(commands.len(), 2);
    assert!(log.state.vouch(NodeId(1), "ada").is_empty());
    for command in commands {
        assert_eq!(log.add(command).len(), 2);
    }
    let pending: Vec<NodeId> = log.state.view().pending.iter().map(|p| p.node).collect();
    assert_eq!(pending, [NodeId(3)]);
}

/// Protects every member from a founding that no configuration allows: sums of its votes would
/// overflow. It is ignored, by all alike.
#[test]
fn a_founding_out_of_bounds_is_ignored() {
    let mut log = Log {
        state: ClusterState::new(),
        index: 0,
    };
    for bad in [&[u32::MAX, 1][..], &[9], &[1; 65]] {
        assert!(log.add(Command::Found(founding(bad))).is_empty());
    }
    let mut twice = founding(&[1, 1]);
    twice.nodes[1].spec.id = NodeId(1);
    assert!(log.add(Command::Found(twice)).is_empty());
    assert_eq!(log.state.id(), None);
    assert!(!log.add(Command::Found(founding(&[8; 64]))).is_empty());
}

/// Protects a member from a snapshot to which no log leads: it is refused, not counted on from.
#[test]
fn a_snapshot_out_of_bounds_is_refused() {
    let mut log = Log::founded(&[1, 1]);
    log.join(1, 10);
    log.join(2, 20);
    let good = log.state;
    assert_eq!(ClusterState::decode(&good.encode()).as_ref(), Ok(&good));
    let refused = |spoil: fn(&mut ClusterState)| {
        let mut bad = good.clone();
        spoil(&mut bad);
        let read = ClusterState::decode(&bad.encode());
        assert!(matches!(read, Err(StateError::Impossible(_))), "{read:?}");
    };
    fn node(state: &mut ClusterState) -> &mut NodeRecord {
        state.nodes.get_mut(&NodeId(1)).expect("configured")
    }
    refused(|state| node(state).incarnation = Incarnation(u64::MAX));
    refused(|state| node(state).spec.votes = u32::MAX);
    refused(|state| node(state).spec.id = NodeId(7));
    refused(|state| Arc::make_mut(&mut state.view).epoch = Epoch(u64::MAX));
    refused(|state| Arc::make_mut(&mut state.view).members.reverse());
    refused(|state| Arc::make_mut(&mut state.view).members[0].incarnation = Incarnation(9));
    refused(|state| Arc::make_mut(&mut state.view).members[0].node = NodeId(0));
}

/// Protects lockspaces from strangers, on every node alike: only the owner and the privileged change who
/// may lock what, what cannot be is refused, and a node that catches up by a snapshot hears of it.
#[test]
fn only_the_owner_changes_access() {
    let mut log = Log::founded(&[1]);
    let name = LockspaceName::new("vms").expect("a valid name");
    log.add(Command::CreateLockspace {
        fairness: mainstay_base::Fairness::default(),
        compat: mainstay_base::Compat::Strict,
        access: Access::open_to_all(1000, 100),
        name: name.clone(),
        value_len: 32,
        origin: origin(1),
    });
    let before = log.state.clone();
    let rules = vec![AccessRule {
        prefix: b"vm-".to_vec(),
        whom: Whom::All,
        modes: ModeSet::READ,
    }];
    let change = AccessChange {
        rules: Some(rules.clone()),
        ..AccessChange::default()
    };
    let mut set = |change: &AccessChange, by, request| {
        let changes = log.add(Command::SetAccess {
            name: name.clone(),
            change: change.clone(),
            by,
            origin: origin(request),
        });
        matches!(changes[..], [Change::Access { .. }])
    };
    assert!(!set(&change, Some(1001), 2), "not its owner");
    assert!(set(&change, Some(1000), 3));
    let given = AccessChange {
        owner: Some(1001),
        mode: Some(0o600),
        ..AccessChange::default()
    };
    assert!(set(&given, None, 4), "root may give it away");
    assert!(!set(&change, Some(1000), 5), "not its owner any more");
    let odd = AccessChange {
        mode: Some(0o123),
        ..AccessChange::default()
    };
    assert!(!set(&odd, None, 6));
    let now = log
        .state
        .lockspace(&name)
        .expect("it is there")
        .access
        .clone();
    assert_eq!(
        (now.owner, now.group, now.mode, now.rules),
        (1001, 100, 0o600, rules)
    );
    let caught_up = log.state.changes_since(&before);
    assert!(
        matches!(&caught_up[..], [Change::Access { lockspace, .. }] if lockspace.access.owner == 1001)
    );
}

pub(super) fn origin(request: u64) -> RequestOrigin {
    RequestOrigin {
        node: NodeId(1),
        boot: BootId(11),
        request,
    }
}

/// Protects nodes from a state that no snapshot can hold: what would make it so is refused, on all nodes
/// alike, be it another lockspace or more rules for one that there is; and who makes room may go on.
#[test]
fn lockspaces_fit_a_snapshot() {
    let mut log = Log::founded(&[1]);
    let rule = |i: u8| AccessRule {
        prefix: vec![i; 64],
        whom: Whom::User(u32::MAX),
        modes: ModeSet::ALL,
    };
    let rules: Vec<AccessRule> = (0..mainstay_base::RULES_MAX as u8).map(rule).collect();
    let access = Access {
        rules: rules.clone(),
        ..Access::open_to_all(u32::MAX, u32::MAX)
    };
    let name = |i: usize| LockspaceName::new(format!("{i:064}")).expect("a valid name");
    let create = |log: &mut Log, i: usize, access: &Access| {
        let changes = log.add(Command::CreateLockspace {
            fairness: mainstay_base::Fairness::default(),
            compat: mainstay_base::Compat::Strict,
            name: name(i),
            value_len: 32,
            origin: origin(i as u64),
            access: access.clone(),
        });
        matches!(changes[..], [Change::Lockspace { created: true, .. }])
    };
    assert!(create(&mut log, 0, &Access::open_to_all(0, 0)));
    let full = (1..1000).find(|i| !create(&mut log, *i, &access));
    let full = full.expect("there is an end");
    assert!((200..1000).contains(&full), "{full} lockspaces");
    let mut refused = |i| !create(&mut log, i, &Access::open_to_all(0, 0));
    assert!(
        (full..full + 10).any(&mut refused),
        "no room for small ones"
    );
    let len = log.state.encode().len();
    assert!(len <= crate::LOCKSPACES_LEN_MAX + 1024, "{len} bytes");
    let change = |rules: &[AccessRule]| AccessChange {
        rules: Some(rules.to_vec()),
        ..AccessChange::default()
    };
    let set = |log: &mut Log, i: usize, rules: &[AccessRule]| {
        let changes = log.add(Command::SetAccess {
            name: name(i),
            change: change(rules),
            by: None,
            origin: origin(9000),
        });
        match &changes[..] {
            [Change::Access { .. }] => Ok(()),
            [Change::AccessRefused { why, .. }] => Err(*why),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(set(&mut log, 0, &rules), Err(AccessRefused::NoRoom));
    assert_eq!(set(&mut log, 1, &[]), Ok(()));
    assert_eq!(set(&mut log, 0, &rules), Ok(()));
}

/// Protects what others have set since from a command that stands in the log twice, and from one made
/// from what had been before.
#[test]
fn a_change_of_access_is_made_once() {
    let mut log = Log::founded(&[1]);
    let name = LockspaceName::new("vms").expect("a valid name");
    log.add(Command::CreateLockspace {
        fairness: mainstay_base::Fairness::default(),
        compat: mainstay_base::Compat::Strict,
        access: Access::open_to_all(0, 0),
        name: name.clone(),
        value_len: 32,
        origin: origin(1),
    });
    let mut set = |mode, revision, request| {
        let changes = log.add(Command::SetAccess {
            name: name.clone(),
            change: AccessChange {
                mode: Some(mode),
                revision: Some(revision),
                ..AccessChange::default()
            },
            by: None,
            origin: origin(request),
        });
        match &changes[..] {
            [Change::Access { lockspace, .. }] => Ok(lockspace.access.revision),
            [Change::AccessRefused { why, .. }] => Err(*why),
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(set(0o600, 0, 2), Ok(1));
    assert_eq!(set(0o666, 1, 3), Ok(2));
    assert_eq!(set(0o600, 0, 2), Err(AccessRefused::Changed), "again");
}

fn rest(log: &mut Log, node: u16, members: u64) -> Vec<Change> {
    log.add(Command::Rest {
        node: NodeId(node),
        incarnation: Incarnation(1),
        members: Epoch(members),
        for_ms: 5000,
    })
}

fn resume(log: &mut Log, from: u64, to: u64) -> Vec<Change> {
    log.add(Command::Resume {
        node: NodeId(2),
        from: Incarnation(from),
        to: Incarnation(to),
    })
}

/// Three members, since epoch 4.
fn three() -> Log {
    let mut log = Log::founded(&[1, 1, 1]);
    for node in 1..=3 {
        log.join(node, 10 + u64::from(node));
    }
    log
}

/// Protects exclusion: a node rests only if those to whom it has handed over are the members still, and
/// nobody could need what it has to say.
#[test]
fn nobody_rests_but_as_agreed() {
    let mut log = three();
    assert_eq!(rest(&mut log, 2, 3), [], "the members have changed");
    log.remove(3, 1);
    assert_eq!(rest(&mut log, 2, 5), [], "somebody is pending");
    log.fence(3, 1);
    let changes = rest(&mut log, 2, 5);
    let pending = &view(&changes).pending;
    assert_eq!((pending.len(), pending[0].reason), (1, Reason::Rests));
    assert!(matches!(&changes[1], Change::Fenced(f) if f.record.proof == Proof::Rests));
    assert_eq!(rest(&mut log, 1, 7), [], "one at a time");
    let state = ClusterState::decode(&log.state.encode());
    assert_eq!(state, Ok(log.state), "a snapshot has it");
}

/// Protects the locks of the next life: they are its own by one entry, once, and only while the old one
/// rests.
#[test]
fn a_rest_is_resumed_once_by_a_member() {
    let mut log = three();
    rest(&mut log, 2, 4);
    assert_eq!(resume(&mut log, 1, 2), [], "it is no member");
    log.join(2, 22);
    assert_eq!(resume(&mut log, 1, 1), [], "not by itself");
    let changes = resume(&mut log, 1, 2);
    let lives = (NodeId(2), Incarnation(1), Incarnation(2));
    let (node, from, to) = lives;
    assert_eq!(changes[0], Change::Resumed { node, from, to });
    let view = view(&changes[1..]);
    assert_eq!((view.pending.len(), view.members_since), (0, view.epoch));
    assert_eq!(resume(&mut log, 1, 2), [], "once");
    assert_eq!(log.fence(2, 1), [], "nothing is left to be proved");
}

/// Protects the others from waiting, and the locks of a dead master from being rebuilt without those of one
/// that rests: who dies or leaves meanwhile counts as proved only after the rest is over.
#[test]
fn another_proof_ends_the_rest_first() {
    for leaves in [false, true] {
        let mut log = three();
        rest(&mut log, 2, 4);
        let changes = if leaves {
            log.add(Command::Leave {
                node: NodeId(3),
                incarnation: Incarnation(1),
            })
        } else {
            let removed = log.remove(3, 1);
            assert_eq!(removed.len(), 1, "a removal alone ends nothing");
            log.fence(3, 1)
        };
        let proofs: Vec<_> = changes
            .iter()
            .filter_map(|change| match change {
                Change::Fenced(f) => Some((f.record.node.0, f.record.proof.clone())),
                _ => None,
            })
            .collect();
        let other = match leaves {
            true => Proof::LeftCleanly,
            false => Proof::LeaseExpired,
        };
        assert_eq!(proofs, [(2, Proof::RestOver), (3, other)]);
        log.join(2, 22);
        assert_eq!(resume(&mut log, 1, 2), [], "it is over");
    }
}
