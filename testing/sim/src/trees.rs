//! Clients' locks beneath others, and what becomes of them.

use crate::{
    checkers::{Fact, books::Res},
    client::{Call, Lock, Phase},
    workloads::Happened,
    world::World,
};
use mainstay_base::{Flags, LockMode, ResourceName};
use mainstay_wire::{
    client::{Answer, Ask, Handle},
    lock::Refusal,
};

/// A lock beneath another, as a workload asks for it.
#[derive(Clone, Debug)]
pub struct Child {
    /// The lock above.
    pub parent: Handle,
    /// Its name.
    pub handle: Handle,
    /// On what.
    pub res: Res,
    /// In which mode.
    pub mode: LockMode,
    /// How.
    pub flags: Flags,
    /// Give up after so many milliseconds.
    pub timeout_ms: Option<u32>,
}

impl World {
    pub(crate) fn lock_under(&mut self, slot: usize, child: &Child) {
        let (_, name) = &self.terrain.resources[child.res as usize];
        let name = ResourceName::new(name.own_bytes()).expect("a level is a name");
        let client = &mut self.clients[slot];
        if !client.locks.contains_key(&child.parent) {
            return;
        }
        let lock = Lock {
            res: child.res,
            phase: Phase::Asking,
            demoted: false,
        };
        let handle = child.handle;
        client.locks.insert(handle, lock);
        client.parents.insert(handle, child.parent);
        let no = client.no;
        self.touched.entry(no).or_default().insert(child.res);
        let ask = Ask::LockUnder {
            parent: child.parent,
            handle,
            name,
            mode: child.mode,
            flags: child.flags,
            blocking: true,
            timeout_ms: child.timeout_ms,
        };
        let call = Call::Lock {
            handle,
            mode: child.mode,
            flags: child.flags,
        };
        self.stats.count("locks asked for beneath others");
        self.ask(slot, ask, call);
    }

    /// Whether a lock is beneath another, as its owner knows.
    fn is_beneath(&self, slot: usize, mut handle: Handle, above: Handle) -> bool {
        let parents = &self.clients[slot].parents;
        while let Some(parent) = parents.get(&handle) {
            if *parent == above {
                return true;
            }
            handle = *parent;
        }
        false
    }

    pub(crate) fn unlock_tree(&mut self, slot: usize, root: Option<Handle>, itself: bool) {
        let all: Vec<Handle> = self.clients[slot].locks.keys().copied().collect();
        let goes = |handle: &Handle| match root {
            None => true,
            Some(root) => itself && *handle == root || self.is_beneath(slot, *handle, root),
        };
        let handles: Vec<Handle> = all.into_iter().filter(goes).collect();
        for &handle in &handles {
            let client = &mut self.clients[slot];
            let who = client.who(handle);
            let Some(lock) = client.locks.get_mut(&handle) else {
                continue;
            };
            if lock.phase == Phase::Releasing {
                continue;
            }
            lock.phase = Phase::Releasing;
            lock.demoted = false;
            let res = lock.res;
            self.books.remove(who);
            if self.books.empty(res) {
                self.fact(&Fact::Emptied { res });
            }
        }
        let ask = Ask::UnlockTree {
            handle: root,
            itself,
        };
        self.ask(slot, ask, Call::UnlockTree { handles });
    }

    pub(crate) fn tree_unlocked(
        &mut self,
        slot: usize,
        handles: &[Handle],
        result: &Result<Answer, Refusal>,
    ) {
        let released = match result {
            Ok(Answer::TreeUnlocked { released }) => *released,
            other => {
                let what = format!("{other:?} in answer to the unlock of a tree");
                return self.protocol(slot, &what);
            }
        };
        self.stats.count("trees unlocked");
        self.stats.add("locks of unlocked trees", released);
        if released > handles.len() as u64 {
            let what = format!("{released} locks of a tree of {} released", handles.len());
            self.protocol(slot, &what);
        }
        let open = |call: &Call| match call {
            Call::Lock { handle, .. }
            | Call::Convert { handle, .. }
            | Call::Unlock { handle, .. } => handles.contains(handle),
            _ => false,
        };
        if let Some(call) = self.clients[slot].calls.values().find(|call| open(call)) {
            let what = format!("the end of a tree before that of {call:?}");
            return self.protocol(slot, &what);
        }
        for &handle in handles {
            let who = self.clients[slot].who(handle);
            if self.clients[slot].locks.remove(&handle).is_some() {
                self.fact(&Fact::Unlocked { who });
                self.tell(slot, Happened::Unlocked(handle));
            }
        }
        self.tell(slot, Happened::TreeUnlocked);
    }

    /// Tries to unlock a lock that has another beneath it, which stays until this is answered.
    pub(crate) fn probe_parent(&mut self, slot: usize, handle: Handle) {
        let held = self.clients[slot].locks.get(&handle);
        if !held.is_some_and(|lock| matches!(lock.phase, Phase::Held(_))) {
            return;
        }
        let ask = Ask::Unlock {
            handle,
            flags: Flags::NONE,
            value: None,
        };
        self.ask(slot, ask, Call::Probe { handle });
    }

    pub(crate) fn probed(&mut self, slot: usize, handle: Handle, result: Result<Answer, Refusal>) {
        match result {
            Err(why @ Refusal::HasSubLocks(_)) => {
                self.stats.count("parents kept");
                self.tell(slot, Happened::Refused(handle, why));
            }
            other => {
                let what = format!("{other:?} in answer to the unlock of a lock with one beneath");
                self.protocol(slot, &what);
            }
        }
    }
}
