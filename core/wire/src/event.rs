//! What happened, and the named reason for it.

use core::fmt;
use mainstay_base::{
    Epoch, Incarnation, LinkId, LockMode, LockspaceId, LockspaceName, NodeId, ResourceName,
    SessionId,
};
use serde::{Deserialize, Serialize};

/// Why something happened. Every code has a page in `docs/runbook/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The cluster's first view.
    Founded,
    /// A node asked to join and every member can hear it.
    Joined,
    /// A node left by request after giving up its locks.
    LeftCleanly,
    /// No heartbeat arrived on any link for the dead time.
    HeartbeatsMissed,
    /// The leader hears the node but another member does not.
    MembersDisconnected,
    /// The node came back under a new boot while its old incarnation was still a member.
    Restarted,
    /// This node found itself removed from the view and starts anew.
    Removed,
    /// The lease of a vanished incarnation has certainly run out.
    LeaseExpired,
    /// An operator vouched for a vanished incarnation.
    OperatorVouched,
    /// Promises from a majority of votes renewed the lease.
    LeaseRenewed,
    /// Too few promises arrived to renew the lease.
    LeaseLapsed,
    /// The view has a majority of votes.
    QuorumGained,
    /// The view has no majority of votes.
    QuorumLost,
    /// The replicated log elected a leader.
    Elected,
    /// The connection was made and authenticated.
    Connected,
    /// The connection closed or broke.
    Disconnected,
    /// Heartbeats stopped on one link.
    LinkSilent,
    /// A peer was refused, or refused us, at the handshake.
    PeerRefused,
    /// The master of resources vanished.
    MasterLost,
    /// A holder vanished.
    HolderLost,
    /// A client asked for it.
    ClientAsked,
    /// The client's connection ended.
    ClientGone,
    /// A node that lost its disk was given a new place in the replicated log.
    DiskReplaced,
    /// The disk refused to store.
    DiskFailed,
    /// The daemon was asked to stop.
    Stopping,
    /// A message did not follow the protocol.
    ProtocolViolation,
    /// Owners of locks waited for each other in a circle.
    Deadlock,
    /// An owner did not heed in time that its lock is in the way.
    NoticeUnheeded,
    /// Another node does most of the work on it.
    BusierElsewhere,
    /// Nobody adopted an orphan in time.
    OrphanExpired,
    /// A kept session had no connection for as long as it is kept.
    GraceOver,
    /// A client whose session is kept did not say what it has heard.
    NotHeard,
    /// A node is started anew, and keeps its locks meanwhile.
    Rests,
    /// A node that was to be started anew did not go on with its locks.
    RestOver,
    /// A node that was started anew goes on with its locks.
    Resumed,
}

impl Reason {
    /// All reasons, in the order of their numbers.
    pub const ALL: [Reason; 35] = [
        Reason::Founded,
        Reason::Joined,
        Reason::LeftCleanly,
        Reason::HeartbeatsMissed,
        Reason::MembersDisconnected,
        Reason::Restarted,
        Reason::Removed,
        Reason::LeaseExpired,
        Reason::OperatorVouched,
        Reason::LeaseRenewed,
        Reason::LeaseLapsed,
        Reason::QuorumGained,
        Reason::QuorumLost,
        Reason::Elected,
        Reason::Connected,
        Reason::Disconnected,
        Reason::LinkSilent,
        Reason::PeerRefused,
        Reason::MasterLost,
        Reason::HolderLost,
        Reason::ClientAsked,
        Reason::ClientGone,
        Reason::DiskReplaced,
        Reason::DiskFailed,
        Reason::Stopping,
        Reason::ProtocolViolation,
        Reason::Deadlock,
        Reason::NoticeUnheeded,
        Reason::BusierElsewhere,
        Reason::OrphanExpired,
        Reason::GraceOver,
        Reason::NotHeard,
        Reason::Rests,
        Reason::RestOver,
        Reason::Resumed,
    ];

    /// The reason's stable name in logs, metrics and JSON.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Reason::Founded => "founded",
            Reason::Joined => "joined",
            Reason::LeftCleanly => "left-cleanly",
            Reason::HeartbeatsMissed => "heartbeats-missed",
            Reason::MembersDisconnected => "members-disconnected",
            Reason::Restarted => "restarted",
            Reason::Removed => "removed",
            Reason::LeaseExpired => "lease-expired",
            Reason::OperatorVouched => "operator-vouched",
            Reason::LeaseRenewed => "lease-renewed",
            Reason::LeaseLapsed => "lease-lapsed",
            Reason::QuorumGained => "quorum-gained",
            Reason::QuorumLost => "quorum-lost",
            Reason::Elected => "elected",
            Reason::Connected => "connected",
            Reason::Disconnected => "disconnected",
            Reason::LinkSilent => "link-silent",
            Reason::PeerRefused => "peer-refused",
            Reason::MasterLost => "master-lost",
            Reason::HolderLost => "holder-lost",
            Reason::ClientAsked => "client-asked",
            Reason::ClientGone => "client-gone",
            Reason::DiskReplaced => "disk-replaced",
            Reason::DiskFailed => "disk-failed",
            Reason::Stopping => "stopping",
            Reason::ProtocolViolation => "protocol-violation",
            Reason::Deadlock => "deadlock",
            Reason::NoticeUnheeded => "notice-unheeded",
            Reason::BusierElsewhere => "busier-elsewhere",
            Reason::OrphanExpired => "orphan-expired",
            Reason::GraceOver => "grace-over",
            Reason::NotHeard => "not-heard",
            Reason::Rests => "rests",
            Reason::RestOver => "rest-over",
            Reason::Resumed => "resumed",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.code())
    }
}

