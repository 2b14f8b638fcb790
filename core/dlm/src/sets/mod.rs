//! Calls that are for several locks at once: sets, taken all or none ([`gather`]), and conversions
//! and unlocks in bulk ([`bulk`]).
//!
//! All of it is the owner's node's affair. To the masters each lock is one as any other, asked for,
//! restated and dropped as such; only the owner's node knows that the client is not to hear of it
//! yet. Once a set is granted nothing remembers that its locks came together.
//!
//! The rules are in `docs/protocol/sets.md`.

mod bulk;
mod gather;

pub(crate) use bulk::Entry;
pub use gather::SetCall;

use crate::{Dlm, deadlock::Verdict};
use core::time::Duration;
use mainstay_base::{Instant, LockId, LockMode, SET_LOCKS_MAX, SessionId, VictimPolicy};
use mainstay_wire::{
    client::{Answer, Handle},
    deadlock::Waiter,
    lock::{Granted, Refusal},
    sets::OneDone,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bulk::Bulk;
pub(crate) use gather::Gathering;

/// How long locks of a set are held behind one whose master has not answered yet.
const PATIENCE: Duration = Duration::from_millis(250);

/// Said of an answer that the call cannot have.
const ENDED_OTHERWISE: &str = "the call was answered as another kind of call is";

/// Numbers of sets and bulk calls, counted up on this node.
type Number = u64;

/// Why a call was not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It was refused.
    Refused(Refusal),
    /// It was refused, because it waited in a circle.
    Victim {
        /// By what policy it was chosen.
        policy: VictimPolicy,
        /// The circle, beginning with the refused wait.
        circle: Vec<Waiter>,
        /// The lock had given up its mode for NL before.
        demoted: bool,
    },
}

/// Whose the answer to a lock's call is, where it is not the client's alone.
#[derive(Clone, Copy, Debug)]
enum Part {
    /// A set's that is being gathered, and the lock's place among its members.
    Member { set: Number, at: usize },
    /// A bulk call's, and the place there.
    Entry { bulk: Number, at: usize },
}

/// What happened to a lock that a set has asked for.
#[derive(Debug)]
enum News {
    /// It stands in a queue.
    Queued,
    /// Its request has ended.
    Ended(Result<Granted, Fault>),
}

/// All calls for several locks that are not answered yet.
#[derive(Debug, Default)]
pub(crate) struct Sets {
    last: Number,
    gathering: BTreeMap<Number, Gathering>,
    bulks: BTreeMap<(SessionId, Number), Bulk>,
    /// Locks whose calls are parts of others, and all that sets hold already.
    parts: BTreeMap<LockId, Part>,
    /// What locks of sets were said to be in the way of, which their clients are to hear once the
    /// sets are granted.
    blocked: BTreeMap<LockId, Vec<LockMode>>,
    /// Handles that locks of sets shall have.
    handles: BTreeMap<(SessionId, Handle), Number>,
    /// When something is to be done about a set that waits.
    timers: BTreeSet<(Instant, Number)>,
    /// What happened to locks of sets. It is acted upon when nothing else is under way: asking for
    /// one lock may end another's call at once, where the master is here.
    news: VecDeque<(Number, usize, LockId, News)>,
    /// When the first of it came.
    news_at: Instant,
}

