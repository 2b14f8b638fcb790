//! A stand-in for the daemon, for tests of programs that use the client: one node, no cluster, the
//! same protocol over a real socket. [`FakeDaemon`] grants locks; [`Peer`] says only what a test
//! tells it to. [`Probe`] is the client's own protocol without a socket.

mod daemon;
mod engine;
mod orphans;
mod peer;
mod probe;
mod ranges;
mod sets;
mod trees;

pub use daemon::FakeDaemon;
#[cfg(test)]
pub(crate) use peer::frame;
pub use peer::{Listener, Peer};
pub use probe::Probe;
