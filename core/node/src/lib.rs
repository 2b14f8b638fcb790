//! Composes the core: `step(now, input) -> outbox`; the only crate the shells drive.
//!
//! ```text
//! let mut node = Node::boot(now, config, boot_info)?;
//! loop {
//!     for input in inputs { node.step(now, input, &mut outbox); }
//!     node.flush(now, &mut outbox);          // packs what was said to peers into frames
//!     carry_out(outbox.effects.drain(..));
//!     wait_for_inputs_until(node.deadline());
//! }
//! ```
//! ```

#![forbid(unsafe_code)]

pub mod api;

pub use api::{BootError, BootInfo, Effect, Input, NodeConfig, Outbox, PersistSeq};
