//! Ten thousand sessions on one node, in a thousand lockspaces: all are served, what they hold is respected
//! everywhere, and all is free again when they are gone, or their node is.

use mainstay_client::{LockError, Refusal, asynchronous::Client};
use mainstay_torture::{
    ClientProcess, Cluster, Record,
    crowd::{LOCKSPACES, name, space},
    run, say, secs, within,
};

const SESSIONS: usize = 10_000;
/// No process may have as many open files as all sessions need.
const PROCESSES: usize = 4;
/// So many locks are looked at from another node.
const LOOKS: usize = 200;
const BOUND: std::time::Duration = secs(100);

/// What many clients on one node hold.
async fn fill(cluster: &Cluster, id: u16) -> Vec<ClientProcess> {
    let program = env!("CARGO_BIN_EXE_torture-client");
    let count = SESSIONS / PROCESSES;
    let firsts = (0..SESSIONS).step_by(count);
    let start = |first| ClientProcess::crowd(program, cluster.socket(id), first, count);
    let mut crowd: Vec<ClientProcess> = firsts.map(start).collect();
    for process in &mut crowd {
        assert_eq!(process.next(BOUND).await, Record::Held { locks: count });
    }
    crowd
}

/// How many of some of the locks are free for a client.
async fn free(client: &Client) -> usize {
    let mut free = 0;
    for number in (0..SESSIONS).step_by(SESSIONS / LOOKS) {
        let space = client.lockspace(space(number)).open().await.expect("known");
        match space.lock(name(number)).try_lock().acquire().await {
            Ok(_) => free += 1,
            Err(LockError::Refused(Refusal::NotQueued)) => {}
            Err(error) => panic!("lock {number}: {error}"),
        }
    }
    free
}

/// All are free, at once or soon.
async fn all_free(what: &str, client: &Client) {
    within(what, secs(60), async {
        while free(client).await < LOOKS {
            tokio::time::sleep(secs(1)).await;
        }
    })
    .await;
}

/// How many locks are still relied on, by processes that end with that.
async fn held(crowd: Vec<ClientProcess>) -> usize {
    let mut held = 0;
    for process in crowd {
        match process.end(BOUND).await[..] {
            [Record::Held { locks }] => held += locks,
            ref other => panic!("a crowd told {other:?}"),
        }
    }
    held
}

/// Protects the promised size: sessions and lockspaces of that number work, none is forgotten or mistaken for
/// another, and their end, of their own or with their node, leaves nothing behind.
#[test]
fn ten_thousand_sessions_in_a_thousand_lockspaces() {
    run(secs(400), async {
        let mut cluster = Cluster::of(3).start().await;
        cluster.whole().await;
        let other = cluster.client(2).await;
        let crowd = fill(&cluster, 1).await;
        let status = cluster.status(1).await.expect("the daemon answers");
        say!("{} sessions", status.sessions);
        assert!(status.sessions >= SESSIONS as u64);
        let spaces = status.lockspaces.iter().filter(|space| space.locks > 0);
        assert_eq!(spaces.count(), LOCKSPACES);
        assert_eq!(free(&other).await, 0, "what others hold was granted");
        assert_eq!(held(crowd).await, SESSIONS);
        all_free("sessions that end leave nothing", &other).await;

        let crowd = fill(&cluster, 1).await;
        assert_eq!(free(&other).await, 0, "what others hold was granted");
        cluster.kill(1);
        all_free("a dead node's sessions leave nothing", &other).await;
        assert_eq!(held(crowd).await, 0);
    });
}
