//! Conversions and unlocks in bulk.

use super::*;

fn many(w: &mut World, node: NodeId, ask: Ask) -> Vec<Result<OneDone, Refusal>> {
    let request = w.ask(node, session(node), ask);
    match w.wait(node, request) {
        Ok(Answer::Many { results }) => results,
        other => panic!("{other:?}"),
    }
}

fn convert_one(handle: u64, mode: LockMode, flags: Flags) -> ConvertOne {
    ConvertOne {
        handle: Handle(handle),
        mode,
        flags,
        blocking: true,
        value: None,
    }
}

fn unlock_one(handle: u64, flags: Flags) -> UnlockOne {
    UnlockOne {
        handle: Handle(handle),
        flags,
        value: None,
    }
}

/// Protects bulk calls: each lock gets its own result, the answer comes when all have ended, and a
/// handle that is named twice meets its own earlier call.
#[test]
fn bulk_calls_answer_for_each_lock() {
    for node in [N1, N2] {
        let (mut w, space) = cluster();
        for (handle, name) in [(1, "a"), (2, "b"), (3, "c")] {
            take(&mut w, node, handle, space, name, LockMode::Pr);
        }
        take(&mut w, N3, 5, space, "b", LockMode::Pr);
        let locks = vec![
            convert_one(1, LockMode::Ex, Flags::NONE),
            convert_one(2, LockMode::Ex, Flags::NOQUEUE),
            convert_one(7, LockMode::Ex, Flags::NONE),
            convert_one(3, LockMode::Cr, Flags::EXPEDITE),
        ];
        let ask = Ask::ConvertMany {
            locks,
            timeout_ms: None,
        };
        let results = many(&mut w, node, ask);
        let codes: Vec<&str> = results
            .iter()
            .map(|result| match result {
                Ok(OneDone::Granted { granted, .. }) => granted.mode.name(),
                Ok(OneDone::Unlocked { .. }) => "unlocked",
                Err(why) => why.code(),
            })
            .collect();
        assert_eq!(codes, ["ex", "not-queued", "no-such-lock", "invalid"]);

        // One that waits keeps the answer back, and is busy for the rest of the call.
        let locks = vec![
            convert_one(2, LockMode::Ex, Flags::NONE),
            convert_one(2, LockMode::Cr, Flags::NONE),
            convert_one(1, LockMode::Cr, Flags::NONE),
        ];
        let ask = Ask::ConvertMany {
            locks,
            timeout_ms: None,
        };
        let request = w.ask(node, session(node), ask);
        w.run(SHORT);
        assert!(w.result(node, request).is_none());
        assert!(is_free(&mut w, space, "d"));
        release(&mut w, N3, 5);
        match w.wait(node, request) {
            Ok(Answer::Many { results }) => {
                assert!(matches!(&results[0], Ok(OneDone::Granted { granted, .. })
                    if granted.mode == LockMode::Ex));
                assert_eq!(results[1], Err(Refusal::Busy));
                assert!(results[2].is_ok());
            }
            other => panic!("{other:?}"),
        }

        let locks = [1, 2, 2, 3].map(|handle| unlock_one(handle, Flags::NONE));
        let ask = Ask::UnlockMany {
            locks: locks.to_vec(),
        };
        let results = many(&mut w, node, ask);
        let gone = Ok(OneDone::Unlocked { version: None });
        assert!(results[0] == gone && results[1] == gone && results[3] == gone);
        assert!(matches!(
            results[2],
            Err(Refusal::NoSuchLock | Refusal::Busy)
        ));
        w.run(SHORT);
        assert!(
            ["a", "b", "c"]
                .iter()
                .all(|name| is_free(&mut w, space, name))
        );
        for count in [0, SET_LOCKS_MAX + 1] {
            let locks = vec![unlock_one(1, Flags::NONE); count];
            let request = w.ask(node, session(node), Ask::UnlockMany { locks });
            let why = w.wait(node, request).expect_err("too few or too many");
            assert_eq!(why.code(), "limit");
        }
    }
}

