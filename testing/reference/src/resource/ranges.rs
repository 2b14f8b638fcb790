//! The plain model of one resource that is locked in ranges of bytes: a list of pieces and a list of
//! calls, each looked through from front to back. From `docs/protocol/ranges.md`; the numbers in the
//! comments are of its rules.

use super::{Key, compatible, gains};
use mainstay_base::{ByteRange, LockMode, Token};
use mainstay_lock::{Effect, Grant, Refusal};
use std::collections::BTreeSet;

/// The modes in which bytes can be held or wanted, the most urgent first.
const MODES: [LockMode; 5] = [
    LockMode::Ex,
    LockMode::Pw,
    LockMode::Pr,
    LockMode::Cw,
    LockMode::Cr,
];

/// Bytes that a lock holds in one mode. A stretch is one piece or several that lie side by side, which
/// then have one token.
#[derive(Clone, Copy, Debug)]
struct Piece {
    key: Key,
    range: ByteRange,
    mode: LockMode,
    token: Token,
    /// The most urgent mode of which its holder was told that it is in the way here.
    told: Option<LockMode>,
}

/// A call for a range.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wish {
    pub(crate) key: Key,
    pub(crate) range: ByteRange,
    pub(crate) mode: LockMode,
    pub(crate) nowait: bool,
    pub(crate) blocking: bool,
}

/// What is locked in ranges, and wanted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ranges {
    held: Vec<Piece>,
    /// Those that wait, first come first.
    calls: Vec<Wish>,
    /// Who wants to be told.
    curious: BTreeSet<Key>,
}

type Out<'a> = &'a mut Vec<Effect<Key>>;

fn range(start: u64, end: u64) -> ByteRange {
    ByteRange::new(start, end).unwrap()
}

fn urgency(mode: LockMode) -> usize {
    let place = MODES.iter().position(|other| *other == mode);
    place.map_or(0, |place| MODES.len() - place)
}

impl Piece {
    fn is_in_the_way(&self, of: &Wish) -> bool {
        self.key != of.key && self.meets(of.range, of.mode)
    }

    fn meets(&self, range: ByteRange, mode: LockMode) -> bool {
        self.range.overlaps(range) && !compatible(self.mode, mode)
    }

    fn knows_of(&self, mode: LockMode) -> bool {
        self.told.is_some_and(|told| urgency(told) >= urgency(mode))
    }
}

impl Ranges {
    pub(crate) fn is_empty(&self) -> bool {
        self.held.is_empty() && self.calls.is_empty()
    }

    /// Whether a lock holds anything.
    pub(crate) fn holds(&self, key: Key) -> bool {
        self.held.iter().any(|piece| piece.key == key)
    }

    /// Whether a lock has asked to be told what it is in the way of.
    pub(crate) fn is_curious(&self, key: Key) -> bool {
        self.curious.contains(&key)
    }

    fn of(&self, key: Key, within: ByteRange) -> impl Iterator<Item = &Piece> {
        let pieces = self.held.iter().filter(move |piece| piece.key == key);
        pieces.filter(move |piece| piece.range.overlaps(within))
    }

    /// Whether a lock gains nothing by a call: each byte is held in a mode that covers the asked one.
    pub(crate) fn covers(&self, key: Key, within: ByteRange, mode: LockMode) -> bool {
        let mut next = Some(within.start());
        while let Some(byte) = next.filter(|byte| *byte <= within.end()) {
            let piece = self.of(key, range(byte, byte)).next();
            match piece {
                Some(piece) if !gains(piece.mode, mode) => next = piece.range.end().checked_add(1),
                _ => return mode == LockMode::Nl,
            }
        }
        true
    }

    /// The largest token of what a lock holds of a range.
    pub(crate) fn token(&self, key: Key, within: ByteRange) -> Token {
        let tokens = self.of(key, within).map(|piece| piece.token);
        tokens.max().unwrap_or(Token::NONE)
    }

    /// Cuts pieces of a lock in two where a range begins and ends.
    fn cut(&mut self, key: Key, at: ByteRange) {
        let after = at.end().checked_add(1);
        for first in [Some(at.start()), after].into_iter().flatten() {
            let inside =
                |p: &&mut Piece| p.key == key && p.range.start() < first && p.range.end() >= first;
            if let Some(piece) = self.held.iter_mut().find(inside) {
                let rest = Piece {
                    range: range(first, piece.range.end()),
                    ..*piece
                };
                piece.range = range(piece.range.start(), first - 1);
                self.held.push(rest);
            }
        }
    }

