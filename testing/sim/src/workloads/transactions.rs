//! Several sessions, also on several nodes and of several users, that name transactions and groups as
//! the owners of their locks. Each takes its locks in one order, so that no session ever waits for
//! itself by way of others: circles come only from several sessions being one owner.
//!
//! Now and then four of them dance, so that a circle is closed long after all of its waits have begun,
//! by a conversion that passes those who wait: one keeps a resource in CR and converts to CW, beside
//! one in whose way that is not, and for another session of its transaction who waits elsewhere.

use super::{Brain, Hands, Happened};
use crate::{
    checkers::books::Res,
    client::Command,
    dice::{Dice, MS},
};
use mainstay_base::{Flags, LockMode, Owner};
use mainstay_wire::client::{Ask, Handle};

/// The transaction that dances.
const DANCER: u64 = 9;
/// So long a wait lasts at most: what a transaction does to itself nobody else dissolves.
const PATIENCE_MS: u32 = 5000;

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Lock(Res, LockMode),
    /// Converts the first lock.
    Convert(LockMode),
    /// Nothing for so long.
    Sleep(u64),
}

/// One session, with up to three locks.
#[derive(Debug, Default)]
pub struct Transactions {
    held: Vec<Handle>,
    /// What is asked for, or converts.
    waits: Option<Handle>,
    /// Last first.
    plan: Vec<Step>,
    releasing: u32,
}

impl Transactions {
    fn rest(&mut self, hands: &mut Hands<'_>) {
        let pause = hands.dice.spread(60 * MS);
        hands.command(Command::Sleep(pause));
    }

    fn begin(&mut self, hands: &mut Hands<'_>) {
        let dances = hands.dice.percent(40);
        let (owner, plan) = match dances {
            true => dance(hands),
            false => free(hands),
        };
        hands.command(Command::Ask(Ask::SetOwner { owner }));
        self.plan = plan;
        self.plan.reverse();
        self.go_on(hands);
    }

    fn go_on(&mut self, hands: &mut Hands<'_>) {
        if self.waits.is_some() || self.releasing > 0 {
            return; // Who waits keeps what it has: nothing else is to dissolve a circle.
        }
        match self.plan.pop().filter(|_| !hands.draining) {
            Some(Step::Lock(res, mode)) => {
                let handle = hands.new_handle();
                hands.command(Command::Lock {
                    handle,
                    res,
                    mode,
                    flags: Flags::NONE,
                    blocking: false,
                    timeout_ms: Some(PATIENCE_MS),
                });
                self.waits = Some(handle);
            }
            Some(Step::Convert(mode)) => {
                if let Some(&handle) = self.held.first() {
                    hands.command(Command::Convert {
                        handle,
                        mode,
                        flags: Flags::NONE,
                        value: None,
                        timeout_ms: Some(PATIENCE_MS),
                    });
                    self.waits = Some(handle);
                }
            }
            Some(Step::Sleep(pause)) => hands.command(Command::Sleep(pause)),
            None => self.release(hands),
        }
    }

    fn release(&mut self, hands: &mut Hands<'_>) {
        self.plan.clear();
        for handle in std::mem::take(&mut self.held) {
            hands.unlock(handle);
            self.releasing += 1;
        }
        if self.releasing == 0 && !hands.draining {
            self.rest(hands);
        }
    }
}

/// One or two locks after each other, for one of a few owners.
fn free(hands: &mut Hands<'_>) -> (Owner, Vec<Step>) {
    let owner = *hands.dice.pick(&[
        Owner::Transaction(1),
        Owner::Transaction(1),
        Owner::Transaction(2),
        Owner::Group(1),
        Owner::Session,
    ]);
    let range = hands.terrain.transacted.clone();
    let mut names = vec![hands.one_of(&range), hands.one_of(&range)];
    names.sort_unstable();
    names.dedup();
    let mut plan = Vec::new();
    for res in names {
        let mode = *hands.dice.pick(&[LockMode::Ex, LockMode::Ex, LockMode::Pr]);
        plan.push(Step::Lock(res, mode));
        plan.push(Step::Sleep(hands.dice.spread(20 * MS)));
    }
    (owner, plan)
}

/// A part in the dance, by the client's number: two of them are of one user.
fn dance(hands: &mut Hands<'_>) -> (Owner, Vec<Step>) {
    let range = hands.terrain.transacted.clone();
    let (a, b) = (range.end, range.end + 1);
    let pause = |hands: &mut Hands<'_>, from, to| Step::Sleep(hands.dice.between(from, to) * MS);
    match hands.client % 4 {
        0 => {
            let wait = pause(hands, 800, 2000);
            let plan = vec![
                Step::Lock(a, LockMode::Cr),
                wait,
                Step::Convert(LockMode::Cw),
                Step::Sleep(700 * MS),
            ];
            (Owner::Transaction(DANCER), plan)
        }
        1 => {
            let wait = pause(hands, 50, 200);
            let plan = vec![
                Step::Lock(b, LockMode::Ex),
                wait,
                Step::Lock(a, LockMode::Pr),
            ];
            (Owner::Session, plan)
        }
        2 => {
            let wait = pause(hands, 0, 100);
            let plan = vec![wait, Step::Lock(b, LockMode::Ex)];
            (Owner::Transaction(DANCER), plan)
        }
        _ => {
            let wait = pause(hands, 1500, 2500);
            (Owner::Session, vec![Step::Lock(a, LockMode::Cw), wait])
        }
    }
}

impl Brain for Transactions {
    fn name(&self) -> &'static str {
        "transactions"
    }

    fn react(&mut self, hands: &mut Hands<'_>, happened: Happened) {
        match happened {
            Happened::Ready => self.rest(hands),
            Happened::Lost => *self = Transactions::default(),
            Happened::Alarm => {
                let idle = self.held.is_empty() && self.waits.is_none() && self.releasing == 0;
                match idle && self.plan.is_empty() {
                    true if hands.draining => {}
                    true => self.begin(hands),
                    false => self.go_on(hands),
                }
            }
            Happened::Granted(handle, _) => {
                self.waits = None;
                if !self.held.contains(&handle) {
                    self.held.push(handle);
                }
                self.go_on(hands);
            }
            Happened::Refused(..) => {
                self.waits = None;
                self.release(hands);
            }
            Happened::Unlocked(_) => {
                self.releasing = self.releasing.saturating_sub(1);
                if self.releasing == 0 && !hands.draining {
                    self.rest(hands);
                }
            }
            Happened::Drain if self.waits.is_none() => self.release(hands),
            _ => {}
        }
    }
}
