//! The three queues and what stands in them.

use crate::{
    Flags,
    line::{Entry, Line},
    mode_tables::ModeCounts,
    order::Place,
    ranges::Ranges,
};
use core::fmt;
use mainstay_base::{LockMode, Mutant, Token};
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;

/// A waiting lock's place in its queue: smaller is nearer to the head. Owners keep it and restate
/// it, so that a new master finds the old order again. Means nothing across queues or resources.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Ticket(pub i64);

impl Ticket {
    pub(crate) fn after(self) -> Ticket {
        Ticket(self.0 + 1)
    }
}

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// A granted lock. It stays one, in its old mode, while it waits for a conversion.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Held<K> {
    pub(crate) key: K,
    pub(crate) token: Token,
    pub(crate) mode: LockMode,
    /// The most urgent mode it was told it blocks, since it was granted `mode`.
    pub(crate) told: Option<LockMode>,
    pub(crate) wants_bast: bool,
    /// Its last request or conversion carried VALBLK, and its owner's copy of the value block is
    /// from then, or was of this kind before where no value travels.
    pub(crate) valblk: bool,
    /// Its owner is to be told when the value block changes.
    pub(crate) watches: bool,
}

/// What a request or conversion asks for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask {
    pub(crate) mode: LockMode,
    pub(crate) wants_bast: bool,
    pub(crate) flags: Flags,
}

impl Ask {
    /// The modes that will do, best first.
    pub(crate) fn modes(self) -> impl Iterator<Item = LockMode> {
        let alternate = self.flags.alternate();
        [Some(self.mode), alternate].into_iter().flatten()
    }

    /// Whether none of the modes that will do can be granted beside one that is held.
    pub(crate) fn conflicts(self, held: LockMode) -> bool {
        self.modes().all(|mode| !mode.compatible(held))
    }

    /// As [`Ask::free_mode`], for what has waited.
    pub(crate) fn freed_mode(self, held: ModeCounts, except: Option<LockMode>) -> Option<LockMode> {
        let tried = self.free_mode(held, except);
        tried.filter(|mode| *mode == self.mode || !Mutant::AlternateTriedOnce.active())
    }

