//! What the node that leads the replicated log proposes.
//!
//! Everything here is judged anew at every step from what is known now; a proposal that is lost or
//! overtaken is simply made again, and one that no longer applies is ignored by the state machine.

use super::{Membership, connected};
use crate::{Command, Member, Output, Rest, message::Wish};
use mainstay_base::{BootId, DiskId, Epoch, FencePolicy, Incarnation, Instant, Mutant, NodeId};
use mainstay_fencing::{
    Proof,
    lease::{self, Verdict},
};
use mainstay_wire::event::Reason;
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// A proposal about one subject is repeated after this time.
const REPEAT: Duration = Duration::from_millis(200);
/// A change of voters takes longer.
const REPEAT_VOTER: Duration = Duration::from_millis(1000);
/// A leader that wants to leave goes without a successor after so many attempts to find one.
const HAND_OVERS: u32 = 5;

/// What a proposal is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Subject {
    Found,
    Join(NodeId),
    Leave(NodeId),
    Remove(NodeId),
    Fence(NodeId, Incarnation),
    Disk(NodeId),
    HandOver,
}

/// What only the leader remembers.
#[derive(Debug, Default)]
pub(super) struct Leader {
    proposed: BTreeMap<Subject, Instant>,
    /// Pairs of members that did not hear each other when last looked, and since when.
    apart_since: BTreeMap<(NodeId, NodeId), Instant>,
    hand_overs: u32,
    /// Who rests, and since when that has been known here.
    rests_since: Option<(Rest, Instant)>,
}

impl Leader {
    pub(super) fn forget_separations(&mut self) {
        self.apart_since.clear();
    }

    fn due(&mut self, now: Instant, subject: Subject, every: Duration) -> bool {
        let last = self.proposed.get(&subject);
        let due = last.is_none_or(|at| now.since(*at) >= every);
        if due {
            self.proposed.insert(subject, now);
        }
        due
    }

    fn propose(&mut self, now: Instant, subject: Subject, command: Command, out: &mut Vec<Output>) {
        if self.due(now, subject, REPEAT) {
            out.push(Output::Propose(command));
        }
    }
}

/// A node that can be judged: its boot, what it hears, what it says of itself.
struct Voice {
    boot: BootId,
    hears: BTreeSet<(NodeId, BootId)>,
    epoch: Epoch,
    disk: DiskId,
    wish: Wish,
}

impl Membership {
    /// Proposes what is due. Silence and separation are judged only if `all`.
    pub(super) fn lead(&mut self, now: Instant, all: bool, out: &mut Vec<Output>) {
        let Some(mut leader) = self.leader.take() else {
            return;
        };
        if self.facts.founded {
            self.prove(now, &mut leader, out);
            self.end_rest(now, &mut leader, out);
            let voices = self.voices(now);
            self.admit(now, &voices, &mut leader, out);
            self.release(now, &voices, &mut leader, out);
            self.replace_disks(now, &mut leader, out);
            if all && self.hears_majority(now) {
                self.evict_silent(now, &mut leader, out);
                self.evict_separated(now, &voices, &mut leader, out);
            }
        } else if let Some(founding) = self.founding.as_ref().filter(|_| self.founded) {
            let command = Command::Found(founding.clone());
            leader.propose(now, Subject::Found, command, out);
        }
        self.leader = Some(leader);
    }

    /// When something that the leader waits for will be decided by the mere passing of time.
    pub(super) fn next_decision(&self) -> Option<Instant> {
        let members = self.facts.view.members.iter();
        let silences = members
            .filter(|m| !self.is_me(m))
            .map(|m| self.silent_since(m) + self.timings.dead);
        let wait = lease::wait(&self.timings);
        let proofs =
            self.watches
                .values()
                .filter_map(|watch| match self.verdict(self.seen, watch, wait) {
                    Verdict::Waiting {
                        expected: Some(at), ..
                    } => Some(at),
                    _ => None,
                });
        silences.chain(proofs).filter(|at| *at > self.seen).min()
    }

    pub(super) fn verdict(
        &self,
        now: Instant,
        watch: &lease::LeaseWatch,
        wait: Duration,
    ) -> Verdict {
        watch.verdict(now, wait, self.votes_total(), |node| self.votes(node))
    }

