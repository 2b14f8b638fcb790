//! What the owner's node does otherwise in lockspaces that follow others' rules, each beside the strict
//! ones. What the engine does is told by `testing/scripts/compat`.

#![allow(clippy::unwrap_used, missing_docs)]

mod three;

use core::time::Duration;
use mainstay_base::{
    Compat, LockMode, LockspaceId, ResourceName, SessionId, ValueBlock, ValueUpdate, ValueVersion,
};
use mainstay_dlm::{AdoptCall, SetCall, UnlockCall};
use mainstay_wire::{
    client::{Answer, Handle},
    lock::{Flags, Refusal},
    orphan::OrphanFilter,
    sets::SetMember,
};
use three::World;

use LockMode::{Cr, Ex, Nl, Pr, Pw};

const FOREIGN: LockspaceId = LockspaceId(9);
const OTHER: SessionId = SessionId(2);

/// Three nodes with a lockspace that follows these rules.
fn world(compat: Compat) -> World {
    let mut world = World::eager();
    for dlm in world.nodes.values_mut() {
        let (len, fairness) = (compat.value_len(), compat.fairness());
        let len = if compat == Compat::Vms { 64 } else { len };
        dlm.add_compat_space(FOREIGN, len as u16, fairness, compat);
        dlm.configure_orphans(Some(Duration::from_millis(500)));
    }
    world.space = FOREIGN;
    world
}

fn refusal(world: &World, node: u16, request: u64) -> Refusal {
    let answer = world.answer(node, request).expect("answered");
    answer.clone().expect_err("refused")
}

/// What is said of a call that the lockspace does not have.
fn invalid(world: &World, node: u16, request: u64) -> String {
    match refusal(world, node, request) {
        Refusal::Invalid(text) => text,
        Refusal::OfSet(member) => member.why.to_string(),
        other => panic!("{other:?}"),
    }
}

fn cancel(world: &mut World, node: u16, handle: u64) -> Result<Answer, Refusal> {
    world.requests += 1;
    let (request, now) = (world.requests, world.now);
    let dlm = world.nodes.get_mut(&node).unwrap();
    dlm.cancel(now, SessionId(1), request, Handle(handle));
    world.settle();
    world.answer(node, request).expect("answered").clone()
}

fn close(world: &mut World, node: u16) {
    let now = world.now;
    let dlm = world.nodes.get_mut(&node).unwrap();
    dlm.close_session(now, SessionId(1));
    world.settle();
}

fn convert(world: &mut World, node: u16, handle: u64, mode: LockMode, flags: Flags) -> u64 {
    world.requests += 1;
    let call = mainstay_dlm::ConvertCall {
        handle: Handle(handle),
        mode,
        flags,
        blocking: true,
        value: None,
        deadline: None,
    };
    let (request, now) = (world.requests, world.now);
    let dlm = world.nodes.get_mut(&node).unwrap();
    dlm.convert(now, SessionId(1), request, call);
    world.settle();
    request
}

fn set(world: &mut World, node: u16, members: &[(u64, &str, LockMode, Flags)]) -> u64 {
    world.requests += 1;
    let members = members
        .iter()
        .map(|&(handle, name, mode, flags)| SetMember {
            handle: Handle(handle),
            name: ResourceName::new(name).unwrap(),
            mode,
            flags,
            blocking: false,
        });
    let call = SetCall {
        space: FOREIGN,
        members: members.collect(),
        flags: Flags::NONE,
        deadline: None,
    };
    let (request, now) = (world.requests, world.now);
    let dlm = world.nodes.get_mut(&node).unwrap();
    dlm.lock_set(now, SessionId(1), request, call);
    world.settle();
    world.wait(1);
    request
}

