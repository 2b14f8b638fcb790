//! Every reason that a program prints has a place in the runbook, and the runbook has no others.

use super::{Finding, Tree};
use std::collections::BTreeMap;

/// Files that name reasons.
const SOURCES: [&str; 5] = [
    "core/wire/src/event.rs",
    "core/wire/src/lock.rs",
    "shell/transport/src/handshake.rs",
    "shell/transport/src/reason.rs",
    "shell/transport/src/tasks.rs",
];
const RUNBOOK: &str = "docs/runbook/";

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut codes = BTreeMap::new();
    for path in SOURCES {
        let Some(file) = tree.file(path) else {
            continue;
        };
        for (index, line) in file.text.lines().enumerate() {
            if let Some(code) = code_on(line) {
                codes.insert(code, (file, index + 1));
            }
        }
    }
    let pages: Vec<_> = tree
        .under(RUNBOOK)
        .filter(|f| f.path.ends_with(".md"))
        .collect();
    let mut headings = BTreeMap::new();
    for page in &pages {
        for (index, line) in page.text.lines().enumerate() {
            let Some(title) = line.strip_prefix("### `") else {
                continue;
            };
            let code = title.trim_end().trim_end_matches('`');
            if let Some((first, at)) = headings.insert(code, (*page, index + 1)) {
                let what = format!(
                    "`{code}` is explained a second time; first in {}:{at}",
                    first.path
                );
                findings.push(page.finding(index + 1, "runbook", what, "keep one of the two"));
            }
        }
    }
    for (code, (file, line)) in &codes {
        if !headings.contains_key(code) {
            let what = format!("the reason `{code}` is not in the runbook");
            let mend =
                format!("explain it under a heading \"### `{code}`\" in a page of {RUNBOOK}");
            findings.push(file.finding(*line, "runbook", what, &mend));
        }
    }
    for (code, (page, line)) in &headings {
        if !codes.contains_key(code) {
            let what = format!("no program prints the reason `{code}`");
            let mend = "take the section out, or correct the code";
            findings.push(page.finding(*line, "runbook", what, mend));
        }
    }
    findings
}

/// `Reason::Variant => "the-code",` or `code: "the-code",`, and nothing else in quotes.
fn code_on(line: &str) -> Option<&str> {
    let (_, right) = line
        .split_once("=> \"")
        .or_else(|| line.split_once("code: \""))?;
    let code = right.strip_suffix("\",")?;
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (!code.is_empty() && code.chars().all(fits)).then_some(code)
}

#[cfg(test)]
mod tests {
    use super::{super::tests::tree, *};

    /// Protects operators from a code that nobody explains, and from pages about codes long gone.
    #[test]
    fn codes_and_pages_correspond() {
        let source = "R::A => \"link-silent\",\nR::A => \"what is wrong\",\nR::B => \"closed\",\n";
        let page = "### `link-silent`\n### `gone`\n";
        let found: Vec<String> = check(&tree(&[
            (SOURCES[1], source),
            ("docs/runbook/links.md", page),
        ]))
        .into_iter()
        .map(|f| f.what)
        .collect();
        let expected = [
            "the reason `closed` is not in the runbook",
            "no program prints the reason `gone`",
        ];
        assert_eq!(found, expected);
    }
}
