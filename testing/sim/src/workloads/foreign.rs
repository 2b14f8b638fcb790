//! Locks in the lockspace that follows others' rules, as programs do that were written for those, and as
//! their doors will: what is refused elsewhere, or done otherwise.

use super::{Brain, Hands, Happened, counters::block_of};
use crate::{
    client::Command,
    dice::{Dice, MS},
};
use mainstay_base::{Compat, Flags, LockMode, ValueBlock};
use mainstay_wire::client::Handle;

use LockMode::{Cr, Cw, Ex, Nl, Pr, Pw};

/// One lock at a time, and with the SA Forum's rules sometimes a second one that is one too many.
#[derive(Debug, Default)]
pub struct Foreign {
    handle: Option<Handle>,
    mode: Option<LockMode>,
    /// It is held, and was asked for with its value block.
    valblk: bool,
    busy: bool,
    second: Option<Handle>,
    serial: u32,
}

impl Foreign {
    fn rest(&mut self, hands: &mut Hands<'_>) {
        let pause = hands.dice.spread(20 * MS);
        hands.command(Command::Sleep(pause));
    }

    /// Flags that such a program may set.
    fn flags(&self, hands: &mut Hands<'_>, converts: bool) -> Flags {
        match hands.terrain.compat {
            Compat::Saf | Compat::Strict => Flags::NONE,
            // What is read and what is published go together, or nobody knows what the rest was.
            Compat::Vms => Flags::VALBLK,
            Compat::Linux => {
                let mut flags = Flags::NONE;
                let without_effect = [
                    (Flags::VALBLK, 50),
                    (Flags::NOQUEUEBAST, 20),
                    (Flags::NODLCKBLK, 20),
                    (Flags::IVVALBLK, if converts { 0 } else { 20 }),
                ];
                for (flag, percent) in without_effect {
                    if hands.dice.percent(percent) {
                        flags |= flag;
                    }
                }
                flags
            }
        }
    }

    /// With VMS' rules short and long ones, whose ends differ.
    fn value(&mut self, hands: &mut Hands<'_>) -> ValueBlock {
        self.serial += 1;
        let short = block_of(u64::from(self.serial), hands.client, self.serial);
        if hands.terrain.compat != Compat::Vms || hands.dice.percent(60) {
            return short;
        }
        let bytes = short.as_bytes().repeat(4);
        ValueBlock::new(bytes).expect("64 bytes fit")
    }

    fn lock(&mut self, hands: &mut Hands<'_>, handle: Handle, mode: LockMode, flags: Flags) {
        let range = hands.terrain.foreign.clone();
        let res = range.start;
        let timeout_ms = Some(hands.dice.between(20, 600) as u32);
        hands.command(Command::Lock {
            handle,
            res,
            mode,
            flags,
            blocking: true,
            timeout_ms,
        });
    }

    fn begin(&mut self, hands: &mut Hands<'_>) {
        let handle = hands.new_handle();
        let modes: &[LockMode] = match hands.terrain.compat {
            Compat::Saf => &[Pr, Ex, Ex],
            _ => &[Nl, Nl, Cr, Pr, Cw, Pw, Ex, Ex],
        };
        let mode = *hands.dice.pick(modes);
        let flags = self.flags(hands, false);
        self.handle = Some(handle);
        self.busy = true;
        self.valblk = flags.contains(Flags::VALBLK);
        self.lock(hands, handle, mode, flags);
    }

    fn act(&mut self, hands: &mut Hands<'_>, handle: Handle, from: LockMode) {
        if hands.terrain.compat == Compat::Saf && from == Ex && hands.dice.percent(50) {
            let second = hands.new_handle();
            self.second = Some(second);
            return self.lock(hands, second, Ex, Flags::NONE);
        }
        if hands.dice.percent(12) {
            return hands.command(Command::Exit);
        }
        // Nothing waits, so it comes too late.
        if hands.dice.percent(15) {
            hands.command(Command::Cancel { handle });
            return self.rest(hands);
        }
        self.busy = true;
        if hands.dice.percent(35) || hands.terrain.compat == Compat::Saf {
            return hands.unlock(handle);
        }
        let mode = *hands.dice.pick(&[Nl, Nl, Cr, Pr, Pw, Ex, Ex]);
        let flags = self.flags(hands, true);
        let publishes = from.writes_value() && !(from == Pw && mode == Ex);
        let publishes = publishes && flags.contains(Flags::VALBLK) && self.valblk;
        let value = publishes.then(|| self.value(hands));
        let flags = match publishes || !from.writes_value() {
            true => flags,
            false => flags.without(Flags::VALBLK),
        };
        self.valblk = flags.contains(Flags::VALBLK);
        let timeout_ms = Some(hands.dice.between(5, 300) as u32);
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
        }
        match self.handle {
            Some(handle) if hands.draining && self.second.is_none() => {
                self.busy = true;
                hands.unlock(handle);
            }
            None if hands.draining => {}
            _ => self.rest(hands),
        }
    }
}

impl Brain for Foreign {
    fn name(&self) -> &'static str {
        "foreign"
    }

    fn react(&mut self, hands: &mut Hands<'_>, happened: Happened) {
        match happened {
            Happened::Ready => self.rest(hands),
            Happened::Lost => {
                let serial = self.serial;
                *self = Foreign {
                    serial,
                    ..Foreign::default()
                };
            }
            Happened::Alarm if self.busy || self.second.is_some() => {}
            Happened::Alarm => match (self.handle, self.mode) {
                (Some(_), Some(_)) if hands.draining => self.idle(hands),
                _ if hands.draining => {}
                // Nothing is published while the locks may be somebody else's.
                _ if !hands.valid => self.rest(hands),
                (Some(handle), Some(mode)) => self.act(hands, handle, mode),
                _ => self.begin(hands),
            },
            Happened::Granted(handle, granted) if self.handle == Some(handle) => {
                self.mode = Some(granted.mode);
                self.idle(hands);
            }
            // It was not to be, which is noted elsewhere.
            Happened::Granted(handle, _) => hands.unlock(handle),
            Happened::Refused(handle, _) if self.second == Some(handle) => {
                self.second = None;
                self.idle(hands);
            }
            Happened::Refused(..) => self.idle(hands),
            Happened::Unlocked(handle) if self.second == Some(handle) => {
                self.second = None;
                self.idle(hands);
            }
            Happened::Unlocked(_) => {
                self.mode = None;
                self.idle(hands);
            }
            Happened::Drain if !self.busy && self.second.is_none() => self.idle(hands),
            _ => {}
        }
    }
}
