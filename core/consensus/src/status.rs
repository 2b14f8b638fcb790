//! What a member tells about itself.

use crate::consensus::Consensus;
use mainstay_base::DiskId;
use raft::{ProgressState, StateRole};

/// The part that a member plays.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Follows a leader, or waits for one.
    Follower,
    /// Asks whether it would be elected.
    PreCandidate,
    /// Stands for election.
    Candidate,
    /// Leads.
    Leader,
}

/// A peer as its leader sees it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PeerStatus {
    /// The peer.
    pub disk: DiskId,
    /// The last entry that the peer is known to have.
    pub matched: u64,
    /// How many entries it is behind.
    pub lag: u64,
    /// Whether it has been heard of lately.
    pub active: bool,
    /// Whether it is being sent a snapshot.
    pub snapshot: bool,
}

/// The state of a member.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Status {
    /// This member.
    pub me: DiskId,
    /// The current term.
    pub term: u64,
    /// The part it plays.
    pub role: Role,
    /// The leader, as far as known.
    pub leader: Option<DiskId>,
    /// Last entry known to be agreed on.
    pub commit: u64,
    /// Last entry handed out, or skipped because it is the library's own.
    pub applied: u64,
    /// Index of the snapshot with which the log begins; zero if there is none.
    pub snapshot: u64,
    /// Last entry of the log.
    pub last_index: u64,
    /// Members with a vote, in order; while two configurations overlap those of the newer one.
    pub voters: Vec<DiskId>,
    /// While two configurations overlap, the voters of the older one, in order.
    pub outgoing: Vec<DiskId>,
    /// Members that are to become voters once they have caught up, in order.
    pub learners: Vec<DiskId>,
    /// All other members, in order; empty unless this member leads.
    pub peers: Vec<PeerStatus>,
}

impl Status {
    pub(crate) fn of(member: &Consensus) -> Status {
        let raft = &member.node.raft;
        let present = member.present();
        let last_index = raft.raft_log.last_index();
        let mut peers = Vec::new();
        if raft.state == StateRole::Leader {
            peers = raft
                .prs()
                .iter()
                .filter(|(id, _)| **id != member.config.me.0)
                .map(|(&id, progress)| PeerStatus {
                    disk: DiskId(id),
                    matched: progress.matched,
                    lag: last_index.saturating_sub(progress.matched),
                    active: progress.recent_active,
                    snapshot: progress.state == ProgressState::Snapshot,
                })
                .collect();
            peers.sort_unstable_by_key(|peer| peer.disk);
        }
        Status {
            me: member.config.me,
            term: raft.term,
            role: match raft.state {
                StateRole::Follower => Role::Follower,
                StateRole::PreCandidate => Role::PreCandidate,
                StateRole::Candidate => Role::Candidate,
                StateRole::Leader => Role::Leader,
            },
            leader: member.leader(),
            commit: raft.raft_log.committed,
            applied: member.given,
            snapshot: member.node.store().base().index,
            last_index,
            voters: present.shown_voters(),
            outgoing: present.outgoing.iter().map(|&id| DiskId(id)).collect(),
            learners: present.shown_learners(),
            peers,
        }
    }
}
