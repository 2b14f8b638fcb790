//! When the command that runs under a lock must end.

use mainstay_base::Instant;
use std::time::Duration;

/// KILL comes so long before the lease ends, to have done its work by then.
const MARGIN: Duration = Duration::from_millis(50);

/// The times that hold for one lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rules {
    grace: Duration,
    margin: Duration,
}

/// What to do now about a command whose lock is held until a certain instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing, until then.
    Look(Instant),
    /// Tell it to end.
    Terminate,
}

impl Rules {
    /// The grace that was asked for, but at most half of the lease as it was when the lock was
    /// granted: otherwise a short lease would never be long enough.
    pub(super) fn new(grace: Duration, lease: Duration) -> Rules {
        let grace = grace.min(lease / 2);
        Rules {
            grace,
            margin: MARGIN.min(grace / 5),
        }
    }

    /// What to do at `now` about a lock that is held until `until`.
    pub(super) fn judge(self, now: Instant, until: Instant) -> Verdict {
        let notice = until.saturating_sub(self.grace);
        if now < notice {
            Verdict::Look(notice)
        } else {
            Verdict::Terminate
        }
    }

    /// When a command that was told at `told` to end must be killed: after the grace, and in any
    /// case before the end of the lease.
    pub(super) fn kill_at(self, told: Instant, until: Instant) -> Instant {
        (told + self.grace).min(until.saturating_sub(self.margin))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Instant {
        Instant::from_millis(ms)
    }

    fn rules() -> Rules {
        Rules::new(Duration::from_millis(500), Duration::from_millis(1500))
    }

    /// Protects the usual life of a lock: while the lease is renewed in time, nothing happens.
    #[test]
    fn a_running_lease_is_looked_at_again() {
        assert_eq!(rules().judge(ms(1000), ms(2500)), Verdict::Look(ms(2000)));
        assert_eq!(rules().judge(ms(1999), ms(2500)), Verdict::Look(ms(2000)));
    }

    /// Protects the order of things: TERM comes a grace before the end, KILL before the end.
    #[test]
    fn an_ending_lease_terminates_then_kills() {
        assert_eq!(rules().judge(ms(2000), ms(2500)), Verdict::Terminate);
        assert_eq!(rules().kill_at(ms(2000), ms(2500)), ms(2450));
        assert!(rules().kill_at(ms(2000), ms(2500)) < ms(2500));
    }

    /// Protects against running on after the end: a lease that is over or was revoked kills at once.
    #[test]
    fn a_lease_that_is_over_kills_at_once() {
        assert_eq!(rules().judge(ms(2600), ms(2500)), Verdict::Terminate);
        assert!(rules().kill_at(ms(2600), ms(2500)) <= ms(2600));
        assert_eq!(rules().judge(ms(5), Instant::ZERO), Verdict::Terminate);
        assert_eq!(rules().kill_at(ms(5), Instant::ZERO), Instant::ZERO);
    }

    /// Protects against a broken connection: the known deadline counts, the grace comes first.
    #[test]
    fn a_lost_session_grants_the_grace_within_the_lease() {
        assert_eq!(rules().kill_at(ms(100), ms(1500)), ms(600));
        assert_eq!(rules().kill_at(ms(1300), ms(1500)), ms(1450));
    }

    /// Protects short leases: a grace longer than the lease would end every command at once.
    #[test]
    fn grace_is_at_most_half_of_the_lease() {
        let rules = Rules::new(Duration::from_secs(10), Duration::from_millis(300));
        assert_eq!(rules.judge(ms(0), ms(300)), Verdict::Look(ms(150)));
        assert_eq!(rules.kill_at(ms(150), ms(300)), ms(270));
    }
}
