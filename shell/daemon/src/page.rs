//! The lease page, shared between the main loop and whatever has to revoke it in an emergency.

use mainstay_base::Instant;
use mainstay_lease::{LeasePage, PageError};
use rustix::fd::OwnedFd;
use std::{
    cell::Cell,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// The page that all clients see.
#[derive(Clone, Debug)]
pub(crate) struct SharedPage(Arc<Mutex<LeasePage>>);

impl SharedPage {
    pub(crate) fn create(generation: u64) -> Result<(SharedPage, Arc<OwnedFd>), PageError> {
        let (page, fd) = LeasePage::create(generation)?;
        Ok((SharedPage(Arc::new(Mutex::new(page))), Arc::new(fd)))
    }

    fn lock(&self) -> MutexGuard<'_, LeasePage> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_lease(&self, until: Instant) {
        self.lock().set_lease(until);
    }

    pub(crate) fn set_generation(&self, generation: u64) {
        self.lock().set_generation(generation);
    }

    pub(crate) fn until(&self) -> Instant {
        self.lock().lease().until
    }

    /// Ends the lease whatever state the program is in: nothing here waits.
    pub(crate) fn revoke(&self) {
        match self.0.try_lock() {
            Ok(mut page) => page.set_lease(Instant::ZERO),
            Err(std::sync::TryLockError::Poisoned(page)) => {
                page.into_inner().set_lease(Instant::ZERO);
            }
            // Held by a thread that is about to set a lease the node had when it asked for it; it
            // cannot panic there, and the process ends now, which the clients see by themselves.
            Err(std::sync::TryLockError::WouldBlock) => {}
        }
    }
}

thread_local! {
    /// A panic on this thread is survived until what it left has been saved.
    static SURVIVES: Cell<bool> = const { Cell::new(false) };
}

/// Does something; if it panics, the lease is revoked as ever, and the caller ends the process when it
/// has saved what helps to understand the defect.
pub(crate) fn survive_panics<T>(work: impl FnOnce() -> T) -> std::thread::Result<T> {
    SURVIVES.set(true);
    let result = std::panic::catch_unwind(AssertUnwindSafe(work));
    SURVIVES.set(false);
    result
}

/// From now on a panic anywhere ends the lease and then the process: a node that lost part of its
/// mind must not go on granting.
pub(crate) fn stop_on_panic(page: &SharedPage) {
    let page = page.clone();
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        page.revoke();
        tracing::error!(
            "the daemon stops because of a defect: {info}. Its clients have lost their locks; the \
             other nodes recover them"
        );
        default(info);
        if !SURVIVES.get() {
            std::process::abort();
        }
    }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_lease::LeaseView;
    use std::{
        os::unix::process::ExitStatusExt as _,
        process::{Command, Stdio},
        time::Duration,
    };

    /// Set in the child of the test below.
    const CHILD: &str = "MAINSTAY_TEST_PANICS";

    /// Protects the other nodes from a daemon with a defect: a panic, also on another thread, ends
    /// the process although the runtime would catch it.
    #[test]
    fn a_panic_ends_the_process() {
        if std::env::var_os(CHILD).is_some() {
            let (page, _fd) = SharedPage::create(1).expect("page");
            stop_on_panic(&page);
            let _ = std::thread::spawn(|| panic!("a defect")).join();
            return;
        }
        let status = Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", "page::tests::a_panic_ends_the_process"])
            .env(CHILD, "1")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .expect("run");
        assert_eq!(status.signal(), Some(6), "{status}");
    }

    /// Protects the flight recorder's last words: a panic of the node is survived until they are
    /// written, but the lease ends at once, and no other panic is survived.
    #[test]
    fn a_panic_of_the_node_leaves_time_for_its_record() {
        const CHILD: &str = "MAINSTAY_TEST_PANICS_IN_NODE";
        if std::env::var_os(CHILD).is_some() {
            let (page, fd) = SharedPage::create(1).expect("page");
            let view = LeaseView::open(&*fd).expect("view");
            page.set_lease(mainstay_lease::now() + Duration::from_secs(60));
            stop_on_panic(&page);
            let survived = survive_panics(|| panic!("a defect of the node")).is_err();
            assert!(survived && !view.holds(1));
            panic!("nobody survives this");
        }
        let output = Command::new(std::env::current_exe().expect("this test"))
            .args([
                "--exact",
                "page::tests::a_panic_of_the_node_leaves_time_for_its_record",
            ])
            .arg("--nocapture")
            .env(CHILD, "1")
            .output()
            .expect("run");
        assert_eq!(output.status.signal(), Some(6), "{output:?}");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("nobody survives this"), "{said}");
    }

    /// Protects clients in an emergency: revoking ends the lease even after a panic while the page
    /// was locked.
    #[test]
    fn revoking_needs_nobody() {
        let (page, fd) = SharedPage::create(1).expect("page");
        let view = LeaseView::open(&*fd).expect("view");
        page.set_lease(mainstay_lease::now() + Duration::from_secs(60));
        assert!(view.holds(1));
        let other = page.clone();
        let poisoned = std::thread::spawn(move || {
            let _guard = other.0.lock();
            panic!("while the page is locked");
        });
        assert!(poisoned.join().is_err());
        page.revoke();
        assert!(!view.holds(1));
    }
}
