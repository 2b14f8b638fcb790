//! Reading from one client.

use super::{CHOKE, PATIENCE, UNANSWERED_MAX, accept::Doorway};
use crate::inbox::Arrival;
use mainstay_base::SessionId;
use mainstay_wire::{
    client::{Ask, FromClient, HEADER_LEN, MESSAGE_LEN_MAX},
    codec,
    keep::SessionKey,
    report::OwnerReport,
};
use rustix::fd::AsFd;
use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, Interest},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::Notify,
    task::AbortHandle,
    time::timeout,
};

/// Bytes that a session's buffer keeps while it has nothing to read.
const IDLE_BUFFER: usize = 4096;
/// Most bytes read at once.
const READ_MAX: usize = 64 << 10;
/// Longest command kept of what a client says of itself, in bytes.
const COMMAND_MAX: usize = 256;
/// How often a session that may not be read is looked at for its end.
const PEEK: Duration = Duration::from_millis(100);

/// Closed while the node can take no more work.
#[derive(Debug, Default)]
pub(crate) struct Gate {
    closed: AtomicBool,
    opened: Notify,
}

impl Gate {
    pub(crate) fn set_closed(&self, closed: bool) {
        if self.closed.swap(closed, Ordering::Relaxed) && !closed {
            self.opened.notify_waiters();
        }
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }
}

/// What the main loop and a session's reader share.
#[derive(Debug, Default)]
pub(crate) struct SessionPort {
    unanswered: AtomicUsize,
    /// The client does not take what it asked for.
    choked: AtomicBool,
    /// The session outlives its connection.
    kept: AtomicBool,
    resume: Notify,
    reader: OnceLock<AbortHandle>,
}

impl SessionPort {
    pub(crate) fn count_asked(&self, requests: usize) {
        self.unanswered.fetch_add(requests, Ordering::Relaxed);
    }

    /// One request was answered.
    pub(crate) fn count_answered(&self) {
        // Never below zero: a reader that took that for very many would not read again.
        let less = |open: usize| open.checked_sub(1);
        let (set, get) = (Ordering::Relaxed, Ordering::Relaxed);
        if self.unanswered.fetch_update(set, get, less) == Ok(UNANSWERED_MAX / 2 + 1) {
            self.resume.notify_one();
        }
    }

    /// Whether no request but one is unanswered or waits to be looked at.
    pub(super) fn has_one_open(&self) -> bool {
        self.unanswered.load(Ordering::Relaxed) == 1
    }

    /// From now on the session outlives its connection.
    pub(super) fn keep(&self) {
        self.kept.store(true, Ordering::Relaxed);
    }

    /// Remembers the task that reads.
    pub(crate) fn set_reader(&self, reader: AbortHandle) {
        // Set once, by the one who spawned it.
        let _ = self.reader.set(reader);
    }

    /// Reads no more.
    pub(crate) fn stop_reading(&self) {
        if let Some(reader) = self.reader.get() {
            reader.abort();
        }
    }

    /// Tells how many bytes wait for the client.
    pub(crate) fn set_waiting(&self, bytes: usize) {
        if bytes > CHOKE {
            self.choked.store(true, Ordering::Relaxed);
        } else if bytes < CHOKE / 2 && self.choked.swap(false, Ordering::Relaxed) {
            self.resume.notify_one();
        }
    }

    fn is_full(&self) -> bool {
        self.unanswered.load(Ordering::Relaxed) >= UNANSWERED_MAX
            || self.choked.load(Ordering::Relaxed)
    }
}

/// What a client's first words were.
#[derive(Debug)]
pub(crate) enum Greeting {
    /// A hello.
    Hello {
        /// Its number.
        request: u64,
        /// Oldest and newest protocol versions that the client speaks.
        versions: (u16, u16),
    },
    /// It wants to continue a session.
    Reattach {
        session: SessionId,
        key: SessionKey,
        heard: u64,
    },
}

