//! The page itself: the daemon's writable side and the clients' read-only one.

use mainstay_base::Instant;
use rustix::{
    fd::{AsFd, OwnedFd},
    fs::{MemfdFlags, SealFlags, fcntl_add_seals, fcntl_get_seals, fstat, ftruncate, memfd_create},
    mm::{Advice, MapFlags, ProtFlags, madvise, mmap, munmap},
};
use std::{
    fmt, io,
    ptr::{self, NonNull},
    sync::atomic::{AtomicU64, Ordering},
};

/// Length of the page's file, in bytes, whatever the machine's page size.
pub const PAGE_LEN: usize = 4096;
/// Version of the page's layout.
pub const VERSION: u64 = 1;
/// `MAINLEAS`, so that another file passed by mistake is recognised.
const MAGIC: u64 = u64::from_le_bytes(*b"MAINLEAS");

/// What must be sealed before a client trusts a page: without SHRINK an access could raise SIGBUS,
/// without FUTURE_WRITE another client could forge the lease.
const SEALS: SealFlags = SealFlags::SHRINK
    .union(SealFlags::GROW)
    .union(SealFlags::FUTURE_WRITE);

/// The start of the page, in the machine's byte order: both sides run on one host.
#[repr(C)]
struct Layout {
    magic: AtomicU64,
    version: AtomicU64,
    generation: AtomicU64,
    until: AtomicU64,
}

/// Why a descriptor is not a usable lease page.
#[derive(Debug, thiserror::Error)]
pub enum PageError {
    /// The kernel refused a call.
    #[error("cannot {what} the lease page: {source}")]
    Os {
        /// What was tried.
        what: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The file has another size.
    #[error("the lease page has {len} bytes instead of {PAGE_LEN}")]
    Length {
        /// Its length.
        len: i64,
    },
    /// The file could still be changed by others.
    #[error("the lease page is not sealed against writing and shrinking")]
    NotSealed,
    /// The file does not begin as a lease page does.
    #[error("the file passed as lease page is none: it does not begin with the magic number")]
    NotAPage,
    /// A layout of another release.
    #[error("the lease page has layout version {found}; this build reads version {VERSION}")]
    Version {
        /// Its version.
        found: u64,
    },
}

fn os(what: &'static str) -> impl FnOnce(rustix::io::Errno) -> PageError {
    move |errno| PageError::Os {
        what,
        source: errno.into(),
    }
}

/// A mapping of one page, unmapped on drop.
struct Mapping(NonNull<Layout>);

// SAFETY: the mapping belongs to the process, not to a thread, and all access to it is atomic.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn new(fd: &OwnedFd, prot: ProtFlags) -> Result<Mapping, PageError> {
        // SAFETY: a null hint lets the kernel choose the place, so no existing mapping is replaced.
        let start = unsafe { mmap(ptr::null_mut(), PAGE_LEN, prot, MapFlags::SHARED, fd, 0) }
            .map_err(os("map"))?;
        NonNull::new(start.cast())
            .map(Mapping)
            .ok_or(PageError::NotAPage)
    }

    fn layout(&self) -> &Layout {
        // SAFETY: the mapping is page-aligned, at least PAGE_LEN long, lives as long as `self`, and
        // its file cannot shrink (our own, or sealed, see `LeaseView::open`). Another process
        // writes it, which the atomics allow for. Any bits are a valid `Layout`.
        unsafe { self.0.as_ref() }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: this is the mapping made in `new`, and no reference to it outlives `self`.
        let unmapped = unsafe { munmap(self.0.as_ptr().cast(), PAGE_LEN) };
        debug_assert!(unmapped.is_ok(), "our own mapping can be unmapped");
    }
}

/// What the page shows: until when the daemon's node may act, in which life of its node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lease {
    /// Which life of the node; a session of another generation is lost.
    pub generation: u64,
    /// End of the lease, on the clock of [`crate::now`]; [`Instant::ZERO`] without one.
    pub until: Instant,
}

/// The daemon's side of the page.
///
/// There is one writer (`&mut self`), which keeps two rules: within a generation only the deadline
/// changes, and between a generation's last deadline and the next generation stands the deadline
/// zero. A reader that finds the same generation before and after reading the deadline therefore
/// has a deadline of exactly that generation: a later one would have shown it the later generation
/// on the second look, and an earlier one was overwritten by zero before the first look could
/// succeed. Release stores and acquire loads make this hold on every machine.
pub struct LeasePage {
    map: Mapping,
    generation: u64,
    until: Instant,
}

