//! Who must be fenced and by what proof; the only maker of [`Fenced`].
//!
//! An incarnation that left the view without saying goodbye may still be running: paused, cut off,
//! or about to write. Nothing of what it held may be touched before it is certain that it can do no
//! more harm. That certainty is a value: [`Fenced`]. Recovery takes one by value, so code that has
//! no proof cannot call it.
//!
//! The way to a proof is always the same:
//!
//! 1. A view without the incarnation is committed; it becomes [`Vanished`] and stands in the
//!    [`Ledger`].
//! 2. The leader of the replicated log evaluates the policy of the cluster. [`lease`] waits until a
//!    majority of votes has certainly outwaited the incarnation's lease; the manual policy waits
//!    for an operator.
//! 3. The leader proposes the finding. Once the log has committed it, every node gets the same
//!    [`FencedRecord`].
//! 4. [`Ledger::confirm`] turns that record into one [`Fenced`] per node and incarnation.
//!
//! Power fencing agents, a hardware watchdog and a witness bring further ways to step 2: each is a
//! further [`Proof`] whose evidence the leader gathers in its own way. Steps 1, 3 and 4 stay.

#![forbid(unsafe_code)]

pub mod lease;
mod ledger;
mod proof;

pub use ledger::{ConfirmError, Ledger};
pub use proof::{Fenced, FencedRecord, Proof, Vanished};
