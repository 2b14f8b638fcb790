//! Handing the page over a UNIX stream socket.

use rustix::{
    fd::{AsFd, BorrowedFd, OwnedFd},
    io::Errno,
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
        SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
    },
};
use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
};

/// The byte that carries the descriptor: `L` for lease.
const BYTE: u8 = b'L';

/// Why no page arrived.
#[derive(Debug, thiserror::Error)]
pub enum PassError {
    /// The kernel refused the call; `WouldBlock` if nothing has arrived yet on a socket that does
    /// not block.
    #[error("cannot receive the lease page: {0}")]
    Os(#[from] io::Error),
    /// The other side closed the connection first.
    #[error("the other side closed the connection before it sent a lease page")]
    Closed,
    /// Something else arrived.
    #[error("the other side did not begin with a lease page; is it a Mainstay daemon?")]
    NoPage,
}

/// Sends one byte with the page's descriptor attached. The first thing that a daemon sends.
///
/// # Errors
/// If the socket is closed, or would block because the client has not read what came before.
pub fn send_page(socket: impl AsFd, page: BorrowedFd<'_>) -> io::Result<()> {
    let fds = [page];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(io::ErrorKind::OutOfMemory.into());
    }
    loop {
        match sendmsg(
            &socket,
            &[IoSlice::new(&[BYTE])],
            &mut control,
            SendFlags::NOSIGNAL,
        ) {
            Err(Errno::INTR) => {}
            sent => return sent.map(drop).map_err(io::Error::from),
        }
    }
}

/// Receives what [`send_page`] sent; everything after it stays in the socket.
///
/// # Errors
/// As [`PassError`] says.
pub fn receive_page(socket: impl AsFd) -> Result<OwnedFd, PassError> {
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let bytes = loop {
        match recvmsg(
            &socket,
            &mut [IoSliceMut::new(&mut byte)],
            &mut control,
            RecvFlags::CMSG_CLOEXEC,
        ) {
            Err(Errno::INTR) => {}
            received => break received.map_err(io::Error::from)?.bytes,
        }
    };
    if bytes == 0 {
        return Err(PassError::Closed);
    }
    let fd = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
        _ => None,
    });
    match fd {
        Some(fd) if byte == [BYTE] => Ok(fd),
        _ => Err(PassError::NoPage),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{LeasePage, LeaseView};
    use mainstay_base::Instant;
    use std::{
        io::{Read, Write},
        os::unix::net::UnixStream,
    };

    /// Protects the first step of every session: the page that arrives is the page that was sent,
    /// and what follows it on the stream is not swallowed.
    #[test]
    fn page_crosses_the_socket() {
        let (mut daemon, mut client) = UnixStream::pair().unwrap();
        let (mut page, fd) = LeasePage::create(3).unwrap();
        send_page(&daemon, fd.as_fd()).unwrap();
        daemon.write_all(b"after").unwrap();
        let view = LeaseView::open(receive_page(&client).unwrap()).unwrap();
        page.set_lease(Instant(77));
        assert_eq!(
            (view.read().generation, view.read().until),
            (3, Instant(77))
        );
        let mut rest = [0; 5];
        client.read_exact(&mut rest).unwrap();
        assert_eq!(&rest, b"after");
    }

    /// Protects a client that connects to something else: a clear error, no hang.
    #[test]
    fn other_greetings_are_told_apart() {
        let (mut daemon, client) = UnixStream::pair().unwrap();
        daemon.write_all(b"HTTP/1.1").unwrap();
        assert!(matches!(receive_page(&client), Err(PassError::NoPage)));
        let (daemon, client) = UnixStream::pair().unwrap();
        client.set_nonblocking(true).unwrap();
        let early = receive_page(&client);
        assert!(
            matches!(early, Err(PassError::Os(e)) if e.kind() == io::ErrorKind::WouldBlock),
            "nothing sent yet"
        );
        drop(daemon);
        assert!(matches!(receive_page(&client), Err(PassError::Closed)));
    }
}