impl LeasePage {
    /// Makes a page without a lease, and the descriptor to hand to clients; nobody can write
    /// through the descriptor. A child that the daemon forks does not inherit the mapping.
    ///
    /// # Errors
    /// If the kernel gives no memory, descriptor or seals (`FUTURE_WRITE` needs Linux 5.1).
    pub fn create(generation: u64) -> Result<(LeasePage, OwnedFd), PageError> {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let fd = memfd_create("mainstay-lease", flags).map_err(os("make"))?;
        ftruncate(&fd, PAGE_LEN as u64).map_err(os("size"))?;
        let map = Mapping::new(&fd, ProtFlags::READ | ProtFlags::WRITE)?;
        // SAFETY: the range is the mapping just made; the advice changes only what fork copies.
        unsafe { madvise(map.0.as_ptr().cast(), PAGE_LEN, Advice::LinuxDontFork) }
            .map_err(os("keep from children"))?;
        let page = map.layout();
        page.generation.store(generation, Ordering::Relaxed);
        page.until.store(0, Ordering::Relaxed);
        page.version.store(VERSION, Ordering::Relaxed);
        page.magic.store(MAGIC, Ordering::Release);
        // Only now: this mapping stays writable, and no other can be made.
        fcntl_add_seals(&fd, SEALS | SealFlags::SEAL).map_err(os("seal"))?;
        let page = LeasePage {
            map,
            generation,
            until: Instant::ZERO,
        };
        Ok((page, fd))
    }

    /// Shows a new end of the lease; [`Instant::ZERO`] revokes it.
    pub fn set_lease(&mut self, until: Instant) {
        self.until = until;
        self.map.layout().until.store(until.0, Ordering::Release);
    }

    /// Begins another life of the node, without a lease. Sessions of the generation before see at
    /// once that they are lost.
    pub fn set_generation(&mut self, generation: u64) {
        self.set_lease(Instant::ZERO);
        self.generation = generation;
        self.map
            .layout()
            .generation
            .store(generation, Ordering::Release);
    }

    /// What the page shows now.
    #[must_use]
    pub fn lease(&self) -> Lease {
        Lease {
            generation: self.generation,
            until: self.until,
        }
    }
}

impl fmt::Debug for LeasePage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LeasePage").field(&self.lease()).finish()
    }
}

/// A client's side of the page.
pub struct LeaseView(Mapping);

impl LeaseView {
    /// Checks a descriptor that a daemon passed, and maps it.
    ///
    /// # Errors
    /// If it is not a sealed lease page of a layout that this build reads.
    pub fn open(fd: impl AsFd) -> Result<LeaseView, PageError> {
        let fd = fd
            .as_fd()
            .try_clone_to_owned()
            .map_err(|source| PageError::Os {
                what: "duplicate",
                source,
            })?;
        let seals = fcntl_get_seals(&fd).map_err(|_| PageError::NotSealed)?;
        if !seals.contains(SEALS) {
            return Err(PageError::NotSealed);
        }
        let len = fstat(&fd).map_err(os("measure"))?.st_size;
        if usize::try_from(len) != Ok(PAGE_LEN) {
            return Err(PageError::Length { len });
        }
        let map = Mapping::new(&fd, ProtFlags::READ)?;
        let page = map.layout();
        if page.magic.load(Ordering::Acquire) != MAGIC {
            return Err(PageError::NotAPage);
        }
        match page.version.load(Ordering::Relaxed) {
            VERSION => Ok(LeaseView(map)),
            found => Err(PageError::Version { found }),
        }
    }

    /// What the page shows: a generation and a deadline that belong together. A few nanoseconds,
    /// no system call.
    #[must_use]
    pub fn read(&self) -> Lease {
        let page = self.0.layout();
        let mut generation = page.generation.load(Ordering::Acquire);
        loop {
            let until = Instant(page.until.load(Ordering::Acquire));
            let again = page.generation.load(Ordering::Acquire);
            if generation == again {
                return Lease { generation, until };
            }
            // Repeats only as often as the daemon is reborn meanwhile.
            generation = again;
        }
    }

    /// Whether a session of `generation` may rely on its locks now.
    #[must_use]
    pub fn holds(&self, generation: u64) -> bool {
        // The page before the clock: the other way round, a pause between the two could make a
        // deadline look unexpired that had passed by the time it was read.
        let lease = self.read();
        lease.generation == generation && crate::now() < lease.until
    }
}

