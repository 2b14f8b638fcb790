//! Golden bytes: heartbeats, commands, foundings and snapshots keep the format that was once
//! released. A changed line is a changed protocol or disk format.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use mainstay_base::{
    Access, AccessChange, AccessRule, BootId, ClusterId, DiskId, Epoch, FencePolicy, Incarnation,
    LockId, LockMode, LockspaceId, LockspaceName, ModeSet, NodeId, NodeName, NodeSpec,
    ResourceName, Timings, Token, Whom,
};
use mainstay_fencing::Proof;
use mainstay_membership::{
    Change, ClusterState, Command, Founding, FoundingNode, Message, MoveRecord, RequestOrigin,
    SurvivorBatch, SurvivorDone, SurvivorKey, SurvivorOwner, SurvivorStep,
    message::{FoundingOffer, Heard, Heartbeat, HeartbeatAck, Quiet, Wish},
};
use mainstay_wire::event::Reason;

#[path = "../../wire/tests/golden/check.rs"]
mod check;

fn access() -> Access {
    Access {
        mode: 0o640,
        rules: vec![AccessRule {
            prefix: b"vm-".to_vec(),
            whom: Whom::User(1001),
            modes: ModeSet::READ,
        }],
        ..Access::open_to_all(1000, 0)
    }
}

fn founding() -> Founding {
    let node = |id: u16, disk| FoundingNode {
        spec: NodeSpec {
            id: NodeId(id),
            name: NodeName::new(format!("n{id}")).unwrap(),
            votes: 3 - u32::from(id),
            links: 2,
        },
        disk,
    };
    Founding {
        cluster: "prod".to_owned(),
        id: ClusterId(1 << 63 | 5),
        nodes: vec![node(1, Some(DiskId(300))), node(2, None)],
        timings: Timings::default(),
        fencing: FencePolicy::Manual,
    }
}

fn messages() -> Vec<(&'static str, Message)> {
    let (node, boot, incarnation) = (NodeId(2), BootId(1 << 40 | 7), Incarnation(5));
    let heartbeat = |wish| Heartbeat {
        boot,
        disk: DiskId(300),
        seq: 77,
        config: u64::MAX,
        cluster: Some(ClusterId(9)),
        incarnation: Some(incarnation),
        epoch: Epoch(12),
        hears: vec![Heard { node, boot }],
        wish,
        quiet: vec![Quiet {
            node,
            incarnation,
            age_ms: 1500,
        }],
    };
    let fresh = Heartbeat {
        cluster: None,
        incarnation: None,
        hears: Vec::new(),
        quiet: Vec::new(),
        ..heartbeat(Wish::None)
    };
    let ack = HeartbeatAck {
        to_boot: boot,
        seq: 77,
        boot: BootId(8),
        promise: true,
        epoch: Epoch(12),
    };
    let offer = FoundingOffer {
        boot,
        founding: founding(),
    };
    vec![
        ("heartbeat-of-a-fresh-node", Message::Heartbeat(fresh)),
        ("heartbeat", Message::Heartbeat(heartbeat(Wish::None))),
        ("heartbeat-join", Message::Heartbeat(heartbeat(Wish::Join))),
        (
            "heartbeat-leave",
            Message::Heartbeat(heartbeat(Wish::Leave)),
        ),
        (
            "heartbeat-rest",
            Message::Heartbeat(heartbeat(Wish::Rest {
                members: Epoch(9),
                for_ms: 60_000,
            })),
        ),
        ("ack", Message::Ack(ack)),
        ("offer", Message::Offer(offer)),
    ]
}