fn adopt(world: &mut World, mode: LockMode, flags: Flags) -> Result<Answer, Refusal> {
    world.requests += 1;
    let call = AdoptCall {
        handle: Handle(70),
        space: FOREIGN,
        name: ResourceName::new("a").unwrap(),
        mode,
        flags,
        blocking: true,
        uid: None,
    };
    let (request, now) = (world.requests, world.now);
    let dlm = world.nodes.get_mut(&1).unwrap();
    dlm.adopt(now, OTHER, request, &call);
    world.settle();
    world.answer(1, request).expect("answered").clone()
}

/// Protects programs for Linux from an error where there never was one: a cancel that comes too late, and
/// one while another is under way, are answered like any other; what was granted stays granted.
#[test]
fn with_linux_rules_a_cancel_always_succeeds() {
    let mut linux = world(Compat::Linux);
    linux.lock(1, 1, "a", Pr, Flags::NONE);
    assert_eq!(cancel(&mut linux, 1, 1), Ok(Answer::Cancelled));
    let mut strict = world(Compat::Strict);
    strict.lock(1, 1, "a", Pr, Flags::NONE);
    assert_eq!(cancel(&mut strict, 1, 1), Err(Refusal::TooLate));
    for (world, twice) in [
        (&mut linux, Ok(Answer::Cancelled)),
        (&mut strict, Err(Refusal::Busy)),
    ] {
        assert_eq!(cancel(world, 1, 5), Err(Refusal::NoSuchLock));
        let waiting = world.lock(2, 2, "a", Ex, Flags::NONE);
        // The master, node 1, does not hear of the first cancel before the second comes.
        world.parted = Some((2, 1));
        world.requests += 2;
        let (second, now) = (world.requests, world.now);
        let dlm = world.nodes.get_mut(&2).unwrap();
        dlm.cancel(now, SessionId(1), second - 1, Handle(2));
        dlm.cancel(now, SessionId(1), second, Handle(2));
        world.settle();
        assert_eq!(world.answer(2, second), Some(&twice));
        assert_eq!(world.answer(2, second - 1), None);
        world.parted = None;
        world.settle();
        assert_eq!(refusal(world, 2, waiting), Refusal::Cancelled);
        assert_eq!(world.answer(2, second - 1), Some(&Ok(Answer::Cancelled)));
        // Here the grant comes first.
        let waiting = world.lock(2, 3, "a", Ex, Flags::NONE);
        world.parted = Some((1, 2));
        world.unlock(1, 1);
        world.requests += 1;
        let (late, now) = (world.requests, world.now);
        let dlm = world.nodes.get_mut(&2).unwrap();
        dlm.cancel(now, SessionId(1), late, Handle(3));
        world.settle();
        world.parted = None;
        world.settle();
        assert!(world.granted(2, waiting).is_some());
        let expected = twice.map_err(|_| Refusal::TooLate);
        assert_eq!(world.answer(2, late), Some(&expected));
        assert!(
            world.lock(3, 1, "a", Pr, Flags::NOQUEUE) > 0
                && refusal(world, 3, world.requests) == Refusal::NotQueued,
            "the cancelled call holds what it was granted"
        );
    }
}

/// Protects readers from a half-written value with Linux' rules: there a holder of PW or EX marks it by its
/// death whether or not it had spoken of it. With the strict rules only who has can have written.
#[test]
fn with_linux_rules_every_writer_that_dies_marks_the_value() {
    for (compat, mode, flags, marked) in [
        (Compat::Linux, Ex, Flags::NONE, true),
        (Compat::Linux, Pw, Flags::NONE, true),
        (Compat::Linux, Pr, Flags::NONE, false),
        (Compat::Linux, Ex, Flags::VALBLK, true),
        (Compat::Strict, Ex, Flags::NONE, false),
        (Compat::Strict, Ex, Flags::VALBLK, true),
        (Compat::Vms, Ex, Flags::NONE, false),
    ] {
        let mut world = world(compat);
        world.lock(1, 1, "a", Nl, Flags::NONE);
        world.lock(2, 2, "a", mode, flags);
        close(&mut world, 2);
        let read = world.lock(3, 3, "a", Pr, Flags::VALBLK);
        let value = world.granted(3, read).unwrap().value.clone().unwrap();
        assert_eq!(value.maybe_stale, marked, "{compat} {mode} {flags}");
        // A release is no death.
        world.unlock(3, 3);
        let write = world.lock(1, 4, "b", Ex, flags);
        assert!(world.granted(1, write).is_some());
        world.unlock(1, 4);
        let read = world.lock(3, 5, "b", Pr, Flags::VALBLK);
        let value = world.granted(3, read).unwrap().value.clone().unwrap();
        assert!(!value.maybe_stale);
    }
}

