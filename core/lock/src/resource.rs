//! The operations of a live resource.

use crate::{
    Flags, Invalid, LockView, Ticket, admit_convert, admit_request, admit_unlock,
    mode_tables::{ModeCounts, Transfer, transfer},
    order::Rules,
    queue::{Ask, Converting, Granted, Held, Pending, Waiting},
    recover::Rebuild,
    value::Store,
};
use core::fmt::Debug;
use mainstay_base::{ByteRange, LockMode, Token, Value, ValueBlock, ValueVersion};

/// A granted request or conversion.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Grant {
    /// The mode now held: the asked one, or the alternate that the call allowed.
    pub mode: LockMode,
    /// Grows with every grant that gains something; a down-conversion keeps its lock's token and a
    /// new NL lock gets the last one issued.
    pub token: Token,
    /// The resource's value block, if the operation carried VALBLK and the value travelled: read,
    /// or as it is after the caller's own write. The owner keeps it for recovery.
    pub value: Option<Value>,
}

/// Why something was not granted.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// It had NOQUEUE and would have to wait. A conversion keeps its old mode, a request is gone.
    NotQueued,
    /// The conversion and others would wait for each other for ever. It keeps its old mode, unless
    /// its owner, who asked for CONVDEADLK, gives that up: see [`Resource::convert_demoted`].
    Deadlock,
    /// Cancelled. A conversion keeps its old mode, a request is gone.
    Cancelled,
}

/// What an operation brought about, for one lock.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Effect<K> {
    /// A request or conversion is granted, now or after a wait.
    Granted {
        /// The lock.
        key: K,
        /// What it got.
        grant: Grant,
    },
    /// A request or conversion waits.
    Queued {
        /// The lock.
        key: K,
        /// Its place, to be kept by the owner and restated in a recovery.
        ticket: Ticket,
    },
    /// A request or conversion has ended without a grant.
    Refused {
        /// The lock.
        key: K,
        /// Why.
        why: Refusal,
    },
    /// A lock is gone.
    Unlocked {
        /// The lock.
        key: K,
        /// The value block's version afterwards.
        version: ValueVersion,
    },
    /// A holder is in the way.
    Blocking {
        /// The holder.
        key: K,
        /// The most demanding mode it is in the way of.
        mode: LockMode,
    },
    /// A holder of ranges is in the way.
    BlockingRange {
        /// The holder.
        key: K,
        /// The range that somebody waits for.
        range: ByteRange,
        /// The mode that is asked for.
        mode: LockMode,
    },
}

impl<K> Effect<K> {
    /// The lock that it is about.
    pub const fn key(&self) -> &K {
        match self {
            Effect::Granted { key, .. }
            | Effect::Queued { key, .. }
            | Effect::Refused { key, .. }
            | Effect::Unlocked { key, .. }
            | Effect::Blocking { key, .. }
            | Effect::BlockingRange { key, .. } => key,
        }
    }
}

/// What becomes of the value block when a conversion is granted that publishes.
pub(crate) enum Publication<'a> {
    /// It is published then.
    Now(Option<&'a ValueBlock>),
    /// A rebuild has accounted for it already. `own`: the value is still the one it published.
    Settled { own: bool },
}

/// One lock resource.
#[derive(Debug)]
pub struct Resource<K> {
    pub(crate) last_token: Token,
    /// Modes in force: of granted and of converting locks.
    pub(crate) held: ModeCounts,
    pub(crate) granted: Granted<K>,
    pub(crate) pending: Option<Box<Pending<K>>>,
    pub(crate) value: Store,
    pub(crate) rebuild: Option<Box<Rebuild<K>>>,
}

// There are millions. With the few bytes that a master has beside it, it fits the heap's next smaller step.
const _: () = assert!(size_of::<Resource<(u64, u64)>>() <= 104);

impl<K: Copy + Ord + Debug> Resource<K> {
    /// A resource without locks, under the rules of its lockspace, whose tokens are all larger than
    /// `floor`. The length of a value block will do for rules, if nothing else is said.
    ///
    /// # Panics
    /// If value blocks are to be longer than 4096 bytes.
    #[must_use]
    pub fn new(floor: Token, rules: impl Into<Rules>) -> Self {
        let rules = rules.into();
        Resource {
            last_token: floor,
            held: ModeCounts::default(),
            granted: Granted::new(),
            pending: None,
            value: Store::new(rules),
            rebuild: None,
        }
    }

