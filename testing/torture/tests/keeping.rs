//! Sessions that outlive their connection, with real daemons and connections that really break.

use mainstay_client::{
    ClientBuilder, LockCall, LockError, LockMode, LockspaceName, Notice, ResourceName, ValueBlock,
    now,
};
use mainstay_torture::{Between, ClientProcess, Cluster, Record, ms, run, say, secs, within};
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

const BOUND: Duration = secs(10);
const GRACE: Duration = secs(5);

/// One turn of a counter that only its holder counts, and of a tally that everybody does.
macro_rules! turn {
    ($space:expr $(, $wait:tt)?) => {{
        let mut lock = $space.lock("counter").with_value_block().acquire()$(.$wait)??;
        let count = lock.value().map_or(0, |value| value.block.count());
        lock.publish(ValueBlock::default().with_count(count + 1))$(.$wait)??;
        lock.unlock()$(.$wait)??;
        let mut tally = $space.lock("tally").mode(LockMode::Nl).acquire()$(.$wait)??;
        tally.add(1)$(.$wait)??;
        tally.unlock()$(.$wait)?
    }};
}

fn blocking(path: &Path, over: &AtomicBool) -> Result<i64, LockError> {
    let builder = ClientBuilder::new(path).keep(GRACE);
    let client = builder.connect_blocking().expect("the daemon is there");
    let space = client.lockspace("default").open()?;
    let mut turns = 0;
    while !over.load(Ordering::Relaxed) {
        turn!(space)?;
        turns += 1;
    }
    Ok(turns)
}

async fn asynchronous(path: &Path, over: &AtomicBool) -> Result<i64, LockError> {
    let builder = ClientBuilder::new(path).keep(GRACE);
    let client = builder.connect().await.expect("the daemon is there");
    let space = client.lockspace("default").open().await?;
    let mut turns = 0;
    while !over.load(Ordering::Relaxed) {
        turn!(space, await)?;
        turns += 1;
    }
    Ok(turns)
}

/// Protects exactly-once over broken connections, for both clients: no call fails, none is carried out
/// twice, and none is forgotten, while the connection breaks in the middle of whatever is on its way.
#[test]
fn nothing_is_lost_and_nothing_twice_when_connections_break() {
    run(secs(60), async {
        let cluster = Cluster::of(3).start().await;
        let between = Between::start(&cluster.dir().join("between.sock"), cluster.socket(1));
        let over = Arc::new(AtomicBool::new(false));
        let (path, end) = (between.path().to_owned(), Arc::clone(&over));
        let thread = thread::spawn(move || blocking(&path, &end).expect("no call fails"));
        let (path, end) = (between.path().to_owned(), Arc::clone(&over));
        let task = tokio::spawn(async move { asynchronous(&path, &end).await });
        let mut wait = 7;
        let begun = now();
        while now().since(begun) < secs(6) {
            wait = wait * 31 % 127;
            tokio::time::sleep(ms(5 + wait)).await;
            between.cut();
        }
        over.store(true, Ordering::Relaxed);
        let turns = within("the task ends", BOUND, task)
            .await
            .expect("it lives");
        let turns = turns.expect("no call fails");
        let others = within("the thread ends", BOUND, async {
            tokio::task::spawn_blocking(|| thread.join()).await
        });
        let others = others.await.expect("waited").expect("no call fails");
        say!("{} cuts, {turns} and {others} turns", between.cuts());
        assert!(between.cuts() > 30 && turns > 30 && others > 30);
        let (_client, space) = cluster.space(2).await;
        for name in ["counter", "tally"] {
            let lock = space.lock(name).mode(LockMode::Pr).with_value_block();
            let lock = within("granted", BOUND, lock.acquire()).await;
            let value = lock.expect("granted").value().expect("asked for");
            assert!(!value.maybe_stale, "{name} was lost");
            assert_eq!(value.block.count(), turns + others, "{name}");
        }
    });
}

