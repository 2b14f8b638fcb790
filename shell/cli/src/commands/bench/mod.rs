//! `mainstay bench`: what locks cost on this machine, beside what the machine itself can do.
//!
//! Every number is taken through real daemons and the client library, as a program would use them.
//! The limits (round trips over a UNIX socket and over TCP) are measured in the same run, because
//! only ratios can be compared between machines, or between moments on a busy one.

mod crowd;
mod failover;
mod handover;
mod host;
mod limits;
mod locking;
mod memory;
mod moving;
mod pipeline;
mod placement;
mod recovery;
mod report;
mod sample;
mod sets;

use crate::{
    args::Global,
    dev::Handle,
    exit::{self, Failure, INTERNAL, OK, Outcome},
    output,
    signals::{Stop, StopSignals},
};
use clap::{Args, ValueEnum};
use placement::Placement;
use report::Report;
use sample::Row;
use std::{
    io::IsTerminal as _,
    path::{Path, PathBuf},
    time::Duration,
};

/// The lockspace that is measured in.
const LOCKSPACE: &str = "bench";
/// Nodes that take part: clients are on the first, remote masters on the second.
const NODES: u16 = 3;

#[derive(Debug, Args)]
#[command(
    after_help = "Without --dir, a cluster of three daemons is started for the time of the run, \
    connected directly. A cluster that runs already is not disturbed by more than the load, except \
    by `failover` and `recovery`, which kill its first node and start it again.\n\n\
    Other work on the machine makes the numbers worse. The ratios are to the machine's round trips \
    in the same run and with the processes placed alike: wherever the kernel puts them, all on one \
    processor, or apart.\n\n\
    Examples:\n  mainstay bench\n  mainstay bench --quick uncontended\n  \
    mainstay dev --direct --keep-masters --detach --dir /tmp/c && mainstay bench --dir /tmp/c\n  \
    mainstay bench memory --locks 100000\n  mainstay bench --json > bench.json"
)]
pub(crate) struct BenchArgs {
    /// Measure only this [default: all but `memory`, `recovery` and `masters`]. The machine's limits are always measured
    #[arg(value_name = "WHAT", value_enum)]
    what: Vec<Part>,
    /// Use the development cluster that runs in DIR
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Measure for a shorter time, and less exactly
    #[arg(long)]
    quick: bool,
    /// How many locks `memory` and `recovery` take [default: a million, or 100000 with --quick]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1000..=20_000_000))]
    locks: Option<u64>,
}

/// What can be measured by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Lock and unlock of names nobody else uses, by 1, 16 and 64 clients
    Uncontended,
    /// Conversion from NL to EX and back
    Conversion,
    /// Hand-over of a contended lock between nodes
    Handover,
    /// Many requests under way on one connection
    Pipelined,
    /// A set of 8 locks beside 8 single ones
    Sets,
    /// From the death of a holder's node to the next grant
    Failover,
    /// Memory of a daemon for each granted lock
    Memory,
    /// What many locks, and those who have nothing to do with it, feel of a node's death and return
    Recovery,
    /// How soon masters follow when the work moves to another node. By itself: everything else wants
    /// masters that stay
    Masters,
}

/// How long to measure.
#[derive(Clone, Copy, Debug)]
struct Effort {
    /// Each case.
    time: Duration,
    /// Each of the machine's limits.
    limit_time: Duration,
    /// How often a node is killed.
    kills: usize,
    /// How many locks make a crowd.
    locks: u64,
}

impl BenchArgs {
    fn effort(&self) -> Effort {
        if self.quick {
            Effort {
                time: Duration::from_millis(400),
                limit_time: Duration::from_millis(200),
                kills: 1,
                locks: self.locks.unwrap_or(100_000),
            }
        } else {
            Effort {
                time: Duration::from_secs(3),
                limit_time: Duration::from_secs(1),
                kills: 5,
                locks: self.locks.unwrap_or(1_000_000),
            }
        }
    }

