//! The resources for which is queued longest, in bounded memory.
//!
//! Space-saving counting: as many resources are remembered as there is room for; one that is not
//! remembered takes the place of the least, with that one's count, which it may have had itself. So
//! who really leads is never missed, and by how much a count may be too high is known.

use core::time::Duration;
use mainstay_base::{FixedMap, Instant};
use mainstay_wire::{contention::HotResource, dlm::ResourceId};
use std::collections::{BTreeMap, BTreeSet};

/// Resources remembered in each of two windows, some 200 bytes each.
const REMEMBERED: usize = 1024;
/// What was counted in a window counts until the end of the next.
const WINDOW: Duration = Duration::from_secs(600);

/// Waits of one resource.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    waits: u64,
    waited_us: u64,
    longest_us: u64,
    over_us: u64,
}

/// What was counted in one window.
#[derive(Debug, Default)]
struct Window {
    counts: FixedMap<ResourceId, Count>,
    ranks: BTreeSet<(u64, ResourceId)>,
}

impl Window {
    fn add(&mut self, resource: &ResourceId, us: u64) {
        let mut count = match self.counts.get(resource) {
            Some(known) => {
                self.ranks.remove(&(known.waited_us, resource.clone()));
                *known
            }
            None if self.counts.len() < REMEMBERED => Count::default(),
            None => {
                let Some((least, gone)) = self.ranks.pop_first() else {
                    return;
                };
                self.counts.remove(&gone);
                Count {
                    waited_us: least,
                    over_us: least,
                    ..Count::default()
                }
            }
        };
        count.waits += 1;
        count.waited_us = count.waited_us.saturating_add(us);
        count.longest_us = count.longest_us.max(us);
        self.ranks.insert((count.waited_us, resource.clone()));
        self.counts.insert(resource.clone(), count);
    }
}

/// The most contended resources of the last ten to twenty minutes.
#[derive(Debug, Default)]
pub(crate) struct Hot {
    now: Window,
    before: Window,
    /// When the present window began, and the one before.
    began: Option<Instant>,
    began_before: Option<Instant>,
}

impl Hot {
    /// Somebody queued for a resource for so long.
    pub(crate) fn add(&mut self, now: Instant, resource: &ResourceId, waited: Duration) {
        self.turn(now);
        let us = u64::try_from(waited.as_micros()).unwrap_or(u64::MAX);
        self.now.add(resource, us);
    }

    /// Begins another window when it is time.
    fn turn(&mut self, now: Instant) {
        let Some(began) = self.began else {
            self.began = Some(now);
            return;
        };
        let over = now.since(began);
        if over < WINDOW {
            return;
        }
        self.before = std::mem::take(&mut self.now);
        self.began_before = Some(began);
        if over >= 2 * WINDOW {
            self.before = Window::default();
            self.began_before = None;
        }
        self.began = Some(now);
    }

    /// The most contended, most first, of those that a test admits; and how far back that reaches.
    pub(crate) fn most(
        &mut self,
        now: Instant,
        limit: usize,
        admits: impl Fn(&ResourceId) -> bool,
    ) -> (Vec<HotResource>, Duration) {
        self.turn(now);
        let mut all: BTreeMap<&ResourceId, Count> = BTreeMap::new();
        for window in [&self.before, &self.now] {
            for (_, resource) in window.ranks.iter().filter(|(_, r)| admits(r)) {
                let Some(more) = window.counts.get(resource) else {
                    continue;
                };
                let count = all.entry(resource).or_default();
                count.waits += more.waits;
                count.waited_us = count.waited_us.saturating_add(more.waited_us);
                count.longest_us = count.longest_us.max(more.longest_us);
                count.over_us = count.over_us.saturating_add(more.over_us);
            }
        }
        let mut found: Vec<(&ResourceId, Count)> = all.into_iter().collect();
        found.sort_by_key(|(_, count)| core::cmp::Reverse(count.waited_us));
        found.truncate(limit);
        let hot = found.into_iter().map(|(resource, count)| HotResource {
            resource: resource.clone(),
            waits: count.waits,
            waited_us: count.waited_us,
            longest_us: count.longest_us,
            over_us: count.over_us,
        });
        let began = self.began_before.or(self.began).unwrap_or(now);
        (hot.collect(), now.since(began))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_base::{LockspaceId, ResourceName};

    fn id(n: u64) -> ResourceId {
        ResourceId {
            space: LockspaceId(1),
            name: ResourceName::new(format!("r{n}")).expect("valid"),
        }
    }

    const SECOND: Duration = Duration::from_secs(1);

    /// Protects "most contended": the few that are queued for most are found among more than can be
    /// remembered, and what is told of them is too high by no more than is said.
    #[test]
    fn the_most_contended_are_found_in_a_crowd() {
        let mut hot = Hot::default();
        let mut now = Instant::from_millis(1);
        for n in 0..20_000u64 {
            now = now + Duration::from_micros(10);
            hot.add(now, &id(100 + n % 5000), Duration::from_micros(10));
            if n % 2 == 0 {
                hot.add(now, &id(n % 20), Duration::from_millis(1));
            }
        }
        let (most, reach) = hot.most(now, 12, |_| true);
        assert_eq!(reach, Duration::from_micros(199_990));
        let mut leaders: Vec<ResourceId> = most[..10].iter().map(|h| h.resource.clone()).collect();
        leaders.sort();
        let mut expected: Vec<ResourceId> = (0..10).map(|n| id(2 * n)).collect();
        expected.sort();
        assert_eq!(leaders, expected);
        for found in &most[..10] {
            let real = 1_000_000;
            assert!(
                found.waited_us >= real && found.waited_us - found.over_us <= real,
                "{found:?}"
            );
            assert_eq!(found.longest_us, 1000);
        }
        assert_eq!(hot.now.counts.len(), REMEMBERED, "no more are remembered");
        assert_eq!(hot.now.ranks.len(), REMEMBERED);
        let (one, _) = hot.most(now, 12, |resource| *resource == id(4));
        assert_eq!(one.len(), 1);
    }

    /// Protects "lately": what was long ago does not count, what was in the last window does.
    #[test]
    fn what_was_long_ago_is_forgotten() {
        let mut hot = Hot::default();
        let start = Instant::from_millis(5);
        hot.add(start, &id(1), SECOND);
        hot.add(start + WINDOW, &id(2), SECOND);
        let (both, reach) = hot.most(start + WINDOW, 10, |_| true);
        assert_eq!((both.len(), reach), (2, WINDOW));
        let (one, reach) = hot.most(start + 2 * WINDOW, 10, |_| true);
        assert_eq!((one.len(), reach), (1, WINDOW));
        assert_eq!(one[0].resource, id(2));
        let (none, _) = hot.most(start + 5 * WINDOW, 10, |_| true);
        assert_eq!(none, []);
    }
}
