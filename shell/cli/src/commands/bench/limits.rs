//! What the machine itself can do: round trips of 64 bytes between two threads that sleep while
//! they wait, as client and daemon do.

use super::{
    placement::Placement,
    sample::{Samples, Summary},
};
use crate::exit::Failure;
use serde::Serialize;
use std::{
    io::{self, Read, Write},
    net::{TcpListener, TcpStream},
    os::unix::net::UnixStream,
    thread,
    time::{Duration, Instant},
};

/// Bytes per message: about what a request or an answer has.
const LEN: usize = 64;

/// The machine's limits.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Limits {
    /// Where the two threads ran.
    pub(super) placement: Placement,
    /// Round trip over a UNIX stream socket.
    pub(super) unix: Summary,
    /// Round trip over TCP on the loopback interface.
    pub(super) tcp: Summary,
}

impl Limits {
    /// The faster of two measurements of each limit: what is compared to it has to be at least as
    /// good as the machine is at its best.
    pub(super) fn better(self, other: Limits) -> Limits {
        let faster = |a: Summary, b: Summary| if a.p50_us <= b.p50_us { a } else { b };
        Limits {
            placement: self.placement,
            unix: faster(self.unix, other.unix),
            tcp: faster(self.tcp, other.tcp),
        }
    }
}

/// Measures each limit for `time`.
pub(super) fn measure(placement: Placement, time: Duration) -> Result<Limits, Failure> {
    let (a, b) = UnixStream::pair()?;
    let unix = round_trips(a, b, placement, time)?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let a = TcpStream::connect(listener.local_addr()?)?;
    let (b, _) = listener.accept()?;
    a.set_nodelay(true)?;
    b.set_nodelay(true)?;
    let tcp = round_trips(a, b, placement, time)?;
    Ok(Limits {
        placement,
        unix,
        tcp,
    })
}

fn round_trips<S: Read + Write + Send + 'static>(
    mut near: S,
    mut far: S,
    placement: Placement,
    time: Duration,
) -> io::Result<Summary> {
    let echo = thread::spawn(move || {
        placement.pin_as_daemon();
        let mut bytes = [0; LEN];
        // Ends when the other end is closed.
        while far.read_exact(&mut bytes).is_ok() && far.write_all(&bytes).is_ok() {}
    });
    let _pinned = placement.pin_as_client();
    let mut samples = Samples::default();
    let mut bytes = [0; LEN];
    let began = Instant::now();
    let mut last = began;
    while last - began < time {
        near.write_all(&bytes)?;
        near.read_exact(&mut bytes)?;
        let now = Instant::now();
        samples.add(now - last);
        last = now;
    }
    drop(near);
    let _ = echo.join();
    Ok(samples.summary(last - began))
}
