//! The owner side of locks on ranges.

use crate::{
    Dlm, Out,
    compat::Want,
    owner::{NewLock, check_known, invalid},
    table::{Pending, State},
};
use mainstay_base::{
    ByteRange, Flags, Instant, LockId, LockMode, LockspaceId, ResourceName, SessionId, Token,
};
use mainstay_lock::{check_range, ranges::STRETCHES_MAX};
use mainstay_recorder::Op;
use mainstay_wire::{
    client::{Answer, Handle},
    dlm::{Body, RangeAsk, ResourceId},
    lock::{Granted, Refusal},
};

/// A client's call for a range.
#[derive(Clone, Debug)]
pub struct RangeCall {
    /// The lock's handle.
    pub handle: Handle,
    /// Where.
    pub space: LockspaceId,
    /// On what.
    pub name: ResourceName,
    /// Which bytes.
    pub range: ByteRange,
    /// In which mode; NL to give them up.
    pub mode: LockMode,
    /// How.
    pub flags: Flags,
    /// The client wants blocking notices.
    pub blocking: bool,
    /// Give up then.
    pub deadline: Option<Instant>,
}

impl Dlm {
    /// A client asks for a range, or gives one up.
    pub fn range(&mut self, now: Instant, session: SessionId, request: u64, call: RangeCall) {
        let done = self.try_range(now, session, request, call);
        match done {
            Ok(None) => {}
            Ok(Some(answer)) => self.done(session, request, Ok(answer)),
            Err(why) => self.done(session, request, Err(why)),
        }
    }

    /// Does what a call asks for if that needs nobody else; otherwise the answer comes later.
    fn try_range(
        &mut self,
        now: Instant,
        session: SessionId,
        request: u64,
        call: RangeCall,
    ) -> Result<Option<Answer>, Refusal> {
        let (range, mode) = (call.range, call.mode);
        self.may_come(session, call.space)?;
        self.spaces.check_has(call.space, Want::Range)?;
        check_known(call.flags)?;
        check_range(call.flags).map_err(invalid)?;
        if !call.name.is_root() {
            let why = "a sub-resource is locked as a whole, not in ranges";
            return Err(Refusal::Invalid(why.to_owned()));
        }
        let resource = ResourceId {
            space: call.space,
            name: call.name,
        };
        self.is_told(session, call.handle)
            .map_err(|_| Refusal::HandleInUse)?;
        let known = self.find(session, call.handle);
        if known.is_none() && self.is_handle_used(session, call.handle) {
            return Err(Refusal::HandleInUse);
        }
        let nowait = call.flags.contains(Flags::NOQUEUE);
        let ask = RangeAsk {
            range,
            mode,
            flags: call.flags,
            blocking: call.blocking,
        };
        if let Some(lock) = known {
            self.may_call_range(lock, &resource)?;
            let set = self.ranges.get(&lock);
            if set.is_some_and(|set| !set.has_room_for(range, mode)) {
                return Err(full());
            }
            // Who wants to be told from now on what it is in the way of asks the master.
            let notices = call.blocking && mode != LockMode::Nl && !self.wants_notices(lock);
            if set.is_some_and(|set| set.covers(range, mode)) && !notices {
                return Ok(Some(self.weaken_range(now, lock, range, mode)));
            }
        } else if mode == LockMode::Nl {
            // As for files: what is not held may be given up.
            let (token, holds) = (Token::NONE, false);
            return Ok(Some(Answer::RangeSet { token, holds }));
        }
        self.quotas
            .check(session, u64::from(known.is_none()), call.flags)?;
        if nowait && !self.is_active() {
            return Err(Refusal::NoQuorum);
        }
        match known {
            Some(lock) => self.begin_call(now, lock, request, Pending::Range(ask), call.deadline),
            None => {
                let lock = NewLock {
                    session,
                    request,
                    handle: call.handle,
                    resource,
                    pending: Pending::Range(ask),
                    flags: call.flags,
                    blocking: call.blocking,
                    deadline: call.deadline,
                    parent: None,
                    owner: self.owners.chosen(session),
                };
                self.begin_lock(now, lock);
            }
        }
        Ok(None)
    }

    fn may_call_range(&mut self, lock: LockId, resource: &ResourceId) -> Result<(), Refusal> {
        if !self.is_on_ranges(lock) {
            return Err(Refusal::HandleInUse);
        }
        let owned = self.locks.get(&lock).expect("handles name locks");
        let known = &self.resources.peek(owned.place).id;
        if known != resource {
            return Err(Refusal::Invalid(format!(
                "the handle names a lock on ranges of {}, and a handle is for one resource; use \
                 another handle for {}",
                known.name, resource.name
            )));
        }
        match owned.pending {
            Pending::None => Ok(()),
            _ => Err(Refusal::Busy),
        }
    }

