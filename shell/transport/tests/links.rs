//! Links between nodes that mean well.

mod common;

use common::{HIGH, L0, LOW, Node, any_port, config, nowhere, pair, peer};
use mainstay_base::{BootId, FRAME_LEN_MAX, LinkId, NodeId};
use mainstay_transport::{
    DownReason, EVENT_QUEUE_MAX, SendError, Transport, TransportError, TransportEvent,
};
use std::time::Duration;
use tokio::time::timeout;

/// Protects order and content: ten thousand small frames both ways at once, then the largest ones.
#[tokio::test]
async fn frames_arrive_whole_and_in_order() {
    let (mut low, mut high) = pair().await;
    for i in 0..10_000u32 {
        low.transport
            .send(HIGH, L0, &i.to_le_bytes())
            .expect("takes it");
        high.transport
            .send(LOW, L0, &(i * 3).to_le_bytes())
            .expect("takes it");
    }
    low.transport.flush();
    high.transport.flush();
    for i in 0..10_000u32 {
        assert_eq!(high.frame().await, i.to_le_bytes());
        assert_eq!(low.frame().await, (i * 3).to_le_bytes());
    }
    let large: Vec<u8> = (0..FRAME_LEN_MAX).map(|i| (i % 253) as u8).collect();
    for _ in 0..3 {
        low.send(HIGH, &large);
        high.send(LOW, &large);
    }
    low.send(HIGH, b"");
    for _ in 0..3 {
        assert!(high.frame().await == large);
        assert!(low.frame().await == large);
    }
    assert_eq!(high.frame().await, b"");
    assert_eq!(
        low.transport.send(HIGH, L0, &vec![0; FRAME_LEN_MAX + 1]),
        Err(SendError::TooLong(FRAME_LEN_MAX + 1))
    );
    assert_eq!(
        low.transport.send(HIGH, LinkId(1), b""),
        Err(SendError::NotConnected)
    );
    assert_eq!(
        low.transport.send(NodeId(9), L0, b""),
        Err(SendError::NotConnected)
    );
}

/// Protects redundancy: each pair of addresses is a link of its own, and frames say which they took.
#[tokio::test]
async fn each_address_is_a_link() {
    let mut high = Node::high(|c| {
        c.listen = vec![any_port(); 3];
        c.peers = vec![peer(LOW, &[nowhere(); 3])];
    })
    .await;
    let addresses = high.transport.local_addresses().to_vec();
    let low = Node::low(&addresses, |c| c.listen = vec![any_port(); 2]).await;
    // The lower node has two addresses, so there are two links, whatever the other has.
    for _ in 0..2 {
        high.up().await;
    }
    for link in [LinkId(1), LinkId(0)] {
        // A link may be up at the other end first.
        while low.transport.send(HIGH, link, &[link.0]).is_err() {
            tokio::task::yield_now().await;
        }
        low.transport.flush();
        let expected = TransportEvent::Frame {
            peer: LOW,
            link,
            bytes: vec![link.0],
        };
        assert_eq!(high.event().await, expected);
    }
    let status = low.transport.links();
    assert_eq!(status.len(), 2);
    assert!(
        status
            .iter()
            .all(|s| s.up.is_some_and(|(b, _)| b == BootId(200)))
    );
}

/// Protects a restarted peer, whose old connection may look alive for long: the newer one wins.
#[tokio::test]
async fn a_restarted_peer_replaces_its_old_connection() {
    let (mut low, mut high) = pair().await;
    let mut reborn = Node::low(&[high.address()], |c| c.boot = BootId(101)).await;
    let down = TransportEvent::Down {
        peer: LOW,
        link: L0,
        reason: DownReason::Replaced,
    };
    assert_eq!(high.event().await, down);
    assert_eq!(high.up().await, BootId(101));
    reborn.up().await;
    assert!(matches!(
        low.event().await,
        TransportEvent::Down {
            reason: DownReason::Closed | DownReason::Io(_),
            ..
        }
    ));
    drop(low);
    // The old life may have called once more before it ended, so the new one may have to as well.
    let arrives = async {
        loop {
            if reborn.transport.send(HIGH, L0, b"new").is_ok() {
                reborn.transport.flush();
            }
            tokio::task::yield_now().await;
            while let Some(event) = high.events.try_recv() {
                if matches!(event, TransportEvent::Frame { .. }) {
                    return event;
                }
            }
        }
    };
    let expected = TransportEvent::Frame {
        peer: LOW,
        link: L0,
        bytes: b"new".to_vec(),
    };
    let event = timeout(Duration::from_secs(20), arrives).await;
    assert_eq!(event.expect("a frame within 20 s"), expected);
}

