//! L1: nobody starves. Whoever waits is passed by a bounded number of calls that came after his, in
//! every order that a lockspace may have.
//!
//! Counted for each call that waits: the grants, to calls that were made after it, of modes that it
//! waits to see gone. Not counted are those whom the rules let pass without a bound: who says so by a
//! flag, and who converts from a mode that others may be waiting for (rules 4 and 7 of
//! docs/protocol/fairness.md). Judged where nothing goes wrong: elsewhere a call may be on its way for
//! as long as a link is cut, and others come first.
//!
//! Of one wake-up the client sees the answers before it takes the grants down, so what was asked is kept
//! until then.

use super::{
    Checker, Fact,
    books::{Books, ClientNo, Res, Who},
    conflict,
};
use mainstay_base::{Fairness, Flags, LockMode, Order};
use std::collections::{BTreeMap, BTreeSet};

/// So many calls may be on their way to a master at any time, and come in another order.
const ON_THEIR_WAY: u64 = 32;
/// So many calls of higher priority may pass one (rule 3 there).
const BY_PRIORITY: u64 = 224;

/// A call, numbered by the moment at which it was made.
#[derive(Clone, Copy, Debug)]
struct Call {
    no: u64,
    request: u64,
    res: Res,
    mode: LockMode,
    flags: Flags,
    /// Before it.
    held: Option<LockMode>,
}

impl Call {
    /// Whether a grant of this call in that mode counts as passing those that wait.
    fn counts(&self) -> bool {
        let excused = [Flags::HEADQUE, Flags::NOORDER, Flags::EXPEDITE];
        let leaves_none_waiting = self.held.is_none_or(|mode| mode == LockMode::Nl);
        leaves_none_waiting && !excused.iter().any(|flag| self.flags.contains(*flag))
    }

    /// Whether it cannot be granted beside that mode.
    fn stopped_by(&self, mode: LockMode) -> bool {
        let asked = [Some(self.mode), self.flags.alternate()];
        asked
            .into_iter()
            .flatten()
            .all(|asked| conflict(asked, mode))
    }
}

/// A call that has not been answered.
#[derive(Clone, Copy, Debug)]
struct Waiting {
    call: Call,
    passed: u64,
    /// At most so many others have waited for the same resource.
    others: u64,
}

/// Watches that nobody is passed for ever.
#[derive(Debug)]
pub struct Starvation {
    fairness: Fairness,
    /// Nothing goes wrong in this run.
    quiet: bool,
    next: u64,
    /// The last call for a set. Its locks are asked for one after the other, so none has a place in a
    /// queue before its turn.
    set: Option<(ClientNo, u64)>,
    /// Clients whose connections have been broken: nobody knows when their calls arrive.
    broken: BTreeSet<ClientNo>,
    /// The last call of each lock.
    calls: BTreeMap<Who, Call>,
    waiting: BTreeMap<Res, BTreeMap<Who, Waiting>>,
}

impl Starvation {
    /// For lockspaces that share out what they have like this; `quiet`: nothing goes wrong.
    #[must_use]
    pub fn new(fairness: Fairness, quiet: bool) -> Starvation {
        Starvation {
            fairness,
            quiet,
            next: 0,
            set: None,
            broken: BTreeSet::new(),
            calls: BTreeMap::new(),
            waiting: BTreeMap::new(),
        }
    }

    /// By so many others may a call be passed that waits with so many (rules 2, 3 and 9 there).
    fn bound(&self, others: u64) -> u64 {
        let conversions = u64::from(self.fairness.overtake);
        let (readers, priority) = match self.fairness.order {
            Order::Fifo => (0, 0),
            Order::PhaseFair => (others, 0),
            Order::Priority => (0, BY_PRIORITY),
        };
        (others + 1) * (conversions + readers) + priority + ON_THEIR_WAY
    }

    fn asked(&mut self, who: Who, call: Call, of_member: bool) {
        self.calls.insert(who, call);
        let broken = self.broken.contains(&who.client);
        if self.set == Some((who.client, call.request)) || broken || !of_member {
            return;
        }
        let queue = self.waiting.entry(call.res).or_default();
        queue.insert(
            who,
            Waiting {
                call,
                passed: 0,
                others: 0,
            },
        );
        let others = queue.len() as u64 - 1;
        for waiting in queue.values_mut() {
            waiting.others = waiting.others.max(others);
        }
    }

    fn granted(&mut self, who: Who, mode: LockMode) -> Result<(), String> {
        let Some(call) = self.calls.remove(&who).filter(Call::counts) else {
            return Ok(());
        };
        let Some(queue) = self.waiting.get_mut(&call.res) else {
            return Ok(());
        };
        let passed = queue
            .iter_mut()
            .filter(|(_, w)| w.call.no < call.no && w.call.stopped_by(mode));
        let mut worst: Option<(Who, Waiting)> = None;
        for (waiter, waiting) in passed {
            waiting.passed += 1;
            if worst.is_none_or(|(_, w)| w.passed < waiting.passed) {
                worst = Some((*waiter, *waiting));
            }
        }
        match worst {
            Some((waiter, w)) if w.passed > self.bound(w.others) => Err(format!(
                "client {} waits for {} on resource {} and was passed {} times by calls that came \
                 after it, with {} others waiting ({}, overtake {}); the last by client {} with {}",
                waiter.client,
                w.call.mode,
                w.call.res,
                w.passed,
                w.others,
                self.fairness.order,
                self.fairness.overtake,
                who.client,
                mode
            )),
            _ => Ok(()),
        }
    }

