//! Named values: `params ip=10.0.0.9 nic=eth0`.

use super::{
    Owner,
    lines::{Line, problem},
    read::Reader,
};
use crate::xml::{Element, is_name};

/// The section of a keyword whose sets have no owner.
pub(super) fn home(keyword: &str) -> Option<&str> {
    match keyword {
        "property" => Some("crm_config"),
        "rsc_defaults" | "op_defaults" => Some(keyword),
        _ => None,
    }
}

/// Reads a set: its pairs stand on the line, or one on each line below.
pub(super) fn read(line: &Line, name: &str, owner: Owner<'_>, reader: &mut Reader) -> Element {
    let mut set = Element::new(name);
    set.at = line.at;
    let mut plain = line.plain().peekable();
    let lead = plain.next_if(|w| w.value.ends_with(':'));
    let lead = lead.map(|w| w.value.trim_end_matches(':'));
    let default = match (lead, line.special("$id-ref")) {
        (Some(lead), _) => Some(lead.to_owned()),
        (None, None) => Some(owner.part(name)),
        (None, Some(_)) => None,
    };
    if let Some(id) = line.special("$id").or(default.as_deref()) {
        set.set("id", id);
    }
    for (key, word) in line.pairs() {
        match key.strip_prefix('$') {
            Some("id") | None => {}
            Some(attribute) if is_name(attribute) => set.set(attribute, &word.value),
            Some(attribute) => {
                let what = format!("{attribute:?} cannot be the name of an attribute");
                let mend = "write letters, digits, -, _ and .";
                reader
                    .problems
                    .push(problem(word.at, &line.keyword, what, mend));
            }
        }
    }
    let id = set.get("id").unwrap_or_default().to_owned();
    for (key, word) in line.pairs().filter(|(key, _)| !key.starts_with('$')) {
        let mut pair = pair(&id, key, &word.value);
        pair.at = word.at;
        set.children.push(pair);
    }
    for word in plain {
        let what = format!("{:?} has no value", word.value);
        let mend = "write name=value";
        reader
            .problems
            .push(problem(word.at, &line.keyword, what, mend));
    }
    for child in &line.children {
        if child.keyword == "=" {
            set.children.push(own_line(child, &id, reader));
        } else {
            reader.child(child, &mut set, &id);
        }
    }
    set
}

/// A pair with a line of its own, and perhaps attributes beside name and value.
fn own_line(line: &Line, set: &str, reader: &mut Reader) -> Element {
    let mut made = Element::new("nvpair");
    let mut named = line.pairs().filter(|(key, _)| !key.starts_with('$'));
    if let Some((key, word)) = named.next() {
        made = pair(set, key, &word.value);
    }
    let surplus = named.map(|(_, word)| word).chain(line.plain());
    let surplus = surplus.map(|word| word.at);
    for at in surplus.chain(line.children.iter().map(|c| c.at)) {
        let what = "one named value belongs on a line of its own, and nothing below it";
        let mend = "begin a new line, and indent it as much as this one";
        reader.problems.push(problem(at, "=", what, mend));
    }
    for (key, word) in line.pairs() {
        match key.strip_prefix('$') {
            None => {}
            Some(attribute) if is_name(attribute) => made.set(attribute, &word.value),
            Some(attribute) => {
                let what = format!("{attribute:?} cannot be the name of an attribute");
                let mend = "write letters, digits, -, _ and .";
                reader.problems.push(problem(word.at, "=", what, mend));
            }
        }
    }
    made.at = line.at;
    made
}

fn pair(set: &str, name: &str, value: &str) -> Element {
    Element::new("nvpair")
        .with("id", &format!("{set}-{name}"))
        .with("name", name)
        .with("value", value)
}

fn is_usual(pair: &Element, set: &str) -> bool {
    let usual = |name: &str, value: &str| {
        pair.get("id") == Some(&*format!("{set}-{name}")) && pair.get("value") == Some(value)
    };
    pair.name == "nvpair"
        && pair.attributes.len() == 3
        && pair
            .get("name")
            .zip(pair.get("value"))
            .is_some_and(|(name, value)| usual(name, value) && !name.starts_with('$'))
}

/// Writes a set under a keyword.
pub(super) fn write(set: &Element, keyword: &str, owner: Owner<'_>) -> Line {
    let mut line = Line::new(keyword);
    let default = owner.part(&set.name);
    for (name, value) in &set.attributes {
        if name != "id" || *value != default {
            line.named(&format!("${name}"), value);
        }
    }
    let id = set.get("id").unwrap_or(&default);
    let inline = set.children.iter().all(|c| is_usual(c, id));
    for (index, child) in set.children.iter().enumerate() {
        if inline {
            let name = child.get("name").unwrap_or_default();
            line.named(name, child.get("value").unwrap_or_default());
        } else {
            let owner = Owner::in_turn(id, &set.children[..index], &child.name);
            line.children.push(on_own_line(child, owner));
        }
    }
    line
}

fn on_own_line(child: &Element, owner: Owner<'_>) -> Line {
    let set = owner.id;
    let named = child
        .get("name")
        .zip(child.get("value"))
        .filter(|(name, _)| !name.starts_with('$'));
    let (Some((name, value)), "nvpair") = (named, &*child.name) else {
        return super::write::element(child, owner);
    };
    let mut line = Line::new("=");
    line.named(name, value);
    let usual = format!("{set}-{name}");
    for (key, value) in &child.attributes {
        let said = key == "name" || key == "value" || (key == "id" && *value == usual);
        if !said {
            line.named(&format!("${key}"), value);
        }
    }
    line
}
