//! Locks in trees: beneath what it holds, in any order, and lets go from below, or of all at once.

use super::{Brain, Hands, Happened, counters::block_of};
use crate::{
    checkers::books::Res,
    client::Command,
    dice::{Dice, MS},
    trees::Child,
};
use mainstay_base::{Flags, LockMode};
use mainstay_wire::client::Handle;
use std::collections::BTreeMap;

use LockMode::{Cr, Cw, Ex, Nl, Pr, Pw};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum State {
    Asked,
    Held(LockMode),
    Converting(LockMode),
    Going,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    res: Res,
    parent: Option<Handle>,
    state: State,
    /// It uses the value block.
    valblk: bool,
}

/// One tree at a time.
#[derive(Debug, Default)]
pub struct Trees {
    locks: BTreeMap<Handle, Node>,
    /// The lock that it tries to unlock although there is one beneath it.
    probing: Option<Handle>,
    cancelling: bool,
    /// Calls to release trees that are under way. A session may have eight.
    going: u32,
    serial: u32,
}

impl Trees {
    fn sleep(hands: &mut Hands<'_>, mean: u64) {
        let pause = hands.dice.spread(mean * MS);
        hands.command(Command::Sleep(pause));
    }

    fn is_leaf(&self, handle: Handle) -> bool {
        !self.locks.values().any(|node| node.parent == Some(handle))
    }

    /// One of its locks that passes a test.
    fn one(
        &self,
        hands: &mut Hands<'_>,
        test: impl Fn(Handle, &Node) -> bool,
    ) -> Option<(Handle, Node)> {
        let fit = self
            .locks
            .iter()
            .filter(|(handle, node)| test(**handle, node));
        let fit: Vec<(Handle, Node)> = fit.map(|(handle, node)| (*handle, *node)).collect();
        match fit.is_empty() {
            true => None,
            false => Some(*hands.dice.pick(&fit)),
        }
    }

    fn limit(hands: &mut Hands<'_>) -> Option<u32> {
        let limited = hands.dice.percent(30);
        limited.then(|| hands.dice.between(1, 1000) as u32)
    }

    fn ask_root(&mut self, hands: &mut Hands<'_>) {
        let res = hands.terrain.roots[hands.dice.below(hands.terrain.roots.len() as u64) as usize];
        let handle = hands.new_handle();
        let mode = *hands.dice.pick(&[Pr, Pr, Cr, Cr, Nl, Cw, Ex]);
        let node = Node {
            res,
            parent: None,
            state: State::Asked,
            valblk: false,
        };
        self.locks.insert(handle, node);
        let timeout_ms = Self::limit(hands);
        hands.command(Command::Lock {
            handle,
            res,
            mode,
            flags: Flags::NONE,
            blocking: false,
            timeout_ms,
        });
        if hands.dice.percent(20) {
            self.ask_under(hands, handle, res); // Perhaps too soon.
        }
    }

    fn ask_under(&mut self, hands: &mut Hands<'_>, parent: Handle, above: Res) {
        let beneath = hands.terrain.beneath(above);
        if beneath.is_empty() {
            return;
        }
        let res = *hands.dice.pick(&beneath);
        let handle = hands.new_handle();
        let mode = *hands.dice.pick(&[Ex, Ex, Pw, Pr, Cw, Nl]);
        let mut flags = match hands.dice.below(10) {
            0 => Flags::NOQUEUE,
            _ => Flags::NONE,
        };
        let valblk = hands.dice.percent(30);
        if valblk {
            flags |= Flags::VALBLK;
        }
        let node = Node {
            res,
            parent: Some(parent),
            state: State::Asked,
            valblk,
        };
        self.locks.insert(handle, node);
        let timeout_ms = Self::limit(hands);
        hands.command(Command::LockUnder(Child {
            parent,
            handle,
            res,
            mode,
            flags,
            timeout_ms,
        }));
    }

    fn convert(&mut self, hands: &mut Hands<'_>) {
        let held = |_, node: &Node| matches!(node.state, State::Held(_)) && !node.valblk;
        let Some((handle, node)) = self.one(hands, held) else {
            return;
        };
        let State::Held(from) = node.state else {
            return;
        };
        self.set(handle, State::Converting(from));
        let mode = *hands.dice.pick(&LockMode::ALL);
        let timeout_ms = Self::limit(hands);
        hands.command(Command::Convert {
            handle,
            mode,
            flags: Flags::NONE,
            value: None,
            timeout_ms,
        });
    }

    fn set(&mut self, handle: Handle, state: State) {
        if let Some(node) = self.locks.get_mut(&handle) {
            node.state = state;
        }
    }

