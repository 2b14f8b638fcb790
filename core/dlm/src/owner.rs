//! The owner side: the locks of this node's clients.
//!
//! A call is pending until its answer; one call is pending per lock at a time, so answers need no
//! numbers. A call whose master is unknown or vanished stays unsent and goes out when there is one.

use crate::{
    Dlm, IDLE, Life, Out, contention,
    deadlock::Verdict,
    demotion,
    names::Place,
    sets::{Entry, Fault},
    table::{Owned, Pending, State, call_body},
    tree::needs_parent,
};
use mainstay_base::{
    Instant, LockId, LockMode, LockspaceId, Mutant, NodeId, ResourceName, SessionId, Token,
    ValueBlock, ValueVersion,
};
use mainstay_lock::{
    Invalid, admit_convert,
    mode_tables::{Transfer, transfer},
};
use mainstay_recorder::Op;
use mainstay_wire::{
    client::{Answer, Handle},
    deadlock::OwnerId,
    dlm::{Body, ResourceId},
    lock::{Flags, Granted, Refusal},
};

/// A client's call for a new lock.
#[derive(Clone, Debug)]
pub struct LockCall {
    /// The lock's handle.
    pub handle: Handle,
    /// Where.
    pub space: LockspaceId,
    /// On what.
    pub name: ResourceName,
    /// In which mode.
    pub mode: LockMode,
    /// How.
    pub flags: Flags,
    /// The client wants blocking notices.
    pub blocking: bool,
    /// Give up then.
    pub deadline: Option<Instant>,
}

/// A client's call to convert a lock.
#[derive(Clone, Debug)]
pub struct ConvertCall {
    /// The lock's handle.
    pub handle: Handle,
    /// To which mode.
    pub mode: LockMode,
    /// How.
    pub flags: Flags,
    /// The client wants blocking notices.
    pub blocking: bool,
    /// What to publish.
    pub value: Option<ValueBlock>,
    /// Give up then.
    pub deadline: Option<Instant>,
}

/// A client's call to release a lock.
#[derive(Clone, Debug)]
pub struct UnlockCall {
    /// The lock's handle.
    pub handle: Handle,
    /// How.
    pub flags: Flags,
    /// What to publish.
    pub value: Option<ValueBlock>,
}

/// A lock that comes to be.
pub(crate) struct NewLock {
    pub(crate) session: SessionId,
    pub(crate) request: u64,
    pub(crate) handle: Handle,
    pub(crate) resource: ResourceId,
    pub(crate) pending: Pending,
    pub(crate) flags: Flags,
    pub(crate) blocking: bool,
    pub(crate) deadline: Option<Instant>,
    /// The lock that it is beneath.
    pub(crate) parent: Option<LockId>,
    /// Whose it is, if not its session's.
    pub(crate) owner: Option<OwnerId>,
}

impl Dlm {
    /// A client came.
    pub fn open_session(&mut self, session: SessionId) {
        self.sessions.entry(session).or_default();
    }

    /// A client went; its locks go with it, but for those that are persistent. What it may have been
    /// writing under PW or EX with a value block becomes suspect.
    pub fn close_session(&mut self, now: Instant, session: SessionId) {
        let Some(handles) = self.sessions.remove(&session) else {
            return;
        };
        for set in self.sets.forget_session(session) {
            self.end_promise(&set);
        }
        let mut locks = self.leave_orphans(now, session, handles.into_sorted_values());
        self.lowest_first(&mut locks);
        self.trees.forget_session(session);
        self.forget_searches(session);
        self.begin_release(now, locks);
        self.quotas.close(session);
        self.deadlocks.forget_session(session);
        self.owners.forget_session(session);
    }

    /// How many sessions there are.
    #[must_use]
    pub fn session_count(&self) -> usize {
        self.sessions.len()
    }

    /// A client asks for a new lock.
    pub fn lock(&mut self, now: Instant, session: SessionId, request: u64, call: LockCall) {
        let begun = match call.name.is_root() {
            true => self.ask_for_lock(now, session, request, call, None),
            false => Err(needs_parent()),
        };
        if let Err(why) = begun {
            self.done(session, request, Err(why));
        }
    }

