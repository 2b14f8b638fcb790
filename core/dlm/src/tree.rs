//! Locks beneath others: a client may ask for a lock on a sub-resource under a lock that it holds on
//! the resource above.
//!
//! Only the owner's node knows which lock is beneath which: to the masters each is a lock like any
//! other, on a resource like any other. A lock that has some beneath it cannot be released before
//! them. The rules are in `docs/protocol/hierarchy.md`.

use crate::{
    Dlm, LockCall,
    compat::Want,
    table::{Owned, Pending},
};
use mainstay_base::{FixedMap, Flags, Instant, LockId, LockMode, Mutant, ResourceName, SessionId};
use mainstay_recorder::Op;
use mainstay_wire::{
    client::{Answer, Handle},
    dlm::ResourceId,
    lock::Refusal,
};
use std::collections::{BTreeMap, BTreeSet};

/// A client's call for a lock beneath another.
#[derive(Clone, Debug)]
pub struct ChildCall {
    /// The lock above.
    pub parent: Handle,
    /// The lock's handle.
    pub handle: Handle,
    /// The name of its resource beneath that of the lock above.
    pub name: ResourceName,
    /// In which mode.
    pub mode: LockMode,
    /// How.
    pub flags: Flags,
    /// The client wants blocking notices.
    pub blocking: bool,
    /// Give up then.
    pub deadline: Option<Instant>,
}

/// Most calls of a session that release many locks each, at a time.
const ENDINGS_MAX: usize = 8;

/// A call that releases many locks.
#[derive(Debug)]
struct Ending {
    session: SessionId,
    request: u64,
    locks: u64,
    /// How many of them are not gone yet.
    left: u64,
}

/// Which locks of this node's clients are beneath which.
#[derive(Debug, Default)]
pub(crate) struct Trees {
    parents: FixedMap<LockId, LockId>,
    /// Locks that have some beneath them, with those.
    children: BTreeMap<LockId, BTreeSet<LockId>>,
    /// Locks that are being released together, and by which calls.
    ending: BTreeMap<LockId, Vec<u64>>,
    endings: BTreeMap<u64, Ending>,
    last: u64,
}

impl Trees {
    fn add(&mut self, lock: LockId, parent: LockId) {
        self.parents.insert(lock, parent);
        self.children.entry(parent).or_default().insert(lock);
    }

    /// How many locks are right beneath one.
    fn beneath(&self, lock: LockId) -> usize {
        self.children.get(&lock).map_or(0, BTreeSet::len)
    }

    /// Whether a lock has some beneath it.
    pub(crate) fn is_parent(&self, lock: LockId) -> bool {
        self.children.contains_key(&lock)
    }

    /// The lock that one is beneath.
    pub(crate) fn parent(&self, lock: LockId) -> Option<LockId> {
        self.parents.get(&lock).copied()
    }

    /// Whether a lock is being released with others.
    pub(crate) fn is_ending(&self, lock: LockId) -> bool {
        self.ending.contains_key(&lock)
    }

    /// All locks beneath one, of all depths.
    fn all_beneath(&self, lock: LockId) -> Vec<LockId> {
        let mut all = Vec::new();
        let mut parents = vec![lock];
        while let Some(parent) = parents.pop() {
            for &child in self.children.get(&parent).into_iter().flatten() {
                all.push(child);
                if self.is_parent(child) {
                    parents.push(child);
                }
            }
        }
        all
    }

    /// A client is gone: its calls get no answers, and its locks go as any client's do.
    pub(crate) fn forget_session(&mut self, session: SessionId) {
        let endings = self.endings.iter();
        let of_session = endings.filter(|(_, ending)| ending.session == session);
        let gone: BTreeSet<u64> = of_session.map(|(number, _)| *number).collect();
        if gone.is_empty() {
            return;
        }
        self.endings.retain(|number, _| !gone.contains(number));
        self.ending.retain(|_, calls| {
            calls.retain(|number| !gone.contains(number));
            !calls.is_empty()
        });
    }

    /// What is beneath a lock whose client is gone goes by itself, whoever has the lock then.
    pub(crate) fn part(&mut self, lock: LockId) {
        for child in self.children.remove(&lock).into_iter().flatten() {
            self.parents.remove(&child);
        }
    }

    /// A lock is gone. Which one above it has none beneath it any more.
    fn forget(&mut self, lock: LockId) -> Option<LockId> {
        // Only those of a client that is gone may go before what is beneath them.
        self.part(lock);
        let parent = self.parents.remove(&lock)?;
        let beneath = self.children.get_mut(&parent)?;
        beneath.remove(&lock);
        if !beneath.is_empty() {
            return None;
        }
        self.children.remove(&parent);
        Some(parent)
    }
}

