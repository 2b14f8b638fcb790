use super::*;
use crate::testing::frame;
use mainstay_base::{Entropy, LockspaceId, ResourceName, ValueVersion};
use mainstay_wire::{lock::Granted, sets::UnlockOne};

/// What the machine has to send, as the daemon reads it.
fn sent(machine: &mut Machine) -> Vec<FromClient> {
    let bytes = std::mem::take(machine.output());
    let mut rest = bytes.as_slice();
    let mut calls = Vec::new();
    while let Some((header, body)) = rest.split_first_chunk::<HEADER_LEN>() {
        let (body, tail) = body.split_at(u32::from_le_bytes(*header) as usize);
        calls.push(codec::decode("call", MESSAGE_LEN_MAX, body).unwrap());
        rest = tail;
    }
    calls
}

fn asks(machine: &mut Machine) -> Vec<Ask> {
    sent(machine).into_iter().map(|call| call.ask).collect()
}

fn hear(machine: &mut Machine, message: &ToClient) {
    machine.feed(&frame(message));
    while machine.next().unwrap().is_some() {}
}

fn done(machine: &mut Machine, request: u64, result: Result<Answer, Refusal>) {
    hear(machine, &ToClient::Done { request, result });
}

fn granted(mode: LockMode) -> Result<Answer, Refusal> {
    Ok(Answer::Granted(Granted {
        mode,
        token: Token(5),
        value: None,
    }))
}

fn call(mode: LockMode) -> LockCall {
    LockCall::new(ResourceName::new("r").unwrap(), mode)
}

fn requested(machine: &mut Machine) -> (Handle, u64) {
    let ask = |handle| call(LockMode::Ex).ask(handle, LockspaceId(1));
    let made = machine.lock(ask).unwrap();
    sent(machine);
    made
}

fn held(machine: &mut Machine) -> Handle {
    let (handle, request) = requested(machine);
    done(machine, request, granted(LockMode::Ex));
    handle
}

fn unlock(handle: Handle) -> Ask {
    Ask::Unlock {
        handle,
        flags: Flags::NONE,
        value: None,
    }
}

/// Protects against a leak when the owner of a request goes while the grant is on its way: the
/// cancel comes too late, so the lock is unlocked, once.
#[test]
fn released_request_that_was_granted_is_unlocked() {
    let mut m = Machine::default();
    let (handle, request) = requested(&mut m);
    m.release(handle);
    m.release(handle);
    let cancel = sent(&mut m);
    assert!(
        matches!(cancel[..], [FromClient { ask: Ask::Cancel { handle: h }, .. }] if h == handle)
    );
    done(&mut m, request, granted(LockMode::Ex));
    let unlocked = sent(&mut m);
    assert_eq!(unlocked.len(), 1);
    assert_eq!(unlocked[0].ask, unlock(handle));
    done(&mut m, cancel[0].request, Err(Refusal::TooLate));
    assert!(sent(&mut m).is_empty());
    done(
        &mut m,
        unlocked[0].request,
        Ok(Answer::Unlocked { version: None }),
    );
    assert!(m.watched(handle).is_none());
}

/// Protects the other order of the race: the cancel wins, and a lock that never was is not unlocked.
#[test]
fn released_request_that_was_cancelled_needs_nothing_more() {
    let mut m = Machine::default();
    let (handle, request) = requested(&mut m);
    m.release(handle);
    let cancel = sent(&mut m)[0].request;
    done(&mut m, request, Err(Refusal::Cancelled));
    done(&mut m, cancel, Ok(Answer::Cancelled));
    assert!(sent(&mut m).is_empty() && m.watched(handle).is_none());
}

/// Protects a lock whose guard goes during a conversion: the conversion is cancelled and the lock
/// unlocked after it has ended, however it ended; never before, which would be refused as busy.
#[test]
fn lock_released_during_a_conversion_is_unlocked_after_it() {
    for end in [Err(Refusal::Cancelled), granted(LockMode::Nl)] {
        let mut m = Machine::default();
        let handle = held(&mut m);
        let ask = convert(handle, call(LockMode::Nl), None);
        let request = m.call_on(handle, ask.clone()).unwrap();
        assert_eq!(m.call_on(handle, ask), Err(Refusal::Busy));
        sent(&mut m);
        m.cancel(handle);
        m.release(handle);
        assert_eq!(asks(&mut m), [Ask::Cancel { handle }], "cancelled once");
        done(&mut m, request, end);
        assert_eq!(asks(&mut m), [unlock(handle)]);
    }
}

