//! Reports: what this node tells of itself, and what it gathers from all members.

use crate::{
    Node,
    why::{self, Masterless},
};
use core::time::Duration;
use mainstay_base::{
    Instant, LockId, LockspaceName, NodeId, NodeName, ResourceName, SessionId, Token,
};
use mainstay_dlm::OwnedView;
use mainstay_wire::{
    client::Answer,
    dlm::{Body, MasteredLock, MasteredResource, OwnedLock},
    lock::Refusal,
    report::{
        LinkReport, LockReport, LocksReport, LockspaceFilter, LockspaceReport, MemberReport,
        MemberState, OwnerReport, PendingFence, ResourceReport, StatusReport, WhyReport,
    },
};
use std::collections::{BTreeMap, BTreeSet};

/// How long members may take to answer.
const PATIENCE: Duration = Duration::from_millis(1000);
/// Most resources in a report.
const LIMIT_MAX: u32 = 10_000;
/// Bytes of resources in one message between nodes, which may exceed it by one resource.
const PART_LEN: usize = 32 << 10;
/// Owners in one message between nodes, each of at most some 300 bytes.
const PART_OWNERS: usize = 128;
/// Locks of one queue that travel in a report; a longer one is cut. They take some 30 bytes each.
const LOCKS_PER_QUEUE: usize = 500;
/// Most locks of one node whose owners are asked for, so that question and answer fit a message.
const OWNERS_ASKED: usize = 4096;
/// Most clients of a resource without a master that a sentence names.
const CLIENTS_TOLD: usize = 16;

/// A report that is being gathered.
#[derive(Debug)]
pub(crate) struct Query {
    session: SessionId,
    request: u64,
    kind: Kind,
    limit: usize,
    awaited: BTreeSet<NodeId>,
    /// Did not answer in time what was asked first.
    silent: BTreeSet<NodeId>,
    pub(crate) give_up_at: Instant,
    resources: Vec<(NodeId, MasteredResource)>,
    owners: BTreeMap<(NodeId, u64), OwnedLock>,
    sessions: BTreeMap<(NodeId, u64), SessionId>,
    /// The owners of the gathered locks have been asked for.
    asked_owners: bool,
    truncated: bool,
}

#[derive(Debug)]
pub(crate) enum Kind {
    Locks,
    Why {
        lockspace: LockspaceName,
        name: ResourceName,
    },
    Graph,
    /// What has been found out about a resource; whether its waiters stand in a circle is missing.
    Circles(Box<WhyReport>),
}

