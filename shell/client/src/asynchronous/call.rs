//! A call under way.

use crate::{
    Guard, LockError,
    answer::{Read, take},
    machine::LockState,
    session::{Owned, Session},
};
use mainstay_wire::client::Ask;
use std::{
    fmt,
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

/// The future end of a call. The call is queued when this is made, and leaves together with all
/// others queued by then when any call of the client is awaited or flushed. Dropping it before its
/// end does not undo the call; its end is then told to nobody.
#[must_use = "calls leave when they are awaited or flushed"]
pub struct Call<T> {
    session: Arc<Owned>,
    /// The number of the call, or why there is none; none once the end was told.
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

    /// The end of the call, waiting no longer than `patience`.
    pub(crate) async fn within(self, patience: Option<Duration>) -> Result<T, LockError> {
        let Some(waited) = patience else {
            return self.await;
        };
        match tokio::time::timeout(waited, self).await {
            Ok(result) => result,
            Err(_) => Err(LockError::NoAnswer { waited }),
        }
    }
}

impl<T> Future for Call<T> {
    type Output = Result<T, LockError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let request = match self.request.take() {
            Some(Ok(request)) => request,
            Some(Err(error)) => return Poll::Ready(Err(error)),
            None => panic!("a call was awaited again after its end"),
        };
        match self.session.poll_call(request, cx) {
            Poll::Ready(result) => Poll::Ready(result.and_then(|answer| take(answer, self.read))),
            Poll::Pending => {
                self.request = Some(Ok(request));
                Poll::Pending
            }
        }
    }
}

impl<T> Drop for Call<T> {
    fn drop(&mut self) {
        if let Some(Ok(request)) = self.request {
            Session::forget(&self.session, request);
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

/// Waits until no earlier call on a lock is unfinished, such as one whose future was dropped.
pub(super) async fn idle(guard: &Guard) {
    poll_fn(|cx| {
        let idle = |lock: &mut LockState| lock.idle().then_some(());
        guard.session.poll_watched(guard.handle, cx, idle)
    })
    .await;
}

/// The end of a queued call on a lock, waiting no longer than `patience`. Dropping the future cancels
/// the call.
pub(super) async fn end<T>(
    guard: &Guard,
    request: u64,
    read: Read<T>,
    patience: Option<Duration>,
) -> Result<T, LockError> {
    struct Cancelling<'a>(&'a Guard);
    impl Drop for Cancelling<'_> {
        fn drop(&mut self) {
            // Nothing, if the call has ended.
            self.0.session.cancel(self.0.handle);
        }
    }
    let cancelling = Cancelling(guard);
    let session = Arc::clone(&cancelling.0.session);
    Call::queued(session, Ok(request), read)
        .within(patience)
        .await
}
