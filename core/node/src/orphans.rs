//! Orphans: listing and purging those of all members, and telling what becomes of this node's own.

use crate::{Node, query::millis};
use core::time::Duration;
use mainstay_base::{
    Instant, LockId, LockMode, LockspaceId, NodeId, NodeName, ResourceName, SessionId,
};
use mainstay_dlm::{AdoptCall, Out, Purge};
use mainstay_membership::Lockspace;
use mainstay_wire::{
    client::{Answer, Ask},
    dlm::Body,
    event::{OrphanFate, Reason, What},
    lock::{Flags, Refusal},
    orphan::{OrphanFilter, OrphanReport, OrphanWish, OrphansReport, OwnedOrphan, PurgeReport},
    report::OwnerReport,
};
use std::collections::{BTreeMap, BTreeSet};

/// How long members may take to answer.
const PATIENCE: Duration = Duration::from_millis(2000);
/// Most orphans in a page.
const LIMIT_MAX: u32 = 1000;
/// Orphans in one message between nodes, each of at most some 450 bytes.
const PART: usize = 64;

/// A list that is being gathered, or a purge that is under way.
#[derive(Debug)]
pub(crate) struct Gathering {
    session: SessionId,
    request: u64,
    kind: Kind,
    awaited: BTreeSet<NodeId>,
    pub(crate) give_up_at: Instant,
}

#[derive(Debug)]
enum Kind {
    List {
        limit: usize,
        found: BTreeMap<(NodeId, LockId), OwnedOrphan>,
        /// Of members that may have more, the last that they told of.
        more: BTreeSet<(NodeId, LockId)>,
    },
    Purge {
        purged: u64,
        denied: u64,
    },
}

impl Node {
    /// A client asks about orphans.
    pub(crate) fn ask_orphans(&mut self, now: Instant, session: SessionId, request: u64, ask: Ask) {
        let anywhere = matches!(ask, Ask::AdoptAnywhere { .. });
        let asked = match ask {
            Ask::Orphans { wish, limit, after } => {
                self.list_orphans(now, session, request, wish, limit, after)
            }
            Ask::PurgeOrphans { wish } => self.purge_orphans(now, session, request, wish),
            Ask::Adopt { .. } | Ask::AdoptAnywhere { .. } if self.leaving.is_some() => {
                Err(Refusal::Leaving)
            }
            Ask::Adopt {
                handle,
                lockspace,
                name,
                mode,
                flags,
                blocking,
            }
            | Ask::AdoptAnywhere {
                handle,
                lockspace,
                name,
                mode,
                flags,
                blocking,
            } => {
                let may = self.may_adopt(session, lockspace, &name, mode);
                may.and_then(|uid| {
                    let call = AdoptCall {
                        handle,
                        space: lockspace,
                        name,
                        mode,
                        flags,
                        blocking,
                        uid,
                    };
                    if anywhere {
                        return self.adopt_anywhere(now, session, request, &call);
                    }
                    self.dlm.adopt(now, session, request, &call);
                    Ok(())
                })
            }
            _ => Ok(()),
        };
        if let Err(why) = asked {
            self.refuse(session, request, why);
        }
    }

    /// Whether a client may have a lock on that resource in that mode at all, and if so, whose orphans
    /// it may adopt: those of its user, unless it owns the lockspace or may do everything.
    fn may_adopt(
        &self,
        session: SessionId,
        space: LockspaceId,
        name: &ResourceName,
        mode: LockMode,
    ) -> Result<Option<u32>, Refusal> {
        self.may_lock(session, space, name, mode, Flags::NONE)?;
        let caller = self.caller(session);
        let mut found = self.state.lockspaces();
        let owns = |l: &Lockspace| l.id == space && l.access.owner == caller.uid;
        Ok(Some(caller.uid).filter(|_| !caller.privileged && !found.any(owns)))
    }

    /// Whose orphans a client may purge, and in which lockspaces those of all users.
    fn may_purge(&self, session: SessionId) -> (Option<u32>, Vec<LockspaceId>) {
        let caller = self.caller(session);
        if caller.privileged {
            return (None, Vec::new());
        }
        let owned = self.state.lockspaces();
        let owned = owned.filter(|l| l.access.owner == caller.uid);
        (Some(caller.uid), owned.map(|l| l.id).collect())
    }

