//! Real daemons, real faults: the harness of the tests beside it.
//!
//! A [`Cluster`] starts daemons as separate processes, breaks them, and asks them by the Rust client
//! how they are. Between them lies plain loopback, a [`Proxy`] that delays, stalls and cuts, or
//! [`Namespaces`] whose links are taken down. Everything here panics when something does not go as
//! it must: it is only for tests.

mod between;
mod binary;
mod child;
mod cluster;
mod config;
pub mod counters;
pub mod crowd;
mod daemon;
pub mod dice;
pub mod history;
mod namespaces;
mod ports;
mod proxy;
mod tmpfs;

pub use between::Between;
pub use binary::mainstay;
pub use child::{ClientProcess, Record};
pub use cluster::{Cluster, Net, Spec};
pub use config::NodeFile;
pub use daemon::Daemon;
pub use namespaces::Namespaces;
pub use ports::free;
pub use proxy::{Proxy, Route};
pub use tmpfs::Tmpfs;

use rustix::fs::{FlockOperation, flock};
use std::{fs::File, future::Future, time::Duration};

/// Between two looks at something that is waited for.
const LOOK: Duration = Duration::from_millis(20);

/// Runs one test: alone on this host among all that come this way, in an async runtime, no longer
/// than `limit`.
///
/// # Panics
/// If the test does, or takes too long.
pub fn run(limit: Duration, test: impl Future<Output = ()>) {
    let path = std::env::temp_dir().join(format!(
        "mainstay-torture-{}.lock",
        rustix::process::getuid().as_raw()
    ));
    let alone = File::create(&path).expect("a lock file can be made");
    flock(&alone, FlockOperation::LockExclusive).expect("a file can be locked");
    // Building it may take longer than the test.
    mainstay();
    // Clients and proxies go on while the test itself thinks.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .expect("an async runtime");
    runtime.block_on(async {
        let test = std::pin::pin!(test);
        tokio::select! {
            () = test => {}
            // Inside of the pinned test's life, so that clusters see the panic and show their logs.
            () = tokio::time::sleep(limit) => panic!("the test did not end within {limit:?}"),
        }
    });
    // Calls to hung daemons may still wait in threads.
    runtime.shutdown_background();
}

/// Looks again and again until there is something, and returns it.
///
/// # Panics
/// If there is nothing within `limit`.
pub async fn until<T>(what: &str, limit: Duration, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let end = tokio::time::Instant::now() + limit;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(
            tokio::time::Instant::now() < end,
            "not within {limit:?}: {what}"
        );
        tokio::time::sleep(LOOK).await;
    }
}

/// Waits for something that ends by itself.
///
/// # Panics
/// If it does not within `limit`.
pub async fn within<T>(what: &str, limit: Duration, work: impl Future<Output = T>) -> T {
    match tokio::time::timeout(limit, work).await {
        Ok(done) => done,
        Err(_) => panic!("not within {limit:?}: {what}"),
    }
}

/// Seconds.
#[must_use]
pub const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

/// Milliseconds.
#[must_use]
pub const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Prints a line of a test's report.
#[macro_export]
macro_rules! say {
    ($($text:tt)*) => {{
        #[allow(clippy::print_stderr)]
        { eprintln!("    {}", format_args!($($text)*)); }
    }};
}

/// Whether a test that needs root and `what` can run. Where it cannot, says so loudly.
///
/// # Panics
/// If it cannot and `CI=true`: there everything has to run.
#[must_use]
pub fn possible(what: &str, probe: Result<(), String>) -> bool {
    match probe {
        Ok(()) => true,
        Err(why) => {
            assert!(
                std::env::var("CI").as_deref() != Ok("true"),
                "CI must be able to use {what}: {why}"
            );
            say!("SKIPPED: this test needs {what}: {why}");
            false
        }
    }
}
