//! Processes of a development cluster: known by number and start time, so that no signal ever
//! reaches a process that merely got the number later.

use crate::exit::{Failure, INTERNAL};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fd::OwnedFd,
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};
use serde::{Deserialize, Serialize};
use std::{
    ffi::OsStr,
    fs::File,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};
use tokio::process::{Child, Command};

/// A process, as it was when it was started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Process {
    pub(super) pid: u32,
    /// Its start in clock ticks since the host's.
    started: u64,
}

/// What a process does at present.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum ProcessState {
    Running,
    Paused,
    Stopped,
}

impl Process {
    fn of(pid: u32) -> Option<Process> {
        let (_, started) = stat(pid)?;
        Some(Process { pid, started })
    }

    pub(super) fn state(self) -> ProcessState {
        match stat(self.pid) {
            Some((state, started)) if started == self.started => match state {
                'Z' | 'X' => ProcessState::Stopped,
                'T' | 't' => ProcessState::Paused,
                _ => ProcessState::Running,
            },
            _ => ProcessState::Stopped,
        }
    }

    pub(super) fn is_alive(self) -> bool {
        self.state() != ProcessState::Stopped
    }

    /// A descriptor of exactly this process, if it lives.
    fn open(self) -> Option<OwnedFd> {
        let pid = Pid::from_raw(i32::try_from(self.pid).ok()?)?;
        let fd = pidfd_open(pid, PidfdFlags::empty()).ok()?;
        // Checked after opening: from then on the descriptor stays with whatever it was opened for.
        self.is_alive().then_some(fd)
    }

    /// Sends a signal; whether the process was there to get it.
    pub(super) fn signal(self, signal: Signal) -> bool {
        self.open()
            .is_some_and(|fd| pidfd_send_signal(&fd, signal).is_ok())
    }

    /// Waits until the process has ended; whether it did in time.
    pub(super) fn wait(self, time: Duration) -> bool {
        let Some(fd) = self.open() else {
            return true;
        };
        let timeout = Timespec {
            tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(time.subsec_nanos()),
        };
        // Readable once the process has ended.
        matches!(
            poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&timeout)),
            Ok(1..)
        )
    }
}

/// State and start time from `/proc`.
fn stat(pid: u32) -> Option<(char, u64)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything, also parentheses.
    let mut fields = text.rsplit_once(')')?.1.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    // Field 22 of the line; the state is field 3.
    let started = fields.nth(18)?.parse().ok()?;
    Some((state, started))
}

/// This program.
pub(super) fn this_executable() -> Result<PathBuf, Failure> {
    std::env::current_exe().map_err(|error| {
        Failure::new(
            INTERNAL,
            format!("cannot find this program's own file: {error}"),
        )
    })
}

/// Starts this program in the background, out of reach of the terminal's Ctrl-C, with its output
/// appended to `log`.
pub(super) fn spawn<S: AsRef<OsStr>>(
    arguments: &[S],
    log: &Path,
) -> Result<(Child, Process), Failure> {
    let open_log = || {
        File::options()
            .create(true)
            .append(true)
            .open(log)
            .map_err(|error| super::cluster::cannot_write(log, &error))
    };
    let child = Command::new(this_executable()?)
        .args(arguments)
        .env_remove("MAINSTAY_SOCKET")
        .stdin(Stdio::null())
        .stdout(open_log()?)
        .stderr(open_log()?)
        .process_group(0)
        .spawn()
        .map_err(|error| Failure::new(INTERNAL, format!("cannot start a process: {error}")))?;
    let process = child
        .id()
        .and_then(Process::of)
        .ok_or_else(|| Failure::new(INTERNAL, "a process ended before it began"))?;
    Ok((child, process))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects foreign processes: one with the right number and another start time is not ours.
    #[test]
    fn a_number_alone_is_no_process() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .expect("started");
        let real = Process::of(child.id()).expect("alive");
        let other = Process {
            started: real.started + 1,
            ..real
        };
        assert!(real.is_alive() && !other.is_alive());
        assert!(!other.signal(Signal::KILL));
        assert_eq!(child.try_wait().expect("asked"), None, "not killed");
        assert!(real.signal(Signal::KILL));
        assert!(real.wait(Duration::from_secs(10)));
        assert_eq!(real.state(), ProcessState::Stopped, "also while a zombie");
        child.wait().expect("ended");
    }
}