    /// The best mode that can be granted beside those held, not counting one lock of mode `except`.
    pub(crate) fn free_mode(self, held: ModeCounts, except: Option<LockMode>) -> Option<LockMode> {
        self.modes().find(|&mode| !held.conflict(mode, except))
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Converting<K> {
    pub(crate) held: Held<K>,
    pub(crate) ask: Ask,
    pub(crate) ticket: Ticket,
    /// It stands behind the requests that came before it.
    pub(crate) patient: bool,
}

impl<K> Converting<K> {
    /// The most urgent of the modes asked for that its old mode is in the way of, if its owner has
    /// promised to let go then. Others are not told: they wait themselves, and all that they could
    /// do is cancel.
    pub(crate) fn blocks(&self, mut wanted: ModeCounts) -> Option<LockMode> {
        if !self.ask.flags.promises_to_let_go() {
            return None;
        }
        wanted.remove(self.ask.mode);
        wanted.most_urgent_blocked_by(self.held.mode)
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiting<K> {
    pub(crate) key: K,
    pub(crate) ask: Ask,
    pub(crate) ticket: Ticket,
}

/// What waits: kept apart from the granted locks because most resources never need it.
#[derive(Debug)]
pub(crate) struct Pending<K> {
    pub(crate) converting: Line<K, Converting<K>>,
    pub(crate) waiting: Line<K, Waiting<K>>,
    /// Modes asked for in both queues.
    pub(crate) wanted: ModeCounts,
    /// How many in each queue have NOORDER: sweeps look past the head only if there are some.
    pub(crate) converting_noorder: u32,
    pub(crate) waiting_noorder: u32,
    /// How many conversions have promised to let go: notices look past the granted only if some have.
    pub(crate) promises: u32,
    /// How many conversions are patient.
    pub(crate) patient: u32,
    /// Modes of the readers in the wait queue.
    pub(crate) readers: ModeCounts,
    /// The last request that was granted in turn was no reader's.
    pub(crate) wrote: bool,
    /// How many conversions have passed since somebody is the foremost.
    pub(crate) passed: u8,
    /// Never handed out yet; larger than any ticket in either queue.
    pub(crate) next_ticket: Ticket,
    /// What is locked in ranges; then nothing stands in the queues.
    pub(crate) ranges: Option<Box<Ranges<K>>>,
}

impl<K: Copy> Entry<K> for Converting<K> {
    fn key(&self) -> K {
        self.held.key
    }

    fn ticket(&self) -> Ticket {
        self.ticket
    }
}

impl<K: Copy> Entry<K> for Waiting<K> {
    fn key(&self) -> K {
        self.key
    }

    fn ticket(&self) -> Ticket {
        self.ticket
    }
}

impl<K> Default for Pending<K> {
    fn default() -> Self {
        Pending {
            converting: Line::default(),
            waiting: Line::default(),
            wanted: ModeCounts::default(),
            converting_noorder: 0,
            waiting_noorder: 0,
            promises: 0,
            patient: 0,
            readers: ModeCounts::default(),
            wrote: false,
            passed: 0,
            next_ticket: Ticket(1),
            ranges: None,
        }
    }
}

impl<K: Copy + Ord> Pending<K> {
    pub(crate) fn push_converting(
        &mut self,
        held: Held<K>,
        ask: Ask,
        place: Place,
        patient: bool,
    ) -> Ticket {
        let Place {
            index,
            ticket,
            next,
        } = place;
        self.next_ticket = next;
        let entry = Converting {
            held,
            ask,
            ticket,
            patient,
        };
        self.count_converting(&entry);
        self.converting.insert(index, entry);
        ticket
    }

    pub(crate) fn push_waiting(&mut self, key: K, ask: Ask, place: Place) -> Ticket {
        let Place {
            index,
            ticket,
            next,
        } = place;
        self.next_ticket = next;
        self.count_waiting(ask);
        self.waiting.insert(index, Waiting { key, ask, ticket });
        ticket
    }

    /// Enters a conversion into the counts; its place in the queue is the caller's business.
    pub(crate) fn count_converting(&mut self, entry: &Converting<K>) {
        let ask = entry.ask;
        self.patient += u32::from(entry.patient);
        self.wanted.add(ask.mode);
        self.converting_noorder += u32::from(ask.flags.contains(Flags::NOORDER));
        self.promises += u32::from(ask.flags.promises_to_let_go());
    }

    /// Enters a request into the counts; its place in the queue is the caller's business.
    pub(crate) fn count_waiting(&mut self, ask: Ask) {
        self.wanted.add(ask.mode);
        if ask.reads() {
            self.readers.add(ask.mode);
        }
        self.waiting_noorder += u32::from(ask.flags.contains(Flags::NOORDER));
    }

    pub(crate) fn take_converting(&mut self, index: usize) -> Option<Converting<K>> {
        self.count_anew_after(self.converting.get(index)?.ticket);
        let entry = self.converting.remove(index)?;
        self.patient -= u32::from(entry.patient);
        self.wanted.remove(entry.ask.mode);
        self.converting_noorder -= u32::from(entry.ask.flags.contains(Flags::NOORDER));
        self.promises -= u32::from(entry.ask.flags.promises_to_let_go());
        Some(entry)
    }

    pub(crate) fn take_waiting(&mut self, index: usize) -> Option<Waiting<K>> {
        self.count_anew_after(self.waiting.get(index)?.ticket);
        let entry = self.waiting.remove(index)?;
        self.wanted.remove(entry.ask.mode);
        if entry.ask.reads() {
            self.readers.remove(entry.ask.mode);
        }
        self.waiting_noorder -= u32::from(entry.ask.flags.contains(Flags::NOORDER));
        Some(entry)
    }

    pub(crate) fn find_converting(&self, key: K) -> Option<usize> {
        self.converting.find(key)
    }

    pub(crate) fn find_waiting(&self, key: K) -> Option<usize> {
        self.waiting.find(key)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.converting.is_empty() && self.waiting.is_empty()
    }
}

/// The grant queue, in the order of the keys: its order decides nothing, and so a lock is found
/// quickly among many readers.
pub(crate) type Granted<K> = SmallVec<[Held<K>; 1]>;

/// A lock as status commands and checkers see it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LockView<K> {
    /// Whose it is.
    pub key: K,
    /// The mode in force and its token; none for a request that waits.
    pub granted: Option<(LockMode, Token)>,
    /// The mode it waits for, if it does.
    pub requested: Option<LockMode>,
    /// Its place in the convert or wait queue, if it is in one.
    pub ticket: Option<Ticket>,
    /// The flags of what it waits for.
    pub flags: Flags,
    /// Whether its owner's copy of the value block belongs to the granted mode (see
    /// [`Restated::valblk`](crate::Restated::valblk)).
    pub valblk: bool,
    /// Whether it is to be told when it blocks others.
    pub wants_bast: bool,
    /// Whether it is to be told when the value block changes.
    pub watches: bool,
}

impl<K> LockView<K> {
    /// What it waits for, if it does.
    pub(crate) fn ask(&self) -> Option<Ask> {
        self.requested.map(|mode| Ask {
            mode,
            wants_bast: self.wants_bast,
            flags: self.flags,
        })
    }
}

impl<K: Copy> Held<K> {
    pub(crate) fn view(&self) -> LockView<K> {
        LockView {
            key: self.key,
            granted: Some((self.mode, self.token)),
            requested: None,
            ticket: None,
            flags: Flags::NONE,
            valblk: self.valblk,
            wants_bast: self.wants_bast,
            watches: self.watches,
        }
    }
}

impl<K: Copy> Converting<K> {
    pub(crate) fn view(&self) -> LockView<K> {
        LockView {
            requested: Some(self.ask.mode),
            ticket: Some(self.ticket),
            flags: self.ask.flags,
            ..self.held.view()
        }
    }
}

impl<K: Copy> Waiting<K> {
    pub(crate) fn view(&self) -> LockView<K> {
        LockView {
            key: self.key,
            granted: None,
            requested: Some(self.ask.mode),
            ticket: Some(self.ticket),
            flags: self.ask.flags,
            valblk: false,
            wants_bast: self.ask.wants_bast,
            watches: false,
        }
    }
}
