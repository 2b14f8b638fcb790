//! Conversions and releases in bulk.

use super::{Daemon, Part, Said};
use mainstay_base::{SET_LOCKS_MAX, SessionId};
use mainstay_wire::{client::Ask, lock::Refusal, sets::OneDone};

/// A call for several locks, and how each entry has ended.
#[derive(Debug)]
pub(super) struct Bulk {
    pub(super) session: SessionId,
    request: u64,
    results: Vec<Option<Result<OneDone, Vec<Refusal>>>>,
}

impl Daemon {
    pub(super) fn ask_many(&mut self, session: SessionId, request: u64, ask: Ask) {
        let count = match &ask {
            Ask::ConvertMany { locks, .. } => locks.len(),
            Ask::UnlockMany { locks } => locks.len(),
            _ => 0,
        };
        if !(1..=SET_LOCKS_MAX).contains(&count) {
            let why = Refusal::Limit(String::new());
            return self.answer(session, request, Err(vec![why]));
        }
        let number = self.number();
        let results = vec![None; count];
        let bulk = Bulk {
            session,
            request,
            results,
        };
        self.bulks.insert(number, bulk);
        match ask {
            Ask::ConvertMany { locks, timeout_ms } => {
                for (at, one) in locks.into_iter().enumerate() {
                    let part = Part::Entry(number, at);
                    let begun = self.begin_convert(session, request, one, timeout_ms, part);
                    self.refused_at_once(number, at, begun);
                }
            }
            Ask::UnlockMany { locks } => {
                for (at, one) in locks.into_iter().enumerate() {
                    let part = Part::Entry(number, at);
                    let begun = self.begin_unlock(session, request, one, part);
                    self.refused_at_once(number, at, begun);
                }
            }
            _ => {}
        }
    }

    fn refused_at_once(&mut self, number: u64, at: usize, begun: Result<(), Vec<Refusal>>) {
        if let Err(reasons) = begun {
            self.entry_done(number, at, Err(reasons));
        }
    }

    pub(super) fn entry_done(
        &mut self,
        number: u64,
        at: usize,
        result: Result<OneDone, Vec<Refusal>>,
    ) {
        let Some(bulk) = self.bulks.get_mut(&number) else {
            return; // Its session is gone.
        };
        bulk.results[at] = Some(result);
        if bulk.results.iter().any(Option::is_none) {
            return;
        }
        if let Some(bulk) = self.bulks.remove(&number) {
            let request = bulk.request;
            let results = bulk.results.into_iter().flatten().collect();
            self.say(bulk.session, Said::Many { request, results });
        }
    }
}
