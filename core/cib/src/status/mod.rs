//! What the cluster knows about its state.

mod history;

pub use history::{Lrm, LrmOp, LrmResource, LrmResources};

use crate::{
    sets::AttributeSet,
    text::Str,
    value::Membership,
    xml::{Attr, element},
};

element! {
    /// What is known of a node.
    pub struct NodeState {
        attributes {
            /// The id of the node.
            id: Str = "id",
            /// Its name.
            uname: Option<Str> = "uname",
            /// Whether it is a remote node.
            remote_node: Attr<bool> = "remote_node",
            /// Whether the membership layer sees it.
            in_ccm: Attr<Membership> = "in_ccm",
            /// Whether its controller takes part.
            crmd: Attr<Membership> = "crmd",
            /// Who wrote this last.
            debug_origin: Option<Str> = "crm-debug-origin",
            /// How far it has joined: down, pending, member, banned.
            join: Option<Str> = "join",
            /// How far it is expected to have joined.
            expected: Option<Str> = "expected",
            /// Whether it was fenced (remote nodes).
            node_fenced: Option<Str> = "node_fenced",
            /// Whether it was in maintenance mode when this was written (remote nodes).
            node_in_maintenance: Option<Str> = "node_in_maintenance",
            /// When it asked to be shut down, in seconds since 1970 (old).
            shutdown: Option<Str> = "shutdown",
            /// Whether a request to shut down was taken back (old).
            clear_shutdown: Option<Str> = "clear_shutdown",
            /// Whether Heartbeat saw it: active or dead (old).
            ha: Option<Str> = "ha",
        }
        children {
            /// Attributes that last until the node leaves.
            transient: Vec<TransientAttributes> = "transient_attributes",
            /// What was done on it.
            lrm: Option<Lrm> = "lrm",
        }
    }
}

element! {
    /// Attributes that last until the node leaves.
    pub struct TransientAttributes {
        attributes {
            /// The id of the node.
            id: Option<Str> = "id",
        }
        children {
            /// The sets.
            sets: Vec<AttributeSet> = "instance_attributes",
        }
    }
}

element! {
    /// What is known of a ticket. Further attributes of any name are in [`extra`](Self::extra).
    pub struct TicketState {
        attributes {
            /// The ticket.
            id: Str = "id",
            /// Whether the cluster has it.
            granted: Attr<bool> = "granted",
            /// When it last had it, in seconds since 1970.
            last_granted: Option<Str> = "last-granted",
            /// Whether its resources shall be given up though the cluster has it.
            standby: Attr<bool> = "standby",
        }
        children {}
    }
}

element! {
    /// The tickets.
    pub struct Tickets {
        attributes {}
        children {
            /// Their states.
            items: Vec<TicketState> = "ticket_state",
            /// Their states in the oldest notation: `granted-ticket-NAME`.
            sets: Vec<AttributeSet> = "instance_attributes",
        }
    }
}

element! {
    /// The state of the cluster.
    pub struct Status {
        attributes {}
        children {
            /// The nodes.
            nodes: Vec<NodeState> = "node_state",
            /// The tickets.
            tickets: Option<Tickets> = "tickets",
        }
    }
}

impl NodeState {
    /// The transient attributes of all sets, in order.
    pub fn transient_sets(&self) -> impl Iterator<Item = &AttributeSet> {
        self.transient.iter().flat_map(|t| &t.sets)
    }

    /// What was done to resources on it.
    #[must_use]
    pub fn history(&self) -> &[LrmResource] {
        let resources = self.lrm.as_ref().and_then(|l| l.resources.as_ref());
        resources.map_or(&[], |r| &r.items)
    }
}

impl Status {
    /// The state of a node.
    #[must_use]
    pub fn node(&self, id: &str) -> Option<&NodeState> {
        self.nodes.iter().find(|n| &*n.id == id)
    }

    /// The state of a ticket.
    #[must_use]
    pub fn ticket(&self, id: &str) -> Option<&TicketState> {
        self.tickets.as_ref()?.items.iter().find(|t| &*t.id == id)
    }
}
