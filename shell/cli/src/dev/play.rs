//! What `mainstay dev` does to a running cluster.

use super::{
    DevCommand,
    cluster::{self, Cluster},
    process::{Process, ProcessState},
    proxy, start, table,
};
use crate::{
    args::Global,
    exit::{Failure, OK, Outcome, UNAVAILABLE},
    output,
};
use rustix::process::Signal;
use std::{collections::BTreeSet, path::Path, time::Duration};

/// Time for nodes to leave before they are told to stop at once, and then killed. Not all of a
/// cluster can leave cleanly: the last ones have no quorum to tell.
const LEAVING: Duration = Duration::from_millis(1500);

pub(super) async fn run(global: &Global, dir: &Path, command: DevCommand) -> Outcome {
    let _lock = cluster::lock(dir)?;
    let mut cluster = Cluster::load(dir)?;
    match command {
        DevCommand::Status => {}
        DevCommand::Stop { remove } => {
            stop(&mut cluster).await;
            if remove {
                cluster.remove();
            } else {
                cluster.save()?;
            }
        }
        DevCommand::Kill { nodes } => send(&cluster, &nodes, Signal::KILL)?,
        DevCommand::Pause { nodes } => send(&cluster, &nodes, Signal::STOP)?,
        DevCommand::Resume { nodes } => send(&cluster, &nodes, Signal::CONT)?,
        DevCommand::Start { nodes } => restart(&mut cluster, &nodes).await?,
        DevCommand::Partition { nodes } => partition(&mut cluster, &nodes).await?,
        DevCommand::Heal => cut(&mut cluster, Vec::new()).await?,
    }
    if Cluster::exists(dir) {
        table::show(global, &cluster).await?;
    } else if global.json {
        output::json(&serde_json::json!({"dir": dir, "removed": true}))?;
    }
    Ok(OK)
}

fn living(cluster: &Cluster) -> Vec<Process> {
    let nodes = cluster.nodes.iter().filter_map(|n| n.process);
    nodes.filter(|p| p.is_alive()).collect()
}

/// Stops every process of the cluster.
pub(super) async fn stop(cluster: &mut Cluster) {
    let nodes = living(cluster);
    // First politely, then at once, then without asking.
    for signal in [Signal::TERM, Signal::TERM, Signal::KILL] {
        for node in &nodes {
            node.signal(signal);
            node.signal(Signal::CONT);
        }
        let waiting = nodes.clone();
        let all = tokio::task::spawn_blocking(move || {
            let until = std::time::Instant::now() + LEAVING;
            waiting
                .iter()
                .all(|p| p.wait(until.saturating_duration_since(std::time::Instant::now())))
        });
        if all.await.unwrap_or(false) {
            break;
        }
    }
    if let Some(proxy) = cluster.proxy.process {
        proxy.signal(Signal::KILL);
        proxy.wait(LEAVING);
    }
    cluster.proxy.cut.clear();
}

/// Sends a signal to nodes and waits until it shows.
fn send(cluster: &Cluster, names: &[String], signal: Signal) -> Result<(), Failure> {
    let mut processes = Vec::new();
    for name in names {
        let node = &cluster.nodes[cluster.index(name)?];
        let process = node.process.filter(|p| p.is_alive()).ok_or_else(|| {
            Failure::new(
                UNAVAILABLE,
                format!("{name} does not run; `mainstay dev start {name}` starts it"),
            )
        })?;
        processes.push(process);
    }
    for process in processes {
        process.signal(signal);
        if signal == Signal::KILL {
            process.wait(LEAVING);
        }
    }
    Ok(())
}

async fn restart(cluster: &mut Cluster, names: &[String]) -> Result<(), Failure> {
    if !cluster.is_direct() && cluster.proxy.process.is_none_or(|p| !p.is_alive()) {
        start::start_proxy(cluster).await?;
    }
    let is_down = |cluster: &Cluster, i: usize| {
        let process = cluster.nodes[i].process;
        process.is_none_or(|p| p.state() == ProcessState::Stopped)
    };
    let mut chosen = Vec::new();
    for name in names {
        let index = cluster.index(name)?;
        if !is_down(cluster, index) {
            return Err(Failure::new(
                UNAVAILABLE,
                format!("{name} runs already; `mainstay dev resume {name}` wakes a paused node"),
            ));
        }
        chosen.push(index);
    }
    if names.is_empty() {
        chosen = (0..cluster.nodes.len())
            .filter(|&i| is_down(cluster, i))
            .collect();
    }
    for &index in &chosen {
        start::start_node(&mut cluster.nodes[index])?;
    }
    cluster.save()?;
    for &index in &chosen {
        start::wait_for_socket(&cluster.nodes[index]).await?;
    }
    Ok(())
}

async fn partition(cluster: &mut Cluster, names: &[String]) -> Result<(), Failure> {
    let mut side = BTreeSet::new();
    for name in names {
        side.insert(cluster.nodes[cluster.index(name)?].id);
    }
    if side.len() == cluster.nodes.len() {
        return Err(Failure::usage(
            "these are all nodes: name those of one side only",
        ));
    }
    let pairs = start::pairs_of(cluster.nodes.len())
        .into_iter()
        .filter(|(a, b)| side.contains(a) != side.contains(b))
        .collect();
    cut(cluster, pairs).await
}

async fn cut(cluster: &mut Cluster, pairs: Vec<(u16, u16)>) -> Result<(), Failure> {
    if cluster.is_direct() {
        return Err(Failure::usage(
            "the nodes of this cluster are connected directly, so no link can be cut; start one \
             without --direct",
        ));
    }
    proxy::order(&cluster.proxy.control, &pairs).await?;
    cluster.proxy.cut = pairs;
    cluster.save()
}
