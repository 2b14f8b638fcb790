//! How much memory a piece of code takes.
//!
//! [`Counting`] is the system's allocator with two counters per thread. A program that installs it as
//! its global allocator lets [`bounded`] see what a decoder allocates; in others it sees nothing.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

thread_local! {
    // Constant and without a destructor, so that touching them allocates nothing.
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

/// The system's allocator, counting.
#[derive(Clone, Copy, Debug)]
pub struct Counting;

fn count(grown: usize, shrunk: usize) {
    // While a thread ends its counters may be gone; nobody asks for them any more then.
    let _ = LIVE.try_with(|live| {
        let now = live.get() + grown.cast_signed() - shrunk.cast_signed();
        live.set(now);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(now)));
    });
}

// SAFETY: every call is handed on unchanged to the system's allocator, which keeps the contract; the
// counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        // SAFETY: the caller's promises about `layout` are those that the system asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        // SAFETY: as in `alloc`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        count(0, layout.size());
        // SAFETY: `place` came from the system's allocator with this layout, by the caller's promise
        // and because all our memory comes from there.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // Old and new may exist side by side for a moment.
        count(size, 0);
        count(0, layout.size());
        // SAFETY: as in `dealloc`, and `size` is as the caller promises.
        unsafe { System.realloc(place, layout, size) }
    }
}

/// Runs `work` and returns what it returns, and how many bytes more than before it had allocated at
/// its worst moment, in this thread. Zero where [`Counting`] is not installed.
pub fn measured<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = LIVE.get();
    let outer = PEAK.replace(before);
    let result = work();
    let peak = PEAK.get();
    PEAK.set(outer.max(peak));
    (result, usize::try_from(peak - before).unwrap_or(0))
}

/// Runs `work` and checks that at no moment it held more than `limit` bytes.
///
/// # Panics
/// If it did.
pub fn bounded<T>(what: &str, limit: usize, work: impl FnOnce() -> T) -> T {
    let (result, peak) = measured(work);
    assert!(
        peak <= limit,
        "{what}: {peak} bytes were allocated at once; {limit} are allowed for this input"
    );
    result
}