    /// What a client means, and which members have that.
    fn orphans_meant(&self, wish: OrphanWish) -> Result<(OrphanFilter, Vec<NodeId>), Refusal> {
        let lockspace = match &wish.lockspace {
            Some(name) => match self.state.lockspace(name) {
                Some(space) => Some(space.id),
                None => return Err(Refusal::NoSuchLockspace),
            },
            None => None,
        };
        if wish.pid.is_some() && wish.node.is_none() {
            let text = "a process number without a node; each node numbers its processes by itself";
            return Err(Refusal::Invalid(text.to_owned()));
        }
        let nodes = match &wish.node {
            Some(name) => vec![self.node_called(name)?],
            None => self.state.view().nodes(),
        };
        let filter = OrphanFilter {
            lockspace,
            pattern: wish.pattern,
            pid: wish.pid,
            uid: None,
            owned: Vec::new(),
        };
        Ok((filter, nodes))
    }

    fn node_called(&self, name: &NodeName) -> Result<NodeId, Refusal> {
        let spec = self.config.nodes.iter().find(|n| n.name == *name);
        spec.map(|spec| spec.id).ok_or_else(|| {
            let names: Vec<&str> = self.config.nodes.iter().map(|n| n.name.as_str()).collect();
            let text = format!("no node is called {name}; there are {}", names.join(", "));
            Refusal::Invalid(text)
        })
    }

    fn open_gathering(
        &mut self,
        now: Instant,
        session: SessionId,
        request: u64,
        kind: Kind,
        nodes: &[NodeId],
    ) -> u64 {
        let query = self.next_query;
        self.next_query += 1;
        let gathering = Gathering {
            session,
            request,
            kind,
            awaited: nodes.iter().copied().collect(),
            give_up_at: now + PATIENCE,
        };
        self.gatherings.insert(query, gathering);
        query
    }

    fn list_orphans(
        &mut self,
        now: Instant,
        session: SessionId,
        request: u64,
        wish: OrphanWish,
        limit: u32,
        after: Option<(NodeName, LockId)>,
    ) -> Result<(), Refusal> {
        if !(1..=LIMIT_MAX).contains(&limit) {
            let text = format!("a limit of {limit} orphans; 1 to {LIMIT_MAX} are possible");
            return Err(Refusal::Invalid(text));
        }
        let meant = self.node_meant(&wish)?;
        let (filter, mut nodes) = self.orphans_meant(wish)?;
        let after = match after {
            Some((node, lock)) => Some((self.node_called(&node)?, lock)),
            None => None,
        };
        nodes.retain(|node| after.is_none_or(|(from, _)| *node >= from));
        let kind = Kind::List {
            limit: limit as usize,
            found: BTreeMap::new(),
            more: BTreeSet::new(),
        };
        let query = self.open_gathering(now, session, request, kind, &nodes);
        for node in nodes {
            let after = after
                .filter(|(from, _)| *from == node)
                .map(|(_, lock)| lock);
            let filter = filter.clone();
            if node == self.config.me {
                let (orphans, next) = self.own_orphans(now, &filter, limit, after);
                self.on_orphans_part(node, query, orphans, next, true);
            } else {
                let body = Body::QueryOrphans {
                    query,
                    filter,
                    limit,
                    after,
                };
                self.say(node, body);
            }
        }
        let left_behind = self.all_left_behind(now, &filter, &meant);
        if let Some(gathering) = self.gatherings.get_mut(&query)
            && let Kind::List { found, .. } = &mut gathering.kind
        {
            let rest = left_behind
                .into_iter()
                .filter(|(place, _)| after.is_none_or(|after| *place > after));
            found.extend(rest);
        }
        self.finish_gathering_if_done(query);
        Ok(())
    }

    fn purge_orphans(
        &mut self,
        now: Instant,
        session: SessionId,
        request: u64,
        wish: OrphanWish,
    ) -> Result<(), Refusal> {
        let meant = self.node_meant(&wish)?;
        let (mut filter, nodes) = self.orphans_meant(wish)?;
        (filter.uid, filter.owned) = self.may_purge(session);
        let (purged, denied) = (0, 0);
        let kind = Kind::Purge { purged, denied };
        let query = self.open_gathering(now, session, request, kind, &nodes);
        let others = self.purge_left_behind(query, &filter, &meant);
        self.count_denied(query, others);
        for node in nodes {
            let filter = filter.clone();
            if node == self.config.me {
                self.dlm.purge_orphans(now, filter, node, query);
            } else {
                self.say(node, Body::PurgeOrphans { query, filter });
            }
        }
        self.finish_gathering_if_done(query);
        Ok(())
    }

    fn own_orphans(
        &self,
        now: Instant,
        filter: &OrphanFilter,
        limit: u32,
        after: Option<LockId>,
    ) -> (Vec<OwnedOrphan>, Option<LockId>) {
        let limit = limit.clamp(1, LIMIT_MAX) as usize;
        let (views, next) = self.dlm.orphans(filter, after, limit);
        let orphans = views.into_iter().map(|view| OwnedOrphan {
            lock: view.lock,
            resource: view.resource.clone(),
            mode: view.mode,
            token: view.token,
            owner: gone(view.process, now, view.since),
            expires_ms: view.expires.map(|at| millis(at.since(now))),
        });
        (orphans.collect(), next)
    }

