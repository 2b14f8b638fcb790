//! `core/` decides and does nothing else: the same inputs give the same outputs, everywhere.

use super::{
    File, Finding, Tree,
    source::{code_only, imports, lines_with},
};

/// What core code must not name, and what it does instead.
const FORBIDDEN: &[(&str, &str)] = &[
    (
        "std::time::Instant",
        "take `mainstay_base::Instant` as an argument",
    ),
    (
        "std::time::SystemTime",
        "take `mainstay_base::Instant` as an argument; wall-clock time belongs to the shell",
    ),
    (
        "SystemTime",
        "take `mainstay_base::Instant` as an argument; wall-clock time belongs to the shell",
    ),
    (
        "std::thread",
        "return an effect and let the shell do the work",
    ),
    (
        "std::net",
        "return an effect; sockets belong to shell/transport",
    ),
    ("std::fs", "return an effect; files belong to shell/store"),
    ("std::io", "return an effect; I/O belongs to the shell"),
    ("std::env", "take it as configuration"),
    (
        "std::process",
        "return an effect; processes belong to the shell",
    ),
    ("tokio", "return an effect; waiting belongs to the shell"),
    (
        "async",
        "write a synchronous function; waiting belongs to the shell",
    ),
    ("rand", "take `mainstay_base::Entropy` as an argument"),
    ("getrandom", "take `mainstay_base::Entropy` as an argument"),
    (
        "RandomState",
        "use `mainstay_base::FixedMap`, whose hasher is fixed",
    ),
    ("HashMap", "use `mainstay_base::FixedMap` or a `BTreeMap`"),
    ("HashSet", "use a `BTreeSet`"),
    (
        "unsafe",
        "write it safely; unsafe code belongs to the shell",
    ),
];

/// Where a forbidden word is at home.
const EXEMPT: &[(&str, &str, &str)] = &[
    // The one hash table, with a fixed hasher and without iteration in hash order.
    ("core/base/src/map/wide.rs", "HashMap", "hashbrown"),
];

/// Words that show unfinished work, anywhere.
const UNFINISHED: [&str; 3] = ["todo!", "unimplemented!", "dbg!"];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.files.iter().filter(|f| f.is_rust()) {
        let code = code_only(&file.text);
        if file.path.starts_with("core/") && file.path.contains("/src/") {
            pure(file, &code, &mut findings);
        }
        for word in UNFINISHED {
            for line in lines_with_macro(&code, word) {
                let what = format!("`{word}` is left in the code");
                findings.push(file.finding(line, "finished", what, "do it, or take it out"));
            }
        }
    }
    findings
}

fn pure(file: &File, code: &str, findings: &mut Vec<Finding>) {
    let imported = imports(code);
    for (word, mend) in FORBIDDEN {
        if exempt(file, word) {
            continue;
        }
        let mut lines = lines_with(code, word);
        let inside = format!("{word}::");
        lines.extend(
            imported
                .iter()
                .filter(|(_, path)| path == word || path.starts_with(&inside))
                .map(|(line, _)| *line),
        );
        lines.sort_unstable();
        lines.dedup();
        for line in lines {
            findings.push(file.finding(line, "purity", format!("core code names `{word}`"), mend));
        }
    }
    if !exempt(file, "hashbrown") {
        for line in lines_with(code, "hashbrown") {
            let what = "core code names `hashbrown`, whose order of iteration may show".to_owned();
            let mend = "use `mainstay_base::FixedMap` or a `BTreeMap`";
            findings.push(file.finding(line, "purity", what, mend));
        }
    }
    let is_root = file.path.ends_with("/src/lib.rs") && file.path.matches('/').count() == 3;
    if is_root && !code.contains("#![forbid(unsafe_code)]") {
        let what = "a core crate does not forbid unsafe code".to_owned();
        findings.push(file.finding(1, "purity", what, "add `#![forbid(unsafe_code)]`"));
    }
}

fn exempt(file: &File, word: &str) -> bool {
    EXEMPT
        .iter()
        .any(|(path, a, b)| file.path == *path && (word == *a || word == *b))
}

/// Macros end in `!`, so only their left edge is the edge of a word.
fn lines_with_macro(code: &str, word: &str) -> Vec<usize> {
    lines_with(code, word.trim_end_matches('!'))
        .into_iter()
        .filter(|line| {
            code.lines()
                .nth(line - 1)
                .is_some_and(|l| l.contains(&format!("{word}(")))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{super::tests::tree, *};

    fn rules(path: &str, text: &str) -> Vec<String> {
        check(&tree(&[(path, text)]))
            .into_iter()
            .map(|f| f.what)
            .collect()
    }

    /// Protects the core's determinism from a clock that comes in by a grouped import.
    #[test]
    fn a_clock_in_the_core_is_found() {
        let text = "use std::{fmt, time::{Duration, Instant}};\n";
        let found = rules("core/dlm/src/master.rs", text);
        assert_eq!(found, ["core code names `std::time::Instant`"]);
        assert!(rules("shell/daemon/src/runtime.rs", text).is_empty());
    }

    /// Protects the one place that may wrap a hash table, and only that one.
    #[test]
    fn hash_tables_live_in_one_file() {
        let text = "use hashbrown::HashMap;\n";
        assert!(rules("core/base/src/map/wide.rs", text).is_empty());
        assert_eq!(rules("core/dlm/src/table.rs", text).len(), 2);
    }

    /// Protects against a core crate that forgets to forbid unsafe code.
    #[test]
    fn the_root_of_a_core_crate_forbids_unsafe_code() {
        assert_eq!(rules("core/dlm/src/lib.rs", "mod a;\n").len(), 1);
        assert!(rules("core/dlm/src/lib.rs", "#![forbid(unsafe_code)]\nmod a;\n").is_empty());
    }

    /// Protects the main branch from unfinished work.
    #[test]
    fn unfinished_work_is_found() {
        let text = ["fn a() { to", "do!() }\n// to", "do!() in a comment\n"].concat();
        assert_eq!(
            rules("shell/cli/src/main.rs", &text),
            ["`todo!` is left in the code"]
        );
    }
}
