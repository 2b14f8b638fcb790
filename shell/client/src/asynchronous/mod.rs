//! The client for tokio.

mod call;
mod driver;
mod lease;
mod lock;
mod ranges;
mod sets;
mod tree;

pub use {
    call::Call,
    lease::Lease,
    lock::{BlockingNotices, Convert, Lock, LockRequest, ValueChanges},
    ranges::{RangeNotices, Ranges, SetRange},
    sets::SetRequest,
    tree::ChildRequest,
};

use crate::{
    ClientBuilder, ClusterEvent, ConnectError, Granted, Held, LockCall, LockError, Notice,
    RangeSet, SetCall,
    answer::{self, Dumped, Lockspaces, Vouched},
    core::{Core, Space, SpaceId, connect_once},
    machine,
    mailbox::{Hub, Mail, Mailbox},
    session::{Owned, Session},
};
use mainstay_base::{
    AccessChange, ByteRange, Compat, Fairness, Flags, LockId, LockspaceId, LockspaceName, NodeName,
    Owner, ResourceName, SessionId, Updated, ValueBlock, ValueUpdate, ValueVersion,
};
use mainstay_wire::{
    client::{Ask, Handle, Welcome},
    contention::ContentionReport,
    lock::Refusal,
    orphan::{OrphanWish, OrphansReport, PurgeReport},
    report::{GraphReport, LocksReport, LockspaceAccess, MastersReport, StatusReport, WhyReport},
};
use std::{future::poll_fn, path::Path, sync::Arc, task::ready, time::Duration};

/// A connection to the daemon of this host, for use by any number of tasks. Clones share it.
#[derive(Clone, Debug)]
pub struct Client {
    core: Arc<Core>,
}

impl Client {
    /// Connects to the daemon's socket with the defaults of [`ClientBuilder`].
    ///
    /// # Errors
    /// If there is no daemon, or it does not want this client; the text says what to do.
    pub async fn connect(path: impl AsRef<Path>) -> Result<Client, ConnectError> {
        ClientBuilder::new(path).connect().await
    }

    pub(crate) async fn build(builder: ClientBuilder) -> Result<Client, ConnectError> {
        let config = builder.config;
        let notices = Arc::new(Hub::new());
        let session = connect(&config, &notices).await?;
        let core = Arc::new(Core::new(config, notices, session.clone()));
        driver::spawn(session, &core);
        Ok(Client { core })
    }

    /// Makes a new session if the present one is over, else does nothing. Locks of the old one stay
    /// lost; lockspaces work on. Returns the session's number.
    ///
    /// # Errors
    /// As [`Client::connect`].
    pub async fn reconnect(&self) -> Result<SessionId, ConnectError> {
        if self.core.session().is_over() {
            let session = connect(&self.core.config, &self.core.notices).await?;
            if self.core.adopt(&session) {
                driver::spawn(session, &self.core);
            }
        }
        Ok(self.core.session_id())
    }

    /// What the daemon said of itself when the present session began.
    #[must_use]
    pub fn welcome(&self) -> Welcome {
        self.core.session().welcome.clone()
    }

    /// A lockspace, to be opened.
    pub fn lockspace(&self, name: impl Into<String>) -> LockspaceRequest {
        LockspaceRequest {
            core: self.core.clone(),
            name: name.into(),
            value_len: None,
        }
    }

    /// The present session's lease.
    #[must_use]
    pub fn lease(&self) -> Lease {
        Lease(self.core.session())
    }

    /// What happens to the client's sessions and locks from now on.
    #[must_use]
    pub fn notices(&self) -> Notices {
        Notices(self.core.notices.listen())
    }

    /// Calls on the level of handles, for the present session only.
    #[must_use]
    pub fn raw(&self) -> RawSession {
        RawSession(self.core.session())
    }

    /// The cluster as the daemon's node sees it.
    ///
    /// # Errors
    /// If the session is lost.
    pub async fn status(&self) -> Result<StatusReport, LockError> {
        self.call(Ask::Status, answer::status).await
    }

