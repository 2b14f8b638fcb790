//! A development cluster in the hands of another command.

use super::{
    cluster::{self, Cluster},
    play, start,
};
use crate::{
    exit::{Failure, UNAVAILABLE},
    output,
};
use rustix::process::Signal;
use std::path::{Path, PathBuf};

/// A running cluster. One that was started for the command is stopped and removed by
/// [`Handle::finish`].
#[derive(Debug)]
pub(crate) struct Handle {
    cluster: Cluster,
    temporary: bool,
    /// Keeps the tasks that wait for the processes, and so their exit codes, from being told to
    /// nobody.
    _started: Option<start::Started>,
}

impl Handle {
    /// Starts a cluster for this command alone, its nodes connected directly, and waits until it
    /// is whole.
    pub(crate) async fn temporary(nodes: u16) -> Result<Handle, Failure> {
        let started = start::start(None, Some(nodes), true).await?;
        let mut handle = Handle {
            cluster: started.cluster.clone(),
            temporary: true,
            _started: Some(started),
        };
        match start::wait_until_whole(&handle.cluster).await {
            Ok(()) => Ok(handle),
            Err(failure) => {
                play::stop(&mut handle.cluster).await;
                output::note(format_args!(
                    "logs and state are kept in {}",
                    handle.cluster.dir.display()
                ));
                Err(failure)
            }
        }
    }

    /// The cluster that runs in `dir`.
    pub(crate) async fn running(dir: PathBuf) -> Result<Handle, Failure> {
        let cluster = Cluster::load(&cluster::find(Some(dir))?)?;
        if !cluster.is_running() {
            return Err(Failure::new(
                UNAVAILABLE,
                format!(
                    "the cluster in {} does not run; `mainstay dev --detach --dir {}` starts it",
                    cluster.dir.display(),
                    cluster.dir.display()
                ),
            ));
        }
        start::wait_until_whole(&cluster).await?;
        Ok(Handle {
            cluster,
            temporary: false,
            _started: None,
        })
    }

    /// Whether the cluster was started for this command.
    pub(crate) fn is_temporary(&self) -> bool {
        self.temporary
    }

    /// Whether the nodes are connected without the proxy.
    pub(crate) fn is_direct(&self) -> bool {
        self.cluster.is_direct()
    }

    /// How many nodes there are.
    pub(crate) fn len(&self) -> usize {
        self.cluster.nodes.len()
    }

    /// The socket of the `index`-th node's daemon.
    pub(crate) fn socket(&self, index: usize) -> &Path {
        &self.cluster.nodes[index].socket
    }

    /// The process number of a node's daemon, 0 if it was never started.
    pub(crate) fn pid(&self, index: usize) -> u32 {
        self.cluster.nodes[index].process.map_or(0, |p| p.pid)
    }

    /// Sends SIGKILL to a node's daemon; whether it was there.
    pub(crate) fn kill(&self, index: usize) -> bool {
        let process = self.cluster.nodes[index].process;
        process.is_some_and(|p| p.signal(Signal::KILL))
    }

    /// Starts a node again and waits until the cluster is whole.
    pub(crate) async fn start_again(&mut self, index: usize) -> Result<(), Failure> {
        let node = &mut self.cluster.nodes[index];
        if let Some(process) = node.process {
            process.wait(std::time::Duration::from_secs(5));
        }
        // The runtime reaps the child when it ends.
        drop(start::start_node(node)?);
        self.cluster.save()?;
        start::wait_until_whole(&self.cluster).await
    }

    /// Stops and removes a cluster that was started for this command.
    pub(crate) async fn finish(mut self) {
        if self.temporary {
            play::stop(&mut self.cluster).await;
            self.cluster.remove();
        }
    }
}
