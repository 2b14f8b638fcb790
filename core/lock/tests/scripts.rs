//! Runs the text scenarios of `testing/scripts`; how to read and write them is told in the README
//! there. `UPDATE_SCRIPTS=1` rewrites the traces instead of comparing them.

#![allow(clippy::unwrap_used, clippy::print_stderr, missing_docs)]

#[path = "script/world.rs"]
mod world;

use std::{
    fs,
    path::{Path, PathBuf},
};
use world::World;

fn collect(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, found);
        } else if path.extension().is_some_and(|e| e == "txt") {
            found.push(path);
        }
    }
}

/// The script with the trace that the engine gives now.
fn run(script: &str) -> Result<String, String> {
    let mut world = World::new();
    let mut result = String::new();
    for (number, line) in script.lines().enumerate() {
        if let Some(command) = line.strip_prefix("> ") {
            let trace = world
                .run(command)
                .map_err(|e| format!("line {}: {e}: {line}", number + 1))?;
            result += line;
            result += "\n";
            for line in trace {
                result += &format!("  {line}\n");
            }
        } else if line.is_empty() || line.starts_with('#') {
            result += line;
            result += "\n";
        } else if !line.starts_with("  ") {
            return Err(format!(
                "line {}: neither `# comment`, `> command` nor an indented trace: {line}",
                number + 1
            ));
        }
    }
    Ok(result)
}

/// Protects every rule of grant, queue, conversion, value block, notice and rebuild that a scenario
/// describes: the engine's full trace is the one on file.
#[test]
fn scripts_give_their_traces() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testing/scripts");
    let update = std::env::var_os("UPDATE_SCRIPTS").is_some_and(|v| v == "1");
    let mut paths = Vec::new();
    collect(&root, &mut paths);
    paths.sort();
    assert!(
        paths.len() >= 90,
        "only {} scripts in {root:?}: is the checkout complete?",
        paths.len()
    );
    let mut wrong = 0;
    for path in paths {
        let name = path.strip_prefix(&root).unwrap().display().to_string();
        let script = fs::read_to_string(&path).unwrap();
        let now = run(&script).unwrap_or_else(|e| panic!("{name}: {e}"));
        if now == script {
            continue;
        }
        if update {
            fs::write(&path, now).unwrap();
            continue;
        }
        wrong += 1;
        let at = script
            .lines()
            .zip(now.lines())
            .position(|(a, b)| a != b)
            .unwrap_or_else(|| script.lines().count().min(now.lines().count()));
        eprintln!(
            "{name}, line {}:\n  on file: {}\n  now:     {}",
            at + 1,
            script.lines().nth(at).unwrap_or("(end)"),
            now.lines().nth(at).unwrap_or("(end)")
        );
    }
    assert_eq!(
        wrong, 0,
        "scripts whose trace changed; UPDATE_SCRIPTS=1 rewrites them, then read the difference"
    );
}
