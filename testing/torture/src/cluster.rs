//! A cluster of daemons.

use crate::{Daemon, Namespaces, NodeFile, Proxy, free, say, secs, until};
use mainstay_base::Incarnation;
use mainstay_client::{
    ClientBuilder,
    asynchronous::{Client, Lockspace},
    report::{LockReport, MemberReport, MemberState, ResourceReport, StatusReport},
};
use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};
use tempfile::TempDir;

/// Lines of each log that are shown when a test fails.
const LAST_LINES: usize = 60;

/// What lies between the nodes.
#[derive(Debug)]
pub enum Net {
    /// Loopback.
    Plain,
    /// Loopback with a proxy in between.
    Proxied(Proxy),
    /// Namespaces.
    Namespaces(Namespaces),
}

/// A cluster to be made.
#[derive(Debug)]
#[must_use = "a cluster is made by `start` or `prepare`"]
pub struct Spec {
    nodes: u16,
    proxied: bool,
    namespaces: Option<Namespaces>,
    file_limit: Option<u32>,
    lease_ms: u64,
}

impl Spec {
    /// Whether the nodes talk through a [`Proxy`].
    pub fn proxied(mut self) -> Spec {
        self.proxied = true;
        self
    }

    /// The nodes live in namespaces.
    pub fn in_namespaces(mut self, namespaces: Namespaces) -> Spec {
        self.namespaces = Some(namespaces);
        self
    }

    /// The daemons may open so many files.
    pub fn file_limit(mut self, files: u32) -> Spec {
        self.file_limit = Some(files);
        self
    }

    /// Makes the cluster, starts every node, and waits until all are members.
    pub async fn start(self) -> Cluster {
        let mut cluster = self.prepare().await;
        for id in cluster.ids() {
            cluster.start(id);
        }
        cluster.whole().await;
        cluster
    }

    /// Makes keys and configurations, and starts nothing.
    pub async fn prepare(self) -> Cluster {
        // Short: socket paths have to fit in 107 bytes.
        let dir = tempfile::Builder::new()
            .prefix("mt-")
            .tempdir()
            .expect("a temporary directory");
        let ids = || 1..=self.nodes;
        let addresses: Vec<Vec<SocketAddr>> = match &self.namespaces {
            Some(namespaces) => ids().map(|id| namespaces.addresses(id)).collect(),
            None => ids().map(|_| free(1)).collect(),
        };
        let net = match self.namespaces {
            Some(namespaces) => Net::Namespaces(namespaces),
            None if self.proxied => Net::Proxied(Proxy::start(&addresses).await),
            None => Net::Plain,
        };
        let key = dir.path().join("cluster.key");
        write_key(&key, 0x5a, 0o600);
        let seen = |from: u16, to: u16| match &net {
            Net::Proxied(proxy) => proxy.door(from, to).map(<[SocketAddr]>::to_vec),
            _ => None,
        };
        let files = ids()
            .map(|this| {
                let nodes = (1_u16..).zip(&addresses).map(|(id, own)| {
                    let addresses = seen(this, id).unwrap_or_else(|| own.clone());
                    (id, format!("n{id}"), addresses)
                });
                let file = NodeFile {
                    cluster: "torture".to_owned(),
                    this: format!("n{this}"),
                    key: key.clone(),
                    state: dir.path().join(format!("n{this}")),
                    socket: dir.path().join(format!("n{this}.sock")),
                    more: String::new(),
                    lease_ms: self.lease_ms,
                    nodes: nodes.collect(),
                };
                (this, file)
            })
            .collect();
        Cluster {
            dir,
            net,
            files,
            file_limit: self.file_limit,
            daemons: BTreeMap::new(),
        }
    }
}

/// Writes a key file all of whose bytes are `byte`.
fn write_key(path: &Path, byte: u8, mode: u32) {
    use std::io::Write as _;
    let mut file = fs::File::options()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .expect("a key file can be made");
    let key = format!("{byte:02x}").repeat(32);
    writeln!(file, "mainstay-key-v1 {key}").expect("a key file can be written");
}