impl fmt::Debug for LeaseView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LeaseView").field(&self.read()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{sync::atomic::AtomicBool, thread, time::Duration};

    fn pair(generation: u64) -> (LeasePage, OwnedFd, LeaseView) {
        let (page, fd) = LeasePage::create(generation).unwrap();
        let view = LeaseView::open(&fd).unwrap();
        (page, fd, view)
    }

    /// Protects the purpose of the page: what the daemon shows is what a client reads, at once.
    #[test]
    fn reader_sees_what_the_daemon_shows() {
        let (mut page, _fd, view) = pair(7);
        let expect = |generation, until| assert_eq!(view.read(), Lease { generation, until });
        expect(7, Instant::ZERO);
        page.set_lease(Instant(55));
        expect(7, Instant(55));
        page.set_generation(8);
        expect(8, Instant::ZERO);
        assert_eq!(page.lease(), view.read());
    }

    /// Protects validity: it needs the session's own generation and an unexpired deadline.
    #[test]
    fn holds_needs_generation_and_time() {
        let (mut page, _fd, view) = pair(1);
        assert!(!view.holds(1), "no lease yet");
        page.set_lease(crate::now() + Duration::from_secs(3600));
        assert!(view.holds(1) && !view.holds(2));
        page.set_lease(crate::now());
        assert!(!view.holds(1), "expired");
        page.set_lease(crate::now() + Duration::from_secs(3600));
        page.set_generation(2);
        assert!(!view.holds(1) && !view.holds(2), "reborn without a lease");
    }

    /// Protects the daemon and other clients from a client: it cannot write, map writable, resize
    /// or seal the page, also not through a fresh open of the descriptor.
    #[test]
    fn clients_cannot_change_the_page() {
        let (mut page, fd, view) = pair(1);
        assert!(rustix::io::write(&fd, b"forged").is_err());
        assert!(Mapping::new(&fd, ProtFlags::READ | ProtFlags::WRITE).is_err());
        assert!(ftruncate(&fd, 0).is_err() && ftruncate(&fd, 1 << 20).is_err());
        assert!(fcntl_add_seals(&fd, SealFlags::WRITE).is_err());
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&fd));
        let again = std::fs::OpenOptions::new().write(true).open(path);
        assert!(again.is_err() || rustix::io::write(again.unwrap(), b"forged").is_err());
        page.set_lease(Instant(9));
        assert_eq!(view.read().until, Instant(9), "the daemon still can");
    }

    /// Protects a client from a hostile or mistaken daemon: nothing but a sealed page is mapped.
    #[test]
    fn other_files_are_refused() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(PAGE_LEN as u64).unwrap();
        assert!(matches!(LeaseView::open(&file), Err(PageError::NotSealed)));

        let sealed = |len: usize, seals| {
            let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
            let fd = memfd_create("other", flags).unwrap();
            ftruncate(&fd, len as u64).unwrap();
            fcntl_add_seals(&fd, seals).unwrap();
            fd
        };
        let open = |len, seals| LeaseView::open(sealed(len, seals));
        let shrinkable = SealFlags::GROW | SealFlags::FUTURE_WRITE;
        assert!(matches!(
            open(PAGE_LEN, shrinkable),
            Err(PageError::NotSealed)
        ));
        assert!(matches!(open(8, SEALS), Err(PageError::Length { len: 8 })));
        assert!(matches!(open(PAGE_LEN, SEALS), Err(PageError::NotAPage)));

        let (page, fd) = LeasePage::create(1).unwrap();
        page.map.layout().version.store(9, Ordering::Relaxed);
        let newer = LeaseView::open(&fd);
        assert!(matches!(newer, Err(PageError::Version { found: 9 })));
    }

    /// Protects the ordering argument of [`LeasePage`]: while generations and deadlines change as
    /// fast as they can, a reader never pairs one generation with another's deadline.
    #[test]
    fn generations_and_deadlines_are_never_mixed() {
        let (mut page, _fd, view) = pair(0);
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut pairs = 0_u64;
                while !stop.load(Ordering::Relaxed) || pairs == 0 {
                    let lease = view.read();
                    let of = lease.until.0 >> 8;
                    assert!(lease.until.0 == 0 || of == lease.generation, "{lease:?}");
                    pairs += 1;
                }
            });
            for generation in 1..200_000 {
                page.set_generation(generation);
                for renewal in 1..4 {
                    page.set_lease(Instant(generation << 8 | renewal));
                }
            }
            stop.store(true, Ordering::Relaxed);
            reader.join().unwrap();
        });
    }
}
