//! The log in memory, as the library reads it. What stands here has been handed out to be written
//! but need not be durable yet; the library keeps track of that by itself.

use crate::durable::Durable;
use crate::message::{ballot_to_library, base_to_library, entry_from_library, entry_to_library};
use crate::wire::{Ballot, Base, RECORD_VERSION, Record, encode};
use core::cell::Cell;
use raft::eraftpb::{Entry, EntryType, Snapshot};
use raft::{Error, GetEntriesContext, RaftState, Result, Storage, StorageError};

/// Bytes of entries put into one record when the whole state is rewritten.
const REWRITE_LEN: usize = 128 << 10;
/// What an entry costs beside its data, roughly.
const ENTRY_LEN: usize = 16;

pub(crate) struct Store {
    ballot: Ballot,
    base: Base,
    /// `entries[i]` has the index `base.index + 1 + i`.
    entries: Vec<Entry>,
    len: usize,
    /// A peer needs a snapshot, and the one there is would not do. The library asks through a
    /// shared reference.
    wanted: Cell<bool>,
}

fn entry_len(entry: &Entry) -> usize {
    ENTRY_LEN + entry.get_data().len() + entry.get_context().len()
}

/// Whether an entry is to be shown to the application.
pub(crate) fn is_shown(entry: &Entry) -> bool {
    entry.get_entry_type() == EntryType::EntryNormal && !entry.get_data().is_empty()
}

impl Store {
    pub(crate) fn new(durable: Durable) -> Store {
        let first = durable.base.index + 1;
        let entries: Vec<Entry> = (first..)
            .zip(durable.entries)
            .map(|(index, entry)| entry_to_library(index, entry))
            .collect();
        Store {
            ballot: durable.ballot,
            base: durable.base,
            len: entries.iter().map(entry_len).sum(),
            entries,
            wanted: Cell::new(false),
        }
    }

    pub(crate) fn ballot(&self) -> Ballot {
        self.ballot
    }

    pub(crate) fn set_ballot(&mut self, ballot: Ballot) {
        self.ballot = ballot;
    }

    pub(crate) fn base(&self) -> &Base {
        &self.base
    }

    /// Size of all entries, in bytes, roughly.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn snapshot_wanted(&self) -> bool {
        self.wanted.get()
    }

    fn last(&self) -> u64 {
        self.base.index + self.entries.len() as u64
    }

    /// Where the entry stands; the index must lie behind the snapshot and not behind the log.
    fn offset(&self, index: u64) -> usize {
        (index - self.base.index - 1) as usize
    }

    /// Forgets everything in favour of a snapshot that came from the leader.
    pub(crate) fn restore(&mut self, base: Base) {
        self.entries.clear();
        self.len = 0;
        self.wanted.set(false);
        self.base = base;
    }

    /// Puts entries in their place and forgets those that stood there or later. The library hands
    /// out entries that adjoin the log only.
    pub(crate) fn append(&mut self, entries: &[Entry]) {
        if let Some(first) = entries.first() {
            let offset = self.offset(first.get_index());
            let replaced = self.entries.drain(offset..);
            self.len -= replaced.map(|entry| entry_len(&entry)).sum::<usize>();
            self.len += entries.iter().map(entry_len).sum::<usize>();
            self.entries.extend_from_slice(entries);
        }
    }

    /// The last index up to which, from `applied`, there is nothing to show, but not beyond `limit`.
    pub(crate) fn skip_hidden(&self, applied: u64, limit: u64) -> u64 {
        let mut index = applied;
        while index < limit && !is_shown(&self.entries[self.offset(index + 1)]) {
            index += 1;
        }
        index
    }

    /// Replaces the entries up to the one that `base` stands for.
    pub(crate) fn compact(&mut self, base: Base) {
        let offset = self.offset(base.index);
        let gone = self.entries.drain(..=offset);
        self.len -= gone.map(|entry| entry_len(&entry)).sum::<usize>();
        self.wanted.set(false);
        self.base = base;
    }

    /// The whole state as records, each of them consistent with the ones before.
    pub(crate) fn records(&self) -> Vec<Vec<u8>> {
        let at = |commit: u64| Ballot {
            commit: self.ballot.commit.min(commit),
            ..self.ballot
        };
        let mut record = Record {
            ballot: at(self.base.index),
            base: Some(self.base.clone()),
            first: 0,
            entries: Vec::new(),
        };
        let mut records = vec![encode(RECORD_VERSION, &record)];
        record.base = None;
        let mut len = 0;
        for entry in &self.entries {
            if record.entries.is_empty() {
                record.first = entry.get_index();
                len = 0;
            }
            record.entries.push(entry_from_library(entry));
            record.ballot = at(entry.get_index());
            len += entry_len(entry);
            if len >= REWRITE_LEN || entry.get_index() == self.last() {
                records.push(encode(RECORD_VERSION, &record));
                record.entries.clear();
            }
        }
        records
    }
}

impl Storage for Store {
    fn initial_state(&self) -> Result<RaftState> {
        Ok(RaftState::new(
            ballot_to_library(self.ballot),
            self.base.configuration.to_library(),
        ))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> Result<Vec<Entry>> {
        if low <= self.base.index {
            return Err(Error::Store(StorageError::Compacted));
        }
        if high > self.last() + 1 {
            return Err(Error::Store(StorageError::Unavailable));
        }
        let mut entries = self.entries[self.offset(low)..self.offset(high)].to_vec();
        raft::util::limit_size(&mut entries, max_size.into());
        Ok(entries)
    }

    fn term(&self, index: u64) -> Result<u64> {
        if index == self.base.index {
            return Ok(self.base.term);
        }
        if index < self.base.index {
            return Err(Error::Store(StorageError::Compacted));
        }
        match self.entries.get(self.offset(index)) {
            Some(entry) => Ok(entry.get_term()),
            None => Err(Error::Store(StorageError::Unavailable)),
        }
    }

    fn first_index(&self) -> Result<u64> {
        Ok(self.base.index + 1)
    }

    fn last_index(&self) -> Result<u64> {
        Ok(self.last())
    }

    fn snapshot(&self, request_index: u64, to: u64) -> Result<Snapshot> {
        // A member discards a snapshot whose configuration does not name it, so a new learner needs
        // one that was taken after it was added.
        if self.base.index == 0
            || self.base.index < request_index
            || !self.base.configuration.has(to)
        {
            self.wanted.set(true);
            return Err(Error::Store(StorageError::SnapshotTemporarilyUnavailable));
        }
        Ok(base_to_library(self.base.clone()))
    }
}
