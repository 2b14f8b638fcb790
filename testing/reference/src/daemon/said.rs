//! What must come out, and whether what came out is that.

use mainstay_base::SessionId;
use mainstay_wire::{
    client::{Answer, Ask, ToClient},
    lock::Refusal,
    sets::OneDone,
};
use std::{collections::VecDeque, mem::discriminant};

/// What a client is to be told. Texts are left to the daemon; of reasons to refuse a call that all
/// apply it may name any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// This.
    Told(ToClient),
    /// That a call is refused, for one of these reasons.
    Refused {
        /// The call's number.
        request: u64,
        /// What is wrong with it.
        reasons: Vec<Refusal>,
    },
    /// How each of several calls ended.
    Many {
        /// The call's number.
        request: u64,
        /// One of each: what it came to, or what is wrong with it.
        results: Vec<Result<OneDone, Vec<Refusal>>>,
    },
}

impl Said {
    /// The answer to a call.
    pub(crate) fn done(request: u64, answer: Answer) -> Said {
        let result = Ok(answer);
        Said::Told(ToClient::Done { request, result })
    }

    /// Whether it ends a call.
    pub(crate) fn is_answer(&self) -> bool {
        !matches!(self, Said::Told(told) if !matches!(told, ToClient::Done { .. }))
    }

    /// Whether a message says that.
    #[must_use]
    pub fn admits(&self, told: &ToClient) -> bool {
        match (self, told) {
            (
                Said::Refused { request, reasons },
                ToClient::Done {
                    request: r,
                    result: Err(why),
                },
            ) => request == r && any(reasons, why),
            (
                Said::Many { request, results },
                ToClient::Done {
                    request: r,
                    result: Ok(Answer::Many { results: told }),
                },
            ) => {
                let mut each = results.iter().zip(told);
                request == r
                    && results.len() == told.len()
                    && each.all(|(ours, theirs)| match (ours, theirs) {
                        (Ok(ours), Ok(theirs)) => ours == theirs,
                        (Err(reasons), Err(why)) => any(reasons, why),
                        _ => false,
                    })
            }
            (Said::Told(expected), told) => expected == told,
            _ => false,
        }
    }
}

fn any(reasons: &[Refusal], why: &Refusal) -> bool {
    reasons.iter().any(|reason| alike(reason, why))
}

/// Whether two refusals are the same but for their texts.
fn alike(a: &Refusal, b: &Refusal) -> bool {
    match (a, b) {
        (Refusal::AfterDemotion(a), Refusal::AfterDemotion(b)) => alike(a, b),
        (Refusal::OfSet(a), Refusal::OfSet(b)) => {
            (a.place, &a.name) == (b.place, &b.name) && alike(&a.why, &b.why)
        }
        (
            Refusal::Invalid(_) | Refusal::Limit(_) | Refusal::Unavailable(_) | Refusal::Denied(_),
            _,
        ) => discriminant(a) == discriminant(b),
        (a, b) => a == b,
    }
}

/// Whether a call only asks for a report.
pub(crate) fn is_report(ask: &Ask) -> bool {
    matches!(
        ask,
        Ask::Status
            | Ask::Locks { .. }
            | Ask::Why { .. }
            | Ask::Graph { .. }
            | Ask::Contention { .. }
            | Ask::Masters
            | Ask::Lockspaces { .. }
            | Ask::Orphans { .. }
    )
}

/// Whether an answer is of the kind that a report is asked for with.
pub(crate) fn is_report_for(ask: &Ask, answer: &Answer) -> bool {
    matches!(
        (ask, answer),
        (Ask::Status, Answer::Status(_))
            | (Ask::Locks { .. }, Answer::Locks(_))
            | (Ask::Why { .. }, Answer::Why(_))
            | (Ask::Graph { .. }, Answer::Graph(_))
            | (Ask::Contention { .. }, Answer::Contention(_))
            | (Ask::Masters, Answer::Masters(_))
            | (Ask::Lockspaces { .. }, Answer::Lockspaces { .. })
            | (Ask::Orphans { .. }, Answer::Orphans(_))
    )
}

/// What each client is still to be told, in its order.
#[derive(Debug, Default)]
pub(crate) struct Queue(Vec<(SessionId, VecDeque<Said>)>);

impl Queue {
    pub(crate) fn push(&mut self, to: SessionId, said: Said) {
        match self.0.iter_mut().find(|(session, _)| *session == to) {
            Some((_, queue)) => queue.push_back(said),
            None => self.0.push((to, VecDeque::from([said]))),
        }
    }

    /// A message has come; whether it was the next one for its client, or what that would have been.
    pub(crate) fn take(&mut self, to: SessionId, told: &ToClient) -> Result<(), String> {
        let queue = self.0.iter_mut().find(|(session, _)| *session == to);
        let next = queue.and_then(|(_, queue)| queue.pop_front());
        match next {
            Some(said) if said.admits(told) => Ok(()),
            Some(said) => Err(format!("{to} was told {told:?}\ninstead of {said:?}")),
            None => Err(format!("{to} was told {told:?}\ninstead of nothing")),
        }
    }

    /// Whether all has been told, or what has not.
    pub(crate) fn is_told(&mut self) -> Result<(), String> {
        for (session, queue) in std::mem::take(&mut self.0) {
            if let Some(said) = queue.front() {
                return Err(format!("{session} was not told {said:?}"));
            }
        }
        Ok(())
    }
}
