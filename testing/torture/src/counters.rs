//! Counters in value blocks: each client that holds one exclusively reads it and publishes one more.
//! What clients read tells whether a published value was lost.

use mainstay_base::Instant;
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    sync::{Mutex, PoisonError},
};

/// One client's turn at a counter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// The counter.
    pub counter: String,
    /// The client.
    pub client: u32,
    /// When it was granted.
    pub from: Instant,
    /// What was read.
    pub read: u64,
    /// What was read was marked as possibly stale.
    pub stale: bool,
    /// When the publication of `read + 1` was confirmed, if it was. Without, it may have happened
    /// or not.
    pub confirmed: Option<Instant>,
}

/// The turns of all clients of a test.
#[derive(Debug, Default)]
pub struct Counters {
    turns: Mutex<Vec<Turn>>,
    forgotten: Mutex<Vec<Instant>>,
}

impl Counters {
    /// Adds a turn that has ended.
    pub fn add(&self, turn: Turn) {
        self.turns
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(turn);
    }

    /// At this instant no lock stands on any counter, so that all values may be forgotten.
    pub fn forget(&self, at: Instant) {
        self.forgotten
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(at);
    }

    /// How many turns there were, how many of them confirmed, and how many read a marked value.
    #[must_use]
    pub fn counts(&self) -> (usize, usize, usize) {
        let turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        let confirmed = turns.iter().filter(|turn| turn.confirmed.is_some());
        let stale = turns.iter().filter(|turn| turn.stale);
        (turns.len(), confirmed.count(), stale.count())
    }

    /// Checks that every value that was read had been published, and that one without a mark is no
    /// older than any whose publication was confirmed before, unless all were forgotten between.
    ///
    /// # Errors
    /// With everything that cannot be true.
    pub fn check(&self) -> Result<(), String> {
        let mut turns = self
            .turns
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let forgotten = self
            .forgotten
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        turns.sort_by_key(|turn| turn.from);
        let mut published: BTreeMap<&str, BTreeSet<u64>> = BTreeMap::new();
        for turn in &turns {
            let values = published.entry(&turn.counter).or_default();
            values.insert(turn.read + 1);
        }
        let mut wrong = String::new();
        for (i, turn) in turns.iter().enumerate() {
            // Writing to a String cannot fail.
            if turn.read > 0 && !published[turn.counter.as_str()].contains(&turn.read) {
                let _ = writeln!(wrong, "nobody published what was read: {turn:?}");
            }
            // After a mark the count may go on from an older value: only what came later counts.
            let same = turns[..i]
                .iter()
                .rev()
                .filter(|t| t.counter == turn.counter);
            let mut lost = None;
            for earlier in same {
                if forgotten
                    .iter()
                    .any(|&at| earlier.from < at && at < turn.from)
                {
                    break;
                }
                if earlier.confirmed.is_some_and(|at| at < turn.from) && earlier.read >= turn.read {
                    lost = Some(earlier);
                    break;
                }
                if earlier.stale {
                    break;
                }
            }
            if let Some(earlier) = lost.filter(|_| !turn.stale) {
                let _ = writeln!(
                    wrong,
                    "a confirmed value is gone without a mark:\n  {earlier:?}\n  {turn:?}"
                );
            }
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(turns: &[(u64, u64, bool, Option<u64>)]) -> Result<(), String> {
        let counters = Counters::default();
        for &(from, read, stale, confirmed) in turns {
            counters.add(Turn {
                counter: "c".to_owned(),
                client: 1,
                from: Instant::from_millis(from),
                read,
                stale,
                confirmed: confirmed.map(Instant::from_millis),
            });
        }
        counters.check()
    }

    /// Protects the checker from crying wolf: unconfirmed values may be there or not, marked ones
    /// may be old.
    #[test]
    fn a_true_count_passes() {
        let turns = [
            (10, 0, false, Some(11)),
            (20, 1, false, None),
            (30, 1, false, Some(31)),
            (40, 2, false, None),
            (50, 3, false, Some(51)),
            (60, 2, true, Some(61)),
            (70, 3, false, Some(71)),
        ];
        assert_eq!(check(&turns), Ok(()));
    }

    /// Protects the worth of the checker: a lost and an invented value are found.
    #[test]
    fn a_lost_value_is_found() {
        let lost = [(10, 0, false, Some(11)), (20, 0, false, Some(21))];
        let found = check(&lost).unwrap_err();
        assert!(found.contains("gone without a mark"), "{found}");
        let found = check(&[(10, 7, false, None)]).unwrap_err();
        assert!(found.contains("nobody published"), "{found}");
    }
}
