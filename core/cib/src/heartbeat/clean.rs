//! Ids: Heartbeat allowed any, and none.

use super::import::Notes;
use crate::xml::Element;
use mainstay_base::FixedMap;
use std::collections::BTreeMap;

/// Attributes that name resources.
const REFERENCES: &[&str] = &["rsc", "with-rsc", "first", "then"];

/// Makes ids that XML accepts, and that are used once. Resources keep theirs unless XML would refuse
/// them, and what names them is changed with them. Ids of nodes and histories are no ids to XML.
pub(super) fn ids(cib: &mut Element, notes: &mut Notes) {
    let Some(configuration) = cib.children.iter_mut().find(|c| c.name == "configuration") else {
        return;
    };
    let mut used: FixedMap<String, ()> = FixedMap::new();
    let mut renamed = Renamed::default();
    // Resources and constraints come first, since people know them by their ids.
    configuration.each(&mut |element| {
        if is_named(element)
            && let Some(id) = element.get("id").map(str::to_owned)
        {
            let mut new = valid(&id);
            while used.contains(&new) {
                new = format!("{new}-{}", element.name);
            }
            if new != id {
                notes.dropped(element, format!("the id {id:?} is {new:?} now"));
                element.set("id", &new);
                // Of two, constraints mean the outer one, histories the primitive.
                if element.name == "primitive" {
                    renamed.in_histories.insert(id.clone(), new.clone());
                }
                if !used.contains(&id) {
                    renamed.in_constraints.insert(id, new.clone());
                }
            }
            used.insert(new, ());
        }
    });
    let mut path = Vec::new();
    for section in &mut configuration.children {
        unique(section, &mut path, &mut used);
    }
    cib.each(&mut |element| renamed.apply(element));
}

/// New ids of resources, by their old ones.
#[derive(Default)]
struct Renamed {
    in_constraints: BTreeMap<String, String>,
    in_histories: BTreeMap<String, String>,
}

impl Renamed {
    fn apply(&self, element: &mut Element) {
        if element.name.starts_with("rsc_") {
            for name in REFERENCES {
                let new = element
                    .get(name)
                    .and_then(|old| self.in_constraints.get(old));
                if let Some(new) = new {
                    element.set(name, new);
                }
            }
        }
        let Some(id) = element.get("id").map(str::to_owned) else {
            return;
        };
        let (resource, _) = id.split_once(':').unwrap_or((&id, ""));
        let Some(new) = self.in_histories.get(resource) else {
            return;
        };
        if element.name != "lrm_resource" {
            return;
        }
        let to = format!("{new}{}", &id[resource.len()..]);
        for op in &mut element.children {
            for name in ["id", "operation_key"] {
                if let Some(rest) = op.get(name).and_then(|v| v.strip_prefix(&*id)) {
                    let value = format!("{to}{rest}");
                    op.set(name, &value);
                }
            }
        }
        element.set("id", &to);
    }
}

fn is_named(element: &Element) -> bool {
    ["primitive", "group", "clone"].contains(&&*element.name)
        || element.name.starts_with("rsc_") && element.name != "rsc_defaults"
}

/// Gives an id to what has none, or one that is not its own.
fn unique(element: &mut Element, path: &mut Vec<String>, used: &mut FixedMap<String, ()>) {
    let needs = [
        "cluster_property_set",
        "instance_attributes",
        "meta_attributes",
        "nvpair",
        "op",
        "rule",
        "expression",
        "date_expression",
        "date_spec",
        "duration",
    ];
    if needs.contains(&&*element.name) {
        let own = element.get("id").map(valid);
        let id = match own {
            Some(id) if !used.contains(&id) => id,
            _ => {
                let owner = path.last().map_or("cib", |p| &**p);
                let what = element.get("name").unwrap_or(&element.name);
                let base = valid(&format!("{owner}-{what}"));
                let mut id = base.clone();
                let mut count = 1;
                while used.contains(&id) {
                    count += 1;
                    id = format!("{base}-{count}");
                }
                id
            }
        };
        used.insert(id.clone(), ());
        element.set("id", &id);
    }
    let id = element.get("id").map(str::to_owned);
    if let Some(id) = &id {
        path.push(id.clone());
    }
    for child in &mut element.children {
        unique(child, path, used);
    }
    if id.is_some() {
        path.pop();
    }
}

/// An id that XML accepts: letters, digits, `.`, `-`, `_`, and a letter or `_` first.
fn valid(id: &str) -> String {
    let mut new: String = id
        .chars()
        .map(|c| {
            if c.is_alphanumeric() || "._-".contains(c) {
                c
            } else {
                '.'
            }
        })
        .collect();
    if !new.starts_with(|c: char| c.is_alphabetic() || c == '_') {
        new.insert(0, '_');
    }
    new
}
