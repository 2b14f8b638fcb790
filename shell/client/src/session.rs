//! One connection to the daemon, as both clients use it: the protocol machine behind a mutex, the
//! lease page, and the way to send without waiting. Who reads the socket differs; see
//! `asynchronous::driver` and `blocking::reader`.

use crate::{
    ClusterEvent, LeaseLost, LockError, Notice,
    connect::Connection,
    machine::{Happening, LockState, Machine},
    mailbox::Hub,
    spec::LockCall,
};
use mainstay_base::{FixedMap, Flags, Instant, LockspaceId};
use mainstay_lease::{Lease, LeaseView};
use mainstay_wire::client::{Answer, Ask, Handle, Welcome};
use rustix::{
    event::{EventfdFlags, eventfd},
    fd::OwnedFd,
    io::Errno,
    net::{SendFlags, send},
    process::getpid,
};
use std::{
    fmt,
    net::Shutdown,
    ops::Deref,
    os::unix::net::UnixStream,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

/// Where a call's end is kept until its caller asks for it.
enum Slot {
    Waiting(Option<Waker>),
    Done(Result<Answer, LockError>),
}

/// What changes while a session lives.
pub(crate) struct State {
    pub(crate) machine: Machine,
    /// Calls whose callers want to know; others end unnoticed.
    slots: FixedMap<u64, Slot>,
    /// Those who wait for something to change on a watched lock.
    lock_wakers: FixedMap<Handle, Vec<Waker>>,
    /// Those who watch the lease.
    lease_wakers: Vec<Waker>,
    /// The task that reads the socket.
    pub(crate) driver: Option<Waker>,
    /// The socket takes no more for now; whoever reads it also sends the rest.
    pub(crate) blocked: bool,
    /// Why the session is over.
    lost: Option<String>,
    /// The present connection.
    socket: Arc<UnixStream>,
    /// It broke then, and the session is to go on, on another.
    broken: Option<Instant>,
    /// Of the blocking client: a thread is reading the socket.
    pub(crate) leader: bool,
    /// Of the blocking client: threads that wait for the leader to read something for them.
    pub(crate) followers: usize,
    /// Of the blocking client: counted up with every wait.
    pub(crate) waits: u64,
    /// Of the blocking client: the leader's buffer.
    pub(crate) buffer: Vec<u8>,
}

impl State {
    /// The end of a call that has ended, once.
    pub(crate) fn take_done(&mut self, request: u64) -> Option<Result<Answer, LockError>> {
        match self.slots.get(&request)? {
            Slot::Waiting(_) => None,
            Slot::Done(_) => match self.slots.remove(&request) {
                Some(Slot::Done(result)) => Some(result),
                _ => None,
            },
        }
    }

    /// The connection, unless it broke.
    pub(crate) fn socket(&self) -> Option<&Arc<UnixStream>> {
        self.broken.is_none().then_some(&self.socket)
    }

    /// Why the session is over, if it is.
    pub(crate) fn lost(&self) -> Option<&str> {
        self.lost.as_deref()
    }

    fn check(&self) -> Result<(), LockError> {
        match &self.lost {
            None => Ok(()),
            Some(reason) => Err(LockError::SessionLost {
                reason: reason.clone(),
            }),
        }
    }

    fn expect(&mut self, request: u64) {
        self.slots.insert(request, Slot::Waiting(None));
    }

    fn finish(
        &mut self,
        request: u64,
        result: Result<Answer, LockError>,
        wakers: &mut Vec<Waker>,
    ) -> bool {
        let Some(slot) = self.slots.get_mut(&request) else {
            return false;
        };
        if let Slot::Waiting(waker) = std::mem::replace(slot, Slot::Done(result)) {
            wakers.extend(waker);
        }
        true
    }
}

/// Adds a waker that is to be woken on the next change.
fn register(wakers: &mut Vec<Waker>, cx: &Context<'_>) {
    if !wakers.iter().any(|w| w.will_wake(cx.waker())) {
        wakers.push(cx.waker().clone());
    }
}

pub(crate) struct Session {
    /// That of the daemon to which there was a connection last.
    page: RwLock<LeaseView>,
    pub(crate) welcome: Welcome,
    /// The process that made the connection; a forked child must not speak on it.
    pid: i32,
    /// The session is over. Beside the mutex, so that `is_valid` reads memory only.
    dead: AtomicBool,
    /// Until then, on the lease's clock, the daemon keeps the session for certain. Beside the mutex for
    /// the same reason.
    sure_until: AtomicU64,
    state: Mutex<State>,
    /// Of the blocking client: followers wait here.
    pub(crate) turn: Condvar,
    /// Of the blocking client: its reader thread waits here while other threads read.
    pub(crate) standby: Condvar,
    /// Readable when the blocking client's reader has to look up from the socket.
    pub(crate) kick: OwnedFd,
    /// Readable for ever once the session is over.
    pub(crate) over: OwnedFd,
    notices: Arc<Hub<Notice>>,
    pub(crate) events: Hub<ClusterEvent>,
}

impl Session {
    /// A session after its handshake. `machine` may already hold bytes that followed it.
    pub(crate) fn new(
        connection: Connection,
        notices: Arc<Hub<Notice>>,
    ) -> std::io::Result<Arc<Session>> {
        let Connection {
            socket,
            page,
            welcome,
            machine,
            early,
        } = connection;
        let socket = Arc::new(socket);
        let flags = EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK;
        let session = Arc::new(Session {
            page: RwLock::new(page),
            welcome,
            pid: getpid().as_raw_nonzero().get(),
            dead: AtomicBool::new(false),
            sure_until: AtomicU64::new(machine.sure_until().0),
            state: Mutex::new(State {
                machine,
                slots: FixedMap::new(),
                lock_wakers: FixedMap::new(),
                lease_wakers: Vec::new(),
                driver: None,
                blocked: false,
                lost: None,
                socket: socket.clone(),
                broken: None,
                leader: false,
                followers: 0,
                waits: 0,
                buffer: vec![0; READ_LEN],
            }),
            turn: Condvar::new(),
            standby: Condvar::new(),
            kick: eventfd(0, flags)?,
            over: eventfd(0, flags)?,
            notices,
            events: Hub::new(),
        });
        let mut told = Told::default();
        let mut state = session.lock();
        for happening in early {
            session.apply(&mut state, happening, &mut told);
        }
        drop(state);
        session.tell(told);
        session.received(&socket, &[]);
        Ok(session)
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // Calls.

    /// Queues a call; it leaves with the next [`Session::flush`].
    pub(crate) fn submit(&self, ask: Ask) -> Result<u64, LockError> {
        let mut state = self.lock();
        state.check()?;
        let request = state.machine.call(ask)?;
        state.expect(request);
        Ok(request)
    }

    /// Queues a request for, or the adoption of, a watched lock.
    pub(crate) fn submit_lock(
        &self,
        ask: impl FnOnce(Handle) -> Ask,
    ) -> Result<(Handle, u64), LockError> {
        let mut state = self.lock();
        state.check()?;
        let (handle, request) = state.machine.lock(ask)?;
        state.expect(request);
        Ok((handle, request))
    }

    /// Queues a conversion or unlock of a watched lock on which nothing is pending.
    pub(crate) fn submit_on(
        &self,
        handle: Handle,
        ask: impl FnOnce(&LockState) -> Ask,
    ) -> Result<u64, LockError> {
        let mut state = self.lock();
        state.check()?;
        let ask = match state.machine.watched(handle) {
            Some(lock) => ask(lock),
            None => return Err(mainstay_wire::lock::Refusal::NoSuchLock.into()),
        };
        let request = state.machine.call_on(handle, ask)?;
        state.expect(request);
        Ok(request)
    }

    /// Queues a request for a set of watched locks.
    pub(crate) fn submit_set(
        &self,
        lockspace: LockspaceId,
        calls: Vec<LockCall>,
        flags: Flags,
        timeout: Option<Duration>,
    ) -> Result<(Vec<Handle>, u64), LockError> {
        let mut state = self.lock();
        state.check()?;
        let (handles, request) = state.machine.lock_set(lockspace, calls, flags, timeout)?;
        state.expect(request);
        Ok((handles, request))
    }

    /// Queues a conversion or unlock of several watched locks on which nothing is pending.
    pub(crate) fn submit_on_many(&self, handles: &[Handle], ask: Ask) -> Result<u64, LockError> {
        let mut state = self.lock();
        state.check()?;
        let request = state.machine.call_on_many(handles, ask)?;
        state.expect(request);
        Ok(request)
    }

    /// Queues the release of all beneath a watched lock, and of that, if `itself`.
    pub(crate) fn submit_tree(&self, handle: Handle, itself: bool) -> Result<u64, LockError> {
        let mut state = self.lock();
        state.check()?;
        let request = state.machine.unlock_tree(handle, itself)?;
        state.expect(request);
        Ok(request)
    }

    /// The caller no longer cares how a call ends.
    pub(crate) fn forget(&self, request: u64) {
        let mut state = self.lock();
        state.slots.remove(&request);
        self.flush_locked(&mut state);
    }

    /// Cancels what is pending on a watched lock.
    pub(crate) fn cancel(&self, handle: Handle) {
        let mut state = self.lock();
        state.machine.cancel(handle);
        self.flush_locked(&mut state);
    }

    /// Lets go of a watched lock, whatever is pending on it.
    pub(crate) fn release(&self, handle: Handle) {
        let mut state = self.lock();
        state.machine.release(handle);
        self.flush_locked(&mut state);
    }

    pub(crate) fn poll_call(
        &self,
        request: u64,
        cx: &Context<'_>,
    ) -> Poll<Result<Answer, LockError>> {
        let mut state = self.lock();
        self.flush_locked(&mut state);
        if let Some(result) = state.take_done(request) {
            return Poll::Ready(result);
        }
        match state.slots.get_mut(&request) {
            Some(Slot::Waiting(Some(waker))) if waker.will_wake(cx.waker()) => {}
            Some(Slot::Waiting(waker)) => *waker = Some(cx.waker().clone()),
            _ => return Poll::Ready(Err(state.check().err().unwrap_or_else(forgotten))),
        }
        Poll::Pending
    }

    /// Waits until `test` finds on a watched lock what it looks for. `None`: the lock is gone or
    /// the session over.
    pub(crate) fn poll_watched<T>(
        &self,
        handle: Handle,
        cx: &Context<'_>,
        test: impl FnOnce(&mut LockState) -> Option<T>,
    ) -> Poll<Option<T>> {
        let mut state = self.lock();
        self.flush_locked(&mut state);
        let over = state.lost.is_some();
        let Some(lock) = state.machine.watched(handle) else {
            return Poll::Ready(None);
        };
        match test(lock) {
            None if !over => {}
            found => return Poll::Ready(found),
        }
        match state.lock_wakers.get_mut(&handle) {
            Some(wakers) => register(wakers, cx),
            None => {
                state.lock_wakers.insert(handle, vec![cx.waker().clone()]);
            }
        }
        Poll::Pending
    }

    // The lease.

    /// What the page shows.
    fn lease(&self) -> Lease {
        let page = self.page.read().unwrap_or_else(PoisonError::into_inner);
        page.read()
    }

    /// The session goes on: what counts is the page of the daemon that said so.
    pub(crate) fn turn_page(&self, page: LeaseView) {
        *self.page.write().unwrap_or_else(PoisonError::into_inner) = page;
    }

    /// Why locks of this session may not be relied on now; none if they may. Reads memory only,
    /// unless they may not.
    pub(crate) fn lease_lost(&self) -> Option<LeaseLost> {
        if !self.dead.load(Ordering::Acquire) {
            // The page before the clock, as in `LeaseView::holds`.
            let lease = self.lease();
            if lease.generation != self.welcome.generation {
                return Some(LeaseLost::Reborn);
            }
            let sure_until = Instant(self.sure_until.load(Ordering::Acquire));
            let now = mainstay_lease::now();
            if now >= lease.until {
                return Some(LeaseLost::Expired { until: lease.until });
            }
            return (now >= sure_until).then_some(LeaseLost::Silent { until: sure_until });
        }
        let reason = self.lock().lost.clone().unwrap_or_default();
        Some(LeaseLost::SessionLost { reason })
    }

    /// Until when locks of this session may be relied on; zero if not at all.
    pub(crate) fn valid_until(&self) -> Instant {
        let lease = self.lease();
        let ours = lease.generation == self.welcome.generation;
        if ours && !self.dead.load(Ordering::Acquire) {
            let sure_until = Instant(self.sure_until.load(Ordering::Acquire));
            lease.until.min(sure_until)
        } else {
            Instant::ZERO
        }
    }

    /// Why the lease is lost, or the waker is woken when something about it changes other than the
    /// passing of time.
    pub(crate) fn poll_lease(&self, cx: &Context<'_>) -> Poll<LeaseLost> {
        register(&mut self.lock().lease_wakers, cx);
        match self.lease_lost() {
            Some(lost) => Poll::Ready(lost),
            None => Poll::Pending,
        }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.dead.load(Ordering::Acquire)
    }

    // The socket.

    /// Sends what is queued, as far as the socket takes it without waiting.
    pub(crate) fn flush(&self) {
        self.flush_locked(&mut self.lock());
    }

    /// As [`Session::flush`]. All that was queued since the last flush leaves with one system call.
    pub(crate) fn flush_locked(&self, state: &mut State) {
        if state.blocked || state.broken.is_some() || state.machine.output().is_empty() {
            return;
        }
        if state.lost.is_some() || self.forked() {
            state.machine.output().clear();
            return;
        }
        let socket = state.socket.clone();
        loop {
            let output = state.machine.output();
            match send(&socket, output, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
                Ok(sent) if sent == output.len() => return output.clear(),
                Ok(sent) => drop(output.drain(..sent)),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    state.blocked = true;
                    if let Some(driver) = state.driver.take() {
                        driver.wake();
                    }
                    self.kick();
                    return;
                }
                // The reader will find the connection closed, and before that perhaps the reason.
                Err(_) => return output.clear(),
            }
        }
    }

    /// The socket takes bytes again.
    pub(crate) fn unblock(&self) {
        let mut state = self.lock();
        state.blocked = false;
        self.flush_locked(&mut state);
    }

    pub(crate) fn kick(&self) {
        // Fails only if the counter is full, and then the descriptor is readable anyway.
        let _ = rustix::io::write(&self.kick, &1_u64.to_ne_bytes());
        self.standby.notify_all();
    }

    /// Takes in what was read from a connection, if it still is that of the session.
    pub(crate) fn received(&self, socket: &Arc<UnixStream>, bytes: &[u8]) {
        let mut told = Told::default();
        let mut state = self.lock();
        let current = state.socket().is_some_and(|s| Arc::ptr_eq(s, socket));
        if state.lost.is_some() || !current {
            return;
        }
        self.take_in(&mut state, bytes, &mut told);
        let followers = state.followers;
        drop(state);
        if followers > 0 {
            self.turn.notify_all();
        }
        self.tell(told);
    }

    fn take_in(&self, state: &mut State, bytes: &[u8], told: &mut Told) {
        state.machine.feed(bytes);
        loop {
            match state.machine.next() {
                Ok(None) => break,
                Ok(Some(happening)) => self.apply(state, happening, told),
                Err(why) => {
                    let reason = format!("the daemon broke the protocol: {why}");
                    self.end(state, reason, told);
                }
            }
            if state.lost.is_some() {
                break;
            }
        }
        let sure_until = state.machine.sure_until().0;
        self.sure_until.store(sure_until, Ordering::Release);
        if state.lost.is_none() && state.machine.keep.is_some() {
            state.machine.say_heard(mainstay_lease::now());
        }
        self.flush_locked(state);
    }

    /// The session is over, if it was not before.
    pub(crate) fn close(&self, reason: &str) {
        let mut told = Told::default();
        let mut state = self.lock();
        if state.lost.is_none() {
            // First, so that nobody believes in a lock that the daemon has let go.
            self.dead.store(true, Ordering::Release);
            if state.machine.keep.is_some() && state.broken.is_none() {
                state.machine.say_goodbye();
                self.flush_locked(&mut state);
            }
            self.end(&mut state, reason.to_owned(), &mut told);
        }
        drop(state);
        self.tell(told);
    }

    fn apply(&self, state: &mut State, happening: Happening, told: &mut Told) {
        match happening {
            Happening::Done {
                request,
                result,
                lock,
                more,
            } => {
                let refused = result.as_ref().err().cloned();
                let known =
                    state.finish(request, result.map_err(LockError::from), &mut told.wakers);
                if let (false, Some(refusal)) = (known, refused) {
                    tracing::debug!(request, %refusal, "a call that nobody waits for was refused");
                }
                for handle in lock.iter().chain(&more) {
                    let wakers = state.lock_wakers.remove(handle);
                    told.wakers.extend(wakers.into_iter().flatten());
                }
            }
            Happening::Blocking { handle, mode } => {
                if let Some(wakers) = state.lock_wakers.remove(&handle) {
                    told.wakers.extend(wakers);
                }
                // A notice for a lock that was released meanwhile concerns nobody.
                if Machine::is_raw(handle) || state.machine.watched(handle).is_some() {
                    told.notices.push(Notice::Blocking { handle, mode });
                }
            }
            Happening::RangeBlocking {
                handle,
                range,
                mode,
            } => {
                if let Some(wakers) = state.lock_wakers.remove(&handle) {
                    told.wakers.extend(wakers);
                }
                if Machine::is_raw(handle) || state.machine.watched(handle).is_some() {
                    told.notices.push(Notice::RangeBlocking {
                        handle,
                        range,
                        mode,
                    });
                }
            }
            Happening::Demoted { handle } => {
                if let Some(wakers) = state.lock_wakers.remove(&handle) {
                    told.wakers.extend(wakers);
                }
                if Machine::is_raw(handle) || state.machine.watched(handle).is_some() {
                    told.notices.push(Notice::Demoted { handle });
                }
            }
            Happening::Overdue {
                handle,
                mode,
                released,
            } => {
                if let Some(wakers) = state.lock_wakers.remove(&handle) {
                    told.wakers.extend(wakers);
                }
                told.notices.push(Notice::Overdue {
                    handle,
                    mode,
                    released,
                });
            }
            Happening::ValueChanged { handle, value } => {
                if let Some(wakers) = state.lock_wakers.remove(&handle) {
                    told.wakers.extend(wakers);
                }
                if Machine::is_raw(handle) || state.machine.watched(handle).is_some() {
                    told.notices.push(Notice::ValueChanged { handle, value });
                }
            }
            Happening::Suspended { reason } => {
                told.wakers.append(&mut state.lease_wakers);
                told.notices.push(Notice::Suspended { reason });
            }
            Happening::Resumed => told.notices.push(Notice::Resumed),
            Happening::SessionLost { reason } => self.end(state, reason, told),
            Happening::Event(event) => told.events.push(ClusterEvent::Happened(event)),
            Happening::EventsMissed(count) => told.events.push(ClusterEvent::Missed(count)),
        }
    }

    fn end(&self, state: &mut State, reason: String, told: &mut Told) {
        self.dead.store(true, Ordering::Release);
        state.lost = Some(reason.clone());
        state.machine.output().clear();
        for request in state.slots.sorted_keys() {
            if matches!(state.slots.get(&request), Some(Slot::Waiting(_))) {
                let reason = reason.clone();
                let lost = Err(LockError::SessionLost { reason });
                state.finish(request, lost, &mut told.wakers);
            }
        }
        for handle in state.lock_wakers.sorted_keys() {
            told.wakers
                .extend(state.lock_wakers.remove(&handle).into_iter().flatten());
        }
        told.wakers.append(&mut state.lease_wakers);
        told.wakers.extend(state.driver.take());
        told.notices.push(Notice::SessionLost {
            session: self.welcome.session,
            reason,
        });
        told.over = true;
    }

    /// Wakes and tells, without the mutex.
    fn tell(&self, told: Told) {
        // A forked child shares these descriptors with its parent, whose session goes on.
        if told.over && !self.forked() {
            let _ = rustix::io::write(&self.over, &1_u64.to_ne_bytes());
            self.kick();
            // Fails if the daemon closed it first.
            let _ = self.lock().socket.shutdown(Shutdown::Both);
            self.turn.notify_all();
        }
        for waker in told.wakers {
            waker.wake();
        }
        for event in &told.events {
            self.events.publish(event);
        }
        for notice in &told.notices {
            self.notices.publish(notice);
        }
        if told.over {
            self.events.close();
        }
    }

    /// Whether this is a child of the process that made the connection. The child shares the
    /// socket; whatever it did on it would be done to the parent's session.
    pub(crate) fn forked(&self) -> bool {
        getpid().as_raw_nonzero().get() != self.pid
    }
}

#[path = "session_keep.rs"]
mod keep;

/// How much is read from the socket at once, in bytes.
pub(crate) const READ_LEN: usize = 64 << 10;

/// Why a session is over that the daemon closed without a word.
pub(crate) const CLOSED: &str = "the daemon closed the connection: it ended or was killed";

/// What is to be told once the mutex is free.
#[derive(Default)]
struct Told {
    wakers: Vec<Waker>,
    notices: Vec<Notice>,
    events: Vec<ClusterEvent>,
    over: bool,
}

fn forgotten() -> LockError {
    LockError::SessionLost {
        reason: "the call's end was taken already".to_owned(),
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("session", &self.welcome.session)
            .field("node", &self.welcome.node_name)
            .field("lease", &self.lease())
            .field("over", &self.is_over())
            .finish_non_exhaustive()
    }
}

/// What the user's objects hold of a session. With the last of them the session ends; whoever reads
/// its socket holds the [`Session`] itself and notices.
#[derive(Debug)]
pub(crate) struct Owned(pub(crate) Arc<Session>);

impl Deref for Owned {
    type Target = Arc<Session>;

    fn deref(&self) -> &Arc<Session> {
        &self.0
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        self.0.close("the client closed it");
    }
}
