//! The member: what goes in.

use crate::check::{self, Verdict};
use crate::config::{LOG_LEN_WANTED, PROPOSAL_LEN_MAX, SNAPSHOT_LEN_MAX};
use crate::configuration::Configuration;
use crate::message::message_to_library;
use crate::store::Store;
use crate::wire::{Base, Bytes};
use crate::{
    CompactError, ConsensusConfig, Output, PersistSeq, ProposeError, ReceiveError, Status,
};
use core::fmt;
use mainstay_base::{DiskId, Entropy, Instant};
use raft::{ProgressState, RawNode, SnapshotStatus, StateRole, Storage};
use std::collections::{BTreeMap, VecDeque};

/// A write that was handed out and is not known to be durable.
#[derive(Debug)]
pub(crate) struct Unsaved {
    pub(crate) seq: u64,
    /// The library's number of the last batch that is durable with this write.
    pub(crate) ready: u64,
    /// The term that is durable with this write.
    pub(crate) term: u64,
    /// Whether it holds log entries or a snapshot from the leader.
    pub(crate) log: bool,
    /// The snapshot to hand out once it is durable.
    pub(crate) restore: Option<Base>,
}

/// One member of a consensus group. See the [crate's documentation](crate) for how to drive it.
pub struct Consensus {
    pub(crate) config: ConsensusConfig,
    pub(crate) node: RawNode<Store>,
    pub(crate) entropy: Entropy,
    /// When the last tick was due.
    pub(crate) ticked: Instant,
    /// Term and role for which the election timeout was drawn.
    pub(crate) drawn: (u64, StateRole),
    /// Number of the last write handed out.
    pub(crate) seq: u64,
    pub(crate) unsaved: VecDeque<Unsaved>,
    pub(crate) durable_term: u64,
    pub(crate) queue: Vec<Output>,
    /// Last index up to which everything was handed out and configurations took effect.
    pub(crate) given: u64,
    /// Index of the last entry or snapshot that was handed out.
    pub(crate) shown: u64,
    /// Configurations and from which index each has been in force: the first is the snapshot's.
    pub(crate) configurations: VecDeque<(u64, Configuration)>,
    pub(crate) shown_leader: (u64, u64, bool),
    pub(crate) shown_configuration: Configuration,
    /// For how many ticks each peer's snapshot has been under way.
    pub(crate) snapshot_ticks: BTreeMap<u64, u32>,
}

impl fmt::Debug for Consensus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consensus")
            .field("status", &self.status())
            .field("ticked", &self.ticked)
            .field("unsaved", &self.unsaved)
            .finish_non_exhaustive()
    }
}

impl Consensus {
    /// Lets time pass up to `now`: performs the ticks that have become due. After a pause of the
    /// process at most one election timeout's worth is made up for, so that a sleeper does not wake
    /// up to an election that the others know nothing of.
    pub fn tick_to(&mut self, now: Instant) {
        let tick = self.config.tick;
        let passed = now.since(self.ticked).as_nanos() / tick.as_nanos();
        let most = self.config.election_ticks;
        let due = u32::try_from(passed).unwrap_or(u32::MAX);
        if due > most {
            self.ticked = now;
        } else {
            self.ticked = self.ticked + tick * due;
        }
        for _ in 0..due.min(most) {
            self.tick();
        }
    }

