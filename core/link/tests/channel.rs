//! Channels over links that lose, repeat, reorder and restart.

use mainstay_base::{BootId, Entropy, Instant};
use mainstay_link::{Channel, FRAME_LEN_MAX, LinkError, MESSAGE_LEN_MAX, PeerChange};
use proptest::prelude::*;
use std::time::Duration;

fn ms(ms: u64) -> Instant {
    Instant::from_millis(ms)
}

/// One end with everything it has said and heard, per life pair.
struct End {
    channel: Channel,
    boot: u64,
    sent: u64,
    /// What arrived in this life: per life of the peer, in order of arrival.
    heard: Vec<(BootId, Vec<Vec<u8>>)>,
    changes: Vec<PeerChange>,
}

impl End {
    fn new(boot: u64, now: Instant) -> End {
        End {
            channel: Channel::new(BootId(boot), now),
            boot,
            sent: 0,
            heard: Vec::new(),
            changes: Vec::new(),
        }
    }

    /// Says its life, the life it says it to, and a number counted up in this life.
    fn say(&mut self, padding: usize) {
        self.sent += 1;
        let mut message = Vec::with_capacity(16 + padding);
        message.extend_from_slice(&self.boot.to_le_bytes());
        message.extend_from_slice(&self.sent.to_le_bytes());
        message.resize(16 + padding, 7);
        self.channel.send(message).expect("of legal size");
    }

    fn hear(&mut self, now: Instant, frame: &[u8]) {
        let mut inbox = Vec::new();
        let change = self
            .channel
            .receive(now, frame, |m| inbox.push(m.to_vec()))
            .expect("an honest frame");
        if let Some(change) = change {
            self.changes.push(change);
            self.heard.push((change.new, Vec::new()));
        }
        if !inbox.is_empty() {
            self.heard
                .last_mut()
                .expect("no message before the peer is known")
                .1
                .extend(inbox);
        }
    }
}

/// Two ends and the frames under way between them.
struct World {
    now: Instant,
    ends: [End; 2],
    /// To whom, when, what.
    under_way: Vec<(usize, Instant, Vec<u8>)>,
    entropy: Entropy,
    /// In a thousand.
    loss: u64,
    /// In a thousand.
    duplication: u64,
    delay_max_ms: u64,
    next_boot: u64,
}

impl World {
    fn new(seed: u64) -> World {
        World {
            now: ms(1),
            ends: [End::new(1, ms(1)), End::new(2, ms(1))],
            under_way: Vec::new(),
            entropy: Entropy::new(seed),
            loss: 0,
            duplication: 0,
            delay_max_ms: 1,
            next_boot: 3,
        }
    }

    fn flush(&mut self) {
        let mut frame = Vec::new();
        for from in 0..2 {
            while self.ends[from].channel.pack(self.now, &mut frame) {
                assert!(frame.len() <= FRAME_LEN_MAX);
                let copies = 1 + u64::from(self.entropy.chance(self.duplication, 1000));
                for _ in 0..copies {
                    if self.entropy.chance(self.loss, 1000) {
                        continue;
                    }
                    let delay = self.entropy.below(self.delay_max_ms * 1000 + 1);
                    let at = self.now + Duration::from_micros(delay);
                    self.under_way.push((1 - from, at, frame.clone()));
                }
            }
        }
    }

    /// Lets the next thing happen, but not beyond `until`.
    fn advance(&mut self, until: Instant) {
        while self.now < until {
            self.flush();
            let arrivals = self.under_way.iter().map(|(_, at, _)| *at);
            let deadlines = self.ends.iter().filter_map(|e| e.channel.deadline());
            let next = arrivals.chain(deadlines).min().unwrap_or(until);
            assert!(
                next >= self.now || self.under_way.iter().any(|(_, at, _)| *at <= self.now),
                "a deadline in the past leaves nothing to pack"
            );
            self.now = next.max(self.now).min(until);
            let mut i = 0;
            while i < self.under_way.len() {
                if self.under_way[i].1 <= self.now {
                    let (to, _, frame) = self.under_way.swap_remove(i);
                    self.ends[to].hear(self.now, &frame);
                } else {
                    i += 1;
                }
            }
        }
        self.flush();
    }

    fn restart(&mut self, end: usize) {
        self.ends[end] = End::new(self.next_boot, self.now);
        self.next_boot += 1;
    }

    /// What each end heard in this life: from each life of the peer a run of consecutive numbers.
    fn check_order(&self) {
        for end in &self.ends {
            for (boot, messages) in &end.heard {
                let mut previous = None;
                for message in messages {
                    let (life, number) = decode(message);
                    assert_eq!(BootId(life), *boot, "a message of another life");
                    if let Some(previous) = previous {
                        assert_eq!(number, previous + 1, "lost, repeated or out of order");
                    }
                    previous = Some(number);
                }
            }
            let mut lives: Vec<u64> = end.heard.iter().map(|(boot, _)| boot.0).collect();
            lives.dedup();
            assert!(
                lives.is_sorted(),
                "went back to an earlier life of the peer: {lives:?}"
            );
        }
    }
}

