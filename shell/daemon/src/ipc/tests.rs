//! The clients' socket against well- and ill-behaved clients.

use super::*;
use crate::inbox::{Arrival, SharedInbox};
use mainstay_base::{Epoch, SessionId, Value, ValueBlock, ValueVersion};
use mainstay_wire::{
    client::{Answer, Ask, FromClient, HEADER_LEN, Handle, MESSAGE_LEN_MAX, PROTOCOL, ToClient},
    codec,
    event::{Event, Reason, What},
    keep::SessionKey,
    lock::Refusal,
};
use std::{path::PathBuf, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    time::timeout,
};

/// Longest wait for something that must happen.
const LONG: Duration = Duration::from_secs(10);

struct House {
    inbox: SharedInbox,
    gate: Arc<Gate>,
    sessions: Sessions,
    path: PathBuf,
    _dir: tempfile::TempDir,
}

impl House {
    fn new() -> House {
        let dir = tempfile::tempdir().expect("dir");
        let path = dir.path().join("m.sock");
        let listener = bind(&path, crate::config::SocketAccess::default()).expect("bound");
        let inbox = SharedInbox::default();
        let gate = Arc::new(Gate::default());
        let (_page, fd) = crate::page::SharedPage::create(1).expect("page");
        let doorway = Doorway {
            inbox: Arc::clone(&inbox),
            gate: Arc::clone(&gate),
            page: fd,
            first: 1,
        };
        tokio::spawn(accept_clients(listener, doorway));
        House {
            sessions: Sessions::new(Arc::clone(&inbox)),
            inbox,
            gate,
            path,
            _dir: dir,
        }
    }

    /// What arrives next, at least one thing.
    async fn arrivals(&self) -> Vec<Arrival> {
        let mut all = std::collections::VecDeque::new();
        while all.is_empty() {
            timeout(LONG, self.inbox.ready()).await.expect("arrives");
            self.inbox.take(&mut all);
        }
        all.into()
    }

    /// A connection that wants to continue a session, and its number.
    async fn comer(&mut self, session: SessionId) -> (UnixStream, SessionId) {
        let mut stream = UnixStream::connect(&self.path).await.expect("connected");
        let ask = Ask::Reattach {
            session,
            key: SessionKey([3; 16]),
            heard: 5,
        };
        let first = frame(&FromClient { request: 0, ask });
        stream.write_all(&first).await.expect("sent");
        let Some(Arrival::Opened(newcomer)) = self.arrivals().await.pop() else {
            panic!("not a newcomer");
        };
        assert!(
            matches!(newcomer.greeting, Greeting::Reattach { session: s, heard: 5, .. } if s == session)
        );
        let connection = newcomer.session;
        self.sessions.arrive(newcomer);
        skip_page(&mut stream).await;
        (stream, connection)
    }

    /// A client that said hello.
    async fn client(&mut self) -> (UnixStream, SessionId) {
        let mut stream = UnixStream::connect(&self.path).await.expect("connected");
        stream.write_all(&hello()).await.expect("sent");
        let Some(Arrival::Opened(newcomer)) = self.arrivals().await.pop() else {
            panic!("not a newcomer");
        };
        assert_eq!(newcomer.owner.command, "test");
        assert_eq!(newcomer.owner.pid, std::process::id());
        let id = newcomer.session;
        self.sessions.open(newcomer);
        (stream, id)
    }
}

fn frame(message: &FromClient) -> Vec<u8> {
    let body = codec::to_vec(message);
    let len = u32::try_from(body.len()).expect("short");
    [&len.to_le_bytes()[..], &body].concat()
}

fn hello() -> Vec<u8> {
    frame(&FromClient {
        request: 1,
        ask: Ask::Hello {
            min: PROTOCOL,
            max: PROTOCOL,
            command: "test".to_owned(),
        },
    })
}

fn ping(request: u64) -> Vec<u8> {
    frame(&FromClient {
        request,
        ask: Ask::Ping,
    })
}

fn pong(request: u64) -> ToClient {
    ToClient::Done {
        request,
        result: Ok(Answer::Pong),
    }
}

