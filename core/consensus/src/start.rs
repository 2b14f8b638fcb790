//! Starting a member.

use crate::config::{ConsensusConfig, VOTERS_MAX};
use crate::configuration::Configuration;
use crate::consensus::{Consensus, Unsaved};
use crate::store::Store;
use crate::wire::{Ballot, Base, Bytes, RECORD_VERSION, Record, encode};
use crate::{Durable, Output, PersistSeq, StartError};
use mainstay_base::{DiskId, Entropy, Instant};
use raft::RawNode;
use std::collections::{BTreeMap, VecDeque};

impl Consensus {
    /// Starts a member of a new group. Every founding voter must be started with the same list.
    ///
    /// The record that makes it durable is the first of the outputs.
    ///
    /// # Errors
    /// If a setting is out of range, or the list is empty, too long, holds a number twice or zero,
    /// or does not name this member.
    pub fn found(
        config: ConsensusConfig,
        voters: &[DiskId],
        now: Instant,
        entropy: Entropy,
    ) -> Result<Consensus, StartError> {
        config.check()?;
        if voters.len() > VOTERS_MAX {
            return Err(StartError::Voters("too many"));
        }
        let configuration = Configuration::of_voters(voters.iter().map(|voter| voter.0));
        if configuration.voters.len() != voters.len() {
            return Err(StartError::Voters("a disk number stands there twice"));
        }
        configuration.check().map_err(StartError::Voters)?;
        if !configuration.has(config.me.0) {
            return Err(StartError::NotAVoter(config.me));
        }
        // The list counts as the first entry of the log, agreed on in term 1 before the start.
        let base = Base {
            index: 1,
            term: 1,
            configuration,
            data: Bytes::default(),
        };
        let ballot = Ballot {
            term: 1,
            vote: 0,
            commit: 1,
        };
        let record = encode(
            RECORD_VERSION,
            &Record {
                ballot,
                base: Some(base),
                first: 0,
                entries: Vec::new(),
            },
        );
        let mut durable = Durable::new();
        durable.apply(&record)?;
        let mut member = Consensus::start(config, durable, now, entropy)?;
        member.durable_term = 0;
        member.seq = 1;
        member.unsaved.push_back(Unsaved {
            seq: 1,
            ready: 0,
            term: 1,
            log: true,
            restore: None,
        });
        member.queue.push(Output::Persist {
            seq: PersistSeq(1),
            record,
        });
        Ok(member)
    }

    /// Starts a member with an empty disk that is to join an existing group. It does nothing until
    /// a leader sends it a snapshot, after [`replace_voter`](Self::replace_voter) or
    /// [`add_voter`](Self::add_voter) there.
    ///
    /// # Errors
    /// If a setting is out of range.
    pub fn join(
        config: ConsensusConfig,
        now: Instant,
        entropy: Entropy,
    ) -> Result<Consensus, StartError> {
        Consensus::start(config, Durable::new(), now, entropy)
    }

    /// Starts a member again from its durable state. The first outputs give the application what
    /// it needs to rebuild its state: the snapshot, if there is one, and the entries after it that
    /// are known to be agreed on. Further ones follow once there is a leader.
    ///
    /// # Errors
    /// If a setting is out of range.
    pub fn recover(
        config: ConsensusConfig,
        durable: Durable,
        now: Instant,
        entropy: Entropy,
    ) -> Result<Consensus, StartError> {
        Consensus::start(config, durable, now, entropy)
    }

    fn start(
        config: ConsensusConfig,
        durable: Durable,
        now: Instant,
        entropy: Entropy,
    ) -> Result<Consensus, StartError> {
        config.check()?;
        let (base, durable_term) = (durable.base.clone(), durable.ballot.term);
        let library = raft::Config {
            applied: base.index,
            ..config.library()
        };
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let node = RawNode::new(&library, Store::new(durable), &logger)
            .map_err(|error| StartError::Library(error.to_string()))?;
        let mut member = Consensus {
            // No term is this large, so the first timeout is drawn below.
            drawn: (u64::MAX, node.raft.state),
            shown_leader: (durable_term, 0, false),
            config,
            node,
            entropy,
            ticked: now,
            seq: 0,
            unsaved: VecDeque::new(),
            durable_term,
            queue: Vec::new(),
            given: 0,
            shown: 0,
            configurations: VecDeque::new(),
            shown_configuration: Configuration::default(),
            snapshot_ticks: BTreeMap::new(),
        };
        member.redraw();
        member.begin_at(base);
        Ok(member)
    }
}
