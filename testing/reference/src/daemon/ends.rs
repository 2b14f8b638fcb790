//! What becomes of calls: what the engines of the resources decide, told to those whom it concerns.

use super::{Call, Daemon, Part, Said};
use crate::resource::{Key, compatible};
use mainstay_base::{LockMode, SessionId};
use mainstay_lock::{Effect, Grant, Refusal as Decision};
use mainstay_wire::{
    client::{Answer, ToClient},
    lock::{Flags, Granted, Refusal},
    sets::OneDone,
};

impl Daemon {
    pub(super) fn carry_out(&mut self, effects: Vec<Effect<Key>>) {
        self.depth += 1;
        for effect in effects {
            match effect {
                Effect::Granted { key, grant } => self.granted(key, grant),
                Effect::Refused { key, why } => self.refused(key, why),
                Effect::Unlocked { key, .. } => self.unlocked(key),
                Effect::Blocking { key, mode } => self.blocks(key, mode),
                Effect::Queued { key, .. } => self.queued(key),
                Effect::BlockingRange { key, range, mode } => {
                    self.range_blocks(key, range, mode);
                }
            }
        }
        self.depth -= 1;
        // What was given up for NL is asked for again when all else has been told.
        while self.depth == 0 && !self.demoted.is_empty() {
            let key = self.demoted.remove(0);
            let Some(lock) = self.locks.get(&key) else {
                continue;
            };
            let Some(call) = &lock.call else { continue };
            let (id, mode) = (lock.resource.clone(), call.mode);
            let (flags, bast) = (call.flags, lock.blocking);
            self.engine(&id, |engine, out| {
                engine.convert_demoted(key, mode, flags, bast, out)
            });
        }
    }

    fn granted(&mut self, key: Key, grant: Grant) {
        if self.locks[&key].on_ranges {
            return self.range_granted(key, grant.token);
        }
        let lock = self.lock(key);
        let call = lock.call.take().unwrap();
        let gains = lock.token != grant.token;
        lock.held = Some(grant.mode);
        lock.token = grant.token;
        if let Some(value) = &grant.value {
            lock.known = Some((value.version, value.maybe_stale));
        }
        if let Some(promise) = &mut lock.promise {
            promise.notice = None;
        }
        lock.kept.notice = None;
        if gains {
            self.begin_peace(key);
        }
        let granted = Granted {
            mode: grant.mode,
            token: grant.token,
            value: grant.value,
        };
        let altmode = granted.mode != call.mode;
        let answer = match altmode || call.demoted {
            true => Answer::GrantedOtherwise {
                granted,
                altmode,
                demoted: call.demoted,
            },
            false => Answer::Granted(granted),
        };
        let session = self.locks[&key].session;
        self.part_done(session, call.request, call.part, Ok(answer));
    }

    fn queued(&mut self, key: Key) {
        if let Some(lock) = self.locks.get(&key)
            && let Some(call) = &lock.call
            && let Part::Member(set, at) = call.part
        {
            self.member_queued(set, at, key);
        }
    }

    fn refused(&mut self, key: Key, why: Decision) {
        let lock = self.lock(key);
        let session = lock.session;
        let Some(call) = &mut lock.call else {
            return;
        };
        if why == Decision::Deadlock && call.flags.contains(Flags::CONVDEADLK) && !call.demoted {
            call.demoted = true;
            call.flags = call.flags.without(Flags::HEADQUE);
            lock.held = Some(LockMode::Nl);
            lock.kept.notice = None;
            if let Some(promise) = &mut lock.promise {
                promise.notice = None;
            }
            let handle = lock.handle;
            self.demoted.push(key);
            return self.tell(session, ToClient::Demoted { handle });
        }
        let call = lock.call.take().unwrap();
        let why = match why {
            Decision::NotQueued => Refusal::NotQueued,
            Decision::Deadlock => Refusal::Deadlock,
            Decision::Cancelled => call.ends_as.clone().unwrap(),
        };
        let held = self.holds_anything(key);
        self.call_refused(session, &call, why);
        if let Some(cancel) = self.cancel.take() {
            self.say(session, Said::done(cancel, Answer::Cancelled));
        }
        if !held {
            self.erase(key);
        }
    }

    /// Whether a lock was granted.
    pub(super) fn holds_anything(&self, key: Key) -> bool {
        let lock = &self.locks[&key];
        lock.held.is_some() || lock.on_ranges && self.ranges_of(key).holds(key)
    }

    /// A call has ended with a refusal, which tells whether its lock was demoted.
    pub(super) fn call_refused(&mut self, session: SessionId, call: &Call, why: Refusal) {
        let why = match call.demoted {
            true => Refusal::AfterDemotion(Box::new(why)),
            false => why,
        };
        self.part_done(session, call.request, call.part, Err(vec![why]));
    }

    /// A lock is released, as its owner asked.
    fn unlocked(&mut self, key: Key) {
        let release = self.releasing.take_if(|(k, ..)| *k == key);
        let Some((_, request, part, published)) = release else {
            return; // Taken away, which is told elsewhere.
        };
        let lock = &self.locks[&key];
        let (session, id) = (lock.session, lock.resource.clone());
        let version = self.reference(&id).value.version;
        let version = published.then_some(version);
        self.part_done(session, request, part, Ok(Answer::Unlocked { version }));
        self.erase(key);
    }

    /// A lock is in the way of a mode.
    pub(super) fn blocks(&mut self, key: Key, mode: LockMode) {
        let now = self.now;
        let Some(lock) = self.locks.get_mut(&key) else {
            return;
        };
        let blocks = lock.held.is_some_and(|held| !compatible(held, mode));
        if !lock.blocking || !blocks || lock.orphan.is_some() {
            return;
        }
        if self.keep_for_set(key, mode) {
            return;
        }
        let lock = self.lock(key);
        if lock.kept.peace.is_some_and(|until| until > now) {
            lock.kept.notice = Some(mode);
            return;
        }
        lock.kept.notice = None;
        if let Some(promise) = &mut lock.promise {
            promise.told(now, mode);
        }
        let (session, handle) = (lock.session, lock.handle);
        self.tell(session, ToClient::Blocking { handle, mode });
    }

    /// A call has ended: told to its client, or to what it is a part of.
    pub(super) fn part_done(
        &mut self,
        session: SessionId,
        request: u64,
        part: Part,
        result: Result<Answer, Vec<Refusal>>,
    ) {
        match part {
            Part::Alone => self.answer(session, request, result),
            Part::Entry(bulk, at) => self.entry_done(bulk, at, result.map(one)),
            Part::Member(set, at) => self.member_done(set, at, result),
        }
    }
}

fn one(answer: Answer) -> OneDone {
    match answer {
        Answer::Granted(granted) => OneDone::Granted {
            granted,
            altmode: false,
            demoted: false,
        },
        Answer::GrantedOtherwise {
            granted,
            altmode,
            demoted,
        } => OneDone::Granted {
            granted,
            altmode,
            demoted,
        },
        Answer::Unlocked { version } => OneDone::Unlocked { version },
        other => panic!("no end of a conversion or release: {other:?}"),
    }
}