/// A running cluster. Dropping it kills every daemon; while a test fails, it shows their logs.
#[derive(Debug)]
pub struct Cluster {
    dir: TempDir,
    net: Net,
    /// What the nodes' configurations say; written when a node is started.
    pub files: BTreeMap<u16, NodeFile>,
    file_limit: Option<u32>,
    daemons: BTreeMap<u16, Daemon>,
}

impl Cluster {
    /// A cluster of nodes `n1`, `n2`, ….
    pub fn of(nodes: u16) -> Spec {
        Spec {
            nodes,
            proxied: false,
            namespaces: None,
            file_limit: None,
            lease_ms: 1500,
        }
    }

    /// All nodes.
    #[must_use]
    pub fn ids(&self) -> Vec<u16> {
        self.files.keys().copied().collect()
    }

    /// The cluster's directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The proxy between the nodes.
    ///
    /// # Panics
    /// If there is none.
    #[must_use]
    pub fn proxy(&self) -> &Proxy {
        match &self.net {
            Net::Proxied(proxy) => proxy,
            _ => panic!("this cluster has no proxy"),
        }
    }

    /// The namespaces of the nodes.
    ///
    /// # Panics
    /// If there are none.
    #[must_use]
    pub fn namespaces(&self) -> &Namespaces {
        match &self.net {
            Net::Namespaces(namespaces) => namespaces,
            _ => panic!("this cluster has no namespaces"),
        }
    }

    /// Makes another key file in the cluster's directory, and returns its path.
    #[must_use]
    pub fn other_key(&self, name: &str, byte: u8, mode: u32) -> PathBuf {
        let path = self.dir().join(name);
        write_key(&path, byte, mode);
        path
    }

    /// The file with a node's log.
    #[must_use]
    pub fn log_path(&self, id: u16) -> PathBuf {
        self.dir().join(format!("n{id}.log"))
    }

    /// What a node's daemons have logged.
    #[must_use]
    pub fn log(&self, id: u16) -> String {
        fs::read_to_string(self.log_path(id)).unwrap_or_default()
    }

    /// A node's client socket.
    #[must_use]
    pub fn socket(&self, id: u16) -> &Path {
        &self.files[&id].socket
    }

    /// Starts a node's daemon, with its configuration as it now is.
    pub fn start(&mut self, id: u16) {
        let daemon = self.launch(&self.files[&id], id);
        self.daemons.insert(id, daemon);
    }

    /// Starts a daemon with any configuration, in the network and with the log of node `id`.
    ///
    /// # Panics
    /// If the system refuses.
    #[must_use]
    pub fn launch(&self, file: &NodeFile, id: u16) -> Daemon {
        let config = self.dir().join(format!("{}.toml", file.this));
        fs::write(&config, file.text()).expect("a configuration can be written");
        let mut wrapper = match &self.net {
            Net::Namespaces(namespaces) => namespaces.wrapper(id),
            _ => Vec::new(),
        };
        if let Some(files) = self.file_limit {
            let script = format!("ulimit -n {files} && exec \"$@\"");
            wrapper.extend(["sh".to_owned(), "-c".to_owned(), script, "sh".to_owned()]);
        }
        Daemon::start(&wrapper, &config, &self.log_path(id))
    }

    /// A node's daemon.
    ///
    /// # Panics
    /// If it was never started.
    pub fn daemon(&mut self, id: u16) -> &mut Daemon {
        self.daemons.get_mut(&id).expect("the node was started")
    }

    /// `kill -9`.
    pub fn kill(&mut self, id: u16) {
        self.daemon(id).kill();
    }

    /// What a node says, if it says it soon.
    pub async fn status(&self, id: u16) -> Option<StatusReport> {
        let ask = async {
            let client = ClientBuilder::new(self.socket(id))
                .connect_timeout(Duration::from_millis(500))
                .connect()
                .await
                .ok()?;
            client.status().await.ok()
        };
        tokio::time::timeout(secs(1), ask).await.ok().flatten()
    }

