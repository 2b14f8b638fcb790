//! Locks that give their mode up for NL so that their conversions can wait, and calls that end
//! otherwise than asked.

use crate::{
    Dlm, Out,
    table::{Owned, Pending},
};
use mainstay_base::{Instant, LockId, LockMode, Mutant};
use mainstay_recorder::Op;
use mainstay_wire::{
    client::Answer,
    lock::{Flags, Refusal},
};

impl Dlm {
    /// Gives a lock's mode up for NL, so that its conversion can wait: its client hears of it before
    /// the master, and so before anybody is granted what it stopped. Should the master vanish, the
    /// lock is restated as it is now.
    pub(crate) fn demote(&mut self, now: Instant, lock: LockId) {
        let Some(owned) = self.locks.get_mut(&lock) else {
            return;
        };
        let told = !Mutant::DemotionNotTold.active();
        if told && let Some(held) = owned.granted.replace(LockMode::Nl) {
            let space = self.resources.peek(owned.place).id.space;
            self.contention.hold_ends(now, space, held, owned.since);
        }
        owned.demoted = true;
        owned.sent = false;
        if let Pending::Convert { flags, .. } = &mut owned.pending {
            // Who has stepped back does not go before those that it made way for.
            *flags = flags.without(Flags::HEADQUE);
        }
        let (session, handle) = (owned.session, owned.handle);
        if told {
            self.note(now, Op::Demoted, lock, Some(LockMode::Nl));
        }
        self.promises.heeded(lock);
        self.kept.heeded(lock);
        if told && self.sessions.contains_key(&session) {
            self.out.push(Out::Demoted { session, handle });
        }
        self.demoted.push_back(lock);
    }

    /// Gives the conversions of locks that were demoted to their masters, once all that was decided
    /// before has been told.
    pub(crate) fn submit_demoted(&mut self, now: Instant) {
        while self.delivering == 0
            && let Some(lock) = self.demoted.pop_front()
        {
            self.submit(now, lock);
        }
    }
}

/// Whether the pending conversion of a lock may take its old mode, which it has not done yet.
pub(crate) fn agreed(owned: &Owned) -> bool {
    match &owned.pending {
        Pending::Convert { flags, .. } => flags.contains(Flags::CONVDEADLK) && !owned.demoted,
        _ => false,
    }
}

/// The end of a call, with what became of its lock while it waited.
pub(crate) fn as_it_went(
    result: Result<Answer, Refusal>,
    pending: &Pending,
    demoted: bool,
) -> Result<Answer, Refusal> {
    let asked = pending.requested();
    match result {
        Ok(Answer::Granted(granted)) => {
            let altmode = asked.is_some_and(|asked| asked != granted.mode);
            Ok(match altmode || demoted {
                true => Answer::GrantedOtherwise {
                    granted,
                    altmode,
                    demoted,
                },
                false => Answer::Granted(granted),
            })
        }
        Err(why) if demoted => Err(Refusal::AfterDemotion(Box::new(why))),
        result => result,
    }
}
