//! What lies between clients and the socket of their daemon, and breaks: connections end with whatever
//! is on its way, though both their ends live.

use mainstay_lease::{receive_page, send_page};
use std::{
    io::{Read as _, Write as _},
    net::Shutdown,
    os::{
        fd::AsFd as _,
        unix::net::{UnixListener, UnixStream},
    },
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

/// A socket that leads to a daemon's.
#[derive(Clone, Debug)]
pub struct Between {
    path: PathBuf,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    shut: AtomicBool,
    cuts: AtomicU64,
    open: Mutex<Vec<UnixStream>>,
}

impl Between {
    /// At `path`, before the daemon's `socket`.
    ///
    /// # Panics
    /// If the path is taken.
    #[must_use]
    pub fn start(path: &Path, socket: &Path) -> Between {
        let listener = UnixListener::bind(path).expect("a free path");
        let shared = Arc::new(Shared::default());
        let (target, own) = (socket.to_owned(), Arc::clone(&shared));
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // Dropped if shut: closed at once.
                if !own.shut.load(Ordering::Relaxed) {
                    carry(client, &target, &own);
                }
            }
        });
        let path = path.to_owned();
        Between { path, shared }
    }

    /// Where clients connect.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Breaks all connections.
    pub fn cut(&self) {
        self.shared.cuts.fetch_add(1, Ordering::Relaxed);
        for end in self.shared.open().drain(..) {
            // Fails if the connection has ended.
            let _ = end.shutdown(Shutdown::Both);
        }
    }

    /// How often connections were broken.
    #[must_use]
    pub fn cuts(&self) -> u64 {
        self.shared.cuts.load(Ordering::Relaxed)
    }

    /// Whether nobody gets through any more, not even on a new connection.
    pub fn shut(&self, shut: bool) {
        self.shared.shut.store(shut, Ordering::Relaxed);
        if shut {
            self.cut();
        }
    }
}

impl Shared {
    fn open(&self) -> std::sync::MutexGuard<'_, Vec<UnixStream>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Carries one connection, in threads of its own. What fails ends it.
fn carry(client: UnixStream, target: &Path, shared: &Shared) {
    let begin = || {
        let daemon = UnixStream::connect(target)?;
        let page = receive_page(&daemon).map_err(std::io::Error::other)?;
        send_page(&client, page.as_fd())?;
        let ends = [
            client.try_clone()?,
            daemon.try_clone()?,
            client.try_clone()?,
            daemon.try_clone()?,
        ];
        std::io::Result::Ok((daemon, ends))
    };
    let Ok((daemon, [client_end, daemon_end, client_too, daemon_too])) = begin() else {
        return;
    };
    shared.open().extend([client_end, daemon_end]);
    thread::spawn(move || copy(client, daemon));
    thread::spawn(move || copy(daemon_too, client_too));
}

fn copy(mut from: UnixStream, mut to: UnixStream) {
    let mut buffer = [0; 4096];
    while let Ok(len @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..len]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
