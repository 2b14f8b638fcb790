//! How long is waited for locks and how long they are held, gathered from all members.
//!
//! Every member counts what its own clients do. Of the calls that have waited longest, the masters are
//! then asked what is in their way, and at last the owners, who they are.

use crate::{
    Node,
    query::{Kind, millis},
};
use core::time::Duration;
use mainstay_base::{Instant, LockspaceId, LockspaceName, NodeId, NodeName, SessionId};
use mainstay_wire::{
    codec,
    contention::{
        ContentionReport, HotReport, HotResource, LockspaceTimes, LongWait, OpenWait, SpaceTimes,
        WaitBlocker,
    },
    dlm::{Body, ResourceId},
    lock::Refusal,
    report::{GraphOwner, GraphReport},
};
use std::collections::{BTreeMap, BTreeSet};

/// How long members may take to answer.
const PATIENCE: Duration = Duration::from_millis(1000);
/// Most of each kind in a report.
const LIMIT_MAX: u32 = 1000;
/// Bytes in one message between nodes, which may exceed it by one lockspace.
const PART_LEN: usize = 32 << 10;
/// Resources or waits in one message between nodes, each of at most some 400 bytes.
const PART_COUNT: usize = 64;

/// What has been gathered.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    spaces: BTreeMap<LockspaceId, SpaceTimes>,
    /// Of which members have more lockspaces to tell than up to here.
    complete_to: Option<LockspaceId>,
    hot: BTreeMap<ResourceId, HotResource>,
    hot_ms: u64,
    waits: Vec<(NodeId, OpenWait)>,
    /// All have told; what is in the way of the longest waits is asked for.
    pub(crate) merged: bool,
}

impl Node {
    pub(crate) fn ask_contention(
        &mut self,
        now: Instant,
        session: SessionId,
        request: u64,
        lockspace: Option<LockspaceName>,
        after: Option<LockspaceName>,
        limit: u32,
    ) {
        if limit == 0 || limit > LIMIT_MAX {
            let text = format!("a limit of {limit}; 1 to {LIMIT_MAX} are possible");
            return self.refuse(session, request, Refusal::Invalid(text));
        }
        let number = |name: Option<LockspaceName>| match name {
            Some(name) => match self.state.lockspace(&name) {
                Some(space) => Ok(Some(space.id)),
                None => Err(Refusal::NoSuchLockspace),
            },
            None => Ok(None),
        };
        let (space, after) = match (number(lockspace), number(after)) {
            (Ok(space), Ok(after)) => (space, after),
            (Err(why), _) | (_, Err(why)) => return self.refuse(session, request, why),
        };
        let give_up_at = now + PATIENCE;
        let query = self.open_query(
            give_up_at,
            session,
            request,
            Kind::Contention,
            limit as usize,
        );
        for node in self.other_members() {
            let body = Body::QueryContention {
                query,
                space,
                after,
                limit,
            };
            self.say(node, body);
        }
        self.on_query_contention(now, self.config.me, query, space, after, limit);
    }

    pub(crate) fn on_query_contention(
        &mut self,
        now: Instant,
        asker: NodeId,
        query: u64,
        space: Option<LockspaceId>,
        after: Option<LockspaceId>,
        limit: u32,
    ) {
        let limit = limit.min(LIMIT_MAX) as usize;
        let (mut spaces, truncated) = self.dlm.space_times(space, after, limit);
        let (mut hot, reach) = self.dlm.most_contended(now, space, limit);
        let waits = self.dlm.longest_waits(space, limit).into_iter();
        let mut waits: Vec<OpenWait> = waits
            .map(|wait| OpenWait {
                lock: wait.lock,
                resource: wait.resource,
                granted: wait.granted,
                requested: wait.requested,
                waited_us: u64::try_from(now.since(wait.asked).as_micros()).unwrap_or(u64::MAX),
                session: wait.session,
                owner: self.owner_now(now, wait.session).unwrap_or_default(),
            })
            .collect();
        loop {
            let mut len = 0;
            let fits = spaces.iter().take_while(|space| {
                let before = len;
                len += codec::to_vec(*space).len();
                before < PART_LEN
            });
            let fits = fits.count();
            let rest_spaces = spaces.split_off(fits);
            let rest_hot = hot.split_off(hot.len().min(PART_COUNT));
            let rest_waits = waits.split_off(waits.len().min(PART_COUNT));
            let last = rest_spaces.is_empty() && rest_hot.is_empty() && rest_waits.is_empty();
            let part = Body::ContentionPart {
                query,
                spaces,
                truncated,
                hot,
                hot_ms: millis(reach),
                waits,
                last,
            };
            if asker == self.config.me {
                self.on_contention_part(now, asker, part);
            } else {
                self.say(asker, part);
            }
            if last {
                break;
            }
            (spaces, hot, waits) = (rest_spaces, rest_hot, rest_waits);
        }
    }

