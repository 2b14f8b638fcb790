//! How much a node may be told in a recovery before it has taken the last of it.
//!
//! A channel delivers in order. A call that is sent behind all the restatements of a third of a million
//! locks waits until all of these are dealt with. So no more are made while some
//! [`NodeConfig::window`](crate::NodeConfig::window) bytes of them are on their way to any node; calls are not
//! counted, of which there may always be many.

use crate::{Node, peers::Peer};
use mainstay_base::Instant;
use mainstay_wire::dlm::Body;
use std::collections::VecDeque;

/// What of a recovery is on its way to a node.
#[derive(Debug, Default)]
pub(crate) struct Flow {
    /// The number that each message has in the channel, and its length in bytes.
    messages: VecDeque<(u64, usize)>,
    bytes: usize,
}

impl Flow {
    /// A message has been queued.
    pub(crate) fn said(&mut self, number: u64, len: usize) {
        self.messages.push_back((number, len));
        self.bytes += len;
    }

    /// All messages before that number have been taken.
    fn taken(&mut self, until: u64) {
        while let Some(&(number, len)) = self.messages.front()
            && number < until
        {
            self.messages.pop_front();
            self.bytes -= len;
        }
    }

    /// Whether that many bytes are on their way.
    fn reaches(&self, window: usize) -> bool {
        self.bytes >= window
    }
}

/// Whether something is said to a node because the members changed, as often as there are locks.
pub(crate) fn is_bulk(body: &Body) -> bool {
    matches!(
        body,
        Body::Restate { .. } | Body::RestateRanges { .. } | Body::Register { .. }
    )
}

impl Peer {
    /// Whether a recovery should say nothing more to the peer for now. One that does not acknowledge
    /// anything is not waited for: if it is gone, others wait for what they are still to be told.
    fn is_full(&mut self, window: usize) -> bool {
        self.flow.taken(self.channel.first_unacknowledged());
        self.channel.timeouts() == 0 && self.flow.reaches(window)
    }
}

impl Node {
    /// Lets the lock manager go on with a recovery, or holds it back.
    pub(crate) fn regulate(&mut self, now: Instant) {
        let mut full = false;
        for peer in self.peers.values_mut() {
            full |= peer.is_full(self.config.window);
        }
        self.dlm.hold_back(now, full);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects a recovery from standing still: what has been taken makes room, all of it or a part.
    #[test]
    fn what_has_been_taken_makes_room() {
        let mut flow = Flow::default();
        assert!(!flow.reaches(1));
        for (number, len) in [(5, 60), (6, 40), (9, 50)] {
            flow.said(number, len);
        }
        assert!(flow.reaches(150) && !flow.reaches(151));
        flow.taken(6);
        assert!(flow.reaches(90) && !flow.reaches(91));
        flow.taken(9);
        assert!(flow.reaches(50) && !flow.reaches(51));
        flow.taken(10);
        assert!(!flow.reaches(1));
    }
}
