//! The client for tokio, against a stand-in for the daemon.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use mainstay_base::{Instant, Token, Updated, Value, ValueUpdate, ValueVersion};
use mainstay_client::{
    ByteRange, ClientBuilder, Flags, LeaseLost, LockCall, LockError, LockMode, LockspaceId, Notice,
    Refusal, ResourceName, ValueBlock,
    asynchronous::{Client, Lockspace},
    now,
    testing::{FakeDaemon, Listener, Peer},
};
use mainstay_wire::client::{Answer, Ask, FromClient, ToClient};
use std::{
    future::{Future, IntoFuture},
    pin::pin,
    task::{Context, Poll, Waker},
    thread,
    time::Duration,
};

const HOUR: Duration = Duration::from_secs(3600);

async fn space_of(client: &Client) -> Lockspace {
    client.lockspace("default").open().await.unwrap()
}

async fn start() -> (FakeDaemon, Client, Lockspace) {
    let daemon = FakeDaemon::start();
    let client = Client::connect(daemon.path()).await.unwrap();
    let space = space_of(&client).await;
    (daemon, client, space)
}

fn name(text: &str) -> ResourceName {
    ResourceName::new(text).unwrap()
}

/// Polls once, as a task does that then goes away.
fn poll_once<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

fn granted(mode: LockMode) -> Result<Answer, Refusal> {
    Ok(Answer::Granted(mainstay_wire::lock::Granted {
        mode,
        token: Token(1),
        value: None,
    }))
}

/// Runs a daemon that a test plays by hand in a thread of its own.
fn scripted<T: Send + 'static>(
    play: impl FnOnce(Peer) -> T + Send + 'static,
) -> (std::path::PathBuf, thread::JoinHandle<T>) {
    let (listener, mut page) = Listener::new(1).unwrap();
    page.set_lease(now() + HOUR);
    let path = listener.path().to_owned();
    let thread = thread::spawn(move || {
        let peer = listener.welcome(1, 1).unwrap();
        let result = play(peer);
        drop(page);
        result
    });
    (path, thread)
}

fn next(peer: &mut Peer) -> FromClient {
    peer.recv().unwrap().expect("the client is still there")
}

fn open_space(peer: &mut Peer) {
    let open = next(peer);
    assert!(matches!(open.ask, Ask::OpenLockspace { .. }));
    let id = LockspaceId(1);
    let value_len = 32;
    peer.done(open.request, Ok(Answer::Lockspace { id, value_len }))
        .unwrap();
}

/// Protects what a lock guarded from a holder that others no longer wait for: a lock that was taken for
/// a broken promise may not be relied on, though session and lease go on.
#[tokio::test]
async fn a_lock_that_was_taken_is_not_held() {
    let (path, daemon) = scripted(|mut peer| {
        open_space(&mut peer);
        let lock = next(&mut peer);
        let Ask::Lock { handle, .. } = lock.ask else {
            panic!("{lock:?}");
        };
        peer.done(lock.request, granted(LockMode::Ex)).unwrap();
        let ping = next(&mut peer);
        let overdue = ToClient::Overdue {
            handle,
            mode: LockMode::Pr,
            released: true,
        };
        peer.send(&overdue).unwrap();
        peer.done(ping.request, Ok(Answer::Pong)).unwrap();
        let last = peer.recv().unwrap();
        assert!(last.is_none(), "nothing is released again: {last:?}");
    });
    let client = Client::connect(path).await.unwrap();
    let lock = space_of(&client).await.lock("a").acquire().await.unwrap();
    assert_eq!((lock.check(), lock.is_valid()), (Ok(Token(1)), true));
    client.ping().await.unwrap();
    assert_eq!(lock.check(), Err(LeaseLost::NotHeld));
    assert_eq!((lock.token(), lock.is_valid()), (Token::NONE, false));
    drop((lock, client));
    daemon.join().unwrap();
}

