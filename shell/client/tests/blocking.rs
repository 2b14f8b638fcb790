//! The client for threads, against a stand-in for the daemon.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use mainstay_client::{
    ByteRange, ClientBuilder, ConnectError, LeaseLost, LockCall, LockError, LockMode, Notice,
    Refusal, ResourceName, Token, ValueBlock,
    blocking::{Client, Lockspace},
    now,
    testing::{FakeDaemon, Listener},
};
use mainstay_wire::client::Answer;
use std::{
    fs,
    os::unix::net::UnixListener,
    sync::{Mutex, mpsc},
    thread,
    time::Duration,
};

fn start() -> (FakeDaemon, Client, Lockspace) {
    let daemon = FakeDaemon::start();
    let client = Client::connect(daemon.path()).unwrap();
    let space = client.lockspace("default").open().unwrap();
    (daemon, client, space)
}

/// Protects the hand-over of the socket between threads: many threads share one client, each gets
/// its own answers, and exclusion holds.
#[test]
fn many_threads_share_a_client() {
    let (daemon, _client, space) = start();
    let inside = Mutex::new(());
    let total: u32 = thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                scope.spawn(|| {
                    (0..50)
                        .map(|_| {
                            let lock = space.lock("shared").acquire().unwrap();
                            let only = inside.try_lock().expect("the lock excludes");
                            drop(only);
                            lock.unlock().unwrap();
                            1
                        })
                        .sum::<u32>()
                })
            })
            .collect();
        threads.into_iter().map(|t| t.join().unwrap()).sum()
    });
    assert_eq!((total, daemon.locks()), (400, 0));
}

/// Protects a thread that waits for a notice while others call: neither keeps the other from being
/// served, whoever reads the socket.
#[test]
fn notices_and_calls_do_not_starve_each_other() {
    let (_daemon, client, space) = start();
    let mut lock = space.lock("a").on_blocking().acquire().unwrap();
    let mut blocked = lock.blocking_notices();
    thread::scope(|scope| {
        let caller = scope.spawn(|| {
            for _ in 0..200 {
                client.ping().unwrap();
            }
            space.lock("a").mode(LockMode::Pr).acquire().unwrap()
        });
        assert_eq!(blocked.next(), Some(LockMode::Pr));
        lock.convert(LockMode::Nl).wait().unwrap();
        assert_eq!(caller.join().unwrap().mode(), LockMode::Pr);
    });
    assert_eq!(blocked.next_timeout(Duration::from_millis(1)), None);
    lock.unlock().unwrap();
    assert_eq!(blocked.next(), None);
}

/// Protects news that arrive while no thread is in a call.
#[test]
fn idle_client_hears_of_its_session() {
    let (daemon, client, space) = start();
    let lock = space.lock("a").acquire().unwrap();
    let mut notices = client.notices();
    daemon.suspend("no quorum");
    assert!(matches!(notices.next(), Some(Notice::Suspended { .. })));
    daemon.resume(Duration::from_secs(3600));
    assert_eq!(notices.next(), Some(Notice::Resumed));
    assert!(lock.is_valid());
    daemon.lose_sessions("stopping");
    assert!(matches!(notices.next(), Some(Notice::SessionLost { .. })));
    assert!(!lock.is_valid());
    assert!(
        matches!(client.ping(), Err(LockError::SessionLost { reason }) if reason == "stopping")
    );
    client.reconnect().unwrap();
    assert!(!lock.is_valid());
    let again = space.lock("a").acquire().unwrap();
    assert!(again.is_valid());
}

/// Protects the automatic reconnect of the blocking client.
#[test]
fn automatic_reconnect_is_told() {
    let daemon = FakeDaemon::start();
    let builder = ClientBuilder::new(daemon.path()).auto_reconnect(true);
    let client = builder.connect_blocking().unwrap();
    let mut notices = client.notices();
    for _ in 0..3 {
        daemon.lose_sessions("restart");
        assert!(matches!(notices.next(), Some(Notice::SessionLost { .. })));
        assert!(matches!(notices.next(), Some(Notice::Reconnected { .. })));
        client.ping().unwrap();
    }
}

