//! Reads a whole directory of recorded cluster states, if there is one at hand.

#![allow(
    clippy::unwrap_used,
    missing_docs,
    clippy::print_stdout,
    clippy::print_stderr
)]

use mainstay_cib::{
    Level,
    heartbeat::{export, import},
    native, read,
    validate::validate,
    write,
};
use std::{env, fs, path::PathBuf};

/// A directory of Pacemaker's files, and one of Heartbeat's.
const PACEMAKER: &str = "MAINSTAY_CIB_DIR";
const HEARTBEAT: &str = "MAINSTAY_HEARTBEAT_DIR";

fn files(variable: &str) -> Option<Vec<PathBuf>> {
    let Some(directory) = env::var_os(variable) else {
        eprintln!("SKIPPED: set {variable} to a directory of CIB files to read them all");
        return None;
    };
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
    let Some(files) = files(PACEMAKER) else {
        return;
    };
    let (mut identical, mut flat, mut failures) = (0, 0, Vec::new());
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
        let text = native::write(&reading.document);
        let is_flat = !text.contains("\n  configuration");
        flat += usize::from(is_flat);
        if !is_flat {
            println!("{name}: not flat in the native form");
        }
        match native::read(&text) {
            Ok(native) if native.document == reading.document => {}
            Ok(_) => failures.push(format!("{name}: changed by the native form")),
            Err(problems) => failures.push(format!("{name}: native: {problems:?}")),
        }
        if again.document != reading.document || write(&again.document) != written {
            failures.push(format!("{name}: changed by writing and reading"));
        }
    }
    println!(
        "{} files, {identical} identical to the byte, {flat} flat in the native form",
        files.len()
    );
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// Protects what old sites have: a file of Heartbeat is read, or refused with a reason and a place;
/// what was read can be said in Heartbeat's notation again, and means the same then.
#[test]
fn heartbeat_files_survive() {
    let Some(files) = files(HEARTBEAT) else {
        return;
    };
    let (mut accepted, mut failures) = (0, Vec::new());
    for path in &files {
        let name = path.file_name().unwrap().display().to_string();
        let reading = match import(&fs::read_to_string(path).unwrap()) {
            Ok(reading) => reading,
            Err(problem) => {
                println!("{name}: refused: {problem}");
                assert!(
                    !problem.at.is_nowhere(),
                    "{name} is refused without a place"
                );
                continue;
            }
        };
        let validity = validate(&reading.document.cib);
        let mut refused = false;
        for problem in reading.problems.iter().chain(&validity) {
            println!("{name}: {problem}");
            assert!(!problem.at.is_nowhere(), "{name} {problem}: no place");
            refused |= problem.level == Level::Error;
        }
        if refused {
            println!("{name}: refused");
            continue;
        }
        accepted += 1;
        let pacemaker = read(&write(&reading.document)).unwrap();
        assert_eq!(pacemaker.document, reading.document, "{name}");
        let native = native::read(&native::write(&reading.document)).unwrap();
        assert_eq!(native.document, reading.document, "{name}: native");
        let (text, problems) = export(&reading.document.cib);
        let again = import(&text).unwrap();
        if !problems.iter().all(|p| p.level < Level::Error)
            || again.document.cib != reading.document.cib
        {
            failures.push(name.clone());
            println!("{name}: {problems:?}");
            let before = write(&reading.document);
            let after = write(&again.document);
            for (before, after) in before
                .lines()
                .zip(after.lines())
                .filter(|(b, a)| b != a)
                .take(2)
            {
                println!("{name}: {before}\n{name}: {after}");
            }
        }
    }
    println!("{} files, {accepted} accepted", files.len());
    assert!(
        failures.is_empty(),
        "changed on the way: {}",
        failures.join(" ")
    );
}
