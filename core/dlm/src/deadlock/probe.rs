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
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// How long it is remembered where a search has been.
const REMEMBER: Duration = Duration::from_secs(1);
/// Most searches that are remembered.
const SEARCHES_MAX: usize = 1 << 16;
/// Most locks in one message.
const FOUND_PER_MESSAGE: usize = 1024;

/// An owner that a search has met, and the lock by which it came if it did not follow it wholly.
type Visit = (OwnerId, Option<(NodeId, LockId)>);

/// Which owners a search has met on this node, so that it follows each once; those that it could not
/// follow wholly, with the lock by which it came.
#[derive(Debug, Default)]
pub(super) struct Visited {
    searches: BTreeMap<ProbeId, BTreeSet<Visit>>,
    order: VecDeque<(Instant, ProbeId)>,
}

impl Visited {
    pub(super) fn clear(&mut self) {
        self.searches.clear();
        self.order.clear();
    }

    /// Whether a search has not met an owner yet, wholly or by that lock.
    fn first(
        &mut self,
        now: Instant,
        probe: ProbeId,
        owner: OwnerId,
        by: Option<(NodeId, LockId)>,
    ) -> bool {
        if let Some(met) = self.searches.get_mut(&probe) {
            return !met.contains(&(owner, None)) && met.insert((owner, by));
        }
        while let Some(&(at, old)) = self.order.front() {
            if now.since(at) < REMEMBER && self.order.len() < SEARCHES_MAX {
                break;
            }
            self.order.pop_front();
            self.searches.remove(&old);
        }
        self.order.push_back((now, probe));
        self.searches.insert(probe, BTreeSet::from([(owner, by)]));
        true
    }
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
        for (node, found) in by_node {
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
    /// on with its waits on this node. False if the search has been here before by that lock, or wholly.
    pub(super) fn on_meeting(
        &mut self,
        now: Instant,
        probe: ProbeId,
        owner: OwnerId,
        met: &Met,
        path: &[Hop],
    ) -> bool {
        let waits = self.deadlocks.waits_of(owner);
        let (onward, aside): (Vec<LockId>, Vec<LockId>) =
            waits.partition(|wait| self.leads_on(met, *wait));
        if probe.owner == owner {
            // It is back. The wait that it began with may be on another node.
            let first = path.first().map(|hop| hop.wait);
            if first.is_some_and(|first| first.node == self.me && onward.contains(&first.lock)) {
                self.accuse(now, path.to_vec());
            }
            return true;
        }
        // What stops a place in a queue has been named as stopping those behind it.
        let own = |lock: &LockId| met.node == self.me && *lock == met.lock;
        let followed = |lock: &LockId| met.held || !own(lock);
        // What becomes of the waits of a transaction on other nodes is not known here.
        let here = !owner.is_anywhere() && aside.is_empty();
        let wholly = here && onward.iter().all(followed);
        let by = (!wholly).then_some((met.node, met.lock));
        let first = self.deadlocks.visited.first(now, probe, owner, by);
        if first {
            let onward = onward.into_iter().filter(followed).collect();
            self.follow_waits(now, probe, onward, path);
        }
        first
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
    fn leads_on(&self, by: &Met, wait: LockId) -> bool {
        let here = by.node == self.me;
        if here && by.lock == wait {
            return true;
        }
        let Some(waiting) = self.locks.get(&wait) else {
            return false;
        };
        if self.resources.peek(waiting.place).id != by.resource {
            return true;
        }
        let apart = |(mode, asked): (LockMode, LockMode)| mode.compatible(asked);
        match &waiting.pending {
            // Of another node's ranges it is not known here which meet: the master is asked in time.
            Pending::Range(_) if !here => true,
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
