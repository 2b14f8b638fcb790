//! Just enough of a lock manager for one node: first come, first served; conversions before new
//! requests; no deadlock search, no time limits.

use super::{
    ranges::{Ranges, Want},
    sets::Sets,
};
use mainstay_base::{
    Flags, LockMode, LockspaceId, LockspaceName, ResourceName, Token, Updated, VALUE_LEN_DEFAULT,
    Value, ValueBlock, ValueUpdate, ValueVersion,
};
use mainstay_wire::{
    client::{Answer, Ask, Handle, ToClient},
    lock::{Granted, Refusal},
};
use std::collections::{BTreeMap, BTreeSet};

/// A session and its handle.
pub(super) type Owner = (u64, Handle);
/// To which session, what.
pub(super) type Said = Vec<(u64, ToClient)>;

pub(super) struct Lock {
    pub(super) owner: Owner,
    pub(super) held: Option<LockMode>,
    blocking: bool,
    /// It is to be told of changes of the value block.
    watches: bool,
    /// It stays when its session is gone.
    pub(super) persistent: bool,
    wants: Option<Wish>,
}

struct Wish {
    request: u64,
    mode: LockMode,
    flags: Flags,
    value: Option<ValueBlock>,
}

#[derive(Default)]
pub(super) struct Resource {
    /// In the order of arrival.
    pub(super) locks: Vec<Lock>,
    pub(super) token: Token,
    value: Option<Value>,
    value_len: usize,
    /// The version that those who watch were told.
    told: ValueVersion,
}

#[derive(Default)]
pub(super) struct Engine {
    spaces: BTreeMap<LockspaceName, (LockspaceId, u16)>,
    pub(super) resources: BTreeMap<(LockspaceId, ResourceName), Resource>,
    pub(super) places: BTreeMap<Owner, (LockspaceId, ResourceName)>,
    /// What locks beneath others are beneath.
    pub(super) parents: BTreeMap<Owner, Owner>,
    /// Sessions that have ended.
    pub(super) gone: BTreeSet<u64>,
    ranges: Ranges,
    pub(super) sets: Sets,
}

impl Engine {
    pub(super) fn locks(&self) -> usize {
        self.places.len() + self.ranges.locks()
    }

    pub(super) fn ask(&mut self, session: u64, request: u64, ask: Ask, said: &mut Said) {
        if let Some(ask) = self.ask_several(session, request, ask, said)
            && let Some(ask) = self.ask_of_tree(session, request, ask, said)
        {
            self.answer(session, request, ask, said);
        }
        self.pursue_sets(said);
        for resource in self.resources.values_mut() {
            resource.tell_news(said);
        }
    }

