//! A plain tree of elements, for turning one notation into another.

use super::write::escape;
use crate::text::At;

/// The name under which comments stand in the tree.
const COMMENT: &str = "!--";

/// An element of any name.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Element {
    pub(crate) name: String,
    pub(crate) attributes: Vec<(String, String)>,
    pub(crate) children: Vec<Element>,
    pub(crate) at: At,
}

impl Element {
    pub(crate) fn new(name: &str) -> Element {
        Element {
            name: name.to_owned(),
            ..Element::default()
        }
    }

    /// Copies an element and all in it, comments too; they become elements of the name
    /// [`COMMENT`]. Text is left out.
    pub(crate) fn from_node(
        node: roxmltree::Node<'_, '_>,
        reader: &mut super::Reader<'_>,
    ) -> Element {
        if node.is_comment() {
            let mut comment = Element::new(COMMENT);
            comment.set("text", node.text().unwrap_or_default());
            comment.at = reader.at(node);
            return comment;
        }
        let attributes = node.attributes();
        Element {
            name: node.tag_name().name().to_owned(),
            attributes: attributes
                .map(|a| (a.name().to_owned(), a.value().to_owned()))
                .collect(),
            at: reader.at(node),
            children: node
                .children()
                .filter(|n| n.is_element() || n.is_comment())
                .map(|child| Element::from_node(child, reader))
                .collect(),
        }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        let found = self.attributes.iter().find(|(n, _)| n == name);
        found.map(|(_, value)| &**value)
    }

    pub(crate) fn set(&mut self, name: &str, value: &str) {
        match self.attributes.iter_mut().find(|(n, _)| n == name) {
            Some((_, old)) => value.clone_into(old),
            None => self.attributes.push((name.to_owned(), value.to_owned())),
        }
    }

    pub(crate) fn with(mut self, name: &str, value: &str) -> Element {
        self.set(name, value);
        self
    }

    pub(crate) fn take(&mut self, name: &str) -> Option<String> {
        let index = self.attributes.iter().position(|(n, _)| n == name)?;
        Some(self.attributes.remove(index).1)
    }

    /// Renames an attribute in its place.
    pub(crate) fn rename(&mut self, from: &str, to: &str) {
        if let Some((name, _)) = self.attributes.iter_mut().find(|(n, _)| n == from) {
            to.clone_into(name);
        }
    }

    pub(crate) fn child(&self, name: &str) -> Option<&Element> {
        self.children.iter().find(|c| c.name == name)
    }

    /// The child of that name, made at the end if there is none.
    pub(crate) fn child_mut(&mut self, name: &str) -> &mut Element {
        let index = match self.children.iter().position(|c| c.name == name) {
            Some(index) => index,
            None => {
                self.children.push(Element::new(name));
                self.children.len() - 1
            }
        };
        &mut self.children[index]
    }

    /// Takes out the children of that name.
    pub(crate) fn take_children(&mut self, name: &str) -> Vec<Element> {
        let (taken, kept) = core::mem::take(&mut self.children)
            .into_iter()
            .partition(|c| c.name == name);
        self.children = kept;
        taken
    }

    /// Does something to this element and all in it, the outer ones first.
    pub(crate) fn each(&mut self, work: &mut impl FnMut(&mut Element)) {
        work(self);
        for child in &mut self.children {
            child.each(work);
        }
    }

    /// The XML, and for each of its lines the place that the element on it came from.
    pub(crate) fn write(&self) -> (String, Vec<At>) {
        let (mut text, mut places) = (String::new(), Vec::new());
        self.write_to(0, self.at, &mut text, &mut places);
        (text, places)
    }

    fn write_to(&self, depth: usize, outer: At, text: &mut String, places: &mut Vec<At>) {
        let at = if self.at.is_nowhere() { outer } else { self.at };
        let indent = |text: &mut String| text.extend(core::iter::repeat_n("  ", depth));
        indent(text);
        if self.name == COMMENT {
            let comment = self.get("text").unwrap_or_default();
            text.push_str("<!--");
            text.push_str(comment);
            text.push_str("-->\n");
            places.extend(core::iter::repeat_n(at, 1 + comment.matches('\n').count()));
            return;
        }
        text.push('<');
        text.push_str(&self.name);
        for (name, value) in &self.attributes {
            text.push(' ');
            text.push_str(name);
            text.push_str("=\"");
            escape(value, text);
            text.push('"');
        }
        places.push(at);
        if self.children.is_empty() {
            text.push_str("/>\n");
            return;
        }
        text.push_str(">\n");
        for child in &self.children {
            child.write_to(depth + 1, at, text, places);
        }
        indent(text);
        text.push_str("</");
        text.push_str(&self.name);
        text.push_str(">\n");
        places.push(at);
    }
}
