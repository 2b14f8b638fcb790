//! House rules as code. Each finding names the place, the rule and the mend.

mod arrows;
mod codes;
mod papers;
mod purity;
mod source;

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

/// Where a house rule is broken.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    /// Relative to the root.
    pub(crate) file: PathBuf,
    /// Counted from 1.
    pub(crate) line: usize,
    pub(crate) rule: &'static str,
    pub(crate) what: String,
    pub(crate) mend: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Finding {
            file,
            line,
            rule,
            what,
            mend,
        } = self;
        write!(
            f,
            "{}:{line}: [{rule}] {what}; mend: {mend}",
            file.display()
        )
    }
}

/// A text file of the repository.
pub(crate) struct File {
    /// Relative to the root, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
}

impl File {
    fn finding(&self, line: usize, rule: &'static str, what: String, mend: &str) -> Finding {
        let (file, mend) = (PathBuf::from(&self.path), mend.to_owned());
        Finding {
            file,
            line,
            rule,
            what,
            mend,
        }
    }

    fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }
}

/// All text files of the repository.
pub(crate) struct Tree {
    pub(crate) root: PathBuf,
    pub(crate) files: Vec<File>,
}

impl Tree {
    fn read(root: &Path) -> Tree {
        let mut files = Vec::new();
        walk(root, root, &mut files);
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let root = root.to_owned();
        Tree { root, files }
    }

    pub(crate) fn file(&self, path: &str) -> Option<&File> {
        self.files.iter().find(|f| f.path == path)
    }

    fn under<'a>(&'a self, folder: &'a str) -> impl Iterator<Item = &'a File> {
        self.files
            .iter()
            .filter(move |f| f.path.starts_with(folder))
    }
}

/// Checks all rules and prints what is broken.
pub(crate) fn report(root: &Path) -> ExitCode {
    let tree = Tree::read(root);
    let mut findings = Vec::new();
    for rule in [
        purity::check,
        arrows::check,
        sizes,
        codes::check,
        papers::check,
    ] {
        findings.extend(rule(&tree));
    }
    findings.sort();
    for finding in &findings {
        println!("{finding}");
    }
    let files = tree.files.len();
    match findings.len() {
        0 => {
            println!("  {files} files keep the house rules.");
            ExitCode::SUCCESS
        }
        n => {
            println!("  {n} findings in {files} files.");
            ExitCode::FAILURE
        }
    }
}

/// Lines from which a module is worth splitting, and those it must not have.
const LONG: usize = 600;
const TOO_LONG: usize = 900;

fn sizes(tree: &Tree) -> Vec<Finding> {
    let mut findings = Vec::new();
    for file in tree.files.iter().filter(|f| f.is_rust()) {
        let lines = file.text.lines().count();
        if lines > TOO_LONG {
            let what = format!("the module has {lines} lines, more than {TOO_LONG}");
            let mend = "split it by what its parts must not know of each other";
            findings.push(file.finding(lines, "size", what, mend));
        } else if lines > LONG {
            println!(
                "  note: {} has {lines} lines; from {LONG} on, think of splitting",
                file.path
            );
        }
    }
    findings
}

/// Folders that hold no sources of ours.
const SKIPPED: [&str; 2] = ["target", "corpus"];
const TEXT: [&str; 6] = ["rs", "md", "toml", "txt", "yml", "sh"];

fn walk(root: &Path, dir: &Path, files: &mut Vec<File>) {
    let Ok(entries) = fs::read_dir(dir) else {
        return;
    };
    for entry in entries.flatten() {
        let path = entry.path();
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let Ok(kind) = entry.file_type() else {
            continue;
        };
        if kind.is_dir() {
            let hidden = name.starts_with('.') && !matches!(&*name, ".ci" | ".cargo" | ".config");
            if !hidden && !SKIPPED.contains(&&*name) {
                walk(root, &path, files);
            }
        } else if kind.is_file() {
            let ours = path
                .extension()
                .map_or(name == "run", |e| TEXT.iter().any(|t| e == *t));
            if let (true, Ok(text), Ok(relative)) =
                (ours, fs::read_to_string(&path), path.strip_prefix(root))
            {
                let path = relative.to_string_lossy().into_owned();
                files.push(File { path, text });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn tree(files: &[(&str, &str)]) -> Tree {
        let file = |(path, text): &(&str, &str)| File {
            path: (*path).to_owned(),
            text: (*text).to_owned(),
        };
        let files = files.iter().map(file).collect();
        Tree {
            root: PathBuf::from("/nowhere"),
            files,
        }
    }

    /// Protects reviews from modules that nobody reads in one go.
    #[test]
    fn long_modules_are_refused() {
        let long = "\n".repeat(TOO_LONG + 1);
        let fits = "\n".repeat(TOO_LONG);
        let found = sizes(&tree(&[
            ("core/a/src/lib.rs", &long),
            ("core/b/src/lib.rs", &fits),
        ]));
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].file, PathBuf::from("core/a/src/lib.rs"));
    }
}
