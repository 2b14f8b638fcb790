//! The ranges that one owner holds.

use core::array;
use mainstay_base::{ByteRange, LockMode, Mutant, Token};
use std::collections::BTreeMap;

/// Most stretches of one owner on one resource.
pub const STRETCHES_MAX: usize = 1 << 16;

/// The modes in which a range can be held. NL is not among them: it is to hold nothing.
pub(crate) const MODES: [LockMode; 5] = [
    LockMode::Cr,
    LockMode::Cw,
    LockMode::Pr,
    LockMode::Pw,
    LockMode::Ex,
];

/// The modes that conflict with one.
pub(crate) fn conflicting(mode: LockMode) -> impl Iterator<Item = LockMode> {
    MODES.into_iter().filter(move |m| !m.compatible(mode))
}

/// Something for each mode of [`MODES`].
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct PerMode<T>([T; 5]);

impl<T: Default> Default for PerMode<T> {
    fn default() -> Self {
        PerMode(array::from_fn(|_| T::default()))
    }
}

impl<T> PerMode<T> {
    /// # Panics
    /// For NL.
    pub(crate) fn of(&self, mode: LockMode) -> &T {
        &self.0[mode as usize - 1]
    }

    /// # Panics
    /// For NL.
    pub(crate) fn of_mut(&mut self, mode: LockMode) -> &mut T {
        &mut self.0[mode as usize - 1]
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter()
    }
}

/// A range held in one mode, which does not go on in that mode at either end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stretch {
    /// Where.
    pub range: ByteRange,
    /// In which mode; never NL.
    pub mode: LockMode,
    /// The largest token of the grants that it was put together from.
    pub token: Token,
}

/// What a call did to a set.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Change {
    pub(crate) removed: Vec<Stretch>,
    pub(crate) added: Vec<Stretch>,
}

/// The ranges that one owner holds: disjoint, each in one mode, neighbours in one mode put together.
/// Each operation takes time logarithmic in the number of stretches for each that it meets.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct RangeSet {
    /// End and token, by start.
    modes: PerMode<BTreeMap<u64, (u64, Token)>>,
}