/// A client that has introduced itself.
#[derive(Debug)]
pub(crate) struct Newcomer {
    /// The number of the connection, and of its session if it gets a new one.
    pub(crate) session: SessionId,
    pub(crate) greeting: Greeting,
    pub(crate) owner: OwnerReport,
    /// The group with which it connected.
    pub(crate) group: u32,
    pub(crate) privileged: bool,
    pub(crate) write: OwnedWriteHalf,
    pub(crate) port: Arc<SessionPort>,
}

/// Serves one connection until it ends.
pub(crate) async fn serve(
    stream: UnixStream,
    session: SessionId,
    port: Arc<SessionPort>,
    doorway: Doorway,
) {
    if let Err(error) = mainstay_lease::send_page(&stream, doorway.page.as_fd()) {
        tracing::debug!(%session, %error, "a client went away before it got the lease page");
        return;
    }
    let (pid, uid, group) = match stream.peer_cred() {
        Ok(cred) => (
            cred.pid().and_then(|p| u32::try_from(p).ok()).unwrap_or(0),
            cred.uid(),
            cred.gid(),
        ),
        Err(error) => {
            tracing::warn!(%session, %error, "cannot learn who a client is; refused");
            return;
        }
    };
    let (mut read, write) = stream.into_split();
    let mut buffer = Buffer::default();
    let hello = timeout(PATIENCE, first_message(&mut read, &mut buffer)).await;
    let (greeting, command) = match hello {
        Ok(Ok(Some(FromClient {
            request,
            ask: Ask::Hello { min, max, command },
        }))) => {
            let versions = (min, max);
            (Greeting::Hello { request, versions }, command)
        }
        Ok(Ok(Some(FromClient {
            request: 0,
            ask:
                Ask::Reattach {
                    session,
                    key,
                    heard,
                },
        }))) => {
            let greeting = Greeting::Reattach {
                session,
                key,
                heard,
            };
            (greeting, String::new())
        }
        Ok(Ok(None)) => return,
        Ok(Ok(Some(_))) => return refuse(session, pid, "its first message was not a hello"),
        Ok(Err(why)) => return refuse(session, pid, &why),
        Err(_) => return refuse(session, pid, "it did not say hello within 5 s"),
    };
    // As for every request: counted when asked, discounted when answered.
    port.count_asked(1);
    doorway.inbox.push(Arrival::Opened(Newcomer {
        session,
        greeting,
        owner: OwnerReport {
            pid,
            uid,
            command: shortened(command),
            orphan_ms: None,
            owner: mainstay_base::Owner::Session,
            broken: None,
        },
        group,
        privileged: uid == 0 || uid == rustix::process::geteuid().as_raw(),
        write,
        port: Arc::clone(&port),
    }));
    let last = read_on(session, &mut read, &mut buffer, &port, &doorway).await;
    doorway.inbox.push(last);
}

/// Reads and passes on until the connection ends; returns how it did.
async fn read_on(
    session: SessionId,
    read: &mut OwnedReadHalf,
    buffer: &mut Buffer,
    port: &SessionPort,
    doorway: &Doorway,
) -> Arrival {
    let mut batch = Vec::new();
    let mut ended = false;
    loop {
        // What the client sent together with its hello is in the buffer already.
        loop {
            match buffer.next_message() {
                Ok(Some(FromClient { request, ask })) => batch.push(Arrival::Asked {
                    session,
                    request,
                    ask,
                }),
                Ok(None) => break,
                Err(why) => {
                    doorway.inbox.push_all(&mut batch, port);
                    return Arrival::Broken { session, why };
                }
            }
        }
        doorway.inbox.push_all(&mut batch, port);
        while !ended && (doorway.gate.is_closed() || port.is_full()) {
            tokio::select! {
                () = doorway.gate.opened.notified() => {}
                () = port.resume.notified() => {}
                () = tokio::time::sleep(PEEK) => {
                    // Its locks are released even if what it had asked is not read any more.
                    let ready = timeout(Duration::ZERO, read.ready(Interest::READABLE)).await;
                    if matches!(ready, Ok(Ok(ready)) if ready.is_read_closed()) {
                        // What is left is short, and a goodbye may be in it, for want of which others
                        // would wait for the grace.
                        if !port.kept.load(Ordering::Relaxed) {
                            return Arrival::Closed { session };
                        }
                        ended = true;
                        break;
                    }
                }
            }
        }
        match buffer.fill(read).await {
            Ok(0) | Err(_) => return Arrival::Closed { session },
            Ok(_) => {}
        }
    }
}