    /// Sets a range of a lock's to a mode (2), with the token of the grant if that gains anything.
    fn set(&mut self, key: Key, within: ByteRange, mode: LockMode, token: Option<Token>) {
        self.cut(key, within);
        let there = |piece: &Piece| piece.key == key && within.contains(piece.range);
        match token {
            None if mode != LockMode::Nl => {
                for piece in self.held.iter_mut().filter(|piece| there(piece)) {
                    (piece.mode, piece.told) = (mode, None);
                }
            }
            token => {
                self.held.retain(|piece| !there(piece));
                self.held.extend(token.map(|token| Piece {
                    key,
                    range: within,
                    mode,
                    token,
                    told: None,
                }));
            }
        }
        self.put_together();
    }

    /// Gives all pieces of a stretch the largest of their tokens (13).
    fn put_together(&mut self) {
        self.held.sort_by_key(|piece| (piece.key, piece.range));
        let follows = |a: &Piece, b: &Piece| {
            (a.key, a.mode) == (b.key, b.mode)
                && a.range.end().checked_add(1) == Some(b.range.start())
        };
        for stretch in self.held.chunk_by_mut(follows) {
            let largest = stretch.iter().map(|piece| piece.token).max();
            for piece in stretch {
                piece.token = largest.unwrap();
            }
        }
    }

    /// Whether the call at a place stands before a later one (10).
    fn stands_before(&self, earlier: &Wish, later: &Wish) -> bool {
        earlier.key != later.key
            && earlier.range.overlaps(later.range)
            && !compatible(earlier.mode, later.mode)
            && !self
                .of(later.key, earlier.range)
                .any(|piece| piece.is_in_the_way(earlier))
    }

    /// Who holds something in the way of a call.
    fn holders(&self, wish: &Wish) -> BTreeSet<Key> {
        let pieces = self.held.iter().filter(|piece| piece.is_in_the_way(wish));
        pieces.map(|piece| piece.key).collect()
    }

    /// Whether a call can be granted that came after so many of those that wait (8, 9).
    fn can_be_granted(&self, wish: &Wish, before: usize) -> bool {
        let mut before = self.calls[..before].iter();
        self.covers(wish.key, wish.range, wish.mode)
            || self.holders(wish).is_empty() && !before.any(|call| self.stands_before(call, wish))
    }

    /// Whether a call that came last would wait for one that waits for it (12).
    fn would_deadlock(&self, wish: &Wish) -> bool {
        let mut todo = vec![(*wish, self.calls.len())];
        let mut seen = BTreeSet::new();
        while let Some((waits, before)) = todo.pop() {
            let holders = self.holders(&waits);
            if waits.key != wish.key && holders.contains(&wish.key) {
                return true;
            }
            for (place, call) in self.calls.iter().enumerate() {
                let stands = place < before && self.stands_before(call, &waits);
                if (stands || holders.contains(&call.key)) && seen.insert(call.key) {
                    todo.push((*call, place));
                }
            }
        }
        false
    }

    /// A call of a lock that waits for nothing.
    pub(crate) fn call(&mut self, wish: Wish, last_token: &mut Token, out: Out<'_>) {
        let key = wish.key;
        if self.can_be_granted(&wish, self.calls.len()) {
            self.grant(wish, last_token, out);
            return self.grant_waiting(last_token, out);
        }
        let why = match wish.nowait {
            true => Some(Refusal::NotQueued),
            false => self.would_deadlock(&wish).then_some(Refusal::Deadlock),
        };
        if let Some(why) = why {
            return out.push(Effect::Refused { key, why });
        }
        self.calls.push(wish);
        for holder in self.holders(&wish) {
            let mut pieces = self.held.iter().filter(|piece| piece.key == holder);
            let untold =
                |piece: &Piece| piece.meets(wish.range, wish.mode) && !piece.knows_of(wish.mode);
            if self.is_curious(holder) && pieces.any(untold) {
                self.tell(holder, &wish, out);
            }
        }
    }

    fn grant(&mut self, wish: Wish, last_token: &mut Token, out: Out<'_>) {
        let Wish {
            key, range, mode, ..
        } = wish;
        let gains = !self.covers(key, range, mode);
        if gains {
            *last_token = last_token.next();
        }
        let token = match gains {
            true => *last_token,
            false => self.token(key, range),
        };
        self.set(key, range, mode, gains.then_some(token));
        let value = None;
        let grant = Grant { mode, token, value };
        out.push(Effect::Granted { key, grant });
        let anew = wish.blocking && self.curious.insert(key);
        self.tell_holder(key, if anew { ByteRange::ALL } else { range }, out);
    }

