//! The engine against a model that is as plain as it can be: lists, loops over all of them, and the
//! rules in the order in which the scenarios of `testing/scripts/grant` state them.

#![allow(clippy::unwrap_used, missing_docs)]

use mainstay_base::{
    Compat, LockMode, Order, Token, Updated, ValueBlock, ValueUpdate, ValueVersion,
};
use mainstay_lock::{Effect, Flags, LockView, Resource, Restated, Rules, UpdateError};
use mainstay_reference::resource::{Brief, Key, Reference};
use proptest::prelude::*;

const VALUE_LEN: usize = 10;

#[derive(Clone, Debug)]
enum Step {
    Request(Key, LockMode, Flags, bool),
    Convert(Key, LockMode, Flags, bool, Option<u8>),
    ConvertDemoted(Key, LockMode, Flags, bool),
    Unlock(Key, Flags, Option<u8>),
    ForceUnlock(Key, bool),
    Cancel(Key),
    /// Expect the version that is by so much older than the present one.
    Swap(Key, u64, bool, u8),
    Add(Key, i64),
    Watch(Key, bool),
    RaiseFloor(u64),
    /// Bits choose by key who is lost and who has not heard of its ticket.
    Rebuild {
        died: bool,
        lost: u8,
        forgotten: u8,
    },
}

/// A lockspace that says nothing, or one in which it soon shows what it says.
fn rules() -> impl Strategy<Value = Rules> {
    let order = proptest::sample::select(Order::ALL.to_vec());
    let overtake = prop_oneof![2 => Just(64), 1 => Just(0), 1 => Just(1), 1 => Just(2)];
    let compat = prop_oneof![
        3 => Just(Compat::Strict), 2 => Just(Compat::Linux), 2 => Just(Compat::Vms), 1 => Just(Compat::Saf),
    ];
    (order, overtake, compat).prop_map(|(order, overtake, compat)| Rules {
        value_len: match compat {
            Compat::Vms => 64,
            _ => VALUE_LEN as u16,
        },
        order,
        overtake,
        compat,
    })
}

fn key() -> impl Strategy<Value = Key> {
    0..7_u64
}

fn mode() -> impl Strategy<Value = LockMode> {
    proptest::sample::select(LockMode::ALL.to_vec())
}

/// Mostly few flags, so that most operations are valid.
fn flags(choice: &'static [Flags]) -> impl Strategy<Value = Flags> {
    (
        proptest::collection::vec(proptest::sample::select(choice), 0..3),
        0..16u8,
    )
        .prop_map(|(all, priority)| {
            let flags = all.into_iter().fold(Flags::NONE, |a, b| a | b);
            flags.with_priority(if priority < 8 { priority } else { 0 })
        })
}

const REQUEST: &[Flags] = &[
    Flags::VALBLK,
    Flags::VALBLK,
    Flags::VALBLK,
    Flags::NOQUEUE,
    Flags::EXPEDITE,
    Flags::HEADQUE,
    Flags::NOORDER,
    Flags::NOQUEUEBAST,
    Flags::ALTPR,
    Flags::ALTCW,
    Flags::NODLCKWT,
    Flags::NODLCKBLK,
];
const CONVERT: &[Flags] = &[
    Flags::VALBLK,
    Flags::VALBLK,
    Flags::VALBLK,
    Flags::NOQUEUE,
    Flags::QUECVT,
    Flags::HEADQUE,
    Flags::NOORDER,
    Flags::IVVALBLK,
    Flags::NOQUEUEBAST,
    Flags::ALTPR,
    Flags::ALTCW,
    Flags::CONVDEADLK,
    Flags::NODLCKWT,
    Flags::NODLCKBLK,
];
const UNLOCK: &[Flags] = &[
    Flags::VALBLK,
    Flags::VALBLK,
    Flags::IVVALBLK,
    Flags::FORCEUNLOCK,
    Flags::FORCEUNLOCK,
    Flags::NOQUEUE,
];

