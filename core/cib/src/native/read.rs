//! From the native form.

use super::{
    CONSTRAINTS, Owner, RAW, SECTIONS, SETS, counted,
    lines::{Line, Word, parse, problem},
    rules, section, sets,
};
use crate::{
    document::{Reading, read_moved},
    problem::{self, Problem},
    text::At,
    xml::{COMMENT, Element, INSTRUCTION, TEXT, is_name},
};
use std::borrow::Cow;

/// What is said on the way.
#[derive(Default)]
pub(super) struct Reader {
    pub(super) problems: Vec<Problem>,
}

/// Reads the native form. Problems and places in the model point at the text that was given.
///
/// # Errors
/// All problems, if the lines cannot be understood.
pub fn read(text: &str) -> Result<Reading, Vec<Problem>> {
    let mut reader = Reader::default();
    let lines = parse(text, &mut reader.problems);
    let (before, cib, after) = reader.document(&lines);
    if !reader.problems.is_empty() {
        problem::sort(&mut reader.problems);
        return Err(reader.problems);
    }
    let (mut text, mut places) = (String::new(), Vec::new());
    for element in before.iter().chain([&cib]).chain(&after) {
        let (part, part_places) = element.write();
        text.push_str(&part);
        places.extend(part_places);
    }
    read_moved(&text, Some(&places)).map_err(|problem| vec![problem])
}

impl Reader {
    /// The whole, with the comments before and after it.
    pub(super) fn document(&mut self, lines: &[Line]) -> (Vec<Element>, Element, Vec<Element>) {
        let cib_line = lines.iter().position(|l| l.keyword == "cib");
        let (before, rest) = match cib_line {
            Some(index) => (&lines[..index], &lines[index + 1..]),
            None => (&[][..], lines),
        };
        for line in before.iter().filter(|l| !stands_around(l)) {
            let mend = "write the cib line first";
            self.wrong(line.at, &line.keyword, "it stands before cib", mend);
        }
        let before: Vec<Element> = before
            .iter()
            .map(|l| self.element(l, Owner::NOBODY))
            .collect();
        let mut cib = match cib_line {
            Some(index) => self.generic(&lines[index], "cib", ""),
            None => Element::new("cib")
                .with("validate-with", "pacemaker-3.9")
                .with("epoch", "1")
                .with("num_updates", "0")
                .with("admin_epoch", "0"),
        };
        let mut after = Vec::new();
        if cib.children.is_empty() && cib_line.is_some() && rest.is_empty() {
            // Only the outermost element.
        } else if cib.children.is_empty() {
            self.flat(rest, &mut cib);
        } else {
            // Everything stands below the cib line; only comments may follow.
            for line in rest {
                if !stands_around(line) {
                    let what = "it stands beside cib, which has its own lines below it";
                    let mend = "indent it too, or none of them";
                    self.wrong(line.at, &line.keyword, what, mend);
                }
                after.push(self.element(line, Owner::NOBODY));
            }
        }
        (before, cib, after)
    }

    /// Statements of all sections one after the other.
    fn flat(&mut self, lines: &[Line], cib: &mut Element) {
        let mut configuration = Element::new("configuration");
        let mut status = Element::new("status");
        for name in SECTIONS {
            configuration.child_mut(name);
        }
        let mut comments: Vec<Element> = Vec::new();
        for line in lines {
            if stands_around(line) {
                comments.push(self.element(line, Owner::NOBODY));
                continue;
            }
            if line.keyword == "status" {
                status = self.generic(line, "status", "");
                status.children.splice(0..0, comments.drain(..));
                continue;
            }
            if let Some(home) = sets::home(&line.keyword) {
                let section = configuration.child_mut(home);
                section.children.append(&mut comments);
                self.options(line, section);
                continue;
            }
            let element = self.element(line, Owner::NOBODY);
            let Some(home) = section(&element.name) else {
                let what = format!("there is no statement {:?}", line.keyword);
                let mend = "write property, node, primitive, group, clone, bundle, template, \
                            location, colocation, order, ticket, rsc_defaults, op_defaults, \
                            fencing-level, tag, alert, or status";
                self.wrong(line.at, &line.keyword, what, mend);
                continue;
            };
            let section = configuration.child_mut(home);
            section.children.append(&mut comments);
            section.children.push(element);
            if home == "resources" {
                self.gather(line, section);
            }
        }
        status.children.append(&mut comments);
        cib.children = vec![configuration, status];
    }

