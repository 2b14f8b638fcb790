//! Resources: primitives, groups, clones, bundles, templates.

mod bundle;
mod collective;
mod primitive;

pub use bundle::{Bundle, Container, ContainerKind, Network, PortMapping, Storage, StorageMapping};
pub use collective::{Cloned, Group};
pub use primitive::{Primitive, Template};

use crate::{
    sets::{AttributeSet, lookup},
    text::{At, Str},
    xml::{choice, element},
};

/// A resource.
#[derive(Clone, Debug, PartialEq)]
pub enum Resource {
    /// One agent with its parameters.
    Primitive(Primitive),
    /// Primitives that run together, in order.
    Group(Group),
    /// Copies of a primitive or a group.
    Clone(Cloned),
    /// The same in the oldest notation: a clone that is promotable.
    Master(Cloned),
    /// Containers, perhaps with a primitive inside.
    Bundle(Bundle),
}

choice!(Resource {
    Primitive = "primitive",
    Group = "group",
    Clone = "clone",
    Master = "master",
    Bundle = "bundle",
});

element! {
    /// The section of resources.
    pub struct Resources {
        attributes {}
        children {
            /// What primitives may refer to.
            templates: Vec<Template> = "template",
            /// The resources, in the order of the text.
            items: Vec<Resource> = "primitive" | "group" | "clone" | "master" | "bundle",
        }
    }
}

impl Resource {
    /// Its id.
    #[must_use]
    pub fn id(&self) -> &Str {
        match self {
            Resource::Primitive(r) => &r.id,
            Resource::Group(r) => &r.id,
            Resource::Clone(r) | Resource::Master(r) => &r.id,
            Resource::Bundle(r) => &r.id,
        }
    }

    /// Where it stands.
    #[must_use]
    pub fn at(&self) -> At {
        match self {
            Resource::Primitive(r) => r.at,
            Resource::Group(r) => r.at,
            Resource::Clone(r) | Resource::Master(r) => r.at,
            Resource::Bundle(r) => r.at,
        }
    }

    /// The name of its element.
    #[must_use]
    pub fn tag(&self) -> &'static str {
        match self {
            Resource::Primitive(_) => "primitive",
            Resource::Group(_) => "group",
            Resource::Clone(_) => "clone",
            Resource::Master(_) => "master",
            Resource::Bundle(_) => "bundle",
        }
    }

    /// Its meta attributes.
    #[must_use]
    pub fn meta(&self) -> &[AttributeSet] {
        match self {
            Resource::Primitive(r) => &r.meta,
            Resource::Group(r) => &r.meta,
            Resource::Clone(r) | Resource::Master(r) => &r.meta,
            Resource::Bundle(r) => &r.meta,
        }
    }

    /// Its meta attributes, to be changed.
    pub fn meta_mut(&mut self) -> &mut Vec<AttributeSet> {
        match self {
            Resource::Primitive(r) => &mut r.meta,
            Resource::Group(r) => &mut r.meta,
            Resource::Clone(r) | Resource::Master(r) => &mut r.meta,
            Resource::Bundle(r) => &mut r.meta,
        }
    }

    /// What it consists of directly: the members of a group, the content of a clone. The primitive
    /// of a bundle is in the bundle itself.
    #[must_use]
    pub fn members(&self) -> Vec<Member<'_>> {
        match self {
            Resource::Primitive(_) => Vec::new(),
            Resource::Group(group) => group.members.iter().map(Member::Primitive).collect(),
            Resource::Clone(clone) | Resource::Master(clone) => {
                clone.content.iter().map(|c| Member::Resource(c)).collect()
            }
            Resource::Bundle(bundle) => bundle.primitive.iter().map(Member::Primitive).collect(),
        }
    }

    /// All primitives in it, itself included if it is one, in the order of the text.
    #[must_use]
    pub fn primitives(&self) -> Vec<&Primitive> {
        match self {
            Resource::Primitive(primitive) => vec![primitive],
            Resource::Group(group) => group.members.iter().collect(),
            Resource::Clone(clone) | Resource::Master(clone) => clone
                .content
                .iter()
                .flat_map(|content| content.primitives())
                .collect(),
            Resource::Bundle(bundle) => bundle.primitive.iter().collect(),
        }
    }

    /// Whether it is promotable, in the new notation or the old one. Rules are not asked.
    #[must_use]
    pub fn is_promotable(&self) -> bool {
        match self {
            Resource::Master(_) => true,
            Resource::Clone(clone) => {
                lookup(&clone.meta, "promotable").and_then(crate::value::truth) == Some(true)
            }
            _ => false,
        }
    }
}

/// A part of a resource.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Member<'a> {
    /// A primitive of a group or a bundle.
    Primitive(&'a Primitive),
    /// The content of a clone.
    Resource(&'a Resource),
}

impl<'a> Member<'a> {
    /// Its id.
    #[must_use]
    pub fn id(self) -> &'a Str {
        match self {
            Member::Primitive(primitive) => &primitive.id,
            Member::Resource(resource) => resource.id(),
        }
    }
}
