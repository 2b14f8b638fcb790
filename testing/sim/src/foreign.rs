//! What is true of locks in the lockspace that follows others' rules.

use crate::{
    checkers::{
        Fact,
        books::{Claim, Res, Who},
    },
    client::{Call, Phase},
    workloads::Terrain,
    world::World,
};
use mainstay_base::{AccessChange, Compat, LockMode, LockspaceName, ValueBlock};
use mainstay_wire::{
    client::{Answer, Ask, Handle},
    lock::{Granted, Refusal},
};

/// Whose rules hold for a resource.
pub(crate) fn compat(terrain: &Terrain, res: Res) -> Compat {
    match terrain.foreign.contains(&res) {
        true => terrain.compat,
        false => Compat::Strict,
    }
}

/// What makes the lockspace with others' rules, if it is the one of that name.
pub(crate) fn make(terrain: &Terrain, name: &LockspaceName) -> Option<Ask> {
    let compat = terrain.compat;
    let ours = compat != Compat::Strict && terrain.spaces.last() == Some(name);
    ours.then(|| Ask::CreateLockspace {
        name: name.clone(),
        value_len: (compat == Compat::Vms).then_some(Compat::VMS_VALUE_LEN_EXTENDED as u16),
        access: AccessChange::default(),
        fairness: terrain.fairness,
        compat,
    })
}

impl World {
    /// A block as it will be read once it is published: with VMS' rules a short one leaves the rest of the
    /// long one, which whoever writes has read or written.
    pub(crate) fn in_full(&mut self, who: Who, res: Res, block: &ValueBlock) -> ValueBlock {
        if compat(&self.terrain, res) != Compat::Vms {
            return block.clone();
        }
        let bytes = block.as_bytes();
        let read = self.read_by.get(&who);
        let rest = read.and_then(|read| read.as_bytes().get(bytes.len()..));
        let full = rest.and_then(|rest| ValueBlock::new([bytes, rest].concat()).ok());
        let full = full.unwrap_or_else(|| block.clone());
        self.wrote.insert(who, full.clone());
        full
    }

    /// Remembers what a lock has read.
    pub(crate) fn has_read(&mut self, who: Who, res: Res, granted: &Granted, publish: bool) {
        if compat(&self.terrain, res) != Compat::Vms {
            return;
        }
        let wrote = self.wrote.remove(&who).filter(|_| publish);
        let known = match (&granted.value, wrote) {
            (Some(value), _) => Some(value.block.clone()),
            // Nobody else can have written since.
            (None, Some(block)) if granted.mode.writes_value() => Some(block),
            (None, None) => return,
            (None, Some(_)) => None,
        };
        match known {
            Some(block) => self.read_by.insert(who, block),
            None => self.read_by.remove(&who),
        };
    }

    /// Locks have ended with their sessions, and their nodes go on: with Linux' rules each that was held in
    /// PW or EX marks the value.
    pub(crate) fn linux_writers_died(&mut self, ended: &[(Who, Claim)]) {
        for (_, claim) in ended {
            let linux = compat(&self.terrain, claim.res) == Compat::Linux;
            if linux && claim.mode.writes_value() && claim.relied {
                self.fact(&Fact::WriterDied { res: claim.res });
            }
        }
    }

    /// Looks at answers to calls that are another matter with others' rules.
    pub(crate) fn judge_foreign(
        &mut self,
        slot: usize,
        call: &Call,
        result: &Result<Answer, Refusal>,
    ) {
        let asked = |handle: &Handle| {
            let lock = self.clients[slot].locks.get(handle);
            lock.map(|lock| compat(&self.terrain, lock.res))
        };
        match (call, result) {
            (Call::Cancel { handle }, Err(refusal)) if asked(handle) == Some(Compat::Linux) => {
                if matches!(refusal, Refusal::TooLate | Refusal::Busy) {
                    let what = format!("a cancel with linux' rules refused: {refusal}");
                    self.protocol(slot, &what);
                }
            }
            (
                Call::Lock {
                    handle,
                    mode: LockMode::Ex,
                    ..
                },
                result,
            ) if asked(handle) == Some(Compat::Saf) => {
                let client = &self.clients[slot];
                let here = client.locks.get(handle).map(|lock| lock.res);
                let mut others = client.locks.iter().filter(|(other, _)| *other != handle);
                let twice = others.any(|(_, lock)| {
                    Some(lock.res) == here && lock.phase == Phase::Held(LockMode::Ex)
                });
                match result {
                    Err(Refusal::Duplicate) => self.stats.count("refused duplicate"),
                    Ok(_) | Err(Refusal::TimedOut | Refusal::NotQueued) if twice => {
                        let what = "a second EX with the SA Forum's rules was not refused at once";
                        self.protocol(slot, what);
                    }
                    _ => {}
                }
            }
            _ => {}
        }
    }
}
