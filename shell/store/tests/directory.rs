//! Opening, writing, replacing and refusing a state directory within one process.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::mpsc::{Receiver, channel};

use mainstay_store::{
    Completion, OpenOptions, Records, Recovered, StateDir, StoreError, Write, WriteKind, Writer,
};
use tempfile::TempDir;

const CREATE: OpenOptions = OpenOptions { create: true };
const EXISTING: OpenOptions = OpenOptions { create: false };
const SECTOR: u64 = 512;

fn start(path: &Path) -> (Writer, Receiver<Completion>, Recovered) {
    let (dir, recovered) = StateDir::open(path, CREATE).unwrap();
    let (done, completions) = channel();
    let writer = dir
        .start(Box::new(move |completion| {
            let _ = done.send(completion);
        }))
        .unwrap();
    (writer, completions, recovered)
}

fn append(token: u64, records: Records) -> Write {
    Write {
        token,
        kind: WriteKind::Append(records),
    }
}

fn replace(token: u64, records: Records) -> Write {
    Write {
        token,
        kind: WriteKind::Replace(records),
    }
}

/// Submits, waits for each completion, and closes.
fn write_all(path: &Path, writes: Vec<Write>) {
    let (writer, completions, _) = start(path);
    for write in writes {
        let token = write.token;
        writer.submit(write).unwrap();
        assert_eq!(
            completions.recv().unwrap(),
            Completion {
                token,
                result: Ok(())
            }
        );
    }
    writer.close().unwrap();
}

fn record(text: &str) -> (u8, Vec<u8>) {
    (1, text.as_bytes().to_vec())
}

fn reopen(path: &Path) -> Recovered {
    StateDir::open(path, EXISTING).unwrap().1
}

/// A new directory is private, has an identity, and keeps identity and records over every restart.
#[test]
fn fresh_then_restarted() {
    let top = TempDir::new().unwrap();
    let path = top.path().join("a/b/state");
    let (writer, _, fresh) = start(&path);
    assert!(fresh.fresh && fresh.records.is_empty() && fresh.disk.0 != 0);
    assert!(fresh.free_bytes.is_some());
    writer.close().unwrap();
    for dir in ["a", "a/b", "a/b/state"] {
        let mode = fs::metadata(top.path().join(dir))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o700, "{dir}");
    }
    let mode = fs::metadata(path.join("journal"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);

    write_all(
        &path,
        vec![
            append(1, vec![record("one"), (9, vec![])]),
            append(2, vec![record("two")]),
        ],
    );
    let again = reopen(&path);
    assert!(!again.fresh);
    assert_eq!(again.disk, fresh.disk);
    assert_eq!(again.records, [record("one"), (9, vec![]), record("two")]);
    assert_eq!(again.torn, None);

    let other = TempDir::new().unwrap();
    assert_ne!(start(other.path()).2.disk, fresh.disk);
}

/// A start changes not a byte of a sound journal, although it writes the last batch again.
#[test]
fn settled_unchanged() {
    let top = TempDir::new().unwrap();
    let journal = top.path().join("journal");
    for writes in [
        vec![],
        vec![replace(1, vec![record("sealed")])],
        vec![
            append(2, vec![record("one")]),
            append(3, vec![(1, vec![7; 3000])]),
        ],
    ] {
        write_all(top.path(), writes);
        let before = fs::read(&journal).unwrap();
        reopen(top.path());
        assert_eq!(fs::read(&journal).unwrap(), before);
    }
}

/// A replacement forgets what was before, keeps what comes after, and makes the file smaller.
#[test]
fn replaced() {
    let top = TempDir::new().unwrap();
    let (writer, completions, before) = start(top.path());
    for token in 0..20 {
        writer.submit(append(token, vec![record("old")])).unwrap();
        completions.recv().unwrap().result.unwrap();
    }
    let long = writer.journal_bytes();
    writer.submit(replace(20, vec![record("state")])).unwrap();
    writer.submit(append(21, vec![record("new")])).unwrap();
    for token in 20..22 {
        assert_eq!(
            completions.recv().unwrap(),
            Completion {
                token,
                result: Ok(())
            }
        );
    }
    assert_eq!(writer.journal_bytes(), 3 * SECTOR);
    assert!(writer.journal_bytes() < long);
    writer.close().unwrap();
    assert_eq!(
        fs::metadata(top.path().join("journal")).unwrap().len(),
        3 * SECTOR
    );
    assert!(!top.path().join("journal.new").exists());

    let after = reopen(top.path());
    assert_eq!(after.records, [record("state"), record("new")]);
    assert_eq!(after.disk, before.disk);
}

