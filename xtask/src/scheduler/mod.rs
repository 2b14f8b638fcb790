//! Judging the policy engine by recorded states of clusters and what a reference made of them.

mod bench;
mod cluster;
mod compare;
mod differ;
mod score;

pub(crate) use bench::{Bench, bench};

use crate::{
    dist::target_dir,
    run::{cargo, run},
};
use anyhow::{Context, Result, bail};
use clap::Args;
use compare::Verdict;
use score::{Case, Score};
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

/// What a folder of cases looks like.
const LAYOUT: &str = "\
A folder of recorded cases is expected: --dir DIR, with
  DIR/cases/NAME.xml      a cluster's configuration and status
  DIR/verdicts/NAME.json  what the reference makes of it, in the form of `mainstay plan --format verdict`
  DIR/index.json          { NAME: { \"primary\": TAG, \"tags\": [TAG…], \"rank\": N, \"args\": [ARG…] } }, each
                          optional; of args, `-t TIME` is the moment to plan for";

/// Which cases, and what to say of them.
#[derive(Debug, Args)]
pub(crate) struct Scheduler {
    /// The folder of cases; without it, the layout of such a folder is explained
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Only these cases; may be given several times
    #[arg(long, value_name = "NAME")]
    case: Vec<String>,
    /// List the cases that differ, and in what
    #[arg(long)]
    list: bool,
    /// Show the differences themselves
    #[arg(long)]
    diff: bool,
    /// Give the score for every tag, not only for the primary ones
    #[arg(long)]
    tags: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What the index says of a case.
#[derive(Clone, Debug, Default, Deserialize)]
struct Entry {
    #[serde(default)]
    primary: Option<String>,
    #[serde(default)]
    tags: Vec<String>,
    #[serde(default)]
    rank: u32,
    #[serde(default)]
    args: Vec<String>,
}

/// Runs all cases and prints how many of them come out right.
pub(crate) fn scheduler(wish: &Scheduler) -> Result<ExitCode> {
    let Some(dir) = &wish.dir else {
        println!("{LAYOUT}");
        return Ok(ExitCode::SUCCESS);
    };
    let index = index(dir)?;
    let names = names(dir, wish, &index)?;
    let mut build = cargo(["build", "--locked", "--quiet", "--package", "mainstay-cli"]);
    if wish.json {
        // Nothing but JSON on standard output.
        if !build.status().context("cargo did not start")?.success() {
            bail!("mainstay cannot be built");
        }
    } else {
        run(build)?;
    }
    let mut score = Score::default();
    for name in names {
        let entry = index.get(&name).cloned().unwrap_or_default();
        let case = judge(dir, name, &entry)?;
        if wish.diff && !wish.json {
            differ::print(&case);
        }
        score.add(case, entry.primary.as_deref(), &entry.tags);
    }
    if wish.json {
        println!("{}", serde_json::to_string_pretty(&score.json(wish.tags))?);
    } else {
        score.print(wish.tags, wish.list);
    }
    Ok(ExitCode::SUCCESS)
}

fn index(dir: &Path) -> Result<BTreeMap<String, Entry>> {
    let path = dir.join("index.json");
    let text = fs::read_to_string(&path)
        .with_context(|| format!("cannot read {}\n{LAYOUT}", path.display()))?;
    serde_json::from_str(&text)
        .with_context(|| format!("{} is not such an index\n{LAYOUT}", path.display()))
}

/// The cases of a folder, easy ones first.
fn names(dir: &Path, wish: &Scheduler, index: &BTreeMap<String, Entry>) -> Result<Vec<String>> {
    let folder = dir.join("cases");
    let listed = fs::read_dir(&folder)
        .with_context(|| format!("cannot read {}\n{LAYOUT}", folder.display()))?;
    let mut names = Vec::new();
    for file in listed {
        let path = file?.path();
        let stem = path.file_stem().and_then(|s| s.to_str());
        if let Some(stem) = stem.filter(|_| path.extension().is_some_and(|e| e == "xml")) {
            names.push(stem.to_owned());
        }
    }
    if let Some(missing) = wish.case.iter().find(|c| !names.contains(c)) {
        bail!("there is no case {missing} in {}", folder.display());
    }
    if !wish.case.is_empty() {
        names.retain(|n| wish.case.contains(n));
    }
    let rank = |n: &String| index.get(n).map_or(u32::MAX, |e| e.rank);
    names.sort_by(|a, b| rank(a).cmp(&rank(b)).then_with(|| a.cmp(b)));
    Ok(names)
}

/// Lets the command plan one case, and compares.
fn judge(dir: &Path, name: String, entry: &Entry) -> Result<Case> {
    let path = dir.join("verdicts").join(format!("{name}.json"));
    let text = fs::read_to_string(&path)
        .with_context(|| format!("cannot read {}\n{LAYOUT}", path.display()))?;
    let theirs: Verdict =
        serde_json::from_str(&text).with_context(|| format!("{} is no verdict", path.display()))?;
    let mut command = Command::new(target_dir().join("debug/mainstay"));
    command
        .arg("plan")
        .arg(dir.join("cases").join(format!("{name}.xml")));
    command
        .args(["--format", "verdict"])
        .args(moment(&entry.args));
    let output = command.output().context("mainstay did not start")?;
    let (ours, failed) = match serde_json::from_slice::<Verdict>(&output.stdout) {
        Ok(ours) => (ours, None),
        Err(_) => {
            let said = String::from_utf8_lossy(&output.stderr);
            let why = said.trim().lines().next_back().unwrap_or("no word");
            (
                Verdict::default(),
                Some(format!("{}: {why}", output.status)),
            )
        }
    };
    // A verdict, and a complaint of the linter about it.
    let complained = failed.is_none() && !output.status.success();
    Ok(Case {
        name,
        grades: compare::compare(&ours, &theirs),
        failed,
        complained,
        ours,
        theirs,
    })
}

/// The moment that a case is to be planned for.
fn moment(args: &[String]) -> Vec<&str> {
    match args {
        [flag, time, ..] if flag == "-t" => vec!["--at", time],
        _ => Vec::new(),
    }
}
