//! Links that are cut, one-way, slow, or lossy.

use mainstay_client::{LockError, Notice, Refusal, now, report::StatusReport};
use mainstay_torture::{Cluster, Namespaces, ms, possible, run, say, secs, until, within};
use std::time::Duration;

const BOUND: Duration = secs(10);

fn namespaces(nodes: u16, links: u8) -> Option<Namespaces> {
    match Namespaces::make(nodes, links) {
        Ok(made) => Some(made),
        Err(why) => {
            // Not possible; says so, and fails where it must be.
            let _ = possible("network namespaces", Err(why));
            None
        }
    }
}

/// Node 3 holds a lock and is cut off; what follows is the same however the cut is made.
async fn minority(cluster: &mut Cluster, cut: impl AsyncFn(&Cluster, bool)) {
    let before = cluster.incarnation(1, 3).await;
    let (isolated, space) = cluster.space(3).await;
    let lock = space.lock("r").acquire().await.expect("granted");
    let mut notices = isolated.notices();
    let (_waiter, other) = cluster.space(1).await;
    let waiting = tokio::spawn(async move { (other.lock("r").acquire().await, now()) });
    cluster.waiters(1, "r", 1).await;
    cut(cluster, true).await;
    let at = now();

    let suspended = |s: &StatusReport| !s.active;
    cluster.status_when(3, "suspended", BOUND, suspended).await;
    say!("cut -> the minority is suspended: {:.3?}", now().since(at));
    assert!(!lock.is_valid());
    let told = within("its client is told", BOUND, notices.next()).await;
    assert!(matches!(told, Some(Notice::Suspended { .. })), "{told:?}");
    let refused = space.lock("other").try_lock().acquire().await;
    assert!(
        matches!(refused, Err(LockError::Refused(Refusal::NoQuorum))),
        "{refused:?}"
    );

    let (next, granted) = within("the majority goes on", BOUND, waiting)
        .await
        .expect("the waiting task lives");
    let next = next.expect("granted");
    say!(
        "cut -> the majority's next grant: {:.3?}",
        granted.since(at)
    );
    assert!(next.token() > lock.token());
    cluster.whole_of(&[1, 2]).await;

    cut(cluster, false).await;
    let healed = now();
    cluster.whole().await;
    say!("heal -> all are members: {:.3?}", now().since(healed));
    assert!(
        cluster.incarnation(1, 3).await > before,
        "a new incarnation"
    );
    assert!(!lock.is_valid(), "a lost lock stays lost");
    assert!(next.is_valid());
}

/// Protects S5: a node that is cut off suspends, its client is told, the others go on without it,
/// and after the heal it rejoins as a new incarnation. With real interfaces that go down.
#[test]
fn a_minority_suspends_and_rejoins() {
    run(secs(60), async {
        let Some(namespaces) = namespaces(3, 1) else {
            return;
        };
        let mut cluster = Cluster::of(3).in_namespaces(namespaces).start().await;
        let cut = async |cluster: &Cluster, cut: bool| {
            cluster.namespaces().plug(3, 0, !cut);
        };
        minority(&mut cluster, cut).await;
    });
}

/// Protects the same behind a switch that keeps connections and swallows what they carry, for which
/// no rights are needed.
#[test]
fn a_minority_behind_a_dead_switch_suspends_and_rejoins() {
    run(secs(60), async {
        let mut cluster = Cluster::of(3).proxied().start().await;
        let cut = async |cluster: &Cluster, cut: bool| cluster.proxy().isolate(3, cut);
        minority(&mut cluster, cut).await;
    });
}

/// Protects L2 in a cluster with two links: the loss of one, at every node at once, disturbs no
/// lock and no view, and is seen in the status; nor does it when it comes back and the other goes.
#[test]
fn one_of_two_links_is_not_missed() {
    run(secs(60), async {
        let Some(namespaces) = namespaces(3, 2) else {
            return;
        };
        let cluster = Cluster::of(3).in_namespaces(namespaces).start().await;
        let both = |s: &StatusReport| s.links.len() == 4 && s.links.iter().all(|l| l.up);
        for id in cluster.ids() {
            cluster.status_when(id, "both links up", BOUND, both).await;
        }
        let epoch = cluster.status(1).await.expect("n1 answers").epoch;
        let (_holder, space) = cluster.space(1).await;
        let held = space.lock("held").acquire().await.expect("granted");
        let (_other, other) = cluster.space(2).await;
        for link in [0, 1] {
            cluster.namespaces().power(link, false);
            let down = |s: &StatusReport| {
                let here = s.links.iter().filter(|l| l.link.0 == link);
                here.clone().count() == 2 && here.clone().all(|l| !l.up)
            };
            // Locks move from node to node while the nodes notice, and after.
            let began = now();
            let mut moved = 0;
            let mut longest = Duration::ZERO;
            until("the link is seen down everywhere", BOUND, async || {
                let at = now();
                for space in [&space, &other] {
                    let lock = within("a grant", BOUND, space.lock("moves").acquire()).await;
                    lock.expect("granted").unlock().await.expect("released");
                    moved += 1;
                }
                longest = longest.max(now().since(at));
                for id in cluster.ids() {
                    cluster.status(id).await.filter(down)?;
                }
                Some(())
            })
            .await;
            say!(
                "link {link} down: seen after {:.3?}, {moved} locks moved meanwhile, longest pair \
                 {longest:.3?}",
                now().since(began)
            );
            assert!(held.is_valid());
            cluster.namespaces().power(link, true);
            for id in cluster.ids() {
                let status = cluster.status_when(id, "both links up again", secs(20), both);
                assert_eq!(status.await.epoch, epoch, "no view was changed for it");
            }
        }
        assert!(held.is_valid());
    });
}

