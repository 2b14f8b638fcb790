//! Requests, conversions, releases and cancels.

use super::{Call, Daemon, Lock, Part, Said, invalid, time::Kept};
use crate::resource::{Key, Reference, has, way, writes};
use mainstay_base::{
    Instant, LockMode, LockspaceId, Order, SessionId, Token, ValueBlock, ValueVersion,
};
use mainstay_wire::{
    client::{Answer, Ask, Handle},
    dlm::ResourceId,
    lock::{Flags, Refusal},
    sets::{ConvertOne, UnlockOne},
};
use std::time::Duration;

/// What a new lock is to be.
pub(super) struct New {
    pub(super) session: SessionId,
    pub(super) request: u64,
    pub(super) handle: Handle,
    pub(super) resource: ResourceId,
    pub(super) parent: Option<Key>,
    pub(super) mode: LockMode,
    pub(super) flags: Flags,
    pub(super) blocking: bool,
    pub(super) deadline: Option<Instant>,
    pub(super) part: Part,
}

impl Daemon {
    pub(super) fn deadline(&self, timeout_ms: Option<u32>) -> Option<Instant> {
        timeout_ms.map(|ms| self.now + Duration::from_millis(ms.into()))
    }

    /// Whether flags mean nothing at all, or nothing in that lockspace.
    pub(super) fn flags_are_wrong(&self, space: LockspaceId, flags: Flags) -> bool {
        let order = self.spaces.get(&space).map(|space| space.rules.order);
        let idle = flags.priority() > 0 && order.is_some_and(|order| order != Order::Priority);
        flags.unknown() != 0 || idle
    }

    pub(super) fn request_is_wrong(
        &self,
        space: LockspaceId,
        mode: LockMode,
        flags: Flags,
    ) -> bool {
        self.flags_are_wrong(space, flags)
            || has(flags, Flags::FORCEUNLOCK)
            || Reference::request_is_wrong(mode, flags)
    }

    pub(super) fn ask_lock(&mut self, session: SessionId, request: u64, ask: Ask) {
        let mut reasons = Vec::new();
        let (new, timeout_ms) = match ask {
            Ask::Lock {
                handle,
                lockspace: space,
                name,
                mode,
                flags,
                blocking,
                timeout_ms,
            } => {
                if !self.spaces.contains_key(&space) {
                    reasons.push(Refusal::NoSuchLockspace);
                }
                if !name.is_root() {
                    reasons.push(invalid());
                }
                let resource = ResourceId { space, name };
                let new = New {
                    session,
                    request,
                    handle,
                    resource,
                    parent: None,
                    mode,
                    flags,
                    blocking,
                    deadline: None,
                    part: Part::Alone,
                };
                (new, timeout_ms)
            }
            Ask::LockUnder {
                parent,
                handle,
                name,
                mode,
                flags,
                blocking,
                timeout_ms,
            } => {
                if has(flags, Flags::PERSISTENT) {
                    reasons.push(invalid());
                }
                let above = match self.above(session, parent, &name) {
                    Ok(above) => above,
                    Err(why) => {
                        reasons.extend(why);
                        return self.answer(session, request, Err(reasons));
                    }
                };
                let (parent, resource) = above;
                let new = New {
                    session,
                    request,
                    handle,
                    resource,
                    parent: Some(parent),
                    mode,
                    flags,
                    blocking,
                    deadline: None,
                    part: Part::Alone,
                };
                (new, timeout_ms)
            }
            _ => return,
        };
        let id = &new.resource;
        if !self.may_lock(session, id.space, &id.name, new.mode, new.flags) {
            reasons.push(Refusal::Denied(String::new()));
        }
        if self.request_is_wrong(id.space, new.mode, new.flags) {
            reasons.push(invalid());
        }
        if self.handles_in_use(session).contains(&new.handle) {
            reasons.push(Refusal::HandleInUse);
        }
        if !reasons.is_empty() {
            return self.answer(session, request, Err(reasons));
        }
        let deadline = self.deadline(timeout_ms);
        self.begin_lock(New { deadline, ..new });
    }

    pub(super) fn begin_lock(&mut self, new: New) {
        let (mode, flags, bast) = (new.mode, new.flags, new.blocking);
        let id = new.resource.clone();
        let key = self.add_lock(new);
        if !self.resources[&id].ranges.is_empty() {
            return self.refuse_kind(key, Refusal::Ranged);
        }
        let taken = self.engine(&id, |engine, out| {
            engine.request(key, mode, flags, bast, out)
        });
        assert!(taken, "it was looked at before");
    }

