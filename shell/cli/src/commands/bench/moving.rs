//! How soon masters follow when the work on one hot set moves from node to node, and that they stay
//! where it is even.

use super::{connect, crowd};
use crate::exit::{Failure, INTERNAL};
use mainstay_client::{ResourceName, blocking::Client};
use serde::Serialize;
use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// Names in the hot set.
const NAMES: u64 = 1000;
/// Names that one client uses at a time.
const TOGETHER: usize = 50;
/// How often the work moves.
const SHIFTS: usize = 6;
/// Between two looks at who masters what.
const LOOK: Duration = Duration::from_millis(100);

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Moving {
    pub(super) names: u64,
    pub(super) shifts: Vec<Shift>,
    pub(super) even: Even,
}

/// The work has moved to another node.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Shift {
    /// Locks per second in the first 200 ms, and from two seconds on.
    pub(super) before_per_second: f64,
    pub(super) after_per_second: f64,
    /// When less than 5 % of the locks were granted by another node, for good, in milliseconds.
    pub(super) settled_ms: Option<f64>,
    /// Share of locks that another node granted, from two seconds after the shift on, in percent.
    pub(super) remote_percent: f64,
    /// The longest time that 50 locks and their release took.
    pub(super) longest_ms: f64,
}

/// Two nodes have done the same work at the same time.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Even {
    pub(super) seconds: f64,
    pub(super) locks: u64,
    /// Resources that moved meanwhile.
    pub(super) moved: u64,
}

/// A client that uses the hot set while it is its turn.
struct Worker {
    turn: Arc<AtomicBool>,
    over: Arc<AtomicBool>,
    locks: Arc<AtomicU64>,
    longest_us: Arc<AtomicU64>,
    thread: Option<thread::JoinHandle<Result<(), Failure>>>,
}

impl Worker {
    fn start(socket: &std::path::Path, names: Vec<ResourceName>) -> Result<Worker, Failure> {
        let (client, space) = connect(socket)?;
        let flags = || Arc::new(AtomicBool::new(false));
        let (turn, over) = (flags(), flags());
        let (locks, longest_us) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let worker = Worker {
            turn: turn.clone(),
            over: over.clone(),
            locks: locks.clone(),
            longest_us: longest_us.clone(),
            thread: Some(thread::spawn(move || {
                let raw = client.raw();
                for names in names.chunks(TOGETHER).cycle() {
                    while !turn.load(Ordering::Relaxed) {
                        if over.load(Ordering::Relaxed) {
                            return Ok(());
                        }
                        thread::sleep(Duration::from_millis(1));
                    }
                    let began = Instant::now();
                    crowd::touch(&raw, space.id(), names)?;
                    let us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
                    longest_us.fetch_max(us, Ordering::Relaxed);
                    locks.fetch_add(names.len() as u64, Ordering::Relaxed);
                }
                Ok(())
            })),
        };
        Ok(worker)
    }

    fn done(&self) -> u64 {
        self.locks.load(Ordering::Relaxed)
    }

    fn finish(mut self) -> Result<(), Failure> {
        self.turn.store(false, Ordering::Relaxed);
        self.over.store(true, Ordering::Relaxed);
        let broke = |_| Failure::new(INTERNAL, "a client of the measurement broke off");
        self.thread
            .take()
            .map_or(Ok(()), |t| t.join().map_err(broke)?)
    }
}

fn per_second(locks: u64, seconds: f64) -> f64 {
    locks as f64 / seconds.max(f64::EPSILON)
}

/// Grants of each node so far, in their order.
fn grants(client: &Client) -> Result<Vec<u64>, Failure> {
    let report = client.masters()?;
    Ok(report.nodes.iter().map(|node| node.grants).collect())
}

/// Lets the first two nodes take turns, and then work at the same time.
pub(super) fn measure(sockets: Vec<PathBuf>, time: Duration) -> Result<Moving, Failure> {
    let names: Vec<ResourceName> = (0..NAMES)
        .map(|n| crowd::name("moving", n))
        .collect::<Result<_, _>>()?;
    let (observer, _space) = connect(&sockets[2])?;
    let workers = [
        Worker::start(&sockets[0], names.clone())?,
        Worker::start(&sockets[1], names)?,
    ];
    let turn = time.max(Duration::from_secs(4));
    let mut shifts = Vec::new();
    for at in 0..=SHIFTS {
        let node = at % 2;
        let shift = shift(&workers[node], node, &observer, turn)?;
        // The first finds names that nobody has mastered yet.
        if at > 0 {
            shifts.push(shift);
        }
    }
    let moved = |client: &Client| -> Result<u64, Failure> {
        let moves = client.masters()?.moves;
        Ok(moves.iter().map(|m| u64::from(m.resources)).sum())
    };
    let before = (moved(&observer)?, workers[0].done() + workers[1].done());
    let began = Instant::now();
    for worker in &workers {
        worker.turn.store(true, Ordering::Relaxed);
    }
    thread::sleep(turn * 2);
    let even = Even {
        seconds: began.elapsed().as_secs_f64(),
        locks: workers[0].done() + workers[1].done() - before.1,
        moved: moved(&observer)? - before.0,
    };
    for worker in workers {
        worker.finish()?;
    }
    Ok(Moving {
        names: NAMES,
        shifts,
        even,
    })
}

/// The work is one node's from now on.
fn shift(
    worker: &Worker,
    node: usize,
    observer: &Client,
    turn: Duration,
) -> Result<Shift, Failure> {
    /// From when on the remote share counts.
    const SETTLED: f64 = 2.0;
    worker.longest_us.store(0, Ordering::Relaxed);
    let began = Instant::now();
    let first = worker.done();
    let mut last = (first, grants(observer)?);
    worker.turn.store(true, Ordering::Relaxed);
    let mut settled = None;
    let mut before = None;
    let (mut late, mut late_remote, mut late_seconds) = (0, 0, 0.0);
    while began.elapsed() < turn {
        let look = Instant::now();
        thread::sleep(LOOK);
        let now = (worker.done(), grants(observer)?);
        let locks = now.0 - last.0;
        let here = |grants: &[u64]| grants.get(node).copied().unwrap_or_default();
        let local = here(&now.1).saturating_sub(here(&last.1));
        let remote = locks.saturating_sub(local);
        let seconds = began.elapsed().as_secs_f64();
        if before.is_none() && seconds >= 0.2 {
            before = Some(per_second(now.0 - first, seconds));
        }
        if remote * 20 >= locks {
            settled = None;
        } else {
            settled.get_or_insert(seconds * 1000.0);
        }
        if seconds > SETTLED {
            late += locks;
            late_remote += remote;
            late_seconds += look.elapsed().as_secs_f64();
        }
        last = now;
    }
    worker.turn.store(false, Ordering::Relaxed);
    // What is under way belongs to this shift.
    thread::sleep(LOOK);
    Ok(Shift {
        before_per_second: before.unwrap_or_default(),
        after_per_second: per_second(late, late_seconds),
        settled_ms: settled,
        remote_percent: late_remote as f64 * 100.0 / late.max(1) as f64,
        longest_ms: worker.longest_us.load(Ordering::Relaxed) as f64 / 1000.0,
    })
}
