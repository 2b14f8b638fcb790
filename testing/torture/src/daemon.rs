//! One daemon process.

use crate::{mainstay, until};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::Duration,
};

/// A daemon, as a child of this process; killed when dropped.
#[derive(Debug)]
pub struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts `mainstay node`. `wrapper` is a command that ends by executing what follows it, such
    /// as `ip netns exec NAME`. The output is appended to `log`.
    ///
    /// # Panics
    /// If the system refuses.
    #[must_use]
    pub fn start(wrapper: &[String], config: &Path, log: &Path) -> Daemon {
        let open = || {
            File::options()
                .create(true)
                .append(true)
                .open(log)
                .expect("the log can be opened")
        };
        let mut words = wrapper.iter();
        let mut command = match words.next() {
            Some(word) => {
                let mut command = Command::new(word);
                command.args(words).arg(mainstay());
                command
            }
            None => Command::new(mainstay()),
        };
        let child = command
            .args(["node", "--config"])
            .arg(config)
            .env_remove("MAINSTAY_SOCKET")
            .env_remove("MAINSTAY_LOG")
            .stdin(Stdio::null())
            .stdout(open())
            .stderr(open())
            .spawn()
            .expect("a daemon can be started");
        Daemon {
            child,
            log: log.to_owned(),
        }
    }

    /// The process's number.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal.
    ///
    /// # Panics
    /// If the daemon has been waited for.
    pub fn signal(&mut self, signal: Signal) {
        // A child that was not waited for keeps its number, so no stranger gets the signal.
        assert!(self.running(), "the daemon still runs");
        let pid = Pid::from_raw(self.child.id().cast_signed()).expect("a process number");
        kill_process(pid, signal).expect("a signal to a child");
    }

    /// Whether it has not ended.
    pub fn running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// `kill -9`, and waits until it is gone.
    pub fn kill(&mut self) {
        // An error means that it has ended before.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGSTOP, and waits until it stands still.
    pub async fn pause(&mut self) {
        self.signal(Signal::STOP);
        let pid = self.pid();
        until(
            "the daemon is stopped",
            Duration::from_secs(5),
            async || (state_of(pid) == Some('T')).then_some(()),
        )
        .await;
    }

    /// SIGCONT.
    pub fn resume(&mut self) {
        self.signal(Signal::CONT);
    }

    /// Waits until it ends by itself.
    pub async fn ended(&mut self, limit: Duration) -> ExitStatus {
        until("the daemon ends", limit, async || {
            self.child.try_wait().expect("a child can be asked")
        })
        .await
    }

    /// What it has logged, with that of earlier daemons of the same log.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The state letter of a process.
pub(crate) fn state_of(pid: u32) -> Option<char> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything, also parentheses.
    text.rsplit_once(')')?.1.trim_start().chars().next()
}
