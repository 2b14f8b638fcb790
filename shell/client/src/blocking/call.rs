//! A call under way.

use super::reader;
use crate::{
    Guard, LockError,
    answer::{Read, take},
    session::Owned,
};
use mainstay_wire::client::Ask;
use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

/// The end of a call, to be waited for. The call is queued when this is made, and leaves together
/// with all others queued by then when any thread waits for a call of the client or flushes.
/// Dropping it does not undo the call; its end is then told to nobody.
#[must_use = "calls leave when they are waited for or flushed"]
pub struct Call<T> {
    session: Arc<Owned>,
    request: Option<Result<u64, LockError>>,
    read: Read<T>,
}

impl<T> Call<T> {
    pub(crate) fn new(session: Arc<Owned>, ask: Ask, read: Read<T>) -> Call<T> {
        let request = session.submit(ask);
        Call::queued(session, request, read)
    }

    pub(crate) fn queued(
        session: Arc<Owned>,
        request: Result<u64, LockError>,
        read: Read<T>,
    ) -> Call<T> {
        Call {
            session,
            request: Some(request),
            read,
        }
    }

    /// Waits for the end of the call.
    ///
    /// # Errors
    /// If the daemon refuses or the session is lost.
    pub fn wait(self) -> Result<T, LockError> {
        self.within(None)
    }

    /// Waits no longer than `patience`.
    pub(crate) fn within(mut self, patience: Option<Duration>) -> Result<T, LockError> {
        let request = match &self.request {
            Some(Ok(request)) => *request,
            Some(Err(error)) => return Err(error.clone()),
            None => return Err(self.lost()),
        };
        let deadline = patience.and_then(|patience| Instant::now().checked_add(patience));
        match (reader::finish(&self.session, request, deadline), patience) {
            (Some(result), _) => {
                self.request = None;
                take(result?, self.read)
            }
            (None, Some(waited)) if !self.session.is_over() => Err(LockError::NoAnswer { waited }),
            (None, _) => Err(self.lost()),
        }
    }

    fn lost(&self) -> LockError {
        let reason = self.session.lock().lost().unwrap_or_default().to_owned();
        LockError::SessionLost { reason }
    }
}

impl<T> Drop for Call<T> {
    fn drop(&mut self) {
        if let Some(Ok(request)) = self.request {
            self.session.forget(request);
        }
    }
}

impl<T> fmt::Debug for Call<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Call")
            .field("request", &self.request)
            .finish_non_exhaustive()
    }
}

/// Waits until no earlier call on a lock is unfinished, such as one that got no answer in its time and
/// is being cancelled.
pub(super) fn idle(guard: &Guard) {
    reader::wait(&guard.session, None, |state| {
        let lock = state.machine.watched(guard.handle);
        lock.is_none_or(|lock| lock.idle()).then_some(())
    });
}

/// The end of a queued call on a lock, waiting no longer than `patience`; then the call is cancelled.
pub(super) fn end<T>(
    guard: &Guard,
    request: u64,
    read: Read<T>,
    patience: Option<Duration>,
) -> Result<T, LockError> {
    let session = Arc::clone(&guard.session);
    let result = Call::queued(session, Ok(request), read).within(patience);
    if let Err(LockError::NoAnswer { .. }) = result {
        guard.session.cancel(guard.handle);
    }
    result
}
