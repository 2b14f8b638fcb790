//! The wait-for graph, drawn from the queues of all masters.

use crate::{Node, query::Kind, ranges};
use mainstay_base::{
    CLIENT_MESSAGE_LEN_MAX, Incarnation, Instant, LockMode, LockspaceName, NodeId, Owner, SessionId,
};
use mainstay_wire::{
    codec,
    deadlock::OwnerId,
    dlm::{MasteredLock, MasteredResource},
    report::{
        GraphBlocker, GraphOwner, GraphReport, GraphWait, LockReport, OwnerReport, ResourceReport,
    },
};
use std::collections::{BTreeMap, BTreeSet};

impl Node {
    pub(crate) fn ask_graph(
        &mut self,
        now: Instant,
        session: SessionId,
        request: u64,
        lockspace: Option<LockspaceName>,
        pattern: Option<String>,
        limit: u32,
    ) {
        match self.filter(lockspace, pattern, limit) {
            Ok(filter) => self.gather(now, session, request, Kind::Graph, filter),
            Err(why) => self.refuse(session, request, why),
        }
    }
}

/// Who owns a lock: as in the search for deadlocks, or only the lock where its node did not tell.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Whose {
    Owner(OwnerId),
    Lock(NodeId, u64),
    /// Left behind by a node that is gone; another lock of it may have that number by now.
    Left(NodeId, Incarnation, u64),
}

/// Whose the lock of a session is.
fn owner_of(node: NodeId, session: SessionId, who: &OwnerReport) -> OwnerId {
    let (uid, pid) = (who.uid, who.pid);
    match who.owner {
        Owner::Session => OwnerId::Session { node, session },
        Owner::Process => OwnerId::Process { node, uid, pid },
        Owner::Group(number) => OwnerId::Group { node, uid, number },
        Owner::Transaction(xid) => OwnerId::Transaction { uid, xid },
    }
}

/// A lock, as its master and its owner tell of it.
struct Seen<'a> {
    owner: u32,
    report: &'a LockReport,
}

#[derive(Default)]
struct Drawing {
    graph: GraphReport,
    numbers: BTreeMap<Whose, u32>,
    /// Who waits for whom, also by way of others in a queue.
    edges: BTreeMap<u32, BTreeSet<u32>>,
}

/// Draws the graph of the gathered resources; `reports` says the same in the same order.
pub(crate) fn draw(
    resources: &[(NodeId, MasteredResource)],
    reports: &[ResourceReport],
    sessions: &BTreeMap<(NodeId, u64), SessionId>,
) -> GraphReport {
    let mut drawing = Drawing::default();
    for ((_, found), report) in resources.iter().zip(reports) {
        drawing.add(found, report, sessions);
    }
    drawing.graph.circles = circles(&drawing.edges);
    drawing.graph
}

/// Leaves out what would make the answer too long for one message.
pub(crate) fn fit(graph: &mut GraphReport) {
    while codec::to_vec(graph).len() > CLIENT_MESSAGE_LEN_MAX / 2 && !graph.waits.is_empty() {
        let keep = graph.waits.len() / 2;
        graph.waits.truncate(keep);
        graph.truncated = true;
        if keep == 0 {
            graph.circles.clear();
        }
        // Those that are still spoken of.
        let mut spoken: BTreeSet<u32> = graph.circles.iter().flatten().copied().collect();
        for wait in &graph.waits {
            spoken.insert(wait.waiter);
            spoken.extend(wait.blockers.iter().map(|b| b.owner));
        }
        let numbers: BTreeMap<u32, u32> = spoken.iter().copied().zip(0..).collect();
        let renumber = |n: &mut u32| *n = numbers.get(n).copied().unwrap_or_default();
        graph.circles.iter_mut().flatten().for_each(renumber);
        for wait in &mut graph.waits {
            renumber(&mut wait.waiter);
            wait.blockers
                .iter_mut()
                .for_each(|b| renumber(&mut b.owner));
        }
        let owners = std::mem::take(&mut graph.owners);
        let kept = owners
            .into_iter()
            .zip(0u32..)
            .filter(|(_, n)| spoken.contains(n));
        graph.owners = kept.map(|(owner, _)| owner).collect();
    }
}

