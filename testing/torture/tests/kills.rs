//! `kill -9` of daemons, masters, leaders, clients, and of everything at once.

use mainstay_base::Instant;
use mainstay_client::{
    LockError, Notice, Token,
    asynchronous::{Client, Lock, Lockspace},
    now,
    report::{MemberState, StatusReport},
};
use mainstay_torture::{ClientProcess, Cluster, Record, run, say, secs, until, within};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::task::JoinHandle;

/// The bound on everything after a death: far above what it should take, so that a loaded machine
/// does not fail.
const BOUND: Duration = secs(10);

/// A request that waits in a task of its own.
fn wait_for(space: Lockspace, name: &str) -> JoinHandle<Result<(Lock, Instant), LockError>> {
    let name = name.to_owned();
    tokio::spawn(async move {
        let lock = space.lock(name).acquire().await?;
        Ok((lock, now()))
    })
}

async fn granted(
    what: &str,
    waiting: JoinHandle<Result<(Lock, Instant), LockError>>,
) -> (Lock, Instant) {
    within(what, BOUND, waiting)
        .await
        .expect("the waiting task lives")
        .unwrap_or_else(|error| panic!("{what}: {error}"))
}

/// Keeps the latest end of a lease that a lock has shown.
fn follow_lease(lock: &Arc<Lock>) -> (Arc<AtomicU64>, JoinHandle<()>) {
    let latest = Arc::new(AtomicU64::new(0));
    let (lock, shown) = (Arc::clone(lock), Arc::clone(&latest));
    let task = tokio::spawn(async move {
        while lock.is_valid() {
            shown.fetch_max(lock.valid_until().0, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    (latest, task)
}

/// Kills node 1, whose client holds a lock that a client of node 2 waits for, and returns how long
/// the latter waits from then on. `master` is the node that masters it.
async fn kill_the_holder(cluster: &mut Cluster, master: u16, name: &str) -> Duration {
    let others: Vec<u16> = cluster.ids().into_iter().filter(|&id| id != 1).collect();
    cluster.master_at(master, name).await;
    let (holder, space) = cluster.space(1).await;
    let lock = Arc::new(space.lock(name).acquire().await.expect("granted"));
    let token = lock.token();
    let (_waiter, space) = cluster.space(2).await;
    let waiting = wait_for(space, name);
    cluster.waiters(2, name, 1).await;
    let (lease, follower) = follow_lease(&lock);
    let killed = now();
    cluster.kill(1);
    let (next, at) = granted("the waiter of a killed node's lock", waiting).await;
    follower.await.expect("the follower lives");
    assert!(next.token() > token, "{} > {token}", next.token());
    assert!(!lock.is_valid(), "its holder knows");
    let lease = Instant(lease.load(Ordering::Relaxed));
    assert!(at > lease, "granted at {at}, before the proof at {lease}");
    drop(holder);
    cluster.whole_of(&others).await;
    cluster.start(1);
    cluster.whole().await;
    at.since(killed)
}

/// Protects L1 and S4: whoever waits for a lock of a killed node gets it, with a larger token, and
/// not before the dead node's lease is over; wherever the resource is mastered.
#[test]
fn a_killed_holders_lock_passes_on() {
    run(secs(60), async {
        let mut cluster = Cluster::of(3).start().await;
        for (master, name) in [(1, "at-the-dead"), (2, "at-the-waiter"), (3, "at-a-third")] {
            let took = kill_the_holder(&mut cluster, master, name).await;
            say!("kill -9 -> next grant, master n{master}: {took:.3?}");
            assert!(took < BOUND);
        }
    });
}

/// Protects what the targets speak of, in a cluster of five: also there a killed node's lock passes
/// on, though more nodes have to agree.
#[test]
fn a_killed_holders_lock_passes_on_among_five() {
    run(secs(60), async {
        let mut cluster = Cluster::of(5).start().await;
        let took = kill_the_holder(&mut cluster, 4, "at-a-fourth").await;
        say!("kill -9 -> next grant, five nodes: {took:.3?}");
        assert!(took < BOUND);
    });
}

/// Three nodes' clients: one holds, the others wait in a known order.
struct Queue {
    _clients: Vec<Client>,
    holder: Lock,
    first: JoinHandle<Result<(Lock, Instant), LockError>>,
    second: JoinHandle<Result<(Lock, Instant), LockError>>,
}

async fn queue(cluster: &Cluster, name: &str, nodes: [u16; 3]) -> Queue {
    let mut clients = Vec::new();
    let mut spaces = Vec::new();
    for id in nodes {
        let (client, space) = cluster.space(id).await;
        clients.push(client);
        spaces.push(space);
    }
    let [of_holder, of_first, of_second] = <[Lockspace; 3]>::try_from(spaces).expect("three");
    let holder = of_holder.lock(name).acquire().await.expect("granted");
    let first = wait_for(of_first, name);
    cluster.waiters(nodes[0], name, 1).await;
    let second = wait_for(of_second, name);
    cluster.waiters(nodes[0], name, 2).await;
    Queue {
        _clients: clients,
        holder,
        first,
        second,
    }
}

impl Queue {
    /// The holder still holds, and then all get their turn.
    async fn run_down(self) -> Vec<Token> {
        let token = self.holder.check().expect("the holder never lost it");
        self.holder.unlock().await.expect("released");
        let (first, _) = granted("the first waiter", self.first).await;
        assert!(!self.second.is_finished(), "the order is kept");
        let mut tokens = vec![token, first.token()];
        first.unlock().await.expect("released");
        let (second, _) = granted("the second waiter", self.second).await;
        tokens.push(second.token());
        assert!(tokens.is_sorted_by(|a, b| a < b), "{tokens:?}");
        tokens
    }
}

/// Protects S2 and the order of the queue: when only the master dies, the holder elsewhere keeps its
/// lock and the waiters their places.
#[test]
fn a_dead_master_costs_no_lock_and_no_place() {
    run(secs(60), async {
        let mut cluster = Cluster::of(5).start().await;
        cluster.master_at(5, "r").await;
        let queue = queue(&cluster, "r", [1, 2, 3]).await;
        let token = queue.holder.token();
        let killed = now();
        cluster.kill(5);
        let report = until("the resource has a new master", BOUND, async || {
            let report = cluster.resource(1, "r").await?;
            (report.master.as_str() != "n5" && !report.recovering).then_some(report)
        })
        .await;
        say!(
            "kill -9 of the master -> rebuilt at {}: {:.3?}",
            report.master,
            now().since(killed)
        );
        let holders: Vec<_> = report.holders.iter().map(|l| l.token).collect();
        assert_eq!(holders, [token], "the same lock under the same token");
        let waiters: Vec<_> = report.waiters.iter().map(|l| l.node.as_str()).collect();
        assert_eq!(waiters, ["n2", "n3"]);
        assert!(!queue.first.is_finished() && !queue.second.is_finished());
        queue.run_down().await;
    });
}

/// Protects S2 and L1 against the death of the node that leads the replicated log: locks elsewhere
/// go on, another leads, and the cluster still decides.
#[test]
fn a_dead_leader_costs_no_lock() {
    run(secs(60), async {
        let mut cluster = Cluster::of(3).start().await;
        let leader = cluster.leader(1).await;
        let [a, b] = [1, 2, 3]
            .into_iter()
            .filter(|&id| id != leader)
            .collect::<Vec<u16>>()[..]
        else {
            panic!("two others")
        };
        cluster.master_at(a, "r").await;
        let queue = queue(&cluster, "r", [a, b, b]).await;
        let killed = now();
        cluster.kill(leader);
        cluster.whole_of(&[a, b]).await;
        say!(
            "kill -9 of the leader -> view without it: {:.3?}",
            now().since(killed)
        );
        let next = cluster.leader(a).await;
        assert_ne!(next, leader);
        queue.run_down().await;
        // A new lockspace is a decision of the log.
        let client = cluster.client(b).await;
        within(
            "a decision of the new leader",
            BOUND,
            client.lockspace("new").open(),
        )
        .await
        .expect("a lockspace");
    });
}

/// Protects L1 when everything falls together: holder, master and leader in one node.
#[test]
fn holder_master_and_leader_in_one_die() {
    run(secs(60), async {
        let mut cluster = Cluster::of(3).start().await;
        let leader = cluster.leader(1).await;
        let other = leader % 3 + 1;
        cluster.master_at(leader, "r").await;
        let (_holder, space) = cluster.space(leader).await;
        let lock = space.lock("r").acquire().await.expect("granted");
        let (_waiter, space) = cluster.space(other).await;
        let waiting = wait_for(space, "r");
        cluster.waiters(other, "r", 1).await;
        let killed = now();
        cluster.kill(leader);
        let (next, at) = granted("the waiter", waiting).await;
        say!(
            "kill -9 of holder, master and leader -> next grant: {:.3?}",
            at.since(killed)
        );
        assert!(next.token() > lock.token());
        assert!(!lock.is_valid());
    });
}

/// Protects D1: after a kill of all nodes at once the cluster is the same: its identity, its
/// lockspaces with their numbers, and epochs and tokens that only grow.
#[test]
fn a_cluster_that_was_killed_comes_back_the_same() {
    run(secs(60), async {
        let mut cluster = Cluster::of(3).start().await;
        let (client, space) = cluster.space(1).await;
        let odd = client.lockspace("odd").value_len(48).open().await;
        let odd = odd.expect("a lockspace").id();
        let lock = space.lock("r").acquire().await.expect("granted");
        let token = lock.token();
        let identity = client.welcome().cluster_id;
        assert!(identity.is_some(), "{identity:?}");
        for id in [2, 3] {
            let spaces = |s: &StatusReport| s.lockspaces.len() == 2;
            cluster
                .status_when(id, "both lockspaces", BOUND, spaces)
                .await;
        }
        let before = cluster.status(1).await.expect("n1 answers");
        for id in cluster.ids() {
            cluster.kill(id);
        }
        let killed = now();
        for id in cluster.ids() {
            cluster.start(id);
        }
        cluster.whole().await;
        say!(
            "kill -9 of all three -> all members again: {:.3?}",
            now().since(killed)
        );
        for id in cluster.ids() {
            let client = cluster.client(id).await;
            assert_eq!(client.welcome().cluster_id, identity);
            let after = client.status().await.expect("a status");
            assert!(
                after.epoch > before.epoch,
                "{} > {}",
                after.epoch,
                before.epoch
            );
            let numbers = |s: &StatusReport| -> Vec<_> {
                s.lockspaces
                    .iter()
                    .map(|l| (l.id, l.name.clone(), l.value_len))
                    .collect()
            };
            assert_eq!(numbers(&after), numbers(&before));
            let space = client.lockspace("odd").open().await.expect("a lockspace");
            assert_eq!((space.id(), space.value_len()), (odd, 48));
        }
        assert!(!lock.is_valid());
        let (_client, space) = cluster.space(2).await;
        let next = within(
            "a grant after the restart",
            BOUND,
            space.lock("r").acquire(),
        )
        .await;
        let next = next.expect("granted").token();
        assert!(next > token, "{next} > {token}");
    });
}

/// Protects the promise to waiters behind a client that crashes: its locks are released at once,
/// with no wait for any lease.
#[test]
fn a_killed_client_releases_at_once() {
    run(secs(60), async {
        let cluster = Cluster::of(3).start().await;
        let program = env!("CARGO_BIN_EXE_torture-client");
        let mut client = ClientProcess::start(program, cluster.socket(1), "r");
        let Record::Granted { token, .. } = client.next(BOUND).await else {
            panic!("the client is granted the lock");
        };
        let (_waiter, space) = cluster.space(2).await;
        let waiting = wait_for(space, "r");
        cluster.waiters(2, "r", 1).await;
        let killed = now();
        client.kill().await;
        let (next, at) = granted("the waiter of a killed client's lock", waiting).await;
        let took = at.since(killed);
        say!("kill -9 of a client -> next grant: {took:.3?}");
        assert!(next.token().0 > token);
        assert!(took < secs(1), "{took:?}: less than a lease");
    });
}

/// Protects L2 and the exit code: a node that is asked to stop leaves cleanly. A client that lets go
/// when it is told makes room at once; one that does not keeps its lock to the end of the lease, and
/// no longer. Nobody has to be proved dead.
#[test]
fn sigterm_leaves_cleanly() {
    run(secs(60), async {
        let mut cluster = Cluster::of(3).start().await;
        for (leaver, other, polite) in [(1, 2, true), (2, 3, false)] {
            let name = format!("held-at-n{leaver}");
            cluster.master_at(leaver, &name).await;
            let (holder, space) = cluster.space(leaver).await;
            let lock = space.lock(&name).acquire().await.expect("granted");
            let token = lock.token();
            let (_waiter, space) = cluster.space(other).await;
            let waiting = wait_for(space, &name);
            cluster.waiters(other, &name, 1).await;
            let mut notices = holder.notices();
            let asked = now();
            cluster.daemon(leaver).signal(rustix::process::Signal::TERM);
            let notice = within("the client is told", BOUND, notices.next()).await;
            assert!(
                matches!(notice, Some(Notice::Suspended { .. })),
                "{notice:?}"
            );
            let end = lock.valid_until();
            let kept = if polite {
                drop((lock, holder));
                None
            } else {
                Some((lock, holder))
            };
            let (next, at) = granted("the waiter", waiting).await;
            let took = at.since(asked);
            assert!(next.token() > token);
            if let Some((lock, _)) = kept {
                say!("SIGTERM -> next grant, the holder stays: {took:.3?}");
                assert!(at >= end, "not while the holder may rely on its lock");
                assert!(!lock.is_valid());
            } else {
                say!("SIGTERM -> next grant, the holder lets go: {took:.3?}");
                assert!(took < secs(1), "{took:?}: less than a lease");
            }
            let status = cluster.daemon(leaver).ended(BOUND).await;
            assert_eq!(status.code(), Some(0));
            let gone =
                |s: &StatusReport| s.members[usize::from(leaver) - 1].state == MemberState::Absent;
            let status = cluster.status_when(other, "it is gone", BOUND, gone).await;
            assert!(status.pending_fences.is_empty());
            assert!(cluster.log(other).contains("reason=\"left-cleanly\""));
            cluster.start(leaver);
            cluster.whole().await;
        }
    });
}