    /// Writes down a lock that asks for something.
    pub(super) fn add_lock(&mut self, new: New) -> Key {
        self.last_key += 1;
        let (key, id) = (self.last_key, new.resource.clone());
        let (mode, flags) = (new.mode, new.flags);
        if let Some(client) = self.clients.get_mut(&new.session) {
            client.handles.insert(new.handle, key);
        }
        let call = Call {
            request: new.request,
            mode,
            flags,
            deadline: new.deadline,
            demoted: false,
            ends_as: None,
            part: new.part,
        };
        let lock = Lock {
            session: new.session,
            handle: new.handle,
            resource: new.resource,
            parent: new.parent,
            held: None,
            token: Token::NONE,
            call: Some(call),
            blocking: new.blocking,
            persistent: has(flags, Flags::PERSISTENT),
            on_ranges: false,
            orphan: None,
            watches: false,
            known: None,
            promise: None,
            kept: Kept::default(),
        };
        self.locks.insert(key, lock);
        self.reference(&id);
        if let Some(resource) = self.resources.get_mut(&id) {
            resource.idle = None;
        }
        key
    }

    /// The lock of a handle that nothing waits for.
    pub(super) fn idle(&self, session: SessionId, handle: Handle) -> Result<Key, Refusal> {
        if self.set_of(session, handle).is_some() {
            return Err(Refusal::Busy);
        }
        let key = self.find(session, handle).ok_or(Refusal::NoSuchLock)?;
        match self.locks[&key].call {
            None => Ok(key),
            Some(_) => Err(Refusal::Busy),
        }
    }

    pub(super) fn ask_convert(&mut self, session: SessionId, request: u64, ask: Ask) {
        let Ask::Convert {
            handle,
            mode,
            flags,
            blocking,
            value,
            timeout_ms,
        } = ask
        else {
            return;
        };
        let one = ConvertOne {
            handle,
            mode,
            flags,
            blocking,
            value,
        };
        let begun = self.begin_convert(session, request, one, timeout_ms, Part::Alone);
        if let Err(reasons) = begun {
            self.answer(session, request, Err(reasons));
        }
    }

    /// Whether a block is too long for a lockspace.
    pub(super) fn too_long(&self, space: LockspaceId, value: Option<&ValueBlock>) -> bool {
        let max = usize::from(self.spaces[&space].rules.value_len);
        value.is_some_and(|value| value.as_bytes().len() > max)
    }

    pub(super) fn begin_convert(
        &mut self,
        session: SessionId,
        request: u64,
        one: ConvertOne,
        timeout_ms: Option<u32>,
        part: Part,
    ) -> Result<(), Vec<Refusal>> {
        let (mode, flags, bast) = (one.mode, one.flags, one.blocking);
        let key = self.idle(session, one.handle).map_err(|why| vec![why])?;
        let lock = &self.locks[&key];
        let id = lock.resource.clone();
        if lock.on_ranges {
            let mut reasons = vec![invalid()];
            if !self.may_lock(session, id.space, &id.name, mode, flags) {
                reasons.push(Refusal::Denied(String::new()));
            }
            return Err(reasons);
        }
        let from = lock.held.unwrap();
        let publishes = way(from, mode) == b'w';
        let missing =
            has(flags, Flags::VALBLK) && !has(flags, Flags::IVVALBLK) && one.value.is_none();
        let wrong = self.flags_are_wrong(id.space, flags)
            || has(flags, Flags::FORCEUNLOCK)
            || Reference::conversion_is_wrong(from, mode, flags)
            || (has(flags, Flags::PERSISTENT) && lock.parent.is_some())
            || (publishes && (missing || self.too_long(id.space, one.value.as_ref())));
        let mut reasons = Vec::new();
        if wrong {
            reasons.push(invalid());
        }
        if !from.covers(mode) && !self.may_lock(session, id.space, &id.name, mode, flags) {
            reasons.push(Refusal::Denied(String::new()));
        }
        if !reasons.is_empty() {
            return Err(reasons);
        }
        let deadline = self.deadline(timeout_ms);
        let lock = self.lock(key);
        lock.blocking = bast;
        lock.persistent = has(flags, Flags::PERSISTENT);
        lock.call = Some(Call {
            request,
            mode,
            flags,
            deadline,
            demoted: false,
            ends_as: None,
            part,
        });
        let taken = self.engine(&id, |engine, out| {
            engine.convert(key, mode, flags, bast, one.value, out)
        });
        assert!(taken, "it was looked at before");
        Ok(())
    }

    pub(super) fn ask_unlock(&mut self, session: SessionId, request: u64, ask: Ask) {
        let Ask::Unlock {
            handle,
            flags,
            value,
        } = ask
        else {
            return;
        };
        let one = UnlockOne {
            handle,
            flags,
            value,
        };
        if let Err(reasons) = self.begin_unlock(session, request, one, Part::Alone) {
            self.answer(session, request, Err(reasons));
        }
    }

