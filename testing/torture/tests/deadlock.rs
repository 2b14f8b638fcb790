//! Programs on several hosts that wait for each other in a circle.

use mainstay_base::{Flags, LockMode, LockspaceName, Owner, ResourceName};
use mainstay_client::{DeadlockReport, LockError, asynchronous::Lockspace};
use mainstay_torture::{Cluster, mainstay, run, secs, until, within};
use std::{
    collections::BTreeSet,
    process::Stdio,
    time::{Duration, Instant},
};
use tokio::{process::Command, task::JoinSet};

const BOUND: Duration = secs(10);
const NAMES: [&str; 3] = ["a", "b", "c"];

/// Takes the lock of a number and then the next one, releases both, and says how it went and how
/// long the second took.
async fn two(
    space: Lockspace,
    place: usize,
    all: &tokio::sync::Barrier,
) -> (usize, Result<(), LockError>, Duration) {
    let first = space
        .lock(NAMES[place])
        .acquire()
        .await
        .expect("it is free");
    all.wait().await;
    let asked = Instant::now();
    let second = space.lock(NAMES[(place + 1) % 3]).acquire().await;
    let took = asked.elapsed();
    let result = match second {
        Ok(second) => second.unlock().await,
        Err(error) => Err(error),
    };
    first.unlock().await.expect("it was held");
    (place, result, took)
}

/// Protects L1 with real daemons: of three programs on three hosts that wait for each other, one is
/// refused in well under a second and told who the others are, and the others go on.
#[test]
fn a_circle_over_three_hosts_is_broken() {
    run(secs(60), async {
        let cluster = Cluster::of(3).start().await;
        let mut clients = Vec::new();
        let all = std::sync::Arc::new(tokio::sync::Barrier::new(3));
        let mut tasks = JoinSet::new();
        for id in 1..=3_u16 {
            let (client, space) = cluster.space(id).await;
            clients.push(client);
            let all = std::sync::Arc::clone(&all);
            tasks.spawn(async move { two(space, usize::from(id) - 1, &all).await });
        }
        let ends = within("the circle is broken", BOUND, tasks.join_all()).await;
        let (refused, granted): (Vec<_>, Vec<_>) =
            ends.into_iter().partition(|(_, result, _)| result.is_err());
        assert_eq!((refused.len(), granted.len()), (1, 2), "{refused:?}");
        let (place, result, took) = &refused[0];
        assert!(*took < Duration::from_millis(900), "it took {took:?}");
        let error = result.as_ref().expect_err("it is the refused one");
        let report: &DeadlockReport = error.deadlock().expect("for a deadlock");
        let own = NAMES[(place + 1) % 3];
        assert_eq!(report.waits[0].name, ResourceName::new(own).expect("valid"));
        let nodes: BTreeSet<&str> = report.waits.iter().map(|w| w.node.as_str()).collect();
        assert_eq!(nodes, BTreeSet::from(["n1", "n2", "n3"]));
        let pid = std::process::id();
        assert!(report.waits.iter().all(|w| w.owner.pid == pid), "{report}");
        assert!(
            error.to_string().starts_with("deadlock: process "),
            "{error}"
        );
    });
}

/// Protects the views: a circle that is left alone, by NODLCKWT, is seen by `graph` and `why`.
#[test]
fn a_circle_is_seen_by_graph_and_why() {
    run(secs(60), async {
        let cluster = Cluster::of(2).start().await;
        let (one, space_one) = cluster.space(1).await;
        let (_two, space_two) = cluster.space(2).await;
        let _a = space_one.lock("a").acquire().await.expect("it is free");
        let _b = space_two.lock("b").acquire().await.expect("it is free");
        let mut waiting = JoinSet::new();
        for (space, name) in [(space_one, "b"), (space_two, "a")] {
            waiting.spawn(async move {
                let request = space.lock(name).flags(Flags::NODLCKWT);
                request.acquire().await.map(drop)
            });
        }
        let graph = until("both wait", BOUND, async || {
            let graph = one.graph(None, None, 100).await.ok()?;
            (graph.waits.len() == 2 && graph.silent.is_empty()).then_some(graph)
        })
        .await;
        assert_eq!(graph.circles, [vec![0, 1]], "{graph:?}");
        assert!(
            graph
                .waits
                .iter()
                .all(|w| w.blockers[0].held == Some(LockMode::Ex))
        );
        let default = LockspaceName::new("default").expect("valid");
        let name = ResourceName::new("a").expect("valid");
        let why = one.why(default, name).await.expect("an answer");
        let told = why
            .sentences
            .iter()
            .any(|s| s.starts_with("Deadlock: 2 owners"));
        assert!(told, "{:?}", why.sentences);

        for (words, expected) in [
            (&["graph"][..], "wait for each other"),
            (&["graph", "--dot"], "color=red"),
            (&["--json", "graph"], "\"circles\""),
        ] {
            let mut command = Command::new(mainstay());
            command.arg("--socket").arg(cluster.socket(2)).args(words);
            command.stdin(Stdio::null()).kill_on_drop(true);
            let output = within("the command ends", BOUND, command.output()).await;
            let output = output.expect("it starts");
            let text = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(output.status.success() && text.contains(expected), "{text}");
        }
        waiting.shutdown().await;
    });
}

