//! Who may lock what: checked at the node of the client that asks, by the replicated rules of the
//! lockspace; and limits per user, by the node's own configuration.

use crate::{Node, clients::fits, wish::Asker};
use mainstay_base::{
    AccessChange, Caller, Compat, Fairness, Instant, LockMode, LockspaceId, LockspaceName,
    ResourceName, SessionId, UserLimits, VALUE_LEN_MAX,
};
use mainstay_dlm::ChildCall;
use mainstay_membership::{AccessRefused, Command, Lockspace, RequestOrigin};
use mainstay_wire::{
    client::{Answer, Handle},
    codec,
    lock::{Flags, Refusal},
    report::LockspaceAccess,
};

/// Most lockspaces in an answer.
const LIMIT_MAX: u32 = 1000;

impl Node {
    /// What users may have at most on this node. To be told after the boot.
    pub fn limit_users(&mut self, limits: UserLimits) {
        self.limits = limits;
        self.dlm.limit_users(limits);
    }

    /// Whether a user may have another session on this node.
    ///
    /// # Errors
    /// If it has as many as it may.
    pub fn may_connect(&self, uid: u32, privileged: bool) -> Result<(), Refusal> {
        let Some(limit) = self.limits.sessions.filter(|_| !privileged) else {
            return Ok(());
        };
        let own = self.sessions.values().filter(|s| s.caller.uid == uid);
        let used = own.count() as u64;
        if used < limit {
            return Ok(());
        }
        Err(Refusal::Limit(format!(
            "user {uid} has {used} sessions on this node, and may have {limit} (`sessions-per-user` in \
             `[limits]`): end some, or have the limit raised"
        )))
    }

    /// Whether a session's user may own another lockspace. Those that it has asked for on other nodes
    /// and that do not exist yet are not known here.
    pub(crate) fn may_own(&self, session: SessionId) -> Result<(), Refusal> {
        let caller = self.caller(session);
        let Some(limit) = self.limits.lockspaces.filter(|_| !caller.privileged) else {
            return Ok(());
        };
        let uid = caller.uid;
        let owned = self.state.lockspaces().filter(|l| l.access.owner == uid);
        let wished = self.wishes.iter().filter(|wish| {
            matches!(&wish.command, Command::CreateLockspace { access, .. } if access.owner == uid)
        });
        let used = (owned.count() + wished.count()) as u64;
        if used < limit {
            return Ok(());
        }
        Err(Refusal::Limit(format!(
            "user {uid} owns {used} lockspaces, and may own {limit} (`lockspaces-per-user` in `[limits]`): \
             use one that exists, or have the limit raised"
        )))
    }

    pub(crate) fn caller(&self, session: SessionId) -> Caller {
        let found = self.sessions.get(&session);
        found.map(|s| s.caller).unwrap_or_default()
    }

    pub(crate) fn origin(&mut self) -> RequestOrigin {
        let origin = RequestOrigin {
            node: self.config.me,
            boot: self.boot,
            request: self.next_query,
        };
        self.next_query += 1;
        origin
    }

    /// Notes who may lock what in a lockspace, if not everybody everything.
    pub(crate) fn guard(&mut self, lockspace: &Lockspace) {
        if lockspace.access.is_open_to_all() {
            self.guarded.remove(&lockspace.id);
        } else {
            self.guarded.insert(lockspace.id, lockspace.access.clone());
        }
    }

    pub(crate) fn may_lock(
        &self,
        session: SessionId,
        space: LockspaceId,
        name: &ResourceName,
        mode: LockMode,
        flags: Flags,
    ) -> Result<(), Refusal> {
        if self.guarded.is_empty() {
            return Ok(());
        }
        let Some(access) = self.guarded.get(&space) else {
            return Ok(());
        };
        let caller = self.caller(session);
        let allowed = access.modes(caller, name.root_bytes());
        let alternates = [(Flags::ALTPR, LockMode::Pr), (Flags::ALTCW, LockMode::Cw)];
        let alternates = alternates
            .into_iter()
            .filter(|(flag, _)| flags.contains(*flag));
        let mut wanted = alternates.map(|(_, mode)| mode).chain([mode]);
        let Some(denied) = wanted.find(|mode| !allowed.has(*mode)) else {
            return Ok(());
        };
        let modes: Vec<&str> = allowed.modes().map(LockMode::name).collect();
        let modes = match modes.is_empty() {
            true => "in no mode".to_owned(),
            false => format!("only in {}", modes.join(", ")),
        };
        let lockspace = self.lockspace_name(space);
        Err(Refusal::Denied(format!(
            "user {} may lock {lockspace}/{name} {modes}, not in {denied}: see `mainstay lockspace list`; \
             its owner, user {}, may change that with `mainstay lockspace rules`",
            caller.uid, access.owner
        )))
    }

