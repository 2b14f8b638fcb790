//! Driving the simulator.

use crate::{
    run::{cargo, run},
    steps::{output, tests},
};
use anyhow::{Context, Result, bail};
use std::process::{Command, ExitCode};

/// As fast as a release, with debug assertions; see Cargo.toml.
const PROFILE: &str = "sim";
const PAST_FAILURES: &str = "testing/sim/regressions.txt";
/// Seeds that are run twice, in two processes, to compare hashes.
const TWICE: u64 = 4;

fn simulator() -> Command {
    cargo([
        "run",
        "--locked",
        "--quiet",
        "--profile",
        PROFILE,
        "--package",
        "mainstay-sim",
        "--",
    ])
}

/// Hands arguments to the simulator.
pub(crate) fn forward(arguments: &[String]) -> Result<ExitCode> {
    let mut command = simulator();
    command.args(arguments);
    let status = command.status().context("cargo did not start")?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(ExitCode::from(code.unwrap_or(1)))
}

/// Past failures, equal hashes, and as many fresh seeds as fit into so many minutes.
pub(crate) fn check(minutes: f64) -> Result<()> {
    let mut past = simulator();
    past.args(["--list", PAST_FAILURES]);
    run(past)?;

    let start = fresh();
    println!(
        "  Seeds {start} to {} twice: one seed, one history.",
        start + TWICE - 1
    );
    for seed in start..start + TWICE {
        let (first, second) = (hash(seed)?, hash(seed)?);
        if first != second {
            bail!(
                "seed {seed} gave two histories: {first} and {second}; something is not drawn from the seed"
            );
        }
        println!("  seed {seed}: {first}");
    }

    let mut seeds = simulator();
    seeds.args(["--start", &start.to_string()]);
    seeds.args(["--minutes", &minutes.to_string(), "--jobs", "2"]);
    run(seeds)
}

/// The seed to begin with: others for each commit on the branch, the same ones for one commit, so
/// that whoever checks it out sees what was seen.
fn fresh() -> u64 {
    let count = Command::new("git")
        .args(["rev-list", "--count", "HEAD"])
        .output();
    let count = count.map(|out| String::from_utf8_lossy(&out.stdout).into_owned());
    let count = count.unwrap_or_default().trim().parse().unwrap_or(1);
    100_000 * u64::max(count, 1)
}

/// The line with the hash of one seed's trace.
fn hash(seed: u64) -> Result<String> {
    let mut command = simulator();
    command.args(["--seed", &seed.to_string()]);
    let printed = output(command)?;
    let line = printed.lines().find(|line| line.starts_with("hash "));
    line.map(str::to_owned)
        .with_context(|| format!("the simulator printed no hash for seed {seed}"))
}

/// The test that each mutant is caught.
pub(crate) fn mutants() -> Result<()> {
    let which = ["--package", "mainstay-mutants"];
    run(tests(&which, Some(PROFILE)))?;
    let which = ["--package", "mainstay-policy-mutants"];
    run(tests(&which, None))
}
