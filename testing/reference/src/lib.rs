//! Plain models, for doubt only: what the rules of `docs/protocol` say, written down once more, as lists
//! and loops over all of them. The engine of one resource runs beside [`resource`] in this crate's
//! tests; a whole node that is alone in its cluster runs beside [`daemon`] in `mainstay-fuzz`.

#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    reason = "a model that contradicts itself is to say so at once"
)]

pub mod daemon;
pub mod resource;
