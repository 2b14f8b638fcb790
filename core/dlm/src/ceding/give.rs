//! The side of the node that has the orphan.

use crate::{AdoptCall, Dlm, Life, Out};
use mainstay_base::{Flags, Instant, LockId, LockMode, Mutant};
use mainstay_membership::{SurvivorKey, SurvivorStep};
use mainstay_recorder::Op;
use mainstay_wire::{
    ceding::{CededLock, Ceding as Message, Found},
    client::Handle,
    dlm::{Body, ResourceId},
    event::OrphanFate,
    lock::Refusal,
};

/// For whom this node keeps an orphan.
#[derive(Clone, Copy, Debug)]
pub(super) struct Given {
    /// The life, and the number that the lock shall have there.
    to: (Life, LockId),
    /// The replicated log decides.
    by_log: bool,
}

impl Dlm {
    /// A process of another member wants an orphan of this node.
    pub(super) fn on_seek(
        &mut self,
        now: Instant,
        from: Life,
        (resource, mode, uid): (ResourceId, LockMode, Option<u32>),
        lock: LockId,
    ) {
        let ResourceId { space, name } = resource;
        let call = AdoptCall {
            handle: Handle(0),
            space,
            name,
            mode,
            flags: Flags::NONE,
            blocking: false,
            uid,
        };
        let found = match self.orphan_for(&call) {
            _ if self.orphans.closed => Found::Nothing,
            Ok(orphan) => self.give(now, orphan, (from, lock)),
            Err(Refusal::Busy) => Found::Busy,
            Err(Refusal::Denied(_)) => Found::Others,
            Err(Refusal::OrphanInMode(mode)) => Found::InMode(mode),
            Err(_) => Found::Nothing,
        };
        let body = Body::Ceding(Message::Answer { lock, found });
        self.send(from.0, body);
    }

    /// Keeps an orphan for another node from now on.
    fn give(&mut self, now: Instant, orphan: LockId, to: (Life, LockId)) -> Found {
        let process = self.orphan_of(orphan).map(|view| view.process);
        let left_by = process.map_or((0, 0), |process| (process.uid, process.pid));
        let owned = self.locks.get(&orphan).expect("orphans are locks");
        let by_log = owned.recorded;
        let held = owned.granted;
        self.ceding.given.insert(orphan, Given { to, by_log });
        // Its master may give it to others before this node hears that it is gone.
        self.note(now, Op::Unlocking, orphan, held);
        let owned = self.locks.get(&orphan).expect("orphans are locks");
        if by_log {
            let ((node, incarnation), lock) = to;
            self.out.push(Out::Survive(SurvivorStep::Cede {
                lock: orphan,
                to: SurvivorKey {
                    node,
                    incarnation,
                    lock,
                },
            }));
            return Found::InLog;
        }
        Found::Ceded(Box::new(CededLock {
            lock: orphan,
            token: owned.token,
            valblk: owned.valblk,
            value: owned.value.as_deref().cloned(),
            unsure: owned.unsure,
            left_by,
        }))
    }

    /// A member has what this node kept for it, or gives it back.
    pub(super) fn on_cede_ends(
        &mut self,
        now: Instant,
        from: Life,
        lock: LockId,
        to: LockId,
        taken: bool,
    ) {
        let given = self.ceding.given.get(&lock);
        let given = given.is_some_and(|given| given.to == (from, to) && !given.by_log);
        match (given, taken) {
            (true, false) => self.thaw(now, lock),
            (true, true) if Mutant::CededKept.active() => self.thaw(now, lock),
            (true, true) => self.ceded(now, lock),
            (false, _) => {}
        }
        if taken {
            let body = Body::Ceding(Message::Over { lock: to });
            self.send(from.0, body);
        }
    }

    /// An orphan is another node's from now on. Whoever rebuilds the resource just now may have heard of
    /// it from here and not of its new owner: so the master is told that it is gone, which is nothing
    /// to one that knows.
    fn ceded(&mut self, now: Instant, lock: LockId) {
        self.tell_fate(lock, OrphanFate::Ceded, false);
        self.let_go(now, lock, false, Op::Dropped);
    }

    /// The log has given an orphan of this node to another.
    pub(crate) fn ceded_by_log(&mut self, now: Instant, lock: LockId) {
        if Mutant::CededKept.active() {
            return self.thaw(now, lock);
        }
        self.tell_fate(lock, OrphanFate::Ceded, false);
        let Some(owned) = self.locks.get_mut(&lock) else {
            return;
        };
        owned.recorded = false;
        let held = owned.granted;
        self.note(now, Op::Dropped, lock, held);
        self.erase(now, lock);
    }

    /// The log has not given an orphan of this node to another.
    pub(crate) fn not_ceded_by_log(&mut self, now: Instant, lock: LockId) {
        if let Some(given) = self.ceding.given.get(&lock) {
            let (life, to) = given.to;
            let found = Found::Nothing;
            self.thaw(now, lock);
            if self.is_member(life) {
                self.send(life.0, Body::Ceding(Message::Answer { lock: to, found }));
            }
        }
    }

    /// An orphan is this node's as before.
    fn thaw(&mut self, now: Instant, lock: LockId) {
        self.ceding.given.remove(&lock);
        self.orphans.expire_again(lock);
        let held = self.locks.get(&lock).and_then(|owned| owned.granted);
        self.note(now, Op::Orphaned, lock, held);
    }

    /// The end of a life is proved: what this node kept for it went with it. Whether the master had passed it on
    /// by then only that knows, and may have given it to others since. One that has left or rests in order
    /// has asked no master for what is still kept for it.
    pub(crate) fn give_up_given(&mut self, now: Instant, dead: Life, clean: bool) {
        let given = self.ceding.given.iter();
        let given = given.filter(|(_, given)| given.to.0 == dead && !given.by_log);
        let given: Vec<LockId> = given.map(|(lock, _)| *lock).collect();
        for lock in given {
            if clean {
                self.thaw(now, lock);
                continue;
            }
            self.tell_fate(lock, OrphanFate::Purged, false);
            self.drop_as(now, lock, true, Op::OrphanPurged);
        }
    }
}
