//! The client's side of the protocol without any I/O: calls go in and bytes come out, bytes go in
//! and happenings come out.
//!
//! Beside framing and the matching of answers to calls, the machine sees to it that no lock leaks:
//! a lock whose owner has let go is released whatever state its calls are in ([`Machine::release`]).

use crate::{held_ranges::RangesState, keep::Keep, kind::Kind, sets::SetCall, spec::LockCall};
use mainstay_base::{
    ByteRange, FixedMap, Flags, LockMode, LockspaceId, Token, Value, ValueBlock, ValueVersion,
};
use mainstay_wire::{
    client::{Answer, Ask, FromClient, HEADER_LEN, Handle, MESSAGE_LEN_MAX, ToClient},
    codec,
    event::Event,
    lock::{Granted, Refusal},
    sets::OneDone,
};
use std::time::Duration;

/// What the daemon's bytes meant.
#[derive(Debug)]
pub(crate) enum Happening {
    /// A call ended.
    Done {
        request: u64,
        result: Result<Answer, Refusal>,
        /// The lock whose state that changed, if the machine keeps it.
        lock: Option<Handle>,
        /// The locks whose states that changed, of a call for several.
        more: Vec<Handle>,
    },
    /// A lock blocks others in `mode`.
    Blocking {
        handle: Handle,
        mode: LockMode,
    },
    /// A lock on ranges blocks others there.
    RangeBlocking {
        handle: Handle,
        range: ByteRange,
        mode: LockMode,
    },
    /// A lock holds no more than NL from now on, and its conversion waits on.
    Demoted {
        handle: Handle,
    },
    /// A lock is in the way for longer than was promised, and may have been taken for it.
    Overdue {
        handle: Handle,
        mode: LockMode,
        released: bool,
    },
    /// The value block that a lock watches is another.
    ValueChanged {
        handle: Handle,
        value: Value,
    },
    Suspended {
        reason: String,
    },
    Resumed,
    SessionLost {
        reason: String,
    },
    Event(Event),
    EventsMissed(u64),
}

/// A lock whose life the machine watches. Locks of the handle-level calls have none.
#[derive(Debug, Default)]
pub(crate) struct LockState {
    /// The mode held; none before the first grant.
    pub(crate) mode: Option<LockMode>,
    /// The token of the last grant; none for a lock on ranges that holds none.
    pub(crate) token: Token,
    /// The last grant was of the alternate that the call allowed, not of the mode asked for.
    pub(crate) altmode: bool,
    /// The last call demoted the lock to NL, whatever became of the call then.
    pub(crate) demoted: bool,
    /// The value block as it came last: with a grant, an update or a notice.
    pub(crate) value: Option<Value>,
    /// That came with a notice which the owner has not taken yet.
    news: bool,
    /// Modes that this lock was said to block, each once, not yet taken by its owner.
    blocked: Vec<LockMode>,
    /// What only a lock on ranges has.
    ranges: Option<Box<RangesState>>,
    /// The unfinished call on this lock.
    pending: Option<Pending>,
    /// The owner has let go: unlock as soon as nothing is pending, and nothing is beneath it.
    release: bool,
    /// The watched lock that it is beneath.
    parent: Option<Handle>,
    /// How many watched locks are right beneath it.
    beneath: u32,
}

#[derive(Debug)]
struct Pending {
    unlock: bool,
    cancelled: bool,
}

impl LockState {
    /// Whether no call on this lock is unfinished.
    pub(crate) fn idle(&self) -> bool {
        self.pending.is_none()
    }

    /// The value block, if it has changed and the owner has not taken that yet. Of several changes the
    /// last.
    pub(crate) fn take_news(&mut self) -> Option<Value> {
        std::mem::take(&mut self.news).then(|| self.value.clone())?
    }

    /// Whether anything is held: a mode, be it NL, or some range.
    pub(crate) fn holds(&self) -> bool {
        match &self.ranges {
            Some(ranges) => ranges.holds(),
            None => self.mode.is_some(),
        }
    }

    /// Whether this is a lock on ranges that holds any.
    pub(crate) fn holds_ranges(&self) -> bool {
        self.ranges.as_ref().is_some_and(|ranges| ranges.holds())
    }

    /// Whether this is a lock on ranges that holds none: the daemon does not know it.
    fn is_empty(&self) -> bool {
        self.ranges.is_some() && !self.holds_ranges()
    }

