//! Owners that wait for each other over several resources and nodes: found by probes that follow
//! the waits ([`probe`]), confirmed and broken by one member, the judge ([`trial`]).
//!
//! The rules are in `docs/protocol/deadlocks.md`. An owner is a client session, or what sessions have
//! named instead ([`crate::owners`]); what is said for transactions, whose sessions may be on several
//! nodes, is in [`elsewhere`]. What does not wait costs nothing: only waits are remembered here, and a
//! search begins only where something new happened to an owner that waits.

mod elsewhere;
mod probe;
mod trial;

use crate::{
    Dlm,
    table::{Owned, Pending},
};
use core::time::Duration;
use mainstay_base::{DeadlockConfig, Flags, Instant, LockId, Mutant, NodeId, SessionId};
use mainstay_wire::{
    deadlock::{OwnerId, PATH_MAX, ProbeId, WaitId, Waiter},
    dlm::Body,
    report::OwnerReport,
};
use std::collections::{BTreeMap, BTreeSet};

use elsewhere::Elsewhere;
use probe::Visited;
use trial::Court;

/// Longest time between two searches that begin with one owner.
const REPEAT_MAX: Duration = Duration::from_secs(2);

/// What this node knows of waits and searches.
#[derive(Debug, Default)]
pub(crate) struct Deadlocks {
    pub(crate) config: DeadlockConfig,
    /// Waits of own clients that count in a search.
    waits: BTreeMap<LockId, Wait>,
    /// Owners that wait here.
    owners: BTreeMap<OwnerId, Waiting>,
    /// When a search begins with whom.
    timers: BTreeSet<(Instant, OwnerId)>,
    profiles: BTreeMap<SessionId, Profile>,
    last_wait: u64,
    last_round: u64,
    visited: Visited,
    elsewhere: Elsewhere,
    court: Court,
}

/// A wait of an own client.
#[derive(Debug)]
struct Wait {
    number: u64,
    session: SessionId,
    owner: OwnerId,
    since: Instant,
    /// It is being refused for this circle.
    condemned: Option<Verdict>,
}

/// Why a wait is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) policy: mainstay_base::VictimPolicy,
    pub(crate) circle: Vec<Waiter>,
}

/// An owner that waits here.
#[derive(Debug)]
struct Waiting {
    locks: BTreeSet<LockId>,
    /// The next search.
    at: Instant,
    /// Searches since something new happened.
    searches: u32,
}

/// Who an own client is, for those that meet it in a circle.
#[derive(Debug, Default)]
struct Profile {
    process: OwnerReport,
    priority: u8,
}

impl Deadlocks {
    /// When the next search begins.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.timers.first().map(|timer| timer.0)
    }

    /// A client's deadlock priority.
    pub(crate) fn priority(&self, session: SessionId) -> u8 {
        self.profiles.get(&session).map_or(0, |p| p.priority)
    }

    /// A call is over, or waits no more. Returns why it was to be refused, if it was.
    pub(crate) fn wait_ends(&mut self, lock: LockId) -> Option<Verdict> {
        if self.waits.is_empty() {
            return None;
        }
        let wait = self.waits.remove(&lock)?;
        if let Some(waiting) = self.owners.get_mut(&wait.owner) {
            waiting.locks.remove(&lock);
            if waiting.locks.is_empty() {
                self.timers.remove(&(waiting.at, wait.owner));
                self.owners.remove(&wait.owner);
            }
        }
        wait.condemned
    }

    /// The waits of an owner on this node.
    fn waits_of(&self, owner: OwnerId) -> impl Iterator<Item = LockId> + '_ {
        let waiting = self.owners.get(&owner);
        waiting.into_iter().flat_map(|w| &w.locks).copied()
    }

    /// Whether a wait is being refused.
    pub(crate) fn is_condemned(&self, lock: LockId) -> bool {
        let wait = self.waits.get(&lock);
        wait.is_some_and(|wait| wait.condemned.is_some())
    }

    /// Something new happened to an owner that waits: a search begins soon.
    fn rearm(&mut self, now: Instant, owner: OwnerId) {
        let at = now + self.config.delay;
        let Some(waiting) = self.owners.get_mut(&owner) else {
            return;
        };
        waiting.searches = 0;
        if at < waiting.at {
            self.timers.remove(&(waiting.at, owner));
            waiting.at = at;
            self.timers.insert((at, owner));
        }
    }

    /// All that waits may stand otherwise than before, and what was being searched is void.
    pub(crate) fn start_over(&mut self, now: Instant) {
        self.visited.clear();
        self.court.clear();
        self.rearm_all(now);
    }

    /// As [`Deadlocks::start_over`]; and who is a member, and waits, is to be said anew.
    pub(crate) fn new_view(&mut self, now: Instant) {
        self.elsewhere.clear();
        self.start_over(now);
    }

    /// Something new happened to everyone that waits.
    pub(crate) fn rearm_all(&mut self, now: Instant) {
        let owners: Vec<OwnerId> = self.owners.keys().copied().collect();
        for owner in owners {
            self.rearm(now, owner);
        }
    }

    /// Who an own client is.
    pub(crate) fn process(&self, session: SessionId) -> OwnerReport {
        let profile = self.profiles.get(&session);
        profile.map(|p| p.process.clone()).unwrap_or_default()
    }

    pub(crate) fn forget_session(&mut self, session: SessionId) {
        self.profiles.remove(&session);
    }
}