/// Protects programs for Linux: an adoption takes any flags of a request, and tells nothing of the value
/// block. With VMS' and the SA Forum's rules there is none.
#[test]
fn an_adoption_is_as_the_system_has_it() {
    let kept = Flags::PERSISTENT | Flags::VALBLK;
    let orphan = |compat, flags| {
        let mut world = world(compat);
        world.lock(1, 1, "a", Ex, flags);
        close(&mut world, 1);
        assert_eq!(world.nodes[&1].orphan_count(), 1, "{compat}");
        world
    };
    let value = |answer: Result<Answer, Refusal>| match answer {
        Ok(Answer::Granted(granted)) => granted.value.is_some(),
        other => panic!("{other:?}"),
    };
    let mut strict = orphan(Compat::Strict, kept);
    let refused = adopt(&mut strict, Ex, kept | Flags::NOQUEUE);
    assert!(matches!(refused, Err(Refusal::Invalid(_))), "{refused:?}");
    assert!(value(adopt(&mut strict, Ex, kept)));
    let mut linux = orphan(Compat::Linux, kept);
    let other_mode = adopt(&mut linux, Pr, kept);
    assert_eq!(other_mode, Err(Refusal::OrphanInMode(Ex)));
    assert!(!value(adopt(&mut linux, Ex, kept | Flags::NOQUEUE)));
    assert_eq!(adopt(&mut linux, Ex, kept), Err(Refusal::HandleInUse));
    let mut saf = orphan(Compat::Saf, Flags::PERSISTENT);
    let refused = adopt(&mut saf, Ex, Flags::NONE);
    assert!(matches!(refused, Err(Refusal::Invalid(_))), "{refused:?}");
    let mut vms = world(Compat::Vms);
    let refused = adopt(&mut vms, Ex, Flags::NONE);
    assert!(matches!(refused, Err(Refusal::Invalid(_))), "{refused:?}");
}

/// Protects what the SA Forum's orphans protect: they stay until somebody purges them, whatever time the
/// node gives to others.
#[test]
fn with_the_sa_forums_rules_orphans_do_not_expire() {
    for (compat, left) in [(Compat::Saf, 1), (Compat::Strict, 0), (Compat::Linux, 0)] {
        let mut world = world(compat);
        world.lock(1, 1, "a", Ex, Flags::PERSISTENT);
        close(&mut world, 1);
        world.wait(5000);
        assert_eq!(world.nodes[&1].orphan_count(), left, "{compat}");
        let (filter, now) = (OrphanFilter::default(), world.now);
        let dlm = world.nodes.get_mut(&1).unwrap();
        dlm.purge_orphans(now, filter, mainstay_base::NodeId(1), 7);
        dlm.work_off(now);
        world.settle();
        assert_eq!(world.nodes[&1].orphan_count(), 0, "{compat}");
    }
}

