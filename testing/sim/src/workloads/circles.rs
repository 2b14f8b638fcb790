//! Takes a few locks one after the other, in any order and without a timeout, and keeps what it has
//! meanwhile: so that owners wait for each other in circles, which only the search for deadlocks
//! dissolves. Who is refused lets everything go.

use super::{Brain, Hands, Happened};
use crate::{
    checkers::books::Res,
    client::Command,
    dice::{Dice, MS},
};
use mainstay_base::{Flags, LockMode};
use mainstay_wire::client::{Ask, Handle};

/// Up to four locks on different resources.
#[derive(Debug, Default)]
pub struct Circles {
    held: Vec<Handle>,
    /// What waits.
    asked: Vec<Handle>,
    converting: Option<Handle>,
    releasing: u32,
    /// What is still to be asked for.
    plan: Vec<Res>,
    giving_up: bool,
}

impl Circles {
    fn rest(&mut self, hands: &mut Hands<'_>) {
        let pause = hands.dice.spread(60 * MS);
        hands.command(Command::Sleep(pause));
    }

    fn plan(&mut self, hands: &mut Hands<'_>) {
        let range = hands.terrain.circles.clone();
        let mut all: Vec<Res> = range.collect();
        if hands.dice.percent(40) {
            // As philosophers at a table: one after the next, in a circle as long as there are
            // resources.
            let seat = hands.client as usize % all.len();
            let next = (seat + 1) % all.len();
            self.plan = vec![all[next], all[seat]];
            return;
        }
        let many = hands.dice.between(2, 4).min(all.len() as u64);
        for _ in 0..many {
            let at = hands.dice.below(all.len() as u64) as usize;
            self.plan.push(all.swap_remove(at));
        }
        if hands.dice.percent(20) {
            let priority = hands.dice.below(3) as u8;
            hands.command(Command::Ask(Ask::SetDeadlockPriority { priority }));
        }
    }

    fn step(&mut self, hands: &mut Hands<'_>) {
        if self.releasing > 0 {
            return;
        }
        let waits = !self.asked.is_empty() || self.converting.is_some();
        // Who waits keeps what it has to the very end: nothing else is to dissolve a circle.
        if self.giving_up || (hands.draining && !waits) {
            return self.release(hands);
        }
        if waits {
            return;
        }
        // Now and then two at once.
        let at_once = if hands.dice.percent(15) { 2 } else { 1 };
        for _ in 0..at_once {
            if let Some(res) = self.plan.pop() {
                self.ask(hands, res);
            }
        }
        if self.asked.is_empty() {
            let pause = hands.dice.spread(30 * MS);
            hands.command(Command::Sleep(pause));
            self.giving_up = true;
        }
    }

    fn ask(&mut self, hands: &mut Hands<'_>, res: Res) {
        let handle = hands.new_handle();
        let mode = *hands.dice.pick(&[
            LockMode::Ex,
            LockMode::Ex,
            LockMode::Ex,
            LockMode::Pr,
            LockMode::Pr,
            LockMode::Cw,
        ]);
        let mut flags = Flags::NONE;
        match hands.dice.below(40) {
            0 => flags |= Flags::HEADQUE,
            1 => flags |= Flags::NOORDER,
            _ => {}
        }
        // Rarely a timeout, which may strike while the search goes on.
        let timeout_ms = hands
            .dice
            .percent(8)
            .then(|| hands.dice.between(20, 200) as u32);
        let blocking = hands.dice.percent(50);
        hands.command(Command::Lock {
            handle,
            res,
            mode,
            flags,
            blocking,
            timeout_ms,
        });
        self.asked.push(handle);
        if hands.dice.percent(3) {
            hands.command(Command::Cancel { handle });
        }
    }

    fn release(&mut self, hands: &mut Hands<'_>) {
        self.plan.clear();
        let converting = self.converting;
        for handle in std::mem::take(&mut self.held) {
            if Some(handle) == converting {
                self.held.push(handle);
                continue;
            }
            hands.unlock(handle);
            self.releasing += 1;
        }
        self.settled(hands);
    }

    fn settled(&mut self, hands: &mut Hands<'_>) {
        let quiet = self.asked.is_empty() && self.held.is_empty() && self.releasing == 0;
        if quiet && self.converting.is_none() {
            self.giving_up = false;
            if !hands.draining {
                self.rest(hands);
            }
        }
    }
}

impl Brain for Circles {
    fn name(&self) -> &'static str {
        "circles"
    }

    fn react(&mut self, hands: &mut Hands<'_>, happened: Happened) {
        match happened {
            Happened::Ready => self.rest(hands),
            Happened::Lost => *self = Circles::default(),
            Happened::Alarm if self.giving_up => self.release(hands),
            Happened::Alarm => {
                let idle = self.held.is_empty() && self.asked.is_empty() && self.releasing == 0;
                if idle && !hands.draining {
                    self.plan(hands);
                    self.step(hands);
                }
            }
            Happened::Granted(handle, _) => {
                if self.converting == Some(handle) {
                    self.converting = None;
                } else {
                    self.asked.retain(|h| *h != handle);
                    self.held.push(handle);
                    let stays = !self.giving_up && !hands.draining;
                    if stays && self.converting.is_none() && hands.dice.percent(10) {
                        self.converting = Some(handle);
                        hands.command(Command::Convert {
                            handle,
                            mode: LockMode::Ex,
                            flags: Flags::NONE,
                            value: None,
                            timeout_ms: None,
                        });
                    }
                }
                self.step(hands);
            }
            Happened::Refused(handle, _) => {
                self.asked.retain(|h| *h != handle);
                if self.converting == Some(handle) {
                    self.converting = None;
                }
                self.giving_up = true;
                self.step(hands);
            }
            Happened::Unlocked(_) => {
                self.releasing = self.releasing.saturating_sub(1);
                // Something may have been granted meanwhile.
                if self.releasing == 0 {
                    self.release(hands);
                }
            }
            Happened::Drain => self.step(hands),
            _ => {}
        }
    }
}
