//! A daemon that grants locks, in threads of this process.

use super::{
    engine::{Engine, Said},
    peer::{Listener, Peer},
};
use mainstay_base::Instant;
use mainstay_lease::{LeasePage, now};
use mainstay_wire::client::ToClient;
use std::{
    collections::BTreeMap,
    fmt, io,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

/// A daemon of one node for tests: it keeps locks and a lease page, and fails as it is told to.
pub struct FakeDaemon {
    path: PathBuf,
    shared: Arc<Shared>,
    acceptor: Option<JoinHandle<()>>,
}

struct Shared {
    world: Mutex<World>,
    changed: Condvar,
}

struct World {
    page: LeasePage,
    engine: Engine,
    sessions: BTreeMap<u64, Peer>,
    last_session: u64,
    stopping: bool,
}

impl Shared {
    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl World {
    fn say(&mut self, said: Said) {
        for (session, message) in said {
            if let Some(peer) = self.sessions.get_mut(&session) {
                // A client that is gone is noticed by its reader.
                let _ = peer.send(&message);
            }
        }
    }

    fn everyone(&mut self, message: &ToClient) {
        for peer in self.sessions.values_mut() {
            let _ = peer.send(message);
        }
    }

    fn end_sessions(&mut self, reason: &str) {
        let reason = reason.to_owned();
        self.everyone(&ToClient::SessionLost { reason });
        for peer in std::mem::take(&mut self.sessions).values() {
            peer.shut();
        }
    }
}

impl FakeDaemon {
    /// Starts one with a lease of an hour.
    ///
    /// # Panics
    /// If the system gives no socket, page or thread.
    #[must_use]
    pub fn start() -> FakeDaemon {
        let (listener, mut page) = Listener::new(1).expect("a socket in the temporary directory");
        page.set_lease(now() + Duration::from_secs(3600));
        let path = listener.path().to_owned();
        let shared = Arc::new(Shared {
            world: Mutex::new(World {
                page,
                engine: Engine::default(),
                sessions: BTreeMap::new(),
                last_session: 0,
                stopping: false,
            }),
            changed: Condvar::new(),
        });
        let accepting = shared.clone();
        let acceptor = thread::spawn(move || accept(&listener, &accepting));
        FakeDaemon {
            path,
            shared,
            acceptor: Some(acceptor),
        }
    }

    /// Where clients connect.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The lease ends after `time` unless it is set again.
    pub fn lease_for(&self, time: Duration) {
        self.shared.world().page.set_lease(now() + time);
    }

    /// The end of the lease.
    #[must_use]
    pub fn lease_until(&self) -> Instant {
        self.shared.world().page.lease().until
    }

    /// The node loses its lease, and says so.
    pub fn suspend(&self, reason: &str) {
        let mut world = self.shared.world();
        world.page.set_lease(Instant::ZERO);
        let reason = reason.to_owned();
        world.everyone(&ToClient::Suspended { reason });
    }

    /// The lease is back, for `time`, and with it all locks.
    pub fn resume(&self, time: Duration) {
        let mut world = self.shared.world();
        world.page.set_lease(now() + time);
        world.everyone(&ToClient::Resumed);
    }

    /// The node begins anew: another generation on the page, all sessions and locks are gone.
    pub fn rebirth(&self, reason: &str) {
        let mut world = self.shared.world();
        let generation = world.page.lease().generation + 1;
        world.page.set_generation(generation);
        world.end_sessions(reason);
        world.engine = Engine::default();
        world.page.set_lease(now() + Duration::from_secs(3600));
    }

    /// As [`FakeDaemon::rebirth`], as far as the page shows it; nothing is said.
    pub fn rebirth_on_page_only(&self) {
        let mut world = self.shared.world();
        let generation = world.page.lease().generation + 1;
        world.page.set_generation(generation);
        world.page.set_lease(now() + Duration::from_secs(3600));
    }

    /// All sessions end, but the node and its lease go on.
    pub fn lose_sessions(&self, reason: &str) {
        self.shared.world().end_sessions(reason);
    }

    /// Answers nobody while `run` runs, as a stopped process would.
    pub fn frozen<T>(&self, run: impl FnOnce() -> T) -> T {
        let _world = self.shared.world();
        run()
    }

    /// How many locks there are, requests that wait included.
    #[must_use]
    pub fn locks(&self) -> usize {
        self.shared.world().engine.locks()
    }

    /// Waits until there are so many locks, requests that wait included.
    pub fn wait_for_locks(&self, count: usize) {
        let mut world = self.shared.world();
        while world.engine.locks() != count {
            world = self
                .shared
                .changed
                .wait(world)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }
}

fn accept(listener: &Listener, shared: &Arc<Shared>) {
    loop {
        let accepted = listener.accept();
        if shared.world().stopping {
            return;
        }
        let Ok(peer) = accepted else { continue };
        let shared = shared.clone();
        thread::spawn(move || {
            // A client that does not get as far as a session is none of ours.
            let _ = admit(peer, &shared).map(|(peer, session)| serve(peer, session, &shared));
        });
    }
}

/// Welcomes a client. It is known as a session before it knows so itself, so that whatever a test
/// does to all sessions reaches every client that has connected.
fn admit(mut peer: Peer, shared: &Shared) -> io::Result<(Peer, u64)> {
    let hello = peer.hello()?;
    let writer = peer.share()?;
    let mut world = shared.world();
    if world.stopping {
        return Err(io::ErrorKind::ConnectionAborted.into());
    }
    world.last_session += 1;
    let session = world.last_session;
    peer.welcome(hello, session, world.page.lease().generation)?;
    world.sessions.insert(session, writer);
    Ok((peer, session))
}

fn serve(mut peer: Peer, session: u64, shared: &Shared) {
    while let Ok(Some(call)) = peer.recv() {
        let mut said = Said::new();
        let mut world = shared.world();
        world.engine.ask(session, call.request, call.ask, &mut said);
        world.say(said);
        drop(world);
        shared.changed.notify_all();
    }
    let mut said = Said::new();
    let mut world = shared.world();
    world.sessions.remove(&session);
    world.engine.gone(session, &mut said);
    world.say(said);
    drop(world);
    shared.changed.notify_all();
}

impl Drop for FakeDaemon {
    fn drop(&mut self) {
        {
            let mut world = self.shared.world();
            world.stopping = true;
            world.end_sessions("the stand-in for the daemon ended");
        }
        // Wakes the acceptor from its wait.
        let woken = UnixStream::connect(&self.path).is_ok();
        if let Some(acceptor) = self.acceptor.take()
            && woken
        {
            // A panic there has been reported by its thread.
            let _ = acceptor.join();
        }
    }
}

impl fmt::Debug for FakeDaemon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FakeDaemon")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}
