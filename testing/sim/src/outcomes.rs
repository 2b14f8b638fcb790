//! What becomes of clients' calls on their locks.

use crate::{
    checkers::Fact,
    client::{Call, Grant, Phase, answer_name, read_of},
    workloads::Happened,
    world::World,
};
use mainstay_base::{Flags, LockMode};
use mainstay_wire::{
    client::{Answer, Handle},
    lock::Refusal,
};

impl World {
    /// The conversion under way may take its lock's old mode; it does so now.
    pub(crate) fn demoted(&mut self, slot: usize, handle: Handle) {
        self.stats.count("demotions");
        let client = &mut self.clients[slot];
        let who = client.who(handle);
        let Some(lock) = client.locks.get_mut(&handle) else {
            return;
        };
        if lock.phase == Phase::Releasing {
            return; // Unlocked by force meanwhile.
        }
        let Phase::Converting { from } = &mut lock.phase else {
            self.protocol(slot, "a demotion of a lock that converts not");
            return;
        };
        *from = LockMode::Nl;
        let twice = std::mem::replace(&mut lock.demoted, true);
        if twice {
            self.protocol(slot, "a second demotion by one conversion");
        }
        self.books.demoted(who);
        self.tell(slot, Happened::Demoted(handle));
    }

    pub(crate) fn granted(&mut self, slot: usize, call: &Call, grant: Grant) {
        let (handle, asked, flags, publish) = match *call {
            Call::Lock {
                handle,
                mode,
                flags,
            } => (handle, mode, flags, false),
            Call::Convert {
                handle,
                mode,
                flags,
                publish,
            } => {
                self.stats.count("conversions");
                (handle, mode, flags, publish)
            }
            Call::Adopt {
                handle,
                mode,
                flags,
            } => (handle, mode, flags, false),
            _ => return,
        };
        let Grant {
            granted,
            altmode,
            demoted,
        } = grant;
        let valblk = flags.contains(Flags::VALBLK);
        let client = &mut self.clients[slot];
        let who = client.who(handle);
        let (life, conn) = (client.life, client.home);
        let Some(lock) = client.locks.get_mut(&handle) else {
            return;
        };
        if lock.phase == Phase::Releasing {
            self.stats.count("granted while unlocked by force");
            return;
        }
        lock.phase = Phase::Held(granted.mode);
        let res = lock.res;
        let told = std::mem::take(&mut lock.demoted);
        if demoted != told {
            let what = format!("a grant that says demoted: {demoted}, having been told: {told}");
            self.protocol(slot, &what);
            return;
        }
        if altmode {
            self.stats.count("alternates");
        }
        let due = match altmode {
            true => flags.alternate(),
            false => Some(asked),
        };
        if Some(granted.mode) != due {
            let what = format!("{} where it asked for {asked}", granted.mode);
            self.protocol(slot, &what);
            return;
        }
        self.stats.count("grants");
        // Who adopts a lock gets it as it is.
        let known = match call {
            Call::Adopt { .. } => self.books.claim(who).map(|claim| claim.valblk),
            _ => None,
        };
        if matches!(call, Call::Adopt { .. }) && self.survives(res) {
            let token = granted.token;
            self.fact(&Fact::Inherited { who, res, token });
        }
        self.books.grant(
            self.now,
            who,
            res,
            granted.mode,
            granted.token,
            life,
            known.unwrap_or(valblk),
        );
        self.books.set_persistent(who, flags);
        self.has_read(who, res, &granted, publish);
        let here = &self.books.lives[life as usize];
        let gone = here
            .incarnation
            .is_some_and(|incarnation| self.proved.contains(&(here.node, incarnation)));
        if gone || self.ended.contains(&conn) {
            // It was under way when the lock was dropped with its node or its session.
            self.stats.count("grants too late");
            self.books.end_standing(|w, _| w == who);
        }
        if self.survives(res) {
            let standing = self.books.claim(who).is_some_and(|claim| claim.standing);
            self.judge_survivor(who, res, granted.mode, standing && !gone);
        }
        if publish {
            self.stats.count("publications");
            let version = granted.value.as_ref().map(|value| value.version);
            self.fact(&Fact::Published { who, res, version });
        }
        let read = if valblk {
            read_of(&granted, publish)
        } else {
            None
        };
        if let Some(value) = read {
            self.stats.count("value reads");
            if value.maybe_stale {
                self.stats.count("stale marks");
            }
        }
        self.judge
            .observe(self.now, &Fact::Granted { who, read }, &self.books);
        self.tell(slot, Happened::Granted(handle, granted));
    }

    pub(crate) fn conversion_refused(
        &mut self,
        slot: usize,
        handle: Handle,
        publish: bool,
        refusal: Refusal,
    ) {
        self.count_refusal(&refusal);
        let client = &mut self.clients[slot];
        let who = client.who(handle);
        let Some(lock) = client.locks.get_mut(&handle) else {
            return;
        };
        if lock.phase == Phase::Releasing {
            return; // Unlocked by force meanwhile.
        }
        if let Phase::Converting { from } = lock.phase {
            lock.phase = Phase::Held(from);
        }
        let told = std::mem::take(&mut lock.demoted);
        let res = lock.res;
        if matches!(refusal, Refusal::AfterDemotion(_)) != told {
            let what = format!("the refusal `{refusal}`, having been told of a demotion: {told}");
            self.protocol(slot, &what);
        }
        self.books.conversion_refused(who);
        self.fact(&Fact::ConversionRefused { who });
        if publish {
            self.fact(&Fact::PublicationRefused { who, res });
        }
        if refusal == Refusal::NoSuchLock {
            self.fact(&Fact::LockUnknown { who });
        }
        self.tell(slot, Happened::Refused(handle, refusal));
    }

    pub(crate) fn unlocked(
        &mut self,
        slot: usize,
        handle: Handle,
        publish: bool,
        result: Result<Answer, Refusal>,
    ) {
        let client = &mut self.clients[slot];
        let who = client.who(handle);
        let Some(lock) = client.locks.remove(&handle) else {
            return;
        };
        self.fact(&Fact::Unlocked { who });
        match result {
            Ok(Answer::Unlocked { version }) => {
                self.stats.count("unlocks");
                if publish {
                    self.stats.count("publications");
                    let res = lock.res;
                    self.fact(&Fact::Published { who, res, version });
                }
            }
            Ok(answer) => {
                let what = format!("`{}` in answer to unlock", answer_name(&answer));
                self.protocol(slot, &what);
            }
            Err(Refusal::NoSuchLock) => self.fact(&Fact::LockUnknown { who }),
            Err(Refusal::Leaving | Refusal::Unavailable(_)) => {}
            Err(refusal) => {
                let what = format!("its unlock refused: {refusal}");
                self.protocol(slot, &what);
            }
        }
        self.tell(slot, Happened::Unlocked(handle));
    }

    pub(crate) fn count_refusal(&mut self, refusal: &Refusal) {
        self.stats.count(match refusal.cause() {
            Refusal::NotQueued => "refused not-queued",
            Refusal::Deadlock | Refusal::DeadlockCycle(_) => "refused deadlock",
            Refusal::Cancelled => "refused cancelled",
            Refusal::TimedOut => "refused timed-out",
            Refusal::NoQuorum => "refused no-quorum",
            _ => "refused otherwise",
        });
    }
}
