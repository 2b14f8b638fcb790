//! Who reads the socket of a blocking client.
//!
//! A thread that waits for an answer reads the socket itself when nobody else does (the leader),
//! and so gets its answer with no other thread in between. Others that wait meanwhile (followers)
//! sleep until the leader has read something, and one of them leads when it has its answer. A
//! thread of the client's own leads when no call has been made for a moment, so that notices and
//! the end of the session are heard, and sends what the socket did not take at once.

use crate::{
    LockError,
    connect::{Config, wait_for},
    core::{Core, RETRY_FIRST, RETRY_LAST, connect_once},
    resume::{Attempt, attempt},
    session::{CLOSED, Session, State},
};
use mainstay_wire::client::Answer;
use rustix::{
    event::{PollFd, PollFlags},
    io::Errno,
    net::{RecvFlags, recv},
};
use std::{
    io,
    os::unix::net::UnixStream,
    sync::{Arc, MutexGuard, PoisonError, Weak},
    thread,
    time::{Duration, Instant},
};

/// How long without calls before the client's own thread reads.
const QUIET: Duration = Duration::from_millis(2);
/// How long to leave alone, at most, a thread that reads and goes on reading.
const QUIET_LONG: Duration = Duration::from_millis(64);

/// Waits until `test` finds what it looks for, reading the socket if nobody else does. `None`: the
/// deadline passed, or the session is over and `test` still found nothing.
pub(crate) fn wait<T>(
    session: &Session,
    deadline: Option<Instant>,
    mut test: impl FnMut(&mut State) -> Option<T>,
) -> Option<T> {
    let mut state = session.lock();
    state.waits += 1;
    loop {
        session.flush_locked(&mut state);
        let found = test(&mut state);
        let late = deadline.is_some_and(|deadline| Instant::now() >= deadline);
        if found.is_some() || late || state.lost().is_some() {
            return found;
        }
        state = if state.leader || state.socket().is_none() {
            follow(session, state, deadline)
        } else {
            lead(session, state, deadline)
        };
    }
}

fn follow<'a>(
    session: &'a Session,
    mut state: MutexGuard<'a, State>,
    deadline: Option<Instant>,
) -> MutexGuard<'a, State> {
    state.followers += 1;
    let mut state = match deadline {
        None => session
            .turn
            .wait(state)
            .unwrap_or_else(PoisonError::into_inner),
        Some(deadline) => {
            let left = deadline.saturating_duration_since(Instant::now());
            let waited = session.turn.wait_timeout(state, left);
            waited.unwrap_or_else(PoisonError::into_inner).0
        }
    };
    state.followers -= 1;
    state
}

/// Reads once, without the mutex.
fn lead<'a>(
    session: &'a Session,
    mut state: MutexGuard<'a, State>,
    deadline: Option<Instant>,
) -> MutexGuard<'a, State> {
    let Some(socket) = state.socket().cloned() else {
        return state;
    };
    state.leader = true;
    let mut buffer = std::mem::take(&mut state.buffer);
    drop(state);
    // Without a deadline the read itself waits: one system call instead of two.
    let mut flags = RecvFlags::empty();
    if deadline.is_some() {
        flags |= RecvFlags::DONTWAIT;
        let mut fds = [PollFd::new(&socket, PollFlags::IN)];
        // An error of poll will come back from recv.
        let _ = wait_for(&mut fds, deadline);
    }
    read(session, &socket, &mut buffer, flags);
    let mut state = session.lock();
    state.buffer = buffer;
    state.leader = false;
    if state.followers > 0 {
        session.turn.notify_all();
    }
    state
}

fn read(session: &Session, socket: &Arc<UnixStream>, buffer: &mut [u8], flags: RecvFlags) {
    match recv(socket, &mut *buffer, flags) {
        Ok((_, 0)) => session.broke(socket, CLOSED),
        Ok((_, len)) => session.received(socket, &buffer[..len]),
        Err(Errno::INTR | Errno::AGAIN) => {}
        Err(errno) => session.broke(socket, &format!("cannot read from the daemon: {errno}")),
    }
}

/// Waits for the end of a call.
pub(crate) fn finish(
    session: &Session,
    request: u64,
    deadline: Option<Instant>,
) -> Option<Result<Answer, LockError>> {
    wait(session, deadline, |state| state.take_done(request))
}