/// Protects against keeping a lock because its last value was refused.
#[test]
fn unlock_with_a_refused_value_is_repeated_without() {
    let mut m = Machine::default();
    let handle = held(&mut m);
    let value = Some(ValueBlock::new([1; 64]).unwrap());
    let flags = Flags::VALBLK;
    let ask = Ask::Unlock {
        handle,
        flags,
        value,
    };
    let request = m.call_on(handle, ask).unwrap();
    sent(&mut m);
    done(
        &mut m,
        request,
        Err(Refusal::Invalid("too long".to_owned())),
    );
    let again = sent(&mut m);
    assert_eq!(again[0].ask, unlock(handle));
    done(
        &mut m,
        again[0].request,
        Err(Refusal::Unavailable("gone".to_owned())),
    );
    assert!(sent(&mut m).is_empty(), "no endless repetition");
}

/// Protects what a guard shows: mode, token and value follow the grants, and a refused conversion
/// changes nothing.
#[test]
fn lock_state_follows_the_grants() {
    let mut m = Machine::default();
    let handle = held(&mut m);
    let value = Value {
        block: ValueBlock::new(b"v").unwrap(),
        version: ValueVersion(3),
        maybe_stale: false,
    };
    let request = m
        .call_on(handle, convert(handle, call(LockMode::Pw), None))
        .unwrap();
    let grant = Granted {
        mode: LockMode::Pw,
        token: Token(9),
        value: Some(value.clone()),
    };
    done(&mut m, request, Ok(Answer::Granted(grant)));
    let request = m
        .call_on(handle, convert(handle, call(LockMode::Ex), None))
        .unwrap();
    done(&mut m, request, Err(Refusal::Deadlock));
    let lock = m.watched(handle).unwrap();
    let state = (lock.mode, lock.token, lock.value.clone());
    assert_eq!(state, (Some(LockMode::Pw), Token(9), Some(value)));
}

/// Protects an owner from acting twice on one wish, and from acting on one it has already met.
#[test]
fn blocking_notices_are_told_once_and_not_when_met() {
    let mut m = Machine::default();
    let handle = held(&mut m);
    for mode in [LockMode::Pr, LockMode::Pr, LockMode::Ex] {
        hear(&mut m, &ToClient::Blocking { handle, mode });
    }
    assert_eq!(
        m.watched(handle).unwrap().take_blocked(),
        Some(LockMode::Pr)
    );
    let request = m
        .call_on(handle, convert(handle, call(LockMode::Pr), None))
        .unwrap();
    done(&mut m, request, granted(LockMode::Pr));
    let mode = LockMode::Pr;
    hear(&mut m, &ToClient::Blocking { handle, mode });
    let lock = m.watched(handle).unwrap();
    assert_eq!(lock.take_blocked(), Some(LockMode::Ex));
    assert_eq!(lock.take_blocked(), None, "PR no longer blocks PR");
}

/// Protects an owner of ranges in the same way: what it gave up while the notice was on its way, or lay
/// there, is not its business any more.
#[test]
fn range_notices_are_told_while_they_matter() {
    let mut m = Machine::default();
    let handle = m.open_ranges();
    let bytes = |text: &str| text.parse::<ByteRange>().unwrap();
    let set = |m: &mut Machine, range, mode, holds| {
        let ask = Ask::Range {
            handle,
            lockspace: LockspaceId(1),
            name: ResourceName::new("r").unwrap(),
            range: bytes(range),
            mode,
            flags: Flags::NONE,
            blocking: true,
            timeout_ms: None,
        };
        let request = m.call_on(handle, ask).unwrap();
        let token = Token(u64::from(holds));
        done(m, request, Ok(Answer::RangeSet { token, holds }));
    };
    let blocking = |m: &mut Machine, range| {
        let (range, mode) = (bytes(range), LockMode::Pr);
        let notice = ToClient::RangeBlocking {
            handle,
            range,
            mode,
        };
        hear(m, &notice);
    };
    let take = |m: &mut Machine| m.watched(handle).unwrap().take_blocked_range();
    set(&mut m, "0-99", LockMode::Ex, true);
    for range in ["0-9", "20-29", "20-29", "40-"] {
        blocking(&mut m, range);
    }
    set(&mut m, "0-9", LockMode::Nl, true);
    assert_eq!(take(&mut m), Some((bytes("20-29"), LockMode::Pr)));
    set(&mut m, "30-", LockMode::Pr, true);
    assert_eq!(take(&mut m), None, "PR does not block PR");
    blocking(&mut m, "10-19");
    set(&mut m, "0-", LockMode::Nl, false);
    blocking(&mut m, "10-19");
    assert_eq!(take(&mut m), None, "it holds nothing");
}