    /// Those of its lockspace.
    pub(crate) fn rules(&self) -> Rules {
        self.value.rules
    }

    /// Asks for a new lock. Emits `Granted`, `Queued` or `Refused{NotQueued}` for it, and
    /// `Blocking` for holders in its way.
    ///
    /// # Errors
    /// For a key in use, and flags that do not fit a request.
    pub fn request(
        &mut self,
        key: K,
        mode: LockMode,
        flags: Flags,
        wants_bast: bool,
        out: &mut Vec<Effect<K>>,
    ) -> Result<(), Invalid> {
        self.refuse_while_rebuilding()?;
        let flags = admit_request(self.rules().compat, mode, flags)?;
        if self.find_granted(key).is_ok() || self.converts(key) || self.waits(key) {
            return Err(Invalid::KeyInUse);
        }
        let ask = Ask {
            mode,
            wants_bast,
            flags,
        };
        self.start_request(key, ask, out);
        self.check_cheaply();
        Ok(())
    }

    /// Asks for another mode of a granted lock. `value` is published if the pair of modes says so
    /// and the flags have VALBLK without IVVALBLK. Emits `Granted`, `Queued` or `Refused` for the
    /// lock, and what follows for others.
    ///
    /// # Errors
    /// For an unknown or pending lock, flags that do not fit, and a value that is missing or too
    /// long.
    pub fn convert(
        &mut self,
        key: K,
        mode: LockMode,
        flags: Flags,
        wants_bast: bool,
        value: Option<&ValueBlock>,
        out: &mut Vec<Effect<K>>,
    ) -> Result<(), Invalid> {
        self.refuse_while_rebuilding()?;
        let index = self.idle(key)?;
        let from = self.granted[index].mode;
        let flags = admit_convert(self.rules().compat, from, mode, flags)?;
        if transfer(Some(from), mode) == Transfer::Write {
            self.check_publication(from, flags, value)?;
        }
        let ask = Ask {
            mode,
            wants_bast,
            flags,
        };
        self.start_conversion(index, ask, Publication::Now(value), out);
        self.check_cheaply();
        Ok(())
    }

    /// As [`Resource::convert`] for a lock whose owner has given up its mode, after this conversion
    /// was refused as a deadlock and had CONVDEADLK: it holds NL from now on, conversions that it
    /// stopped go on, and then it is tried again. HEADQUE is left out, since a lock that has
    /// stepped back does not go before those that it made way for.
    ///
    /// # Errors
    /// As for a conversion from NL.
    pub fn convert_demoted(
        &mut self,
        key: K,
        mode: LockMode,
        flags: Flags,
        wants_bast: bool,
        out: &mut Vec<Effect<K>>,
    ) -> Result<(), Invalid> {
        self.refuse_while_rebuilding()?;
        let index = self.idle(key)?;
        let flags = admit_convert(self.rules().compat, LockMode::Nl, mode, flags)?;
        let held = &mut self.granted[index];
        self.held.remove(held.mode);
        self.held.add(LockMode::Nl);
        held.mode = LockMode::Nl;
        held.told = None;
        while self.grant_one_conversion(out) {}
        if let Ok(index) = self.find_granted(key) {
            let ask = Ask {
                mode,
                wants_bast,
                flags: flags.without(Flags::HEADQUE),
            };
            self.start_conversion(index, ask, Publication::Now(None), out);
        }
        self.sweep(out);
        self.check_cheaply();
        Ok(())
    }

    /// Gives up a granted lock. If it is PW or EX, IVVALBLK marks the value as possibly stale;
    /// otherwise a `value` is published if this call or the lock's last one carried VALBLK. With
    /// FORCEUNLOCK the lock may also convert, and goes in the mode that it holds, or wait; what it
    /// waits for ends without a word of its own.
    ///
    /// # Errors
    /// For an unknown lock, a pending one without FORCEUNLOCK, flags that do not fit, and a value that is missing (VALBLK
    /// in this call) or too long.
    pub fn unlock(
        &mut self,
        key: K,
        flags: Flags,
        value: Option<&ValueBlock>,
        out: &mut Vec<Effect<K>>,
    ) -> Result<(), Invalid> {
        self.refuse_while_rebuilding()?;
        let (mode, valblk) = match self.idle(key) {
            Ok(index) => (self.granted[index].mode, self.granted[index].valblk),
            Err(Invalid::Busy) if flags.contains(Flags::FORCEUNLOCK) => {
                admit_unlock(self.rules().compat, flags)?;
                let Some(held) = self.held_while_converting(key) else {
                    self.force_unlock(key, false, out);
                    return Ok(());
                };
                (held.mode, held.valblk)
            }
            Err(invalid) => return Err(invalid),
        };
        admit_unlock(self.rules().compat, flags)?;
        if mode.writes_value() {
            self.check_publication(mode, flags, value)?;
            if flags.contains(Flags::IVVALBLK) {
                self.value.mark();
            } else if let Some(value) = value
                && (valblk || flags.contains(Flags::VALBLK))
            {
                self.publish(value);
            }
        }
        self.force_unlock(key, false, out);
        Ok(())
    }

