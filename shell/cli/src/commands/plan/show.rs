//! A plan for people.

use crate::output::{BAD, FAINT, GOOD, HEAD, ODD, Table, paint};
use anstyle::Style;
use mainstay_cib::value::{DateTime, FromText as _};
use mainstay_policy::{Ask, Change, Plan};
use std::{collections::BTreeMap, fmt::Write as _};

/// The states of nodes, what changes, and how many steps that takes.
pub(super) fn changes(plan: &Plan, ask: Ask) -> String {
    let report = &plan.report;
    let mut text = format!(
        "{} {}\n\n",
        paint(HEAD, "Plan for"),
        DateTime(ask.now).to_text()
    );
    let mut states: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (node, state) in &report.status.nodes {
        states.entry(state).or_default().push(node);
    }
    let mut table = Table::new(["STATE", "NODES"]);
    for (state, nodes) in states {
        table.row([paint(state_style(state), state), nodes.join(", ")]);
    }
    text.push_str(&table.render());
    text.push('\n');
    if report.changes.is_empty() {
        let _ = writeln!(text, "{}", paint(GOOD, "No service changes."));
    } else {
        let mut table = Table::new(["CHANGE", "OF", "WHERE", "WHY"]);
        for change in &report.changes {
            table.row(row(change));
        }
        text.push_str(&table.render());
    }
    let _ = writeln!(text, "\n{}", steps(plan));
    text
}

fn state_style(state: &str) -> Style {
    match state {
        "online" => GOOD,
        s if s.starts_with("online") || s == "pending" => ODD,
        s if s.starts_with("unclean") => BAD,
        _ => FAINT,
    }
}

fn row(change: &Change) -> [String; 4] {
    let style = match change.what.as_str() {
        _ if change.blocked => BAD,
        "start" | "promote" => GOOD,
        what if what.starts_with("fence") || what == "recover" => BAD,
        _ => ODD,
    };
    let mut place = match (&change.from, &change.to) {
        (Some(from), Some(to)) if from != to => format!("{from} -> {to}"),
        (Some(node), _) | (None, Some(node)) => node.clone(),
        (None, None) => String::new(),
    };
    // What a node undergoes has the node as its object.
    let object = match &change.service {
        Some(service) => service.clone(),
        None => std::mem::take(&mut place),
    };
    if let Some((from, to)) = change.roles.filter(|(from, to)| from != to) {
        let _ = write!(place, " ({from} -> {to})");
    }
    if change.blocked {
        place.push_str(" blocked");
    }
    let why = change.reason.as_ref().map(|r| paint(FAINT, r));
    [
        paint(style, &change.what),
        object,
        place,
        why.unwrap_or_default(),
    ]
}

/// How many steps of which kind.
fn steps(plan: &Plan) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for step in plan.graph.done() {
        *counts.entry(&step.task).or_default() += 1;
    }
    if counts.is_empty() {
        return paint(FAINT, "Nothing is to be done.");
    }
    let parts: Vec<String> = counts.iter().map(|(t, n)| format!("{n} {t}")).collect();
    paint(FAINT, format_args!("Steps: {}", parts.join(", ")))
}

/// The tables of scores, in the order in which places were chosen.
pub(super) fn scores(plan: &Plan) -> String {
    let mut table = Table::new(["STAGE", "SERVICE", "NODE", "SCORE"]);
    for score in &plan.report.scores {
        let style = match score.score.as_str() {
            "-INFINITY" => FAINT,
            s if s.starts_with('-') => ODD,
            "0" => Style::new(),
            _ => GOOD,
        };
        table.row([
            paint(FAINT, score.stage),
            score.service.clone(),
            score.node.clone().unwrap_or_else(|| "none".to_owned()),
            paint(style, &score.score),
        ]);
    }
    table.render()
}
