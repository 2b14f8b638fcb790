//! Locks: requests, guards, conversions.

use super::{
    Lockspace,
    call::{self, Call},
    lease,
};
use crate::{
    Held, LeaseLost, LockError, answer,
    session::Session,
    spec::{LockCall, call_options},
};
use mainstay_base::{
    Flags, LockMode, NameError, ResourceName, Token, Updated, Value, ValueBlock, ValueUpdate,
    ValueVersion,
};
use mainstay_wire::client::Handle;
use std::{
    future::{Future, IntoFuture, poll_fn},
    ops::Deref,
    pin::Pin,
    sync::Arc,
    time::Instant,
};

/// A request for a lock, to be completed by [`LockRequest::acquire`].
#[derive(Debug)]
#[must_use = "a request does nothing until `acquire`"]
pub struct LockRequest<'a> {
    lockspace: &'a Lockspace,
    call: LockCall,
    wrong_name: Option<NameError>,
    deadline: Option<Instant>,
}

impl<'a> LockRequest<'a> {
    pub(super) fn new(lockspace: &'a Lockspace, name: &[u8]) -> LockRequest<'a> {
        let (name, wrong_name) = match ResourceName::new(name) {
            Ok(name) => (Ok(name), None),
            Err(error) => (ResourceName::new("-"), Some(error)),
        };
        LockRequest {
            lockspace,
            call: LockCall::new(name.expect("`-` is a name"), LockMode::Ex),
            wrong_name,
            deadline: None,
        }
    }

    /// The mode; EX unless said otherwise.
    pub fn mode(mut self, mode: LockMode) -> Self {
        self.call.mode = mode;
        self
    }

    /// Read the resource's value block with the grant, and with later conversions that read it.
    pub fn with_value_block(self) -> Self {
        self.flags(Flags::VALBLK)
    }

    /// The lock outlives its session: if this process dies with it, or loses its connection, it stays
    /// as an orphan of this node, until [`LockRequest::adopt`] or a purge. Dropping the guard unlocks,
    /// as ever.
    pub fn persistent(self) -> Self {
        self.flags(Flags::PERSISTENT)
    }

    /// The lock is persistent, and outlives its node as well, and the end of all nodes: the replicated log has
    /// it before it is granted. Once its node is gone for certain, it is taken over by
    /// [`LockRequest::adopt_anywhere`], or purged. It has no value block, and is not converted.
    pub fn surviving(self) -> Self {
        self.flags(Flags::SURVIVE | Flags::PERSISTENT)
    }

    call_options!();

    /// Takes over a persistent lock that another process of this node left behind, held in exactly
    /// this mode, rather than requesting one. The lock keeps its token. The value block comes with it
    /// where it was asked for, then and now, and the mode keeps writers out. Time limits mean nothing
    /// here: whether there is such a lock is known at once.
    ///
    /// # Errors
    /// [`Refusal::NoSuchOrphan`](crate::Refusal::NoSuchOrphan) if there is none,
    /// [`Refusal::OrphanInMode`](crate::Refusal::OrphanInMode) if there is one in another mode,
    /// [`Refusal::Busy`](crate::Refusal::Busy) while the last call of its old owner is being ended,
    /// [`Refusal::Denied`](crate::Refusal::Denied) if it is another user's; and as for any call.
    pub async fn adopt(self) -> Result<Lock, LockError> {
        self.take_over(false).await
    }

    /// As [`LockRequest::adopt`]; where this node has no such orphan, takes over a lock that survived its
    /// node ([`LockRequest::surviving`]) and that nobody has any more, of whichever node, or an orphan of
    /// another node that lives. What survives its node goes on doing so, whatever is asked for.
    ///
    /// # Errors
    /// As there; [`Refusal::NoSuchOrphan`](crate::Refusal::NoSuchOrphan) also if another comes first,
    /// [`Refusal::Unavailable`](crate::Refusal::Unavailable) if a node that may have it does not answer.
    pub async fn adopt_anywhere(self) -> Result<Lock, LockError> {
        self.take_over(true).await
    }

    async fn take_over(self, anywhere: bool) -> Result<Lock, LockError> {
        if let Some(error) = self.wrong_name {
            return Err(error.into());
        }
        let session = self.lockspace.space.core.session();
        let (id, value_len) = self.lockspace.id_in(&session).await?;
        let (held, request) = Held::adopt(session.clone(), id, value_len, self.call, anywhere)?;
        let lock = Lock(held);
        Call::queued(session, Ok(request), answer::granted).await?;
        Ok(lock)
    }

    /// Waits for the lock. Dropping the future cancels the request, and releases the lock if it was
    /// granted meanwhile.
    ///
    /// # Errors
    /// If the daemon refuses, the session is lost, the time passes, or the name is no name.
    pub async fn acquire(mut self) -> Result<Lock, LockError> {
        if let Some(error) = self.wrong_name {
            return Err(error.into());
        }
        let session = self.lockspace.space.core.session();
        let (id, value_len) = self.lockspace.id_in(&session).await?;
        if let Some(deadline) = self.deadline {
            self.call.end_by(deadline);
        }
        let patience = self.call.patience();
        let (held, request) = Held::request(session.clone(), id, value_len, self.call)?;
        // On every way out but the last, the guard lets go of what the request may still bring.
        let lock = Lock(held);
        Call::queued(session, Ok(request), answer::granted)
            .within(patience)
            .await?;
        Ok(lock)
    }
}

/// A lock that is held. Dropping it unlocks, without waiting for the answer.
///
/// What it knows without asking the daemon is in methods of [`Held`] and, such as
/// [`is_valid`](crate::Guard::is_valid), of [`Guard`](crate::Guard), to which it dereferences.
#[derive(Debug)]
pub struct Lock(Held);

impl Deref for Lock {
    type Target = Held;

