//! Lockspaces, and who may lock what in them.

use super::{Daemon, invalid, root};
use crate::resource::has;
use mainstay_base::{
    Access, AccessChange, Caller, Compat, Fairness, LockMode, LockspaceId, LockspaceName,
    ResourceName, SessionId, VALUE_LEN_DEFAULT, VALUE_LEN_MAX, Whom,
};
use mainstay_lock::Rules;
use mainstay_wire::{
    client::Answer,
    lock::{Flags, Refusal},
    report::LockspaceAccess,
};
use std::time::Duration;

#[derive(Debug)]
pub(super) struct Space {
    pub(super) name: LockspaceName,
    pub(super) rules: Rules,
    pub(super) min_hold: Duration,
    pub(super) access: Access,
    fairness: Fairness,
}

/// Whether a rule is for a caller.
fn is_for(whom: Whom, caller: Caller) -> bool {
    match whom {
        Whom::All => true,
        Whom::Group(gid) => gid == caller.gid,
        Whom::User(uid) => uid == caller.uid,
    }
}

fn digit_allows(access: &Access, caller: Caller, mode: LockMode) -> bool {
    let digit = match caller {
        caller if caller.uid == access.owner => access.mode >> 6,
        caller if caller.gid == access.group => access.mode >> 3,
        _ => access.mode,
    };
    match digit & 7 {
        6 => true,
        4 => matches!(mode, LockMode::Nl | LockMode::Cr | LockMode::Pr),
        _ => false,
    }
}

fn allows(access: &Access, caller: Caller, name: &[u8], mode: LockMode) -> bool {
    if caller.privileged {
        return true;
    }
    // The longest prefix, then the most special caller, then the first.
    for len in (0..=name.len()).rev() {
        for rank in 0..3 {
            let rule = access.rules.iter().find(|rule| {
                let ranked = match rule.whom {
                    Whom::User(_) => rank == 0,
                    Whom::Group(_) => rank == 1,
                    Whom::All => rank == 2,
                };
                ranked && is_for(rule.whom, caller) && rule.prefix == name[..len]
            });
            if let Some(rule) = rule {
                return rule.modes.has(mode);
            }
        }
    }
    digit_allows(access, caller, mode)
}

impl Daemon {
    pub(super) fn space_called(&self, name: &LockspaceName) -> Option<LockspaceId> {
        let mut spaces = self.spaces.iter();
        spaces.find(|(_, s)| s.name == *name).map(|(id, _)| *id)
    }

    /// Whether a client may have a name in a mode, and in the alternates that it allows.
    pub(super) fn may_lock(
        &self,
        session: SessionId,
        space: LockspaceId,
        name: &ResourceName,
        mode: LockMode,
        flags: Flags,
    ) -> bool {
        let Some(space) = self.spaces.get(&space) else {
            return true; // There is another reason to refuse it.
        };
        let caller = self.caller(session);
        let may = |mode| allows(&space.access, caller, root(name), mode);
        may(mode)
            && (!has(flags, Flags::ALTPR) || may(LockMode::Pr))
            && (!has(flags, Flags::ALTCW) || may(LockMode::Cw))
    }

    pub(super) fn open_lockspace(
        &mut self,
        session: SessionId,
        name: LockspaceName,
        value_len: Option<u16>,
    ) -> Result<Answer, Vec<Refusal>> {
        let mut reasons = Vec::new();
        if value_len.is_some_and(|len| !(1..=VALUE_LEN_MAX).contains(&usize::from(len))) {
            reasons.push(invalid());
        }
        let caller = self.caller(session);
        let Some(id) = self.space_called(&name) else {
            if !reasons.is_empty() {
                return Err(reasons);
            }
            let access = Access::open_to_all(caller.uid, caller.gid);
            let id = self.add_space(name, value_len, access, Fairness::default());
            let value_len = self.spaces[&id].rules.value_len;
            return Ok(Answer::Lockspace { id, value_len });
        };
        let (access, len) = (&self.spaces[&id].access, self.spaces[&id].rules.value_len);
        let may = |mode: &LockMode| {
            let by_rule = access
                .rules
                .iter()
                .any(|rule| is_for(rule.whom, caller) && rule.modes.has(*mode));
            caller.privileged || by_rule || digit_allows(access, caller, *mode)
        };
        if !LockMode::ALL.iter().any(may) {
            reasons.push(Refusal::Denied(String::new()));
        }
        if value_len.is_some_and(|wanted| wanted != len) {
            reasons.push(invalid());
        }
        match reasons.is_empty() {
            true => Ok(Answer::Lockspace { id, value_len: len }),
            false => Err(reasons),
        }
    }

