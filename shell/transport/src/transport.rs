//! The transport itself.

use crate::{
    config::{Identity, TransportConfig, TransportError},
    events::EventReceiver,
    reason::DownReason,
    shared::Shared,
    sync::lock,
    tasks::{keep_accepting, keep_calling},
};
use core::fmt;
use mainstay_base::{BootId, FRAME_LEN_MAX, LINKS_MAX, LinkId, NodeId};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{net::TcpListener, time::timeout};

/// Time for all tasks to end on shutdown; longer than connections linger.
const SHUTDOWN_TIME: Duration = Duration::from_secs(1);

/// Authenticated, encrypted links to all peers. Made for a current-thread runtime: sending happens
/// in the caller, receiving in one task per connection.
///
/// Dropping it ends everything at once; [`Transport::shutdown`] lets the last frames leave.
pub struct Transport {
    shared: Arc<Shared>,
    listening: Vec<SocketAddr>,
}

/// Why a frame was not taken. Nothing of it has been or will be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// There is no such link, or no connection on it now.
    #[error("the link is not connected")]
    NotConnected,
    /// The peer or the network takes less than is sent; the connection's buffer is full.
    #[error("the link's send queue is full")]
    Backlog,
    /// The frame is longer than any may be.
    #[error("a frame of {0} bytes is too long; at most {FRAME_LEN_MAX} are allowed")]
    TooLong(usize),
}

/// A link as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LinkStatus {
    /// The peer.
    pub peer: NodeId,
    /// Which of the links to it.
    pub link: LinkId,
    /// The peer's configured address.
    pub address: SocketAddr,
    /// The peer's boot id and the other end's address, if the link is up.
    pub up: Option<(BootId, SocketAddr)>,
    /// Why it is not up, if something is known: a code, a colon, a sentence.
    pub problem: Option<String>,
}

impl Transport {
    /// Listens on the own addresses and begins to call the peers with higher ids. Must be called
    /// within a tokio runtime with I/O and time enabled.
    ///
    /// # Errors
    /// If an address cannot be listened on, or the configuration can work in no cluster.
    pub async fn start(
        config: TransportConfig,
    ) -> Result<(Transport, EventReceiver), TransportError> {
        config.check()?;
        let mut listeners = Vec::new();
        let mut listening = Vec::new();
        for (index, &address) in config.listen.iter().enumerate() {
            let fail = |error| TransportError::Listen {
                address,
                index,
                error,
            };
            let listener = TcpListener::bind(address).await.map_err(fail)?;
            listening.push(listener.local_addr().map_err(fail)?);
            listeners.push(listener);
        }
        let (boot, send_queue_max) = (config.boot, config.send_queue_max);
        let shared = Arc::new(Shared::new(Identity::new(config), boot, send_queue_max));
        {
            let mut tasks = lock(&shared.tasks);
            for (link, listener) in (0..).map(LinkId).zip(listeners) {
                tasks.spawn(keep_accepting(Arc::clone(&shared), listener, link));
            }
            // One side calls, so that two calls never have to be weighed against each other.
            for peer in shared.me.peers.iter().filter(|p| p.id > shared.me.node) {
                for (link, &address) in (0..).map(LinkId).zip(&peer.addresses) {
                    tasks.spawn(keep_calling(Arc::clone(&shared), peer.id, link, address));
                }
            }
        }
        let queue = Arc::clone(&shared.events);
        Ok((Transport { shared, listening }, EventReceiver { queue }))
    }

    /// The addresses listened on, by link number, with the ports that were taken for port 0.
    #[must_use]
    pub fn local_addresses(&self) -> &[SocketAddr] {
        &self.listening
    }

    /// Seals a frame for a link. It leaves with the next [`Transport::flush`], at the latest; never
    /// blocks.
    ///
    /// # Errors
    /// If the link is down, the frame too long, or too much waits for the socket already. The link
    /// stays usable; the caller decides whether to send again.
    pub fn send(&self, peer: NodeId, link: LinkId, frame: &[u8]) -> Result<(), SendError> {
        if frame.len() > FRAME_LEN_MAX {
            return Err(SendError::TooLong(frame.len()));
        }
        let slot = self.shared.slot_of(peer, link);
        let mut guard = lock(&self.shared.links);
        let links = &mut *guard;
        let connection = slot
            .and_then(|slot| links.slots[slot].connection.as_ref())
            .ok_or(SendError::NotConnected)?;
        if connection.enqueue(frame, self.shared.send_queue_max)? {
            links.unflushed.push(Arc::clone(connection));
        }
        Ok(())
    }

    /// Writes what was sent since the last flush, with one system call per connection. What a
    /// socket does not take now follows by itself. Must be called after a batch of sends.
    pub fn flush(&self) {
        for connection in lock(&self.shared.links).unflushed.drain(..) {
            connection.flush();
        }
    }

    /// Takes a new boot id, not zero, after this node was reborn: ends all connections and half-open
    /// handshakes, and connects anew under the new id.
    pub fn set_boot(&self, boot: BootId) {
        let mut links = lock(&self.shared.links);
        links.boot = boot;
        self.shared.vacate_all(&mut links, DownReason::Reborn);
        drop(links);
        self.shared.reborn.notify_waiters();
    }

    /// All links that this node's configuration gives, in the order of peers and link numbers.
    #[must_use]
    pub fn links(&self) -> Vec<LinkStatus> {
        let links = lock(&self.shared.links);
        let mut all = Vec::new();
        for (index, peer) in self.shared.me.peers.iter().enumerate() {
            for (i, (link, &address)) in (0..).map(LinkId).zip(&peer.addresses).enumerate() {
                let slot = &links.slots[index * LINKS_MAX + i];
                all.push(LinkStatus {
                    peer: peer.id,
                    link,
                    address,
                    up: slot.connection.as_ref().map(|c| (c.boot, c.address)),
                    problem: slot.problem.clone(),
                });
            }
        }
        all
    }

    /// Lets what was sent leave (for at most half a second), closes all connections and stops
    /// listening. The receiver gets a `Down` for each link that was up, and then its end.
    pub async fn shutdown(self) {
        self.flush();
        self.shared.stopping.send_replace(true);
        let mut tasks = std::mem::take(&mut *lock(&self.shared.tasks));
        let all = async { while tasks.join_next().await.is_some() {} };
        // Whoever is late is ended when `tasks` is dropped.
        let _ = timeout(SHUTDOWN_TIME, all).await;
    }
}

impl Drop for Transport {
    fn drop(&mut self) {
        self.shared.stopping.send_replace(true);
        {
            let mut links = lock(&self.shared.links);
            self.shared.vacate_all(&mut links, DownReason::Shutdown);
        }
        lock(&self.shared.tasks).abort_all();
        self.shared.events.close();
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport")
            .field("node", &self.shared.me.node)
            .field("listening", &self.listening)
            .finish_non_exhaustive()
    }
}
