//! Exit codes of the command, and errors that carry one.

use mainstay_client::{ConnectError, LockError, Refusal};
use rustix::process::Signal;
use std::fmt;

/// Done.
pub(crate) const OK: u8 = 0;
/// The lock was not granted, unless `--conflict-exit-code` says otherwise.
pub(crate) const CONFLICT: u8 = 1;
/// The command line was wrong.
pub(crate) const USAGE: u8 = 64;
/// `check`: nothing worse than warnings.
pub(crate) const WARNINGS: u8 = 1;
/// `check`: errors. `recorder check`: something was found.
pub(crate) const ERRORS: u8 = 2;
/// The data cannot be used.
pub(crate) const BAD_DATA: u8 = 65;
/// What was asked for does not exist.
pub(crate) const NOT_FOUND: u8 = 66;
/// The daemon cannot be reached or cannot serve now, or a limit is reached.
pub(crate) const UNAVAILABLE: u8 = 69;
/// Something failed that should not.
pub(crate) const INTERNAL: u8 = 70;
/// A file or directory could not be made.
pub(crate) const CANNOT_CREATE: u8 = 73;
/// The lock was lost while COMMAND ran, or the session before it was granted.
pub(crate) const LOST: u8 = 75;
/// Only root or the daemon's user may do that.
pub(crate) const DENIED: u8 = 77;
/// COMMAND was found but could not be executed.
pub(crate) const NOT_EXECUTABLE: u8 = 126;
/// COMMAND was not found.
pub(crate) const NO_COMMAND: u8 = 127;

/// What a shell makes of an end by a signal.
pub(crate) fn by_signal(signal: Signal) -> u8 {
    u8::try_from(128 + signal.as_raw()).unwrap_or(INTERNAL)
}

/// The table in the long help, the man page and `mainstay help exit-codes`.
pub(crate) const TABLE: &str = "\
Exit codes:
  0    done
  1    `lock`, `value`: not granted, or `value cas`, `value add`: not done (see
       --conflict-exit-code); `check`: there are warnings
  2    `check`: there are errors; `recorder check`: something was not as it must be
  64   the command line was wrong
  65   `convert`, `plan`, `recorder`: what was read cannot be used; `convert`: or cannot be
       said in the other notation; `plan`: or its constraints contradict each other
  66   a file, node, service, ticket, cluster or lockspace that was named does not exist
  69   the daemon cannot be reached, or cannot serve now, or a limit of `[limits]` is reached
  70   something failed that should not; `node`: it stopped itself, see its log;
       `plan`: the plan does what no plan may do
  73   a file, directory or socket could not be made
  74   `node`: the disk failed or the journal is damaged
  75   `lock`: the lock was lost; `node`: another daemon has its directory, socket or port,
       or it stopped before the cluster had confirmed that it left
  77   not allowed: to others than root or the daemon's user, or by the lockspace
  78   the configuration or the key file is wrong
  126  `lock`: COMMAND could not be executed
  127  `lock`: COMMAND was not found
  128+N  `lock`: COMMAND was ended by signal N; `bench`: it was itself
  Otherwise `lock` exits as COMMAND did.";

/// An error for people, with the exit code it leads to.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: u8,
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(code: u8, message: impl Into<String>) -> Failure {
        Failure {
            code,
            message: message.into(),
        }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Failure {
        Failure::new(USAGE, message)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Failure {
        let code = match &error {
            ConnectError::Denied { .. } => DENIED,
            ConnectError::PathTooLong { .. } => USAGE,
            _ => UNAVAILABLE,
        };
        Failure::new(code, error.to_string())
    }
}

impl From<LockError> for Failure {
    fn from(error: LockError) -> Failure {
        let code = match &error {
            LockError::SessionLost { .. } => LOST,
            LockError::NoAnswer { .. } => UNAVAILABLE,
            LockError::Name(_) | LockError::Value(_) => USAGE,
            LockError::Refused(refusal) => match refusal {
                Refusal::NotQueued
                | Refusal::TimedOut
                | Refusal::NoQuorum
                | Refusal::ValueHeld
                | Refusal::DeadlockCycle(_) => CONFLICT,
                Refusal::Invalid(_) => USAGE,
                Refusal::NoSuchLockspace | Refusal::NoSuchOrphan => NOT_FOUND,
                Refusal::Denied(_) => DENIED,
                _ => UNAVAILABLE,
            },
        };
        Failure::new(code, error.to_string())
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Failure {
        Failure::new(INTERNAL, error.to_string())
    }
}

/// What every command returns: the process's exit code.
pub(crate) type Outcome = Result<u8, Failure>;
