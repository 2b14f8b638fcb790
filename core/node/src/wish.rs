//! What this node wants the replicated log to say, asked again until it does.

use crate::Node;
use core::time::Duration;
use mainstay_base::{Incarnation, Instant, NodeId, SessionId};
use mainstay_fencing::Proof;
use mainstay_membership::Command;

/// Between two tries.
const RETRY: Duration = Duration::from_millis(200);

/// One command and who waits for it.
#[derive(Debug)]
pub(crate) struct Wish {
    pub(crate) command: Command,
    pub(crate) retry_at: Instant,
    /// Clients to answer.
    pub(crate) askers: Vec<Asker>,
}

/// A client that waits for a wish to come true.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asker {
    pub(crate) session: SessionId,
    /// The number of its request.
    pub(crate) request: u64,
    /// The length of value blocks that it insists on, if it waits for a lockspace and does.
    pub(crate) value_len: Option<u16>,
}

impl Node {
    /// Wants a command in the log from now on.
    pub(crate) fn wish(&mut self, now: Instant, command: Command, asker: Option<Asker>) {
        self.wishes.push(Wish {
            command,
            retry_at: now,
            askers: asker.into_iter().collect(),
        });
    }

    /// Proposes, or sends to whoever may propose, what is due. Wishes that came true are gone:
    /// whoever handles the change takes them out.
    pub(crate) fn pursue_wishes(&mut self, now: Instant) {
        let mut due = Vec::new();
        for wish in &mut self.wishes {
            if wish.retry_at <= now {
                wish.retry_at = now + RETRY;
                due.push(wish.command.clone());
            }
        }
        for command in due {
            self.propose_anywhere(&command);
        }
    }

    fn propose_anywhere(&mut self, command: &Command) {
        let Some(consensus) = &mut self.consensus else {
            return;
        };
        if consensus.is_leader() {
            // A refusal is momentary: the wish is tried again.
            let _ = consensus.propose(command.encode());
        } else if let Some(leader) = self.leader().filter(|l| *l != self.config.me) {
            self.send_forward(leader, command);
        }
    }

    /// Another node asks this one to propose something.
    pub(crate) fn on_forward(&mut self, from: NodeId, bytes: &[u8]) {
        let command = match Command::decode(bytes) {
            Ok(command) => command,
            Err(error) => return self.complain(from, format!("a forwarded command: {error}")),
        };
        let allowed = match &command {
            Command::CreateLockspace { .. } | Command::SetAccess { .. } => true,
            Command::MoveMasters(record) | Command::MoveMastersWithSurvivors { record, .. } => {
                record.from == from
            }
            Command::Survivors(batch) => batch.by == from,
            Command::Fenced { node, proof, .. } => match proof {
                Proof::OperatorVouched { .. } => true,
                // Its node knows that nobody will go on with its locks.
                Proof::RestOver => *node == from,
                Proof::LeaseExpired | Proof::LeftCleanly | Proof::Rests => false,
            },
            Command::Resume { node, .. } => *node == from,
            _ => false,
        };
        if !allowed {
            return self.complain(
                from,
                "a forwarded command of a kind that only a leader decides".to_owned(),
            );
        }
        if let Some(consensus) = &mut self.consensus
            && consensus.is_leader()
        {
            let _ = consensus.propose(bytes.to_vec());
        }
    }

    /// Forgets what nobody but a session that is closed has wished for lockspaces; it may come true yet.
    pub(crate) fn drop_wishes(&mut self, session: SessionId) {
        self.wishes.retain_mut(|wish| {
            let before = wish.askers.len();
            wish.askers.retain(|asker| asker.session != session);
            let of_lockspace = matches!(
                wish.command,
                Command::CreateLockspace { .. } | Command::SetAccess { .. }
            );
            !(of_lockspace && wish.askers.is_empty() && before > 0)
        });
    }

    /// Takes out the wish for the end of an incarnation, and returns who waits for it.
    pub(crate) fn fence_came(&mut self, node: NodeId, incarnation: Incarnation) -> Vec<Asker> {
        self.take_wishes(|command| {
            matches!(command, Command::Fenced { node: n, incarnation: i, .. }
                if *n == node && *i == incarnation)
        })
    }

    /// Takes out all wishes of a kind, and returns who waits for them.
    pub(crate) fn take_wishes(&mut self, mut which: impl FnMut(&Command) -> bool) -> Vec<Asker> {
        let mut askers = Vec::new();
        self.wishes.retain_mut(|wish| {
            let taken = which(&wish.command);
            if taken {
                askers.append(&mut wish.askers);
            }
            !taken
        });
        askers
    }
}