    /// Asks for a new lock, beneath another or alone.
    pub(crate) fn ask_for_lock(
        &mut self,
        now: Instant,
        session: SessionId,
        request: u64,
        call: LockCall,
        parent: Option<LockId>,
    ) -> Result<(), Refusal> {
        let flags = self.may_lock(session, &call)?;
        let resource = ResourceId {
            space: call.space,
            name: call.name,
        };
        let lock = NewLock {
            session,
            request,
            handle: call.handle,
            resource,
            pending: Pending::Request {
                mode: call.mode,
                flags,
            },
            flags,
            blocking: call.blocking,
            deadline: call.deadline,
            parent,
            owner: self.owners.chosen(session),
        };
        self.check_duplicate(session, &lock.resource, call.mode)?;
        self.begin_lock(now, lock);
        Ok(())
    }

    /// Gives a new lock a number, and its first call to the master.
    pub(crate) fn begin_lock(&mut self, now: Instant, call: NewLock) {
        let (session, resource) = (call.session, call.resource);
        let lock = LockId(self.next_lock);
        self.next_lock += 1;
        // Of a set all is counted from its call on.
        if !self.sets.has_handle(session, call.handle) {
            self.quotas.locks_come(session, 1);
            if call.pending.may_wait() {
                self.quotas.wait_begins(session);
            }
        }
        let (place, new) = self.resources.place_or_new(&resource);
        self.resources.add_lock(place, lock);
        if let Some(handles) = self.sessions.get_mut(&session) {
            handles.insert(call.handle, lock);
        }
        self.locks.insert(
            lock,
            Owned {
                session,
                handle: call.handle,
                place,
                granted: None,
                token: Token::NONE,
                pending: call.pending,
                request: call.request,
                cancel: None,
                sent: false,
                timed_out: false,
                demoted: false,
                forced: false,
                ticket: None,
                deadline: call.deadline,
                blocking: call.blocking,
                valblk: call.flags.contains(Flags::VALBLK),
                late: false,
                yields: call.flags.contains(Flags::NODLCKBLK),
                persistent: call.flags.contains(Flags::PERSISTENT),
                recorded: false,
                adoption_unsaid: false,
                value: None,
                unsure: false,
                watches: false,
                watch_unsaid: false,
                since: now,
                asked: now,
            },
        );
        self.is_beneath(lock, call.parent);
        self.owners.add(lock, session, call.owner);
        if let Some(at) = call.deadline {
            self.timers.insert((at, lock));
        }
        if new {
            self.look_up(now, &resource);
        }
        self.submit(now, lock);
    }

    /// Whether a session may ask for a lock there.
    pub(crate) fn may_come(&self, session: SessionId, space: LockspaceId) -> Result<(), Refusal> {
        if !self.spaces.has(space) {
            return Err(Refusal::NoSuchLockspace);
        }
        match self.sessions.contains_key(&session) {
            true => Ok(()),
            false => Err(Refusal::Invalid("the session is not open".to_owned())),
        }
    }

    /// The flags of a call that count, if it may be made.
    fn may_lock(&self, session: SessionId, call: &LockCall) -> Result<Flags, Refusal> {
        self.may_come(session, call.space)?;
        self.spaces.check_name(call.space, &call.name)?;
        let flags = (self.spaces).admit_request(call.space, call.mode, call.flags)?;
        self.quotas.check(session, 1, call.flags)?;
        if call.flags.contains(Flags::NOQUEUE) && !self.active {
            return Err(Refusal::NoQuorum);
        }
        match self.is_handle_used(session, call.handle) {
            true => Err(Refusal::HandleInUse),
            false => Ok(flags),
        }
    }

    /// Whether a handle names a lock of the session, or one that it is about to have.
    pub(crate) fn is_handle_used(&self, session: SessionId, handle: Handle) -> bool {
        self.find(session, handle).is_some()
            || self.sets.has_handle(session, handle)
            || self.surviving.is_adopting(session, handle)
            || self.ceding.is_adopting(session, handle)
    }

    /// A client asks to convert a lock.
    pub fn convert(&mut self, now: Instant, session: SessionId, request: u64, call: ConvertCall) {
        if let Err(why) = self.begin_convert(now, session, request, call, None, None) {
            self.done(session, request, Err(why));
        }
    }

