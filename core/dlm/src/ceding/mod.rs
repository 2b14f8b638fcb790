//! A process has an orphan of another node, which lives.
//!
//! The rules are in `docs/protocol/ceding.md`. The node of the process asks the others one by one
//! ([`seek`]); the one that has a fitting orphan keeps it for that node from then on ([`give`]). The master
//! is asked for it as for a lock that is new, and knows it under its new owner's key ([`take`]). Only when
//! its first node has forgotten it is the client told, so no lock is ever acted upon while two nodes might
//! restate it.

mod give;
mod seek;
mod take;

use crate::{Dlm, Life};
use give::Given;
use mainstay_base::{Instant, LockId, SessionId};
use mainstay_wire::{ceding::Ceding as Message, client::Handle};
use seek::Search;
use std::collections::{BTreeMap, BTreeSet};
use take::Taking;
pub(crate) use take::padded;

/// Orphans on their way from node to node.
#[derive(Debug, Default)]
pub(crate) struct Ceding {
    /// For clients of this node, by the numbers that the locks shall have.
    searches: BTreeMap<LockId, Search>,
    /// When searches go on without an answer.
    due: BTreeSet<(Instant, LockId)>,
    /// What was found and is not told yet.
    taking: BTreeMap<LockId, Taking>,
    /// Orphans of this node that it keeps for others.
    given: BTreeMap<LockId, Given>,
    /// Locks of this node that were another's, and as which.
    former: BTreeMap<LockId, (Life, LockId)>,
}

impl Ceding {
    /// When a search goes on without an answer.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.due.first().map(|due| due.0)
    }

    /// Whether an orphan is kept for another node.
    pub(crate) fn is_given(&self, lock: LockId) -> bool {
        self.given.contains_key(&lock)
    }

    /// Whether a client has asked for an orphan of another node under that handle.
    pub(crate) fn is_adopting(&self, session: SessionId, handle: Handle) -> bool {
        let mut searches = self.searches.values();
        let mut taking = self.taking.values();
        searches.any(|s| s.session == session && s.call.handle == handle)
            || taking.any(|t| t.session == session && t.handle == handle)
    }

    /// Whether something is on its way to this node.
    pub(crate) fn is_taking(&self) -> bool {
        !self.taking.is_empty()
    }

    /// Whether a client of this node has asked for an orphan that would have that number.
    pub(crate) fn is_sought(&self, lock: LockId) -> bool {
        self.searches.contains_key(&lock)
    }

    /// How many searches of a client are under way.
    fn searching(&self, session: SessionId) -> usize {
        let searches = self.searches.values();
        searches.filter(|s| s.session == session).count()
    }

    /// Which of these locks were another node's, and as which.
    pub(crate) fn former_of(
        &self,
        locks: impl Iterator<Item = LockId>,
    ) -> Vec<(LockId, (Life, LockId))> {
        match self.former.is_empty() {
            true => Vec::new(),
            false => locks
                .filter_map(|lock| Some((lock, *self.former.get(&lock)?)))
                .collect(),
        }
    }

    /// Who searches, once for each search: it counts as a lock.
    pub(crate) fn searchers(&self) -> impl Iterator<Item = SessionId> {
        self.searches.values().map(|search| search.session)
    }

    /// A lock of this node is gone.
    pub(crate) fn forget(&mut self, lock: LockId) {
        self.given.remove(&lock);
        self.taking.remove(&lock);
        self.former.remove(&lock);
    }
}

impl Dlm {
    /// A member says something about an orphan that goes from node to node.
    pub(crate) fn on_ceding(&mut self, now: Instant, from: Life, message: Message) {
        match message {
            Message::Seek {
                resource,
                mode,
                uid,
                lock,
            } => self.on_seek(now, from, (resource, mode, uid), lock),
            Message::Answer { lock, found } => self.on_found(now, from, lock, found),
            Message::Ends { lock, to, taken } => self.on_cede_ends(now, from, lock, to, taken),
            Message::Over { lock } => self.on_cede_over(now, from, lock),
        }
    }

    /// A view is in force, with all that came with it: nobody waits for those that are gone.
    pub(crate) fn ceding_in_view(&mut self, now: Instant) {
        let gone = |life: Life| !self.is_member(life);
        let searches = self.ceding.searches.iter();
        let searches = searches.filter(|(_, search)| gone(search.asked));
        let searches: Vec<LockId> = searches.map(|(lock, _)| *lock).collect();
        let taking = self.ceding.taking.iter();
        let taking = taking.filter(|(_, taking)| taking.known && gone(taking.from.0));
        let taking: Vec<LockId> = taking.map(|(lock, _)| *lock).collect();
        for lock in searches {
            self.unanswered(lock);
            self.seek_on(now, lock);
        }
        for lock in taking {
            self.taken_over(now, lock);
        }
    }
}
