//! Whoever speaks nonsense, never listens, or comes in thousands.

use mainstay_client::now;
use mainstay_torture::{Cluster, ms, run, say, secs, until, within};
use mainstay_wire::{
    client::{Ask, FromClient, PROTOCOL},
    codec,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::TcpStream,
    os::unix::net::UnixStream,
    path::Path,
    time::Duration,
};

const BOUND: Duration = secs(10);

/// Bytes that look like nothing, the same in every run.
fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    (0..len)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[0]
        })
        .collect()
}

/// Memory of a process in MiB.
fn memory(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = text.lines().find(|l| l.starts_with("VmRSS:"));
    let kib = line.and_then(|l| l.split_ascii_whitespace().nth(1));
    kib.and_then(|kib| kib.parse::<u64>().ok()).expect("a size") / 1024
}

fn message(request: u64, ask: Ask) -> Vec<u8> {
    let body = codec::to_vec(&FromClient { request, ask });
    let len = u32::try_from(body.len()).expect("short");
    [&len.to_le_bytes()[..], &body].concat()
}

fn hello() -> Vec<u8> {
    message(
        1,
        Ask::Hello {
            min: PROTOCOL,
            max: PROTOCOL,
            command: "hostile".to_owned(),
        },
    )
}

/// Whether the other side has closed, within a while.
fn is_closed(stream: &UnixStream) -> bool {
    stream
        .set_read_timeout(Some(secs(8)))
        .expect("a time limit");
    let mut buffer = [0; 4096];
    loop {
        match (&mut &*stream).read(&mut buffer) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() == ErrorKind::ConnectionReset,
        }
    }
}

/// Protects the daemon and its honest clients from a client that speaks nonsense: it is closed, they
/// keep their locks.
#[test]
fn garbage_on_the_client_socket() {
    run(secs(60), async {
        let mut cluster = Cluster::of(3).start().await;
        let pid = cluster.daemon(1).pid();
        let (_client, space) = cluster.space(1).await;
        let lock = space.lock("r").acquire().await.expect("granted");
        let before = memory(pid);
        let huge = u32::MAX.to_le_bytes().to_vec();
        let zero = vec![0; 64];
        let no_hello = message(1, Ask::Ping);
        let after_hello = [hello(), noise(4096, 7)].concat();
        let hello_twice = [hello(), hello(), huge.clone()].concat();
        for bytes in [
            noise(100_000, 3),
            huge,
            zero,
            no_hello,
            after_hello,
            hello_twice,
        ] {
            let mut stream = UnixStream::connect(cluster.socket(1)).expect("connected");
            // It may be closed before all is written.
            let _ = stream.write_all(&bytes);
            let closed = tokio::task::spawn_blocking(move || is_closed(&stream));
            assert!(closed.await.expect("asked"), "{:?}", &bytes[..8]);
        }
        // And those who go in the middle of a word.
        for seed in 0..200 {
            let mut stream = UnixStream::connect(cluster.socket(1)).expect("connected");
            let word = hello();
            let part = usize::try_from(seed).expect("small") % word.len();
            let _ = stream.write_all(&word[..part]);
        }
        let after = memory(pid);
        say!("memory of the daemon: {before} MiB before, {after} MiB after");
        assert!(after < before + 64);
        assert!(lock.is_valid());
        cluster.whole().await;
        within(
            "an honest client is served",
            BOUND,
            space.lock("s").acquire(),
        )
        .await
        .expect("granted");
        assert_eq!(cluster.daemon(1).pid(), pid);
        assert!(cluster.daemon(1).running());
        assert!(cluster.log(1).contains("broke the protocol"));
    });
}

/// Protects the cluster from whoever reaches its port: without the key nobody gets past the first
/// packet, however much they send and however many they are.
#[test]
fn garbage_on_the_port_between_nodes() {
    run(secs(60), async {
        let mut cluster = Cluster::of(3).start().await;
        let epoch = cluster.status(2).await.expect("n2 answers").epoch;
        let address = cluster.files[&1].nodes[0].2[0];
        let pid = cluster.daemon(1).pid();
        let before = memory(pid);
        let (_client, space) = cluster.space(1).await;
        let lock = space.lock("r").acquire().await.expect("granted");
        // Silent ones, who hold their connections.
        let silent: Vec<TcpStream> = (0..500)
            .filter_map(|_| TcpStream::connect(address).ok())
            .collect();
        for seed in 0..50 {
            let Ok(mut stream) = TcpStream::connect(address) else {
                continue;
            };
            let _ = stream.set_write_timeout(Some(ms(200)));
            // It is closed long before all is written.
            let _ = stream.write_all(&noise(200_000, seed));
        }
        let (_other, far) = cluster.space(2).await;
        let at = now();
        within("locks move meanwhile", BOUND, far.lock("s").acquire())
            .await
            .expect("granted");
        let after = memory(pid);
        say!(
            "a lock took {:.3?} meanwhile; memory of the daemon: {before} MiB before, {after} MiB \
             after",
            now().since(at)
        );
        assert!(after < before + 64);
        assert!(lock.is_valid());
        cluster.whole().await;
        drop(silent);
        let status = cluster.status(2).await.expect("n2 answers");
        assert_eq!(status.epoch, epoch, "no view was changed for it");
        assert!(cluster.log(1).contains("not-mainstay"), "it is logged");
        // The door is open to those with the key.
        cluster.kill(3);
        cluster.whole_of(&[1, 2]).await;
        cluster.start(3);
        cluster.whole().await;
    });
}

