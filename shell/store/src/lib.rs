//! State directory: journal files, fsync, exclusive use.
//!
//! A node keeps its durable state in one directory:
//!
//! | file | content |
//! |---|---|
//! | `lock` | locked (flock) by the one daemon that uses the directory; holds its process id |
//! | `journal` | the records, in the format of `mainstay-journal`; always one complete file |
//! | `journal.new` | a journal being made, renamed to `journal` when all of it is safe |
//!
//! [`StateDir::open`] takes the directory and reads what is there; [`StateDir::start`] turns it
//! into a [`Writer`], whose thread does all writing. Whatever the journal cannot account for makes
//! `open` fail: a node that starts on half its memory breaks promises that it no longer knows.
//!
//! ```
//! use mainstay_store::{OpenOptions, StateDir, Write, WriteKind};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let temporary = tempfile::TempDir::new()?;
//! # let path = temporary.path().join("state");
//! let (dir, recovered) = StateDir::open(&path, OpenOptions { create: true })?;
//! assert!(recovered.fresh);
//!
//! let (done, completions) = std::sync::mpsc::channel();
//! let writer = dir.start(Box::new(move |completion| {
//!     let _ = done.send(completion);
//! }))?;
//! let kind = WriteKind::Append(vec![(1, b"a vote".to_vec())]);
//! writer.submit(Write { token: 7, kind })?;
//! let completion = completions.recv()?;
//! assert_eq!((completion.token, completion.result), (7, Ok(())));
//! writer.close()?;
//!
//! let (_, recovered) = StateDir::open(&path, OpenOptions { create: false })?;
//! assert_eq!(recovered.records, [(1, b"a vote".to_vec())]);
//! # Ok(())
//! # }
//! ```

#![forbid(unsafe_code)]

mod dir;
mod error;
mod files;
mod writer;

pub use dir::{LOW_SPACE, OpenOptions, Recovered, StateDir};
pub use error::StoreError;
pub use mainstay_journal::Torn;
pub use writer::{Completion, OnDone, Records, Write, WriteKind, Writer};
