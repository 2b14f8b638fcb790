//! Both sides of a quorum lease: the promises that a node collects, and those that it gives.
//!
//! Why a lease that has certainly run out can be told from outside is argued in
//! [`mainstay_fencing::lease`].

use crate::{View, message::Quiet};
use mainstay_base::{BootId, Incarnation, Instant, Mutant, NodeId};
use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

/// Rounds whose send times are remembered; an older acknowledgement extends no lease any more.
const ROUNDS_KEPT: usize = 512;

/// The holder's side.
#[derive(Debug, Default)]
pub(super) struct Holder {
    /// Number and send time of the last rounds; numbers ascend by one.
    rounds: VecDeque<(u64, Instant)>,
    /// Per peer: send time of the newest round that it answered with a promise.
    promised: BTreeMap<NodeId, Instant>,
    until: Instant,
}

impl Holder {
    pub(super) fn until(&self) -> Instant {
        self.until
    }

    /// A round is being sent; its number is returned.
    pub(super) fn round(&mut self, now: Instant) -> u64 {
        let seq = self.rounds.back().map_or(1, |(seq, _)| seq + 1);
        self.rounds.push_back((seq, now));
        if self.rounds.len() > ROUNDS_KEPT {
            self.rounds.pop_front();
        }
        seq
    }

    /// When a round was sent, if it is remembered.
    pub(super) fn sent(&self, seq: u64) -> Option<Instant> {
        let (first, _) = self.rounds.front()?;
        let index = usize::try_from(seq.checked_sub(*first)?).ok()?;
        self.rounds.get(index).map(|(_, at)| *at)
    }

    /// A peer answered with a promise the round sent at `sent`.
    pub(super) fn promised(&mut self, peer: NodeId, sent: Instant) {
        let newest = self.promised.entry(peer).or_insert(sent);
        *newest = sent.max(*newest);
    }

    /// The lease from all promises: it runs from the newest send time that nodes with more than half
    /// of all votes have promised for. `own` is the newest round that this node promised itself.
    /// True if it grew.
    pub(super) fn renew(
        &mut self,
        own: Option<(NodeId, Instant)>,
        lease: Duration,
        total: u32,
        votes: impl Fn(NodeId) -> u32,
    ) -> bool {
        let peers = self.promised.iter().map(|(node, at)| (*node, *at));
        let mut promises: Vec<(Instant, u32)> = peers
            .chain(own)
            .map(|(node, at)| (at, votes(node)))
            .collect();
        promises.sort_unstable_by(|a, b| b.cmp(a));
        let mut sum = 0;
        for (at, votes) in promises {
            sum += votes;
            if sum * 2 > total {
                let until = at + lease;
                let grew = until > self.until;
                self.until = self.until.max(until);
                return grew;
            }
        }
        false
    }

    /// The lease ends at once. True if there was one. Promises are forgotten: they were for a member.
    pub(super) fn revoke(&mut self) -> bool {
        self.promised.clear();
        std::mem::take(&mut self.until) != Instant::ZERO
    }
}

/// The voter's side.
#[derive(Debug)]
pub(super) struct Promises {
    born: Instant,
    last: BTreeMap<(NodeId, Incarnation), Instant>,
}

impl Promises {
    pub(super) fn new(born: Instant) -> Promises {
        Promises {
            born,
            last: BTreeMap::new(),
        }
    }

    /// Decides on a promise and remembers it. `view` is the one that this node has installed. Nodes
    /// promise only as members, and only to a boot and incarnation that they count as a member.
    pub(super) fn decide(
        &mut self,
        now: Instant,
        view: &View,
        voter: (NodeId, BootId),
        holder: (NodeId, BootId, Option<Incarnation>),
    ) -> bool {
        let (node, boot, Some(incarnation)) = holder else {
            return false;
        };
        if !Mutant::PromiseToAnybody.active()
            && (!view.has_boot(voter.0, voter.1)
                || !view.has_boot(node, boot)
                || !view.has_incarnation(node, incarnation))
        {
            return false;
        }
        self.last.insert((node, incarnation), now);
        true
    }

    /// How long an incarnation has been promised nothing, as far as this life can know.
    pub(super) fn age(&self, now: Instant, node: NodeId, incarnation: Incarnation) -> Duration {
        now.since(*self.last.get(&(node, incarnation)).unwrap_or(&self.born))
    }

    /// What a heartbeat says about the pending incarnations of `view`.
    pub(super) fn quiet(&self, now: Instant, view: &View) -> Vec<Quiet> {
        let report = |p: &crate::Pending| Quiet {
            node: p.node,
            incarnation: p.incarnation,
            age_ms: u32::try_from(self.age(now, p.node, p.incarnation).as_millis())
                .unwrap_or(u32::MAX),
        };
        view.pending.iter().map(report).collect()
    }

    /// A view was installed: incarnations that are neither members nor pending need no memory.
    pub(super) fn prune(&mut self, view: &View) {
        self.last.retain(|(node, incarnation), _| {
            view.has_incarnation(*node, *incarnation) || view.is_pending(*node, *incarnation)
        });
    }
}
