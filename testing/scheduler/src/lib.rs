//! The policy engine beside the reference implementation.
//!
//! [`random::cluster`] makes the configuration and the status of a cluster from a seed,
//! [`reference::verdict`] asks `crm_simulate` what Pacemaker would do with it, and [`compare`] tells
//! in which grades the engine's verdict is the same. That program is a tool of these tests; nothing
//! that is built needs it.

#![forbid(unsafe_code)]

pub mod compare;
pub mod edited;
pub mod random;
pub mod reference;
pub mod xml;

use mainstay_policy::{Ask, Verdict};

/// What the engine decides for a cluster.
///
/// # Errors
/// What is wrong with the text, if it is no configuration.
pub fn ours(text: &str) -> Result<Verdict, String> {
    let reading = mainstay_cib::read(text).map_err(|problems| problems.to_string())?;
    let cib = reading.document.cib;
    let now = cib.execution_date.get().unwrap_or(0);
    Ok(mainstay_policy::verdict(&cib, Ask::at(now), &[]))
}
