//! Who is granted before whom, where a lockspace says more than "in order".

#![allow(clippy::unwrap_used, missing_docs)]

use mainstay_base::{
    Compat,
    LockMode::{self, Cr, Cw, Ex, Nl, Pr, Pw},
    Order, Token,
};
use mainstay_lock::{Effect, Flags, Refusal, Resource, Rules};

struct World {
    engine: Resource<u32>,
    /// Grants, in order.
    granted: Vec<(u32, LockMode)>,
}

impl World {
    fn new(order: Order, overtake: u8) -> World {
        let rules = Rules {
            value_len: 8,
            order,
            overtake,
            compat: Compat::Strict,
        };
        World {
            engine: Resource::new(Token::NONE, rules),
            granted: Vec::new(),
        }
    }

    fn note(&mut self, out: Vec<Effect<u32>>) {
        self.engine.check();
        self.granted
            .extend(out.into_iter().filter_map(|effect| match effect {
                Effect::Granted { key, grant } => Some((key, grant.mode)),
                _ => None,
            }));
    }

    fn ask(&mut self, key: u32, mode: LockMode, priority: u8) {
        self.ask_with(key, mode, Flags::NONE.with_priority(priority));
    }

    fn convert(&mut self, key: u32, mode: LockMode) {
        self.convert_with(key, mode, Flags::NONE);
    }

    /// Returns whether it was refused as a deadlock.
    fn convert_with(&mut self, key: u32, mode: LockMode, flags: Flags) -> bool {
        let mut out = Vec::new();
        let engine = &mut self.engine;
        engine
            .convert(key, mode, flags, true, None, &mut out)
            .unwrap();
        let why = Refusal::Deadlock;
        let deadlock = out.contains(&Effect::Refused { key, why });
        self.note(out);
        deadlock
    }

    fn ask_with(&mut self, key: u32, mode: LockMode, flags: Flags) {
        let mut out = Vec::new();
        self.engine
            .request(key, mode, flags, true, &mut out)
            .unwrap();
        self.note(out);
    }

    fn release(&mut self, key: u32) {
        let mut out = Vec::new();
        assert!(self.engine.force_unlock(key, false, &mut out));
        self.note(out);
    }

    /// What has been granted since the last time.
    fn heard(&mut self) -> Vec<(u32, LockMode)> {
        std::mem::take(&mut self.granted)
    }

    fn holds(&self, key: u32, mode: LockMode) -> bool {
        self.engine
            .get(key)
            .is_some_and(|l| l.granted.is_some_and(|(held, _)| held == mode))
    }

    /// Readers 1 to 3 convert from NL to PR and back by turns, so that one always reads. How often one
    /// of them gets PR until 9 has EX; at most `max` times.
    fn passed_by_readers(&mut self, max: usize) -> usize {
        let mut passed = 0;
        for turn in 0.. {
            let (next, last) = (1 + (turn + 1) % 3, 1 + turn % 3);
            if self.holds(next, Nl) {
                self.convert(next, Pr);
                passed += usize::from(self.holds(next, Pr));
            }
            if self.holds(last, Pr) {
                self.convert(last, Nl);
            }
            if self.holds(9, Ex) || passed >= max {
                return passed;
            }
        }
        unreachable!()
    }
}

/// Readers with a lock each, the first of which reads.
fn readers(order: Order, overtake: u8) -> World {
    let mut world = World::new(order, overtake);
    for key in 1..=3 {
        world.ask(key, Nl, 0);
    }
    world.convert(1, Pr);
    world
}

/// Protects whoever waits from those who convert: a request, or a conversion, that waits foremost is
/// passed as often as the lockspace allows, in every order, and then they wait behind it. Where it
/// allows any number, as VMS and Linux do, they pass for ever.
#[test]
fn conversions_pass_only_so_often() {
    for order in Order::ALL {
        for (overtake, passed) in [(1, 1), (5, 5), (64, 64), (0, 1000)] {
            let mut world = readers(order, overtake);
            world.ask(9, Ex, 0);
            let request = world.passed_by_readers(1000);
            assert_eq!(request, passed, "a request, {order}, {overtake}");
            let mut world = readers(order, overtake);
            world.ask(9, Nl, 0);
            world.convert(9, Ex);
            let conversion = world.passed_by_readers(1000);
            assert_eq!(conversion, passed, "a conversion, {order}, {overtake}");
        }
    }
}

/// Protects from deadlocks that the rule would make: who holds a mode that the waiter waits for still
/// passes it, and so does one that had to be patient, once somebody waits for what it holds.
#[test]
fn who_is_in_the_way_passes_all_the_same() {
    let mut world = World::new(Order::Fifo, 1);
    world.ask(1, Pr, 0);
    world.ask(2, Cr, 0);
    world.ask(3, Nl, 0);
    world.ask(9, Pw, 0);
    world.convert(3, Pr); // Passes: the first time.
    world.convert(3, Nl);
    world.convert(2, Pr); // Has to be patient: CR is in nobody's way.
    assert!(world.holds(2, Cr));
    world.heard();
    world.convert(1, Ex); // PR is in the way of PW: it goes first, and waits for CR.
    assert_eq!(world.heard(), [(2, Pr)], "what it holds is in the way now");
    world.release(2);
    assert_eq!(world.heard(), [(1, Ex)]);
    world.release(1);
    assert_eq!(world.heard(), [(9, Pw)]);
}

