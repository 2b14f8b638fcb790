//! Blocking notices: who is told that it is in the way of what.

use super::{Owner, RangeAsk, Ranges};
use crate::{Effect, mode_tables::urgency};
use core::{fmt::Debug, ops::ControlFlow};
use mainstay_base::{ByteRange, LockMode, Token};
use std::collections::BTreeSet;

impl Owner {
    /// The parts of a range where it holds something in the way of a mode, and has not been told of
    /// that or of a more urgent one.
    pub(super) fn untold(&self, range: ByteRange, mode: LockMode) -> Vec<ByteRange> {
        let mut found = Vec::new();
        let mut rest = Some(range);
        while let Some(left) = rest {
            let known = |told| urgency(told) >= urgency(mode);
            let Some(gap) = self.told.first_gap(left, known) else {
                break;
            };
            if self.set.conflict(gap, mode).is_some() {
                found.push(gap);
            }
            rest = after(gap, range);
        }
        found
    }

    /// Notes that the owner was told that it is in the way of a mode. Not where it holds PR, if that is
    /// what it was told of: there it is not in the way, and could not be told of CW any more, which
    /// is less urgent.
    fn mark_told(&mut self, range: ByteRange, mode: LockMode) {
        let mut rest = Some(range);
        while let Some(left) = rest {
            let known = |told| urgency(told) >= urgency(mode);
            let Some(gap) = self.told.first_gap(left, known) else {
                break;
            };
            rest = after(gap, range);
            let bears = match mode {
                LockMode::Pr => self.set.in_mode(mode, gap).collect(),
                _ => Vec::new(),
            };
            let mut next = Some(gap);
            for held in bears {
                let Some(part) = next else { break };
                if held.range.start() > part.start() {
                    let before = ByteRange::new(part.start(), held.range.start() - 1);
                    let before = before.expect("one byte at least");
                    self.told.set(before, mode, Token::NONE);
                }
                next = after(held.range, part);
            }
            if let Some(part) = next {
                self.told.set(part, mode, Token::NONE);
            }
        }
    }
}

/// What of a range comes after one of its parts.
fn after(part: ByteRange, range: ByteRange) -> Option<ByteRange> {
    ByteRange::new(part.end().checked_add(1)?, range.end()).ok()
}

impl<K: Copy + Ord + Debug> Ranges<K> {
    /// Tells every owner that holds something in the way of a call which begins to wait.
    pub(super) fn tell_those_in_the_way(
        &mut self,
        key: K,
        ask: RangeAsk,
        out: &mut Vec<Effect<K>>,
    ) {
        for holder in self.in_the_way(key, ask) {
            let Some(owner) = self.owners.get_mut(&holder) else {
                continue;
            };
            if owner.wants_bast && !owner.untold(ask.range, ask.mode).is_empty() {
                owner.mark_told(ask.range, ask.mode);
                out.push(Effect::BlockingRange {
                    key: holder,
                    range: ask.range,
                    mode: ask.mode,
                });
            }
        }
    }

    /// A call waits no more. Those in its way are told again of the next one for these bytes, unless
    /// others wait for them: what they have been told would only grow if it were kept.
    pub(super) fn forget_told(&mut self, key: K, ask: Option<RangeAsk>) {
        let waits = |range| {
            let mut modes = super::set::MODES.into_iter();
            modes.any(|mode| self.wanted.any(range, mode).is_some())
        };
        let Some(ask) = ask.filter(|ask| !waits(ask.range)) else {
            return;
        };
        for holder in self.in_the_way(key, ask) {
            if let Some(owner) = self.owners.get_mut(&holder) {
                owner.told.set(ask.range, LockMode::Nl, Token::NONE);
            }
        }
    }

    /// Tells an owner whose range has just got another mode of the calls that wait for it.
    pub(super) fn tell_newly_blocking(
        &mut self,
        key: K,
        range: ByteRange,
        held: LockMode,
        out: &mut Vec<Effect<K>>,
    ) {
        let Some(owner) = self.owners.get_mut(&key) else {
            return;
        };
        if held == LockMode::Nl || !owner.wants_bast || self.calls.is_empty() {
            return;
        }
        // The most urgent first: who is told of that need not be told of the others.
        let blocked = super::set::conflicting(held).collect::<Vec<_>>();
        for mode in blocked.into_iter().rev() {
            let known = |told| urgency(told) >= urgency(mode);
            let mut rest = Some(range);
            while let Some(left) = rest {
                let Some(gap) = owner.told.first_gap(left, known) else {
                    break;
                };
                let Some(call) = self.wanted.any(gap, mode) else {
                    rest = after(gap, range);
                    continue;
                };
                owner.mark_told(call.range, mode);
                let range = call.range;
                out.push(Effect::BlockingRange { key, range, mode });
            }
        }
    }

    /// The other owners that hold something in the way of a call.
    pub(super) fn in_the_way(&self, key: K, ask: RangeAsk) -> BTreeSet<K> {
        let mut found = BTreeSet::new();
        let mut looked_at = 0;
        self.held.each_in_way(ask.range, ask.mode, key, |held| {
            found.insert(held.key);
            looked_at += 1;
            match looked_at > self.owners.len() {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        });
        if looked_at > self.owners.len() {
            // Few owners with many stretches: quicker to ask each of them.
            let others = self.owners.iter().filter(|(other, _)| **other != key);
            let blocks = |owner: &Owner| owner.set.conflict(ask.range, ask.mode).is_some();
            found = others
                .filter(|(_, owner)| blocks(owner))
                .map(|(key, _)| *key)
                .collect();
        }
        found
    }
}
