//! Samples and what is told of them.

use super::placement::Placement;
use serde::Serialize;
use std::time::Duration;

/// How long something took, many times.
#[derive(Debug, Default)]
pub(super) struct Samples {
    nanos: Vec<u64>,
}

impl Samples {
    pub(super) fn add(&mut self, took: Duration) {
        self.nanos
            .push(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }

    pub(super) fn append(&mut self, mut other: Samples) {
        self.nanos.append(&mut other.nanos);
    }

    /// The summary of samples taken during `elapsed`.
    pub(super) fn summary(mut self, elapsed: Duration) -> Summary {
        self.nanos.sort_unstable();
        let at = |share: f64| micros(percentile(&self.nanos, share));
        Summary {
            count: self.nanos.len(),
            per_second: self.nanos.len() as f64 / elapsed.as_secs_f64().max(1e-9),
            p50_us: at(0.50),
            p90_us: at(0.90),
            p99_us: at(0.99),
            max_us: at(1.0),
        }
    }
}

/// The smallest sample that is not below `share` of all; 0 if there are none.
fn percentile(sorted: &[u64], share: f64) -> u64 {
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0)
}

fn micros(nanos: u64) -> f64 {
    nanos as f64 / 1000.0
}

/// Rates and percentiles.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Summary {
    pub(super) count: usize,
    pub(super) per_second: f64,
    pub(super) p50_us: f64,
    pub(super) p90_us: f64,
    pub(super) p99_us: f64,
    pub(super) max_us: f64,
}

/// To which of the machine's limits a case is compared, or to which other case.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Bound {
    /// One round trip over a UNIX socket.
    Unix,
    /// One over a UNIX socket and one over TCP.
    UnixAndTcp,
    /// Another case, called so, with its median in microseconds.
    Case(&'static str, f64),
    /// None: the case is about rates.
    None,
}

/// One measured case.
#[derive(Debug)]
pub(super) struct Row {
    /// What was done, for people and as a key.
    pub(super) name: String,
    pub(super) placement: Placement,
    pub(super) summary: Summary,
    pub(super) bound: Bound,
    /// The ratio that is aimed at, if one is.
    pub(super) target: Option<f64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects the figures: percentiles are samples that occurred, and a few samples suffice.
    #[test]
    fn percentiles_are_samples() {
        let sorted: Vec<u64> = (1..=100).collect();
        assert_eq!(percentile(&sorted, 0.5), 50);
        assert_eq!(percentile(&sorted, 0.99), 99);
        assert_eq!(percentile(&sorted, 1.0), 100);
        assert_eq!(percentile(&[7], 0.5), 7);
        assert_eq!(percentile(&[], 0.5), 0);
        let mut samples = Samples::default();
        samples.add(Duration::from_micros(4));
        samples.add(Duration::from_micros(2));
        let summary = samples.summary(Duration::from_millis(1));
        assert!((summary.per_second - 2000.0).abs() < 1e-6);
        assert!((summary.p50_us - 2.0).abs() < 1e-9 && (summary.max_us - 4.0).abs() < 1e-9);
    }
}
