//! Locks on ranges of bytes.

use super::{
    Lockspace,
    call::{self, Call},
};
use crate::{
    HeldRanges, LockError, answer,
    ranges::range_set,
    session::Session,
    spec::{LockCall, call_options},
};
use mainstay_base::{ByteRange, LockMode, ResourceName, Token};
use mainstay_wire::client::Handle;
use std::{
    future::{Future, IntoFuture, poll_fn},
    ops::Deref,
    pin::Pin,
    sync::Arc,
    time::Instant,
};

/// A lock on ranges of one resource, each in a mode, as record locks of files are: its own ranges are
/// never in its way, to set one replaces what it held there, and what is beside it stays. Dropping it
/// gives up all, without waiting for the answer.
///
/// What it knows without asking the daemon is in methods of [`HeldRanges`] and
/// [`Guard`](crate::Guard), to which it dereferences.
#[derive(Debug)]
pub struct Ranges(HeldRanges);

impl Deref for Ranges {
    type Target = HeldRanges;

    fn deref(&self) -> &HeldRanges {
        &self.0
    }
}

impl Ranges {
    pub(super) async fn open(lockspace: &Lockspace, name: &[u8]) -> Result<Ranges, LockError> {
        let name = ResourceName::new(name)?;
        let session = lockspace.space.core.session();
        let (id, _) = lockspace.id_in(&session).await?;
        Ok(Ranges(HeldRanges::open(session, id, name)))
    }

    /// A call to set a range to a mode, which happens when it is awaited. Dropping the future cancels
    /// the call.
    pub fn set(&mut self, range: ByteRange, mode: LockMode) -> SetRange<'_> {
        SetRange {
            call: self.0.call(mode),
            range,
            ranges: self,
            deadline: None,
        }
    }

    /// Gives up what is held of a range. Never waits for others, and is no error where nothing is
    /// held.
    ///
    /// # Errors
    /// If the session is lost.
    pub async fn release(&mut self, range: ByteRange) -> Result<(), LockError> {
        self.set(range, LockMode::Nl).await.map(drop)
    }

    /// Gives up all ranges and waits until the daemon has said so. They are given up also if the
    /// future is dropped.
    ///
    /// # Errors
    /// If the session is lost, and the lock with it.
    pub async fn unlock(self) -> Result<(), LockError> {
        call::idle(&self.0).await;
        match self.0.unlock() {
            Some(request) => {
                let session = self.0.session.clone();
                let call = Call::queued(session, request, answer::unlocked);
                call.await.map(drop)
            }
            None => Ok(()),
        }
    }

    /// What others wait for and this lock is in the way of, from the first range on that is set with
    /// [`SetRange::on_blocking`], and for all its ranges, until it holds none any more: notices are the
    /// lock's, not a range's.
    #[must_use]
    pub fn blocking_notices(&self) -> RangeNotices {
        RangeNotices {
            session: Arc::clone(&self.0.session),
            handle: self.0.handle,
        }
    }
}

/// A call for a range, to be awaited. Until it is granted, the lock keeps what it had.
#[derive(Debug)]
#[must_use = "a call does nothing until it is awaited"]
pub struct SetRange<'a> {
    ranges: &'a mut Ranges,
    range: ByteRange,
    call: LockCall,
    deadline: Option<Instant>,
}

impl<'a> SetRange<'a> {
    call_options!();

    async fn run(mut self) -> Result<Token, LockError> {
        call::idle(&self.ranges.0).await;
        if let Some(deadline) = self.deadline {
            self.call.end_by(deadline);
        }
        let patience = self.call.patience();
        let request = self.ranges.0.set(self.range, self.call)?;
        let set = call::end(&self.ranges.0, request, range_set, patience).await?;
        Ok(set.token)
    }
}

impl<'a> IntoFuture for SetRange<'a> {
    type Output = Result<Token, LockError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send + 'a>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

/// What others wait for and a lock on ranges is in the way of. Several of one lock share what comes.
#[derive(Debug)]
pub struct RangeNotices {
    session: Arc<Session>,
    handle: Handle,
}

impl RangeNotices {
    /// The next range and mode that what is held now does not allow. Each is told once until it is
    /// taken, however many wait for it; of more than 1,000 one may stand for all. `None`: the lock is
    /// gone or its session lost.
    pub async fn next(&mut self) -> Option<(ByteRange, LockMode)> {
        poll_fn(|cx| {
            self.session
                .poll_watched(self.handle, cx, |lock| lock.take_blocked_range())
        })
        .await
    }
}
