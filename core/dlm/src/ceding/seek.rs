//! The search for an orphan among the other members.

use crate::{
    AdoptCall, Dlm, Life, compat::cancelled_too_late, orphans::others_orphan, owner::invalid,
};
use core::time::Duration;
use mainstay_base::{Flags, Instant, LockId, SessionId};
use mainstay_lock::admit_adopt;
use mainstay_wire::{
    ceding::{Ceding as Message, Found},
    client::{Answer, Handle},
    dlm::{Body, ResourceId},
    lock::Refusal,
    report::OwnerReport,
};

/// How long a member may take to answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// Most searches of a client at a time.
const SEARCHES_MAX: usize = 64;

/// A search.
#[derive(Debug)]
pub(super) struct Search {
    pub(super) session: SessionId,
    pub(super) request: u64,
    pub(super) call: AdoptCall,
    pub(super) process: OwnerReport,
    /// Who has been asked.
    pub(super) asked: Life,
    give_up_at: Instant,
    /// What is told if nobody has one.
    why: Refusal,
}

impl Dlm {
    /// A client asks for an orphan of any other member; `why` is what it is told if there is none.
    ///
    /// # Errors
    /// If nobody is asked.
    pub fn seek(
        &mut self,
        now: Instant,
        session: SessionId,
        request: u64,
        call: AdoptCall,
        why: Refusal,
    ) -> Result<(), Refusal> {
        self.may_come(session, call.space)?;
        let compat = self.spaces.compat(call.space);
        let flags = call.flags.without(Flags::SURVIVE);
        let flags = admit_adopt(compat, call.mode, flags).map_err(invalid)?;
        if self.is_handle_used(session, call.handle) {
            return Err(Refusal::HandleInUse);
        }
        let under_way = self.ceding.searching(session);
        if under_way >= SEARCHES_MAX {
            let text = format!("{under_way} searches for orphans of this session are under way");
            return Err(Refusal::Limit(text));
        }
        self.quotas.check(session, 1, Flags::NOQUEUE)?;
        let why = match self.view.pending.is_empty() {
            true => why,
            false => unanswered(), // They may have such orphans, and are not asked.
        };
        let search = Search {
            session,
            request,
            call: AdoptCall { flags, ..call },
            process: self.deadlocks.process(session),
            asked: (mainstay_base::NodeId(0), mainstay_base::Incarnation(0)),
            give_up_at: now,
            why,
        };
        let Some(first) = self.next_to_ask(None) else {
            return Err(search.why);
        };
        let lock = LockId(self.next_lock);
        self.next_lock += 1;
        self.ask_for_orphan(now, lock, search, first);
        Ok(())
    }

    /// The next member after one.
    fn next_to_ask(&self, after: Option<Life>) -> Option<Life> {
        let mut members = self.view.members.iter();
        let next = members.find(|m| m.node != self.me && after.is_none_or(|(n, _)| m.node > n));
        next.map(|member| (member.node, member.incarnation))
    }

    fn ask_for_orphan(&mut self, now: Instant, lock: LockId, mut search: Search, whom: Life) {
        search.asked = whom;
        search.give_up_at = now + PATIENCE;
        self.ceding.due.insert((search.give_up_at, lock));
        let body = Body::Ceding(Message::Seek {
            resource: ResourceId {
                space: search.call.space,
                name: search.call.name.clone(),
            },
            mode: search.call.mode,
            uid: search.call.uid,
            lock,
        });
        // It counts from the call on.
        self.quotas.locks_come(search.session, 1);
        self.ceding.searches.insert(lock, search);
        self.send(whom.0, body);
    }

    fn take_search(&mut self, lock: LockId) -> Option<Search> {
        let search = self.ceding.searches.remove(&lock)?;
        self.ceding.due.remove(&(search.give_up_at, lock));
        self.quotas.locks_go(search.session, 1);
        Some(search)
    }

    /// A search goes on with the next member, or ends.
    pub(super) fn seek_on(&mut self, now: Instant, lock: LockId) {
        let Some(search) = self.take_search(lock) else {
            return;
        };
        self.surviving.drop_notice(lock);
        match self.next_to_ask(Some(search.asked)) {
            Some(next) => {
                // A number of its own for each: what one gives too late is not taken for another's.
                let lock = LockId(self.next_lock);
                self.next_lock += 1;
                self.ask_for_orphan(now, lock, search, next);
            }
            None => self.done(search.session, search.request, Err(search.why)),
        }
    }

