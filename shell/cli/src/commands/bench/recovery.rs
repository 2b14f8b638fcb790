//! What many locks, and those who have nothing to do with it, feel of a node's death and return.

use super::{
    connect, crowd,
    host::{Host, Taken},
    off,
};
use crate::{
    dev,
    exit::{Failure, INTERNAL},
};
use mainstay_client::{
    ClientBuilder, ClusterEvent, LockMode,
    blocking::{Client, Lockspace},
};
use mainstay_wire::event::{Event, What};
use serde::Serialize;
use std::{
    num::NonZero,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

/// Longest time for anything that is waited for.
const PATIENCE: Duration = Duration::from_secs(120);
/// How long those who have nothing to do with it are watched after the last event.
const AFTERMATH: Duration = Duration::from_secs(3);
/// Between two looks of those who have nothing to do with it.
const PULSE: Duration = Duration::from_micros(500);

/// One death and return. Times in milliseconds.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Recovery {
    /// Locks in the cluster; the dead node mastered a third of their resources, all of which are
    /// held by clients of the survivors.
    pub(super) locks: u64,
    /// From `kill -9`, as the survivors' clients heard of it.
    pub(super) timeline: Vec<Step>,
    /// From the proof of death to the end of the recovery on the last survivor.
    pub(super) proof_to_end_ms: f64,
    /// Longest time that lock and unlock took on resources that the dead node neither mastered nor
    /// held.
    pub(super) pauses: Vec<Pause>,
    /// What the host took of the processors meanwhile: nothing, if this is no virtual machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) host: Option<Hosted>,
}

/// What the host took.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Hosted {
    pub(super) processors: usize,
    /// From the proof of death to the end of the recovery on the last survivor.
    pub(super) proof_to_end: Taken,
    pub(super) before: Taken,
    pub(super) death: Taken,
    pub(super) join: Taken,
}

/// Something that happened.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Step {
    pub(super) what: String,
    pub(super) after_kill_ms: f64,
}

/// The longest pause of somebody who had nothing to do with it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Pause {
    pub(super) whose: &'static str,
    pub(super) before_ms: f64,
    pub(super) death_ms: f64,
    pub(super) join_ms: f64,
}

/// Fills the cluster, kills its first node, and starts it again.
pub(super) async fn measure(cluster: &mut dev::Handle, locks: u64) -> Result<Recovery, Failure> {
    let sockets: Vec<PathBuf> = (0..3).map(|node| cluster.socket(node).to_owned()).collect();
    let stage = off(move || Stage::set(&sockets, locks)).await?;
    let host = Host::watch();
    let set = Instant::now();
    tokio::time::sleep(AFTERMATH).await;
    let killed = Instant::now();
    if !cluster.kill(0) {
        return Err(Failure::new(INTERNAL, "the first node is not running"));
    }
    let (stage, seen) = off(move || {
        let seen = stage.see_recovery(killed)?;
        thread::sleep(AFTERMATH);
        Ok((stage, seen))
    })
    .await?;
    let started = Instant::now();
    cluster.start_again().await?;
    tokio::time::sleep(AFTERMATH).await;
    let pauses = stage
        .bystanders
        .iter()
        .map(|bystander| bystander.pauses(killed, started))
        .collect::<Result<_, _>>()?;
    Ok(Recovery {
        locks,
        timeline: seen.timeline,
        proof_to_end_ms: seen.proof_to_end.as_secs_f64() * 1000.0,
        pauses,
        host: host.map(|host| Hosted {
            processors: thread::available_parallelism().map_or(1, NonZero::get),
            proof_to_end: host.taken(seen.proof, seen.proof + seen.proof_to_end),
            before: host.taken(set, killed),
            death: host.taken(killed, started),
            join: host.taken(started, Instant::now()),
        }),
    })
}

/// Everybody who takes part.
struct Stage {
    /// Those that hold the locks, of the second and the third node.
    owners: Vec<(Client, Lockspace)>,
    watchers: Vec<mpsc::Receiver<(Instant, Event)>>,
    bystanders: Vec<Bystander>,
}

struct Seen {
    timeline: Vec<Step>,
    proof: Instant,
    proof_to_end: Duration,
}

const PREFIX: &str = "recovery";

impl Stage {
    fn set(sockets: &[PathBuf], locks: u64) -> Result<Stage, Failure> {
        let clients: Vec<(Client, Lockspace)> = sockets
            .iter()
            .map(|socket| connect(socket))
            .collect::<Result<_, _>>()?;
        let share = locks.div_ceil(3);
        for (master, (client, space)) in clients.iter().enumerate() {
            // What the first node masters is held by both survivors, the rest where it is mastered.
            for at in (0..share).step_by(crowd::BATCH as usize) {
                let names: Vec<_> = (at..share.min(at + crowd::BATCH))
                    .map(|n| crowd::name(PREFIX, n * 3 + master as u64))
                    .collect::<Result<_, _>>()?;
                if master == 0 {
                    crowd::touch(&client.raw(), space.id(), &names)?;
                    let (one, other) = names.split_at(names.len() / 2);
                    for (owner, names) in [(1, one), (2, other)] {
                        let (client, space): &(Client, Lockspace) = &clients[owner];
                        crowd::lock(&client.raw(), space.id(), LockMode::Ex, names)?;
                    }
                } else {
                    crowd::lock(&client.raw(), space.id(), LockMode::Ex, &names)?;
                }
            }
        }
        let watchers = sockets[1..]
            .iter()
            .map(|socket| watch(socket))
            .collect::<Result<_, _>>()?;
        let bystanders = vec![
            Bystander::start(&sockets[1], &sockets[1], "mastered locally")?,
            Bystander::start(&sockets[1], &sockets[2], "mastered remotely")?,
        ];
        Ok(Stage {
            owners: clients.into_iter().skip(1).collect(),
            watchers,
            bystanders,
        })
    }

