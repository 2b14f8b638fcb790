//! Following the waits: from an owner to the masters of what it waits for, from there to the owners
//! of the locks in its way, and on, until the search comes back or ends.

use crate::{
    Dlm, Life,
    master::Key,
    table::{Pending, State},
};
use core::time::Duration;
use mainstay_base::{Instant, LockId, LockMode, NodeId};
use mainstay_wire::{
    deadlock::{Found, Hop, Met, OwnerId, PATH_MAX, ProbeId, WaitId},
    dlm::{Body, ResourceId},
};
use std::collections::{BTreeMap, VecDeque};

/// How long it is remembered where a search has been.
const REMEMBER: Duration = Duration::from_secs(1);
/// Most searches that are remembered.
const SEARCHES_MAX: usize = 1 << 16;
/// Most that is remembered of all searches: owners and waits. Beyond that a search ends, and another one
/// begins some time later.
const REMEMBERED_MAX: usize = 1 << 20;
/// Most locks in one message.
const FOUND_PER_MESSAGE: usize = 1024;
/// Most locks on ranges of one file by which a search looks at the waits of one owner.
const RANGES_MAX: u16 = 256;

/// Where searches have been on this node, so that they follow each wait once, however many locks of its
/// owner they meet.
#[derive(Debug, Default)]
pub(super) struct Visited {
    searches: BTreeMap<ProbeId, Search>,
    order: VecDeque<(Instant, ProbeId)>,
    /// What is remembered of all searches.
    size: usize,
}

#[derive(Debug, Default)]
struct Search {
    owners: BTreeMap<OwnerId, Visit>,
    /// The waits from which it came back to where it began, with what has come of that.
    returns: BTreeMap<WaitId, Return>,
    size: usize,
}

#[derive(Debug, Default)]
struct Return {
    accused: bool,
    /// The modes of the locks by which it came, of those that were passed on.
    by: Vec<Option<LockMode>>,
}

/// An owner whom a search has met. Two locks on two resources lead on to all of its waits; of locks on
/// one, it matters only by which modes they are in the way.
#[derive(Debug, Default)]
struct Visit {
    resource: Option<ResourceId>,
    by: Vec<Option<LockMode>>,
    /// Met by locks on two resources: there is nothing left to follow, here or elsewhere.
    wholly: bool,
    /// What was not followed yet, or only by a guess.
    left: BTreeMap<LockId, bool>,
    /// Locks on ranges that have been looked at.
    ranges: u16,
}

impl Visit {
    /// Whether such a lock leads on to other waits than those by which the owner was met before.
    fn is_news(&mut self, met: &Met) -> bool {
        let before = self.resource.get_or_insert_with(|| met.resource.clone());
        self.wholly = *before != met.resource;
        let news = self.wholly || !self.by.contains(&met.mode);
        if news {
            self.by.push(met.mode);
        }
        news
    }

    fn size(&self) -> usize {
        1 + self.left.len()
    }
}

impl Visited {
    pub(super) fn clear(&mut self) {
        self.searches.clear();
        self.order.clear();
        self.size = 0;
    }

    /// What is remembered of a search, if there is room for more.
    fn search(&mut self, now: Instant, probe: ProbeId) -> Option<&mut Search> {
        while let Some(&(at, old)) = self.order.front() {
            if old == probe || now.since(at) < REMEMBER && self.order.len() < SEARCHES_MAX {
                break;
            }
            self.order.pop_front();
            let gone = self.searches.remove(&old);
            self.size -= gone.map_or(0, |search| search.size);
        }
        if self.size >= REMEMBERED_MAX {
            return None;
        }
        let order = &mut self.order;
        Some(self.searches.entry(probe).or_insert_with(|| {
            order.push_back((now, probe));
            Search::default()
        }))
    }

    /// Takes out what is remembered of an owner, to be put back. None if there is nothing left to do
    /// with it.
    fn take(&mut self, now: Instant, probe: ProbeId, owner: OwnerId) -> Option<Visit> {
        let search = self.search(now, probe)?;
        if search.owners.get(&owner).is_some_and(|visit| visit.wholly) {
            return None;
        }
        let visit = search.owners.remove(&owner);
        let size = visit.as_ref().map_or(0, Visit::size);
        search.size -= size;
        self.size -= size;
        Some(visit.unwrap_or_default())
    }

    fn put(&mut self, probe: ProbeId, owner: OwnerId, visit: Visit) {
        if let Some(search) = self.searches.get_mut(&probe) {
            search.size += visit.size();
            self.size += visit.size();
            search.owners.insert(owner, visit);
        }
    }

    /// What has come of it that a search came back by a wait.
    fn back(&mut self, now: Instant, probe: ProbeId, from: WaitId) -> Option<&mut Return> {
        let search = self.search(now, probe)?;
        let new = usize::from(!search.returns.contains_key(&from));
        search.size += new;
        self.size += new;
        let search = self.searches.get_mut(&probe)?;
        Some(search.returns.entry(from).or_default())
    }
}

