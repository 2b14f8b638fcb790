//! The lock engine: ONE resource on its master, locked as a whole ([`Resource`]) or in ranges of
//! bytes ([`ranges`]).
//!
//! A [`Resource`] holds the granted, converting and waiting locks of one name, its value block and
//! its last fencing token. It knows no nodes, names, messages or time. A lock is known by a key of
//! the caller's choice. Each operation either is [`Invalid`] and changes nothing, or appends
//! [`Effect`]s in the order in which they happened.
//!
//! # The rules
//!
//! A request or conversion to mode `m` is granted if no other lock is *held* in a mode that
//! conflicts with `m` (a converting lock holds its old mode while it waits), and then by the first
//! of these that applies:
//!
//! 1. An NL request with EXPEDITE is granted.
//! 2. A conversion that just arrived, without QUECVT, is granted.
//! 3. A conversion that just arrived, with QUECVT, is granted if no conversion waits.
//! 4. NOORDER: granted.
//! 5. A conversion that waits is granted if it is first in the convert queue.
//! 6. A request that just arrived is granted if nothing waits.
//! 7. A request that waits is granted if it is first in the wait queue and no conversion waits.
//! 8. A request or conversion that would be granted by rule 4, 5 or 7 as soon as it stood in its
//!    queue (HEADQUE, or QUECVT with NOORDER) is granted without queueing, unless it has NOQUEUE.
//!
//! Where a call has an alternate (ALTPR, ALTCW), all of this is tried with the asked mode and then
//! with the alternate, each time it is tried.
//!
//! A lockspace can say more ([`Rules`]). Its order may be another than that of arrival, and where
//! enough conversions have passed those that wait, further ones are not granted by rule 2 or 3, and
//! stand behind requests in spite of rule 7: `order.rs`, and `docs/protocol/fairness.md`.
//!
//! After each change that may let others go on, the convert queue is swept from its head until
//! nothing more is granted, then the wait queue once; then every holder that is in the way of
//! something still waiting is told, at most once per mode it blocks; of those that convert, only
//! the ones that have promised to let go (NODLCKWT, NODLCKBLK).
//!
//! # What always holds
//!
//! * Held modes are compatible with each other.
//! * Nothing that the rules would grant is left waiting.
//! * Tokens of grants other than NL are unique and grow; the value's version grows with each
//!   publication.
//! * Every holder that wants blocking notices and is in the way of a waiter has been told so.

#![forbid(unsafe_code)]

mod adopt;
mod check;
mod compat;
mod deadlock;
mod grant;
mod invalid;
mod line;
pub mod mode_tables;
mod moved;
mod order;
mod queue;
pub mod ranges;
mod recover;
mod resource;
mod resume;
mod update;
mod value;

pub use compat::{admit_adopt, admit_convert, admit_request, admit_unlock};
pub use deadlock::Blocker;
pub use invalid::{Invalid, check_adopt, check_convert, check_range, check_request, check_unlock};
pub use mainstay_base::Flags;
pub use moved::{Moved, MovedLock};
pub use order::Rules;
pub use queue::{LockView, Ticket};
pub use recover::Restated;
pub use resource::{Effect, Grant, Refusal, Resource};
pub use update::UpdateError;
