//! The clients' socket.
//!
//! One task per connection reads and decodes; everything decoded goes to the main loop, which
//! answers by writing to the socket directly. So a request costs one read, one wake-up of the
//! loop and one write, however many tasks there are.

mod accept;
mod listen;
mod reader;
mod session;
#[cfg(test)]
mod tests;

pub(crate) use accept::{Doorway, accept_clients};
pub(crate) use listen::{SocketError, bind};
pub(crate) use reader::{Gate, Greeting, Newcomer, SessionPort};
pub(crate) use session::Sessions;

use std::time::Duration;

/// Unanswered requests after which a session is not read any more until half are answered.
pub(crate) const UNANSWERED_MAX: usize = 4096;
/// Bytes waiting for a client beyond which events for it are dropped and counted.
pub(crate) const EVENTS_BUFFER_MAX: usize = 1 << 20;
/// Bytes waiting for a client beyond which it is not read until half are gone.
pub(crate) const CHOKE: usize = 512 << 10;
/// Bytes waiting for a client beyond which its session is closed.
pub(crate) const BUFFER_MAX: usize = 8 << 20;
/// Time a client has to say hello, and a closed one to take what was still for it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(5);
