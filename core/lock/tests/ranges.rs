//! Ranges against a model that is as plain as it can be: a mode for every byte, a list of those who
//! wait, and the rules byte by byte.

#![allow(clippy::unwrap_used, missing_docs)]

use mainstay_base::{ByteRange, LockMode, Token};
use mainstay_lock::{
    Effect, Flags, Refusal,
    ranges::{RangeAsk, Ranges, RestatedRanges, Stretch},
};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// So few bytes that ranges meet in every way.
const BYTES: u64 = 12;
const KEYS: u8 = 5;
/// From here on those that owners get later.
const OTHERS: u8 = 100;

#[derive(Clone, Debug)]
enum Step {
    Call(u8, RangeAsk),
    /// Where that gains nothing.
    Weaken(u8, ByteRange, LockMode),
    Cancel(u8),
    Release(u8),
}

fn range() -> impl Strategy<Value = ByteRange> {
    (0..BYTES, 0..BYTES).prop_map(|(a, b)| ByteRange::new(a.min(b), a.max(b)).unwrap())
}

fn mode() -> impl Strategy<Value = LockMode> {
    proptest::sample::select(LockMode::ALL.to_vec())
}

fn step() -> impl Strategy<Value = Step> {
    let key = || 0..KEYS;
    let ask = (
        range(),
        mode(),
        proptest::bool::weighted(0.1),
        any::<bool>(),
    );
    let ask = ask.prop_map(|(range, mode, nowait, wants_bast)| RangeAsk {
        range,
        mode,
        flags: if nowait { Flags::NOQUEUE } else { Flags::NONE },
        wants_bast,
    });
    prop_oneof![
        8 => (key(), ask).prop_map(|(k, ask)| Step::Call(k, ask)),
        5 => (key(), range(), mode()).prop_map(|(k, r, m)| Step::Weaken(k, r, m)),
        1 => key().prop_map(Step::Cancel),
        1 => key().prop_map(Step::Release),
    ]
}

/// What is decided, without tickets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Said {
    Granted(u8, Token),
    Queued(u8),
    Refused(u8, Refusal),
}

#[derive(Default)]
struct Model {
    held: BTreeMap<(u8, u64), LockMode>,
    queue: Vec<(u8, RangeAsk)>,
    last: Token,
    /// To whom each token was given.
    issued: BTreeMap<Token, u8>,
}

fn bytes(range: ByteRange) -> impl Iterator<Item = u64> {
    range.start()..=range.end()
}

impl Model {
    fn mode(&self, key: u8, byte: u64) -> LockMode {
        let mode = self.held.get(&(key, byte)).copied();
        mode.unwrap_or(LockMode::Nl)
    }

    fn gains(&self, key: u8, range: ByteRange, mode: LockMode) -> bool {
        bytes(range).any(|byte| !self.mode(key, byte).covers(mode))
    }

    /// Whether an owner holds something in the way of another's ask.
    fn holds_against(&self, key: u8, ask: &RangeAsk) -> bool {
        bytes(ask.range).any(|byte| !self.mode(key, byte).compatible(ask.mode))
    }

    /// Who is in the way of a call, by what they hold or by standing before it.
    fn in_way(&self, key: u8, ask: &RangeAsk, ahead: usize) -> BTreeSet<u8> {
        let holders = (0..KEYS).filter(|k| *k != key && self.holds_against(*k, ask));
        let before = self.queue[..ahead].iter().filter(|(_, other)| {
            let conflict = other.range.overlaps(ask.range) && !other.mode.compatible(ask.mode);
            conflict && !self.holds_against(key, other)
        });
        holders.chain(before.map(|(k, _)| *k)).collect()
    }

    fn free(&self, key: u8, ask: &RangeAsk, ahead: usize) -> bool {
        !self.gains(key, ask.range, ask.mode) || self.in_way(key, ask, ahead).is_empty()
    }

    fn set(&mut self, key: u8, range: ByteRange, mode: LockMode) {
        for byte in bytes(range) {
            self.held.insert((key, byte), mode);
        }
    }