fn event() -> Event {
    Event {
        number: 1,
        unix_ms: 1,
        epoch: Epoch(1),
        what: What::Active,
        reason: Reason::Joined,
        detail: "x".repeat(1000),
    }
}

async fn receive(stream: &mut UnixStream) -> ToClient {
    let mut header = [0; HEADER_LEN];
    stream.read_exact(&mut header).await.expect("header");
    let mut body = vec![0; u32::from_le_bytes(header) as usize];
    stream.read_exact(&mut body).await.expect("body");
    codec::decode("answer", MESSAGE_LEN_MAX, &body).expect("decodes")
}

/// Reads away the byte that carries the lease page.
async fn skip_page(stream: &mut UnixStream) {
    assert_eq!(stream.read_u8().await.expect("page"), b'L');
}

/// Protects pipelining: messages cut anywhere arrive whole and in order, answers leave at once, and
/// the end of a client is told after all that it asked.
#[tokio::test]
async fn messages_survive_any_cut() {
    let mut house = House::new();
    let (mut stream, id) = house.client().await;
    skip_page(&mut stream).await;
    let bytes: Vec<u8> = (2..5).flat_map(ping).collect();
    let mut asked = Vec::new();
    for byte in bytes {
        stream.write_all(&[byte]).await.expect("sent");
        tokio::task::yield_now().await;
    }
    while asked.len() < 3 {
        for arrival in house.arrivals().await {
            match arrival {
                Arrival::Asked {
                    session,
                    request,
                    ask: Ask::Ping,
                } if session == id => asked.push(request),
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(asked, [2, 3, 4]);
    house.sessions.send(id, &pong(2));
    house.sessions.send(id, &pong(3));
    assert!(house.sessions.flush().is_empty());
    assert_eq!(receive(&mut stream).await, pong(2));
    assert_eq!(receive(&mut stream).await, pong(3));
    drop(stream);
    let arrivals = house.arrivals().await;
    assert!(matches!(&arrivals[..], [Arrival::Closed { session }] if *session == id));
}

/// Protects the daemon from what does not speak the protocol: before hello the connection is just
/// closed, after hello the reason is handed on.
#[tokio::test]
async fn broken_clients_are_closed() {
    let mut house = House::new();
    let mut stranger = UnixStream::connect(&house.path).await.expect("connected");
    stranger.write_all(&ping(1)).await.expect("sent");
    skip_page(&mut stranger).await;
    let end = timeout(LONG, stranger.read_u8()).await.expect("in time");
    assert!(end.is_err(), "closed");

    let (mut stream, id) = house.client().await;
    stream
        .write_all(&u32::MAX.to_le_bytes())
        .await
        .expect("sent");
    match &house.arrivals().await[..] {
        [Arrival::Broken { session, why }] if *session == id => {
            assert!(why.contains("exceeds the limit"), "{why}");
        }
        other => panic!("{other:?}"),
    }
    let reason = "why".to_owned();
    let lost = ToClient::SessionLost { reason };
    house.sessions.send(id, &lost);
    house.sessions.close(id);
    skip_page(&mut stream).await;
    assert_eq!(receive(&mut stream).await, lost);
    assert!(
        stream.read_u8().await.is_err(),
        "closed after the last word"
    );
}

/// Protects the node from a client that asks without end: beyond the limit it is not read, and
/// read again once enough is answered.
#[tokio::test]
async fn too_many_unanswered_requests_stop_the_reading() {
    let mut house = House::new();
    let (stream, id) = house.client().await;
    house.sessions.send(id, &pong(1));
    let (mut read, mut write) = stream.into_split();
    tokio::spawn(async move {
        let mut sink = [0; 4096];
        while !matches!(read.read(&mut sink).await, Ok(0) | Err(_)) {}
    });
    let total = 10 * UNANSWERED_MAX as u64;
    tokio::spawn(async move {
        for request in 0..total {
            if write.write_all(&ping(request)).await.is_err() {
                return;
            }
        }
        std::future::pending::<()>().await;
    });
    let mut next = 0;
    let mut open = 0_usize;
    let mut most = 0;
    while next < total {
        for arrival in house.arrivals().await {
            let Arrival::Asked { request, .. } = arrival else {
                continue;
            };
            assert_eq!(request, next);
            next += 1;
            open += 1;
        }
        most = most.max(open);
        // Answers only when no more can come: the reader has stopped, or all has been asked.
        if open >= UNANSWERED_MAX || next == total {
            for request in next - open as u64..next {
                house.sessions.send(id, &pong(request));
            }
            open = 0;
            house.sessions.flush();
        }
    }
    // One read may bring more than the limit leaves room for.
    assert!(
        (UNANSWERED_MAX..3 * UNANSWERED_MAX).contains(&most),
        "{most}"
    );
}

/// Protects the node under congestion: with the gate closed no client is read, but the end of one
/// is still noticed, so that its locks are released.
#[tokio::test]
async fn a_closed_gate_still_sees_clients_go() {
    let mut house = House::new();
    let (mut first, one) = house.client().await;
    let (mut second, two) = house.client().await;
    house.gate.set_closed(true);
    // The readers notice the gate after what they were waiting for.
    first.write_all(&ping(1)).await.expect("sent");
    second.write_all(&ping(1)).await.expect("sent");
    let mut seen = 0;
    while seen < 2 {
        seen += house.arrivals().await.len();
    }
    first.write_all(&ping(2)).await.expect("sent");
    second.write_all(&ping(2)).await.expect("sent");
    drop(first);
    let arrivals = house.arrivals().await;
    assert!(
        matches!(&arrivals[..], [Arrival::Closed { session }] if *session == one),
        "{arrivals:?}"
    );
    house.gate.set_closed(false);
    let arrivals = house.arrivals().await;
    assert!(
        matches!(&arrivals[..], [Arrival::Asked { session, request: 2, .. }] if *session == two),
        "{arrivals:?}"
    );
}

/// Protects memory: events for a client that does not read are dropped and counted, and it is told
/// how many once it reads.
#[tokio::test]
async fn events_for_a_sleeper_are_counted() {
    let mut house = House::new();
    let (mut stream, id) = house.client().await;
    house.sessions.subscribe(id);
    let total = 5 * EVENTS_BUFFER_MAX / 1000;
    for _ in 0..total {
        house.sessions.tell(&event());
        assert!(house.sessions.flush().is_empty());
    }
    skip_page(&mut stream).await;
    let (told, mut messages) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move { while told.send(receive(&mut stream).await).is_ok() {} });
    let mut got = 0;
    let missed = loop {
        tokio::select! {
            message = messages.recv() => match message {
                Some(ToClient::Event(_)) => got += 1,
                Some(ToClient::EventsMissed(missed)) => break missed,
                other => panic!("{other:?}"),
            },
            arrivals = house.arrivals() => for arrival in arrivals {
                assert!(matches!(arrival, Arrival::Writable { session } if session == id));
                house.sessions.writable(id);
                assert!(house.sessions.flush().is_empty());
            },
        }
    };
    assert_eq!(got + missed, total as u64, "each was told or counted");
    assert!(missed > 0 && got > 0, "{missed} {got}");
    // From now on it gets them again.
    house.sessions.tell(&event());
    assert!(house.sessions.flush().is_empty());
    assert_eq!(messages.recv().await, Some(ToClient::Event(event())));
}

/// Protects memory, and those who watch value blocks: of the changes that a client does not read only
/// the last of each lock is kept, and it gets that, behind older ones, once it reads.
#[tokio::test]
async fn value_blocks_for_a_sleeper_are_told_as_they_are_last() {
    let mut house = House::new();
    let (mut stream, id) = house.client().await;
    let changed = |handle: u64, version: u64| ToClient::ValueChanged {
        handle: Handle(handle),
        value: Value {
            block: ValueBlock::new([version as u8; 4096]).expect("short"),
            version: ValueVersion(version),
            maybe_stale: false,
        },
    };
    let last = 4 * EVENTS_BUFFER_MAX as u64 / 4096;
    for version in 1..=last {
        for handle in [1, 2] {
            house.sessions.send(id, &changed(handle, version));
        }
        assert!(house.sessions.flush().is_empty(), "it is not closed");
    }
    skip_page(&mut stream).await;
    let (told, mut messages) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move { while told.send(receive(&mut stream).await).is_ok() {} });
    let (mut known, mut count) = ([0, 0], 0);
    while known != [last, last] {
        tokio::select! {
            message = messages.recv() => match message {
                Some(ToClient::ValueChanged { handle, value }) => {
                    let known = &mut known[handle.0 as usize - 1];
                    assert!(value.version.0 > *known, "it goes forward");
                    *known = value.version.0;
                    count += 1;
                }
                other => panic!("{other:?}"),
            },
            arrivals = house.arrivals() => for arrival in arrivals {
                assert!(matches!(arrival, Arrival::Writable { session } if session == id));
                house.sessions.writable(id);
                assert!(house.sessions.flush().is_empty());
            },
        }
    }
    assert!(count < last, "{count} of {} were kept", 2 * last);
    // From now on it gets each again.
    house.sessions.send(id, &changed(1, last + 1));
    assert!(house.sessions.flush().is_empty());
    assert_eq!(messages.recv().await, Some(changed(1, last + 1)));
}

/// Protects those who watch many value blocks: all that was held back is told once the client reads,
/// however much more that is than may wait at once, and with nothing else to say to it.
#[tokio::test]
async fn all_value_blocks_for_a_sleeper_are_told() {
    const LOCKS: u64 = 400;
    let mut house = House::new();
    // So little that a socket with room takes it whole: then nothing ever waits for room again.
    house.sessions.hold_back = 32 << 10;
    let (mut stream, id) = house.client().await;
    let changed = |handle: u64| ToClient::ValueChanged {
        handle: Handle(handle),
        value: Value {
            block: ValueBlock::new([1; 4096]).expect("short"),
            version: ValueVersion(1),
            maybe_stale: false,
        },
    };
    for handle in 0..LOCKS {
        house.sessions.send(id, &changed(handle));
        assert!(house.sessions.flush().is_empty(), "it is not closed");
    }
    skip_page(&mut stream).await;
    let (told, mut messages) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move { while told.send(receive(&mut stream).await).is_ok() {} });
    for handle in 0..LOCKS {
        let message = loop {
            tokio::select! {
                message = messages.recv() => break message,
                arrivals = house.arrivals() => for arrival in arrivals {
                    assert!(matches!(arrival, Arrival::Writable { session } if session == id));
                    house.sessions.writable(id);
                    assert!(house.sessions.flush().is_empty());
                },
            }
        };
        assert_eq!(message, Some(changed(handle)));
    }
}

