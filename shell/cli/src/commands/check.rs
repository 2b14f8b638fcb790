//! `mainstay check`

use super::{
    agents::ask_all,
    cib::{Finding, Notation, content, describe, document, guess, worst},
};
use crate::{
    args::Global,
    exit::{ERRORS, OK, Outcome, WARNINGS},
    output::{self, GOOD, paint},
};
use clap::{Args, ValueEnum};
use mainstay_cib::{Level, Problem, agents::Agents, check::check_with_agents, problem};
use std::path::{Path, PathBuf};

#[derive(Debug, Args)]
#[command(
    after_help = "Reads Pacemaker's XML, Heartbeat 2's XML and the native form. Finds what cannot be \
    read or has no effect, and what is likely not meant: missing fencing, contradictory constraints, \
    orders in a circle, preferences that nothing can fulfil, resources that no node may run, names \
    that nothing has, monitors that are not there, leftovers of commands, and more. With --agents, \
    the agents that are installed here are asked too: for parameters that they need or do not have, \
    and for timeouts below their advice. That runs them, with `meta-data` only.\n\n\
    Exits with 0 if all is well, 1 if there are warnings, 2 if there are errors; notes do not \
    count.\n\n\
    Examples:\n  mainstay check cib.xml\n  mainstay check --level error cib.xml backup/*.xml\n  \
    cibadmin -Q | mainstay check -\n  mainstay check --agents cluster.txt\n  mainstay check --json cib.xml | jq '.[].problems[].rule'"
)]
pub(crate) struct CheckArgs {
    /// Files with configurations; `-` for standard input
    #[arg(value_name = "CIB", required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// The notation. Without it, it is recognised
    #[arg(long, value_enum)]
    pub(crate) from: Option<Notation>,
    /// Leave out what is less than this
    #[arg(long, value_enum, default_value_t = Least::Note)]
    pub(crate) level: Least,
    /// Ask agents about themselves: resource agents below DIR, fence agents in /usr/sbin
    #[arg(
        long,
        value_name = "DIR",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "/usr/lib/ocf"
    )]
    pub(crate) agents: Option<PathBuf>,
}

/// The least level that is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Least {
    /// Everything
    Note,
    /// Warnings and errors
    Warning,
    /// Errors
    Error,
}

impl From<Least> for Level {
    fn from(least: Least) -> Level {
        match least {
            Least::Note => Level::Note,
            Least::Warning => Level::Warning,
            Least::Error => Level::Error,
        }
    }
}

pub(crate) fn run(global: &Global, args: &CheckArgs) -> Outcome {
    let mut reports = Vec::new();
    for file in &args.files {
        let text = content(file)?;
        reports.push((file, findings(&text, args.from, args.agents.as_deref())));
    }
    let level = reports.iter().filter_map(|(_, p)| worst(p)).max();
    for (_, problems) in &mut reports {
        problems.retain(|p| p.level >= Level::from(args.level));
    }
    if global.json {
        let reports: Vec<_> = reports
            .iter()
            .map(|(file, problems)| {
                serde_json::json!({
                    "file": file,
                    "problems": problems.iter().map(Finding::new).collect::<Vec<_>>(),
                })
            })
            .collect();
        output::json(&reports)?;
    } else {
        for (file, problems) in &reports {
            for problem in problems {
                output::line(describe(file, problem));
            }
        }
        let count = |level| {
            let all = reports.iter().flat_map(|(_, p)| p);
            all.filter(|p| p.level == level).count()
        };
        let (errors, warnings) = (count(Level::Error), count(Level::Warning));
        if level.is_none_or(|l| l < Level::Warning) {
            output::note(paint(GOOD, "no errors, no warnings"));
        } else {
            output::note(format_args!("{errors} errors, {warnings} warnings"));
        }
    }
    Ok(match level {
        Some(Level::Error) => ERRORS,
        Some(Level::Warning) => WARNINGS,
        _ => OK,
    })
}

/// What reading finds, and what the rules find.
fn findings(text: &str, notation: Option<Notation>, agents: Option<&Path>) -> Vec<Problem> {
    let (document, mut problems) = document(text, notation.unwrap_or_else(|| guess(text)));
    if let Some(document) = document {
        let asked = agents.map(|root| ask_all(&document.cib, root));
        let (agents, silent) = asked.unwrap_or_else(|| (Agents::new(), Vec::new()));
        problems.extend(silent);
        problems.extend(check_with_agents(&document.cib, &agents));
    }
    problem::sort(&mut problems);
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    const NATIVE: &str =
        "property stonith-enabled=false\nprimitive a systemd:a\n  op monitor interval=9s\n";

    fn rules(text: &str) -> Vec<&'static str> {
        findings(text, None, None).iter().map(|p| p.rule).collect()
    }

    /// Protects the command's scope: all notations are recognised and checked alike, and what cannot
    /// be read is a finding, not a failure.
    #[test]
    fn every_notation_is_checked() {
        assert_eq!(rules(NATIVE), ["fencing-off"]);
        let (native, _) = document(NATIVE, Notation::Native);
        let xml = native.expect("read").cib.to_xml();
        assert_eq!(rules(&xml), ["fencing-off"]);
        assert_eq!(rules("<cib>"), ["xml"]);
        assert_eq!(rules("primitive a ocf:nonsense\n"), ["syntax"]);
        let old = "<!DOCTYPE cib SYSTEM \"crm-1.0.dtd\"><cib><configuration><crm_config/></configuration></cib>";
        assert!(rules(old).contains(&"fencing-off"));
    }

    /// Protects scripts: the exit code tells the worst level, whatever is shown of it.
    #[test]
    fn the_exit_code_is_the_worst_level() {
        let dir = tempfile::tempdir().expect("dir");
        let code = |text: &str, level| {
            let file = dir.path().join("cib");
            std::fs::write(&file, text).expect("written");
            let args = CheckArgs {
                files: vec![file],
                from: None,
                level,
                agents: None,
            };
            let global = Global {
                socket: PathBuf::new(),
                json: true,
            };
            run(&global, &args).expect("checked")
        };
        assert_eq!(code(NATIVE, Least::Error), WARNINGS);
        assert_eq!(code("<cib>", Least::Note), ERRORS);
        let good = NATIVE.replace("false", "true") + "primitive f stonith:fence_x\n";
        assert_eq!(code(&good, Least::Note), OK);
    }
}
