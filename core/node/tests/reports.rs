//! What clients can ask about locks: pages of resources, and contention, gathered from three nodes.

#![allow(missing_docs, clippy::unwrap_used)]

mod world;

use mainstay_base::{LockMode, LockspaceId, LockspaceName, NodeId, NodeName, ResourceName};
use mainstay_node::Input;
use mainstay_wire::{
    client::{Answer, Ask, Handle},
    contention::ContentionReport,
    lock::{Flags, Refusal},
};
use std::{collections::BTreeMap, time::Duration};
use world::World;

const N1: NodeId = NodeId(1);
const N2: NodeId = NodeId(2);
const N3: NodeId = NodeId(3);

fn default() -> LockspaceName {
    LockspaceName::new("default").unwrap()
}

fn lock(
    w: &mut World,
    node: NodeId,
    handle: u64,
    space: LockspaceId,
    name: &str,
    mode: LockMode,
) -> u64 {
    let ask = World::lock_ask(handle, space, name, mode, Flags::NONE);
    w.ask(node, u64::from(node.0), ask)
}

fn unlock(w: &mut World, node: NodeId, handle: u64) {
    let ask = World::unlock_ask(handle, Flags::NONE);
    let request = w.ask(node, u64::from(node.0), ask);
    w.wait(node, request).expect("held");
}

fn contention(w: &mut World, lockspace: Option<LockspaceName>, limit: u32) -> ContentionReport {
    let ask = Ask::Contention {
        lockspace,
        after: None,
        limit,
    };
    let request = w.ask(N3, 3, ask);
    match w.wait(N3, request) {
        Ok(Answer::Contention(report)) => *report,
        other => panic!("{other:?}"),
    }
}

/// Protects walking many locks: pages of any size together bring every resource of every master once,
/// in order, with its owners, and the last says that it is the last.
#[test]
fn pages_bring_everything_once() {
    let (mut w, space) = World::three();
    let (mut names, mut tokens) = (Vec::new(), BTreeMap::new());
    for n in 0..120u64 {
        let node = NodeId(1 + (n % 3) as u16);
        let name = format!("r{:03}", n * 7 % 120);
        let request = lock(&mut w, node, 10 + n, space, &name, LockMode::Pr);
        tokens.insert(name.clone(), w.token(node, request));
        names.push(name);
    }
    names.sort();
    for limit in [1, 7, 60, 119, 120, 10_000] {
        let (mut found, mut after, mut pages) = (Vec::new(), None, 0);
        loop {
            let page = w.locks(limit, after);
            assert!(page.resources.len() <= limit as usize);
            pages += 1;
            for resource in &page.resources {
                assert_eq!(resource.holders.len(), 1, "{}", resource.name);
                assert_eq!(resource.holders[0].owner.command, "test");
                let name = String::from_utf8(resource.name.root_bytes().to_vec()).unwrap();
                assert_eq!(resource.holders[0].token, tokens[&name]);
                found.push(name);
            }
            after = page.next();
            assert_eq!(after.is_some(), page.truncated);
            if after.is_none() {
                break;
            }
        }
        assert_eq!(found, names, "in pages of {limit}");
        assert_eq!(pages, 120_usize.div_ceil(limit as usize));
    }
    let nowhere = Some((
        LockspaceName::new("none").unwrap(),
        ResourceName::new("r").unwrap(),
    ));
    let ask = Ask::Locks {
        lockspace: None,
        pattern: None,
        limit: 5,
        after: nowhere,
    };
    let request = w.ask(N1, 1, ask);
    assert_eq!(w.wait(N1, request), Err(Refusal::NoSuchLockspace));
}

