//! Watching the lease.

use crate::{
    LeaseLost, LockError,
    session::{Owned, Session},
};
use mainstay_base::Instant;
use mainstay_lease::Deadline;
use std::{future::poll_fn, sync::Arc, task::Poll};
use tokio::io::{Interest, unix::AsyncFd};

/// The lease of one session, seen through the page that the daemon shares. All locks of the session
/// stand and fall with it.
#[derive(Clone, Debug)]
pub struct Lease(pub(crate) Arc<Owned>);

impl Lease {
    /// Whether the session's locks may be relied on now; see [`Guard::is_valid`](crate::Guard::is_valid).
    #[must_use]
    pub fn is_valid(&self) -> bool {
        self.0.lease_lost().is_none()
    }

    /// The end of the lease as the page shows it, on the clock of [`now`](crate::now);
    /// [`Instant::ZERO`] if the session is over.
    #[must_use]
    pub fn until(&self) -> Instant {
        self.0.valid_until()
    }

    /// Resolves when the session's locks may no longer be relied on: when the lease ends without
    /// having been renewed, at that moment and with no help of the daemon, or when the session is
    /// over. It counts suspend. What the locks protect must not be touched from then on; see
    /// [`Notice::Resumed`](crate::Notice::Resumed) for the lease that comes back.
    ///
    /// # Errors
    /// If no timer can be had from the system.
    pub async fn lost(&self) -> Result<LeaseLost, LockError> {
        lost(&self.0).await
    }
}

pub(crate) async fn lost(session: &Session) -> Result<LeaseLost, LockError> {
    let no_timer = |error: std::io::Error| {
        let text = format!("the system gives no timer for the lease: {error}");
        LockError::from(mainstay_wire::lock::Refusal::Limit(text))
    };
    let timer = Deadline::new().map_err(no_timer)?;
    // SAFETY: the timer owns its one descriptor, and is itself owned by the registration.
    let timer = unsafe { AsyncFd::register_with_interest(timer, Interest::READABLE) }
        .map_err(|error| no_timer(error.into()))?;
    let mut armed = None;
    poll_fn(|cx| {
        loop {
            if let Poll::Ready(lost) = session.poll_lease(cx) {
                return Poll::Ready(Ok(lost));
            }
            // The page may have moved on: once the timer fires, look again.
            let until = session.valid_until();
            if armed.is_none() {
                timer.get_ref().arm(until).map_err(no_timer)?;
                armed = Some(until);
            }
            match timer.poll_read_ready(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(no_timer(error))),
                Poll::Ready(Ok(mut ready)) => {
                    if timer.get_ref().fired() {
                        armed = None;
                    }
                    ready.clear_ready();
                }
            }
        }
    })
    .await
}
