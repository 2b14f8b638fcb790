//! Clients' calls on locks on ranges, and what becomes of them.

use crate::{
    checkers::{
        Fact,
        s1_ranges::{CELLS, cells},
    },
    client::{Call, Command, Ranged, answer_name},
    workloads::Happened,
    world::World,
};
use mainstay_base::{Flags, LockMode, Token};
use mainstay_wire::{
    client::{Answer, Ask, Handle},
    lock::Refusal,
};

impl World {
    pub(crate) fn set_range(&mut self, slot: usize, command: Command) {
        let Command::Range {
            handle,
            res,
            range,
            mode,
            flags,
            blocking,
            timeout_ms,
        } = command
        else {
            return;
        };
        let client = &mut self.clients[slot];
        let (space, name) = self.terrain.resources[res as usize].clone();
        let Some(lockspace) = client.spaces[space] else {
            return;
        };
        let ranged = client.ranges.entry(handle).or_insert(Ranged {
            res,
            cells: [LockMode::Nl; CELLS],
            asked: None,
            releasing: false,
        });
        if ranged.asked.is_some() || ranged.releasing {
            return;
        }
        ranged.asked = Some((range, mode));
        let (who, request) = (client.who(handle), client.next_request);
        let (conn, life) = (client.home, client.life);
        self.fact(&Fact::RangeAsked {
            who,
            res,
            range,
            mode,
        });
        let ask = Ask::Range {
            handle,
            lockspace,
            name,
            range,
            mode,
            flags,
            blocking,
            timeout_ms,
        };
        self.ask(slot, ask, Call::Range { handle });
        // Circles of whole locks are looked for from outside; of ranges only what victims are told
        // is judged.
        self.fact(&Fact::LockAsked {
            who,
            request,
            res,
            mode,
            flags: Flags::NODLCKWT,
            conn,
            life,
        });
    }

    pub(crate) fn range_set(&mut self, slot: usize, handle: Handle, token: Token, holds: bool) {
        let client = &mut self.clients[slot];
        let who = client.who(handle);
        let (life, conn) = (client.life, client.home);
        let Some(ranged) = client.ranges.get_mut(&handle) else {
            return;
        };
        let Some((range, mode)) = ranged.asked.take() else {
            return;
        };
        ranged.cells[cells(range)].fill(mode);
        if ranged.releasing {
            self.stats.count("ranges granted while unlocked by force");
            return;
        }
        let known = ranged.cells.iter().any(|mode| *mode != LockMode::Nl);
        if !known {
            client.ranges.remove(&handle);
        }
        if known != holds {
            let what = format!("a range set that says holds: {holds}, where it holds: {known}");
            self.protocol(slot, &what);
        }
        self.stats.count(match mode {
            LockMode::Nl => "ranges given up",
            _ => "ranges granted",
        });
        self.fact(&Fact::RangeSet {
            who,
            token,
            life,
            conn,
        });
        if !known {
            self.fact(&Fact::Unlocked { who });
        }
        self.tell(slot, Happened::RangeSet(handle, known));
    }

    pub(crate) fn range_refused(&mut self, slot: usize, handle: Handle, refusal: Refusal) {
        self.count_refusal(&refusal);
        let client = &mut self.clients[slot];
        let who = client.who(handle);
        let Some(ranged) = client.ranges.get_mut(&handle) else {
            return;
        };
        if ranged.releasing {
            return;
        }
        ranged.asked = None;
        let known = ranged.cells.iter().any(|mode| *mode != LockMode::Nl);
        if !known {
            client.ranges.remove(&handle);
        }
        self.stats.count("ranges refused");
        self.fact(&Fact::RangeRefused { who });
        if !known {
            self.fact(&Fact::Unlocked { who });
        }
        self.tell(slot, Happened::RangeRefused(handle, known));
    }

    pub(crate) fn release_ranges(&mut self, slot: usize, handle: Handle) {
        let client = &mut self.clients[slot];
        let who = client.who(handle);
        let Some(ranged) = client.ranges.get_mut(&handle) else {
            return;
        };
        if std::mem::replace(&mut ranged.releasing, true) {
            return;
        }
        let flags = match ranged.asked {
            Some(_) => Flags::FORCEUNLOCK,
            None => Flags::NONE,
        };
        self.fact(&Fact::RangesReleased { who });
        let ask = Ask::Unlock {
            handle,
            flags,
            value: None,
        };
        self.ask(slot, ask, Call::ReleaseRanges { handle });
    }

    pub(crate) fn ranges_released(
        &mut self,
        slot: usize,
        handle: Handle,
        result: Result<Answer, Refusal>,
    ) {
        let client = &mut self.clients[slot];
        let who = client.who(handle);
        let Some(ranged) = client.ranges.remove(&handle) else {
            return;
        };
        self.fact(&Fact::Unlocked { who });
        // What was refused just before may have been all that there was.
        let held = ranged.cells.iter().any(|mode| *mode != LockMode::Nl);
        match result {
            Ok(Answer::Unlocked { version: None }) => self.stats.count("ranges unlocked"),
            Err(Refusal::NoSuchLock) if !held => {}
            Err(Refusal::Leaving | Refusal::Unavailable(_)) => {}
            Ok(answer) => {
                let what = format!("`{}` in answer to unlock", answer_name(&answer));
                self.protocol(slot, &what);
            }
            Err(refusal) => {
                let what = format!("its unlock of ranges refused: {refusal}");
                self.protocol(slot, &what);
            }
        }
        self.tell(slot, Happened::Unlocked(handle));
    }
}
