//! A process takes over an orphan of its node. The lock does not change, so nobody else need agree; the
//! master is told, so that it tells the new owner what the lock is in the way of.

use crate::{
    Dlm,
    ceding::padded,
    owner::{check_known, invalid},
    table::State,
};
use mainstay_base::{
    Flags, Instant, LockId, LockMode, LockspaceId, Mutant, ResourceName, SessionId,
};
use mainstay_lock::admit_adopt;
use mainstay_recorder::Op;
use mainstay_wire::{
    client::{Answer, Handle},
    dlm::{Body, ResourceId},
    event::OrphanFate,
    lock::{Granted, Refusal},
};

/// A client's call to take over an orphan.
#[derive(Clone, Debug)]
pub struct AdoptCall {
    /// The handle that the lock shall have.
    pub handle: Handle,
    /// Where.
    pub space: LockspaceId,
    /// On what.
    pub name: ResourceName,
    /// In which mode it is held.
    pub mode: LockMode,
    /// How.
    pub flags: Flags,
    /// The client wants blocking notices.
    pub blocking: bool,
    /// Only an orphan that a process of this user left behind.
    pub uid: Option<u32>,
}

impl Dlm {
    /// A client asks to take over an orphan.
    pub fn adopt(&mut self, now: Instant, session: SessionId, request: u64, call: &AdoptCall) {
        if let Err(why) = self.adopt_here(now, session, request, call) {
            self.done(session, request, Err(why));
        }
    }

    /// The same, leaving the refusal to the caller.
    ///
    /// # Errors
    /// If it is refused.
    pub fn adopt_here(
        &mut self,
        now: Instant,
        session: SessionId,
        request: u64,
        call: &AdoptCall,
    ) -> Result<(), Refusal> {
        let (lock, granted) = self.try_adopt(now, session, call)?;
        // What the lock is in the way of is told after the answer.
        self.done(session, request, Ok(Answer::Granted(granted)));
        self.tell_adopted(now, lock);
        Ok(())
    }

    fn try_adopt(
        &mut self,
        now: Instant,
        session: SessionId,
        call: &AdoptCall,
    ) -> Result<(LockId, Granted), Refusal> {
        self.may_come(session, call.space)?;
        check_known(call.flags)?;
        let compat = self.spaces.compat(call.space);
        let flags = admit_adopt(compat, call.mode, call.flags).map_err(invalid)?;
        if !call.name.is_root() {
            let why =
                "locks on sub-resources end with their sessions, so there are no orphans of them";
            return Err(Refusal::Invalid(why.to_owned()));
        }
        if self.is_handle_used(session, call.handle) {
            return Err(Refusal::HandleInUse);
        }
        let lock = self.orphan_for(call)?;
        let from = self.locks.get(&lock).expect("orphans are locks").session;
        self.quotas.check_adoption(from, session)?;
        let by = self.deadlocks.process(session).pid;
        self.tell_fate(lock, OrphanFate::Adopted { by }, false);
        if !Mutant::OrphanAdoptedTwice.active() {
            self.orphans.forget(lock);
        }
        let owned = self.locks.get_mut(&lock).expect("orphans are locks");
        owned.session = session;
        owned.handle = call.handle;
        owned.blocking = call.blocking;
        owned.persistent = flags.contains(Flags::PERSISTENT) || owned.recorded;
        owned.yields = flags.contains(Flags::NODLCKBLK);
        owned.asked = now;
        // Under a weaker mode the block may be another by now, and the copy is of the last grant.
        let exact = owned
            .granted
            .is_some_and(|mode| !mode.compatible(LockMode::Pw) && owned.valblk && !owned.unsure);
        let wanted = exact && flags.contains(Flags::VALBLK);
        let value = owned.value.as_deref().filter(|_| wanted).cloned();
        let (mode, token) = (call.mode, owned.token);
        let len = self.spaces.rules(call.space).value_len;
        let value = value.map(|value| padded(value, len.into()));
        let granted = Granted { mode, token, value };
        if let Some(handles) = self.sessions.get_mut(&session) {
            handles.insert(call.handle, lock);
        }
        self.quotas.lock_passes(from, session);
        self.owners.add(lock, session, self.owners.chosen(session));
        self.note(now, Op::Adopted, lock, Some(call.mode));
        // Those who wait for the lock may now be in a circle with what its owner waits for.
        self.owner_stirs(now, self.owner_of(lock, session));
        self.record_owner(lock);
        Ok((lock, granted))
    }

    /// The oldest orphan that a call may mean.
    pub(crate) fn orphan_for(&mut self, call: &AdoptCall) -> Result<LockId, Refusal> {
        let resource = ResourceId {
            space: call.space,
            name: call.name.clone(),
        };
        let place = self.resources.place(&resource);
        let locks = place.map(|place| self.resources.peek(place).locks.as_slice());
        let (mut busy, mut others, mut other_mode) = (false, false, None);
        for lock in locks.unwrap_or_default() {
            let goes = self.is_going(*lock) || self.ceding.is_given(*lock);
            busy |= goes || self.orphans.ending.contains_key(lock);
            if goes {
                continue;
            }
            let Some(orphan) = self.orphans.by_lock.get(lock) else {
                continue;
            };
            let Some(owned) = self.locks.get(lock) else {
                continue;
            };
            match owned.granted {
                Some(mode) if mode != call.mode => other_mode = Some(mode),
                _ if call.uid.is_some_and(|uid| uid != orphan.process.uid) => others = true,
                _ => return Ok(*lock),
            }
        }
        Err(match other_mode {
            _ if busy => Refusal::Busy,
            _ if others => others_orphan(),
            Some(mode) => Refusal::OrphanInMode(mode),
            None => Refusal::NoSuchOrphan,
        })
    }

    /// Tells the master that a lock has another owner, or keeps that back until it may be told.
    fn tell_adopted(&mut self, now: Instant, lock: LockId) {
        let owned = self.locks.get_mut(&lock).expect("the caller found it");
        owned.adoption_unsaid = false;
        if owned.recorded {
            return; // It hears it from the log.
        }
        let blocking = owned.blocking;
        let resource = self.resources.get(owned.place);
        let body = Body::Adopted {
            resource: resource.id.clone(),
            lock,
            blocking,
        };
        match &resource.state {
            State::At(master) => {
                let to = *master;
                self.send(to, body);
            }
            // It is on its way to another master.
            State::Moving(_) => owned.adoption_unsaid = true,
            State::Mine(master) if master.is_frozen() => owned.adoption_unsaid = true,
            State::Mine(_) => self.master_call(now, self.my_life(), body),
            // The next master hears it with the lock.
            State::Lost(_) | State::LookingUp | State::Forgetting => {}
        }
    }

    /// Tells the master what it could not be told while the resource was on its way.
    pub(crate) fn adopted_again(&mut self, now: Instant, lock: LockId) {
        let owned = self.locks.get(&lock);
        if owned.is_some_and(|owned| owned.adoption_unsaid) {
            self.tell_adopted(now, lock);
        }
    }
}

/// Why an orphan is not adopted that another user's process left behind.
pub(crate) fn others_orphan() -> Refusal {
    let why = "another user's process left that orphan behind; its user, the lockspace's owner and root may adopt it";
    Refusal::Denied(why.to_owned())
}
