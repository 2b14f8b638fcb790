//! Settings and bounds.

use crate::StartError;
use core::time::Duration;
use mainstay_base::{DiskId, FRAME_LEN_MAX, NODES_MAX};

/// Longest message between members, in bytes: half of the largest frame.
pub const MESSAGE_LEN_MAX: usize = FRAME_LEN_MAX / 2;
/// Longest proposal, in bytes.
pub const PROPOSAL_LEN_MAX: usize = 64 << 10;
/// Longest snapshot of the application, in bytes: it travels in one message.
pub const SNAPSHOT_LEN_MAX: usize = MESSAGE_LEN_MAX - (8 << 10);
/// Most members of a group, voters and learners together.
pub const VOTERS_MAX: usize = NODES_MAX;

/// Most bytes of entries in one message, as the library counts them; one entry always fits.
pub(crate) const APPEND_LEN_MAX: u64 = 128 << 10;
/// Most entries in one message. The library counts at least four bytes per entry.
pub(crate) const APPEND_COUNT_MAX: usize = (APPEND_LEN_MAX / 4) as usize;
/// Most unacknowledged append messages per peer.
pub(crate) const INFLIGHT_MAX: usize = 32;
/// Most bytes of proposals that wait for agreement; further ones are refused.
pub(crate) const UNCOMMITTED_LEN_MAX: u64 = 1 << 20;
/// Bytes of log that call for a snapshot, whatever the number of entries.
pub(crate) const LOG_LEN_WANTED: usize = 1 << 20;
/// A learner that lags by no more entries than this has caught up.
pub(crate) const PROMOTE_LAG: u64 = 64;
/// Largest index or term taken from a peer, so that arithmetic cannot overflow.
pub(crate) const FOREIGN_MAX: u64 = 1 << 60;
/// Largest index or term taken from the disk; a member cannot count up to here from
/// [`FOREIGN_MAX`].
pub(crate) const NUMBER_MAX: u64 = 1 << 62;
/// By how much a peer's term may exceed ours. At one election per tick of 50 ms it takes seven
/// years to run up so many; without the bound one corrupt number could use up all terms.
pub(crate) const TERM_JUMP_MAX: u64 = 1 << 32;

/// Settings of one member. All members of a group should have the same, except for `me`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConsensusConfig {
    /// This member. Must never be used again once its durable state has been lost.
    pub me: DiskId,
    /// Length of one tick; at least a millisecond.
    pub tick: Duration,
    /// A follower that has heard nothing from a leader for this many ticks, plus a random number
    /// below it, stands for election. A leader that has not heard from a quorum for this many ticks
    /// steps down. 3 to 10 000, and more than `heartbeat_ticks`.
    pub election_ticks: u32,
    /// Ticks between two heartbeats of a leader; at least 1.
    pub heartbeat_ticks: u32,
    /// How many entries the log may hold before a snapshot is wanted; at least 1.
    pub snapshot_after: u64,
}

impl ConsensusConfig {
    /// The usual settings: ticks of 50 ms, election after 12, heartbeat every 2, snapshot after 512
    /// entries.
    #[must_use]
    pub fn new(me: DiskId) -> ConsensusConfig {
        ConsensusConfig {
            me,
            tick: Duration::from_millis(50),
            election_ticks: 12,
            heartbeat_ticks: 2,
            snapshot_after: 512,
        }
    }

    pub(crate) fn check(&self) -> Result<(), StartError> {
        let refuse = |what, found: String| Err(StartError::Config { what, found });
        if self.me.0 == 0 {
            return refuse("`me` must not be zero", self.me.to_string());
        }
        if self.tick < Duration::from_millis(1) {
            return refuse("`tick` must be at least 1 ms", format!("{:?}", self.tick));
        }
        if self.heartbeat_ticks == 0 {
            return refuse("`heartbeat_ticks` must be at least 1", "0".to_owned());
        }
        if !(3..=10_000).contains(&self.election_ticks)
            || self.election_ticks <= self.heartbeat_ticks
        {
            return refuse(
                "`election_ticks` must be 3 to 10000 and more than `heartbeat_ticks`",
                self.election_ticks.to_string(),
            );
        }
        if self.snapshot_after == 0 {
            return refuse("`snapshot_after` must be at least 1", "0".to_owned());
        }
        Ok(())
    }

    pub(crate) fn library(&self) -> raft::Config {
        raft::Config {
            id: self.me.0,
            election_tick: self.election_ticks as usize,
            heartbeat_tick: self.heartbeat_ticks as usize,
            max_size_per_msg: APPEND_LEN_MAX,
            max_inflight_msgs: INFLIGHT_MAX,
            check_quorum: true,
            pre_vote: true,
            max_uncommitted_size: UNCOMMITTED_LEN_MAX,
            ..raft::Config::default()
        }
    }
}