    /// Proves the end of pending incarnations whose lease has certainly run out.
    fn prove(&mut self, now: Instant, leader: &mut Leader, out: &mut Vec<Output>) {
        self.report_own(now);
        let policy = self.founding.as_ref().map(|f| f.fencing);
        if policy != Some(FencePolicy::Lease) {
            return;
        }
        let wait = lease::wait(&self.timings);
        for ((node, incarnation), watch) in &self.watches {
            let mut rest = self.facts.rest.iter();
            if rest.any(|rest| (rest.node, rest.incarnation) == (*node, *incarnation)) {
                continue; // It has no lease; its node's next life may go on with its locks.
            }
            if self.verdict(now, watch, wait) == Verdict::Expired
                || Mutant::ProofWithoutWaiting.active()
            {
                let command = Command::Fenced {
                    node: *node,
                    incarnation: *incarnation,
                    proof: Proof::LeaseExpired,
                };
                leader.propose(now, Subject::Fence(*node, *incarnation), command, out);
            }
        }
    }

    /// Ends a rest that has lasted as long as it may.
    fn end_rest(&self, now: Instant, leader: &mut Leader, out: &mut Vec<Output>) {
        let Some(rest) = self.facts.rest else {
            leader.rests_since = None;
            return;
        };
        let known = leader.rests_since.filter(|(known, _)| *known == rest);
        let (_, since) = *leader.rests_since.insert(known.unwrap_or((rest, now)));
        if now.since(since) < Duration::from_millis(rest.for_ms.into()) {
            return;
        }
        let (node, incarnation) = (rest.node, rest.incarnation);
        let command = Command::Fenced {
            node,
            incarnation,
            proof: Proof::RestOver,
        };
        leader.propose(now, Subject::Fence(node, incarnation), command, out);
    }

    /// Everybody of whom something recent is known, this node included.
    fn voices(&self, now: Instant) -> BTreeMap<NodeId, Voice> {
        let cluster = self.founding.as_ref().map(|f| f.id);
        let mut voices = BTreeMap::new();
        for node in self.detector.peers.keys() {
            if let Some(h) = self.detector.fresh(now, *node)
                && h.cluster == cluster
            {
                let voice = Voice {
                    boot: h.boot,
                    hears: h.hears.iter().map(|h| (h.node, h.boot)).collect(),
                    epoch: h.epoch,
                    disk: h.disk,
                    wish: h.wish,
                };
                voices.insert(*node, voice);
            }
        }
        let hears = self.detector.hears(now);
        let mine = Voice {
            boot: self.config.boot,
            hears: hears.iter().map(|h| (h.node, h.boot)).collect(),
            epoch: self.facts.view.epoch,
            disk: self.config.disk,
            wish: self.wish(),
        };
        voices.insert(self.config.me, mine);
        voices
    }

    /// Lets nodes join that are connected with every member, so that none is admitted that would have
    /// to be removed again.
    fn admit(
        &self,
        now: Instant,
        voices: &BTreeMap<NodeId, Voice>,
        leader: &mut Leader,
        out: &mut Vec<Output>,
    ) {
        let view = &self.facts.view;
        for (node, voice) in voices {
            let known = self.facts.disks.get(node) == Some(&voice.disk);
            if voice.wish != Wish::Join
                || !known
                || voice.epoch != view.epoch
                || view.has_boot(*node, voice.boot)
                || self.facts.retired.contains(&(*node, voice.boot))
            {
                continue;
            }
            let others = view.members.iter().filter(|m| m.node != *node);
            let connected = others
                .filter(|m| !self.is_superseded(now, m))
                .all(|m| are_connected(voices, (*node, voice.boot), (m.node, m.boot)));
            // The leader must hear it, member or not, or it would evict it at once.
            let heard =
                *node == self.config.me || self.detector.two_way(now, *node) == Some(voice.boot);
            if connected && heard {
                let after = self.facts.incarnations.get(node).copied();
                let command = Command::Join {
                    node: *node,
                    boot: voice.boot,
                    after: after.unwrap_or_default(),
                };
                leader.propose(now, Subject::Join(*node), command, out);
            }
        }
    }