/// A crash while the new file was being made leaves the old one in force.
#[test]
fn replacement_interrupted() {
    let top = TempDir::new().unwrap();
    write_all(top.path(), vec![append(1, vec![record("kept")])]);
    let unfinished = top.path().join("journal.new");
    fs::write(&unfinished, b"MNSTJRNL, half of it").unwrap();
    assert_eq!(reopen(top.path()).records, [record("kept")]);
    assert!(!unfinished.exists());
}

/// Everything that is queued while the writer is busy shares one batch, and tokens complete in
/// the order of submission.
#[test]
fn group_commit() {
    let top = TempDir::new().unwrap();
    let (dir, _) = StateDir::open(top.path(), CREATE).unwrap();
    let (done, completions) = channel();
    let (release, gate) = channel::<()>();
    let writer = dir
        .start(Box::new(move |completion: Completion| {
            if completion.token == 0 {
                gate.recv().unwrap();
            }
            completion.result.unwrap();
            done.send(completion.token).unwrap();
        }))
        .unwrap();
    writer.submit(append(0, vec![record("x")])).unwrap();
    for token in 1..=20 {
        writer.submit(append(token, vec![record("y")])).unwrap();
    }
    writer.submit(append(21, vec![])).unwrap();
    release.send(()).unwrap();
    let order: Vec<u64> = completions.iter().take(22).collect();
    assert_eq!(order, (0..22).collect::<Vec<u64>>());
    assert_eq!(writer.queued_bytes(), 0);
    // 20 records of 24 bytes fill one sector exactly. Header, first write, group.
    assert!(
        writer.journal_bytes() <= 4 * SECTOR,
        "{}",
        writer.journal_bytes()
    );
    writer.close().unwrap();
    assert_eq!(reopen(top.path()).records.len(), 21);
}

/// Closing and dropping both finish what is queued.
#[test]
fn closing_finishes_the_queue() {
    let top = TempDir::new().unwrap();
    let (writer, _completions, _) = start(top.path());
    for token in 0..50 {
        writer
            .submit(append(token, vec![record("closed")]))
            .unwrap();
    }
    writer.close().unwrap();
    assert_eq!(reopen(top.path()).records.len(), 50);

    let (writer, _completions, _) = start(top.path());
    writer.submit(append(50, vec![record("dropped")])).unwrap();
    drop(writer);
    assert_eq!(reopen(top.path()).records.len(), 51);
}

/// A torn last write is cut off once, reported once, and writing goes on behind it.
#[test]
fn torn_tail() {
    let top = TempDir::new().unwrap();
    let journal = top.path().join("journal");
    write_all(
        top.path(),
        vec![
            append(1, vec![record("kept")]),
            append(2, vec![(1, vec![7; 2000])]),
        ],
    );
    let len = fs::metadata(&journal).unwrap().len();
    let file = fs::OpenOptions::new().write(true).open(&journal).unwrap();
    file.set_len(len - 700).unwrap();

    let (writer, completions, recovered) = start(top.path());
    assert_eq!(recovered.records, [record("kept")]);
    let torn = recovered.torn.unwrap();
    assert_eq!(
        (torn.offset, torn.bytes),
        (2 * SECTOR, len - 700 - 2 * SECTOR)
    );
    assert_eq!(fs::metadata(&journal).unwrap().len(), 2 * SECTOR);
    writer.submit(append(3, vec![record("after")])).unwrap();
    completions.recv().unwrap().result.unwrap();
    writer.close().unwrap();
    let again = reopen(top.path());
    assert_eq!(again.torn, None);
    assert_eq!(again.records, [record("kept"), record("after")]);
}

