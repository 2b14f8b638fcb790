//! Takes persistent locks with value blocks and dies with them; its successors adopt what it left
//! behind, or purge it, or wait until it expires.

use super::{Brain, Hands, Happened, counters::block_of};
use crate::{
    client::Command,
    dice::{Dice, MS},
};
use mainstay_base::{Flags, LockMode, ValueBlock};
use mainstay_wire::{
    client::{Answer, Ask, Handle},
    orphan::OrphanWish,
};

use LockMode::{Cr, Ex, Nl, Pr, Pw};

/// One lock at a time, persistent most of the time.
#[derive(Debug, Default)]
pub struct Orphans {
    handle: Option<Handle>,
    mode: Option<LockMode>,
    busy: bool,
    /// A purge or a question is under way.
    asking: bool,
    /// While draining: how often in a row nothing was left to be purged.
    clean: u32,
    serial: u32,
}

/// How often nothing must be left behind: what a client leaves whose conversion is being taken back
/// comes late.
const CLEAN: u32 = 2;

impl Orphans {
    fn rest(&mut self, hands: &mut Hands<'_>) {
        let pause = hands.dice.spread(30 * MS);
        hands.command(Command::Sleep(pause));
    }

    fn flags(hands: &mut Hands<'_>) -> Flags {
        match hands.dice.percent(85) {
            true => Flags::VALBLK | Flags::PERSISTENT,
            false => Flags::VALBLK,
        }
    }

    fn value(&mut self, hands: &Hands<'_>) -> ValueBlock {
        self.serial += 1;
        block_of(u64::from(self.serial), hands.client, self.serial)
    }

    /// Gets hold of a lock, new or left behind, or gets others' out of the way.
    fn begin(&mut self, hands: &mut Hands<'_>) {
        let range = hands.terrain.orphans.clone();
        let res = hands.one_of(&range);
        match hands.dice.below(20) {
            0..9 => {
                let handle = hands.new_handle();
                self.handle = Some(handle);
                self.busy = true;
                let mode = *hands.dice.pick(&[Ex, Ex, Pw, Pr, Pr]);
                let flags = Orphans::flags(hands);
                let here = hands.dice.percent(50);
                hands.command(match here {
                    true => Command::Adopt {
                        handle,
                        res,
                        mode,
                        flags,
                    },
                    false => Command::AdoptAnywhere {
                        handle,
                        res,
                        mode,
                        flags,
                    },
                });
                // So some die while it is under way.
                if hands.dice.percent(10) {
                    hands.command(Command::Exit);
                }
            }
            9..17 => {
                let handle = hands.new_handle();
                self.handle = Some(handle);
                self.busy = true;
                let mode = *hands.dice.pick(&[Ex, Ex, Pw, Pr, Pr, Cr, Nl]);
                let flags = Orphans::flags(hands);
                let timeout_ms = Some(hands.dice.between(20, 800) as u32);
                hands.command(Command::Lock {
                    handle,
                    res,
                    mode,
                    flags,
                    blocking: true,
                    timeout_ms,
                });
            }
            17 => self.purge(hands),
            _ => {
                self.asking = true;
                let wish = OrphanWish::default();
                let (limit, after) = (2, None);
                hands.command(Command::Ask(Ask::Orphans { wish, limit, after }));
            }
        }
    }

    fn purge(&mut self, hands: &mut Hands<'_>) {
        self.asking = true;
        let wish = OrphanWish::default();
        hands.command(Command::Ask(Ask::PurgeOrphans { wish }));
    }

    fn act(&mut self, hands: &mut Hands<'_>, handle: Handle, from: LockMode) {
        if hands.dice.percent(25) {
            return hands.command(Command::Exit);
        }
        self.busy = true;
        if hands.dice.percent(35) {
            return hands.unlock(handle);
        }
        let mode = *hands.dice.pick(&[Nl, Cr, Pr, Pr, Pw, Ex, Ex]);
        let publishes = from.writes_value() && !(from == Pw && mode == Ex);
        let value = publishes.then(|| self.value(hands));
        let flags = Orphans::flags(hands);
        let timeout_ms = Some(hands.dice.between(5, 500) as u32);
        hands.command(Command::Convert {
            handle,
            mode,
            flags,
            value,
            timeout_ms,
        });
        // So some die while it is under way.
        if hands.dice.percent(10) {
            hands.command(Command::Exit);
        }
    }

    fn idle(&mut self, hands: &mut Hands<'_>) {
        self.busy = false;
        if self.mode.is_none() {
            self.handle = None;
        }
        self.go_on(hands);
    }

    /// What to do with nothing under way.
    fn go_on(&mut self, hands: &mut Hands<'_>) {
        if self.busy || self.asking {
            return;
        }
        match self.handle.filter(|_| self.mode.is_some()) {
            Some(handle) if hands.draining => {
                self.busy = true;
                hands.unlock(handle);
            }
            None if hands.draining && self.clean < CLEAN => self.rest(hands),
            None if hands.draining => {}
            _ => self.rest(hands),
        }
    }
}

impl Brain for Orphans {
    fn name(&self) -> &'static str {
        "orphans"
    }

    fn react(&mut self, hands: &mut Hands<'_>, happened: Happened) {
        match happened {
            Happened::Ready => self.rest(hands),
            Happened::Lost => {
                let serial = self.serial;
                *self = Orphans {
                    serial,
                    ..Orphans::default()
                };
            }
            Happened::Alarm if self.busy || self.asking => {}
            Happened::Alarm => match (self.handle, self.mode) {
                (Some(_), Some(_)) if hands.draining => self.go_on(hands),
                (None, _) if hands.draining => self.purge(hands),
                // Nothing is published while the locks may be somebody else's.
                _ if !hands.valid => self.rest(hands),
                (Some(handle), Some(mode)) => self.act(hands, handle, mode),
                _ => self.begin(hands),
            },
            Happened::Granted(_, granted) => {
                self.mode = Some(granted.mode);
                self.idle(hands);
            }
            Happened::Refused(..) => self.idle(hands),
            Happened::Unlocked(_) => {
                self.mode = None;
                self.idle(hands);
            }
            Happened::Told(result) => {
                self.asking = false;
                if let (true, Ok(Answer::OrphansPurged(report))) = (hands.draining, *result) {
                    let clean = report.purged == 0 && report.silent.is_empty();
                    self.clean = if clean { self.clean + 1 } else { 0 };
                }
                self.go_on(hands);
            }
            Happened::Drain => self.go_on(hands),
            _ => {}
        }
    }
}