    /// Releases a lock; its answer is told before what follows for others, but for a call that was
    /// ended by force and publishes nothing.
    pub(super) fn begin_unlock(
        &mut self,
        session: SessionId,
        request: u64,
        one: UnlockOne,
        part: Part,
    ) -> Result<(), Vec<Refusal>> {
        let (flags, value) = (one.flags, one.value);
        let force = has(flags, Flags::FORCEUNLOCK);
        let known = Flags::VALBLK | Flags::IVVALBLK | Flags::FORCEUNLOCK;
        let mut reasons = Vec::new();
        if !flags.without(known).is_empty() {
            reasons.push(invalid());
        }
        if let Some(set) = self.set_of(session, one.handle) {
            if !force {
                reasons.push(Refusal::Busy);
            }
            if !reasons.is_empty() {
                return Err(reasons);
            }
            self.end_set(set, &Refusal::Released);
            self.part_done(
                session,
                request,
                part,
                Ok(Answer::Unlocked { version: None }),
            );
            return Ok(());
        }
        let Some(key) = self.find(session, one.handle) else {
            reasons.push(Refusal::NoSuchLock);
            return Err(reasons);
        };
        let lock = &self.locks[&key];
        let (id, waits) = (lock.resource.clone(), lock.call.is_some());
        let writer = lock.held.is_some_and(writes);
        if waits && !force {
            reasons.push(Refusal::Busy);
        }
        let beneath = self.beneath(key).len();
        if beneath > 0 {
            reasons.push(Refusal::HasSubLocks(u32::try_from(beneath).unwrap()));
        }
        let values = Flags::VALBLK | Flags::IVVALBLK;
        let on_ranges = lock.on_ranges;
        if on_ranges && (value.is_some() || has(flags, values)) {
            reasons.push(invalid());
        }
        let marks = writer && has(flags, Flags::IVVALBLK);
        let missing = has(flags, Flags::VALBLK) && !marks && value.is_none();
        if writer && (missing || self.too_long(id.space, value.as_ref())) {
            reasons.push(invalid());
        }
        if !reasons.is_empty() {
            return Err(reasons);
        }
        let fresh = self.reference(&id).is_fresh(key);
        let wants = has(flags, Flags::VALBLK) || fresh;
        let publishes = writer && wants && !marks && value.is_some();
        let gone = |version: Option<ValueVersion>| Ok(Answer::Unlocked { version });
        if waits {
            self.end_waiting(key);
        }
        if on_ranges || waits && !publishes {
            self.take_away(key, marks);
            self.part_done(session, request, part, gone(None));
            return Ok(());
        }
        self.lock(key).held = None;
        self.releasing = Some((key, request, part, publishes));
        let taken = self.engine(&id, |engine, out| engine.unlock(key, flags, value, out));
        assert!(taken, "it was looked at before");
        Ok(())
    }

    /// Ends what a lock waits for, for it is being released.
    pub(super) fn end_waiting(&mut self, key: Key) {
        let lock = self.lock(key);
        let session = lock.session;
        if let Some(call) = lock.call.take() {
            let why = Err(vec![Refusal::Released]);
            self.part_done(session, call.request, call.part, why);
        }
    }

    pub(super) fn cancel(&mut self, session: SessionId, request: u64, handle: Handle) {
        if let Some(set) = self.set_of(session, handle) {
            self.end_set(set, &Refusal::Cancelled);
            return self.say(session, Said::done(request, Answer::Cancelled));
        }
        let Some(key) = self.find(session, handle) else {
            return self.answer(session, request, Err(vec![Refusal::NoSuchLock]));
        };
        if self.locks[&key].call.is_none() {
            return self.answer(session, request, Err(vec![Refusal::TooLate]));
        }
        self.take_back(key, Refusal::Cancelled, Some(request));
    }

    /// Takes back what a lock waits for, told as `why`, and then perhaps a cancel that asked for it.
    pub(super) fn take_back(&mut self, key: Key, why: Refusal, cancel: Option<u64>) {
        self.cancel = cancel;
        let lock = self.lock(key);
        let (id, on_ranges) = (lock.resource.clone(), lock.on_ranges);
        if let Some(call) = &mut lock.call {
            call.ends_as = Some(why);
        }
        let waited = match on_ranges {
            true => self.ranges(key, |ranges, last, out| ranges.cancel(key, last, out)),
            false => self.engine(&id, |engine, out| engine.cancel(key, out)),
        };
        assert!(waited, "what is pending waits");
    }
}
