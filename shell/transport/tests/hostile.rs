//! Strangers and saboteurs on the port and on the wire.

mod common;

use common::{HIGH, L0, LOW, Node, any_port, pair};
use mainstay_transport::{
    DownReason, RefusalReason, TransportEvent,
    wire::{HANDSHAKE_BODY_MAX, Preamble, encode_preamble},
};
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

/// Waits until the other end has closed, and gives what it sent.
async fn until_closed(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    // A reset is a way of closing.
    let _ = stream.read_to_end(&mut bytes).await;
    bytes
}

/// Protects honest peers from noise on the port: garbage is dropped without an answer.
#[tokio::test]
async fn garbage_gets_no_answer_and_harms_nobody() {
    let (low, mut high) = pair().await;
    for i in 0..50u32 {
        let mut stream = TcpStream::connect(high.address()).await.expect("connects");
        let noise: Vec<u8> = (0..5000u32)
            .map(|j| (j.wrapping_mul(2_654_435_761).wrapping_add(i) >> 13) as u8)
            .collect();
        // The other end may close before all is written.
        let _ = stream.write_all(&noise).await;
        assert_eq!(until_closed(&mut stream).await, b"");
    }
    assert_eq!(
        high.refused().await,
        (None, RefusalReason::NotMainstay, true)
    );
    low.send(HIGH, b"still here");
    assert_eq!(high.frame().await, b"still here");
}

/// Protects memory before authentication: a handshake message that announces more than the bound is
/// refused at its header, without waiting for its body.
#[tokio::test]
async fn an_oversized_handshake_is_refused_at_its_header() {
    let mut high = Node::high(|_| {}).await;
    let mut stream = TcpStream::connect(high.address()).await.expect("connects");
    let mut out = encode_preamble(Preamble::OURS).to_vec();
    out.push(1);
    let len = u16::try_from(HANDSHAKE_BODY_MAX + 1).expect("fits");
    out.extend_from_slice(&len.to_le_bytes());
    stream.write_all(&out).await.expect("writes");
    let mut answer = [0; 16];
    stream.read_exact(&mut answer).await.expect("a refusal");
    assert_eq!(answer[15], RefusalReason::Malformed.wire_code());
    drop(stream);
    let reason = RefusalReason::Malformed;
    assert_eq!(high.refused().await, (None, reason, true));
}

/// Protects against a flood of half-open connections: the oldest are dropped, and an honest peer
/// gets through while they stand.
#[tokio::test]
async fn a_half_open_flood_does_not_keep_peers_out() {
    let mut high = Node::high(|_| {}).await;
    let mut flood = Vec::new();
    for _ in 0..300 {
        flood.push(TcpStream::connect(high.address()).await.expect("connects"));
    }
    let mut low = Node::low(&[high.address()], |_| {}).await;
    low.up().await;
    for stream in &mut flood[..300 - 64] {
        until_closed(stream).await;
    }
    low.send(HIGH, b"through");
    let (mut told, mut got) = (0, None);
    while got.is_none() {
        match high.event().await {
            TransportEvent::Refused { .. } => told += 1,
            TransportEvent::Frame { bytes, .. } => got = Some(bytes),
            _ => {}
        }
    }
    assert_eq!(got.as_deref(), Some(&b"through"[..]));
    assert!(told <= 2, "{told} events for one stranger");
}

/// Protects the places for handshakes: whoever sends too slowly is dropped when the time is up.
#[tokio::test]
async fn a_slow_handshake_is_dropped() {
    let mut high = Node::high(|_| {}).await;
    let mut stream = TcpStream::connect(high.address()).await.expect("connects");
    let preamble = encode_preamble(Preamble::OURS);
    stream.write_all(&preamble).await.expect("writes");
    stream.write_all(&[1, 0]).await.expect("writes");
    assert_eq!(until_closed(&mut stream).await, preamble);
    let reason = RefusalReason::HandshakeTimeout;
    assert_eq!(high.refused().await, (None, reason, true));
}

/// What the saboteur does to bytes on their way from the caller to the called node.
type Change = fn(&mut Vec<u8>);
type Sabotage = Arc<Mutex<Option<Change>>>;

