//! Locks on parts of ONE resource: each owner holds a set of disjoint ranges of bytes, each in a
//! mode, as record locks of files are held.
//!
//! [`Ranges`] is what a master has of a resource that is locked in ranges. As [`Resource`] does, it
//! knows owners by keys of the caller's choice, and appends [`Effect`]s in the order in which they
//! happened.
//!
//! # The rules
//!
//! A call sets one range of its owner's to a mode. Whatever the owner held of it is replaced, what
//! it holds at either side stays, and neighbours in one mode become one stretch. NL is to hold
//! nothing. An owner's own ranges are never in its way.
//!
//! 1. A call that gains nothing, since all of its range is held in modes that cover the asked one,
//!    is granted.
//! 2. Any other is granted if no other owner holds some of the range in a mode that conflicts, and
//!    no call **stands before** it.
//! 3. A call stands before a later one if their ranges overlap and their modes conflict, unless it
//!    waits for something that the later one's owner holds: then the later one passes it, as a
//!    conversion passes requests, since otherwise both would wait for each other.
//! 4. What cannot be granted waits, or is refused if it has NOQUEUE. While it waits, its owner keeps
//!    what it has. It is refused as a deadlock if it would wait for one that waits for it.
//!
//! So calls for disjoint ranges never wait for each other, and those for one byte are granted in the
//! order in which they came. A holder is told of calls that it is in the way of: once for each byte
//! and mode, until it holds that byte in another mode.
//!
//! # Costs
//!
//! Let there be n stretches and w calls that wait. Whether another owner is in the way takes
//! O(log n), by a tree for each mode whose branches know how far their ranges go, and how
//! far those of a second owner go. The last call that stands before one is found in O(log w) unless
//! ranges are nested in each other, and then in steps counted by those that overlap. A change takes
//! O(log n) for each stretch that it replaces. Each waiting call is **parked** at one obstacle: a
//! byte of a holder, or the last call that stands before it. It is looked at again only when that
//! goes; so a hand-over among calls that stand behind one another costs the same however many do.

mod check;
mod deadlock;
mod index;
mod notice;
mod rebuild;
mod rename;
mod set;
mod tree;

pub use rebuild::RestatedRanges;
pub use set::{RangeSet, STRETCHES_MAX, Stretch};

use crate::{Effect, Flags, Grant, Invalid, Refusal, Resource, Ticket, invalid::check_range};
use core::fmt::Debug;
use index::{HeldIndex, Wanted, WantedIndex};
use mainstay_base::{ByteRange, LockMode, Token};
use rebuild::Rebuild;
use std::collections::{BTreeMap, BTreeSet};

/// One who holds ranges, or waits for one.
#[derive(Clone, Debug)]
struct Owner {
    set: RangeSet,
    /// What it waits for.
    call: Option<Ticket>,
    wants_bast: bool,
    /// Where it was told what it is in the way of; the most urgent mode counts.
    told: RangeSet,
    /// It has another key since, and who has that has not been told yet.
    renamed: bool,
}

/// A call that waits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Call<K> {
    key: K,
    ask: RangeAsk,
    parked: Option<Obstacle<K>>,
}

/// What a call asks for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RangeAsk {
    /// Where.
    pub range: ByteRange,
    /// In which mode; NL to hold nothing there.
    pub mode: LockMode,
    /// NOQUEUE or none.
    pub flags: Flags,
    /// Whether the owner is to be told when what it holds blocks others.
    pub wants_bast: bool,
}

/// Why a call waits: one reason of perhaps many.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Obstacle<K> {
    /// That owner holds that byte.
    Holder(K, u64),
    /// That call stands before it.
    Ahead(Ticket),
}

/// A call that waits, as status commands and checkers see it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct WaitingRange<K> {
    /// Whose it is.
    pub key: K,
    /// Its place among the calls: earlier ones have smaller tickets.
    pub ticket: Ticket,
    /// What it asks for.
    pub ask: RangeAsk,
}

/// The ranges of one resource.
#[derive(Debug)]
pub struct Ranges<K> {
    last_token: Token,
    owners: BTreeMap<K, Owner>,
    held: HeldIndex<K>,
    calls: BTreeMap<Ticket, Call<K>>,
    wanted: WantedIndex,
    /// Calls by the holder and byte at which they are parked.
    parked_at: BTreeSet<(K, u64, Ticket)>,
    /// Calls by the call behind which they are parked.
    parked_behind: BTreeSet<(Ticket, Ticket)>,
    /// Larger than any ticket of a call that waits.
    next_ticket: Ticket,
    rebuild: Option<Box<Rebuild<K>>>,
}