impl Kind {
    /// Only resources on which somebody waits matter; their owners are asked for afterwards.
    fn waits(&self) -> bool {
        matches!(self, Kind::Graph | Kind::Circles(_))
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
    ) {
        match self.filter(lockspace, pattern, limit) {
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
            lockspace: Some(id),
            pattern: Some(pattern(&name)),
            limit: LIMIT_MAX,
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
        let query = self.next_query;
        self.next_query += 1;
        let waits = kind.waits();
        let me = self.config.me;
        let members: Vec<NodeId> = self.state.view().nodes();
        let others: Vec<NodeId> = members.into_iter().filter(|n| *n != me).collect();
        self.queries.insert(
            query,
            Query {
                session,
                request,
                kind,
                limit: filter.limit as usize,
                awaited: others.iter().copied().chain([me]).collect(),
                silent: BTreeSet::new(),
                give_up_at: now + PATIENCE,
                resources: Vec::new(),
                owners: BTreeMap::new(),
                sessions: BTreeMap::new(),
                asked_owners: false,
                truncated: false,
            },
        );
        for node in others {
            let filter = filter.clone();
            let body = match waits {
                true => Body::QueryWaits { query, filter },
                false => Body::Query { query, filter },
            };
            self.say(node, body);
        }
        let (resources, owners, truncated) = self.own_part(now, &filter, waits);
        self.on_query_part(now, me, query, resources, owners, truncated, true);
    }

    fn own_part(
        &self,
        now: Instant,
        filter: &LockspaceFilter,
        waits: bool,
    ) -> (Vec<MasteredResource>, Vec<OwnedLock>, bool) {
        let (mut resources, mut truncated) = self.dlm.mastered_resources(filter, waits);
        for resource in &mut resources {
            for queue in [
                &mut resource.granted,
                &mut resource.converting,
                &mut resource.waiting,
            ] {
                truncated |= waits && queue.len() > LOCKS_PER_QUEUE;
                queue.truncate(LOCKS_PER_QUEUE);
            }
        }
        let owners = match waits {
            true => Vec::new(),
            false => self.owned_locks(now, &self.dlm.owned_locks(filter)),
        };
        (resources, owners, truncated)
    }

    pub(crate) fn owned_locks(&self, now: Instant, views: &[OwnedView]) -> Vec<OwnedLock> {
        let owned = views.iter().map(|view| OwnedLock {
            lock: view.lock,
            owner: self
                .sessions
                .get(&view.session)
                .map(|s| s.owner.clone())
                .unwrap_or_default(),
            age_ms: millis(now.since(view.since)),
        });
        owned.collect()
    }

    pub(crate) fn on_query(
        &mut self,
        now: Instant,
        from: NodeId,
        query: u64,
        filter: &LockspaceFilter,
        waits: bool,
    ) {
        let (resources, owners, truncated) = self.own_part(now, filter, waits);
        self.say_parts(from, query, resources, owners, truncated);
    }

    pub(crate) fn say_parts(
        &mut self,
        from: NodeId,
        query: u64,
        mut resources: Vec<MasteredResource>,
        mut owners: Vec<OwnedLock>,
        truncated: bool,
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
            let last = rest.is_empty() && rest_owners.is_empty();
            self.say(
                from,
                Body::QueryPart {
                    query,
                    resources,
                    owners,
                    truncated,
                    last,
                },
            );
            if last {
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

    /// All have answered, or have had their time: asks for the owners, or finishes.
    fn gathered(&mut self, now: Instant, query: u64) {
        match self.queries.get(&query) {
            Some(found) if found.kind.waits() && !found.asked_owners => {
                self.ask_owners(now, query);
            }
            _ => self.finish_query(now, query),
        }
    }

    /// Asks for the owners of the locks of a graph.
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
        self.say_parts(from, query, Vec::new(), owners, false);
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
        let Some(mut query) = self.queries.remove(&query) else {
            return;
        };
        query
            .resources
            .sort_by(|a, b| a.1.resource.cmp(&b.1.resource));
        let mut truncated = query.truncated || query.resources.len() > query.limit;
        query.resources.truncate(query.limit);
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
                    let size = mainstay_wire::codec::to_vec(*r).len();
                    room = room.saturating_sub(size);
                    room > 0
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
                    Some(_) => Masterless::default(),
                    None => self.masterless(now, &name, &query.owners),
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
            Kind::Circles(mut report) => {
                let graph = crate::graph::draw(&query.resources, &all, &query.sessions);
                why::explain_circles(&mut report, &graph);
                Answer::Why(report)
            }
        };
        self.answer(session, request, answer);
    }

    /// What can be said of a resource that nobody masters.
    fn masterless(
        &self,
        now: Instant,
        name: &ResourceName,
        owners: &BTreeMap<(NodeId, u64), OwnedLock>,
    ) -> Masterless {
        // The members were asked by a pattern: of an odd name, it matches others too.
        let exact = pattern(name).as_bytes() == name.as_bytes() && !name.as_bytes().contains(&b'?');
        let owners = owners.iter().filter(|_| exact).take(CLIENTS_TOLD);
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
            vanished: pending.map(|p| (self.name(p.node), p.waits_for)).collect(),
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
                owner: owned.map_or_else(OwnerReport::default, |o| o.owner.clone()),
                age_ms: owned.map_or(0, |o| o.age_ms),
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

    pub(crate) fn status(&self, now: Instant) -> StatusReport {
        let view = self.state.view();
        let me = self.config.me;
        let peers = self.membership.peers(now);
        let members = self
            .config
            .nodes
            .iter()
            .map(|spec| {
                let peer = peers.iter().find(|p| p.node == spec.id);
                let heard = peer.and_then(|p| p.heard);
                let fresh = heard.is_some_and(|h| h < self.config.timings.dead);
                let state = if view.member(spec.id).is_some() {
                    MemberState::Member
                } else if spec.id == me || fresh {
                    MemberState::Joining
                } else {
                    MemberState::Absent
                };
                MemberReport {
                    name: spec.name.clone(),
                    id: spec.id,
                    state,
                    incarnation: self.state.incarnation(spec.id),
                    votes: spec.votes,
                    heard_ms: heard.map(millis),
                }
            })
            .collect();
        let links = peers
            .iter()
            .flat_map(|peer| peer.links.iter().map(move |link| (peer.node, link)))
            .map(|(peer, link)| LinkReport {
                peer: self.name(peer),
                link: link.link,
                up: link.up,
                rtt_us: link
                    .rtt
                    .map(|r| u64::try_from(r.as_micros()).unwrap_or(u64::MAX)),
            })
            .collect();
        let counts = self.dlm.counts();
        let mut lockspaces: Vec<LockspaceReport> = self
            .state
            .lockspaces()
            .map(|space| {
                let counts = counts.get(&space.id).copied().unwrap_or_default();
                LockspaceReport {
                    id: space.id,
                    name: space.name.clone(),
                    value_len: space.value_len,
                    mastered: counts.mastered,
                    resources: counts.resources,
                    locks: counts.locks,
                    directory: counts.directory,
                }
            })
            .collect();
        lockspaces.sort_by_key(|space| space.id);
        let pending_fences = self
            .membership
            .why_pending(now)
            .into_iter()
            .map(|p| PendingFence {
                node: self.name(p.node),
                incarnation: p.incarnation,
                waits_for: p.waits_for,
            })
            .collect();
        StatusReport {
            cluster: self.config.cluster.clone(),
            cluster_id: self.state.id(),
            epoch: view.epoch,
            quorate: view.quorate,
            node: self.name(me),
            active: self.active,
            lease_ms: millis(self.lease.since(now)),
            leader: self.leader().map(|node| self.name(node)),
            term: self.term,
            votes: self.state.votes_of_members(),
            votes_total: self.config.nodes.iter().map(|n| n.votes).sum(),
            members,
            pending_fences,
            links,
            lockspaces,
            sessions: self.sessions.len() as u64,
        }
    }
}

/// A pattern that the name itself is sure to match; of an odd name it matches others, too.
fn pattern(name: &ResourceName) -> String {
    let plain = |b: u8| b.is_ascii_graphic() && b != b'*';
    let bytes = name.as_bytes().iter();
    bytes
        .map(|&b| if plain(b) { char::from(b) } else { '?' })
        .collect()
}

fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}
