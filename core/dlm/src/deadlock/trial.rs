//! The judge: the first member of the view. It has every wait of an alleged circle confirmed by its
//! owner and by its master, and condemns one. Circles that share a wait are judged one after the
//! other, so that none loses a second waiter to what was found of it before the first fell.

use super::Verdict;
use crate::{Dlm, master::Key, table::State};
use mainstay_base::{Instant, LockId, Mutant, NodeId, VictimPolicy};
use mainstay_wire::{
    deadlock::{Charge, Hop, OwnerId, PATH_MAX, WaitId, Waiter},
    dlm::{Body, ResourceId},
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
        let known = circle.iter().all(|hop| self.ids.contains(&hop.wait.node));
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
                let before = &circle[(place + circle.len() - 1) % circle.len()];
                let after = &circle[(place + 1) % circle.len()];
                Charge {
                    judge: self.me,
                    trial,
                    place: u16::try_from(place).unwrap_or(u16::MAX),
                    wait: hop.wait,
                    holds: before.blocker,
                    blocker_node: after.wait.node,
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
        let holds = |held| self.in_the_way(charge.holds, held) == Some(standing.session);
        // One that stands in the queue is in the way of those behind it even if it yields.
        let queued = charge.holds == wait.lock;
        (same && (queued || holds(true) || holds(false)))
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
        self.deciding_master(resource).is_some_and(|master| {
            master.still_blocks(
                Key::of(owner, charge.wait.lock),
                Key::of(other, charge.blocker),
                charge.stamp,
            )
        })
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
            owner: OwnerId {
                node: self.me,
                session: wait.session,
            },
            process: profile.map(|p| p.process.clone()).unwrap_or_default(),
            resource: self.resources.peek(owned.place).id.clone(),
            granted: owned.granted.filter(|_| range.is_none()),
            requested: mode,
            waited_us: u64::try_from(waited).unwrap_or(u64::MAX),
            locks: self.sessions.get(&wait.session).map_or(0, |l| l.len()) as u64,
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
                return self.open_trials(now);
            }
        }
        if trial.waiters.iter().any(Option::is_none) {
            return;
        }
        if let Some(trial) = court.close(number) {
            let circle = without_detours(trial.waiters.into_iter().flatten());
            if circle.len() > 1 {
                self.condemn(now, circle);
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

/// A circle in which each owner stands once: what lies between two waits of one owner is no part of
/// it.
fn without_detours(waiters: impl Iterator<Item = Waiter>) -> Vec<Waiter> {
    let mut circle: Vec<Waiter> = Vec::new();
    for waiter in waiters {
        if let Some(at) = circle.iter().position(|w| w.owner == waiter.owner) {
            circle.truncate(at);
        }
        circle.push(waiter);
    }
    circle
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
