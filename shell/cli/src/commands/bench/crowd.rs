//! Locks by the thousand, a request each, many under way at a time.

use crate::exit::{Failure, INTERNAL};
use mainstay_client::blocking::RawSession;
use mainstay_client::{Flags, Handle, LockCall, LockMode, LockspaceId, ResourceName};

/// Requests under way at a time.
pub(super) const BATCH: u64 = 1000;

/// A name for the `n`-th resource of a measurement.
pub(super) fn name(prefix: &str, n: u64) -> Result<ResourceName, Failure> {
    ResourceName::new(format!("{prefix}/{n:010}"))
        .map_err(|error| Failure::new(INTERNAL, error.to_string()))
}

/// Takes a lock on each of the names.
pub(super) fn lock(
    raw: &RawSession,
    space: LockspaceId,
    mode: LockMode,
    names: &[ResourceName],
) -> Result<Vec<Handle>, Failure> {
    let handles: Vec<Handle> = names.iter().map(|_| raw.new_handle()).collect();
    let calls: Vec<_> = names
        .iter()
        .zip(&handles)
        .map(|(name, handle)| raw.raw_lock(*handle, space, LockCall::new(name.clone(), mode)))
        .collect();
    raw.flush();
    for call in calls {
        call.wait()?;
    }
    Ok(handles)
}

/// Takes and releases a lock on each of the names. The first user of a name becomes its master.
pub(super) fn touch(
    raw: &RawSession,
    space: LockspaceId,
    names: &[ResourceName],
) -> Result<(), Failure> {
    let handles = lock(raw, space, LockMode::Nl, names)?;
    let calls: Vec<_> = handles
        .iter()
        .map(|handle| raw.raw_unlock(*handle, Flags::NONE, None))
        .collect();
    raw.flush();
    for call in calls {
        call.wait()?;
    }
    Ok(())
}