    pub(super) fn answer(&mut self, session: u64, request: u64, ask: Ask, said: &mut Said) {
        let result = match ask {
            Ask::OpenLockspace { name, value_len } => {
                let next = LockspaceId(u32::try_from(self.spaces.len()).unwrap_or(0) + 1);
                let len = value_len.unwrap_or(VALUE_LEN_DEFAULT as u16);
                let (id, value_len) = *self.spaces.entry(name).or_insert((next, len));
                Ok(Answer::Lockspace { id, value_len })
            }
            Ask::Lock {
                handle,
                lockspace,
                name,
                mode,
                flags,
                blocking,
                ..
            } => {
                let Some(len) = self.value_len(lockspace) else {
                    return refuse(said, session, request, Refusal::NoSuchLockspace);
                };
                let owner = (session, handle);
                if self.places.contains_key(&owner) {
                    return refuse(said, session, request, Refusal::HandleInUse);
                }
                let place = (lockspace, name);
                self.places.insert(owner, place.clone());
                let resource = self.resources.entry(place.clone()).or_default();
                resource.value_len = len;
                resource.locks.push(Lock {
                    owner,
                    held: None,
                    blocking,
                    watches: false,
                    persistent: flags.contains(Flags::PERSISTENT),
                    wants: Some(Wish {
                        request,
                        mode,
                        flags,
                        value: None,
                    }),
                });
                return self.run(&place, Some(owner), said);
            }
            Ask::Range {
                handle,
                lockspace,
                name,
                range,
                mode,
                flags,
                blocking,
                ..
            } => {
                let want = Want {
                    owner: (session, handle),
                    request,
                    place: (lockspace, name),
                    range,
                    mode,
                    flags,
                    blocking,
                };
                return self.ranges.ask(want, said);
            }
            Ask::Unlock { handle, .. } if self.ranges.knows((session, handle)) => {
                let version = None;
                said.push(done(session, request, Ok(Answer::Unlocked { version })));
                return self.ranges.release((session, handle), said);
            }
            Ask::Cancel { handle } if self.ranges.cancel((session, handle), said) => {
                Ok(Answer::Cancelled)
            }
            Ask::Convert {
                handle,
                mode,
                flags,
                blocking,
                value,
                ..
            } => {
                let owner = (session, handle);
                match self.find(owner) {
                    None => Err(Refusal::NoSuchLock),
                    Some((_, lock)) if lock.wants.is_some() => Err(Refusal::Busy),
                    Some((place, lock)) => {
                        lock.blocking = blocking;
                        lock.persistent = flags.contains(Flags::PERSISTENT);
                        lock.wants = Some(Wish {
                            request,
                            mode,
                            flags,
                            value,
                        });
                        return self.run(&place, Some(owner), said);
                    }
                }
            }
            Ask::Unlock {
                handle,
                flags,
                value,
            } => {
                let owner = (session, handle);
                match self.find(owner) {
                    None => Err(Refusal::NoSuchLock),
                    Some((_, lock)) if lock.wants.is_some() => Err(Refusal::Busy),
                    Some((place, lock)) => {
                        let publishes = lock.held.is_some_and(LockMode::writes_value);
                        let value = value.filter(|_| publishes && flags.contains(Flags::VALBLK));
                        let version = self.remove(owner, value);
                        said.push(done(session, request, Ok(Answer::Unlocked { version })));
                        return self.run(&place, None, said);
                    }
                }
            }
            Ask::Cancel { handle } => match self.find((session, handle)) {
                Some((place, lock)) => match lock.wants.take() {
                    Some(want) => {
                        let fresh = lock.held.is_none();
                        said.push(done(session, want.request, Err(Refusal::Cancelled)));
                        said.push(done(session, request, Ok(Answer::Cancelled)));
                        if fresh {
                            self.remove((session, handle), None);
                        }
                        return self.run(&place, None, said);
                    }
                    None => Err(Refusal::TooLate),
                },
                None => Err(Refusal::TooLate),
            },
            Ask::UpdateValue { handle, update } => match self.find((session, handle)) {
                None => Err(Refusal::NoSuchLock),
                Some((place, _)) => self.update(&place, (session, handle), &update),
            },
            Ask::WatchValue { handle, on } => match self.find((session, handle)) {
                None => Err(Refusal::NoSuchLock),
                Some((_, lock)) => {
                    lock.watches = on;
                    Ok(Answer::Watching)
                }
            },
            Ask::Adopt {
                handle,
                lockspace,
                name,
                mode,
                flags,
                ..
            }
            | Ask::AdoptAnywhere {
                handle,
                lockspace,
                name,
                mode,
                flags,
                ..
            } => {
                let (owner, place) = ((session, handle), (lockspace, name));
                return self.adopt(owner, request, place, (mode, flags), said);
            }
            Ask::Ping => Ok(Answer::Pong),
            Ask::Events { .. } => Ok(Answer::Subscribed),
            Ask::Leave => Ok(Answer::Left),
            _ => Err(Refusal::Unavailable(
                "the stand-in cannot do this".to_owned(),
            )),
        };
        said.push(done(session, request, result));
    }

    fn update(
        &mut self,
        place: &(LockspaceId, ResourceName),
        owner: Owner,
        update: &ValueUpdate,
    ) -> Result<Answer, Refusal> {
        let resource = self.resources.entry(place.clone()).or_default();
        let mut others = resource.locks.iter().filter(|lock| lock.owner != owner);
        if others.any(|lock| lock.held.is_some_and(|held| !held.compatible(LockMode::Pw))) {
            return Err(Refusal::ValueHeld);
        }
        let now = resource.read();
        let block = match update {
            ValueUpdate::Swap { expect, block, .. } if *expect == now.version => block.clone(),
            ValueUpdate::Swap { .. } => {
                let (done, value) = (false, now);
                return Ok(Answer::Updated(Updated { done, value }));
            }
            ValueUpdate::Add { delta } => now.block.with_count(now.count() + delta),
        };
        resource.publish(block);
        let (done, value) = (true, resource.read());
        Ok(Answer::Updated(Updated { done, value }))
    }

    fn value_len(&self, id: LockspaceId) -> Option<usize> {
        let found = self.spaces.values().find(|space| space.0 == id)?;
        Some(found.1.into())
    }

    pub(super) fn find(
        &mut self,
        owner: Owner,
    ) -> Option<((LockspaceId, ResourceName), &mut Lock)> {
        let place = self.places.get(&owner)?.clone();
        let resource = self.resources.get_mut(&place)?;
        let lock = resource.locks.iter_mut().find(|l| l.owner == owner)?;
        Some((place, lock))
    }

    fn remove(&mut self, owner: Owner, value: Option<ValueBlock>) -> Option<ValueVersion> {
        let place = self.places.remove(&owner)?;
        let resource = self.resources.get_mut(&place)?;
        let version = value.and_then(|value| resource.publish(value));
        resource.locks.retain(|l| l.owner != owner);
        version
    }

    /// Ends the call that a lock waits for, if it does.
    pub(super) fn end_wish(&mut self, owner: Owner, said: &mut Said) {
        if let Some((_, lock)) = self.find(owner)
            && let Some(want) = lock.wants.take()
        {
            refuse(said, owner.0, want.request, Refusal::Released);
        }
    }

