//! Sessions that are kept while they have no connection, and what is kept for them: what their clients
//! have not heard, and how far they were heard themselves (`docs/protocol/keeping.md`).

use crate::{Effect, Node, query::millis};
use core::time::Duration;
use mainstay_base::{Instant, Mutant, SessionId, Value};
use mainstay_wire::{
    client::{Answer, HEADER_LEN, Handle, ToClient},
    codec,
    event::{Reason, SessionFate, What},
    keep::{BrokenReport, GRACE_MS_MIN, SessionKey},
    lock::Refusal,
    report::OwnerReport,
};
use std::collections::{BTreeMap, VecDeque};

/// Bytes that a client has not said to have heard beyond which its session cannot be continued (rule
/// 13). Less than a driver lets wait for a connection, so that this is what a slow client meets first.
const UNHEARD_MAX: usize = 6 << 20;
/// Such bytes beyond which changes of value blocks are held back (rule 14).
const HOLD_BACK: usize = 1 << 20;

/// A session that outlives its connection.
#[derive(Debug)]
pub(crate) struct Kept {
    key: SessionKey,
    grace: Duration,
    /// When its connection broke, if it has none.
    broken: Option<Instant>,
    /// Nobody can continue it: messages were dropped.
    torn: bool,
    /// Its requests up to this one have arrived.
    asked: u64,
    /// How many of them are not answered.
    open: u64,
    /// Messages told so far.
    told: u64,
    /// Messages that the client has said to have heard.
    heard: u64,
    /// The messages between these two.
    unheard: VecDeque<Unheard>,
    /// The length of them all.
    bytes: usize,
    /// Value blocks that changed while too much was unheard.
    values: BTreeMap<Handle, Value>,
}

#[derive(Debug)]
struct Unheard {
    message: ToClient,
    len: usize,
}

impl Kept {
    /// When it ends, if nobody continues it.
    pub(crate) fn ends(&self) -> Option<Instant> {
        self.broken.map(|since| since + self.grace)
    }

    /// Remembers a message until it was heard. Whether it is to be told now.
    fn note(&mut self, message: &ToClient) -> bool {
        if self.torn {
            return false;
        }
        if let ToClient::ValueChanged { handle, value } = message
            && (!self.values.is_empty() || self.bytes >= HOLD_BACK)
        {
            self.values.insert(*handle, value.clone());
            return false;
        }
        if matches!(message, ToClient::Done { .. }) {
            self.open = self.open.saturating_sub(1);
        }
        let len = HEADER_LEN + codec::to_vec(message).len();
        self.told += 1;
        self.bytes += len;
        self.unheard.push_back(Unheard {
            message: message.clone(),
            len,
        });
        self.broken.is_none()
    }

    /// The client has heard so many messages.
    fn forget(&mut self, upto: u64) {
        while self.heard < upto
            && let Some(first) = self.unheard.pop_front()
        {
            self.heard += 1;
            self.bytes -= first.len;
        }
    }

    /// Whether all that a client has not heard is still here.
    fn can_resume(&self, heard: u64) -> bool {
        (self.heard..=self.told).contains(&heard)
    }

    /// The next held back change of a value block, if there is room for it again.
    fn next_value(&mut self) -> Option<ToClient> {
        if self.bytes >= HOLD_BACK / 2 {
            return None;
        }
        let (handle, value) = self.values.pop_first()?;
        Some(ToClient::ValueChanged { handle, value })
    }
}

impl Node {
    /// Whether a session is kept when its connection breaks.
    #[must_use]
    pub fn is_kept(&self, session: SessionId) -> bool {
        self.kept.contains_key(&session)
    }

    /// Whether a request of a kept session has arrived before, so that nothing will come of it.
    #[must_use]
    pub fn is_repeated(&self, session: SessionId, request: u64) -> bool {
        let kept = self.kept.get(&session);
        kept.is_some_and(|kept| request <= kept.asked)
    }