    /// Gives a conversion to the master, alone or as part of a bulk call. `denied`: why it is refused,
    /// unless the mode that is held covers the new one.
    pub(crate) fn begin_convert(
        &mut self,
        now: Instant,
        session: SessionId,
        request: u64,
        call: ConvertCall,
        denied: Option<Refusal>,
        entry: Option<Entry>,
    ) -> Result<(), Refusal> {
        let lock = self.idle_lock(session, call.handle)?;
        if self.is_on_ranges(lock) {
            let why = "a lock on ranges does not convert; set its ranges to other modes".to_owned();
            return Err(Refusal::Invalid(why));
        }
        self.may_persist(lock, call.flags)?;
        self.no_survivor(lock, "convert")?;
        let owned = self.locks.get(&lock).expect("found above");
        let from = owned.granted.unwrap_or(LockMode::Nl);
        let space = self.resources.peek(owned.place).id.space;
        self.spaces.check_flags(space, call.flags)?;
        let compat = self.spaces.compat(space);
        let flags = admit_convert(compat, from, call.mode, call.flags).map_err(invalid)?;
        if transfer(Some(from), call.mode) == Transfer::Write {
            // Before anything of the lock is changed: a call that is refused as wrong leaves nothing behind.
            self.may_publish(lock, from, flags, call.value.as_ref())?;
        }
        let owned = self.locks.get_mut(&lock).expect("found above");
        if !from.covers(call.mode) {
            denied.map_or(Ok(()), Err)?;
            self.quotas.check(session, 0, call.flags)?;
        }
        if call.flags.contains(Flags::NOQUEUE) && !self.active {
            return Err(Refusal::NoQuorum);
        }
        owned.blocking = call.blocking;
        owned.yields = flags.contains(Flags::NODLCKBLK);
        owned.persistent = flags.contains(Flags::PERSISTENT);
        let pending = Pending::Convert {
            mode: call.mode,
            flags,
            value: call.value,
        };
        self.is_entry(lock, entry);
        self.begin_call(now, lock, request, pending, call.deadline);
        Ok(())
    }

    /// Gives another call on a lock to the master.
    pub(crate) fn begin_call(
        &mut self,
        now: Instant,
        lock: LockId,
        request: u64,
        pending: Pending,
        deadline: Option<Instant>,
    ) {
        let owned = self.locks.get_mut(&lock).expect("the caller found it");
        if pending.may_wait() {
            self.quotas.wait_begins(owned.session);
        }
        owned.pending = pending;
        owned.request = request;
        owned.asked = now;
        owned.sent = false;
        owned.deadline = deadline;
        if let Some(at) = deadline {
            self.timers.insert((at, lock));
        }
        self.submit(now, lock);
    }

    /// A client asks to cancel the pending call of a lock.
    pub fn cancel(&mut self, now: Instant, session: SessionId, request: u64, handle: Handle) {
        if self.cancel_set(now, session, request, handle) {
            return;
        }
        if self.cancel_search(session, request, handle) {
            return;
        }
        let Some(lock) = self.find(session, handle) else {
            return self.done(session, request, Err(Refusal::NoSuchLock));
        };
        let owned = self.locks.get_mut(&lock).expect("handles name locks");
        match owned.pending {
            Pending::Request { .. } | Pending::Convert { .. } | Pending::Range(_)
                if owned.cancel.is_none() =>
            {
                owned.cancel = Some(request);
                self.cancel_pending(now, lock);
            }
            Pending::Request { .. } | Pending::Convert { .. } | Pending::Range(_) => {
                let again = self.too_late(lock).map_err(|_| Refusal::Busy);
                self.done(session, request, again);
            }
            Pending::None
            | Pending::Unlock { .. }
            | Pending::Update { .. }
            | Pending::Taking { .. }
            | Pending::Recording { .. } => {
                self.done(session, request, self.too_late(lock));
            }
        }
    }

    pub(crate) fn time_out(&mut self, now: Instant, lock: LockId) {
        let Some(owned) = self.locks.get_mut(&lock) else {
            return;
        };
        owned.deadline = None;
        owned.timed_out = true;
        match owned.pending {
            // A new request has nothing to lose: it need not wait for a master that may be silent.
            Pending::Request { .. } => {
                self.finish(now, lock, Err(Refusal::TimedOut), true);
            }
            Pending::Range(_) if owned.granted.is_none() => {
                self.finish(now, lock, Err(Refusal::TimedOut), true);
            }
            Pending::Convert { .. } | Pending::Range(_) => self.cancel_pending(now, lock),
            Pending::None
            | Pending::Unlock { .. }
            | Pending::Update { .. }
            | Pending::Taking { .. }
            | Pending::Recording { .. } => {}
        }
    }

