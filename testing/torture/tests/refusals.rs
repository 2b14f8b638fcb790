//! Daemons that must not start, and nodes that must not be let in.

use mainstay_client::{now, report::MemberState, report::StatusReport};
use mainstay_torture::{Cluster, Daemon, NodeFile, free, mainstay, run, say, secs, until};
use std::{fs, process::Command, time::Duration};

const BOUND: Duration = secs(10);

/// Node `odd` was made different; the others must refuse it with this code, in their logs and in its
/// own, and form the cluster without it.
async fn refused(cluster: &mut Cluster, odd: u16, code: &str, text: &str) {
    let others: Vec<u16> = cluster.ids().into_iter().filter(|&id| id != odd).collect();
    for id in cluster.ids() {
        cluster.start(id);
    }
    let began = now();
    for id in cluster.ids() {
        until(&format!("n{id} logs {code}"), BOUND, async || {
            let log = cluster.log(id);
            (log.contains(code) && log.contains(text)).then_some(())
        })
        .await;
    }
    let without = |s: &StatusReport| {
        let mut members = s.members.iter();
        s.quorate && members.all(|m| (m.state == MemberState::Member) == (m.id.0 != odd))
    };
    for id in others {
        cluster
            .status_when(id, "a cluster without the odd one", secs(20), without)
            .await;
    }
    let status = cluster.status(odd).await.expect("the odd one runs");
    assert!(!status.active && !status.quorate);
    say!(
        "{code}: refused and formed without it in {:.3?}",
        now().since(began)
    );
}

/// Protects the cluster from whoever lacks its key, and tells both sides.
#[test]
fn a_node_with_another_key_stays_out() {
    run(secs(60), async {
        let mut cluster = Cluster::of(3).prepare().await;
        let key = cluster.other_key("other.key", 0x17, 0o600);
        cluster.files.get_mut(&3).expect("n3").key = key;
        let text = "the two nodes hold different cluster keys";
        refused(&mut cluster, 3, "wrong-key", text).await;
    });
}

/// Protects two clusters that share a key, as copied configurations do, from melting into one.
#[test]
fn a_node_of_another_cluster_stays_out() {
    run(secs(60), async {
        let mut cluster = Cluster::of(3).prepare().await;
        cluster.files.get_mut(&3).expect("n3").cluster = "other".to_owned();
        let text = "the two nodes have different cluster names";
        refused(&mut cluster, 3, "wrong-cluster", text).await;
    });
}

/// Protects the set of voters: a node that the others' configuration does not list stays out.
#[test]
fn a_node_that_nobody_lists_stays_out() {
    run(secs(60), async {
        let mut cluster = Cluster::of(3).prepare().await;
        for id in [2, 3] {
            let file = cluster.files.get_mut(&id).expect("listed");
            file.nodes.retain(|(id, ..)| *id != 1);
        }
        let text = "has no node with the caller's id";
        refused(&mut cluster, 1, "unknown-node", text).await;
    });
}

/// Protects the lease arithmetic: nodes with other timings are not let in.
#[test]
fn a_node_with_other_timings_stays_out() {
    run(secs(60), async {
        let mut cluster = Cluster::of(3).prepare().await;
        cluster.files.get_mut(&3).expect("n3").lease_ms = 3000;
        let text = "the two nodes have different cluster parameters";
        refused(&mut cluster, 3, "params-mismatch", text).await;
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
