//! A node's configuration file, as a test wants it.

use std::{fmt::Write as _, net::SocketAddr, path::PathBuf};

/// What a configuration file says.
#[derive(Clone, Debug)]
pub struct NodeFile {
    /// The cluster's name.
    pub cluster: String,
    /// Name of this node.
    pub this: String,
    /// The cluster key.
    pub key: PathBuf,
    /// The journal's directory.
    pub state: PathBuf,
    /// The clients' socket.
    pub socket: PathBuf,
    /// What else stands at the top of the file.
    pub more: String,
    /// Length of a lease, in milliseconds.
    pub lease_ms: u64,
    /// All nodes, as this one believes them to be: number, name, addresses.
    pub nodes: Vec<(u16, String, Vec<SocketAddr>)>,
}

impl NodeFile {
    /// The file's text.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = write!(
            out,
            "this-node = {:?}\nkey-file = {:?}\nstate-dir = {:?}\nsocket = {:?}\n\n\
             {}\n[cluster]\nname = {:?}\n\n[timings]\nlease-ms = {}\n",
            self.this, self.key, self.state, self.socket, self.more, self.cluster, self.lease_ms
        );
        for (id, name, addresses) in &self.nodes {
            let list: Vec<String> = addresses.iter().map(|a| format!("\"{a}\"")).collect();
            let _ = write!(
                out,
                "\n[[node]]\nid = {id}\nname = {name:?}\naddresses = [{}]\n",
                list.join(", ")
            );
        }
        out
    }
}
