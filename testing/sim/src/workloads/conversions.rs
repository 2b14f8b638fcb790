//! Keeps a lock and converts it at random, PR to CW and back included, until a deadlock, a timeout
//! or the mood makes it let go.

use super::{Brain, Hands, Happened};
use crate::{
    client::Command,
    dice::{Dice, MS},
};
use mainstay_base::{Flags, LockMode};
use mainstay_wire::client::Handle;

/// Conversions for which QUECVT makes sense.
fn may_queue(from: LockMode, to: LockMode) -> bool {
    from != to && !from.covers(to)
}

/// One lock.
#[derive(Debug, Default)]
pub struct Conversions {
    handle: Option<Handle>,
    mode: Option<LockMode>,
    busy: bool,
}

impl Conversions {
    fn rest(&mut self, hands: &mut Hands<'_>) {
        let pause = hands.dice.spread(25 * MS);
        hands.command(Command::Sleep(pause));
    }

    fn release(&mut self, hands: &mut Hands<'_>) {
        if let Some(handle) = self.handle
            && !self.busy
        {
            hands.unlock(handle);
            self.busy = true;
        }
    }

    fn act(&mut self, hands: &mut Hands<'_>) {
        let timeout_ms = hands
            .dice
            .percent(30)
            .then(|| hands.dice.between(5, 1500) as u32);
        let mode = *hands.dice.pick(&LockMode::ALL);
        self.busy = true;
        match (self.handle, self.mode) {
            (Some(handle), Some(from)) => {
                let mut flags = Flags::NONE;
                match hands.dice.below(10) {
                    0 | 1 => flags = Flags::NOQUEUE,
                    2 if may_queue(from, mode) => flags = Flags::QUECVT,
                    3 => flags = Flags::NOORDER,
                    4 => flags = Flags::HEADQUE,
                    _ => {}
                }
                hands.command(Command::Convert {
                    handle,
                    mode,
                    flags,
                    value: None,
                    timeout_ms,
                });
            }
            _ => {
                let handle = hands.new_handle();
                let range = hands.terrain.converted.clone();
                let res = hands.one_of(&range);
                self.handle = Some(handle);
                let mode = if hands.dice.percent(60) {
                    LockMode::Nl
                } else {
                    mode
                };
                let blocking = hands.dice.percent(50);
                hands.command(Command::Lock {
                    handle,
                    res,
                    mode,
                    flags: Flags::NONE,
                    blocking,
                    timeout_ms,
                });
            }
        }
    }
}

impl Brain for Conversions {
    fn name(&self) -> &'static str {
        "conversions"
    }

    fn react(&mut self, hands: &mut Hands<'_>, happened: Happened) {
        match happened {
            Happened::Ready => self.rest(hands),
            Happened::Lost => *self = Conversions::default(),
            Happened::Alarm if self.busy => {}
            Happened::Alarm if hands.draining => self.release(hands),
            Happened::Alarm => {
                if self.mode.is_some() && hands.dice.percent(20) {
                    self.release(hands);
                } else {
                    self.act(hands);
                }
            }
            Happened::Granted(_, granted) => {
                self.busy = false;
                self.mode = Some(granted.mode);
                if hands.draining {
                    self.release(hands);
                } else {
                    self.rest(hands);
                }
            }
            Happened::Refused(..) => {
                self.busy = false;
                if self.mode.is_none() {
                    self.handle = None;
                }
                // Whoever waits for us may be waiting for good, so let go rather than insist.
                if self.mode.is_some() && (hands.draining || hands.dice.percent(70)) {
                    self.release(hands);
                } else if !hands.draining {
                    self.rest(hands);
                }
            }
            Happened::Unlocked(_) => {
                *self = Conversions::default();
                if !hands.draining {
                    self.rest(hands);
                }
            }
            Happened::Drain => {
                if self.mode.is_some() {
                    self.release(hands);
                }
            }
            _ => {}
        }
    }
}