/// Protects S1 on the holder's side: a stopped daemon cannot hide the end of the lease.
#[test]
fn lease_ends_without_the_daemon() {
    let (daemon, client, space) = start();
    let lock = space.lock("a").acquire().unwrap();
    daemon.lease_for(Duration::from_millis(30));
    let until = daemon.lease_until();
    daemon.frozen(|| {
        assert_eq!(lock.lost().unwrap(), LeaseLost::Expired { until });
        assert!(now() >= until && !lock.is_valid());
    });
    daemon.rebirth("removed");
    assert!(matches!(
        client.lease().lost().unwrap(),
        LeaseLost::Reborn | LeaseLost::SessionLost { .. }
    ));
}

/// Protects callers from a stopped daemon, and the daemon from what they left behind: requests and
/// conversions that got no answer in time are undone.
#[test]
fn time_limits_hold_without_the_daemon() {
    let (daemon, client, space) = start();
    let limit = Duration::from_millis(5);
    let mut lock = space.lock("b").mode(LockMode::Pr).acquire().unwrap();
    daemon.frozen(|| {
        thread::scope(|scope| {
            scope.spawn(|| {
                let error = space.lock("a").timeout(limit).acquire().unwrap_err();
                assert!(matches!(error, LockError::NoAnswer { .. }), "{error}");
            });
            let error = lock.convert(LockMode::Ex).timeout(limit).wait();
            assert!(
                matches!(error, Err(LockError::NoAnswer { .. })),
                "{error:?}"
            );
        });
    });
    lock.convert(LockMode::Nl).wait().unwrap();
    assert_eq!(lock.mode(), LockMode::Nl);
    lock.unlock().unwrap();
    client.ping().unwrap();
    daemon.wait_for_locks(0);
}

/// Protects pipelining on the handle level, and a socket that is full for a while.
#[test]
fn calls_are_pipelined_through_a_full_socket() {
    const CALLS: u64 = 60_000;
    let (listener, page) = Listener::new(1).unwrap();
    let path = listener.path().to_owned();
    let (start_tx, start_rx) = mpsc::channel::<()>();
    let daemon = thread::spawn(move || {
        let mut peer = listener.welcome(1, 1).unwrap();
        start_rx.recv().unwrap();
        for _ in 0..CALLS {
            let call = peer.recv().unwrap().unwrap();
            peer.done(call.request, Ok(Answer::Cancelled)).unwrap();
        }
        (peer, page)
    });
    let client = Client::connect(path).unwrap();
    let raw = client.raw();
    let calls: Vec<_> = (0..CALLS).map(|_| raw.cancel(raw.new_handle())).collect();
    raw.flush();
    start_tx.send(()).unwrap();
    for call in calls {
        call.wait().unwrap();
    }
    drop(daemon.join().unwrap());
}

/// Protects the meaning of a refusal on the handle level: it comes back to its own call.
#[test]
fn handle_level_refusals_come_back() {
    let (_daemon, client, space) = start();
    let raw = client.raw();
    let call = || LockCall::new(ResourceName::new("r").unwrap(), LockMode::Ex);
    let handle = raw.new_handle();
    let first = raw.raw_lock(handle, space.id(), call());
    let second = raw.raw_lock(handle, space.id(), call());
    assert_eq!(
        second.wait().unwrap_err().refusal(),
        Some(&Refusal::HandleInUse)
    );
    first.wait().unwrap();
}

