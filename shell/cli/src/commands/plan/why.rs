//! Why a service is where it is, and why not elsewhere.

use super::known_node;
use crate::{
    exit::{Failure, NOT_FOUND},
    output::{BAD, FAINT, GOOD, HEAD, ODD, paint},
};
use mainstay_policy::{NodeScore, Plan, Why};
use std::fmt::Write as _;

/// What there is to say of a service, or of each service in a collective.
pub(super) fn find(plan: &Plan, name: &str, node: Option<&str>) -> Result<Vec<Why>, Failure> {
    if let Some(node) = node {
        known_node(plan, node)?;
    }
    let services = plan.services_of(name);
    if services.is_empty() {
        let known: Vec<&str> = plan.report.places.keys().map(String::as_str).collect();
        let what = format!("there is no service {name}; there are {}", known.join(", "));
        return Err(Failure::new(NOT_FOUND, what));
    }
    let found = services.iter().filter_map(|s| plan.why(s, node));
    Ok(found.collect())
}

pub(super) fn text(list: &[Why]) -> String {
    let parts: Vec<String> = list.iter().map(of_service).collect();
    parts.join("\n")
}

fn of_service(why: &Why) -> String {
    let place = |list: &[String]| match list {
        [] => "stopped".to_owned(),
        list => list.join(", "),
    };
    let mut text = format!("{}\n", paint(HEAD, &why.service));
    // Writing to a string cannot fail.
    let _ = writeln!(text, "  now   {}", place(&why.now));
    let _ = writeln!(text, "  then  {}", place(&why.next));
    for change in &why.changes {
        let style = if change.blocked { BAD } else { ODD };
        let because = change.reason.as_deref().map(|r| format!(": {r}"));
        let line = paint(style, change.line());
        let _ = writeln!(text, "        {line}{}", because.unwrap_or_default());
    }
    for score in &why.scores {
        of_node(score, &why.service, &mut text);
    }
    if !why.steps.is_empty() {
        let _ = writeln!(text, "  steps");
    }
    for step in &why.steps {
        let because = step
            .reason
            .as_deref()
            .map(|r| paint(FAINT, format!(" ({r})")));
        let _ = writeln!(text, "    {}{}", step.step, because.unwrap_or_default());
        for first in &step.waits_for {
            let _ = writeln!(text, "      {} {first}", paint(FAINT, "after"));
        }
    }
    text
}

fn of_node(score: &NodeScore, service: &str, text: &mut String) {
    let chosen = if score.chosen {
        paint(GOOD, "  chosen")
    } else {
        String::new()
    };
    let value = score.score.as_deref().unwrap_or("no score");
    let state = if score.state == "online" {
        String::new()
    } else {
        paint(ODD, format_args!("  {}", score.state))
    };
    let _ = writeln!(text, "  on {}: {value}{state}{chosen}", score.node);
    for part in &score.parts {
        // What a whole gets, its first member counts.
        let whole = if part.service == service {
            String::new()
        } else {
            paint(FAINT, format_args!(" (for {})", part.service))
        };
        let _ = writeln!(text, "    {:>9}  {}{whole}", part.score, part.why);
    }
}
