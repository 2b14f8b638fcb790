//! How a cluster begins, and how a node that has no founding gets it.
//!
//! Only the founder, the lowest numbered node with votes, ever founds, and only when every node with
//! votes says that it is fresh *and* that it knows the founder's present life. Offers are taken only
//! from the life that is known to be present. So once a founder has heard that from everybody, no
//! founding of an earlier life of its can still find a taker, and two foundings cannot compete.

use super::Membership;
use crate::{
    Founding, FoundingNode, Output,
    message::{FoundingOffer, Heard, Heartbeat, Message},
};
use mainstay_base::{ClusterId, Instant, LinkId, NodeId};

impl Membership {
    pub(super) fn founder(&self) -> Option<NodeId> {
        let voters = self.nodes.iter().filter(|n| n.votes > 0);
        voters.map(|n| n.id).min()
    }

    /// Founds the cluster if that is this node's task and nothing is missing.
    pub(super) fn try_found(&mut self, now: Instant, out: &mut Vec<Output>) {
        if self.founding.is_some()
            || self.founder() != Some(self.config.me)
            || self.missing_for_founding(now).is_some()
        {
            return;
        }
        let me = self.config.me;
        let mut nodes: Vec<FoundingNode> = Vec::new();
        for spec in &self.nodes {
            let disk = match self.detector.peers.get(&spec.id) {
                _ if spec.votes == 0 => None,
                _ if spec.id == me => Some(self.config.disk),
                Some(peer) => peer.last.as_ref().map(|h| h.disk),
                None => None,
            };
            nodes.push(FoundingNode {
                spec: spec.clone(),
                disk,
            });
        }
        nodes.sort_by_key(|n| n.spec.id);
        // Any number but zero, which means none.
        let id = ClusterId(self.config.entropy.next_u64() | 1);
        let founding = Founding {
            cluster: self.config.cluster.clone(),
            id,
            nodes,
            timings: self.config.timings,
            fencing: self.config.fencing,
        };
        self.adopt(founding, out);
    }

    /// What the founder still waits for, for people.
    pub(super) fn missing_for_founding(&self, now: Instant) -> Option<String> {
        let me = Heard {
            node: self.config.me,
            boot: self.config.boot,
        };
        for spec in self.nodes.iter().filter(|n| n.votes > 0 && n.id != me.node) {
            let name = &spec.name;
            let Some(heartbeat) = self.detector.fresh(now, spec.id) else {
                return Some(format!("{name} has not been heard yet"));
            };
            if heartbeat.cluster.is_some() {
                return Some(format!("{name} belongs to a cluster and will tell us"));
            }
            if heartbeat.config != self.digest {
                return Some(format!("{name} has a different configuration"));
            }
            if !heartbeat.hears.contains(&me) {
                return Some(format!("{name} does not hear this node yet"));
            }
        }
        None
    }

    fn adopt(&mut self, founding: Founding, out: &mut Vec<Output>) {
        let me = self.config.me;
        let voter = self.votes(me) > 0 && founding.disk(me) == Some(self.config.disk);
        self.founding = Some(founding.clone());
        out.push(Output::Founded { founding, voter });
    }

    /// Compares notes with a peer: configuration, cluster, and whether it needs the founding.
    pub(super) fn meet(
        &mut self,
        from: NodeId,
        link: LinkId,
        heartbeat: &Heartbeat,
        out: &mut Vec<Output>,
    ) {
        if heartbeat.config != self.digest {
            let detail = "its configuration differs from ours in cluster name, nodes, votes, number \
                          of links, timings or fencing; all nodes must agree on them";
            self.complain(from, detail.to_owned(), out);
        }
        let Some(founding) = &self.founding else {
            return;
        };
        match heartbeat.cluster {
            Some(id) if id != founding.id => {
                let detail = format!(
                    "it belongs to cluster number {id}, this node to {}; one of the two state \
                     directories comes from another cluster",
                    founding.id
                );
                self.complain(from, detail, out);
            }
            None if self.founded && self.votes(self.config.me) > 0 => {
                let offer = FoundingOffer {
                    boot: self.config.boot,
                    founding: founding.clone(),
                };
                out.push(Output::Send {
                    to: from,
                    link,
                    bytes: Message::Offer(offer).encode(),
                });
            }
            _ => {}
        }
    }

    pub(super) fn on_offer(
        &mut self,
        _now: Instant,
        from: NodeId,
        offer: FoundingOffer,
        out: &mut Vec<Output>,
    ) {
        let peer = self.detector.peers.get(&from);
        let present = peer.is_some_and(|p| p.boot == Some(offer.boot) && p.spec.votes > 0);
        if self.founding.is_some() || !present {
            return;
        }
        if let Some(difference) = offer.founding.difference(&self.config) {
            return self.complain(from, difference, out);
        }
        self.adopt(offer.founding, out);
    }
}
