//! Users other than root, as processes: who may connect, lock and how much.

use mainstay_torture::{Cluster, mainstay, possible, run, secs, within};
use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::{Output, Stdio},
    time::Duration,
};
use tokio::process::Command;

const BOUND: Duration = secs(10);
const OWNER: u32 = 4001;
const GUEST: u32 = 4002;
const STRANGER: u32 = 4003;
/// What `mainstay` ends with when a call is not allowed, and when a limit is reached.
const DENIED: i32 = 77;
const LIMIT: i32 = 69;

/// The program where everybody can run it, and a node's socket.
struct Door {
    program: PathBuf,
    socket: PathBuf,
}

impl Door {
    /// Runs `mainstay WORDS…` as a user. Every `mainstay` among the words stands for the program with its
    /// socket.
    async fn run(&self, uid: u32, words: &[&str]) -> Output {
        let mut command = Command::new("setpriv");
        let id = uid.to_string();
        command.args(["--reuid", &id, "--regid", &id, "--clear-groups"]);
        for word in ["mainstay"].iter().chain(words) {
            if *word == "mainstay" {
                command.arg(&self.program).arg("--socket").arg(&self.socket);
            } else {
                command.arg(word);
            }
        }
        command.stdin(Stdio::null()).kill_on_drop(true);
        let output = within("the command ends", BOUND, command.output()).await;
        output.expect("setpriv starts")
    }

    async fn expect(&self, uid: u32, words: &[&str], code: i32, said: &str) {
        let output = self.run(uid, words).await;
        let text = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{uid} {words:?}: {text}");
        assert!(text.contains(said), "{uid} {words:?}: {text}");
    }
}

/// A cluster whose daemons let everybody connect, with at most two locks for each.
async fn open_cluster() -> (Cluster, Vec<Door>) {
    let mut cluster = Cluster::of(2).prepare().await;
    let all = Permissions::from_mode(0o755);
    fs::set_permissions(cluster.dir(), all.clone()).expect("the test made it");
    let program = cluster.dir().join("mainstay");
    fs::copy(mainstay(), &program).expect("a copy can be made");
    fs::set_permissions(&program, all).expect("the test made it");
    for id in cluster.ids() {
        let file = cluster.files.get_mut(&id).expect("one of its nodes");
        file.more = "socket-mode = \"666\"\n\n[limits]\nlocks-per-user = 2\n".to_owned();
        cluster.start(id);
    }
    cluster.whole().await;
    let doors = cluster.ids().into_iter().map(|id| Door {
        program: program.clone(),
        socket: cluster.socket(id).to_owned(),
    });
    let doors = doors.collect();
    (cluster, doors)
}

/// Whether this process may run others as other users.
fn others_possible() -> bool {
    let root = match rustix::process::getuid().is_root() {
        true => Ok(()),
        false => Err("not root".to_owned()),
    };
    possible("other users", root)
}

/// Protects lockspaces and names by the users that the kernel tells of: who makes a lockspace says who
/// may lock what in it, on every node; others are refused with the reason, and root is not. Protects
/// a node from one user that takes too much.
#[test]
fn users_do_what_they_may() {
    if !others_possible() {
        return;
    }
    run(secs(60), async {
        let (_cluster, doors) = open_cluster().await;
        let [one, two] = &doors[..] else {
            panic!("two nodes");
        };
        let rule = format!("user={GUEST}:vm-:all");
        let create = [
            "lockspace",
            "create",
            "vms",
            "--mode",
            "640",
            "--rule",
            &rule,
        ];
        one.expect(OWNER, &create, 0, "").await;
        let lock = |name: &'static str| ["lock", "--lockspace", "vms", name, "--", "true"];
        // What node 1 has created, node 2 may learn a moment later.
        let mut patience = 50;
        while !two.run(GUEST, &lock("vm-1")).await.status.success() && patience > 0 {
            patience -= 1;
        }
        for door in &doors {
            door.expect(OWNER, &lock("db"), 0, "").await;
            door.expect(0, &lock("db"), 0, "").await;
            door.expect(GUEST, &lock("vm-1"), 0, "").await;
            let said = format!("user {GUEST} may lock vms/db in no mode");
            door.expect(GUEST, &lock("db"), DENIED, &said).await;
            let said = format!("user {STRANGER} may lock nothing in lockspace vms");
            door.expect(STRANGER, &lock("vm-1"), DENIED, &said).await;
            let set = ["lockspace", "set", "vms", "--mode", "666"];
            let said = format!("belongs to user {OWNER}");
            door.expect(GUEST, &set, DENIED, &said).await;
        }
        let three = [
            "lock", "a", "--", "mainstay", "lock", "b", "--", "mainstay", "lock", "c", "--", "true",
        ];
        one.expect(STRANGER, &three[..8], 64, "").await;
        let said = format!("user {STRANGER} has 2 locks on this node, and may have 2");
        one.expect(STRANGER, &three, LIMIT, &said).await;
        one.expect(0, &three, 0, "").await;
    });
}

/// Protects the daemon's door: where nothing is said, a user who is neither the daemon's nor of its
/// group is not let in, and told how that would change.
#[test]
fn strangers_are_not_let_in() {
    if !others_possible() {
        return;
    }
    run(secs(60), async {
        let (mut cluster, doors) = open_cluster().await;
        let file = cluster.files.get_mut(&1).expect("a node");
        file.more.clear();
        cluster.kill(1);
        cluster.start(1);
        cluster.whole().await;
        doors[0].expect(STRANGER, &["status"], DENIED, "").await;
        doors[1].expect(STRANGER, &["status"], 0, "").await;
    });
}
