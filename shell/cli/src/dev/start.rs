//! Starting a development cluster.

use super::{
    NODES,
    cluster::{self, Cluster, DevNode, Route, cannot_write},
    ports, process,
};
use crate::exit::{CANNOT_CREATE, Failure, UNAVAILABLE};
use mainstay_base::{FencePolicy, NodeId, NodeName, Timings};
use mainstay_client::ClientBuilder;
use mainstay_daemon::{
    ClusterKey,
    config::{Draft, NodeEntry, render},
};
use mainstay_wire::report::{MemberState, StatusReport};
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitStatus,
    time::{Duration, Instant},
};
use tokio::{
    process::Child,
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
};

/// Time for a new cluster to form.
const FORMING: Duration = Duration::from_secs(30);
/// Between two looks at a cluster that forms.
const LOOK: Duration = Duration::from_millis(50);
/// Lines of a log that are shown when its node dies at the start.
const LAST_LINES: usize = 12;

/// A cluster whose processes are children of this one.
#[derive(Debug)]
pub(super) struct Started {
    pub(super) cluster: Cluster,
    /// Which node ended, and how.
    pub(super) ended: UnboundedReceiver<(String, ExitStatus)>,
}

/// What a new cluster is like.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wish {
    /// How many nodes.
    pub(super) nodes: Option<u16>,
    /// They call each other without the proxy.
    pub(super) direct: bool,
    /// Masters stay where they are.
    pub(super) keep_masters: bool,
}

/// Makes a cluster, or starts the one that was stopped in `dir`.
pub(super) async fn start(dir: Option<PathBuf>, wish: Wish) -> Result<Started, Failure> {
    if let Some(dir) = dir {
        std::fs::create_dir_all(&dir).map_err(|error| cannot_write(&dir, &error))?;
        return start_in(&std::path::absolute(&dir)?, wish).await;
    }
    let dir = cluster::make_temporary()?;
    let started = start_in(&dir, wish).await;
    if started.is_err() {
        // Nothing in it that the error does not tell.
        let _ = std::fs::remove_dir_all(&dir);
    }
    started
}

async fn start_in(dir: &Path, wish: Wish) -> Result<Started, Failure> {
    let _lock = cluster::lock(dir)?;
    let mut cluster = if Cluster::exists(dir) {
        let cluster = Cluster::load(dir)?;
        if cluster.is_running() {
            return Err(Failure::new(
                CANNOT_CREATE,
                format!(
                    "a cluster runs in {} already; `mainstay dev stop --dir {}` stops it",
                    dir.display(),
                    dir.display()
                ),
            ));
        }
        let has = cluster.nodes.len();
        if wish.nodes.is_some_and(|n| usize::from(n) != has) {
            return Err(Failure::usage(format!(
                "the cluster in {} has {has} nodes; leave --nodes out to start it again",
                dir.display()
            )));
        }
        cluster
    } else {
        make(dir, wish)?
    };
    cluster.proxy.cut.clear();
    match start_processes(&mut cluster).await {
        Ok(ended) => Ok(Started { cluster, ended }),
        Err(failure) => {
            super::play::stop(&mut cluster).await;
            Err(failure)
        }
    }
}

/// Starts proxy and daemons. If it fails, some of them may run.
async fn start_processes(
    cluster: &mut Cluster,
) -> Result<UnboundedReceiver<(String, ExitStatus)>, Failure> {
    let (told, ended) = unbounded_channel();
    if !cluster.is_direct() {
        start_proxy(cluster).await?;
    }
    for node in &mut cluster.nodes {
        let child = start_node(node)?;
        watch(&node.name, child, told.clone());
    }
    cluster.save()?;
    Ok(ended)
}

fn watch(name: &str, mut child: Child, told: UnboundedSender<(String, ExitStatus)>) {
    let name = name.to_owned();
    tokio::spawn(async move {
        if let Ok(status) = child.wait().await {
            // Nobody listens any more while the cluster is being stopped.
            let _ = told.send((name, status));
        }
    });
}

/// Writes key, configurations and `dev.json`.
fn make(dir: &Path, wish: Wish) -> Result<Cluster, Failure> {
    let count = usize::from(wish.nodes.unwrap_or(NODES));
    let pairs = if wish.direct {
        0
    } else {
        count * (count - 1) / 2
    };
    let mut addresses = ports::free(count + pairs)?;
    let mut proxied = addresses.split_off(count).into_iter();
    let mut routes = Vec::new();
    for (from, to) in pairs_of(count) {
        if let Some(listen) = proxied.next() {
            routes.push(Route {
                from,
                to,
                listen,
                target: addresses[usize::from(to) - 1],
            });
        }
    }
    let cluster = Cluster::plan(dir, &addresses, routes, wish.keep_masters);
    ClusterKey::generate()?
        .write_new(&dir.join("cluster.key"))
        .map_err(|error| Failure::new(CANNOT_CREATE, error.to_string()))?;
    for node in &cluster.nodes {
        let text = render(&draft(&cluster, node)?);
        std::fs::write(&node.config, text).map_err(|error| cannot_write(&node.config, &error))?;
    }
    cluster.save()?;
    Ok(cluster)
}

