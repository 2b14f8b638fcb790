//! What is held and what waits, by place: who is in the way of a range is found without a look at
//! those that are not.

use super::{
    set::{Change, PerMode, Stretch, conflicting},
    tree::{Item, Seeker, Tree},
};
use crate::Ticket;
use core::{fmt::Debug, ops::ControlFlow};
use mainstay_base::{ByteRange, LockMode, Mutant};
use std::collections::BTreeSet;

/// A stretch that somebody holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held<K> {
    pub(crate) range: ByteRange,
    pub(crate) key: K,
}

/// The stretch that goes furthest, and the one of another owner that does: so the stretches of one
/// owner can be left out, however many there are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Furthest<K> {
    end: u64,
    key: K,
    other: Option<(u64, K)>,
}

impl<K: Copy + Ord + Debug> Item for Held<K> {
    type Tag = K;
    type Summary = Furthest<K>;

    fn range(&self) -> ByteRange {
        self.range
    }

    fn tag(&self) -> K {
        self.key
    }

    fn summary(&self) -> Furthest<K> {
        Furthest {
            end: self.range.end(),
            key: self.key,
            other: None,
        }
    }

    fn join(a: Furthest<K>, b: Furthest<K>) -> Furthest<K> {
        let (first, second) = match a.end >= b.end {
            true => (a, b),
            false => (b, a),
        };
        let another = match second.key == first.key {
            true => second.other,
            false => Some((second.end, second.key)),
        };
        let other = first.other.into_iter().chain(another).max_by_key(|o| o.0);
        Furthest { other, ..first }
    }

    fn last_end(summary: &Furthest<K>) -> u64 {
        summary.end
    }
}

/// A call that waits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    pub(crate) range: ByteRange,
    pub(crate) ticket: Ticket,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Span {
    end: u64,
    first: Ticket,
    last: Ticket,
}

impl Item for Wanted {
    type Tag = Ticket;
    type Summary = Span;

    fn range(&self) -> ByteRange {
        self.range
    }

    fn tag(&self) -> Ticket {
        self.ticket
    }

    fn summary(&self) -> Span {
        Span {
            end: self.range.end(),
            first: self.ticket,
            last: self.ticket,
        }
    }

    fn join(a: Span, b: Span) -> Span {
        Span {
            end: a.end.max(b.end),
            first: a.first.min(b.first),
            last: a.last.max(b.last),
        }
    }

    fn last_end(summary: &Span) -> u64 {
        summary.end
    }
}

/// All stretches that are held.
#[derive(Clone, Debug)]
pub(crate) struct HeldIndex<K> {
    modes: PerMode<Tree<Held<K>, Furthest<K>>>,
}

impl<K> Default for HeldIndex<K> {
    fn default() -> Self {
        let modes = PerMode::default();
        HeldIndex { modes }
    }
}

/// Looks for what others than one owner hold, as long as that is wanted.
struct Others<K, F> {
    except: K,
    from: u64,
    found: F,
}

impl<K: Copy + Ord + Debug, F: FnMut(&Held<K>) -> ControlFlow<()>> Seeker<Held<K>>
    for Others<K, F>
{
    fn wants(&mut self, branch: &Furthest<K>) -> bool {
        let end = match branch.key == self.except {
            true => branch.other.map(|other| other.0),
            false => Some(branch.end),
        };
        end.is_some_and(|end| end >= self.from)
    }

    fn meets(&mut self, item: &Held<K>) -> ControlFlow<()> {
        match item.key == self.except {
            true => ControlFlow::Continue(()),
            false => (self.found)(item),
        }
    }
}

impl<K: Copy + Ord + Debug> HeldIndex<K> {
    pub(crate) fn len(&self) -> usize {
        self.modes.iter().map(Tree::len).sum()
    }

    pub(crate) fn apply(&mut self, key: K, change: &Change) {
        for Stretch { range, mode, .. } in &change.removed {
            let (range, held) = (*range, self.modes.of_mut(*mode));
            let known = held.remove(&Held { range, key });
            debug_assert!(known, "a stretch that an owner has is in the index");
        }
        for Stretch { range, mode, .. } in &change.added {
            let range = *range;
            self.modes.of_mut(*mode).insert(Held { range, key });
        }
    }

    /// A stretch of another owner that is in the way of a mode, and the first byte at which it is.
    pub(crate) fn first_in_way(
        &self,
        range: ByteRange,
        mode: LockMode,
        except: K,
    ) -> Option<(K, u64)> {
        let mut first = None;
        self.each_in_way(range, mode, except, |held| {
            let start_only = Mutant::RangeOverlapByStart.active();
            if start_only && held.range.start() < range.start() {
                return ControlFlow::Continue(());
            }
            let at = held.range.start().max(range.start());
            if first.is_none_or(|(_, known)| at < known) {
                first = Some((held.key, at));
            }
            ControlFlow::Break(())
        });
        first
    }

