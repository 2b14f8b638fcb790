//! A small cluster around a node under attack: true nodes on a network that loses nothing, and an
//! impostor, which has the cluster key and knows the protocol, and says what it is told to.

use mainstay_base::SessionId;
use mainstay_base::{
    BootId, DiskId, Epoch, FencePolicy, Incarnation, Instant, LinkId, NodeId, NodeName, NodeSpec,
    Timings,
};
use mainstay_link::Channel;
use mainstay_membership::{
    Message,
    message::{Heard, Heartbeat, HeartbeatAck, Quiet, Wish},
};
use mainstay_node::{BootInfo, Effect, Input, Node, NodeConfig, Outbox, PersistSeq};
use mainstay_wire::{client::ToClient, lock::Refusal};
use std::{collections::BTreeMap, time::Duration};

/// The node under attack.
pub(crate) const VICTIM: NodeId = NodeId(1);
/// The impostor.
pub(crate) const IMPOSTOR: NodeId = NodeId(9);

/// First bytes of frames, as `docs/protocol` has them.
pub(crate) const MEMBERSHIP: u8 = 1;
/// A message of the replicated log.
pub(crate) const LOG: u8 = 2;
/// A frame of the channel between lock managers.
pub(crate) const CHANNEL: u8 = 3;

const LINK: LinkId = LinkId(0);
const HOP: Duration = Duration::from_millis(1);
/// Frames of the log kept to be tampered with and sent again.
const KEPT: usize = 16;

/// A true node, its disk and its clients.
struct Host {
    node: Option<Node>,
    config: NodeConfig,
    records: Vec<(u8, Vec<u8>)>,
    /// What its last life left to the next.
    left: Option<Vec<u8>>,
    boots: u64,
}

/// What the impostor knows and says by itself.
struct Impostor {
    boot: BootId,
    channel: Channel,
    next_round: Instant,
    seq: u64,
    /// The last heartbeat of the victim.
    heard: Option<Heartbeat>,
}

/// The cluster.
pub(crate) struct World {
    /// The clock that all share.
    pub(crate) now: Instant,
    hosts: BTreeMap<NodeId, Host>,
    impostor: Impostor,
    flying: Vec<(NodeId, NodeId, Vec<u8>)>,
    /// Frames of the log that true nodes sent.
    pub(crate) kept: Vec<Vec<u8>>,
    /// What the victim's clients heard.
    pub(crate) told: Vec<(SessionId, ToClient)>,
    /// What became of connections on which its clients wanted to go on with a session: how many answers
    /// were still to come, or why they were turned away.
    pub(crate) continued: Vec<(SessionId, Result<u64, Refusal>)>,
    /// Why the victim stopped, if it did.
    pub(crate) stopped: Option<String>,
    /// The next frame of another true node to the victim goes through this.
    pub(crate) tamper: Option<Vec<u8>>,
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World")
            .field("now", &self.now)
            .finish_non_exhaustive()
    }
}

/// The victim's configuration in a cluster of these nodes.
#[must_use]
pub(crate) fn config(ids: &[NodeId]) -> NodeConfig {
    let node = |&id: &NodeId| NodeSpec {
        id,
        name: NodeName::new(format!("n{id}")).expect("letters and digits"),
        votes: 1,
        links: 1,
    };
    NodeConfig {
        cluster: "fuzz".to_owned(),
        me: VICTIM,
        nodes: ids.iter().map(node).collect(),
        timings: Timings::default(),
        fencing: FencePolicy::Lease,
        deadlock: mainstay_base::DeadlockConfig::default(),
        orphan_expiry: None,
        max_grace: std::time::Duration::from_secs(60),
        max_rest: std::time::Duration::from_secs(60),
        masters: mainstay_base::MastersConfig::default(),
        slice: mainstay_node::SLICE,
        window: mainstay_node::WINDOW,
    }
}

impl World {
    /// The victim, as many other true nodes as asked for, and the impostor if there is to be one;
    /// settled. Of three nodes or more, the true ones must be a majority: the impostor never votes.
    #[must_use]
    pub(crate) fn new(others: u16, impostor: bool) -> World {
        World::configured(others, impostor, |_| {})
    }