/// Protects the everyday case: a lock is granted, exclusive, told with a token, and gone after
/// unlock or drop.
#[tokio::test]
async fn locks_exclude_and_end() {
    let (daemon, client, space) = start().await;
    let lock = space.lock("a").acquire().await.unwrap();
    assert!(lock.is_valid() && lock.mode() == LockMode::Ex);
    assert_eq!(lock.valid_until(), daemon.lease_until());
    let refused = space
        .lock("a")
        .mode(LockMode::Pr)
        .try_lock()
        .acquire()
        .await;
    assert_eq!(refused.unwrap_err(), LockError::Refused(Refusal::NotQueued));
    let first = lock.check().unwrap();
    lock.unlock().await.unwrap();
    let lock = space.lock("a").acquire().await.unwrap();
    assert!(lock.token() > first);
    drop(lock);
    daemon.wait_for_locks(0);
    client.ping().await.unwrap();
    let empty = space.lock("").acquire().await;
    assert!(matches!(empty, Err(LockError::Name(_))));
}

/// Protects value blocks: what one publishes, by each of the three ways, the next reads.
#[tokio::test]
async fn values_are_published_and_read() {
    let (_daemon, _client, space) = start().await;
    let block = |text: &str| ValueBlock::new(text).unwrap();
    let mut lock = space.lock("v").with_value_block().acquire().await.unwrap();
    assert_eq!(lock.value().unwrap().version.0, 0);
    let version = lock.publish(block("one")).await.unwrap();
    assert_eq!(version.0, 1);
    lock.convert(LockMode::Nl)
        .publishing(block("two"))
        .await
        .unwrap();
    lock.convert(LockMode::Ex).await.unwrap();
    assert_eq!(&lock.value().unwrap().block.as_bytes()[..3], b"two");
    let long = lock.publish(ValueBlock::new([1; 33]).unwrap()).await;
    assert!(matches!(long, Err(LockError::Value(_))));
    let version = lock.unlock_with_value(block("three")).await.unwrap();
    assert_eq!(version.map(|v| v.0), Some(3));
    let mut reader = space
        .lock("v")
        .mode(LockMode::Pr)
        .with_value_block()
        .acquire()
        .await
        .unwrap();
    assert_eq!(&reader.value().unwrap().block.as_bytes()[..5], b"three");
    let published = reader.publish(block("no")).await;
    assert!(matches!(
        published,
        Err(LockError::Refused(Refusal::Invalid(_)))
    ));
}

/// Protects throughput: any number of calls leave before the first answer, and each gets its own.
#[tokio::test]
async fn calls_are_pipelined() {
    const CALLS: u64 = 1000;
    let (path, daemon) = scripted(|mut peer| {
        // Nothing is answered before all have arrived.
        let calls: Vec<_> = (0..CALLS).map(|_| next(&mut peer)).collect();
        for call in calls.iter().rev() {
            let Ask::Lock { handle, .. } = call.ask else {
                panic!("{call:?}")
            };
            let token = Token(handle.0);
            let answer = Answer::Granted(mainstay_wire::lock::Granted {
                mode: LockMode::Ex,
                token,
                value: None,
            });
            peer.done(call.request, Ok(answer)).unwrap();
        }
        peer
    });
    let client = Client::connect(path).await.unwrap();
    let raw = client.raw();
    let calls: Vec<_> = (0..CALLS)
        .map(|_| {
            let handle = raw.new_handle();
            let lock = LockCall::new(name("r"), LockMode::Ex);
            (handle, raw.raw_lock(handle, LockspaceId(1), lock))
        })
        .collect();
    for (handle, call) in calls {
        assert_eq!(call.await.unwrap().token, Token(handle.0));
    }
    drop(daemon.join().unwrap());
}

