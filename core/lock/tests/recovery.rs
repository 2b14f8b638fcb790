//! Owners and a master that talk over ordered channels, and masters that die with words unsaid.
//! The promises are checked from outside: what the owners believe, and what was really published.

#![allow(clippy::unwrap_used, missing_docs)]

use mainstay_base::{
    Epoch, LockMode, Token, Updated, Value, ValueBlock, ValueUpdate, ValueVersion,
};
use mainstay_lock::{
    Effect, Flags, Resource, Restated, Ticket, check_convert, check_request,
    mode_tables::{Transfer, transfer},
};
use proptest::prelude::*;
use std::collections::{BTreeMap, VecDeque};

const OWNERS: u8 = 5;

/// A request or conversion on its way or being worked on.
#[derive(Clone, Debug)]
struct Op {
    mode: LockMode,
    flags: Flags,
    publish: Option<ValueBlock>,
    ticket: Option<Ticket>,
    /// The old master has not seen it.
    unsent: bool,
}

/// What the master says to an owner.
#[derive(Clone, Debug)]
enum Word {
    Effect(Effect<u8>),
    /// What came of an update; nothing, if others were in its way.
    Updated(Option<Updated>),
}

/// An owner with one lock, and what it believes of it.
#[derive(Clone, Debug, Default)]
struct Owner {
    granted: Option<(LockMode, Token)>,
    op: Option<Op>,
    /// An update that is not answered, and whether the master has seen it.
    update: Option<(u8, bool)>,
    copy: Option<Value>,
    fresh: bool,
    unsure: bool,
    inbox: VecDeque<Word>,
}

impl Owner {
    fn hear(&mut self, word: Word) {
        let effect = match word {
            Word::Effect(effect) => effect,
            Word::Updated(updated) => {
                self.update = None;
                if let Some(Updated { value, .. }) = updated {
                    self.copy = Some(value);
                    self.unsure = false;
                }
                return;
            }
        };
        match effect {
            Effect::Granted { grant, .. } => {
                let op = self.op.take().unwrap();
                assert_eq!(grant.mode, op.mode);
                if let Some((_, token)) = self.granted {
                    assert!(grant.token >= token, "an owner's token went backwards");
                }
                self.granted = Some((grant.mode, grant.token));
                let asked = op.flags.contains(Flags::VALBLK);
                self.fresh = asked && (grant.value.is_some() || self.fresh);
                self.unsure &= grant.value.is_none();
                self.copy = grant.value.or(self.copy.take());
            }
            Effect::Queued { ticket, .. } => self.op.as_mut().unwrap().ticket = Some(ticket),
            Effect::Refused { .. } => self.op = None,
            Effect::Blocking { .. } => {}
            Effect::Unlocked { .. } | Effect::BlockingRange { .. } => {
                panic!("nobody unlocks here, or locks ranges")
            }
        }
    }

    /// The mode that the owner may be using. While it converts it uses only what both modes allow,
    /// and between modes that do not cover each other, nothing that conflicts.
    fn uses(&self) -> Option<LockMode> {
        let (mode, _) = self.granted?;
        match &self.op {
            None => Some(mode),
            Some(op) if op.mode.covers(mode) => Some(mode),
            Some(op) if mode.covers(op.mode) => Some(op.mode),
            Some(_) => Some(LockMode::Cr),
        }
    }
}

struct World {
    master: Resource<u8>,
    owners: BTreeMap<u8, Owner>,
    epoch: u64,
    /// The block published last, and the largest token ever issued.
    truth: ValueBlock,
    largest: Token,
    /// What each version stood for.
    versions: BTreeMap<ValueVersion, ValueBlock>,
}

#[derive(Clone, Debug)]
enum Step {
    Ask(u8, LockMode, Flags, u8),
    Update(u8, u8),
    ToMaster(u8),
    ToOwner(u8),
    OwnerDies(u8),
    /// Bits say which owners die with the master.
    MasterDies(u8),
    HandOver,
}

impl World {
    fn new() -> World {
        World {
            master: Resource::new(Token::NONE, 4),
            owners: BTreeMap::new(),
            epoch: 0,
            truth: ValueBlock::new([0; 4]).unwrap(),
            largest: Token::NONE,
            versions: BTreeMap::new(),
        }
    }

    fn owner(&mut self, key: u8) -> &mut Owner {
        self.owners.entry(key).or_default()
    }

    /// Notes what the master says, and puts it on its way.
    fn say(&mut self, out: Vec<Effect<u8>>) {
        for effect in out {
            let (Effect::Granted { key, .. }
            | Effect::Queued { key, .. }
            | Effect::Refused { key, .. }
            | Effect::Unlocked { key, .. }
            | Effect::Blocking { key, .. }
            | Effect::BlockingRange { key, .. }) = effect;
            if let Effect::Granted { grant, .. } = &effect {
                // A token that repeats belongs to a down-conversion or an NL lock.
                let heard = self.owners.get(&key).and_then(|o| o.granted);
                let gains =
                    heard.map_or(grant.mode != LockMode::Nl, |(m, _)| !m.covers(grant.mode));
                assert!(!gains || grant.token > self.largest, "{effect:?}");
                self.largest = self.largest.max(grant.token);
            }
            if let Some(owner) = self.owners.get_mut(&key) {
                owner.inbox.push_back(Word::Effect(effect));
            }
        }
        self.master.check();
    }