    fn grant(&mut self, key: u8, ask: &RangeAsk, said: &mut Vec<Said>) {
        let mut token = Token::NONE;
        if self.gains(key, ask.range, ask.mode) {
            self.last = self.last.next();
            token = self.last;
            self.issued.insert(token, key);
        }
        self.set(key, ask.range, ask.mode);
        said.push(Said::Granted(key, token));
    }

    fn deadlock(&self, key: u8, ask: &RangeAsk) -> bool {
        let mut seen = BTreeSet::new();
        let mut todo: Vec<u8> = self
            .in_way(key, ask, self.queue.len())
            .into_iter()
            .collect();
        while let Some(next) = todo.pop() {
            if next == key {
                return true;
            }
            let place = self.queue.iter().position(|(k, _)| *k == next);
            if let Some(place) = place.filter(|_| seen.insert(next)) {
                let ask = self.queue[place].1;
                todo.extend(self.in_way(next, &ask, place));
            }
        }
        false
    }

    fn waits(&self, key: u8) -> bool {
        self.queue.iter().any(|(k, _)| *k == key)
    }

    fn sweep(&mut self, said: &mut Vec<Said>) {
        let free = |model: &Model| {
            let mut queue = model.queue.iter().enumerate();
            queue
                .find(|(at, (k, ask))| model.free(*k, ask, *at))
                .map(|found| found.0)
        };
        while let Some(at) = free(self) {
            let (key, ask) = self.queue.remove(at);
            self.grant(key, &ask, said);
        }
    }

    fn step(&mut self, step: &Step) -> Option<Vec<Said>> {
        let mut said = Vec::new();
        match step {
            Step::Call(key, _) | Step::Weaken(key, ..) if self.waits(*key) => return None,
            Step::Call(key, ask) => {
                if self.free(*key, ask, self.queue.len()) {
                    self.grant(*key, ask, &mut said);
                } else if ask.flags.contains(Flags::NOQUEUE) {
                    said.push(Said::Refused(*key, Refusal::NotQueued));
                } else if self.deadlock(*key, ask) {
                    said.push(Said::Refused(*key, Refusal::Deadlock));
                } else {
                    self.queue.push((*key, *ask));
                    said.push(Said::Queued(*key));
                }
            }
            Step::Weaken(key, range, mode) => {
                let nothing = (0..BYTES).all(|byte| self.mode(*key, byte) == LockMode::Nl);
                if nothing || self.gains(*key, *range, *mode) {
                    return None;
                }
                self.set(*key, *range, *mode);
            }
            Step::Cancel(key) => {
                if !self.waits(*key) {
                    return None;
                }
                self.queue.retain(|(k, _)| k != key);
                said.push(Said::Refused(*key, Refusal::Cancelled));
            }
            Step::Release(key) => {
                self.queue.retain(|(k, _)| k != key);
                self.set(*key, ByteRange::new(0, BYTES - 1).unwrap(), LockMode::Nl);
            }
        }
        self.sweep(&mut said);
        Some(said)
    }
}

fn said(effects: &[Effect<u8>]) -> Vec<Said> {
    let said = effects.iter().filter_map(|effect| match effect {
        Effect::Granted { key, grant } => Some(Said::Granted(*key, grant.token)),
        Effect::Queued { key, .. } => Some(Said::Queued(*key)),
        Effect::Refused { key, why } => Some(Said::Refused(*key, *why)),
        Effect::BlockingRange { .. } => None,
        Effect::Unlocked { .. } | Effect::Blocking { .. } => panic!("{effect:?}"),
    });
    said.collect()
}

impl Said {
    /// The same of whoever has that key before it gets another.
    fn before(self) -> Said {
        match self {
            Said::Granted(key, token) => Said::Granted(key % OTHERS, token),
            Said::Queued(key) => Said::Queued(key % OTHERS),
            Said::Refused(key, why) => Said::Refused(key % OTHERS, why),
        }
    }
}

impl Step {
    /// The same under other keys.
    fn under(&self, others: &impl Fn(u8) -> Option<u8>) -> Step {
        let now = |key: u8| others(key).unwrap_or(key);
        match *self {
            Step::Call(key, ask) => Step::Call(now(key), ask),
            Step::Weaken(key, range, mode) => Step::Weaken(now(key), range, mode),
            Step::Cancel(key) => Step::Cancel(now(key)),
            Step::Release(key) => Step::Release(now(key)),
        }
    }
}

