//! Writing to clients: what the main loop keeps of each session.

use super::{
    BUFFER_MAX, EVENTS_BUFFER_MAX, PATIENCE,
    reader::{Newcomer, SessionPort},
};
use crate::inbox::{Arrival, SharedInbox};
use mainstay_base::{FixedMap, SessionId, Value};
use mainstay_wire::{
    client::{HEADER_LEN, Handle, ToClient},
    codec,
    event::Event,
};
use std::{collections::BTreeMap, io, sync::Arc};
use tokio::{net::unix::OwnedWriteHalf, time::timeout};

/// A buffer that grew beyond this is given back once nothing waits in it.
const BUFFER_KEPT: usize = 64 << 10;

#[derive(Debug)]
struct Session {
    write: Arc<OwnedWriteHalf>,
    port: Arc<SessionPort>,
    /// Encoded and not yet written, from `sent` on.
    out: Vec<u8>,
    sent: usize,
    /// The socket is full; a task waits until it takes bytes again.
    blocked: bool,
    /// Something was added since the last write.
    dirty: bool,
    /// Wants events.
    subscribed: bool,
    /// Events that were dropped and not yet told.
    missed: u64,
    /// Value blocks that changed while too much waited, to be told as they are once it does not.
    values: BTreeMap<Handle, Value>,
}

impl Session {
    fn waiting(&self) -> usize {
        self.out.len() - self.sent
    }

    fn encode(&mut self, message: &ToClient) {
        let at = self.out.len();
        self.out.extend_from_slice(&[0; HEADER_LEN]);
        codec::encode(message, &mut self.out);
        let len = u32::try_from(self.out.len() - at - HEADER_LEN).unwrap_or(u32::MAX);
        self.out[at..at + HEADER_LEN].copy_from_slice(&len.to_le_bytes());
    }

    /// Tells value blocks that were held back, as many as do not make more than `most` bytes wait;
    /// whether the connection still works. Some are left only where the socket is full: nobody comes
    /// back to a session whose socket is not.
    fn tell_values(&mut self, most: usize) -> bool {
        loop {
            while self.waiting() < most
                && let Some((handle, value)) = self.values.pop_first()
            {
                self.encode(&ToClient::ValueChanged { handle, value });
            }
            if self.blocked {
                return true;
            }
            if !self.write() {
                return false;
            }
            if self.values.is_empty() {
                return true;
            }
        }
    }

    /// Writes what waits; whether the connection still works.
    fn write(&mut self) -> bool {
        while self.sent < self.out.len() {
            match self.write.try_write(&self.out[self.sent..]) {
                Ok(n) => self.sent += n,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.blocked = true;
                    return true;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
        }
        self.out.clear();
        if self.out.capacity() > BUFFER_KEPT {
            self.out = Vec::new();
        }
        self.sent = 0;
        true
    }
}

/// All sessions, in the order of their numbers.
#[derive(Debug)]
pub(crate) struct Sessions {
    inbox: SharedInbox,
    all: FixedMap<SessionId, Session>,
    /// Sessions with something to write, in the order in which it came up.
    dirty: Vec<SessionId>,
    subscribers: Vec<SessionId>,
    /// Bytes waiting for a client beyond which it is told no more events and value blocks for now:
    /// [`EVENTS_BUFFER_MAX`], except where a test wants less than a socket takes at once.
    pub(super) hold_back: usize,
}

impl Sessions {
    pub(crate) fn new(inbox: SharedInbox) -> Sessions {
        Sessions {
            inbox,
            all: FixedMap::new(),
            dirty: Vec::new(),
            subscribers: Vec::new(),
            hold_back: EVENTS_BUFFER_MAX,
        }
    }

    pub(crate) fn open(&mut self, newcomer: Newcomer) {
        let session = Session {
            write: Arc::new(newcomer.write),
            port: newcomer.port,
            out: Vec::new(),
            sent: 0,
            blocked: false,
            dirty: false,
            subscribed: false,
            missed: 0,
            values: BTreeMap::new(),
        };
        self.all.insert(newcomer.session, session);
    }

    pub(crate) fn contains(&self, session: SessionId) -> bool {
        self.all.contains(&session)
    }