/// Whether a search that met an owner by one lock goes on with one of its waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leads {
    No,
    /// Only the wait's master can say.
    Perhaps,
    Yes,
}

impl Dlm {
    /// Asks about waits of an owner.
    pub(super) fn follow_waits(
        &mut self,
        now: Instant,
        probe: ProbeId,
        waits: Vec<LockId>,
        path: &[Hop],
    ) {
        for lock in waits {
            let Some((wait, standing, owned)) = self.standing_wait(lock) else {
                continue;
            };
            let (place, owner) = (owned.place, standing.owner);
            let entry = self.resources.get(place);
            let resource = entry.id.clone();
            match entry.state {
                State::At(master) => self.send(
                    master,
                    Body::Probe {
                        probe,
                        resource,
                        wait,
                        owner,
                        path: path.to_vec(),
                    },
                ),
                State::Mine(_) => self.on_probe(now, probe, &resource, (wait, owner), path),
                State::LookingUp | State::Forgetting | State::Lost(_) | State::Moving(_) => {}
            }
        }
    }

    /// An owner asks who is in the way of a wait on a resource mastered here.
    pub(crate) fn on_probe(
        &mut self,
        now: Instant,
        probe: ProbeId,
        resource: &ResourceId,
        (wait, owner): (WaitId, OwnerId),
        path: &[Hop],
    ) {
        let Some(life) = self.member_life(wait.node) else {
            return;
        };
        let Some(master) = self.deciding_master(resource) else {
            return;
        };
        let blockers = master.blockers(Key::of(life, wait.lock));
        let mut by_node: BTreeMap<NodeId, Vec<Found>> = BTreeMap::new();
        for blocker in blockers {
            if !self.is_member(blocker.key.life()) {
                continue; // It will be dropped at its proof.
            }
            let via = blocker.via.map(|(key, place)| {
                let (node, _) = key.life();
                let lock = key.lock;
                let wait = 0;
                (WaitId { node, lock, wait }, place)
            });
            let (node, _) = blocker.key.life();
            by_node.entry(node).or_default().push(Found {
                lock: blocker.key.lock,
                held: blocker.held,
                stamp: blocker.stamp,
                via,
            });
        }
        for (node, mut found) in by_node {
            // Which of an owner's ranges a search meets first is not always the same.
            let turn = (probe.round.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32) % found.len() as u64;
            found.rotate_left(usize::try_from(turn).unwrap_or_default());
            if node == self.me {
                self.on_chase(now, probe, (wait, owner), path, &found);
                continue;
            }
            for found in found.chunks(FOUND_PER_MESSAGE) {
                let (path, found) = (path.to_vec(), found.to_vec());
                self.send(
                    node,
                    Body::Chase {
                        probe,
                        wait,
                        owner,
                        path,
                        found,
                    },
                );
            }
        }
    }

    /// A master tells that locks of own clients are in the way of an owner's wait.
    pub(crate) fn on_chase(
        &mut self,
        now: Instant,
        probe: ProbeId,
        (wait, waiter): (WaitId, OwnerId),
        path: &[Hop],
        found: &[Found],
    ) {
        for found in found {
            let Some(owner) = self.in_the_way(found.lock, found.held) else {
                continue;
            };
            if found.via.is_none() && waiter == owner {
                continue; // What an owner does to itself it can undo.
            }
            if path.len() + 1 + usize::from(found.via.is_some()) > PATH_MAX {
                continue;
            }
            let path = self.extended(path, wait, found);
            let Some(met) = self.met_by(found) else {
                continue;
            };
            if self.on_meeting(now, probe, owner, &met, &path) && owner.is_anywhere() {
                self.pursue(probe, owner, &met, &path);
            }
        }
    }

    /// A search has met an owner by a lock, of this node or, if it is a transaction, another one: goes
    /// on with its waits on this node. Whether those on other nodes may matter too.
    pub(super) fn on_meeting(
        &mut self,
        now: Instant,
        probe: ProbeId,
        owner: OwnerId,
        met: &Met,
        path: &[Hop],
    ) -> bool {
        if probe.owner == owner {
            return self.on_return(now, probe, met, path);
        }
        let Some(mut visit) = self.deadlocks.visited.take(now, probe, owner) else {
            return false;
        };
        let here = met.node == self.me;
        let mut onward = Vec::new();
        // A conversion, by the mode that is held. What stops a place in a queue has been named as
        // stopping those behind it.
        if here && met.held && visit.left.remove(&met.lock).is_some() {
            onward.push(met.lock);
        }
        if visit.resource.is_none() {
            visit.left = self.deadlocks.waits_of(owner).map(|w| (w, false)).collect();
        }
        let news = visit.is_news(met);
        let ranges = here && !visit.left.is_empty() && self.is_on_ranges(met.lock);
        visit.ranges += u16::from(ranges && visit.ranges < RANGES_MAX);
        if news || ranges && visit.ranges < RANGES_MAX {
            let own = |wait: LockId| here && !met.held && wait == met.lock;
            visit.left.retain(|&wait, guessed| {
                let leads = self.leads_on(met, wait);
                let follow = leads == Leads::Yes || leads == Leads::Perhaps && !*guessed;
                if own(wait) || !follow {
                    return true;
                }
                onward.push(wait);
                *guessed = true;
                leads == Leads::Perhaps
            });
        }
        if visit.wholly {
            visit.left.clear();
        }
        self.deadlocks.visited.put(probe, owner, visit);
        self.follow_waits(now, probe, onward, path);
        news
    }