    /// The oldest blocking notice for ranges that what is held now has not already answered.
    pub(crate) fn take_blocked_range(&mut self) -> Option<(ByteRange, LockMode)> {
        self.ranges.as_mut()?.take_wish()
    }

    /// The oldest blocking notice that the lock's present mode has not already answered.
    pub(crate) fn take_blocked(&mut self) -> Option<LockMode> {
        let held = self.mode.unwrap_or(LockMode::Nl);
        self.blocked.retain(|&mode| !held.compatible(mode));
        (!self.blocked.is_empty()).then(|| self.blocked.remove(0))
    }
}

#[derive(Debug, Default)]
pub(crate) struct Machine {
    input: Vec<u8>,
    /// How much of `input` has been understood.
    taken: usize,
    output: Vec<u8>,
    last_request: u64,
    last_handle: u64,
    calls: FixedMap<u64, Kind>,
    /// What calls for several locks are about.
    several: FixedMap<u64, Vec<One>>,
    /// What calls are to release with a tree.
    trees: FixedMap<u64, Vec<Handle>>,
    locks: FixedMap<Handle, LockState>,
    /// What locks that watch the value block were told of it last.
    told: FixedMap<Handle, Stamp>,
    /// What a kept session needs to go on, on another connection.
    pub(crate) keep: Option<Box<Keep>>,
}

/// A lock of a call for several.
#[derive(Debug)]
struct One {
    handle: Handle,
    /// The mode asked for, if it is a new lock.
    mode: Option<LockMode>,
}

/// What tells one value of a resource from a newer one. None before anything was told.
type Stamp = Option<(ValueVersion, bool)>;

use trees::above;

