//! For whom a session asks for locks.

use core::fmt;
use serde::{Deserialize, Serialize};

/// Whose a lock is, where it is asked who waits for whom: all locks of an owner are released by one
/// will. Nothing else depends on it: locks of one owner are in each other's way as any others are.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(rename_all = "kebab-case")]
pub enum Owner {
    /// The session that asked for it.
    #[default]
    Session,
    /// The process: all its sessions on the node.
    Process,
    /// A group of sessions of one user on one node, by a number that they agree upon.
    Group(u64),
    /// A transaction of one user, by a number that its sessions on all nodes agree upon.
    #[serde(rename = "xid")]
    Transaction(u64),
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Owner::Session => f.write_str("session"),
            Owner::Process => f.write_str("process"),
            Owner::Group(number) => write!(f, "group {number}"),
            Owner::Transaction(number) => write!(f, "xid {number}"),
        }
    }
}
