//! Bytes as what clients do.

use crate::Feed;
use mainstay_base::{
    AccessChange, AccessRule, ByteRange, Compat, Fairness, Flags, LockMode, LockspaceId,
    LockspaceName, ModeSet, Order, ResourceName, ValueBlock, ValueUpdate, ValueVersion, Whom,
};
use mainstay_wire::{
    client::{Ask, FromClient, Handle, MESSAGE_LEN_MAX},
    codec,
    orphan::OrphanWish,
    sets::{ConvertOne, SetMember, UnlockOne},
};

/// How many clients there are at a time; the last is privileged.
pub(super) const SLOTS: usize = 4;
/// Most actions of an input.
const ACTIONS_MAX: usize = 400;

/// What clients do most, as [`action`] has it: anything, or what seldom comes together by chance. First
/// conversions, then locks that are left behind, then sets, then ranges, then sessions that are kept.
const HABITS: [&[u8]; 7] = [
    &[],
    &[],
    &[0, 14, 15, 16, 17, 18, 19, 20, 27, 33, 56],
    &[0, 1, 2, 3, 14, 15, 27, 36, 41, 53, 53, 53, 55, 59, 59, 60],
    &[0, 1, 14, 27, 28, 33, 45, 46, 46, 46, 46, 51, 56, 60],
    &[
        64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 64, 0,
        14, 27, 28, 33, 40, 50, 51, 56, 59, 60,
    ],
    &[
        0, 1, 2, 3, 14, 15, 27, 33, 36, 37, 40, 46, 51, 53, 56, 57, 59, 60, 60, 60, 64, 64, 65, 65,
        65, 66, 66, 66, 66, 67, 67, 68, 69,
    ],
];

/// What can happen.
#[derive(Clone, Debug)]
pub(super) enum Action {
    /// How the second lockspace shares out its resources, and how long its values are: first of all.
    Rules(u8),
    /// So many milliseconds pass.
    Pass(u32),
    /// A client connects, if it is not connected.
    Connect(usize),
    /// A client goes, whatever it waits for.
    Disconnect(usize),
    /// A client asks, as the session that it has, or had.
    Ask(usize, Ask),
    /// A client asks that its session be kept for so many milliseconds.
    Keep(usize, u32),
    /// A client goes on with its session on another connection.
    Continue {
        slot: usize,
        /// How much of what it was told it has not heard; 255 for less than nothing.
        back: u8,
        /// Whether with a wrong key, or as a wrong user.
        how: u8,
    },
    /// A client has heard all but so much, as above.
    Heard(usize, u8),
    /// A client asks something with a number that it has used before.
    Again(usize, Ask),
}

/// The actions of an input.
pub(super) fn read(data: &[u8]) -> Vec<Action> {
    let mut feed = Feed::new(data);
    let mut actions = vec![Action::Rules(feed.byte())];
    let habit = HABITS[usize::from(feed.byte()) % HABITS.len()];
    while !feed.is_empty() && actions.len() < ACTIONS_MAX {
        let how = feed.byte();
        let (slot, how) = (usize::from(how >> 6), how & 0x3f);
        let how = match habit.len() {
            0 => how,
            len => habit[usize::from(how) % len],
        };
        actions.push(action(&mut feed, slot, how));
    }
    actions
}

/// What comes before all others: the lockspaces are made.
pub(super) fn first(rules: Option<Action>) -> Vec<Action> {
    let choice = match rules {
        Some(Action::Rules(choice)) => choice,
        _ => 0,
    };
    let fairness = Fairness {
        order: Order::ALL[usize::from(choice % 3)],
        overtake: [64, 0, 1, 2][usize::from(choice >> 2 & 3)],
        min_hold_ms: [0, 0, 25, 40][usize::from(choice >> 4 & 3)],
    };
    let open = Ask::OpenLockspace {
        name: space_name(0),
        value_len: None,
    };
    let create = Ask::CreateLockspace {
        name: space_name(1),
        value_len: Some([4, 8, 10, 32][usize::from(choice >> 6)]),
        access: AccessChange::default(),
        fairness,
        compat: Compat::Strict,
    };
    vec![Action::Ask(3, open), Action::Ask(0, create)]
}

/// What comes after all others: everybody goes, and what is left behind is purged.
pub(super) fn last() -> Vec<Action> {
    let mut actions: Vec<Action> = (0..SLOTS).map(Action::Disconnect).collect();
    let wish = OrphanWish::default();
    actions.extend([
        Action::Pass(3500),
        Action::Connect(3),
        Action::Ask(3, Ask::PurgeOrphans { wish }),
    ]);
    actions
}