    /// Takes a lock away whatever its state: its owner is gone, or insists. With `invalidate`, a
    /// lock held in PW or EX leaves the value marked as possibly stale. Emits `Unlocked` for the
    /// lock (nothing while rebuilding) and what follows for others. Returns whether the key was
    /// known.
    pub fn force_unlock(&mut self, key: K, invalidate: bool, out: &mut Vec<Effect<K>>) -> bool {
        if let Some(rebuild) = &mut self.rebuild {
            return rebuild.force_unlock(key, invalidate);
        }
        let held = if let Ok(index) = self.find_granted(key) {
            Some(self.granted.remove(index).mode)
        } else if let Some(entry) = self.take_converting(key) {
            Some(entry.held.mode)
        } else if self.take_waiting(key).is_some() {
            None
        } else {
            return false;
        };
        if let Some(mode) = held {
            self.held.remove(mode);
            if invalidate && mode.writes_value() {
                self.value.mark();
            }
        }
        self.unlocked(key, out);
        true
    }

    /// Takes back a request or conversion that waits: `Refused{Cancelled}`. Returns false, and
    /// does nothing, if nothing waits under this key (any more).
    pub fn cancel(&mut self, key: K, out: &mut Vec<Effect<K>>) -> bool {
        let known = if let Some(rebuild) = &mut self.rebuild {
            rebuild.cancel(key)
        } else if let Some(entry) = self.take_converting(key) {
            self.insert_granted(entry.held);
            true
        } else {
            self.take_waiting(key).is_some()
        };
        if known {
            out.push(Effect::Refused {
                key,
                why: Refusal::Cancelled,
            });
            if self.rebuild.is_none() {
                self.sweep(out);
                self.check_cheaply();
            }
        }
        known
    }

    /// Makes all later tokens larger than `floor`.
    pub fn raise_floor(&mut self, floor: Token) {
        self.last_token = self.last_token.max(floor);
    }

    /// The part of a request that cannot fail.
    pub(crate) fn start_request(&mut self, key: K, ask: Ask, out: &mut Vec<Effect<K>>) {
        if let Some(mode) = self.grants_request(ask) {
            self.let_in(ask);
            self.count_arrival(ask, |pending, order| pending.place_waiting(ask, order));
            let grant = self.grant_request(key, ask, mode);
            out.push(Effect::Granted { key, grant });
            // NOORDER may have taken it past a waiter that it is now in the way of.
            self.tell_blockers(out);
        } else if ask.flags.contains(Flags::NOQUEUE) {
            out.push(Effect::Refused {
                key,
                why: Refusal::NotQueued,
            });
            if ask.flags.contains(Flags::NOQUEUEBAST) {
                self.tell_all_in_the_way(ask.mode, None, out);
            }
        } else {
            let order = self.rules().order;
            let pending = self.pending_mut();
            let place = pending.place_waiting(ask, order);
            let patience_ends = pending.end_patience(ask.mode);
            let ticket = pending.push_waiting(key, ask, place);
            self.queued(key, ticket, ask, patience_ends, out);
        }
    }

