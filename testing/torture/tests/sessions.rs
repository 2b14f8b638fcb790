//! `mainstay session`, as scripts use it.

use mainstay_torture::{Cluster, mainstay, run, secs, until, within};
use serde_json::Value;
use std::{process::Stdio, time::Duration};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};

const BOUND: Duration = secs(10);

/// A session at a node, spoken to line by line.
struct Talk {
    child: Child,
    lines: Option<ChildStdin>,
    told: Lines<BufReader<ChildStdout>>,
}

impl Talk {
    fn with(cluster: &Cluster, id: u16) -> Talk {
        let mut child = Command::new(mainstay())
            .arg("--socket")
            .arg(cluster.socket(id))
            .args(["session", "--json"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the command starts");
        let told = child.stdout.take().expect("piped");
        Talk {
            lines: child.stdin.take(),
            told: BufReader::new(told).lines(),
            child,
        }
    }

    async fn say(&mut self, lines: &str) {
        let stdin = self.lines.as_mut().expect("not ended yet");
        stdin.write_all(lines.as_bytes()).await.expect("it listens");
    }

    /// What is told next.
    async fn told(&mut self) -> Option<Value> {
        let next = within("something is told", BOUND, self.told.next_line()).await;
        let line = next.expect("the output is text")?;
        Some(serde_json::from_str(&line).expect("a line is a JSON object"))
    }

    /// Expects an event about a lock, and returns it.
    async fn expect(&mut self, event: &str, lock: &str) -> Value {
        let told = self.told().await.expect("the session goes on");
        assert_eq!(
            (&told["event"], &told["lock"]),
            (&event.into(), &lock.into()),
            "{told}"
        );
        told
    }

    /// Ends the input; the rest of what is told, the exit code and standard error.
    async fn end(mut self) -> (Vec<Value>, Option<i32>, String) {
        self.lines = None;
        let mut rest = Vec::new();
        while let Some(told) = self.told().await {
            rest.push(told);
        }
        let output = within("the session ends", BOUND, self.child.wait_with_output()).await;
        let output = output.expect("its end is seen");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        (rest, output.status.code(), error)
    }
}

/// Protects scripts: lines about one lock follow each other without any `wait`, a value goes from
/// one to the other, and the end of the input ends the session and releases what it held.
#[test]
fn a_script_runs_to_its_end() {
    run(secs(60), async {
        let cluster = Cluster::of(3).start().await;
        let mut talk = Talk::with(&cluster, 1);
        talk.say(
            "# a comment\n\
             lock A pr valblk\n\
             convert A ex\n\
             value A = \"generation 8\"\n\
             convert A nl\n\
             lock A cr valblk as=B\n",
        )
        .await;
        let modes = ["pr", "ex", "ex", "nl"];
        for mode in modes {
            assert_eq!(talk.expect("granted", "A").await["mode"], mode);
        }
        let read = talk.expect("granted", "B").await;
        assert_eq!(read["value"]["text"], "generation 8");
        let (rest, code, _) = talk.end().await;
        assert_eq!((rest, code), (vec![], Some(0)));

        let mut next = Talk::with(&cluster, 2);
        next.say("try A ex\n").await;
        next.expect("granted", "A").await;
        let (_, code, _) = next.end().await;
        assert_eq!(code, Some(0));
    });
}

/// Protects people who try it out in two terminals: a holder hears that it blocks another, who is
/// granted the lock with a larger token when it goes; a wait can be taken back.
#[test]
fn two_sessions_hand_a_lock_over() {
    run(secs(60), async {
        let cluster = Cluster::of(3).start().await;
        let (mut left, mut right) = (Talk::with(&cluster, 1), Talk::with(&cluster, 2));
        left.say("lock A ex\n").await;
        let first = left.expect("granted", "A").await["token"].as_u64();
        right.say("lock A ex\n").await;
        assert_eq!(left.expect("blocking", "A").await["mode"], "ex");
        right.say("cancel A\n").await;
        let refused = right.expect("refused", "A").await;
        assert_eq!(refused["code"], "cancelled");
        right.expect("cancelled", "A").await;

        right.say("lock A ex\nwait 0.05\n").await;
        let waiting = right.told().await.expect("the session goes on");
        assert_eq!(waiting["event"], "still-waiting");
        left.say("unlock A\n").await;
        left.expect("unlocked", "A").await;
        let second = right.expect("granted", "A").await["token"].as_u64();
        assert!(second > first, "{second:?} after {first:?}");
    });
}

/// Protects scripts from going on after a mistake, and from believing in locks that are gone.
#[test]
fn mistakes_and_losses_end_a_script() {
    run(secs(60), async {
        let mut cluster = Cluster::of(3).start().await;
        let mut talk = Talk::with(&cluster, 1);
        talk.say("lock A\n\nlock A zz\nlock B\n").await;
        let (told, code, error) = talk.end().await;
        assert_eq!(code, Some(64), "{error}");
        assert!(
            told.len() == 1 && told[0]["event"] == "granted",
            "what was asked before is not told: {told:?}"
        );
        assert!(error.contains("line 3: `zz` is neither a mode"), "{error}");

        let mut talk = Talk::with(&cluster, 1);
        talk.say("lock A\nsleep 60\n").await;
        talk.expect("granted", "A").await;
        cluster.kill(1);
        let (_, code, error) = talk.end().await;
        assert_eq!(code, Some(75), "{error}");
        assert!(error.contains("session is lost"), "{error}");
    });
}

/// Protects whoever learns conversions from it: one that agreed to be demoted says so when it is,
/// and again when it is granted.
#[test]
fn a_demotion_is_told() {
    run(secs(60), async {
        let cluster = Cluster::of(3).start().await;
        let (mut left, mut right) = (Talk::with(&cluster, 1), Talk::with(&cluster, 2));
        for talk in [&mut left, &mut right] {
            talk.say("lock A pr\n").await;
            talk.expect("granted", "A").await;
        }
        left.say("convert A ex\n").await;
        assert_eq!(right.expect("blocking", "A").await["mode"], "ex");
        right.say("convert A ex convdeadlk\n").await;
        right.expect("demoted", "A").await;
        let granted = left.expect("granted", "A").await;
        assert_eq!(
            (&granted["mode"], &granted["demoted"]),
            (&"ex".into(), &false.into())
        );
        left.say("unlock A\n").await;
        let granted = right.expect("granted", "A").await;
        assert_eq!(
            (&granted["mode"], &granted["demoted"]),
            (&"ex".into(), &true.into())
        );
    });
}

/// Protects locks that must outlive their process: a session is killed, its persistent lock keeps others
/// waiting and is told of with the process that left it behind; another process of that node adopts
/// it, and what nobody adopts can be purged.
#[test]
fn a_killed_session_leaves_its_persistent_lock() {
    run(secs(40), async {
        let cluster = Cluster::of(3).start().await;
        let mut dying = Talk::with(&cluster, 1);
        // One by one: what asks different masters is answered in any order.
        dying.say("lock A ex persistent\n").await;
        let token = dying.expect("granted", "A").await["token"].as_u64();
        for (line, lock) in [("lock B pr persistent\n", "B"), ("lock C ex\n", "C")] {
            dying.say(line).await;
            dying.expect("granted", lock).await;
        }
        let pid = dying.child.id().expect("it runs");
        dying.child.kill().await.expect("it is killed");

        let orphans = async || {
            let told = printed(&cluster, 3, &["--json", "orphans"]).await;
            let told: Value = serde_json::from_str(&told).expect("one document");
            let all = told["orphans"].as_array().cloned().expect("a list");
            (all.len() == 2).then_some(all)
        };
        let left = until("two locks are left behind", BOUND, orphans).await;
        assert_eq!(left[0]["name"], "A");
        assert_eq!(
            (&left[0]["mode"], &left[0]["node"]),
            (&"ex".into(), &"n1".into())
        );
        assert_eq!(left[0]["owner"]["pid"], pid);
        let mut other = Talk::with(&cluster, 2);
        other.say("lock C ex\n").await;
        other.expect("granted", "C").await;
        other.say("lock A ex\nwait A 0.2\nwhy A\n").await;
        assert_eq!(
            other.told().await.expect("it goes on")["event"],
            "still-waiting"
        );
        let why = other.told().await.expect("it goes on")["sentences"].to_string();
        assert!(
            why.contains(&format!("an orphan that process {pid} ")),
            "{why}"
        );
        assert!(why.contains("mainstay orphans purge A"), "{why}");

        let mut heir = Talk::with(&cluster, 1);
        heir.say("adopt A pr\n").await;
        assert_eq!(heir.expect("refused", "A").await["code"], "orphan-in-mode");
        heir.say("adopt A ex\n").await;
        let adopted = heir.expect("granted", "A").await;
        assert_eq!(adopted["token"].as_u64(), token);
        assert_eq!(heir.expect("blocking", "A").await["mode"], "ex");
        heir.say("adopt A ex as=again\nunlock A\n").await;
        let again = heir.expect("refused", "again").await;
        assert_eq!(again["code"], "no-such-orphan");
        heir.expect("unlocked", "A").await;
        let granted = other.expect("granted", "A").await["token"].as_u64();
        assert!(granted > token, "{granted:?} after {token:?}");

        other.say("lock B ex\n").await;
        let purge = [
            "orphans",
            "purge",
            "--node",
            "n1",
            "--pid",
            &pid.to_string(),
        ];
        assert_eq!(printed(&cluster, 3, &purge).await, "1 orphan released\n");
        other.expect("granted", "B").await;
    });
}

/// Protects what an orphan protects when it goes to another node: no one else gets in, not when its first node
/// is killed after that either, and its next owner does with it as with any lock of its own.
#[test]
fn another_node_adopts_what_a_killed_session_left() {
    run(secs(60), async {
        let mut cluster = Cluster::of(3).start().await;
        let mut dying = Talk::with(&cluster, 1);
        dying.say("lock A ex valblk persistent\n").await;
        let token = dying.expect("granted", "A").await["token"].as_u64();
        dying.say("convert A nl valblk persistent = one\n").await;
        dying.expect("granted", "A").await;
        dying.say("convert A ex valblk persistent\n").await;
        let last = dying.expect("granted", "A").await["token"].as_u64();
        assert!(last > token);
        let mut other = Talk::with(&cluster, 3);
        other.say("lock A pr\n").await;
        dying.child.kill().await.expect("it is killed");

        let mut heir = Talk::with(&cluster, 2);
        let adopted = loop {
            heir.say("adopt A ex anywhere valblk persistent\n").await;
            let told = heir.told().await.expect("it goes on");
            match told["event"].as_str() {
                Some("granted") => break told,
                Some("refused") => assert_eq!(told["code"], "no-such-orphan", "{told}"),
                _ => panic!("{told}"),
            }
        };
        assert_eq!(adopted["token"].as_u64(), last);
        assert_eq!(heir.expect("blocking", "A").await["mode"], "pr");
        cluster.kill(1);
        heir.say("convert A pr valblk persistent = two\n").await;
        // Whoever rebuilds the resource tells of what waits for it once more.
        while heir.told().await.expect("it goes on")["event"] != "granted" {}
        heir.say("unlock A\n").await;
        while heir.told().await.expect("it goes on")["event"] != "unlocked" {}
        other.expect("granted", "A").await;
    });
}

async fn printed(cluster: &Cluster, node: u16, words: &[&str]) -> String {
    let mut command = Command::new(mainstay());
    command
        .arg("--socket")
        .arg(cluster.socket(node))
        .args(words)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = within("the command ends", BOUND, command.output()).await;
    let output = output.expect("it starts");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text")
}