    fn add_space(
        &mut self,
        name: LockspaceName,
        value_len: Option<u16>,
        access: Access,
        fairness: Fairness,
    ) -> LockspaceId {
        let id = LockspaceId(self.spaces.len() as u32 + 1);
        let rules = Rules {
            value_len: value_len.unwrap_or(VALUE_LEN_DEFAULT as u16),
            order: fairness.order,
            overtake: fairness.overtake,
            compat: Compat::Strict,
        };
        let space = Space {
            name,
            rules,
            min_hold: Duration::from_millis(fairness.min_hold_ms.into()),
            access,
            fairness,
        };
        self.spaces.insert(id, space);
        id
    }

    fn told(&self, id: LockspaceId) -> Answer {
        let space = &self.spaces[&id];
        Answer::LockspaceSet(Box::new(LockspaceAccess {
            id,
            name: space.name.clone(),
            value_len: space.rules.value_len,
            access: space.access.clone(),
            fairness: space.fairness,
            compat: space.rules.compat,
        }))
    }

    /// What is wrong with a change by this client, whatever the lockspace.
    fn wrong_change(&self, session: SessionId, change: &AccessChange) -> Vec<Refusal> {
        let caller = self.caller(session);
        let mut reasons = Vec::new();
        if change.check().is_err() {
            reasons.push(invalid());
        }
        let own = change.owner.is_none_or(|owner| owner == caller.uid)
            && change.group.is_none_or(|group| group == caller.gid);
        if !caller.privileged && !own {
            reasons.push(Refusal::Denied(String::new()));
        }
        reasons
    }

    pub(super) fn create_lockspace(
        &mut self,
        session: SessionId,
        name: LockspaceName,
        value_len: Option<u16>,
        change: &AccessChange,
        fairness: Fairness,
    ) -> Result<Answer, Vec<Refusal>> {
        let mut reasons = self.wrong_change(session, change);
        let len = value_len.is_none_or(|len| (1..=VALUE_LEN_MAX).contains(&usize::from(len)));
        let hold = fairness.min_hold_ms <= Fairness::MIN_HOLD_MS_MAX;
        if !len || !hold || self.space_called(&name).is_some() {
            reasons.push(invalid());
        }
        if !reasons.is_empty() {
            return Err(reasons);
        }
        let caller = self.caller(session);
        let access = Access::open_to_all(caller.uid, caller.gid).changed(change);
        let id = self.add_space(name, value_len, access, fairness);
        Ok(self.told(id))
    }

    pub(super) fn set_lockspace(
        &mut self,
        session: SessionId,
        name: &LockspaceName,
        change: &AccessChange,
    ) -> Result<Answer, Vec<Refusal>> {
        let mut reasons = self.wrong_change(session, change);
        let Some(id) = self.space_called(name) else {
            reasons.push(Refusal::NoSuchLockspace);
            return Err(reasons);
        };
        let caller = self.caller(session);
        let access = &self.spaces[&id].access;
        if !caller.privileged && caller.uid != access.owner {
            reasons.push(Refusal::Denied(String::new()));
        }
        if change
            .revision
            .is_some_and(|known| known != access.revision)
        {
            reasons.push(invalid());
        }
        if !reasons.is_empty() {
            return Err(reasons);
        }
        let access = access.changed(change);
        self.spaces.get_mut(&id).unwrap().access = access;
        Ok(self.told(id))
    }
}
