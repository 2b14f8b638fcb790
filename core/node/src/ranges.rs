//! Who is in whose way on a resource that is locked in ranges, from what its master tells.

use mainstay_wire::report::LockReport;

/// Whether two entries are of one lock.
pub(crate) fn same_lock(a: &LockReport, b: &LockReport) -> bool {
    a.id == b.id && a.node == b.node
}

/// Whether two entries are about the same bytes; whole locks always are.
pub(crate) fn meet(a: &LockReport, b: &LockReport) -> bool {
    let apart = |(a, b): (mainstay_base::ByteRange, _)| !a.overlaps(b);
    !a.range.zip(b.range).is_some_and(apart)
}

/// Whether what one entry holds is in the way of what another, of another lock, asks for.
pub(crate) fn in_the_way(holder: &LockReport, wait: &LockReport) -> bool {
    let modes = holder.granted.zip(wait.requested);
    let conflict = modes.is_some_and(|(held, asked)| !held.compatible(asked));
    conflict && meet(holder, wait) && !same_lock(holder, wait)
}

/// Whether a call for a range stands before a later one: they conflict, and it waits for nothing that
/// the later one's owner holds.
pub(crate) fn stands_before<'a>(
    ahead: &LockReport,
    wait: &LockReport,
    mut holders: impl Iterator<Item = &'a LockReport>,
) -> bool {
    let modes = ahead.requested.zip(wait.requested);
    let conflict = modes.is_some_and(|(a, b)| !a.compatible(b)) && meet(ahead, wait);
    conflict && !holders.any(|holder| same_lock(holder, wait) && in_the_way(holder, ahead))
}
