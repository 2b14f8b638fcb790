//! A lock that clients on two nodes want all the time.

use super::{
    connect,
    placement::Placement,
    sample::{Bound, Row, Samples},
};
use crate::exit::{Failure, INTERNAL};
use mainstay_client::LockMode;
use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Barrier,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

const NAME: &str = "handover";
/// Longest wait for the other to want the lock; after that it has ended.
const PATIENCE: Duration = Duration::from_secs(1);

/// Two clients, each on its own node, convert NL to EX, are told that they block the other, and
/// convert back. A sample is the time from one grant of EX to the next, on the other node.
pub(super) fn measure(sockets: &[PathBuf; 2], time: Duration) -> Result<Row, Failure> {
    let over = Arc::new(AtomicBool::new(false));
    let start = Arc::new(Barrier::new(sockets.len() + 1));
    let workers: Vec<_> = sockets
        .iter()
        .map(|socket| {
            let (socket, over, start) = (socket.clone(), Arc::clone(&over), Arc::clone(&start));
            thread::spawn(move || take_turns(&socket, &over, &start))
        })
        .collect();
    start.wait();
    thread::sleep(time);
    over.store(true, Ordering::Relaxed);
    let mut grants = Vec::new();
    for (who, worker) in workers.into_iter().enumerate() {
        let ended = worker
            .join()
            .map_err(|_| Failure::new(INTERNAL, "a client broke off"))??;
        grants.extend(ended.into_iter().map(|at| (at, who)));
    }
    grants.sort_unstable();
    let mut samples = Samples::default();
    let mut elapsed = Duration::ZERO;
    for pair in grants.windows(2) {
        let ((before, from), (after, to)) = (pair[0], pair[1]);
        if from != to {
            samples.add(after - before);
            elapsed += after - before;
        }
    }
    Ok(Row {
        name: "hand-over between two nodes (EX, on blocking notices)".to_owned(),
        placement: Placement::Free,
        summary: samples.summary(elapsed),
        bound: Bound::UnixAndTcp,
        target: None,
    })
}

/// The moments at which one client was granted EX.
fn take_turns(socket: &Path, over: &AtomicBool, start: &Barrier) -> Result<Vec<Instant>, Failure> {
    let ready = || -> Result<_, Failure> {
        let (client, space) = connect(socket)?;
        let request = space.lock(NAME).mode(LockMode::Nl).on_blocking();
        Ok((request.acquire()?, client))
    };
    let ready = ready();
    // Also after a failure, or the others would wait for ever.
    start.wait();
    let (mut lock, _client) = ready?;
    let mut notices = lock.blocking_notices();
    let mut grants = Vec::new();
    while !over.load(Ordering::Relaxed) {
        lock.convert(LockMode::Ex).wait()?;
        grants.push(Instant::now());
        let _ = notices.next_timeout(PATIENCE);
        lock.convert(LockMode::Nl).wait()?;
    }
    Ok(grants)
}
