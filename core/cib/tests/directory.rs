//! Reads a whole directory of recorded cluster states, if there is one at hand.

#![allow(
    clippy::unwrap_used,
    missing_docs,
    clippy::print_stdout,
    clippy::print_stderr
)]

use mainstay_cib::{Level, read, validate::validate, write};
use std::{env, fs, path::PathBuf};

const VARIABLE: &str = "MAINSTAY_CIB_DIR";

fn files() -> Option<Vec<PathBuf>> {
    let directory = env::var_os(VARIABLE)?;
    let mut files: Vec<PathBuf> = fs::read_dir(&directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "xml"))
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no XML file in {}", directory.display());
    Some(files)
}

/// Protects what sites have: every recorded state is read without an error, written back without
/// loss, and to the byte if it was written in the usual form.
#[test]
fn recorded_states_survive() {
    let Some(files) = files() else {
        eprintln!("SKIPPED: set {VARIABLE} to a directory of CIB files to read them all");
        return;
    };
    let (mut identical, mut failures) = (0, Vec::new());
    for path in &files {
        let name = path.file_name().unwrap().display().to_string();
        let text = fs::read_to_string(path).unwrap();
        let reading = match read(&text) {
            Ok(reading) => reading,
            Err(problem) => {
                failures.push(format!("{name}: {problem}"));
                continue;
            }
        };
        let validity = validate(&reading.document.cib);
        for problem in reading.problems.iter().chain(&validity) {
            if problem.level == Level::Error {
                failures.push(format!("{name}: {problem}"));
            } else {
                println!("{name}: {problem}");
            }
        }
        let written = write(&reading.document);
        identical += usize::from(written == text);
        if written != text {
            println!("{name}: not the same to the byte");
        }
        let again = read(&written).unwrap();
        if again.document != reading.document || write(&again.document) != written {
            failures.push(format!("{name}: changed by writing and reading"));
        }
    }
    println!("{} files, {identical} identical to the byte", files.len());
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