    fn probe(&mut self, hands: &mut Hands<'_>) {
        let child = |_, node: &Node| matches!(node.state, State::Held(_)) && node.parent.is_some();
        let parent = self.one(hands, child).and_then(|(_, node)| node.parent);
        if let Some(handle) = parent
            && let Some(node) = self.locks.get(&handle)
            && matches!(node.state, State::Held(_))
        {
            self.probing = Some(handle);
            hands.command(Command::ProbeParent { handle });
        }
    }

    fn release_leaf(&mut self, hands: &mut Hands<'_>) {
        let held =
            |handle, node: &Node| matches!(node.state, State::Held(_)) && self.is_leaf(handle);
        let Some((handle, node)) = self.one(hands, held) else {
            return;
        };
        self.set(handle, State::Going);
        let writes = matches!(node.state, State::Held(Pw | Ex));
        if writes && node.valblk && hands.valid && hands.dice.percent(70) {
            self.serial += 1;
            let value = Some(block_of(u64::from(self.serial), hands.client, self.serial));
            hands.command(Command::Unlock {
                handle,
                flags: Flags::VALBLK,
                value,
            });
            if hands.dice.percent(30) {
                self.release_some(hands); // What is above it has to wait.
            }
        } else {
            hands.unlock(handle);
        }
    }

    /// Everything beneath one of its locks goes, or everything.
    fn release_some(&mut self, hands: &mut Hands<'_>) {
        if self.going > 5 {
            return;
        }
        let held = |_, node: &Node| matches!(node.state, State::Held(_) | State::Converting(_));
        let root = self.one(hands, held).map(|(handle, _)| handle);
        let root = root.filter(|_| hands.dice.percent(85));
        let itself = hands.dice.percent(50);
        self.go(hands, root, itself);
    }

    fn go(&mut self, hands: &mut Hands<'_>, root: Option<Handle>, itself: bool) {
        let all: Vec<Handle> = self.locks.keys().copied().collect();
        for handle in all {
            let mut above = self.locks.get(&handle).and_then(|node| node.parent);
            let mut goes = root.is_none() || itself && root == Some(handle);
            while let Some(parent) = above {
                goes |= root == Some(parent);
                above = self.locks.get(&parent).and_then(|node| node.parent);
            }
            if goes {
                self.set(handle, State::Going);
            }
        }
        self.going += 1;
        hands.command(Command::UnlockTree {
            handle: root,
            itself,
        });
    }

    fn cancel(&mut self, hands: &mut Hands<'_>) {
        let waits = |_, node: &Node| matches!(node.state, State::Asked | State::Converting(_));
        if let Some((handle, _)) = self.one(hands, waits).filter(|_| !self.cancelling) {
            self.cancelling = true;
            hands.command(Command::Cancel { handle });
        }
    }

    fn act(&mut self, hands: &mut Hands<'_>) {
        if self.probing.is_some() {
            return;
        }
        if self.locks.is_empty() {
            return self.ask_root(hands);
        }
        match hands.dice.below(100) {
            0..50 => {
                let held =
                    |_, node: &Node| matches!(node.state, State::Held(_) | State::Converting(_));
                if let Some((parent, node)) = self.one(hands, held) {
                    self.ask_under(hands, parent, node.res);
                }
            }
            50..58 => self.convert(hands),
            58..68 => self.probe(hands),
            68..86 => self.release_leaf(hands),
            86..95 => self.release_some(hands),
            _ => self.cancel(hands),
        }
    }

    fn go_on(&mut self, hands: &mut Hands<'_>) {
        if !hands.draining {
            return Self::sleep(hands, 12);
        }
        if self.locks.values().any(|node| node.state != State::Going) {
            self.go(hands, None, false);
        }
    }
}

impl Brain for Trees {
    fn name(&self) -> &'static str {
        "trees"
    }

    fn react(&mut self, hands: &mut Hands<'_>, happened: Happened) {
        match happened {
            Happened::Ready => self.go_on(hands),
            Happened::Lost => {
                *self = Trees {
                    serial: self.serial,
                    ..Trees::default()
                }
            }
            Happened::Alarm if !hands.draining => {
                self.act(hands);
                Self::sleep(hands, 20);
            }
            Happened::Granted(handle, granted) => {
                self.set(handle, State::Held(granted.mode));
                self.go_on(hands);
            }
            Happened::Refused(handle, _) if self.probing == Some(handle) => {
                self.probing = None;
                self.go_on(hands);
            }
            Happened::Refused(handle, _) => {
                match self.locks.get(&handle).map(|node| node.state) {
                    Some(State::Converting(from)) => self.set(handle, State::Held(from)),
                    Some(State::Asked) => {
                        self.locks.remove(&handle);
                    }
                    _ => {}
                }
                self.go_on(hands);
            }
            Happened::Unlocked(handle) => {
                self.locks.remove(&handle);
                self.go_on(hands);
            }
            Happened::TreeUnlocked => self.going -= 1,
            Happened::CancelAnswered(_) => self.cancelling = false,
            Happened::Drain => self.go_on(hands),
            _ => {}
        }
    }
}
