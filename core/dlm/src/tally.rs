//! How much there is of each lockspace, known at any time: whoever asks must not hold up millions of
//! resources until they are counted.

use crate::{directory::Entry, life::PackedLife};
use mainstay_base::{FixedMap, LockspaceId};
use std::collections::BTreeMap;

/// Counts of one lockspace.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) resources: u64,
    /// Resources mastered here.
    pub(crate) mastered: u64,
    /// Locks of own clients.
    pub(crate) locks: u64,
    /// Directory entries that name a member.
    pub(crate) entries: u64,
    /// Those that name a vanished incarnation.
    pub(crate) lost: BTreeMap<PackedLife, u64>,
}

impl Counts {
    /// A directory entry has become another one; none is no entry.
    pub(crate) fn entry(&mut self, before: Option<Entry>, after: Option<Entry>) {
        if before == after {
            return;
        }
        match before {
            Some(Entry::At(_)) => self.entries -= 1,
            Some(Entry::Lost(life)) => {
                let lost = self.lost.get_mut(&life).expect("it was counted");
                *lost -= 1;
                if *lost == 0 {
                    self.lost.remove(&life);
                }
            }
            None => {}
        }
        match after {
            Some(Entry::At(_)) => self.entries += 1,
            Some(Entry::Lost(life)) => *self.lost.entry(life).or_default() += 1,
            None => {}
        }
    }
}

/// Counts of all lockspaces of which anything is, or was, known here.
#[derive(Debug, Default)]
pub(crate) struct Tally(FixedMap<LockspaceId, Counts>);

impl Tally {
    pub(crate) fn of(&mut self, space: LockspaceId) -> &mut Counts {
        self.0.get_or_insert_with(space, Counts::default)
    }

    /// Those of which there is anything.
    pub(crate) fn all(&self) -> impl Iterator<Item = (LockspaceId, &Counts)> {
        let all = self.0.sorted().into_iter();
        let all = all.map(|(space, counts)| (*space, counts));
        all.filter(|(_, counts)| **counts != Counts::default())
    }
}
