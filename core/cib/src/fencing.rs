//! Which fencing devices are tried for a node, in which order.

use crate::{
    text::Str,
    xml::{Attr, element},
};

element! {
    /// Devices that together fence a node; if they fail, those of the next level are tried.
    pub struct FencingLevel {
        attributes {
            /// Its id.
            id: Option<Str> = "id",
            /// The node.
            target: Option<Str> = "target",
            /// A regular expression for names of nodes.
            target_pattern: Option<Str> = "target-pattern",
            /// A node attribute …
            target_attribute: Option<Str> = "target-attribute",
            /// … and its value.
            target_value: Option<Str> = "target-value",
            /// The level, from 1 to 9.
            index: Attr<u8> = "index",
            /// The devices, separated by commas; all of them must succeed.
            devices: Option<Str> = "devices",
        }
        children {}
    }
}

impl FencingLevel {
    /// The devices.
    pub fn devices(&self) -> impl Iterator<Item = &str> {
        let devices = self.devices.as_deref().unwrap_or_default();
        devices.split(',').map(str::trim).filter(|d| !d.is_empty())
    }
}

element! {
    /// The section of fencing levels.
    pub struct FencingTopology {
        attributes {}
        children {
            /// The levels.
            levels: Vec<FencingLevel> = "fencing-level",
        }
    }
}
