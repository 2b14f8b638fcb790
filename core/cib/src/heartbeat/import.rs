//! From Heartbeat's notation.

use super::{HYPHENATED, clean, config, constraints, resources, status};
use crate::{
    document::{Reading, read_moved},
    problem::{self, Level, Problem},
    text::Str,
    xml::{Element, parse},
};

/// What is said on the way.
#[derive(Default)]
pub(super) struct Notes(pub(super) Vec<Problem>);

impl Notes {
    pub(super) fn add(
        &mut self,
        level: Level,
        rule: &'static str,
        element: &Element,
        what: String,
        mend: &str,
    ) {
        self.0.push(Problem {
            level,
            rule,
            at: element.at,
            element: Str::from(&*element.name),
            id: element.get("id").map(Str::from),
            what,
            mend: mend.to_owned(),
        });
    }

    pub(super) fn dropped(&mut self, element: &Element, what: String) {
        let mend = "nothing needs to be done";
        self.add(Level::Note, "heartbeat-dropped", element, what, mend);
    }
}

/// Reads Heartbeat's XML. Problems point at the text that was given, and so do the places in the
/// model.
///
/// # Errors
/// If the text is not XML, or something else than a CIB.
pub fn import(text: &str) -> Result<Reading, Problem> {
    let ((mut cib, comments), mut problems) = parse(text, |root, reader| {
        let around = root.document().root().children();
        let comments: Vec<_> = around
            .filter(roxmltree::Node::is_comment)
            .map(|node| reader.verbatim(node))
            .collect();
        (Element::from_node(root, reader), comments)
    })?;
    if cib.name != "cib" {
        return Err(Problem {
            level: Level::Error,
            rule: "no-cib",
            at: cib.at,
            element: Str::from(&*cib.name),
            id: None,
            what: format!("the outermost element is <{}>", cib.name),
            mend: "give a whole CIB, from <cib …> to </cib>".to_owned(),
        });
    }
    let mut notes = Notes::default();
    root(&mut cib, &mut notes);
    unwrap_attributes(&mut cib);
    let names = resources::names(&cib);
    let mut configuration = take(&mut cib, "configuration");
    config::nodes(&mut configuration, &mut notes);
    config::options(&mut configuration, &mut notes);
    let promoted = resources::convert(&mut configuration, &mut notes);
    constraints::convert(&mut configuration, &mut notes);
    let mut state = take(&mut cib, "status");
    let agents = resources::agents(&configuration);
    status::convert(&mut state, &names, &agents, &promoted);
    cib.children.splice(0..0, [configuration, state]);
    clean::ids(&mut cib, &mut notes);
    let (text, places) = cib.write();
    let mut reading = read_moved(&text, Some(&places))?;
    reading.document.before = comments;
    problems.append(&mut notes.0);
    problems.append(&mut reading.problems);
    problem::sort(&mut problems);
    reading.problems = problems;
    Ok(reading)
}

fn take(cib: &mut Element, name: &str) -> Element {
    let mut found = cib.take_children(name).into_iter();
    found.next().unwrap_or_else(|| Element::new(name))
}

fn root(cib: &mut Element, notes: &mut Notes) {
    for old in [
        "num_peers",
        "ccm_transition",
        "cib_feature_revision",
        "generated",
        "ignore_dtd",
    ] {
        if let Some(value) = cib.take(old) {
            notes.dropped(cib, format!("{old}={value:?} has no meaning today"));
        }
    }
    cib.rename("remote_access_port", "remote-tls-port");
    cib.each(&mut |element| {
        for old in HYPHENATED {
            element.rename(old, &old.replace('_', "-"));
        }
    });
    // Heartbeat's document type filled these in.
    for (name, default) in [
        ("admin_epoch", "0"),
        ("epoch", "0"),
        ("num_updates", "0"),
        ("have-quorum", "false"),
    ] {
        if cib.get(name).is_none() {
            cib.set(name, default);
        }
    }
    cib.set("validate-with", "pacemaker-3.0");
}

/// Takes the wrapper off named values, and merges several wrappers.
fn unwrap_attributes(cib: &mut Element) {
    cib.each(&mut |element| {
        let wrapped = element
            .children
            .iter()
            .any(|c| c.name == "attributes" && c.attributes.is_empty());
        if wrapped {
            let children = core::mem::take(&mut element.children);
            for child in children {
                if child.name == "attributes" {
                    element.children.extend(child.children);
                } else {
                    element.children.push(child);
                }
            }
        }
    });
}

/// A present name: hyphens for underscores.
pub(super) fn hyphens(name: &str) -> String {
    name.replace('_', "-")
}

/// A named value.
pub(super) fn pair(set: &str, name: &str, value: &str) -> Element {
    Element::new("nvpair")
        .with("id", &format!("{set}-{name}"))
        .with("name", name)
        .with("value", value)
}

/// Says a named value in a set of the element, made before the other children if there is none. What
/// is said there already stays.
pub(super) fn say(element: &mut Element, set: &str, name: &str, value: &str) {
    let owner = element.get("id").unwrap_or("cib").to_owned();
    let id = format!("{owner}-{set}");
    if element.child(set).is_none() {
        element
            .children
            .insert(0, Element::new(set).with("id", &id));
    }
    let set = element.child_mut(set);
    if !set.children.iter().any(|p| p.get("name") == Some(name)) {
        let id = set.get("id").unwrap_or(&id).to_owned();
        set.children.push(pair(&id, name, value));
    }
}