    fn ask(&mut self, key: u8, mode: LockMode, flags: Flags, byte: u8) {
        let owner = self.owner(key);
        let from = owner.granted.map(|g| g.0);
        let valid = match from {
            None => check_request(mode, flags),
            Some(from) => check_convert(from, mode, flags),
        };
        if owner.op.is_some() || owner.update.is_some() || valid.is_err() {
            return;
        }
        let writes = from.is_some_and(|from| transfer(Some(from), mode) == Transfer::Write);
        let publishes = writes && flags.contains(Flags::VALBLK);
        owner.op = Some(Op {
            mode,
            flags,
            publish: publishes.then(|| ValueBlock::new([byte, 1, 2, 3]).unwrap()),
            ticket: None,
            unsent: true,
        });
    }

    fn update(&mut self, key: u8, byte: u8) {
        let owner = self.owner(key);
        if owner.op.is_none() && owner.update.is_none() && owner.granted.is_some() {
            owner.update = Some((byte, false));
        }
    }

    /// The update happens, in the middle of whatever others hear and do.
    fn send_update(&mut self, key: u8) {
        let Some(owner) = self.owners.get_mut(&key) else {
            return;
        };
        let Some((byte, sent @ false)) = &mut owner.update else {
            return;
        };
        *sent = true;
        let value = self.master.value();
        let update = ValueUpdate::Swap {
            expect: value.version,
            expect_stale: value.maybe_stale,
            block: ValueBlock::new([*byte, 4, 5, 6]).unwrap(),
        };
        let updated = self.master.update(key, &update).ok();
        if let Some(updated) = &updated {
            self.truth = updated.value.block.clone();
        }
        owner.inbox.push_back(Word::Updated(updated));
    }

    fn send_to_master(&mut self, key: u8) {
        self.send_update(key);
        let mut out = Vec::new();
        let Some(owner) = self.owners.get_mut(&key) else {
            return;
        };
        let (granted, Some(op)) = (owner.granted, &mut owner.op) else {
            return;
        };
        if !op.unsent {
            return;
        }
        op.unsent = false;
        let op = op.clone();
        if granted.is_none() {
            self.master
                .request(key, op.mode, op.flags, true, &mut out)
                .unwrap();
        } else {
            let publish = op.publish.as_ref();
            self.master
                .convert(key, op.mode, op.flags, true, publish, &mut out)
                .unwrap();
        }
        if let Some(block) = op.publish {
            self.truth = block;
        }
        self.say(out);
    }

    fn deliver_to_owner(&mut self, key: u8) -> bool {
        let Some(owner) = self.owners.get_mut(&key) else {
            return false;
        };
        let Some(word) = owner.inbox.pop_front() else {
            return false;
        };
        owner.hear(word);
        if owner.granted.is_none() && owner.op.is_none() {
            self.owners.remove(&key);
        }
        true
    }

    fn owner_dies(&mut self, key: u8) {
        let mut out = Vec::new();
        self.owners.remove(&key);
        self.master.force_unlock(key, true, &mut out);
        self.say(out);
    }

