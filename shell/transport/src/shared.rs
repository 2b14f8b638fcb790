//! What the tasks of a transport share.

use crate::{
    config::Identity,
    connection::{Connection, Live},
    events::{EventQueue, TransportEvent},
    handshake::{Established, Failure},
    notices::{Notices, Subject},
    reason::DownReason,
    sync::lock,
};
use mainstay_base::{BootId, LINKS_MAX, LinkId, NodeId};
use std::{
    collections::VecDeque,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::Instant,
};
use tokio::{
    net::tcp::OwnedReadHalf,
    sync::{Notify, watch},
    task::{AbortHandle, JoinSet},
};

/// Handshakes of callers that may be under way at once; a newer one pushes out the oldest.
pub(crate) const HALF_OPEN_MAX: usize = 64;

pub(crate) struct Shared {
    pub(crate) me: Identity,
    pub(crate) send_queue_max: usize,
    pub(crate) links: Mutex<Links>,
    pub(crate) events: Arc<EventQueue>,
    notices: Mutex<Notices>,
    half_open: Mutex<HalfOpen>,
    pub(crate) tasks: Mutex<JoinSet<()>>,
    /// The boot id has changed: whoever waits to call again shall not wait.
    pub(crate) reborn: Notify,
    pub(crate) stopping: watch::Sender<bool>,
}

pub(crate) struct Links {
    pub(crate) boot: BootId,
    /// `LINKS_MAX` per peer, in the order of the peers.
    pub(crate) slots: Vec<Slot>,
    /// Connections with frames that were not yet written.
    pub(crate) unflushed: Vec<Arc<Connection>>,
}

#[derive(Default)]
pub(crate) struct Slot {
    pub(crate) connection: Option<Arc<Connection>>,
    /// Why the last attempt failed.
    pub(crate) problem: Option<String>,
}

#[derive(Default)]
struct HalfOpen {
    next: u64,
    entries: VecDeque<(u64, AbortHandle, SocketAddr, LinkId)>,
}

impl Shared {
    pub(crate) fn new(me: Identity, boot: BootId, send_queue_max: usize) -> Shared {
        let mut slots = Vec::new();
        slots.resize_with(me.peers.len() * LINKS_MAX, Slot::default);
        Shared {
            me,
            send_queue_max,
            links: Mutex::new(Links {
                boot,
                slots,
                unflushed: Vec::new(),
            }),
            events: Arc::default(),
            notices: Mutex::default(),
            half_open: Mutex::default(),
            tasks: Mutex::default(),
            reborn: Notify::new(),
            stopping: watch::Sender::new(false),
        }
    }

    /// Where this link stands in the table.
    pub(crate) fn slot_of(&self, peer: NodeId, link: LinkId) -> Option<usize> {
        let index = self.me.index_of(peer)?;
        let link = usize::from(link.0);
        (link < self.me.peers[index].addresses.len()).then_some(index * LINKS_MAX + link)
    }

    pub(crate) fn boot(&self) -> BootId {
        lock(&self.links).boot
    }

    /// Puts an authenticated connection in its place, which an older one leaves. None if this
    /// node stops or was reborn since the handshake began.
    pub(crate) fn register(
        self: &Arc<Self>,
        established: Established,
        link: LinkId,
        address: SocketAddr,
    ) -> Option<(Live, OwnedReadHalf)> {
        let hello = established.hello;
        let (peer, boot) = (hello.from, hello.boot);
        let slot = self.slot_of(peer, link)?;
        let mut links = lock(&self.links);
        if *self.stopping.borrow() || links.boot != established.boot {
            return None;
        }
        self.vacate(&mut links.slots[slot], DownReason::Replaced);
        let (read, write) = established.stream.into_split();
        let connection = Arc::new(Connection::new(
            (peer, link, slot),
            boot,
            address,
            write,
            established.channel,
        ));
        links.slots[slot] = Slot {
            connection: Some(Arc::clone(&connection)),
            problem: None,
        };
        tracing::info!(
            peer = peer.0, link = link.0, %address, boot = boot.0, version = %hello.software,
            "link up"
        );
        self.events.push(TransportEvent::Up {
            peer,
            link,
            boot,
            address,
        });
        drop(links);
        lock(&self.notices).forget(peer, link);
        Some((Live::new(Arc::clone(self), connection), read))
    }

    /// Takes a connection that has ended out of its place, if it is still there.
    pub(crate) fn unregister(&self, connection: &Arc<Connection>, reason: DownReason) {
        let mut links = lock(&self.links);
        let slot = &mut links.slots[connection.slot];
        if slot.is(connection) {
            self.vacate(slot, reason);
        }
    }

    /// Ends all connections, for instance because they carry an old boot id.
    pub(crate) fn vacate_all(&self, links: &mut Links, reason: DownReason) {
        for slot in &mut links.slots {
            self.vacate(slot, reason);
        }
        links.unflushed.clear();
    }

    fn vacate(&self, slot: &mut Slot, reason: DownReason) {
        let Some(old) = slot.connection.take() else {
            return;
        };
        let (peer, link) = (old.peer, old.link);
        tracing::info!(
            peer = peer.0, link = link.0, address = %old.address, reason = reason.code(),
            "link down: {reason}"
        );
        slot.problem = Some(format!("{}: {reason}", reason.code()));
        self.events
            .push(TransportEvent::Down { peer, link, reason });
        old.close();
    }