impl Dlm {
    /// How to search for deadlocks. To be told before anything else.
    pub fn configure_deadlocks(&mut self, config: DeadlockConfig) {
        self.deadlocks.config = config;
    }

    /// Who a client is, for those that may meet it in a circle of waiters.
    pub fn introduce(&mut self, session: SessionId, process: OwnerReport) {
        let profile = self.deadlocks.profiles.entry(session).or_default();
        profile.process = process;
    }

    /// Sets a client's deadlock priority, 0 until then: of a circle of waiters, the lower falls
    /// sooner where the policy asks for it.
    pub fn set_deadlock_priority(&mut self, session: SessionId, priority: u8) {
        let profile = self.deadlocks.profiles.entry(session).or_default();
        profile.priority = priority;
    }

    /// A call of an own client has been queued by its master.
    pub(crate) fn wait_begins(&mut self, now: Instant, lock: LockId) {
        let Some(owned) = self.locks.get(&lock) else {
            return;
        };
        let known = self.deadlocks.waits.contains_key(&lock);
        if !self.deadlocks.config.enabled || known || waits_uncounted(owned) {
            return;
        }
        let session = owned.session;
        let owner = self.owner_of(lock, session);
        let deadlocks = &mut self.deadlocks;
        deadlocks.last_wait += 1;
        deadlocks.waits.insert(
            lock,
            Wait {
                number: deadlocks.last_wait,
                session,
                owner,
                since: now,
                condemned: None,
            },
        );
        let at = now + deadlocks.config.delay;
        let timers = &mut deadlocks.timers;
        let waiting = deadlocks.owners.entry(owner).or_insert_with(|| {
            timers.insert((at, owner));
            Waiting {
                locks: BTreeSet::new(),
                at,
                searches: 0,
            }
        });
        waiting.locks.insert(lock);
        deadlocks.rearm(now, owner);
    }

    /// An owner has had an answer, or got a lock otherwise: those who wait for its locks may now be in
    /// a circle with what it still waits for, here or elsewhere.
    pub(crate) fn owner_stirs(&mut self, now: Instant, owner: OwnerId) {
        self.deadlocks.rearm(now, owner);
        if owner.is_anywhere() {
            self.stir_elsewhere(now, owner);
        }
    }

    /// Begins the searches that are due.
    pub(crate) fn search_deadlocks(&mut self, now: Instant) {
        while let Some(&(at, owner)) = self.deadlocks.timers.first() {
            if at > now {
                return;
            }
            let delay = self.deadlocks.config.delay;
            self.deadlocks.timers.pop_first();
            let Some(waiting) = self.deadlocks.owners.get_mut(&owner) else {
                continue;
            };
            waiting.searches = (waiting.searches + 1).min(16);
            let pause = delay.saturating_mul(1 << waiting.searches);
            waiting.at = now + pause.min(REPEAT_MAX.max(delay));
            self.deadlocks.timers.insert((waiting.at, owner));
            if self.active && !self.leaving && self.may_be_in_circle(owner) {
                self.begin_search(now, owner);
            }
        }
    }

    /// An owner with a single lock that waits is in nobody's way, but for those behind it in the
    /// same queue: what stops it stops them too, without it; unless it came after them, to the head of
    /// the queue or by its priority. Of a transaction it is not known here what it has elsewhere.
    fn may_be_in_circle(&self, owner: OwnerId) -> bool {
        let locks = self.locks_of(owner);
        let mut waits = self.deadlocks.waits_of(owner);
        let more = waits.any(|lock| {
            self.locks.get(&lock).is_some_and(|owned| {
                let flags = pending_flags(owned);
                let ahead = flags.contains(Flags::HEADQUE) || flags.priority() > 0;
                owned.granted.is_some() || ahead
            })
        });
        locks > 1 || more || owner.is_anywhere()
    }

    fn begin_search(&mut self, now: Instant, owner: OwnerId) {
        self.deadlocks.last_round += 1;
        let probe = ProbeId {
            node: self.me,
            owner,
            round: self.deadlocks.last_round,
        };
        if owner.is_anywhere() {
            self.say_awaits(owner);
        }
        let waits = self.deadlocks.waits_of(owner).collect();
        self.follow_waits(now, probe, waits, &[]);
    }

