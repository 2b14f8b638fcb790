//! The work: every client takes and drops a lock of its own, again and again.

use anyhow::Context as _;
use serde::Serialize;
use std::time::{Duration, Instant};
use tokio::task::JoinSet;

/// Cycles of each client before the clock starts.
const WARM_UP: usize = 20;

/// A lock of a service, as one client has it.
pub(crate) trait ClientLock: Send + 'static {
    /// Takes the lock, and drops it again once it is held; ends when the service has confirmed both.
    fn cycle(&mut self) -> impl Future<Output = anyhow::Result<()>> + Send;
}

/// What came of one case.
#[derive(Debug, Serialize)]
pub(crate) struct Measured {
    /// Which service, and how its locks are made.
    pub(crate) service: String,
    /// Where its data lie.
    pub(crate) place: String,
    pub(crate) clients: usize,
    /// Cycles of lock and unlock, of all clients together.
    pub(crate) cycles_per_second: f64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
}

/// Lets all clients work for `time`, each with one request under way.
pub(crate) async fn run<L: ClientLock>(
    service: &str,
    place: &str,
    locks: Vec<L>,
    time: Duration,
) -> anyhow::Result<Measured> {
    let clients = locks.len();
    let mut warm = JoinSet::new();
    for mut lock in locks {
        warm.spawn(async move {
            for _ in 0..WARM_UP {
                lock.cycle().await?;
            }
            anyhow::Ok(lock)
        });
    }
    let mut ready = Vec::new();
    while let Some(ended) = warm.join_next().await {
        ready.push(ended.context("a client broke off")??);
    }
    let began = Instant::now();
    let mut tasks = JoinSet::new();
    for mut lock in ready {
        tasks.spawn(async move {
            let mut nanos = Vec::new();
            let mut last = began;
            while last - began < time {
                lock.cycle().await?;
                let now = Instant::now();
                nanos.push((now - last).as_nanos());
                last = now;
            }
            anyhow::Ok((nanos, last))
        });
    }
    let (mut nanos, mut end) = (Vec::new(), began);
    while let Some(ended) = tasks.join_next().await {
        let (some, last) = ended.context("a client broke off")??;
        nanos.extend(some);
        end = end.max(last);
    }
    nanos.sort_unstable();
    let at = |share: f64| {
        let rank = (nanos.len() as f64 * share).ceil() as usize;
        let value = nanos.get(rank.saturating_sub(1)).copied().unwrap_or(0);
        value as f64 / 1000.0
    };
    Ok(Measured {
        service: service.to_owned(),
        place: place.to_owned(),
        clients,
        cycles_per_second: nanos.len() as f64 / (end - began).as_secs_f64(),
        p50_us: at(0.50),
        p99_us: at(0.99),
    })
}