    /// Resources and their queues, at most `limit` (1 to 10 000), in one lockspace or all, whose
    /// names match `pattern` (`*` and `?` as in the shell) or all.
    ///
    /// # Errors
    /// If the daemon refuses or the session is lost.
    pub async fn locks(
        &self,
        lockspace: Option<LockspaceName>,
        pattern: Option<String>,
        limit: u32,
    ) -> Result<LocksReport, LockError> {
        self.locks_after(lockspace, pattern, limit, None).await
    }

    /// As `locks`, but only resources after one, by lockspace and name: to go on where a report that
    /// does not tell all says ([`LocksReport::next`]). Reports of a million locks are walked so without
    /// stopping anything; what comes or goes meanwhile may be in them or not.
    ///
    /// # Errors
    /// If the daemon refuses or the session is lost.
    pub async fn locks_after(
        &self,
        lockspace: Option<LockspaceName>,
        pattern: Option<String>,
        limit: u32,
        after: Option<(LockspaceName, ResourceName)>,
    ) -> Result<LocksReport, LockError> {
        let ask = Ask::Locks {
            lockspace,
            pattern,
            limit,
            after,
        };
        self.call(ask, answer::locks).await
    }

    /// Who waits for whom on one resource.
    ///
    /// # Errors
    /// If the daemon refuses or the session is lost.
    pub async fn why(
        &self,
        lockspace: LockspaceName,
        name: ResourceName,
    ) -> Result<WhyReport, LockError> {
        self.call(Ask::Why { lockspace, name }, answer::why).await
    }

    /// Who waits for whom: resources on which somebody waits, at most `limit` (1 to 10 000), in one
    /// lockspace or all, whose names match `pattern` (`*` and `?` as in the shell) or all.
    ///
    /// # Errors
    /// If the daemon refuses or the session is lost.
    pub async fn graph(
        &self,
        lockspace: Option<LockspaceName>,
        pattern: Option<String>,
        limit: u32,
    ) -> Result<GraphReport, LockError> {
        let ask = Ask::Graph {
            lockspace,
            pattern,
            limit,
        };
        self.call(ask, answer::graph).await
    }

    /// How long locks are waited for and held, in one lockspace or all: the calls that have waited
    /// longest, the most contended resources, and the times of lockspaces after `after`; at most
    /// `limit` (1 to 1000) of each.
    ///
    /// # Errors
    /// If the daemon refuses or the session is lost.
    pub async fn contention(
        &self,
        lockspace: Option<LockspaceName>,
        limit: u32,
        after: Option<LockspaceName>,
    ) -> Result<ContentionReport, LockError> {
        let ask = Ask::Contention {
            lockspace,
            after,
            limit,
        };
        self.call(ask, answer::contention).await
    }

    /// Who masters how much, and what has moved lately.
    ///
    /// # Errors
    /// If the session is lost.
    pub async fn masters(&self) -> Result<MastersReport, LockError> {
        self.call(Ask::Masters, answer::masters).await
    }

    /// Orphans of the cluster: persistent locks whose session has ended. At most `limit` (1 to 1000)
    /// of those that are meant, after `after`; see [`OrphansReport::next`].
    ///
    /// # Errors
    /// If the daemon refuses or the session is lost.
    pub async fn orphans(
        &self,
        wish: OrphanWish,
        limit: u32,
        after: Option<(NodeName, LockId)>,
    ) -> Result<OrphansReport, LockError> {
        let ask = Ask::Orphans { wish, limit, after };
        self.call(ask, answer::orphans).await
    }

    /// Releases orphans. A value block that one of them could have written is then possibly stale.
    /// Those of other users are left alone, unless this process is root's or the daemon's user's.
    ///
    /// # Errors
    /// If the daemon refuses or the session is lost.
    pub async fn purge_orphans(&self, wish: OrphanWish) -> Result<PurgeReport, LockError> {
        self.call(Ask::PurgeOrphans { wish }, answer::purged).await
    }