    /// Options and defaults: those of several lines are one set, unless a line says otherwise.
    fn options(&mut self, line: &Line, section: &mut Element) {
        if line.words.is_empty() && line.children.is_empty() {
            return; // The section is there, and that is all.
        }
        let name = match &*line.keyword {
            "property" => "cluster_property_set",
            _ => "meta_attributes",
        };
        let owner = Owner {
            id: &line.keyword,
            before: 0,
        };
        let mut set = sets::read(line, name, owner, self);
        let same = |other: &&mut Element| {
            other.name == set.name && set.attributes.len() == 1 && other.get("id") == set.get("id")
        };
        match section.children.iter_mut().find(same) {
            Some(first) => first.children.append(&mut set.children),
            None => section.children.push(set),
        }
    }

    /// Members that a group or a clone names are moved into it.
    fn gather(&mut self, line: &Line, resources: &mut Element) {
        let line = unfold(line);
        if !COLLECTIVES.contains(&&*line.keyword) {
            return;
        }
        let Some(mut owner) = resources.children.pop() else {
            return;
        };
        for word in line.plain().skip(1) {
            let is_it = |r: &Element| r.get("id") == Some(&*word.value) && r.name != "template";
            match resources.children.iter().rposition(is_it) {
                Some(index) => owner.children.push(resources.children.remove(index)),
                None => {
                    let what = format!("there is no resource {:?} above this line", word.value);
                    let mend = "define it above, or below this line and indented";
                    self.wrong(word.at, &line.keyword, what, mend);
                }
            }
        }
        resources.children.push(owner);
    }

    fn wrong(&mut self, at: At, keyword: &str, what: impl Into<String>, mend: &str) {
        self.problems.push(problem(at, keyword, what, mend));
    }

    /// Any line.
    pub(super) fn element(&mut self, line: &Line, owner: Owner<'_>) -> Element {
        let line = &*unfold(line);
        let keyword = &*line.keyword;
        if let Some(name) = keyword.strip_prefix(RAW) {
            return self.generic(line, name, owner.id);
        }
        if let Some((_, name)) = SETS.iter().find(|(k, _)| *k == keyword)
            // By its name in XML if it has an id as an attribute.
            && (keyword != "utilization" || line.special("id").is_none())
        {
            return sets::read(line, name, owner, self);
        }
        match keyword {
            "#" | TEXT | INSTRUCTION => self.plain(line),
            "=" => {
                let what = "a named value stands here on its own";
                let mend = "indent it below params, meta or another set";
                self.wrong(line.at, "=", what, mend);
                Element::new("nvpair")
            }
            "rule" if line.special("id").is_none() => rules::read(line, owner, self),
            "op" if line.plain().next().is_some() => self.operation(line, owner.id),
            "primitive" | "template" => self.primitive(line),
            "node" => self.words(&without_colon(line), "node", &["id", "uname"]),
            "alert" => self.words(line, "alert", &["id", "path"]),
            "group" | "clone" | "master" => {
                let mut only_id = line.clone();
                let mut plain = 0;
                only_id.words.retain(|w| {
                    plain += usize::from(w.name.is_none());
                    w.name.is_some() || plain == 1
                });
                self.words(&only_id, keyword, &["id"])
            }
            "bundle" => self.words(line, "bundle", &["id"]),
            "tag" => self.listed(&without_colon(line), "tag", "obj_ref", "id"),
            "set" => self.resource_set(line, owner),
            _ => match CONSTRAINTS.iter().find(|(k, _)| *k == keyword) {
                Some((_, name)) => self.constraint(line, name),
                None => self.generic(line, keyword, owner.id),
            },
        }
    }

