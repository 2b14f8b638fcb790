//! Three lock managers, whose messages and whose log the test carries by hand: masters that move.

#![allow(missing_docs, clippy::unwrap_used)]

mod three;

use core::time::Duration;
use mainstay_base::{
    BootId, Epoch, Incarnation, LockMode, MastersConfig, NodeId, ResourceName, SessionId, Value,
    ValueBlock,
};
use mainstay_dlm::{AdoptCall, ConvertCall, UnlockCall};
use mainstay_wire::{
    client::{Answer, Handle},
    dlm::{Body, Message},
    lock::{Flags, Refusal},
};
use three::{AFTER, SPACE, World, name_at};

/// Protects the purpose: who does the work becomes the master, and then works without a message.
#[test]
fn a_resource_moves_to_who_uses_it() {
    let mut world = World::eager();
    world.lock(1, 1, "r", LockMode::Nl, Flags::NONE);
    world.wait(500);
    assert_eq!(world.masters(), [1]);
    world.use_much(2, "r");
    world.wait(500);
    assert_eq!(world.commit(true), 1);
    assert_eq!(world.masters(), [2]);
    let before = world.said;
    world.use_much(2, "r");
    assert_eq!(world.said, before, "it is local now");
    world.use_much(1, "r");
    assert!(world.said > before, "and remote for the other");
    let late = world.lock(3, 1, "r", LockMode::Pr, Flags::NONE);
    assert!(
        world.granted(3, late).is_some(),
        "who never used it finds it"
    );
}

/// Protects what moves: held modes, the value block, the order of the queues, who has been told, and
/// tokens that grow.
#[test]
fn all_of_a_resource_goes_along() {
    let mut world = World::eager();
    world.lock(1, 1, "r", LockMode::Nl, Flags::VALBLK);
    let writer = world.lock(3, 1, "r", LockMode::Ex, Flags::VALBLK);
    let first = world.granted(3, writer).unwrap().token;
    world.convert(3, 1, LockMode::Pw, Some(b"written"));
    let one = world.lock(1, 2, "r", LockMode::Ex, Flags::NONE);
    let two = world.lock(2, 2, "r", LockMode::Pr, Flags::VALBLK);
    let converting = world.convert(1, 1, LockMode::Cw, None);
    let told = world.notices.clone();
    assert_eq!(told.len(), 1, "{told:?}");
    world.wait(500);
    world.use_much(2, "r");
    world.wait(500);
    assert_eq!(world.commit(true), 1);
    assert_eq!(world.masters(), [2]);
    assert_eq!(world.notices, told, "nobody is told twice");
    for (node, request) in [(1, one), (2, two), (1, converting)] {
        assert_eq!(world.answers.get(&(node, request)), None);
    }
    world.unlock(3, 1);
    let token = world.granted(1, converting).expect("it was first").token;
    assert!(token > first);
    world.unlock(1, 1);
    assert!(world.granted(1, one).is_some(), "it was asked for first");
    assert_eq!(world.granted(2, two), None);
    world.unlock(1, 2);
    let value = world.granted(2, two).unwrap().value.clone();
    let expected = Value {
        block: ValueBlock::new(b"written\0").unwrap(),
        version: mainstay_base::ValueVersion(1),
        maybe_stale: false,
    };
    assert_eq!(value, Some(expected));
}