    /// The wait of a lock, if it stands: queued, and neither cancelled nor being refused, nor left
    /// behind by a client that is gone.
    fn standing_wait(&self, lock: LockId) -> Option<(WaitId, &Wait, &Owned)> {
        let wait = self.deadlocks.waits.get(&lock)?;
        let owned = self.locks.get(&lock)?;
        let ends = owned.cancel.is_some()
            || owned.timed_out
            || wait.condemned.is_some()
            || !self.sessions.contains_key(&owned.session);
        let id = WaitId {
            node: self.me,
            lock,
            wait: wait.number,
        };
        (queued(owned) && !ends).then_some((id, wait, owned))
    }

    /// Whether a lock of an own client is in others' way: not where it is being released or given
    /// another mode, may be counted upon to go, only waits and is about to be refused, or was left
    /// behind by a client that is gone. Tells whose it is.
    fn in_the_way(&self, lock: LockId, held: bool) -> Option<OwnerId> {
        let owned = self.locks.get(&lock)?;
        let stays = match held {
            true => owned.granted.is_some() && (stays(&owned.pending) || queued(owned)),
            // One that waits uncounted, by NODLCKWT, stands in the queue all the same.
            false => self.standing_wait(lock).is_some() || waits_uncounted(owned),
        };
        let stays = stays && !owned.yields && self.sessions.contains_key(&owned.session);
        stays.then(|| self.owner_of(lock, owned.session))
    }

    /// The member that judges.
    fn judge(&self) -> Option<NodeId> {
        match Mutant::DeadlockJudgedByAll.active() {
            false => self.ids.first().copied(),
            true => Some(self.me),
        }
    }

    /// A message of the search, of the view that this node has.
    pub(crate) fn on_search(&mut self, now: Instant, from: NodeId, body: Body) {
        let judge = self.judge() == Some(from) || Mutant::DeadlockJudgedByAll.active();
        match body {
            Body::Probe {
                probe,
                resource,
                wait,
                owner,
                path,
            } if wait.node == from && path.len() <= PATH_MAX => {
                self.on_probe(now, probe, &resource, (wait, owner), &path);
            }
            Body::Chase {
                probe,
                wait,
                owner,
                path,
                found,
            } if path.len() <= PATH_MAX => {
                self.on_chase(now, probe, (wait, owner), &path, &found);
            }
            Body::Pursue {
                probe,
                owner,
                met,
                path,
            } if owner.is_anywhere()
                && met.node == from
                && (1..=PATH_MAX).contains(&path.len()) =>
            {
                self.on_meeting(now, probe, owner, &met, &path);
            }
            Body::Awaits { owner } if owner.is_anywhere() => self.on_awaits(now, from, owner),
            Body::Stir { owner } if owner.is_anywhere() => self.deadlocks.rearm(now, owner),
            Body::Attest { trial, place, lock } if judge => {
                self.on_attest(now, from, trial, place, lock);
            }
            Body::Attested {
                trial,
                place,
                owner,
            } => self.on_attested(now, from, trial, place, owner),
            Body::Accuse { circle } => self.on_accuse(now, circle),
            Body::Examine { charge } if judge && charge.judge == from => {
                self.on_examine(now, charge);
            }
            Body::Check { resource, charge } if charge.wait.node == from => {
                self.on_check(from, &resource, charge);
            }
            Body::Checked { charge, standing } => self.on_checked(now, charge, standing),
            Body::Testimony {
                trial,
                place,
                waiter,
            } => self.on_testimony(now, from, trial, place, waiter),
            Body::Condemn {
                wait,
                policy,
                circle,
            } if judge && (2..=PATH_MAX).contains(&circle.len()) => {
                self.on_condemn(now, wait, policy, circle)
            }
            _ => self.violation(from, "a message about deadlocks that no member would send"),
        }
    }
}

/// Whether what is pending leaves the lock as it is.
fn stays(pending: &Pending) -> bool {
    matches!(pending, Pending::None | Pending::Update { .. })
}

/// Whether what is pending stands in the master's queue.
fn queued(owned: &Owned) -> bool {
    owned.requested().is_some() && owned.sent && owned.ticket.is_some()
}

fn pending_flags(owned: &Owned) -> Flags {
    match &owned.pending {
        Pending::Request { flags, .. } | Pending::Convert { flags, .. } => *flags,
        Pending::Range(ask) => ask.flags,
        Pending::None
        | Pending::Unlock { .. }
        | Pending::Update { .. }
        | Pending::Recording { .. }
        | Pending::Taking { .. } => Flags::NONE,
    }
}

/// Whether what is pending does not count as waiting.
fn waits_uncounted(owned: &Owned) -> bool {
    pending_flags(owned).contains(Flags::NODLCKWT)
}