fn commands() -> Vec<(&'static str, Command)> {
    let (node, incarnation) = (NodeId(2), Incarnation(1));
    let fenced = |proof| Command::Fenced {
        node,
        incarnation,
        proof,
    };
    vec![
        ("found", Command::Found(founding())),
        (
            "join-1",
            Command::Join {
                node: NodeId(1),
                boot: BootId(10),
                after: Incarnation(0),
            },
        ),
        (
            "join-2",
            Command::Join {
                node,
                boot: BootId(20),
                after: Incarnation(0),
            },
        ),
        (
            "create-lockspace",
            Command::CreateLockspace {
                access: Access::default(),
                fairness: mainstay_base::Fairness::default(),
                compat: mainstay_base::Compat::Strict,
                name: LockspaceName::new("vg0").unwrap(),
                value_len: 32,
                origin: RequestOrigin {
                    node,
                    boot: BootId(20),
                    request: 400,
                },
            },
        ),
        (
            "remove",
            Command::Remove {
                node,
                incarnation,
                reason: Reason::HeartbeatsMissed,
                detail: "silent".to_owned(),
            },
        ),
        ("fenced-lease", fenced(Proof::LeaseExpired)),
        (
            "fenced-vouched",
            fenced(Proof::OperatorVouched {
                operator: "uid 0 on n1".to_owned(),
            }),
        ),
        ("fenced-left", fenced(Proof::LeftCleanly)),
        ("leave", Command::Leave { node, incarnation }),
        ("fenced-rests", fenced(Proof::Rests)),
        ("fenced-rest-over", fenced(Proof::RestOver)),
        (
            "rest",
            Command::Rest {
                node,
                incarnation,
                members: Epoch(9),
                for_ms: 60_000,
            },
        ),
        (
            "resume",
            Command::Resume {
                node,
                from: incarnation,
                to: incarnation.next(),
            },
        ),
        (
            "replace-disk",
            Command::ReplaceDisk {
                node,
                old: None,
                new: DiskId(301),
            },
        ),
        (
            "move-masters",
            Command::MoveMasters(MoveRecord {
                from: NodeId(1),
                from_incarnation: incarnation,
                to: node,
                to_incarnation: incarnation,
                serial: 8,
                members: Epoch(11),
                count: 300,
            }),
        ),
        (
            "set-access",
            Command::SetAccess {
                name: LockspaceName::new("vg0").unwrap(),
                change: AccessChange {
                    owner: Some(1000),
                    mode: Some(0o640),
                    rules: Some(access().rules),
                    ..AccessChange::default()
                },
                by: None,
                origin: RequestOrigin {
                    node,
                    boot: BootId(20),
                    request: 401,
                },
            },
        ),
        ("survivors", Command::Survivors(batch())),
        ("survivor-ceded", Command::Survivors(ceded())),
        (
            "move-masters-with-survivors",
            Command::MoveMastersWithSurvivors {
                record: MoveRecord {
                    from: NodeId(1),
                    from_incarnation: incarnation,
                    to: node,
                    to_incarnation: incarnation,
                    serial: 9,
                    members: Epoch(11),
                    count: 300,
                },
                changes: 400,
            },
        ),
    ]
}

fn ceded() -> SurvivorBatch {
    SurvivorBatch {
        by: NodeId(2),
        incarnation: Incarnation(1),
        serial: 4,
        steps: vec![SurvivorStep::Cede {
            lock: LockId(300),
            to: SurvivorKey {
                node: NodeId(3),
                incarnation: Incarnation(2),
                lock: LockId(9),
            },
        }],
    }
}

/// One step of each kind: all but the last two are carried out.
fn batch() -> SurvivorBatch {
    let (by, incarnation) = (NodeId(1), Incarnation(1));
    let key = |lock| SurvivorKey {
        node: by,
        incarnation,
        lock: LockId(lock),
    };
    let owner = SurvivorOwner {
        uid: 1000,
        pid: 4711,
        blocking: true,
    };
    let keep = |lock, name: &str| SurvivorStep::Keep {
        lock: LockId(lock),
        space: LockspaceId(1),
        name: ResourceName::new(name).unwrap(),
        mode: LockMode::Ex,
        token: Token::floor(Epoch(1)).next(),
        owner,
    };
    SurvivorBatch {
        by,
        incarnation,
        serial: 6,
        steps: vec![
            keep(300, "disk"),
            keep(301, "vm"),
            SurvivorStep::Own {
                lock: LockId(300),
                owner: SurvivorOwner { pid: 4712, ..owner },
            },
            SurvivorStep::Release { key: key(301) },
            SurvivorStep::Adopt {
                key: key(300),
                lock: LockId(302),
                owner,
            },
            SurvivorStep::Release { key: key(301) },
        ],
    }
}

