//! Reports: what this node tells of itself, and what it gathers from all members.

use crate::Node;
use core::time::Duration;
use mainstay_base::{Instant, LockspaceName, NodeId, ResourceName, SessionId, Token};
use mainstay_wire::{
    client::Answer,
    dlm::{Body, MasteredLock, MasteredResource, OwnedLock},
    lock::Refusal,
    report::{
        LinkReport, LockReport, LocksReport, LockspaceFilter, LockspaceReport, MemberReport,
        MemberState, OwnerReport, PendingFence, ResourceReport, StatusReport,
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

/// A report that is being gathered.
#[derive(Debug)]
pub(crate) struct Query {
    session: SessionId,
    request: u64,
    kind: Kind,
    limit: usize,
    awaited: BTreeSet<NodeId>,
    pub(crate) give_up_at: Instant,
    resources: Vec<(NodeId, MasteredResource)>,
    owners: BTreeMap<(NodeId, u64), OwnedLock>,
    truncated: bool,
}

#[derive(Debug)]
enum Kind {
    Locks,
    Why {
        lockspace: LockspaceName,
        name: ResourceName,
    },
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
        if limit == 0 || limit > LIMIT_MAX {
            let text = format!("a limit of {limit} resources; 1 to {LIMIT_MAX} are possible");
            return self.refuse(session, request, Refusal::Invalid(text));
        }
        let space = match lockspace.map(|name| self.state.lockspace(&name).map(|s| s.id)) {
            Some(None) => return self.refuse(session, request, Refusal::NoSuchLockspace),
            Some(id) => id,
            None => None,
        };
        let filter = LockspaceFilter {
            lockspace: space,
            pattern,
            limit,
        };
        self.gather(now, session, request, Kind::Locks, filter);
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
        // A pattern that the name itself is sure to match; others are filtered out at the end.
        let pattern = name
            .as_bytes()
            .iter()
            .map(|&b| {
                if b.is_ascii_graphic() && b != b'*' {
                    char::from(b)
                } else {
                    '?'
                }
            })
            .collect();
        let filter = LockspaceFilter {
            lockspace: Some(id),
            pattern: Some(pattern),
            limit: LIMIT_MAX,
        };
        self.gather(now, session, request, Kind::Why { lockspace, name }, filter);
    }

    fn gather(
        &mut self,
        now: Instant,
        session: SessionId,
        request: u64,
        kind: Kind,
        filter: LockspaceFilter,
    ) {
        let query = self.next_query;
        self.next_query += 1;
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
                give_up_at: now + PATIENCE,
                resources: Vec::new(),
                owners: BTreeMap::new(),
                truncated: false,
            },
        );
        for node in others {
            self.say(
                node,
                Body::Query {
                    query,
                    filter: filter.clone(),
                },
            );
        }
        let (resources, owners, truncated) = self.own_part(now, &filter);
        self.on_query_part(now, me, query, resources, owners, truncated, true);
    }

    fn own_part(
        &self,
        now: Instant,
        filter: &LockspaceFilter,
    ) -> (Vec<MasteredResource>, Vec<OwnedLock>, bool) {
        let (mut resources, truncated) = self.dlm.mastered_resources(filter);
        for resource in &mut resources {
            resource.granted.truncate(LOCKS_PER_QUEUE);
            resource.converting.truncate(LOCKS_PER_QUEUE);
            resource.waiting.truncate(LOCKS_PER_QUEUE);
        }
        let owners = self
            .dlm
            .owned_locks(filter)
            .into_iter()
            .map(|view| OwnedLock {
                lock: view.lock,
                owner: self
                    .sessions
                    .get(&view.session)
                    .map(|s| s.owner.clone())
                    .unwrap_or_default(),
                age_ms: millis(now.since(view.since)),
            })
            .collect();
        (resources, owners, truncated)
    }

    pub(crate) fn on_query(
        &mut self,
        now: Instant,
        from: NodeId,
        query: u64,
        filter: &LockspaceFilter,
    ) {
        let (mut resources, mut owners, truncated) = self.own_part(now, filter);
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
                self.finish_query(now, query);
            }
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
            self.finish_query(now, query);
        }
    }

    fn finish_query(&mut self, _now: Instant, query: u64) {
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
        let silent = query.awaited.iter().map(|node| self.name(*node)).collect();
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
                Answer::Why(Box::new(crate::why::explain(
                    resource, &lockspace, &name, &silent,
                )))
            }
        };
        self.answer(session, request, answer);
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
        let spaces = &mut self.state.lockspaces();
        let space = spaces
            .find(|s| s.id == found.resource.space)
            .map(|s| s.name.clone());
        ResourceReport {
            lockspace: space.unwrap_or_else(|| {
                LockspaceName::new(format!("lockspace-{}", found.resource.space))
                    .expect("digits make a name")
            }),
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
        let mut lockspaces: Vec<LockspaceReport> = self
            .state
            .lockspaces()
            .map(|space| {
                let counts = self.dlm.counts(space.id);
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

fn millis(d: Duration) -> u64 {
    u64::try_from(d.as_millis()).unwrap_or(u64::MAX)
}
