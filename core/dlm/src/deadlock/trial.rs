//! The judge: the first member of the view. It has every wait of an alleged circle confirmed by its
//! owner and by its master, and condemns one. Circles that share a wait are judged one after the
//! other, so that none loses a second waiter to what was found of it before the first fell.

use super::Verdict;
use crate::{Dlm, master::Key, table::State};
use mainstay_base::{Instant, LockId, Mutant, NodeId, VictimPolicy};
use mainstay_wire::{
    deadlock::{Charge, Hop, OwnerId, PATH_MAX, WaitId, Waiter},
    dlm::{Body, ResourceId},
    report::OwnerReport,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Most circles that are judged or wait for it; others are found again.
const CIRCLES_MAX: usize = 1024;

/// Locks that wait.
type Waits = BTreeSet<(NodeId, LockId)>;

/// Circles under judgment and waiting for it.
#[derive(Debug, Default)]
pub(super) struct Court {
    last_trial: u64,
    trials: BTreeMap<u64, Trial>,
    docket: VecDeque<Vec<Hop>>,
    /// The waits of every circle, so that it is not judged twice at a time.
    known: BTreeSet<Waits>,
    /// All waits of circles under judgment.
    judged: Waits,
    /// Trials are being opened: who ends one meanwhile leaves the others to that.
    opening: bool,
}

#[derive(Debug)]
struct Trial {
    circle: Vec<Hop>,
    waiters: Vec<Option<Waiter>>,
    /// By place in the circle: the lock by which the owner of the wait there is in the way of the one
    /// before, if it is on another node than the wait.
    links: BTreeMap<usize, Link>,
}

/// A lock of an owner that waits on another node.
#[derive(Debug)]
struct Link {
    node: NodeId,
    lock: LockId,
    /// Whose it is and how many locks that owner has there, once the node has said so.
    owner: Option<(OwnerId, u64)>,
}

impl Trial {
    /// The circle, if all of it has been confirmed. Otherwise whether anything is still awaited.
    fn confirmed(&self) -> Result<Vec<Waiter>, bool> {
        let links = self.links.values();
        let awaited = links.clone().any(|link| link.owner.is_none());
        if awaited || self.waiters.iter().any(Option::is_none) {
            return Err(true);
        }
        let mut waiters: Vec<Waiter> = self.waiters.iter().flatten().cloned().collect();
        for (place, link) in &self.links {
            let (Some(waiter), Some((owner, locks))) = (waiters.get_mut(*place), link.owner) else {
                return Err(false);
            };
            if waiter.owner != owner {
                return Err(false);
            }
            waiter.locks = waiter.locks.saturating_add(locks);
        }
        Ok(waiters)
    }
}

impl Court {
    pub(super) fn clear(&mut self) {
        self.trials.clear();
        self.docket.clear();
        self.known.clear();
        self.judged.clear();
    }

    /// Takes a circle out of the docket that shares no wait with one under judgment.
    fn next(&mut self) -> Option<Vec<Hop>> {
        let free = |circle: &Vec<Hop>| {
            circle
                .iter()
                .all(|hop| !self.judged.contains(&lock_of(hop)))
        };
        let at = self.docket.iter().position(free)?;
        self.docket.remove(at)
    }

    fn open(&mut self, circle: &[Hop]) -> u64 {
        self.last_trial += 1;
        self.judged.append(&mut waits_of(circle));
        let trial = Trial {
            circle: circle.to_vec(),
            waiters: vec![None; circle.len()],
            links: links_of(circle),
        };
        self.trials.insert(self.last_trial, trial);
        self.last_trial
    }

    fn close(&mut self, number: u64) -> Option<Trial> {
        let trial = self.trials.remove(&number)?;
        let waits = waits_of(&trial.circle);
        self.known.remove(&waits);
        for wait in waits {
            self.judged.remove(&wait);
        }
        Some(trial)
    }
}

/// The locks of a circle whose owners wait on other nodes than those have them on.
fn links_of(circle: &[Hop]) -> BTreeMap<usize, Link> {
    let link = |(place, hop): (usize, &Hop)| {
        let before = &circle[before(place, circle.len())];
        let elsewhere = before.blocker_node != hop.wait.node;
        let link = || Link {
            node: before.blocker_node,
            lock: before.blocker,
            owner: None,
        };
        elsewhere.then(|| (place, link()))
    };
    circle.iter().enumerate().filter_map(link).collect()
}

/// The place before one in a circle of so many.
fn before(place: usize, len: usize) -> usize {
    (place + len - 1) % len
}

fn lock_of(hop: &Hop) -> (NodeId, LockId) {
    (hop.wait.node, hop.wait.lock)
}

fn waits_of(circle: &[Hop]) -> Waits {
    circle.iter().map(lock_of).collect()
}

impl Dlm {
    /// A search has come back to where it began.
    pub(super) fn accuse(&mut self, now: Instant, circle: Vec<Hop>) {
        match self.judge() {
            Some(judge) if judge == self.me => self.on_accuse(now, circle),
            Some(judge) => self.send(judge, Body::Accuse { circle }),
            None => {}
        }
    }

    /// A node has found a circle.
    pub(super) fn on_accuse(&mut self, now: Instant, circle: Vec<Hop>) {
        let member = |node: &NodeId| self.ids.contains(node);
        let known = circle
            .iter()
            .all(|hop| member(&hop.wait.node) && member(&hop.blocker_node));
        let sound = known && (2..=PATH_MAX).contains(&circle.len());
        let competent = self.active && self.judge() == Some(self.me);
        let court = &mut self.deadlocks.court;
        if competent && sound && court.known.len() < CIRCLES_MAX {
            if court.known.insert(waits_of(&circle)) {
                court.docket.push_back(circle);
            }
            self.open_trials(now);
        }
    }

    /// Opens every trial that shares no wait with one under way.
    fn open_trials(&mut self, now: Instant) {
        if std::mem::replace(&mut self.deadlocks.court.opening, true) {
            return;
        }
        while let Some(circle) = self.deadlocks.court.next() {
            self.open_trial(now, &circle);
        }
        self.deadlocks.court.opening = false;
    }

    fn open_trial(&mut self, now: Instant, circle: &[Hop]) {
        let trial = self.deadlocks.court.open(circle);
        let charges: Vec<Charge> = circle
            .iter()
            .enumerate()
            .map(|(place, hop)| {
                let before = &circle[before(place, circle.len())];
                Charge {
                    judge: self.me,
                    trial,
                    place: u16::try_from(place).unwrap_or(u16::MAX),
                    wait: hop.wait,
                    holds_node: before.blocker_node,
                    holds: before.blocker,
                    blocker_node: hop.blocker_node,
                    blocker: hop.blocker,
                    stamp: hop.stamp,
                }
            })
            .collect();
        for charge in charges {
            if !self.deadlocks.court.trials.contains_key(&trial) {
                return; // A wait of this very node does not stand.
            }
            match charge.wait.node {
                node if node == self.me => self.on_examine(now, charge),
                node => self.send(node, Body::Examine { charge }),
            }
        }
        let trials = &self.deadlocks.court.trials;
        let links = trials.get(&trial).into_iter().flat_map(|t| &t.links);
        let links: Vec<_> = links
            .map(|(at, link)| (*at, link.node, link.lock))
            .collect();
        for (place, node, lock) in links {
            let place = u16::try_from(place).unwrap_or(u16::MAX);
            match node == self.me {
                true => self.on_attest(now, self.me, trial, place, lock),
                false => self.send(node, Body::Attest { trial, place, lock }),
            }
        }
    }

    /// The judge asks about a lock of an own client whose owner waits on another node.
    pub(super) fn on_attest(
        &mut self,
        now: Instant,
        judge: NodeId,
        trial: u64,
        place: u16,
        lock: LockId,
    ) {
        let owner = self.in_the_way(lock, true);
        let owner = owner.or_else(|| self.in_the_way(lock, false));
        let owner = owner.map(|owner| (owner, self.locks_of(owner)));
        match judge == self.me {
            true => self.on_attested(now, judge, trial, place, owner),
            false => self.send(
                judge,
                Body::Attested {
                    trial,
                    place,
                    owner,
                },
            ),
        }
    }

    /// A node has told whose a lock is.
    pub(super) fn on_attested(
        &mut self,
        now: Instant,
        from: NodeId,
        number: u64,
        place: u16,
        owner: Option<(OwnerId, u64)>,
    ) {
        let court = &mut self.deadlocks.court;
        let trial = court.trials.get_mut(&number);
        let link = trial.and_then(|trial| trial.links.get_mut(&usize::from(place)));
        let Some(link) = link.filter(|link| link.node == from) else {
            return;
        };
        match owner {
            Some(_) => link.owner = owner,
            None => {
                court.close(number);
            }
        }
        self.judge_trial(now, number);
    }

    /// The judge asks about a wait of an own client.
    pub(super) fn on_examine(&mut self, now: Instant, charge: Charge) {
        if Mutant::DeadlockUnconfirmed.active() {
            let waiter = self.describe_wait(now, charge.wait.lock);
            return self.testify(now, &charge, waiter);
        }
        let Some((wait, resource)) = self.charged_wait(&charge) else {
            return self.testify(now, &charge, None);
        };
        let charge = Charge { wait, ..charge };
        let place = self.resources.place(&resource);
        match place.map(|place| &self.resources.get(place).state) {
            Some(State::At(master)) => {
                let master = *master;
                self.send(master, Body::Check { resource, charge });
            }
            Some(State::Mine(_)) => {
                let standing = self.still_stands(&resource, &charge);
                self.on_checked(now, charge, standing);
            }
            _ => self.testify(now, &charge, None),
        }
    }

    /// The wait that a charge is about and its resource, if it and what its owner is in the way
    /// with still stand as far as this node, the owner's, knows.
    fn charged_wait(&self, charge: &Charge) -> Option<(WaitId, ResourceId)> {
        let (wait, standing, owned) = self.standing_wait(charge.wait.lock)?;
        let same = charge.wait.wait == 0 || charge.wait.wait == wait.wait;
        let holds = |held| self.in_the_way(charge.holds, held) == Some(standing.owner);
        // Of a lock on another node, that node tells the judge.
        let elsewhere = charge.holds_node != self.me;
        // One that stands in the queue is in the way of those behind it even if it yields.
        let queued = charge.holds == wait.lock;
        (same && (elsewhere || queued || holds(true) || holds(false)))
            .then(|| (wait, self.resources.peek(owned.place).id.clone()))
    }

    /// The judge, by way of the owner's node, asks about a wait on a resource mastered here.
    pub(super) fn on_check(&mut self, from: NodeId, resource: &ResourceId, charge: Charge) {
        let standing = self.still_stands(resource, &charge);
        self.send(from, Body::Checked { charge, standing });
    }

    fn still_stands(&self, resource: &ResourceId, charge: &Charge) -> bool {
        let owner = self.member_life(charge.wait.node);
        let other = self.member_life(charge.blocker_node);
        let (Some(owner), Some(other)) = (owner, other) else {
            return false;
        };
        let Some(master) = self.deciding_master(resource) else {
            return false;
        };
        let wait = Key::of(owner, charge.wait.lock);
        let stands = master.still_blocks(wait, Key::of(other, charge.blocker), charge.stamp);
        // Not if the lock by which the owner was met is in the way of this very wait.
        let holds = self.member_life(charge.holds_node);
        let holds = holds.map(|life| Key::of(life, charge.holds));
        let in_own_way = |holds: Key| {
            let mut found = master.blockers(wait).into_iter();
            holds != wait && found.any(|blocker| blocker.via.is_none() && blocker.key == holds)
        };
        stands && !holds.is_some_and(in_own_way)
    }

    /// The master has answered. Only now it is certain that the answer is about this very wait: it
    /// stands before and after.
    pub(super) fn on_checked(&mut self, now: Instant, charge: Charge, standing: bool) {
        let stands = standing && self.charged_wait(&charge).is_some();
        let waiter = stands
            .then(|| self.describe_wait(now, charge.wait.lock))
            .flatten();
        self.testify(now, &charge, waiter);
    }

    fn describe_wait(&self, now: Instant, lock: LockId) -> Option<Waiter> {
        let wait = self.deadlocks.waits.get(&lock)?;
        let owned = self.locks.get(&lock)?;
        let mode = owned.requested()?;
        let range = self.asked_range(lock);
        let profile = self.deadlocks.profiles.get(&wait.session);
        let waited = now.since(wait.since).as_micros();
        Some(Waiter {
            wait: WaitId {
                node: self.me,
                lock,
                wait: wait.number,
            },
            owner: wait.owner,
            process: OwnerReport {
                owner: wait.owner.named(),
                ..profile.map(|p| p.process.clone()).unwrap_or_default()
            },
            resource: self.resources.peek(owned.place).id.clone(),
            granted: owned.granted.filter(|_| range.is_none()),
            requested: mode,
            waited_us: u64::try_from(waited).unwrap_or(u64::MAX),
            locks: self.locks_of(wait.owner),
            priority: profile.map_or(0, |p| p.priority),
            range,
        })
    }

    fn testify(&mut self, now: Instant, charge: &Charge, waiter: Option<Waiter>) {
        let Charge {
            judge,
            trial,
            place,
            ..
        } = *charge;
        let waiter = waiter.map(Box::new);
        if judge == self.me {
            self.on_testimony(now, self.me, trial, place, waiter);
        } else {
            self.send(
                judge,
                Body::Testimony {
                    trial,
                    place,
                    waiter,
                },
            );
        }
    }

    /// An owner's node has answered.
    pub(super) fn on_testimony(
        &mut self,
        now: Instant,
        from: NodeId,
        number: u64,
        place: u16,
        waiter: Option<Box<Waiter>>,
    ) {
        let court = &mut self.deadlocks.court;
        let Some(trial) = court.trials.get_mut(&number) else {
            return;
        };
        let place = usize::from(place);
        let asked = trial.circle.get(place).map(|hop| hop.wait.node);
        match (waiter, trial.waiters.get_mut(place)) {
            _ if asked != Some(from) => return,
            (Some(waiter), Some(slot)) => *slot = Some(*waiter),
            // No circle, or not any more.
            _ => {
                court.close(number);
            }
        }
        self.judge_trial(now, number);
    }

    /// Ends a trial if nothing is awaited any more.
    fn judge_trial(&mut self, now: Instant, number: u64) {
        let court = &mut self.deadlocks.court;
        let confirmed = court
            .trials
            .get(&number)
            .map_or(Err(false), Trial::confirmed);
        if matches!(confirmed, Err(true)) {
            return;
        }
        let trial = court.close(number);
        if let (Ok(waiters), Some(trial)) = (confirmed, trial) {
            let kept = without_detours(&waiters);
            if kept.len() == waiters.len() {
                self.condemn(now, waiters);
            } else {
                // It has a link that nobody was asked about.
                self.on_accuse(now, kept.iter().map(|at| trial.circle[*at]).collect());
            }
        }
        self.open_trials(now);
    }

    fn condemn(&mut self, now: Instant, mut circle: Vec<Waiter>) {
        let policy = self.deadlocks.config.victim;
        let youngest = |w: &Waiter| (w.waited_us, w.owner, w.wait);
        let first = 0..circle.len();
        let victim = match policy {
            _ if Mutant::DeadlockJudgedByAll.active() => Some(0),
            VictimPolicy::Youngest => first.min_by_key(|&i| youngest(&circle[i])),
            VictimPolicy::Priority => {
                first.min_by_key(|&i| (circle[i].priority, youngest(&circle[i])))
            }
            VictimPolicy::FewestLocks => {
                first.min_by_key(|&i| (circle[i].locks, youngest(&circle[i])))
            }
        };
        circle.rotate_left(victim.unwrap_or_default());
        let wait = circle[0].wait;
        if wait.node == self.me {
            self.on_condemn(now, wait, policy, circle);
        } else {
            // What this node asks that one later arrives after this.
            self.send(
                wait.node,
                Body::Condemn {
                    wait,
                    policy,
                    circle,
                },
            );
        }
    }

    /// The judge has chosen a wait of an own client.
    pub(super) fn on_condemn(
        &mut self,
        now: Instant,
        wait: WaitId,
        policy: VictimPolicy,
        circle: Vec<Waiter>,
    ) {
        let stands = self.standing_wait(wait.lock);
        if stands.is_none_or(|(id, _, _)| id != wait) {
            return; // Answered, cancelled or out of time meanwhile.
        }
        if let Some(wait) = self.deadlocks.waits.get_mut(&wait.lock) {
            wait.condemned = Some(Verdict { policy, circle });
        }
        self.cancel_pending(now, wait.lock);
    }
}

/// The places that are left of a circle so that each owner stands once: what lies between two waits of
/// one owner is no part of it.
fn without_detours(waiters: &[Waiter]) -> Vec<usize> {
    let mut kept: Vec<usize> = Vec::new();
    for (place, waiter) in waiters.iter().enumerate() {
        if let Some(at) = kept.iter().position(|k| waiters[*k].owner == waiter.owner) {
            kept.truncate(at);
        }
        kept.push(place);
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn circle(locks: [u64; 2]) -> Vec<Hop> {
        let hop = |lock: u64| Hop {
            wait: WaitId {
                node: NodeId(1),
                lock: LockId(lock),
                wait: lock,
            },
            blocker_node: NodeId(1),
            blocker: LockId(lock + 100),
            stamp: 0,
        };
        locks.map(hop).to_vec()
    }

    /// Protects from two victims of one wait: circles that share one are not judged at the same time,
    /// others are, and what is over may be accused again.
    #[test]
    fn circles_that_share_a_wait_take_turns() {
        let mut court = Court::default();
        for locks in [[1, 2], [2, 3], [4, 5]] {
            court.known.insert(waits_of(&circle(locks)));
            court.docket.push_back(circle(locks));
        }
        let first = court.next().expect("nothing is judged yet");
        assert_eq!(first, circle([1, 2]));
        let number = court.open(&first);
        assert_eq!(court.next(), Some(circle([4, 5])));
        assert_eq!(court.next(), None, "the other shares a wait");
        assert!(court.close(number).is_some());
        assert!(!court.known.contains(&waits_of(&first)));
        assert_eq!(court.next(), Some(circle([2, 3])));
        assert!(court.close(number).is_none(), "it is over");
    }
}
