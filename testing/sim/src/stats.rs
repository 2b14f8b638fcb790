//! Counts that prove what really happened in a run.

use std::{collections::BTreeMap, fmt};

/// Counters by name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats(BTreeMap<&'static str, u64>);

impl Stats {
    /// Counts one.
    pub fn count(&mut self, what: &'static str) {
        self.add(what, 1);
    }

    /// Counts several.
    pub fn add(&mut self, what: &'static str, many: u64) {
        *self.0.entry(what).or_default() += many;
    }

    /// How many so far.
    #[must_use]
    pub fn get(&self, what: &str) -> u64 {
        self.0.get(what).copied().unwrap_or_default()
    }

    /// Adds the counts of another run.
    pub fn merge(&mut self, other: &Stats) {
        for (what, many) in &other.0 {
            self.add(what, *many);
        }
    }
}

/// Two columns, by name.
impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let entries: Vec<_> = self.0.iter().collect();
        for row in entries.chunks(4) {
            for (what, many) in row {
                write!(f, "{many:>9} {what:<20}")?;
            }
            writeln!(f)?;
        }
        Ok(())
    }
}