    pub(crate) fn cancel_pending(&mut self, now: Instant, lock: LockId) {
        let owned = self.locks.get(&lock).expect("the caller found it");
        let resource = self.resources.get(owned.place);
        match &resource.state {
            State::At(master) if owned.sent => {
                let (to, resource) = (*master, resource.id.clone());
                self.send(to, Body::Cancel { resource, lock });
            }
            State::Mine(master)
                if owned.sent && master.rebuilding.is_none() && !master.decides() => {}
            State::Mine(_) if owned.sent => {
                let resource = resource.id.clone();
                let from = self.my_life();
                self.master_call(now, from, Body::Cancel { resource, lock });
            }
            // It is told when it is known who the master is.
            State::Moving(_) if owned.sent => {}
            // The vanished master may have granted the conversion, and others on the strength of
            // it: the next master decides, and is told to cancel.
            State::Lost(_) if owned.sent && owned.granted.is_some() => {}
            // No master has the call, or none that could still grant it.
            _ => self.on_refused(now, lock, Refusal::Cancelled),
        }
    }

    /// Gives the pending call of a lock to the resource's master, if there is one to give it to.
    pub(crate) fn submit(&mut self, now: Instant, lock: LockId) {
        let Some(owned) = self.locks.get_mut(&lock) else {
            return;
        };
        let in_log = owned.recorded
            || matches!(
                owned.pending,
                Pending::Recording { .. } | Pending::Taking { known: true, .. }
            );
        if owned.sent || owned.pending == Pending::None || in_log {
            return;
        }
        let resource = self.resources.get(owned.place);
        let decided_here = match &resource.state {
            State::Mine(master) => self.active && master.decides(),
            _ => false,
        };
        if !decided_here {
            self.note_call(now, lock);
        }
        let Some(owned) = self.locks.get_mut(&lock) else {
            return;
        };
        let resource = self.resources.peek(owned.place);
        match &resource.state {
            State::At(_) if resource.turned_away => {}
            State::At(master) => {
                owned.sent = true;
                let to = *master;
                let body = call_body(resource.id.clone(), lock, owned);
                self.send(to, body);
            }
            State::Mine(master) if !master.decides() => {}
            State::Mine(_) if !self.active => {
                self.deferred.push(crate::Call::Own(lock));
            }
            State::Mine(_) => {
                owned.sent = true;
                self.master_local(now, lock);
            }
            State::Lost(_) if owned.requested().is_some() => {
                self.contention.waits(owned.asked, lock);
            }
            State::LookingUp | State::Forgetting | State::Lost(_) | State::Moving(_) => {}
        }
    }

    /// Submits every call on a resource that is still unsent.
    pub(crate) fn submit_all(&mut self, now: Instant, place: Place) {
        let locks = self.resources.get(place).locks.clone();
        for lock in locks {
            self.submit(now, lock);
        }
    }

    /// Whether a member may say something of an own client's lock: it masters its resource, or the
    /// lock is gone.
    pub(crate) fn may_decide(&mut self, from: NodeId, lock: LockId) -> bool {
        let Some(owned) = self.locks.get(&lock) else {
            return true;
        };
        if owned.recorded {
            return true; // The log names its owner, and whoever comes to master it begins there.
        }
        let resource = self.resources.get(owned.place);
        match resource.state {
            State::At(master) => master == from,
            State::Moving(master) => master == from || self.moves.comes_to(&resource.id, from),
            State::Mine(_) => self.moves.comes_to(&resource.id, from),
            State::LookingUp | State::Forgetting | State::Lost(_) => false,
        }
    }

