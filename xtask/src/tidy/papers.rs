//! What is written about the code stays true: links lead somewhere, decisions are numbered.

use super::{File, Finding, Tree};
use std::path::{Component, Path, PathBuf};

/// Folders at the root that a path in a text may begin with.
const FOLDERS: [&str; 5] = ["core/", "shell/", "testing/", "docs/", "xtask/"];

pub(super) fn check(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in &tree.files {
        if file.path.ends_with(".md") {
            links(tree, file, &mut findings);
            paths_in_code_spans(tree, file, &mut findings);
        } else if file.is_rust() {
            documents_named_in_comments(tree, file, &mut findings);
        }
        machine_paths(tree, file, &mut findings);
    }
    decisions(tree, &mut findings);
    changelog(tree, &mut findings);
    findings
}

/// Relative links of Markdown.
fn links(tree: &Tree, file: &File, findings: &mut Vec<Finding>) {
    for (line, text) in prose(&file.text) {
        for (at, _) in text.match_indices("](") {
            let rest = &text[at + 2..];
            let target = &rest[..rest.find(')').unwrap_or(rest.len())];
            let target = target.split(['#', ' ']).next().unwrap_or_default();
            if target.is_empty() || target.contains("://") || target.starts_with("mailto:") {
                continue;
            }
            let dir = Path::new(&file.path).parent().unwrap_or(Path::new(""));
            if !exists(tree, &dir.join(target)) {
                let what = format!("the link to {target} leads nowhere");
                findings.push(file.finding(line, "links", what, "correct it"));
            }
        }
    }
}

/// `core/lock/src/grant.rs` in a text names a file or folder that is there.
fn paths_in_code_spans(tree: &Tree, file: &File, findings: &mut Vec<Finding>) {
    for (line, text) in prose(&file.text) {
        for span in text.split('`').skip(1).step_by(2) {
            let ours = FOLDERS.iter().any(|folder| span.starts_with(folder));
            if !ours || span.contains(|c: char| " *{}<>…$".contains(c)) {
                continue;
            }
            let span = span.split(['#', ':']).next().unwrap_or(span);
            if !exists(tree, Path::new(span)) {
                let what = format!("there is no {span}");
                findings.push(file.finding(line, "links", what, "name what is there"));
            }
        }
    }
}

fn documents_named_in_comments(tree: &Tree, file: &File, findings: &mut Vec<Finding>) {
    if file.path.starts_with("xtask/src/tidy/") {
        return; // Examples of what is found.
    }
    for (index, text) in file.text.lines().enumerate() {
        let Some((_, comment)) = text.split_once("//") else {
            continue;
        };
        for (at, _) in comment.match_indices("docs/") {
            let rest = &comment[at..];
            let fits = |c: char| c.is_ascii_alphanumeric() || "/-_.".contains(c);
            let path = &rest[..rest.find(|c| !fits(c)).unwrap_or(rest.len())];
            let path = path.trim_end_matches('.');
            if path.ends_with(".md") && !exists(tree, Path::new(path)) {
                let what = format!("there is no {path}");
                findings.push(file.finding(index + 1, "links", what, "name what is there"));
            }
        }
    }
}

/// Paths of one machine mean nothing on another.
fn machine_paths(tree: &Tree, file: &File, findings: &mut Vec<Finding>) {
    let root = tree.root.to_string_lossy();
    let homes = [concat!("/ro", "ot/"), concat!("/ho", "me/")];
    for (index, text) in file.text.lines().enumerate() {
        let own = root.len() > 1 && text.contains(&*root);
        if own || homes.iter().any(|home| text.contains(home)) {
            let what = "a path of one machine is named".to_owned();
            let mend = "write it relative to the repository, or take it from the environment";
            findings.push(file.finding(index + 1, "machine", what, mend));
        }
    }
}

