//! Rust client: locks, value blocks, notices, leases.
//!
//! A client talks to the Mainstay daemon of its host over a UNIX socket. [`asynchronous::Client`]
//! is for tokio, [`blocking::Client`] for threads; both have the same calls.
//!
//! ```
//! # use mainstay_client::testing::FakeDaemon;
//! use mainstay_client::{LockMode, asynchronous::Client};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! # let daemon = FakeDaemon::start();
//! # let socket = daemon.path();
//! let client = Client::connect(socket).await?;
//! let space = client.lockspace("default").open().await?;
//!
//! let lock = space.lock("disk-7").mode(LockMode::Ex).acquire().await?;
//! // The token only grows; storage that remembers the highest can refuse a stale holder.
//! let token = lock.check()?;
//! assert_eq!(token, lock.token());
//! lock.unlock().await?;
//! # Ok::<(), Box<dyn std::error::Error>>(()) })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # A lock ends with its lease
//!
//! Being granted a lock is not for ever: when the node loses contact with the cluster, its lease
//! runs out and others may be granted what it held. The daemon shares the lease's end on a page of
//! memory, so that the client knows it even if the daemon hangs. Before each use of what the lock
//! protects ask [`Guard::check`], or stop the work when `lost()` resolves:
//!
//! ```
//! # use mainstay_client::testing::FakeDaemon;
//! use mainstay_client::{asynchronous::Client, LeaseLost};
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
//! # let daemon = FakeDaemon::start();
//! # let client = Client::connect(daemon.path()).await?;
//! # let space = client.lockspace("default").open().await?;
//! # let work = std::future::pending::<()>();
//! let lock = space.lock("service").acquire().await?;
//! # daemon.lease_for(std::time::Duration::from_millis(20));
//! tokio::select! {
//!     () = work => lock.unlock().await?,
//!     lost = lock.lost() => {
//!         // Stop at once: others may hold the lock now.
//!         assert!(matches!(lost?, LeaseLost::Expired { .. }));
//!         assert!(!lock.is_valid());
//!     }
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(()) })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! When a session is lost, its [`Held`] locks are invalid for ever, also after a reconnect; a lock
//! is never taken again silently.
//!
//! # Connections that break
//!
//! A session ends with its connection, and its locks with it. With [`ClientBuilder::keep`] the daemon
//! keeps it for a while, and the client goes on with it on another connection: calls that were under
//! way end as if nothing had happened, and locks are still held. While the daemon has not been heard of
//! for that time, [`Guard::check`] says that they may not be relied on ([`LeaseLost::Silent`]).
//!
//! # Value blocks, conversions and notices
//!
//! ```
//! # use mainstay_client::testing::FakeDaemon;
//! use mainstay_client::{blocking::Client, LockMode, ValueBlock};
//!
//! # let daemon = FakeDaemon::start();
//! # let socket = daemon.path();
//! let client = Client::connect(socket)?;
//! let space = client.lockspace("default").open()?;
//!
//! // Count up a counter that the whole cluster shares.
//! let mut lock = space.lock("counter").with_value_block().on_blocking().acquire()?;
//! let value = lock.value().expect("the lock was asked for with its value block");
//! let count = value.block.as_bytes()[0] + 1;
//! lock.publish(ValueBlock::new([count])?)?;
//!
//! // Let readers in, but keep the lock; and hear when a writer waits.
//! lock.convert(LockMode::Pr).wait()?;
//! let mut notices = lock.blocking_notices();
//! # let space2 = client.lockspace("default").open()?;
//! # std::thread::scope(|scope| -> Result<(), Box<dyn std::error::Error>> {
//! # let writer = scope.spawn(|| space2.lock("counter").acquire().map(drop));
//! assert_eq!(notices.next(), Some(LockMode::Ex));
//! lock.unlock()?;
//! # writer.join().expect("the writer does not panic")?;
//! # Ok(()) })?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Cancellation
//!
//! Dropping the future of an `acquire` cancels the request, and releases the lock if the grant was
//! on its way. Dropping the future of a conversion cancels the conversion. Dropping a lock unlocks
//! it. None of these waits, and none leaks a lock.
//!
//! # Fork
//!
//! A client belongs to the process that connected it. A forked child must not use it, and had best
//! exec at once: it shares the socket, but has no reader, and its lock guards are not its own. What
//! a child does nevertheless sends nothing to the daemon; it may wait for ever. Sockets and pages
//! are closed on exec.

mod answer;
pub mod asynchronous;
pub mod blocking;
mod builder;
mod connect;
mod core;
mod error;
mod guard;
mod held;
mod held_ranges;
mod keep;
mod kind;
mod machine;
mod mailbox;
mod notice;
mod ranges;
mod resume;
mod session;
mod sets;
mod spec;
#[cfg(feature = "testing")]
pub mod testing;

pub use answer::{Dumped, Granted, Lockspaces, Vouched};
pub use builder::ClientBuilder;
pub use error::{ConnectError, LeaseLost, LockError};
pub use guard::Guard;
pub use held::Held;
pub use mainstay_base::{
    ByteRange, Flags, Instant, LockMode, LockspaceId, LockspaceName, NodeName, Owner, RangeError,
    ResourceName, SessionId, Token, Updated, Value, ValueBlock, ValueUpdate, ValueVersion,
};
pub use mainstay_lease::now;
pub use mainstay_wire::{
    client::{Handle, Welcome},
    deadlock::{CycleWait, DeadlockReport},
    event::Event,
    lock::Refusal,
    orphan::{OrphanReport, OrphanWish, OrphansReport, PurgeReport},
    report,
};
pub use notice::{ClusterEvent, Notice};
pub use ranges::{HeldRanges, RangeSet};
pub use sets::SetCall;
pub use spec::{GRACE, LockCall};
