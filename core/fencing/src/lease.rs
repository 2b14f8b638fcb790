//! When a lease has certainly run out: pure bookkeeping for the leader of the replicated log.
//!
//! A node's lease runs for [`Timings::lease`] of its own clock from the moment it *sent* the
//! heartbeat that a majority of votes answered with a promise. Why the rule below is right:
//!
//! 1. Let `p` be the vanished incarnation, `E` the first epoch without it, and `Q` the nodes whose
//!    promises carry any lease that `p` ever computed; `Q` has more than half of all votes.
//! 2. Let `R` be the nodes whose reports prove the expiry; each had installed an epoch of at least
//!    `E`, and together they have more than half of all votes too. So some node `q` is in both.
//! 3. `q` promises only to members of the view it has installed, incarnations never come back, and
//!    views are installed in order: after installing `E` it promises `p` nothing more. If `q`
//!    restarts, it promises only in a view that contains its new boot; the `Join` of that boot
//!    comes after `E` in the log, because `q` had installed `E` before it restarted.
//! 4. `q` reports the time since its last promise to `p` in its present boot or, if there was none,
//!    since that boot began. Either way its last promise to `p` is at least that old. If `q` is the
//!    node of `p` itself under a new boot, the same holds for the promise that `p` gave itself.
//! 5. `p` sent the heartbeat before `q` promised, so the lease ends no later than
//!    `lease / (1 - d)` of real time after that promise, where `d` is the bound on drift. A measured
//!    age of `W` means at least `W / (1 + d)` of real time, no matter on whose clocks the parts were
//!    measured. `W = lease * (1 + 4 d) + 10 ms` suffices, as `(1 + d) / (1 - d) <= 1 + 4 d` for all
//!    `d <= 0.5`.
//!
//! The age in a report only counts from its receipt on: time spent on the way is lost, which errs to
//! the safe side.

use mainstay_base::{Incarnation, Instant, NodeId, Timings};
use std::{collections::BTreeMap, time::Duration};

/// Slack on top of the drift bound, for clock granularity.
const SLACK: Duration = Duration::from_millis(10);

/// How long a majority of votes must have promised nothing: `lease * (1 + 4 * drift) + 10 ms`.
#[must_use]
pub fn wait(timings: &Timings) -> Duration {
    let nanos = timings.lease.as_nanos();
    // A rate error of half and more is no clock; configuration refuses it long before.
    let drift = u128::from(timings.drift_ppm.min(500_000));
    let stretched = nanos + nanos * 4 * drift / 1_000_000;
    Duration::from_nanos(u64::try_from(stretched).unwrap_or(u64::MAX)).saturating_add(SLACK)
}

/// Whether the lease of one incarnation has run out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Certainly.
    Expired,
    /// Not certainly.
    Waiting {
        /// Votes of the nodes that report at all; they have installed a view without the incarnation.
        votes_reporting: u32,
        /// Votes of the nodes that have waited long enough.
        votes_done: u32,
        /// Votes it takes.
        votes_needed: u32,
        /// How long a majority, or as many as report, has waited.
        waited: Duration,
        /// When it will be certain if nothing changes; `None` while too few nodes report.
        expected: Option<Instant>,
    },
}

/// Reports of the voters about one vanished incarnation, as the leader gathers them.
#[derive(Clone, Debug)]
pub struct LeaseWatch {
    /// The watched node.
    pub node: NodeId,
    /// The watched incarnation.
    pub incarnation: Incarnation,
    /// Per voter: since when, on the leader's clock, it has certainly promised nothing.
    quiet_since: BTreeMap<NodeId, Quiet>,
}

/// `age` had passed at `at`. Kept apart because the difference may lie before the clock's start.
#[derive(Clone, Copy, Debug)]
struct Quiet {
    at: Instant,
    age: Duration,
}

impl Quiet {
    fn age_at(self, now: Instant) -> Duration {
        self.age.saturating_add(now.since(self.at))
    }
}

impl LeaseWatch {
    /// Nothing is reported yet.
    #[must_use]
    pub fn new(node: NodeId, incarnation: Incarnation) -> LeaseWatch {
        LeaseWatch {
            node,
            incarnation,
            quiet_since: BTreeMap::new(),
        }
    }

    /// `voter`, which has installed a view without the incarnation, says that its last promise to it
    /// is at least `age` old. The caller has checked the voter's epoch and boot.
    pub fn report(&mut self, now: Instant, voter: NodeId, age: Duration) {
        let new = Quiet { at: now, age };
        let slot = self.quiet_since.entry(voter).or_insert(new);
        // Every report is a lower bound, so the greatest is the best; a late one takes nothing back.
        if new.age > slot.age_at(now) {
            *slot = new;
        }
    }

