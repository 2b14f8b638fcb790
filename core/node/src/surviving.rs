//! Locks that survive their nodes: between the lock manager, which knows when there is something to say of
//! one, and the replicated log, which says it. And those that nodes have left behind, for people.

use crate::{Node, orphans::gone};
use mainstay_base::{
    Incarnation, Instant, LockId, LockMode, LockspaceId, NodeId, ResourceName, SessionId,
};
use mainstay_dlm::AdoptCall;
use mainstay_membership::{
    Command, Survivor, SurvivorBatch, SurvivorDone, SurvivorKey, SurvivorStep,
};
use mainstay_wire::{
    dlm::{MasteredLock, ResourceId},
    event::{OrphanFate, Reason, What},
    lock::Refusal,
    orphan::{OrphanFilter, OwnedOrphan},
    report::{LockspaceFilter, OwnerReport},
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Most steps in one entry of the log, each of at most some 150 bytes.
const BATCH_MAX: usize = 128;
/// In the number of one that was left behind, so that it is none of a lock that its node has.
const LEFT_BEHIND: u64 = 1 << 63;

/// What this node has to say of surviving locks, and what it knows of them beside the log.
#[derive(Debug, Default)]
pub(crate) struct Survivors {
    /// What is to be said.
    steps: VecDeque<SurvivorStep>,
    /// What has been said, and is not decided yet.
    asked: Option<(u64, Vec<SurvivorStep>)>,
    last_serial: u64,
    /// Since when this node has known that a lock was left behind, by its number.
    left: BTreeMap<u64, Instant>,
    /// Purges of what was left behind, by their numbers: locks that the log has yet to release.
    purges: BTreeMap<u64, BTreeSet<SurvivorKey>>,
}

impl Survivors {
    /// Whether the log has decided about all that this node had to say.
    pub(crate) fn are_settled(&self) -> bool {
        self.steps.is_empty() && self.asked.is_none()
    }
}

impl Survivors {
    /// Whether this node has asked the log for a lock that was left behind.
    fn is_asked_for(&self, wanted: SurvivorKey) -> bool {
        let asked = self.asked.iter().flat_map(|(_, steps)| steps);
        let mut steps = asked.chain(&self.steps);
        steps.any(|step| matches!(step, SurvivorStep::Adopt { key, .. } if *key == wanted))
    }
}

impl Node {
    /// The log is to say something of a surviving lock.
    pub(crate) fn survive(&mut self, step: SurvivorStep) {
        self.survivors.steps.push_back(step);
        self.propose_survivors();
    }

    /// Asks the log for what is to be said, unless it has yet to decide about the last batch: a batch that
    /// overtook another would make that void.
    pub(crate) fn propose_survivors(&mut self) {
        if self.survivors.asked.is_some() || self.survivors.steps.is_empty() {
            return;
        }
        let me = self.config.me;
        let member = self.state.view().member(me);
        let Some(member) = member.filter(|member| member.boot == self.boot) else {
            return;
        };
        let incarnation = member.incarnation;
        let survivors = &mut self.survivors;
        let count = survivors.steps.len().min(BATCH_MAX);
        let steps: Vec<SurvivorStep> = survivors.steps.drain(..count).collect();
        survivors.last_serial += 1;
        let serial = survivors.last_serial;
        survivors.asked = Some((serial, steps.clone()));
        let batch = SurvivorBatch {
            by: me,
            incarnation,
            serial,
            steps,
        };
        self.wish(Instant::ZERO, Command::Survivors(batch), None);
        self.quiet_until = Instant::ZERO; // Calls wait for it.
    }

    /// The log has decided about a batch.
    pub(crate) fn survivors_decided(
        &mut self,
        now: Instant,
        (by, incarnation): (NodeId, Incarnation),
        serial: u64,
        done: &[SurvivorDone],
    ) {
        let view = self.state.view();
        let own = by == self.config.me
            && view.has_boot(by, self.boot)
            && view.has_incarnation(by, incarnation);
        let asked = self.survivors.asked.take_if(|(s, _)| own && *s == serial);
        if asked.is_some() {
            self.take_wishes(|command| matches!(command, Command::Survivors(_)));
        }
        let steps = asked.map(|(_, steps)| steps).unwrap_or_default();
        for (at, done) in done.iter().enumerate() {
            let mine = steps.get(at);
            self.dlm.survivor_decided(now, mine, done);
            let purged = match (mine, done) {
                (Some(SurvivorStep::Release { key }), done) if *key != self.own_key(key.lock) => {
                    if let SurvivorDone::Released(survivor) = done {
                        self.tell_purged(survivor);
                    }
                    Some((*key, matches!(done, SurvivorDone::Released(_))))
                }
                _ => None,
            };
            if let SurvivorDone::Released(gone) | SurvivorDone::Adopted { now: gone, .. } = done {
                self.survivors.left.remove(&gone.number);
            }
            if let Some((key, released)) = purged {
                self.left_behind_purged(key, released);
            }
        }
        self.pump_locks(now);
        self.propose_survivors();
    }

    fn own_key(&self, lock: LockId) -> SurvivorKey {
        let (node, me) = (self.config.me, self.state.view().member(self.config.me));
        SurvivorKey {
            node,
            incarnation: me.map_or(Incarnation(0), |me| me.incarnation),
            lock,
        }
    }

    /// Tells of locks that have just been left behind: the end of the life that had them is proved.
    pub(crate) fn note_left_behind(&mut self, now: Instant) {
        let left = self.state.survivors();
        let left = left.filter(|survivor| self.state.is_left_behind(survivor.key));
        let new: Vec<u64> = left
            .map(|survivor| survivor.number)
            .filter(|number| !self.survivors.left.contains_key(number))
            .collect();
        for number in new {
            self.survivors.left.insert(number, now);
        }
    }

    /// Whose a surviving lock was, if nobody has it any more.
    pub(crate) fn left_by(&self, now: Instant, survivor: &Survivor) -> Option<OwnerReport> {
        if !self.state.is_left_behind(survivor.key) {
            return None;
        }
        let since = self.survivors.left.get(&survivor.number);
        let process = OwnerReport {
            pid: survivor.owner.pid,
            uid: survivor.owner.uid,
            ..OwnerReport::default()
        };
        Some(gone(&process, now, since.copied().unwrap_or(now)))
    }

    /// The same for a lock as its master tells of it.
    pub(crate) fn left_behind(&self, now: Instant, lock: &MasteredLock) -> Option<OwnerReport> {
        let key = SurvivorKey {
            node: lock.node,
            incarnation: lock.incarnation,
            lock: lock.lock,
        };
        self.left_by(now, self.state.survivor(key)?)
    }

    /// All that was left behind by nodes and fits, for a list.
    pub(crate) fn all_left_behind(
        &self,
        now: Instant,
        filter: &OrphanFilter,
        nodes: &[NodeId],
    ) -> Vec<((NodeId, LockId), OwnedOrphan)> {
        let fitting = self.state.survivors().filter(|s| fits(filter, nodes, s));
        let found = fitting.filter_map(|survivor| {
            let lock = LockId(LEFT_BEHIND | survivor.number);
            let orphan = OwnedOrphan {
                lock,
                resource: ResourceId {
                    space: survivor.space,
                    name: survivor.name.clone(),
                },
                mode: survivor.mode,
                token: survivor.token,
                owner: self.left_by(now, survivor)?,
                expires_ms: None,
            };
            Some(((survivor.key.node, lock), orphan))
        });
        found.collect()
    }

    /// Releases what was left behind by nodes and fits. Returns how many were left alone because of their
    /// user; the others are counted as the log releases them.
    pub(crate) fn purge_left_behind(
        &mut self,
        query: u64,
        filter: &OrphanFilter,
        nodes: &[NodeId],
    ) -> u64 {
        let mut denied = 0;
        let mut keys = BTreeSet::new();
        for survivor in self.state.survivors() {
            if !fits(filter, nodes, survivor) || !self.state.is_left_behind(survivor.key) {
                continue;
            }
            let uid = filter
                .uid
                .filter(|_| !filter.owned.contains(&survivor.space));
            match uid.is_some_and(|uid| uid != survivor.owner.uid) {
                true => denied += 1,
                false => {
                    keys.insert(survivor.key);
                }
            }
        }
        // However often it is asked for, it is said once.
        let asked = self.survivors.asked.iter().flat_map(|(_, steps)| steps);
        let said: BTreeSet<SurvivorKey> = asked
            .chain(&self.survivors.steps)
            .filter_map(|step| match step {
                SurvivorStep::Release { key } => Some(*key),
                _ => None,
            })
            .collect();
        let steps = keys.difference(&said);
        let steps = steps.map(|key| SurvivorStep::Release { key: *key });
        self.survivors.steps.extend(steps);
        if !keys.is_empty() {
            self.survivors.purges.insert(query, keys);
        }
        self.propose_survivors();
        denied
    }

    /// Whether the log has released all that a purge is to release of what was left behind.
    pub(crate) fn purge_is_over(&self, query: u64) -> bool {
        !self.survivors.purges.contains_key(&query)
    }

    /// Nobody waits for a purge any more.
    pub(crate) fn forget_purge(&mut self, query: u64) {
        self.survivors.purges.remove(&query);
    }

    fn left_behind_purged(&mut self, key: SurvivorKey, released: bool) {
        let purges = self.survivors.purges.iter_mut();
        let of: Vec<u64> = purges
            .filter_map(|(query, keys)| keys.remove(&key).then_some(*query))
            .collect();
        self.survivors.purges.retain(|_, keys| !keys.is_empty());
        for query in of {
            self.count_purged(query, u64::from(released));
        }
    }

    fn tell_purged(&mut self, survivor: &Survivor) {
        let what = What::Orphan {
            lockspace: self.lockspace_name(survivor.space),
            name: survivor.name.clone(),
            mode: survivor.mode,
            pid: survivor.owner.pid,
            fate: OrphanFate::Purged,
        };
        let detail = format!(
            "user {}, left behind by node {}",
            survivor.owner.uid,
            self.name(survivor.key.node)
        );
        self.event(what, Reason::ClientAsked, detail);
    }

    /// A client asks to adopt an orphan of this node, or else what a node has left behind, or else an orphan of
    /// another member.
    pub(crate) fn adopt_anywhere(
        &mut self,
        now: Instant,
        session: SessionId,
        request: u64,
        call: &AdoptCall,
    ) -> Result<(), Refusal> {
        let here = match self.dlm.adopt_here(now, session, request, call) {
            Ok(()) => return Ok(()),
            Err(why @ (Refusal::NoSuchOrphan | Refusal::OrphanInMode(_) | Refusal::Denied(_))) => {
                why
            }
            Err(why) => return Err(why),
        };
        match self.oldest_left_behind(call.space, &call.name, call.mode, call.uid) {
            Ok(key) => self.dlm.adopt_left_behind(session, request, call, key),
            Err(Refusal::NoSuchOrphan) => self.dlm.seek(now, session, request, call.clone(), here),
            Err(why) => self.dlm.seek(now, session, request, call.clone(), why),
        }
    }

    fn oldest_left_behind(
        &self,
        space: LockspaceId,
        name: &ResourceName,
        mode: LockMode,
        uid: Option<u32>,
    ) -> Result<SurvivorKey, Refusal> {
        let mut oldest: Option<&Survivor> = None;
        let (mut other_mode, mut others) = (None, false);
        for survivor in self.state.survivors() {
            let there = survivor.space == space && survivor.name == *name;
            if !there || !self.state.is_left_behind(survivor.key) {
                continue;
            }
            // Another client of this node comes first there.
            if self.survivors.is_asked_for(survivor.key) {
                continue;
            }
            if survivor.mode != mode {
                other_mode = Some(survivor.mode);
            } else if uid.is_some_and(|uid| uid != survivor.owner.uid) {
                others = true;
            } else if oldest.is_none_or(|oldest| survivor.number < oldest.number) {
                oldest = Some(survivor);
            }
        }
        match (oldest, other_mode) {
            (Some(survivor), _) => Ok(survivor.key),
            (None, _) if others => Err(Refusal::Denied(
                "another user's process left that lock behind; its user, the lockspace's owner and root may \
                 adopt it"
                    .to_owned(),
            )),
            (None, Some(mode)) => Err(Refusal::OrphanInMode(mode)),
            (None, None) => Err(Refusal::NoSuchOrphan),
        }
    }
}

fn fits(filter: &OrphanFilter, nodes: &[NodeId], survivor: &Survivor) -> bool {
    let resource = LockspaceFilter {
        lockspace: filter.lockspace,
        pattern: filter.pattern.clone(),
        ..LockspaceFilter::default()
    };
    let process = filter.pid.is_none_or(|pid| pid == survivor.owner.pid);
    let node = nodes.is_empty() || nodes.contains(&survivor.key.node);
    process && node && resource.admits(survivor.space, &survivor.name)
}
