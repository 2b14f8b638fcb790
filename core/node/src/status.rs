//! What this node tells of the cluster and of itself.

use crate::{Node, query::millis};
use mainstay_base::Instant;
use mainstay_wire::report::{
    LinkReport, LockspaceReport, MemberReport, MemberState, PendingFence, StatusReport,
};

impl Node {
    pub(crate) fn status(&self, now: Instant) -> StatusReport {
        let view = self.state.view();
        let me = self.config.me;
        let peers = self.membership.peers(now);
        let members = self
            .config
            .nodes
            .iter()
            .map(|spec| {
                let peer = peers.iter().find(|p| p.node == spec.id);
                let heard = peer.and_then(|p| p.heard);
                let fresh = heard.is_some_and(|h| h < self.config.timings.dead);
                let state = if view.member(spec.id).is_some() {
                    MemberState::Member
                } else if spec.id == me || fresh {
                    MemberState::Joining
                } else {
                    MemberState::Absent
                };
                MemberReport {
                    name: spec.name.clone(),
                    id: spec.id,
                    state,
                    incarnation: self.state.incarnation(spec.id),
                    votes: spec.votes,
                    heard_ms: heard.map(millis),
                }
            })
            .collect();
        let links = peers
            .iter()
            .flat_map(|peer| peer.links.iter().map(move |link| (peer.node, link)))
            .map(|(peer, link)| LinkReport {
                peer: self.name(peer),
                link: link.link,
                up: link.up,
                rtt_us: link
                    .rtt
                    .map(|r| u64::try_from(r.as_micros()).unwrap_or(u64::MAX)),
            })
            .collect();
        let counts = self.dlm.counts();
        let mut lockspaces: Vec<LockspaceReport> = self
            .state
            .lockspaces()
            .map(|space| {
                let counts = counts.get(&space.id).copied().unwrap_or_default();
                LockspaceReport {
                    id: space.id,
                    name: space.name.clone(),
                    value_len: space.value_len,
                    mastered: counts.mastered,
                    resources: counts.resources,
                    locks: counts.locks,
                    directory: counts.directory,
                }
            })
            .collect();
        lockspaces.sort_by_key(|space| space.id);
        let pending_fences = self
            .membership
            .why_pending(now)
            .into_iter()
            .map(|p| PendingFence {
                node: self.name(p.node),
                incarnation: p.incarnation,
                waits_for: p.waits_for,
            })
            .collect();
        StatusReport {
            cluster: self.config.cluster.clone(),
            cluster_id: self.state.id(),
            epoch: view.epoch,
            quorate: view.quorate,
            node: self.name(me),
            active: self.active,
            lease_ms: millis(self.lease.since(now)),
            leader: self.leader().map(|node| self.name(node)),
            term: self.term,
            votes: self.state.votes_of_members(),
            votes_total: self.config.nodes.iter().map(|n| n.votes).sum(),
            members,
            pending_fences,
            links,
            lockspaces,
            sessions: self.sessions.len() as u64,
        }
    }
}