/// Carries out a step; `None` if it was refused as wrong in itself.
fn carry_out(engine: &mut Ranges<u8>, step: &Step, out: &mut Vec<Effect<u8>>) -> Option<()> {
    match step {
        Step::Call(key, ask) => engine.call(*key, *ask, out).ok(),
        Step::Weaken(key, range, mode) => engine.weaken(*key, *range, *mode, out).ok(),
        Step::Cancel(key) => engine.cancel(*key, out).then_some(()),
        Step::Release(key) => {
            engine.release(*key, out);
            Some(())
        }
    }
}

fn stretches_by_byte(set: impl IntoIterator<Item = Stretch>) -> BTreeMap<u64, LockMode> {
    let all = set.into_iter();
    all.flat_map(|s| bytes(s.range).map(move |byte| (byte, s.mode)))
        .collect()
}

fn compare(engine: &Ranges<u8>, model: &Model) {
    engine.check();
    let mut found = BTreeMap::new();
    for (key, set) in engine.owners() {
        for (byte, mode) in stretches_by_byte(set.stretches()) {
            found.insert((key, byte), mode);
        }
    }
    let held = model.held.iter().filter(|(_, mode)| **mode != LockMode::Nl);
    let held: BTreeMap<_, _> = held.map(|(at, mode)| (*at, *mode)).collect();
    assert_eq!(found, held);
    let waiting: Vec<(u8, RangeAsk)> = engine.waiting().map(|w| (w.key, w.ask)).collect();
    assert_eq!(waiting, model.queue);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    /// Protects the whole engine: whatever is asked, it decides as the rules do byte by byte, in the
    /// same order and with the same tokens, and is what they say it is.
    #[test]
    fn the_engine_follows_the_rules(steps in proptest::collection::vec(step(), 1..40)) {
        let (mut engine, mut model) = (Ranges::new(Token::NONE), Model::default());
        for step in &steps {
            let mut out = Vec::new();
            let done = carry_out(&mut engine, step, &mut out);
            let expected = model.step(step);
            prop_assert_eq!(done.is_some(), expected.is_some(), "{:?}", step);
            let (mut said, expected) = (said(&out), expected.unwrap_or_default());
            for (said, expected) in said.iter_mut().zip(&expected) {
                if let (Said::Granted(key, token), Said::Granted(_, Token::NONE)) = (said, expected) {
                    // Who gains nothing has a token of its own, if it holds anything there.
                    let own = model.issued.get(token).is_none_or(|to| to == key);
                    prop_assert!(own, "{:?}: {:?} is another's", step, token);
                    *token = Token::NONE;
                }
            }
            prop_assert_eq!(said, expected, "{:?}", step);
            compare(&engine, &model);
        }
    }

    /// Protects a hand-over to another master: what is exported and restated decides as before.
    #[test]
    fn an_engine_goes_on_elsewhere(
        before in proptest::collection::vec(step(), 1..30),
        after in proptest::collection::vec(step(), 1..10),
    ) {
        let mut engine = Ranges::new(Token::NONE);
        for step in &before {
            carry_out(&mut engine, step, &mut Vec::new());
        }
        let mut heir = Ranges::new(engine.last_token());
        for (key, restated) in engine.export() {
            heir.restate(key, restated);
        }
        let mut out = Vec::new();
        heir.finish_rebuild(&mut out);
        prop_assert_eq!(said(&out), vec![]);
        heir.check();
        for step in &after {
            let (mut a, mut b) = (Vec::new(), Vec::new());
            let done = carry_out(&mut engine, step, &mut a).is_some();
            prop_assert_eq!(carry_out(&mut heir, step, &mut b).is_some(), done);
            prop_assert_eq!(said(&a), said(&b), "{:?}", step);
        }
    }

    /// Protects owners that go on under other keys: the engine decides as before, and tells them anew what they are
    /// in the way of, once.
    #[test]
    fn owners_get_other_keys(
        before in proptest::collection::vec(step(), 1..30),
        after in proptest::collection::vec(step(), 1..10),
        chosen in proptest::collection::vec(any::<bool>(), KEYS as usize),
    ) {
        let mut engine = Ranges::new(Token::NONE);
        for step in &before {
            carry_out(&mut engine, step, &mut Vec::new());
        }
        let mut heir = Ranges::new(engine.last_token());
        for (key, restated) in engine.export() {
            heir.restate(key, restated);
        }
        heir.finish_rebuild(&mut Vec::new());
        // Some are restated under their first keys, and renamed while that is not settled.
        let mut late = Ranges::new(engine.last_token());
        for (key, restated) in engine.export() {
            late.restate(key, restated);
        }
        let others = |key: u8| chosen[usize::from(key)].then_some(key + OTHERS);
        let known = engine.export().any(|(key, _)| others(key).is_some());
        prop_assert_eq!(heir.rename(&others), known);
        prop_assert_eq!(late.rename(&others), known);
        heir.check();
        late.finish_rebuild(&mut Vec::new());
        let (mut told, mut again) = (Vec::new(), Vec::new());
        heir.greet_renamed(&mut told);
        heir.greet_renamed(&mut again);
        let renamed = |effect: &Effect<u8>| *effect.key() >= OTHERS;
        prop_assert!(told.iter().all(renamed), "{:?}", told);
        prop_assert!(again.is_empty(), "{:?}", again);
        for key in 0..KEYS {
            let key = others(key).unwrap_or(key);
            let mut anew = Vec::new();
            prop_assert_eq!(heir.adopted(key, &mut anew), heir.knows(key));
            prop_assert!(anew.iter().all(|effect| *effect.key() == key));
            let before: Vec<_> = told.iter().filter(|e| *e.key() == key).cloned().collect();
            prop_assert!(key < OTHERS || before == anew, "{:?} {:?}", before, anew);
        }
        for step in &after {
            let (mut a, mut b, mut c) = (Vec::new(), Vec::new(), Vec::new());
            let there = step.under(&others);
            let done = carry_out(&mut engine, step, &mut a).is_some();
            prop_assert_eq!(carry_out(&mut heir, &there, &mut b).is_some(), done);
            prop_assert_eq!(carry_out(&mut late, &there, &mut c).is_some(), done);
            for (engine, effects) in [(&heir, b), (&late, c)] {
                engine.check();
                let decided: Vec<Said> = said(&effects).into_iter().map(Said::before).collect();
                prop_assert_eq!(said(&a), decided, "{:?}", step);
            }
        }
    }

    /// Protects recovery: owners to whom the dead master's last words had not come restate what they
    /// know, and nothing that any of them holds for certain is lost or given to another.
    #[test]
    fn ranges_survive_their_master(
        steps in proptest::collection::vec((step(), any::<bool>()), 1..40),
        lost in proptest::collection::vec(any::<bool>(), KEYS as usize),
        last in 0..6_usize,
    ) {
        let mut engine = Ranges::new(Token::NONE);
        let mut owners: Vec<Knows> = (0..KEYS).map(|_| Knows::default()).collect();
        let tail = steps.len().saturating_sub(last * 4);
        for (at, (step, heard)) in steps.iter().enumerate() {
            let mut out = Vec::new();
            let (Step::Call(key, _) | Step::Weaken(key, ..) | Step::Cancel(key) | Step::Release(key)) = step;
            let owner = &mut owners[usize::from(*key)];
            // An owner has one call at a time, until it has heard of its end.
            match step {
                Step::Call(..) | Step::Weaken(..) if owner.ask.is_some() => continue,
                Step::Call(_, ask) => owner.ask = Some(*ask),
                Step::Weaken(_, range, mode) => {
                    if owner.set.is_empty() || !owner.set.covers(*range, *mode) {
                        continue;
                    }
                    owner.set.set(*range, *mode, Token::NONE);
                }
                Step::Cancel(_) => continue,
                Step::Release(_) => *owner = Knows::default(),
            }
            carry_out(&mut engine, step, &mut out);
            let everything = at < tail;
            for effect in &out {
                if let Effect::Granted { key, .. } | Effect::Queued { key, .. }
                    | Effect::Refused { key, .. } = effect
                {
                    let owner = &mut owners[usize::from(*key)];
                    owner.deaf |= !everything && !heard;
                    if !owner.deaf {
                        owner.hear(effect);
                    }
                }
            }
        }
        let mut heir = Ranges::new(Token::floor(mainstay_base::Epoch(2)));
        for (key, owner) in (0..KEYS).zip(&owners) {
            if !lost[usize::from(key)] && (owner.ask.is_some() || !owner.set.is_empty()) {
                // In parts, as they travel.
                for part in owner.set.stretches().chunks(2) {
                    let held = part.to_vec();
                    heir.restate(key, RestatedRanges { held, ..owner.restated() });
                }
                heir.restate(key, owner.restated());
            }
        }
        let mut out = Vec::new();
        heir.finish_rebuild(&mut out);
        heir.check();
        for effect in &out {
            if let Effect::Granted { key, .. } | Effect::Queued { key, .. }
                | Effect::Refused { key, .. } = effect
            {
                owners[usize::from(*key)].hear(effect);
            }
        }
        for (key, owner) in (0..KEYS).zip(&owners) {
            let found = heir.owners().find(|(k, _)| *k == key).map(|(_, set)| set.clone());
            let found = found.unwrap_or_default();
            match lost[usize::from(key)] {
                true => prop_assert!(found.is_empty()),
                false => prop_assert_eq!(found.stretches(), owner.set.stretches(), "{}", key),
            }
            prop_assert_eq!(heir.waits(key), owner.ask.is_some() && !lost[usize::from(key)]);
        }
    }
}