/// Protects newcomers: each way of not reaching the daemon says which it is and what to do.
#[test]
fn connection_errors_say_what_to_do() {
    let daemon = FakeDaemon::start();
    let dir = daemon.path().parent().unwrap();
    let none = Client::connect(dir.join("none.sock")).unwrap_err();
    assert!(matches!(none, ConnectError::NoSocket { .. }));
    assert!(
        none.to_string().contains("mainstay node --config"),
        "{none}"
    );

    let stale = dir.join("stale.sock");
    drop(UnixListener::bind(&stale).unwrap());
    let refused = Client::connect(&stale).unwrap_err();
    assert!(
        matches!(refused, ConnectError::NobodyListens { .. }),
        "{refused}"
    );

    let silent = dir.join("silent.sock");
    let listener = UnixListener::bind(&silent).unwrap();
    let limit = Duration::from_millis(20);
    let stopped = ClientBuilder::new(&silent).connect_timeout(limit);
    let stopped = stopped.connect_blocking().unwrap_err();
    assert!(
        matches!(stopped, ConnectError::NoAnswer { .. }),
        "{stopped}"
    );
    drop(listener);

    let long = Client::connect(dir.join("x".repeat(200))).unwrap_err();
    assert!(matches!(long, ConnectError::PathTooLong { .. }), "{long}");

    let file = dir.join("file");
    fs::write(&file, "").unwrap();
    assert!(Client::connect(&file).is_err());
}

/// Protects against speaking to something else: a listener without a lease page is told apart.
#[test]
fn other_listeners_are_refused() {
    let daemon = FakeDaemon::start();
    let path = daemon.path().with_file_name("other.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let other = thread::spawn(move || {
        use std::io::Write;
        listener
            .accept()
            .unwrap()
            .0
            .write_all(b"220 hello\n")
            .unwrap();
    });
    let error = Client::connect(&path).unwrap_err();
    assert!(matches!(error, ConnectError::Protocol { .. }), "{error}");
    other.join().unwrap();
}

/// Protects the version rule: a daemon that refuses hello is quoted.
#[test]
fn refusal_of_hello_is_quoted() {
    let (listener, _page) = Listener::new(1).unwrap();
    let path = listener.path().to_owned();
    let daemon = thread::spawn(move || {
        let mut peer = listener.accept().unwrap();
        let hello = peer.recv().unwrap().unwrap();
        let refusal = Refusal::Invalid("protocol 1 is too old".to_owned());
        peer.done(hello.request, Err(refusal)).unwrap();
    });
    let error = Client::connect(path).unwrap_err();
    assert!(
        error.to_string().contains("protocol 1 is too old"),
        "{error}"
    );
    daemon.join().unwrap();
}

/// Protects updates and watching on threads: as for tasks, and a thread that waits for a change is
/// woken by it, and by the end of its lock.
#[test]
fn values_are_updated_and_watched() {
    let (_daemon, _client, space) = start();
    let nl = || space.lock("v").mode(LockMode::Nl).with_value_block();
    let (watcher, mut writer) = (nl().acquire().unwrap(), nl().acquire().unwrap());
    let mut changes = watcher.watch_value().unwrap();
    assert_eq!(changes.next_timeout(Duration::from_millis(1)), None);
    thread::scope(|scope| {
        let changes = scope.spawn(move || changes.map(|value| value.count()).last());
        let read = writer.value().unwrap();
        let block = ValueBlock::default().with_count(40);
        assert!(writer.compare_and_swap(&read, block).unwrap().done);
        assert_eq!(writer.add(2).unwrap().count(), 42);
        let mut seen = watcher.watch_value().unwrap();
        while watcher.value().unwrap().count() < 42 {
            seen.next_timeout(Duration::from_millis(10));
        }
        watcher.unlock().unwrap();
        let last = changes.join().unwrap();
        assert!(last.is_none_or(|count| [40, 42].contains(&count)));
    });
}

