//! Masters that move: a resource goes to the node that does most of the work on it.
//!
//! Nobody has vanished, so nothing is in doubt, if all agree on when it happens. They agree because
//! the replicated log says when; it cannot say so before all members have fallen silent about the
//! resource and heard what its master had to say:
//!
//! 1. **ask** ([`give`]): the master names the resources to all members. Each says no more about
//!    them to the master, keeps its clients' calls back, and agrees ([`Moving`](crate::table::State::Moving)).
//! 2. **hear, take**: the master decides nothing about them any more. It sends what it has to the
//!    next one, and tells the others that they have heard all. Each answers when it has.
//! 3. **commit**: the master asks the log for the move. Where it is applied, the next master is the
//!    master, and what was kept back goes there.
//!
//! Before 3 the master may call it off, and does when somebody is slow. A change of the members ends
//! it everywhere, since the log refuses a move that was agreed upon by others than the members.

mod give;
pub(crate) mod heat;
mod take;
mod trees;

use crate::{Dlm, Life, names::Place};
use mainstay_base::{Epoch, Instant, LockId, MastersConfig, NodeId};
use mainstay_wire::dlm::ResourceId;
use std::collections::{BTreeMap, BTreeSet};

use give::Giving;
use take::Coming;

/// Most bytes of names, or of resources, that are said at once: a message between nodes may have 128 KiB.
const MESSAGE_BYTES: usize = 96 << 10;

/// A batch of moves, as the replicated log names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Move {
    /// The master.
    pub from: Life,
    /// The next one.
    pub to: Life,
    /// The master's number, counted up.
    pub serial: u64,
    /// Epoch of the set of members that agreed.
    pub members: Epoch,
    /// How many resources.
    pub count: u32,
}

/// All that is on the move, as far as this node is concerned.
#[derive(Debug, Default)]
pub(crate) struct Moves {
    pub(crate) config: MastersConfig,
    /// Resources mastered here that would be better off elsewhere.
    hot: Vec<Place>,
    /// Sub-resources mastered here whose trees are mastered elsewhere.
    astray: Vec<Place>,
    /// No batch begins before.
    next_at: Instant,
    last_serial: u64,
    /// The batch that this node gives away.
    giving: Option<Giving>,
    /// Batches of other masters.
    asked: BTreeMap<(Life, u64), Asked>,
    /// Who took nothing lately, and until when it is not asked.
    unwilling: BTreeMap<NodeId, Instant>,
    census: Census,
}

/// A batch that another master gives away.
#[derive(Debug)]
struct Asked {
    to: NodeId,
    names: BTreeSet<ResourceId>,
    dropped: Vec<Dropped>,
    /// What has come, if it comes to this node.
    coming: Coming,
}

/// A lock that went while nobody could be told.
#[derive(Debug)]
pub(crate) struct Dropped {
    resource: ResourceId,
    lock: LockId,
    invalidate: bool,
}

/// How many resources there are, roughly, and how many of them are mastered here.
#[derive(Clone, Copy, Debug, Default)]
struct Census {
    mine: u64,
    all: u64,
    at: Instant,
}

impl Moves {
    /// When there is something to do.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        match &self.giving {
            Some(giving) => giving.give_up_at(),
            None if self.hot.is_empty() && self.astray.is_empty() => None,
            None => Some(self.next_at),
        }
    }

    /// Whether a resource may go to another node with the batch under way.
    pub(crate) fn may_give(&self, resource: &ResourceId) -> bool {
        let giving = self.giving.as_ref();
        giving.is_some_and(|giving| giving.takes_away(resource))
    }

    /// Whether a resource is being given to a node, which may have heard of the commit already.
    pub(crate) fn comes_to(&self, resource: &ResourceId, node: NodeId) -> bool {
        let giving = self.giving.as_ref();
        let mut of_node = self.asked.values().filter(|asked| asked.to == node);
        giving.is_some_and(|giving| giving.gives(resource, node))
            || of_node.any(|asked| asked.names.contains(resource))
    }

    /// Whether another master is giving a resource away and this node has been asked to be silent.
    fn is_asked(&self, resource: &ResourceId, master: NodeId) -> bool {
        let mut of_master = self.asked.iter().filter(|((life, _), _)| life.0 == master);
        of_master.any(|(_, asked)| asked.names.contains(resource))
    }
}

