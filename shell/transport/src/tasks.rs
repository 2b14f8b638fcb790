//! The tasks that call peers and that answer callers.

use crate::{
    handshake::{Failure, answer, call},
    random,
    reason::RefusalReason,
    shared::Shared,
};
use mainstay_base::{Entropy, LinkId, NodeId};
use std::{
    io,
    net::SocketAddr,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};

const CONNECT_TIME: Duration = Duration::from_secs(1);
const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(1);
/// A connection that lasted so long was a good one: the next try begins with a short wait again.
const GOOD_TIME: Duration = Duration::from_secs(1);
/// Sent data that stays unacknowledged so long ends the connection. Without it, TCP's growing
/// retransmission pauses would keep a link down long after the network has healed.
const UNACKNOWLEDGED_TIME: Duration = Duration::from_secs(2);
/// Pause after the system could not accept a connection for want of descriptors or memory.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let millis = u32::try_from(UNACKNOWLEDGED_TIME.as_millis()).expect("a few seconds");
    rustix::net::sockopt::set_tcp_user_timeout(stream, millis)?;
    Ok(())
}

/// Keeps a link to a peer with a higher id: calls, carries frames, calls again, for ever.
pub(crate) async fn keep_calling(
    shared: Arc<Shared>,
    peer: NodeId,
    link: LinkId,
    address: SocketAddr,
) {
    let mut stopping = shared.stopping.subscribe();
    let mut entropy = Entropy::new(random::seed());
    let mut backoff = BACKOFF_MIN;
    loop {
        // Before the call, so that a rebirth during it is not missed.
        let mut reborn = pin!(shared.reborn.notified());
        reborn.as_mut().enable();
        let outcome = tokio::select! {
            _ = stopping.wait_for(|s| *s) => return,
            outcome = call_once(&shared, peer, link, address) => outcome,
        };
        match outcome {
            Ok(established) => {
                if let Some((live, half)) = shared.register(established, link, address) {
                    let since = Instant::now();
                    live.run(half, shared.stopping.subscribe()).await;
                    if since.elapsed() >= GOOD_TIME {
                        backoff = BACKOFF_MIN;
                    }
                }
            }
            Err(failure) => shared.failed(failure, Some(peer), link, address),
        }
        // Half of it at random, so that nodes that lost each other together do not call together.
        let half = backoff / 2;
        let jitter = entropy.below(u64::try_from(half.as_micros()).unwrap_or(u64::MAX) + 1);
        tokio::select! {
            _ = stopping.wait_for(|s| *s) => return,
            () = &mut reborn => backoff = BACKOFF_MIN,
            () = sleep(half + Duration::from_micros(jitter)) => {
                backoff = (backoff * 2).min(BACKOFF_MAX);
            }
        }
    }
}

async fn call_once(
    shared: &Shared,
    peer: NodeId,
    link: LinkId,
    address: SocketAddr,
) -> Result<crate::handshake::Established, Failure> {
    let unreachable = |error: io::Error| Failure::Broken {
        code: "unreachable",
        detail: error.to_string(),
    };
    let boot = shared.boot();
    let stream = match timeout(CONNECT_TIME, TcpStream::connect(address)).await {
        Ok(stream) => stream.map_err(unreachable)?,
        Err(_) => return Err(unreachable(io::ErrorKind::TimedOut.into())),
    };
    prepare(&stream).map_err(unreachable)?;
    call(stream, &shared.me, boot, peer, link).await
}

/// Accepts callers on one of this node's addresses, until the transport stops.
pub(crate) async fn keep_accepting(shared: Arc<Shared>, listener: TcpListener, link: LinkId) {
    let mut stopping = shared.stopping.subscribe();
    loop {
        let accepted = tokio::select! {
            _ = stopping.wait_for(|s| *s) => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, address)) => admit(&shared, stream, address, link),
            Err(error) => {
                let code = error
                    .raw_os_error()
                    .map(rustix::io::Errno::from_raw_os_error);
                use rustix::io::Errno;
                if matches!(
                    code,
                    Some(Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM)
                ) {
                    shared.cannot_accept(link, &error);
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}

fn admit(shared: &Arc<Shared>, stream: TcpStream, address: SocketAddr, link: LinkId) {
    let task = {
        let shared = Arc::clone(shared);
        move |place| async move {
            let mut stopping = shared.stopping.subscribe();
            let boot = shared.boot();
            let work = async {
                prepare(&stream)?;
                answer(stream, &shared.me, boot, link).await
            };
            let outcome = tokio::select! {
                _ = stopping.wait_for(|s| *s) => return,
                outcome = work => outcome,
            };
            drop(place);
            match outcome {
                Ok(established) => {
                    if let Some((live, half)) = shared.register(established, link, address) {
                        live.run(half, stopping).await;
                    }
                }
                Err(failure) => shared.failed(failure, None, link, address),
            }
        }
    };
    if let Some((address, link)) = shared.spawn_half_open(address, link, task) {
        let failure = Failure::Refused {
            reason: RefusalReason::TooManyHandshakes,
            by_us: true,
            peer: None,
            detail: String::new(),
        };
        shared.failed(failure, None, link, address);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects latency and recovery from partitions: small frames are not held back, and lost
    /// acknowledgements end a connection after seconds instead of a quarter of an hour.
    #[tokio::test]
    async fn sockets_are_prepared() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let address = listener.local_addr().expect("bound");
        let stream = TcpStream::connect(address).await.expect("connects");
        prepare(&stream).expect("a TCP socket");
        assert!(stream.nodelay().expect("a TCP socket"));
        let millis = rustix::net::sockopt::tcp_user_timeout(&stream).expect("a TCP socket");
        assert_eq!(millis, 2000);
    }
}
