//! The client's side of the protocol without a socket, for whoever plays a hostile daemon.

use crate::{LockCall, machine::Machine};
use mainstay_base::{Flags, LockspaceId};
use mainstay_wire::client::{Ask, Handle};

/// A client's protocol machine. Places of locks count the locks requested so far, and wrap.
#[derive(Debug, Default)]
pub struct Probe {
    machine: Machine,
    locks: Vec<Handle>,
}

impl Probe {
    /// Takes bytes from the daemon; how many whole messages they made.
    ///
    /// # Errors
    /// If the daemon broke the protocol; the text says how.
    pub fn hear(&mut self, bytes: &[u8]) -> Result<usize, String> {
        self.machine.feed(bytes);
        let mut messages = 0;
        while self.machine.next()?.is_some() {
            messages += 1;
        }
        Ok(messages)
    }

    /// Bytes of a message that has not arrived whole.
    #[must_use]
    pub fn undecoded(&self) -> usize {
        self.machine.undecoded()
    }

    /// Takes out what the client has to send.
    pub fn sent(&mut self) -> Vec<u8> {
        std::mem::take(self.machine.output())
    }

    /// Makes a call.
    pub fn call(&mut self, ask: Ask) {
        // Too long a call is refused, which is all that can happen to it.
        let _ = self.machine.call(ask);
    }

    /// Requests a lock.
    pub fn lock(&mut self, lockspace: LockspaceId, call: LockCall) {
        if let Ok((handle, _)) = self.machine.lock(|handle| call.ask(handle, lockspace)) {
            self.locks.push(handle);
        }
    }

    /// Unlocks a lock, unless it is gone or busy.
    pub fn unlock(&mut self, place: usize) {
        if let Some(handle) = self.at(place) {
            let (flags, value) = (Flags::NONE, None);
            let ask = Ask::Unlock {
                handle,
                flags,
                value,
            };
            // Gone or busy: nothing is sent.
            let _ = self.machine.call_on(handle, ask);
        }
    }

    /// Lets go of a lock.
    pub fn release(&mut self, place: usize) {
        if let Some(handle) = self.at(place) {
            self.machine.release(handle);
        }
    }

    /// Cancels what is pending on a lock.
    pub fn cancel(&mut self, place: usize) {
        if let Some(handle) = self.at(place) {
            self.machine.cancel(handle);
        }
    }

    fn at(&self, place: usize) -> Option<Handle> {
        let place = place.checked_rem(self.locks.len())?;
        self.locks.get(place).copied()
    }
}
