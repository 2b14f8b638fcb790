//! Counts a value block up in one step, by the counter or by compare-and-swap, under locks in all
//! modes, and watches it. Each step that is done adds one, whatever becomes of its answer; marks are
//! left as they are.

use super::{Brain, Hands, Happened};
use crate::{
    client::Command,
    dice::{Dice, MS},
};
use mainstay_base::{Flags, LockMode, Value, ValueUpdate};
use mainstay_wire::client::Handle;

use LockMode::{Cr, Cw, Ex, Nl, Pr, Pw};

/// One tally at a time.
#[derive(Debug, Default)]
pub struct Tallies {
    handle: Option<Handle>,
    mode: Option<LockMode>,
    busy: bool,
    known: Option<Value>,
    rounds: u64,
}

impl Tallies {
    fn rest(&mut self, hands: &mut Hands<'_>, mean_ms: u64) {
        let pause = hands.dice.spread(mean_ms * MS);
        hands.command(Command::Sleep(pause));
    }

    fn begin(&mut self, hands: &mut Hands<'_>) {
        let handle = hands.new_handle();
        let range = hands.terrain.tallies.clone();
        let res = hands.one_of(&range);
        self.handle = Some(handle);
        // Some stay, to be told what happens after others have come and gone.
        self.rounds = *hands.dice.pick(&[5, 15, 30, u64::MAX]);
        let mode = *hands.dice.pick(&[Nl, Nl, Nl, Cr]);
        let flags = *hands
            .dice
            .pick(&[Flags::VALBLK, Flags::VALBLK, Flags::NONE]);
        hands.command(Command::Lock {
            handle,
            res,
            mode,
            flags,
            blocking: false,
            timeout_ms: None,
        });
    }

    fn convert(&mut self, hands: &mut Hands<'_>, handle: Handle, mode: LockMode) {
        let wish = hands
            .dice
            .percent(60)
            .then(|| hands.dice.between(20, 400) as u32);
        let up = !self.mode.is_some_and(|held| held.covers(mode));
        hands.command(Command::Convert {
            handle,
            mode,
            // Down from PW and EX, VALBLK would publish.
            flags: if up { Flags::VALBLK } else { Flags::NONE },
            value: None,
            timeout_ms: wish.filter(|_| up),
        });
    }

    fn act(&mut self, hands: &mut Hands<'_>) {
        self.busy = true;
        let (Some(handle), Some(mode)) = (self.handle, self.mode) else {
            return self.begin(hands);
        };
        let weak = matches!(mode, Nl | Cr);
        if hands.draining || self.rounds == 0 {
            return hands.unlock(handle);
        }
        if self.rounds == u64::MAX && hands.dice.percent(30) && weak {
            self.busy = false;
            return self.rest(hands, 100);
        }
        self.rounds -= u64::from(self.rounds < u64::MAX);
        match hands.dice.below(20) {
            0..=3 if weak => {
                let mode = *hands.dice.pick(&[Nl, Cr, Cw, Pr, Pr, Pw, Ex]);
                self.convert(hands, handle, mode);
            }
            // Others cannot count meanwhile.
            0..=8 if !weak => self.convert(hands, handle, Nl),
            4..=9 => {
                let Some(known) = self.known.as_ref().filter(|v| !v.maybe_stale) else {
                    return self.add(hands, handle);
                };
                let update = ValueUpdate::Swap {
                    expect: known.version,
                    expect_stale: false,
                    block: known.block.with_count(known.count() + 1),
                };
                hands.command(Command::Update { handle, update });
            }
            _ => self.add(hands, handle),
        }
    }

    fn add(&mut self, hands: &mut Hands<'_>, handle: Handle) {
        let update = ValueUpdate::Add { delta: 1 };
        hands.command(Command::Update { handle, update });
    }
}

impl Brain for Tallies {
    fn name(&self) -> &'static str {
        "tallies"
    }

    fn react(&mut self, hands: &mut Hands<'_>, happened: Happened) {
        match happened {
            Happened::Ready => self.rest(hands, 20),
            Happened::Lost => *self = Tallies::default(),
            Happened::Alarm if self.busy => {}
            Happened::Alarm if !hands.valid => self.rest(hands, 50),
            Happened::Alarm if hands.draining && self.handle.is_none() => {}
            Happened::Alarm => self.act(hands),
            Happened::Granted(handle, granted) => {
                self.busy = false;
                let first = self.mode.replace(granted.mode).is_none();
                self.known = granted.value.or(self.known.take());
                if first && hands.dice.percent(80) {
                    hands.command(Command::Watch { handle });
                }
                self.rest(hands, 20);
            }
            Happened::Refused(..) => {
                self.busy = false;
                if self.mode.is_none() {
                    self.handle = None;
                }
                self.rest(hands, 30);
            }
            Happened::Updated(_, result) => {
                self.busy = false;
                if let Ok(updated) = result {
                    self.known = Some(updated.value);
                }
                self.rest(hands, 8);
            }
            Happened::ValueChanged(handle, value) if self.handle == Some(handle) => {
                self.known = Some(value);
            }
            Happened::Unlocked(_) => {
                *self = Tallies::default();
                if !hands.draining {
                    self.rest(hands, 40);
                }
            }
            Happened::Drain => self.rest(hands, 5),
            _ => {}
        }
    }
}
