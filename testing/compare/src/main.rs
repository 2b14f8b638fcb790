//! The same lock work on Mainstay and on etcd, side by side in one run.
//!
//! Both run as three servers on the loopback interface and are reached by one process with an event
//! loop, one connection per client, each client taking and dropping a lock of its own. etcd is
//! measured twice: through its lock service, and with a lock made of one transaction, which is the
//! fastest an etcd client can do. Not part of the tests: it needs `etcd` (Debian: `etcd-server`) and
//! says so, and what it prints depends on the machine.

mod etcd;
mod mainstay;
mod report;
mod workload;

use anyhow::Context as _;
use clap::Parser;
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};
use workload::Measured;

/// How many clients work at a time.
const CLIENTS: [usize; 3] = [1, 16, 64];
/// Where data lie in memory.
const MEMORY: &str = "/dev/shm";

/// Measures lock and unlock on Mainstay and on etcd.
#[derive(Debug, Parser)]
#[command(name = "mainstay-compare")]
struct Options {
    /// The mainstay program
    #[arg(long, default_value = "target/release/mainstay")]
    mainstay: PathBuf,
    /// The etcd program
    #[arg(long, default_value = "etcd")]
    etcd: PathBuf,
    /// Where data on disk go; a new directory is made in it and removed
    #[arg(long, default_value = "/var/tmp")]
    disk: PathBuf,
    /// Seconds per case
    #[arg(long, default_value_t = 3.0, value_parser = seconds)]
    seconds: f64,
    /// Write the results as JSON to this file, too
    #[arg(long)]
    json: Option<PathBuf>,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.1..=600.0).contains(&seconds) => Ok(seconds),
        _ => Err("a number of seconds from 0.1 to 600".to_owned()),
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    for (what, program, mend) in [
        ("etcd", &options.etcd, "apt-get install etcd-server"),
        ("mainstay", &options.mainstay, "cargo build --release"),
    ] {
        if let Err(error) = std::process::Command::new(program)
            .arg("--version")
            .output()
        {
            say(&format!(
                "SKIPPED: nothing was compared, because {what} cannot be run as {}: {error}. Mend: \
                 {mend}, or name it with --{what}",
                program.display()
            ));
            return ExitCode::SUCCESS;
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    let done = runtime
        .context("cannot start the event loop")
        .and_then(|runtime| runtime.block_on(compare(&options)));
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("mainstay-compare: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

/// Progress and errors, on standard error.
#[expect(clippy::print_stderr, reason = "this is where people look")]
fn say(text: &str) {
    eprintln!("{text}");
}

async fn compare(options: &Options) -> anyhow::Result<()> {
    let time = Duration::from_secs_f64(options.seconds);
    let mut all = Vec::new();
    for (place, dir) in [("tmpfs", Path::new(MEMORY)), ("disk", &options.disk)] {
        say(&format!("mainstay, state on {place} …"));
        all.extend(mainstay_in(&options.mainstay, place, dir, time).await?);
        say(&format!("etcd, data on {place} …"));
        all.extend(etcd_in(&options.etcd, place, dir, time).await?);
    }
    print(&report::markdown(&all));
    if let Some(path) = &options.json {
        let text = serde_json::to_string_pretty(&all)?;
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the result")]
fn print(text: &str) {
    println!("{text}");
}

async fn mainstay_in(
    program: &Path,
    place: &str,
    dir: &Path,
    time: Duration,
) -> anyhow::Result<Vec<Measured>> {
    let dir = tempfile::tempdir_in(dir).context("cannot make a directory for mainstay")?;
    let cluster = mainstay::Cluster::start(program, dir.path())?;
    let mut all = Vec::new();
    for remote in [false, true] {
        let keepers = cluster
            .keep_masters(remote, CLIENTS[CLIENTS.len() - 1])
            .await?;
        for clients in CLIENTS {
            let locks = cluster.clients(remote, clients).await?;
            let what = if remote {
                "remote master"
            } else {
                "local master"
            };
            all.push(workload::run(&format!("mainstay, {what}"), place, locks, time).await?);
        }
        drop(keepers);
    }
    Ok(all)
}

async fn etcd_in(
    program: &Path,
    place: &str,
    dir: &Path,
    time: Duration,
) -> anyhow::Result<Vec<Measured>> {
    let dir = tempfile::tempdir_in(dir).context("cannot make a directory for etcd")?;
    let cluster = etcd::Cluster::start(program, dir.path()).await?;
    let mut all = Vec::new();
    for clients in CLIENTS {
        let locks = cluster.service_locks(clients).await?;
        all.push(workload::run("etcd, lock service", place, locks, time).await?);
    }
    for clients in CLIENTS {
        let locks = cluster.transaction_locks(clients).await?;
        all.push(workload::run("etcd, one transaction", place, locks, time).await?);
    }
    Ok(all)
}
