//! Hash tables whose order can never show.

mod wide;

use core::{
    borrow::Borrow,
    fmt,
    hash::{BuildHasher, Hash},
};
use foldhash::fast::FixedState;
use wide::Wide;

const SEED: u64 = 0x6d61_696e_7374_6179;

/// A hash table with a fixed hasher that cannot be iterated in hash order: what passes over all
/// entries does so in the order of the keys. It grows in small steps.
pub struct FixedMap<K, V>(Wide<(K, V)>);

/// A set of the same kind as [`FixedMap`].
pub type FixedSet<K> = FixedMap<K, ()>;

impl<K, V> Default for FixedMap<K, V> {
    fn default() -> Self {
        FixedMap(Wide::default())
    }
}

impl<K: Eq + Hash, V> FixedMap<K, V> {
    /// An empty table.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The value of a key.
    #[must_use]
    pub fn get(&self, key: &K) -> Option<&V> {
        let entry = self.0.find(hash(key), |(known, _)| known == key);
        entry.map(|(_, value)| value)
    }

    /// The value of a key, to be changed.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let entry = self.0.find_mut(hash(key), |(known, _)| known == key);
        entry.map(|(_, value)| value)
    }

    /// The stored key that equals a borrowed one, such as the `Arc<str>` of a `str`.
    #[must_use]
    pub fn key<Q: Eq + Hash + ?Sized>(&self, key: &Q) -> Option<&K>
    where
        K: Borrow<Q>,
    {
        let entry = self.0.find(hash(key), |(known, _)| known.borrow() == key);
        entry.map(|(key, _)| key)
    }

    /// Whether a key is present.
    #[must_use]
    pub fn contains(&self, key: &K) -> bool {
        self.get(key).is_some()
    }

    /// Sets the value of a key and returns the one it replaces.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        match self.get_mut(&key) {
            Some(known) => Some(core::mem::replace(known, value)),
            None => {
                let hash_of = |entry: &(K, V)| hash(&entry.0);
                self.0.insert(hash(&key), (key, value), hash_of);
                None
            }
        }
    }

    /// Takes a key out.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let entry = self.0.remove(hash(key), |(known, _)| known == key);
        entry.map(|(_, value)| value)
    }

    /// The value of a key, made by `default` if it was absent.
    pub fn get_or_insert_with(&mut self, key: K, default: impl FnOnce() -> V) -> &mut V {
        let at = hash(&key);
        if self.0.find(at, |(known, _)| *known == key).is_none() {
            let hash_of = |entry: &(K, V)| hash(&entry.0);
            return &mut self.0.insert(at, (key, default()), hash_of).1;
        }
        let entry = self.0.find_mut(at, |(known, _)| *known == key);
        &mut entry.expect("found above").1
    }

    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Removes all keys.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}

impl<K, V: Ord> FixedMap<K, V> {
    /// All values, in their order.
    #[must_use]
    pub fn into_sorted_values(self) -> Vec<V> {
        let mut values: Vec<V> = self.0.into_entries().map(|(_, value)| value).collect();
        values.sort_unstable();
        values
    }
}

impl<K: Eq + Hash + Ord + Clone, V> FixedMap<K, V> {
    /// All keys that pass a test, in their order.
    #[must_use]
    pub fn sorted_keys_where(&self, mut test: impl FnMut(&K, &V) -> bool) -> Vec<K> {
        let mut keys: Vec<K> = self
            .0
            .iter()
            .filter(|(k, v)| test(k, v))
            .map(|(k, _)| k.clone())
            .collect();
        keys.sort_unstable();
        keys
    }

    /// All keys, in their order.
    #[must_use]
    pub fn sorted_keys(&self) -> Vec<K> {
        self.sorted_keys_where(|_, _| true)
    }

    /// All entries, in the order of their keys.
    #[must_use]
    pub fn sorted(&self) -> Vec<(&K, &V)> {
        let mut entries: Vec<(&K, &V)> = self.0.iter().map(|(k, v)| (k, v)).collect();
        entries.sort_unstable_by(|a, b| a.0.cmp(b.0));
        entries
    }
}