    pub(crate) fn on_contention_part(&mut self, now: Instant, from: NodeId, part: Body) {
        let Body::ContentionPart {
            query,
            spaces,
            truncated,
            hot,
            hot_ms,
            waits,
            last,
        } = part
        else {
            return;
        };
        let Some(gathering) = self.queries.get_mut(&query) else {
            return;
        };
        let found = &mut gathering.contention;
        if found.merged || !gathering.awaited.contains(&from) {
            return;
        }
        if let Some(end) = spaces.last().map(|s| s.space).filter(|_| truncated && last) {
            let to = found.complete_to.map_or(end, |to| to.min(end));
            found.complete_to = Some(to);
        }
        for space in spaces {
            match found.spaces.get_mut(&space.space) {
                Some(known) => {
                    known.waits.merge(&space.waits);
                    known.given_up = known.given_up.saturating_add(space.given_up);
                    known.holds.merge(&space.holds);
                }
                None => {
                    found.spaces.insert(space.space, space);
                }
            }
        }
        for resource in hot {
            match found.hot.get_mut(&resource.resource) {
                Some(known) => {
                    known.waits = known.waits.saturating_add(resource.waits);
                    known.waited_us = known.waited_us.saturating_add(resource.waited_us);
                    known.longest_us = known.longest_us.max(resource.longest_us);
                    known.over_us = known.over_us.saturating_add(resource.over_us);
                }
                None => {
                    found.hot.insert(resource.resource.clone(), resource);
                }
            }
        }
        found.hot_ms = found.hot_ms.max(hot_ms);
        found
            .waits
            .extend(waits.into_iter().map(|wait| (from, wait)));
        if last {
            gathering.awaited.remove(&from);
            if gathering.awaited.is_empty() {
                self.gathered(now, query);
            }
        }
    }

    /// All have told what their clients do: asks what is in the way of those that wait longest.
    pub(crate) fn ask_about_waits(&mut self, now: Instant, query: u64) {
        let Some(gathering) = self.queries.get_mut(&query) else {
            return;
        };
        let found = &mut gathering.contention;
        found.merged = true;
        let key = |(_, wait): &(NodeId, OpenWait)| core::cmp::Reverse(wait.waited_us);
        found.waits.sort_by_key(key);
        found.waits.truncate(gathering.limit);
        let resources = found.waits.iter().map(|(_, wait)| &wait.resource);
        let only: BTreeSet<_> = resources.map(|r| (r.space, r.name.clone())).collect();
        // Its place among others says nothing here; `gathered` goes on with what is in the way.
        self.gather_only(now, query, only.into_iter().collect());
    }

    /// What was gathered, with the graph of the longest waits.
    pub(crate) fn contention_report(
        &self,
        found: Gathered,
        limit: usize,
        graph: &GraphReport,
        silent: Vec<NodeName>,
    ) -> ContentionReport {
        let mut spaces: Vec<SpaceTimes> = found.spaces.into_values().collect();
        let count = spaces.len();
        spaces.retain(|space| found.complete_to.is_none_or(|to| space.space <= to));
        spaces.truncate(limit);
        let truncated = spaces.len() < count || found.complete_to.is_some();
        let mut hot: Vec<HotResource> = found.hot.into_values().collect();
        hot.sort_by_key(|resource| core::cmp::Reverse(resource.waited_us));
        hot.truncate(limit);
        let waits = found.waits.into_iter();
        let waits = waits.map(|(node, wait)| self.long_wait(node, wait, graph));
        let mut report = ContentionReport {
            waits: waits.collect(),
            hot: hot.into_iter().map(|hot| self.hot_report(hot)).collect(),
            hot_ms: found.hot_ms,
            lockspaces: spaces.into_iter().map(|s| self.space_report(s)).collect(),
            truncated,
            silent,
        };
        // An answer must fit one message.
        while codec::to_vec(&report).len() > mainstay_base::CLIENT_MESSAGE_LEN_MAX / 2 {
            let half = |len: usize| len.div_ceil(2);
            report.waits.truncate(half(report.waits.len()));
            report.hot.truncate(half(report.hot.len()));
            report.truncated |= report.lockspaces.len() > 1;
            report.lockspaces.truncate(half(report.lockspaces.len()));
        }
        report
    }

    fn long_wait(&self, node: NodeId, wait: OpenWait, graph: &GraphReport) -> LongWait {
        let name = self.name(node);
        let owner = |place: u32| graph.owners.get(place as usize).cloned();
        let seen = graph.waits.iter().find(|seen| {
            let waiter = graph.owners.get(seen.waiter as usize);
            seen.lock == wait.lock && waiter.is_some_and(|waiter| waiter.node == name)
        });
        let blockers = seen.into_iter().flat_map(|seen| &seen.blockers);
        let blockers = blockers.filter_map(|blocker| {
            Some(WaitBlocker {
                owner: owner(blocker.owner)?,
                held: blocker.held,
            })
        });
        LongWait {
            waiter: GraphOwner {
                node: name.clone(),
                session: Some(wait.session),
                owner: wait.owner,
            },
            lockspace: self.lockspace_name(wait.resource.space),
            name: wait.resource.name,
            lock: wait.lock,
            granted: wait.granted,
            requested: wait.requested,
            waited_ms: wait.waited_us / 1000,
            blockers: blockers.collect(),
        }
    }

    fn hot_report(&self, hot: HotResource) -> HotReport {
        HotReport {
            lockspace: self.lockspace_name(hot.resource.space),
            name: hot.resource.name,
            waits: hot.waits,
            waited_us: hot.waited_us,
            longest_us: hot.longest_us,
            over_us: hot.over_us,
        }
    }

    fn space_report(&self, times: SpaceTimes) -> LockspaceTimes {
        LockspaceTimes {
            lockspace: self.lockspace_name(times.space),
            waits: times.waits,
            given_up: times.given_up,
            holds: times.holds,
        }
    }
}
