//! Reports: what this node tells of itself, and what it gathers from all members.

use crate::{
    Node,
    contention::Gathered,
    orphans::gone,
    why::{self, Absent, Masterless},
};
use core::time::Duration;
use mainstay_base::{
    Instant, LockId, LockspaceId, LockspaceName, NodeId, NodeName, ResourceName, SessionId, Token,
};
use mainstay_dlm::{LOCKS_PER_QUEUE, OwnedView, Scan, Wanted};
use mainstay_wire::{
    client::Answer,
    dlm::{Body, MasteredLock, MasteredResource, OwnedLock, ResourceId},
    lock::Refusal,
    report::{LockReport, LocksReport, LockspaceFilter, OwnerReport, ResourceReport, WhyReport},
};
use std::collections::{BTreeMap, BTreeSet};

/// How long members may take to answer.
const PATIENCE: Duration = Duration::from_millis(1000);
/// How long they may take to look through all that they master, beside their work.
const PATIENCE_SCAN: Duration = Duration::from_millis(2000);
/// Most resources in a report.
const LIMIT_MAX: u32 = 10_000;
/// Most bytes of names that are asked for at once: a message between nodes may have 128 KiB.
const ONLY_BYTES_MAX: usize = 96 << 10;
/// Bytes of resources in one message between nodes, which may exceed it by one resource.
const PART_LEN: usize = 32 << 10;
/// Owners in one message between nodes, each of at most some 300 bytes.
const PART_OWNERS: usize = 128;
/// Most locks of one node whose owners are asked for, so that question and answer fit a message.
const OWNERS_ASKED: usize = 4096;
/// Locks after which a page of resources ends, but for those of its last one.
const PAGE_LOCKS: usize = 3000;
/// Most clients of a resource without a master that a sentence names.
const CLIENTS_TOLD: usize = 16;

/// A report that is being gathered.
#[derive(Debug)]
pub(crate) struct Query {
    session: SessionId,
    request: u64,
    kind: Kind,
    pub(crate) limit: usize,
    pub(crate) awaited: BTreeSet<NodeId>,
    /// Did not answer in time what was asked first.
    silent: BTreeSet<NodeId>,
    pub(crate) give_up_at: Instant,
    resources: Vec<(NodeId, MasteredResource)>,
    owners: BTreeMap<(NodeId, u64), OwnedLock>,
    sessions: BTreeMap<(NodeId, u64), SessionId>,
    /// The owners of the gathered locks have been asked for.
    asked_owners: bool,
    truncated: bool,
    /// A member has more to tell of what comes after this.
    complete_to: Option<ResourceId>,
    pub(crate) contention: Gathered,
}

#[derive(Debug)]
pub(crate) enum Kind {
    /// Resources page by page; their owners are asked for afterwards.
    Locks,
    Why {
        lockspace: LockspaceName,
        name: ResourceName,
    },
    Graph,
    /// How long is waited and held; then what is in the way of the longest waits, and whose that is.
    Contention,
    /// What has been found out about a resource; whether its waiters stand in a circle is missing.
    Circles(Box<WhyReport>),
}

impl Kind {
    /// Only resources on which somebody waits matter.
    fn waits(&self) -> bool {
        matches!(self, Kind::Graph | Kind::Circles(_))
    }

    /// The owners are asked for when it is known of which locks.
    fn asks_owners(&self) -> bool {
        !matches!(self, Kind::Why { .. })
    }
}

impl Query {
    /// Puts what was gathered in order, and leaves out what does not fit or may have gaps.
    fn cut(&mut self) {
        self.resources
            .sort_by(|a, b| a.1.resource.cmp(&b.1.resource));
        let count = self.resources.len();
        if let Some(to) = &self.complete_to {
            self.resources.retain(|(_, found)| found.resource <= *to);
        }
        self.resources.truncate(self.limit);
        if matches!(self.kind, Kind::Locks) {
            let mut locks = 0;
            let fits = self.resources.iter().take_while(|(_, found)| {
                let room = locks < PAGE_LOCKS;
                locks += found.granted.len() + found.converting.len() + found.waiting.len();
                room
            });
            let fits = fits.count();
            self.resources.truncate(fits);
        } else {
            let long = |queue: &Vec<MasteredLock>| queue.len() >= LOCKS_PER_QUEUE;
            let mut found = self.resources.iter().map(|(_, found)| found);
            self.truncated |=
                found.any(|r| long(&r.granted) || long(&r.converting) || long(&r.waiting));
        }
        self.truncated |= self.resources.len() < count;
    }
}

