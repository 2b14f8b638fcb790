//! Sets of locks, and conversions and unlocks in bulk, in the words that both clients share.

use crate::{
    LockError,
    answer::{Granted, granted},
    held::Held,
    session::Owned,
    spec::{LockCall, timeout_ms},
};
use mainstay_base::{Flags, LockMode, NameError, ResourceName, Token, ValueVersion};
use mainstay_wire::{
    client::{Answer, Ask, Handle},
    lock::Refusal,
    sets::{ConvertOne, OneDone, SetMember, UnlockOne},
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// A request for a set on the handle level, as the protocol has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetCall {
    /// The locks and the handles they shall have. Their own time limits are not looked at.
    pub members: Vec<(Handle, LockCall)>,
    /// NOQUEUE, with or without NOQUEUEBAST, or none.
    pub flags: Flags,
    /// Give up after waiting so long, for all of them together.
    pub timeout: Option<Duration>,
}

impl SetCall {
    pub(crate) fn ask(self, lockspace: mainstay_base::LockspaceId) -> Ask {
        let member = |(handle, call): (Handle, LockCall)| SetMember {
            handle,
            name: call.name,
            mode: call.mode,
            flags: call.flags,
            blocking: call.blocking,
        };
        Ask::LockSet {
            lockspace,
            members: self.members.into_iter().map(member).collect(),
            flags: self.flags,
            timeout_ms: timeout_ms(self.timeout),
        }
    }
}

/// What a set request has gathered until it is made.
#[derive(Debug)]
pub(crate) struct SetSpec {
    members: Vec<LockCall>,
    wrong_name: Option<NameError>,
    pub(crate) flags: Flags,
    /// For each of the locks.
    pub(crate) each: Flags,
    pub(crate) blocking: bool,
    pub(crate) timeout: Option<Duration>,
    pub(crate) deadline: Option<Instant>,
}

impl SetSpec {
    pub(crate) fn new() -> SetSpec {
        SetSpec {
            members: Vec::new(),
            wrong_name: None,
            flags: Flags::NONE,
            each: Flags::NONE,
            blocking: false,
            timeout: None,
            deadline: None,
        }
    }

    pub(crate) fn add(&mut self, name: &[u8], mode: LockMode, flags: Flags) {
        match ResourceName::new(name) {
            Ok(name) => {
                let mut call = LockCall::new(name, mode);
                call.flags = flags;
                self.members.push(call);
            }
            Err(error) => self.wrong_name = Some(self.wrong_name.take().unwrap_or(error)),
        }
    }

    /// The locks, the flags for all and the time limit, now.
    ///
    /// # Errors
    /// If a name was no name.
    pub(crate) fn calls(self) -> Result<(Vec<LockCall>, Flags, Option<Duration>), LockError> {
        if let Some(error) = self.wrong_name {
            return Err(error.into());
        }
        let left = self
            .deadline
            .map(|at| at.saturating_duration_since(Instant::now()));
        let timeout = self.timeout.into_iter().chain(left).min();
        let (each, blocking) = (self.each, self.blocking);
        let calls = self.members.into_iter().map(|mut call| {
            call.flags |= each;
            call.blocking = blocking;
            call
        });
        Ok((calls.collect(), self.flags, timeout))
    }
}

/// Builder methods that set requests of both clients have in common. The type must have a field
/// `spec: SetSpec`.
macro_rules! set_options {
    () => {
        /// Adds a lock on a resource, named by 1 to 64 bytes. Each resource once.
        pub fn lock(self, name: impl AsRef<[u8]>, mode: $crate::LockMode) -> Self {
            self.lock_with(name, mode, $crate::Flags::NONE)
        }

        /// As `lock`, with flags of the lock protocol.
        pub fn lock_with(
            mut self,
            name: impl AsRef<[u8]>,
            mode: $crate::LockMode,
            flags: $crate::Flags,
        ) -> Self {
            self.spec.add(name.as_ref(), mode, flags);
            self
        }

        /// Read the resources' value blocks with the grant.
        pub fn with_value_blocks(mut self) -> Self {
            self.spec.each |= $crate::Flags::VALBLK;
            self
        }

        /// Be told when one of the locks blocks others, once the set is granted.
        pub fn on_blocking(mut self) -> Self {
            self.spec.blocking = true;
            self
        }

        /// Refuses with [`Refusal::NotQueued`](crate::Refusal::NotQueued) rather than wait.
        pub fn try_lock(mut self) -> Self {
            self.spec.flags |= $crate::Flags::NOQUEUE;
            self
        }

        /// Gives up after waiting so long for all of them together, with
        /// [`Refusal::TimedOut`](crate::Refusal::TimedOut). If the daemon does not say so either,
        /// the call ends with [`LockError::NoAnswer`](crate::LockError::NoAnswer) one second later.
        pub fn timeout(mut self, timeout: std::time::Duration) -> Self {
            self.spec.timeout = Some(timeout);
            self
        }

        /// Like a timeout that ends at `deadline`; the shorter of both counts.
        pub fn deadline(mut self, deadline: std::time::Instant) -> Self {
            self.spec.deadline = Some(deadline);
            self
        }
    };
}
pub(crate) use set_options;