impl<K: Copy + Ord + Debug> Ranges<K> {
    /// Nothing held, with tokens that are all larger than `floor`.
    #[must_use]
    pub fn new(floor: Token) -> Self {
        Ranges {
            last_token: floor,
            owners: BTreeMap::new(),
            held: HeldIndex::default(),
            calls: BTreeMap::new(),
            wanted: WantedIndex::default(),
            parked_at: BTreeSet::new(),
            parked_behind: BTreeSet::new(),
            next_ticket: Ticket(1),
            rebuild: None,
        }
    }

    /// Sets a range of an owner's to a mode. Emits `Granted`, `Queued` or `Refused` for the owner,
    /// and what follows for others.
    ///
    /// # Errors
    /// If a call of the owner waits already, for flags that have no meaning here, and during a
    /// rebuild.
    pub fn call(&mut self, key: K, ask: RangeAsk, out: &mut Vec<Effect<K>>) -> Result<(), Invalid> {
        self.may_call(key)?;
        check_range(ask.flags)?;
        self.arrive(key, ask, out);
        Ok(())
    }

    /// Sets a range of an owner's to a mode that all of it is held in modes that cover, NL among
    /// them: the owner has done so already and is not told.
    ///
    /// # Errors
    /// As for [`Ranges::call`], and if the owner would gain something.
    pub fn weaken(
        &mut self,
        key: K,
        range: ByteRange,
        mode: LockMode,
        out: &mut Vec<Effect<K>>,
    ) -> Result<(), Invalid> {
        self.may_call(key)?;
        let Some(owner) = self.owners.get(&key) else {
            return Err(Invalid::UnknownLock);
        };
        if !owner.set.covers(range, mode) {
            return Err(Invalid::RangeGains { mode });
        }
        let mut woken = BTreeSet::new();
        self.change(key, range, mode, Token::NONE, &mut woken);
        self.tell_newly_blocking(key, range, mode, out);
        self.forget_idle(key);
        self.wake(woken, out);
        Ok(())
    }

    /// Takes back the call of an owner that waits: `Refused{Cancelled}`. Returns false, and does
    /// nothing, if none waits (any more).
    pub fn cancel(&mut self, key: K, out: &mut Vec<Effect<K>>) -> bool {
        let known = match &mut self.rebuild {
            Some(rebuild) => rebuild.cancel(key),
            None => self.owners.get(&key).is_some_and(|o| o.call.is_some()),
        };
        if known {
            let mut woken = BTreeSet::new();
            if self.rebuild.is_none() {
                let ask = self.take_call(key, &mut woken);
                self.forget_idle(key);
                self.forget_told(key, ask);
            }
            let why = Refusal::Cancelled;
            out.push(Effect::Refused { key, why });
            self.wake(woken, out);
        }
        known
    }

    /// Takes away all that an owner holds and waits for: it is gone, or lets go of all. The owner is
    /// not told. Returns whether the key was known.
    pub fn release(&mut self, key: K, out: &mut Vec<Effect<K>>) -> bool {
        if let Some(rebuild) = &mut self.rebuild {
            return rebuild.release(key);
        }
        if !self.owners.contains_key(&key) {
            return false;
        }
        let mut woken = BTreeSet::new();
        let ask = self.take_call(key, &mut woken);
        self.forget_told(key, ask);
        self.change(key, ByteRange::ALL, LockMode::Nl, Token::NONE, &mut woken);
        self.owners.remove(&key);
        self.wake(woken, out);
        true
    }

    /// Makes all later tokens larger than `floor`.
    pub fn raise_floor(&mut self, floor: Token) {
        self.last_token = self.last_token.max(floor);
    }

    /// The highest token issued.
    #[must_use]
    pub fn last_token(&self) -> Token {
        self.last_token
    }

