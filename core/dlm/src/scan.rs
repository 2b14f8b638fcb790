//! Looking through the mastered resources for a report, in slices: nothing waits for it.

use crate::{
    Dlm, Out,
    master::Master,
    names::{Place, Places},
    table::{Resource, State},
};
use mainstay_base::{Instant, Mutant, NodeId};
use mainstay_wire::{
    dlm::{MasteredResource, ResourceId},
    report::LockspaceFilter,
};
use std::collections::BTreeSet;

/// Locks of one queue that are told of; a longer one is cut. They take some 30 bytes each.
pub const LOCKS_PER_QUEUE: usize = 500;
/// Locks after which a report ends, but for those of its last resource.
const LOCKS_MAX: usize = 3000;

/// Which of the mastered resources are asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// Who asks.
    pub asker: NodeId,
    /// The asker's number of the question.
    pub query: u64,
    /// Which resources.
    pub filter: LockspaceFilter,
    /// Of those, only those on which somebody waits.
    pub waits: bool,
}

/// The answer to [`Dlm::scan`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scan {
    /// What was asked.
    pub wanted: Wanted,
    /// Resources mastered here, by lockspace and name.
    pub resources: Vec<MasteredResource>,
    /// More than these were asked for.
    pub truncated: bool,
}

/// A scan under way.
#[derive(Debug)]
pub(crate) struct Scanning {
    wanted: Wanted,
    left: Places,
    /// The first that were found, by name.
    found: BTreeSet<ResourceId>,
    truncated: bool,
}

impl Dlm {
    /// Looks for mastered resources, in slices; [`Out::Scanned`] brings what was found. A resource
    /// that comes or goes meanwhile may be found or not.
    pub fn scan(&mut self, now: Instant, wanted: Wanted) {
        let mut scanning = Scanning {
            left: Places::default(),
            found: BTreeSet::new(),
            truncated: false,
            wanted,
        };
        if scanning.wanted.filter.only.is_empty() {
            scanning.left = self.resources.places();
            self.works.at = now;
            self.works.scans.push_back(scanning);
        } else {
            for (space, name) in std::mem::take(&mut scanning.wanted.filter.only) {
                let id = ResourceId { space, name };
                if let Some(place) = self.resources.place(&id) {
                    scanning.look_at(self.resources.peek(place));
                }
            }
            self.scanned(scanning);
        }
    }

    /// Goes on with the scans, for so many resources.
    pub(crate) fn scan_on(&mut self, mut left: u32) {
        while left > 0
            && let Some(mut scanning) = self.works.scans.pop_front()
        {
            loop {
                match scanning.left.next() {
                    Some(place) => scanning.look_into(self, place),
                    None => {
                        self.scanned(scanning);
                        break;
                    }
                }
                left -= 1;
                if left == 0 {
                    self.works.scans.push_front(scanning);
                    break;
                }
            }
        }
    }

    fn scanned(&mut self, scanning: Scanning) {
        let (mut truncated, mut locks) = (scanning.truncated, 0);
        let mut resources = Vec::new();
        for id in scanning.found {
            let place = self.resources.place(&id);
            let Some(State::Mine(master)) = place.map(|place| &self.resources.peek(place).state)
            else {
                continue;
            };
            if locks >= LOCKS_MAX {
                truncated = true;
                break;
            }
            let told = tell(id, master);
            locks += told.granted.len() + told.converting.len() + told.waiting.len();
            resources.push(told);
        }
        self.out.push(Out::Scanned(Scan {
            wanted: scanning.wanted,
            resources,
            truncated,
        }));
    }
}

impl Scanning {
    fn look_into(&mut self, dlm: &Dlm, place: Place) {
        if let Some(resource) = dlm.resources.look(place) {
            self.look_at(resource);
        }
    }

    fn look_at(&mut self, resource: &Resource) {
        let State::Mine(master) = &resource.state else {
            return;
        };
        let (id, engine) = (&resource.id, &master.engine);
        let in_use = master.rebuilding.is_some() || !master.is_empty();
        let for_range = || {
            let ranges = engine.ranges();
            ranges.is_some_and(|ranges| ranges.waiting().next().is_some())
        };
        let waited_for = || {
            let mut queues = engine.converting().chain(engine.waiting());
            queues.next().is_some() || for_range()
        };
        let wanted = self.wanted.filter.admits(id.space, &id.name)
            && in_use
            && (!self.wanted.waits || waited_for());
        let limit = self.wanted.filter.limit as usize;
        if !wanted {
            return;
        }
        if self.found.len() >= limit {
            self.truncated = true;
            let later = self.found.last().is_none_or(|last| id > last);
            if later || Mutant::PageOfFirstFound.active() {
                return;
            }
            self.found.pop_last();
        }
        self.found.insert(id.clone());
    }
}

fn tell(resource: ResourceId, master: &Master) -> MasteredResource {
    let engine = &master.engine;
    let value = engine.value();
    let view = crate::report::lock_view;
    let (held, calls) = master.told_ranges();
    let last = engine.ranges().map(|ranges| ranges.last_token());
    MasteredResource {
        resource,
        recovering: master.rebuilding.is_some(),
        token: engine.last_token().max(last.unwrap_or_default()),
        value: (value.version.0 > 0 || value.maybe_stale).then_some(value),
        granted: (engine.granted().take(LOCKS_PER_QUEUE).map(view))
            .chain(held)
            .collect(),
        converting: engine
            .converting()
            .take(LOCKS_PER_QUEUE)
            .map(view)
            .collect(),
        waiting: (engine.waiting().take(LOCKS_PER_QUEUE).map(view))
            .chain(calls)
            .collect(),
    }
}
