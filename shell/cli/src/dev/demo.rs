//! `mainstay dev --demo`: a lock moves when its holder's node is killed.

use super::{cluster::Cluster, process, start};
use crate::{
    exit::{Failure, INTERNAL, OK, Outcome},
    output::{self, FAINT, GOOD, HEAD, paint},
};
use mainstay_client::{ClientBuilder, LockMode, asynchronous::Client};
use mainstay_wire::report::{MemberState, ResourceReport};
use rustix::process::Signal;
use std::{
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};
use tokio::process::{Child, Command};

const RESOURCE: &str = "disk-1";
const LOCKSPACE: &str = crate::commands::lock::DEFAULT_LOCKSPACE;
/// Longest time any step may take.
const STEP: Duration = Duration::from_secs(30);
/// Between two looks.
const LOOK: Duration = Duration::from_millis(20);

/// Tells a story with the time since it began.
struct Story {
    began: Instant,
}

impl Story {
    fn tell(&self, text: impl std::fmt::Display) {
        let time = format!("{:6.2} s", self.began.elapsed().as_secs_f64());
        output::line(format_args!("{}  {text}", paint(FAINT, time)));
    }
}

pub(super) async fn run(cluster: &Cluster) -> Outcome {
    let story = Story {
        began: Instant::now(),
    };
    let count = cluster.nodes.len();
    if count < 3 {
        return Err(Failure::usage(
            "the show needs at least 3 nodes: of two, the survivor has no majority",
        ));
    }
    story.tell(format_args!(
        "Started {count} daemons, n1 to n{count}, in {}.",
        cluster.dir.display()
    ));
    start::wait_until_whole(cluster).await?;
    story.tell("They agree that all of them are members. The cluster has quorum.");

    let mut holder = hold(&cluster.nodes[0].socket)?;
    let second = ClientBuilder::new(&cluster.nodes[1].socket)
        .connect()
        .await?;
    let held = watch(&second, &mut holder, |r| !r.holders.is_empty()).await?;
    let old = held.holders[0].token;
    story.tell(format_args!(
        "A command on n1 runs under an exclusive lock on `{RESOURCE}`, token {old}."
    ));

    let space = second.lockspace(LOCKSPACE).open().await?;
    let waiter = async {
        let lock = space
            .lock(RESOURCE)
            .mode(LockMode::Ex)
            .timeout(STEP)
            .acquire()
            .await;
        (lock, Instant::now())
    };
    tokio::pin!(waiter);
    // The waiter is polled meanwhile, and cannot be granted yet.
    tokio::select! {
        _ = &mut waiter => {
            return Err(Failure::new(INTERNAL, "n2 was granted the lock although n1 holds it"));
        }
        seen = watch(&second, &mut holder, |r| !r.waiters.is_empty()) => drop(seen?),
    }
    story.tell("A client on n2 asks for the same lock and has to wait.");

    let victim = cluster.nodes[0]
        .process
        .ok_or_else(|| Failure::new(INTERNAL, "n1 has no process"))?;
    victim.signal(Signal::KILL);
    let killed = Instant::now();
    story.tell(paint(
        HEAD,
        "kill -9 n1. Nobody can ask its daemon anything any more.",
    ));

    let holder_ended = async {
        let ended = tokio::time::timeout(STEP, holder.wait()).await;
        let at = Instant::now();
        let code = match &ended {
            Ok(Ok(status)) => status.code(),
            _ => None,
        };
        story.tell(format_args!(
            "{:.2} s after the kill, before n1's lease has run out, the command on n1 is ended \
             (exit code {}).",
            (at - killed).as_secs_f64(),
            code.map_or_else(|| "unknown".to_owned(), |code| code.to_string()),
        ));
        (ended, at)
    };
    let ((ended, ended_at), (granted, granted_at)) = tokio::join!(holder_ended, waiter);
    ended.map_err(|_| Failure::new(INTERNAL, "the command on n1 did not end"))??;
    let lock = granted?;
    story.tell(format_args!(
        "{:.2} s after the kill, n1 can certainly do no more harm, and n2 is granted the lock.",
        (granted_at - killed).as_secs_f64(),
    ));
    story.tell(format_args!(
        "Its token is {}, larger than {old}: storage can refuse whoever still shows the old one.",
        lock.token(),
    ));
    if ended_at > granted_at || lock.token() <= old {
        return Err(Failure::new(
            INTERNAL,
            "the lock moved before its old holder had ended, or its token did not grow",
        ));
    }

    let mut returning = cluster.nodes[0].clone();
    let mut child = start::start_node(&mut returning)?;
    story.tell("Starting n1 again.");
    let until = Instant::now() + STEP;
    loop {
        let status = second.status().await?;
        let n1 = status.members.iter().find(|m| m.name.as_str() == "n1");
        if let Some(n1) = n1.filter(|m| m.state == MemberState::Member) {
            story.tell(format_args!(
                "n1 is a member again, as incarnation {}; nobody else was disturbed.",
                n1.incarnation
            ));
            break;
        }
        if Instant::now() > until {
            return Err(Failure::new(INTERNAL, "n1 did not become a member again"));
        }
        tokio::time::sleep(LOOK).await;
    }
    lock.check()
        .map_err(|lost| Failure::new(INTERNAL, format!("n2 lost its lock: {lost}")))?;
    lock.unlock().await?;
    story.tell("n2 still held its lock all the while, and lets it go now.");
    if let Some(process) = returning.process {
        process.signal(Signal::TERM);
        // What is left of it is stopped with the others.
        if tokio::time::timeout(STEP, child.wait()).await.is_err() {
            process.signal(Signal::KILL);
        }
    }
    story.tell(paint(GOOD, "That was the show. Stopping the cluster."));
    Ok(OK)
}

/// Runs a command under the lock through a node's daemon.
fn hold(socket: &Path) -> Result<Child, Failure> {
    Command::new(process::this_executable()?)
        .arg("--socket")
        .arg(socket)
        .args(["lock", "--mode", "ex", RESOURCE, "--", "sleep", "3600"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| Failure::new(INTERNAL, format!("cannot start a process: {error}")))
}

/// Waits until the resource is as wanted.
async fn watch(
    client: &Client,
    holder: &mut Child,
    wanted: impl Fn(&ResourceReport) -> bool,
) -> Result<ResourceReport, Failure> {
    let until = Instant::now() + STEP;
    loop {
        let report = client.locks(None, Some(RESOURCE.to_owned()), 10).await?;
        if let Some(resource) = report.resources.into_iter().find(&wanted) {
            return Ok(resource);
        }
        if let Some(status) = holder.try_wait()? {
            return Err(Failure::new(
                INTERNAL,
                format!("the command on n1 ended early: {status}"),
            ));
        }
        if Instant::now() > until {
            return Err(Failure::new(INTERNAL, "the lock did not appear in time"));
        }
        tokio::time::sleep(LOOK).await;
    }
}
