//! Daemons and clients that stand still and go on.

use mainstay_base::Instant;
use mainstay_client::{LeaseLost, LockMode, asynchronous::Lock, now};
use mainstay_torture::{
    ClientProcess, Cluster, Record,
    history::{End, History, Hold},
    ms, run, say, secs, within,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

const BOUND: Duration = secs(10);

/// Asks a lock every millisecond whether it is held, in a thread of its own.
struct Watch {
    last_held: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
    thread: thread::JoinHandle<()>,
}

impl Watch {
    fn on(lock: &Arc<Lock>) -> Watch {
        let last_held = Arc::new(AtomicU64::new(0));
        let over = Arc::new(AtomicBool::new(false));
        let (lock, shown, end) = (Arc::clone(lock), Arc::clone(&last_held), Arc::clone(&over));
        let thread = thread::spawn(move || {
            while !end.load(Ordering::Relaxed) {
                // The clock first: what is true after it was true then.
                let at = now();
                if lock.is_valid() {
                    shown.store(at.0, Ordering::Relaxed);
                }
                thread::sleep(ms(1));
            }
        });
        Watch {
            last_held,
            over,
            thread,
        }
    }

    /// When the lock was last held, ever.
    fn end(self) -> Instant {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().expect("the watch does not panic");
        Instant(self.last_held.load(Ordering::Relaxed))
    }
}

fn hold(client: u32, token: u64, from: Instant, to: Instant, end: End) -> Hold {
    Hold {
        client,
        resource: "r".to_owned(),
        mode: LockMode::Ex,
        token: mainstay_base::Token(token),
        new: true,
        from,
        to,
        end,
    }
}

/// Protects S1 and S4 against a daemon that stands still: its client knows by itself when its lock
/// ends, before anybody else is granted it; the daemon, when it goes on, finds that it was removed,
/// drops its state, and joins as a new incarnation.
#[test]
fn a_paused_daemons_client_knows_before_the_next_grant() {
    run(secs(60), async {
        let mut cluster = Cluster::of(3).start().await;
        let history = History::default();
        let before = cluster.incarnation(2, 1).await;
        let (holder, space) = cluster.space(1).await;
        let lock = Arc::new(space.lock("r").acquire().await.expect("granted"));
        let (granted, token) = (now(), lock.token());
        let (_waiter, other) = cluster.space(2).await;
        let watch = Watch::on(&lock);
        cluster.daemon(1).pause().await;
        let paused = now();
        let waiting = tokio::spawn(async move {
            let lock = other.lock("r").acquire().await;
            (lock, now())
        });
        let lost = within("the client learns it", BOUND, lock.lost()).await;
        let known = now();
        let Ok(LeaseLost::Expired { until }) = lost else {
            panic!("the lease ran out, with no word from the daemon: {lost:?}");
        };
        let (next, at) = within("the next grant", BOUND, waiting)
            .await
            .expect("the waiting task lives");
        let next = next.expect("granted");
        say!(
            "SIGSTOP -> the client knows: {:.3?}, next grant: {:.3?} ({:.3?} after the lease's end)",
            known.since(paused),
            at.since(paused),
            at.since(until)
        );
        assert!(
            until < at,
            "the lease ended at {until}, the grant came at {at}"
        );
        assert!(next.token() > token, "the old token is stale");
        assert!(!lock.is_valid());

        cluster.daemon(1).resume();
        let lost = within("the session ends", BOUND, async {
            // The lease may come back to the page only together with the new life.
            loop {
                match lock.check() {
                    Err(LeaseLost::SessionLost { .. } | LeaseLost::Reborn) => break,
                    Err(LeaseLost::Expired { .. }) => tokio::time::sleep(ms(5)).await,
                    held => panic!("the lock ended in no such way: {held:?}"),
                }
            }
        });
        lost.await;
        cluster.whole().await;
        let after = cluster.incarnation(2, 1).await;
        assert!(after > before, "{after} > {before}");
        within("a new session", BOUND, holder.reconnect())
            .await
            .expect("the daemon is back");
        assert!(!lock.is_valid(), "a lost lock stays lost");
        assert!(next.is_valid());
        let (next_token, until) = (next.token(), now());
        next.unlock().await.expect("released");
        let again = within("the lock comes back", BOUND, space.lock("r").acquire())
            .await
            .expect("granted");
        history.add(hold(1, token.0, granted, watch.end(), End::Lost));
        history.add(hold(2, next_token.0, at, until, End::Released));
        history.add(hold(1, again.token().0, now(), now(), End::Released));
        history.check().unwrap_or_else(|wrong| panic!("{wrong}"));
    });
}

/// Protects S1 against a host that stands still, daemon and client together, and goes on after the
/// lock has passed on: the client's first look at the lock says that it is lost.
#[test]
fn a_paused_host_wakes_to_lost_locks() {
    run(secs(60), async {
        let mut cluster = Cluster::of(3).start().await;
        let program = env!("CARGO_BIN_EXE_torture-client");
        let mut client = ClientProcess::start(program, cluster.socket(1), "r");
        let Record::Granted { token, at: granted } = client.next(BOUND).await else {
            panic!("the client is granted the lock");
        };
        // The client first, so that it cannot see the lease end before it stands still.
        client.pause().await;
        cluster.daemon(1).pause().await;
        let paused = now();
        let (_waiter, space) = cluster.space(2).await;
        let next = within("the next grant", BOUND, space.lock("r").acquire())
            .await
            .expect("granted");
        let at = now();
        say!("SIGSTOP of both -> next grant: {:.3?}", at.since(paused));
        client.resume();
        let Record::Lost {
            last_held,
            known_at,
            why,
        } = client.next(BOUND).await
        else {
            panic!("the client finds its lock lost");
        };
        say!("the client, going on alone: {why}");
        assert!(Instant(last_held) < at, "{last_held} {at}");
        assert!(Instant(known_at) > at, "it stood still meanwhile");
        cluster.daemon(1).resume();
        cluster.whole().await;
        let until = now();
        assert!(next.is_valid());
        let rest = client.end(BOUND).await;
        assert_eq!(rest, [], "a lost lock stays lost");
        let history = History::default();
        history.add(hold(
            1,
            token,
            Instant(granted),
            Instant(last_held),
            End::Lost,
        ));
        history.add(hold(2, next.token().0, at, until, End::Released));
        history.check().unwrap_or_else(|wrong| panic!("{wrong}"));
    });
}

/// Protects L2: a pause shorter than what counts as death costs nobody a lock.
#[test]
fn a_short_pause_costs_nothing() {
    run(secs(60), async {
        let mut cluster = Cluster::of(3).start().await;
        let before = cluster.incarnation(2, 1).await;
        let epoch = cluster.status(2).await.expect("n2 answers").epoch;
        let (_holder, space) = cluster.space(1).await;
        let lock = space.lock("r").acquire().await.expect("granted");
        cluster.daemon(1).pause().await;
        let paused = now();
        // The length of the pause is what is tested; nothing is waited for.
        tokio::time::sleep(ms(400)).await;
        cluster.daemon(1).resume();
        let took = now().since(paused);
        cluster.whole().await;
        if took >= ms(800) {
            say!("SKIPPED: this machine made the pause {took:.3?} long");
            return;
        }
        assert!(lock.is_valid());
        assert_eq!(cluster.incarnation(2, 1).await, before);
        assert_eq!(cluster.status(2).await.expect("n2 answers").epoch, epoch);
    });
}
