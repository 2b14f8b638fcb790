//! What a daemon tells of itself: the data behind `status`, `locks` and `why`.

use crate::{event::Reason, keep::BrokenReport};
use mainstay_base::{
    Access, ByteRange, ClusterId, Compat, Epoch, Fairness, Incarnation, LinkId, LockId, LockMode,
    LockspaceId, LockspaceName, NodeId, NodeName, Owner, ResourceName, SessionId, Token, Value,
};
use serde::{Deserialize, Serialize};

/// The cluster as one node sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusReport {
    /// The cluster's name.
    pub cluster: String,
    /// The cluster's number, drawn when it was founded; none before.
    pub cluster_id: Option<ClusterId>,
    /// The view's number; 0 before the first.
    pub epoch: Epoch,
    /// Whether the view has a majority of votes.
    pub quorate: bool,
    /// The reporting node, by name.
    pub node: NodeName,
    /// Whether the reporting node may grant: a member, quorate, with a lease.
    pub active: bool,
    /// Milliseconds left of the reporting node's lease; 0 without one.
    pub lease_ms: u64,
    /// The node that leads the replicated log, by name.
    pub leader: Option<NodeName>,
    /// Term of the replicated log.
    pub term: u64,
    /// Votes of the members.
    pub votes: u32,
    /// Votes of all configured nodes.
    pub votes_total: u32,
    /// All configured nodes, by number.
    pub members: Vec<MemberReport>,
    /// Vanished incarnations whose end is not yet proved.
    pub pending_fences: Vec<PendingFence>,
    /// Links of the reporting node.
    pub links: Vec<LinkReport>,
    /// Lockspaces, by number.
    pub lockspaces: Vec<LockspaceReport>,
    /// Client sessions of the reporting node.
    pub sessions: u64,
}

/// One configured node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberReport {
    /// Its name.
    pub name: NodeName,
    /// Its number.
    pub id: NodeId,
    /// Whether it is a member.
    pub state: MemberState,
    /// Its present incarnation, or the last one; 0 if it never joined.
    pub incarnation: Incarnation,
    /// Its votes.
    pub votes: u32,
    /// Milliseconds since the reporting node last heard it; absent for itself and if never.
    pub heard_ms: Option<u64>,
}

/// What a configured node is at present.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MemberState {
    /// In the view.
    Member,
    /// Not in the view, but its heartbeats arrive.
    Joining,
    /// Not in the view and silent.
    Absent,
}

/// A vanished incarnation that still awaits proof that it can do no more harm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PendingFence {
    /// Which node.
    pub node: NodeName,
    /// Which incarnation.
    pub incarnation: Incarnation,
    /// What is waited for, for people.
    pub waits_for: String,
}

/// One link to one peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkReport {
    /// The peer.
    pub peer: NodeName,
    /// Which link.
    pub link: LinkId,
    /// Whether heartbeats arrive on it.
    pub up: bool,
    /// The last heartbeat's round trip in microseconds.
    pub rtt_us: Option<u64>,
}

/// One lockspace; the counts are the reporting node's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockspaceReport {
    /// Its number.
    pub id: LockspaceId,
    /// Its name.
    pub name: LockspaceName,
    /// Length of its value blocks, in bytes.
    pub value_len: u16,
    /// Resources mastered here.
    pub mastered: u64,
    /// Resources known here, mastered anywhere.
    pub resources: u64,
    /// Locks owned by clients of this node.
    pub locks: u64,
    /// Directory entries kept here.
    pub directory: u64,
}

/// A lockspace, and who may lock what in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockspaceAccess {
    /// Its number.
    pub id: LockspaceId,
    /// Its name.
    pub name: LockspaceName,
    /// Length of its value blocks, in bytes.
    pub value_len: u16,
    /// Who may lock what.
    pub access: Access,
    /// How it shares out its resources.
    pub fairness: Fairness,
    /// Whose rules it follows where systems differ.
    pub compat: Compat,
}

/// Which resources a report shall show.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockspaceFilter {
    /// Only in this lockspace.
    pub lockspace: Option<LockspaceId>,
    /// Only names that match this pattern: `*` stands for any bytes, `?` for one.
    pub pattern: Option<String>,
    /// At most so many resources.
    pub limit: u32,
    /// Only those after this one, by lockspace and name.
    pub after: Option<(LockspaceId, ResourceName)>,
    /// Only these, if there are any.
    pub only: Vec<(LockspaceId, ResourceName)>,
}

