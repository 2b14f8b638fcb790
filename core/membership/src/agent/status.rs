//! What the agent can tell about itself.

use super::{Membership, detector::Peer};
use mainstay_base::{BootId, FencePolicy, Incarnation, Instant, LinkId, NodeId};
use mainstay_fencing::lease::{self, Verdict};
use std::time::Duration;

/// What a node knows of a peer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerStatus {
    /// The peer.
    pub node: NodeId,
    /// Its present boot, once confirmed.
    pub boot: Option<BootId>,
    /// Time since its last heartbeat; `None` if its present boot was never heard.
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
    /// The links to a peer that are up, in order.
    pub fn links_up(&self, peer: NodeId) -> impl Iterator<Item = LinkId> + Clone {
        let peer = self.detector.peers.get(&peer);
        let links = peer.into_iter().flat_map(|peer| (0u8..).zip(&peer.links));
        links
            .filter(|(_, link)| link.up)
            .map(|(index, _)| LinkId(index))
    }

    /// Until when this node may act, on its own clock; [`Instant::ZERO`] if it may not.
    #[must_use]
    pub fn lease_until(&self) -> Instant {
        self.holder.until()
    }

    /// The boot under which a peer and this node hear each other, if they do.
    #[must_use]
    pub fn reachable(&self, now: Instant, peer: NodeId) -> Option<BootId> {
        self.detector.two_way(now, peer)
    }

    /// What this node knows of its peers, by number.
    #[must_use]
    pub fn peers(&self, now: Instant) -> Vec<PeerStatus> {
        let status = |(node, peer): (&NodeId, &Peer)| PeerStatus {
            node: *node,
            boot: peer.boot,
            heard: peer.heard_at.map(|at| now.since(at)),
            reachable: self.detector.two_way(now, *node).is_some(),
            links: (0u8..)
                .zip(&peer.links)
                .map(|(index, link)| LinkStatus {
                    link: LinkId(index),
                    up: link.up,
                    rtt: link.rtt,
                })
                .collect(),
        };
        self.detector.peers.iter().map(status).collect()
    }

    /// What each pending incarnation waits for, as far as this node knows.
    #[must_use]
    pub fn why_pending(&self, now: Instant) -> Vec<PendingStatus> {
        let wait = lease::wait(&self.timings);
        let manual = self.founding.as_ref().map(|f| f.fencing) == Some(FencePolicy::Manual);
        let status = |((node, incarnation), watch): (
            &(NodeId, Incarnation),
            &lease::LeaseWatch,
        )| {
            let mut rest = self.facts.rest.iter();
            let rest = rest.find(|rest| (rest.node, rest.incarnation) == (*node, *incarnation));
            let waits_for = if let Some(rest) = rest {
                let most = Duration::from_millis(rest.for_ms.into()).as_secs_f64();
                format!("rests: its locks stay for its node's next daemon, for {most:.0} s at most")
            } else if manual {
                let name = self.name(*node);
                format!("manual: an operator must run `mainstay vouch {name}`")
            } else {
                match self.verdict(now, watch, wait) {
                    Verdict::Expired => {
                        "lease: it has run out; the replicated log must commit that".to_owned()
                    }
                    Verdict::Waiting {
                        votes_reporting,
                        votes_needed,
                        waited,
                        ..
                    } => format!(
                        "lease: {votes_reporting} of {votes_needed} votes needed have waited {:.2} s of {:.2} s",
                        waited.as_secs_f64(),
                        wait.as_secs_f64()
                    ),
                }
            };
            PendingStatus {
                node: *node,
                incarnation: *incarnation,
                waits_for,
            }
        };
        self.watches.iter().map(status).collect()
    }

    /// Why this node is not a member, for people; `None` if it is one.
    #[must_use]
    pub fn why_not_member(&self, now: Instant) -> Option<String> {
        if self.incarnation().is_some() {
            return None;
        }
        if self.ended {
            return Some("this life of the node is over".to_owned());
        }
        if self.founding.is_none() {
            let me = self.config.me;
            return Some(match self.founder() {
                None => "no node has votes, so nobody can found the cluster".to_owned(),
                Some(founder) if founder == me => {
                    let missing = self.missing_for_founding(now);
                    let missing = missing.unwrap_or_else(|| "nothing".to_owned());
                    format!("founding the cluster waits: {missing}")
                }
                Some(founder) => format!(
                    "this node is fresh and waits for the founding, from {} or any founded node",
                    self.name(founder)
                ),
            });
        }
        if !self.founded {
            return Some("the founding is being written to disk".to_owned());
        }
        if !self.facts.founded {
            return Some("the replicated log has not committed the founding yet".to_owned());
        }
        if self.facts.disks.get(&self.config.me) != Some(&self.config.disk) {
            return Some(
                "the replicated log knows this node by another disk and must take in the new one"
                    .to_owned(),
            );
        }
        let me = (self.config.me, self.config.boot);
        for member in &self.facts.view.members {
            if self.is_superseded(now, member) {
                continue;
            }
            let name = self.name(member.node);
            let peer = self.detector.peers.get(&member.node);
            let heartbeat = peer.and_then(|p| p.last.as_ref());
            if self.detector.two_way(now, member.node).is_none() {
                return Some(format!(
                    "this node and member {name} do not hear each other"
                ));
            }
            if !heartbeat.is_some_and(|h| h.hears.iter().any(|h| (h.node, h.boot) == me)) {
                return Some(format!(
                    "member {name} does not say that it hears this node"
                ));
            }
        }
        Some("the leader of the replicated log must admit this node".to_owned())
    }

    fn name(&self, node: NodeId) -> String {
        let spec = self.nodes.iter().find(|n| n.id == node);
        spec.map_or_else(|| format!("node {node}"), |n| n.name.to_string())
    }
}
