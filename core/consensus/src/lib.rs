//! The replicated log: a Raft library driven as a pure state machine.
//!
//! [`Consensus`] holds one member of one group. It has no clock (the caller passes [`Instant`]s), no
//! storage (it hands out records and is told when they are durable), no network (it hands out
//! messages) and no randomness of its own (it is given an [`Entropy`]), so the same inputs always
//! give the same outputs, byte for byte.
//!
//! The caller's loop:
//!
//! 1. Put something in: [`Consensus::tick_to`], [`Consensus::receive`], [`Consensus::propose`],
//!    [`Consensus::persisted`], [`Consensus::compact`], ...
//! 2. Take everything out with [`Consensus::take_outputs`] and carry it out **in order**.
//!    [`Output::Persist`] and [`Output::Replace`] go to the journal in the order they were handed
//!    out; nothing else waits for the disk except a [`Output::Send`] whose `after` says so.
//! 3. Once a record is durable, call [`Consensus::persisted`] and take the outputs again.
//!
//! Durability order is data: every effect that may happen only after a disk write names that write.
//!
//! No bytes of a peer or of the disk reach the protobuf parser of the Raft library: messages and
//! records have formats of this crate (see `docs/decisions/0001-consensus-library.md`).
//!
//! [`Instant`]: mainstay_base::Instant
//! [`Entropy`]: mainstay_base::Entropy

#![forbid(unsafe_code)]

mod change;
mod check;
mod config;
mod configuration;
mod consensus;
mod drain;
mod durable;
mod error;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod hostile;
mod message;
mod output;
mod start;
mod status;
mod store;
mod wire;

pub use config::{
    ConsensusConfig, MESSAGE_LEN_MAX, PROPOSAL_LEN_MAX, SNAPSHOT_LEN_MAX, VOTERS_MAX,
};
pub use consensus::Consensus;
pub use durable::{Durable, DurableError};
pub use error::{ChangeError, CompactError, ProposeError, ReceiveError, StartError};
pub use output::{Output, PersistSeq};
pub use status::{PeerStatus, Role, Status};
