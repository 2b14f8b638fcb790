//! Signals to this process, and a reader of its output that goes away.

use crate::{
    exit::{Failure, INTERNAL},
    output,
};
use rustix::process::Signal;
use tokio::signal::unix::{self, SignalKind};

/// One kind of signal, unless this process was started with it ignored: `nohup` ignores HUP, and a
/// script's shell ignores INT and QUIT for what it starts with `&`. Then it stays ignored, here and
/// in whatever this process starts.
#[derive(Debug)]
pub(crate) struct Incoming(Option<unix::Signal>);

impl Incoming {
    pub(crate) fn listen(kind: SignalKind) -> Result<Incoming, Failure> {
        if is_ignored(kind.as_raw_value()) {
            return Ok(Incoming(None));
        }
        unix::signal(kind)
            .map(|signal| Incoming(Some(signal)))
            .map_err(|error| Failure::new(INTERNAL, format!("cannot listen for signals: {error}")))
    }

    /// Waits for the next one.
    pub(crate) async fn recv(&mut self) {
        match &mut self.0 {
            Some(signal) => {
                signal.recv().await;
            }
            None => std::future::pending().await,
        }
    }
}

/// Whether a signal does nothing to this process.
pub(crate) fn is_ignored(number: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    ignored_in(&status, number)
}

fn ignored_in(status: &str, number: i32) -> bool {
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or(0);
    mask >> (number - 1) & 1 == 1
}

/// What ends commands that have a cluster to stop: while this lives, a reader of the output that
/// goes away (`| head`) is one of these reasons and does not end the process by itself.
#[derive(Debug)]
pub(crate) struct StopSignals {
    interrupt: Incoming,
    terminate: Incoming,
    hangup: Incoming,
}

/// Why to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// This signal came.
    Signal(Signal),
    /// Nobody reads the output any more.
    ReaderGone,
}

impl StopSignals {
    pub(crate) fn listen() -> Result<StopSignals, Failure> {
        let signals = StopSignals {
            interrupt: Incoming::listen(SignalKind::interrupt())?,
            terminate: Incoming::listen(SignalKind::terminate())?,
            hangup: Incoming::listen(SignalKind::hangup())?,
        };
        output::stay_without_reader(true);
        Ok(signals)
    }

    /// Waits for a reason to stop.
    pub(crate) async fn next(&mut self) -> Stop {
        tokio::select! {
            () = self.interrupt.recv() => Stop::Signal(Signal::INT),
            () = self.terminate.recv() => Stop::Signal(Signal::TERM),
            () = self.hangup.recv() => Stop::Signal(Signal::HUP),
            () = output::reader_gone() => Stop::ReaderGone,
        }
    }
}

impl Drop for StopSignals {
    fn drop(&mut self) {
        output::stay_without_reader(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects commands under `nohup` and in the background of scripts: what they were started to
    /// ignore is recognised.
    #[test]
    fn ignored_signals_are_read_from_the_mask() {
        // HUP and PIPE.
        let status = "Name:\tmainstay\nSigBlk:\t0000000000000002\nSigIgn:\t0000000000001001\n";
        assert!(ignored_in(status, 1) && ignored_in(status, 13));
        assert!(!ignored_in(status, 2) && !ignored_in(status, 15));
        assert!(!ignored_in("", 1));
    }
}
