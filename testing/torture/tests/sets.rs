//! Clients on all nodes take overlapping sets of locks, in every order, while a node dies.

use mainstay_base::LockMode;
use mainstay_client::{
    LockError, Refusal,
    asynchronous::{Client, Lock, Lockspace},
    now,
};
use mainstay_recorder::Dump;
use mainstay_torture::{
    Cluster,
    dice::Dice,
    history::{End, History, Hold},
    ms, run, say, secs, until, within,
};
use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

const NAMES: [&str; 4] = ["disk", "image", "net", "vm"];
const CLIENTS: u32 = 12;
/// Sets that have to be granted before the node dies, while it is dead, and after.
const ENOUGH: u32 = 300;
/// Who waits longer waits for ever: a dead node's locks are free after some 3 s.
const STUCK: Duration = secs(12);

/// What all clients share.
#[derive(Debug, Default)]
struct Shared {
    history: History,
    over: AtomicBool,
    calm: AtomicBool,
    sets: AtomicU32,
    granted_in_calm: AtomicU32,
    sessions_lost: AtomicU32,
    refused: AtomicU32,
}

/// Every order of every two, three or four of the names.
fn orders() -> Vec<Vec<&'static str>> {
    let mut all: Vec<Vec<&str>> = vec![Vec::new()];
    let mut at = 0;
    while at < all.len() {
        for name in NAMES {
            if !all[at].contains(&name) {
                let mut longer = all[at].clone();
                longer.push(name);
                all.push(longer);
            }
        }
        at += 1;
    }
    all.retain(|order| order.len() > 1);
    all
}

struct Actor {
    number: u32,
    socket: PathBuf,
    dice: Dice,
    shared: Arc<Shared>,
    orders: Vec<Vec<&'static str>>,
    turns: usize,
    calm_seen: bool,
}

impl Actor {
    fn over(&self) -> bool {
        self.shared.over.load(Ordering::Relaxed)
    }