    /// What a member asks or answers about orphans.
    pub(crate) fn on_orphans(&mut self, now: Instant, from: NodeId, body: Body) {
        match body {
            Body::QueryOrphans {
                query,
                filter,
                limit,
                after,
            } => {
                let (mut orphans, next) = self.own_orphans(now, &filter, limit, after);
                loop {
                    let rest = orphans.split_off(orphans.len().min(PART));
                    let last = rest.is_empty();
                    let next = next.filter(|_| last);
                    let part = Body::OrphansPart {
                        query,
                        orphans,
                        next,
                        last,
                    };
                    self.say(from, part);
                    if last {
                        return;
                    }
                    orphans = rest;
                }
            }
            Body::PurgeOrphans { query, filter } => {
                self.dlm.purge_orphans(now, filter, from, query);
            }
            Body::OrphansPart {
                query,
                orphans,
                next,
                last,
            } => {
                self.on_orphans_part(from, query, orphans, next, last);
                self.finish_gathering_if_done(query);
            }
            Body::OrphansPurged {
                query,
                purged,
                denied,
            } => self.on_purged_at(from, query, purged, denied),
            _ => {}
        }
    }

    fn on_orphans_part(
        &mut self,
        from: NodeId,
        query: u64,
        orphans: Vec<OwnedOrphan>,
        next: Option<LockId>,
        last: bool,
    ) {
        let Some(gathering) = self.gatherings.get_mut(&query) else {
            return;
        };
        if let Kind::List { found, more, .. } = &mut gathering.kind
            && gathering.awaited.contains(&from)
        {
            found.extend(
                orphans
                    .into_iter()
                    .map(|orphan| ((from, orphan.lock), orphan)),
            );
            more.extend(next.map(|lock| (from, lock)));
            if last {
                gathering.awaited.remove(&from);
            }
        }
    }

    /// A purge on this node is done.
    pub(crate) fn on_purged(&mut self, purge: &Purge) {
        let (query, purged, denied) = (purge.query, purge.purged, purge.denied);
        if purge.asker == self.config.me {
            self.on_purged_at(purge.asker, query, purged, denied);
        } else {
            let body = Body::OrphansPurged {
                query,
                purged,
                denied,
            };
            self.say(purge.asker, body);
        }
    }

    fn on_purged_at(&mut self, from: NodeId, query: u64, more: u64, others: u64) {
        if let Some(gathering) = self.gatherings.get_mut(&query)
            && let Kind::Purge { purged, denied } = &mut gathering.kind
            && gathering.awaited.remove(&from)
        {
            *purged += more;
            *denied += others;
        }
        self.finish_gathering_if_done(query);
    }

    /// The log has released so many that were left behind, for a purge.
    pub(crate) fn count_purged(&mut self, query: u64, more: u64) {
        if let Some(gathering) = self.gatherings.get_mut(&query)
            && let Kind::Purge { purged, .. } = &mut gathering.kind
        {
            *purged += more;
        }
        self.finish_gathering_if_done(query);
    }

    fn count_denied(&mut self, query: u64, others: u64) {
        if let Some(gathering) = self.gatherings.get_mut(&query)
            && let Kind::Purge { denied, .. } = &mut gathering.kind
        {
            *denied += others;
        }
    }

    /// The node that a client means, if it means one.
    fn node_meant(&self, wish: &OrphanWish) -> Result<Vec<NodeId>, Refusal> {
        let node = wish.node.as_ref().map(|name| self.node_called(name));
        Ok(node.transpose()?.into_iter().collect())
    }

    /// Answers those that have waited long enough for silent members.
    pub(crate) fn expire_gatherings(&mut self, now: Instant) {
        let late = self.gatherings.iter().filter(|(_, g)| g.give_up_at <= now);
        let late: Vec<u64> = late.map(|(query, _)| *query).collect();
        for query in late {
            self.finish_gathering(query);
        }
    }

    fn finish_gathering_if_done(&mut self, query: u64) {
        let gathering = self.gatherings.get(&query);
        if gathering.is_some_and(|g| g.awaited.is_empty()) && self.purge_is_over(query) {
            self.finish_gathering(query);
        }
    }

