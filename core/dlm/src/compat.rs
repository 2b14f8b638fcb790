//! What the owner's node does otherwise in lockspaces that follow others' rules. What the engine does
//! otherwise is in `core/lock/src/compat.rs`; the rules, by number, are in `docs/protocol/compat.md`.

use crate::{
    Dlm, UnlockCall,
    fairness::Spaces,
    owner::{check_known, invalid},
    table::Owned,
};
use mainstay_base::{
    Compat, Flags, LockId, LockMode, LockspaceId, Mutant, ResourceName, SessionId,
};
use mainstay_lock::{admit_request, admit_unlock};
use mainstay_wire::{client::Answer, dlm::ResourceId, lock::Refusal};

/// What a client wants that not all systems have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Want {
    /// To lock a range of bytes.
    Range,
    /// To lock beneath a lock.
    Beneath,
    /// To use the value block.
    Value,
}

impl Want {
    fn word(self) -> &'static str {
        match self {
            Want::Range => "locks on ranges",
            Want::Beneath => "locks beneath locks",
            Want::Value => "value blocks",
        }
    }

    fn exists(self, compat: Compat) -> bool {
        match (compat, self) {
            (Compat::Strict, _) | (Compat::Vms, Want::Beneath) => true,
            (Compat::Linux | Compat::Vms, Want::Value) => true,
            (Compat::Linux, Want::Range | Want::Beneath)
            | (Compat::Vms, Want::Range)
            | (Compat::Saf, _) => false,
        }
    }
}

impl Spaces {
    /// Whose rules a lockspace follows.
    pub(crate) fn compat(&self, space: LockspaceId) -> Compat {
        self.rules(space).compat
    }

    /// Refuses what the lockspace does not have (rules 11, 17, 20 and 23).
    pub(crate) fn check_has(&self, space: LockspaceId, want: Want) -> Result<(), Refusal> {
        let compat = self.compat(space);
        match want.exists(compat) {
            true => Ok(()),
            false => Err(Refusal::Invalid(format!(
                "a lockspace with the rules of `{compat}` has no {}; use one that was made without \
                 `--compat`",
                want.word()
            ))),
        }
    }

    /// Refuses names that are too long for those whose rules the lockspace follows (rule 17).
    pub(crate) fn check_name(
        &self,
        space: LockspaceId,
        name: &ResourceName,
    ) -> Result<(), Refusal> {
        let max = Compat::VMS_NAME_MAX;
        if self.compat(space) != Compat::Vms {
            return Ok(());
        }
        match name.levels().map(<[u8]>::len).find(|len| *len > max) {
            None => Ok(()),
            Some(len) => Err(Refusal::Invalid(format!(
                "a name of {len} bytes; in a lockspace with the rules of `vms` it has 1 to {max}"
            ))),
        }
    }

    /// The flags of a call for a new lock that count.
    pub(crate) fn admit_request(
        &self,
        space: LockspaceId,
        mode: LockMode,
        flags: Flags,
    ) -> Result<Flags, Refusal> {
        self.check_flags(space, flags)?;
        admit_request(self.compat(space), mode, flags).map_err(invalid)
    }
}

impl Dlm {
    /// Whose rules hold for a lock.
    pub(crate) fn compat_of(&self, lock: LockId) -> Compat {
        let owned = self.locks.get(&lock);
        owned.map_or(Compat::Strict, |owned| {
            self.rules(&self.resources.peek(owned.place).id).compat
        })
    }

    /// Checks what an unlock says, of a lock or of one that a set is to have.
    pub(crate) fn check_unlock(
        &self,
        session: SessionId,
        call: &UnlockCall,
    ) -> Result<(), Refusal> {
        check_known(call.flags)?;
        let lock = self.find(session, call.handle);
        let compat = lock.map_or(Compat::Strict, |lock| self.compat_of(lock));
        admit_unlock(compat, call.flags).map_err(invalid)?;
        match lock.filter(|_| call.value.is_some()) {
            Some(lock) => self.check_has_value(lock),
            None => Ok(()),
        }
    }

    /// Refuses to speak of the value block where there is none (rule 20).
    pub(crate) fn check_has_value(&self, lock: LockId) -> Result<(), Refusal> {
        let owned = self.locks.get(&lock).expect("the caller found it");
        let space = self.resources.peek(owned.place).id.space;
        self.spaces.check_has(space, Want::Value)
    }

    /// The answer to a cancel that changes nothing any more: with Linux' rules, the same as to any other
    /// (rule 9).
    pub(crate) fn too_late(&self, lock: LockId) -> Result<Answer, Refusal> {
        cancelled_too_late(self.compat_of(lock))
    }

    /// Whether a client that dies may have been writing under a lock: with Linux' rules also if it has not
    /// spoken of the value block (rule 8).
    pub(crate) fn dies_writing(&self, lock: LockId) -> bool {
        let Some(owned) = self.locks.get(&lock) else {
            return false;
        };
        let linux = self.compat_of(lock) == Compat::Linux && !Mutant::OnlyValueWritersMark.active();
        let writes = owned.granted.is_some_and(LockMode::writes_value) && !owned.late;
        writes && (owned.valblk || linux)
    }

    /// Refuses a second lock in EX to who has one there, with the SA Forum's rules (rule 21): it would wait
    /// for itself.
    pub(crate) fn check_duplicate(
        &self,
        session: SessionId,
        resource: &ResourceId,
        mode: LockMode,
    ) -> Result<(), Refusal> {
        if self.exclusive.is_empty() || mode != LockMode::Ex || Mutant::DuplicateWaits.active() {
            return Ok(());
        }
        let place = self.resources.place(resource);
        match place.is_some_and(|place| self.exclusive.contains(&(session, place))) {
            true => Err(Refusal::Duplicate),
            false => Ok(()),
        }
    }

    /// A lock is granted: notes who has an EX lock where a second one is refused.
    pub(crate) fn note_exclusive(&mut self, lock: LockId) {
        if !self.spaces.some_saf() {
            return;
        }
        let saf = self.compat_of(lock) == Compat::Saf;
        let owned = self.locks.get(&lock).filter(|_| saf);
        if let Some(owned) = owned.filter(|owned| owned.granted == Some(LockMode::Ex)) {
            self.exclusive.insert((owned.session, owned.place));
        }
    }

    /// A lock is gone.
    pub(crate) fn forget_exclusive(&mut self, owned: &Owned) {
        if owned.granted == Some(LockMode::Ex) && !self.exclusive.is_empty() {
            self.exclusive.remove(&(owned.session, owned.place));
        }
    }

    /// Whether an orphan may expire: with the SA Forum's rules it goes by a purge only (rule 22).
    pub(crate) fn may_expire(&self, lock: LockId) -> bool {
        self.compat_of(lock) != Compat::Saf
    }
}

/// The answer to a cancel that changes nothing any more.
pub(crate) fn cancelled_too_late(compat: Compat) -> Result<Answer, Refusal> {
    match compat {
        Compat::Linux => Ok(Answer::Cancelled),
        Compat::Strict | Compat::Vms | Compat::Saf => Err(Refusal::TooLate),
    }
}
