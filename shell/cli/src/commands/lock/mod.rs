//! `mainstay lock`

mod deadline;
mod process;
mod supervise;

use super::locks::{lockspace_name, resource_name};
use crate::{
    args::Global,
    connect::builder,
    exit::{CONFLICT, Failure, LOST, Outcome},
    output,
};
use clap::Args;
use mainstay_base::{Flags, LockMode, Owner};
use mainstay_client::{
    LeaseLost, LockError, Refusal,
    asynchronous::{Client, Lock, Lockspace, Notices},
};
use std::{
    ffi::OsString,
    time::{Duration, Instant},
};

/// The lockspace of those who name none; created on first use.
pub(crate) const DEFAULT_LOCKSPACE: &str = "default";

/// A lockspace, for all commands that take locks.
#[derive(Clone, Debug, Args)]
pub(crate) struct Where {
    /// The lockspace; created on first use
    #[arg(long, value_name = "LS", default_value = DEFAULT_LOCKSPACE)]
    pub(crate) lockspace: String,
    /// Insist on value blocks of so many bytes, 1 to 4096; a lockspace is created with 32 otherwise
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub(crate) value_len: Option<u16>,
}

/// How to wait for a lock, for all commands that wait for one.
#[derive(Clone, Debug, Args)]
pub(crate) struct Acquire {
    #[command(flatten)]
    pub(crate) place: Where,
    /// Fail at once if the lock is not free
    #[arg(long = "try", conflicts_with = "wait")]
    pub(crate) try_lock: bool,
    /// Fail if the lock is not granted within so many seconds
    #[arg(long, value_name = "SECS", value_parser = seconds)]
    pub(crate) wait: Option<Duration>,
    /// The call's priority, 0 to 7, where the lockspace grants by priorities
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=7))]
    pub(crate) priority: u8,
    /// Exit code if the lock is not granted
    #[arg(long, value_name = "N", default_value_t = CONFLICT)]
    pub(crate) conflict_exit_code: u8,
}

#[derive(Debug, Args)]
#[command(
    after_help = "With several names all are locked, or none, and COMMAND runs when it has all of \
        them: whatever order others name them in, nobody waits in a circle.\n\n\
        A name with `//` in it is that of a sub-resource, such as db//table//row: what is above it is \
        locked in cr if MODE is cr or pr, in nl if it is nl, and else in cw, for as long. `\\x2f` stands for a slash \
        that is to be part of a name.\n\n\
        COMMAND runs in a process group of its own and sees MAINSTAY_TOKEN, \
        MAINSTAY_RESOURCE and MAINSTAY_MODE; with several names, the first two list them with \
        spaces between, in the same order. If the lock is lost, the group is sent TERM, and \
        KILL before the node's lease ends; the exit code is then 75. MAINSTAY_TOKEN only ever \
        grows for a resource: storage that remembers the largest one it has seen can refuse a \
        holder that does not know it lost its lock.\n\n\
        Examples:\n  mainstay lock backup -- /usr/local/bin/backup --full\n  \
        mainstay lock --try nightly -- ./report.sh || echo 'already running somewhere'\n  \
        mainstay lock --mode pr --wait 30 config -- cat /shared/config\n  \
        mainstay lock disk-1 disk-2 -- ./copy disk-1 disk-2\n  \
        mainstay lock disk-1 -- sh -c 'echo token $MAINSTAY_TOKEN'"
)]
pub(crate) struct LockArgs {
    /// ex (exclusive), pw (one writer, readers in cr), pr (readers), cw, cr or nl
    #[arg(long, value_name = "MODE", default_value = "ex")]
    pub(crate) mode: LockMode,
    #[command(flatten)]
    pub(crate) acquire: Acquire,
    /// Lock as part of this transaction of yours, whose other locks may be anywhere in the cluster: who
    /// waits for it in a circle is found
    #[arg(long, value_name = "N")]
    pub(crate) xid: Option<u64>,
    /// Time between TERM and KILL when the lock is lost, in seconds; at most half of the lease
    #[arg(long, value_name = "SECS", default_value = "0.5", value_parser = seconds)]
    pub(crate) grace: Duration,
    /// Keep the session for so many seconds if its connection to the daemon breaks
    #[arg(long, value_name = "SECS", value_parser = seconds)]
    pub(crate) keep: Option<Duration>,
    /// The resource to lock, at most 64 bytes for each level; or several, to lock all of them
    #[arg(required = true, value_name = "NAME")]
    pub(crate) names: Vec<String>,
    /// What to run, with its arguments
    #[arg(last = true, required = true, num_args = 1.., value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

/// Seconds, possibly with a fraction.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a number of seconds from 0 to 4000000");
    let seconds: f64 = text.parse().map_err(|_| wrong())?;
    if (0.0..=4_000_000.0).contains(&seconds) {
        Ok(Duration::from_secs_f64(seconds))
    } else {
        Err(wrong())
    }
}