/// Protects updates in one step: they need no mode, tell the value, are refused where others rely on
/// it, and what they bring is what the lock knows.
#[tokio::test]
async fn values_are_swapped_and_counted() {
    let (_daemon, _client, space) = start().await;
    let nl = || space.lock("v").mode(LockMode::Nl).with_value_block();
    let (mut a, mut b) = (nl().acquire().await.unwrap(), nl().acquire().await.unwrap());
    let read = a.value().unwrap();
    let block = ValueBlock::new("one").unwrap();
    let swapped = a.compare_and_swap(&read, block.clone()).await.unwrap();
    assert!(swapped.done && swapped.value.version.0 == 1);
    assert_eq!(a.value(), Some(swapped.value.clone()));
    let late = b.compare_and_swap(&read, block).await.unwrap();
    assert!(!late.done);
    assert_eq!(late.value, swapped.value);
    let before = swapped.value.count();
    assert_eq!(b.add(-3).await.unwrap().count(), before - 3);
    b.convert(LockMode::Pr).await.unwrap();
    let refused = a.add(1).await.unwrap_err();
    assert_eq!(refused.refusal(), Some(&Refusal::ValueHeld));
    assert_eq!(b.add(1).await.unwrap().count(), before - 2);
    let long = ValueBlock::new([1; 33]).unwrap();
    let long = a.compare_and_swap(&read, long).await;
    assert!(matches!(long, Err(LockError::Value(_))));
}

/// Protects those who watch: they hear of others' changes, of several the last, until they say that
/// they want no more or let go.
#[tokio::test]
async fn changes_of_values_are_told() {
    let (_daemon, client, space) = start().await;
    let nl = || space.lock("v").mode(LockMode::Nl).with_value_block();
    let (a, mut b) = (nl().acquire().await.unwrap(), nl().acquire().await.unwrap());
    let mut changes = a.watch_value().await.unwrap();
    b.add(1).await.unwrap();
    assert_eq!(changes.next().await.unwrap().count(), 1);
    b.add(1).await.unwrap();
    b.add(1).await.unwrap();
    client.ping().await.unwrap();
    assert_eq!(changes.next().await.unwrap().count(), 3);
    assert_eq!(a.value().unwrap().count(), 3);
    a.unwatch_value().await.unwrap();
    b.add(1).await.unwrap();
    client.ping().await.unwrap();
    assert_eq!(a.value().unwrap().count(), 3);
    a.unlock().await.unwrap();
    assert_eq!(changes.next().await, None);
}

/// Protects those who watch by handles from what the daemon held back while they were slow: an answer
/// with a newer value is not followed by an older one.
#[tokio::test]
async fn late_news_are_left_out() {
    let value = |version| Value {
        block: ValueBlock::new([version as u8; 32]).unwrap(),
        version: ValueVersion(version),
        maybe_stale: false,
    };
    let (path, daemon) = scripted(move |mut peer| {
        let watch = next(&mut peer);
        let Ask::WatchValue { handle, .. } = watch.ask else {
            panic!("{watch:?}");
        };
        let changed = |version| ToClient::ValueChanged {
            handle,
            value: value(version),
        };
        peer.done(watch.request, Ok(Answer::Watching)).unwrap();
        peer.send(&changed(1)).unwrap();
        let update = next(&mut peer);
        let updated = Updated {
            done: true,
            value: value(3),
        };
        peer.done(update.request, Ok(Answer::Updated(updated)))
            .unwrap();
        for version in [2, 3, 4] {
            peer.send(&changed(version)).unwrap();
        }
        peer
    });
    let client = Client::connect(&path).await.unwrap();
    let mut notices = client.notices();
    let raw = client.raw();
    let handle = raw.new_handle();
    raw.raw_watch_value(handle, true).await.unwrap();
    let add = ValueUpdate::Add { delta: 1 };
    raw.raw_update_value(handle, add).await.unwrap();
    for version in [1, 4] {
        let value = value(version);
        let notice = notices.next().await;
        assert_eq!(notice, Some(Notice::ValueChanged { handle, value }));
    }
    drop(daemon.join().unwrap());
}