    /// Rules are for whole trees: they look at the name of the root.
    pub(crate) fn may_lock_under(
        &self,
        session: SessionId,
        call: &ChildCall,
    ) -> Result<(), Refusal> {
        if self.guarded.is_empty() {
            return Ok(());
        }
        let resource = self.dlm.resource_under(session, call.parent, &call.name)?;
        self.may_lock(
            session,
            resource.space,
            &resource.name,
            call.mode,
            call.flags,
        )
    }

    /// What the held mode covers is never refused.
    pub(crate) fn may_convert(
        &self,
        session: SessionId,
        handle: Handle,
        mode: LockMode,
        flags: Flags,
    ) -> Result<(), Refusal> {
        if self.guarded.is_empty() {
            return Ok(());
        }
        match self.dlm.held(session, handle) {
            Some((_, held)) if !held.covers(mode) => {
                let denied = self.denied(session, handle, mode, flags);
                denied.map_or(Ok(()), Err)
            }
            _ => Ok(()),
        }
    }

    /// Why a user may not have a lock in a mode, whatever mode it has.
    pub(crate) fn denied(
        &self,
        session: SessionId,
        handle: Handle,
        mode: LockMode,
        flags: Flags,
    ) -> Option<Refusal> {
        if self.guarded.is_empty() {
            return None;
        }
        let (resource, _) = self.dlm.held(session, handle)?;
        let (space, name) = (resource.space, &resource.name);
        self.may_lock(session, space, name, mode, flags).err()
    }

    /// An update of a value needs no mode, but who may not write by a mode may not by an update.
    pub(crate) fn may_write(&self, session: SessionId, handle: Handle) -> Result<(), Refusal> {
        if self.guarded.is_empty() {
            return Ok(());
        }
        let Some((resource, _)) = self.dlm.held(session, handle) else {
            return Ok(());
        };
        let (space, name) = (resource.space, &resource.name);
        let may = |mode| self.may_lock(session, space, name, mode, Flags::NONE);
        may(LockMode::Ex).or_else(|_| may(LockMode::Pw))
    }

    pub(crate) fn not_yours(&self, session: SessionId, name: &LockspaceName) -> Refusal {
        let uid = self.caller(session).uid;
        let owner = self.state.lockspace(name).map_or(0, |l| l.access.owner);
        Refusal::Denied(format!(
            "user {uid} may lock nothing in lockspace {name}, which belongs to user {owner}: its owner may \
             change that with `mainstay lockspace set` or `rules`"
        ))
    }

    /// Who is not privileged may not give away, nor name a group that it is not in.
    fn may_change(&self, session: SessionId, change: &AccessChange) -> Result<(), Refusal> {
        change
            .check()
            .map_err(|error| Refusal::Invalid(error.to_string()))?;
        let caller = self.caller(session);
        let owner = change.owner.is_none_or(|owner| owner == caller.uid);
        let group = change.group.is_none_or(|group| group == caller.gid);
        if caller.privileged || owner && group {
            return Ok(());
        }
        Err(Refusal::Denied(format!(
            "only root and the daemon's own user may give a lockspace to another owner or to a group other \
             than the caller's ({}); try it with sudo",
            caller.gid
        )))
    }