/// Protects `contention`: waits and holds of clients of all nodes are counted with their true length,
/// also of conversions and of calls given up; what waits now is told with what is in its way.
#[test]
fn contention_is_counted_where_it_ends() {
    let (mut w, space) = World::three();
    let first = lock(&mut w, N1, 1, space, "disk", LockMode::Ex);
    w.granted(N1, first);
    let second = lock(&mut w, N2, 1, space, "disk", LockMode::Pr);
    w.run(Duration::from_millis(20));
    let third = lock(&mut w, N3, 1, space, "disk", LockMode::Ex);
    w.run(Duration::from_millis(300));

    let report = contention(&mut w, Some(default()), 10);
    let names: Vec<&str> = report
        .waits
        .iter()
        .map(|w| w.waiter.node.as_str())
        .collect();
    assert_eq!(names, ["n2", "n3"], "{:?}", report.waits);
    let in_way = |place: usize| {
        let blockers = report.waits[place].blockers.iter();
        let told = blockers.map(|b| (b.owner.node.to_string(), b.held));
        told.collect::<Vec<_>>()
    };
    let n1 = ("n1".to_owned(), Some(LockMode::Ex));
    assert_eq!(in_way(0), std::slice::from_ref(&n1));
    assert_eq!(in_way(1), [n1, ("n2".to_owned(), None)]);
    assert!((320..=420).contains(&report.waits[0].waited_ms));
    assert_eq!(report.hot, [], "none of these waits has ended");
    assert_eq!(contention(&mut w, Some(default()), 1).waits.len(), 1);

    unlock(&mut w, N1, 1);
    w.granted(N2, second);
    let up = w.ask(N2, 2, World::convert_ask(1, LockMode::Pw, None));
    w.granted(N2, up);
    let cancel = w.ask(N3, 3, Ask::Cancel { handle: Handle(1) });
    assert_eq!(w.wait(N3, third), Err(Refusal::Cancelled));
    w.wait(N3, cancel).expect("it waited");
    unlock(&mut w, N2, 1);

    let report = contention(&mut w, None, 10);
    assert_eq!(report.waits, []);
    assert_eq!((report.truncated, report.silent.len()), (false, 0));
    let [times] = &report.lockspaces[..] else {
        panic!("one lockspace: {:?}", report.lockspaces);
    };
    assert_eq!(
        (&times.lockspace, times.waits.count, times.given_up),
        (&default(), 4, 1)
    );
    assert!(
        (300_000..500_000).contains(&times.waits.max_us),
        "{times:?}"
    );
    let long: u64 = times
        .waits
        .buckets
        .iter()
        .filter(|b| b.below_us > 262_144)
        .map(|b| b.count)
        .sum();
    assert_eq!(long, 2, "two waited for 300 ms: {times:?}");
    assert_eq!(times.holds.count, 3, "ex, pr and pw: {times:?}");
    assert!(
        (300_000..500_000).contains(&times.holds.max_us),
        "{times:?}"
    );
    let [hot] = &report.hot[..] else {
        panic!("one resource: {:?}", report.hot);
    };
    assert_eq!(
        (hot.name.root_bytes(), hot.waits, hot.over_us),
        (&b"disk"[..], 2, 0)
    );
    assert!(
        hot.waited_us > 600_000 && hot.longest_us < 500_000,
        "{hot:?}"
    );

    let ask = Ask::Contention {
        lockspace: None,
        after: Some(default()),
        limit: 1001,
    };
    let request = w.ask(N3, 3, ask.clone());
    assert!(matches!(w.wait(N3, request), Err(Refusal::Invalid(_))));
}

/// Protects clusters with very many lockspaces: their times come in pages, each once.
#[test]
fn lockspaces_come_in_pages() {
    let (mut w, _) = World::three();
    let mut expected = Vec::new();
    for n in 0..9u16 {
        let node = NodeId(1 + n % 3);
        let name = LockspaceName::new(format!("s{n}")).unwrap();
        let ask = Ask::OpenLockspace {
            name: name.clone(),
            value_len: None,
        };
        let request = w.ask(node, u64::from(node.0), ask);
        let Ok(Answer::Lockspace { id, .. }) = w.wait(node, request) else {
            panic!("not opened");
        };
        let request = lock(&mut w, node, 50 + u64::from(n), id, "x", LockMode::Ex);
        w.granted(node, request);
        expected.push(name);
    }
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let ask = Ask::Contention {
            lockspace: None,
            after,
            limit: 2,
        };
        let request = w.ask(N1, 1, ask);
        let Ok(Answer::Contention(report)) = w.wait(N1, request) else {
            panic!("no report");
        };
        found.extend(report.lockspaces.iter().map(|s| s.lockspace.clone()));
        after = found.last().cloned();
        if !report.truncated {
            break;
        }
    }
    assert_eq!(found, expected);
}

/// Protects people from taking a part for the whole: a member that does not answer is named, in pages
/// and in contention alike, and what the others tell comes all the same.
#[test]
fn members_that_keep_silent_are_named() {
    let (mut w, space) = World::three();
    let request = lock(&mut w, N2, 1, space, "disk", LockMode::Ex);
    w.granted(N2, request);
    w.kill(N1);
    let report = w.locks(10, None);
    let names = |silent: &[NodeName]| silent.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(names(&report.silent), ["n1"]);
    assert_eq!(report.resources.len(), 1);
    let report = contention(&mut w, None, 10);
    assert!(report.silent.is_empty() || names(&report.silent) == ["n1"]);
    assert_eq!(report.lockspaces[0].waits.count, 1);
}

/// Protects what is left to understand an accident: a node that has to stop dumps its flight recorder
/// first; a client may have it dumped if it is root or the daemon's user; and nothing is where the
/// recorder is off.
#[test]
fn a_node_that_stops_dumps_its_recorder() {
    let (mut w, space) = World::three();
    let request = lock(&mut w, N2, 1, space, "disk", LockMode::Ex);
    w.granted(N2, request);
    w.ask(N2, 2, Ask::DumpRecorder);
    let detail = "no space is left".to_owned();
    w.input(N2, Input::PersistFailed { detail });
    let host = &w.hosts[&N2];
    let [(asked, some), (failed, more)] = &host.dumps[..] else {
        panic!("two dumps: {:?}", host.dumps);
    };
    assert_eq!(
        (asked.as_str(), failed.as_str()),
        ("asked for", "no space is left")
    );
    assert!(*some > 10 && more > some, "{:?}", host.dumps);
    assert_eq!(host.stopped.as_deref(), Some("no space is left"));

    let node = w.hosts.get_mut(&N3).unwrap().node.as_mut().unwrap();
    drop(node.take_recorder());
    let request = w.ask(N3, 3, Ask::DumpRecorder);
    let refused = w.wait(N3, request).unwrap_err();
    assert_eq!(refused.code(), "unavailable");
}
