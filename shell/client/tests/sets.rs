//! Sets of locks and bulk calls, by both clients, against a stand-in for the daemon.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use mainstay_client::{
    Flags, LockCall, LockError, LockMode, Notice, Refusal, ResourceName, SetCall, Token,
    asynchronous, blocking, testing::FakeDaemon,
};
use std::{
    future::Future,
    pin::pin,
    task::{Context, Waker},
    thread,
    time::Duration,
};

fn refused(error: &LockError) -> (String, Refusal) {
    match error.refusal() {
        Some(Refusal::OfSet(member)) => (member.name.to_string(), member.why.clone()),
        other => panic!("not refused for a member: {other:?}"),
    }
}

/// Protects sets in threads: all of it in the order asked for, as guards like any others; nothing of
/// it where it is refused, given up or gets no answer.
#[test]
fn threads_take_sets_and_let_go() {
    let daemon = FakeDaemon::start();
    let client = blocking::Client::connect(daemon.path()).unwrap();
    let space = client.lockspace("default").open().unwrap();
    let held = space.lock("b").mode(LockMode::Pr).acquire().unwrap();
    let set = || {
        let set = space.set().lock("b", LockMode::Ex);
        set.lock_with("a", LockMode::Pw, Flags::VALBLK)
    };
    let error = set().try_lock().acquire().unwrap_err();
    assert_eq!(refused(&error), ("b".to_owned(), Refusal::NotQueued));
    // The stand-in knows no time limits: the client gives up by itself, and cancels.
    let error = set().timeout(Duration::from_millis(1)).acquire();
    assert!(matches!(error, Err(LockError::NoAnswer { .. })));
    client.ping().unwrap();
    assert_eq!(daemon.locks(), 1);
    let locks = thread::scope(|scope| {
        let waiter = scope.spawn(|| set().on_blocking().acquire().unwrap());
        held.unlock().unwrap();
        waiter.join().unwrap()
    });
    let told: Vec<_> = locks
        .iter()
        .map(|lock| (lock.name().to_string(), lock.mode(), lock.is_valid()))
        .collect();
    let expected = [("b", LockMode::Ex), ("a", LockMode::Pw)];
    assert_eq!(
        told,
        expected.map(|(name, mode)| (name.to_owned(), mode, true))
    );
    assert!(locks[1].value().is_some() && locks[0].value().is_none());
    let mut notices = locks[0].blocking_notices();
    thread::scope(|scope| {
        let other = scope.spawn(|| space.lock("b").mode(LockMode::Cr).acquire().unwrap());
        assert_eq!(notices.next(), Some(LockMode::Cr));
        drop(locks);
        other.join().unwrap().unlock().unwrap();
    });
    assert_eq!(daemon.locks(), 0);
    let error = space.set().lock("", LockMode::Ex).acquire().unwrap_err();
    assert!(matches!(error, LockError::Name(_)), "{error}");
}

/// Protects bulk calls in threads: each lock's own result, and guards that know what became of them.
#[test]
fn threads_convert_and_unlock_in_bulk() {
    let daemon = FakeDaemon::start();
    let client = blocking::Client::connect(daemon.path()).unwrap();
    let space = client.lockspace("default").open().unwrap();
    let set = space.set().lock("a", LockMode::Ex).lock("b", LockMode::Ex);
    let mut locks = set.acquire().unwrap();
    let [a, b] = &mut locks[..] else {
        panic!("two were asked for");
    };
    let first = b.token();
    let mut both = [(a, LockMode::Pr), (b, LockMode::Ex)];
    let results = blocking::Lock::convert_many(&mut both, None).unwrap();
    assert!(results.iter().all(Result::is_ok), "{results:?}");
    assert_eq!(
        (locks[0].mode(), locks[1].mode()),
        (LockMode::Pr, LockMode::Ex)
    );
    assert!(locks[1].token() > first);
    let reader = space.lock("a").mode(LockMode::Pr).acquire().unwrap();
    let mut one = [(&mut locks[0], LockMode::Ex)];
    let late = blocking::Lock::convert_many(&mut one, Some(Duration::from_millis(1)));
    assert!(matches!(late, Err(LockError::NoAnswer { .. })));
    let results = blocking::Lock::unlock_many(locks).unwrap();
    assert_eq!(results, [Ok(()), Ok(())]);
    reader.unlock().unwrap();
    assert_eq!(daemon.locks(), 0);
    let none = blocking::Lock::unlock_many(Vec::new()).unwrap_err();
    assert_eq!(none.refusal().map(Refusal::code), Some("invalid"));
    let other = blocking::Client::connect(daemon.path()).unwrap();
    let elsewhere = other.lockspace("default").open().unwrap();
    let mixed = vec![
        space.lock("a").acquire().unwrap(),
        elsewhere.lock("b").acquire().unwrap(),
    ];
    let mixed = blocking::Lock::unlock_many(mixed).unwrap_err();
    assert_eq!(mixed.refusal().map(Refusal::code), Some("invalid"));
    client.ping().unwrap();
    other.ping().unwrap();
    assert_eq!(daemon.locks(), 0);
}

