//! Gathering a set: all of its locks are granted to this node before the client hears of one.
//!
//! The members are in one order that all sets share, by name. A set waits for one member only, with
//! those before it held and none behind it: so the set that waits for the last resource of all that
//! sets wait for holds them all, and waits for no set. What follows that member is tried without
//! waiting, in the hope that all is free; it is given back as soon as the set has to wait.

use super::{Fault, News, Number, PATIENCE, Part, check_count};
use crate::{
    Dlm,
    deadlock::Verdict,
    owner::{NewLock, check_known},
    table::Pending,
    tree::needs_parent,
};
use mainstay_base::{Flags, Instant, LockId, LockspaceId, Mutant, SessionId, Token};
use mainstay_recorder::Op;
use mainstay_wire::{
    client::{Answer, Handle},
    deadlock::OwnerId,
    dlm::ResourceId,
    lock::{Granted, Refusal},
    sets::{MemberRefusal, SetMember},
};

/// Flags that a lock of a set may be asked for with. Of the others, some are for the set as a whole,
/// and some promise that the owner will let go when told, which it is not while the set is gathered.
const FOR_MEMBERS: Flags = Flags(
    Flags::VALBLK.bits()
        | Flags::EXPEDITE.bits()
        | Flags::HEADQUE.bits()
        | Flags::NOORDER.bits()
        | Flags::PRIORITY.bits()
        | Flags::ALTPR.bits()
        | Flags::ALTCW.bits(),
);

/// A client's call for a set.
#[derive(Clone, Debug)]
pub struct SetCall {
    /// Where.
    pub space: LockspaceId,
    /// The locks.
    pub members: Vec<SetMember>,
    /// NOQUEUE, with or without NOQUEUEBAST, or none.
    pub flags: Flags,
    /// Give up then.
    pub deadline: Option<Instant>,
}

/// A set that is not granted yet.
#[derive(Debug)]
pub(crate) struct Gathering {
    session: SessionId,
    request: u64,
    /// Whose its locks are, if not the session's.
    owner: Option<OwnerId>,
    space: LockspaceId,
    /// In the order in which they are waited for.
    members: Vec<Member>,
    /// NOQUEUE, and what goes with it.
    flags: Flags,
    pub(super) deadline: Option<Instant>,
    /// Until then the masters have time to answer.
    pub(super) patience: Option<Instant>,
    /// How many members were asked for at once last; 0 after one of them was not free.
    reach: usize,
}

#[derive(Debug)]
struct Member {
    /// Its place in the call.
    place: usize,
    call: SetMember,
    state: State,
}

#[derive(Debug)]
enum State {
    /// Neither held nor asked for.
    Away,
    /// Asked for.
    Asked(LockId),
    /// Granted to this node.
    Held(LockId, Granted),
}

impl Member {
    fn lock(&self) -> Option<LockId> {
        match &self.state {
            State::Away => None,
            State::Asked(lock) | State::Held(lock, _) => Some(*lock),
        }
    }

    fn is_held(&self) -> bool {
        matches!(self.state, State::Held(..))
    }
}

impl Gathering {
    /// The place of the first member that is not held.
    fn first_missing(&self) -> Option<usize> {
        self.members.iter().position(|member| !member.is_held())
    }

    /// How many locks it counts for its session, and whether it counts as a call that waits.
    pub(super) fn promised(&self) -> (SessionId, u64, bool) {
        (self.session, self.members.len() as u64, self.waits())
    }

    fn waits(&self) -> bool {
        !self.flags.contains(Flags::NOQUEUE)
    }

    /// The refusal of all for the sake of one.
    fn refusal(&self, at: usize, why: Refusal) -> Refusal {
        let member = &self.members[at];
        MemberRefusal::at(member.place, member.call.name.clone(), why)
    }
}

