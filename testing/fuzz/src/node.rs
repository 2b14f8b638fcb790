//! A whole node: hostile peers, hostile clients, hostile disk.

use crate::{
    Feed,
    memory::bounded,
    world::{IMPOSTOR, LOG, MEMBERSHIP, VICTIM, World, config, framed},
};
use mainstay_base::{
    BootId, ByteRange, DiskId, Flags, Instant, LinkId, LockMode, LockspaceId, LockspaceName,
    ResourceName, SessionId, ValueBlock, ValueUpdate, ValueVersion,
};
use mainstay_membership::Message;
use mainstay_node::{BootInfo, Input, Node, Outbox};
use mainstay_wire::{
    client::{Ask, FromClient, Handle, MESSAGE_LEN_MAX, ToClient},
    codec, dlm,
    keep::SessionKey,
    orphan::OrphanWish,
    report::OwnerReport,
    sets::{ConvertOne, SetMember, UnlockOne},
};
use std::{collections::BTreeSet, time::Duration};

/// What a world may take beside what the input makes it keep.
const BASE: usize = 16 << 20;
const FACTOR: usize = 4096;

fn open(world: &mut World, session: u64, privileged: bool) {
    let owner = OwnerReport {
        pid: 1,
        uid: 0,
        command: "fuzz".to_owned(),
        orphan_ms: None,
        owner: mainstay_base::Owner::Session,
        broken: None,
    };
    let session = SessionId(session);
    world.input(
        VICTIM,
        Input::SessionOpened {
            group: 100,
            session,
            owner,
            privileged,
        },
    );
}

fn ask(world: &mut World, session: u64, request: u64, ask: Ask) {
    let session = SessionId(session);
    world.input(
        VICTIM,
        Input::Request {
            session,
            request,
            ask,
        },
    );
}

fn open_lockspace(world: &mut World) {
    let name = LockspaceName::new("default").expect("letters make a name");
    ask(
        world,
        1,
        1,
        Ask::OpenLockspace {
            name,
            value_len: None,
        },
    );
}

/// What the victim's client locks before the attack; the first stands in the golden messages. Some
/// of them have their directory entry with the impostor, who need not answer.
const NAMES: [&[u8]; 6] = [b"disk\0\xff", b"a", b"b", b"c", b"d", b"e"];

fn lock_all(world: &mut World) {
    for (number, name) in (2_u64..).zip(NAMES) {
        let lock = Ask::Lock {
            handle: Handle(number),
            lockspace: LockspaceId(1),
            name: ResourceName::new(name).expect("short"),
            mode: LockMode::Ex,
            flags: Flags::VALBLK,
            blocking: true,
            timeout_ms: None,
        };
        ask(world, 1, number, lock);
    }
}

/// A peer that has the key and says what it likes; another, true, whose frames are tampered with.
pub(crate) fn peers(data: &[u8]) {
    let mut feed = Feed::new(data);
    let scenario = feed.byte();
    bounded(
        "node among hostile peers",
        BASE + FACTOR * data.len(),
        || {
            let mut world = World::new(1 + u16::from(scenario % 2), true);
            open(&mut world, 1, true);
            open_lockspace(&mut world);
            world.run(Duration::from_millis(50));
            lock_all(&mut world);
            world.run(Duration::from_millis(20));
            let mut requests = 10;
            while !feed.is_empty() && world.victim().is_some() {
                attack(&mut world, &mut feed, &mut requests);
            }
            world.run(Duration::from_secs(5));
            if let Some(why) = world.stopped {
                assert!(!why.is_empty(), "a node that stops says why");
            }
        },
    );
}