    /// The same, with nodes that are configured a little differently.
    #[must_use]
    pub(crate) fn configured(
        others: u16,
        impostor: bool,
        change: impl Fn(&mut NodeConfig),
    ) -> World {
        let true_nodes = (1..=1 + others).map(NodeId);
        let ids: Vec<_> = true_nodes
            .clone()
            .chain(impostor.then_some(IMPOSTOR))
            .collect();
        let now = Instant::from_millis(1000);
        let boot = BootId(900);
        let mut world = World {
            now,
            hosts: BTreeMap::new(),
            impostor: Impostor {
                boot,
                channel: Channel::new(boot, now),
                next_round: now,
                seq: 0,
                heard: None,
            },
            flying: Vec::new(),
            kept: Vec::new(),
            told: Vec::new(),
            continued: Vec::new(),
            stopped: None,
            tamper: None,
        };
        for id in true_nodes {
            let mut config = config(&ids);
            config.me = id;
            change(&mut config);
            let host = Host {
                node: None,
                config,
                records: Vec::new(),
                left: None,
                boots: 0,
            };
            world.hosts.insert(id, host);
            world.start(id);
        }
        let members = ids.len();
        for _ in 0..50 {
            let settled = |node: &Node| node.cluster_state().view().members.len() == members;
            if world.victim().is_some_and(settled) {
                break;
            }
            world.run(Duration::from_millis(200));
        }
        world.run(Duration::from_millis(300));
        world
    }

    /// The node under attack, while it lives.
    #[must_use]
    pub(crate) fn victim(&self) -> Option<&Node> {
        self.hosts.get(&VICTIM).and_then(|host| host.node.as_ref())
    }

    /// The life of the impostor.
    #[must_use]
    pub(crate) fn impostor_boot(&self) -> BootId {
        self.impostor.boot
    }

    /// The view's number as the victim knows it.
    #[must_use]
    pub(crate) fn epoch(&self) -> Epoch {
        self.victim()
            .map_or(Epoch(0), |node| node.cluster_state().view().epoch)
    }

    /// The epoch since which the members are these.
    pub(crate) fn members_since(&self) -> Epoch {
        let view = self
            .victim()
            .map(|node| node.cluster_state().view().clone());
        view.map_or(Epoch(0), |view| view.members_since)
    }

    /// The records that the victim has made durable.
    #[must_use]
    pub(crate) fn records(&self) -> &[(u8, Vec<u8>)] {
        &self.hosts[&VICTIM].records
    }

    /// Starts a node from its disk.
    pub(crate) fn start(&mut self, id: NodeId) {
        let now = self.now;
        let Some(host) = self.hosts.get_mut(&id) else {
            return;
        };
        host.boots += 1;
        let boot = u64::from(id.0) * 1000 + host.boots;
        let info = BootInfo {
            carried: host.left.take(),
            boot: BootId(boot),
            disk: DiskId(u64::from(id.0)),
            records: host.records.clone(),
            entropy: boot,
        };
        let booted = Node::boot(now, host.config.clone(), info);
        host.node = Some(booted.expect("a node starts from what it wrote"));
        self.input(id, Input::Wake);
    }

    /// Stops the victim without a word, and starts it again.
    pub(crate) fn restart(&mut self) {
        self.told.clear();
        self.start(VICTIM);
    }