    /// Waits for the end of the recovery on both survivors, and for a lock on what was lost.
    fn see_recovery(&self, killed: Instant) -> Result<Seen, Failure> {
        let lost = crowd::name(PREFIX, 0)?;
        let (client, space) = &self.owners[1];
        let raw = client.raw();
        let (tell, granted) = mpsc::channel();
        let space = space.id();
        thread::spawn(move || {
            let result = crowd::lock(&raw, space, LockMode::Nl, &[lost]);
            // Nobody listens any more once something else has gone wrong.
            let _ = tell.send(result.map(|_| Instant::now()));
        });
        let ms = |at: Instant| at.saturating_duration_since(killed).as_secs_f64() * 1000.0;
        let mut timeline = Vec::new();
        let mut ends = Vec::new();
        let mut proofs = Vec::new();
        for (n, watcher) in self.watchers.iter().enumerate() {
            let who = format!("node {}", n + 2);
            loop {
                let late = |_| Failure::new(INTERNAL, "the recovery did not end within 120 s");
                let (at, event) = watcher.recv_timeout(PATIENCE).map_err(late)?;
                if at < killed {
                    continue;
                }
                let what = match event.what {
                    What::MemberLeft { .. } => "removed the dead node".to_owned(),
                    What::Fenced { .. } => {
                        proofs.push(at);
                        "had the proof of death".to_owned()
                    }
                    What::RecoveryDone {
                        rebuilt, dropped, ..
                    } => {
                        ends.push(at);
                        format!("ended its recovery: {rebuilt} rebuilt, {dropped} locks dropped")
                    }
                    _ => continue,
                };
                timeline.push(Step {
                    what: format!("{who} {what}"),
                    after_kill_ms: ms(at),
                });
                if matches!(event.what, What::RecoveryDone { .. }) {
                    break;
                }
            }
        }
        let late = |_| Failure::new(INTERNAL, "no lock was granted within 120 s");
        let at = granted.recv_timeout(PATIENCE).map_err(late)??;
        timeline.push(Step {
            what: "a lock was granted on what the dead node mastered".to_owned(),
            after_kill_ms: ms(at),
        });
        timeline.sort_by(|a, b| a.after_kill_ms.total_cmp(&b.after_kill_ms));
        let (Some(proof), Some(end)) = (proofs.into_iter().min(), ends.into_iter().max()) else {
            return Err(Failure::new(INTERNAL, "the recovery ended without a proof"));
        };
        Ok(Seen {
            timeline,
            proof,
            proof_to_end: end.saturating_duration_since(proof),
        })
    }
}

/// Events of a node, with the moment at which they were heard.
fn watch(socket: &Path) -> Result<mpsc::Receiver<(Instant, Event)>, Failure> {
    let client = ClientBuilder::new(socket)
        .command("mainstay bench")
        .connect_blocking()?;
    let events = client.events(0)?;
    let (tell, heard) = mpsc::channel();
    thread::spawn(move || {
        for event in events {
            if let ClusterEvent::Happened(event) = event
                && tell.send((Instant::now(), event)).is_err()
            {
                return;
            }
        }
    });
    Ok(heard)
}

/// Somebody who locks and unlocks what the dead node has nothing to do with.
struct Bystander {
    whose: &'static str,
    stop: Arc<AtomicBool>,
    /// Beginning and length of each lock with its unlock.
    cycles: Arc<Mutex<Vec<(Instant, Duration)>>>,
    ended: mpsc::Receiver<Failure>,
}

impl Bystander {
    fn start(near: &Path, master: &Path, whose: &'static str) -> Result<Bystander, Failure> {
        let name = format!("bystander {whose}");
        let keeper = connect(master)?;
        let kept = keeper.1.lock(&name).mode(LockMode::Nl).acquire()?;
        let (client, space) = connect(near)?;
        let stop = Arc::new(AtomicBool::new(false));
        let cycles = Arc::new(Mutex::new(Vec::new()));
        let (tell, ended) = mpsc::channel();
        let (stopped, done) = (Arc::clone(&stop), Arc::clone(&cycles));
        thread::spawn(move || {
            let _kept = (keeper, kept, client);
            while !stopped.load(Ordering::Relaxed) {
                let began = Instant::now();
                if let Err(error) = space.lock(&name).acquire().and_then(|lock| lock.unlock()) {
                    let _ = tell.send(error.into());
                    return;
                }
                let took = began.elapsed();
                let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
                done.push((began, took));
                drop(done);
                thread::sleep(PULSE);
            }
        });
        Ok(Bystander {
            whose,
            stop,
            cycles,
            ended,
        })
    }

    /// The longest pauses before the death, from then to the return, and after it.
    fn pauses(&self, killed: Instant, started: Instant) -> Result<Pause, Failure> {
        if let Ok(failure) = self.ended.try_recv() {
            return Err(failure);
        }
        let cycles = self.cycles.lock().unwrap_or_else(PoisonError::into_inner);
        let longest = |passes: &dyn Fn(Instant) -> bool| {
            let long = cycles.iter().filter(|(at, took)| passes(*at + *took));
            let longest = long.map(|(_, took)| *took).max();
            longest.unwrap_or_default().as_secs_f64() * 1000.0
        };
        Ok(Pause {
            whose: self.whose,
            before_ms: longest(&|end| end < killed),
            death_ms: longest(&|end| end >= killed && end < started),
            join_ms: longest(&|end| end >= started),
        })
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
