//! Clients that are processes of their own, to be killed and stopped.

use crate::{daemon::state_of, until, within};
use rustix::process::{Pid, Signal, kill_process};
use serde::{Deserialize, Serialize};
use std::{path::Path, process::Stdio, time::Duration};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader, Lines},
    process::{Child, ChildStdout, Command},
};

/// What a client process tells; instants are nanoseconds of `CLOCK_BOOTTIME`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "event")]
pub enum Record {
    /// The lock is granted.
    Granted {
        /// The grant's token.
        token: u64,
        /// When the client knew.
        at: u64,
    },
    /// The lock may no longer be relied on.
    Lost {
        /// When the client last asked and was told that it holds the lock.
        last_held: u64,
        /// When it was first told otherwise.
        known_at: u64,
        /// Why.
        why: String,
    },
    /// After it was lost, the lock seemed to be held again: never true.
    HeldAgain {
        /// When.
        at: u64,
    },
    /// Of a crowd: locks that may be relied on.
    Held {
        /// How many.
        locks: usize,
    },
}

/// The program `torture-client`: takes a lock, then asks every millisecond whether it holds it; or is a crowd.
#[derive(Debug)]
pub struct ClientProcess {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl ClientProcess {
    /// Starts it. `program` is `env!("CARGO_BIN_EXE_torture-client")`.
    ///
    /// # Panics
    /// If the system refuses.
    #[must_use]
    pub fn start(program: &str, socket: &Path, name: &str) -> ClientProcess {
        ClientProcess::launch(Command::new(program).arg("hold").arg(socket).arg(name))
    }

    /// As [`ClientProcess::start`], with a session that is kept for so long.
    ///
    /// # Panics
    /// If the system refuses.
    #[must_use]
    pub fn kept(program: &str, socket: &Path, name: &str, grace: Duration) -> ClientProcess {
        let mut command = Command::new(program);
        command.arg("keep").arg(socket).arg(name);
        ClientProcess::launch(command.arg(grace.as_millis().to_string()))
    }

    /// Many sessions in one process, each of which takes the lock of its number, see [`crowd`](crate::crowd).
    ///
    /// # Panics
    /// If the system refuses.
    #[must_use]
    pub fn crowd(program: &str, socket: &Path, first: usize, count: usize) -> ClientProcess {
        let mut command = Command::new(program);
        command.arg("crowd").arg(socket);
        ClientProcess::launch(command.arg(first.to_string()).arg(count.to_string()))
    }

    fn launch(command: &mut Command) -> ClientProcess {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("a client can be started");
        let stdout = child.stdout.take().expect("its output is piped");
        ClientProcess {
            child,
            lines: BufReader::new(stdout).lines(),
        }
    }

    /// What it tells next.
    ///
    /// # Panics
    /// If it tells nothing within `limit`.
    pub async fn next(&mut self, limit: Duration) -> Record {
        let line = within(
            "a client process tells something",
            limit,
            self.lines.next_line(),
        )
        .await
        .expect("its output can be read")
        .expect("the client process goes on");
        serde_json::from_str(&line).expect("it tells records")
    }

    /// Lets it end, and returns what it still tells.
    pub async fn end(mut self, limit: Duration) -> Vec<Record> {
        drop(self.child.stdin.take());
        let mut rest = Vec::new();
        let read = async {
            while let Ok(Some(line)) = self.lines.next_line().await {
                rest.push(serde_json::from_str(&line).expect("it tells records"));
            }
        };
        within("a client process ends", limit, read).await;
        rest
    }

    fn pid(&self) -> u32 {
        self.child.id().expect("it has not been waited for")
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.pid().cast_signed()).expect("a process number");
        kill_process(pid, signal).expect("a signal to a child");
    }

    /// SIGSTOP, and waits until it stands still.
    pub async fn pause(&self) {
        self.signal(Signal::STOP);
        until(
            "the client is stopped",
            Duration::from_secs(5),
            async || (state_of(self.pid()) == Some('T')).then_some(()),
        )
        .await;
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// `kill -9`, and waits until it is gone.
    pub async fn kill(mut self) {
        let _ = self.child.kill().await;
    }
}
