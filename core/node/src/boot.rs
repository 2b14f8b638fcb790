//! The beginning of a life: from the journal's records to a node.

use crate::{BootError, BootInfo, Node, NodeConfig, PersistSeq, peers::Peer};
use mainstay_base::{Entropy, Instant, NODES_MAX, UserLimits, VOTES_MAX};
use mainstay_consensus::{Consensus, ConsensusConfig, Durable};
use mainstay_dlm::Dlm;
use mainstay_fencing::Ledger;
use mainstay_membership::{ClusterState, Founding, Membership, MembershipConfig};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Journal record: the cluster's founding.
pub(crate) const KIND_FOUNDING: u8 = 1;
/// Journal record: ballot, entries and snapshots of the replicated log.
pub(crate) const KIND_LOG: u8 = 2;

impl Node {
    /// Begins a life. The node's first effects come with its first step.
    ///
    /// # Errors
    /// If the configuration does not hold together, a record cannot be understood, or the records
    /// belong to another cluster or contradict the configuration.
    pub fn boot(now: Instant, config: NodeConfig, info: BootInfo) -> Result<Node, BootError> {
        check_config(&config)?;
        let mut entropy = Entropy::new(info.entropy);
        let mut founding = None;
        let mut durable = Durable::new();
        for (index, (kind, payload)) in info.records.iter().enumerate() {
            let bad = |why: String| BootError::Record { index, why };
            match *kind {
                KIND_FOUNDING => {
                    let found = Founding::decode(payload).map_err(|e| bad(e.to_string()))?;
                    check_founding(&config, &found)?;
                    founding = Some(found);
                }
                KIND_LOG => durable.apply(payload).map_err(|e| bad(e.to_string()))?,
                kind => {
                    return Err(bad(format!(
                        "unknown kind {kind}; a newer version wrote it"
                    )));
                }
            }
        }
        if founding.is_none() && !durable.is_empty() {
            return Err(BootError::Foreign(
                "the journal has a log but no founding".to_owned(),
            ));
        }
        let membership = Membership::new(
            now,
            MembershipConfig {
                cluster: config.cluster.clone(),
                me: config.me,
                nodes: config.nodes.clone(),
                timings: config.timings,
                fencing: config.fencing,
                boot: info.boot,
                disk: info.disk,
                founding: founding.clone(),
                entropy: Entropy::new(entropy.next_u64()),
            },
        );
        let peers = config
            .nodes
            .iter()
            .filter(|n| n.id != config.me)
            .map(|n| (n.id, Peer::new(info.boot, now)))
            .collect();
        let mut dlm = Dlm::new(config.me, config.slice);
        dlm.configure_deadlocks(config.deadlock);
        dlm.configure_masters(config.masters.clone());
        dlm.configure_orphans(config.orphan_expiry);
        let mut node = Node {
            dlm,
            config,
            boot: info.boot,
            disk: info.disk,
            entropy,
            founding: None,
            consensus: None,
            state: ClusterState::new(),
            ledger: Ledger::new(),
            membership,
            peers,
            disks: BTreeMap::new(),
            sessions: BTreeMap::new(),
            kept: BTreeMap::new(),
            broken: crate::keep::Broken::default(),
            wishes: Vec::new(),
            queries: BTreeMap::new(),
            shares: BTreeMap::new(),
            gatherings: BTreeMap::new(),
            survivors: crate::surviving::Survivors::default(),
            moves: VecDeque::new(),
            next_query: 1,
            guarded: BTreeMap::new(),
            limits: UserLimits::default(),
            makers: BTreeSet::new(),
            writes: VecDeque::new(),
            last_write: PersistSeq(0),
            leader_disk: None,
            term: 0,
            installed: None,
            joined: false,
            lease: Instant::ZERO,
            active: false,
            leaving: None,
            carried: None,
            resuming: false,
            quiet_until: Instant::ZERO,
            now,
            over: false,
            events: 0,
            out: Vec::new(),
        };
        if let Some(founding) = founding {
            node.start_log(now, founding, durable)?;
        }
        if let Some(bytes) = info.carried {
            node.read_carried(now, &bytes);
        }
        node.quiet_until = node.next_affair();
        Ok(node)
    }

