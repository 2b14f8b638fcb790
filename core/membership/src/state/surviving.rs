//! Locks that survive their nodes: the records of them, as the replicated log has them. The rules are in
//! `docs/protocol/surviving.md`.

use super::{Change, ClusterState};
use crate::View;
use mainstay_base::{
    Incarnation, LockId, LockMode, LockspaceId, NodeId, ResourceName, SURVIVORS_MAX,
    SURVIVORS_PER_USER_MAX, Token,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A lock, by the life that has it, or had it last, and its number there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SurvivorKey {
    /// The node.
    pub node: NodeId,
    /// Which of its incarnations.
    pub incarnation: Incarnation,
    /// The lock's number there.
    pub lock: LockId,
}

/// Whose a surviving lock is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SurvivorOwner {
    /// The user.
    pub uid: u32,
    /// The process, on the node that has the lock or had it last.
    pub pid: u32,
    /// It wants to be told what the lock is in the way of.
    pub blocking: bool,
}

/// A granted lock that survives its node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Survivor {
    /// Counted up by the cluster; no two locks have the same.
    pub number: u64,
    /// Who has it, or had it last.
    pub key: SurvivorKey,
    /// Where.
    pub space: LockspaceId,
    /// On what.
    pub name: ResourceName,
    /// The mode held.
    pub mode: LockMode,
    /// Its token.
    pub token: Token,
    /// Whose it is.
    pub owner: SurvivorOwner,
}

/// One step of a [`SurvivorBatch`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SurvivorStep {
    /// A lock of the asking life survives its node from now on.
    Keep {
        /// Its number there.
        lock: LockId,
        /// Where.
        space: LockspaceId,
        /// On what.
        name: ResourceName,
        /// The mode held.
        mode: LockMode,
        /// Its token.
        token: Token,
        /// Whose it is.
        owner: SurvivorOwner,
    },
    /// One that the asking life has, or that nobody has any more, is released.
    Release {
        /// Which.
        key: SurvivorKey,
    },
    /// One that nobody has any more is the asking life's from now on.
    Adopt {
        /// Which.
        key: SurvivorKey,
        /// Its number there from now on.
        lock: LockId,
        /// Whose it is from now on.
        owner: SurvivorOwner,
    },
    /// One that the asking life has is another process's there.
    Own {
        /// Which.
        lock: LockId,
        /// Whose it is from now on.
        owner: SurvivorOwner,
    },
    /// One that the asking life has is another member's from now on.
    Cede {
        /// Which.
        lock: LockId,
        /// As which it is known from now on. Whose it is there, that member says later.
        to: SurvivorKey,
    },
}

/// What one life asks the log to say of surviving locks. A batch is decided upon once, however often it
/// stands in the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SurvivorBatch {
    /// Who asks.
    pub by: NodeId,
    /// Which of its incarnations.
    pub incarnation: Incarnation,
    /// Counted up by that. It asks for one batch at a time.
    pub serial: u64,
    /// One after the other.
    pub steps: Vec<SurvivorStep>,
}

/// What a step did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SurvivorDone {
    /// A lock survives its node from now on.
    Kept(Survivor),
    /// A lock is released.
    Released(Survivor),
    /// A lock that nobody had any more is another's.
    Adopted {
        /// Under which key it was known.
        from: SurvivorKey,
        /// Whose it was.
        left_by: SurvivorOwner,
        /// As it is now.
        now: Survivor,
    },
    /// A lock is another process's on the same node.
    Owned(Survivor),
    /// A lock is another member's.
    Ceded {
        /// Under which key it was known.
        from: SurvivorKey,
        /// As it is now.
        now: Survivor,
    },
    /// Nothing: there are so many surviving locks already, or their records take so much room.
    NoRoom,
    /// Nothing: the lock does not survive its node, or somebody has it.
    NotThere,
}

/// All surviving locks, and what has been decided about them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Surviving {
    locks: BTreeMap<SurvivorKey, Survivor>,
    /// The last batch of each node about which was decided.
    decided: BTreeMap<NodeId, (Incarnation, u64)>,
    /// How often anything has changed.
    changes: u64,
}

impl Survivor {
    /// Bytes that it takes in a snapshot at most: its name stands there once, its key twice.
    fn len_max(&self) -> usize {
        self.name.encoded_len() + 112
    }
}

impl Surviving {
    pub(super) fn len_max(&self) -> usize {
        self.locks.values().map(Survivor::len_max).sum()
    }

    /// The locks of one life of a node are another's.
    pub(super) fn rename(&mut self, node: NodeId, from: Incarnation, to: Incarnation) {
        let locks = std::mem::take(&mut self.locks);
        let renamed = locks.into_values().map(|mut lock| {
            if (lock.key.node, lock.key.incarnation) == (node, from) {
                lock.key.incarnation = to;
            }
            (lock.key, lock)
        });
        self.locks = renamed.collect();
    }

    /// For tests: enters a lock as it is.
    #[cfg(test)]
    pub(super) fn put(&mut self, lock: Survivor) {
        self.locks.insert(lock.key, lock);
    }

    /// What the rest of the crate, and whoever masters resources, relies on.
    pub(super) fn check(&self, view: &View) -> Result<(), &'static str> {
        if self.locks.len() > SURVIVORS_MAX {
            return Err("too many locks survive their nodes");
        }
        let mut locks = self.locks.iter();
        let sound = locks.all(|(key, lock)| {
            *key == lock.key
                && (1..1 << 48).contains(&key.incarnation.0)
                && lock.number <= self.changes
                && lock.name.is_root()
                && lock.token.is_plausible(view.epoch)
        });
        match sound {
            true => Ok(()),
            false => Err("it has a lock that survives its node and cannot be"),
        }
    }
}