impl Node {
    pub(crate) fn ask_locks(
        &mut self,
        now: Instant,
        session: SessionId,
        request: u64,
        lockspace: Option<LockspaceName>,
        pattern: Option<String>,
        limit: u32,
        after: Option<(LockspaceName, ResourceName)>,
    ) {
        let filter = self.filter(lockspace, pattern, limit).and_then(|filter| {
            let after = after.map(|(space, name)| match self.state.lockspace(&space) {
                Some(space) => Ok((space.id, name)),
                None => Err(Refusal::NoSuchLockspace),
            });
            let after = after.transpose()?;
            Ok(LockspaceFilter { after, ..filter })
        });
        match filter {
            Ok(filter) => self.gather(now, session, request, Kind::Locks, filter),
            Err(why) => self.refuse(session, request, why),
        }
    }

    /// What a client wants to see of the resources.
    pub(crate) fn filter(
        &self,
        lockspace: Option<LockspaceName>,
        pattern: Option<String>,
        limit: u32,
    ) -> Result<LockspaceFilter, Refusal> {
        if limit == 0 || limit > LIMIT_MAX {
            let text = format!("a limit of {limit} resources; 1 to {LIMIT_MAX} are possible");
            return Err(Refusal::Invalid(text));
        }
        let lockspace = match lockspace.map(|name| self.state.lockspace(&name).map(|s| s.id)) {
            Some(None) => return Err(Refusal::NoSuchLockspace),
            Some(id) => id,
            None => None,
        };
        Ok(LockspaceFilter {
            lockspace,
            pattern,
            limit,
            after: None,
            only: Vec::new(),
        })
    }

    pub(crate) fn ask_why(
        &mut self,
        now: Instant,
        session: SessionId,
        request: u64,
        lockspace: LockspaceName,
        name: ResourceName,
    ) {
        let Some(id) = self.state.lockspace(&lockspace).map(|s| s.id) else {
            return self.refuse(session, request, Refusal::NoSuchLockspace);
        };
        let filter = LockspaceFilter {
            limit: LIMIT_MAX,
            only: vec![(id, name.clone())],
            ..LockspaceFilter::default()
        };
        self.gather(now, session, request, Kind::Why { lockspace, name }, filter);
    }

    pub(crate) fn gather(
        &mut self,
        now: Instant,
        session: SessionId,
        request: u64,
        kind: Kind,
        filter: LockspaceFilter,
    ) {
        let (waits, owners) = (kind.waits(), !kind.asks_owners());
        let limit = filter.limit as usize;
        let query = self.open_query(now + PATIENCE_SCAN, session, request, kind, limit);
        for node in self.other_members() {
            let filter = filter.clone();
            let body = match (waits, owners) {
                (true, _) => Body::QueryWaits { query, filter },
                (false, true) => Body::Query { query, filter },
                (false, false) => Body::QueryResources { query, filter },
            };
            self.say(node, body);
        }
        self.on_query(now, self.config.me, query, filter, waits, owners);
    }

    pub(crate) fn other_members(&self) -> Vec<NodeId> {
        let members = self.state.view().nodes().into_iter();
        members.filter(|node| *node != self.config.me).collect()
    }

    /// Begins a report, for which all members are asked.
    pub(crate) fn open_query(
        &mut self,
        give_up_at: Instant,
        session: SessionId,
        request: u64,
        kind: Kind,
        limit: usize,
    ) -> u64 {
        let query = self.next_query;
        self.next_query += 1;
        let others = self.other_members().into_iter();
        self.queries.insert(
            query,
            Query {
                session,
                request,
                kind,
                limit,
                awaited: others.chain([self.config.me]).collect(),
                silent: BTreeSet::new(),
                give_up_at,
                resources: Vec::new(),
                owners: BTreeMap::new(),
                sessions: BTreeMap::new(),
                asked_owners: false,
                truncated: false,
                complete_to: None,
                contention: Gathered::default(),
            },
        );
        query
    }

