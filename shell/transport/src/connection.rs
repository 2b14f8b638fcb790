//! One authenticated connection: its write buffer, its reader, its end.

use crate::{
    events::TransportEvent,
    inbox::Inbox,
    noise::Channel,
    reason::DownReason,
    shared::Shared,
    sync::lock,
    transport::SendError,
    wire::{FRAME_HEADER_LEN, sealed_len},
};
use mainstay_base::{BootId, LinkId, NodeId};
use std::{
    future::pending,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    io::AsyncReadExt,
    net::tcp::{OwnedReadHalf, OwnedWriteHalf},
    sync::{Notify, watch},
    time::timeout,
};

/// Beyond so many waiting bytes, sending writes at once instead of gathering until the flush.
const GATHER_MAX: usize = 64 << 10;
/// An empty write buffer with more capacity than this is given back.
const KEEP_MAX: usize = 256 << 10;
/// On shutdown: time for the last bytes to leave and for the peer to close.
const LINGER_TIME: Duration = Duration::from_millis(500);

/// One authenticated connection.
pub(crate) struct Connection {
    pub(crate) peer: NodeId,
    pub(crate) link: LinkId,
    /// Where the connection stands in the table of links.
    pub(crate) slot: usize,
    pub(crate) boot: BootId,
    pub(crate) address: SocketAddr,
    write: OwnedWriteHalf,
    state: Mutex<State>,
    /// The socket was full; the writer has to go on when it is not.
    want_write: Notify,
    stop: Notify,
}

struct State {
    channel: Channel,
    /// Sealed frames; those before `written` have left.
    buffer: Vec<u8>,
    written: usize,
    /// In the transport's list of connections to be flushed.
    listed: bool,
    /// Writing failed. The reader learns the cause by itself, after what the peer still sent.
    broken: bool,
}

impl Connection {
    pub(crate) fn new(
        (peer, link, slot): (NodeId, LinkId, usize),
        boot: BootId,
        address: SocketAddr,
        write: OwnedWriteHalf,
        channel: Channel,
    ) -> Connection {
        Connection {
            peer,
            link,
            slot,
            boot,
            address,
            write,
            state: Mutex::new(State {
                channel,
                buffer: Vec::new(),
                written: 0,
                listed: false,
                broken: false,
            }),
            want_write: Notify::new(),
            stop: Notify::new(),
        }
    }

    /// Seals a frame into the write buffer. True if the connection has to be put on the list of
    /// those to be flushed.
    pub(crate) fn enqueue(&self, frame: &[u8], queue_max: usize) -> Result<bool, SendError> {
        let mut state = lock(&self.state);
        if state.broken {
            return Err(SendError::NotConnected);
        }
        let cost = FRAME_HEADER_LEN + sealed_len(frame.len());
        if state.waiting() > 0 && state.waiting() + cost > queue_max {
            self.write_some(&mut state);
            if state.waiting() > 0 && state.waiting() + cost > queue_max {
                return Err(SendError::Backlog);
            }
        }
        let State {
            channel, buffer, ..
        } = &mut *state;
        channel.seal(frame, buffer);
        if state.waiting() >= GATHER_MAX {
            self.write_some(&mut state);
        }
        Ok(!std::mem::replace(&mut state.listed, true))
    }

    /// Writes what the socket takes now, and leaves the list of those to be flushed.
    pub(crate) fn flush(&self) {
        let mut state = lock(&self.state);
        state.listed = false;
        self.write_some(&mut state);
    }