/// Protects memory: a client that takes nothing of what it must get is closed.
#[tokio::test]
async fn a_client_that_never_reads_is_closed() {
    let mut house = House::new();
    let (_stream, id) = house.client().await;
    let big = ToClient::Suspended {
        reason: "x".repeat(1 << 20),
    };
    let mut closed = Vec::new();
    for _ in 0..BUFFER_MAX / (1 << 20) + 2 {
        house.sessions.send(id, &big);
        closed.extend(house.sessions.flush());
    }
    assert_eq!(closed, [id]);
    assert!(!house.sessions.contains(id));
}

/// Protects kept sessions from their own past: once a session goes on, on another connection, the old
/// one is told and closed, what it still brings counts for nobody, and what the session is told goes to
/// the new one. A stranger hears why it is refused.
#[tokio::test]
async fn a_session_moves_to_another_connection() {
    let mut house = House::new();
    let (mut old, id) = house.client().await;
    skip_page(&mut old).await;
    let (mut new, connection) = house.comer(id).await;
    assert_eq!(house.sessions.on(id), Some(id));
    assert_eq!(house.sessions.on(connection), None, "not yet");
    house.sessions.reattach(id, connection, 1);
    house.sessions.send(id, &pong(7));
    assert!(house.sessions.flush().is_empty());
    assert_eq!(house.sessions.on(id), None, "its number is of the past");
    assert_eq!(house.sessions.on(connection), Some(id));
    assert!(matches!(
        receive(&mut old).await,
        ToClient::SessionLost { .. }
    ));
    assert!(old.read_u8().await.is_err(), "closed");
    assert_eq!(receive(&mut new).await, pong(7));

    let (mut stranger, third) = house.comer(id).await;
    house.sessions.turn_away(third, Refusal::NoSuchSession);
    let refused = ToClient::Done {
        request: 0,
        result: Err(Refusal::NoSuchSession),
    };
    assert_eq!(receive(&mut stranger).await, refused);
    assert!(stranger.read_u8().await.is_err(), "closed");
    new.write_all(&ping(8)).await.expect("sent");
    let arrivals = house.arrivals().await;
    let asked = |a: &Arrival| matches!(a, Arrival::Asked { session, request: 8, .. } if *session == connection);
    assert!(arrivals.iter().any(asked), "{arrivals:?}");
}