    /// Goes on with a report by asking all members for these resources, and then for the owners.
    pub(crate) fn gather_only(
        &mut self,
        now: Instant,
        query: u64,
        mut only: Vec<(LockspaceId, ResourceName)>,
    ) {
        // They go in one message.
        let mut room = ONLY_BYTES_MAX;
        let fits = only.iter().take_while(|(_, name)| {
            let fits = room.checked_sub(name.encoded_len() + 8);
            room = fits.unwrap_or(0);
            fits.is_some()
        });
        let fits = fits.count();
        let truncated = fits < only.len();
        only.truncate(fits);
        let filter = LockspaceFilter {
            limit: LIMIT_MAX,
            only,
            ..LockspaceFilter::default()
        };
        let others = self.other_members();
        let Some(found) = self.queries.get_mut(&query) else {
            return;
        };
        found.truncated |= truncated;
        found.silent.append(&mut found.awaited);
        found.awaited = others.iter().copied().chain([self.config.me]).collect();
        found.give_up_at = now + PATIENCE;
        for node in others {
            let filter = filter.clone();
            self.say(node, Body::QueryResources { query, filter });
        }
        self.on_query(now, self.config.me, query, filter, false, false);
    }

    pub(crate) fn owned_locks(&self, now: Instant, views: &[OwnedView]) -> Vec<OwnedLock> {
        let owned = views.iter().map(|view| OwnedLock {
            lock: view.lock,
            owner: match self.dlm.orphan_of(view.lock) {
                Some(orphan) => gone(orphan.process, now, orphan.since),
                None => OwnerReport {
                    owner: self.dlm.owner_named(view.lock),
                    ..self.owner_now(now, view.session).unwrap_or_default()
                },
            },
            age_ms: millis(now.since(view.since)),
        });
        owned.collect()
    }

    /// A member, or this node itself, wants to know of resources. Looking for them takes slices of
    /// time; [`Node::on_scanned`] goes on. `owners`: of those that are named, also whose they are.
    pub(crate) fn on_query(
        &mut self,
        now: Instant,
        asker: NodeId,
        query: u64,
        filter: LockspaceFilter,
        waits: bool,
        owners: bool,
    ) {
        if owners && !filter.only.is_empty() {
            let ids = filter.only.iter().map(|(space, name)| ResourceId {
                space: *space,
                name: name.clone(),
            });
            let views: Vec<OwnedView> = ids.flat_map(|id| self.dlm.owned_locks(&id)).collect();
            let owners = self.owned_locks(now, &views);
            if asker == self.config.me {
                self.on_query_part(now, asker, query, Vec::new(), owners, false, false);
            } else {
                self.say_parts(asker, query, Vec::new(), owners, false, false);
            }
        }
        let wanted = Wanted {
            asker,
            query,
            filter,
            waits,
        };
        self.dlm.scan(now, wanted);
    }

    /// Resources that a member, or this node itself, wanted to know of.
    pub(crate) fn on_scanned(&mut self, now: Instant, scan: Scan) {
        let (asker, query) = (scan.wanted.asker, scan.wanted.query);
        let (resources, truncated) = (scan.resources, scan.truncated);
        if asker == self.config.me {
            self.on_query_part(now, asker, query, resources, Vec::new(), truncated, true);
        } else {
            self.say_parts(asker, query, resources, Vec::new(), truncated, true);
        }
    }

    pub(crate) fn say_parts(
        &mut self,
        from: NodeId,
        query: u64,
        mut resources: Vec<MasteredResource>,
        mut owners: Vec<OwnedLock>,
        truncated: bool,
        ends: bool,
    ) {
        loop {
            let mut len = 0;
            let fits = resources.iter().take_while(|resource| {
                let before = len;
                len += mainstay_wire::codec::to_vec(*resource).len();
                before < PART_LEN
            });
            let fits = fits.count();
            let rest = resources.split_off(fits);
            let rest_owners = owners.split_off(owners.len().min(PART_OWNERS));
            let all = rest.is_empty() && rest_owners.is_empty();
            self.say(
                from,
                Body::QueryPart {
                    query,
                    resources,
                    owners,
                    truncated,
                    last: all && ends,
                },
            );
            if all {
                break;
            }
            (resources, owners) = (rest, rest_owners);
        }
    }

    pub(crate) fn on_query_part(
        &mut self,
        now: Instant,
        from: NodeId,
        query: u64,
        resources: Vec<MasteredResource>,
        owners: Vec<OwnedLock>,
        truncated: bool,
        last: bool,
    ) {
        let Some(gathering) = self.queries.get_mut(&query) else {
            return;
        };
        gathering.truncated |= truncated;
        if truncated
            && last
            && let Some(own) = gathering
                .resources
                .iter()
                .filter(|(node, _)| *node == from)
                .map(|(_, found)| found)
                .chain(&resources)
                .map(|found| &found.resource)
                .max()
            && gathering.complete_to.as_ref().is_none_or(|to| own < to)
        {
            gathering.complete_to = Some(own.clone());
        }
        gathering
            .resources
            .extend(resources.into_iter().map(|r| (from, r)));
        gathering
            .owners
            .extend(owners.into_iter().map(|o| ((from, o.lock.0), o)));
        if last {
            gathering.awaited.remove(&from);
            if gathering.awaited.is_empty() {
                self.gathered(now, query);
            }
        }
    }