/// Protects bulk calls from calls that never end: what is cancelled, timed out, forced or refused for
/// a circle is told in its place.
#[test]
fn bulk_calls_end_however_their_parts_do() {
    let (mut w, space) = cluster();
    for (handle, name) in [(1, "a"), (2, "b"), (3, "c"), (4, "d")] {
        take(&mut w, N2, handle, space, name, LockMode::Pr);
        take(&mut w, N3, handle, space, name, LockMode::Pr);
    }
    let locks = (1..=3).map(|handle| convert_one(handle, LockMode::Ex, Flags::NONE));
    let ask = Ask::ConvertMany {
        locks: locks.collect(),
        timeout_ms: Some(300),
    };
    let request = w.ask(N2, 2, ask);
    w.run(SHORT);
    let cancel = w.ask(N2, 2, Ask::Cancel { handle: Handle(1) });
    assert_eq!(w.wait(N2, cancel), Ok(Answer::Cancelled));
    let locks = vec![
        unlock_one(2, Flags::FORCEUNLOCK),
        unlock_one(4, Flags::NONE),
    ];
    let gone = many(&mut w, N2, Ask::UnlockMany { locks });
    assert!(gone.iter().all(Result::is_ok), "{gone:?}");
    let ended = |w: &mut World, request| match w.wait(N2, request) {
        Ok(Answer::Many { results }) => results,
        other => panic!("{other:?}"),
    };
    let results = ended(&mut w, request);
    let refusals = [Refusal::Cancelled, Refusal::Released, Refusal::TimedOut].map(Err);
    assert_eq!(results, refusals);
    // A circle: this owner waits for c, where the other waits for what this one has of a.
    let convert = w.ask(N3, 3, World::convert_ask(1, LockMode::Ex, None));
    w.run(SHORT);
    let locks = vec![convert_one(3, LockMode::Ex, Flags::NONE)];
    let ask = Ask::ConvertMany {
        locks,
        timeout_ms: None,
    };
    let request = w.ask(N2, 2, ask);
    let results = ended(&mut w, request);
    assert!(
        matches!(&results[..], [Err(Refusal::DeadlockCycle(_))]),
        "{results:?}"
    );
    release(&mut w, N2, 1);
    w.granted(N3, convert);
}

/// Protects the answer to many from growing beyond a message: of circles it tells a bounded number of
/// waits, and what is beyond is still refused as a deadlock.
#[test]
fn of_many_circles_some_are_told() {
    const WAITS_MAX: usize = 256;
    let mut w = World::new(1, FencePolicy::Lease);
    w.settle();
    for session in 1..=3 {
        w.open(N1, session);
    }
    let space = w.space(N1, 1);
    let granted = |w: &mut World, session, handle, name: &str| {
        let ask = World::lock_ask(handle, space, name, LockMode::Pr, Flags::NONE);
        let request = w.ask(N1, session, ask);
        w.granted(N1, request);
    };
    // Each conversion waits for session 2, which waits for 3, which waits for 1.
    let all = SET_LOCKS_MAX as u64;
    for handle in 1..=all {
        for session in [1, 2] {
            granted(&mut w, session, handle, &format!("r{handle}"));
        }
    }
    for (session, held, wanted) in [(1, "x", None), (3, "y", Some("x")), (2, "z", Some("y"))] {
        granted(&mut w, session, 1000, held);
        if let Some(name) = wanted {
            let ask = World::lock_ask(1001, space, name, LockMode::Ex, Flags::NONE);
            w.ask(N1, session, ask);
        }
    }
    let locks = (1..=all).map(|handle| convert_one(handle, LockMode::Ex, Flags::NONE));
    let ask = Ask::ConvertMany {
        locks: locks.collect(),
        timeout_ms: None,
    };
    let results = many(&mut w, N1, ask);
    let waits = |result: &Result<OneDone, Refusal>| match result {
        Err(Refusal::DeadlockCycle(report)) => report.waits.len(),
        Err(Refusal::Deadlock) => 0,
        other => panic!("{other:?}"),
    };
    let told: Vec<usize> = results.iter().map(waits).collect();
    assert!(told.iter().all(|waits| [0, 3].contains(waits)), "{told:?}");
    let sum: usize = told.iter().sum();
    assert!((WAITS_MAX - 2..=WAITS_MAX).contains(&sum), "{sum}");
    let first_untold = told.iter().position(|waits| *waits == 0).expect("some");
    assert!(told[first_untold..].iter().all(|waits| *waits == 0));
    let result = Ok(Answer::Many { results });
    let message = ToClient::Done { request: 1, result };
    let len = mainstay_wire::codec::to_vec(&message).len();
    assert!(len <= mainstay_wire::client::MESSAGE_LEN_MAX / 2, "{len}");
}