impl Drawing {
    fn add(
        &mut self,
        found: &MasteredResource,
        report: &ResourceReport,
        sessions: &BTreeMap<(NodeId, u64), SessionId>,
    ) {
        let mut see = |locks: &[MasteredLock], reports: &[LockReport]| {
            let mut seen = Vec::new();
            for (lock, report) in locks.iter().zip(reports.iter().cloned()) {
                let owner = self.owner(lock, &report, sessions);
                seen.push((owner, report));
            }
            seen
        };
        let granted = see(&found.granted, &report.holders);
        let converting = see(&found.converting, &report.converters);
        let waiting = see(&found.waiting, &report.waiters);
        let queue: Vec<Seen<'_>> = converting
            .iter()
            .chain(&waiting)
            .map(|(owner, report)| Seen {
                owner: *owner,
                report,
            })
            .collect();
        let holders: Vec<Seen<'_>> = granted
            .iter()
            .chain(&converting)
            .map(|(owner, report)| Seen {
                owner: *owner,
                report,
            })
            .collect();
        for (place, wait) in queue.iter().enumerate() {
            self.add_wait(report, wait, &holders, &queue[..place]);
        }
    }

    fn add_wait(
        &mut self,
        resource: &ResourceReport,
        wait: &Seen<'_>,
        holders: &[Seen<'_>],
        ahead: &[Seen<'_>],
    ) {
        let Some(asked) = wait.report.requested else {
            return;
        };
        if wait.report.range.is_some() {
            return self.add_range_wait(resource, wait, holders, ahead);
        }
        let same = |other: &Seen<'_>| {
            other.report.id == wait.report.id && other.report.node == wait.report.node
        };
        let mut blockers = Vec::new();
        for holder in holders.iter().filter(|h| !same(h)) {
            let held = holder.report.granted.filter(|held| !held.compatible(asked));
            if held.is_some() {
                let owner = holder.owner;
                let range = None;
                blockers.push(GraphBlocker { owner, held, range });
            }
        }
        if let Some(next) = ahead.last() {
            let (owner, held) = (next.owner, None);
            let range = None;
            blockers.push(GraphBlocker { owner, held, range });
        }
        // What another of its owner's locks stops, that owner may let in.
        let by_owner = |h: &&Seen<'_>| {
            let conflict = |held: LockMode| !held.compatible(asked);
            !same(h) && h.owner == wait.owner && h.report.granted.is_some_and(conflict)
        };
        let stuck = !holders.iter().any(|holder| by_owner(&holder));
        // Those ahead that suit it will be granted with it, but what stops them stops it too.
        let mut wanted = vec![asked];
        let mut edges = BTreeSet::new();
        for other in ahead.iter().rev() {
            let Some(mode) = other.report.requested else {
                continue;
            };
            if wanted.iter().any(|w| !w.compatible(mode)) {
                edges.insert(other.owner);
            }
            if !wanted.contains(&mode) {
                wanted.push(mode);
            }
        }
        for holder in holders.iter().filter(|h| !same(h)) {
            let in_way = |held: LockMode| {
                // A converter ahead is not in its own way.
                let own = holder.report.requested.filter(|_| {
                    ahead.iter().any(|a| {
                        a.report.id == holder.report.id && a.report.node == holder.report.node
                    })
                });
                wanted
                    .iter()
                    .any(|w| !w.compatible(held) && (Some(*w) != own || *w == asked))
            };
            if holder.report.granted.is_some_and(in_way) {
                edges.insert(holder.owner);
            }
        }
        edges.remove(&wait.owner);
        if stuck {
            self.edges.entry(wait.owner).or_default().extend(edges);
        }
        self.graph.waits.push(GraphWait {
            waiter: wait.owner,
            lockspace: resource.lockspace.clone(),
            name: resource.name.clone(),
            lock: wait.report.id,
            granted: wait.report.granted,
            requested: asked,
            age_ms: wait.report.age_ms,
            blockers,
            range: None,
        });
    }