impl LockspaceFilter {
    /// Whether a resource is to be shown.
    #[must_use]
    pub fn admits(&self, space: LockspaceId, name: &ResourceName) -> bool {
        let later = |(s, n): &(LockspaceId, ResourceName)| (space, name) > (*s, n);
        self.lockspace.is_none_or(|s| s == space)
            && self.after.as_ref().is_none_or(later)
            && self.pattern.as_ref().is_none_or(|p| fits(p, name))
    }
}

/// Whether a pattern is for a resource: for the name of a root as it is, and for that of a
/// sub-resource as it is displayed.
fn fits(pattern: &str, name: &ResourceName) -> bool {
    match name.is_root() {
        true => matches(pattern.as_bytes(), name.root_bytes()),
        false => matches(pattern.as_bytes(), name.to_string().as_bytes()),
    }
}

/// Shell-like matching in time proportional to the product of the lengths.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while n < name.len() {
        if p < pattern.len() && pattern[p] == b'*' {
            retry = Some((p, n));
            p += 1;
        } else if p < pattern.len() && (pattern[p] == b'?' || pattern[p] == name[n]) {
            p += 1;
            n += 1;
        } else if let Some((star, from)) = retry {
            retry = Some((star, from + 1));
            p = star + 1;
            n = from + 1;
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|&b| b == b'*')
}

/// Resources and their queues, gathered from all masters.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LocksReport {
    /// By lockspace and name.
    pub resources: Vec<ResourceReport>,
    /// More resources matched than the limit allowed, or than fit one answer: ask again, to go on
    /// after the last of these.
    pub truncated: bool,
    /// Members that did not answer in time, by name; their resources are missing.
    pub silent: Vec<NodeName>,
}

impl LocksReport {
    /// Where to go on, if there is more.
    #[must_use]
    pub fn next(&self) -> Option<(LockspaceName, ResourceName)> {
        let last = self.resources.last().filter(|_| self.truncated)?;
        Some((last.lockspace.clone(), last.name.clone()))
    }
}

/// One resource and its queues.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceReport {
    /// Its lockspace.
    pub lockspace: LockspaceName,
    /// Its name.
    pub name: ResourceName,
    /// Its master.
    pub master: NodeName,
    /// The master is rebuilding it after a failure.
    pub recovering: bool,
    /// The highest token issued.
    pub token: Token,
    /// The value block, if one was ever published.
    pub value: Option<Value>,
    /// Granted locks.
    pub holders: Vec<LockReport>,
    /// Granted locks that wait for another mode, in queue order.
    pub converters: Vec<LockReport>,
    /// Requests that wait, in queue order.
    pub waiters: Vec<LockReport>,
}

/// One lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockReport {
    /// The owner's node.
    pub node: NodeName,
    /// The lock's number on that node.
    pub id: LockId,
    /// The mode held.
    pub granted: Option<LockMode>,
    /// The mode waited for.
    pub requested: Option<LockMode>,
    /// The token of the mode held.
    pub token: Token,
    /// Who owns it.
    pub owner: OwnerReport,
    /// Milliseconds since it was granted, or, if it waits or converts, since it was asked for.
    pub age_ms: u64,
    /// Where, if the resource is locked in ranges: a lock has an entry for each range that it holds.
    pub range: Option<ByteRange>,
}

/// A client, as its daemon saw it connect.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnerReport {
    /// Process number.
    pub pid: u32,
    /// User number.
    pub uid: u32,
    /// Its command, as it gave it.
    pub command: String,
    /// Milliseconds since its session ended, if it has: its locks are orphans.
    pub orphan_ms: Option<u64>,
    /// Its session has lost its connection, and is kept.
    pub broken: Option<BrokenReport>,
    /// For whom it asked for the lock that this is about.
    #[serde(rename = "as")]
    pub owner: Owner,
}

impl OwnerReport {
    /// The owner, for people, if it is another than the session: ` as xid 7`.
    #[must_use]
    pub fn as_owner(&self) -> String {
        match self.owner {
            Owner::Session => String::new(),
            owner => format!(" as {owner}"),
        }
    }

    /// An owner of several sessions, for people, as far as it is more than this process.
    #[must_use]
    pub fn together(&self, node: &NodeName) -> Option<String> {
        match self.owner {
            Owner::Session | Owner::Process => None,
            Owner::Group(_) => Some(format!("{} of user {} on {node}", self.owner, self.uid)),
            Owner::Transaction(_) => Some(format!("{} of user {}", self.owner, self.uid)),
        }
    }
}

