//! What a granted lock costs in memory, at its owner's node and at its master's.

use super::{connect, crowd, place};
use crate::exit::{Failure, INTERNAL};
use mainstay_client::LockMode;
use serde::Serialize;
use std::{path::PathBuf, thread, time::Duration};

/// Locks taken before the first look, so that buffers have grown and code is loaded.
const WARM_UP: u64 = 20_000;
/// After this time a node has forgotten which resources were without locks for a moment.
const FORGOTTEN: Duration = Duration::from_secs(12);
/// What a lock of another node's client may cost its master, in bytes.
const TARGET: f64 = 250.0;

/// Who takes the locks, and where.
pub(super) struct Case {
    /// The socket of the owner's daemon.
    pub(super) near: PathBuf,
    /// The socket of the daemon that masters the resources, if it is another one.
    pub(super) far: Option<PathBuf>,
    /// The process numbers of both.
    pub(super) daemons: [u32; 2],
    /// How many locks.
    pub(super) locks: u64,
}

/// Growth of a daemon's resident memory.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Memory {
    pub(super) name: String,
    pub(super) locks: u64,
    pub(super) bytes_per_lock: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) target: Option<f64>,
}

/// Takes locks in mode EX, one per resource, and holds them while it looks.
pub(super) fn measure(case: &Case) -> Result<Vec<Memory>, Failure> {
    let remote = case.far.is_some();
    let (near, space) = connect(&case.near)?;
    let far = case.far.as_deref().map(connect).transpose()?;
    let far = far.as_ref().map(|(client, _)| client.raw());
    let raw = near.raw();
    let prefix = if remote { "r" } else { "l" };
    let take = |from: u64, to: u64| -> Result<(), Failure> {
        for at in (from..to).step_by(crowd::BATCH as usize) {
            let names: Vec<_> = (at..to.min(at + crowd::BATCH))
                .map(|n| crowd::name(prefix, n))
                .collect::<Result<_, _>>()?;
            if let Some(far) = &far {
                crowd::touch(far, space.id(), &names)?;
            }
            crowd::lock(&raw, space.id(), LockMode::Ex, &names)?;
        }
        Ok(())
    };
    take(0, WARM_UP)?;
    thread::sleep(FORGOTTEN);
    let before = [resident(case.daemons[0])?, resident(case.daemons[1])?];
    take(WARM_UP, WARM_UP + case.locks)?;
    thread::sleep(FORGOTTEN);
    let after = [resident(case.daemons[0])?, resident(case.daemons[1])?];
    let row = |node: usize, who: &str, target| Memory {
        name: format!("{who}, {} master", place(remote)),
        locks: case.locks,
        bytes_per_lock: after[node].saturating_sub(before[node]) as f64 / case.locks as f64,
        target,
    };
    Ok(if remote {
        vec![
            row(1, "at the master", Some(TARGET)),
            row(0, "at the owner", None),
        ]
    } else {
        vec![row(0, "at the owner", None)]
    })
}

/// Resident memory of a process, in bytes.
fn resident(pid: u32) -> Result<u64, Failure> {
    let path = PathBuf::from(format!("/proc/{pid}/statm"));
    let told = |why: String| Failure::new(INTERNAL, format!("{}: {why}", path.display()));
    let text = std::fs::read_to_string(&path).map_err(|error| told(error.to_string()))?;
    let pages: u64 = text
        .split_ascii_whitespace()
        .nth(1)
        .and_then(|word| word.parse().ok())
        .ok_or_else(|| told(format!("`{}` has no second number", text.trim())))?;
    Ok(pages * rustix::param::page_size() as u64)
}