    /// A comment, text, or a processing instruction.
    fn plain(&mut self, line: &Line) -> Element {
        let keyword = &*line.keyword;
        let text = line.words.first().map_or("", |w| &*w.value);
        let first: String = text.chars().take(1).collect();
        let wrong = match keyword {
            "#" if text.contains("--") || text.ends_with('-') => {
                Some("a comment cannot have -- in it, nor - at its end, in XML")
            }
            TEXT if text.trim().is_empty() => Some("there is no text"),
            INSTRUCTION if text.contains("?>") || text.starts_with("xml ") || !is_name(&first) => {
                Some("this is no processing instruction")
            }
            _ if line.words.len() != 1 || !line.children.is_empty() => {
                Some("one text in quotes belongs here")
            }
            _ => None,
        };
        if let Some(what) = wrong {
            self.wrong(line.at, keyword, what, "write something else");
        }
        let name = if keyword == "#" { COMMENT } else { keyword };
        let mut plain = Element::new(name).with("text", text);
        plain.at = line.at;
        plain
    }

    /// An element by its name in XML: its attributes, and what is below.
    fn generic(&mut self, line: &Line, name: &str, owner: &str) -> Element {
        if !is_name(name) {
            let what = format!("{name:?} cannot be the name of an element");
            let mend = "write letters, digits, -, _ and .";
            self.wrong(line.at, &line.keyword, what, mend);
        }
        if let Some(word) = line.plain().next() {
            let what = format!("{:?} has no name before it", word.value);
            self.wrong(word.at, &line.keyword, what, "write name=value");
        }
        self.with_attributes(line, Element::new(name), owner)
    }

    /// Adds the attributes of a line and what is below it.
    fn with_attributes(&mut self, line: &Line, mut element: Element, owner: &str) -> Element {
        element.at = line.at;
        for (name, word) in line.pairs() {
            let name = name.strip_prefix('$').unwrap_or(name);
            if !is_name(name) {
                let what = format!("{name:?} cannot be the name of an attribute");
                let mend = "write letters, digits, -, _ and .";
                self.wrong(word.at, &line.keyword, what, mend);
                continue;
            }
            if element.get(name).is_some() {
                let what = format!("{name} is said twice");
                self.wrong(word.at, &line.keyword, what, "say it once");
            }
            element.set(name, &word.value);
        }
        let id = element.get("id").unwrap_or(owner).to_owned();
        self.below(line, &mut element, &id);
        element
    }

    /// Adds what is below a line.
    pub(super) fn below(&mut self, line: &Line, element: &mut Element, id: &str) {
        for child in &line.children {
            self.child(child, element, id);
        }
    }

    /// Adds what one line below another stands for.
    pub(super) fn child(&mut self, line: &Line, element: &mut Element, id: &str) {
        let owner = Owner::in_turn(id, &element.children, counted(&line.keyword));
        let child = self.element(line, owner);
        element.children.push(child);
    }

    /// An element whose first attributes are words.
    fn words(&mut self, line: &Line, name: &str, attributes: &[&str]) -> Element {
        let mut element = Element::new(name);
        let mut names = attributes.iter();
        for word in line.plain() {
            match names.next() {
                Some(attribute) => element.set(attribute, &word.value),
                None => {
                    let what = format!("{:?} is one word too many", word.value);
                    let mend = "write name=value";
                    self.wrong(word.at, &line.keyword, what, mend);
                }
            }
        }
        self.with_attributes(line, element, "")
    }

