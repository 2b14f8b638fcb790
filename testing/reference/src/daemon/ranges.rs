//! Locks on ranges of bytes.

use super::{Call, Daemon, Part, Said, calls::New, invalid};
use crate::resource::{
    Key,
    ranges::{Ranges, Wish},
};
use mainstay_base::{ByteRange, LockMode, SessionId, Token};
use mainstay_lock::Effect;
use mainstay_wire::{
    client::{Answer, Ask, ToClient},
    dlm::ResourceId,
    lock::{Flags, Refusal},
};

impl Daemon {
    pub(super) fn ask_range(&mut self, session: SessionId, request: u64, ask: Ask) {
        let Ask::Range {
            handle,
            lockspace: space,
            name,
            range,
            mode,
            flags,
            blocking,
            timeout_ms,
        } = ask
        else {
            return;
        };
        let mut reasons = Vec::new();
        if !self.spaces.contains_key(&space) {
            reasons.push(Refusal::NoSuchLockspace);
        }
        if !flags.without(Flags::NOQUEUE).is_empty() || !name.is_root() {
            reasons.push(invalid());
        }
        let id = ResourceId { space, name };
        let known = self.find(session, handle);
        let known = known.filter(|key| self.locks[key].on_ranges);
        if known.is_none() && self.handles_in_use(session).contains(&handle) {
            reasons.push(Refusal::HandleInUse);
        }
        let mut gains = mode != LockMode::Nl;
        if let Some(key) = known {
            let lock = &self.locks[&key];
            if lock.resource != id {
                reasons.push(invalid());
            }
            if lock.call.is_some() {
                reasons.push(Refusal::Busy);
            }
            gains = !self.ranges_of(key).covers(key, range, mode);
        }
        if gains && !self.may_lock(session, space, &id.name, mode, flags) {
            reasons.push(Refusal::Denied(String::new()));
        }
        if !reasons.is_empty() {
            return self.answer(session, request, Err(reasons));
        }
        let deadline = self.deadline(timeout_ms);
        let key = match known {
            None if mode == LockMode::Nl => {
                let (token, holds) = (Token::NONE, false);
                let nothing = Answer::RangeSet { token, holds };
                return self.say(session, Said::done(request, nothing));
            }
            None => {
                let key = self.add_lock(New {
                    session,
                    request,
                    handle,
                    resource: id.clone(),
                    parent: None,
                    mode,
                    flags,
                    blocking: false,
                    deadline,
                    part: Part::Alone,
                });
                self.lock(key).on_ranges = true;
                key
            }
            Some(key) => {
                let asks_to_be_told = blocking && mode != LockMode::Nl;
                let curious = self.ranges_of(key).is_curious(key);
                if !gains && (curious || !asks_to_be_told) {
                    return self.weaken(request, key, range, mode);
                }
                self.lock(key).call = Some(Call {
                    request,
                    mode,
                    flags,
                    deadline,
                    demoted: false,
                    ends_as: None,
                    part: Part::Alone,
                });
                key
            }
        };
        if !self.reference(&id).is_empty() {
            return self.refuse_kind(key, Refusal::Whole);
        }
        let wish = Wish {
            key,
            range,
            mode,
            nowait: flags.contains(Flags::NOQUEUE),
            blocking,
        };
        self.ranges(key, |ranges, last, out| ranges.call(wish, last, out));
    }

    /// A request for a resource that is locked in the other way.
    pub(super) fn refuse_kind(&mut self, key: Key, why: Refusal) {
        let lock = self.lock(key);
        let (session, call) = (lock.session, lock.call.take().unwrap());
        self.call_refused(session, &call, why);
        self.erase(key);
    }

    /// What is locked in ranges of the resource of a lock.
    pub(super) fn ranges_of(&self, key: Key) -> &Ranges {
        &self.resources[&self.locks[&key].resource].ranges
    }

    /// Does something to the ranges of a lock's resource, and what follows from it.
    pub(super) fn ranges<R>(
        &mut self,
        key: Key,
        what: impl FnOnce(&mut Ranges, &mut Token, &mut Vec<Effect<Key>>) -> R,
    ) -> R {
        let id = &self.locks[&key].resource;
        let resource = self.resources.get_mut(id).unwrap();
        let mut effects = Vec::new();
        let last = &mut resource.engine.last_token;
        let done = what(&mut resource.ranges, last, &mut effects);
        self.carry_out(effects);
        done
    }

    /// A call that gains nothing: it is answered when others have got what it gives up.
    fn weaken(&mut self, request: u64, key: Key, range: ByteRange, mode: LockMode) {
        let session = self.locks[&key].session;
        let there = self.ranges_of(key).token(key, range);
        self.ranges(key, |ranges, last, out| {
            ranges.weaken(key, range, mode, last, out);
        });
        let holds = self.ranges_of(key).holds(key);
        let token = match mode {
            _ if !holds => Token::NONE,
            LockMode::Nl => self.locks[&key].token,
            _ => there,
        };
        if !holds {
            self.erase(key);
        }
        self.say(
            session,
            Said::done(request, Answer::RangeSet { token, holds }),
        );
    }

    pub(super) fn range_granted(&mut self, key: Key, token: Token) {
        let lock = self.lock(key);
        let (session, call) = (lock.session, lock.call.take().unwrap());
        lock.token = lock.token.max(token);
        let holds = true;
        let answer = Answer::RangeSet { token, holds };
        self.part_done(session, call.request, call.part, Ok(answer));
    }

    pub(super) fn range_blocks(&mut self, key: Key, range: ByteRange, mode: LockMode) {
        let Some(lock) = self.locks.get(&key) else {
            return;
        };
        let (session, handle) = (lock.session, lock.handle);
        let told = ToClient::RangeBlocking {
            handle,
            range,
            mode,
        };
        self.tell(session, told);
    }
}
