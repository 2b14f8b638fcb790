//! Three lock managers, whose messages and whose log a test carries by hand.

#![allow(dead_code, reason = "each test file uses a part of it")]

mod log;

use core::time::Duration;
use mainstay_base::{
    BootId, ByteRange, Epoch, Fairness, Incarnation, Instant, LockMode, LockspaceId, MastersConfig,
    NodeId, ResourceName, SessionId, Value, ValueBlock, ValueUpdate,
};
use mainstay_dlm::{ChildCall, ConvertCall, Dlm, LockCall, Move, Out, RangeCall, UnlockCall};
use mainstay_membership::{Member, Survivor, SurvivorKey, SurvivorStep, View, directory_node};
use mainstay_wire::{
    client::{Answer, Handle},
    codec,
    dlm::Message,
    lock::{Flags, Granted, Refusal},
};
use std::collections::{BTreeMap, VecDeque};

pub(crate) const SPACE: LockspaceId = LockspaceId(1);
pub(crate) const AFTER: u16 = 8;
/// What the links between nodes carry at most.
const MESSAGE_LEN_MAX: usize = 128 << 10;

pub(crate) struct World {
    pub(crate) now: Instant,
    pub(crate) epoch: Epoch,
    /// The lockspace of the calls to come.
    pub(crate) space: LockspaceId,
    pub(crate) nodes: BTreeMap<u16, Dlm>,
    pub(crate) mail: VecDeque<(u16, u16, Message)>,
    /// Mail from a node that does not arrive for now.
    pub(crate) silent: Option<u16>,
    /// Mail from one node to another that does not.
    pub(crate) parted: Option<(u16, u16)>,
    /// What the log was asked to commit.
    pub(crate) proposed: Vec<Move>,
    /// What it was asked to say of surviving locks.
    pub(crate) steps: VecDeque<(u16, SurvivorStep)>,
    /// The node that applies the log last.
    pub(crate) behind: Option<u16>,
    /// It says nothing for now.
    pub(crate) log_waits: bool,
    /// It has no room for more.
    pub(crate) log_full: bool,
    /// What it has said.
    pub(crate) survivors: BTreeMap<SurvivorKey, Survivor>,
    changes: u64,
    /// Answers by node and request.
    pub(crate) answers: BTreeMap<(u16, u64), Result<Answer, Refusal>>,
    pub(crate) notices: Vec<(u16, Handle, LockMode)>,
    pub(crate) range_notices: Vec<(u16, Handle, ByteRange)>,
    /// What those were told last who watch, by node.
    pub(crate) watched: BTreeMap<u16, Value>,
    /// Messages so far.
    pub(crate) said: u64,
    pub(crate) requests: u64,
}

impl World {
    pub(crate) fn new(config: &MastersConfig) -> World {
        let mut world = World {
            now: Instant::from_millis(10_000),
            epoch: Epoch(0),
            space: SPACE,
            nodes: BTreeMap::new(),
            mail: VecDeque::new(),
            silent: None,
            parted: None,
            proposed: Vec::new(),
            steps: VecDeque::new(),
            behind: None,
            log_waits: false,
            log_full: false,
            survivors: BTreeMap::new(),
            changes: 0,
            answers: BTreeMap::new(),
            notices: Vec::new(),
            range_notices: Vec::new(),
            watched: BTreeMap::new(),
            said: 0,
            requests: 0,
        };
        for node in 1..=3 {
            let mut dlm = Dlm::new(NodeId(node), 64);
            dlm.add_space(SPACE, 8, Fairness::default());
            dlm.configure_masters(config.clone());
            dlm.open_session(SessionId(1));
            dlm.open_session(SessionId(2));
            world.nodes.insert(node, dlm);
        }
        world.install(&[1, 2, 3]);
        world
    }

    /// Masters that move after few calls.
    pub(crate) fn eager() -> World {
        World::new(&MastersConfig {
            after: AFTER,
            ..MastersConfig::default()
        })
    }

    pub(crate) fn install(&mut self, members: &[u16]) {
        self.epoch = self.epoch.next();
        let view = self.view_of(members);
        for dlm in self.nodes.values_mut() {
            dlm.install(self.now, view.clone());
            dlm.view_settled(self.now);
            dlm.set_active(self.now, true);
        }
        self.settle();
    }

    fn view_of(&self, members: &[u16]) -> View {
        let members = members.iter().map(|&node| Member {
            node: NodeId(node),
            incarnation: Incarnation(1),
            boot: BootId(u64::from(node) + 100),
            joined: Epoch(1),
        });
        View {
            epoch: self.epoch,
            members: members.collect(),
            members_since: self.epoch,
            quorate: true,
            pending: Vec::new(),
        }
    }