    fn write_some(&self, state: &mut State) {
        while !state.broken && state.waiting() > 0 {
            match self.write.try_write(&state.buffer[state.written..]) {
                Ok(n) => state.written += n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    state.compact();
                    self.want_write.notify_one();
                    return;
                }
                Err(_) => state.broken = true,
            }
        }
        state.written = 0;
        state.buffer.clear();
        if state.buffer.capacity() > KEEP_MAX {
            state.buffer = Vec::new();
        }
    }

    /// Ends the connection at once. Both sides notice.
    pub(crate) fn close(&self) {
        self.stop.notify_one();
        // Fails only if the connection has ended already.
        let _ = rustix::net::shutdown(self.write.as_ref(), rustix::net::Shutdown::Both);
    }

    /// Writes whenever the socket was full and has space again. Never ends.
    async fn keep_writing(&self) -> DownReason {
        loop {
            self.want_write.notified().await;
            // An error is the reader's to report; a write shows it as well.
            if self.write.writable().await.is_err() {
                return pending().await;
            }
            self.write_some(&mut lock(&self.state));
        }
    }

    /// Reads until the connection ends.
    async fn keep_reading(&self, shared: &Shared, half: &mut OwnedReadHalf) -> DownReason {
        let mut inbox = Inbox::new();
        let mut batch = Vec::new();
        loop {
            match half.read(inbox.space()).await {
                Ok(0) => return DownReason::Closed,
                Ok(n) => inbox.filled(n),
                Err(error) => return DownReason::Io(error.kind()),
            }
            let verdict = self.open_all(&mut inbox, &mut batch);
            if !batch.is_empty() {
                shared.deliver(self, &mut batch).await;
            }
            if let Err(reason) = verdict {
                return reason;
            }
        }
    }

    fn open_all(
        &self,
        inbox: &mut Inbox,
        batch: &mut Vec<TransportEvent>,
    ) -> Result<(), DownReason> {
        let channel = &mut lock(&self.state).channel;
        loop {
            let sealed = match inbox.next_sealed() {
                Ok(Some(sealed)) => sealed,
                Ok(None) => return Ok(()),
                Err(len) => return Err(DownReason::FrameLength(len)),
            };
            let bytes = channel.open(sealed).map_err(|_| DownReason::Tampered)?;
            batch.push(TransportEvent::Frame {
                peer: self.peer,
                link: self.link,
                bytes,
            });
        }
    }

    /// Lets the last bytes leave, says goodbye, and waits for the peer to do so.
    async fn linger(&self, half: &mut OwnedReadHalf) -> io::Result<()> {
        self.flush();
        while lock(&self.state).waiting() > 0 {
            self.write.writable().await?;
            self.flush();
        }
        rustix::net::shutdown(self.write.as_ref(), rustix::net::Shutdown::Write)?;
        let mut rest = vec![0; 16 << 10];
        while half.read(&mut rest).await? > 0 {}
        Ok(())
    }
}

impl State {
    fn waiting(&self) -> usize {
        self.buffer.len() - self.written
    }

    /// Forgets what has left, once that is the larger part: each byte is moved at most once.
    fn compact(&mut self) {
        if self.written > self.buffer.len() / 2 {
            self.buffer.drain(..self.written);
            self.written = 0;
        }
    }
}

/// A connection in the table of links, as long as it lives.
pub(crate) struct Live {
    shared: Arc<Shared>,
    pub(crate) connection: Arc<Connection>,
    ended: DownReason,
}

impl Live {
    pub(crate) fn new(shared: Arc<Shared>, connection: Arc<Connection>) -> Live {
        Live {
            shared,
            connection,
            ended: DownReason::Shutdown,
        }
    }

    /// Carries frames until the connection ends, and tells why it did.
    pub(crate) async fn run(
        mut self,
        mut half: OwnedReadHalf,
        mut stopping: watch::Receiver<bool>,
    ) {
        let connection = Arc::clone(&self.connection);
        let ended = tokio::select! {
            reason = connection.keep_reading(&self.shared, &mut half) => Some(reason),
            reason = connection.keep_writing() => Some(reason),
            () = connection.stop.notified() => Some(DownReason::Closed),
            _ = stopping.wait_for(|s| *s) => None,
        };
        match ended {
            Some(reason) => self.ended = reason,
            None => {
                // The peer may be gone or stuck; then the rest is lost as with any broken link.
                let _ = timeout(LINGER_TIME, connection.linger(&mut half)).await;
            }
        }
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.shared.unregister(&self.connection, self.ended);
        self.connection.close();
    }
}
