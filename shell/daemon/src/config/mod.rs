//! The daemon's configuration file.
//!
//! TOML, read in one pass that gathers every problem it finds, each with file, line, column and
//! field, rather than stopping at the first. [`render`] writes a file that this module reads back.

mod fields;
mod problem;
mod read;
mod render;
mod socket;
#[cfg(test)]
mod tests;

pub use problem::{ConfigError, Problem};
pub use render::{Draft, render};
pub use socket::SocketAccess;

use mainstay_base::{
    DeadlockConfig, FencePolicy, MastersConfig, NodeId, NodeName, NodeSpec, Timings, UserLimits,
};
use mainstay_node::NodeConfig;
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

/// Where the system's daemon listens for clients unless told otherwise.
pub const DEFAULT_SOCKET: &str = "/run/mainstay/mainstay.sock";
/// The system's configuration file.
pub const DEFAULT_CONFIG: &str = "/etc/mainstay/mainstay.toml";
/// Where the system's daemon keeps its state unless told otherwise.
pub const DEFAULT_STATE_DIR: &str = "/var/lib/mainstay";
/// The port that `init` proposes for traffic between nodes.
pub const DEFAULT_PORT: u16 = 7464;

/// A configuration without a known problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The file it was read from.
    pub file: PathBuf,
    /// The cluster's name.
    pub cluster: String,
    /// All nodes, by number.
    pub nodes: Vec<NodeEntry>,
    /// Which of `nodes` this daemon is.
    pub me: usize,
    /// The cluster key.
    pub key_file: PathBuf,
    /// The journal's directory.
    pub state_dir: PathBuf,
    /// The clients' socket.
    pub socket: PathBuf,
    /// Who may connect there.
    pub socket_access: SocketAccess,
    /// Periods of the protocol.
    pub timings: Timings,
    /// By what proof a vanished node counts as harmless.
    pub fencing: FencePolicy,
    /// The search for deadlocks.
    pub deadlock: DeadlockConfig,
    /// Who masters resources, and when they move.
    pub masters: MastersConfig,
    /// What users may have at most on this node.
    pub limits: UserLimits,
    /// The flight recorder.
    pub recorder: RecorderConfig,
    /// How long this node keeps orphans before it purges them; without a limit if absent.
    pub orphan_expiry: Option<Duration>,
    /// The longest time for which clients can have their sessions kept while they have no connection.
    pub max_grace: Duration,
    /// The longest time for which they can be kept while the daemon is started anew.
    pub max_rest: Duration,
    /// What to log and how.
    pub log: LogConfig,
}

/// `[recorder]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecorderConfig {
    /// Memory of the flight recorder, in bytes; 0 switches it off.
    pub bytes: usize,
    /// How many dumps stay in the state directory, at least 1.
    pub keep: usize,
}

impl Default for RecorderConfig {
    fn default() -> RecorderConfig {
        RecorderConfig {
            bytes: 16 << 20,
            keep: 8,
        }
    }
}

/// One `[[node]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeEntry {
    /// Its number, 1 to 65535.
    pub id: NodeId,
    /// Its name.
    pub name: NodeName,
    /// Its addresses for traffic between nodes, 1 to 4; the `i`-th is its end of link `i`.
    pub addresses: Vec<SocketAddr>,
    /// Its votes, 1 to 8.
    pub votes: u32,
    /// How much its work counts where masters are chosen, 0 to 10.
    pub master_weight: u8,
}

/// `[log]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogConfig {
    /// A filter as `tracing` understands it: a level, or levels by module.
    pub level: String,
    /// How lines look.
    pub format: LogFormat,
}

impl Default for LogConfig {
    fn default() -> LogConfig {
        LogConfig {
            level: "info".to_owned(),
            format: LogFormat::Text,
        }
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object per line.
    Json,
}

/// How a daemon learns which of the configured nodes it is.
#[derive(Clone, Debug, Default)]
pub struct Identity {
    /// Named on the command line; goes before the file's `node`.
    pub node_name: Option<String>,
    /// The host's name, used if neither the command line nor the file names a node.
    pub hostname: String,
}

impl Identity {
    /// The given name, if any, and this host's name.
    #[must_use]
    pub fn of_host(node_name: Option<String>) -> Identity {
        let uname = rustix::system::uname();
        Identity {
            node_name,
            hostname: uname.nodename().to_string_lossy().into_owned(),
        }
    }
}

impl Config {
    /// Reads and checks a file.
    ///
    /// # Errors
    /// If the file cannot be read, or with every problem found in it.
    pub fn load(file: &Path, identity: &Identity) -> Result<Config, ConfigError> {
        let text = std::fs::read_to_string(file).map_err(|why| ConfigError::Unreadable {
            file: file.to_owned(),
            missing: why.kind() == std::io::ErrorKind::NotFound,
            why: why.to_string(),
        })?;
        Config::parse(file, &text, identity)
    }

    /// Checks the text of a file; relative paths in it count from the file's directory.
    ///
    /// # Errors
    /// With every problem found.
    pub fn parse(file: &Path, text: &str, identity: &Identity) -> Result<Config, ConfigError> {
        read::read(file, text, identity)
    }

    /// This daemon's node.
    #[must_use]
    pub fn this_node(&self) -> &NodeEntry {
        &self.nodes[self.me]
    }

    /// The part that the core needs.
    #[must_use]
    pub fn node_config(&self) -> NodeConfig {
        NodeConfig {
            cluster: self.cluster.clone(),
            me: self.this_node().id,
            nodes: self
                .nodes
                .iter()
                .map(|n| NodeSpec {
                    id: n.id,
                    name: n.name.clone(),
                    votes: n.votes,
                    links: u8::try_from(n.addresses.len()).unwrap_or(u8::MAX),
                })
                .collect(),
            timings: self.timings,
            fencing: self.fencing,
            deadlock: self.deadlock,
            masters: self.masters.clone(),
            orphan_expiry: self.orphan_expiry,
            max_grace: self.max_grace,
            max_rest: self.max_rest,
            slice: mainstay_node::SLICE,
            window: mainstay_node::WINDOW,
        }
    }

    /// One line that says what the file describes.
    #[must_use]
    pub fn summary(&self) -> String {
        let votes: u32 = self.nodes.iter().map(|n| n.votes).sum();
        let links = self.this_node().addresses.len();
        format!(
            "cluster `{}`: {} node{}, {votes} vote{}, {links} link{} per pair; this is node {} (`{}`)",
            self.cluster,
            self.nodes.len(),
            plural(self.nodes.len()),
            plural(votes as usize),
            plural(links),
            self.this_node().id,
            self.this_node().name,
        )
    }
}

fn plural(n: usize) -> &'static str {
    if n == 1 { "" } else { "s" }
}
