//! Mending what can be mended without thinking.

use crate::run::{cargo, run};
use anyhow::Result;
use std::process::ExitCode;

/// Formats, and applies the lints' own suggestions.
pub(crate) fn fix() -> Result<ExitCode> {
    let clippy = ["clippy", "--workspace", "--all-targets", "--all-features"];
    run(cargo(clippy.into_iter().chain([
        "--fix",
        "--allow-dirty",
        "--allow-staged",
    ])))?;
    run(cargo(["fmt", "--all"]))?;
    println!("What is left needs thought: `cargo xtask test --only tidy --only lints`.");
    Ok(ExitCode::SUCCESS)
}
