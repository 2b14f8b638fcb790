//! A host's clock: an arbitrary start, and a rate that is a little wrong.

use mainstay_base::Instant;

/// Maps real (simulated) nanoseconds to the host's own clock. The clock counts through pauses and
/// never steps back; only its rate may change.
#[derive(Clone, Debug)]
pub struct Clock {
    base_real: u64,
    base_local: u64,
    rate_ppm: i64,
}

const MILLION: i128 = 1_000_000;

impl Clock {
    /// A clock that shows `offset` at real time zero and gains `rate_ppm` parts per million.
    #[must_use]
    pub fn new(offset: u64, rate_ppm: i64) -> Clock {
        Clock {
            base_real: 0,
            base_local: offset,
            rate_ppm,
        }
    }

    /// What the clock shows at a real time, which must not lie before the last change of rate.
    #[must_use]
    pub fn local(&self, real: u64) -> Instant {
        let passed = i128::from(real.saturating_sub(self.base_real));
        let shown = passed * (MILLION + i128::from(self.rate_ppm)) / MILLION;
        Instant(self.base_local + shown as u64)
    }

    /// The first real time at which the clock shows at least `local`, if its rate stays.
    #[must_use]
    pub fn real(&self, local: Instant) -> u64 {
        let ahead = i128::from(local.0.saturating_sub(self.base_local));
        let rate = MILLION + i128::from(self.rate_ppm);
        // Rounded up, so that `self.local(self.real(x)) >= x`.
        let passed = (ahead * MILLION + rate - 1) / rate;
        let real = i128::from(self.base_real) + passed;
        u64::try_from(real).unwrap_or(u64::MAX)
    }

    /// Changes the rate from now on.
    pub fn set_rate(&mut self, real: u64, rate_ppm: i64) {
        self.base_local = self.local(real).0;
        self.base_real = real;
        self.rate_ppm = rate_ppm;
    }

    /// How many parts per million the clock gains.
    #[must_use]
    pub fn rate_ppm(&self) -> i64 {
        self.rate_ppm
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dice::{Dice, SEC};
    use mainstay_base::Entropy;

    /// Protects every timer of the simulator: waking at `real(x)` finds the clock at or past `x`,
    /// and not more than a few nanoseconds past.
    #[test]
    fn real_is_the_inverse_of_local() {
        let mut dice = Entropy::new(1);
        for _ in 0..1000 {
            let rate = dice.between(0, 20_000) as i64 - 10_000;
            let mut clock = Clock::new(dice.below(SEC), rate);
            clock.set_rate(dice.below(SEC), -rate);
            let at = 2 * SEC + dice.below(100 * SEC);
            let local = clock.local(at);
            let back = clock.real(local);
            assert!(back <= at && at - back <= 2, "{back} {at}");
            assert!(clock.local(back) >= local);
        }
    }

    /// Protects the drift bound: the rate error over any stretch is exactly the drawn one.
    #[test]
    fn a_fast_clock_gains() {
        let mut clock = Clock::new(5, 10_000);
        assert_eq!(clock.local(SEC).0, 5 + SEC + SEC / 100);
        clock.set_rate(SEC, -10_000);
        assert_eq!(clock.local(2 * SEC).0, 5 + 2 * SEC);
    }
}
