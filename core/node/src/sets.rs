//! Calls for several locks at once.

use crate::Node;
use core::time::Duration;
use mainstay_base::{Instant, LockspaceId, SessionId};
use mainstay_dlm::{ConvertCall, Fault, SetCall, UnlockCall};
use mainstay_wire::{
    client::{Answer, Ask},
    lock::Refusal,
    sets::{MemberRefusal, OneDone, SetMember},
};

/// Most waits of circles that one answer tells, so that it stays within the length of a message.
const WAITS_MAX: usize = 256;

impl Node {
    /// A client asks for a set, or for several conversions or unlocks.
    pub(crate) fn ask_many(&mut self, now: Instant, session: SessionId, request: u64, ask: Ask) {
        let after = |ms: u32| now + Duration::from_millis(u64::from(ms));
        match ask {
            Ask::LockSet { .. } if self.leaving.is_some() => {
                self.refuse(session, request, Refusal::Leaving);
            }
            Ask::LockSet {
                lockspace,
                members,
                flags,
                timeout_ms,
            } => {
                if let Err(why) = self.may_lock_all(session, lockspace, &members) {
                    return self.refuse(session, request, why);
                }
                let call = SetCall {
                    space: lockspace,
                    members,
                    flags,
                    deadline: timeout_ms.map(after),
                };
                self.dlm.lock_set(now, session, request, call);
            }
            Ask::ConvertMany { locks, timeout_ms } => {
                let deadline = timeout_ms.map(after);
                let calls = locks.into_iter().map(|one| {
                    let denied = self.denied(session, one.handle, one.mode, one.flags);
                    let call = ConvertCall {
                        handle: one.handle,
                        mode: one.mode,
                        flags: one.flags,
                        blocking: one.blocking,
                        value: one.value,
                        deadline,
                    };
                    (call, denied)
                });
                let calls = calls.collect();
                self.dlm.convert_many(now, session, request, calls);
            }
            Ask::UnlockMany { locks } => {
                let calls = locks.into_iter().map(|one| UnlockCall {
                    handle: one.handle,
                    flags: one.flags,
                    value: one.value,
                });
                self.dlm.unlock_many(now, session, request, calls.collect());
            }
            _ => {}
        }
    }

    /// Whether a user may have all locks of a set, by the rules of the lockspace.
    fn may_lock_all(
        &self,
        session: SessionId,
        space: LockspaceId,
        members: &[SetMember],
    ) -> Result<(), Refusal> {
        for (place, member) in members.iter().enumerate() {
            self.may_lock(session, space, &member.name, member.mode, member.flags)
                .map_err(|why| MemberRefusal::at(place, member.name.clone(), why))?;
        }
        Ok(())
    }

    /// A client's call on several locks is finished.
    pub(crate) fn tell_many(
        &mut self,
        session: SessionId,
        request: u64,
        results: Vec<Result<OneDone, Fault>>,
    ) {
        let mut waits = 0;
        let results = results.into_iter().map(|result| {
            result.map_err(|fault| match fault {
                Fault::Refused(why) => why,
                Fault::Victim {
                    policy,
                    circle,
                    demoted,
                } => {
                    waits += circle.len();
                    let why = self.circle_refusal(policy, &circle, demoted);
                    match (waits > WAITS_MAX, demoted) {
                        (false, _) => why,
                        // The event has told the circle.
                        (true, false) => Refusal::Deadlock,
                        (true, true) => Refusal::AfterDemotion(Box::new(Refusal::Deadlock)),
                    }
                }
            })
        });
        let results = results.collect();
        self.answer(session, request, Answer::Many { results });
    }
}