    /// Gives a true node an input and carries out what it wants done.
    pub(crate) fn input(&mut self, id: NodeId, input: Input) {
        // As a daemon does after each round of what clients ask; frames make a round in `run`.
        let mut wake = matches!(input, Input::Request { .. } | Input::SessionClosed { .. });
        let mut inputs = vec![input];
        while let Some(input) = inputs.pop() {
            let Some(host) = self.hosts.get_mut(&id) else {
                return;
            };
            let Some(node) = &mut host.node else { return };
            let mut outbox = Outbox::default();
            node.step(self.now, input, &mut outbox);
            node.flush(self.now, &mut outbox);
            let mut durable: Option<PersistSeq> = None;
            let (mut reborn, mut written) = (false, false);
            for effect in outbox.effects {
                match effect {
                    Effect::Send { to, frame, .. } => self.flying.push((id, to, frame)),
                    Effect::Persist {
                        seq,
                        records,
                        replace,
                    } => {
                        if replace {
                            host.records.clear();
                        }
                        host.records.extend(records);
                        durable = Some(seq);
                    }
                    Effect::Client { session, message } if id == VICTIM => {
                        self.told.push((session, message));
                    }
                    Effect::Reborn { .. } => reborn = true,
                    Effect::Stop { detail, .. } => {
                        host.node = None;
                        if id == VICTIM {
                            self.stopped = Some(detail);
                        }
                        return;
                    }
                    Effect::Carry { bytes } => {
                        written |= bytes.is_some();
                        host.left = bytes;
                    }
                    Effect::Reattached {
                        connection,
                        unanswered,
                        ..
                    } if id == VICTIM => self.continued.push((connection, Ok(unanswered))),
                    Effect::TurnedAway { connection, why } if id == VICTIM => {
                        self.continued.push((connection, Err(why)));
                    }
                    Effect::Client { .. }
                    | Effect::CloseSession { .. }
                    | Effect::Reattached { .. }
                    | Effect::TurnedAway { .. }
                    | Effect::Lease { .. }
                    | Effect::Event(_)
                    | Effect::Dump { .. } => {}
                }
            }
            if reborn {
                return self.start(id);
            }
            inputs.extend(durable.map(Input::Persisted));
            inputs.extend(written.then_some(Input::Carried { result: Ok(()) }));
            let due = host.node.as_ref().and_then(Node::deadline);
            if inputs.is_empty() && due.is_some_and(|at| at <= self.now) && wake {
                wake = false;
                inputs.push(Input::Wake);
            }
        }
    }

    /// The victim gets a frame of the impostor.
    pub(crate) fn frame(&mut self, bytes: Vec<u8>) {
        let (peer, link) = (IMPOSTOR, LINK);
        self.input(VICTIM, Input::Frame { peer, link, bytes });
    }

    /// The victim gets a message between lock managers, in its turn.
    pub(crate) fn say(&mut self, message: Vec<u8>) {
        // Refused if it is empty or too long: then the impostor says nothing.
        let _ = self.impostor.channel.send(message);
        self.pack();
    }

