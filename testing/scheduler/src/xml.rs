//! Writing XML, as far as a cluster needs it.

use std::fmt::Write as _;

/// An element in the making.
#[derive(Clone, Debug, Default)]
pub struct Tag {
    name: &'static str,
    attributes: Vec<(String, String)>,
    children: Vec<Tag>,
}

/// An element without attributes.
#[must_use]
pub fn tag(name: &'static str) -> Tag {
    Tag {
        name,
        ..Tag::default()
    }
}

impl Tag {
    /// With one more attribute.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl ToString) -> Tag {
        self.set(name, value);
        self
    }

    /// Adds an attribute.
    pub fn set(&mut self, name: &str, value: impl ToString) {
        self.attributes.push((name.to_owned(), value.to_string()));
    }

    /// With one more element inside.
    #[must_use]
    pub fn holding(mut self, child: Tag) -> Tag {
        self.push(child);
        self
    }

    /// Adds an element inside.
    pub fn push(&mut self, child: Tag) {
        self.children.push(child);
    }

    /// Whether nothing is inside.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.children.is_empty()
    }

    /// The text, indented.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        self.write(0, &mut text);
        text
    }

    fn write(&self, depth: usize, text: &mut String) {
        let _ = write!(text, "{:1$}<{2}", "", 2 * depth, self.name);
        for (name, value) in &self.attributes {
            let value = value.replace('&', "&amp;").replace('"', "&quot;");
            let _ = write!(text, " {name}=\"{}\"", value.replace('<', "&lt;"));
        }
        if self.children.is_empty() {
            text.push_str("/>\n");
            return;
        }
        text.push_str(">\n");
        for child in &self.children {
            child.write(depth + 1, text);
        }
        let _ = writeln!(text, "{:1$}</{2}>", "", 2 * depth, self.name);
    }
}