/// Protects rebirth: a new boot id ends what was and shows up at the peer, from either end.
#[tokio::test]
async fn a_new_boot_id_connects_anew() {
    let (mut low, mut high) = pair().await;
    for (node, boot) in [(LOW, 111), (HIGH, 222), (LOW, 113)] {
        let reborn = if node == LOW { &mut low } else { &mut high };
        reborn.transport.set_boot(BootId(boot));
        let down = reborn.event().await;
        assert!(
            matches!(
                down,
                TransportEvent::Down {
                    reason: DownReason::Reborn,
                    ..
                }
            ),
            "{down:?}"
        );
        reborn.up().await;
        let other = if node == LOW { &mut high } else { &mut low };
        let down = other.event().await;
        assert!(matches!(down, TransportEvent::Down { .. }), "{down:?}");
        assert_eq!(other.up().await, BootId(boot));
    }
}

/// Protects memory on both sides when a daemon does not keep up: the receiver stops reading, the
/// sender is told, and afterwards nothing that was taken is missing.
#[tokio::test]
async fn a_slow_receiver_pushes_back() {
    let (low, mut high) = pair().await;
    let mut frame = vec![0; 64 << 10];
    let (mut taken, mut idle) = (0u32, 0);
    while idle < 5_000 {
        frame[..4].copy_from_slice(&taken.to_le_bytes());
        match low.transport.send(HIGH, L0, &frame) {
            Ok(()) => (taken, idle) = (taken + 1, 0),
            Err(SendError::Backlog) => {
                low.transport.flush();
                idle += 1;
                tokio::task::yield_now().await;
            }
            Err(other) => panic!("{other}"),
        }
        // Socket buffers are the system's; it gives each end a few MiB at most.
        let bound = EVENT_QUEUE_MAX + (4 << 20) + (32 << 20);
        assert!(taken as usize * frame.len() < bound, "{taken} frames");
    }
    assert!(taken as usize * frame.len() > EVENT_QUEUE_MAX);
    for i in 0..taken {
        assert_eq!(high.frame().await[..4], i.to_le_bytes());
    }
    low.send(HIGH, b"on");
    assert_eq!(high.frame().await, b"on");
}

/// Protects the last words of a node that leaves: they arrive before the link is down.
#[tokio::test]
async fn shutdown_lets_the_last_frames_leave() {
    let (mut low, mut high) = pair().await;
    let large = vec![5; FRAME_LEN_MAX];
    low.send(HIGH, &large);
    low.transport
        .send(HIGH, L0, b"leaving")
        .expect("takes the frame");
    let Node { transport, .. } = low;
    transport.shutdown().await;
    assert!(high.frame().await == large);
    assert_eq!(high.frame().await, b"leaving");
    let down = TransportEvent::Down {
        peer: LOW,
        link: L0,
        reason: DownReason::Closed,
    };
    assert_eq!(high.event().await, down);
    while let Some(event) = low.events.recv().await {
        assert!(matches!(
            event,
            TransportEvent::Down {
                reason: DownReason::Shutdown,
                ..
            }
        ));
    }
}

/// Protects nodes that start in any order: a peer that is not there yet is called until it is.
#[tokio::test]
async fn an_absent_peer_is_called_until_it_comes() {
    let high = Node::high(|_| {}).await;
    let address = high.address();
    high.transport.shutdown().await;
    let mut low = Node::low(&[address], |_| {}).await;
    while !low.transport.links()[0]
        .problem
        .as_deref()
        .is_some_and(|p| p.starts_with("unreachable: "))
    {
        tokio::task::yield_now().await;
    }
    let mut high = Node::high(|c| c.listen = vec![address]).await;
    low.up().await;
    high.up().await;
}

/// Protects whoever has to find out why a node does not start.
#[tokio::test]
async fn a_used_port_is_explained() {
    let high = Node::high(|_| {}).await;
    let mut config = config(NodeId(3), vec![]);
    config.listen = vec![any_port(), high.address()];
    let error = Transport::start(config).await.expect_err("used");
    let text = error.to_string();
    let port = high.address().port();
    for part in [
        format!("127.0.0.1:{port}"),
        "number 2 in this node's `addresses`".to_owned(),
        format!("ss -ltnp 'sport = :{port}'"),
    ] {
        assert!(text.contains(&part), "{text}");
    }
}

/// Protects against configurations that cannot work: each is refused with what would be right.
#[tokio::test]
async fn impossible_configurations_are_refused() {
    let good = || config(LOW, vec![peer(HIGH, &[nowhere()])]);
    let changes: [fn(&mut mainstay_transport::TransportConfig); 8] = [
        |c| c.cluster.clear(),
        |c| c.params = vec![0; 1025],
        |c| c.version = "x".repeat(65),
        |c| c.boot = BootId(0),
        |c| c.listen.clear(),
        |c| c.listen = vec![any_port(); 5],
        |c| c.peers.push(peer(LOW, &[nowhere()])),
        |c| c.peers[0].addresses.clear(),
    ];
    for (i, change) in changes.into_iter().enumerate() {
        let mut config = good();
        change(&mut config);
        let error = Transport::start(config).await.expect_err("refused");
        assert!(
            matches!(error, TransportError::Config { .. }),
            "{i}: {error}"
        );
    }
}
