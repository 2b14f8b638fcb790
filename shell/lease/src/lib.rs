//! The page on which a daemon shows its clients how long its lease lasts.
//!
//! A node may act, and so its clients' locks count, only until its lease ends. A daemon that is
//! stopped or dead can tell nobody that the end has come; so every client maps a page on which the
//! daemon writes the deadline whenever it renews it, and watches the clock by itself.
//!
//! The page is a memfd, handed out over the client socket ([`send_page`], [`receive_page`]). The
//! daemon writes it through [`LeasePage`]; clients map it read-only through [`LeaseView`], and its
//! seals keep them from writing, shrinking or growing it. [`Deadline`] is a timer on the same clock.

mod clock;
mod page;
mod pass;

pub use clock::{Deadline, now};
pub use page::{Lease, LeasePage, LeaseView, PAGE_LEN, PageError, VERSION};
pub use pass::{PassError, receive_page, send_page};
