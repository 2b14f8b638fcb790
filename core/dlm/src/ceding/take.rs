//! The side of the node whose client adopts, and that of the master.

use super::seek::Search;
use crate::{
    Dlm, Life, Out,
    master::Key,
    names::Place,
    table::{Owned, Pending},
};
use mainstay_base::{Flags, Instant, LockId, LockMode, Mutant, NodeId, SessionId, Token, Value};
use mainstay_recorder::Op;
use mainstay_wire::{
    ceding::{CededLock, Ceding as Message},
    client::{Answer, Handle},
    dlm::{Body, ResourceId},
    event::OrphanFate,
    lock::{Granted, Refusal},
    report::OwnerReport,
};
use std::sync::Arc;

/// A lock that is about to be a client's.
#[derive(Debug)]
pub(super) struct Taking {
    pub(super) session: SessionId,
    pub(super) request: u64,
    pub(super) handle: Handle,
    process: OwnerReport,
    flags: Flags,
    /// As which it was known.
    pub(super) from: (Life, LockId),
    left_by: (u32, u32),
    /// The master knows it as this node's.
    pub(super) known: bool,
    /// What it is in the way of meanwhile.
    notice: Option<LockMode>,
}

impl super::Ceding {
    /// A lock that its client has not been told of is in the way. Whether it is such a lock.
    pub(crate) fn keep_notice(&mut self, lock: LockId, mode: LockMode) -> bool {
        let taking = self.taking.get_mut(&lock);
        taking.map(|taking| taking.notice = Some(mode)).is_some()
    }
}

impl Dlm {
    /// Another node keeps an orphan for a client of this one: the master is asked for it.
    pub(super) fn begin_taking(
        &mut self,
        now: Instant,
        from: Life,
        lock: LockId,
        search: Search,
        ceded: CededLock,
    ) {
        let Search {
            session,
            request,
            call,
            process,
            ..
        } = search;
        let id = ResourceId {
            space: call.space,
            name: call.name,
        };
        let (place, new) = self.resources.place_or_new(&id);
        self.resources.add_lock(place, lock);
        let from = (from, ceded.lock);
        let mut owned = Owned::adopted(session, call.handle, place, (call.mode, ceded.token), now);
        owned.granted = None;
        owned.recorded = false;
        owned.pending = Pending::Taking { from, known: false };
        owned.request = request;
        owned.blocking = call.blocking;
        owned.persistent = call.flags.contains(Flags::PERSISTENT);
        owned.yields = call.flags.contains(Flags::NODLCKBLK);
        owned.valblk = ceded.valblk;
        owned.unsure = ceded.unsure;
        owned.value = ceded.value.map(Box::new);
        self.locks.insert(lock, owned);
        self.quotas.locks_come(session, 1);
        let taking = Taking {
            session,
            request,
            handle: call.handle,
            process,
            flags: call.flags,
            from,
            left_by: ceded.left_by,
            known: false,
            notice: None,
        };
        self.ceding.taking.insert(lock, taking);
        if Mutant::CededToldEarly.active() {
            let owned = self.locks.get_mut(&lock).expect("made above");
            owned.granted = Some(call.mode);
            return self.taken_over(now, lock);
        }
        if new {
            self.look_up(now, &id);
        }
        self.submit(now, lock);
    }

    /// The master knows a lock as this node's.
    pub(crate) fn on_taken(&mut self, now: Instant, lock: LockId, granted: &Granted) {
        let (Some(taking), Some(owned)) = (
            self.ceding.taking.get_mut(&lock).filter(|t| !t.known),
            self.locks.get_mut(&lock),
        ) else {
            return;
        };
        taking.known = true;
        let from = taking.from;
        owned.pending = Pending::Taking { from, known: true };
        (owned.granted, owned.token) = (Some(granted.mode), granted.token);
        self.ceding.former.insert(lock, from);
        let (life, known_as) = from;
        if self.is_member(life) {
            let (lock, to, taken) = (known_as, lock, true);
            let body = Body::Ceding(Message::Ends { lock, to, taken });
            self.send(life.0, body);
        } else {
            self.taken_over(now, lock);
        }
    }

