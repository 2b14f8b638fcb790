//! Asks for status, locks and reasons, creates lockspaces, and is the operator who vouches.

use super::{Brain, Hands, Happened};
use crate::{
    client::Command,
    dice::{Dice, MS},
};
use mainstay_base::{AccessChange, LockspaceName};
use mainstay_wire::client::Ask;

/// One question at a time.
#[derive(Debug, Default)]
pub struct Spectator {
    waiting: bool,
}

impl Spectator {
    fn question(hands: &mut Hands<'_>) -> Ask {
        if !hands.vouchable.is_empty() && hands.dice.percent(60) {
            let node = hands.dice.pick(hands.vouchable).clone();
            return Ask::Vouch { node };
        }
        match hands.dice.below(12) {
            0..=2 => Ask::Status,
            3..=4 => Ask::Locks {
                lockspace: None,
                pattern: None,
                limit: hands.dice.between(1, 10_000) as u32,
                after: None,
            },
            5..=6 => Ask::Contention {
                lockspace: None,
                after: None,
                limit: hands.dice.between(1, 1000) as u32,
            },
            7..=8 => {
                let hot = hands.terrain.hot.clone();
                let res = hands.one_of(&hot);
                let (space, name) = hands.terrain.resources[res as usize].clone();
                Ask::Why {
                    lockspace: hands.terrain.spaces[space].clone(),
                    name,
                }
            }
            9 => Ask::Lockspaces {
                after: None,
                limit: hands.dice.between(1, 1000) as u32,
            },
            10 => {
                let name = format!("made-{}", hands.dice.below(12));
                let mode = [0o666, 0o640, 0o600, 0o466][hands.dice.below(4) as usize];
                Ask::SetLockspace {
                    name: LockspaceName::new(name).expect("letters and digits"),
                    access: AccessChange {
                        mode: Some(mode),
                        ..AccessChange::default()
                    },
                }
            }
            _ => Ask::OpenLockspace {
                name: LockspaceName::new(format!("made-{}", hands.dice.below(12)))
                    .expect("letters and digits"),
                value_len: None,
            },
        }
    }
}

impl Brain for Spectator {
    fn name(&self) -> &'static str {
        "spectator"
    }

    fn react(&mut self, hands: &mut Hands<'_>, happened: Happened) {
        match happened {
            Happened::Alarm if !self.waiting && !hands.draining => {
                let ask = Spectator::question(hands);
                self.waiting = true;
                hands.command(Command::Ask(ask));
            }
            Happened::Ready | Happened::Told(_) => {
                self.waiting = false;
                let pause = hands.dice.spread(300 * MS);
                hands.command(Command::Sleep(pause));
            }
            Happened::Lost => self.waiting = false,
            _ => {}
        }
    }
}
