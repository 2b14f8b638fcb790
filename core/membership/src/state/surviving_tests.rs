use super::{tests::*, *};
use mainstay_base::{
    Access, Epoch, LockId, LockMode, ResourceName, SURVIVORS_MAX, SURVIVORS_PER_USER_MAX, Token,
};

fn key(node: u16, incarnation: u64, lock: u64) -> SurvivorKey {
    SurvivorKey {
        node: NodeId(node),
        incarnation: Incarnation(incarnation),
        lock: LockId(lock),
    }
}

fn owner(uid: u32) -> SurvivorOwner {
    SurvivorOwner {
        uid,
        pid: 7,
        blocking: false,
    }
}

fn keep(lock: u64, uid: u32) -> SurvivorStep {
    SurvivorStep::Keep {
        lock: LockId(lock),
        space: LockspaceId(1),
        name: ResourceName::new(format!("r{lock}")).expect("short"),
        mode: LockMode::Ex,
        token: Token::floor(Epoch(1)).next(),
        owner: owner(uid),
    }
}

/// Two nodes and a lockspace.
fn log() -> Log {
    let mut log = Log::founded(&[1, 1]);
    log.join(1, 11);
    log.join(2, 21);
    log.add(Command::CreateLockspace {
        fairness: Fairness::default(),
        compat: Compat::Strict,
        access: Access::open_to_all(0, 0),
        name: LockspaceName::new("vms").expect("a valid name"),
        value_len: 32,
        origin: origin(1),
    });
    log
}

fn say(log: &mut Log, node: u16, serial: u64, steps: Vec<SurvivorStep>) -> Vec<SurvivorDone> {
    let incarnation = log.state.incarnation(NodeId(node));
    let changes = log.add(Command::Survivors(SurvivorBatch {
        by: NodeId(node),
        incarnation,
        serial,
        steps,
    }));
    match changes.into_iter().next() {
        Some(Change::Survivors { done, .. }) => done,
        None => Vec::new(),
        other => panic!("{other:?}"),
    }
}

/// Protects a released lock from coming back with a batch that stands in the log twice, and the log from
/// lives that are no members.
#[test]
fn a_batch_is_decided_once_and_only_for_members() {
    let mut log = log();
    assert_eq!(say(&mut log, 1, 1, vec![keep(5, 0)]).len(), 1);
    let release = SurvivorStep::Release { key: key(1, 1, 5) };
    say(&mut log, 1, 2, vec![release]);
    assert!(say(&mut log, 1, 1, vec![keep(5, 0)]).is_empty(), "again");
    assert_eq!(log.state.survivors().count(), 0);
    log.remove(1, 1);
    assert!(say(&mut log, 1, 3, vec![keep(6, 0)]).is_empty(), "too late");
    assert_eq!(log.state.survivors().count(), 0);
}

/// Protects what a node holds, or may yet hold, from others: they adopt and purge it only after the proof, and
/// the first one has it.
#[test]
fn what_is_left_behind_is_the_first_ones() {
    let mut log = log();
    say(&mut log, 1, 1, vec![keep(5, 0), keep(6, 0)]);
    let adopt = |lock| SurvivorStep::Adopt {
        key: key(1, 1, 5),
        lock: LockId(lock),
        owner: owner(0),
    };
    let release = |lock| SurvivorStep::Release {
        key: key(1, 1, lock),
    };
    let not_there = vec![SurvivorDone::NotThere, SurvivorDone::NotThere];
    assert_eq!(say(&mut log, 2, 1, vec![adopt(9), release(6)]), not_there);
    log.remove(1, 1);
    assert_eq!(say(&mut log, 2, 2, vec![adopt(9), release(6)]), not_there);
    log.fence(1, 1);
    assert!(log.state.is_left_behind(key(1, 1, 5)));
    let done = say(&mut log, 2, 3, vec![adopt(9), adopt(10), release(6)]);
    let [
        SurvivorDone::Adopted { from, now, .. },
        SurvivorDone::NotThere,
        SurvivorDone::Released(_),
    ] = done.as_slice()
    else {
        panic!("{done:?}");
    };
    assert_eq!((*from, now.key), (key(1, 1, 5), key(2, 1, 9)));
    // Its next life has nothing to do with what the last one left.
    log.join(1, 12);
    let own = SurvivorStep::Own {
        lock: LockId(9),
        owner: owner(3),
    };
    assert_eq!(say(&mut log, 1, 1, vec![own]), [SurvivorDone::NotThere]);
}