    /// Adds a message; it leaves with the next [`Sessions::flush`].
    pub(crate) fn send(&mut self, id: SessionId, message: &ToClient) {
        let Some(session) = self.all.get_mut(&id) else {
            return;
        };
        if matches!(message, ToClient::Done { .. }) {
            session.port.count_answered();
        }
        if let ToClient::ValueChanged { handle, value } = message
            && (!session.values.is_empty() || session.waiting() >= self.hold_back)
        {
            session.values.insert(*handle, value.clone());
            return;
        }
        session.encode(message);
        if !session.dirty {
            session.dirty = true;
            self.dirty.push(id);
        }
    }

    /// From now on the session gets events.
    pub(crate) fn subscribe(&mut self, id: SessionId) {
        if let Some(session) = self.all.get_mut(&id)
            && !session.subscribed
        {
            session.subscribed = true;
            self.subscribers.push(id);
        }
    }

    /// Adds an event for everyone who wants events and reads them.
    pub(crate) fn tell(&mut self, event: &Event) {
        for i in 0..self.subscribers.len() {
            self.tell_one(self.subscribers[i], event);
        }
    }

    /// Adds an event for one session, unless too much waits for it already.
    pub(crate) fn tell_one(&mut self, id: SessionId, event: &Event) {
        let Some(session) = self.all.get_mut(&id) else {
            return;
        };
        // Those that were dropped are told before any other.
        if session.missed > 0 || session.waiting() >= self.hold_back {
            session.missed += 1;
            return;
        }
        self.send(id, &ToClient::Event(event.clone()));
    }

    /// The socket of a session takes bytes again.
    pub(crate) fn writable(&mut self, id: SessionId) {
        if let Some(session) = self.all.get_mut(&id) {
            session.blocked = false;
            if !session.dirty {
                session.dirty = true;
                self.dirty.push(id);
            }
        }
    }

    /// Writes to every session that has something to write, once. Returns the sessions that had to
    /// be closed for it.
    pub(crate) fn flush(&mut self) -> Vec<SessionId> {
        let mut closed = Vec::new();
        for id in std::mem::take(&mut self.dirty) {
            let Some(session) = self.all.get_mut(&id) else {
                continue;
            };
            session.dirty = false;
            let mut works = true;
            if !session.blocked {
                works = session.write();
                if works && session.missed > 0 && session.waiting() < self.hold_back / 2 {
                    let missed = std::mem::take(&mut session.missed);
                    session.encode(&ToClient::EventsMissed(missed));
                    works = session.blocked || session.write();
                }
                if works && session.waiting() < self.hold_back / 2 {
                    works = session.tell_values(self.hold_back);
                }
                if works && session.blocked {
                    let (inbox, write) = (Arc::clone(&self.inbox), Arc::clone(&session.write));
                    tokio::spawn(async move {
                        // An error shows at the next write.
                        let _ = write.writable().await;
                        inbox.push(Arrival::Writable { session: id });
                    });
                }
            }
            let waiting = session.waiting();
            session.port.set_waiting(waiting);
            if waiting > BUFFER_MAX {
                tracing::warn!(
                    session = %id, waiting,
                    "closing a client that does not read what it asked for"
                );
                works = false;
            }
            if !works {
                self.drop_now(id);
                closed.push(id);
            }
        }
        closed
    }

    /// Closes a session after what waits for it has been written. A client that does not read gets
    /// [`PATIENCE`].
    pub(crate) fn close(&mut self, id: SessionId) {
        let Some(mut session) = self.forget(id) else {
            return;
        };
        if !session.blocked && !session.write() {
            return;
        }
        if session.waiting() == 0 {
            return;
        }
        tokio::spawn(async move {
            let rest = async {
                while session.sent < session.out.len() {
                    session.write.writable().await?;
                    match session.write.try_write(&session.out[session.sent..]) {
                        Ok(n) => session.sent += n,
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                        Err(error) => return Err(error),
                    }
                }
                io::Result::Ok(())
            };
            // Either way the connection is closed now.
            let _ = timeout(PATIENCE, rest).await;
        });
    }

    /// Closes a session without another word.
    pub(crate) fn drop_now(&mut self, id: SessionId) {
        self.forget(id);
    }

    fn forget(&mut self, id: SessionId) -> Option<Session> {
        let session = self.all.remove(&id)?;
        session.port.stop_reading();
        if session.subscribed {
            self.subscribers.retain(|s| *s != id);
        }
        Some(session)
    }

    /// All sessions, in the order of their numbers.
    pub(crate) fn ids(&self) -> Vec<SessionId> {
        self.all.sorted_keys()
    }
}