/// A client whose session is kept.
async fn kept_client(house: &mut House) -> (UnixStream, SessionId) {
    let (mut stream, id) = house.client().await;
    let key = SessionKey([3; 16]);
    let kept = ToClient::Done {
        request: 1,
        result: Ok(Answer::Kept { key }),
    };
    house.sessions.send(id, &kept);
    assert!(house.sessions.flush().is_empty());
    skip_page(&mut stream).await;
    assert_eq!(receive(&mut stream).await, kept);
    (stream, id)
}

/// What arrives of a connection up to its end: the numbers of its requests.
async fn last_words(house: &House, connection: SessionId) -> Vec<u64> {
    let mut requests = Vec::new();
    loop {
        for arrival in house.arrivals().await {
            match arrival {
                Arrival::Asked { request, .. } => requests.push(request),
                Arrival::Closed { session } if session == connection => return requests,
                other => panic!("{other:?}"),
            }
        }
    }
}

/// Protects others from waiting for the grace of a client that has said goodbye: what it said last is
/// read, though it takes nothing any more. The session is not closed before.
#[tokio::test]
async fn last_words_of_a_kept_session_are_read() {
    let mut house = House::new();
    let (mut stream, id) = kept_client(&mut house).await;
    let words = [ping(2), ping(3)].concat();
    stream.write_all(&words).await.expect("sent");
    drop(stream);
    for _ in 0..3 {
        house.sessions.send(id, &pong(9));
        assert!(house.sessions.flush().is_empty(), "it is not closed");
        assert_eq!(house.sessions.on(id), Some(id));
    }
    assert_eq!(last_words(&house, id).await, [2, 3]);
}

