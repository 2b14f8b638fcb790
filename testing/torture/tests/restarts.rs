//! Sessions that go on when their daemon is started anew, with real daemons.

use mainstay_client::{
    ByteRange, ClientBuilder, LockError, LockMode, Notice, ValueBlock, asynchronous::Client, now,
};
use mainstay_torture::{Cluster, ms, run, say, secs, within};
use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

const BOUND: Duration = secs(20);
const GRACE: Duration = secs(30);

fn counts(path: &Path, over: &AtomicBool) -> Result<i64, LockError> {
    let builder = ClientBuilder::new(path).keep(GRACE);
    let client = builder.connect_blocking().expect("the daemon is there");
    let space = client.lockspace("default").open()?;
    let mut turns = 0;
    while !over.load(Ordering::Relaxed) {
        let mut lock = space.lock("counter").with_value_block().acquire()?;
        let count = lock.value().map_or(0, |value| value.block.count());
        lock.publish(ValueBlock::default().with_count(count + 1))?;
        lock.unlock()?;
        turns += 1;
    }
    Ok(turns)
}

fn bytes(first: u64, last: u64) -> ByteRange {
    ByteRange::new(first, last).expect("in order")
}

async fn kept(cluster: &Cluster, id: u16) -> Client {
    let builder = ClientBuilder::new(cluster.socket(id)).keep(GRACE);
    builder.connect().await.expect("the daemon is there")
}

/// Stops a daemon so that its sessions go on in the next.
async fn rest(cluster: &mut Cluster, id: u16, at_most: Duration) {
    let client = cluster.client(id).await;
    let begun = now();
    let rested = within("it stops", BOUND, client.rest(at_most)).await;
    rested.expect("nothing is in the way");
    cluster.daemon(id).ended(BOUND).await;
    say!("n{id} has stopped after {:.3?}", now().since(begun));
}

/// Protects an upgrade of the daemon: whoever has its session kept has the same locks afterwards, with the
/// same tokens, and nobody else had them meanwhile; calls that waited go on waiting, no call fails, and a
/// counter of both sides is exact.
#[test]
fn sessions_go_on_with_the_next_daemon() {
    run(secs(120), async {
        let mut cluster = Cluster::of(3).start().await;
        cluster.master_at(1, "own").await;
        cluster.master_at(2, "theirs").await;
        let client = kept(&cluster, 1).await;
        let mut notices = client.notices();
        let space = client.lockspace("default").open().await.expect("opened");
        let space = Arc::new(space);
        let own = space.lock("own").acquire().await.expect("granted");
        let theirs = space.lock("theirs").acquire().await.expect("granted");
        let tokens = (own.token(), theirs.token());
        let mut file = space.ranges("file").await.expect("opened");
        file.set(bytes(0, 99), LockMode::Ex).await.expect("granted");
        file.set(bytes(200, 299), LockMode::Pr)
            .await
            .expect("granted");
        let (_other, others) = cluster.space(2).await;
        let others = Arc::new(others);
        // Not by who waits for the others: that would be a deadlock.
        let (_third, third) = cluster.space(3).await;
        let ahead = third.lock("queue").acquire().await.expect("granted");
        let mine = Arc::clone(&space);
        let queued = tokio::spawn(async move { mine.lock("queue").acquire().await });
        let wait = |name: &'static str| {
            let others = Arc::clone(&others);
            tokio::spawn(async move { others.lock(name).acquire().await })
        };
        let (for_own, for_theirs) = (wait("own"), wait("theirs"));
        let beside = Arc::clone(&others);
        let for_bytes = tokio::spawn(async move {
            let mut file = beside.ranges("file").await?;
            file.set(bytes(90, 210), LockMode::Ex).await.map(|_| file)
        });
        cluster.waiters(3, "own", 1).await;
        cluster.waiters(3, "queue", 1).await;
        let over = Arc::new(AtomicBool::new(false));
        let spawn = |id: u16| {
            let (path, end) = (cluster.socket(id).to_owned(), Arc::clone(&over));
            thread::spawn(move || counts(&path, &end).expect("no call fails"))
        };
        let counting = [spawn(1), spawn(2)];
        tokio::time::sleep(ms(500)).await;

        rest(&mut cluster, 1, secs(60)).await;
        assert!(!own.is_valid() && !theirs.is_valid(), "it has no lease");
        tokio::time::sleep(ms(500)).await;
        assert!(!for_own.is_finished() && !for_theirs.is_finished());
        assert!(!for_bytes.is_finished() && !file.is_valid());
        cluster.start(1);
        loop {
            let told = within("the session goes on", BOUND, notices.next()).await;
            match told.expect("the session lives") {
                Notice::Continued => break,
                Notice::SessionLost { reason, .. } => panic!("the session is lost: {reason}"),
                _ => {}
            }
        }
        mainstay_torture::until("the locks are valid again", BOUND, async || {
            (own.is_valid() && theirs.is_valid() && file.is_valid()).then_some(())
        })
        .await;
        assert_eq!((own.token(), theirs.token()), tokens);
        assert!(!for_own.is_finished() && !for_theirs.is_finished());
        cluster.waiters(3, "queue", 1).await;
        ahead.unlock().await.expect("unlocked");
        let queued = within("the call that waited", BOUND, queued).await;
        let queued = queued.expect("it lives").expect("granted");
        assert!(queued.is_valid());
        cluster.whole().await;
        tokio::time::sleep(secs(1)).await;
        over.store(true, Ordering::Relaxed);
        let turns = within("the threads end", BOUND, async {
            tokio::task::spawn_blocking(|| counting.map(|t| t.join().expect("no call fails"))).await
        });
        let turns = turns.await.expect("waited");
        say!("{turns:?} turns");
        let counter = third.lock("counter").mode(LockMode::Pr).with_value_block();
        let counter = within("granted", BOUND, counter.acquire()).await;
        let value = counter.expect("granted").value().expect("asked for");
        assert!(!value.maybe_stale, "an update was lost");
        assert_eq!(value.block.count(), turns[0] + turns[1]);
        assert!(turns[0] > 10 && turns[1] > 10);

        file.release(bytes(0, 99)).await.expect("given up");
        assert!(!for_bytes.is_finished(), "the rest is held, too");
        file.release(bytes(250, 299)).await.expect("given up");
        file.unlock().await.expect("unlocked");
        let granted = within("the range", BOUND, for_bytes).await;
        assert!(granted.expect("it lives").is_ok());
        own.unlock().await.expect("unlocked");
        theirs.unlock().await.expect("unlocked");
        for waiting in [for_own, for_theirs] {
            let next = within("the next grant", BOUND, waiting).await;
            assert!(next.expect("it lives").is_ok());
        }
    });
}