impl Machine {
    /// Takes bytes from the daemon; [`Machine::next`] says what they mean.
    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        if self.taken == self.input.len() {
            self.input.clear();
            self.taken = 0;
        }
        self.input.extend_from_slice(bytes);
    }

    /// What the daemon said next, if a whole message has arrived.
    ///
    /// # Errors
    /// If the daemon broke the protocol; the text says how. The connection is of no more use.
    pub(crate) fn next(&mut self) -> Result<Option<Happening>, String> {
        loop {
            match self.next_message()? {
                None => return Ok(None),
                Some(message) if self.is_old_news(&message) => {}
                Some(message) => return self.understand(message).map(Some),
            }
        }
    }

    fn next_message(&mut self) -> Result<Option<ToClient>, String> {
        let rest = &self.input[self.taken..];
        let Some((header, body)) = rest.split_first_chunk::<HEADER_LEN>() else {
            self.compact();
            return Ok(None);
        };
        let len = usize::try_from(u32::from_le_bytes(*header)).unwrap_or(usize::MAX);
        if len > MESSAGE_LEN_MAX {
            return Err(format!(
                "a message of {len} bytes exceeds the limit of {MESSAGE_LEN_MAX}"
            ));
        }
        let Some(body) = body.get(..len) else {
            self.compact();
            return Ok(None);
        };
        let message = codec::decode::<ToClient>("message to a client", MESSAGE_LEN_MAX, body)
            .map_err(|e| e.to_string())?;
        self.taken += HEADER_LEN + len;
        if let Some(keep) = &mut self.keep {
            keep.heard(HEADER_LEN + len);
        }
        Ok(Some(message))
    }

    /// A change of a value block that the daemon held back while this client was slow, and an answer
    /// has overtaken; or of a lock that is gone.
    fn is_old_news(&mut self, message: &ToClient) -> bool {
        let ToClient::ValueChanged { handle, value } = message else {
            return false;
        };
        self.told
            .get(handle)
            .is_none_or(|told| *told >= stamp(value))
    }

    /// A lock that watches knows this value from now on.
    fn tell_value(&mut self, handle: Handle, value: &Value) {
        if let Some(told) = self.told.get_mut(&handle) {
            *told = stamp(value).max(*told);
        }
    }

    /// Bytes that have arrived and not been understood yet.
    #[cfg(feature = "testing")]
    pub(crate) fn undecoded(&self) -> usize {
        self.input.len() - self.taken
    }

    /// Moves an incomplete message to the front, so that the buffer holds one message at most.
    fn compact(&mut self) {
        if self.taken > 0 {
            self.input.drain(..self.taken);
            self.taken = 0;
        }
    }

    fn understand(&mut self, message: ToClient) -> Result<Happening, String> {
        Ok(match message {
            ToClient::Done { request, result } => {
                if let Some(keep) = &mut self.keep {
                    keep.answered(request);
                }
                let Some(kind) = self.calls.remove(&request) else {
                    return Err(format!("an answer to request {request}, which is not open"));
                };
                if let Ok(answer) = &result
                    && !kind.fits(answer)
                {
                    return Err(format!("the answer to a {kind:?} call is {answer:?}"));
                }
                let mut more = self.settle_several(request, kind, &result)?;
                more.extend(self.settle_tree(request, &result));
                let lock = self.settle(kind, &result);
                Happening::Done {
                    request,
                    result,
                    lock,
                    more,
                }
            }
            ToClient::Blocking { handle, mode } => {
                if let Some(lock) = self.locks.get_mut(&handle)
                    && !lock.blocked.contains(&mode)
                {
                    lock.blocked.push(mode);
                }
                Happening::Blocking { handle, mode }
            }
            ToClient::RangeBlocking {
                handle,
                range,
                mode,
            } => {
                let lock = self.locks.get_mut(&handle);
                if let Some(ranges) = lock.and_then(|lock| lock.ranges.as_mut()) {
                    ranges.wished((range, mode));
                }
                Happening::RangeBlocking {
                    handle,
                    range,
                    mode,
                }
            }
            ToClient::Demoted { handle } => {
                if let Some(lock) = self.locks.get_mut(&handle) {
                    lock.mode = Some(LockMode::Nl);
                    lock.demoted = true;
                }
                Happening::Demoted { handle }
            }
            ToClient::Overdue {
                handle,
                mode,
                released,
            } => {
                if released {
                    self.told.remove(&handle);
                    self.remove(handle);
                }
                Happening::Overdue {
                    handle,
                    mode,
                    released,
                }
            }
            ToClient::ValueChanged { handle, value } => {
                self.tell_value(handle, &value);
                if let Some(lock) = self.locks.get_mut(&handle) {
                    lock.value = Some(value.clone());
                    lock.news = true;
                }
                Happening::ValueChanged { handle, value }
            }
            ToClient::Suspended { reason } => Happening::Suspended { reason },
            ToClient::Resumed => Happening::Resumed,
            ToClient::SessionLost { reason } => Happening::SessionLost { reason },
            ToClient::Event(event) => Happening::Event(event),
            ToClient::EventsMissed(count) => Happening::EventsMissed(count),
        })
    }

    /// Brings a lock's state up to date with the end of a call on it.
    fn settle(&mut self, kind: Kind, result: &Result<Answer, Refusal>) -> Option<Handle> {
        let (Kind::Lock(handle)
        | Kind::Convert(handle)
        | Kind::Range(handle, ..)
        | Kind::Unlock(handle, _)
        | Kind::Update(handle)) = kind
        else {
            return None;
        };
        match (kind, result) {
            (Kind::Unlock(..), Ok(_)) | (Kind::Lock(_), Err(_)) => {
                self.told.remove(&handle);
            }
            (_, Ok(Answer::Granted(granted) | Answer::GrantedOtherwise { granted, .. })) => {
                if let Some(value) = &granted.value {
                    self.tell_value(handle, value);
                }
            }
            (_, Ok(Answer::Updated(updated))) => self.tell_value(handle, &updated.value),
            _ => {}
        }
        let lock = self.locks.get_mut(&handle)?;
        lock.pending = None;
        let gone = match (kind, result) {
            (Kind::Unlock(..), Ok(_)) | (Kind::Lock(_), Err(_)) => true,
            (_, Err(Refusal::NoSuchLock)) => true,
            // A bad value must not keep the lock: release it without one. A plain unlock that is
            // refused leaves nothing else to try.
            // It is released when the last lock beneath it is gone.
            (Kind::Unlock(..), Err(Refusal::HasSubLocks(_))) if lock.beneath > 0 => {
                lock.release = true;
                false
            }
            (Kind::Unlock(_, with_value), Err(_)) => {
                lock.release = true;
                !with_value
            }
            (_, Ok(Answer::Granted(granted) | Answer::GrantedOtherwise { granted, .. })) => {
                lock.altmode = matches!(result, Ok(Answer::GrantedOtherwise { altmode: true, .. }));
                lock.mode = Some(granted.mode);
                lock.token = granted.token;
                if granted.value.is_some() {
                    lock.value.clone_from(&granted.value);
                }
                false
            }
            (_, Ok(Answer::Updated(updated))) => {
                lock.value = Some(updated.value.clone());
                false
            }
            (Kind::Range(_, range, mode), Ok(Answer::RangeSet { token, holds })) => {
                if let Some(ranges) = &mut lock.ranges {
                    ranges.set(range, mode, *token, *holds);
                }
                lock.token = match holds {
                    true => (*token).max(lock.token),
                    false => Token::NONE,
                };
                false
            }
            _ => false,
        };
        if gone || lock.release && lock.is_empty() {
            self.remove(handle);
        } else if lock.release && lock.beneath == 0 {
            self.unlock_now(handle);
        }
        Some(handle)
    }

    /// Bytes that are to be sent; the caller removes what it sent.
    pub(crate) fn output(&mut self) -> &mut Vec<u8> {
        &mut self.output
    }

    /// A handle that was never used before, for calls on the handle level: these are odd, those of
    /// watched locks even, so that late notices can be told apart.
    pub(crate) fn new_raw_handle(&mut self) -> Handle {
        self.last_handle += 1;
        Handle(self.last_handle << 1 | 1)
    }

    /// Whether a handle is one of [`Machine::new_raw_handle`].
    pub(crate) fn is_raw(handle: Handle) -> bool {
        handle.0 & 1 == 1
    }

    /// Makes a call; the number comes back with its end.
    ///
    /// # Errors
    /// If the message would be too long.
    pub(crate) fn call(&mut self, ask: Ask) -> Result<u64, Refusal> {
        let kind = Kind::of(&ask);
        let request = self.last_request + 1;
        let several = self.concerned(&ask);
        let tree = self.tree_of(&ask);
        let start = self.encode(request, ask)?;
        if let Some(ones) = several {
            self.several.insert(request, ones);
        }
        if let Some(handles) = tree {
            self.trees.insert(request, handles);
        }
        if let Some(keep) = &mut self.keep {
            keep.asked(request, &self.output[start..]);
        }
        if let Kind::Watch(handle, on) = kind {
            let known = self.locks.get(&handle).and_then(|l| l.value.as_ref());
            let known = known.and_then(stamp);
            match on {
                true if self.told.get(&handle).is_none() => {
                    self.told.insert(handle, known);
                }
                true => {}
                false => {
                    self.told.remove(&handle);
                }
            }
        }
        self.last_request = request;
        self.calls.insert(request, kind);
        Ok(request)
    }

    /// Adds a call to what is to be sent; where it begins there.
    fn encode(&mut self, request: u64, ask: Ask) -> Result<usize, Refusal> {
        let start = self.output.len();
        self.output.extend_from_slice(&[0; HEADER_LEN]);
        codec::encode(&FromClient { request, ask }, &mut self.output);
        let len = self.output.len() - start - HEADER_LEN;
        match u32::try_from(len) {
            Ok(header) if len <= MESSAGE_LEN_MAX => {
                self.output[start..start + HEADER_LEN].copy_from_slice(&header.to_le_bytes());
                Ok(start)
            }
            _ => {
                self.output.truncate(start);
                Err(Refusal::Invalid(format!(
                    "a call of {len} bytes exceeds the limit of {MESSAGE_LEN_MAX}"
                )))
            }
        }
    }

    /// Brings the states of locks up to date with the end of a call for several.
    fn settle_several(
        &mut self,
        request: u64,
        kind: Kind,
        result: &Result<Answer, Refusal>,
    ) -> Result<Vec<Handle>, String> {
        let Some(ones) = self.several.remove(&request) else {
            return Ok(Vec::new());
        };
        let told = match result {
            Ok(Answer::SetGranted { members }) => members.len(),
            Ok(Answer::Many { results }) => results.len(),
            _ => ones.len(),
        };
        if told != ones.len() {
            return Err(format!(
                "the answer to a call for {} locks tells of {told}",
                ones.len()
            ));
        }
        for (at, one) in ones.iter().enumerate() {
            let handle = one.handle;
            let ended = match (kind, result) {
                (Kind::Set, Ok(Answer::SetGranted { members })) => {
                    let granted = members[at].clone();
                    let altmode = Some(granted.mode) != one.mode;
                    Ok(otherwise(granted, altmode, false))
                }
                (_, Ok(Answer::Many { results })) => match results[at].clone() {
                    Ok(OneDone::Granted {
                        granted,
                        altmode,
                        demoted,
                    }) => Ok(otherwise(granted, altmode, demoted)),
                    Ok(OneDone::Unlocked { version }) => Ok(Answer::Unlocked { version }),
                    Err(why) => Err(why),
                },
                (_, Err(why)) => Err(why.clone()),
                (_, Ok(_)) => continue,
            };
            match (kind, &ended) {
                (Kind::Set, _) => self.settle(Kind::Lock(handle), &ended),
                // None of them was tried.
                (Kind::UnlockMany, Err(_)) if result.is_err() => {
                    self.settle(Kind::Convert(handle), &ended)
                }
                (Kind::UnlockMany, _) => self.settle(Kind::Unlock(handle, false), &ended),
                _ => self.settle(Kind::Convert(handle), &ended),
            };
        }
        Ok(ones.iter().map(|one| one.handle).collect())
    }

    /// Requests, or adopts, a lock that is watched from now on.
    pub(crate) fn lock(
        &mut self,
        ask: impl FnOnce(Handle) -> Ask,
    ) -> Result<(Handle, u64), Refusal> {
        self.last_handle += 1;
        let handle = Handle(self.last_handle << 1);
        let ask = ask(handle);
        let parent = above(&ask);
        let request = self.call(ask)?;
        let pending = Some(Pending {
            unlock: false,
            cancelled: false,
        });
        if let Some(above) = parent.and_then(|parent| self.locks.get_mut(&parent)) {
            above.beneath += 1;
        }
        let state = LockState {
            pending,
            parent,
            ..LockState::default()
        };
        self.locks.insert(handle, state);
        Ok((handle, request))
    }

    /// Requests a set of locks that are watched from now on.
    pub(crate) fn lock_set(
        &mut self,
        lockspace: LockspaceId,
        calls: Vec<LockCall>,
        flags: Flags,
        timeout: Option<Duration>,
    ) -> Result<(Vec<Handle>, u64), Refusal> {
        let first = self.last_handle + 1;
        let numbered = (first..).zip(calls);
        let members: Vec<(Handle, LockCall)> =
            numbered.map(|(n, call)| (Handle(n << 1), call)).collect();
        let handles: Vec<Handle> = members.iter().map(|(handle, _)| *handle).collect();
        let ones = members.iter().map(|(handle, call)| One {
            handle: *handle,
            mode: Some(call.mode),
        });
        let ones = ones.collect();
        let call = SetCall {
            members,
            flags,
            timeout,
        };
        let request = self.call(call.ask(lockspace))?;
        self.last_handle += handles.len() as u64;
        for &handle in &handles {
            let pending = Some(Pending {
                unlock: false,
                cancelled: false,
            });
            let state = LockState {
                pending,
                ..LockState::default()
            };
            self.locks.insert(handle, state);
        }
        self.several.insert(request, ones);
        Ok((handles, request))
    }

    /// A lock on ranges that is watched from now on. The daemon hears of it with its first range.
    pub(crate) fn open_ranges(&mut self) -> Handle {
        self.last_handle += 1;
        let handle = Handle(self.last_handle << 1);
        let state = LockState {
            ranges: Some(Box::default()),
            ..LockState::default()
        };
        self.locks.insert(handle, state);
        handle
    }

    /// Converts or unlocks a watched lock, updates the value block under it, or sets a range of it.
    ///
    /// # Errors
    /// If it is gone, or has an unfinished call.
    pub(crate) fn call_on(&mut self, handle: Handle, ask: Ask) -> Result<u64, Refusal> {
        let unlock = matches!(ask, Ask::Unlock { .. });
        // An update cannot be cancelled.
        let cancelled = matches!(ask, Ask::UpdateValue { .. });
        match self.locks.get(&handle) {
            None => return Err(Refusal::NoSuchLock),
            Some(lock) if !lock.idle() => return Err(Refusal::Busy),
            Some(_) => {}
        }
        let request = self.call(ask)?;
        if let Some(lock) = self.locks.get_mut(&handle) {
            lock.demoted &= cancelled;
            lock.pending = Some(Pending { unlock, cancelled });
        }
        Ok(request)
    }

    /// Converts or unlocks several watched locks.
    ///
    /// # Errors
    /// If one of them is gone, or has an unfinished call.
    pub(crate) fn call_on_many(&mut self, handles: &[Handle], ask: Ask) -> Result<u64, Refusal> {
        let unlock = matches!(ask, Ask::UnlockMany { .. });
        for handle in handles {
            match self.locks.get(handle) {
                None => return Err(Refusal::NoSuchLock),
                Some(lock) if !lock.idle() => return Err(Refusal::Busy),
                Some(_) => {}
            }
        }
        let request = self.call(ask)?;
        for handle in handles {
            if let Some(lock) = self.locks.get_mut(handle) {
                lock.demoted = false;
                lock.pending = Some(Pending {
                    unlock,
                    cancelled: false,
                });
            }
        }
        Ok(request)
    }

    /// The locks that a call converts or unlocks in bulk, if some of them are watched. They may be those of
    /// guards also where the call is made by their handles.
    fn concerned(&self, ask: &Ask) -> Option<Vec<One>> {
        let one = |handle| One { handle, mode: None };
        let ones: Vec<One> = match ask {
            Ask::UnlockMany { locks } => locks.iter().map(|lock| one(lock.handle)).collect(),
            Ask::ConvertMany { locks, .. } => locks.iter().map(|lock| one(lock.handle)).collect(),
            _ => return None,
        };
        let watched = |one: &One| self.locks.get(&one.handle).is_some();
        ones.iter().any(watched).then_some(ones)
    }

    /// A watched lock, while it lives.
    pub(crate) fn watched(&mut self, handle: Handle) -> Option<&mut LockState> {
        self.locks.get_mut(&handle)
    }

    /// Cancels what is pending on a watched lock, unless that is its unlock or it has been done.
    pub(crate) fn cancel(&mut self, handle: Handle) {
        let pending = self.locks.get_mut(&handle).and_then(|l| l.pending.as_mut());
        if let Some(pending) = pending
            && !pending.unlock
            && !pending.cancelled
        {
            pending.cancelled = true;
            self.send(Ask::Cancel { handle });
        }
    }

    /// The owner lets go of a watched lock: it is unlocked, at once or as soon as what is pending
    /// on it has ended.
    pub(crate) fn release(&mut self, handle: Handle) {
        let Some(lock) = self.locks.get_mut(&handle) else {
            return;
        };
        lock.release = true;
        if lock.idle() && lock.is_empty() {
            self.remove(handle);
        } else if lock.idle() && lock.beneath == 0 {
            self.unlock_now(handle);
        } else if !lock.idle() {
            self.cancel(handle);
        }
    }

    fn unlock_now(&mut self, handle: Handle) {
        if let Some(lock) = self.locks.get_mut(&handle) {
            lock.pending = Some(Pending {
                unlock: true,
                cancelled: false,
            });
        }
        self.send(Ask::Unlock {
            handle,
            flags: Flags::NONE,
            value: None,
        });
    }

    /// A call whose end concerns nobody.
    fn send(&mut self, ask: Ask) {
        let sent = self.call(ask);
        debug_assert!(sent.is_ok(), "cancel and unlock are short");
    }
}

fn otherwise(granted: Granted, altmode: bool, demoted: bool) -> Answer {
    Answer::GrantedOtherwise {
        granted,
        altmode,
        demoted,
    }
}

fn stamp(value: &Value) -> Stamp {
    Some((value.version, value.maybe_stale))
}

/// A convert call in the words of the protocol.
pub(crate) fn convert(handle: Handle, call: LockCall, value: Option<ValueBlock>) -> Ask {
    Ask::Convert {
        handle,
        mode: call.mode,
        flags: call.flags,
        blocking: call.blocking,
        value,
        timeout_ms: call.timeout_ms(),
    }
}

/// A promise to heed notices in the words of the protocol.
pub(crate) fn promise(handle: Handle, within: Option<Duration>, release: bool) -> Ask {
    let within_ms = within.map(|t| u32::try_from(t.as_millis()).unwrap_or(u32::MAX));
    Ask::SetResponseTime {
        handle,
        within_ms,
        release,
    }
}

#[path = "machine_keep.rs"]
mod keep;

#[path = "machine_trees.rs"]
mod trees;

#[cfg(test)]
#[path = "machine_tests.rs"]
mod tests;