/// Puts locks in an order in which each comes before those above it: they are numbered as they are
/// asked for.
fn lowest_first(locks: &mut [LockId]) {
    locks.sort_unstable_by(|a, b| b.cmp(a));
}

/// Why a sub-resource is not locked as others are.
pub(crate) fn needs_parent() -> Refusal {
    let why =
        "a sub-resource is locked under a lock on the resource above it, which the caller holds";
    Refusal::Invalid(why.to_owned())
}

/// Whether a lock is on its way out already, and must be waited for.
fn goes(owned: &Owned) -> bool {
    matches!(
        owned.pending,
        Pending::Unlock { .. } | Pending::Recording { .. }
    )
}

impl Dlm {
    /// A client asks for a lock beneath another of its own.
    pub fn lock_under(&mut self, now: Instant, session: SessionId, request: u64, call: ChildCall) {
        if let Err(why) = self.begin_under(now, session, request, call) {
            self.done(session, request, Err(why));
        }
    }

    fn begin_under(
        &mut self,
        now: Instant,
        session: SessionId,
        request: u64,
        call: ChildCall,
    ) -> Result<(), Refusal> {
        let resource = self.resource_under(session, call.parent, &call.name)?;
        self.spaces.check_has(resource.space, Want::Beneath)?;
        if call.flags.contains(Flags::PERSISTENT) || call.flags.contains(Flags::SURVIVE) {
            let why = "a lock beneath another ends with its session, and cannot be persistent";
            return Err(Refusal::Invalid(why.to_owned()));
        }
        let parent = self.find(session, call.parent);
        let call = LockCall {
            handle: call.handle,
            space: resource.space,
            name: resource.name,
            mode: call.mode,
            flags: call.flags,
            blocking: call.blocking,
            deadline: call.deadline,
        };
        self.ask_for_lock(now, session, request, call, parent)
    }

    /// The resource beneath that of a client's lock, if the client may ask for a lock there.
    ///
    /// # Errors
    /// If there is no such lock, if it is not granted, is on its way out or on ranges, or if the tree
    /// would be too deep.
    pub fn resource_under(
        &self,
        session: SessionId,
        parent: Handle,
        own: &ResourceName,
    ) -> Result<ResourceId, Refusal> {
        let invalid = |why: &str| Refusal::Invalid(why.to_owned());
        self.is_told(session, parent)
            .map_err(|_| Refusal::ParentNotGranted)?;
        let lock = self.find(session, parent).ok_or(Refusal::NoSuchLock)?;
        let owned = self.locks.get(&lock).expect("handles name locks");
        if self.is_on_ranges(lock) {
            let why = "nothing can be locked beneath a lock on ranges";
            return Err(invalid(why));
        }
        if owned.granted.is_none() {
            return Err(Refusal::ParentNotGranted);
        }
        self.no_survivor(lock, "lock anything beneath")?;
        if goes(owned) || self.trees.is_ending(lock) {
            return Err(Refusal::Busy);
        }
        if !own.is_root() {
            let why = "a lock is asked for under one right above it, by the last part of its name";
            return Err(invalid(why));
        }
        let above = &self.resources.peek(owned.place).id;
        let name = above.name.child(own.own_bytes());
        let name = name.map_err(|why| Refusal::Invalid(why.to_string()))?;
        let space = above.space;
        Ok(ResourceId { space, name })
    }

    /// A lock comes to be beneath another.
    pub(crate) fn is_beneath(&mut self, lock: LockId, parent: Option<LockId>) {
        if let Some(parent) = parent {
            self.trees.add(lock, parent);
        }
    }

    /// Whether a client may release a lock as far as those beneath it are concerned.
    pub(crate) fn may_go_alone(&self, session: SessionId, handle: Handle) -> Result<(), Refusal> {
        let lock = self.find(session, handle);
        let beneath = lock.map_or(0, |lock| self.trees.beneath(lock));
        if beneath == 0 || Mutant::ParentGoesFirst.active() {
            return Ok(());
        }
        let beneath = u32::try_from(beneath).unwrap_or(u32::MAX);
        Err(Refusal::HasSubLocks(beneath))
    }

    /// Whether a lock may not be converted as it would be if it stood alone.
    pub(crate) fn may_persist(&self, lock: LockId, flags: Flags) -> Result<(), Refusal> {
        match flags.contains(Flags::PERSISTENT) && self.trees.parents.contains(&lock) {
            true => Err(Refusal::Invalid(
                "a lock beneath another ends with its session, and cannot be persistent".to_owned(),
            )),
            false => Ok(()),
        }
    }

    /// Puts the locks of a client that is gone in an order in which they may go.
    pub(crate) fn lowest_first(&self, locks: &mut [LockId]) {
        if !self.trees.parents.is_empty() {
            lowest_first(locks);
        }
    }