    fn wants(&self, part: Part, temporary: bool) -> bool {
        if self.what.is_empty() {
            // Nobody's cluster is killed, or filled, without having been asked for by name.
            !matches!(part, Part::Memory | Part::Recovery | Part::Masters)
                && (temporary || part != Part::Failover)
        } else {
            self.what.contains(&part)
        }
    }
}

/// Tells a person at a terminal what is being measured.
struct Progress {
    shown: bool,
}

impl Progress {
    fn tell(&self, what: &str) {
        if self.shown {
            // Overwrites the line before it.
            use std::io::Write as _;
            let mut err = anstream::stderr().lock();
            let _ = write!(err, "\r\x1b[K{what}");
            let _ = err.flush();
        }
    }
}

pub(crate) async fn run(global: Global, args: BenchArgs) -> Outcome {
    let mut stopped = StopSignals::listen()?;
    let progress = Progress {
        shown: std::io::stderr().is_terminal(),
    };
    let moving = args.what.contains(&Part::Masters);
    if moving && args.what.len() > 1 {
        return Err(Failure::usage(
            "`masters` is measured by itself: the other parts want masters that stay",
        ));
    }
    progress.tell("getting the cluster ready …");
    // Not to be broken off: what it starts would be left to nobody. It waits for nothing.
    let mut cluster = match &args.dir {
        Some(dir) => Handle::running(dir.clone())?,
        None => Handle::temporary(NODES, !moving).await?,
    };
    let work = async {
        if cluster.keeps_masters() == moving {
            return Err(Failure::usage(match moving {
                true => "the masters of this cluster stay; start one without --keep-masters",
                false => {
                    "the masters of this cluster move to where the work is; start one with \
                          `mainstay dev --keep-masters`"
                }
            }));
        }
        cluster.ready().await?;
        measure(&args, &mut cluster, &progress).await
    };
    let outcome = tokio::select! {
        measured = work => measured.map(Ok),
        stop = stopped.next() => Ok(Err(stop)),
    };
    progress.tell("");
    let finished = cluster.finish(outcome.is_ok()).await;
    drop(stopped);
    let report = match outcome? {
        Ok(report) => report,
        Err(Stop::ReaderGone) => return Ok(OK),
        Err(Stop::Signal(signal)) => {
            let why = "stopped before all was measured";
            return Err(Failure::new(exit::by_signal(signal), why));
        }
    };
    finished?;
    if global.json {
        output::json(&report)?;
    } else {
        output::print(&report.render());
    }
    Ok(OK)
}