    pub(crate) fn on_granted(&mut self, now: Instant, lock: LockId, granted: Granted) {
        let Some(owned) = self.locks.get_mut(&lock) else {
            return;
        };
        let gone = !self.sessions.contains_key(&owned.session) && !self.orphans.is_ending(lock);
        let writer = owned.granted.is_some_and(LockMode::writes_value);
        match &owned.pending {
            // The client was gone before: it writes nothing under this, but may have been writing under
            // what it had.
            Pending::Request { .. } | Pending::Convert { .. } if gone => {
                owned.valblk &= writer;
                owned.late = !writer;
            }
            Pending::Request { .. } => {}
            // A copy that no value came with belongs to the mode only if it was fresh before and
            // this call did not publish another.
            Pending::Convert { flags, .. } => {
                let fresh = granted.value.is_some() || (owned.valblk && !writer);
                owned.valblk = flags.contains(Flags::VALBLK) && fresh;
            }
            Pending::Unlock { .. } if owned.forced => {
                return self.granted_too_late(lock, granted);
            }
            Pending::Unlock { .. } => {
                // The release was restated as a conversion to NL that publishes: now it has.
                self.note(now, Op::Granted, lock, Some(granted.mode));
                let version = granted.value.as_ref().map(|v| v.version);
                self.tell_dropped(now, lock, false);
                return self.on_unlocked(now, lock, version);
            }
            Pending::Range(_) => return self.on_range_granted(now, lock, &granted),
            Pending::Taking { .. } => return self.on_taken(now, lock, &granted),
            Pending::None | Pending::Update { .. } | Pending::Recording { .. } => return,
        }
        if owned.recorded {
            return;
        }
        let held = owned.granted.replace(granted.mode);
        if let Some(held) = held {
            let space = self.resources.peek(owned.place).id.space;
            self.contention.hold_ends(now, space, held, owned.since);
        }
        let gains = std::mem::replace(&mut owned.token, granted.token) != granted.token;
        if let Some(value) = &granted.value {
            owned.keep(value);
        }
        owned.since = now;
        self.note_exclusive(lock);
        self.begin_peace(now, lock, gains);
        self.note(now, Op::Granted, lock, Some(granted.mode));
        self.promises.heeded(lock);
        if self.begin_recording(lock) {
            return;
        }
        self.finish(now, lock, Ok(Answer::Granted(granted)), false);
    }

    pub(crate) fn on_queued(&mut self, now: Instant, lock: LockId, ticket: i64) {
        if let Some(owned) = self.locks.get_mut(&lock)
            && matches!(
                owned.pending,
                Pending::Request { .. } | Pending::Convert { .. } | Pending::Range(_)
            )
        {
            owned.ticket = Some(ticket);
            let asked = owned.requested();
            self.contention.waits(owned.asked, lock);
            let place = owned.place;
            self.note(now, Op::Queued, lock, asked);
            self.sets.queued(now, lock);
            self.wait_begins(now, lock);
            self.look_elsewhere(now, place);
        }
    }

    pub(crate) fn on_refused(&mut self, now: Instant, lock: LockId, why: Refusal) {
        let Some(owned) = self.locks.get_mut(&lock) else {
            return;
        };
        if std::mem::take(&mut owned.forced) {
            return; // Of the call that was ended.
        }
        let mut why = why;
        if why == Refusal::Deadlock && demotion::agreed(owned) {
            let ends = owned.cancel.is_some() || owned.timed_out;
            if !ends && !self.deadlocks.is_condemned(lock) {
                return self.demote(now, lock);
            }
            why = Refusal::Cancelled; // It is being taken back anyhow, and keeps its mode.
        }
        if why == Refusal::Cancelled && owned.timed_out && owned.cancel.is_none() {
            why = Refusal::TimedOut;
        }
        match owned.pending {
            Pending::None | Pending::Update { .. } | Pending::Recording { .. } => {}
            Pending::Taking { known, .. } => {
                if !known {
                    self.not_taken(now, lock);
                }
            }
            _ => self.finish(now, lock, Err(why), false),
        }
    }

    pub(crate) fn on_unlocked(
        &mut self,
        now: Instant,
        lock: LockId,
        version: Option<ValueVersion>,
    ) {
        let Some(owned) = self.locks.get(&lock) else {
            return;
        };
        if let Pending::Unlock { flags, value } = &owned.pending {
            let wishes = flags.contains(Flags::VALBLK) || owned.valblk;
            let published = value.is_some()
                && owned.granted.is_some_and(LockMode::writes_value)
                && wishes
                && !flags.contains(Flags::IVVALBLK);
            let answer = Answer::Unlocked {
                version: version.filter(|_| published),
            };
            self.finish(now, lock, Ok(answer), false);
        }
    }

