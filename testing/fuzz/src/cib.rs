//! The resource manager's configuration, as operators hand it over.

use crate::{Feed, memory::bounded};
use mainstay_cib::{
    Document, Reading, agents::Agent, check::check, heartbeat, native, read, write,
};

/// A document, read, checked, written, and read again.
pub(crate) fn document(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    // The tree of a document and the model of it exist side by side; what is wrong is told in words.
    let limit = 4096 * data.len() + (1 << 20);
    bounded("cib", limit, || {
        drop(Agent::read(text));
        for reading in [read(text), heartbeat::import(text)] {
            match reading {
                Ok(reading) => assert_kept(&reading),
                Err(problem) => assert!(!problem.what.is_empty()),
            }
        }
    });
}

/// A text in the native form: what is read is the same in XML, and in the native form again.
pub(crate) fn lines(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let limit = 4096 * data.len() + (1 << 20);
    bounded("cib-native", limit, || match native::read(text) {
        Ok(reading) => assert_kept(&reading),
        Err(problems) => assert!(problems.iter().all(|p| !p.what.is_empty())),
    });
}

fn assert_kept(reading: &Reading) {
    drop(check(&reading.document.cib));
    drop(heartbeat::export(&reading.document.cib));
    let written = write(&reading.document);
    let again = match read(&written) {
        Ok(again) => again,
        Err(problem) => panic!("what was written is not read: {}: {written}", problem.what),
    };
    assert_eq!(write(&again.document), written, "two writings differ");
    let once = through_lines(&reading.document);
    // The order of attributes of what is unknown settles at the first writing.
    let twice = through_lines(&once);
    assert_eq!(native::write(&twice), native::write(&once));
}

fn through_lines(document: &Document) -> Document {
    let lines = native::write(document);
    let again = match native::read(&lines) {
        Ok(again) => again.document,
        Err(problems) => panic!("what was written is not read: {problems:?}: {lines}"),
    };
    assert!(again.says_the_same_as(document), "lost: {lines}");
    again
}

/// Elements that mean something, in both notations, and two that mean nothing.
pub(crate) const ELEMENTS: &[&str] = &[
    "configuration",
    "crm_config",
    "cluster_property_set",
    "nvpair",
    "nodes",
    "node",
    "instance_attributes",
    "meta_attributes",
    "utilization",
    "resources",
    "primitive",
    "template",
    "group",
    "clone",
    "master",
    "bundle",
    "podman",
    "network",
    "port-mapping",
    "storage",
    "storage-mapping",
    "operations",
    "op",
    "constraints",
    "rsc_location",
    "rsc_colocation",
    "rsc_order",
    "rsc_ticket",
    "resource_set",
    "resource_ref",
    "rule",
    "expression",
    "date_expression",
    "date_spec",
    "duration",
    "rsc_expression",
    "op_expression",
    "lifetime",
    "fencing-topology",
    "fencing-level",
    "rsc_defaults",
    "op_defaults",
    "alerts",
    "alert",
    "recipient",
    "tags",
    "tag",
    "obj_ref",
    "acls",
    "status",
    "node_state",
    "transient_attributes",
    "lrm",
    "lrm_resources",
    "lrm_resource",
    "lrm_rsc_op",
    "tickets",
    "ticket_state",
    "attributes",
    "master_slave",
    "gadget",
    "order",
];
/// Attributes that mean something, and two that mean nothing.
pub(crate) const ATTRIBUTES: &[&str] = &[
    "id",
    "id-ref",
    "name",
    "value",
    "uname",
    "type",
    "class",
    "provider",
    "template",
    "rsc",
    "with-rsc",
    "node",
    "score",
    "score-attribute",
    "kind",
    "first",
    "then",
    "first-action",
    "then-action",
    "role",
    "rsc-role",
    "with-rsc-role",
    "rsc-pattern",
    "interval",
    "timeout",
    "attribute",
    "operation",
    "boolean-op",
    "ticket",
    "from",
    "to",
    "action",
    "symmetrical",
    "sequential",
    "image",
    "devices",
    "target",
    "index",
    "path",
    "xmlns:x",
    "x:y",
    "set",
];
/// Values that mean something somewhere, and some that are hard to write.
pub(crate) const VALUES: &[&str] = &[
    "a",
    "b",
    "a-rule",
    "a-set",
    "ocf",
    "stonith",
    "INFINITY",
    "-INFINITY",
    "5",
    "0",
    "true",
    "false",
    "10s",
    "start",
    "promote",
    "monitor",
    "Promoted",
    "Mandatory",
    "Optional",
    "eq",
    "defined",
    "and",
    "or",
    "#uname",
    "rule",
    "set",
    "$x",
    "x:y",
    "/x/",
    "",
    " ",
    "a b",
    "a=b",
    "&quot;",
    "\\",
    "&#10;",
    "&lt;",
    "clone-max",
    "target-role",
    "batch-limit",
    "a-instance_attributes-b",
    "remote",
];

/// A document of elements that are known, each where the input wants it: nearly always well-formed, so
/// that what the readers make of odd combinations is tried.
pub(crate) fn elements(data: &[u8]) {
    let text = made(&mut Feed::new(data));
    // The input is a number per name, so what is read is longer.
    document(text.as_bytes());
}

fn made(feed: &mut Feed<'_>) -> String {
    let mut text = String::from("<cib>");
    let mut open: Vec<&str> = Vec::new();
    while !feed.is_empty() {
        match feed.byte() % 8 {
            0..=3 if open.len() < 12 => {
                let name = pick(feed, ELEMENTS);
                text.extend(["<", name]);
                let mut said: Vec<&str> = Vec::new();
                for _ in 0..feed.byte() % 6 {
                    let (name, value) = (pick(feed, ATTRIBUTES), pick(feed, VALUES));
                    if !said.contains(&name) && name != "x:y" {
                        text.extend([" ", name, "=\"", value, "\""]);
                        said.push(name);
                    }
                }
                text.push('>');
                open.push(name);
            }
            4 => text.extend(["<!--", pick(feed, ELEMENTS), "\n-->"]),
            5 => text.extend(["\n", pick(feed, VALUES), "\n"]),
            6 if feed.byte() == 0 => text.push_str("<?do it ?>"),
            _ => {
                if let Some(name) = open.pop() {
                    text.extend(["</", name, ">"]);
                }
            }
        }
    }
    while let Some(name) = open.pop() {
        text.extend(["</", name, ">"]);
    }
    text.push_str("</cib>");
    text
}

fn pick<'a>(feed: &mut Feed<'_>, from: &[&'a str]) -> &'a str {
    from[usize::from(feed.byte()) % from.len()]
}
