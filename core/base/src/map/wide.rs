//! A hash table that grows in small steps.
//!
//! A table that doubles puts every entry in its new place at once. With half a million names, each of
//! which has to be looked at for its hash, that has taken most of a second, in which a node neither
//! grants anything nor says that it lives. So a large table is made of many, which fill up and double
//! one after another.

use hashbrown::HashTable;

/// With more entries than this a table is parted.
const SMALL: usize = 4096;
/// Into so many, a power of two.
const PARTS: usize = 1024;
/// Which bits of a hash tell the part: neither the lowest, which tell the bucket, nor the highest, which
/// are kept beside it.
const PART_SHIFT: u32 = 24;

/// Entries by hash, which whoever uses it knows how to compute. It cannot be passed over in an order
/// that would show, but for by those who sort what they get.
#[derive(Clone)]
pub(super) struct Wide<T> {
    /// None, one, or [`PARTS`].
    tables: Vec<HashTable<T>>,
    len: usize,
}

impl<T> Default for Wide<T> {
    fn default() -> Self {
        Wide {
            tables: Vec::new(),
            len: 0,
        }
    }
}

impl<T> Wide<T> {
    fn part(&self, hash: u64) -> usize {
        (hash >> PART_SHIFT) as usize & (self.tables.len().max(1) - 1)
    }

    pub(super) fn find(&self, hash: u64, is: impl FnMut(&T) -> bool) -> Option<&T> {
        self.tables.get(self.part(hash))?.find(hash, is)
    }

    pub(super) fn find_mut(&mut self, hash: u64, is: impl FnMut(&T) -> bool) -> Option<&mut T> {
        let part = self.part(hash);
        self.tables.get_mut(part)?.find_mut(hash, is)
    }

    /// Adds an entry that is not there yet; `hash_of` tells the hash of any.
    pub(super) fn insert(&mut self, hash: u64, entry: T, hash_of: impl Fn(&T) -> u64) -> &mut T {
        if self.tables.is_empty() {
            self.tables.push(HashTable::new());
        } else if self.tables.len() == 1 && self.len >= SMALL {
            self.widen(&hash_of);
        }
        self.len += 1;
        let part = self.part(hash);
        let entry = self.tables[part].insert_unique(hash, entry, hash_of);
        entry.into_mut()
    }

    fn widen(&mut self, hash_of: &impl Fn(&T) -> u64) {
        let all = std::mem::take(&mut self.tables);
        self.tables.resize_with(PARTS, HashTable::new);
        for entry in all.into_iter().flatten() {
            let hash = hash_of(&entry);
            let part = self.part(hash);
            self.tables[part].insert_unique(hash, entry, hash_of);
        }
    }

    pub(super) fn remove(&mut self, hash: u64, is: impl FnMut(&T) -> bool) -> Option<T> {
        let part = self.part(hash);
        let entry = self.tables.get_mut(part)?.find_entry(hash, is).ok()?;
        self.len -= 1;
        Some(entry.remove().0)
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn clear(&mut self) {
        *self = Wide::default();
    }

    /// In an order that must not show.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        self.tables.iter().flatten()
    }

    /// As [`Wide::iter`].
    pub(super) fn into_entries(self) -> impl Iterator<Item = T> {
        self.tables.into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: u64 = 3 * SMALL as u64;

    fn hash(n: u64) -> u64 {
        super::super::hash(&n)
    }

    /// Protects every lookup: entries are found before a table is parted and after, and until they are
    /// removed.
    #[test]
    fn entries_are_found_across_parting() {
        let mut wide = Wide::default();
        assert_eq!(wide.find(hash(1), |_| true), None);
        assert_eq!(wide.remove(hash(1), |_| true), None);
        for n in 0..ALL {
            wide.insert(hash(n), (n, 0), |entry| hash(entry.0));
            for other in [0, n / 2, n] {
                assert!(wide.find(hash(other), |entry| entry.0 == other).is_some());
            }
            assert_eq!(wide.len() as u64, n + 1);
        }
        assert_eq!(wide.tables.len(), PARTS);
        for n in (0..ALL).step_by(3) {
            let found = wide.find_mut(hash(n), |entry| entry.0 == n);
            found.expect("it was added").1 = n;
        }
        for n in (0..ALL).step_by(2) {
            let removed = wide.remove(hash(n), |entry| entry.0 == n);
            assert_eq!(removed, Some((n, if n % 3 == 0 { n } else { 0 })));
        }
        let mut left: Vec<u64> = wide.iter().map(|entry| entry.0).collect();
        left.sort_unstable();
        assert!(left.into_iter().eq((0..ALL).filter(|n| n % 2 == 1)));
        assert_eq!(wide.len() as u64, ALL / 2);
        assert_eq!(wide.into_entries().count() as u64, ALL / 2);
    }

    /// Protects against long steps: no part of a large table holds a share of it that would take long
    /// to move.
    #[test]
    fn parts_stay_small() {
        let mut wide = Wide::default();
        for n in 0..200_000 {
            wide.insert(hash(n), n, |n| hash(*n));
        }
        let largest = wide.tables.iter().map(HashTable::len).max();
        assert!(largest.is_some_and(|len| len < 300), "{largest:?}");
    }
}
