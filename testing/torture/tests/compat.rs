//! Lockspaces that follow others' rules, with real daemons and processes.

use mainstay_base::{Compat, LockMode};
use mainstay_client::{Flags, asynchronous::Client};
use mainstay_torture::{Cluster, mainstay, run, secs, within};
use std::{path::Path, process::Stdio};
use tokio::process::Command;

const BOUND: std::time::Duration = secs(12);

/// Runs `mainstay WORDS…` at a node: what it ends with, and what it prints and says.
async fn command(cluster: &Cluster, id: u16, words: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(mainstay());
    command.arg("--socket").arg(cluster.socket(id)).args(words);
    command.stdin(Stdio::null()).kill_on_drop(true);
    let output = within("the command ends", BOUND, command.output()).await;
    let output = output.expect("it starts");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (
        output.status.code(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

/// Takes a lock in EX, and goes without a word: the connection closes.
async fn die_writing(socket: &Path, lockspace: &'static str) {
    let socket = socket.to_owned();
    let life = tokio::task::spawn_blocking(move || {
        let runtime = tokio::runtime::Runtime::new().expect("threads");
        runtime.block_on(async {
            let client = Client::connect(&socket).await.expect("the daemon runs");
            let space = client.lockspace(lockspace).open().await;
            let space = space.expect("it exists");
            let held = space.lock("r").mode(LockMode::Ex).acquire().await;
            std::mem::forget(held.expect("it is free"));
        });
    });
    within("it dies", BOUND, life).await.expect("no panic");
}

/// Protects lockspaces for old programs with real daemons: `--compat` is taken and shown, refused with value
/// blocks that the system does not have, and outlives the death of all daemons; and with Linux' rules a
/// writer that dies without having spoken of the value block marks it, on another host.
#[test]
fn others_rules_outlive_all_daemons() {
    run(secs(90), async {
        let mut cluster = Cluster::of(3).start().await;
        for (name, compat, code) in [
            ("lvm", "linux", 0),
            ("vms", "vms", 0),
            ("ais", "saf", 0),
            ("own", "strict", 0),
            ("none", "hp-ux", 64),
        ] {
            let words = ["lockspace", "create", name, "--compat", compat];
            let (ended, _, said) = command(&cluster, 1, &words).await;
            assert_eq!(ended, Some(code), "{compat}: {said}");
        }
        let words = ["lockspace", "create", "odd", "--compat", "vms"];
        let words = [&words[..], &["--value-len", "32"]].concat();
        let (ended, _, said) = command(&cluster, 1, &words).await;
        assert!(
            ended != Some(0) && said.contains("16 and 64 are possible"),
            "{said}"
        );
        for id in cluster.ids() {
            cluster.kill(id);
        }
        for id in cluster.ids() {
            cluster.start(id);
        }
        cluster.whole().await;
        let (_, listed, _) = command(&cluster, 2, &["--json", "lockspace", "list"]).await;
        let listed: serde_json::Value = serde_json::from_str(&listed).expect("one document");
        let of = |name: &str| {
            let spaces = listed["lockspaces"].as_array().expect("a list");
            let space = spaces.iter().find(|space| space["name"] == name);
            let space = space.unwrap_or_else(|| panic!("no {name}: {listed}"));
            (
                space["compat"].as_str().map(str::to_owned),
                space["value_len"].as_u64(),
                space["overtake"].as_u64(),
            )
        };
        let word = |compat: Compat| Some(compat.name().to_owned());
        assert_eq!(of("lvm"), (word(Compat::Linux), Some(32), Some(0)));
        assert_eq!(of("vms"), (word(Compat::Vms), Some(16), Some(0)));
        assert_eq!(of("ais"), (word(Compat::Saf), None, Some(64)));
        assert_eq!(of("own"), (word(Compat::Strict), Some(32), Some(64)));
        let (_, table, _) = command(&cluster, 3, &["lockspace", "list"]).await;
        assert!(table.contains("COMPAT") && table.contains("saf"), "{table}");

        for (name, marked) in [("lvm", true), ("own", false)] {
            let keeper = cluster.client(1).await;
            let keeper_space = keeper.lockspace(name).open().await.expect("it exists");
            let kept = keeper_space.lock("r").mode(LockMode::Nl).acquire().await;
            let kept = kept.expect("NL suits all");
            die_writing(cluster.socket(2), name).await;
            let reader = cluster.client(3).await;
            let space = reader.lockspace(name).open().await.expect("it exists");
            let read = space.lock("r").mode(LockMode::Pr).flags(Flags::VALBLK);
            let read = read.timeout(BOUND).acquire().await.expect("it ends");
            let value = read.value().expect("asked for");
            assert_eq!(value.maybe_stale, marked, "{name}");
            drop((read, kept));
        }
        let client = cluster.client(2).await;
        let space = client.lockspace("ais").open().await.expect("it exists");
        let held = space.lock("r").acquire().await.expect("it is free");
        let twice = space.lock("r").acquire().await.expect_err("it has it");
        assert_eq!(twice.refusal().map(|why| why.code()), Some("duplicate"));
        drop(held);
    });
}
