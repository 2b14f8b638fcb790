//! Sets that are taken, or refused, where nothing fails.

use super::*;

/// Protects what a set is for: all of it in one call, in the order in which it was asked for, and
/// then locks as any others. Masters near and far, and both.
#[test]
fn a_free_set_is_granted_and_then_ordinary_locks() {
    for node in [N1, N2] {
        let (mut w, space) = cluster();
        // Mastered here, where the others are on node 1.
        take(&mut w, node, 50, space, "e", LockMode::Nl);
        let members = vec![
            member(1, "e", LockMode::Ex),
            member(2, "c", LockMode::Pr),
            member(3, "a", LockMode::Pw),
        ];
        let request = ask_set(&mut w, node, space, members, Flags::NONE, None);
        let granted = set_granted(&mut w, node, request);
        let modes: Vec<LockMode> = granted.iter().map(|g| g.mode).collect();
        assert_eq!(modes, [LockMode::Ex, LockMode::Pr, LockMode::Pw]);
        assert!(granted.iter().all(|g| g.token > Token::NONE));
        assert!(!is_free(&mut w, space, "a") && !is_free(&mut w, space, "e"));
        let convert = w.ask(
            node,
            session(node),
            World::convert_ask(2, LockMode::Ex, None),
        );
        w.granted(node, convert);
        for handle in 1..=3 {
            release(&mut w, node, handle);
        }
        assert!(is_free(&mut w, space, "a") && is_free(&mut w, space, "e"));
    }
}

/// Protects from deadlocks among sets: whatever order they name their locks in, each gets its turn,
/// and the search for deadlocks has nothing to do.
#[test]
fn sets_in_opposite_orders_take_turns() {
    let (mut w, space) = cluster();
    let orders = [["a", "b", "c"], ["c", "b", "a"], ["b", "c", "a"]];
    for round in 0..5 {
        let asked: Vec<(NodeId, u64)> = [N1, N2, N3]
            .into_iter()
            .zip(orders)
            .map(|(node, names)| (node, set(&mut w, node, space, &names)))
            .collect();
        let mut left = asked;
        while !left.is_empty() {
            let answered = |w: &World| {
                left.iter()
                    .position(|(node, r)| w.result(*node, *r).is_some())
            };
            w.until("one of them", |w| answered(w).is_some());
            w.run(SHORT);
            let first = answered(&w).expect("just seen");
            let (node, request) = left.remove(first);
            set_granted(&mut w, node, request);
            let others = left.iter().any(|(node, r)| w.result(*node, *r).is_some());
            assert!(!others, "round {round}: two hold the same set");
            for handle in 1..=3 {
                release(&mut w, node, handle);
            }
        }
    }
    let broken = |e: &mainstay_wire::event::Event| e.reason.to_string() == "deadlock";
    assert!(!w.hosts.values().any(|h| h.events.iter().any(broken)));
}

/// Protects others from a set that waits: of what it names it keeps only what comes before the one
/// that it waits for, by name.
#[test]
fn a_waiting_set_holds_nothing_behind() {
    let (mut w, space) = cluster();
    take(&mut w, N1, 5, space, "b", LockMode::Pr);
    let asked = set(&mut w, N2, space, &["c", "b", "a", "d"]);
    w.run(SHORT);
    assert!(w.result(N2, asked).is_none());
    assert!(!is_free(&mut w, space, "a"), "it comes before b");
    assert!(is_free(&mut w, space, "c") && is_free(&mut w, space, "d"));
    // Held by somebody else meanwhile: it waits once more, and for that one alone.
    take(&mut w, N3, 6, space, "d", LockMode::Pr);
    release(&mut w, N1, 5);
    assert!(w.result(N2, asked).is_none());
    assert!(!is_free(&mut w, space, "b") && !is_free(&mut w, space, "c"));
    release(&mut w, N3, 6);
    assert_eq!(set_granted(&mut w, N2, asked).len(), 4);
}