fn step() -> impl Strategy<Value = Step> {
    let value = || proptest::option::weighted(0.8, any::<u8>());
    prop_oneof![
        6 => (key(), mode(), flags(REQUEST), any::<bool>())
            .prop_map(|(k, m, f, b)| Step::Request(k, m, f, b)),
        8 => (key(), mode(), flags(CONVERT), any::<bool>(), value())
            .prop_map(|(k, m, f, b, v)| Step::Convert(k, m, f, b, v)),
        1 => (key(), mode(), flags(CONVERT), any::<bool>())
            .prop_map(|(k, m, f, b)| Step::ConvertDemoted(k, m, f, b)),
        3 => (key(), flags(UNLOCK), value())
            .prop_map(|(k, f, v)| Step::Unlock(k, f.with_priority(0), v)),
        1 => (key(), any::<bool>()).prop_map(|(k, i)| Step::ForceUnlock(k, i)),
        1 => key().prop_map(Step::Cancel),
        2 => (key(), 0..3u64, any::<bool>(), any::<u8>())
            .prop_map(|(k, o, s, b)| Step::Swap(k, o / 2, s, b)),
        2 => (key(), prop_oneof![-3..3i64, Just(i64::MAX), Just(i64::MIN)])
            .prop_map(|(k, d)| Step::Add(k, d)),
        1 => (key(), any::<bool>()).prop_map(|(k, on)| Step::Watch(k, on)),
        1 => (0..200u64).prop_map(Step::RaiseFloor),
        1 => (any::<bool>(), any::<u8>(), any::<u8>(), any::<u8>()).prop_map(
            |(died, lost, some, forgotten)| Step::Rebuild { died, lost: lost & some, forgotten }),
    ]
}

/// As it is, but for the promises that take a call out of the search for deadlocks.
fn counted(mut step: Step) -> Step {
    if let Step::Request(_, _, flags, _)
    | Step::Convert(_, _, flags, _, _)
    | Step::ConvertDemoted(_, _, flags, _) = &mut step
    {
        *flags = flags.without(Flags::NODLCKWT | Flags::NODLCKBLK);
    }
    step
}

/// Of a length that the lockspace has, or sometimes not.
fn block(rules: Rules, byte: Option<u8>) -> Option<ValueBlock> {
    byte.map(|b| match rules.compat {
        Compat::Vms => ValueBlock::new(vec![b; [16, 16, 64, 15][usize::from(b % 4)]]).unwrap(),
        _ => ValueBlock::new([b, 1]).unwrap(),
    })
}

/// An update on both; whether it is valid, and the same on both.
fn updated(
    engine: &mut Resource<Key>,
    model: &mut Reference,
    key: Key,
    update: &ValueUpdate,
) -> (bool, bool) {
    let expected = model.update(key, update);
    let told: Option<Option<Updated>> = match engine.update(key, update) {
        Ok(updated) => Some(Some(updated)),
        Err(UpdateError::Held) => Some(None),
        Err(UpdateError::Invalid(_)) => None,
    };
    assert_eq!(told, expected, "{update:?} by {key}");
    (told.is_some(), expected.is_some())
}