    /// Lets time pass: every frame takes a millisecond.
    pub(crate) fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.now < end {
            let deadlines = self
                .hosts
                .values()
                .filter_map(|h| h.node.as_ref()?.deadline());
            let next = deadlines.fold(self.impostor.next_round, Instant::min);
            // Who waits for nothing but a time is woken at that time.
            self.now = match self.flying.is_empty() && next > self.now {
                true => next.min(end),
                false => (self.now + HOP).min(end),
            };
            for (from, to, mut bytes) in std::mem::take(&mut self.flying) {
                if bytes.first() == Some(&LOG) {
                    if self.kept.len() == KEPT {
                        self.kept.remove(0);
                    }
                    self.kept.push(bytes.clone());
                }
                if to == IMPOSTOR {
                    self.impostor_hears(from, &bytes);
                    continue;
                }
                if to == VICTIM
                    && let Some(how) = self.tamper.take()
                {
                    crate::Feed::new(&how).tamper(&mut bytes);
                }
                let (peer, link) = (from, LINK);
                self.input(to, Input::Frame { peer, link, bytes });
            }
            let due: Vec<NodeId> = self
                .hosts
                .iter()
                .filter(|(_, h)| {
                    let deadline = h.node.as_ref().and_then(Node::deadline);
                    deadline.is_some_and(|at| at <= self.now)
                })
                .map(|(id, _)| *id)
                .collect();
            for id in due {
                self.input(id, Input::Wake);
            }
            if self.impostor.next_round <= self.now {
                self.impostor.next_round = self.now + Duration::from_millis(100);
                self.heartbeats();
            }
            self.pack();
        }
    }

    fn impostor_hears(&mut self, from: NodeId, bytes: &[u8]) {
        match bytes.split_first() {
            Some((&MEMBERSHIP, body)) => {
                let Ok(Message::Heartbeat(heartbeat)) = Message::decode(body) else {
                    return;
                };
                let ack = HeartbeatAck {
                    to_boot: heartbeat.boot,
                    seq: heartbeat.seq,
                    boot: self.impostor.boot,
                    promise: true,
                    epoch: heartbeat.epoch,
                };
                self.flying.push((
                    IMPOSTOR,
                    from,
                    framed(MEMBERSHIP, &Message::Ack(ack).encode()),
                ));
                if from == VICTIM {
                    self.impostor.heard = Some(heartbeat);
                }
            }
            Some((&CHANNEL, body)) if from == VICTIM => {
                // A victim that was lied to may say what the impostor's channel refuses.
                let _ = self.impostor.channel.receive(self.now, body, |_| {});
            }
            _ => {}
        }
    }

    /// What an honest node in the impostor's place would say of itself.
    #[must_use]
    pub(crate) fn heartbeat(&mut self) -> Option<Heartbeat> {
        let view = self.victim()?.cluster_state().view().clone();
        let heard = self.impostor.heard.clone()?;
        let member = view
            .member(IMPOSTOR)
            .filter(|m| m.boot == self.impostor.boot);
        let pending = view.pending.iter().map(|p| Quiet {
            node: p.node,
            incarnation: p.incarnation,
            age_ms: 60_000,
        });
        self.impostor.seq += 1;
        Some(Heartbeat {
            boot: self.impostor.boot,
            disk: DiskId(9),
            seq: self.impostor.seq,
            config: heard.config,
            cluster: heard.cluster,
            incarnation: member.map(|m| m.incarnation),
            epoch: view.epoch,
            hears: heard
                .hears
                .iter()
                .copied()
                .chain([Heard {
                    node: VICTIM,
                    boot: heard.boot,
                }])
                .filter(|h| h.node != IMPOSTOR)
                .collect(),
            wish: if member.is_some() {
                Wish::None
            } else {
                Wish::Join
            },
            quiet: pending.collect(),
        })
    }

    fn heartbeats(&mut self) {
        let message = match self.heartbeat() {
            Some(heartbeat) => Message::Heartbeat(heartbeat),
            None => Message::Heartbeat(Heartbeat {
                boot: self.impostor.boot,
                disk: DiskId(9),
                seq: 0,
                config: 0,
                cluster: None,
                incarnation: None::<Incarnation>,
                epoch: Epoch(0),
                hears: Vec::new(),
                wish: Wish::None,
                quiet: Vec::new(),
            }),
        };
        let bytes = framed(MEMBERSHIP, &message.encode());
        for to in self.hosts.keys() {
            self.flying.push((IMPOSTOR, *to, bytes.clone()));
        }
    }

    fn pack(&mut self) {
        let mut body = Vec::new();
        for _ in 0..8 {
            if !self.impostor.channel.pack(self.now, &mut body) {
                break;
            }
            self.flying.push((IMPOSTOR, VICTIM, framed(CHANNEL, &body)));
        }
    }
}

/// A frame of a kind.
#[must_use]
pub(crate) fn framed(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind], body].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects the targets from attacking nodes that never came up, and the impostor from being
    /// somebody whom nobody listens to.
    #[test]
    fn the_world_settles_with_the_impostor_in_it() {
        for (others, impostor) in [(0, false), (1, true), (2, true)] {
            let world = World::new(others, impostor);
            let victim = world.victim().expect("it lives");
            let view = victim.cluster_state().view();
            assert_eq!(
                view.members.len(),
                usize::from(others) + 1 + usize::from(impostor)
            );
            assert_eq!(view.member(IMPOSTOR).is_some(), impostor);
            let met = world.impostor.channel.peer().is_some();
            assert_eq!(met, impostor, "the channel to the impostor");
        }
    }
}
