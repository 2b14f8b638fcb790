//! Compares the policy engine with the reference implementation on random clusters.

#![allow(clippy::print_stdout)]

use anyhow::{Context as _, Result};
use clap::Parser;
use mainstay_scheduler::{
    compare::{GRADES, differences, grades},
    ours, random, reference,
};
use std::{path::PathBuf, process::ExitCode};

/// Compares the policy engine with crm_simulate on random clusters
#[derive(Debug, Parser)]
struct Args {
    /// The first seed
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many seeds
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// Show what differs, a line for each fact that only one has
    #[arg(long)]
    show: bool,
    /// Write each cluster to a file in this folder
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
}

fn main() -> Result<ExitCode> {
    let args = Args::parse();
    let (mut compared, mut refused) = (0_u64, 0_u64);
    let mut reached = [0_u64; GRADES.len()];
    for seed in args.seed..args.seed.saturating_add(args.seeds) {
        let text = random::cluster(seed);
        if let Some(folder) = &args.keep {
            let path = folder.join(format!("{seed:06}.xml"));
            std::fs::write(&path, &text).with_context(|| path.display().to_string())?;
        }
        let Some(theirs) = reference::verdict(&text)? else {
            refused += 1;
            continue;
        };
        let ours = ours(&text).map_err(anyhow::Error::msg)?;
        compared += 1;
        let grades = grades(&ours, &theirs);
        for (count, right) in reached.iter_mut().zip(grades) {
            *count += u64::from(right);
        }
        if let Some(first) = grades.iter().position(|right| !right) {
            println!("seed {seed}: {}", GRADES[first]);
            if args.show {
                for line in differences(&ours, &theirs) {
                    println!("  {line}");
                }
            }
        }
    }
    println!("{compared} clusters compared, {refused} refused by the reference");
    for (grade, count) in GRADES.iter().zip(reached) {
        let percent = 100.0 * count as f64 / compared.max(1) as f64;
        println!("  {grade:26} {count:5}  {percent:.1} %");
    }
    let all = reached.iter().all(|count| *count == compared);
    Ok(if all {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
