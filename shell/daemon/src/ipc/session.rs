//! Writing to clients: what the main loop keeps of each session.

use super::{
    BUFFER_MAX, EVENTS_BUFFER_MAX, PATIENCE,
    reader::{Newcomer, SessionPort},
};
use crate::inbox::{Arrival, SharedInbox};
use mainstay_base::{FixedMap, SessionId, Value};
use mainstay_wire::{
    client::{Answer, HEADER_LEN, Handle, ToClient},
    codec,
    event::Event,
    lock::Refusal,
};
use std::{collections::BTreeMap, io, sync::Arc};
use tokio::{net::unix::OwnedWriteHalf, time::timeout};

/// A buffer that grew beyond this is given back once nothing waits in it.
const BUFFER_KEPT: usize = 64 << 10;

#[derive(Debug)]
struct Session {
    /// The number of its connection: its own, unless it was continued on another.
    connection: SessionId,
    /// It outlives its connection, and what it is told is counted: nothing may be held back.
    kept: bool,
    write: Arc<OwnedWriteHalf>,
    port: Arc<SessionPort>,
    /// Encoded and not yet written, from `sent` on.
    out: Vec<u8>,
    sent: usize,
    /// The socket is full; a task waits until it takes bytes again.
    blocked: bool,
    /// The client of a kept session takes nothing any more. What it has said before is still read: a
    /// goodbye may be among it.
    deaf: bool,
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
    fn new(newcomer: Newcomer) -> Session {
        Session {
            connection: newcomer.session,
            kept: false,
            write: Arc::new(newcomer.write),
            port: newcomer.port,
            out: Vec::new(),
            sent: 0,
            blocked: false,
            deaf: false,
            dirty: false,
            subscribed: false,
            missed: 0,
            values: BTreeMap::new(),
        }
    }

    /// Its client takes nothing any more. The node remembers what it is told.
    fn deafen(&mut self) {
        self.deaf = true;
        self.out = Vec::new();
        self.sent = 0;
    }

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
    /// A connection of which the node has yet to say whose it is.
    arriving: Option<Session>,
    /// The sessions of connections that did not begin them.
    continued: FixedMap<SessionId, SessionId>,
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
            arriving: None,
            continued: FixedMap::new(),
            dirty: Vec::new(),
            subscribers: Vec::new(),
            hold_back: EVENTS_BUFFER_MAX,
        }
    }

    pub(crate) fn open(&mut self, newcomer: Newcomer) {
        self.all.insert(newcomer.session, Session::new(newcomer));
    }

    /// A connection waits to become that of a session that goes on.
    pub(crate) fn arrive(&mut self, newcomer: Newcomer) {
        self.arriving = Some(Session::new(newcomer));
    }

    /// Closes a connection without a word: its client tries again.
    pub(crate) fn put_off(&mut self, newcomer: &Newcomer) {
        newcomer.port.stop_reading();
    }

    /// The connection that waits is that of a session from now on. One that the session still has is
    /// told so, and closed.
    pub(crate) fn reattach(&mut self, id: SessionId, connection: SessionId, unanswered: u64) {
        let arrived = self.arriving.take();
        let Some(mut new) = arrived.filter(|new| new.connection == connection) else {
            return;
        };
        if self.contains(id) {
            let reason = "the session goes on, on another connection".to_owned();
            self.send(id, &ToClient::SessionLost { reason });
            self.close(id);
        }
        new.kept = true;
        new.port.keep();
        new.port
            .count_asked(usize::try_from(unanswered).unwrap_or(usize::MAX / 2));
        self.all.insert(id, new);
        self.continued.insert(connection, id);
    }

    /// The connection that waits is refused, and closed.
    pub(crate) fn turn_away(&mut self, connection: SessionId, why: Refusal) {
        let arrived = self.arriving.take();
        if let Some(session) = arrived.filter(|new| new.connection == connection) {
            self.all.insert(connection, session);
            let result = Err(why);
            self.send(connection, &ToClient::Done { request: 0, result });
            self.close(connection);
        }
    }

    /// The session whose connection this is, if it still is.
    pub(crate) fn on(&self, connection: SessionId) -> Option<SessionId> {
        let id = *self.continued.get(&connection).unwrap_or(&connection);
        let session = self.all.get(&id)?;
        (session.connection == connection).then_some(id)
    }

    /// A request was read that will not be answered.
    pub(crate) fn ignore(&mut self, id: SessionId) {
        if let Some(session) = self.all.get(&id) {
            session.port.count_answered();
        }
    }

    /// Whether a session can be kept from its present request on: nothing else is open, and nothing
    /// held back, which would be told later without being counted.
    pub(crate) fn may_be_kept(&self, id: SessionId) -> bool {
        let session = self.all.get(&id);
        session.is_some_and(|s| s.port.has_one_open() && s.values.is_empty())
    }

    /// Whether a session gets events.
    pub(crate) fn is_subscribed(&self, id: SessionId) -> bool {
        self.all.get(&id).is_some_and(|session| session.subscribed)
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
            && !session.kept
            && (!session.values.is_empty() || session.waiting() >= self.hold_back)
        {
            session.values.insert(*handle, value.clone());
            return;
        }
        if session.deaf {
            return;
        }
        if matches!(
            message,
            ToClient::Done {
                result: Ok(Answer::Kept { .. }),
                ..
            }
        ) {
            session.kept = true;
            session.port.keep();
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

    /// A connection takes bytes again.
    pub(crate) fn writable(&mut self, connection: SessionId) {
        let Some(id) = self.on(connection) else {
            return;
        };
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
                    let connection = session.connection;
                    tokio::spawn(async move {
                        // An error shows at the next write.
                        let _ = write.writable().await;
                        inbox.push(Arrival::Writable {
                            session: connection,
                        });
                    });
                }
            }
            if !works && session.kept {
                // Its reader comes to the end of what there is, and says so.
                session.deafen();
                works = true;
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
        self.continued.remove(&session.connection);
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
