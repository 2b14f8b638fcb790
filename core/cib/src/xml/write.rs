//! From the model to XML.

use super::{
    attribute::AttributeField,
    child::ChildSlot,
    extra::{Extra, UNKNOWN, Verbatim},
};
use crate::text::At;

/// Writes elements, indented by two spaces, attributes on one line.
#[derive(Default)]
pub(crate) struct Writer {
    out: String,
    depth: usize,
    /// Whether attributes stand in the usual order, in whichever they were read.
    usual_order: bool,
    /// For each line, where what stands on it was read.
    places: Vec<At>,
}

impl Writer {
    /// For a text in which the order of attributes says nothing.
    pub(crate) fn in_usual_order() -> Writer {
        Writer {
            usual_order: true,
            ..Writer::default()
        }
    }

    pub(crate) fn finish(self) -> String {
        self.out
    }

    /// The text, and for each of its lines where what stands on it was read.
    pub(crate) fn finish_with_places(self) -> (String, Vec<At>) {
        (self.out, self.places)
    }

    pub(crate) fn verbatim(&mut self, node: &Verbatim) {
        self.indent();
        self.out.push_str(&node.xml);
        self.out.push('\n');
        let lines = 1 + node.xml.matches('\n').count();
        self.places.extend(core::iter::repeat_n(node.at, lines));
    }

    fn indent(&mut self) {
        self.out.extend(core::iter::repeat_n("  ", self.depth));
    }

    pub(crate) fn element(
        &mut self,
        (tag, at): (&'static str, At),
        names: &[&'static str],
        fields: &[&dyn AttributeField],
        tags: &[&[&'static str]],
        slots: &[&dyn ChildSlot],
        extra: &Extra,
    ) {
        self.indent();
        self.out.push('<');
        self.out.push_str(tag);
        self.attributes(names, fields, extra);
        self.places.push(at);
        if slots.iter().all(|s| s.len() == 0) && extra.nodes().is_empty() {
            self.out.push_str("/>\n");
            return;
        }
        self.out.push_str(">\n");
        self.depth += 1;
        self.children(tags, slots, extra);
        self.depth -= 1;
        self.indent();
        self.out.push_str("</");
        self.out.push_str(tag);
        self.out.push_str(">\n");
        self.places.push(at);
    }

    /// First what stood there when it was read, in that order; then the rest in the usual order.
    fn attributes(
        &mut self,
        names: &[&'static str],
        fields: &[&dyn AttributeField],
        extra: &Extra,
    ) {
        let order: &[u8] = extra
            .body()
            .filter(|_| !self.usual_order)
            .and_then(|b| b.attribute_order.as_deref())
            .unwrap_or_default();
        let mut unknown = extra.attributes().iter();
        for &index in order {
            if index == UNKNOWN {
                if let Some((name, value)) = unknown.next() {
                    self.attribute(name, value);
                }
            } else if let Some(value) = fields[usize::from(index)].text() {
                self.attribute(names[usize::from(index)], value);
            }
        }
        for (index, field) in fields.iter().enumerate() {
            if let Some(value) = field.text()
                && !order.contains(&(index as u8))
            {
                self.attribute(names[index], value);
            }
        }
        for (name, value) in unknown {
            self.attribute(name, value);
        }
    }

    fn attribute(&mut self, name: &str, value: &str) {
        self.out.push(' ');
        self.out.push_str(name);
        self.out.push_str("=\"");
        escape(value, &mut self.out);
        self.out.push('"');
    }

    /// In the order in which they were read, as far as they are still the same ones in number; what
    /// was added since then follows in the usual order.
    fn children(&mut self, tags: &[&[&'static str]], slots: &[&dyn ChildSlot], extra: &Extra) {
        let order: &[u8] = extra
            .body()
            .and_then(|b| b.child_order.as_deref())
            .unwrap_or_default();
        let mut written = vec![0; slots.len()];
        let mut unknown = extra.nodes().iter();
        for &slot in order {
            if slot == UNKNOWN {
                if let Some(node) = unknown.next() {
                    self.verbatim(node);
                }
            } else {
                let slot = usize::from(slot);
                if written[slot] < slots[slot].len() {
                    slots[slot].write(written[slot], tags[slot][0], self);
                    written[slot] += 1;
                }
            }
        }
        for (slot, written) in written.into_iter().enumerate() {
            for index in written..slots[slot].len() {
                slots[slot].write(index, tags[slot][0], self);
            }
        }
        for node in unknown {
            self.verbatim(node);
        }
    }
}

/// Line breaks and tabs would become spaces when read again, so they are written as references.
pub(super) fn escape(value: &str, out: &mut String) {
    for c in value.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\n' => out.push_str("&#10;"),
            '\r' => out.push_str("&#13;"),
            '\t' => out.push_str("&#9;"),
            c => out.push(c),
        }
    }
}
