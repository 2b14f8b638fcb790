//! The failure detector: what has been heard from whom, on which link, in which life.
//!
//! A peer's present boot is the one that acknowledged this node's newest round. A dead boot cannot
//! acknowledge what was sent after its death, so late frames of a dead boot change nothing, and what
//! they say is ignored.

use crate::message::{Heard, Heartbeat, HeartbeatAck};
use mainstay_base::{BootId, Instant, LinkId, NodeId, NodeSpec, Timings};
use std::{collections::BTreeMap, time::Duration};

/// A link is down after so many heartbeat periods of silence.
const LINK_SILENCE: u32 = 5;

#[derive(Debug)]
pub(super) struct Link {
    pub(super) up: bool,
    pub(super) heard_at: Option<Instant>,
    pub(super) rtt: Option<Duration>,
}

#[derive(Debug)]
pub(super) struct Peer {
    pub(super) spec: NodeSpec,
    pub(super) links: Vec<Link>,
    /// The present boot, confirmed by an acknowledgement.
    pub(super) boot: Option<BootId>,
    /// Newest of our rounds that it acknowledged.
    newest_ack: u64,
    /// When that round was sent.
    acked_at: Option<Instant>,
    /// When the present boot's newest heartbeat arrived.
    pub(super) heard_at: Option<Instant>,
    /// The present boot's newest heartbeat.
    pub(super) last: Option<Heartbeat>,
    /// As last announced.
    announced: Option<BootId>,
}

/// What the detector found out.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Finding {
    LinkUp(NodeId, LinkId),
    LinkDown(NodeId, LinkId, Duration),
    Reachable(NodeId, BootId),
    Unreachable(NodeId, BootId),
}

#[derive(Debug)]
pub(super) struct Detector {
    pub(super) peers: BTreeMap<NodeId, Peer>,
    heartbeat: Duration,
    dead: Duration,
}

impl Detector {
    pub(super) fn new(me: NodeId, nodes: &[NodeSpec], timings: &Timings) -> Detector {
        let my_links = nodes.iter().find(|n| n.id == me).map_or(0, |n| n.links);
        let peers = nodes.iter().filter(|n| n.id != me).map(|spec| {
            let links = (0..spec.links.min(my_links)).map(|_| Link {
                up: false,
                heard_at: None,
                rtt: None,
            });
            let peer = Peer {
                spec: spec.clone(),
                links: links.collect(),
                boot: None,
                newest_ack: 0,
                acked_at: None,
                heard_at: None,
                last: None,
                announced: None,
            };
            (spec.id, peer)
        });
        Detector {
            peers: peers.collect(),
            heartbeat: timings.heartbeat,
            dead: timings.dead,
        }
    }

    /// Every peer and link, for a round of heartbeats.
    pub(super) fn targets(&self) -> impl Iterator<Item = (NodeId, LinkId)> {
        self.peers
            .iter()
            .flat_map(|(node, peer)| (0u8..).zip(&peer.links).map(|(i, _)| (*node, LinkId(i))))
    }

    /// Something arrived on a link. False if there is no such link.
    pub(super) fn heard_on(
        &mut self,
        now: Instant,
        from: NodeId,
        link: LinkId,
        found: &mut Vec<Finding>,
    ) -> bool {
        let Some(peer) = self.peers.get_mut(&from) else {
            return false;
        };
        let Some(entry) = peer.links.get_mut(usize::from(link.0)) else {
            return false;
        };
        entry.heard_at = Some(now);
        if !entry.up {
            entry.up = true;
            found.push(Finding::LinkUp(from, link));
        }
        true
    }

    /// A heartbeat arrived. True if it is news: from the peer's present boot and newer than any.
    pub(super) fn heartbeat(&mut self, now: Instant, from: NodeId, heartbeat: &Heartbeat) -> bool {
        let Some(peer) = self.peers.get_mut(&from) else {
            return false;
        };
        let newest = peer.last.as_ref().map_or(0, |h| h.seq);
        if peer.boot != Some(heartbeat.boot) || heartbeat.seq <= newest {
            return false;
        }
        peer.heard_at = Some(now);
        peer.last = Some(heartbeat.clone());
        true
    }