/// Protects sets in tasks: a future that is dropped leaves nothing, and one that is awaited gives
/// guards; and the same for bulk calls.
#[tokio::test]
async fn tasks_take_sets_and_let_go() {
    let daemon = FakeDaemon::start();
    let client = asynchronous::Client::connect(daemon.path()).await.unwrap();
    let space = client.lockspace("default").open().await.unwrap();
    let held = space.lock("b").acquire().await.unwrap();
    let set = || space.set().lock("a", LockMode::Ex).lock("b", LockMode::Ex);
    {
        let mut waits = pin!(set().acquire());
        let polled = waits.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(polled.is_pending());
    }
    client.ping().await.unwrap();
    assert_eq!(daemon.locks(), 1);
    let error = set().try_lock().acquire().await.unwrap_err();
    assert_eq!(refused(&error), ("b".to_owned(), Refusal::NotQueued));
    let (locks, gone) = tokio::join!(set().acquire(), held.unlock());
    gone.unwrap();
    let mut locks = locks.unwrap();
    let [a, b] = &mut locks[..] else {
        panic!("two were asked for");
    };
    let mut both = [(a, LockMode::Cr), (b, LockMode::Pr)];
    let tokens = asynchronous::Lock::convert_many(&mut both, None)
        .await
        .unwrap();
    assert!(
        tokens
            .iter()
            .all(|token| token.as_ref().is_ok_and(|t| *t > Token::NONE))
    );
    let reader = space.lock("b").mode(LockMode::Pr).acquire().await.unwrap();
    {
        let mut one = [(&mut locks[1], LockMode::Ex)];
        let mut waits = pin!(asynchronous::Lock::convert_many(&mut one, None));
        let polled = waits.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(polled.is_pending());
    }
    reader.unlock().await.unwrap();
    client.ping().await.unwrap();
    assert_eq!(locks[1].mode(), LockMode::Pr);
    let results = asynchronous::Lock::unlock_many(locks).await.unwrap();
    assert_eq!(results, [Ok(()), Ok(())]);
    assert_eq!(daemon.locks(), 0);
}

/// Protects the handle level: sets and bulk calls say what happened to each handle, and notices name
/// them.
#[tokio::test]
async fn handles_are_taken_in_sets() {
    let daemon = FakeDaemon::start();
    let client = asynchronous::Client::connect(daemon.path()).await.unwrap();
    let space = client.lockspace("default").open().await.unwrap();
    let mut notices = client.notices();
    let raw = client.raw();
    let (a, b) = (raw.new_handle(), raw.new_handle());
    let call = |text: &str, mode| LockCall {
        blocking: true,
        ..LockCall::new(ResourceName::new(text).unwrap(), mode)
    };
    let set = SetCall {
        members: vec![(a, call("a", LockMode::Ex)), (b, call("b", LockMode::Ex))],
        flags: Flags::NONE,
        timeout: None,
    };
    let granted = raw.raw_lock_set(space.id(), set).await.unwrap();
    assert_eq!(granted.len(), 2);
    let waits = tokio::spawn(raw.raw_lock(raw.new_handle(), space.id(), call("b", LockMode::Cr)));
    let told = notices.next().await;
    assert_eq!(
        told,
        Some(Notice::Blocking {
            handle: b,
            mode: LockMode::Cr
        })
    );
    let calls = vec![
        (b, call("-", LockMode::Pw)),
        (raw.new_handle(), call("-", LockMode::Nl)),
    ];
    let converted = raw.raw_convert_many(calls, None).await.unwrap();
    assert_eq!(converted[0].as_ref().map(|g| g.mode), Ok(LockMode::Pw));
    assert_eq!(converted[1], Err(Refusal::NoSuchLock));
    waits.await.unwrap().unwrap();
    let gone = raw.raw_unlock_many(&[a, b, b], Flags::NONE).await.unwrap();
    assert_eq!(gone, [Ok(None), Ok(None), Err(Refusal::NoSuchLock)]);
    assert_eq!(daemon.locks(), 1);
}
