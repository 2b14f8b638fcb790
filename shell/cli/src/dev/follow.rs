//! Following the events of all nodes.

use super::{
    cluster::{Cluster, DevNode},
    start::Started,
};
use crate::{
    args::Global,
    commands::events::render,
    exit::{OK, Outcome},
    output::{self, BAD, FAINT, node_style, paint},
    signals::StopSignals,
};
use mainstay_client::{ClientBuilder, ClusterEvent};
use std::time::Duration;

/// Between two attempts to reach a node.
const RETRY: Duration = Duration::from_millis(200);
/// Past events that are asked for: enough for what happens while a node is connected to.
const BACKLOG: u32 = 100;

/// Prints what happens until this process is told to stop, or another has stopped all nodes.
pub(super) async fn follow(
    global: &Global,
    started: &mut Started,
    stopped: &mut StopSignals,
) -> Outcome {
    let mut tasks = tokio::task::JoinSet::new();
    for (index, node) in started.cluster.nodes.iter().enumerate() {
        tasks.spawn(follow_node(global.json, index, node.clone()));
    }
    loop {
        tokio::select! {
            _ = stopped.next() => break,
            ended = started.ended.recv() => {
                let Some((name, status)) = ended else { break };
                if !global.json {
                    output::line(format_args!("{} {name}: the daemon ended: {status}", paint(BAD, "*")));
                }
                // Others may have started nodes again, or stopped the whole cluster.
                if let Ok(cluster) = Cluster::load(&started.cluster.dir) {
                    started.cluster = cluster;
                }
                if !started.cluster.is_running() {
                    break;
                }
            }
        }
    }
    if !global.json {
        output::line(paint(FAINT, "stopping the cluster"));
    }
    // Nodes that another command started since are stopped too.
    if let Ok(cluster) = Cluster::load(&started.cluster.dir) {
        started.cluster = cluster;
    }
    Ok(OK)
}

async fn follow_node(json: bool, index: usize, node: DevNode) {
    let prefix = paint(node_style(index), format_args!("{:<4}", node.name));
    let mut last_ms = 0;
    loop {
        if let Ok(client) = ClientBuilder::new(&node.socket).connect().await
            && let Ok(mut events) = client.events(BACKLOG).await
        {
            while let Some(news) = events.next().await {
                match news {
                    // Told before the connection was made anew.
                    ClusterEvent::Happened(event) if event.unix_ms < last_ms => {}
                    ClusterEvent::Happened(event) => {
                        last_ms = event.unix_ms;
                        if json {
                            let line = serde_json::json!({"on": node.name, "event": event});
                            // A value always serializes.
                            let _ = output::json_line(&line);
                        } else {
                            output::line(format_args!("{prefix} {}", render(&event)));
                        }
                    }
                    ClusterEvent::Missed(count) => {
                        output::note(format_args!("{prefix} {count} events were dropped"));
                    }
                }
            }
        }
        tokio::time::sleep(RETRY).await;
    }
}