/// Protects a program from waiting for itself, with the SA Forum's rules: who has EX is refused another,
/// alone and in a set; not for other resources, other modes or other sessions, and not once it is gone.
#[test]
fn with_the_sa_forums_rules_nobody_takes_ex_twice() {
    let mut world = world(Compat::Saf);
    world.lock(1, 1, "a", Ex, Flags::NONE);
    let twice = world.lock(1, 2, "a", Ex, Flags::NONE);
    assert_eq!(refusal(&world, 1, twice), Refusal::Duplicate);
    let of_set = set(
        &mut world,
        1,
        &[(3, "b", Ex, Flags::NONE), (4, "a", Ex, Flags::NONE)],
    );
    assert_eq!(refusal(&world, 1, of_set).cause(), &Refusal::Duplicate);
    let reads = world.lock(1, 5, "a", Pr, Flags::NONE);
    assert_eq!(world.answer(1, reads), None, "it waits, as any reader");
    assert_eq!(cancel(&mut world, 1, 5), Ok(Answer::Cancelled));
    let elsewhere = world.lock(1, 6, "b", Ex, Flags::NONE);
    assert!(world.granted(1, elsewhere).is_some());
    let other = world.lock(2, 7, "a", Ex, Flags::NONE);
    assert_eq!(world.answer(2, other), None);
    world.unlock(1, 1);
    assert!(world.granted(2, other).is_some());
    let again = world.lock(1, 8, "a", Ex, Flags::NONE);
    assert_eq!(world.answer(1, again), None, "what is gone is no hindrance");
    world.unlock(2, 7);
    assert!(world.granted(1, again).is_some());
    let twice = world.lock(1, 9, "a", Ex, Flags::NONE);
    assert_eq!(
        refusal(&world, 1, twice),
        Refusal::Duplicate,
        "nor forgotten"
    );
    let mut strict = self::world(Compat::Strict);
    strict.lock(1, 1, "a", Ex, Flags::NONE);
    let twice = strict.lock(1, 2, "a", Ex, Flags::NONE);
    assert_eq!(strict.answer(1, twice), None);
}

/// Protects old programs from what they cannot know: ranges, locks beneath locks, value blocks and modes
/// that their system does not have are refused by the client's own node, with a reason.
#[test]
fn what_a_system_lacks_is_refused() {
    for compat in [Compat::Strict, Compat::Linux, Compat::Vms, Compat::Saf] {
        let mut world = world(compat);
        let has = |want: &str| match compat {
            Compat::Strict => true,
            Compat::Linux => want == "value",
            Compat::Vms => want != "range",
            Compat::Saf => false,
        };
        let check = |world: &World, want: &str, request: u64| {
            let answer = world.answer(1, request).expect("answered");
            assert_eq!(answer.is_ok(), has(want), "{compat}, {want}: {answer:?}");
            if answer.is_err() {
                let text = invalid(world, 1, request);
                let name = format!("`{compat}`");
                assert!(text.contains(&name), "{text}");
            }
        };
        world.requests += 1;
        let (request, now) = (world.requests, world.now);
        let call = mainstay_dlm::RangeCall {
            space: FOREIGN,
            ..three::range_call(1, "r", (0, 9), Pr)
        };
        let dlm = world.nodes.get_mut(&1).unwrap();
        dlm.range(now, SessionId(1), request, call);
        world.settle();
        check(&world, "range", request);
        world.lock(1, 2, "a", Pr, Flags::NONE);
        let under = world.under(1, 2, 3, "b", Pr);
        check(&world, "under", under);
        world.lock(1, 4, "v", Ex, Flags::NONE);
        world.requests += 2;
        let (watch, now) = (world.requests, world.now);
        let len = if compat == Compat::Vms { 16 } else { 8 };
        let update = ValueUpdate::Swap {
            expect: ValueVersion(0),
            expect_stale: false,
            block: ValueBlock::new(vec![1; len]).unwrap(),
        };
        let dlm = world.nodes.get_mut(&1).unwrap();
        dlm.update_value(now, SessionId(1), watch - 1, Handle(4), update);
        dlm.watch_value(now, SessionId(1), watch, Handle(4), true);
        world.settle();
        check(&world, "value", watch - 1);
        check(&world, "value", watch);
        world.requests += 1;
        let (unlock, now) = (world.requests, world.now);
        let call = UnlockCall {
            handle: Handle(4),
            flags: Flags::NONE,
            value: Some(ValueBlock::new(vec![2; len]).unwrap()),
        };
        let dlm = world.nodes.get_mut(&1).unwrap();
        dlm.unlock(now, SessionId(1), unlock, call);
        world.settle();
        check(&world, "value", unlock);
        let long = "x".repeat(32);
        let request = world.lock(1, 5, &long, Pr, Flags::NONE);
        let fits = world.answer(1, request).unwrap().is_ok();
        assert_eq!(fits, compat != Compat::Vms);
        let request = set(&mut world, 1, &[(6, &long, Pr, Flags::NONE)]);
        assert_eq!(world.answer(1, request).unwrap().is_ok(), fits);
        let request = world.lock(1, 7, &long[..31], Pr, Flags::NONE);
        assert!(world.answer(1, request).unwrap().is_ok());
        let request = world.lock(1, 8, "m", Cr, Flags::NONE);
        let has_mode = world.answer(1, request).unwrap().is_ok();
        assert_eq!(has_mode, compat != Compat::Saf);
        let request = convert(&mut world, 1, 2, Nl, Flags::NONE);
        assert_eq!(world.answer(1, request).unwrap().is_ok(), has_mode);
    }
}

