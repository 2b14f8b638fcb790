//! Watching the lease.

use crate::{
    LeaseLost, LockError,
    connect::wait_for,
    session::{Owned, Session},
};
use mainstay_base::Instant;
use mainstay_lease::Deadline;
use rustix::event::{PollFd, PollFlags};
use std::sync::Arc;

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

    /// Waits until the session's locks may no longer be relied on: until the lease ends without
    /// having been renewed, with no help of the daemon, or the session is over. It counts suspend.
    /// What the locks protect must not be touched from then on.
    ///
    /// # Errors
    /// If no timer can be had from the system.
    pub fn lost(&self) -> Result<LeaseLost, LockError> {
        lost(&self.0)
    }
}

pub(crate) fn lost(session: &Session) -> Result<LeaseLost, LockError> {
    let no_timer = |error: std::io::Error| {
        let text = format!("the system gives no timer for the lease: {error}");
        LockError::from(mainstay_wire::lock::Refusal::Limit(text))
    };
    let timer = Deadline::new().map_err(no_timer)?;
    loop {
        if let Some(lost) = session.lease_lost() {
            return Ok(lost);
        }
        timer.arm(session.valid_until()).map_err(no_timer)?;
        let mut fds = [
            PollFd::new(&timer, PollFlags::IN),
            PollFd::new(&session.over, PollFlags::IN),
        ];
        wait_for(&mut fds, None).map_err(no_timer)?;
    }
}