/// A changed byte stops the node with the place and the way out, and nothing is touched: neither
/// the journal nor an unfinished new one that may help the operator.
#[test]
fn damaged() {
    let top = TempDir::new().unwrap();
    let journal = top.path().join("journal");
    write_all(
        top.path(),
        vec![
            append(1, vec![record("one")]),
            append(2, vec![record("two")]),
        ],
    );
    let mut bytes = fs::read(&journal).unwrap();
    bytes[SECTOR as usize + 50] ^= 4;
    fs::write(&journal, &bytes).unwrap();
    fs::write(top.path().join("journal.new"), b"evidence").unwrap();

    let error = StateDir::open(top.path(), CREATE).unwrap_err();
    assert!(matches!(error, StoreError::Damaged { .. }));
    let text = error.to_string();
    for part in [
        journal.to_str().unwrap(),
        "offset 512",
        "record 1",
        "checksum",
        "mv ",
        "rejoins",
    ] {
        assert!(text.contains(part), "{part} missing in: {text}");
    }
    assert_eq!(fs::read(&journal).unwrap(), bytes);
    assert!(top.path().join("journal.new").exists());

    fs::write(&journal, b"").unwrap();
    assert!(matches!(
        StateDir::open(top.path(), CREATE),
        Err(StoreError::Damaged { .. })
    ));
}

/// The second opener is told who has the directory; after the first has gone it is free.
#[test]
fn two_openers() {
    let top = TempDir::new().unwrap();
    let (first, _, _) = start(top.path());
    let error = StateDir::open(top.path(), CREATE).unwrap_err();
    assert_eq!(
        error,
        StoreError::InUse {
            dir: top.path().to_owned(),
            pid: Some(std::process::id())
        }
    );
    let text = error.to_string();
    assert!(
        text.contains(&format!("process {}", std::process::id())),
        "{text}"
    );
    assert!(text.contains(top.path().to_str().unwrap()), "{text}");
    drop(first);
    StateDir::open(top.path(), CREATE).unwrap();
}

/// Without permission to create, a missing directory and a missing journal are errors, and
/// nothing that could later pass for state is left behind.
#[test]
fn nothing_there() {
    let top = TempDir::new().unwrap();
    let missing = top.path().join("missing");
    for path in [&missing, &top.path().to_owned()] {
        let error = StateDir::open(path, EXISTING).unwrap_err();
        assert_eq!(error, StoreError::NoState { dir: path.clone() });
        assert!(error.to_string().contains(path.to_str().unwrap()));
    }
    assert!(!missing.exists());
    assert!(!top.path().join("journal").exists());
}

/// A path that cannot be a state directory is refused with its name, the reason and a mend.
#[test]
fn not_a_directory() {
    let top = TempDir::new().unwrap();
    let file = top.path().join("file");
    fs::write(&file, b"").unwrap();
    for path in [file.clone(), file.join("below")] {
        let text = StateDir::open(&path, CREATE).unwrap_err().to_string();
        assert!(text.contains(path.to_str().unwrap()), "{text}");
        assert!(text.contains("Not a directory"), "{text}");
        assert!(text.contains("name a directory"), "{text}");
    }
}

/// A write that the format has no room for stops the writer like any other failure, and what was
/// written before it stays.
#[test]
fn too_large() {
    let top = TempDir::new().unwrap();
    let (writer, completions, _) = start(top.path());
    writer.submit(append(1, vec![record("before")])).unwrap();
    writer
        .submit(append(
            2,
            vec![(1, vec![0; mainstay_journal::PAYLOAD_MAX + 1])],
        ))
        .unwrap();
    writer.submit(append(3, vec![record("after")])).unwrap();
    let results: Vec<_> = completions
        .iter()
        .take(3)
        .map(|completion| completion.result)
        .collect();
    assert_eq!(results[0], Ok(()));
    assert!(
        matches!(results[1], Err(StoreError::TooLarge { .. })),
        "{:?}",
        results[1]
    );
    assert!(
        matches!(results[2], Err(StoreError::Stopped { .. })),
        "{:?}",
        results[2]
    );
    assert!(matches!(writer.close(), Err(StoreError::TooLarge { .. })));
    assert_eq!(reopen(top.path()).records, [record("before")]);
}

/// A callback that panics ends the thread; later writes are refused instead of being lost.
#[test]
fn callback_panics() {
    let top = TempDir::new().unwrap();
    let (dir, _) = StateDir::open(top.path(), CREATE).unwrap();
    let (gone, wait) = channel::<()>();
    let writer = dir
        .start(Box::new(move |_| {
            let _dropped_by_the_panic = &gone;
            panic!("as the test wants it");
        }))
        .unwrap();
    writer.submit(append(1, vec![record("x")])).unwrap();
    wait.recv().unwrap_err();
    assert_eq!(writer.close(), Err(StoreError::WriterGone));
}
