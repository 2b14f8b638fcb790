//! A queue of waiting locks, in which a lock is found quickly also in a crowd.

use crate::queue::Ticket;
use core::ops::Deref;
use std::collections::{BTreeMap, VecDeque};

/// More than so many are a crowd, and get an index. A line that was one and is empty again gives up
/// its memory; a shorter one keeps it for the next contention.
const CROWD: usize = 64;

/// What stands in a line.
pub(crate) trait Entry<K> {
    fn key(&self) -> K;

    fn ticket(&self) -> Ticket;
}

/// Entries in the order of their tickets, head first. No key stands in it twice.
#[derive(Debug)]
pub(crate) struct Line<K, E> {
    entries: VecDeque<E>,
    /// The tickets of all, by key, in a crowd.
    index: Option<BTreeMap<K, Ticket>>,
}

impl<K, E> Default for Line<K, E> {
    fn default() -> Line<K, E> {
        Line {
            entries: VecDeque::new(),
            index: None,
        }
    }
}

impl<K, E> Deref for Line<K, E> {
    type Target = VecDeque<E>;

    fn deref(&self) -> &VecDeque<E> {
        &self.entries
    }
}

impl<K: Copy + Ord, E: Entry<K>> From<Vec<E>> for Line<K, E> {
    /// The entries must be in the order of their tickets.
    fn from(entries: Vec<E>) -> Line<K, E> {
        debug_assert!(entries.is_sorted_by_key(|entry| entry.ticket()));
        let mut line = Line {
            entries: entries.into(),
            index: None,
        };
        line.index_crowd();
        line
    }
}

impl<K: Copy + Ord, E: Entry<K>> Line<K, E> {
    /// Adds an entry whose ticket belongs at that place.
    pub(crate) fn insert(&mut self, place: usize, entry: E) {
        self.enter(&entry);
        self.entries.insert(place, entry);
        self.index_crowd();
    }

    pub(crate) fn remove(&mut self, place: usize) -> Option<E> {
        let entry = self.entries.remove(place)?;
        if let Some(index) = &mut self.index {
            index.remove(&entry.key());
        }
        if self.entries.is_empty() && self.entries.capacity() > CROWD {
            *self = Line::default();
        }
        Some(entry)
    }

    /// The entries, to be changed apart from their keys and tickets.
    pub(crate) fn iter_mut(&mut self) -> impl DoubleEndedIterator<Item = &mut E> {
        self.entries.iter_mut()
    }

    /// Gives entries other keys; the tickets stay.
    pub(crate) fn rekey(&mut self, mut rekey: impl FnMut(&mut E)) {
        self.entries.iter_mut().for_each(&mut rekey);
        self.index = None;
        self.index_crowd();
    }

    /// The place of a key.
    pub(crate) fn find(&self, key: K) -> Option<usize> {
        let Some(index) = &self.index else {
            return self.entries.iter().position(|entry| entry.key() == key);
        };
        let ticket = *index.get(&key)?;
        self.entries
            .binary_search_by_key(&ticket, |entry| entry.ticket())
            .ok()
    }

    fn enter(&mut self, entry: &E) {
        if let Some(index) = &mut self.index {
            index.insert(entry.key(), entry.ticket());
        }
    }

    fn index_crowd(&mut self) {
        if self.index.is_none() && self.entries.len() > CROWD {
            let tickets = self
                .entries
                .iter()
                .map(|entry| (entry.key(), entry.ticket()));
            self.index = Some(tickets.collect());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Entry<u32> for (u32, i64) {
        fn key(&self) -> u32 {
            self.0
        }

        fn ticket(&self) -> Ticket {
            Ticket(self.1)
        }
    }

    /// Protects crowds: whatever comes and goes at either end or between, each is found at its
    /// place, and nobody else is.
    #[test]
    fn each_is_found_at_its_place() {
        let mut line = Line::<u32, (u32, i64)>::default();
        for n in 0..100_i64 {
            let key = u32::try_from(n).expect("small") * 7 % 101;
            if n % 3 == 0 {
                line.insert(0, (key, -n));
            } else {
                line.insert(line.len(), (key, n));
            }
            let found = |key| line.find(key).map(|place| line[place].0);
            for key in 0..101 {
                let stands = line.iter().any(|entry| entry.0 == key);
                assert_eq!(found(key), stands.then_some(key), "after {n}");
            }
        }
        let rebuilt: Line<u32, _> = Line::from(line.iter().copied().collect::<Vec<_>>());
        while let Some(last) = line.len().checked_sub(1) {
            let (key, _) = line.remove(last / 2).expect("it is not empty");
            assert_eq!(line.find(key), None);
            assert!(rebuilt.find(key).is_some());
            for (place, entry) in line.iter().enumerate() {
                assert_eq!(line.find(entry.0), Some(place));
            }
        }
        assert!(line.index.is_none(), "the memory of a crowd is given up");
    }
}