    fn deref(&self) -> &Held {
        &self.0
    }
}

impl Lock {
    pub(super) fn new(held: Held) -> Lock {
        Lock(held)
    }

    /// A conversion to another mode, which happens when it is awaited. Dropping the future cancels
    /// the conversion; [`Held::mode`] tells whether it came too late.
    pub fn convert(&mut self, mode: LockMode) -> Convert<'_> {
        Convert {
            call: self.0.call(mode),
            lock: self,
            value: None,
            deadline: None,
        }
    }

    /// Publishes a value block and keeps the lock; needs PW or EX. Returns the value's version.
    ///
    /// # Errors
    /// If the mode or the value's length does not allow it, or as for any call.
    pub async fn publish(&mut self, value: ValueBlock) -> Result<ValueVersion, LockError> {
        let mode = self.mode();
        self.convert(mode).publishing(value).await?;
        Ok(self.value().map(|value| value.version).unwrap_or_default())
    }

    /// Publishes a value block if the present value is the one that the caller has read, in one round
    /// trip and whatever the lock's mode. [`Updated::done`] tells whether it was, and the value is the
    /// one afterwards. Version and mark are compared, not bytes.
    ///
    /// # Errors
    /// As `value-held` while another lock is held in CW, PR, PW or EX. As `unavailable` if the
    /// resource's master vanished before it answered: then the value may have been published or not.
    /// If the block is too long, or as for any call.
    pub async fn compare_and_swap(
        &mut self,
        expect: &Value,
        block: ValueBlock,
    ) -> Result<Updated, LockError> {
        let update = ValueUpdate::Swap {
            expect: expect.version,
            expect_stale: expect.maybe_stale,
            block,
        };
        self.update(update).await
    }

    /// Adds to the count in the value block's first eight bytes, a little-endian `i64`, in one round
    /// trip and whatever the lock's mode. Returns the value afterwards ([`Value::count`]); a mark stays.
    ///
    /// # Errors
    /// As for a compare-and-swap; also if the count would leave its range, or the lockspace's value
    /// blocks are too short for one.
    pub async fn add(&mut self, delta: i64) -> Result<Value, LockError> {
        let updated = self.update(ValueUpdate::Add { delta }).await?;
        Ok(updated.value)
    }

    async fn update(&mut self, update: ValueUpdate) -> Result<Updated, LockError> {
        call::idle(&self.0).await;
        let request = self.0.update(update);
        Call::queued(self.0.session.clone(), request, answer::updated).await
    }

    /// Tells of changes of the value block from now on, until the lock ends or
    /// [`Lock::unwatch_value`]. If the value is another than the one that the lock knows
    /// ([`Held::value`]), that comes first.
    ///
    /// # Errors
    /// If the daemon refuses or the session is lost.
    pub async fn watch_value(&self) -> Result<ValueChanges, LockError> {
        let request = self.0.watch(true);
        Call::queued(self.0.session.clone(), request, answer::done).await?;
        Ok(ValueChanges {
            session: Arc::clone(&self.0.session),
            handle: self.0.handle,
        })
    }

