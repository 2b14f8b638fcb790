//! Link frames.

use crate::{Feed, memory::bounded};
use mainstay_base::{BootId, Instant};
use mainstay_link::Channel;
use std::time::Duration;

/// What a channel may keep: what is under way and what came too early, both bounded by the crate.
const KEPT: usize = 1 << 20;

/// One end hears arbitrary frames, true ones of a peer, and true ones that were tampered with.
pub(crate) fn frames(data: &[u8]) {
    let mut now = Instant::from_millis(1000);
    let (us, them) = (BootId(11), BootId(22));
    let (mut here, mut there) = (Channel::new(us, now), Channel::new(them, now));
    let mut frame = Vec::new();
    let mut sent = 0_u64;
    let mut heard = Vec::new();
    let mut forged = false;
    let mut feed = Feed::new(data);
    bounded("channel", KEPT + 64 * data.len(), || {
        while !feed.is_empty() {
            now = now + Duration::from_millis(u64::from(feed.byte()));
            match feed.byte() % 6 {
                0 => {
                    sent += 1;
                    let _ = there.send(sent.to_le_bytes().to_vec());
                    let _ = here.send(vec![1; usize::from(feed.byte())]);
                }
                1 => exchange(now, &mut there, &mut here, &mut heard),
                2 => exchange(now, &mut here, &mut there, &mut Vec::new()),
                3 => {
                    let raw = feed.block();
                    let before = (here.peer(), here.backlog_messages());
                    let mut got = Vec::new();
                    let taken = here.receive(now, raw, |m| got.push(m.to_vec()));
                    forged |= taken.is_ok();
                    if taken.is_err() {
                        let after = (here.peer(), here.backlog_messages());
                        assert_eq!(before, after, "a refused frame changed something");
                        assert!(got.is_empty(), "a refused frame delivered something");
                    }
                }
                4 => {
                    if there.pack(now, &mut frame) {
                        let whole = frame.clone();
                        feed.tamper(&mut frame);
                        forged |= frame != whole;
                        // Refused or not, what counts is what was delivered.
                        let _ = here.receive(now, &frame, |m| heard.push(m.to_vec()));
                    }
                }
                _ => {
                    here.resume(now);
                    there.resume(now);
                }
            }
        }
    });
    if !forged {
        for (number, message) in (1_u64..).zip(&heard) {
            assert_eq!(message[..], number.to_le_bytes(), "not in order and once");
        }
    }
}

fn exchange(now: Instant, from: &mut Channel, to: &mut Channel, heard: &mut Vec<Vec<u8>>) {
    let mut frame = Vec::new();
    for _ in 0..8 {
        if !from.pack(now, &mut frame) {
            break;
        }
        // Between two honest ends only what was lost before can be refused: an acknowledgement of
        // what a forger said in between.
        let _ = to.receive(now, &frame, |message| heard.push(message.to_vec()));
    }
}
