//! On which processors the two ends of a conversation run.
//!
//! A round trip between two processes costs three to five times as much when they sleep and wake on
//! different processors as on one, and the kernel changes its mind about that from second to
//! second. Latencies are therefore measured with the ends pinned, and compared to the machine's
//! limits with the ends pinned alike.

use rustix::{
    process::Pid,
    thread::{CpuSet, sched_getaffinity, sched_setaffinity},
};
use serde::Serialize;
use std::fmt;

/// Where the ends run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Placement {
    /// Wherever the kernel puts them.
    Free,
    /// Client and daemons on one processor.
    OneCpu,
    /// A client's daemon on another processor than the client. With remote masters, their daemon
    /// is on a third, or on the client's if there are only two.
    Apart,
}

impl fmt::Display for Placement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Placement::Free => "unpinned",
            Placement::OneCpu => "one cpu",
            Placement::Apart => "cpus apart",
        })
    }
}

impl Placement {
    /// The pinned placements that this machine allows.
    pub(super) fn pinned() -> &'static [Placement] {
        match allowed().map_or(0, |cpus| cpus.len()) {
            // Pinning does not work here.
            0 => &[],
            1 => &[Placement::OneCpu],
            _ => &[Placement::OneCpu, Placement::Apart],
        }
    }

    /// The processors of the client, its daemon, and another daemon.
    fn cpus(self) -> Option<[usize; 3]> {
        let allowed = allowed()?;
        let first = *allowed.first()?;
        match self {
            Placement::Free => None,
            Placement::OneCpu => Some([first; 3]),
            Placement::Apart => {
                let second = *allowed.get(1)?;
                Some([first, second, allowed.get(2).copied().unwrap_or(first)])
            }
        }
    }

    /// Pins the calling thread, as the client, and the daemons, until the guard is dropped.
    pub(super) fn pin(self, daemons: [u32; 2]) -> Guard {
        let mut guard = Guard(Vec::new());
        if let Some([client, near, far]) = self.cpus() {
            let [n, f] = daemons.map(|pid| i32::try_from(pid).ok().and_then(Pid::from_raw));
            guard.pin(None, client);
            // The thread that does a daemon's work is the one that has the process's number.
            for (pid, cpu) in [(n, near), (f, far)] {
                if pid.is_some() {
                    guard.pin(pid, cpu);
                }
            }
        }
        guard
    }

    /// Pins the calling thread where a client's daemon would be, for good.
    pub(super) fn pin_as_daemon(self) {
        if let Some([_, near, _]) = self.cpus() {
            set(None, near);
        }
    }

    /// Pins the calling thread where a client would be, until the guard is dropped.
    pub(super) fn pin_as_client(self) -> Guard {
        let mut guard = Guard(Vec::new());
        if let Some([client, ..]) = self.cpus() {
            guard.pin(None, client);
        }
        guard
    }
}

/// The processors that this process may use.
fn allowed() -> Option<Vec<usize>> {
    let set = sched_getaffinity(None).ok()?;
    Some(
        (0..CpuSet::MAX_CPU)
            .filter(|&cpu| set.is_set(cpu))
            .collect(),
    )
}

/// Undoes what was pinned when dropped.
#[must_use = "dropping it ends the pinning"]
pub(super) struct Guard(Vec<(Option<Pid>, CpuSet)>);

impl Guard {
    /// A thread that cannot be pinned stays where it is; the figures are then those of `Free`.
    fn pin(&mut self, pid: Option<Pid>, cpu: usize) {
        if let Ok(before) = sched_getaffinity(pid) {
            set(pid, cpu);
            self.0.push((pid, before));
        }
    }
}

fn set(pid: Option<Pid>, cpu: usize) {
    let mut only = CpuSet::new();
    only.set(cpu);
    let _ = sched_setaffinity(pid, &only);
}

impl Drop for Guard {
    fn drop(&mut self) {
        for (pid, before) in self.0.drain(..).rev() {
            let _ = sched_setaffinity(pid, &before);
        }
    }
}
