//! The native form: one line per thing, what belongs to it indented below, close to what users of
//! crmsh and pcs type.
//!
//! ```text
//! property stonith-enabled=true
//! node 1 n1
//! primitive ip ocf:heartbeat:IPaddr2
//!   params ip=10.0.0.9
//!   op monitor interval=10s timeout=20s
//! group web ip nginx
//! location l1 web 100: n1
//! colocation c1 INFINITY: web db:Promoted
//! order o1 Mandatory: db:promote web:start
//! ```
//!
//! A line is a keyword, then words, then `name=value`; `docs/native-form.md` has the grammar.
//!
//! **Everything else of a CIB is written by its name in XML with its attributes**, and so is whatever
//! does not fit the short forms: the writer reads each line that it makes, and takes the short form only
//! if it gives the very element. Ids that people do not choose are left out and made from those of their
//! owners; others are written as `$id=…`.

mod lines;
mod read;
mod rules;
mod sets;
mod write;

use crate::xml::Element;

pub use read::read;
pub use write::write;

/// Sets of named values: keyword, name in XML.
const SETS: &[(&str, &str)] = &[
    ("params", "instance_attributes"),
    ("attributes", "instance_attributes"),
    ("meta", "meta_attributes"),
    ("utilization", "utilization"),
    ("property", "cluster_property_set"),
];

/// Constraints: keyword, name in XML.
const CONSTRAINTS: &[(&str, &str)] = &[
    ("location", "rsc_location"),
    ("colocation", "rsc_colocation"),
    ("order", "rsc_order"),
    ("ticket", "rsc_ticket"),
];

/// Before a keyword that is meant as the name of an element in XML, whatever else it means.
const RAW: char = '<';

/// Sections of the configuration that are there even if they are empty.
const SECTIONS: &[&str] = &["crm_config", "nodes", "resources", "constraints"];

/// The section in which an element stands.
fn section(name: &str) -> Option<&'static str> {
    Some(match name {
        "cluster_property_set" => "crm_config",
        "node" => "nodes",
        "primitive" | "template" | "group" | "clone" | "master" | "bundle" => "resources",
        "rsc_location" | "rsc_colocation" | "rsc_order" | "rsc_ticket" => "constraints",
        "fencing-level" => "fencing-topology",
        "acl_target" | "acl_group" | "acl_user" | "acl_role" => "acls",
        "tag" => "tags",
        "alert" => "alerts",
        _ => return None,
    })
}

/// What an element stands in, for the id that it has if none is written.
#[derive(Clone, Copy)]
struct Owner<'a> {
    /// The id of the nearest element around it that has one.
    id: &'a str,
    /// How many of its kind stand before it there.
    before: usize,
}

impl Owner<'_> {
    /// At the outermost level.
    const NOBODY: Owner<'static> = Owner { id: "", before: 0 };

    /// For the next element of that name after those. Other kinds are not counted.
    fn in_turn<'a>(id: &'a str, siblings: &[Element], name: &str) -> Owner<'a> {
        let counted = name == "rule" || name == "resource_set";
        let before = if counted || SETS.iter().any(|(_, n)| *n == name) {
            siblings.iter().filter(|s| s.name == name).count()
        } else {
            0
        };
        Owner { id, before }
    }

    /// The id of its part of that name: `web-rule`, `web-rule-2`.
    fn part(self, name: &str) -> String {
        let id = if name == "cluster_property_set" {
            "cib-bootstrap-options".to_owned()
        } else {
            format!("{}-{name}", self.id)
        };
        match self.before {
            0 => id,
            before => format!("{id}-{}", before + 1),
        }
    }
}

/// The kind of element that a keyword stands for, as far as its id depends on those before it.
fn counted(keyword: &str) -> &str {
    match SETS.iter().find(|(k, _)| *k == keyword) {
        Some((_, name)) => name,
        None if keyword == "set" => "resource_set",
        None => keyword,
    }
}
