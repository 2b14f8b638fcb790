//! One node's end of a channel.

use crate::frame::{
    self, FRAME_LEN_MAX, HEADER_LEN, Header, LinkError, MESSAGE_LEN_MAX, PREFIX_LEN,
};
use mainstay_base::{BootId, Instant, Mutant};
use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

/// Bounds of the time until something unacknowledged is repeated.
const RTO_MIN: Duration = Duration::from_millis(20);
const RTO_MAX: Duration = Duration::from_millis(500);
/// That time before any round trip has been measured.
const RTO_START: Duration = Duration::from_millis(100);
/// An acknowledgement waits so long for a message to ride on.
const ACK_DELAY: Duration = Duration::from_millis(5);
/// So many messages are acknowledged at once.
const ACK_EVERY: u32 = 32;
/// What may be under way unacknowledged. The receiver has room for as much out of order.
const FLIGHT_MESSAGES: usize = 4096;
const FLIGHT_BYTES: usize = 4 << 20;

/// The peer's life changed: both directions begin anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerChange {
    /// Its former boot; `None` at first contact. What was queued for a former boot has been dropped;
    /// what was queued before first contact goes to the new one.
    pub old: Option<BootId>,
    /// Its present boot.
    pub new: BootId,
}

/// One node's end of the channel to one peer.
#[derive(Debug)]
pub struct Channel {
    me: BootId,
    peer: Option<BootId>,
    /// Changes with every new boot of the peer; see the crate's documentation.
    probe: u32,
    /// The present peer's probe.
    peer_probe: u32,
    /// A boot that does not know us, or that we do not know yet, and its probe.
    greet: Option<(BootId, u32)>,
    hello_at: Option<Instant>,
    sending: Sending,
    receiving: Receiving,
}

#[derive(Debug)]
struct Sending {
    /// Unacknowledged and unsent messages.
    queue: VecDeque<Vec<u8>>,
    /// Sum of their lengths.
    bytes: usize,
    /// Number of the first message of the queue.
    base: u64,
    /// How many messages of the queue are not to be sent now: they are under way.
    cursor: usize,
    /// Sum of their lengths.
    cursor_bytes: usize,
    /// The number after the highest ever sent.
    high: u64,
    /// After a timeout only one frame is under way, until it is acknowledged.
    probing: bool,
    /// A message sent only once, and when: its acknowledgement measures the round trip.
    timed: Option<(u64, Instant)>,
    rtt: Option<(Duration, Duration)>,
    backoff: u32,
    rto_at: Option<Instant>,
}

#[derive(Debug)]
struct Receiving {
    /// The next number to deliver.
    expected: u64,
    /// What came too early.
    early: BTreeMap<u64, Vec<u8>>,
    early_bytes: usize,
    unacked: u32,
    ack_now: bool,
    ack_at: Option<Instant>,
}

impl Channel {
    /// The end of a life that begins `now` and knows nothing of the peer. It says hello as soon as it
    /// is packed.
    #[must_use]
    pub fn new(me: BootId, now: Instant) -> Channel {
        Channel {
            me,
            peer: None,
            probe: 0,
            peer_probe: 0,
            greet: None,
            hello_at: Some(now),
            sending: Sending::new(),
            receiving: Receiving::new(),
        }
    }

    /// The peer's present boot, once known.
    #[must_use]
    pub fn peer(&self) -> Option<BootId> {
        self.peer
    }

    /// Queues a message. It leaves with the next [`Channel::pack`] once the peer is known.
    ///
    /// # Errors
    /// If the message is empty or longer than [`MESSAGE_LEN_MAX`]; nothing is queued.
    pub fn send(&mut self, message: Vec<u8>) -> Result<(), LinkError> {
        let len = message.len();
        if len == 0 || len > MESSAGE_LEN_MAX {
            return Err(LinkError::MessageLength { index: 0, len });
        }
        self.sending.bytes += len;
        self.sending.queue.push_back(message);
        Ok(())
    }

    /// Bytes queued and not yet acknowledged: the measure for back-pressure.
    #[must_use]
    pub fn backlog_bytes(&self) -> usize {
        self.sending.bytes
    }

    /// The number of the message that is queued next. They begin anew with each life of the peer.
    #[must_use]
    pub fn next_number(&self) -> u64 {
        self.sending.base + self.sending.queue.len() as u64
    }

    /// The number of the first message that is not acknowledged.
    #[must_use]
    pub fn first_unacknowledged(&self) -> u64 {
        self.sending.base
    }

    /// How many times in a row nothing was acknowledged in time. The next frame may do better by
    /// another way.
    #[must_use]
    pub fn timeouts(&self) -> u32 {
        self.sending.backoff
    }

    /// Messages queued and not yet acknowledged.
    #[must_use]
    pub fn backlog_messages(&self) -> usize {
        self.sending.queue.len()
    }

    /// The smoothed round trip, once measured. Includes the peer's delay of acknowledgements.
    #[must_use]
    pub fn rtt(&self) -> Option<Duration> {
        self.sending.rtt.map(|(mean, _)| mean)
    }