    /// Hands frames to the owner, waiting while its queue is full. Frames of a connection that is
    /// not in its place any more are dropped: its `Down` has been told.
    pub(crate) async fn deliver(&self, from: &Connection, batch: &mut Vec<TransportEvent>) {
        let attempt = || {
            let links = lock(&self.links);
            if links.slots[from.slot].is(from) {
                self.events.try_push_all(batch)
            } else {
                batch.clear();
                true
            }
        };
        self.events.when_space(attempt).await;
    }

    /// Logs and tells a failed handshake, unless the same was told just now.
    pub(crate) fn failed(
        &self,
        failure: Failure,
        called: Option<NodeId>,
        link: LinkId,
        address: SocketAddr,
    ) {
        let (code, refused) = match &failure {
            Failure::Refused { reason, by_us, .. } => (reason.code(), Some((*reason, *by_us))),
            Failure::Broken { code, .. } => (*code, None),
        };
        let peer = match &failure {
            Failure::Refused { peer, .. } => called.or(*peer),
            Failure::Broken { .. } => called,
        };
        let detail = match &failure {
            Failure::Refused { detail, .. } | Failure::Broken { detail, .. } => detail,
        };
        let slot = peer.and_then(|peer| self.slot_of(peer, link));
        if let Some(slot) = slot {
            let text = match refused {
                Some((reason, true)) => format!("{code}: refused: {reason}"),
                Some((reason, false)) => format!("{code}: refused by the peer: {reason}"),
                None => format!("{code}: {detail}"),
            };
            let slot = &mut lock(&self.links).slots[slot];
            // A stray caller is no problem of a link that works.
            if slot.connection.is_none() {
                slot.problem = Some(text);
            }
        }
        let subject = match (peer, slot) {
            (Some(peer), Some(_)) => Subject::Peer {
                peer,
                link,
                inbound: called.is_none(),
            },
            _ => Subject::Stranger {
                link,
                address: address.ip(),
            },
        };
        let id = peer.map(|p| p.0);
        let name = peer
            .and_then(|p| self.me.index_of(p))
            .map(|i| self.me.peers[i].name.as_str());
        // Someone who connects and leaves, like a port scanner, is no news.
        if refused.is_none() && called.is_none() {
            tracing::debug!(link = link.0, %address, reason = code, detail, "caller left");
            return;
        }
        if !lock(&self.notices).admit(subject, code, Instant::now()) {
            return;
        }
        match refused {
            Some((reason, by_us)) => {
                let who = if by_us { "this node" } else { "the peer" };
                tracing::warn!(
                    peer = id, name, link = link.0, %address, reason = code, by_us, detail,
                    "{who} refused the connection: {reason}"
                );
                self.events.push(TransportEvent::Refused {
                    peer,
                    link,
                    reason,
                    by_us,
                    address,
                });
            }
            None => tracing::warn!(
                peer = id, name, link = link.0, %address, reason = code, detail,
                "cannot connect; trying on"
            ),
        }
    }

    /// Logs that the system cannot accept callers on an address for want of something.
    pub(crate) fn cannot_accept(&self, link: LinkId, error: &io::Error) {
        // Under an address that no caller has.
        let subject = Subject::Stranger {
            link,
            address: Ipv4Addr::UNSPECIFIED.into(),
        };
        if lock(&self.notices).admit(subject, "cannot-accept", Instant::now()) {
            tracing::warn!(
                link = link.0, reason = "cannot-accept", detail = %error,
                "cannot accept connections; if files are exhausted, raise the limit \
                 (LimitNOFILE= or `ulimit -n`)"
            );
        }
    }

    /// Starts a task for a caller's handshake. Returns whom it pushed out, if too many are under way.
    pub(crate) fn spawn_half_open<F>(
        self: &Arc<Self>,
        address: SocketAddr,
        link: LinkId,
        task: impl FnOnce(HalfOpenPlace) -> F,
    ) -> Option<(SocketAddr, LinkId)>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let mut half_open = lock(&self.half_open);
        let oldest = if half_open.entries.len() >= HALF_OPEN_MAX {
            half_open.entries.pop_front()
        } else {
            None
        };
        let id = half_open.next;
        half_open.next += 1;
        let place = HalfOpenPlace {
            shared: Arc::clone(self),
            id,
        };
        let future = task(place);
        let handle = {
            let mut tasks = lock(&self.tasks);
            // Else the set would remember every caller there ever was.
            while tasks.try_join_next().is_some() {}
            tasks.spawn(future)
        };
        half_open.entries.push_back((id, handle, address, link));
        drop(half_open);
        oldest.map(|(_, handle, address, link)| {
            handle.abort();
            (address, link)
        })
    }
}

impl Slot {
    fn is(&self, connection: &Connection) -> bool {
        self.connection
            .as_deref()
            .is_some_and(|c| std::ptr::eq(c, connection))
    }
}

/// A place among the half-open handshakes, free again when dropped.
pub(crate) struct HalfOpenPlace {
    shared: Arc<Shared>,
    id: u64,
}

impl Drop for HalfOpenPlace {
    fn drop(&mut self) {
        lock(&self.shared.half_open)
            .entries
            .retain(|(id, ..)| *id != self.id);
    }
}
