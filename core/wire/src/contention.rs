//! How long locks are waited for and held, and where: the data behind `contention`.

use crate::{
    dlm::ResourceId,
    report::{GraphOwner, OwnerReport},
};
use mainstay_base::{
    LockId, LockMode, LockspaceId, LockspaceName, NodeName, ResourceName, SessionId,
};
use serde::{Deserialize, Serialize};

/// Durations, counted by size. Those of several nodes can be [merged](Times::merge).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Times {
    /// How many there were.
    pub count: u64,
    /// Their sum, in microseconds.
    pub total_us: u64,
    /// The longest, in microseconds.
    pub max_us: u64,
    /// Half of them took no longer, in microseconds: exact to a factor of two, as the others.
    pub p50_us: u64,
    /// Nine tenths of them took no longer.
    pub p90_us: u64,
    /// All but a hundredth of them took no longer.
    pub p99_us: u64,
    /// How many were of which size; by size, sizes that did not occur left out.
    pub buckets: Vec<Bucket>,
}

/// Durations of one size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bucket {
    /// They were shorter than so many microseconds, a power of two, and not shorter than half of
    /// that; in the first, of 1, and the last, they may be shorter and longer.
    pub below_us: u64,
    /// How many.
    pub count: u64,
}

impl Times {
    /// Adds those of another node.
    pub fn merge(&mut self, other: &Times) {
        self.count = self.count.saturating_add(other.count);
        self.total_us = self.total_us.saturating_add(other.total_us);
        self.max_us = self.max_us.max(other.max_us);
        for bucket in &other.buckets {
            match self
                .buckets
                .binary_search_by_key(&bucket.below_us, |b| b.below_us)
            {
                Ok(place) => {
                    let count = &mut self.buckets[place].count;
                    *count = count.saturating_add(bucket.count);
                }
                Err(place) => self.buckets.insert(place, *bucket),
            }
        }
        self.p50_us = self.percentile(50);
        self.p90_us = self.percentile(90);
        self.p99_us = self.percentile(99);
    }

    /// What so many hundredths of them did not exceed, in microseconds; 0 if there were none.
    #[must_use]
    pub fn percentile(&self, hundredths: u64) -> u64 {
        let counted: u128 = self.buckets.iter().map(|b| u128::from(b.count)).sum();
        let wanted = (counted * u128::from(hundredths)).div_ceil(100);
        let mut seen = 0;
        for bucket in &self.buckets {
            seen += u128::from(bucket.count);
            if seen >= wanted && seen > 0 {
                return bucket.below_us.min(self.max_us);
            }
        }
        0
    }
}

/// What one node tells of a lockspace: of its own clients' calls, since its life began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpaceTimes {
    /// Which lockspace.
    pub space: LockspaceId,
    /// From asking for a lock or conversion to its end, granted or not. Calls that asked not to wait
    /// and were refused are left out.
    pub waits: Times,
    /// How many of those were not granted: cancelled, timed out, or refused for a deadlock.
    pub given_up: u64,
    /// From the grant of a mode other than NL to its release, or the grant of another mode.
    pub holds: Times,
}

/// A resource for which clients of one node, or of all, have had to queue lately.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HotResource {
    /// Which.
    pub resource: ResourceId,
    /// How often somebody queued.
    pub waits: u64,
    /// How long they did altogether, in microseconds.
    pub waited_us: u64,
    /// The longest of these waits, in microseconds.
    pub longest_us: u64,
    /// `waited_us` may be too high by so much: the node had forgotten the resource's rank and gave it
    /// that of the last it remembered.
    pub over_us: u64,
}

/// A call that waits at present, as its owner's node tells of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenWait {
    /// The lock.
    pub lock: LockId,
    /// The resource.
    pub resource: ResourceId,
    /// The mode held, if it converts.
    pub granted: Option<LockMode>,
    /// The mode asked for.
    pub requested: LockMode,
    /// Since the call was made, in microseconds.
    pub waited_us: u64,
    /// The session that waits.
    pub session: SessionId,
    /// Who it is.
    pub owner: OwnerReport,
}