/// What came of trying to get a lock.
pub(crate) enum Acquired<T = Lock> {
    Granted(T),
    /// Not granted: the exit code to end with.
    Conflict(u8),
}

/// Opens the lockspace that the command line names.
pub(crate) async fn open(client: &Client, place: &Where) -> Result<Lockspace, Failure> {
    let name = lockspace_name(&place.lockspace)?;
    let mut space = client.lockspace(name.as_str());
    if let Some(len) = place.value_len {
        space = space.value_len(len);
    }
    Ok(space.open().await?)
}

/// Takes a lock as the command line says; a lock that is not granted is no failure.
pub(crate) async fn take(
    space: &Lockspace,
    name: &str,
    mode: LockMode,
    with_value: bool,
    acquire: &Acquire,
) -> Result<Acquired, Failure> {
    let resource = resource_name(name)?;
    let mut levels = resource.levels();
    let deadline = acquire.wait.map(|wait| Instant::now() + wait);
    let beneath = resource.depth() - 1;
    let mut above: Option<Lock> = None;
    for (at, level) in levels.by_ref().enumerate() {
        let last = at == beneath;
        let mode = if last { mode } else { intention(mode) };
        let result = match &above {
            None => {
                let mut request = space.lock(level).mode(mode).priority(acquire.priority);
                if with_value && last {
                    request = request.with_value_block();
                }
                if acquire.try_lock {
                    request = request.try_lock();
                }
                if let Some(deadline) = deadline {
                    request = request.deadline(deadline);
                }
                request.acquire().await
            }
            Some(above) => {
                let mut request = above.child(level).mode(mode).priority(acquire.priority);
                if with_value && last {
                    request = request.with_value_block();
                }
                if acquire.try_lock {
                    request = request.try_lock();
                }
                if let Some(deadline) = deadline {
                    request = request.deadline(deadline);
                }
                request.acquire().await
            }
        };
        // The lock above is let go of, and goes when this one does.
        above = match acquired(name, result, acquire)? {
            Acquired::Granted(lock) => Some(lock),
            Acquired::Conflict(code) => return Ok(Acquired::Conflict(code)),
        };
    }
    Ok(Acquired::Granted(above.expect("a name has a level")))
}

/// The mode in which what is above a lock in a mode is locked: it says that somebody reads, or writes,
/// somewhere beneath.
fn intention(mode: LockMode) -> LockMode {
    match mode {
        LockMode::Nl => LockMode::Nl,
        LockMode::Cr | LockMode::Pr => LockMode::Cr,
        LockMode::Cw | LockMode::Pw | LockMode::Ex => LockMode::Cw,
    }
}

/// Takes several locks, all or none, as the command line says.
async fn take_all(
    space: &Lockspace,
    names: &[String],
    mode: LockMode,
    acquire: &Acquire,
) -> Result<Acquired<Vec<Lock>>, Failure> {
    let mut request = space.set();
    for name in names {
        let resource = resource_name(name)?;
        if !resource.is_root() {
            let text = format!("{name} is beneath another resource, and cannot be one of several");
            return Err(Failure::usage(text));
        }
        let flags = Flags::NONE.with_priority(acquire.priority);
        request = request.lock_with(resource.root_bytes(), mode, flags);
    }
    if acquire.try_lock {
        request = request.try_lock();
    }
    if let Some(wait) = acquire.wait {
        request = request.timeout(wait);
    }
    acquired(&names.join(" "), request.acquire().await, acquire)
}

