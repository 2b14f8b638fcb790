//! The clock that leases are measured on, and a timer on it.

use mainstay_base::Instant;
use rustix::{
    fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
    io::Errno,
    time::{
        ClockId, Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec,
        clock_gettime, timerfd_create, timerfd_settime,
    },
};
use std::io;

const NANOS: u64 = 1_000_000_000;

/// The time on `CLOCK_BOOTTIME`, which counts suspend and never steps backwards.
#[must_use]
pub fn now() -> Instant {
    let t = clock_gettime(ClockId::Boottime);
    // The clock starts at boot, so neither part is ever negative.
    Instant(t.tv_sec.unsigned_abs() * NANOS + t.tv_nsec.unsigned_abs())
}

/// A timer on the clock of [`now`]: its descriptor becomes readable at the instant it is armed for,
/// and after a suspend that covered that instant at once, which timers on the ordinary monotonic
/// clock do not.
#[derive(Debug)]
pub struct Deadline(OwnedFd);

impl Deadline {
    /// A timer that is not armed. Its descriptor does not block and is closed on exec.
    ///
    /// # Errors
    /// If the process or the system has no descriptors left.
    pub fn new() -> io::Result<Deadline> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        Ok(Deadline(timerfd_create(TimerfdClockId::Boottime, flags)?))
    }

    /// Arms the timer for `at`, in place of what it was armed for; an instant that has passed fires
    /// at once.
    ///
    /// # Errors
    /// Only if the kernel refuses the timer.
    pub fn arm(&self, at: Instant) -> io::Result<()> {
        // All zeros would disarm it.
        let at = at.0.max(1);
        let spec = Itimerspec {
            it_interval: Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            },
            it_value: Timespec {
                tv_sec: i64::try_from(at / NANOS).unwrap_or(i64::MAX),
                tv_nsec: i64::try_from(at % NANOS).unwrap_or(0),
            },
        };
        timerfd_settime(&self.0, TimerfdTimerFlags::ABSTIME, &spec)?;
        Ok(())
    }

    /// Whether the timer has fired since it was armed or last asked.
    #[must_use]
    pub fn fired(&self) -> bool {
        let mut count = [0; 8];
        loop {
            match rustix::io::read(&self.0, &mut count) {
                Err(Errno::INTR) => {}
                other => return other.is_ok(),
            }
        }
    }
}

impl AsFd for Deadline {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Deadline {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::event::{PollFd, PollFlags, poll};
    use std::time::Duration;

    /// Protects the claim that the clock does not step backwards between two readings.
    #[test]
    fn clock_does_not_go_back() {
        let first = now();
        assert!(now() >= first && first > Instant::ZERO);
    }

    /// Protects holders of a lock: the timer never fires before its instant.
    #[test]
    fn timer_fires_at_its_instant_and_not_before() {
        let timer = Deadline::new().unwrap();
        let at = now() + Duration::from_millis(30);
        timer.arm(at).unwrap();
        assert!(!timer.fired() || now() >= at);
        poll(&mut [PollFd::new(&timer, PollFlags::IN)], None).unwrap();
        assert!(timer.fired() && now() >= at);
        assert!(!timer.fired(), "fires once");
    }

    /// Protects against waiting for ever on a lease that has already ended.
    #[test]
    fn passed_instants_fire_at_once() {
        let timer = Deadline::new().unwrap();
        timer.arm(Instant::ZERO).unwrap();
        poll(&mut [PollFd::new(&timer, PollFlags::IN)], None).unwrap();
        assert!(timer.fired());
    }
}
