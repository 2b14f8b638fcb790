//! Takes a lock, holds it a while, lets it go; on a few hot and many cold names, in all modes.

use super::{Brain, Hands, Happened};
use crate::{
    client::Command,
    dice::{Dice, MS},
};
use mainstay_base::{Flags, LockMode};
use mainstay_wire::client::Handle;

/// One lock at a time.
#[derive(Debug, Default)]
pub struct Locks {
    state: State,
    /// The present lock is held until somebody else wants it.
    until_blocking: bool,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Idle,
    Asked(Handle),
    Held(Handle),
    Releasing,
}

impl Locks {
    fn ask(&mut self, hands: &mut Hands<'_>) {
        let range = match hands.dice.below(100) {
            0..75 => hands.terrain.hot.clone(),
            75..96 => hands.terrain.cold.clone(),
            // Where others lock ranges; then it is refused.
            _ => hands.terrain.ranged.clone(),
        };
        let res = hands.one_of(&range);
        let mode = if hands.dice.percent(40) {
            LockMode::Ex
        } else {
            *hands.dice.pick(&LockMode::ALL)
        };
        let mut flags = Flags::NONE;
        if hands.dice.percent(15) {
            flags |= Flags::NOQUEUE;
            if hands.dice.percent(50) {
                flags |= Flags::NOQUEUEBAST;
            }
        } else if mode == LockMode::Nl && hands.dice.percent(50) {
            flags |= Flags::EXPEDITE;
        }
        match hands.dice.below(20) {
            0 => flags |= Flags::HEADQUE,
            1 => flags |= Flags::NOORDER,
            _ => {}
        }
        self.until_blocking = hands.dice.percent(20);
        let handle = hands.new_handle();
        let timeout_ms = hands
            .dice
            .percent(20)
            .then(|| hands.dice.between(1, 2000) as u32);
        let blocking = self.until_blocking || hands.dice.percent(50);
        hands.command(Command::Lock {
            handle,
            res,
            mode,
            flags,
            blocking,
            timeout_ms,
        });
        self.state = State::Asked(handle);
    }

    fn rest(&mut self, hands: &mut Hands<'_>) {
        self.state = State::Idle;
        if !hands.draining {
            let pause = hands.dice.spread(30 * MS);
            hands.command(Command::Sleep(pause));
        }
    }

    fn release(&mut self, hands: &mut Hands<'_>) {
        if let State::Held(handle) = self.state {
            hands.unlock(handle);
            self.state = State::Releasing;
        }
    }
}

impl Brain for Locks {
    fn name(&self) -> &'static str {
        "locks"
    }

    fn react(&mut self, hands: &mut Hands<'_>, happened: Happened) {
        match happened {
            Happened::Ready => self.rest(hands),
            Happened::Lost => self.state = State::Idle,
            Happened::Alarm => match self.state {
                State::Idle if !hands.draining => self.ask(hands),
                _ => self.release(hands),
            },
            Happened::Granted(handle, _) if self.state == State::Asked(handle) => {
                self.state = State::Held(handle);
                if hands.draining {
                    self.release(hands);
                } else {
                    // Even who waits for others to want the lock loses patience at last.
                    let hold = if self.until_blocking { 2000 } else { 60 };
                    let hold = hands.dice.spread(hold * MS);
                    hands.command(Command::Sleep(hold));
                }
            }
            Happened::Refused(handle, _) if self.state == State::Asked(handle) => self.rest(hands),
            Happened::Unlocked(_) => self.rest(hands),
            Happened::Blocking(handle, _)
                if self.until_blocking && self.state == State::Held(handle) =>
            {
                self.release(hands);
            }
            Happened::Drain => self.release(hands),
            _ => {}
        }
    }
}
