//! Clients' calls for several locks at once, and what becomes of them.

use crate::{
    checkers::Fact,
    client::{Call, Grant, Lock, Phase},
    workloads::Happened,
    world::World,
};
use mainstay_base::{Flags, LockMode};
use mainstay_wire::{
    client::{Answer, Ask, Handle},
    lock::{Granted, Refusal},
    sets::{ConvertOne, OneDone, SetMember, UnlockOne},
};

/// One lock of a set, as a workload asks for it.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its name.
    pub handle: Handle,
    /// On what.
    pub res: crate::checkers::books::Res,
    /// In which mode.
    pub mode: LockMode,
    /// How.
    pub flags: Flags,
}

impl Member {
    /// The call that it would be by itself.
    fn as_call(&self) -> Call {
        Call::Lock {
            handle: self.handle,
            mode: self.mode,
            flags: self.flags,
        }
    }
}

impl World {
    pub(crate) fn lock_set(
        &mut self,
        slot: usize,
        members: Vec<Member>,
        flags: Flags,
        timeout_ms: Option<u32>,
    ) {
        let client = &mut self.clients[slot];
        let (no, request) = (client.no, client.next_request);
        let resources = members.iter().map(|m| m.res as usize);
        let named: Vec<_> = resources
            .map(|res| self.terrain.resources[res].clone())
            .collect();
        let Some(lockspace) = named.first().and_then(|(space, _)| client.spaces[*space]) else {
            return;
        };
        let alone = client.at_rest();
        let mut asks = Vec::new();
        for (member, (_, name)) in members.iter().zip(named) {
            let lock = Lock {
                res: member.res,
                phase: Phase::Asking,
                demoted: false,
            };
            client.locks.insert(member.handle, lock);
            self.touched.entry(no).or_default().insert(member.res);
            asks.push(SetMember {
                handle: member.handle,
                name,
                mode: member.mode,
                flags: member.flags,
                blocking: true,
            });
        }
        self.fact(&Fact::SetAsked {
            client: no,
            request,
            alone,
        });
        let ask = Ask::LockSet {
            lockspace,
            members: asks,
            flags,
            timeout_ms,
        };
        self.stats.count("sets asked for");
        self.ask(slot, ask, Call::Set { members });
    }

    /// What the checkers know of the parts of a call: each waits, as far as can be seen from outside.
    pub(crate) fn parts_asked(&mut self, slot: usize, request: u64, call: &Call) {
        let client = &self.clients[slot];
        let (conn, life) = (client.conn, client.life);
        let parts: Vec<(Handle, LockMode)> = match call {
            Call::Set { members } => members.iter().map(|m| (m.handle, m.mode)).collect(),
            Call::ConvertMany { locks } => locks.iter().map(|(h, mode, _)| (*h, *mode)).collect(),
            _ => return,
        };
        for (handle, mode) in parts {
            let Some(lock) = self.clients[slot].locks.get(&handle) else {
                continue;
            };
            let res = lock.res;
            self.fact(&Fact::LockAsked {
                who: self.clients[slot].who(handle),
                request,
                res,
                mode,
                // Which of them waits for what is not known from outside.
                flags: Flags::NODLCKWT,
                conn,
                life,
            });
        }
    }

    /// What a user may not do is refused in sets and in bulk, too, and nothing else.
    pub(crate) fn judge_many(
        &mut self,
        slot: usize,
        call: &Call,
        result: &Result<Answer, Refusal>,
    ) {
        match (call, result) {
            (Call::Set { members }, Ok(Answer::SetGranted { .. })) => {
                for member in members {
                    self.judge_access(slot, &member.as_call(), false);
                }
            }
            (Call::Set { members }, Err(Refusal::OfSet(refused))) => {
                if let Some(member) = members.get(refused.place as usize)
                    && matches!(refused.why, Refusal::Denied(_))
                {
                    self.judge_access(slot, &member.as_call(), true);
                }
            }
            (Call::ConvertMany { locks }, Ok(Answer::Many { results })) => {
                for (&(handle, mode, flags), result) in locks.iter().zip(results) {
                    let denied = match result {
                        Ok(OneDone::Granted { .. }) => false,
                        Err(Refusal::Denied(_)) => true,
                        _ => continue,
                    };
                    let call = Call::Convert {
                        handle,
                        mode,
                        flags,
                        publish: false,
                    };
                    self.judge_access(slot, &call, denied);
                }
            }
            _ => {}
        }
    }

    pub(crate) fn set_granted(&mut self, slot: usize, members: &[Member], granted: Vec<Granted>) {
        if granted.len() != members.len() {
            let what = format!(
                "{} grants in answer to a set of {}",
                granted.len(),
                members.len()
            );
            return self.protocol(slot, &what);
        }
        self.stats.count("sets granted");
        for (member, granted) in members.iter().zip(granted) {
            let altmode = granted.mode != member.mode;
            let call = member.as_call();
            let grant = Grant {
                granted,
                altmode,
                demoted: false,
            };
            self.granted(slot, &call, grant);
        }
    }