/// Protects everybody else: a daemon that does not come back in time keeps nobody waiting for longer than
/// was said, and its clients find their locks lost, however they come back.
#[test]
fn who_is_not_back_in_time_has_lost_its_locks() {
    run(secs(60), async {
        let mut cluster = Cluster::of(3).start().await;
        let client = kept(&cluster, 1).await;
        let mut notices = client.notices();
        let space = client.lockspace("default").open().await.expect("opened");
        let lock = space.lock("r").acquire().await.expect("granted");
        let (_other, others) = cluster.space(2).await;
        let waiting = tokio::spawn(async move { others.lock("r").acquire().await });
        cluster.waiters(3, "r", 1).await;
        rest(&mut cluster, 1, secs(3)).await;
        let stopped = now();
        let next = within("the next grant", BOUND, waiting).await;
        let (next, at) = (next.expect("it lives").expect("granted"), now());
        say!("stopped -> next grant: {:.3?}", at.since(stopped));
        assert!(at.since(stopped) >= ms(2500), "it was not kept");
        cluster.start(1);
        loop {
            match within("the session ends", BOUND, notices.next()).await {
                Some(Notice::SessionLost { .. }) => break,
                Some(Notice::Continued) => panic!("another has its lock"),
                Some(_) => {}
                None => panic!("nothing is told"),
            }
        }
        assert!(next.is_valid() && !lock.is_valid());
    });
}

/// Protects people from a promise that nobody keeps: a node that is alone refuses, and goes on.
#[test]
fn a_node_that_is_alone_cannot_rest() {
    run(secs(60), async {
        let cluster = Cluster::of(1).start().await;
        let client = cluster.client(1).await;
        let refused = within("an answer", BOUND, client.rest(secs(10))).await;
        let why = refused.expect_err("nobody is there").to_string();
        assert!(why.contains("only member"), "{why}");
        let (_other, space) = cluster.space(1).await;
        assert!(space.lock("r").acquire().await.is_ok(), "it goes on");
    });
}
