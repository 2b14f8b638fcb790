//! What people are shown of waits and of very many locks, with real daemons.

use mainstay_base::{LockMode, LockspaceName, ResourceName};
use mainstay_client::asynchronous::Lock;
use mainstay_torture::{Cluster, mainstay, run, secs, until, within};
use std::{process::Stdio, time::Duration};
use tokio::process::Command;

const BOUND: Duration = secs(20);

async fn printed(cluster: &Cluster, node: u16, words: &[&str]) -> String {
    let mut command = Command::new(mainstay());
    command
        .arg("--socket")
        .arg(cluster.socket(node))
        .args(words);
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = within("the command ends", BOUND, command.output()).await;
    let output = output.expect("it starts");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text")
}

/// Protects `mainstay locks`: more resources than a page are all shown, each once and in order, as
/// text and as one JSON document; and `--after` goes on where one left off.
#[test]
fn many_locks_are_walked_in_pages() {
    run(secs(120), async {
        let cluster = Cluster::of(2).start().await;
        let (_one, space_one) = cluster.space(1).await;
        let (_two, space_two) = cluster.space(2).await;
        let mut held: Vec<Lock> = Vec::new();
        for n in 0..2500 {
            let space = if n % 2 == 0 { &space_one } else { &space_two };
            let request = space.lock(format!("r{n:04}")).mode(LockMode::Pr);
            held.push(request.acquire().await.expect("it is free"));
        }
        let text = printed(&cluster, 2, &["--json", "locks", "--all"]).await;
        let json: serde_json::Value = serde_json::from_str(&text).expect("one document");
        let resources = json["resources"].as_array().expect("a list");
        assert_eq!(resources.len(), 2500);
        assert_eq!(
            (&json["truncated"], json["silent"].as_array().map(Vec::len)),
            (&false.into(), Some(0))
        );
        assert!(
            resources
                .iter()
                .all(|r| r["holders"].as_array().map(Vec::len) == Some(1))
        );
        let text = printed(&cluster, 1, &["locks", "--all"]).await;
        let names: Vec<&str> = text
            .lines()
            .skip(1)
            .filter_map(|l| l.split(' ').next())
            .collect();
        let expected: Vec<String> = (0..2500).map(|n| format!("default/r{n:04}")).collect();
        assert_eq!(names, expected);
        let after = [
            "--json",
            "locks",
            "--lockspace",
            "default",
            "--after",
            "r2489",
        ];
        let json: serde_json::Value =
            serde_json::from_str(&printed(&cluster, 1, &after).await).expect("one document");
        assert_eq!(json["resources"].as_array().map(Vec::len), Some(10));
    });
}

/// Protects `mainstay contention`: a wait over two hosts is shown with its owner and who is in the way
/// while it lasts, and is counted when it has ended.
#[test]
fn a_wait_is_shown_and_counted() {
    run(secs(60), async {
        let cluster = Cluster::of(2).start().await;
        let (one, space_one) = cluster.space(1).await;
        let (_two, space_two) = cluster.space(2).await;
        let held = space_one.lock("disk").acquire().await.expect("it is free");
        let waiting = tokio::spawn(async move {
            let lock = space_two.lock("disk").acquire().await?;
            lock.unlock().await
        });
        let default = LockspaceName::new("default").expect("valid");
        let report = until("it waits", BOUND, async || {
            let report = one.contention(Some(default.clone()), 5, None).await.ok()?;
            let wait = report.waits.first()?;
            (wait.waited_ms >= 50 && wait.blockers.len() == 1).then_some(report)
        })
        .await;
        assert_eq!(
            report.waits[0].name,
            ResourceName::new("disk").expect("valid")
        );
        assert_eq!(report.waits[0].waiter.node.as_str(), "n2");
        assert_eq!(report.waits[0].blockers[0].owner.node.as_str(), "n1");
        assert_eq!(
            report.waits[0].blockers[0].owner.owner.pid,
            std::process::id()
        );
        let text = printed(&cluster, 2, &["contention"]).await;
        assert!(text.contains("held in ex by process"), "{text}");
        held.unlock().await.expect("it was held");
        waiting.await.expect("no panic").expect("granted");
        let report = one.contention(None, 5, None).await.expect("an answer");
        assert_eq!(report.waits, []);
        assert_eq!(
            (report.hot[0].waits, &report.hot[0].name),
            (1, &ResourceName::new("disk").expect("valid"))
        );
        assert!(report.lockspaces[0].waits.max_us >= 50_000, "{report:?}");
        assert!(report.lockspaces[0].holds.count >= 2, "{report:?}");
    });
}