/// Protects the handle level: lock, convert, unlock and cancel do as the protocol says.
#[tokio::test]
async fn handle_level_calls_work() {
    let (daemon, client, space) = start().await;
    let raw = client.raw();
    let call = |mode| LockCall::new(name("r"), mode);
    let (a, b) = (raw.new_handle(), raw.new_handle());
    let locked = raw.raw_lock(a, space.id(), call(LockMode::Ex));
    let waiting = raw.raw_lock(b, space.id(), call(LockMode::Ex));
    assert_eq!(locked.await.unwrap().mode, LockMode::Ex);
    raw.cancel(b).await.unwrap();
    assert_eq!(
        waiting.await.unwrap_err().refusal(),
        Some(&Refusal::Cancelled)
    );
    raw.raw_convert(a, call(LockMode::Nl), None).await.unwrap();
    assert_eq!(
        raw.cancel(a).await.unwrap_err().refusal(),
        Some(&Refusal::TooLate)
    );
    let unlocked = raw.raw_unlock(a, Flags::NONE, None);
    raw.flush();
    daemon.wait_for_locks(0);
    unlocked.await.unwrap();
}

/// Protects cancellation when the cancel wins: no lock, and no unlock of what never was.
#[tokio::test]
async fn dropped_acquire_cancels() {
    let (daemon, client, space) = start().await;
    let holder = space.lock("a").acquire().await.unwrap();
    {
        let mut waiting = pin!(space.lock("a").acquire());
        assert!(poll_once(waiting.as_mut()).is_pending());
        client.ping().await.unwrap();
        assert_eq!(daemon.locks(), 2, "the request waits");
    }
    daemon.wait_for_locks(1);
    holder.unlock().await.unwrap();
    space.lock("a").try_lock().acquire().await.unwrap();
}

/// Protects cancellation when the grant wins: the lock is unlocked as soon as the client sees it,
/// both if the grant is under way and if it has arrived but was not looked at.
#[tokio::test]
async fn dropped_acquire_releases_what_was_granted() {
    for arrived in [false, true] {
        let (path, daemon) = scripted(move |mut peer| {
            open_space(&mut peer);
            let lock = next(&mut peer);
            let Ask::Lock { handle, mode, .. } = lock.ask else {
                panic!("{lock:?}")
            };
            if arrived {
                peer.done(lock.request, granted(mode)).unwrap();
                let ping = next(&mut peer);
                peer.done(ping.request, Ok(Answer::Pong)).unwrap();
            } else {
                let cancel = next(&mut peer);
                assert_eq!(cancel.ask, Ask::Cancel { handle });
                peer.done(lock.request, granted(mode)).unwrap();
                peer.done(cancel.request, Err(Refusal::TooLate)).unwrap();
            }
            let unlock = next(&mut peer);
            assert!(matches!(unlock.ask, Ask::Unlock { handle: h, .. } if h == handle));
        });
        let client = Client::connect(path).await.unwrap();
        let space = space_of(&client).await;
        {
            let mut waiting = pin!(space.lock("a").acquire());
            assert!(poll_once(waiting.as_mut()).is_pending());
            if arrived {
                client.ping().await.unwrap();
            }
        }
        // The runtime has to run for the unlock to leave.
        let joined = tokio::task::spawn_blocking(move || daemon.join()).await;
        joined.unwrap().unwrap();
    }
}