/// `docs/decisions/NNNN-words.md`, counted without gaps, each listed in the README there.
fn decisions(tree: &Tree, findings: &mut Vec<Finding>) {
    const FOLDER: &str = "docs/decisions/";
    let index = tree.file("docs/decisions/README.md");
    let mut last = 0;
    for file in tree.under(FOLDER) {
        let name = &file.path[FOLDER.len()..];
        if name == "README.md" {
            continue;
        }
        let number = name
            .split_once('-')
            .filter(|(number, _)| number.len() == 4)
            .and_then(|(number, _)| number.parse::<u32>().ok());
        match number {
            None => {
                let what = "a decision has no number".to_owned();
                let mend = "name the file NNNN-words.md, with the next number";
                findings.push(file.finding(1, "decisions", what, mend));
            }
            Some(number) => {
                if number != last + 1 {
                    let what = format!("decision {number} follows decision {last}");
                    let mend = "give it the next number";
                    findings.push(file.finding(1, "decisions", what, mend));
                }
                last = number;
            }
        }
        if !index.is_some_and(|index| index.text.contains(name)) {
            let what = format!("{name} is not listed in docs/decisions/README.md");
            findings.push(file.finding(1, "decisions", what, "list it there"));
        }
    }
}

fn changelog(tree: &Tree, findings: &mut Vec<Finding>) {
    match tree.file("CHANGELOG.md") {
        Some(file) if !file.text.contains("\n## Unreleased") => {
            let what = "there is no section for what is not released".to_owned();
            findings.push(file.finding(1, "changelog", what, "add `## Unreleased`"));
        }
        _ => {}
    }
}

/// The lines of a Markdown text outside of fenced code, counted from 1.
fn prose(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut fenced = false;
    text.lines().enumerate().filter_map(move |(index, line)| {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
            return None;
        }
        (!fenced).then_some((index + 1, line))
    })
}

fn exists(tree: &Tree, relative: &Path) -> bool {
    let mut path = PathBuf::new();
    for part in relative.components() {
        match part {
            Component::ParentDir => {
                if !path.pop() {
                    return false;
                }
            }
            Component::CurDir => {}
            part => path.push(part),
        }
    }
    let name = path.to_string_lossy();
    tree.file(&name).is_some() || tree.root.join(&path).exists()
}

#[cfg(test)]
mod tests {
    use super::{super::tests::tree, *};

    fn found(files: &[(&str, &str)]) -> Vec<String> {
        check(&tree(files)).into_iter().map(|f| f.what).collect()
    }

    /// Protects readers from links that lead nowhere.
    #[test]
    fn dead_links_are_found() {
        let text = "[a](b.md) [c](../x.md#d) [e](https://example.org) `core/gone.rs`\n";
        let found = found(&[("docs/a.md", text), ("docs/b.md", "")]);
        assert_eq!(
            found,
            [
                "the link to ../x.md leads nowhere",
                "there is no core/gone.rs"
            ]
        );
    }

    /// Protects the code's pointers into the documentation.
    #[test]
    fn comments_name_documents_that_are_there() {
        let text = "//! See docs/protocol/gone.md, and docs/here.md.\n";
        let found = found(&[("core/a/src/lib.rs", text), ("docs/here.md", "")]);
        assert_eq!(found, ["there is no docs/protocol/gone.md"]);
    }

    /// Protects the order of the decisions.
    #[test]
    fn decisions_are_counted_and_listed() {
        let found = found(&[
            ("docs/decisions/0001-a.md", ""),
            ("docs/decisions/0003-b.md", ""),
            (
                "docs/decisions/README.md",
                "[a](0001-a.md)\n[b](0003-b.md)\n",
            ),
            ("docs/decisions/loose.md", ""),
        ]);
        let expected = [
            "decision 3 follows decision 1",
            "a decision has no number",
            "loose.md is not listed in docs/decisions/README.md",
        ];
        assert_eq!(found, expected);
    }
}
