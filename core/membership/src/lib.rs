//! Failure detector, quorum, leases, views, join and leave.
