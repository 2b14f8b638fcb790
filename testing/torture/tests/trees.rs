//! Programs on several hosts lock rows beneath a table, while the host that masters the tree dies.

use mainstay_base::LockMode;
use mainstay_client::{LockError, Refusal};
use mainstay_torture::{Cluster, run, secs, within};

const BOUND: std::time::Duration = secs(12);

fn refusal(result: Result<(), LockError>) -> Option<Refusal> {
    let error = result.expect_err("it has locks beneath it");
    error.refusal().map(|refusal| refusal.cause().clone())
}

/// Protects hierarchy with real daemons: a tree is mastered where its root is; a lock does not go before
/// those beneath it; all that is beneath one goes in one call; and what survives of a tree whose master died
/// is rebuilt in one place, with who holds what and who waits.
#[test]
fn a_tree_outlives_its_master() {
    run(secs(60), async {
        let mut cluster = Cluster::of(3).start().await;
        let (_first, space1) = cluster.space(1).await;
        let (_second, space2) = cluster.space(2).await;
        let (_third, space3) = cluster.space(3).await;
        let top1 = space1.lock("db").mode(LockMode::Cr).acquire().await;
        let top1 = top1.expect("it is free");
        let top2 = space2.lock("db").mode(LockMode::Cw).acquire().await;
        let top2 = top2.expect("it suits");
        let top3 = space3.lock("db").mode(LockMode::Cr).acquire().await;
        let top3 = top3.expect("it suits");
        let table2 = top2.child("table").mode(LockMode::Cw).acquire().await;
        let table2 = table2.expect("it is free");
        let table3 = top3.child("table").mode(LockMode::Cw).acquire().await;
        let table3 = table3.expect("it suits");
        let row = table2.child("row 1").acquire().await.expect("it is free");
        let lost = top1.child("row of the dead").acquire().await;
        let lost = lost.expect("it is free");
        for name in ["db", "db//table", "db//table//row 1"] {
            let there = cluster.resource(3, name).await.expect("it is locked");
            assert_eq!(there.master.as_str(), "n1", "{name}");
        }
        assert_eq!(
            refusal(table2.unlock().await),
            Some(Refusal::HasSubLocks(1))
        );
        let waiting = tokio::spawn(async move {
            let row = table3.child("row 1").timeout(BOUND).acquire().await;
            (row, table3)
        });
        cluster.waiters(2, "db//table//row 1", 1).await;
        cluster.kill(1);
        cluster.whole_of(&[2, 3]).await;
        assert!(row.is_valid(), "its node has survived");
        let late = top3.child("row of the dead").timeout(BOUND).acquire().await;
        late.expect("its holder is gone");
        let master = cluster
            .resource(2, "db")
            .await
            .expect("it is locked")
            .master;
        for name in ["db//table", "db//table//row 1"] {
            let there = cluster.resource(2, name).await.expect("it is locked");
            assert_eq!(there.master, master, "{name}");
        }
        assert!(!waiting.is_finished(), "the row is held");
        let gone = within("the tree goes", BOUND, top2.unlock_tree()).await;
        assert_eq!(gone.expect("the daemon lives"), 3, "db, table and row");
        let (row, table3) = within("the row is free", BOUND, waiting)
            .await
            .expect("no panic");
        drop(row.expect("nobody holds it"));
        table3.unlock_beneath().await.expect("the daemon lives");
        table3.unlock().await.expect("nothing is beneath it");
        drop((top1, lost));
    });
}