/// Stands between two nodes and passes bytes on. The sabotage is done once, to the next bytes from
/// the caller. What the caller sent goes to `record`.
async fn between(
    high: SocketAddr,
    sabotage: Sabotage,
    record: mpsc::UnboundedSender<Vec<u8>>,
) -> SocketAddr {
    let listener = TcpListener::bind(any_port()).await.expect("binds");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        loop {
            let (caller, _) = listener.accept().await.expect("accepts");
            let called = TcpStream::connect(high).await.expect("connects");
            let (mut from_low, mut to_low) = caller.into_split();
            let (mut from_high, mut to_high) = called.into_split();
            tokio::spawn(async move { tokio::io::copy(&mut from_high, &mut to_low).await });
            let (sabotage, record) = (Arc::clone(&sabotage), record.clone());
            tokio::spawn(async move {
                let mut buffer = vec![0; 65536];
                while let Ok(n @ 1..) = from_low.read(&mut buffer).await {
                    let mut bytes = buffer[..n].to_vec();
                    let _ = record.send(bytes.clone());
                    if let Some(change) = sabotage.lock().expect("not poisoned").take() {
                        change(&mut bytes);
                    }
                    if to_high.write_all(&bytes).await.is_err() {
                        break;
                    }
                }
            });
        }
    });
    address
}

async fn pair_through(sabotage: &Sabotage) -> (Node, Node, mpsc::UnboundedReceiver<Vec<u8>>) {
    let mut high = Node::high(|_| {}).await;
    let (record, recorded) = mpsc::unbounded_channel();
    let address = between(high.address(), Arc::clone(sabotage), record).await;
    let mut low = Node::low(&[address], |_| {}).await;
    low.up().await;
    high.up().await;
    (low, high, recorded)
}

/// Protects content on the wire: a changed bit ends the connection with its reason, the frame is
/// not delivered, and the link comes up again.
#[tokio::test]
async fn tampering_ends_the_connection() {
    let cases: [(Change, DownReason); 2] = [
        (|bytes| bytes[10] ^= 4, DownReason::Tampered),
        (
            |bytes| bytes[..4].fill(255),
            DownReason::FrameLength(u32::MAX),
        ),
    ];
    for (change, reason) in cases {
        let sabotage = Sabotage::default();
        let (mut low, mut high, _recorded) = pair_through(&sabotage).await;
        *sabotage.lock().expect("not poisoned") = Some(change);
        low.send(HIGH, b"payload");
        let down = TransportEvent::Down {
            peer: LOW,
            link: L0,
            reason,
        };
        assert_eq!(high.event().await, down);
        assert!(matches!(
            low.event().await,
            TransportEvent::Down {
                reason: DownReason::Closed | DownReason::Io(_),
                ..
            }
        ));
        low.up().await;
        high.up().await;
        low.send(HIGH, b"again");
        assert_eq!(high.frame().await, b"again");
    }
}

/// Protects a standing connection from recordings: replaying a whole genuine session neither
/// replaces it nor delivers a frame.
#[tokio::test]
async fn a_replayed_session_changes_nothing() {
    let (low, mut high, mut recorded) = pair_through(&Sabotage::default()).await;
    low.send(HIGH, b"genuine");
    assert_eq!(high.frame().await, b"genuine");
    let mut session = Vec::new();
    while let Ok(bytes) = recorded.try_recv() {
        session.extend(bytes);
    }
    let mut replay = TcpStream::connect(high.address()).await.expect("connects");
    replay.write_all(&session).await.expect("writes");
    replay.shutdown().await.expect("shuts down");
    until_closed(&mut replay).await;
    let reason = RefusalReason::WrongKey;
    let (_, told, by_us) = high.refused().await;
    assert_eq!((told, by_us), (reason, true));
    low.send(HIGH, b"undisturbed");
    assert_eq!(high.frame().await, b"undisturbed");
}

/// Protects a caller from a hostile address: endless or broken answers end the handshake.
#[tokio::test]
async fn hostile_answers_end_the_handshake() {
    let preamble = encode_preamble(Preamble::OURS);
    let answers: [(&[u8], RefusalReason); 3] = [
        (&[3, 16, 0], RefusalReason::Malformed),
        (&[1, 255, 255], RefusalReason::Malformed),
        (&[1, 4, 0, 1, 2, 3, 4], RefusalReason::WrongKey),
    ];
    for (answer, reason) in answers {
        let listener = TcpListener::bind(any_port()).await.expect("binds");
        let address = listener.local_addr().expect("bound");
        let mut low = Node::low(&[address], |_| {}).await;
        let (mut stream, _) = listener.accept().await.expect("called");
        let mut out = preamble.to_vec();
        out.extend_from_slice(answer);
        out.resize(out.len() + 16, 0);
        stream.write_all(&out).await.expect("writes");
        assert_eq!(low.refused().await, (Some(HIGH), reason, true));
    }
}