/// Protects calls on what moves from being lost or answered twice: made, cancelled and ended with
/// their clients while nobody may be told.
#[test]
fn what_is_kept_back_goes_to_the_next_master() {
    let mut world = World::eager();
    world.lock(1, 1, "r", LockMode::Nl, Flags::NONE);
    let held = world.lock(3, 1, "r", LockMode::Ex, Flags::NONE);
    assert!(world.granted(3, held).is_some());
    let queued = world.lock(1, 2, "r", LockMode::Ex, Flags::NONE);
    world.use_much(2, "r");
    world.wait(500);
    assert_eq!(world.proposed.len(), 1);
    let late = world.lock(2, 3, "r", LockMode::Ex, Flags::NONE);
    let (now, cancel) = (world.now, 5000);
    let master = world.nodes.get_mut(&1).unwrap();
    master.cancel(now, SessionId(1), cancel, Handle(2));
    let holder = world.nodes.get_mut(&3).unwrap();
    holder.close_session(now, SessionId(1));
    world.settle();
    assert_eq!(world.granted(2, late), None, "nobody decides");
    world.commit(true);
    assert_eq!(
        world.answers.get(&(1, queued)),
        Some(&Err(Refusal::Cancelled))
    );
    assert_eq!(
        world.answers.get(&(1, cancel)),
        Some(&Ok(Answer::Cancelled))
    );
    assert!(world.granted(2, late).is_some(), "the holder is gone");
}

/// Protects counts across a move: what was answered goes along, what is asked while nobody decides is
/// made once, by the next master or by the one that stays, and those who watch learn the last.
#[test]
fn a_count_goes_along_and_goes_on() {
    for (done, master) in [(true, 2), (false, 1)] {
        let mut world = World::eager();
        for node in 1..=3 {
            world.lock(node, 1, "r", LockMode::Nl, Flags::VALBLK);
        }
        world.lock(3, 2, "r", LockMode::Cr, Flags::NONE);
        let now = world.now;
        let third = world.nodes.get_mut(&3).unwrap();
        third.watch_value(now, SessionId(1), 5000, Handle(2), true);
        world.settle();
        let before = world.count(3, 1);
        assert_eq!(world.counted(3, before), Some(1));
        world.use_much(2, "r");
        world.wait(500);
        assert_eq!(world.proposed.len(), 1);
        let asked: Vec<(u16, u64)> = (1..=3).map(|node| (node, world.count(node, 1))).collect();
        for (node, request) in &asked {
            assert_eq!(world.counted(*node, *request), None, "nobody decides");
        }
        world.commit(done);
        assert_eq!(world.masters(), [master]);
        let counts = asked.iter().map(|(node, r)| world.counted(*node, *r));
        let mut counts: Vec<Option<i64>> = counts.collect();
        counts.sort_unstable();
        assert_eq!(counts, [Some(2), Some(3), Some(4)]);
        assert_eq!(world.watched.get(&3).map(Value::count), Some(4));
        let after = world.count(2, 1);
        assert_eq!(world.counted(2, after), Some(5));
    }
}

/// Protects what is said to the next master while it is behind by more than one move: that a lock is
/// gone is heard once it is the master, and not lost when it applies the move before.
#[test]
fn a_master_that_is_two_moves_behind_misses_nothing() {
    let (mut world, name) = (World::eager(), name_at(1));
    let held = world.lock(1, 1, &name, LockMode::Ex, Flags::NONE);
    assert!(world.granted(1, held).is_some());
    world.use_much(2, &name);
    world.wait(500);
    let first = world.commit_at(&[1, 2]);
    assert_eq!(first.len(), 1);
    // It hears of the next one from the directory, which knows.
    let waits = world.lock(3, 1, &name, LockMode::Ex, Flags::NONE);
    world.use_much(3, &name);
    world.wait(1000);
    let second = world.commit_at(&[1, 2]);
    assert_eq!(second.len(), 1);
    world.unlock(1, 1);
    world.apply(&[3], &first, true);
    world.apply(&[3], &second, true);
    assert_eq!(world.masters(), [3]);
    assert!(world.granted(3, waits).is_some(), "the holder is gone");
}

