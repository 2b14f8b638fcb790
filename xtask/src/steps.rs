//! The steps of `cargo xtask test`, cheap ones first.

use crate::{
    dist, is_ci,
    run::{cargo, run, text, works},
    setup, sim, tidy,
};
use anyhow::{Context, Result, bail};
use clap::Args;
use std::{
    process::{Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

/// Which steps.
#[derive(Debug, Args)]
pub(crate) struct Wish {
    /// Run this step alone; may be given several times
    #[arg(long, value_name = "STEP", value_parser = names())]
    only: Vec<String>,
    /// List the steps and what each protects against
    #[arg(long)]
    list: bool,
    /// For how many minutes fresh seeds are simulated
    #[arg(long, value_name = "M", default_value_t = 5.0)]
    minutes: f64,
}

/// One step.
struct Step {
    name: &'static str,
    about: &'static str,
    run: fn(&Wish) -> Result<Outcome>,
}

/// How a step ended that did not fail.
enum Outcome {
    Passed,
    /// It could not be run, or not all of it.
    Skipped(String),
}

const STEPS: &[Step] = &[
    Step {
        name: "format",
        about: "rustfmt leaves nothing to say in review",
        run: |_| format(),
    },
    Step {
        name: "tidy",
        about: "house rules that no compiler knows: purity, arrows, sizes, runbook, links",
        run: |_| tidy(),
    },
    Step {
        name: "licences",
        about: "what comes into the dependency tree, from where, under which licence",
        run: |_| licences(),
    },
    Step {
        name: "lints",
        about: "clippy on everything, warnings refused",
        run: |_| lints(),
    },
    Step {
        name: "docs",
        about: "documentation builds and its links lead somewhere",
        run: |_| docs(),
    },
    Step {
        name: "units",
        about: "unit, property, script, golden and fuzz-corpus tests of all crates",
        run: |_| passed(run(tests(&workspace(), None))),
    },
    Step {
        name: "doctests",
        about: "examples in the documentation compile and run",
        run: |_| doctests(),
    },
    Step {
        name: "build",
        about: "the release binary, as `cargo run --release` builds it",
        run: |_| passed(dist::build()),
    },
    Step {
        name: "sim",
        about: "simulated clusters under faults: past failures, equal hashes, fresh seeds",
        run: |wish| passed(sim::check(wish.minutes)),
    },
    Step {
        name: "mutants",
        about: "known bugs, built in one at a time: simulator and reference must catch each",
        run: |_| passed(sim::mutants()),
    },
    Step {
        name: "faults",
        about: "real daemons, killed, paused and cut off; wants root and iproute2",
        run: |_| faults(),
    },
];

fn names() -> clap::builder::PossibleValuesParser {
    STEPS
        .iter()
        .map(|step| step.name)
        .collect::<Vec<_>>()
        .into()
}

/// Runs the steps up to the first that fails.
pub(crate) fn test(wish: &Wish) -> Result<ExitCode> {
    if wish.list {
        for step in STEPS {
            println!("{:10} {}", step.name, step.about);
        }
        return Ok(ExitCode::SUCCESS);
    }
    let chosen: Vec<&Step> = STEPS
        .iter()
        .filter(|s| wish.only.is_empty() || wish.only.iter().any(|name| name == s.name))
        .collect();
    let began = Instant::now();
    let mut lines = Vec::new();
    let mut failed = None;
    for step in &chosen {
        if failed.is_some() {
            lines.push(line(step.name, None, "not run"));
            continue;
        }
        println!("\n== {}: {}", step.name, step.about);
        let start = Instant::now();
        let outcome = (step.run)(wish);
        let took = start.elapsed();
        let word = match outcome {
            Ok(Outcome::Passed) => "passed".to_owned(),
            Ok(Outcome::Skipped(why)) if is_ci() => {
                println!("error: CI is set, so nothing may be skipped: {why}");
                failed = Some(step.name);
                format!("FAILED, skipped: {why}")
            }
            Ok(Outcome::Skipped(why)) => {
                println!("SKIPPED: {why}");
                format!("SKIPPED: {why}")
            }
            Err(error) => {
                println!("error: {error:#}");
                failed = Some(step.name);
                "FAILED".to_owned()
            }
        };
        println!("== {} took {}", step.name, human(took));
        lines.push(line(step.name, Some(took), &word));
    }
    println!("\nSummary");
    for line in lines {
        println!("{line}");
    }
    println!("{}", line("total", Some(began.elapsed()), ""));
    match failed {
        None => {
            println!("\nAll steps ended well.");
            Ok(ExitCode::SUCCESS)
        }
        Some(name) => {
            println!("\n`{name}` failed. To run it alone: cargo xtask test --only {name}");
            Ok(ExitCode::FAILURE)
        }
    }
}

fn line(name: &str, took: Option<Duration>, word: &str) -> String {
    let took = took.map(human).unwrap_or_default();
    format!("  {name:10} {took:>9}  {word}")
        .trim_end()
        .to_owned()
}

fn human(took: Duration) -> String {
    let seconds = took.as_secs_f64();
    if seconds < 60.0 {
        format!("{seconds:.1} s")
    } else {
        format!("{} min {:02} s", took.as_secs() / 60, took.as_secs() % 60)
    }
}

fn passed(result: Result<()>) -> Result<Outcome> {
    result.map(|()| Outcome::Passed)
}

/// All crates but those that are tested by steps of their own. The mutants must not be built
/// together with the rest: cargo would build their bugs into all of it.
fn workspace() -> [&'static str; 7] {
    [
        "--workspace",
        "--exclude",
        "mainstay-torture",
        "--exclude",
        "mainstay-mutants",
        "--exclude",
        "mainstay-policy-mutants",
    ]
}

fn doctests() -> Result<Outcome> {
    let what = ["test", "--locked", "--doc", "--quiet"];
    passed(run(cargo(what.into_iter().chain(workspace()))))
}

fn format() -> Result<Outcome> {
    let files = cargo(["fmt", "--all", "--", "--check", "--files-with-diff"]);
    passed(run(files).context("the files above are not formatted; `cargo xtask fix` formats them"))
}

fn tidy() -> Result<Outcome> {
    let findings = tidy::report(&crate::root());
    if findings == ExitCode::SUCCESS {
        Ok(Outcome::Passed)
    } else {
        bail!("house rules are broken; each line above names the rule and the mend")
    }
}

fn lints() -> Result<Outcome> {
    let what = [
        "clippy",
        "--locked",
        "--workspace",
        "--all-targets",
        "--all-features",
    ];
    passed(run(cargo(what.into_iter().chain(["--", "-D", "warnings"]))))
}

fn docs() -> Result<Outcome> {
    let mut command = cargo(["doc", "--locked", "--workspace", "--no-deps", "--quiet"]);
    command.env(
        "RUSTDOCFLAGS",
        "-D warnings -A rustdoc::private_intra_doc_links",
    );
    passed(run(command))
}

fn licences() -> Result<Outcome> {
    if !setup::has_cargo_deny() {
        let how = "cargo-deny is not installed; `cargo xtask setup` installs it";
        return Ok(Outcome::Skipped(how.to_owned()));
    }
    run(cargo([
        "deny",
        "check",
        "--hide-inclusion-graph",
        "licenses",
        "bans",
        "sources",
    ]))?;
    // The database of advisories comes from the network; a machine without one is no broken tree.
    let mut fetch = cargo(["deny", "fetch", "db"]);
    fetch.stdout(Stdio::null()).stderr(Stdio::null());
    if fetch.status().is_ok_and(|status| status.success()) {
        run(cargo(["deny", "check", "--disable-fetch", "advisories"]))?;
    } else {
        println!("  The advisory database cannot be fetched here: advisories are not checked.");
    }
    Ok(Outcome::Passed)
}

fn faults() -> Result<Outcome> {
    if !dist::binary().exists() {
        dist::build()?;
    }
    let mut command = tests(&["--package", "mainstay-torture"], None);
    command.env("MAINSTAY_BIN", dist::binary());
    run(command)?;
    if setup::can_cut_links() {
        Ok(Outcome::Passed)
    } else {
        let why = "the tests that cut links need root and `ip` (Debian package iproute2)";
        Ok(Outcome::Skipped(why.to_owned()))
    }
}

/// A test run: by cargo-nextest where there is one, else by cargo itself.
pub(crate) fn tests(which: &[&str], profile: Option<&str>) -> Command {
    let nextest = works("cargo", &["nextest", "--version"]);
    let mut command = if nextest {
        let mut command = cargo(["nextest", "run", "--locked", "--no-fail-fast"]);
        command.args(["--status-level", "slow", "--final-status-level", "slow"]);
        if let Some(profile) = profile {
            command.args(["--cargo-profile", profile]);
        }
        command
    } else {
        let mut command = cargo(["test", "--locked", "--no-fail-fast", "--quiet"]);
        command.args(["--lib", "--bins", "--tests"]);
        if let Some(profile) = profile {
            command.args(["--profile", profile]);
        }
        command
    };
    command.args(which);
    if !nextest && which.contains(&"mainstay-torture") {
        // Nextest reads from .config/nextest.toml that these run one at a time.
        command.args(["--", "--test-threads=1"]);
    }
    command
}

/// The output of a command that has to succeed.
pub(crate) fn output(mut command: Command) -> Result<String> {
    let text = text(&command);
    let output = command
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("`{text}` did not start"))?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        bail!("`{text}` failed: {}\n{printed}", output.status);
    }
    Ok(printed)
}
