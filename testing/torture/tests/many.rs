//! Very many locks are held while daemons and clients die at random.

use mainstay_base::Instant;
use mainstay_client::{
    ClientBuilder, Flags, Granted, Handle, LockCall, LockError, ResourceName,
    asynchronous::{Lease, Lockspace, RawSession},
    now,
};
use mainstay_torture::{
    Cluster,
    dice::Dice,
    history::{End, History, Hold},
    ms, run, say, secs, until,
};
use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::task::JoinSet;

/// Locks that are held at the same time when nobody dies.
const LOCKS: u64 = 100_000;
/// Names, a few of which everybody wants.
const NAMES: u64 = 140_000;
const CLIENTS: u64 = 12;
/// Calls under way at a time per client.
const AT_ONCE: usize = 128;
/// How long nodes and clients die.
const KILLS: Duration = secs(120);
/// Fewer kills of daemons than this in that time mean that recovery crawls.
const KILLS_MIN: u32 = 10;

/// What all clients share.
#[derive(Debug, Default)]
struct Many {
    history: History,
    over: AtomicBool,
    /// By client.
    held: Vec<AtomicU64>,
    dies: Vec<AtomicBool>,
    sessions_lost: AtomicU64,
    not_free: AtomicU64,
}

impl Many {
    fn held(&self) -> u64 {
        self.held.iter().map(|n| n.load(Ordering::Relaxed)).sum()
    }

    fn over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }
}

/// A lock that a client holds.
struct Kept {
    handle: Handle,
    granted: Granted,
    name: String,
    from: Instant,
}

impl Kept {
    /// It was last relied on at `to`.
    fn hold(self, client: u64, to: Instant, end: End) -> Hold {
        Hold {
            client: u32::try_from(client).expect("few clients"),
            resource: self.name,
            mode: self.granted.mode,
            token: self.granted.token,
            new: true,
            from: self.from,
            to,
            end,
        }
    }
}

struct Keeper {
    number: u64,
    socket: PathBuf,
    dice: Dice,
    many: Arc<Many>,
}

impl Keeper {
    async fn run(mut self) {
        while !self.many.over() {
            if let Err(LockError::SessionLost { .. }) = self.session().await {
                self.many.sessions_lost.fetch_add(1, Ordering::Relaxed);
            }
            // The daemon is down, or has nothing to say; as any client would.
            tokio::time::sleep(ms(50)).await;
        }
    }

    /// Works until the session is lost, the client dies, or all is over.
    async fn session(&mut self) -> Result<(), LockError> {
        let connected = ClientBuilder::new(&self.socket)
            .connect_timeout(secs(2))
            .command(&format!("keeper {}", self.number))
            .connect()
            .await;
        let Ok(client) = connected else {
            return Ok(());
        };
        let space = client.lockspace("many").open().await?;
        let (raw, lease) = (client.raw(), client.lease());
        let mut kept = Vec::new();
        let mut last_valid = now();
        let end = loop {
            let at = now();
            if !lease.is_valid() {
                break Ok(End::Lost);
            }
            last_valid = at;
            self.tell(kept.len());
            if self.many.over() || self.dies() {
                break Ok(End::Released);
            }
            let enough = kept.len() as u64 > LOCKS / CLIENTS;
            let done = match enough {
                true => self.release(&raw, &lease, &mut kept).await,
                false => self.take(&raw, &space, &mut kept).await,
            };
            if let Err(error) = done {
                break Err(error);
            }
        };
        self.tell(0);
        // What came after the last look at the lease was never relied on.
        for kept in kept.into_iter().filter(|kept| kept.from <= last_valid) {
            let how = *end.as_ref().unwrap_or(&End::Lost);
            let hold = kept.hold(self.number, last_valid, how);
            self.many.history.add(hold);
        }
        // Nothing is released but by the end of the session, as when the client's process is killed.
        end.map(drop)
    }

    fn tell(&self, held: usize) {
        self.many.held[self.place()].store(held as u64, Ordering::Relaxed);
    }

    fn place(&self) -> usize {
        usize::try_from(self.number).expect("few clients")
    }

    fn dies(&self) -> bool {
        self.many.dies[self.place()].swap(false, Ordering::Relaxed)
    }

