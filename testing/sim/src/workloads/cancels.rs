//! Asks and changes its mind: cancels that race with grants, refusals and timeouts.

use super::{Brain, Hands, Happened};
use crate::{
    client::Command,
    dice::{Dice, MS},
};
use mainstay_base::{Flags, LockMode};
use mainstay_wire::client::Handle;

/// One lock at a time, most of them cancelled.
#[derive(Debug, Default)]
pub struct Cancels {
    asked: Option<Handle>,
    held: Option<Handle>,
    cancelling: bool,
}

impl Cancels {
    fn settle(&mut self, hands: &mut Hands<'_>) {
        if self.asked.is_some() || self.cancelling {
            return;
        }
        if let Some(handle) = self.held.take() {
            hands.unlock(handle);
        } else if !hands.draining {
            let pause = hands.dice.spread(20 * MS);
            hands.command(Command::Sleep(pause));
        }
    }
}

impl Brain for Cancels {
    fn name(&self) -> &'static str {
        "cancels"
    }

    fn react(&mut self, hands: &mut Hands<'_>, happened: Happened) {
        match happened {
            Happened::Ready => self.settle(hands),
            Happened::Lost => *self = Cancels::default(),
            Happened::Alarm => match self.asked {
                Some(handle) if !self.cancelling => {
                    self.cancelling = true;
                    hands.command(Command::Cancel { handle });
                }
                None if !self.cancelling && self.held.is_none() && !hands.draining => {
                    let handle = hands.new_handle();
                    let hot = hands.terrain.hot.clone();
                    let res = hands.one_of(&hot);
                    let mode = *hands.dice.pick(&[LockMode::Pr, LockMode::Cw, LockMode::Ex]);
                    let timeout_ms = hands
                        .dice
                        .percent(30)
                        .then(|| hands.dice.between(1, 30) as u32);
                    hands.command(Command::Lock {
                        handle,
                        res,
                        mode,
                        flags: Flags::NONE,
                        blocking: false,
                        timeout_ms,
                    });
                    self.asked = Some(handle);
                    if hands.dice.percent(30) {
                        self.cancelling = true;
                        hands.command(Command::Cancel { handle });
                    } else {
                        let patience = hands.dice.spread(10 * MS);
                        hands.command(Command::Sleep(patience));
                    }
                }
                _ => {}
            },
            Happened::Granted(handle, _) => {
                self.asked = None;
                self.held = Some(handle);
                self.settle(hands);
            }
            Happened::Refused(_, _) => {
                self.asked = None;
                self.settle(hands);
            }
            Happened::CancelAnswered(_) => {
                self.cancelling = false;
                self.settle(hands);
            }
            Happened::Unlocked(_) => self.settle(hands),
            _ => {}
        }
    }
}