/// What an owner knows.
#[derive(Clone, Default)]
struct Knows {
    set: mainstay_lock::ranges::RangeSet,
    ask: Option<RangeAsk>,
    ticket: Option<mainstay_lock::Ticket>,
    wants_bast: bool,
    /// Nothing more comes from the old master.
    deaf: bool,
}

impl Knows {
    fn hear(&mut self, effect: &Effect<u8>) {
        match effect {
            Effect::Granted { grant, .. } => {
                let ask = self.ask.take().unwrap();
                self.set.set(ask.range, ask.mode, grant.token);
                self.wants_bast = ask.wants_bast;
                self.ticket = None;
            }
            Effect::Queued { ticket, .. } => self.ticket = Some(*ticket),
            Effect::Refused { .. } => (self.ask, self.ticket) = (None, None),
            _ => {}
        }
    }

    fn restated(&self) -> RestatedRanges {
        RestatedRanges {
            held: Vec::new(),
            ask: self.ask,
            ticket: self.ticket,
            wants_bast: self.wants_bast,
        }
    }
}

fn ask(start: u64, end: u64, mode: LockMode) -> RangeAsk {
    RangeAsk {
        range: ByteRange::new(start, end).unwrap(),
        mode,
        flags: Flags::NONE,
        wants_bast: true,
    }
}

