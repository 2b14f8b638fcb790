//! A set of locks beside as many single ones.

use super::{
    connect, place,
    placement::Placement,
    sample::{Bound, Row, Samples},
};
use crate::exit::Failure;
use mainstay_client::{
    Flags, LockCall, LockMode, ResourceName,
    blocking::{Lock, Lockspace, RawSession},
};
use std::{
    path::Path,
    time::{Duration, Instant},
};

/// Locks that are taken and released together.
const LOCKS: usize = 8;
/// Rounds before the clock starts.
const WARM_UP: usize = 50;

/// How the locks are taken and released.
#[derive(Clone, Copy, Debug)]
enum Way {
    /// Each waits for the answer to the one before.
    OneByOne,
    /// All are sent, then all answers are awaited.
    AtOnce,
    /// A set, and an unlock in bulk.
    Set,
}

impl Way {
    const ALL: [Way; 3] = [Way::OneByOne, Way::AtOnce, Way::Set];

    fn name(self) -> String {
        match self {
            Way::OneByOne => format!("{LOCKS} locks and unlocks, one by one"),
            Way::AtOnce => format!("{LOCKS} locks and unlocks, sent at once"),
            Way::Set => format!("set of {LOCKS}, unlocked in bulk"),
        }
    }

    fn round(
        self,
        raw: &RawSession,
        space: &Lockspace,
        names: &[ResourceName],
    ) -> Result<(), Failure> {
        match self {
            Way::OneByOne => {
                let mut locks = Vec::with_capacity(LOCKS);
                for name in names {
                    locks.push(space.lock(name.root_bytes()).acquire()?);
                }
                for lock in locks {
                    lock.unlock()?;
                }
            }
            Way::AtOnce => {
                let handles: Vec<_> = names.iter().map(|_| raw.new_handle()).collect();
                let calls = handles.iter().zip(names).map(|(handle, name)| {
                    let call = LockCall::new(name.clone(), LockMode::Ex);
                    raw.raw_lock(*handle, space.id(), call)
                });
                let calls: Vec<_> = calls.collect();
                raw.flush();
                for call in calls {
                    call.wait()?;
                }
                let calls = handles.iter();
                let calls = calls.map(|handle| raw.raw_unlock(*handle, Flags::NONE, None));
                let calls: Vec<_> = calls.collect();
                raw.flush();
                for call in calls {
                    call.wait()?;
                }
            }
            Way::Set => {
                let set = names.iter().fold(space.set(), |set, name| {
                    set.lock(name.root_bytes(), LockMode::Ex)
                });
                for released in Lock::unlock_many(set.acquire()?)? {
                    released?;
                }
            }
        }
        Ok(())
    }
}

/// Takes and releases the same free locks in each way in turn, so that what else happens on the machine
/// hits all of them alike. A sample is one round of all locks.
pub(super) fn measure(
    near: &Path,
    far: Option<&Path>,
    time: Duration,
) -> Result<Vec<Row>, Failure> {
    let (client, space) = connect(near)?;
    let raw = client.raw();
    let (_keeper, kept) = connect(far.unwrap_or(near))?;
    let mut names = Vec::with_capacity(LOCKS);
    let mut keepers = Vec::with_capacity(LOCKS);
    for at in 0..LOCKS {
        let name = ResourceName::new(format!("set-{}-{at}", place(far.is_some())))
            .map_err(|error| Failure::usage(error.to_string()))?;
        keepers.push(kept.lock(name.root_bytes()).mode(LockMode::Nl).acquire()?);
        names.push(name);
    }
    for _ in 0..WARM_UP {
        for way in Way::ALL {
            way.round(&raw, &space, &names)?;
        }
    }
    let mut measured = Way::ALL.map(|way| (way, Samples::default(), Duration::ZERO));
    let began = Instant::now();
    while began.elapsed() < time {
        for (way, samples, spent) in &mut measured {
            let start = Instant::now();
            way.round(&raw, &space, &names)?;
            let took = start.elapsed();
            samples.add(took);
            *spent += took;
        }
    }
    drop(keepers);
    let mut bound = Bound::None;
    let rows = measured.into_iter().map(|(way, samples, spent)| {
        let row = Row {
            name: format!("{}, {} master", way.name(), place(far.is_some())),
            placement: Placement::Free,
            summary: samples.summary(spent),
            bound,
            target: None,
        };
        if matches!(way, Way::OneByOne) {
            bound = Bound::Case("one by one", row.summary.p50_us);
        }
        row
    });
    Ok(rows.collect())
}