    /// The master does not know what was ceded: what becomes of it, its old node may say.
    pub(crate) fn not_taken(&mut self, now: Instant, lock: LockId) {
        let Some(taking) = self.ceding.taking.remove(&lock) else {
            return;
        };
        let (life, known_as) = taking.from;
        let (session, request) = (taking.session, taking.request);
        if self.is_member(life) {
            let (lock, to, taken) = (known_as, lock, false);
            let body = Body::Ceding(Message::Ends { lock, to, taken });
            self.send(life.0, body);
        }
        // Who has not been asked may have another.
        let text = "the node of that orphan went in the middle of the adoption; try again";
        let why = Refusal::Unavailable(text.to_owned());
        self.done(session, request, Err(why));
        self.erase(now, lock);
    }

    /// The node that ceded a lock has forgotten it.
    pub(super) fn on_cede_over(&mut self, now: Instant, from: Life, lock: LockId) {
        let taking = self.ceding.taking.get(&lock);
        if taking.is_some_and(|taking| taking.known && taking.from.0 == from) {
            self.taken_over(now, lock);
        }
    }

    /// A lock is the client's, who may know.
    pub(super) fn taken_over(&mut self, now: Instant, lock: LockId) {
        let Some(taking) = self.ceding.taking.remove(&lock) else {
            return;
        };
        let Some(owned) = self.locks.get_mut(&lock) else {
            return;
        };
        owned.sent = false;
        let mode = owned.granted.unwrap_or(LockMode::Nl);
        let (place, token) = (owned.place, owned.token);
        let exact = !mode.compatible(LockMode::Pw) && owned.valblk && !owned.unsure;
        let wanted = exact && taking.flags.contains(Flags::VALBLK);
        let value = owned.value.as_deref().filter(|_| wanted).cloned();
        let (uid, pid) = taking.left_by;
        let resource = self.resources.peek(place).id.clone();
        let space = resource.space;
        self.out.push(Out::Orphan {
            resource,
            mode,
            process: OwnerReport {
                pid,
                uid,
                ..OwnerReport::default()
            },
            fate: OrphanFate::Adopted {
                by: taking.process.pid,
            },
            expired: false,
        });
        self.note(now, Op::Adopted, lock, Some(mode));
        let session = taking.session;
        let Some(handles) = self.sessions.get_mut(&session) else {
            return self.taken_too_late(now, lock, taking);
        };
        handles.insert(taking.handle, lock);
        self.owners.add(lock, session, self.owners.chosen(session));
        let len = self.spaces.rules(space).value_len;
        let value = value.map(|value| padded(value, len.into()));
        let granted = Granted { mode, token, value };
        self.finish(now, lock, Ok(Answer::Granted(granted)), false);
        if let Some(mode) = taking.notice {
            self.on_blocking(now, lock, mode);
        }
    }

    /// The client has ended meanwhile: what it would have left behind, it leaves behind.
    fn taken_too_late(&mut self, now: Instant, lock: LockId, taking: Taking) {
        let Some(owned) = self.locks.get_mut(&lock) else {
            return;
        };
        owned.pending = Pending::None;
        owned.blocking = false;
        match owned.persistent && !self.orphans.closed {
            true => self.orphan(now, lock, Arc::new(taking.process)),
            false => self.drop_lock(now, lock, true),
        }
    }

    /// While this node leaves, what the master was not asked for yet stays where it is. The rest must come here
    /// first ([`Dlm::may_go`]): if it were released now, its old node might restate what others have by then.
    pub(crate) fn drop_taken(&mut self, now: Instant) {
        if !self.orphans.closed {
            return;
        }
        let taking = self.ceding.taking.iter();
        let all: Vec<(LockId, (Life, LockId))> =
            taking.map(|(lock, taking)| (*lock, taking.from)).collect();
        for (to, (life, lock)) in all {
            let owned = self.locks.get(&to);
            let asked = owned.is_some_and(|owned| owned.sent || owned.granted.is_some());
            if !asked {
                let taken = false;
                self.send(life.0, Body::Ceding(Message::Ends { lock, to, taken }));
                self.erase(now, to);
            }
        }
    }