impl RangeSet {
    /// Whether nothing is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.modes.iter().all(BTreeMap::is_empty)
    }

    /// How many stretches there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.modes.iter().map(BTreeMap::len).sum()
    }

    /// All that is held, from the first byte to the last.
    #[must_use]
    pub fn stretches(&self) -> Vec<Stretch> {
        let mut all: Vec<Stretch> = MODES
            .into_iter()
            .flat_map(|mode| self.in_mode(mode, ByteRange::ALL))
            .collect();
        all.sort_unstable_by_key(|stretch| stretch.range);
        all
    }

    /// What is held of a range in one mode, in order; each stretch whole.
    pub(crate) fn in_mode(
        &self,
        mode: LockMode,
        range: ByteRange,
    ) -> impl Iterator<Item = Stretch> + '_ {
        let held = self.modes.of(mode);
        let first = held.range(..range.start()).next_back();
        let first = first.filter(move |(_, (end, _))| *end >= range.start());
        first
            .into_iter()
            .chain(held.range(range.start()..=range.end()))
            .map(move |(start, (end, token))| stretch(*start, *end, mode, *token))
    }

    /// The first stretch in a range whose mode conflicts with `mode`.
    #[must_use]
    pub fn conflict(&self, range: ByteRange, mode: LockMode) -> Option<Stretch> {
        conflicting(mode)
            .filter_map(|held| self.in_mode(held, range).next())
            .min_by_key(|stretch| stretch.range)
    }

    /// All stretches in a range whose modes conflict with `mode`.
    pub(crate) fn conflicts(
        &self,
        range: ByteRange,
        mode: LockMode,
    ) -> impl Iterator<Item = Stretch> + '_ {
        conflicting(mode).flat_map(move |held| self.in_mode(held, range))
    }

    /// The first part of a range that is not held in a mode that will do.
    pub(crate) fn first_gap(
        &self,
        range: ByteRange,
        will_do: impl Fn(LockMode) -> bool,
    ) -> Option<ByteRange> {
        let will_do = |mode: &LockMode| will_do(*mode);
        let mut from = range.start();
        loop {
            let rest = ByteRange::new(from, range.end()).ok()?;
            let next = MODES
                .into_iter()
                .filter(will_do)
                .filter_map(|mode| self.in_mode(mode, rest).next())
                .min_by_key(|stretch| stretch.range.start());
            match next {
                Some(next) if next.range.start() <= from => {
                    from = next.range.end().checked_add(1)?;
                }
                Some(next) => return ByteRange::new(from, next.range.start() - 1).ok(),
                None => return Some(rest),
            }
        }
    }

    /// Whether all of a range is held in modes that cover `mode`: to set it to that gains nothing.
    #[must_use]
    pub fn covers(&self, range: ByteRange, mode: LockMode) -> bool {
        let gains = mode != LockMode::Nl;
        !gains || self.first_gap(range, |held| held.covers(mode)).is_none()
    }

    /// Whether all of a range is held in one mode already, or for NL nothing of it.
    #[must_use]
    pub fn is_set_to(&self, range: ByteRange, mode: LockMode) -> bool {
        match mode {
            LockMode::Nl => MODES
                .into_iter()
                .all(|held| self.in_mode(held, range).next().is_none()),
            mode => self.first_gap(range, |held| held == mode).is_none(),
        }
    }

    /// The largest token of what is held of a range.
    #[must_use]
    pub fn token_of(&self, range: ByteRange) -> Token {
        let held = MODES.into_iter().flat_map(|mode| self.in_mode(mode, range));
        held.map(|stretch| stretch.token)
            .max()
            .unwrap_or(Token::NONE)
    }

    /// Whether there are no more than [`STRETCHES_MAX`] stretches once a range is set to a mode, or no
    /// more than there are now.
    #[must_use]
    pub fn has_room_for(&self, range: ByteRange, mode: LockMode) -> bool {
        let most = match mode {
            // The rest of a stretch on the other side.
            LockMode::Nl if self.is_split_by(range) => 1,
            LockMode::Nl => 0,
            _ => 2,
        };
        most == 0 || self.len() + most <= STRETCHES_MAX
    }

    /// Whether something is held on both sides of a range, in one stretch.
    fn is_split_by(&self, range: ByteRange) -> bool {
        let around = |s: &Stretch| s.range.start() < range.start() && s.range.end() > range.end();
        MODES.into_iter().any(|mode| {
            self.in_mode(mode, range)
                .next()
                .as_ref()
                .is_some_and(around)
        })
    }

    /// Sets a range to a mode, NL for none, whatever was held of it before. For a mode that covers
    /// what was held, `token` is that of the grant; otherwise the stretch keeps the largest that it
    /// had.
    pub fn set(&mut self, range: ByteRange, mode: LockMode, token: Token) {
        self.change(range, mode, token);
    }

    /// As [`RangeSet::set`], and tells which stretches went and came.
    pub(crate) fn change(&mut self, range: ByteRange, mode: LockMode, token: Token) -> Change {
        let mut change = Change::default();
        let gains = !self.covers(range, mode);
        let mut new = stretch(range.start(), range.end(), mode, Token::NONE);
        for held in MODES {
            let met: Vec<Stretch> = self.in_mode(held, range).collect();
            for old in met {
                self.remove(old, &mut change);
                let kept = new.token.max(old.token);
                new.token = kept;
                let before = (old.range.start(), range.start());
                let after = (range.end(), old.range.end());
                let before = (before.0 < before.1).then(|| (before.0, before.1 - 1));
                let after = (after.0 < after.1).then(|| (after.0 + 1, after.1));
                let after = after.filter(|_| !Mutant::RangeTailForgotten.active());
                for (start, end) in before.into_iter().chain(after) {
                    self.add(stretch(start, end, held, old.token), &mut change);
                }
            }
        }
        if gains {
            new.token = new.token.max(token);
        }
        if mode != LockMode::Nl {
            self.put_together(&mut new, &mut change);
            self.add(new, &mut change);
        }
        change
    }

    /// Adds a stretch where nothing is held, as it is.
    pub(crate) fn restore(&mut self, stretch: Stretch) {
        let end = (stretch.range.end(), stretch.token);
        let held = self.modes.of_mut(stretch.mode);
        held.insert(stretch.range.start(), end);
    }

    /// Takes neighbours in the same mode into a stretch.
    fn put_together(&mut self, new: &mut Stretch, change: &mut Change) {
        let (start, end) = (new.range.start(), new.range.end());
        let before = start.checked_sub(1);
        let after = end.checked_add(1);
        for beside in [before, after].into_iter().flatten() {
            let at = stretch(beside, beside, new.mode, Token::NONE).range;
            let Some(old) = self.in_mode(new.mode, at).next() else {
                continue;
            };
            self.remove(old, change);
            let start = new.range.start().min(old.range.start());
            let end = new.range.end().max(old.range.end());
            *new = stretch(start, end, new.mode, new.token.max(old.token));
        }
    }

    /// What was added a moment ago never was there, for those who are told.
    fn remove(&mut self, old: Stretch, change: &mut Change) {
        self.modes.of_mut(old.mode).remove(&old.range.start());
        match change.added.iter().position(|added| *added == old) {
            Some(place) => {
                change.added.swap_remove(place);
            }
            None => change.removed.push(old),
        }
    }

    fn add(&mut self, new: Stretch, change: &mut Change) {
        self.restore(new);
        change.added.push(new);
    }
}

/// # Panics
/// If the end is before the start.
fn stretch(start: u64, end: u64, mode: LockMode, token: Token) -> Stretch {
    let range = ByteRange::new(start, end).expect("an owner's stretches have a byte at least");
    Stretch { range, mode, token }
}
