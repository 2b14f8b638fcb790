//! Nodes that do not belong together: both learn why, and no frame passes.

mod common;

use common::{HIGH, LOW, Node, any_port, nowhere, peer};
use mainstay_base::NodeId;
use mainstay_transport::{
    ClusterKey, RefusalReason, TransportConfig, TransportEvent,
    wire::{
        HEADER_LEN, MessageKind, PREAMBLE_LEN, Preamble, decode_header, decode_refusal,
        encode_message, encode_preamble, encode_refusal,
    },
};
use std::{
    io::{self, Write},
    sync::{Arc, Mutex},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

type Change = fn(&mut TransportConfig);

/// Protects against every kind of wrong peer: the refusing and the refused node tell the same
/// reason, the link stays down, and nothing else is told.
#[tokio::test]
async fn both_sides_learn_the_reason() {
    use RefusalReason as R;
    // What is wrong at the higher node, whom it sees calling, and the reason.
    let cases: [(Change, Option<NodeId>, R); 6] = [
        (
            |c| c.key = ClusterKey::from_bytes([43; 32]),
            None,
            R::WrongKey,
        ),
        (
            |c| c.cluster = "prod".to_owned(),
            Some(LOW),
            R::WrongCluster,
        ),
        (|c| c.params.push(b'0'), Some(LOW), R::ParamsMismatch),
        (|c| c.node = NodeId(3), Some(LOW), R::WrongNode),
        (
            |c| c.peers = vec![peer(NodeId(7), &[nowhere()])],
            Some(LOW),
            R::UnknownNode,
        ),
        (
            |c| {
                c.node = LOW;
                c.peers.clear();
            },
            Some(LOW),
            R::SelfConnection,
        ),
    ];
    for (change, seen, reason) in cases {
        let mut high = Node::high(change).await;
        let mut low = Node::low(&[high.address()], |_| {}).await;
        assert_eq!(high.refused().await, (seen, reason, true));
        assert_eq!(low.refused().await, (Some(HIGH), reason, false));
        let status = &low.transport.links()[0];
        assert_eq!(status.up, None);
        let problem = status.problem.as_deref().expect("a reason");
        assert!(problem.starts_with(reason.code()), "{problem}");
        assert_eq!(high.events.try_recv(), None);
        assert_eq!(low.events.try_recv(), None);
    }
}

/// A log that the test can read.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("not poisoned").extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Protects the operator: both logs name the reason and its mend, with peer, link and address; the
/// refusing one also says what differs.
#[tokio::test]
async fn both_sides_log_the_reason() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let mut high = Node::high(|c| c.params = b"lease=9s".to_vec()).await;
    let mut low = Node::low(&[high.address()], |_| {}).await;
    high.refused().await;
    low.refused().await;
    let text = String::from_utf8(log.0.lock().expect("not poisoned").clone()).expect("text");
    let line = |who: &str| {
        let found = text.lines().find(|l| l.contains(who));
        found.unwrap_or_else(|| panic!("no `{who}` in {text}"))
    };
    let (ours, theirs) = (line("this node refused"), line("the peer refused"));
    for part in [
        "WARN",
        "reason=\"params-mismatch\"",
        "link=0",
        "use the same timings",
    ] {
        assert!(
            ours.contains(part) && theirs.contains(part),
            "{part}: {text}"
        );
    }
    assert!(
        ours.contains("peer=1 ") && theirs.contains("peer=2 "),
        "{text}"
    );
    assert!(
        theirs.contains(&format!("address={}", high.address())),
        "{text}"
    );
    assert!(
        ours.contains("ours `lease=9s`, theirs `lease=1500ms"),
        "{text}"
    );
    assert!(
        !theirs.contains("9s"),
        "the refusal told the parameters: {text}"
    );
}

/// Protects the numbering of links: an address listed under another number is refused.
#[tokio::test]
async fn swapped_addresses_are_refused() {
    let two: Change = |c| {
        c.listen = vec![any_port(); 2];
        c.peers[0].addresses.resize(2, nowhere());
    };
    let mut high = Node::high(two).await;
    let mut addresses = high.transport.local_addresses().to_vec();
    addresses.reverse();
    let mut low = Node::low(&addresses, |c| c.listen = vec![any_port(); 2]).await;
    for _ in 0..2 {
        let reason = RefusalReason::LinkMismatch;
        assert_eq!(high.refused().await, (Some(LOW), reason, true));
        assert_eq!(low.refused().await, (Some(HIGH), reason, false));
    }
}

