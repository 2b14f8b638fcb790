//! The table of a development cluster's nodes.

use super::{
    cluster::{Cluster, DevNode},
    process::ProcessState,
    start::status_of,
};
use crate::{
    args::Global,
    exit::Failure,
    output::{self, BAD, FAINT, GOOD, HEAD, ODD, Table, paint, span},
};
use mainstay_wire::report::StatusReport;
use serde_json::json;

/// Prints the table.
pub(super) async fn show(global: &Global, cluster: &Cluster) -> Result<(), Failure> {
    let mut rows = Vec::new();
    for node in &cluster.nodes {
        let process = node
            .process
            .map_or(ProcessState::Stopped, |process| process.state());
        let status = if process == ProcessState::Running {
            status_of(node).await
        } else {
            None
        };
        rows.push((node, process, status));
    }
    if global.json {
        return output::json(&as_json(cluster, &rows));
    }
    output::line(format_args!(
        "cluster {} in {}",
        paint(HEAD, "dev"),
        cluster.dir.display()
    ));
    output::print(&as_table(&rows));
    if !cluster.proxy.cut.is_empty() {
        let cut: Vec<String> = cluster
            .proxy
            .cut
            .iter()
            .map(|(a, b)| format!("n{a}-n{b}"))
            .collect();
        output::line(format_args!("{} {}", paint(BAD, "cut:"), cut.join(" ")));
    }
    Ok(())
}

type Row<'a> = (&'a DevNode, ProcessState, Option<StatusReport>);

fn as_table(rows: &[Row<'_>]) -> String {
    let mut table = Table::new([
        "NODE", "PROCESS", "PID", "CLUSTER", "VIEW", "LEASE", "SOCKET",
    ]);
    for (node, process, status) in rows {
        let process_text = match process {
            ProcessState::Running => paint(GOOD, "running"),
            ProcessState::Paused => paint(ODD, "paused"),
            ProcessState::Stopped => paint(BAD, "stopped"),
        };
        let pid = match (process, node.process) {
            (ProcessState::Stopped, _) | (_, None) => "-".to_owned(),
            (_, Some(process)) => process.pid.to_string(),
        };
        let (cluster, view, lease) = match status {
            None => (paint(FAINT, "-"), "-".to_owned(), "-".to_owned()),
            Some(s) => {
                let leads = if s.leader.as_ref() == Some(&s.node) {
                    ", leader"
                } else {
                    ""
                };
                let word = match (s.active, s.quorate) {
                    (true, _) => paint(GOOD, format_args!("active{leads}")),
                    (false, true) => paint(ODD, "not active"),
                    (false, false) => paint(BAD, "no quorum"),
                };
                (word, s.epoch.to_string(), span(s.lease_ms))
            }
        };
        table.row([
            node.name.clone(),
            process_text,
            pid,
            cluster,
            view,
            lease,
            node.socket.display().to_string(),
        ]);
    }
    table.render()
}

fn as_json(cluster: &Cluster, rows: &[Row<'_>]) -> serde_json::Value {
    let nodes: Vec<_> = rows
        .iter()
        .map(|(node, process, status)| {
            json!({
                "name": node.name,
                "id": node.id,
                "process": process,
                "pid": node.process.filter(|_| *process != ProcessState::Stopped).map(|p| p.pid),
                "address": node.address,
                "socket": node.socket,
                "config": node.config,
                "state_dir": node.state_dir,
                "log": node.log,
                "quorate": status.as_ref().map(|s| s.quorate),
                "active": status.as_ref().map(|s| s.active),
                "epoch": status.as_ref().map(|s| s.epoch),
            })
        })
        .collect();
    let cut: Vec<_> = cluster
        .proxy
        .cut
        .iter()
        .map(|(a, b)| [format!("n{a}"), format!("n{b}")])
        .collect();
    json!({"cluster": "dev", "dir": cluster.dir, "nodes": nodes, "cut": cut})
}
