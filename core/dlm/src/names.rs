//! Things with names, of which there may be millions: found by name, passed over in slices.

use mainstay_base::FixedIndex;
use mainstay_wire::dlm::ResourceId;

/// Place of a thing in its table. It keeps it until it is removed.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Place(u32);

impl Place {
    /// The block, and where in it.
    fn parts(self) -> (usize, usize) {
        let place = self.0 as usize;
        (place / BLOCK, place % BLOCK)
    }
}

/// What stands under a name.
pub(crate) trait Named {
    fn id(&self) -> &ResourceId;
}

/// Places are made so many at a time: what grows is never moved.
const BLOCK: usize = 1024;

/// A table that keeps each name only once.
#[derive(Debug)]
pub(crate) struct Names<T> {
    by_id: FixedIndex<Place>,
    /// All but the last are full.
    blocks: Vec<Vec<Option<T>>>,
    free: Vec<Place>,
}

impl<T> Default for Names<T> {
    fn default() -> Names<T> {
        Names {
            by_id: FixedIndex::default(),
            blocks: Vec::new(),
            free: Vec::new(),
        }
    }
}

impl<T: Named> Names<T> {
    pub(crate) fn place(&self, id: &ResourceId) -> Option<Place> {
        let stands_at = |place: &Place| self.at(*place).is_some_and(|thing| thing.id() == id);
        self.by_id.get(id, stands_at)
    }

    pub(crate) fn at(&self, place: Place) -> Option<&T> {
        let (block, at) = place.parts();
        self.blocks.get(block)?.get(at)?.as_ref()
    }

    pub(crate) fn at_mut(&mut self, place: Place) -> Option<&mut T> {
        self.slot(place)?.as_mut()
    }

    fn slot(&mut self, place: Place) -> Option<&mut Option<T>> {
        let (block, at) = place.parts();
        self.blocks.get_mut(block)?.get_mut(at)
    }

    /// How many places there are, used or not.
    fn all(&self) -> usize {
        let last = self.blocks.last().map_or(0, Vec::len);
        self.blocks.len().saturating_sub(1) * BLOCK + last
    }

    /// A place after all others.
    fn new_place(&mut self) -> Place {
        let place = u32::try_from(self.all()).expect("fewer than 2^32 names");
        match self.blocks.last_mut() {
            Some(block) if block.len() < BLOCK => block.push(None),
            Some(_) => {
                let mut block = Vec::with_capacity(BLOCK);
                block.push(None);
                self.blocks.push(block);
            }
            // Most tables are small.
            None => self.blocks.push(vec![None]),
        }
        Place(place)
    }

    /// Adds a thing whose name is not in the table yet.
    pub(crate) fn add(&mut self, thing: T) -> Place {
        let place = match self.free.pop() {
            Some(place) => place,
            None => self.new_place(),
        };
        let id_at = |place: &Place| {
            let (block, at) = place.parts();
            let thing = self.blocks[block][at].as_ref();
            thing.expect("only what is in use is found").id()
        };
        self.by_id.insert(thing.id(), place, id_at);
        let (block, at) = place.parts();
        self.blocks[block][at] = Some(thing);
        place
    }

    pub(crate) fn remove(&mut self, place: Place) -> Option<T> {
        let thing = self.slot(place)?.take()?;
        self.by_id.remove(thing.id(), |other| *other == place);
        self.free.push(place);
        Some(thing)
    }

    /// All places, used and unused, in an order that follows from the history alone.
    pub(crate) fn places(&self) -> Places {
        Places {
            next: 0,
            end: u32::try_from(self.all()).expect("fewer than 2^32 names"),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.all() - self.free.len()
    }

    /// Things evenly from all over the table: all there are, or at least `least` of its places.
    pub(crate) fn sample(&self, least: usize) -> impl Iterator<Item = &T> {
        let step = (self.all() / least.max(1)).max(1);
        let places = (0..self.all()).step_by(step);
        places.filter_map(|place| self.at(Place(u32::try_from(place).ok()?)))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.blocks.iter().flatten().flatten()
    }
}

/// The places that a table had at some time: those added since may be passed over or not.
#[derive(Clone, Default, Debug)]
pub(crate) struct Places {
    next: u32,
    end: u32,
}

impl Iterator for Places {
    type Item = Place;

    fn next(&mut self) -> Option<Place> {
        let place = Place(self.next);
        self.next = self.next.checked_add(1).filter(|_| place.0 < self.end)?;
        Some(place)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_base::{LockspaceId, ResourceName};

    impl Named for ResourceId {
        fn id(&self) -> &ResourceId {
            self
        }
    }

    fn id(n: u32) -> ResourceId {
        ResourceId {
            space: LockspaceId(1),
            name: ResourceName::new(format!("r{n}")).expect("valid"),
        }
    }

    /// Protects lookups: what was added is found until it is removed, and a place that is used again
    /// is not mistaken for what stood there before.
    #[test]
    fn names_are_found_until_removed() {
        let mut names = Names::default();
        let places: Vec<Place> = (0..100).map(|n| names.add(id(n))).collect();
        for n in (0..100).step_by(2) {
            assert_eq!(names.remove(places[n as usize]), Some(id(n)));
        }
        assert_eq!(names.remove(places[0]), None);
        let again = names.add(id(200));
        assert!(places.contains(&again));
        for n in 0..100 {
            let found = names.place(&id(n));
            assert_eq!(found, (n % 2 == 1).then_some(places[n as usize]));
        }
        assert_eq!(names.at(again), Some(&id(200)));
        assert_eq!(names.places().count(), 100);
        assert_eq!(names.iter().count(), 51);
    }

    /// Protects large tables: names are found, counted and passed over beyond the first block.
    #[test]
    fn names_are_found_in_every_block() {
        let mut names = Names::default();
        let many = 3 * BLOCK as u32 + 7;
        let places: Vec<Place> = (0..many).map(|n| names.add(id(n))).collect();
        assert!(places.iter().copied().eq(names.places()));
        for n in 0..many {
            assert_eq!(names.place(&id(n)), Some(places[n as usize]));
        }
        assert_eq!(names.len(), many as usize);
        assert_eq!(names.iter().count(), many as usize);
        let seen = names.sample(64).count();
        assert!((64..200).contains(&seen), "{seen} of {many}");
    }

    /// Protects slices: an empty table has no places, and they end.
    #[test]
    fn places_end() {
        assert_eq!(Names::<ResourceId>::default().places().count(), 0);
        let mut places = Places { next: 0, end: 2 };
        assert_eq!(places.by_ref().count(), 2);
        assert_eq!(places.next(), None);
    }
}