    /// A search is back at the owner with whom it began, by a lock. The wait that it began with may be on
    /// another node, which is then to be told: says whether.
    fn on_return(&mut self, now: Instant, probe: ProbeId, met: &Met, path: &[Hop]) -> bool {
        let (Some(first), Some(last)) = (path.first(), path.last()) else {
            return false;
        };
        let first = first.wait;
        let here = first.node == self.me;
        let begun = || {
            let wait = self.deadlocks.waits.get(&first.lock);
            let own = wait.is_some_and(|wait| wait.owner == probe.owner);
            own && self.leads_on(met, first.lock) != Leads::No
        };
        if here && !begun() {
            return false;
        }
        let Some(back) = self.deadlocks.visited.back(now, probe, last.wait) else {
            return false;
        };
        if !here {
            let news = !back.by.contains(&met.mode);
            if news {
                back.by.push(met.mode);
            }
            return news;
        }
        if !std::mem::replace(&mut back.accused, true) {
            self.accuse(now, path.to_vec());
        }
        false
    }

    /// A lock of this node, as other nodes are told of it.
    fn met_by(&self, found: &Found) -> Option<Met> {
        let owned = self.locks.get(&found.lock)?;
        let mode = match found.held {
            true => owned.granted,
            false => owned.requested(),
        };
        Some(Met {
            node: self.me,
            lock: found.lock,
            held: found.held,
            resource: self.resources.peek(owned.place).id.clone(),
            mode: mode.filter(|_| !self.is_on_ranges(found.lock)),
        })
    }

    /// Whether a search that met an owner by one lock goes on with one of its waits. Not if the lock
    /// is in the way of that very wait: then it is another task of the owner that waits, and the one
    /// that has the lock goes on.
    fn leads_on(&self, by: &Met, wait: LockId) -> Leads {
        let here = by.node == self.me;
        if here && by.lock == wait {
            return Leads::Yes;
        }
        let Some(waiting) = self.locks.get(&wait) else {
            return Leads::No;
        };
        if self.resources.peek(waiting.place).id != by.resource {
            return Leads::Yes;
        }
        let apart = |(mode, asked): (LockMode, LockMode)| mode.compatible(asked);
        let leads = match &waiting.pending {
            // Of another node's ranges it is not known here which meet: the master is asked in time.
            Pending::Range(_) if !here => return Leads::Perhaps,
            Pending::Range(ask) if by.held => {
                let set = self.ranges.get(&by.lock);
                set.is_none_or(|set| set.conflict(ask.range, ask.mode).is_none())
            }
            Pending::Range(ask) => match self.locks.get(&by.lock).map(|owned| &owned.pending) {
                Some(Pending::Range(ahead)) => {
                    !ahead.range.overlaps(ask.range) || apart((ahead.mode, ask.mode))
                }
                _ => true,
            },
            _ => by.mode.zip(waiting.requested()).is_none_or(apart),
        };
        match leads {
            true => Leads::Yes,
            false => Leads::No,
        }
    }

    /// A member's node, with its incarnation.
    pub(super) fn member_life(&self, node: NodeId) -> Option<Life> {
        let member = self.view.member(node)?;
        Some((node, member.incarnation))
    }

    /// The queues of a resource that this node masters, if it may decide about it now.
    pub(super) fn deciding_master(&self, resource: &ResourceId) -> Option<&crate::master::Master> {
        let place = self.resources.place(resource)?;
        match &self.resources.peek(place).state {
            State::Mine(master) if master.decides() => {
                (self.active && !self.leaving).then_some(master)
            }
            _ => None,
        }
    }

    /// A path with what has been found in the way of a wait: a lock of this node.
    fn extended(&self, path: &[Hop], wait: WaitId, found: &Found) -> Vec<Hop> {
        let mut path = path.to_vec();
        let mut hop = |wait, (blocker_node, blocker), stamp| {
            path.push(Hop {
                wait,
                blocker_node,
                blocker,
                stamp,
            });
        };
        let blocker = (self.me, found.lock);
        match found.via {
            None => hop(wait, blocker, found.stamp),
            Some((via, place)) => {
                hop(wait, (via.node, via.lock), place);
                hop(via, blocker, found.stamp);
            }
        }
        path
    }
}
