//! Locks beneath others, by both clients, against a stand-in for the daemon.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use mainstay_client::{
    Flags, LockCall, LockMode, Refusal, ResourceName, asynchronous, blocking, testing::FakeDaemon,
};

/// Protects trees in threads: a lock beneath another is on the sub-resource, the one above cannot go
/// before it, and does when its guard is dropped and the last beneath it is gone.
#[test]
fn threads_lock_in_trees() {
    let daemon = FakeDaemon::start();
    let client = blocking::Client::connect(daemon.path()).unwrap();
    let space = client.lockspace("default").open().unwrap();
    let db = space.lock("db").mode(LockMode::Cr).acquire().unwrap();
    let table = db.child("table").mode(LockMode::Cw).acquire().unwrap();
    let row = table.child("row").with_value_block().acquire().unwrap();
    assert_eq!(row.name().to_string(), "db//table//row");
    assert!(row.value().is_some() && row.is_valid());
    let other = db.child("table").mode(LockMode::Pr).try_lock().acquire();
    let why = other.unwrap_err();
    assert_eq!(why.refusal(), Some(&Refusal::NotQueued));
    assert!(db.child("").acquire().is_err());
    let why = table.unlock().unwrap_err();
    assert_eq!(why.refusal(), Some(&Refusal::HasSubLocks(1)));
    drop(db);
    client.ping().unwrap();
    assert_eq!(daemon.locks(), 3, "they wait for what is beneath them");
    row.unlock().unwrap();
    client.ping().unwrap();
    client.ping().unwrap();
    assert_eq!(daemon.locks(), 0);
}

/// Protects releases of trees: all beneath goes with one call, guards of what is gone let go of nothing,
/// and what a lock waited for ends.
#[test]
fn threads_release_trees() {
    let daemon = FakeDaemon::start();
    let client = blocking::Client::connect(daemon.path()).unwrap();
    let space = client.lockspace("default").open().unwrap();
    let db = space.lock("db").mode(LockMode::Cr).acquire().unwrap();
    let table = db.child("table").acquire().unwrap();
    let row = table.child("row").acquire().unwrap();
    assert_eq!(db.unlock_beneath().unwrap(), 2);
    assert_eq!(
        (daemon.locks(), table.mode(), row.is_valid()),
        (1, LockMode::Nl, false)
    );
    drop((table, row));
    let again = db.child("table").acquire().unwrap();
    assert_eq!(db.unlock_tree().unwrap(), 2);
    assert_eq!(daemon.locks(), 0);
    assert!(again.unlock().is_err());
    client.ping().unwrap();
}

/// Protects the same for tasks, and calls on the level of handles.
#[tokio::test]
async fn tasks_lock_in_trees() {
    let daemon = FakeDaemon::start();
    let client = asynchronous::Client::connect(daemon.path()).await.unwrap();
    let space = client.lockspace("default").open().await.unwrap();
    let db = space.lock("db").mode(LockMode::Cr).acquire().await.unwrap();
    let row = db.child("row").acquire().await.unwrap();
    assert_eq!(row.name().to_string(), "db//row");
    let raw = client.raw();
    let (handle, name) = (raw.new_handle(), ResourceName::new("row").unwrap());
    let call = LockCall::new(name.clone(), LockMode::Pr);
    let waiting = raw.raw_lock_under(handle, db.handle(), call);
    let mut call = LockCall::new(name, LockMode::Ex);
    call.flags = Flags::NOQUEUE;
    let refused = raw
        .raw_lock_under(raw.new_handle(), db.handle(), call)
        .await;
    assert!(refused.is_err());
    assert_eq!(
        raw.raw_unlock_tree(Some(db.handle()), false).await.unwrap(),
        2
    );
    let why = waiting.await.unwrap_err();
    assert_eq!(why.refusal(), Some(&Refusal::Released));
    drop(row);
    assert_eq!(db.unlock_tree().await.unwrap(), 1);
    assert_eq!(raw.raw_unlock_tree(None, false).await.unwrap(), 0);
    assert_eq!(daemon.locks(), 0);
}
