//! Three Mainstay daemons, and clients of theirs.

use crate::workload::ClientLock;
use anyhow::{Context as _, ensure};
use mainstay_client::{
    LockMode,
    asynchronous::{Client, Lock, Lockspace},
};
use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

const LOCKSPACE: &str = "compare";

/// A running cluster; dropping it stops it.
pub(crate) struct Cluster {
    program: PathBuf,
    dir: PathBuf,
}

impl Cluster {
    /// Starts three daemons in `dir`, connected directly.
    pub(crate) fn start(program: &Path, dir: &Path) -> anyhow::Result<Cluster> {
        let cluster = Cluster {
            program: program.to_owned(),
            dir: dir.to_owned(),
        };
        cluster.command(&["dev", "--nodes", "3", "--direct", "--detach"])?;
        Ok(cluster)
    }

    fn command(&self, words: &[&str]) -> anyhow::Result<()> {
        let output = Command::new(&self.program)
            .args(words)
            .arg("--dir")
            .arg(&self.dir)
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("cannot run {}", self.program.display()))?;
        ensure!(
            output.status.success(),
            "`mainstay {}` failed: {}",
            words.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(())
    }

    async fn open(&self, node: &str) -> anyhow::Result<Lockspace> {
        let client = Client::connect(self.dir.join(format!("{node}.sock"))).await?;
        Ok(client.lockspace(LOCKSPACE).open().await?)
    }

    /// Locks in mode NL that make a node the master of what the clients will lock.
    pub(crate) async fn keep_masters(
        &self,
        remote: bool,
        clients: usize,
    ) -> anyhow::Result<Vec<Lock>> {
        let space = self.open(if remote { "n2" } else { "n1" }).await?;
        let mut keepers = Vec::new();
        for client in 0..clients {
            let request = space.lock(name(remote, client)).mode(LockMode::Nl);
            keepers.push(request.acquire().await?);
        }
        Ok(keepers)
    }

    /// Clients of the first node, each with a connection of its own.
    pub(crate) async fn clients(&self, remote: bool, clients: usize) -> anyhow::Result<Vec<Own>> {
        let mut all = Vec::new();
        for client in 0..clients {
            all.push(Own {
                space: self.open("n1").await?,
                name: name(remote, client),
            });
        }
        Ok(all)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Err(error) = self.command(&["dev", "stop"]) {
            crate::say(&format!("cannot stop mainstay: {error:#}"));
        }
    }
}

fn name(remote: bool, client: usize) -> String {
    format!("lock-{remote}-{client}")
}

/// A client and its lock.
pub(crate) struct Own {
    space: Lockspace,
    name: String,
}

impl ClientLock for Own {
    async fn cycle(&mut self) -> anyhow::Result<()> {
        let lock = self.space.lock(&self.name).acquire().await?;
        Ok(lock.unlock().await?)
    }
}