    /// Lets nodes leave that ask for it; this node only after handing over leadership.
    fn release(
        &self,
        now: Instant,
        voices: &BTreeMap<NodeId, Voice>,
        leader: &mut Leader,
        out: &mut Vec<Output>,
    ) {
        for (node, voice) in voices {
            let Some(member) = self.facts.view.member(*node) else {
                continue;
            };
            let (node_id, incarnation) = (*node, member.incarnation);
            let command = match voice.wish {
                Wish::Leave => Command::Leave {
                    node: node_id,
                    incarnation,
                },
                Wish::Rest { members, for_ms } => Command::Rest {
                    node: node_id,
                    incarnation,
                    members,
                    for_ms,
                },
                Wish::None | Wish::Join => continue,
            };
            if member.boot != voice.boot {
                continue;
            }
            if *node == self.config.me
                && let Some(to) = self
                    .successor(voices)
                    .filter(|_| leader.hand_overs < HAND_OVERS)
            {
                if leader.due(now, Subject::HandOver, REPEAT) {
                    leader.hand_overs += 1;
                    out.push(Output::HandOver { to });
                }
                continue;
            }
            leader.propose(now, Subject::Leave(*node), command, out);
        }
    }

    /// Who could lead instead: a voter that does not want to leave, a member if there is one.
    fn successor(&self, voices: &BTreeMap<NodeId, Voice>) -> Option<NodeId> {
        let able = voices.iter().filter(|(node, voice)| {
            let goes = matches!(voice.wish, Wish::Leave | Wish::Rest { .. });
            **node != self.config.me && !goes && self.votes(**node) > 0
        });
        able.max_by_key(|(node, voice)| {
            (
                self.facts.view.has_boot(**node, voice.boot),
                core::cmp::Reverse(**node),
            )
        })
        .map(|(node, _)| *node)
    }

    /// Takes nodes that lost their disk, or bring their first, into the log. That may be this very
    /// node, if the leader that began with it is gone.
    fn replace_disks(&self, now: Instant, leader: &mut Leader, out: &mut Vec<Output>) {
        let cluster = self.founding.as_ref().map(|f| f.id);
        let heard = self.detector.peers.keys().filter_map(|node| {
            let heartbeat = self.detector.fresh(now, *node)?;
            let both_ways = self.detector.two_way(now, *node).is_some();
            (heartbeat.cluster == cluster && both_ways).then_some((*node, heartbeat.disk))
        });
        for (node, new) in heard.chain([(self.config.me, self.config.disk)]) {
            let old = self.facts.disks.get(&node).copied();
            if old != Some(new) && leader.due(now, Subject::Disk(node), REPEAT_VOTER) {
                out.push(Output::ReplaceVoter {
                    node,
                    old,
                    new,
                    voter: self.votes(node) > 0,
                });
            }
        }
    }

    /// A leader that hears only a minority has no business removing anybody: if the log could still
    /// commit its proposals later, they would be about the past.
    fn hears_majority(&self, now: Instant) -> bool {
        let heard = self.detector.peers.keys();
        let votes: u32 = heard
            .filter(|node| self.detector.alive(now, **node).is_some())
            .map(|node| self.votes(*node))
            .sum();
        (votes + self.votes(self.config.me)) * 2 > self.votes_total()
    }

    fn is_me(&self, member: &Member) -> bool {
        (member.node, member.boot) == (self.config.me, self.config.boot)
    }

    /// The member's node runs under another boot by now, so the member is certainly gone.
    pub(super) fn is_superseded(&self, now: Instant, member: &Member) -> bool {
        if member.node == self.config.me {
            return member.boot != self.config.boot;
        }
        let alive = self.detector.alive(now, member.node);
        alive.is_some_and(|boot| boot != member.boot)
    }

    fn silent_since(&self, member: &Member) -> Instant {
        let known = self.known_since.get(&(member.node, member.boot));
        let heard = self.detector.heard_at(member.node, member.boot);
        heard.max(known.copied()).unwrap_or(Instant::ZERO)
    }

