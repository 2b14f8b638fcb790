//! What a [`Consensus`](crate::Consensus) asks its caller to do.

use mainstay_base::DiskId;

/// Number of a journal write, counted up from 1 since the member started.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PersistSeq(pub u64);

/// An effect. Effects are to be carried out in the order in which they were handed out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Output {
    /// Append this record durably. One record is atomic: it holds the ballot, the log entries and
    /// the snapshot that belong together. Confirm with [`persisted`](crate::Consensus::persisted).
    Persist {
        /// Which write this is.
        seq: PersistSeq,
        /// The bytes to give back to [`Durable::apply`](crate::Durable::apply) after a restart.
        record: Vec<u8>,
    },
    /// Replace all records written so far by these, atomically: after a crash either all the old
    /// ones are found or all of these. It comes after every earlier [`Output::Persist`] and is
    /// confirmed in the same way.
    Replace {
        /// Which write this is.
        seq: PersistSeq,
        /// The records that make up the whole durable state, in order.
        records: Vec<Vec<u8>>,
    },
    /// Send to a peer, over a channel that authenticates this member. May be lost.
    Send {
        /// The receiver.
        to: DiskId,
        /// The bytes for the receiver's [`receive`](crate::Consensus::receive).
        message: Vec<u8>,
        /// The message may leave only once this write is durable. `None`: at once.
        after: Option<PersistSeq>,
    },
    /// The next entry of the agreed log; to be applied in order. Indices grow but need not be
    /// consecutive, because the library's own entries are not shown.
    Committed {
        /// Position in the log.
        index: u64,
        /// What was proposed; never empty.
        data: Vec<u8>,
    },
    /// Replace the whole application state by this snapshot.
    Restore {
        /// Position in the log that the snapshot stands for.
        index: u64,
        /// What an application gave to [`compact`](crate::Consensus::compact); never empty.
        snapshot: Vec<u8>,
    },
    /// The leader or the term has changed.
    Leader {
        /// The current term.
        term: u64,
        /// The leader of that term, as far as known.
        leader: Option<DiskId>,
        /// Whether this member is the leader.
        me: bool,
    },
    /// The configuration has changed, in log order with [`Output::Committed`]. While two
    /// configurations overlap these are the voters of the newer one.
    Voters {
        /// Members with a vote, in order.
        voters: Vec<DiskId>,
        /// Members that receive the log and will be voters once they have caught up, in order.
        learners: Vec<DiskId>,
    },
}
