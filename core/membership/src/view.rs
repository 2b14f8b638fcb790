//! Views: who is a member, and who vanished without proof.

use mainstay_base::{BootId, Epoch, Incarnation, NodeId};
use mainstay_fencing::Vanished;
use mainstay_wire::event::Reason;
use serde::{Deserialize, Serialize};

/// A member of a view.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The node.
    pub node: NodeId,
    /// The how-many-eth membership of the node this is.
    pub incarnation: Incarnation,
    /// The boot that carries it.
    pub boot: BootId,
    /// The first epoch whose view contains it.
    pub joined: Epoch,
}

/// An incarnation that is no longer a member and of which nothing is proved yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pending {
    /// The node.
    pub node: NodeId,
    /// Which of its incarnations.
    pub incarnation: Incarnation,
    /// The boot that carried it.
    pub boot: BootId,
    /// The first epoch whose view lacks it.
    pub left_epoch: Epoch,
    /// Why it ceased to be a member.
    pub reason: Reason,
    /// The members of the last view that contained it, by number: the nodes among which directory
    /// entries were spread when it vanished.
    pub directory: Vec<NodeId>,
}

impl Pending {
    /// The entry for the fencing ledger.
    #[must_use]
    pub fn vanished(&self) -> Vanished {
        Vanished {
            node: self.node,
            incarnation: self.incarnation,
            boot: self.boot,
            left_epoch: self.left_epoch,
        }
    }
}

/// Who belongs to the cluster from one epoch to the next. All nodes install the same sequence.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct View {
    /// The view's number; 0 is the empty view before the founding.
    pub epoch: Epoch,
    /// Its members, by node number.
    pub members: Vec<Member>,
    /// The epoch since which the members are these: a view may also differ in what is pending.
    pub members_since: Epoch,
    /// Whether the members have more than half of all votes.
    pub quorate: bool,
    /// Vanished incarnations without proof, by node number and incarnation.
    pub pending: Vec<Pending>,
}

impl View {
    /// The member of that node number.
    #[must_use]
    pub fn member(&self, node: NodeId) -> Option<&Member> {
        self.members
            .binary_search_by_key(&node, |m| m.node)
            .ok()
            .map(|at| &self.members[at])
    }

    /// Whether a node is a member under this very boot.
    #[must_use]
    pub fn has_boot(&self, node: NodeId, boot: BootId) -> bool {
        self.member(node).is_some_and(|m| m.boot == boot)
    }

    /// Whether a node is a member under this very incarnation.
    #[must_use]
    pub fn has_incarnation(&self, node: NodeId, incarnation: Incarnation) -> bool {
        self.member(node)
            .is_some_and(|m| m.incarnation == incarnation)
    }

    /// Whether an incarnation has vanished and is not proved.
    #[must_use]
    pub fn is_pending(&self, node: NodeId, incarnation: Incarnation) -> bool {
        self.pending
            .iter()
            .any(|p| p.node == node && p.incarnation == incarnation)
    }

    /// The members' numbers, ascending: what the directory function takes.
    #[must_use]
    pub fn nodes(&self) -> Vec<NodeId> {
        self.members.iter().map(|m| m.node).collect()
    }
}