/// Protects what is said to the next master while it asks who the master is: the answer of a directory
/// that is behind does not make it forget that a lock is gone.
#[test]
fn a_master_that_asks_who_it_is_misses_nothing() {
    let (mut world, name) = (World::eager(), name_at(1));
    for node in [1, 3] {
        world.lock(node, 2, &name, LockMode::Nl, Flags::NONE);
    }
    let held = world.lock(2, 1, &name, LockMode::Ex, Flags::NONE);
    assert!(world.granted(2, held).is_some());
    world.use_much(2, &name);
    world.wait(500);
    let first = world.commit_at(&[2, 3]);
    assert_eq!(first.len(), 1);
    world.use_much(3, &name);
    world.unlock(3, 2);
    let later = world.now + mainstay_dlm::IDLE * 2;
    world.nodes.get_mut(&3).unwrap().tick(later); // It forgets who masters what it does not use.
    world.parted = Some((1, 3));
    let waits = world.lock(3, 1, &name, LockMode::Ex, Flags::NONE);
    world.wait(1000);
    let second = world.commit_at(&[2]);
    assert_eq!(second.len(), 1);
    world.parted = None;
    world.settle();
    world.unlock(2, 1);
    world.apply(&[1], &first, true);
    world.apply(&[1, 3], &second, true);
    assert_eq!(world.masters(), [3]);
    assert!(world.granted(3, waits).is_some(), "the holder is gone");
}

/// Protects all others from one that is slow: a batch that it does not agree to in time is called off,
/// and what was kept back goes on where it was.
#[test]
fn a_silent_member_ends_a_move() {
    let mut world = World::eager();
    world.lock(1, 1, "r", LockMode::Nl, Flags::NONE);
    world.use_much(2, "r");
    world.silent = Some(3);
    world.wait(500);
    let waits = world.lock(2, 1, "r", LockMode::Ex, Flags::NONE);
    assert_eq!(world.granted(2, waits), None, "asked to be silent");
    world.wait(100);
    assert!(world.granted(2, waits).is_some());
    assert_eq!(world.masters(), [1]);
    world.silent = None;
    world.settle();
    assert_eq!(
        world.proposed,
        [],
        "an answer that comes late counts for nothing"
    );
}

/// Protects from two masters: members that change before the log has decided end a move everywhere.
#[test]
fn a_change_of_the_members_ends_a_move() {
    let mut world = World::eager();
    world.lock(1, 1, "r", LockMode::Nl, Flags::NONE);
    world.use_much(2, "r");
    world.wait(500);
    assert_eq!(world.proposed.len(), 1);
    let remote = world.lock(2, 1, "r", LockMode::Cr, Flags::NONE);
    let own = world.lock(1, 2, "r", LockMode::Cr, Flags::NONE);
    assert_eq!(world.granted(2, remote), None, "nobody decides");
    assert_eq!(world.granted(1, own), None, "nobody decides");
    world.install(&[1, 2]);
    assert!(world.granted(2, remote).is_some());
    assert!(world.granted(1, own).is_some());
    world.commit(false);
    assert_eq!(world.masters(), [1]);
}

/// Protects weights: a node without one masters nothing, not even what it uses alone, nor what it was
/// first to use.
#[test]
fn a_node_without_weight_masters_nothing() {
    let mut config = MastersConfig {
        after: AFTER,
        ..MastersConfig::default()
    };
    config.weights.insert(NodeId(1), 0);
    let mut world = World::new(&config);
    for i in 0..20 {
        let name = format!("r{i}");
        let request = world.lock(1, i, &name, LockMode::Ex, Flags::NONE);
        assert!(world.granted(1, request).is_some());
        assert_eq!(world.mastered(1), 0);
        assert_eq!(world.mastered(2) + world.mastered(3), i + 1);
        world.use_much(1, &name);
    }
    world.wait(500);
    assert_eq!(world.proposed, []);
}

/// Protects the cap: who has its share leaves names that nobody masters to others.
#[test]
fn a_cap_spreads_what_one_node_uses() {
    let config = MastersConfig {
        cap: 50,
        ..MastersConfig::default()
    };
    let mut world = World::new(&config);
    let count = 2000;
    for i in 0..count {
        let request = world.lock(1, i, &format!("r{i}"), LockMode::Ex, Flags::NONE);
        assert!(world.granted(1, request).is_some());
        if i % 100 == 0 {
            world.wait(1000);
        }
    }
    let share = |node: u16| world.mastered(node) * 100 / count;
    assert!((40..=55).contains(&share(1)), "{} %", share(1));
    assert!(share(2) > 15 && share(3) > 15);
}

