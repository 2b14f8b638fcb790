//! `mainstay plan`

mod show;
mod whatif;
mod why;

use super::cib::{Notation, content, describe, document, guess, worst};
use crate::{
    args::Global,
    exit::{BAD_DATA, Failure, INTERNAL, NOT_FOUND, OK, Outcome},
    output::{self, BAD, ODD, paint},
};
use clap::{Args, ValueEnum};
use mainstay_cib::{
    Cib, Document, Level, problem,
    validate::validate,
    value::{DateTime, FromText as _},
};
use mainstay_policy::{Ask, Dialect, Plan, Run, lint, plan, run_with, status, verdict};
use std::{
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

#[derive(Debug, Args)]
#[command(
    after_help = "Reads Pacemaker's XML, Heartbeat 2's XML and the native form, with the status that \
    stands in it, and says what a cluster in that state would do. Nothing is done. What-if switches change the \
    state before; --run plays the plan to its end.\n\n\
    What is not taken into account goes to standard error. A configuration with errors is refused; \
    `mainstay check` says more about it, and --force plans with what could be read.\n\n\
    Exits with 0 if a plan was made, whatever is in it; 65 if the configuration cannot be used; 66 if \
    there is no such file, service, node or ticket; 70 if the plan does what no plan may do: a fault of \
    mainstay, which is then shown, and which you are asked to report.\n\n\
    Examples:\n  mainstay plan cib.xml\n  mainstay plan cib.xml --why web\n  \
    mainstay plan cib.xml --why web node2\n  mainstay plan cib.xml --scores\n  \
    mainstay plan cib.xml --at '2026-12-24 18:00' --graph dot | dot -Tsvg > plan.svg\n  \
    cibadmin -Q | mainstay plan - --json | jq '.report.changes'\n  \
    mainstay plan cib.xml --node-fail node2 --run\n  \
    mainstay plan cib.xml --op-inject web_monitor_10000@node1=7 --run --op-fail web_stop_0@node1=1 \
    --write after.xml\n  \
    mainstay plan after.xml --set no-quorum-policy=freeze --quorum false"
)]
pub(crate) struct PlanArgs {
    /// The file with configuration and status; `-` for standard input
    #[arg(value_name = "CIB")]
    pub(crate) file: PathBuf,
    /// The notation of the file. Without it, it is recognised
    #[arg(long, value_enum)]
    pub(crate) from: Option<Notation>,
    /// Whose rules hold where they differ
    #[arg(long, value_enum, default_value_t = Rules::Pacemaker)]
    pub(crate) rules: Rules,
    /// The moment to plan for, in ISO 8601, in UTC if no zone is named. Without it, the
    /// `execution-date` of the file, else now
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(crate) at: Option<DateTime>,
    /// Show the score of each service on each node
    #[arg(long, group = "shown")]
    pub(crate) scores: bool,
    /// Say why a service, or what is in a group, clone or bundle, is where it is, and why not elsewhere;
    /// with NODE, about that node only
    #[arg(long, num_args = 1..=2, value_names = ["SERVICE", "NODE"], group = "shown")]
    pub(crate) why: Option<Vec<String>>,
    /// Print the steps and what they wait for: for Graphviz, or as JSON
    #[arg(long, value_enum, value_name = "FORM", group = "shown")]
    pub(crate) graph: Option<GraphForm>,
    /// How the plan is printed
    #[arg(long, value_enum, default_value_t = Format::Text, group = "shown")]
    pub(crate) format: Format,
    /// Plan in spite of errors in the configuration
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) play: whatif::Play,
    #[command(flatten)]
    pub(crate) what_if: whatif::WhatIf,
}

/// Whose rules hold where they differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Rules {
    /// Those of Pacemaker
    Pacemaker,
    /// Those of Heartbeat 2: each member of a group adds its own stickiness as much as all together
    Heartbeat,
}

/// Forms of the graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum GraphForm {
    /// For Graphviz
    Dot,
    /// As JSON
    Json,
}

/// Forms of the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people, or with --json for programs
    Text,
    /// Normalised JSON, with the state before and after: for comparing with other engines
    Verdict,
}

fn moment(text: &str) -> Result<DateTime, String> {
    DateTime::from_text(text).ok_or_else(|| format!("expected {}", DateTime::EXPECTED))
}