    /// The part of a conversion that cannot fail, for the lock at `index` of the grant queue.
    pub(crate) fn start_conversion(
        &mut self,
        index: usize,
        ask: Ask,
        publication: Publication<'_>,
        out: &mut Vec<Effect<K>>,
    ) {
        let Held {
            key, mode: from, ..
        } = self.granted[index];
        let patient = self.has_to_be_patient(from, ask);
        let granted = match patient {
            false => self.grants_conversion(from, ask),
            true => self.grants_in_turn(from, ask),
        };
        if let Some(mode) = granted {
            if let Publication::Now(value) = publication {
                self.publish_on_conversion(from, ask, value);
            }
            let (held, mut grant) = self.promote(self.granted[index], ask, mode);
            let settled = matches!(publication, Publication::Settled { own: false });
            if settled && transfer(Some(from), ask.mode) == Transfer::Write {
                grant.value = None; // Somebody else's, or none: it is not told a version.
            }
            self.granted[index] = held;
            self.count_arrival(ask, |pending, order| pending.place_converting(ask, order));
            if self.would_pass(from, mode) {
                self.pending_mut().pass();
            }
            out.push(Effect::Granted { key, grant });
            self.sweep(out);
        } else if ask.flags.contains(Flags::NOQUEUE) {
            out.push(Effect::Refused {
                key,
                why: Refusal::NotQueued,
            });
            if ask.flags.contains(Flags::NOQUEUEBAST) {
                self.tell_all_in_the_way(ask.mode, Some(key), out);
            }
        } else if !patient && self.would_deadlock(from, ask) {
            out.push(Effect::Refused {
                key,
                why: Refusal::Deadlock,
            });
        } else {
            let passes = !patient && self.would_pass(from, ask.mode);
            let held = self.granted.remove(index);
            let order = self.rules().order;
            let pending = self.pending_mut();
            if passes && !pending.waiting.is_empty() {
                pending.pass();
            }
            let place = pending.place_converting(ask, order);
            let patience_ends = pending.end_patience(ask.mode);
            let ticket = pending.push_converting(held, ask, place, patient);
            self.queued(key, ticket, ask, patience_ends, out);
        }
    }

    /// A request is granted when it comes: perhaps since it was readers' turn.
    fn let_in(&mut self, ask: Ask) {
        let order = self.rules().order;
        let passes = ask.flags.contains(Flags::NOORDER) || ask.flags.contains(Flags::EXPEDITE);
        if let Some(pending) = self.pending.as_mut().filter(|_| !passes)
            && pending.is_turn_of(ask, order)
        {
            pending.wrote = false;
        }
    }

    /// What follows when a call has got its place in a queue. `patience_ends`: others need not stand
    /// behind the requests any more, and may perhaps be granted. So may others if a patient one stands
    /// behind one more request.
    fn queued(
        &mut self,
        key: K,
        ticket: Ticket,
        ask: Ask,
        patience_ends: bool,
        out: &mut Vec<Effect<K>>,
    ) {
        out.push(Effect::Queued { key, ticket });
        if patience_ends || self.pending_mut().patient > 0 {
            return self.sweep(out);
        }
        self.tell_granted_in_the_way(ask.mode, out);
        self.tell_converting_blockers(out);
    }

    fn publish_on_conversion(&mut self, from: LockMode, ask: Ask, value: Option<&ValueBlock>) {
        if transfer(Some(from), ask.mode) != Transfer::Write {
            return;
        }
        if ask.flags.contains(Flags::IVVALBLK) {
            self.value.mark();
        } else if let Some(value) = value
            && ask.flags.contains(Flags::VALBLK)
        {
            self.publish(value);
        }
    }

    fn unlocked(&mut self, key: K, out: &mut Vec<Effect<K>>) {
        out.push(Effect::Unlocked {
            key,
            version: self.value.version(),
        });
        self.sweep(out);
        self.check_cheaply();
    }

    fn check_publication(
        &self,
        from: LockMode,
        flags: Flags,
        value: Option<&ValueBlock>,
    ) -> Result<(), Invalid> {
        match value {
            Some(value) => self.rules().check_value(value),
            None if flags.contains(Flags::VALBLK) && !flags.contains(Flags::IVVALBLK) => {
                Err(Invalid::ValueMissing { from })
            }
            None => Ok(()),
        }
    }

    pub(crate) fn refuse_while_rebuilding(&self) -> Result<(), Invalid> {
        match self.rebuild {
            Some(_) => Err(Invalid::Rebuilding),
            None => Ok(()),
        }
    }

    /// The place of a lock that is granted and waits for nothing.
    pub(crate) fn idle(&self, key: K) -> Result<usize, Invalid> {
        match self.find_granted(key) {
            Ok(index) => Ok(index),
            Err(_) if self.converts(key) || self.waits(key) => Err(Invalid::Busy),
            Err(_) => Err(Invalid::UnknownLock),
        }
    }