/// Protects those behind a patient conversion that came to the front: when a request gets before it, it
/// stands back again, and who stood behind it may go on at once.
#[test]
fn who_is_behind_a_patient_one_goes_on_when_it_stands_back() {
    let mut world = World::new(Order::Fifo, 1);
    world.ask(1, Pr, 0);
    world.ask(2, Cr, 0);
    world.ask(3, Nl, 0);
    world.ask(9, Pw, 0);
    world.convert(3, Pr); // Passes 9.
    world.convert(3, Nl);
    world.convert(2, Cw); // Patient behind 9, and stopped by 1.
    world.release(9);
    world.convert_with(3, Cr, Flags::QUECVT); // Behind 2.
    world.ask(10, Pw, 0);
    world.heard();
    for key in 11..=13 {
        world.ask_with(key, Pw, Flags::HEADQUE);
    }
    assert_eq!(world.heard(), [(3, Cr)]);
}

/// Protects conversions from waiting for each other when a patient one is in front again: the later one is
/// refused when it comes, as if the other were not patient.
#[test]
fn a_patient_conversion_is_seen_by_those_that_would_wait_for_it() {
    let mut world = World::new(Order::Fifo, 1);
    world.ask(1, Pr, 0);
    world.ask(2, Cr, 0);
    world.ask(3, Nl, 0);
    world.ask(4, Pr, 0);
    world.ask(9, Pw, 0);
    world.convert(3, Pr); // Passes 9.
    world.convert(3, Nl);
    world.convert(2, Cw); // Patient behind 9, and stopped by 1 and 4.
    assert!(
        world.convert_with(4, Cw, Flags::NONE),
        "2 waits for its PR, and it would for 2"
    );
    world.release(9);
    world.release(1);
    world.release(4);
    assert!(world.holds(2, Cw));
}

/// Protects phase-fair order: with a reader all readers are let in that wait, then one writer, then
/// readers again, however many writers wait.
#[test]
fn readers_and_writers_go_by_turns() {
    let mut world = World::new(Order::PhaseFair, 64);
    world.ask(1, Pr, 0);
    for (key, mode) in [(2, Ex), (3, Pr), (4, Ex), (5, Cr), (6, Pw), (7, Cw)] {
        world.ask(key, mode, 0);
    }
    assert_eq!(world.heard(), [(1, Pr)]);
    world.release(1);
    assert_eq!(world.heard(), [(2, Ex)], "the writer was first");
    world.ask(8, Pr, 0);
    world.release(2);
    // CW suits not all of the readers before it.
    assert_eq!(world.heard(), [(3, Pr), (5, Cr), (8, Pr)]);
    world.ask(9, Pr, 0);
    for key in [3, 5, 8] {
        world.release(key);
    }
    assert_eq!(world.heard(), [(4, Ex)], "a late reader waits for a writer");
    world.release(4);
    assert_eq!(world.heard(), [(7, Cw)]);
    world.release(7);
    assert_eq!(world.heard(), [(6, Pw)]);
    world.release(6);
    assert_eq!(world.heard(), [(9, Pr)]);
}

/// Protects priorities: a call counts as 32 arrivals earlier for each step, so that it comes before
/// most, and never before those who have waited for longer than that.
#[test]
fn priorities_count_as_arrivals() {
    let mut world = World::new(Order::Priority, 64);
    world.ask(1, Ex, 0);
    world.ask(2, Ex, 0);
    world.ask(3, Ex, 1);
    world.ask(4, Ex, 7);
    let order = |world: &World| world.engine.waiting().map(|l| l.key).collect::<Vec<_>>();
    assert_eq!(order(&world), [4, 3, 2]);
    for key in 100..140 {
        world.ask(key, Ex, 0);
    }
    world.ask(5, Ex, 1);
    let place = order(&world).iter().position(|key| *key == 5).unwrap();
    assert_eq!(
        place, 12,
        "behind 4, 3, 2 and the first nine of those that came between"
    );
    // Nobody is passed for ever: of those with the highest priority, so many.
    let passed = (1000..3000).take_while(|key| {
        world.ask(*key, Ex, 7);
        let order = order(&world);
        let at = |key| order.iter().position(|k| *k == key).unwrap();
        at(*key) < at(2)
    });
    let passed = passed.count();
    assert!((150..=224).contains(&passed), "2 is passed by {passed}");
}

/// Protects from high priorities that never wait themselves: those that are granted when they come count as
/// arrivals, too.
#[test]
fn those_that_are_granted_at_once_count() {
    let mut world = World::new(Order::Priority, 64);
    world.ask(1, Pr, 0);
    world.ask(2, Ex, 0);
    let passed = (10..1000).take_while(|key| {
        world.ask(*key, Pr, 7);
        world.holds(*key, Pr)
    });
    let passed = passed.count();
    assert!((200..=224).contains(&passed), "2 is passed by {passed}");
    let mut world = readers(Order::Priority, 1);
    world.ask(9, Ex, 0);
    let mut passed = 0;
    for turn in 0..1000 {
        let (next, last) = (1 + (turn + 1) % 3, 1 + turn % 3);
        let waits = world
            .engine
            .get(next)
            .is_some_and(|l| l.requested.is_some());
        if world.holds(next, Nl) && !waits {
            world.convert_with(next, Pr, Flags::NONE.with_priority(7));
            passed += u32::from(world.holds(next, Pr));
        }
        if world.holds(last, Pr) {
            world.convert(last, Nl);
        }
    }
    assert!(world.holds(9, Ex) && passed <= 224, "{passed}");
}