/// Protects the stream: a message means the same however the kernel cuts it.
#[test]
fn messages_may_arrive_in_any_pieces() {
    let pong = |request| {
        frame(&ToClient::Done {
            request,
            result: Ok(Answer::Pong),
        })
    };
    for piece in 1..30 {
        let mut m = Machine::default();
        let requests = [m.call(Ask::Ping).unwrap(), m.call(Ask::Ping).unwrap()];
        let bytes = [
            pong(requests[0]),
            frame(&ToClient::Resumed),
            pong(requests[1]),
        ]
        .concat();
        let mut heard = Vec::new();
        for part in bytes.chunks(piece) {
            m.feed(part);
            while let Some(happening) = m.next().unwrap() {
                heard.push(match happening {
                    Happening::Done { request, .. } => request,
                    Happening::Resumed => 0,
                    other => panic!("{other:?}"),
                });
            }
        }
        assert_eq!(heard, [requests[0], 0, requests[1]], "pieces of {piece}");
    }
}

/// Protects the client from a daemon that breaks the protocol: every breach is an error that says
/// what it was, before memory is spent on it.
#[test]
fn breaches_of_the_protocol_are_errors() {
    let mut long = u32::try_from(MESSAGE_LEN_MAX + 1)
        .unwrap()
        .to_le_bytes()
        .to_vec();
    long.push(0);
    let mut trailing = frame(&ToClient::Resumed);
    trailing[0] += 1;
    trailing.push(0);
    let answer = |request, answer| {
        frame(&ToClient::Done {
            request,
            result: Ok(answer),
        })
    };
    let cases = [
        (long, "exceeds the limit"),
        (vec![1, 0, 0, 0, 250], "not a message"),
        (vec![0, 0, 0, 0], "not a message"),
        (trailing, "follow the end"),
        (answer(77, Answer::Pong), "request 77, which is not open"),
        (answer(1, Answer::Subscribed), "the answer to a Ping call"),
    ];
    for (bytes, expected) in cases {
        let mut m = Machine::default();
        m.call(Ask::Ping).unwrap();
        m.feed(&bytes);
        let error = m.next().expect_err(expected);
        assert!(error.contains(expected), "{error}");
    }
}

/// Protects the client's process: no bytes make the machine panic.
#[test]
fn no_bytes_panic() {
    let mut random = Entropy::new(7);
    let grant = frame(&ToClient::Done {
        request: 1,
        result: granted(LockMode::Ex),
    });
    for round in 0..20_000_u64 {
        let mut m = Machine::default();
        requested(&mut m);
        let mut bytes = grant.clone();
        for _ in 0..=random.below(3) {
            let at = random.below(bytes.len() as u64) as usize;
            bytes[at] = random.below(256) as u8;
        }
        if random.chance(1, 4) {
            bytes.truncate(random.below(bytes.len() as u64) as usize);
        }
        m.feed(&bytes);
        let mut messages = 0;
        while let Ok(Some(_)) = m.next() {
            messages += 1;
        }
        assert!(messages <= bytes.len(), "round {round}");
    }
}

/// Protects the daemon's limit: a call that is too long is refused here, and the next one is whole.
#[test]
fn calls_that_are_too_long_are_refused() {
    let mut m = Machine::default();
    let pattern = Some("x".repeat(MESSAGE_LEN_MAX));
    let ask = Ask::Locks {
        lockspace: None,
        pattern,
        limit: 1,
        after: None,
    };
    assert!(matches!(m.call(ask), Err(Refusal::Invalid(_))));
    m.call(Ask::Ping).unwrap();
    assert_eq!(asks(&mut m), [Ask::Ping]);
}

