//! Holds several locks at once, always with a timeout, so that a circle of waiters dissolves.

use super::{Brain, Hands, Happened};
use crate::{
    client::Command,
    dice::{Dice, MS},
};
use mainstay_base::{Flags, LockMode};
use mainstay_wire::client::Handle;

/// Up to six locks.
#[derive(Debug, Default)]
pub struct Several {
    held: Vec<Handle>,
    asked: u32,
    releasing: u32,
}

impl Several {
    fn settle(&mut self, hands: &mut Hands<'_>) {
        if self.asked > 0 || self.releasing > 0 {
            return;
        }
        if hands.draining && !self.held.is_empty() {
            self.release(hands);
        } else if !hands.draining {
            let pause = hands.dice.spread(50 * MS);
            hands.command(Command::Sleep(pause));
        }
    }

    fn release(&mut self, hands: &mut Hands<'_>) {
        for handle in std::mem::take(&mut self.held) {
            hands.unlock(handle);
            self.releasing += 1;
        }
    }
}

impl Brain for Several {
    fn name(&self) -> &'static str {
        "several"
    }

    fn react(&mut self, hands: &mut Hands<'_>, happened: Happened) {
        match happened {
            Happened::Ready => self.settle(hands),
            Happened::Lost => *self = Several::default(),
            Happened::Alarm if self.asked > 0 || self.releasing > 0 => {}
            Happened::Alarm if !self.held.is_empty() => self.release(hands),
            Happened::Alarm if !hands.draining => {
                for _ in 0..hands.dice.between(2, 6) {
                    let handle = hands.new_handle();
                    let range = if hands.dice.percent(30) {
                        hands.terrain.hot.clone()
                    } else {
                        hands.terrain.cold.clone()
                    };
                    let res = hands.one_of(&range);
                    let mode = *hands.dice.pick(&LockMode::ALL);
                    let blocking = hands.dice.percent(50);
                    let timeout_ms = Some(hands.dice.between(50, 3000) as u32);
                    hands.command(Command::Lock {
                        handle,
                        res,
                        mode,
                        flags: Flags::NONE,
                        blocking,
                        timeout_ms,
                    });
                    self.asked += 1;
                }
            }
            Happened::Granted(handle, _) => {
                self.asked = self.asked.saturating_sub(1);
                self.held.push(handle);
                self.settle(hands);
            }
            Happened::Refused(..) => {
                self.asked = self.asked.saturating_sub(1);
                self.settle(hands);
            }
            Happened::Unlocked(_) => {
                self.releasing = self.releasing.saturating_sub(1);
                self.settle(hands);
            }
            Happened::Drain => self.settle(hands),
            _ => {}
        }
    }
}
