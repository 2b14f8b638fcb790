//! Clusters that somebody has been at: what bytes make of a random one.

use crate::random;
use mainstay_cib::{Cib, native, read};

/// Words that mean something at many places, and some that mean nothing.
const WORDS: &[&str] = &[
    "0",
    "1",
    "-1",
    "5",
    "7",
    "8",
    "9",
    "10s",
    "99999999999",
    "INFINITY",
    "-INFINITY",
    "true",
    "false",
    "node1",
    "node2",
    "guest3",
    "remote2",
    "prim1",
    "prim2",
    "group1",
    "clone2",
    "bundle1",
    "vm3",
    "member11",
    "inst1",
    "inst1:0",
    "inst1:4000000000",
    "fencing",
    "start",
    "stop",
    "promote",
    "demote",
    "monitor",
    "migrate_to",
    "migrate_from",
    "notify",
    "Started",
    "Stopped",
    "Promoted",
    "Unpromoted",
    "Optional",
    "Serialize",
    "exclusive",
    "never",
    "",
    "x",
    "master-inst1",
    "fail-count-prim1",
    "#health-disk",
    "shutdown",
    "remote",
    "stonith",
    "ocf",
    "systemd",
    "globally-unique",
    "clone-max",
    "promoted-max",
    "remote-node",
    "container",
    "is-managed",
    "unfencing",
    "requires",
    "block",
];

/// A random cluster by its seed, edited line by line in the native form as the bytes want it; nothing
/// if the reader does not accept what became of it.
///
/// # Panics
/// If a random cluster cannot be read.
#[must_use]
pub fn cluster(seed: u64, edits: &[u8]) -> Option<Cib> {
    let text = random::cluster(seed);
    let document = read(&text).expect("random clusters are read").document;
    let text = native::write(&document);
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for six in edits.chunks_exact(6) {
        if lines.is_empty() {
            break;
        }
        edit(&mut lines, six);
    }
    let reading = native::read(&lines.join("\n")).ok()?;
    Some(reading.document.cib)
}

fn edit(lines: &mut Vec<String>, six: &[u8]) {
    let number = |a: u8, b: u8| usize::from(a) << 8 | usize::from(b);
    let (at, other) = (
        number(six[0], six[1]) % lines.len(),
        number(six[1], six[2]) % lines.len(),
    );
    match six[3] % 6 {
        0 => {
            lines.remove(at);
        }
        1 => lines.insert(at, lines[other].clone()),
        2 => lines.swap(at, other),
        3 => {
            let from = words(&lines[other]);
            let word = from.get(usize::from(six[4]) % from.len().max(1)).cloned();
            replace(&mut lines[at], six[5], word.as_deref().unwrap_or_default());
        }
        _ => {
            let word = WORDS[usize::from(six[4]) % WORDS.len()];
            replace(&mut lines[at], six[5], word);
        }
    }
}

/// What can be exchanged in a line: words, and the values of names.
fn words(line: &str) -> Vec<String> {
    let value = |word: &str| word.split_once('=').map_or(word, |(_, v)| v).to_owned();
    line.split_whitespace().map(value).collect()
}

fn replace(line: &mut String, which: u8, by: &str) {
    let indent = line.len() - line.trim_start().len();
    let mut words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
    let count = words.len().max(1);
    if let Some(word) = words.get_mut(usize::from(which) % count) {
        let by = by.trim_matches('"');
        *word = match word.split_once('=') {
            Some((name, _)) => format!("{name}=\"{by}\""),
            None => by.to_owned(),
        };
    }
    *line = format!("{:indent$}{}", "", words.join(" "));
}
