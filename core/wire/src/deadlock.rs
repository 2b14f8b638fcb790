//! Circles of waiters: what nodes tell each other in the search for them, and what the victim is
//! told. The rules are in `docs/protocol/deadlocks.md`.

use crate::{dlm::ResourceId, report::OwnerReport};
use core::fmt;
use mainstay_base::{
    ByteRange, LockId, LockMode, LockspaceName, NodeId, NodeName, Owner, ResourceName, SessionId,
    VictimPolicy,
};
use serde::{Deserialize, Serialize};

/// Most waits on a path: a longer circle is not found.
pub const PATH_MAX: usize = 64;

/// Who holds and waits: all locks of an owner are released by one will. Whatever clients name is
/// named for their user only, so that nobody can make himself part of another user's owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum OwnerId {
    /// A session.
    Session {
        /// Its node.
        node: NodeId,
        /// Its number there.
        session: SessionId,
    },
    /// All sessions of a process that say so.
    Process {
        /// Its node.
        node: NodeId,
        /// Its user.
        uid: u32,
        /// Its number there.
        pid: u32,
    },
    /// Sessions on one node.
    Group {
        /// Their node.
        node: NodeId,
        /// Their user.
        uid: u32,
        /// The number that they named.
        number: u64,
    },
    /// Sessions on any nodes.
    Transaction {
        /// Their user.
        uid: u32,
        /// The number that they named.
        xid: u64,
    },
}

impl OwnerId {
    /// Whether its locks may be on several nodes.
    #[must_use]
    pub fn is_anywhere(&self) -> bool {
        matches!(self, OwnerId::Transaction { .. })
    }

    /// What its sessions have named.
    #[must_use]
    pub fn named(&self) -> Owner {
        match *self {
            OwnerId::Session { .. } => Owner::Session,
            OwnerId::Process { .. } => Owner::Process,
            OwnerId::Group { number, .. } => Owner::Group(number),
            OwnerId::Transaction { xid, .. } => Owner::Transaction(xid),
        }
    }
}

/// One search: begun by an owner that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ProbeId {
    /// The node on which it began.
    pub node: NodeId,
    /// The owner with whom it began.
    pub owner: OwnerId,
    /// Counted up on that node.
    pub round: u64,
}

/// A wait: a request or conversion in a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WaitId {
    /// The owner's node.
    pub node: NodeId,
    /// The lock.
    pub lock: LockId,
    /// Counted up on that node with each wait; 0 where the teller does not know it.
    pub wait: u64,
}

/// A wait and the lock in its way, which belongs to the owner of the next hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hop {
    /// The wait.
    pub wait: WaitId,
    /// Node of the lock in its way: of one owner, locks and waits may be on several.
    pub blocker_node: NodeId,
    /// The lock in its way, as its owner numbers it.
    pub blocker: LockId,
    /// The blocker's token, or its place in the queue.
    pub stamp: i64,
}

/// A lock in the way, as the master tells its owner's node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// The lock.
    pub lock: LockId,
    /// It is in the way by the mode it holds, not only by what it waits for.
    pub held: bool,
    /// Its token, or its place in the queue.
    pub stamp: i64,
    /// It is in the way of this waiter, which stands ahead of the one that was asked about, at this
    /// place of the queue.
    pub via: Option<(WaitId, i64)>,
}

/// A lock by which a search has met an owner, for that owner's other nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Met {
    /// Its node.
    pub node: NodeId,
    /// The lock.
    pub lock: LockId,
    /// It is in the way by the mode it holds, not only by what it waits for.
    pub held: bool,
    /// On what.
    pub resource: ResourceId,
    /// The mode by which it is in the way, if the resource is not locked in ranges.
    pub mode: Option<LockMode>,
}

/// What is asked about one wait of an alleged circle.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Charge {
    /// Who asks.
    pub judge: NodeId,
    /// Its number there.
    pub trial: u64,
    /// The wait's place in the circle, from 0.
    pub place: u16,
    /// The wait.
    pub wait: WaitId,
    /// Node of the lock by which its owner is in the way of the one before.
    pub holds_node: NodeId,
    /// That lock.
    pub holds: LockId,
    /// Node of the lock in its own way.
    pub blocker_node: NodeId,
    /// The lock in its own way.
    pub blocker: LockId,
    /// The blocker's token, or its place in the queue.
    pub stamp: i64,
}

