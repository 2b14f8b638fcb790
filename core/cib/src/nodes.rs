//! Nodes as they are configured.

use crate::{
    sets::AttributeSet,
    text::Str,
    value::{NodeType, Score},
    xml::{Attr, element},
};

element! {
    /// A node: a member, a remote node (also one that a resource brings about), or a ping node.
    pub struct Node {
        attributes {
            /// Its id: what the membership layer calls it.
            id: Str = "id",
            /// Its name.
            uname: Option<Str> = "uname",
            /// What kind of node it is; member if absent.
            kind: Attr<NodeType> = "type",
            /// What every resource gets on it.
            score: Attr<Score> = "score",
            /// What people say about it.
            description: Option<Str> = "description",
        }
        children {
            /// Its permanent attributes, among them standby and maintenance.
            attributes: Vec<AttributeSet> = "instance_attributes",
            /// What it can bear.
            utilization: Vec<AttributeSet> = "utilization",
        }
    }
}

impl Node {
    /// Its name: the uname, or the id if it has none.
    #[must_use]
    pub fn name(&self) -> &Str {
        self.uname.as_ref().unwrap_or(&self.id)
    }
}

element! {
    /// The section of nodes.
    pub struct Nodes {
        attributes {}
        children {
            /// The nodes.
            items: Vec<Node> = "node",
        }
    }
}