/// Protects a node from a member that sends what cannot be: it refuses, and keeps what it has.
#[test]
fn impossible_resources_are_refused() {
    let mut world = World::eager();
    world.lock(1, 1, "r", LockMode::Ex, Flags::NONE);
    world.use_much(2, "r");
    world.silent = Some(1);
    world.wait(500);
    // The master's question arrives, its state does not.
    let asks = |m: &(u16, u16, Message)| matches!(m.2.body, Body::MoveAsk { .. });
    for (from, to, message) in world
        .mail
        .iter()
        .filter(|m| asks(m))
        .cloned()
        .collect::<Vec<_>>()
    {
        let boot = BootId(u64::from(from) + 100);
        let dlm = world.nodes.get_mut(&to).unwrap();
        dlm.receive(world.now, NodeId(from), boot, message);
    }
    world.mail.clear();
    world.settle();
    let resource = mainstay_wire::dlm::ResourceId {
        space: SPACE,
        name: ResourceName::new("r").unwrap(),
    };
    let lock = |lock: u64| mainstay_wire::dlm::MovedLock {
        node: NodeId(1),
        incarnation: Incarnation(1),
        lock: mainstay_base::LockId(lock),
        granted: Some((LockMode::Ex, mainstay_base::Token::floor(Epoch(1)))),
        pending: None,
        patient: false,
        blocking: false,
        blocking_next: false,
        valblk: false,
        told: None,
        watches: false,
    };
    let mut nobodys = lock(1);
    nobodys.incarnation = Incarnation(0);
    for locks in [vec![lock(1), lock(2)], vec![nobodys]] {
        world.mail.clear();
        let body = Body::MoveState {
            serial: 1,
            resources: vec![mainstay_wire::dlm::MovedResource {
                resource: resource.clone(),
                last: mainstay_base::Token::floor(Epoch(1)),
                value: Value {
                    block: ValueBlock::default(),
                    version: mainstay_base::ValueVersion(0),
                    maybe_stale: false,
                },
                next_ticket: 1,
                passed: 0,
                wrote: false,
                locks,
            }],
            last: true,
        };
        let message = Message {
            epoch: world.epoch,
            body,
        };
        let next = world.nodes.get_mut(&2).unwrap();
        next.receive(world.now, NodeId(1), BootId(101), message);
        world.collect();
        let refused = |m: &(u16, u16, Message)| matches!(m.2.body, Body::MoveRefused { serial: 1 });
        assert!(world.mail.iter().any(refused), "{:?}", world.mail);
    }
}

/// Protects exclusion where the directory applies a move sooner than the next master, which had asked
/// it for the master: what it is told then does not make it begin with nothing.
#[test]
fn an_answer_of_the_directory_does_not_come_before_the_move() {
    // Its directory is not the node that it moves to.
    let mut world = World::eager();
    world.lock(1, 1, "t", LockMode::Ex, Flags::NONE);
    world.use_much(2, "t");
    // The next master forgets the resource and asks the directory for it, which takes its time.
    for _ in 0..2 {
        world.now = world.now + mainstay_dlm::IDLE;
        world.nodes.get_mut(&2).unwrap().tick(world.now);
    }
    let call = world.lock_call(5, "t", LockMode::Ex, Flags::NONE);
    let next = world.nodes.get_mut(&2).unwrap();
    next.lock(world.now, SessionId(1), world.requests, call);
    let early = world.requests;
    world.collect();
    let lookup = |m: &(u16, u16, Message)| matches!(m.2.body, Body::Lookup { .. });
    assert!(world.mail.iter().any(lookup), "{:?}", world.mail);
    world.mail.retain(|message| !lookup(message));
    world.wait(500);
    let batch = world.proposed.remove(0);
    let message = Message {
        epoch: world.epoch,
        body: Body::YouMaster {
            resource: mainstay_wire::dlm::ResourceId {
                space: SPACE,
                name: ResourceName::new("t").unwrap(),
            },
            members: world.epoch,
            floor: mainstay_base::Token::floor(world.epoch),
        },
    };
    let now = world.now;
    let next = world.nodes.get_mut(&2).unwrap();
    next.receive(now, NodeId(3), BootId(103), message);
    world.settle();
    assert_eq!(world.granted(2, early), None, "node 1's client holds it");
    world.proposed.push(batch);
    world.commit(true);
    assert_eq!(world.masters(), [2]);
    assert_eq!(world.granted(2, early), None);
    world.unlock(1, 1);
    assert!(world.granted(2, early).is_some());
}

