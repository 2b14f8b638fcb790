//! What a transport tells its owner, through a bounded queue.

use crate::{
    reason::{DownReason, RefusalReason},
    sync::lock,
};
use mainstay_base::{BootId, LinkId, NodeId};
use std::{
    collections::VecDeque,
    net::SocketAddr,
    pin::pin,
    sync::{Arc, Mutex},
};
use tokio::sync::Notify;

/// Bytes of frames that may wait for the owner. Beyond, sockets are not read until half is gone.
/// What a connection had read by then is held by its reader, at most a little over one frame each.
/// A link whose socket is not read for about 2 s with data waiting is ended by its peer and then
/// made anew.
pub const EVENT_QUEUE_MAX: usize = 16 << 20;
/// What an event costs besides its frame's bytes, so that empty frames are bounded too.
const EVENT_COST: usize = 64;

/// Something that happened on a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransportEvent {
    /// A connection is authenticated and can carry frames.
    Up {
        /// The peer.
        peer: NodeId,
        /// Which of the links to it.
        link: LinkId,
        /// The peer's boot id.
        boot: BootId,
        /// The other end's address.
        address: SocketAddr,
    },
    /// A connection that was up has ended. Frames that were not yet delivered may be lost.
    Down {
        /// The peer.
        peer: NodeId,
        /// Which of the links to it.
        link: LinkId,
        /// Why.
        reason: DownReason,
    },
    /// A frame arrived. Frames of one connection come in the order of sending, without gaps.
    Frame {
        /// The peer.
        peer: NodeId,
        /// Which of the links to it.
        link: LinkId,
        /// The frame.
        bytes: Vec<u8>,
    },
    /// A handshake was refused. Told once per reason, then at most every 30 s.
    Refused {
        /// Whom it concerns, if known. For a caller that is not a configured peer, its own claim.
        peer: Option<NodeId>,
        /// Which link.
        link: LinkId,
        /// Why.
        reason: RefusalReason,
        /// This node refused; otherwise the peer did.
        by_us: bool,
        /// The other end's address.
        address: SocketAddr,
    },
}

impl TransportEvent {
    fn cost(&self) -> usize {
        match self {
            TransportEvent::Frame { bytes, .. } => EVENT_COST + bytes.len(),
            _ => EVENT_COST,
        }
    }
}

#[derive(Debug, Default)]
pub(crate) struct EventQueue {
    inner: Mutex<Inner>,
    ready: Notify,
    space: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    events: VecDeque<TransportEvent>,
    cost: usize,
    closed: bool,
}

impl EventQueue {
    /// Appends an event that does not wait for space: these are few by nature.
    pub(crate) fn push(&self, event: TransportEvent) {
        let mut inner = lock(&self.inner);
        if inner.closed {
            return;
        }
        inner.cost += event.cost();
        inner.events.push_back(event);
        drop(inner);
        self.ready.notify_one();
    }

    /// Appends frames if the queue is not full; otherwise leaves them in `batch`.
    pub(crate) fn try_push_all(&self, batch: &mut Vec<TransportEvent>) -> bool {
        let mut inner = lock(&self.inner);
        if inner.closed {
            batch.clear();
            return true;
        }
        if inner.cost >= EVENT_QUEUE_MAX {
            return false;
        }
        inner.cost += batch.iter().map(TransportEvent::cost).sum::<usize>();
        inner.events.extend(batch.drain(..));
        drop(inner);
        self.ready.notify_one();
        true
    }

    /// Waits until the queue may have space. `attempt` is tried first and after each wake-up.
    pub(crate) async fn when_space(&self, mut attempt: impl FnMut() -> bool) {
        loop {
            let mut space = pin!(self.space.notified());
            // Before the attempt, so that space made right after it is not missed.
            space.as_mut().enable();
            if attempt() {
                return;
            }
            space.await;
        }
    }

    /// No more events: the receiver sees the end after what is queued.
    pub(crate) fn close(&self) {
        lock(&self.inner).closed = true;
        self.ready.notify_one();
        self.space.notify_waiters();
    }

    /// The first event, or whether there will be none.
    fn pop(&self) -> Result<TransportEvent, bool> {
        let mut inner = lock(&self.inner);
        let Some(event) = inner.events.pop_front() else {
            return Err(inner.closed);
        };
        let before = inner.cost;
        inner.cost -= event.cost();
        let low = EVENT_QUEUE_MAX / 2;
        if before >= low && inner.cost < low {
            self.space.notify_waiters();
        }
        Ok(event)
    }
}

/// The owner's end of the queue. While it is not emptied, sockets are not read.
#[derive(Debug)]
pub struct EventReceiver {
    pub(crate) queue: Arc<EventQueue>,
}

impl EventReceiver {
    /// The next event, waiting for it; `None` after the transport has been shut down or dropped.
    /// Nothing is lost if the future is dropped.
    pub async fn recv(&mut self) -> Option<TransportEvent> {
        loop {
            match self.queue.pop() {
                Ok(event) => return Some(event),
                Err(true) => return None,
                Err(false) => self.queue.ready.notified().await,
            }
        }
    }

    /// The next event if there is one already.
    pub fn try_recv(&mut self) -> Option<TransportEvent> {
        self.queue.pop().ok()
    }
}

impl Drop for EventReceiver {
    fn drop(&mut self) {
        self.queue.close();
        let mut inner = lock(&self.queue.inner);
        inner.events.clear();
        inner.cost = 0;
    }
}