fn action(feed: &mut Feed<'_>, slot: usize, how: u8) -> Action {
    let ask = match how {
        0..14 => lock(feed),
        14..27 => convert(feed),
        27..33 => unlock(feed),
        33..36 => Ask::Cancel {
            handle: handle(feed),
        },
        36..40 => update(feed),
        40..42 => Ask::WatchValue {
            handle: handle(feed),
            on: !feed.byte().is_multiple_of(4),
        },
        42..45 => lock_under(feed),
        45 => {
            let (which, itself) = (feed.byte(), feed.byte().is_multiple_of(2));
            let handle = (which % 8 != 0).then(|| Handle(u64::from(which % 6)));
            Ask::UnlockTree { handle, itself }
        }
        46..49 => set(feed),
        49 => {
            let locks = (0..feed.byte() % 4).map(|_| convert_one(feed)).collect();
            let timeout_ms = timeout(feed);
            Ask::ConvertMany { locks, timeout_ms }
        }
        50 => {
            let locks = (0..feed.byte() % 4).map(|_| unlock_one(feed)).collect();
            Ask::UnlockMany { locks }
        }
        51..53 => Ask::SetResponseTime {
            handle: handle(feed),
            within_ms: [None, Some(0), Some(15), Some(100)][usize::from(feed.byte() % 4)],
            release: feed.byte().is_multiple_of(2),
        },
        53..55 => Ask::Adopt {
            handle: handle(feed),
            lockspace: space(feed),
            name: name(feed),
            mode: mode(feed),
            flags: flags(feed, ADOPT),
            blocking: feed.byte().is_multiple_of(2),
        },
        55 => Ask::PurgeOrphans {
            wish: OrphanWish {
                lockspace: feed
                    .byte()
                    .is_multiple_of(2)
                    .then(|| space_name(feed.byte())),
                ..OrphanWish::default()
            },
        },
        56..59 => return Action::Pass(pass(feed)),
        59 => return Action::Connect(slot),
        60 => return Action::Disconnect(slot),
        61 => lockspace(feed),
        62 => other(feed),
        64 => range(feed),
        65 => {
            const TIMES: [u32; 8] = [500, 500, 700, 1500, 3000, 3000, 499, 60_001];
            return Action::Keep(slot, TIMES[usize::from(feed.byte() % 8)]);
        }
        66 => {
            let (back, how) = (back(feed), feed.byte());
            return Action::Continue { slot, back, how };
        }
        67 => return Action::Heard(slot, back(feed)),
        68 => Ask::Goodbye,
        69 => return Action::Again(slot, lock(feed)),
        _ => match codec::decode::<FromClient>("call", MESSAGE_LEN_MAX, feed.block()) {
            Ok(call) => call.ask,
            Err(_) => Ask::Status,
        },
    };
    Action::Ask(slot, ask)
}

/// How far a client is behind with what it has heard.
fn back(feed: &mut Feed<'_>) -> u8 {
    [0, 0, 1, 2, 3, 5, 9, 255][usize::from(feed.byte() % 8)]
}

fn pass(feed: &mut Feed<'_>) -> u32 {
    const TIMES: [u32; 8] = [1, 5, 15, 25, 40, 100, 1000, 10_000];
    TIMES[usize::from(feed.byte() % 8)]
}

fn handle(feed: &mut Feed<'_>) -> Handle {
    Handle(u64::from(feed.byte() % 6))
}

fn mode(feed: &mut Feed<'_>) -> LockMode {
    match feed.byte() % 8 {
        6 => LockMode::Ex,
        7 => LockMode::Pr,
        choice => LockMode::ALL[usize::from(choice)],
    }
}

fn space(feed: &mut Feed<'_>) -> LockspaceId {
    LockspaceId([1, 1, 1, 1, 1, 1, 1, 1, 2, 2, 2, 1, 1, 1, 3, 9][usize::from(feed.byte() % 16)])
}

fn space_name(choice: u8) -> LockspaceName {
    let name = ["default", "b", "c", "d"][usize::from(choice % 4)];
    LockspaceName::new(name).expect("letters make a name")
}

