//! Locks of the stand-in beneath others.

use super::engine::{Engine, Owner, Said, done};
use mainstay_wire::{
    client::{Answer, Ask, Handle},
    lock::Refusal,
};

impl Engine {
    /// Deals with what is about trees. Gives back what is not, or what it comes to.
    pub(super) fn ask_of_tree(
        &mut self,
        session: u64,
        request: u64,
        ask: Ask,
        said: &mut Said,
    ) -> Option<Ask> {
        let result = match ask {
            Ask::LockUnder {
                parent,
                handle,
                name,
                mode,
                flags,
                blocking,
                timeout_ms,
            } => {
                let above = (session, parent);
                let place = match self.find(above) {
                    None => Err(Refusal::NoSuchLock),
                    Some((_, lock)) if lock.held.is_none() => Err(Refusal::ParentNotGranted),
                    Some((place, _)) => Ok(place),
                };
                let name = place.and_then(|(lockspace, above)| {
                    let name = above.child(name.own_bytes());
                    let name = name.map_err(|why| Refusal::Invalid(why.to_string()));
                    Ok((lockspace, name?))
                });
                match name {
                    Ok((lockspace, name)) => {
                        self.parents.insert((session, handle), above);
                        return Some(Ask::Lock {
                            handle,
                            lockspace,
                            name,
                            mode,
                            flags,
                            blocking,
                            timeout_ms,
                        });
                    }
                    Err(why) => Err(why),
                }
            }
            Ask::Unlock { handle, .. } if self.beneath((session, handle)) > 0 => {
                let beneath = self.beneath((session, handle));
                Err(Refusal::HasSubLocks(beneath))
            }
            Ask::UnlockTree { handle, itself } => {
                let released = self.unlock_tree(session, handle, itself, said);
                Ok(Answer::TreeUnlocked { released })
            }
            other => return Some(other),
        };
        said.push(done(session, request, result));
        None
    }

    /// How many locks are right beneath one.
    fn beneath(&self, above: Owner) -> u32 {
        let beneath = |owner: &&Owner| self.parents.get(owner) == Some(&above);
        let count = self.places.keys().filter(beneath).count();
        u32::try_from(count).unwrap_or(u32::MAX)
    }

    fn goes(&self, owner: Owner, root: Option<Owner>, itself: bool) -> bool {
        let Some(root) = root else { return true };
        let mut above = owner;
        while let Some(parent) = self.parents.get(&above) {
            if *parent == root {
                return true;
            }
            above = *parent;
        }
        itself && owner == root
    }

    fn unlock_tree(
        &mut self,
        session: u64,
        root: Option<Handle>,
        itself: bool,
        said: &mut Said,
    ) -> u64 {
        let root = root.map(|handle| (session, handle));
        let mine = self.places.keys().filter(|owner| owner.0 == session);
        let gone = mine.filter(|owner| self.goes(**owner, root, itself));
        let gone: Vec<Owner> = gone.copied().collect();
        for owner in &gone {
            self.end_wish(*owner, said);
        }
        for owner in &gone {
            self.forget(*owner, said);
        }
        gone.len() as u64
    }
}
