//! What the machine keeps of a lock on ranges: what it holds, and what it was said to be in the way of.

use mainstay_base::{ByteRange, LockMode, Token};
use mainstay_lock::ranges::RangeSet;
use std::collections::{BTreeSet, VecDeque};

/// What somebody waits for.
type Wish = (ByteRange, LockMode);

/// Notices of one lock that are kept one by one. Of more, those that still concern the lock are joined
/// if they are many.
const NOTICES_MAX: usize = 1000;

/// A lock on ranges as the daemon's answers and notices show it.
#[derive(Debug, Default)]
pub(crate) struct RangesState {
    /// Whether it holds any, as the daemon said last.
    holds: bool,
    /// Which, by the calls that were granted.
    held: RangeSet,
    /// What others wait for: each once, the oldest first, not yet taken by the owner.
    notices: VecDeque<Wish>,
    /// The same, to be found.
    known: BTreeSet<(ByteRange, u8)>,
    /// All that would have been too many to keep. Older than `notices`.
    joined: Option<Wish>,
}

impl RangesState {
    pub(crate) fn holds(&self) -> bool {
        self.holds
    }

    /// A call for a range was granted; whether the lock holds anything now, says the daemon.
    pub(crate) fn set(&mut self, range: ByteRange, mode: LockMode, token: Token, holds: bool) {
        match holds {
            true => self.held.set(range, mode, token),
            false => *self = RangesState::default(),
        }
        self.holds = holds;
    }

    /// Somebody waits for a range.
    pub(crate) fn wished(&mut self, wish: Wish) {
        let told = |(range, mode): Wish| range.contains(wish.0) && mode.covers(wish.1);
        if self.joined.is_some_and(told) || !self.known.insert(key(wish)) {
            return;
        }
        self.notices.push_back(wish);
        if self.notices.len() > NOTICES_MAX {
            self.make_room();
        }
    }

    /// The oldest notice that the lock still is in the way of.
    pub(crate) fn take_wish(&mut self) -> Option<Wish> {
        let joined = self.joined.take();
        if joined.is_some_and(|wish| self.is_in_the_way(wish)) {
            return joined;
        }
        while let Some(wish) = self.notices.pop_front() {
            self.known.remove(&key(wish));
            if self.is_in_the_way(wish) {
                return Some(wish);
            }
        }
        None
    }

    fn is_in_the_way(&self, (range, mode): Wish) -> bool {
        self.held.conflict(range, mode).is_some()
    }

    fn make_room(&mut self) {
        let mut all = std::mem::take(&mut self.notices);
        all.retain(|wish| self.is_in_the_way(*wish));
        if all.len() > NOTICES_MAX / 2 {
            self.joined = self.joined.into_iter().chain(all.drain(..)).reduce(join);
        }
        self.known = all.iter().copied().map(key).collect();
        self.notices = all;
    }
}

fn key((range, mode): Wish) -> (ByteRange, u8) {
    (range, mode as u8)
}

/// A wish that whoever is in the way of one of two is in the way of as well.
fn join(one: Wish, other: Wish) -> Wish {
    let (start, end) = (
        one.0.start().min(other.0.start()),
        one.0.end().max(other.0.end()),
    );
    let covers = |mode: &LockMode| mode.covers(one.1) && mode.covers(other.1);
    (
        ByteRange::new(start, end).unwrap_or(ByteRange::ALL),
        LockMode::ALL
            .into_iter()
            .find(covers)
            .unwrap_or(LockMode::Ex),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(start: u64, end: u64) -> ByteRange {
        ByteRange::new(start, end).expect("forwards")
    }

    fn holding(range: ByteRange, mode: LockMode) -> RangesState {
        let mut state = RangesState::default();
        state.set(range, mode, Token(1), true);
        state
    }

    /// Protects owners from acting on wishes that they have met: what is no longer held, or held in a
    /// mode that allows it, is not told, and what still is, in the order in which it came.
    #[test]
    fn notices_of_what_is_no_longer_held_are_dropped() {
        let mut state = holding(bytes(0, 99), LockMode::Ex);
        let (low, high) = ((bytes(0, 9), LockMode::Pr), (bytes(50, 200), LockMode::Ex));
        for wish in [high, low, high, (bytes(20, 29), LockMode::Ex)] {
            state.wished(wish);
        }
        state.set(bytes(20, 29), LockMode::Nl, Token::NONE, true);
        assert_eq!(state.take_wish(), Some(high), "the oldest");
        for range in [bytes(0, 19), bytes(30, 99)] {
            state.set(range, LockMode::Pr, Token::NONE, true);
        }
        assert_eq!(state.take_wish(), None, "PR is not in the way of PR");
        state.wished(high);
        assert_eq!(state.take_wish(), Some(high), "it was told again");
        state.wished(high);
        state.set(ByteRange::ALL, LockMode::Nl, Token::NONE, false);
        state.set(bytes(0, 99), LockMode::Ex, Token(2), true);
        assert_eq!(state.take_wish(), None, "that was for another life of it");
    }

    /// Protects the client's memory and time: however many wait, a bounded number of notices is kept,
    /// and one that stands for all that were not says where and for what they wait.
    #[test]
    fn too_many_notices_become_one() {
        let mut state = holding(ByteRange::ALL, LockMode::Ex);
        let wish = |i: u64| match i {
            500 => (bytes(10 * i, 10 * i), LockMode::Cw),
            _ => (bytes(10 * i, 10 * i), LockMode::Pr),
        };
        let many = 100 * NOTICES_MAX as u64;
        for i in 1..=many {
            state.wished(wish(i));
            assert!(state.notices.len() <= NOTICES_MAX);
            assert_eq!(state.known.len(), state.notices.len());
        }
        let (all, mode) = state.take_wish().expect("they wait");
        // Neither CW nor PR is enough for both.
        assert_eq!((all.start(), mode), (10, LockMode::Pw));
        let rest: Vec<Wish> = std::iter::from_fn(|| state.take_wish()).collect();
        let first = many + 1 - rest.len() as u64;
        assert!(all.end() >= 10 * (first - 1), "none is left out");
        assert_eq!(rest, (first..=many).map(wish).collect::<Vec<_>>());
        // What the one stands for is not told again, until it was taken.
        for i in 1..=NOTICES_MAX as u64 + 1 {
            state.wished(wish(i));
        }
        state.wished(wish(7));
        assert!(state.joined.is_some() && state.notices.is_empty());
        state.take_wish().expect("they wait");
        state.wished(wish(7));
        assert_eq!(state.take_wish(), Some(wish(7)));
    }

    /// Protects precision: notices that were met make room, so that the others need not be joined.
    #[test]
    fn what_was_met_makes_room() {
        let mut state = holding(ByteRange::ALL, LockMode::Ex);
        let wish = |i: u64| (bytes(i, i), LockMode::Ex);
        let many = NOTICES_MAX as u64;
        for i in 0..many {
            state.wished(wish(i));
        }
        state.set(bytes(0, many - 3), LockMode::Nl, Token::NONE, true);
        state.wished(wish(many));
        assert_eq!(state.notices.len(), 3);
        let rest: Vec<Wish> = std::iter::from_fn(|| state.take_wish()).collect();
        assert_eq!(rest, (many - 2..=many).map(wish).collect::<Vec<_>>());
    }
}