    /// Takes some more of what is free.
    async fn take(
        &mut self,
        raw: &RawSession,
        space: &Lockspace,
        kept: &mut Vec<Kept>,
    ) -> Result<(), LockError> {
        let mut calls = Vec::new();
        for _ in 0..AT_ONCE {
            let popular = self.dice.below(8) == 0;
            let name = self.dice.below(if popular { NAMES / 1000 } else { NAMES });
            let name = format!("n{name}");
            let resource = ResourceName::new(&name).expect("letters and digits");
            let mut call = LockCall::new(resource, self.dice.mode());
            call.flags = Flags::NOQUEUE;
            let handle = raw.new_handle();
            calls.push((handle, name, raw.raw_lock(handle, space.id(), call)));
        }
        for (handle, name, call) in calls {
            match call.await {
                Ok(granted) => kept.push(Kept {
                    handle,
                    granted,
                    name,
                    from: now(),
                }),
                Err(lost @ LockError::SessionLost { .. }) => return Err(lost),
                Err(_) => {
                    self.many.not_free.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
        Ok(())
    }

    /// Lets some go, and rests.
    async fn release(
        &mut self,
        raw: &RawSession,
        lease: &Lease,
        kept: &mut Vec<Kept>,
    ) -> Result<(), LockError> {
        let mut calls = Vec::new();
        for _ in 0..AT_ONCE {
            let at = usize::try_from(self.dice.below(kept.len() as u64)).expect("fits");
            let kept = kept.swap_remove(at);
            let handle = kept.handle;
            let at = now();
            if lease.is_valid() {
                let hold = kept.hold(self.number, at, End::Released);
                self.many.history.add(hold);
            }
            calls.push(raw.raw_unlock(handle, Flags::NONE, None));
        }
        for call in calls {
            call.await?;
        }
        tokio::time::sleep(ms(20)).await;
        Ok(())
    }
}

/// Kills daemons, one or two at a time, and clients, at random.
async fn kill(cluster: &mut Cluster, many: &Many, dice: &mut Dice) -> (u32, u32) {
    let began = now();
    let (mut daemons, mut clients) = (0, 0);
    let ids = cluster.ids();
    while now().since(began) < KILLS {
        tokio::time::sleep(ms(dice.below(1500))).await;
        for dies in &many.dies {
            if dice.below(6) == 0 {
                dies.store(true, Ordering::Relaxed);
                clients += 1;
            }
        }
        let first = usize::try_from(dice.below(ids.len() as u64)).expect("few");
        let count = 1 + usize::from(dice.below(5) == 0);
        let victims: Vec<u16> = ids
            .iter()
            .copied()
            .cycle()
            .skip(first)
            .take(count)
            .collect();
        for &id in &victims {
            cluster.kill(id);
            daemons += 1;
        }
        let left: Vec<u16> = ids
            .iter()
            .copied()
            .filter(|id| !victims.contains(id))
            .collect();
        // Sometimes it comes back before the others can have missed it.
        if victims.len() == 1 && dice.below(2) == 0 {
            cluster.whole_of(&left).await;
        }
        for &id in &victims {
            cluster.start(id);
        }
        cluster.whole().await;
    }
    (daemons, clients)
}

/// Protects S1, the tokens and L1 with 100,000 locks held on three nodes, while for two minutes
/// daemons and clients die at random: no two ever relied on incompatible locks, tokens grew, and at
/// the end as many are held again.
#[test]
fn a_hundred_thousand_locks_and_random_kills() {
    run(secs(300), async {
        let mut cluster = Cluster::of(3).start().await;
        let many = Arc::new(Many {
            held: (0..CLIENTS).map(|_| AtomicU64::new(0)).collect(),
            dies: (0..CLIENTS).map(|_| AtomicBool::new(false)).collect(),
            ..Many::default()
        });
        let ids = cluster.ids();
        let mut tasks = JoinSet::new();
        for (number, &id) in (0..CLIENTS).zip(ids.iter().cycle()) {
            let keeper = Keeper {
                number,
                socket: cluster.socket(id).to_owned(),
                dice: Dice::new(number + 1),
                many: Arc::clone(&many),
            };
            tasks.spawn(keeper.run());
        }
        let all = async || (many.held() >= LOCKS).then_some(());
        until("all locks are held", secs(40), all).await;
        let began = now();
        let seed = began.0;
        let (daemons, clients) = kill(&mut cluster, &many, &mut Dice::new(seed)).await;
        let under_fire = many.history.len();
        until("all locks are held again", secs(40), all).await;
        many.over.store(true, Ordering::Relaxed);
        while let Some(ended) = tasks.join_next().await {
            ended.expect("clients do not panic");
        }
        say!(
            "{daemons} daemons and {clients} clients killed, drawn from {seed}: {under_fire} holds under fire, {} in all; {} locks and {} sessions lost, {} not free",
            many.history.len(),
            many.history.count(End::Lost),
            many.sessions_lost.load(Ordering::Relaxed),
            many.not_free.load(Ordering::Relaxed),
        );
        many.history.check().unwrap_or_else(|wrong| {
            let start: String = wrong.lines().take(30).collect::<Vec<_>>().join("\n");
            panic!("drawn from {seed}:\n{start}")
        });
        assert!(daemons >= KILLS_MIN, "{daemons} kills");
        assert!(
            many.history.count(End::Lost) as u64 > LOCKS,
            "the kills hit"
        );
    });
}