    /// The index of a lock in the grant queue, or the one where it belongs.
    pub(crate) fn find_granted(&self, key: K) -> Result<usize, usize> {
        self.granted.binary_search_by(|held| held.key.cmp(&key))
    }

    pub(crate) fn insert_granted(&mut self, held: Held<K>) {
        let (Ok(index) | Err(index)) = self.find_granted(held.key);
        self.granted.insert(index, held);
    }

    pub(crate) fn pending_mut(&mut self) -> &mut Pending<K> {
        self.pending.get_or_insert_default()
    }

    fn converts(&self, key: K) -> bool {
        self.pending
            .as_ref()
            .is_some_and(|p| p.find_converting(key).is_some())
    }

    /// What a converting lock holds.
    fn held_while_converting(&self, key: K) -> Option<Held<K>> {
        let pending = self.pending.as_ref()?;
        let index = pending.find_converting(key)?;
        Some(pending.converting[index].held)
    }

    fn waits(&self, key: K) -> bool {
        self.pending
            .as_ref()
            .is_some_and(|p| p.find_waiting(key).is_some())
    }

    fn take_converting(&mut self, key: K) -> Option<Converting<K>> {
        let pending = self.pending.as_mut()?;
        let index = pending.find_converting(key)?;
        pending.take_converting(index)
    }

    fn take_waiting(&mut self, key: K) -> Option<Waiting<K>> {
        let pending = self.pending.as_mut()?;
        let index = pending.find_waiting(key)?;
        pending.take_waiting(index)
    }

    /// The value block as a reader would get it now.
    #[must_use]
    pub fn value(&self) -> Value {
        self.value.read()
    }

    /// The largest token issued so far, or the floor.
    #[must_use]
    pub fn last_token(&self) -> Token {
        self.last_token
    }

    /// Whether there is no lock, not even a restated one; the resource may then be forgotten, and
    /// its value with it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many locks there are, granted, converting, waiting and restated.
    #[must_use]
    pub fn len(&self) -> usize {
        let pending = self
            .pending
            .as_ref()
            .map_or(0, |p| p.converting.len() + p.waiting.len());
        let restated = self.rebuild.as_ref().map_or(0, |r| r.len());
        self.granted.len() + pending + restated
    }

    /// Whether locks have been restated and the rebuild is not finished.
    #[must_use]
    pub fn is_rebuilding(&self) -> bool {
        self.rebuild.is_some()
    }

    /// The granted locks that wait for nothing, in the order of their keys.
    pub fn granted(&self) -> impl Iterator<Item = LockView<K>> + '_ {
        self.granted.iter().map(Held::view)
    }

    /// The locks that wait for a conversion, head of the queue first.
    pub fn converting(&self) -> impl Iterator<Item = LockView<K>> + '_ {
        self.pending
            .iter()
            .flat_map(|p| p.converting.iter().map(|c| c.view()))
    }

    /// The requests that wait, head of the queue first.
    pub fn waiting(&self) -> impl Iterator<Item = LockView<K>> + '_ {
        self.pending
            .iter()
            .flat_map(|p| p.waiting.iter().map(|w| w.view()))
    }

    /// The keys of all its locks, on ranges too, and of those that have been restated and are not live
    /// yet. The same may come more than once.
    pub fn keys(&self) -> impl Iterator<Item = K> + '_ {
        let pending = self.pending.iter();
        let pending = pending.flat_map(|pending| {
            let converting = pending.converting.iter().map(|c| c.held.key);
            converting.chain(pending.waiting.iter().map(|w| w.key))
        });
        let ranges = self.ranges().into_iter().flat_map(|ranges| {
            let owners = ranges.owners().map(|(key, _)| key);
            owners.chain(ranges.restated_keys())
        });
        let granted = self.granted.iter().map(|held| held.key);
        let restated = self.restated().map(|(key, _)| key);
        granted.chain(pending).chain(ranges).chain(restated)
    }

    /// One lock.
    #[must_use]
    pub fn get(&self, key: K) -> Option<LockView<K>> {
        if let Ok(index) = self.find_granted(key) {
            return Some(self.granted[index].view());
        }
        let pending = self.pending.as_ref()?;
        if let Some(index) = pending.find_converting(key) {
            return Some(pending.converting[index].view());
        }
        let index = pending.find_waiting(key)?;
        Some(pending.waiting[index].view())
    }
}
