//! Locks that nobody else wants.

use super::{
    LOCKSPACE, connect, place,
    placement::Placement,
    sample::{Bound, Row, Samples},
};
use crate::exit::{Failure, INTERNAL};
use mainstay_client::{ClientBuilder, LockMode, asynchronous};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::Barrier;

/// Cycles before the clock starts.
const WARM_UP: usize = 200;

/// Who does it, and where.
#[derive(Clone, Debug)]
pub(super) struct Case {
    /// The socket of the clients' daemon.
    pub(super) near: PathBuf,
    /// The socket of another daemon.
    pub(super) far: PathBuf,
    /// Whether the other daemon's node masters the locks.
    pub(super) remote: bool,
    pub(super) clients: usize,
    pub(super) placement: Placement,
    /// The process numbers of the two daemons.
    pub(super) daemons: [u32; 2],
    pub(super) time: Duration,
}

impl Case {
    fn name(&self, client: usize) -> String {
        format!("{}-{}-{client}", place(self.remote), self.clients)
    }

    /// Locks in mode NL that make their node the master of the resources and keep it so.
    fn keepers(&self) -> Result<Vec<mainstay_client::blocking::Lock>, Failure> {
        let socket = if self.remote { &self.far } else { &self.near };
        let (_client, space) = connect(socket)?;
        let keep = |client| {
            let request = space.lock(self.name(client)).mode(LockMode::Nl);
            Ok(request.acquire()?)
        };
        (0..self.clients).map(keep).collect()
    }

    fn row(&self, what: &str, samples: Samples, elapsed: Duration) -> Row {
        let one = self.clients == 1;
        let clients = if one {
            "1 client".to_owned()
        } else {
            format!("{} clients", self.clients)
        };
        Row {
            name: format!("{what}, {clients}, {} master", place(self.remote)),
            placement: self.placement,
            summary: samples.summary(elapsed),
            bound: match (one, self.remote) {
                (false, _) => Bound::None,
                (true, false) => Bound::Unix,
                (true, true) => Bound::UnixAndTcp,
            },
            target: None,
        }
    }
}

/// Lock and unlock: waiting for both answers; by one client also with an unlock that is not waited
/// for, as when a guard is dropped.
pub(super) fn uncontended(case: &Case) -> Result<Vec<Row>, Failure> {
    let _pinned = case.placement.pin(case.daemons);
    let keepers = case.keepers()?;
    let mut rows = Vec::new();
    if case.clients == 1 {
        for waits in [true, false] {
            let (samples, elapsed) = alone(case, waits)?;
            let what = if waits { "lock+unlock" } else { "lock+drop" };
            let mut row = case.row(what, samples, elapsed);
            row.target = waits.then_some(if case.remote { 2.5 } else { 2.0 });
            rows.push(row);
        }
    } else {
        let (samples, elapsed) = together(case)?;
        rows.push(case.row("lock+unlock", samples, elapsed));
    }
    drop(keepers);
    Ok(rows)
}

/// One client with a thread of its own.
fn alone(case: &Case, waits: bool) -> Result<(Samples, Duration), Failure> {
    let (client, space) = connect(&case.near)?;
    let name = case.name(0);
    let cycle = || -> Result<(), Failure> {
        let lock = space.lock(&name).acquire()?;
        if waits {
            lock.unlock()?;
        } else {
            drop(lock);
        }
        Ok(())
    };
    for _ in 0..WARM_UP {
        cycle()?;
    }
    let measured = repeat(case.time, cycle)?;
    // What was not waited for must not reach into the next measurement.
    client.ping()?;
    Ok(measured)
}

fn repeat(
    time: Duration,
    mut cycle: impl FnMut() -> Result<(), Failure>,
) -> Result<(Samples, Duration), Failure> {
    let mut samples = Samples::default();
    let began = Instant::now();
    let mut last = began;
    while last - began < time {
        cycle()?;
        let now = Instant::now();
        samples.add(now - last);
        last = now;
    }
    Ok((samples, last - began))
}

/// Many clients, each with its own connection and one request under way, in one event loop.
fn together(case: &Case) -> Result<(Samples, Duration), Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(async {
            let mut spaces = Vec::new();
            for _ in 0..case.clients {
                spaces.push(open(&case.near).await?);
            }
            // Nobody is measured while others still warm up.
            let warm = Arc::new(Barrier::new(spaces.len()));
            let mut tasks = tokio::task::JoinSet::new();
            for (client, space) in spaces.into_iter().enumerate() {
                let (name, time, warm) = (case.name(client), case.time, Arc::clone(&warm));
                tasks.spawn(async move {
                    for _ in 0..WARM_UP {
                        space.lock(&name).acquire().await?.unlock().await?;
                    }
                    warm.wait().await;
                    let mut samples = Samples::default();
                    let began = Instant::now();
                    let mut last = began;
                    while last - began < time {
                        space.lock(&name).acquire().await?.unlock().await?;
                        let now = Instant::now();
                        samples.add(now - last);
                        last = now;
                    }
                    Ok::<_, Failure>((samples, began, last))
                });
            }
            let mut all = Samples::default();
            let mut span: Option<(Instant, Instant)> = None;
            while let Some(ended) = tasks.join_next().await {
                let (samples, began, last) = ended.map_err(|error| {
                    Failure::new(INTERNAL, format!("a client broke off: {error}"))
                })??;
                all.append(samples);
                span = Some(span.map_or((began, last), |(first, end)| {
                    (first.min(began), end.max(last))
                }));
            }
            Ok((all, span.map_or(Duration::ZERO, |(first, end)| end - first)))
        })
}

async fn open(socket: &Path) -> Result<asynchronous::Lockspace, Failure> {
    let client = ClientBuilder::new(socket)
        .command("mainstay bench")
        .connect()
        .await?;
    Ok(client.lockspace(LOCKSPACE).open().await?)
}

/// NL to EX and back on a lock that is kept.
pub(super) fn conversion(case: &Case) -> Result<Row, Failure> {
    let _pinned = case.placement.pin(case.daemons);
    let keepers = case.keepers()?;
    let (_client, space) = connect(&case.near)?;
    let mut lock = space.lock(case.name(0)).mode(LockMode::Nl).acquire()?;
    let mut cycle = || -> Result<(), Failure> {
        lock.convert(LockMode::Ex).wait()?;
        lock.convert(LockMode::Nl).wait()?;
        Ok(())
    };
    for _ in 0..WARM_UP {
        cycle()?;
    }
    let (samples, elapsed) = repeat(case.time, cycle)?;
    drop(keepers);
    Ok(case.row("NL→EX→NL", samples, elapsed))
}
