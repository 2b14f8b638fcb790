//! Deterministic simulator: hosts, clients, network, disks, clocks and faults around the very node
//! that the daemon runs, with one checker per promise.
//!
//! One `u64` seed determines a whole run. Time is virtual: a queue of events, ordered by time and
//! then by the order in which they were scheduled.

#![forbid(unsafe_code)]
// A guard with effects would hide what a stage does among the conditions for it.
#![allow(clippy::collapsible_match)]

pub mod checkers;
pub mod client;
pub mod clock;
pub mod dice;
pub mod disk;
pub mod faults;
mod foreign;
mod keeping;
mod links;
pub mod machine;
pub mod network;
mod orphans;
mod outcomes;
pub mod params;
mod process;
mod ranges;
pub mod replay;
mod rests;
pub mod run;
mod sessions;
pub mod sets;
mod shares;
pub mod stats;
pub mod surviving;
pub mod trace;
pub mod trees;
mod updates;
mod users;
mod witness;
mod words;
pub mod workloads;
pub mod world;

pub use machine::{Machine, Maker};
pub use params::{Params, Profile, Wishes};
pub use run::{Report, Run, Stage, run};
pub use trace::Trace;