/// How long locks are waited for and held in the whole cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContentionReport {
    /// The calls that have waited longest and still do, longest first.
    pub waits: Vec<LongWait>,
    /// The resources for which was queued longest altogether lately, most contended first.
    pub hot: Vec<HotReport>,
    /// How far back `hot` reaches, in milliseconds.
    pub hot_ms: u64,
    /// Lockspaces in which locks were asked for, by number.
    pub lockspaces: Vec<LockspaceTimes>,
    /// There are lockspaces after the last of these: ask again, to go on after it.
    pub truncated: bool,
    /// Members that did not answer in time, by name; what they would tell is missing.
    pub silent: Vec<NodeName>,
}

/// One lockspace; the calls of all members' clients, since the members joined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockspaceTimes {
    /// Its name.
    pub lockspace: LockspaceName,
    /// As [`SpaceTimes::waits`].
    pub waits: Times,
    /// As [`SpaceTimes::given_up`].
    pub given_up: u64,
    /// As [`SpaceTimes::holds`].
    pub holds: Times,
}

/// As [`HotResource`], of all nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HotReport {
    /// The resource's lockspace.
    pub lockspace: LockspaceName,
    /// The resource.
    pub name: ResourceName,
    /// How often somebody queued.
    pub waits: u64,
    /// How long they did altogether, in microseconds.
    pub waited_us: u64,
    /// The longest of these waits, in microseconds.
    pub longest_us: u64,
    /// `waited_us` may be too high by so much.
    pub over_us: u64,
}

/// A call that waits, and what is in its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LongWait {
    /// Who waits.
    pub waiter: GraphOwner,
    /// Where the resource is.
    pub lockspace: LockspaceName,
    /// The resource.
    pub name: ResourceName,
    /// The lock's number on its node.
    pub lock: LockId,
    /// The mode held, if it converts.
    pub granted: Option<LockMode>,
    /// The mode asked for.
    pub requested: LockMode,
    /// Since the call was made, in milliseconds.
    pub waited_ms: u64,
    /// What is in its way: holders, and the next ahead in the queue. None, if it was granted
    /// meanwhile or the resource has no master at present.
    pub blockers: Vec<WaitBlocker>,
}

/// What is in the way of a call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitBlocker {
    /// Whose lock it is.
    pub owner: GraphOwner,
    /// The mode that it holds; absent if it stands ahead in the queue.
    pub held: Option<LockMode>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(durations: &[(u64, u64)], max_us: u64) -> Times {
        let buckets = durations.iter();
        let buckets: Vec<Bucket> = buckets
            .map(|&(below_us, count)| Bucket { below_us, count })
            .collect();
        Times {
            count: buckets.iter().map(|b| b.count).sum(),
            total_us: 10,
            max_us,
            buckets,
            ..Times::default()
        }
    }

    /// Protects the figures of a cluster: what nodes have counted adds up, whichever sizes each saw.
    #[test]
    fn times_of_nodes_add_up() {
        let mut all = Times::default();
        all.merge(&times(&[(1, 50), (64, 1)], 40));
        all.merge(&times(&[(8, 40), (64, 8), (1024, 1)], 700));
        assert_eq!((all.count, all.total_us, all.max_us), (100, 20, 700));
        assert_eq!((all.p50_us, all.p90_us, all.p99_us), (1, 8, 64));
        assert_eq!(all.percentile(100), 700, "no more than the longest");
        assert_eq!(Times::default().percentile(50), 0);
    }

    /// Protects a node from another's counts: sums that no count can have come to do not overflow.
    #[test]
    fn absurd_counts_do_no_harm() {
        let mut all = times(&[(1, 1), (2, 1)], 1);
        let mut other = times(&[(1, 1)], u64::MAX);
        other.count = u64::MAX;
        other.buckets[0].count = u64::MAX;
        all.merge(&other);
        all.merge(&other);
        assert_eq!(all.count, u64::MAX);
        assert_eq!(all.p50_us, 1);
    }
}
