//! To the native form.

use super::{
    CONSTRAINTS, Owner, RAW, SETS,
    lines::{Line, parse, render},
    read::{Reader, gives},
    rules, section, sets,
};
use crate::{
    document::Document,
    text::At,
    xml::{
        COMMENT, Child as _, Element, INSTRUCTION, TEXT, Verbatim, Writer, instruction,
        parse as parse_xml,
    },
};

/// Writes the native form. Whatever does not fit its short forms is written by its name in XML, so
/// that nothing is lost.
#[must_use]
pub fn write(document: &Document) -> String {
    let Some(cib) = tree(document) else {
        // Our own writer made its XML, so this does not happen; and an empty text would say so.
        return String::new();
    };
    let mut lines: Vec<Line> = document.before.iter().map(around).collect();
    let after = document.after.iter().map(around);
    let flat: Vec<Line> = flat(&cib);
    if document.after.is_empty() && says(&flat, &cib) {
        lines.extend(flat);
    } else {
        lines.push(by_name(&cib, ""));
        lines.extend(after);
    }
    let mut text = String::new();
    render(&lines, 0, &mut text);
    text
}

impl Document {
    /// Whether both say the same: what the model knows, and what it does not, whatever the layout of
    /// the latter and the order of the sections.
    #[must_use]
    pub fn says_the_same_as(&self, other: &Document) -> bool {
        let around =
            |d: &Document| -> Vec<Line> { d.before.iter().chain(&d.after).map(around).collect() };
        let same = match (tree(self), tree(other)) {
            (Some(one), Some(two)) => in_order(one).same(&in_order(two)),
            _ => self.cib == other.cib,
        };
        same && self.before.len() == other.before.len() && around(self) == around(other)
    }
}

/// With the sections sorted: which of them comes first says nothing.
fn in_order(mut cib: Element) -> Element {
    for child in cib
        .children
        .iter_mut()
        .filter(|c| c.name == "configuration")
    {
        child.children.sort_by(|a, b| a.name.cmp(&b.name));
    }
    cib
}

fn tree(document: &Document) -> Option<Element> {
    let mut writer = Writer::in_usual_order();
    document.cib.write("cib", &mut writer);
    parse_xml(&writer.finish(), Element::from_node)
        .ok()
        .map(|(tree, _)| tree)
}

/// The line of something that stands before or after the whole.
fn around(node: &Verbatim) -> Line {
    let comment = node.xml.strip_prefix("<!--");
    let mut line = match comment.and_then(|t| t.strip_suffix("-->")) {
        Some(text) => plain("#", text),
        None => plain(INSTRUCTION, instruction(&node.xml)),
    };
    line.at = At::default();
    line
}

fn plain(keyword: &str, text: &str) -> Line {
    let mut line = Line::new(keyword);
    line.word(text);
    line
}

/// Whether the lines, written and read again, give the whole.
fn says(lines: &[Line], cib: &Element) -> bool {
    let mut text = String::new();
    render(lines, 0, &mut text);
    let mut reader = Reader::default();
    let lines = parse(&text, &mut reader.problems);
    let (_, made, _) = reader.document(&lines);
    reader.problems.is_empty() && in_order(made).same(&in_order(cib.clone()))
}

/// Sections whose statements come before the others.
const FIRST: &[&str] = &[
    "crm_config",
    "rsc_defaults",
    "op_defaults",
    "nodes",
    "resources",
    "constraints",
];