    /// All have answered, or have had their time: asks for what is missing, or finishes.
    pub(crate) fn gathered(&mut self, now: Instant, query: u64) {
        let Some(found) = self.queries.get_mut(&query) else {
            return;
        };
        if matches!(found.kind, Kind::Contention) && !found.contention.merged {
            return self.ask_about_waits(now, query);
        }
        if found.asked_owners || !found.kind.asks_owners() {
            return self.finish_query(now, query);
        }
        found.cut();
        self.ask_owners(now, query);
    }

    /// Asks for the owners of the gathered locks.
    fn ask_owners(&mut self, now: Instant, number: u64) {
        let view = std::sync::Arc::clone(self.state.view());
        let me = self.config.me;
        let Some(query) = self.queries.get_mut(&number) else {
            return;
        };
        query.asked_owners = true;
        query.silent.append(&mut query.awaited);
        let mut wanted: BTreeMap<NodeId, BTreeSet<LockId>> = BTreeMap::new();
        for (_, resource) in &query.resources {
            let queues = [&resource.granted, &resource.converting, &resource.waiting];
            for lock in queues.into_iter().flatten() {
                if view.has_incarnation(lock.node, lock.incarnation) {
                    wanted.entry(lock.node).or_default().insert(lock.lock);
                }
            }
        }
        for locks in wanted.values_mut() {
            query.truncated |= locks.len() > OWNERS_ASKED;
            *locks = std::mem::take(locks)
                .into_iter()
                .take(OWNERS_ASKED)
                .collect();
        }
        query.give_up_at = now + PATIENCE;
        query.awaited = wanted.keys().copied().chain([me]).collect();
        let own = wanted.remove(&me).unwrap_or_default();
        for (node, locks) in wanted {
            let locks = locks.into_iter().collect();
            let query = number;
            self.say(node, Body::QueryOwners { query, locks });
        }
        let views = self.dlm.owners_of(&own.into_iter().collect::<Vec<_>>());
        let sessions: Vec<_> = views.iter().map(|v| (v.lock, v.session)).collect();
        self.on_query_sessions(me, number, &sessions);
        let owners = self.owned_locks(now, &views);
        self.on_query_part(now, me, number, Vec::new(), owners, false, true);
    }

    pub(crate) fn on_query_owners(
        &mut self,
        now: Instant,
        from: NodeId,
        query: u64,
        locks: &[LockId],
    ) {
        let views = self.dlm.owners_of(&locks[..locks.len().min(OWNERS_ASKED)]);
        let sessions = views.iter().map(|v| (v.lock, v.session)).collect();
        self.say(from, Body::QuerySessions { query, sessions });
        let owners = self.owned_locks(now, &views);
        self.say_parts(from, query, Vec::new(), owners, false, true);
    }

    pub(crate) fn on_query_sessions(
        &mut self,
        from: NodeId,
        query: u64,
        sessions: &[(LockId, SessionId)],
    ) {
        if let Some(gathering) = self.queries.get_mut(&query)
            && gathering.awaited.contains(&from)
        {
            let sessions = sessions.iter().map(|(lock, s)| ((from, lock.0), *s));
            gathering.sessions.extend(sessions);
        }
    }

    pub(crate) fn expire_queries(&mut self, now: Instant) {
        let late: Vec<u64> = self
            .queries
            .iter()
            .filter(|(_, q)| q.give_up_at <= now)
            .map(|(id, _)| *id)
            .collect();
        for query in late {
            self.gathered(now, query);
        }
    }

