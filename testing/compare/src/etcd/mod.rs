//! Three etcd servers, and clients of theirs.

mod api;
mod call;

use crate::workload::ClientLock;
use anyhow::{Context as _, bail};
use api::{
    Compare, DeleteRangeRequest, DeleteRangeResponse, LeaseGrantRequest, LeaseGrantResponse,
    LockRequest, LockResponse, PutRequest, RequestOp, TxnRequest, TxnResponse, UnlockRequest,
    UnlockResponse,
};
use call::Caller;
use std::{
    fs::File,
    net::TcpListener,
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

const SERVERS: usize = 3;
/// Time for the servers to form a cluster.
const FORMING: Duration = Duration::from_secs(30);
/// Seconds that a client's lease lasts: longer than any case, so that no renewal is measured.
const LEASE: i64 = 3600;

/// Running servers; dropping them ends them.
pub(crate) struct Cluster {
    children: Vec<Child>,
    clients: Vec<String>,
}

impl Cluster {
    /// Starts three servers with default settings and data in `dir`, and waits until they serve.
    pub(crate) async fn start(program: &Path, dir: &Path) -> anyhow::Result<Cluster> {
        let ports = free_ports(2 * SERVERS)?;
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        let (client_ports, peer_ports) = ports.split_at(SERVERS);
        let members: Vec<String> = (1..)
            .zip(peer_ports)
            .map(|(n, &port)| format!("e{n}={}", url(port)))
            .collect();
        let mut cluster = Cluster {
            children: Vec::new(),
            clients: client_ports.iter().map(|&port| url(port)).collect(),
        };
        for (index, (client, &peer)) in cluster.clients.iter().zip(peer_ports).enumerate() {
            let name = format!("e{}", index + 1);
            let log = File::create(dir.join(format!("{name}.log")))?;
            let child = Command::new(program)
                .args(["--name", &name, "--initial-cluster-state", "new"])
                .args(["--listen-client-urls", client])
                .args(["--advertise-client-urls", client])
                .args(["--listen-peer-urls", &url(peer)])
                .args(["--initial-advertise-peer-urls", &url(peer)])
                .args(["--initial-cluster", &members.join(",")])
                .arg("--data-dir")
                .arg(dir.join(&name))
                .stdin(Stdio::null())
                .stdout(log.try_clone()?)
                .stderr(log)
                .spawn()
                .with_context(|| format!("cannot start {}", program.display()))?;
            cluster.children.push(child);
        }
        let until = Instant::now() + FORMING;
        // A lease is granted once there is a leader.
        while let Err(error) = cluster.caller(0).await {
            if Instant::now() > until {
                bail!(
                    "etcd did not serve within {} s: {error:#}",
                    FORMING.as_secs()
                );
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(cluster)
    }

    /// A connection of its own to the server whose turn it is, and a lease.
    async fn caller(&self, client: usize) -> anyhow::Result<(Caller, i64)> {
        let caller = Caller::connect(&self.clients[client % self.clients.len()]).await?;
        let request = LeaseGrantRequest { ttl: LEASE, id: 0 };
        let granted: LeaseGrantResponse = caller
            .call("/etcdserverpb.Lease/LeaseGrant", request)
            .await?;
        Ok((caller, granted.id))
    }

    /// Clients of etcd's lock service, spread over the servers.
    pub(crate) async fn service_locks(&self, clients: usize) -> anyhow::Result<Vec<ServiceLock>> {
        let mut locks = Vec::new();
        for client in 0..clients {
            let (caller, lease) = self.caller(client).await?;
            let name = format!("service-{client}").into_bytes();
            locks.push(ServiceLock {
                caller,
                lease,
                name,
            });
        }
        Ok(locks)
    }

    /// Clients whose lock is a key that they create in a transaction, spread over the servers.
    pub(crate) async fn transaction_locks(
        &self,
        clients: usize,
    ) -> anyhow::Result<Vec<TransactionLock>> {
        let mut locks = Vec::new();
        for client in 0..clients {
            let (caller, lease) = self.caller(client).await?;
            let key = format!("transaction-{client}").into_bytes();
            locks.push(TransactionLock { caller, lease, key });
        }
        Ok(locks)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for child in &mut self.children {
            // Fails only if it has ended already.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Ports that were free a moment ago.
fn free_ports(count: usize) -> anyhow::Result<Vec<u16>> {
    // All at once, so that none is given twice.
    let listeners: Vec<TcpListener> = (0..count)
        .map(|_| TcpListener::bind("127.0.0.1:0"))
        .collect::<Result<_, _>>()?;
    let ports = listeners.iter().map(|l| Ok(l.local_addr()?.port()));
    ports.collect()
}

/// A lock of etcd's lock service.
pub(crate) struct ServiceLock {
    caller: Caller,
    lease: i64,
    name: Vec<u8>,
}

impl ClientLock for ServiceLock {
    async fn cycle(&mut self) -> anyhow::Result<()> {
        let request = LockRequest {
            name: self.name.clone(),
            lease: self.lease,
        };
        let locked: LockResponse = self.caller.call("/v3lockpb.Lock/Lock", request).await?;
        let request = UnlockRequest { key: locked.key };
        let _: UnlockResponse = self.caller.call("/v3lockpb.Lock/Unlock", request).await?;
        Ok(())
    }
}

/// A key that exists while the lock is held.
pub(crate) struct TransactionLock {
    caller: Caller,
    lease: i64,
    key: Vec<u8>,
}

impl ClientLock for TransactionLock {
    async fn cycle(&mut self) -> anyhow::Result<()> {
        let request = TxnRequest {
            compare: vec![Compare::never_created(self.key.clone())],
            success: vec![RequestOp::put(PutRequest {
                key: self.key.clone(),
                value: Vec::new(),
                lease: self.lease,
            })],
            failure: Vec::new(),
        };
        let created: TxnResponse = self.caller.call("/etcdserverpb.KV/Txn", request).await?;
        if !created.succeeded {
            bail!("a key that only this client uses was there already");
        }
        let request = DeleteRangeRequest {
            key: self.key.clone(),
        };
        let deleted: DeleteRangeResponse = self
            .caller
            .call("/etcdserverpb.KV/DeleteRange", request)
            .await?;
        if deleted.deleted != 1 {
            bail!("a key that this client had created was gone");
        }
        Ok(())
    }
}
