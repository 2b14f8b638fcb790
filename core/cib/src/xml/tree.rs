//! A plain tree of elements, for turning one notation into another.

use super::{read::with_line_feeds, write::escape};
use crate::text::At;
use roxmltree::Node;

/// The name under which comments stand in the tree.
pub(crate) const COMMENT: &str = "!--";

/// The name under which text stands in the tree.
pub(crate) const TEXT: &str = "!text";

/// The name under which processing instructions stand in the tree.
pub(crate) const INSTRUCTION: &str = "!instruction";

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

    /// Copies an element and all in it; comments, text and processing instructions become elements
    /// of the names [`COMMENT`], [`TEXT`] and [`INSTRUCTION`], which no element of XML can have.
    pub(crate) fn from_node(node: Node<'_, '_>, reader: &mut super::Reader<'_>) -> Element {
        let plain = |name: &str, text: &str, reader: &mut super::Reader<'_>| {
            let mut plain = Element::new(name).with("text", text);
            plain.at = reader.at(node);
            plain
        };
        if node.is_comment() {
            let text = with_line_feeds(node.text().unwrap_or_default());
            return plain(COMMENT, &text, reader);
        }
        if node.is_text() {
            return plain(TEXT, node.text().unwrap_or_default().trim(), reader);
        }
        if node.is_pi() {
            let xml = reader.verbatim(node).xml;
            return plain(INSTRUCTION, instruction(&xml), reader);
        }
        Element {
            name: reader.qualified_name(node),
            attributes: reader.qualified_attributes(node),
            at: reader.at(node),
            children: node
                .children()
                .filter(|n| !n.is_text() || is_said(*n))
                .map(|child| Element::from_node(child, reader))
                .collect(),
        }
    }

    /// Whether both say the same; the order of attributes says nothing.
    pub(crate) fn same(&self, other: &Element) -> bool {
        self.name == other.name
            && self.attributes.len() == other.attributes.len()
            && self.attributes.iter().all(|(n, v)| other.get(n) == Some(v))
            && self.children.len() == other.children.len()
            && (self.children.iter().zip(&other.children)).all(|(a, b)| a.same(b))
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
        if [COMMENT, TEXT, INSTRUCTION].contains(&&*self.name) {
            let content = self.get("text").unwrap_or_default();
            let start = text.len();
            match &*self.name {
                COMMENT => text.extend(["<!--", content, "-->"]),
                INSTRUCTION => text.extend(["<?", content, "?>"]),
                _ => escape(content, text),
            }
            text.push('\n');
            let lines = text[start..].matches('\n').count();
            places.extend(core::iter::repeat_n(at, lines));
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

/// What a processing instruction says, without its marks.
pub(crate) fn instruction(xml: &str) -> &str {
    let inner = xml.strip_prefix("<?").unwrap_or(xml);
    inner.strip_suffix("?>").unwrap_or(inner)
}

/// Whether a node is text that says something.
fn is_said(node: Node<'_, '_>) -> bool {
    node.is_text() && node.text().is_some_and(|t| !t.trim().is_empty())
}