impl Dlm {
    /// A client asks for a set.
    pub fn lock_set(&mut self, now: Instant, session: SessionId, request: u64, call: SetCall) {
        let flags = match self.may_gather(session, &call) {
            Ok(flags) => flags,
            Err(why) => return self.done(session, request, Err(why)),
        };
        let member = |(place, (call, flags))| Member {
            place,
            call: SetMember { flags, ..call },
            state: State::Away,
        };
        let members = call.members.into_iter().zip(flags).enumerate();
        let mut members: Vec<Member> = members.map(member).collect();
        if !Mutant::SetOrderAsAsked.active() {
            members.sort_by(|a, b| a.call.name.cmp(&b.call.name));
        }
        let number = self.sets.next_number();
        self.quotas.locks_come(session, members.len() as u64);
        if !call.flags.contains(Flags::NOQUEUE) {
            self.quotas.wait_begins(session);
        }
        for member in &members {
            let key = (session, member.call.handle);
            self.sets.handles.insert(key, number);
        }
        if let Some(at) = call.deadline {
            self.sets.timers.insert((at, number));
        }
        let mut set = Gathering {
            session,
            request,
            owner: self.owners.chosen(session),
            space: call.space,
            reach: members.len(),
            members,
            flags: call.flags,
            deadline: call.deadline,
            patience: None,
        };
        self.ask_round(now, number, &mut set);
        self.sets.gathering.insert(number, set);
        self.pursue_sets(now);
    }

    /// The flags of each member that count, if the call may be made.
    fn may_gather(&self, session: SessionId, call: &SetCall) -> Result<Vec<Flags>, Refusal> {
        self.may_come(session, call.space)?;
        check_known(call.flags)?;
        check_count("a set", call.members.len())?;
        let wait = Flags::NOQUEUE | Flags::NOQUEUEBAST;
        let lone_bast = call.flags == Flags::NOQUEUEBAST;
        if call.flags.without(wait) != Flags::NONE || lone_bast {
            return Err(Refusal::Invalid(format!(
                "a set as a whole takes NOQUEUE, or NOQUEUE and NOQUEUEBAST, not {}; give other \
                 flags to its locks",
                call.flags
            )));
        }
        let mut flags = Vec::new();
        for (place, member) in call.members.iter().enumerate() {
            let counts = self
                .may_be_member((session, call.space), &call.members[..place], member)
                .map_err(|why| MemberRefusal::at(place, member.name.clone(), why))?;
            flags.push(counts);
        }
        let count = call.members.len() as u64;
        self.quotas.check(session, count, call.flags)?;
        match call.flags.contains(Flags::NOQUEUE) && !self.active {
            true => Err(Refusal::NoQuorum),
            false => Ok(flags),
        }
    }

    fn may_be_member(
        &self,
        (session, space): (SessionId, LockspaceId),
        before: &[SetMember],
        member: &SetMember,
    ) -> Result<Flags, Refusal> {
        self.spaces.check_name(space, &member.name)?;
        let flags = self
            .spaces
            .admit_request(space, member.mode, member.flags)?;
        let other = flags.without(FOR_MEMBERS);
        if other != Flags::NONE {
            return Err(Refusal::Invalid(format!(
                "a lock of a set does not take {other}; it takes {FOR_MEMBERS}"
            )));
        }
        if !member.name.is_root() {
            return Err(needs_parent());
        }
        let in_use = self.is_handle_used(session, member.handle)
            || before.iter().any(|other| other.handle == member.handle);
        if in_use {
            return Err(Refusal::HandleInUse);
        }
        match before.iter().any(|other| other.name == member.name) {
            true => Err(Refusal::Invalid(
                "the set names it twice; a set takes each resource once".to_owned(),
            )),
            false => {
                let name = member.name.clone();
                let resource = ResourceId { space, name };
                self.check_duplicate(session, &resource, member.mode)?;
                Ok(flags)
            }
        }
    }

    /// A client cancels a set. Whether the handle is one of a set that is being gathered.
    pub(crate) fn cancel_set(
        &mut self,
        now: Instant,
        session: SessionId,
        request: u64,
        handle: Handle,
    ) -> bool {
        let ended = self.end_set_of(now, session, handle, &Refusal::Cancelled);
        if ended {
            self.done(session, request, Ok(Answer::Cancelled));
        }
        ended
    }

