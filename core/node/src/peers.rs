//! Frames to and from other nodes.
//!
//! Three kinds of traffic share the links: membership messages and messages of the replicated log,
//! which may be lost, and the channel of the lock managers, which repeats what is lost.

use crate::{
    Effect, Node, PersistSeq,
    flow::{self, Flow},
};
use mainstay_base::{BootId, Instant, LinkId, NodeId};
use mainstay_consensus::{Consensus, ReceiveError};
use mainstay_link::Channel;
use mainstay_membership::{Command, Output};
use mainstay_wire::{
    codec,
    dlm::{Body, Message},
    event::{Reason, What},
};

/// First byte of a frame.
const MEMBERSHIP: u8 = 1;
const LOG: u8 = 2;
const CHANNEL: u8 = 3;
const FORWARD: u8 = 4;

/// Whether a frame is of the channel between the lock managers.
pub(crate) fn is_channel_frame(frame: &[u8]) -> bool {
    frame.first() == Some(&CHANNEL)
}

/// A channel that has so many bytes to deliver is congested.
const CONGESTED: usize = 8 << 20;

/// More disks than any node is given in the life of another.
const DISKS_PER_NODE: usize = 64;

/// Frames packed for one peer at a time; more follow with the next flush.
const FRAMES_PER_FLUSH: usize = 8;

/// Another node, as a partner in conversation.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) channel: Channel,
    /// What is meant for a life of the peer that the channel has not met yet, and whether it will count for
    /// the flow.
    waiting: Vec<(BootId, bool, Vec<u8>)>,
    waiting_bytes: usize,
    /// What of a recovery it has not taken yet.
    pub(crate) flow: Flow,
    /// The link by which the channel was last heard.
    heard: Option<LinkId>,
    /// Refused messages, each text told once.
    complaints: Vec<String>,
}

impl Peer {
    pub(crate) fn new(boot: BootId, now: Instant) -> Peer {
        Peer {
            channel: Channel::new(boot, now),
            waiting: Vec::new(),
            waiting_bytes: 0,
            flow: Flow::default(),
            heard: None,
            complaints: Vec::new(),
        }
    }

    pub(crate) fn congested(&self) -> bool {
        self.channel.backlog_bytes() + self.waiting_bytes > CONGESTED
    }

    /// The link to use: the one by which the peer was heard last, or the first that is up, and
    /// another each time that no acknowledgement came by it. So a link that died is left long
    /// before its silence is noticed, by both sides.
    fn link(&self, mut up: impl Iterator<Item = LinkId> + Clone) -> LinkId {
        let count = up.clone().count();
        let heard = up.clone().position(|link| Some(link) == self.heard);
        let turn = heard.unwrap_or_default() + self.channel.timeouts() as usize;
        up.nth(turn.checked_rem(count).unwrap_or_default())
            .unwrap_or_default()
    }

    /// Whether everything said to the peer has been delivered.
    pub(crate) fn delivered(&self) -> bool {
        self.channel.backlog_messages() == 0 && self.waiting.is_empty()
    }
}

impl Node {
    pub(crate) fn on_frame(&mut self, now: Instant, from: NodeId, link: LinkId, bytes: &[u8]) {
        if !self.peers.contains_key(&from) {
            return; // The transport admits configured nodes only.
        }
        match bytes.split_first() {
            Some((&MEMBERSHIP, body)) => {
                let mut out = Vec::new();
                self.membership.receive(now, from, link, body, &mut out);
                self.on_membership(now, out);
            }
            Some((&LOG, body)) => self.on_log_message(from, body),
            Some((&CHANNEL, body)) => self.on_channel_frame(now, from, link, body),
            Some((&FORWARD, body)) => self.on_forward(from, body),
            Some((kind, _)) => self.complain(from, format!("a frame of unknown kind {kind}")),
            None => self.complain(from, "an empty frame".to_owned()),
        }
    }

