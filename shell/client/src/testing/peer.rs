//! The daemon's end of a connection, played by hand.

use mainstay_base::{Instant, NodeId, NodeName, SessionId};
use mainstay_lease::{LeasePage, send_page};
use mainstay_wire::{
    client::{Answer, Ask, FromClient, HEADER_LEN, MESSAGE_LEN_MAX, PROTOCOL, ToClient, Welcome},
    codec,
    lock::Refusal,
};
use std::{
    fs,
    io::{self, Read, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

/// A socket in a directory of its own, and a lease page to hand out.
#[derive(Debug)]
pub struct Listener {
    pub(super) socket: UnixListener,
    pub(super) fd: OwnedFd,
    dir: PathBuf,
    path: PathBuf,
}

impl Listener {
    /// A new socket, and its page in `generation` without a lease.
    ///
    /// # Errors
    /// If the system refuses directory, socket or page.
    pub fn new(generation: u64) -> io::Result<(Listener, LeasePage)> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("mainstay-fake-{}-{count}", std::process::id());
        let dir = std::env::temp_dir().join(name);
        // Left over from a killed process of the same number.
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir(&dir)?;
        let path = dir.join("daemon.sock");
        let socket = UnixListener::bind(&path)?;
        let (page, fd) = LeasePage::create(generation).map_err(io::Error::other)?;
        let listener = Listener {
            socket,
            fd,
            dir,
            path,
        };
        Ok((listener, page))
    }

    /// Where clients connect.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Accepts a client and sends it the page.
    ///
    /// # Errors
    /// If the system refuses.
    pub fn accept(&self) -> io::Result<Peer> {
        let (stream, _) = self.socket.accept()?;
        send_page(&stream, self.fd.as_fd())?;
        Ok(Peer { stream })
    }

    /// Accepts a client, and welcomes it as `session` of `generation`.
    ///
    /// # Errors
    /// If the system refuses, or the client does not begin with hello.
    pub fn welcome(&self, session: u64, generation: u64) -> io::Result<Peer> {
        let mut peer = self.accept()?;
        let hello = peer.hello()?;
        peer.welcome(hello, session, generation)?;
        Ok(peer)
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Nothing can be done if the directory does not go.
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// One client's connection.
#[derive(Debug)]
pub struct Peer {
    stream: UnixStream,
}

impl Peer {
    pub(super) fn share(&self) -> io::Result<Peer> {
        Ok(Peer {
            stream: self.stream.try_clone()?,
        })
    }

    /// Waits for the client's hello, and tells its number.
    pub(super) fn hello(&mut self) -> io::Result<u64> {
        let hello = self.recv()?.ok_or(io::ErrorKind::UnexpectedEof)?;
        match hello.ask {
            Ask::Hello { .. } => Ok(hello.request),
            other => Err(io::Error::other(format!("{other:?} instead of hello"))),
        }
    }

    /// Answers a hello.
    pub(super) fn welcome(&mut self, hello: u64, session: u64, generation: u64) -> io::Result<()> {
        let welcome = Answer::Welcome(Welcome {
            protocol: PROTOCOL,
            session: SessionId(session),
            node: NodeId(1),
            node_name: NodeName::new("fake").map_err(io::Error::other)?,
            cluster: "fake".to_owned(),
            cluster_id: None,
            generation,
            lease_until: Instant::ZERO,
        });
        self.done(hello, Ok(welcome))
    }

    /// Waits for the client's next call; none if it closed the connection.
    ///
    /// # Errors
    /// If the bytes are not a call, or the system refuses.
    pub fn recv(&mut self) -> io::Result<Option<FromClient>> {
        let mut header = [0; HEADER_LEN];
        match self.stream.read_exact(&mut header) {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            other => other?,
        }
        let len = usize::try_from(u32::from_le_bytes(header)).map_err(io::Error::other)?;
        if len > MESSAGE_LEN_MAX {
            return Err(io::Error::other(format!("a call of {len} bytes")));
        }
        let mut body = vec![0; len];
        self.stream.read_exact(&mut body)?;
        codec::decode("call", MESSAGE_LEN_MAX, &body)
            .map(Some)
            .map_err(io::Error::other)
    }

    /// Says something.
    ///
    /// # Errors
    /// If the client is gone.
    pub fn send(&mut self, message: &ToClient) -> io::Result<()> {
        self.send_bytes(&frame(message))
    }

    /// Ends a call.
    ///
    /// # Errors
    /// If the client is gone.
    pub fn done(&mut self, request: u64, result: Result<Answer, Refusal>) -> io::Result<()> {
        self.send(&ToClient::Done { request, result })
    }

    /// Sends any bytes.
    ///
    /// # Errors
    /// If the client is gone.
    pub fn send_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    pub(super) fn shut(&self) {
        // Fails if the client closed it first.
        let _ = self.stream.shutdown(std::net::Shutdown::Both);
    }
}

/// A message as it stands on the stream.
pub(crate) fn frame(message: &ToClient) -> Vec<u8> {
    let mut bytes = vec![0; HEADER_LEN];
    codec::encode(message, &mut bytes);
    let len = u32::try_from(bytes.len() - HEADER_LEN).unwrap_or(u32::MAX);
    bytes[..HEADER_LEN].copy_from_slice(&len.to_le_bytes());
    bytes
}