/// A few names; some that are locked under others.
fn name(feed: &mut Feed<'_>) -> ResourceName {
    let name = |byte: u8| ResourceName::new([byte]).expect("one byte is a name");
    match feed.byte() % 16 {
        15 => name(b'a').child(b"x").expect("two levels"),
        0..9 => name(b'a'),
        choice => name(b'b' + choice % 2),
    }
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
    Flags::PERSISTENT,
    Flags::PERSISTENT,
    Flags(3 << 20),
    Flags::QUECVT,
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
    Flags::CONVDEADLK,
    Flags::NODLCKBLK,
    Flags::PERSISTENT,
    Flags(5 << 20),
];
const UNLOCK: &[Flags] = &[
    Flags::VALBLK,
    Flags::IVVALBLK,
    Flags::FORCEUNLOCK,
    Flags::FORCEUNLOCK,
    Flags::NOQUEUE,
];
const ADOPT: &[Flags] = &[
    Flags::VALBLK,
    Flags::PERSISTENT,
    Flags::NODLCKBLK,
    Flags::NOQUEUE,
];
const MEMBER: &[Flags] = &[
    Flags::VALBLK,
    Flags::VALBLK,
    Flags::EXPEDITE,
    Flags::HEADQUE,
    Flags::NOORDER,
    Flags::ALTPR,
    Flags::ALTCW,
    Flags::NOQUEUE,
];

/// Up to three of some flags, or now and then any bits.
fn flags(feed: &mut Feed<'_>, some: &[Flags]) -> Flags {
    let count = feed.byte();
    match count {
        250.. => Flags(u32::from(feed.u16()) | u32::from(feed.u16()) << 16),
        _ => {
            let count = [0, 0, 0, 1, 1, 1, 2, 3][usize::from(count % 8)];
            let chosen = (0..count).map(|_| some[usize::from(feed.byte()) % some.len()]);
            chosen.fold(Flags::NONE, |all, flag| all | flag)
        }
    }
}

fn timeout(feed: &mut Feed<'_>) -> Option<u32> {
    [None, None, None, None, None, Some(0), Some(20), Some(70)][usize::from(feed.byte() % 8)]
}

fn value(feed: &mut Feed<'_>) -> Option<ValueBlock> {
    let choice = feed.byte();
    let len = match choice % 8 {
        0..2 => return None,
        2..5 => 2,
        5 => 4,
        6 => 9,
        _ => 33,
    };
    Some(ValueBlock::new(vec![choice; len]).expect("short"))
}

fn lock(feed: &mut Feed<'_>) -> Ask {
    Ask::Lock {
        handle: handle(feed),
        lockspace: space(feed),
        name: name(feed),
        mode: mode(feed),
        flags: flags(feed, REQUEST),
        blocking: !feed.byte().is_multiple_of(4),
        timeout_ms: timeout(feed),
    }
}

fn lock_under(feed: &mut Feed<'_>) -> Ask {
    Ask::LockUnder {
        parent: handle(feed),
        handle: handle(feed),
        name: ResourceName::new([b'x' + feed.byte() % 2]).expect("one byte is a name"),
        mode: mode(feed),
        flags: flags(feed, REQUEST),
        blocking: !feed.byte().is_multiple_of(4),
        timeout_ms: timeout(feed),
    }
}

fn convert_one(feed: &mut Feed<'_>) -> ConvertOne {
    ConvertOne {
        handle: handle(feed),
        mode: mode(feed),
        flags: flags(feed, CONVERT),
        blocking: !feed.byte().is_multiple_of(4),
        value: value(feed),
    }
}

fn convert(feed: &mut Feed<'_>) -> Ask {
    let one = convert_one(feed);
    Ask::Convert {
        handle: one.handle,
        mode: one.mode,
        flags: one.flags,
        blocking: one.blocking,
        value: one.value,
        timeout_ms: timeout(feed),
    }
}

fn unlock_one(feed: &mut Feed<'_>) -> UnlockOne {
    UnlockOne {
        handle: handle(feed),
        flags: flags(feed, UNLOCK),
        value: value(feed),
    }
}

fn unlock(feed: &mut Feed<'_>) -> Ask {
    let one = unlock_one(feed);
    Ask::Unlock {
        handle: one.handle,
        flags: one.flags,
        value: one.value,
    }
}

fn update(feed: &mut Feed<'_>) -> Ask {
    let (handle, choice) = (handle(feed), feed.byte());
    let update = match choice % 4 {
        0 => ValueUpdate::Add {
            delta: [1, -1, i64::MAX, i64::MIN][usize::from(choice >> 2 & 3)],
        },
        _ => ValueUpdate::Swap {
            expect: ValueVersion(u64::from(choice >> 2 & 3)),
            expect_stale: choice & 0x10 != 0,
            block: value(feed).unwrap_or_default(),
        },
    };
    Ask::UpdateValue { handle, update }
}

fn set(feed: &mut Feed<'_>) -> Ask {
    let count = feed.byte() % 4;
    let members = (0..count).map(|_| SetMember {
        handle: handle(feed),
        name: name(feed),
        mode: mode(feed),
        flags: flags(feed, MEMBER),
        blocking: !feed.byte().is_multiple_of(4),
    });
    let members = members.collect();
    Ask::LockSet {
        lockspace: space(feed),
        members,
        flags: [
            Flags::NONE,
            Flags::NONE,
            Flags::NOQUEUE,
            Flags::NOQUEUE | Flags::NOQUEUEBAST,
            Flags::NOQUEUEBAST,
            Flags::NONE,
            Flags::VALBLK,
            Flags::NONE,
        ][usize::from(feed.byte() % 8)],
        timeout_ms: timeout(feed),
    }
}