    pub(crate) fn on_link_up(&mut self, now: Instant, peer: NodeId, link: LinkId) {
        let mut out = Vec::new();
        self.membership.link_connected(now, peer, link, &mut out);
        self.on_membership(now, out);
        if let Some(peer) = self.peers.get_mut(&peer) {
            peer.channel.resume(now);
        }
    }

    pub(crate) fn on_link_down(&mut self, now: Instant, peer: NodeId, link: LinkId, detail: &str) {
        let mut out = Vec::new();
        self.membership
            .link_broken(now, peer, link, detail, &mut out);
        self.on_membership(now, out);
    }

    fn on_log_message(&mut self, from: NodeId, body: &[u8]) {
        let Some(consensus) = &mut self.consensus else {
            return;
        };
        match Consensus::sender(body) {
            Ok(disk) => {
                let of_sender = self.disks.values().filter(|node| **node == from);
                match self.disks.get(&disk) {
                    Some(known) if *known != from => {
                        let text =
                            format!("a log message from disk {disk}, which is node {known}'s");
                        return self.complain(from, text);
                    }
                    Some(_) => {}
                    None if of_sender.count() >= DISKS_PER_NODE => {
                        let text = format!("log messages from more than {DISKS_PER_NODE} disks");
                        return self.complain(from, text);
                    }
                    None => {
                        self.disks.insert(disk, from);
                    }
                }
            }
            Err(error) => return self.complain(from, error.to_string()),
        }
        match consensus.receive(body) {
            Ok(()) => {}
            // A member that was replaced still talks to its old group for a while, and the other
            // way round.
            Err(ReceiveError::NotForMe { .. }) => {}
            Err(error @ ReceiveError::LogLost { .. }) => {
                self.stop(Reason::DiskFailed, false, error.to_string());
            }
            Err(error) => self.complain(from, error.to_string()),
        }
    }

    fn on_channel_frame(&mut self, now: Instant, from: NodeId, link: LinkId, body: &[u8]) {
        let Some(peer) = self.peers.get_mut(&from) else {
            return;
        };
        peer.heard = Some(link);
        let mut messages = Vec::new();
        match peer
            .channel
            .receive(now, body, |message| messages.push(message.to_vec()))
        {
            Ok(None) => {}
            Ok(Some(change)) => self.greet_waiting(from, change.new),
            Err(error) => return self.complain(from, error.to_string()),
        }
        let Some(boot) = self.peers.get(&from).and_then(|p| p.channel.peer()) else {
            return;
        };
        for message in messages {
            let limit = mainstay_link::MESSAGE_LEN_MAX;
            match codec::decode::<Message>("lock message", limit, &message) {
                Ok(message) => match message.body {
                    Body::Query { query, filter } => {
                        self.on_query(now, from, query, filter, false, true);
                    }
                    Body::QueryWaits { query, filter } => {
                        self.on_query(now, from, query, filter, true, false);
                    }
                    Body::QueryResources { query, filter } => {
                        self.on_query(now, from, query, filter, false, false);
                    }
                    Body::QueryContention {
                        query,
                        space,
                        after,
                        limit,
                    } => self.on_query_contention(now, from, query, space, after, limit),
                    part @ Body::ContentionPart { .. } => self.on_contention_part(now, from, part),
                    Body::QueryOwners { query, locks } => {
                        self.on_query_owners(now, from, query, &locks);
                    }
                    Body::QuerySessions { query, sessions } => {
                        self.on_query_sessions(from, query, &sessions);
                    }
                    Body::QueryPart {
                        query,
                        resources,
                        owners,
                        truncated,
                        last,
                    } => {
                        self.on_query_part(now, from, query, resources, owners, truncated, last);
                    }
                    body @ (Body::QueryOrphans { .. }
                    | Body::OrphansPart { .. }
                    | Body::PurgeOrphans { .. }
                    | Body::OrphansPurged { .. }) => self.on_orphans(now, from, body),
                    Body::QueryMasters { query } => self.on_query_masters(from, query),
                    Body::QueryMastered {
                        query,
                        mastered,
                        grants,
                    } => {
                        self.on_query_mastered(now, from, query, (mastered, grants));
                    }
                    _ => self.dlm.receive(now, from, boot, message),
                },
                Err(error) => {
                    // What follows it depends on it: this peer cannot be understood any more.
                    let text = format!("node {from} sent what cannot be understood: {error}");
                    return self.stop(Reason::ProtocolViolation, false, text);
                }
            }
        }
    }