    fn primitive(&mut self, line: &Line) -> Element {
        let mut plain = line.plain();
        let mut element = Element::new(&line.keyword);
        if let Some(id) = plain.next() {
            element.set("id", &id.value);
        }
        if let Some(agent) = plain.next() {
            self.agent(agent, &mut element);
        }
        if let Some(word) = plain.next() {
            let what = format!("{:?} is one word too many", word.value);
            let mend = "write parameters on a line below: params name=value";
            self.wrong(word.at, &line.keyword, what, mend);
        }
        let mut element = self.with_attributes(line, element, "");
        // Operations stand in an element of their own.
        let children = core::mem::take(&mut element.children);
        for child in children {
            if child.name == "op" {
                if element
                    .children
                    .last()
                    .is_none_or(|c| c.name != "operations")
                {
                    element.children.push(Element {
                        at: child.at,
                        ..Element::new("operations")
                    });
                }
                if let Some(operations) = element.children.last_mut() {
                    operations.children.push(child);
                }
            } else {
                element.children.push(child);
            }
        }
        element
    }

    fn agent(&mut self, word: &Word, element: &mut Element) {
        if let Some(template) = word.value.strip_prefix('@') {
            element.set("template", template);
            return;
        }
        let (class, rest) = word.value.split_once(':').unwrap_or(("ocf", &word.value));
        let provided =
            (class == "ocf").then(|| rest.split_once(':').unwrap_or(("heartbeat", rest)));
        match provided {
            // The provider is left out only together with the class.
            Some(_) if word.value.starts_with("ocf:") && !rest.contains(':') => {
                let what = format!("{:?} is no agent", word.value);
                let mend = "write ocf:PROVIDER:TYPE, CLASS:TYPE, TYPE for ocf:heartbeat:TYPE, or \
                            @TEMPLATE";
                self.wrong(word.at, "primitive", what, mend);
            }
            Some((provider, agent)) => {
                element.set("class", "ocf");
                element.set("provider", provider);
                element.set("type", agent);
            }
            None => {
                element.set("class", class);
                element.set("type", rest);
            }
        }
    }

    fn operation(&mut self, line: &Line, owner: &str) -> Element {
        let name = line.plain().next().map_or("", |w| &*w.value);
        let mut element = Element::new("op");
        if !["id", "$id", "id-ref"]
            .iter()
            .any(|n| line.special(n).is_some())
        {
            let interval = line.special("interval").unwrap_or("0");
            element.set("id", &format!("{owner}-{name}-interval-{interval}"));
        }
        element.set("name", name);
        if let Some(word) = line.plain().nth(1) {
            let what = format!("{:?} is one word too many", word.value);
            self.wrong(word.at, &line.keyword, what, "write name=value");
        }
        self.with_attributes(line, element, owner)
    }

    /// An element that lists others by their ids.
    fn listed(&mut self, line: &Line, name: &str, inner: &str, attribute: &str) -> Element {
        let mut words = line.clone();
        let skip = usize::from(!attribute.is_empty());
        words.words.retain(|w| w.name.is_some());
        let mut element = Element::new(name);
        if let Some(id) = line.plain().next().filter(|_| skip == 1) {
            element.set(attribute, &id.value);
        }
        for word in line.plain().skip(skip) {
            let mut reference = Element::new(inner).with("id", &word.value);
            reference.at = word.at;
            element.children.push(reference);
        }
        self.with_attributes(&words, element, "")
    }

    fn resource_set(&mut self, line: &Line, owner: Owner<'_>) -> Element {
        let mut set = self.listed(line, "resource_set", "resource_ref", "");
        if set.get("id").is_none() && set.get("id-ref").is_none() {
            set.set("id", &owner.part("set"));
        }
        set
    }