    /// What the reports prove by now. `votes` gives each configured node's votes, `total` their sum.
    #[must_use]
    pub fn verdict(
        &self,
        now: Instant,
        wait: Duration,
        total: u32,
        votes: impl Fn(NodeId) -> u32,
    ) -> Verdict {
        let mut ages: Vec<(Duration, u32)> = self
            .quiet_since
            .iter()
            .map(|(node, quiet)| (quiet.age_at(now), votes(*node)))
            .filter(|(_, votes)| *votes > 0)
            .collect();
        ages.sort_unstable_by(|a, b| b.cmp(a));
        let votes_needed = total / 2 + 1;
        let mut sum = 0;
        let mut waited = Duration::ZERO;
        for (age, votes) in &ages {
            waited = *age;
            sum += votes;
            if sum >= votes_needed {
                break;
            }
        }
        let enough = sum >= votes_needed;
        if enough && waited >= wait {
            return Verdict::Expired;
        }
        let done = ages.iter().filter(|(age, _)| *age >= wait);
        Verdict::Waiting {
            votes_reporting: ages.iter().map(|(_, votes)| votes).sum(),
            votes_done: done.map(|(_, votes)| votes).sum(),
            votes_needed,
            waited,
            expected: enough.then(|| now + wait.saturating_sub(waited)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT: Duration = Duration::from_millis(1570);

    fn watch() -> LeaseWatch {
        LeaseWatch::new(NodeId(3), Incarnation(1))
    }

    fn one_each(_: NodeId) -> u32 {
        1
    }

    /// Protects the bound that the correctness argument needs, for default timings.
    #[test]
    fn the_wait_covers_a_slow_holder_and_a_fast_voter() {
        let timings = Timings::default();
        assert_eq!(wait(&timings), WAIT);
        for drift_ppm in [0, 100, 10_000, 100_000, 500_000] {
            let wait = wait(&Timings {
                drift_ppm,
                ..timings
            });
            let d = f64::from(drift_ppm) / 1e6;
            let real = wait.as_secs_f64() / (1.0 + d);
            assert!(
                real > timings.lease.as_secs_f64() / (1.0 - d),
                "{drift_ppm} ppm"
            );
        }
    }

    /// Protects S4: one of three votes is no quorum, however long it has waited.
    #[test]
    fn a_minority_proves_nothing() {
        let mut watch = watch();
        let now = Instant::from_millis(5000);
        watch.report(now, NodeId(1), Duration::from_secs(100));
        assert_eq!(
            watch.verdict(now, WAIT, 3, one_each),
            Verdict::Waiting {
                votes_reporting: 1,
                votes_done: 1,
                votes_needed: 2,
                waited: Duration::from_secs(100),
                expected: None,
            }
        );
    }

    /// Protects S4: half of the votes are no majority either.
    #[test]
    fn half_of_the_votes_prove_nothing() {
        let mut watch = watch();
        let now = Instant::from_millis(5000);
        watch.report(now, NodeId(1), Duration::from_secs(100));
        watch.report(now, NodeId(2), Duration::from_secs(100));
        assert_ne!(watch.verdict(now, WAIT, 4, one_each), Verdict::Expired);
        watch.report(now, NodeId(4), Duration::from_secs(100));
        assert_eq!(watch.verdict(now, WAIT, 4, one_each), Verdict::Expired);
    }

    /// Protects the choice of the majority's youngest age, and the forecast of the deadline.
    #[test]
    fn the_majority_th_age_decides() {
        let mut watch = watch();
        let start = Instant::from_millis(5000);
        watch.report(start, NodeId(1), Duration::from_millis(1600));
        watch.report(start, NodeId(2), Duration::from_millis(1000));
        let Verdict::Waiting {
            expected: Some(expected),
            ..
        } = watch.verdict(start, WAIT, 3, one_each)
        else {
            panic!("570 ms are missing");
        };
        assert_eq!(expected, Instant::from_millis(5570));
        let short = Instant(expected.0 - 1);
        assert_ne!(watch.verdict(short, WAIT, 3, one_each), Verdict::Expired);
        assert_eq!(watch.verdict(expected, WAIT, 3, one_each), Verdict::Expired);
    }

    /// Protects against reports that were long on the way: they take nothing back.
    #[test]
    fn a_late_report_takes_nothing_back() {
        let mut watch = watch();
        watch.report(
            Instant::from_millis(1000),
            NodeId(1),
            Duration::from_millis(900),
        );
        watch.report(
            Instant::from_millis(2000),
            NodeId(1),
            Duration::from_millis(100),
        );
        watch.report(
            Instant::from_millis(2000),
            NodeId(2),
            Duration::from_secs(9),
        );
        let now = Instant::from_millis(2000);
        assert_eq!(watch.verdict(now, WAIT, 3, one_each), Verdict::Expired);
    }

    /// Protects clusters with unequal votes: two small nodes do not outvote a heavy one.
    #[test]
    fn votes_weigh() {
        let mut watch = watch();
        let now = Instant::from_millis(9000);
        let votes = |node: NodeId| if node == NodeId(1) { 3 } else { 1 };
        watch.report(now, NodeId(2), Duration::from_secs(9));
        watch.report(now, NodeId(4), Duration::from_secs(9));
        assert_ne!(watch.verdict(now, WAIT, 6, votes), Verdict::Expired);
        watch.report(now, NodeId(1), Duration::from_secs(9));
        assert_eq!(watch.verdict(now, WAIT, 6, votes), Verdict::Expired);
    }
}