    pub(crate) fn keep_session(
        &mut self,
        session: SessionId,
        request: u64,
        grace_ms: u32,
        key: SessionKey,
    ) {
        if !self.sessions.contains_key(&session) || !self.is_new(session, request) {
            return;
        }
        let max = millis(self.config.max_grace);
        let why = if max == 0 {
            "this node keeps no sessions (`max-grace-s` in `[sessions]` is 0)".to_owned()
        } else if !(u64::from(GRACE_MS_MIN)..=max).contains(&grace_ms.into()) {
            format!(
                "a session can be kept for {GRACE_MS_MIN} to {max} ms, not for {grace_ms} \
                 (`max-grace-s` in `[sessions]`)"
            )
        } else if self.is_kept(session) {
            "this session is kept already".to_owned()
        } else {
            self.answer(session, request, Answer::Kept { key });
            let kept = Kept {
                key,
                grace: Duration::from_millis(grace_ms.into()),
                broken: None,
                torn: false,
                asked: request,
                open: 0,
                told: 0,
                heard: 0,
                unheard: VecDeque::new(),
                bytes: 0,
                values: BTreeMap::new(),
            };
            self.kept.insert(session, kept);
            return;
        };
        self.refuse(session, request, Refusal::Invalid(why));
    }

    /// Whether a request has not arrived before. What a client repeats on a new connection, because it
    /// could not know, is not carried out twice (rule 8).
    pub(crate) fn is_new(&mut self, session: SessionId, request: u64) -> bool {
        if self.is_repeated(session, request) && !Mutant::RepeatedCarriedOut.active() {
            return false;
        }
        let Some(kept) = self.kept.get_mut(&session) else {
            return true;
        };
        kept.asked = kept.asked.max(request);
        kept.open += 1;
        true
    }

    /// Remembers what a kept session is told. Whether it can be told now.
    pub(crate) fn note_told(&mut self, session: SessionId, message: &ToClient) -> bool {
        let Some(kept) = self.kept.get_mut(&session) else {
            return true;
        };
        let now = kept.note(message);
        if kept.bytes > UNHEARD_MAX {
            kept.torn = true;
            kept.unheard = VecDeque::new();
            kept.values = BTreeMap::new();
            kept.bytes = 0;
            if kept.broken.is_none() {
                self.cut(session);
            }
            return false;
        }
        now
    }

    /// Closes the connection of a client that does not say what it has heard. Its session ends after
    /// the grace as any other without a connection: the client may be stopped, and believe in its locks.
    fn cut(&mut self, session: SessionId) {
        let reason = format!(
            "the client did not say that it had heard what it was told, of which there were more than \
             {UNHEARD_MAX} bytes"
        );
        let message = ToClient::SessionLost { reason };
        self.out.push(Effect::Client { session, message });
        self.out.push(Effect::CloseSession { session });
        self.broke(self.now, session, Reason::NotHeard);
    }

    pub(crate) fn on_heard(&mut self, session: SessionId, request: u64, upto: u64) {
        let told = match self.kept.get_mut(&session) {
            Some(kept) if upto <= kept.told => {
                kept.forget(upto);
                None
            }
            Some(kept) => Some(kept.told),
            None => {
                let text = "only a kept session counts what it hears".to_owned();
                return self.refuse(session, request, Refusal::Invalid(text));
            }
        };
        if let Some(told) = told {
            let text = format!("{upto} messages were heard of {told}");
            return self.refuse(session, request, Refusal::Invalid(text));
        }
        self.answer(session, request, Answer::Heard);
        while let Some(kept) = self.kept.get_mut(&session)
            && let Some(message) = kept.next_value()
        {
            self.tell(session, message);
        }
    }

    /// The connection of a session is gone.
    pub(crate) fn on_closed(&mut self, now: Instant, session: SessionId) {
        if Mutant::KeptWithoutLocks.active() && self.is_kept(session) {
            self.dlm.close_session(now, session);
            self.dlm.open_session(session);
        }
        match self.kept.get(&session) {
            None => self.end_session(now, session),
            Some(kept) if kept.broken.is_none() => {
                self.broke(now, session, Reason::ClientGone);
            }
            Some(_) => {}
        }
    }

    fn broke(&mut self, now: Instant, session: SessionId, reason: Reason) {
        let Some(kept) = self.kept.get_mut(&session) else {
            return;
        };
        kept.broken = Some(now);
        let kept_ms = millis(kept.grace);
        self.quiet_until = self.quiet_until.min(now + kept.grace);
        self.session_event(session, reason, SessionFate::Broken { kept_ms });
    }