    /// Refuses a set that is being gathered, if the handle is one of its.
    pub(crate) fn end_set_of(
        &mut self,
        now: Instant,
        session: SessionId,
        handle: Handle,
        why: &Refusal,
    ) -> bool {
        let Some(number) = self.sets.set_of(session, handle) else {
            return false;
        };
        let Some(set) = self.sets.gathering.remove(&number) else {
            return false;
        };
        // All may be granted already, and not told yet.
        let at = set.first_missing().unwrap_or_default();
        self.refuse_set(now, number, set, at, Fault::Refused(why.clone()));
        true
    }

    /// Asks for what comes next: the first member that is missing, to be waited for, and some of
    /// those behind it, if they are free.
    fn ask_round(&mut self, now: Instant, number: Number, set: &mut Gathering) {
        let Some(first) = set.first_missing() else {
            return;
        };
        let end = set.members.len().min(first + set.reach);
        for at in first..end {
            let member = &mut set.members[at];
            if member.lock().is_some() {
                continue;
            }
            let lock = LockId(self.next_lock);
            member.state = State::Asked(lock);
            let call = &member.call;
            let mut flags = call.flags;
            if !set.flags.is_empty() {
                flags |= set.flags;
            } else if at > first {
                flags |= Flags::NOQUEUE;
            }
            if call.flags.contains(Flags::EXPEDITE) {
                flags = call.flags; // It never waits.
            }
            let new = NewLock {
                session: set.session,
                request: set.request,
                handle: call.handle,
                resource: ResourceId {
                    space: set.space,
                    name: call.name.clone(),
                },
                pending: Pending::Request {
                    mode: call.mode,
                    flags,
                },
                flags,
                blocking: call.blocking,
                deadline: None,
                parent: None,
                owner: set.owner,
            };
            let part = Part::Member { set: number, at };
            self.sets.parts.insert(lock, part);
            self.begin_lock(now, new);
        }
        if end > first + 1 && set.waits() {
            self.set_patience(number, set, Some(now + PATIENCE));
        }
    }

    fn set_patience(&mut self, number: Number, set: &mut Gathering, until: Option<Instant>) {
        // Where both times are the same, the set's own end stays.
        if let Some(at) = set.patience.take().filter(|at| set.deadline != Some(*at)) {
            self.sets.timers.remove(&(at, number));
        }
        set.patience = until;
        if let Some(at) = until {
            self.sets.timers.insert((at, number));
        }
    }

    /// Acts upon what has happened to sets.
    pub(crate) fn pursue_sets(&mut self, now: Instant) {
        while let Some((number, at, lock, news)) = self.sets.news.pop_front() {
            // Neither of a set that has ended, nor of a lock that it has given back.
            let Some(mut set) = self.sets.gathering.remove(&number) else {
                continue;
            };
            let current = set.members[at].lock() == Some(lock);
            let ended = match news {
                _ if !current => None,
                News::Queued => {
                    self.give_back_behind(now, &mut set, at);
                    set.reach = 1;
                    None
                }
                News::Ended(Ok(granted)) => {
                    set.members[at].state = State::Held(lock, granted);
                    None
                }
                News::Ended(Err(Fault::Refused(Refusal::NotQueued))) if set.waits() => {
                    set.members[at].state = State::Away;
                    self.give_back_behind(now, &mut set, at);
                    set.reach = 0;
                    None
                }
                News::Ended(Err(fault)) => {
                    set.members[at].state = State::Away;
                    Some(fault)
                }
            };
            match ended {
                Some(fault) => self.refuse_set(now, number, set, at, fault),
                None => self.go_on(now, number, set),
            }
        }
        self.set_timers_due(now);
    }

    fn set_timers_due(&mut self, now: Instant) {
        while let Some(&(at, number)) = self.sets.timers.first().filter(|timer| timer.0 <= now) {
            self.sets.timers.remove(&(at, number));
            let Some(mut set) = self.sets.gathering.remove(&number) else {
                continue;
            };
            let Some(missing) = set.first_missing() else {
                self.go_on(now, number, set);
                continue;
            };
            if set.deadline.is_some_and(|deadline| deadline <= now) {
                let fault = Fault::Refused(Refusal::TimedOut);
                self.refuse_set(now, number, set, missing, fault);
                continue;
            }
            // Its master is lost or slow; others need not wait for it too.
            set.patience = None;
            self.give_back_behind(now, &mut set, missing);
            set.reach = 1;
            self.sets.gathering.insert(number, set);
        }
    }

