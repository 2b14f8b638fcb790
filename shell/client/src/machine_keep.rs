//! The machine of a session that goes on, on another connection.

use super::Machine;
use crate::{keep::Keep, kind::Kind};
use mainstay_base::Instant;
use mainstay_wire::{client::Ask, keep::SessionKey};
use std::time::Duration;

impl Machine {
    /// The session is kept from now on; `asked`: when that was asked for.
    pub(crate) fn start_keeping(&mut self, key: SessionKey, grace: Duration, asked: Instant) {
        self.keep = Some(Box::new(Keep::new(key, grace, asked)));
    }

    /// Asks to continue a session, as the first call of a connection. What comes after the answer is
    /// for the session's own machine ([`Machine::rest`]).
    pub(crate) fn ask_to_continue(&mut self, ask: Ask) {
        let sent = self.encode(0, ask);
        debug_assert!(sent.is_ok(), "it is short");
        self.calls.insert(0, Kind::Reattach);
    }

    /// What has arrived and was not understood.
    pub(crate) fn rest(&self) -> &[u8] {
        &self.input[self.taken..]
    }

    /// The connection is gone, and half a message with it.
    pub(crate) fn disconnected(&mut self) {
        self.input.clear();
        self.taken = 0;
        self.output.clear();
    }

    /// The session goes on, on another connection, for which the daemon was asked at `asked_at`: the
    /// daemon has had calls up to `asked`, and has told so many messages.
    pub(crate) fn continued(&mut self, asked: u64, told: u64, asked_at: Instant) {
        if let Some(keep) = &mut self.keep {
            self.output = keep.continued(asked, told, asked_at);
        }
    }

    /// Until when the daemon keeps the session for certain, whatever has become of the connection. For
    /// ever, as far as this goes, if the session ends with that.
    pub(crate) fn sure_until(&self) -> Instant {
        let keep = self.keep.as_ref();
        keep.map_or(Instant(u64::MAX), |keep| keep.sure_until)
    }

    /// Says what was heard, if it is time for that.
    pub(crate) fn say_heard(&mut self, now: Instant) {
        let Some(upto) = self.keep.as_ref().and_then(|keep| keep.to_say(now)) else {
            return;
        };
        self.send(Ask::Heard { upto });
        let request = self.last_request;
        if let Some(keep) = &mut self.keep {
            keep.said(request, upto, now);
        }
    }

    /// Ends the session for good.
    pub(crate) fn say_goodbye(&mut self) {
        self.send(Ask::Goodbye);
    }
}
