//! From the death of a holder's node to the next grant.

use super::{LOCKSPACE, off};
use crate::{
    dev::Handle,
    exit::{Failure, INTERNAL},
};
use mainstay_client::{ClientBuilder, ClusterEvent, blocking::Client};
use mainstay_wire::event::What;
use serde::Serialize;
use std::{
    path::Path,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

/// Longest time for a grant.
const PATIENCE: Duration = Duration::from_secs(60);
/// Time for the waiter's request to have reached the master.
const QUEUED_WITHIN: Duration = Duration::from_secs(10);

/// One death.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Failover {
    /// From `kill -9` of the node that holds and masters the lock to the grant of the waiter.
    pub(super) kill_to_grant_ms: f64,
    /// From the proof that it can do no more harm to the grant, both as the waiter's process heard
    /// of them.
    pub(super) proof_to_grant_ms: f64,
}

/// Kills the first node while it holds what a client of the second waits for, and starts it again.
pub(super) async fn once(cluster: &mut Handle, n: usize) -> Result<Failover, Failure> {
    let name = format!("failover-{n}");
    let (near, far) = (cluster.socket(0).to_owned(), cluster.socket(1).to_owned());
    let (holder, waiter) = {
        let name = name.clone();
        off(move || {
            let holder = take(&near, &name)?;
            let waiter = wait(&far, &name)?;
            Ok((holder, waiter))
        })
        .await?
    };
    let killed = Instant::now();
    if !cluster.kill(0) {
        return Err(Failure::new(INTERNAL, "the first node is not running"));
    }
    let (proof, granted) = off(move || {
        let late = |_| Failure::new(INTERNAL, "the lock was not granted within 60 s");
        let granted = waiter.granted.recv_timeout(PATIENCE).map_err(late)??;
        let proof = waiter.proof.recv_timeout(PATIENCE).map_err(late)?;
        Ok((proof, granted))
    })
    .await?;
    drop(holder);
    cluster.start_again().await?;
    let ms = |time: Duration| time.as_secs_f64() * 1000.0;
    Ok(Failover {
        kill_to_grant_ms: ms(granted - killed),
        proof_to_grant_ms: ms(granted.saturating_duration_since(proof)),
    })
}

fn take(socket: &Path, name: &str) -> Result<(Client, mainstay_client::blocking::Lock), Failure> {
    let client = ClientBuilder::new(socket)
        .command("mainstay bench")
        .connect_blocking()?;
    let space = client.lockspace(LOCKSPACE).open()?;
    let lock = space.lock(name).acquire()?;
    Ok((client, lock))
}

/// A client that waits, and what it hears.
struct Waiter {
    proof: mpsc::Receiver<Instant>,
    granted: mpsc::Receiver<Result<Instant, Failure>>,
}

fn wait(socket: &Path, name: &str) -> Result<Waiter, Failure> {
    let client = ClientBuilder::new(socket)
        .command("mainstay bench")
        .connect_blocking()?;
    let (tell_proof, proof) = mpsc::channel();
    // A connection of its own: the waiter's must not be busy with events.
    let watcher = ClientBuilder::new(socket)
        .command("mainstay bench")
        .connect_blocking()?;
    let events = watcher.events(0)?;
    thread::spawn(move || {
        for event in events {
            if let ClusterEvent::Happened(event) = event
                && matches!(event.what, What::Fenced { .. })
            {
                // Nobody listens any more once a proof has been heard.
                let _ = tell_proof.send(Instant::now());
                return;
            }
        }
    });
    let (tell_granted, granted) = mpsc::channel();
    let space = client.lockspace(LOCKSPACE).open()?;
    let resource = name.to_owned();
    thread::spawn(move || {
        let lock = space.lock(resource).timeout(PATIENCE).acquire();
        let at = Instant::now();
        let told = tell_granted.send(lock.as_ref().map(|_| at).map_err(|e| e.clone().into()));
        drop((told, lock));
    });
    let until = Instant::now() + QUEUED_WITHIN;
    loop {
        let report = client.locks(None, Some(name.to_owned()), 10)?;
        if report.resources.iter().any(|r| !r.waiters.is_empty()) {
            return Ok(Waiter { proof, granted });
        }
        if Instant::now() > until {
            return Err(Failure::new(
                INTERNAL,
                "the waiter was not queued within 10 s",
            ));
        }
        thread::sleep(Duration::from_millis(5));
    }
}
