//! Very many sessions, each in one of many lockspaces with a lock of its own.

use crate::secs;
use mainstay_client::{
    ClientBuilder,
    asynchronous::{Client, Lock},
};
use std::path::Path;
use tokio::task::JoinSet;

/// Lockspaces that a large enough crowd uses.
pub const LOCKSPACES: usize = 1000;
/// How many set out at a time.
const AT_ONCE: usize = 64;

/// The lockspace of a session, by number.
#[must_use]
pub fn space(number: usize) -> String {
    format!("space-{}", number % LOCKSPACES)
}

/// The name of its lock.
#[must_use]
pub fn name(number: usize) -> String {
    format!("lock-{}", number / LOCKSPACES)
}

async fn begin(socket: &Path, number: usize) -> (Client, Lock) {
    let client = ClientBuilder::new(socket).connect_timeout(secs(30));
    let client = client.connect().await.expect("the daemon takes everybody");
    let space = client.lockspace(space(number)).open().await;
    let space = space.expect("there is room for so many lockspaces");
    let lock = space.lock(name(number)).acquire().await;
    (client, lock.expect("nobody else wants it"))
}

/// Begins the sessions of these numbers; each holds its lock then.
///
/// # Panics
/// If one of them is not served.
pub async fn fill(socket: &Path, first: usize, count: usize) -> Vec<(Client, Lock)> {
    let mut all = Vec::with_capacity(count);
    for group in (first..first + count).step_by(AT_ONCE) {
        let mut begun = JoinSet::new();
        for number in group..(first + count).min(group + AT_ONCE) {
            let socket = socket.to_owned();
            begun.spawn(async move { begin(&socket, number).await });
        }
        all.extend(begun.join_all().await);
    }
    all
}
