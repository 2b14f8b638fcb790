//! Fuzzing for longer than the tests do, with libFuzzer.

use crate::run::{run, works};
use anyhow::{Result, bail};
use clap::Args;
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

/// What to fuzz.
#[derive(Debug, Args)]
pub(crate) struct Fuzz {
    /// The target, as its folder in testing/fuzz/corpus is called; all of them, one by one, if none
    target: Option<String>,
    /// How long each target is fuzzed
    #[arg(long, value_name = "N", default_value_t = 60)]
    seconds: u64,
    /// List the targets
    #[arg(long)]
    list: bool,
    /// Do not fuzz: add to the committed corpus what reaches code that it does not
    #[arg(long)]
    keep: bool,
}

/// Longest input that is tried, in bytes.
const LEN_MAX: &str = "4096";
/// Longest input that is worth committing, in bytes.
const KEPT_LEN_MAX: &str = "1024";
/// More memory than this is a leak, in mebibytes.
const MEMORY: &str = "2048";

/// Fuzzes.
pub(crate) fn fuzz(wish: &Fuzz) -> Result<ExitCode> {
    let all = targets(&crate::root())?;
    if wish.list {
        for target in &all {
            println!("{target}");
        }
        return Ok(ExitCode::SUCCESS);
    }
    let chosen = match &wish.target {
        None => all,
        Some(target) if all.contains(target) => vec![target.clone()],
        Some(target) => bail!(
            "no target is called `{target}`; there are {}",
            all.join(", ")
        ),
    };
    needs()?;
    for target in &chosen {
        println!("\n== {target}");
        one(target, wish)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The targets: each has a folder for its corpus, by a test in testing/fuzz.
fn targets(root: &Path) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(root.join("testing/fuzz/corpus"))? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

fn needs() -> Result<()> {
    if !works("cargo", &["+nightly", "--version"]) {
        bail!("libFuzzer needs a nightly compiler: rustup toolchain install nightly");
    }
    if !works("cargo", &["fuzz", "--version"]) {
        bail!("cargo-fuzz is not installed: cargo install --locked cargo-fuzz");
    }
    Ok(())
}

fn one(target: &str, wish: &Fuzz) -> Result<()> {
    let root = crate::root();
    let home = root.join("testing/fuzz/libfuzzer");
    let found = work_dir(&root).join("corpus").join(target);
    let failures = work_dir(&root).join("artifacts").join(target);
    fs::create_dir_all(&found)?;
    fs::create_dir_all(&failures)?;
    let committed = root.join("testing/fuzz/corpus").join(target);
    // Not the cargo that runs this: only rustup's knows `+nightly`.
    let mut command = Command::new("cargo");
    command
        .args(["+nightly", "fuzz", "run", "--fuzz-dir"])
        .arg(&home)
        .arg("target");
    // What is new is kept in the first folder; the second is read, or written to by a merge.
    if wish.keep {
        command.args([&committed, &found]).args(["--", "-merge=1"]);
        command.arg(format!("-max_len={KEPT_LEN_MAX}"));
    } else {
        command.args([&found, &committed]).arg("--");
        command.arg(format!("-max_total_time={}", wish.seconds));
        command.arg(format!("-max_len={LEN_MAX}"));
        command.arg("-print_final_stats=1");
    }
    command
        .arg(format!("-rss_limit_mb={MEMORY}"))
        .arg(format!("-artifact_prefix={}/", failures.display()))
        .env("MAINSTAY_FUZZ_TARGET", target)
        .env_remove("CARGO")
        .env_remove("RUSTUP_TOOLCHAIN")
        .current_dir(&root);
    let outcome = run(command);
    if outcome.is_err() {
        println!(
            "\nThe input that fails is in {}. Write the smallest test that shows the fault, mend it, \
             and copy the input to {}.",
            failures.display(),
            committed.display()
        );
    }
    outcome
}

/// Where inputs that were found, and those that fail, are kept between runs.
fn work_dir(root: &Path) -> PathBuf {
    root.join("target/fuzz")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Protects the command from losing targets: it finds what is committed.
    #[test]
    fn targets_are_found() {
        let found = targets(&crate::root()).expect("the corpus is part of the tree");
        assert!(found.iter().any(|target| target == "wire-dlm"), "{found:?}");
        assert!(found.is_sorted());
    }
}