/// Starts the thread that reads while no other does, and connects again if `core` wants it.
pub(crate) fn spawn(session: Arc<Session>, core: &Arc<Core>) -> io::Result<()> {
    let config = core.config.clone();
    let core = Arc::downgrade(core);
    thread::Builder::new()
        .name("mainstay-client".to_owned())
        .spawn(move || {
            stand_by(&session, &config);
            drop(session);
            while let Some(next) = again(&core) {
                stand_by(&next, &config);
            }
        })
        .map(drop)
}

/// The life of the client's own thread during one session.
fn stand_by(session: &Session, config: &Config) {
    let mut seen = None;
    let mut quiet = QUIET;
    loop {
        if session.is_broken() {
            resume(session, config);
        }
        // Whoever else reads may do so for long, and leaves this to us.
        let due = session.keep_alive();
        let mut state = session.lock();
        if state.lost().is_some() {
            return;
        }
        let busy = state.leader || state.followers > 0 || seen != Some(state.waits);
        let same = seen.replace(state.waits) == Some(state.waits);
        quiet = if same {
            (quiet * 2).min(QUIET_LONG)
        } else {
            QUIET
        };
        if busy && !state.blocked {
            // Somebody else reads, or soon will again.
            drop(session.standby.wait_timeout(state, quiet));
            continue;
        }
        let Some(socket) = state.socket().cloned() else {
            continue;
        };
        let lead = !state.leader;
        let blocked = state.blocked;
        state.leader = true;
        drop(state);
        look(session, &socket, lead, blocked, due);
        let mut state = session.lock();
        if lead {
            state.leader = false;
        }
        let followers = state.followers;
        drop(state);
        if followers > 0 {
            session.turn.notify_all();
        }
    }
}

/// Tries to continue the session until it goes on or is over.
fn resume(session: &Session, config: &Config) {
    let mut pause = Duration::ZERO;
    while let Attempt::Failed(next) = attempt(session, config, pause) {
        pause = next;
        thread::sleep(pause);
    }
}

/// Waits for the socket to have something, or to take something, or to be kicked; then does it.
fn look(
    session: &Session,
    socket: &Arc<UnixStream>,
    lead: bool,
    blocked: bool,
    due: Option<mainstay_base::Instant>,
) {
    let mut wanted = PollFlags::empty();
    if lead {
        wanted |= PollFlags::IN;
    }
    if blocked {
        wanted |= PollFlags::OUT;
    }
    let mut fds = [
        PollFd::new(socket, wanted),
        PollFd::new(&session.kick, PollFlags::IN),
    ];
    let due = due.map(|due| Instant::now() + due.since(mainstay_lease::now()));
    if !matches!(wait_for(&mut fds, due), Ok(true)) {
        return;
    }
    let (happened, kicked) = (fds[0].revents(), !fds[1].revents().is_empty());
    if kicked {
        // Only to make it unreadable again.
        let _ = rustix::io::read(&session.kick, &mut [0_u8; 8]);
    }
    if happened.contains(PollFlags::OUT) {
        session.unblock();
    }
    if lead && happened.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
        let mut buffer = std::mem::take(&mut session.lock().buffer);
        read(session, socket, &mut buffer, RecvFlags::DONTWAIT);
        session.lock().buffer = buffer;
    }
}

/// Connects until it succeeds; none if the client does not want that, or is gone.
fn again(core: &Weak<Core>) -> Option<Arc<Session>> {
    let mut pause = RETRY_FIRST;
    loop {
        let (config, notices) = {
            let core = core.upgrade().filter(|core| core.config.auto_reconnect)?;
            if !core.session().is_over() {
                return None;
            }
            (core.config.clone(), core.notices.clone())
        };
        match connect_once(&config, &notices) {
            Ok(session) => return core.upgrade()?.adopt(&session).then_some(session),
            Err(error) if error.is_transient() => tracing::debug!(%error, "cannot reconnect yet"),
            Err(error) => {
                tracing::warn!(%error, "cannot reconnect; this needs someone's hand");
                return None;
            }
        }
        thread::sleep(pause);
        pause = (pause * 2).min(RETRY_LAST);
    }
}
