//! House tasks. `cargo xtask test` is everything that has to hold before a change is done.
//!
//! What looks never touches: `test` and `tidy` leave the tree as it is. `fix` touches.

#![forbid(unsafe_code)]
// The output of a task is what it is run for.
#![allow(clippy::print_stdout, clippy::print_stderr)]

mod dist;
mod fix;
mod fuzz;
mod run;
mod scheduler;
mod setup;
mod sim;
mod steps;
mod tidy;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask",
    bin_name = "cargo xtask",
    about = "House tasks of Mainstay"
)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Install what the tests need, or say what is missing
    Setup,
    /// Check everything: format, house rules, lints, licences, tests, simulation, real faults
    Test(steps::Wish),
    /// Check the house rules that no compiler knows
    Tidy,
    /// Format, and mend what the lints can mend by themselves
    Fix,
    /// Run the simulator; arguments are handed on (try `cargo xtask sim --help`)
    #[command(disable_help_flag = true)]
    Sim {
        /// Arguments of the simulator
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Throw bytes at a decoder, or at each, with libFuzzer; wants nightly Rust and cargo-fuzz
    Fuzz(fuzz::Fuzz),
    /// Judge the policy engine by a folder of recorded clusters with a reference's verdicts
    Scheduler(scheduler::Scheduler),
    /// Measure plans of large clusters beside Pacemaker's; wants crm_simulate
    BenchScheduler(scheduler::Bench),
    /// Put the release binary, man pages and shell completions into target/dist
    Dist,
}

fn main() -> ExitCode {
    match task(Arguments::parse().task) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn task(task: Task) -> Result<ExitCode> {
    match task {
        Task::Setup => setup::setup(),
        Task::Test(wish) => steps::test(&wish),
        Task::Tidy => Ok(tidy::report(&root())),
        Task::Fix => fix::fix(),
        Task::Sim { arguments } => sim::forward(&arguments),
        Task::Fuzz(wish) => fuzz::fuzz(&wish),
        Task::Scheduler(wish) => scheduler::scheduler(&wish),
        Task::BenchScheduler(wish) => scheduler::bench(&wish),
        Task::Dist => dist::dist(),
    }
}

/// The root of the workspace.
fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_owned()
}

/// Whether nothing may be skipped, however hard it is to have.
fn is_ci() -> bool {
    std::env::var_os("CI").is_some_and(|v| !v.is_empty() && v != "false" && v != "0")
}