fn acquired<T>(
    what: &str,
    result: Result<T, LockError>,
    acquire: &Acquire,
) -> Result<Acquired<T>, Failure> {
    let error = match result {
        Ok(granted) => return Ok(Acquired::Granted(granted)),
        Err(error) => error,
    };
    match error.refusal().map(|refusal| (refusal, refusal.cause())) {
        Some((
            refusal,
            Refusal::NotQueued | Refusal::TimedOut | Refusal::NoQuorum | Refusal::DeadlockCycle(_),
        )) => {
            output::note(format_args!("mainstay: {what}: {refusal}"));
            Ok(Acquired::Conflict(acquire.conflict_exit_code))
        }
        _ => Err(error.into()),
    }
}

/// Waits until a lock may be relied on. Its master has granted it under the lease of its own node;
/// that of this node may have lapsed meanwhile, or be yet to come if it has just started.
async fn until_valid(lock: &Lock, notices: &mut Notices) -> Result<(), Failure> {
    loop {
        match lock.check() {
            Ok(_) => return Ok(()),
            Err(LeaseLost::Expired { .. }) => {}
            // It comes back with an answer of the daemon, of which nothing is said.
            Err(LeaseLost::Silent { .. }) => {
                tokio::time::sleep(Duration::from_millis(20)).await;
                continue;
            }
            Err(lost) => return Err(Failure::new(LOST, lost.to_string())),
        }
        // What it says is on the page too.
        notices.next().await;
    }
}

pub(crate) async fn run(global: Global, args: LockArgs) -> Outcome {
    let words: Vec<_> = args.command.iter().map(|w| w.to_string_lossy()).collect();
    let builder = builder(&global, args.keep).command(&words.join(" "));
    let client = builder.connect().await?;
    // Before the lock is asked for, so that none is missed after it is granted.
    let mut notices = client.notices();
    if let Some(xid) = args.xid {
        client.set_owner(Owner::Transaction(xid)).await?;
    }
    let space = open(&client, &args.acquire.place).await?;
    let (mode, acquire) = (args.mode, &args.acquire);
    let acquired = match &args.names[..] {
        [name] => match take(&space, name, mode, false, acquire).await? {
            Acquired::Granted(lock) => Acquired::Granted(vec![lock]),
            Acquired::Conflict(code) => Acquired::Conflict(code),
        },
        names => take_all(&space, names, mode, acquire).await?,
    };
    match acquired {
        Acquired::Conflict(code) => Ok(code),
        Acquired::Granted(locks) => {
            if let Some(lock) = locks.first() {
                until_valid(lock, &mut notices).await?;
            }
            supervise::hold_and_run(&args.names, locks, &args.command, args.grace).await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_client::{ClientBuilder, testing::FakeDaemon};

    /// Protects S1 for commands: one that was granted its lock while the node has no lease does not
    /// start before there is one.
    #[tokio::test]
    async fn a_grant_without_a_lease_is_waited_on() {
        let daemon = FakeDaemon::start();
        let client = ClientBuilder::new(daemon.path())
            .connect()
            .await
            .expect("connected");
        let mut notices = client.notices();
        let space = client.lockspace("default").open().await.expect("opened");
        daemon.lease_for(Duration::ZERO);
        let lock = space.lock("r").acquire().await.expect("granted");
        {
            let mut wait = std::pin::pin!(until_valid(&lock, &mut notices));
            tokio::select! {
                biased;
                _ = &mut wait => panic!("there is no lease"),
                answer = client.ping() => answer.expect("answered"),
            }
            daemon.resume(Duration::from_secs(60));
            wait.await.expect("there is one");
        }
        daemon.lease_for(Duration::ZERO);
        let waiting = until_valid(&lock, &mut notices);
        let (ended, ()) = tokio::join!(waiting, async { daemon.lose_sessions("a test") });
        assert_eq!(ended.expect_err("lost").code, LOST);
    }
}