    /// Writes the next frame that is due into `frame` (emptied first), and tells whether there was
    /// one. To be called until it says no: after sends, after receipts, and at [`Channel::deadline`].
    pub fn pack(&mut self, now: Instant, frame: &mut Vec<u8>) -> bool {
        frame.clear();
        if let Some((boot, probe)) = self.greet.take() {
            self.header(boot, Some(probe), 0, 1, frame);
            return true;
        }
        let Some(peer) = self.peer else {
            if self.hello_at.is_none_or(|at| now < at) {
                return false;
            }
            self.hello_at = Some(now + self.sending.rto());
            self.sending.backoff += 1;
            self.header(BootId(0), None, 0, 1, frame);
            return true;
        };
        self.sending.check_timeout(now);
        let ack_due = self.receiving.ack_now || self.receiving.ack_at.is_some_and(|at| at <= now);
        if !self.sending.has_due() && !ack_due {
            return false;
        }
        frame.resize(HEADER_LEN, 0);
        let (first, count) = self.sending.fill(now, frame);
        let header = self.make_header(peer, Some(self.peer_probe), count, first);
        header.write(&mut frame[..HEADER_LEN]);
        self.receiving.acknowledged();
        true
    }

    /// When something becomes due by itself; `None`: never.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let hello = self.hello_at.filter(|_| self.peer.is_none());
        [hello, self.sending.rto_at, self.receiving.ack_at]
            .into_iter()
            .flatten()
            .min()
    }

    /// The link in use changed, or one came up: everything unacknowledged is due again at once, and
    /// so is a sign of life.
    pub fn resume(&mut self, now: Instant) {
        self.sending.rewind();
        self.sending.probing = false;
        self.sending.backoff = 0;
        self.sending.rto_at = None;
        if self.peer.is_some() {
            self.receiving.ack_now = true;
        } else {
            self.hello_at = Some(now);
        }
    }

    /// Takes a frame; `deliver` gets each message whose turn it is, in order. A frame from or for
    /// another life is dropped, but may cause an answer by which the two ends come to know each
    /// other. A change of the peer's life is returned *before its messages are to be acted upon*:
    /// `deliver` should only collect.
    ///
    /// # Errors
    /// If the frame does not follow the format; then nothing of it has been taken.
    pub fn receive(
        &mut self,
        now: Instant,
        frame: &[u8],
        mut deliver: impl FnMut(&[u8]),
    ) -> Result<Option<PeerChange>, LinkError> {
        let (header, body) = frame::parse(frame)?;
        let known = self.peer == Some(header.from);
        let mine = header.to == self.me;
        if header.from == self.me {
            return Ok(None);
        }
        if !(mine && (known || header.echo == Some(self.probe))) {
            self.greet = Some((header.from, header.probe));
            return Ok(None);
        }
        let change = if known {
            self.sending.check_ack(header.ack)?;
            None
        } else {
            Some(self.adopt(header.from, &header)?)
        };
        self.peer_probe = self.peer_probe.max(header.probe);
        self.sending.acknowledge(now, header.ack);
        self.receiving.take(now, header.first, body, &mut deliver);
        Ok(change)
    }

    fn adopt(&mut self, boot: BootId, header: &Header) -> Result<PeerChange, LinkError> {
        if header.ack != 1 {
            // To the new life nothing has been sent yet.
            return Err(LinkError::Acknowledged {
                ack: header.ack,
                sent: 0,
            });
        }
        let change = PeerChange {
            old: self.peer,
            new: boot,
        };
        if self.peer.is_some() {
            self.sending = Sending::new();
        }
        self.sending.backoff = 0;
        self.receiving = Receiving::new();
        // By this sign of life the new boot learns that it is known.
        self.receiving.ack_now = true;
        self.peer = Some(boot);
        self.peer_probe = header.probe;
        self.probe = self.probe.wrapping_add(1);
        self.hello_at = None;
        Ok(change)
    }

    fn make_header(&self, to: BootId, echo: Option<u32>, count: u16, first: u64) -> Header {
        Header {
            count,
            probe: self.probe,
            echo,
            from: self.me,
            to,
            ack: if self.peer == Some(to) {
                self.receiving.expected
            } else {
                1
            },
            first,
        }
    }

    fn header(&self, to: BootId, echo: Option<u32>, count: u16, first: u64, frame: &mut Vec<u8>) {
        frame.resize(HEADER_LEN, 0);
        self.make_header(to, echo, count, first).write(frame);
    }
}

impl Sending {
    fn new() -> Sending {
        Sending {
            queue: VecDeque::new(),
            bytes: 0,
            base: 1,
            cursor: 0,
            cursor_bytes: 0,
            high: 1,
            probing: false,
            timed: None,
            rtt: None,
            backoff: 0,
            rto_at: None,
        }
    }

    fn rto(&self) -> Duration {
        let base = match self.rtt {
            Some((mean, deviation)) => mean + deviation * 4,
            None => RTO_START,
        };
        let base = base.clamp(RTO_MIN, RTO_MAX);
        base.saturating_mul(1 << self.backoff.min(5)).min(RTO_MAX)
    }