    fn finish_gathering(&mut self, query: u64) {
        let Some(mut gathering) = self.gatherings.remove(&query) else {
            return;
        };
        if !self.purge_is_over(query) {
            gathering.awaited.insert(self.config.me); // It has not heard what became of them.
            self.forget_purge(query);
        }
        let silent: Vec<NodeName> = gathering.awaited.iter().map(|n| self.name(*n)).collect();
        let answer = match gathering.kind {
            Kind::Purge { purged, denied } => Answer::OrphansPurged(PurgeReport {
                purged,
                denied,
                silent,
            }),
            Kind::List { limit, found, more } => {
                let (found, next) = page(limit, found, &more);
                let orphans = found.into_iter().map(|((node, id), orphan)| OrphanReport {
                    node: self.name(node),
                    id,
                    lockspace: self.lockspace_name(orphan.resource.space),
                    name: orphan.resource.name,
                    mode: orphan.mode,
                    token: orphan.token,
                    owner: orphan.owner,
                    expires_ms: orphan.expires_ms,
                });
                Answer::Orphans(Box::new(OrphansReport {
                    orphans: orphans.collect(),
                    next: next.map(|(node, lock)| (self.name(node), lock)),
                    silent,
                }))
            }
        };
        self.answer(gathering.session, gathering.request, answer);
    }

    /// Tells what became of an orphan of this node.
    pub(crate) fn tell_orphan(&mut self, orphan: Out) {
        let Out::Orphan {
            resource,
            mode,
            process,
            fate,
            expired,
        } = orphan
        else {
            return;
        };
        let reason = match fate {
            OrphanFate::Left => Reason::ClientGone,
            OrphanFate::Purged if expired => Reason::OrphanExpired,
            OrphanFate::Adopted { .. } | OrphanFate::Purged | OrphanFate::Ceded => {
                Reason::ClientAsked
            }
        };
        let detail = match process.command.as_str() {
            "" => format!("user {}", process.uid),
            command => format!("user {}, `{command}`", process.uid),
        };
        let what = What::Orphan {
            lockspace: self.lockspace_name(resource.space),
            name: resource.name,
            mode,
            pid: process.pid,
            fate,
        };
        self.event(what, reason, detail);
    }
}

/// A process whose session ended then.
pub(crate) fn gone(process: &OwnerReport, now: Instant, since: Instant) -> OwnerReport {
    OwnerReport {
        orphan_ms: Some(millis(now.since(since))),
        broken: None,
        ..process.clone()
    }
}

/// A lock of the cluster.
type Place = (NodeId, LockId);

/// What of all that was found belongs to this page, and after which one the next page begins.
fn page(
    limit: usize,
    mut found: BTreeMap<Place, OwnedOrphan>,
    more: &BTreeSet<Place>,
) -> (BTreeMap<Place, OwnedOrphan>, Option<Place>) {
    let mut next = more.first().copied();
    if let Some(to) = next {
        // What comes behind a gap belongs to a later page.
        found.retain(|place, _| *place <= to);
    }
    if found.len() > limit {
        let behind = found.keys().nth(limit).copied();
        if let Some(behind) = behind {
            found.split_off(&behind);
        }
        next = found.keys().next_back().copied();
    }
    (found, next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_base::Token;
    use mainstay_wire::dlm::ResourceId;

    fn found(places: &[(u16, u64)]) -> BTreeMap<Place, OwnedOrphan> {
        let orphan = |&(node, lock): &(u16, u64)| {
            let resource = ResourceId {
                space: LockspaceId(1),
                name: ResourceName::new("r").expect("short"),
            };
            let orphan = OwnedOrphan {
                lock: LockId(lock),
                resource,
                mode: LockMode::Ex,
                token: Token(lock),
                owner: OwnerReport::default(),
                expires_ms: None,
            };
            ((NodeId(node), LockId(lock)), orphan)
        };
        places.iter().map(orphan).collect()
    }

    /// Protects the list from gaps: pages end where a member may have more, and none is told twice.
    #[test]
    fn pages_have_no_gaps() {
        let at = |node, lock| (NodeId(node), LockId(lock));
        let all = [(1, 1), (1, 2), (2, 1), (2, 5)];
        let paged = |limit, more: &[Place]| {
            let (found, next) = page(limit, found(&all), &more.iter().copied().collect());
            (found.into_keys().collect::<Vec<_>>(), next)
        };
        let every: Vec<Place> = all.iter().map(|&(node, lock)| at(node, lock)).collect();
        assert_eq!(paged(4, &[]), (every.clone(), None));
        assert_eq!(paged(3, &[]), (every[..3].to_vec(), Some(at(2, 1))));
        let more = [at(1, 2), at(2, 5)];
        assert_eq!(paged(4, &more), (every[..2].to_vec(), Some(at(1, 2))));
        assert_eq!(paged(1, &more), (every[..1].to_vec(), Some(at(1, 1))));
        // A member has looked through many that do not fit.
        assert_eq!(paged(4, &[at(1, 9)]), (every[..2].to_vec(), Some(at(1, 9))));
    }
}
