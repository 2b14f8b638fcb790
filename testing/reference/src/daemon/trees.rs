//! Locks beneath others.

use super::{Daemon, Said, invalid};
use crate::resource::Key;
use mainstay_base::{ResourceName, SessionId};
use mainstay_wire::{
    client::{Answer, Handle},
    dlm::ResourceId,
    lock::Refusal,
};

impl Daemon {
    /// The lock above and the resource beneath it.
    pub(super) fn above(
        &self,
        session: SessionId,
        parent: Handle,
        own: &ResourceName,
    ) -> Result<(Key, ResourceId), Vec<Refusal>> {
        if self.set_of(session, parent).is_some() {
            return Err(vec![Refusal::ParentNotGranted]);
        }
        let key = self.find(session, parent);
        let key = key.ok_or_else(|| vec![Refusal::NoSuchLock])?;
        let above = &self.locks[&key];
        if above.on_ranges {
            return Err(vec![invalid()]);
        }
        let mut reasons = Vec::new();
        if above.held.is_none() {
            reasons.push(Refusal::ParentNotGranted);
        }
        let name = above.resource.name.child(own.own_bytes());
        if !own.is_root() || name.is_err() {
            reasons.push(invalid());
        }
        match name {
            Ok(name) if reasons.is_empty() => {
                let space = above.resource.space;
                Ok((key, ResourceId { space, name }))
            }
            _ => Err(reasons),
        }
    }

    /// All that are beneath a lock, of all depths.
    fn all_beneath(&self, key: Key) -> Vec<Key> {
        let right = self.beneath(key);
        let deeper = right.iter().flat_map(|key| self.all_beneath(*key));
        let deeper: Vec<Key> = deeper.collect();
        right.into_iter().chain(deeper).collect()
    }

    pub(super) fn unlock_tree(
        &mut self,
        session: SessionId,
        request: u64,
        handle: Option<Handle>,
        itself: bool,
    ) {
        let mut keys: Vec<Key> = match handle {
            None => {
                let sets = self.sets.iter();
                let sets = sets.filter(|(_, set)| set.session == session);
                let sets: Vec<u64> = sets.map(|(number, _)| *number).collect();
                for set in sets {
                    self.end_set(set, &Refusal::Released);
                }
                let client = &self.clients[&session];
                client.handles.values().copied().collect()
            }
            Some(handle) if self.set_of(session, handle).is_some() => {
                return self.answer(session, request, Err(vec![Refusal::Busy]));
            }
            Some(handle) => match self.find(session, handle) {
                None => return self.answer(session, request, Err(vec![Refusal::NoSuchLock])),
                Some(key) => {
                    let itself = itself.then_some(key);
                    self.all_beneath(key).into_iter().chain(itself).collect()
                }
            },
        };
        let released = keys.len() as u64;
        keys.sort_unstable_by(|a: &Key, b| b.cmp(a));
        for key in keys {
            self.end_waiting(key);
            self.take_away(key, false);
        }
        self.say(
            session,
            Said::done(request, Answer::TreeUnlocked { released }),
        );
    }
}