/// A state in which every part is used: after a founding, two joins, a lockspace, a removal, its
/// proof, a second join and a removal that waits for proof.
fn states() -> Vec<(&'static str, ClusterState)> {
    let mut state = ClusterState::new();
    let mut index = 0;
    let mut apply = |command: &Command| {
        index += 1;
        state.apply(index, command);
        state.clone()
    };
    let all = commands();
    let mut last = ClusterState::new();
    for (_, command) in &all[..6] {
        last = apply(command);
    }
    let proved = last;
    apply(&Command::Join {
        node: NodeId(2),
        boot: BootId(21),
        after: Incarnation(1),
    });
    let pending = apply(&Command::Remove {
        node: NodeId(2),
        incarnation: Incarnation(2),
        reason: Reason::HeartbeatsMissed,
        detail: String::new(),
    });
    let mut moved = proved.clone();
    let members = moved.view().members_since;
    let member = moved.view().members[0];
    for serial in 1..=2 {
        moved.apply(
            20 + serial,
            &Command::MoveMasters(MoveRecord {
                from: member.node,
                from_incarnation: member.incarnation,
                to: member.node,
                to_incarnation: member.incarnation,
                serial,
                members,
                count: 3,
            }),
        );
    }
    let mut guarded = proved.clone();
    let (_, command) = all.iter().find(|(name, _)| *name == "set-access").unwrap();
    assert_eq!(guarded.apply(30, command).len(), 1);
    assert_eq!(
        guarded.lockspaces().next().unwrap().access,
        Access {
            revision: 1,
            ..access()
        }
    );
    let mut fair = guarded.clone();
    let (_, command) = all
        .iter()
        .find(|(name, _)| *name == "create-lockspace")
        .unwrap();
    let mut command = command.clone();
    if let Command::CreateLockspace { name, fairness, .. } = &mut command {
        *name = LockspaceName::new("fair").unwrap();
        *fairness = mainstay_base::Fairness {
            order: mainstay_base::Order::Priority,
            overtake: 9,
            min_hold_ms: 300,
        };
    }
    assert_eq!(fair.apply(31, &command).len(), 1);
    assert_eq!(
        fair.lockspaces()
            .filter(|l| l.fairness.overtake == 9)
            .count(),
        1
    );
    let mut foreign = fair.clone();
    if let Command::CreateLockspace {
        name,
        value_len,
        compat,
        ..
    } = &mut command
    {
        *name = LockspaceName::new("foreign").unwrap();
        (*value_len, *compat) = (64, mainstay_base::Compat::Vms);
    }
    assert_eq!(foreign.apply(32, &command).len(), 1);
    let follow = |l: &&mainstay_membership::Lockspace| l.compat == mainstay_base::Compat::Vms;
    assert_eq!(foreign.lockspaces().filter(follow).count(), 1);
    let mut surviving = foreign.clone();
    let mut batch = batch();
    let member = surviving.view().members[0];
    (batch.by, batch.incarnation) = (member.node, member.incarnation);
    let changes = surviving.apply(33, &Command::Survivors(batch));
    let [Change::Survivors { done, .. }] = changes.as_slice() else {
        panic!("{changes:?}");
    };
    assert!(matches!(
        done.as_slice(),
        [
            SurvivorDone::Kept(_),
            SurvivorDone::Kept(_),
            SurvivorDone::Owned(_),
            SurvivorDone::Released(_),
            SurvivorDone::NotThere,
            SurvivorDone::NotThere,
        ]
    ));
    assert_eq!(surviving.survivors().count(), 1);
    assert_eq!(moved.moved(), 2);
    assert_eq!(proved.fenced().count(), 1);
    assert_eq!(pending.view().pending.len(), 1);
    vec![
        ("empty", ClusterState::new()),
        ("proved", proved),
        ("pending", pending),
        ("moved", moved),
        ("guarded", guarded),
        ("fair", fair),
        ("foreign", foreign),
        ("surviving", surviving),
    ]
}

