//! Locks on ranges of bytes: a lock of a client's holds a set of ranges of one resource, each in a
//! mode.
//!
//! Such a lock exists as long as it holds or waits for a range: its first range opens it, and it
//! ends with the last. What only gives something up is done by its owner alone ([`owner`]), who then
//! tells the master; it never waits. What gains something is a call as others are, decided by the
//! master ([`master`]), which has the ranges of a resource beside the engine for whole locks: a
//! resource is used one way at a time, and whoever comes first says which. Owners keep their ranges,
//! and restate them to the next master in parts ([`recovery`]).
//!
//! The rules are in `docs/protocol/ranges.md`.

mod master;
mod owner;
mod recovery;
mod report;

pub use owner::RangeCall;

use mainstay_lock::ranges::{RangeAsk as Ask, RangeSet};
use mainstay_wire::dlm::RangeAsk;

/// A range as the engine is asked for it.
fn to_engine(ask: RangeAsk) -> Ask {
    let RangeAsk {
        range,
        mode,
        flags,
        blocking,
    } = ask;
    Ask {
        range,
        mode,
        flags,
        wants_bast: blocking,
    }
}

/// What the locks of own clients hold that are on ranges. One that holds nothing has no entry.
pub(crate) type RangeSets = mainstay_base::FixedMap<mainstay_base::LockId, RangeSet>;
