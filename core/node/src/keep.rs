//! Sessions that are kept while they have no connection, and what is kept for them: what their clients
//! have not heard, and how far they were heard themselves (`docs/protocol/keeping.md`).

use crate::{Effect, Node, query::millis};
use core::time::Duration;
use mainstay_base::{Instant, Mutant, SessionId, Value};
use mainstay_wire::{
    carry::CarriedSession,
    client::{Answer, Ask, HEADER_LEN, Handle, ToClient},
    codec,
    event::{Reason, SessionFate, What},
    keep::{BrokenReport, GRACE_MS_MIN, SessionKey},
    lock::Refusal,
    report::OwnerReport,
};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Bytes that a client has not said to have heard beyond which its session cannot be continued (rule
/// 13). Less than a driver lets wait for a connection, so that this is what a slow client meets first.
const UNHEARD_MAX: usize = 6 << 20;
/// As many such messages, however short, since each takes room of its own.
const UNHEARD_COUNT_MAX: usize = 1 << 16;
/// Such bytes and messages beyond which changes of value blocks are held back (rule 14).
const HOLD_BACK: usize = 1 << 20;
const HOLD_BACK_COUNT: usize = 1 << 14;
/// Kept sessions without a connection that a user can have and still have another one kept (rule 1).
const BROKEN_MAX: usize = 1024;

/// The number of calls to take back what the next life asks for again.
pub(crate) const TAKE_BACK: u64 = u64::MAX;

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
    /// The length of them all.
    values_bytes: usize,
    /// Calls that may be waiting, and until when: they are made again by the next life, if this one rests.
    waiting: BTreeMap<u64, (Ask, Option<Instant>)>,
    /// Those of them that were taken back for that.
    taken_back: BTreeSet<u64>,
}

#[derive(Debug)]
struct Unheard {
    message: ToClient,
    len: usize,
}

/// The kept sessions without a connection.
#[derive(Debug, Default)]
pub(crate) struct Broken {
    /// When each of them ends.
    ends: BTreeSet<(Instant, SessionId)>,
    /// How many of them each user has.
    users: BTreeMap<u32, usize>,
}

impl Broken {
    fn insert(&mut self, ends: Instant, session: SessionId, uid: u32) {
        if self.ends.insert((ends, session)) {
            *self.users.entry(uid).or_default() += 1;
        }
    }

    fn remove(&mut self, ends: Instant, session: SessionId, uid: u32) {
        if self.ends.remove(&(ends, session))
            && let Some(count) = self.users.get_mut(&uid)
        {
            *count -= 1;
            if *count == 0 {
                self.users.remove(&uid);
            }
        }
    }

    /// When the first of them ends.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.ends.first().map(|(ends, _)| *ends)
    }

    fn of(&self, uid: u32) -> usize {
        self.users.get(&uid).copied().unwrap_or(0)
    }
}

impl Kept {
    fn new(key: SessionKey, grace: Duration, asked: u64) -> Kept {
        Kept {
            key,
            grace,
            broken: None,
            torn: false,
            asked,
            open: 0,
            told: 0,
            heard: 0,
            unheard: VecDeque::new(),
            bytes: 0,
            values: BTreeMap::new(),
            values_bytes: 0,
            waiting: BTreeMap::new(),
            taken_back: BTreeSet::new(),
        }
    }

    /// When it ends, if nobody continues it.
    fn ends(&self) -> Option<Instant> {
        self.broken.map(|since| since + self.grace)
    }

    /// Holds a message back, if it is the change of a value and much is unheard.
    fn hold_back(&mut self, message: &ToClient) -> bool {
        let ToClient::ValueChanged { handle, value } = message else {
            return false;
        };
        let much = self.bytes >= HOLD_BACK || self.unheard.len() >= HOLD_BACK_COUNT;
        if self.values.is_empty() && !much {
            return false;
        }
        self.values_bytes += value.block.as_bytes().len();
        if let Some(old) = self.values.insert(*handle, value.clone()) {
            self.values_bytes -= old.block.as_bytes().len();
        }
        true
    }

