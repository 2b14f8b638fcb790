//! Following the waits: from an owner to the masters of what it waits for, from there to the owners
//! of the locks in its way, and on, until the search comes back or ends.

use crate::{Dlm, Life, master::Key, table::State};
use core::time::Duration;
use mainstay_base::{Instant, LockId, LockMode, NodeId, SessionId};
use mainstay_wire::{
    deadlock::{Found, Hop, PATH_MAX, ProbeId, WaitId},
    dlm::{Body, ResourceId},
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// How long it is remembered where a search has been.
const REMEMBER: Duration = Duration::from_secs(1);
/// Most searches that are remembered.
const SEARCHES_MAX: usize = 1 << 16;
/// Most locks in one message.
const FOUND_PER_MESSAGE: usize = 1024;

/// Which owners of this node a search has met, so that it follows each once; those that it could not
/// follow wholly, with the lock by which it came.
#[derive(Debug, Default)]
pub(super) struct Visited {
    searches: BTreeMap<ProbeId, BTreeSet<(SessionId, Option<LockId>)>>,
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
        session: SessionId,
        by: Option<LockId>,
    ) -> bool {
        if let Some(met) = self.searches.get_mut(&probe) {
            return !met.contains(&(session, None)) && met.insert((session, by));
        }
        while let Some(&(at, old)) = self.order.front() {
            if now.since(at) < REMEMBER && self.order.len() < SEARCHES_MAX {
                break;
            }
            self.order.pop_front();
            self.searches.remove(&old);
        }
        self.order.push_back((now, probe));
        self.searches.insert(probe, BTreeSet::from([(session, by)]));
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
            let Some((wait, _, owned)) = self.standing_wait(lock) else {
                continue;
            };
            let place = owned.place;
            let entry = self.resources.get(place);
            let resource = entry.id.clone();
            match entry.state {
                State::At(master) => self.send(
                    master,
                    Body::Probe {
                        probe,
                        resource,
                        wait,
                        path: path.to_vec(),
                    },
                ),
                State::Mine(_) => self.on_probe(now, probe, &resource, wait, path),
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
        wait: WaitId,
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
                self.on_chase(now, probe, wait, path, &found);
                continue;
            }
            for found in found.chunks(FOUND_PER_MESSAGE) {
                let (path, found) = (path.to_vec(), found.to_vec());
                self.send(
                    node,
                    Body::Chase {
                        probe,
                        wait,
                        path,
                        found,
                    },
                );
            }
        }
    }

    /// A master tells that locks of own clients are in the way of a wait.
    pub(crate) fn on_chase(
        &mut self,
        now: Instant,
        probe: ProbeId,
        wait: WaitId,
        path: &[Hop],
        found: &[Found],
    ) {
        let own_wait = (wait.node == self.me).then_some(wait.lock);
        let waiter = own_wait.and_then(|lock| self.locks.get(&lock).map(|owned| owned.session));
        for found in found {
            let Some(session) = self.in_the_way(found.lock, found.held) else {
                continue;
            };
            if found.via.is_none() && waiter == Some(session) {
                continue; // What an owner does to itself it can undo.
            }
            if path.len() + 1 + usize::from(found.via.is_some()) > PATH_MAX {
                continue;
            }
            let (onward, aside): (Vec<LockId>, Vec<LockId>) = self
                .deadlocks
                .waits_of(session)
                .partition(|wait| self.leads_on(found, *wait));
            if probe.owner.node == self.me && probe.owner.session == session {
                let path = extended(path, wait, found);
                if onward.contains(&path[0].wait.lock) {
                    self.accuse(now, path);
                }
                continue;
            }
            // What stops a place in a queue has been named as stopping those behind it.
            let followed = |lock: &LockId| found.held || *lock != found.lock;
            let wholly = aside.is_empty() && onward.iter().all(followed);
            let by = (!wholly).then_some(found.lock);
            if self.deadlocks.visited.first(now, probe, session, by) {
                let onward = onward.into_iter().filter(followed).collect();
                self.follow_waits(now, probe, onward, &extended(path, wait, found));
            }
        }
    }

    /// Whether a search that met an owner by one lock goes on with one of its waits. Not if the lock
    /// is in the way of that very wait: then it is another task of the owner that waits, and the one
    /// that has the lock goes on.
    fn leads_on(&self, by: &Found, wait: LockId) -> bool {
        if by.lock == wait {
            return true;
        }
        let (Some(lock), Some(wait)) = (self.locks.get(&by.lock), self.locks.get(&wait)) else {
            return false;
        };
        let mode = match by.held {
            true => lock.granted,
            false => lock.requested(),
        };
        let apart = |(mode, asked): (LockMode, LockMode)| mode.compatible(asked);
        // Of ranges of one resource it is not known here which meet.
        let ranges = self.is_on_ranges(by.lock) || lock.place != wait.place;
        ranges || mode.zip(wait.requested()).is_none_or(apart)
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
}

/// A path with what has been found in the way of a wait.
fn extended(path: &[Hop], wait: WaitId, found: &Found) -> Vec<Hop> {
    let mut path = path.to_vec();
    let mut hop = |wait, blocker, stamp| {
        path.push(Hop {
            wait,
            blocker,
            stamp,
        });
    };
    match found.via {
        None => hop(wait, found.lock, found.stamp),
        Some((via, place)) => {
            hop(wait, via.lock, place);
            hop(via, found.lock, found.stamp);
        }
    }
    path
}