async fn first_message(
    read: &mut OwnedReadHalf,
    buffer: &mut Buffer,
) -> Result<Option<FromClient>, String> {
    loop {
        if let Some(message) = buffer.next_message()? {
            return Ok(Some(message));
        }
        match buffer.fill(read).await {
            Ok(0) | Err(_) => return Ok(None),
            Ok(_) => {}
        }
    }
}

fn refuse(session: SessionId, pid: u32, why: &str) {
    tracing::warn!(%session, pid, "refused a client: {why}");
}

/// At most [`COMMAND_MAX`] bytes, without control characters that could disturb a terminal.
fn shortened(command: String) -> String {
    let mut kept: String = command
        .chars()
        .take(COMMAND_MAX)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect();
    while kept.len() > COMMAND_MAX {
        kept.pop();
    }
    kept
}

/// Bytes read and not yet decoded.
#[derive(Debug, Default)]
struct Buffer {
    bytes: Vec<u8>,
    /// Where the next message begins.
    start: usize,
    /// How much to read at once: grows while reads come back full, shrinks while they do not.
    chunk: usize,
}

impl Buffer {
    /// Reads once; 0 at the end of the stream.
    async fn fill(&mut self, read: &mut OwnedReadHalf) -> std::io::Result<usize> {
        self.chunk = self.chunk.clamp(IDLE_BUFFER, READ_MAX);
        if self.start == self.bytes.len() {
            self.bytes.clear();
            if self.bytes.capacity() > 2 * self.chunk {
                self.bytes.shrink_to(self.chunk);
            }
        } else {
            self.bytes.drain(..self.start);
        }
        self.start = 0;
        self.bytes
            .reserve(self.wanted().min(READ_MAX).max(self.chunk));
        let room = self.bytes.capacity() - self.bytes.len();
        let got = read.read_buf(&mut self.bytes).await?;
        if got == room {
            self.chunk *= 2;
        } else if got < self.chunk / 4 {
            self.chunk /= 2;
        }
        Ok(got)
    }

    /// Bytes missing of the message that has begun.
    fn wanted(&self) -> usize {
        match header(&self.bytes[self.start..]) {
            Some(len) => (HEADER_LEN + len).saturating_sub(self.bytes.len() - self.start),
            None => 0,
        }
    }

    /// The next whole message.
    fn next_message(&mut self) -> Result<Option<FromClient>, String> {
        let rest = &self.bytes[self.start..];
        let Some(len) = header(rest) else {
            return Ok(None);
        };
        if len > MESSAGE_LEN_MAX {
            return Err(format!(
                "a message of {len} bytes exceeds the limit of {MESSAGE_LEN_MAX}"
            ));
        }
        let Some(body) = rest.get(HEADER_LEN..HEADER_LEN + len) else {
            return Ok(None);
        };
        let message = codec::decode("client message", MESSAGE_LEN_MAX, body)
            .map_err(|error| error.to_string())?;
        self.start += HEADER_LEN + len;
        Ok(Some(message))
    }
}

fn header(bytes: &[u8]) -> Option<usize> {
    let header = bytes.first_chunk::<HEADER_LEN>()?;
    usize::try_from(u32::from_le_bytes(*header)).ok()
}