/// Protects a conversion whose future is dropped: it is cancelled, the lock keeps its mode and can
/// be converted again, and nothing is refused as busy.
#[tokio::test]
async fn dropped_conversion_keeps_the_mode() {
    let (_daemon, client, space) = start().await;
    let reader = space.lock("a").mode(LockMode::Pr).acquire().await.unwrap();
    let mut lock = space.lock("a").mode(LockMode::Pr).acquire().await.unwrap();
    {
        let mut waiting = pin!(lock.convert(LockMode::Ex).into_future());
        assert!(poll_once(waiting.as_mut()).is_pending());
        client.ping().await.unwrap();
    }
    lock.convert(LockMode::Cr).await.unwrap();
    assert_eq!(lock.mode(), LockMode::Cr);
    reader.unlock().await.unwrap();
    {
        let mut waiting = pin!(lock.convert(LockMode::Ex).into_future());
        assert!(poll_once(waiting.as_mut()).is_pending());
    }
    lock.unlock().await.unwrap();
    space.lock("a").try_lock().acquire().await.unwrap();
}

/// Protects the chain from a waiter to the holder that can let it in, for the lock's own stream and
/// the client's.
#[tokio::test]
async fn blocking_notices_reach_the_holder() {
    let (_daemon, client, space) = start().await;
    let mut all = client.notices();
    let mut lock = space.lock("a").on_blocking().acquire().await.unwrap();
    let mut notices = lock.blocking_notices();
    let waiting = space.lock("a").mode(LockMode::Pr).acquire();
    let yielding = async {
        assert_eq!(notices.next().await, Some(LockMode::Pr));
        lock.convert(LockMode::Cr).await.unwrap();
        lock
    };
    let (reader, lock) = tokio::join!(waiting, yielding);
    assert!(reader.unwrap().is_valid());
    let (handle, mode) = (lock.handle(), LockMode::Pr);
    assert_eq!(all.next().await, Some(Notice::Blocking { handle, mode }));
    lock.unlock().await.unwrap();
    assert_eq!(notices.next().await, None, "the stream ends with the lock");
}

/// Protects S1 on the holder's side: the end of the lease is known at its moment although the
/// daemon says and renews nothing, and not before.
#[tokio::test]
async fn lease_ends_without_the_daemon() {
    let (daemon, client, space) = start().await;
    let lock = space.lock("a").acquire().await.unwrap();
    daemon.lease_for(Duration::from_millis(40));
    let until = daemon.lease_until();
    let (frozen_tx, frozen_rx) = tokio::sync::oneshot::channel();
    let (thaw_tx, thaw_rx) = std::sync::mpsc::channel();
    let stopped = tokio::task::spawn_blocking(move || {
        daemon.frozen(|| {
            frozen_tx.send(()).unwrap();
            thaw_rx.recv().unwrap();
        });
    });
    frozen_rx.await.unwrap();
    assert_eq!(lock.lost().await.unwrap(), LeaseLost::Expired { until });
    assert!(now() >= until && !lock.is_valid());
    assert_eq!(lock.check(), Err(LeaseLost::Expired { until }));
    assert_eq!(
        client.lease().lost().await.unwrap(),
        LeaseLost::Expired { until }
    );
    thaw_tx.send(()).unwrap();
    stopped.await.unwrap();
}

/// Protects a holder from giving up a lock whose lease was renewed: the watcher goes by the page's
/// last word, not its first.
#[tokio::test]
async fn renewed_lease_is_waited_out() {
    let (daemon, client, space) = start().await;
    let lock = space.lock("a").acquire().await.unwrap();
    daemon.lease_for(Duration::from_millis(30));
    let first = daemon.lease_until();
    let lease = client.lease();
    let mut lost = pin!(lease.lost());
    assert!(poll_once(lost.as_mut()).is_pending());
    daemon.lease_for(Duration::from_millis(90));
    let last = daemon.lease_until();
    assert_eq!(lost.await.unwrap(), LeaseLost::Expired { until: last });
    assert!(now() >= last && last > first);
    daemon.resume(HOUR);
    assert!(lock.is_valid(), "the lease came back and the lock with it");
}

