//! The daemon: configuration, runtime, client sockets.
//!
//! [`run`] is `mainstay node`. Everything the daemon decides is decided by `mainstay-node`; this
//! crate brings it what arrives and carries out what it wants done.

#![forbid(unsafe_code)]

pub mod config;
mod events;
pub mod exit;
mod handover;
mod inbox;
mod ipc;
pub mod logging;
mod page;
mod recorder;
mod runtime;
mod start;

pub use mainstay_transport::{ClusterKey, KeyError};
pub use start::{Options, StartError, check, run};
