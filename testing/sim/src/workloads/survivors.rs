//! Takes locks that survive their nodes, and dies with them or with its node; its successors, on
//! whichever node, adopt what was left behind, or purge it.

use super::{Brain, Hands, Happened};
use crate::{
    client::Command,
    dice::{Dice, MS},
};
use mainstay_base::{Flags, LockMode};
use mainstay_wire::{
    client::{Answer, Ask, Handle},
    orphan::OrphanWish,
};

use LockMode::{Cr, Ex, Pr, Pw};

/// One lock at a time.
#[derive(Debug, Default)]
pub struct Survivors {
    handle: Option<Handle>,
    mode: Option<LockMode>,
    busy: bool,
    /// A purge is under way.
    asking: bool,
    /// While draining: how often in a row nothing was left to be purged.
    clean: u32,
}

/// How often nothing must be left behind.
const CLEAN: u32 = 2;

impl Survivors {
    fn rest(&mut self, hands: &mut Hands<'_>) {
        let pause = hands.dice.spread(40 * MS);
        hands.command(Command::Sleep(pause));
    }

    fn begin(&mut self, hands: &mut Hands<'_>) {
        let range = hands.terrain.surviving.clone();
        let res = hands.one_of(&range);
        if hands.dice.percent(6) {
            return self.purge(hands);
        }
        let handle = hands.new_handle();
        self.handle = Some(handle);
        self.busy = true;
        let mode = *hands.dice.pick(&[Ex, Ex, Ex, Pw, Pr, Pr, Cr]);
        if hands.dice.percent(45) {
            let flags = Flags::PERSISTENT;
            return hands.command(Command::AdoptAnywhere {
                handle,
                res,
                mode,
                flags,
            });
        }
        let noqueue = hands.dice.percent(20);
        let flags = if noqueue { Flags::NOQUEUE } else { Flags::NONE } | Flags::SURVIVE;
        let blocking = hands.dice.percent(70);
        let timeout_ms = Some(hands.dice.between(10, 800) as u32);
        hands.command(Command::Lock {
            handle,
            res,
            mode,
            flags,
            blocking,
            timeout_ms,
        });
        // Some die, or think better of it, while the log has yet to be told.
        match hands.dice.below(20) {
            0 => hands.command(Command::Exit),
            1 => hands.command(Command::Cancel { handle }),
            _ => {}
        }
    }

    fn purge(&mut self, hands: &mut Hands<'_>) {
        self.asking = true;
        let wish = OrphanWish::default();
        hands.command(Command::Ask(Ask::PurgeOrphans { wish }));
    }

    fn act(&mut self, hands: &mut Hands<'_>, handle: Handle) {
        match hands.dice.below(10) {
            0..3 => hands.command(Command::Exit),
            3..6 => {
                self.busy = true;
                hands.unlock(handle);
                // The log has yet to be told.
                if hands.dice.percent(20) {
                    hands.command(Command::Exit);
                }
            }
            _ => self.rest(hands),
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
            None if hands.draining && self.clean >= CLEAN => {}
            _ => self.rest(hands),
        }
    }
}

impl Brain for Survivors {
    fn name(&self) -> &'static str {
        "survivors"
    }

    fn react(&mut self, hands: &mut Hands<'_>, happened: Happened) {
        match happened {
            Happened::Ready => self.rest(hands),
            // Whoever comes after has another name in the log.
            Happened::Lost => hands.command(Command::Exit),
            Happened::Alarm if self.busy || self.asking => {}
            Happened::Alarm => match (self.handle, self.mode) {
                (Some(_), Some(_)) if hands.draining => self.go_on(hands),
                (None, _) if hands.draining => self.purge(hands),
                (Some(handle), Some(_)) => self.act(hands, handle),
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