/// Protects S1 against a client that stands still while its connection breaks and its grace runs out:
/// its first look at its lock says that it is lost, though the lease of its node runs on.
#[test]
fn a_stopped_client_finds_that_its_grace_is_over() {
    run(secs(60), async {
        let cluster = Cluster::of(3).start().await;
        let between = Between::start(&cluster.dir().join("between.sock"), cluster.socket(1));
        let program = env!("CARGO_BIN_EXE_torture-client");
        let grace = ms(1500);
        let mut client = ClientProcess::kept(program, between.path(), "r", grace);
        let Record::Granted { .. } = client.next(BOUND).await else {
            panic!("the client is granted the lock");
        };
        // For longer than the grace: it is renewed while all is well.
        tokio::time::sleep(grace * 2).await;
        client.pause().await;
        let (_waiter, space) = cluster.space(2).await;
        let cut = now();
        between.cut();
        let next = within("the next grant", BOUND, space.lock("r").acquire()).await;
        let (next, at) = (next.expect("granted"), now());
        say!("cut -> next grant: {:.3?}", at.since(cut));
        assert!(at.since(cut) >= grace, "the session was not kept");
        client.resume();
        let Record::Lost { last_held, why, .. } = client.next(BOUND).await else {
            panic!("the client finds its lock lost");
        };
        say!("the client, going on: {why}");
        assert!(last_held < at.0, "{last_held} {at}");
        assert!(next.is_valid());
        assert_eq!(client.end(BOUND).await, [], "a lost lock stays lost");
    });
}

/// Protects people: the client says what happens, others see whose session has no connection, and a
/// client that cannot come back in time loses its session, after its guards have said so.
#[test]
fn a_session_without_a_connection_is_seen_and_ends() {
    run(secs(60), async {
        let cluster = Cluster::of(1).start().await;
        let between = Between::start(&cluster.dir().join("between.sock"), cluster.socket(1));
        let builder = ClientBuilder::new(between.path()).keep(secs(2));
        let client = builder.connect().await.expect("the daemon is there");
        let mut notices = client.notices();
        let space = client.lockspace("default").open().await.expect("opened");
        let lock = space.lock("r").acquire().await.expect("granted");
        let (other, others) = cluster.space(1).await;
        between.cut();
        let told = within("it breaks", BOUND, notices.next()).await;
        assert!(
            matches!(told, Some(Notice::Disconnected { .. })),
            "{told:?}"
        );
        let told = within("it goes on", BOUND, notices.next()).await;
        assert_eq!(told, Some(Notice::Continued));
        assert!(lock.is_valid());

        between.shut(true);
        let cut = now();
        let told = within("it breaks", BOUND, notices.next()).await;
        assert!(
            matches!(told, Some(Notice::Disconnected { .. })),
            "{told:?}"
        );
        assert!(lock.is_valid(), "the daemon keeps it");
        let waiting = tokio::spawn(async move { others.lock("r").acquire().await });
        let until = lock.valid_until();
        let said = mainstay_torture::until("why tells it", BOUND, async || {
            let name = ResourceName::new("r").expect("a name");
            let space = LockspaceName::new("default").expect("a name");
            let report = other.why(space, name).await.expect("answered");
            let mut sentences = report.sentences.into_iter();
            sentences.find(|s| s.contains("disconnected for"))
        });
        say!("why: {}", said.await);
        let lost = within("the lock is lost", BOUND, lock.lost()).await;
        let known = now();
        let next = within("the next grant", BOUND, waiting).await;
        let (next, at) = (next.expect("it lives").expect("granted"), now());
        say!(
            "cut -> the client knows: {:.3?} ({lost:?}), next grant: {:.3?}",
            known.since(cut),
            at.since(cut)
        );
        assert!(until <= known && until < at, "{until} {known} {at}");
        assert!(at.since(cut) >= secs(2));
        let told = within("the session is lost", BOUND, notices.next()).await;
        assert!(matches!(told, Some(Notice::SessionLost { .. })), "{told:?}");
        assert!(next.is_valid() && !lock.is_valid());
    });
}

/// Protects others from waiting for a client that has ended on purpose, whatever was on its way then.
#[test]
fn a_client_that_closes_keeps_nobody_waiting() {
    run(secs(60), async {
        let cluster = Cluster::of(1).start().await;
        let (_other, space) = cluster.space(1).await;
        for _ in 0..50 {
            let socket = cluster.socket(1).to_owned();
            let held = tokio::task::spawn_blocking(move || {
                let client = ClientBuilder::new(&socket)
                    .keep(secs(30))
                    .connect_blocking();
                let client = client.expect("the daemon is there");
                let space = client.lockspace("default").open().expect("opened");
                // On the handle level nothing is unlocked but by the end of the session.
                let (raw, name) = (client.raw(), ResourceName::new("r").expect("a name"));
                let call = LockCall::new(name, LockMode::Ex);
                raw.raw_lock(raw.new_handle(), space.id(), call)
                    .wait()
                    .expect("granted");
                // The answers to what these say come too late for the client.
                let others = ["a", "b", "c"].map(|name| space.lock(name).acquire());
                drop(others.map(|lock| lock.expect("granted")));
            });
            held.await.expect("the thread lives");
            let lock = within("granted", secs(3), space.lock("r").acquire()).await;
            lock.expect("granted").unlock().await.expect("unlocked");
        }
    });
}