    fn wants_notices(&self, lock: LockId) -> bool {
        self.locks.get(&lock).is_some_and(|owned| owned.blocking)
    }

    /// Whether all of a range is held by a lock on ranges in modes that cover one.
    #[must_use]
    pub fn covers_range(
        &self,
        session: SessionId,
        handle: Handle,
        range: ByteRange,
        mode: LockMode,
    ) -> bool {
        let lock = self.find(session, handle);
        let set = lock.and_then(|lock| self.ranges.get(&lock));
        set.is_some_and(|set| set.covers(range, mode))
    }

    /// The ranges that a lock holds, their modes and tokens.
    pub(crate) fn held_ranges(&self, lock: LockId) -> Vec<(ByteRange, LockMode, Token)> {
        let held = self.ranges.get(&lock).map(|set| set.stretches());
        let held = held.unwrap_or_default().into_iter();
        held.map(|s| (s.range, s.mode, s.token)).collect()
    }

    /// Whether a lock is one on ranges.
    pub(crate) fn is_on_ranges(&self, lock: LockId) -> bool {
        let pending = self.locks.get(&lock).map(|owned| &owned.pending);
        matches!(pending, Some(Pending::Range(_))) || self.ranges.contains(&lock)
    }

    /// The range that a lock's pending call asks for, if it is one for a range.
    pub(crate) fn asked_range(&self, lock: LockId) -> Option<ByteRange> {
        match &self.locks.get(&lock)?.pending {
            Pending::Range(ask) => Some(ask.range),
            _ => None,
        }
    }

    /// Gives up some of what a lock holds, and tells the master. Should that vanish, the lock is
    /// restated as it is now.
    fn weaken_range(
        &mut self,
        now: Instant,
        lock: LockId,
        range: ByteRange,
        mode: LockMode,
    ) -> Answer {
        let set = self.ranges.get_mut(&lock).expect("the caller found it");
        let changes = !set.is_set_to(range, mode);
        let there = set.token_of(range);
        set.set(range, mode, Token::NONE);
        let holds = !set.is_empty();
        let owned = self.locks.get(&lock).expect("the caller found it");
        let token = match mode {
            _ if !holds => Token::NONE,
            LockMode::Nl => owned.token,
            _ => there,
        };
        if !changes {
            return Answer::RangeSet { token, holds };
        }
        let place = owned.place;
        if !holds {
            self.note(now, Op::Unlocked, lock, Some(mode));
        }
        let entry = self.resources.get(place);
        let resource = entry.id.clone();
        let body = Body::RangeWeaken {
            resource,
            lock,
            range,
            mode,
        };
        match entry.state {
            State::At(master) | State::Moving(master) => self.send(master, body),
            State::Mine(_) => self.master_call(now, self.my_life(), body),
            State::LookingUp | State::Forgetting | State::Lost(_) => {}
        }
        if !holds {
            self.erase(now, lock);
        }
        Answer::RangeSet { token, holds }
    }

    /// The master has granted a call for a range.
    pub(crate) fn on_range_granted(&mut self, now: Instant, lock: LockId, granted: &Granted) {
        let Some(owned) = self.locks.get_mut(&lock) else {
            return;
        };
        let Pending::Range(ask) = owned.pending else {
            return;
        };
        let set = self.ranges.get_or_insert_with(lock, Default::default);
        set.set(ask.range, ask.mode, granted.token);
        // That it holds something; what, its set says.
        owned.granted = Some(LockMode::Nl);
        // A call that gains nothing is answered with a token that is older than the last.
        owned.token = owned.token.max(granted.token);
        // What was asked for with an earlier range goes on.
        owned.blocking |= ask.blocking;
        owned.since = now;
        self.note(now, Op::Ranged, lock, Some(ask.mode));
        let (token, holds) = (granted.token, true);
        self.finish(now, lock, Ok(Answer::RangeSet { token, holds }), false);
    }

    pub(crate) fn on_range_blocking(&mut self, lock: LockId, range: ByteRange, mode: LockMode) {
        let (Some(owned), Some(set)) = (self.locks.get(&lock), self.ranges.get(&lock)) else {
            return;
        };
        let there = self.sessions.contains_key(&owned.session);
        if there && owned.blocking && set.conflict(range, mode).is_some() {
            self.out.push(Out::RangeBlocking {
                session: owned.session,
                handle: owned.handle,
                range,
                mode,
            });
        }
    }
}

fn full() -> Refusal {
    Refusal::Limit(format!(
        "the lock holds {STRETCHES_MAX} ranges that do not touch each other or differ in mode, and may hold no \
         more: give some up, or use another handle"
    ))
}
