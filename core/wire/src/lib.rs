//! Messages between lock managers ([`dlm`]), between a client and its daemon ([`client`]), the events and
//! reasons that both carry ([`event`]), and their codec ([`codec`]).
//!
//! Formats are versioned: enums only ever grow at their end, and a change of a struct is a new
//! variant. Golden bytes in `tests/` hold every message to its format.

#![forbid(unsafe_code)]

pub mod carry;
pub mod ceding;
pub mod client;
pub mod codec;
pub mod contention;
pub mod deadlock;
pub mod dlm;
pub mod event;
pub mod keep;
pub mod lock;
mod nested;
pub mod orphan;
pub mod report;
pub mod sets;