/// Statements of all sections one after the other.
fn flat(cib: &Element) -> Vec<Line> {
    let mut line = Line::new("cib");
    for (name, value) in &cib.attributes {
        line.named(name, value);
    }
    let mut lines = vec![line];
    let sections = cib.child("configuration").map(|c| &*c.children);
    let mut sections: Vec<&Element> = sections.unwrap_or_default().iter().collect();
    sections.sort_by_key(|s| {
        let place = FIRST.iter().position(|f| *f == s.name);
        place.unwrap_or(FIRST.len())
    });
    for of_section in sections {
        let home = &*of_section.name;
        if sets::home(home).is_some() && of_section.children.is_empty() {
            lines.push(Line::new(home));
        }
        for item in &of_section.children {
            let default = ["rsc_defaults", "op_defaults"].contains(&home);
            if default && item.name == "meta_attributes" {
                let owner = Owner {
                    id: home,
                    before: 0,
                };
                lines.push(sets::write(item, home, owner));
            } else {
                lines.push(element(item, Owner::NOBODY));
            }
        }
    }
    if let Some(status) = cib.child("status").filter(|s| !s.children.is_empty()) {
        lines.push(by_name(status, ""));
    }
    lines
}

/// The line of an element: a short form if it says everything, or its name in XML.
pub(super) fn element(element: &Element, owner: Owner<'_>) -> Line {
    if let Some(line) = short(element, owner)
        && gives(&line, owner, element)
    {
        return line;
    }
    let mut line = by_name(element, owner.id);
    if !gives(&line, owner, element) {
        // Its name means something else as a keyword.
        line.keyword.insert(0, RAW);
    }
    line
}

/// An element by its name in XML.
fn by_name(element: &Element, owner: &str) -> Line {
    let text = element.get("text").unwrap_or_default();
    match &*element.name {
        COMMENT => return plain("#", text),
        name @ (TEXT | INSTRUCTION) => return plain(name, text),
        _ => {}
    }
    let mut line = Line::new(&element.name);
    for (name, value) in &element.attributes {
        line.named(name, value);
    }
    line.children = below(element, element.get("id").unwrap_or(owner));
    line
}

pub(super) fn below(parent: &Element, id: &str) -> Vec<Line> {
    let children = parent.children.iter().enumerate();
    let line = |(index, child): (usize, &Element)| {
        let owner = Owner::in_turn(id, &parent.children[..index], &child.name);
        element(child, owner)
    };
    children.map(line).collect()
}

fn short(item: &Element, owner: Owner<'_>) -> Option<Line> {
    let name = &*item.name;
    if section(name).is_none() && !["op", "rule", "resource_set"].contains(&name) {
        let keyword = match name {
            "instance_attributes" => "params",
            _ => SETS.iter().find(|(_, n)| *n == name)?.0,
        };
        return Some(sets::write(item, keyword, owner));
    }
    let id = item.get("id").unwrap_or_default();
    Some(match name {
        "cluster_property_set" => sets::write(item, "property", owner),
        "rule" => rules::write(item, owner),
        "op" => operation(item, owner.id),
        "primitive" | "template" => primitive(item),
        "node" => {
            let mut line = with_words(item, "node", &["id", "uname"]);
            for child in line.children.iter_mut().filter(|c| c.keyword == "params") {
                child.keyword = "attributes".to_owned();
            }
            line
        }
        "alert" => with_words(item, "alert", &["id", "path"]),
        "group" | "clone" | "master" | "bundle" => with_words(item, name, &["id"]),
        "tag" => listed(item, "tag", "id", "obj_ref"),
        "resource_set" => {
            let mut line = listed(item, "set", "", "resource_ref");
            let usual = owner.part("set");
            line.words
                .retain(|w| w.name.as_deref() != Some("id") || w.value != usual);
            line
        }
        _ => constraint(item, CONSTRAINTS.iter().find(|(_, n)| *n == name)?.0, id),
    })
}

/// The given attributes as words, the others with their names.
fn with_words(item: &Element, keyword: &str, attributes: &[&str]) -> Line {
    let mut line = Line::new(keyword);
    let mut said = Vec::new();
    for name in attributes {
        let Some(value) = item.get(name) else { break };
        line.word(value);
        said.push(*name);
    }
    for (name, value) in &item.attributes {
        if !said.contains(&&**name) {
            line.named(name, value);
        }
    }
    line.children = below(item, item.get("id").unwrap_or_default());
    line
}