/// Protects calls with flags that do not count: they are left out before a call travels, for requests,
/// conversions and sets, wherever the master is; and those of a lock's last call count for it.
#[test]
fn with_linux_rules_flags_without_effect_are_taken() {
    let mut world = world(Compat::Linux);
    let flags = Flags::NOQUEUEBAST | Flags::IVVALBLK | Flags::NODLCKBLK | Flags::ALTPR;
    for node in [1, 2] {
        let request = world.lock(node, 1, "a", Pr, flags);
        assert!(world.granted(node, request).is_some(), "node {node}");
        let request = convert(&mut world, node, 1, Cr, Flags::NOQUEUEBAST);
        assert!(world.granted(node, request).is_some(), "node {node}");
        let request = set(&mut world, node, &[(2, "b", Pr, flags)]);
        let answer = world.answer(node, request);
        assert!(
            matches!(answer, Some(Ok(Answer::SetGranted { .. }))),
            "{answer:?}"
        );
    }
    // NODLCKBLK promises nothing here, so of two upgrades the second is refused.
    for node in [1, 2] {
        convert(&mut world, node, 1, Pr, Flags::NONE);
    }
    let first = convert(&mut world, 1, 1, Ex, Flags::NODLCKBLK);
    assert_eq!(world.answer(1, first), None);
    let second = convert(&mut world, 2, 1, Ex, Flags::NODLCKBLK);
    assert_eq!(refusal(&world, 2, second), Refusal::Deadlock);
}

/// Protects long value blocks of VMS from writers of short ones, across nodes and the loss of the master.
#[test]
fn with_vms_rules_a_short_value_leaves_the_rest() {
    let mut world = world(Compat::Vms);
    world.lock(1, 1, "a", Nl, Flags::NONE);
    world.lock(2, 2, "a", Ex, Flags::VALBLK);
    let long: Vec<u8> = (0..64).collect();
    world.convert(2, 2, Ex, Some(&long));
    let short = world.convert(2, 2, Ex, Some(&[9; 16]));
    let mut expected = long.clone();
    expected[..16].fill(9);
    let told = |world: &World, node, request| {
        let granted = world.granted(node, request).expect("granted");
        let value = granted.value.clone().expect("asked for");
        value.block.as_bytes().to_vec()
    };
    assert_eq!(told(&world, 2, short), expected);
    world.convert(2, 2, Nl, Some(&[8; 16]));
    expected[..16].fill(8);
    let read = world.lock(3, 3, "a", Pr, Flags::VALBLK);
    assert_eq!(told(&world, 3, read), expected);
    let odd = world.convert(2, 2, Nl, Some(&[1; 15]));
    assert!(
        world.answer(2, odd).unwrap().is_ok(),
        "nothing is published"
    );
    world.unlock(3, 3);
    world.convert(2, 2, Ex, None);
    let odd = world.convert(2, 2, Nl, Some(&[1; 15]));
    assert!(invalid(&world, 2, odd).contains("has 15 bytes"));
}