/// Carries out a step on both and compares what they say and what they are.
fn both(rules: Rules, engine: &mut Resource<Key>, model: &mut Reference, step: &Step) {
    let before = (model.value.version, model.value.maybe_stale);
    let mut out = Vec::new();
    let mut expected: Vec<Effect<Key>> = Vec::new();
    let (valid, model_valid) = match step.clone() {
        Step::Request(key, mode, flags, bast) => (
            engine.request(key, mode, flags, bast, &mut out).is_ok(),
            model.request(key, mode, flags, bast, &mut expected),
        ),
        Step::Convert(key, mode, flags, bast, value) => {
            let value = block(rules, value);
            let valid = engine.convert(key, mode, flags, bast, value.as_ref(), &mut out);
            let model_valid = model.convert(key, mode, flags, bast, value, &mut expected);
            (valid.is_ok(), model_valid)
        }
        Step::ConvertDemoted(key, mode, flags, bast) => (
            engine
                .convert_demoted(key, mode, flags, bast, &mut out)
                .is_ok(),
            model.convert_demoted(key, mode, flags, bast, &mut expected),
        ),
        Step::Unlock(key, flags, value) => {
            let value = block(rules, value);
            let valid = engine.unlock(key, flags, value.as_ref(), &mut out);
            (
                valid.is_ok(),
                model.unlock(key, flags, value, &mut expected),
            )
        }
        Step::ForceUnlock(key, invalidate) => (
            engine.force_unlock(key, invalidate, &mut out),
            model.force_unlock(key, invalidate, &mut expected),
        ),
        Step::Cancel(key) => (
            engine.cancel(key, &mut out),
            model.cancel(key, &mut expected),
        ),
        Step::Swap(key, older, expect_stale, byte) => {
            let expect = ValueVersion(model.value.version.0.saturating_sub(older));
            let update = ValueUpdate::Swap {
                expect,
                expect_stale,
                block: block(rules, Some(byte)).unwrap(),
            };
            updated(engine, model, key, &update)
        }
        Step::Add(key, delta) => updated(engine, model, key, &ValueUpdate::Add { delta }),
        Step::Watch(key, on) => (engine.watch(key, on), model.watch(key, on)),
        Step::RaiseFloor(floor) => {
            engine.raise_floor(Token(floor));
            model.last_token = model.last_token.max(Token(floor));
            (true, true)
        }
        Step::Rebuild {
            died,
            lost,
            forgotten,
        } => {
            *engine = Resource::new(model.last_token, rules);
            let known: Vec<(Key, Restated)> = model.restatements(lost, forgotten);
            // The order of arrival must not matter.
            for (key, lock) in known.into_iter().rev() {
                engine.restate(key, lock);
            }
            if !died {
                engine.restate_value(model.value.clone());
            }
            engine.finish_rebuild(died, &mut out);
            model.rebuild(died, lost, forgotten, &mut expected);
            (true, true)
        }
    };
    assert_eq!(valid, model_valid, "valid? {step:?}");
    assert_eq!(out, expected, "effects of {step:?}");
    engine.check();
    assert_eq!(engine.value(), model.value, "value after {step:?}");
    assert_eq!(engine.last_token(), model.last_token);
    let news = matches!(step, Step::Rebuild { .. })
        || before != (model.value.version, model.value.maybe_stale);
    if news && !model.watching().is_empty() {
        assert!(
            engine.has_news(),
            "those who watch have news after {step:?}"
        );
        assert_eq!(engine.take_watching(), model.watching(), "after {step:?}");
        model.heard();
    }
    fn brief(l: LockView<Key>) -> Brief {
        (l.key, l.granted, l.requested, l.ticket, l.valblk)
    }
    assert_eq!(
        engine.granted().map(brief).collect::<Vec<_>>(),
        model.granted_briefs(),
        "grant queue after {step:?}"
    );
    assert_eq!(
        engine.converting().map(brief).collect::<Vec<_>>(),
        model.converting_briefs(),
        "convert queue after {step:?}"
    );
    assert_eq!(
        engine.waiting().map(brief).collect::<Vec<_>>(),
        model.waiting_briefs(),
        "wait queue after {step:?}"
    );
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 1500,
        failure_persistence: None,
        rng_seed: proptest::test_runner::RngSeed::Fixed(0x6c6f_636b),
        ..ProptestConfig::default()
    })]

    /// Protects every decision of the engine: each effect, each queue, tokens, tickets and values
    /// are those of the plain model, in random histories with rebuilds.
    #[test]
    fn engine_and_model_agree(
        rules in rules(), steps in proptest::collection::vec(step(), 1..80),
    ) {
        let mut engine = Resource::new(Token::NONE, rules);
        let mut model = Reference::new(rules);
        for step in &steps {
            both(rules, &mut engine, &mut model, step);
        }
    }
}

/// The engine after these steps, as far as they are valid.
fn after(rules: Rules, steps: &[Step]) -> Resource<Key> {
    let mut engine = Resource::new(Token::NONE, rules);
    let mut model = Reference::new(rules);
    for step in steps {
        both(rules, &mut engine, &mut model, step);
    }
    engine
}

