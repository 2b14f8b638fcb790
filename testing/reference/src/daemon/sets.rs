//! Sets: several locks, all or none.

use super::{Daemon, Part, Said, calls::New, invalid};
use crate::resource::{Key, has};
use mainstay_base::{Instant, LockMode, LockspaceId, SET_LOCKS_MAX, SessionId};
use mainstay_wire::{
    client::{Answer, Ask, Handle},
    dlm::ResourceId,
    lock::{Flags, Granted, Refusal},
    sets::{MemberRefusal, SetMember},
};
use std::collections::BTreeSet;

/// Flags that a member may have.
const FOR_MEMBERS: [Flags; 7] = [
    Flags::VALBLK,
    Flags::EXPEDITE,
    Flags::HEADQUE,
    Flags::NOORDER,
    Flags::PRIORITY,
    Flags::ALTPR,
    Flags::ALTCW,
];

#[derive(Debug)]
enum State {
    Away,
    Asked(Key),
    Held(Key, Granted),
}

#[derive(Debug)]
struct Member {
    place: usize,
    call: SetMember,
    state: State,
    /// What it was said to be in the way of.
    blocks: Vec<LockMode>,
}

impl Member {
    fn key(&self) -> Option<Key> {
        match &self.state {
            State::Away => None,
            State::Asked(key) | State::Held(key, _) => Some(*key),
        }
    }
}

/// A set that is being gathered: its members in the order of their names.
#[derive(Debug)]
pub(super) struct Set {
    pub(super) session: SessionId,
    request: u64,
    space: LockspaceId,
    members: Vec<Member>,
    flags: Flags,
    pub(super) deadline: Option<Instant>,
    /// How many were asked for last.
    reach: usize,
}

/// What happened to a member: it was queued, or its request has ended.
#[derive(Debug)]
pub(super) struct News {
    set: u64,
    at: usize,
    key: Key,
    end: Option<Result<Granted, Refusal>>,
}

impl Set {
    pub(super) fn handles(&self) -> impl Iterator<Item = Handle> {
        self.members.iter().map(|member| member.call.handle)
    }

    fn first_missing(&self) -> Option<usize> {
        let mut members = self.members.iter();
        members.position(|member| !matches!(member.state, State::Held(..)))
    }

    fn waits(&self) -> bool {
        !has(self.flags, Flags::NOQUEUE)
    }
}

impl Daemon {
    pub(super) fn set_of(&self, session: SessionId, handle: Handle) -> Option<u64> {
        let mut sets = self.sets.iter();
        let found = sets
            .find(|(_, set)| set.session == session && set.handles().any(|other| other == handle));
        found.map(|(number, _)| *number)
    }

    /// Locks of a session of which it was not told yet.
    pub(super) fn untold(&self, session: SessionId) -> BTreeSet<Key> {
        let sets = self.sets.values().filter(|set| set.session == session);
        sets.flat_map(|set| set.members.iter().filter_map(Member::key))
            .collect()
    }

    pub(super) fn ask_set(&mut self, session: SessionId, request: u64, ask: Ask) {
        let Ask::LockSet {
            lockspace: space,
            members,
            flags,
            timeout_ms,
        } = ask
        else {
            return;
        };
        let reasons = self.wrong_set(session, space, &members, flags);
        if !reasons.is_empty() {
            return self.answer(session, request, Err(reasons));
        }
        let count = members.len();
        let member = |(place, call)| Member {
            place,
            call,
            state: State::Away,
            blocks: Vec::new(),
        };
        let mut members: Vec<Member> = members.into_iter().enumerate().map(member).collect();
        members.sort_by(|a, b| a.call.name.own_bytes().cmp(b.call.name.own_bytes()));
        let set = Set {
            session,
            request,
            space,
            members,
            flags,
            deadline: self.deadline(timeout_ms),
            reach: count,
        };
        let number = self.number();
        self.sets.insert(number, set);
        self.ask_round(number);
        self.pursue_sets();
    }

    fn wrong_set(
        &self,
        session: SessionId,
        space: LockspaceId,
        members: &[SetMember],
        flags: Flags,
    ) -> Vec<Refusal> {
        let mut reasons = Vec::new();
        if !self.spaces.contains_key(&space) {
            reasons.push(Refusal::NoSuchLockspace);
        }
        if !(1..=SET_LOCKS_MAX).contains(&members.len()) {
            reasons.push(Refusal::Limit(String::new()));
        }
        let alone = flags == Flags::NOQUEUEBAST;
        let wait = Flags::NOQUEUE | Flags::NOQUEUEBAST;
        if !flags.without(wait).is_empty() || alone {
            reasons.push(invalid());
        }
        let allowed = FOR_MEMBERS.into_iter().fold(Flags::NONE, |a, b| a | b);
        let in_use = self.handles_in_use(session);
        for (place, member) in members.iter().enumerate() {
            let before = &members[..place];
            let mut refuse = |why| {
                reasons.push(MemberRefusal::at(place, member.name.clone(), why));
            };
            if !self.may_lock(session, space, &member.name, member.mode, member.flags) {
                refuse(Refusal::Denied(String::new()));
            }
            if self.request_is_wrong(space, member.mode, member.flags)
                || !member.flags.without(allowed).is_empty()
                || !member.name.is_root()
                || before.iter().any(|other| other.name == member.name)
            {
                refuse(invalid());
            }
            if in_use.contains(&member.handle)
                || before.iter().any(|other| other.handle == member.handle)
            {
                refuse(Refusal::HandleInUse);
            }
        }
        reasons
    }