/// Protects what a node cedes: only who has it cedes it, to a life that is a member, once, and under a number
/// that is not another's.
#[test]
fn what_is_ceded_goes_to_a_member() {
    let mut log = log();
    say(&mut log, 1, 1, vec![keep(5, 0), keep(6, 0)]);
    let cede = |lock, to| SurvivorStep::Cede {
        lock: LockId(lock),
        to,
    };
    let not_there = [SurvivorDone::NotThere];
    let changes = log.state.survivor_changes();
    for (node, serial, to) in [
        (1, 2, key(2, 2, 9)),
        (1, 3, key(1, 1, 6)),
        (2, 1, key(2, 1, 9)),
    ] {
        let done = say(&mut log, node, serial, vec![cede(5, to)]);
        assert_eq!(done, not_there, "{to:?}");
    }
    assert_eq!(log.state.survivor_changes(), changes);
    let to = key(2, 1, 9);
    let done = say(&mut log, 1, 4, vec![cede(5, to), cede(5, to), cede(6, to)]);
    let [SurvivorDone::Ceded { from, now }, ..] = done.as_slice() else {
        panic!("{done:?}");
    };
    assert_eq!(done[1..], [SurvivorDone::NotThere, SurvivorDone::NotThere]);
    assert_eq!(*from, key(1, 1, 5));
    // Whose it is on the other node, that says.
    assert_eq!((now.key, now.owner, now.mode), (to, owner(0), LockMode::Ex));
    // The end of its first node says nothing about it.
    log.remove(1, 1);
    log.fence(1, 1);
    assert!(!log.state.is_left_behind(to));
    assert!(log.state.survivor(key(1, 1, 5)).is_none());
}

/// Protects snapshots, which must hold all records, and users from each other.
#[test]
fn there_are_bounds() {
    let mut log = log();
    let full = |done: &[SurvivorDone]| done.iter().filter(|d| **d == SurvivorDone::NoRoom).count();
    let mut lock = 0;
    let mut serial = 0;
    let mut keep_many = |log: &mut Log, uid: u32, count: usize| {
        let mut refused = 0;
        for chunk in 0..count.div_ceil(128) {
            let steps = (0..(count - chunk * 128).min(128)).map(|_| {
                lock += 1;
                keep(lock, uid)
            });
            let steps = steps.collect();
            serial += 1;
            refused += full(&say(log, 1, serial, steps));
        }
        refused
    };
    assert_eq!(keep_many(&mut log, 1000, SURVIVORS_PER_USER_MAX + 3), 3);
    let left = SURVIVORS_MAX - SURVIVORS_PER_USER_MAX;
    assert_eq!(keep_many(&mut log, 0, left + 5), 5);
    assert!(log.state.encode().len() < 480 << 10);
    let again = ClusterState::decode(&log.state.encode()).expect("it is sound");
    assert_eq!(again, log.state);
}

/// Protects masters from a move that says otherwise of surviving locks than the log.
#[test]
fn a_change_of_surviving_locks_voids_a_move() {
    let mut log = log();
    say(&mut log, 1, 1, vec![keep(5, 0)]);
    let record = |serial| MoveRecord {
        from: NodeId(1),
        from_incarnation: Incarnation(1),
        to: NodeId(2),
        to_incarnation: Incarnation(1),
        serial,
        members: log.state.view().members_since,
        count: 1,
    };
    let (first, second, third) = (record(1), record(2), record(3));
    let changes = log.state.survivor_changes();
    let with = |record, changes| Command::MoveMastersWithSurvivors { record, changes };
    let moved = |log: &mut Log, command| match log.add(command).as_slice() {
        [Change::Moved { done, .. }] => *done,
        other => panic!("{other:?}"),
    };
    assert!(!moved(&mut log, Command::MoveMasters(first)));
    assert!(moved(&mut log, with(second, changes)));
    say(&mut log, 1, 2, vec![keep(6, 0)]);
    assert!(!moved(&mut log, with(third, changes)));
}

/// Protects nodes from snapshots with locks that cannot be: a life without a number makes no key.
#[test]
fn impossible_locks_are_refused() {
    let mut log = log();
    say(&mut log, 1, 1, vec![keep(5, 0)]);
    assert!(ClusterState::decode(&log.state.encode()).is_ok());
    let mut impossible = log.state.clone();
    let mut lock = impossible.survivors().next().expect("kept").clone();
    lock.key.incarnation = Incarnation(0);
    impossible.surviving.put(lock);
    assert!(ClusterState::decode(&impossible.encode()).is_err());
}