fn decode(message: &[u8]) -> (u64, u64) {
    let word = |at: usize| {
        let bytes = message[at..at + 8].try_into().expect("eight bytes");
        u64::from_le_bytes(bytes)
    };
    (word(0), word(8))
}

#[derive(Clone, Debug)]
enum Event {
    Say {
        end: usize,
        count: u8,
        padding: usize,
    },
    Pass {
        ms: u16,
    },
    Weather {
        loss: u64,
        duplication: u64,
        delay: u64,
    },
    Resume {
        end: usize,
    },
    Restart {
        end: usize,
    },
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (0..2usize, 1..40u8, prop_oneof![9 => 0..64usize, 1 => 0..100_000usize])
            .prop_map(|(end, count, padding)| Event::Say { end, count, padding }),
        6 => (1..300u16).prop_map(|ms| Event::Pass { ms }),
        2 => (0..=1000u64, 0..500u64, 1..200u64)
            .prop_map(|(loss, duplication, delay)| Event::Weather { loss, duplication, delay }),
        1 => (0..2usize).prop_map(|end| Event::Resume { end }),
        1 => (0..2usize).prop_map(|end| Event::Restart { end }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 300,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    /// Protects the ground all protocols above stand on: in every pair of lives, messages arrive in
    /// order and at most once, and after the links have healed the living pair receives everything.
    #[test]
    fn delivery_is_ordered_and_exactly_once_per_pair_of_lives(
        seed in any::<u64>(),
        events in prop::collection::vec(event(), 1..60),
    ) {
        let mut world = World::new(seed);
        for event in events {
            match event {
                Event::Say { end, count, padding } => {
                    for _ in 0..count {
                        world.ends[end].say(padding);
                    }
                }
                Event::Pass { ms } => {
                    let until = world.now + Duration::from_millis(ms.into());
                    world.advance(until);
                }
                Event::Weather { loss, duplication, delay } => {
                    world.loss = loss;
                    world.duplication = duplication;
                    world.delay_max_ms = delay;
                }
                Event::Resume { end } => {
                    let now = world.now;
                    world.ends[end].channel.resume(now);
                }
                Event::Restart { end } => world.restart(end),
            }
            world.check_order();
        }
        (world.loss, world.duplication, world.delay_max_ms) = (0, 0, 2);
        world.ends[0].say(0);
        world.ends[1].say(0);
        let until = world.now + Duration::from_secs(5);
        world.advance(until);
        world.check_order();
        // A life that its peer outlived may have dropped what it had queued, so a last word each.
        for end in 0..2 {
            world.ends[end].say(0);
        }
        let until = world.now + Duration::from_secs(1);
        world.advance(until);
        for end in 0..2 {
            let (me, peer) = (&world.ends[end], &world.ends[1 - end]);
            prop_assert_eq!(me.channel.peer(), Some(BootId(peer.boot)));
            prop_assert_eq!(me.channel.backlog_bytes(), 0);
            prop_assert_eq!(me.channel.backlog_messages(), 0);
            let (life, messages) = me.heard.last().expect("the last word arrived");
            prop_assert_eq!(*life, BootId(peer.boot));
            let last = decode(messages.last().expect("the last word arrived"));
            prop_assert_eq!(last, (peer.boot, peer.sent));
            if peer.changes.len() == 1 {
                // Its peer never changed, so nothing was dropped: all must be here.
                prop_assert_eq!(messages.len() as u64, peer.sent);
            }
        }
    }

    /// Protects against hostile bytes: an error or nothing, and never a message from garbage.
    #[test]
    fn garbage_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut channel = Channel::new(BootId(1), ms(1));
        let mut delivered = 0;
        let result = channel.receive(ms(1), &bytes, |_| delivered += 1);
        prop_assert!(result.is_err() || delivered == 0);
    }

    /// Protects against damage in transit of a frame that was good.
    #[test]
    fn a_cut_frame_is_refused_whole(cut in 1..120usize) {
        let mut world = World::new(1);
        world.advance(ms(50));
        world.ends[0].say(20);
        world.ends[0].say(20);
        let mut frame = Vec::new();
        prop_assert!(world.ends[0].channel.pack(world.now, &mut frame));
        let cut = cut.min(frame.len());
        frame.truncate(frame.len() - cut);
        let mut delivered = 0;
        let result = world.ends[1].channel.receive(world.now, &frame, |_| delivered += 1);
        prop_assert!(result.is_err());
        prop_assert_eq!(delivered, 0);
    }
}