    fn constraint(&mut self, line: &Line, name: &str) -> Element {
        let mut element = Element::new(name);
        let mut plain = line.plain().peekable();
        if let Some(id) = plain.next() {
            element.set("id", &id.value);
        }
        if name == "rsc_location"
            && let Some(rsc) = plain.next()
        {
            let pattern = rsc
                .value
                .strip_prefix('/')
                .and_then(|p| p.strip_suffix('/'));
            match pattern {
                Some(pattern) => element.set("rsc-pattern", pattern),
                None => element.set("rsc", &rsc.value),
            }
        }
        let lead = plain.peek().and_then(|w| w.value.strip_suffix(':'));
        if let Some(lead) = lead {
            let attribute = match name {
                "rsc_order" => "kind",
                "rsc_ticket" => "ticket",
                _ => "score",
            };
            element.set(attribute, lead);
            plain.next();
        }
        let names: &[(&str, &str)] = match name {
            "rsc_location" => &[("node", "")],
            "rsc_colocation" => &[("rsc", "rsc-role"), ("with-rsc", "with-rsc-role")],
            "rsc_order" => &[("first", "first-action"), ("then", "then-action")],
            _ => &[("rsc", "rsc-role")],
        };
        for (attribute, detail) in names {
            let Some(word) = plain.next() else { break };
            let (value, more) = match word.value.split_once(':') {
                Some((value, more)) if !detail.is_empty() => (value, Some(more)),
                _ => (&*word.value, None),
            };
            element.set(attribute, value);
            if let Some(more) = more {
                element.set(detail, more);
            }
        }
        if let Some(word) = plain.next() {
            let what = format!("{:?} is one word too many", word.value);
            let mend = "list more than two resources below: set RSC RSC …";
            self.wrong(word.at, &line.keyword, what, mend);
        }
        self.with_attributes(line, element, "")
    }
}

/// Whether reading lines gives this very element.
pub(super) fn gives(line: &Line, owner: Owner<'_>, element: &Element) -> bool {
    let mut reader = Reader::default();
    let made = reader.element(line, owner);
    reader.problems.is_empty() && made.same(element)
}

/// What may stand around everything else, and means nothing.
fn stands_around(line: &Line) -> bool {
    ["#", TEXT, INSTRUCTION].contains(&&*line.keyword)
}

/// An id may be told from what follows it by a colon.
fn without_colon(line: &Line) -> Line {
    let mut line = line.clone();
    let mut plain = line.words.iter_mut().filter(|w| w.name.is_none());
    if let (Some(id), Some(_)) = (plain.next(), plain.next())
        && id.value.ends_with(':')
    {
        id.value.pop();
    }
    line
}

/// What has members.
const COLLECTIVES: &[&str] = &["group", "clone", "master"];

/// What may stand on the line of its owner, too.
const PARTS: &[&str] = &["params", "meta", "op", "utilization", "attributes"];

/// Puts what stands on the line of its owner below it: `primitive a systemd:a op monitor`.
fn unfold(line: &Line) -> Cow<'_, Line> {
    let (parts, from): (&[&str], usize) = match &*line.keyword {
        "primitive" | "template" | "group" | "clone" | "master" | "node" => (PARTS, 1),
        "location" => (&["rule"], 2),
        _ => return Cow::Borrowed(line),
    };
    let begins = |w: &Word| w.name.is_none() && parts.contains(&&*w.value);
    let mut plain = 0;
    let first = line.words.iter().position(|w| {
        plain += usize::from(w.name.is_none());
        plain > from && begins(w)
    });
    let Some(first) = first else {
        return Cow::Borrowed(line);
    };
    let mut folded: Vec<Line> = Vec::new();
    for word in &line.words[first..] {
        match folded.last_mut() {
            // A rule has words of any kind, and is the last on its line.
            Some(last) if !begins(word) || parts.len() == 1 => last.words.push(word.clone()),
            _ => folded.push(Line {
                at: word.at,
                ..Line::new(&word.value)
            }),
        }
    }
    folded.extend(line.children.iter().cloned());
    Cow::Owned(Line {
        words: line.words[..first].to_vec(),
        children: folded,
        ..line.clone()
    })
}