    /// The channel has met a life of the peer: what waited for it goes out.
    fn greet_waiting(&mut self, peer: NodeId, boot: BootId) {
        let Some(peer) = self.peers.get_mut(&peer) else {
            return;
        };
        peer.waiting_bytes = 0;
        peer.flow = Flow::default(); // The numbers begin anew.
        for (to, bulk, bytes) in std::mem::take(&mut peer.waiting) {
            if to == boot {
                if bulk {
                    peer.flow.said(peer.channel.next_number(), bytes.len());
                }
                let _ = peer.channel.send(bytes); // Its length was checked when it was queued.
            } else {
                peer.waiting_bytes += bytes.len();
                peer.waiting.push((to, bulk, bytes));
            }
        }
    }

    /// Says something to a member's lock manager, in the life that the view names.
    pub(crate) fn say(&mut self, to: NodeId, body: Body) {
        let view = self.state.view();
        let epoch = view.epoch;
        let Some(boot) = view.member(to).map(|m| m.boot) else {
            return;
        };
        let bulk = flow::is_bulk(&body);
        let bytes = codec::to_vec(&Message { epoch, body });
        let Some(peer) = self.peers.get_mut(&to) else {
            return;
        };
        if peer.channel.peer() == Some(boot) && peer.waiting.is_empty() {
            if bulk {
                peer.flow.said(peer.channel.next_number(), bytes.len());
            }
            if let Err(error) = peer.channel.send(bytes) {
                self.stop(
                    Reason::ProtocolViolation,
                    false,
                    format!("own message: {error}"),
                );
            }
        } else {
            peer.waiting_bytes += bytes.len();
            peer.waiting.push((boot, bulk, bytes));
        }
    }

    /// Forgets what was to be said to lives that are members no more.
    pub(crate) fn forget_old_lives(&mut self) {
        let view = self.state.view().clone();
        for (node, peer) in &mut self.peers {
            peer.waiting
                .retain(|(boot, ..)| view.has_boot(*node, *boot));
            peer.waiting_bytes = peer.waiting.iter().map(|(.., bytes)| bytes.len()).sum();
        }
    }

    pub(crate) fn pack_frames(&mut self, now: Instant) {
        let mut body = Vec::new();
        for (&node, peer) in &mut self.peers {
            for _ in 0..FRAMES_PER_FLUSH {
                if !peer.channel.pack(now, &mut body) {
                    break;
                }
                self.out.push(Effect::Send {
                    to: node,
                    link: peer.link(self.membership.links_up(node)),
                    frame: frame(CHANNEL, &body),
                    after: None,
                });
            }
        }
    }

    pub(crate) fn send_log(&mut self, to: NodeId, message: &[u8], after: Option<PersistSeq>) {
        self.send_frame(to, LOG, message, after);
    }

    pub(crate) fn send_forward(&mut self, to: NodeId, command: &Command) {
        self.send_frame(to, FORWARD, &command.encode(), None);
    }

    fn send_frame(&mut self, to: NodeId, kind: u8, body: &[u8], after: Option<PersistSeq>) {
        let link = self
            .peers
            .get(&to)
            .map(|peer| peer.link(self.membership.links_up(to)));
        let link = link.unwrap_or_default();
        self.out.push(Effect::Send {
            to,
            link,
            frame: frame(kind, body),
            after,
        });
    }

