//! What the handles of one client share, over all its sessions.

use crate::{
    ConnectError, Notice,
    connect::{self, Config},
    mailbox::Hub,
    session::{Owned, Session},
};
use mainstay_base::{LockspaceId, SessionId};
use mainstay_wire::client::Ask;
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

/// Pauses between attempts to connect again, doubled from the first to the last.
pub(crate) const RETRY_FIRST: Duration = Duration::from_millis(50);
pub(crate) const RETRY_LAST: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(crate) struct Core {
    pub(crate) config: Config,
    pub(crate) notices: Arc<Hub<Notice>>,
    current: Mutex<Arc<Owned>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Core {
    pub(crate) fn new(config: Config, notices: Arc<Hub<Notice>>, first: Arc<Session>) -> Core {
        let current = Mutex::new(Arc::new(Owned(first)));
        Core {
            config,
            notices,
            current,
        }
    }

    /// The present session, which may be over.
    pub(crate) fn session(&self) -> Arc<Owned> {
        lock(&self.current).clone()
    }

    /// Puts a new session in place of one that is over; whether it was needed. If another has come
    /// meanwhile, `new` is closed.
    pub(crate) fn adopt(&self, new: &Arc<Session>) -> bool {
        let owned = Arc::new(Owned(new.clone()));
        let mut current = lock(&self.current);
        let needed = current.is_over();
        // Dropped only after the mutex: closing a session wakes others.
        let _unneeded = if needed {
            std::mem::replace(&mut *current, owned)
        } else {
            owned
        };
        drop(current);
        if needed {
            let session = new.welcome.session;
            self.notices.publish(&Notice::Reconnected { session });
        }
        needed
    }

    pub(crate) fn session_id(&self) -> SessionId {
        lock(&self.current).welcome.session
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        self.notices.close();
    }
}

/// Connects once. Blocks for the handshake.
pub(crate) fn connect_once(
    config: &Config,
    notices: &Arc<Hub<Notice>>,
) -> Result<Arc<Session>, ConnectError> {
    let c = connect::open(config)?;
    Session::new(c, notices.clone()).map_err(|source| ConnectError::Os {
        what: "make descriptors for",
        path: config.path.clone(),
        source,
    })
}

/// A lockspace by name, opened anew for each session.
#[derive(Debug)]
pub(crate) struct Space {
    pub(crate) core: Arc<Core>,
    name: mainstay_base::LockspaceName,
    wanted_len: Option<u16>,
    opened: Mutex<Option<Opened>>,
}

/// A lockspace's number and its value blocks' length.
pub(crate) type SpaceId = (LockspaceId, u16);

#[derive(Debug)]
struct Opened {
    /// Keeps the address from being used again, so that comparing addresses is sound.
    session: Weak<Session>,
    id: SpaceId,
}

impl Space {
    pub(crate) fn new(
        core: Arc<Core>,
        name: mainstay_base::LockspaceName,
        wanted_len: Option<u16>,
    ) -> Space {
        Space {
            core,
            name,
            wanted_len,
            opened: Mutex::new(None),
        }
    }

    pub(crate) fn name(&self) -> &mainstay_base::LockspaceName {
        &self.name
    }

    /// The lockspace's number, if it was opened in this session.
    pub(crate) fn known(&self, session: &Arc<Session>) -> Option<SpaceId> {
        let opened = lock(&self.opened);
        let opened = opened.as_ref()?;
        (opened.session.as_ptr() == Arc::as_ptr(session)).then_some(opened.id)
    }

    /// The number it had when last opened.
    pub(crate) fn last_id(&self) -> SpaceId {
        lock(&self.opened)
            .as_ref()
            .map(|opened| opened.id)
            .unwrap_or_default()
    }

    pub(crate) fn learn(&self, session: &Arc<Session>, id: SpaceId) {
        let session = Arc::downgrade(session);
        *lock(&self.opened) = Some(Opened { session, id });
    }

    pub(crate) fn ask(&self) -> Ask {
        Ask::OpenLockspace {
            name: self.name.clone(),
            value_len: self.wanted_len,
        }
    }
}
