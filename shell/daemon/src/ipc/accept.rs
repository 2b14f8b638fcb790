//! Accepting clients.

use super::reader::{Gate, SessionPort, serve};
use crate::inbox::SharedInbox;
use mainstay_base::SessionId;
use rustix::fd::OwnedFd;
use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::net::UnixListener;

/// How long to wait before asking again when there is no descriptor left.
const PAUSE: Duration = Duration::from_millis(250);
/// How often to complain.
const COMPLAIN: Duration = Duration::from_secs(10);

/// What every session needs from the daemon.
#[derive(Clone, Debug)]
pub(crate) struct Doorway {
    /// Where decoded messages go.
    pub(crate) inbox: SharedInbox,
    /// Whether sessions may be read.
    pub(crate) gate: Arc<Gate>,
    /// The lease page.
    pub(crate) page: Arc<OwnedFd>,
    /// The number of the first session.
    pub(crate) first: u64,
}

/// Accepts for ever. Without free descriptors it waits; sessions that exist go on meanwhile.
pub(crate) async fn accept_clients(listener: UnixListener, doorway: Doorway) {
    let mut next = doorway.first;
    let mut complained: Option<Instant> = None;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let session = SessionId(next);
                next += 1;
                let port = Arc::new(SessionPort::default());
                let task = serve(stream, session, Arc::clone(&port), doorway.clone());
                port.set_reader(tokio::spawn(task).abort_handle());
            }
            Err(error) => {
                if complained.is_none_or(|at| at.elapsed() >= COMPLAIN) {
                    complained = Some(Instant::now());
                    complain(&error);
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

fn complain(error: &io::Error) {
    use rustix::io::Errno;
    match Errno::from_io_error(error) {
        Some(Errno::MFILE | Errno::NFILE) => {
            let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
            tracing::warn!(
                limit = limit.current,
                "no file descriptor is left for new clients; they wait until others disconnect. \
                 Raise the hard limit (ulimit -Hn, or LimitNOFILE= in the service unit)"
            );
        }
        _ => tracing::warn!(%error, "cannot accept a client; trying again"),
    }
}
