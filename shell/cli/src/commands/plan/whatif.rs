//! What-if switches, and what became of a plan that was played.

use super::Notation;
use crate::{
    exit::{CANNOT_CREATE, Failure, NOT_FOUND},
    output::{BAD, FAINT, GOOD, HEAD, Table, paint},
};
use clap::Args;
use mainstay_cib::{Cib, Document, native, write};
use mainstay_policy::{
    Run, Status,
    whatif::{Event, OpResult, Ticket},
};
use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
};

/// What happens before the plan is made, in the order of this list.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "What if")]
pub(crate) struct WhatIf {
    /// A cluster option has another value
    #[arg(long, value_name = "NAME=VALUE", value_parser = option)]
    pub(crate) set: Vec<(String, String)>,
    /// The cluster has a quorum, or none
    #[arg(long, value_name = "BOOL", value_parser = truth)]
    pub(crate) quorum: Option<bool>,
    /// A node comes into the cluster
    #[arg(long, value_name = "NODE")]
    pub(crate) node_up: Vec<String>,
    /// A node leaves the cluster cleanly
    #[arg(long, value_name = "NODE")]
    pub(crate) node_down: Vec<String>,
    /// A node is lost without a word
    #[arg(long, value_name = "NODE")]
    pub(crate) node_fail: Vec<String>,
    /// A ticket is granted
    #[arg(long, value_name = "TICKET")]
    pub(crate) ticket_grant: Vec<String>,
    /// A ticket is taken away
    #[arg(long, value_name = "TICKET")]
    pub(crate) ticket_revoke: Vec<String>,
    /// A ticket is put on standby
    #[arg(long, value_name = "TICKET")]
    pub(crate) ticket_standby: Vec<String>,
    /// A ticket counts again after standby
    #[arg(long, value_name = "TICKET")]
    pub(crate) ticket_activate: Vec<String>,
    /// An operation has ended with an exit code; failures add one to their count. OPERATION is
    /// SERVICE_TASK_INTERVAL@NODE=RC, the interval in milliseconds: web_monitor_10000@node1=7
    #[arg(long, value_name = "OPERATION")]
    pub(crate) op_inject: Vec<OpResult>,
}

fn option(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE, as in no-quorum-policy=freeze".to_owned()),
    }
}

fn truth(text: &str) -> Result<bool, String> {
    let expected = || "expected true or false".to_owned();
    mainstay_cib::value::truth(text).ok_or_else(expected)
}

impl WhatIf {
    fn events(&self) -> Vec<Event> {
        let mut events = Vec::new();
        for (name, value) in &self.set {
            events.push(Event::Option {
                name: name.clone(),
                value: value.clone(),
            });
        }
        events.extend(self.quorum.map(Event::Quorum));
        events.extend(self.node_up.iter().cloned().map(Event::NodeUp));
        events.extend(self.node_down.iter().cloned().map(Event::NodeDown));
        events.extend(self.node_fail.iter().cloned().map(Event::NodeFails));
        for (tickets, change) in [
            (&self.ticket_grant, Ticket::Granted),
            (&self.ticket_revoke, Ticket::Revoked),
            (&self.ticket_standby, Ticket::Standby),
            (&self.ticket_activate, Ticket::Active),
        ] {
            events.extend(tickets.iter().map(|t| Event::Ticket(t.clone(), change)));
        }
        events.extend(self.op_inject.iter().cloned().map(Event::Result));
        events
    }

    /// Changes the state as if all this had happened.
    pub(super) fn apply(&self, cib: &mut Cib, now: i64) -> Result<(), Failure> {
        for event in self.events() {
            let applied = event.apply(cib, now);
            applied.map_err(|unknown| Failure::new(NOT_FOUND, unknown.to_string()))?;
        }
        Ok(())
    }
}

/// Writes a configuration with its status, in the notation that it was read in. Heartbeat 2's cannot
/// say everything that a state needs, so that becomes Pacemaker's.
pub(super) fn save(document: &Document, notation: Notation, path: &Path) -> Result<(), Failure> {
    let text = match notation {
        Notation::Native => native::write(document),
        Notation::Pacemaker | Notation::Heartbeat2 => write(document),
    };
    std::fs::write(path, text).map_err(|error| {
        let what = format!("cannot write {}: {error}", path.display());
        Failure::new(CANNOT_CREATE, what)
    })
}

/// What was done, and the cluster afterwards.
pub(super) fn played(run: &Run, after: &Status) -> String {
    let mut text = String::new();
    // Writing to a string cannot fail.
    let _ = match &run.failed {
        None => writeln!(
            text,
            "\n{} all {} steps",
            paint(GOOD, "Played"),
            run.done.len()
        ),
        Some(step) => writeln!(
            text,
            "\n{} {step}, after {} steps; nothing was begun after it",
            paint(BAD, "Failed:"),
            run.done.len()
        ),
    };
    text.push('\n');
    let mut table = Table::new(["NODE AFTERWARDS", "STATE"]);
    for (node, state) in &after.nodes {
        table.row([node.clone(), state.clone()]);
    }
    text.push_str(&table.render());
    text.push('\n');
    let mut table = Table::new(["SERVICE AFTERWARDS", "WHERE"]);
    for (service, places) in &after.services {
        let places = if places.is_empty() {
            paint(FAINT, "stopped")
        } else {
            places.join(", ")
        };
        table.row([service.clone(), places]);
    }
    if table.is_empty() {
        let _ = writeln!(text, "{}", paint(HEAD, "No services."));
    } else {
        text.push_str(&table.render());
    }
    text
}

/// Playing the plan.
#[derive(Debug, Default, Args)]
pub(crate) struct Play {
    /// Play the plan to its end, feed the results back, and show the cluster afterwards
    #[arg(long, conflicts_with_all = ["scores", "why", "graph"])]
    pub(crate) run: bool,
    /// With --run, or --format verdict: this operation fails, and nothing is begun after it;
    /// SERVICE_TASK_INTERVAL@NODE=RC
    #[arg(long, value_name = "OPERATION")]
    pub(crate) op_fail: Vec<OpResult>,
    /// Write configuration and status to a file: with --run as they are afterwards, else as they are
    /// with what the switches below change
    #[arg(long, value_name = "FILE")]
    pub(crate) write: Option<PathBuf>,
}
