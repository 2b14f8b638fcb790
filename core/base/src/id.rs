//! Identifiers. Each is its own type, so that the compiler refuses to mix them up.

use core::fmt;
use serde::{Deserialize, Serialize};

macro_rules! id {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(&self.0, f)
            }
        }
    };
}

id! {
    /// A host's number in the cluster configuration. Stable for the life of the cluster.
    NodeId(u16)
}
id! {
    /// The how-many-eth membership of a node. A node that crashed, or was removed while paused,
    /// comes back under the next incarnation; locks belong to an incarnation, never to a node.
    /// Numbered from 1 by the replicated log.
    Incarnation(u64)
}
id! {
    /// Number of a view. Every change of members or of pending fencing makes a new epoch.
    Epoch(u64)
}
id! {
    /// Drawn at random each time a node starts or is reborn; tells two lives of one node apart
    /// before an incarnation has been assigned. Never zero.
    BootId(u64)
}
id! {
    /// Drawn at random when a state directory is made. The consensus library knows voters by this
    /// number, so a node that lost its disk is a different voter. Never zero.
    DiskId(u64)
}
id! {
    /// Drawn at random when the cluster is founded.
    ClusterId(u64)
}
id! {
    /// Number of a lockspace, assigned by the replicated log.
    LockspaceId(u32)
}
id! {
    /// A lock as its owner's node knows it; counted up from 1 per incarnation and never used twice.
    LockId(u64)
}
id! {
    /// A client's connection to its daemon; counted up per daemon start and never used twice.
    SessionId(u64)
}
id! {
    /// Which of a node's addresses: 0 is the first in the configuration.
    LinkId(u8)
}

impl Epoch {
    /// The epoch after this one.
    #[must_use]
    pub fn next(self) -> Epoch {
        Epoch(self.0 + 1)
    }
}

impl Incarnation {
    /// The incarnation after this one.
    #[must_use]
    pub fn next(self) -> Incarnation {
        Incarnation(self.0 + 1)
    }
}
