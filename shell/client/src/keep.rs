//! What a client must remember so that its session can go on, on another connection, and until when it
//! may rely on its locks without a word from the daemon (`docs/protocol/keeping.md`).

use mainstay_base::Instant;
use mainstay_wire::keep::SessionKey;
use std::{collections::VecDeque, time::Duration};

/// Messages after which the daemon is told that they were heard.
const HEARD_MESSAGES: u64 = 64;
/// Bytes of messages after which it is told so.
const HEARD_BYTES: usize = 64 << 10;

#[derive(Debug)]
pub(crate) struct Keep {
    pub(crate) key: SessionKey,
    pub(crate) grace: Duration,
    /// Calls that may not have arrived, as they are sent.
    calls: VecDeque<(u64, Vec<u8>)>,
    /// How many messages were heard.
    pub(crate) heard: u64,
    /// How many of them the daemon was told of.
    said: u64,
    /// The length of the others.
    bytes: usize,
    /// The call that says so and has no answer: its number, and when it was made.
    saying: Option<(u64, Instant)>,
    /// When the last such call was made.
    said_at: Instant,
    /// After the connection was made anew: once so many messages were heard, that counts as a word of
    /// the daemon to a call of that moment.
    behind: Option<(u64, Instant)>,
    /// Until then the daemon keeps the session whatever has become of the connection.
    pub(crate) sure_until: Instant,
}

impl Keep {
    /// The daemon keeps the session; `asked`: when that was asked for.
    pub(crate) fn new(key: SessionKey, grace: Duration, asked: Instant) -> Keep {
        Keep {
            key,
            grace,
            calls: VecDeque::new(),
            heard: 0,
            said: 0,
            bytes: 0,
            saying: None,
            said_at: asked,
            behind: None,
            sure_until: asked + grace,
        }
    }

    /// A call is to be sent.
    pub(crate) fn asked(&mut self, request: u64, bytes: &[u8]) {
        self.calls.push_back((request, bytes.to_owned()));
    }

    /// A call was answered: it has arrived, and all before it.
    pub(crate) fn answered(&mut self, request: u64) {
        self.forget_calls(request);
        if let Some((_, made)) = self.saying.take_if(|(saying, _)| *saying == request) {
            self.word(made);
        }
    }

    fn forget_calls(&mut self, upto: u64) {
        while self
            .calls
            .front()
            .is_some_and(|(number, _)| *number <= upto)
        {
            self.calls.pop_front();
        }
    }

    /// The daemon had the session, and this connection to it, at that moment or later.
    fn word(&mut self, at: Instant) {
        self.sure_until = self.sure_until.max(at + self.grace);
    }

    /// A message was heard.
    pub(crate) fn heard(&mut self, len: usize) {
        self.heard += 1;
        self.bytes += len;
        self.catch_up();
    }

    fn catch_up(&mut self) {
        let heard = self.heard;
        if let Some((_, at)) = self.behind.take_if(|(told, _)| *told <= heard) {
            self.word(at);
        }
    }

    /// When the daemon is to be told the next time what was heard, unless much is heard before.
    pub(crate) fn due(&self) -> Instant {
        self.said_at + self.grace / 4
    }

    /// What to tell the daemon now, if anything.
    pub(crate) fn to_say(&self, now: Instant) -> Option<u64> {
        let much = self.heard - self.said >= HEARD_MESSAGES || self.bytes >= HEARD_BYTES;
        let due = much || now >= self.due();
        (due && self.saying.is_none()).then_some(self.heard)
    }

    /// The daemon is being told.
    pub(crate) fn said(&mut self, request: u64, upto: u64, now: Instant) {
        self.saying = Some((request, now));
        self.said_at = now;
        self.said = upto;
        self.bytes = 0;
    }

    /// There is another connection, on which the daemon was asked for the session at `at`. It has had
    /// calls up to `asked`, and has told `told` messages. What is to be sent first.
    pub(crate) fn continued(&mut self, asked: u64, told: u64, at: Instant) -> Vec<u8> {
        self.forget_calls(asked);
        self.behind = Some((told, at));
        self.catch_up();
        self.calls
            .iter()
            .flat_map(|(_, bytes)| bytes)
            .copied()
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_millis(ms)
    }

    fn keep() -> Keep {
        Keep::new(SessionKey([7; 16]), Duration::from_millis(1000), at(100))
    }

    /// Protects exclusion: an answer proves no more than that the daemon had the session when the call
    /// was made; what came before the answer does not count, and neither does another call's answer.
    #[test]
    fn a_word_counts_from_the_moment_of_the_question() {
        let mut keep = keep();
        assert_eq!(keep.sure_until, at(1100));
        assert_eq!(keep.to_say(at(349)), None, "not yet");
        assert_eq!(keep.to_say(at(350)), Some(0));
        keep.said(5, 0, at(400));
        assert_eq!(keep.to_say(at(2000)), None, "one at a time");
        keep.answered(4);
        keep.heard(10);
        assert_eq!(keep.sure_until, at(1100));
        keep.answered(5);
        assert_eq!(keep.sure_until, at(1400));
        assert_eq!(keep.to_say(at(650)), Some(1));
    }

    /// Protects exactly-once: calls are repeated that may not have arrived, in their order, and no
    /// others.
    #[test]
    fn what_has_not_arrived_is_repeated() {
        let mut keep = keep();
        for call in 3..=6 {
            keep.asked(call, &[call as u8, 0]);
        }
        keep.answered(4);
        assert_eq!(keep.continued(3, 0, at(0)), [5, 0, 6, 0]);
        assert_eq!(keep.continued(5, 0, at(0)), [6, 0]);
        assert_eq!(
            keep.continued(5, 0, at(0)),
            [6, 0],
            "that may get lost, too"
        );
        keep.answered(6);
        assert_eq!(keep.continued(6, 0, at(0)), [0_u8; 0]);
    }

    /// Protects owners who were taken their lock while they had no connection: before they have heard of
    /// all that was told, the new connection does not make their locks reliable again.
    #[test]
    fn a_new_connection_counts_once_all_is_heard() {
        let mut keep = keep();
        keep.heard(10);
        keep.continued(0, 3, at(5000));
        keep.heard(10);
        assert_eq!(keep.sure_until, at(1100));
        keep.heard(10);
        assert_eq!(keep.sure_until, at(6000));
        keep.continued(0, 3, at(7000));
        assert_eq!(keep.sure_until, at(8000), "nothing is behind");
    }

    /// Protects the daemon's memory: what was heard is said soon.
    #[test]
    fn much_is_acknowledged_at_once() {
        let mut keep = keep();
        for _ in 1..HEARD_MESSAGES {
            keep.heard(1);
        }
        assert_eq!(keep.to_say(at(101)), None);
        keep.heard(1);
        assert_eq!(keep.to_say(at(101)), Some(HEARD_MESSAGES));
        keep.said(9, HEARD_MESSAGES, at(101));
        keep.answered(9);
        keep.heard(HEARD_BYTES);
        assert_eq!(keep.to_say(at(102)), Some(HEARD_MESSAGES + 1));
    }
}