/// Protects first contact: what was said before the peer was known is not lost.
#[test]
fn messages_wait_for_first_contact() {
    let mut world = World::new(1);
    world.ends[0].say(0);
    world.ends[1].say(0);
    world.advance(ms(20));
    for end in &world.ends {
        assert_eq!(end.changes.len(), 1);
        assert_eq!(end.changes[0].old, None);
        assert_eq!(end.heard[0].1.len(), 1);
    }
}

/// Protects recovery from a late frame of a dead life that was never heard before.
#[test]
fn a_dead_life_cannot_displace_its_successor() {
    let mut world = World::new(1);
    // Life 1 learns of life 2 and answers, but the answer stays under way.
    let mut frame = Vec::new();
    assert!(world.ends[1].channel.pack(world.now, &mut frame));
    world.ends[0].hear(ms(1), &frame);
    let mut late = Vec::new();
    assert!(world.ends[0].channel.pack(ms(1), &mut late));
    world.restart(0);
    world.advance(ms(500));
    assert_eq!(world.ends[1].channel.peer(), Some(BootId(3)));
    world.ends[1].hear(ms(500), &late);
    world.advance(ms(1000));
    assert_eq!(world.ends[1].channel.peer(), Some(BootId(3)));
    assert_eq!(world.ends[1].changes.len(), 1);
}

/// Protects take-over by another link: the tail is repeated at once, not after a timeout.
#[test]
fn resume_repeats_the_tail_at_once() {
    let mut world = World::new(1);
    world.advance(ms(50));
    world.loss = 1000;
    world.ends[0].say(0);
    world.flush();
    world.loss = 0;
    let now = world.now;
    world.ends[0].channel.resume(now);
    world.advance(now + Duration::from_millis(2));
    assert_eq!(world.ends[1].heard[0].1.len(), 1);
}

/// Protects the network from a sender that nobody answers: the pause between attempts grows to half
/// a second, and each attempt is a single frame.
#[test]
fn an_unanswered_sender_backs_off() {
    let mut world = World::new(1);
    world.advance(ms(50));
    for _ in 0..2000 {
        world.ends[0].say(2000);
    }
    let mut frame = Vec::new();
    let mut now = world.now;
    while world.ends[0].channel.pack(now, &mut frame) {}
    let mut frames = 0;
    let end = now + Duration::from_secs(10);
    loop {
        let deadline = world.ends[0].channel.deadline().expect("unacknowledged");
        now = now.max(deadline);
        if now > end {
            break;
        }
        while world.ends[0].channel.pack(now, &mut frame) {
            frames += 1;
        }
    }
    assert!(
        (19..=30).contains(&frames),
        "{frames} frames in ten seconds"
    );
}

/// Protects round trips from waiting: a stream is acknowledged every 32 messages, a single message
/// within 5 ms.
#[test]
fn acknowledgements_are_few_but_prompt() {
    let mut world = World::new(1);
    world.advance(ms(50));
    let mut frame = Vec::new();
    for (count, prompt) in [(31, false), (32, true)] {
        for _ in 0..count {
            world.ends[0].say(0);
        }
        let now = world.now;
        assert!(world.ends[0].channel.pack(now, &mut frame));
        world.ends[1].hear(now, &frame);
        assert_eq!(world.ends[1].channel.pack(now, &mut frame), prompt);
        if !prompt {
            let deadline = world.ends[1].channel.deadline().expect("an ack is owed");
            assert_eq!(deadline, now + Duration::from_millis(5));
            assert!(world.ends[1].channel.pack(deadline, &mut frame));
        }
        world.ends[0].hear(now, &frame);
        assert_eq!(world.ends[0].channel.backlog_bytes(), 0);
    }
}

/// Protects the frame limit and the message limit.
#[test]
fn messages_have_limits() {
    let mut channel = Channel::new(BootId(1), ms(1));
    assert!(matches!(
        channel.send(vec![0; MESSAGE_LEN_MAX + 1]),
        Err(LinkError::MessageLength { .. })
    ));
    assert!(channel.send(Vec::new()).is_err());
    let mut world = World::new(1);
    for _ in 0..10 {
        world.ends[0].say(MESSAGE_LEN_MAX - 16);
    }
    world.advance(ms(200));
    assert_eq!(world.ends[1].heard[0].1.len(), 10);
}

/// Protects a node from a peer that acknowledges what was never said.
#[test]
fn a_false_acknowledgement_is_an_error() {
    let mut world = World::new(1);
    world.advance(ms(50));
    world.ends[0].say(0);
    let mut frame = Vec::new();
    assert!(world.ends[0].channel.pack(world.now, &mut frame));
    frame[28..36].copy_from_slice(&99u64.to_le_bytes());
    let result = world.ends[1]
        .channel
        .receive(world.now, &frame, |_| panic!("nothing may be taken"));
    assert_eq!(result, Err(LinkError::Acknowledged { ack: 99, sent: 0 }));
}