    pub(crate) fn set_refused(&mut self, slot: usize, members: &[Member], refusal: &Refusal) {
        self.count_refusal(refusal);
        self.stats.count("sets refused");
        match refusal {
            Refusal::OfSet(member) => {
                let named = members.get(member.place as usize).map(|m| m.res as usize);
                let name = named.map(|res| &self.terrain.resources[res].1);
                if name != Some(&member.name) {
                    let what = format!("the refusal `{refusal}` of another set than it asked for");
                    self.protocol(slot, &what);
                }
            }
            Refusal::NoQuorum | Refusal::Leaving => {}
            other => {
                let what = format!("a set refused as a whole: {other}");
                self.protocol(slot, &what);
            }
        }
        for member in members {
            let locks = &mut self.clients[slot].locks;
            let asking = locks
                .get(&member.handle)
                .is_some_and(|lock| lock.phase == Phase::Asking);
            // Where one that is unlocked by force ended the set, it gets its own answer.
            if asking || *refusal.cause() != Refusal::Released {
                locks.remove(&member.handle);
            }
        }
        let released = |m: &&Member| !self.clients[slot].locks.contains_key(&m.handle);
        let gone: Vec<Handle> = members.iter().filter(released).map(|m| m.handle).collect();
        for handle in gone {
            self.tell(slot, Happened::Refused(handle, refusal.clone()));
        }
    }

    pub(crate) fn convert_many(
        &mut self,
        slot: usize,
        locks: Vec<(Handle, LockMode, Flags)>,
        timeout_ms: Option<u32>,
    ) {
        let mut asked = Vec::new();
        for (handle, mode, flags) in locks {
            let client = &mut self.clients[slot];
            let who = client.who(handle);
            let Some(lock) = client.locks.get_mut(&handle) else {
                continue;
            };
            let Phase::Held(from) = lock.phase else {
                continue;
            };
            lock.phase = Phase::Converting { from };
            let valblk = flags.contains(Flags::VALBLK);
            self.books.converting(who, mode, valblk);
            asked.push((handle, mode, flags));
        }
        if asked.is_empty() {
            return;
        }
        let client = &self.clients[slot];
        let (client, request) = (client.no, client.next_request);
        self.fact(&Fact::ManyAsked { client, request });
        let ones = asked.iter().map(|&(handle, mode, flags)| ConvertOne {
            handle,
            mode,
            flags,
            blocking: true,
            value: None,
        });
        let ask = Ask::ConvertMany {
            locks: ones.collect(),
            timeout_ms,
        };
        self.ask(slot, ask, Call::ConvertMany { locks: asked });
    }

    pub(crate) fn unlock_many(&mut self, slot: usize, handles: Vec<Handle>) {
        let mut asked = Vec::new();
        for handle in handles {
            let client = &mut self.clients[slot];
            let who = client.who(handle);
            let Some(lock) = client.locks.get_mut(&handle) else {
                continue;
            };
            if !matches!(lock.phase, Phase::Held(_)) {
                continue;
            }
            lock.phase = Phase::Releasing;
            let res = lock.res;
            self.books.remove(who);
            if self.books.empty(res) {
                self.fact(&Fact::Emptied { res });
            }
            asked.push(handle);
        }
        if asked.is_empty() {
            return;
        }
        let ones = asked.iter().map(|&handle| UnlockOne {
            handle,
            flags: Flags::NONE,
            value: None,
        });
        let ask = Ask::UnlockMany {
            locks: ones.collect(),
        };
        self.ask(slot, ask, Call::UnlockMany { handles: asked });
    }

    /// Conversions or unlocks in bulk have ended, each for itself.
    pub(crate) fn many_done(&mut self, slot: usize, call: Call, result: Result<Answer, Refusal>) {
        let count = match &call {
            Call::ConvertMany { locks } => locks.len(),
            Call::UnlockMany { handles } => handles.len(),
            _ => return,
        };
        let results = match result {
            Ok(Answer::Many { results }) if results.len() == count => results,
            other => {
                let what = format!("{other:?} in answer to {call:?}");
                return self.protocol(slot, &what);
            }
        };
        self.stats.count("bulk calls answered");
        match call {
            Call::ConvertMany { locks } => {
                for ((handle, mode, flags), result) in locks.into_iter().zip(results) {
                    self.one_converted(slot, (handle, mode, flags), result);
                }
            }
            Call::UnlockMany { handles } => {
                for (handle, result) in handles.into_iter().zip(results) {
                    let answer = result.map(|done| match done {
                        OneDone::Unlocked { version } => Answer::Unlocked { version },
                        OneDone::Granted { granted, .. } => Answer::Granted(granted),
                    });
                    self.unlocked(slot, handle, false, answer);
                }
            }
            _ => {}
        }
    }

    fn one_converted(
        &mut self,
        slot: usize,
        (handle, mode, flags): (Handle, LockMode, Flags),
        result: Result<OneDone, Refusal>,
    ) {
        let call = Call::Convert {
            handle,
            mode,
            flags,
            publish: false,
        };
        match result {
            Ok(OneDone::Granted {
                granted,
                altmode,
                demoted,
            }) => {
                let grant = Grant {
                    granted,
                    altmode,
                    demoted,
                };
                self.granted(slot, &call, grant);
            }
            Ok(OneDone::Unlocked { .. }) => self.protocol(slot, "an unlock in answer to convert"),
            // The answer to the unlock tells the rest.
            Err(Refusal::Released) => self.stats.count("calls ended by force"),
            Err(refusal) => self.conversion_refused(slot, handle, false, refusal),
        }
    }
}