/// What was granted to a set, in the order of its members.
pub(crate) fn set_granted(answer: Answer) -> Option<Vec<Granted>> {
    match answer {
        Answer::SetGranted { members } => {
            let members = members.into_iter();
            members.map(|one| granted(Answer::Granted(one))).collect()
        }
        _ => None,
    }
}

/// How each of several conversions ended.
pub(crate) fn converted(answer: Answer) -> Option<Vec<Result<Granted, Refusal>>> {
    each(answer, |done| match done {
        OneDone::Granted {
            granted: one,
            altmode,
            demoted,
        } => granted(Answer::GrantedOtherwise {
            granted: one,
            altmode,
            demoted,
        }),
        OneDone::Unlocked { .. } => None,
    })
}

/// How each of several unlocks ended.
pub(crate) fn all_unlocked(answer: Answer) -> Option<Vec<Result<Option<ValueVersion>, Refusal>>> {
    each(answer, |done| match done {
        OneDone::Unlocked { version } => Some(version),
        OneDone::Granted { .. } => None,
    })
}

fn each<T>(answer: Answer, read: impl Fn(OneDone) -> Option<T>) -> Option<Vec<Result<T, Refusal>>> {
    let Answer::Many { results } = answer else {
        return None;
    };
    let one = |result| match result {
        Ok(done) => read(done).map(Ok),
        Err(why) => Some(Err(why)),
    };
    results.into_iter().map(one).collect()
}

/// How each of several conversions of guards ended: the tokens.
pub(crate) fn tokens(results: Vec<Result<Granted, Refusal>>) -> Vec<Result<Token, LockError>> {
    let one = |result: Result<Granted, Refusal>| Ok(result.map(|granted| granted.token)?);
    results.into_iter().map(one).collect()
}

/// How each of several unlocks of guards ended.
pub(crate) fn ends(
    results: Vec<Result<Option<ValueVersion>, Refusal>>,
) -> Vec<Result<(), LockError>> {
    let one = |result: Result<Option<ValueVersion>, Refusal>| Ok(result.map(drop)?);
    results.into_iter().map(one).collect()
}

/// The session that several locks belong to.
///
/// # Errors
/// If there is no lock, or they are of several sessions.
fn session_of<'a>(mut locks: impl Iterator<Item = &'a Held>) -> Result<Arc<Owned>, LockError> {
    let Some(first) = locks.next() else {
        let text = "a call for several locks names none".to_owned();
        return Err(Refusal::Invalid(text).into());
    };
    let session = &first.session;
    match locks.all(|lock| Arc::ptr_eq(&lock.session, session)) {
        true => Ok(session.clone()),
        false => Err(Refusal::Invalid(
            "the locks are of several sessions; make one call for each".to_owned(),
        )
        .into()),
    }
}

/// Conversions in bulk in the words of the protocol. They publish nothing.
pub(crate) fn convert_ask(calls: Vec<(Handle, LockCall)>, timeout: Option<Duration>) -> Ask {
    let one = |(handle, call): (Handle, LockCall)| ConvertOne {
        handle,
        mode: call.mode,
        flags: call.flags,
        blocking: call.blocking,
        value: None,
    };
    Ask::ConvertMany {
        locks: calls.into_iter().map(one).collect(),
        timeout_ms: timeout_ms(timeout),
    }
}

/// Unlocks in bulk in the words of the protocol. They publish nothing.
pub(crate) fn unlock_ask(handles: &[Handle], flags: Flags) -> Ask {
    let one = |&handle| UnlockOne {
        handle,
        flags,
        value: None,
    };
    Ask::UnlockMany {
        locks: handles.iter().map(one).collect(),
    }
}

/// Queues the conversion of several locks.
pub(crate) fn convert_many(
    locks: &[(&Held, LockMode)],
    timeout: Option<Duration>,
) -> Result<(Arc<Owned>, u64), LockError> {
    let session = session_of(locks.iter().map(|(held, _)| *held))?;
    let handles: Vec<Handle> = locks.iter().map(|(held, _)| held.handle).collect();
    let calls = locks.iter();
    let calls = calls.map(|(held, mode)| (held.handle, held.as_converted(*mode)));
    let ask = convert_ask(calls.collect(), timeout);
    let request = session.submit_on_many(&handles, ask)?;
    Ok((session, request))
}

/// Queues the release of several locks.
pub(crate) fn unlock_many<'a>(
    locks: impl Iterator<Item = &'a Held> + Clone,
) -> Result<(Arc<Owned>, u64), LockError> {
    let session = session_of(locks.clone())?;
    let handles: Vec<Handle> = locks.map(|held| held.handle).collect();
    let ask = unlock_ask(&handles, Flags::NONE);
    let request = session.submit_on_many(&handles, ask)?;
    Ok((session, request))
}
