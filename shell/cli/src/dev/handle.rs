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

/// A running cluster. Whoever has one calls [`Handle::finish`] in the end, whatever came of it.
#[derive(Debug)]
pub(crate) struct Handle {
    cluster: Cluster,
    temporary: bool,
    /// The node that this command killed and has not started again.
    killed: Option<usize>,
    /// Keeps the tasks that wait for the processes, and so their exit codes, from being told to
    /// nobody.
    _started: Option<start::Started>,
}

impl Handle {
    /// Starts a cluster for this command alone, its nodes connected directly.
    pub(crate) async fn temporary(nodes: u16, keep_masters: bool) -> Result<Handle, Failure> {
        let wish = start::Wish {
            nodes: Some(nodes),
            direct: true,
            keep_masters,
        };
        let started = start::start(None, wish).await?;
        Ok(Handle {
            cluster: started.cluster.clone(),
            temporary: true,
            killed: None,
            _started: Some(started),
        })
    }

    /// The cluster that runs in `dir`.
    pub(crate) fn running(dir: PathBuf) -> Result<Handle, Failure> {
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
        Ok(Handle {
            cluster,
            temporary: false,
            killed: None,
            _started: None,
        })
    }

    /// Waits until every node is an active member.
    pub(crate) async fn ready(&self) -> Result<(), Failure> {
        start::wait_until_whole(&self.cluster).await
    }

    /// Whether the cluster was started for this command.
    pub(crate) fn is_temporary(&self) -> bool {
        self.temporary
    }

    /// Whether the nodes are connected without the proxy.
    pub(crate) fn is_direct(&self) -> bool {
        self.cluster.is_direct()
    }

    /// Whether masters stay where they are.
    pub(crate) fn keeps_masters(&self) -> bool {
        self.cluster.keep_masters
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
    pub(crate) fn kill(&mut self, index: usize) -> bool {
        let process = self.cluster.nodes[index].process;
        let killed = process.is_some_and(|p| p.signal(Signal::KILL));
        if killed {
            self.killed = Some(index);
        }
        killed
    }

    /// Starts the node again that was killed, and waits until the cluster is whole.
    pub(crate) async fn start_again(&mut self) -> Result<(), Failure> {
        self.revive()?;
        self.ready().await
    }

    fn revive(&mut self) -> Result<(), Failure> {
        let Some(index) = self.killed.take() else {
            return Ok(());
        };
        let node = &mut self.cluster.nodes[index];
        if let Some(process) = node.process {
            process.wait(std::time::Duration::from_secs(5));
        }
        // The runtime reaps the child when it ends.
        drop(start::start_node(node)?);
        self.cluster.save()
    }

    /// Stops a cluster that was started for this command, and removes it if all went well; leaves
    /// another as it was found.
    pub(crate) async fn finish(mut self, well: bool) -> Result<(), Failure> {
        if !self.temporary {
            return self.revive();
        }
        play::stop(&mut self.cluster).await;
        if well {
            self.cluster.remove();
        } else {
            output::note(format_args!(
                "logs and state are kept in {}",
                self.cluster.dir.display()
            ));
        }
        Ok(())
    }
}
