//! Groups and clones.

use super::{Primitive, Resource};
use crate::{
    sets::{AttributeSet, lookup},
    text::Str,
    xml::element,
};

element! {
    /// Primitives that run on one node, started in order and stopped in reverse.
    pub struct Group {
        attributes {
            /// Its id.
            id: Str = "id",
            /// What people say about it.
            description: Option<Str> = "description",
        }
        children {
            /// Meta attributes; its members inherit them.
            meta: Vec<AttributeSet> = "meta_attributes",
            /// Parameters that its members inherit.
            parameters: Vec<AttributeSet> = "instance_attributes",
            /// Its members.
            members: Vec<Primitive> = "primitive",
        }
    }
}

element! {
    /// A resource of which several instances run.
    pub struct Cloned {
        attributes {
            /// Its id.
            id: Str = "id",
            /// What people say about it.
            description: Option<Str> = "description",
        }
        children {
            /// Meta attributes; its content inherits most of them.
            meta: Vec<AttributeSet> = "meta_attributes",
            /// Parameters that its content inherits.
            parameters: Vec<AttributeSet> = "instance_attributes",
            /// What there are several instances of: a primitive or a group.
            content: Option<Box<Resource>> = "primitive" | "group",
        }
    }
}

impl Cloned {
    /// A meta attribute of the clone by its present name or, failing that, by its former one.
    /// Rules are not asked.
    #[must_use]
    pub fn meta_value(&self, name: &str) -> Option<&str> {
        let former = match name {
            "promoted-max" => "master-max",
            "promoted-node-max" => "master-node-max",
            _ => name,
        };
        lookup(&self.meta, name).or_else(|| lookup(&self.meta, former))
    }

    /// Whether its instances differ from each other. Rules are not asked.
    #[must_use]
    pub fn is_unique(&self) -> bool {
        self.meta_value("globally-unique")
            .and_then(crate::value::truth)
            == Some(true)
    }
}