    /// Sets the session's deadlock priority, 0 until then: where the cluster chooses victims by
    /// priority, the lowest of a circle of waiters is refused. It goes with the session.
    ///
    /// # Errors
    /// If the session is lost.
    pub async fn set_deadlock_priority(&self, priority: u8) -> Result<(), LockError> {
        self.call(Ask::SetDeadlockPriority { priority }, answer::done)
            .await
    }

    /// Sets for whom this session asks for locks from now on: itself until then, or its process, a group
    /// of sessions on this node, or a transaction, whose sessions may be on any nodes. In the search for
    /// deadlocks all locks of one owner are released by one will; nothing else changes, and locks of one
    /// owner are in each other's way as any are. Numbers of other users mean other owners. Locks that the
    /// session has stay whose they are: one that holds by one owner and waits by another is two to the
    /// search, which then finds no circle through it, so name the owner first. It goes with the session.
    ///
    /// # Errors
    /// If the session is lost.
    pub async fn set_owner(&self, owner: Owner) -> Result<(), LockError> {
        self.call(Ask::SetOwner { owner }, answer::done).await
    }

    /// Promises to heed each blocking notice that a lock will get from now on, within so long: to
    /// convert to a mode that suits, or to release. `None` takes the promise back. An owner that is
    /// late is told ([`Notice::Overdue`]), and an event names it. With `release` the lock is then
    /// taken, and its guard is no lock any more: what it protects must be fenced by its token.
    ///
    /// # Errors
    /// If the lock was asked for without notices, the time is under a millisecond, or the session is
    /// lost.
    pub async fn set_response_time(
        &self,
        lock: &Held,
        within: Option<Duration>,
        release: bool,
    ) -> Result<(), LockError> {
        let ask = machine::promise(lock.handle(), within, release);
        self.call(ask, answer::done).await
    }

    /// What happens in the cluster from now on, after the last `backlog` (at most 1000) events that
    /// the daemon remembers.
    ///
    /// # Errors
    /// If the daemon refuses or the session is lost.
    pub async fn events(&self, backlog: u32) -> Result<Events, LockError> {
        let session = self.core.session();
        let mailbox = session.events.listen();
        Call::new(session.clone(), Ask::Events { backlog }, answer::done).await?;
        Ok(Events {
            mailbox,
            last: None,
            _session: session,
        })
    }

    /// Leaves the cluster cleanly and stops the daemon. For root or the daemon's user.
    ///
    /// # Errors
    /// If the daemon refuses or the session is lost.
    pub async fn leave(&self) -> Result<(), LockError> {
        self.call(Ask::Leave, answer::done).await
    }

    /// Stops the daemon so that the next one of its host goes on with the sessions that are kept, if it is
    /// there within a time; until then their locks stay. For root or the daemon's user, on a session that is
    /// not kept itself.
    ///
    /// # Errors
    /// If the daemon refuses or the session is lost.
    pub async fn rest(&self, at_most: Duration) -> Result<(), LockError> {
        let for_ms = u32::try_from(at_most.as_millis()).unwrap_or(u32::MAX);
        self.call(Ask::Rest { for_ms }, answer::done).await
    }

    /// Vouches that the vanished incarnations of a node can do no more harm. For root or the
    /// daemon's user.
    ///
    /// # Errors
    /// If the daemon refuses or the session is lost.
    pub async fn vouch(&self, node: NodeName) -> Result<Vouched, LockError> {
        self.call(Ask::Vouch { node }, answer::vouched).await
    }

    /// Creates a lockspace that does not exist yet: owned by the caller, open to all, but for what
    /// `access` names. Value blocks have `value_len` bytes, or the default. It shares out its resources as
    /// `fairness` says, and follows the rules of `compat` where systems differ, for as long as it exists.
    /// What is usual with those rules is [`Compat::fairness`].
    ///
    /// # Errors
    /// If it exists, the daemon refuses, or the session is lost.
    pub async fn create_lockspace(
        &self,
        name: LockspaceName,
        value_len: Option<u16>,
        access: AccessChange,
        fairness: Fairness,
        compat: Compat,
    ) -> Result<LockspaceAccess, LockError> {
        let ask = Ask::CreateLockspace {
            name,
            value_len,
            access,
            fairness,
            compat,
        };
        self.call(ask, answer::lockspace_set).await
    }

