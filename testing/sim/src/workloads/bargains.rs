//! Takes less than it asked for: alternates, and conversions that would rather be demoted than
//! refused, or promise to let go. One lock with a value block, converted up and down.

use super::{Brain, Hands, Happened, counters::block_of};
use crate::{
    client::Command,
    dice::{Dice, MS},
};
use mainstay_base::{Flags, LockMode, ValueBlock};
use mainstay_wire::{client::Handle, lock::Refusal};

use LockMode::{Cr, Cw, Ex, Nl, Pr, Pw};

/// One lock.
#[derive(Debug, Default)]
pub struct Bargains {
    handle: Option<Handle>,
    mode: Option<LockMode>,
    busy: bool,
    /// The call under way has promised to let go.
    promised: bool,
    /// The call under way may take the mode that the lock has.
    agreed: bool,
    /// The call under way publishes.
    publishing: bool,
    /// What is under way is the release.
    leaving: bool,
    cancelling: bool,
    /// Somebody waits for it.
    in_the_way: bool,
    serial: u32,
}

/// An alternate that fits a call, if there is one.
fn alternate(from: LockMode, to: LockMode) -> Option<Flags> {
    let fits = |alternate: LockMode| alternate.covers(from) && !alternate.covers(to);
    if fits(Pr) {
        Some(Flags::ALTPR)
    } else {
        fits(Cw).then_some(Flags::ALTCW)
    }
}

impl Bargains {
    fn rest(&mut self, hands: &mut Hands<'_>) {
        let pause = hands.dice.spread(20 * MS);
        hands.command(Command::Sleep(pause));
    }

    fn value(&mut self, hands: &Hands<'_>) -> ValueBlock {
        self.serial += 1;
        block_of(u64::from(self.serial), hands.client, self.serial)
    }

    fn release(&mut self, hands: &mut Hands<'_>) {
        let Some(handle) = self.handle.filter(|_| !self.busy) else {
            return;
        };
        self.busy = true;
        self.leaving = true;
        if self.mode.is_some_and(LockMode::writes_value) && hands.valid && hands.dice.percent(60) {
            let value = Some(self.value(hands));
            let flags = Flags::VALBLK;
            hands.command(Command::Unlock {
                handle,
                flags,
                value,
            });
        } else {
            hands.unlock(handle);
        }
    }

    /// Lets go although a call waits. Publishes only where the mode can only have grown.
    fn force(&mut self, hands: &mut Hands<'_>) {
        let Some(handle) = self
            .handle
            .filter(|_| self.busy && !self.publishing && !self.leaving)
        else {
            return;
        };
        self.leaving = true;
        let writer = self.mode.is_some_and(LockMode::writes_value) && hands.valid && !self.agreed;
        let mut flags = Flags::FORCEUNLOCK;
        let mut value = None;
        if writer && hands.dice.percent(70) {
            flags |= Flags::VALBLK;
            value = Some(self.value(hands));
        }
        hands.command(Command::Unlock {
            handle,
            flags,
            value,
        });
    }

    fn cancel(&mut self, hands: &mut Hands<'_>) {
        let may = self.busy && !self.cancelling && !self.leaving;
        if let Some(handle) = self.handle.filter(|_| may) {
            self.cancelling = true;
            hands.command(Command::Cancel { handle });
        }
    }

    fn act(&mut self, hands: &mut Hands<'_>) {
        let timeout_ms = hands
            .dice
            .percent(30)
            .then(|| hands.dice.between(5, 800) as u32);
        self.busy = true;
        self.promised = false;
        self.agreed = false;
        self.publishing = false;
        let (Some(handle), Some(from)) = (self.handle, self.mode) else {
            let handle = hands.new_handle();
            let range = hands.terrain.bargains.clone();
            let res = hands.one_of(&range);
            self.handle = Some(handle);
            let mode = *hands.dice.pick(&[Nl, Cr, Pr, Pr, Cw, Pw, Ex]);
            let mut flags = Flags::VALBLK;
            if hands.dice.percent(50) {
                flags |= alternate(Nl, mode).unwrap_or(Flags::NONE);
            }
            return hands.command(Command::Lock {
                handle,
                res,
                mode,
                flags,
                blocking: true,
                timeout_ms,
            });
        };
        let mode = *hands.dice.pick(&[Nl, Cr, Cw, Pr, Pr, Pw, Pw, Ex, Ex]);
        let mut flags = Flags::VALBLK;
        let mut value = None;
        if !from.covers(mode) {
            match hands.dice.below(10) {
                0..6 => {
                    flags |= Flags::CONVDEADLK;
                    self.agreed = true;
                }
                6 => {
                    flags |= Flags::NODLCKWT;
                    self.promised = true;
                }
                7 => flags |= Flags::NOQUEUE,
                _ => {}
            }
            if hands.dice.percent(25) {
                flags |= alternate(from, mode).unwrap_or(Flags::NONE);
            }
            if hands.dice.percent(10) {
                flags |= Flags::HEADQUE;
            }
        } else if from.writes_value() {
            value = Some(self.value(hands));
            self.publishing = true;
        }
        hands.command(Command::Convert {
            handle,
            mode,
            flags,
            value,
            timeout_ms,
        });
    }

    fn idle(&mut self, hands: &mut Hands<'_>) {
        self.busy = false;
        if self.mode.is_none() {
            self.handle = None;
            self.in_the_way = false;
        }
        if self.mode.is_some() && (hands.draining || self.in_the_way && hands.dice.percent(70)) {
            self.release(hands);
        } else if !hands.draining {
            self.rest(hands);
        }
    }
}

impl Brain for Bargains {
    fn name(&self) -> &'static str {
        "bargains"
    }

    fn react(&mut self, hands: &mut Hands<'_>, happened: Happened) {
        match happened {
            Happened::Ready => self.rest(hands),
            Happened::Lost => {
                let serial = self.serial;
                *self = Bargains {
                    serial,
                    ..Bargains::default()
                };
            }
            Happened::Alarm if self.busy => {}
            Happened::Alarm if hands.draining => self.release(hands),
            // Nothing is published while the locks may be somebody else's.
            Happened::Alarm if !hands.valid => self.rest(hands),
            Happened::Alarm => {
                if self.mode.is_some() && (self.in_the_way || hands.dice.percent(15)) {
                    self.release(hands);
                } else {
                    self.act(hands);
                }
            }
            Happened::Granted(_, granted) => {
                // What stood in others' way before may not any more; the master tells anew.
                self.in_the_way = false;
                self.mode = Some(granted.mode);
                self.idle(hands);
            }
            Happened::Demoted(_) => {
                self.mode = Some(Nl);
                self.in_the_way = false;
                match hands.dice.below(10) {
                    0..3 => self.cancel(hands),
                    3 => self.force(hands),
                    _ => {}
                }
            }
            Happened::Refused(_, refusal) => {
                if matches!(refusal, Refusal::AfterDemotion(_)) {
                    self.mode = Some(Nl);
                }
                self.idle(hands);
            }
            Happened::CancelAnswered(_) => self.cancelling = false,
            Happened::Blocking(..) => {
                self.in_the_way = true;
                if self.busy && (self.promised || hands.dice.percent(20)) {
                    match hands.dice.percent(50) {
                        true => self.cancel(hands),
                        false => self.force(hands),
                    }
                }
            }
            Happened::Unlocked(_) => {
                self.handle = None;
                self.mode = None;
                self.in_the_way = false;
                self.leaving = false;
                self.idle(hands);
            }
            Happened::Drain if self.mode.is_some() => self.release(hands),
            _ => {}
        }
    }
}