/// Protects the news of suspension and resumption, and that the lease's watchers hear a revocation
/// before the old deadline.
#[tokio::test]
async fn suspension_is_told() {
    let (daemon, client, space) = start().await;
    let mut notices = client.notices();
    let lock = space.lock("a").acquire().await.unwrap();
    let reason = "no quorum".to_owned();
    let suspend = async { daemon.suspend(&reason) };
    let (lost, ()) = tokio::join!(lock.lost(), suspend);
    let until = Instant::ZERO;
    assert_eq!(lost.unwrap(), LeaseLost::Expired { until });
    assert_eq!(notices.next().await, Some(Notice::Suspended { reason }));
    daemon.resume(HOUR);
    assert_eq!(notices.next().await, Some(Notice::Resumed));
    assert!(lock.is_valid());
    lock.unlock().await.unwrap();
}

/// Protects against trusting a lock of an earlier life of the node: the generation on the page ends
/// it, even before the daemon says so.
#[tokio::test]
async fn another_generation_ends_locks() {
    let (daemon, _client, space) = start().await;
    let lock = space.lock("a").acquire().await.unwrap();
    daemon.rebirth_on_page_only();
    assert!(!lock.is_valid());
    assert_eq!(lock.check(), Err(LeaseLost::Reborn));
    assert_eq!(lock.lost().await.unwrap(), LeaseLost::Reborn);
    assert_eq!(lock.valid_until(), Instant::ZERO);
}

/// Protects the rule that locks never come back: when the session is lost all calls fail with its
/// reason, locks are invalid for ever, and a new session starts with none.
#[tokio::test]
async fn lost_session_ends_calls_and_locks() {
    let (daemon, client, space) = start().await;
    let mut notices = client.notices();
    let session = client.welcome().session;
    let lock = space.lock("a").acquire().await.unwrap();
    let mut blocked = lock.blocking_notices();
    let waiting = async {
        let error = space.lock("a").acquire().await.unwrap_err();
        assert!(matches!(error, LockError::SessionLost { reason } if reason == "removed"));
    };
    let losing = async {
        client.ping().await.unwrap();
        daemon.rebirth("removed");
    };
    let ended = async { assert_eq!(blocked.next().await, None) };
    tokio::join!(waiting, losing, ended);
    let reason = "removed".to_owned();
    assert_eq!(
        notices.next().await,
        Some(Notice::SessionLost { session, reason })
    );
    assert!(client.ping().await.is_err(), "no silent reconnect");

    let session = client.reconnect().await.unwrap();
    assert_eq!(notices.next().await, Some(Notice::Reconnected { session }));
    let again = space.lock("a").try_lock().acquire().await.unwrap();
    assert!(again.is_valid() && !lock.is_valid());
    assert!(matches!(lock.check(), Err(LeaseLost::SessionLost { .. })));
    drop(lock);
    client.ping().await.unwrap();
    assert_eq!(daemon.locks(), 1, "the old guard's drop touches nothing");
    assert_eq!(client.reconnect().await.unwrap(), session, "nothing to do");
}

/// Protects the automatic reconnect: it is told, takes no lock again, and lockspaces work on.
#[tokio::test]
async fn automatic_reconnect_is_told() {
    let daemon = FakeDaemon::start();
    let builder = ClientBuilder::new(daemon.path()).auto_reconnect(true);
    let client = builder.connect().await.unwrap();
    let space = space_of(&client).await;
    let mut notices = client.notices();
    let lock = space.lock("a").acquire().await.unwrap();
    daemon.lose_sessions("restart");
    assert!(matches!(
        notices.next().await,
        Some(Notice::SessionLost { .. })
    ));
    assert!(matches!(
        notices.next().await,
        Some(Notice::Reconnected { .. })
    ));
    daemon.wait_for_locks(0);
    assert!(
        !lock.is_valid(),
        "a live page does not revive a lost session"
    );
    space.lock("a").try_lock().acquire().await.unwrap();
}