    pub(crate) fn collect(&mut self) {
        for (&node, dlm) in &mut self.nodes {
            let mut outputs = Vec::new();
            dlm.take_outputs(&mut outputs);
            for output in outputs {
                match output {
                    Out::Send { to, body } => {
                        self.said += 1;
                        let epoch = self.epoch;
                        let message = Message { epoch, body };
                        let len = codec::to_vec(&message).len();
                        assert!(len <= MESSAGE_LEN_MAX, "{len} bytes in one message");
                        self.mail.push_back((node, to.0, message));
                    }
                    Out::Done {
                        request, result, ..
                    } => {
                        self.answers.insert((node, request), result);
                    }
                    Out::Blocking { handle, mode, .. } => self.notices.push((node, handle, mode)),
                    Out::RangeBlocking { handle, range, .. } => {
                        self.range_notices.push((node, handle, range));
                    }
                    Out::ValueChanged { value, .. } => {
                        self.watched.insert(node, value);
                    }
                    Out::Move(batch, _) => self.proposed.push(batch),
                    Out::Survive(step) => self.steps.push_back((node, step)),
                    Out::Fatal(why) => panic!("node {node}: {why}"),
                    _ => {}
                }
            }
            dlm.check_at_rest();
        }
    }

    /// Carries messages until nothing is said any more, but for those of a silent node.
    pub(crate) fn settle(&mut self) {
        self.collect();
        let (silent, parted) = (self.silent, self.parted);
        let loud = |(from, to, _): &(u16, u16, Message)| {
            Some(*from) != silent && Some((*from, *to)) != parted
        };
        while let Some(at) = self.mail.iter().position(loud) {
            let (from, to, message) = self.mail.remove(at).unwrap();
            let boot = BootId(u64::from(from) + 100);
            let Some(dlm) = self.nodes.get_mut(&to) else {
                continue; // It died before it could hear that.
            };
            dlm.receive(self.now, NodeId(from), boot, message);
            self.collect();
        }
        if !self.log_waits && self.decide_next() {
            self.settle();
        }
    }

    /// Carries so many messages, in the order in which they were said.
    pub(crate) fn carry(&mut self, count: usize) {
        self.collect();
        for _ in 0..count {
            let Some((from, to, message)) = self.mail.pop_front() else {
                return;
            };
            let boot = BootId(u64::from(from) + 100);
            let dlm = self.nodes.get_mut(&to).unwrap();
            dlm.receive(self.now, NodeId(from), boot, message);
            self.collect();
        }
    }

    pub(crate) fn wait(&mut self, ms: u64) {
        self.now = self.now + Duration::from_millis(ms);
        for dlm in self.nodes.values_mut() {
            dlm.tick(self.now);
        }
        self.settle();
    }

    pub(crate) fn lock_call(
        &mut self,
        handle: u64,
        name: &str,
        mode: LockMode,
        flags: Flags,
    ) -> LockCall {
        self.requests += 1;
        LockCall {
            handle: Handle(handle),
            space: self.space,
            name: ResourceName::new(name).unwrap(),
            mode,
            flags,
            blocking: true,
            deadline: None,
        }
    }

    pub(crate) fn lock(
        &mut self,
        node: u16,
        handle: u64,
        name: &str,
        mode: LockMode,
        flags: Flags,
    ) -> u64 {
        let call = self.lock_call(handle, name, mode, flags);
        let request = self.requests;
        let dlm = self.nodes.get_mut(&node).unwrap();
        dlm.lock(self.now, SessionId(1), request, call);
        self.settle();
        request
    }

    /// Asks for a lock beneath another of the node's.
    pub(crate) fn under(
        &mut self,
        node: u16,
        parent: u64,
        handle: u64,
        name: &str,
        mode: LockMode,
    ) -> u64 {
        let request = self.begin_under(node, parent, handle, name, mode);
        self.settle();
        request
    }

    /// The same, and nothing is carried yet.
    pub(crate) fn begin_under(
        &mut self,
        node: u16,
        parent: u64,
        handle: u64,
        name: &str,
        mode: LockMode,
    ) -> u64 {
        self.requests += 1;
        let call = ChildCall {
            parent: Handle(parent),
            handle: Handle(handle),
            name: ResourceName::new(name).unwrap(),
            mode,
            flags: Flags::NONE,
            blocking: true,
            deadline: None,
        };
        let request = self.requests;
        let dlm = self.nodes.get_mut(&node).unwrap();
        dlm.lock_under(self.now, SessionId(1), request, call);
        request
    }

    /// Releases all beneath a lock, or all that the node's client has.
    pub(crate) fn unlock_tree(&mut self, node: u16, root: Option<u64>, itself: bool) -> u64 {
        self.requests += 1;
        let (request, now) = (self.requests, self.now);
        let dlm = self.nodes.get_mut(&node).unwrap();
        dlm.unlock_tree(now, SessionId(1), request, root.map(Handle), itself);
        self.settle();
        request
    }

    pub(crate) fn answer(&self, node: u16, request: u64) -> Option<&Result<Answer, Refusal>> {
        self.answers.get(&(node, request))
    }

