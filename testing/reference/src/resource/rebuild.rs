//! What becomes of a resource when its master is gone or steps back, as the plain model has it.

use super::{Key, Lock, Out, Reference, excludes_writers};
use mainstay_base::Value;
use mainstay_lock::Restated;

impl Reference {
    /// What the surviving owners say: bit n of `lost` is set if the owner of lock n is gone too, and of
    /// `forgotten` if it has not heard of its ticket.
    pub fn restatements(&self, lost: u8, forgotten: u8) -> Vec<(Key, Restated)> {
        let all = self
            .granted
            .iter()
            .chain(&self.converting)
            .chain(&self.waiting);
        all.filter(|l| lost >> l.key & 1 == 0)
            .map(|l| {
                let knows_ticket = l.asked.is_some() && forgotten >> l.key & 1 == 0;
                let restated = Restated {
                    granted: l.granted,
                    pending: l.asked,
                    ticket: knows_ticket.then_some(l.ticket),
                    wants_bast: if l.asked.is_some() {
                        l.asked_bast
                    } else {
                        l.bast
                    },
                    valblk: l.fresh,
                    value: l.copy.clone(),
                    publish: None,
                    unsure: false,
                    watches: l.watches,
                };
                (l.key, restated)
            })
            .collect()
    }

    /// Another master has put it together from what they said.
    pub fn rebuild(&mut self, died: bool, lost: u8, forgotten: u8, out: Out<'_>) {
        (self.passed, self.wrote) = (0, false);
        for queue in [&mut self.granted, &mut self.converting, &mut self.waiting] {
            queue.iter_mut().for_each(|l| l.patient = false);
            queue.retain(|l| lost >> l.key & 1 == 0);
        }
        if died {
            self.value = self.surviving_value();
        }
        let forgot = |l: &Lock| forgotten >> l.key & 1 == 1;
        let mut conversions: Vec<Lock> = self
            .converting
            .iter()
            .filter(|l| forgot(l))
            .cloned()
            .collect();
        let mut requests: Vec<Lock> = self.waiting.iter().filter(|l| forgot(l)).cloned().collect();
        self.converting.retain(|l| !forgot(l));
        self.waiting.retain(|l| !forgot(l));
        for lock in &conversions {
            let mut idle = lock.clone();
            idle.asked = None;
            // An owner states one wish for notices: its latest.
            idle.bast = idle.asked_bast;
            self.granted.push(idle);
        }
        self.granted.sort_by_key(|l| l.key);
        for lock in self.granted.iter_mut().chain(&mut self.converting) {
            lock.told = None;
            if lock.asked.is_some() {
                lock.bast = lock.asked_bast;
            }
        }
        self.next_ticket = self
            .converting
            .iter()
            .chain(&self.waiting)
            .map(|l| l.ticket.0 + 1)
            .max()
            .unwrap_or(1)
            .max(1);
        self.sweep(out);
        conversions.sort_by_key(|l| l.key);
        requests.sort_by_key(|l| l.key);
        for mut lock in conversions {
            // Told, perhaps, since it was put back among the granted.
            let put_back = self.granted.iter().find(|l| l.key == lock.key).unwrap();
            lock.told = put_back.told;
            lock.bast = put_back.bast;
            self.arrive(lock, out);
        }
        for lock in requests {
            self.arrive(lock, out);
        }
    }

    /// Of the copies of survivors the newest; exact if one that excludes writers has it.
    fn surviving_value(&self) -> Value {
        let mut best = Reference::new(self.rules).value;
        let locks = || {
            self.granted
                .iter()
                .chain(&self.converting)
                .chain(&self.waiting)
        };
        for copy in locks().filter_map(|l| l.copy.clone()) {
            if copy.version > best.version {
                best = copy;
            }
        }
        let same =
            || locks().filter(|l| l.copy.as_ref().is_some_and(|c| c.version == best.version));
        let marked = same().any(|l| l.copy.as_ref().unwrap().maybe_stale);
        let vouched = same().any(|l| {
            let now = l.granted.map(|g| g.0);
            let then = l.asked.map(|a| a.0).or(now);
            l.fresh && [now, then].iter().all(|m| m.is_some_and(excludes_writers))
        });
        best.maybe_stale = marked || !vouched;
        best
    }
}
