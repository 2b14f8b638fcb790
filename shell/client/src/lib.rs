//! Rust client: locks, value blocks, notices, leases.
