//! The flight recorder: the last lock events of a node in a ring of bounded memory, dumps of it as
//! bytes, and what dumps prove.
//!
//! [`Recorder`] takes [`Record`]s, a few tens of nanoseconds each; it forgets the oldest when it is
//! full. A [`Dump`] is a copy with all that is needed to understand it elsewhere. [`check`] plays the
//! grants and releases of the dumps of several nodes again and looks whether they exclude each other.
//!
//! The format of a dump is described in `docs/recorder.md`.

#![forbid(unsafe_code)]

mod check;
mod claims;
mod dump;
mod masters;
mod record;
mod ring;
mod tokens;

pub use check::{Coverage, Finding, Verdict, check};
pub use dump::{Dump, DumpError, Entry, FORMAT, Head, Timeline};
pub use record::{MasterRecord, Op, OwnRecord, Phase, Record};
pub use ring::{Block, Recorder};
pub use tokens::Tokens;