    /// Waits until a node's status is as it has to be.
    ///
    /// # Panics
    /// If it is not within `limit`.
    pub async fn status_when(
        &self,
        id: u16,
        what: &str,
        limit: Duration,
        right: impl Fn(&StatusReport) -> bool,
    ) -> StatusReport {
        until(&format!("n{id}: {what}"), limit, async || {
            self.status(id).await.filter(&right)
        })
        .await
    }

    /// Waits until all nodes are members and each of them knows.
    pub async fn whole(&self) {
        let all = self.ids();
        self.whole_of(&all).await;
    }

    /// Waits until exactly these nodes are members and each of them knows.
    pub async fn whole_of(&self, ids: &[u16]) {
        for &id in ids {
            let whole = |s: &StatusReport| {
                let member = |m: &&MemberReport| m.state == MemberState::Member;
                let members: Vec<u16> = s.members.iter().filter(member).map(|m| m.id.0).collect();
                s.quorate && s.active && members == ids
            };
            let what = format!("active, with the members {ids:?}");
            self.status_when(id, &what, secs(30), whole).await;
        }
    }

    /// The node that leads the replicated log.
    pub async fn leader(&self, ask: u16) -> u16 {
        until("there is a leader", secs(10), async || {
            let name = self.status(ask).await?.leader?;
            self.id_of(name.as_str())
        })
        .await
    }

    fn id_of(&self, name: &str) -> Option<u16> {
        name.strip_prefix('n')?.parse().ok()
    }

    /// The incarnation of a node, as another sees it.
    ///
    /// # Panics
    /// If the asked node does not answer.
    pub async fn incarnation(&self, ask: u16, of: u16) -> Incarnation {
        let status = self.status(ask).await.expect("the node answers");
        let member = status.members.iter().find(|m| m.id.0 == of);
        member.expect("the node is known").incarnation
    }

    /// A new session with a node.
    ///
    /// # Panics
    /// If the node does not want one.
    pub async fn client(&self, id: u16) -> Client {
        Client::connect(self.socket(id))
            .await
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// A new session with a node, and the lockspace `default`.
    ///
    /// # Panics
    /// If the node does not want one.
    pub async fn space(&self, id: u16) -> (Client, Lockspace) {
        let client = self.client(id).await;
        let space = client.lockspace("default").open().await;
        (client, space.unwrap_or_else(|error| panic!("{error}")))
    }

    /// A resource as its master reports it through a node.
    pub async fn resource(&self, ask: u16, name: &str) -> Option<ResourceReport> {
        let client = self.client(ask).await;
        let report = client.locks(None, Some(name.to_owned()), 10).await.ok()?;
        report.resources.into_iter().next()
    }

    /// Waits until so many requests wait on a resource, and returns them in their order.
    pub async fn waiters(&self, ask: u16, name: &str, count: usize) -> Vec<LockReport> {
        let what = format!("{count} wait for {name}");
        until(&what, secs(10), async || {
            let waiters = self.resource(ask, name).await?.waiters;
            (waiters.len() == count).then_some(waiters)
        })
        .await
    }

    /// Makes a node the master of a resource that nobody used before.
    ///
    /// # Panics
    /// If another became it.
    pub async fn master_at(&self, id: u16, name: &str) {
        let (_client, space) = self.space(id).await;
        let lock = space.lock(name).acquire().await.expect("granted");
        let report = self
            .resource(id, name)
            .await
            .expect("the resource is known");
        assert_eq!(report.master.as_str(), format!("n{id}"), "its first user");
        lock.unlock().await.expect("released");
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.daemons.clear();
        if !std::thread::panicking() {
            return;
        }
        for id in self.ids() {
            let log = self.log(id);
            let lines: Vec<&str> = log.lines().collect();
            say!("--- the end of the log of n{id} ---");
            for line in &lines[lines.len().saturating_sub(LAST_LINES)..] {
                say!("{line}");
            }
        }
    }
}