fn attack(world: &mut World, feed: &mut Feed<'_>, requests: &mut u64) {
    match feed.byte() % 12 {
        0 | 1 => {
            let ms = u64::from(feed.byte()) * 10;
            world.run(Duration::from_millis(ms));
        }
        2 => {
            let frame = feed.block().to_vec();
            world.frame(frame);
        }
        3 => world.tamper = Some(feed.block().to_vec()),
        // A message of the membership, of the impostor's present life.
        4 => {
            if let Ok(mut message) = Message::decode(feed.block()) {
                match &mut message {
                    Message::Heartbeat(h) => {
                        h.boot = world.impostor_boot();
                        if let Some(honest) = world.heartbeat() {
                            h.config = honest.config;
                            h.cluster = honest.cluster;
                            h.seq = honest.seq;
                        }
                    }
                    Message::Ack(ack) => ack.boot = world.impostor_boot(),
                    Message::Offer(offer) => offer.boot = world.impostor_boot(),
                }
                world.frame(framed(MEMBERSHIP, &message.encode()));
            }
        }
        // A message between lock managers, of the present view or as it stands.
        5 | 6 => {
            let bytes = feed.block();
            let message = codec::decode::<dlm::Message>("lock message", MESSAGE_LEN_MAX, bytes);
            if let Ok(mut message) = message {
                fit(world, &mut message);
                world.say(codec::to_vec(&message));
            } else {
                world.say(bytes.to_vec());
            }
        }
        // A message of the log that another sent, tampered with.
        7 => {
            let place = usize::from(feed.byte());
            if let Some(place) = place.checked_rem(world.kept.len()) {
                let mut frame = world.kept[place].clone();
                feed.tamper(&mut frame);
                world.frame(frame);
            }
        }
        8 => {
            let command = feed.block();
            world.frame(framed(4, command));
            world.frame(framed(LOG, command));
        }
        9 => {
            let bytes = feed.block();
            if let Ok(call) = codec::decode::<FromClient>("call", MESSAGE_LEN_MAX, bytes) {
                *requests += 1;
                ask(world, 1, *requests, call.ask);
            }
        }
        10 => {
            let (peer, link) = (IMPOSTOR, LinkId(feed.byte()));
            if feed.byte().is_multiple_of(2) {
                world.input(VICTIM, Input::LinkUp { peer, link });
            } else {
                let detail = String::new();
                world.input(VICTIM, Input::LinkDown { peer, link, detail });
            }
        }
        _ => {
            world.restart();
            open(world, 1, true);
        }
    }
}

/// Makes a message one of the present view, about what the victim's client holds and waits for.
fn fit(world: &World, message: &mut dlm::Message) {
    use dlm::Body;
    message.epoch = world.epoch();
    let since = world.members_since();
    match &mut message.body {
        Body::Lookup { resource, members }
        | Body::LookupUnwilling { resource, members }
        | Body::MasterIs {
            resource, members, ..
        }
        | Body::YouMaster {
            resource, members, ..
        }
        | Body::Appoint {
            resource, members, ..
        } => {
            *members = since;
            resource.space = LockspaceId(1);
        }
        Body::Registered { members } => *members = since,
        Body::Register { space, .. } => *space = LockspaceId(1),
        Body::Forget { resource, .. }
        | Body::Forgotten { resource }
        | Body::Request { resource, .. }
        | Body::Convert { resource, .. }
        | Body::ConvertDemoted { resource, .. }
        | Body::Unlock { resource, .. }
        | Body::Drop { resource, .. }
        | Body::Cancel { resource, .. }
        | Body::Update { resource, .. }
        | Body::Watch { resource, .. }
        | Body::RangeCall { resource, .. }
        | Body::RangeWeaken { resource, .. }
        | Body::RestateRanges { resource, .. }
        | Body::Restate { resource, .. }
        | Body::HandOver { resource, .. }
        | Body::Suspect { resource, .. } => resource.space = LockspaceId(1),
        Body::Granted { lock, .. }
        | Body::Queued { lock, .. }
        | Body::Refused { lock, .. }
        | Body::Unlocked { lock, .. }
        | Body::Updated { lock, .. }
        | Body::ValueChanged { lock, .. }
        | Body::RangeBlocking { lock, .. }
        | Body::Attest { lock, .. }
        | Body::Blocking { lock, .. } => lock.0 = lock.0 % NAMES.len() as u64 + 1,
        Body::Pursue { met, .. } => {
            met.node = IMPOSTOR;
            met.resource.space = LockspaceId(1);
        }
        Body::NotMaster { resource, lock } => {
            resource.space = LockspaceId(1);
            lock.0 = lock.0 % NAMES.len() as u64 + 1;
        }
        _ => {}
    }
}

