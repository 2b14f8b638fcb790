//! The flight recorder: dumps of real daemons, read and judged by the command.

use mainstay_base::{BootId, LockMode, Token, ValueBlock};
use mainstay_recorder::{Dump, Entry, Op, Record, Recorder};
use mainstay_torture::{Cluster, mainstay, run, secs, until, within};
use std::{
    path::{Path, PathBuf},
    process::{Output, Stdio},
    time::Duration,
};
use tokio::process::Command;

const BOUND: Duration = secs(20);

async fn command(cluster: &Cluster, node: u16, words: &[&str], files: &[PathBuf]) -> Output {
    let mut command = Command::new(mainstay());
    command
        .arg("--socket")
        .arg(cluster.socket(node))
        .args(words)
        .args(files);
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = within("the command ends", BOUND, command.output()).await;
    output.expect("it starts")
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The same dump with its records changed.
fn forged(file: &Path, change: impl FnOnce(&mut Vec<Entry>)) -> Vec<u8> {
    let bytes = std::fs::read(file).expect("the dump is there");
    let (mut dump, mut entries) = Dump::decode(&bytes).expect("it is whole");
    change(&mut entries);
    let mut recorder = Recorder::new(64 << 20, BootId(1));
    for entry in &entries {
        recorder.record(entry.at, &entry.record);
    }
    dump.blocks = recorder.blocks();
    dump.encode()
}

/// Protects the recorder's worth after an accident: what two hosts did with one lock, through the
/// death of its master, can be dumped, read in the order in which it happened, and is found in order;
/// a grant that is put in by hand is found, and so is damage.
#[test]
fn dumps_tell_what_happened_and_what_was_wrong() {
    run(secs(90), async {
        let mut cluster = Cluster::of(3).start().await;
        cluster.master_at(3, "disk").await;
        let (_one, space_one) = cluster.space(1).await;
        let (_two, space_two) = cluster.space(2).await;
        // A release that publishes waits for the master, and one of the two is not the next master.
        let value = ValueBlock::new([7; 8]).expect("8 bytes fit");
        let held = space_one.lock("disk").with_value_block().acquire().await;
        let held = held.expect("it is free");
        let second_value = value.clone();
        let waiting = tokio::spawn(async move {
            let lock = space_two.lock("disk").with_value_block().acquire().await?;
            let token = lock.token();
            lock.unlock_with_value(second_value).await.map(|_| token)
        });
        cluster.waiters(1, "disk", 1).await;
        cluster.kill(3);
        cluster.whole_of(&[1, 2]).await;
        until("the master is rebuilt", BOUND, async || {
            let found = cluster.resource(1, "disk").await?;
            (!found.recovering && found.waiters.len() == 1).then_some(())
        })
        .await;
        let first = held.token();
        let published = held.unlock_with_value(value).await;
        published.expect("it was held");
        let second: Token = waiting.await.expect("no panic").expect("granted");
        assert!(second > first);

        let dir = tempfile::tempdir().expect("a directory");
        let mut files = Vec::new();
        for node in [1, 2] {
            let file = dir.path().join(format!("n{node}"));
            let output = command(
                &cluster,
                node,
                &["recorder", "dump"],
                std::slice::from_ref(&file),
            )
            .await;
            assert!(output.status.success(), "{output:?}");
            let again = command(
                &cluster,
                node,
                &["recorder", "dump"],
                std::slice::from_ref(&file),
            )
            .await;
            assert_eq!(
                again.status.code(),
                Some(73),
                "a dump overwrites nothing: {again:?}"
            );
            files.push(file);
        }
        let shown = command(
            &cluster,
            1,
            &["recorder", "show", "--resource", "disk", "--json"],
            &files,
        )
        .await;
        let lines: Vec<serde_json::Value> = text(&shown)
            .lines()
            .map(|line| serde_json::from_str(line).expect("an object per line"))
            .collect();
        let grants: Vec<u64> = lines
            .iter()
            .filter(|l| l["op"] == "granted" && l["role"] == "owner")
            .filter_map(|l| l["token"].as_u64())
            .collect();
        assert_eq!(grants, [first.0, second.0], "{}", text(&shown));
        for op in ["asked", "queued", "restated", "unlocking", "masters"] {
            let there = lines.iter().any(|l| l["op"] == op);
            assert!(there, "no {op} in {}", text(&shown));
        }
        let shown = command(&cluster, 1, &["recorder", "show"], &files).await;
        assert!(text(&shown).contains("recovery-done"), "{}", text(&shown));

        let verdict = command(&cluster, 1, &["recorder", "check"], &files).await;
        assert!(verdict.status.success(), "{}", text(&verdict));
        assert!(
            text(&verdict).contains("nothing is wrong"),
            "{}",
            text(&verdict)
        );

        // Node 2 is given its lock while node 1 holds it.
        let bytes = forged(&files[1], |entries| {
            let is_grant = |e: &Entry| matches!(&e.record, Record::Own(own) if own.op == Op::Granted && own.token == second);
            let grant = entries.iter().position(is_grant).expect("it was granted");
            let asked = entries
                .iter()
                .position(|e| matches!(&e.record, Record::Own(own) if own.op == Op::Asked));
            let mut early = entries.remove(grant);
            let place = asked.expect("it waited");
            early.at = entries[place].at;
            entries.insert(place + 1, early);
        });
        let wrong = dir.path().join("forged");
        std::fs::write(&wrong, &bytes).expect("written");
        let pair = [files[0].clone(), wrong.clone()];
        let verdict = command(
            &cluster,
            1,
            &["recorder", "check", "--skew-ms", "100"],
            &pair,
        )
        .await;
        assert_eq!(verdict.status.code(), Some(2), "{}", text(&verdict));
        assert!(
            text(&verdict).contains("WRONG default/disk"),
            "{}",
            text(&verdict)
        );
        assert!(
            text(&verdict).contains(LockMode::Ex.name()),
            "{}",
            text(&verdict)
        );

        std::fs::write(&wrong, &bytes[..bytes.len() - 5]).expect("written");
        let verdict = command(&cluster, 1, &["recorder", "check"], &[wrong]).await;
        assert_eq!(verdict.status.code(), Some(65));
        let error = String::from_utf8_lossy(&verdict.stderr).into_owned();
        assert!(error.contains("cut short"), "{error}");
    });
}