    /// Shows the stretches of other owners that are in the way of a mode; after a break, those of
    /// the next mode.
    pub(crate) fn each_in_way(
        &self,
        range: ByteRange,
        mode: LockMode,
        except: K,
        mut found: impl FnMut(&Held<K>) -> ControlFlow<()>,
    ) {
        for held in conflicting(mode) {
            let mut others = Others {
                except,
                from: range.start(),
                found: &mut found,
            };
            self.modes.of(held).seek(range, false, &mut others);
        }
    }
}

/// All calls that wait.
#[derive(Clone, Debug, Default)]
pub(crate) struct WantedIndex {
    modes: PerMode<Tree<Wanted, Span>>,
}

/// Looks for the last of the calls before a ticket that counts.
struct LastBefore<F> {
    before: Ticket,
    found: Option<Ticket>,
    counts: F,
}

impl<F: FnMut(&Wanted) -> bool> Seeker<Wanted> for LastBefore<F> {
    fn wants(&mut self, branch: &Span) -> bool {
        branch.first < self.before && self.found.is_none_or(|found| branch.last > found)
    }

    fn meets(&mut self, item: &Wanted) -> ControlFlow<()> {
        let later = self.found.is_none_or(|found| item.ticket > found);
        if item.ticket < self.before && later && (self.counts)(item) {
            self.found = Some(item.ticket);
        }
        ControlFlow::Continue(())
    }
}

/// Looks for all calls before a ticket.
struct AllBefore {
    before: Ticket,
    found: BTreeSet<Ticket>,
}

impl Seeker<Wanted> for AllBefore {
    fn wants(&mut self, branch: &Span) -> bool {
        branch.first < self.before
    }

    fn meets(&mut self, item: &Wanted) -> ControlFlow<()> {
        if item.ticket < self.before {
            self.found.insert(item.ticket);
        }
        ControlFlow::Continue(())
    }
}

/// Looks for any call.
#[derive(Default)]
struct Any {
    found: Option<Wanted>,
}

impl Seeker<Wanted> for Any {
    fn wants(&mut self, _: &Span) -> bool {
        true
    }

    fn meets(&mut self, item: &Wanted) -> ControlFlow<()> {
        self.found = Some(*item);
        ControlFlow::Break(())
    }
}

impl WantedIndex {
    pub(crate) fn len(&self) -> usize {
        self.modes.iter().map(Tree::len).sum()
    }

    pub(crate) fn insert(&mut self, mode: LockMode, wanted: Wanted) {
        self.modes.of_mut(mode).insert(wanted);
    }

    pub(crate) fn remove(&mut self, mode: LockMode, wanted: Wanted) {
        let known = self.modes.of_mut(mode).remove(&wanted);
        debug_assert!(known, "a call that waits is in the index");
    }

    /// The last call before a ticket that asks for some of a range in a mode that conflicts, and
    /// counts.
    pub(crate) fn last_before(
        &self,
        before: Ticket,
        range: ByteRange,
        mode: LockMode,
        counts: impl FnMut(&Wanted) -> bool,
    ) -> Option<Ticket> {
        let mut seeker = LastBefore {
            before,
            found: None,
            counts,
        };
        for asked in conflicting(mode) {
            self.modes.of(asked).seek(range, true, &mut seeker);
        }
        seeker.found
    }

    /// All calls before a ticket that ask for some of a range in a mode that conflicts.
    pub(crate) fn all_before(
        &self,
        before: Ticket,
        range: ByteRange,
        mode: LockMode,
    ) -> BTreeSet<Ticket> {
        let mut seeker = AllBefore {
            before,
            found: BTreeSet::new(),
        };
        for asked in conflicting(mode) {
            self.modes.of(asked).seek(range, false, &mut seeker);
        }
        seeker.found
    }

