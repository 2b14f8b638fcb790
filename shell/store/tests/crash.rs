//! A separate process that is killed, or runs out of space, while it writes.

#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::fs;
use std::io::{BufRead, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use mainstay_base::Entropy;
use mainstay_store::{OpenOptions, Records, StateDir};
use tempfile::TempDir;

const NUMBER: u8 = 1;
const ALL_UP_TO: u8 = 2;

/// `examples/writer.rs`, which `cargo test` builds next to the tests.
fn program() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let program = test
        .parent()
        .unwrap()
        .parent()
        .unwrap()
        .join("examples/writer");
    assert!(
        program.exists(),
        "{} is missing: run cargo build -p mainstay-store --examples",
        program.display()
    );
    program
}

/// Endless counting, sixteen in flight, with a replacement at every seventh number.
fn start(dir: &Path, bytes: usize) -> Child {
    Command::new(program())
        .arg(dir)
        .args([&u64::MAX.to_string(), &bytes.to_string(), "7", "16"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap()
}

fn acked(line: &str) -> Option<u64> {
    line.strip_prefix("ack ")
        .map(|number| number.parse().unwrap())
}

/// The last number that the records stand for. They must count without a gap.
fn last(records: &Records) -> u64 {
    let mut last = 0;
    for (place, (kind, payload)) in records.iter().enumerate() {
        let number = u64::from_le_bytes(payload[..8].try_into().unwrap());
        assert!(payload[8..].iter().all(|byte| *byte == number as u8));
        match *kind {
            NUMBER => assert_eq!(number, last + 1),
            ALL_UP_TO => assert_eq!((place, number % 7), (0, 0)),
            other => panic!("nobody wrote a record of kind {other}"),
        }
        last = number;
    }
    last
}

fn recover(dir: &Path) -> u64 {
    let (_, recovered) = StateDir::open(dir, OpenOptions { create: false }).unwrap();
    last(&recovered.records)
}

/// Whatever moment the process is killed at, amid appends, group commits and replacements, every
/// number that it had acknowledged is found, and no number is missing before the last.
#[test]
fn killed_while_writing() {
    let top = TempDir::new().unwrap();
    let mut entropy = Entropy::new(20);
    let mut before = 0;
    for round in 0..20 {
        let mut child = start(top.path(), 8 + entropy.below(1500) as usize);
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert_eq!(
            lines.next().unwrap().unwrap(),
            format!("open {}", before + 1)
        );
        let mut acknowledged = before;
        for _ in 0..entropy.below(60) {
            acknowledged = acked(&lines.next().unwrap().unwrap()).unwrap();
        }
        child.kill().unwrap();
        child.wait().unwrap();
        // What it said between our last look and its end; the last line may be half a line.
        let rest: Vec<String> = lines.map(Result::unwrap).collect();
        for line in rest.iter().take(rest.len().saturating_sub(1)) {
            acknowledged = acked(line).unwrap();
        }
        let found = recover(top.path());
        assert!(
            found >= acknowledged,
            "round {round}: found {found}, acknowledged {acknowledged}"
        );
        before = found;
    }
    assert!(before > 100, "the process hardly wrote: {before}");
}

/// A daemon in another process is named to the second one, and a kill frees the directory.
#[test]
fn directory_of_another_process() {
    let top = TempDir::new().unwrap();
    let mut child = start(top.path(), 8);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    lines.next().unwrap().unwrap();
    let second = Command::new(program())
        .arg(top.path())
        .args(["1", "8", "0", "1"])
        .output()
        .unwrap();
    assert!(!second.status.success());
    let text = String::from_utf8(second.stderr).unwrap();
    assert!(
        text.contains(&format!("in use by process {}", child.id())),
        "{text}"
    );
    child.kill().unwrap();
    child.wait().unwrap();
    recover(top.path());
}

/// Numbers acknowledged, and the message for each that was not.
fn outcome(output: &Output) -> (Vec<u64>, Vec<String>) {
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let acks = text.lines().filter_map(acked).collect();
    let failures = text
        .lines()
        .filter(|line| line.starts_with("fail "))
        .map(str::to_owned)
        .collect();
    (acks, failures)
}

fn shell(script: &str, dir: &Path) -> Output {
    Command::new("sh")
        .args(["-c", script])
        .env("PROGRAM", program())
        .env("DIR", dir)
        .stderr(Stdio::inherit())
        .output()
        .unwrap()
}

fn assert_stopped(output: &Output, dir: &Path, reason: &str) -> u64 {
    let (acks, failures) = outcome(output);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    assert!(!acks.is_empty() && !failures.is_empty(), "{output:?}");
    assert_eq!(
        acks,
        (1..=acks.len() as u64).collect::<Vec<_>>(),
        "an ack after a failure"
    );
    assert!(failures[0].contains(reason), "{}", failures[0]);
    assert!(
        failures[0].contains(dir.join("journal").to_str().unwrap()),
        "{}",
        failures[0]
    );
    assert!(failures[0].contains("KiB free"), "{}", failures[0]);
    acks.len() as u64
}

/// A write that the system cuts short stops the writer for good with a clear message; after the
/// next start all acknowledged numbers are there and counting goes on.
#[test]
fn file_size_limit() {
    let top = TempDir::new().unwrap();
    // 16 KiB: four numbers of seven sectors each fit behind the header, the fifth does not.
    let output = shell(
        "trap '' XFSZ; ulimit -f 32; exec \"$PROGRAM\" \"$DIR\" 1000 3000 0 3",
        top.path(),
    );
    let acknowledged = assert_stopped(&output, top.path(), "File too large");
    let found = recover(top.path());
    assert!(
        found >= acknowledged,
        "found {found}, acknowledged {acknowledged}"
    );
    let output = shell("exec \"$PROGRAM\" \"$DIR\" 50 3000 7 3", top.path());
    assert_eq!(outcome(&output).0, (found + 1..=50).collect::<Vec<_>>());
    assert_eq!(recover(top.path()), 50);
}

/// The same with a file system that is really full, which only root can make.
#[test]
fn full_file_system() {
    let top = TempDir::new().unwrap();
    let script = "mount -t tmpfs -o size=64k mainstay-test \"$DIR\" || exit 99
        \"$PROGRAM\" \"$DIR\" 1000 3000 0 1; status=$?
        echo ---
        mount -o remount,size=4m mainstay-test \"$DIR\" || exit 98
        \"$PROGRAM\" \"$DIR\" 200 8 7 16
        exit $status";
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", script])
        .env("PROGRAM", program())
        .env("DIR", top.path())
        .output();
    let output = match output {
        Ok(output) if !output.stdout.is_empty() => output,
        other => {
            assert!(
                !rustix::process::geteuid().is_root() || other.as_ref().is_ok_and(refused),
                "{other:?}"
            );
            let note = format!("SKIPPED full_file_system: no mount of our own here: {other:?}\n");
            std::io::stderr().write_all(note.as_bytes()).unwrap();
            return;
        }
    };
    let text = String::from_utf8(output.stdout.clone()).unwrap();
    let (full, roomy) = text.split_once("---\n").unwrap();
    let part = |text: &str| Output {
        stdout: text.into(),
        ..output.clone()
    };
    let acknowledged = assert_stopped(&part(full), top.path(), "No space left on device");
    assert!(full.contains("make room there"), "{full}");
    let first: u64 = roomy
        .lines()
        .next()
        .unwrap()
        .strip_prefix("open ")
        .unwrap()
        .parse()
        .unwrap();
    assert!(
        first > acknowledged,
        "goes on at {first}, acknowledged {acknowledged}"
    );
    assert_eq!(outcome(&part(roomy)).0, (first..=200).collect::<Vec<_>>());
}

/// Whether the sandbox, not the program, said no.
fn refused(output: &Output) -> bool {
    output.status.code() == Some(99)
        || String::from_utf8_lossy(&output.stderr).contains("Operation not permitted")
}

/// A directory that the daemon's user may not write to is refused with the way out.
#[test]
fn not_writable() {
    let top = TempDir::new().unwrap();
    let dir = top.path().join("state");
    fs::create_dir(&dir).unwrap();
    for path in [&dir, &top.path().to_owned()] {
        fs::set_permissions(path, fs::Permissions::from_mode(0o555)).unwrap();
    }
    // Root may write everywhere, so root asks as somebody else, by a copy that he may run.
    let copy = TempDir::new().unwrap();
    fs::set_permissions(copy.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program_copy = copy.path().join("writer");
    fs::copy(program(), &program_copy).unwrap();
    let as_somebody = if rustix::process::geteuid().is_root() {
        "exec setpriv --reuid=65534 --clear-groups \"$COPY\" \"$DIR\" 1 8 0 1"
    } else {
        "exec \"$COPY\" \"$DIR\" 1 8 0 1"
    };
    for (path, doing) in [
        (dir.clone(), "open"),
        (top.path().join("new"), "create state directory"),
    ] {
        let output = Command::new("sh")
            .args(["-c", as_somebody])
            .env("COPY", &program_copy)
            .env("DIR", &path)
            .output()
            .unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success(), "{text}");
        assert!(
            text.contains(doing) && text.contains(path.to_str().unwrap()),
            "{text}"
        );
        assert!(text.contains("chown"), "{text}");
    }
    // So that whoever is not root can remove it.
    fs::set_permissions(top.path(), fs::Permissions::from_mode(0o755)).unwrap();
}
