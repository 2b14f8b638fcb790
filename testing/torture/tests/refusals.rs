//! Daemons that must not start, and nodes that must not be let in.

use mainstay_client::{now, report::StatusReport};
use mainstay_torture::{Cluster, Daemon, NodeFile, free, mainstay, run, say, secs, until};
use std::{fs, process::Command, time::Duration};

const BOUND: Duration = secs(10);

/// Waits until every node has logged this code and text.
async fn all_log(cluster: &Cluster, code: &str, text: &str) {
    for id in cluster.ids() {
        until(&format!("n{id} logs {code}"), BOUND, async || {
            let log = cluster.log(id);
            (log.contains(code) && log.contains(text)).then_some(())
        })
        .await;
    }
}

/// Starts node 3 of a cluster again, with another configuration and an empty disk. The others must
/// refuse it with this code, in their logs and in its own, and not change their view for it; with its
/// old configuration and disk it is a member again.
async fn refused(code: &str, text: &str, change: impl FnOnce(&Cluster, &mut NodeFile)) {
    let mut cluster = Cluster::of(3).start().await;
    cluster.kill(3);
    // The removal and the proof of death are views.
    let gone = |s: &StatusReport| s.votes == 2 && s.pending_fences.is_empty();
    let status = cluster.status_when(1, "n3 is gone for certain", BOUND, gone);
    let epoch = status.await.epoch;
    cluster.whole_of(&[1, 2]).await;
    let good = cluster.files[&3].clone();
    let mut odd = good.clone();
    odd.state = cluster.dir().join("odd");
    change(&cluster, &mut odd);
    cluster.files.insert(3, odd);
    cluster.start(3);
    let began = now();
    all_log(&cluster, code, text).await;
    say!("{code}: in all three logs after {:.3?}", now().since(began));
    let odd = cluster.status(3).await.expect("the odd one runs");
    assert!(!odd.active && !odd.quorate);
    cluster.whole_of(&[1, 2]).await;
    let status = cluster.status(1).await.expect("n1 answers");
    assert_eq!(status.epoch, epoch, "no view was changed for it");
    cluster.kill(3);
    cluster.files.insert(3, good);
    cluster.start(3);
    cluster.whole().await;
}

/// Protects the cluster from whoever lacks its key, and tells both sides.
#[test]
fn a_node_with_another_key_stays_out() {
    run(secs(60), async {
        let text = "the two nodes hold different cluster keys";
        refused("wrong-key", text, |cluster, odd| {
            odd.key = cluster.other_key("other.key", 0x17, 0o600);
        })
        .await;
    });
}

/// Protects two clusters that share a key, as copied configurations do, from melting into one.
#[test]
fn a_node_of_another_cluster_stays_out() {
    run(secs(60), async {
        let text = "the two nodes have different cluster names";
        refused("wrong-cluster", text, |_, odd| {
            odd.cluster = "other".to_owned()
        })
        .await;
    });
}

/// Protects the lease arithmetic: a node with other timings is not let in.
#[test]
fn a_node_with_other_timings_stays_out() {
    run(secs(60), async {
        let text = "the two nodes have different cluster parameters";
        refused("params-mismatch", text, |_, odd| odd.lease_ms = 3000).await;
    });
}

/// Protects the set of voters: a node that the others' configurations do not list stays out, and
/// they form their cluster without it.
#[test]
fn a_node_that_nobody_lists_stays_out() {
    run(secs(60), async {
        let mut cluster = Cluster::of(3).prepare().await;
        for id in [2, 3] {
            let file = cluster.files.get_mut(&id).expect("listed");
            file.nodes.retain(|(id, ..)| *id != 1);
        }
        for id in cluster.ids() {
            cluster.start(id);
        }
        all_log(&cluster, "unknown-node", "has no node with the caller's id").await;
        let two = |s: &StatusReport| {
            s.active && s.members.len() == 2 && s.members.iter().all(|m| m.id.0 != 1)
        };
        for id in [2, 3] {
            cluster
                .status_when(id, "a cluster of two", secs(20), two)
                .await;
        }
        let status = cluster.status(1).await.expect("n1 runs");
        assert!(!status.active && !status.quorate);
    });
}

/// Protects against two clusters born of one configuration: a new cluster waits for all its voters,
/// and a node says for whom it waits.
#[test]
fn a_new_cluster_waits_for_all_voters() {
    run(secs(60), async {
        let mut cluster = Cluster::of(3).prepare().await;
        cluster.start(1);
        cluster.start(2);
        let linked = |s: &StatusReport| s.links.iter().any(|l| l.up);
        let status = cluster.status_when(1, "linked to n2", BOUND, linked).await;
        assert!(!status.active && status.epoch.0 == 0, "{status:?}");
        let client = cluster.client(1).await;
        let opened = tokio::spawn(async move { client.lockspace("default").open().await });
        // Longer than a cluster of three takes to form.
        tokio::time::sleep(secs(2)).await;
        if opened.is_finished() {
            let opened = opened.await.expect("it does not panic");
            assert!(opened.is_err(), "there is no cluster yet");
        }
        cluster.start(3);
        cluster.whole().await;
    });
}