    pub(crate) fn create_lockspace(
        &mut self,
        now: Instant,
        session: SessionId,
        request: u64,
        name: LockspaceName,
        value_len: Option<u16>,
        change: &AccessChange,
        (fairness, compat): (Fairness, Compat),
    ) {
        let value_len = match value_len_of(compat, value_len) {
            Ok(value_len) => value_len,
            Err(text) => return self.refuse(session, request, Refusal::Invalid(text)),
        };
        if !fairness.is_valid() {
            let max = Fairness::MIN_HOLD_MS_MAX;
            let text = format!(
                "{} ms for which nobody is told that it is in the way; at most {max} are possible",
                fairness.min_hold_ms
            );
            return self.refuse(session, request, Refusal::Invalid(text));
        }
        if let Err(why) = self.may_change(session, change) {
            return self.refuse(session, request, why);
        }
        if self.state.lockspace(&name).is_some() {
            let why = exists(&name);
            return self.refuse(session, request, why);
        }
        if let Err(why) = self.may_own(session) {
            return self.refuse(session, request, why);
        }
        let caller = self.caller(session);
        let access = mainstay_base::Access::open_to_all(caller.uid, caller.gid).changed(change);
        let command = Command::CreateLockspace {
            name,
            value_len,
            origin: self.origin(),
            access,
            fairness,
            compat,
        };
        self.makers.insert((session, request));
        let asker = Asker {
            session,
            request,
            value_len: None,
        };
        self.wish(now, command, Some(asker));
    }

    pub(crate) fn set_lockspace(
        &mut self,
        now: Instant,
        session: SessionId,
        request: u64,
        name: LockspaceName,
        mut change: AccessChange,
    ) {
        if let Err(why) = self.may_change(session, &change) {
            return self.refuse(session, request, why);
        }
        let Some(lockspace) = self.state.lockspace(&name) else {
            return self.refuse(session, request, Refusal::NoSuchLockspace);
        };
        let caller = self.caller(session);
        if !caller.privileged && caller.uid != lockspace.access.owner {
            let why = not_owner(&name, lockspace.access.owner);
            return self.refuse(session, request, why);
        }
        // The command may be proposed several times, and must not undo what comes in between.
        change.revision.get_or_insert(lockspace.access.revision);
        let command = Command::SetAccess {
            name,
            change,
            by: Some(caller.uid).filter(|_| !caller.privileged),
            origin: self.origin(),
        };
        let asker = Asker {
            session,
            request,
            value_len: None,
        };
        self.wish(now, command, Some(asker));
    }

    /// Answers who waited for a lockspace: who wanted to open it, and who wanted to make it.
    pub(crate) fn lockspace_there(
        &mut self,
        lockspace: &Lockspace,
        created: bool,
        origin: Option<RequestOrigin>,
    ) {
        let mine = |o: &RequestOrigin| created && Some(*o) == origin;
        let (id, value_len) = (lockspace.id, lockspace.value_len);
        let mut makers = Vec::new();
        let mut waiting = Vec::new();
        for wish in std::mem::take(&mut self.wishes) {
            match &wish.command {
                Command::CreateLockspace { name, origin, .. } if *name == lockspace.name => {
                    let made = mine(origin);
                    makers.extend(wish.askers.into_iter().map(|asker| (asker, made)));
                }
                _ => waiting.push(wish),
            }
        }
        self.wishes = waiting;
        for (asker, made) in makers {
            let (session, request) = (asker.session, asker.request);
            let strict = self.makers.remove(&(session, request));
            let opens = lockspace.access.may_open(self.caller(session));
            let result = match strict {
                true if made => Ok(Answer::LockspaceSet(Box::new(told(lockspace)))),
                true => Err(exists(&lockspace.name)),
                // Another node's wish may have come true before, with another length.
                false if opens => fits(&lockspace.name, asker.value_len, value_len)
                    .map(|()| Answer::Lockspace { id, value_len }),
                false => Err(self.not_yours(session, &lockspace.name)),
            };
            self.tell_result(session, request, result);
        }
    }

    pub(crate) fn access_set(&mut self, lockspace: &Lockspace, origin: Option<RequestOrigin>) {
        for asker in self.take_setters(origin) {
            let answer = Answer::LockspaceSet(Box::new(told(lockspace)));
            self.tell_result(asker.session, asker.request, Ok(answer));
        }
    }

