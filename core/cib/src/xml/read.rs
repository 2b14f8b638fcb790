//! From XML to the model.

use super::{
    attribute::AttributeField,
    child::ChildSlot,
    extra::{Body, Extra, UNKNOWN, Verbatim},
};
use crate::{
    problem::{Level, Problem},
    text::{At, Places, Str, Words},
};
use roxmltree::{Document, Node, NodeType, ParsingOptions};
use std::borrow::Cow;

/// Elements inside each other; a configuration needs about ten.
pub(crate) const DEEPEST: usize = 100;

pub(crate) struct Reader<'a> {
    text: &'a str,
    places: Places<'a>,
    words: Words,
    /// For a text that was made of another one: where each line came from.
    moved: Option<&'a [At]>,
    pub(crate) problems: Vec<Problem>,
}

/// Reads well-formed XML, or says what is wrong with it. A document type declaration is passed over
/// if it declares nothing itself.
pub(crate) fn parse<R>(
    text: &str,
    read: impl FnOnce(Node<'_, '_>, &mut Reader<'_>) -> R,
) -> Result<(R, Vec<Problem>), Problem> {
    parse_moved(text, None, read)
}

/// The same for a text that was made of another one: `moved` says for each line where it came from.
pub(crate) fn parse_moved<R>(
    text: &str,
    moved: Option<&[At]>,
    read: impl FnOnce(Node<'_, '_>, &mut Reader<'_>) -> R,
) -> Result<(R, Vec<Problem>), Problem> {
    let text = without_doctype(text)?;
    let options = ParsingOptions {
        nodes_limit: 20_000_000,
        ..ParsingOptions::default()
    };
    let document = Document::parse_with_options(&text, options).map_err(|error| {
        let pos = error.pos();
        let at = origin(pos.row, moved).unwrap_or(At {
            line: pos.row,
            column: pos.col,
        });
        // The library ends its messages with the place, which is said already.
        let what = error.to_string();
        let what = what.rsplit_once(" at ").map_or(&*what, |(what, _)| what);
        let what = format!("this is not well-formed XML: {what}");
        malformed(at, what, "close every element and quote every attribute")
    })?;
    let mut reader = Reader {
        text: &text,
        places: Places::new(&text),
        words: Words::default(),
        moved,
        problems: Vec::new(),
    };
    if let Some(node) = too_deep(&document) {
        let what = format!("elements are nested more than {DEEPEST} deep");
        return Err(malformed(reader.at(node), what, "take the inner ones out"));
    }
    let result = read(document.root_element(), &mut reader);
    Ok((result, reader.problems))
}

/// Where a line of a text came from that was made of another one.
fn origin(line: u32, moved: Option<&[At]>) -> Option<At> {
    let index = (line as usize).checked_sub(1)?;
    Some(moved?.get(index).copied().unwrap_or_default())
}

/// The first element that is nested too deeply for those who follow elements by recursion.
fn too_deep<'a, 'input>(document: &'a Document<'input>) -> Option<Node<'a, 'input>> {
    let (mut node, mut depth) = (document.root_element(), 1);
    loop {
        if depth > DEEPEST && node.is_element() {
            return Some(node);
        }
        if let Some(child) = node.first_child() {
            node = child;
            depth += 1;
            continue;
        }
        while node.next_sibling().is_none() {
            node = node.parent()?;
            depth -= 1;
            if depth == 0 {
                return None;
            }
        }
        node = node.next_sibling()?;
    }
}

fn malformed(at: At, what: String, mend: &str) -> Problem {
    Problem {
        level: Level::Error,
        rule: "xml",
        at,
        element: Str::from("?"),
        id: None,
        what,
        mend: mend.to_owned(),
    }
}

/// Blanks out `<!DOCTYPE …>`, so that places stay right. What it could declare (entities, defaults)
/// would change the meaning of the text, so a declaration with contents is refused.
fn without_doctype(text: &str) -> Result<Cow<'_, str>, Problem> {
    let text = text.strip_prefix('\u{FEFF}').unwrap_or(text);
    let mut rest = text;
    // Only a declaration, comments and instructions may come before it.
    loop {
        rest = rest.trim_start();
        let end = if rest.starts_with("<?") {
            "?>"
        } else if rest.starts_with("<!--") {
            "-->"
        } else {
            break;
        };
        match rest.find(end) {
            Some(found) => rest = &rest[found + end.len()..],
            None => return Ok(Cow::Borrowed(text)),
        }
    }
    if !rest.starts_with("<!DOCTYPE") {
        return Ok(Cow::Borrowed(text));
    }
    let begin = text.len() - rest.len();
    let end = rest.find(['>', '[']).unwrap_or(0);
    if !rest[end..].starts_with('>') {
        let what = "the document type declares something of its own".to_owned();
        let mend = "take the part in brackets out of <!DOCTYPE …>";
        return Err(malformed(Places::new(text).at(begin), what, mend));
    }
    let mut blank = String::with_capacity(text.len());
    blank.push_str(&text[..begin]);
    blank.extend(
        rest[..=end]
            .chars()
            .map(|c| if c == '\n' { c } else { ' ' }),
    );
    blank.push_str(&rest[end + 1..]);
    Ok(Cow::Owned(blank))
}

impl Reader<'_> {
    pub(crate) fn at(&mut self, node: Node<'_, '_>) -> At {
        self.place(node.range().start)
    }

    fn place(&mut self, offset: usize) -> At {
        let at = self.places.at(offset);
        match self.moved {
            Some(_) => origin(at.line, self.moved).unwrap_or_default(),
            None => at,
        }
    }

    /// The name of an element as it is written.
    pub(crate) fn qualified_name(&self, node: Node<'_, '_>) -> String {
        let xml = &self.text[node.range()];
        let name = xml.trim_start_matches('<');
        let end = name.find(|c: char| c.is_whitespace() || c == '/' || c == '>');
        name[..end.unwrap_or(name.len())].to_owned()
    }

    /// The attributes of an element as they are named, declarations of namespaces among them.
    pub(crate) fn qualified_attributes(&mut self, node: Node<'_, '_>) -> Vec<(String, String)> {
        let mut declared = Body::default();
        self.namespaces(node, &mut declared);
        let declared = declared.attributes.into_iter();
        let declared = declared.map(|(name, value)| (name.to_string(), value.to_string()));
        let written = node.attributes().map(|a| {
            let name = &self.text[a.range_qname()];
            (name.to_owned(), a.value().to_owned())
        });
        written.chain(declared).collect()
    }

    pub(crate) fn word(&mut self, text: &str) -> Str {
        self.words.get(text)
    }

    pub(crate) fn problem(
        &mut self,
        level: Level,
        rule: &'static str,
        at: At,
        node: Node<'_, '_>,
        what: String,
        mend: String,
    ) {
        self.problems.push(Problem {
            level,
            rule,
            at,
            element: Str::from(node.tag_name().name()),
            id: node.attribute("id").map(Str::from),
            what,
            mend,
        });
    }

    /// Fills the fields of one element and returns what they do not take.
    pub(crate) fn element(
        &mut self,
        node: Node<'_, '_>,
        names: &[&'static str],
        fields: &mut [&mut dyn AttributeField],
        tags: &[&[&'static str]],
        slots: &mut [&mut dyn ChildSlot],
    ) -> Extra {
        let mut body = Body::default();
        self.attributes(node, names, fields, &mut body);
        self.children(node, tags, slots, &mut body);
        Extra::new(body)
    }

    fn attributes(
        &mut self,
        node: Node<'_, '_>,
        names: &[&'static str],
        fields: &mut [&mut dyn AttributeField],
        body: &mut Body,
    ) {
        let mut order: [u8; 64] = [UNKNOWN; 64];
        let mut seen = 0;
        let mut next = 0; // Attributes mostly stand in the usual order.
        for attribute in node.attributes() {
            let name = attribute.name();
            let found = (attribute.namespace().is_none())
                .then(|| {
                    let after = names.iter().skip(next).position(|n| *n == name);
                    after
                        .map(|i| i + next)
                        .or_else(|| names.iter().take(next).position(|n| *n == name))
                })
                .flatten();
            if let Some(index) = found {
                next = index + 1;
                order[seen.min(63)] = index as u8;
                if let Err(expected) = fields[index].take(attribute.value(), &mut self.words) {
                    let at = self.place(attribute.range().start);
                    let what = format!("{name}={:?} is not understood", attribute.value());
                    let mend = format!("write {expected}; until then the default holds");
                    self.problem(Level::Warning, "bad-value", at, node, what, mend);
                }
            } else {
                let qualified = &self.text[attribute.range_qname()];
                let (qualified, value) = (self.word(qualified), self.word(attribute.value()));
                body.attributes.push((qualified, value));
            }
            seen += 1;
        }
        // After the others, whose order is known.
        self.namespaces(node, body);
        let order = &order[..seen.min(64)];
        // In another notation the order of attributes was not chosen.
        if !order.is_sorted() && seen <= 64 && self.moved.is_none() {
            body.attribute_order = Some(self.words.order(order));
        }
        for (index, field) in fields.iter().enumerate() {
            if field.required() && field.text().is_none() {
                let at = self.at(node);
                let what = format!("the attribute {} is missing or empty", names[index]);
                let mend = format!("add {}=\"…\"", names[index]);
                self.problem(Level::Error, "missing-attribute", at, node, what, mend);
            }
        }
        self.name_unknown_attributes(node, body);
    }

    /// Namespaces that an element declares itself: kept, so that qualified names stay valid.
    fn namespaces(&mut self, node: Node<'_, '_>, body: &mut Body) {
        let inherited = node.parent_element();
        for namespace in node.namespaces() {
            let known = |n: Node<'_, '_>| {
                n.namespaces()
                    .any(|o| o.name() == namespace.name() && o.uri() == namespace.uri())
            };
            if namespace.name() == Some("xml") || inherited.is_some_and(known) {
                continue;
            }
            let name = match namespace.name() {
                Some(prefix) => self.word(&format!("xmlns:{prefix}")),
                None => self.word("xmlns"),
            };
            let uri = self.word(namespace.uri());
            body.attributes.push((name, uri));
        }
    }

    fn name_unknown_attributes(&mut self, node: Node<'_, '_>, body: &Body) {
        // A ticket may carry attributes of any name.
        if node.tag_name().name() == "ticket_state" {
            return;
        }
        for (name, _) in &body.attributes {
            let at = self.at(node);
            let what = format!("the attribute {name} is unknown here");
            let mend = "check its spelling; it is kept, but has no effect".to_owned();
            self.problem(Level::Note, "unknown-attribute", at, node, what, mend);
        }
    }

    fn children(
        &mut self,
        node: Node<'_, '_>,
        tags: &[&[&'static str]],
        slots: &mut [&mut dyn ChildSlot],
        body: &mut Body,
    ) {
        let mut order = Vec::new();
        for child in node.children() {
            let name = child.tag_name().name();
            let slot = match child.node_type() {
                NodeType::Text if child.text().is_none_or(|t| t.trim().is_empty()) => continue,
                NodeType::Element if child.tag_name().namespace().is_none() => {
                    tags.iter().position(|tags| tags.contains(&name))
                }
                _ => None,
            };
            if let Some(slot) = slot
                && slots[slot].take(child, self)
            {
                order.push(slot as u8);
                continue;
            }
            order.push(UNKNOWN);
            let verbatim = self.verbatim(child);
            self.name_unknown_child(node, child, slot.is_some(), verbatim.at);
            body.nodes.push(verbatim);
        }
        if !order.is_sorted() {
            body.child_order = Some(self.words.order(&order));
        }
    }

    pub(crate) fn verbatim(&mut self, node: Node<'_, '_>) -> Verbatim {
        let at = self.at(node);
        let xml = &self.text[node.range()];
        Verbatim {
            element: node
                .is_element()
                .then(|| self.words.get(node.tag_name().name())),
            xml: Str::from(with_line_feeds(xml.trim())),
            at,
        }
    }

    fn name_unknown_child(&mut self, node: Node<'_, '_>, child: Node<'_, '_>, known: bool, at: At) {
        let name = child.tag_name().name();
        match child.node_type() {
            NodeType::Element if known => {
                let what = format!(
                    "<{name}> may stand in <{}> once only",
                    node.tag_name().name()
                );
                let mend = "merge it with the first; it is kept, but has no effect".to_owned();
                self.problem(Level::Warning, "repeated-element", at, child, what, mend);
            }
            NodeType::Element => {
                let what = format!("<{name}> is unknown in <{}>", node.tag_name().name());
                let mend =
                    "check its spelling and its place; it is kept, but has no effect".to_owned();
                self.problem(Level::Warning, "unknown-element", at, child, what, mend);
            }
            NodeType::Text => {
                let what = "there is text where only elements have a meaning".to_owned();
                let mend = "take it out, or make it a comment; it is kept".to_owned();
                self.problem(Level::Warning, "text", at, node, what, mend);
            }
            _ => {}
        }
    }
}

/// Every end of a line is a line feed in XML, however it is written.
pub(crate) fn with_line_feeds(text: &str) -> Cow<'_, str> {
    if text.contains('\r') {
        Cow::Owned(text.replace("\r\n", "\n").replace('\r', "\n"))
    } else {
        Cow::Borrowed(text)
    }
}