    fn rebuild(&mut self, died: bool) {
        let marked = self.master.value().maybe_stale;
        let before = self.master.value();
        self.epoch += 1;
        let floor = if died {
            Token::floor(Epoch(self.epoch))
        } else {
            self.master.last_token()
        };
        self.master = Resource::new(floor, 4);
        let mut published = None;
        let mut guessed = false;
        for (&key, owner) in &mut self.owners {
            owner.inbox.clear();
            // What was sent and not answered may have happened; it is not sent again.
            if owner.update.is_some_and(|(_, sent)| sent) {
                owner.update = None;
                owner.unsure = true;
            }
            let restated = Restated {
                granted: owner.granted,
                pending: owner.op.as_ref().map(|op| (op.mode, op.flags)),
                ticket: owner.op.as_ref().and_then(|op| op.ticket),
                wants_bast: true,
                valblk: owner.fresh,
                value: owner.copy.clone(),
                publish: owner.op.as_ref().and_then(|op| op.publish.clone()),
                unsure: owner.unsure,
                watches: false,
            };
            if let Some(op) = &mut owner.op {
                if op.unsent && op.publish.is_some() {
                    assert!(published.is_none(), "two writers at once");
                    published = op.publish.clone();
                    // Without a certain copy of its own its version is a guess, and the value is
                    // marked.
                    let marked = owner.copy.as_ref().is_some_and(|copy| copy.maybe_stale);
                    guessed = marked || !owner.fresh || owner.unsure;
                }
                op.unsent = false;
            }
            self.master.restate(key, restated);
        }
        if !died {
            self.master.restate_value(before);
        }
        let mut out = Vec::new();
        self.master.finish_rebuild(died, &mut out);
        let value = self.master.value();
        let has_published = published.is_some();
        if let Some(block) = published {
            self.truth = block;
        }
        if !value.maybe_stale {
            assert_eq!(
                value.block, self.truth,
                "an unmarked value is not the last one"
            );
        }
        if !died {
            assert_eq!(value.block, self.truth, "a handover lost a value");
            assert!(!value.maybe_stale || guessed || (marked && !has_published));
        }
        self.truth = value.block;
        for (&key, owner) in &self.owners {
            if owner.op.is_none() {
                let lock = self.master.get(key).unwrap();
                assert_eq!(lock.granted, owner.granted, "{key} lost its grant");
                assert_eq!(lock.requested, None);
            }
        }
        self.say(out);
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Ask(key, mode, flags, byte) => self.ask(key, mode, flags, byte),
            Step::Update(key, byte) => self.update(key, byte),
            Step::ToMaster(key) => self.send_to_master(key),
            Step::ToOwner(key) => {
                self.deliver_to_owner(key);
            }
            Step::OwnerDies(key) => self.owner_dies(key),
            Step::MasterDies(bits) => {
                self.owners.retain(|key, _| bits >> key & 1 == 0);
                self.rebuild(true);
            }
            Step::HandOver => {
                for key in 0..OWNERS {
                    while self.deliver_to_owner(key) {}
                }
                self.rebuild(false);
            }
        }
        self.owners
            .retain(|_, o| o.granted.is_some() || o.op.is_some());
        self.exclusion();
        let Value { block, version, .. } = self.master.value();
        let known = self
            .versions
            .entry(version)
            .or_insert_with(|| block.clone());
        assert_eq!(*known, block, "version {version} stands for two values");
    }

    fn exclusion(&self) {
        let used: Vec<LockMode> = self.owners.values().filter_map(Owner::uses).collect();
        for (at, a) in used.iter().enumerate() {
            for b in &used[at + 1..] {
                assert!(a.compatible(*b), "{:?}", self.owners);
            }
        }
    }

    /// Everybody lets go, and everything asked for is answered.
    fn settle(&mut self) {
        for _ in 0..4 * OWNERS {
            for key in 0..OWNERS {
                self.send_to_master(key);
                while self.deliver_to_owner(key) {}
            }
            for key in 0..OWNERS {
                if self.owners.get(&key).is_some_and(|o| o.granted.is_some()) {
                    self.ask(key, LockMode::Nl, Flags::NONE, 0);
                }
            }
        }
        for (key, owner) in &self.owners {
            assert!(
                owner.granted.is_none() || owner.granted.is_some_and(|g| g.0 == LockMode::Nl),
                "{key} never got on: {owner:?}"
            );
            assert!(owner.op.as_ref().is_none_or(|op| op.mode == LockMode::Nl));
        }
    }
}

fn step() -> impl Strategy<Value = Step> {
    const FLAGS: &[Flags] = &[
        Flags::VALBLK,
        Flags::VALBLK,
        Flags::VALBLK,
        Flags::VALBLK,
        Flags::NONE,
        Flags::NOQUEUE,
        Flags::QUECVT,
        Flags::HEADQUE,
        Flags::NOORDER,
    ];
    let flags = || proptest::collection::vec(proptest::sample::select(FLAGS), 1..3);
    let mode = proptest::sample::select(LockMode::ALL.to_vec());
    prop_oneof![
        10 => (0..OWNERS, mode, flags(), any::<u8>()).prop_map(|(k, m, f, b)| {
            Step::Ask(k, m, f.into_iter().fold(Flags::NONE, |a, b| a | b), b)
        }),
        4 => (0..OWNERS, any::<u8>()).prop_map(|(k, b)| Step::Update(k, b)),
        12 => (0..OWNERS).prop_map(Step::ToMaster),
        12 => (0..OWNERS).prop_map(Step::ToOwner),
        1 => (0..OWNERS).prop_map(Step::OwnerDies),
        1 => (any::<u8>(), any::<u8>(), any::<u8>()).prop_map(|(a, b, c)| Step::MasterDies(a & b & c)),
        1 => Just(Step::HandOver),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 3000,
        failure_persistence: None,
        rng_seed: proptest::test_runner::RngSeed::Fixed(0x7265_636f),
        ..ProptestConfig::default()
    })]

    /// Protects S1, S2, S3, growing tokens and L1 when a master dies with answers on their way:
    /// holders never conflict, survivors keep their grants, an unmarked value is the last one
    /// published or swapped in, no version stands for two, and everything is answered in the end.
    #[test]
    fn masters_may_die_at_any_time(steps in proptest::collection::vec(step(), 1..150)) {
        let mut world = World::new();
        for step in &steps {
            world.step(step);
        }
        world.settle();
    }
}