/// Protects all or nothing: whatever ends a set, its refusal names the lock that was the reason, and
/// none of it is left.
#[test]
fn a_refused_set_leaves_nothing() {
    for node in [N1, N2] {
        let (mut w, space) = cluster();
        take(&mut w, N3, 5, space, "c", LockMode::Pr);
        let names = ["d", "c", "a"];
        let late = ask_set(&mut w, node, space, all_ex(&names), Flags::NONE, Some(200));
        let (place, name, why) = refused(w.wait(node, late));
        assert_eq!((place, &*name, why), (1, "c", Refusal::TimedOut));

        let nowait = ask_set(&mut w, node, space, all_ex(&names), Flags::NOQUEUE, None);
        let (_, name, why) = refused(w.wait(node, nowait));
        assert_eq!((&*name, why), ("c", Refusal::NotQueued));

        let asked = set(&mut w, node, space, &names);
        w.run(SHORT);
        // By the handle of one that is not even asked for.
        let cancel = w.ask(node, session(node), Ask::Cancel { handle: Handle(1) });
        assert_eq!(w.wait(node, cancel), Ok(Answer::Cancelled));
        let (_, name, why) = refused(w.wait(node, asked));
        assert_eq!((&*name, why), ("c", Refusal::Cancelled));

        let asked = set(&mut w, node, space, &names);
        w.run(SHORT);
        let gone = unlock(&mut w, node, 3, Flags::FORCEUNLOCK);
        assert_eq!(gone, Ok(Answer::Unlocked { version: None }));
        assert_eq!(refused(w.wait(node, asked)).2, Refusal::Released);

        w.run(SHORT);
        assert!(is_free(&mut w, space, "a") && is_free(&mut w, space, "d"));
        release(&mut w, N3, 5);
        // Its handles are free again.
        let asked = set(&mut w, node, space, &names);
        set_granted(&mut w, node, asked);
        let late = w.ask(node, session(node), Ask::Cancel { handle: Handle(1) });
        assert_eq!(w.wait(node, late), Err(Refusal::TooLate));
    }
}

/// Protects clients from sets that mean nothing: what is wrong with one, and where, is said at once.
#[test]
fn a_set_that_cannot_be_is_refused_at_once() {
    let (mut w, space) = cluster();
    take(&mut w, N2, 9, space, "d", LockMode::Pr);
    let with = |second: SetMember| vec![member(1, "a", LockMode::Ex), second];
    let flagged = |flags| SetMember {
        flags,
        ..member(2, "b", LockMode::Ex)
    };
    let wrong = [
        (with(member(2, "a", LockMode::Pr)), "invalid", "twice"),
        (with(member(1, "b", LockMode::Ex)), "handle-in-use", ""),
        (with(member(9, "b", LockMode::Ex)), "handle-in-use", ""),
        (with(flagged(Flags::NOQUEUE)), "invalid", "VALBLK|EXPEDITE"),
        (with(flagged(Flags::NODLCKBLK)), "invalid", "NODLCKBLK"),
        (with(flagged(Flags::EXPEDITE)), "invalid", "EXPEDITE"),
        (with(flagged(Flags(1 << 30))), "invalid", "0x40000000"),
    ];
    for (members, code, text) in wrong {
        let request = ask_set(&mut w, N2, space, members, Flags::NONE, None);
        let why = w.wait(N2, request).expect_err("it cannot be");
        assert_eq!(why.code(), code, "{why}");
        assert!(why.to_string().contains(text), "{why}");
        let (place, ..) = refused(Err(why));
        assert_eq!(place, 1);
    }
    let many = |count| (0..count).map(|i| member(i, &format!("m{i}"), LockMode::Cr));
    for count in [0, SET_LOCKS_MAX as u64 + 1] {
        let request = ask_set(&mut w, N2, space, many(count).collect(), Flags::NONE, None);
        let why = w.wait(N2, request).expect_err("too few or too many");
        assert_eq!(why.code(), "limit", "{why}");
    }
    for flags in [Flags::VALBLK, Flags::NOQUEUEBAST] {
        let request = ask_set(&mut w, N2, space, all_ex(&["a"]), flags, None);
        let why = w.wait(N2, request).expect_err("not for a set");
        assert_eq!(why.code(), "invalid", "{why}");
    }
    let request = ask_set(
        &mut w,
        N2,
        LockspaceId(77),
        all_ex(&["a"]),
        Flags::NONE,
        None,
    );
    assert_eq!(w.wait(N2, request), Err(Refusal::NoSuchLockspace));
    let most = many(SET_LOCKS_MAX as u64).map(|m| SetMember {
        handle: Handle(m.handle.0 + 1000),
        ..m
    });
    let request = ask_set(&mut w, N2, space, most.collect(), Flags::NONE, None);
    assert_eq!(set_granted(&mut w, N2, request).len(), SET_LOCKS_MAX);
}

