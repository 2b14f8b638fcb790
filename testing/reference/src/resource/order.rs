//! In which order what waits is granted, and who may pass, as the plain model has it.

use super::{Lock, Reference, compatible, gains};
use mainstay_base::{LockMode, Order};
use mainstay_lock::{Flags, Ticket};

impl Reference {
    pub(super) fn held_back(&self, conversion: &Lock) -> bool {
        let mut earlier = self.waiting.iter().filter(|w| w.ticket < conversion.ticket);
        conversion.patient && earlier.next().is_some()
    }

    pub(super) fn no_conversion_before(&self, request: &Lock) -> bool {
        let mut all = self.converting.iter();
        all.all(|c| c.patient && c.ticket > request.ticket)
    }

    /// One is about to leave its queue.
    pub(super) fn leaves(&mut self, lock: &Lock) {
        let all = self.converting.iter().chain(&self.waiting);
        let first = all.clone().map(|l| l.ticket).min();
        if all.clone().any(|l| l.key == lock.key) && first == Some(lock.ticket) {
            self.passed = 0;
        }
    }

    pub(super) fn wanted(&self) -> Vec<LockMode> {
        let all = self.converting.iter().chain(&self.waiting);
        all.map(Lock::wish).collect()
    }

    /// Whether it would get in the way of somebody who waits.
    pub(super) fn would_pass(&self, from: LockMode, to: LockMode) -> bool {
        let mut wanted = self.wanted().into_iter();
        gains(from, to) && wanted.any(|wish| !compatible(wish, to))
    }

    pub(super) fn has_to_be_patient(&self, lock: &Lock) -> bool {
        let mut wanted = self.wanted().into_iter();
        self.rules.overtake > 0
            && self.passed >= self.rules.overtake
            && !lock.flag(Flags::NOORDER)
            && !lock.flag(Flags::HEADQUE)
            && self.would_pass(lock.mode(), lock.wish())
            && wanted.all(|wish| compatible(wish, lock.mode()))
    }

    /// The request that is next in turn.
    pub(super) fn next_request(&self, reading: bool) -> Option<(usize, LockMode)> {
        let first = self.waiting.first()?;
        let free = |lock: &Lock| {
            let mut wishes = lock.wishes().into_iter();
            let held = || self.granted.iter().chain(&self.converting);
            let may = self.no_conversion_before(lock);
            wishes.find(|w| may && held().all(|o| compatible(o.mode(), *w)))
        };
        if self.rules.order == Order::PhaseFair && (reading || self.wrote) {
            for (at, lock) in self.waiting.iter().enumerate() {
                if lock.reads()
                    && let Some(mode) = free(lock)
                {
                    return Some((at, mode));
                }
            }
        }
        free(first).map(|mode| (0, mode))
    }

    /// Index and ticket in a queue, and the next one to hand out.
    pub(super) fn place(&self, lock: &Lock) -> (usize, Ticket, i64) {
        let queue = if lock.conversion() {
            &self.converting
        } else {
            &self.waiting
        };
        let next = self.next_ticket;
        if lock.flag(Flags::HEADQUE) && !queue.is_empty() {
            return (0, Ticket(queue[0].ticket.0 - 1), next);
        }
        if self.rules.order != Order::Priority {
            return (queue.len(), Ticket(next), next + 1);
        }
        let arrival = (next + 7).div_euclid(8);
        let priority = i64::from(lock.asked.unwrap().1.priority());
        let mut ticket = (arrival - 32 * priority) * 8 + priority;
        if lock.conversion() {
            let stops = |c: &&Lock| lock.wishes().iter().all(|w| !compatible(c.mode(), *w));
            let last = queue.iter().filter(stops).map(|c| c.ticket.0).max();
            ticket = ticket.max(last.map_or(i64::MIN, |last| last + 1));
        }
        while queue.iter().any(|l| l.ticket.0 == ticket) {
            ticket += 1;
        }
        let index = queue.iter().filter(|l| l.ticket.0 < ticket).count();
        (index, Ticket(ticket), ((arrival + 1) * 8).max(ticket + 1))
    }

    /// Whether it is readers' turn, and this is one.
    pub(super) fn is_turn_of(&self, lock: &Lock) -> bool {
        let mut others = self.waiting.iter().filter(|w| w.key != lock.key);
        let by_turns = self.rules.order == Order::PhaseFair && self.wrote;
        by_turns && !lock.conversion() && lock.reads() && others.next().is_some()
    }

    pub(super) fn let_in(&mut self, lock: &Lock) {
        let passes = lock.flag(Flags::NOORDER) || lock.flag(Flags::EXPEDITE);
        if !passes && self.is_turn_of(lock) {
            self.wrote = false;
        }
    }

    /// It is granted when it comes, and counts for those that wait.
    pub(super) fn count_arrival(&mut self, lock: &Lock) {
        let mut others = self
            .converting
            .iter()
            .chain(&self.waiting)
            .filter(|l| l.key != lock.key);
        let any = others.next().is_some();
        if any && self.rules.order == Order::Priority && !lock.flag(Flags::HEADQUE) {
            self.next_ticket = self.place(lock).2;
        }
    }
}