/// Protects the same under congestion.
#[tokio::test]
async fn a_closed_gate_lets_last_words_pass() {
    let mut house = House::new();
    let (mut stream, id) = kept_client(&mut house).await;
    house.gate.set_closed(true);
    // The reader notices the gate after what it was waiting for.
    stream.write_all(&ping(2)).await.expect("sent");
    assert_eq!(house.arrivals().await.len(), 1);
    stream.write_all(&ping(3)).await.expect("sent");
    drop(stream);
    assert_eq!(last_words(&house, id).await, [3]);
}

/// Protects the count of messages that both ends keep: a session is kept only if nothing that was asked
/// before, or held back, can be told afterwards.
#[tokio::test]
async fn only_a_quiet_session_can_be_kept() {
    let mut house = House::new();
    house.sessions.hold_back = 0;
    let (mut stream, id) = house.client().await;
    assert!(house.sessions.may_be_kept(id), "the hello alone is open");
    house.sessions.send(id, &pong(1));
    let words = [ping(2), ping(3)].concat();
    stream.write_all(&words).await.expect("sent");
    let mut seen = 0;
    while seen < 2 {
        seen += house.arrivals().await.len();
    }
    assert!(!house.sessions.may_be_kept(id), "two are open");
    house.sessions.send(id, &pong(2));
    assert!(house.sessions.may_be_kept(id));
    let changed = ToClient::ValueChanged {
        handle: Handle(1),
        value: Value {
            block: ValueBlock::new([1; 8]).expect("short"),
            version: ValueVersion(1),
            maybe_stale: false,
        },
    };
    house.sessions.send(id, &changed);
    assert!(!house.sessions.may_be_kept(id), "a value is held back");
}
