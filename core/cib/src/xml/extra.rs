//! What an element has besides the fields of the model.

use crate::text::{At, Str};
use std::sync::Arc;

/// A piece of XML that is kept as it was written: an unknown element, a comment, text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verbatim {
    /// The name of the element; `None` for comments and text.
    pub element: Option<Str>,
    /// The XML, from its first to its last character.
    pub xml: Str,
    /// Where it stood.
    pub at: At,
}

/// What an element has besides the fields of the model, and the order in which everything stood.
/// Nearly always empty.
#[derive(Clone, Debug, Default)]
pub struct Extra(Option<Box<Body>>);

#[derive(Clone, Debug, Default)]
pub(super) struct Body {
    pub(super) attributes: Vec<(Str, Str)>,
    pub(super) nodes: Vec<Verbatim>,
    pub(super) attribute_order: Option<Arc<[u8]>>,
    pub(super) child_order: Option<Arc<[u8]>>,
}

/// Stands for an unknown attribute or child in an order.
pub(super) const UNKNOWN: u8 = u8::MAX;

impl Extra {
    pub(super) fn new(body: Body) -> Extra {
        let empty = body.attributes.is_empty()
            && body.nodes.is_empty()
            && body.attribute_order.is_none()
            && body.child_order.is_none();
        Extra((!empty).then(|| Box::new(body)))
    }

    pub(super) fn body(&self) -> Option<&Body> {
        self.0.as_deref()
    }

    /// Attributes that the model has no field for, with their values.
    #[must_use]
    pub fn attributes(&self) -> &[(Str, Str)] {
        self.0.as_ref().map_or(&[], |b| &b.attributes)
    }

    /// The value of an attribute that the model has no field for.
    #[must_use]
    pub fn attribute(&self, name: &str) -> Option<&str> {
        let found = self.attributes().iter().find(|(n, _)| &**n == name);
        found.map(|(_, value)| &**value)
    }

    /// Sets an attribute that the model has no field for.
    pub fn set_attribute(&mut self, name: &str, value: &str) {
        let body = self.0.get_or_insert_default();
        match body.attributes.iter_mut().find(|(n, _)| &**n == name) {
            Some((_, old)) => *old = Str::from(value),
            None => body.attributes.push((Str::from(name), Str::from(value))),
        }
    }

    /// Takes out an attribute that the model has no field for.
    pub fn remove_attribute(&mut self, name: &str) -> Option<Str> {
        let body = self.0.as_mut()?;
        let index = body.attributes.iter().position(|(n, _)| &**n == name)?;
        body.attribute_order = None;
        Some(body.attributes.remove(index).1)
    }

    /// Unknown elements, comments and text.
    #[must_use]
    pub fn nodes(&self) -> &[Verbatim] {
        self.0.as_ref().map_or(&[], |b| &b.nodes)
    }

    /// Adds an unknown element or a comment.
    pub fn push(&mut self, node: Verbatim) {
        self.0.get_or_insert_default().nodes.push(node);
    }

    /// Forgets in which order attributes and children stood; they are then written in the usual one.
    pub fn forget_order(&mut self) {
        if let Some(body) = &mut self.0 {
            body.attribute_order = None;
            body.child_order = None;
        }
    }
}

impl PartialEq for Extra {
    /// The order of attributes says nothing, and the order of children is in the fields.
    fn eq(&self, other: &Self) -> bool {
        self.attributes() == other.attributes() && self.nodes() == other.nodes()
    }
}

impl Eq for Extra {}
