//! What clients ask.

use crate::{Effect, Node, wish::Asker};
use core::time::Duration;
use mainstay_base::{
    Access, Compat, Fairness, Instant, LockspaceName, NodeName, SessionId, VALUE_LEN_DEFAULT,
    VALUE_LEN_MAX,
};
use mainstay_dlm::{ChildCall, ConvertCall, LockCall, RangeCall, UnlockCall};
use mainstay_fencing::Proof;
use mainstay_membership::Command;
use mainstay_wire::{
    client::{Answer, Ask, ToClient},
    lock::Refusal,
};

impl Node {
    pub(crate) fn on_request(&mut self, now: Instant, session: SessionId, request: u64, ask: Ask) {
        if self.rests() && self.is_kept(session) {
            return; // Its connection is closed: it says so again on another.
        }
        if !self.sessions.contains_key(&session) || !self.is_new(session, request) {
            return;
        }
        self.note_asked(now, session, request, &ask);
        self.heed(now, session, request, ask);
    }

    /// Carries out a request.
    pub(crate) fn heed(&mut self, now: Instant, session: SessionId, request: u64, ask: Ask) {
        let after = |ms: u32| now + Duration::from_millis(u64::from(ms));
        match ask {
            Ask::OpenLockspace { name, value_len } => {
                self.open_lockspace(now, session, request, name, value_len);
            }
            Ask::Lock { .. } | Ask::Range { .. } | Ask::LockUnder { .. }
                if self.leaving.is_some() =>
            {
                self.refuse(session, request, Refusal::Leaving);
            }
            Ask::Lock {
                handle,
                lockspace,
                name,
                mode,
                flags,
                blocking,
                timeout_ms,
            } => {
                let deadline = timeout_ms.map(after);
                let space = lockspace;
                if let Err(why) = self.may_lock(session, space, &name, mode, flags) {
                    return self.refuse(session, request, why);
                }
                let call = LockCall {
                    handle,
                    space,
                    name,
                    mode,
                    flags,
                    blocking,
                    deadline,
                };
                self.dlm.lock(now, session, request, call);
            }
            Ask::Range {
                handle,
                lockspace,
                name,
                range,
                mode,
                flags,
                blocking,
                timeout_ms,
            } => {
                // What is held may always be given up, or kept in less.
                let gains = mode != mainstay_base::LockMode::Nl
                    && !self.dlm.covers_range(session, handle, range, mode);
                let allowed = || self.may_lock(session, lockspace, &name, mode, flags);
                if let Some(why) = gains.then(allowed).and_then(Result::err) {
                    return self.refuse(session, request, why);
                }
                let call = RangeCall {
                    handle,
                    space: lockspace,
                    name,
                    range,
                    mode,
                    flags,
                    blocking,
                    deadline: timeout_ms.map(after),
                };
                self.dlm.range(now, session, request, call);
            }
            Ask::Convert {
                handle,
                mode,
                flags,
                blocking,
                value,
                timeout_ms,
            } => {
                let deadline = timeout_ms.map(after);
                if let Err(why) = self.may_convert(session, handle, mode, flags) {
                    return self.refuse(session, request, why);
                }
                let call = ConvertCall {
                    handle,
                    mode,
                    flags,
                    blocking,
                    value,
                    deadline,
                };
                self.dlm.convert(now, session, request, call);
            }
            Ask::Unlock {
                handle,
                flags,
                value,
            } => {
                self.dlm.unlock(
                    now,
                    session,
                    request,
                    UnlockCall {
                        handle,
                        flags,
                        value,
                    },
                );
            }
            Ask::LockUnder {
                parent,
                handle,
                name,
                mode,
                flags,
                blocking,
                timeout_ms,
            } => {
                let call = ChildCall {
                    parent,
                    handle,
                    name,
                    mode,
                    flags,
                    blocking,
                    deadline: timeout_ms.map(after),
                };
                if let Err(why) = self.may_lock_under(session, &call) {
                    return self.refuse(session, request, why);
                }
                self.dlm.lock_under(now, session, request, call);
            }
            Ask::UnlockTree { handle, itself } => {
                self.dlm.unlock_tree(now, session, request, handle, itself);
            }
            Ask::Cancel { handle } => self.dlm.cancel(now, session, request, handle),
            Ask::LockSet { .. } | Ask::ConvertMany { .. } | Ask::UnlockMany { .. } => {
                self.ask_many(now, session, request, ask);
            }
            Ask::Status => {
                let report = Box::new(self.status(now));
                self.answer(session, request, Answer::Status(report));
            }
            Ask::Locks {
                lockspace,
                pattern,
                limit,
                after,
            } => {
                self.ask_locks(now, session, request, lockspace, pattern, limit, after);
            }
            Ask::Contention {
                lockspace,
                after,
                limit,
            } => self.ask_contention(now, session, request, lockspace, after, limit),
            Ask::Why { lockspace, name } => self.ask_why(now, session, request, lockspace, name),
            Ask::Graph {
                lockspace,
                pattern,
                limit,
            } => self.ask_graph(now, session, request, lockspace, pattern, limit),
            Ask::Masters => self.ask_masters(now, session, request),
            Ask::SetDeadlockPriority { priority } => {
                self.dlm.set_deadlock_priority(session, priority);
                self.answer(session, request, Answer::PrioritySet);
            }
            Ask::SetOwner { owner } => {
                self.dlm.set_owner(session, owner);
                self.answer(session, request, Answer::OwnerSet);
            }
            Ask::SetResponseTime {
                handle,
                within_ms,
                release,
            } => {
                let within = within_ms.map(|ms| Duration::from_millis(ms.into()));
                self.dlm
                    .set_response_time(session, request, handle, within, release);
            }
            Ask::UpdateValue { handle, update } => {
                if let Err(why) = self.may_write(session, handle) {
                    return self.refuse(session, request, why);
                }
                self.dlm.update_value(now, session, request, handle, update);
            }
            Ask::WatchValue { handle, on } => {
                self.dlm.watch_value(now, session, request, handle, on);
            }
            ask @ (Ask::Orphans { .. }
            | Ask::Adopt { .. }
            | Ask::AdoptAnywhere { .. }
            | Ask::PurgeOrphans { .. }) => {
                self.ask_orphans(now, session, request, ask);
            }
            Ask::Leave => match self.privileged(session) {
                Ok(()) => self.begin_leave(now, Some((session, request))),
                Err(why) => self.refuse(session, request, why),
            },
            Ask::Rest { for_ms } => match self.may_rest(session, for_ms) {
                Ok(()) => self.begin_rest(now, (session, request), for_ms),
                Err(why) => self.refuse(session, request, why),
            },
            Ask::Vouch { node } => match self.privileged(session) {
                Ok(()) => self.vouch(now, session, request, &node),
                Err(why) => self.refuse(session, request, why),
            },
            Ask::CreateLockspace {
                name,
                value_len,
                access,
                fairness,
                compat,
            } => {
                let manner = (fairness, compat);
                self.create_lockspace(now, session, request, name, value_len, &access, manner);
            }
            Ask::SetLockspace { name, access } => {
                self.set_lockspace(now, session, request, name, access);
            }
            Ask::Lockspaces { after, limit } => {
                self.list_lockspaces(session, request, after.as_ref(), limit);
            }
            Ask::DumpRecorder => self.ask_dump(now, session, request),
            Ask::Heard { upto } => self.on_heard(session, request, upto),
            Ask::Goodbye => {
                self.out.push(Effect::CloseSession { session });
                self.end_session(now, session);
            }
            Ask::Ping if self.is_kept(session) => self.answer(session, request, Answer::Pong),
            Ask::Events { .. } if self.is_kept(session) => {
                let text = "a session that is kept gets no events: open another for them";
                self.refuse(session, request, Refusal::Invalid(text.to_owned()));
            }
            Ask::Reattach { .. } => {
                let text = "a session is continued by the first request of a new connection";
                self.refuse(session, request, Refusal::Invalid(text.to_owned()));
            }
            Ask::Hello { .. } | Ask::Events { .. } | Ask::Ping | Ask::KeepSession { .. } => {
                let text = "the daemon answers this itself".to_owned();
                self.refuse(session, request, Refusal::Invalid(text));
            }
        }
    }