    pub(crate) fn access_refused(&mut self, origin: RequestOrigin, why: AccessRefused) {
        for asker in self.take_setters(Some(origin)) {
            let refusal = match why {
                AccessRefused::NoSuchLockspace => Refusal::NoSuchLockspace,
                AccessRefused::NotOwner => {
                    let text = "the lockspace was given to another owner meanwhile";
                    Refusal::Denied(text.to_owned())
                }
                AccessRefused::Invalid => {
                    let text = "another node of the cluster knows no such mode or rules";
                    Refusal::Invalid(text.to_owned())
                }
                AccessRefused::Changed => {
                    let text = "somebody else has changed the lockspace meanwhile: look at what it says now \
                                (`mainstay lockspace rules NAME`), and try again";
                    Refusal::Invalid(text.to_owned())
                }
                AccessRefused::NoRoom => {
                    let text = "the rules of all lockspaces leave no room for these: \
                                `mainstay lockspace rules NAME --clear` makes room";
                    Refusal::Limit(text.to_owned())
                }
            };
            self.tell_result(asker.session, asker.request, Err(refusal));
        }
    }

    fn take_setters(&mut self, origin: Option<RequestOrigin>) -> Vec<Asker> {
        self.take_wishes(
            |command| matches!(command, Command::SetAccess { origin: o, .. } if Some(*o) == origin),
        )
    }

    pub(crate) fn list_lockspaces(
        &mut self,
        session: SessionId,
        request: u64,
        after: Option<&LockspaceName>,
        limit: u32,
    ) {
        if limit == 0 || limit > LIMIT_MAX {
            let text = format!("a limit of {limit} lockspaces; 1 to {LIMIT_MAX} are possible");
            return self.refuse(session, request, Refusal::Invalid(text));
        }
        let later = |l: &&Lockspace| after.is_none_or(|after| l.name > *after);
        let mut rest = self.state.lockspaces().filter(later);
        let mut room = mainstay_base::CLIENT_MESSAGE_LEN_MAX / 2;
        let mut lockspaces = Vec::new();
        while room > 0
            && lockspaces.len() < limit as usize
            && let Some(lockspace) = rest.next()
        {
            let one = told(lockspace);
            room = room.saturating_sub(codec::to_vec(&one).len());
            lockspaces.push(one);
        }
        let truncated = rest.next().is_some();
        drop(rest);
        let answer = Answer::Lockspaces {
            lockspaces,
            truncated,
        };
        self.answer(session, request, answer);
    }
}

fn told(lockspace: &Lockspace) -> LockspaceAccess {
    LockspaceAccess {
        id: lockspace.id,
        name: lockspace.name.clone(),
        value_len: lockspace.value_len,
        access: lockspace.access.clone(),
        fairness: lockspace.fairness,
        compat: lockspace.compat,
    }
}

/// How long value blocks are, or why they cannot be so long.
fn value_len_of(compat: Compat, wanted: Option<u16>) -> Result<u16, String> {
    let usual = u16::try_from(compat.value_len()).expect("small");
    let len = wanted.unwrap_or(usual);
    let possible = match compat {
        Compat::Saf if wanted.is_some() => {
            return Err(
                "a lockspace with the rules of `saf` has no value blocks; leave their length out"
                    .to_owned(),
            );
        }
        _ if compat.allows_value_len(len.into()) => return Ok(len),
        Compat::Strict | Compat::Saf => format!("1 to {VALUE_LEN_MAX} are possible"),
        Compat::Linux => {
            format!("with the rules of `linux` multiples of 8 up to {VALUE_LEN_MAX} are")
        }
        Compat::Vms => "with the rules of `vms` 16 and 64 are possible".to_owned(),
    };
    Err(format!("a value block of {len} bytes; {possible}"))
}

fn exists(name: &LockspaceName) -> Refusal {
    Refusal::Invalid(format!(
        "lockspace {name} exists already; `mainstay lockspace set {name}` changes who may lock what in it"
    ))
}

fn not_owner(name: &LockspaceName, owner: u32) -> Refusal {
    Refusal::Denied(format!(
        "lockspace {name} belongs to user {owner}: only that user, root and the daemon's own user may say \
         who may lock what in it"
    ))
}