    /// Tells a holder of all that waits for what it holds of a range, and of which it does not know yet
    /// (14).
    fn tell_holder(&mut self, key: Key, within: ByteRange, out: Out<'_>) {
        if !self.is_curious(key) {
            return;
        }
        let mut held: Vec<(ByteRange, LockMode)> = Vec::new();
        for piece in self.of(key, within) {
            match held.last_mut() {
                Some((stretch, mode))
                    if *mode == piece.mode && stretch.end() + 1 == piece.range.start() =>
                {
                    *stretch = range(stretch.start(), piece.range.end());
                }
                _ => held.push((piece.range, piece.mode)),
            }
        }
        for (stretch, _) in held {
            for mode in MODES {
                let mut calls: Vec<Wish> = self.calls.clone();
                calls.retain(|call| call.mode == mode && call.range.overlaps(stretch));
                calls.sort_by_key(|call| call.range.start());
                for call in calls {
                    let there = stretch.common(call.range).unwrap();
                    let untold =
                        |piece: &Piece| piece.is_in_the_way(&call) && !piece.knows_of(mode);
                    if self.of(key, there).any(untold) {
                        self.tell(key, &call, out);
                    }
                }
            }
        }
    }

    /// Tells a holder that it is in the way of a call.
    fn tell(&mut self, key: Key, call: &Wish, out: Out<'_>) {
        let (range, mode) = (call.range, call.mode);
        out.push(Effect::BlockingRange { key, range, mode });
        self.cut(key, range);
        let pieces = self.held.iter_mut().filter(|piece| piece.key == key);
        for piece in pieces.filter(|piece| piece.meets(range, mode)) {
            if !piece.knows_of(mode) {
                piece.told = Some(mode);
            }
        }
        self.put_together();
    }

    /// Grants what can be granted, first come first (11).
    fn grant_waiting(&mut self, last_token: &mut Token, out: Out<'_>) {
        let can = |ranges: &Ranges| {
            let mut calls = ranges.calls.iter().enumerate();
            calls.position(|(place, call)| ranges.can_be_granted(call, place))
        };
        while let Some(place) = can(self) {
            let wish = self.calls.remove(place);
            self.grant(wish, last_token, out);
        }
    }

    /// Gives up some of what a lock holds, or keeps it in less: a call that gains nothing.
    pub(crate) fn weaken(
        &mut self,
        key: Key,
        within: ByteRange,
        mode: LockMode,
        last_token: &mut Token,
        out: Out<'_>,
    ) {
        if self.of(key, within).all(|piece| piece.mode == mode) {
            return;
        }
        self.set(key, within, mode, None);
        self.tell_holder(key, within, out);
        self.grant_waiting(last_token, out);
    }

    /// Takes the call of a lock out of those that wait. Whether there was one.
    fn take_call(&mut self, key: Key) -> bool {
        let Some(place) = self.calls.iter().position(|call| call.key == key) else {
            return false;
        };
        let gone = self.calls.remove(place);
        if self
            .calls
            .iter()
            .any(|call| call.range.overlaps(gone.range))
        {
            return true;
        }
        // Nobody else waits there: of the next one its holders are told again.
        for holder in self.holders(&gone) {
            self.cut(holder, gone.range);
            let pieces = self.held.iter_mut().filter(|piece| piece.key == holder);
            for piece in pieces.filter(|piece| gone.range.contains(piece.range)) {
                piece.told = None;
            }
        }
        self.put_together();
        true
    }

    /// Takes back the call of a lock, if it waits.
    pub(crate) fn cancel(&mut self, key: Key, last_token: &mut Token, out: Out<'_>) -> bool {
        let waited = self.take_call(key);
        if waited {
            let why = Refusal::Cancelled;
            out.push(Effect::Refused { key, why });
            self.grant_waiting(last_token, out);
        }
        waited
    }

    /// A lock lets go of all that it holds and waits for.
    pub(crate) fn release(&mut self, key: Key, last_token: &mut Token, out: Out<'_>) {
        self.take_call(key);
        self.held.retain(|piece| piece.key != key);
        self.curious.remove(&key);
        self.grant_waiting(last_token, out);
    }
}