/// Something that happened on, or was seen by, one node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// Counted up per daemon start.
    pub number: u64,
    /// Wall-clock time in milliseconds since 1970, stamped by the daemon; 0 in the simulator.
    pub unix_ms: u64,
    /// The epoch in force.
    pub epoch: Epoch,
    /// What happened.
    pub what: What,
    /// Why.
    pub reason: Reason,
    /// More, for people; may be empty.
    pub detail: String,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// A new view was installed.
    View {
        /// Its members.
        members: Vec<(NodeId, Incarnation)>,
        /// Whether they have a majority of votes.
        quorate: bool,
    },
    /// A node became a member.
    MemberJoined {
        /// Which.
        node: NodeId,
        /// Under which incarnation.
        incarnation: Incarnation,
    },
    /// A node ceased to be a member.
    MemberLeft {
        /// Which.
        node: NodeId,
        /// The incarnation that ceased.
        incarnation: Incarnation,
    },
    /// A vanished incarnation can do no more harm; the reason says by what proof.
    Fenced {
        /// Which node.
        node: NodeId,
        /// Which incarnation.
        incarnation: Incarnation,
    },
    /// This node may act.
    Active,
    /// This node may not act: nothing is granted until it may again.
    Suspended,
    /// The replicated log has a leader, or none.
    Leader {
        /// Which node, if known.
        node: Option<NodeId>,
        /// The term.
        term: u64,
    },
    /// A link came up.
    LinkUp {
        /// To which node.
        peer: NodeId,
        /// Which link.
        link: LinkId,
    },
    /// A link went down.
    LinkDown {
        /// To which node.
        peer: NodeId,
        /// Which link.
        link: LinkId,
    },
    /// A handshake was refused.
    Refused {
        /// The node that was claimed, if known.
        peer: Option<NodeId>,
        /// Which link.
        link: LinkId,
    },
    /// Recovery began for what a vanished incarnation mastered and held.
    RecoveryStarted {
        /// Which node.
        node: NodeId,
        /// Which incarnation.
        incarnation: Incarnation,
        /// Resources of this node that wait for it.
        resources: u64,
    },
    /// This node's part of a recovery is complete.
    RecoveryDone {
        /// Which node's.
        node: NodeId,
        /// Which incarnation's.
        incarnation: Incarnation,
        /// Resources rebuilt on this node.
        rebuilt: u64,
        /// Locks of the vanished incarnation dropped on this node.
        dropped: u64,
        /// Milliseconds since the proof reached this node.
        took_ms: u64,
    },
    /// A lockspace exists.
    LockspaceCreated {
        /// Its number.
        id: LockspaceId,
        /// Its name.
        name: LockspaceName,
    },
    /// A node is known by another disk from now on.
    DiskReplaced {
        /// Which node.
        node: NodeId,
    },
    /// This node drops all state and joins anew.
    Reborn,
    /// This node stops.
    Stopped,
    /// A wait of a client of this node was refused, because it stood in a circle.
    DeadlockBroken {
        /// How many owners waited in the circle.
        owners: u64,
    },
    /// A client of this node held on to a lock that is in others' way for longer than it had promised.
    NoticeUnheeded {
        /// Where.
        lockspace: LockspaceName,
        /// On what.
        name: ResourceName,
        /// Milliseconds since it was told.
        waited_ms: u64,
        /// The lock was taken, as the client had allowed.
        released: bool,
    },
    /// Resources have another master.
    MastersMoved {
        /// The master before.
        from: NodeId,
        /// The master from now on.
        to: NodeId,
        /// How many.
        resources: u32,
    },
    /// Something became of a persistent lock of this node whose session has ended.
    Orphan {
        /// Where.
        lockspace: LockspaceName,
        /// On what.
        name: ResourceName,
        /// The mode in which it is held.
        mode: LockMode,
        /// The process that left it behind.
        pid: u32,
        /// What became of it.
        fate: OrphanFate,
    },
    /// Something became of a session that is kept.
    Session {
        /// Which.
        session: SessionId,
        /// Its client's process.
        pid: u32,
        /// What became of it.
        fate: SessionFate,
    },
}

