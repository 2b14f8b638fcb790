//! In which order what waits is granted, and who may pass whom.
//!
//! Each queue is in the order of its tickets, and who comes where in it is decided when it comes. Two
//! things go beyond that. A conversion that came when enough others had passed the foremost waiter is
//! **patient**: it stands behind the requests that came before it, although it is a conversion, as
//! long as the mode that it holds is in nobody's way. And where readers and writers go by turns, a
//! reader's turn is that of all readers that wait.

use crate::{
    Flags, Resource, Ticket,
    mode_tables::ModeCounts,
    queue::{Ask, Converting, Pending, Waiting},
};
use core::fmt::Debug;
use mainstay_base::{Compat, Fairness, LockMode, Mutant, Order, VALUE_LEN_DEFAULT, VALUE_LEN_MAX};

/// By so many arrivals a call counts as earlier for each step of its priority.
pub(crate) const ARRIVALS_PER_PRIORITY: i64 = 32;
/// Tickets per arrival: one for each priority, so that no two calls get the same.
const TICKETS_PER_ARRIVAL: i64 = Flags::PRIORITY_MAX as i64 + 1;

/// What a lockspace says of each of its resources.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rules {
    /// Bytes of a value block, at most 4096.
    pub value_len: u16,
    /// In which order what waits is granted.
    pub order: Order,
    /// So many conversions may pass whoever waits foremost; with 0, any number.
    pub overtake: u8,
    /// Whose rules hold where systems differ.
    pub compat: Compat,
}

impl Default for Rules {
    fn default() -> Rules {
        Rules::from(VALUE_LEN_DEFAULT)
    }
}

impl From<usize> for Rules {
    /// Those of a lockspace with value blocks of this length that says nothing else.
    ///
    /// # Panics
    /// If the length is larger than any lockspace may ask for.
    fn from(value_len: usize) -> Rules {
        assert!(
            value_len <= VALUE_LEN_MAX,
            "value blocks of {value_len} bytes; a lockspace may ask for at most {VALUE_LEN_MAX}"
        );
        Rules::new(value_len as u16, Fairness::default(), Compat::Strict)
    }
}

impl Rules {
    /// Those of a lockspace.
    #[must_use]
    pub const fn new(value_len: u16, fairness: Fairness, compat: Compat) -> Rules {
        Rules {
            value_len,
            order: fairness.order,
            overtake: fairness.overtake,
            compat,
        }
    }
}

/// Where in its queue a call belongs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) index: usize,
    pub(crate) ticket: Ticket,
    /// From now on never handed out yet.
    pub(crate) next: Ticket,
}

impl Ask {
    /// Whether it asks for a mode that others may share, and for no other: a reader, where readers and
    /// writers go by turns.
    pub(crate) fn reads(self) -> bool {
        self.mode.compatible(self.mode) && self.flags.alternate().is_none()
    }
}

impl<K: Copy + Ord> Pending<K> {
    /// Where a conversion belongs that asks so.
    pub(crate) fn place_converting(&self, ask: Ask, order: Order) -> Place {
        let ticket = |at: usize| self.converting[at].ticket;
        let mut place = self.place(ask, order, self.converting.len(), ticket);
        if order == Order::Priority && !ask.flags.contains(Flags::HEADQUE) {
            // Nobody passes, by priority, one whose mode he waits for: that one would wait for him.
            let mut behind = self.converting.iter().skip(place.index);
            let stopped = behind.rposition(|c| ask.conflicts(c.held.mode));
            if let Some(last) = stopped {
                place.index += last + 1;
                place.ticket = place.ticket.max(ticket(place.index - 1).after());
                self.make_room(&mut place, self.converting.len(), ticket);
            }
        }
        place
    }

    /// Where a request belongs that asks so.
    pub(crate) fn place_waiting(&self, ask: Ask, order: Order) -> Place {
        self.place(ask, order, self.waiting.len(), |at| self.waiting[at].ticket)
    }

    fn place(&self, ask: Ask, order: Order, len: usize, at: impl Fn(usize) -> Ticket) -> Place {
        if ask.flags.contains(Flags::HEADQUE) && len > 0 {
            return Place {
                index: 0,
                ticket: Ticket(at(0).0 - 1),
                next: self.next_ticket,
            };
        }
        if order != Order::Priority {
            return Place {
                index: len,
                ticket: self.next_ticket,
                next: self.next_ticket.after(),
            };
        }
        let per = TICKETS_PER_ARRIVAL;
        let arrival = (self.next_ticket.0 + per - 1).div_euclid(per);
        let priority = i64::from(ask.flags.priority());
        let ahead = priority * ARRIVALS_PER_PRIORITY;
        let ticket = Ticket((arrival - ahead) * per + priority);
        let (mut index, mut end) = (0, len);
        while index < end {
            let middle = index.midpoint(end);
            if at(middle) < ticket {
                index = middle + 1;
            } else {
                end = middle;
            }
        }
        let mut place = Place {
            index,
            ticket,
            next: Ticket((arrival + 1) * per),
        };
        self.make_room(&mut place, len, at);
        place
    }

    /// Goes behind those who have that ticket already: who went to the head, or behind somebody.
    fn make_room(&self, place: &mut Place, len: usize, at: impl Fn(usize) -> Ticket) {
        while place.index < len && at(place.index) == place.ticket {
            place.ticket = place.ticket.after();
            place.index += 1;
        }
        place.next = place.next.max(place.ticket.after());
    }

