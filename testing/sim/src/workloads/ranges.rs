//! Locks parts of a resource: takes ranges, changes them, gives some of them up, on up to two
//! resources at a time, so that owners wait for each other on one and over both.

use super::{Brain, Hands, Happened};
use crate::{
    checkers::{
        books::Res,
        s1_ranges::{CELLS, span},
    },
    client::Command,
    dice::{Dice, MS},
};
use mainstay_base::{ByteRange, Flags, LockMode};
use mainstay_wire::client::Handle;
use std::collections::BTreeMap;

/// A lock on ranges.
#[derive(Debug)]
struct Mine {
    res: Res,
    pending: bool,
    releasing: bool,
    /// Of these others were said to wait.
    wanted: Option<ByteRange>,
}

/// Up to two locks.
#[derive(Debug, Default)]
pub struct Ranges {
    mine: BTreeMap<Handle, Mine>,
}

/// Mostly short, sometimes all from somewhere on.
fn somewhere(hands: &mut Hands<'_>) -> ByteRange {
    let from = hands.dice.below(CELLS as u64) as usize;
    let len = match hands.dice.below(10) {
        0 => CELLS,
        1..4 => 1,
        _ => hands.dice.between(1, CELLS as u64 / 2) as usize,
    };
    span(from, (from + len).min(CELLS) - 1)
}

impl Ranges {
    fn sleep(hands: &mut Hands<'_>, mean: u64) {
        let pause = hands.dice.spread(mean * MS);
        hands.command(Command::Sleep(pause));
    }

    fn set(&mut self, hands: &mut Hands<'_>, handle: Handle, range: ByteRange, mode: LockMode) {
        let Some(mine) = self.mine.get_mut(&handle) else {
            return;
        };
        mine.pending = true;
        let flags = match hands.dice.percent(12) {
            true => Flags::NOQUEUE,
            false => Flags::NONE,
        };
        let timeout_ms = hands
            .dice
            .percent(20)
            .then(|| hands.dice.between(1, 2000) as u32);
        let res = mine.res;
        let blocking = hands.dice.percent(70);
        hands.command(Command::Range {
            handle,
            res,
            range,
            mode,
            flags,
            blocking,
            timeout_ms,
        });
    }

    fn release(&mut self, hands: &mut Hands<'_>, handle: Handle) {
        if let Some(mine) = self.mine.get_mut(&handle).filter(|m| !m.releasing) {
            mine.releasing = true;
            hands.command(Command::ReleaseRanges { handle });
        }
    }

    fn act(&mut self, hands: &mut Hands<'_>) {
        let idle = |mine: &Mine| !mine.pending && !mine.releasing;
        let waiting: Vec<Handle> = self
            .mine
            .iter()
            .filter(|(_, mine)| mine.pending && !mine.releasing)
            .map(|(handle, _)| *handle)
            .collect();
        if let Some(handle) = waiting.first().copied() {
            match hands.dice.below(16) {
                0 => hands.command(Command::Cancel { handle }),
                1 => self.release(hands, handle),
                _ => {}
            }
            return;
        }
        let more = match self.mine.len() {
            0 => 100,
            1 => 20,
            _ => 0,
        };
        let all = hands.terrain.ranged.clone();
        let res = hands.one_of(&all);
        // One lock on each resource, so that the masters' tale says which it is of.
        let used = self.mine.values().any(|mine| mine.res == res);
        if !used && hands.dice.percent(more) {
            let mine = Mine {
                res,
                pending: false,
                releasing: false,
                wanted: None,
            };
            self.mine.insert(hands.new_handle(), mine);
        }
        let ready: Vec<Handle> = self
            .mine
            .iter()
            .filter(|(_, mine)| idle(mine))
            .map(|(handle, _)| *handle)
            .collect();
        if ready.is_empty() {
            return;
        }
        let handle = *hands.dice.pick(&ready);
        let wanted = self.mine.get_mut(&handle).and_then(|m| m.wanted.take());
        let range = somewhere(hands);
        match hands.dice.below(20) {
            0 => self.release(hands, handle),
            1..6 => self.set(hands, handle, wanted.unwrap_or(range), LockMode::Nl),
            6..10 => self.set(hands, handle, range, LockMode::Ex),
            10..14 => self.set(hands, handle, range, LockMode::Pr),
            _ => {
                let mode = *hands.dice.pick(&LockMode::ALL);
                self.set(hands, handle, range, mode);
            }
        }
    }

    fn ended(&mut self, hands: &mut Hands<'_>, handle: Handle) {
        self.mine.remove(&handle);
        self.go_on(hands);
    }

    fn go_on(&mut self, hands: &mut Hands<'_>) {
        if !hands.draining {
            Self::sleep(hands, 15);
            return;
        }
        let idle: Vec<Handle> = self
            .mine
            .iter()
            .filter(|(_, mine)| !mine.pending)
            .map(|(handle, _)| *handle)
            .collect();
        for handle in idle {
            self.release(hands, handle);
        }
    }
}

impl Brain for Ranges {
    fn name(&self) -> &'static str {
        "ranges"
    }

    fn react(&mut self, hands: &mut Hands<'_>, happened: Happened) {
        match happened {
            Happened::Ready => {
                self.mine.clear();
                self.go_on(hands);
            }
            Happened::Lost => self.mine.clear(),
            Happened::Alarm if !hands.draining => {
                self.act(hands);
                Self::sleep(hands, 25);
            }
            Happened::RangeSet(handle, holds) | Happened::RangeRefused(handle, holds) => {
                if !holds {
                    return self.ended(hands, handle);
                }
                if let Some(mine) = self.mine.get_mut(&handle) {
                    mine.pending = false;
                }
                self.go_on(hands);
            }
            Happened::Unlocked(handle) => self.ended(hands, handle),
            Happened::RangeBlocking(handle, range, _) => {
                if let Some(mine) = self.mine.get_mut(&handle) {
                    mine.wanted = Some(range);
                }
            }
            Happened::Drain => self.go_on(hands),
            _ => {}
        }
    }
}