fn waits(engine: &Resource<Key>, key: Key) -> bool {
    engine.get(key).is_some_and(|lock| lock.requested.is_some())
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 3000,
        failure_persistence: None,
        rng_seed: proptest::test_runner::RngSeed::Fixed(0x6269_6e64),
        ..ProptestConfig::default()
    })]

    /// Protects the search for deadlocks: what is named as in the way of a wait is all of it, for
    /// whoever waits has something in its way until it is granted; and is in the way, for each by
    /// itself keeps it waiting.
    #[test]
    fn what_is_in_the_way_is_all_and_nothing_else(
        rules in rules(),
        steps in proptest::collection::vec(step().prop_map(counted), 1..40),
    ) {
        let engine = after(rules, &steps);
        let queued: Vec<Key> = engine.converting().chain(engine.waiting()).map(|l| l.key).collect();
        for wait in queued {
            let blockers = engine.blockers(wait);
            let mut out = Vec::new();
            let mut free = after(rules, &steps);
            // Others may be granted and get in its way, by NOORDER.
            while waits(&free, wait) {
                let named = free.blockers(wait);
                prop_assert!(!named.is_empty(), "{wait} waits for more than {blockers:?}");
                for blocker in named {
                    free.force_unlock(blocker.key, false, &mut out);
                }
            }
            for kept in &blockers {
                let standing = match kept.via {
                    None => engine.still_blocks(wait, kept.key, kept.stamp),
                    Some((via, place)) => {
                        engine.still_blocks(wait, via, place)
                            && engine.still_blocks(via, kept.key, kept.stamp)
                    }
                };
                prop_assert!(standing, "{kept:?} is not confirmed for {wait}");
                let mut held = after(rules, &steps);
                for other in blockers.iter().filter(|b| b.key != kept.key) {
                    if kept.via.is_none_or(|(via, _)| via != other.key) {
                        held.force_unlock(other.key, false, &mut out);
                    }
                }
                // A conversion without order may get out of the way of what stands anywhere.
                let unordered = |key| {
                    let lock: LockView<Key> = engine.get(key).unwrap();
                    lock.requested.is_some() && lock.flags.contains(Flags::NOORDER)
                };
                let by_way = kept.via.is_some_and(|(via, _)| unordered(via));
                let passes = kept.held && (unordered(kept.key) || unordered(wait) || by_way);
                prop_assert!(passes || waits(&held, wait), "{wait} does not wait for {kept:?}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 3000,
        failure_persistence: None,
        rng_seed: proptest::test_runner::RngSeed::Fixed(0x7761_6974),
        ..ProptestConfig::default()
    })]

    /// Protects from rules that make people wait for each other: when all who have what they want let
    /// go, and then those who got it thereby, and so on, nobody is left waiting. And protects a move:
    /// another master carries on with the same.
    #[test]
    fn nobody_waits_for_ever(
        rules in rules(),
        steps in proptest::collection::vec(step().prop_map(counted), 1..60),
    ) {
        let engine = after(rules, &steps);
        let moved = engine.moved().expect("nothing is being rebuilt");
        let mut moved = Resource::from_moved(rules, moved).expect("another master can have it");
        let mut out = Vec::new();
        let mut engine = engine;
        let mut told = Vec::new();
        loop {
            let holder = engine.granted().map(|l| l.key).next();
            let Some(holder) = holder else { break };
            engine.force_unlock(holder, false, &mut out);
            moved.force_unlock(holder, false, &mut told);
            prop_assert_eq!(&out, &told);
        }
        prop_assert!(engine.is_empty(), "{:?} wait for each other", engine);
    }
}

/// Protects the sizes that decide the memory per lock: a granted lock and a resource without
/// waiters or value fit their share of 250 bytes per lock.
#[test]
fn an_idle_resource_is_small() {
    let size = size_of::<Resource<(u16, u64)>>();
    assert!(size <= 136, "a resource has {size} bytes");
}