/// A wait of a circle, as its owner's node describes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiter {
    /// The wait.
    pub wait: WaitId,
    /// Its owner.
    pub owner: OwnerId,
    /// The owner for people.
    pub process: OwnerReport,
    /// What it waits for.
    pub resource: ResourceId,
    /// The mode it holds, if it converts.
    pub granted: Option<LockMode>,
    /// The mode it asks for.
    pub requested: LockMode,
    /// Microseconds it has waited.
    pub waited_us: u64,
    /// How many locks the owner has, asked-for ones included.
    pub locks: u64,
    /// The owner's deadlock priority: lower falls sooner.
    pub priority: u8,
    /// The bytes that it asks for, if the resource is locked in ranges.
    pub range: Option<ByteRange>,
}

/// A circle of waiters, as its victim is told.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeadlockReport {
    /// By what policy the victim was chosen.
    pub policy: VictimPolicy,
    /// Each waits for the next, and the last for the first, which is the victim. At most [`PATH_MAX`].
    pub waits: Vec<CycleWait>,
}

/// One of a circle of waiters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CycleWait {
    /// Its node.
    pub node: NodeName,
    /// Its process.
    pub owner: OwnerReport,
    /// Where the resource is.
    pub lockspace: LockspaceName,
    /// What it waits for.
    pub name: ResourceName,
    /// The mode it holds, if it converts.
    pub granted: Option<LockMode>,
    /// The mode it asks for.
    pub requested: LockMode,
    /// Milliseconds it had waited.
    pub waited_ms: u64,
    /// The lock's number on its node.
    pub lock: LockId,
    /// The wait's number on its node.
    pub wait: u64,
    /// The bytes that it asks for, if the resource is locked in ranges.
    pub range: Option<ByteRange>,
}

impl fmt::Display for CycleWait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pid = self.owner.pid;
        write!(f, "process {pid} ({}) on {}", self.owner.command, self.node)?;
        f.write_str(&self.owner.as_owner())?;
        let (name, asked) = (&self.name, self.requested);
        match self.granted {
            Some(held) => write!(f, " which converts {name} from {held} to {asked}")?,
            None => write!(f, " which waits for {asked} on {name}")?,
        }
        if let Some(range) = self.range {
            write!(f, " bytes {range}")?;
        }
        write!(f, " (lockspace {}, {} ms)", self.lockspace, self.waited_ms)
    }
}

impl fmt::Display for DeadlockReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "deadlock: ")?;
        for (place, wait) in self.waits.iter().enumerate() {
            let link = if place == 0 { "" } else { ", behind " };
            write!(f, "{link}{wait}")?;
        }
        f.write_str(", behind the first, which was refused (")?;
        f.write_str(match self.policy {
            VictimPolicy::Youngest => "it began to wait last)",
            VictimPolicy::Priority => "it has the lowest deadlock priority)",
            VictimPolicy::FewestLocks => "it has the fewest locks)",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects what a victim reads: which waits for what, in the order of the circle, and why it was
    /// this one.
    #[test]
    fn a_circle_reads_as_a_sentence() {
        let wait = |node: &str, pid, name: &str, granted| CycleWait {
            node: NodeName::new(node).expect("valid"),
            owner: OwnerReport {
                pid,
                uid: 0,
                command: format!("job{pid}"),
                orphan_ms: None,
                owner: if pid == 2 {
                    Owner::Transaction(7)
                } else {
                    Owner::Session
                },
                broken: None,
            },
            lockspace: LockspaceName::new("default").expect("valid"),
            name: ResourceName::new(name).expect("valid"),
            granted,
            requested: LockMode::Ex,
            waited_ms: 60,
            lock: LockId(1),
            wait: 1,
            range: None,
        };
        let report = DeadlockReport {
            policy: VictimPolicy::Youngest,
            waits: vec![
                wait("n1", 1, "a", None),
                wait("n2", 2, "b", Some(LockMode::Pr)),
            ],
        };
        assert_eq!(
            report.to_string(),
            "deadlock: process 1 (job1) on n1 which waits for ex on a (lockspace default, 60 ms), behind \
             process 2 (job2) on n2 as xid 7 which converts b from pr to ex (lockspace default, 60 ms), \
             behind the first, which was refused (it began to wait last)"
        );
    }
}
