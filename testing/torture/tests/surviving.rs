//! Locks that survive their node: daemons are killed, one and all, and started again.

use mainstay_client::{
    LockError, Refusal,
    asynchronous::{Client, Lock, Lockspace},
};
use mainstay_torture::{Cluster, run, secs, until};
use mainstay_wire::orphan::{OrphanReport, OrphanWish};
use std::time::Duration;

const BOUND: Duration = secs(15);

async fn survivors(client: &Client) -> Option<Vec<OrphanReport>> {
    let page = client
        .orphans(OrphanWish::default(), 100, None)
        .await
        .ok()?;
    page.silent.is_empty().then_some(page.orphans)
}

async fn is_held(space: &Lockspace, name: &str) {
    let asked = space.lock(name).timeout(secs(1)).acquire().await;
    let refusal = asked.as_ref().err().and_then(LockError::refusal);
    assert_eq!(refusal, Some(&Refusal::TimedOut), "{name}");
}

async fn adopted(space: &Lockspace, name: &str) -> Option<Lock> {
    space.lock(name).adopt_anywhere().await.ok()
}

/// Protects what a lock protects whose daemon, and then every daemon, is killed: it keeps others out until it
/// is adopted, on another node and with the token that it has, or purged.
#[test]
fn locks_survive_the_end_of_all_daemons() {
    run(secs(90), async {
        let mut cluster = Cluster::of(3).start().await;
        let (holder, space) = cluster.space(1).await;
        let lock = space.lock("disk").surviving().acquire().await;
        let lock = lock.expect("it is free");
        let token = lock.token();
        let other = space.lock("vm").surviving().acquire().await;
        let other = other.expect("it is free");
        cluster.kill(1);
        std::mem::forget((lock, other, holder));

        let (client, space) = cluster.space(2).await;
        let left = until("both are left behind", BOUND, async || {
            let left = survivors(&client).await?;
            (left.len() == 2).then_some(left)
        });
        let left = left.await;
        assert!(left.iter().all(|orphan| orphan.node.as_str() == "n1"));
        is_held(&space, "disk").await;
        drop((client, space));

        cluster.kill(2);
        cluster.kill(3);
        for id in cluster.ids() {
            cluster.start(id);
        }
        cluster.whole().await;
        let (client, space) = cluster.space(3).await;
        is_held(&space, "disk").await;
        is_held(&space, "vm").await;
        let here = space.lock("disk").adopt().await;
        let refusal = here.as_ref().err().and_then(LockError::refusal);
        assert_eq!(refusal, Some(&Refusal::NoSuchOrphan), "it is of no node");
        let lock = until("it is adopted", BOUND, async || {
            adopted(&space, "disk").await
        });
        let lock = lock.await;
        assert_eq!(lock.token(), token);
        lock.unlock().await.expect("the log says so");
        let next = space.lock("disk").acquire().await.expect("it is free");
        assert!(next.token() > token);

        let purged = client.purge_orphans(OrphanWish::default()).await;
        let purged = purged.expect("the log says so");
        assert_eq!((purged.purged, purged.denied), (1, 0));
        space.lock("vm").acquire().await.expect("it is free");
        assert_eq!(survivors(&client).await.map(|left| left.len()), Some(0));
    });
}