/// A few bytes of one resource or two, or all to the end, by few locks; often to be given up. What can
/// be is taken from one byte, so that an input has many of them.
fn range(feed: &mut Feed<'_>) -> Ask {
    let (which, place, how) = (feed.byte(), feed.byte(), feed.byte());
    let odd = which % 16 == 15;
    let first = u64::from(place % 8);
    let last = match place >> 3 {
        31 => u64::MAX,
        len => first + u64::from(len % 6),
    };
    Ask::Range {
        handle: Handle(u64::from(which >> 4) % 3),
        lockspace: if odd { space(feed) } else { LockspaceId(1) },
        name: match which % 16 {
            15 => name(feed),
            choice => ResourceName::new([b'a' + choice / 14]).expect("one byte is a name"),
        },
        range: ByteRange::new(first, last).expect("the right way round"),
        mode: match how % 8 {
            7 => LockMode::Nl,
            choice => LockMode::ALL[usize::from(choice) % 6],
        },
        flags: match how >> 4 {
            0 => Flags::NOQUEUE,
            1 if odd => flags(feed, UNLOCK),
            _ => Flags::NONE,
        },
        blocking: how & 8 != 0,
        timeout_ms: match how >> 4 {
            2..4 => timeout(feed),
            _ => None,
        },
    }
}

fn access(feed: &mut Feed<'_>) -> AccessChange {
    let choice = feed.byte();
    let rule = |feed: &mut Feed<'_>| {
        let choice = feed.byte();
        AccessRule {
            prefix: [b"".to_vec(), b"a".to_vec(), b"b".to_vec()][usize::from(choice % 3)].clone(),
            whom: [
                Whom::All,
                Whom::Group(100),
                Whom::User(1000),
                Whom::User(1001),
            ][usize::from(choice >> 2 & 3)],
            modes: [ModeSet::NONE, ModeSet::READ, ModeSet::ALL, ModeSet::READ]
                [usize::from(choice >> 4 & 3)],
        }
    };
    AccessChange {
        owner: [None, None, None, Some(1000)][usize::from(choice & 3)],
        group: [None, None, None, Some(101)][usize::from(choice >> 2 & 3)],
        mode: [None, Some(0o666), Some(0o640), Some(0o777)][usize::from(choice >> 4 & 3)],
        rules: (choice & 0x40 != 0).then(|| (0..feed.byte() % 3).map(|_| rule(feed)).collect()),
        revision: (choice & 0x80 != 0).then(|| u64::from(feed.byte() % 3)),
    }
}

fn lockspace(feed: &mut Feed<'_>) -> Ask {
    let name = space_name(feed.byte());
    let value_len = [
        None,
        None,
        Some(32),
        Some(0),
        Some(4),
        Some(5000),
        None,
        None,
    ][usize::from(feed.byte() % 8)];
    match feed.byte() % 3 {
        0 => Ask::OpenLockspace { name, value_len },
        1 => Ask::CreateLockspace {
            name,
            value_len,
            access: access(feed),
            fairness: Fairness {
                min_hold_ms: [0, 10, 10_001][usize::from(feed.byte() % 3)],
                ..Fairness::default()
            },
            compat: Compat::Strict,
        },
        _ => Ask::SetLockspace {
            name,
            access: access(feed),
        },
    }
}

/// Calls that are wrong, or only tell something.
fn other(feed: &mut Feed<'_>) -> Ask {
    let (lockspace, pattern, limit) = (None, None, u32::from(feed.byte() % 4));
    match feed.byte() % 12 {
        0 => range(feed),
        1 => Ask::Leave,
        2 => Ask::DumpRecorder,
        3 => Ask::Locks {
            lockspace,
            pattern,
            limit,
            after: None,
        },
        4 => Ask::Why {
            lockspace: space_name(feed.byte()),
            name: name(feed),
        },
        5 => Ask::Graph {
            lockspace,
            pattern,
            limit,
        },
        6 => Ask::Contention {
            lockspace,
            after: None,
            limit,
        },
        7 => Ask::Masters,
        8 => Ask::Lockspaces { after: None, limit },
        9 => Ask::Orphans {
            wish: OrphanWish::default(),
            limit,
            after: None,
        },
        10 => Ask::SetDeadlockPriority {
            priority: feed.byte(),
        },
        _ => Ask::Status,
    }
}
