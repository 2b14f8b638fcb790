//! Ordered, exactly-once delivery between two nodes over links that lose, repeat and reorder.
//!
//! A [`Channel`] is one node's end. It numbers messages, packs them into frames, repeats what is not
//! acknowledged, and delivers what arrives once and in order. It knows nothing of links: whoever
//! drives it sends each frame on any link, and calls [`Channel::resume`] when that choice changes.
//!
//! # Lives
//!
//! Order and exactly-once hold per pair of lives: this node's [`BootId`](mainstay_base::BootId) and the peer's. Both number
//! from 1 again when either is reborn, and nothing said to one life ever reaches another. Frames
//! carry both boots. A boot of the peer is taken as its present one only when it echoes a number,
//! the *probe*, that this end changed when it took the last one. A dead boot cannot have seen it, so
//! no frame of its, however late, can displace its successor, and no list of dead boots is needed.

#![forbid(unsafe_code)]

mod channel;
mod frame;

pub use channel::{Channel, PeerChange};
pub use frame::{FRAME_LEN_MAX, LinkError, MESSAGE_LEN_MAX};