    fn open_lockspace(
        &mut self,
        now: Instant,
        session: SessionId,
        request: u64,
        name: LockspaceName,
        value_len: Option<u16>,
    ) {
        if let Some(len) = value_len
            && !(1..=VALUE_LEN_MAX).contains(&usize::from(len))
        {
            let text = format!("a value block of {len} bytes; 1 to {VALUE_LEN_MAX} are possible");
            return self.refuse(session, request, Refusal::Invalid(text));
        }
        if let Some(found) = self.state.lockspace(&name) {
            if !found.access.may_open(self.caller(session)) {
                let why = self.not_yours(session, &name);
                return self.refuse(session, request, why);
            }
            let answer = Answer::Lockspace {
                id: found.id,
                value_len: found.value_len,
            };
            let result = fits(&name, value_len, found.value_len).map(|()| answer);
            return self.tell(session, ToClient::Done { request, result });
        }
        let asker = Asker {
            session,
            request,
            value_len,
        };
        let same = self
            .wishes
            .iter_mut()
            .find(|w| matches!(&w.command, Command::CreateLockspace { name: n, .. } if *n == name));
        if let Some(wish) = same {
            return wish.askers.push(asker);
        }
        if let Err(why) = self.may_own(session) {
            return self.refuse(session, request, why);
        }
        let origin = self.origin();
        let caller = self.caller(session);
        let access = Access::open_to_all(caller.uid, caller.gid);
        let value_len = value_len.unwrap_or(VALUE_LEN_DEFAULT as u16);
        let command = Command::CreateLockspace {
            name,
            value_len,
            origin,
            access,
            fairness: Fairness::default(),
            compat: Compat::Strict,
        };
        self.wish(now, command, Some(asker));
    }

