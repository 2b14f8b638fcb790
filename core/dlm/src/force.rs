//! Unlocking by force: the owner lets go of a lock although a request or conversion waits.
//!
//! The waiting call ends at once, here; the master may not know yet, and may have answered it already.
//! Where nothing is published, the lock is dropped, and whatever is still said of it finds nobody. A
//! publication needs the master's answer; of those that come until then, one may be the ended call's.

use crate::{
    Dlm, UnlockCall,
    owner::invalid,
    sets::{Entry, Fault},
    table::{Pending, State},
    values::says_no_value,
};
use mainstay_base::{Instant, LockId, LockMode, SessionId, ValueBlock};
use mainstay_lock::Invalid;
use mainstay_recorder::Op;
use mainstay_wire::{
    client::Answer,
    lock::{Flags, Granted, Refusal},
};

impl Dlm {
    /// The lock of a call to unlock by force, if a request or conversion of it waits.
    pub(crate) fn to_be_forced(&self, session: SessionId, call: &UnlockCall) -> Option<LockId> {
        let lock = self.find(session, call.handle)?;
        let owned = self.locks.get(&lock)?;
        let waits = matches!(
            owned.pending,
            Pending::Request { .. }
                | Pending::Convert { .. }
                | Pending::Update { .. }
                | Pending::Range(_)
        );
        (waits && call.flags.contains(Flags::FORCEUNLOCK)).then_some(lock)
    }

    /// Ends what a lock waits for, and releases it from the mode that it holds, if it holds any.
    pub(crate) fn unlock_by_force(
        &mut self,
        now: Instant,
        lock: LockId,
        request: u64,
        call: UnlockCall,
        entry: Option<Entry>,
    ) -> Result<Option<Answer>, Refusal> {
        self.may_force(lock, &call)?;
        let owned = self.locks.get(&lock).expect("the caller found it");
        let was_sent = owned.sent;
        self.end_waiting(now, lock);
        let owned = self.locks.get_mut(&lock).expect("found above");
        owned.request = request;
        owned.pending = Pending::Unlock {
            flags: call.flags,
            value: call.value,
        };
        let writer = owned.granted.is_some_and(LockMode::writes_value);
        let wishes = call.flags.contains(Flags::VALBLK) || owned.valblk;
        let invalidate = writer && call.flags.contains(Flags::IVVALBLK);
        let publishes = writer
            && wishes
            && !invalidate
            && matches!(&owned.pending, Pending::Unlock { value: Some(_), .. });
        if publishes {
            let decides = match &self.resources.get(owned.place).state {
                State::Mine(master) => master.decides(),
                _ => false,
            };
            owned.forced = was_sent && !decides;
            owned.sent = false;
            self.is_entry(lock, entry);
            self.submit(now, lock);
            return Ok(None);
        }
        self.let_go(now, lock, invalidate, Op::Unlocked);
        Ok(Some(Answer::Unlocked { version: None }))
    }

    /// Ends the request or conversion that a lock waits for, if it does. The master is not told.
    pub(crate) fn end_waiting(&mut self, now: Instant, lock: LockId) {
        let Some(owned) = self.locks.get_mut(&lock) else {
            return;
        };
        match owned.pending {
            Pending::Request { .. } | Pending::Convert { .. } | Pending::Range(_) => {}
            Pending::Update { .. } => owned.unsure |= owned.sent,
            Pending::None
            | Pending::Unlock { .. }
            | Pending::Recording { .. }
            | Pending::Taking { .. } => return,
        }
        let resource = &self.resources.peek(owned.place).id;
        self.contention
            .call_ends(now, lock, resource, owned.asked, false);
        if owned.pending.may_wait() && !self.sets.has_handle(owned.session, owned.handle) {
            self.quotas.wait_ends(owned.session);
        }
        owned.pending = Pending::None;
        owned.ticket = None;
        owned.demoted = false;
        owned.timed_out = false;
        let (session, ended) = (owned.session, owned.request);
        let cancel = owned.cancel.take();
        if let Some(at) = owned.deadline.take() {
            self.timers.remove(&(at, lock));
        }
        self.deadlocks.wait_ends(lock);
        let end = Err(Fault::Refused(Refusal::Released));
        self.call_done(now, lock, (session, ended), end);
        if let Some(cancel) = cancel {
            self.done(session, cancel, self.too_late(lock));
        }
    }

    /// Checks all that the master would, for the waiting call must not end before it is certain that
    /// the unlock is taken.
    fn may_force(&self, lock: LockId, call: &UnlockCall) -> Result<(), Refusal> {
        if self.is_on_ranges(lock) {
            return says_no_value(call);
        }
        let owned = self.locks.get(&lock).expect("the caller found it");
        let Some(from) = owned.granted.filter(|mode| mode.writes_value()) else {
            return Ok(());
        };
        self.may_publish(lock, from, call.flags, call.value.as_ref())
    }

    /// Checks what a call publishes from a mode that writes, as the master would.
    pub(crate) fn may_publish(
        &self,
        lock: LockId,
        from: LockMode,
        flags: Flags,
        value: Option<&ValueBlock>,
    ) -> Result<(), Refusal> {
        let owned = self.locks.get(&lock).expect("the caller found it");
        let rules = self.rules(&self.resources.peek(owned.place).id);
        match value {
            Some(value) => rules.check_value(value).map_err(invalid),
            None if flags.contains(Flags::VALBLK) && !flags.contains(Flags::IVVALBLK) => {
                Err(invalid(Invalid::ValueMissing { from }))
            }
            _ => Ok(()),
        }
    }

    /// A call that was ended by force had been granted. The lock is on its way out, from that mode.
    pub(crate) fn granted_too_late(&mut self, lock: LockId, granted: Granted) {
        let Some(owned) = self.locks.get_mut(&lock) else {
            return;
        };
        owned.forced = false;
        owned.granted = Some(granted.mode);
        owned.token = granted.token;
        owned.valblk = granted.value.is_some();
        if let Some(value) = &granted.value {
            owned.keep(value);
        }
    }
}