/// Protects locks on ranges: they exclude byte by byte, keep what they had while a call fails, are
/// told what others wait for, and are all given up with the guard.
#[test]
fn ranges_exclude_and_end() {
    let (daemon, _client, space) = start();
    let range = |text: &str| text.parse::<ByteRange>().unwrap();
    let mut left = space.ranges("file").unwrap();
    assert!(!left.holds_any() && !left.is_valid());
    assert_eq!(left.check(), Err(LeaseLost::NotHeld));
    left.release(range("0-")).unwrap();
    let set = left.set(range("0-99"), LockMode::Ex).on_blocking().wait();
    assert_eq!((set.unwrap(), true), (left.token(), left.holds_any()));
    let mut right = space.ranges("file").unwrap();
    right.set(range("200-"), LockMode::Pr).wait().unwrap();
    let refused = right.set(range("50-250"), LockMode::Ex).try_lock().wait();
    assert_eq!(refused.unwrap_err().refusal(), Some(&Refusal::NotQueued));
    assert!(right.holds_any() && right.is_valid());
    let mut notices = left.blocking_notices();
    thread::scope(|scope| {
        let waiter = scope.spawn(|| right.set(range("50-250"), LockMode::Ex).wait());
        assert_eq!(notices.next(), Some((range("50-250"), LockMode::Ex)));
        left.release(range("50-99")).unwrap();
        waiter.join().unwrap().unwrap();
    });
    let short = left
        .set(range("60-"), LockMode::Cr)
        .timeout(Duration::from_millis(1));
    assert!(matches!(short.wait(), Err(LockError::NoAnswer { .. })));
    left.release(range("10-")).unwrap();
    left.unlock().unwrap();
    let mut third = space.ranges("file").unwrap();
    third.set(range("0-49"), LockMode::Ex).wait().unwrap();
    assert_eq!(daemon.locks(), 2);
    drop((right, third));
    let mut last = space.ranges("file").unwrap();
    last.set(range("0-"), LockMode::Ex).wait().unwrap();
    let token = last.check().unwrap();
    last.release(range("5-")).unwrap();
    assert_eq!(last.check(), Ok(token), "it holds 0-4");
    last.release(range("0-")).unwrap();
    assert_eq!(last.check(), Err(LeaseLost::NotHeld));
    assert_eq!((last.token(), last.is_valid()), (Token::NONE, false));
    let again = last.set(range("7"), LockMode::Ex).wait().unwrap();
    assert!(again > token && last.check() == Ok(again));
    last.release(range("7")).unwrap();
    assert_eq!(daemon.locks(), 0);
    last.unlock().unwrap();
}

/// Protects a successor from losing what its process before it held: a persistent lock outlives its
/// client, is adopted in its mode, and is an ordinary guard then.
#[test]
fn a_persistent_lock_is_adopted() {
    let (daemon, client, space) = start();
    let held = space.lock("disk").persistent().with_value_block();
    let mut held = held.acquire().unwrap();
    held.publish(ValueBlock::new("7").unwrap()).unwrap();
    let token = held.token();
    daemon.lose_sessions("the connection broke");
    drop((held, client, space));
    let client = Client::connect(daemon.path()).unwrap();
    let space = client.lockspace("default").open().unwrap();
    let adopt = |mode| {
        space
            .lock("disk")
            .mode(mode)
            .persistent()
            .with_value_block()
    };
    let refused = |name: &str, mode| {
        let request = space.lock(name).mode(mode).adopt();
        request.map(drop).unwrap_err().refusal().cloned()
    };
    let in_other_mode = || loop {
        match refused("disk", LockMode::Pr) {
            Some(Refusal::NoSuchOrphan) => {} // The daemon has not seen the end of the session yet.
            refusal => break refusal,
        }
    };
    assert_eq!(in_other_mode(), Some(Refusal::OrphanInMode(LockMode::Ex)));
    assert_eq!(refused("other", LockMode::Ex), Some(Refusal::NoSuchOrphan));
    let adopted = adopt(LockMode::Ex).adopt().unwrap();
    assert_eq!((adopted.mode(), adopted.token()), (LockMode::Ex, token));
    assert!(adopted.value().is_some() && adopted.is_valid());
    assert_eq!(refused("disk", LockMode::Ex), Some(Refusal::NoSuchOrphan));
    adopted.unlock().unwrap();
    assert_eq!(daemon.locks(), 0);
}