    /// At the master: a lock that another node had is the asking node's, under the key `to`. It may be so
    /// already: the answer of an earlier master was lost.
    pub(crate) fn take_here(
        &mut self,
        now: Instant,
        place: Place,
        to: Key,
        (from, token): (Key, Token),
        blocking: bool,
    ) {
        let (by, lock) = (to.life(), to.lock);
        let Some(master) = self.resources.get_mut(place).master() else {
            return;
        };
        let engine = &mut master.engine;
        let known = engine
            .granted()
            .find(|view| view.key == from || view.key == to)
            .and_then(|view| Some((view.key, view.granted?)));
        let Some((key, (mode, _))) = known.filter(|(_, (_, held))| *held == token) else {
            return self.tell_refused(now, by, lock, Refusal::NoSuchOrphan);
        };
        let mut effects = std::mem::take(&mut self.effects);
        if key != to && !Mutant::CededUnderOldKey.active() {
            engine.rekey(from, to, blocking, &mut effects);
            // What its last owner said of that may be on its way yet.
            engine.watch(to, false);
            self.note_at_master(now, Op::Purged, place, from, None, token);
            self.note_at_master(now, Op::Restated, place, to, Some(mode), token);
        }
        // What it is in the way of is told after that.
        let granted = Granted {
            mode,
            token,
            value: None,
        };
        match self.is_me(by) {
            true => self.on_granted(now, lock, granted),
            false => self.send(by.0, Body::Granted { lock, granted }),
        }
        self.deliver(now, place, effects);
        self.note_news(place);
        self.note_idle(now, place);
    }

    /// Asks the next master for what the last one has not given.
    pub(crate) fn take_anew(&mut self, now: Instant, taken: &[LockId]) {
        for lock in taken {
            if let Some(owned) = self.locks.get_mut(lock) {
                owned.sent = false;
            }
        }
        self.drop_taken(now);
        for lock in taken {
            self.submit(now, *lock);
        }
    }

    /// Tells who rebuilds a resource which of the locks that were restated to it were another node's.
    pub(crate) fn restate_former(
        &mut self,
        rebuilder: NodeId,
        dead: Life,
        resource: &ResourceId,
        locks: Vec<(LockId, (Life, LockId))>,
    ) {
        for (lock, (from, known_as)) in locks {
            if rebuilder == self.me {
                self.on_restate_ceded(
                    self.my_life(),
                    dead,
                    resource,
                    lock,
                    Key::of(from, known_as),
                );
                continue;
            }
            let body = Body::RestateCeded {
                dead,
                resource: resource.clone(),
                lock,
                from,
                known_as,
            };
            self.send(rebuilder, body);
        }
    }

    /// A lock that was restated may have been restated by another node, too.
    pub(crate) fn on_restate_ceded(
        &mut self,
        by: Life,
        dead: Life,
        resource: &ResourceId,
        lock: LockId,
        former: Key,
    ) {
        let place = self.resources.place(resource);
        if let (Some(place), Some(rebuild)) = (place, self.rebuild_of(dead)) {
            rebuild.was_anothers(place, Key::of(by, lock), former);
        }
    }

    /// Takes out what was restated under the key of a former owner, and of the present one.
    pub(crate) fn unite_ceded(&mut self, now: Instant, place: Place, dead: Life) {
        let rebuild = self.rebuild_of(dead);
        for (key, former) in rebuild.map(|r| r.others_at(place)).unwrap_or_default() {
            let (key, former) = (self.as_known_now(key), self.as_known_now(former));
            let Some(master) = self.resources.get_mut(place).master() else {
                return;
            };
            let token = |of: Key| {
                let mut restated = master.engine.restated();
                restated.find(|(known, _)| *known == of)?.1.granted
            };
            // It has at most got newer since.
            let (Some((_, held)), Some((_, before))) = (token(key), token(former)) else {
                continue;
            };
            if before <= held && master.engine.force_unlock(former, false, &mut Vec::new()) {
                self.note_at_master(now, Op::Purged, place, former, None, Token::NONE);
            }
        }
    }
}

/// Of a block that was never published no copy is kept.
pub(crate) fn padded(value: Value, len: usize) -> Value {
    Value {
        block: value.block.clone().padded(len).unwrap_or(value.block),
        ..value
    }
}