/// Clients that ask what they like, in any order, and go when they like. Whatever they do, each
/// call is answered once, the node goes on, and nothing is left of them.
pub(crate) fn clients(data: &[u8]) {
    let mut feed = Feed::new(data);
    let mut open_now = BTreeSet::from([1_u64]);
    let mut leaves = false;
    bounded(
        "node with hostile clients",
        BASE + FACTOR * data.len(),
        || {
            let mut world = World::new(0, false);
            open(&mut world, 1, true);
            open_lockspace(&mut world);
            world.run(Duration::from_millis(50));
            let mut requests = 10;
            while !feed.is_empty() && world.victim().is_some() {
                let how = feed.byte();
                let session = u64::from(how >> 4) % 4 + 1;
                match how % 8 {
                    0 => world.run(Duration::from_millis(u64::from(feed.byte()) * 4)),
                    1 => {
                        open_now.insert(session);
                        open(&mut world, session, session == 1);
                    }
                    2 => {
                        open_now.remove(&session);
                        let session = SessionId(session);
                        world.input(VICTIM, Input::SessionClosed { session });
                    }
                    3 => {
                        let call = call(&mut feed);
                        requests += 1;
                        ask(&mut world, session, requests, call);
                    }
                    4 => {
                        requests += 1;
                        keep(&mut world, session, requests, feed.byte());
                    }
                    _ => {
                        let bytes = feed.block();
                        if let Ok(call) =
                            codec::decode::<FromClient>("call", MESSAGE_LEN_MAX, bytes)
                        {
                            leaves |= matches!(call.ask, Ask::Leave | Ask::Rest { .. });
                            requests += 1;
                            ask(&mut world, session, requests, call.ask);
                        }
                    }
                }
                if let Some(node) = world.victim() {
                    node.lock_manager().check_at_rest();
                }
            }
            for session in open_now {
                let session = SessionId(session);
                world.input(VICTIM, Input::SessionClosed { session });
            }
            world.run(Duration::from_secs(2));
            let mut answered = BTreeSet::new();
            for (session, message) in &world.told {
                if let ToClient::Done { request, .. } = message {
                    let first = answered.insert((*session, *request));
                    assert!(first, "request {request} was answered twice");
                }
            }
            if let Some(node) = world.victim() {
                let orphans = node.lock_manager().orphan_count() as u64;
                assert_eq!(locks(node), orphans, "locks of clients that are gone");
            }
            open(&mut world, 5, true);
            let wish = OrphanWish::default();
            ask(&mut world, 5, 1, Ask::PurgeOrphans { wish });
            world.run(Duration::from_secs(3));
            match world.victim() {
                Some(node) => {
                    node.lock_manager().check_at_rest();
                    assert_eq!(locks(node), 0, "orphans that were purged");
                }
                None => assert!(leaves, "clients stopped the node: {:?}", world.stopped),
            }
        },
    );
}

/// A session is to be kept, or continued by a client that has heard so much.
fn keep(world: &mut World, session: u64, request: u64, how: u8) {
    let (session, key) = (SessionId(session), SessionKey([7; 16]));
    let input = match how {
        0..=63 => Input::Keep {
            session,
            request,
            grace_ms: 500 + u32::from(how),
            key,
        },
        heard => {
            // What it has not heard it is told again.
            world.told.retain(|(whose, _)| *whose != session);
            Input::Reattach {
                connection: SessionId(request),
                session,
                key,
                heard: u64::from(heard - 64),
                uid: 0,
            }
        }
    };
    world.input(VICTIM, input);
}

/// How many locks the clients of a node have, those that are gone among them.
fn locks(node: &mainstay_node::Node) -> u64 {
    let counts = node.lock_manager().counts();
    counts.values().map(|space| space.locks).sum()
}