impl Sets {
    /// When there is something to do.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let news = (!self.news.is_empty()).then_some(self.news_at);
        let timer = self.timers.first().map(|timer| timer.0);
        news.into_iter().chain(timer).min()
    }

    /// A lock is gone.
    pub(crate) fn forget(&mut self, lock: LockId) {
        if !self.parts.is_empty() {
            self.parts.remove(&lock);
            self.blocked.remove(&lock);
        }
    }

    /// A lock is in the way of others. Whether its client is not to hear of that yet.
    pub(crate) fn keep_notice(&mut self, lock: LockId, mode: LockMode) -> bool {
        let gathers = self.gathers(lock);
        if gathers {
            let blocked = self.blocked.entry(lock).or_default();
            if !blocked.contains(&mode) {
                blocked.push(mode);
            }
        }
        gathers
    }

    /// Whether a lock is held or asked for by a set of which the client has not been told yet.
    pub(crate) fn gathers(&self, lock: LockId) -> bool {
        matches!(self.parts.get(&lock), Some(Part::Member { .. }))
    }

    /// Whether a handle is one that a lock of a set shall have.
    pub(crate) fn has_handle(&self, session: SessionId, handle: Handle) -> bool {
        self.set_of(session, handle).is_some()
    }

    fn set_of(&self, session: SessionId, handle: Handle) -> Option<Number> {
        self.handles.get(&(session, handle)).copied()
    }

    /// All handles of a session that locks of sets shall have.
    pub(crate) fn handles_of(&self, session: SessionId) -> Vec<Handle> {
        let all = (session, Handle(u64::MIN))..=(session, Handle(u64::MAX));
        let handles = self.handles.range(all);
        handles.map(|((_, handle), _)| *handle).collect()
    }

    fn next_number(&mut self) -> Number {
        self.last += 1;
        self.last
    }

    fn tell(&mut self, now: Instant, part: (Number, usize), lock: LockId, news: News) {
        if self.news.is_empty() {
            self.news_at = now;
        }
        self.news.push_back((part.0, part.1, lock, news));
    }

    /// A lock stands in a queue.
    pub(crate) fn queued(&mut self, now: Instant, lock: LockId) {
        if let Some(&Part::Member { set, at }) = self.parts.get(&lock) {
            self.tell(now, (set, at), lock, News::Queued);
        }
    }

    /// How many locks each set counts for its session, and whether it counts as a call that waits.
    pub(crate) fn promised(&self) -> impl Iterator<Item = (SessionId, u64, bool)> {
        self.gathering.values().map(Gathering::promised)
    }

    /// A session is over: its calls get no answers. Locks that sets hold or wait for go with all
    /// others of the session. Gives what sets it had.
    pub(crate) fn forget_session(&mut self, session: SessionId) -> Vec<Gathering> {
        let mut ended = Vec::new();
        let all = (session, Number::MIN)..=(session, Number::MAX);
        let bulks: Vec<_> = self.bulks.range(all).map(|(key, _)| *key).collect();
        for key in bulks {
            self.bulks.remove(&key);
        }
        for handle in self.handles_of(session) {
            let Some(number) = self.handles.remove(&(session, handle)) else {
                continue;
            };
            if let Some(set) = self.gathering.remove(&number) {
                self.unset_timer(number, &set);
                ended.push(set);
            }
        }
        ended
    }

    /// The call on a lock is not part of another any more.
    pub(crate) fn leave_call(&mut self, lock: LockId) {
        self.parts.remove(&lock);
    }

    fn unset_timer(&mut self, number: Number, set: &Gathering) {
        for at in [set.deadline, set.patience].into_iter().flatten() {
            self.timers.remove(&(at, number));
        }
    }
}

impl Dlm {
    /// The call of a lock has ended: tells whoever is to hear of it.
    pub(crate) fn call_done(
        &mut self,
        now: Instant,
        lock: LockId,
        (session, request): (SessionId, u64),
        end: Result<Answer, Fault>,
    ) {
        match self.sets.parts.get(&lock).copied() {
            Some(Part::Member { set, at }) => {
                let other = || Fault::Refused(Refusal::Unavailable(ENDED_OTHERWISE.to_owned()));
                let end = end.and_then(|answer| match one_done(answer) {
                    Some(OneDone::Granted { granted, .. }) => Ok(granted),
                    _ => Err(other()),
                });
                self.sets.tell(now, (set, at), lock, News::Ended(end));
            }
            Some(Part::Entry { bulk, at }) => {
                self.sets.parts.remove(&lock);
                self.entry_done(session, bulk, at, end);
            }
            None => self.tell_done(session, request, end),
        }
    }

    fn tell_done(&mut self, session: SessionId, request: u64, end: Result<Answer, Fault>) {
        match end {
            Ok(answer) => self.done(session, request, Ok(answer)),
            Err(Fault::Refused(why)) => self.done(session, request, Err(why)),
            Err(Fault::Victim {
                policy,
                circle,
                demoted,
            }) => {
                let verdict = Verdict { policy, circle };
                self.done_in_circle((session, request), verdict, demoted, None);
            }
        }
    }
}

/// Whether a call may be for so many locks.
fn check_count(what: &str, count: usize) -> Result<(), Refusal> {
    match count {
        1..=SET_LOCKS_MAX => Ok(()),
        _ => Err(Refusal::Limit(format!(
            "{what} of {count} locks; 1 to {SET_LOCKS_MAX} are possible in one call"
        ))),
    }
}

/// How one of several calls ended well, if it is one that may be.
fn one_done(answer: Answer) -> Option<OneDone> {
    let granted = |granted, altmode, demoted| OneDone::Granted {
        granted,
        altmode,
        demoted,
    };
    match answer {
        Answer::Granted(grant) => Some(granted(grant, false, false)),
        Answer::GrantedOtherwise {
            granted: grant,
            altmode,
            demoted,
        } => Some(granted(grant, altmode, demoted)),
        Answer::Unlocked { version } => Some(OneDone::Unlocked { version }),
        _ => None,
    }
}