impl ClusterState {
    /// All locks that survive their nodes.
    pub fn survivors(&self) -> impl Iterator<Item = &Survivor> {
        self.surviving.locks.values()
    }

    /// How often anything about surviving locks has changed.
    #[must_use]
    pub fn survivor_changes(&self) -> u64 {
        self.surviving.changes
    }

    /// One of them.
    #[must_use]
    pub fn survivor(&self, key: SurvivorKey) -> Option<&Survivor> {
        self.surviving.locks.get(&key)
    }

    /// Whether nobody has a lock any more: the end of the life that had it is proved.
    #[must_use]
    pub fn is_left_behind(&self, key: SurvivorKey) -> bool {
        let life = (key.node, key.incarnation);
        let mut pending = self.view.pending.iter();
        !self.view.has_incarnation(key.node, key.incarnation)
            && !pending.any(|p| (p.node, p.incarnation) == life)
    }

    pub(super) fn decide_survivors(&mut self, batch: &SurvivorBatch) -> Vec<Change> {
        let this = (batch.incarnation, batch.serial);
        let decided = self.surviving.decided.entry(batch.by).or_default();
        if this <= *decided || !self.view.has_incarnation(batch.by, batch.incarnation) {
            return Vec::new();
        }
        *decided = this;
        let steps = batch.steps.iter();
        let done = steps.map(|step| self.survivor_step(batch.by, batch.incarnation, step));
        vec![Change::Survivors {
            by: batch.by,
            incarnation: batch.incarnation,
            serial: batch.serial,
            done: done.collect(),
        }]
    }

    fn survivor_step(
        &mut self,
        node: NodeId,
        incarnation: Incarnation,
        step: &SurvivorStep,
    ) -> SurvivorDone {
        let own = |lock: LockId| SurvivorKey {
            node,
            incarnation,
            lock,
        };
        let done = match step {
            SurvivorStep::Keep {
                lock,
                space,
                name,
                mode,
                token,
                owner,
            } => {
                let kept = Survivor {
                    number: self.surviving.changes + 1,
                    key: own(*lock),
                    space: *space,
                    name: name.clone(),
                    mode: *mode,
                    token: *token,
                    owner: *owner,
                };
                if !self.has_room_for_survivor(&kept) {
                    return SurvivorDone::NoRoom;
                }
                self.surviving.locks.insert(kept.key, kept.clone());
                SurvivorDone::Kept(kept)
            }
            SurvivorStep::Release { key } => {
                if *key != own(key.lock) && !self.is_left_behind(*key) {
                    return SurvivorDone::NotThere;
                }
                match self.surviving.locks.remove(key) {
                    Some(released) => SurvivorDone::Released(released),
                    None => return SurvivorDone::NotThere,
                }
            }
            SurvivorStep::Adopt { key, lock, owner } => {
                if !self.is_left_behind(*key) {
                    return SurvivorDone::NotThere;
                }
                let Some((left_by, now)) = self.pass_survivor(*key, own(*lock), Some(*owner))
                else {
                    return SurvivorDone::NotThere;
                };
                let from = *key;
                SurvivorDone::Adopted { from, left_by, now }
            }
            SurvivorStep::Cede { lock, to } => {
                let from = own(*lock);
                if !self.view.has_incarnation(to.node, to.incarnation) {
                    return SurvivorDone::NotThere;
                }
                let Some((_, now)) = self.pass_survivor(from, *to, None) else {
                    return SurvivorDone::NotThere;
                };
                SurvivorDone::Ceded { from, now }
            }
            SurvivorStep::Own { lock, owner } => match self.surviving.locks.get_mut(&own(*lock)) {
                Some(known) => {
                    known.owner = *owner;
                    SurvivorDone::Owned(known.clone())
                }
                None => return SurvivorDone::NotThere,
            },
        };
        self.surviving.changes += 1;
        done
    }

    /// A lock is known by another key from now on, unless there is none, or that key is another's. Whose it
    /// was, and as what it is known.
    fn pass_survivor(
        &mut self,
        from: SurvivorKey,
        to: SurvivorKey,
        owner: Option<SurvivorOwner>,
    ) -> Option<(SurvivorOwner, Survivor)> {
        let locks = &mut self.surviving.locks;
        if locks.contains_key(&to) {
            return None;
        }
        let known = locks.remove(&from)?;
        let left_by = known.owner;
        let now = Survivor {
            key: to,
            owner: owner.unwrap_or(left_by),
            ..known
        };
        locks.insert(to, now.clone());
        Some((left_by, now))
    }

    fn has_room_for_survivor(&self, kept: &Survivor) -> bool {
        let locks = &self.surviving.locks;
        let of_user = locks.values().filter(|l| l.owner.uid == kept.owner.uid);
        let user_full = kept.owner.uid != 0 && of_user.count() >= SURVIVORS_PER_USER_MAX;
        locks.len() < SURVIVORS_MAX
            && !user_full
            && !locks.contains_key(&kept.key)
            && kept.name.is_root()
            && kept.token.is_plausible(self.view.epoch)
            && self.lockspaces.values().any(|space| space.id == kept.space)
            && self.room_left() >= kept.len_max()
    }
}