/// Protects the client from a broken daemon: the session ends with an error that says so.
#[tokio::test]
async fn malformed_bytes_end_the_session() {
    let (path, daemon) = scripted(|mut peer| {
        next(&mut peer);
        peer.send_bytes(&[3, 0, 0, 0, 255, 255, 255]).unwrap();
        assert!(peer.recv().unwrap().is_none(), "the client hangs up");
    });
    let client = Client::connect(path).await.unwrap();
    let error = client.ping().await.unwrap_err();
    assert!(
        matches!(&error, LockError::SessionLost { reason } if reason.contains("broke the protocol")),
        "{error}"
    );
    tokio::task::spawn_blocking(move || daemon.join().unwrap())
        .await
        .unwrap();
}

/// Protects against a deadlock of full sockets: a daemon that does not read for long gets all calls
/// in the end, and the client is never stuck meanwhile.
#[tokio::test]
async fn full_socket_is_waited_for() {
    const CALLS: u64 = 60_000;
    let (start_tx, start_rx) = std::sync::mpsc::channel::<()>();
    let (path, daemon) = scripted(move |mut peer| {
        start_rx.recv().unwrap();
        for _ in 0..CALLS {
            let call = next(&mut peer);
            peer.done(call.request, Ok(Answer::Cancelled)).unwrap();
        }
        peer
    });
    let client = Client::connect(path).await.unwrap();
    let raw = client.raw();
    let calls: Vec<_> = (0..CALLS).map(|_| raw.cancel(raw.new_handle())).collect();
    raw.flush();
    start_tx.send(()).unwrap();
    for call in calls {
        call.await.unwrap();
    }
    drop(daemon.join().unwrap());
}

/// Protects callers from a stopped daemon: a time limit ends the wait also when nobody answers, and
/// the request leaves nothing behind when the daemon goes on.
#[tokio::test]
async fn time_limits_hold_without_the_daemon() {
    let (daemon, _client, space) = start().await;
    let (frozen_tx, frozen_rx) = tokio::sync::oneshot::channel();
    let (thaw_tx, thaw_rx) = std::sync::mpsc::channel();
    let stopped = tokio::task::spawn_blocking(move || {
        daemon.frozen(|| {
            frozen_tx.send(()).unwrap();
            thaw_rx.recv().unwrap();
        });
        daemon
    });
    frozen_rx.await.unwrap();
    let limit = Duration::from_millis(10);
    let error = space.lock("a").timeout(limit).acquire().await.unwrap_err();
    assert!(matches!(error, LockError::NoAnswer { .. }), "{error}");
    thaw_tx.send(()).unwrap();
    let daemon = stopped.await.unwrap();
    space
        .lock("a")
        .acquire()
        .await
        .unwrap()
        .unlock()
        .await
        .unwrap();
    daemon.wait_for_locks(0);
}

/// Protects the end of the client: with its last handle the session ends and so do its locks.
#[tokio::test]
async fn last_handle_closes_the_session() {
    let (daemon, client, space) = start().await;
    let mut notices = client.notices();
    let lock = space.lock("a").acquire().await.unwrap();
    drop((client, space));
    assert!(lock.is_valid(), "the guard keeps the session");
    drop(lock);
    daemon.wait_for_locks(0);
    while let Some(notice) = notices.next().await {
        assert!(matches!(notice, Notice::SessionLost { .. }), "{notice:?}");
    }
}