    /// A call that asks for some of a range in that mode.
    pub(crate) fn any(&self, range: ByteRange, mode: LockMode) -> Option<Wanted> {
        let mut seeker = Any::default();
        self.modes.of(mode).seek(range, false, &mut seeker);
        seeker.found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_base::fixed_mix;

    /// Counts the branches that a search looks at.
    struct Counted<S> {
        seeker: S,
        steps: u32,
    }

    impl<I: Item, S: Seeker<I>> Seeker<I> for Counted<S> {
        fn wants(&mut self, branch: &I::Summary) -> bool {
            self.steps += 1;
            self.seeker.wants(branch)
        }

        fn meets(&mut self, item: &I) -> ControlFlow<()> {
            self.seeker.meets(item)
        }
    }

    fn range(start: u64, end: u64) -> ByteRange {
        ByteRange::new(start, end).expect("forwards")
    }

    /// Steps of a search for somebody in the way of a range, among so many stretches, of which all
    /// but one belong to the owner that asks.
    fn steps_among(count: u64, asked: ByteRange, other: u64) -> (u32, bool) {
        let mut tree = Tree::default();
        // In an order that has nothing to do with their places.
        for n in 0..count {
            let at = (n * 7919) % count;
            let key = u32::from(at == other);
            let range = range(at * 10, at * 10 + 8);
            tree.insert(Held { range, key });
        }
        let mut met = false;
        let mut counted = Counted {
            seeker: Others {
                except: 0,
                from: asked.start(),
                found: |_: &Held<u32>| {
                    met = true;
                    ControlFlow::Break(())
                },
            },
            steps: 0,
        };
        tree.seek(asked, false, &mut counted);
        (counted.steps, met)
    }

    /// Protects O(log n): whether somebody is in the way is found in a number of steps that hardly
    /// grows with the number of stretches, be they one's own and in the asked range, or elsewhere.
    #[test]
    fn a_conflict_is_found_in_logarithmic_time() {
        for (count, at_most) in [(1_000, 120), (100_000, 240)] {
            for place in [0, count / 3, count - 1] {
                let (steps, met) = steps_among(count, ByteRange::ALL, place);
                assert!(met && steps <= at_most, "{steps} steps among {count}");
                let at = range(place * 10 + 4, place * 10 + 14);
                let (steps, met) = steps_among(count, at, place);
                assert!(met && steps <= at_most, "{steps} steps among {count}");
                let (steps, met) = steps_among(count, ByteRange::ALL, count);
                assert!(!met && steps <= at_most, "{steps} steps among {count}");
            }
        }
    }

    /// Protects O(log n) for queues: the last of those that stand before a call is found as quickly,
    /// in a queue for one place and in one that is spread over many.
    #[test]
    fn who_stands_before_is_found_in_logarithmic_time() {
        for (spread, count) in [(0, 1_000_u64), (0, 100_000), (10, 1_000), (10, 100_000)] {
            let mut tree = Tree::default();
            for n in 0..count {
                let at = (n * 7919) % count * spread;
                let ticket = Ticket(n.cast_signed() + 1);
                let range = range(at, at + 9);
                tree.insert(Wanted { range, ticket });
            }
            for before in [2, count / 2, count + 1] {
                let last = (before - 2) * 7919 % count * spread;
                let mut counted = Counted {
                    seeker: LastBefore {
                        before: Ticket(before.cast_signed()),
                        found: None,
                        counts: |_: &Wanted| true,
                    },
                    steps: 0,
                };
                tree.seek(range(last, last + 9), true, &mut counted);
                let found = counted.seeker.found;
                assert_eq!(found, Some(Ticket(before.cast_signed() - 1)));
                assert!(counted.steps <= 240, "{} steps", counted.steps);
            }
        }
    }

    /// Protects the trees: after whatever came and went, a search finds what a look at all finds.
    #[test]
    fn trees_find_what_lists_find() {
        let mut tree = Tree::default();
        let mut list: Vec<Held<u64>> = Vec::new();
        let mut last = 0;
        let mut draw = |below: u64| {
            last += 1;
            fixed_mix(7, last) % below
        };
        for _ in 0..4_000 {
            let start = draw(200);
            let item = Held {
                range: range(start, start + draw(30)),
                key: draw(5),
            };
            let known = list
                .iter()
                .position(|l| l.range.start() == start && l.key == item.key);
            match known {
                Some(known) if draw(2) == 0 => {
                    assert!(tree.remove(&list.swap_remove(known)));
                }
                Some(_) => {}
                None => {
                    tree.insert(item);
                    list.push(item);
                }
            }
            assert_eq!(tree.len(), list.len());
            let start = draw(200);
            let (asked, except) = (range(start, start + draw(40)), draw(6));
            let counts = |held: &&Held<u64>| held.range.overlaps(asked) && held.key != except;
            let mut expected: Vec<_> = list
                .iter()
                .filter(counts)
                .map(|h| (h.range, h.key))
                .collect();
            expected.sort_unstable();
            let mut found = Vec::new();
            let mut others = Others {
                except,
                from: asked.start(),
                found: |held: &Held<u64>| {
                    found.push((held.range, held.key));
                    ControlFlow::Continue(())
                },
            };
            tree.seek(asked, false, &mut others);
            found.sort_unstable();
            assert_eq!(found, expected);
        }
        for item in list {
            assert!(tree.remove(&item));
        }
        assert!(tree.is_empty());
    }
}