fn encoded<T>(all: &[(&str, T)], encode: impl Fn(&T) -> Vec<u8>) -> Vec<(String, Vec<u8>)> {
    let one = |(name, value): &(&str, T)| ((*name).to_owned(), encode(value));
    all.iter().map(one).collect()
}

/// Protects rolling upgrades: what membership agents of different builds say to each other.
#[test]
fn messages_keep_their_bytes() {
    let all = messages();
    let golden = check::golden(
        "messages.txt",
        include_str!("golden/messages.txt"),
        "the transport's VERSION_MAX in shell/transport/src/wire.rs",
        &encoded(&all, Message::encode),
    );
    for ((name, message), old) in all.iter().zip(golden) {
        assert_eq!(Message::decode(&old).as_ref(), Ok(message), "{name}");
    }
}

/// Protects the replicated log, which outlives builds on disk and is shared by builds: its commands.
#[test]
fn commands_keep_their_bytes() {
    let all = commands();
    let golden = check::golden(
        "commands.txt",
        include_str!("golden/commands.txt"),
        "RECORD_VERSION in core/consensus/src/wire.rs and the transport's VERSION_MAX",
        &encoded(&all, Command::encode),
    );
    for ((name, command), old) in all.iter().zip(golden) {
        assert_eq!(Command::decode(&old).as_ref(), Ok(command), "{name}");
    }
}

/// Protects a node from forgetting its cluster after an upgrade: the founding in its journal.
#[test]
fn foundings_keep_their_bytes() {
    let all = [("founding", founding())];
    let golden = check::golden(
        "founding.txt",
        include_str!("golden/founding.txt"),
        "the founding's journal kind in core/node/src/boot.rs",
        &encoded(&all, Founding::encode),
    );
    assert_eq!(Founding::decode(&golden[0]), Ok(founding()));
}

/// Protects snapshots, on disk and on their way to a node of another build.
#[test]
fn states_keep_their_bytes() {
    let all = states();
    let golden = check::golden(
        "states.txt",
        include_str!("golden/states.txt"),
        "VERSION in core/membership/src/state/snapshot.rs",
        &encoded(&all, ClusterState::encode),
    );
    for ((name, state), old) in all.iter().zip(golden) {
        assert_eq!(ClusterState::decode(&old).as_ref(), Ok(state), "{name}");
    }
}

/// Protects disks of the builds before: states in the formats that knew no moves of masters, nothing of who may
/// lock what, nothing of fairness, nothing of others' rules, nothing of surviving locks, and nothing of rests, are
/// read.
#[test]
fn states_of_the_formats_before_are_read() {
    let without_moves = include_str!("golden/states-1.txt").lines();
    let without_access = include_str!("golden/states-2.txt").lines();
    let without_fairness = include_str!("golden/states-3.txt").lines();
    let without_compat = include_str!("golden/states-4.txt").lines();
    let without_survivors = include_str!("golden/states-5.txt").lines();
    let lines = without_moves.chain(without_access).chain(without_fairness);
    let without_rest = include_str!("golden/states-6.txt").lines();
    let lines = lines.chain(without_compat).chain(without_survivors);
    let lines = lines.chain(without_rest);
    let mut read = 0;
    for (name, digits) in lines.filter_map(|line| line.split_once(" = ")) {
        let byte = |at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap();
        let bytes: Vec<u8> = (0..digits.len()).step_by(2).map(byte).collect();
        let all = states();
        let (_, state) = all.iter().find(|(n, _)| *n == name).unwrap();
        assert_eq!(ClusterState::decode(&bytes).as_ref(), Ok(state), "{name}");
        read += 1;
    }
    assert_eq!(read, 33);
}