    /// Remembers a message until it was heard. Whether it is to be told now.
    fn remember(&mut self, message: &ToClient) -> bool {
        if let ToClient::Done { request, .. } = message {
            self.open = self.open.saturating_sub(1);
            self.waiting.remove(request);
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

    /// A request has arrived. If it may have to wait, it is remembered.
    fn asks(&mut self, request: u64, ask: &Ask, now: Instant) {
        if let Ask::Lock { timeout_ms, .. }
        | Ask::LockUnder { timeout_ms, .. }
        | Ask::Range { timeout_ms, .. }
        | Ask::Convert { timeout_ms, .. } = ask
        {
            let after = |ms: u32| now + Duration::from_millis(ms.into());
            self.waiting
                .insert(request, (ask.clone(), timeout_ms.map(after)));
        }
    }

    /// Whether a message is the end of a call that the next life makes again, or of its being taken back.
    fn is_taken_back(&self, message: &ToClient) -> bool {
        let ToClient::Done { request, result } = message else {
            return false;
        };
        let cancelled = matches!(result, Err(Refusal::Cancelled));
        *request == TAKE_BACK || cancelled && self.taken_back.contains(request)
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

    /// Whether more than can be kept is unheard.
    fn is_too_much(&self) -> bool {
        self.bytes + self.values_bytes > UNHEARD_MAX
            || self.unheard.len() + self.values.len() > UNHEARD_COUNT_MAX
    }

    /// Nobody can continue the session: what was not heard is dropped.
    fn tear(&mut self) {
        self.torn = true;
        self.unheard = VecDeque::new();
        self.values = BTreeMap::new();
        self.bytes = 0;
        self.values_bytes = 0;
    }

    /// The next held back change of a value block, if there is room for it again.
    fn next_value(&mut self) -> Option<ToClient> {
        if self.bytes >= HOLD_BACK / 2 || self.unheard.len() >= HOLD_BACK_COUNT / 2 {
            return None;
        }
        let (handle, value) = self.values.pop_first()?;
        self.values_bytes -= value.block.as_bytes().len();
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
        if self.leaving.is_some() {
            return self.refuse(session, request, Refusal::Leaving);
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
        } else if self.broken.of(self.caller(session).uid) >= BROKEN_MAX {
            // Not later: a session that is kept must not end early.
            let text = format!(
                "{BROKEN_MAX} kept sessions of this user have no connection: no other is kept until \
                 some have ended"
            );
            return self.refuse(session, request, Refusal::Limit(text));
        } else {
            self.answer(session, request, Answer::Kept { key });
            let grace = Duration::from_millis(grace_ms.into());
            self.kept.insert(session, Kept::new(key, grace, request));
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
        if kept.torn || kept.is_taken_back(message) {
            return false;
        }
        let now = !kept.hold_back(message) && kept.remember(message);
        if kept.is_too_much() {
            self.tear(session);
            return false;
        }
        now
    }

    /// Drops what a client has not heard, since it is too much.
    fn tear(&mut self, session: SessionId) {
        let Some(kept) = self.kept.get_mut(&session) else {
            return;
        };
        kept.tear();
        match kept.ends() {
            None => self.cut(session),
            Some(ends) => {
                let kept_ms = millis(ends.since(self.now));
                let fate = SessionFate::Broken { kept_ms };
                self.session_event(session, Reason::NotHeard, fate);
            }
        }
    }

    /// Closes the connection of a client that does not say what it has heard. Its session ends after
    /// the grace as any other without a connection: the client may be stopped, and believe in its locks.
    fn cut(&mut self, session: SessionId) {
        let reason = format!(
            "the client did not say that it had heard what it was told, of which there were more than \
             {UNHEARD_MAX} bytes or {UNHEARD_COUNT_MAX} messages"
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
            // Not by way of `tell`, which holds back what comes while others wait.
            if kept.remember(&message) {
                self.out.push(Effect::Client { session, message });
            }
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
        let ends = now + kept.grace;
        self.quiet_until = self.quiet_until.min(ends);
        let uid = self.caller(session).uid;
        self.broken.insert(ends, session, uid);
        self.session_event(session, reason, SessionFate::Broken { kept_ms });
    }

    pub(crate) fn session_event(&mut self, session: SessionId, reason: Reason, fate: SessionFate) {
        let owner = self.sessions.get(&session).map(|s| &s.owner);
        let (pid, command) = owner.map_or((0, String::new()), |o| (o.pid, o.command.clone()));
        let what = What::Session { session, pid, fate };
        self.event(what, reason, command);
    }

    /// Remembers a call of a kept session that may have to wait.
    pub(crate) fn note_asked(&mut self, now: Instant, session: SessionId, request: u64, ask: &Ask) {
        if let Some(kept) = self.kept.get_mut(&session) {
            kept.asks(request, ask, now);
        }
    }

    /// Closes the connections of kept sessions: this node rests. What waits is taken back without a word:
    /// the next life asks for it again.
    pub(crate) fn cut_kept(&mut self, now: Instant) {
        let sessions: Vec<SessionId> = self.kept.keys().copied().collect();
        for session in sessions {
            let Some(kept) = self.kept.get_mut(&session) else {
                continue;
            };
            let linked = kept.broken.is_none();
            let waiting = kept.waiting.iter();
            let calls: Vec<(u64, Handle)> = waiting
                .filter_map(|(request, (ask, _))| match ask {
                    Ask::Lock { handle, .. }
                    | Ask::LockUnder { handle, .. }
                    | Ask::Range { handle, .. }
                    | Ask::Convert { handle, .. } => Some((*request, *handle)),
                    _ => None,
                })
                .collect();
            if linked {
                self.out.push(Effect::CloseSession { session });
                self.broke(now, session, Reason::Rests);
            }
            for (request, handle) in calls {
                if !self.dlm.take_back(now, session, TAKE_BACK, handle) {
                    continue; // It ends for another reason, and its client is told so.
                }
                if let Some(kept) = self.kept.get_mut(&session) {
                    kept.taken_back.insert(request);
                }
            }
        }
    }

    /// The kept sessions that cannot be left to the next life as they are.
    pub(crate) fn unsettled(&self) -> Vec<SessionId> {
        let sessions = self.kept.iter();
        let unsettled = sessions.filter(|(session, kept)| {
            kept.torn || kept.open != kept.waiting.len() as u64 || !self.dlm.is_calm(**session)
        });
        unsettled.map(|(session, _)| *session).collect()
    }

    /// What is left of kept sessions to the next life.
    pub(crate) fn carry_kept(&self) -> Vec<CarriedSession> {
        let sessions = self.kept.iter();
        let carried = sessions.filter_map(|(number, kept)| {
            let session = self.sessions.get(number)?;
            let (locks, priority, chosen) = self.dlm.carry(*number);
            Some(CarriedSession {
                session: *number,
                owner: session.owner.clone(),
                group: session.caller.gid,
                privileged: session.caller.privileged,
                key: kept.key,
                grace_ms: u32::try_from(kept.grace.as_millis()).unwrap_or(u32::MAX),
                broken_ns: kept.broken?.0,
                asked: kept.asked,
                told: kept.told,
                heard: kept.heard,
                unheard: kept.unheard.iter().map(|u| u.message.clone()).collect(),
                values: kept.values.iter().map(|(h, v)| (*h, v.clone())).collect(),
                repeat: kept
                    .waiting
                    .iter()
                    .map(|(request, (ask, until))| (*request, ask.clone(), until.map(|at| at.0)))
                    .collect(),
                priority,
                chosen,
                locks,
            })
        });
        carried.collect()
    }

    /// A session that the life before has left is one of this life from now on.
    pub(crate) fn take_kept(&mut self, now: Instant, carried: &CarriedSession) {
        let session = carried.session;
        let grace = Duration::from_millis(carried.grace_ms.into());
        let mut kept = Kept::new(carried.key, grace, carried.asked);
        for message in &carried.unheard {
            kept.remember(message);
        }
        (kept.told, kept.heard) = (carried.told, carried.heard);
        if kept.told - kept.heard != kept.unheard.len() as u64 {
            kept.tear(); // More than was kept: as in the life before, nobody can continue it.
        }
        kept.open = carried.repeat.len() as u64;
        for (handle, value) in &carried.values {
            kept.values_bytes += value.block.as_bytes().len();
            kept.values.insert(*handle, value.clone());
        }
        let broken = Instant(carried.broken_ns).min(now);
        kept.broken = Some(broken);
        self.kept.insert(session, kept);
        let (ends, uid) = (broken + grace, carried.owner.uid);
        self.broken.insert(ends, session, uid);
        let kept_ms = millis(ends.since(now));
        self.session_event(session, Reason::Resumed, SessionFate::Broken { kept_ms });
    }

    /// Ends kept sessions whose clients have not come back.
    pub(crate) fn expire_kept(&mut self, now: Instant) {
        if self.has_carried() {
            return; // What is written stays as it is.
        }
        while let Some((ends, session)) = self.broken.ends.first().copied()
            && ends <= now
        {
            let uid = self.caller(session).uid;
            self.broken.remove(ends, session, uid);
            self.session_event(session, Reason::GraceOver, SessionFate::Ended);
            self.end_session(now, session);
        }
    }

    /// A session is over.
    pub(crate) fn forget_kept(&mut self, session: SessionId) {
        let uid = self.caller(session).uid;
        if let Some(ends) = self.kept.remove(&session).and_then(|kept| kept.ends()) {
            self.broken.remove(ends, session, uid);
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
        let ends = kept.ends();
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
        // One that takes over from another connection tells nobody anything new.
        if let Some(ends) = ends {
            self.broken.remove(ends, session, uid);
            self.session_event(session, Reason::ClientAsked, SessionFate::Continued);
        }
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
        let mut kept = Kept::new(SessionKey([0; 16]), Duration::from_secs(1), 0);
        let mut version = 0;
        while kept.values.is_empty() {
            version += 1;
            let change = change(1, version);
            assert!(kept.hold_back(&change) || kept.remember(&change));
        }
        assert_eq!(kept.told, version - 1);
        assert!(kept.hold_back(&change(1, version + 1)));
        assert!(kept.hold_back(&change(2, version + 2)));
        assert_eq!((kept.next_value(), kept.values.len()), (None, 2));
        assert_eq!(kept.values_bytes, 2 * 4096);
        kept.forget(kept.told);
        assert_eq!((kept.bytes, kept.unheard.len()), (0, 0));
        assert_eq!(kept.next_value(), Some(change(1, version + 1)));
        assert_eq!(kept.next_value(), Some(change(2, version + 2)));
        assert_eq!(kept.values_bytes, 0);
    }
}
