//! What the flight recorder is told.
//!
//! An own lock is noted where its owner's side changes; if this node masters its resource, that is
//! also what the master did. Others' locks are noted where the master decides. What a release allows
//! must be noted after it.

use crate::{
    Dlm, Life,
    master::Key,
    names::Place,
    table::{Pending, State},
};
use mainstay_base::{Instant, LockId, LockMode, NodeId, Token};
use mainstay_recorder::{MasterRecord, Op, OwnRecord, Phase, Record, Recorder};

impl Dlm {
    /// The flight recorder; it is off until one is put in its place.
    pub fn recorder(&mut self) -> &mut Recorder {
        &mut self.recorder
    }

    /// Something happened to an own lock; the mode is that which it is about.
    pub(crate) fn note(&mut self, now: Instant, op: Op, lock: LockId, mode: Option<LockMode>) {
        if !self.recorder.is_on() {
            return;
        }
        let Some(owned) = self.locks.get(&lock) else {
            return;
        };
        let resource = self.resources.peek(owned.place);
        let master = match &resource.state {
            // On its way to another master: that one may have decided already.
            State::Mine(master) if master.is_frozen() => NodeId(0),
            State::Mine(_) => self.me,
            State::At(master) | State::Moving(master) => *master,
            State::LookingUp | State::Forgetting | State::Lost(_) => NodeId(0),
        };
        let record = OwnRecord {
            op,
            space: resource.id.space,
            name: &resource.id.name,
            session: owned.session,
            lock,
            mode,
            token: owned.token,
            master,
        };
        self.recorder.record(now, &Record::Own(record));
    }

    /// The pending call of an own lock does not end at once.
    pub(crate) fn note_call(&mut self, now: Instant, lock: LockId) {
        let Some(owned) = self.locks.get(&lock).filter(|_| self.recorder.is_on()) else {
            return;
        };
        let (op, mode) = match &owned.pending {
            Pending::Request { mode, .. } => (Op::Asked, Some(*mode)),
            Pending::Convert { mode, .. } => (Op::Converting, Some(*mode)),
            Pending::Unlock { .. } => (Op::Unlocking, owned.granted),
            Pending::Range(ask) => (Op::Asked, Some(ask.mode)),
            Pending::Update { .. }
            | Pending::Recording { .. }
            | Pending::Taking { .. }
            | Pending::None => return,
        };
        self.note(now, op, lock, mode);
    }

    /// What a grant on a resource mastered here is of.
    pub(crate) fn granting(&self, place: Place) -> Op {
        match &self.resources.peek(place).state {
            State::Mine(master) if master.is_ranged() => Op::Ranged,
            _ => Op::Granted,
        }
    }

    /// Something happened to a lock on a resource mastered here. Own locks are noted by
    /// [`Dlm::note`], but for what another master granted them.
    pub(crate) fn note_at_master(
        &mut self,
        now: Instant,
        op: Op,
        place: Place,
        key: Key,
        mode: Option<LockMode>,
        token: Token,
    ) {
        if !self.recorder.is_on() {
            return;
        }
        let (node, incarnation) = key.life();
        if key.life() == self.my_life() {
            if op == Op::Restated {
                // It may have been demoted while this node could not be told as the next master.
                let demoted = self.locks.get(&key.lock).is_some_and(|owned| owned.demoted);
                let mode = if demoted { Some(LockMode::Nl) } else { mode };
                self.note(now, op, key.lock, mode);
            }
            return;
        }
        let id = &self.resources.peek(place).id;
        let record = MasterRecord {
            op,
            space: id.space,
            name: &id.name,
            node,
            incarnation,
            lock: key.lock,
            mode,
            token,
        };
        self.recorder.record(now, &Record::Mastered(record));
    }

    /// This node masters a resource from now on, or does not any more.
    pub(crate) fn note_master(&mut self, now: Instant, place: Place, here: bool) {
        if self.recorder.is_on() {
            let id = &self.resources.peek(place).id;
            let record = Record::Master {
                space: id.space,
                name: &id.name,
                here,
            };
            self.recorder.record(now, &record);
        }
    }

    /// A resource has moved here, with all its locks.
    pub(crate) fn note_moved(&mut self, now: Instant, place: Place) {
        let State::Mine(master) = &self.resources.peek(place).state else {
            return;
        };
        if !self.recorder.is_on() {
            return;
        }
        let locks = master.engine.granted().chain(master.engine.converting());
        let held = locks.filter_map(|view| Some((view.key, view.granted?)));
        let held: Vec<(Key, (LockMode, Token))> = held.collect();
        self.note_master(now, place, true);
        for (key, (mode, token)) in held {
            self.note_at_master(now, Op::Restated, place, key, Some(mode), token);
        }
    }

    /// A step of rebuilding what a vanished incarnation mastered.
    pub(crate) fn note_recovery(&mut self, now: Instant, dead: Life, phase: Phase) {
        let (node, incarnation) = dead;
        let record = Record::<&mainstay_base::ResourceName>::Recovery {
            node,
            incarnation,
            phase,
        };
        self.recorder.record(now, &record);
    }
}