    /// Asks for the first member that is missing, and tries some behind it.
    fn ask_round(&mut self, number: u64) {
        let set = &self.sets[&number];
        let Some(first) = set.first_missing() else {
            return;
        };
        let end = set.members.len().min(first + set.reach);
        for at in first..end {
            let key = self.last_key + 1;
            let set = self.sets.get_mut(&number).unwrap();
            let (session, request, space) = (set.session, set.request, set.space);
            let whole = match set.waits() {
                true if at > first => Flags::NOQUEUE,
                _ => set.flags,
            };
            let member = &mut set.members[at];
            if member.key().is_some() {
                continue;
            }
            member.state = State::Asked(key);
            let call = member.call.clone();
            let never_waits = has(call.flags, Flags::EXPEDITE);
            let flags = match never_waits {
                true => call.flags,
                false => call.flags | whole,
            };
            let name = call.name;
            self.begin_lock(New {
                session,
                request,
                handle: call.handle,
                resource: ResourceId { space, name },
                parent: None,
                mode: call.mode,
                flags,
                blocking: call.blocking,
                deadline: None,
                part: Part::Member(number, at),
            });
        }
    }

    pub(super) fn member_queued(&mut self, set: u64, at: usize, key: Key) {
        let end = None;
        self.set_news.push(News { set, at, key, end });
    }

    pub(super) fn member_done(
        &mut self,
        set: u64,
        at: usize,
        result: Result<Answer, Vec<Refusal>>,
    ) {
        let Some(key) = self.sets.get(&set).and_then(|s| s.members[at].key()) else {
            return; // The set has ended.
        };
        let end = match result {
            Ok(Answer::Granted(granted) | Answer::GrantedOtherwise { granted, .. }) => Ok(granted),
            Ok(other) => panic!("no end of a request: {other:?}"),
            Err(mut reasons) => Err(reasons.remove(0)),
        };
        let end = Some(end);
        self.set_news.push(News { set, at, key, end });
    }

    /// Acts upon what happened to members, when nothing else is under way.
    pub(super) fn pursue_sets(&mut self) {
        while !self.set_news.is_empty() {
            let News { set, at, key, end } = self.set_news.remove(0);
            let Some(gathered) = self.sets.get_mut(&set) else {
                continue;
            };
            if gathered.members[at].key() == Some(key) {
                let waits = gathered.waits();
                match end {
                    None => {
                        gathered.reach = 1;
                        self.give_back_behind(set, at);
                    }
                    Some(Ok(granted)) => gathered.members[at].state = State::Held(key, granted),
                    Some(Err(Refusal::NotQueued)) if waits => {
                        gathered.members[at].state = State::Away;
                        gathered.reach = 0;
                        self.give_back_behind(set, at);
                    }
                    Some(Err(why)) => {
                        gathered.members[at].state = State::Away;
                        self.refuse_set(set, at, &why);
                        continue;
                    }
                }
            }
            self.go_on(set);
        }
    }

    fn go_on(&mut self, number: u64) {
        let Some(set) = self.sets.get_mut(&number) else {
            return;
        };
        match set.first_missing().map(|at| &set.members[at].state) {
            None => self.grant_set(number),
            Some(State::Away) => {
                set.reach = (set.reach * 4).max(1);
                self.ask_round(number);
            }
            Some(_) => {}
        }
    }

    fn give_back_behind(&mut self, number: u64, at: usize) {
        let count = self.sets[&number].members.len();
        for behind in at + 1..count {
            let member = &mut self.sets.get_mut(&number).unwrap().members[behind];
            if let Some(key) = member.key() {
                member.state = State::Away;
                member.blocks.clear();
                self.give_back(key);
            }
        }
    }

    /// Gives a member back, unless it was refused and the set is still to hear of that.
    fn give_back(&mut self, key: Key) {
        if self.locks.contains_key(&key) {
            self.take_away(key, false);
        }
    }

    fn grant_set(&mut self, number: u64) {
        let mut set = self.sets.remove(&number).unwrap();
        set.members.sort_by_key(|member| member.place);
        let mut granted = Vec::new();
        let mut blocking = Vec::new();
        for member in set.members {
            if let State::Held(key, grant) = member.state {
                granted.push(grant);
                blocking.extend(member.blocks.into_iter().map(|mode| (key, mode)));
            }
        }
        let answer = Answer::SetGranted { members: granted };
        self.say(set.session, Said::done(set.request, answer));
        for (key, mode) in blocking {
            self.blocks(key, mode);
        }
    }

    fn refuse_set(&mut self, number: u64, at: usize, why: &Refusal) {
        let set = self.sets.remove(&number).unwrap();
        for key in set.members.iter().filter_map(Member::key) {
            self.give_back(key);
        }
        let member = &set.members[at];
        let why = MemberRefusal::at(member.place, member.call.name.clone(), why.clone());
        self.answer(set.session, set.request, Err(vec![why]));
    }

    /// Ends a set that is being gathered.
    pub(super) fn end_set(&mut self, number: u64, why: &Refusal) {
        let at = self.sets[&number].first_missing().unwrap_or_default();
        self.refuse_set(number, at, why);
    }

    pub(super) fn sets_due(&mut self) {
        loop {
            let sets = self.sets.iter();
            let due = sets.filter_map(|(number, set)| Some((set.deadline?, *number)));
            let Some((_, number)) = due.min().filter(|(at, _)| *at <= self.now) else {
                return;
            };
            self.end_set(number, &Refusal::TimedOut);
        }
    }

    /// Keeps a notice for a member until its set is granted.
    pub(super) fn keep_for_set(&mut self, key: Key, mode: LockMode) -> bool {
        let members = self.sets.values_mut().flat_map(|set| &mut set.members);
        for member in members {
            if member.key() == Some(key) {
                if !member.blocks.contains(&mode) {
                    member.blocks.push(mode);
                }
                return true;
            }
        }
        false
    }
}
