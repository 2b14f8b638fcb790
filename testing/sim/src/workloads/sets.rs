//! Takes sets of locks, overlapping with others' and in any order. Some clients do nothing else, and
//! can never wait in a circle; others hold a lock before, convert what they hold, and give up in
//! every way.

use super::{Brain, Hands, Happened};
use crate::{
    checkers::books::Res,
    client::Command,
    dice::{Dice, MS},
    sets::Member,
};
use mainstay_base::{Flags, LockMode};
use mainstay_wire::client::Handle;
use std::collections::BTreeSet;

/// One set at a time.
#[derive(Debug, Default)]
pub struct Sets {
    /// It does nothing but take sets and release them.
    pure: Option<bool>,
    held: BTreeSet<Handle>,
    /// The resource that was locked alone, before the set.
    first: Option<Res>,
    asked: BTreeSet<Handle>,
    converting: BTreeSet<Handle>,
    releasing: BTreeSet<Handle>,
    /// The second thing has been done with what is held.
    done: bool,
    /// What is asked for is being released by force.
    forced: bool,
}

impl Sets {
    fn pure(&mut self, hands: &mut Hands<'_>) -> bool {
        *self.pure.get_or_insert_with(|| hands.dice.percent(60))
    }

    fn sleep(hands: &mut Hands<'_>, mean: u64) {
        let pause = hands.dice.spread(mean * MS);
        hands.command(Command::Sleep(pause));
    }

    /// Resources of one lockspace, in any order.
    fn choose(&mut self, hands: &mut Hands<'_>) -> Vec<Res> {
        let of = |res: &Res| hands.terrain.resources[*res as usize].0;
        let space = match self.first {
            Some(first) => of(&first),
            None => usize::from(hands.dice.percent(20)),
        };
        let all = hands.terrain.sets.clone().filter(|res| of(res) == space);
        let mut all: Vec<Res> = all.filter(|res| Some(*res) != self.first).collect();
        let most = all.len() as u64;
        let many = match hands.dice.below(10) {
            0 => most,
            _ => hands.dice.between(1, 4).min(most),
        };
        let mut chosen = Vec::new();
        for _ in 0..many {
            let at = hands.dice.below(all.len() as u64) as usize;
            chosen.push(all.swap_remove(at));
        }
        chosen
    }

    fn ask(&mut self, hands: &mut Hands<'_>) {
        self.forced = false;
        let mut members = Vec::new();
        for res in self.choose(hands) {
            let handle = hands.new_handle();
            let mode = *hands.dice.pick(&[
                LockMode::Ex,
                LockMode::Ex,
                LockMode::Ex,
                LockMode::Pr,
                LockMode::Pw,
                LockMode::Cw,
                LockMode::Nl,
            ]);
            let mut flags = Flags::NONE;
            match hands.dice.below(30) {
                0 => flags |= Flags::HEADQUE,
                1 => flags |= Flags::NOORDER,
                2 | 3 if mode == LockMode::Ex => flags |= Flags::ALTPR,
                4 if mode == LockMode::Nl => flags |= Flags::EXPEDITE,
                _ => {}
            }
            if hands.dice.percent(15) && !flags.contains(Flags::EXPEDITE) {
                flags |= Flags::VALBLK;
            }
            self.asked.insert(handle);
            members.push(Member {
                handle,
                res,
                mode,
                flags,
            });
        }
        let flags = match hands.dice.below(20) {
            0 | 1 => Flags::NOQUEUE,
            2 => Flags::NOQUEUE | Flags::NOQUEUEBAST,
            _ => Flags::NONE,
        };
        let timeout_ms = hands
            .dice
            .percent(15)
            .then(|| hands.dice.between(1, 1000) as u32);
        hands.command(Command::LockSet {
            members,
            flags,
            timeout_ms,
        });
    }

    fn ask_first(&mut self, hands: &mut Hands<'_>) {
        let all = hands.terrain.sets.clone();
        let (res, handle) = (hands.one_of(&all), hands.new_handle());
        let mode = *hands.dice.pick(&[LockMode::Ex, LockMode::Pr]);
        self.first = Some(res);
        self.asked.insert(handle);
        hands.command(Command::Lock {
            handle,
            res,
            mode,
            flags: Flags::NONE,
            blocking: false,
            timeout_ms: None,
        });
    }

