//! The stand-in's sets, which are tried whenever something has happened, and its bulk calls.

use super::engine::{Engine, Said, done};
use mainstay_base::Flags;
use mainstay_wire::{
    client::{Answer, Ask, Handle, ToClient},
    lock::{Granted, Refusal},
    sets::{MemberRefusal, OneDone, SetMember},
};
use std::collections::BTreeMap;

/// A set that is not granted yet.
struct Waiting {
    session: u64,
    request: u64,
    lockspace: mainstay_base::LockspaceId,
    members: Vec<SetMember>,
}

/// A bulk call that has not ended.
struct Bulk {
    session: u64,
    request: u64,
    results: Vec<Option<Result<OneDone, Refusal>>>,
}

#[derive(Default)]
pub(super) struct Sets {
    waiting: Vec<Waiting>,
    bulks: Vec<Option<Bulk>>,
    /// Numbers of calls that are parts of bulk calls, counted down from the largest.
    parts: BTreeMap<u64, (usize, usize)>,
}

impl Engine {
    /// Takes a call for several locks; others are given back.
    pub(super) fn ask_several(
        &mut self,
        session: u64,
        request: u64,
        ask: Ask,
        said: &mut Said,
    ) -> Option<Ask> {
        match ask {
            Ask::LockSet {
                lockspace,
                members,
                flags,
                ..
            } => {
                let set = Waiting {
                    session,
                    request,
                    lockspace,
                    members,
                };
                match self.try_set(&set, said) {
                    Err(why) if flags.contains(Flags::NOQUEUE) => {
                        said.push(done(session, request, Err(why)));
                    }
                    Err(_) => self.sets.waiting.push(set),
                    Ok(()) => {}
                }
                None
            }
            Ask::ConvertMany { locks, timeout_ms } => {
                let asks = locks.into_iter().map(|one| Ask::Convert {
                    handle: one.handle,
                    mode: one.mode,
                    flags: one.flags,
                    blocking: one.blocking,
                    value: one.value,
                    timeout_ms,
                });
                self.bulk(session, request, asks.collect(), said);
                None
            }
            Ask::UnlockMany { locks } => {
                let asks = locks.into_iter().map(|one| Ask::Unlock {
                    handle: one.handle,
                    flags: one.flags,
                    value: one.value,
                });
                self.bulk(session, request, asks.collect(), said);
                None
            }
            Ask::Cancel { handle } if self.cancel_set(session, request, handle, said) => None,
            other => Some(other),
        }
    }

    /// Takes all of it, or nothing.
    fn try_set(&mut self, set: &Waiting, said: &mut Said) -> Result<(), Refusal> {
        let mut granted: Vec<Granted> = Vec::new();
        for (place, member) in set.members.iter().enumerate() {
            let ask = Ask::Lock {
                handle: member.handle,
                lockspace: set.lockspace,
                name: member.name.clone(),
                mode: member.mode,
                flags: member.flags | Flags::NOQUEUE,
                blocking: member.blocking,
                timeout_ms: None,
            };
            let mut heard = Said::new();
            self.answer(set.session, set.request, ask, &mut heard);
            for (to, message) in heard {
                match message {
                    ToClient::Done {
                        result: Ok(Answer::Granted(one)),
                        ..
                    } => granted.push(one),
                    ToClient::Done {
                        result: Err(why), ..
                    } => {
                        for taken in &set.members[..place] {
                            self.forget((set.session, taken.handle), said);
                        }
                        return Err(Refusal::OfSet(Box::new(MemberRefusal {
                            place: u32::try_from(place).unwrap_or(u32::MAX),
                            name: member.name.clone(),
                            why,
                        })));
                    }
                    other => said.push((to, other)),
                }
            }
        }
        let answer = Answer::SetGranted { members: granted };
        said.push(done(set.session, set.request, Ok(answer)));
        Ok(())
    }

    fn cancel_set(&mut self, session: u64, request: u64, handle: Handle, said: &mut Said) -> bool {
        let is_it = |set: &Waiting| {
            set.session == session && set.members.iter().any(|member| member.handle == handle)
        };
        let Some(at) = self.sets.waiting.iter().position(is_it) else {
            return false;
        };
        let set = self.sets.waiting.remove(at);
        let why = Refusal::OfSet(Box::new(MemberRefusal {
            place: 0,
            name: set.members[0].name.clone(),
            why: Refusal::Cancelled,
        }));
        said.push(done(session, set.request, Err(why)));
        said.push(done(session, request, Ok(Answer::Cancelled)));
        true
    }

    fn bulk(&mut self, session: u64, request: u64, asks: Vec<Ask>, said: &mut Said) {
        let number = self.sets.bulks.len();
        self.sets.bulks.push(Some(Bulk {
            session,
            request,
            results: vec![None; asks.len()],
        }));
        for (at, ask) in asks.into_iter().enumerate() {
            let part = u64::MAX - ((number as u64) << 16 | at as u64);
            self.sets.parts.insert(part, (number, at));
            self.answer(session, part, ask, said);
        }
    }

    /// Tries sets that wait, and gathers what was said to parts of bulk calls.
    pub(super) fn pursue_sets(&mut self, said: &mut Said) {
        for set in std::mem::take(&mut self.sets.waiting) {
            if self.try_set(&set, said).is_err() {
                self.sets.waiting.push(set);
            }
        }
        for (session, message) in std::mem::take(said) {
            match message {
                ToClient::Done { request, result } if self.sets.parts.contains_key(&request) => {
                    said.extend(self.sets.part_done(request, result));
                }
                other => said.push((session, other)),
            }
        }
    }

    /// A session's sets and bulk calls get no answers.
    pub(super) fn forget_sets(&mut self, session: u64) {
        self.sets.waiting.retain(|set| set.session != session);
        for bulk in &mut self.sets.bulks {
            bulk.take_if(|bulk| bulk.session == session);
        }
    }
}

impl Sets {
    fn part_done(&mut self, part: u64, result: Result<Answer, Refusal>) -> Option<(u64, ToClient)> {
        let (number, at) = self.parts.remove(&part)?;
        let bulk = self.bulks[number].as_mut()?;
        bulk.results[at] = Some(result.map(|answer| match answer {
            Answer::Granted(granted) => OneDone::Granted {
                granted,
                altmode: false,
                demoted: false,
            },
            _ => OneDone::Unlocked { version: None },
        }));
        if bulk.results.iter().any(Option::is_none) {
            return None;
        }
        let bulk = self.bulks[number].take()?;
        let results = bulk.results.into_iter().flatten().collect();
        Some(done(
            bulk.session,
            bulk.request,
            Ok(Answer::Many { results }),
        ))
    }
}