    async fn run(mut self) {
        while !self.over() {
            let Ok(client) = Client::connect(&self.socket).await else {
                // The daemon is dead.
                tokio::time::sleep(ms(50)).await;
                continue;
            };
            if let Err(LockError::SessionLost { .. }) = self.session(&client).await {
                self.shared.sessions_lost.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    async fn session(&mut self, client: &Client) -> Result<(), LockError> {
        let space = client.lockspace("sets").open().await?;
        while !self.over() {
            match self.turn(&space).await {
                Ok(()) => {}
                Err(lost @ LockError::SessionLost { .. }) => return Err(lost),
                Err(error) => {
                    let cause = error.refusal().map(Refusal::cause);
                    let stuck = matches!(
                        cause,
                        Some(Refusal::TimedOut | Refusal::Deadlock | Refusal::DeadlockCycle(_))
                    );
                    assert!(!stuck, "client {}: {error}", self.number);
                    assert!(cause.is_some(), "client {}: {error}", self.number);
                    self.shared.refused.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(ms(10)).await;
                }
            }
        }
        Ok(())
    }

    /// Takes a set in the next order, relies on all of it for a moment, and releases it.
    async fn turn(&mut self, space: &Lockspace) -> Result<(), LockError> {
        let step = usize::try_from(self.number).expect("few clients") + 1;
        let order = self.orders[self.turns * step % self.orders.len()].clone();
        self.turns += 1;
        let mut request = space.set().timeout(STUCK);
        for name in &order {
            let mode = match self.dice.below(4) {
                0 => LockMode::Pr,
                _ => LockMode::Ex,
            };
            request = request.lock(name, mode);
        }
        let calm = self.shared.calm.load(Ordering::Relaxed);
        let locks = request.acquire().await?;
        self.shared.sets.fetch_add(1, Ordering::Relaxed);
        if calm && !self.calm_seen {
            self.calm_seen = true;
            self.shared.granted_in_calm.fetch_add(1, Ordering::Relaxed);
        }
        self.rely(&order, &locks).await;
        match self.dice.below(3) {
            0 => drop(locks),
            1 => {
                for lock in locks {
                    lock.unlock().await?;
                }
            }
            _ => {
                for result in Lock::unlock_many(locks).await? {
                    result?;
                }
            }
        }
        Ok(())
    }

    /// Writes down how long all of a set was held for certain.
    async fn rely(&mut self, order: &[&str], locks: &[Lock]) {
        let from = now();
        // Lost before it was known to be held: no hold.
        if !locks.iter().all(|lock| lock.is_valid()) {
            return;
        }
        tokio::time::sleep(Duration::from_micros(200 + self.dice.below(2000))).await;
        let at = now();
        let held = locks.iter().all(|lock| lock.is_valid());
        for (name, lock) in order.iter().zip(locks) {
            self.shared.history.add(Hold {
                client: self.number,
                resource: (*name).to_owned(),
                mode: lock.mode(),
                token: lock.token(),
                new: true,
                from,
                to: if held { at } else { from },
                end: if held { End::Released } else { End::Lost },
            });
        }
    }
}

async fn more_sets(shared: &Shared, what: &str) {
    let enough = shared.sets.load(Ordering::Relaxed) + ENOUGH;
    until(what, STUCK, async || {
        (shared.sets.load(Ordering::Relaxed) >= enough).then_some(())
    })
    .await;
}

/// All of the names are free for each node, and nobody is left in a queue.
async fn all_free(cluster: &Cluster) {
    for id in cluster.ids() {
        let client = cluster.client(id).await;
        let space = client.lockspace("sets").open().await.expect("it is there");
        until("all locks are free", secs(5), async || {
            let all = NAMES.iter().fold(space.set().try_lock(), |set, name| {
                set.lock(name, LockMode::Ex)
            });
            let locks = all.acquire().await.ok()?;
            Lock::unlock_many(locks).await.ok()
        })
        .await;
    }
    let client = cluster.client(1).await;
    until("nothing is held or waits", secs(5), async || {
        let report = client.locks(None, None, 100).await.ok()?;
        let idle = |r: &mainstay_client::report::ResourceReport| {
            r.holders.is_empty() && r.converters.is_empty() && r.waiters.is_empty()
        };
        report.resources.iter().all(idle).then_some(())
    })
    .await;
}

/// What the flight recorders remember of the locks of sets, gathered, given back and granted, must be
/// in order too.
async fn check_recorders(cluster: &Cluster) {
    let mut dumps = Vec::new();
    for id in cluster.ids() {
        let client = cluster.client(id).await;
        let dumped = client.dump_recorder().await;
        let (path, _) = dumped.expect("the daemon's user asks");
        let bytes = std::fs::read(&path).expect("the file is there");
        let (dump, entries) = Dump::decode(&bytes).unwrap_or_else(|error| panic!("{error}"));
        dumps.push((dump.head, entries));
    }
    let verdict = mainstay_recorder::check(dumps, ms(500));
    assert_eq!(verdict.findings, []);
    assert!(verdict.grants > 500 && verdict.claims > 500, "{verdict:?}");
}

/// Protects sets as they are sold: taken by many, of the same few locks, in every order, they neither
/// wait for each other in a circle nor are held by two, not even while a node with holders, waiters and
/// masters is killed and comes back; and at the end all is free.
#[test]
fn sets_in_every_order_while_a_node_dies() {
    run(secs(40), async {
        let mut cluster = Cluster::of(3).start().await;
        let shared = Arc::new(Shared::default());
        let orders = orders();
        assert_eq!(orders.len(), 60);
        let mut tasks = Vec::new();
        for number in 0..CLIENTS {
            let node = u16::try_from(number).expect("few clients") % 3 + 1;
            let actor = Actor {
                number,
                socket: cluster.socket(node).to_owned(),
                dice: Dice::new(u64::from(number) + 1),
                shared: Arc::clone(&shared),
                orders: orders.clone(),
                turns: 0,
                calm_seen: false,
            };
            tasks.push(tokio::spawn(actor.run()));
        }
        more_sets(&shared, "sets are granted").await;
        cluster.kill(2);
        more_sets(&shared, "sets are granted without the dead").await;
        cluster.whole_of(&[1, 3]).await;
        cluster.start(2);
        cluster.whole().await;
        shared.calm.store(true, Ordering::Relaxed);
        until("every client is granted a set", STUCK, async || {
            (shared.granted_in_calm.load(Ordering::Relaxed) == CLIENTS).then_some(())
        })
        .await;
        shared.over.store(true, Ordering::Relaxed);
        for task in tasks {
            let ended = within("a client ends", STUCK, task).await;
            ended.unwrap_or_else(|panic| panic!("{panic}"));
        }
        all_free(&cluster).await;
        let history = &shared.history;
        history.check().unwrap_or_else(|wrong| panic!("{wrong}"));
        check_recorders(&cluster).await;
        let lost = shared.sessions_lost.load(Ordering::Relaxed);
        say!(
            "{} sets granted, {} refused, {} locks relied on, {lost} sessions lost",
            shared.sets.load(Ordering::Relaxed),
            shared.refused.load(Ordering::Relaxed),
            history.len(),
        );
        assert!(lost > 0, "the dead node had clients");
    });
}