fn operation(op: &Element, owner: &str) -> Line {
    let mut line = with_words(op, "op", &["name"]);
    let name = op.get("name").unwrap_or_default();
    let interval = op.get("interval").unwrap_or("0");
    let usual = format!("{owner}-{name}-interval-{interval}");
    line.words
        .retain(|w| w.name.as_deref() != Some("id") || w.value != usual);
    for word in &mut line.words {
        if word.name.as_deref() == Some("id") {
            word.name = Some("$id".to_owned());
        }
    }
    line
}

fn primitive(item: &Element) -> Line {
    let mut line = Line::new(&item.name);
    line.word(item.get("id").unwrap_or_default());
    let mut said = vec!["id"];
    let (class, provider) = (item.get("class"), item.get("provider"));
    match (item.get("template"), class, provider, item.get("type")) {
        (Some(template), None, None, None) => {
            line.word(format!("@{template}"));
            said.push("template");
        }
        (_, Some(class), Some(provider), Some(agent)) => {
            line.word(format!("{class}:{provider}:{agent}"));
            said.extend(["class", "provider", "type"]);
        }
        (_, Some(class), None, Some(agent)) => {
            line.word(format!("{class}:{agent}"));
            said.extend(["class", "type"]);
        }
        _ => {}
    }
    for (name, value) in &item.attributes {
        if !said.contains(&&**name) {
            line.named(name, value);
        }
    }
    let id = item.get("id").unwrap_or_default();
    for (child, below) in item.children.iter().zip(below(item, id)) {
        let plain = child.name == "operations" && child.attributes.is_empty();
        if plain && child.children.iter().all(|c| c.name == "op") && !child.children.is_empty() {
            line.children.extend(below.children);
        } else {
            line.children.push(below);
        }
    }
    line
}

fn listed(item: &Element, keyword: &str, attribute: &str, inner: &str) -> Line {
    let mut line = Line::new(keyword);
    if !attribute.is_empty() {
        line.word(item.get(attribute).unwrap_or_default());
    }
    for child in item.children.iter().filter(|c| c.name == inner) {
        line.word(child.get("id").unwrap_or_default());
    }
    for (name, value) in &item.attributes {
        if name != attribute {
            line.named(name, value);
        }
    }
    let others = item.children.iter().filter(|c| c.name != inner);
    line.children = others.map(|c| element(c, Owner::NOBODY)).collect();
    line
}

fn constraint(item: &Element, keyword: &str, id: &str) -> Line {
    let mut line = Line::new(keyword);
    line.word(id);
    let mut said = vec!["id"];
    let (lead, names): (&str, &[(&str, &str)]) = match keyword {
        "location" => ("score", &[("node", "")]),
        "colocation" => (
            "score",
            &[("rsc", "rsc-role"), ("with-rsc", "with-rsc-role")],
        ),
        "order" => (
            "kind",
            &[("first", "first-action"), ("then", "then-action")],
        ),
        _ => ("ticket", &[("rsc", "rsc-role")]),
    };
    if keyword == "location" {
        if let Some(rsc) = item.get("rsc") {
            line.word(rsc);
            said.push("rsc");
        } else if let Some(pattern) = item.get("rsc-pattern") {
            line.word(format!("/{pattern}/"));
            said.push("rsc-pattern");
        }
    }
    if let Some(value) = item.get(lead) {
        line.word(format!("{value}:"));
        said.push(lead);
    }
    for (name, detail) in names {
        let Some(value) = item.get(name) else { break };
        said.push(name);
        match item.get(detail) {
            Some(more) => {
                line.word(format!("{value}:{more}"));
                said.push(detail);
            }
            None => line.word(value),
        }
    }
    for (name, value) in &item.attributes {
        if !said.contains(&&**name) {
            line.named(name, value);
        }
    }
    line.children = below(item, id);
    line
}