    /// Tells of changes of the value block no more.
    ///
    /// # Errors
    /// As for [`Lock::watch_value`].
    pub async fn unwatch_value(&self) -> Result<(), LockError> {
        let request = self.0.watch(false);
        Call::queued(self.0.session.clone(), request, answer::done).await
    }

    /// Releases the lock and waits until the daemon has said so. The lock is released also if the
    /// future is dropped.
    ///
    /// # Errors
    /// If the session is lost, and the lock with it.
    pub async fn unlock(self) -> Result<(), LockError> {
        self.end(None).await.map(drop)
    }

    /// Publishes a value block and releases the lock; needs PW or EX. Returns the value's version,
    /// if the daemon tells one. The lock is released also if the value is refused.
    ///
    /// # Errors
    /// If the mode or the value's length does not allow it, or as for [`Lock::unlock`].
    pub async fn unlock_with_value(
        self,
        value: ValueBlock,
    ) -> Result<Option<ValueVersion>, LockError> {
        self.end(Some(value)).await
    }

    async fn end(self, value: Option<ValueBlock>) -> Result<Option<ValueVersion>, LockError> {
        call::idle(&self.0).await;
        let request = self.0.unlock(value);
        Call::queued(self.0.session.clone(), request, answer::unlocked).await
    }

    /// The modes in which others are blocked by this lock, if it was asked for with
    /// [`LockRequest::on_blocking`].
    #[must_use]
    pub fn blocking_notices(&self) -> BlockingNotices {
        BlockingNotices {
            session: Arc::clone(&self.0.session),
            handle: self.0.handle,
        }
    }

    /// Resolves when the lock may no longer be relied on; see [`Lease::lost`](super::Lease::lost).
    ///
    /// # Errors
    /// If no timer can be had from the system.
    pub async fn lost(&self) -> Result<LeaseLost, LockError> {
        lease::lost(&self.0.session).await
    }
}

/// A conversion, to be awaited.
#[derive(Debug)]
#[must_use = "a conversion does nothing until it is awaited"]
pub struct Convert<'a> {
    lock: &'a mut Lock,
    call: LockCall,
    value: Option<ValueBlock>,
    deadline: Option<Instant>,
}

impl<'a> Convert<'a> {
    call_options!();

    /// Publish a value block with the conversion, which must lead from PW or EX to another mode
    /// than from PW to EX.
    pub fn publishing(mut self, value: ValueBlock) -> Self {
        self.value = Some(value);
        self
    }

    async fn run(mut self) -> Result<Token, LockError> {
        call::idle(&self.lock.0).await;
        if let Some(deadline) = self.deadline {
            self.call.end_by(deadline);
        }
        let patience = self.call.patience();
        let request = self.lock.0.convert(self.call, self.value)?;
        let granted = call::end(&self.lock.0, request, answer::granted, patience).await?;
        Ok(granted.token)
    }
}

impl<'a> IntoFuture for Convert<'a> {
    type Output = Result<Token, LockError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

/// Blocking notices of one lock. Several of one lock share what comes.
#[derive(Debug)]
pub struct BlockingNotices {
    session: Arc<Session>,
    handle: Handle,
}

impl BlockingNotices {
    /// The next mode in which another is blocked, and which the mode held now does not allow. Each
    /// mode is told once until it is taken, however many wait for it. `None`: the lock is released
    /// or its session lost.
    pub async fn next(&mut self) -> Option<LockMode> {
        poll_fn(|cx| {
            self.session
                .poll_watched(self.handle, cx, |lock| lock.take_blocked())
        })
        .await
    }
}

/// Changes of the value block that a lock watches. Several of one lock share what comes.
#[derive(Debug)]
pub struct ValueChanges {
    session: Arc<Session>,
    handle: Handle,
}

impl ValueChanges {
    /// The next change: the value as it is then, of several changes at once the last, never one that
    /// is older than what came before. `None`: the lock is released or its session lost.
    pub async fn next(&mut self) -> Option<Value> {
        poll_fn(|cx| {
            self.session
                .poll_watched(self.handle, cx, |lock| lock.take_news())
        })
        .await
    }
}