    /// As [`Drawing::add_wait`] for a call for a range, which waits for no others than those that are
    /// in its own way.
    fn add_range_wait(
        &mut self,
        resource: &ResourceReport,
        wait: &Seen<'_>,
        holders: &[Seen<'_>],
        ahead: &[Seen<'_>],
    ) {
        let Some(requested) = wait.report.requested else {
            return;
        };
        let in_way = |holder: &&Seen<'_>| ranges::in_the_way(holder.report, wait.report);
        let before = |other: &&Seen<'_>| {
            let holders = holders.iter().map(|holder| holder.report);
            ranges::stands_before(other.report, wait.report, holders)
        };
        let held = holders.iter().filter(in_way);
        let last = ahead.iter().rev().find(before);
        let blocker = |seen: &Seen<'_>| GraphBlocker {
            owner: seen.owner,
            held: seen.report.granted,
            range: seen.report.range,
        };
        let blockers = held.chain(last).map(blocker).collect();
        let all = holders.iter().filter(in_way);
        let all = all.chain(ahead.iter().filter(before));
        let others = all
            .map(|seen| seen.owner)
            .filter(|owner| *owner != wait.owner);
        // As with whole locks: another lock of its owner is in its way.
        let by_owner = |h: &&Seen<'_>| h.owner == wait.owner && in_way(h);
        if !holders.iter().any(|holder| by_owner(&holder)) {
            self.edges.entry(wait.owner).or_default().extend(others);
        }
        self.graph.waits.push(GraphWait {
            waiter: wait.owner,
            lockspace: resource.lockspace.clone(),
            name: resource.name.clone(),
            lock: wait.report.id,
            granted: None,
            requested,
            age_ms: wait.report.age_ms,
            blockers,
            range: wait.report.range,
        });
    }

    fn owner(
        &mut self,
        lock: &MasteredLock,
        report: &LockReport,
        sessions: &BTreeMap<(NodeId, u64), SessionId>,
    ) -> u32 {
        let id = lock.lock.0;
        let session = sessions.get(&(lock.node, id)).copied();
        let left = report.owner.orphan_ms.is_some();
        let owner = match session {
            _ if left => Whose::Left(lock.node, lock.incarnation, id),
            Some(session) => Whose::Owner(owner_of(lock.node, session, &report.owner)),
            None => Whose::Lock(lock.node, id),
        };
        let owners = &mut self.graph.owners;
        *self.numbers.entry(owner).or_insert_with(|| {
            owners.push(GraphOwner {
                node: report.node.clone(),
                session,
                owner: report.owner.clone(),
            });
            u32::try_from(owners.len() - 1).unwrap_or(u32::MAX)
        })
    }
}

/// Groups of owners each of which waits, directly or by way of others of the group, for all others
/// of it; in the order of their numbers.
fn circles(edges: &BTreeMap<u32, BTreeSet<u32>>) -> Vec<Vec<u32>> {
    let mut order = Vec::new();
    let mut seen = BTreeSet::new();
    for &start in edges.keys() {
        visit(start, edges, &mut seen, &mut order);
    }
    let mut back: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
    for (&from, to) in edges {
        for &to in to {
            back.entry(to).or_default().insert(from);
        }
    }
    let mut found = Vec::new();
    let mut seen = BTreeSet::new();
    for &root in order.iter().rev() {
        let mut group = Vec::new();
        visit(root, &back, &mut seen, &mut group);
        if group.len() > 1 {
            group.sort_unstable();
            found.push(group);
        }
    }
    found.sort_unstable();
    found
}

