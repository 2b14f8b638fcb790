//! Conversions and unlocks in bulk: each is a call of its own, only their answers are told together.

use super::{ENDED_OTHERWISE, Fault, Number, Part, check_count, one_done};
use crate::{ConvertCall, Dlm, Out, UnlockCall};
use mainstay_base::{Instant, LockId, SessionId};
use mainstay_wire::{client::Answer, lock::Refusal, sets::OneDone};

/// Several calls that are answered together.
#[derive(Debug)]
pub(super) struct Bulk {
    request: u64,
    /// How each ended, once it has.
    results: Vec<Option<Result<OneDone, Fault>>>,
    /// How many have not.
    left: usize,
}

/// The part of a bulk call that a lock's call is about to be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry {
    bulk: Number,
    at: usize,
}

impl Dlm {
    /// A client asks to convert several locks. With each comes why it is refused, if it is, unless the
    /// mode that is held covers the new one; what is held, those before it may change.
    pub fn convert_many(
        &mut self,
        now: Instant,
        session: SessionId,
        request: u64,
        calls: Vec<(ConvertCall, Option<Refusal>)>,
    ) {
        self.many(session, request, calls, |dlm, request, call, entry| {
            let (call, denied) = call;
            let begun = dlm.begin_convert(now, session, request, call, denied, Some(entry));
            begun.map(|()| None)
        });
    }

    /// A client asks to release several locks.
    pub fn unlock_many(
        &mut self,
        now: Instant,
        session: SessionId,
        request: u64,
        calls: Vec<UnlockCall>,
    ) {
        self.many(session, request, calls, |dlm, request, call, entry| {
            dlm.begin_unlock(now, session, request, call, Some(entry))
        });
    }

    /// Begins each call; what one gives at once is its end.
    fn many<C>(
        &mut self,
        session: SessionId,
        request: u64,
        calls: Vec<C>,
        mut begin: impl FnMut(&mut Dlm, u64, C, Entry) -> Result<Option<Answer>, Refusal>,
    ) {
        if let Err(why) = check_count("a call", calls.len()) {
            return self.done(session, request, Err(why));
        }
        let bulk = self.sets.next_number();
        let results = (0..calls.len()).map(|_| None).collect();
        let state = Bulk {
            request,
            results,
            left: calls.len(),
        };
        self.sets.bulks.insert((session, bulk), state);
        for (at, call) in calls.into_iter().enumerate() {
            let end = match begin(self, request, call, Entry { bulk, at }) {
                Ok(None) => continue,
                Ok(Some(answer)) => Ok(answer),
                Err(why) => Err(Fault::Refused(why)),
            };
            self.entry_done(session, bulk, at, end);
        }
    }

    /// The call on a lock that begins now is part of a bulk call.
    pub(crate) fn is_entry(&mut self, lock: LockId, entry: Option<Entry>) {
        if let Some(Entry { bulk, at }) = entry {
            self.sets.parts.insert(lock, Part::Entry { bulk, at });
        }
    }

    pub(super) fn entry_done(
        &mut self,
        session: SessionId,
        number: Number,
        at: usize,
        end: Result<Answer, Fault>,
    ) {
        let Some(bulk) = self.sets.bulks.get_mut(&(session, number)) else {
            return; // The session is over.
        };
        let other = || Fault::Refused(Refusal::Unavailable(ENDED_OTHERWISE.to_owned()));
        let end = end.and_then(|answer| one_done(answer).ok_or_else(other));
        if let Some(slot) = bulk.results.get_mut(at).filter(|slot| slot.is_none()) {
            *slot = Some(end);
            bulk.left -= 1;
        }
        if bulk.left > 0 {
            return;
        }
        if let Some(bulk) = self.sets.bulks.remove(&(session, number)) {
            self.out.push(Out::Many {
                session,
                request: bulk.request,
                results: bulk.results.into_iter().flatten().collect(),
            });
        }
    }
}