    pub(crate) fn on_membership(&mut self, now: Instant, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Send { to, link, bytes } => {
                    let frame = frame(MEMBERSHIP, &bytes);
                    self.out.push(Effect::Send {
                        to,
                        link,
                        frame,
                        after: None,
                    });
                }
                Output::Propose(command) => {
                    if let Some(consensus) = &mut self.consensus {
                        // A refusal is momentary: the agent repeats it.
                        let _ = consensus.propose(command.encode());
                    }
                }
                Output::Lease(until) => {
                    // A leaving node lets its lease run out.
                    if self.leaving.is_none() || until == Instant::ZERO {
                        self.show_lease(until);
                    }
                }
                Output::Link {
                    peer,
                    link,
                    up,
                    reason,
                    detail,
                } => {
                    let what = if up {
                        What::LinkUp { peer, link }
                    } else {
                        What::LinkDown { peer, link }
                    };
                    self.event(what, reason, detail);
                    if let Some(peer) = self.peers.get_mut(&peer) {
                        peer.heard = None;
                        peer.channel.resume(now);
                    }
                }
                Output::Peer {
                    peer, reachable, ..
                } => self.on_peer(peer, reachable),
                Output::Removed { detail } => self.be_reborn(Reason::Removed, detail),
                Output::Left => self.left(now),
                Output::Founded { founding, .. } => self.on_founded(now, founding),
                Output::ReplaceVoter { node, old, new, .. } => self.replace_voter(node, old, new),
                Output::HandOver { to } => self.hand_over(to),
                Output::Complaint { peer, detail } => self.complain(peer, detail),
            }
        }
    }

    fn on_peer(&mut self, peer: NodeId, reachable: bool) {
        let disk = self
            .disks
            .iter()
            .find(|(_, node)| **node == peer)
            .map(|(disk, _)| *disk);
        if let (false, Some(consensus), Some(disk)) = (reachable, &mut self.consensus, disk) {
            consensus.report_unreachable(disk);
        }
    }

    /// Tells of a message that was refused; each text once per peer and life, a few at most.
    pub(crate) fn complain(&mut self, from: NodeId, detail: String) {
        const KEPT: usize = 16;
        let Some(peer) = self.peers.get_mut(&from) else {
            return;
        };
        if peer.complaints.len() >= KEPT || peer.complaints.contains(&detail) {
            return;
        }
        peer.complaints.push(detail.clone());
        let what = What::Refused {
            peer: Some(from),
            link: LinkId(0),
        };
        self.event(what, Reason::ProtocolViolation, detail);
    }
}

fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(body.len() + 1);
    frame.push(kind);
    frame.extend_from_slice(body);
    frame
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::time::Duration;

    /// Protects calls in flight when one of two links dies: their repetition takes the other link,
    /// and the answer takes the link by which it was asked.
    #[test]
    fn a_repetition_takes_another_link() {
        let up = || (0..2).map(LinkId);
        let (mut now, mut frame) = (Instant::ZERO, Vec::new());
        let mut a = Peer::new(BootId(1), now);
        let mut b = Peer::new(BootId(2), now);
        let carry = |from: &mut Peer, to: &mut Peer, now| {
            let mut frame = Vec::new();
            while from.channel.pack(now, &mut frame) {
                to.channel.receive(now, &frame, |_| {}).expect("sound");
            }
        };
        while a.channel.peer().is_none() || b.channel.peer().is_none() {
            carry(&mut a, &mut b, now);
            carry(&mut b, &mut a, now);
            now = now + Duration::from_millis(1);
        }
        a.channel.send(b"call".to_vec()).expect("short");
        let mut taken = Vec::new();
        for _ in 0..400 {
            if a.channel.pack(now, &mut frame) {
                taken.push(a.link(up()));
            }
            now = now + Duration::from_millis(1);
        }
        assert_eq!(taken[..3], [LinkId(0), LinkId(1), LinkId(0)]);
        b.heard = Some(LinkId(1));
        assert_eq!(b.link(up()), LinkId(1));
        assert_eq!(b.link(up().take(1)), LinkId(0), "a link that is down");
        assert_eq!(b.link(up().take(0)), LinkId(0), "no link at all");
    }
}