/// What follows a link that carries only one way between nodes 2 and 3: whatever the cluster decides,
/// it decides one thing, goes on, and is whole after the mend.
async fn one_way(cluster: &mut Cluster, mute: impl AsyncFn(&Cluster, bool)) {
    let (_client, space) = cluster.space(1).await;
    let first = space.lock("r").acquire().await.expect("granted");
    let mut token = first.token();
    first.unlock().await.expect("released");
    mute(cluster, true).await;
    let at = now();
    let epoch = cluster.status(1).await.expect("n1 answers").epoch;
    let removed = cluster
        .status_when(1, "one of the two is removed", BOUND, |s| {
            s.epoch > epoch && s.votes == 2
        })
        .await;
    say!(
        "one-way cut -> view {} without {:?}: {:.3?}",
        removed.epoch,
        removed
            .members
            .iter()
            .filter(|m| m.state != mainstay_client::report::MemberState::Member)
            .map(|m| m.name.as_str())
            .collect::<Vec<_>>(),
        now().since(at)
    );
    for _ in 0..3 {
        let lock = within("the cluster goes on", BOUND, space.lock("r").acquire())
            .await
            .expect("granted");
        assert!(lock.token() > token);
        token = lock.token();
        lock.unlock().await.expect("released");
    }
    mute(cluster, false).await;
    cluster.whole().await;
    let (_client, space) = cluster.space(3).await;
    let lock = within("a grant after the mend", BOUND, space.lock("r").acquire()).await;
    assert!(lock.expect("granted").token() > token);
}

/// Protects S5 and L1 against a route that drops one way: the cluster does not stall over two
/// members of which only one hears the other.
#[test]
fn a_one_way_cut_is_decided() {
    run(secs(60), async {
        let Some(namespaces) = namespaces(3, 1) else {
            return;
        };
        let mut cluster = Cluster::of(3).in_namespaces(namespaces).start().await;
        let mute = async |cluster: &Cluster, mute: bool| {
            cluster.namespaces().mute(3, 2, mute);
        };
        one_way(&mut cluster, mute).await;
    });
}

/// Protects the same where packets are acknowledged and lost behind that, for which no rights are
/// needed.
#[test]
fn a_one_way_cut_behind_a_proxy_is_decided() {
    run(secs(60), async {
        let mut cluster = Cluster::of(3).proxied().start().await;
        let mute = async |cluster: &Cluster, mute: bool| {
            cluster.proxy().set(2, 3, |route| route.cut = mute);
        };
        one_way(&mut cluster, mute).await;
    });
}

/// Protects against false alarms: links with a delay, and stalls as of lost packets, cost time and
/// no member.
#[test]
fn slow_and_lossy_links_cost_no_member() {
    run(secs(60), async {
        let cluster = Cluster::of(3).proxied().start().await;
        cluster.proxy().set_all(|route| {
            route.delay = ms(30);
            route.stall_every = 10;
            route.stall = ms(200);
        });
        let epoch = cluster.status(1).await.expect("n1 answers").epoch;
        let (_a, at_one) = cluster.space(1).await;
        let (_b, at_two) = cluster.space(2).await;
        let began = now();
        let mut moved = 0;
        while now().since(began) < secs(5) {
            for space in [&at_one, &at_two] {
                let lock = within("a grant", BOUND, space.lock("r").acquire()).await;
                lock.expect("granted").unlock().await.expect("released");
                moved += 1;
            }
        }
        say!("30 ms each way, every tenth packet 200 ms late: {moved} locks in 5 s");
        assert!(moved >= 4);
        for id in cluster.ids() {
            let status = cluster.status(id).await.expect("it answers");
            assert_eq!((status.epoch, status.active), (epoch, true));
        }
    });
}