    /// An acknowledgement of a round that this life sent at `sent`.
    pub(super) fn ack(
        &mut self,
        now: Instant,
        from: NodeId,
        link: LinkId,
        ack: &HeartbeatAck,
        sent: Instant,
    ) {
        let Some(peer) = self.peers.get_mut(&from) else {
            return;
        };
        if let Some(link) = peer.links.get_mut(usize::from(link.0)) {
            link.rtt = Some(now.since(sent));
        }
        if ack.seq <= peer.newest_ack {
            return;
        }
        peer.newest_ack = ack.seq;
        peer.acked_at = Some(sent);
        if peer.boot != Some(ack.boot) {
            peer.boot = Some(ack.boot);
            peer.heard_at = None;
            peer.last = None;
        }
    }

    /// The transport lost a link. True if it had been up.
    pub(super) fn broken(&mut self, node: NodeId, link: LinkId) -> bool {
        let links = self.peers.get_mut(&node).map(|p| &mut p.links);
        match links.and_then(|links| links.get_mut(usize::from(link.0))) {
            Some(link) => std::mem::take(&mut link.up),
            None => false,
        }
    }

    /// This node was paused: what it heard before counts as heard now, or everybody would seem dead.
    pub(super) fn refresh(&mut self, now: Instant) {
        for peer in self.peers.values_mut() {
            if peer.announced.is_some() && peer.announced == peer.boot {
                peer.heard_at = Some(now);
                peer.acked_at = Some(now);
            }
            for link in peer.links.iter_mut().filter(|link| link.up) {
                link.heard_at = Some(now);
            }
        }
    }

    /// Looks for silence, and for what is heard both ways.
    pub(super) fn check(&mut self, now: Instant, found: &mut Vec<Finding>) {
        let (silence, dead) = (self.heartbeat * LINK_SILENCE, self.dead);
        for (node, peer) in &mut self.peers {
            for (link, index) in peer.links.iter_mut().zip(0u8..) {
                let quiet = link.heard_at.map_or(Duration::MAX, |at| now.since(at));
                if link.up && quiet > silence {
                    link.up = false;
                    link.rtt = None;
                    found.push(Finding::LinkDown(*node, LinkId(index), quiet));
                }
            }
            let present = peer.two_way(now, dead);
            if peer.announced != present {
                if let Some(old) = peer.announced {
                    found.push(Finding::Unreachable(*node, old));
                }
                if let Some(new) = present {
                    found.push(Finding::Reachable(*node, new));
                }
                peer.announced = present;
            }
        }
    }

    /// The boot under which a peer hears this node and is heard.
    pub(super) fn two_way(&self, now: Instant, node: NodeId) -> Option<BootId> {
        self.peers
            .get(&node)
            .and_then(|p| p.two_way(now, self.dead))
    }

    /// The peers of a heartbeat's `hears`, by number.
    pub(super) fn hears(&self, now: Instant) -> Vec<Heard> {
        let heard = self.peers.iter().filter_map(|(node, peer)| {
            let boot = peer.two_way(now, self.dead)?;
            Some(Heard { node: *node, boot })
        });
        heard.collect()
    }

    /// The present boot of a peer if it was heard within the dead time.
    pub(super) fn alive(&self, now: Instant, node: NodeId) -> Option<BootId> {
        let peer = self.peers.get(&node)?;
        let heard = peer.heard_at?;
        (now.since(heard) < self.dead).then_some(peer.boot)?
    }

    /// When a boot of a peer was last heard.
    pub(super) fn heard_at(&self, node: NodeId, boot: BootId) -> Option<Instant> {
        let peer = self.peers.get(&node)?;
        peer.heard_at.filter(|_| peer.boot == Some(boot))
    }

    /// The newest heartbeat of a peer's present boot if it is recent enough to judge by.
    pub(super) fn fresh(&self, now: Instant, node: NodeId) -> Option<&Heartbeat> {
        let peer = self.peers.get(&node)?;
        let heard = peer.heard_at?;
        (now.since(heard) <= self.heartbeat * 3).then_some(peer.last.as_ref())?
    }
}

impl Peer {
    fn two_way(&self, now: Instant, dead: Duration) -> Option<BootId> {
        let (heard, acked) = (self.heard_at?, self.acked_at?);
        (now.since(heard) < dead && now.since(acked) < dead).then_some(self.boot)?
    }
}
