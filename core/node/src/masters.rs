//! Masters that move: between the lock manager, which agrees upon a batch with all members, and the
//! replicated log, which says when. And who masters how much, gathered from all members.

use crate::Node;
use core::time::Duration;
use mainstay_base::{Instant, LockspaceId, NodeId, SessionId};
use mainstay_dlm::Move;
use mainstay_membership::{Command, MoveRecord};
use mainstay_wire::{
    client::Answer,
    dlm::Body,
    event::{Reason, What},
    report::{MasterReport, MastersReport, MoveReport},
};
use std::collections::{BTreeMap, BTreeSet};

/// How long members may take to answer.
const PATIENCE: Duration = Duration::from_millis(1000);
/// Most moves that are told of.
const MOVES_KEPT: usize = 100;

/// How many resources a node masters, by lockspace, and how much it has granted.
type Mastered = (Vec<(LockspaceId, u64)>, u64);

/// A report that is being gathered.
#[derive(Debug)]
pub(crate) struct Shares {
    session: SessionId,
    request: u64,
    awaited: BTreeSet<NodeId>,
    counts: BTreeMap<NodeId, Mastered>,
    pub(crate) give_up_at: Instant,
}

impl Node {
    /// The lock manager wants a batch committed.
    pub(crate) fn propose_move(&mut self, batch: &Move, survivors: u64) {
        let record = MoveRecord {
            from: batch.from.0,
            from_incarnation: batch.from.1,
            to: batch.to.0,
            to_incarnation: batch.to.1,
            serial: batch.serial,
            members: batch.members,
            count: batch.count,
        };
        let command = match survivors {
            0 => Command::MoveMasters(record),
            changes => Command::MoveMastersWithSurvivors { record, changes },
        };
        self.wish(Instant::ZERO, command, None);
        self.quiet_until = Instant::ZERO; // Calls wait for it.
    }

    /// The log has decided about a batch.
    pub(crate) fn masters_moved(&mut self, now: Instant, record: MoveRecord, done: bool) {
        let (from, to) = (record.from, record.to);
        if from == self.config.me {
            self.take_wishes(|command| is_settled(command, &record));
        }
        if done {
            let resources = record.count;
            let what = What::MastersMoved {
                from,
                to,
                resources,
            };
            self.event(what, Reason::BusierElsewhere, String::new());
            self.moves.push_back((now, record));
            while self.moves.len() > MOVES_KEPT {
                self.moves.pop_front();
            }
        }
        if self.joined {
            let batch = Move {
                from: (from, record.from_incarnation),
                to: (to, record.to_incarnation),
                serial: record.serial,
                members: record.members,
                count: record.count,
            };
            self.dlm.on_move(now, &batch, done);
            self.pump_locks(now);
        }
    }

    /// A client wants to know who masters how much.
    pub(crate) fn ask_masters(&mut self, now: Instant, session: SessionId, request: u64) {
        let query = self.next_query;
        self.next_query += 1;
        let me = self.config.me;
        let members = self.state.view().nodes();
        let others: Vec<NodeId> = members.into_iter().filter(|n| *n != me).collect();
        let shares = Shares {
            session,
            request,
            awaited: others.iter().copied().collect(),
            counts: BTreeMap::from([(me, self.mastered())]),
            give_up_at: now + PATIENCE,
        };
        self.shares.insert(query, shares);
        for to in others {
            self.say(to, Body::QueryMasters { query });
        }
        self.tell_shares(now, query);
    }

    fn mastered(&self) -> Mastered {
        let counts = self.dlm.counts().into_iter();
        let mastered = counts.map(|(space, counts)| (space, counts.mastered));
        let mastered = mastered.filter(|(_, mastered)| *mastered > 0);
        (mastered.collect(), self.dlm.grants())
    }

    pub(crate) fn on_query_masters(&mut self, from: NodeId, query: u64) {
        let (mastered, grants) = self.mastered();
        self.say(
            from,
            Body::QueryMastered {
                query,
                mastered,
                grants,
            },
        );
    }

    pub(crate) fn on_query_mastered(
        &mut self,
        now: Instant,
        from: NodeId,
        query: u64,
        mastered: Mastered,
    ) {
        if let Some(shares) = self.shares.get_mut(&query)
            && shares.awaited.remove(&from)
        {
            shares.counts.insert(from, mastered);
            self.tell_shares(now, query);
        }
    }

    /// Answers those that have waited long enough for silent members.
    pub(crate) fn expire_shares(&mut self, now: Instant) {
        let late = self.shares.iter().filter(|(_, s)| s.give_up_at <= now);
        let late: Vec<u64> = late.map(|(query, _)| *query).collect();
        for query in late {
            self.finish_shares(now, query);
        }
    }

    fn tell_shares(&mut self, now: Instant, query: u64) {
        let shares = self.shares.get(&query);
        if shares.is_some_and(|shares| shares.awaited.is_empty()) {
            self.finish_shares(now, query);
        }
    }

    fn finish_shares(&mut self, now: Instant, query: u64) {
        let Some(shares) = self.shares.remove(&query) else {
            return;
        };
        let weight = |node| self.config.masters.weight(node);
        let counts = shares.counts.iter();
        let nodes = counts.map(|(node, (spaces, grants))| MasterReport {
            node: self.name(*node),
            weight: weight(*node),
            mastered: spaces.iter().map(|(_, mastered)| mastered).sum(),
            lockspaces: spaces
                .iter()
                .map(|(space, mastered)| (self.lockspace_name(*space), *mastered))
                .collect(),
            grants: *grants,
        });
        let moves = self.moves.iter().rev().map(|(at, record)| MoveReport {
            from: self.name(record.from),
            to: self.name(record.to),
            resources: record.count,
            reason: Reason::BusierElsewhere,
            ago_ms: u64::try_from(now.since(*at).as_millis()).unwrap_or(u64::MAX),
        });
        let report = MastersReport {
            nodes: nodes.collect(),
            moves: moves.collect(),
            moving: self.config.masters.moves,
            cap: self.config.masters.cap,
            silent: shares.awaited.iter().map(|node| self.name(*node)).collect(),
        };
        let answer = Answer::Masters(Box::new(report));
        self.answer(shares.session, shares.request, answer);
    }
}

/// Whether what the log has decided settles a wish. It may have been an earlier batch, about which
/// the log was asked twice: the later one still waits.
fn is_settled(wish: &Command, decided: &MoveRecord) -> bool {
    let number = |record: &MoveRecord| (record.from_incarnation, record.serial);
    match wish {
        Command::MoveMasters(wish) | Command::MoveMastersWithSurvivors { record: wish, .. } => {
            number(wish) <= number(decided)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_base::{Epoch, Incarnation};

    /// Protects progress: what the log says of an earlier batch does not take the wish for a later one
    /// away, whose resources would wait for ever.
    #[test]
    fn a_later_batch_is_still_wished_for() {
        let record = |incarnation, serial| MoveRecord {
            from: NodeId(1),
            from_incarnation: Incarnation(incarnation),
            to: NodeId(2),
            to_incarnation: Incarnation(1),
            serial,
            members: Epoch(3),
            count: 1,
        };
        let wish = |incarnation, serial| Command::MoveMasters(record(incarnation, serial));
        assert!(is_settled(&wish(2, 7), &record(2, 7)));
        assert!(is_settled(&wish(1, 9), &record(2, 7)));
        assert!(!is_settled(&wish(2, 8), &record(2, 7)));
        assert!(!is_settled(&wish(3, 1), &record(2, 7)));
    }
}