    fn finish_query(&mut self, now: Instant, query: u64) {
        let Some(query) = self.queries.remove(&query) else {
            return;
        };
        let mut truncated = query.truncated;
        let all: Vec<ResourceReport> = query
            .resources
            .iter()
            .map(|(master, found)| self.resource_report(*master, found, &query.owners))
            .collect();
        let mut silent = query.silent;
        silent.extend(query.awaited);
        let silent: Vec<NodeName> = silent.iter().map(|node| self.name(*node)).collect();
        let (session, request) = (query.session, query.request);
        let answer = match query.kind {
            Kind::Locks => {
                // An answer must fit one message.
                let mut resources = all;
                let mut room = mainstay_base::CLIENT_MESSAGE_LEN_MAX / 2;
                let fits = resources.iter().take_while(|r| {
                    let any = room > 0;
                    room = room.saturating_sub(mainstay_wire::codec::to_vec(*r).len());
                    any
                });
                let fits = fits.count();
                truncated |= fits < resources.len();
                resources.truncate(fits);
                Answer::Locks(Box::new(LocksReport {
                    resources,
                    truncated,
                    silent,
                }))
            }
            Kind::Why { lockspace, name } => {
                let resource = all
                    .into_iter()
                    .find(|r| r.lockspace == lockspace && r.name == name);
                let waits = resource
                    .as_ref()
                    .is_some_and(|r| !(r.converters.is_empty() && r.waiters.is_empty()));
                let masterless = match resource {
                    Some(_) => self.beside_master(now, None),
                    None => self.beside_master(now, Some(&query.owners)),
                };
                let report = why::explain(resource, &masterless, &lockspace, &name, &silent);
                if waits && let Ok(filter) = self.filter(None, None, LIMIT_MAX) {
                    let kind = Kind::Circles(Box::new(report));
                    return self.gather(now, session, request, kind, filter);
                }
                Answer::Why(Box::new(report))
            }
            Kind::Graph => {
                let sessions = &query.sessions;
                let mut graph = crate::graph::draw(&query.resources, &all, sessions);
                graph.truncated |= truncated;
                graph.silent = silent;
                crate::graph::fit(&mut graph);
                Answer::Graph(Box::new(graph))
            }
            Kind::Contention => {
                let graph = crate::graph::draw(&query.resources, &all, &query.sessions);
                let report = self.contention_report(query.contention, query.limit, &graph, silent);
                Answer::Contention(Box::new(report))
            }
            Kind::Circles(mut report) => {
                let graph = crate::graph::draw(&query.resources, &all, &query.sessions);
                why::explain_circles(&mut report, &graph);
                Answer::Why(report)
            }
        };
        self.answer(session, request, answer);
    }

    /// What can be said of a resource beside what its master says, or if nobody masters it, of its owners.
    fn beside_master(
        &self,
        now: Instant,
        owners: Option<&BTreeMap<(NodeId, u64), OwnedLock>>,
    ) -> Masterless {
        let owners = owners.into_iter().flatten().take(CLIENTS_TOLD);
        let clients = owners.map(|((node, lock), owned)| {
            let node = self.name(*node);
            match owned.owner.pid {
                0 => format!("lock {lock} of {node}"),
                pid => format!("process {pid} ({}) on {node}", owned.owner.command),
            }
        });
        let pending = self.membership.why_pending(now).into_iter();
        Masterless {
            clients: clients.collect(),
            vanished: pending
                .map(|p| Absent {
                    node: self.name(p.node),
                    rests: (self.state.rest()).is_some_and(|rest| {
                        (rest.node, rest.incarnation) == (p.node, p.incarnation)
                    }),
                    waits_for: p.waits_for,
                })
                .collect(),
        }
    }

    fn resource_report(
        &self,
        master: NodeId,
        found: &MasteredResource,
        owners: &BTreeMap<(NodeId, u64), OwnedLock>,
    ) -> ResourceReport {
        let view = self.state.view();
        let lock = |lock: &MasteredLock| {
            // Of a vanished incarnation nobody can say more.
            let present = view.has_incarnation(lock.node, lock.incarnation);
            let owned = owners.get(&(lock.node, lock.lock.0)).filter(|_| present);
            LockReport {
                node: self.name(lock.node),
                id: lock.lock,
                granted: lock.granted,
                requested: lock.requested,
                token: if lock.granted.is_some() {
                    lock.token
                } else {
                    Token::NONE
                },
                owner: match owned {
                    Some(owned) => owned.owner.clone(),
                    None => self.left_behind(self.now, lock).unwrap_or_default(),
                },
                age_ms: owned.map_or(0, |o| o.age_ms),
                range: lock.range,
            }
        };
        ResourceReport {
            lockspace: self.lockspace_name(found.resource.space),
            name: found.resource.name.clone(),
            master: self.name(master),
            recovering: found.recovering,
            token: found.token,
            value: found.value.clone(),
            holders: found.granted.iter().map(lock).collect(),
            converters: found.converting.iter().map(lock).collect(),
            waiters: found.waiting.iter().map(lock).collect(),
        }
    }
}

pub(crate) fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}