    pub(crate) fn on_blocking(&mut self, now: Instant, lock: LockId, mode: LockMode) {
        let Some(owned) = self.locks.get(&lock) else {
            let sought = self.ceding.is_sought(lock);
            return self.surviving.keep_early_notice(lock, mode, sought);
        };
        if self.ceding.keep_notice(lock, mode) {
            return;
        }
        let blocks = owned.granted.is_some_and(|held| !held.compatible(mode));
        let (session, handle) = (owned.session, owned.handle);
        let there = self.sessions.contains_key(&session);
        if there && owned.blocking && blocks && !matches!(owned.pending, Pending::Unlock { .. }) {
            if self.sets.keep_notice(lock, mode) {
                return;
            }
            if matches!(owned.pending, Pending::Recording { .. }) {
                return self.surviving.keep_notice(lock, mode);
            }
            if self.keep_from_holder(now, lock, mode) {
                return;
            }
            self.promises.told(now, lock, mode);
            self.note(now, Op::Blocking, lock, Some(mode));
            self.out.push(Out::Blocking {
                session,
                handle,
                mode,
            });
        }
    }

    /// Ends the pending call of a lock and tells the client. `tell_master`: the master may have the
    /// call, and the lock with it, in its books.
    pub(crate) fn finish(
        &mut self,
        now: Instant,
        lock: LockId,
        result: Result<Answer, Refusal>,
        tell_master: bool,
    ) {
        let owned = self.locks.get_mut(&lock).expect("the caller found it");
        let (session, request, place) = (owned.session, owned.request, owned.place);
        let pending = std::mem::replace(&mut owned.pending, Pending::None);
        if pending.may_wait() && !self.sets.has_handle(session, owned.handle) {
            self.quotas.wait_ends(session);
        }
        if pending.requested().is_some() {
            let granted = result.is_ok();
            let may_have = granted || result.as_ref().is_err_and(contention::may_have_waited);
            if may_have || self.contention.is_waiting(owned.asked, lock) {
                let resource = &self.resources.peek(owned.place).id;
                let asked = owned.asked;
                self.contention
                    .call_ends(now, lock, resource, asked, granted);
            }
        }
        if let Some(at) = owned.deadline.take() {
            self.timers.remove(&(at, lock));
        }
        owned.ticket = None;
        // Of this call alone: the next one, be it the release, is not to be cancelled for it.
        owned.timed_out = false;
        let was_sent = std::mem::replace(&mut owned.sent, false);
        let cancel = owned.cancel.take();
        let cancelled = matches!(result, Err(Refusal::Cancelled));
        let demoted = std::mem::take(&mut owned.demoted) && !Mutant::DemotionNotTold.active();
        let result = demotion::as_it_went(result, &pending, demoted);
        let ends = match pending {
            Pending::Request { .. } => result.is_err(),
            Pending::Unlock { .. } => result.is_ok(),
            Pending::Range(_) => !self.ranges.contains(&lock),
            Pending::Convert { .. }
            | Pending::Update { .. }
            | Pending::Taking { .. }
            | Pending::Recording { .. }
            | Pending::None => false,
        };
        let stays = matches!(pending, Pending::Unlock { .. }) && !ends;
        let held = owned.granted;
        match &result {
            Err(_) => self.note(now, Op::Refused, lock, held),
            Ok(_) if ends => self.note(now, Op::Unlocked, lock, held),
            Ok(_) => {}
        }
        if self.orphans.is_ending(lock) {
            // Of whom it was part hears nothing, and whoever adopts it has calls of its own.
            self.sets.leave_call(lock);
            self.deadlocks.wait_ends(lock);
            return self.orphan_settles(now, lock);
        }
        let condemned = self.deadlocks.wait_ends(lock).filter(|_| cancelled);
        let cancelled = cancelled && condemned.is_none();
        let end = match condemned {
            Some(Verdict { policy, circle }) => Err(Fault::Victim {
                policy,
                circle,
                demoted,
            }),
            None => result.map_err(Fault::Refused),
        };
        self.call_done(now, lock, (session, request), end);
        if !ends {
            // Those who wait for it may now be in a circle with what its owner still waits for.
            self.owner_stirs(now, self.owner_of(lock, session));
        }
        if let Some(request) = cancel {
            let answer = if cancelled {
                Ok(Answer::Cancelled)
            } else {
                self.too_late(lock)
            };
            self.done(session, request, answer);
        }
        if ends {
            if tell_master && was_sent {
                self.tell_dropped(now, lock, false);
            }
            self.erase(now, lock);
        } else {
            self.look_elsewhere(now, place);
            if stays {
                self.tree_settles(now, lock);
            }
        }
    }