/// Protects the subscription: events arrive in order, and what a second subscription makes the
/// daemon repeat is not told twice.
#[tokio::test]
async fn events_are_told_once() {
    use mainstay_client::{ClusterEvent, Event};
    let event = |number| {
        ToClient::Event(Event {
            number,
            unix_ms: 0,
            epoch: mainstay_base::Epoch(1),
            what: mainstay_wire::event::What::Active,
            reason: mainstay_wire::event::Reason::LeaseRenewed,
            detail: String::new(),
        })
    };
    let (path, daemon) = scripted(move |mut peer| {
        let mut subscribe = |events: &[u64]| {
            let call = next(&mut peer);
            assert_eq!(call.ask, Ask::Events { backlog: 10 });
            peer.done(call.request, Ok(Answer::Subscribed)).unwrap();
            for number in events {
                peer.send(&event(*number)).unwrap();
            }
        };
        subscribe(&[0, 1]);
        subscribe(&[0, 1, 2]);
        peer.send(&ToClient::EventsMissed(4)).unwrap();
    });
    let client = Client::connect(path).await.unwrap();
    let mut events = client.events(10).await.unwrap();
    let mut later = client.events(10).await.unwrap();
    let mut numbers = Vec::new();
    while let Some(ClusterEvent::Happened(event)) = events.next().await {
        numbers.push(event.number);
    }
    assert_eq!(numbers, [0, 1, 2], "then the missed ones");
    assert_eq!(events.next().await, None, "the daemon is gone");
    assert!(later.next().await.is_some());
    daemon.join().unwrap();
}

/// Protects users that move clients and locks between tasks and threads.
#[test]
fn clients_and_locks_are_send_and_sync() {
    fn check<T: Send + Sync>() {}
    check::<Client>();
    check::<mainstay_client::asynchronous::Lock>();
    check::<mainstay_client::asynchronous::Call<()>>();
    check::<mainstay_client::blocking::Client>();
    check::<mainstay_client::blocking::Lock>();
}

/// Protects locks on ranges from calls that nobody waits for any more: what was asked for is taken
/// back, what the lock had stays, and the next call comes after it.
#[tokio::test]
async fn a_dropped_call_for_a_range_keeps_the_lock() {
    let (daemon, _client, space) = start().await;
    let range = |text: &str| text.parse::<ByteRange>().unwrap();
    let mut left = space.ranges("file").await.unwrap();
    left.set(range("0-9"), LockMode::Ex)
        .on_blocking()
        .await
        .unwrap();
    let mut notices = left.blocking_notices();
    let mut right = space.ranges("file").await.unwrap();
    let first = right.set(range("20-29"), LockMode::Pr).await.unwrap();
    {
        let mut call = pin!(right.set(range("5-24"), LockMode::Ex).into_future());
        assert!(poll_once(call.as_mut()).is_pending());
        assert_eq!(notices.next().await, Some((range("5-24"), LockMode::Ex)));
    }
    let second = right.set(range("30-39"), LockMode::Pr).await.unwrap();
    assert!(second > first && right.token() == second);
    left.set(range("20-39"), LockMode::Pr).await.unwrap();
    let refused = left.set(range("39-"), LockMode::Ex).try_lock().await;
    assert_eq!(refused.unwrap_err().refusal(), Some(&Refusal::NotQueued));
    right.unlock().await.unwrap();
    left.set(range("0-"), LockMode::Ex).await.unwrap();
    left.release(range("0-")).await.unwrap();
    assert_eq!(daemon.locks(), 0);
}

/// Protects conversions of persistent locks: the guard keeps the wish, and the lock outlives its client
/// in the mode that it has then.
#[tokio::test]
async fn a_conversion_stays_persistent() {
    let daemon = FakeDaemon::start();
    let client = Client::connect(daemon.path()).await.unwrap();
    let space = client.lockspace("default").open().await.unwrap();
    let mut held = space.lock("disk").persistent().acquire().await.unwrap();
    held.convert(LockMode::Pr).await.unwrap();
    daemon.lose_sessions("the connection broke");
    drop((held, client, space));
    let client = Client::connect(daemon.path()).await.unwrap();
    let space = client.lockspace("default").open().await.unwrap();
    let adopted = loop {
        match space.lock("disk").mode(LockMode::Pr).adopt().await {
            Ok(adopted) => break adopted,
            // The daemon has not seen the end of the session yet.
            Err(error) => assert_eq!(error.refusal(), Some(&Refusal::NoSuchOrphan)),
        }
    };
    assert_eq!(adopted.mode(), LockMode::Pr);
    adopted.unlock().await.unwrap();
    assert_eq!(daemon.locks(), 0);
}