    /// Releases a lock without a word to its owner.
    pub(super) fn forget(&mut self, owner: Owner, said: &mut Said) {
        if let Some(place) = self.places.get(&owner).cloned() {
            self.remove(owner, None);
            self.run(&place, None, said);
        }
    }

    /// The session is gone, and all its locks.
    pub(super) fn gone(&mut self, session: u64, said: &mut Said) {
        self.ranges.gone(session, said);
        self.gone.insert(session);
        self.forget_sets(session);
        let mine = self.places.keys().filter(|owner| owner.0 == session);
        for owner in mine.copied().collect::<Vec<_>>() {
            let lock = self.find(owner).map(|(_, lock)| lock);
            if lock.is_some_and(|lock| lock.persistent && lock.held.is_some()) {
                continue;
            }
            self.forget(owner, said);
        }
        self.pursue_sets(said);
    }

    /// Grants what can be granted; then, if `newest` must wait, tells those who block it.
    fn run(&mut self, place: &(LockspaceId, ResourceName), newest: Option<Owner>, said: &mut Said) {
        let Some(resource) = self.resources.get_mut(place) else {
            return;
        };
        while let Some(index) = resource.grantable() {
            resource.grant(index, said);
        }
        let waiting = newest.and_then(|owner| {
            let lock = resource.locks.iter().find(|l| l.owner == owner)?;
            Some((
                owner,
                lock.held,
                lock.wants.as_ref()?.mode,
                lock.wants.as_ref()?.flags,
            ))
        });
        let Some((owner, held, mode, flags)) = waiting else {
            return;
        };
        if flags.contains(Flags::NOQUEUE) {
            if let Some((_, lock)) = self.find(owner)
                && let Some(want) = lock.wants.take()
            {
                refuse(said, owner.0, want.request, Refusal::NotQueued);
            }
            if held.is_none() {
                self.remove(owner, None);
            }
            return;
        }
        for lock in &resource.locks {
            let blocks = lock.held.is_some_and(|held| !held.compatible(mode));
            if blocks && lock.blocking && lock.owner != owner {
                let handle = lock.owner.1;
                said.push((lock.owner.0, ToClient::Blocking { handle, mode }));
            }
        }
    }
}

impl Resource {
    /// The first that waits and need not: conversions first, and each queue in its order.
    fn grantable(&self) -> Option<usize> {
        let fits = |index: usize, mode: LockMode| {
            let others = self.locks.iter().enumerate().filter(|(i, _)| *i != index);
            let mut held = others.filter_map(|(_, lock)| lock.held);
            held.all(|held| held.compatible(mode))
        };
        for converting in [true, false] {
            for (index, lock) in self.locks.iter().enumerate() {
                if let Some(want) = &lock.wants
                    && lock.held.is_some() == converting
                {
                    if fits(index, want.mode) {
                        return Some(index);
                    }
                    return None;
                }
            }
        }
        None
    }

    fn grant(&mut self, index: usize, said: &mut Said) {
        let token = self.token.next();
        let Some(want) = self.locks[index].wants.take() else {
            return;
        };
        let lock = &mut self.locks[index];
        let from = lock.held.replace(want.mode);
        let owner = lock.owner;
        self.token = token;
        let mut value = None;
        if want.flags.contains(Flags::VALBLK) {
            match want.value {
                Some(block) if from.is_some_and(LockMode::writes_value) => {
                    self.publish(block);
                }
                _ => {}
            }
            value = Some(self.read());
        }
        let granted = Granted {
            mode: want.mode,
            token,
            value,
        };
        let answer = Ok(Answer::Granted(granted));
        said.push(done(owner.0, want.request, answer));
    }

    /// The value, zeros if none was published.
    pub(super) fn read(&self) -> Value {
        let empty = || ValueBlock::default().padded(self.value_len);
        self.value.clone().unwrap_or_else(|| Value {
            block: empty().unwrap_or_default(),
            version: ValueVersion(0),
            maybe_stale: false,
        })
    }

    fn tell_news(&mut self, said: &mut Said) {
        let value = self.read();
        if std::mem::replace(&mut self.told, value.version) == value.version {
            return;
        }
        for lock in self.locks.iter().filter(|lock| lock.watches) {
            let (session, handle) = lock.owner;
            let value = value.clone();
            said.push((session, ToClient::ValueChanged { handle, value }));
        }
    }

    fn publish(&mut self, block: ValueBlock) -> Option<ValueVersion> {
        let version = ValueVersion(self.value.as_ref().map_or(0, |v| v.version.0) + 1);
        self.value = Some(Value {
            block: block.padded(self.value_len).ok()?,
            version,
            maybe_stale: false,
        });
        Some(version)
    }
}

pub(super) fn done(session: u64, request: u64, result: Result<Answer, Refusal>) -> (u64, ToClient) {
    (session, ToClient::Done { request, result })
}

fn refuse(said: &mut Said, session: u64, request: u64, refusal: Refusal) {
    said.push(done(session, request, Err(refusal)));
}