    fn session_event(&mut self, session: SessionId, reason: Reason, fate: SessionFate) {
        let owner = self.sessions.get(&session).map(|s| &s.owner);
        let (pid, command) = owner.map_or((0, String::new()), |o| (o.pid, o.command.clone()));
        let what = What::Session { session, pid, fate };
        self.event(what, reason, command);
    }

    /// Ends kept sessions whose clients have not come back.
    pub(crate) fn expire_kept(&mut self, now: Instant) {
        let over = |kept: &Kept| kept.ends().is_some_and(|at| at <= now);
        let over = self.kept.iter().filter(|(_, kept)| over(kept));
        let over: Vec<SessionId> = over.map(|(session, _)| *session).collect();
        for session in over {
            self.session_event(session, Reason::GraceOver, SessionFate::Ended);
            self.end_session(now, session);
        }
    }

    /// A connection wants to continue a session.
    pub(crate) fn reattach(
        &mut self,
        connection: SessionId,
        session: SessionId,
        key: SessionKey,
        heard: u64,
        uid: u32,
    ) {
        let same_user = self.caller(session).uid == uid;
        let kept = self.kept.get_mut(&session).filter(|kept| {
            kept.key.matches(&key) && same_user && !kept.torn && kept.can_resume(heard)
        });
        let Some(kept) = kept else {
            let why = Refusal::NoSuchSession;
            return self.out.push(Effect::TurnedAway { connection, why });
        };
        kept.broken = None;
        if !Mutant::UnheardNotTold.active() {
            kept.forget(heard);
        } else {
            kept.forget(kept.told);
        }
        let asked = kept.asked;
        let again: Vec<ToClient> = kept.unheard.iter().map(|u| u.message.clone()).collect();
        let answers = again.iter().filter(|m| matches!(m, ToClient::Done { .. }));
        let unanswered = kept.open + answers.count() as u64;
        let told = kept.told;
        self.out.push(Effect::Reattached {
            session,
            connection,
            unanswered,
        });
        let answer = ToClient::Done {
            request: 0,
            result: Ok(Answer::Reattached { asked, told }),
        };
        for message in std::iter::once(answer).chain(again) {
            self.out.push(Effect::Client { session, message });
        }
        self.session_event(session, Reason::ClientAsked, SessionFate::Continued);
    }

    /// Whose session it is, and for how long still if it has no connection.
    pub(crate) fn owner_now(&self, now: Instant, session: SessionId) -> Option<OwnerReport> {
        let mut owner = self.sessions.get(&session)?.owner.clone();
        if let Some(kept) = self.kept.get(&session)
            && let (Some(since), Some(ends)) = (kept.broken, kept.ends())
        {
            owner.broken = Some(BrokenReport {
                broken_ms: millis(now.since(since)),
                left_ms: millis(ends.since(now)),
            });
        }
        Some(owner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mainstay_base::{ValueBlock, ValueVersion};

    fn change(handle: u64, version: u64) -> ToClient {
        ToClient::ValueChanged {
            handle: Handle(handle),
            value: Value {
                block: ValueBlock::new([1; 4096]).expect("not too long"),
                version: ValueVersion(version),
                maybe_stale: false,
            },
        }
    }

    /// Protects the memory of the node and the connection of a client that watches busy values: while
    /// much is unheard, of each lock's changes only the last is kept, and told once there is room.
    #[test]
    fn changes_of_values_wait_while_much_is_unheard() {
        let mut kept = Kept {
            key: SessionKey([0; 16]),
            grace: Duration::from_secs(1),
            broken: None,
            torn: false,
            asked: 0,
            open: 0,
            told: 0,
            heard: 0,
            unheard: VecDeque::new(),
            bytes: 0,
            values: BTreeMap::new(),
        };
        let mut version = 0;
        while kept.values.is_empty() {
            version += 1;
            assert_eq!(kept.note(&change(1, version)), kept.values.is_empty());
        }
        assert_eq!(kept.told, version - 1);
        assert!(!kept.note(&change(1, version + 1)));
        assert!(!kept.note(&change(2, version + 2)));
        assert_eq!((kept.next_value(), kept.values.len()), (None, 2));
        kept.forget(kept.told);
        assert_eq!((kept.bytes, kept.unheard.len()), (0, 0));
        assert_eq!(kept.next_value(), Some(change(1, version + 1)));
        assert_eq!(kept.next_value(), Some(change(2, version + 2)));
    }
}
