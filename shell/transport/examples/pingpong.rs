//! Measures round trips of small frames over loopback between two threads, each with its own
//! current-thread runtime, next to plain TCP under the same runtime.
//!
//! `cargo run --release -p mainstay-transport --example pingpong`

#![allow(clippy::print_stdout)]

use mainstay_base::{BootId, LinkId, NodeId, NodeName};
use mainstay_transport::{
    ClusterKey, EventReceiver, PeerConfig, Transport, TransportConfig, TransportEvent,
};
use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime::{Builder, Runtime},
};

const ROUNDS: usize = 100_000;
const WARM_UP: usize = 5_000;
const SIZE: usize = 64;
const BATCH: usize = 64;
const LINK: LinkId = LinkId(0);
const LOW: NodeId = NodeId(1);
const HIGH: NodeId = NodeId(2);

fn runtime() -> Runtime {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}

fn config(node: NodeId, peer: NodeId, address: SocketAddr) -> TransportConfig {
    TransportConfig {
        cluster: "pingpong".to_owned(),
        node,
        boot: BootId(1),
        key: ClusterKey::from_bytes([9; 32]),
        params: Vec::new(),
        listen: vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))],
        peers: vec![PeerConfig {
            id: peer,
            name: NodeName::new("peer").expect("valid"),
            addresses: vec![address],
        }],
        version: String::new(),
        send_queue_max: 1 << 20,
    }
}

/// Sends back whatever comes, one flush per wake-up, until the caller leaves.
async fn echo(transport: &Transport, events: &mut EventReceiver) {
    while let Some(first) = events.recv().await {
        let mut next = Some(first);
        while let Some(event) = next {
            match event {
                TransportEvent::Frame { peer, link, bytes } => {
                    transport.send(peer, link, &bytes).expect("takes it");
                }
                TransportEvent::Down { .. } => return,
                _ => {}
            }
            next = events.try_recv();
        }
        transport.flush();
    }
}

async fn frames(events: &mut EventReceiver, mut count: usize) {
    while count > 0 {
        match events.recv().await.expect("running") {
            TransportEvent::Frame { .. } => count -= 1,
            TransportEvent::Up { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

fn report(name: &str, mut times: Vec<Duration>) {
    times.sort();
    let at = |p: usize| times[times.len() * p / 1000].as_nanos() as f64 / 1000.0;
    println!(
        "{name:24} p50 {:7.2} us   p99 {:7.2} us   p99.9 {:7.2} us",
        at(500),
        at(990),
        at(999)
    );
}

fn ours() {
    let (tell, told) = mpsc::channel();
    let server = thread::spawn(move || {
        runtime().block_on(async {
            let nowhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
            let (transport, mut events) = Transport::start(config(HIGH, LOW, nowhere))
                .await
                .expect("starts");
            tell.send(transport.local_addresses()[0]).expect("awaited");
            echo(&transport, &mut events).await;
        });
    });
    let address = told.recv().expect("told");
    runtime().block_on(async {
        let (transport, mut events) = Transport::start(config(LOW, HIGH, address))
            .await
            .expect("starts");
        while !matches!(events.recv().await, Some(TransportEvent::Up { .. })) {}
        let frame = [7; SIZE];
        let mut times = Vec::with_capacity(ROUNDS);
        for round in 0..ROUNDS + WARM_UP {
            let start = Instant::now();
            transport.send(HIGH, LINK, &frame).expect("takes it");
            transport.flush();
            frames(&mut events, 1).await;
            if round >= WARM_UP {
                times.push(start.elapsed());
            }
        }
        report("mainstay-transport", times);
        let start = Instant::now();
        for _ in 0..ROUNDS / BATCH {
            for _ in 0..BATCH {
                transport.send(HIGH, LINK, &frame).expect("takes it");
            }
            transport.flush();
            frames(&mut events, BATCH).await;
        }
        let rate = (ROUNDS / BATCH * BATCH) as f64 / start.elapsed().as_secs_f64();
        println!("{:24} {BATCH} in flight: {:.0} round trips/s", "", rate);
        transport.shutdown().await;
    });
    server.join().expect("no panic");
}

fn plain() {
    let (tell, told) = mpsc::channel();
    let server = thread::spawn(move || {
        runtime().block_on(async {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
                .await
                .expect("binds");
            tell.send(listener.local_addr().expect("bound"))
                .expect("awaited");
            let (mut stream, _) = listener.accept().await.expect("accepts");
            stream.set_nodelay(true).expect("TCP");
            let mut buffer = [0; SIZE];
            while stream.read_exact(&mut buffer).await.is_ok() {
                stream.write_all(&buffer).await.expect("writes");
            }
        });
    });
    let address = told.recv().expect("told");
    runtime().block_on(async {
        let mut stream = TcpStream::connect(address).await.expect("connects");
        stream.set_nodelay(true).expect("TCP");
        let mut buffer = [7; SIZE];
        let mut times = Vec::with_capacity(ROUNDS);
        for round in 0..ROUNDS + WARM_UP {
            let start = Instant::now();
            stream.write_all(&buffer).await.expect("writes");
            stream.read_exact(&mut buffer).await.expect("reads");
            if round >= WARM_UP {
                times.push(start.elapsed());
            }
        }
        report("plain TCP, same runtime", times);
    });
    server.join().expect("no panic");
}

fn main() {
    for _ in 0..3 {
        plain();
        ours();
    }
}