    /// Everything under way is to be sent again.
    fn rewind(&mut self) {
        self.cursor = 0;
        self.cursor_bytes = 0;
        // A message sent twice measures nothing.
        self.timed = None;
    }

    fn check_timeout(&mut self, now: Instant) {
        if self.rto_at.is_some_and(|at| at <= now) {
            self.rewind();
            self.probing = true;
            self.backoff += 1;
            self.rto_at = None;
        }
    }

    fn has_due(&self) -> bool {
        self.cursor < self.queue.len()
            && self.cursor < FLIGHT_MESSAGES
            && self.cursor_bytes < FLIGHT_BYTES
            && !(self.probing && self.cursor > 0)
    }

    /// Appends what is due, as much as fits; returns the first number and the count.
    fn fill(&mut self, now: Instant, frame: &mut Vec<u8>) -> (u64, u16) {
        let first = self.base + self.cursor as u64;
        let mut count = 0;
        if self.has_due() {
            let room = FLIGHT_MESSAGES - self.cursor;
            for message in self.queue.range(self.cursor..).take(room) {
                let end = frame.len() + PREFIX_LEN + message.len();
                if end > FRAME_LEN_MAX || count == u16::MAX {
                    break;
                }
                // A message is at most 128 KiB, so its length fits.
                frame.extend_from_slice(&(message.len() as u32).to_le_bytes());
                frame.extend_from_slice(message);
                self.cursor_bytes += message.len();
                count += 1;
            }
            self.cursor += usize::from(count);
        }
        let end = first + u64::from(count);
        if end > self.high {
            if self.timed.is_none() {
                self.timed = Some((end - 1, now));
            }
            self.high = end;
        }
        if count > 0 && self.rto_at.is_none() {
            self.rto_at = Some(now + self.rto());
        }
        (first, count)
    }

    fn check_ack(&self, ack: u64) -> Result<(), LinkError> {
        if ack > self.high {
            return Err(LinkError::Acknowledged {
                ack,
                sent: self.high - 1,
            });
        }
        Ok(())
    }

    fn acknowledge(&mut self, now: Instant, ack: u64) {
        if ack <= self.base {
            return;
        }
        while self.base < ack {
            let Some(message) = self.queue.pop_front() else {
                break;
            };
            self.base += 1;
            self.bytes -= message.len();
            if self.cursor > 0 {
                self.cursor -= 1;
                self.cursor_bytes -= message.len();
            }
        }
        if let Some((number, sent)) = self.timed
            && ack > number
        {
            self.timed = None;
            self.measured(now.since(sent));
        }
        self.probing = false;
        self.backoff = 0;
        self.rto_at = (self.cursor > 0).then(|| now + self.rto());
    }

    fn measured(&mut self, sample: Duration) {
        self.rtt = Some(match self.rtt {
            None => (sample, sample / 2),
            Some((mean, deviation)) => (
                (mean * 7 + sample) / 8,
                (deviation * 3 + mean.abs_diff(sample)) / 4,
            ),
        });
    }
}

impl Receiving {
    fn new() -> Receiving {
        Receiving {
            expected: 1,
            early: BTreeMap::new(),
            early_bytes: 0,
            unacked: 0,
            ack_now: false,
            ack_at: None,
        }
    }

    fn acknowledged(&mut self) {
        self.unacked = 0;
        self.ack_now = false;
        self.ack_at = None;
    }

    fn take(&mut self, now: Instant, first: u64, body: &[u8], deliver: &mut impl FnMut(&[u8])) {
        for (number, message) in (first..).zip(frame::messages(body)) {
            if number == self.expected {
                deliver(message);
                self.expected += 1;
                self.unacked += 1;
                self.take_early(deliver);
            } else if number < self.expected {
                // The acknowledgement was lost.
                if Mutant::RepeatsDelivered.active() {
                    deliver(message);
                }
                self.ack_now = true;
            } else {
                self.keep_early(number, message);
                self.ack_now = true;
            }
        }
        if self.unacked >= ACK_EVERY {
            self.ack_now = true;
        } else if self.unacked > 0 && self.ack_at.is_none() {
            self.ack_at = Some(now + ACK_DELAY);
        }
    }

    fn take_early(&mut self, deliver: &mut impl FnMut(&[u8])) {
        while let Some(entry) = self.early.first_entry() {
            if *entry.key() > self.expected {
                break;
            }
            let (number, message) = entry.remove_entry();
            self.early_bytes -= message.len();
            if number == self.expected {
                deliver(&message);
                self.expected += 1;
                self.unacked += 1;
            }
        }
    }

    fn keep_early(&mut self, number: u64, message: &[u8]) {
        // What finds no room is repeated by the sender; an honest one never sends so much.
        let far = number - self.expected >= FLIGHT_MESSAGES as u64;
        let full = self.early_bytes + message.len() > FLIGHT_BYTES + FRAME_LEN_MAX;
        if far || full || self.early.contains_key(&number) {
            return;
        }
        self.early_bytes += message.len();
        self.early.insert(number, message.to_vec());
    }
}