    fn forget(&mut self, over: impl Fn(&Who, &Waiting) -> bool) {
        self.waiting.retain(|_, queue| {
            queue.retain(|who, waiting| !over(who, waiting));
            !queue.is_empty()
        });
    }
}

impl Checker for Starvation {
    fn promise(&self) -> &'static str {
        "L1 starvation"
    }

    fn observe(&mut self, _: u64, fact: &Fact<'_>, books: &Books) -> Result<(), String> {
        if !self.quiet || self.fairness.overtake == 0 {
            return Ok(());
        }
        match *fact {
            Fact::LockAsked {
                who,
                request,
                res,
                mode,
                flags,
                life,
                ..
            } => {
                self.next += 1;
                let held = books.claim(who);
                let call = Call {
                    no: self.next,
                    request,
                    res,
                    mode,
                    flags,
                    held: held.map(|claim| claim.restore.unwrap_or(claim.mode)),
                };
                // What is asked of a node that has not joined yet waits there.
                let life = books.lives.get(life as usize);
                let of_member = life.is_some_and(|life| life.incarnation.is_some());
                self.asked(who, call, of_member);
            }
            Fact::SetAsked {
                client, request, ..
            } => self.set = Some((client, request)),
            Fact::Answered { client, request } => {
                self.forget(|who, w| who.client == client && w.call.request == request);
            }
            Fact::Granted { who, .. } => {
                if let Some(claim) = books.claim(who) {
                    return self.granted(who, claim.mode);
                }
            }
            Fact::Unlocked { who } => {
                self.calls.remove(&who);
            }
            Fact::SessionOver { client } => {
                self.calls.retain(|who, _| who.client != client);
                self.forget(|who, _| who.client == client);
            }
            Fact::ConnectionBroken { client } => {
                self.broken.insert(client);
                self.forget(|who, _| who.client == client);
            }
            // With the first view before there are clients, and where a node leaves.
            Fact::View { .. } => self.waiting.clear(),
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::testing::{grant, two_nodes, who};

    const FAIR: Fairness = Fairness {
        order: Order::Fifo,
        overtake: 2,
        min_hold_ms: 0,
    };

    fn asked(client: u32, request: u64, mode: LockMode) -> Fact<'static> {
        Fact::LockAsked {
            who: who(client),
            request,
            res: 0,
            mode,
            flags: Flags::NONE,
            conn: 1,
            life: 0,
        }
    }

    /// Client 2 is granted PR again and again, each time having asked anew, and the answer comes first.
    fn pass(checker: &mut Starvation, books: &mut Books, request: u64) -> Result<(), String> {
        books.remove(who(2));
        checker.observe(1, &asked(2, request, LockMode::Pr), books)?;
        let answered = Fact::Answered { client: 2, request };
        checker.observe(1, &answered, books)?;
        grant(books, 2, 0, LockMode::Pr, request);
        let granted = Fact::Granted {
            who: who(2),
            read: None,
        };
        checker.observe(1, &granted, books)
    }

    /// Protects the net: a writer that is passed for ever is seen, and not before it may be said.
    #[test]
    fn a_writer_that_is_passed_for_ever_is_seen() {
        let (mut checker, mut books) = (Starvation::new(FAIR, true), two_nodes());
        assert_eq!(
            checker.observe(1, &asked(1, 1, LockMode::Ex), &books),
            Ok(())
        );
        // One other waits with it whenever it is passed.
        for request in 1..=2 * 2 + ON_THEIR_WAY {
            assert_eq!(pass(&mut checker, &mut books, request), Ok(()));
        }
        assert!(pass(&mut checker, &mut books, 1000).is_err());
    }

    /// Protects a run from a false alarm: where a node has not joined, what is asked of it waits there,
    /// whatever happens elsewhere.
    #[test]
    fn who_asks_a_node_that_is_no_member_is_not_counted() {
        let (mut checker, mut books) = (Starvation::new(FAIR, true), two_nodes());
        books.lives[0].incarnation = None;
        let ex = asked(1, 1, LockMode::Ex);
        assert_eq!(checker.observe(1, &ex, &books), Ok(()));
        books.lives[0].incarnation = Some(mainstay_base::Incarnation(2));
        for request in 1..=4 * ON_THEIR_WAY {
            assert_eq!(pass(&mut checker, &mut books, request), Ok(()));
        }
    }

    /// Protects who did nothing wrong: a reader is not passed by readers, nor one who has been answered
    /// by anybody.
    #[test]
    fn nobody_is_accused_who_passes_nobody() {
        let (mut checker, mut books) = (Starvation::new(FAIR, true), two_nodes());
        for (request, mode) in [(1, LockMode::Ex), (2, LockMode::Cr)] {
            assert_eq!(checker.observe(1, &asked(1, request, mode), &books), Ok(()));
            if mode == LockMode::Ex {
                let answered = Fact::Answered { client: 1, request };
                assert_eq!(checker.observe(1, &answered, &books), Ok(()));
            }
            for request in 1..=4 * ON_THEIR_WAY {
                assert_eq!(pass(&mut checker, &mut books, request), Ok(()));
            }
        }
    }
}
