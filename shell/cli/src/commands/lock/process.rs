//! The command as a process group, and its terminal.

use crate::{
    exit::{Failure, NO_COMMAND, NOT_EXECUTABLE},
    signals::is_ignored,
};
use rustix::{
    process::{
        Pid, Resource, Rlimit, Signal, getpgrp, getpid, kill_current_process_group, kill_process,
        kill_process_group, set_parent_process_death_signal, setrlimit,
    },
    termios::{tcgetpgrp, tcsetpgrp},
};
use std::{
    ffi::OsString,
    io::{self, IsTerminal as _},
    os::unix::process::ExitStatusExt as _,
    process::ExitStatus,
};
use tokio::process::{Child, Command};

const SIGTTOU: i32 = 22;
const SIG_DFL: usize = 0;
const SIG_IGN: usize = 1;

unsafe extern "C" {
    fn signal(number: i32, handler: usize) -> usize;
}

/// A running command.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) child: Child,
    pid: Pid,
    /// The command has the terminal; ours again when it ends or stops.
    has_terminal: bool,
}

impl Group {
    /// Starts the command in a process group of its own, which gets the terminal if this process
    /// has it. If this process is killed, the command is killed with it: nobody would watch the
    /// lease any more, and the lock is released with the connection.
    pub(super) fn spawn(
        words: &[OsString],
        variables: &[(&str, String)],
    ) -> Result<Group, Failure> {
        let (program, arguments) = words
            .split_first()
            .ok_or_else(|| Failure::usage("there is no COMMAND after `--`"))?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .envs(variables.iter().map(|(name, value)| (name, value)))
            .process_group(0)
            .kill_on_drop(true);
        // SAFETY: the closure runs between fork and exec and makes one system call: no allocation,
        // no lock.
        unsafe {
            command.pre_exec(|| {
                set_parent_process_death_signal(Some(Signal::KILL)).map_err(io::Error::from)
            });
        }
        let child = command.spawn().map_err(|error| {
            let code = if error.kind() == io::ErrorKind::NotFound {
                NO_COMMAND
            } else {
                NOT_EXECUTABLE
            };
            Failure::new(
                code,
                format!("cannot run {}: {error}", program.to_string_lossy()),
            )
        })?;
        let pid = child
            .id()
            .and_then(|id| Pid::from_raw(id.cast_signed()))
            .ok_or_else(|| Failure::new(NOT_EXECUTABLE, "the command ended before it began"))?;
        let mut group = Group {
            child,
            pid,
            has_terminal: false,
        };
        group.lend_terminal();
        Ok(group)
    }

    /// Sends a signal to every process of the group.
    pub(super) fn signal(&self, signal: Signal) {
        // An empty group has ended, which its exit status tells.
        let _ = kill_process_group(self.pid, signal);
    }

    /// Gives the terminal to the command if it is ours to give.
    fn lend_terminal(&mut self) {
        let stdin = io::stdin();
        if stdin.is_terminal() && tcgetpgrp(&stdin).is_ok_and(|group| group == getpgrp()) {
            self.has_terminal = tcsetpgrp(&stdin, self.pid).is_ok();
            if self.has_terminal {
                // It may have been stopped for reading before it had the terminal.
                self.signal(Signal::CONT);
            }
        }
    }

    /// Takes the terminal back; whether the command had it.
    pub(super) fn reclaim_terminal(&mut self) -> bool {
        if !std::mem::take(&mut self.has_terminal) {
            return false;
        }
        // SAFETY: SIG_IGN is a valid disposition for SIGTTOU; no handler is installed for it.
        let before = unsafe { signal(SIGTTOU, SIG_IGN) };
        // A terminal that is gone needs no owner.
        let _ = tcsetpgrp(io::stdin(), getpgrp());
        // SAFETY: `before` is what this function got from the same call.
        unsafe { signal(SIGTTOU, before) };
        true
    }

    /// Follows a command that the terminal's suspend key stopped: stops too, so that the shell can
    /// go on, and takes the command along when the shell continues this process. True if it did.
    pub(super) fn follow_stop(&mut self, still_held: impl FnOnce() -> bool) -> bool {
        if !self.has_terminal || process_state(self.pid) != Some('T') {
            return false;
        }
        self.reclaim_terminal();
        let _ = kill_process(getpid(), Signal::STOP);
        // Continued. A lock that was lost meanwhile must not be worked under for another moment.
        if still_held() {
            self.lend_terminal();
            self.signal(Signal::CONT);
        }
        true
    }
}

/// Ends this process, and all that runs beside it in the foreground, by the signal that ended the
/// command, if it was one that the terminal sends at a key press. Because the command has the
/// terminal to itself, Ctrl-C reaches neither the script that this process runs in nor the rest of
/// its pipeline; without the lock around the command, it would have.
pub(super) fn share_key_press(status: ExitStatus) {
    let Some(number) = status.signal() else {
        return;
    };
    let keys = [Signal::INT, Signal::QUIT];
    let Some(pressed) = keys.into_iter().find(|key| key.as_raw() == number) else {
        return;
    };
    if is_ignored(number) {
        return;
    }
    // The command has left a core file if one was wanted.
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    let _ = setrlimit(Resource::Core, none);
    // SAFETY: SIG_DFL is a valid disposition for both signals. The handler that this replaces is
    // not waited for any more.
    unsafe { signal(number, SIG_DFL) };
    let _ = kill_current_process_group(pressed);
}

/// The state letter of a process in `/proc`.
fn process_state(pid: Pid) -> Option<char> {
    let path = format!("/proc/{}/stat", pid.as_raw_nonzero());
    let stat = std::fs::read_to_string(path).ok()?;
    // The name in parentheses may hold anything, also parentheses.
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}