    pub(crate) fn convert(
        &mut self,
        node: u16,
        handle: u64,
        mode: LockMode,
        value: Option<&[u8]>,
    ) -> u64 {
        self.requests += 1;
        let call = ConvertCall {
            handle: Handle(handle),
            mode,
            flags: Flags::VALBLK,
            blocking: true,
            value: value.map(|bytes| ValueBlock::new(bytes).unwrap()),
            deadline: None,
        };
        let request = self.requests;
        let dlm = self.nodes.get_mut(&node).unwrap();
        dlm.convert(self.now, SessionId(1), request, call);
        self.settle();
        request
    }

    pub(crate) fn unlock(&mut self, node: u16, handle: u64) -> u64 {
        self.requests += 1;
        let call = UnlockCall {
            handle: Handle(handle),
            flags: Flags::NONE,
            value: None,
        };
        let request = self.requests;
        let dlm = self.nodes.get_mut(&node).unwrap();
        dlm.unlock(self.now, SessionId(1), request, call);
        self.settle();
        request
    }

    /// Counts the value block up.
    pub(crate) fn count(&mut self, node: u16, handle: u64) -> u64 {
        self.requests += 1;
        let (request, update) = (self.requests, ValueUpdate::Add { delta: 1 });
        let dlm = self.nodes.get_mut(&node).unwrap();
        dlm.update_value(self.now, SessionId(1), request, Handle(handle), update);
        self.settle();
        request
    }

    pub(crate) fn counted(&self, node: u16, request: u64) -> Option<i64> {
        match self.answers.get(&(node, request)) {
            Some(Ok(Answer::Updated(updated))) => Some(updated.value.count()),
            _ => None,
        }
    }

    /// Sets a range of a lock to a mode.
    pub(crate) fn range(
        &mut self,
        node: u16,
        handle: u64,
        name: &str,
        range: (u64, u64),
        mode: LockMode,
        blocking: bool,
    ) -> u64 {
        self.requests += 1;
        let call = RangeCall {
            blocking,
            ..range_call(handle, name, range, mode)
        };
        let request = self.requests;
        let dlm = self.nodes.get_mut(&node).unwrap();
        dlm.range(self.now, SessionId(1), request, call);
        self.settle();
        request
    }

    /// A node uses a resource so much that it had better master it.
    pub(crate) fn use_much(&mut self, node: u16, name: &str) {
        for _ in 0..AFTER {
            self.lock(node, 900, name, LockMode::Nl, Flags::EXPEDITE);
            self.unlock(node, 900);
        }
    }

    /// The log decides about what was proposed.
    pub(crate) fn commit(&mut self, done: bool) -> usize {
        let batches = std::mem::take(&mut self.proposed);
        self.apply(&[1, 2, 3], &batches, done);
        batches.len()
    }

    /// The log commits what was proposed, and only these nodes hear of it for now: what.
    pub(crate) fn commit_at(&mut self, nodes: &[u16]) -> Vec<Move> {
        let batches = std::mem::take(&mut self.proposed);
        self.apply(nodes, &batches, true);
        batches
    }

    pub(crate) fn apply(&mut self, nodes: &[u16], batches: &[Move], done: bool) {
        for batch in batches {
            for node in nodes {
                let dlm = self.nodes.get_mut(node).unwrap();
                dlm.on_move(self.now, batch, done);
            }
        }
        self.settle();
    }

    pub(crate) fn granted(&self, node: u16, request: u64) -> Option<&Granted> {
        match self.answers.get(&(node, request)) {
            Some(Ok(Answer::Granted(granted))) => Some(granted),
            _ => None,
        }
    }

    /// How many resources a node masters.
    pub(crate) fn mastered(&self, node: u16) -> u64 {
        let counts = self.nodes[&node].counts();
        counts.get(&self.space).map_or(0, |counts| counts.mastered)
    }

    /// The nodes that master anything.
    pub(crate) fn masters(&self) -> Vec<u16> {
        let all = self.nodes.keys().copied();
        all.filter(|node| self.mastered(*node) > 0).collect()
    }
}

/// A name whose directory is that node.
pub(crate) fn name_at(directory: u16) -> String {
    let mut names = (0..).map(|i| format!("r{i}"));
    names.find(|name| is_at(name, directory)).unwrap()
}

/// Whether the directory of a name is that node.
pub(crate) fn is_at(name: &str, directory: u16) -> bool {
    let ids = [NodeId(1), NodeId(2), NodeId(3)];
    let name = ResourceName::new(name).unwrap();
    directory_node(&ids, SPACE, &name) == Some(NodeId(directory))
}

/// A call for a range that says nothing else.
pub(crate) fn range_call(handle: u64, name: &str, range: (u64, u64), mode: LockMode) -> RangeCall {
    RangeCall {
        handle: Handle(handle),
        space: SPACE,
        name: ResourceName::new(name).unwrap(),
        range: ByteRange::new(range.0, range.1).unwrap(),
        mode,
        flags: Flags::NONE,
        blocking: false,
        deadline: None,
    }
}