impl Dlm {
    /// Who masters resources, and when they move. To be told before anything else.
    pub fn configure_masters(&mut self, config: MastersConfig) {
        self.moves.config = config;
    }

    /// The log has committed a batch of moves, or refused it (`done` is false), in its order among
    /// views.
    pub fn on_move(&mut self, now: Instant, batch: &Move, done: bool) {
        if self.life.is_none() {
            return;
        }
        if done {
            // What was being searched for may stand with another master now.
            self.deadlocks.rearm_all(now);
        }
        if self.is_me(batch.from) {
            self.given(now, batch, done);
        } else if let Some(asked) = self.moves.asked.remove(&(batch.from, batch.serial)) {
            match done {
                true if self.is_me(batch.to) => self.taken(now, asked),
                true => self.flip(now, asked, batch.to.0),
                false => self.resume(now, batch.from.0, asked),
            }
        } else if done {
            let text = format!(
                "node {} moved resources without this node's consent",
                batch.from.0
            );
            self.out.push(crate::Out::Fatal(text));
        }
    }

    /// The members have changed: no move that is not committed will be.
    pub(crate) fn end_moves(&mut self, now: Instant) {
        self.moves.unwilling.clear();
        self.end_giving(now);
        for ((life, _), asked) in std::mem::take(&mut self.moves.asked) {
            self.resume(now, life.0, asked);
        }
    }

    /// Whether nobody has vanished of whom something is left, or rests.
    fn all_is_settled(&self) -> bool {
        self.departed.is_empty() && self.view.pending.is_empty()
    }

    /// Whether nothing is on the move that this node has still to tell its next master of, no record of
    /// a lock is on its way into the log, and no other node's orphan on its way here.
    #[must_use]
    pub fn may_go(&self) -> bool {
        self.moves.giving.is_none()
            && self.moves.asked.is_empty()
            && !self.surviving.is_recording()
            && !self.ceding.is_taking()
    }

    /// Whether there are members that master things by choice, and this node is not one of them, or
    /// has its share already.
    pub(crate) fn had_rather_not_master(&mut self, now: Instant) -> bool {
        let config = &self.moves.config;
        let heavy = |node: &NodeId| config.weight(*node) > 0;
        if !self.ids.iter().any(heavy) {
            return false;
        }
        !heavy(&self.me) || self.has_its_share(now, 1)
    }

    /// Who masters a name that nobody does, if the asker had rather not.
    pub(crate) fn master_instead(&self, asker: NodeId, resource: &ResourceId) -> Option<NodeId> {
        let config = &self.moves.config;
        let fit = |node: &NodeId| *node != asker && config.weight(*node) > 0;
        if fit(&self.me) {
            return Some(self.me);
        }
        let fit: Vec<NodeId> = self.ids.iter().copied().filter(fit).collect();
        mainstay_membership::directory_node(&fit, resource.space, &resource.name)
    }

    /// Whether this node would master more than its share with so many more resources, as far as
    /// samples tell.
    fn has_its_share(&mut self, now: Instant, more: u64) -> bool {
        /// Samples take their time.
        const COUNTED: core::time::Duration = core::time::Duration::from_secs(1);
        /// Shares of less mean nothing.
        const FEW: u64 = 100;
        let cap = u64::from(self.moves.config.cap);
        if cap >= 100 {
            return false;
        }
        let census = self.moves.census;
        if census.at == Instant::ZERO || now.since(census.at) >= COUNTED {
            let (mine, here) = self.resources.estimate();
            // Names are spread evenly over the directories.
            let all = here * self.ids.len() as u64;
            self.moves.census = Census { mine, all, at: now };
        }
        let census = &mut self.moves.census;
        let all = census.all.max(census.mine) + more;
        let over = all >= FEW && (census.mine + more) * 100 > cap * all;
        if !over {
            census.mine += more;
        }
        over
    }
}