async fn measure(
    args: &BenchArgs,
    cluster: &mut Handle,
    progress: &Progress,
) -> Result<Report, Failure> {
    if cluster.len() < usize::from(NODES) {
        return Err(Failure::usage(format!(
            "the cluster has {} nodes; {NODES} are needed to measure",
            cluster.len()
        )));
    }
    let effort = args.effort();
    let (near, far) = (cluster.socket(0).to_owned(), cluster.socket(1).to_owned());
    let temporary = cluster.is_temporary();
    progress.tell("the machine's limits …");
    let placements = [&[Placement::Free], Placement::pinned()].concat();
    let mut limits = Vec::new();
    for &placement in &placements {
        limits.push(off(move || limits::measure(placement, effort.limit_time)).await?);
    }
    let daemons = [cluster.pid(0), cluster.pid(1)];
    let mut rows: Vec<Row> = Vec::new();
    let case = |remote, clients, placement| locking::Case {
        near: near.clone(),
        far: far.clone(),
        remote,
        clients,
        placement,
        daemons,
        time: effort.time,
    };
    for remote in [false, true] {
        for clients in [1, 16, 64] {
            for &placement in &placements {
                // Pinned clients are about latency: one at a time.
                let skipped = clients > 1 && placement != Placement::Free;
                if skipped || !args.wants(Part::Uncontended, temporary) {
                    continue;
                }
                progress.tell(&format!(
                    "lock and unlock, clients: {clients}, {} master, {placement} …",
                    place(remote)
                ));
                let case = case(remote, clients, placement);
                rows.extend(off(move || locking::uncontended(&case)).await?);
            }
        }
    }
    if args.wants(Part::Conversion, temporary) {
        for remote in [false, true] {
            for &placement in &placements {
                progress.tell(&format!(
                    "conversion, {} master, {placement} …",
                    place(remote)
                ));
                let case = case(remote, 1, placement);
                rows.push(off(move || locking::conversion(&case)).await?);
            }
        }
    }
    if args.wants(Part::Handover, temporary) {
        progress.tell("hand-over between nodes …");
        let sockets = [near.clone(), far.clone()];
        rows.push(off(move || handover::measure(&sockets, effort.time)).await?);
    }
    if args.wants(Part::Pipelined, temporary) {
        for remote in [false, true] {
            for depth in [64, 256] {
                progress.tell(&format!("{depth} in flight, {} master …", place(remote)));
                let (near, far) = (near.clone(), far.clone());
                let far = remote.then_some(far);
                let work = move || pipeline::measure(&near, far.as_deref(), depth, effort.time);
                rows.push(off(work).await?);
            }
        }
    }
    if args.wants(Part::Sets, temporary) {
        for remote in [false, true] {
            progress.tell(&format!("sets, {} master …", place(remote)));
            let (near, far) = (near.clone(), far.clone());
            let far = remote.then_some(far);
            rows.extend(off(move || sets::measure(&near, far.as_deref(), effort.time)).await?);
        }
    }
    // Once more: what the machine can do may have changed while it was busy with us.
    progress.tell("the machine's limits again …");
    for limit in &mut limits {
        let placement = limit.placement;
        let after = off(move || limits::measure(placement, effort.limit_time)).await?;
        *limit = limit.better(after);
    }
    let mut failover = Vec::new();
    if args.wants(Part::Failover, temporary) {
        for n in 1..=effort.kills {
            progress.tell(&format!("failover {n} of {} …", effort.kills));
            failover.push(failover::once(cluster, n).await?);
        }
    }
    let mut memory = Vec::new();
    if args.wants(Part::Memory, temporary) {
        for remote in [false, true] {
            progress.tell(&format!(
                "memory of {} locks, {} master …",
                effort.locks,
                place(remote)
            ));
            let case = memory::Case {
                near: near.clone(),
                far: remote.then(|| far.clone()),
                daemons,
                locks: effort.locks,
            };
            memory.extend(off(move || memory::measure(&case)).await?);
        }
    }
    let mut recovery = None;
    if args.wants(Part::Recovery, temporary) {
        progress.tell(&format!("recovery of {} locks …", effort.locks));
        recovery = Some(recovery::measure(cluster, effort.locks).await?);
    }
    let mut masters = None;
    if args.wants(Part::Masters, temporary) {
        progress.tell("masters that move …");
        let sockets = (0..3).map(|node| cluster.socket(node).to_owned()).collect();
        let time = effort.time;
        masters = Some(off(move || moving::measure(sockets, time)).await?);
    }
    let mut report = Report::new(cluster.is_direct(), limits, rows);
    report.masters = masters;
    report.failover = failover;
    report.memory = memory;
    report.recovery = recovery;
    Ok(report)
}

/// Runs what blocks beside the event loop, so that signals are still heard.
async fn off<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Failure> + Send + 'static,
) -> Result<T, Failure> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Failure::new(INTERNAL, format!("a measurement broke off: {error}")))?
}

/// Where the master is, seen from the client.
fn place(remote: bool) -> &'static str {
    if remote { "remote" } else { "local" }
}

/// A blocking client with the lockspace.
fn connect(
    socket: &Path,
) -> Result<
    (
        mainstay_client::blocking::Client,
        mainstay_client::blocking::Lockspace,
    ),
    Failure,
> {
    let client = mainstay_client::ClientBuilder::new(socket)
        .command("mainstay bench")
        .connect_blocking()?;
    let space = client.lockspace(LOCKSPACE).open()?;
    Ok((client, space))
}