/// Protects owners from taking an old mode for held: a demotion is known at once, survives the refusal
/// of its conversion, and is over with the next call; an alternate is known as one.
#[test]
fn demotions_and_alternates_are_known() {
    let mut m = Machine::default();
    let handle = held(&mut m);
    let ask = || convert(handle, call(LockMode::Ex), None);
    let state = |m: &mut Machine| {
        let lock = m.watched(handle).unwrap();
        (lock.mode, lock.altmode, lock.demoted)
    };
    let request = m.call_on(handle, ask()).unwrap();
    hear(&mut m, &ToClient::Demoted { handle });
    assert_eq!(state(&mut m), (Some(LockMode::Nl), false, true));
    let refused = Refusal::AfterDemotion(Box::new(Refusal::TimedOut));
    assert_eq!(
        (refused.code(), refused.cause()),
        ("timed-out", &Refusal::TimedOut)
    );
    done(&mut m, request, Err(refused));
    assert_eq!(state(&mut m), (Some(LockMode::Nl), false, true));
    let request = m.call_on(handle, ask()).unwrap();
    assert_eq!(state(&mut m), (Some(LockMode::Nl), false, false));
    let otherwise = Answer::GrantedOtherwise {
        granted: Granted {
            mode: LockMode::Pr,
            token: Token(6),
            value: None,
        },
        altmode: true,
        demoted: false,
    };
    done(&mut m, request, Ok(otherwise));
    assert_eq!(state(&mut m), (Some(LockMode::Pr), true, false));
    let request = m.call_on(handle, ask()).unwrap();
    done(&mut m, request, granted(LockMode::Ex));
    assert_eq!(state(&mut m), (Some(LockMode::Ex), false, false));
}

/// Protects against calls on what is gone: a lock that was taken for a broken promise is not released
/// by its guard, nor by the end of the call that waited; one that was not taken goes on.
#[test]
fn a_lock_that_was_taken_is_gone() {
    let mut m = Machine::default();
    for released in [false, true] {
        let handle = held(&mut m);
        let ask = convert(handle, call(LockMode::Pr), None);
        let request = m.call_on(handle, ask).unwrap();
        sent(&mut m);
        let mode = LockMode::Ex;
        let overdue = ToClient::Overdue {
            handle,
            mode,
            released,
        };
        hear(&mut m, &overdue);
        let result = match released {
            true => Err(Refusal::Released),
            false => granted(LockMode::Pr),
        };
        done(&mut m, request, result);
        m.release(handle);
        let expected = if released {
            vec![]
        } else {
            vec![unlock(handle)]
        };
        assert_eq!(asks(&mut m), expected);
        assert_eq!(m.watched(handle).is_none(), released);
    }
}

/// Protects the owner of a guard from believing in it after the same program has released the lock by a call
/// on handles: one for several, one for a tree, or one for all that the session has.
#[test]
fn calls_by_handles_end_guards() {
    let mut machine = Machine::default();
    let handles: Vec<Handle> = (0..4).map(|_| held(&mut machine)).collect();
    let locks = handles[..1].iter().map(|&handle| UnlockOne {
        handle,
        flags: Flags::NONE,
        value: None,
    });
    let several = machine.call(Ask::UnlockMany {
        locks: locks.collect(),
    });
    let results = vec![Ok(OneDone::Unlocked { version: None })];
    done(&mut machine, several.unwrap(), Ok(Answer::Many { results }));
    assert!(machine.watched(handles[0]).is_none());
    assert!(machine.watched(handles[1]).is_some());
    let all = machine.call(Ask::UnlockTree {
        handle: None,
        itself: false,
    });
    let later = held(&mut machine);
    done(
        &mut machine,
        all.unwrap(),
        Ok(Answer::TreeUnlocked { released: 3 }),
    );
    assert!(
        handles
            .iter()
            .all(|handle| machine.watched(*handle).is_none())
    );
    assert!(machine.watched(later).is_some(), "it was asked for later");
}
