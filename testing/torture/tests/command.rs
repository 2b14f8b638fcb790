//! `mainstay lock`, as scripts use it.

use mainstay_base::Instant;
use mainstay_client::now;
use mainstay_torture::{Cluster, mainstay, run, say, secs, until, within};
use std::{
    path::Path,
    process::{Output, Stdio},
    time::Duration,
};
use tokio::process::Command;

const BOUND: Duration = secs(10);

/// `mainstay lock WORDS…` at a node, not yet started.
fn lock(cluster: &Cluster, id: u16, words: &[&str]) -> Command {
    let mut command = Command::new(mainstay());
    command
        .arg("--socket")
        .arg(cluster.socket(id))
        .arg("lock")
        .args(words)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

async fn output(mut command: Command) -> Output {
    within("the command ends", BOUND, command.output())
        .await
        .expect("the command starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).trim().to_owned()
}

/// Protects scripts: the exit code is the command's, 128 and the signal, 126 and 127 as the shell
/// has them, and what was asked for when the lock is not granted.
#[test]
fn exit_codes_are_those_of_flock() {
    run(secs(60), async {
        let cluster = Cluster::of(3).start().await;
        for (words, code) in [
            (&["r", "--", "true"][..], 0),
            (&["r", "--", "sh", "-c", "exit 7"], 7),
            (&["r", "--", "sh", "-c", "kill -TERM $$"], 128 + 15),
            (&["r", "--", "sh", "-c", "kill -KILL $$"], 128 + 9),
            (&["r", "--", "no-such-command-anywhere"], 127),
            (&["r", "--", "/etc/passwd"], 126),
            (&["--mode", "zz", "r", "--", "true"], 64),
        ] {
            let output = output(lock(&cluster, 1, words)).await;
            assert_eq!(output.status.code(), Some(code), "{words:?}: {output:?}");
        }
        let (_client, space) = cluster.space(2).await;
        let held = space.lock("r").acquire().await.expect("granted");
        for (words, code) in [
            (&["--try", "r", "--", "true"][..], 1),
            (&["--wait", "0.2", "r", "--", "true"], 1),
            (
                &["--try", "--conflict-exit-code", "9", "r", "--", "true"],
                9,
            ),
            (&["--try", "--mode", "nl", "r", "--", "true"], 0),
        ] {
            let output = output(lock(&cluster, 1, words)).await;
            assert_eq!(output.status.code(), Some(code), "{words:?}: {output:?}");
        }
        drop(held);
    });
}

/// Protects commands that speak to storage: they see a token that grows from holder to holder, also
/// from node to node.
#[test]
fn the_command_sees_its_token() {
    run(secs(60), async {
        let cluster = Cluster::of(3).start().await;
        let script = "echo $MAINSTAY_TOKEN $MAINSTAY_RESOURCE $MAINSTAY_MODE";
        let mut last = 0;
        for id in [1, 2, 3, 1] {
            let words = ["--mode", "pw", "disk", "--", "sh", "-c", script];
            let output = output(lock(&cluster, id, &words)).await;
            let line = text(&output.stdout);
            let words: Vec<&str> = line.split(' ').collect();
            let [token, "disk", mode] = words[..] else {
                panic!("{line}: {output:?}");
            };
            assert_eq!(mode, "pw");
            let token = token_number(token);
            assert!(token > last, "{token} > {last}");
            last = token;
        }
    });
}

/// A token in its printed form, as a number.
fn token_number(text: &str) -> u64 {
    text.parse()
        .unwrap_or_else(|_| panic!("`{text}` is a number"))
}

/// Protects those who run things under a lock from a daemon that dies: the command is ended, and
/// the exit code says that the lock was lost.
#[test]
fn a_killed_daemon_ends_the_command() {
    run(secs(60), async {
        let mut cluster = Cluster::of(3).start().await;
        let words = ["r", "--", "sh", "-c", "echo started; exec sleep 600"];
        let mut child = lock(&cluster, 1, &words).spawn().expect("started");
        started(&mut child).await;
        let killed = now();
        cluster.kill(1);
        let output = within("the command ends", BOUND, child.wait_with_output())
            .await
            .expect("it was started");
        say!("kill -9 of the daemon -> exit: {:.3?}", now().since(killed));
        assert_eq!(output.status.code(), Some(75), "{output:?}");
        let said = text(&output.stderr);
        assert!(said.contains("the lock on r was lost"), "{said}");
    });
}

/// Waits for the command's first line.
async fn started(child: &mut tokio::process::Child) {
    use tokio::io::AsyncReadExt as _;
    let stdout = child.stdout.as_mut().expect("piped");
    let mut line = [0; 8];
    within("the command starts", BOUND, stdout.read_exact(&mut line))
        .await
        .expect("it prints a line");
}

fn last_beat(file: &Path) -> Option<Instant> {
    let bytes = std::fs::read(file).ok()?;
    Some(Instant(u64::from_le_bytes(bytes.try_into().ok()?)))
}

/// Protects S1 for commands: when the daemon stands still, nobody tells the command's keeper that
/// the lease ends; it knows, and a command that ignores SIGTERM is gone before another node's client
/// is granted the lock.
#[test]
fn a_paused_daemons_command_ends_before_the_next_grant() {
    run(secs(60), async {
        let mut cluster = Cluster::of(3).start().await;
        let beat = cluster.dir().join("beat");
        let program = env!("CARGO_BIN_EXE_torture-client");
        let words = ["r", "--", program, "beat", beat.to_str().expect("a path")];
        let child = lock(&cluster, 1, &words).spawn().expect("started");
        until("the command works", BOUND, async || last_beat(&beat)).await;
        let (_waiter, space) = cluster.space(2).await;
        let waiting = tokio::spawn(async move { (space.lock("r").acquire().await, now()) });
        cluster.waiters(2, "r", 1).await;
        cluster.daemon(1).pause().await;
        let paused = now();
        let (next, at) = within("the next grant", BOUND, waiting)
            .await
            .expect("the waiting task lives");
        next.expect("granted");
        let output = within("the keeper ends", BOUND, child.wait_with_output())
            .await
            .expect("it was started");
        // The beats go by the clock that the grant was taken by.
        let last = last_beat(&beat).expect("it was there");
        say!(
            "SIGSTOP -> the command's last beat: {:.3?}, next grant: {:.3?}",
            last.since(paused),
            at.since(paused)
        );
        assert!(last < at, "it worked at {last}, the grant came at {at}");
        assert_eq!(output.status.code(), Some(75), "{output:?}");
    });
}

/// Protects the command from its keeper's death: nobody would watch the lease any more, so the
/// command goes too, and the lock passes on at once.
#[test]
fn a_killed_keeper_takes_its_command_along() {
    run(secs(60), async {
        let cluster = Cluster::of(3).start().await;
        let beat = cluster.dir().join("beat");
        let program = env!("CARGO_BIN_EXE_torture-client");
        let words = ["r", "--", program, "beat", beat.to_str().expect("a path")];
        let mut child = lock(&cluster, 1, &words).spawn().expect("started");
        until("the command works", BOUND, async || last_beat(&beat)).await;
        let (_waiter, space) = cluster.space(2).await;
        let waiting = tokio::spawn(async move { (space.lock("r").acquire().await, now()) });
        cluster.waiters(2, "r", 1).await;
        let killed = now();
        child.kill().await.expect("killed");
        let (next, at) = within("the next grant", BOUND, waiting)
            .await
            .expect("the waiting task lives");
        next.expect("granted");
        let last = until("the command is gone", BOUND, async || {
            let before = last_beat(&beat)?;
            tokio::time::sleep(Duration::from_millis(50)).await;
            (last_beat(&beat)? == before).then_some(before)
        })
        .await;
        say!(
            "kill -9 of the keeper -> last beat: {:.3?}, next grant: {:.3?}",
            last.since(killed),
            at.since(killed)
        );
        assert!(at.since(killed) < secs(1), "less than a lease");
        assert!(last.since(killed) < secs(1), "the command went with it");
    });
}