    /// Changes who may lock what in a lockspace. For its owner, root and the daemon's user.
    ///
    /// # Errors
    /// If the daemon refuses or the session is lost.
    pub async fn set_lockspace(
        &self,
        name: LockspaceName,
        access: AccessChange,
    ) -> Result<LockspaceAccess, LockError> {
        let ask = Ask::SetLockspace { name, access };
        self.call(ask, answer::lockspace_set).await
    }

    /// Lockspaces by name, those after `after`, at most `limit` (1 to 1000), with who may lock what in
    /// them; and whether there are more.
    ///
    /// # Errors
    /// If the daemon refuses or the session is lost.
    pub async fn lockspaces(
        &self,
        limit: u32,
        after: Option<LockspaceName>,
    ) -> Result<Lockspaces, LockError> {
        self.call(Ask::Lockspaces { after, limit }, answer::lockspaces)
            .await
    }

    /// Has what the daemon's flight recorder remembers written to a file on its host. For root or the
    /// daemon's user.
    ///
    /// # Errors
    /// If the daemon refuses or cannot write, or the session is lost.
    pub async fn dump_recorder(&self) -> Result<Dumped, LockError> {
        self.call(Ask::DumpRecorder, answer::dumped).await
    }

    /// A round trip to the daemon.
    ///
    /// # Errors
    /// If the session is lost.
    pub async fn ping(&self) -> Result<(), LockError> {
        self.call(Ask::Ping, answer::done).await
    }

    async fn call<T>(&self, ask: Ask, read: answer::Read<T>) -> Result<T, LockError> {
        Call::new(self.core.session(), ask, read).await
    }
}

/// The handshake waits in a thread of the runtime's own for such things.
async fn connect(
    config: &crate::connect::Config,
    notices: &Arc<Hub<Notice>>,
) -> Result<Arc<Session>, ConnectError> {
    let (config, notices) = (config.clone(), notices.clone());
    let path = config.path.clone();
    let attempt = tokio::task::spawn_blocking(move || connect_once(&config, &notices));
    attempt.await.unwrap_or_else(|error| {
        Err(ConnectError::Os {
            what: "start a thread to connect to",
            path,
            source: std::io::Error::other(error),
        })
    })
}

/// A lockspace to be opened.
#[derive(Debug)]
#[must_use = "a request does nothing until `open`"]
pub struct LockspaceRequest {
    core: Arc<Core>,
    name: String,
    value_len: Option<u16>,
}

impl LockspaceRequest {
    /// Length of its value blocks, 1 to 4096 bytes. Opening one that exists with another length is
    /// refused. Without this, whatever exists is taken, or 32.
    pub fn value_len(mut self, len: u16) -> Self {
        self.value_len = Some(len);
        self
    }

    /// Opens the lockspace, and creates it if need be.
    ///
    /// # Errors
    /// If the name is no name, the daemon refuses, or the session is lost.
    pub async fn open(self) -> Result<Lockspace, LockError> {
        let name = LockspaceName::new(self.name)?;
        let lockspace = Lockspace {
            space: Space::new(self.core, name, self.value_len),
        };
        lockspace.id_in(&lockspace.space.core.session()).await?;
        Ok(lockspace)
    }
}

/// A lockspace: where resources have their names. It outlives sessions.
#[derive(Debug)]
pub struct Lockspace {
    space: Space,
}