    /// A client asks to release all locks beneath one, and that too if it says so; or, without one, all
    /// that it has. What waits ends as released; nothing is published.
    pub fn unlock_tree(
        &mut self,
        now: Instant,
        session: SessionId,
        request: u64,
        root: Option<Handle>,
        itself: bool,
    ) {
        let endings = self.trees.endings.values();
        if endings.filter(|ending| ending.session == session).count() >= ENDINGS_MAX {
            return self.done(session, request, Err(Refusal::Busy));
        }
        let locks = match root {
            Some(handle) => self.tree_of(session, handle, itself),
            None => Ok(self.all_of(now, session)),
        };
        let mut locks = match locks {
            Ok(locks) => locks,
            Err(why) => return self.done(session, request, Err(why)),
        };
        lowest_first(&mut locks);
        if locks.is_empty() {
            let answer = Answer::TreeUnlocked { released: 0 };
            return self.done(session, request, Ok(answer));
        }
        self.trees.last += 1;
        let number = self.trees.last;
        let ending = Ending {
            session,
            request,
            locks: locks.len() as u64,
            left: locks.len() as u64,
        };
        self.trees.endings.insert(number, ending);
        // What another such call releases already is only waited for.
        locks.retain(|lock| {
            let calls = self.trees.ending.entry(*lock).or_default();
            calls.push(number);
            calls.len() == 1
        });
        self.begin_release(now, locks);
    }

    fn tree_of(
        &self,
        session: SessionId,
        handle: Handle,
        itself: bool,
    ) -> Result<Vec<LockId>, Refusal> {
        self.is_told(session, handle)?;
        let lock = self.find(session, handle).ok_or(Refusal::NoSuchLock)?;
        let mut locks = self.trees.all_beneath(lock);
        // An adopted lock may have some beneath it yet of the client that is gone.
        locks.retain(|lock| {
            self.locks
                .get(lock)
                .is_some_and(|owned| owned.session == session)
        });
        if itself {
            locks.push(lock);
        }
        Ok(locks)
    }

    /// All locks of a session. Sets of it that are not granted yet are refused.
    fn all_of(&mut self, now: Instant, session: SessionId) -> Vec<LockId> {
        for handle in self.sets.handles_of(session) {
            self.end_set_of(now, session, handle, &Refusal::Released);
        }
        let handles = self.sessions.get(&session).into_iter();
        let locks = handles.flat_map(|handles| handles.sorted());
        locks.map(|(_, lock)| *lock).collect()
    }

    /// Releases a lock that is to go with others, unless those beneath it or an unlock of its own must
    /// end first.
    pub(crate) fn end_with_tree(&mut self, now: Instant, lock: LockId) {
        let Some(owned) = self.locks.get(&lock) else {
            return;
        };
        if !self.sessions.contains_key(&owned.session) {
            return self.drop_lock(now, lock, true);
        }
        if goes(owned) || self.trees.is_parent(lock) {
            return; // What ends first comes back here.
        }
        self.end_waiting(now, lock);
        self.let_go(now, lock, false, Op::Unlocked);
    }

    /// A call on a lock has ended, and the lock is still there.
    pub(crate) fn tree_settles(&mut self, now: Instant, lock: LockId) {
        if self.trees.is_ending(lock) {
            self.release_soon(now, lock);
        }
    }

    /// A lock is gone: what was to go after it may.
    pub(crate) fn leave_tree(&mut self, now: Instant, lock: LockId) {
        let freed = self.trees.forget(lock);
        for number in self.trees.ending.remove(&lock).unwrap_or_default() {
            let Some(ending) = self.trees.endings.get_mut(&number) else {
                continue;
            };
            ending.left -= 1;
            if ending.left == 0 {
                let answer = Answer::TreeUnlocked {
                    released: ending.locks,
                };
                let (session, request) = (ending.session, ending.request);
                self.trees.endings.remove(&number);
                self.done(session, request, Ok(answer));
            }
        }
        if let Some(parent) = freed {
            self.tree_settles(now, parent);
        }
    }

    /// What is known of trees fits the locks that there are.
    pub(crate) fn check_trees(&self) {
        for (parent, children) in &self.trees.children {
            let above = self.locks.get(parent);
            let above = above.expect("a lock is not gone before those beneath it");
            assert!(above.granted.is_some() && !goes(above), "{parent:?} goes");
            for child in children {
                assert_eq!(self.trees.parents.get(child), Some(parent));
                let owned = self.locks.get(child).expect("it leaves its tree");
                let id = |owned: &Owned| &self.resources.peek(owned.place).id;
                let name = id(owned).name.parent();
                assert_eq!(name.as_ref(), Some(&id(above).name));
                assert_eq!(id(owned).space, id(above).space);
            }
        }
        for lock in self.trees.ending.keys() {
            assert!(self.locks.contains(lock), "{lock:?} has ended");
        }
    }
}
