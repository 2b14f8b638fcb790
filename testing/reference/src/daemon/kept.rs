//! Sessions that outlive their connection. From `docs/protocol/keeping.md`; the numbers in the comments are
//! of its rules.

use super::{Daemon, Said, invalid};
use mainstay_base::{Instant, SessionId};
use mainstay_wire::{client::Answer, keep::SessionKey};
use std::time::Duration;

/// The times for which a session can be kept, where nothing else is configured.
const GRACE: std::ops::RangeInclusive<u32> = 500..=60_000;

/// What is kept of a session.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    key: SessionKey,
    grace: Duration,
    /// Since when it has no connection.
    broken: Option<Instant>,
    /// The largest number of a request.
    asked: u64,
    /// How many requests are not answered.
    open: u64,
    /// Everything that its client was told or is still to be told.
    told: Vec<Said>,
    /// How much of that the client has said to have heard.
    heard: usize,
}

impl Kept {
    pub(super) fn ends(&self) -> Option<Instant> {
        self.broken.map(|since| since + self.grace)
    }
}

impl Daemon {
    fn kept(&self, session: SessionId) -> Option<&Kept> {
        self.clients.get(&session)?.kept.as_ref()
    }

    fn kept_mut(&mut self, session: SessionId) -> Option<&mut Kept> {
        self.clients.get_mut(&session)?.kept.as_mut()
    }

    /// Whether a session is kept when its connection breaks.
    #[must_use]
    pub fn is_kept(&self, session: SessionId) -> bool {
        self.kept(session).is_some()
    }

    /// Whether a session is open and has a connection.
    #[must_use]
    pub fn is_linked(&self, session: SessionId) -> bool {
        let kept = self.kept(session);
        self.is_open(session) && kept.is_none_or(|kept| kept.broken.is_none())
    }

    /// How many messages of a kept session there were so far.
    #[must_use]
    pub fn told_count(&self, session: SessionId) -> u64 {
        self.kept(session).map_or(0, |kept| kept.told.len() as u64)
    }

    /// Whether a session has a call that is not answered yet: then the driver does not have it kept (1).
    #[must_use]
    pub fn has_open_calls(&self, session: SessionId) -> bool {
        let waits = |lock: &super::Lock| lock.session == session && lock.call.is_some();
        self.locks.values().any(waits)
            || self.sets.values().any(|set| set.session == session)
            || self.bulks.values().any(|bulk| bulk.session == session)
            || self.reports.iter().any(|(asker, ..)| *asker == session)
    }

    /// A client asks for its session to be kept, and the driver has drawn a key.
    pub fn keep(&mut self, session: SessionId, request: u64, grace_ms: u32, key: SessionKey) {
        if !self.is_open(session) || !self.arrives(session, request) {
            return;
        }
        if self.is_kept(session) || !GRACE.contains(&grace_ms) {
            return self.answer(session, request, Err(vec![invalid()]));
        }
        self.say(session, Said::done(request, Answer::Kept { key }));
        if let Some(client) = self.clients.get_mut(&session) {
            client.kept = Some(Kept {
                key,
                grace: Duration::from_millis(grace_ms.into()),
                broken: None,
                asked: request,
                open: 0,
                told: Vec::new(),
                heard: 0,
            });
        }
    }

    /// A request has come. Whether it is to be carried out: a kept session's only once (8).
    pub(super) fn arrives(&mut self, session: SessionId, request: u64) -> bool {
        let Some(kept) = self.kept_mut(session) else {
            return true;
        };
        let new = request > kept.asked;
        if new {
            kept.asked = request;
            kept.open += 1;
        }
        new
    }

    /// Something is said to a session. Whether it has a connection on which it hears that now.
    pub(super) fn counts(&mut self, session: SessionId, said: &Said) -> bool {
        let Some(kept) = self.kept_mut(session) else {
            return true;
        };
        kept.open -= u64::from(said.is_answer());
        kept.told.push(said.clone());
        kept.broken.is_none()
    }

    /// The connection of a session is gone (2).
    pub fn disconnect(&mut self, session: SessionId) {
        let now = self.now;
        match self.kept_mut(session) {
            None => self.close(session),
            Some(kept) => kept.broken = kept.broken.or(Some(now)),
        }
    }

    /// A client has heard so many messages (7).
    pub(super) fn heard(&mut self, session: SessionId, request: u64, upto: u64) {
        let known = self.kept_mut(session).is_some_and(|kept| {
            let known = upto <= kept.told.len() as u64;
            if known {
                kept.heard = kept.heard.max(upto as usize);
            }
            known
        });
        let answer = match known {
            true => Ok(Answer::Heard),
            false => Err(vec![invalid()]),
        };
        self.answer(session, request, answer);
    }

    /// Somebody wants to continue a session on a connection: how many answers are still to come, if
    /// that may be (8, 9).
    #[must_use]
    pub fn reattach(
        &mut self,
        session: SessionId,
        key: SessionKey,
        heard: u64,
        uid: u32,
    ) -> Option<u64> {
        let same_user = self.caller(session).uid == uid;
        let kept = self.kept_mut(session)?;
        let all = kept.told.len() as u64;
        if !same_user || kept.key != key || !(kept.heard as u64..=all).contains(&heard) {
            return None;
        }
        kept.heard = heard as usize;
        kept.broken = None;
        let again = kept.told[kept.heard..].to_vec();
        let answers = again.iter().filter(|said| said.is_answer()).count();
        let unanswered = kept.open + answers as u64;
        let (asked, told) = (kept.asked, all);
        let first = Said::done(0, Answer::Reattached { asked, told });
        for said in std::iter::once(first).chain(again) {
            self.queue.push(session, said);
        }
        Some(unanswered)
    }

    /// Ends sessions whose grace is over (2).
    pub(super) fn end_kept(&mut self) {
        loop {
            let clients = self.clients.iter();
            let ends =
                clients.filter_map(|(id, client)| Some((client.kept.as_ref()?.ends()?, *id)));
            let Some((_, session)) = ends.min().filter(|(at, _)| *at <= self.now) else {
                return;
            };
            self.over.push(session);
            self.close(session);
        }
    }
}
