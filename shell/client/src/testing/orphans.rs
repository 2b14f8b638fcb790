//! Persistent locks of the stand-in: they stay when their session is gone, until they are adopted.

use super::engine::{Engine, Owner, Said, done};
use mainstay_base::{Flags, LockMode, LockspaceId, ResourceName};
use mainstay_wire::{
    client::Answer,
    lock::{Granted, Refusal},
};

impl Engine {
    /// Gives an orphan another owner.
    pub(super) fn adopt(
        &mut self,
        owner: Owner,
        request: u64,
        place: (LockspaceId, ResourceName),
        (mode, flags): (LockMode, Flags),
        said: &mut Said,
    ) {
        let result = self.try_adopt(owner, place, mode, flags);
        said.push(done(owner.0, request, result));
    }

    fn try_adopt(
        &mut self,
        owner: Owner,
        place: (LockspaceId, ResourceName),
        mode: LockMode,
        flags: Flags,
    ) -> Result<Answer, Refusal> {
        let gone = &self.gone;
        let resource = self.resources.get_mut(&place);
        let resource = resource.ok_or(Refusal::NoSuchOrphan)?;
        let (token, value) = (resource.token, resource.read());
        let locks = resource.locks.iter_mut();
        let mut orphans = locks.filter(|lock| gone.contains(&lock.owner.0)).peekable();
        let other = orphans.peek().and_then(|orphan| orphan.held);
        let Some(orphan) = orphans.find(|orphan| orphan.held == Some(mode)) else {
            return Err(other.map_or(Refusal::NoSuchOrphan, Refusal::OrphanInMode));
        };
        self.places.remove(&orphan.owner);
        orphan.owner = owner;
        orphan.persistent = flags.contains(Flags::PERSISTENT);
        self.places.insert(owner, place);
        let value = flags.contains(Flags::VALBLK).then_some(value);
        Ok(Answer::Granted(Granted { mode, token, value }))
    }
}