impl Lockspace {
    /// A request for a lock on a resource, named by 1 to 64 bytes.
    pub fn lock(&self, name: impl AsRef<[u8]>) -> LockRequest<'_> {
        LockRequest::new(self, name.as_ref())
    }

    /// A request for several locks, all or none.
    pub fn set(&self) -> SetRequest<'_> {
        SetRequest::new(self)
    }

    /// A lock on ranges of a resource, named by 1 to 64 bytes. It holds nothing yet.
    ///
    /// # Errors
    /// If the name is no name, or the session is lost.
    pub async fn ranges(&self, name: impl AsRef<[u8]>) -> Result<Ranges, LockError> {
        Ranges::open(self, name.as_ref()).await
    }

    /// The lockspace's name.
    #[must_use]
    pub fn name(&self) -> &LockspaceName {
        self.space.name()
    }

    /// The lockspace's number.
    #[must_use]
    pub fn id(&self) -> LockspaceId {
        self.space.last_id().0
    }

    /// Length of its value blocks, in bytes.
    #[must_use]
    pub fn value_len(&self) -> u16 {
        self.space.last_id().1
    }

    async fn id_in(&self, session: &Arc<Owned>) -> Result<SpaceId, LockError> {
        if let Some(id) = self.space.known(session) {
            return Ok(id);
        }
        let id = Call::new(session.clone(), self.space.ask(), answer::lockspace).await?;
        self.space.learn(session, id);
        Ok(id)
    }
}

/// Calls on the level of handles, of one session. Calls are queued when they are made; any number
/// may be under way. Nothing is released but by [`RawSession::raw_unlock`] or with the session.
#[derive(Clone, Debug)]
pub struct RawSession(Arc<Owned>);

impl RawSession {
    /// A handle that was never used before.
    #[must_use]
    pub fn new_handle(&self) -> Handle {
        self.0.lock().machine.new_raw_handle()
    }

    /// Requests a lock.
    pub fn raw_lock(
        &self,
        handle: Handle,
        lockspace: LockspaceId,
        call: LockCall,
    ) -> Call<Granted> {
        Call::new(self.0.clone(), call.ask(handle, lockspace), answer::granted)
    }

    /// Converts a lock. The call's name is not looked at.
    pub fn raw_convert(
        &self,
        handle: Handle,
        call: LockCall,
        value: Option<ValueBlock>,
    ) -> Call<Granted> {
        let ask = machine::convert(handle, call, value);
        Call::new(self.0.clone(), ask, answer::granted)
    }

    /// Sets a range of a lock on ranges to the call's mode; NL gives it up. The first range opens
    /// the handle, and giving up the last closes it.
    pub fn raw_range(
        &self,
        handle: Handle,
        lockspace: LockspaceId,
        range: ByteRange,
        call: LockCall,
    ) -> Call<RangeSet> {
        let ask = crate::ranges::ask(handle, lockspace, range, call);
        Call::new(self.0.clone(), ask, crate::ranges::range_set)
    }

    /// Requests a set: all of its locks or none.
    pub fn raw_lock_set(&self, lockspace: LockspaceId, call: SetCall) -> Call<Vec<Granted>> {
        Call::new(
            self.0.clone(),
            call.ask(lockspace),
            crate::sets::set_granted,
        )
    }

    /// Converts several locks, each for itself and to give up after `timeout`. The calls' names and
    /// time limits are not looked at.
    pub fn raw_convert_many(
        &self,
        calls: Vec<(Handle, LockCall)>,
        timeout: Option<Duration>,
    ) -> Call<Vec<Result<Granted, Refusal>>> {
        let ask = crate::sets::convert_ask(calls, timeout);
        Call::new(self.0.clone(), ask, crate::sets::converted)
    }

    /// Requests a lock under another. The call's name is the last part of the resource's.
    pub fn raw_lock_under(&self, handle: Handle, parent: Handle, call: LockCall) -> Call<Granted> {
        Call::new(self.0.clone(), call.under(handle, parent), answer::granted)
    }

    /// Unlocks all locks beneath one, and that, too, if `itself`; without one, all of the session. Gives
    /// how many that were.
    pub fn raw_unlock_tree(&self, handle: Option<Handle>, itself: bool) -> Call<u64> {
        let ask = Ask::UnlockTree { handle, itself };
        Call::new(self.0.clone(), ask, answer::tree_unlocked)
    }