    fn evict_silent(&self, now: Instant, leader: &mut Leader, out: &mut Vec<Output>) {
        for member in &self.facts.view.members {
            let silence = now.since(self.silent_since(member));
            if self.is_me(member) || silence < self.timings.dead {
                continue;
            }
            let (reason, detail) = if self.is_superseded(now, member) {
                let detail = "its node runs again and has not joined yet".to_owned();
                (Reason::Restarted, detail)
            } else {
                let links = self.detector.peers.get(&member.node);
                let links = (0..links.map_or(0, |p| p.links.len())).map(|i| i.to_string());
                let detail = format!(
                    "nothing heard for {:.2} s on links {}",
                    silence.as_secs_f64(),
                    links.collect::<Vec<_>>().join(",")
                );
                (Reason::HeartbeatsMissed, detail)
            };
            let command = Command::Remove {
                node: member.node,
                incarnation: member.incarnation,
                reason,
                detail,
            };
            leader.propose(now, Subject::Remove(member.node), command, out);
        }
    }

    /// Removes as few votes as possible so that all who stay hear each other.
    fn evict_separated(
        &self,
        now: Instant,
        voices: &BTreeMap<NodeId, Voice>,
        leader: &mut Leader,
        out: &mut Vec<Output>,
    ) {
        // A `hears` that lacks somebody means the dead time has passed already; the margin lets the
        // failure of a node show as its own silence first.
        let margin = (self.timings.dead / 2).max(self.timings.heartbeat * 3);
        let members: Vec<&Member> = self
            .facts
            .view
            .members
            .iter()
            .filter(|m| voices.get(&m.node).is_some_and(|v| v.boot == m.boot))
            .collect();
        let mut apart_since = BTreeMap::new();
        for (i, a) in members.iter().enumerate() {
            for b in &members[i + 1..] {
                if !are_connected(voices, (a.node, a.boot), (b.node, b.boot)) {
                    let pair = (a.node, b.node);
                    let since = leader.apart_since.get(&pair).copied().unwrap_or(now);
                    // They may still be getting to know each other.
                    let since = since.max(self.known_for(a)).max(self.known_for(b));
                    apart_since.insert(pair, since);
                }
            }
        }
        let apart: BTreeSet<(NodeId, NodeId)> = apart_since
            .iter()
            .filter(|(_, since)| now.since(**since) >= margin)
            .map(|(pair, _)| *pair)
            .collect();
        leader.apart_since = apart_since;
        if apart.is_empty() || self.incarnation().is_none() {
            return;
        }
        let weights: Vec<(NodeId, u32)> = members
            .iter()
            .map(|m| (m.node, self.votes(m.node)))
            .collect();
        let kept = connected::keep(&weights, self.config.me, &apart);
        let votes: u32 = kept.iter().map(|node| self.votes(*node)).sum();
        if votes * 2 <= self.votes_total() {
            // Without quorum nobody could act; as it is, those who hear each other can.
            return;
        }
        for member in members.iter().filter(|m| !kept.contains(&m.node)) {
            let deaf: Vec<String> = apart
                .iter()
                .filter_map(|(a, b)| match member.node {
                    node if node == *a => Some(b.to_string()),
                    node if node == *b => Some(a.to_string()),
                    _ => None,
                })
                .collect();
            let command = Command::Remove {
                node: member.node,
                incarnation: member.incarnation,
                reason: Reason::MembersDisconnected,
                detail: format!(
                    "not connected with node {}; kept are the members with most votes that hear \
                     each other",
                    deaf.join(", ")
                ),
            };
            leader.propose(now, Subject::Remove(member.node), command, out);
        }
    }

    /// From when on a member may be expected to hear the others.
    fn known_for(&self, member: &Member) -> Instant {
        let known = self.known_since.get(&(member.node, member.boot));
        known.map_or(Instant::ZERO, |at| *at + self.timings.dead)
    }
}

/// Whether two lives hear each other, by their own word.
fn are_connected(
    voices: &BTreeMap<NodeId, Voice>,
    a: (NodeId, BootId),
    b: (NodeId, BootId),
) -> bool {
    let hears = |x: (NodeId, BootId), y: (NodeId, BootId)| {
        let voice = voices.get(&x.0);
        voice.is_some_and(|v| v.boot == x.1 && v.hears.contains(&y))
    };
    hears(a, b) && hears(b, a)
}