/// Protects a lock that is released by force while its resource moves: the answer to the conversion
/// that this ends, which the next master may still give, does not count for the release.
#[test]
fn a_release_by_force_in_between_is_done_once() {
    let mut world = World::eager();
    world.lock(1, 1, "r", LockMode::Nl, Flags::NONE);
    let writer = world.lock(3, 1, "r", LockMode::Pw, Flags::VALBLK);
    assert!(world.granted(3, writer).is_some());
    let reader = world.lock(1, 2, "r", LockMode::Cr, Flags::VALBLK);
    assert!(world.granted(1, reader).is_some());
    let waits = world.convert(3, 1, LockMode::Ex, None);
    world.use_much(2, "r");
    world.wait(500);
    assert_eq!(world.proposed.len(), 1);
    world.requests += 1;
    let release = world.requests;
    let call = UnlockCall {
        handle: Handle(1),
        flags: Flags::FORCEUNLOCK | Flags::VALBLK,
        value: Some(ValueBlock::new(b"last").unwrap()),
    };
    let now = world.now;
    let owner = world.nodes.get_mut(&3).unwrap();
    owner.unlock(now, SessionId(1), release, call);
    let batch = world.proposed[0];
    // The next master has applied the move, and grants the conversion, before the owner has.
    world.nodes.get_mut(&2).unwrap().on_move(now, &batch, true);
    world.nodes.get_mut(&1).unwrap().on_move(now, &batch, true);
    world.collect();
    world.unlock(1, 2);
    assert_eq!(world.answers.get(&(3, release)), None);
    world.nodes.get_mut(&3).unwrap().on_move(now, &batch, true);
    world.settle();
    assert!(matches!(
        world.answers.get(&(3, release)),
        Some(Ok(Answer::Unlocked { version: Some(_) }))
    ));
    assert_eq!(
        world.answers.get(&(3, waits)),
        Some(&Err(Refusal::Released))
    );
    let next = world.lock(1, 3, "r", LockMode::Ex, Flags::VALBLK);
    let value = world.granted(1, next).unwrap().value.clone().unwrap();
    assert_eq!(value.block, ValueBlock::new(b"last\0\0\0\0").unwrap());
}

