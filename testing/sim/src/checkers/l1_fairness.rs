//! L1: nobody who waits is passed by others without end.
//!
//! Counted for each call that waits: grants that it could not have been beside, to calls that came a
//! good while after it. Some may come: a node's calls take their time, priorities count as so many
//! arrivals, some calls ask to be let through, and a bounded number of conversions may pass. What is
//! counted begins anew with each view, and with each pause of the node whose call it is.

use super::{
    Checker, Fact,
    books::{Books, ClientNo, LifeNo, Res, Who},
};
use mainstay_base::{Flags, LockMode};
use std::collections::{BTreeMap, BTreeSet};

/// So much later is later beyond doubt, in nanoseconds.
const LATER: u64 = 1_000_000_000;
/// As above, where things go wrong.
const LATER_IN_TROUBLE: u64 = 4_000_000_000;
/// More than that is starving: a call of the highest priority counts as 224 arrivals earlier.
const PASSED_MAX: u32 = 350;

#[derive(Debug)]
struct Call {
    who: Who,
    res: Res,
    mode: LockMode,
    flags: Flags,
    life: LifeNo,
    since: u64,
    passed: u32,
}

impl Call {
    /// Whether it could have been granted beside a lock of that mode.
    fn suits(&self, held: LockMode) -> bool {
        let modes = [Some(self.mode), self.flags.alternate()];
        modes
            .into_iter()
            .flatten()
            .any(|mode| mode.compatible(held))
    }

    /// Asks to be granted before others.
    fn pushes(&self) -> bool {
        let asks = [Flags::NOORDER, Flags::HEADQUE, Flags::EXPEDITE];
        asks.into_iter().any(|flag| self.flags.contains(flag))
    }
}

/// Watches fairness.
#[derive(Debug)]
pub struct Fairness {
    later: u64,
    calls: BTreeMap<(ClientNo, u64), Call>,
    /// Calls for sets, whose locks are asked for one after the other.
    sets: BTreeSet<(ClientNo, u64)>,
    inactive: BTreeSet<LifeNo>,
}

impl Fairness {
    /// `quiet`: nothing goes wrong.
    #[must_use]
    pub fn new(quiet: bool) -> Fairness {
        Fairness {
            later: if quiet { LATER } else { LATER_IN_TROUBLE },
            calls: BTreeMap::new(),
            sets: BTreeSet::new(),
            inactive: BTreeSet::new(),
        }
    }

    fn anew(&mut self, now: u64, of: impl Fn(&Call) -> bool) {
        for call in self.calls.values_mut().filter(|call| of(call)) {
            (call.since, call.passed) = (now, 0);
        }
    }

    fn granted(&mut self, who: Who, books: &Books) -> Result<(), String> {
        let Some(claim) = books.claim(who) else {
            return Ok(());
        };
        let granted = self.calls.values().find(|call| call.who == who);
        let Some(granted) = granted.filter(|call| !call.pushes()) else {
            return Ok(());
        };
        let (asked, res, mode) = (granted.since, granted.res, claim.mode);
        let (later, inactive) = (self.later, &self.inactive);
        let passed = self.calls.iter_mut().filter(|(_, call)| {
            let waits = call.who != who && call.res == res && call.since + later < asked;
            waits && !call.suits(mode) && !inactive.contains(&call.life)
        });
        for ((client, request), call) in passed {
            call.passed += 1;
            if call.passed > PASSED_MAX {
                return Err(format!(
                    "call {request} of client {client} for {} waits since {} ns, and is passed by the \
                     {}th call that came later: it starves",
                    call.mode, call.since, call.passed
                ));
            }
        }
        Ok(())
    }
}

impl Checker for Fairness {
    fn promise(&self) -> &'static str {
        "L1 fairness"
    }

    fn observe(&mut self, now: u64, fact: &Fact<'_>, books: &Books) -> Result<(), String> {
        match *fact {
            Fact::SetAsked {
                client, request, ..
            } => {
                self.sets.insert((client, request));
            }
            Fact::LockAsked {
                who,
                request,
                res,
                mode,
                flags,
                life,
                ..
            } if !self.sets.contains(&(who.client, request)) => {
                let call = Call {
                    who,
                    res,
                    mode,
                    flags,
                    life,
                    since: now,
                    passed: 0,
                };
                self.calls.insert((who.client, request), call);
            }
            Fact::Granted { who, .. } => return self.granted(who, books),
            Fact::Answered { client, request } => {
                self.calls.remove(&(client, request));
                self.sets.remove(&(client, request));
            }
            Fact::SessionOver { client } => {
                self.calls.retain(|(c, _), _| *c != client);
                self.sets.retain(|(c, _)| *c != client);
            }
            Fact::Acting { life, active } => {
                if active {
                    self.inactive.remove(&life);
                } else {
                    self.inactive.insert(life);
                }
                self.anew(now, |call| call.life == life);
            }
            Fact::View { .. } | Fact::LifeEnded { .. } => self.anew(now, |_| true),
            _ => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkers::testing::{grant, two_nodes, who};

    fn asked(client: ClientNo, request: u64, mode: LockMode) -> Fact<'static> {
        Fact::LockAsked {
            who: who(client),
            request,
            res: 0,
            mode,
            flags: Flags::NONE,
            conn: u64::from(client),
            life: 0,
        }
    }

    /// Whether the checker is content when client 2 gets so many grants while client 1 waits.
    fn content(grants: u64, later: u64, mode: LockMode) -> bool {
        let (mut checker, mut books) = (Fairness::new(true), two_nodes());
        let mut fine = checker
            .observe(0, &asked(1, 1, LockMode::Ex), &books)
            .is_ok();
        for request in 2..grants + 2 {
            let now = later + request;
            fine &= checker
                .observe(now, &asked(2, request, mode), &books)
                .is_ok();
            grant(&mut books, 2, 0, mode, request);
            let granted = Fact::Granted {
                who: who(2),
                read: None,
            };
            fine &= checker.observe(now, &granted, &books).is_ok();
            let answered = Fact::Answered { client: 2, request };
            fine &= checker.observe(now, &answered, &books).is_ok();
        }
        fine
    }

    /// Protects the net: who is passed for ever is seen, and who is passed a little, or only by what it
    /// could have been granted beside, or by those who came when it did, is no reason to complain.
    #[test]
    fn who_starves_is_seen() {
        assert!(!content(400, 2 * LATER, LockMode::Pr));
        assert!(content(300, 2 * LATER, LockMode::Pr));
        assert!(content(400, 2 * LATER, LockMode::Nl));
        assert!(content(400, LATER / 2, LockMode::Pr));
    }
}