/// A call that makes sense, more often than arbitrary bytes do.
fn call(feed: &mut Feed<'_>) -> Ask {
    let handle = Handle(u64::from(feed.byte() % 4));
    let mode = LockMode::ALL[usize::from(feed.byte() % 6)];
    // Two bits without a meaning stand for the two flags that sixteen bits do not reach.
    let bits = u32::from(feed.u16());
    let flags = Flags((bits | (bits & 0x6) << 15) & Flags::ALL.0);
    let blocking = true;
    match feed.byte() % 14 {
        13 => Ask::UnlockTree {
            handle: Some(handle).filter(|_| bits & 3 != 0),
            itself: blocking ^ (bits & 4 != 0),
        },
        12 => Ask::LockUnder {
            parent: Handle(u64::from(feed.byte() % 4)),
            handle,
            name: ResourceName::new([b'a' + feed.byte() % 2]).expect("one byte"),
            mode,
            flags,
            blocking,
            timeout_ms: Some(50),
        },
        11 => Ask::PurgeOrphans {
            wish: OrphanWish::default(),
        },
        10 => Ask::Adopt {
            handle,
            lockspace: LockspaceId(1),
            name: ResourceName::new([b'a' + feed.byte() % 2]).expect("one byte"),
            mode,
            flags: Flags(flags.0 & (Flags::PERSISTENT | Flags::VALBLK).0),
            blocking,
        },
        kind @ 7..=9 => calls(feed, kind, handle, mode, flags),
        6 => {
            let (from, to) = (feed.byte() % 16, feed.byte() % 16);
            let (from, to) = (from.min(to).into(), from.max(to).into());
            Ask::Range {
                handle,
                lockspace: LockspaceId(1),
                name: ResourceName::new([b'a' + feed.byte() % 2]).expect("one byte"),
                range: ByteRange::new(from, to).expect("the right way round"),
                mode,
                flags: Flags(flags.0 & Flags::NOQUEUE.0),
                blocking,
                timeout_ms: Some(50),
            }
        }
        0 => Ask::Lock {
            handle,
            lockspace: LockspaceId(1),
            name: ResourceName::new([b'a' + feed.byte() % 2]).expect("one byte"),
            mode,
            flags,
            blocking,
            timeout_ms: None,
        },
        1 => Ask::Convert {
            handle,
            mode,
            flags,
            blocking,
            value: None,
            timeout_ms: Some(50),
        },
        2 => Ask::Unlock {
            handle,
            flags,
            value: None,
        },
        3 => Ask::UpdateValue {
            handle,
            update: match feed.byte() % 2 {
                0 => ValueUpdate::Add {
                    delta: i64::from(bits),
                },
                _ => ValueUpdate::Swap {
                    expect: ValueVersion(u64::from(bits % 4)),
                    expect_stale: bits & 4 != 0,
                    block: ValueBlock::new(vec![7; usize::from(bits as u8)]).expect("short"),
                },
            },
        },
        4 => Ask::WatchValue {
            handle,
            on: bits & 1 == 0,
        },
        _ => Ask::Cancel { handle },
    }
}

/// A call for several locks, some of them perhaps twice.
fn calls(feed: &mut Feed<'_>, kind: u8, first: Handle, mode: LockMode, flags: Flags) -> Ask {
    let count = u64::from(feed.byte() % 4);
    let handles = (0..count).map(|i| Handle((first.0 + i) % 5));
    let timeout_ms = Some(50);
    match kind {
        7 => Ask::LockSet {
            lockspace: LockspaceId(1),
            members: handles
                .map(|handle| SetMember {
                    handle,
                    name: ResourceName::new([b'a' + feed.byte() % 4]).expect("one byte"),
                    mode: LockMode::ALL[usize::from(feed.byte() % 6)],
                    flags: Flags(flags.0 & (Flags::VALBLK | Flags::NOORDER | Flags::ALTPR).0),
                    blocking: true,
                })
                .collect(),
            flags: Flags(flags.0 & (Flags::NOQUEUE | Flags::NOQUEUEBAST).0),
            timeout_ms: timeout_ms.filter(|_| flags.contains(Flags::HEADQUE)),
        },
        8 => Ask::ConvertMany {
            locks: handles
                .map(|handle| ConvertOne {
                    handle,
                    mode,
                    flags,
                    blocking: true,
                    value: None,
                })
                .collect(),
            timeout_ms,
        },
        _ => Ask::UnlockMany {
            locks: handles
                .map(|handle| UnlockOne {
                    handle,
                    flags,
                    value: None,
                })
                .collect(),
        },
    }
}

/// A node that starts from a hostile journal: it refuses, or it runs.
pub(crate) fn boot(data: &[u8]) {
    let mut feed = Feed::new(data);
    let mut records = Vec::new();
    while !feed.is_empty() {
        records.push((feed.byte(), feed.block().to_vec()));
    }
    bounded("boot", BASE + FACTOR * data.len(), || {
        let config = config(&[VICTIM]);
        let mut now = Instant::from_millis(5);
        let info = BootInfo {
            carried: None,
            boot: BootId(7),
            disk: DiskId(1),
            records,
            entropy: 7,
        };
        let mut node = match Node::boot(now, config, info) {
            Ok(node) => node,
            Err(why) => return assert!(!why.to_string().is_empty()),
        };
        let mut outbox = Outbox::default();
        for _ in 0..40 {
            node.step(now, Input::Wake, &mut outbox);
            node.flush(now, &mut outbox);
            let mut durable = None;
            for effect in outbox.effects.drain(..) {
                if let mainstay_node::Effect::Persist { seq, .. } = effect {
                    durable = Some(seq);
                }
            }
            if let Some(seq) = durable {
                node.step(now, Input::Persisted(seq), &mut outbox);
            }
            now = now + Duration::from_millis(50);
        }
    });
}
