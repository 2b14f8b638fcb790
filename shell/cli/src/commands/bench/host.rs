//! What the host of a virtual machine takes from it: who would run then stands still, whatever is measured.

use serde::Serialize;
use std::{
    fs,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

/// Between two looks at the kernel's count, which is of hundredths of a second most often.
const LOOK: Duration = Duration::from_millis(10);
/// In so much time what was taken at once is looked for.
const AT_ONCE: Duration = Duration::from_millis(100);

/// What a host took, of all processors together, in milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Taken {
    /// In all.
    pub(super) all_ms: f64,
    /// At most in a tenth of a second, or between two looks if these were further apart.
    pub(super) at_once_ms: f64,
}

/// Watches what is taken, until it is dropped.
pub(super) struct Host {
    stop: Arc<AtomicBool>,
    /// When it was seen, and how much it was by then.
    seen: Arc<Mutex<Vec<(Instant, Duration)>>>,
}

impl Host {
    /// Begins to watch, unless this kernel does not tell.
    pub(super) fn watch() -> Option<Host> {
        taken()?;
        let stop = Arc::new(AtomicBool::new(false));
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (stopped, noted) = (Arc::clone(&stop), Arc::clone(&seen));
        thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                if let Some(taken) = taken() {
                    let mut noted = noted.lock().unwrap_or_else(PoisonError::into_inner);
                    noted.push((Instant::now(), taken));
                }
                thread::sleep(LOOK);
            }
        });
        Some(Host { stop, seen })
    }

    /// What was taken between two times.
    pub(super) fn taken(&self, from: Instant, until: Instant) -> Taken {
        let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let first = seen.partition_point(|(at, _)| *at < from).saturating_sub(1);
        let last = seen.partition_point(|(at, _)| *at < until);
        let within = seen.get(first..=last).unwrap_or(&seen[first..]);
        summed(within)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

fn summed(seen: &[(Instant, Duration)]) -> Taken {
    let ms = |taken: Duration| taken.as_secs_f64() * 1000.0;
    let (Some(first), Some(last)) = (seen.first(), seen.last()) else {
        return Taken {
            all_ms: 0.0,
            at_once_ms: 0.0,
        };
    };
    let mut begin = 0;
    let mut most = Duration::ZERO;
    for (n, (at, taken)) in seen.iter().enumerate() {
        // Where this thread stood still, too, all that was taken since its last look counts.
        while at.saturating_duration_since(seen[begin].0) > AT_ONCE && begin + 1 < n {
            begin += 1;
        }
        most = most.max(taken.saturating_sub(seen[begin].1));
    }
    Taken {
        all_ms: ms(last.1.saturating_sub(first.1)),
        at_once_ms: ms(most),
    }
}

/// What has been taken since this machine was started, if the kernel tells.
fn taken() -> Option<Duration> {
    let ticks = stolen(&fs::read_to_string("/proc/stat").ok()?)?;
    let a_second = rustix::param::clock_ticks_per_second();
    Some(Duration::from_secs_f64(ticks as f64 / a_second as f64))
}

/// The eighth count of the line of all processors, in ticks (proc_stat(5)).
fn stolen(stat: &str) -> Option<u64> {
    let line = stat.lines().find(|line| line.starts_with("cpu "))?;
    line.split_whitespace().nth(8)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects figures that a reader excuses with what was taken: it is the right column.
    #[test]
    fn what_is_stolen_is_the_eighth_count() {
        let stat = "cpu  1 2 3 4 5 6 7 88 9 10\ncpu0 1 2 3 4 5 6 7 11 9 10\nintr 5\n";
        assert_eq!(stolen(stat), Some(88));
        assert_eq!(stolen("cpu  1 2 3 4\n"), None);
        assert_eq!(stolen("intr 5\n"), None);
    }

    /// Protects the same: what was taken slowly is not said to have been taken at once.
    #[test]
    fn what_is_taken_at_once_is_found() {
        let began = Instant::now();
        let at = |ms, taken| {
            let passed = Duration::from_millis(ms);
            (began + passed, Duration::from_millis(taken))
        };
        let mut seen = vec![at(0, 500), at(90, 520), at(180, 540), at(190, 590)];
        seen.push(at(400, 600));
        let taken = summed(&seen);
        assert_eq!((taken.all_ms, taken.at_once_ms), (100.0, 70.0));
        // Nobody could look meanwhile.
        seen.push(at(700, 900));
        assert_eq!(summed(&seen).at_once_ms, 300.0);
        let nothing = summed(&[]);
        assert_eq!((nothing.all_ms, nothing.at_once_ms), (0.0, 0.0));
    }

    /// Protects against what lies outside: only the time that is asked for counts.
    #[test]
    fn only_that_time_counts() {
        let began = Instant::now();
        let seen = (0..10).map(|n| (began + LOOK * n, Duration::from_millis(u64::from(n) * 3)));
        let host = Host {
            stop: Arc::default(),
            seen: Arc::new(Mutex::new(seen.collect())),
        };
        let taken = |from, until| host.taken(began + LOOK * from, began + LOOK * until).all_ms;
        assert_eq!(taken(0, 100), 27.0);
        assert_eq!(taken(3, 5), 9.0); // Also from the look before.
        assert_eq!(taken(50, 60), 0.0);
    }
}