    fn give_up(&mut self, hands: &mut Hands<'_>) {
        let asked: Vec<Handle> = self.asked.iter().copied().collect();
        let handle = *hands.dice.pick(&asked);
        match hands.dice.below(90) {
            0 | 1 => hands.command(Command::Cancel { handle }),
            2 if !self.forced => {
                self.forced = true;
                self.asked.remove(&handle);
                self.releasing.insert(handle);
                hands.command(Command::Unlock {
                    handle,
                    flags: Flags::FORCEUNLOCK,
                    value: None,
                });
            }
            _ => {}
        }
    }

    fn convert(&mut self, hands: &mut Hands<'_>) {
        self.done = true;
        let mut locks = Vec::new();
        for handle in std::mem::take(&mut self.held) {
            let mode = *hands.dice.pick(&LockMode::ALL);
            let flags = match hands.dice.percent(30) {
                true => Flags::NOQUEUE,
                false => Flags::NONE,
            };
            self.converting.insert(handle);
            locks.push((handle, mode, flags));
        }
        let timeout_ms = hands
            .dice
            .percent(30)
            .then(|| hands.dice.between(1, 1000) as u32);
        hands.command(Command::ConvertMany { locks, timeout_ms });
    }

    fn release(&mut self, hands: &mut Hands<'_>) {
        self.first = None;
        self.done = false;
        let held = std::mem::take(&mut self.held);
        self.releasing.extend(&held);
        if hands.dice.percent(60) {
            let handles = held.into_iter().collect();
            hands.command(Command::UnlockMany { handles });
        } else {
            for handle in held {
                hands.unlock(handle);
            }
        }
    }

    fn act(&mut self, hands: &mut Hands<'_>) {
        let pure = self.pure(hands);
        if !self.asked.is_empty() {
            self.give_up(hands);
        } else if !self.releasing.is_empty() || !self.converting.is_empty() {
            // Their end is told.
        } else if self.held.is_empty() {
            (self.first, self.done) = (None, false);
            match !pure && hands.dice.percent(50) {
                true => self.ask_first(hands),
                false => self.ask(hands),
            }
        } else if self.held.len() == 1 && self.first.is_some() && !self.done {
            self.done = true;
            self.ask(hands);
        } else if !pure && !self.done && hands.dice.percent(40) {
            self.convert(hands);
        } else {
            self.release(hands);
        }
    }

    fn go_on(&mut self, hands: &mut Hands<'_>) {
        if !hands.draining {
            return Self::sleep(hands, 15);
        }
        // Whoever waits keeps what it has, for its locks stand in no circle or fall in one.
        let waits = !self.asked.is_empty() || !self.converting.is_empty();
        if !waits && !self.held.is_empty() {
            self.release(hands);
        }
    }
}

impl Brain for Sets {
    fn name(&self) -> &'static str {
        "sets"
    }

    fn react(&mut self, hands: &mut Hands<'_>, happened: Happened) {
        match happened {
            Happened::Ready => self.go_on(hands),
            Happened::Lost => {
                *self = Sets {
                    pure: self.pure,
                    ..Sets::default()
                }
            }
            Happened::Alarm if !hands.draining => {
                self.act(hands);
                Self::sleep(hands, 25);
            }
            Happened::Granted(handle, _) => {
                if self.asked.remove(&handle) || self.converting.remove(&handle) {
                    self.held.insert(handle);
                }
                self.go_on(hands);
            }
            Happened::Refused(handle, _) => {
                self.asked.remove(&handle);
                self.releasing.remove(&handle);
                // A conversion that is refused leaves the lock as it was.
                if self.converting.remove(&handle) {
                    self.held.insert(handle);
                }
                self.go_on(hands);
            }
            Happened::Unlocked(handle) => {
                self.releasing.remove(&handle);
                self.forced &= !self.asked.is_empty();
                self.go_on(hands);
            }
            Happened::Drain => self.go_on(hands),
            _ => {}
        }
    }
}