/// Starts a daemon that must end with this code and say all of this.
async fn must_end(cluster: &Cluster, file: &NodeFile, code: i32, said: &[&str]) {
    let log = cluster.dir().join("failed.log");
    let _ = fs::remove_file(&log);
    let config = cluster.dir().join("failed.toml");
    fs::write(&config, file.text()).expect("a configuration can be written");
    let mut daemon = Daemon::start(&[], &config, &log);
    let status = daemon.ended(BOUND).await;
    let log = daemon.log();
    assert_eq!(status.code(), Some(code), "{log}");
    for text in said {
        assert!(log.contains(text), "`{text}` is not said:\n{log}");
    }
    let last = log.lines().last().unwrap_or_default();
    say!("exit {code}: {last}");
}

/// Protects the journal and the clients from a second daemon: it finds the state directory, the port
/// or the socket taken, says by whom, and ends; the first goes on.
#[test]
fn a_second_daemon_does_not_start() {
    run(secs(60), async {
        let mut cluster = Cluster::of(3).start().await;
        let dir = cluster.dir().to_owned();
        let good = cluster.files[&1].clone();
        let elsewhere = |file: &mut NodeFile| file.nodes[0].2 = free(1);

        let mut file = good.clone();
        elsewhere(&mut file);
        file.socket = dir.join("second.sock");
        let owner = format!("process {}", cluster.daemon(1).pid());
        let said = ["is in use by", &owner, "two daemons never share one"];
        must_end(&cluster, &file, 75, &said).await;

        let mut file = good.clone();
        file.state = dir.join("second");
        file.socket = dir.join("second.sock");
        let address = file.nodes[0].2[0].to_string();
        must_end(&cluster, &file, 75, &[&address, "in use"]).await;

        let mut file = good.clone();
        elsewhere(&mut file);
        file.state = dir.join("third");
        must_end(&cluster, &file, 75, &["another daemon answers", "n1.sock"]).await;

        cluster.whole().await;
        let (_client, space) = cluster.space(1).await;
        space.lock("r").acquire().await.expect("granted");
    });
}

/// Protects the operator's time: what is wrong with key, directories and configuration is said with
/// its mend, and with the exit code of its kind.
#[test]
fn what_is_wrong_is_said_with_its_mend() {
    run(secs(60), async {
        let cluster = Cluster::of(3).prepare().await;
        let dir = cluster.dir().to_owned();
        let good = cluster.files[&1].clone();

        let mut file = good.clone();
        file.key = cluster.other_key("open.key", 1, 0o640);
        let mend = format!("chmod 600 {}", file.key.display());
        must_end(&cluster, &file, 78, &[&mend, "mode 0640"]).await;

        let mut file = good.clone();
        file.key = dir.join("no.key");
        must_end(
            &cluster,
            &file,
            78,
            &["there is no key file", "mainstay init"],
        )
        .await;

        let mut file = good.clone();
        file.state = good.key.join("state");
        let said = [
            "cluster.key/state",
            "name a directory as the state directory",
        ];
        must_end(&cluster, &file, 73, &said).await;

        // Nobody may write there, not even root.
        let mut file = good.clone();
        file.state = "/proc/mainstay".into();
        must_end(&cluster, &file, 73, &["/proc/mainstay"]).await;

        let mut file = good.clone();
        file.socket = good.key.clone();
        must_end(&cluster, &file, 73, &["is not a socket"]).await;
    });
}

/// Protects the operator's time: a wrong configuration is told by file, line and field, all of it at
/// once, also by `--check`, which starts nothing.
#[test]
fn a_wrong_configuration_is_told_by_line() {
    run(secs(60), async {
        let cluster = Cluster::of(3).prepare().await;
        let config = cluster.dir().join("wrong.toml");
        let text = cluster.files[&1]
            .text()
            .replace("lease-ms = 1500", "leese-ms = 1500")
            .replace("id = 2", "id = 70000");
        fs::write(&config, &text).expect("written");
        let line = 1 + text
            .lines()
            .position(|l| l.contains("leese-ms"))
            .expect("there");
        let place = format!("{}:{line}", config.display());
        for check in [&["--check"][..], &[]] {
            let output = Command::new(mainstay())
                .args(["node", "--config"])
                .arg(&config)
                .args(check)
                .output()
                .expect("started");
            let said = String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(78), "{said}");
            for text in [&place, "did you mean `lease-ms`?", "node[1].id", "70000"] {
                assert!(said.contains(text), "`{text}` is not said:\n{said}");
            }
        }
        assert!(!cluster.files[&1].state.exists(), "nothing was started");
        fs::write(&config, cluster.files[&1].text()).expect("written");
        let output = Command::new(mainstay())
            .args(["node", "--check", "--config"])
            .arg(&config)
            .output()
            .expect("started");
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert!(!cluster.files[&1].state.exists(), "nothing was started");
        let output = Command::new(mainstay())
            .args(["node", "--config", "/no/such/file.toml"])
            .output()
            .expect("started");
        assert_eq!(output.status.code(), Some(66), "{output:?}");
    });
}