impl<K: Eq + Hash + Ord + Clone + fmt::Debug, V: fmt::Debug> fmt::Debug for FixedMap<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.sorted()).finish()
    }
}

/// A table of places whose keys stand at those places, so that a key is stored once. It cannot be
/// passed over at all, and grows in small steps.
#[derive(Clone)]
pub struct FixedIndex<P>(Wide<P>);

impl<P> Default for FixedIndex<P> {
    fn default() -> Self {
        FixedIndex(Wide::default())
    }
}

impl<P: Copy> FixedIndex<P> {
    /// The place of a key, if it has one; `stands_at` tells whether the key stands at a place.
    pub fn get<K: Hash + ?Sized>(&self, key: &K, stands_at: impl FnMut(&P) -> bool) -> Option<P> {
        self.0.find(hash(key), stands_at).copied()
    }

    /// Enters the place of a key that has none; `key_at` tells the key that stands at a place.
    pub fn insert<'k, K: Hash + ?Sized + 'k>(
        &mut self,
        key: &K,
        place: P,
        key_at: impl Fn(&P) -> &'k K,
    ) {
        self.0.insert(hash(key), place, |place| hash(key_at(place)));
    }

    /// Takes the place of a key out.
    pub fn remove<K: Hash + ?Sized>(&mut self, key: &K, stands_at: impl FnMut(&P) -> bool) {
        self.0.remove(hash(key), stands_at);
    }
}

impl<P> fmt::Debug for FixedIndex<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FixedIndex of {} places", self.0.len())
    }
}

fn hash<K: Hash + ?Sized>(key: &K) -> u64 {
    FixedState::with_seed(SEED).hash_one(key)
}

/// A hash that is the same on every node and in every run: for choosing among nodes.
#[must_use]
pub fn fixed_hash(bytes: &[u8], salt: u64) -> u64 {
    // FNV-1a with a finishing mix: part of the protocol (it names directory nodes), so it must not
    // follow a library's whims.
    let mut h = 0xcbf2_9ce4_8422_2325 ^ salt.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    for &b in bytes {
        h = (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    finish(h)
}

/// A hash of a hash and a number, of the same kind as [`fixed_hash`].
#[must_use]
pub fn fixed_mix(hash: u64, number: u64) -> u64 {
    finish(hash ^ number.wrapping_mul(0x9E37_79B9_7F4A_7C15))
}

const fn finish(mut h: u64) -> u64 {
    h ^= h >> 32;
    h = h.wrapping_mul(0xd6e8_feb8_6659_fd93);
    h ^= h >> 32;
    h = h.wrapping_mul(0xd6e8_feb8_6659_fd93);
    h ^ (h >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects rolling upgrades: the directory function may never change silently.
    #[test]
    fn fixed_hash_is_part_of_the_protocol() {
        assert_eq!(fixed_hash(b"resource", 7), fixed_hash(b"resource", 7));
        assert_ne!(fixed_hash(b"resource", 7), fixed_hash(b"resource", 8));
        assert_eq!(fixed_hash(b"", 0), GOLDEN_EMPTY);
        assert_eq!(fixed_hash(b"a", 1), 0xe821_cd85_61e4_6342);
        assert_eq!(fixed_mix(1, 2), 0xce99_87a8_5988_40f3);
    }

    /// Protects lookups in an index: keys are found, under collisions and growth too, until removed.
    #[test]
    fn an_index_finds_keys_kept_elsewhere() {
        let keys: Vec<String> = (0..100).map(|n| format!("key {n}")).collect();
        let mut index = FixedIndex::default();
        let find = |index: &FixedIndex<usize>, key: &str| index.get(key, |&at| keys[at] == key);
        for (at, key) in keys.iter().enumerate() {
            assert_eq!(find(&index, key), None);
            index.insert(key.as_str(), at, |&at| keys[at].as_str());
        }
        for at in (0..100).step_by(2) {
            index.remove(keys[at].as_str(), |&other| other == at);
        }
        for (at, key) in keys.iter().enumerate() {
            assert_eq!(find(&index, key), (at % 2 == 1).then_some(at));
        }
    }

    const GOLDEN_EMPTY: u64 = finish(0xcbf2_9ce4_8422_2325);
}