/// Protects the search for deadlocks: a wait names the holder in its way by its token, the one that
/// stands before it, and what is in that one's way; and each is confirmed, until it is gone.
#[test]
fn a_wait_names_what_is_in_its_way() {
    let mut engine = Ranges::new(Token::NONE);
    let mut out = Vec::new();
    engine.call(1, ask(0, 9, LockMode::Ex), &mut out).unwrap();
    engine.call(2, ask(5, 14, LockMode::Ex), &mut out).unwrap();
    engine.call(3, ask(14, 20, LockMode::Pr), &mut out).unwrap();
    engine.call(4, ask(30, 40, LockMode::Ex), &mut out).unwrap();
    let found: Vec<_> = engine
        .blockers(3)
        .iter()
        .map(|b| (b.key, b.held, b.via))
        .collect();
    assert_eq!(found, [(2, false, None), (1, true, Some((2, 1)))]);
    for blocker in engine.blockers(3).into_iter().chain(engine.blockers(2)) {
        let waiter = blocker.via.map_or(3, |via| via.0);
        let waiter = if blocker.held { 2 } else { waiter };
        assert!(
            engine.still_blocks(waiter, blocker.key, blocker.stamp),
            "{blocker:?}"
        );
        assert!(!engine.still_blocks(waiter, blocker.key, blocker.stamp + 7));
    }
    assert!(!engine.still_blocks(4, 1, 1));
    let token = engine.blockers(2)[0].stamp;
    engine.release(1, &mut out);
    assert!(!engine.still_blocks(2, 1, token));
}

