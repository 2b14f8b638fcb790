//! Disks that are full.

use mainstay_client::{LockError, now};
use mainstay_torture::{Cluster, Tmpfs, ms, possible, run, say, secs, until, within};
use std::{fs::File, io::Write as _, time::Duration};

const BOUND: Duration = secs(10);

/// Takes all the room there is.
fn fill(tmpfs: &Tmpfs) {
    let mut filler = File::create(tmpfs.path().join("filler")).expect("a file");
    for size in [64 << 10, 4 << 10, 1] {
        while filler.write_all(&vec![0x55; size]).is_ok() {}
    }
}

/// Protects D1 and L1: a node whose disk is full promises nothing more, says what is wrong and how
/// much room it needs, and stops; the others go on; with room it comes back and catches up.
#[test]
fn a_full_disk_stops_one_node() {
    run(secs(60), async {
        let mut cluster = Cluster::of(3).prepare().await;
        let tmpfs = match Tmpfs::mount(&cluster.files[&3].state, 2048) {
            Ok(tmpfs) => tmpfs,
            Err(why) => {
                // Not possible; says so, and fails where it must be.
                let _ = possible("a small tmpfs", Err(why));
                return;
            }
        };
        for id in cluster.ids() {
            cluster.start(id);
        }
        cluster.whole().await;
        let (_on_three, space) = cluster.space(3).await;
        let lost = space.lock("r").acquire().await.expect("granted");
        fill(&tmpfs);
        // Lockspaces are decisions of the log, which every node has to store.
        let client = cluster.client(1).await;
        let at = now();
        let mut made = 0;
        let status = loop {
            made += 1;
            let name = format!("space-{made:04}-with-a-name-that-takes-room");
            let opened = within("the others decide", BOUND, client.lockspace(name).open()).await;
            match opened {
                Ok(_) | Err(LockError::Refused(_)) => {}
                Err(error) => panic!("{error}"),
            }
            if !cluster.daemon(3).running() {
                break cluster.daemon(3).ended(BOUND).await;
            }
            assert!(now().since(at) < secs(20), "the full node does not stop");
            tokio::time::sleep(ms(1)).await;
        };
        let log = cluster.log(3);
        let said = log
            .lines()
            .find(|l| l.contains("No space left"))
            .expect("said");
        say!(
            "stopped after {made} lockspaces, {:.3?}: {said}",
            now().since(at)
        );
        assert_eq!(status.code(), Some(74), "{status}");
        for text in ["KiB free", "make room there", "then start the node again"] {
            assert!(said.contains(text), "`{text}` is not said: {said}");
        }
        assert!(!lost.is_valid());
        cluster.whole_of(&[1, 2]).await;
        let (_client, space) = cluster.space(1).await;
        let next = within("the others go on", BOUND, space.lock("r").acquire()).await;
        assert!(next.expect("granted").token() > lost.token());

        std::fs::remove_file(tmpfs.path().join("filler")).expect("removed");
        cluster.start(3);
        cluster.whole().await;
        let count = cluster
            .status(1)
            .await
            .expect("n1 answers")
            .lockspaces
            .len();
        until("it has caught up", BOUND, async || {
            let status = cluster.status(3).await?;
            (status.lockspaces.len() == count).then_some(())
        })
        .await;
        let (_client, space) = cluster.space(3).await;
        within("and grants", BOUND, space.lock("s").acquire())
            .await
            .expect("granted");
    });
}