/// All pairs of nodes, the smaller number first.
pub(super) fn pairs_of(count: usize) -> Vec<(u16, u16)> {
    let count = u16::try_from(count).unwrap_or(u16::MAX);
    (1..=count)
        .flat_map(|a| (a + 1..=count).map(move |b| (a, b)))
        .collect()
}

/// A node's configuration: it believes the nodes that it calls to be where the proxy listens.
fn draft(cluster: &Cluster, this: &DevNode) -> Result<Draft, Failure> {
    let seen = |other: &DevNode| -> SocketAddr {
        let mut routes = cluster.proxy.routes.iter();
        routes
            .find(|r| r.from == this.id && r.to == other.id)
            .map_or(other.address, |r| r.listen)
    };
    let nodes = cluster
        .nodes
        .iter()
        .map(|other| {
            let name = NodeName::new(other.name.as_str());
            Ok(NodeEntry {
                id: NodeId(other.id),
                name: name.map_err(|error| Failure::usage(error.to_string()))?,
                addresses: vec![seen(other)],
                votes: 1,
                master_weight: 1,
            })
        })
        .collect::<Result<_, Failure>>()?;
    Ok(Draft {
        cluster: "dev".to_owned(),
        nodes,
        this_node: Some(this.name.clone()),
        key_file: PathBuf::from("cluster.key"),
        state_dir: PathBuf::from(&this.name),
        socket: PathBuf::from(format!("{}.sock", this.name)),
        timings: Timings::default(),
        fencing: FencePolicy::Lease,
        move_masters: !cluster.keep_masters,
    })
}

/// Starts the proxy and waits until it takes orders.
pub(super) async fn start_proxy(cluster: &mut Cluster) -> Result<(), Failure> {
    let _ = std::fs::remove_file(&cluster.proxy.control);
    let arguments = [
        "dev-proxy".as_ref(),
        "--dir".as_ref(),
        cluster.dir.as_os_str(),
    ];
    let (mut child, process) = process::spawn(&arguments, &cluster.proxy.log)?;
    cluster.proxy.process = Some(process);
    let until = Instant::now() + FORMING;
    loop {
        if super::proxy::order(&cluster.proxy.control, &cluster.proxy.cut)
            .await
            .is_ok()
        {
            break;
        }
        if child.try_wait()?.is_some() || Instant::now() > until {
            return Err(died("the proxy", &cluster.proxy.log));
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    tokio::spawn(async move { child.wait().await });
    Ok(())
}

/// Starts a node's daemon.
pub(super) fn start_node(node: &mut DevNode) -> Result<Child, Failure> {
    let arguments = [
        "node".as_ref(),
        "--config".as_ref(),
        node.config.as_os_str(),
    ];
    let (child, process) = process::spawn(&arguments, &node.log)?;
    node.process = Some(process);
    Ok(child)
}

fn died(who: &str, log: &Path) -> Failure {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let last = &lines[lines.len().saturating_sub(LAST_LINES)..];
    Failure::new(
        UNAVAILABLE,
        format!(
            "{who} did not come up; the end of {}:\n{}",
            log.display(),
            last.join("\n")
        ),
    )
}

/// What a node's daemon says of the cluster, if it answers soon.
pub(super) async fn status_of(node: &DevNode) -> Option<StatusReport> {
    let ask = async {
        let client = ClientBuilder::new(&node.socket)
            .connect_timeout(Duration::from_millis(500))
            .connect()
            .await
            .ok()?;
        client.status().await.ok()
    };
    tokio::time::timeout(Duration::from_secs(1), ask)
        .await
        .ok()
        .flatten()
}

/// Waits until a node's daemon answers.
pub(super) async fn wait_for_socket(node: &DevNode) -> Result<(), Failure> {
    let until = Instant::now() + FORMING;
    while status_of(node).await.is_none() {
        if node.process.is_none_or(|p| !p.is_alive()) || Instant::now() > until {
            return Err(died(&node.name, &node.log));
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

/// Waits until every node is an active member and sees all others as members.
pub(super) async fn wait_until_whole(cluster: &Cluster) -> Result<(), Failure> {
    let until = Instant::now() + FORMING;
    for node in &cluster.nodes {
        loop {
            if status_of(node).await.is_some_and(|s| is_whole(&s)) {
                break;
            }
            if node.process.is_none_or(|p| !p.is_alive()) {
                return Err(died(&node.name, &node.log));
            }
            if Instant::now() > until {
                return Err(died(
                    &format!("{}: no quorum within {} s;", node.name, FORMING.as_secs()),
                    &node.log,
                ));
            }
            tokio::time::sleep(LOOK).await;
        }
    }
    Ok(())
}

fn is_whole(status: &StatusReport) -> bool {
    let mut members = status.members.iter();
    status.quorate && status.active && members.all(|m| m.state == MemberState::Member)
}
