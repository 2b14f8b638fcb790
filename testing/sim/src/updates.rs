//! Changes of value blocks in one step, and what those are told who watch.

use crate::{
    checkers::Fact,
    client::{Call, Phase, answer_name},
    workloads::Happened,
    world::World,
};
use mainstay_base::{Value, ValueUpdate};
use mainstay_wire::{
    client::{Answer, Ask, Handle},
    lock::Refusal,
};

impl World {
    pub(crate) fn update(&mut self, slot: usize, handle: Handle, update: ValueUpdate) {
        let client = &mut self.clients[slot];
        let who = client.who(handle);
        let Some(lock) = client.locks.get_mut(&handle) else {
            return;
        };
        let Phase::Held(mode) = lock.phase else {
            return;
        };
        lock.phase = Phase::Updating(mode);
        let res = lock.res;
        self.fact(&Fact::Updating { who, res });
        let ask = Ask::UpdateValue { handle, update };
        self.ask(slot, ask, Call::Update { handle });
    }

    pub(crate) fn updated(&mut self, slot: usize, handle: Handle, result: Result<Answer, Refusal>) {
        let client = &mut self.clients[slot];
        let who = client.who(handle);
        let Some(lock) = client.locks.get_mut(&handle) else {
            return;
        };
        if let Phase::Updating(mode) = lock.phase {
            lock.phase = Phase::Held(mode);
        }
        let res = lock.res;
        let result = match result {
            Ok(Answer::Updated(updated)) => Ok(updated),
            Ok(answer) => {
                let what = format!("`{}` in answer to an update", answer_name(&answer));
                return self.protocol(slot, &what);
            }
            Err(refusal) => Err(refusal),
        };
        self.stats.count(match &result {
            Ok(updated) if updated.done => "updates",
            Ok(_) => "swaps not done",
            Err(Refusal::ValueHeld) => "updates refused",
            Err(Refusal::Unavailable(_)) => "updates of unknown outcome",
            Err(_) => "updates refused otherwise",
        });
        self.fact(&Fact::Updated {
            who,
            res,
            result: result.as_ref(),
        });
        self.tell(slot, Happened::Updated(handle, result));
    }

    pub(crate) fn value_told(&mut self, slot: usize, handle: Handle, value: Value) {
        self.stats.count("changes of values told");
        let client = &self.clients[slot];
        let who = client.who(handle);
        let Some(lock) = client.locks.get(&handle) else {
            return;
        };
        // One that is being released may still be told.
        if lock.phase != Phase::Releasing {
            let value = &value;
            let res = lock.res;
            self.fact(&Fact::ValueTold { who, res, value });
        }
        self.tell(slot, Happened::ValueChanged(handle, value));
    }
}