    /// When [`tick_to`](Self::tick_to) has something to do next.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.ticked + self.config.tick
    }

    fn tick(&mut self) {
        // The library would read log entries that the pending snapshot has replaced; and a lone
        // voter would win its election on the spot, which it may do with a durable log only.
        let raft = &self.node.raft;
        let others = |voters: &raft::JointConfig| voters.ids().iter().any(|id| id != raft.id);
        let alone = raft.promotable() && !others(raft.prs().conf().voters());
        let leads = raft.state == StateRole::Leader;
        if self.is_restoring() || (alone && !leads && !self.is_settled()) {
            return;
        }
        self.node.tick();
        self.redraw();
        self.watch_snapshots();
    }

    /// The library waits for a snapshot's arrival for ever. Messages get lost, so it is told after
    /// two election timeouts that this one did.
    fn watch_snapshots(&mut self) {
        let raft = &self.node.raft;
        if raft.state != StateRole::Leader {
            self.snapshot_ticks.clear();
            return;
        }
        let under_way: Vec<u64> = raft
            .prs()
            .iter()
            .filter(|(_, progress)| progress.state == ProgressState::Snapshot)
            .map(|(&id, _)| id)
            .collect();
        self.snapshot_ticks.retain(|id, _| under_way.contains(id));
        for id in under_way {
            *self.snapshot_ticks.entry(id).or_default() += 1;
        }
        let patience = 2 * self.config.election_ticks;
        while let Some((&id, _)) = self.snapshot_ticks.iter().find(|(_, n)| **n >= patience) {
            self.snapshot_failed(id);
        }
    }

    fn snapshot_failed(&mut self, id: u64) {
        self.snapshot_ticks.remove(&id);
        self.node.report_snapshot(id, SnapshotStatus::Failure);
    }

    /// Takes a message of a peer. The caller must have authenticated the sender and compared it
    /// with [`Consensus::sender`].
    ///
    /// # Errors
    /// If the bytes are no message, not meant for this member, or say what no correct member says.
    /// Nothing has changed then. [`ReceiveError::LogLost`] is this member's own fault.
    pub fn receive(&mut self, message: &[u8]) -> Result<(), ReceiveError> {
        let envelope = check::decode_message(message)?;
        match check::against_state(self, &envelope)? {
            Verdict::Drop => Ok(()),
            Verdict::Step => {
                let from = DiskId(envelope.from);
                let stepped = self.node.step(message_to_library(envelope));
                self.redraw();
                match stepped {
                    // A reply of a peer that is no longer a member, or a message that makes no
                    // sense in the present role.
                    Ok(()) | Err(raft::Error::StepPeerNotFound | raft::Error::ProposalDropped) => {
                        Ok(())
                    }
                    Err(_) => Err(ReceiveError::Nonsense {
                        from,
                        what: "the consensus library has no use for it",
                    }),
                }
            }
        }
    }

    /// Whom a message claims to be from.
    ///
    /// # Errors
    /// If the bytes are no message.
    pub fn sender(message: &[u8]) -> Result<DiskId, ReceiveError> {
        check::decode_message(message).map(|envelope| DiskId(envelope.from))
    }

    /// Proposes an entry for the log. Success means only that it is on its way: it is agreed on
    /// when it comes back as [`Output::Committed`], and lost if another leader takes over first.
    ///
    /// # Errors
    /// If this member is not the leader, the entry is empty or longer than
    /// [`PROPOSAL_LEN_MAX`], or too much waits already.
    pub fn propose(&mut self, data: Vec<u8>) -> Result<(), ProposeError> {
        if data.is_empty() || data.len() > PROPOSAL_LEN_MAX {
            return Err(ProposeError::Length {
                len: data.len(),
                max: PROPOSAL_LEN_MAX,
            });
        }
        if !self.is_leader() {
            return Err(ProposeError::NotLeader {
                leader: self.leader(),
            });
        }
        self.node
            .propose(Vec::new(), data)
            .map_err(|_| ProposeError::Busy)
    }

    /// Tells that a write, and every earlier one, is durable.
    pub fn persisted(&mut self, seq: PersistSeq) {
        let mut ready = None;
        let mut restore = None;
        while let Some(saved) = self.unsaved.pop_front_if(|unsaved| unsaved.seq <= seq.0) {
            ready = Some(saved.ready);
            self.durable_term = self.durable_term.max(saved.term);
            restore = saved.restore.or(restore);
        }
        if let Some(ready) = ready {
            self.node.on_persist_ready(ready);
        }
        if let Some(base) = restore {
            self.node.advance_apply_to(base.index);
            self.begin_at(base);
        }
    }

    /// Hands out a snapshot; everything up to its index counts as handed out. The founding one says
    /// nothing that an application without any state does not know.
    pub(crate) fn begin_at(&mut self, base: Base) {
        self.given = base.index;
        self.configurations.clear();
        self.configurations
            .push_back((base.index, base.configuration));
        if !base.data.0.is_empty() {
            self.shown = base.index;
            self.queue.push(Output::Restore {
                index: base.index,
                snapshot: base.data.0,
            });
        }
    }

    /// Whether the application should call [`compact`](Self::compact): the log has grown long, or a
    /// peer needs a snapshot.
    #[must_use]
    pub fn wants_snapshot(&self) -> bool {
        let store = self.node.store();
        let covered = self.given.saturating_sub(store.base().index);
        !self.is_restoring()
            && covered > 0
            && (covered >= self.config.snapshot_after
                || store.len() >= LOG_LEN_WANTED
                || store.snapshot_wanted())
    }

    /// Takes the application's state as it was after it had applied the entry `applied` (the index
    /// of the last [`Output::Committed`] or [`Output::Restore`] it has carried out, zero if there
    /// was none) and forgets the log up to there. Best called when all outputs have been taken and applied. Calling it when
    /// nothing can be forgotten does no harm.
    ///
    /// # Errors
    /// If the snapshot is empty or longer than [`SNAPSHOT_LEN_MAX`], or if
    /// `applied` has not been handed out.
    pub fn compact(&mut self, applied: u64, snapshot: Vec<u8>) -> Result<(), CompactError> {
        if snapshot.is_empty() || snapshot.len() > SNAPSHOT_LEN_MAX {
            return Err(CompactError::Length {
                len: snapshot.len(),
                max: SNAPSHOT_LEN_MAX,
            });
        }
        if applied > self.given {
            return Err(CompactError::Ahead {
                applied,
                given: self.given,
            });
        }
        let store = self.node.store();
        let index = if self.is_restoring() {
            // The snapshot from the leader that is being written stands for more than this one.
            return Ok(());
        } else if applied >= self.shown {
            self.given
        } else if applied > store.base().index {
            store.skip_hidden(applied, self.given)
        } else {
            return Ok(());
        };
        if index == store.base().index {
            return Ok(());
        }
        let term = store.term(index).expect("given entries are in the log");
        while self.configurations.len() > 1 && self.configurations[1].0 <= index {
            self.configurations.pop_front();
        }
        let configuration = self.configurations[0].1.clone();
        self.node.mut_store().compact(Base {
            index,
            term,
            configuration,
            data: Bytes(snapshot),
        });
        let store = self.node.store();
        let (term, records) = (store.ballot().term, store.records());
        self.seq += 1;
        self.unsaved.push_back(Unsaved {
            seq: self.seq,
            ready: self.unsaved.back().map_or(0, |unsaved| unsaved.ready),
            term,
            log: false,
            restore: None,
        });
        self.queue.push(Output::Replace {
            seq: PersistSeq(self.seq),
            records,
        });
        Ok(())
    }

    /// Tells that messages to a peer have been lost, so that it is probed before more is sent.
    pub fn report_unreachable(&mut self, to: DiskId) {
        let progress = self.node.raft.prs().get(to.0);
        if progress.is_some_and(|progress| progress.state == ProgressState::Snapshot) {
            self.snapshot_failed(to.0);
        }
        self.node.report_unreachable(to.0);
    }

    /// Whether this member leads the group, as far as it knows.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.node.raft.state == StateRole::Leader
    }

    pub(crate) fn leader(&self) -> Option<DiskId> {
        match self.node.raft.leader_id {
            0 => None,
            id => Some(DiskId(id)),
        }
    }

    /// What there is to tell about this member.
    #[must_use]
    pub fn status(&self) -> Status {
        Status::of(self)
    }

    /// Whether a snapshot from the leader is being written.
    pub(crate) fn is_restoring(&self) -> bool {
        self.unsaved.iter().any(|unsaved| unsaved.restore.is_some())
    }

    /// Whether the whole log is durable.
    pub(crate) fn is_settled(&self) -> bool {
        let log = &self.node.raft.raft_log;
        log.persisted == log.last_index() && !self.unsaved.iter().any(|unsaved| unsaved.log)
    }

    /// The library draws election timeouts from the system's randomness whenever term or role
    /// change. This replaces them by ours before they can matter.
    pub(crate) fn redraw(&mut self) {
        let now = (self.node.raft.term, self.node.raft.state);
        if now != self.drawn {
            self.drawn = now;
            let ticks = u64::from(self.config.election_ticks);
            let timeout = ticks + self.entropy.below(ticks);
            self.node
                .raft
                .set_randomized_election_timeout(timeout as usize);
        }
    }
}