    /// Unlocks several locks, each for itself.
    pub fn raw_unlock_many(
        &self,
        handles: &[Handle],
        flags: Flags,
    ) -> Call<Vec<Result<Option<ValueVersion>, Refusal>>> {
        let ask = crate::sets::unlock_ask(handles, flags);
        Call::new(self.0.clone(), ask, crate::sets::all_unlocked)
    }

    /// Unlocks a lock.
    pub fn raw_unlock(
        &self,
        handle: Handle,
        flags: Flags,
        value: Option<ValueBlock>,
    ) -> Call<Option<ValueVersion>> {
        let ask = Ask::Unlock {
            handle,
            flags,
            value,
        };
        Call::new(self.0.clone(), ask, answer::unlocked)
    }

    /// As `set_response_time` of the client, for a handle.
    pub fn raw_set_response_time(
        &self,
        handle: Handle,
        within: Option<Duration>,
        release: bool,
    ) -> Call<()> {
        let ask = machine::promise(handle, within, release);
        Call::new(self.0.clone(), ask, answer::done)
    }

    /// Adopts an orphan, as [`LockRequest::adopt`] does. The call's time limit is not looked at.
    pub fn raw_adopt(
        &self,
        handle: Handle,
        lockspace: LockspaceId,
        call: LockCall,
    ) -> Call<Granted> {
        let ask = call.adopt(handle, lockspace, false);
        Call::new(self.0.clone(), ask, answer::granted)
    }

    /// Adopts an orphan, or what any node has left behind, as [`LockRequest::adopt_anywhere`] does.
    pub fn raw_adopt_anywhere(
        &self,
        handle: Handle,
        lockspace: LockspaceId,
        call: LockCall,
    ) -> Call<Granted> {
        let ask = call.adopt(handle, lockspace, true);
        Call::new(self.0.clone(), ask, answer::granted)
    }

    /// Changes the value block in one step, under a granted lock.
    pub fn raw_update_value(&self, handle: Handle, update: ValueUpdate) -> Call<Updated> {
        let ask = Ask::UpdateValue { handle, update };
        Call::new(self.0.clone(), ask, answer::updated)
    }

    /// Tells of changes of the value block ([`Notice::ValueChanged`]) from now on, or no more.
    pub fn raw_watch_value(&self, handle: Handle, on: bool) -> Call<()> {
        Call::new(self.0.clone(), Ask::WatchValue { handle, on }, answer::done)
    }

    /// Cancels the pending request or conversion of a lock.
    pub fn cancel(&self, handle: Handle) -> Call<()> {
        Call::new(self.0.clone(), Ask::Cancel { handle }, answer::done)
    }

    /// Sends what is queued now, rather than when a call is next awaited.
    pub fn flush(&self) {
        self.0.flush();
    }
}

/// What happens to a client's sessions and locks.
#[derive(Debug)]
pub struct Notices(Arc<Mailbox<Notice>>);

impl Notices {
    /// The next notice; `None` once the client is gone.
    pub async fn next(&mut self) -> Option<Notice> {
        poll_fn(|cx| {
            let mail = ready!(self.0.poll(cx));
            std::task::Poll::Ready(Notice::from_mail(mail))
        })
        .await
    }
}

/// What happens in the cluster.
#[derive(Debug)]
pub struct Events {
    mailbox: Arc<Mailbox<ClusterEvent>>,
    last: Option<u64>,
    /// The stream keeps its session.
    _session: Arc<Owned>,
}

impl Events {
    /// The next event; `None` once the session is over.
    pub async fn next(&mut self) -> Option<ClusterEvent> {
        loop {
            let mail: Mail<ClusterEvent> = poll_fn(|cx| self.mailbox.poll(cx)).await;
            if let Some(news) = ClusterEvent::from_mail(mail, &mut self.last) {
                return news;
            }
        }
    }
}
