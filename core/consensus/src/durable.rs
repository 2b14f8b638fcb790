//! The durable state of a member, rebuilt from its records.

use crate::config::NUMBER_MAX;
use crate::wire::{Ballot, Base, LogEntry, RECORD_VERSION, Record, decode};

/// What a member had made durable when it stopped. Begin with [`Durable::new`], feed the records of
/// the journal in order, then start the member with [`Consensus::recover`](crate::Consensus::recover).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Durable {
    pub(crate) ballot: Ballot,
    pub(crate) base: Base,
    pub(crate) entries: Vec<LogEntry>,
    records: u64,
}

/// Records that cannot have been written in this order.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DurableError {
    /// A format that this version does not know.
    #[error("consensus record {record}: format {found}, this version knows format {known}")]
    Version {
        /// Which record, counted from 1.
        record: u64,
        /// The first byte.
        found: u8,
        /// The format known.
        known: u8,
    },
    /// Bytes that are no record.
    #[error("consensus record {record}: not a record: {why}")]
    Malformed {
        /// Which record, counted from 1.
        record: u64,
        /// What is wrong with it.
        why: String,
    },
    /// The record does not follow from the ones before.
    #[error("consensus record {record}: {what} ({found}, after {known})")]
    Inconsistent {
        /// Which record, counted from 1.
        record: u64,
        /// The rule that is broken.
        what: &'static str,
        /// What the record says.
        found: u64,
        /// What the records before it say.
        known: u64,
    },
}

impl Durable {
    /// The state of an empty disk.
    #[must_use]
    pub fn new() -> Durable {
        Durable::default()
    }

    /// Whether there has been no record.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Index of the last log entry; zero if there is none.
    #[must_use]
    pub fn last_index(&self) -> u64 {
        self.base.index + self.entries.len() as u64
    }

    fn term(&self, index: u64) -> u64 {
        match index.checked_sub(self.base.index) {
            None => 0,
            Some(0) => self.base.term,
            Some(offset) => self.entries[offset as usize - 1].term,
        }
    }

    /// Takes the next record.
    ///
    /// # Errors
    /// If it is no record, of an unknown format, or contradicts the records before it. The state is
    /// then unchanged, and must not be used to start a member.
    pub fn apply(&mut self, record: &[u8]) -> Result<(), DurableError> {
        let number = self.records + 1;
        let malformed = |why: &str| DurableError::Malformed {
            record: number,
            why: why.to_owned(),
        };
        let Some((&version, body)) = record.split_first() else {
            return Err(malformed("it is empty"));
        };
        if version != RECORD_VERSION {
            return Err(DurableError::Version {
                record: number,
                found: version,
                known: RECORD_VERSION,
            });
        }
        let record: Record = decode(body).map_err(|why| malformed(&why))?;
        self.check(number, &record)?;
        if let Some(base) = record.base {
            self.entries.clear();
            self.base = base;
        }
        if !record.entries.is_empty() {
            self.entries
                .truncate((record.first - self.base.index - 1) as usize);
            self.entries.extend(record.entries);
        }
        self.ballot = record.ballot;
        self.records = number;
        Ok(())
    }

    fn check(&self, number: u64, record: &Record) -> Result<(), DurableError> {
        let inconsistent = |what, found, known| {
            Err(DurableError::Inconsistent {
                record: number,
                what,
                found,
                known,
            })
        };
        let (old, new) = (self.ballot, record.ballot);
        if new.term.max(new.commit).max(record.first) > NUMBER_MAX {
            return inconsistent("a number out of range", new.term, old.term);
        }
        if new.term < old.term {
            return inconsistent("the term went back", new.term, old.term);
        }
        if new.term == old.term && old.vote != 0 && new.vote != old.vote {
            return inconsistent("a second vote in one term", new.vote, old.vote);
        }
        if new.commit < old.commit {
            return inconsistent("the commit index went back", new.commit, old.commit);
        }
        let (mut base, mut last) = (self.base.index, self.last_index());
        let mut last_term = None;
        if let Some(snapshot) = &record.base {
            if snapshot.index == 0 || snapshot.term == 0 || snapshot.index > NUMBER_MAX {
                return inconsistent("a snapshot of nothing", snapshot.index, base);
            }
            if snapshot.index < old.commit {
                return inconsistent("a snapshot older than the log", snapshot.index, old.commit);
            }
            if snapshot.term > new.term {
                return inconsistent("a snapshot of a later term", snapshot.term, new.term);
            }
            if let Err(why) = snapshot.configuration.check() {
                return Err(DurableError::Malformed {
                    record: number,
                    why: why.to_owned(),
                });
            }
            (base, last) = (snapshot.index, snapshot.index);
            last_term = Some(snapshot.term);
        }
        if !record.entries.is_empty() {
            if record.first <= base || record.first > last + 1 {
                return inconsistent("entries that do not adjoin the log", record.first, last);
            }
            if record.first <= old.commit {
                return inconsistent("entries over committed ones", record.first, old.commit);
            }
            let mut term = last_term.unwrap_or_else(|| self.term(record.first - 1));
            for entry in &record.entries {
                if entry.term == 0 || entry.term < term || entry.term > new.term {
                    return inconsistent("an entry out of the order of terms", entry.term, term);
                }
                term = entry.term;
            }
            last = record.first - 1 + record.entries.len() as u64;
        }
        if new.commit > last || new.commit < base {
            return inconsistent("a commit index outside the log", new.commit, last);
        }
        Ok(())
    }
}
