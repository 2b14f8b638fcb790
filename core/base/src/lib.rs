//! Words that every crate of Mainstay shares.
//!
//! Nothing here performs I/O, reads a clock or draws random numbers. Time is an [`Instant`] that
//! the caller passes in; randomness is an [`Entropy`] seeded by the caller.

#![forbid(unsafe_code)]

mod access;
mod compat;
mod config;
mod entropy;
mod fairness;
mod flags;
mod id;
mod limits;
mod map;
mod mode;
mod mutant;
mod name;
mod owner;
mod range;
mod resource;
mod time;
mod token;
mod value;

pub use access::{
    Access, AccessChange, AccessError, AccessRule, Caller, ModeSet, RULES_MAX, UserLimits, Whom,
};
pub use compat::{Compat, UnknownCompat};
pub use config::{DeadlockConfig, FencePolicy, MastersConfig, NodeSpec, Timings, VictimPolicy};
pub use entropy::Entropy;
pub use fairness::{Fairness, Order, UnknownOrder};
pub use flags::Flags;
pub use id::{
    BootId, ClusterId, DiskId, Epoch, Incarnation, LinkId, LockId, LockspaceId, NodeId, SessionId,
};
pub use limits::*;
pub use map::{FixedIndex, FixedMap, FixedSet, fixed_hash, fixed_mix};
pub use mode::LockMode;
pub use mutant::{Mutant, PlanMutant};
pub use name::{LockspaceName, NameError, NodeName};
pub use owner::Owner;
pub use range::{ByteRange, RangeError};
pub use resource::{Levels, ResourceName};
pub use time::Instant;
pub use token::Token;
pub use value::{Updated, Value, ValueBlock, ValueError, ValueUpdate, ValueVersion};
