//! What the simulator drives: the node, or a stand-in for it.

use crate::{surviving::Known, users};
use mainstay_base::{Instant, LockspaceName, SessionId};
use mainstay_node::{BootError, BootInfo, Input, Node, NodeConfig, Outbox};
use mainstay_recorder::{Dump, Recorder};
use std::sync::Arc;

/// Bytes of a node's flight recorder.
const RECORDER: usize = 8 << 20;

/// The part of the node that a driver sees. A mutant or a test's stand-in takes its place.
pub trait Machine {
    /// Something happened.
    fn step(&mut self, now: Instant, input: Input, out: &mut Outbox);
    /// Everything that had happened has been told.
    fn flush(&mut self, now: Instant, out: &mut Outbox);
    /// When to wake it at the latest.
    fn deadline(&self) -> Option<Instant>;
    /// How often it has granted as a master.
    fn grants(&self) -> u64;
    /// Looks whether all that it keeps fits together.
    ///
    /// # Panics
    /// If it does not.
    fn check(&self) {}
    /// Whether a session may go on here, but not yet.
    fn expects(&self, _session: SessionId) -> bool {
        false
    }
    /// Above the numbers of sessions that the life before has left.
    fn next_session(&self) -> u64 {
        1
    }
    /// The user that owns a lockspace, as far as it knows.
    fn owner_of(&self, _space: &LockspaceName) -> Option<u32> {
        None
    }
    /// How often anything about surviving locks has changed, as far as it knows.
    fn survivor_changes(&self) -> u64 {
        0
    }
    /// All surviving locks, as far as it knows.
    fn survivors(&self) -> Vec<Known> {
        Vec::new()
    }
    /// What its flight recorder remembers, if it has one.
    fn recorded(&mut self) -> Option<Dump> {
        None
    }
}

/// Makes machines: called at each start and each rebirth of a node.
pub type Maker =
    dyn Fn(Instant, NodeConfig, BootInfo) -> Result<Box<dyn Machine>, BootError> + Send + Sync;

impl Machine for Node {
    fn step(&mut self, now: Instant, input: Input, out: &mut Outbox) {
        Node::step(self, now, input, out);
    }

    fn flush(&mut self, now: Instant, out: &mut Outbox) {
        Node::flush(self, now, out);
    }

    fn deadline(&self) -> Option<Instant> {
        Node::deadline(self)
    }

    fn grants(&self) -> u64 {
        self.lock_manager().grants()
    }

    fn check(&self) {
        self.lock_manager().check();
    }

    fn expects(&self, session: SessionId) -> bool {
        Node::expects(self, session)
    }

    fn next_session(&self) -> u64 {
        Node::next_session(self)
    }

    fn owner_of(&self, space: &LockspaceName) -> Option<u32> {
        let lockspace = self.cluster_state().lockspace(space)?;
        Some(lockspace.access.owner)
    }

    fn survivor_changes(&self) -> u64 {
        self.cluster_state().survivor_changes()
    }

    fn survivors(&self) -> Vec<Known> {
        let state = self.cluster_state();
        let known = state.survivors().filter_map(|survivor| {
            let space = state.lockspaces().find(|l| l.id == survivor.space)?;
            Some(Known {
                number: survivor.number,
                space: space.name.clone(),
                name: survivor.name.clone(),
                mode: survivor.mode,
                pid: survivor.owner.pid,
            })
        });
        known.collect()
    }

    fn recorded(&mut self) -> Option<Dump> {
        Some(Node::recorded(self, "the end of the run"))
    }
}

/// Makes the very node that the daemon runs.
#[must_use]
pub fn real_node() -> Arc<Maker> {
    Arc::new(|now, config, info| {
        let recorder = Recorder::new(RECORDER, info.boot);
        let mut node = Node::boot(now, config, info)?;
        node.record_to(now, recorder);
        node.limit_users(users::limits());
        Ok(Box::new(node) as Box<dyn Machine>)
    })
}