    /// Whether nobody holds or waits for anything, or has restated so.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.owners.is_empty() && self.rebuild.as_ref().is_none_or(|r| r.is_empty())
    }

    /// Whether an owner holds or waits for anything, or has restated so.
    #[must_use]
    pub fn knows(&self, key: K) -> bool {
        let restated = self.rebuild.as_ref().is_some_and(|r| r.knows(key));
        restated || self.owners.contains_key(&key)
    }

    /// Whether an owner's call waits.
    #[must_use]
    pub fn waits(&self, key: K) -> bool {
        self.waiting_call(key).is_some()
    }

    /// Who holds something or waits, and what each holds, by key.
    pub fn owners(&self) -> impl Iterator<Item = (K, &RangeSet)> {
        self.owners.iter().map(|(key, owner)| (*key, &owner.set))
    }

    /// The calls that wait, first come first.
    pub fn waiting(&self) -> impl Iterator<Item = WaitingRange<K>> {
        self.calls.iter().map(|(ticket, call)| WaitingRange {
            key: call.key,
            ticket: *ticket,
            ask: call.ask,
        })
    }

    /// How many stretches are held.
    #[must_use]
    pub fn held_count(&self) -> usize {
        self.held.len()
    }

    fn may_call(&self, key: K) -> Result<(), Invalid> {
        if self.rebuild.is_some() {
            return Err(Invalid::Rebuilding);
        }
        match self.owners.get(&key) {
            Some(owner) if owner.call.is_some() => Err(Invalid::Busy),
            _ => Ok(()),
        }
    }

    fn waiting_call(&self, key: K) -> Option<(Ticket, &Call<K>)> {
        let ticket = self.owners.get(&key)?.call?;
        Some((ticket, self.calls.get(&ticket)?))
    }

    /// The part of a call that cannot fail.
    fn arrive(&mut self, key: K, ask: RangeAsk, out: &mut Vec<Effect<K>>) {
        let set = self.owners.get(&key).map(|owner| &owner.set);
        let free = set.is_some_and(|set| set.covers(ask.range, ask.mode));
        let obstacle = match free || ask.mode == LockMode::Nl {
            true => None,
            false => self.obstacle(key, ask, self.next_ticket),
        };
        let refused = |why| Effect::Refused { key, why };
        match obstacle {
            None => {
                let mut woken = BTreeSet::new();
                self.grant(key, ask, &mut woken, out);
                self.wake(woken, out);
            }
            Some(_) if ask.flags.contains(Flags::NOQUEUE) => {
                out.push(refused(Refusal::NotQueued));
            }
            Some(_) if self.would_deadlock(key, ask) => {
                out.push(refused(Refusal::Deadlock));
            }
            Some(obstacle) => {
                let ticket = self.next_ticket;
                self.next_ticket = ticket.after();
                self.enqueue(key, ask, ticket);
                self.park(ticket, obstacle);
                out.push(Effect::Queued { key, ticket });
                self.tell_those_in_the_way(key, ask, out);
            }
        }
    }

    fn owner_mut(&mut self, key: K) -> &mut Owner {
        self.owners.entry(key).or_insert_with(|| Owner {
            set: RangeSet::default(),
            call: None,
            wants_bast: false,
            told: RangeSet::default(),
            renamed: false,
        })
    }

    /// Forgets an owner that neither holds nor waits.
    fn forget_idle(&mut self, key: K) {
        let idle = |owner: &Owner| owner.call.is_none() && owner.set.is_empty();
        if self.owners.get(&key).is_some_and(idle) {
            self.owners.remove(&key);
        }
    }

    fn enqueue(&mut self, key: K, ask: RangeAsk, ticket: Ticket) {
        self.owner_mut(key).call = Some(ticket);
        let call = Call {
            key,
            ask,
            parked: None,
        };
        self.calls.insert(ticket, call);
        let range = ask.range;
        self.wanted.insert(ask.mode, Wanted { range, ticket });
    }

    /// Why a call is not granted, if it is not: it would have, or has, that ticket.
    fn obstacle(&self, key: K, ask: RangeAsk, ticket: Ticket) -> Option<Obstacle<K>> {
        let own = self.owners.get(&key).map(|owner| &owner.set);
        let counts = |ahead: &Wanted| self.stands_before(ahead.ticket, own);
        // The last one first: so those behind one another are looked at one after the other.
        let ahead = self.wanted.last_before(ticket, ask.range, ask.mode, counts);
        ahead.map(Obstacle::Ahead).or_else(|| {
            let holder = self.held.first_in_way(ask.range, ask.mode, key);
            holder.map(|(holder, at)| Obstacle::Holder(holder, at))
        })
    }

    /// Whether an earlier call, for some of the same bytes in a mode that conflicts, must be granted
    /// before one of an owner that holds `own`.
    fn stands_before(&self, ahead: Ticket, own: Option<&RangeSet>) -> bool {
        let Some(own) = own.filter(|own| !own.is_empty()) else {
            return true;
        };
        let ask = self.calls.get(&ahead).map(|call| call.ask);
        ask.is_some_and(|ask| own.conflict(ask.range, ask.mode).is_none())
    }

    fn park(&mut self, ticket: Ticket, obstacle: Obstacle<K>) {
        let Some(call) = self.calls.get_mut(&ticket) else {
            return;
        };
        call.parked = Some(obstacle);
        match obstacle {
            Obstacle::Holder(key, at) => self.parked_at.insert((key, at, ticket)),
            Obstacle::Ahead(ahead) => self.parked_behind.insert((ahead, ticket)),
        };
    }

    fn unpark(&mut self, ticket: Ticket) {
        let Some(call) = self.calls.get_mut(&ticket) else {
            return;
        };
        match call.parked.take() {
            Some(Obstacle::Holder(key, at)) => self.parked_at.remove(&(key, at, ticket)),
            Some(Obstacle::Ahead(ahead)) => self.parked_behind.remove(&(ahead, ticket)),
            None => false,
        };
    }

    /// Takes the call of an owner out of the queue, and wakes those behind it.
    fn take_call(&mut self, key: K, woken: &mut BTreeSet<Ticket>) -> Option<RangeAsk> {
        let ticket = self.owners.get_mut(&key)?.call.take()?;
        self.unpark(ticket);
        let ask = self.calls.remove(&ticket)?.ask;
        let range = ask.range;
        self.wanted.remove(ask.mode, Wanted { range, ticket });
        let behind = (ticket, Ticket(i64::MIN))..=(ticket, Ticket(i64::MAX));
        woken.extend(self.parked_behind.range(behind).map(|(_, ticket)| *ticket));
        Some(ask)
    }

    /// Changes what an owner holds, and wakes those parked there.
    fn change(
        &mut self,
        key: K,
        range: ByteRange,
        mode: LockMode,
        token: Token,
        woken: &mut BTreeSet<Ticket>,
    ) {
        let owner = self.owner_mut(key);
        let change = owner.set.change(range, mode, token);
        owner.told.set(range, LockMode::Nl, Token::NONE);
        self.held.apply(key, &change);
        let (first, last) = (Ticket(i64::MIN), Ticket(i64::MAX));
        let there = (key, range.start(), first)..=(key, range.end(), last);
        let parked = self.parked_at.range(there);
        woken.extend(parked.map(|(_, _, ticket)| *ticket));
    }

    fn grant(
        &mut self,
        key: K,
        ask: RangeAsk,
        woken: &mut BTreeSet<Ticket>,
        out: &mut Vec<Effect<K>>,
    ) {
        let owner = self.owner_mut(key);
        let anew = ask.wants_bast && !std::mem::replace(&mut owner.wants_bast, ask.wants_bast);
        let gains = !owner.set.covers(ask.range, ask.mode);
        if gains {
            self.last_token = self.last_token.next();
        }
        // Who gains nothing keeps what it has been told of: the last token may be another's.
        let token = match gains {
            true => self.last_token,
            false => self.owner_mut(key).set.token_of(ask.range),
        };
        self.change(key, ask.range, ask.mode, token, woken);
        let grant = Grant {
            mode: ask.mode,
            token,
            value: None,
        };
        out.push(Effect::Granted { key, grant });
        let told = match anew {
            true => self.owner_mut(key).set.stretches(),
            false => Vec::new(),
        };
        for Stretch { range, mode, .. } in told {
            self.tell_newly_blocking(key, range, mode, out);
        }
        self.tell_newly_blocking(key, ask.range, ask.mode, out);
        self.forget_idle(key);
    }

    /// Looks again at calls whose obstacle is gone, first come first, and grants what can be.
    fn wake(&mut self, mut woken: BTreeSet<Ticket>, out: &mut Vec<Effect<K>>) {
        while let Some(ticket) = woken.pop_first() {
            let Some(Call { key, ask, .. }) = self.calls.get(&ticket).copied() else {
                continue;
            };
            self.unpark(ticket);
            match self.obstacle(key, ask, ticket) {
                Some(obstacle) => self.park(ticket, obstacle),
                None => {
                    self.take_call(key, &mut woken);
                    self.grant(key, ask, &mut woken, out);
                }
            }
        }
    }
}

/// A resource that is locked in ranges keeps them in the place of its queues.
impl<K: Copy + Ord + Debug> Resource<K> {
    /// What is locked in ranges, if the resource is.
    #[must_use]
    pub fn ranges(&self) -> Option<&Ranges<K>> {
        self.pending.as_ref()?.ranges.as_deref()
    }

    /// As [`Resource::ranges`], to be changed.
    pub fn ranges_mut(&mut self) -> Option<&mut Ranges<K>> {
        self.pending.as_mut()?.ranges.as_deref_mut()
    }

    /// The ranges of a resource that is locked in ranges, or is to be from now on.
    pub fn open_ranges(&mut self) -> &mut Ranges<K> {
        let floor = self.last_token;
        let ranges = &mut self.pending_mut().ranges;
        ranges.get_or_insert_with(|| Box::new(Ranges::new(floor)))
    }

    /// Goes back to a resource without ranges when the last is gone. Its tokens go on growing.
    pub fn close_ranges(&mut self) {
        let Some(pending) = &mut self.pending else {
            return;
        };
        if let Some(ranges) = pending.ranges.take_if(|ranges| ranges.is_empty()) {
            self.raise_floor(ranges.last_token());
        }
    }
}