    fn vouch(&mut self, now: Instant, session: SessionId, request: u64, name: &NodeName) {
        let Some(spec) = self.config.nodes.iter().find(|n| n.name == *name) else {
            let names: Vec<&str> = self.config.nodes.iter().map(|n| n.name.as_str()).collect();
            let text = format!("no node is called {name}; there are {}", names.join(", "));
            return self.refuse(session, request, Refusal::Invalid(text));
        };
        let owner = self
            .sessions
            .get(&session)
            .map(|s| s.owner.clone())
            .unwrap_or_default();
        let operator = format!("uid {} on {}", owner.uid, self.name(self.config.me));
        let commands = self.state.vouch(spec.id, &operator);
        if commands.is_empty() {
            let text = format!(
                "no incarnation of {name} awaits proof: either it is a member, or its end is proved"
            );
            return self.refuse(session, request, Refusal::Invalid(text));
        }
        for (index, command) in commands.into_iter().enumerate() {
            debug_assert!(matches!(
                &command,
                Command::Fenced {
                    proof: Proof::OperatorVouched { .. },
                    ..
                }
            ));
            let asker = (index == 0).then_some(Asker {
                session,
                request,
                value_len: None,
            });
            self.wish(now, command, asker);
        }
    }

    pub(crate) fn privileged(&self, session: SessionId) -> Result<(), Refusal> {
        match self.sessions.get(&session) {
            Some(s) if s.caller.privileged => Ok(()),
            _ => Err(Refusal::Denied(
                "only root and the daemon's own user may do this; try it with sudo".to_owned(),
            )),
        }
    }

    pub(crate) fn answer(&mut self, session: SessionId, request: u64, answer: Answer) {
        self.tell(
            session,
            ToClient::Done {
                request,
                result: Ok(answer),
            },
        );
    }

    pub(crate) fn refuse(&mut self, session: SessionId, request: u64, why: Refusal) {
        self.tell(
            session,
            ToClient::Done {
                request,
                result: Err(why),
            },
        );
    }
}

/// Whether a lockspace has value blocks of the length that a client insists on, if it does.
pub(crate) fn fits(name: &LockspaceName, wanted: Option<u16>, found: u16) -> Result<(), Refusal> {
    match wanted {
        Some(len) if len != found => Err(Refusal::Invalid(format!(
            "lockspace {name} exists with value blocks of {found} bytes, not {len}"
        ))),
        _ => Ok(()),
    }
}