/// What becomes of a session that is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SessionFate {
    /// It has no connection any more.
    Broken {
        /// Milliseconds for which it is kept.
        kept_ms: u64,
    },
    /// It goes on, on another connection.
    Continued,
    /// It has ended.
    Ended,
}

/// What becomes of an orphan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OrphanFate {
    /// It is one from now on.
    Left,
    /// A process has adopted it.
    Adopted {
        /// Which.
        by: u32,
    },
    /// It was released.
    Purged,
    /// A process of another node has adopted it.
    Ceded,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.what {
            What::View { members, quorate } => {
                let list: Vec<String> = members.iter().map(|(n, i)| format!("{n}.{i}")).collect();
                let quorum = if *quorate { "quorate" } else { "no quorum" };
                write!(f, "view {} of [{}], {quorum}", self.epoch, list.join(" "))?;
            }
            What::MemberJoined { node, incarnation } => {
                write!(f, "node {node} is a member, incarnation {incarnation}")?;
            }
            What::MemberLeft { node, incarnation } => {
                write!(
                    f,
                    "node {node} incarnation {incarnation} is no longer a member"
                )?;
            }
            What::Fenced { node, incarnation } => {
                write!(
                    f,
                    "node {node} incarnation {incarnation} can do no more harm"
                )?;
            }
            What::Active => f.write_str("this node may act")?,
            What::Suspended => f.write_str("this node may not act")?,
            What::Leader {
                node: Some(node),
                term,
            } => {
                write!(f, "node {node} leads the log, term {term}")?;
            }
            What::Leader { node: None, term } => {
                write!(f, "the log has no leader, term {term}")?;
            }
            What::LinkUp { peer, link } => write!(f, "link {link} to node {peer} is up")?,
            What::LinkDown { peer, link } => write!(f, "link {link} to node {peer} is down")?,
            What::Refused {
                peer: Some(peer),
                link,
            } => {
                write!(f, "handshake with node {peer} refused on link {link}")?;
            }
            What::Refused { peer: None, link } => {
                write!(f, "handshake with an unknown peer refused on link {link}")?;
            }
            What::RecoveryStarted {
                node,
                incarnation,
                resources,
            } => {
                write!(
                    f,
                    "recovery after node {node} incarnation {incarnation} began, {resources} resources wait"
                )?;
            }
            What::RecoveryDone {
                node,
                incarnation,
                rebuilt,
                dropped,
                took_ms,
            } => {
                write!(
                    f,
                    "recovery after node {node} incarnation {incarnation} is done: {rebuilt} resources rebuilt, {dropped} locks dropped, {took_ms} ms after proof"
                )?;
            }
            What::LockspaceCreated { id, name } => {
                write!(f, "lockspace {name} exists, number {id}")?
            }
            What::DiskReplaced { node } => write!(f, "node {node} is known by another disk")?,
            What::Reborn => f.write_str("this node drops all state and joins anew")?,
            What::Stopped => f.write_str("this node stops")?,
            What::DeadlockBroken { owners } => {
                write!(f, "a deadlock of {owners} owners is broken")?;
            }
            What::NoticeUnheeded {
                lockspace,
                name,
                waited_ms,
                released,
            } => {
                let end = if *released { ", and was taken" } else { "" };
                write!(
                    f,
                    "a lock on {name} in {lockspace} has been in the way for {waited_ms} ms, longer than promised{end}"
                )?;
            }
            What::MastersMoved {
                from,
                to,
                resources,
            } => {
                write!(
                    f,
                    "node {to} masters {resources} resources that node {from} mastered"
                )?;
            }
            What::Orphan {
                lockspace,
                name,
                mode,
                pid,
                fate,
            } => {
                write!(
                    f,
                    "the {mode} lock on {name} in {lockspace} that process {pid} "
                )?;
                match fate {
                    OrphanFate::Left => f.write_str("held is an orphan")?,
                    OrphanFate::Adopted { by } => {
                        write!(f, "left behind is adopted by process {by}")?;
                    }
                    OrphanFate::Purged => f.write_str("left behind is released")?,
                    OrphanFate::Ceded => f.write_str("left behind goes to another node")?,
                }
            }
            What::Session { session, pid, fate } => {
                write!(f, "session {session} of process {pid} ")?;
                match fate {
                    SessionFate::Broken { kept_ms } => {
                        write!(f, "has no connection, and is kept for {kept_ms} ms")?;
                    }
                    SessionFate::Continued => f.write_str("goes on, on another connection")?,
                    SessionFate::Ended => f.write_str("has ended")?,
                }
            }
        }
        write!(f, " ({})", self.reason)?;
        if self.detail.is_empty() {
            Ok(())
        } else {
            write!(f, ": {}", self.detail)
        }
    }
}