    /// Grants the set, asks for more of it, or leaves it waiting.
    fn go_on(&mut self, now: Instant, number: Number, mut set: Gathering) {
        let early = Mutant::SetToldEarly.active() && set.reach == 1;
        let missing = set.first_missing().filter(|_| !early);
        match missing.map(|at| &set.members[at].state) {
            None => return self.grant_set(now, number, set),
            Some(State::Away) => {
                set.reach = (set.reach * 4).max(1);
                self.set_patience(number, &mut set, None);
                self.ask_round(now, number, &mut set);
            }
            Some(_) => {}
        }
        self.sets.gathering.insert(number, set);
    }

    /// Gives back what the set holds or has asked for behind a member.
    fn give_back_behind(&mut self, now: Instant, set: &mut Gathering, at: usize) {
        for member in &mut set.members[at + 1..] {
            if Mutant::SetBehindKept.active() && member.is_held() {
                continue;
            }
            if let Some(lock) = member.lock() {
                member.state = State::Away;
                // Nobody has been told of it, so nobody has written under it.
                self.let_go(now, lock, false, Op::Dropped);
            }
        }
    }

    /// Refuses all of a set for the sake of one member, and leaves none of it.
    fn refuse_set(
        &mut self,
        now: Instant,
        number: Number,
        set: Gathering,
        at: usize,
        fault: Fault,
    ) {
        self.forget_set(number, &set);
        for member in &set.members {
            if Mutant::SetNotGivenBack.active() && member.is_held() {
                continue;
            }
            if let Some(lock) = member.lock() {
                self.let_go(now, lock, false, Op::Dropped);
            }
        }
        let (session, request) = (set.session, set.request);
        match fault {
            Fault::Refused(why) => {
                let why = set.refusal(at, why);
                self.done(session, request, Err(why));
            }
            Fault::Victim { policy, circle, .. } => {
                let verdict = Verdict { policy, circle };
                let place = u32::try_from(set.members[at].place).unwrap_or(u32::MAX);
                let member = Some((place, set.members[at].call.name.clone()));
                self.done_in_circle((session, request), verdict, false, member);
            }
        }
    }

    /// Tells the client that all of it is granted.
    fn grant_set(&mut self, now: Instant, number: Number, mut set: Gathering) {
        self.forget_set(number, &set);
        set.members.sort_by_key(|member| member.place);
        let mut told = Vec::with_capacity(set.members.len());
        let mut blocking = Vec::new();
        for member in set.members {
            match member.state {
                State::Held(lock, granted) => {
                    self.sets.parts.remove(&lock);
                    told.push(granted);
                    let blocked = self.sets.blocked.remove(&lock).unwrap_or_default();
                    blocking.extend(blocked.into_iter().map(|mode| (lock, mode)));
                }
                State::Away | State::Asked(_) => told.push(Granted {
                    mode: member.call.mode,
                    token: Token::NONE,
                    value: None,
                }),
            }
        }
        let answer = Answer::SetGranted { members: told };
        self.done(set.session, set.request, Ok(answer));
        for (lock, mode) in blocking {
            self.on_blocking(now, lock, mode);
        }
    }

    fn forget_set(&mut self, number: Number, set: &Gathering) {
        self.sets.unset_timer(number, set);
        for member in &set.members {
            let key = (set.session, member.call.handle);
            self.sets.handles.remove(&key);
        }
        self.end_promise(set);
    }

    /// From now on a set counts for nothing: the locks that are there, and their calls, count for
    /// themselves.
    pub(crate) fn end_promise(&mut self, set: &Gathering) {
        let (session, promised, waits) = set.promised();
        let mut there = 0;
        for lock in set.members.iter().filter_map(Member::lock) {
            if let Some(owned) = self.locks.get(&lock) {
                there += 1;
                if owned.pending.may_wait() {
                    self.quotas.wait_begins(session);
                }
            }
        }
        if waits {
            self.quotas.wait_ends(session);
        }
        self.quotas
            .locks_go(session, promised.saturating_sub(there));
    }
}
