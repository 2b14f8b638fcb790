//! Why a connection was refused or ended, as stable codes with a hint at the mend.

use core::fmt;
use std::io;

/// Why a handshake was refused, by this node or by the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RefusalReason {
    /// The two nodes hold different cluster keys.
    WrongKey,
    /// Same key, but another cluster name.
    WrongCluster,
    /// The two version ranges do not overlap.
    VersionMismatch,
    /// The caller's node id is not in the configuration of the one who was called.
    UnknownNode,
    /// The caller asked for another node than the one that answered.
    WrongNode,
    /// The caller has the id of the node that it called.
    SelfConnection,
    /// The cluster parameters differ, such as the lease time.
    ParamsMismatch,
    /// The caller's link number is not that of the address it called, or only one side has the link.
    LinkMismatch,
    /// The caller has the higher node id: it has to wait to be called.
    WrongDirection,
    /// The other side has the key, but sent something that this version cannot read.
    Malformed,
    /// What connected does not speak this protocol. Closed without an answer.
    NotMainstay,
    /// The handshake took too long. Closed without an answer.
    HandshakeTimeout,
    /// Dropped without an answer, because newer callers took all places for half-open handshakes.
    TooManyHandshakes,
    /// The peer gave a reason that this version does not know.
    Other,
}

use RefusalReason as R;

impl RefusalReason {
    /// All reasons, in the order of their codes on the wire.
    pub const ALL: [RefusalReason; 14] = [
        R::Other,
        R::WrongKey,
        R::WrongCluster,
        R::VersionMismatch,
        R::UnknownNode,
        R::WrongNode,
        R::SelfConnection,
        R::ParamsMismatch,
        R::LinkMismatch,
        R::WrongDirection,
        R::Malformed,
        R::NotMainstay,
        R::HandshakeTimeout,
        R::TooManyHandshakes,
    ];

    /// The stable name for logs, metrics and the runbook.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            R::WrongKey => "wrong-key",
            R::WrongCluster => "wrong-cluster",
            R::VersionMismatch => "version-mismatch",
            R::UnknownNode => "unknown-node",
            R::WrongNode => "wrong-node",
            R::SelfConnection => "self-connection",
            R::ParamsMismatch => "params-mismatch",
            R::LinkMismatch => "link-mismatch",
            R::WrongDirection => "wrong-direction",
            R::Malformed => "malformed",
            R::NotMainstay => "not-mainstay",
            R::HandshakeTimeout => "handshake-timeout",
            R::TooManyHandshakes => "too-many-handshakes",
            R::Other => "other",
        }
    }

    /// The number on the wire; never changes its meaning.
    #[must_use]
    pub fn wire_code(self) -> u8 {
        match self {
            R::Other => 0,
            R::WrongKey => 1,
            R::WrongCluster => 2,
            R::VersionMismatch => 3,
            R::UnknownNode => 4,
            R::WrongNode => 5,
            R::SelfConnection => 6,
            R::ParamsMismatch => 7,
            R::LinkMismatch => 8,
            R::WrongDirection => 9,
            R::Malformed => 10,
            R::NotMainstay => 11,
            R::HandshakeTimeout => 12,
            R::TooManyHandshakes => 13,
        }
    }

    /// The reason with this number on the wire; [`RefusalReason::Other`] if this version knows none.
    #[must_use]
    pub fn from_wire_code(code: u8) -> RefusalReason {
        R::ALL
            .into_iter()
            .find(|r| r.wire_code() == code)
            .unwrap_or(R::Other)
    }

    /// What is wrong, without the mend.
    #[must_use]
    pub fn what(self) -> &'static str {
        match self {
            R::WrongKey => "the two nodes hold different cluster keys",
            R::WrongCluster => "the two nodes have different cluster names",
            R::VersionMismatch => "the two nodes have no transport version in common",
            R::UnknownNode => "the called node's configuration has no node with the caller's id",
            R::WrongNode => "another node answers at this address than the caller expects",
            R::SelfConnection => "the caller and the called node have the same node id",
            R::ParamsMismatch => "the two nodes have different cluster parameters",
            R::LinkMismatch => "the two nodes number their links differently",
            R::WrongDirection => "the caller has the higher node id, and the lower one has to call",
            R::Malformed => "the other node sent a handshake that cannot be read",
            R::NotMainstay => "the other side does not speak the Mainstay transport protocol",
            R::HandshakeTimeout => "the other side did not finish the handshake in time",
            R::TooManyHandshakes => "too many handshakes are under way",
            R::Other => "the peer gave a reason that this version does not know",
        }
    }

    /// How to mend it.
    #[must_use]
    pub fn mend(self) -> &'static str {
        match self {
            R::WrongKey => "copy the key file of a working node to the other and restart that one",
            R::WrongCluster => "use the same `cluster` name in both configurations",
            R::VersionMismatch => "upgrade the older node",
            R::UnknownNode => "list all nodes with the same ids in every node's configuration",
            R::WrongNode => "compare the ids and `addresses` of both nodes in both configurations",
            R::SelfConnection => {
                "give each node its own id, and check that no peer's `addresses` lead back to the caller"
            }
            R::ParamsMismatch => {
                "use the same timings in all configurations; the refusing node logs both values"
            }
            R::LinkMismatch => {
                "list each node's `addresses` in the same order in all configurations"
            }
            R::WrongDirection => "use the same node ids in all configurations",
            R::Malformed => "run the same version of Mainstay on both nodes",
            R::NotMainstay => {
                "if the address is a node's, check that its `addresses` name the daemon's port; \
                 otherwise keep strangers away from this port"
            }
            R::HandshakeTimeout => {
                "if the address is a node's, see whether its daemon is paused or overloaded; \
                 otherwise keep strangers away from this port"
            }
            R::TooManyHandshakes => "keep strangers away from this port",
            R::Other => "see the peer's log",
        }
    }
}

