//! What arrived for the main loop since it last looked.

use crate::ipc::{Newcomer, SessionPort};
use mainstay_base::SessionId;
use mainstay_store::Completion;
use mainstay_wire::client::Ask;
use std::{
    collections::VecDeque,
    io,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::Notify;

/// Something that arrived. `session` is the number of the client's connection.
#[derive(Debug)]
pub(crate) enum Arrival {
    /// A client said hello.
    Opened(Newcomer),
    /// A client asked for something.
    Asked {
        session: SessionId,
        request: u64,
        ask: Ask,
    },
    /// A client broke the protocol; it is told why and closed.
    Broken { session: SessionId, why: String },
    /// A client is gone.
    Closed { session: SessionId },
    /// A client's socket takes bytes again.
    Writable { session: SessionId },
    /// A write ended; `life` tells the writers of one daemon's lives apart.
    Stored { life: u64, completion: Completion },
    /// A dump of the flight recorder has been written, or not; who asked for it is told.
    Dumped {
        asker: Option<(SessionId, u64)>,
        result: io::Result<(PathBuf, u64)>,
    },
    /// The daemon was asked to stop, by which signal.
    /// What the node leaves to the next daemon is durable, or cannot be.
    Carried {
        /// Why not.
        result: Result<(), String>,
    },
    /// A signal asked to stop.
    Signal(&'static str),
}

/// A queue that many fill and the main loop empties in one go.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    queue: Mutex<VecDeque<Arrival>>,
    ready: Notify,
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Arrival>> {
        // Nothing panics while it holds the lock.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn push(&self, arrival: Arrival) {
        self.lock().push_back(arrival);
        self.ready.notify_one();
    }

    /// Moves all of `arrivals` into the queue, and counts the requests among them as unanswered.
    pub(crate) fn push_all(&self, arrivals: &mut Vec<Arrival>, port: &SessionPort) {
        if arrivals.is_empty() {
            return;
        }
        port.count_asked(arrivals.len());
        self.lock().extend(arrivals.drain(..));
        self.ready.notify_one();
    }

    /// Swaps what arrived with `empty`.
    pub(crate) fn take(&self, empty: &mut VecDeque<Arrival>) {
        std::mem::swap(&mut *self.lock(), empty);
    }

    /// Waits until something has arrived.
    pub(crate) async fn ready(&self) {
        self.ready.notified().await;
    }
}

/// Shared by all that push.
pub(crate) type SharedInbox = Arc<Inbox>;