    /// Whether a conversion stands behind requests.
    pub(crate) fn held_back(&self, entry: &Converting<K>) -> bool {
        let first = self.waiting.front();
        entry.patient && first.is_some_and(|w| w.ticket < entry.ticket)
    }

    /// Whether all conversions before that place of their queue are held back.
    pub(crate) fn conversion_in_turn(&self, index: usize) -> bool {
        let mut before = self.converting.iter().take(index);
        index == 0 || (self.patient > 0 && before.all(|c| self.held_back(c)))
    }

    /// The place of the conversion whose turn is next.
    pub(crate) fn first_converting(&self) -> Option<usize> {
        match self.patient {
            0 => (!self.converting.is_empty()).then_some(0),
            _ => self.converting.iter().position(|c| !self.held_back(c)),
        }
    }

    /// Whether no conversion stands before a request with this ticket.
    pub(crate) fn request_in_turn(&self, ticket: Ticket) -> bool {
        let patient = self.patient as usize == self.converting.len();
        let first = self.converting.front();
        patient && first.is_none_or(|c| c.ticket > ticket)
    }

    /// Whether a reader that comes now would be let in before the requests that wait.
    pub(crate) fn is_turn_of(&self, ask: Ask, order: Order) -> bool {
        order == Order::PhaseFair && ask.reads() && self.wrote && !self.waiting.is_empty()
    }

    /// The request that is granted next in turn, if one can be, and in which mode. `reading`: readers
    /// are being let in.
    pub(crate) fn next_request(
        &self,
        held: ModeCounts,
        order: Order,
        reading: bool,
    ) -> Option<(usize, LockMode)> {
        let first = self.waiting.front()?;
        let grantable = |w: &Waiting<K>| {
            let may = self.request_in_turn(w.ticket);
            w.ask.freed_mode(held, None).filter(|_| may)
        };
        let readers_turn = reading || self.wrote;
        if order == Order::PhaseFair && readers_turn && !self.readers.all_conflict(held) {
            let mut waiting = self.waiting.iter().enumerate();
            let reader = waiting.find_map(|(at, w)| {
                let reads = w.ask.reads();
                reads.then(|| grantable(w)).flatten().map(|mode| (at, mode))
            });
            if reader.is_some() {
                return reader;
            }
        }
        grantable(first).map(|mode| (0, mode))
    }

    /// A conversion gets ahead of those that wait.
    pub(crate) fn pass(&mut self) {
        self.passed = self.passed.saturating_add(1);
    }

    /// The ticket of whoever has come first, in either queue.
    fn foremost(&self) -> Option<Ticket> {
        let converting = self.converting.front().map(|c| c.ticket);
        let waiting = self.waiting.front().map(|w| w.ticket);
        [converting, waiting].into_iter().flatten().min()
    }

    /// One leaves: if it is the foremost, nobody has passed the next one yet.
    pub(crate) fn count_anew_after(&mut self, ticket: Ticket) {
        if self.foremost() == Some(ticket) {
            self.passed = 0;
        }
    }

    /// Those that are in the way of what begins to wait for `mode` are patient no longer. Returns
    /// whether there were any.
    pub(crate) fn end_patience(&mut self, mode: LockMode) -> bool {
        if self.patient == 0 {
            return false;
        }
        let before = self.patient;
        let patient = &mut self.patient;
        for c in self.converting.iter_mut().filter(|c| c.patient) {
            if !c.held.mode.compatible(mode) {
                c.patient = false;
                *patient -= 1;
            }
        }
        self.patient < before
    }
}

impl<K: Copy + Ord + Debug> Resource<K> {
    /// Where calls go by priority, also those that are granted when they come count as arrivals for
    /// those that wait: nobody passes for ever.
    pub(crate) fn count_arrival(&mut self, ask: Ask, place: impl Fn(&Pending<K>, Order) -> Place) {
        let order = self.rules().order;
        if let Some(pending) = self.pending.as_mut().filter(|p| !p.is_empty())
            && order == Order::Priority
            && !ask.flags.contains(Flags::HEADQUE)
        {
            pending.next_ticket = place(pending, order).next;
        }
    }

    /// Whether a conversion that comes now has to be patient: enough others have passed those that
    /// wait. It is not asked of who holds a mode that somebody waits for, or it would be the rule that
    /// has them wait for each other.
    pub(crate) fn has_to_be_patient(&self, from: LockMode, ask: Ask) -> bool {
        let overtake = self.rules().overtake;
        let Some(pending) = self.pending.as_ref().filter(|p| !p.is_empty()) else {
            return false;
        };
        let asks_to_pass = ask.flags.contains(Flags::NOORDER) || ask.flags.contains(Flags::HEADQUE);
        overtake > 0
            && pending.passed >= overtake
            && !Mutant::OvertakesForEver.active()
            && !asks_to_pass
            && self.would_pass(from, ask.mode)
            && !pending.wanted.conflict(from, None)
    }

    /// Whether a conversion gains a mode that is in the way of one that is waited for.
    pub(crate) fn would_pass(&self, from: LockMode, to: LockMode) -> bool {
        let pending = self.pending.as_ref();
        !from.covers(to) && pending.is_some_and(|p| p.wanted.conflict(to, None))
    }

    /// The conversion whose turn it is, if it can be granted.
    pub(crate) fn next_conversion(&self) -> Option<&Converting<K>> {
        let pending = self.pending.as_ref()?;
        let first = &pending.converting[pending.first_converting()?];
        let free = first.ask.free_mode(self.held, Some(first.held.mode));
        free.map(|_| first)
    }
}
