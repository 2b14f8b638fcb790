//! What a transport is started with.

use crate::{
    key::ClusterKey,
    wire::{CLUSTER_NAME_MAX, Hello, PARAMS_LEN_MAX, Preamble, SOFTWARE_LEN_MAX},
};
use mainstay_base::{BootId, LINKS_MAX, LinkId, NODES_MAX, NodeId, NodeName};
use std::{io, net::SocketAddr};

/// What a transport is started with.
#[derive(Clone, Debug)]
pub struct TransportConfig {
    /// The cluster's name, 1 to 64 bytes. Peers of another name are refused.
    pub cluster: String,
    /// This node.
    pub node: NodeId,
    /// This node's boot id, not zero.
    pub boot: BootId,
    /// The cluster key.
    pub key: ClusterKey,
    /// The cluster parameters as text, at most 1024 bytes. Peers with other bytes are refused.
    pub params: Vec<u8>,
    /// This node's own addresses, 1 to 4; the index is the link number. Port 0 takes a free port.
    pub listen: Vec<SocketAddr>,
    /// All other nodes of the cluster, at most 63.
    pub peers: Vec<PeerConfig>,
    /// The software's version for peers' logs, at most 64 bytes.
    pub version: String,
    /// Bytes that may wait for one connection's socket before sending fails with a backlog.
    pub send_queue_max: usize,
}

/// One of the other nodes.
#[derive(Clone, Debug)]
pub struct PeerConfig {
    /// Its id.
    pub id: NodeId,
    /// Its name, for logs.
    pub name: NodeName,
    /// Its addresses, 1 to 4; the index is the link number. A link exists if both nodes have it.
    pub addresses: Vec<SocketAddr>,
}

/// Why a transport could not start.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// An own address could not be listened on.
    #[error("cannot listen on {address} (number {} in this node's `addresses`): {error}; {}", .index + 1, listen_mend(.address, .error))]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Its index in `listen`.
        index: usize,
        /// The system's error.
        error: io::Error,
    },
    /// A value that no cluster can work with.
    #[error("{what} is {found}; {right}")]
    Config {
        /// Which value.
        what: String,
        /// What it is.
        found: String,
        /// What would be right.
        right: &'static str,
    },
}

fn listen_mend(address: &SocketAddr, error: &io::Error) -> String {
    let port = address.port();
    match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "another process has the port, `ss -ltnp 'sport = :{port}'` shows which; stop it or \
             choose another port in all nodes' configurations"
        ),
        io::ErrorKind::AddrNotAvailable => {
            "this host has no such address now; `ip address` lists those it has".to_owned()
        }
        io::ErrorKind::PermissionDenied => format!(
            "port {port} is for privileged users; choose a port above 1023 or grant \
             CAP_NET_BIND_SERVICE"
        ),
        _ => "correct the address or the host's network settings".to_owned(),
    }
}

impl TransportConfig {
    /// Checks what does not need the system.
    pub(crate) fn check(&self) -> Result<(), TransportError> {
        let refuse = |what: &str, found: String, right| {
            Err(TransportError::Config {
                what: what.to_owned(),
                found,
                right,
            })
        };
        let len = self.cluster.len();
        if len == 0 || len > CLUSTER_NAME_MAX {
            return refuse(
                "the length of the cluster name",
                format!("{len} bytes"),
                "it must be 1 to 64",
            );
        }
        if self.params.len() > PARAMS_LEN_MAX {
            let found = format!("{} bytes", self.params.len());
            return refuse(
                "the length of the cluster parameters",
                found,
                "it must be at most 1024",
            );
        }
        if self.version.len() > SOFTWARE_LEN_MAX {
            let found = format!("{} bytes", self.version.len());
            return refuse(
                "the length of the version text",
                found,
                "it must be at most 64",
            );
        }
        if self.boot == BootId(0) {
            return refuse(
                "the boot id",
                "0".to_owned(),
                "it must be drawn at random and not be zero",
            );
        }
        if self.peers.len() >= NODES_MAX {
            let found = self.peers.len().to_string();
            return refuse("the number of peers", found, "it must be at most 63");
        }
        let count = self.listen.len();
        if count == 0 || count > LINKS_MAX {
            return refuse(
                "the number of this node's `addresses`",
                count.to_string(),
                "it must be 1 to 4",
            );
        }
        for (i, peer) in self.peers.iter().enumerate() {
            let count = peer.addresses.len();
            if count == 0 || count > LINKS_MAX {
                let what = format!("the number of `addresses` of node {}", peer.name);
                return refuse(&what, count.to_string(), "it must be 1 to 4");
            }
            let taken = peer.id == self.node || self.peers[..i].iter().any(|p| p.id == peer.id);
            if taken {
                let what = format!("the id of node {}", peer.name);
                let found = format!("{}, which another node has too", peer.id);
                return refuse(&what, found, "each node must have its own id");
            }
        }
        Ok(())
    }
}

/// A peer, with what follows from this node's own configuration.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) id: NodeId,
    pub(crate) name: NodeName,
    /// Its addresses on the links that both nodes have.
    pub(crate) addresses: Vec<SocketAddr>,
}

/// Who this node is, for handshakes.
#[derive(Debug)]
pub(crate) struct Identity {
    pub(crate) cluster: String,
    pub(crate) node: NodeId,
    pub(crate) key: ClusterKey,
    pub(crate) params: Vec<u8>,
    pub(crate) software: String,
    /// In the order of their ids.
    pub(crate) peers: Vec<Peer>,
}

impl Identity {
    pub(crate) fn new(config: TransportConfig) -> Identity {
        let links = config.listen.len();
        let mut peers: Vec<Peer> = config
            .peers
            .into_iter()
            .map(|p| Peer {
                id: p.id,
                name: p.name,
                addresses: p.addresses.into_iter().take(links).collect(),
            })
            .collect();
        peers.sort_by_key(|p| p.id);
        Identity {
            cluster: config.cluster,
            node: config.node,
            key: config.key,
            params: config.params,
            software: config.version,
            peers,
        }
    }

    /// The peer's index in `peers`.
    pub(crate) fn index_of(&self, id: NodeId) -> Option<usize> {
        self.peers.binary_search_by_key(&id, |p| p.id).ok()
    }

    /// The hello to a peer.
    pub(crate) fn hello(&self, to: NodeId, boot: BootId, link: LinkId) -> Hello {
        Hello {
            version_min: Preamble::OURS.version_min,
            version_max: Preamble::OURS.version_max,
            cluster: self.cluster.clone(),
            from: self.node,
            to,
            boot,
            link,
            params: self.params.clone(),
            software: self.software.clone(),
        }
    }
}