/// Appends all that can be reached and has not been seen, each after what can be reached from it.
fn visit(
    start: u32,
    edges: &BTreeMap<u32, BTreeSet<u32>>,
    seen: &mut BTreeSet<u32>,
    order: &mut Vec<u32>,
) {
    if !seen.insert(start) {
        return;
    }
    let next = |node: u32| edges.get(&node).into_iter().flatten().copied();
    let mut stack = vec![(start, next(start))];
    while let Some((node, to)) = stack.last_mut() {
        match to.find(|to| seen.insert(*to)) {
            Some(to) => stack.push((to, next(to))),
            None => {
                order.push(*node);
                stack.pop();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_base::{LockId, NodeName, Token};

    /// Protects `mainstay graph` and `why`: a circle is shown with all in it and nobody else.
    #[test]
    fn circles_are_found() {
        let edges = [(1, 2), (2, 3), (3, 1), (4, 1), (3, 5), (6, 7), (7, 6)];
        let mut map: BTreeMap<u32, BTreeSet<u32>> = BTreeMap::new();
        for (from, to) in edges {
            map.entry(from).or_default().insert(to);
        }
        assert_eq!(circles(&map), [vec![1, 2, 3], vec![6, 7]]);
        map.get_mut(&3).expect("it waits").remove(&1);
        assert_eq!(circles(&map), [vec![6, 7]]);
    }

    /// A lock on node 1 or 2 by its number: 1 to 3 are of transaction 7, on both nodes, others of
    /// sessions of their own.
    fn lock(
        id: u64,
        held: Option<LockMode>,
        asked: Option<LockMode>,
    ) -> (MasteredLock, LockReport) {
        let node = NodeId(1 + (id % 2) as u16);
        let mastered = MasteredLock {
            node,
            incarnation: mainstay_base::Incarnation(1),
            lock: LockId(id),
            granted: held,
            requested: asked,
            token: Token::NONE,
            range: None,
        };
        let owner = match id <= 3 {
            true => Owner::Transaction(7),
            false => Owner::Session,
        };
        let report = LockReport {
            node: NodeName::new(format!("n{node}")).expect("valid"),
            id: LockId(id),
            granted: held,
            requested: asked,
            token: Token::NONE,
            owner: OwnerReport {
                pid: id as u32,
                uid: 1000,
                owner,
                ..OwnerReport::default()
            },
            age_ms: 5,
            range: None,
        };
        (mastered, report)
    }

    /// Draws resources, each with who holds it and who waits, by numbers of locks.
    fn drawn(resources: &[(&[u64], &[u64])]) -> GraphReport {
        let mut found = Vec::new();
        let mut reports = Vec::new();
        for (at, (held, waiting)) in resources.iter().enumerate() {
            let ex = Some(LockMode::Ex);
            let (granted, holders) = held.iter().map(|id| lock(*id, ex, None)).unzip();
            let (queue, waiters) = waiting.iter().map(|id| lock(*id, None, ex)).unzip();
            let name = mainstay_base::ResourceName::new(format!("r{at}")).expect("valid");
            let mastered = MasteredResource {
                resource: mainstay_wire::dlm::ResourceId {
                    space: mainstay_base::LockspaceId(1),
                    name: name.clone(),
                },
                recovering: false,
                token: Token::NONE,
                value: None,
                granted,
                converting: Vec::new(),
                waiting: queue,
            };
            found.push((NodeId(1), mastered));
            reports.push(ResourceReport {
                lockspace: LockspaceName::new("default").expect("valid"),
                name,
                master: NodeName::new("n1").expect("valid"),
                recovering: false,
                token: Token::NONE,
                value: None,
                holders,
                converters: Vec::new(),
                waiters,
            });
        }
        // Each lock has a session of its own.
        let sessions = (1..10).map(|id| ((NodeId(1 + (id % 2) as u16), id), SessionId(id)));
        draw(&found, &reports, &sessions.collect())
    }

    /// Protects `mainstay graph` and `why`: circles are of owners, whose locks may be on several nodes,
    /// and none is drawn where an owner's wait is in its own way, or two of its sessions wait for others.
    #[test]
    fn circles_are_of_owners() {
        let through = drawn(&[(&[1], &[4]), (&[4], &[2])]);
        assert_eq!(through.circles, [vec![0, 1]], "{through:?}");
        assert_eq!(through.owners.len(), 2);
        let own = drawn(&[(&[1], &[4, 2])]);
        assert!(own.circles.is_empty(), "{own:?}");
        let between = drawn(&[(&[1], &[2]), (&[2], &[3])]);
        assert!(between.circles.is_empty(), "{between:?}");
        let line = drawn(&[(&[4], &[1]), (&[2], &[5])]);
        assert!(line.circles.is_empty(), "{line:?}");
    }
}