impl fmt::Display for RefusalReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.what(), self.mend())
    }
}

/// Why an established connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DownReason {
    /// The peer closed it, or its process ended.
    Closed,
    /// The system reported an error, such as a reset or an acknowledgement that did not come.
    Io(io::ErrorKind),
    /// A frame did not pass authentication: changed, replayed or cut on the way.
    Tampered,
    /// A frame header with an impossible length.
    FrameLength(u32),
    /// The peer opened a newer connection for the same link.
    Replaced,
    /// This node was reborn and connects anew under its new boot id.
    Reborn,
    /// This node shuts down.
    Shutdown,
}

impl DownReason {
    /// The stable name for logs, metrics and the runbook.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            DownReason::Closed => "closed",
            DownReason::Io(io::ErrorKind::TimedOut) => "unacknowledged",
            DownReason::Io(_) => "io-error",
            DownReason::Tampered => "tampered",
            DownReason::FrameLength(_) => "frame-length",
            DownReason::Replaced => "replaced",
            DownReason::Reborn => "reborn",
            DownReason::Shutdown => "shutdown",
        }
    }
}

impl fmt::Display for DownReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DownReason::Closed => f.write_str("the peer closed the connection"),
            DownReason::Io(io::ErrorKind::TimedOut) => f.write_str(
                "the peer took no data for 2 s; check the network, and whether its host or daemon is paused",
            ),
            DownReason::Io(kind) => write!(f, "the connection broke: {kind}"),
            DownReason::Tampered => f.write_str(
                "a frame failed authentication; look for a faulty or hostile device on this link",
            ),
            DownReason::FrameLength(len) => write!(
                f,
                "a frame header announced {len} bytes, which no frame has; look for a faulty or \
                 hostile device on this link"
            ),
            DownReason::Replaced => f.write_str("the peer opened a newer connection"),
            DownReason::Reborn => f.write_str("this node took a new boot id and connects anew"),
            DownReason::Shutdown => f.write_str("this node shuts down"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects dashboards and mixed versions: each reason has its own name and number, and the
    /// numbers survive a round trip.
    #[test]
    fn refusal_codes_are_distinct_and_reversible() {
        for (i, a) in RefusalReason::ALL.into_iter().enumerate() {
            assert_eq!(usize::from(a.wire_code()), i);
            assert_eq!(RefusalReason::from_wire_code(a.wire_code()), a);
            for b in &RefusalReason::ALL[i + 1..] {
                assert_ne!(a.code(), b.code());
            }
        }
        assert_eq!(RefusalReason::from_wire_code(250), RefusalReason::Other);
    }
}