    /// Starts the replicated log: for the first time if nothing of it is durable.
    pub(crate) fn start_log(
        &mut self,
        now: Instant,
        founding: Founding,
        durable: Durable,
    ) -> Result<(), BootError> {
        let config = ConsensusConfig::new(self.disk);
        let entropy = Entropy::new(self.entropy.next_u64());
        let voters: Vec<_> = founding
            .voters()
            .into_iter()
            .map(|(_, disk)| disk)
            .collect();
        let started = if !durable.is_empty() {
            Consensus::recover(config, durable, now, entropy)
        } else if voters.contains(&self.disk) {
            Consensus::found(config, &voters, now, entropy)
        } else {
            Consensus::join(config, now, entropy)
        };
        for node in &founding.nodes {
            if let Some(disk) = node.disk {
                self.disks.insert(disk, node.spec.id);
            }
        }
        self.founding = Some(founding);
        self.consensus = Some(started.map_err(|e| BootError::Foreign(e.to_string()))?);
        Ok(())
    }
}

fn check_config(config: &NodeConfig) -> Result<(), BootError> {
    let bad = |why: String| Err(BootError::Config(why));
    if config.nodes.is_empty() || config.nodes.len() > NODES_MAX {
        return bad(format!(
            "{} nodes; 1 to {NODES_MAX} are possible",
            config.nodes.len()
        ));
    }
    if !config.nodes.iter().any(|n| n.id == config.me) {
        return bad(format!(
            "this node, number {}, is not among the configured nodes",
            config.me
        ));
    }
    for (i, node) in config.nodes.iter().enumerate() {
        if config.nodes[..i]
            .iter()
            .any(|n| n.id == node.id || n.name == node.name)
        {
            return bad(format!(
                "node {} ({}) is configured twice",
                node.id, node.name
            ));
        }
    }
    if let Some(node) = config
        .nodes
        .iter()
        .find(|n| !(1..=VOTES_MAX).contains(&n.votes))
    {
        return bad(format!(
            "node {} has {} votes; 1 to {VOTES_MAX} are possible",
            node.name, node.votes
        ));
    }
    let t = &config.timings;
    if t.heartbeat.is_zero() || t.dead < t.heartbeat * 3 || t.lease < t.heartbeat * 3 {
        return bad("dead time and lease must each be at least three heartbeats".to_owned());
    }
    Ok(())
}

/// What the cluster was founded with must be what is configured: a silent difference would show
/// only in the middle of a failure.
fn check_founding(config: &NodeConfig, founding: &Founding) -> Result<(), BootError> {
    let foreign = |text: String| Err(BootError::Foreign(text));
    if founding.cluster != config.cluster {
        return foreign(format!(
            "this state directory belongs to cluster `{}`, the configuration names `{}`",
            founding.cluster, config.cluster
        ));
    }
    for node in &founding.nodes {
        let Some(spec) = config.nodes.iter().find(|n| n.id == node.spec.id) else {
            return foreign(format!(
                "the cluster was founded with node {} ({}), which the configuration lacks",
                node.spec.id, node.spec.name
            ));
        };
        if spec.name != node.spec.name || spec.votes != node.spec.votes {
            return foreign(format!(
                "node {} was founded as {} with {} votes; the configuration says {} with {}",
                spec.id, node.spec.name, node.spec.votes, spec.name, spec.votes
            ));
        }
    }
    if let Some(new) = config
        .nodes
        .iter()
        .find(|n| founding.nodes.iter().all(|f| f.spec.id != n.id))
    {
        return foreign(format!(
            "the configuration names node {} ({}), which the cluster was not founded with",
            new.id, new.name
        ));
    }
    if founding.timings != config.timings || founding.fencing != config.fencing {
        return foreign(format!(
            "the cluster was founded with {:?} and fencing {:?}; the configuration says {:?} and {:?}",
            founding.timings, founding.fencing, config.timings, config.fencing
        ));
    }
    Ok(())
}