async fn read_refusal(stream: &mut TcpStream) -> (RefusalReason, String) {
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).await.expect("reads");
    let preamble = encode_preamble(Preamble::OURS);
    assert_eq!(rest[..PREAMBLE_LEN], preamble);
    let rest = &rest[PREAMBLE_LEN..];
    let (kind, len) = decode_header(rest).expect("a header");
    assert_eq!(kind, MessageKind::Refusal);
    assert_eq!(rest.len(), HEADER_LEN + len, "nothing follows the refusal");
    let refusal = decode_refusal(&rest[HEADER_LEN..]).expect("a refusal");
    (refusal.reason, refusal.text)
}

/// Protects upgrades from the called side: a caller of another age hears so in clear.
#[tokio::test]
async fn a_caller_of_another_version_is_refused() {
    let mut high = Node::high(|_| {}).await;
    let mut stream = TcpStream::connect(high.address()).await.expect("connects");
    let later = Preamble {
        version_min: 900,
        version_max: 901,
    };
    let mut out = encode_preamble(later).to_vec();
    encode_message(MessageKind::Handshake, &[1; 300], &mut out);
    stream.write_all(&out).await.expect("writes");
    let (reason, _) = read_refusal(&mut stream).await;
    assert_eq!(reason, RefusalReason::VersionMismatch);
    drop(stream);
    assert_eq!(high.refused().await, (None, reason, true));
}

/// Protects upgrades from the calling side: refused by a later peer, or itself refusing an answer
/// of another version.
#[tokio::test]
async fn a_called_node_of_another_version_is_understood() {
    for refuses in [true, false] {
        let listener = TcpListener::bind(any_port()).await.expect("binds");
        let address = listener.local_addr().expect("bound");
        let mut low = Node::low(&[address], |_| {}).await;
        let (mut stream, _) = listener.accept().await.expect("called");
        let later = Preamble {
            version_min: 900,
            version_max: 901,
        };
        let mut out = encode_preamble(later).to_vec();
        if refuses {
            let body = encode_refusal(RefusalReason::VersionMismatch);
            encode_message(MessageKind::Refusal, &body, &mut out);
        } else {
            encode_message(MessageKind::Handshake, &[1; 90], &mut out);
        }
        stream.write_all(&out).await.expect("writes");
        let reason = RefusalReason::VersionMismatch;
        assert_eq!(low.refused().await, (Some(HIGH), reason, !refuses));
    }
}

/// Protects the secrecy of everything but the reason: a stranger with the right preamble and a
/// handshake that does not open gets the fixed refusal and not a byte more.
#[tokio::test]
async fn a_stranger_learns_only_the_reason() {
    let mut high = Node::high(|_| {}).await;
    let mut stream = TcpStream::connect(high.address()).await.expect("connects");
    let mut out = encode_preamble(Preamble::OURS).to_vec();
    encode_message(MessageKind::Handshake, &[1; 300], &mut out);
    stream.write_all(&out).await.expect("writes");
    let (reason, text) = read_refusal(&mut stream).await;
    assert_eq!(reason, RefusalReason::WrongKey);
    assert_eq!(text, RefusalReason::WrongKey.what());
    drop(stream);
    assert_eq!(high.refused().await, (None, reason, true));
}

/// Protects a node whose configuration names a port of some other service.
#[tokio::test]
async fn a_called_stranger_is_recognised() {
    let listener = TcpListener::bind(any_port()).await.expect("binds");
    let address = listener.local_addr().expect("bound");
    let mut low = Node::low(&[address], |_| {}).await;
    let (mut stream, _) = listener.accept().await.expect("called");
    stream
        .write_all(b"SSH-2.0-OpenSSH_9.2\r\n")
        .await
        .expect("writes");
    let reason = RefusalReason::NotMainstay;
    assert_eq!(low.refused().await, (Some(HIGH), reason, true));
}

/// Protects logs: a peer that calls again and again is told of once.
#[tokio::test]
async fn retries_are_not_told_again() {
    let mut high = Node::high(|c| c.cluster = "prod".to_owned()).await;
    let _low = Node::low(&[high.address()], |_| {}).await;
    high.refused().await;
    // A later news from somebody else shows that the retries before it were silent.
    for _ in 0..20 {
        let mut again = Node::low(&[high.address()], |_| {}).await;
        again.refused().await;
    }
    let mut stranger = TcpStream::connect(high.address()).await.expect("connects");
    stranger.write_all(&[0; 12]).await.expect("writes");
    let event = high.event().await;
    assert!(
        matches!(
            event,
            TransportEvent::Refused {
                reason: RefusalReason::NotMainstay,
                ..
            }
        ),
        "{event:?}"
    );
}
