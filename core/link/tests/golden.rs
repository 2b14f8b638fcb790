//! Golden bytes: frames keep the format that was once released.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use mainstay_base::{BootId, Instant};
use mainstay_link::Channel;

#[path = "../../wire/tests/golden/check.rs"]
mod check;

fn packed(channel: &mut Channel, now: Instant) -> Vec<u8> {
    let mut frame = Vec::new();
    assert!(channel.pack(now, &mut frame), "nothing to send");
    frame
}

/// Protects rolling upgrades: the frames by which two ends meet, deliver and acknowledge.
#[test]
fn frames_keep_their_bytes() {
    let now = Instant::from_millis(1000);
    let (mut a, mut b) = (
        Channel::new(BootId(0x0102_0304_0506_0708), now),
        Channel::new(BootId(0x1112_1314_1516_1718), now),
    );
    let mut frames = Vec::new();
    let mut heard = Vec::new();
    let hello = packed(&mut a, now);
    b.receive(now, &hello, |_| panic!("a hello has no messages"))
        .unwrap();
    let greeting = packed(&mut b, now);
    a.receive(now, &greeting, |_| panic!("a greeting has no messages"))
        .unwrap();
    a.send(b"first".to_vec()).unwrap();
    a.send(b"second message".to_vec()).unwrap();
    let messages = packed(&mut a, now);
    b.receive(now, &messages, |m| heard.push(m.to_vec()))
        .unwrap();
    let acknowledgement = packed(&mut b, now);
    for (name, frame) in [
        ("hello", hello),
        ("greeting", greeting),
        ("messages", messages),
        ("acknowledgement", acknowledgement),
    ] {
        frames.push((name.to_owned(), frame));
    }
    let text = include_str!("golden/frames.txt");
    check::golden(
        "frames.txt",
        text,
        "VERSION in core/link/src/frame.rs",
        &frames,
    );
    assert_eq!(heard, [&b"first"[..], b"second message"]);
}