/// Protects a release that follows a call whose time ran out while the resource was on its way: it is
/// not cancelled in place of the one that is over, where it has to wait again after the move.
#[test]
fn a_release_after_a_timeout_in_between_is_done() {
    for (done, owner) in [(true, 2), (false, 1), (true, 3)] {
        let mut world = World::eager();
        world.lock(1, 2, "r", LockMode::Nl, Flags::NONE);
        let writer = world.lock(owner, 1, "r", LockMode::Pw, Flags::VALBLK);
        assert!(world.granted(owner, writer).is_some());
        world.use_much(2, "r");
        world.wait(500);
        assert_eq!(world.proposed.len(), 1);
        let (now, late) = (world.now, 5000);
        let call = ConvertCall {
            handle: Handle(1),
            mode: LockMode::Ex,
            flags: Flags::VALBLK,
            blocking: true,
            value: None,
            deadline: Some(now + Duration::from_millis(10)),
        };
        let owning = world.nodes.get_mut(&owner).unwrap();
        owning.convert(now, SessionId(1), late, call);
        world.wait(20);
        let timed_out = Err(Refusal::TimedOut);
        assert_eq!(world.answers.get(&(owner, late)), Some(&timed_out));
        let (now, release) = (world.now, 5001);
        let call = UnlockCall {
            handle: Handle(1),
            flags: Flags::VALBLK,
            value: Some(ValueBlock::new(b"last").unwrap()),
        };
        let owning = world.nodes.get_mut(&owner).unwrap();
        owning.unlock(now, SessionId(1), release, call);
        world.settle();
        assert_eq!(world.answers.get(&(owner, release)), None, "nobody decides");
        let now = world.now;
        for active in [false, true] {
            for dlm in world.nodes.values_mut() {
                dlm.set_active(now, active);
            }
            world.commit(done);
        }
        let answer = world.answers.get(&(owner, release));
        let published = matches!(answer, Some(Ok(Answer::Unlocked { version: Some(_) })));
        assert!(published, "{done} {owner}: {answer:?}");
    }
}

/// Protects an adoption in the middle of a move: the heir has the lock at once, and what the lock is in
/// the way of it hears from the next master, or from the one that stays.
#[test]
fn an_adoption_in_between_is_told_to_the_next_master() {
    for done in [true, false] {
        let mut world = World::eager();
        world.lock(1, 1, "r", LockMode::Nl, Flags::NONE);
        let held = world.lock(3, 1, "r", LockMode::Ex, Flags::PERSISTENT);
        assert!(world.granted(3, held).is_some());
        let queued = world.lock(1, 2, "r", LockMode::Ex, Flags::NONE);
        let now = world.now;
        let owner = world.nodes.get_mut(&3).unwrap();
        owner.close_session(now, SessionId(1));
        world.use_much(2, "r");
        world.wait(500);
        assert_eq!(world.proposed.len(), 1);
        world.notices.clear();
        let (now, request) = (world.now, 5000);
        let call = AdoptCall {
            handle: Handle(9),
            space: SPACE,
            name: ResourceName::new("r").unwrap(),
            mode: LockMode::Ex,
            flags: Flags::NONE,
            blocking: true,
            uid: None,
        };
        let owner = world.nodes.get_mut(&3).unwrap();
        owner.adopt(now, SessionId(2), request, &call);
        world.settle();
        assert!(world.granted(3, request).is_some(), "it is there at once");
        assert_eq!(world.notices, [], "nobody decides");
        world.commit(done);
        world.settle();
        assert_eq!(world.notices, [(3, Handle(9), LockMode::Ex)]);
        assert_eq!(world.granted(1, queued), None, "the heir holds it");
        let now = world.now;
        let owner = world.nodes.get_mut(&3).unwrap();
        owner.close_session(now, SessionId(2));
        world.settle();
        assert!(world.granted(1, queued).is_some(), "the heir is gone");
    }
}

/// Protects from two masters when a node rests: its own locks on what the log may still give away are handed over only
/// when it stays.
#[test]
fn what_may_move_is_handed_over_when_it_stays() {
    for done in [true, false] {
        let mut world = World::eager();
        world.lock(1, 1, "r", LockMode::Pr, Flags::NONE);
        world.use_much(2, "r");
        world.wait(500);
        assert_eq!(world.proposed.len(), 1);
        world.silent = Some(1);
        let handed = |world: &World| {
            let own =
                |body: &Body| matches!(body, Body::Restate { node, .. } if *node == NodeId(1));
            let mut mail = world.mail.iter();
            mail.any(|(from, _, message)| *from == 1 && own(&message.body))
        };
        let now = world.now;
        world.nodes.get_mut(&1).unwrap().begin_rest(now);
        world.settle();
        assert!(!handed(&world), "the log has yet to decide");
        world.commit(done);
        world.settle();
        assert_eq!(handed(&world), !done);
    }
}
