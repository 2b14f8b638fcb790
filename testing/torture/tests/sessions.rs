//! `mainstay session`, as scripts use it.

use mainstay_torture::{Cluster, mainstay, run, secs, within};
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
        let (_, code, error) = talk.end().await;
        assert_eq!(code, Some(64), "{error}");
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