/// Protects notices: a holder is told of the first call for a byte, not of each, again when a more
/// urgent one comes, and whoever gets the range after it is told in turn.
#[test]
fn a_holder_is_told_once() {
    let mut engine = Ranges::new(Token::NONE);
    let told = |engine: &mut Ranges<u32>, key, ask| {
        let mut out = Vec::new();
        engine.call(key, ask, &mut out).unwrap();
        let notices = out.into_iter().filter_map(|effect| match effect {
            Effect::BlockingRange { key, range, mode } => Some((key, range, mode)),
            _ => None,
        });
        notices.collect::<Vec<_>>()
    };
    let first = ask(0, 99, LockMode::Ex);
    assert_eq!(told(&mut engine, 1, first), []);
    let reader = ask(50, 59, LockMode::Pr);
    assert_eq!(
        told(&mut engine, 2, reader),
        [(1, reader.range, LockMode::Pr)]
    );
    assert_eq!(told(&mut engine, 3, reader), []);
    let writer = ask(55, 55, LockMode::Ex);
    assert_eq!(
        told(&mut engine, 4, writer),
        [(1, writer.range, LockMode::Ex)]
    );
    for key in 5..1_000 {
        assert_eq!(told(&mut engine, key, writer), []);
    }
    let mut out = Vec::new();
    engine.release(1, &mut out);
    let notices: Vec<_> = out
        .iter()
        .filter_map(|effect| match effect {
            Effect::BlockingRange { key, .. } => Some(*key),
            _ => None,
        })
        .collect();
    assert_eq!(notices, [2, 3]);
    engine.check();
}

/// Protects notices where CW, which is less urgent than PR, waits for bytes that are held in PR: that a
/// reader waits for others as well does not keep it from the holder.
#[test]
fn a_holder_is_told_of_each_mode_where_it_is_in_the_way() {
    let mut engine = Ranges::new(Token::NONE);
    let mut out = Vec::new();
    for held in [ask(0, 9, LockMode::Pr), ask(20, 29, LockMode::Ex)] {
        engine.call(1, held, &mut out).unwrap();
    }
    let mut told = |key, ask: RangeAsk| {
        let mut out = Vec::new();
        engine.call(key, ask, &mut out).unwrap();
        engine.check();
        let (range, mode) = (ask.range, ask.mode);
        out.contains(&Effect::BlockingRange {
            key: 1,
            range,
            mode,
        })
    };
    assert!(told(2, ask(0, 29, LockMode::Pr)));
    assert!(told(3, ask(5, 5, LockMode::Cw)));
    assert!(!told(4, ask(5, 5, LockMode::Cw)));
    assert!(!told(5, ask(8, 21, LockMode::Pr)));
    assert!(told(6, ask(7, 8, LockMode::Cw)));
}

/// Protects recovery: a call that weakened one part of its range and strengthened another had been
/// granted, but its owner has not heard so, and somebody else holds what it gave up. It is settled.
#[test]
fn a_call_in_flight_is_settled_by_what_followed_it() {
    let mut engine = Ranges::new(Token::floor(mainstay_base::Epoch(3)));
    let stretch = |start, end, mode, token| Stretch {
        range: ByteRange::new(start, end).unwrap(),
        mode,
        token: Token(token),
    };
    let first = RestatedRanges {
        held: vec![stretch(0, 9, LockMode::Ex, 1)],
        ask: Some(ask(5, 14, LockMode::Pr)),
        ticket: None,
        wants_bast: false,
    };
    let second = RestatedRanges {
        held: vec![stretch(7, 7, LockMode::Pr, 3)],
        ask: None,
        ticket: None,
        wants_bast: false,
    };
    engine.restate(2, second);
    engine.restate(1, first);
    let mut out = Vec::new();
    engine.finish_rebuild(&mut out);
    engine.check();
    let token = Token::floor(mainstay_base::Epoch(3)).next();
    assert!(matches!(&out[..], [Effect::Granted { key: 1, grant }] if grant.token == token));
    let (_, set) = engine.owners().next().unwrap();
    let held = [
        stretch(0, 4, LockMode::Ex, 1),
        stretch(5, 14, LockMode::Pr, token.0),
    ];
    assert_eq!(set.stretches(), held);
}