/// Protects the handles of a set that waits: to its client its locks are not there yet, and nobody
/// else gets the handles.
#[test]
fn the_handles_of_a_waiting_set_are_taken() {
    let (mut w, space) = cluster();
    take(&mut w, N1, 5, space, "b", LockMode::Pr);
    let asked = set(&mut w, N2, space, &["a", "b", "c"]);
    w.run(SHORT);
    for handle in 1..=3 {
        let convert = w.ask(N2, 2, World::convert_ask(handle, LockMode::Pr, None));
        assert_eq!(w.wait(N2, convert), Err(Refusal::Busy));
        assert_eq!(unlock(&mut w, N2, handle, Flags::NONE), Err(Refusal::Busy));
        let promise = Ask::SetResponseTime {
            handle: Handle(handle),
            within_ms: Some(100),
            release: false,
        };
        let promise = w.ask(N2, 2, promise);
        assert_eq!(w.wait(N2, promise), Err(Refusal::Busy));
        let watch = Ask::WatchValue {
            handle: Handle(handle),
            on: true,
        };
        let watch = w.ask(N2, 2, watch);
        assert_eq!(w.wait(N2, watch), Err(Refusal::Busy));
        let ask = World::lock_ask(handle, space, "d", LockMode::Cr, Flags::NONE);
        let lock = w.ask(N2, 2, ask);
        assert_eq!(w.wait(N2, lock), Err(Refusal::HandleInUse));
    }
    release(&mut w, N1, 5);
    set_granted(&mut w, N2, asked);
}

/// Protects what a client knows: it hears that its lock is in the way only once it has the set.
#[test]
fn notices_come_after_the_grant() {
    for node in [N1, N2] {
        let (mut w, space) = cluster();
        take(&mut w, N3, 5, space, "b", LockMode::Pr);
        let asked = set(&mut w, node, space, &["a", "b"]);
        w.run(SHORT);
        // Another client: the holder of b would wait in a circle.
        w.open(N3, 4);
        let ask = World::lock_ask(6, space, "a", LockMode::Pr, Flags::NONE);
        let waits = w.ask(N3, 4, ask);
        w.run(SHORT);
        assert_eq!(notices(&w, node), [], "it does not have a yet");
        release(&mut w, N3, 5);
        set_granted(&mut w, node, asked);
        assert_eq!(notices(&w, node), [(Handle(1), LockMode::Pr)]);
        release(&mut w, node, 1);
        assert!(w.token(N3, waits) > Token::NONE);
    }
}

/// Protects the search for deadlocks: what a set has gathered stands in the way of others, and with a
/// lock that its owner held before it may stand in a circle. Then all of it is refused.
#[test]
fn a_circle_through_a_set_is_found() {
    let (mut w, space) = cluster();
    take(&mut w, N2, 9, space, "d", LockMode::Ex);
    take(&mut w, N3, 5, space, "b", LockMode::Ex);
    let ask = World::lock_ask(6, space, "d", LockMode::Ex, Flags::NONE);
    let waits = w.ask(N3, 3, ask);
    w.run(SHORT);
    let asked = set(&mut w, N2, space, &["a", "b", "c"]);
    let (place, name, why) = refused(w.wait(N2, asked));
    assert_eq!((place, &*name), (1, "b"));
    match why {
        Refusal::DeadlockCycle(report) => assert_eq!(report.waits.len(), 2),
        other => panic!("{other}"),
    }
    w.run(SHORT);
    assert!(is_free(&mut w, space, "a") && is_free(&mut w, space, "c"));
    release(&mut w, N2, 9);
    w.granted(N3, waits);
}