/// Asks and asks, and reads nothing; returns the bytes that were taken.
fn ask_without_reading(socket: &Path) -> (UnixStream, usize) {
    let mut stream = UnixStream::connect(socket).expect("connected");
    stream.write_all(&hello()).expect("taken");
    stream
        .set_write_timeout(Some(ms(500)))
        .expect("a time limit");
    let asks: Vec<u8> = (2..1000).flat_map(|n| message(n, Ask::Status)).collect();
    let mut taken = 0;
    while taken < 64 << 20 {
        match stream.write(&asks) {
            Ok(n) => taken += n,
            Err(_) => break,
        }
    }
    (stream, taken)
}

/// Protects memory and honest clients from one that asks without end and reads nothing: it is no
/// longer read, or closed, and the others are served.
#[test]
fn a_client_that_never_reads() {
    run(secs(60), async {
        let mut cluster = Cluster::of(3).start().await;
        let pid = cluster.daemon(1).pid();
        let before = memory(pid);
        let (_client, space) = cluster.space(1).await;
        let lock = space.lock("r").acquire().await.expect("granted");
        let mut hostile = Vec::new();
        for _ in 0..3 {
            let socket = cluster.socket(1).to_owned();
            let asked = tokio::task::spawn_blocking(move || ask_without_reading(&socket));
            let (stream, taken) = within("the asker is held back", secs(20), asked)
                .await
                .expect("asked");
            say!("taken from a client that never reads: {} KiB", taken >> 10);
            assert!(taken < 64 << 20, "it was never held back");
            hostile.push(stream);
        }
        let at = now();
        within(
            "an honest client is served",
            BOUND,
            space.lock("s").acquire(),
        )
        .await
        .expect("granted");
        let after = memory(pid);
        say!(
            "a lock took {:.3?} meanwhile; memory of the daemon: {before} MiB before, {after} MiB \
             after",
            now().since(at)
        );
        assert!(after < before + 100);
        assert!(lock.is_valid());
        cluster.whole().await;
    });
}

/// Protects sessions that exist, and the cluster, when descriptors run out: newcomers wait, the log
/// says why and what to do, and when the crowd has gone all is as before.
#[test]
fn thousands_of_connections_against_few_descriptors() {
    run(secs(60), async {
        let hard = getrlimit(Resource::Nofile).maximum;
        let wide = Rlimit {
            current: hard,
            maximum: hard,
        };
        setrlimit(Resource::Nofile, wide).expect("up to the hard limit");
        let mut cluster = Cluster::of(3).file_limit(200).start().await;
        let epoch = cluster.status(2).await.expect("n2 answers").epoch;
        let (client, space) = cluster.space(1).await;
        let lock = space.lock("r").acquire().await.expect("granted");
        let mut crowd = Vec::new();
        // When the daemon accepts no more, the system's queue fills, and then connecting waits; so
        // each connects in a thread that nobody waits for.
        let (sender, connected) = std::sync::mpsc::channel();
        let socket = cluster.socket(1).to_owned();
        std::thread::spawn(move || {
            for _ in 0..3000 {
                let Ok(stream) = UnixStream::connect(&socket) else {
                    break;
                };
                if sender.send(stream).is_err() {
                    break;
                }
            }
        });
        until("the daemon is out of descriptors", BOUND, async || {
            crowd.extend(connected.try_iter());
            cluster
                .log(1)
                .contains("no file descriptor is left for new clients")
                .then_some(())
        })
        .await;
        for _ in 0..50 {
            within("a client that was there is served", BOUND, client.ping())
                .await
                .expect("served");
            let lock = within("and granted locks", BOUND, space.lock("s").acquire()).await;
            lock.expect("granted").unlock().await.expect("released");
        }
        until(
            "more have connected than the daemon can serve",
            BOUND,
            async || {
                crowd.extend(connected.try_iter());
                (crowd.len() > 200).then_some(())
            },
        )
        .await;
        say!(
            "{} connections at a daemon with 200 descriptors",
            crowd.len()
        );
        assert!(lock.is_valid());
        drop(connected);
        drop(crowd);
        let at = now();
        until("a newcomer is served", secs(20), async || {
            cluster.status(1).await
        })
        .await;
        say!(
            "the crowd goes -> a newcomer is served: {:.3?}",
            now().since(at)
        );
        assert!(lock.is_valid());
        cluster.whole().await;
        let status = cluster.status(2).await.expect("n2 answers");
        assert_eq!(status.epoch, epoch, "no view was changed for it");
        assert!(cluster.daemon(1).running());
    });
}
