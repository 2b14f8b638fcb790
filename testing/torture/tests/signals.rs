//! The command's own end: by signals, and by a reader that goes away.

use mainstay_torture::{Cluster, mainstay, ms, run, secs, until, within};
use rustix::process::{Pid, Signal, kill_process};
use std::{path::Path, process::Stdio, time::Duration};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader},
    process::{Child, Command},
};

const BOUND: Duration = secs(15);

/// `mainstay WORDS…`, not yet started; what it makes for itself goes into `dir`.
fn command(dir: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(mainstay());
    command
        .args(words)
        .env("XDG_RUNTIME_DIR", dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

fn send(child: &Child, signal: Signal) {
    let pid = child.id().expect("it has not been waited for");
    let pid = Pid::from_raw(pid.cast_signed()).expect("a process number");
    kill_process(pid, signal).expect("a signal to a child");
}

/// The processes that have `dir` on their command line.
fn processes_of(dir: &Path) -> Vec<String> {
    let needle = dir.as_os_str().as_encoded_bytes();
    let all = std::fs::read_dir("/proc").expect("it can be listed");
    all.filter_map(|entry| {
        let line = std::fs::read(entry.ok()?.path().join("cmdline")).ok()?;
        line.windows(needle.len())
            .any(|part| part == needle)
            .then(|| String::from_utf8_lossy(&line).replace('\0', " "))
    })
    .collect()
}

fn made_in(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).expect("it can be listed");
    let names = entries.filter_map(|e| e.ok()?.file_name().into_string().ok());
    // A link that outlives its cluster: where `mainstay dev` looks for the one started last.
    names
        .filter(|name| !name.starts_with("mainstay-dev-last"))
        .collect()
}

/// Protects the machine of whoever stops `mainstay bench`: at whatever moment it is told to end, its
/// daemons are gone with it, and so is its directory.
#[test]
fn a_stopped_bench_leaves_nothing() {
    run(secs(120), async {
        let home = tempfile::tempdir().expect("a directory");
        // While the daemons start, while they find each other, and while it measures.
        for (moment, nodes) in [("starting", 0), ("forming", 3), ("measuring", 4)] {
            let child = command(home.path(), &["bench", "--quick"])
                .spawn()
                .expect("started");
            until("its cluster is there", BOUND, async || match nodes {
                0 => (!made_in(home.path()).is_empty()).then_some(()),
                3 => (processes_of(home.path()).len() == 3).then_some(()),
                _ => is_whole(home.path()).await.then_some(()),
            })
            .await;
            send(&child, Signal::TERM);
            let output = within("it ends", BOUND, child.wait_with_output())
                .await
                .expect("it was started");
            assert_eq!(output.status.code(), Some(128 + 15), "{moment}: {output:?}");
            assert_eq!(processes_of(home.path()), [""; 0], "{moment}");
            assert_eq!(made_in(home.path()), [""; 0], "{moment}");
        }
    });
}

/// Whether the first node of the only cluster in `home` may act.
async fn is_whole(home: &Path) -> bool {
    let [name] = &made_in(home)[..] else {
        return false;
    };
    let socket = home.join(name).join("n1.sock");
    let Ok(client) = mainstay_client::asynchronous::Client::connect(&socket).await else {
        return false;
    };
    client.status().await.is_ok_and(|status| status.active)
}

/// Protects the machine of whoever pipes `mainstay dev` into something that ends: the cluster is
/// stopped, although nobody sent a signal.
#[test]
fn a_dev_cluster_stops_with_its_reader() {
    run(secs(60), async {
        let home = tempfile::tempdir().expect("a directory");
        let mut child = command(home.path(), &["dev"]).spawn().expect("started");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let line = within("it prints a line", BOUND, lines.next_line()).await;
        line.expect("readable").expect("a line");
        drop(lines);
        let status = within("it ends", BOUND, child.wait()).await;
        assert_eq!(status.expect("it was started").code(), Some(0));
        assert_eq!(processes_of(home.path()), [""; 0]);
        assert_eq!(made_in(home.path()), [""; 0]);
    });
}

/// Protects scripts that look at the first line only: no complaint, and no waiting for an event that
/// may never come.
#[test]
fn a_closed_pipe_is_no_failure() {
    run(secs(60), async {
        let cluster = Cluster::of(1).start().await;
        let socket = cluster.socket(1);
        let socket = socket.to_str().expect("a path");
        for words in [
            &["status"][..],
            &["value", "get", "r"],
            &["locks", "--json"],
            &["why", "r"],
            &["events"],
            &["events", "--json", "--no-follow"],
        ] {
            let words = [&["--socket", socket], words].concat();
            let mut child = command(cluster.dir(), &words).spawn().expect("started");
            drop(child.stdout.take());
            let output = within("it ends", BOUND, child.wait_with_output())
                .await
                .expect("it was started");
            assert_eq!(output.status.code(), Some(0), "{words:?}: {output:?}");
            assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{words:?}");
        }
    });
}

/// Protects the command under a lock: a signal to `mainstay lock` reaches it, it may put its affairs
/// in order, and the lock is free when `mainstay lock` has ended.
#[test]
fn signals_reach_the_command_and_free_the_lock() {
    run(secs(60), async {
        let cluster = Cluster::of(3).start().await;
        let socket = cluster.socket(1);
        let (_client, space) = cluster.space(2).await;
        let asks = "trap 'echo asked; exit 5' TERM; echo started; while :; do sleep 0.01; done";
        let obeys = "echo started; exec sleep 600";
        // Not HUP or INT, which whoever runs the tests may have chosen to ignore.
        for (script, code, said) in [(asks, 5, "asked\n"), (obeys, 128 + 15, "")] {
            let words = ["--socket", socket.to_str().expect("a path"), "lock", "r"];
            let words = [&words[..], &["--", "sh", "-c", script]].concat();
            let mut child = command(cluster.dir(), &words).spawn().expect("started");
            let stdout = child.stdout.as_mut().expect("piped");
            let mut line = [0; 8];
            within("the command starts", BOUND, stdout.read_exact(&mut line))
                .await
                .expect("it prints a line");
            send(&child, Signal::TERM);
            let output = within("it ends", BOUND, child.wait_with_output())
                .await
                .expect("it was started");
            assert_eq!(output.status.code(), Some(code), "{output:?}");
            assert_eq!(String::from_utf8_lossy(&output.stdout), said);
            let free = space.lock("r").try_lock().acquire().await;
            free.expect("free").unlock().await.expect("unlocked");
        }
    });
}

/// Protects the queue: a `mainstay lock` that is told to end while it waits is no longer waited for.
#[test]
fn a_signal_ends_the_wait() {
    run(secs(60), async {
        let cluster = Cluster::of(3).start().await;
        let socket = cluster.socket(1);
        let (_client, space) = cluster.space(2).await;
        let held = space.lock("r").acquire().await.expect("granted");
        let words = ["--socket", socket.to_str().expect("a path"), "lock", "r"];
        let words = [&words[..], &["--", "echo", "never"]].concat();
        let child = command(cluster.dir(), &words).spawn().expect("started");
        cluster.waiters(2, "r", 1).await;
        send(&child, Signal::TERM);
        let output = within("it ends", BOUND, child.wait_with_output())
            .await
            .expect("it was started");
        assert!(output.stdout.is_empty(), "{output:?}");
        assert!(!output.status.success());
        cluster.waiters(2, "r", 0).await;
        held.unlock().await.expect("unlocked");
        let again = space.lock("r").timeout(ms(5000)).acquire().await;
        again.expect("nobody else has it");
    });
}
