//! The local agent.

use crate::{ClusterState, MembershipConfig, Output};
use mainstay_base::{BootId, Incarnation, Instant, LinkId, NodeId};
use std::time::Duration;

/// The membership agent of one node.
#[derive(Debug)]
pub struct Membership {
    config: MembershipConfig,
}

/// What a node knows of a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// The peer.
    pub node: NodeId,
    /// Its present boot, once confirmed.
    pub boot: Option<BootId>,
    /// Time since its last heartbeat; `None` if it was never heard.
    pub heard: Option<Duration>,
    /// Whether both hear each other.
    pub reachable: bool,
    /// Its links, by number.
    pub links: Vec<LinkStatus>,
}

/// What a node knows of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinkStatus {
    /// Its number.
    pub link: LinkId,
    /// Whether heartbeats arrive on it.
    pub up: bool,
    /// The last heartbeat's round trip.
    pub rtt: Option<Duration>,
}

/// What a pending incarnation waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PendingStatus {
    /// The node.
    pub node: NodeId,
    /// Which of its incarnations.
    pub incarnation: Incarnation,
    /// For people.
    pub waits_for: String,
}

impl Membership {
    /// The agent of a life that begins `now`.
    #[must_use]
    pub fn new(_now: Instant, config: MembershipConfig) -> Membership {
        Membership { config }
    }

    /// A message from a peer arrived on a link. `now` must have been read after the message was.
    pub fn receive(
        &mut self,
        _now: Instant,
        _from: NodeId,
        _link: LinkId,
        _bytes: &[u8],
        _out: &mut Vec<Output>,
    ) {
    }

    /// Does what is due. To be called at [`Membership::deadline`]; earlier does no harm.
    pub fn step(&mut self, _now: Instant, _out: &mut Vec<Output>) {}

    /// When [`Membership::step`] is due next.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        Instant::ZERO
    }

    /// The replicated state changed, or was read from disk at the start.
    pub fn install(&mut self, _now: Instant, _state: &ClusterState, _out: &mut Vec<Output>) {}

    /// Whether this node leads the replicated log.
    pub fn set_leader(&mut self, _now: Instant, _leader: bool, _out: &mut Vec<Output>) {}

    /// The node has given up its locks and wants to leave: its lease ends at once, and it asks the
    /// leader to let it go until [`Output::Left`].
    pub fn set_leaving(&mut self, _now: Instant, _out: &mut Vec<Output>) {}

    /// The founding of [`Output::Founded`] is on disk.
    pub fn founding_durable(&mut self, _now: Instant, _out: &mut Vec<Output>) {}

    /// The transport connected a link: a heartbeat goes out on it at once.
    pub fn link_connected(
        &mut self,
        _now: Instant,
        _peer: NodeId,
        _link: LinkId,
        _out: &mut Vec<Output>,
    ) {
    }

    /// The transport lost a link: it is down until heartbeats arrive on it again.
    pub fn link_broken(
        &mut self,
        _now: Instant,
        _peer: NodeId,
        _link: LinkId,
        _detail: &str,
        _out: &mut Vec<Output>,
    ) {
    }

    /// The link to use for a peer: the first that is up.
    #[must_use]
    pub fn best_link(&self, _peer: NodeId) -> Option<LinkId> {
        None
    }

    /// Until when this node may act, on its own clock; [`Instant::ZERO`] if it may not.
    #[must_use]
    pub fn lease_until(&self) -> Instant {
        Instant::ZERO
    }

    /// Whether a peer and this node hear each other, and under which boot of the peer.
    #[must_use]
    pub fn reachable(&self, _peer: NodeId) -> Option<BootId> {
        None
    }

    /// What this node knows of its peers, by number.
    #[must_use]
    pub fn peers(&self, _now: Instant) -> Vec<PeerStatus> {
        Vec::new()
    }

    /// What each pending incarnation waits for, as far as this node knows.
    #[must_use]
    pub fn why_pending(&self, _now: Instant) -> Vec<PendingStatus> {
        Vec::new()
    }

    /// What a founding or this node's own joining waits for; `None` if it waits for nothing.
    #[must_use]
    pub fn why_not_member(&self, _now: Instant) -> Option<String> {
        let _ = &self.config;
        None
    }
}