    pub(crate) fn erase(&mut self, now: Instant, lock: LockId) {
        let Some(owned) = self.locks.remove(&lock) else {
            return;
        };
        let resource = &self.resources.peek(owned.place).id;
        self.contention.lock_goes(now, lock, resource, &owned);
        if !self.sets.has_handle(owned.session, owned.handle) {
            if owned.pending.may_wait() {
                self.quotas.wait_ends(owned.session);
            }
            if owned.granted.is_some() || !Mutant::QuotaLeaks.active() {
                self.quotas.locks_go(owned.session, 1);
            }
        }
        self.forget_exclusive(&owned);
        self.ranges.remove(&lock);
        self.deadlocks.wait_ends(lock);
        self.promises.forget(lock);
        self.kept.forget(lock);
        self.surviving.forget(lock);
        self.ceding.forget(lock);
        self.orphans.forget(lock);
        self.owners.remove(lock);
        self.sets.forget(lock);
        if let Some(at) = owned.deadline {
            self.timers.remove(&(at, lock));
        }
        if let Some(handles) = self.sessions.get_mut(&owned.session)
            && handles.get(&owned.handle) == Some(&lock)
        {
            handles.remove(&owned.handle);
        }
        self.resources.remove_lock(owned.place, lock);
        self.look_elsewhere(now, owned.place);
        self.note_idle(now, owned.place);
        self.leave_tree(now, lock);
    }

    /// Remembers since when a resource has no locks, so that it can be forgotten in time.
    pub(crate) fn note_idle(&mut self, now: Instant, place: Place) {
        let resource = self.resources.get_mut(place);
        if !resource.is_idle() {
            return;
        }
        resource.idle_since = now;
        if !resource.in_idle_queue {
            resource.in_idle_queue = true;
            self.idle.push_back((now + IDLE, place));
        }
    }

    pub(crate) fn idle_lock(&self, session: SessionId, handle: Handle) -> Result<LockId, Refusal> {
        self.is_told(session, handle)?;
        let lock = self.find(session, handle).ok_or(Refusal::NoSuchLock)?;
        match self.locks.get(&lock) {
            Some(owned) if owned.pending == Pending::None && !self.trees.is_ending(lock) => {
                Ok(lock)
            }
            _ => Err(Refusal::Busy),
        }
    }

    /// Refuses calls on a lock of a set that is not granted yet.
    pub(crate) fn is_told(&self, session: SessionId, handle: Handle) -> Result<(), Refusal> {
        match self.sets.has_handle(session, handle) {
            true => Err(Refusal::Busy),
            false => Ok(()),
        }
    }

    pub(crate) fn find(&self, session: SessionId, handle: Handle) -> Option<LockId> {
        self.sessions.get(&session)?.get(&handle).copied()
    }

    pub(crate) fn done(
        &mut self,
        session: SessionId,
        request: u64,
        result: Result<Answer, Refusal>,
    ) {
        if self.sessions.contains_key(&session) {
            self.out.push(Out::Done {
                session,
                request,
                result,
            });
        }
    }

    pub(crate) fn done_in_circle(
        &mut self,
        (session, request): (SessionId, u64),
        verdict: Verdict,
        demoted: bool,
        member: Option<(u32, ResourceName)>,
    ) {
        let Verdict { policy, circle } = verdict;
        if self.sessions.contains_key(&session) {
            self.out.push(Out::Victim {
                session,
                request,
                policy,
                circle,
                demoted,
                member,
            });
        }
    }

    /// Whether a life is this node's own present one.
    pub(crate) fn is_me(&self, life: Life) -> bool {
        life == self.my_life()
    }
}

pub(crate) fn invalid(why: Invalid) -> Refusal {
    Refusal::Invalid(why.to_string())
}

pub(crate) fn check_known(flags: Flags) -> Result<(), Refusal> {
    match flags.unknown() {
        0 => Ok(()),
        bits => Err(Refusal::Invalid(format!(
            "flag bits {bits:#x} have no meaning here"
        ))),
    }
}
