//! Nodes for the tests, on loopback and on ports that the system chooses.
#![allow(dead_code)]

use mainstay_base::{BootId, LinkId, NodeId, NodeName};
use mainstay_transport::{
    ClusterKey, EventReceiver, PeerConfig, RefusalReason, Transport, TransportConfig,
    TransportEvent,
};
use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};
use tokio::time::timeout;

pub(crate) const L0: LinkId = LinkId(0);
pub(crate) const LOW: NodeId = NodeId(1);
pub(crate) const HIGH: NodeId = NodeId(2);

/// Where nobody listens; for nodes that are never called.
pub(crate) fn nowhere() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 9))
}

pub(crate) fn any_port() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

pub(crate) fn peer(id: NodeId, addresses: &[SocketAddr]) -> PeerConfig {
    PeerConfig {
        id,
        name: NodeName::new(format!("n{id}")).expect("valid"),
        addresses: addresses.to_vec(),
    }
}

/// A node with one address and the given peers.
pub(crate) fn config(id: NodeId, peers: Vec<PeerConfig>) -> TransportConfig {
    TransportConfig {
        cluster: "test".to_owned(),
        node: id,
        boot: BootId(u64::from(id.0) * 100),
        key: ClusterKey::from_bytes([42; 32]),
        params: b"lease=1500ms drift=10000ppm".to_vec(),
        listen: vec![any_port()],
        peers,
        version: "0.1.0".to_owned(),
        send_queue_max: 4 << 20,
    }
}

/// A started node.
pub(crate) struct Node {
    pub(crate) transport: Transport,
    pub(crate) events: EventReceiver,
}

impl Node {
    pub(crate) async fn start(config: TransportConfig) -> Node {
        let (transport, events) = Transport::start(config).await.expect("starts");
        Node { transport, events }
    }

    /// The higher of two nodes, which only listens, after a change to its configuration.
    pub(crate) async fn high(change: impl FnOnce(&mut TransportConfig)) -> Node {
        let mut config = config(HIGH, vec![peer(LOW, &[nowhere()])]);
        change(&mut config);
        Node::start(config).await
    }

    /// The lower of two nodes, which calls the other at these addresses.
    pub(crate) async fn low(
        high: &[SocketAddr],
        change: impl FnOnce(&mut TransportConfig),
    ) -> Node {
        let mut config = config(LOW, vec![peer(HIGH, high)]);
        change(&mut config);
        Node::start(config).await
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.transport.local_addresses()[0]
    }

    pub(crate) async fn event(&mut self) -> TransportEvent {
        timeout(Duration::from_secs(20), self.events.recv())
            .await
            .expect("an event within 20 s")
            .expect("the transport is running")
    }

    /// The next event, which must be that a link is up; gives the peer's boot id.
    pub(crate) async fn up(&mut self) -> BootId {
        match self.event().await {
            TransportEvent::Up { boot, .. } => boot,
            other => panic!("not up: {other:?}"),
        }
    }

    /// The next event, which must be a frame.
    pub(crate) async fn frame(&mut self) -> Vec<u8> {
        match self.event().await {
            TransportEvent::Frame { bytes, .. } => bytes,
            other => panic!("not a frame: {other:?}"),
        }
    }

    /// The next event, which must be a refusal: peer, reason, by us.
    pub(crate) async fn refused(&mut self) -> (Option<NodeId>, RefusalReason, bool) {
        match self.event().await {
            TransportEvent::Refused {
                peer,
                reason,
                by_us,
                ..
            } => (peer, reason, by_us),
            other => panic!("not refused: {other:?}"),
        }
    }

    pub(crate) fn send(&self, to: NodeId, frame: &[u8]) {
        self.transport.send(to, L0, frame).expect("takes the frame");
        self.transport.flush();
    }
}

/// Two connected nodes.
pub(crate) async fn pair() -> (Node, Node) {
    let mut high = Node::high(|_| {}).await;
    let mut low = Node::low(&[high.address()], |_| {}).await;
    assert_eq!(low.up().await, BootId(200));
    assert_eq!(high.up().await, BootId(100));
    (low, high)
}
