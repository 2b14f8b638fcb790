//! Locks that go on after a panic elsewhere.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks; a panic of another holder does not spread, for no holder leaves half a change behind.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
