//! Why something was refused.

use crate::DurableError;
use mainstay_base::DiskId;

/// Why a member could not be started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// A setting is out of range.
    #[error("consensus configuration: {what}, found {found}")]
    Config {
        /// The rule.
        what: &'static str,
        /// The setting as given.
        found: String,
    },
    /// The list of founding voters makes no sense.
    #[error("founding voters: {0}")]
    Voters(&'static str),
    /// The group cannot be founded by a member without a vote.
    #[error("disk {0} is not among the founding voters; start it as a joiner")]
    NotAVoter(DiskId),
    /// The durable state contradicts itself.
    #[error(transparent)]
    Durable(#[from] DurableError),
    /// The library refused a state that had passed every check.
    #[error("the consensus library refused to start: {0}")]
    Library(String),
}

/// Why a message of a peer was refused. Nothing has changed then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReceiveError {
    /// More bytes than any message has.
    #[error("a consensus message of {len} bytes; the longest allowed has {max}")]
    TooLong {
        /// Bytes received.
        len: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// A format that this version does not know.
    #[error("consensus message format {found}; this version knows format {known}")]
    Version {
        /// The first byte.
        found: u8,
        /// The format known.
        known: u8,
    },
    /// Bytes that are no message.
    #[error("these bytes are not a consensus message: {0}")]
    Malformed(String),
    /// Meant for somebody else.
    #[error("a consensus message for disk {to} came to disk {me}")]
    NotForMe {
        /// The addressee.
        to: DiskId,
        /// This member.
        me: DiskId,
    },
    /// A number that no correct member sends.
    #[error("consensus message from disk {from}: {what}")]
    Nonsense {
        /// The sender.
        from: DiskId,
        /// The rule that was broken.
        what: &'static str,
    },
    /// The leader relies on entries that this member acknowledged and no longer has: its disk lost
    /// records that were reported durable. It must leave the group and come back with a new disk
    /// number.
    #[error(
        "the leader, disk {from}, counts on entry {index}, but the log of disk {me} ends at {last}: \
         this disk has lost records that it had acknowledged"
    )]
    LogLost {
        /// The leader.
        from: DiskId,
        /// This member.
        me: DiskId,
        /// The entry that is missing.
        index: u64,
        /// The last entry there is.
        last: u64,
    },
}

/// Why a proposal was refused. It will not be committed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Only the leader takes proposals.
    #[error("not the leader of the consensus group")]
    NotLeader {
        /// Who is, as far as known.
        leader: Option<DiskId>,
    },
    /// Too many bytes, or none.
    #[error("a proposal of {len} bytes; 1 to {max} are allowed")]
    Length {
        /// Bytes given.
        len: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// Too much waits for agreement already, or leadership is being handed over.
    #[error("the consensus group takes no further proposals for the moment")]
    Busy,
}

/// Why a change of the configuration, or a transfer of leadership, was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// Only the leader changes the configuration.
    #[error("not the leader of the consensus group")]
    NotLeader {
        /// Who is, as far as known.
        leader: Option<DiskId>,
    },
    /// The previous change has not ended, or the leader is too new. Try again later.
    #[error("the previous change of the consensus group has not ended")]
    InProgress,
    /// The leader cannot remove itself; transfer leadership first.
    #[error("disk {0} leads the consensus group; transfer leadership before removing it")]
    Leader(DiskId),
    /// No member has this number.
    #[error("disk {0} is not a member of the consensus group")]
    NotAMember(DiskId),
    /// A learner cannot lead.
    #[error("disk {0} has no vote and cannot lead the consensus group")]
    NotAVoter(DiskId),
    /// Nobody would be left to vote.
    #[error("disk {0} is the last voter of the consensus group")]
    LastVoter(DiskId),
    /// A disk number that is zero or used twice.
    #[error("disk {0} cannot be added to the consensus group: disk numbers are unique, not zero")]
    BadNumber(DiskId),
    /// More members than allowed.
    #[error("the consensus group has {max} members already")]
    TooMany {
        /// Members allowed.
        max: usize,
    },
    /// Too much waits for agreement already, or leadership is being handed over.
    #[error("the consensus group takes no further proposals for the moment")]
    Busy,
}

/// Why a snapshot of the application was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompactError {
    /// Too many bytes, or none.
    #[error("a snapshot of {len} bytes; 1 to {max} are allowed")]
    Length {
        /// Bytes given.
        len: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// The application cannot have applied what it was not given.
    #[error("a snapshot after entry {applied}, but only {given} have been handed out")]
    Ahead {
        /// The index given.
        applied: u64,
        /// The last index handed out.
        given: u64,
    },
}
