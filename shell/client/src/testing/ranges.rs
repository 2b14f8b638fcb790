//! Just enough of locks on ranges for one node: first come, first served.

use super::engine::{Owner, Said, done};
use mainstay_base::{ByteRange, Flags, LockMode, LockspaceId, ResourceName, Token};
use mainstay_wire::{
    client::{Answer, ToClient},
    lock::Refusal,
};

type Place = (LockspaceId, ResourceName);

struct Part {
    owner: Owner,
    range: ByteRange,
    mode: LockMode,
}

pub(super) struct Want {
    pub(super) owner: Owner,
    pub(super) request: u64,
    pub(super) place: Place,
    pub(super) range: ByteRange,
    pub(super) mode: LockMode,
    pub(super) flags: Flags,
    pub(super) blocking: bool,
}

#[derive(Default)]
pub(super) struct Ranges {
    parts: Vec<(Place, Part)>,
    waiting: Vec<Want>,
    wants_notices: Vec<Owner>,
    token: Token,
}

impl Ranges {
    pub(super) fn knows(&self, owner: Owner) -> bool {
        let waits = self.waiting.iter().any(|want| want.owner == owner);
        waits || self.holds(owner)
    }

    pub(super) fn locks(&self) -> usize {
        let owners = self.parts.iter().map(|(_, part)| part.owner);
        let owners = owners.chain(self.waiting.iter().map(|want| want.owner));
        owners.collect::<std::collections::BTreeSet<_>>().len()
    }

    fn holds(&self, owner: Owner) -> bool {
        self.parts.iter().any(|(_, part)| part.owner == owner)
    }

    pub(super) fn ask(&mut self, want: Want, said: &mut Said) {
        let (session, request) = (want.owner.0, want.request);
        if self.waiting.iter().any(|other| other.owner == want.owner) {
            return said.push(done(session, request, Err(Refusal::Busy)));
        }
        if want.mode == LockMode::Nl || self.in_way(&want, self.waiting.len()).is_empty() {
            self.grant(&want, said);
            return self.run(said);
        }
        if want.flags.contains(Flags::NOQUEUE) {
            return said.push(done(session, request, Err(Refusal::NotQueued)));
        }
        for owner in self.in_way(&want, 0) {
            if self.wants_notices.contains(&owner) {
                let (handle, range, mode) = (owner.1, want.range, want.mode);
                let notice = ToClient::RangeBlocking {
                    handle,
                    range,
                    mode,
                };
                said.push((owner.0, notice));
            }
        }
        self.waiting.push(want);
    }

    /// Owners in the way: by what they hold, or by standing among the first so many that wait.
    fn in_way(&self, want: &Want, ahead: usize) -> Vec<Owner> {
        let held = self.parts.iter().filter(|(place, part)| {
            let meets = *place == want.place && part.range.overlaps(want.range);
            meets && part.owner != want.owner && !part.mode.compatible(want.mode)
        });
        let before = self.waiting[..ahead].iter().filter(|other| {
            let meets = other.place == want.place && other.range.overlaps(want.range);
            meets && !other.mode.compatible(want.mode)
        });
        let held = held.map(|(_, part)| part.owner);
        held.chain(before.map(|other| other.owner)).collect()
    }

    fn grant(&mut self, want: &Want, said: &mut Said) {
        self.clear(want.owner, Some(want.range));
        if want.mode != LockMode::Nl {
            let part = Part {
                owner: want.owner,
                range: want.range,
                mode: want.mode,
            };
            self.parts.push((want.place.clone(), part));
            self.token = self.token.next();
        }
        if want.blocking {
            self.wants_notices.push(want.owner);
        }
        let answer = Answer::RangeSet {
            token: self.token,
            holds: self.holds(want.owner),
        };
        said.push(done(want.owner.0, want.request, Ok(answer)));
    }

    /// Takes a range away from an owner, or all.
    fn clear(&mut self, owner: Owner, range: Option<ByteRange>) {
        for (place, part) in std::mem::take(&mut self.parts) {
            let hit = range.is_none_or(|range| range.overlaps(part.range));
            if part.owner != owner || !hit {
                self.parts.push((place, part));
                continue;
            }
            let Some(range) = range else { continue };
            let (old, mode) = (part.range, part.mode);
            let before = range.start().checked_sub(1).map(|end| (old.start(), end));
            let after = range.end().checked_add(1).map(|start| (start, old.end()));
            for (start, end) in before.into_iter().chain(after) {
                if let Ok(range) = ByteRange::new(start, end) {
                    self.parts
                        .push((place.clone(), Part { owner, range, mode }));
                }
            }
        }
    }

    /// The owner's call is taken back. Whether one waited.
    pub(super) fn cancel(&mut self, owner: Owner, said: &mut Said) -> bool {
        let Some(at) = self.waiting.iter().position(|want| want.owner == owner) else {
            return false;
        };
        let want = self.waiting.remove(at);
        said.push(done(owner.0, want.request, Err(Refusal::Cancelled)));
        self.run(said);
        true
    }

    /// The owner gives up all.
    pub(super) fn release(&mut self, owner: Owner, said: &mut Said) {
        self.waiting.retain(|want| want.owner != owner);
        self.wants_notices.retain(|other| *other != owner);
        self.clear(owner, None);
        self.run(said);
    }

    pub(super) fn gone(&mut self, session: u64, said: &mut Said) {
        let held = self.parts.iter().map(|(_, part)| part.owner);
        let all = held.chain(self.waiting.iter().map(|want| want.owner));
        let own: Vec<Owner> = all.filter(|owner| owner.0 == session).collect();
        for owner in own {
            self.release(owner, said);
        }
    }

    fn run(&mut self, said: &mut Said) {
        let mut at = 0;
        while let Some(want) = self.waiting.get(at) {
            if self.in_way(want, at).is_empty() {
                let want = self.waiting.remove(at);
                self.grant(&want, said);
                at = 0;
            } else {
                at += 1;
            }
        }
    }
}