/// Who waits for whom on one resource.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WhyReport {
    /// The resource, if any node has a lock on it.
    pub resource: Option<ResourceReport>,
    /// One sentence per waiting lock, and one if nothing waits.
    pub sentences: Vec<String>,
}

/// Who waits for whom, as far as it was gathered: taken node by node, not at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GraphReport {
    /// All that wait or are in the way.
    pub owners: Vec<GraphOwner>,
    /// By resource and place in the queue.
    pub waits: Vec<GraphWait>,
    /// Owners that wait for each other in circles, as places in `owners`.
    pub circles: Vec<Vec<u32>>,
    /// More resources matched than the limit allowed, or a queue was too long to be shown.
    pub truncated: bool,
    /// Members that did not answer in time, by name; what they master is missing.
    pub silent: Vec<NodeName>,
}

/// One that waits or is in the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GraphOwner {
    /// Its node.
    pub node: NodeName,
    /// The session on that node, if the node told.
    pub session: Option<SessionId>,
    /// Who it is.
    pub owner: OwnerReport,
}

/// One wait and what is directly in its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GraphWait {
    /// Who waits, as a place in the report's owners.
    pub waiter: u32,
    /// Where the resource is.
    pub lockspace: LockspaceName,
    /// The resource.
    pub name: ResourceName,
    /// The lock's number on its node.
    pub lock: LockId,
    /// The mode held, if it converts.
    pub granted: Option<LockMode>,
    /// The mode asked for.
    pub requested: LockMode,
    /// Milliseconds since it was asked for.
    pub age_ms: u64,
    /// What is in its way: holders, and the next ahead in the queue.
    pub blockers: Vec<GraphBlocker>,
    /// Where, if the resource is locked in ranges.
    pub range: Option<ByteRange>,
}

/// What is in the way of a wait.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GraphBlocker {
    /// Whose lock it is, as a place in the report's owners.
    pub owner: u32,
    /// The mode that it holds; absent if it stands ahead in the queue.
    pub held: Option<LockMode>,
    /// Where it holds that mode, or waits, if the resource is locked in ranges.
    pub range: Option<ByteRange>,
}

#[cfg(test)]
mod tests {
    use super::{fits, matches};

    /// Protects `mainstay locks PATTERN` of sub-resources: what is printed is found.
    #[test]
    fn patterns_find_trees() {
        let fits = |pattern, name: &str| fits(pattern, &name.parse().expect("valid"));
        assert!(fits("db*", "db") && fits("db*", "db//row 3"));
        assert!(fits("db//*", "db//table//row") && !fits("db//*", "db"));
        assert!(fits("*//row", "db//row") && !fits("*//row", "dbrow"));
    }

    /// Protects `mainstay locks PATTERN`: shell habits hold.
    #[test]
    fn patterns_match_as_in_the_shell() {
        for (pattern, name, expected) in [
            ("*", "anything", true),
            ("vm-*", "vm-7", true),
            ("vm-*", "db-7", false),
            ("*-?", "vm-7", true),
            ("*-?", "vm-77", false),
            ("a*b*c", "a-b-b-c", true),
            ("", "x", false),
        ] {
            assert_eq!(
                matches(pattern.as_bytes(), name.as_bytes()),
                expected,
                "{pattern} {name}"
            );
        }
    }
}

/// Who masters how much, and what has moved lately.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MastersReport {
    /// The members that answered, by number.
    pub nodes: Vec<MasterReport>,
    /// The last moves that the asked node has seen since it joined, newest first; 100 at most.
    pub moves: Vec<MoveReport>,
    /// Whether the asked node gives resources to the node that does most of the work on them.
    pub moving: bool,
    /// Largest share that the asked node takes of its own will, in percent.
    pub cap: u8,
    /// Members that did not answer in time.
    pub silent: Vec<NodeName>,
}

/// What a member masters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MasterReport {
    /// The member.
    pub node: NodeName,
    /// How much its work counts where masters are chosen.
    pub weight: u8,
    /// How many resources.
    pub mastered: u64,
    /// How many, by lockspace.
    pub lockspaces: Vec<(LockspaceName, u64)>,
    /// Grants and conversions as a master since its daemon started, or became a member anew.
    pub grants: u64,
}

/// Resources that got another master.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoveReport {
    /// The master before.
    pub from: NodeName,
    /// The master since.
    pub to: NodeName,
    /// How many.
    pub resources: u32,
    /// Why.
    pub reason: Reason,
    /// Milliseconds ago.
    pub ago_ms: u64,
}
