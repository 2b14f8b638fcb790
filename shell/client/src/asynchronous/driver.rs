//! The task that reads a session's socket, and sends what the socket did not take at once.

use crate::{
    connect::Config,
    core::{Core, RETRY_FIRST, RETRY_LAST, connect_once},
    resume::{Attempt, attempt},
    session::{CLOSED, READ_LEN, Session},
};
use rustix::{
    io::Errno,
    net::{RecvFlags, recv},
};
use std::{
    future::poll_fn,
    os::{
        fd::{AsRawFd, RawFd},
        unix::net::UnixStream,
    },
    sync::{Arc, Weak},
    task::{Context, Poll},
    time::Duration,
};
use tokio::io::{Interest, unix::AsyncFd};

struct Socket(Arc<UnixStream>);

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

/// Ends the session when its task goes, whatever the reason: without a reader nothing works.
struct Closing(Arc<Session>);

impl Drop for Closing {
    fn drop(&mut self) {
        self.0
            .close("the tokio runtime that the client was connected in has ended");
    }
}

/// Starts the reader of a session, which ends with the session, or with `core` if it is to connect
/// again.
pub(crate) fn spawn(session: Arc<Session>, core: &Arc<Core>) {
    let config = core.config.clone();
    let core = Arc::downgrade(core);
    tokio::spawn(async move {
        drive(session, &config).await;
        while let Some(next) = again(&core).await {
            drive(next, &config).await;
        }
    });
}

/// Connects until it succeeds; none if the client does not want that, or is gone.
async fn again(core: &Weak<Core>) -> Option<Arc<Session>> {
    let mut pause = RETRY_FIRST;
    loop {
        let (config, notices) = {
            let core = core.upgrade().filter(|core| core.config.auto_reconnect)?;
            if !core.session().is_over() {
                return None;
            }
            (core.config.clone(), core.notices.clone())
        };
        let attempt = tokio::task::spawn_blocking(move || connect_once(&config, &notices));
        match attempt.await.ok()? {
            Ok(session) => return core.upgrade()?.adopt(&session).then_some(session),
            Err(error) if error.is_transient() => tracing::debug!(%error, "cannot reconnect yet"),
            Err(error) => {
                tracing::warn!(%error, "cannot reconnect; this needs someone's hand");
                return None;
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(RETRY_LAST);
    }
}

async fn drive(session: Arc<Session>, config: &Config) {
    let _closing = Closing(session.clone());
    let mut buffer = vec![0; READ_LEN];
    while !session.is_over() {
        match session.socket() {
            Some(socket) => serve(&session, socket, &mut buffer).await,
            None => resume(&session, config).await,
        }
    }
}

/// Tries to continue the session until it goes on or is over.
async fn resume(session: &Arc<Session>, config: &Config) {
    let mut pause = Duration::ZERO;
    loop {
        let (session, config) = (session.clone(), config.clone());
        let tried = tokio::task::spawn_blocking(move || attempt(&session, &config, pause));
        match tried.await {
            Ok(Attempt::Failed(next)) => pause = next,
            Ok(Attempt::Ended) | Err(_) => return,
        }
        tokio::time::sleep(pause).await;
    }
}

/// The life of one connection.
async fn serve(session: &Session, socket: Arc<UnixStream>, buffer: &mut [u8]) {
    let interest = Interest::READABLE | Interest::WRITABLE;
    // SAFETY: the descriptor is that of the socket, which never changes and stays open as long as the
    // wrapper holds a share of it.
    let watched = unsafe { AsyncFd::register_with_interest(Socket(socket.clone()), interest) };
    let watched = match watched {
        Ok(watched) => watched,
        Err(error) => return session.close(&format!("cannot watch the socket: {error}")),
    };
    loop {
        let due = session.keep_alive();
        let alive = async {
            match due {
                Some(due) => tokio::time::sleep(due.since(mainstay_lease::now())).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            reason = poll_fn(|cx| poll_io(session, &watched, buffer, cx)) => {
                return session.broke(&socket, &reason);
            }
            () = alive => {}
        }
    }
}

fn poll_io(
    session: &Session,
    socket: &AsyncFd<Socket>,
    buffer: &mut [u8],
    cx: &mut Context<'_>,
) -> Poll<String> {
    let mut blocked = {
        let mut state = session.lock();
        if let Some(reason) = state.lost() {
            return Poll::Ready(reason.to_owned());
        }
        if !state
            .socket()
            .is_some_and(|s| Arc::ptr_eq(s, &socket.get_ref().0))
        {
            return Poll::Ready("there is another connection".to_owned());
        }
        if !state
            .driver
            .as_ref()
            .is_some_and(|w| w.will_wake(cx.waker()))
        {
            state.driver = Some(cx.waker().clone());
        }
        state.blocked
    };
    while let Poll::Ready(ready) = socket.poll_read_ready(cx) {
        let mut ready = match ready {
            Ok(ready) => ready,
            Err(error) => return Poll::Ready(format!("cannot wait for the daemon: {error}")),
        };
        match recv(&socket.get_ref().0, &mut *buffer, RecvFlags::DONTWAIT) {
            Ok((_, 0)) => return Poll::Ready(CLOSED.to_owned()),
            Ok((_, len)) => {
                // Less than asked for: the socket is empty, and what comes later makes it ready.
                if len < buffer.len() {
                    ready.clear_ready();
                }
                session.received(&socket.get_ref().0, &buffer[..len]);
            }
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => ready.clear_ready(),
            Err(errno) => return Poll::Ready(format!("cannot read from the daemon: {errno}")),
        }
    }
    while blocked {
        match socket.poll_write_ready(cx) {
            Poll::Pending => break,
            Poll::Ready(Err(error)) => {
                return Poll::Ready(format!("cannot wait for the daemon: {error}"));
            }
            Poll::Ready(Ok(mut ready)) => {
                // Assume that it still is full; if it is not, nothing is left to wait for.
                ready.clear_ready();
                session.unblock();
                let mut state = session.lock();
                blocked = state.blocked;
                if blocked {
                    state.driver = Some(cx.waker().clone());
                }
            }
        }
    }
    Poll::Pending
}