    /// Searches go on whose members do not answer.
    pub(crate) fn pursue_searches(&mut self, now: Instant) {
        while let Some(&(at, lock)) = self.ceding.due.first().filter(|due| due.0 <= now) {
            self.ceding.due.remove(&(at, lock));
            self.unanswered(lock);
            self.seek_on(now, lock);
        }
    }

    /// The member that is asked says nothing.
    pub(super) fn unanswered(&mut self, lock: LockId) {
        if let Some(search) = self.ceding.searches.get_mut(&lock) {
            search.why = unanswered();
        }
    }

    /// A client wants an adoption no more. Whether there was one: it ends if nobody has given anything yet.
    pub(crate) fn cancel_search(
        &mut self,
        session: SessionId,
        request: u64,
        handle: Handle,
    ) -> bool {
        if !self.ceding.is_adopting(session, handle) {
            return false;
        }
        let mut searches = self.ceding.searches.iter();
        let search = searches.find(|(_, s)| s.session == session && s.call.handle == handle);
        let search = search.map(|(lock, search)| (*lock, search.call.space));
        // Without a time limit the log decides.
        let due = |lock: LockId| self.ceding.due.iter().any(|(_, known)| *known == lock);
        let result = match search {
            Some((lock, _)) if due(lock) => {
                self.surviving.drop_notice(lock);
                if let Some(search) = self.take_search(lock) {
                    self.done(session, search.request, Err(Refusal::Cancelled));
                }
                Ok(Answer::Cancelled)
            }
            Some((_, space)) => cancelled_too_late(self.spaces.compat(space)),
            None => {
                let taking = self.ceding.taking.iter();
                let mut taking = taking.filter(|(_, t)| t.session == session && t.handle == handle);
                let lock = taking.next().map_or(LockId(0), |(lock, _)| *lock);
                self.too_late(lock)
            }
        };
        self.done(session, request, result);
        true
    }

    /// A member has told what it has.
    pub(super) fn on_found(&mut self, now: Instant, from: Life, lock: LockId, found: Found) {
        let search = self.ceding.searches.get_mut(&lock);
        let Some(search) = search.filter(|search| search.asked == from) else {
            if let Found::Ceded(ceded) = found {
                // It came too late.
                let (lock, to, taken) = (ceded.lock, lock, false);
                let body = Body::Ceding(Message::Ends { lock, to, taken });
                self.send(from.0, body);
            }
            return;
        };
        let why = match found {
            Found::Ceded(ceded) => {
                if let Some(search) = self.take_search(lock) {
                    self.begin_taking(now, from, lock, search, *ceded);
                }
                return;
            }
            Found::InLog => {
                // The log decides, or the end of that life.
                let due = (search.give_up_at, lock);
                self.ceding.due.remove(&due);
                return;
            }
            Found::Nothing => Refusal::NoSuchOrphan,
            Found::Busy => Refusal::Busy,
            Found::InMode(mode) => Refusal::OrphanInMode(mode),
            Found::Others => others_orphan(),
        };
        if rank(&why) > rank(&search.why) {
            search.why = why;
        }
        self.seek_on(now, lock);
    }

    /// The log has given a lock to this node: for whom that was, if anybody waits for it.
    pub(crate) fn searched(
        &mut self,
        lock: LockId,
    ) -> Option<(SessionId, u64, AdoptCall, OwnerReport)> {
        let search = self.take_search(lock)?;
        Some((search.session, search.request, search.call, search.process))
    }

    /// What a client sought that is gone nobody wants any more.
    pub(crate) fn forget_searches(&mut self, session: SessionId) {
        let searches = self.ceding.searches.iter();
        let of = searches.filter(|(_, search)| search.session == session);
        let of: Vec<LockId> = of.map(|(lock, _)| *lock).collect();
        for lock in of {
            self.surviving.drop_notice(lock);
            self.take_search(lock);
        }
    }
}

fn unanswered() -> Refusal {
    let text = "a member that may have such an orphan did not answer in time; try again";
    Refusal::Unavailable(text.to_owned())
}

/// Which of two answers says more.
fn rank(why: &Refusal) -> u8 {
    match why {
        Refusal::NoSuchOrphan => 0,
        Refusal::OrphanInMode(_) => 1,
        Refusal::Denied(_) => 2,
        Refusal::Unavailable(_) => 4,
        _ => 3,
    }
}