/// Protects transactions with real daemons: a circle that closes only because sessions on two hosts name
/// one transaction has one victim, who is told all of it; a session that names the number no more, or
/// another kind of owner, closes none.
#[test]
fn a_circle_through_a_transaction_on_two_hosts_is_broken() {
    run(secs(90), async {
        let cluster = Cluster::of(3).start().await;
        let (one, space_one) = cluster.space(1).await;
        let (two, _) = cluster.space(2).await;
        let (three, space_three) = cluster.space(3).await;
        let xid = Owner::Transaction(0xfeed_0000_0000_0007);
        for (round, owner) in [Owner::Group(7), xid].into_iter().enumerate() {
            let name = |letter: &str| format!("{letter}{round}");
            one.set_owner(owner).await.expect("the session stands");
            two.set_owner(owner).await.expect("the session stands");
            let a = space_one.lock(name("a")).acquire().await.expect("free");
            let b = space_three.lock(name("b")).acquire().await.expect("free");
            let wanted = name("b");
            let space = two.lockspace("default").open().await.expect("opened");
            let waits = tokio::spawn(async move { space.lock(&wanted).acquire().await });
            until("the transaction waits", BOUND, async || {
                let graph = three.graph(None, None, 100).await.ok()?;
                (graph.waits.len() == 1).then_some(())
            })
            .await;
            let asked = Instant::now();
            let wanted = name("a");
            let closing = space_three.lock(&wanted);
            let closed = closing.timeout(secs(2)).acquire().await;
            let error = closed.map(drop).expect_err("it is held");
            if owner != xid {
                assert!(error.deadlock().is_none(), "{owner}: {error}");
            } else {
                let took = asked.elapsed();
                assert!(took < Duration::from_millis(900), "it took {took:?}");
                let report = error.deadlock().expect("for a deadlock");
                let told: Vec<_> = report.waits.iter().collect();
                assert_eq!(told.len(), 2, "{report}");
                assert_eq!(
                    (told[0].node.as_str(), told[0].owner.owner),
                    ("n3", Owner::Session)
                );
                assert_eq!((told[1].node.as_str(), told[1].owner.owner), ("n2", xid));
                assert!(error.to_string().contains(&format!("as {xid}")), "{error}");
            }
            assert!(!waits.is_finished(), "only one is refused");
            b.unlock().await.expect("it was held");
            let second = within("the other goes on", BOUND, waits).await;
            drop(second.expect("no panic").expect("granted"));
            a.unlock().await.expect("it was held");
        }
    });
}

/// Protects `as xid 7` in `mainstay session`, and what people see of it.
#[test]
fn a_script_locks_for_a_transaction() {
    run(secs(60), async {
        let cluster = Cluster::of(1).start().await;
        let script = "as xid 7\nlock a\nas session\nlock b\nwait\n";
        let mut command = Command::new(mainstay());
        command
            .arg("--socket")
            .arg(cluster.socket(1))
            .arg("session");
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .kill_on_drop(true);
        let mut session = command.spawn().expect("it starts");
        let mut input = session.stdin.take().expect("a pipe");
        tokio::io::AsyncWriteExt::write_all(&mut input, script.as_bytes())
            .await
            .expect("it reads");
        let show = async |words: &[&str]| {
            let mut command = Command::new(mainstay());
            command.arg("--socket").arg(cluster.socket(1)).args(words);
            command.stdin(Stdio::null()).kill_on_drop(true);
            let output = within("the command ends", BOUND, command.output()).await;
            String::from_utf8_lossy(&output.expect("it starts").stdout).into_owned()
        };
        until("both are held", BOUND, async || {
            let text = show(&["locks"]).await;
            (text.matches("holds").count() == 2).then_some(())
        })
        .await;
        let (all, of_it) = (show(&["locks"]).await, show(&["locks", "--xid", "7"]).await);
        assert_eq!(all.matches("as xid 7").count(), 1, "{all}");
        assert!(
            of_it.contains("default/a") && !of_it.contains("default/b"),
            "{of_it}"
        );
        assert_eq!(show(&["locks", "--xid", "8"]).await, "no resources\n");
        let json = show(&["--json", "locks", "--xid", "7"]).await;
        let told: String = json.split_whitespace().collect();
        assert!(told.contains("\"as\":{\"xid\":7}"), "{json}");
        assert!(show(&["why", "a"]).await.contains("as xid 7 has held ex"));
        drop(input);
        within("the session ends", BOUND, session.wait())
            .await
            .expect("it ran");
    });
}
