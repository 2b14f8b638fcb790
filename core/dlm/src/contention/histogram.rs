//! Durations, counted by size in fixed memory.

use core::time::Duration;
use mainstay_wire::contention::{Bucket, Times};

/// Sizes are powers of two in microseconds: under 1, under 2, under 4, and so on; the last stands for
/// all from some three days on.
const BUCKETS: usize = 40;

/// Durations by size.
#[derive(Debug)]
pub(crate) struct Histogram {
    counts: [u64; BUCKETS],
    total_us: u64,
    max_us: u64,
}

impl Default for Histogram {
    fn default() -> Histogram {
        Histogram {
            counts: [0; BUCKETS],
            total_us: 0,
            max_us: 0,
        }
    }
}

impl Histogram {
    pub(crate) fn count(&mut self, time: Duration) {
        let us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        let size = (u64::BITS - us.leading_zeros()) as usize;
        self.counts[size.min(BUCKETS - 1)] += 1;
        self.total_us = self.total_us.saturating_add(us);
        self.max_us = self.max_us.max(us);
    }

    pub(crate) fn times(&self) -> Times {
        let buckets: Vec<Bucket> = self
            .counts
            .iter()
            .enumerate()
            .filter(|(_, count)| **count > 0)
            .map(|(size, &count)| Bucket {
                below_us: 1 << size,
                count,
            })
            .collect();
        let mut times = Times::default();
        times.merge(&Times {
            count: self.counts.iter().sum(),
            total_us: self.total_us,
            max_us: self.max_us,
            buckets,
            ..Times::default()
        });
        times
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects the sizes: each duration is counted under the power of two above it, none is lost.
    #[test]
    fn durations_are_counted_by_size() {
        let mut histogram = Histogram::default();
        for us in [0, 1, 2, 3, 4, 1000, 1024] {
            histogram.count(Duration::from_micros(us));
        }
        histogram.count(Duration::from_nanos(999));
        histogram.count(Duration::MAX);
        let times = histogram.times();
        let found: Vec<(u64, u64)> = times
            .buckets
            .iter()
            .map(|b| (b.below_us, b.count))
            .collect();
        let longest = 1 << (BUCKETS - 1);
        assert_eq!(
            found,
            [
                (1, 2),
                (2, 1),
                (4, 2),
                (8, 1),
                (1024, 1),
                (2048, 1),
                (longest, 1)
            ]
        );
        assert_eq!((times.count, times.max_us), (9, u64::MAX));
    }
}