pub(crate) fn run(global: &Global, args: &PlanArgs) -> Outcome {
    let Some((mut document, notation)) = load(args)? else {
        return Ok(BAD_DATA);
    };
    let now = now(&document.cib, args.at)?;
    let ask = Ask {
        now,
        dialect: match args.rules {
            Rules::Pacemaker => Dialect::Pacemaker,
            Rules::Heartbeat => Dialect::Heartbeat,
        },
    };
    // A verdict tells the state before anything happened, too.
    let before = (args.format == Format::Verdict).then(|| status(&document.cib, ask));
    args.what_if.apply(&mut document.cib, now)?;
    let cib = &document.cib;
    let run = args
        .play
        .run
        .then(|| run_with(cib, ask, &args.play.op_fail));
    let planned = match &run {
        Some(run) => &run.plan,
        None => &plan(cib, ask),
    };
    let complaints = lint::lint(cib, planned);
    for text in &planned.report.unsupported {
        let note = format_args!("{} not taken into account: ", paint(ODD, "note:"));
        output::note(format_args!("{note}{text}"));
    }
    if let Some(before) = before {
        let mut verdict = verdict(cib, ask, &args.play.op_fail);
        verdict.nodes_before = before.nodes;
        verdict.before = before.services;
        output::json(&verdict)?;
    } else {
        print(global, args, ask, (planned, run.as_ref()), &complaints)?;
    }
    if let Some(path) = &args.play.write {
        if let Some(run) = run {
            document.cib = run.after;
        }
        whatif::save(&document, notation, path)?;
    }
    if complaints.is_empty() {
        return Ok(OK);
    }
    Ok(complain(&args.file, &complaints))
}

fn print(
    global: &Global,
    args: &PlanArgs,
    ask: Ask,
    (plan, run): (&Plan, Option<&Run>),
    complaints: &[lint::Finding],
) -> Result<(), Failure> {
    if let Some(words) = &args.why {
        let found = why::find(plan, &words[0], words.get(1).map(String::as_str))?;
        if global.json {
            return output::json(&found);
        }
        output::print(&why::text(&found));
    } else if args.scores {
        if global.json {
            return output::json(&plan.report.scores);
        }
        output::print(&show::scores(plan));
    } else {
        match args.graph {
            Some(GraphForm::Dot) => output::print(&plan.graph.to_dot()),
            Some(GraphForm::Json) => return output::json(&plan.graph),
            None if global.json => {
                let mut value = serde_json::json!({
                    "at": DateTime(ask.now).to_text(),
                    "graph": plan.graph,
                    "report": plan.report,
                    "complaints": complaints.iter().map(ToString::to_string).collect::<Vec<_>>(),
                });
                if let Some(run) = run {
                    value["run"] = serde_json::json!({
                        "done": run.done,
                        "failed": run.failed,
                        "after": status(&run.after, ask),
                    });
                }
                return output::json(&value);
            }
            None => output::print(&show::changes(plan, ask)),
        }
    }
    if let Some(run) = run {
        output::print(&whatif::played(run, &status(&run.after, ask)));
    }
    Ok(())
}

/// The configuration, unless there are errors in it that nobody wants to pass over.
fn load(args: &PlanArgs) -> Result<Option<(Document, Notation)>, Failure> {
    let text = content(&args.file)?;
    let notation = args.from.unwrap_or_else(|| guess(&text));
    let (document, mut problems) = document(&text, notation);
    if let Some(document) = &document {
        problems.extend(validate(&document.cib));
    }
    problems.retain(|p| p.level == Level::Error);
    problem::sort(&mut problems);
    // Some readers validate by themselves.
    problems.dedup();
    for problem in &problems {
        output::note(describe(&args.file, problem));
    }
    let refused = worst(&problems).is_some() && !args.force;
    Ok(document.filter(|_| !refused).map(|d| (d, notation)))
}

/// The moment to plan for.
fn now(cib: &Cib, at: Option<DateTime>) -> Result<i64, Failure> {
    if let Some(at) = at {
        return Ok(at.0);
    }
    if let Some(at) = cib.execution_date.get() {
        return Ok(at);
    }
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    let seconds = since.ok().and_then(|s| i64::try_from(s.as_secs()).ok());
    seconds.ok_or_else(|| {
        let what = "this machine's clock is before 1970; say --at TIME";
        Failure::new(INTERNAL, what)
    })
}

/// Constraints may contradict each other. Whatever else the linter does not let pass is our fault,
/// and somebody should hear of it. Returns the exit code.
fn complain(file: &Path, complaints: &[lint::Finding]) -> u8 {
    if let [circle] = complaints
        && circle.rule == "circle"
    {
        let head =
            "The steps of this plan wait for each other in a circle: it cannot be carried out.";
        output::note(paint(BAD, head));
        output::note(format_args!("  {}", circle.what));
        output::note(
            "Most often constraints contradict each other: look at the orders and colocations of \
             these services.",
        );
        return BAD_DATA;
    }
    let head = "This plan does what no plan may do. Do not rely on it.";
    output::note(paint(BAD, head));
    for complaint in complaints {
        output::note(format_args!("  {complaint}"));
    }
    output::note(format_args!(
        "That is a fault of mainstay, not of your configuration. Please report it to the project, with \
         these lines, the output of `mainstay --version`, and {} (take passwords out of it first).",
        file.display()
    ));
    INTERNAL
}

/// Refuses the name of a node that there is not.
fn known_node(plan: &Plan, name: &str) -> Result<(), Failure> {
    let nodes = &plan.report.status.nodes;
    if nodes.contains_key(name) {
        return Ok(());
    }
    let known: Vec<&str> = nodes.keys().map(String::as_str).collect();
    let what = format!("there is no node {name}; there are {}", known.join(", "));
    Err(Failure::new(NOT_FOUND, what))
}

#[cfg(test)]
mod tests;
